/*
 * main: the command table, and the commands.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DEVICES        6U
#define PARITY         2U
#define SIZE_MIN_BYTES (256ULL << 20)

struct command {
	const char *name;
	const char *operands;
	const char *summary;
	int least; /* operands */
	int most;  /* -1: any number */
	int (*run)(char **operands, int count, struct sz_error *error);
};

/* --size of create; 0: by the free space. */
static uint64_t option_size_bytes;

static int cmd_create(char **operands, int count, struct sz_error *error)
{
	struct statvfs space;
	uint64_t bytes = option_size_bytes;
	struct sz_store_create create = { .device_count = DEVICES,
					  .parity = PARITY,
					  .path = operands[0] };
	const struct sz_store_open open = { .path = operands[0] };
	struct session session = { 0 };
	int result;

	(void)count;
	if (access(operands[0], F_OK) == 0)
		return sz_fail(error, -EEXIST, "%s exists; name a folder that does not",
			       operands[0]);
	if (bytes == 0 && statvfs(".", &space) == 0)
		bytes = (uint64_t)space.f_bavail * space.f_frsize / 10 * 9;
	if (bytes < SIZE_MIN_BYTES)
		return sz_fail(error, -EINVAL, "the size has to be 256M or more");
	create.device_sectors = bytes / (DEVICES - PARITY) / SZ_SECTOR_BYTES / 64 * 64;
	result = sz_store_create(&create, NULL, error);
	if (result == 0)
		result = sz_store_open(&open, NULL, &session.store, error);
	if (result == 0)
		result = sz_engine_start(0, error);
	if (result == 0)
		result = sz_pool_create(session.store, SZ_RAID_Z2, NULL, 0, &session.pool, error);
	if (result == 0)
		result = sz_fs_format(session.pool, NULL, geteuid(), getegid(), error);
	if (session.pool != NULL) {
		int closed = session_close(&session, result == 0 ? error : NULL);

		result = result != 0 ? result : closed;
	}
	if (result == 0)
		sz_warn("this version does not encrypt yet: %s holds plain files", operands[0]);
	return result;
}

static const char *last_name(char *path)
{
	size_t length = strlen(path);
	const char *slash;

	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	slash = strrchr(path, '/');
	return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* Where a source goes: into path if that is a folder, else to it. */
static int put_one(struct sz_fs *fs, char *source, const char *path, bool several,
		   struct sz_error *error)
{
	struct sz_error ignored = { 0 };
	struct stat stat;
	char name[256];
	uint64_t folder;
	int result = path_find(fs, path, &folder, &ignored);

	if (result == 0)
		result = sz_fs_getattr(fs, folder, &stat);
	if (result == 0 && S_ISDIR(stat.st_mode))
		return tree_put(fs, source, folder, last_name(source), error);
	if (several)
		return sz_fail(error, -ENOTDIR, "%s is not a folder in the pool", path);
	result = path_parent(fs, path, &folder, name, error);
	return result != 0 ? result : tree_put(fs, source, folder, name, error);
}

static int cmd_put(char **operands, int count, struct sz_error *error)
{
	struct session session;
	int result = session_open(operands[0], false, true, &session, error);
	int closed;

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < count - 1; i++)
		result = put_one(session.fs, operands[i], operands[count - 1], count > 3, error);
	closed = session_close(&session, result == 0 ? error : NULL);
	return result != 0 ? result : closed;
}

static int get_one(struct sz_fs *fs, char *path, const char *target, struct sz_error *error)
{
	CLEANUP_FREE char *to = NULL;
	struct stat stat_to;
	uint64_t inode;
	int result = path_find(fs, path, &inode, error);

	if (result != 0)
		return result;
	if (strcmp(target, "-") == 0)
		return file_out(fs, inode, STDOUT_FILENO, error);
	if (stat(target, &stat_to) == 0 && S_ISDIR(stat_to.st_mode) && inode != sz_fs_root(fs)) {
		if (asprintf(&to, "%s/%s", target, last_name(path)) < 0)
			return sz_fail(error, -ENOMEM, "no memory");
	} else {
		to = strdup(target);
	}
	return to == NULL ? sz_fail(error, -ENOMEM, "no memory") : tree_get(fs, inode, to, error);
}

static int cmd_get(char **operands, int count, struct sz_error *error)
{
	struct session session;
	int result = session_open(operands[0], true, true, &session, error);
	int closed;

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < count - 1; i++)
		result = get_one(session.fs, operands[i], operands[count - 1], error);
	closed = session_close(&session, result == 0 ? error : NULL);
	return result != 0 ? result : closed;
}

static int print_name(void *context, const char *name, uint64_t inode, uint32_t type,
		      uint64_t next_cookie)
{
	(void)context;
	(void)inode;
	(void)type;
	(void)next_cookie;
	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		(void)puts(name);
	return 0;
}

static int ls_in(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	uint64_t inode;
	int result = path_find(fs, path, &inode, error);

	if (result != 0)
		return result;
	result = sz_fs_readdir(fs, inode, 0, print_name, NULL);
	if (result == -ENOTDIR) {
		(void)puts(path);
		result = 0;
	}
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

static int cat_in(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	uint64_t inode;
	int result = path_find(fs, path, &inode, error);

	if (result == 0)
		result = file_out(fs, inode, STDOUT_FILENO, error);
	return result;
}

static int rm_in(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	char name[256];
	uint64_t parent;
	int result = path_parent(fs, path, &parent, name, error);

	if (result != 0)
		return result;
	result = sz_fs_unlink(fs, parent, name);
	if (result == -EISDIR)
		result = sz_fs_rmdir(fs, parent, name);
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

static int mkdir_in(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	const struct sz_fs_new new = { .mode = 0755, .uid = geteuid(), .gid = getegid() };
	char name[256];
	uint64_t parent;
	uint64_t inode;
	int result = path_parent(fs, path, &parent, name, error);

	if (result != 0)
		return result;
	result = sz_fs_mkdir(fs, parent, name, &new, &inode);
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

/* A command on one path: the session around it. */
static int on_path(char **operands, bool read_only,
		   int (*function)(struct sz_fs *, const char *, struct sz_error *),
		   struct sz_error *error)
{
	struct session session;
	int result = session_open(operands[0], read_only, true, &session, error);
	int closed;

	if (result != 0)
		return result;
	result = function(session.fs, operands[1], error);
	closed = session_close(&session, result == 0 ? error : NULL);
	return result != 0 ? result : closed;
}

static int cmd_ls(char **operands, int count, struct sz_error *error)
{
	(void)count;
	return on_path(operands, true, ls_in, error);
}

static int cmd_cat(char **operands, int count, struct sz_error *error)
{
	(void)count;
	return on_path(operands, true, cat_in, error);
}

static int cmd_rm(char **operands, int count, struct sz_error *error)
{
	(void)count;
	return on_path(operands, false, rm_in, error);
}

static int cmd_mkdir(char **operands, int count, struct sz_error *error)
{
	(void)count;
	return on_path(operands, false, mkdir_in, error);
}

static int cmd_df(char **operands, int count, struct sz_error *error)
{
	struct session session;
	struct sz_pool_space space;
	int result = session_open(operands[0], true, false, &session, error);
	int closed;

	(void)count;
	if (result != 0)
		return result;
	result = sz_pool_space(session.pool, &space);
	if (result == 0)
		(void)printf("size %" PRIu64 "\nused %" PRIu64 "\navailable %" PRIu64 "\n",
			     space.size_bytes, space.used_bytes, space.available_bytes);
	closed = session_close(&session, error);
	return result != 0 ? sz_fail(error, result, "%s", operands[0]) : closed;
}

static void print_scan(const struct sz_scan_status *scan)
{
	const char *kind = scan->kind == SZ_SCAN_SCRUB ? "scrub" : "resilver";

	if (scan->kind == SZ_SCAN_NONE)
		(void)puts("  scan: none requested");
	else if (scan->state == SZ_SCAN_RUNNING)
		(void)printf("  scan: %s in progress, %" PRIu64 " of %" PRIu64 " bytes\n", kind,
			     scan->issued_bytes, scan->total_bytes);
	else
		(void)printf("  scan: %s %s %" PRIu64 "B with %" PRIu64 " errors\n", kind,
			     scan->kind == SZ_SCAN_SCRUB ? "repaired" : "resilvered",
			     scan->repaired_bytes, scan->errors);
}

static int print_status(struct sz_pool *pool, struct sz_error *error)
{
	struct sz_pool_status status;
	int result = sz_pool_status(pool, &status, error);

	if (result != 0)
		return result;
	(void)printf("  pool: %s\n state: %s\n", SZ_POOL_NAME, status.state);
	if (status.status_text[0] != '\0')
		(void)printf("status: %s\naction: %s\n", status.status_text, status.action_text);
	print_scan(&status.scan);
	(void)printf("config:\n\n\t%-24s %-9s %5s %5s %5s\n", "NAME", "STATE", "READ", "WRITE",
		     "CKSUM");
	for (size_t i = 0; i < status.vdev_count; i++) {
		const struct sz_vdev_status *vdev = &status.vdevs[i];

		(void)printf("\t%*s%-*s %-9s %5" PRIu64 " %5" PRIu64 " %5" PRIu64 "  %s\n",
			     (int)(2 * vdev->depth), "", (int)(24 - 2 * vdev->depth), vdev->name,
			     vdev->state, vdev->read_errors, vdev->write_errors,
			     vdev->checksum_errors, vdev->note);
	}
	if (status.data_errors == 0)
		(void)puts("\nerrors: No known data errors");
	else
		(void)printf("\nerrors: %" PRIu64 " data errors\n", status.data_errors);
	result = status.data_errors == 0
			 ? 0
			 : sz_fail(error, -EBADMSG, "data is damaged beyond repair");
	sz_pool_status_free(&status);
	return result;
}

static int cmd_status(char **operands, int count, struct sz_error *error)
{
	struct session session;
	int result = session_open(operands[0], true, false, &session, error);
	int closed;

	(void)count;
	if (result != 0)
		return result;
	result = print_status(session.pool, error);
	closed = session_close(&session, result == 0 ? error : NULL);
	return result != 0 ? result : closed;
}

/* Missing devices get new folders before the import, and are rebuilt before the scrub. */
static int cmd_scrub(char **operands, int count, struct sz_error *error)
{
	struct session session;
	uint32_t rebuilt = 0;
	int result = session_open(operands[0], false, false, &session, error);
	int closed;

	(void)count;
	if (result != 0)
		return result;
	for (uint32_t i = 0; result == 0 && i < sz_store_device_count(session.store); i++)
		if (sz_device_state(sz_store_device(session.store, i)) == SZ_DEVICE_MISSING)
			result = sz_store_replace_device(session.store, i, NULL, error);
	if (result == 0)
		result = sz_pool_rebuild(session.pool, &rebuilt, error);
	if (result == 0)
		result = sz_pool_scan_wait(session.pool, NULL, NULL, error);
	if (result == 0 && rebuilt > 0)
		(void)printf("rebuilt devices: %u\n", rebuilt);
	if (result == 0)
		result = sz_pool_scrub_start(session.pool, error);
	if (result == 0)
		result = sz_pool_scan_wait(session.pool, NULL, NULL, error);
	if (result == 0)
		result = print_status(session.pool, error);
	closed = session_close(&session, result == 0 ? error : NULL);
	return result != 0 ? result : closed;
}

static int cmd_version(char **operands, int count, struct sz_error *error)
{
	(void)operands;
	(void)count;
	(void)error;
	(void)printf("szpool %s\n", SZ_VERSION);
	return 0;
}

static int cmd_help(char **operands, int count, struct sz_error *error);

static const struct command commands[] = {
	{ "create", "[--size SIZE] STORE", "makes a pool in a folder", 1, 1, cmd_create },
	{ "put", "STORE SOURCE... PATH", "copies files and trees into it", 3, -1, cmd_put },
	{ "get", "STORE PATH... TARGET", "copies files and trees out of it", 3, -1, cmd_get },
	{ "ls", "STORE PATH", "lists a folder", 2, 2, cmd_ls },
	{ "cat", "STORE PATH", "writes a file to standard output", 2, 2, cmd_cat },
	{ "rm", "STORE PATH", "removes a file or an empty folder", 2, 2, cmd_rm },
	{ "mkdir", "STORE PATH", "makes a folder", 2, 2, cmd_mkdir },
	{ "df", "STORE", "shows the space, in bytes", 1, 1, cmd_df },
	{ "status", "STORE", "shows the pool's state", 1, 1, cmd_status },
	{ "scrub", "STORE", "checks and repairs everything, rebuilds lost devices", 1, 1,
	  cmd_scrub },
	{ "version", "", "shows the version", 0, 0, cmd_version },
	{ "help", "", "shows this", 0, 0, cmd_help },
};

static int cmd_help(char **operands, int count, struct sz_error *error)
{
	(void)operands;
	(void)count;
	(void)error;
	(void)puts("szpool: a ZFS pool in a folder\n");
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		(void)printf("  szpool %-8s %-22s %s\n", commands[i].name, commands[i].operands,
			     commands[i].summary);
	(void)puts(
		"\nPATH is absolute inside the pool. Exit codes: 0 ok, 1 error, 2 usage, 3 not a "
		"store,\n4 too much is missing or damaged, 5 busy, 6 no space.");
	return 0;
}

static int exit_code(int result)
{
	switch (result) {
	case 0:
		return EXIT_OK;
	case -ENODATA:
		return EXIT_NOT_A_STORE;
	case -ENXIO:
	case -EBADMSG:
		return EXIT_DAMAGED;
	case -EBUSY:
		return EXIT_BUSY;
	case -ENOSPC:
	case -EDQUOT:
		return EXIT_NO_SPACE;
	default:
		return EXIT_ERROR;
	}
}

/* "8G": bytes, or 0 if it is none. */
static uint64_t size_parse(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);
	unsigned int shift = *end == 'T' ? 40 : *end == 'G' ? 30 : *end == 'M' ? 20 : 0;

	if (end == text || shift == 0 || end[1] != '\0' || value >> (63 - shift) != 0)
		return 0;
	return value << shift;
}

static int usage(const char *what)
{
	(void)fprintf(stderr, "szpool: %s; try 'szpool help'\n", what);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const struct command *command = NULL;
	struct sz_error error = { 0 };
	char **operands = argv + 2;
	int count = argc - 2;
	int result;

	if (argc < 2)
		return usage("which command?");
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			command = &commands[i];
	if (command == NULL)
		return usage("there is no such command");
	if (command->run == cmd_create && count >= 2 && strcmp(operands[0], "--size") == 0) {
		option_size_bytes = size_parse(operands[1]);
		if (option_size_bytes == 0)
			return usage("--size takes a number with M, G or T");
		operands += 2;
		count -= 2;
	}
	if (count < command->least || (command->most >= 0 && count > command->most))
		return usage("wrong number of operands");
	for (int i = 0; i < count; i++)
		if (operands[i][0] == '-' && operands[i][1] != '\0')
			return usage("there is no such option");
	result = command->run(operands, count, &error);
	if (fflush(stdout) != 0 && result == 0)
		result = sz_fail(&error, -errno, "standard output: %s", strerror(errno));
	if (result != 0)
		(void)fprintf(stderr, "szpool: %s\n",
			      error.text[0] != '\0' ? error.text : strerror(-result));
	return exit_code(result);
}
