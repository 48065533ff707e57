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

#endif
