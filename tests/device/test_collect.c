/*
 * collect: what goes, and what must never go. A generation here holds one value: 20 sectors of each device that are
 * rewritten each time (deltas), and a piece of 64 sectors that moves on (bands). Generation n holds the value n.
 */
#include "clocks.h"
#include "damage.h"

#include "device/device_internal.h"

#include <inttypes.h>

#define DEVICES  4U
#define AT       300U /* the sectors that are rewritten */
#define AT_COUNT 20U
#define PIECES   1024U /* where the pieces are, in turn */
#define PIECE    64U
#define TURNS    16U

static const struct shape shape = { .devices = DEVICES, .sectors = 4096, .band_sectors = 256 };
static const struct sz_store_open plain = { .read_only = false };

static uint64_t generation_of(const struct harness *harness)
{
	return harness->store->root.generation;
}

static void put(struct harness *harness)
{
	static uint8_t buffer[PIECE * SZ_SECTOR_BYTES];
	uint8_t value = (uint8_t)(harness->store->epoch);

	memset(buffer, value, sizeof(buffer));
	for (uint32_t i = 0; i < DEVICES; i++) {
		struct sz_device *device = sz_store_device(harness->store, i);

		OK(sz_device_write(device, AT, AT_COUNT, buffer));
		OK(sz_device_write(device, PIECES + value % TURNS * PIECE, PIECE, buffer));
	}
}

static void seal(struct harness *harness)
{
	uint64_t before = generation_of(harness);

	put(harness);
	OK(sz_store_seal(harness->store, &harness->error));
	assert_int_equal(generation_of(harness), before + 1);
}

static void value_check(struct harness *harness, uint64_t generation)
{
	static uint8_t buffer[PIECE * SZ_SECTOR_BYTES];
	uint64_t oldest = generation >= 2 + TURNS ? generation - TURNS + 1 : 2;

	for (uint32_t i = 0; i < DEVICES; i++) {
		struct sz_device *device = sz_store_device(harness->store, i);

		OK(sz_device_read(device, AT, AT_COUNT, buffer));
		for (size_t j = 0; j < AT_COUNT * SZ_SECTOR_BYTES; j++)
			assert_int_equal(buffer[j], (uint8_t)generation);
		for (uint64_t value = oldest; value <= generation; value++) {
			OK(sz_device_read(device, PIECES + value % TURNS * PIECE, PIECE, buffer));
			for (size_t j = 0; j < sizeof(buffer); j += 512)
				assert_int_equal(buffer[j], (uint8_t)value);
		}
	}
}

static void open_as(struct harness *harness, const struct sz_store_open *options)
{
	int rc = harness_try_open_as(harness, options);

	if (rc != 0)
		fail_msg("opens with %d: %s", rc, harness->error.text);
}

static void close_it(struct harness *harness)
{
	OK(sz_store_close(TAKE(harness->store), &harness->error));
}

static void reopen(struct harness *harness)
{
	close_it(harness);
	open_as(harness, &plain);
}

struct found {
	size_t generations;
	size_t strays; /* sealed objects that none of them refers to */
	uint64_t bytes;
};

static int id_add(void *context, const struct sz_id *id)
{
	return sz_id_set_add(context, id);
}

/*
 * Looks at copies of the disks as they are: every generation has to be complete. With choose: there are several
 * histories.
 */
static struct found disks_check(struct harness *harness, const char *choose)
{
	const struct sz_store_open reading = { .read_only = true, .choose = choose };
	CLEANUP(sz_id_set_free) struct id_set known = { 0 };
	struct found found = { 0 };
	struct objects objects;
	struct harness copy;
	struct history *history;

	harness_fork_now(harness, &copy);
	open_as(&copy, &reading);
	history = &copy.store->history;
	found.generations = history->count;
	assert_int_equal(history->lost_count, 0);
	sz_refs_walk_begin(&copy.store->collector.refs);
	for (size_t i = 0; i < history->count; i++) {
		OK(sz_refs_load(copy.store, history->at[i]));
		assert_true(history->at[i]->is_complete);
		OK(sz_refs_walk(&copy.store->collector.refs, history->at[i], id_add, &known));
	}
	objects_list(&copy, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];
		struct sz_id id;

		found.bytes += object->size_bytes;
		if (object->kind == 0 || object->kind == SZ_KIND_KEY || object->part == SZ_LIVE)
			continue;
		OK(sz_name_decode(&objects.key->keys, object->name, &id));
		found.strays += sz_id_set_has(&known, &id) ? 0 : 1;
	}
	objects_free(&objects);
	close_it(&copy);
	harness_fini(&copy);
	return found;
}

/* Opens each generation that is there as it was sealed. The store is closed. */
static void generations_check(struct harness *harness)
{
	struct sz_store_open old = { .read_only = true };
	uint64_t numbers[512];
	size_t count;

	open_as(harness, &old);
	count = harness->store->history.count;
	assert_true(count <= ARRAY_LENGTH(numbers));
	for (size_t i = 0; i < count; i++)
		numbers[i] = harness->store->history.at[i]->root.generation;
	close_it(harness);
	for (size_t i = 0; i < count; i++) {
		char number[24];

		(void)snprintf(number, sizeof(number), "%" PRIu64, numbers[i]);
		old.generation = number;
		open_as(harness, &old);
		if (numbers[i] > 1)
			value_check(harness, numbers[i]);
		assert_int_equal(harness_damage(harness, true), 0);
		close_it(harness);
	}
}

struct keeping {
	struct sz_retained kept[512];
	uint64_t numbers[512];
	size_t count;
};

/* What the pure function would keep of what it kept before, and the newest. */
static void keeping_choose(struct harness *harness, struct keeping *keeping)
{
	struct sz_store_info info;
	size_t kept = 0;

	sz_store_info(harness->store, &info);
	if (keeping->count == 0 || keeping->numbers[keeping->count - 1] != info.generation) {
		keeping->numbers[keeping->count] = info.generation;
		keeping->kept[keeping->count++] =
			(struct sz_retained){ .store_time_ns = info.sealed_store_ns,
					      .is_complete = info.generation > 1 };
	}
	sz_retain_choose(keeping->kept, keeping->count, &(struct sz_keep_policy){ .last = 0 },
			 info.sealed_store_ns);
	for (size_t i = 0; i < keeping->count; i++) {
		if (keeping->kept[i].reasons == 0)
			continue;
		keeping->numbers[kept] = keeping->numbers[i];
		keeping->kept[kept++] = keeping->kept[i];
	}
	keeping->count = kept;
}

static void keeping_compare(const struct harness *harness, const struct keeping *keeping)
{
	const struct history *history = &harness->store->history;

	assert_int_equal(history->count, keeping->count);
	for (size_t i = 0; i < keeping->count; i++)
		assert_int_equal(history->at[keeping->count - 1 - i]->root.generation,
				 keeping->numbers[i]);
}

/* On disks that have no folder of the store's own nothing is noted: for this opening. */
static void allow(struct harness *harness, uint64_t budget_bytes)
{
	const struct sz_keep_policy policy = { .budget_bytes = budget_bytes };

	OK(sz_store_set_keep_policy(harness->store, &policy, &harness->error));
}

/* Weeks of sealing at odd intervals, in openings that are long or short. */
static void test_the_ladder(void **state)
{
	static struct keeping keeping;
	struct harness harness;
	struct found found;

	(void)state;
	harness_init(&harness, &shape, chance_seed("ladder"));
	open_as(&harness, &plain);
	keeping.count = 0;
	keeping_choose(&harness, &keeping);
	for (unsigned int i = 0; i < 200 * test_scale(); i++) {
		/* Never so that an age is just twice another. */
		clocks_pass(SZ_SECOND_NS +
			    chance_below(&harness.chance,
					 SZ_SECOND_NS << chance_below(&harness.chance, 17)));
		if (chance_below(&harness.chance, 8) == 0)
			reopen(&harness);
		allow(&harness, UINT64_MAX);
		seal(&harness);
		OK(sz_store_collect(harness.store, false, &harness.error));
		keeping_choose(&harness, &keeping);
		keeping_compare(&harness, &keeping);
		if (i % 40 == 0)
			assert_int_equal(disks_check(&harness, NULL).strays, 0);
	}
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	found = disks_check(&harness, NULL);
	assert_int_equal(found.strays, 0);
	assert_int_equal(found.generations, keeping.count);
	generations_check(&harness);
	harness_fini(&harness);
}

/* A seal collects by itself; short openings do when enough has come together. */
static void test_seals_collect(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	for (unsigned int i = 0; i < 60; i++) {
		seal(&harness);
		/* All within a minute: the empty one, the first, the newest, and one between at most. */
		if (i > 10)
			assert_true(harness.store->history.count <= 4);
	}
	for (unsigned int i = 0; i < 60; i++) {
		reopen(&harness);
		seal(&harness);
		assert_true(harness.store->history.count <= 4 + 8);
	}
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	(void)disks_check(&harness, NULL);
	harness_fini(&harness);
}

/*
 * What was copied in a store's first hours has a rung for as long as any: the generation from before there was
 * data is none, though it is a little older than the first that has some.
 */
static void test_the_empty_one_is_no_rung(void **state)
{
	struct harness harness;
	uint64_t first;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	allow(&harness, UINT64_MAX);
	seal(&harness);
	first = generation_of(&harness);
	for (unsigned int i = 0; i < 24; i++) {
		clocks_pass(SZ_HOUR_NS / 4);
		seal(&harness);
		OK(sz_store_collect(harness.store, false, &harness.error));
	}
	close_it(&harness);
	open_as(&harness, &(const struct sz_store_open){ .read_only = true });
	assert_true(harness.store->history.count >= 4);
	assert_int_equal(
		harness.store->history.at[harness.store->history.count - 2]->root.generation,
		first);
	close_it(&harness);
	generations_check(&harness);
	harness_fini(&harness);
}

/* Generations an hour apart: none of them is due. */
static void hours(struct harness *harness, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		clocks_pass(SZ_HOUR_NS);
		seal(harness);
	}
}

static int kept_bytes(void *context, const struct sz_kept *kept)
{
	uint64_t *sum = context;

	*sum += kept->reasons != 0 ? kept->ends_bytes : 0;
	return 0;
}

static int going_bytes(void *context, const struct sz_kept *kept)
{
	uint64_t *sum = context;

	*sum += kept->reasons == 0 ? kept->ends_bytes : 0;
	return 0;
}

static void test_history_goes(void **state)
{
	const struct sz_keep_policy nothing = { .budget_bytes = 1 };
	struct sz_history_info info;
	struct harness harness;
	struct found before;
	struct found after;
	uint64_t bytes = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 20);
	before = disks_check(&harness, NULL);
	assert_true(before.generations > 5);
	sz_store_history_info(harness.store, &info);
	assert_int_equal(info.generations, before.generations);
	assert_int_equal(info.complete, before.generations);
	assert_string_equal(info.problem, "");
	OK(sz_store_kept_each(harness.store, &nothing, going_bytes, &bytes, &harness.error));
	assert_int_equal(bytes, info.history_bytes);
	OK(sz_store_collect(harness.store, true, &harness.error));
	after = disks_check(&harness, NULL);
	assert_int_equal(after.generations, 1);
	assert_int_equal(after.strays, 0);
	/* What was said to be history is what has come back; the newest one's root counts itself. */
	assert_int_equal(before.bytes - after.bytes, info.history_bytes);
	sz_store_history_info(harness.store, &info);
	assert_int_equal(info.history_bytes, 0);
	assert_int_equal(info.copy_ns, SZ_COPY_MAX_NS);
	OK(sz_store_kept_each(harness.store, NULL, kept_bytes, &bytes, &harness.error));
	value_check(&harness, generation_of(&harness));
	hours(&harness, 3);
	reopen(&harness);
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	generations_check(&harness);
	harness_fini(&harness);
}

/* The budget drops the oldest, one after the other, although the ladder and a wish would keep them. */
static void test_the_budget(void **state)
{
	const uint64_t budget = 24 << 20;
	struct sz_keep_policy policy = { .hourly = 100, .budget_bytes = budget };
	struct sz_history_info info;
	struct harness harness;
	uint64_t most = 0;
	size_t dropped = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	OK(sz_store_set_keep_policy(harness.store, &policy, &harness.error));
	for (unsigned int i = 0; i < 60; i++) {
		const struct history *history = &harness.store->history;

		hours(&harness, 1);
		OK(sz_store_collect(harness.store, false, &harness.error));
		dropped = generation_of(&harness) - history->count;
		sz_store_history_info(harness.store, &info);
		assert_int_equal(info.budget_bytes, budget);
		assert_true(info.history_bytes <= budget);
		/* From the oldest that has data to the newest. */
		assert_true(info.copy_ns >= (history->count - 1 - (dropped == 0)) * SZ_HOUR_NS);
		most = info.history_bytes > most ? info.history_bytes : most;
		for (size_t j = 0; j < history->count; j++)
			assert_int_equal(history->at[j]->root.generation,
					 generation_of(&harness) - j);
	}
	assert_true(most > budget / 2);
	assert_true(dropped > 10 && dropped < 60);
	close_it(&harness);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	generations_check(&harness);
	harness_fini(&harness);
}

/* What a reader of an old generation, in another process, does. */
static struct sz_file *hold(struct harness *harness, uint64_t generation, uint32_t disk)
{
	struct sz_file *file = NULL;
	struct objects objects;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind == SZ_KIND_ROOT && object->generation == generation &&
		    object->disk == disk && object->part == SZ_SEALED) {
			OK(sz_backend_open(harness->disks[disk], SZ_SEALED, object->name, &file));
			OK(sz_file_hold(file));
		}
	}
	objects_free(&objects);
	assert_non_null(file);
	return file;
}

static struct generation *generation_find(const struct harness *harness, uint64_t number)
{
	const struct history *history = &harness->store->history;

	for (size_t i = 0; i < history->count; i++)
		if (history->at[i]->root.generation == number)
			return history->at[i];
	return NULL;
}

static void test_what_is_read_stays(void **state)
{
	struct harness harness;
	struct sz_file *file;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 9);
	file = hold(&harness, 5, 2);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 2);
	assert_non_null(generation_find(&harness, 5));
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	hours(&harness, 9);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 2);
	assert_int_equal(disks_check(&harness, NULL).generations, 2);
	sz_file_close(file);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 1);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	close_it(&harness);
	harness_fini(&harness);
}

/* Removes what a device's generation made of a kind, in all folders. Returns how many files. */
static size_t objects_lose(struct harness *harness, enum sz_kind kind, uint32_t device,
			   uint64_t generation)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != kind || object->device != device ||
		    object->generation != generation)
			continue;
		object_remove(harness, object);
		count++;
	}
	objects_free(&objects);
	return count;
}

struct missing {
	struct sz_store *store;
	size_t count;
};

static int missing_count(void *context, const struct sz_id *id)
{
	struct missing *missing = context;

	missing->count += sz_id_is_none(id) || sz_catalog_has(missing->store, id, 0) ? 0 : 1;
	return 0;
}

/* How much is missing of what a generation refers to. */
static size_t missing_of(struct harness *harness, uint64_t number)
{
	struct missing missing = { .store = harness->store };
	const struct history *history = &harness->store->history;
	struct refs *refs = &harness->store->collector.refs;

	for (size_t i = 0; i < history->count; i++) {
		if (history->at[i]->root.generation != number)
			continue;
		OK(sz_refs_load(harness->store, history->at[i]));
		sz_refs_walk_begin(refs);
		OK(sz_refs_walk(refs, history->at[i], missing_count, &missing));
	}
	return missing.count;
}

/* A generation that lacks an object is kept for a reader, with all else that it refers to. */
static void test_the_rest_of_what_is_hurt_stays(void **state)
{
	static uint8_t buffer[SZ_SECTOR_BYTES];
	struct harness harness;
	struct sz_file *file;
	uint64_t hurt = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 4);
	for (uint8_t i = 1; i <= 6; i++) {
		memset(buffer, i, sizeof(buffer));
		OK(sz_device_write(sz_store_device(harness.store, 0), 1, 1, buffer));
		clocks_pass(SZ_HOUR_NS);
		if (i > 2)
			seal(&harness);
		else /* these two refer to the same bands, by the same pages */
			OK(sz_store_seal(harness.store, &harness.error));
		if (i == 2)
			hurt = generation_of(&harness);
	}
	close_it(&harness);
	assert_int_equal(objects_lose(&harness, SZ_KIND_HOT, 0, hurt), 1);
	open_as(&harness, &plain);
	assert_int_equal(missing_of(&harness, hurt), 1);
	file = hold(&harness, hurt, 2);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 2);
	reopen(&harness);
	assert_non_null(generation_find(&harness, hurt));
	assert_int_equal(missing_of(&harness, hurt), 1);
	sz_file_close(file);
	close_it(&harness);
	harness_fini(&harness);
}

/* A reader takes hold after it was asked whether there is one, and sees the root still in its place. */
struct late {
	struct harness *harness;
	struct sz_file *file;
};

static void hold_late(void *context)
{
	struct late *late = context;

	late->file = hold(late->harness, 5, DEVICES - 1);
}

static void test_a_reader_comes_late(void **state)
{
	struct harness harness;
	struct harness copy;
	struct late late = { .harness = &harness };
	struct objects before;
	size_t spared = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 6);
	harness_fork_now(&harness, &copy);
	/* Roots go oldest first, of each disk one: it is in the middle of the fifth. */
	harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_REMOVE,
					       .fail_at = 4 * DEVICES + 2,
					       .at = hold_late,
					       .at_context = &late };
	OK(sz_store_collect(harness.store, true, &harness.error));
	harness.plan = (struct sz_fault_plan){ 0 };
	assert_non_null(late.file);
	assert_int_equal(harness.store->history.count, 1);
	/* All that the fifth refers to is still there, now and later, but for its root. */
	hours(&harness, 4);
	OK(sz_store_collect(harness.store, true, &harness.error));
	objects_list(&copy, &before);
	{
		CLEANUP(sz_id_set_free) struct id_set fifth = { 0 };
		const struct sz_store_open reading = { .read_only = true };

		open_as(&copy, &reading);
		for (size_t i = 0; i < copy.store->history.count; i++) {
			struct generation *generation = copy.store->history.at[i];

			if (generation->root.generation != 5)
				continue;
			OK(sz_refs_load(copy.store, generation));
			sz_refs_walk_begin(&copy.store->collector.refs);
			OK(sz_refs_walk(&copy.store->collector.refs, generation, id_add, &fifth));
		}
		close_it(&copy);
		assert_true(fifth.count > DEVICES);
		for (size_t i = 0; i < before.count; i++) {
			struct sz_file *file;
			struct sz_id id;

			if (before.list[i].kind == 0 || before.list[i].kind == SZ_KIND_ROOT)
				continue;
			OK(sz_name_decode(&before.key->keys, before.list[i].name, &id));
			if (!sz_id_set_has(&fifth, &id))
				continue;
			OK(sz_backend_open(harness.disks[before.list[i].disk], SZ_SEALED,
					   before.list[i].name, &file));
			sz_file_close(file);
			spared++;
		}
	}
	assert_true(spared > DEVICES);
	objects_free(&before);
	sz_file_close(late.file);
	/* The next opening has no reader to mind. */
	reopen(&harness);
	hours(&harness, 1);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	close_it(&harness);
	harness_fini(&copy);
	harness_fini(&harness);
}

static void object_copy(struct harness *from, struct harness *to, const struct object *object)
{
	CLEANUP_BYTES struct sz_bytes content = { 0 };

	object_read(from, object, &content);
	object_put(to, object->disk, object->part, object->name, &content);
}

/*
 * Into one folder all comes back that it ever had, with parts of generations that went since. Of their index pages some are
 * nowhere: that holds nothing up, and they go as they went before.
 */
static void test_a_folder_of_long_ago(void **state)
{
	struct sz_history_info info;
	struct harness harness;
	struct harness old;
	struct objects objects;
	size_t back = 0;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	for (unsigned int i = 0; i < 6; i++) {
		clocks_pass(30 * SZ_SECOND_NS);
		seal(&harness);
	}
	harness_fork_now(&harness, &old);
	hours(&harness, 3);
	OK(sz_store_collect(harness.store, false, &harness.error));
	assert_null(generation_find(&harness, 5));
	close_it(&harness);
	objects_list(&old, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].disk == 0 && objects.list[i].part == SZ_SEALED)
			object_copy(&old, &harness, &objects.list[i]);
	objects_free(&objects);
	open_as(&harness, &plain);
	for (uint64_t number = 2; number <= 7; number++) {
		struct generation *generation = generation_find(&harness, number);

		assert_non_null(generation);
		back += sz_refs_load(harness.store, generation) == -EBADMSG ? 1 : 0;
	}
	assert_true(back >= 4);
	sz_store_history_info(harness.store, &info);
	assert_string_equal(info.problem, "");
	assert_int_equal(info.foreign_objects, 0);
	OK(sz_store_collect(harness.store, false, &harness.error));
	assert_null(generation_find(&harness, 5));
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	generations_check(&harness);
	harness_fini(&old);
	harness_fini(&harness);
}

static void index_lose(struct harness *harness, uint32_t device, uint64_t generation)
{
	assert_true(objects_lose(harness, SZ_KIND_INDEX, device, generation) >= 3);
}

/* From the same store before: what a disk (DEVICES: any) had. */
static void index_bring_back(struct harness *from, struct harness *to, uint32_t device,
			     uint64_t generation, uint32_t disk)
{
	struct objects objects;

	objects_list(from, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind == SZ_KIND_INDEX && object->device == device &&
		    object->generation == generation && (disk == DEVICES || object->disk == disk))
			object_copy(from, to, object);
	}
	objects_free(&objects);
}

static int foreign_one(void *context, const struct sz_foreign *foreign)
{
	uint64_t *lost = context;

	assert_int_equal(*lost, 0);
	assert_true(foreign->is_ours);
	*lost = foreign->generation;
	return 0;
}

/* One that is kept, and lacks an index page: nothing is removed until it is back, or discarded. */
static void test_an_index_page_is_lost(void **state)
{
	const struct sz_keep_policy few = { .budget_bytes = 24 << 20 };
	const uint64_t hurt = 9;
	struct sz_history_info info;
	struct harness harness;
	struct harness whole;
	uint64_t lost = 0;
	size_t count;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 10);
	close_it(&harness);
	harness_fork_now(&harness, &whole);
	index_lose(&harness, 1, hurt);
	open_as(&harness, &plain);
	count = harness.store->history.count;
	sz_store_history_info(harness.store, &info);
	assert_non_null(strstr(info.problem, "an index page of generation 9 cannot be read"));
	assert_int_equal(info.complete, count - 1);
	OK(sz_store_set_keep_policy(harness.store, &few, &harness.error));
	assert_int_equal(sz_store_collect(harness.store, false, &harness.error), -EBADMSG);
	assert_int_equal(harness.store->history.count, count);
	OK(sz_store_foreign_each(harness.store, foreign_one, &lost, &harness.error));
	assert_int_equal(lost, hurt);
	/* Brought back. */
	close_it(&harness);
	index_bring_back(&whole, &harness, 1, hurt, DEVICES);
	open_as(&harness, &plain);
	sz_store_history_info(harness.store, &info);
	assert_string_equal(info.problem, "");
	close_it(&harness);
	/* And given up. */
	index_lose(&harness, 1, hurt);
	open_as(&harness, &plain);
	OK(sz_store_discard(harness.store, &harness.error));
	assert_null(generation_find(&harness, hurt));
	assert_int_equal(harness.store->history.count, count - 1);
	sz_store_history_info(harness.store, &info);
	assert_string_equal(info.problem, "");
	assert_int_equal(info.foreign_objects, 0);
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	generations_check(&harness);
	harness_fini(&whole);
	harness_fini(&harness);
}

/* It is in nobody's way when all history goes. */
static void test_history_goes_without_an_index_page(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 10);
	close_it(&harness);
	index_lose(&harness, 1, 9);
	open_as(&harness, &plain);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 1);
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	harness_fini(&harness);
}

/*
 * One that is due lacks an index page, and is read: what it needs is not known, so none of the others may go. Room for
 * new data takes no history either, where it would get nothing for it.
 */
static void test_what_is_read_without_an_index_page(void **state)
{
	struct harness harness;
	struct sz_file *file;
	size_t count;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 10);
	close_it(&harness);
	index_lose(&harness, 1, 6);
	open_as(&harness, &plain);
	count = harness.store->history.count;
	file = hold(&harness, 6, 2);
	assert_int_equal(sz_store_collect(harness.store, true, &harness.error), -EBADMSG);
	assert_non_null(strstr(harness.error.text, "generation 6"));
	assert_int_equal(harness.store->history.count, count);
	for (unsigned int i = 0; i < 8; i++) {
		MUTEX_SCOPE(&harness.store->seal_lock);

		assert_int_equal(sz_collect_space(harness.store, 64 << 20), -ENOSPC);
	}
	assert_int_equal(harness.store->history.count, count);
	sz_file_close(file);
	OK(sz_store_collect(harness.store, true, &harness.error));
	assert_int_equal(harness.store->history.count, 1);
	value_check(&harness, generation_of(&harness));
	close_it(&harness);
	assert_int_equal(disks_check(&harness, NULL).strays, 0);
	harness_fini(&harness);
}

/* While a disk is not there what a user wishes for is kept as it was: the disk comes back. */
static void test_a_disk_is_away(void **state)
{
	const struct sz_keep_policy wish = { .daily = 60, .budget_bytes = UINT64_MAX };
	struct harness harness;
	struct sz_backend *disk;
	uint64_t newest;
	size_t count;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	OK(sz_store_set_keep_policy(harness.store, &wish, &harness.error));
	for (unsigned int i = 0; i < 30; i++) {
		clocks_pass(SZ_DAY_NS);
		seal(&harness);
	}
	OK(sz_store_collect(harness.store, false, &harness.error));
	count = harness.store->history.count;
	newest = generation_of(&harness);
	assert_true(count >= 30);
	close_it(&harness);
	disk = harness.disks[3];
	harness.disks[3] = NULL;
	open_as(&harness, &plain);
	OK(sz_store_set_keep_policy(harness.store, &wish, &harness.error));
	OK(sz_store_collect(harness.store, false, &harness.error));
	assert_int_equal(harness.store->history.count, count);
	close_it(&harness);
	harness.disks[3] = disk;
	assert_int_equal(disks_check(&harness, NULL).generations, count);
	generations_check(&harness);
	open_as(&harness, &plain);
	value_check(&harness, newest);
	close_it(&harness);
	harness_fini(&harness);
}

/* All copies of an index page that are here are lost; one stands on a disk that is away: it is not given up. */
static void test_an_index_page_is_away(void **state)
{
	struct harness harness;
	struct harness whole;
	struct sz_backend *disk;
	struct sz_history_info info;
	size_t count;

	(void)state;
	harness_init(&harness, &shape, 1);
	open_as(&harness, &plain);
	hours(&harness, 10);
	count = harness.store->history.count;
	close_it(&harness);
	harness_fork_now(&harness, &whole);
	index_lose(&harness, 1, 9);
	index_bring_back(&whole, &harness, 1, 9, 1);
	disk = harness.disks[1];
	harness.disks[1] = NULL;
	open_as(&harness, &plain);
	assert_int_equal(sz_store_discard(harness.store, &harness.error), -ENXIO);
	assert_non_null(strstr(harness.error.text, "device 1"));
	assert_int_equal(harness.store->history.count, count);
	close_it(&harness);
	harness.disks[1] = disk;
	open_as(&harness, &plain);
	sz_store_history_info(harness.store, &info);
	assert_string_equal(info.problem, "");
	assert_int_equal(info.complete, count);
	close_it(&harness);
	generations_check(&harness);
	harness_fini(&whole);
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_ladder),
		cmocka_unit_test(test_seals_collect),
		cmocka_unit_test(test_the_empty_one_is_no_rung),
		cmocka_unit_test(test_history_goes),
		cmocka_unit_test(test_the_budget),
		cmocka_unit_test(test_what_is_read_stays),
		cmocka_unit_test(test_the_rest_of_what_is_hurt_stays),
		cmocka_unit_test(test_a_reader_comes_late),
		cmocka_unit_test(test_a_folder_of_long_ago),
		cmocka_unit_test(test_an_index_page_is_lost),
		cmocka_unit_test(test_history_goes_without_an_index_page),
		cmocka_unit_test(test_what_is_read_without_an_index_page),
		cmocka_unit_test(test_a_disk_is_away),
		cmocka_unit_test(test_an_index_page_is_away),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
