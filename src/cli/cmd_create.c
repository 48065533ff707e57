/*
 * create: an empty store, and a pool with a file system on its devices, or (--raw) devices alone. If a step fails, what
 * was made is removed again: there is either a pool or nothing.
 */
#include "cli/cli.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SIZE_MIN_BYTES   (256ULL << 20) /* below, ZFS has no room to work in */
#define DEVICE_MIN_BYTES (64ULL << 20)  /* ZFS's SPA_MINDEVSIZE */
#define SECTORS_UNIT     64U            /* a device's size is a multiple of so many sectors */

struct target {
	const char *path; /* a folder of the new store */
	bool existed;
};

/* The folder that a path is in, as a path; the caller's. */
static char *parent_of(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	const char *last;

	if (copy == NULL)
		return NULL;
	last = last_name(copy);
	return last == copy ? strdup(".") : strndup(copy, (size_t)(last - copy));
}

/* Absent or empty; its file system's free space goes to free_bytes_out. */
static int target_check(struct target *target, uint64_t *free_bytes_out, struct sz_error *error)
{
	CLEANUP_FREE char *parent = NULL;
	struct statvfs space;
	struct dirent *entry;
	DIR *folder = opendir(target->path);
	bool empty = true;

	target->existed = folder != NULL;
	if (folder == NULL && errno == ENOTDIR)
		return sz_fail(error, -ENOTDIR, "%s: exists and is not a folder; name another",
			       target->path);
	if (folder == NULL && errno != ENOENT)
		return sz_fail(error, -errno, "%s: %s", target->path, strerror(errno));
	while (folder != NULL && (entry = readdir(folder)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			empty = false;
	if (folder != NULL)
		(void)closedir(folder);
	if (!empty)
		return sz_fail(
			error, -EEXIST,
			"%s: exists and is not empty; name a new folder, or, if a pool is in "
			"it already, see 'szpool status %s'",
			target->path, target->path);
	parent = parent_of(target->path);
	if (parent == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	if (statvfs(target->existed ? target->path : parent, &space) != 0)
		return sz_fail(error, -errno, "%s: the folder that it would be in: %s",
			       target->path, strerror(errno));
	*free_bytes_out = (uint64_t)space.f_bavail * space.f_frsize;
	return 0;
}

/* The path with all links followed, of a folder that may not be there yet; the caller's. NULL: errno. */
static char *path_resolved(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_FREE char *parent = parent_of(path);
	CLEANUP_FREE char *above = NULL;
	char *resolved = realpath(path, NULL);

	if (resolved != NULL || errno != ENOENT || copy == NULL || parent == NULL)
		return resolved;
	above = realpath(parent, NULL);
	return above == NULL ? NULL : path_join(above, last_name(copy));
}

/* NULL: the path does not lie in the folder. Else what is behind the folder's name, "" for the folder itself. */
static const char *path_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	if (strncmp(path, folder, length) != 0 || (path[length] != '/' && path[length] != '\0'))
		return NULL;
	return path[length] == '/' ? path + length + 1 : path + length;
}

/* Folders of devices are apart from each other; in the store's they are where it looks for them. */
static int target_is_apart(const struct target *target, const char *path,
			   const struct target *other, const char *other_path, bool other_is_store,
			   struct sz_error *error)
{
	const char *below = path_below(path, other_path);

	if (below == NULL)
		return 0;
	if (other_is_store && below[0] == '\0')
		return sz_fail(
			error, -EINVAL,
			"--device-dir %s: is the store's own folder; name one for the device",
			target->path);
	if (below[0] == '\0')
		return sz_fail(error, -EINVAL, "--device-dir %s: is named twice", target->path);
	if (!other_is_store)
		return sz_fail(error, -EINVAL, "%s: lies in %s, the folder of a device",
			       target->path, other->path);
	if (strchr(below, '/') != NULL || strcmp(below, "live") == 0)
		return sz_fail(error, -EINVAL,
			       "--device-dir %s: has to be directly in the store's folder%s, or "
			       "outside of it",
			       target->path, strcmp(below, "live") == 0 ? ", but not 'live'" : "");
	return 0;
}

/* targets: the store's, then those of the devices. */
static int targets_are_apart(const struct target *targets, size_t count, struct sz_error *error)
{
	char *paths[SZ_DEVICES_MAX + 1] = { NULL };
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++) {
		paths[i] = path_resolved(targets[i].path);
		if (paths[i] == NULL)
			result = sz_fail(error, -errno, "%s: the folder that it would be in: %s",
					 targets[i].path, strerror(errno));
		for (size_t j = 0; j < i && result == 0; j++) {
			assert(paths[i] != NULL && paths[j] != NULL); /* or result is not 0 */
			result = target_is_apart(&targets[i], paths[i], &targets[j], paths[j],
						 j == 0, error);
			if (result == 0)
				result = target_is_apart(&targets[j], paths[j], &targets[i],
							 paths[i], false, error);
		}
	}
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	return result;
}

/* Removes what a creation that failed has left in a folder that was absent or empty before. */
static void target_remove(const struct target *target)
{
	CLEANUP_FREE char *path = strdup(target->path);
	char *paths[2] = { path, NULL };
	FTS *walk = path == NULL ? NULL : fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *entry;

	while (walk != NULL && (entry = fts_read(walk)) != NULL) {
		if (entry->fts_info == FTS_DP && (entry->fts_level > 0 || !target->existed))
			(void)rmdir(entry->fts_accpath);
		else if (entry->fts_info != FTS_D && entry->fts_info != FTS_DP)
			(void)unlink(entry->fts_accpath);
	}
	if (walk != NULL)
		(void)fts_close(walk);
}

/*
 * The size of a device. By default a pool that is full fits the disk: all devices together take what
 * is free, less a tenth. With --size it is the user's affair, and with --raw that is the size of each.
 */
static uint64_t device_sectors(const struct options *options, uint64_t free_bytes)
{
	uint32_t data_devices = options->devices - sz_raid_parity(options->raid, options->devices);
	uint64_t bytes = options->size_bytes != 0 ? options->size_bytes / data_devices
						  : free_bytes / 10 * 9 / options->devices;

	if ((options->given >> OPTION_RAW & 1) != 0)
		bytes = options->size_bytes;
	return bytes / SZ_SECTOR_BYTES / SECTORS_UNIT * SECTORS_UNIT;
}

/* Without a pool: nothing of a pool, but what is to be built on the devices; and one device. */
static int raw_check(struct invocation *invocation)
{
	struct options *options = &invocation->options;

	if (option_is_given(invocation, OPTION_PROPERTY))
		return usage_fail(invocation, "--raw makes no pool, so it takes no --property");
	if (!option_is_given(invocation, OPTION_SIZE))
		return usage_fail(invocation, "--raw needs --size, the size of each device");
	if (option_is_given(invocation, OPTION_RAID))
		return 0;
	options->raid = SZ_RAID_STRIPE;
	if (!option_is_given(invocation, OPTION_DEVICES))
		options->devices = 1;
	return 0;
}

static int options_check(struct invocation *invocation)
{
	const struct options *options = &invocation->options;
	bool is_raw = option_is_given(invocation, OPTION_RAW);

	if (is_raw && raw_check(invocation) != 0)
		return -EINVAL;
	if (options->devices < sz_raid_min_devices(options->raid))
		return usage_fail(invocation, "this --raid needs at least %u devices",
				  sz_raid_min_devices(options->raid));
	if (options->device_dir_count > 0 && options->device_dir_count != options->devices)
		return usage_fail(invocation, "--device-dir: %zu folders for %u devices",
				  options->device_dir_count, options->devices);
	if (option_is_given(invocation, OPTION_SIZE) &&
	    options->size_bytes < (is_raw ? DEVICE_MIN_BYTES : SIZE_MIN_BYTES))
		return usage_fail(invocation, "--size: has to be %s or more",
				  is_raw ? "64M" : "256M");
	if (options->size_bytes != 0 &&
	    device_sectors(options, 0) * SZ_SECTOR_BYTES < DEVICE_MIN_BYTES)
		return usage_fail(invocation,
				  "--size: each of the %u devices has to have 64M or more; take a "
				  "larger size or fewer devices",
				  options->devices);
	if (option_is_given(invocation, OPTION_GENERATE_PASSPHRASE) &&
	    (options->passphrase_file != NULL || options->passphrase_command != NULL))
		return usage_fail(invocation,
				  "--generate-passphrase: a passphrase is given already");
	return 0;
}

/* For each folder of the store: what is there. All free space is taken to be one. */
static int targets_check(struct invocation *invocation, struct target *targets, size_t *count_out,
			 struct sz_store_create *create)
{
	const struct options *options = &invocation->options;
	uint64_t least_bytes = UINT64_MAX;

	targets[0].path = create->path;
	*count_out = 1;
	for (size_t i = 0; i < options->device_dir_count; i++)
		targets[(*count_out)++].path = options->device_dirs[i];
	if (options->device_dir_count > 0 &&
	    targets_are_apart(targets, *count_out, &invocation->error) != 0)
		return invocation->error.code;
	for (size_t i = 0; i < *count_out; i++) {
		uint64_t free_bytes = 0;
		int result = target_check(&targets[i], &free_bytes, &invocation->error);

		if (result != 0)
			return result;
		if (*count_out == 1 || i > 0)
			least_bytes = free_bytes < least_bytes ? free_bytes : least_bytes;
	}
	create->device_sectors = device_sectors(options, least_bytes);
	if (create->device_sectors * SZ_SECTOR_BYTES < DEVICE_MIN_BYTES)
		return sz_fail(&invocation->error, -ENOSPC,
			       "%s: there is too little free space for a pool; give a --size",
			       create->path);
	return 0;
}

static int new_passphrase(struct invocation *invocation, struct sz_passphrase *passphrase_out)
{
	const struct options *options = &invocation->options;
	struct passphrase_source source = {
		.file = options->passphrase_file,
		.command = options->passphrase_command,
		.prompt = "New passphrase: ",
		.twice = true,
	};

	if (option_is_given(invocation, OPTION_GENERATE_PASSPHRASE))
		return passphrase_generate(invocation, passphrase_out);
	if (source.file == NULL && source.command == NULL)
		source.file = getenv("SZPOOL_PASSPHRASE_FILE");
	return passphrase_read(invocation, &source, passphrase_out);
}

static int pool_make(struct invocation *invocation, const struct sz_passphrase *passphrase)
{
	const struct options *options = &invocation->options;
	const struct sz_store_open open = { .path = invocation->operands[0],
					    .folders = options->device_dirs,
					    .folder_count = options->device_dir_count };
	struct session session = { 0 };
	struct sz_error *error = &invocation->error;
	int result = sz_store_open(&open, passphrase, &session.store, error);

	if (result == 0)
		result = sz_engine_start(options->memory_bytes, error);
	sz_pool_on_suspend(pool_is_suspended, invocation);
	if (result == 0)
		result = sz_pool_create(session.store, options->raid, options->properties,
					options->property_count, &session.pool, error);
	if (result == 0)
		result = sz_fs_format(session.pool, NULL, geteuid(), getegid(), error);
	if (result == 0)
		result = interrupt_check(error);
	return session_close(invocation, &session, result);
}

int cmd_create(struct invocation *invocation)
{
	const struct options *options = &invocation->options;
	struct target targets[SZ_DEVICES_MAX + 1] = { 0 };
	struct sz_passphrase passphrase = { 0 };
	size_t count = 0;
	int result = options_check(invocation);
	struct sz_store_create create = {
		.device_count = options->devices,
		.band_sectors = (uint32_t)(options->band_bytes / SZ_SECTOR_BYTES),
		.parity = sz_raid_parity(options->raid, options->devices),
		.kdf = options->kdf,
		.path = invocation->operands[0],
		.folders = options->device_dir_count > 0 ? options->device_dirs : NULL,
	};

	if (result == 0)
		result = targets_check(invocation, targets, &count, &create);
	if (result == 0)
		result = new_passphrase(invocation, &passphrase);
	if (result != 0)
		return result;
	result = sz_store_create(&create, &passphrase, &invocation->error);
	if (result == 0) {
		if (!option_is_given(invocation, OPTION_RAW))
			result = pool_make(invocation, &passphrase);
		for (size_t i = count; result != 0 && i > 0; i--)
			target_remove(&targets[i - 1]);
	}
	passphrase_free(&passphrase);
	invocation->store_is_open = true; /* errors of creating say nothing of an existing store */
	return result == 0 ? 0 : store_fail(invocation, result);
}
