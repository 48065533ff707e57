/*
 * folders: which folders belong to a store, and which is which device's.
 *
 * All subfolders of the store's folder are looked at, whatever their names; folders elsewhere are
 * named by a PLACES note, or given. Whose a folder is, its objects say: those of its own device
 * stand in no other.
 */
#include "device/device_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* What an object that only its own device's folder has counts, beside one that neighbours have too. */
#define EXCLUSIVE_SCORE 1000U

int sz_folder_add(struct sz_store *store, struct sz_backend *backend)
{
	int result;

	if (store->folder_count == FOLDERS_MAX)
		return -EMFILE;
	if (store->is_volatile) {
		result = sz_volatile_open(backend, VOLATILE_BYTES_MAX, &backend);
		if (result != 0)
			return result;
	}
	store->folders[store->folder_count++] =
		(struct folder){ .backend = backend, .device = NO_DEVICE };
	return 0;
}

/* The store's folder that is at the path; NULL: none is. */
static struct folder *folder_at(struct sz_store *store, const struct stat *status)
{
	for (uint32_t i = 0; i < store->folder_count; i++) {
		struct stat other;

		if (stat(store->folders[i].backend->label, &other) == 0 &&
		    other.st_dev == status->st_dev && other.st_ino == status->st_ino)
			return &store->folders[i];
	}
	return NULL;
}

/* Adds a folder by path, unless it is there already. */
static int path_add(struct sz_store *store, const char *path)
{
	struct sz_backend *backend;
	struct stat status;
	int result;

	if (stat(path, &status) != 0)
		return -errno;
	if (folder_at(store, &status) != NULL)
		return 0;
	result = sz_folder_open(path, !writes_folders(store), &backend);
	if (result != 0)
		return result;
	result = sz_folder_add(store, backend);
	if (result != 0)
		sz_backend_close(backend);
	return result;
}

static void cleanup_dir(DIR **dir)
{
	if (*dir != NULL)
		(void)closedir(*dir);
}

/* The store's subfolders. Links are not followed. */
static int subfolders_add(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(cleanup_dir) DIR *dir = opendir(store->path);
	const struct dirent *entry;

	if (dir == NULL)
		return sz_fail(error, -errno, "%s: %s", store->path, strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		CLEANUP_FREE char *path = NULL;
		struct stat status;
		int result;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, SZ_LIVE_FOLDER) == 0)
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !S_ISDIR(status.st_mode))
			continue;
		if (asprintf(&path, "%s/%s", store->path, entry->d_name) < 0)
			return sz_fail(error, -ENOMEM, "no memory");
		result = path_add(store, path);
		if (result == -EMFILE)
			return sz_fail(error, result, "%s: more than %u folders are in it",
				       store->path, FOLDERS_MAX);
		if (result == -EACCES || result == -EPERM)
			return sz_fail(error, result, "%s: %s", path, strerror(-result));
		if (result != 0)
			sz_warn("%s: %s: going on without it", path, strerror(-result));
	}
	return 0;
}

/* One that is named with the opening. */
static int given_add(struct sz_store *store, const char *path, struct sz_error *error)
{
	struct folder *folder;
	struct stat status;
	int result;

	if (stat(path, &status) != 0)
		return sz_fail(error, -errno, "--device-dir %s: %s", path, strerror(errno));
	folder = folder_at(store, &status);
	if (folder == &store->folders[0])
		return sz_fail(error, -EINVAL,
			       "--device-dir %s: is the store's own folder; name the folder of a "
			       "device",
			       path);
	if (folder != NULL && folder->is_given)
		return sz_fail(error, -EINVAL, "--device-dir %s: is named twice", path);
	if (folder == NULL) {
		result = path_add(store, path);
		if (result != 0)
			return sz_fail(error, result, "--device-dir %s: %s", path,
				       strerror(-result));
		folder = &store->folders[store->folder_count - 1];
	}
	folder->is_given = true;
	return 0;
}

int sz_folders_find(struct sz_store *store, const struct sz_store_open *options,
		    struct sz_error *error)
{
	struct sz_backend *home;
	int result = sz_folder_open(options->path, !writes_folders(store), &home);

	if (result == 0)
		result = sz_folder_add(store, home); /* the first: no device's */
	if (result != 0)
		return sz_fail(error, result, "%s: %s", options->path, strerror(-result));
	result = subfolders_add(store, error);
	for (size_t i = 0; i < options->folder_count && result == 0; i++)
		result = given_add(store, options->folders[i], error);
	return result;
}

static bool any_is_given(const struct sz_store *store)
{
	for (uint32_t i = 0; i < store->folder_count; i++)
		if (store->folders[i].is_given)
			return true;
	return false;
}

static const char places_purpose[] = "szpool1 places";

static int absent_add(struct sz_store *store, char **path)
{
	char **grown = realloc(store->absent, (store->absent_count + 1) * sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	store->absent = grown;
	store->absent[store->absent_count++] = TAKE(*path);
	return 0;
}

/*
 * The note of a store that was copied names the folders of the one that it is a copy of: those are another's, who may
 * be writing there.
 */
static bool places_are_ours(struct sz_store *store, size_t noted_bytes)
{
	if (sz_lock_is_own(store))
		return true;
	store->has_others_places = noted_bytes > 0;
	if (store->has_others_places && !any_is_given(store))
		sz_warn("%s: is a copy, and the devices' folders that it names are the original's: "
			"name its own with --device-dir",
			store->path);
	return false;
}

int sz_folders_find_places(struct sz_store *store, struct sz_error *error)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	struct sz_cursor cursor = { 0 };
	int result = sz_note_read(store->keys, store->folders[0].backend, SZ_KIND_PLACES,
				  places_purpose, &payload);

	if (result == -ENOENT)
		return 0;
	if (result == -EBADMSG) {
		sz_warn("%s: the note of where the devices' folders are is damaged: name them with "
			"--device-dir",
			store->path);
		return 0;
	}
	if (result != 0)
		return sz_fail(error, result, "%s: %s", store->path, strerror(-result));
	if (!places_are_ours(store, payload.length))
		return 0;
	cursor = (struct sz_cursor){ .data = payload.data, .length = payload.length };
	while (cursor.offset < cursor.length && !cursor.failed) {
		size_t length = (size_t)sz_cursor_le(&cursor, 2);
		const uint8_t *text = sz_cursor_take(&cursor, length);
		CLEANUP_FREE char *path = text == NULL ? NULL : strndup((const char *)text, length);

		result = path == NULL ? 0 : path_add(store, path);
		if (result == -ENOENT || result == -ENOTDIR)
			result = absent_add(store, &path);
		else if (result != 0)
			sz_warn("%s: %s: going on without it", path, strerror(-result));
		if (result == -ENOMEM)
			return sz_fail(error, result, "no memory");
	}
	return 0;
}

static int place_append(struct sz_bytes *payload, const char *path)
{
	int result = sz_bytes_append_le(payload, strlen(path), 2);

	return result != 0 ? result : sz_bytes_append(payload, path, strlen(path));
}

/* Is it one of the store's subfolders, which need no note? */
static bool is_inside(const char *folder, const char *home)
{
	size_t length = strlen(home);

	return strncmp(folder, home, length) == 0 && folder[length] == '/' &&
	       strchr(folder + length + 1, '/') == NULL;
}

/* What the PLACES note has to say. */
static int places_encode(const struct sz_store *store, const char *const *paths, size_t count,
			 struct sz_bytes *payload)
{
	CLEANUP_FREE char *home = realpath(store->path, NULL);
	int result = home == NULL ? -errno : 0;

	for (size_t i = 0; i < count && home != NULL && result == 0; i++) {
		CLEANUP_FREE char *path = realpath(paths[i], NULL);

		if (path == NULL)
			result = -errno;
		else if (!is_inside(path, home))
			result = place_append(payload, path);
	}
	return result;
}

int sz_folders_write_places(struct sz_store *store, struct sz_backend *home,
			    const char *const *paths, size_t count, struct sz_error *error)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result = places_encode(store, paths, count, &payload);

	if (result == 0)
		result = sz_note_write(store->keys, home, SZ_KIND_PLACES, places_purpose, &payload);
	return result == 0 ? 0
			   : sz_fail(error, result,
				     "%s: the note of where the devices' folders are: %s",
				     store->path, strerror(-result));
}

/* The devices' folders, as far as they are there. */
static size_t device_paths(const struct sz_store *store, const char *paths[SZ_DEVICES_MAX])
{
	size_t count = 0;

	for (uint32_t i = 0; i < store->device_count; i++)
		if (store->devices[i].folder != NO_DEVICE)
			paths[count++] = sz_device_folder(&store->devices[i]);
	return count;
}

int sz_folders_update_places(struct sz_store *store, struct sz_error *error)
{
	const char *paths[SZ_DEVICES_MAX];
	size_t count = device_paths(store, paths);

	return sz_folders_write_places(store, store->folders[0].backend, paths, count, error);
}

int sz_folders_remember(struct sz_store *store, struct sz_error *error)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes now = { 0 };
	const char *paths[SZ_DEVICES_MAX];
	size_t count = device_paths(store, paths);
	struct sz_backend *home = store->folders[0].backend;
	int result;

	if (store->path == NULL ||
	    (!any_is_given(store) && store->absent_count == 0 && !store->has_others_places))
		return 0;
	result = places_encode(store, paths, count, &payload);
	/* A disk that is not there now may come back. */
	for (size_t i = 0; count < store->device_count && i < store->absent_count && result == 0;
	     i++)
		result = place_append(&payload, store->absent[i]);
	if (result == 0 &&
	    sz_note_read(store->keys, home, SZ_KIND_PLACES, places_purpose, &now) == 0 &&
	    now.length == payload.length &&
	    (now.length == 0 || memcmp(now.data, payload.data, now.length) == 0))
		return 0;
	if (result == 0)
		result = sz_note_write(store->keys, home, SZ_KIND_PLACES, places_purpose, &payload);
	if (result != 0 && store->has_others_places)
		return sz_fail(error, result,
			       "%s: where the devices' folders are cannot be noted: %s",
			       store->path, strerror(-result));
	if (result != 0)
		sz_warn("%s: where the devices' folders are cannot be noted: %s", store->path,
			strerror(-result));
	return 0;
}

int sz_folders_lock(struct sz_store *store, struct sz_error *error)
{
	for (uint32_t i = 1; i < store->folder_count; i++) {
		struct sz_backend *backend = store->folders[i].backend;
		int result = sz_backend_lock(backend, writes_folders(store));

		if (result != 0)
			return sz_fail(
				error, result,
				"%s, a device's folder, is in use by another process, maybe as part of "
				"another copy of this store; wait until it has ended",
				backend->label);
	}
	return 0;
}

struct scores {
	uint32_t exclusive[FOLDERS_MAX][SZ_DEVICES_MAX];
	uint32_t shared[FOLDERS_MAX][SZ_DEVICES_MAX];
};

static void scores_count(struct sz_store *store, struct scores *scores)
{
	const struct catalog *catalog = &store->catalog;
	MUTEX_SCOPE(&store->catalog.lock);

	for (size_t i = 0; i < catalog->bucket_count; i++) {
		for (const struct catalog_entry *entry = catalog->buckets[i]; entry != NULL;
		     entry = entry->next) {
			enum sz_kind kind;
			uint32_t device;
			uint64_t generation;

			/* A spare holds nothing: where it alone is left, the device is gone. */
			if (sz_id_parse(&entry->id, &kind, &device, &generation) != 0 ||
			    device >= store->device_count || kind == SZ_KIND_SPARE)
				continue;
			for (const struct location *at = entry->locations; at != NULL;
			     at = at->next) {
				if (kind == SZ_KIND_INDEX)
					scores->shared[at->folder][device]++;
				else
					scores->exclusive[at->folder][device]++;
			}
		}
	}
}

/* How much speaks for the folder being the device's; 0: nothing. */
static uint32_t score_of(const struct sz_store *store, const struct scores *scores, uint32_t folder,
			 uint32_t device)
{
	uint32_t n = store->device_count;
	uint32_t score = scores->exclusive[folder][device] * EXCLUSIVE_SCORE;

	if (scores->shared[folder][device] > 0)
		score++;
	for (uint32_t i = 1; score > 0 && i < 3; i++)
		if (scores->shared[folder][(device + n * 2 - i) % n] > 0)
			score++;
	return score;
}

/* Is any device's object in the folder? */
static bool has_objects(const struct sz_store *store, const struct scores *scores, uint32_t folder)
{
	for (uint32_t i = 0; i < store->device_count; i++)
		if (scores->exclusive[folder][i] > 0 || scores->shared[folder][i] > 0)
			return true;
	return false;
}

/* Files were mixed over the folders: one that is left is as good as another for a device that is. */
static void rest_assign(struct sz_store *store, const struct scores *scores, uint32_t first)
{
	for (uint32_t device = 0; device < store->device_count; device++) {
		for (uint32_t folder = first; folder < store->folder_count; folder++) {
			if (store->devices[device].folder != NO_DEVICE)
				break;
			if (store->folders[folder].device != NO_DEVICE ||
			    !has_objects(store, scores, folder))
				continue;
			store->folders[folder].device = device;
			store->devices[device].folder = folder;
		}
	}
}

/* Those for which most speaks, first. given: only those that were named with the opening. */
static void best_assign(struct sz_store *store, const struct scores *scores, uint32_t first,
			bool given)
{
	for (;;) {
		uint32_t best = 0;
		uint32_t best_folder = 0;
		uint32_t best_device = 0;

		for (uint32_t folder = first; folder < store->folder_count; folder++) {
			if (store->folders[folder].device != NO_DEVICE ||
			    (given && !store->folders[folder].is_given))
				continue;
			for (uint32_t device = 0; device < store->device_count; device++) {
				uint32_t score = score_of(store, scores, folder, device);

				if (store->devices[device].folder != NO_DEVICE || score <= best)
					continue;
				best = score;
				best_folder = folder;
				best_device = device;
			}
		}
		if (best == 0)
			break;
		store->folders[best_folder].device = best_device;
		store->devices[best_device].folder = best_folder;
	}
}

void sz_folders_assign(struct sz_store *store)
{
	CLEANUP_FREE struct scores *scores = calloc(1, sizeof(*scores));
	/* The store's own folder is no device's. */
	uint32_t first = store->path == NULL ? 0 : 1;

	if (scores == NULL)
		return; /* all devices are missing then, and the pool says so */
	scores_count(store, scores);
	best_assign(store, scores, first, true);
	best_assign(store, scores, first, false);
	rest_assign(store, scores, first);
}

void sz_folders_tell(const struct sz_store *store)
{
	const char *paths[SZ_DEVICES_MAX];

	for (uint32_t i = 0; i < store->folder_count; i++)
		if (store->folders[i].is_given && store->folders[i].device == NO_DEVICE)
			sz_warn("--device-dir %s: is no device's folder of this store: going on "
				"without it",
				store->folders[i].backend->label);
	if (device_paths(store, paths) == store->device_count)
		return;
	for (size_t i = 0; i < store->absent_count; i++)
		sz_warn("%s: a device's folder was there, and is no more; if it was moved, say "
			"where to with --device-dir",
			store->absent[i]);
}
