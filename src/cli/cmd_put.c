/*
 * put: files and trees into the pool, with modes, owners, times, extended attributes, hard links and
 * holes.
 *
 * Invariants
 * 1. A name in the pool is the old file or the complete new one, never a part: a file is made without
 *    a name, filled, and linked in one transaction. Whatever ends the command, a part has no name
 *    and is freed.
 * 2. What cannot be read on this side is named, left out, and makes the exit code 1; the rest goes
 *    on. What fails in the pool ends the command.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <sys/xattr.h>
/* The names of ACLs; what both declare, sys/xattr.h has to declare first. */
#include <linux/xattr.h>
#include <unistd.h>

#define XATTR_NAMES_BYTES 65536U /* XATTR_LIST_MAX: all names of a file */
#define XATTR_VALUE_BYTES 65536U /* XATTR_SIZE_MAX */
#define FILE_TEXT_BYTES   40U
#define STORE_FOLDERS     (SZ_DEVICES_MAX + 1U)

struct put {
	struct invocation *invocation;
	struct sz_pool *pool;
	struct sz_fs *fs;
	struct sz_error *error;
	struct link_tree links;
	struct progress progress;
	uint64_t left_out;
	uint64_t changed;               /* while they were read */
	char *piece;                    /* PIECE_BYTES */
	char *names;                    /* XATTR_NAMES_BYTES */
	char *value;                    /* XATTR_VALUE_BYTES */
	struct stat own[STORE_FOLDERS]; /* the store's folders, which must not go into themselves */
	size_t own_count;
};

/* "; the file has 1.50G", or "": it has no size that is known. */
static void file_size_text(const struct put *put, const char *path, char text[FILE_TEXT_BYTES])
{
	char size[SIZE_TEXT_BYTES];
	struct stat stat;

	text[0] = '\0';
	if (strcmp(put->invocation->operands[1], "-") == 0 || lstat(path, &stat) != 0)
		return;
	size_text((uint64_t)stat.st_size, size);
	(void)snprintf(text, FILE_TEXT_BYTES, "; the file has %s", size);
}

static int pool_fail(struct put *put, const char *path, int result)
{
	struct sz_pool_space space;
	char disk[DISK_TEXT_BYTES];
	char file[FILE_TEXT_BYTES];

	if (result != -ENOSPC || sz_pool_space(put->pool, &space) != 0 || !space.is_disks)
		return sz_fail(put->error, result, "%s: cannot be stored: %s", path,
			       strerror(-result));
	disk_space_text(put->invocation, disk);
	file_size_text(put, path, file);
	return sz_fail(put->error, result,
		       "%s: cannot be stored: no space is left on the store's disk, but for what "
		       "removing and closing need%s%s",
		       path, disk, file);
}

/* Always 0: the command goes on. */
static int leave_out(struct put *put, const char *path, const char *why)
{
	char text[400];

	(void)snprintf(text, sizeof(text), "left out: %s", why);
	file_tell(&put->progress, path, text);
	put->left_out++;
	return 0;
}

/* What is in the way of one entry does not stand in the way of the others. */
static int link_fail(struct put *put, const char *path, int result)
{
	if (result == -EISDIR)
		return leave_out(put, path, "there is a folder of that name in the pool");
	return pool_fail(put, path, result);
}

static int xattr_leave_out(struct put *put, const char *path, const char *name, int code)
{
	char why[NAME_BYTES + 64];

	(void)snprintf(why, sizeof(why), "its extended attribute %s: %s", name, strerror(code));
	return leave_out(put, path, why);
}

static int xattr_put(struct put *put, const char *path, uint64_t inode, const char *name)
{
	ssize_t size = lgetxattr(path, name, put->value, XATTR_VALUE_BYTES);

	int result;

	if (size < 0 && (errno == ENODATA || errno == EPERM || errno == EACCES))
		return 0; /* gone, or not ours to read: security.*, trusted.* */
	if (size < 0)
		return xattr_leave_out(put, path, name, errno);
	result = sz_fs_setxattr(put->fs, inode, name, put->value, (size_t)size, 0);
	if (result == -E2BIG || result == -EINVAL || result == -EOPNOTSUPP)
		return xattr_leave_out(put, path, name, -result);
	return result;
}

/* Names of other file systems' making ("system.nfs4_acl") would mean nothing in the pool. */
static bool xattr_is_kept(const char *name)
{
	return strncmp(name, "system.", 7) != 0 || strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0 ||
	       strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT) == 0;
}

static int xattrs_put(struct put *put, const char *path, uint64_t inode)
{
	ssize_t length = llistxattr(path, put->names, XATTR_NAMES_BYTES);
	int result = 0;

	if (length < 0 && errno != EOPNOTSUPP)
		return xattr_leave_out(put, path, "names", errno);
	for (ssize_t at = 0; result == 0 && at < length; at += (ssize_t)strlen(put->names + at) + 1)
		if (xattr_is_kept(put->names + at))
			result = xattr_put(put, path, inode, put->names + at);
	return result;
}

/* Copies [offset, end), or up to the end of the file. *errno_out: what failed on this side. */
static int range_put(struct put *put, int fd, uint64_t inode, uint64_t *offset, uint64_t end,
		     int *errno_out)
{
	size_t done = PIECE_BYTES;
	int result = 0;

	while (result == 0 && *offset < end && done > 0) {
		size_t wanted = end - *offset < PIECE_BYTES ? (size_t)(end - *offset) : PIECE_BYTES;
		int read = sz_pread(fd, put->piece, wanted, *offset, &done);

		if (read != 0) {
			*errno_out = -read;
			return 0;
		}
		if (done > 0)
			result = sz_fs_write(put->fs, inode, put->piece, done, *offset);
		*offset += done;
		progress_add(&put->progress, done);
		if (result == 0)
			result = interrupt_check(put->error);
	}
	return result;
}

/* Holes of the source are not written, so they are holes in the pool. */
static int content_put(struct put *put, int fd, const struct stat *stat, uint64_t inode,
		       int *errno_out)
{
	uint64_t size = (uint64_t)stat->st_size;
	uint64_t offset = 0;
	int result = 0;

	if ((uint64_t)stat->st_blocks * 512 >= size)
		return range_put(put, fd, inode, &offset, UINT64_MAX, errno_out);
	while (result == 0 && *errno_out == 0 && offset < size) {
		off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno == ENXIO) /* a hole up to the end */
			break;
		if (data < 0) /* the file system does not know: all is data */
			return range_put(put, fd, inode, &offset, UINT64_MAX, errno_out);
		hole = lseek(fd, data, SEEK_HOLE);
		progress_add(&put->progress, (uint64_t)data - offset);
		offset = (uint64_t)data;
		result = range_put(put, fd, inode, &offset, hole < 0 ? size : (uint64_t)hole,
				   errno_out);
		if (offset < (uint64_t)hole) /* the file became shorter meanwhile */
			break;
	}
	if (result == 0 && *errno_out == 0)
		result = sz_fs_setattr(put->fs, inode, SZ_SET_SIZE | SZ_SET_MTIME, stat);
	return result;
}

/* Gives a filled, unnamed inode its attributes and its name. */
static int finish(struct put *put, const char *path, const struct stat *stat, uint64_t inode,
		  uint64_t folder, const char *name)
{
	int result = path == NULL ? 0 : xattrs_put(put, path, inode);

	if (result == 0 && stat != NULL)
		result = sz_fs_setattr(put->fs, inode, SZ_SET_ATIME | SZ_SET_MTIME, stat);
	if (result == 0)
		result = sz_fs_link_over(put->fs, inode, folder, name);
	if (result == 0)
		name_changed(put->fs, folder, name);
	if (result == 0 && stat != NULL && stat->st_nlink > 1)
		result = links_add(&put->links, stat->st_dev, stat->st_ino, inode, NULL);
	return result;
}

static struct sz_fs_new new_of(const struct stat *stat)
{
	return (struct sz_fs_new){ .mode = stat->st_mode,
				   .uid = stat->st_uid,
				   .gid = stat->st_gid,
				   .rdev = stat->st_rdev };
}

static bool time_differs(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

/* What was read may be of several states of the file, and of none. */
static void change_check(struct put *put, const char *path, int fd, const struct stat *before)
{
	struct stat after;
	struct stat named;
	bool is_same = fstat(fd, &after) == 0 && after.st_size == before->st_size &&
		       !time_differs(&after.st_mtim, &before->st_mtim);

	/* A name more, or less, or another file in its place: what was read stays what it was. */
	if (is_same && (!time_differs(&after.st_ctim, &before->st_ctim) ||
			after.st_nlink != before->st_nlink || lstat(path, &named) != 0 ||
			named.st_dev != after.st_dev || named.st_ino != after.st_ino))
		return;
	file_tell(&put->progress, path, "changed while it was read; put it again");
	put->changed++;
}

static int file_put(struct put *put, const char *path, uint64_t folder, const char *name)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct sz_fs_new new;
	struct stat stat;
	uint64_t inode;
	int host_errno = 0;
	int result;

	if (fd < 0 || fstat(fd, &stat) != 0)
		return leave_out(put, path, strerror(errno));
	if (!S_ISREG(stat.st_mode))
		return leave_out(put, path, "it was replaced meanwhile");
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	new = new_of(&stat);
	result = sz_fs_create_unnamed(put->fs, folder, &new, NULL, &inode);
	if (result != 0)
		return pool_fail(put, path, result);
	result = content_put(put, fd, &stat, inode, &host_errno);
	if (result == 0 && host_errno == 0)
		result = finish(put, path, &stat, inode, folder, name);
	if (result == 0 && host_errno == 0)
		change_check(put, path, fd, &stat);
	sz_fs_release(put->fs, inode, 1);
	if (host_errno != 0)
		return leave_out(put, path, strerror(host_errno));
	return result == 0 || result == -EINTR ? result : link_fail(put, path, result);
}

/* Symlinks, FIFOs, devices. */
static int special_put(struct put *put, const char *path, const struct stat *stat, uint64_t folder,
		       const char *name)
{
	const struct sz_fs_new new = new_of(stat);
	char target[4096]; /* PATH_MAX */
	ssize_t length = 0;
	uint64_t inode;
	int result;

	if (S_ISSOCK(stat->st_mode)) {
		if (!option_is_given(put->invocation, OPTION_QUIET))
			file_tell(&put->progress, path, "a socket is not stored");
		return 0;
	}
	if (S_ISLNK(stat->st_mode)) {
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			return leave_out(put, path, strerror(errno));
	}
	target[length] = '\0';
	result = sz_fs_create_unnamed(put->fs, folder, &new, S_ISLNK(stat->st_mode) ? target : NULL,
				      &inode);
	if (result == 0) {
		result = finish(put, path, stat, inode, folder, name);
		sz_fs_release(put->fs, inode, 1);
	}
	return result == 0 ? 0 : link_fail(put, path, result);
}

static int entry_put(struct put *put, FTSENT *entry, uint64_t folder, const char *name)
{
	const struct stat *stat = entry->fts_statp;
	const struct link *first =
		stat->st_nlink < 2 ? NULL : links_find(&put->links, stat->st_dev, stat->st_ino);
	int result;

	put->progress.files++;
	if (first != NULL) {
		result = sz_fs_link_over(put->fs, first->to, folder, name);
		if (result == 0)
			name_changed(put->fs, folder, name);
		return result == 0 ? 0 : link_fail(put, entry->fts_path, result);
	}
	if (S_ISREG(stat->st_mode))
		return file_put(put, entry->fts_path, folder, name);
	return special_put(put, entry->fts_path, stat, folder, name);
}

static bool is_own(const struct put *put, const struct stat *stat)
{
	for (size_t i = 0; i < put->own_count; i++)
		if (put->own[i].st_dev == stat->st_dev && put->own[i].st_ino == stat->st_ino)
			return true;
	return false;
}

/* fts_number of a folder becomes its inode in the pool, 0 if it is left out. */
static int folder_put(struct put *put, FTS *walk, FTSENT *entry, uint64_t parent, const char *name)
{
	const struct sz_fs_new new = new_of(entry->fts_statp);
	struct stat existing;
	uint64_t inode = 0;
	bool is_place;
	int result;

	if (is_own(put, entry->fts_statp)) {
		(void)fts_set(walk, entry, FTS_SKIP);
		if (!option_is_given(put->invocation, OPTION_QUIET))
			file_tell(&put->progress, entry->fts_path,
				  "the store is not put into itself");
		return 0;
	}
	result = sz_fs_mkdir(put->fs, parent, name, &new, &inode);
	if (result == 0)
		name_changed(put->fs, parent, name);
	if (result == -EEXIST) {
		result = place_find(put->fs, parent, name, &is_place);
		if (is_place) {
			(void)fts_set(walk, entry, FTS_SKIP);
			return leave_out(put, entry->fts_path,
					 "a dataset has its place in the pool; put it there with "
					 "--dataset");
		}
		if (result == 0)
			result = sz_fs_lookup(put->fs, parent, name, &inode);
		if (result == 0)
			result = sz_fs_getattr(put->fs, inode, &existing);
		if (result == 0 && !S_ISDIR(existing.st_mode)) {
			(void)fts_set(walk, entry, FTS_SKIP);
			return leave_out(put, entry->fts_path,
					 "there is a file of that name in the pool");
		}
	}
	entry->fts_number = (long)inode;
	return result == 0 ? 0 : pool_fail(put, entry->fts_path, result);
}

/* After its content: that changes its times. */
static int folder_finish(struct put *put, FTSENT *entry)
{
	uint64_t inode = (uint64_t)entry->fts_number;
	int result = 0;

	if (inode != 0)
		result = xattrs_put(put, entry->fts_path, inode);
	if (inode != 0 && result == 0)
		result = sz_fs_setattr(put->fs, inode,
				       SZ_SET_MODE | SZ_SET_UID | SZ_SET_GID | SZ_SET_ATIME |
					       SZ_SET_MTIME,
				       entry->fts_statp);
	if (inode != 0)
		inode_changed(put->fs, inode);
	return result == 0 ? 0 : pool_fail(put, entry->fts_path, result);
}

static int step_put(struct put *put, FTS *walk, FTSENT *entry, uint64_t folder, const char *name)
{
	bool is_top = entry->fts_level == FTS_ROOTLEVEL;
	uint64_t parent = is_top ? folder : (uint64_t)entry->fts_parent->fts_number;
	int result;

	if (!is_top)
		name = entry->fts_name;
	switch (entry->fts_info) {
	case FTS_D:
		return folder_put(put, walk, entry, parent, name);
	case FTS_DP:
		return folder_finish(put, entry);
	case FTS_DNR:
		result = leave_out(put, entry->fts_path, strerror(entry->fts_errno));
		return result == 0 ? folder_finish(put, entry) : result;
	case FTS_ERR:
	case FTS_NS:
		return leave_out(put, entry->fts_path, strerror(entry->fts_errno));
	case FTS_DC:
		return leave_out(put, entry->fts_path, "it contains itself");
	default:
		return entry_put(put, entry, parent, name);
	}
}

static int tree_put(struct put *put, char *source, uint64_t folder, const char *name)
{
	char *roots[2] = { source, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *entry;
	int result = 0;

	if (walk == NULL)
		return sz_fail(put->error, -errno, "%s: %s", source, strerror(errno));
	while (result == 0 && (entry = fts_read(walk)) != NULL) {
		result = interrupt_check(put->error);
		if (result == 0)
			result = step_put(put, walk, entry, folder, name);
	}
	(void)fts_close(walk);
	return result;
}

/* Standard input, as a file. */
static int stream_put(struct put *put, uint64_t folder, const char *name)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644, .uid = geteuid(), .gid = getegid() };
	uint64_t offset = 0;
	uint64_t inode;
	size_t done = PIECE_BYTES;
	int result = sz_fs_create_unnamed(put->fs, folder, &new, NULL, &inode);

	if (result != 0)
		return pool_fail(put, name, result);
	while (result == 0 && done == PIECE_BYTES) {
		result = interrupt_read(console_in(), put->piece, PIECE_BYTES, &done);
		if (result != 0) {
			(void)sz_fail(put->error, result, "standard input: %s", strerror(-result));
			break;
		}
		result = sz_fs_write(put->fs, inode, put->piece, done, offset);
		if (result != 0)
			(void)pool_fail(put, name, result);
		offset += done;
		progress_add(&put->progress, done);
	}
	if (result == 0) {
		result = finish(put, NULL, NULL, inode, folder, name);
		if (result != 0)
			(void)pool_fail(put, name, result);
	}
	sz_fs_release(put->fs, inode, 1);
	return result;
}

/* The name that a source gets in a folder: its last one; of "." and ".." that of the folder meant. */
static int source_name(struct put *put, char *source, char name[NAME_BYTES])
{
	const char *last = last_name(source);
	CLEANUP_FREE char *real = NULL;

	if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
		real = realpath(source, NULL);
		if (real == NULL)
			return sz_fail(put->error, -errno, "%s: %s", source, strerror(errno));
		last = last_name(real);
	}
	if (strcmp(last, "/") == 0)
		return sz_fail(put->error, -EINVAL,
			       "%s: has no name; give it one: a PATH that does not exist yet",
			       source);
	if (strlen(last) >= NAME_BYTES)
		return sz_fail(put->error, -ENAMETOOLONG, "%s: a name can have at most %u bytes",
			       source, NAME_BYTES - 1);
	(void)strcpy(name, last); /* NOLINT: the length was checked */
	return 0;
}

/* Where a source goes: into path if that is a folder, else to it. */
static int destination_find(struct put *put, char *source, const char *path, uint64_t *folder_out,
			    char name[NAME_BYTES])
{
	struct sz_error ignored = { 0 };
	struct stat stat;
	uint64_t inode = 0;
	bool is_stream = strcmp(source, "-") == 0;
	int result = path_find(put->fs, path, &inode, &ignored);

	if (result == -EXDEV) {
		*put->error = ignored;
		return result;
	}
	if (result == 0)
		result = sz_fs_getattr(put->fs, inode, &stat);
	if (result == 0 && S_ISDIR(stat.st_mode)) {
		if (is_stream)
			return sz_fail(put->error, -EISDIR,
				       "%s: is a folder in the pool; name the file in it that "
				       "standard input is to become",
				       path);
		*folder_out = inode;
		return source_name(put, source, name);
	}
	if (result == -ENOTDIR)
		return path_find(put->fs, path, &inode, put->error);
	if (put->invocation->count > 3)
		return sz_fail(
			put->error, -ENOTDIR,
			"%s: several sources need a folder in the pool; 'szpool mkdir' makes "
			"one",
			path);
	return path_parent(put->fs, path, folder_out, name, put->error);
}

static int source_put(struct put *put, char *source)
{
	const struct invocation *invocation = put->invocation;
	char name[NAME_BYTES] = "";
	struct stat stat;
	uint64_t folder = 0;
	bool is_stream = strcmp(source, "-") == 0;
	int result = destination_find(put, source, invocation->operands[invocation->count - 1],
				      &folder, name);

	if (result != 0)
		return result;
	if (is_stream)
		return stream_put(put, folder, name);
	if (lstat(source, &stat) != 0)
		return leave_out(put, source, strerror(errno));
	return tree_put(put, source, folder, name);
}

/* How much there is to do, for the progress line alone. */
static void total_count(struct put *put)
{
	struct invocation *invocation = put->invocation;
	FTSENT *entry;
	FTS *walk;

	for (int i = 1; put->progress.is_shown && i < invocation->count - 1; i++) {
		char *roots[2] = { invocation->operands[i], NULL };

		walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
		while (walk != NULL && (entry = fts_read(walk)) != NULL && interrupt_signal() == 0)
			if (entry->fts_info == FTS_F)
				put->progress.total_bytes += (uint64_t)entry->fts_statp->st_size;
		if (walk != NULL)
			(void)fts_close(walk);
	}
}

static void own_folders_find(struct put *put, struct sz_store *store)
{
	if (stat(put->invocation->operands[0], &put->own[put->own_count]) == 0)
		put->own_count++;
	for (uint32_t i = 0; i < sz_store_device_count(store); i++) {
		const char *folder = sz_device_folder(sz_store_device(store, i));

		if (folder[0] != '\0' && stat(folder, &put->own[put->own_count]) == 0)
			put->own_count++;
	}
}

static int sources_check(struct invocation *invocation)
{
	int streams = 0;

	for (int i = 1; i < invocation->count - 1; i++)
		streams += strcmp(invocation->operands[i], "-") == 0 ? 1 : 0;
	if (streams > 0 && invocation->count > 3)
		return usage_fail(invocation, "'-', standard input, has to be the only source");
	return 0;
}

int cmd_put(struct invocation *invocation)
{
	struct session session;
	CLEANUP_FREE char *piece = malloc(PIECE_BYTES);
	CLEANUP_FREE char *names = malloc(XATTR_NAMES_BYTES);
	CLEANUP_FREE char *value = malloc(XATTR_VALUE_BYTES);
	struct put put = { .invocation = invocation,
			   .error = &invocation->error,
			   .piece = piece,
			   .names = names,
			   .value = value };
	int result = sources_check(invocation);

	if (result == 0 && (piece == NULL || names == NULL || value == NULL))
		result = sz_fail(&invocation->error, -ENOMEM, "no memory");
	if (result == 0)
		result = session_open(invocation, false, SESSION_FS, &session);
	if (result != 0)
		return result;
	put.pool = session.pool;
	put.fs = session.fs;
	own_folders_find(&put, session.store);
	progress_start(&put.progress, invocation, "put");
	total_count(&put);
	for (int i = 1; result == 0 && i < invocation->count - 1; i++)
		result = source_put(&put, invocation->operands[i]);
	progress_clear(&put.progress);
	links_free(&put.links);
	if (result == 0 && put.changed > 0)
		result =
			sz_fail(&invocation->error, -EIO,
				"changed while they were read (see above): %ju; left out: %ju; the "
				"rest is stored",
				(uintmax_t)put.changed, (uintmax_t)put.left_out);
	else if (result == 0 && put.left_out > 0)
		result = sz_fail(&invocation->error, -EIO,
				 "left out (see above): %ju; the rest is stored",
				 (uintmax_t)put.left_out);
	if (result == -EINTR)
		(void)interrupt_tell(&invocation->error,
				     "what is complete stays in the pool, nothing else does");
	return session_close(invocation, &session, result);
}
