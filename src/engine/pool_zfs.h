/* The open pool as ZFS sees it, for the layers that are written against ZFS. */
#ifndef SZ_ENGINE_POOL_ZFS_H
#define SZ_ENGINE_POOL_ZFS_H

#include "engine/engine.h"
#include "engine/zfs.h"

/* Held open as long as the pool is. */
spa_t *sz_pool_spa(struct sz_pool *);
bool sz_pool_is_read_only(const struct sz_pool *);

/* ZFS's name of a dataset (NULL: the root dataset), or of a snapshot of it. -ENAMETOOLONG */
#define SZ_DATASET_NAME_BYTES ZFS_MAX_DATASET_NAME_LEN
int sz_dataset_name(const char *dataset, const char *snapshot,
		    char name[SZ_DATASET_NAME_BYTES]) MUST_CHECK;
/* The same for one that is to be made. -EINVAL: ZFS has no such names; kind, as "dataset", is for the text. */
int sz_dataset_name_check(const char *dataset, const char *kind, char name[SZ_DATASET_NAME_BYTES],
			  struct sz_error *error) MUST_CHECK;

/* Properties of a new volume, the caller's. -EINVAL: no such one, or value; or refused. */
int sz_volume_properties_make(const struct sz_property *properties, size_t count,
			      nvlist_t **list_out, struct sz_error *error) MUST_CHECK;
/* Of a new dataset; takes from the list what is not a property alone. */
int sz_properties_set(const char *dataset, nvlist_t *properties, struct sz_error *error) MUST_CHECK;

/* -errno for an error of ZFS. */
int sz_zfs_error(int zfs_error);
/* Assigns the transaction; aborts it when that fails. */
int sz_tx_begin(dmu_tx_t *tx) MUST_CHECK;
/* Of an object set that was owned with that tag. */
void sz_objset_disown(objset_t *os, const void *tag);
/* -EINVAL: blocks without a checksum would be read as filler where a device is damaged, and nobody would know. */
int sz_checksums_check(objset_t *os, const char *name, struct sz_error *error) MUST_CHECK;

/*
 * A record of the intent log for one write; itx_private, itx_gen and itx_sync are the caller's to set. What is to be copied
 * now, and cannot be read, is copied later.
 */
itx_t *sz_log_write(dnode_t *dnode, uint64_t offset, uint64_t length, itx_wr_state_t state);

/* replay.c: what an intent log's records mean. */
struct sz_replay {
	objset_t *os; /* its log is open (zil_open) */
	const char *name;
	/* May it be replayed here? It is whole then, and its fields are possible. */
	bool (*is_known)(const lr_t *record);
	/* Does it, and notes it (zil_replaying) in the same transaction. data: of a TX_WRITE. 0 or -errno */
	int (*apply)(void *context, const lr_t *record, const void *data);
	/* What it is about is not there any more; NULL: that cannot be. */
	bool (*is_of_nothing)(void *context, const lr_t *record);
	void *context;
};
/*
 * Does what the log says, and empties it. Nothing is passed over: an error leaves the rest as it is. -EOPNOTSUPP · -EBADMSG:
 * the log is damaged
 */
int sz_replay_run(const struct sz_replay *replay, struct sz_error *error) MUST_CHECK;
/* Are there records that are not in the data yet? */
bool sz_replay_is_due(objset_t *os);

#endif
