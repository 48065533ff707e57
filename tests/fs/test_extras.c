/*
 * What POSIX over FUSE needs besides: ranges that are allocated, zeroed, cloned; flags; quotas; times of
 * reading; large folders. On devices in memory.
 */
#include "engine/pools.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/xattr.h>

#define MIB     ((uint64_t)1 << 20)
#define ENTRIES 200000U
#define RECORD  (512 << 10)
#define CONTENT (5 * MIB + 1234)

extern unsigned int zfs_txg_timeout;
extern uint64_t zfs_dirty_data_max;

static struct opened opened;
static uint64_t root;
static uint8_t content[CONTENT];
static uint8_t read_back[CONTENT];

static void open_new(void)
{
	pool_make(&opened, SZ_RAID_Z2);
	root = sz_fs_root(opened.fs);
	random_fill(content, sizeof(content), 4);
}

static void reopen(void)
{
	struct sz_error error = { 0 };

	sz_fs_close(opened.fs);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
}

static void sync_pool(void)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
}

static uint64_t make(uint64_t parent, const char *name, uint32_t mode)
{
	const struct sz_fs_new new = { .mode = mode, .uid = 1, .gid = 2 };
	uint64_t object;

	if ((mode & S_IFMT) == S_IFDIR)
		NEED(sz_fs_mkdir(opened.fs, parent, name, &new, &object) == 0);
	else
		NEED(sz_fs_create(opened.fs, parent, name, &new, &object) == 0);
	return object;
}

static struct stat stat_of(uint64_t object)
{
	struct stat stat;

	NEED(sz_fs_getattr(opened.fs, object, &stat) == 0);
	return stat;
}

static bool is_zero(uint64_t file, uint64_t offset, size_t length)
{
	size_t done;

	NEED(sz_fs_read(opened.fs, file, read_back, length, offset, &done) == 0 && done == length);
	for (size_t i = 0; i < length; i++)
		if (read_back[i] != 0)
			return false;
	return true;
}

static bool has(uint64_t file, const uint8_t *data, uint64_t offset, size_t length)
{
	size_t done;

	NEED(sz_fs_read(opened.fs, file, read_back, length, offset, &done) == 0 && done == length);
	return memcmp(read_back, data, length) == 0;
}

static void ranges(void)
{
	struct timespec created;
	uint64_t file;

	open_new();
	file = make(root, "file", S_IFREG | 0600);
	NEED(sz_fs_created(opened.fs, file, &created) == 0);
	NEED(created.tv_sec == stat_of(file).st_ctim.tv_sec && created.tv_nsec != 0);
	NEED(sz_fs_allocate(opened.fs, file, 0, 5000, true) == 0 && stat_of(file).st_size == 0);
	NEED(sz_fs_allocate(opened.fs, file, 1000, 4000, false) == 0);
	NEED(stat_of(file).st_size == 5000 && is_zero(file, 0, 5000));
	NEED(sz_fs_allocate(opened.fs, file, 0, 100, false) == 0 && stat_of(file).st_size == 5000);
	NEED(sz_fs_allocate(opened.fs, file, 0, INT64_MAX, false) == -ENOSPC);
	NEED(sz_fs_allocate(opened.fs, file, INT64_MAX, 2, false) == -EFBIG);
	NEED(sz_fs_allocate(opened.fs, root, 0, 1, false) == -EINVAL);
	NEED(sz_fs_write(opened.fs, file, content, 3 * MIB, 0) == 0);
	NEED(sz_fs_zero(opened.fs, file, 100, 2 * MIB, true) == 0 && is_zero(file, 100, 2 * MIB));
	NEED(has(file, content + 100 + 2 * MIB, 100 + 2 * MIB, MIB - 100));
	NEED(sz_fs_zero(opened.fs, file, 3 * MIB - 10, 100, true) == 0);
	NEED(stat_of(file).st_size == 3 * MIB && is_zero(file, 3 * MIB - 10, 10));
	NEED(sz_fs_zero(opened.fs, file, 3 * MIB - 20, 100, false) == 0);
	NEED(stat_of(file).st_size == 3 * MIB + 80 && is_zero(file, 3 * MIB - 20, 100));
	NEED(sz_fs_zero(opened.fs, file, 4 * MIB, 100, false) == 0);
	NEED(stat_of(file).st_size == 4 * MIB + 100);
	/* By the kernel's rules a file's block is as large as the file, until it has two. */
	file = make(root, "block", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, file, content, 100, 0) == 0);
	NEED(stat_of(file).st_blksize == 512);
	NEED(sz_fs_write(opened.fs, file, content, 1000, 5000) == 0);
	NEED(stat_of(file).st_blksize == 6144);
	NEED(sz_fs_allocate(opened.fs, file, 0, 100000, false) == 0);
	NEED(stat_of(file).st_blksize == 100352);
	NEED(sz_fs_write(opened.fs, file, content, 10, 9 * MIB) == 0);
	NEED(stat_of(file).st_blksize == RECORD);
	pool_close(&opened);
}

static uint64_t used_bytes(void)
{
	struct sz_pool_space space;

	sync_pool();
	NEED(sz_pool_space(opened.pool, &space) == 0);
	return space.raw_allocated_bytes;
}

static void clone_to(uint64_t from, uint64_t offset, uint64_t to, uint64_t to_offset,
		     uint64_t length, uint64_t expected)
{
	uint64_t all = 0;

	for (;;) {
		uint64_t copied;

		NEED(sz_fs_copy_range(opened.fs, from, offset + all, to, to_offset + all,
				      length - all, &copied) == 0);
		all += copied;
		if (copied == 0 || all == length)
			break;
	}
	NEED(all == expected);
}

static void clones(void)
{
	uint64_t from;
	uint64_t to;
	uint64_t used;
	uint64_t copied;

	open_new();
	from = make(root, "from", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, from, content, CONTENT, 0) == 0);
	/* Not on disk yet: through memory. */
	to = make(root, "early", S_IFREG | 0600);
	clone_to(from, 0, to, 0, UINT32_MAX, CONTENT);
	NEED(has(to, content, 0, CONTENT));
	used = used_bytes();
	to = make(root, "whole", S_IFREG | 0600);
	clone_to(from, 0, to, 0, CONTENT, CONTENT);
	NEED(has(to, content, 0, CONTENT) && stat_of(to).st_size == CONTENT);
	NEED(used_bytes() < used + MIB);
	/* A change of one is none of the other. */
	NEED(sz_fs_write(opened.fs, to, "changed", 7, 10) == 0);
	NEED(has(from, content, 0, CONTENT) && has(to, (const uint8_t *)"changed", 10, 7));
	/* Odd ranges, beyond the end, into the middle, within one file. */
	to = make(root, "odd", S_IFREG | 0600);
	clone_to(from, 1000, to, 1000, 3 * MIB, 3 * MIB);
	NEED(has(to, content + 1000, 1000, 3 * MIB) && is_zero(to, 0, 1000));
	clone_to(from, 7, to, 500, 2 * MIB, 2 * MIB);
	NEED(has(to, content + 7, 500, 2 * MIB));
	clone_to(from, 4 * MIB, to, 8 * MIB, 10 * MIB, CONTENT - 4 * MIB);
	NEED(has(to, content + 4 * MIB, 8 * MIB, CONTENT - 4 * MIB));
	sync_pool();
	clone_to(to, 8 * MIB, to, 20 * MIB, MIB, MIB);
	NEED(has(to, content + 4 * MIB, 20 * MIB, MIB));
	clone_to(from, CONTENT, to, 0, 10, 0);
	NEED(sz_fs_copy_range(opened.fs, to, 0, to, 100, 200, &copied) == -EINVAL);
	NEED(sz_fs_copy_range(opened.fs, root, 0, to, 0, 1, &copied) == -EISDIR);
	/* Small files, whose single block is their own size. */
	from = make(root, "small", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, from, content, 3000, 0) == 0);
	sync_pool();
	to = make(root, "small too", S_IFREG | 0600);
	clone_to(from, 0, to, 0, 3000, 3000);
	NEED(has(to, content, 0, 3000) && stat_of(to).st_blksize == 3072);
	clone_to(from, 0, to, 3000, 3000, 3000);
	NEED(has(to, content, 3000, 3000));
	pool_close(&opened);
}

/* Clones are logged, too. */
static void clone_and_die(void)
{
	uint64_t from;
	uint64_t to;

	open_new();
	from = make(root, "from", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, from, content, CONTENT, 0) == 0);
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
	sz_sleep_ms(200);
	zfs_txg_timeout = 1000;
	sync_pool();
	to = make(root, "to", S_IFREG | 0600);
	clone_to(from, 0, to, 0, CONTENT, CONTENT);
	NEED(sz_fs_write(opened.fs, to, "later", 5, 2 * MIB) == 0);
	NEED(sz_fs_setflags(opened.fs, from, SZ_FLAG_IMMUTABLE, 5) == 0);
	NEED(sz_fs_fsync(opened.fs, to) == 0 && sz_fs_fsync(opened.fs, from) == 0);
}

static void clone_is_there(void)
{
	uint32_t flags;
	uint32_t project;
	uint64_t to;
	uint64_t from;

	pool_open(&opened, false);
	root = sz_fs_root(opened.fs);
	random_fill(content, sizeof(content), 4);
	NEED(sz_fs_lookup(opened.fs, root, "to", &to) == 0);
	NEED(has(to, content, 0, 2 * MIB) && has(to, (const uint8_t *)"later", 2 * MIB, 5));
	NEED(has(to, content + 2 * MIB + 5, 2 * MIB + 5, CONTENT - 2 * MIB - 5));
	NEED(sz_fs_lookup(opened.fs, root, "from", &from) == 0 && has(from, content, 0, CONTENT));
	NEED(sz_fs_getflags(opened.fs, from, &flags, &project) == 0);
	NEED(flags == SZ_FLAG_IMMUTABLE && project == 5);
	pool_close(&opened);
}

static void flags(void)
{
	const struct stat values = { .st_mode = 0777, .st_size = 1 };
	const struct sz_fs_new new = { .mode = S_IFREG | 0600 };
	uint64_t folder;
	uint64_t file;
	uint64_t fifo;
	uint64_t copied;
	uint64_t object;
	uint32_t got;
	uint32_t project;

	open_new();
	folder = make(root, "folder", S_IFDIR | 0700);
	file = make(folder, "file", S_IFREG | 0600);
	fifo = make(root, "fifo", S_IFIFO | 0600);
	NEED(sz_fs_write(opened.fs, file, content, 100, 0) == 0);
	NEED(sz_fs_getflags(opened.fs, file, &got, &project) == 0 && got == 0 && project == 0);
	NEED(sz_fs_setflags(opened.fs, file, 1, 0) == -EOPNOTSUPP);
	NEED(sz_fs_setflags(opened.fs, fifo, 0, 7) == -EOPNOTSUPP);
	NEED(sz_fs_setflags(opened.fs, fifo, SZ_FLAG_NODUMP, 0) == 0);
	NEED(sz_fs_setflags(opened.fs, file, SZ_FLAG_IMMUTABLE | SZ_FLAG_NODUMP, 0) == 0);
	NEED(sz_fs_write(opened.fs, file, content, 10, 100) == -EPERM);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_MODE, &values) == -EPERM);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &values) == -EPERM);
	NEED(sz_fs_punch(opened.fs, file, 0, 10) == -EPERM);
	NEED(sz_fs_allocate(opened.fs, file, 0, 1000, false) == -EPERM);
	NEED(sz_fs_copy_range(opened.fs, file, 0, file, 50, 10, &copied) == -EPERM);
	NEED(sz_fs_setxattr(opened.fs, file, "user.x", "x", 1, 0) == -EPERM);
	NEED(sz_fs_unlink(opened.fs, folder, "file") == -EPERM);
	NEED(sz_fs_rename(opened.fs, folder, "file", root, "f", 0) == -EPERM);
	NEED(sz_fs_link(opened.fs, file, root, "f") == -EPERM);
	NEED(sz_fs_setflags(opened.fs, file, SZ_FLAG_IMMUTABLE, 3) == -EPERM);
	NEED(sz_fs_setflags(opened.fs, file, SZ_FLAG_APPEND, 3) == 0);
	NEED(sz_fs_write(opened.fs, file, content, 10, 100) == 0);
	NEED(sz_fs_write(opened.fs, file, content, 10, 109) == -EPERM);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &values) == -EPERM);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_MTIME, &values) == -EPERM);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_MTIME | SZ_SET_CTIME, &values) == 0);
	NEED(sz_fs_setflags(opened.fs, file, 0, 3) == 0);
	/* Folders: append allows new entries. */
	NEED(sz_fs_setflags(opened.fs, folder, SZ_FLAG_APPEND, 0) == 0);
	NEED(sz_fs_create(opened.fs, folder, "new", &new, &object) == 0);
	NEED(sz_fs_unlink(opened.fs, folder, "new") == -EPERM);
	NEED(sz_fs_rename(opened.fs, root, "fifo", folder, "moved", 0) == 0);
	NEED(sz_fs_rename(opened.fs, folder, "moved", root, "fifo", 0) == -EPERM);
	NEED(sz_fs_setflags(opened.fs, folder, SZ_FLAG_IMMUTABLE, 0) == 0);
	NEED(sz_fs_create(opened.fs, folder, "newer", &new, &object) == -EPERM);
	NEED(sz_fs_link(opened.fs, file, folder, "newer") == -EPERM);
	NEED(sz_fs_setflags(opened.fs, folder, SZ_FLAG_PROJECT_INHERIT, 9) == 0);
	NEED(sz_fs_create(opened.fs, folder, "newest", &new, &object) == 0);
	reopen();
	NEED(sz_fs_getflags(opened.fs, object, &got, &project) == 0);
	NEED(got == SZ_FLAG_PROJECT_INHERIT && project == 9);
	NEED(sz_fs_getflags(opened.fs, file, &got, &project) == 0 && got == 0 && project == 3);
	pool_close(&opened);
}

/* Pages of a file that can only be appended to are written back in any order. */
static void appended(void)
{
	uint8_t changed[8192];
	uint64_t file;

	open_new();
	for (size_t i = 0; i < CONTENT; i++)
		content[i] |= 1; /* zeros are no content here */
	file = make(root, "log", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, file, content, 100, 0) == 0);
	NEED(sz_fs_setflags(opened.fs, file, SZ_FLAG_APPEND, 0) == 0);
	NEED(sz_fs_write_back(opened.fs, file, content + 2 * MIB, MIB, 2 * MIB) == 0);
	NEED(sz_fs_write_back(opened.fs, file, content, MIB, 0) == 0);
	NEED(has(file, content, 0, MIB) && is_zero(file, MIB, MIB));
	NEED(sz_fs_write_back(opened.fs, file, content + MIB, MIB, MIB) == 0);
	NEED(has(file, content, 0, 3 * MIB) && stat_of(file).st_size == 3 * MIB);
	/* A page in which something else was changed too. */
	memcpy(changed, content + 3 * MIB - 4096, sizeof(changed));
	changed[17] = (uint8_t)~changed[17];
	NEED(sz_fs_write_back(opened.fs, file, changed, sizeof(changed), 3 * MIB - 4096) == -EPERM);
	NEED(has(file, content, 0, 3 * MIB + 4096));
	memset(changed, 0, sizeof(changed));
	NEED(sz_fs_write_back(opened.fs, file, changed, 4096, 0) == -EPERM);
	NEED(has(file, content, 0, 3 * MIB + 4096));
	NEED(sz_fs_write(opened.fs, file, content, 4096, 0) == -EPERM);
	NEED(sz_fs_setflags(opened.fs, file, SZ_FLAG_IMMUTABLE | SZ_FLAG_APPEND, 0) == 0);
	NEED(sz_fs_write_back(opened.fs, file, content, 4096, 0) == -EPERM);
	NEED(sz_fs_write_back(opened.fs, file, content, 4096, 4 * MIB) == -EPERM);
	NEED(stat_of(file).st_size == 3 * MIB + 4096);
	pool_close(&opened);
}

/* Who lets go of a large file does not wait until it is freed. */
static void large_released(void)
{
	uint64_t dirty_max;
	uint64_t file;
	uint64_t other;
	uint64_t waiting = 1;
	struct stat stat;

	open_new();
	file = make(root, "large", S_IFREG | 0600);
	other = make(root, "other", S_IFREG | 0600);
	for (uint64_t i = 0; i < 8; i++)
		NEED(sz_fs_write(opened.fs, file, content, 4096, i << 30) == 0);
	NEED(sz_fs_hold(opened.fs, file) == 0 && sz_fs_unlink(opened.fs, root, "large") == 0);
	sync_pool();
	NEED(sz_fs_write(opened.fs, other, content, 4096, 0) == 0);
	dirty_max = zfs_dirty_data_max;
	zfs_dirty_data_max = 0; /* no transaction can begin */
	sz_fs_release(opened.fs, file, 1);
	zfs_dirty_data_max = dirty_max;
	/* What is written has the freer go on. */
	for (int i = 0; i < 100 && waiting > 0; i++) {
		NEED(sz_fs_write(opened.fs, other, content, 4096, 0) == 0);
		sync_pool();
		sz_sleep_ms(10);
		NEED(zap_count(opened.fs->os, opened.fs->unlinked_set, &waiting) == 0);
	}
	NEED(waiting == 0 && sz_fs_getattr(opened.fs, file, &stat) == -ENOENT);
	reopen();
	NEED(sz_fs_getattr(opened.fs, file, &stat) == -ENOENT);
	NEED(sz_fs_lookup(opened.fs, root, "other", &other) == 0);
	pool_close(&opened);
}

/* As `zfs set userquota@1=…` does it. */
static void quota_set(zfs_userquota_prop_t kind, const char *id, uint64_t limit)
{
	objset_t *os = opened.fs->os;
	dmu_tx_t *tx = dmu_tx_create(os);
	uint64_t table = opened.fs->quotas[kind];

	dmu_tx_hold_zap(tx, table == 0 ? DMU_NEW_OBJECT : table, B_TRUE, NULL);
	dmu_tx_hold_zap(tx, MASTER_NODE_OBJ, B_TRUE, NULL);
	NEED(dmu_tx_assign(tx, DMU_TX_WAIT) == 0);
	if (table == 0) {
		table = zap_create(os, DMU_OT_USERGROUP_QUOTA, DMU_OT_NONE, 0, tx);
		NEED(zap_add(os, MASTER_NODE_OBJ, zfs_userquota_prop_prefixes[kind], 8, 1, &table,
			     tx) == 0);
	}
	NEED(zap_update(os, table, id, 8, 1, &limit, tx) == 0);
	dmu_tx_commit(tx);
	reopen();
}

static uint64_t make_as(const char *name, uint32_t uid, uint32_t gid, int expected)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0600, .uid = uid, .gid = gid };
	uint64_t object = 0;

	NEED(sz_fs_create(opened.fs, root, name, &new, &object) == expected);
	return object;
}

static void quotas(void)
{
	const struct stat owner = { .st_uid = 1, .st_gid = 2 };
	uint64_t file;
	uint64_t other;

	open_new();
	file = make(root, "file", S_IFREG | 0600);
	NEED(sz_fs_write(opened.fs, file, content, 2 * MIB, 0) == 0);
	sync_pool();
	quota_set(ZFS_PROP_USERQUOTA, "1", 100 * MIB);
	NEED(sz_fs_write(opened.fs, file, content, 100, 0) == 0);
	quota_set(ZFS_PROP_USERQUOTA, "1", MIB);
	NEED(sz_fs_write(opened.fs, file, content, 100, 0) == -EDQUOT);
	(void)make_as("new", 1, 5, -EDQUOT);
	other = make_as("other", 4, 5, 0);
	NEED(sz_fs_write(opened.fs, other, content, 2 * MIB, 0) == 0);
	NEED(sz_fs_setattr(opened.fs, other, SZ_SET_UID, &owner) == -EDQUOT);
	NEED(sz_fs_setattr(opened.fs, other, SZ_SET_GID, &owner) == 0);
	sync_pool();
	/* Of the group by now: both. */
	quota_set(ZFS_PROP_GROUPOBJQUOTA, "2", 2);
	(void)make_as("new", 4, 2, -EDQUOT);
	NEED(sz_fs_write(opened.fs, other, content, 100, 0) == 0);
	quota_set(ZFS_PROP_GROUPOBJQUOTA, "2", 3);
	(void)make_as("new", 4, 2, 0);
	NEED(sz_fs_setflags(opened.fs, other, 0, 9) == 0);
	sync_pool();
	quota_set(ZFS_PROP_PROJECTQUOTA, "9", MIB);
	NEED(sz_fs_write(opened.fs, other, content, 100, 0) == -EDQUOT);
	/* To remove something is no question. */
	NEED(sz_fs_punch(opened.fs, other, 0, 2 * MIB) == 0);
	NEED(sz_fs_unlink(opened.fs, root, "file") == 0);
	sync_pool();
	NEED(sz_fs_write(opened.fs, other, content, 100, 0) == 0);
	(void)make_as("newer", 1, 5, 0);
	pool_close(&opened);
}

static void atimes(void)
{
	const struct sz_property on[] = { { "atime", "on" }, { "relatime", "on" } };
	const struct stat old = { .st_atim = { 1000, 0 } };
	struct sz_error error = { 0 };
	uint64_t file;
	size_t done;

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_create(devices, SZ_RAID_Z2, on, 2, &opened.pool, &error), &error);
	NEED_OK(sz_fs_format(opened.pool, NULL, 0, 0, &error), &error);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	root = sz_fs_root(opened.fs);
	file = make(root, "file", S_IFREG | 0600);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_ATIME, &old) == 0);
	NEED(stat_of(file).st_atim.tv_sec == 1000);
	NEED(sz_fs_read(opened.fs, file, read_back, 10, 0, &done) == 0);
	NEED(stat_of(file).st_atim.tv_sec > 1000);
	pool_close(&opened);
}

static void atimes_are_off(void)
{
	const struct stat old = { .st_atim = { 1000, 0 } };
	uint64_t file;
	size_t done;

	open_new();
	file = make(root, "file", S_IFREG | 0600);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_ATIME, &old) == 0);
	NEED(sz_fs_read(opened.fs, file, read_back, 10, 0, &done) == 0);
	NEED(stat_of(file).st_atim.tv_sec == 1000);
	pool_close(&opened);
}

struct listing {
	uint8_t *seen; /* how often, by number */
	uint64_t cookie;
	unsigned int left;
};

static int entry_see(void *context, const char *name, uint64_t number, uint32_t type,
		     uint64_t next_cookie)
{
	struct listing *listing = context;

	(void)number;
	(void)type;
	if (listing->left == 0)
		return -ECANCELED;
	listing->left--;
	listing->cookie = next_cookie;
	if (name[0] == 'e')
		listing->seen[strtoul(name + 1, NULL, 10)]++;
	return 0;
}

/* Read piece by piece while others come and go: what stays is seen once. */
static void large_folder(void)
{
	struct listing listing = { .seen = calloc(2 * ENTRIES, 1) };
	uint64_t folder;
	uint64_t file;
	char name[16];
	unsigned int pieces = 0;
	int result = -ECANCELED;

	open_new();
	folder = make(root, "folder", S_IFDIR | 0700);
	file = make(folder, "e0", S_IFREG | 0600);
	for (unsigned int i = 1; i < ENTRIES; i++) {
		(void)snprintf(name, sizeof(name), "e%u", i);
		NEED(sz_fs_link(opened.fs, file, folder, name) == 0);
	}
	NEED(stat_of(file).st_nlink == ENTRIES && stat_of(folder).st_size == ENTRIES + 2);
	while (result == -ECANCELED) {
		listing.left = 1000;
		result = sz_fs_readdir(opened.fs, folder, listing.cookie, entry_see, &listing);
		(void)snprintf(name, sizeof(name), "e%u", 3 + 1000 * pieces);
		if (3 + 1000 * pieces < ENTRIES)
			NEED(sz_fs_unlink(opened.fs, folder, name) == 0);
		(void)snprintf(name, sizeof(name), "e%u", ENTRIES + pieces++);
		NEED(sz_fs_link(opened.fs, file, folder, name) == 0);
	}
	NEED(result == 0 && pieces >= ENTRIES / 1100);
	for (unsigned int i = 0; i < ENTRIES; i++)
		NEED(listing.seen[i] == 1 || (i % 1000 == 3 && listing.seen[i] == 0));
	for (unsigned int i = ENTRIES; i < 2 * ENTRIES; i++)
		NEED(listing.seen[i] <= 1);
	pool_close(&opened);
	free(listing.seen);
}

#define TEST_OF(function)                                                                          \
	static void test_##function(void **state)                                                  \
	{                                                                                          \
		(void)state;                                                                       \
		step(function);                                                                    \
	}
TEST_OF(ranges)
TEST_OF(clones)
TEST_OF(flags)
TEST_OF(appended)
TEST_OF(large_released)
TEST_OF(quotas)
TEST_OF(large_folder)

static void test_clones_in_the_log(void **state)
{
	(void)state;
	step(clone_and_die);
	step(clone_is_there);
}

static void test_atimes(void **state)
{
	(void)state;
	step(atimes);
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		scripted_clear(&devices->devices[i]);
	step(atimes_are_off);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_ranges), CASE(test_clones),   CASE(test_clones_in_the_log),
		CASE(test_flags),  CASE(test_appended), CASE(test_large_released),
		CASE(test_quotas), CASE(test_atimes),   CASE(test_large_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
