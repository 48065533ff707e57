/*
 * The leaf driver under damage and errors: damage is healed and never an I/O error, what ZFS does not
 * check is an error, a full disk is waited for and then suspends the pool, which can go on or be
 * left; a failed flush is made good by the next resilver.
 */
#include "pools.h"

#include "engine/pool_zfs.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

static const struct sz_vdev_status *device_status(const struct sz_pool_status *status,
						  uint32_t device)
{
	for (size_t i = 0; i < status->vdev_count; i++)
		if (status->vdevs[i].is_leaf && status->vdevs[i].device == device)
			return &status->vdevs[i];
	NEED(false); /* every device is in the tree */
	return NULL;
}

static void need_online_without_io_errors(struct opened *opened)
{
	struct sz_error error = { 0 };
	struct sz_pool_status status;

	NEED_OK(sz_pool_status(opened->pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0 && status.data_errors == 0);
	for (size_t i = 0; i < status.vdev_count; i++)
		NEED(status.vdevs[i].read_errors == 0 && status.vdevs[i].write_errors == 0);
	sz_pool_status_free(&status);
}

static void damage_is_healed(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	struct sz_scan_status scan;

	pool_open(&opened, false);
	files_check(&opened);
	need_online_without_io_errors(&opened);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes > 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(device_status(&status, 1)->checksum_errors > 0);
	NEED(device_status(&status, 4)->checksum_errors > 0);
	NEED(device_status(&status, 0)->checksum_errors == 0);
	NEED(strcmp(device_status(&status, 1)->state, "ONLINE") == 0);
	sz_pool_status_free(&status);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	need_online_without_io_errors(&opened);
	pool_close(&opened);
}

static void test_damage_on_two_devices_is_healed(void **state)
{
	(void)state;
	step(make_filled);
	assert_true(scripted_damage(&devices->devices[1], 20) > 30);
	assert_true(scripted_damage(&devices->devices[4], 13) > 30);
	step(damage_is_healed);
}

struct found {
	unsigned int count;
	uint64_t dataset;
	uint64_t object;
};

static int note_error(void *context, uint64_t dataset, uint64_t object)
{
	struct found *found = context;

	found->count++;
	found->dataset = dataset;
	found->object = object;
	return 0;
}

static int stop_at_once(void *context, uint64_t dataset, uint64_t object)
{
	(void)context;
	(void)dataset;
	(void)object;
	return -ECANCELED;
}

static int need_path_of_file3(void *context, const char *text)
{
	NEED(strcmp(text, "/file3") == 0);
	(*(unsigned int *)context)++;
	return 0;
}

static void need_file3_in_error_log(struct opened *opened)
{
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	struct found found = { 0 };
	uint64_t inode;

	NEED(sz_fs_lookup(opened->fs, sz_fs_root(opened->fs), "file3", &inode) == 0);
	NEED(sz_pool_data_error_each(opened->pool, note_error, &found) == 0);
	NEED(found.count == 1 && found.object == inode && found.dataset != 0);
	NEED(sz_fs_damaged_each(opened->fs, need_path_of_file3, &found.count) == 0);
	NEED(found.count == 2);
	NEED(sz_pool_data_error_each(opened->pool, stop_at_once, NULL) == -ECANCELED);
	NEED_OK(sz_pool_status(opened->pool, &status, &error), &error);
	NEED(status.data_errors == 1 && strstr(status.status_text, "damaged beyond") != NULL);
	sz_pool_status_free(&status);
}

static void lost_file_is_named(void)
{
	struct opened opened = { 0 };
	struct sz_scan_status scan;

	pool_open(&opened, false);
	for (unsigned int i = 0; i < FILES; i++)
		NEED(file_check(&opened, i) == (i == 3 ? -EBADMSG : 0));
	need_file3_in_error_log(&opened); /* from memory */
	scrub(&opened, &scan);
	NEED(scan.errors > 0);
	need_file3_in_error_log(&opened);
	pool_close(&opened);
}

static void lost_file_is_named_again(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, true);
	need_file3_in_error_log(&opened); /* from the devices */
	pool_close(&opened);
}

static void removed_file_is_not_named(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	struct sz_scan_status scan;
	struct found found = { 0 };

	pool_open(&opened, false);
	NEED(sz_fs_unlink(opened.fs, sz_fs_root(opened.fs), "file3") == 0);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(sz_pool_data_error_each(opened.pool, note_error, &found) == 0 && found.count == 0);
	scrub(&opened, &scan);
	NEED(scan.errors == 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(status.data_errors == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

static void test_a_file_lost_for_good_is_named(void **state)
{
	uint8_t *content = malloc(FILE_BYTES);

	(void)state;
	step(make_filled);
	random_fill(content, FILE_BYTES, 3);
	assert_int_equal(scripted_damage_content(devices, content, FILE_BYTES),
			 FILE_BYTES / SZ_SECTOR_BYTES);
	free(content);
	step(lost_file_is_named);
	step(lost_file_is_named_again);
	step(removed_file_is_not_named);
}

/* Waits, for ZFS takes leaves out in the background. */
static void need_device_state(struct opened *opened, uint32_t device, const char *state)
{
	for (unsigned int tries = 0;; tries++) {
		struct sz_error error = { 0 };
		struct sz_pool_status status;
		bool is_so;

		NEED_OK(sz_pool_status(opened->pool, &status, &error), &error);
		is_so = strcmp(device_status(&status, device)->state, state) == 0;
		sz_pool_status_free(&status);
		if (is_so)
			return;
		NEED(tries < 100);
		(void)usleep(50000);
	}
}

static void device_of_errors_is_left_out(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;

	pool_open(&opened, false);
	devices->devices[2].read_error = -EIO;
	devices->devices[2].write_error = -EIO;
	files_check(&opened);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	need_device_state(&opened, 2, "FAULTED");
	devices->devices[2].read_error = 0;
	devices->devices[2].write_error = 0;
	sz_pool_clear(opened.pool);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	NEED(file_check(&opened, FILES) == 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

static void test_a_device_that_fails_and_recovers(void **state)
{
	(void)state;
	step(make_filled);
	step(device_of_errors_is_left_out);
}

/* The disk has room again after a second: nobody notices. */
static void *space_comes_back(void *argument)
{
	(void)argument;
	(void)sleep(1);
	scripted_fail_writes(devices, 0);
	return NULL;
}

static void full_for_a_moment(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	pthread_t thread;

	pool_open(&opened, false);
	scripted_fail_writes(devices, -ENOSPC);
	NEED(pthread_create(&thread, NULL, space_comes_back, NULL) == 0);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(pthread_join(thread, NULL) == 0);
	need_online_without_io_errors(&opened);
	NEED(!sz_pool_is_suspended(opened.pool));
	NEED(file_check(&opened, FILES) == 0);
	pool_close(&opened);
}

static void test_a_full_disk_is_waited_for(void **state)
{
	(void)state;
	step(make_filled);
	step(full_for_a_moment);
}

static void told_of_no_space(void *context, const struct sz_error *error)
{
	(void)context;
	NEED(error->code == -ENOSPC && strstr(error->text, "no space is left for device") != NULL);
	_exit(0);
}

static void full_for_good(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	sz_pool_on_suspend(told_of_no_space, NULL);
	pool_open(&opened, false);
	scripted_fail_writes(devices, -ENOSPC);
	file_write(&opened, FILES);
	(void)!sz_pool_sync(opened.pool, &error);
	NEED(false); /* told_of_no_space has ended the process */
}

static void full_at_the_export(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	sz_pool_on_suspend(told_of_no_space, NULL);
	pool_open(&opened, false);
	file_write(&opened, FILES);
	scripted_fail_writes(devices, -ENOSPC);
	sz_fs_close(opened.fs);
	(void)!sz_pool_export(opened.pool, &error);
	NEED(false); /* told_of_no_space has ended the process */
}

static void *space_goes(void *unused)
{
	uint64_t enough = scripted_writes(devices) + 40;

	(void)unused;
	while (scripted_writes(devices) < enough)
		sched_yield();
	scripted_fail_writes(devices, -ENOSPC);
	return NULL;
}

/* The disk is full before the import is through: it does not return, or fails. */
static void full_at_the_import(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	pthread_t thread;

	sz_pool_on_suspend(told_of_no_space, NULL);
	NEED(pthread_create(&thread, NULL, space_goes, NULL) == 0);
	(void)!pool_import(&opened, false, &error);
	told_of_no_space(NULL, &error);
}

static void synced_files_are_there(void)
{
	struct opened opened = { 0 };
	struct sz_scan_status scan;

	pool_open(&opened, false);
	files_check(&opened);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	pool_close(&opened);
}

static void test_a_full_disk_suspends_and_loses_nothing(void **state)
{
	(void)state;
	step(make_filled);
	step(full_for_good);
	scripted_fail_writes(devices, 0);
	step(synced_files_are_there);
	step(full_at_the_export);
	scripted_fail_writes(devices, 0);
	step(synced_files_are_there);
	step(full_at_the_import);
	scripted_fail_writes(devices, 0);
	step(synced_files_are_there);
}

static void told_and_repaired(void *context, const struct sz_error *error)
{
	struct opened *opened = context;

	NEED(error->code == -EIO && strstr(error->text, "fails") != NULL);
	NEED(sz_pool_is_suspended(opened->pool));
	scripted_fail_writes(devices, 0);
	sz_pool_clear(opened->pool);
}

static void suspended_and_resumed(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status scan;

	sz_pool_on_suspend(told_and_repaired, &opened);
	pool_open(&opened, false);
	scripted_fail_writes(devices, -EIO);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(!sz_pool_is_suspended(opened.pool));
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	scrub(&opened, &scan);
	NEED(scan.errors == 0);
	NEED(file_check(&opened, FILES) == 0);
	pool_close(&opened);
}

static void test_a_suspended_pool_goes_on_when_cleared(void **state)
{
	(void)state;
	step(make_filled);
	step(suspended_and_resumed);
}

static void *write_and_block(void *argument)
{
	struct sz_error error = { 0 };
	struct opened *opened = argument;

	file_write(opened, FILES);
	(void)!sz_pool_sync(opened->pool, &error);
	return NULL;
}

static void suspended_and_left(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	pthread_t thread;
	uint64_t before;

	pool_open(&opened, false);
	scripted_fail_writes(devices, -EIO);
	NEED(pthread_create(&thread, NULL, write_and_block, &opened) == 0);
	while (!sz_pool_is_suspended(opened.pool))
		(void)usleep(10000);
	NEED(sz_pool_export(opened.pool, &error) == -EIO);
	NEED(strstr(error.text, "suspended") != NULL);
	/* From here on the devices may be gone. */
	before = scripted_writes(devices);
	scripted_fail_writes(devices, 0);
	(void)usleep(500000);
	NEED(scripted_writes(devices) == before);
}

static void test_a_suspended_pool_is_left_behind(void **state)
{
	(void)state;
	step(make_filled);
	step(suspended_and_left);
	scripted_fail_writes(devices, 0);
	step(synced_files_are_there);
}

static struct sz_store *flushed; /* what the device keeps */

static void flush_fails(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	pool_open(&opened, false);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	devices->devices[2].flush_error = -EIO;
	scripted_copy(&flushed->devices[2], &devices->devices[2]);
	file_write(&opened, FILES);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	file_write(&opened, FILES + 1);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	need_device_state(&opened, 2, "FAULTED");
	pool_close(&opened);
}

static void flush_is_made_good(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status scan;
	struct sz_pool_status status;
	struct sz_error ignored = { 0 };
	uint32_t rebuilt;

	pool_open(&opened, false);
	NEED_OK(sz_pool_rebuild(opened.pool, &rebuilt, &ignored), &ignored);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

/* The device loses all that it was given after its last flush, and ZFS believes that it was written. */
static void test_what_a_failed_flush_lost_is_resilvered(void **state)
{
	flushed = scripted_make();
	(void)state;
	step(make_filled);
	step(flush_fails);
	devices->devices[2].flush_error = 0;
	devices->devices[2].read_error = 0;
	devices->devices[2].write_error = 0;
	scripted_clear(&devices->devices[2]);
	scripted_copy(&devices->devices[2], &flushed->devices[2]);
	scripted_free(flushed);
	step(flush_is_made_good);
}

/* One sector of a device, read through its leaf as ZFS would with the priority: 0 or the error. */
static int sector_read(struct sz_pool *pool, uint32_t device, uint64_t sector,
		       zio_priority_t priority)
{
	spa_t *spa = sz_pool_spa(pool);
	abd_t *buffer = abd_alloc_linear(SZ_SECTOR_BYTES, B_FALSE);
	int result;

	spa_config_enter(spa, SCL_STATE, FTAG, RW_READER);
	result = zio_wait(zio_read_phys(NULL, spa->spa_root_vdev->vdev_child[0]->vdev_child[device],
					sector * SZ_SECTOR_BYTES, SZ_SECTOR_BYTES, buffer,
					ZIO_CHECKSUM_OFF, NULL, NULL, priority,
					ZIO_FLAG_CANFAIL | ZIO_FLAG_SPECULATIVE, B_FALSE));
	spa_config_exit(spa, SCL_STATE, FTAG);
	abd_free(buffer);
	return result;
}

static void priorities_differ(void)
{
	struct opened opened = { 0 };
	uint64_t damaged = 0;
	uint64_t good = 0;

	for (uint64_t i = 1; i < SCRIPTED_SECTORS; i++) {
		if (devices->devices[0].sectors[i] == SCRIPTED_DAMAGED)
			damaged = i;
		else if (devices->devices[0].sectors[i] == SCRIPTED_WRITTEN)
			good = i;
	}
	pool_open(&opened, true);
	NEED(sector_read(opened.pool, 0, damaged, ZIO_PRIORITY_SYNC_READ) == 0);
	NEED(sector_read(opened.pool, 0, damaged, ZIO_PRIORITY_SCRUB) == 0);
	NEED(sector_read(opened.pool, 0, damaged, ZIO_PRIORITY_REBUILD) == EIO);
	NEED(sector_read(opened.pool, 0, damaged, ZIO_PRIORITY_REMOVAL) == EIO);
	NEED(sector_read(opened.pool, 0, good, ZIO_PRIORITY_REBUILD) == 0);
	NEED(sector_read(opened.pool, 0, good, ZIO_PRIORITY_REMOVAL) == 0);
	pool_close(&opened);
}

/* Removal, expansion and sequential rebuild copy without checking: damage is an error there, not filler. */
static void test_unchecked_reads_of_damage_fail(void **state)
{
	(void)state;
	step(make_filled);
	assert_true(scripted_damage(&devices->devices[0], 20) > 30);
	step(priorities_differ);
}

static nvlist_t *leaf_root(const char *path)
{
	nvlist_t *leaf = fnvlist_alloc();
	nvlist_t *root = fnvlist_alloc();
	const nvlist_t *const children[] = { leaf };

	fnvlist_add_string(leaf, ZPOOL_CONFIG_TYPE, VDEV_TYPE_DISK);
	fnvlist_add_string(leaf, ZPOOL_CONFIG_PATH, path);
	fnvlist_add_uint64(leaf, ZPOOL_CONFIG_IS_LOG, 0);
	fnvlist_add_uint64(leaf, ZPOOL_CONFIG_ASHIFT, 12);
	fnvlist_add_string(root, ZPOOL_CONFIG_TYPE, VDEV_TYPE_ROOT);
	fnvlist_add_nvlist_array(root, ZPOOL_CONFIG_CHILDREN, children, 1);
	nvlist_free(leaf);
	return root;
}

static void foreign_paths(void)
{
	static const char *const paths[] = { "/etc/passwd", "/dev/null",  "/szpool/6",
					     "/szpool/-1",  "/szpool/",   "/szpool/1 ",
					     "szpool/1",    "/szpool/64", "/szpool/0x1",
					     "/szpool/1/1", "/szpool",    "" };
	struct opened opened = { 0 };

	pool_open(&opened, false);
	for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
		nvlist_t *root = leaf_root(paths[i]);

		NEED(spa_vdev_add(sz_pool_spa(opened.pool), root, B_FALSE) != 0);
		nvlist_free(root);
	}
	need_online_without_io_errors(&opened);
	pool_close(&opened);
}

/* A file's data goes to the leaf as it lies in ZFS's buffers: each is in one piece. */
static void buffers_in_one_piece(void)
{
	struct opened opened = { 0 };
	abd_t *buffer;

	pool_open(&opened, false);
	buffer = abd_alloc(SPA_OLD_MAXBLOCKSIZE, B_FALSE);
	NEED(abd_is_linear(buffer));
	abd_free(buffer);
	pool_close(&opened);
}

static void test_buffers_are_in_one_piece(void **state)
{
	(void)state;
	step(make_filled);
	step(buffers_in_one_piece);
}

static void test_paths_that_are_no_device_are_refused(void **state)
{
	(void)state;
	step(make_filled);
	step(foreign_paths);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_damage_on_two_devices_is_healed),
		CASE(test_a_file_lost_for_good_is_named),
		CASE(test_a_device_that_fails_and_recovers),
		CASE(test_a_full_disk_is_waited_for),
		CASE(test_a_full_disk_suspends_and_loses_nothing),
		CASE(test_a_suspended_pool_goes_on_when_cleared),
		CASE(test_a_suspended_pool_is_left_behind),
		CASE(test_what_a_failed_flush_lost_is_resilvered),
		CASE(test_unchecked_reads_of_damage_fail),
		CASE(test_paths_that_are_no_device_are_refused),
		CASE(test_buffers_are_in_one_piece),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
