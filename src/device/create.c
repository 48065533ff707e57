/*
 * create: a new store is generation 1, sealed like any other; a lost device's new folder; another
 * passphrase.
 */
#include "device/device_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t band_sectors_default(const struct sz_store_create *options)
{
	uint64_t bytes = options->device_sectors * SECTOR * options->device_count;

	if (bytes <= SMALL_STORE_BYTES)
		return BAND_SECTORS_SMALL;
	return bytes <= LARGE_STORE_BYTES ? BAND_SECTORS_MEDIUM : BAND_SECTORS_LARGE;
}

static int options_check(const struct sz_store_create *options,
			 const struct sz_passphrase *passphrase, struct sz_error *error)
{
	uint32_t band = options->band_sectors;

	if (options->device_count < 1 || options->device_count > SZ_DEVICES_MAX)
		return sz_fail(error, -EINVAL, "a store has 1 to %d devices", SZ_DEVICES_MAX);
	if (options->device_sectors < DEVICE_SECTORS_MIN || options->device_sectors % 64 != 0)
		return sz_fail(error, -EINVAL,
			       "a device has at least %u sectors of 4 KiB, a multiple of 64",
			       DEVICE_SECTORS_MIN);
	if (options->device_sectors > 1ULL << 48)
		return sz_fail(error, -EINVAL, "a device has at most 2^48 sectors");
	if (band != 0 &&
	    (band < BAND_SECTORS_MIN || band > BAND_SECTORS_MAX || (band & (band - 1)) != 0))
		return sz_fail(error, -EINVAL, "a band has 1 to 64 MiB, a power of two");
	if (passphrase == NULL || passphrase->length < 1 ||
	    passphrase->length > SZ_PASSPHRASE_MAX_BYTES)
		return sz_fail(error, -EINVAL, "a passphrase has 1 to %d bytes",
			       SZ_PASSPHRASE_MAX_BYTES);
	return 0;
}

static int store_init(struct sz_store *store, const struct sz_store_create *options,
		      const struct sz_passphrase *passphrase, struct sz_error *error)
{
	const struct sz_unlock unlock = {
		.type = SZ_SLOT_PASSPHRASE,
		.passphrase = passphrase->bytes,
		.passphrase_length = passphrase->length,
	};
	int result = sz_key_object_create(&unlock, options->kdf, "passphrase", store->key);

	if (result != 0)
		return sz_fail(error, result, "making the key object: %s", strerror(-result));
	result = sz_devices_make(store, options->device_count);
	store->parity = options->parity;
	store->band_sectors =
		options->band_sectors != 0 ? options->band_sectors : band_sectors_default(options);
	store->epoch = 1;
	store->lacks_spare = true;
	atomic_store(&store->sequence, 1);
	sz_time_start(store);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];

		sz_random(device->id, sizeof(device->id));
		device->sectors = options->device_sectors;
		result = sz_device_init_maps(device);
		if (result == 0 && sz_hot_layer(device->live) == NULL)
			result = -ENOMEM; /* an empty image says whose folder it is */
	}
	return result == 0 ? 0 : sz_fail(error, result, "no memory");
}

/* The folders are the store's, in the order of its devices. */
static int store_write(struct sz_store *store, uint32_t first_folder, struct sz_error *error)
{
	int result = 0;

	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		store->folders[first_folder + i].device = i;
		store->devices[i].folder = first_folder + i;
	}
	for (uint32_t i = 0; i < store->folder_count && result == 0; i++)
		result = sz_key_object_write(store, store->folders[i].backend);
	if (result != 0)
		return sz_fail(error, result, "writing the key object: %s", strerror(-result));
	return sz_seal_run(store, SEAL_ALWAYS, error);
}

int sz_store_create_on(const struct sz_store_create *options, struct sz_backend *const *backends,
		       const struct sz_passphrase *passphrase, struct sz_error *error)
{
	struct sz_store *store = sz_store_make();
	int result = store == NULL ? sz_fail(error, -ENOMEM, "no memory")
				   : options_check(options, passphrase, error);

	for (uint32_t i = 0; i < options->device_count; i++) {
		if (store == NULL || sz_folder_add(store, backends[i]) != 0) {
			sz_backend_close(backends[i]);
			if (result == 0)
				result = sz_fail(error, -EMFILE, "too many folders");
		}
	}
	if (result == 0)
		result = store_init(store, options, passphrase, error);
	if (result == 0)
		result = store_write(store, 0, error);
	sz_store_free(store);
	return result;
}

static bool folder_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool is_empty = true;

	if (dir == NULL)
		return false;
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			is_empty = false;
	(void)closedir(dir);
	return is_empty;
}

/* Folders that creation may use: made, or found empty. Undone if it fails. */
struct made {
	char *paths[SZ_DEVICES_MAX + 1];
	bool was_made[SZ_DEVICES_MAX + 1];
	uint32_t count;
	bool keep;
};

static int folder_make(struct made *made, const char *path, struct sz_error *error)
{
	bool was_made = mkdir(path, 0700) == 0;
	char *copy;

	if (!was_made && errno == ENOENT)
		return sz_fail(error, -ENOENT, "%s: the folder above it does not exist", path);
	if (!was_made && errno != EEXIST)
		return sz_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (!was_made && !folder_is_empty(path))
		return sz_fail(error, -EEXIST,
			       "%s exists and is not an empty folder: name another one", path);
	copy = strdup(path);
	if (copy == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	made->paths[made->count] = copy;
	made->was_made[made->count++] = was_made;
	return 0;
}

static int remove_file(void *context, const char *name, uint64_t size_bytes)
{
	CLEANUP_FREE char *path = NULL;

	(void)size_bytes;
	if (asprintf(&path, "%s/%s", (const char *)context, name) >= 0)
		(void)unlink(path);
	return 0;
}

/* Creation failed: only what it made itself was in these folders. */
static void made_undo(struct made *made)
{
	for (uint32_t i = made->count; i > 0 && !made->keep; i--) {
		const char *path = made->paths[i - 1];
		struct sz_backend *backend;
		CLEANUP_FREE char *live = NULL;

		if (asprintf(&live, "%s/%s", path, SZ_LIVE_FOLDER) < 0)
			live = NULL;
		if (sz_folder_open(path, false, &backend) == 0) {
			if (live != NULL)
				(void)!sz_backend_list(backend, SZ_LIVE, remove_file, live);
			(void)!sz_backend_list(backend, SZ_SEALED, remove_file, made->paths[i - 1]);
			sz_backend_close(backend);
		}
		if (live != NULL)
			(void)rmdir(live);
		if (made->was_made[i - 1])
			(void)rmdir(path);
	}
	for (uint32_t i = 0; i < made->count; i++)
		free(made->paths[i]);
	made->count = 0;
}

/* A subfolder with a random name; the caller frees it. */
static char *subfolder_name(const char *path)
{
	uint8_t random[8];
	char hex[2 * sizeof(random) + 1];
	char *name;

	sz_random(random, sizeof(random));
	sz_hex_encode(random, sizeof(random), hex);
	return asprintf(&name, "%s/%s", path, hex) < 0 ? NULL : name;
}

static int folder_use(struct sz_store *store, const char *path, struct sz_error *error)
{
	struct sz_backend *backend;
	int result = sz_folder_open(path, false, &backend);

	if (result == 0) {
		result = sz_folder_add(store, backend);
		if (result != 0)
			sz_backend_close(backend);
	}
	if (result == 0)
		result = sz_backend_lock(backend, true);
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

static int folders_make(struct sz_store *store, const struct sz_store_create *options,
			struct made *made, struct sz_error *error)
{
	int result = folder_make(made, options->path, error);

	if (result == 0)
		result = folder_use(store, options->path, error);
	for (uint32_t i = 0; i < options->device_count && result == 0; i++) {
		CLEANUP_FREE char *name = options->folders != NULL ? strdup(options->folders[i])
								   : subfolder_name(options->path);

		if (name == NULL)
			return sz_fail(error, -ENOMEM, "no memory");
		result = folder_make(made, name, error);
		if (result == 0)
			result = folder_use(store, name, error);
	}
	return result;
}

static void folders_sync(const struct made *made)
{
	for (uint32_t i = 0; i < made->count; i++) {
		CLEANUP_FREE char *above = NULL;
		struct sz_backend *backend;

		if (asprintf(&above, "%s/..", made->paths[i]) < 0 ||
		    sz_folder_open(above, false, &backend) != 0)
			continue;
		(void)!sz_backend_sync_folder(backend, SZ_SEALED);
		sz_backend_close(backend);
	}
}

int sz_store_create(const struct sz_store_create *options, const struct sz_passphrase *passphrase,
		    struct sz_error *error)
{
	CLEANUP(made_undo) struct made made = { 0 };
	struct sz_store *store;
	int result = options_check(options, passphrase, error);

	if (result != 0)
		return result;
	store = sz_store_make();
	if (store == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	store->path = strdup(options->path);
	result = store->path == NULL ? sz_fail(error, -ENOMEM, "no memory")
				     : folders_make(store, options, &made, error);
	if (result == 0)
		result = store_init(store, options, passphrase, error);
	if (result == 0 && options->folders != NULL)
		result = sz_folders_write_places(store, store->folders[0].backend, options->folders,
						 options->device_count, error);
	if (result == 0)
		result = store_write(store, 1, error);
	/* The lock record says from the start that this is no copy: only so the note of places counts. */
	if (result == 0)
		result = sz_lock_take(store, error);
	if (result == 0)
		result = sz_lock_announce(store, error);
	if (result == 0)
		folders_sync(&made);
	made.keep = result == 0;
	sz_store_free(store);
	return result;
}

/* Under seal_lock. */
static int device_replace(struct sz_store *store, struct sz_device *device, uint32_t folder)
{
	MUTEX_SCOPE(&store->begin_lock);
	MUTEX_SCOPE(&device->flush_lock);
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);
	uint64_t number = device->live->number;
	int result;

	sz_device_reset_maps(device);
	result = sz_device_init_maps(device);
	if (result == 0 && sz_hot_layer(device->live) == NULL)
		result = -ENOMEM;
	if (result != 0)
		return result;
	device->live->number = number;
	device->manifest_ref = (struct sz_ref){ 0 };
	device->stale_since = 0;
	sz_random(device->id, sizeof(device->id));
	device->folder = folder;
	store->folders[folder].device = device->index;
	store->lacks_spare = true;
	result = atomic_load(&store->has_begun) ? sz_log_begin(device, device->live) : 0;
	if (result != 0) { /* missing, as it was */
		device->folder = NO_DEVICE;
		store->folders[folder].device = NO_DEVICE;
	}
	return result;
}

int sz_store_replace_device(struct sz_store *store, uint32_t index, const char *folder,
			    struct sz_error *error)
{
	CLEANUP(made_undo) struct made made = { 0 };
	CLEANUP_FREE char *path = NULL;
	struct sz_device *device = &store->devices[index];
	int result;

	if (index >= store->device_count || device->folder != NO_DEVICE)
		return sz_fail(error, -EINVAL, "device %u is not missing", index);
	if (!writes_folders(store) || store->path == NULL)
		return sz_fail(error, -EROFS, "the store is open for reading only");
	result = sz_seal_run(store, SEAL_CHANGES, error); /* the epoch before has no place for it */
	if (result != 0)
		return result;
	path = folder != NULL ? strdup(folder) : subfolder_name(store->path);
	result = path == NULL ? sz_fail(error, -ENOMEM, "no memory")
			      : folder_make(&made, path, error);
	if (result == 0)
		result = folder_use(store, path, error);
	if (result != 0)
		return result;
	result = sz_key_object_write(store, store->folders[store->folder_count - 1].backend);
	if (result == 0) {
		MUTEX_SCOPE(&store->seal_lock);

		result = store->is_sealing ? -EAGAIN
					   : device_replace(store, device, store->folder_count - 1);
	}
	if (result != 0)
		return sz_fail(error, result, "%s: %s", path, strerror(-result));
	made.keep = true;
	folders_sync(&made);
	result = folder == NULL ? 0 : sz_folders_update_places(store, error);
	return result != 0 ? result : sz_seal_run(store, SEAL_ALWAYS, error);
}

static int key_object_spread(struct sz_store *store)
{
	int result = 0;

	for (uint32_t i = 0; i < store->folder_count && result == 0; i++)
		if (store->folders[i].device != NO_DEVICE || (i == 0 && store->path != NULL))
			result = sz_key_object_write(store, store->folders[i].backend);
	return result;
}

int sz_store_change_passphrase(struct sz_store *store, const struct sz_passphrase *new_passphrase,
			       enum sz_kdf kdf, struct sz_error *error)
{
	const struct sz_unlock unlock = {
		.type = SZ_SLOT_PASSPHRASE,
		.passphrase = new_passphrase->bytes,
		.passphrase_length = new_passphrase->length,
	};
	int result;

	if (!writes_folders(store))
		return sz_fail(error, -EROFS, "the store is open for reading only");
	{
		MUTEX_SCOPE(&store->seal_lock);

		result = sz_key_object_set_slot(store->key, store->key->opened_slot, &unlock, kdf,
						"passphrase");
		if (result == 0)
			result = key_object_spread(store);
	}
	if (result != 0)
		return sz_fail(error, result, "writing the key object: %s", strerror(-result));
	result = sz_seal_run(store, SEAL_ALWAYS, error);
	if (result == 0)
		sz_key_objects_collect(store);
	return result;
}
