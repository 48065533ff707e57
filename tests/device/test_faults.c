/*
 * Operations that fail: each one of a history, once or from then on, with EIO or ENOSPC. What was
 * flushed is there after the next opening, whatever failed; errors are told, and stay where that is
 * promised; nothing that failed to be read is taken for damage.
 */
#include "harness.h"

#include <inttypes.h>

#define RUNS    12U /* of each case, at most, if SZ_TEST_SCALE is 1 */

#define READING (SZ_OP_LIST | SZ_OP_OPEN | SZ_OP_READ)

static const struct shape shape = { .devices = 3, .sectors = 1024, .band_sectors = 256 };

struct fault {
	unsigned int mask;
	int error;
	bool from;
	bool tear;
	bool passes; /* with from: until an operation has failed because of it */
};

static bool fault_passes; /* the fault at hand does */

/* A failed device fails everything; another one does not have a failed operation behind it. */
static void check_state(struct harness *harness, uint32_t device)
{
	struct sz_device *handle = sz_store_device(harness->store, device);

	if (sz_device_state(handle) != SZ_DEVICE_FAILED)
		return;
	assert_int_not_equal(sz_device_write(handle, 0, 1, harness->buffer), 0);
	assert_int_not_equal(sz_device_read(handle, 0, 1, harness->buffer), 0);
	assert_int_not_equal(sz_device_trim(handle, 0, 1), 0);
	assert_int_not_equal(sz_device_flush(handle), 0);
}

static bool is_failed(struct harness *harness, uint32_t device)
{
	return sz_device_state(sz_store_device(harness->store, device)) == SZ_DEVICE_FAILED;
}

static void told(struct harness *harness, int rc)
{
	if (rc != 0 && fault_passes)
		harness->plan = (struct sz_fault_plan){ 0 };
}

/* A flush that fails leaves the device failed, for all to see. */
static void flush_and_tell(struct harness *harness, uint32_t device)
{
	int rc = harness_flush(harness, device);

	if (rc != 0)
		assert_true(is_failed(harness, device));
	told(harness, rc);
}

/* Of everything a little; goes on after errors, as ZFS does. */
static void work(struct harness *harness)
{
	for (unsigned int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < shape.devices; i++) {
			told(harness, harness_write(harness, i, 256 * round, 200));
			told(harness, harness_write(harness, i, 300 + 7 * round, 5));
			told(harness, harness_write(harness, i, 20 * round, 6));
			told(harness, harness_trim(harness, i, 310 + round, 3));
		}
		for (uint32_t i = 0; i < shape.devices; i++)
			flush_and_tell(harness, i);
		told(harness, harness_write(harness, 1, 700, 30));
		if (round == 0)
			told(harness, harness_seal(harness));
		else if (round == 1)
			told(harness, harness_compact(harness));
	}
}

/* How many operations of these kinds the history has. */
static uint64_t count_operations(const struct fault *fault, uint64_t seed)
{
	struct harness harness;
	uint64_t count;

	harness_init(&harness, &shape, seed);
	harness_open_clean(&harness);
	harness.plan = (struct sz_fault_plan){ .mask = fault->mask };
	work(&harness);
	count = harness.plan.count;
	harness.plan = (struct sz_fault_plan){ 0 };
	OK(harness_close(&harness));
	harness_fini(&harness);
	return count;
}

static void run_one(const struct fault *fault, uint64_t at, uint64_t seed)
{
	struct harness harness;

	harness_init(&harness, &shape, seed);
	harness_open_clean(&harness);
	fault_passes = fault->passes;
	harness.plan = (struct sz_fault_plan){ .mask = fault->mask,
					       .fail_at = at,
					       .fail_from = fault->from,
					       .error = fault->error,
					       .tear = fault->tear };
	work(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		check_state(&harness, i);
	assert_int_equal(harness_damage(&harness, true), 0);
	if (!fault->from)
		harness.plan = (struct sz_fault_plan){ 0 };
	if (at % 2 == 0)
		(void)!harness_close(&harness);
	else
		harness_abandon(&harness);
	harness.plan = (struct sz_fault_plan){ 0 };
	if (at % 4 < 2)
		harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check_recovered(&harness);
	harness_check_names(&harness);
	OK(harness_write(&harness, 0, 0, 300));
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Which operation fails in the run at hand; 0: none. */
static uint64_t current;

static int report(void **state)
{
	(void)state;
	if (current != 0)
		print_message("# operation %" PRIu64 " was to fail\n", current);
	current = 0;
	return 0;
}

static void run(const struct fault *fault)
{
	uint64_t seed = chance_seed("fault");
	uint64_t count = count_operations(fault, seed);
	/* A flush on a full disk waits for space. */
	uint64_t runs =
		DIV_ROUND_UP((fault->from && fault->error == -ENOSPC ? 1 : RUNS) * test_scale(),
			     test_thinning());
	uint64_t step = DIV_ROUND_UP(count, runs);

	assert_true(count > 0);
	for (current = 1 + seed % step; current <= count; current += step)
		run_one(fault, current, seed);
	current = 0;
}

static void test_a_write_fails(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_WRITE, .error = -EIO });
	run(&(struct fault){ .mask = SZ_OP_WRITE, .error = -EIO, .tear = true });
}

static void test_a_sync_fails(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_SYNC, .error = -EIO });
	run(&(struct fault){ .mask = SZ_OP_SYNC_FOLDER, .error = -EIO });
}

static void test_a_change_of_names_fails(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_CREATE, .error = -EIO });
	run(&(struct fault){ .mask = SZ_OP_RENAME, .error = -EIO });
	run(&(struct fault){ .mask = SZ_OP_REMOVE, .error = -EIO });
}

static void test_the_disks_fail_from_some_time_on(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_CHANGES, .error = -EIO, .from = true, .tear = true });
}

/* So the store fails to clean up, too, and goes on. */
static void test_the_disks_fail_for_a_while(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE,
			     .error = -EIO,
			     .from = true,
			     .passes = true });
}

static void test_the_disks_fill_up_from_some_time_on(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_WRITE | SZ_OP_CREATE, .error = -ENOSPC, .from = true });
}

static void test_no_space_once(void **state)
{
	(void)state;
	run(&(struct fault){ .mask = SZ_OP_WRITE | SZ_OP_CREATE, .error = -ENOSPC });
}

/* A write without space fails alone: tried again when there is some, it works. */
static void test_no_space_fails_the_write_and_not_the_device(void **state)
{
	struct harness harness;
	unsigned int failures = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t device = i % shape.devices;
		uint32_t count = i % 3 == 0 ? 40 : 3;

		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_WRITE | SZ_OP_CREATE,
						       .fail_at = 1 + i % 2,
						       .error = -ENOSPC };
		for (unsigned int attempt = 0;; attempt++) {
			int rc = harness_write(&harness, device, 17 * i, count);

			if (rc == 0)
				break;
			assert_int_equal(rc, -ENOSPC);
			assert_true(attempt < 3);
			failures++;
			assert_false(is_failed(&harness, device));
		}
		harness.plan = (struct sz_fault_plan){ 0 };
		if (i % 5 == 0)
			OK(harness_flush(&harness, device));
	}
	assert_true(failures > 0);
	harness_check(&harness);
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static void write_until_done(struct harness *harness, uint32_t device, uint64_t sector,
			     uint32_t count)
{
	unsigned int attempts = 0;

	while (harness_write(harness, device, sector, count) != 0 && !is_failed(harness, device))
		assert_true(++attempts < 4);
}

/* The logs and the first band of an epoch: what fails is done again, and durable when it is flushed. */
static void test_a_beginning_that_fails(void **state)
{
	bool is_over = false;

	(void)state;
	for (current = 1; !is_over; current++) {
		struct harness harness;

		harness_init(&harness, &shape, current);
		harness_open_clean(&harness);
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						       .fail_at = current,
						       .error = current % 2 ? -EIO : -ENOSPC };
		write_until_done(&harness, 1, 300, 2);
		write_until_done(&harness, 0, 400, 40);
		for (uint32_t i = 0; i < shape.devices; i++)
			(void)!harness_flush(&harness, i);
		is_over = harness.plan.count < current;
		harness.plan = (struct sz_fault_plan){ 0 };
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, 0);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
	assert_true(current > 10);
	current = 0;
}

/* FLUSH that fails is told, stays, and is the affair of that device. */
static void test_a_failed_sync_stays_failed(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	OK(harness_write(&harness, 0, 300, 4));
	OK(harness_write(&harness, 1, 300, 4));
	harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_SYNC, .fail_at = 1, .error = -EIO };
	assert_int_equal(harness_flush(&harness, 0), -EIO);
	harness.plan = (struct sz_fault_plan){ 0 };
	assert_true(is_failed(&harness, 0));
	check_state(&harness, 0);
	assert_int_not_equal(harness_flush(&harness, 0), 0);
	assert_false(is_failed(&harness, 1));
	OK(harness_flush(&harness, 1));
	assert_int_not_equal(harness_close(&harness), 0); /* it is never sealed as good */
	harness_open_clean(&harness);
	harness_check_recovered(&harness);
	OK(harness_write(&harness, 0, 300, 4));
	OK(harness_flush(&harness, 0));
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A store with bands, deltas, a hot image, and a live epoch if it is to be recovered. */
static void prepare(struct harness *harness, bool with_live)
{
	harness_init(harness, &shape, 5);
	harness_open_clean(harness);
	work(harness);
	if (with_live)
		harness_abandon(harness);
	else
		OK(harness_close(harness));
}

/* An opening that fails says what failed, and never that something is damaged. */
static void open_with_fault(struct harness *harness, const struct fault *fault, uint64_t at)
{
	int rc;

	harness->plan = (struct sz_fault_plan){
		.mask = fault->mask, .fail_at = at, .fail_from = fault->from, .error = fault->error
	};
	rc = harness_try_open(harness, at % 3 == 0);
	if (rc == 0) {
		assert_int_equal(harness_damage(harness, true), 0);
		for (uint32_t i = 0; i < shape.devices && fault->mask == READING; i++)
			assert_int_equal(sz_device_state(sz_store_device(harness->store, i)),
					 SZ_DEVICE_ONLINE);
		harness_abandon(harness);
	} else {
		assert_true(rc == fault->error || rc == -EIO);
		assert_true(harness->error.text[0] != '\0');
	}
	harness->plan = (struct sz_fault_plan){ 0 };
	harness_open_clean(harness);
	harness_check_recovered(harness);
	harness_abandon(harness);
	harness_check_names(harness);
}

static void open_with_faults(const struct fault *fault, bool with_live)
{
	struct harness harness;
	uint64_t seed = chance_seed("opening");
	uint64_t count;
	uint64_t step;

	prepare(&harness, with_live);
	harness.plan = (struct sz_fault_plan){ .mask = fault->mask };
	OK(harness_try_open(&harness, true));
	harness_abandon(&harness);
	count = harness.plan.count;
	harness_fini(&harness);
	step = DIV_ROUND_UP(count, (fault->from ? RUNS / 4 : RUNS / 2) * test_scale()) *
	       test_thinning();
	for (current = 1 + seed % step; current <= count; current += step) {
		prepare(&harness, with_live);
		open_with_fault(&harness, fault, current);
		harness_fini(&harness);
	}
	current = 0;
}

static void test_openings_that_cannot_read(void **state)
{
	(void)state;
	for (unsigned int with_live = 0; with_live < 2; with_live++) {
		open_with_faults(&(struct fault){ .mask = READING, .error = -EIO }, with_live);
		open_with_faults(&(struct fault){ .mask = READING, .error = -EIO, .from = true },
				 with_live);
		open_with_faults(&(struct fault){ .mask = READING, .error = -EACCES, .from = true },
				 with_live);
	}
}

/* Recoveries that cannot write what they found. */
static void test_openings_that_cannot_write(void **state)
{
	static const struct fault faults[] = {
		{ .mask = SZ_OP_CHANGES, .error = -EIO },
		{ .mask = SZ_OP_CHANGES, .error = -EIO, .from = true },
		{ .mask = SZ_OP_WRITE | SZ_OP_CREATE, .error = -ENOSPC, .from = true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++) {
		for (current = 1; current <= 150; current += 1 + 14 / test_scale()) {
			struct harness harness;

			prepare(&harness, true);
			open_with_fault(&harness, &faults[i], current);
			harness_fini(&harness);
		}
	}
	current = 0;
}

/* A read that fails is no damage, and is forgotten when it works again. */
static unsigned int read_some(struct harness *harness, uint32_t step)
{
	unsigned int failures = 0;

	for (uint32_t i = 0; i < shape.devices; i++) {
		for (uint32_t at = 0; at + 64 <= shape.sectors; at += step) {
			int rc = sz_device_read(sz_store_device(harness->store, i), at, 64,
						harness->buffer);

			assert_true(rc == 0 || rc == -EIO);
			failures += rc != 0;
		}
	}
	return failures;
}

static void test_reads_that_fail_are_not_damage(void **state)
{
	struct harness harness;

	(void)state;
	prepare(&harness, false);
	for (current = 1; current <= 24; current++) {
		bool from = current % 4 == 1;
		unsigned int failures;

		harness_open_clean(&harness);
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_OPEN | SZ_OP_READ,
						       .fail_at = current,
						       .fail_from = from,
						       .error = -EIO };
		failures = read_some(&harness, from ? 300 : 64);
		if (current == 1)
			assert_true(failures > 0);
		harness.plan = (struct sz_fault_plan){ 0 };
		assert_int_equal(harness_damage(&harness, true), 0);
		harness_check(&harness);
		OK(harness_close(&harness));
	}
	current = 0;
	harness_fini(&harness);
}

/* A creation that fails is told; what it leaves is no store. */
static void test_a_creation_that_fails_is_no_store(void **state)
{
	bool is_over = false;

	(void)state;
	for (current = 1; !is_over; current++) {
		struct harness harness;
		int created;
		int opened;

		harness_init_empty(&harness, &shape, 1);
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						       .fail_at = current,
						       .fail_from = true,
						       .error = current % 2 ? -EIO : -EDQUOT };
		created = harness_create(&harness);
		is_over = harness.plan.count < current;
		if (created != -EIO && created != 0)
			assert_int_equal(created, harness.plan.error);
		harness.plan = (struct sz_fault_plan){ 0 };
		opened = harness_try_open(&harness, false);
		if (opened == 0) {
			harness_check(&harness);
			OK(harness_close(&harness));
		} else { /* the first durable root makes it a store, the last one failing or not */
			assert_true(opened == -ENODATA || opened == -EBADMSG);
			assert_int_not_equal(created, 0);
		}
		harness_fini(&harness);
	}
	assert_true(current > 10);
	current = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_write_fails, report),
		cmocka_unit_test_teardown(test_a_sync_fails, report),
		cmocka_unit_test_teardown(test_a_change_of_names_fails, report),
		cmocka_unit_test_teardown(test_the_disks_fail_from_some_time_on, report),
		cmocka_unit_test_teardown(test_the_disks_fail_for_a_while, report),
		cmocka_unit_test_teardown(test_the_disks_fill_up_from_some_time_on, report),
		cmocka_unit_test_teardown(test_no_space_once, report),
		cmocka_unit_test(test_no_space_fails_the_write_and_not_the_device),
		cmocka_unit_test_teardown(test_a_beginning_that_fails, report),
		cmocka_unit_test(test_a_failed_sync_stays_failed),
		cmocka_unit_test_teardown(test_openings_that_cannot_read, report),
		cmocka_unit_test_teardown(test_openings_that_cannot_write, report),
		cmocka_unit_test_teardown(test_reads_that_fail_are_not_damage, report),
		cmocka_unit_test_teardown(test_a_creation_that_fails_is_no_store, report),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
