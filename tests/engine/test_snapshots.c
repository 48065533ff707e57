/*
 * Snapshots: what they hold stays what it was; rolling back brings it back; what is destroyed leaves no
 * block behind. On devices in memory.
 */
#include "pools.h"

#include <errno.h>
#include <unistd.h>

static struct opened opened;

static void snapshot(const char *name)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_pool_snapshot(opened.pool, NULL, name, &error), &error);
}

static uint64_t make(const char *name)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644 };
	uint64_t object;

	NEED(sz_fs_create(opened.fs, sz_fs_root(opened.fs), name, &new, &object) == 0);
	return object;
}

static bool is_there(struct sz_fs *fs, const char *name)
{
	uint64_t object;
	int result = sz_fs_lookup(fs, sz_fs_root(fs), name, &object);

	NEED(result == 0 || result == -ENOENT);
	return result == 0;
}

struct names {
	char text[256];
	uint64_t used_bytes;
	unsigned int limit;
};

static int name_add(void *context, const struct sz_snapshot *found)
{
	struct names *names = context;

	if (names->limit-- == 0)
		return -ECANCELED;
	NEED(found->created_wall_s > 1700000000 && found->referenced_bytes > 0);
	(void)strcat(strcat(names->text, found->name), " ");
	names->used_bytes += found->used_bytes;
	return 0;
}

static void are_there(const char *expected)
{
	struct names names = { .limit = 99 };

	NEED(sz_pool_snapshot_each(opened.pool, NULL, name_add, &names) == 0);
	if (strcmp(names.text, expected) != 0)
		(void)fprintf(stderr, "there are: %s\n", names.text);
	NEED(strcmp(names.text, expected) == 0);
}

static void take(void)
{
	static const char *const wrong[] = { "", "a@b", "a/b", "a#b", "a%b", "\n" };
	struct names names = { .limit = 1 };
	struct sz_error error = { 0 };
	struct sz_fs *old;
	struct sz_fs *again;
	uint64_t object;

	pool_make(&opened, SZ_RAID_Z2);
	are_there("");
	(void)make("before");
	files_write(&opened);
	snapshot("zebra");
	(void)make("between");
	snapshot("2nd of them");
	NEED(sz_fs_unlink(opened.fs, sz_fs_root(opened.fs), "before") == 0);
	file_write(&opened, FILES);
	(void)make("after");
	snapshot("a");
	are_there("zebra 2nd of them a ");
	NEED(sz_pool_snapshot_each(opened.pool, NULL, name_add, &names) == -ECANCELED);
	NEED(sz_pool_snapshot_each(opened.pool, "absent", name_add, &names) == -ENOENT);
	NEED(sz_pool_snapshot(opened.pool, NULL, "a", &error) == -EEXIST);
	NEED(sz_pool_snapshot(opened.pool, "absent", "a", &error) == -ENOENT);
	for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
		NEED(sz_pool_snapshot(opened.pool, NULL, wrong[i], &error) == -EINVAL);
	/* Beside its dataset, and read-only. */
	NEED_OK(sz_fs_open_snapshot(opened.pool, NULL, "zebra", &old, &error), &error);
	NEED(is_there(old, "before") && !is_there(old, "between"));
	NEED(sz_fs_unlink(old, sz_fs_root(old), "before") == -EROFS);
	NEED(sz_fs_create(old, sz_fs_root(old), "x", &(struct sz_fs_new){ .mode = S_IFREG },
			  &object) == -EROFS);
	NEED(sz_fs_fsync(old, 0) == 0);
	NEED(sz_fs_open_snapshot(opened.pool, NULL, "zebra", &again, &error) == -EBUSY);
	NEED(sz_fs_open_snapshot(opened.pool, NULL, "absent", &again, &error) == -ENOENT);
	NEED(sz_pool_snapshot_destroy(opened.pool, NULL, "zebra", &error) == -EBUSY);
	sz_fs_close(old);
	NEED(!is_there(opened.fs, "before"));
	/* Not while it is open; nor over newer ones, unless that is wished. */
	NEED(sz_pool_rollback(opened.pool, NULL, "2nd of them", true, &error) == -EBUSY);
	sz_fs_close(opened.fs);
	NEED(sz_pool_rollback(opened.pool, NULL, "2nd of them", false, &error) == -EEXIST);
	NEED(strstr(error.text, "1 snapshots") != NULL);
	NEED(sz_pool_rollback(opened.pool, NULL, "absent", true, &error) == -ENOENT);
	are_there("zebra 2nd of them a ");
	NEED_OK(sz_pool_rollback(opened.pool, NULL, "2nd of them", true, &error), &error);
	are_there("zebra 2nd of them ");
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	NEED(is_there(opened.fs, "before") && is_there(opened.fs, "between"));
	NEED(!is_there(opened.fs, "after"));
	files_check(&opened);
	NEED(sz_pool_snapshot_destroy(opened.pool, NULL, "zebra", &error) == 0);
	NEED(sz_pool_snapshot_destroy(opened.pool, NULL, "zebra", &error) == -ENOENT);
	(void)make("later");
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
	/* What is synced by the log survives, after a rollback too. */
	_exit(0);
}

static void are_as_left(void)
{
	struct sz_error error = { 0 };

	pool_open(&opened, false);
	are_there("2nd of them ");
	NEED(is_there(opened.fs, "before") && is_there(opened.fs, "later"));
	files_check(&opened);
	sz_fs_close(opened.fs);
	/* The newest: nothing is destroyed, and what came after it is gone. */
	NEED_OK(sz_pool_rollback(opened.pool, NULL, "2nd of them", false, &error), &error);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	NEED(!is_there(opened.fs, "later"));
	pool_close(&opened);
}

static void read_only(void)
{
	struct sz_error error = { 0 };
	struct sz_fs *old;

	pool_open(&opened, true);
	are_there("2nd of them ");
	NEED_OK(sz_fs_open_snapshot(opened.pool, NULL, "2nd of them", &old, &error), &error);
	NEED(is_there(old, "between"));
	sz_fs_close(old);
	NEED(sz_pool_snapshot(opened.pool, NULL, "b", &error) == -EROFS);
	NEED(sz_pool_snapshot_destroy(opened.pool, NULL, "2nd of them", &error) == -EROFS);
	NEED(sz_pool_rollback(opened.pool, NULL, "2nd of them", true, &error) == -EROFS);
	pool_close(&opened);
}

static void destroy_all(void)
{
	struct sz_error error = { 0 };

	pool_open(&opened, false);
	NEED_OK(sz_pool_snapshot_destroy(opened.pool, NULL, "2nd of them", &error), &error);
	are_there("");
	pool_close(&opened);
}

static void zdb_finds_no_leak(void)
{
	char folder[] = "/tmp/szpool-test-snapshots.XXXXXX";
	char line[256];

	assert_non_null(mkdtemp(folder));
	scripted_write_out(devices, folder);
	(void)snprintf(line, sizeof(line),
		       "timeout 50 zdb -e -p %s -bcc szpool 2>&1 | grep -q 'No leaks'", folder);
	assert_int_equal(system(line), 0);
	(void)snprintf(line, sizeof(line), "rm -rf %s", folder);
	assert_int_equal(system(line), 0);
}

static void test_snapshots(void **state)
{
	(void)state;
	step(take);
	step(are_as_left);
	step(read_only);
	zdb_finds_no_leak();
	step(destroy_all);
	zdb_finds_no_leak();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_snapshots, devices_setup, devices_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
