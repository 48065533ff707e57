/*
 * A pool on six devices with a file system in it: what was stored is there after an export and an
 * import, also with two devices missing; three missing are refused.
 *
 * ZFS's state is per process: each step runs in a child of its own.
 */
#include "support/step.h"

#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILE_BYTES     (5U << 20)

#define DEVICES        6U
#define DEVICE_SECTORS 65536U
#define COPY_SECTORS   256U

static char folder[64];
static const struct sz_passphrase passphrase = { .bytes = "open sesame", .length = 11 };

struct opened {
	struct sz_store *store;
	struct sz_pool *pool;
	struct sz_fs *fs;
};

static int store_open(struct opened *opened, struct sz_error *error)
{
	const struct sz_store_open options = { .path = folder };

	int result = sz_store_open(&options, &passphrase, &opened->store, error);

	if (result != 0)
		return result;
	NEED(sz_engine_start(0, error) == 0);
	return sz_pool_import(opened->store, false, &opened->pool, error);
}

static void all_open(struct opened *opened)
{
	struct sz_error error = { 0 };

	NEED(store_open(opened, &error) == 0);
	NEED(sz_fs_open(opened->pool, NULL, false, &opened->fs, &error) == 0);
}

static void all_close(struct opened *opened)
{
	struct sz_error error = { 0 };

	sz_fs_close(opened->fs);
	NEED(sz_pool_export(opened->pool, &error) == 0);
	NEED(sz_store_close(opened->store, &error) == 0);
}

static void create_and_fill(void)
{
	char paths[DEVICES][80];
	const char *folders[DEVICES];
	const struct sz_store_create create = {
		.device_count = DEVICES,
		.device_sectors = DEVICE_SECTORS,
		.parity = 2,
		.kdf = SZ_KDF_TEST,
		.path = folder,
		.folders = folders,
	};
	const struct sz_store_open open = { .path = folder };
	const struct sz_fs_new file = { .mode = S_IFREG | 0640, .uid = 7, .gid = 8 };
	const struct sz_fs_new directory = { .mode = S_IFDIR | 0755, .uid = 7, .gid = 8 };
	struct opened all = { 0 };
	struct sz_error error = { 0 };
	CLEANUP_FREE uint8_t *content = malloc(FILE_BYTES);
	uint64_t root;
	uint64_t sub;
	uint64_t number;

	for (unsigned int i = 0; i < DEVICES; i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "%s/%u", folder, i);
		folders[i] = paths[i];
	}
	NEED(sz_store_create(&create, &passphrase, &error) == 0);
	NEED(sz_store_open(&open, &passphrase, &all.store, &error) == 0);
	NEED(sz_engine_start(0, &error) == 0);
	NEED(sz_pool_create(all.store, SZ_RAID_Z2, NULL, 0, &all.pool, &error) == 0);
	NEED(sz_fs_format(all.pool, NULL, 0, 0, &error) == 0);
	NEED(sz_fs_open(all.pool, NULL, false, &all.fs, &error) == 0);
	root = sz_fs_root(all.fs);
	NEED(sz_fs_mkdir(all.fs, root, "sub", &directory, &sub) == 0);
	NEED(sz_fs_mkdir(all.fs, root, "sub", &directory, &number) == -EEXIST);
	NEED(sz_fs_create(all.fs, sub, "file", &file, &number) == 0);
	random_fill(content, FILE_BYTES, 1);
	NEED(sz_fs_write(all.fs, number, content, FILE_BYTES, 0) == 0);
	NEED(sz_fs_setxattr(all.fs, number, "user.colour", "blue", 4, 0) == 0);
	NEED(sz_fs_link(all.fs, number, root, "second name") == 0);
	NEED(sz_fs_symlink(all.fs, root, "link", "sub/file", &file, &number) == 0);
	for (int i = 0; i < 500; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%d", i);
		NEED(sz_fs_create(all.fs, sub, name, &file, &number) == 0);
		NEED(sz_fs_write(all.fs, number, content, (size_t)i * 37, 0) == 0);
	}
	NEED(sz_fs_unlink(all.fs, sub, "n0") == 0);
	NEED(sz_fs_rmdir(all.fs, root, "sub") == -ENOTEMPTY);
	NEED(sz_fs_rename(all.fs, sub, "n1", root, "moved", 0) == 0);
	NEED(sz_fs_rename(all.fs, root, "sub", sub, "into itself", 0) == -EINVAL);
	all_close(&all);
}

static int count_entry(void *context, const char *name, uint64_t inode, uint32_t type,
		       uint64_t next_cookie)
{
	(void)name;
	(void)inode;
	(void)type;
	(void)next_cookie;
	(*(int *)context)++;
	return 0;
}

static void read_back(void)
{
	struct opened all = { 0 };
	CLEANUP_FREE uint8_t *content = malloc(FILE_BYTES);
	CLEANUP_FREE uint8_t *read = malloc(FILE_BYTES);
	struct stat stat;
	char text[32];
	size_t done;
	uint64_t root;
	uint64_t sub;
	uint64_t number;
	uint64_t second;
	int entries = 0;

	all_open(&all);
	root = sz_fs_root(all.fs);
	NEED(sz_fs_lookup(all.fs, root, "sub", &sub) == 0);
	NEED(sz_fs_lookup(all.fs, sub, "file", &number) == 0);
	NEED(sz_fs_lookup(all.fs, root, "second name", &second) == 0 && second == number);
	NEED(sz_fs_getattr(all.fs, number, &stat) == 0);
	NEED(stat.st_mode == (S_IFREG | 0640) && stat.st_nlink == 2 && stat.st_size == FILE_BYTES);
	NEED(stat.st_uid == 7 && stat.st_gid == 8);
	random_fill(content, FILE_BYTES, 1);
	NEED(sz_fs_read(all.fs, number, read, FILE_BYTES, 0, &done) == 0 && done == FILE_BYTES);
	NEED(memcmp(content, read, FILE_BYTES) == 0);
	NEED(sz_fs_getxattr(all.fs, number, "user.colour", text, sizeof(text), &done) == 0);
	NEED(done == 4 && memcmp(text, "blue", 4) == 0);
	NEED(sz_fs_lookup(all.fs, root, "link", &number) == 0);
	NEED(sz_fs_readlink(all.fs, number, text, sizeof(text)) == 0);
	NEED(strcmp(text, "sub/file") == 0);
	NEED(sz_fs_lookup(all.fs, sub, "n0", &number) == -ENOENT);
	NEED(sz_fs_lookup(all.fs, root, "moved", &number) == 0);
	NEED(sz_fs_readdir(all.fs, sub, 0, count_entry, &entries) == 0);
	NEED(entries == 2 + 1 + 498);
	NEED(sz_fs_getattr(all.fs, sub, &stat) == 0 && stat.st_size == 2 + 1 + 498);
	all_close(&all);
}

static void scrub_is_clean(void)
{
	struct opened all = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status status;

	all_open(&all);
	NEED(sz_pool_scrub_start(all.pool, &error) == 0);
	NEED(sz_pool_scan_wait(all.pool, NULL, NULL, &error) == 0);
	sz_pool_scan_status(all.pool, &status);
	NEED(status.kind == SZ_SCAN_SCRUB && status.state == SZ_SCAN_FINISHED);
	NEED(status.errors == 0 && status.repaired_bytes == 0 && status.issued_bytes > FILE_BYTES);
	all_close(&all);
}

static void import_is_refused(void)
{
	struct opened all = { 0 };
	struct sz_error error = { 0 };

	NEED(store_open(&all, &error) == -ENXIO);
	NEED(strstr(error.text, "devices 0, 1 and 2; of 6 devices 3 are there") != NULL);
}

static void rebuild(void)
{
	struct opened all = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status status;
	struct sz_pool_status pool_status;
	const struct sz_store_open options = { .path = folder };
	uint32_t rebuilt;

	NEED(sz_store_open(&options, &passphrase, &all.store, &error) == 0);
	NEED(sz_store_replace_device(all.store, 0, NULL, &error) == 0);
	NEED(sz_store_replace_device(all.store, 1, NULL, &error) == 0);
	NEED(sz_engine_start(0, &error) == 0);
	NEED(sz_pool_import(all.store, false, &all.pool, &error) == 0);
	NEED(sz_pool_status(all.pool, &pool_status, &error) == 0);
	NEED(strcmp(pool_status.state, "DEGRADED") == 0);
	sz_pool_status_free(&pool_status);
	if (sz_pool_rebuild(all.pool, &rebuilt, &error) != 0)
		(void)fprintf(stderr, "%s\n", error.text);
	NEED(rebuilt == 2);
	NEED(sz_pool_scan_wait(all.pool, NULL, NULL, &error) == 0);
	sz_pool_scan_status(all.pool, &status);
	NEED(status.kind == SZ_SCAN_RESILVER && status.repaired_bytes > 0 && status.errors == 0);
	NEED(sz_pool_export(all.pool, &error) == 0);
	NEED(sz_store_close(all.store, &error) == 0);
}

/* Writes a device out as a plain file, with holes. */
static void device_write_out(struct sz_device *device, const char *path)
{
	static uint8_t buffer[COPY_SECTORS * SZ_SECTOR_BYTES];
	static const uint8_t zeros[sizeof(buffer)];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	NEED(fd >= 0);
	NEED(ftruncate(fd, (off_t)sz_device_sectors(device) * SZ_SECTOR_BYTES) == 0);
	for (uint64_t at = 0; at < sz_device_sectors(device); at += COPY_SECTORS) {
		NEED(sz_device_read(device, at, COPY_SECTORS, buffer) == 0);
		if (memcmp(buffer, zeros, sizeof(buffer)) != 0)
			NEED(sz_pwrite(fd, buffer, sizeof(buffer), at * SZ_SECTOR_BYTES) == 0);
	}
	(void)close(fd);
}

/* What the kernel's own tools say of the devices. */
static void zdb_finds_no_leak(void)
{
	const struct sz_store_open options = { .path = folder, .read_only = true };
	struct sz_error error = { 0 };
	struct sz_store *store;
	char plain[80];
	char command[512];

	(void)snprintf(plain, sizeof(plain), "%s.plain", folder);
	NEED(mkdir(plain, 0700) == 0 || errno == EEXIST);
	NEED(sz_store_open(&options, &passphrase, &store, &error) == 0);
	for (uint32_t i = 0; i < DEVICES; i++) {
		char path[96];

		(void)snprintf(path, sizeof(path), "%s/%u", plain, i);
		device_write_out(sz_store_device(store, i), path);
	}
	NEED(sz_store_close(store, &error) == 0);
	(void)snprintf(command, sizeof(command),
		       "timeout 50 zdb -e -p %s -bcc %s >%s.zdb 2>&1 && grep -q 'No leaks' %s.zdb",
		       plain, SZ_POOL_NAME, folder, folder);
	if (system(command) != 0) {
		(void)snprintf(command, sizeof(command), "tail -n 40 %s.zdb >&2", folder);
		NEED(system(command) == 0);
		NEED(false);
	}
}

static void device_hide(unsigned int index, bool hide)
{
	char path[80];
	char hidden[90];

	(void)snprintf(path, sizeof(path), "%s/%u", folder, index);
	(void)snprintf(hidden, sizeof(hidden), "%s.hidden%u", folder, index);
	assert_int_equal(hide ? rename(path, hidden) : rename(hidden, path), 0);
}

static void test_store_and_read_back(void **state)
{
	(void)state;
	step(create_and_fill);
	step(read_back);
	step(scrub_is_clean);
}

static void test_zdb(void **state)
{
	(void)state;
	step(zdb_finds_no_leak);
}

static void test_three_lost_devices_are_refused(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		device_hide(i, true);
	step(import_is_refused);
	for (unsigned int i = 0; i < 3; i++)
		device_hide(i, false);
	step(read_back);
}

static void test_two_lost_devices_are_rebuilt(void **state)
{
	(void)state;
	device_hide(0, true);
	device_hide(1, true);
	step(read_back);
	step(rebuild);
	step(read_back);
	step(scrub_is_clean);
	step(zdb_finds_no_leak);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/szpool-test-fs.XXXXXX");
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	char command[256];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s %s.*", folder, folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_and_read_back),
		cmocka_unit_test(test_zdb),
		cmocka_unit_test(test_three_lost_devices_are_refused),
		cmocka_unit_test(test_two_lost_devices_are_rebuilt),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
