/* See pools.h. */
#include "pools.h"

struct sz_store *devices;

int devices_setup(void **state)
{
	(void)state;
	devices = scripted_make();
	return 0;
}

int devices_teardown(void **state)
{
	(void)state;
	scripted_free(devices);
	return 0;
}

void pool_make(struct opened *opened, enum sz_raid raid)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_create(devices, raid, NULL, 0, &opened->pool, &error), &error);
	NEED_OK(sz_fs_format(opened->pool, NULL, 0, 0, &error), &error);
	NEED_OK(sz_fs_open(opened->pool, NULL, false, &opened->fs, &error), &error);
}

int pool_import(struct opened *opened, bool read_only, struct sz_error *error)
{
	NEED_OK(sz_engine_start(0, error), error);
	return sz_pool_import(devices, read_only, &opened->pool, error);
}

void pool_open(struct opened *opened, bool read_only)
{
	struct sz_error error = { 0 };

	NEED_OK(pool_import(opened, read_only, &error), &error);
	NEED_OK(sz_fs_open(opened->pool, NULL, read_only, &opened->fs, &error), &error);
}

void make_filled(void)
{
	struct opened opened = { 0 };

	pool_make(&opened, SZ_RAID_Z2);
	files_write(&opened);
	pool_close(&opened);
}

void zdb_check(const char *arguments, const char *words)
{
	char folder[] = "/tmp/szpool-test-zdb.XXXXXX";
	char line[768];

	assert_non_null(mkdtemp(folder));
	scripted_write_out(devices, folder);
	(void)snprintf(line, sizeof(line),
		       "timeout 50 zdb -e -p %s %s >%s.out 2>&1; for word in %s; do "
		       "grep -q \"$word\" %s.out || { echo \"no $word\"; exit 1; }; done",
		       folder, arguments, folder, words, folder);
	assert_int_equal(system(line), 0);
	(void)snprintf(line, sizeof(line), "rm -rf %s %s.out", folder, folder);
	assert_int_equal(system(line), 0);
}
