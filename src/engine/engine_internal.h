/* What the engine's files share. */
#ifndef SZ_ENGINE_ENGINE_INTERNAL_H
#define SZ_ENGINE_ENGINE_INTERNAL_H

#include "engine/pool_zfs.h"

struct sz_watch;

struct sz_pool {
	struct sz_store *store;
	spa_t *spa; /* a reference of ours: spa_open(…, pool) */
	bool read_only;
	struct sz_watch *watch;
	/* space.c */
	pthread_mutex_t reclaim_lock;
	/* What the pool used when it was found full last: what has gone since is given back. Under reclaim_lock. */
	uint64_t reclaim_from;
};

/*
 * Leaf driver. A leaf's path is "/szpool/INDEX"; paths of any other form are refused. The store must
 * be set before a pool is created or imported, and stay until it is exported. NULL: waits for the
 * I/O that is under way; all later I/O fails, and the store may be closed.
 */
void sz_leaf_set_store(struct sz_store *);
void sz_leaf_path(uint32_t index, char path[32]);
/* -ENOENT: not a path of ours. */
int sz_leaf_parse(const char *path, uint32_t *index_out);
int sz_leaf_start(void);
void sz_leaf_stop(void);

/* The last write or flush that failed since the store was set, or it was forgotten. code 0: none did. */
struct sz_leaf_failure {
	int code; /* -errno of the device */
	uint32_t device;
};
struct sz_leaf_failure sz_leaf_last_failure(void);
void sz_leaf_forget_failure(void);
/* For how long no leaf has had anything to do. */
uint64_t sz_leaf_idle_ns(void);

/* Watches the pool from _start to _stop and calls what sz_pool_on_suspend set. Blind, and so from the start, it does not look at pool->spa. */
int sz_watch_start(struct sz_pool *);
void sz_watch_blind(struct sz_pool *, bool is_blind);
void sz_watch_stop(struct sz_pool *);
/* -ENOSPC or -EIO, with a text that says which device failed and what to do. */
int sz_pool_suspended(struct sz_store *, struct sz_error *error);

/* Whether a leaf that is there lacks recent writes, so that a resilver is due; guid 0: any leaf. */
bool sz_pool_leaf_is_stale(struct sz_pool *pool, uint64_t guid);

/* Before any pool is created or imported. */
void sz_accounting_register(void);

/* The properties of a new pool: pool properties and properties of the root dataset. */
int sz_properties_make(const struct sz_property *properties, size_t count, nvlist_t **pool_out,
		       nvlist_t **dataset_out, struct sz_error *error);

/* Before an export: a disk with little room gets back what the pool has free, as far as the last seal does that. */
void sz_pool_give_back(struct sz_pool *);

/* A root vdev with the leaf of a device as its only child, as attaching wants it; the caller's. */
nvlist_t *sz_pool_leaf_root(uint32_t index);

#endif
