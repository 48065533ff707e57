/*
 * Importing: with devices lost, moved, copied and of another pool; read-only; and that a refused or a
 * read-only import writes nothing.
 */
#include "pools.h"

#include <errno.h>

static void device_lose(uint32_t device)
{
	devices->devices[device].state = SZ_DEVICE_MISSING;
}

static void device_return(uint32_t device)
{
	devices->devices[device].state = SZ_DEVICE_ONLINE;
}

/* The step that a refusal is: the code, words of the text, and nothing written. */
static void refused(int code, const char *const *words)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	uint64_t before = scripted_writes(devices);

	NEED(pool_import(&opened, false, &error) == code);
	for (; *words != NULL; words++) {
		if (strstr(error.text, *words) == NULL)
			(void)fprintf(stderr, "no '%s' in: %s\n", *words, error.text);
		NEED(strstr(error.text, *words) != NULL);
	}
	NEED(scripted_writes(devices) == before);
}

static void no_pool(void)
{
	refused(-ENODATA, (const char *const[]){ "there is no pool", NULL });
}

static void test_empty_devices_have_no_pool(void **state)
{
	(void)state;
	step(no_pool);
}

static void three_folders_missing(void)
{
	refused(-ENXIO,
		(const char *const[]){ "device 0 (its folder is missing)",
				       "device 2 (its folder is missing)",
				       "device 5 (its folder is missing)",
				       "of 6 devices 3 are there, and 4 are needed", NULL });
}

static void open_and_check(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	files_check(&opened);
	pool_close(&opened);
}

static void test_three_lost_devices_are_refused_and_named(void **state)
{
	(void)state;
	step(make_filled);
	device_lose(0);
	device_lose(2);
	device_lose(5);
	step(three_folders_missing);
	device_return(2);
	step(open_and_check);
}

static void all_missing(void)
{
	refused(-ENXIO, (const char *const[]){ "device 0 (its folder is missing)",
					       "device 5 (its folder is missing)", NULL });
}

static void test_all_devices_lost(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		device_lose(i);
	step(all_missing);
}

static void three_for_different_reasons(void)
{
	refused(-ENXIO, (const char *const[]){ "device 1 (its labels are lost)",
					       "device 3 (it is of another pool)",
					       "device 4 (it cannot be read now)", NULL });
}

/* Device 3 is of a pool that was made on other devices; 1 is empty; 4 has an error at the moment. */
static void test_each_device_has_its_reason(void **state)
{
	struct sz_store *other = devices;

	(void)state;
	step(make_filled);
	devices = scripted_make();
	step(make_filled);
	scripted_copy(&devices->devices[3], &other->devices[3]);
	scripted_free(other);
	scripted_clear(&devices->devices[1]);
	devices->devices[4].read_error = -EIO;
	step(three_for_different_reasons);
	devices->devices[4].read_error = 0;
	step(open_and_check);
}

static void copy_is_one_device_less(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;

	pool_open(&opened, false);
	files_check(&opened);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "DEGRADED") == 0);
	NEED(strcmp(status.vdevs[2 + 3].name, "device 3") == 0);
	NEED(strcmp(status.vdevs[2 + 3].state, "FAULTED") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

static void copy_is_missing(void)
{
	refused(-ENXIO, (const char *const[]){ "device 0 (its folder is missing)",
					       "device 3 (it is a copy of another device)", NULL });
}

static void test_a_copy_counts_once(void **state)
{
	(void)state;
	step(make_filled);
	scripted_copy(&devices->devices[3], &devices->devices[2]);
	step(copy_is_one_device_less);
	device_lose(0);
	device_lose(1);
	step(copy_is_missing);
}

static void all_online(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;

	pool_open(&opened, false);
	files_check(&opened);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0 && status.vdev_count == 2 + SCRIPTED_DEVICES);
	for (size_t i = 0; i < status.vdev_count; i++)
		NEED(strcmp(status.vdevs[i].state, "ONLINE") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

static void test_devices_in_another_order(void **state)
{
	(void)state;
	step(make_filled);
	scripted_exchange(&devices->devices[0], &devices->devices[5]);
	scripted_exchange(&devices->devices[1], &devices->devices[2]);
	step(all_online);
	scripted_exchange(&devices->devices[1], &devices->devices[5]);
	step(all_online);
}

static void read_only_writes_nothing(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	uint64_t before = scripted_writes(devices);

	pool_open(&opened, true);
	files_check(&opened);
	NEED(sz_pool_scrub_start(opened.pool, &error) == -EROFS);
	NEED(sz_pool_scan_wait(opened.pool, NULL, NULL, &error) == -EROFS);
	NEED(sz_fs_unlink(opened.fs, sz_fs_root(opened.fs), "file0") == -EROFS);
	pool_close(&opened);
	NEED(scripted_writes(devices) == before);
}

static void writable_import_is_refused(void)
{
	refused(-EROFS, (const char *const[]){ "read-only", NULL });
}

static void test_read_only_import_writes_nothing(void **state)
{
	(void)state;
	step(make_filled);
	devices->read_only = true;
	step(read_only_writes_nothing);
	step(writable_import_is_refused);
	device_lose(1);
	scripted_clear(&devices->devices[4]);
	step(read_only_writes_nothing);
}

static void more_files(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	for (unsigned int i = FILES; i < 2 * FILES; i++)
		file_write(&opened, i);
	pool_close(&opened);
}

static void resilver_is_shown(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	uint64_t before = scripted_writes(devices);

	pool_open(&opened, true);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(status.scan.resilver_needed && status.status_text[0] != '\0');
	NEED(strcmp(status.vdevs[2 + 1].state, "ONLINE") == 0);
	NEED(strcmp(status.vdevs[2 + 1].note, "resilver due") == 0);
	NEED(strcmp(status.vdevs[2 + 2].note, "") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
	NEED(scripted_writes(devices) == before);
}

static void resilver_is_waited_for(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status status;

	pool_open(&opened, false);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	sz_pool_scan_status(opened.pool, &status);
	NEED(status.kind == SZ_SCAN_RESILVER && status.state == SZ_SCAN_FINISHED);
	NEED(status.repaired_bytes > 0 && status.errors == 0 && !status.resilver_needed);
	scrub(&opened, &status);
	NEED(status.repaired_bytes == 0 && status.errors == 0);
	pool_close(&opened);
}

static void lost_again(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	for (unsigned int i = 0; i < 2 * FILES; i++)
		NEED(file_check(&opened, i) == 0);
	pool_close(&opened);
}

/* What was written while two devices were away is on them after the resilver: two others may go. */
static void test_returned_devices_are_resilvered(void **state)
{
	(void)state;
	step(make_filled);
	device_lose(0);
	device_lose(1);
	step(more_files);
	device_return(0);
	device_return(1);
	step(resilver_is_shown);
	step(resilver_is_waited_for);
	device_lose(4);
	device_lose(5);
	step(lost_again);
}

static void rebuild_empty(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_scan_status status;
	uint32_t rebuilt;

	pool_open(&opened, false);
	NEED_OK(sz_pool_rebuild(opened.pool, &rebuilt, &error), &error);
	NEED(rebuilt == 2);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	scrub(&opened, &status);
	NEED(status.repaired_bytes == 0 && status.errors == 0);
	pool_close(&opened);
}

static void rebuild_cut_short(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	uint32_t rebuilt;

	pool_open(&opened, false);
	NEED_OK(sz_pool_rebuild(opened.pool, &rebuilt, &error), &error);
	NEED(rebuilt == 1);
	_exit(0);
}

static void rebuild_goes_on(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };
	struct sz_pool_status status;
	struct sz_scan_status scan;
	uint32_t rebuilt;

	pool_open(&opened, false);
	NEED_OK(sz_pool_rebuild(opened.pool, &rebuilt, &error), &error);
	NEED_OK(sz_pool_scan_wait(opened.pool, NULL, NULL, &error), &error);
	scrub(&opened, &scan);
	NEED(scan.errors == 0 && scan.repaired_bytes == 0);
	NEED_OK(sz_pool_status(opened.pool, &status, &error), &error);
	NEED(strcmp(status.state, "ONLINE") == 0);
	sz_pool_status_free(&status);
	pool_close(&opened);
}

/* A rebuild that was cut short goes on; also if what it had written is lost again. */
static void test_an_interrupted_rebuild(void **state)
{
	(void)state;
	step(make_filled);
	scripted_clear(&devices->devices[2]);
	step(rebuild_cut_short);
	step(rebuild_goes_on);
	scripted_clear(&devices->devices[3]);
	step(rebuild_cut_short);
	scripted_clear(&devices->devices[3]);
	step(rebuild_goes_on);
	device_lose(0);
	device_lose(5);
	step(open_and_check);
}

static void test_emptied_devices_are_rebuilt(void **state)
{
	(void)state;
	step(make_filled);
	scripted_clear(&devices->devices[2]);
	scripted_clear(&devices->devices[3]);
	step(rebuild_empty);
	device_lose(0);
	device_lose(5);
	step(open_and_check);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_empty_devices_have_no_pool),
		CASE(test_three_lost_devices_are_refused_and_named),
		CASE(test_all_devices_lost),
		CASE(test_each_device_has_its_reason),
		CASE(test_a_copy_counts_once),
		CASE(test_devices_in_another_order),
		CASE(test_read_only_import_writes_nothing),
		CASE(test_returned_devices_are_resilvered),
		CASE(test_emptied_devices_are_rebuilt),
		CASE(test_an_interrupted_rebuild),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
