/*
 * retain: a store is sealed for years at random intervals, and each time the choice of what is kept is
 * carried out. At every instant every rung that could exist has to exist, and every copy that was being made
 * meanwhile has to hold a complete generation. SZ_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/retain.h"

#include <stdio.h>

#define KEPT_MAX   512U
#define SEALED_MAX (1U << 20)
#define COPIES     64U
#define YEARS_NS   (30 * 365 * SZ_DAY_NS)
/* 120 of the last two hours, and two for each doubling of the age up to 28 days, with some to spare. */
#define COUNT_MAX  150U

static uint64_t seed;

static uint64_t random_below(uint64_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % limit;
}

static void seed_take(void)
{
	const char *given = getenv("SZ_SEED");

	seed = given == NULL ? (sz_clock_ns() | 1) : strtoull(given, NULL, 0);
	print_message("SZ_SEED=%llu\n", (unsigned long long)seed);
}

struct copy {
	uint64_t from_ns; /* 0: none is being made */
	uint64_t to_ns;
	uint64_t newest_ns; /* the newest complete generation when it began */
};

struct simulation {
	uint64_t now_ns;
	struct sz_retained kept[KEPT_MAX];
	size_t count;
	uint64_t *complete_ns; /* when all that were ever complete were sealed */
	size_t complete_count;
	struct copy copies[COPIES];
	uint64_t hold_until_ns;
};

/* The first of all times that is at least so late. */
static size_t first_from(const struct simulation *simulation, uint64_t time_ns)
{
	size_t low = 0;
	size_t high = simulation->complete_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (simulation->complete_ns[middle] < time_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool was_sealed(const struct simulation *simulation, uint64_t from_ns, uint64_t to_ns)
{
	size_t first = first_from(simulation, from_ns);

	return first < simulation->complete_count && simulation->complete_ns[first] <= to_ns;
}

static bool is_kept(const struct simulation *simulation, uint64_t from_ns, uint64_t to_ns)
{
	for (size_t i = 0; i < simulation->count; i++)
		if (simulation->kept[i].is_complete &&
		    simulation->kept[i].store_time_ns >= from_ns &&
		    simulation->kept[i].store_time_ns <= to_ns)
			return true;
	return false;
}

static uint64_t before(const struct simulation *simulation, uint64_t age_ns)
{
	return simulation->now_ns > age_ns ? simulation->now_ns - age_ns : 0;
}

static void rung_check(const struct simulation *simulation, uint64_t age_ns)
{
	uint64_t from_ns = before(simulation, 2 * age_ns);
	uint64_t to_ns = before(simulation, age_ns);

	if (was_sealed(simulation, from_ns, to_ns) && !is_kept(simulation, from_ns, to_ns))
		fail_msg("at %.3f h: none kept between %.3f and %.3f h of age",
			 (double)simulation->now_ns / (double)SZ_HOUR_NS,
			 (double)age_ns / (double)SZ_HOUR_NS,
			 2 * (double)age_ns / (double)SZ_HOUR_NS);
}

static void rungs_check(const struct simulation *simulation)
{
	for (uint64_t age_ns = SZ_LADDER_AGE_MIN_NS; age_ns <= SZ_LADDER_AGE_MAX_NS; age_ns *= 2)
		rung_check(simulation, age_ns);
	for (unsigned int i = 0; i < 8; i++) {
		uint64_t age_ns = SZ_LADDER_AGE_MIN_NS << random_below(10);

		rung_check(simulation, age_ns + random_below(age_ns));
	}
}

/* The last two hours: wherever one was sealed, one is kept that is as close. */
static void recent_check(const struct simulation *simulation)
{
	size_t first = first_from(simulation, before(simulation, SZ_LADDER_RECENT_NS));

	for (size_t i = first; i < simulation->complete_count; i++) {
		uint64_t at_ns = simulation->complete_ns[i];
		uint64_t from_ns = at_ns > SZ_LADDER_DENSE_NS ? at_ns - SZ_LADDER_DENSE_NS : 0;

		assert_true(is_kept(simulation, from_ns, at_ns + SZ_LADDER_DENSE_NS));
	}
}

static void dense_check(const struct simulation *simulation)
{
	const struct sz_retained *kept = simulation->kept;

	for (size_t i = 0; i + 2 < simulation->count; i++)
		if (kept[i].is_complete && kept[i + 1].is_complete && kept[i + 2].is_complete &&
		    !kept[i + 1].is_held)
			assert_true(kept[i + 2].store_time_ns - kept[i].store_time_ns >=
				    SZ_LADDER_DENSE_NS);
}

static void copy_check(const struct simulation *simulation, struct copy *copy)
{
	uint64_t took_ns = copy->to_ns - copy->from_ns + SZ_LADDER_DENSE_NS;
	uint64_t from_ns = copy->from_ns > took_ns ? copy->from_ns - took_ns : 0;

	if (copy->from_ns == 0 || simulation->now_ns < copy->to_ns)
		return;
	/* Only what was there when it began, and is still there when it ends, is whole in it. */
	assert_true(is_kept(simulation, copy->newest_ns < from_ns ? copy->newest_ns : from_ns,
			    copy->from_ns));
	copy->from_ns = 0;
}

static void copy_begin(struct simulation *simulation)
{
	struct copy *copy = &simulation->copies[random_below(COPIES)];

	if (copy->from_ns != 0 || simulation->complete_count == 0)
		return;
	*copy = (struct copy){
		.from_ns = simulation->now_ns,
		.to_ns = simulation->now_ns + random_below(SZ_COPY_MAX_NS >> random_below(12)),
		.newest_ns = simulation->complete_ns[simulation->complete_count - 1],
	};
}

static void keep(struct simulation *simulation, const struct sz_keep_policy *policy)
{
	size_t kept = 0;

	sz_retain_choose(simulation->kept, simulation->count, policy, simulation->now_ns);
	for (size_t i = 0; i < simulation->count; i++)
		if (simulation->kept[i].reasons != 0)
			simulation->kept[kept++] = simulation->kept[i];
	simulation->count = kept;
}

static void seal(struct simulation *simulation, bool is_complete)
{
	struct sz_retained *kept = simulation->kept;

	assert_true(simulation->count < KEPT_MAX && simulation->complete_count < SEALED_MAX);
	kept[simulation->count++] = (struct sz_retained){ .store_time_ns = simulation->now_ns,
							  .wall_time_ns = simulation->now_ns,
							  .is_complete = is_complete };
	if (is_complete)
		simulation->complete_ns[simulation->complete_count++] = simulation->now_ns;
	/* Somebody reads one for a while. */
	if (simulation->now_ns < simulation->hold_until_ns)
		return;
	for (size_t i = 0; i < simulation->count; i++)
		kept[i].is_held = false;
	if (random_below(50) != 0)
		return;
	kept[random_below(simulation->count)].is_held = true;
	simulation->hold_until_ns = simulation->now_ns + random_below(3 * SZ_DAY_NS);
}

/* Work comes in bouts: sealing every few seconds or hours, then nothing for up to weeks. */
static uint64_t interval_of(void)
{
	static uint64_t pace_ns = SZ_HOUR_NS;
	static uint64_t seals;

	if (seals == 0) {
		static const uint64_t paces_ns[] = { 10 * SZ_SECOND_NS, SZ_MINUTE_NS,
						     5 * SZ_MINUTE_NS,  15 * SZ_MINUTE_NS,
						     3 * SZ_HOUR_NS,    SZ_DAY_NS };

		pace_ns = paces_ns[random_below(6)];
		seals = 1 + random_below(400);
		return random_below(SZ_HOUR_NS << random_below(11));
	}
	seals--;
	return pace_ns / 2 + random_below(pace_ns);
}

static void simulate(const struct sz_keep_policy *policy, unsigned int incomplete_percent,
		     size_t count_max)
{
	static struct simulation simulation;
	size_t most = 0;

	simulation = (struct simulation){ .now_ns = SZ_SECOND_NS };
	simulation.complete_ns = calloc(SEALED_MAX, sizeof(uint64_t));
	assert_non_null(simulation.complete_ns);
	while (simulation.now_ns < YEARS_NS) {
		simulation.now_ns += 1 + interval_of();
		for (unsigned int i = 0; i < COPIES; i++)
			copy_check(&simulation, &simulation.copies[i]);
		/* Time has passed, and nothing was sealed: `szpool keep` may be called. */
		if (random_below(4) == 0)
			keep(&simulation, policy);
		rungs_check(&simulation);
		seal(&simulation, random_below(100) >= incomplete_percent);
		keep(&simulation, policy);
		rungs_check(&simulation);
		recent_check(&simulation);
		if (policy->last == 0)
			dense_check(&simulation);
		copy_begin(&simulation);
		if (simulation.count > most)
			most = simulation.count;
	}
	print_message("%zu sealed, at most %zu kept\n", simulation.complete_count, most);
	assert_true(most <= count_max);
	free(simulation.complete_ns);
}

static void test_ladder_for_years(void **state)
{
	static const struct sz_keep_policy policy = { .last = 0 };

	(void)state;
	seed_take();
	simulate(&policy, 0, COUNT_MAX);
}

/* Incomplete ones are no rungs, and as few of them are kept. */
static void test_incomplete_generations(void **state)
{
	static const struct sz_keep_policy policy = { .last = 0 };

	(void)state;
	seed_take();
	simulate(&policy, 30, 2 * (size_t)COUNT_MAX);
}

static void test_wishes_change_no_rung(void **state)
{
	static const struct sz_keep_policy policy = {
		.last = 10, .hourly = 24, .daily = 14, .weekly = 8, .monthly = 12
	};

	(void)state;
	seed_take();
	simulate(&policy, 5, 2 * (size_t)COUNT_MAX + 68);
}

/* Generations that were sealed so many hours ago by both clocks, oldest first. */
static void make(struct sz_retained *generations, const uint64_t *ages_h, size_t count)
{
	for (size_t i = 0; i < count; i++)
		generations[i] = (struct sz_retained){
			.store_time_ns = SZ_DAY_NS * 1000 - ages_h[i] * SZ_HOUR_NS,
			.wall_time_ns = SZ_DAY_NS * 20000 - ages_h[i] * SZ_HOUR_NS,
			.is_complete = true,
		};
}

static void reasons_check(const struct sz_retained *generations, size_t count, unsigned int reason,
			  const char *expected)
{
	for (size_t i = 0; i < count; i++)
		if (((generations[i].reasons & reason) != 0) != (expected[i] == 'x'))
			fail_msg("number %zu: reasons %x, expected of %x: %c", i,
				 generations[i].reasons, reason, expected[i]);
}

static void test_periods(void **state)
{
	/* "Now" is the midnight between Thursday, 3 October 2024, and Friday. */
	static const uint64_t ages_h[] = { 2000, 1000, 500, 100, 50, 49, 25, 24, 23, 2, 1 };
	struct sz_retained generations[ARRAY_LENGTH(ages_h)];
	const size_t count = ARRAY_LENGTH(ages_h);

	(void)state;
	make(generations, ages_h, count);
	sz_retain_choose(generations, count,
			 &(struct sz_keep_policy){ .last = 2, .hourly = 3, .daily = 4 },
			 SZ_DAY_NS * 1000);
	reasons_check(generations, count, SZ_RETAIN_LAST, ".........xx");
	reasons_check(generations, count, SZ_RETAIN_HOURLY, "........xxx");
	/* Thursday, Wednesday, Tuesday, and Sunday the 29th of September. */
	reasons_check(generations, count, SZ_RETAIN_DAILY, "...x.xx...x");
	sz_retain_choose(generations, count, &(struct sz_keep_policy){ .weekly = 2, .monthly = 3 },
			 SZ_DAY_NS * 1000);
	reasons_check(generations, count, SZ_RETAIN_WEEKLY, "...x......x");
	reasons_check(generations, count, SZ_RETAIN_MONTHLY, ".x.x......x");
}

/* A wall clock that was ten years ahead for a while costs one day of keep-daily, not all of them. */
static void test_periods_after_a_wrong_clock(void **state)
{
	static const uint64_t ages_h[] = { 100, 75, 74, 73, 72, 50, 25, 1 };
	struct sz_retained generations[ARRAY_LENGTH(ages_h)];
	const size_t count = ARRAY_LENGTH(ages_h);

	(void)state;
	make(generations, ages_h, count);
	for (size_t i = 1; i < 5; i++)
		generations[i].wall_time_ns = SZ_DAY_NS * 23650 + i * SZ_SECOND_NS;
	sz_retain_choose(generations, count, &(struct sz_keep_policy){ .daily = 5 },
			 SZ_DAY_NS * 1000);
	reasons_check(generations, count, SZ_RETAIN_DAILY, "x...xxxx");
	/* Nor does it move the ladder. */
	for (size_t i = 0; i < count; i++)
		generations[i].wall_time_ns = random_below(UINT64_MAX / 2);
	sz_retain_choose(generations, count, &(struct sz_keep_policy){ .last = 0 },
			 SZ_DAY_NS * 1000);
	reasons_check(generations, count, ~0U, "x....xxx");
}

static void test_budget(void **state)
{
	static const uint64_t ages_h[] = { 300, 100, 40, 10, 1, 0 };
	struct sz_retained generations[ARRAY_LENGTH(ages_h)];
	const size_t count = ARRAY_LENGTH(ages_h);

	(void)state;
	make(generations, ages_h, count);
	generations[1].is_held = true;
	generations[4].is_complete = false;
	generations[5].is_complete = false;
	sz_retain_choose(generations, count, &(struct sz_keep_policy){ .last = 0 },
			 SZ_DAY_NS * 1000);
	for (size_t i = 0; i < count; i++)
		generations[i].ends_bytes = 100 + i;
	reasons_check(generations, count, ~0U, "xxxxxx");
	assert_int_equal(sz_retain_fit(generations, count, 510), 510);
	reasons_check(generations, count, ~0U, "xxxxxx");
	assert_int_equal(sz_retain_fit(generations, count, 509), 410);
	reasons_check(generations, count, ~0U, ".xxxxx");
	/* What is read, the newest and the newest complete one stay, whatever it costs. */
	assert_int_equal(sz_retain_fit(generations, count, 0), 101 + 103);
	reasons_check(generations, count, ~0U, ".x.x.x");
}

static void test_copy_time(void **state)
{
	static const uint64_t ages_h[] = { 40, 10, 1, 0 };
	struct sz_retained generations[ARRAY_LENGTH(ages_h)];
	const size_t count = ARRAY_LENGTH(ages_h);
	const uint64_t now_ns = SZ_DAY_NS * 1000;

	(void)state;
	make(generations, ages_h, count);
	sz_retain_choose(generations, count, &(struct sz_keep_policy){ .last = 0 }, now_ns);
	assert_int_equal(sz_retain_copy_ns(generations, count, 0, now_ns), SZ_COPY_MAX_NS);
	for (size_t i = 0; i < count; i++)
		generations[i].ends_bytes = 100;
	assert_int_equal(sz_retain_copy_ns(generations, count, 300, now_ns), 40 * SZ_HOUR_NS);
	assert_int_equal(sz_retain_copy_ns(generations, count, 600, now_ns), 80 * SZ_HOUR_NS);
	assert_int_equal(sz_retain_copy_ns(generations, count, UINT64_MAX, now_ns), SZ_COPY_MAX_NS);
}

static void test_few(void **state)
{
	struct sz_retained one = { .is_complete = false, .store_time_ns = 5 };

	(void)state;
	sz_retain_choose(NULL, 0, &(struct sz_keep_policy){ .last = 3 }, 10);
	assert_int_equal(sz_retain_fit(NULL, 0, 0), 0);
	assert_int_equal(sz_retain_copy_ns(NULL, 0, 0, 10), SZ_COPY_MAX_NS);
	/* Before its own time, which a clock that starts anew may say. */
	sz_retain_choose(&one, 1, &(struct sz_keep_policy){ .last = 3 }, 1);
	assert_int_equal(one.reasons, SZ_RETAIN_NEWEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ladder_for_years),
		cmocka_unit_test(test_incomplete_generations),
		cmocka_unit_test(test_wishes_change_no_rung),
		cmocka_unit_test(test_periods),
		cmocka_unit_test(test_periods_after_a_wrong_clock),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_copy_time),
		cmocka_unit_test(test_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
