/*
 * Power cuts: before each change that a store makes on its disks, all disks are cut, by turns leaving
 * all, nothing, or some of what was not synced, whole or torn. Of every cut: it opens; all that was
 * flushed is there, of the rest the first part, and nothing else; nothing is reported as damaged; a
 * second opening is clean; the store can be used. Recoveries are cut as well.
 *
 * SZ_SEED repeats a history with its cuts, SZ_TEST_SCALE makes up more of them.
 */
#include "cutter.h"

#include <inttypes.h>

static const struct shape six = { .devices = 6, .sectors = 1024, .band_sectors = 256 };
static const struct shape three = { .devices = 3, .sectors = 1088, .band_sectors = 256 };
static const struct shape one = { .devices = 1, .sectors = 1024, .band_sectors = 256 };

static const struct sz_passphrase new_passphrase = { .bytes = "battery staple", .length = 14 };

/* Runs one history, or as many as SZ_TEST_SCALE says; each is repeated by its seed. */
static void repeat(void (*history)(const struct shape *, uint64_t seed), const struct shape *shape,
		   const char *what)
{
	uint64_t seed = chance_seed(what);

	for (uint64_t i = 0; i < test_scale(); i++)
		history(shape, seed + i);
}

static void report(const struct cutter *cutter, uint64_t seed)
{
	printf("# seed %" PRIu64 ": %" PRIu64 " changes, %" PRIu64 " cuts\n", seed,
	       cutter->operation, cutter->tried);
	assert_true(cutter->tried > 0);
}

/* Any operations, and openings of what an abandoned store leaves. */
static void any_history(const struct shape *shape, uint64_t seed)
{
	struct harness harness;
	struct cutter cutter;

	harness_init(&harness, shape, seed);
	cutter_begin(&cutter, &harness, seed, 8, true);
	harness_open_clean(&harness);
	for (unsigned int i = 1; i <= 45; i++) {
		OK(harness_step(&harness));
		if (i % 15 != 0)
			continue;
		if (chance_below(&harness.chance, 2) == 0)
			OK(harness_close(&harness));
		else
			harness_abandon(&harness);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
	}
	OK(harness_close(&harness));
	cutter_end(&cutter);
	report(&cutter, seed);
	harness_fini(&harness);
}

/* Every single change of two seals over a bit of everything: bands, deltas, hot area, TRIM. */
static void seal_history(const struct shape *shape, uint64_t seed)
{
	struct harness harness;
	struct cutter cutter;

	harness_init(&harness, shape, seed);
	harness_open_clean(&harness);
	for (unsigned int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < shape->devices; i++) {
			OK(harness_write(&harness, i, 256, 256));
			OK(harness_write(&harness, i, 512 + chance_below(&harness.chance, 100),
					 60));
			OK(harness_write(&harness, i, chance_below(&harness.chance, 100), 5));
			OK(harness_write(&harness, i, 300 + 10 * round, 3));
			OK(harness_trim(&harness, i, 330 + round, 9));
		}
		OK(harness_flush(&harness, 0));
		cutter_begin(&cutter, &harness, seed + round, 1, round == 1);
		OK(harness_seal(&harness));
		cutter_end(&cutter);
		report(&cutter, seed);
	}
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static void leave_free(struct harness *harness, uint64_t bytes)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		struct sz_space space;

		OK(sz_backend_space(harness->disks[i], &space));
		sz_memory_limit(harness->disks[i], space.total_bytes - space.free_bytes + bytes);
	}
}

/* Some seals that nobody cuts, then every change of one that merges their deltas, of freeing a short disk, of compaction. */
static void compaction_history(const struct shape *shape, uint64_t seed)
{
	struct harness harness;
	struct cutter cutter;

	harness_init(&harness, shape, seed);
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < shape->devices; i++)
		OK(harness_write(&harness, i, 256, 512));
	for (unsigned int round = 0; round < 16; round++) {
		bool is_cut = round == 11 || round == 13 || round == 15;

		for (uint32_t i = 0; i < shape->devices; i++) {
			OK(harness_write(&harness, i, 250 + 30 * (round % 8), 9));
			OK(harness_trim(&harness, i, 500 + 20 * (round % 8), 18));
		}
		if (is_cut)
			cutter_begin(&cutter, &harness, seed + round, 3, true);
		if (round == 13)
			leave_free(&harness, UINT64_C(100) << 20);
		OK(round == 15   ? harness_compact(&harness)
		   : round == 13 ? harness_free(&harness)
				 : harness_seal(&harness));
		if (is_cut) {
			cutter_end(&cutter);
			report(&cutter, seed);
		}
		if (round == 13)
			leave_free(&harness, UINT64_C(1) << 30);
	}
	harness_check(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A seal finds no space, sooner or later; what is written then, and the seal that takes it up, is cut. */
static void failed_seal_history(const struct shape *shape, uint64_t seed)
{
	for (uint64_t free_bytes = 0; free_bytes < 400000; free_bytes = 4096 + 2 * free_bytes) {
		struct harness harness;
		struct cutter cutter;
		int rc;

		harness_init(&harness, shape, seed + free_bytes);
		harness_open_clean(&harness);
		for (unsigned int round = 0; round < 2; round++) {
			for (uint32_t i = 0; i < shape->devices; i++) {
				OK(harness_write(&harness, i, 256, 120));
				OK(harness_write(&harness, i, 600 + 5 * round, 9));
				OK(harness_write(&harness, i, 3 * round, 2));
			}
			if (round == 0)
				OK(harness_seal(&harness));
		}
		OK(harness_flush(&harness, 0));
		leave_free(&harness, free_bytes);
		rc = harness_seal(&harness);
		assert_true(rc == 0 || rc == -ENOSPC);
		leave_free(&harness, UINT64_C(1) << 30);
		cutter_begin(&cutter, &harness, seed, 12, free_bytes % 3 == 0);
		OK(harness_write(&harness, 1, 604, 9));
		OK(harness_write(&harness, 0, 10, 2));
		OK(harness_flush(&harness, 1));
		OK(harness_write(&harness, 2, 700, 30));
		OK(harness_seal(&harness));
		OK(harness_write(&harness, 2, 710, 3));
		OK(harness_flush(&harness, 2));
		cutter_end(&cutter);
		harness_check(&harness);
		harness_check_names(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

static void test_a_seal_that_failed_is_taken_up(void **state)
{
	(void)state;
	repeat(failed_seal_history, &three, "failed seal");
}

static void test_every_change_of_a_compaction(void **state)
{
	(void)state;
	repeat(compaction_history, &three, "compaction");
}

static void test_six_devices(void **state)
{
	(void)state;
	repeat(any_history, &six, "six devices");
}

static void test_three_devices(void **state)
{
	(void)state;
	repeat(any_history, &three, "three devices");
}

static void test_one_device(void **state)
{
	(void)state;
	repeat(any_history, &one, "one device");
}

static void test_every_change_of_a_seal(void **state)
{
	(void)state;
	repeat(seal_history, &three, "seal");
}

/*
 * One device is flushed and no other was ever: the case in which what an idle device has not got on
 * its disk must not cost what another one has flushed.
 */
static void test_a_flush_of_one_device_alone(void **state)
{
	struct harness harness;
	struct cutter cutter;

	(void)state;
	for (uint32_t device = 0; device < three.devices; device++) {
		harness_init(&harness, &three, chance_seed("one flush"));
		harness_open_clean(&harness);
		cutter_begin(&cutter, &harness, device, 1, true);
		for (uint32_t i = 0; i < three.devices; i++)
			OK(harness_write(&harness, i, 200, 100));
		OK(harness_flush(&harness, device));
		OK(harness_write(&harness, (device + 1) % 3, 500, 4));
		OK(harness_flush(&harness, device));
		cutter_end(&cutter);
		for (unsigned int crash = SZ_CRASH_CLEAN; crash <= SZ_CRASH_TORN; crash++) {
			harness_abandon(&harness);
			harness_cut(&harness, (enum sz_crash)crash, 7);
			harness_open_clean(&harness);
			harness_check_recovered(&harness);
			OK(harness_write(&harness, device, 300, 20));
			OK(harness_flush(&harness, device));
		}
		harness_fini(&harness);
	}
}

/* Creation: what is left is no store, or a whole, empty one. */
static void open_created(struct cutter *cutter, struct harness *harness)
{
	int rc = harness_try_open(harness, false);
	bool *is_store = cutter->context;

	if (rc == -ENODATA || rc == -EBADMSG) /* nothing, or no root yet */
		return;
	OK(rc);
	*is_store = true;
	assert_int_equal(harness_damage(harness, true), 0);
	harness_check(harness);
	OK(harness_write(harness, 0, 0, 300));
	OK(harness_close(harness));
	harness_open_clean(harness);
	harness_check(harness);
}

static void test_every_change_of_a_creation(void **state)
{
	struct harness harness;
	struct cutter cutter;
	bool is_store = false;

	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		harness_init_empty(&harness, seed % 2 == 0 ? &six : &one, seed);
		cutter_begin(&cutter, &harness, seed, 1, false);
		cutter.try_cut = open_created;
		cutter.context = &is_store;
		OK(harness_create(&harness));
		cutter_end(&cutter);
		assert_true(cutter.tried > 0);
		harness_cut(&harness, SZ_CRASH_DROP, 0);
		harness_open_clean(&harness);
		harness_check(&harness);
		harness_fini(&harness);
	}
	assert_true(is_store);
}

/* A new passphrase: the old one opens the store, or the new one does. */
static int open_with(struct harness *harness, const struct sz_passphrase *passphrase)
{
	struct sz_backend *backends[MODEL_DEVICES_MAX];
	size_t count = harness_wrap(harness, backends);

	return sz_store_open_on(backends, count, NULL, passphrase, &harness->store,
				&harness->error);
}

static void open_with_either(struct cutter *cutter, struct harness *harness)
{
	int rc = open_with(harness, &test_passphrase);

	(void)cutter;
	if (rc == -EKEYREJECTED)
		rc = open_with(harness, &new_passphrase);
	OK(rc);
	assert_int_equal(harness_damage(harness, true), 0);
	harness_check_recovered(harness);
	OK(harness_close(harness));
}

static void test_every_change_of_a_new_passphrase(void **state)
{
	struct harness harness;
	struct cutter cutter;

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		harness_init(&harness, seed % 2 == 0 ? &three : &one, seed);
		harness_open_clean(&harness);
		OK(harness_write(&harness, 0, 100, 300));
		if (seed >= 3)
			OK(harness_seal(&harness));
		cutter_begin(&cutter, &harness, seed, 1, false);
		cutter.try_cut = open_with_either;
		OK(sz_store_change_passphrase(harness.store, &new_passphrase, SZ_KDF_TEST,
					      &harness.error));
		cutter_end(&cutter);
		assert_true(cutter.tried > 0);
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, 0);
		assert_int_equal(open_with(&harness, &test_passphrase), -EKEYREJECTED);
		OK(open_with(&harness, &new_passphrase));
		harness_check(&harness);
		harness_check_names(&harness);
		harness_fini(&harness);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_every_change_of_a_creation, cutter_report),
		cmocka_unit_test_teardown(test_a_flush_of_one_device_alone, cutter_report),
		cmocka_unit_test_teardown(test_every_change_of_a_seal, cutter_report),
		cmocka_unit_test_teardown(test_a_seal_that_failed_is_taken_up, cutter_report),
		cmocka_unit_test_teardown(test_every_change_of_a_compaction, cutter_report),
		cmocka_unit_test_teardown(test_every_change_of_a_new_passphrase, cutter_report),
		cmocka_unit_test_teardown(test_three_devices, cutter_report),
		cmocka_unit_test_teardown(test_one_device, cutter_report),
		cmocka_unit_test_teardown(test_six_devices, cutter_report),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
