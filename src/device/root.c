/*
 * root: a generation exists wholly or not at all: its root is written last, to each device's folder in
 * turn. The first that is durable commits; copies that are missing are completed at the next opening.
 */
#include "device/device_internal.h"

#include <errno.h>

static uint64_t id_generation(const struct sz_id *id)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	return sz_id_parse(id, &kind, &device, &generation) == 0 ? generation : 0;
}

int sz_root_read(struct sz_store *store, const struct sz_id *id, struct sz_root *root_out,
		 uint8_t digest_out[SZ_DIGEST_BYTES])
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	int result;

	if (header == NULL)
		return -ENOMEM;
	result = sz_blob_read_id(store, id, header, &payload, digest_out);
	if (result == 0)
		result = sz_root_decode(payload.data, payload.length, &root);
	if (result != 0)
		return result;
	if (root.generation != id_generation(id) ||
	    memcmp(root.store_id, store->keys->store_id, sizeof(root.store_id)) != 0)
		return -EUCLEAN;
	*root_out = root;
	root = (struct sz_root){ 0 };
	return 0;
}

int sz_root_copy(const struct sz_root *from, struct sz_root *to_out)
{
	CLEANUP_FREE struct sz_root_device *devices =
		calloc((size_t)from->device_count + 1, sizeof(*devices));
	CLEANUP_FREE struct sz_ancestor *ancestors =
		calloc((size_t)from->ancestor_count + 1, sizeof(*ancestors));

	if (devices == NULL || ancestors == NULL)
		return -ENOMEM;
	if (from->device_count > 0)
		memcpy(devices, from->devices, from->device_count * sizeof(*devices));
	if (from->ancestor_count > 0)
		memcpy(ancestors, from->ancestors, from->ancestor_count * sizeof(*ancestors));
	*to_out = *from;
	to_out->devices = TAKE(devices);
	to_out->ancestors = TAKE(ancestors);
	return 0;
}

static bool has_root_here(const struct history *history, const uint8_t lineage[16])
{
	for (size_t i = 0; i < history->count; i++)
		if (memcmp(history->at[i]->root.lineage, lineage, 16) == 0)
			return true;
	return false;
}

/*
 * One has to go: the oldest of which no root is here, so that those that are kept can be told for
 * ancestors. If all are kept, one in the middle: the newest are in no other list yet, the oldest in none any more.
 */
static void ancestor_drop(const struct history *history, struct sz_root *root)
{
	uint32_t gone = root->ancestor_count / 2;

	for (uint32_t i = root->ancestor_count; i > 1; i--) {
		if (has_root_here(history, root->ancestors[i - 1].lineage))
			continue;
		gone = i - 1;
		break;
	}
	root->ancestor_count--;
	memmove(root->ancestors + gone, root->ancestors + gone + 1,
		(root->ancestor_count - gone) * sizeof(*root->ancestors));
}

static int ancestors_next(const struct sz_store *store, struct sz_root *root)
{
	const struct sz_root *old = &store->root;
	uint32_t is_new = old->generation != 0 &&
			  memcmp(old->lineage, store->lineage, sizeof(old->lineage)) != 0;

	root->ancestors = calloc((size_t)old->ancestor_count + 2, sizeof(*root->ancestors));
	if (root->ancestors == NULL)
		return -ENOMEM;
	if (is_new != 0) {
		memcpy(root->ancestors[0].lineage, old->lineage, sizeof(old->lineage));
		root->ancestors[0].generation = old->generation;
		memcpy(root->ancestors[0].digest, store->root_digest, SZ_DIGEST_BYTES);
	}
	if (old->ancestor_count > 0)
		memcpy(root->ancestors + is_new, old->ancestors,
		       old->ancestor_count * sizeof(*old->ancestors));
	root->ancestor_count = old->ancestor_count + is_new;
	if (root->ancestor_count > SZ_ANCESTRY_MAX)
		ancestor_drop(&store->history, root);
	return 0;
}

int sz_root_next(struct sz_store *store, uint64_t generation, struct sz_root *root_out)
{
	CLEANUP(sz_root_free)
	struct sz_root root = {
		.format_version = SZ_FORMAT_VERSION,
		.generation = generation,
		.store_time_ns = sz_time_now(store),
		.wall_time_ns = sz_wall_ns(),
		.next_sequence = atomic_load(&store->sequence),
		.band_sectors = store->band_sectors,
		.parity = (uint8_t)store->parity,
		.flags = store->root.flags,
		.key_version = store->key->version,
		.device_count = store->device_count,
		.devices = calloc(store->device_count, sizeof(*root.devices)),
	};

	if (root.devices == NULL)
		return -ENOMEM;
	memcpy(root.store_id, store->keys->store_id, sizeof(root.store_id));
	memcpy(root.lineage, store->lineage, sizeof(root.lineage));
	memcpy(root.parent, store->root_digest, sizeof(root.parent));
	memcpy(root.key_digest, store->key->digest, sizeof(root.key_digest));
	if (ancestors_next(store, &root) != 0)
		return -ENOMEM;
	*root_out = root;
	root = (struct sz_root){ 0 };
	return 0;
}

/* Writes a sealed file that others have too, or will have: the same bytes under the same name. */
static int copy_write(struct sz_store *store, uint32_t folder, const struct sz_id *id,
		      const uint8_t *data, size_t length)
{
	struct batch batch = { .store = store };
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_file *file;
	int result;

	sz_name_encode(store->keys, id, name);
	/* One that an earlier opening left half-written in live/. */
	if (sz_backend_remove(store->folders[folder].backend, SZ_LIVE, name) == 0)
		sz_catalog_drop(store, id, folder, SZ_LIVE);
	result = sz_batch_create(&batch, folder, id, &file);
	if (result == 0)
		result = sz_file_write(file, data, length, 0);
	if (result == 0)
		result = sz_batch_commit(&batch);
	if (result != 0)
		sz_batch_abandon(&batch);
	return result;
}

static bool folder_has(struct sz_store *store, uint32_t folder, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->folder == folder && at->part == SZ_SEALED)
			return true;
	return false;
}

/*
 * A copy could not be written. Is it certain that it is not there, also after a crash? Else no other root of its number
 * may be written: the next opening finds out which there is.
 */
static bool copy_may_stay(struct sz_store *store, uint32_t folder, const struct sz_id *id)
{
	return folder_has(store, folder, id) ||
	       sz_backend_sync_folder(store->folders[folder].backend, SZ_LIVE) != 0;
}

int sz_root_write(struct sz_store *store, struct sz_root *root)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes file = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	CLEANUP(sz_generation_free) struct generation *generation = sz_generation_make(root);
	uint32_t copies = 0;
	int result = sz_root_encode(root, &payload);

	if (header == NULL || generation == NULL || sz_history_room(&store->history) != 0)
		return -ENOMEM;
	sz_header_init(store, NULL, SZ_KIND_ROOT, root->generation, header);
	if (result == 0)
		result = sz_blob_encode(store->keys, header, payload.data, payload.length, &file,
					digest);
	if (result != 0)
		return result;
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		int status;

		if (sz_device_check(device) != 0)
			continue;
		status = copy_write(store, device->folder, &header->id, file.data, file.length);
		if (status == 0)
			copies++;
		else if ((!is_full(status) && status != -ENOMEM) ||
			 copy_may_stay(store, device->folder, &header->id))
			(void)sz_device_fail(device, status);
		if (status != 0)
			result = status;
	}
	if (copies == 0)
		return result != 0 ? result : -EIO;
	store->is_root_everywhere = result == 0;
	store->root_copies = copies;
	generation->id = header->id;
	memcpy(generation->digest, digest, sizeof(digest));
	sz_history_add(&store->history, TAKE(generation));
	{
		MUTEX_SCOPE(&store->begin_lock);

		sz_root_free(&store->root);
		store->root = *root;
		*root = (struct sz_root){ 0 };
		store->root_id = header->id;
		memcpy(store->root_digest, digest, sizeof(digest));
	}
	if (!store->is_volatile)
		sz_seen_update(store);
	return 0;
}

static int root_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	const struct sz_store *store = context;
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	if (result != 0)
		return result;
	sz_header_digest(page, digest);
	return done == sizeof(page) && size_bytes <= ROOT_FILE_MAX &&
			       sz_equal(digest, store->root_digest, sizeof(digest))
		       ? 0
		       : -EBADMSG;
}

/* What cannot be completed now is completed another time: nothing depends on it. */
bool sz_root_is_safe(const struct sz_store *store)
{
	return store->is_root_everywhere || store->root_copies > store->parity;
}

void sz_root_complete(struct sz_store *store)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	uint8_t bytes[ROOT_FILE_MAX];
	const char *text;
	size_t length = 0;

	if (sz_object_open_any(store, &store->root_id, root_check, store, &file, &text) != 0 ||
	    sz_read_retried(file, bytes, sizeof(bytes), 0, &length) != 0)
		return;
	store->is_root_everywhere = true;
	store->lacks_key = false;
	for (uint32_t i = 0; i < store->device_count; i++) {
		const struct sz_device *device = &store->devices[i];
		struct sz_id key_id;

		if (device->folder == NO_DEVICE)
			continue;
		if (!folder_has(store, device->folder, &store->root_id) &&
		    (sz_device_check(device) != 0 ||
		     copy_write(store, device->folder, &store->root_id, bytes, length) != 0))
			store->is_root_everywhere = false;
		if (sz_device_check(device) != 0)
			continue;
		sz_id_make(SZ_KIND_KEY, SZ_STORE_WIDE, store->key->version,
			   sz_get_le64(store->key->digest), &key_id);
		if (!folder_has(store, device->folder, &key_id) &&
		    copy_write(store, device->folder, &key_id, store->key->page,
			       SZ_KEY_OBJECT_BYTES) != 0)
			store->lacks_key = true;
	}
}

static bool is_there(struct sz_store *store, const struct location *location)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;

	return sz_backend_open(store->folders[location->folder].backend, location->part,
			       location->name, &file) == 0;
}

/* Holds a copy; it may have been removed just before. */
static int copy_hold(struct sz_store *store, const struct location *location)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	int result = sz_backend_open(store->folders[location->folder].backend, location->part,
				     location->name, &file);

	if (result == 0)
		result = sz_file_hold(file);
	if (result == 0 && !is_there(store, location))
		result = -ENOENT;
	if (result == 0)
		store->held[store->held_count++] = TAKE(file);
	return result;
}

int sz_root_hold(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(sz_locations_free)
	struct location *locations = sz_catalog_find(store, &store->root_id);
	int result = -ENOENT;

	for (const struct location *at = locations;
	     at != NULL && store->held_count < ARRAY_LENGTH(store->held); at = at->next) {
		int status = copy_hold(store, at);

		if (status != 0 && status != -ENOENT)
			result = status;
	}
	if (store->held_count > 0)
		return 0;
	if (result == -ENOENT)
		return sz_fail(error, result, "the generation has just been removed");
	/* Where files cannot be held, nobody may write meanwhile. */
	result = sz_lock_take(store, error);
	return result != 0 || store->path == NULL ? result : sz_folders_lock(store, error);
}
