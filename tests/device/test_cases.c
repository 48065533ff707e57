/*
 * Cases that have cost other designs their data, one by one: bands that are emptied and opened again,
 * roots that cannot be read while others are collected, few roots left, full disks at every
 * operation, copies that share their files or their blocks with the original.
 */
#include "damage.h"
#include "paths.h"

#include <ftw.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BAND 256U

static const struct shape shape = { .devices = 3, .sectors = 1280, .band_sectors = BAND };

/* Everything is read, after a seal, after an opening, and after a crash that loses what is not synced. */
static void settle(struct harness *harness, unsigned int how)
{
	if (how % 3 == 0)
		OK(harness_seal(harness));
	else if (how % 3 == 1)
		OK(harness_close(harness));
	else
		OK(harness_flush_all(harness));
	if (how % 3 == 2) {
		harness_abandon(harness);
		harness_cut(harness, SZ_CRASH_DROP, how);
	}
	if (harness->store == NULL)
		harness_open_clean(harness);
	harness_check(harness);
}

/* Sectors of a sealed band are trimmed, sealed, opened, written again. */
static void test_a_sealed_band_is_trimmed(void **state)
{
	(void)state;
	for (unsigned int how = 0; how < 27; how++) {
		struct harness harness;

		harness_init(&harness, &shape, how);
		harness_open_clean(&harness);
		OK(harness_write(&harness, 1, BAND, BAND));
		OK(harness_seal(&harness));
		OK(harness_trim(&harness, 1, BAND + 20, how % 2 == 0 ? 100 : BAND - 20));
		settle(&harness, how);
		OK(harness_write(&harness, 1, BAND + 30,
				 40)); /* some of them, and their neighbours */
		OK(harness_trim(&harness, 1, BAND + 60, 60));
		settle(&harness, how / 3);
		OK(harness_trim(&harness, 1, 0, shape.sectors));
		settle(&harness, how / 9);
		OK(harness_compact(&harness));
		OK(harness_write(&harness, 1, BAND, BAND));
		settle(&harness, how);
		harness_check_names(&harness);
		harness_fini(&harness);
	}
}

/*
 * A band of which little is left is given up, what is left goes to a delta; then it is opened again
 * below that, and what the delta says stays true.
 */
static void test_a_band_that_a_delta_emptied(void **state)
{
	(void)state;
	for (unsigned int how = 0; how < 27; how++) {
		struct harness harness;

		harness_init(&harness, &shape, how);
		harness_open_clean(&harness);
		OK(harness_write(&harness, 1, BAND, BAND));
		OK(harness_write(&harness, 1, 2 * BAND, BAND));
		OK(harness_seal(&harness));
		OK(harness_trim(&harness, 1, BAND + 5, BAND - 5));
		settle(&harness, how);
		OK(harness_compact(&harness)); /* five sectors are no band */
		harness_check(&harness);
		OK(harness_write(&harness, 1, BAND + 40, 90)); /* opens it again */
		if (how % 2 == 0)
			settle(&harness, how / 3);
		OK(harness_write(&harness, 1, BAND, 40)); /* over what the delta has */
		OK(harness_trim(&harness, 1, BAND + 2, 2));
		settle(&harness, how / 9);
		OK(harness_compact(&harness));
		settle(&harness, how);
		harness_check_names(&harness);
		harness_fini(&harness);
	}
}

/* Some generations, each of its own objects. */
static void generations_make(struct harness *harness, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		for (uint32_t device = 0; device < harness->shape.devices; device++)
			OK(harness_write(harness, device, 300 + 17 * i, 9));
		OK(harness_seal(harness));
	}
}

static bool has_object(const struct objects *objects, const struct object *object)
{
	for (size_t i = 0; i < objects->count; i++)
		if (objects->list[i].disk == object->disk &&
		    strcmp(objects->list[i].name, object->name) == 0)
			return true;
	return false;
}

static uint64_t newest_generation(const struct objects *objects)
{
	uint64_t newest = 0;

	for (size_t i = 0; i < objects->count; i++)
		if (objects->list[i].kind == SZ_KIND_ROOT && objects->list[i].generation > newest)
			newest = objects->list[i].generation;
	return newest;
}

static uint64_t stored(struct harness *harness)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	return info.stored_bytes;
}

/* Of a label that is written anew only what is new takes space; what was trimmed is written, zeros too. */
static void test_a_label_that_stays(void **state)
{
	struct harness harness;
	struct sz_device *device;
	uint8_t *label;
	uint64_t before;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	device = sz_store_device(harness.store, 1);
	OK(harness_write(&harness, 1, 4, 28));
	OK(harness_flush_all(&harness));
	label = malloc(28 * (size_t)SZ_SECTOR_BYTES);
	assert_non_null(label);
	memcpy(label, harness.buffer, 28 * (size_t)SZ_SECTOR_BYTES);
	for (unsigned int is_sealed = 0; is_sealed < 2; is_sealed++) {
		if (is_sealed == 1)
			OK(harness_seal(&harness));
		before = stored(&harness);
		OK(sz_device_write(device, 4, 28, label));
		OK(sz_device_flush(device));
		assert_int_equal(stored(&harness), before);
	}
	OK(harness_write(&harness, 1, 10, 2));
	memcpy(label + 6 * (size_t)SZ_SECTOR_BYTES, harness.buffer, 2 * (size_t)SZ_SECTOR_BYTES);
	OK(harness_trim(&harness, 1, 20, 1));
	OK(harness_flush_all(&harness));
	before = stored(&harness);
	OK(sz_device_write(device, 4, 16, label));
	OK(sz_device_flush(device));
	assert_int_equal(stored(&harness), before);
	OK(harness_write(&harness, 1, 20, 3));
	OK(harness_flush_all(&harness));
	assert_true(stored(&harness) >= before + 4 * (uint64_t)SZ_SECTOR_BYTES);
	free(label);
	harness_check(&harness);
	harness_abandon(&harness);
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* What the root of an earlier generation refers to is not known: nothing of that time is removed. */
static void test_an_unreadable_root(void **state)
{
	static const enum form forms[] = { FORM_FLIPPED_HEADER, FORM_EMPTY, FORM_RANDOM };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(forms); i++) {
		struct harness harness;
		struct objects before;
		struct objects after;
		unsigned int damaged = 0;
		uint64_t newest;

		harness_init(&harness, &shape, i);
		harness_open_clean(&harness);
		generations_make(&harness, 4);
		harness_abandon(&harness);
		objects_list(&harness, &before);
		newest = newest_generation(&before);
		for (size_t j = 0; j < before.count; j++) {
			const struct object *object = &before.list[j];

			if (object->kind != SZ_KIND_ROOT || object->generation != newest - 1)
				continue;
			damage_object(&harness, object, forms[i], NULL);
			damaged++;
		}
		assert_int_equal(damaged, shape.devices);
		harness_open(&harness);
		harness_check(&harness);
		generations_make(&harness, 4);
		harness_check(&harness);
		OK(harness_close(&harness));
		objects_list(&harness, &after);
		for (size_t j = 0; j < before.count; j++) {
			const struct object *object = &before.list[j];

			if (object->part == SZ_SEALED && !has_object(&after, object))
				fail_msg("kind %d of generation %" PRIu64 " was removed",
					 (int)object->kind, object->generation);
		}
		objects_free(&before);
		objects_free(&after);
		harness_fini(&harness);
	}
}

/* From some reading of a seal on nothing can be read: that is no damage, and nothing that is needed goes. */
static void test_a_seal_that_cannot_read(void **state)
{
	unsigned int over = 0; /* those that read less than that: seals, and compactions */

	(void)state;
	for (uint64_t at = 1; over < 6; at++) {
		struct harness harness;

		harness_init(&harness, &shape, at);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, BAND, 2 * BAND));
		generations_make(&harness, 11);
		OK(harness_write(&harness, 1, 310, 30));
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_OPEN | SZ_OP_READ | SZ_OP_LIST,
						       .fail_at = at,
						       .fail_from = true,
						       .error = -EIO };
		(void)!(at % 2 == 0 ? harness_seal(&harness) : harness_compact(&harness));
		over += harness.plan.count < at;
		harness.plan = (struct sz_fault_plan){ 0 };
		assert_int_equal(harness_damage(&harness, true), 0);
		harness_check(&harness);
		if (at % 2 == 0)
			OK(harness_seal(&harness));
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, at);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* The newest root is in two of six folders only: it is the newest all the same. */
static void test_two_roots_of_six(void **state)
{
	const struct shape six = { .devices = 6, .sectors = 1024, .band_sectors = BAND };

	(void)state;
	for (uint32_t first = 0; first < six.devices; first++) {
		struct harness harness;
		struct objects objects;
		uint64_t newest;

		harness_init(&harness, &six, first);
		harness_open_clean(&harness);
		generations_make(&harness, 3);
		OK(harness_close(&harness));
		objects_list(&harness, &objects);
		newest = newest_generation(&objects);
		for (size_t i = 0; i < objects.count; i++) {
			const struct object *object = &objects.list[i];

			if (object->kind == SZ_KIND_ROOT && object->generation == newest &&
			    object->disk != first && object->disk != (first + 2) % six.devices)
				object_remove(&harness, object);
		}
		objects_free(&objects);
		harness_open_clean(&harness);
		harness_check(&harness);
		OK(harness_write(&harness, 0, 300, 3));
		OK(harness_close(&harness));
		harness_open_clean(&harness);
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* One full disk, for one operation, of every operation of seals, merges, collection and closing. */
static void test_no_space_at_every_operation(void **state)
{
	bool is_over = false;

	(void)state;
	for (uint64_t at = 1; !is_over; at += 1 + 4 / test_scale()) {
		struct harness harness;
		int rc;

		harness_init(&harness, &shape, at);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, BAND, 2 * BAND));
		generations_make(&harness, 12);
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE,
						       .fail_at = at,
						       .error = -ENOSPC };
		for (uint32_t i = 0; i < shape.devices; i++)
			(void)!harness_write(&harness, i, 320, 40);
		(void)!harness_compact(&harness);
		(void)!harness_trim(&harness, 0, 300, 100);
		rc = harness_close(&harness);
		is_over = harness.plan.count < at;
		harness.plan = (struct sz_fault_plan){ 0 };
		if (is_over)
			OK(rc);
		harness_cut(&harness, SZ_CRASH_DROP, at);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* Copies that share files (cp -al) or, where the file system can, blocks with the original. */

static void run_cp(const char *how, const char *from, const char *to)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		(void)execlp("cp", "cp", how, "-a", from, to, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void work(struct harness *harness)
{
	for (unsigned int i = 0; i < 60; i++)
		OK(harness_step(harness));
}

/* The sum of what is in a tree: lengths and contents of all files but the lock's record. */
static uint64_t tree_sum;
static int tree_add(const char *path, const struct stat *status, int type, struct FTW *at)
{
	CLEANUP_FREE uint8_t *content = NULL;
	FILE *file;

	if (type != FTW_F || at->level < 2) /* the store's own folder has the lock */
		return 0;
	content = malloc((size_t)status->st_size + 1);
	file = fopen(path, "re");
	assert_true(content != NULL && file != NULL);
	assert_int_equal(fread(content, 1, (size_t)status->st_size, file), status->st_size);
	(void)fclose(file);
	for (off_t i = 0; i < status->st_size; i++)
		tree_sum = tree_sum * 31 + content[i];
	return 0;
}

static uint64_t sum_of(const char *path)
{
	tree_sum = 0;
	/* FTW_PHYS: in an order that depends on the folder alone, which nobody changes in between. */
	OK(nftw(path, tree_add, 16, FTW_PHYS));
	return tree_sum;
}

/* Opens one, finds all that is in it, goes on in it; the other's files stay as they are. */
static void use_one(struct place *one, const struct place *other, unsigned int how)
{
	uint64_t sum = sum_of(other->path);

	OK(place_try_open(one, one->path, false));
	assert_int_equal(harness_damage(&one->harness, true), 0);
	harness_check_recovered(&one->harness);
	work(&one->harness);
	if (how % 3 == 0)
		OK(harness_compact(&one->harness));
	if (how % 2 == 0) {
		OK(harness_flush_all(&one->harness));
		harness_abandon(&one->harness);
	} else {
		OK(harness_close(&one->harness));
	}
	assert_true(sum_of(other->path) == sum);
}

/* An original and its copy, by turns: each goes its own way. */
static void run_twins(const char *how, bool with_live)
{
	struct sz_backend *const none[MODEL_DEVICES_MAX] = { NULL };
	struct place place;
	struct place twin = { 0 };

	place_init(&place, &shape, chance_seed(how));
	place_open(&place);
	work(&place.harness);
	if (with_live) {
		OK(harness_flush_all(&place.harness));
		harness_abandon(&place.harness);
	} else {
		OK(harness_close(&place.harness));
	}
	(void)snprintf(twin.path, sizeof(twin.path), "%.200s/copy", place.top);
	run_cp(how, place.path, twin.path);
	harness_fork(&place.harness, none, &twin.harness);
	for (unsigned int i = 0; i < 6; i++) {
		use_one(&twin, &place, i);
		use_one(&place, &twin, i);
	}
	harness_fini(&twin.harness);
	place_fini(&place);
}

static void test_hard_links(void **state)
{
	(void)state;
	run_twins("-l", false);
	run_twins("-l", true);
}

static void test_clones(void **state)
{
	(void)state;
	run_twins("--reflink=auto", false);
	run_twins("--reflink=never", true);
}

/* A band that was finished before a crash is recovered, also where its shard is lost meanwhile. */
static void a_band_in_a_lost_shard(unsigned int written)
{
	struct harness harness;
	struct objects objects;

	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	OK(harness_write(&harness, 1, 256, 256));
	OK(harness_seal(&harness));
	OK(harness_write(&harness, 1, 300,
			 4)); /* the manifest is of another generation than the shard */
	OK(harness_seal(&harness));
	for (unsigned int i = 0; i < written; i += 128)
		OK(harness_write(&harness, 1, 768 + i, 128));
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_INDEX && objects.list[i].device == 1 &&
		    objects.list[i].generation == 2)
			object_remove(&harness, &objects.list[i]);
	objects_free(&objects);
	for (unsigned int opening = 0; opening < 2; opening++) {
		harness_open(&harness);
		assert_true(harness_damage(&harness, false) > 0);
		OK(harness_observe(&harness, 1));
		for (uint32_t i = 768; i < 768 + written; i++)
			if (harness.observed[1][i] == MODEL_DAMAGED)
				fail_msg("sector %u is lost", i);
		OK(harness_close(&harness));
	}
	harness_fini(&harness);
}

static void test_bands_in_a_lost_shard(void **state)
{
	(void)state;
	a_band_in_a_lost_shard(256);
	a_band_in_a_lost_shard(128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_sealed_band_is_trimmed),
		cmocka_unit_test(test_a_band_that_a_delta_emptied),
		cmocka_unit_test(test_a_label_that_stays),
		cmocka_unit_test(test_an_unreadable_root),
		cmocka_unit_test(test_a_seal_that_cannot_read),
		cmocka_unit_test(test_two_roots_of_six),
		cmocka_unit_test(test_no_space_at_every_operation),
		cmocka_unit_test(test_hard_links),
		cmocka_unit_test(test_clones),
		cmocka_unit_test(test_bands_in_a_lost_shard),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
