/*
 * lock: one process has a store open for writing. An open file description lock on the lock record, a file
 * in the store's folder; the record, encrypted, says who holds it and names its own inode, so that a
 * copied one blocks nobody.
 *
 * The record is never rewritten: a new holder puts a new file, already locked, in its place. Whoever
 * got the lock of a file that is no longer in that place tries again. That is done only once the store
 * is known to be one that may be written to: until then the lock of what is there, or of an empty
 * file, is enough.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOST_BYTES   64U
#define RECORD_BYTES (HOST_BYTES + 8 + 16 + 8)

static const char purpose[] = "szpool1 lock";

static int record_write(struct sz_store *store, int fd)
{
	CLEANUP_BYTES struct sz_bytes note = { 0 };
	uint8_t record[RECORD_BYTES] = { 0 };
	struct stat status;
	int result;

	(void)gethostname((char *)record, HOST_BYTES - 1);
	sz_put_le64(record + HOST_BYTES, (uint64_t)getpid());
	memcpy(record + HOST_BYTES + 8, store->open_id, sizeof(store->open_id));
	if (fstat(fd, &status) != 0)
		return -errno;
	sz_put_le64(record + HOST_BYTES + 24, status.st_ino);
	result = sz_note_encode(store->keys->state, purpose, record, sizeof(record), &note);
	return result != 0 ? result : sz_pwrite(fd, note.data, note.length, 0);
}

static bool record_read(const struct sz_store *store, int fd, struct sz_bytes *record_out)
{
	uint8_t note[RECORD_BYTES + SZ_NOTE_OVERHEAD];
	size_t length;

	return sz_pread(fd, note, sizeof(note), 0, &length) == 0 &&
	       sz_note_decode(store->keys->state, purpose, note, length, record_out) == 0 &&
	       record_out->length == RECORD_BYTES;
}

/* Was the record made here? That of a copy names the inode of the one that it was copied from. */
static bool record_is_own(const struct sz_store *store, int fd)
{
	CLEANUP_BYTES struct sz_bytes record = { 0 };
	struct stat status;

	return record_read(store, fd, &record) && fstat(fd, &status) == 0 &&
	       sz_get_le64(record.data + HOST_BYTES + 24) == status.st_ino;
}

/* -EBUSY, with the holder's name. Readers leave no record. */
static int held_by(const struct sz_store *store, int fd, struct sz_error *error)
{
	CLEANUP_BYTES struct sz_bytes record = { 0 };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_RDLCK)
		return sz_fail(error, -EBUSY, "%s is being read by another process", store->path);
	if (!record_read(store, fd, &record))
		return sz_fail(error, -EBUSY, "%s is open in another process", store->path);
	return sz_fail(error, -EBUSY,
		       "%s is open in another process: %llu on %.63s; wait until it has ended",
		       store->path, (unsigned long long)sz_get_le64(record.data + HOST_BYTES),
		       (const char *)record.data);
}

static int lock_set(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static bool is_in_place(const char *path, int fd)
{
	struct stat here;
	struct stat there;

	return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

/* A new record, locked before others can see it. */
static int record_replace(struct sz_store *store, int *fd_out)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;
	uint64_t random;
	int result;

	sz_random(&random, sizeof(random));
	if (asprintf(&path, "%s/%016llx", store->path, (unsigned long long)random) < 0)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	result = lock_set(fd, F_WRLCK);
	if (result == 0)
		result = record_write(store, fd);
	if (result == 0 && rename(path, store->lock_path) != 0)
		result = -errno;
	if (result != 0) {
		(void)unlink(path);
		return result;
	}
	*fd_out = sz_fd_take(&fd);
	return 0;
}

/* -EAGAIN: it was replaced meanwhile. */
static int lock_try(struct sz_store *store, struct sz_error *error)
{
	int flags = writes_folders(store) ? O_RDWR | O_CREAT : O_RDONLY;
	CLEANUP_FD int fd =
		open(store->lock_path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int result;

	if (fd < 0 && !writes_folders(store) &&
	    (errno == ENOENT || errno == EACCES || errno == EROFS))
		return 0; /* nobody can be writing to it, or nobody can be asked */
	if (fd < 0)
		return sz_fail(error, -errno, "%s: the lock record: %s", store->path,
			       strerror(errno));
	result = lock_set(fd, writes_folders(store) ? F_WRLCK : F_RDLCK);
	if (result == -EAGAIN)
		return is_in_place(store->lock_path, fd) ? held_by(store, fd, error) : -EAGAIN;
	if (result != 0)
		return sz_fail(error, result, "%s: locking: %s", store->path, strerror(-result));
	if (!is_in_place(store->lock_path, fd))
		return -EAGAIN;
	store->is_own = record_is_own(store, fd);
	store->lock_fd = sz_fd_take(&fd);
	return 0;
}

/* The caller's. */
static char *record_path(const struct sz_store *store)
{
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_id id;
	char *path;

	sz_id_make(SZ_KIND_LOCK, SZ_STORE_WIDE, 0, 0, &id);
	sz_name_encode(store->keys, &id, name);
	return asprintf(&path, "%s/%s", store->path, name) < 0 ? NULL : path;
}

int sz_lock_take(struct sz_store *store, struct sz_error *error)
{
	int result = -EAGAIN;

	if (store->path == NULL)
		return 0;
	store->lock_path = record_path(store);
	if (store->lock_path == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	for (unsigned int i = 0; i < LOCK_TRIES && result == -EAGAIN; i++)
		result = lock_try(store, error);
	return result != -EAGAIN
		       ? result
		       : sz_fail(error, -EBUSY, "%s is being opened by others", store->path);
}

bool sz_lock_is_own(const struct sz_store *store)
{
	CLEANUP_FD int fd = -1;
	CLEANUP_FREE char *path = NULL;

	if (store->path == NULL || store->is_own)
		return true;
	path = record_path(store);
	if (path == NULL)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd >= 0 && record_is_own(store, fd);
}

int sz_lock_announce(struct sz_store *store, struct sz_error *error)
{
	CLEANUP_FD int fd = -1;
	int result;

	if (!writes_folders(store) || store->lock_fd < 0)
		return 0;
	result = record_replace(store, &fd);
	/* On a full disk the record of before is locked all the same; it only names another holder. */
	if (is_full(result))
		return 0;
	if (result != 0)
		return sz_fail(error, result, "%s: the lock record: %s", store->path,
			       strerror(-result));
	(void)close(store->lock_fd);
	store->lock_fd = sz_fd_take(&fd);
	return 0;
}

int sz_lock_verify(const struct sz_store *store)
{
	if (store->lock_fd < 0)
		return 0;
	return is_in_place(store->lock_path, store->lock_fd) ? 0 : -ESTALE;
}

void sz_lock_release(struct sz_store *store)
{
	struct stat status;

	/* Of an opening that failed before it was announced. */
	if (store->lock_fd >= 0 && writes_folders(store) && fstat(store->lock_fd, &status) == 0 &&
	    status.st_size == 0 && is_in_place(store->lock_path, store->lock_fd))
		(void)unlink(store->lock_path);
	sz_cleanup_fd(&store->lock_fd);
	store->lock_fd = -1;
	free(TAKE(store->lock_path));
}
