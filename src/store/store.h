/*
 * store: named objects in folders. A backend is one device's folder; this layer knows nothing of
 * what is in the objects.
 *
 * A folder has two parts: the sealed objects, directly in it, and the live files of the open epoch,
 * in its subfolder "live". A file is written once: no byte of it is overwritten after its write
 * completed, so that a copy taken at any moment holds what it holds.
 *
 * Errors: -ENOENT absent · -EEXIST the name is taken · -ENAMETOOLONG, -EINVAL bad name · everything
 * else as the system call gave it (-EIO, -ENOSPC, -EACCES, -EROFS, …). A whole folder that is gone is
 * -ENODEV, never -ENOENT: a missing disk is not a missing object.
 *
 * All functions may be called from any thread at once; a sz_file may be read and written by several
 * threads at once. All block.
 */
#ifndef SZ_STORE_STORE_H
#define SZ_STORE_STORE_H

#include "base/base.h"

enum sz_part {
	SZ_SEALED, /* the folder itself */
	SZ_LIVE,   /* its subfolder SZ_LIVE_FOLDER */
};

#define SZ_LIVE_FOLDER    "live" /* its name; no sealed object may be called so (-EINVAL) */
#define SZ_NAME_MAX_BYTES 255

struct sz_file; /* an open object; owned by the caller of _create or _open */

/* Called for each regular file; a value other than 0 ends the listing and is returned. */
typedef int sz_list_fn(void *context, const char *name, uint64_t size_bytes);

struct sz_backend;

/* Space of the file system that a folder is on, as an unprivileged user may use it. */
struct sz_space {
	uint64_t free_bytes;
	uint64_t total_bytes;
	uint64_t disk; /* folders on the same file system have the same */
};

/* What a backend implements. Each slot is documented at the function below that calls it. */
struct sz_backend_ops {
	int (*list)(struct sz_backend *, enum sz_part, sz_list_fn *, void *context);
	int (*create)(struct sz_backend *, enum sz_part, const char *name, struct sz_file **);
	int (*open)(struct sz_backend *, enum sz_part, const char *name, struct sz_file **);
	int (*rename)(struct sz_backend *, const char *live_name, const char *sealed_name);
	int (*remove)(struct sz_backend *, enum sz_part, const char *name);
	int (*sync_folder)(struct sz_backend *, enum sz_part);
	int (*space)(struct sz_backend *, struct sz_space *space_out);
	void (*settle)(struct sz_backend *);                 /* NULL: nothing */
	int (*lock)(struct sz_backend *, bool is_exclusive); /* NULL: nobody else can reach it */
	void (*close)(struct sz_backend *);
	int (*file_read)(struct sz_file *, void *, size_t, uint64_t offset, size_t *done_out);
	int (*file_read_cached)(struct sz_file *, void *, size_t,
				uint64_t offset); /* NULL: -EAGAIN */
	int (*file_write)(struct sz_file *, const void *, size_t, uint64_t offset);
	void (*file_sync_begin)(struct sz_file *); /* NULL: nothing */
	int (*file_sync)(struct sz_file *);
	int (*file_stat)(struct sz_file *, uint64_t *size_out, uint64_t *inode_out);
	int (*file_hold)(struct sz_file *);
	int (*file_is_held)(struct sz_file *, bool *is_held_out);
	void (*file_close)(struct sz_file *);
};

struct sz_backend {
	const struct sz_backend_ops *ops;
	const char *label; /* for messages: the folder's path; owned by the backend */
};

struct sz_file {
	const struct sz_backend_ops *ops;
};

/* Lists the regular files of a part (others are skipped), in no order. A missing live/ is empty. */
int sz_backend_list(struct sz_backend *, enum sz_part, sz_list_fn *, void *context) MUST_CHECK;

/* Creates a new, empty file, open for reading and writing. -EEXIST if there is one. */
int sz_backend_create(struct sz_backend *, enum sz_part, const char *name,
		      struct sz_file **file_out) MUST_CHECK;

/* Opens a file for reading. Never follows a link; -ENOENT also for what is not a regular file. */
int sz_backend_open(struct sz_backend *, enum sz_part, const char *name,
		    struct sz_file **file_out) MUST_CHECK;

/* Moves a live file among the sealed ones: never replaces (-EEXIST). Durable after _sync_folder. */
int sz_backend_rename(struct sz_backend *, const char *live_name,
		      const char *sealed_name) MUST_CHECK;
int sz_backend_remove(struct sz_backend *, enum sz_part, const char *name) MUST_CHECK;

/* Makes creations, renames and removals in a part durable. */
int sz_backend_sync_folder(struct sz_backend *, enum sz_part) MUST_CHECK;

int sz_backend_space(struct sz_backend *, struct sz_space *space_out) MUST_CHECK;
/* Some hosts (btrfs) count what was removed as free only later; after this, which may take a while, they do. */
void sz_backend_settle(struct sz_backend *);

/*
 * Says to others, also in other processes, that somebody writes to the folder (is_exclusive) or reads it: until the backend
 * is closed. -EBUSY: they do. It keeps nobody from anything who does not ask. 0, too, where the host knows no such locks.
 */
int sz_backend_lock(struct sz_backend *, bool is_exclusive) MUST_CHECK;
void sz_backend_close(struct sz_backend *); /* after all its files; NULL is allowed */

/* *done_out < length only at the end of the file. A hole reads as zeros. */
int sz_file_read(struct sz_file *, void *buffer, size_t length, uint64_t offset,
		 size_t *done_out) MUST_CHECK;
/* All of length, without waiting for a disk; -EAGAIN: only _read can tell. The buffer's content is undefined then. */
int sz_file_read_cached(struct sz_file *, void *buffer, size_t length, uint64_t offset) MUST_CHECK;
int sz_file_write(struct sz_file *, const void *buffer, size_t length, uint64_t offset) MUST_CHECK;
/* Who syncs several files tells all of them first: they are written at the same time. Promises nothing. */
void sz_file_sync_begin(struct sz_file *);
int sz_file_sync(struct sz_file *) MUST_CHECK; /* fdatasync: content and length */
int sz_file_stat(struct sz_file *, uint64_t *size_bytes_out, uint64_t *inode_out) MUST_CHECK;
/*
 * Says to others, also in other processes, that somebody needs the file: until it is closed. Whoever means to
 * remove a file asks with _is_held, which does not count what this sz_file holds itself. It keeps nobody from
 * removing it: whoever holds a file looks afterwards whether it is still there by its name.
 */
int sz_file_hold(struct sz_file *) MUST_CHECK;
int sz_file_is_held(struct sz_file *, bool *is_held_out) MUST_CHECK;
void sz_file_close(struct sz_file *); /* NULL is allowed */

/*
 * The folder backend: path must be a folder (-ENOTDIR, -ENOENT, -EACCES). live/ is made when the
 * first live file is. read_only: nothing is ever created (-EROFS).
 */
int sz_folder_open(const char *path, bool read_only, struct sz_backend **backend_out) MUST_CHECK;

/*
 * The volatile backend: reads from inner (which it owns from then on), and keeps in memory whatever is
 * changed, until it is closed. limit_bytes: of memory for that; then -ENOSPC, and what _space says.
 */
int sz_volatile_open(struct sz_backend *inner, uint64_t limit_bytes,
		     struct sz_backend **backend_out) MUST_CHECK;

/*
 * The memory backend, for tests and for what is not to last. It keeps, besides what a reader sees, what a power cut would leave:
 * content after the last _file_sync and names after the last _sync_folder are not durable.
 * sz_memory_crash makes a new backend that holds the durable part and a choice of the rest:
 */
enum sz_crash {
	/*
	 * Everything that was written is there: the process died, not the machine. What was not
	 * synced is still not durable: a later crash of the new backend may lose it.
	 */
	SZ_CRASH_CLEAN,
	SZ_CRASH_DROP,    /* nothing unsynced is there */
	SZ_CRASH_REORDER, /* each unsynced write and name change is there or not, by seed */
	SZ_CRASH_TORN,    /* the same, and a write may be there in part, in units of 512 bytes */
};
int sz_memory_open(const char *label, struct sz_backend **backend_out) MUST_CHECK;
/*
 * Leaves the backend as it is: it may be crashed many times. The same history and the same seed give
 * the same choice. Backends are cut one by one: writers that go on meanwhile make a cut that no power
 * cut makes, unless they are held (see sz_fault_plan.at).
 */
int sz_memory_crash(struct sz_backend *backend, enum sz_crash crash, uint64_t seed,
		    struct sz_backend **backend_out) MUST_CHECK;
/* Size of the disk, 1 TiB at first. A write for which there is no space is -ENOSPC. */
void sz_memory_limit(struct sz_backend *backend, uint64_t total_bytes);
/* From now on _space counts what is removed only after _settle, as btrfs does. A write finds it at once. */
void sz_memory_count_late(struct sz_backend *backend);
/*
 * How many writes so far hit a byte that an earlier one had written: 0, or the caller has broken
 * the first rule of this file. Seen are the 64-byte units that an earlier write covered as a whole.
 */
uint64_t sz_memory_overwrites(struct sz_backend *backend);

/*
 * The fault-injecting backend, for tests: passes everything on to inner (which it owns from then
 * on) and counts operations in *plan, shared by the backends of one store.
 */
enum sz_operation {
	SZ_OP_LIST = 1 << 0,
	SZ_OP_CREATE = 1 << 1,
	SZ_OP_OPEN = 1 << 2,
	SZ_OP_RENAME = 1 << 3,
	SZ_OP_REMOVE = 1 << 4,
	SZ_OP_SYNC_FOLDER = 1 << 5,
	SZ_OP_READ = 1 << 6,
	SZ_OP_WRITE = 1 << 7,
	SZ_OP_SYNC = 1 << 8,
	SZ_OP_CHANGES = SZ_OP_CREATE | SZ_OP_RENAME | SZ_OP_REMOVE | SZ_OP_SYNC_FOLDER |
			SZ_OP_WRITE | SZ_OP_SYNC,
};
struct sz_fault_plan {
	uint64_t count;     /* operations of the kinds in mask so far; atomic */
	unsigned int mask;  /* which kinds count, and may fail */
	uint64_t fail_at;   /* the operation with this count fails (1 is the first; 0: none) … */
	bool fail_from;     /* … and all after it too … */
	uint64_t fail_last; /* … up to this one; 0: for ever */
	int error;          /* with this -errno */
	bool tear;          /* a failing write is done in part first, in units of 512 bytes */
	void (*at)(
		void *); /* called instead of failing if not NULL, before the operation is done */
	void *at_context;
};
int sz_fault_open(struct sz_backend *inner, struct sz_fault_plan *plan,
		  struct sz_backend **backend_out) MUST_CHECK;

#endif
