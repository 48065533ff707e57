/* Properties: what creation takes, what it refuses, and that a file system without checksums is not opened. */
#include "pools.h"

#include "engine/pool_zfs.h"

#include <errno.h>

static void create_with(const char *name, const char *value, int expected, const char *word)
{
	const struct sz_property property = { .name = name, .value = value };
	struct sz_pool *pool = NULL;
	struct sz_error error = { 0 };
	uint64_t before = scripted_writes(devices);
	int result = sz_pool_create(devices, SZ_RAID_Z2, &property, 1, &pool, &error);

	if (result != expected)
		(void)fprintf(stderr, "%s=%s: %d %s\n", name, value, result, error.text);
	NEED(result == expected);
	if (result == 0) {
		NEED_OK(sz_pool_export(pool, &error), &error);
		return;
	}
	if (strstr(error.text, word) == NULL)
		(void)fprintf(stderr, "no '%s' in: %s\n", word, error.text);
	NEED(strstr(error.text, word) != NULL);
	NEED(scripted_writes(devices) == before);
}

/* Known only to the pool that was made meanwhile, and is destroyed. */
static void create_with_too_little(const char *name)
{
	const struct sz_property property = { .name = name, .value = "1K" };
	struct sz_pool *pool = NULL;
	struct sz_error error = { 0 };

	NEED(sz_pool_create(devices, SZ_RAID_Z2, &property, 1, &pool, &error) == -EINVAL);
	NEED(strstr(error.text, name) != NULL && strstr(error.text, "1024 is less") != NULL);
}

static void refusals(void)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	create_with("checksum", "off", -EINVAL, "checksum=off is refused");
	create_with("checksum", "noparity", -EINVAL, "checksum=noparity is refused");
	create_with("checksum", "md5", -EINVAL, "no value");
	create_with("no-such-thing", "1", -EINVAL, "no-such-thing");
	create_with("recordsize", "100", -EINVAL, "recordsize");
	create_with("recordsize", "32M", -EINVAL, "recordsize");
	create_with("recordsize", "many", -EINVAL, "no number");
	create_with("encryption", "on", -EINVAL, "encrypted already");
	create_with("used", "1", -EINVAL, "cannot be set");
	create_with("health", "ONLINE", -EINVAL, "cannot be set");
	create_with("exec", "off", -EINVAL, "these can: autotrim, comment, atime");
	create_with("multihost", "on", -EINVAL, "'multihost' cannot be set");
	create_with("reservation", "10M", -EINVAL, "'reservation' cannot be set");
	create_with("readonly", "on", -EINVAL, "'readonly=on' is not possible");
	create_with("ashift", "9", -EINVAL, "it is always 12");
	create_with("ashift", "13", -EINVAL, "it is always 12");
	create_with("version", "4", -EINVAL, "it is always 5");
	create_with("acltype", "off", -EINVAL, "it is always posix");
	create_with("casesensitivity", "mixed", -EINVAL, "it is always sensitive");
	create_with("comment", "more than the 31 bytes that ZFS has for it", -EINVAL, "31 bytes");
	create_with("version", "5", 0, NULL);
	create_with("compression", "zstd", 0, NULL);
}

static void test_properties_of_a_new_pool(void **state)
{
	(void)state;
	step(refusals);
}

static void too_few(void)
{
	struct sz_pool *pool = NULL;
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	devices->count = 3;
	NEED(sz_pool_create(devices, SZ_RAID_Z3, NULL, 0, &pool, &error) == -EINVAL);
	NEED(strstr(error.text, "at least 4") != NULL);
	devices->count = SCRIPTED_DEVICES;
	devices->read_only = true;
	NEED(sz_pool_create(devices, SZ_RAID_Z2, NULL, 0, &pool, &error) == -EROFS);
	devices->read_only = false;
	NEED(scripted_writes(devices) == 0);
}

static void test_too_few_devices_and_read_only(void **state)
{
	(void)state;
	step(too_few);
}

static void quotas(void)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	create_with_too_little("quota");
	create_with_too_little("refquota");
}

static void test_a_quota_that_holds_nothing_is_refused(void **state)
{
	(void)state;
	step(quotas);
}

static void read_only_on(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	NEED(dsl_prop_set_int(SZ_POOL_NAME, "readonly", ZPROP_SRC_LOCAL, 1) == 0);
	pool_close(&opened);
}

static void read_only_is_kept_to(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	NEED_OK(pool_import(&opened, false, &error), &error);
	NEED(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error) == -EROFS);
	NEED(strstr(error.text, "readonly=on") != NULL);
	NEED_OK(sz_fs_open(opened.pool, NULL, true, &opened.fs, &error), &error);
	files_check(&opened);
	pool_close(&opened);
}

/* As another program could set it. */
static void test_a_file_system_that_is_read_only_is_not_written_to(void **state)
{
	(void)state;
	step(make_filled);
	step(read_only_on);
	step(read_only_is_kept_to);
}

static void checksums_off(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	NEED(dsl_prop_set_int(SZ_POOL_NAME, "checksum", ZPROP_SRC_LOCAL, ZIO_CHECKSUM_OFF) == 0);
	pool_close(&opened);
}

static void checksums_off_is_refused(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	NEED_OK(pool_import(&opened, false, &error), &error);
	NEED(sz_fs_open(opened.pool, NULL, true, &opened.fs, &error) == -EINVAL);
	NEED(strstr(error.text, "checksum=off") != NULL);
	NEED(dsl_prop_set_int(SZ_POOL_NAME, "checksum", ZPROP_SRC_LOCAL, ZIO_CHECKSUM_ON) == 0);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	files_check(&opened);
	pool_close(&opened);
}

/* As another program could set it. */
static void test_a_file_system_without_checksums_is_not_opened(void **state)
{
	(void)state;
	step(make_filled);
	step(checksums_off);
	step(checksums_off_is_refused);
}

/* Each kind of redundancy: loses as many devices as it may, and one more. */
static enum sz_raid raid;

static void raid_make(void)
{
	struct opened opened = { 0 };

	pool_make(&opened, raid);
	files_write(&opened);
	pool_close(&opened);
}

static void raid_check(void)
{
	struct opened opened = { 0 };

	pool_open(&opened, false);
	files_check(&opened);
	pool_close(&opened);
}

static void raid_refuse(void)
{
	struct opened opened = { 0 };
	struct sz_error error = { 0 };

	NEED(pool_import(&opened, false, &error) == -ENXIO);
	NEED(strstr(error.text, "device 0 (its folder is missing)") != NULL);
}

static void test_each_redundancy_loses_what_it_may(void **state)
{
	static const char *const names[] = { "stripe", "mirror", "raidz1", "raidz2", "raidz3" };

	(void)state;
	for (size_t n = 0; n < ARRAY_LENGTH(names); n++) {
		uint32_t parity;

		assert_true(sz_raid_parse(names[n], &raid));
		parity = sz_raid_parity(raid, SCRIPTED_DEVICES);
		for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
			scripted_clear(&devices->devices[i]);
		step(raid_make);
		for (uint32_t i = 0; i < parity; i++)
			devices->devices[i].state = SZ_DEVICE_MISSING;
		step(raid_check);
		devices->devices[parity].state = SZ_DEVICE_MISSING;
		step(raid_refuse);
		for (uint32_t i = 0; i <= parity; i++)
			devices->devices[i].state = SZ_DEVICE_ONLINE;
	}
	assert_false(sz_raid_parse("raidz4", &raid));
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_properties_of_a_new_pool),
		CASE(test_a_quota_that_holds_nothing_is_refused),
		CASE(test_too_few_devices_and_read_only),
		CASE(test_a_file_system_that_is_read_only_is_not_written_to),
		CASE(test_a_file_system_without_checksums_is_not_opened),
		CASE(test_each_redundancy_loses_what_it_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
