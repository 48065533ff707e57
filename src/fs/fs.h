/*
 * fs: a POSIX file system on a ZPL (version 5) dataset, in the kernel's on-disk format, over ZFS's
 * DMU, ZAP and SA. The operations are those that FUSE's low-level API asks for, in its terms: inodes
 * by number, names by parent. Each operation that changes something is one DMU transaction.
 *
 * Access is not checked here: the caller (FUSE's default_permissions, or the command line as the
 * owner of the pool) has done it. Any thread may call any function.
 * Where the disks under the pool have less than their reserve, what brings new data (write, create, mkdir, symlink,
 * setxattr) is -ENOSPC; what frees space, and what changes names and attributes, goes on.
 * Errors: -errno as the system call of the same name gives them; -ENOSPC, -EDQUOT, -EROFS, -EIO;
 * -EBADMSG: a block is damaged beyond what redundancy repairs.
 */
#ifndef SZ_FS_FS_H
#define SZ_FS_FS_H

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/base.h"
#include "engine/engine.h"

struct sz_fs;

/*
 * dataset: NULL for the pool's root dataset, or its name below it. If writable, the delete queue is
 * drained and the intent log replayed. -EBUSY: read-only, with operations in the log · -EOPNOTSUPP: an
 * operation in the log cannot be replayed here · -EBADMSG: the log is damaged. It stays as it is then.
 */
int sz_fs_open(struct sz_pool *, const char *dataset, bool read_only, struct sz_fs **fs_out,
	       struct sz_error *error) MUST_CHECK;
/* A snapshot of it, read-only; it can be open once, beside its dataset. -ENOENT · -EBUSY: it is. */
int sz_fs_open_snapshot(struct sz_pool *, const char *dataset, const char *snapshot,
			struct sz_fs **fs_out, struct sz_error *error) MUST_CHECK;
void sz_fs_close(struct sz_fs *); /* all holds end */
/*
 * The same for any number of readers, who share it; closed before what it is of. -ENOENT · -EBUSY: it is open
 * otherwise.
 */
int sz_fs_snapshot_open(struct sz_fs *, const char *name, struct sz_fs **snapshot_out,
			struct sz_error *error) MUST_CHECK;
/* Those of its dataset, as sz_pool_snapshot_each. */
int sz_fs_snapshot_each(struct sz_fs *, sz_snapshot_fn *, void *context) MUST_CHECK;
void sz_fs_snapshot_close(struct sz_fs *snapshot);

/*
 * Another dataset of the pool, beside the head, which was opened by sz_fs_open, and as writable as that; NULL: the root
 * dataset. For any number of users, who share it; closed by each, before the head. It may be the head itself.
 */
int sz_fs_dataset_open(struct sz_fs *head, const char *dataset, struct sz_fs **fs_out,
		       struct sz_error *error) MUST_CHECK;
void sz_fs_dataset_close(struct sz_fs *fs);
/*
 * Datasets have their place in their parent's root folder: is that name one? Not those that no kernel would mount there. A
 * folder there stands for it, which is not removed or renamed (-EBUSY); _place makes what is missing.
 */
int sz_fs_is_child(struct sz_fs *fs, const char *name, bool *is_child_out) MUST_CHECK;
int sz_fs_child_open(struct sz_fs *fs, const char *name, struct sz_fs **child_out,
		     struct sz_error *error) MUST_CHECK;
int sz_fs_children_place(struct sz_fs *fs) MUST_CHECK;
/* A new, empty dataset, in its place. -EEXIST: it, or something else in that place · -ENOENT: its parent · -EINVAL: no name for one · -EROFS */
int sz_fs_dataset_create(struct sz_fs *head, const char *dataset, uint32_t uid, uint32_t gid,
			 struct sz_error *error) MUST_CHECK;

/* Makes an empty dataset (NULL: the pool's root dataset, as sz_pool_create leaves it) a file system. */
int sz_fs_format(struct sz_pool *, const char *dataset, uint32_t uid, uint32_t gid,
		 struct sz_error *error) MUST_CHECK;

/* The number of the root folder; in the interface it is always this. */
uint64_t sz_fs_root(const struct sz_fs *);

/*
 * A new inode's owner and mode; the type bits in mode. Does it inherit, it gets from its folder what the
 * kernel's system calls give: its group and the bit, if the folder has the set-group-ID bit; its
 * default ACL, or if there is none, umask is taken from mode. The folder's project is inherited always.
 */
struct sz_fs_new {
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t umask;
	bool inherits;
	uint64_t rdev; /* devices only */
};

int sz_fs_lookup(struct sz_fs *, uint64_t parent, const char *name, uint64_t *inode_out) MUST_CHECK;
/* st_ino, st_mode, st_nlink, st_uid, st_gid, st_rdev, st_size, st_blksize, st_blocks, times. */
int sz_fs_getattr(struct sz_fs *, uint64_t number, struct stat *stat_out) MUST_CHECK;

enum sz_fs_set {
	SZ_SET_MODE = 1 << 0,
	SZ_SET_UID = 1 << 1,
	SZ_SET_GID = 1 << 2,
	SZ_SET_SIZE = 1 << 3,
	SZ_SET_ATIME = 1 << 4,
	SZ_SET_MTIME = 1 << 5,
	SZ_SET_CTIME = 1 << 6, /* otherwise it becomes the present time */
};
/* fields: SZ_SET_*; the values are in *values (st_atim … with nanoseconds). All in one transaction. */
int sz_fs_setattr(struct sz_fs *, uint64_t number, unsigned int fields,
		  const struct stat *values) MUST_CHECK;

/* When it was made (statx: btime). */
int sz_fs_created(struct sz_fs *, uint64_t number, struct timespec *created_out) MUST_CHECK;

/* The values are those of FS_IOC_GETFLAGS. */
enum sz_fs_flag {
	SZ_FLAG_IMMUTABLE = 0x10, /* all that changes the inode, or a folder's entries: -EPERM */
	SZ_FLAG_APPEND = 0x20,    /* the same, but what is added */
	SZ_FLAG_NODUMP = 0x40,
	SZ_FLAG_PROJECT_INHERIT = 0x20000000, /* what is made in the folder gets its project */
};
/* SZ_FLAG_*, and the project, which is 0 if it has none. */
int sz_fs_getflags(struct sz_fs *, uint64_t number, uint32_t *flags_out,
		   uint32_t *project_out) MUST_CHECK;
/* -EOPNOTSUPP: others; a project of what is neither file nor folder. */
int sz_fs_setflags(struct sz_fs *, uint64_t number, uint32_t flags, uint32_t project) MUST_CHECK;

/* Regular files, FIFOs, sockets and devices by mode; -EEXIST if the name is taken. */
int sz_fs_create(struct sz_fs *, uint64_t parent, const char *name, const struct sz_fs_new *,
		 uint64_t *inode_out) MUST_CHECK;
int sz_fs_mkdir(struct sz_fs *, uint64_t parent, const char *name, const struct sz_fs_new *,
		uint64_t *inode_out) MUST_CHECK;
int sz_fs_symlink(struct sz_fs *, uint64_t parent, const char *name, const char *target,
		  const struct sz_fs_new *, uint64_t *inode_out) MUST_CHECK;
int sz_fs_readlink(struct sz_fs *, uint64_t number, char *target, size_t size) MUST_CHECK;
int sz_fs_link(struct sz_fs *, uint64_t number, uint64_t parent, const char *name) MUST_CHECK;
/*
 * As sz_fs_link, but an entry of that name is replaced, in the same transaction: at any time the name
 * is one or the other. -EISDIR: the entry is a folder.
 */
int sz_fs_link_over(struct sz_fs *, uint64_t number, uint64_t parent, const char *name) MUST_CHECK;
/*
 * A file, symlink (target not NULL), FIFO or device without a name, as O_TMPFILE makes it; parent is
 * where it is to go. The caller holds it until sz_fs_release; sz_fs_link or sz_fs_link_over gives it
 * a name. Without one it is freed by the release, or after a crash by the next opening.
 */
int sz_fs_create_unnamed(struct sz_fs *, uint64_t parent, const struct sz_fs_new *,
			 const char *target, uint64_t *inode_out) MUST_CHECK;
int sz_fs_unlink(struct sz_fs *, uint64_t parent, const char *name) MUST_CHECK;
int sz_fs_rmdir(struct sz_fs *, uint64_t parent, const char *name) MUST_CHECK;
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of <stdio.h>. */
int sz_fs_rename(struct sz_fs *, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned int flags) MUST_CHECK;

/*
 * An inode that is held stays readable and writable after its last name is gone; its space is freed
 * when all holds are released (or at the next opening: the delete queue). A hold takes little memory.
 */
int sz_fs_hold(struct sz_fs *, uint64_t number) MUST_CHECK;
void sz_fs_release(struct sz_fs *, uint64_t number, uint64_t count);

/* *done_out < length only at the end of the file. Holes are zeros. */
int sz_fs_read(struct sz_fs *, uint64_t number, void *buffer, size_t length, uint64_t offset,
	       size_t *done_out) MUST_CHECK;
/* Writes all or fails; the file grows as needed. */
int sz_fs_write(struct sz_fs *, uint64_t number, const void *buffer, size_t length,
		uint64_t offset) MUST_CHECK;
/*
 * Writes what a cache of whole pages, the kernel's, holds. Of a file that can only be appended to, bytes of it may be
 * there already: these stay, but for zeros, which may be pages that are still to come. -EPERM: others were to
 * change, so the cache is wrong; what was appended is written nevertheless.
 */
int sz_fs_write_back(struct sz_fs *, uint64_t number, const void *buffer, size_t length,
		     uint64_t offset) MUST_CHECK;
/* Frees the blocks of a range; reads as zeros afterwards; the size stays. */
int sz_fs_punch(struct sz_fs *, uint64_t number, uint64_t offset, uint64_t length) MUST_CHECK;
/* The same, and what is behind the file's end belongs to it then, unless its size is to be kept. */
int sz_fs_zero(struct sz_fs *, uint64_t number, uint64_t offset, uint64_t length,
	       bool keep_size) MUST_CHECK;
/*
 * Makes a file that long, unless its size is to be kept. As in the kernel's ZFS nothing is reserved, for
 * what is overwritten takes new space: -ENOSPC if there is not enough now.
 */
int sz_fs_allocate(struct sz_fs *, uint64_t number, uint64_t offset, uint64_t length,
		   bool keep_size) MUST_CHECK;
/*
 * Copies a range from one file to another, or within one (-EINVAL: it overlaps itself), up to the end of
 * the first: blocks are shared where that can be done. Less may be copied than was asked for (a GiB at
 * most), and an error is given only if nothing was.
 */
int sz_fs_copy_range(struct sz_fs *, uint64_t from, uint64_t from_offset, uint64_t to,
		     uint64_t to_offset, uint64_t length, uint64_t *copied_out) MUST_CHECK;
/* SEEK_DATA, SEEK_HOLE: -ENXIO past the end. Dirty files may report data where holes are. */
int sz_fs_seek(struct sz_fs *, uint64_t number, int whence, uint64_t offset,
	       uint64_t *offset_out) MUST_CHECK;
/*
 * Returns when what was done to the inode is on disk, through the intent log, and with it all changes of
 * names. 0: everything that was done. sync=always does it for each operation, sync=disabled for none.
 */
int sz_fs_fsync(struct sz_fs *, uint64_t number) MUST_CHECK;

/*
 * Calls the function for each entry from cookie on ("." and ".." too). An entry's next cookie
 * continues behind it; cookies stay valid while entries come and go. A value other than 0 ends it
 * and is returned; that entry is not taken.
 */
typedef int sz_fs_entry_fn(void *context, const char *name, uint64_t number, uint32_t mode_type,
			   uint64_t next_cookie);
int sz_fs_readdir(struct sz_fs *, uint64_t number, uint64_t cookie, sz_fs_entry_fn *,
		  void *context) MUST_CHECK;

/*
 * Extended attributes; names with their prefix ("user.x"). size 0 asks for the size. -ENODATA, -ERANGE.
 * A POSIX ACL (system.posix_acl_access) is the mode too: each follows the other.
 */
int sz_fs_getxattr(struct sz_fs *, uint64_t number, const char *name, void *value, size_t size,
		   size_t *size_out) MUST_CHECK;
/* flags: XATTR_CREATE, XATTR_REPLACE. */
int sz_fs_setxattr(struct sz_fs *, uint64_t number, const char *name, const void *value,
		   size_t size, int flags) MUST_CHECK;
int sz_fs_removexattr(struct sz_fs *, uint64_t number, const char *name) MUST_CHECK;
/* NUL-terminated names, one after the other. */
int sz_fs_listxattr(struct sz_fs *, uint64_t number, char *names, size_t size,
		    size_t *size_out) MUST_CHECK;

/* A path of the inode, from the root. -ENOENT: it has no name · -ENAMETOOLONG: size is too small. */
int sz_fs_path(struct sz_fs *, uint64_t number, char *path, size_t size) MUST_CHECK;
/*
 * Calls the function for each thing of the pool that is damaged beyond repair: a path of this file
 * system; an object without one in angle brackets, as zpool status -v prints it, behind its dataset
 * if that is another. A value other than 0 ends it and is returned.
 */
typedef int sz_fs_damaged_fn(void *context, const char *text);
int sz_fs_damaged_each(struct sz_fs *, sz_fs_damaged_fn *, void *context) MUST_CHECK;

/* Of pool and disks what has less. */
int sz_fs_statfs(struct sz_fs *, struct statvfs *statvfs_out) MUST_CHECK;

#endif
