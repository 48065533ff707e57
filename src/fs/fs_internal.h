/*
 * What the files of fs share.
 *
 * Locks, in order: fs.rename_lock → inode.lock (several: by ascending object number) →
 * fs.table_lock. Waiting for a transaction group under an inode's lock is allowed: syncing takes none
 * of them.
 */
#ifndef SZ_FS_FS_INTERNAL_H
#define SZ_FS_FS_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <sys/queue.h>

#include "engine/pool_zfs.h"
#include "fs/fs.h"

/* libspl's headers hide these. */
#ifndef S_ISDIR
#define S_ISDIR(mode) (((mode)&S_IFMT) == S_IFDIR)
#define S_ISREG(mode) (((mode)&S_IFMT) == S_IFREG)
#define S_ISLNK(mode) (((mode)&S_IFMT) == S_IFLNK)
#define S_ISCHR(mode) (((mode)&S_IFMT) == S_IFCHR)
#define S_ISBLK(mode) (((mode)&S_IFMT) == S_IFBLK)
#endif

#define NAME_LIMIT    255U  /* bytes in a name: ZFS's and POSIX's */
#define INODE_BUCKETS 4096U /* hash chains of the inode table */
#define INODE_IDLE_MAX                                                                             \
	4096U /* inodes kept open without a user: each holds a dnode and an SA handle */

struct inode {
	uint64_t object;
	sa_handle_t *sa;
	dnode_t *dnode;
	uint32_t mode;         /* type bits only: they never change */
	pthread_rwlock_t lock; /* content and attributes; for folders also the entries */
	bool unlinked;         /* no name is left (under lock) */
	bool is_unnamed;       /* unlinked, and never had one: it may get one (under lock) */
	/* Under fs.table_lock: */
	uint32_t references;
	LIST_ENTRY(inode) in_bucket;
	TAILQ_ENTRY(inode) in_idle; /* while references is 0 */
};
LIST_HEAD(inode_bucket, inode);
TAILQ_HEAD(inode_list, inode);

/* held.c: how often the outside refers to an inode, by its number. */
struct held {
	uint64_t object; /* 0: an empty slot */
	uint64_t count;
	bool unlinked; /* the last release frees it */
	bool is_unnamed;
};
struct held_table {
	struct held *entries;
	size_t slots; /* a power of two, or 0 */
	size_t count;
};
struct held *held_find(const struct held_table *table, uint64_t object);
/* Makes it if it is not there; NULL: no memory. Pointers are valid until the table changes. */
struct held *held_add(struct held_table *table, uint64_t object);
void held_remove(struct held_table *table, struct held *held);
void held_fini(struct held_table *table);

struct sz_fs {
	objset_t *os;
	struct sz_pool *pool;
	bool read_only;
	uint64_t xattr_kind; /* the property xattr: ZFS_XATTR_OFF, _DIR, _SA */
	char name[ZFS_MAX_DATASET_NAME_LEN];
	sa_attr_type_t *attr; /* by ZPL_* */
	uint64_t root;
	uint64_t unlinked_set;
	pthread_mutex_t rename_lock; /* one rename of a folder, or between folders, at a time */
	pthread_mutex_t table_lock;
	struct inode_bucket buckets[INODE_BUCKETS];
	struct inode_list idle; /* least recently used first */
	uint32_t idle_count;
	struct held_table held;
};

/* -errno for an error of ZFS. */
int fs_error(int zfs_error);
/* Assigns the transaction; aborts it when that fails. */
int tx_begin(dmu_tx_t *tx);
void now_encode(uint64_t time[2]);

/* inode.c: an inode stays valid until it is put. -ENOENT: no such object, or no file's. */
int inode_get(struct sz_fs *fs, uint64_t object, struct inode **inode_out) MUST_CHECK;
/* Frees the object of an unlinked inode that is not held. */
void inode_put(struct sz_fs *fs, struct inode *inode);
void inode_release_all(struct sz_fs *fs); /* at closing: nobody holds anything any more */
int inode_table_init(struct sz_fs *fs) MUST_CHECK;
void inode_table_fini(struct sz_fs *fs);
uint64_t inode_u64(struct sz_fs *fs, struct inode *inode, zpl_attr_t attribute);
uint64_t rdev_decode(uint64_t stored); /* ZPL_RDEV, as stat has it */
/* What a new object is made of. */
struct znode_new {
	const struct sz_fs_new *new;
	const char *target; /* of a symlink, else NULL */
	uint64_t parent;    /* 0: it is the root */
	uint64_t flags;     /* ZFS_XATTR: it is part of extended attributes; ZFS_PROJINHERIT */
	uint64_t project;
	char *xattrs; /* its extended attributes, packed; NULL: none */
	size_t xattrs_size;
};
/*
 * A new object with its attributes, in tx. The caller puts *inode_out. inode_new_holds takes the holds
 * that it needs; extra: the length of its target, of its extended attributes.
 */
void inode_new_holds(struct sz_fs *fs, dmu_tx_t *tx, uint32_t mode, size_t extra);
int inode_new(struct sz_fs *fs, const struct znode_new *znode, dmu_tx_t *tx,
	      struct inode **inode_out) MUST_CHECK;
uint64_t znode_create(objset_t *os, const sa_attr_type_t *attr, const struct znode_new *znode,
		      dmu_tx_t *tx);

/* acl.c: the trivial ACL of a mode. */
#define ACL_TRIVIAL_ENTRIES 6U
struct acl_trivial {
	uint64_t count;
	uint64_t size_bytes;
	zfs_ace_hdr_t entries[ACL_TRIVIAL_ENTRIES];
};
void acl_trivial_make(uint32_t mode, struct acl_trivial *acl_out);
uint64_t acl_flags(uint32_t mode); /* ZFS_ACL_TRIVIAL, and ZFS_NO_EXECS_DENIED if all may execute */
/* A new mode of an inode, and what goes with it. */
struct mode_change {
	uint64_t mode;
	uint64_t flags;
	struct acl_trivial acl;
};
#define MODE_CHANGE_BULK                                                                           \
	4 /* attributes that mode_change_add adds; *change stays until the update */
void mode_change_add(struct sz_fs *fs, struct inode *inode, uint32_t mode,
		     struct mode_change *change, sa_bulk_attr_t *bulk, int *count);

/* posix_acl.c: encoded ACLs. All but the first want one that is checked and not empty. */
#define POSIX_ACL_ACCESS    "system.posix_acl_access"
#define POSIX_ACL_DEFAULT   "system.posix_acl_default"
#define POSIX_ACL_BYTES_MAX 16384U /* two of them stand in an inode */
/* -EINVAL · -EOPNOTSUPP: another version · -E2BIG */
int posix_acl_check(const void *acl, size_t size) MUST_CHECK;
bool posix_acl_is_empty(size_t size);
/* The permission bits. Not extended: they say all that the ACL says. */
uint32_t posix_acl_mode(const void *acl, size_t size, bool *is_extended_out);
void posix_acl_chmod(void *acl, size_t size, uint32_t mode);
/* A default ACL becomes that of a new inode, which its maker wants to have mode; returns the mode. */
uint32_t posix_acl_create(void *acl, size_t size, uint32_t mode);

/* directory.c: what operations on names are made of. */
#define LOCKED_MAX 4U /* inodes that one operation locks: two folders, two entries */
struct locked {
	struct inode *inodes[LOCKED_MAX];
	unsigned int count;
};
/* Takes the write locks of the inodes that are not NULL, each once, in order. */
void lock_all(struct locked *locked, struct inode *const *inodes, unsigned int count);
void unlock_all(struct locked *locked);
int name_check(const char *name) MUST_CHECK;
bool is_dot(const char *name); /* "." or ".." */
/* A folder by number: -ENOTDIR; -ENOENT also if it was removed. */
int folder_get(struct sz_fs *fs, uint64_t number, struct inode **folder_out) MUST_CHECK;
/* -ENOENT if there is no such entry. */
int entry_find(struct sz_fs *fs, struct inode *folder, const char *name,
	       uint64_t *object_out) MUST_CHECK;
uint64_t entry_value(const struct inode *inode);
/* Times, size and link count of a folder whose entries changed; all in tx. */
void folder_update(struct sz_fs *fs, struct inode *folder, int64_t entries, int64_t folders,
		   dmu_tx_t *tx);
/* Link count and parent (0: stays) of an inode that got, lost or moved a name. */
void links_update(struct sz_fs *fs, struct inode *inode, uint64_t links, uint64_t parent,
		  dmu_tx_t *tx);
/* Takes a name of the inode away in tx; the last one puts it into the delete queue. */
void name_drop(struct sz_fs *fs, struct inode *inode, dmu_tx_t *tx);

/* file.c: under the inode's write lock. */
int file_truncate(struct sz_fs *fs, struct inode *inode, uint64_t end) MUST_CHECK;

/* xattr.c: under the inode's lock. *value_out: the caller's. -ENODATA */
int xattr_read(struct sz_fs *fs, struct inode *inode, const char *name, void **value_out,
	       size_t *size_out) MUST_CHECK;
/* Has the inode an ACL, it and the mode are changed; else *done_out is false. */
int xattr_acl_chmod(struct sz_fs *fs, struct inode *inode, uint32_t mode,
		    bool *done_out) MUST_CHECK;
/*
 * The hidden folder in which an inode's large attributes stand. Frees what is in it; takes on
 * the owner that the inode got; in transactions of their own.
 */
int xattr_folder_get(struct sz_fs *fs, struct inode *inode, struct inode **folder_out) MUST_CHECK;
int xattr_folder_empty(struct sz_fs *fs, struct inode *folder) MUST_CHECK;
int xattr_folder_chown(struct sz_fs *fs, struct inode *folder, unsigned int fields,
		       const struct stat *values) MUST_CHECK;

/* unlinked.c */
void unlinked_free(struct sz_fs *fs, struct inode *inode);
int unlinked_drain(struct sz_fs *fs) MUST_CHECK;

#endif
