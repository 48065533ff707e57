/*
 * store_tree: stores a tree with something of everything on devices in memory, and writes out the
 * devices as plain files, for a test that compares what zdb finds with what was stored.
 *
 *   store_tree FOLDER    makes FOLDER/devices/N, FOLDER/expected and FOLDER/content/OBJECT
 *
 * expected has a line for each inode that has to be there: object, path, mode in octal, uid, gid,
 * size, links, object of the parent, atime, mtime, rdev, target of a symlink; with tabs between them.
 * FOLDER/xattrs: object, name, "inode" or "file", size; the value is in FOLDER/content/OBJECT.NAME.
 */
#include "engine/pools.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)
#define MANY 3000U /* entries: more than a micro ZAP has */

static struct opened opened;
static uint64_t root;
static const char *output;
static FILE *expected;
static FILE *expected_xattrs;
static uint8_t content[6 * MIB];

static const struct stat times = { .st_atim = { .tv_sec = 1111111111, .tv_nsec = 123456789 },
				   .st_mtim = { .tv_sec = 1222222222, .tv_nsec = 987654321 } };

struct expectation {
	uint64_t object;
	const char *path;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size;
	uint64_t links;
	uint64_t parent;
	uint64_t rdev;
	const char *target;
};

/* Sets the times of an inode, which is done last, and notes what zdb has to find. */
static void expect(const struct expectation *e)
{
	NEED(sz_fs_setattr(opened.fs, e->object, SZ_SET_ATIME | SZ_SET_MTIME, &times) == 0);
	(void)fprintf(expected, "%lu\t%s\t%o\t%u\t%u\t%lu\t%lu\t%lu\t%ld\t%ld\t%lu\t%s\n",
		      e->object, e->path, e->mode, e->uid, e->gid, e->size, e->links, e->parent,
		      times.st_atim.tv_sec, times.st_mtim.tv_sec, e->rdev,
		      e->target == NULL ? "" : e->target);
}

/* What a file holds has to be found by zdb: a copy, made without reading it back. */
static int content_open(uint64_t object, uint64_t size)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/content/%lu", output, object);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	NEED(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static void content_expect(uint64_t object, uint64_t size, uint64_t offset, size_t length)
{
	CLEANUP_FD int fd = content_open(object, size);

	NEED(sz_pwrite(fd, content, length, offset) == 0);
}

static uint64_t make_file(uint64_t parent, const char *name, uint32_t mode, uint32_t owner)
{
	const struct sz_fs_new new = { .mode = S_IFREG | mode, .uid = owner, .gid = owner + 1 };
	uint64_t object;

	NEED(sz_fs_create(opened.fs, parent, name, &new, &object) == 0);
	return object;
}

static uint64_t make_folder(uint64_t parent, const char *name, uint32_t mode)
{
	const struct sz_fs_new new = { .mode = S_IFDIR | mode, .uid = 10, .gid = 11 };
	uint64_t object;

	NEED(sz_fs_mkdir(opened.fs, parent, name, &new, &object) == 0);
	return object;
}

static void write_at(uint64_t object, size_t length, uint64_t offset)
{
	NEED(sz_fs_write(opened.fs, object, content, length, offset) == 0);
}

static void expect_folder(uint64_t object, const char *path, uint32_t mode, uint64_t entries,
			  uint64_t folders, uint64_t parent)
{
	const struct expectation e = { .object = object,
				       .path = path,
				       .mode = S_IFDIR | mode,
				       .uid = 10,
				       .gid = 11,
				       .size = entries + 2,
				       .links = folders + 2,
				       .parent = parent };

	expect(&e);
}

static void expect_file(uint64_t object, const char *path, uint32_t mode, uint32_t owner,
			uint64_t size, uint64_t links, uint64_t parent)
{
	const struct expectation e = { .object = object,
				       .path = path,
				       .mode = S_IFREG | mode,
				       .uid = owner,
				       .gid = owner + 1,
				       .size = size,
				       .links = links,
				       .parent = parent };

	expect(&e);
}

/* Files of sizes at which something changes: no block, one small one, one record, several. */
static void store_sizes(void)
{
	static const size_t sizes[] = { 0,       1,           100,    511,         512,
					513,     4096,        131072, 131073,      MIB / 2 - 1,
					MIB / 2, MIB / 2 + 1, MIB,    5 * MIB + 77 };
	uint64_t folder = make_folder(root, "sizes", 0755);

	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		char path[64];
		uint64_t object;

		(void)snprintf(path, sizeof(path), "/sizes/%zu", sizes[i]);
		object = make_file(folder, path + sizeof("/sizes"), 0644, 100);
		write_at(object, sizes[i], 0);
		expect_file(object, path, 0644, 100, sizes[i], 1, folder);
		content_expect(object, sizes[i], 0, sizes[i]);
	}
	expect_folder(folder, "/sizes", 0755, ARRAY_LENGTH(sizes), 0, root);
}

static void store_modes(void)
{
	static const uint32_t modes[] = {
		0, 0400, 0644, 0755, 0777, 0604, 0077, 04755, 02755, 01777
	};
	uint64_t folder = make_folder(root, "modes", 01777);

	for (size_t i = 0; i < ARRAY_LENGTH(modes); i++) {
		struct stat set = { .st_mode = modes[i], .st_uid = 7, .st_gid = 8 };
		char path[64];
		uint64_t object;

		(void)snprintf(path, sizeof(path), "/modes/%o", modes[i]);
		object = make_file(folder, path + sizeof("/modes"), modes[i], 200);
		expect_file(object, path, modes[i], 200, 0, 1, folder);
		(void)snprintf(path, sizeof(path), "/modes/set-%o", modes[i]);
		object = make_file(folder, path + sizeof("/modes"), 0600, 0);
		NEED(sz_fs_setattr(opened.fs, object, SZ_SET_MODE | SZ_SET_UID | SZ_SET_GID,
				   &set) == 0);
		expect_file(object, path, modes[i], 7, 0, 1, folder);
	}
	expect_folder(folder, "/modes", 01777, 2 * ARRAY_LENGTH(modes), 0, root);
}

/* A file of three levels of indirect blocks with holes, one written all over, cut and punched. */
static void store_sparse_and_changed(void)
{
	const struct stat small = { .st_size = 1500 };
	const struct stat large = { .st_size = 4 * (off_t)MIB };
	uint64_t object = make_file(root, "sparse", 0600, 300);
	CLEANUP_FD int changed = -1;

	write_at(object, MIB, 3 * GIB);
	write_at(object, 5000, 2048 * GIB + 123);
	expect_file(object, "/sparse", 0600, 300, 2048 * GIB + 5123, 1, root);

	object = make_file(root, "changed", 0600, 301);
	write_at(object, 5 * MIB, 0);
	write_at(object, 700000, 333333);
	NEED(sz_fs_punch(opened.fs, object, MIB, 2 * MIB) == 0);
	expect_file(object, "/changed", 0600, 301, 5 * MIB, 1, root);
	changed = content_open(object, 5 * MIB);
	NEED(sz_pwrite(changed, content, 5 * MIB, 0) == 0);
	NEED(sz_pwrite(changed, content, 700000, 333333) == 0);
	memset(content + 4 * MIB, 0, MIB);
	NEED(sz_pwrite(changed, content + 4 * MIB, MIB, MIB) == 0);
	NEED(sz_pwrite(changed, content + 4 * MIB, MIB, 2 * MIB) == 0);

	object = make_file(root, "cut", 0600, 302);
	write_at(object, 3 * MIB, 0);
	NEED(sz_fs_setattr(opened.fs, object, SZ_SET_SIZE, &small) == 0);
	NEED(sz_fs_setattr(opened.fs, object, SZ_SET_SIZE, &large) == 0);
	expect_file(object, "/cut", 0600, 302, 4 * MIB, 1, root);
	content_expect(object, 4 * MIB, 0, 1500);

	/* Grown from within its first block, piece by piece. */
	object = make_file(root, "grown", 0600, 303);
	for (uint64_t at = 0; at < 300000; at += 999)
		NEED(sz_fs_write(opened.fs, object, content + at, MIN(999, 300000 - at), at) == 0);
	expect_file(object, "/grown", 0600, 303, 300000, 1, root);
	content_expect(object, 300000, 0, 300000);
}

static void store_links(void)
{
	const struct sz_fs_new new = { .uid = 20, .gid = 21 };
	char target[601];
	uint64_t folder = make_folder(root, "links", 0755);
	uint64_t deep = make_folder(folder, "deep", 0700);
	uint64_t object = make_file(folder, "first", 0644, 400);
	struct expectation e = {
		.mode = S_IFLNK | 0777, .uid = 20, .gid = 21, .links = 1, .parent = folder
	};

	NEED(sz_fs_link(opened.fs, object, deep, "second") == 0);
	NEED(sz_fs_link(opened.fs, object, folder, "third") == 0);
	NEED(sz_fs_unlink(opened.fs, folder, "first") == 0);
	expect_file(object, "/links/third", 0644, 400, 0, 2, folder);
	memset(target, 'x', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	NEED(sz_fs_symlink(opened.fs, folder, "short", "../sizes/1", &new, &e.object) == 0);
	e.path = "/links/short";
	e.target = "../sizes/1";
	e.size = strlen(e.target);
	expect(&e);
	NEED(sz_fs_symlink(opened.fs, folder, "long", target, &new, &e.object) == 0);
	e.path = "/links/long";
	e.target = target;
	e.size = strlen(target);
	expect(&e);
	expect_folder(deep, "/links/deep", 0700, 1, 0, folder);
	expect_folder(folder, "/links", 0755, 4, 1, root);
}

static void store_special(void)
{
	static const struct {
		const char *name;
		uint32_t type;
	} kinds[] = { { "fifo", S_IFIFO },
		      { "socket", S_IFSOCK },
		      { "char", S_IFCHR },
		      { "block", S_IFBLK } };
	uint64_t folder = make_folder(root, "special", 0755);

	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++) {
		bool is_device = kinds[i].type == S_IFCHR || kinds[i].type == S_IFBLK;
		const struct sz_fs_new new = { .mode = kinds[i].type | 0620,
					       .uid = 1,
					       .gid = 2,
					       .rdev = is_device ? makedev(8, 17) : 0 };
		char path[64];
		struct expectation e = { .path = path,
					 .mode = new.mode,
					 .uid = 1,
					 .gid = 2,
					 .links = 1,
					 .parent = folder,
					 .rdev = new.rdev };

		(void)snprintf(path, sizeof(path), "/special/%s", kinds[i].name);
		NEED(sz_fs_create(opened.fs, folder, kinds[i].name, &new, &e.object) == 0);
		expect(&e);
	}
	expect_folder(folder, "/special", 0755, ARRAY_LENGTH(kinds), 0, root);
}

/* A folder that is a fat ZAP, and names of every length. */
static void store_names(void)
{
	uint64_t folder = make_folder(root, "names", 0755);
	char name[256];
	char path[300];

	for (unsigned int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "entry number %u", i);
		(void)make_file(folder, name, 0600, 500);
	}
	for (unsigned int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "entry number %u", i);
		if (i % 3 != 0)
			NEED(sz_fs_unlink(opened.fs, folder, name) == 0);
	}
	for (size_t length = 1; length <= 255; length += 127) {
		uint64_t object;

		memset(name, 'n', length);
		name[length] = '\0';
		object = make_file(folder, name, 0600, 501);
		(void)snprintf(path, sizeof(path), "/names/%s", name);
		expect_file(object, path, 0600, 501, 0, 1, folder);
	}
	expect_folder(folder, "/names", 0755, MANY / 3 + 3, 0, root);
}

/* Every kind of rename: to another folder, over a file, over a folder, an exchange, of a folder. */
static void store_renamed(void)
{
	uint64_t folder = make_folder(root, "renamed", 0755);
	uint64_t from = make_folder(folder, "from", 0755);
	uint64_t to = make_folder(folder, "to", 0755);
	uint64_t moved = make_file(from, "moved", 0644, 600);
	uint64_t over = make_file(from, "over", 0644, 601);
	uint64_t one = make_file(from, "one", 0644, 602);
	uint64_t other = make_folder(to, "other", 0755);
	uint64_t tree = make_folder(from, "tree", 0755);
	uint64_t inside = make_file(tree, "inside", 0644, 603);

	(void)make_file(to, "victim", 0644, 699);
	(void)make_folder(to, "empty", 0755);
	NEED(sz_fs_rename(opened.fs, from, "moved", to, "arrived", 0) == 0);
	NEED(sz_fs_rename(opened.fs, from, "over", to, "victim", 0) == 0);
	NEED(sz_fs_rename(opened.fs, from, "tree", to, "empty", 0) == 0);
	NEED(sz_fs_rename(opened.fs, from, "one", to, "other", RENAME_EXCHANGE) == 0);
	expect_file(moved, "/renamed/to/arrived", 0644, 600, 0, 1, to);
	expect_file(over, "/renamed/to/victim", 0644, 601, 0, 1, to);
	expect_file(one, "/renamed/to/other", 0644, 602, 0, 1, to);
	expect_folder(other, "/renamed/from/one", 0755, 0, 0, from);
	expect_file(inside, "/renamed/to/empty/inside", 0644, 603, 0, 1, tree);
	expect_folder(tree, "/renamed/to/empty", 0755, 1, 0, to);
	expect_folder(from, "/renamed/from", 0755, 1, 1, folder);
	expect_folder(to, "/renamed/to", 0755, 4, 1, folder);
	expect_folder(folder, "/renamed", 0755, 2, 2, root);
}

static void xattr_set(uint64_t object, const char *name, const void *value, size_t size)
{
	NEED(sz_fs_setxattr(opened.fs, object, name, value, size, 0) == 0);
}

/* Notes an attribute that zdb has to find: in the inode, or in a file of its own. */
static void xattr_expect(uint64_t object, const char *name, const void *value, size_t size,
			 bool in_file)
{
	char path[256];
	CLEANUP_FD int fd = -1;

	(void)fprintf(expected_xattrs, "%lu\t%s\t%s\t%zu\n", object, name,
		      in_file ? "file" : "inode", size);
	(void)snprintf(path, sizeof(path), "%s/content/%lu.%s", output, object, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	NEED(fd >= 0 && sz_pwrite(fd, value, size, 0) == 0);
}

/* Attributes of every kind of file, in the inode, in files, and moved from one to the other. */
static void store_attributes(void)
{
	const struct stat owner = { .st_uid = 700, .st_gid = 701 };
	uint64_t object = make_file(root, "attributes", 0644, 1);
	uint64_t folder = make_folder(root, "attributes of a folder", 0755);
	uint64_t full = make_file(root, "attributes beyond the inode", 0644, 710);
	uint64_t gone = make_file(root, "attributes that go", 0644, 720);

	xattr_set(object, "user.colour", "blue", 4);
	xattr_set(object, "user.gone", "x", 1);
	xattr_set(object, "user.large", content, 9000);
	xattr_set(object, "user.to-file", "small", 5);
	xattr_set(object, "user.to-file", content + 1, 60000);
	xattr_set(object, "user.to-inode", content, 60000);
	xattr_set(object, "user.replaced", content, 65536);
	xattr_set(object, "user.replaced", content + 2, 33000);
	xattr_set(object, "user.huge and gone", content, 65536);
	xattr_set(object, "user.to-inode", "small", 5);
	NEED(sz_fs_removexattr(opened.fs, object, "user.gone") == 0);
	NEED(sz_fs_removexattr(opened.fs, object, "user.huge and gone") == 0);
	NEED(sz_fs_setattr(opened.fs, object, SZ_SET_UID | SZ_SET_GID, &owner) == 0);
	xattr_expect(object, "user.colour", "blue", 4, false);
	xattr_expect(object, "user.large", content, 9000, false);
	xattr_expect(object, "user.to-inode", "small", 5, false);
	xattr_expect(object, "user.to-file", content + 1, 60000, true);
	xattr_expect(object, "user.replaced", content + 2, 33000, true);
	expect_file(object, "/attributes", 0644, 700, 0, 1, root);

	xattr_set(folder, "trusted.folder", content, 65536);
	xattr_expect(folder, "trusted.folder", content, 65536, true);
	expect_folder(folder, "/attributes of a folder", 0755, 0, 0, root);

	/* Together they are more than an inode takes: the last ones get files. */
	for (unsigned int i = 0; i < 9; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "user.%u", i);
		xattr_set(full, name, content + i, 9000);
		xattr_expect(full, name, content + i, 9000, i > 6);
	}
	expect_file(full, "/attributes beyond the inode", 0644, 710, 0, 1, root);

	xattr_set(gone, "user.huge", content, 65536);
	xattr_set(gone, "user.small", "x", 1);
	NEED(sz_fs_unlink(opened.fs, root, "attributes that go") == 0);
}

/* What is not there any more: a held file too, whose space the last release frees. */
static void store_removed(void)
{
	uint64_t folder = make_folder(root, "removed", 0755);
	uint64_t object = make_file(folder, "held", 0644, 800);

	write_at(object, 2 * MIB, 0);
	NEED(sz_fs_hold(opened.fs, object) == 0);
	NEED(sz_fs_unlink(opened.fs, folder, "held") == 0);
	write_at(object, 1000, 3 * MIB);
	NEED(sz_fs_rmdir(opened.fs, root, "removed") == 0);
	sz_fs_release(opened.fs, object, 1);
}

#define STRESS_THREADS    4U
#define STRESS_OPERATIONS 3000U
#define STRESS_FOLDERS    4U
#define STRESS_NAMES      12U

/* Some threads do at random what a file system can, all in the same few folders and with the same few names. */
static uint64_t stress_folders[STRESS_FOLDERS];

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 8;
}

/* What an operation may fail with when others are as quick; a folder too may have gone. */
static bool is_lost_race(int result)
{
	return result == 0 || result == -ENOENT || result == -EEXIST || result == -ENOTDIR ||
	       result == -EISDIR || result == -ENOTEMPTY || result == -EINVAL || result == -EPERM ||
	       result == -ENODATA;
}

static void stress_file(uint64_t object, uint64_t *state)
{
	const struct stat cut = { .st_size = (off_t)(next(state) % MIB) };
	const struct stat owner = { .st_uid = 900 + (uint32_t)(next(state) % 3) };
	char name[16];

	if (sz_fs_hold(opened.fs, object) != 0)
		return;
	(void)snprintf(name, sizeof(name), "user.%lu", next(state) % 3);
	if (next(state) % 4 == 0)
		NEED(sz_fs_setxattr(opened.fs, object, name, content, next(state) % 65536, 0) == 0);
	if (next(state) % 8 == 0)
		NEED(is_lost_race(sz_fs_removexattr(opened.fs, object, name)));
	if (next(state) % 8 == 0)
		NEED(sz_fs_setattr(opened.fs, object, SZ_SET_UID, &owner) == 0);
	NEED(is_lost_race(sz_fs_write(opened.fs, object, content, next(state) % 100000,
				      next(state) % (2 * MIB))));
	NEED(is_lost_race(sz_fs_setattr(opened.fs, object, SZ_SET_SIZE, &cut)));
	sz_fs_release(opened.fs, object, 1);
}

static void *stress(void *argument)
{
	static const unsigned int flags[] = { 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	const struct sz_fs_new new = { .mode = S_IFREG | 0644, .uid = 900, .gid = 901 };
	uint64_t state = 0x9e3779b97f4a7c15U * (uint64_t)(uintptr_t)argument;

	for (unsigned int i = 0; i < STRESS_OPERATIONS; i++) {
		uint64_t from = stress_folders[next(&state) % STRESS_FOLDERS];
		uint64_t to = stress_folders[next(&state) % STRESS_FOLDERS];
		uint64_t object = 0;
		char name[16];
		char other[16];
		int result;

		(void)snprintf(name, sizeof(name), "%lu", next(&state) % STRESS_NAMES);
		(void)snprintf(other, sizeof(other), "%lu", next(&state) % STRESS_NAMES);
		switch (next(&state) % 10) {
		case 0:
			result = sz_fs_mkdir(opened.fs, from, name, &new, &object);
			break;
		case 1:
			result = sz_fs_rmdir(opened.fs, from, name);
			break;
		case 2:
			result = sz_fs_unlink(opened.fs, from, name);
			break;
		case 3:
		case 4:
			result = sz_fs_rename(opened.fs, from, name, to, other,
					      flags[next(&state) % ARRAY_LENGTH(flags)]);
			break;
		case 5:
			result = sz_fs_symlink(opened.fs, from, name, other, &new, &object);
			break;
		case 6:
			result = sz_fs_lookup(opened.fs, from, name, &object);
			if (result == 0)
				stress_file(object, &state);
			if (result == 0)
				result = sz_fs_link(opened.fs, object, to, other);
			break;
		case 7:
			result = sz_fs_create_unnamed(opened.fs, from, &new, NULL, &object);
			if (result != 0)
				break;
			stress_file(object, &state);
			if (i % 3 != 0)
				result = sz_fs_link_over(opened.fs, object, to, other);
			sz_fs_release(opened.fs, object, 1);
			break;
		default:
			result = sz_fs_create(opened.fs, from, name, &new, &object);
			if (result == 0)
				stress_file(object, &state);
			break;
		}
		if (!is_lost_race(result))
			(void)fprintf(stderr, "operation on %s and %s: %d\n", name, other, result);
		NEED(is_lost_race(result));
	}
	return NULL;
}

/* Nothing is expected but that all counts agree in the end. */
static void store_by_many(void)
{
	pthread_t threads[STRESS_THREADS];
	uint64_t folder = make_folder(root, "many", 0755);

	for (unsigned int i = 0; i < STRESS_FOLDERS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "folder %u", i);
		stress_folders[i] =
			make_folder(i % 2 == 0 ? folder : stress_folders[i - 1], name, 0755);
	}
	for (unsigned int i = 0; i < STRESS_THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, stress, (void *)(uintptr_t)(i + 1)) == 0);
	for (unsigned int i = 0; i < STRESS_THREADS; i++)
		NEED(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv)
{
	char path[256];

	NEED(argc == 2);
	output = argv[1];
	(void)snprintf(path, sizeof(path), "%s/expected", output);
	expected = fopen(path, "w");
	NEED(expected != NULL);
	(void)snprintf(path, sizeof(path), "%s/xattrs", output);
	expected_xattrs = fopen(path, "w");
	NEED(expected_xattrs != NULL);
	devices = scripted_make();
	random_fill(content, sizeof(content), 99);
	pool_make(&opened, SZ_RAID_Z2);
	root = sz_fs_root(opened.fs);
	store_sizes();
	store_modes();
	store_links();
	store_special();
	store_names();
	store_renamed();
	store_attributes();
	store_removed();
	store_by_many();
	store_sparse_and_changed();
	pool_close(&opened);
	NEED(fclose(expected) == 0 && fclose(expected_xattrs) == 0);
	(void)snprintf(path, sizeof(path), "%s/devices", output);
	scripted_write_out(devices, path);
	return 0;
}
