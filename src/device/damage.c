/*
 * damage: what this opening found missing or not authentic, once for each object; and the sticky
 * failures of devices.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <stdio.h>

static const char *kind_name(enum sz_kind kind)
{
	switch (kind) {
	case SZ_KIND_BAND:
		return "band";
	case SZ_KIND_DELTA:
		return "delta";
	case SZ_KIND_INDEX:
		return "index page";
	case SZ_KIND_HOT:
		return "hot image";
	case SZ_KIND_ROOT:
		return "root";
	case SZ_KIND_LOG:
		return "log";
	case SZ_KIND_LOCK:
		return "lock record";
	case SZ_KIND_KEY:
		return "key object";
	case SZ_KIND_PLACES:
		return "places";
	case SZ_KIND_KEEP:
		return "keep note";
	case SZ_KIND_SPARE:
		return "spare file";
	}
	return "object";
}

/* The entry of an object, made if there is room. Under damage_lock. */
static struct sz_damage *damage_entry(struct sz_store *store, const char *object)
{
	struct sz_damage *grown;

	for (size_t i = 0; i < store->damage_count; i++)
		if (strcmp(store->damages[i].object, object) == 0)
			return &store->damages[i];
	if (store->damage_count == DAMAGES_MAX)
		return NULL;
	grown = realloc(store->damages, (store->damage_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	store->damages = grown;
	grown += store->damage_count++;
	*grown = (struct sz_damage){ 0 };
	(void)snprintf(grown->object, sizeof(grown->object), "%s", object);
	return grown;
}

void sz_damage_note(struct sz_store *store, uint32_t device, const struct sz_id *id,
		    uint64_t sectors, const char *text)
{
	MUTEX_SCOPE(&store->damage_lock);
	char object[sizeof(((struct sz_damage *)NULL)->object)];
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_damage *damage;
	enum sz_kind kind;
	uint32_t its_device;
	uint64_t generation;

	if (sz_id_parse(id, &kind, &its_device, &generation) != 0)
		return;
	sz_name_encode(store->keys, id, name);
	(void)snprintf(object, sizeof(object), "%s of generation %llu, %s", kind_name(kind),
		       (unsigned long long)generation, name);
	damage = damage_entry(store, object);
	if (damage == NULL)
		return;
	damage->device = device != NO_DEVICE           ? device
			 : its_device == SZ_STORE_WIDE ? SZ_DAMAGE_NO_DEVICE
						       : its_device;
	damage->sectors += sectors;
	if (text != NULL || damage->text[0] == '\0')
		(void)snprintf(damage->text, sizeof(damage->text), "%s",
			       text != NULL ? text : "missing");
}

void sz_damage_drop(struct sz_store *store, const struct sz_id *id)
{
	MUTEX_SCOPE(&store->damage_lock);
	char name[SZ_OBJECT_NAME_BYTES];
	size_t kept = 0;

	sz_name_encode(store->keys, id, name);
	for (size_t i = 0; i < store->damage_count; i++)
		if (strstr(store->damages[i].object, name) == NULL)
			store->damages[kept++] = store->damages[i];
	store->damage_count = kept;
}

int sz_store_damage_each(struct sz_store *store, sz_damage_fn *function, void *context)
{
	CLEANUP_FREE struct sz_damage *copy = NULL;
	size_t count;
	int result = 0;

	{
		MUTEX_SCOPE(&store->damage_lock);

		count = store->damage_count;
		copy = calloc(count + 1, sizeof(*copy));
		if (copy == NULL)
			return -ENOMEM;
		if (count > 0)
			memcpy(copy, store->damages, count * sizeof(*copy));
	}
	for (size_t i = 0; i < count && result == 0; i++)
		result = function(context, &copy[i]);
	return result;
}

void sz_store_damage_forget(struct sz_store *store)
{
	MUTEX_SCOPE(&store->damage_lock);

	store->damage_count = 0;
}

int sz_device_fail(struct sz_device *device, int error)
{
	int none = 0;

	(void)atomic_compare_exchange_strong(&device->failure, &none, error);
	return -EIO;
}

int sz_device_check(const struct sz_device *device)
{
	if (device->folder == NO_DEVICE)
		return -ENXIO;
	return atomic_load(&device->failure) != 0 ? -EIO : 0;
}
