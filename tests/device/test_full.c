/*
 * A full disk: writes fail with ENOSPC and nothing else happens; what was flushed is there, now and
 * after an opening that has no more space than before; with some space back the store goes on.
 */
#include "harness.h"

#include <inttypes.h>

static const struct shape shape = { .devices = 3, .sectors = 1280, .band_sectors = 256 };

/* Leaves so many bytes free on each disk, from now on. */
static void leave_free(struct harness *harness, uint64_t bytes)
{
	for (uint32_t i = 0; i < shape.devices; i++) {
		uint64_t free_bytes;
		uint64_t total;

		OK(sz_backend_space(harness->disks[i], &free_bytes, &total));
		sz_memory_limit(harness->disks[i], total - free_bytes + bytes);
	}
}

static void give_all(struct harness *harness)
{
	leave_free(harness, UINT64_C(1) << 30);
}

static void begin(struct harness *harness, uint64_t seed)
{
	harness_init(harness, &shape, seed);
	harness_open_clean(harness);
	for (uint32_t i = 0; i < shape.devices; i++) {
		OK(harness_write(harness, i, 256, 256));
		OK(harness_write(harness, i, 30, 7));
	}
	OK(harness_seal(harness));
	for (uint32_t i = 0; i < shape.devices; i++) {
		OK(harness_write(harness, i, 512, 100));
		OK(harness_write(harness, i, 300, 4));
	}
	OK(harness_flush_all(harness));
}

/* Writes until each device has refused three times, with nothing but ENOSPC. */
static void fill(struct harness *harness)
{
	for (uint32_t i = 0; i < shape.devices; i++) {
		unsigned int refused = 0;

		for (unsigned int j = 0; j < 2000 && refused < 3; j++) {
			uint32_t count = j % 3 == 0 ? 60 : 4;
			uint64_t sector = chance_below(&harness->chance, shape.sectors - count);
			int rc = harness_write(harness, i, sector, count);

			if (rc != 0)
				assert_int_equal(rc, -ENOSPC);
			refused += rc != 0;
		}
		assert_int_equal(refused, 3);
	}
}

static void check_online(struct harness *harness)
{
	for (uint32_t i = 0; i < shape.devices; i++)
		assert_int_equal(sz_device_state(sz_store_device(harness->store, i)),
				 SZ_DEVICE_ONLINE);
}

static void test_writes_go_on_when_there_is_space_again(void **state)
{
	struct harness harness;

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		begin(&harness, seed);
		leave_free(&harness, seed * 300000);
		fill(&harness);
		check_online(&harness);
		harness_check(&harness);
		give_all(&harness);
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 290, 30));
			OK(harness_write(&harness, i, 800, 100));
		}
		OK(harness_flush_all(&harness));
		harness_check(&harness);
		if (seed % 2 == 0)
			OK(harness_close(&harness));
		else
			harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, 0);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* Nothing free at all: it is closed, or its process dies; it is looked at, and opened later. */
static void test_nothing_flushed_is_lost(void **state)
{
	struct harness harness;

	(void)state;
	for (unsigned int run = 0; run < 4; run++) {
		int rc;

		begin(&harness, run);
		leave_free(&harness, run / 2 * 200000);
		if (run >= 2)
			fill(&harness);
		leave_free(&harness, 0);
		if (run % 2 == 0)
			(void)!harness_close(&harness);
		else
			harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, 0);
		leave_free(&harness, 0);
		OK(harness_try_open(&harness, true));
		assert_int_equal(harness_damage(&harness, true), 0);
		harness_check_prefix(&harness);
		OK(harness_close(&harness));
		rc = harness_try_open(&harness, false); /* a recovery may need space to seal */
		assert_true(rc == 0 || rc == -ENOSPC);
		if (rc == 0) {
			harness_check_prefix(&harness);
			harness_abandon(&harness);
		} else {
			assert_true(harness.error.text[0] != '\0');
		}
		give_all(&harness);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		OK(harness_write(&harness, 0, 700, 90));
		OK(harness_close(&harness));
		harness_open_clean(&harness);
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* A seal that finds no space fails; the store can be used, and sealed later. */
static void test_a_seal_without_space(void **state)
{
	struct harness harness;
	int rc;

	(void)state;
	begin(&harness, 1);
	leave_free(&harness, 8192);
	rc = harness_seal(&harness);
	assert_int_equal(rc, -ENOSPC);
	assert_true(harness.error.text[0] != '\0');
	check_online(&harness);
	harness_check(&harness);
	give_all(&harness);
	OK(harness_write(&harness, 1, 310, 20));
	OK(harness_write(&harness, 1, 640, 100)); /* in a band that is being sealed */
	OK(harness_write(&harness, 2, 540, 30));
	OK(harness_flush_all(&harness));
	harness_check(&harness);
	OK(harness_seal(&harness));
	harness_check(&harness);
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* No space for a store at all: that is said, and what is there is none. */
static void test_a_creation_without_space(void **state)
{
	struct harness harness;

	(void)state;
	for (uint64_t bytes = 0; bytes <= 20480; bytes += 4096) {
		int rc;

		harness_init_empty(&harness, &shape, 1);
		for (uint32_t i = 0; i < shape.devices; i++)
			sz_memory_limit(harness.disks[i], bytes);
		assert_int_equal(harness_create(&harness), -ENOSPC);
		assert_true(harness.error.text[0] != '\0');
		give_all(&harness);
		rc = harness_try_open(&harness, false);
		assert_true(rc == -ENODATA || rc == -EBADMSG);
		harness_fini(&harness);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_go_on_when_there_is_space_again),
		cmocka_unit_test(test_nothing_flushed_is_lost),
		cmocka_unit_test(test_a_seal_without_space),
		cmocka_unit_test(test_a_creation_without_space),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
