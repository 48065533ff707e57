/*
 * Files of a live epoch that were copied, or damaged, before it is recovered. Whatever becomes of one
 * of them: the store opens, and nothing sealed is lost. What is recovered of the epoch is one point in
 * time of all devices, if the log shows that it is a copy; else the other devices have everything, and
 * this one the first part of it, with sectors in it that are known to be damaged.
 */
#include "../device/damage.h"

#include <inttypes.h>

#define DEVICES 3U

static char current[120]; /* which case; "": none */

static int report(void **state)
{
	(void)state;
	if (current[0] != '\0')
		print_message("# %s\n", current);
	current[0] = '\0';
	return 0;
}

/* A store whose last epoch, with bands and logs, is live and flushed. Returns where that began. */
static size_t live_init(struct harness *harness, uint64_t seed)
{
	size_t sealed;

	spread_init(harness, DEVICES, seed);
	sealed = harness->model.length;
	harness_open_clean(harness);
	for (unsigned int round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < DEVICES; i++) {
			OK(harness_write(harness, i, 1024 + 30 * round, 30));
			OK(harness_write(harness, i, 300 + 3 * round, 5));
			OK(harness_write(harness, i, round, 2));
			OK(harness_trim(harness, i, 400 + 4 * round, 2));
			if (round % 2 == 0)
				OK(harness_flush(harness, i));
		}
	}
	OK(harness_flush_all(harness));
	harness_abandon(harness);
	return sealed;
}

static void observe_all(struct harness *harness)
{
	for (uint32_t i = 0; i < DEVICES; i++)
		OK(harness_observe(harness, i));
}

/* What is there is the truth from now on; the store can be used, and says the same when opened again. */
static void go_on(struct harness *harness)
{
	for (uint32_t i = 0; i < DEVICES; i++) {
		for (uint32_t j = 0; j < SPREAD_SECTORS; j++) {
			if (harness->observed[i][j] == MODEL_DAMAGED)
				OK(harness_write(harness, i, j, 1));
		}
	}
	observe_all(harness);
	for (uint32_t i = 0; i < DEVICES; i++)
		model_collapse(&harness->model, i, harness->observed[i]);
	OK(harness_write(harness, 1, 300, 40));
	OK(harness_flush_all(harness));
	harness_abandon(harness);
	harness_open_clean(harness);
	harness_check(harness);
	OK(harness_close(harness));
}

static void expect_instant(struct harness *harness, size_t least)
{
	harness_open_clean(harness);
	observe_all(harness);
	assert_true(model_is_instant(&harness->model, harness->observed, least, true));
	go_on(harness);
}

/* The first part of what came after the seal; what is known to be damaged may be anything. */
static void check_victim(struct harness *harness, uint32_t device, size_t sealed)
{
	struct model *model = &harness->model;
	CLEANUP_FREE uint32_t *observed = malloc(SPREAD_SECTORS * sizeof(*observed));

	assert_non_null(observed);
	for (uint32_t i = 0; i < SPREAD_SECTORS; i++) {
		bool is_damaged = harness->observed[device][i] == MODEL_DAMAGED;

		observed[i] = is_damaged ? MODEL_ANY : harness->observed[device][i];
	}
	memset(model->content[device], 0, SPREAD_SECTORS * sizeof(*observed));
	model->settled[device] = 0;
	model_settle(model, device, sealed);
	assert_true(model_agrees(model, device, observed, false));
}

/* A file of this device was damaged, in a folder that is the store's own otherwise. */
static void expect_one_victim(struct harness *harness, uint32_t device, size_t sealed)
{
	harness_open(harness);
	observe_all(harness);
	if (!model_is_instant(&harness->model, harness->observed, sealed, false)) {
		for (uint32_t i = 0; i < DEVICES; i++) {
			if (i != device)
				assert_true(model_agrees(&harness->model, i, harness->observed[i],
							 true));
		}
		check_victim(harness, device, sealed);
	}
	go_on(harness);
}

static void test_one_file(void **state)
{
	struct harness original;
	struct objects objects;
	unsigned int logs = 0;
	unsigned int bands = 0;
	size_t sealed = live_init(&original, 1);

	(void)state;
	objects_list(&original, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->part != SZ_LIVE)
			continue;
		logs += object->kind == SZ_KIND_LOG;
		bands += object->kind == SZ_KIND_BAND;
		for (unsigned int form = 0; form < FORM_COUNT; form++) {
			struct harness harness;

			if (form == FORM_EXCHANGED)
				continue;
			(void)snprintf(current, sizeof(current),
				       "kind %d of device %" PRIu32 ": %s", (int)object->kind,
				       object->device, form_name((enum form)form));
			harness_fork_now(&original, &harness);
			damage_object(&harness, object, (enum form)form, NULL);
			expect_one_victim(&harness, object->device, sealed);
			harness_fini(&harness);
			current[0] = '\0';
		}
	}
	assert_true(logs == DEVICES && bands > 0);
	objects_free(&objects);
	harness_fini(&original);
}

/* Logs cut, or flipped, at every page: the later it is, the more is there. */
static void test_logs_cut_anywhere(void **state)
{
	struct harness original;
	struct objects objects;
	size_t sealed = live_init(&original, 2);

	(void)state;
	objects_list(&original, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->part != SZ_LIVE || object->kind != SZ_KIND_LOG || object->device != 1)
			continue;
		for (uint64_t at = 0; at < object->size_bytes; at += 2048) {
			CLEANUP_BYTES struct sz_bytes content = { 0 };
			struct harness harness;

			(void)snprintf(current, sizeof(current),
				       "log, byte %" PRIu64 " of %" PRIu64, at, object->size_bytes);
			harness_fork_now(&original, &harness);
			object_read(&harness, object, &content);
			if (at / 2048 % 2 == 0)
				content.length = at;
			else
				content.data[at] ^= 1;
			object_put(&harness, object->disk, object->part, object->name, &content);
			expect_one_victim(&harness, 1, sealed);
			harness_fini(&harness);
			current[0] = '\0';
		}
	}
	objects_free(&objects);
	harness_fini(&original);
}

/*
 * Some devices have lost their logs, in a folder that is the store's own otherwise. As far as redundancy
 * covers it, the others keep all that they acknowledged; beyond, all devices are at one point in time.
 */
static void test_lost_logs(void **state)
{
	const uint32_t devices = 6; /* the harness gives them a redundancy of two */

	(void)state;
	for (uint32_t lost = 0; lost <= devices; lost++) {
		struct harness harness;
		struct objects objects;

		spread_init(&harness, devices, lost);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < devices; i++) {
			OK(harness_write(&harness, i, 1024, 90));
			OK(harness_write(&harness, i, 300, 5));
			OK(harness_flush(&harness, i));
		}
		harness_abandon(&harness);
		objects_list(&harness, &objects);
		for (size_t i = 0; i < objects.count; i++)
			if (objects.list[i].kind == SZ_KIND_LOG && objects.list[i].device < lost)
				object_remove(&harness, &objects.list[i]);
		objects_free(&objects);
		harness_open(&harness);
		for (uint32_t i = 0; i < devices; i++) {
			OK(harness_observe(&harness, i));
			if (lost <= 2 && i >= lost)
				assert_true(
					model_agrees(&harness.model, i, harness.observed[i], true));
		}
		if (lost > 2)
			assert_true(model_is_instant(&harness.model, harness.observed, 0, true));
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* A whole copy: all was flushed everywhere, so all is there. Without live/: what was sealed. */
static void test_whole_copies(void **state)
{
	for (unsigned int with_live = 0; with_live < 2; with_live++) {
		struct harness original;
		struct harness copy;
		struct objects objects;
		size_t sealed = live_init(&original, 3);

		(void)state;
		harness_fork_now(&original, &copy);
		objects_list(&original, &objects);
		for (size_t i = 0; i < objects.count; i++) {
			CLEANUP_BYTES struct sz_bytes content = { 0 };
			const struct object *object = &objects.list[i];

			object_read(&original, object, &content);
			object_remove(&copy, object);
			if (object->part == SZ_SEALED || with_live != 0)
				object_put(&copy, object->disk, object->part, object->name,
					   &content);
		}
		if (with_live == 0)
			copy.model.length = sealed;
		expect_instant(&copy, copy.model.length);
		objects_free(&objects);
		harness_fini(&copy);
		harness_fini(&original);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_one_file, report),
		cmocka_unit_test_teardown(test_logs_cut_anywhere, report),
		cmocka_unit_test(test_lost_logs),
		cmocka_unit_test(test_whole_copies),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
