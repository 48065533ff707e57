/*
 * What every backend promises (store/store.h), one case for each promise.
 * Usage: test_contract folder|memory|fault|volatile
 */
#include "contract.h"

#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

static const char *kind;

struct fixture {
	struct sz_backend *backend;
	struct sz_fault_plan plan;
	char path[64];
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct sz_backend *inner = NULL;

	assert_non_null(fixture);
	if (strcmp(kind, "folder") == 0) {
		(void)snprintf(fixture->path, sizeof(fixture->path), "/tmp/szpool-contract.XXXXXX");
		assert_non_null(mkdtemp(fixture->path));
		OK(sz_folder_open(fixture->path, false, &fixture->backend));
		assert_string_equal(fixture->backend->label, fixture->path);
	} else if (strcmp(kind, "memory") == 0) {
		OK(sz_memory_open("memory 0", &fixture->backend));
		assert_string_equal(fixture->backend->label, "memory 0");
	} else if (strcmp(kind, "volatile") == 0) {
		OK(sz_memory_open("memory 0", &inner));
		OK(sz_volatile_open(inner, UINT64_C(1) << 30, &fixture->backend));
	} else {
		assert_string_equal(kind, "fault");
		fixture->plan.mask = ~0U; /* counts everything, fails nothing */
		OK(sz_memory_open("memory 0", &inner));
		OK(sz_fault_open(inner, &fixture->plan, &fixture->backend));
	}
	*state = fixture;
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
	(void)status;
	(void)type;
	(void)position;
	return remove(path);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	sz_backend_close(fixture->backend);
	if (fixture->path[0] != '\0')
		OK(nftw(fixture->path, remove_one, 8, FTW_DEPTH | FTW_PHYS));
	free(fixture);
	return 0;
}

static struct sz_backend *backend_of(void **state)
{
	return ((struct fixture *)*state)->backend;
}

static const enum sz_part parts[] = { SZ_SEALED, SZ_LIVE };

static void test_an_empty_backend_lists_nothing(void **state)
{
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++)
		assert_int_equal(list(backend_of(state), parts[i]).count, 0);
}

static void test_what_was_written_is_read(void **state)
{
	struct sz_backend *backend = backend_of(state);
	char buffer[32];
	struct sz_file *file;
	uint64_t inode;
	uint64_t size;
	size_t done;

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		file = file_with(backend, parts[i], "a", "hello");
		OK(sz_file_write(file, " world", 6, 5));
		OK(sz_file_stat(file, &size, &inode));
		assert_int_equal(size, 11);
		OK(sz_file_read(file, buffer, 5, 6, &done)); /* one that is open for writing too */
		assert_int_equal(done, 5);
		assert_memory_equal(buffer, "world", 5);
		sz_file_sync_begin(file);
		OK(sz_file_write(file, "!", 1, 11));
		OK(sz_file_sync(file));
		sz_file_close(file);
		assert_true(holds(backend, parts[i], "a", "hello world!"));
	}
}

static void test_reading_ends_with_the_file(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file = file_with(backend, SZ_SEALED, "a", "0123456789");
	char buffer[16];
	size_t done;
	int cached;

	OK(sz_file_read(file, buffer, sizeof(buffer), 0, &done));
	assert_int_equal(done, 10);
	OK(sz_file_read(file, buffer, sizeof(buffer), 7, &done));
	assert_int_equal(done, 3);
	assert_memory_equal(buffer, "789", 3);
	OK(sz_file_read(file, buffer, sizeof(buffer), 10, &done));
	assert_int_equal(done, 0);
	OK(sz_file_read(file, buffer, sizeof(buffer), (uint64_t)1 << 40, &done));
	assert_int_equal(done, 0);
	/* Without waiting: all of it or nothing. */
	memset(buffer, 0, sizeof(buffer));
	cached = sz_file_read_cached(file, buffer, 7, 3);
	assert_true(cached == 0 || (cached == -EAGAIN && strcmp(kind, "memory") != 0));
	assert_true(cached != 0 || memcmp(buffer, "3456789", 7) == 0);
	assert_int_equal(sz_file_read_cached(file, buffer, 8, 3), -EAGAIN);
	assert_int_equal(sz_file_read_cached(file, buffer, 1, UINT64_MAX), -EAGAIN);
	OK(sz_file_read(file, buffer, 0, 3, &done));
	assert_int_equal(done, 0);
	sz_file_close(file);
}

static void test_a_hole_reads_as_zeros(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file = file_with(backend, SZ_LIVE, "a", "x");
	uint8_t buffer[20000];
	uint64_t inode;
	uint64_t size;
	size_t done;

	OK(sz_file_write(file, "y", 1, 12345));
	OK(sz_file_stat(file, &size, &inode));
	assert_int_equal(size, 12346);
	memset(buffer, 0xee, sizeof(buffer));
	OK(sz_file_read(file, buffer, sizeof(buffer), 0, &done));
	assert_int_equal(done, 12346);
	assert_int_equal(buffer[0], 'x');
	for (size_t i = 1; i < 12345; i++)
		assert_int_equal(buffer[i], 0);
	assert_int_equal(buffer[12345], 'y');
	sz_file_close(file);
}

static void test_an_empty_write_changes_nothing(void **state)
{
	struct sz_file *file = file_with(backend_of(state), SZ_SEALED, "a", "x");
	uint64_t inode;
	uint64_t size;

	OK(sz_file_write(file, "", 0, 5000));
	OK(sz_file_stat(file, &size, &inode));
	assert_int_equal(size, 1);
	sz_file_close(file);
}

static void test_a_range_past_the_largest_offset_is_refused(void **state)
{
	struct sz_file *file = file_with(backend_of(state), SZ_SEALED, "a", "x");
	char byte = 0;
	size_t done;

	assert_int_equal(sz_file_write(file, &byte, 1, INT64_MAX), -EFBIG);
	assert_int_equal(sz_file_write(file, &byte, 1, UINT64_MAX), -EFBIG);
	assert_int_equal(sz_file_read(file, &byte, 1, UINT64_MAX, &done), -EFBIG);
	sz_file_close(file);
}

static void test_a_name_is_taken_once(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file = (struct sz_file *)(void *)state; /* anything but NULL */

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		put(backend, parts[i], "a", "first");
		assert_int_equal(sz_backend_create(backend, parts[i], "a", &file), -EEXIST);
		assert_null(file);
		assert_true(holds(backend, parts[i], "a", "first"));
	}
}

static void test_parts_are_apart(void **state)
{
	struct sz_backend *backend = backend_of(state);

	put(backend, SZ_SEALED, "a", "sealed");
	assert_false(exists(backend, SZ_LIVE, "a"));
	put(backend, SZ_LIVE, "a", "live");
	put(backend, SZ_LIVE, "b", "only live");
	assert_true(holds(backend, SZ_SEALED, "a", "sealed"));
	assert_true(holds(backend, SZ_LIVE, "a", "live"));
	assert_false(exists(backend, SZ_SEALED, "b"));
	assert_int_equal(list(backend, SZ_SEALED).count, 1);
	assert_int_equal(list(backend, SZ_LIVE).count, 2);
}

static void test_what_is_absent_is_enoent(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		assert_int_equal(sz_backend_open(backend, parts[i], "a", &file), -ENOENT);
		assert_null(file);
		assert_int_equal(sz_backend_remove(backend, parts[i], "a"), -ENOENT);
	}
	assert_int_equal(sz_backend_rename(backend, "a", "b"), -ENOENT);
	put(backend, SZ_LIVE, "c", "");
	assert_int_equal(sz_backend_rename(backend, "a", "b"), -ENOENT);
	assert_int_equal(sz_backend_open(backend, SZ_SEALED, SZ_LIVE_FOLDER, &file), -ENOENT);
	assert_int_equal(sz_backend_remove(backend, SZ_SEALED, SZ_LIVE_FOLDER), -ENOENT);
	assert_true(exists(backend, SZ_LIVE, "c"));
}

static void test_bad_names_are_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/a", "a/", "../a", "/" };
	struct sz_backend *backend = backend_of(state);
	char name[SZ_NAME_MAX_BYTES + 2];
	struct sz_file *file;

	put(backend, SZ_LIVE, "a", "x");
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		for (size_t j = 0; j < ARRAY_LENGTH(parts); j++) {
			assert_int_equal(sz_backend_create(backend, parts[j], bad[i], &file),
					 -EINVAL);
			assert_int_equal(sz_backend_open(backend, parts[j], bad[i], &file),
					 -EINVAL);
			assert_int_equal(sz_backend_remove(backend, parts[j], bad[i]), -EINVAL);
		}
		assert_int_equal(sz_backend_rename(backend, bad[i], "b"), -EINVAL);
		assert_int_equal(sz_backend_rename(backend, "a", bad[i]), -EINVAL);
	}
	assert_int_equal(sz_backend_create(backend, SZ_SEALED, SZ_LIVE_FOLDER, &file), -EINVAL);
	assert_int_equal(sz_backend_rename(backend, "a", SZ_LIVE_FOLDER), -EINVAL);

	memset(name, 'n', sizeof(name));
	name[SZ_NAME_MAX_BYTES + 1] = '\0';
	assert_int_equal(sz_backend_create(backend, SZ_LIVE, name, &file), -ENAMETOOLONG);
	assert_int_equal(sz_backend_open(backend, SZ_LIVE, name, &file), -ENAMETOOLONG);
	assert_int_equal(sz_backend_rename(backend, "a", name), -ENAMETOOLONG);
	name[SZ_NAME_MAX_BYTES] = '\0';
	put(backend, SZ_LIVE, name, "long");
	assert_true(holds(backend, SZ_LIVE, name, "long"));
}

static void test_names_are_bytes(void **state)
{
	static const char *const odd[] = { ".x.AbC123", "~syncthing~", "a b\n", "\xff\xfe", "-rf" };
	struct sz_backend *backend = backend_of(state);

	for (size_t i = 0; i < ARRAY_LENGTH(odd); i++)
		put(backend, SZ_SEALED, odd[i], odd[i]);
	for (size_t i = 0; i < ARRAY_LENGTH(odd); i++)
		assert_true(holds(backend, SZ_SEALED, odd[i], odd[i]));
	assert_int_equal(list(backend, SZ_SEALED).count, ARRAY_LENGTH(odd));
}

static void test_rename_moves_from_live_to_sealed(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file = file_with(backend, SZ_LIVE, "a", "content");
	uint64_t inode_before;
	uint64_t inode_after;
	uint64_t size;

	OK(sz_file_stat(file, &size, &inode_before));
	OK(sz_backend_rename(backend, "a", "b"));
	assert_false(exists(backend, SZ_LIVE, "a"));
	assert_true(holds(backend, SZ_SEALED, "b", "content"));
	/* A file that is open stays the same file. */
	OK(sz_file_write(file, "!", 1, 7));
	assert_true(holds(backend, SZ_SEALED, "b", "content!"));
	sz_file_close(file);
	OK(sz_backend_open(backend, SZ_SEALED, "b", &file));
	OK(sz_file_stat(file, &size, &inode_after));
	assert_true(inode_before == inode_after);
	sz_file_close(file);
	OK(sz_backend_sync_folder(backend, SZ_SEALED));
	OK(sz_backend_sync_folder(backend, SZ_LIVE));
}

static void test_rename_never_replaces(void **state)
{
	struct sz_backend *backend = backend_of(state);

	put(backend, SZ_SEALED, "b", "old");
	put(backend, SZ_LIVE, "a", "new");
	assert_int_equal(sz_backend_rename(backend, "a", "b"), -EEXIST);
	assert_true(holds(backend, SZ_SEALED, "b", "old"));
	assert_true(holds(backend, SZ_LIVE, "a", "new"));
}

static void test_a_removed_name_is_free_and_an_open_file_lives_on(void **state)
{
	struct sz_backend *backend = backend_of(state);
	char buffer[8];
	size_t done;

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		struct sz_file *file = file_with(backend, parts[i], "a", "old");

		OK(sz_backend_remove(backend, parts[i], "a"));
		assert_false(exists(backend, parts[i], "a"));
		put(backend, parts[i], "a", "new");
		OK(sz_file_read(file, buffer, sizeof(buffer), 0, &done));
		assert_int_equal(done, 3);
		assert_memory_equal(buffer, "old", 3);
		sz_file_close(file);
		assert_true(holds(backend, parts[i], "a", "new"));
	}
}

static void test_a_file_opened_for_reading_cannot_be_written(void **state)
{
	static const _Alignas(4096) uint8_t large[128 << 10];
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	put(backend, SZ_SEALED, "a", "x");
	OK(sz_backend_open(backend, SZ_SEALED, "a", &file));
	assert_int_equal(sz_file_write(file, "y", 1, 0), -EBADF);
	assert_int_equal(sz_file_write(file, large, sizeof(large), 0), -EBADF);
	sz_file_close(file);
	assert_true(holds(backend, SZ_SEALED, "a", "x"));
}

static void test_files_have_inodes_of_their_own(void **state)
{
	struct sz_backend *backend = backend_of(state);
	uint64_t inodes[2];
	uint64_t size;

	for (size_t i = 0; i < 2; i++) {
		struct sz_file *file = file_with(backend, SZ_SEALED, i == 0 ? "a" : "b", "");

		OK(sz_file_stat(file, &size, &inodes[i]));
		assert_int_equal(size, 0);
		sz_file_close(file);
	}
	assert_true(inodes[0] != inodes[1]);
}

static void is_held(struct sz_file *file, bool expected)
{
	bool is_held = !expected;

	OK(sz_file_is_held(file, &is_held));
	assert_int_equal(is_held, expected);
}

static void test_what_others_hold_is_known(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *mine;
	struct sz_file *other;
	struct sz_file *third;

	put(backend, SZ_SEALED, "a", "x");
	OK(sz_backend_open(backend, SZ_SEALED, "a", &mine));
	OK(sz_backend_open(backend, SZ_SEALED, "a", &other));
	OK(sz_backend_open(backend, SZ_SEALED, "a", &third));
	is_held(mine, false);
	OK(sz_file_hold(mine));
	OK(sz_file_hold(mine));
	is_held(mine, false);
	is_held(other, true);
	OK(sz_file_hold(other));
	is_held(mine, true);
	sz_file_close(mine);
	is_held(other, false);
	is_held(third, true);
	OK(sz_backend_remove(backend, SZ_SEALED, "a"));
	is_held(third, true);
	sz_file_close(other);
	is_held(third, false);
	sz_file_close(third);
	/* Another file of that name is another. */
	put(backend, SZ_SEALED, "a", "x");
	OK(sz_backend_open(backend, SZ_SEALED, "a", &mine));
	is_held(mine, false);
	sz_file_close(mine);
}

static void test_listing_gives_names_and_sizes(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct listed listed;

	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		put(backend, parts[i], "one", "1");
		put(backend, parts[i], "four", "4444");
		listed = list(backend, parts[i]);
		assert_int_equal(listed.count, 2);
		assert_int_equal(listed.bytes, 5);
		assert_non_null(strstr(listed.names, " one"));
		assert_non_null(strstr(listed.names, " four"));
	}
}

static int stop_at_third(void *context, const char *name, uint64_t size_bytes)
{
	(void)name;
	(void)size_bytes;
	return ++*(int *)context == 3 ? -ECANCELED : 0;
}

static void test_a_listing_ends_when_told(void **state)
{
	struct sz_backend *backend = backend_of(state);
	char name[8];
	int calls = 0;

	for (int i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		put(backend, SZ_SEALED, name, "");
	}
	assert_int_equal(sz_backend_list(backend, SZ_SEALED, stop_at_third, &calls), -ECANCELED);
	assert_int_equal(calls, 3);
}

static int remove_listed(void *context, const char *name, uint64_t size_bytes)
{
	(void)size_bytes;
	return sz_backend_remove(context, SZ_SEALED, name);
}

static void test_what_is_listed_may_be_removed_meanwhile(void **state)
{
	struct sz_backend *backend = backend_of(state);
	char name[16];

	for (int i = 0; i < 2000; i++) {
		(void)snprintf(name, sizeof(name), "file %d", i);
		put(backend, SZ_SEALED, name, "");
	}
	assert_int_equal(list(backend, SZ_SEALED).count, 2000);
	OK(sz_backend_list(backend, SZ_SEALED, remove_listed, backend));
	assert_int_equal(list(backend, SZ_SEALED).count, 0);
}

static void test_folders_can_be_synced_at_any_time(void **state)
{
	struct sz_backend *backend = backend_of(state);

	for (int round = 0; round < 2; round++) {
		OK(sz_backend_sync_folder(backend, SZ_LIVE)); /* at first: there is no live/ */
		OK(sz_backend_sync_folder(backend, SZ_SEALED));
		put(backend, SZ_LIVE, round == 0 ? "a" : "b", "x");
	}
}

static void test_space_is_plausible(void **state)
{
	struct sz_space space = { 0 };

	OK(sz_backend_space(backend_of(state), &space));
	assert_true(space.free_bytes > 0);
	assert_true(space.free_bytes <= space.total_bytes);
}

static void test_a_large_file_comes_back(void **state)
{
	enum {
		PIECE = 100003,
		PIECES = 40
	};
	struct sz_backend *backend = backend_of(state);
	uint8_t *piece = malloc(PIECE);
	uint8_t *back = malloc(PIECE);
	struct sz_file *file;
	size_t done;

	assert_non_null(piece);
	assert_non_null(back);
	OK(sz_backend_create(backend, SZ_LIVE, "a", &file));
	for (unsigned int i = 0; i < PIECES; i++) {
		for (size_t j = 0; j < PIECE; j++)
			piece[j] = (uint8_t)(i * 31 + j * 7 + (j >> 8));
		OK(sz_file_write(file, piece, PIECE, (uint64_t)i * PIECE));
	}
	for (unsigned int i = 0; i < PIECES; i++) {
		for (size_t j = 0; j < PIECE; j++)
			piece[j] = (uint8_t)(i * 31 + j * 7 + (j >> 8));
		OK(sz_file_read(file, back, PIECE, (uint64_t)i * PIECE, &done));
		assert_int_equal(done, PIECE);
		assert_memory_equal(piece, back, PIECE);
	}
	sz_file_close(file);
	free(piece);
	free(back);
}

/* Four threads, each with files of its own and one that all write at places of their own. */

enum {
	THREADS = 4,
	ROUNDS = 100,
	RECORD = 700
};

struct worker {
	struct sz_backend *backend;
	struct sz_file *shared;
	unsigned int number;
	int rc;
};

static int work_one(struct worker *worker, unsigned int round)
{
	uint8_t record[RECORD];
	struct sz_file *file = NULL;
	char name[32];
	int rc;

	memset(record, (int)(worker->number * ROUNDS + round) % 251, sizeof(record));
	(void)snprintf(name, sizeof(name), "%u.%u", worker->number, round);
	rc = sz_backend_create(worker->backend, SZ_LIVE, name, &file);
	if (rc == 0)
		rc = sz_file_write(file, record, sizeof(record), 0);
	if (round % 4 == 0 && file != NULL)
		sz_file_sync_begin(file);
	if (rc == 0 && round % 10 == 0)
		rc = sz_file_sync(file);
	sz_file_close(file);
	if (rc == 0)
		rc = sz_file_write(worker->shared, record, sizeof(record),
				   (uint64_t)(worker->number * ROUNDS + round) * RECORD);
	if (rc == 0)
		rc = sz_backend_rename(worker->backend, name, name);
	if (rc == 0 && round % 10 == 0)
		rc = sz_backend_sync_folder(worker->backend, SZ_SEALED);
	if (rc == 0 && round % 2 == 0)
		rc = sz_backend_remove(worker->backend, SZ_SEALED, name);
	return rc;
}

static void *work(void *context)
{
	struct worker *worker = context;

	for (unsigned int round = 0; round < ROUNDS && worker->rc == 0; round++)
		worker->rc = work_one(worker, round);
	return NULL;
}

static void test_threads_do_not_disturb_each_other(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	uint8_t record[RECORD];
	struct sz_file *shared;
	size_t done;

	OK(sz_backend_create(backend, SZ_LIVE, "shared", &shared));
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .backend = backend, .shared = shared, .number = i };
		OK(pthread_create(&threads[i], NULL, work, &workers[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		OK(pthread_join(threads[i], NULL));
		OK(workers[i].rc);
	}
	assert_int_equal(list(backend, SZ_SEALED).count, THREADS * ROUNDS / 2);
	for (unsigned int i = 0; i < THREADS * ROUNDS; i++) {
		OK(sz_file_read(shared, record, sizeof(record), (uint64_t)i * RECORD, &done));
		assert_int_equal(done, RECORD);
		for (size_t j = 0; j < RECORD; j++)
			assert_int_equal(record[j], i % 251);
	}
	sz_file_close(shared);
	assert_int_equal(list(backend, SZ_LIVE).count, 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(test_an_empty_backend_lists_nothing),
		CASE(test_what_was_written_is_read),
		CASE(test_reading_ends_with_the_file),
		CASE(test_a_hole_reads_as_zeros),
		CASE(test_an_empty_write_changes_nothing),
		CASE(test_a_range_past_the_largest_offset_is_refused),
		CASE(test_a_name_is_taken_once),
		CASE(test_parts_are_apart),
		CASE(test_what_is_absent_is_enoent),
		CASE(test_bad_names_are_refused),
		CASE(test_names_are_bytes),
		CASE(test_rename_moves_from_live_to_sealed),
		CASE(test_rename_never_replaces),
		CASE(test_a_removed_name_is_free_and_an_open_file_lives_on),
		CASE(test_a_file_opened_for_reading_cannot_be_written),
		CASE(test_files_have_inodes_of_their_own),
		CASE(test_what_others_hold_is_known),
		CASE(test_listing_gives_names_and_sizes),
		CASE(test_a_listing_ends_when_told),
		CASE(test_what_is_listed_may_be_removed_meanwhile),
		CASE(test_folders_can_be_synced_at_any_time),
		CASE(test_space_is_plausible),
		CASE(test_a_large_file_comes_back),
		CASE(test_threads_do_not_disturb_each_other),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_contract folder|memory|fault\n");
		return 2;
	}
	kind = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
