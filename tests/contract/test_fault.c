/* The fault backend: what it counts, what it fails, and how. */
#include "contract.h"

#include <pthread.h>

struct fixture {
	struct sz_fault_plan plan;
	struct sz_backend *memory; /* inside of backend, which owns it */
	struct sz_backend *backend;
	unsigned int calls;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	OK(sz_memory_open("disk", &fixture->memory));
	OK(sz_fault_open(fixture->memory, &fixture->plan, &fixture->backend));
	assert_string_equal(fixture->backend->label, "disk");
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	sz_backend_close(fixture->backend);
	free(fixture);
	return 0;
}

/* Does each operation once, in the order of the table below; stops at the first error. */
static int do_all(struct sz_backend *backend)
{
	struct sz_file *file = NULL;
	struct listed listed = { 0 };
	char buffer[4];
	size_t done;
	int rc = sz_backend_create(backend, SZ_LIVE, "a", &file);

	if (rc == 0)
		rc = sz_file_write(file, "x", 1, 0);
	if (rc == 0)
		rc = sz_file_sync(file);
	if (rc == 0)
		rc = sz_file_read(file, buffer, 1, 0, &done);
	sz_file_close(file);
	file = NULL;
	if (rc == 0)
		rc = sz_backend_rename(backend, "a", "b");
	if (rc == 0)
		rc = sz_backend_sync_folder(backend, SZ_SEALED);
	if (rc == 0)
		rc = sz_backend_list(backend, SZ_SEALED, list_one, &listed);
	if (rc == 0)
		rc = sz_backend_open(backend, SZ_SEALED, "b", &file);
	sz_file_close(file);
	if (rc == 0)
		rc = sz_backend_remove(backend, SZ_SEALED, "b");
	return rc;
}

static const enum sz_operation order[] = {
	SZ_OP_CREATE,      SZ_OP_WRITE, SZ_OP_SYNC, SZ_OP_READ,   SZ_OP_RENAME,
	SZ_OP_SYNC_FOLDER, SZ_OP_LIST,  SZ_OP_OPEN, SZ_OP_REMOVE,
};

static void test_only_operations_of_the_mask_are_counted(void **state)
{
	struct fixture *fixture = *state;

	OK(do_all(fixture->backend));
	assert_int_equal(fixture->plan.count, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(order); i++) {
		fixture->plan.mask = order[i];
		fixture->plan.count = 0;
		OK(do_all(fixture->backend));
		assert_int_equal(fixture->plan.count, 1);
	}
	fixture->plan.mask = SZ_OP_CHANGES;
	fixture->plan.count = 0;
	OK(do_all(fixture->backend));
	assert_int_equal(fixture->plan.count, 6);
}

static void test_the_chosen_operation_fails_and_is_not_done(void **state)
{
	struct fixture *fixture = *state;

	for (uint64_t k = 1; k <= ARRAY_LENGTH(order); k++) {
		struct sz_fault_plan *plan = &fixture->plan;
		bool was_created = k > 1;
		bool was_renamed = k > 5;

		*plan = (struct sz_fault_plan){ .mask = ~0U, .fail_at = k, .error = -EIO };
		assert_int_equal(do_all(fixture->backend), -EIO);
		assert_int_equal(plan->count, k);
		plan->mask = 0;
		assert_int_equal(exists(fixture->memory, SZ_LIVE, "a"),
				 was_created && !was_renamed);
		assert_int_equal(exists(fixture->memory, SZ_SEALED, "b"), was_renamed);
		if (k == 2)
			assert_true(holds(fixture->memory, SZ_LIVE, "a", ""));
		if (was_renamed)
			OK(sz_backend_remove(fixture->backend, SZ_SEALED, "b"));
		else if (was_created)
			OK(sz_backend_remove(fixture->backend, SZ_LIVE, "a"));
	}
}

static void test_a_failed_sync_makes_nothing_durable(void **state)
{
	struct fixture *fixture = *state;
	struct sz_file *file = file_with(fixture->backend, SZ_LIVE, "a", "x");
	struct sz_backend *after;

	fixture->plan = (struct sz_fault_plan){ .mask = SZ_OP_SYNC, .fail_at = 1, .error = -EIO };
	assert_int_equal(sz_file_sync(file), -EIO);
	sz_file_close(file);
	OK(sz_backend_sync_folder(fixture->backend, SZ_LIVE));
	OK(sz_memory_crash(fixture->memory, SZ_CRASH_DROP, 0, &after));
	assert_true(holds(after, SZ_LIVE, "a", ""));
	sz_backend_close(after);
}

static void test_one_failure_or_all_from_there_on(void **state)
{
	struct fixture *fixture = *state;
	struct sz_file *file = file_with(fixture->backend, SZ_LIVE, "a", "");

	fixture->plan =
		(struct sz_fault_plan){ .mask = SZ_OP_WRITE, .fail_at = 2, .error = -ENOSPC };
	OK(sz_file_write(file, "1", 1, 0));
	assert_int_equal(sz_file_write(file, "2", 1, 1), -ENOSPC);
	OK(sz_file_write(file, "3", 1, 2));
	fixture->plan.fail_from = true;
	fixture->plan.count = 0;
	OK(sz_file_write(file, "4", 1, 3));
	assert_int_equal(sz_file_write(file, "5", 1, 4), -ENOSPC);
	assert_int_equal(sz_file_write(file, "6", 1, 5), -ENOSPC);
	OK(sz_file_sync(file)); /* not in the mask */
	sz_file_close(file);
}

static void test_a_torn_write_leaves_whole_units_of_its_beginning(void **state)
{
	enum {
		LENGTH = 8 * 512 + 100
	};
	struct fixture *fixture = *state;
	uint8_t bytes[LENGTH + 1];
	unsigned int seen = 0;
	struct sz_file *file;

	for (uint64_t k = 1; k <= 200; k++) {
		ssize_t length;

		fixture->plan.mask = 0;
		OK(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file));
		fixture->plan = (struct sz_fault_plan){ .count = k - 1,
							.mask = SZ_OP_WRITE,
							.fail_at = k,
							.error = -EIO,
							.tear = true };
		memset(bytes, 0x55, sizeof(bytes));
		assert_int_equal(sz_file_write(file, bytes, LENGTH, 0), -EIO);
		sz_file_close(file);
		length = get(fixture->memory, SZ_LIVE, "a", bytes, sizeof(bytes));
		assert_true(length >= 0 && length < LENGTH && length % 512 == 0);
		for (ssize_t i = 0; i < length; i++)
			assert_int_equal(bytes[i], 0x55);
		seen |= 1U << (length / 512);
		OK(sz_backend_remove(fixture->backend, SZ_LIVE, "a"));
	}
	assert_int_equal(seen, 0x1ff); /* 0 to 8 units, never all */
}

static void call(void *context)
{
	struct fixture *fixture = context;

	fixture->calls++;
	/* Before the operation: the file that is being created is not there. */
	assert_false(exists(fixture->memory, SZ_LIVE, "a"));
}

static void test_a_test_can_be_called_instead(void **state)
{
	struct fixture *fixture = *state;

	fixture->plan = (struct sz_fault_plan){
		.mask = SZ_OP_CREATE, .fail_at = 1, .at = call, .at_context = fixture
	};
	put(fixture->backend, SZ_LIVE, "a", "x");
	assert_int_equal(fixture->calls, 1);
	assert_true(holds(fixture->memory, SZ_LIVE, "a", "x"));
	put(fixture->backend, SZ_LIVE, "b", "x");
	assert_int_equal(fixture->calls, 1);
}

static void test_backends_share_a_plan(void **state)
{
	struct fixture *fixture = *state;
	struct sz_backend *memory;
	struct sz_backend *second;
	struct sz_file *file;

	OK(sz_memory_open("second", &memory));
	OK(sz_fault_open(memory, &fixture->plan, &second));
	fixture->plan =
		(struct sz_fault_plan){ .mask = SZ_OP_CREATE, .fail_at = 2, .error = -EACCES };
	put(fixture->backend, SZ_LIVE, "a", "");
	assert_int_equal(sz_backend_create(second, SZ_LIVE, "a", &file), -EACCES);
	sz_backend_close(second);
}

enum {
	THREADS = 4,
	WRITES = 2000
};

struct worker {
	struct sz_file *file;
	unsigned int failed;
};

static void *work(void *context)
{
	struct worker *worker = context;

	for (uint64_t i = 0; i < WRITES; i++)
		worker->failed += sz_file_write(worker->file, "x", 1, i) != 0;
	return NULL;
}

static void test_exactly_one_operation_fails_among_threads(void **state)
{
	struct fixture *fixture = *state;
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	unsigned int failed = 0;

	for (unsigned int i = 0; i < THREADS; i++) {
		char name[] = { (char)('a' + i), '\0' };

		workers[i] = (struct worker){ 0 };
		OK(sz_backend_create(fixture->backend, SZ_LIVE, name, &workers[i].file));
	}
	fixture->plan = (struct sz_fault_plan){ .mask = SZ_OP_WRITE,
						.fail_at = THREADS * WRITES / 2,
						.error = -EIO };
	for (unsigned int i = 0; i < THREADS; i++)
		OK(pthread_create(&threads[i], NULL, work, &workers[i]));
	for (unsigned int i = 0; i < THREADS; i++) {
		OK(pthread_join(threads[i], NULL));
		failed += workers[i].failed;
		sz_file_close(workers[i].file);
	}
	assert_int_equal(failed, 1);
	assert_int_equal(fixture->plan.count, THREADS * WRITES);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_only_operations_of_the_mask_are_counted),
		CASE(test_the_chosen_operation_fails_and_is_not_done),
		CASE(test_a_failed_sync_makes_nothing_durable),
		CASE(test_one_failure_or_all_from_there_on),
		CASE(test_a_torn_write_leaves_whole_units_of_its_beginning),
		CASE(test_a_test_can_be_called_instead),
		CASE(test_backends_share_a_plan),
		CASE(test_exactly_one_operation_fails_among_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
