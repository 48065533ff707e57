/* What the files of volume share. */
#ifndef SZ_VOLUME_VOLUME_INTERNAL_H
#define SZ_VOLUME_VOLUME_INTERNAL_H

#include <sys/queue.h>

#include "engine/pool_zfs.h"
#include "volume/volume.h"

/* The format's: the objects in a volume's dataset, and the entry for its size. */
#define DATA_OBJECT 1U
#define ZAP_OBJECT  2U
#define SIZE_ENTRY  "size"

/*
 * Locks: ranges, by ZFS, of what is read or written; nothing else is taken under one. The intent log takes them for
 * reading when it is committed: volume_log_commit is called without any.
 */
struct sz_volume {
	LIST_ENTRY(sz_volume) in_opened; /* these two under open.c's lock */
	uint32_t users;
	struct sz_pool *pool;
	objset_t *os;
	dnode_t *dnode; /* of DATA_OBJECT */
	zilog_t *log;   /* NULL: read-only */
	zfs_rangelock_t ranges;
	uint64_t size_bytes;
	uint32_t block_bytes;
	char name[SZ_DATASET_NAME_BYTES];
};

/* ZFS's name of a volume or a snapshot of one, and what an error with it means; for people, the name without the pool's. */
int volume_name(const char *name, char full[SZ_DATASET_NAME_BYTES],
		struct sz_error *error) MUST_CHECK;
int volume_fail(struct sz_error *error, int zfs_error, const char *name);
/* Of an object set that is held. */
int volume_sizes(objset_t *os, uint64_t *size_out, uint32_t *block_out) MUST_CHECK;

/* log.c: the intent log. */
int volume_log_open(struct sz_volume *volume, bool read_only, struct sz_error *error) MUST_CHECK;
void volume_log_close(struct sz_volume *volume);
/* Returns when all that was logged is on disk. */
void volume_log_commit(struct sz_volume *volume);
/* In the transaction that does it, under the range's lock. is_durable: a commit follows. */
void volume_log_write(struct sz_volume *volume, dmu_tx_t *tx, uint64_t offset, uint64_t length,
		      bool is_durable);
void volume_log_zero(struct sz_volume *volume, dmu_tx_t *tx, uint64_t offset, uint64_t length);

/* data.c: what replaying does too; under the range's lock, or while nobody else has it. */
int volume_data_write(struct sz_volume *volume, const void *buffer, uint64_t length,
		      uint64_t offset, bool is_durable) MUST_CHECK;
int volume_data_zero(struct sz_volume *volume, uint64_t offset, uint64_t length) MUST_CHECK;

#endif
