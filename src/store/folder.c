/*
 * The folder backend: objects are regular files in a folder of the host's file system.
 *
 * The folder is opened once; everything is found relative to that descriptor, so it stays the same
 * folder when its path is renamed or replaced. Nothing else is kept: live/ is looked up anew by each
 * operation, and there is no cache that could disagree with the host.
 *
 * 1. No link is followed below the folder, and only regular files are opened. Opening never waits:
 *    a FIFO that somebody put there does not hang us.
 * 2. A name is taken with O_EXCL or RENAME_NOREPLACE: no content is ever replaced.
 * 3. live/ itself is durable before sync_folder says so of a file in it.
 * 4. A folder that was deleted, or whose file system is gone, is -ENODEV, also where the kernel
 *    would let us go on in what nobody can reach any more.
 * 5. A live file that is opened before this process has made one is of a process before: it is read from the disk.
 */
#include "store/direct.h"
#include "store/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct folder {
	struct sz_backend backend;
	char *path;
	int fd;
	bool read_only;
	atomic_bool live_is_durable; /* live/'s own name was synced since it was made or found */
	atomic_bool has_made_live;   /* a file, by this process */
	atomic_bool has_removed;     /* one, since it was settled; maybe a process before */
	struct sz_direct_folder direct;
};

struct folder_file {
	struct sz_file file;
	struct folder *folder;
	int fd;
	struct sz_direct_file direct;
};

static struct folder *folder_of(struct sz_backend *backend)
{
	return (struct folder *)(void *)backend;
}

static struct folder_file *file_of(struct sz_file *file)
{
	return (struct folder_file *)(void *)file;
}

static void cleanup_folder(struct folder **folder)
{
	if (*folder == NULL)
		return;
	sz_cleanup_fd(&(*folder)->fd);
	free((*folder)->path);
	free(*folder);
}

static void cleanup_dir(DIR **dir)
{
	if (*dir != NULL)
		(void)closedir(*dir);
}

static bool is_gone(const struct folder *folder)
{
	struct stat status;

	if (fstat(folder->fd, &status) != 0)
		return errno == ESTALE || errno == ENOTCONN || errno == ENODEV;
	return status.st_nlink == 0;
}

/* What to return for a failed system call: a missing folder is not a missing object. */
static int failure(const struct folder *folder, int error)
{
	switch (error) {
	case ENOENT:
	case ESTALE:
	case ENOTCONN:
		return is_gone(folder) ? -ENODEV : -error;
	default:
		return -error;
	}
}

/*
 * openat for a single path component. openat2 refuses links of every sort in the whole resolution;
 * where the kernel lacks it, or a sandbox forbids it (EPERM), O_NOFOLLOW does the same for a
 * single component. Returns a descriptor or -errno.
 */
static int open_beneath(int folder_fd, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (__u64)(unsigned int)(flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK |
					       O_NOCTTY),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, folder_fd, name, &how, sizeof(how));

	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = openat(folder_fd, name, (int)how.flags, mode);
	return fd < 0 ? -errno : (int)fd;
}

/* Opens a part's folder. *fd_out or -errno; -ENOENT: there is no live/. */
static int part_open(const struct folder *folder, enum sz_part part, int *fd_out)
{
	int fd = open_beneath(folder->fd, part == SZ_LIVE ? SZ_LIVE_FOLDER : ".",
			      O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return failure(folder, -fd);
	*fd_out = fd;
	return 0;
}

/* The same, and makes live/ if it is missing. */
static int part_open_or_make(struct folder *folder, enum sz_part part, int *fd_out)
{
	int rc = part_open(folder, part, fd_out);

	if (rc != -ENOENT || part != SZ_LIVE)
		return rc;
	if (mkdirat(folder->fd, SZ_LIVE_FOLDER, 0700) != 0 && errno != EEXIST)
		return failure(folder, errno);
	atomic_store(&folder->live_is_durable, false);
	return part_open(folder, part, fd_out);
}

static int file_make(struct folder *folder, int *fd, bool is_writable, struct sz_file **file_out)
{
	struct folder_file *file = calloc(1, sizeof(*file));

	if (file == NULL)
		return -ENOMEM;
	file->file.ops = folder->backend.ops;
	file->folder = folder;
	file->fd = *fd;
	sz_direct_init(&file->direct, is_writable);
	*fd = -1;
	*file_out = &file->file;
	return 0;
}

/* Hands one entry on, if it is a regular file. */
static int list_entry(const struct folder *folder, int part_fd, const struct dirent *entry,
		      sz_list_fn *each, void *context)
{
	struct stat status;

	if (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)
		return 0;
	if (fstatat(part_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
		int rc = failure(folder, errno);

		return rc == -ENOENT ? 0 : rc; /* removed since it was read */
	}
	if (!S_ISREG(status.st_mode))
		return 0;
	return each(context, entry->d_name, (uint64_t)status.st_size);
}

static int folder_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each,
		       void *context)
{
	struct folder *folder = folder_of(backend);
	CLEANUP(cleanup_dir) DIR *dir = NULL;
	CLEANUP_FD int fd = -1;
	int rc = part_open(folder, part, &fd);

	if (rc == -ENOENT && part == SZ_LIVE)
		return 0;
	if (rc != 0)
		return rc;
	dir = fdopendir(fd);
	if (dir == NULL)
		return -errno;
	fd = -1; /* dir owns it now */
	while (rc == 0) {
		const struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (entry == NULL && errno != 0)
			return failure(folder, errno);
		if (entry == NULL)
			break;
		rc = list_entry(folder, dirfd(dir), entry, each, context);
	}
	/* Some file systems list a deleted folder as an empty one. */
	if (rc == 0 && is_gone(folder))
		return -ENODEV;
	return rc;
}

static int folder_create(struct sz_backend *backend, enum sz_part part, const char *name,
			 struct sz_file **file_out)
{
	struct folder *folder = folder_of(backend);
	CLEANUP_FD int part_fd = -1;
	CLEANUP_FD int fd = -1;
	int rc;

	if (folder->read_only)
		return -EROFS;
	rc = part_open_or_make(folder, part, &part_fd);
	if (rc != 0)
		return rc;
	fd = open_beneath(part_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return failure(folder, -fd);
	rc = file_make(folder, &fd, true, file_out);
	if (rc != 0)
		(void)unlinkat(part_fd, name, 0);
	else if (part == SZ_LIVE)
		atomic_store(&folder->has_made_live, true);
	return rc;
}

/*
 * When the kernel could not write pages it has them still, and takes them for written: what was read would not be
 * there after a restart. Where they cannot be written now either, the reader meets what is on the disk. Not once we
 * write here ourselves: what an earlier opening left has been read by then.
 */
#define WRITTEN (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)
static void cache_drop(int fd)
{
	(void)sync_file_range(fd, 0, 0, WRITTEN);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int folder_open(struct sz_backend *backend, enum sz_part part, const char *name,
		       struct sz_file **file_out)
{
	struct folder *folder = folder_of(backend);
	CLEANUP_FD int part_fd = -1;
	CLEANUP_FD int fd = -1;
	struct stat status;
	int rc = part_open(folder, part, &part_fd);

	if (rc != 0)
		return rc;
	fd = open_beneath(part_fd, name, O_RDONLY, 0);
	if (fd == -ELOOP || fd == -ENXIO) /* a link, a socket */
		return -ENOENT;
	if (fd < 0)
		return failure(folder, -fd);
	if (fstat(fd, &status) != 0)
		return failure(folder, errno);
	if (!S_ISREG(status.st_mode))
		return -ENOENT;
	if (part == SZ_LIVE && !atomic_load(&folder->has_made_live))
		cache_drop(fd);
	return file_make(folder, &fd, false, file_out);
}

static int folder_rename(struct sz_backend *backend, const char *live_name, const char *sealed_name)
{
	struct folder *folder = folder_of(backend);
	CLEANUP_FD int live_fd = -1;
	int rc;

	if (folder->read_only)
		return -EROFS;
	rc = part_open(folder, SZ_LIVE, &live_fd);
	if (rc != 0)
		return rc;
	if (renameat2(live_fd, live_name, folder->fd, sealed_name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return failure(folder, errno);
	/* The file system knows no RENAME_NOREPLACE (NFS): a link is the other way to take a name. */
	if (linkat(live_fd, live_name, folder->fd, sealed_name, 0) != 0 ||
	    unlinkat(live_fd, live_name, 0) != 0)
		return failure(folder, errno);
	return 0;
}

static int folder_remove(struct sz_backend *backend, enum sz_part part, const char *name)
{
	struct folder *folder = folder_of(backend);
	CLEANUP_FD int part_fd = -1;
	int rc;

	if (folder->read_only)
		return -EROFS;
	rc = part_open(folder, part, &part_fd);
	if (rc != 0)
		return rc;
	if (unlinkat(part_fd, name, 0) == 0) {
		atomic_store(&folder->has_removed, true);
		return 0;
	}
	return errno == EISDIR ? -ENOENT : failure(folder, errno);
}

static int folder_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	struct folder *folder = folder_of(backend);
	CLEANUP_FD int part_fd = -1;
	int rc = part_open(folder, part, &part_fd);

	if (rc == -ENOENT && part == SZ_LIVE)
		return 0; /* nothing was ever in it */
	if (rc != 0)
		return rc;
	if (part == SZ_LIVE && !atomic_load(&folder->live_is_durable)) {
		if (fsync(folder->fd) != 0)
			return failure(folder, errno);
		atomic_store(&folder->live_is_durable, true);
	}
	if (fsync(part_fd) != 0)
		return failure(folder, errno);
	return is_gone(folder) ? -ENODEV : 0;
}

static int folder_space(struct sz_backend *backend, struct sz_space *space_out)
{
	struct folder *folder = folder_of(backend);
	struct statvfs status;
	struct stat folder_status;

	if (fstatvfs(folder->fd, &status) != 0 || fstat(folder->fd, &folder_status) != 0)
		return failure(folder, errno);
	if (folder_status.st_nlink == 0)
		return -ENODEV;
	*space_out = (struct sz_space){
		.free_bytes = (uint64_t)status.f_bavail * status.f_frsize,
		/* What is kept for root belongs to neither figure. */
		.total_bytes = (uint64_t)(status.f_blocks - status.f_bfree + status.f_bavail) *
			       status.f_frsize,
		.disk = folder_status.st_dev,
	};
	return 0;
}

static void folder_settle(struct sz_backend *backend)
{
	struct folder *folder = folder_of(backend);

	if (atomic_exchange(&folder->has_removed, false))
		(void)syncfs(folder->fd);
}

/* A folder cannot be opened for writing, as other locks want it. NFS makes of this one such a lock: EBADF. */
static int folder_lock(struct sz_backend *backend, bool is_exclusive)
{
	struct folder *folder = folder_of(backend);

	if (flock(folder->fd, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : 0;
}

static void folder_close(struct sz_backend *backend)
{
	struct folder *folder = folder_of(backend);

	cleanup_folder(&folder);
}

static int folder_file_read(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
			    size_t *done_out)
{
	return sz_pread(file_of(file)->fd, buffer, length, offset, done_out);
}

/* File systems that cannot tell what they have in memory fail it: EOPNOTSUPP. */
static int folder_file_read_cached(struct sz_file *file, void *buffer, size_t length,
				   uint64_t offset)
{
	struct iovec whole = { .iov_base = buffer, .iov_len = length };
	ssize_t done = preadv2(file_of(file)->fd, &whole, 1, (off_t)offset, RWF_NOWAIT);

	return done >= 0 && (size_t)done == length ? 0 : -EAGAIN;
}

static int folder_file_write(struct sz_file *file, const void *buffer, size_t length,
			     uint64_t offset)
{
	struct folder_file *self = file_of(file);

	return sz_direct_write(&self->folder->direct, &self->direct, self->fd, buffer, length,
			       offset);
}

/* Without its waiting flags it leaves errors to who syncs the file. */
static void folder_file_sync_begin(struct sz_file *file)
{
	(void)sync_file_range(file_of(file)->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int folder_file_sync(struct sz_file *file)
{
	const struct folder_file *self = file_of(file);

	if (fdatasync(self->fd) != 0)
		return failure(self->folder, errno);
	return is_gone(self->folder) ? -ENODEV : 0;
}

static int folder_file_stat(struct sz_file *file, uint64_t *size_out, uint64_t *inode_out)
{
	const struct folder_file *self = file_of(file);
	struct stat status;

	if (fstat(self->fd, &status) != 0)
		return failure(self->folder, errno);
	*size_out = (uint64_t)status.st_size;
	*inode_out = (uint64_t)status.st_ino;
	return 0;
}

/* Locks of open file descriptions: several threads, and processes that came of a fork, are told apart. */
static int folder_file_hold(struct sz_file *file)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(file_of(file)->fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

static int folder_file_is_held(struct sz_file *file, bool *is_held_out)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(file_of(file)->fd, F_OFD_GETLK, &lock) != 0)
		return -errno;
	*is_held_out = lock.l_type != F_UNLCK;
	return 0;
}

static void folder_file_close(struct sz_file *file)
{
	sz_direct_fini(&file_of(file)->direct);
	sz_cleanup_fd(&file_of(file)->fd);
	free(file);
}

static const struct sz_backend_ops folder_ops = {
	.list = folder_list,
	.create = folder_create,
	.open = folder_open,
	.rename = folder_rename,
	.remove = folder_remove,
	.sync_folder = folder_sync_folder,
	.space = folder_space,
	.settle = folder_settle,
	.lock = folder_lock,
	.close = folder_close,
	.file_read = folder_file_read,
	.file_read_cached = folder_file_read_cached,
	.file_write = folder_file_write,
	.file_sync_begin = folder_file_sync_begin,
	.file_sync = folder_file_sync,
	.file_stat = folder_file_stat,
	.file_hold = folder_file_hold,
	.file_is_held = folder_file_is_held,
	.file_close = folder_file_close,
};

int sz_folder_open(const char *path, bool read_only, struct sz_backend **backend_out)
{
	CLEANUP(cleanup_folder) struct folder *folder = calloc(1, sizeof(*folder));

	*backend_out = NULL;
	if (folder == NULL)
		return -ENOMEM;
	folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder->fd < 0)
		return -errno;
	folder->path = strdup(path);
	if (folder->path == NULL)
		return -ENOMEM;
	folder->backend.ops = &folder_ops;
	folder->backend.label = folder->path;
	folder->read_only = read_only;
	atomic_init(&folder->has_removed, !read_only);
	*backend_out = &TAKE(folder)->backend;
	return 0;
}
