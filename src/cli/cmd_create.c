/*
 * create: an empty store, and a pool with a file system on its devices. If a step fails, what was made
 * is removed again: there is either a pool or nothing.
 */
#include "cli/cli.h"

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
 * is free, less a tenth. With --size it is the user's affair.
 */
static uint64_t device_sectors(const struct options *options, uint64_t free_bytes)
{
	uint32_t data_devices = options->devices - sz_raid_parity(options->raid, options->devices);
	uint64_t bytes = options->size_bytes != 0 ? options->size_bytes / data_devices
						  : free_bytes / 10 * 9 / options->devices;

	return bytes / SZ_SECTOR_BYTES / SECTORS_UNIT * SECTORS_UNIT;
}

static int options_check(struct invocation *invocation)
{
	const struct options *options = &invocation->options;

	if (options->devices < sz_raid_min_devices(options->raid))
		return usage_fail(invocation, "this --raid needs at least %u devices",
				  sz_raid_min_devices(options->raid));
	if (options->device_dir_count > 0 && options->device_dir_count != options->devices)
		return usage_fail(invocation, "--device-dir: %zu folders for %u devices",
				  options->device_dir_count, options->devices);
	if (option_is_given(invocation, OPTION_SIZE) && options->size_bytes < SIZE_MIN_BYTES)
		return usage_fail(invocation, "--size: has to be 256M or more");
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
	struct sz_store_create create = {
		.device_count = options->devices,
		.band_sectors = (uint32_t)(options->band_bytes / SZ_SECTOR_BYTES),
		.parity = sz_raid_parity(options->raid, options->devices),
		.kdf = options->kdf,
		.path = invocation->operands[0],
		.folders = options->device_dir_count > 0 ? options->device_dirs : NULL,
	};
	struct target targets[SZ_DEVICES_MAX + 1] = { 0 };
	struct sz_passphrase passphrase = { 0 };
	size_t count = 0;
	int result = options_check(invocation);

	if (result == 0)
		result = targets_check(invocation, targets, &count, &create);
	if (result == 0)
		result = new_passphrase(invocation, &passphrase);
	if (result != 0)
		return result;
	result = sz_store_create(&create, &passphrase, &invocation->error);
	if (result == 0) {
		result = pool_make(invocation, &passphrase);
		for (size_t i = count; result != 0 && i > 0; i--)
			target_remove(&targets[i - 1]);
	}
	passphrase_free(&passphrase);
	invocation->store_is_open = true; /* errors of creating say nothing of an existing store */
	return result == 0 ? 0 : store_fail(invocation, result);
}
