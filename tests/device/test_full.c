/*
 * A full disk: writes fail with ENOSPC and nothing else happens; what was flushed is there, now and
 * after an opening that has no more space than before; with some space back the store goes on. History goes
 * to make room.
 */
#include "objects.h"

#include <inttypes.h>

static const struct shape shape = { .devices = 3, .sectors = 1280, .band_sectors = 256 };

static void leave_free_on(struct harness *harness, uint32_t disk, uint64_t bytes)
{
	struct sz_space space;

	OK(sz_backend_space(harness->disks[disk], &space));
	sz_memory_limit(harness->disks[disk], space.total_bytes - space.free_bytes + bytes);
}

/* Leaves so many bytes free on each disk, from now on. */
static void leave_free(struct harness *harness, uint64_t bytes)
{
	for (uint32_t i = 0; i < shape.devices; i++)
		leave_free_on(harness, i, bytes);
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

static bool are_online(struct harness *harness)
{
	for (uint32_t i = 0; i < shape.devices; i++)
		if (sz_device_state(sz_store_device(harness->store, i)) != SZ_DEVICE_ONLINE)
			return false;
	return true;
}

static void test_writes_go_on_when_there_is_space_again(void **state)
{
	struct harness harness;

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		begin(&harness, seed);
		leave_free(&harness, seed * 300000);
		fill(&harness);
		assert_true(are_online(&harness));
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

/* A seal that finds no space, and needs more than the spare, fails; the store can be used, and sealed later. */
static void test_a_seal_without_space(void **state)
{
	struct harness harness;
	int rc;

	(void)state;
	begin(&harness, 1);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 256, 256));
	leave_free(&harness, 8192);
	rc = harness_seal(&harness);
	assert_int_equal(rc, -ENOSPC);
	assert_true(harness.error.text[0] != '\0');
	assert_true(are_online(&harness));
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

static size_t generations(struct harness *harness)
{
	CLEANUP(sz_check_free) struct sz_check check = { 0 };

	OK(sz_store_generations(harness->store, &check, NULL));
	return check.count;
}

/* Of which older generations have something of their own; open. */
static void begin_old(struct harness *harness)
{
	harness_init(harness, &shape, 1);
	harness_open_clean(harness);
	for (unsigned int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(harness, i, 512, 256));
			OK(harness_write(harness, i, 30, 7));
		}
		OK(harness_seal(harness));
	}
	OK(harness_compact(harness));
	assert_true(generations(harness) > 2);
}

/* As the leaf driver writes: what finds no space has room made for it. */
static int write_making_room(struct harness *harness, uint32_t device, uint64_t sector,
			     uint32_t count)
{
	for (;;) {
		uint64_t since_ns = sz_clock_ns();
		int rc = harness_write(harness, device, sector, count);

		if (rc != -ENOSPC ||
		    sz_device_make_room(sz_store_device(harness->store, device), since_ns) != 0)
			return rc;
	}
}

static void test_history_goes_first(void **state)
{
	struct harness harness;

	(void)state;
	begin_old(&harness);
	leave_free(&harness, 0);
	assert_int_equal(sz_store_room(harness.store), 0);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(write_making_room(&harness, i, 600, 60));
	assert_int_equal(generations(&harness), 1);
	OK(harness_flush_all(&harness));
	harness_check(&harness);
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check_recovered(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* So it does for a seal, and for a recovery. */
static void test_history_goes_for_a_seal(void **state)
{
	(void)state;
	for (unsigned int is_crash = 0; is_crash < 2; is_crash++) {
		struct harness harness;

		begin_old(&harness);
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, 600, 60));
		OK(harness_flush_all(&harness));
		if (is_crash == 0)
			OK(harness_seal(&harness));
		else
			harness_abandon(&harness);
		for (uint32_t i = 0; i < shape.devices && is_crash == 0; i++)
			OK(harness_write(&harness, i, 520, 240));
		leave_free(&harness, 50000);
		if (is_crash == 0)
			OK(harness_seal(&harness));
		else
			harness_open_clean(&harness);
		harness_check(&harness);
		if (generations(&harness) > 2)
			fail_msg("%zu generations, crash: %u", generations(&harness), is_crash);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

static void test_new_data_lets_history_go(void **state)
{
	struct harness harness;
	size_t before;
	uint64_t room;

	(void)state;
	begin_old(&harness);
	before = generations(&harness);
	room = sz_store_room(harness.store);
	assert_true(room > 0 && room < UINT64_MAX);
	OK(sz_store_make_room(harness.store, room / 2));
	assert_int_equal(generations(&harness), before); /* there was room */
	leave_free(&harness, 65 << 20);
	assert_int_equal(sz_store_make_room(harness.store, UINT64_C(1) << 30), -ENOSPC);
	assert_int_equal(generations(&harness), 1);
	leave_free(&harness, 0);
	assert_int_equal(sz_store_make_room(harness.store, 1), -ENOSPC);
	harness_check(&harness);
	leave_free(&harness, UINT64_C(1) << 20);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Where the host says late what is free new data is not refused for that. */
static void test_space_that_is_told_late(void **state)
{
	const uint64_t wanted = shape.devices * (UINT64_C(1) << 19);
	struct harness harness;

	(void)state;
	begin_old(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		sz_memory_count_late(harness.disks[i]);
	leave_free(&harness, UINT64_C(64) << 20);
	OK(sz_store_make_room(harness.store, wanted));
	assert_true(sz_store_room(harness.store) >= wanted);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A store of bands that are dead in part alone, without history, on disks without room. */
static void begin_dead(struct harness *harness)
{
	harness_init(harness, &shape, 1);
	harness_open_clean(harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		for (uint32_t sector = 256; sector < 1024; sector += 256)
			OK(harness_write(harness, i, sector, 256));
	OK(harness_seal(harness));
	for (uint32_t i = 0; i < shape.devices; i++)
		for (uint32_t sector = 256; sector < 1024; sector += 256)
			OK(harness_trim(harness, i, sector + 3, 250));
	OK(harness_seal(harness));
	OK(sz_store_collect(harness->store, true, NULL));
	leave_free(harness, UINT64_C(64) << 20);
}

/* Bands of which a little is needed still are written anew, one after the other in what the reserve lends. */
static void test_what_is_dead_in_part_makes_room(void **state)
{
	const uint64_t mib = UINT64_C(1) << 20;
	struct harness harness;

	(void)state;
	begin_dead(&harness);
	assert_int_equal(sz_store_room(harness.store), 0);
	OK(sz_store_make_room(harness.store, shape.devices * 2 * mib));
	assert_true(sz_store_room(harness.store) >= shape.devices * 2 * mib);
	harness_check(&harness);
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check(&harness);
	harness_check_names(&harness);
	/* All that can be won has been: that is said, and once more without a seal. */
	assert_int_equal(sz_store_make_room(harness.store, UINT64_C(1) << 40), -ENOSPC);
	{
		struct sz_store_info before;
		struct sz_store_info after;

		sz_store_info(harness.store, &before);
		assert_int_equal(sz_store_make_room(harness.store, UINT64_C(1) << 40), -ENOSPC);
		sz_store_info(harness.store, &after);
		assert_int_equal(after.generation, before.generation);
	}
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Of a device, in the folder of one. */
static size_t spare_files_in(struct harness *harness, uint32_t disk, uint32_t device)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		count += objects.list[i].kind == SZ_KIND_SPARE && objects.list[i].disk == disk &&
			 objects.list[i].device == device;
	objects_free(&objects);
	return count;
}

static size_t spare_files(struct harness *harness, uint32_t device)
{
	return spare_files_in(harness, device, device);
}

/* The disk is full after all, once or from then on, at each operation of that. It ends, and takes no spare. */
static void test_making_room_finds_none(void **state)
{
	bool is_over = false;

	(void)state;
	for (uint64_t at = 1; !is_over; at += 1 + 4 / test_scale()) {
		struct harness harness;
		int rc;

		begin_dead(&harness);
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						       .fail_at = at,
						       .fail_from = at % 2 == 0,
						       .error = -ENOSPC };
		rc = sz_store_make_room(harness.store, UINT64_C(1) << 40);
		assert_int_equal(rc, -ENOSPC);
		is_over = harness.plan.count < at;
		harness.plan = (struct sz_fault_plan){ 0 };
		assert_int_equal(spare_files(&harness, 1), 2);
		/* Where it was a sync that found no space, the device has failed. */
		if (are_online(&harness)) {
			harness_check(&harness);
			OK(harness_write(&harness, 1, 30, 7));
			OK(harness_seal(&harness));
			harness_check(&harness);
		}
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_DROP, at);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* What removing a file is to a device. */
static int remove_some(struct harness *harness)
{
	int rc = 0;

	for (uint32_t i = 0; i < shape.devices && rc == 0; i++) {
		rc = write_making_room(harness, i, 30, 4);
		if (rc == 0)
			rc = write_making_room(harness, i, 700, 5);
		if (rc == 0)
			rc = harness_trim(harness, i, 256, 256);
	}
	return rc == 0 ? harness_flush_all(harness) : rc;
}

static void nothing_at_all(struct harness *harness)
{
	leave_free(harness, 0);
	OK(sz_store_collect(harness->store, true, NULL));
	leave_free(harness, 0);
}

/* Not a byte is free, and no history may go: what removes goes on, is sealed, and the next opening does the same. */
static void test_nothing_is_free(void **state)
{
	struct harness harness;

	(void)state;
	begin(&harness, 1);
	OK(harness_seal(&harness));
	for (unsigned int round = 0; round < 2; round++) {
		nothing_at_all(&harness);
		if (round == 0)
			OK(harness_close(&harness));
		else
			harness_abandon(&harness);
		leave_free(&harness, 0);
		harness_open_clean(&harness);
		assert_int_equal(spare_files(&harness, 1), 2);
		OK(remove_some(&harness));
		OK(harness_seal(&harness));
		harness_check(&harness);
		give_all(&harness);
		OK(harness_write(&harness, 0, 800, 7));
		OK(harness_seal(&harness));
		assert_int_equal(spare_files(&harness, 1), 2); /* it is made again */
	}
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* The same where the process is killed, or the machine fails, at each operation. */
static void test_nothing_is_free_and_it_is_cut(void **state)
{
	struct harness base;
	uint64_t operations;
	uint64_t step;

	(void)state;
	begin(&base, 1);
	OK(harness_seal(&base));
	nothing_at_all(&base);
	OK(harness_close(&base));
	leave_free(&base, 0);
	operations = 1;
	step = test_scale() > 1 ? 1 : 5;
	for (uint64_t at = 1; at <= operations; at += step) {
		struct harness harness;
		int rc;

		harness_fork_now(&base, &harness);
		leave_free(&harness, 0);
		harness_open_clean(&harness);
		harness.plan = (struct sz_fault_plan){
			.mask = SZ_OP_CHANGES, .fail_at = at, .fail_from = true, .error = -EIO
		};
		rc = remove_some(&harness);
		if (rc == 0)
			rc = harness_seal(&harness);
		if (rc == 0) /* it was not reached */
			operations = 0;
		else if (at + step > operations)
			operations = at + step;
		harness_abandon(&harness);
		harness.plan = (struct sz_fault_plan){ 0 };
		harness_cut(&harness, (enum sz_crash)(at % 4), at);
		leave_free(&harness, 0);
		rc = harness_try_open(&harness, false);
		if (rc != 0) { /* others took what the seal had been given */
			assert_int_equal(rc, -ENOSPC);
			OK(harness_try_open(&harness, true));
			assert_int_equal(harness_damage(&harness, true), 0);
			harness_check_prefix(&harness);
			OK(harness_close(&harness));
			give_all(&harness);
			harness_open_clean(&harness);
		}
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		give_all(&harness);
		OK(harness_close(&harness));
		harness_open_clean(&harness);
		assert_int_equal(spare_files(&harness, 0), 2);
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
	harness_fini(&base);
}

/* One disk is full: the others keep their spares; those for seals stay as long as the others do. */
static void test_one_disk_is_full(void **state)
{
	struct harness harness;

	(void)state;
	begin(&harness, 1);
	OK(harness_seal(&harness));
	OK(sz_store_collect(harness.store, true, NULL));
	give_all(&harness);
	leave_free_on(&harness, 1, 0);
	OK(write_making_room(&harness, 1, 30, 4));
	assert_int_equal(spare_files(&harness, 0), 2);
	assert_int_equal(spare_files(&harness, 1), 1);
	assert_int_equal(spare_files(&harness, 2), 2);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A seal alone does with what is for writes, if that is enough. */
static void test_a_seal_takes_no_more_than_it_needs(void **state)
{
	struct harness harness;

	(void)state;
	begin(&harness, 1);
	OK(harness_seal(&harness));
	OK(remove_some(&harness));
	nothing_at_all(&harness);
	OK(harness_seal(&harness));
	for (uint32_t i = 0; i < shape.devices; i++)
		assert_int_equal(spare_files(&harness, i), 1);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Somebody else has removed what is for writes: that is no reason to lack it for ever. */
static void test_a_spare_that_was_taken(void **state)
{
	struct harness harness;
	struct objects objects;

	(void)state;
	begin(&harness, 1);
	OK(harness_seal(&harness));
	nothing_at_all(&harness);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_SPARE && objects.list[i].generation == 0)
			object_remove(&harness, &objects.list[i]);
	objects_free(&objects);
	leave_free(&harness, 0);
	assert_int_equal(write_making_room(&harness, 1, 256, 60), -ENOSPC);
	give_all(&harness);
	OK(harness_write(&harness, 1, 256, 60));
	OK(harness_seal(&harness));
	for (uint32_t i = 0; i < shape.devices; i++)
		assert_int_equal(spare_files(&harness, i), 2);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static uint64_t stored(struct harness *harness)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	return info.stored_bytes;
}

static void check_stored(struct harness *harness)
{
	struct objects objects;
	uint64_t bytes = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		bytes += objects.list[i].kind == SZ_KIND_SPARE ? 0 : objects.list[i].size_bytes;
	objects_free(&objects);
	assert_true(stored(harness) == bytes);
}

/*
 * A spare that a crash left in part, or that is missing, is made whole, and costs nothing else. What is in the folder of
 * another device stays there.
 */
static void test_a_spare_that_is_hurt(void **state)
{
	static const struct sz_bytes nothing = { 0 };
	struct harness harness;
	struct objects objects;

	(void)state;
	begin(&harness, 1);
	OK(harness_close(&harness));
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != SZ_KIND_SPARE)
			continue;
		if (object->disk == 0)
			object_put(&harness, 0, SZ_LIVE, object->name, &nothing);
		else if (object->disk == 1)
			object_remove(&harness, object);
		else
			object_put(&harness, 0, SZ_LIVE, object->name, &nothing);
	}
	objects_free(&objects);
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		assert_int_equal(spare_files(&harness, i), 2);
	assert_int_equal(spare_files_in(&harness, 0, 2), 2);
	check_stored(&harness);
	nothing_at_all(&harness);
	OK(remove_some(&harness));
	assert_true(spare_files(&harness, 2) < 2);
	assert_int_equal(spare_files_in(&harness, 0, 2), 2);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* What is logged twice is sealed once: where there is no room left, that makes some. */
static void test_long_logs_are_sealed(void **state)
{
	struct harness harness;

	(void)state;
	begin(&harness, 1);
	OK(harness_seal(&harness));
	for (unsigned int i = 0; i < 30; i++)
		for (uint32_t j = 0; j < shape.devices; j++)
			OK(harness_write(&harness, j, 256, 12));
	nothing_at_all(&harness);
	for (unsigned int i = 0; i < 60; i++)
		for (uint32_t j = 0; j < shape.devices; j++)
			OK(write_making_room(&harness, j, 256, 12));
	OK(harness_flush_all(&harness));
	harness_check(&harness);
	harness_abandon(&harness);
	harness_open_clean(&harness);
	harness_check_recovered(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* All of a store is trimmed while its disks have no room for a compaction: what it took comes back. */
static void test_trimmed_space_comes_back(void **state)
{
	struct harness harness;
	uint64_t before;

	(void)state;
	begin_old(&harness);
	before = stored(&harness);
	leave_free(&harness, 1 << 20);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_trim(&harness, i, 0, shape.sectors));
	OK(harness_close(&harness)); /* with one seal more, which drops what the first one hides */
	harness_open_clean(&harness);
	OK(sz_store_collect(harness.store, true, NULL));
	harness_check(&harness);
	assert_true(stored(&harness) < before / 4);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Whatever is written, trimmed, dropped and compacted where there is little room: content stays what it is. */
static void test_little_room(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, chance_seed("little room"));
	harness_open_clean(&harness);
	for (uint64_t i = 0; i < 60 * test_scale(); i++) {
		for (unsigned int j = 0; j < 4; j++)
			OK(harness_step(&harness));
		if (chance_below(&harness.chance, 3) == 0)
			OK(harness_write(&harness, 0, 256 * (1 + chance_below(&harness.chance, 3)),
					 256));
		leave_free(&harness, (60 + chance_below(&harness.chance, 28)) << 20);
		OK(harness_seal(&harness));
		if (chance_below(&harness.chance, 8) != 0)
			continue;
		harness_check(&harness);
		OK(harness_close(&harness));
		harness_open_clean(&harness);
		harness_check(&harness);
		harness_check_names(&harness);
	}
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

static size_t live_bands(struct harness *harness)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		count += objects.list[i].kind == SZ_KIND_BAND && objects.list[i].part == SZ_LIVE;
	objects_free(&objects);
	return count;
}

/* What comes in order is in bands alone, however often it is flushed. */
static void test_what_is_written_in_order(void **state)
{
	struct harness harness;
	struct sz_store_info info;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	give_all(&harness);
	for (uint32_t sector = 256; sector < 1024; sector += 16) {
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, sector, 16));
		OK(harness_flush_all(&harness));
	}
	OK(harness_seal(&harness));
	sz_store_info(harness.store, &info);
	assert_int_equal(info.delta_count, 0);
	assert_int_equal(info.dead_bytes, 0);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* What was not flushed when a process died takes no space that recovery needs; nor does that change what is recovered. */
static void test_a_crash_with_little_room(void **state)
{
	(void)state;
	for (unsigned int how = 0; how < 30; how++) {
		struct harness harness;
		struct sz_space space;

		harness_init(&harness, &shape, how);
		harness_open_clean(&harness);
		give_all(&harness);
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(harness_write(&harness, i, 256, 220));
		OK(harness_flush_all(&harness));
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 512, 250));
			OK(harness_write(&harness, i, 768, 250));
		}
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_CLEAN, how);
		leave_free(&harness, 100 << 10); /* what is to be copied takes nine times as much */
		OK(sz_backend_space(harness.disks[0], &space)); /* the others are alike */
		if (how > 0) { /* a recovery that fails when it has removed something */
			harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_WRITE,
							       .fail_at = how,
							       .fail_from = true,
							       .error = -EIO };
			assert_int_equal(harness_try_open(&harness, false), -EIO);
			harness.plan = (struct sz_fault_plan){ 0 };
			harness_cut(&harness, SZ_CRASH_DROP, how);
			for (uint32_t i = 0; i < shape.devices; i++)
				sz_memory_limit(harness.disks[i], space.total_bytes);
		}
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		assert_int_equal(live_bands(&harness), 0);
		give_all(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* A flush finishes a band that is nearly full, if nothing has come to it since the flush before. */
static void test_a_flush_finishes_bands(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	give_all(&harness);
	for (uint32_t i = 0; i < shape.devices; i++) {
		OK(harness_write(&harness, i, 256, 200)); /* of 256 */
		OK(harness_write(&harness, i, 512, 230)); /* more than seven eighths */
		OK(harness_write(&harness, i, 768, 256)); /* all */
	}
	assert_int_equal(live_bands(&harness), 3 * shape.devices);
	OK(harness_flush_all(&harness));
	assert_int_equal(live_bands(&harness), 2 * shape.devices); /* more may come */
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 100, 1));
	OK(harness_flush_all(&harness));
	assert_int_equal(live_bands(&harness), shape.devices);
	OK(harness_write(&harness, 0, 480, 20)); /* in the one that is open */
	OK(harness_write(&harness, 0, 750, 4));  /* and where one was finished */
	OK(harness_flush_all(&harness));
	harness_check(&harness);
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 1);
	harness_open_clean(&harness);
	harness_check_recovered(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* A flush does not begin a band's end that the disk has no room for: the band would have to be copied as a whole. */
static void test_a_flush_leaves_bands_open(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	give_all(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 256, 240));
	OK(harness_flush_all(&harness));
	OK(harness_write(&harness, 0, 100, 1));
	leave_free(&harness, 16 << 10);
	OK(harness_flush_all(&harness));
	assert_int_equal(live_bands(&harness), shape.devices);
	leave_free(&harness, 400 << 10); /* for the ends, not for copies */
	OK(harness_seal(&harness));
	harness_check(&harness);
	give_all(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/*
 * A process that died while it sealed, and had finished its bands: they are not copied, and what else it had built goes
 * first. There is no room for copies, nor for both what it built and what recovery builds.
 */
static void test_a_crash_of_a_seal_with_little_room(void **state)
{
	(void)state;
	for (unsigned int how = 0; how < 40; how++) {
		struct harness harness;

		harness_init(&harness, &shape, how);
		harness_open_clean(&harness);
		give_all(&harness);
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 256, 200));
			for (uint32_t sector = 512; sector < 1024; sector += 8)
				OK(harness_write(&harness, i, sector, 4));
		}
		OK(harness_flush_all(&harness));
		harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_RENAME | SZ_OP_REMOVE,
						       .fail_at = 1 + how,
						       .fail_from = true,
						       .error = -EIO };
		if (harness_seal(&harness) == 0) { /* its root is in a folder */
			assert_true(how > 10);
			harness_abandon(&harness);
			harness_fini(&harness);
			return;
		}
		harness.plan = (struct sz_fault_plan){ 0 };
		harness_abandon(&harness);
		harness_cut(&harness, SZ_CRASH_CLEAN, how);
		leave_free(&harness, 100 << 10);
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		harness_check_names(&harness);
		assert_int_equal(live_bands(&harness), 0);
		give_all(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
	fail_msg("a seal takes more renames than that");
}

static size_t count_roots(struct harness *harness)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		count += objects.list[i].kind == SZ_KIND_ROOT && objects.list[i].part == SZ_SEALED;
	objects_free(&objects);
	return count;
}

static const struct sz_fault_plan nothing_is_made = {
	.mask = SZ_OP_CREATE, .fail_at = 1, .fail_from = true, .error = -ENOSPC
};

/* One more root than there was, of a seal whose disks got full, in a folder that may be lost: what it stands on stays. */
static void test_a_root_in_one_folder(void **state)
{
	struct harness harness;
	size_t before;
	bool found = false;

	(void)state;
	for (unsigned int k = 1; !found; k++) {
		harness_init(&harness, &shape, k);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 256, 100));
			OK(harness_write(&harness, i, 600, 10));
		}
		OK(harness_flush_all(&harness));
		before = count_roots(&harness);
		harness.plan = nothing_is_made;
		harness.plan.fail_at = k;
		found = harness_seal(&harness) == 0;
		harness.plan = (struct sz_fault_plan){ 0 };
		if (found)
			break;
		harness_abandon(&harness);
		harness_fini(&harness);
	}
	assert_int_equal(count_roots(&harness), before + 1);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 610, 4));
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness.plan = nothing_is_made;
	assert_int_equal(harness_try_open(&harness, false), -ENOSPC);
	harness.plan = (struct sz_fault_plan){ 0 };
	sz_backend_close(TAKE(harness.disks[0]));
	OK(harness_try_open(&harness, false));
	for (uint32_t i = 1; i < shape.devices; i++) {
		OK(harness_observe(&harness, i));
		assert_true(model_agrees(&harness.model, i, harness.observed[i], false));
	}
	harness_abandon(&harness);
	harness_fini(&harness);
}

static void log_find(struct harness *harness, uint32_t device, bool is_first, char name_out[64])
{
	struct objects objects;
	uint64_t best = is_first ? UINT64_MAX : 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != SZ_KIND_LOG || object->device != device ||
		    (is_first ? object->generation > best : object->generation < best))
			continue;
		best = object->generation;
		memcpy(name_out, object->name, sizeof(object->name));
	}
	objects_free(&objects);
}

/* One of the logs of two epochs is not there when a recovery fails for lack of space, and comes back: so does all. */
static void test_a_log_that_comes_back(void **state)
{
	(void)state;
	for (unsigned int is_first = 0; is_first < 2; is_first++) {
		struct harness harness;
		char name[64] = "";

		harness_init(&harness, &shape, is_first);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 256, 100));
			OK(harness_write(&harness, i, 200, 10));
		}
		OK(harness_flush_all(&harness));
		harness.plan = (struct sz_fault_plan){
			.mask = SZ_OP_RENAME, .fail_at = 1, .fail_from = true, .error = -EIO
		};
		assert_int_not_equal(harness_seal(&harness), 0);
		harness.plan = (struct sz_fault_plan){ 0 };
		for (uint32_t i = 0; i < shape.devices; i++) {
			OK(harness_write(&harness, i, 512, 100));
			OK(harness_write(&harness, i, 210, 4));
		}
		OK(harness_flush_all(&harness));
		harness_abandon(&harness);
		log_find(&harness, 1, is_first == 1, name);
		harness.hidden = name;
		harness.plan = nothing_is_made;
		assert_int_equal(harness_try_open(&harness, false), -ENOSPC);
		harness.plan = (struct sz_fault_plan){ 0 };
		harness.hidden = NULL;
		harness_open_clean(&harness);
		harness_check_recovered(&harness);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* Where neither anything can be renamed nor removed a seal gives up. */
static void test_nothing_can_be_removed(void **state)
{
	struct harness harness;

	(void)state;
	begin_old(&harness);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_write(&harness, i, 100, 4));
	harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_RENAME | SZ_OP_REMOVE,
					       .fail_at = 1,
					       .fail_from = true,
					       .error = -ENOSPC };
	assert_int_equal(harness_seal(&harness), -ENOSPC);
	harness.plan = (struct sz_fault_plan){ 0 };
	OK(harness_seal(&harness));
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_go_on_when_there_is_space_again),
		cmocka_unit_test(test_nothing_flushed_is_lost),
		cmocka_unit_test(test_a_seal_without_space),
		cmocka_unit_test(test_a_creation_without_space),
		cmocka_unit_test(test_history_goes_first),
		cmocka_unit_test(test_history_goes_for_a_seal),
		cmocka_unit_test(test_new_data_lets_history_go),
		cmocka_unit_test(test_space_that_is_told_late),
		cmocka_unit_test(test_what_is_dead_in_part_makes_room),
		cmocka_unit_test(test_making_room_finds_none),
		cmocka_unit_test(test_nothing_is_free),
		cmocka_unit_test(test_nothing_is_free_and_it_is_cut),
		cmocka_unit_test(test_one_disk_is_full),
		cmocka_unit_test(test_a_seal_takes_no_more_than_it_needs),
		cmocka_unit_test(test_a_spare_that_was_taken),
		cmocka_unit_test(test_a_spare_that_is_hurt),
		cmocka_unit_test(test_long_logs_are_sealed),
		cmocka_unit_test(test_trimmed_space_comes_back),
		cmocka_unit_test(test_little_room),
		cmocka_unit_test(test_what_is_written_in_order),
		cmocka_unit_test(test_a_crash_with_little_room),
		cmocka_unit_test(test_a_flush_finishes_bands),
		cmocka_unit_test(test_a_flush_leaves_bands_open),
		cmocka_unit_test(test_a_crash_of_a_seal_with_little_room),
		cmocka_unit_test(test_a_root_in_one_folder),
		cmocka_unit_test(test_a_log_that_comes_back),
		cmocka_unit_test(test_nothing_can_be_removed),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
