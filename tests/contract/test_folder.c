/*
 * The folder backend: what it makes of links, FIFOs, missing folders, and of system calls that fail.
 *
 * The linker puts the functions below in the place of libc's, for this program alone: each call is
 * counted, and may fail by choice. See meson.build.
 */
#include "contract.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>

/* System calls */

static struct {
	const char *only;     /* this call alone; NULL: all */
	unsigned int fail_at; /* the call with this count fails; 0: none */
	bool fail_from;       /* … and all after it */
	int error;
	unsigned int count;
	bool transfers_short; /* pread and pwrite do half, and are interrupted now and then */
	bool is_slow;         /* each pwrite takes 25 ms */
	ino_t synced[64];     /* folders and files in the order of their syncs */
	size_t synced_count;
	unsigned int settled; /* calls of syncfs */
} kernel;

static void kernel_reset(void)
{
	memset(&kernel, 0, sizeof(kernel));
}

static void kernel_refuses(const char *call, int error)
{
	kernel.only = call;
	kernel.fail_at = 1;
	kernel.fail_from = true;
	kernel.error = error;
	kernel.count = 0;
}

static bool fails(const char *call)
{
	if (kernel.only != NULL && strcmp(kernel.only, call) != 0)
		return false;
	kernel.count++;
	if (kernel.fail_at == 0 || kernel.count < kernel.fail_at ||
	    (kernel.count > kernel.fail_at && !kernel.fail_from))
		return false;
	errno = kernel.error;
	return true;
}

long __real_syscall(long number, long a, long b, long c, long d);
long __wrap_syscall(long number, long a, long b, long c, long d);
int __real_openat64(int fd, const char *path, int flags, mode_t mode);
int __wrap_openat64(int fd, const char *path, int flags, mode_t mode);
int __real_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __wrap_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __real_linkat(int fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int fd, const char *from, int to_fd, const char *to, int flags);
int __real_unlinkat(int fd, const char *path, int flags);
int __wrap_unlinkat(int fd, const char *path, int flags);
int __real_mkdirat(int fd, const char *path, mode_t mode);
int __wrap_mkdirat(int fd, const char *path, mode_t mode);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fstatat64(int fd, const char *path, struct stat *status, int flags);
int __wrap_fstatat64(int fd, const char *path, struct stat *status, int flags);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
struct dirent *__real_readdir64(DIR *dir);
struct dirent *__wrap_readdir64(DIR *dir);
ssize_t __real_pread64(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *buffer, size_t length, off_t offset);
ssize_t __real_pwrite64(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t length, off_t offset);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

long __wrap_syscall(long number, long a, long b, long c, long d)
{
	return fails("openat2") ? -1 : __real_syscall(number, a, b, c, d);
}

int __wrap_openat64(int fd, const char *path, int flags, mode_t mode)
{
	return fails("openat") ? -1 : __real_openat64(fd, path, flags, mode);
}

int __wrap_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
	return fails("renameat2") ? -1 : __real_renameat2(fd, from, to_fd, to, flags);
}

int __wrap_linkat(int fd, const char *from, int to_fd, const char *to, int flags)
{
	return fails("linkat") ? -1 : __real_linkat(fd, from, to_fd, to, flags);
}

int __wrap_unlinkat(int fd, const char *path, int flags)
{
	return fails("unlinkat") ? -1 : __real_unlinkat(fd, path, flags);
}

int __wrap_mkdirat(int fd, const char *path, mode_t mode)
{
	return fails("mkdirat") ? -1 : __real_mkdirat(fd, path, mode);
}

static void note_sync(int fd)
{
	struct stat status;

	OK(fstat(fd, &status));
	if (kernel.synced_count < ARRAY_LENGTH(kernel.synced))
		kernel.synced[kernel.synced_count++] = status.st_ino;
}

int __wrap_fsync(int fd)
{
	if (fails("fsync"))
		return -1;
	note_sync(fd);
	return __real_fsync(fd);
}

int __wrap_flock(int fd, int operation)
{
	return fails("flock") ? -1 : __real_flock(fd, operation);
}

int __wrap_syncfs(int fd)
{
	kernel.settled++;
	return fails("syncfs") ? -1 : __real_syncfs(fd);
}

int __wrap_fdatasync(int fd)
{
	if (fails("fdatasync"))
		return -1;
	note_sync(fd);
	return __real_fdatasync(fd);
}

int __wrap_fstatat64(int fd, const char *path, struct stat *status, int flags)
{
	return fails("fstatat") ? -1 : __real_fstatat64(fd, path, status, flags);
}

DIR *__wrap_fdopendir(int fd)
{
	return fails("fdopendir") ? NULL : __real_fdopendir(fd);
}

struct dirent *__wrap_readdir64(DIR *dir)
{
	return fails("readdir") ? NULL : __real_readdir64(dir);
}

static size_t part_of(size_t length)
{
	return kernel.transfers_short ? DIV_ROUND_UP(length, 2) : length;
}

static bool is_interrupted(void)
{
	static unsigned int count;

	errno = EINTR;
	return kernel.transfers_short && count++ % 3 == 1;
}

ssize_t __wrap_pread64(int fd, void *buffer, size_t length, off_t offset)
{
	if (is_interrupted() || fails("pread"))
		return -1;
	return __real_pread64(fd, buffer, part_of(length), offset);
}

ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t length, off_t offset)
{
	if (is_interrupted() || fails("pwrite"))
		return -1;
	if (kernel.is_slow)
		(void)usleep(25000);
	return __real_pwrite64(fd, buffer, part_of(length), offset);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails("calloc") ? NULL : __real_calloc(count, size);
}

/* Fixture: a folder of its own for each case */

struct fixture {
	char path[64];
	struct sz_backend *backend;
};

static int set_up(void **state)
{
	struct fixture *fixture;

	kernel_reset();
	fixture = calloc(1, sizeof(*fixture));
	assert_non_null(fixture);
	(void)snprintf(fixture->path, sizeof(fixture->path), "/tmp/szpool-folder.XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	OK(sz_folder_open(fixture->path, false, &fixture->backend));
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

static void remove_tree(const char *path)
{
	OK(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	kernel_reset();
	sz_backend_close(fixture->backend);
	if (access(fixture->path, F_OK) == 0)
		remove_tree(fixture->path);
	free(fixture);
	return 0;
}

/* A path in the folder; valid until the fourth call after it. */
static const char *in(const struct fixture *fixture, const char *name)
{
	static char paths[4][256];
	static unsigned int next;
	char *path = paths[next++ % ARRAY_LENGTH(paths)];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", fixture->path, name);
	return path;
}

static unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static ino_t inode_of(const char *path)
{
	struct stat status;

	OK(stat(path, &status));
	return status.st_ino;
}

/* Opening, and what is in the folder */

static void test_the_path_has_to_be_a_folder(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_backend *backend = (struct sz_backend *)(void *)state; /* anything but NULL */

	put(fixture->backend, SZ_SEALED, "file", "x");
	assert_int_equal(sz_folder_open(in(fixture, "file"), false, &backend), -ENOTDIR);
	assert_null(backend);
	assert_int_equal(sz_folder_open(in(fixture, "missing"), false, &backend), -ENOENT);
	assert_int_equal(sz_folder_open("", true, &backend), -ENOENT);
}

static void test_read_only_changes_nothing(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_backend *backend;
	struct sz_file *file;

	put(fixture->backend, SZ_SEALED, "a", "x");
	OK(sz_folder_open(fixture->path, true, &backend));
	assert_int_equal(sz_backend_create(backend, SZ_SEALED, "b", &file), -EROFS);
	assert_int_equal(sz_backend_create(backend, SZ_LIVE, "b", &file), -EROFS);
	assert_int_equal(sz_backend_remove(backend, SZ_SEALED, "a"), -EROFS);
	assert_int_equal(sz_backend_rename(backend, "a", "b"), -EROFS);
	assert_int_equal(access(in(fixture, SZ_LIVE_FOLDER), F_OK), -1);
	assert_true(holds(backend, SZ_SEALED, "a", "x"));
	assert_int_equal(list(backend, SZ_SEALED).count, 1);
	assert_int_equal(list(backend, SZ_LIVE).count, 0);
	sz_backend_close(backend);
}

static void test_only_the_owner_gets_at_files(void **state)
{
	const struct fixture *fixture = *state;
	mode_t mask = umask(0);
	struct stat status;

	put(fixture->backend, SZ_SEALED, "a", "");
	put(fixture->backend, SZ_LIVE, "b", "");
	(void)umask(mask);
	OK(stat(in(fixture, "a"), &status));
	assert_int_equal(status.st_mode, S_IFREG | 0600);
	OK(stat(in(fixture, "live/b"), &status));
	assert_int_equal(status.st_mode, S_IFREG | 0600);
	OK(stat(in(fixture, "live"), &status));
	assert_int_equal(status.st_mode, S_IFDIR | 0700);
}

static unsigned int inherited_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 256; fd++) {
		int flags = fcntl(fd, F_GETFD);

		count += flags >= 0 && (flags & FD_CLOEXEC) == 0;
	}
	return count;
}

static void test_descriptors_are_not_inherited(void **state)
{
	const struct fixture *fixture = *state;
	unsigned int inherited = inherited_descriptors();
	unsigned int opened = open_descriptors();
	struct sz_file *file = file_with(fixture->backend, SZ_LIVE, "a", "");

	assert_int_equal(open_descriptors(), opened + 1);
	assert_int_equal(inherited_descriptors(), inherited);
	sz_file_close(file);
}

/* What is not a regular file, in the folder or in live/. */
static const char *const odd_names[] = { "link", "dangling", "fifo", "socket", "folder", "device" };

static void make_odd_files(const char *folder)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
	mode_t device_type = geteuid() == 0 ? S_IFCHR : S_IFIFO;

	assert_true(fd >= 0 && folder_fd >= 0);
	OK(symlinkat("/etc/passwd", folder_fd, "link"));
	OK(symlinkat("nowhere", folder_fd, "dangling"));
	OK(mkfifoat(folder_fd, "fifo", 0600));
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
	OK(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)));
	OK(mkdirat(folder_fd, "folder", 0700));
	OK(mknodat(folder_fd, "device", device_type | 0600, 0x103)); /* /dev/null */
	(void)close(folder_fd);
	(void)close(fd);
}

static void check_odd_files_are_not_objects(struct sz_backend *backend, enum sz_part part)
{
	unsigned int before = open_descriptors();
	struct sz_file *file;

	(void)alarm(20); /* an open that waits for a writer ends the test */
	for (size_t i = 0; i < ARRAY_LENGTH(odd_names); i++) {
		assert_int_equal(sz_backend_open(backend, part, odd_names[i], &file), -ENOENT);
		assert_int_equal(sz_backend_create(backend, part, odd_names[i], &file), -EEXIST);
	}
	assert_string_equal(list(backend, part).names, " file");
	(void)alarm(0);
	assert_int_equal(open_descriptors(), before);
}

static void test_only_regular_files_are_objects(void **state)
{
	static const int without_openat2[] = { 0, ENOSYS, EPERM };
	const struct fixture *fixture = *state;
	struct sz_backend *backend = fixture->backend;

	put(backend, SZ_SEALED, "file", "");
	put(backend, SZ_LIVE, "file", "");
	make_odd_files(fixture->path);
	make_odd_files(in(fixture, "live"));
	for (size_t i = 0; i < ARRAY_LENGTH(without_openat2); i++) {
		if (without_openat2[i] != 0)
			kernel_refuses("openat2", without_openat2[i]);
		check_odd_files_are_not_objects(backend, SZ_SEALED);
		check_odd_files_are_not_objects(backend, SZ_LIVE);
		put(backend, SZ_LIVE, "moved", "");
		assert_int_equal(sz_backend_rename(backend, "moved", "dangling"), -EEXIST);
		OK(sz_backend_remove(backend, SZ_LIVE, "moved"));
		assert_true(without_openat2[i] == 0 || kernel.count > 0);
	}
}

static void test_live_is_not_followed_elsewhere(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_backend *backend = fixture->backend;
	char elsewhere[] = "/tmp/szpool-elsewhere.XXXXXX";
	struct listed listed = { 0 };
	struct sz_file *file;

	assert_non_null(mkdtemp(elsewhere));
	OK(symlink(elsewhere, in(fixture, "live")));
	for (int round = 0; round < 2; round++) {
		/* An error, not an empty part: what was flushed may be behind the link. */
		assert_true(sz_backend_list(backend, SZ_LIVE, list_one, &listed) < 0);
		assert_true(sz_backend_create(backend, SZ_LIVE, "a", &file) < 0);
		assert_true(sz_backend_sync_folder(backend, SZ_LIVE) < 0);
		kernel_refuses("openat2", ENOSYS);
	}
	OK(rmdir(elsewhere)); /* it is empty */
}

static void test_a_regular_file_called_live_is_an_error(void **state)
{
	const struct fixture *fixture = *state;
	struct listed listed = { 0 };
	struct sz_file *file;
	int fd = open(in(fixture, "live"), O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(sz_backend_list(fixture->backend, SZ_LIVE, list_one, &listed), -ENOTDIR);
	assert_int_equal(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file), -ENOTDIR);
}

static void test_it_stays_the_same_folder_when_its_path_changes(void **state)
{
	struct fixture *fixture = *state;
	char moved[80];

	put(fixture->backend, SZ_SEALED, "a", "x");
	(void)snprintf(moved, sizeof(moved), "%s.moved", fixture->path);
	OK(rename(fixture->path, moved));
	OK(mkdir(fixture->path, 0700));
	assert_true(holds(fixture->backend, SZ_SEALED, "a", "x"));
	put_durably(fixture->backend, SZ_LIVE, "b", "y");
	OK(rmdir(fixture->path)); /* nothing was put here */
	OK(rename(moved, fixture->path));
	assert_int_equal(access(in(fixture, "live/b"), F_OK), 0);
}

static void test_a_folder_that_is_gone_is_enodev(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_backend *backend = fixture->backend;
	struct sz_file *open_file = file_with(backend, SZ_LIVE, "a", "x");
	struct listed listed = { 0 };
	struct sz_file *file;
	struct sz_space space;

	remove_tree(fixture->path);
	for (enum sz_part part = SZ_SEALED; part <= SZ_LIVE; part++) {
		assert_int_equal(sz_backend_list(backend, part, list_one, &listed), -ENODEV);
		assert_int_equal(sz_backend_create(backend, part, "b", &file), -ENODEV);
		assert_int_equal(sz_backend_open(backend, part, "a", &file), -ENODEV);
		assert_int_equal(sz_backend_remove(backend, part, "a"), -ENODEV);
		assert_int_equal(sz_backend_sync_folder(backend, part), -ENODEV);
	}
	assert_int_equal(sz_backend_rename(backend, "a", "b"), -ENODEV);
	assert_int_equal(sz_backend_space(backend, &space), -ENODEV);
	assert_int_equal(sz_file_sync(open_file), -ENODEV);
	sz_file_close(open_file);
	/* Another folder at the same path is not the same disk. */
	OK(mkdir(fixture->path, 0700));
	assert_int_equal(sz_backend_create(backend, SZ_SEALED, "b", &file), -ENODEV);
}

static void test_live_comes_back_when_it_was_deleted(void **state)
{
	const struct fixture *fixture = *state;

	put_durably(fixture->backend, SZ_LIVE, "a", "x");
	remove_tree(in(fixture, "live"));
	assert_false(exists(fixture->backend, SZ_LIVE, "a"));
	assert_int_equal(list(fixture->backend, SZ_LIVE).count, 0);
	kernel.synced_count = 0;
	put_durably(fixture->backend, SZ_LIVE, "b", "y");
	assert_true(holds(fixture->backend, SZ_LIVE, "b", "y"));
	assert_int_equal(kernel.synced_count, 3); /* the file, the folder that live/ is in, live/ */
}

/* Durability */

static void test_live_is_durable_before_the_first_file_in_it(void **state)
{
	const struct fixture *fixture = *state;
	ino_t root = inode_of(fixture->path);
	struct sz_backend *second;
	ino_t live;

	put_durably(fixture->backend, SZ_LIVE, "a", "x");
	live = inode_of(in(fixture, "live"));
	assert_int_equal(kernel.synced_count, 3);
	assert_int_equal(kernel.synced[0], inode_of(in(fixture, "live/a")));
	assert_int_equal(kernel.synced[1], root);
	assert_int_equal(kernel.synced[2], live);
	/* Once is enough … */
	put_durably(fixture->backend, SZ_LIVE, "b", "x");
	assert_int_equal(kernel.synced_count, 5);
	assert_int_equal(kernel.synced[4], live);
	/* … for each opening: the process that made it may have died before its sync. */
	OK(sz_folder_open(fixture->path, false, &second));
	OK(sz_backend_sync_folder(second, SZ_LIVE));
	assert_int_equal(kernel.synced_count, 7);
	assert_int_equal(kernel.synced[5], root);
	assert_int_equal(kernel.synced[6], live);
	OK(sz_backend_sync_folder(second, SZ_SEALED));
	assert_int_equal(kernel.synced[7], root);
	sz_backend_close(second);
}

static void test_live_is_not_taken_for_durable_when_its_sync_failed(void **state)
{
	const struct fixture *fixture = *state;
	ino_t root = inode_of(fixture->path);

	put(fixture->backend, SZ_LIVE, "a", "x");
	kernel_refuses("fsync", EIO);
	assert_int_equal(sz_backend_sync_folder(fixture->backend, SZ_LIVE), -EIO);
	kernel_reset();
	OK(sz_backend_sync_folder(fixture->backend, SZ_LIVE));
	assert_int_equal(kernel.synced_count, 2);
	assert_int_equal(kernel.synced[0], root);
}

/* System calls that fail */

static void test_rename_without_noreplace(void **state)
{
	static const int errors[] = { EINVAL, ENOSYS };
	const struct fixture *fixture = *state;
	struct sz_backend *backend = fixture->backend;

	for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
		put(backend, SZ_LIVE, "a", "new");
		kernel_refuses("renameat2", errors[i]);
		OK(sz_backend_rename(backend, "a", "b"));
		assert_true(holds(backend, SZ_SEALED, "b", "new"));
		assert_false(exists(backend, SZ_LIVE, "a"));
		put(backend, SZ_LIVE, "a", "newer");
		assert_int_equal(sz_backend_rename(backend, "a", "b"), -EEXIST);
		assert_true(holds(backend, SZ_SEALED, "b", "new"));
		assert_true(holds(backend, SZ_LIVE, "a", "newer"));
		assert_int_equal(sz_backend_rename(backend, "missing", "c"), -ENOENT);
		OK(sz_backend_remove(backend, SZ_LIVE, "a"));
		OK(sz_backend_remove(backend, SZ_SEALED, "b"));
	}
}

static void test_a_file_removed_during_a_listing_is_skipped(void **state)
{
	const struct fixture *fixture = *state;

	put(fixture->backend, SZ_SEALED, "a", "");
	put(fixture->backend, SZ_SEALED, "b", "");
	kernel_refuses("fstatat", ENOENT);
	kernel.fail_from = false;
	assert_int_equal(list(fixture->backend, SZ_SEALED).count, 1);
}

static void test_short_and_interrupted_transfers_are_completed(void **state)
{
	const struct fixture *fixture = *state;
	uint8_t bytes[10000];
	uint8_t back[sizeof(bytes) + 1];
	struct sz_file *file;
	size_t done;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8));
	OK(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file));
	kernel.transfers_short = true;
	OK(sz_file_write(file, bytes, sizeof(bytes), 5));
	OK(sz_file_read(file, back, sizeof(back), 5, &done));
	assert_int_equal(done, sizeof(bytes));
	assert_memory_equal(bytes, back, sizeof(bytes));
	sz_file_close(file);
}

/* A file system that has nothing but the cache. */
static bool is_in_memory(const struct fixture *fixture)
{
	struct statfs disk;

	OK(statfs(fixture->path, &disk));
	return disk.f_type == TMPFS_MAGIC;
}

/* How many pages of a file the kernel has in its cache. */
static unsigned int cached_pages(const char *path)
{
	enum {
		PAGE = 4096,
		PAGES_MAX = 4096
	};
	static unsigned char resident[PAGES_MAX];
	struct stat status;
	unsigned int count = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t pages;
	void *map;

	assert_true(fd >= 0);
	OK(fstat(fd, &status));
	pages = DIV_ROUND_UP((size_t)status.st_size, PAGE);
	assert_true(pages <= PAGES_MAX);
	map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	OK(mincore(map, (size_t)status.st_size, resident));
	for (size_t i = 0; i < pages; i++)
		count += resident[i] & 1U;
	OK(munmap(map, (size_t)status.st_size));
	OK(close(fd));
	return count;
}

/* What was in a cache alone, as after a write to the disk that failed, is not taken for being there. */
static void test_live_files_are_read_from_the_disk(void **state)
{
	const struct fixture *fixture = *state;
	static char content[64 << 10];
	struct sz_backend *again;
	struct sz_file *file;

	if (is_in_memory(fixture))
		skip();
	OK(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file));
	OK(sz_file_write(file, content, sizeof(content) - 1, 0));
	sz_file_close(file);
	assert_true(cached_pages(in(fixture, "live/a")) > 0);
	OK(sz_folder_open(fixture->path, false, &again));
	OK(sz_backend_open(again, SZ_LIVE, "a", &file));
	assert_int_equal(cached_pages(in(fixture, "live/a")), 0);
	sz_file_close(file);
	sz_backend_close(again);
}

/* Large writes: past the cache where that can be done, always complete, and errors are told. */

enum {
	LARGE = 128 << 10,
	LARGE_MANY = 40, /* more than it takes to find a disk slow */
};
static _Alignas(4096) uint8_t large[LARGE];

static void large_fill(unsigned int seed)
{
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

static bool has_direct(const struct fixture *fixture)
{
	int fd = open(in(fixture, "probe"), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);

	if (fd >= 0)
		OK(close(fd));
	(void)unlink(in(fixture, "probe"));
	return fd >= 0 && !is_in_memory(fixture);
}

static struct sz_file *large_write(const struct fixture *fixture, const char *name,
				   unsigned int many)
{
	struct sz_file *file;

	OK(sz_backend_create(fixture->backend, SZ_LIVE, name, &file));
	for (unsigned int i = 0; i < many; i++) {
		large_fill(i);
		OK(sz_file_write(file, large, LARGE, (uint64_t)i * LARGE));
	}
	return file;
}

static void large_check(struct sz_file *file, unsigned int many)
{
	static uint8_t back[LARGE];
	size_t done;

	for (unsigned int i = 0; i < many; i++) {
		large_fill(i);
		OK(sz_file_read(file, back, LARGE, (uint64_t)i * LARGE, &done));
		assert_int_equal(done, LARGE);
		assert_memory_equal(back, large, LARGE);
	}
	sz_file_close(file);
}

static void test_large_writes_go_past_the_cache(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_file *file = large_write(fixture, "a", 4);

	if (has_direct(fixture))
		assert_int_equal(cached_pages(in(fixture, "live/a")), 0);
	OK(sz_file_write(file, "small", 5, 4ULL * LARGE)); /* both ways in one file */
	OK(sz_file_sync(file));
	OK(sz_backend_rename(fixture->backend, "a", "b"));
	large_fill(5);
	OK(sz_file_write(file, large, LARGE, 5ULL * LARGE));
	large_check(file, 4);
}

static void test_large_writes_cut_short_are_completed(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_file *file;

	kernel.transfers_short = true;
	file = large_write(fixture, "a", 4);
	kernel.transfers_short = false;
	large_check(file, 4);
}

static void test_without_direct_io_large_writes_go_through_the_cache(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_file *file;

	kernel_refuses("pwrite", EINVAL); /* as a file system that wants other alignment */
	kernel.fail_from = false;
	file = large_write(fixture, "a", 4);
	kernel_reset();
	if (has_direct(fixture))
		assert_true(cached_pages(in(fixture, "live/a")) > 0);
	large_check(file, 4);
}

static void test_on_a_slow_disk_large_writes_go_through_the_cache(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_file *file;

	kernel.is_slow = true;
	file = large_write(fixture, "a", LARGE_MANY);
	kernel.is_slow = false;
	assert_true(cached_pages(in(fixture, "live/a")) > 0);
	large_check(file, LARGE_MANY);
}

static void test_a_large_write_that_fails_is_reported(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT };
	const struct fixture *fixture = *state;
	struct sz_file *file;

	OK(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file));
	for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
		kernel_refuses("pwrite", errors[i]);
		assert_int_equal(sz_file_write(file, large, LARGE, 0), -errors[i]);
		assert_int_equal(kernel.count, 1); /* not tried the other way */
	}
	kernel_reset();
	sz_file_close(file);
}

/* A file's life: made, filled, synced, moved, listed, read, removed. The first error ends it. */
static int live_a_life(struct sz_backend *backend)
{
	struct listed listed = { 0 };
	struct sz_file *file = NULL;
	char buffer[8];
	size_t done = 0;
	int rc = sz_backend_create(backend, SZ_LIVE, "a", &file);

	if (rc == 0)
		rc = sz_file_write(file, "content", 7, 0);
	if (rc == 0)
		rc = sz_file_sync(file);
	sz_file_close(file);
	file = NULL;
	if (rc == 0)
		rc = sz_backend_sync_folder(backend, SZ_LIVE);
	if (rc == 0)
		rc = sz_backend_rename(backend, "a", "b");
	if (rc == 0)
		rc = sz_backend_sync_folder(backend, SZ_SEALED);
	if (rc == 0)
		rc = sz_backend_list(backend, SZ_SEALED, list_one, &listed);
	if (rc == 0 && listed.count != 1)
		return 1; /* a success that is none */
	if (rc == 0)
		rc = sz_backend_open(backend, SZ_SEALED, "b", &file);
	if (rc == 0)
		rc = sz_file_read(file, buffer, sizeof(buffer), 0, &done);
	if (rc == 0 && (done != 7 || memcmp(buffer, "content", 7) != 0))
		rc = 1;
	sz_file_close(file);
	if (rc == 0)
		rc = sz_backend_remove(backend, SZ_SEALED, "b");
	return rc;
}

/* So that a life begins with making live/. */
static void forget_life(const struct fixture *fixture)
{
	(void)unlink(in(fixture, "b"));
	(void)unlink(in(fixture, "live/a"));
	(void)rmdir(in(fixture, "live"));
}

/*
 * Fails one call after the other. Each failure has to be reported as it is, with no descriptor (nor,
 * under a sanitizer, memory) lost, and the next life has to succeed.
 */
static void test_each_failing_call_is_reported(void **state)
{
	static const int errors[] = { EIO, EMFILE, ENOSPC, EACCES };
	const struct fixture *fixture = *state;
	unsigned int before = open_descriptors();
	unsigned int calls;

	kernel_reset();
	OK(live_a_life(fixture->backend));
	calls = kernel.count;
	assert_true(calls > 15);
	for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
		for (unsigned int k = 1; k <= calls; k++) {
			int rc;

			forget_life(fixture);
			kernel_reset();
			kernel.fail_at = k;
			kernel.error = errors[i];
			rc = live_a_life(fixture->backend);
			kernel_reset();
			if (rc != -ENOMEM) /* of calloc, whatever errno says */
				assert_int_equal(rc, -errors[i]);
			assert_int_equal(open_descriptors(), before);
			forget_life(fixture);
			OK(live_a_life(fixture->backend));
		}
	}
}

static void test_a_failed_creation_leaves_no_file(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_file *file;

	put(fixture->backend, SZ_LIVE, "first", "");
	kernel_refuses("calloc", ENOMEM);
	assert_int_equal(sz_backend_create(fixture->backend, SZ_LIVE, "a", &file), -ENOMEM);
	assert_null(file);
	kernel_reset();
	assert_int_equal(list(fixture->backend, SZ_LIVE).count, 1);
}

static void test_a_failed_opening_leaves_nothing(void **state)
{
	const struct fixture *fixture = *state;
	unsigned int before = open_descriptors();
	struct sz_backend *backend;

	kernel_refuses("calloc", ENOMEM);
	assert_int_equal(sz_folder_open(fixture->path, false, &backend), -ENOMEM);
	assert_null(backend);
	kernel_reset();
	assert_int_equal(sz_folder_open(in(fixture, "missing"), false, &backend), -ENOENT);
	assert_int_equal(open_descriptors(), before);
}

static void test_who_writes_is_alone(void **state)
{
	const struct fixture *fixture = *state;
	struct sz_backend *writer;
	struct sz_backend *reader;
	struct sz_backend *other;

	OK(sz_folder_open(fixture->path, false, &writer));
	OK(sz_folder_open(fixture->path, true, &reader));
	OK(sz_folder_open(fixture->path, true, &other));
	OK(sz_backend_lock(reader, false));
	OK(sz_backend_lock(other, false));
	assert_int_equal(sz_backend_lock(writer, true), -EBUSY);
	sz_backend_close(reader);
	assert_int_equal(sz_backend_lock(writer, true), -EBUSY);
	sz_backend_close(other);
	OK(sz_backend_lock(writer, true));
	OK(sz_folder_open(fixture->path, true, &reader));
	assert_int_equal(sz_backend_lock(reader, false), -EBUSY);
	assert_int_equal(sz_backend_lock(reader, true), -EBUSY);
	sz_backend_close(writer);
	OK(sz_backend_lock(reader, false));
	sz_backend_close(reader);
	/* Where the host cannot tell, nobody is kept out. */
	OK(sz_folder_open(fixture->path, false, &writer));
	kernel_refuses("flock", EBADF);
	OK(sz_backend_lock(writer, true));
	kernel_reset();
	sz_backend_close(writer);
}

/* The whole file system is synced once after a removal; before, somebody else may have removed. */
static void test_what_is_removed_is_settled_once(void **state)
{
	struct fixture *fixture = *state;

	kernel_reset();
	sz_backend_settle(fixture->backend);
	assert_int_equal(kernel.settled, 1);
	put(fixture->backend, SZ_SEALED, "a", "x");
	sz_backend_settle(fixture->backend);
	assert_int_equal(kernel.settled, 1);
	OK(sz_backend_remove(fixture->backend, SZ_SEALED, "a"));
	sz_backend_settle(fixture->backend);
	sz_backend_settle(fixture->backend);
	assert_int_equal(kernel.settled, 2);
	assert_int_equal(sz_backend_remove(fixture->backend, SZ_SEALED, "a"), -ENOENT);
	sz_backend_settle(fixture->backend);
	assert_int_equal(kernel.settled, 2);
	kernel_reset();
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_the_path_has_to_be_a_folder),
		CASE(test_read_only_changes_nothing),
		CASE(test_only_the_owner_gets_at_files),
		CASE(test_descriptors_are_not_inherited),
		CASE(test_only_regular_files_are_objects),
		CASE(test_live_is_not_followed_elsewhere),
		CASE(test_a_regular_file_called_live_is_an_error),
		CASE(test_it_stays_the_same_folder_when_its_path_changes),
		CASE(test_a_folder_that_is_gone_is_enodev),
		CASE(test_live_comes_back_when_it_was_deleted),
		CASE(test_live_is_durable_before_the_first_file_in_it),
		CASE(test_live_is_not_taken_for_durable_when_its_sync_failed),
		CASE(test_rename_without_noreplace),
		CASE(test_a_file_removed_during_a_listing_is_skipped),
		CASE(test_short_and_interrupted_transfers_are_completed),
		CASE(test_live_files_are_read_from_the_disk),
		CASE(test_large_writes_go_past_the_cache),
		CASE(test_large_writes_cut_short_are_completed),
		CASE(test_without_direct_io_large_writes_go_through_the_cache),
		CASE(test_on_a_slow_disk_large_writes_go_through_the_cache),
		CASE(test_a_large_write_that_fails_is_reported),
		CASE(test_each_failing_call_is_reported),
		CASE(test_a_failed_creation_leaves_no_file),
		CASE(test_a_failed_opening_leaves_nothing),
		CASE(test_who_writes_is_alone),
		CASE(test_what_is_removed_is_settled_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
