/*
 * The engine on real devices whose folders fail: a full disk for a moment and for good, a sync that
 * fails, files that are gone or flipped. What was synced is there at the next opening.
 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#define DEVICES          6U
#define DEVICE_SECTORS   65536U
#define BAND_LEAST_BYTES (512 * 1024) /* larger than the hot image */

static char folder[64];
static const struct sz_passphrase passphrase = { .bytes = "open sesame", .length = 11 };
static struct sz_fault_plan plans[DEVICES];
static struct sz_store *store;

static void path_of(unsigned int device, char path[96])
{
	(void)snprintf(path, 96, "%s/%u", folder, device);
}

/* A step: a store with a pool with the files in it. */
static void make(void)
{
	char paths[DEVICES][96];
	const char *folders[DEVICES];
	const struct sz_store_create create = { .device_count = DEVICES,
						.device_sectors = DEVICE_SECTORS,
						.parity = 2,
						.kdf = SZ_KDF_TEST,
						.path = folder,
						.folders = folders };
	const struct sz_store_open open = { .path = folder };
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	for (unsigned int i = 0; i < DEVICES; i++) {
		path_of(i, paths[i]);
		folders[i] = paths[i];
	}
	NEED_OK(sz_store_create(&create, &passphrase, &error), &error);
	NEED_OK(sz_store_open(&open, &passphrase, &store, &error), &error);
	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_create(store, SZ_RAID_Z2, NULL, 0, &opened.pool, &error), &error);
	NEED_OK(sz_fs_format(opened.pool, NULL, 0, 0, &error), &error);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	files_write(&opened);
	pool_close(&opened);
	NEED_OK(sz_store_close(store, &error), &error);
}

static void pool_open(struct opened *opened)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_import(store, false, &opened->pool, &error), &error);
	NEED_OK(sz_fs_open(opened->pool, NULL, false, &opened->fs, &error), &error);
}

/* Opens the store over its folders, each behind a plan that fails nothing yet. */
static void open_with_plans(struct opened *opened)
{
	struct sz_backend *backends[DEVICES];
	struct sz_error error = { 0 };

	for (unsigned int i = 0; i < DEVICES; i++) {
		struct sz_backend *inner;
		char path[96];

		path_of(i, path);
		NEED(sz_folder_open(path, false, &inner) == 0);
		NEED(sz_fault_open(inner, &plans[i], &backends[i]) == 0);
	}
	NEED_OK(sz_store_open_on(backends, DEVICES, NULL, &passphrase, &store, &error), &error);
	pool_open(opened);
}

static void open_plainly(struct opened *opened)
{
	const struct sz_store_open open = { .path = folder };
	struct sz_error error = { 0 };

	NEED_OK(sz_store_open(&open, &passphrase, &store, &error), &error);
	pool_open(opened);
}

static void close_all(struct opened *opened)
{
	struct sz_error error = { 0 };

	pool_close(opened);
	NEED_OK(sz_store_close(store, &error), &error);
}

/* From now on all operations of the kinds fail. */
static void fail_all(unsigned int device, unsigned int kinds, int code)
{
	struct sz_fault_plan *plan = &plans[device];

	plan->mask = kinds;
	plan->error = code;
	plan->fail_from = true;
	__atomic_store_n(&plan->fail_at, 1, __ATOMIC_SEQ_CST);
}

static void work_again(unsigned int device)
{
	__atomic_store_n(&plans[device].fail_at, 0, __ATOMIC_SEQ_CST);
}

static void *space_comes_back(void *unused)
{
	(void)unused;
	(void)sleep(1);
	for (unsigned int i = 0; i < DEVICES; i++)
		work_again(i);
	return NULL;
}

static void full_for_a_moment(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	pthread_t thread;

	open_with_plans(&opened);
	for (unsigned int i = 0; i < DEVICES; i++)
		fail_all(i, SZ_OP_WRITE | SZ_OP_CREATE, -ENOSPC);
	NEED(pthread_create(&thread, NULL, space_comes_back, NULL) == 0);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(pthread_join(thread, NULL) == 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0);
	for (size_t i = 0; i < status.vdev_count; i++)
		NEED(status.vdevs[i].write_errors == 0);
	sz_pool_status_free(&status);
	close_all(&opened);
}

static void all_files_are_sound(void)
{
	struct opened opened = { 0 };
	struct sz_scan_status scan;

	open_plainly(&opened);
	files_check(&opened);
	NEED(file_check(&opened, FILES) == 0);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	close_all(&opened);
}

static void test_a_full_disk_that_gets_room(void **state)
{
	(void)state;
	step(make);
	step(full_for_a_moment);
	step(all_files_are_sound);
}

static void told_of_no_space(void *context, const struct sz_error *error)
{
	(void)context;
	NEED(error->code == -ENOSPC && strstr(error->text, folder) != NULL);
	_exit(0);
}

static void full_for_good(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	sz_pool_on_suspend(told_of_no_space, NULL);
	open_with_plans(&opened);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	for (unsigned int i = 0; i < DEVICES; i++)
		fail_all(i, SZ_OP_WRITE | SZ_OP_CREATE, -ENOSPC);
	file_write(&opened, FILES + 1);
	(void)!sz_pool_sync(opened.pool, &error);
	NEED(false); /* told_of_no_space has ended the process */
}

static void test_a_full_disk_that_stays_full(void **state)
{
	(void)state;
	step(make);
	step(full_for_good);
	step(all_files_are_sound);
}

static void sync_fails(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_error ignored = { 0 };

	open_with_plans(&opened);
	fail_all(3, SZ_OP_SYNC, -EIO);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(sz_device_state(sz_store_device(store, 3)) == SZ_DEVICE_FAILED);
	pool_close(&opened);
	/* What the other devices have is safe; the failed one's files are left for the next opening. */
	(void)!sz_store_close(store, &ignored);
}

static void failed_device_is_resilvered(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status scan;

	open_plainly(&opened);
	sz_pool_clear(opened.pool);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	files_check(&opened);
	NEED(file_check(&opened, FILES) == 0);
	scrub(&opened, &scan);
	NEED(scan.errors == 0);
	close_all(&opened);
}

static void test_a_sync_that_fails(void **state)
{
	(void)state;
	step(make);
	step(sync_fails);
	step(failed_device_is_resilvered);
	step(all_files_are_sound);
}

/* Calls the function for each object of a device's folder. */
static unsigned int objects_each(unsigned int device, void (*function)(const char *path))
{
	unsigned int count = 0;
	char path[96];
	DIR *listing;

	path_of(device, path);
	listing = opendir(path);
	assert_non_null(listing);
	for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
		char object[400];

		if (entry->d_type != DT_REG)
			continue;
		(void)snprintf(object, sizeof(object), "%s/%s", path, entry->d_name);
		function(object);
		count++;
	}
	(void)closedir(listing);
	return count;
}

/*
 * A byte in every 64 KiB of a band. Not of the smaller objects: with the labels the whole device is
 * lost to ZFS, which is another case.
 */
static void flip(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t size = lseek(fd, 0, SEEK_END);

	assert_true(fd >= 0);
	for (off_t at = 5000; size > BAND_LEAST_BYTES && at < size; at += 65536) {
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	(void)close(fd);
}

static void discard(const char *path)
{
	assert_int_equal(unlink(path), 0);
}

static void damage_is_healed(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status scan;
	struct sz_pool_status status;

	open_plainly(&opened);
	files_check(&opened); /* heals what it reads */
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.vdevs[2 + 1].name, "device 1") == 0);
	NEED(status.vdevs[2 + 1].checksum_errors > 0 && status.vdevs[2 + 1].read_errors == 0);
	NEED(status.data_errors == 0);
	sz_pool_status_free(&status);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	scrub(&opened, &scan);
	NEED(scan.errors == 0);
	NEED(sz_device_damaged_sectors(sz_store_device(store, 1)) > 0);
	close_all(&opened);
}

static void test_flipped_bytes_of_a_device(void **state)
{
	(void)state;
	step(make);
	assert_true(objects_each(1, flip) > 0);
	step(damage_is_healed);
	step(all_files_are_sound);
}

static void emptied_device_is_rebuilt(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	const struct sz_store_open open = { .path = folder };
	struct sz_scan_status scan;
	uint32_t rebuilt;

	NEED_OK(sz_store_open(&open, &passphrase, &store, &error), &error);
	NEED(sz_device_state(sz_store_device(store, 4)) == SZ_DEVICE_MISSING);
	NEED_OK(sz_store_replace_device(store, 4, NULL, &error), &error);
	pool_open(&opened);
	NEED_OK(sz_pool_rebuild(opened.pool, &rebuilt, &error), &error);
	NEED(rebuilt == 1);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	close_all(&opened);
}

static void test_a_folder_whose_files_are_gone(void **state)
{
	(void)state;
	step(make);
	assert_true(objects_each(4, discard) > 0);
	step(emptied_device_is_rebuilt);
	step(all_files_are_sound);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/szpool-test-engine.XXXXXX");
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_a_full_disk_that_gets_room),
		CASE(test_a_full_disk_that_stays_full),
		CASE(test_a_sync_that_fails),
		CASE(test_flipped_bytes_of_a_device),
		CASE(test_a_folder_whose_files_are_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
