/*
 * Compaction: what is read before and after is the same; what is superseded goes, so that a store that
 * is rewritten for ever stays as large as its content; damage is carried through it, and never becomes
 * zeros, or what was there before.
 */
#include "damage.h"

#include <inttypes.h>

static const struct shape shape = { .devices = 3, .sectors = 1280, .band_sectors = 256 };

static uint64_t stored_bytes(struct harness *harness)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	return info.stored_bytes;
}

static void reopen(struct harness *harness)
{
	OK(harness_close(harness));
	harness_open(harness);
}

/* Random operations, a seal after every few, and now and then a compaction, a close or an abandon. */
static void test_many_seals(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, chance_seed("many seals"));
	harness_open_clean(&harness);
	for (uint64_t i = 0; i < 90 * test_scale(); i++) {
		uint64_t kind = chance_below(&harness.chance, 30);

		for (unsigned int j = 0; j < 4; j++)
			OK(harness_step(&harness));
		OK(kind == 0 ? harness_compact(&harness) : harness_seal(&harness));
		if (kind != 1 && kind != 2)
			continue;
		harness_check(&harness);
		if (kind == 1)
			OK(harness_close(&harness));
		else
			harness_abandon(&harness);
		harness_open_clean(&harness);
		harness_check(&harness);
		harness_check_names(&harness);
	}
	harness_check(&harness);
	OK(harness_compact(&harness));
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* The same sectors again and again: the store does not grow with it. */
static void test_rewriting_does_not_grow_the_store(void **state)
{
	struct harness harness;
	uint64_t once;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 256, 512));
	OK(harness_seal(&harness));
	once = stored_bytes(&harness);
	for (unsigned int round = 0; round < 60; round++) {
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, 256 + 8 * (round % 16), 100));
		OK(harness_seal(&harness));
	}
	harness_check(&harness);
	OK(harness_compact(&harness));
	/* What it replaced goes with its generations. */
	OK(sz_store_collect(harness.store, true, &harness.error));
	harness_check(&harness);
	if (stored_bytes(&harness) > 2 * once)
		fail_msg("%" PRIu64 " bytes, written once: %" PRIu64, stored_bytes(&harness), once);
	reopen(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* All is trimmed: what is left is what an empty store has, and little more. */
static void test_trimmed_space_comes_back(void **state)
{
	struct harness harness;
	uint64_t empty;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	empty = stored_bytes(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 256, 512));
	OK(harness_seal(&harness));
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_trim(&harness, i, 0, shape.sectors));
	OK(harness_seal(&harness));
	OK(harness_compact(&harness));
	OK(sz_store_collect(harness.store, true, &harness.error));
	harness_check(&harness);
	if (stored_bytes(&harness) > empty + UINT64_C(400000))
		fail_msg("%" PRIu64 " bytes, empty: %" PRIu64, stored_bytes(&harness), empty);
	reopen(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* One object of content is lost, or damaged in part; then there are many seals, and compactions. */
static void carry(enum sz_kind kind, enum form form)
{
	struct harness harness;
	struct objects objects;

	spread_init(&harness, 4, 1);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];
		bool cost[SPREAD_SECTORS];
		struct harness copy;
		uint32_t damaged;

		if (object->kind != kind || object->device != 1)
			continue;
		harness_fork_now(&harness, &copy);
		(void)spread_cost(&copy, &objects, object, cost);
		damage_object(&copy, object, form, NULL);
		harness_open(&copy);
		damaged = damage_check(&copy, 1, cost);
		for (unsigned int round = 0; round < 16; round++) {
			OK(harness_write(&copy, 1, 1030, 3));
			OK(harness_write(&copy, 1, 780, 1)); /* heals one sector of band 3 */
			cost[780] = false;
			if (round == 0)
				damaged = damage_check(&copy, 1, cost);
			OK(round % 8 == 7 ? harness_compact(&copy) : harness_seal(&copy));
			assert_int_equal(damage_check(&copy, 1, cost), damaged);
			if (round % 5 == 4)
				reopen(&copy);
		}
		assert_int_equal(damage_check(&copy, 1, cost), damaged);
		for (uint32_t j = 0; j < 4; j++) {
			if (j != 1)
				assert_int_equal(damage_check(&copy, j, NULL), 0);
		}
		OK(harness_close(&copy));
		harness_fini(&copy);
	}
	objects_free(&objects);
	harness_fini(&harness);
}

static void test_damage_is_carried(void **state)
{
	(void)state;
	carry(SZ_KIND_BAND, FORM_DELETED);
	carry(SZ_KIND_BAND, FORM_FLIPPED_SECTOR);
	carry(SZ_KIND_BAND, FORM_FLIPPED_PAGE);
	carry(SZ_KIND_DELTA, FORM_DELETED);
	carry(SZ_KIND_DELTA, FORM_FLIPPED_SECTOR);
	carry(SZ_KIND_HOT, FORM_DELETED);
}

/* A folder that is missing while all that it refers to is compacted away elsewhere. */
static void test_a_missing_device_keeps_what_it_has(void **state)
{
	struct harness harness;
	struct sz_backend *away;

	(void)state;
	spread_init(&harness, 4, 2);
	away = TAKE(harness.disks[3]);
	harness_open(&harness);
	for (unsigned int round = 0; round < 20; round++) {
		OK(harness_write(&harness, 1, 520, 10));
		OK(round % 9 == 8 ? harness_compact(&harness) : harness_seal(&harness));
	}
	OK(harness_close(&harness));
	harness.disks[3] = away;
	harness_open(&harness);
	harness_check(&harness);
	OK(harness_compact(&harness));
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* The largest delta on the disks: its file, by its name. */
static struct object largest_delta(struct harness *harness)
{
	struct object largest = { 0 };
	struct objects objects;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_DELTA &&
		    objects.list[i].size_bytes > largest.size_bytes)
			largest = objects.list[i];
	objects_free(&objects);
	return largest;
}

/* Small deltas come on top of a large one, and are merged again and again: it stays as it is. */
static void test_merges_let_a_large_delta_be(void **state)
{
	static const struct shape wide = { .devices = 1, .sectors = 4096, .band_sectors = 256 };
	struct harness harness;
	struct object before;
	struct object after;

	(void)state;
	harness_init(&harness, &wide, 1);
	harness_open_clean(&harness);
	for (uint64_t sector = 256; sector < 3840; sector += 512)
		OK(harness_write(&harness, 0, sector, 512));
	OK(harness_seal(&harness));
	for (uint64_t sector = 256; sector < 1792; sector += 512)
		OK(harness_write(&harness, 0, sector, 512));
	OK(harness_seal(&harness));
	before = largest_delta(&harness);
	assert_true(before.size_bytes > 1536 * SZ_SECTOR_BYTES);
	for (unsigned int round = 0; round < 40; round++) {
		OK(harness_write(&harness, 0, 300 + 30 * round, 3));
		OK(harness_seal(&harness));
	}
	after = largest_delta(&harness);
	assert_string_equal(before.name, after.name);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* One device of 38 bands, of each of which most has been written a second time. */
static void superseded_prepare(struct harness *harness)
{
	static const struct shape wide = { .devices = 1, .sectors = 10240, .band_sectors = 256 };

	harness_init(harness, &wide, 1);
	harness_open_clean(harness);
	for (uint64_t sector = 256; sector < 9984; sector += 512)
		OK(harness_write(harness, 0, sector, 512));
	OK(harness_seal(harness));
	for (uint64_t sector = 256; sector < 9984; sector += 256)
		OK(harness_write(harness, 0, sector + sector / 256 % 40, 210));
	OK(harness_seal(harness));
}

static bool is_too_dead(struct harness *harness, struct sz_store_info *info)
{
	sz_store_info(harness->store, info);
	assert_true(info->delta_count <= 48);
	return info->dead_bytes * 5 > info->data_bytes * 2;
}

/*
 * No seal does more than a sixteenth of a major compaction, or a band; and they are not begun anew when the store is
 * closed, or crashes, between them.
 */
static void test_a_major_compaction_goes_in_steps(void **state)
{
	struct harness harness;
	struct sz_store_info info;
	unsigned int seals = 0;

	(void)state;
	superseded_prepare(&harness);
	while (is_too_dead(&harness, &info) || info.delta_count > 3) {
		uint64_t most = info.data_bytes / 16 + UINT64_C(2) * 256 * SZ_SECTOR_BYTES;
		uint64_t before = info.compacted_bytes;

		if (++seals > 20)
			fail_msg("it goes on for ever");
		OK(harness_write(&harness, 0, 300 + seals, 2));
		OK(harness_seal(&harness));
		sz_store_info(harness.store, &info);
		assert_true(info.compacted_bytes > before);
		assert_true(info.compacted_bytes - before < most + most / 8);
		harness_check(&harness);
		if (seals % 3 == 0) {
			OK(harness_close(&harness));
		} else if (seals % 3 == 1) {
			OK(harness_flush_all(&harness));
			harness_abandon(&harness);
		}
		if (harness.store == NULL)
			harness_open_clean(&harness);
		harness_check(&harness);
	}
	assert_true(seals >= 6);
	OK(harness_close(&harness));
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Whatever is written and trimmed: too much is dead for no longer than a major compaction takes. */
static void test_dead_space_is_bounded(void **state)
{
	static const struct shape wide = { .devices = 1, .sectors = 4096, .band_sectors = 256 };
	struct harness harness;
	unsigned int too_long = 0;

	(void)state;
	harness_init(&harness, &wide, chance_seed("dead space"));
	harness_open_clean(&harness);
	for (unsigned int round = 0; round < 150 * test_scale(); round++) {
		struct sz_store_info info;

		for (uint64_t i = chance_below(&harness.chance, 4); i < 4; i++) {
			uint64_t sector = chance_below(&harness.chance, wide.sectors - 512);

			if (chance_below(&harness.chance, 5) == 0)
				OK(harness_trim(&harness, 0, sector, 300));
			else
				OK(harness_write(&harness, 0, sector,
						 (uint32_t)chance_below(&harness.chance, 400) + 1));
		}
		OK(harness_seal(&harness));
		too_long = is_too_dead(&harness, &info) &&
					   info.dead_bytes > UINT64_C(512) * SZ_SECTOR_BYTES
				   ? too_long + 1
				   : 0;
		if (too_long > 18)
			fail_msg("%" PRIu64 " of %" PRIu64 " bytes are dead", info.dead_bytes,
				 info.data_bytes);
		if (round % 50 == 49) {
			harness_check(&harness);
			reopen(&harness);
			harness_check(&harness);
		}
	}
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A seal whose next merge is due, on a device with bands and deltas. */
static void merge_prepare(struct harness *harness)
{
	harness_init(harness, &shape, 1);
	harness_open_clean(harness);
	OK(harness_write(harness, 1, 256, 512));
	for (unsigned int round = 0; round < 12; round++) {
		OK(harness_seal(harness));
		OK(harness_write(harness, 1, 300 + 5 * round, 4));
	}
	reopen(harness); /* nothing is open: what is merged has to be opened */
	OK(harness_write(harness, 1, 400, 4));
}

static void give(struct harness *harness, uint64_t free_bytes)
{
	for (uint32_t i = 0; i < shape.devices; i++) {
		struct sz_space space;

		OK(sz_backend_space(harness->disks[i], &space));
		sz_memory_limit(harness->disks[i],
				space.total_bytes - space.free_bytes + free_bytes);
	}
}

/* What cannot be read now, or has no space, holds no seal up; who asked for a compaction is told. */
static void test_a_compaction_that_fails(void **state)
{
	struct harness harness;
	struct sz_store_info before;
	struct sz_store_info after;

	(void)state;
	merge_prepare(&harness);
	sz_store_info(harness.store, &before);
	harness.plan = (struct sz_fault_plan){
		.mask = SZ_OP_OPEN, .fail_at = 1, .fail_from = true, .error = -EIO
	};
	OK(harness_seal(&harness));
	assert_true(harness.plan.count > 0);
	sz_store_info(harness.store, &after);
	assert_int_equal(after.generation, before.generation + 1);
	assert_int_equal(harness_compact(&harness), -EIO);
	harness.plan = (struct sz_fault_plan){ 0 };
	harness_check(&harness);
	give(&harness, UINT64_C(400000));
	assert_int_equal(harness_compact(&harness), -ENOSPC);
	give(&harness, UINT64_C(1) << 30);
	OK(harness_compact(&harness));
	harness_check(&harness);
	reopen(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* One band that cannot be read now: others are compacted all the same. */
static void test_a_band_that_cannot_be_read(void **state)
{
	struct harness harness;
	struct sz_store_info info;

	(void)state;
	superseded_prepare(&harness);
	reopen(&harness);
	OK(harness_write(&harness, 0, 300, 2));
	harness.plan = (struct sz_fault_plan){
		.mask = SZ_OP_OPEN, .fail_at = 1, .fail_from = true, .fail_last = 3, .error = -EIO
	};
	OK(harness_seal(&harness));
	assert_true(harness.plan.count > 3);
	sz_store_info(harness.store, &info);
	assert_true(info.compacted_bytes > 0);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static uint64_t compacted_bytes(struct harness *harness)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	return info.compacted_bytes;
}

/* Where there is space for a seal there is for one that could compact: it does not use up what it needs itself. */
static void test_a_nearly_full_disk(void **state)
{
	bool was_enough = false;

	(void)state;
	for (uint64_t free_bytes = 0; free_bytes < 500000; free_bytes += 20000) {
		struct harness harness;
		int rc;

		merge_prepare(&harness);
		OK(harness_flush_all(&harness));
		give(&harness, free_bytes);
		rc = harness_seal(&harness);
		assert_true(rc == 0 || (rc == -ENOSPC && !was_enough));
		was_enough = rc == 0;
		harness_check(&harness);
		harness_abandon(&harness);
		harness_fini(&harness);
	}
	assert_true(was_enough);
}

/* What a compaction has met, or left, of a full disk does not fail the seal: it goes without. */
static void test_no_space_for_a_compaction(void **state)
{
	struct harness harness;
	bool is_through = false;

	(void)state;
	merge_prepare(&harness);
	for (uint64_t at = 1; !is_through; at++) {
		int rc;

		OK(harness_write(&harness, 1, 256 + at, 4));
		OK(harness_flush_all(&harness));
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_WRITE | SZ_OP_CREATE,
						       .fail_at = at,
						       .error = -ENOSPC };
		rc = harness_seal(&harness);
		is_through = harness.plan.count < at;
		harness.plan = (struct sz_fault_plan){ 0 };
		if (rc != 0) {
			assert_int_equal(rc, -ENOSPC);
			assert_non_null(strstr(harness.error.text, "beginning an epoch"));
		}
	}
	harness_check(&harness);
	reopen(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A seal that is made up for, and one that recovers, do no more than they have to. */
static void test_no_compaction_that_can_wait(void **state)
{
	struct harness harness;
	uint64_t before;

	(void)state;
	merge_prepare(&harness);
	harness.plan = (struct sz_fault_plan){
		.mask = SZ_OP_RENAME, .fail_at = 1, .fail_from = true, .error = -ENOSPC
	};
	assert_int_equal(harness_seal(&harness), -ENOSPC);
	harness.plan = (struct sz_fault_plan){ 0 };
	before = compacted_bytes(&harness);
	OK(harness_seal(&harness));
	assert_int_equal(compacted_bytes(&harness), before);
	OK(harness_write(&harness, 1, 500, 4));
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness_open_clean(&harness);
	assert_int_equal(compacted_bytes(&harness), 0);
	OK(harness_write(&harness, 1, 510, 4));
	OK(harness_seal(&harness));
	assert_true(compacted_bytes(&harness) > 0);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_seals),
		cmocka_unit_test(test_rewriting_does_not_grow_the_store),
		cmocka_unit_test(test_trimmed_space_comes_back),
		cmocka_unit_test(test_damage_is_carried),
		cmocka_unit_test(test_a_missing_device_keeps_what_it_has),
		cmocka_unit_test(test_merges_let_a_large_delta_be),
		cmocka_unit_test(test_a_major_compaction_goes_in_steps),
		cmocka_unit_test(test_dead_space_is_bounded),
		cmocka_unit_test(test_a_compaction_that_fails),
		cmocka_unit_test(test_a_band_that_cannot_be_read),
		cmocka_unit_test(test_a_nearly_full_disk),
		cmocka_unit_test(test_no_space_for_a_compaction),
		cmocka_unit_test(test_no_compaction_that_can_wait),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
