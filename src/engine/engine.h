/*
 * engine: OpenZFS in this process. A pool on a store's devices: create, import, export, scrub,
 * status. ZFS's headers are only seen by this layer and by fs, through engine/zfs.h.
 *
 * One pool a process. sz_engine_start must come after any fork, from one thread, before all else.
 * libzpool aborts on a broken invariant; what was flushed before is safe (docs/DESIGN.md).
 */
#ifndef SZ_ENGINE_ENGINE_H
#define SZ_ENGINE_ENGINE_H

#include "base/base.h"
#include "device/device.h"

#define SZ_POOL_NAME "szpool" /* the pool's name in its labels; of no meaning outside */

struct sz_pool;

/*
 * memory_bytes bounds what ZFS and szpool use together (0: default, 512 MiB; smallest 128 MiB). Once it has
 * started, it does nothing.
 */
int sz_engine_start(uint64_t memory_bytes, struct sz_error *error) MUST_CHECK;

enum sz_raid {
	SZ_RAID_STRIPE,
	SZ_RAID_MIRROR,
	SZ_RAID_Z1,
	SZ_RAID_Z2,
	SZ_RAID_Z3
};
uint32_t sz_raid_parity(enum sz_raid, uint32_t devices); /* devices that may be lost */
uint32_t sz_raid_min_devices(enum sz_raid);
bool sz_raid_parse(const char *name, enum sz_raid *raid_out); /* "raidz2", "raidz1", "raidz", … */

/* name=value pairs, pool or dataset properties; ZFS's names and value spellings. */
struct sz_property {
	const char *name;
	const char *value;
};

/*
 * Creates the pool on all devices of the store, with a root dataset that is an empty file system
 * (ZPL 5), all pool features on. -EINVAL: a property that is unknown, or refused (checksum=off).
 */
int sz_pool_create(struct sz_store *, enum sz_raid, const struct sz_property *properties,
		   size_t property_count, struct sz_pool **pool_out,
		   struct sz_error *error) MUST_CHECK;

/*
 * Imports the pool of the store's devices; missing ones leave it degraded. -ENODATA: there is no
 * pool on them · -ENXIO: too many devices are missing or damaged (the text says which); nothing is
 * written then · -EUCLEAN: the pool has a leaf that is no device · -EROFS: the store is read-only, the
 * import is not. Waits neither for a resilver nor for anything else in the background. Imported
 * read_only, nothing is written.
 */
int sz_pool_import(struct sz_store *, bool read_only, struct sz_pool **pool_out,
		   struct sz_error *error) MUST_CHECK;

/*
 * Writes everything out and closes the pool (not the store). Frees it also when it fails. A suspended
 * pool is left behind (-EIO, -ENOSPC): its I/O fails from then on, and the store may be closed.
 */
int sz_pool_export(struct sz_pool *, struct sz_error *error) MUST_CHECK;

/*
 * Waits until everything written so far is in a synced transaction group (and so on disk). Blocks
 * while the pool is suspended.
 */
int sz_pool_sync(struct sz_pool *, struct sz_error *error) MUST_CHECK;

/*
 * A pool is suspended when too many devices fail, or no device takes writes (a full disk). Every
 * writing operation, sync and export then blocks until sz_pool_clear finds the devices working
 * again. The function is called once for each suspension, from a thread of its own; error->code is
 * -ENOSPC or -EIO, the text says which device and what to do. In general it prints that and ends the
 * process by _exit: nothing that was synced is lost. It must not export the pool.
 */
typedef void sz_pool_suspended_fn(void *context, const struct sz_error *error);
/* For pools that are created or imported from now on, already while that goes on: it would not return. */
void sz_pool_on_suspend(sz_pool_suspended_fn *, void *context);
bool sz_pool_is_suspended(struct sz_pool *);

/* Bytes of files for which the disks under the pool have room, beyond their reserve. */
uint64_t sz_pool_room(struct sz_pool *);
/*
 * May so much new data come? Where there is no room, what was accepted is written out first, and history goes. -ENOSPC:
 * no; what frees space goes on.
 */
int sz_pool_admit(struct sz_pool *, uint64_t bytes) MUST_CHECK;

/* Pool and dataset space in bytes, as df would say: of pool and disks what has less. */
struct sz_pool_space {
	uint64_t size_bytes; /* usable, after redundancy */
	uint64_t used_bytes;
	uint64_t available_bytes;
	bool is_disks;           /* the disks under the pool have less than the pool */
	uint64_t raw_size_bytes; /* as zpool list says: SIZE, ALLOC */
	uint64_t raw_allocated_bytes;
};
int sz_pool_space(struct sz_pool *, struct sz_pool_space *space_out) MUST_CHECK;

/* Scrub and resilver. */
enum sz_scan {
	SZ_SCAN_NONE,
	SZ_SCAN_SCRUB,
	SZ_SCAN_RESILVER
};
enum sz_scan_state {
	SZ_SCAN_IDLE,
	SZ_SCAN_RUNNING,
	SZ_SCAN_FINISHED,
	SZ_SCAN_CANCELED
};
struct sz_scan_status {
	enum sz_scan kind;
	enum sz_scan_state state;
	uint64_t start_wall_s; /* seconds since 1970 */
	uint64_t end_wall_s;
	uint64_t examined_bytes;
	uint64_t issued_bytes;
	uint64_t total_bytes;
	uint64_t repaired_bytes;
	uint64_t errors;
	bool is_of_this_opening; /* it ended, or runs, since the pool was opened */
	bool resilver_needed;    /* redundancy is not complete, also when no scan runs yet */
};
int sz_pool_scrub_start(struct sz_pool *, struct sz_error *error) MUST_CHECK;
int sz_pool_scrub_stop(struct sz_pool *, struct sz_error *error) MUST_CHECK;
void sz_pool_scan_status(struct sz_pool *, struct sz_scan_status *status_out);
/*
 * Waits until no scrub runs and no resilver is due. progress (may be NULL) is called about 5 times a
 * second; false ends the waiting (-EINTR). -EBADMSG: the resilver ended with errors.
 */
typedef bool sz_scan_progress_fn(void *context, const struct sz_scan_status *);
int sz_pool_scan_wait(struct sz_pool *, sz_scan_progress_fn *progress, void *context,
		      struct sz_error *error) MUST_CHECK;
/* Zeroes error counters and brings devices back online. */
void sz_pool_clear(struct sz_pool *);
/*
 * Rebuilds what ZFS cannot open although its device is ONLINE (its labels are gone: the device was
 * replaced, or lost too much): each such leaf is replaced in its own place, which starts a resilver.
 */
int sz_pool_rebuild(struct sz_pool *, uint32_t *rebuilt_count_out,
		    struct sz_error *error) MUST_CHECK;
/*
 * Has the devices forget all that the pool does not use, down to a sector. Devices that are not ONLINE are left
 * out. progress (may be NULL) is called often; false ends it (-EINTR), and what was trimmed stays so.
 */
typedef bool sz_trim_progress_fn(void *context, uint64_t done_bytes, uint64_t total_bytes);
int sz_pool_trim(struct sz_pool *, sz_trim_progress_fn *progress, void *context,
		 struct sz_error *error) MUST_CHECK;

/* Status: the configuration tree in zpool-status terms. */
#define SZ_VDEV_NAME_BYTES 64
struct sz_vdev_status {
	char name[SZ_VDEV_NAME_BYTES]; /* "szpool", "raidz2-0", "device 3" */
	uint32_t depth;                /* 0: the root */
	bool is_leaf;
	uint32_t device; /* if is_leaf: its index in the store */
	char state[16];  /* ONLINE, DEGRADED, FAULTED, OFFLINE, UNAVAIL, REMOVED */
	char note[96];   /* "", "too many errors", "resilvering", … */
	uint64_t read_errors;
	uint64_t write_errors;
	uint64_t checksum_errors;
	uint64_t size_bytes;
	uint64_t allocated_bytes;
};
struct sz_pool_status {
	char state[16];
	char status_text[256]; /* what is wrong and what it means, "" if nothing */
	char action_text[256]; /* what to do, "" if nothing */
	struct sz_scan_status scan;
	uint64_t data_errors;         /* files or objects with permanent errors */
	struct sz_vdev_status *vdevs; /* depth first; freed by _free */
	size_t vdev_count;
};
int sz_pool_status(struct sz_pool *, struct sz_pool_status *status_out,
		   struct sz_error *error) MUST_CHECK;
void sz_pool_status_free(struct sz_pool_status *);

/*
 * Calls the function for each object with permanent errors, once. dataset: its object set, 0 is the
 * pool's own; sz_fs_damaged_each turns them into paths. A value other than 0 ends it and is returned.
 */
typedef int sz_data_error_fn(void *context, uint64_t dataset, uint64_t object);
int sz_pool_data_error_each(struct sz_pool *, sz_data_error_fn *, void *context) MUST_CHECK;

/*
 * Snapshots of a dataset (NULL: the pool's root dataset). Each call is on disk when it returns.
 * -EINVAL: not a name for a snapshot · -ENOENT · -EEXIST · -EBUSY: in use · -EROFS
 */
#define SZ_SNAPSHOT_NAME_BYTES 256
struct sz_snapshot {
	char name[SZ_SNAPSHOT_NAME_BYTES]; /* what is behind the @ */
	uint64_t created_wall_s;           /* seconds since 1970 */
	uint64_t txg;                      /* they are in this order */
	uint64_t used_bytes;               /* only it refers to them */
	uint64_t referenced_bytes;
};
/* All that was done before is in it. */
int sz_pool_snapshot(struct sz_pool *, const char *dataset, const char *snapshot,
		     struct sz_error *error) MUST_CHECK;
/* Oldest first. A value other than 0 ends it and is returned. -ENOENT: no such dataset. */
typedef int sz_snapshot_fn(void *context, const struct sz_snapshot *);
int sz_pool_snapshot_each(struct sz_pool *, const char *dataset, sz_snapshot_fn *,
			  void *context) MUST_CHECK;
int sz_pool_snapshot_destroy(struct sz_pool *, const char *dataset, const char *snapshot,
			     struct sz_error *error) MUST_CHECK;
/*
 * Makes the dataset what the snapshot is. Newer snapshots go, if destroy_newer; otherwise they are -EEXIST.
 * -EBUSY: it is open, or one of those that would go is; then none goes. Until it returns nobody can open the dataset.
 */
int sz_pool_rollback(struct sz_pool *, const char *dataset, const char *snapshot,
		     bool destroy_newer, struct sz_error *error) MUST_CHECK;

#endif
