/*
 * Each operation of the file system: what it does, and the error that the system call of its name
 * would give. On devices in memory.
 */
#include "engine/pools.h"

#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MIB ((uint64_t)1 << 20)

static struct opened opened;
static uint64_t root;

static void open_new(void)
{
	pool_make(&opened, SZ_RAID_Z2);
	root = sz_fs_root(opened.fs);
}

static void reopen(void)
{
	struct sz_error error = { 0 };

	sz_fs_close(opened.fs);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
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

static void names(void)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644 };
	char longest[257];
	uint64_t object;
	uint64_t file;

	open_new();
	file = make(root, "file", S_IFREG | 0644);
	memset(longest, 'a', 256);
	longest[256] = '\0';
	NEED(sz_fs_create(opened.fs, root, longest, &new, &object) == -ENAMETOOLONG);
	NEED(sz_fs_lookup(opened.fs, root, longest, &object) == -ENAMETOOLONG);
	NEED(sz_fs_create(opened.fs, root, longest + 1, &new, &object) == 0);
	NEED(sz_fs_create(opened.fs, root, "", &new, &object) == -EINVAL);
	NEED(sz_fs_create(opened.fs, root, "a/b", &new, &object) == -EINVAL);
	NEED(sz_fs_create(opened.fs, root, ".", &new, &object) == -EEXIST);
	NEED(sz_fs_create(opened.fs, root, "..", &new, &object) == -EEXIST);
	NEED(sz_fs_create(opened.fs, root, "file", &new, &object) == -EEXIST);
	NEED(sz_fs_create(opened.fs, file, "in a file", &new, &object) == -ENOTDIR);
	NEED(sz_fs_create(opened.fs, 99999, "nowhere", &new, &object) == -ENOENT);
	NEED(sz_fs_lookup(opened.fs, root, "absent", &object) == -ENOENT);
	NEED(sz_fs_lookup(opened.fs, file, "x", &object) == -ENOTDIR);
	NEED(sz_fs_lookup(opened.fs, root, "..", &object) == 0 && object == root);
	NEED(sz_fs_lookup(opened.fs, root, ".", &object) == 0 && object == root);
	NEED(sz_fs_unlink(opened.fs, root, "absent") == -ENOENT);
	NEED(sz_fs_unlink(opened.fs, root, ".") == -EISDIR);
	pool_close(&opened);
}

static void folders(void)
{
	uint64_t folder;
	uint64_t sub;
	uint64_t object;

	open_new();
	folder = make(root, "folder", S_IFDIR | 0750);
	sub = make(folder, "sub", S_IFDIR | 0750);
	(void)make(root, "file", S_IFREG | 0644);
	NEED(stat_of(folder).st_nlink == 3 && stat_of(folder).st_mode == (S_IFDIR | 0750));
	NEED(sz_fs_rmdir(opened.fs, root, "folder") == -ENOTEMPTY);
	NEED(sz_fs_rmdir(opened.fs, root, "file") == -ENOTDIR);
	NEED(sz_fs_unlink(opened.fs, root, "folder") == -EISDIR);
	NEED(sz_fs_rmdir(opened.fs, root, ".") == -EINVAL);
	NEED(sz_fs_rmdir(opened.fs, root, "..") == -ENOTEMPTY);
	NEED(sz_fs_lookup(opened.fs, sub, "..", &object) == 0 && object == folder);
	/* A folder that is gone, but held, takes no entries. */
	NEED(sz_fs_hold(opened.fs, sub) == 0);
	NEED(sz_fs_rmdir(opened.fs, folder, "sub") == 0);
	NEED(sz_fs_mkdir(opened.fs, sub, "x", &(struct sz_fs_new){ .mode = 0755 }, &object) ==
	     -ENOENT);
	NEED(sz_fs_link(opened.fs, folder, sub, "x") == -ENOENT);
	sz_fs_release(opened.fs, sub, 1);
	NEED(sz_fs_getattr(opened.fs, sub, &(struct stat){ 0 }) == -ENOENT);
	NEED(stat_of(folder).st_nlink == 2 && stat_of(folder).st_size == 2);
	NEED(sz_fs_rmdir(opened.fs, root, "folder") == 0);
	pool_close(&opened);
}

static void links(void)
{
	const struct sz_fs_new new = { 0 };
	char target[4200];
	uint64_t file;
	uint64_t object;

	open_new();
	file = make(root, "file", S_IFREG | 0644);
	NEED(sz_fs_link(opened.fs, file, root, "again") == 0);
	NEED(sz_fs_link(opened.fs, file, root, "again") == -EEXIST);
	NEED(sz_fs_link(opened.fs, root, root, "loop") == -EPERM);
	NEED(stat_of(file).st_nlink == 2);
	/* Two names of one file: nothing is done. */
	NEED(sz_fs_rename(opened.fs, root, "file", root, "again", 0) == 0);
	NEED(stat_of(file).st_nlink == 2);
	NEED(sz_fs_unlink(opened.fs, root, "file") == 0 && stat_of(file).st_nlink == 1);
	memset(target, 't', sizeof(target));
	target[4096] = '\0';
	NEED(sz_fs_symlink(opened.fs, root, "long", target, &new, &object) == -ENAMETOOLONG);
	target[4095] = '\0';
	NEED(sz_fs_symlink(opened.fs, root, "long", target, &new, &object) == 0);
	NEED(stat_of(object).st_size == 4095 && S_ISLNK(stat_of(object).st_mode));
	memset(target, 0, sizeof(target));
	NEED(sz_fs_readlink(opened.fs, object, target, 4095) == -ENAMETOOLONG);
	NEED(sz_fs_readlink(opened.fs, object, target, 4096) == 0 && strlen(target) == 4095);
	NEED(sz_fs_readlink(opened.fs, file, target, sizeof(target)) == -EINVAL);
	pool_close(&opened);
}

static void renames(void)
{
	uint64_t a;
	uint64_t b;
	uint64_t deep;
	uint64_t object;

	open_new();
	a = make(root, "a", S_IFDIR | 0755);
	b = make(a, "b", S_IFDIR | 0755);
	deep = make(b, "deep", S_IFDIR | 0755);
	(void)make(root, "file", S_IFREG | 0644);
	(void)make(root, "other", S_IFREG | 0644);
	(void)make(root, "empty", S_IFDIR | 0755);
	NEED(sz_fs_rename(opened.fs, root, "a", deep, "x", 0) == -EINVAL);
	NEED(sz_fs_rename(opened.fs, root, "a", a, "x", 0) == -EINVAL);
	NEED(sz_fs_rename(opened.fs, root, "absent", root, "x", 0) == -ENOENT);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "other", RENAME_NOREPLACE) == -EEXIST);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "x", RENAME_EXCHANGE) == -ENOENT);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "x", 1U << 10) == -EINVAL);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "empty", 0) == -EISDIR);
	NEED(sz_fs_rename(opened.fs, root, "empty", root, "file", 0) == -ENOTDIR);
	NEED(sz_fs_rename(opened.fs, root, "empty", root, "a", 0) == -ENOTEMPTY);
	NEED(sz_fs_rename(opened.fs, b, "deep", root, "a", 0) == -ENOTEMPTY);
	NEED(sz_fs_rename(opened.fs, b, "deep", root, "a", RENAME_EXCHANGE) == -EINVAL);
	NEED(sz_fs_rename(opened.fs, root, ".", root, "x", 0) == -EBUSY);
	NEED(sz_fs_rename(opened.fs, a, "b", root, "empty", 0) == 0);
	NEED(stat_of(a).st_nlink == 2 && stat_of(root).st_nlink == 2 + 2);
	NEED(sz_fs_lookup(opened.fs, b, "..", &object) == 0 && object == root);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "other", 0) == 0);
	NEED(sz_fs_lookup(opened.fs, root, "file", &object) == -ENOENT);
	pool_close(&opened);
}

static void contents(void)
{
	uint8_t *data = malloc(4 * MIB);
	uint8_t *read = malloc(4 * MIB);
	const struct stat shorter = { .st_size = 1000 };
	const struct stat longer = { .st_size = 5000 };
	uint64_t file;
	uint64_t offset;
	size_t done;

	open_new();
	random_fill(data, 4 * MIB, 5);
	file = make(root, "file", S_IFREG | 0644);
	NEED(sz_fs_read(opened.fs, file, read, 10, 0, &done) == 0 && done == 0);
	NEED(sz_fs_write(opened.fs, file, data, 3000, 0) == 0);
	NEED(sz_fs_read(opened.fs, file, read, 4 * MIB, 100, &done) == 0 && done == 2900);
	NEED(memcmp(read, data + 100, 2900) == 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &shorter) == 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &longer) == 0);
	NEED(sz_fs_read(opened.fs, file, read, 4 * MIB, 0, &done) == 0 && done == 5000);
	/* What was cut off does not come back. */
	NEED(memcmp(read, data, 1000) == 0);
	for (size_t i = 1000; i < 5000; i++)
		NEED(read[i] == 0);
	NEED(sz_fs_write(opened.fs, file, data, 4 * MIB, 16 * MIB + 3) == 0);
	NEED(sz_fs_fsync(opened.fs, file) == 0);
	NEED(sz_fs_seek(opened.fs, file, SEEK_HOLE, 0, &offset) == 0 && offset <= MIB);
	NEED(sz_fs_seek(opened.fs, file, SEEK_DATA, 2 * MIB, &offset) == 0 && offset == 16 * MIB);
	NEED(sz_fs_seek(opened.fs, file, SEEK_DATA, 20 * MIB + 3, &offset) == -ENXIO);
	NEED(sz_fs_seek(opened.fs, file, SEEK_SET, 0, &offset) == -EINVAL);
	NEED(sz_fs_punch(opened.fs, file, 17 * MIB, 10 * MIB) == 0);
	NEED(stat_of(file).st_size == 20 * (off_t)MIB + 3);
	NEED(sz_fs_fsync(opened.fs, file) == 0);
	reopen();
	NEED(sz_fs_read(opened.fs, file, read, 4 * MIB, 16 * MIB + 3, &done) == 0);
	NEED(done == 4 * MIB && memcmp(read, data, MIB - 3) == 0);
	for (size_t i = MIB - 3; i < 4 * MIB; i++)
		NEED(read[i] == 0);
	NEED(stat_of(file).st_blocks * 512 < 4 * (off_t)MIB);
	NEED(sz_fs_write(opened.fs, file, data, 2, INT64_MAX) == -EFBIG);
	NEED(sz_fs_write(opened.fs, root, data, 2, 0) == -EISDIR);
	NEED(sz_fs_read(opened.fs, root, read, 2, 0, &done) == -EISDIR);
	NEED(sz_fs_setattr(opened.fs, root, SZ_SET_SIZE, &shorter) == -EISDIR);
	free(data);
	free(read);
	pool_close(&opened);
}

static void attributes(void)
{
	const struct sz_fs_new device = { .mode = S_IFBLK | 0600, .rdev = makedev(259, 70000) };
	const struct stat set = { .st_mode = 04711,
				  .st_uid = 4000000000U,
				  .st_gid = 12,
				  .st_atim = { .tv_sec = 1, .tv_nsec = 999999999 },
				  .st_mtim = { .tv_sec = 5000000000, .tv_nsec = 1 } };
	uint64_t file;
	uint64_t node;
	struct stat stat;

	open_new();
	file = make(root, "file", S_IFREG | 0644);
	NEED(sz_fs_setattr(opened.fs, file,
			   SZ_SET_MODE | SZ_SET_UID | SZ_SET_GID | SZ_SET_ATIME | SZ_SET_MTIME,
			   &set) == 0);
	NEED(sz_fs_create(opened.fs, root, "node", &device, &node) == 0);
	reopen();
	stat = stat_of(file);
	NEED(stat.st_mode == (S_IFREG | 04711) && stat.st_uid == 4000000000U && stat.st_gid == 12);
	NEED(stat.st_atim.tv_sec == 1 && stat.st_atim.tv_nsec == 999999999);
	NEED(stat.st_mtim.tv_sec == 5000000000 && stat.st_mtim.tv_nsec == 1);
	NEED(stat.st_ino == file && stat.st_nlink == 1);
	NEED(stat_of(node).st_rdev == makedev(259, 70000));
	NEED(sz_fs_setattr(opened.fs, 99999, SZ_SET_MODE, &set) == -ENOENT);
	pool_close(&opened);
}

static void attribute_is(uint64_t file, const char *name, const void *wanted, size_t wanted_size)
{
	static char value[65536];
	size_t size = 0;

	NEED(sz_fs_getxattr(opened.fs, file, name, NULL, 0, &size) == 0 && size == wanted_size);
	if (wanted_size > 1)
		NEED(sz_fs_getxattr(opened.fs, file, name, value, wanted_size - 1, &size) ==
		     -ERANGE);
	memset(value, 0, sizeof(value));
	NEED(sz_fs_getxattr(opened.fs, file, name, value, sizeof(value), &size) == 0);
	NEED(size == wanted_size && memcmp(value, wanted, size) == 0);
}

static void names_are(uint64_t file, const char *wanted, size_t wanted_size)
{
	char names[256];
	size_t size = 0;

	NEED(sz_fs_listxattr(opened.fs, file, NULL, 0, &size) == 0 && size == wanted_size);
	NEED(wanted_size < 2 ||
	     sz_fs_listxattr(opened.fs, file, names, wanted_size - 1, &size) == -ERANGE);
	NEED(sz_fs_listxattr(opened.fs, file, names, sizeof(names), &size) == 0);
	NEED(size == wanted_size && memcmp(names, wanted, size) == 0);
}

static void extended(void)
{
	static const char all[] = "user.a\0user.b";
	char value[10];
	char longest[257];
	uint64_t file;
	size_t size;

	open_new();
	file = make(root, "file", S_IFREG | 0644);
	names_are(file, "", 0);
	NEED(sz_fs_getxattr(opened.fs, file, "user.a", value, 10, &size) == -ENODATA);
	NEED(sz_fs_removexattr(opened.fs, file, "user.a") == -ENODATA);
	NEED(sz_fs_setxattr(opened.fs, file, "user.a", "1", 1, XATTR_REPLACE) == -ENODATA);
	NEED(sz_fs_setxattr(opened.fs, file, "user.a", "1", 1, XATTR_CREATE) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.a", "1", 1, XATTR_CREATE) == -EEXIST);
	NEED(sz_fs_setxattr(opened.fs, file, "user.a", "12345", 5, 0) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.b", NULL, 0, 0) == 0);
	NEED(sz_fs_setxattr(opened.fs, 99999, "user.b", "", 0, 0) == -ENOENT);
	memset(longest, 'n', 256);
	longest[256] = '\0';
	NEED(sz_fs_setxattr(opened.fs, file, longest, "", 0, 0) == -ERANGE);
	NEED(sz_fs_setxattr(opened.fs, file, "", "", 0, 0) == -ERANGE);
	reopen();
	attribute_is(file, "user.a", "12345", 5);
	attribute_is(file, "user.b", "", 0);
	names_are(file, all, sizeof(all));
	NEED(sz_fs_removexattr(opened.fs, file, "user.a") == 0);
	NEED(sz_fs_getxattr(opened.fs, file, "user.a", value, 5, &size) == -ENODATA);
	names_are(file, "user.b", 7);
	pool_close(&opened);
}

/* What does not fit into the inode stands in files of its own; nobody notices. */
static void extended_large(void)
{
	static const char both[] = "user.small\0user.large";
	uint8_t *data = malloc(65537);
	struct stat owner = { .st_uid = 77, .st_gid = 78 };
	char names[4096];
	uint64_t file;
	size_t size;

	open_new();
	random_fill(data, 65537, 8);
	file = make(root, "file", S_IFREG | 0644);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", data, 65537, 0) == -E2BIG);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", data, 65536, XATTR_REPLACE) == -ENODATA);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", data, 65536, XATTR_CREATE) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", data, 65536, XATTR_CREATE) == -EEXIST);
	NEED(sz_fs_setxattr(opened.fs, file, "user.small", data, 10, 0) == 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_UID | SZ_SET_GID, &owner) == 0);
	reopen();
	attribute_is(file, "user.large", data, 65536);
	attribute_is(file, "user.small", data, 10);
	names_are(file, both, sizeof(both));
	/* From one place to the other and back. */
	NEED(sz_fs_setxattr(opened.fs, file, "user.small", data + 1, 32769, XATTR_REPLACE) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", data + 2, 32768, XATTR_REPLACE) == 0);
	attribute_is(file, "user.small", data + 1, 32769);
	attribute_is(file, "user.large", data + 2, 32768);
	NEED(sz_fs_setxattr(opened.fs, file, "user.small", data, 0, 0) == 0);
	attribute_is(file, "user.small", "", 0);
	NEED(sz_fs_removexattr(opened.fs, file, "user.small") == 0);
	NEED(sz_fs_removexattr(opened.fs, file, "user.large") == 0);
	NEED(sz_fs_removexattr(opened.fs, file, "user.large") == -ENODATA);
	names_are(file, "", 0);
	/* More and more of them. */
	for (unsigned int i = 0; i < 100; i++) {
		(void)snprintf(names, sizeof(names), "user.%u", i);
		NEED(sz_fs_setxattr(opened.fs, file, names, data + i, 5000 + 500 * i, 0) == 0);
	}
	reopen();
	NEED(sz_fs_listxattr(opened.fs, file, names, sizeof(names), &size) == 0);
	NEED(size == 10 * 7 + 90 * 8);
	for (unsigned int i = 0; i < 100; i++) {
		(void)snprintf(names, sizeof(names), "user.%u", i);
		attribute_is(file, names, data + i, 5000 + 500 * i);
	}
	free(data);
	pool_close(&opened);
}

static uint64_t used_bytes(void)
{
	struct statvfs space;
	struct sz_error error = { 0 };

	/* What was freed is subtracted some transaction groups later. */
	for (unsigned int i = 0; i < 4; i++)
		NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(sz_fs_statfs(opened.fs, &space) == 0);
	return (space.f_blocks - space.f_bfree) * space.f_frsize;
}

/* An encoded ACL: tag, permissions and number of each entry. */
struct acl {
	uint8_t bytes[4 + 8 * 8];
	size_t size;
};

static struct acl acl_of(size_t count, const uint32_t (*entries)[3])
{
	struct acl acl = { .bytes = { 2 }, .size = 4 + 8 * count };

	for (size_t i = 0; i < count; i++) {
		uint8_t *to = acl.bytes + 4 + 8 * i;

		to[0] = (uint8_t)entries[i][0];
		to[2] = (uint8_t)entries[i][1];
		to[4] = (uint8_t)entries[i][2];
		if (entries[i][0] != 2 && entries[i][0] != 8)
			memset(to + 4, 0xff, 4);
	}
	return acl;
}
#define ACL(...)                                                                                   \
	acl_of(sizeof((const uint32_t[][3]){ __VA_ARGS__ }) / 12,                                  \
	       (const uint32_t[][3]){ __VA_ARGS__ })
#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static int acl_set(uint64_t file, const char *name, struct acl acl)
{
	return sz_fs_setxattr(opened.fs, file, name, acl.bytes, acl.size, 0);
}

static void acl_is(uint64_t file, const char *name, struct acl acl)
{
	attribute_is(file, name, acl.bytes, acl.size);
}

static bool has_attribute(uint64_t file, const char *name)
{
	size_t size;

	return sz_fs_getxattr(opened.fs, file, name, NULL, 0, &size) == 0;
}

/* An ACL and the mode are one. */
static void acls(void)
{
	static uint8_t large[4 + 8 * 3000] = { 2 };
	const struct stat mode = { .st_mode = 02604 };
	const struct sz_fs_new new = { 0 };
	uint64_t folder;
	uint64_t file;
	uint64_t link;

	open_new();
	file = make(root, "file", S_IFREG | 02640);
	folder = make(root, "folder", S_IFDIR | 0755);
	NEED(sz_fs_symlink(opened.fs, root, "link", "x", &new, &link) == 0);
	/* What is none. */
	NEED(sz_fs_setxattr(opened.fs, file, ACCESS, "", 0, 0) == -EINVAL);
	NEED(sz_fs_setxattr(opened.fs, file, ACCESS, "\3\0\0", 4, 0) == -EOPNOTSUPP);
	NEED(sz_fs_setxattr(opened.fs, file, ACCESS, large, sizeof(large), 0) == -E2BIG);
	NEED(acl_set(file, ACCESS, ACL({ 1, 6, 0 }, { 4, 4, 0 })) == -EINVAL);
	NEED(acl_set(file, ACCESS, ACL({ 4, 4, 0 }, { 1, 6, 0 }, { 32, 0, 0 })) == -EINVAL);
	NEED(acl_set(file, ACCESS, ACL({ 1, 8, 0 }, { 4, 4, 0 }, { 32, 0, 0 })) == -EINVAL);
	NEED(acl_set(file, ACCESS, ACL({ 1, 6, 0 }, { 1, 6, 0 }, { 4, 4, 0 }, { 32, 0, 0 })) ==
	     -EINVAL);
	NEED(acl_set(file, ACCESS, ACL({ 1, 6, 0 }, { 2, 6, 7 }, { 4, 4, 0 }, { 32, 0, 0 })) ==
	     -EINVAL);
	NEED(acl_set(file, ACCESS, ACL({ 1, 6, 0 }, { 3, 6, 7 }, { 4, 4, 0 }, { 32, 0, 0 })) ==
	     -EINVAL);
	NEED(acl_set(file, DEFAULT, ACL({ 1, 6, 0 }, { 4, 4, 0 }, { 32, 0, 0 })) == -EACCES);
	NEED(acl_set(link, ACCESS, ACL({ 1, 6, 0 }, { 4, 4, 0 }, { 32, 0, 0 })) == -EOPNOTSUPP);
	NEED(stat_of(file).st_mode == (S_IFREG | 02640) && !has_attribute(file, ACCESS));
	/* One that a mode can say is not stored. */
	NEED(acl_set(file, ACCESS, ACL({ 1, 7, 0 }, { 4, 5, 0 }, { 32, 1, 0 })) == 0);
	NEED(stat_of(file).st_mode == (S_IFREG | 02751) && !has_attribute(file, ACCESS));
	/* The group's bits are the mask's. */
	NEED(acl_set(file, ACCESS,
		     ACL({ 1, 6, 0 }, { 2, 7, 12 }, { 4, 4, 0 }, { 8, 2, 34 }, { 16, 6, 0 },
			 { 32, 0, 0 })) == 0);
	NEED(stat_of(file).st_mode == (S_IFREG | 02660));
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_MODE, &mode) == 0);
	NEED(stat_of(file).st_mode == (S_IFREG | 02604));
	reopen();
	acl_is(file, ACCESS,
	       ACL({ 1, 6, 0 }, { 2, 7, 12 }, { 4, 4, 0 }, { 8, 2, 34 }, { 16, 0, 0 },
		   { 32, 4, 0 }));
	NEED(sz_fs_removexattr(opened.fs, file, ACCESS) == 0);
	NEED(sz_fs_removexattr(opened.fs, file, ACCESS) == 0);
	NEED(stat_of(file).st_mode == (S_IFREG | 02604) && !has_attribute(file, ACCESS));
	NEED(acl_set(folder, DEFAULT, ACL({ 1, 7, 0 }, { 4, 5, 0 }, { 32, 5, 0 })) == 0);
	NEED(has_attribute(folder, DEFAULT) && stat_of(folder).st_mode == (S_IFDIR | 0755));
	NEED(sz_fs_setxattr(opened.fs, folder, DEFAULT, "\2\0\0", 4, 0) == 0);
	NEED(!has_attribute(folder, DEFAULT));
	pool_close(&opened);
}

static uint64_t make_inheriting(uint64_t parent, const char *name, uint32_t mode)
{
	const struct sz_fs_new new = {
		.mode = mode, .uid = 1, .gid = 2, .umask = 027, .inherits = true
	};
	uint64_t object;

	if (S_ISDIR(mode))
		NEED(sz_fs_mkdir(opened.fs, parent, name, &new, &object) == 0);
	else if (name == NULL)
		NEED(sz_fs_create_unnamed(opened.fs, parent, &new, NULL, &object) == 0);
	else
		NEED(sz_fs_create(opened.fs, parent, name, &new, &object) == 0);
	return object;
}

/* umask, the set-group-ID bit and default ACLs, for those who want them. */
static void inheritance(void)
{
	const struct stat group = { .st_mode = 02755, .st_gid = 99 };
	const struct acl acl =
		ACL({ 1, 7, 0 }, { 2, 6, 12 }, { 4, 7, 0 }, { 16, 6, 0 }, { 32, 4, 0 });
	const struct sz_fs_new new = { .gid = 3, .umask = 077, .inherits = true };
	uint64_t folder;
	uint64_t sub;
	uint64_t file;

	open_new();
	folder = make(root, "folder", S_IFDIR | 0755);
	NEED(stat_of(make_inheriting(folder, "masked", S_IFREG | 0666)).st_mode ==
	     (S_IFREG | 0640));
	NEED(sz_fs_setattr(opened.fs, folder, SZ_SET_MODE | SZ_SET_GID, &group) == 0);
	sub = make_inheriting(folder, "sub", S_IFDIR | 0777);
	NEED(stat_of(sub).st_mode == (S_IFDIR | 02750) && stat_of(sub).st_gid == 99);
	file = make_inheriting(sub, "file", S_IFREG | 0777);
	NEED(stat_of(file).st_mode == (S_IFREG | 0750) && stat_of(file).st_gid == 99);
	NEED(sz_fs_symlink(opened.fs, sub, "link", "x", &new, &file) == 0);
	NEED(stat_of(file).st_mode == (S_IFLNK | 0777) && stat_of(file).st_gid == 99);
	NEED(stat_of(make(sub, "exact", S_IFREG | 0666)).st_gid == 2);
	/* A default ACL takes the place of umask. */
	NEED(acl_set(sub, DEFAULT, acl) == 0);
	file = make_inheriting(sub, "with an ACL", S_IFREG | 0660);
	NEED(stat_of(file).st_mode == (S_IFREG | 0660) && !has_attribute(file, DEFAULT));
	acl_is(file, ACCESS,
	       ACL({ 1, 6, 0 }, { 2, 6, 12 }, { 4, 7, 0 }, { 16, 6, 0 }, { 32, 0, 0 }));
	file = make_inheriting(sub, NULL, S_IFREG | 0604);
	NEED(stat_of(file).st_mode == (S_IFREG | 0604));
	acl_is(file, ACCESS,
	       ACL({ 1, 6, 0 }, { 2, 6, 12 }, { 4, 7, 0 }, { 16, 0, 0 }, { 32, 4, 0 }));
	sz_fs_release(opened.fs, file, 1);
	folder = make_inheriting(sub, "deeper", S_IFDIR | 0777);
	NEED(stat_of(folder).st_mode == (S_IFDIR | 02764));
	acl_is(folder, DEFAULT, acl);
	acl_is(folder, ACCESS, acl);
	NEED(!has_attribute(make(sub, "exact too", S_IFREG | 0666), ACCESS));
	/* One that says no more than a mode leaves none behind. */
	NEED(acl_set(folder, DEFAULT, ACL({ 1, 7, 0 }, { 4, 4, 0 }, { 32, 0, 0 })) == 0);
	file = make_inheriting(folder, "plain", S_IFREG | 0666);
	NEED(stat_of(file).st_mode == (S_IFREG | 0640) && !has_attribute(file, ACCESS));
	pool_close(&opened);
}

/* The space of large attributes goes with them, or with their file; with one that is held, later. */
static void extended_space(void)
{
	uint8_t *data = malloc(65536);
	char name[32];
	uint64_t empty;
	uint64_t file;

	open_new();
	random_fill(data, 65536, 9);
	file = make(root, "file", S_IFREG | 0644);
	(void)make(root, "other", S_IFREG | 0644);
	empty = used_bytes();
	for (unsigned int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "user.%u", i % 20);
		NEED(sz_fs_setxattr(opened.fs, file, name, data, 65536, 0) == 0);
	}
	NEED(used_bytes() > empty + 20 * 65536 && used_bytes() < empty + 30 * 65536);
	for (unsigned int i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof(name), "user.%u", i);
		NEED(sz_fs_removexattr(opened.fs, file, name) == 0);
	}
	NEED(used_bytes() < empty + 15 * 65536);
	NEED(sz_fs_hold(opened.fs, file) == 0);
	NEED(sz_fs_unlink(opened.fs, root, "file") == 0);
	attribute_is(file, "user.11", data, 65536);
	NEED(used_bytes() > empty + 10 * 65536);
	sz_fs_release(opened.fs, file, 1);
	NEED(used_bytes() < empty + 65536);
	free(data);
	pool_close(&opened);
}

/* Each entry once; new and removed ones do not disturb who reads on from a cookie. */
struct listing {
	unsigned int stop_at;
	unsigned int count;
	uint64_t cookie;
	bool seen[600];
};

static int list_entry(void *context, const char *name, uint64_t number, uint32_t type,
		      uint64_t next)
{
	struct listing *listing = context;
	unsigned int index;

	if (listing->count == listing->stop_at)
		return -ECANCELED;
	listing->count++;
	listing->cookie = next;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		NEED(type == S_IFDIR && number == root);
		return 0;
	}
	NEED(type == S_IFREG);
	index = (unsigned int)strtoul(name, NULL, 10);
	NEED(index < ARRAY_LENGTH(listing->seen) && !listing->seen[index]);
	listing->seen[index] = true;
	return 0;
}

static void listings(void)
{
	struct listing listing = { .stop_at = 200 };
	char name[16];

	open_new();
	for (unsigned int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		(void)make(root, name, S_IFREG | 0600);
	}
	NEED(sz_fs_readdir(opened.fs, root, 0, list_entry, &listing) == -ECANCELED);
	NEED(listing.count == 200);
	for (unsigned int i = 0; i < 500; i += 5) {
		(void)snprintf(name, sizeof(name), "%u", i);
		NEED(sz_fs_unlink(opened.fs, root, name) == 0);
	}
	for (unsigned int i = 500; i < 600; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		(void)make(root, name, S_IFREG | 0600);
	}
	listing.stop_at = UINT32_MAX;
	NEED(sz_fs_readdir(opened.fs, root, listing.cookie, list_entry, &listing) == 0);
	for (unsigned int i = 0; i < 500; i++)
		NEED(listing.seen[i] || i % 5 == 0);
	pool_close(&opened);
}

/* Many more inodes are held than stay open; those without a name live until all their holds end. */
static void holds(void)
{
	enum {
		COUNT = 6000
	};
	static uint64_t files[COUNT];
	const struct sz_fs_new new = { .mode = S_IFREG | 0600 };
	uint8_t *data = malloc(65536);
	uint64_t unnamed;
	uint64_t before;
	char name[16];

	open_new();
	random_fill(data, 65536, 11);
	NEED(sz_fs_hold(opened.fs, 99999) == -ENOENT);
	NEED(sz_fs_create_unnamed(opened.fs, root, &new, NULL, &unnamed) == 0);
	for (unsigned int i = 0; i < COUNT; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		files[i] = make(root, name, S_IFREG | 0600);
		NEED(sz_fs_hold(opened.fs, files[i]) == 0 && sz_fs_hold(opened.fs, files[i]) == 0);
		if (i < 50)
			NEED(sz_fs_write(opened.fs, files[i], data, 65536, 0) == 0);
		if (i % 2 == 0)
			NEED(sz_fs_unlink(opened.fs, root, name) == 0);
	}
	for (unsigned int i = 0; i < COUNT; i++)
		NEED(stat_of(files[i]).st_nlink == i % 2);
	NEED(sz_fs_link(opened.fs, files[0], root, "again") == -ENOENT);
	NEED(sz_fs_link(opened.fs, unnamed, root, "named") == 0);
	sz_fs_release(opened.fs, unnamed, 1);
	NEED(stat_of(unnamed).st_nlink == 1);
	for (unsigned int i = 0; i < COUNT; i++)
		sz_fs_release(opened.fs, files[i], 1);
	before = used_bytes();
	for (unsigned int i = 0; i < COUNT; i += 2)
		sz_fs_release(opened.fs, files[i], i % 4 == 0 ? 1 : 7);
	for (unsigned int i = 0; i < COUNT; i += 2)
		NEED(sz_fs_getattr(opened.fs, files[i], &(struct stat){ 0 }) == -ENOENT);
	NEED(before > used_bytes() + 24 * 65536);
	/* What is still held at the end is freed by the closing. */
	NEED(sz_fs_unlink(opened.fs, root, "1") == 0 && stat_of(files[1]).st_nlink == 0);
	sz_fs_close(opened.fs);
	NEED(sz_fs_open(opened.pool, NULL, true, &opened.fs, NULL) == 0);
	NEED(sz_fs_getattr(opened.fs, files[1], &(struct stat){ 0 }) == -ENOENT);
	NEED(stat_of(root).st_size == 2 + COUNT / 2 - 1 + 1);
	free(data);
	pool_close(&opened);
}

/* An unlinked file lives while it is held; one that was held at a crash goes at the next opening. */
static void unlinked_in_a_crash(void)
{
	struct sz_error error = { 0 };
	uint8_t *data = calloc(1, 3 * MIB);
	size_t done;
	uint64_t file;

	open_new();
	random_fill(data, 3 * MIB, 6);
	file = make(root, "held", S_IFREG | 0644);
	NEED(sz_fs_hold(opened.fs, file) == 0);
	for (unsigned int i = 0; i < 50; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "user.%u", i);
		NEED(sz_fs_setxattr(opened.fs, file, name, data, 65536, 0) == 0);
	}
	NEED(sz_fs_unlink(opened.fs, root, "held") == 0);
	NEED(sz_fs_write(opened.fs, file, data, 3 * MIB, 0) == 0);
	NEED(sz_fs_read(opened.fs, file, data, 100, 5, &done) == 0 && done == 100);
	NEED(stat_of(file).st_nlink == 0);
	NEED(sz_fs_link(opened.fs, file, root, "back") == -ENOENT);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	_exit(0);
}

static void unlinked_is_gone(void)
{
	struct sz_error error = { 0 };
	struct statvfs before;
	struct stat stat;

	NEED_OK(pool_import(&opened, false, &error), &error);
	NEED_OK(sz_fs_open(opened.pool, NULL, true, &opened.fs, &error), &error);
	NEED(sz_fs_statfs(opened.fs, &before) == 0);
	NEED((before.f_blocks - before.f_bfree) * before.f_frsize > 6 * MIB);
	sz_fs_close(opened.fs);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	NEED(sz_fs_statfs(opened.fs, &before) == 0);
	NEED((before.f_blocks - before.f_bfree) * before.f_frsize < MIB);
	NEED(sz_fs_getattr(opened.fs, sz_fs_root(opened.fs), &stat) == 0 && stat.st_size == 2);
	pool_close(&opened);
}

static void paths(void)
{
	char path[300];
	uint64_t a;
	uint64_t b;
	uint64_t file;

	open_new();
	a = make(root, "a", S_IFDIR | 0755);
	b = make(a, "b", S_IFDIR | 0755);
	file = make(b, "file", S_IFREG | 0644);
	NEED(sz_fs_path(opened.fs, root, path, sizeof(path)) == 0 && strcmp(path, "/") == 0);
	NEED(sz_fs_path(opened.fs, file, path, sizeof(path)) == 0 &&
	     strcmp(path, "/a/b/file") == 0);
	NEED(sz_fs_path(opened.fs, file, path, 10) == 0 && strcmp(path, "/a/b/file") == 0);
	NEED(sz_fs_path(opened.fs, file, path, 9) == -ENAMETOOLONG);
	NEED(sz_fs_rename(opened.fs, a, "b", root, "moved", 0) == 0);
	NEED(sz_fs_path(opened.fs, file, path, sizeof(path)) == 0 &&
	     strcmp(path, "/moved/file") == 0);
	NEED(sz_fs_path(opened.fs, 99999, path, sizeof(path)) == -ENOENT);
	NEED(sz_fs_hold(opened.fs, file) == 0);
	NEED(sz_fs_unlink(opened.fs, b, "file") == 0);
	NEED(sz_fs_path(opened.fs, file, path, sizeof(path)) == -ENOENT);
	sz_fs_release(opened.fs, file, 1);
	pool_close(&opened);
}

/* A pool that is full says so, keeps what it has, and takes more when something goes. */
static void full(void)
{
	uint8_t *data = malloc(MIB);
	struct sz_error error = { 0 };
	unsigned int written = 0;
	uint64_t file;
	int result = 0;

	open_new();
	random_fill(data, MIB, 7);
	file = make(root, "file", S_IFREG | 0644);
	while (result == 0 && written < 4096) {
		result = sz_fs_write(opened.fs, file, data, MIB, written * MIB);
		written += result == 0;
	}
	NEED(result == -ENOSPC && written > 500);
	NEED(!sz_pool_is_suspended(opened.pool));
	NEED(sz_fs_unlink(opened.fs, root, "file") == 0);
	/* The space is free for use two transaction groups later. */
	for (unsigned int i = 0; i < 4; i++)
		NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	file = make(root, "next", S_IFREG | 0644);
	NEED(sz_fs_write(opened.fs, file, data, MIB, 0) == 0);
	pool_close(&opened);
	free(data);
}

static void room_set(uint64_t bytes)
{
	__atomic_store_n(&devices->room, bytes, __ATOMIC_SEQ_CST);
}

/* The pool has space, the disks have not: new data is refused, all else goes on. */
static void full_disk(void)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644 };
	const struct stat small = { .st_size = 1, .st_mode = S_IFREG | 0600 };
	uint8_t *data = calloc(1, MIB);
	struct sz_pool_space space;
	struct statvfs statvfs;
	char read[4];
	uint64_t file;
	uint64_t other;
	size_t done;

	open_new();
	file = make(root, "file", S_IFREG | 0644);
	(void)make(root, "folder", S_IFDIR | 0755);
	NEED(sz_fs_write(opened.fs, file, "data", 4, 0) == 0);
	room_set(300 * MIB);
	NEED(sz_fs_statfs(opened.fs, &statvfs) == 0);
	/* 4 of 6 devices, less what is not written yet. */
	NEED(statvfs.f_bavail * statvfs.f_frsize <= 200 * MIB);
	NEED(statvfs.f_bavail * statvfs.f_frsize > 150 * MIB);
	NEED(sz_fs_write(opened.fs, file, data, MIB, 4) == 0);
	room_set(0);
	NEED(sz_fs_statfs(opened.fs, &statvfs) == 0 && statvfs.f_bavail == 0);
	NEED(sz_pool_space(opened.pool, &space) == 0 && space.available_bytes == 0);
	NEED(space.used_bytes > 0);
	NEED(sz_fs_write(opened.fs, file, "more", 4, 0) == -ENOSPC);
	NEED(sz_fs_create(opened.fs, root, "new", &new, &other) == -ENOSPC);
	NEED(sz_fs_create_unnamed(opened.fs, root, &new, NULL, &other) == -ENOSPC);
	NEED(sz_fs_mkdir(opened.fs, root, "new", &new, &other) == -ENOSPC);
	NEED(sz_fs_symlink(opened.fs, root, "new", "file", &new, &other) == -ENOSPC);
	NEED(sz_fs_setxattr(opened.fs, file, "user.x", "y", 1, 0) == -ENOSPC);
	NEED(!sz_pool_is_suspended(opened.pool));
	NEED(sz_fs_read(opened.fs, file, read, 4, 0, &done) == 0 && memcmp(read, "data", 4) == 0);
	NEED(sz_fs_rename(opened.fs, root, "file", root, "renamed", 0) == 0);
	NEED(sz_fs_punch(opened.fs, file, 0, 4) == 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE | SZ_SET_MODE, &small) == 0);
	NEED(sz_fs_fsync(opened.fs, file) == 0);
	NEED(sz_fs_rmdir(opened.fs, root, "folder") == 0);
	NEED(sz_fs_unlink(opened.fs, root, "renamed") == 0);
	room_set(UINT64_MAX);
	file = make(root, "new", S_IFREG | 0644);
	NEED(sz_fs_write(opened.fs, file, data, MIB, 0) == 0);
	pool_close(&opened);
	free(data);
}

#define TEST_OF(function)                                                                          \
	static void test_##function(void **state)                                                  \
	{                                                                                          \
		(void)state;                                                                       \
		step(function);                                                                    \
	}
TEST_OF(names)
TEST_OF(folders)
TEST_OF(links)
TEST_OF(renames)
TEST_OF(contents)
TEST_OF(attributes)
TEST_OF(extended)
TEST_OF(extended_large)
TEST_OF(extended_space)
TEST_OF(acls)
TEST_OF(inheritance)
TEST_OF(listings)
TEST_OF(paths)
TEST_OF(holds)
TEST_OF(full)
TEST_OF(full_disk)

static void test_unlinked_files(void **state)
{
	(void)state;
	step(unlinked_in_a_crash);
	step(unlinked_is_gone);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_names),    CASE(test_folders),        CASE(test_links),
		CASE(test_renames),  CASE(test_contents),       CASE(test_attributes),
		CASE(test_extended), CASE(test_extended_large), CASE(test_extended_space),
		CASE(test_acls),     CASE(test_inheritance),    CASE(test_listings),
		CASE(test_paths),    CASE(test_holds),          CASE(test_unlinked_files),
		CASE(test_full),     CASE(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
