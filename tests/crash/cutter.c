/* The cutter: see cutter.h. */
#include "cutter.h"

#include <inttypes.h>

#define RECOVERIES     12 /* one recovery in so many is cut */
#define RECOVERY_EVERY 5  /* of the changes that a recovery makes, one in so many is cut */

static const char *const crash_names[] = { "clean", "drop", "reorder", "torn" };

/* The cut that is being tried, and the cut of its recovery; "": none. */
static char where[2][100];

/* The plan's hook: before a change. Other writers wait at the lock for as long as it takes. */
static void cut(void *context)
{
	struct cutter *cutter = context;
	const struct harness *harness = cutter->harness;
	struct cut *one;

	(void)pthread_mutex_lock(&cutter->lock);
	cutter->operation++;
	if (chance_below(&cutter->chance, cutter->every) == 0) {
		cutter->cuts = realloc(cutter->cuts, (cutter->count + 1) * sizeof(*cutter->cuts));
		if (cutter->cuts == NULL)
			abort();
		one = &cutter->cuts[cutter->count++];
		*one = (struct cut){
			.operation = cutter->operation,
			.crash = (enum sz_crash)chance_below(&cutter->chance, 4),
			.seed = chance(&cutter->chance),
		};
		for (uint32_t i = 0; i < harness->shape.devices; i++)
			OK(sz_memory_crash(harness->disks[i], one->crash, one->seed + i,
					   &one->disks[i]));
		harness_note_names(cutter->harness);
		one->harness = calloc(1, sizeof(*one->harness));
		if (one->harness == NULL)
			abort();
		harness_copy_names(harness, one->harness);
	}
	(void)pthread_mutex_unlock(&cutter->lock);
}

static void after(struct harness *harness)
{
	cutter_try(harness->after_context);
}

void cutter_begin(struct cutter *cutter, struct harness *harness, uint64_t seed, unsigned int every,
		  bool cuts_recovery)
{
	*cutter = (struct cutter){
		.harness = harness,
		.chance = seed,
		.every = every * (unsigned int)test_thinning(),
		.cuts_recovery = cuts_recovery,
	};
	(void)pthread_mutex_init(&cutter->lock, NULL);
	harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						.fail_at = 1,
						.fail_from = true,
						.at = cut,
						.at_context = cutter };
	harness->after = after;
	harness->after_context = cutter;
}

void cutter_end(struct cutter *cutter)
{
	cutter_try(cutter);
	cutter->harness->plan = (struct sz_fault_plan){ 0 };
	cutter->harness->after = NULL;
	(void)pthread_mutex_destroy(&cutter->lock);
	free(cutter->cuts);
	cutter->cuts = NULL;
}

/* Every root that a cut leaves is of a generation that is all there: what goes goes behind its root. */
static void check_generations(struct harness *harness)
{
	CLEANUP(sz_check_free) struct sz_check check = { 0 };

	OK(sz_store_generations(harness->store, &check, &harness->error));
	assert_true(check.count > 0);
	assert_int_equal(check.lost_roots, 0);
	for (size_t i = 0; i < check.count; i++)
		if (check.generations[i].wholeness != SZ_COMPLETE)
			fail_msg("generation %s is not whole: %s", check.generations[i].code,
				 check.generations[i].missing);
}

/* What a read-only opening says, which changes nothing. */
static uint32_t *look(struct harness *harness)
{
	size_t length = harness->shape.sectors;
	uint32_t *seen = malloc(harness->shape.devices * length * sizeof(*seen));
	struct sz_fault_plan before = harness->plan;

	harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES };
	OK(harness_try_open(harness, true));
	assert_int_equal(harness_damage(harness, true), 0);
	check_generations(harness);
	harness_check_prefix(harness);
	harness_abandon(harness);
	assert_int_equal(harness->plan.count, 0);
	harness->plan = before;
	assert_non_null(seen);
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		memcpy(seen + i * length, harness->observed[i], length * sizeof(*seen));
	return seen;
}

static void compare(const struct harness *harness, const uint32_t *seen)
{
	size_t length = harness->shape.sectors;

	for (uint32_t i = 0; i < harness->shape.devices && seen != NULL; i++)
		assert_memory_equal(seen + i * length, harness->observed[i],
				    length * sizeof(*seen));
}

/* The store goes on: what is written and flushed now outlives another cut. */
static void go_on(struct harness *harness)
{
	uint32_t device = (uint32_t)chance_below(&harness->chance, harness->shape.devices);

	OK(harness_write(harness, device, chance_below(&harness->chance, 512), 40));
	OK(harness_write(harness, device, chance_below(&harness->chance, 512), 3));
	OK(harness_flush(harness, device));
	harness_abandon(harness);
	harness_cut(harness, SZ_CRASH_DROP, 0);
	harness_open_clean(harness);
	harness_check_recovered(harness);
}

static void close_and_reopen(struct harness *harness)
{
	struct sz_store_info info;

	OK(harness_close(harness));
	harness_cut(harness, SZ_CRASH_DROP, 0);
	harness_open_clean(harness);
	sz_store_info(harness->store, &info);
	assert_false(info.recovered);
	harness_check(harness);
}

static void cutter_begin_inner(struct cutter *inner, struct harness *harness, uint64_t seed)
{
	cutter_begin(inner, harness, seed, RECOVERY_EVERY, false);
	inner->is_inner = true;
}

static void open_and_check(struct cutter *cutter, struct harness *harness)
{
	CLEANUP_FREE uint32_t *seen = NULL;
	struct live_files files;
	struct cutter inner;
	bool is_cut_again =
		cutter->cuts_recovery && chance_below(&harness->chance, RECOVERIES) == 0;

	if (chance_below(&harness->chance, 4) == 0)
		seen = look(harness);
	files = harness_files(harness);
	if (is_cut_again)
		cutter_begin_inner(&inner, harness, chance(&harness->chance));
	harness_open_clean(harness);
	if (is_cut_again) {
		cutter_end(&inner);
		cutter->tried += inner.tried;
	}
	harness_check_recovered(harness);
	compare(harness, seen);
	harness_check_not_grown(harness, &files);
	if (chance_below(&harness->chance, 2) == 0)
		go_on(harness);
	else
		close_and_reopen(harness);
	harness_check_names(harness);
}

static void try_one(struct cutter *cutter, struct cut *one)
{
	struct harness harness;

	harness_fork(cutter->harness, one->disks, &harness);
	harness_copy_names(one->harness, &harness);
	harness.chance = one->seed;
	if (cutter->try_cut != NULL)
		cutter->try_cut(cutter, &harness);
	else
		open_and_check(cutter, &harness);
	harness_fini(&harness);
	free(one->harness->names);
	free(one->harness);
	cutter->tried++;
}

void cutter_try(struct cutter *cutter)
{
	size_t count = cutter->count;
	struct cut *cuts = TAKE(cutter->cuts);
	char *text = where[cutter->is_inner];

	cutter->count = 0;
	for (size_t i = 0; i < count; i++) {
		(void)snprintf(text, sizeof(where[0]),
			       "cut before change %" PRIu64 ": %s, seed %" PRIu64,
			       cuts[i].operation, crash_names[cuts[i].crash], cuts[i].seed);
		try_one(cutter, &cuts[i]);
		text[0] = '\0';
	}
	free(cuts);
}

int cutter_report(void **state)
{
	(void)state;
	if (where[0][0] != '\0')
		print_message("# %s\n", where[0]);
	if (where[1][0] != '\0')
		print_message("# and of its recovery: %s\n", where[1]);
	memset(where, 0, sizeof(where));
	return 0;
}
