/*
 * The device against the model: thousands of random operations in stores of several shapes, with
 * seals, closings, and openings after the process went away without a word. What is read is always
 * what was written; no byte of a file is written twice; no sealed name has two contents.
 */
#include "harness.h"

#include <inttypes.h>

static const struct shape six = { .devices = 6, .sectors = 2048, .band_sectors = 256 };
static const struct shape three = { .devices = 3, .sectors = 1088, .band_sectors = 256 };
/* More bands than may be open at once. */
static const struct shape one = { .devices = 1, .sectors = 48 * 256, .band_sectors = 256 };

static void steps(struct harness *harness, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		OK(harness_step(harness));
		if (chance_below(&harness->chance, 60) == 0)
			OK(harness_free(harness));
	}
}

static void reopen(struct harness *harness, bool properly)
{
	struct live_files files;

	if (properly)
		OK(harness_close(harness));
	else
		harness_abandon(harness);
	harness_check_names(harness);
	files = harness_files(harness);
	harness_open_clean(harness);
	if (properly)
		harness_check(harness);
	else
		harness_check_recovered(harness);
	harness_check_not_grown(harness, &files);
}

static void run(const struct shape *shape, uint64_t rounds, unsigned int round_steps)
{
	struct harness harness;

	harness_init(&harness, shape, chance_seed("model"));
	harness_open_clean(&harness);
	harness_check(&harness);
	for (uint64_t i = 0; i < rounds * test_scale(); i++) {
		steps(&harness, round_steps);
		harness_check(&harness);
		reopen(&harness, chance_below(&harness.chance, 2) == 0);
	}
	OK(harness_close(&harness));
	harness_check_names(&harness);
	harness_fini(&harness);
}

static void test_six_devices(void **state)
{
	(void)state;
	run(&six, 5, 100);
}

static void test_three_devices(void **state)
{
	(void)state;
	run(&three, 10, 50);
}

static void test_one_device_of_many_bands(void **state)
{
	(void)state;
	run(&one, 3, 150);
}

/* Without a reopening in between: the store's memory, and seals of seals. */
static void test_one_long_opening(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &three, chance_seed("long"));
	harness_open_clean(&harness);
	steps(&harness, 800);
	harness_check(&harness);
	harness_check_names(&harness);
	/* Both ways of reading were gone, each often enough to say something. */
	assert_true(harness.cached_reads > harness.reads / 10);
	assert_true(harness.cached_reads < harness.reads - harness.reads / 10);
	reopen(&harness, true);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Read-only: everything is there, a live epoch too, and nothing is changed. */
static void test_a_read_only_opening_changes_nothing(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &three, chance_seed("read-only"));
	for (unsigned int i = 0; i < 10; i++) {
		harness_open_clean(&harness);
		steps(&harness, 40);
		if (i % 2 == 0)
			harness_abandon(&harness);
		else
			OK(harness_close(&harness));
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES };
		OK(harness_try_open(&harness, true));
		assert_true(sz_store_is_read_only(harness.store));
		harness_check_recovered(&harness);
		assert_int_equal(harness_damage(&harness, true), 0);
		assert_int_equal(
			sz_device_write(sz_store_device(harness.store, 0), 0, 1, harness.buffer),
			-EROFS);
		assert_int_equal(sz_device_trim(sz_store_device(harness.store, 0), 0, 1), -EROFS);
		OK(harness_close(&harness));
		assert_int_equal(harness.plan.count, 0);
		harness.plan = (struct sz_fault_plan){ 0 };
		harness_open_clean(&harness); /* and it says the same as the writable one */
		harness_check(&harness);
		OK(harness_close(&harness));
	}
	harness_fini(&harness);
}

/* A seal without a write in between makes no generation and no file. */
static void test_a_seal_of_nothing_is_nothing(void **state)
{
	struct harness harness;
	struct sz_store_info before;
	struct sz_store_info after;

	(void)state;
	harness_init(&harness, &three, 1);
	harness_open_clean(&harness);
	sz_store_info(harness.store, &before);
	assert_int_equal(before.generation, 1);
	OK(harness_seal(&harness));
	sz_store_info(harness.store, &after);
	assert_int_equal(after.generation, 1);
	assert_string_equal(after.code, before.code);
	OK(harness_write(&harness, 1, 300, 2));
	OK(harness_seal(&harness));
	sz_store_info(harness.store, &before);
	assert_int_equal(before.generation, 2);
	assert_string_not_equal(after.code, before.code);
	OK(harness_seal(&harness));
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	sz_store_info(harness.store, &after);
	assert_int_equal(after.generation, 2);
	assert_string_equal(after.code, before.code);
	assert_false(after.recovered);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static void test_ranges_outside_the_device_are_refused(void **state)
{
	struct harness harness;
	struct sz_device *device;

	(void)state;
	harness_init(&harness, &three, 1);
	harness_open_clean(&harness);
	device = sz_store_device(harness.store, 2);
	assert_int_equal(sz_device_sectors(device), three.sectors);
	assert_int_equal(sz_device_read(device, three.sectors, 1, harness.buffer), -EINVAL);
	assert_int_equal(sz_device_read(device, three.sectors - 1, 2, harness.buffer), -EINVAL);
	assert_int_equal(sz_device_write(device, three.sectors - 1, 2, harness.buffer), -EINVAL);
	assert_int_equal(sz_device_write(device, UINT64_MAX, 2, harness.buffer), -EINVAL);
	assert_int_equal(sz_device_trim(device, 1, three.sectors), -EINVAL);
	assert_int_equal(sz_device_trim(device, 2, UINT64_MAX), -EINVAL);
	assert_int_equal(sz_device_state(device), SZ_DEVICE_ONLINE);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* TRIM of everything gives space back at a seal, and reads as zeros after it. */
static void test_a_trimmed_store_is_empty(void **state)
{
	struct harness harness;
	struct sz_store_info full;
	struct sz_store_info empty;

	(void)state;
	harness_init(&harness, &three, 1);
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < three.devices; i++) {
		for (uint32_t at = 0; at + 256 <= three.sectors; at += 256)
			OK(harness_write(&harness, i, at, 256));
	}
	OK(harness_seal(&harness));
	harness_check(&harness);
	sz_store_info(harness.store, &full);
	assert_true(full.stored_bytes > (uint64_t)three.devices * 1000 * SZ_SECTOR_BYTES);
	for (uint32_t i = 0; i < three.devices; i++)
		OK(harness_trim(&harness, i, 0, three.sectors));
	OK(harness_seal(&harness));
	harness_check(&harness);
	sz_store_info(harness.store, &empty);
	assert_true(empty.generation > full.generation);
	reopen(&harness, true);
	/* Written once more, where there was a band. */
	for (uint32_t i = 0; i < three.devices; i++)
		OK(harness_write(&harness, i, 200, 300));
	harness_check(&harness);
	reopen(&harness, true);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_six_devices),
		cmocka_unit_test(test_three_devices),
		cmocka_unit_test(test_one_device_of_many_bands),
		cmocka_unit_test(test_one_long_opening),
		cmocka_unit_test(test_a_read_only_opening_changes_nothing),
		cmocka_unit_test(test_a_seal_of_nothing_is_nothing),
		cmocka_unit_test(test_ranges_outside_the_device_are_refused),
		cmocka_unit_test(test_a_trimmed_store_is_empty),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
