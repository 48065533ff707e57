/*
 * What the files of fs share.
 *
 * Locks, in order: fs.rename_lock → inode.lock (several: by ascending object number) →
 * fs.table_lock; fs.writeout_lock by itself. Waiting for a transaction group under an inode's lock is
 * allowed: syncing takes none of them. The intent log takes inode.lock for reading when it is
 * committed: log_commit is called without any lock.
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

#define FREER_MAX   256U /* large files that wait to be freed; others are freed at once */
#define LARGE_BYTES (64ULL << 20)

struct inode {
	uint64_t object;
	sa_handle_t *sa;
	dnode_t *dnode;
	uint32_t mode;         /* type bits only: they never change */
	pthread_rwlock_t lock; /* content and attributes; for folders also the entries */
	bool unlinked;         /* no name is left (under lock) */
	bool is_unnamed;       /* unlinked, and never had one: it may get one (under lock) */
	uint32_t
		writeouts; /* blocks that the intent log writes just now (under fs.writeout_lock) */
	/* Under fs.table_lock: */
	bool is_going; /* its object is being freed: nobody gets it any more */
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

SLIST_HEAD(writeout_list, writeout);

struct sz_fs {
	objset_t *os;
	struct sz_pool *pool;
	bool read_only;
	uint64_t xattr_kind; /* the property xattr: ZFS_XATTR_OFF, _DIR, _SA */
	uint64_t atime;      /* the properties atime and relatime: 0 or 1 */
	uint64_t relatime;
	uint64_t quotas[ZFS_NUM_USERQUOTA_PROPS]; /* tables; 0: there is none */
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
	zilog_t *log; /* NULL: read-only */
	/* snapshots.c, datasets.c: those that are open, of this; and, if this is one itself, of what, and how often. */
	pthread_mutex_t snapshots_lock; /* before all others */
	LIST_HEAD(snapshot_list, sz_fs) snapshots;
	LIST_ENTRY(sz_fs) in_snapshots; /* these three under of's lock */
	struct sz_fs *of;
	uint32_t users;
	struct freer {
		pthread_t thread;
		bool runs;
		pthread_mutex_t lock; /* by itself */
		pthread_cond_t added; /* or ends */
		/* Under lock: */
		bool ends;
		struct inode *inodes[FREER_MAX]; /* whose last references these are */
		uint32_t count;
	} freer;
	pthread_mutex_t writeout_lock;
	pthread_cond_t writeout_done;
	struct writeout_list written; /* their inodes are put by the next log_commit */
};

/* fs.c: the master node, the delete queue and the root folder of an empty dataset. */
void format_in(objset_t *os, uint32_t uid, uint32_t gid, dmu_tx_t *tx);

void now_encode(uint64_t time[2]);
/* Whether the disks under the pool have room for new data: -ENOSPC. Without any lock of an inode. */
int new_data_admit(struct sz_fs *fs, uint64_t bytes) MUST_CHECK;
#define INODE_BYTES 4096U /* that a new inode with its entry is admitted as */

/* snapshots.c: a snapshot or child that is open beside the head, by its full name; under snapshots_lock. NULL: none is. */
struct sz_fs *sz_fs_opened_find(struct sz_fs *head, const char *full);

/* inode.c: an inode stays valid until it is put. -ENOENT: no such object, or no file's. */
int inode_get(struct sz_fs *fs, uint64_t object, struct inode **inode_out) MUST_CHECK;
/* Frees the object of an unlinked inode that is not held. */
void inode_put(struct sz_fs *fs, struct inode *inode);
void inode_release_all(struct sz_fs *fs); /* at closing: nobody holds anything any more */
int inode_table_init(struct sz_fs *fs) MUST_CHECK;
void inode_table_fini(struct sz_fs *fs);
uint64_t inode_u64(struct sz_fs *fs, struct inode *inode, zpl_attr_t attribute);
uint64_t rdev_decode(uint64_t stored); /* ZPL_RDEV, as stat has it */
/* What the intent log says of an object that is made once more. */
struct znode_claim {
	uint64_t object;
	uint64_t slots; /* of its dnode */
	uint64_t generation;
	uint64_t time[2];
};
/* What a new object is made of. */
struct znode_new {
	const struct sz_fs_new *new;
	const char *target; /* of a symlink, else NULL */
	uint64_t parent;    /* 0: it is the root */
	uint64_t flags;     /* ZFS_XATTR: it is part of extended attributes; ZFS_PROJINHERIT */
	uint64_t project;
	char *xattrs; /* its extended attributes, packed; NULL: none */
	size_t xattrs_size;
	const struct znode_claim *claim; /* NULL: it is new indeed */
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

/* The same as the interface's, with what replaying adds: the object of what is made, a whiteout's. */
int entry_create(struct sz_fs *fs, uint64_t parent, const char *name, const struct sz_fs_new *new,
		 const char *target, const struct znode_claim *claim,
		 uint64_t *inode_out) MUST_CHECK;
int entry_remove(struct sz_fs *fs, uint64_t parent, const char *name, bool folder) MUST_CHECK;
int entry_rename(struct sz_fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned int flags,
		 const struct znode_claim *claim) MUST_CHECK;

/* file.c: under the inode's content lock. */
uint32_t file_block_size(struct inode *inode);
int file_truncate(struct sz_fs *fs, struct inode *inode, uint64_t end) MUST_CHECK;
/* Frees a range, and extends the file to its end, if that is further; length 0: all from offset on. */
int content_free(struct sz_fs *fs, struct inode *inode, uint64_t offset,
		 uint64_t length) MUST_CHECK;
/* In one transaction. The file ends at end at least, not where what is written does. */
int content_write(struct sz_fs *fs, struct inode *inode, const char *buffer, size_t length,
		  uint64_t offset, uint64_t end) MUST_CHECK;

/* attributes.c */
/* The inode was read: by the properties atime and relatime. Without its lock. */
void atime_touch(struct sz_fs *fs, struct inode *inode);
/* The others under the inode's write lock. */
/* Attributes that are bits of ZPL_FLAGS, and what stands in the intent log with them. */
struct flags_change {
	uint64_t mask; /* ZFS_READONLY, ZFS_IMMUTABLE, …: those that change */
	uint64_t value;
	bool sets_project;
	uint64_t project;
};
/* Everything but the size, in one transaction. flags: NULL, or what changes of those. */
int attributes_set(struct sz_fs *fs, struct inode *inode, unsigned int fields,
		   const struct stat *values, const struct flags_change *flags) MUST_CHECK;

/*
 * log.c: the intent log (ZIL): what is written of an operation before its transaction group is synced.
 * All but the first four are called in the operation's transaction, under its inodes' locks.
 */
int log_open(struct sz_fs *fs, struct sz_error *error) MUST_CHECK; /* replays what is left in it */
void log_close(struct sz_fs *fs);
/* Returns when what was done to the inode is on disk, and all names; 0: everything. Takes no lock. */
void log_commit(struct sz_fs *fs, uint64_t object);
/* Does it if the dataset has sync=always; result: of the operation, which is returned. */
int log_finish(struct sz_fs *fs, uint64_t object, int result);
void log_create(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
		struct inode *inode, const char *target);
void log_remove(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
		struct inode *inode);
void log_link(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
	      struct inode *inode);
/* flags: 0, RENAME_EXCHANGE, or RENAME_WHITEOUT with the inode that takes the old name. */
void log_rename(struct sz_fs *fs, dmu_tx_t *tx, struct inode *const folders[2],
		const char *const names[2], struct inode *inode, unsigned int flags,
		struct inode *whiteout);
void log_write(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
	       uint64_t length);
void log_truncate(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
		  uint64_t length);
/* fields: SZ_SET_*; SZ_SET_SIZE too, which was done before. flags: NULL, or what changes of those. */
void log_setattr(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, unsigned int fields,
		 const struct stat *values, const struct flags_change *flags);
/* value NULL: it goes. Of those among the inode's own attributes; an empty one cannot be logged. */
bool log_can_setxattr(const struct sz_fs *fs, const void *value, size_t size);
void log_setxattr(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, const char *name,
		  const void *value, size_t size);
/*
 * For what there is no record for: a commit waits here for the transaction group, before it writes
 * what was done later, which may build on it.
 */
void log_barrier(struct sz_fs *fs, dmu_tx_t *tx);
/* Of what was cloned: blocks, count of them, each of block bytes. */
void log_clone(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
	       uint64_t length, uint64_t block, const blkptr_t *blocks, size_t count);
/* The write lock of an inode whose content is to change: nothing of it is being written then. */
void content_lock(struct sz_fs *fs, struct inode *inode);
void content_wait(struct sz_fs *fs, struct inode *inode); /* the same, under its write lock */

/* flags.c: -EPERM if the inode has one of these (ZFS_IMMUTABLE, ZFS_APPENDONLY). NULL: none has. */
int flags_allow(struct sz_fs *fs, struct inode *inode, uint64_t forbidden) MUST_CHECK;
#define FLAGS_FIXED ((uint64_t)(ZFS_IMMUTABLE | ZFS_APPENDONLY))

/* quota.c: -EDQUOT */
int quotas_load(struct sz_fs *fs) MUST_CHECK;
int quota_allow_write(struct sz_fs *fs, struct inode *inode) MUST_CHECK;
int quota_allow_new(struct sz_fs *fs, const struct znode_new *znode) MUST_CHECK;
/* Is one over its quota, for space or objects? kind: ZFS_PROP_USERQUOTA, _GROUPQUOTA, _PROJECTQUOTA */
bool quota_is_over(struct sz_fs *fs, zfs_userquota_prop_t kind, uint64_t id);

/* clone.c: under the inode's content lock. */
int clone_replay(struct sz_fs *fs, struct inode *inode, const lr_clone_range_t *record) MUST_CHECK;

/* replay.c: all types of records have a function. */
#define LOG_MASK_XVATTR (1U << 31) /* of lr_mask: attributes in flags follow */
enum log_mask {                    /* Linux's ATTR_* */
	LOG_MASK_MODE = 1 << 0,
	LOG_MASK_UID = 1 << 1,
	LOG_MASK_GID = 1 << 2,
	LOG_MASK_SIZE = 1 << 3,
	LOG_MASK_ATIME = 1 << 4,
	LOG_MASK_MTIME = 1 << 5,
	LOG_MASK_CTIME = 1 << 6,
};
/* Attributes that are flags, as the log has them (bits of the first word of a bitmap; XAT0_*). */
#define LOG_FLAG_WORDS   3U
#define LOG_FLAG_PROJECT 0x40000U /* not a flag: a project's number follows */
/* The attributes that are flags, as the log has them, and in ZPL_FLAGS. */
struct log_flag {
	uint32_t log; /* XAT0_* of ZFS, whose header a program cannot include */
	uint64_t flag;
};
extern const struct log_flag log_flags[];
extern const size_t log_flag_count;
/* sz_replay_run */
int replay_run(struct sz_fs *fs, struct sz_error *error) MUST_CHECK;

/* xattr.c: under the inode's lock. *value_out: the caller's. -ENODATA */
int xattr_read(struct sz_fs *fs, struct inode *inode, const char *name, void **value_out,
	       size_t *size_out) MUST_CHECK;
/* As it stands in the log: under the name with which it is stored. value NULL: removes it. */
int xattr_replay(struct sz_fs *fs, struct inode *inode, const char *name, const void *value,
		 size_t size) MUST_CHECK;
/* The hidden folder is made, as the log says. */
int xattr_folder_replay(struct sz_fs *fs, struct inode *inode, const struct sz_fs_new *new,
			const struct znode_claim *claim) MUST_CHECK;
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

/*
 * unlinked.c. The freer is a thread that frees large files, so that who lets the last one go need not wait. Stopped,
 * it has freed all that it was given.
 */
int freer_start(struct sz_fs *fs) MUST_CHECK;
void freer_stop(struct sz_fs *fs);
/* inode_put, if need be by the freer. */
void inode_put_later(struct sz_fs *fs, struct inode *inode);
void unlinked_free(struct sz_fs *fs, struct inode *inode);
int unlinked_drain(struct sz_fs *fs) MUST_CHECK;

#endif
