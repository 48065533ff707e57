/*
 * Files of content that are damaged: bands, deltas, hot images. A file that is only elsewhere costs
 * nothing; one that is gone costs exactly its sectors; one that is damaged costs some of them. What
 * is lost reads as filler with -EBADMSG, is reported, stays lost through seals and openings, and is
 * healed by being written again.
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

/* Another object of the same kind, not the same content. */
static const struct object *find_other(const struct objects *objects, const struct object *object)
{
	for (size_t i = 0; i < objects->count; i++) {
		const struct object *other = &objects->list[i];

		if (other->kind == object->kind && strcmp(other->name, object->name) != 0 &&
		    other->device != object->device)
			return other;
	}
	return NULL;
}

static uint32_t check_all(struct harness *harness, uint32_t device, const bool *cost)
{
	uint32_t damaged = 0;

	for (uint32_t i = 0; i < harness->shape.devices; i++)
		damaged += damage_check(harness, i, i == device ? cost : NULL);
	return damaged;
}

/* Writes over every lost sector, some alone and some as a part of more. */
static void heal(struct harness *harness, uint32_t device)
{
	CLEANUP_FREE uint32_t *observed = malloc(harness->shape.sectors * sizeof(*observed));

	assert_non_null(observed);
	memcpy(observed, harness->observed[device], harness->shape.sectors * sizeof(*observed));
	for (uint32_t i = 0; i < harness->shape.sectors; i++) {
		uint32_t count = 1;

		if (observed[i] != MODEL_DAMAGED)
			continue;
		while (count < 20 && i + count < harness->shape.sectors &&
		       observed[i + count] == MODEL_DAMAGED)
			count++;
		OK(harness_write(harness, device, i, count));
		i += count - 1;
	}
}

static void reopen(struct harness *harness)
{
	OK(harness_close(harness));
	harness_open(harness);
}

static void run_one(const struct harness *original, const struct objects *objects,
		    const struct object *object, enum form form)
{
	bool cost[SPREAD_SECTORS];
	struct harness harness;
	uint32_t device = object->device;
	uint32_t most;
	uint32_t damaged;

	harness_fork_now(original, &harness);
	most = spread_cost(&harness, objects, object, cost);
	damage_object(&harness, object, form, find_other(objects, object));
	harness_open(&harness);
	damaged = check_all(&harness, device, cost);
	if (form < FORM_HARMLESS)
		assert_int_equal(damaged, 0);
	else if (form < FORM_FATAL)
		assert_true(damaged == most || (damaged > most && object->kind == SZ_KIND_HOT));
	else if (form == FORM_FLIPPED_SECTOR && object->kind == SZ_KIND_BAND)
		assert_int_equal(damaged, 1); /* or none, if it was rewritten since: not band 1 */
	assert_int_equal(sz_device_damaged_sectors(sz_store_device(harness.store, device)) > 0,
			 damaged > 0);
	if (damaged > 0)
		assert_true(harness_damage(&harness, false) > 0);
	/* Seals go on, here and elsewhere, and do not make it good. */
	OK(harness_write(&harness, device, 200, 2));
	OK(harness_write(&harness, (device + 1) % 4, 600, 40));
	reopen(&harness);
	assert_int_equal(check_all(&harness, device, cost), damaged);
	heal(&harness, device);
	harness_check(&harness);
	reopen(&harness);
	harness_check(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Every form of damage to each object of the kind that device 1 has. */
static void run(enum sz_kind kind)
{
	struct harness harness;
	struct objects objects;
	unsigned int count = 0;

	spread_init(&harness, 4, 1);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != kind || object->device != 1)
			continue;
		if (kind == SZ_KIND_BAND && object_base_sector(&harness, &objects, object) != 256)
			continue; /* the band of which no sector was rewritten */
		count++;
		for (unsigned int form = 0; form < FORM_COUNT; form++) {
			(void)snprintf(current, sizeof(current),
				       "kind %d, generation %" PRIu64 ", %s", (int)kind,
				       object->generation, form_name((enum form)form));
			run_one(&harness, &objects, object, (enum form)form);
			current[0] = '\0';
		}
	}
	assert_true(count > 0);
	objects_free(&objects);
	harness_fini(&harness);
}

static void test_bands(void **state)
{
	(void)state;
	run(SZ_KIND_BAND);
}

static void test_deltas(void **state)
{
	(void)state;
	run(SZ_KIND_DELTA);
}

static void test_hot_images(void **state)
{
	(void)state;
	run(SZ_KIND_HOT);
}

/* Of a band below deltas, what the deltas say is not lost. */
static void test_bands_below_deltas(void **state)
{
	struct harness harness;
	struct objects objects;
	unsigned int count = 0;

	(void)state;
	spread_init(&harness, 4, 2);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != SZ_KIND_BAND || object->device != 2 ||
		    object_base_sector(&harness, &objects, object) == 256)
			continue;
		count++;
		(void)snprintf(current, sizeof(current), "band at %" PRIu64,
			       object_base_sector(&harness, &objects, object));
		run_one(&harness, &objects, object, FORM_DELETED);
		current[0] = '\0';
	}
	assert_int_equal(count, 2);
	objects_free(&objects);
	harness_fini(&harness);
}

/* Every object has another name, and stands in any device's folder. */
static void test_everything_shuffled(void **state)
{
	struct harness harness;

	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct objects objects;

		spread_init(&harness, 4, seed);
		if (seed % 2 == 0) { /* with a live epoch */
			harness_open_clean(&harness);
			OK(harness_write(&harness, 1, 1030, 60));
			OK(harness_write(&harness, 2, 600, 6));
			OK(harness_flush_all(&harness));
			OK(harness_seal(&harness));
			harness_abandon(&harness);
		}
		objects_list(&harness, &objects);
		for (size_t i = 0; i < objects.count; i++) {
			const struct object *object = &objects.list[i];
			enum form form = (enum form)chance_below(&harness.chance, FORM_DUPLICATED);

			if (object->part == SZ_LIVE)
				continue;
			damage_object(&harness, object, form, NULL);
		}
		objects_free(&objects);
		harness_open(&harness);
		harness_check(&harness);
		OK(harness_write(&harness, 0, 100, 300));
		reopen(&harness);
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* A name that somebody gave by chance, and that decrypts to an id: the header says whose it is. */
static void test_names_that_are_other_ids(void **state)
{
	static const enum sz_kind kinds[] = { SZ_KIND_BAND, SZ_KIND_DELTA, SZ_KIND_HOT,
					      SZ_KIND_ROOT };
	struct harness harness;
	struct objects objects;

	(void)state;
	spread_init(&harness, 4, 7);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		CLEANUP_BYTES struct sz_bytes content = { 0 };
		const struct object *object = &objects.list[i];
		char name[SZ_OBJECT_NAME_BYTES];
		struct sz_id id;

		if (object->size_bytes == SZ_KEY_OBJECT_BYTES)
			continue;
		sz_id_make(kinds[i % ARRAY_LENGTH(kinds)], (uint32_t)i % 4,
			   chance(&harness.chance) >> 16 | UINT64_C(1) << 47, i, &id);
		sz_name_encode(&objects.key->keys, &id, name);
		object_read(&harness, object, &content);
		object_remove(&harness, object);
		object_put(&harness, object->disk, object->part, name, &content);
	}
	objects_free(&objects);
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_write(&harness, 0, 100, 300));
	reopen(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A scatter of files is lost over all devices: never garbage, never old content, never zeros. */
static void test_a_scatter_of_files(void **state)
{
	static bool any[SPREAD_SECTORS];
	uint64_t seed = chance_seed("scatter");

	(void)state;
	memset(any, true, sizeof(any));
	for (unsigned int run = 0; run < 12; run++) {
		struct harness harness;
		struct objects objects;
		uint32_t damaged = 0;
		uint32_t again = 0;

		spread_init(&harness, 4, seed + run);
		objects_list(&harness, &objects);
		for (size_t i = 0; i < objects.count; i++) {
			const struct object *object = &objects.list[i];
			enum form form =
				(enum form)(FORM_DELETED + chance_below(&harness.chance,
									FORM_COUNT - FORM_DELETED));

			if (object->kind == SZ_KIND_ROOT || object->kind == SZ_KIND_KEY ||
			    object->kind == SZ_KIND_INDEX || form == FORM_EXCHANGED ||
			    chance_below(&harness.chance, 3) != 0)
				continue;
			damage_object(&harness, object, form, NULL);
		}
		objects_free(&objects);
		harness_open(&harness);
		for (uint32_t i = 0; i < 4; i++)
			damaged += damage_check(&harness, i, any);
		OK(harness_write(&harness, run % 4, 1030, 9));
		reopen(&harness);
		for (uint32_t i = 0; i < 4; i++)
			again += damage_check(&harness, i, any);
		assert_int_equal(again, damaged);
		for (uint32_t i = 0; i < 4; i++)
			heal(&harness, i);
		harness_check(&harness);
		reopen(&harness);
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_bands, report),
		cmocka_unit_test_teardown(test_deltas, report),
		cmocka_unit_test_teardown(test_hot_images, report),
		cmocka_unit_test_teardown(test_bands_below_deltas, report),
		cmocka_unit_test(test_everything_shuffled),
		cmocka_unit_test(test_names_that_are_other_ids),
		cmocka_unit_test(test_a_scatter_of_files),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
