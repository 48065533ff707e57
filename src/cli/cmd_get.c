/*
 * get: files and trees out of the pool, with all that put stores.
 *
 * Invariants
 * 1. A target is the old file or the complete new one: content goes to a temporary name beside it,
 *    which is renamed when all is done, and removed when that fails or is interrupted.
 * 2. What is damaged in the pool or cannot be made on this side is named, left out, and makes the
 *    exit code 6 or 1; the rest goes on. A full disk ends the command.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/xattr.h>
/* The names of ACLs; what both declare, sys/xattr.h has to declare first. */
#include <linux/xattr.h>
#include <unistd.h>

#define XATTR_BYTES 65536U  /* XATTR_LIST_MAX, XATTR_SIZE_MAX */
#define HOLE_BYTES  4096U   /* a run of zeros as long, and aligned, becomes a hole */
#define SEEK_FROM   131072U /* a smaller file is read as a whole; its holes are zeros then */

struct get {
	struct invocation *invocation;
	struct sz_fs *fs;
	struct sz_error *error;
	struct link_tree links;
	struct progress progress;
	uint64_t left_out;
	uint64_t damaged;
	const char *path; /* of what is under way */
	uint64_t attributes_lost;
	bool is_partial;          /* among them is one that could have been set */
	char attribute_lost[400]; /* the first, with the reason */
	char temporary[40];       /* the name that content has before it is complete */
	char *piece;              /* PIECE_BYTES */
	char *names;              /* XATTR_BYTES */
	char *value;              /* XATTR_BYTES */
};

/* Ends the command if going on makes no sense; else 0. */
static int leave_out(struct get *get, const char *path, int result)
{
	char text[128];

	switch (result) {
	case -EINTR:
		return result;
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -ENOMEM:
	case -EIO:
		return sz_fail(get->error, result, "%s: %s", path, strerror(-result));
	default:
		break;
	}
	(void)snprintf(text, sizeof(text), "left out: %s",
		       result == -EBADMSG ? "it is damaged in the pool" : strerror(-result));
	file_tell(&get->progress, path, text);
	if (result == -EBADMSG)
		get->damaged++;
	get->left_out++;
	return 0;
}

/* Writes what is not zeros; the rest stays a hole. */
static int sparse_write(int fd, const char *data, size_t length, uint64_t offset)
{
	static const char zeros[HOLE_BYTES];
	size_t start = 0; /* of the run that is to be written */
	int result = 0;

	for (size_t at = 0; result == 0 && at < length; at += HOLE_BYTES) {
		bool is_zero =
			length - at >= HOLE_BYTES && memcmp(data + at, zeros, HOLE_BYTES) == 0;

		if (is_zero && at > start)
			result = sz_pwrite(fd, data + start, at - start, offset + start);
		if (is_zero)
			start = at + HOLE_BYTES;
	}
	if (result == 0 && start < length)
		result = sz_pwrite(fd, data + start, length - start, offset + start);
	return result;
}

static int range_get(struct get *get, uint64_t inode, int fd, uint64_t *offset, uint64_t end)
{
	size_t done = PIECE_BYTES;
	int result = 0;

	while (result == 0 && *offset < end && done > 0) {
		size_t wanted = end - *offset < PIECE_BYTES ? (size_t)(end - *offset) : PIECE_BYTES;

		result = sz_fs_read(get->fs, inode, get->piece, wanted, *offset, &done);
		if (result == 0)
			result = sparse_write(fd, get->piece, done, *offset);
		*offset += done;
		progress_add(&get->progress, done);
		if (result == 0)
			result = interrupt_check(get->error);
	}
	return result;
}

static int content_get(struct get *get, uint64_t inode, uint64_t size, int fd)
{
	uint64_t offset = 0;
	int result = 0;

	while (result == 0 && offset < size) {
		uint64_t data = offset;
		uint64_t hole = size;

		if (size > SEEK_FROM) {
			result = sz_fs_seek(get->fs, inode, SEEK_DATA, offset, &data);
			if (result == -ENXIO) { /* a hole up to the end */
				result = 0;
				break;
			}
			if (result == 0)
				result = sz_fs_seek(get->fs, inode, SEEK_HOLE, data, &hole);
		}
		progress_add(&get->progress, data - offset);
		offset = data;
		if (result == 0)
			result = range_get(get, inode, fd, &offset, hole);
	}
	if (result == 0 && ftruncate(fd, (off_t)size) != 0)
		result = -errno;
	return result;
}

/* Capabilities, and what else only root may set, are no fault of the copy where it is another's. */
static void attribute_is_lost(struct get *get, const char *name, int result)
{
	if (result != -EPERM || geteuid() == 0 ||
	    (strncmp(name, "security.", 9) != 0 && strncmp(name, "trusted.", 8) != 0))
		get->is_partial = true;
	if (get->attributes_lost++ == 0)
		(void)snprintf(get->attribute_lost, sizeof(get->attribute_lost), "%s of %s: %s",
			       name, get->path, strerror(-result));
}

/* What a new name gets from a default ACL of its folder is not the pool's. */
static void acls_drop(const char *target)
{
	(void)!lremovexattr(target, XATTR_NAME_POSIX_ACL_ACCESS);
	(void)!lremovexattr(target, XATTR_NAME_POSIX_ACL_DEFAULT);
}

/* False: there is an ACL, or there may be, and it could not be set. */
static bool xattrs_get(struct get *get, uint64_t inode, const char *target)
{
	size_t length = 0;
	bool has_acl = true;
	int listed = sz_fs_listxattr(get->fs, inode, get->names, XATTR_BYTES, &length);

	if (listed != 0) {
		attribute_is_lost(get, "extended attributes", listed);
		return false;
	}
	for (size_t at = 0; at < length; at += strlen(get->names + at) + 1) {
		const char *name = get->names + at;
		size_t size = 0;
		int result = sz_fs_getxattr(get->fs, inode, name, get->value, XATTR_BYTES, &size);

		if (result == 0 && lsetxattr(target, name, get->value, size, 0) != 0)
			result = -errno;
		if (result != 0)
			attribute_is_lost(get, name, result);
		if (result != 0 && strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0)
			has_acl = false;
	}
	return has_acl;
}

/*
 * Owner, extended attributes, mode, times, in this order: a change of owner clears set-user-ID and
 * capabilities, and extended attributes need a file that may be written. Who is not root gets the
 * files as his own. A file that did not get its owner does not get set-user-ID bits either; one that did not get
 * its ACL has what this grants at most in the group's bits, so the group gets nothing.
 */
static int attributes_get(struct get *get, uint64_t inode, const struct stat *stat,
			  const char *target)
{
	const struct timespec times[2] = { stat->st_atim, stat->st_mtim };
	mode_t mode = stat->st_mode & 07777U;
	bool is_owned = lchown(target, stat->st_uid, stat->st_gid) == 0;

	if (!is_owned && geteuid() == 0)
		attribute_is_lost(get, "owner", -errno);
	if (!is_owned)
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
	if (!S_ISLNK(stat->st_mode))
		acls_drop(target);
	if (!xattrs_get(get, inode, target))
		mode &= ~(mode_t)S_IRWXG;
	if (!S_ISLNK(stat->st_mode) && chmod(target, mode) != 0)
		return -errno;
	return utimensat(AT_FDCWD, target, times, AT_SYMLINK_NOFOLLOW) != 0 ? -errno : 0;
}

/* Makes the entry under a temporary name. */
static int entry_make(struct get *get, uint64_t inode, const struct stat *stat, const char *target)
{
	char link[4096]; /* PATH_MAX */
	int result = 0;

	if (S_ISREG(stat->st_mode)) {
		CLEANUP_FD int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		return fd < 0 ? -errno : content_get(get, inode, (uint64_t)stat->st_size, fd);
	}
	if (S_ISLNK(stat->st_mode)) {
		result = sz_fs_readlink(get->fs, inode, link, sizeof(link));
		return result == 0 && symlink(link, target) != 0 ? -errno : result;
	}
	return mknod(target, stat->st_mode & (S_IFMT | 0600U), stat->st_rdev) != 0 ? -errno : 0;
}

/* The temporary name beside target. */
static char *temporary_path(const struct get *get, const char *target)
{
	const char *slash = strrchr(target, '/');
	char *path;

	if (slash == NULL)
		return strdup(get->temporary);
	return asprintf(&path, "%.*s/%s", (int)(slash - target), target, get->temporary) < 0 ? NULL
											     : path;
}

static int entry_get(struct get *get, uint64_t inode, const char *target)
{
	CLEANUP_FREE char *temporary = temporary_path(get, target);
	const struct link *first = NULL;
	struct stat stat;
	int result = sz_fs_getattr(get->fs, inode, &stat);

	if (temporary == NULL)
		return -ENOMEM;
	if (result != 0)
		return result;
	get->progress.files++;
	if (stat.st_nlink > 1)
		first = links_find(&get->links, 0, inode);
	if (first != NULL && linkat(AT_FDCWD, first->path, AT_FDCWD, temporary, 0) != 0)
		first = NULL; /* too many links, or a file system without: a copy, then */
	if (first == NULL)
		result = entry_make(get, inode, &stat, temporary);
	if (result == -EPERM && (S_ISCHR(stat.st_mode) || S_ISBLK(stat.st_mode))) {
		if (!option_is_given(get->invocation, OPTION_QUIET))
			file_tell(&get->progress, target, "a device, which only root may make");
		return 0;
	}
	if (result == 0 && first == NULL)
		result = attributes_get(get, inode, &stat, temporary);
	if (result == 0 && rename(temporary, target) != 0)
		result = -errno;
	/* Also after success: renaming a name of the same file over another does nothing. */
	if (result != 0 || first != NULL)
		(void)unlink(temporary);
	if (result == 0 && stat.st_nlink > 1 && links_find(&get->links, 0, inode) == NULL)
		result = links_add(&get->links, 0, inode, inode, target);
	return result;
}

/*
 * A folder that is there already is used, if it is one. Only what the user named may be a link to
 * one: others may have made the rest.
 */
static int folder_get(const char *target, bool is_named)
{
	struct stat existing;

	if (mkdir(target, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if ((is_named ? stat(target, &existing) : lstat(target, &existing)) != 0)
		return -errno;
	return S_ISDIR(existing.st_mode) ? 0 : -ENOTDIR;
}

static int folder_finish(struct get *get, uint64_t inode, const char *target)
{
	struct stat stat;
	int result = sz_fs_getattr(get->fs, inode, &stat);

	return result == 0 ? attributes_get(get, inode, &stat, target) : result;
}

/* What another file system has its place in. */
static int place_leave_out(struct get *get, const struct walk_step *step, bool *is_place_out)
{
	char text[PLACE_TEXT_BYTES];
	int result = 0;

	*is_place_out = false;
	if (!step->is_root)
		result = place_find(get->fs, step->parent, step->name, is_place_out);
	if (!*is_place_out)
		return result;
	place_text(get->invocation->options.dataset, step->name, text);
	file_tell(&get->progress, step->name, text);
	get->left_out++;
	return 0;
}

static int step_get(struct get *get, struct walk *walk, const struct walk_step *step,
		    bool keep_root)
{
	bool is_place = false;
	int result = 0;

	get->path = step->path;
	switch (step->event) {
	case WALK_ENTER:
		result = place_leave_out(get, step, &is_place);
		if (result == 0 && !is_place)
			result = folder_get(step->path, step->is_root && keep_root);
		if (result != 0 || is_place)
			walk_skip(walk);
		break;
	case WALK_LEAVE:
		if (!step->is_root || !keep_root)
			result = folder_finish(get, step->inode, step->path);
		break;
	case WALK_ENTRY:
	default:
		result = entry_get(get, step->inode, step->path);
		break;
	}
	return result == 0 ? 0 : leave_out(get, step->path, result);
}

/* keep_root: the target's own attributes stay, for it was there and only gets the pool's root folder. */
static int tree_get(struct get *get, uint64_t inode, uint32_t mode_type, const char *target,
		    bool keep_root)
{
	const struct walk_step *step;
	struct walk *walk;
	int result = walk_open(get->fs, 0, inode, mode_type, target, &walk);

	if (result != 0)
		return sz_fail(get->error, result, "no memory");
	do {
		result = walk_next(walk, &step);
		if (result != 0)
			result = leave_out(get, "a folder", result);
		else if (step == NULL)
			break;
		else
			result = interrupt_check(get->error);
		if (result == 0 && step != NULL)
			result = step_get(get, walk, step, keep_root);
	} while (result == 0);
	walk_close(walk);
	return result;
}

/* Only files have content. */
static int content_check(struct sz_fs *fs, uint64_t inode, struct sz_error *error)
{
	char target[4096]; /* PATH_MAX */
	struct stat stat;
	int result = sz_fs_getattr(fs, inode, &stat);

	if (result == 0 && S_ISLNK(stat.st_mode))
		result = sz_fs_readlink(fs, inode, target, sizeof(target));
	if (result != 0)
		return sz_fail(error, result, "%s", strerror(-result));
	if (S_ISREG(stat.st_mode))
		return 0;
	if (S_ISDIR(stat.st_mode))
		return sz_fail(error, -EISDIR, "is a folder; 'szpool ls' lists it");
	if (S_ISLNK(stat.st_mode))
		return sz_fail(error, -EINVAL, "is a symbolic link; it leads to %s", target);
	return sz_fail(error, -EINVAL, "is a %s, and has no content",
		       S_ISFIFO(stat.st_mode) ? "FIFO" : "device");
}

int file_out(struct sz_fs *fs, uint64_t inode, struct sz_error *error)
{
	CLEANUP_FREE char *buffer = malloc(PIECE_BYTES);
	uint64_t offset = 0;
	size_t done = PIECE_BYTES;
	int result = content_check(fs, inode, error);

	if (result != 0)
		return result;
	result = buffer == NULL ? -ENOMEM : 0;
	while (result == 0 && done == PIECE_BYTES) {
		result = sz_fs_read(fs, inode, buffer, PIECE_BYTES, offset, &done);
		if (result != 0)
			break;
		result = console_write(buffer, done);
		if (result != 0)
			return sz_fail(error, result, "standard output: %s", strerror(-result));
		result = interrupt_check(error);
		offset += done;
	}
	if (result == -EBADMSG)
		return sz_fail(error, result, "its content is damaged from byte %" PRIu64 " on",
			       offset);
	return result == 0 || result == -EINTR ? result
					       : sz_fail(error, result, "%s", strerror(-result));
}

/* Where a path goes: into target if that is a folder, else to it. */
static int path_get(struct get *get, char *path, const char *target)
{
	CLEANUP_FREE char *to = NULL;
	struct stat existing;
	struct stat stat_of;
	uint64_t inode;
	bool is_folder = stat(target, &existing) == 0 && S_ISDIR(existing.st_mode);
	int result = path_find(get->fs, path, &inode, get->error);

	if (result != 0)
		return result;
	result = sz_fs_getattr(get->fs, inode, &stat_of);
	if (result != 0)
		return sz_fail(get->error, result, "%s: %s", path, strerror(-result));
	if (strcmp(target, "-") == 0) {
		result = file_out(get->fs, inode, get->error);
		return result == 0 ? 0 : sz_fail(get->error, result, "%s", path);
	}
	if (get->invocation->count > 3 && !is_folder)
		return sz_fail(get->error, -ENOTDIR,
			       "%s: is no folder; several paths need one that exists", target);
	if (is_folder && inode != sz_fs_root(get->fs))
		to = path_join(target, last_name(path));
	else
		to = strdup(target);
	if (to == NULL)
		return sz_fail(get->error, -ENOMEM, "no memory");
	return tree_get(get, inode, stat_of.st_mode, to, is_folder && inode == sz_fs_root(get->fs));
}

/* How much there is to do, for the progress line alone. */
static void total_count(struct get *get)
{
	struct invocation *invocation = get->invocation;

	for (int i = 1; get->progress.is_shown && i < invocation->count - 1; i++) {
		struct sz_error ignored = { 0 };
		const struct walk_step *step;
		struct walk *walk;
		struct stat stat;
		uint64_t inode;

		if (path_find(get->fs, invocation->operands[i], &inode, &ignored) != 0 ||
		    sz_fs_getattr(get->fs, inode, &stat) != 0 ||
		    walk_open(get->fs, 0, inode, stat.st_mode, "", &walk) != 0)
			continue;
		while (walk_next(walk, &step) == 0 && step != NULL && interrupt_signal() == 0)
			if (step->event == WALK_ENTRY &&
			    sz_fs_getattr(get->fs, step->inode, &stat) == 0 &&
			    S_ISREG(stat.st_mode))
				get->progress.total_bytes += (uint64_t)stat.st_size;
		walk_close(walk);
	}
}

/* What is to be said at the end of a command that went through. */
static int conclude(struct get *get)
{
	if (get->attributes_lost > 0 && (get->left_out > 0 || !get->is_partial))
		warn("attributes that could not be set: %ju; the first: %s",
		     (uintmax_t)get->attributes_lost, get->attribute_lost);
	if (get->left_out == 0 && get->is_partial)
		return sz_fail(get->error, -EPERM,
			       "attributes that could not be set: %ju; the first: %s; all else is "
			       "there",
			       (uintmax_t)get->attributes_lost, get->attribute_lost);
	if (get->left_out == 0)
		return 0;
	return sz_fail(get->error, get->damaged > 0 ? -EBADMSG : -EPERM,
		       "left out (see above): %ju; the rest is there", (uintmax_t)get->left_out);
}

int cmd_get(struct invocation *invocation)
{
	struct session session;
	CLEANUP_FREE char *piece = malloc(PIECE_BYTES);
	CLEANUP_FREE char *names = malloc(XATTR_BYTES);
	CLEANUP_FREE char *value = malloc(XATTR_BYTES);
	struct get get = { .invocation = invocation,
			   .error = &invocation->error,
			   .piece = piece,
			   .names = names,
			   .value = value };
	int last = invocation->count - 1;
	uint64_t random;
	int result = 0;

	if (strcmp(invocation->operands[last], "-") == 0 && invocation->count > 3)
		return usage_fail(invocation,
				  "'-', standard output, takes one file; see 'szpool cat'");
	if (piece == NULL || names == NULL || value == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory");
	result = session_open(invocation, true, SESSION_FS, &session);
	if (result != 0)
		return result;
	get.fs = session.fs;
	sz_random(&random, sizeof(random));
	(void)snprintf(get.temporary, sizeof(get.temporary), ".szpool-get-%016" PRIx64, random);
	progress_start(&get.progress, invocation, "get");
	total_count(&get);
	for (int i = 1; result == 0 && i < last; i++)
		result = path_get(&get, invocation->operands[i], invocation->operands[last]);
	progress_clear(&get.progress);
	links_free(&get.links);
	if (result == 0)
		result = conclude(&get);
	if (result == -EINTR)
		(void)interrupt_tell(&invocation->error,
				     "what is complete stays, the file under way is removed");
	return session_close(invocation, &session, result);
}
