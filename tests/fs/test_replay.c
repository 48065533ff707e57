/*
 * Records of the intent log that src/fs does not write itself, as a kernel's ZFS leaves them, and those
 * that it cannot replay: they are refused, and stay. On devices in memory.
 */
#include "engine/pools.h"

#include "fs/fs_internal.h"

#include <errno.h>

#define FOLDER_OBJECT 500U
#define FILE_OBJECT   501U

extern unsigned int zfs_txg_timeout;

static struct opened opened;
static uint64_t root;

static uint64_t make(const char *name)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644, .uid = 1, .gid = 2 };
	uint64_t object;

	NEED(sz_fs_create(opened.fs, root, name, &new, &object) == 0);
	return object;
}

/* With a log, and nothing in it. */
static void open_new(void)
{
	struct sz_error error = { 0 };

	pool_make(&opened, SZ_RAID_Z2);
	root = sz_fs_root(opened.fs);
	(void)make("first");
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
	sz_sleep_ms(200);
	zfs_txg_timeout = 1000;
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
}

static void assign(itx_t *itx)
{
	struct sz_fs *fs = opened.fs;
	dmu_tx_t *tx = dmu_tx_create(fs->os);

	NEED(dmu_tx_assign(tx, DMU_TX_WAIT) == 0);
	zil_itx_assign(fs->log, itx, tx);
	dmu_tx_commit(tx);
}

static void put_create(uint64_t type, uint64_t folder, uint64_t object, uint64_t mode,
		       const char *name)
{
	itx_t *itx = zil_itx_create(type, sizeof(lr_create_t) + strlen(name) + 1);
	lr_create_t *record = (lr_create_t *)&itx->itx_lr;

	record->lr_create.lr_doid = folder;
	record->lr_create.lr_foid = object;
	record->lr_create.lr_mode = mode;
	record->lr_create.lr_uid = 1;
	record->lr_create.lr_gid = 2;
	record->lr_create.lr_gen = 33;
	record->lr_create.lr_crtime[0] = 1111111111;
	record->lr_create.lr_crtime[1] = 7;
	record->lr_create.lr_rdev = 0;
	(void)memcpy(record->lr_data, name, strlen(name) + 1);
	assign(itx);
}

static void put_write(uint64_t object, const char *data)
{
	size_t length = strlen(data);
	itx_t *itx = zil_itx_create(TX_WRITE, sizeof(lr_write_t) + length);
	lr_write_t *record = (lr_write_t *)&itx->itx_lr;

	record->lr_foid = object;
	record->lr_offset = 0;
	record->lr_length = length;
	record->lr_blkoff = 0;
	BP_ZERO(&record->lr_blkptr);
	(void)memcpy(record->lr_data, data, length);
	itx->itx_wr_state = WR_COPIED;
	assign(itx);
}

/* What the kernel does with the property xattr=dir; inode flags and a project, by chattr. */
static void kernels_records_and_die(void)
{
	const struct flags_change flags = { .mask = ZFS_NODUMP | ZFS_ARCHIVE,
					    .value = ZFS_NODUMP,
					    .sets_project = true,
					    .project = 7 };
	const struct stat values = { 0 };
	struct inode *inode;
	dmu_tx_t *tx;
	uint64_t file;

	open_new();
	file = make("file");
	put_create(TX_MKXATTR, file, FOLDER_OBJECT, S_IFDIR | S_ISVTX | 0777, "");
	put_create(TX_CREATE, FOLDER_OBJECT, FILE_OBJECT, S_IFREG | 0644, "user.kernel");
	put_write(FILE_OBJECT, "a value");
	NEED(inode_get(opened.fs, file, &inode) == 0);
	tx = dmu_tx_create(opened.fs->os);
	NEED(dmu_tx_assign(tx, DMU_TX_WAIT) == 0);
	log_setattr(opened.fs, tx, inode, 0, &values, &flags);
	dmu_tx_commit(tx);
	/* In the log of something that is not there any more: no error. */
	put_write(4000, "nothing");
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
}

static void kernels_records_are_replayed(void)
{
	char value[32];
	struct inode *inode;
	uint64_t file;
	size_t size;

	pool_open(&opened, false);
	root = sz_fs_root(opened.fs);
	NEED(sz_fs_lookup(opened.fs, root, "file", &file) == 0);
	NEED(sz_fs_getxattr(opened.fs, file, "user.kernel", value, sizeof(value), &size) == 0);
	NEED(size == 7 && memcmp(value, "a value", 7) == 0);
	NEED(inode_get(opened.fs, file, &inode) == 0);
	NEED((inode_u64(opened.fs, inode, ZPL_FLAGS) & (ZFS_NODUMP | ZFS_ARCHIVE)) == ZFS_NODUMP);
	NEED(inode_u64(opened.fs, inode, ZPL_PROJID) == 7);
	NEED(inode_u64(opened.fs, inode, ZPL_XATTR) == FOLDER_OBJECT);
	inode_put(opened.fs, inode);
	NEED(inode_get(opened.fs, FILE_OBJECT, &inode) == 0);
	NEED((inode_u64(opened.fs, inode, ZPL_FLAGS) & ZFS_XATTR) != 0);
	NEED(inode_u64(opened.fs, inode, ZPL_GEN) == 33);
	inode_put(opened.fs, inode);
	NEED(sz_fs_unlink(opened.fs, root, "file") == 0);
	pool_close(&opened);
}

static uint64_t refused_type;
static int refused_code;

/* Behind one that could be replayed: that one is not either. */
static void refused_and_die(void)
{
	open_new();
	(void)make("before");
	put_create(refused_type, root, FILE_OBJECT, S_IFREG | 0644, "refused");
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
}

static void is_refused(void)
{
	struct sz_error error = { 0 };

	NEED_OK(pool_import(&opened, false, &error), &error);
	for (unsigned int i = 0; i < 2; i++) {
		NEED(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error) == refused_code);
		NEED(strstr(error.text, "intent log") != NULL);
	}
	NEED_OK(sz_pool_export(opened.pool, &error), &error);
}

static void test_records_of_a_kernel(void **state)
{
	(void)state;
	step(kernels_records_and_die);
	step(kernels_records_are_replayed);
}

static void refuse(uint64_t type, int code)
{
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		scripted_clear(&devices->devices[i]);
	refused_type = type;
	refused_code = code;
	step(refused_and_die);
	step(is_refused);
	step(is_refused);
}

static void test_refused(void **state)
{
	(void)state;
	refuse(TX_CREATE_ACL, -EOPNOTSUPP);
	refuse(TX_CREATE | TX_CI, -EOPNOTSUPP);
}

/* A name that is taken: what a log of another history would say. */
static void impossible_and_die(void)
{
	open_new();
	(void)make("before");
	put_create(TX_CREATE, root, FILE_OBJECT, S_IFREG | 0644, "first");
	(void)make("after");
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
}

static void test_impossible(void **state)
{
	(void)state;
	refused_code = -EEXIST;
	step(impossible_and_die);
	step(is_refused);
	step(is_refused);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_records_of_a_kernel),
		CASE(test_refused),
		CASE(test_impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
