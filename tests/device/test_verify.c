/*
 * Verification and repair: every form of damage to every file of the newest generation is found, whether anybody reads
 * what is hurt or not, and named; a repair writes it anew. What nobody needs is zeros then, what somebody may need stays lost;
 * a second verification finds nothing. Repairs are cut, and fail, at every operation.
 */
#include "damage.h"

#include <inttypes.h>

static char current[120]; /* which case; "": none */

static int report(void **state)
{
	(void)state;
	if (current[0] != '\0')
		print_message("# %s\n", current);
	current[0] = '\0';
	return 0;
}

static struct sz_verification *found; /* by the last one */

static uint64_t verify(struct harness *harness)
{
	sz_verification_free(TAKE(found));
	OK(sz_store_verify(harness->store, NULL, NULL, &found, &harness->error));
	return sz_verification_hurt(found);
}

struct search {
	const char *name;
	bool is_found;
};

static int search_one(void *context, const struct sz_damage *damage)
{
	struct search *search = context;

	search->is_found = search->is_found || strstr(damage->object, search->name) != NULL;
	return 0;
}

static bool is_named(struct harness *harness, const struct object *object)
{
	struct search search = { .name = object->name };

	OK(sz_store_damage_each(harness->store, search_one, &search));
	return search.is_found;
}

static const struct object *find_other(const struct objects *objects, const struct object *object)
{
	for (size_t i = 0; i < objects->count; i++) {
		const struct object *other = &objects->list[i];

		if (other->kind == object->kind && strcmp(other->name, object->name) != 0)
			return other;
	}
	return NULL;
}

static void repair(struct harness *harness, bool gives_up)
{
	uint64_t left;
	int rc = sz_store_repair(harness->store, found, gives_up, &left, &harness->error);

	if (rc != 0)
		fail_msg("repair: %s", harness->error.text);
	assert_int_equal(left, 0);
}

/* Nothing is damaged any more. Sectors that were lost are zeros; the others are as they were written. */
static void check_given_up(struct harness *harness, uint32_t device, const bool *cost)
{
	uint32_t sectors = harness->shape.sectors;

	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		CLEANUP_FREE uint32_t *newest = calloc(sectors, sizeof(*newest));

		assert_non_null(newest);
		model_newest(&harness->model, i, newest);
		OK(harness_observe(harness, i));
		for (uint32_t j = 0; j < sectors; j++)
			if (harness->observed[i][j] != newest[j] &&
			    !(i == device && cost[j] && harness->observed[i][j] == 0))
				fail_msg("device %" PRIu32 ", sector %" PRIu32 ": %" PRIu32
					 ", want %" PRIu32,
					 i, j, harness->observed[i][j], newest[j]);
	}
}

static bool is_of_newest(const struct object *object)
{
	return object->part == SZ_SEALED &&
	       (object->kind == SZ_KIND_BAND || object->kind == SZ_KIND_DELTA ||
		(object->generation == 4 &&
		 (object->kind == SZ_KIND_HOT || object->kind == SZ_KIND_ROOT ||
		  object->kind == SZ_KIND_KEY)));
}

/* Forms of which it depends on where they hit: padding says nothing. */
static bool is_surely_hurt(const struct object *object, enum form form)
{
	if (form == FORM_GROWN || (form == FORM_DELETED && object->kind != SZ_KIND_BAND &&
				   object->kind != SZ_KIND_DELTA && object->kind != SZ_KIND_HOT))
		return false; /* an opening has made up for it */
	return form < FORM_FATAL || form == FORM_CUT_HALF || form == FORM_CUT_LAST ||
	       form == FORM_CUT_TRAILER || form == FORM_FLIPPED_TRAILER ||
	       (form == FORM_FLIPPED_SECTOR && object->kind != SZ_KIND_ROOT);
}

static void run_one(const struct harness *original, const struct objects *objects,
		    const struct object *object, enum form form, bool gives_up)
{
	bool cost[SPREAD_SECTORS];
	struct harness harness;
	uint64_t hurt;
	uint32_t damaged;

	harness_fork_now(original, &harness);
	(void)spread_cost(&harness, objects, object, cost);
	damage_object(&harness, object, form, find_other(objects, object));
	harness_open(&harness);
	hurt = verify(&harness);
	if (is_surely_hurt(object, form))
		assert_int_equal(hurt, 1);
	if (hurt > 0)
		assert_true(is_named(&harness, object));
	damaged = damage_check(&harness, object->device % 4, cost);
	repair(&harness, gives_up);
	OK(harness_close(&harness));
	harness_open(&harness);
	if (gives_up) {
		assert_int_equal(harness_damage(&harness, true), 0);
		assert_int_equal(verify(&harness), 0);
		check_given_up(&harness, object->device, cost);
		assert_int_equal(harness_damage(&harness, true), 0);
	} else {
		assert_int_equal(verify(&harness) > 0, damaged > 0);
		assert_int_equal(damage_check(&harness, object->device % 4, cost), damaged);
	}
	if (object->kind != SZ_KIND_ROOT && object->kind != SZ_KIND_KEY)
		harness_check_names(&harness); /* of these each disk has the same */
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static void run(bool gives_up)
{
	struct harness harness;
	struct objects objects;
	unsigned int count = 0;

	spread_init(&harness, 4, 1);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->disk != 1 || !is_of_newest(object))
			continue;
		count++;
		for (unsigned int form = FORM_HARMLESS; form < FORM_COUNT; form++) {
			if (form == FORM_EXCHANGED && find_other(&objects, object) == NULL)
				continue;
			(void)snprintf(current, sizeof(current),
				       "kind %d, generation %" PRIu64 ", %s", (int)object->kind,
				       object->generation, form_name((enum form)form));
			run_one(&harness, &objects, object, (enum form)form, gives_up);
			current[0] = '\0';
		}
	}
	assert_true(count >= 3 + 2 + 1 + 1);
	objects_free(&objects);
	harness_fini(&harness);
}

static void test_what_is_not_needed_is_given_up(void **state)
{
	(void)state;
	run(true);
}

static void test_what_may_be_needed_stays_lost(void **state)
{
	(void)state;
	run(false);
}

/* Of each page, root and key object one copy is missing: nothing is lost, and all are found. */
static void test_second_copies(void **state)
{
	struct harness harness;
	struct objects objects;

	(void)state;
	spread_init(&harness, 4, 3);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) { /* one copy of each page, root and key */
		const struct object *object = &objects.list[i];

		if (object->disk == 2 && object->kind != SZ_KIND_BAND &&
		    object->kind != SZ_KIND_DELTA && object->kind != SZ_KIND_HOT)
			object_remove(&harness, object);
	}
	harness_open(&harness);
	harness_check(&harness);
	assert_true(verify(&harness) >= 3); /* what is of devices 0 to 2 */
	repair(&harness, false);
	sz_store_damage_forget(harness.store);
	assert_int_equal(verify(&harness), 0);
	assert_int_equal(harness_damage(&harness, true), 0);
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	harness_check(&harness);
	objects_free(&objects);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A shard of which all copies are lost: what its bands held is not known, and then given up. */
static void test_a_lost_shard(void **state)
{
	static bool any[SPREAD_SECTORS];
	struct harness harness;
	struct objects objects;

	(void)state;
	memset(any, true, sizeof(any));
	spread_init(&harness, 4, 4);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_INDEX && objects.list[i].device == 1 &&
		    objects.list[i].generation == 2)
			object_remove(&harness, &objects.list[i]);
	harness_open(&harness);
	assert_true(damage_check(&harness, 1, any) > 0);
	assert_true(verify(&harness) > 0);
	repair(&harness, true);
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	assert_int_equal(verify(&harness), 0);
	check_given_up(&harness, 1, any);
	objects_free(&objects);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A store with damage of many kinds on device 1, open, verified. */
static void hurt_init(struct harness *harness, uint64_t seed)
{
	struct objects objects;
	unsigned int count = 0;

	spread_init(harness, 4, seed);
	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		/* Of roots and key objects each disk has the same. */
		if (object->disk == 1 && is_of_newest(object) && object->kind != SZ_KIND_ROOT &&
		    object->kind != SZ_KIND_KEY)
			damage_object(harness, object,
				      count++ % 2 == 0 ? FORM_DELETED : FORM_FLIPPED_SECTOR, NULL);
	}
	objects_free(&objects);
	harness_open(harness);
	assert_true(verify(harness) >= 5);
}

/* Cut before any change, or failed at any operation: what was there before is there, or what comes of it. */
static void after_a_broken_repair(struct harness *harness)
{
	static bool any[SPREAD_SECTORS];

	memset(any, true, sizeof(any));
	harness_open(harness);
	for (uint32_t i = 0; i < 4; i++)
		if (i != 1)
			(void)damage_check(harness, i, NULL);
	(void)verify(harness);
	repair(harness, true);
	OK(harness_close(harness));
	harness_open_clean(harness);
	assert_int_equal(verify(harness), 0);
	check_given_up(harness, 1, any);
	harness_check_names(harness);
	OK(harness_close(harness));
}

static void broken_repair(bool is_cut)
{
	struct harness original;
	uint64_t seed = chance_seed("broken repair");
	uint64_t step = (test_scale() > 1 ? 1 : 4) * test_thinning();
	uint64_t at = chance_below(&seed, step);
	bool is_through = false;

	hurt_init(&original, 5);
	OK(harness_close(&original));
	while (!is_through) {
		struct harness harness;
		uint64_t left;

		harness_fork_now(&original, &harness);
		harness_open(&harness);
		(void)verify(&harness);
		(void)snprintf(current, sizeof(current), "operation %" PRIu64 " %s", at,
			       is_cut ? "is the last" : "fails");
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						       .fail_at = at + 1,
						       .fail_from = is_cut,
						       .error = is_cut ? -EIO : -ENOSPC };
		is_through =
			sz_store_repair(harness.store, found, true, &left, &harness.error) == 0 &&
			is_cut;
		is_through = is_through || harness.plan.count <= at;
		harness.plan = (struct sz_fault_plan){ 0 };
		harness_abandon(&harness);
		harness_cut(&harness, is_cut ? SZ_CRASH_REORDER : SZ_CRASH_CLEAN, at);
		after_a_broken_repair(&harness);
		harness_fini(&harness);
		at += step;
	}
	assert_true(at > 20);
	current[0] = '\0';
	harness_fini(&original);
}

static void test_repairs_that_are_cut(void **state)
{
	(void)state;
	broken_repair(true);
}

static void test_repairs_that_fail(void **state)
{
	(void)state;
	broken_repair(false);
}

static const struct object *key_of(const struct objects *objects, uint32_t disk)
{
	for (size_t i = 0; i < objects->count; i++)
		if (objects->list[i].kind == SZ_KIND_KEY && objects->list[i].disk == disk)
			return &objects->list[i];
	return NULL;
}

/* A key object that an opening could not write has its place with the next seal. */
static void test_a_key_is_made_up_for(void **state)
{
	struct harness harness;
	struct objects objects;

	(void)state;
	spread_init(&harness, 4, 9);
	objects_list(&harness, &objects);
	object_remove(&harness, key_of(&objects, 2));
	objects_free(&objects);
	harness.plan =
		(struct sz_fault_plan){ .mask = SZ_OP_CREATE, .fail_at = 1, .error = -ENOSPC };
	harness_open(&harness);
	harness.plan = (struct sz_fault_plan){ 0 };
	objects_list(&harness, &objects);
	assert_null(key_of(&objects, 2));
	objects_free(&objects);
	OK(harness_write(&harness, 0, 300, 4));
	OK(harness_seal(&harness));
	objects_list(&harness, &objects);
	assert_non_null(key_of(&objects, 2));
	objects_free(&objects);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static struct object band_at(struct harness *harness, uint32_t device, uint64_t sector)
{
	struct object band = { 0 };
	struct objects objects;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_BAND && objects.list[i].device == device &&
		    object_base_sector(harness, &objects, &objects.list[i]) == sector)
			band = objects.list[i];
	objects_free(&objects);
	assert_int_equal(band.kind, SZ_KIND_BAND);
	return band;
}

static uint32_t damaged_count(struct harness *harness, uint32_t device)
{
	uint32_t count = 0;

	OK(harness_observe(harness, device));
	for (uint32_t i = 0; i < harness->shape.sectors; i++)
		count += harness->observed[device][i] == MODEL_DAMAGED;
	return count;
}

/* What is hurt after the verification, a scrub may have read whole: it is not given up, and the next time it is. */
static void test_what_is_hurt_later_stays_lost(void **state)
{
	(void)state;
	for (unsigned int is_compacted = 0; is_compacted < 2; is_compacted++) {
		struct harness harness;
		struct object band;
		uint64_t left;

		spread_init(&harness, 4, 6);
		band = band_at(&harness, 1, 256);
		damage_object(&harness, &band, FORM_FLIPPED_SECTOR, NULL);
		harness_open(&harness);
		OK(harness_write(&harness, 1, 300, 30)); /* that it may be worth compacting */
		OK(harness_seal(&harness));
		assert_int_equal(verify(&harness), 1);
		damage_object(&harness, &band, FORM_FLIPPED_MIDDLE, NULL);
		if (is_compacted == 1) {
			OK(harness_close(&harness)); /* the file that was there is open */
			harness_open(&harness);
			OK(harness_compact(&harness));
		}
		OK(sz_store_repair(harness.store, found, true, &left, &harness.error));
		assert_int_equal(left, 1);
		assert_int_equal(damaged_count(&harness, 1), 1);
		assert_int_equal(verify(&harness), 1);
		repair(&harness, true);
		assert_int_equal(damaged_count(&harness, 1), 0);
		assert_int_equal(verify(&harness), 0);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* What two verifications found is kept apart: each repair goes by its own. */
static void test_two_verifications(void **state)
{
	struct sz_verification *first;
	struct harness harness;
	struct object bands[2];
	uint64_t left;

	(void)state;
	spread_init(&harness, 4, 7);
	bands[0] = band_at(&harness, 1, 256);
	bands[1] = band_at(&harness, 1, 512);
	harness_open(&harness);
	damage_object(&harness, &bands[0], FORM_FLIPPED_SECTOR, NULL);
	assert_int_equal(verify(&harness), 1);
	first = TAKE(found);
	damage_object(&harness, &bands[1], FORM_FLIPPED_SECTOR, NULL);
	assert_int_equal(verify(&harness), 2);
	OK(sz_store_repair(harness.store, first, true, &left, &harness.error));
	assert_int_equal(left, 0);
	assert_int_equal(damaged_count(&harness, 1), 1);
	repair(&harness, true);
	assert_int_equal(damaged_count(&harness, 1), 0);
	assert_int_equal(verify(&harness), 0);
	sz_verification_free(first);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* What cannot be read now is named, and holds nothing else up. */
static void test_disk_errors(void **state)
{
	struct harness harness;
	struct object band;
	uint64_t left;

	(void)state;
	spread_init(&harness, 4, 8);
	band = band_at(&harness, 3, 256);
	harness_open(&harness);
	damage_object(&harness, &band, FORM_FLIPPED_SECTOR, NULL);
	for (uint64_t at = 1; at < 60; at += 3) {
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_READ,
						       .fail_at = at,
						       .fail_from = true,
						       .fail_last = at + 2,
						       .error = -EIO };
		assert_true(verify(&harness) <= 1);
		assert_int_equal(sz_verification_unread(found), 1);
		harness.plan = (struct sz_fault_plan){ 0 };
	}
	assert_int_equal(verify(&harness), 1);
	assert_int_equal(sz_verification_unread(found), 0);
	harness.plan = (struct sz_fault_plan){
		.mask = SZ_OP_READ, .fail_at = 1, .fail_from = true, .error = -EIO
	};
	assert_int_equal(sz_store_repair(harness.store, found, true, &left, &harness.error), -EIO);
	assert_int_equal(left, 1);
	harness.plan = (struct sz_fault_plan){ 0 };
	assert_int_equal(damaged_count(&harness, 3), 1);
	repair(&harness, true);
	assert_int_equal(verify(&harness), 0);
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static int found_free(void **state)
{
	(void)state;
	sz_verification_free(TAKE(found));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_what_is_not_needed_is_given_up, report),
		cmocka_unit_test_teardown(test_what_may_be_needed_stays_lost, report),
		cmocka_unit_test(test_second_copies),
		cmocka_unit_test(test_a_lost_shard),
		cmocka_unit_test_teardown(test_repairs_that_are_cut, report),
		cmocka_unit_test_teardown(test_repairs_that_fail, report),
		cmocka_unit_test(test_a_key_is_made_up_for),
		cmocka_unit_test(test_what_is_hurt_later_stays_lost),
		cmocka_unit_test(test_two_verifications),
		cmocka_unit_test(test_disk_errors),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, found_free);
}
