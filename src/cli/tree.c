/*
 * tree: files and trees into the pool and out of it: content, modes, owners, times, symlinks and
 * hard links within one tree.
 */
#include "cli/cli.h"

#include <bsd/sys/tree.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <unistd.h>

#define PIECE_BYTES (4U << 20) /* read and written at a time: some records */

/* Where each inode with several names went first. */
struct seen {
	dev_t device;
	ino_t inode;
	uint64_t to;
	char *path;
	RB_ENTRY(seen) node;
};
RB_HEAD(seen_tree, seen);

static int seen_compare(const struct seen *a, const struct seen *b)
{
	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	return a->inode < b->inode ? -1 : a->inode > b->inode;
}
RB_GENERATE_INTERNAL(seen_tree, seen, node, seen_compare, static __attribute__((unused)))

static void seen_free(struct seen_tree *tree)
{
	struct seen *entry;

	while ((entry = RB_ROOT(tree)) != NULL) {
		(void)RB_REMOVE(seen_tree, tree, entry);
		free(entry->path);
		free(entry);
	}
}

static int seen_add(struct seen_tree *tree, dev_t device, ino_t inode, uint64_t to,
		    const char *path)
{
	struct seen *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return -ENOMEM;
	entry->device = device;
	entry->inode = inode;
	entry->to = to;
	entry->path = path == NULL ? NULL : strdup(path);
	if (path != NULL && entry->path == NULL) {
		free(entry);
		return -ENOMEM;
	}
	(void)RB_INSERT(seen_tree, tree, entry);
	return 0;
}

static struct seen *seen_find(struct seen_tree *tree, dev_t device, ino_t inode)
{
	struct seen key = { .device = device, .inode = inode };

	return RB_FIND(seen_tree, tree, &key);
}

static int content_put(struct sz_fs *fs, const char *source, uint64_t inode)
{
	CLEANUP_FD int fd = open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FREE char *buffer = malloc(PIECE_BYTES);
	uint64_t offset = 0;

	if (fd < 0)
		return -errno;
	if (buffer == NULL)
		return -ENOMEM;
	for (;;) {
		size_t done;
		int result = sz_read(fd, buffer, PIECE_BYTES, &done);

		if (result == 0 && done > 0)
			result = sz_fs_write(fs, inode, buffer, done, offset);
		if (result != 0 || done == 0)
			return result;
		offset += done;
	}
}

/* One entry other than a folder. An existing one is replaced: under a new name first, then renamed. */
static int entry_put(struct sz_fs *fs, const char *source, const struct stat *stat, uint64_t folder,
		     const char *name, struct seen_tree *seen)
{
	static const char temporary[] = ".szpool-put";
	const struct sz_fs_new new = { .mode = stat->st_mode,
				       .uid = stat->st_uid,
				       .gid = stat->st_gid,
				       .rdev = stat->st_rdev };
	struct seen *first =
		stat->st_nlink < 2 ? NULL : seen_find(seen, stat->st_dev, stat->st_ino);
	uint64_t inode;
	int result = sz_fs_unlink(fs, folder, temporary);

	if (result != 0 && result != -ENOENT)
		return result;
	if (first != NULL) {
		result = sz_fs_link(fs, first->to, folder, temporary);
		return result != 0 ? result : sz_fs_rename(fs, folder, temporary, folder, name, 0);
	}
	if (S_ISLNK(stat->st_mode)) {
		char target[4096];
		ssize_t length = readlink(source, target, sizeof(target) - 1);

		if (length < 0)
			return -errno;
		target[length] = '\0';
		result = sz_fs_symlink(fs, folder, temporary, target, &new, &inode);
	} else {
		result = sz_fs_create(fs, folder, temporary, &new, &inode);
		if (result == 0 && S_ISREG(stat->st_mode))
			result = content_put(fs, source, inode);
	}
	if (result == 0)
		result = sz_fs_setattr(fs, inode, SZ_SET_ATIME | SZ_SET_MTIME, stat);
	if (result == 0)
		result = sz_fs_rename(fs, folder, temporary, folder, name, 0);
	if (result == 0 && stat->st_nlink > 1)
		result = seen_add(seen, stat->st_dev, stat->st_ino, inode, NULL);
	return result;
}

static int folder_put(struct sz_fs *fs, const struct stat *stat, uint64_t folder, const char *name,
		      uint64_t *inode_out)
{
	const struct sz_fs_new new = { .mode = stat->st_mode,
				       .uid = stat->st_uid,
				       .gid = stat->st_gid };
	int result = sz_fs_mkdir(fs, folder, name, &new, inode_out);

	return result == -EEXIST ? sz_fs_lookup(fs, folder, name, inode_out) : result;
}

int tree_put(struct sz_fs *fs, const char *source, uint64_t folder, const char *name,
	     struct sz_error *error)
{
	CLEANUP_FREE char *root = strdup(source);
	char *roots[2] = { root, NULL };
	struct seen_tree seen = RB_INITIALIZER(&seen);
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *entry;
	int result = walk == NULL || root == NULL ? -ENOMEM : 0;

	/* fts_number of a folder: its inode in the pool. */
	while (result == 0 && (entry = fts_read(walk)) != NULL) {
		bool top = entry->fts_level == FTS_ROOTLEVEL;
		uint64_t parent = top ? folder : (uint64_t)entry->fts_parent->fts_number;
		const char *to = top ? name : entry->fts_name;
		uint64_t inode = 0;

		switch (entry->fts_info) {
		case FTS_D:
			result = folder_put(fs, entry->fts_statp, parent, to, &inode);
			entry->fts_number = (long)inode;
			break;
		case FTS_DP:
			result = sz_fs_setattr(fs, (uint64_t)entry->fts_number,
					       SZ_SET_MODE | SZ_SET_UID | SZ_SET_GID |
						       SZ_SET_ATIME | SZ_SET_MTIME,
					       entry->fts_statp);
			break;
		case FTS_DNR:
		case FTS_ERR:
		case FTS_NS:
			result = -entry->fts_errno;
			break;
		default:
			result =
				entry_put(fs, entry->fts_path, entry->fts_statp, parent, to, &seen);
			break;
		}
		if (result != 0)
			result = sz_fail(error, result, "%s: %s", entry->fts_path,
					 strerror(-result));
	}
	if (walk != NULL)
		(void)fts_close(walk);
	seen_free(&seen);
	return result;
}

int file_out(struct sz_fs *fs, uint64_t inode, int fd, struct sz_error *error)
{
	CLEANUP_FREE char *buffer = malloc(PIECE_BYTES);
	uint64_t offset = 0;

	if (buffer == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	for (;;) {
		size_t done;
		int result = sz_fs_read(fs, inode, buffer, PIECE_BYTES, offset, &done);

		if (result == 0 && done > 0)
			result = sz_write(fd, buffer, done);
		if (result != 0)
			return sz_fail(error, result, "%s", strerror(-result));
		if (done == 0)
			return 0;
		offset += done;
	}
}

/* Owners where allowed, then the mode (a change of owner clears set-user-ID), then times. */
static int attributes_get(const char *target, const struct stat *stat)
{
	const struct timespec times[2] = { stat->st_atim, stat->st_mtim };

	if (geteuid() == 0 && lchown(target, stat->st_uid, stat->st_gid) != 0)
		return -errno;
	if (!S_ISLNK(stat->st_mode) && chmod(target, stat->st_mode & 07777U) != 0)
		return -errno;
	return utimensat(AT_FDCWD, target, times, AT_SYMLINK_NOFOLLOW) != 0 ? -errno : 0;
}

static int content_get(struct sz_fs *fs, uint64_t inode, const char *target)
{
	CLEANUP_FD int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : file_out(fs, inode, fd, NULL);
}

static int entry_get(struct sz_fs *fs, uint64_t inode, const struct stat *stat, const char *target,
		     struct seen_tree *seen)
{
	struct seen *first = NULL;
	char link[4096];
	int result = 0;

	if (stat->st_nlink > 1)
		first = seen_find(seen, 0, inode);
	if (unlink(target) != 0 && errno != ENOENT)
		return -errno;
	if (first != NULL)
		return linkat(AT_FDCWD, first->path, AT_FDCWD, target, 0) != 0 ? -errno : 0;
	if (S_ISREG(stat->st_mode)) {
		result = content_get(fs, inode, target);
	} else if (S_ISLNK(stat->st_mode)) {
		result = sz_fs_readlink(fs, inode, link, sizeof(link));
		if (result == 0 && symlink(link, target) != 0)
			result = -errno;
	} else if (mknod(target, stat->st_mode, stat->st_rdev) != 0) {
		result = -errno;
	}
	if (result == 0)
		result = attributes_get(target, stat);
	if (result == 0 && stat->st_nlink > 1)
		result = seen_add(seen, 0, inode, inode, target);
	return result;
}

/* The work still to be done, a stack: entries to fetch, and folders whose attributes come last. */
struct task {
	uint64_t inode;
	char *target;
	bool finish; /* a folder whose content is there */
};
struct tasks {
	struct task *data;
	size_t count;
	size_t capacity;
	const char *target; /* of the folder that is listed */
};

static int task_push(struct tasks *tasks, uint64_t inode, char *target, bool finish)
{
	if (target == NULL)
		return -ENOMEM;
	if (tasks->count == tasks->capacity) {
		size_t capacity = tasks->capacity == 0 ? 64 : 2 * tasks->capacity;
		struct task *grown = realloc(tasks->data, capacity * sizeof(*grown));

		if (grown == NULL) {
			free(target);
			return -ENOMEM;
		}
		tasks->data = grown;
		tasks->capacity = capacity;
	}
	tasks->data[tasks->count++] =
		(struct task){ .inode = inode, .target = target, .finish = finish };
	return 0;
}

static int task_push_entry(void *context, const char *name, uint64_t inode, uint32_t type,
			   uint64_t next_cookie)
{
	struct tasks *tasks = context;
	char *target = NULL;

	(void)type;
	(void)next_cookie;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (asprintf(&target, "%s/%s", tasks->target, name) < 0)
		return -ENOMEM;
	return task_push(tasks, inode, target, false);
}

static int task_do(struct sz_fs *fs, const struct task *task, struct tasks *tasks,
		   struct seen_tree *seen)
{
	struct stat stat;
	int result = sz_fs_getattr(fs, task->inode, &stat);

	if (result != 0)
		return result;
	if (task->finish)
		return attributes_get(task->target, &stat);
	if (!S_ISDIR(stat.st_mode))
		return entry_get(fs, task->inode, &stat, task->target, seen);
	if (mkdir(task->target, 0700) != 0 && errno != EEXIST)
		return -errno;
	result = task_push(tasks, task->inode, strdup(task->target), true);
	if (result != 0)
		return result;
	tasks->target = task->target;
	return sz_fs_readdir(fs, task->inode, 0, task_push_entry, tasks);
}

int tree_get(struct sz_fs *fs, uint64_t inode, const char *target, struct sz_error *error)
{
	struct tasks tasks = { 0 };
	struct seen_tree seen = RB_INITIALIZER(&seen);
	int result = task_push(&tasks, inode, strdup(target), false);

	while (tasks.count > 0) {
		struct task task = tasks.data[--tasks.count];

		if (result == 0) {
			result = task_do(fs, &task, &tasks, &seen);
			if (result != 0)
				result = sz_fail(error, result, "%s: %s", task.target,
						 strerror(-result));
		}
		free(task.target);
	}
	free(tasks.data);
	seen_free(&seen);
	return result;
}
