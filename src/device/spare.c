/*
 * spare: space that a store keeps for the day when its disk is full.
 *
 * Other programs may take all that a disk has, the reserve too. To remove a file then, and to seal, something has to be
 * written first. So each device keeps files in live/ that hold nothing, and that it gives up when it meets a full
 * disk and no history may go:
 *
 *   part            given up for                                          enough for
 *   SPARE_WRITES    what writes before a seal                             what opening, removing, closing log
 *   SPARE_SEALS     seals, when the other is gone                         the delta of that, index pages, hot image, root
 *
 * They are made with the store, and again by an opening or after a seal where there is room. Their bytes are random,
 * so that a disk that compresses has no less for them, and they look like any other object. Nothing refers to them,
 * and whatever is wrong with them is no error: one that is missing or too short is made anew.
 */
#include "device/device_internal.h"

#include <errno.h>

static uint64_t part_bytes(const struct sz_device *device)
{
	uint64_t share = device->sectors / SPARE_SHARE * SECTOR;

	return share < SPARE_BYTES ? share : SPARE_BYTES;
}

struct spare_file {
	struct sz_id id;
	uint32_t device;
	uint32_t part;
	bool is_good; /* long enough */
};

/* Only the one in the device's own folder: a folder beside it that has another may be another store's. */
static bool file_look(struct sz_store *store, const struct sz_id *id, struct spare_file *file)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);
	const struct location *at = locations;
	const struct sz_device *device;
	enum sz_kind kind;
	uint64_t part;

	if (sz_id_parse(id, &kind, &file->device, &part) != 0 || part >= SPARE_PARTS ||
	    file->device >= store->device_count)
		return false;
	device = &store->devices[file->device];
	while (at != NULL && (at->folder != device->folder || at->part != SZ_LIVE))
		at = at->next;
	if (at == NULL)
		return false;
	file->id = *id;
	file->part = (uint32_t)part;
	file->is_good = at->size_bytes >= part_bytes(device);
	return true;
}

static int files_find(struct sz_store *store, struct spare_file **files_out, size_t *count_out)
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	struct spare_file *files;
	size_t count;
	int result = sz_catalog_ids(store, SZ_KIND_SPARE, &ids, &count);

	if (result != 0)
		return result;
	files = calloc(count + 1, sizeof(*files));
	if (files == NULL)
		return -ENOMEM;
	*count_out = 0;
	for (size_t i = 0; i < count; i++)
		*count_out += file_look(store, &ids[i], &files[*count_out]) ? 1 : 0;
	*files_out = files;
	return 0;
}

/* False: it is still there. */
static bool file_remove(struct sz_store *store, const struct spare_file *file)
{
	uint32_t folder = store->devices[file->device].folder;
	char name[SZ_OBJECT_NAME_BYTES];
	int result;

	sz_name_encode(store->keys, &file->id, name);
	result = sz_backend_remove(store->folders[folder].backend, SZ_LIVE, name);
	if (result != 0 && result != -ENOENT)
		return false;
	sz_catalog_drop(store, &file->id, folder, SZ_LIVE);
	return true;
}

/*
 * Whose disks have less than their reserve. A seal may need more than a disk has left, and a quota is not in the figures:
 * where they name no disk, it may be any.
 */
static void short_find(const struct sz_store *store, bool is_short[SZ_DEVICES_MAX])
{
	bool found = false;

	for (uint32_t i = 0; i < store->device_count; i++) {
		const struct sz_device *device = &store->devices[i];

		is_short[i] = device->folder != NO_DEVICE && sz_device_room(device, false) == 0;
		found = found || is_short[i];
	}
	for (uint32_t i = 0; i < store->device_count && !found; i++)
		is_short[i] = true;
}

int sz_spare_give(struct sz_store *store, enum spare_part last)
{
	CLEANUP_FREE struct spare_file *files = NULL;
	bool is_short[SZ_DEVICES_MAX];
	size_t count = 0;
	bool found = false;

	if (!writes_folders(store) || sz_lock_verify(store) != 0 ||
	    files_find(store, &files, &count) != 0)
		return -ENOSPC;
	short_find(store, is_short);
	for (size_t i = 0; i < count; i++)
		if (files[i].part <= (uint32_t)last && is_short[files[i].device] &&
		    file_remove(store, &files[i]))
			found = true;
	if (!found)
		return -ENOSPC;
	store->lacks_spare = true;
	for (uint32_t i = 0; i < store->folder_count; i++) /* some hosts give it back only then */
		(void)!sz_backend_sync_folder(store->folders[i].backend, SZ_LIVE);
	return 0;
}

static int file_fill(struct sz_file *file, uint64_t size_bytes)
{
	CLEANUP_FREE uint8_t *bytes = malloc(size_bytes);
	int result;

	if (bytes == NULL)
		return -ENOMEM;
	sz_random_padding(bytes, size_bytes);
	result = sz_file_write(file, bytes, size_bytes, 0);
	return result == 0 ? sz_file_sync(file) : result;
}

static int file_make(struct sz_device *device, uint32_t part)
{
	struct sz_store *store = device->store;
	struct sz_backend *backend = store->folders[device->folder].backend;
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_id id;
	uint64_t random;
	int result;

	sz_random(&random, sizeof(random));
	sz_id_make(SZ_KIND_SPARE, device->index, part, random, &id);
	sz_name_encode(store->keys, &id, name);
	result = sz_backend_create(backend, SZ_LIVE, name, &file);
	if (result != 0)
		return result;
	result = file_fill(file, part_bytes(device));
	if (result == 0)
		result = sz_backend_sync_folder(backend, SZ_LIVE);
	if (result == 0)
		result = sz_catalog_add(store, &id, device->folder, SZ_LIVE, part_bytes(device));
	if (result != 0)
		(void)!sz_backend_remove(backend, SZ_LIVE, name);
	return result;
}

/* A disk is not filled for it: something will be written before it is needed. */
static bool has_room(const struct sz_device *device)
{
	struct sz_space space;

	return sz_backend_space(device->store->folders[device->folder].backend, &space) == 0 &&
	       space.free_bytes > 2 * part_bytes(device);
}

/* is_there: as it was found, for all parts. What fails for lack of space is not tried with others. */
static void files_make(struct sz_store *store, bool is_there[SPARE_PARTS][SZ_DEVICES_MAX])
{
	/* Nothing is to be written that cannot be sealed: so those for seals come first. */
	for (uint32_t part = SPARE_PARTS; part-- > 0;) {
		for (uint32_t i = 0; i < store->device_count; i++) {
			struct sz_device *device = &store->devices[i];
			int result;

			if (is_there[part][i] || sz_device_check(device) != 0)
				continue;
			result = has_room(device) ? file_make(device, part) : -EAGAIN;
			if (result != 0)
				store->lacks_spare = true;
			if (is_full(result))
				return;
		}
	}
}

void sz_spare_make(struct sz_store *store)
{
	CLEANUP_FREE struct spare_file *files = NULL;
	bool found[SPARE_PARTS][SZ_DEVICES_MAX] = { { false } };
	size_t count = 0;

	if (!writes_folders(store) || sz_lock_verify(store) != 0 ||
	    files_find(store, &files, &count) != 0)
		return;
	store->lacks_spare = false;
	for (size_t i = 0; i < count; i++) {
		if (!files[i].is_good || found[files[i].part][files[i].device])
			(void)file_remove(store, &files[i]);
		else
			found[files[i].part][files[i].device] = true;
	}
	files_make(store, found);
}
