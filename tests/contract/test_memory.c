/* The memory backend: what a power cut may leave, and what it may not. */
#include "contract.h"

enum {
	SEEDS = 400
};

static int set_up(void **state)
{
	struct sz_backend *backend = NULL;

	OK(sz_memory_open("disk", &backend));
	*state = backend;
	return 0;
}

static int tear_down(void **state)
{
	sz_backend_close(*state);
	return 0;
}

static struct sz_backend *crash(struct sz_backend *backend, enum sz_crash kind, uint64_t seed)
{
	struct sz_backend *after = NULL;

	OK(sz_memory_crash(backend, kind, seed, &after));
	return after;
}

static const enum sz_crash all_kinds[] = { SZ_CRASH_CLEAN, SZ_CRASH_DROP, SZ_CRASH_REORDER,
					   SZ_CRASH_TORN };

static void test_what_is_synced_survives_every_crash(void **state)
{
	put_durably(*state, SZ_SEALED, "a", "sealed");
	put_durably(*state, SZ_LIVE, "b", "live");
	for (size_t i = 0; i < ARRAY_LENGTH(all_kinds); i++) {
		for (uint64_t seed = 0; seed < 20; seed++) {
			struct sz_backend *after = crash(*state, all_kinds[i], seed);

			assert_true(holds(after, SZ_SEALED, "a", "sealed"));
			assert_true(holds(after, SZ_LIVE, "b", "live"));
			assert_string_equal(after->label, "disk");
			sz_backend_close(after);
		}
	}
}

static void test_a_clean_crash_keeps_everything_as_undurable_as_it_was(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "a", "synced");
	struct sz_backend *clean;
	struct sz_backend *after;

	OK(sz_file_sync(file));
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	OK(sz_file_write(file, " not", 4, 6));
	put(*state, SZ_SEALED, "b", "");
	sz_file_close(file);

	clean = crash(*state, SZ_CRASH_CLEAN, 0);
	assert_true(holds(clean, SZ_LIVE, "a", "synced not"));
	assert_true(exists(clean, SZ_SEALED, "b"));
	after = crash(clean, SZ_CRASH_DROP, 0);
	assert_true(holds(after, SZ_LIVE, "a", "synced"));
	assert_false(exists(after, SZ_SEALED, "b"));
	sz_backend_close(after);
	sz_backend_close(clean);
}

static void test_what_a_crash_left_is_durable(void **state)
{
	put(*state, SZ_LIVE, "a", "x");
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct sz_backend *first = crash(*state, SZ_CRASH_TORN, seed);
		struct sz_backend *second = crash(first, SZ_CRASH_DROP, 0);

		assert_int_equal(exists(first, SZ_LIVE, "a"), exists(second, SZ_LIVE, "a"));
		assert_int_equal(holds(first, SZ_LIVE, "a", "x"), holds(second, SZ_LIVE, "a", "x"));
		sz_backend_close(first);
		sz_backend_close(second);
	}
}

static void test_a_file_needs_its_own_sync_and_its_folders(void **state)
{
	struct sz_file *content = file_with(*state, SZ_LIVE, "content", "x");
	struct sz_backend *after;

	put(*state, SZ_SEALED, "name", "x");
	OK(sz_file_sync(content));
	sz_file_close(content);
	OK(sz_backend_sync_folder(*state, SZ_SEALED));
	after = crash(*state, SZ_CRASH_DROP, 0);
	assert_false(exists(after, SZ_LIVE, "content"));
	assert_true(holds(after, SZ_SEALED, "name", ""));
	sz_backend_close(after);
}

static void test_content_belongs_to_the_file_and_not_to_its_name(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "a", "one");
	struct sz_backend *after;

	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	OK(sz_backend_rename(*state, "a", "b"));
	OK(sz_file_sync(file));
	OK(sz_file_write(file, "two", 3, 3));
	after = crash(*state, SZ_CRASH_DROP, 0);
	assert_true(holds(after, SZ_LIVE, "a", "one"));
	assert_false(exists(after, SZ_SEALED, "b"));
	sz_backend_close(after);
	sz_file_close(file);
}

enum {
	NEITHER = 1 << 0,
	OLD = 1 << 1,
	NEW = 1 << 2,
	BOTH = 1 << 3
};

/* Which names of a moved file the crashes leave. */
static unsigned int names_seen(struct sz_backend *backend)
{
	unsigned int seen = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct sz_backend *after = crash(backend, SZ_CRASH_REORDER, seed);
		unsigned int names = 0;

		if (exists(after, SZ_LIVE, "old")) {
			assert_true(holds(after, SZ_LIVE, "old", "x"));
			names |= 1;
		}
		if (exists(after, SZ_SEALED, "new")) {
			assert_true(holds(after, SZ_SEALED, "new", "x"));
			names |= 2;
		}
		seen |= 1U << names;
		sz_backend_close(after);
	}
	return seen;
}

static void test_a_rename_may_leave_either_name_or_both(void **state)
{
	put_durably(*state, SZ_LIVE, "old", "x");
	OK(sz_backend_rename(*state, "old", "new"));
	assert_int_equal(names_seen(*state), OLD | NEW | BOTH);
}

static void test_the_new_name_is_durable_after_a_sync_of_its_folder(void **state)
{
	put_durably(*state, SZ_LIVE, "old", "x");
	OK(sz_backend_rename(*state, "old", "new"));
	OK(sz_backend_sync_folder(*state, SZ_SEALED));
	assert_int_equal(names_seen(*state), NEW | BOTH);
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	assert_int_equal(names_seen(*state), NEW);
}

static void test_the_old_name_never_goes_without_the_new_one(void **state)
{
	put_durably(*state, SZ_LIVE, "old", "x");
	OK(sz_backend_rename(*state, "old", "new"));
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	assert_int_equal(names_seen(*state), NEW);
}

static void test_a_file_that_was_never_durable_may_be_lost_by_a_rename(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "old", "x");

	OK(sz_file_sync(file));
	sz_file_close(file);
	OK(sz_backend_rename(*state, "old", "new"));
	assert_int_equal(names_seen(*state), NEITHER | OLD | NEW | BOTH);
}

static uint64_t inode_of(struct sz_backend *backend, enum sz_part part, const char *name)
{
	struct sz_file *file;
	uint64_t inode;
	uint64_t size;

	OK(sz_backend_open(backend, part, name, &file));
	OK(sz_file_stat(file, &size, &inode));
	sz_file_close(file);
	return inode;
}

static void test_both_names_of_a_rename_are_one_file(void **state)
{
	bool seen = false;

	put_durably(*state, SZ_LIVE, "old", "x");
	OK(sz_backend_rename(*state, "old", "new"));
	for (uint64_t seed = 0; seed < SEEDS && !seen; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_REORDER, seed);

		if (exists(after, SZ_LIVE, "old") && exists(after, SZ_SEALED, "new")) {
			assert_true(inode_of(after, SZ_LIVE, "old") ==
				    inode_of(after, SZ_SEALED, "new"));
			seen = true;
		}
		sz_backend_close(after);
	}
	assert_true(seen);
}

static void test_names_come_and_go_in_every_combination(void **state)
{
	unsigned int seen = 0;

	put_durably(*state, SZ_LIVE, "a", "");
	OK(sz_backend_remove(*state, SZ_LIVE, "a"));
	put(*state, SZ_LIVE, "b", "");
	put(*state, SZ_SEALED, "c", "");
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_REORDER, seed);

		seen |= 1U << ((unsigned int)exists(after, SZ_LIVE, "a") |
			       (unsigned int)exists(after, SZ_LIVE, "b") << 1 |
			       (unsigned int)exists(after, SZ_SEALED, "c") << 2);
		sz_backend_close(after);
	}
	assert_int_equal(seen, 0xff);
}

static void test_a_name_taken_twice_holds_the_old_file_the_new_one_or_none(void **state)
{
	unsigned int seen = 0;

	put_durably(*state, SZ_LIVE, "a", "old");
	OK(sz_backend_remove(*state, SZ_LIVE, "a"));
	put(*state, SZ_LIVE, "a", "");
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_REORDER, seed);

		if (!exists(after, SZ_LIVE, "a"))
			seen |= 1;
		else if (holds(after, SZ_LIVE, "a", "old"))
			seen |= 2;
		else if (holds(after, SZ_LIVE, "a", ""))
			seen |= 4;
		else
			fail();
		sz_backend_close(after);
	}
	assert_int_equal(seen, 7);
}

static void test_writes_are_lost_one_by_one_and_in_any_order(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "a", "....");
	unsigned int seen = 0;
	char buffer[16];

	OK(sz_file_sync(file));
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	OK(sz_file_write(file, "1", 1, 0));
	OK(sz_file_write(file, "2", 1, 2));
	OK(sz_file_write(file, "3", 1, 6));
	sz_file_close(file);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_REORDER, seed);
		ssize_t length = get(after, SZ_LIVE, "a", buffer, sizeof(buffer));
		bool has_third = length == 7;

		assert_true(length == 4 || length == 7);
		assert_true(buffer[0] == '.' || buffer[0] == '1');
		assert_true(buffer[2] == '.' || buffer[2] == '2');
		assert_true(buffer[1] == '.' && buffer[3] == '.');
		if (has_third)
			assert_memory_equal(buffer + 4, "\0\0003", 3);
		seen |= 1U << ((unsigned int)(buffer[0] == '1') |
			       (unsigned int)(buffer[2] == '2') << 1 |
			       (unsigned int)has_third << 2);
		sz_backend_close(after);
	}
	assert_int_equal(seen, 0xff);
}

static void test_a_torn_write_is_torn_between_units_of_512(void **state)
{
	enum {
		START = 700,
		LENGTH = 512 * 6
	}; /* 7 units: two of them in part */
	unsigned int seen_all = 0;
	unsigned int seen_none = 0;
	unsigned int seen_beginning = 0;
	unsigned int seen_gap = 0;
	unsigned int seen_length_alone = 0;
	uint8_t bytes[8192];
	struct sz_file *file;

	OK(sz_backend_create(*state, SZ_LIVE, "a", &file));
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	memset(bytes, 0xaa, LENGTH);
	OK(sz_file_write(file, bytes, LENGTH, START));
	sz_file_close(file);
	for (uint64_t seed = 0; seed < (uint64_t)4 * SEEDS; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_TORN, seed);
		ssize_t length = get(after, SZ_LIVE, "a", bytes, sizeof(bytes));
		unsigned int kept = 0;

		assert_true(length >= 0 && length <= START + LENGTH);
		for (size_t unit = 1; unit <= 7; unit++) {
			size_t start = unit == 1 ? START : unit * 512;
			size_t end = unit == 7 ? START + LENGTH : (unit + 1) * 512;
			bool is_kept = (size_t)length >= end && bytes[start] == 0xaa;

			for (size_t i = start; i < end && i < (size_t)length; i++)
				assert_int_equal(bytes[i], is_kept ? 0xaa : 0);
			kept |= (unsigned int)is_kept << (unit - 1);
		}
		for (size_t i = 0; i < START && i < (size_t)length; i++)
			assert_int_equal(bytes[i], 0);
		seen_all += kept == 0x7f;
		seen_none += kept == 0 && length == 0;
		seen_length_alone += kept == 0 && length == START + LENGTH;
		seen_beginning += kept != 0 && kept != 0x7f && (kept & (kept + 1)) == 0;
		seen_gap += (kept & (kept + 1)) != 0;
		sz_backend_close(after);
	}
	assert_true(seen_all > 0 && seen_none > 0 && seen_beginning > 0 && seen_gap > 0);
	assert_true(seen_length_alone > 0);
}

static void test_a_reordering_crash_does_not_tear(void **state)
{
	enum {
		LENGTH = 5000
	};
	uint8_t bytes[LENGTH + 1];
	char name[4];

	for (unsigned int i = 0; i < 10; i++) {
		struct sz_file *file;

		(void)snprintf(name, sizeof(name), "%u", i);
		OK(sz_backend_create(*state, SZ_LIVE, name, &file));
		memset(bytes, 1, LENGTH);
		OK(sz_file_write(file, bytes, LENGTH, 0));
		sz_file_close(file);
	}
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_REORDER, seed);

		for (unsigned int i = 0; i < 10; i++) {
			ssize_t length;

			(void)snprintf(name, sizeof(name), "%u", i);
			length = get(after, SZ_LIVE, name, bytes, sizeof(bytes));
			assert_true(length <= 0 || length == LENGTH);
			for (ssize_t j = 0; j < length; j++)
				assert_int_equal(bytes[j], 1);
		}
		sz_backend_close(after);
	}
}

/* Digest of all that a backend holds, whatever the order of the names. */
struct digest {
	struct sz_backend *backend;
	enum sz_part part;
	uint64_t sum;
};

static int digest_one(void *context, const char *name, uint64_t size_bytes)
{
	struct digest *digest = context;
	uint64_t hash = 14695981039346656037U ^ digest->part;
	uint8_t buffer[1 << 16];
	ssize_t length = get(digest->backend, digest->part, name, buffer, sizeof(buffer));

	assert_int_equal(length, size_bytes);
	for (const char *c = name; *c != '\0'; c++)
		hash = (hash ^ (uint8_t)*c) * 1099511628211U;
	for (ssize_t i = 0; i < length; i++)
		hash = (hash ^ buffer[i]) * 1099511628211U;
	digest->sum += hash;
	return 0;
}

static uint64_t digest_of(struct sz_backend *backend)
{
	struct digest digest = { .backend = backend, .part = SZ_SEALED };

	OK(sz_backend_list(backend, SZ_SEALED, digest_one, &digest));
	digest.part = SZ_LIVE;
	OK(sz_backend_list(backend, SZ_LIVE, digest_one, &digest));
	return digest.sum;
}

static uint64_t digest_of_crash(struct sz_backend *backend, enum sz_crash kind, uint64_t seed)
{
	struct sz_backend *after = crash(backend, kind, seed);
	uint64_t sum = digest_of(after);

	sz_backend_close(after);
	return sum;
}

static void make_history(struct sz_backend *backend, const char *prefix)
{
	char name[32];

	for (int i = 0; i < 30; i++) {
		(void)snprintf(name, sizeof(name), "%s%d", prefix, i);
		put(backend, SZ_LIVE, name, name + strlen(prefix));
		if (i % 3 == 0)
			OK(sz_backend_rename(backend, name, name));
		if (i % 10 == 9)
			OK(sz_backend_sync_folder(backend, SZ_LIVE));
	}
}

static void test_a_crash_leaves_the_backend_as_it_is(void **state)
{
	uint64_t now;
	uint64_t durable;

	make_history(*state, "");
	now = digest_of(*state);
	durable = digest_of_crash(*state, SZ_CRASH_DROP, 0);
	assert_true(now != durable);
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct sz_backend *after = crash(*state, SZ_CRASH_CLEAN, seed);

		/* What is done to the copy does not reach the original either. */
		OK(sz_backend_sync_folder(after, SZ_LIVE));
		OK(sz_backend_sync_folder(after, SZ_SEALED));
		put_durably(after, SZ_SEALED, "more", "more");
		sz_backend_close(after);
		(void)digest_of_crash(*state, SZ_CRASH_TORN, seed);
	}
	assert_true(digest_of(*state) == now);
	assert_true(digest_of_crash(*state, SZ_CRASH_DROP, 1) == durable);
}

static void test_blocks_are_shared_but_not_changes_of_them(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "a", "before");
	struct sz_backend *after = crash(*state, SZ_CRASH_CLEAN, 0);

	OK(sz_file_write(file, "after!", 6, 0));
	assert_true(holds(after, SZ_LIVE, "a", "before"));
	assert_true(holds(*state, SZ_LIVE, "a", "after!"));
	sz_backend_close(after);
	sz_file_close(file);
}

static void test_the_same_seed_gives_the_same_crash(void **state)
{
	uint64_t previous = 0;
	unsigned int changed = 0;

	make_history(*state, "");
	for (uint64_t seed = 0; seed < 50; seed++) {
		uint64_t sum = digest_of_crash(*state, SZ_CRASH_TORN, seed);

		assert_true(sum == digest_of_crash(*state, SZ_CRASH_TORN, seed));
		changed += sum != previous;
		previous = sum;
	}
	assert_true(changed > 40);
}

/* Which numbers of a history's files there are, whatever their prefix is. */
static int number_one(void *context, const char *name, uint64_t size_bytes)
{
	const char *digits = name + strcspn(name, "0123456789");

	*(uint32_t *)context |= (uint32_t)1 << strtoul(digits, NULL, 10);
	assert_true(size_bytes <= 2);
	return 0;
}

static void test_chance_does_not_depend_on_names(void **state)
{
	static const char *const prefixes[] = { "x", "quite another prefix " };
	uint32_t left[2][2] = { 0 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct sz_backend *backend;
		struct sz_backend *after;

		OK(sz_memory_open("disk", &backend));
		make_history(backend, prefixes[i]);
		after = crash(backend, SZ_CRASH_REORDER, 7);
		OK(sz_backend_list(after, SZ_LIVE, number_one, &left[i][0]));
		OK(sz_backend_list(after, SZ_SEALED, number_one, &left[i][1]));
		sz_backend_close(after);
		sz_backend_close(backend);
	}
	assert_int_equal(left[0][0], left[1][0]);
	assert_int_equal(left[0][1], left[1][1]);
	assert_int_not_equal(left[0][0], 0);
}

static void test_open_files_do_not_outlive_the_machine(void **state)
{
	struct sz_file *file = file_with(*state, SZ_LIVE, "a", "x");
	struct sz_backend *after;
	struct sz_space space;

	OK(sz_backend_remove(*state, SZ_LIVE, "a"));
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	after = crash(*state, SZ_CRASH_CLEAN, 0);
	assert_int_equal(list(after, SZ_LIVE).count, 0);
	OK(sz_backend_space(after, &space));
	assert_true(space.free_bytes == space.total_bytes);
	sz_backend_close(after);
	sz_file_close(file);
}

static uint64_t free_space(struct sz_backend *backend)
{
	struct sz_space space;

	OK(sz_backend_space(backend, &space));
	assert_true(space.free_bytes <= space.total_bytes);
	return space.free_bytes;
}

static void test_a_full_disk_is_enospc_and_removing_makes_room(void **state)
{
	enum {
		BLOCK = 4096
	};
	static const uint8_t block[BLOCK] = { 1 };
	struct sz_backend *after;
	struct sz_file *file;

	sz_memory_limit(*state, (uint64_t)3 * BLOCK);
	OK(sz_backend_create(*state, SZ_LIVE, "a", &file));
	for (uint64_t i = 0; i < 3; i++)
		OK(sz_file_write(file, block, BLOCK, 2 * i * BLOCK)); /* holes take no space */
	assert_int_equal(free_space(*state), 0);
	assert_int_equal(sz_file_write(file, block, BLOCK, BLOCK), -ENOSPC);
	assert_int_equal(sz_file_write(file, block, 1, (uint64_t)6 * BLOCK), -ENOSPC);
	OK(sz_file_write(file, block, BLOCK, 0)); /* in place there is room */
	after = crash(*state, SZ_CRASH_CLEAN, 0);
	assert_int_equal(free_space(after), 0);
	sz_backend_close(after);

	OK(sz_backend_remove(*state, SZ_LIVE, "a"));
	assert_int_equal(free_space(*state), 0); /* it is open still */
	sz_file_close(file);
	assert_int_equal(free_space(*state), 0); /* and its removal may not last */
	OK(sz_backend_sync_folder(*state, SZ_LIVE));
	assert_int_equal(free_space(*state), 3 * BLOCK);
	put(*state, SZ_LIVE, "b", "x");
}

static void test_overwrites_are_seen(void **state)
{
	struct sz_file *file;
	uint8_t bytes[10000] = { 0 };

	OK(sz_backend_create(*state, SZ_LIVE, "a", &file));
	OK(sz_file_write(file, bytes, 100, 0)); /* appending in odd pieces is no overwriting */
	OK(sz_file_write(file, bytes, 1, 100));
	OK(sz_file_write(file, bytes, 5000, 101));
	OK(sz_file_write(file, bytes, 4096, 8192)); /* nor is filling a gap */
	OK(sz_file_write(file, bytes, 8192 - 5101, 5101));
	assert_int_equal(sz_memory_overwrites(*state), 0);
	OK(sz_file_write(file, bytes, 10, 3000));
	assert_int_equal(sz_memory_overwrites(*state), 1);
	OK(sz_file_sync(file));
	OK(sz_file_write(file, bytes, 10000, 0));
	assert_int_equal(sz_memory_overwrites(*state), 2);
	sz_file_close(file);
}

/*
 * A simple model beside it: arrays of bytes, and for each byte which values may be there. Every
 * crash has to give what the model allows.
 */
enum {
	FILES = 6,
	SIZE_LIMIT = 6000,
	STEPS = 30000
};

struct model_file {
	struct sz_file *file; /* NULL: there is none */
	char name[16];
	bool name_is_durable;
	size_t now_length;
	size_t durable_length;
	uint8_t now[SIZE_LIMIT];
	uint8_t durable[SIZE_LIMIT];
	uint32_t possible[SIZE_LIMIT]; /* bit v: a pending write put value v here */
};

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005U + 1442695040888963407U;
	return (uint32_t)(random_state >> 33) % limit;
}

static void model_write(struct model_file *model)
{
	size_t offset = random_below(SIZE_LIMIT - 1);
	size_t length = 1 + random_below((uint32_t)(SIZE_LIMIT - offset));
	uint8_t value = (uint8_t)(1 + random_below(30));
	uint8_t bytes[SIZE_LIMIT];

	if (random_below(2) == 0 && length > 100)
		length = 100;
	memset(bytes, value, length);
	OK(sz_file_write(model->file, bytes, length, offset));
	memcpy(model->now + offset, bytes, length);
	if (model->now_length < offset + length)
		model->now_length = offset + length;
	for (size_t i = offset; i < offset + length; i++)
		model->possible[i] |= (uint32_t)1 << value;
}

static void model_check(const struct model_file *model, struct sz_backend *after,
			enum sz_crash kind)
{
	uint8_t bytes[SIZE_LIMIT + 1];
	ssize_t length = get(after, SZ_LIVE, model->name, bytes, sizeof(bytes));

	if (length < 0) {
		assert_false(model->name_is_durable || kind == SZ_CRASH_CLEAN);
		return;
	}
	assert_true(model->name_is_durable || kind != SZ_CRASH_DROP);
	if (kind == SZ_CRASH_CLEAN || kind == SZ_CRASH_DROP) {
		bool is_clean = kind == SZ_CRASH_CLEAN;

		assert_int_equal(length, is_clean ? model->now_length : model->durable_length);
		assert_memory_equal(bytes, is_clean ? model->now : model->durable, (size_t)length);
		return;
	}
	assert_true((size_t)length >= model->durable_length);
	assert_true((size_t)length <= model->now_length);
	for (ssize_t i = 0; i < length; i++) {
		uint32_t possible = model->possible[i] | (uint32_t)1 << model->durable[i];

		assert_true((possible & (uint32_t)1 << bytes[i]) != 0);
	}
}

static void models_check_a_crash(const struct model_file *models, struct sz_backend *backend)
{
	enum sz_crash kind = all_kinds[random_below(ARRAY_LENGTH(all_kinds))];
	struct sz_backend *after = crash(backend, kind, random_state);

	for (size_t i = 0; i < FILES; i++) {
		if (models[i].file != NULL)
			model_check(&models[i], after, kind);
	}
	sz_backend_close(after);
}

static void test_random_histories_agree_with_a_model(void **state)
{
	static struct model_file models[FILES];
	const char *seed = getenv("SZ_SEED");
	unsigned int created = 0;

	random_state = seed != NULL ? strtoull(seed, NULL, 10) : sz_wall_ns();
	print_message("# SZ_SEED=%llu\n", (unsigned long long)random_state);
	for (unsigned int step = 0; step < STEPS; step++) {
		struct model_file *model = &models[random_below(FILES)];
		uint32_t choice = random_below(40);

		if (model->file == NULL) {
			memset(model, 0, sizeof(*model));
			(void)snprintf(model->name, sizeof(model->name), "%u", created++);
			OK(sz_backend_create(*state, SZ_LIVE, model->name, &model->file));
		}
		if (choice < 3) {
			OK(sz_file_sync(model->file));
			memcpy(model->durable, model->now, sizeof(model->now));
			model->durable_length = model->now_length;
			memset(model->possible, 0, sizeof(model->possible));
		} else if (choice == 3) {
			OK(sz_backend_sync_folder(*state, SZ_LIVE));
			for (size_t i = 0; i < FILES; i++)
				models[i].name_is_durable = models[i].file != NULL;
		} else if (choice == 4) {
			OK(sz_backend_remove(*state, SZ_LIVE, model->name));
			sz_file_close(model->file);
			model->file = NULL;
		} else if (choice < 7) {
			models_check_a_crash(models, *state);
		} else {
			model_write(model);
		}
	}
	for (size_t i = 0; i < FILES; i++)
		sz_file_close(models[i].file);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_what_is_synced_survives_every_crash),
		CASE(test_a_clean_crash_keeps_everything_as_undurable_as_it_was),
		CASE(test_what_a_crash_left_is_durable),
		CASE(test_a_file_needs_its_own_sync_and_its_folders),
		CASE(test_content_belongs_to_the_file_and_not_to_its_name),
		CASE(test_a_rename_may_leave_either_name_or_both),
		CASE(test_the_new_name_is_durable_after_a_sync_of_its_folder),
		CASE(test_the_old_name_never_goes_without_the_new_one),
		CASE(test_a_file_that_was_never_durable_may_be_lost_by_a_rename),
		CASE(test_both_names_of_a_rename_are_one_file),
		CASE(test_names_come_and_go_in_every_combination),
		CASE(test_a_name_taken_twice_holds_the_old_file_the_new_one_or_none),
		CASE(test_writes_are_lost_one_by_one_and_in_any_order),
		CASE(test_a_torn_write_is_torn_between_units_of_512),
		CASE(test_a_reordering_crash_does_not_tear),
		CASE(test_a_crash_leaves_the_backend_as_it_is),
		CASE(test_blocks_are_shared_but_not_changes_of_them),
		CASE(test_the_same_seed_gives_the_same_crash),
		CASE(test_chance_does_not_depend_on_names),
		CASE(test_open_files_do_not_outlive_the_machine),
		CASE(test_a_full_disk_is_enospc_and_removing_makes_room),
		CASE(test_overwrites_are_seen),
		CASE(test_random_histories_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
