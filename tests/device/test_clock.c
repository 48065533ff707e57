/*
 * clock: the store's own time through openings, seals and wall clocks that are ten years wrong.
 */
#include "clocks.h"
#include "harness.h"

#include "device/retain.h"

#define YEARS_10_NS ((int64_t)(10 * 365 * SZ_DAY_NS))

static const struct shape shape = { .devices = 1, .sectors = 2048, .band_sectors = 256 };

static uint64_t seal(struct harness *harness)
{
	struct sz_store_info before;
	struct sz_store_info after;

	sz_store_info(harness->store, &before);
	OK(harness_write(harness, 0, 200, 1));
	OK(harness_seal(harness));
	sz_store_info(harness->store, &after);
	assert_int_equal(after.generation, before.generation + 1);
	return after.sealed_store_ns;
}

static void grew_by(uint64_t from_ns, uint64_t to_ns, uint64_t by_ns)
{
	/* No two generations are of one time: where none passes, a nanosecond does. */
	if (to_ns <= from_ns || to_ns + 8 < from_ns + by_ns || to_ns > from_ns + by_ns + 8)
		fail_msg("from %llu to %llu, not by %llu", (unsigned long long)from_ns,
			 (unsigned long long)to_ns, (unsigned long long)by_ns);
}

static void test_open(void **state)
{
	struct harness harness;
	uint64_t before_ns;
	uint64_t now_ns;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open(&harness);
	before_ns = seal(&harness);
	now_ns = seal(&harness);
	grew_by(before_ns, now_ns, 0);
	/* The machine slept for three days. */
	clocks_move((int64_t)(3 * SZ_DAY_NS), (int64_t)(3 * SZ_DAY_NS));
	before_ns = now_ns;
	now_ns = seal(&harness);
	grew_by(before_ns, now_ns, 3 * SZ_DAY_NS);
	for (int i = 0; i < 4; i++) {
		clocks_move(0, i % 2 == 0 ? YEARS_10_NS : -2 * YEARS_10_NS);
		before_ns = now_ns;
		now_ns = seal(&harness);
		grew_by(before_ns, now_ns, 0);
	}
	clocks_move(0, 2 * YEARS_10_NS);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* The store is closed, both clocks move, the machine starts anew perhaps. */
static uint64_t reopen(struct harness *harness, int64_t boot_ns, int64_t wall_ns)
{
	OK(harness_close(harness));
	clocks_move(boot_ns, wall_ns);
	harness_open(harness);
	return seal(harness);
}

static void test_closed(void **state)
{
	struct harness harness;
	uint64_t now_ns;
	uint64_t next_ns;

	(void)state;
	harness_init(&harness, &shape, 2);
	harness_open(&harness);
	now_ns = seal(&harness);
	next_ns = reopen(&harness, (int64_t)SZ_HOUR_NS, (int64_t)SZ_HOUR_NS);
	grew_by(now_ns, next_ns, SZ_HOUR_NS);
	/* The boot clock starts again from nothing with each start of the machine. */
	now_ns = reopen(&harness, -(int64_t)SZ_DAY_NS, (int64_t)SZ_HOUR_NS);
	grew_by(next_ns, now_ns, SZ_HOUR_NS);
	next_ns = reopen(&harness, 0, YEARS_10_NS);
	grew_by(now_ns, next_ns, SZ_DAY_NS);
	now_ns = reopen(&harness, 0, -2 * YEARS_10_NS);
	grew_by(next_ns, now_ns, 0);
	next_ns = reopen(&harness, 0, (int64_t)SZ_MINUTE_NS);
	grew_by(now_ns, next_ns, SZ_MINUTE_NS);
	OK(harness_close(&harness));
	clocks_move((int64_t)SZ_DAY_NS, YEARS_10_NS);
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_closed),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
