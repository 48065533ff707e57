/*
 * The volatile backend over files that were there before: whatever is done to them, the inner backend stays as it
 * is, and nothing but listings and reads ever reaches it.
 */
#include "contract.h"

#define LIMIT_BYTES (1U << 20)

struct fixture {
	struct sz_fault_plan plan; /* counts what reaches the inner backend */
	struct sz_backend *memory; /* inside of backend, which owns it */
	struct sz_backend *backend;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct sz_backend *counted;

	assert_non_null(fixture);
	OK(sz_memory_open("disk", &fixture->memory));
	put(fixture->memory, SZ_SEALED, "sealed", "of before");
	put(fixture->memory, SZ_LIVE, "live", "begun before");
	put(fixture->memory, SZ_LIVE, "other", "x");
	OK(sz_fault_open(fixture->memory, &fixture->plan, &counted));
	OK(sz_volatile_open(counted, LIMIT_BYTES, &fixture->backend));
	fixture->plan.mask = SZ_OP_CHANGES | SZ_OP_REMOVE;
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(fixture->plan.count, 0);
	assert_true(holds(fixture->memory, SZ_SEALED, "sealed", "of before"));
	assert_true(holds(fixture->memory, SZ_LIVE, "live", "begun before"));
	assert_int_equal(list(fixture->memory, SZ_SEALED).count, 1);
	assert_int_equal(list(fixture->memory, SZ_LIVE).count, 2);
	sz_backend_close(fixture->backend);
	free(fixture);
	return 0;
}

static struct sz_backend *backend_of(void **state)
{
	return ((struct fixture *)*state)->backend;
}

static void test_what_was_there_is_seen(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	assert_string_equal(backend->label, "disk");
	assert_true(holds(backend, SZ_SEALED, "sealed", "of before"));
	assert_true(holds(backend, SZ_LIVE, "live", "begun before"));
	assert_int_equal(list(backend, SZ_LIVE).bytes, 13);
	OK(sz_backend_open(backend, SZ_LIVE, "live", &file));
	assert_int_equal(sz_file_write(file, "y", 1, 0), -EBADF);
	OK(sz_file_sync(file));
	sz_file_close(file);
	OK(sz_backend_sync_folder(backend, SZ_SEALED));
	OK(sz_backend_sync_folder(backend, SZ_LIVE));
}

static void test_its_names_are_taken(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	assert_int_equal(sz_backend_create(backend, SZ_SEALED, "sealed", &file), -EEXIST);
	assert_int_equal(sz_backend_create(backend, SZ_LIVE, "live", &file), -EEXIST);
	put(backend, SZ_LIVE, "new", "n");
	assert_int_equal(sz_backend_rename(backend, "new", "sealed"), -EEXIST);
	assert_int_equal(sz_backend_rename(backend, "live", "sealed"), -EEXIST);
	put(backend, SZ_LIVE, "sealed", "another part");
	put(backend, SZ_SEALED, "live2", "");
	assert_int_equal(list(backend, SZ_SEALED).count, 2);
	assert_int_equal(list(backend, SZ_LIVE).count, 4);
}

static void test_what_was_there_may_go(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	OK(sz_backend_remove(backend, SZ_SEALED, "sealed"));
	assert_false(exists(backend, SZ_SEALED, "sealed"));
	assert_int_equal(list(backend, SZ_SEALED).count, 0);
	assert_int_equal(sz_backend_remove(backend, SZ_SEALED, "sealed"), -ENOENT);
	put(backend, SZ_SEALED, "sealed", "again");
	assert_true(holds(backend, SZ_SEALED, "sealed", "again"));
	assert_int_equal(list(backend, SZ_SEALED).bytes, 5);
	OK(sz_backend_remove(backend, SZ_SEALED, "sealed"));
	assert_int_equal(sz_backend_open(backend, SZ_SEALED, "sealed", &file), -ENOENT);
}

static void test_a_live_file_becomes_a_sealed_one(void **state)
{
	struct sz_backend *backend = backend_of(state);
	struct sz_file *file;

	OK(sz_backend_rename(backend, "live", "done"));
	assert_true(holds(backend, SZ_SEALED, "done", "begun before"));
	assert_false(exists(backend, SZ_LIVE, "live"));
	assert_int_equal(sz_backend_rename(backend, "live", "twice"), -ENOENT);
	assert_int_equal(sz_backend_create(backend, SZ_SEALED, "done", &file), -EEXIST);
	assert_int_equal(sz_backend_rename(backend, "other", "done"), -EEXIST);
	assert_int_equal(list(backend, SZ_SEALED).bytes, 9 + 12);
	assert_int_equal(list(backend, SZ_LIVE).count, 1);
	put(backend, SZ_LIVE, "live", "new");
	assert_true(holds(backend, SZ_LIVE, "live", "new"));
	OK(sz_backend_remove(backend, SZ_SEALED, "done"));
	assert_false(exists(backend, SZ_SEALED, "done"));
	assert_int_equal(sz_backend_remove(backend, SZ_SEALED, "done"), -ENOENT);
	put(backend, SZ_SEALED, "done", "another");
	assert_true(holds(backend, SZ_SEALED, "done", "another"));
}

/* A name that is asked for while the disk fails is not taken for free. */
static void test_errors_below_are_passed_on(void **state)
{
	struct fixture *fixture = *state;
	struct sz_file *file;

	fixture->plan = (struct sz_fault_plan){
		.mask = SZ_OP_OPEN | SZ_OP_LIST, .fail_at = 1, .fail_from = true, .error = -EIO
	};
	assert_int_equal(sz_backend_create(fixture->backend, SZ_SEALED, "new", &file), -EIO);
	assert_int_equal(sz_backend_open(fixture->backend, SZ_SEALED, "sealed", &file), -EIO);
	assert_int_equal(sz_backend_remove(fixture->backend, SZ_SEALED, "sealed"), -EIO);
	assert_int_equal(sz_backend_rename(fixture->backend, "live", "new"), -EIO);
	fixture->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
	assert_true(holds(fixture->backend, SZ_SEALED, "sealed", "of before"));
}

static void test_memory_is_bounded(void **state)
{
	struct sz_backend *backend = backend_of(state);
	CLEANUP_FREE char *bytes = calloc(1, LIMIT_BYTES);
	struct sz_file *file;
	struct sz_space space;

	assert_non_null(bytes);
	OK(sz_backend_create(backend, SZ_LIVE, "new", &file));
	OK(sz_file_write(file, bytes, LIMIT_BYTES / 2, 0));
	OK(sz_backend_space(backend, &space));
	assert_int_equal(space.total_bytes, LIMIT_BYTES);
	assert_int_equal(space.free_bytes, LIMIT_BYTES / 2);
	assert_int_equal(sz_file_write(file, bytes, LIMIT_BYTES, 4096), -ENOSPC);
	sz_file_close(file);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_what_was_there_is_seen),     CASE(test_its_names_are_taken),
		CASE(test_what_was_there_may_go),      CASE(test_a_live_file_becomes_a_sealed_one),
		CASE(test_errors_below_are_passed_on), CASE(test_memory_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
