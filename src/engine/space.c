/*
 * space: what the pool takes and may take, of its own size and of the disks under it.
 *
 * A pool is as large as its devices say; the disks under them need not be. New data is admitted while they have
 * room for it and for all that ZFS has accepted and not written yet (device/space.c). So it is a write that can be
 * refused that meets the end of a disk, and not a transaction group, which cannot.
 */
#include "engine/engine_internal.h"
#include "engine/leaf_io.h"

#include <errno.h>

/* Bytes on all devices together for one in a file. */
static double raw_ratio(const struct sz_pool *pool)
{
	uint64_t usable = metaslab_class_get_dspace(spa_normal_class(pool->spa));
	uint64_t raw = 0;

	for (uint32_t i = 0; i < sz_store_device_count(pool->store); i++)
		raw += sz_device_sectors(sz_store_device(pool->store, i)) * SZ_SECTOR_BYTES;
	return usable == 0 || usable > raw ? 1 : (double)raw / (double)usable;
}

uint64_t sz_pool_room(struct sz_pool *pool)
{
	uint64_t room = sz_store_room(pool->store);
	uint64_t unwritten = sz_unwritten_bytes(pool->spa);
	double usable;

	if (room == UINT64_MAX)
		return room;
	usable = (double)room / raw_ratio(pool);
	return usable > (double)unwritten ? (uint64_t)usable - unwritten : 0;
}

/* ZFS trims what is freed with delay, and keeps it for some transaction groups before. */
static int trim_all(struct sz_pool *pool)
{
	for (unsigned int i = 0; i < TXG_DEFER_SIZE; i++)
		txg_wait_synced(spa_get_dsl(pool->spa), 0);
	return sz_pool_trim(pool, NULL, NULL, NULL);
}

/*
 * What was removed since the last time is given back to the disk. False: there is nothing. It takes a trim and two
 * seals, so it is done only when new data would be refused else.
 */
static bool reclaim(struct sz_pool *pool)
{
	metaslab_class_t *class = spa_normal_class(pool->spa);
	uint64_t alloc;
	bool is_done = false;

	(void)pthread_mutex_lock(&pool->reclaim_lock);
	alloc = metaslab_class_get_alloc(class);
	if (alloc < pool->reclaim_from) {
		is_done = trim_all(pool) == 0 && sz_store_give_back(pool->store, NULL) == 0;
		alloc = metaslab_class_get_alloc(class);
	}
	pool->reclaim_from = alloc;
	(void)pthread_mutex_unlock(&pool->reclaim_lock);
	return is_done;
}

int sz_pool_admit(struct sz_pool *pool, uint64_t bytes)
{
	uint64_t wanted = (uint64_t)((double)(2 * bytes) * raw_ratio(pool));

	while (sz_pool_room(pool) < bytes) {
		/* What is not written yet is counted for more than it is likely to take. */
		txg_wait_synced(spa_get_dsl(pool->spa), 0);
		if (sz_pool_room(pool) >= bytes || reclaim(pool))
			continue;
		if (sz_store_make_room(pool->store, wanted) != 0)
			return -ENOSPC;
	}
	return 0;
}

void sz_pool_give_back(struct sz_pool *pool)
{
	if (sz_store_is_short(pool->store))
		(void)!trim_all(pool);
}

int sz_pool_space(struct sz_pool *pool, struct sz_pool_space *space_out)
{
	static char tag[] = "szpool space";
	objset_t *os;
	uint64_t referenced;
	uint64_t available;
	uint64_t room = sz_pool_room(pool);
	uint64_t objects_used;
	uint64_t objects_available;
	int result = dmu_objset_hold(SZ_POOL_NAME, tag, &os);

	if (result != 0)
		return -result;
	dmu_objset_space(os, &referenced, &available, &objects_used, &objects_available);
	space_out->used_bytes = dsl_dir_phys(os->os_dsl_dataset->ds_dir)->dd_used_bytes;
	dmu_objset_rele(os, tag);
	space_out->available_bytes = MIN(available, room);
	space_out->is_disks = room < available;
	space_out->size_bytes = space_out->used_bytes + space_out->available_bytes;
	space_out->raw_size_bytes = metaslab_class_get_space(spa_normal_class(pool->spa));
	space_out->raw_allocated_bytes = metaslab_class_get_alloc(spa_normal_class(pool->spa));
	return 0;
}
