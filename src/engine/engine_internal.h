/* What the engine's files share. */
#ifndef SZ_ENGINE_ENGINE_INTERNAL_H
#define SZ_ENGINE_ENGINE_INTERNAL_H

#include "engine/pool_zfs.h"

struct sz_pool {
	struct sz_store *store;
	spa_t *spa; /* a reference of ours: spa_open(…, pool) */
	bool read_only;
};

/*
 * Leaf driver. A leaf's path is "/szpool/INDEX"; paths of any other form are refused. The store must
 * be set before a pool is created or imported, and stay until it is exported.
 */
void sz_leaf_set_store(struct sz_store *);
void sz_leaf_path(uint32_t index, char path[32]);
/* -ENOENT: not a path of ours. */
int sz_leaf_parse(const char *path, uint32_t *index_out);
int sz_leaf_start(void);
void sz_leaf_stop(void);

/* The properties of a new pool: pool properties and properties of the root dataset. */
int sz_properties_make(const struct sz_property *properties, size_t count, nvlist_t **pool_out,
		       nvlist_t **dataset_out, struct sz_error *error);

/* A root vdev with the leaf of a device as its only child, as attaching wants it; the caller's. */
nvlist_t *sz_pool_leaf_root(uint32_t index);

#endif
