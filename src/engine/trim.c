/*
 * trim: has the devices forget what the pool does not use.
 *
 * ZFS trims by itself (autotrim), but nothing shorter than 32 KiB, and some dozens of transaction groups late: of
 * a pool that files were removed from much free space stays stored. Its `zpool trim` is no way out: 2.3
 * compares how far it has come with the labels in front of a leaf, and what is to be trimmed without, so that it
 * leaves out the first 4 MiB of every metaslab on every leaf.
 *
 * So the metaslabs are walked here, as ZFS does it: while one is disabled nothing is allocated in it, and what its
 * tree of allocatable segments has can be forgotten. What was freed only now is not in it yet: a pool
 * that crashed may go back by some transaction groups.
 */
#include "engine/engine_internal.h"

#include <errno.h>

#define SEGMENTS_FIRST 256U
#define TRIM_ATTEMPTS  16U /* each but the last has room made */

struct segments { /* of a top-level vdev, or of a leaf */
	zfs_range_seg64_t *at;
	size_t count;
	size_t capacity;
};

static void segments_free(struct segments *segments)
{
	free(segments->at);
}

/* libzpool too aborts without memory. */
static void segment_add(struct segments *segments, uint64_t start, uint64_t end)
{
	if (segments->count == segments->capacity) {
		segments->capacity =
			segments->capacity == 0 ? SEGMENTS_FIRST : 2 * segments->capacity;
		segments->at = realloc(segments->at, segments->capacity * sizeof(*segments->at));
		VERIFY(segments->at != NULL);
	}
	segments->at[segments->count++] = (zfs_range_seg64_t){ .rs_start = start, .rs_end = end };
}

static void allocatable_add(void *context, uint64_t start, uint64_t size)
{
	segment_add(context, start, start + size);
}

static void physical_add(void *context, zfs_range_seg64_t *physical)
{
	if (!vdev_xlate_is_empty(physical))
		segment_add(context, physical->rs_start, physical->rs_end);
}

/* NULL: the vdev has no more. It stays, for nothing removes a vdev. */
static metaslab_t *metaslab_at(spa_t *spa, uint64_t vdev, uint64_t index)
{
	metaslab_t *metaslab = NULL;
	vdev_t *top;

	spa_config_enter(spa, SCL_CONFIG, FTAG, RW_READER);
	top = vdev < spa->spa_root_vdev->vdev_children ? spa->spa_root_vdev->vdev_child[vdev]
						       : NULL;
	if (top != NULL && vdev_is_concrete(top) && index < top->vdev_ms_count)
		metaslab = top->vdev_ms[index];
	spa_config_exit(spa, SCL_CONFIG, FTAG);
	return metaslab;
}

/* A leaf's part of a segment; device_out: NULL if it has none that is there. */
static void leaf_translate(struct sz_pool *pool, vdev_t *leaf, const zfs_range_seg64_t *segment,
			   struct segments *physical, struct sz_device **device_out)
{
	struct sz_device *device;
	uint32_t index;

	*device_out = NULL;
	if (sz_leaf_parse(leaf->vdev_path, &index) != 0 ||
	    index >= sz_store_device_count(pool->store))
		return;
	device = sz_store_device(pool->store, index);
	if (sz_device_state(device) != SZ_DEVICE_ONLINE)
		return;
	vdev_xlate_walk(leaf, segment, physical_add, physical);
	*device_out = device;
}

/* It logs what it trims, and so may need room first. */
static int device_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	int result = -ENOSPC;

	for (unsigned int i = 0; i < TRIM_ATTEMPTS && result == -ENOSPC; i++) {
		uint64_t since_ns = sz_clock_ns();

		result = sz_device_trim(device, sector, count);
		if (result == -ENOSPC && sz_device_make_room(device, since_ns) != 0)
			break;
	}
	return result;
}

/* One segment of a top-level vdev, on all of its leaves. */
static int segment_trim(struct sz_pool *pool, vdev_t *top, const zfs_range_seg64_t *segment,
			uint64_t *trimmed_bytes)
{
	CLEANUP(segments_free) struct segments physical = { 0 };
	struct sz_device *devices[SZ_DEVICES_MAX];
	size_t ends[SZ_DEVICES_MAX];
	size_t count = 0;
	size_t at = 0;
	int result = 0;

	spa_config_enter(pool->spa, SCL_STATE, FTAG, RW_READER);
	for (vdev_t *leaf = list_head(&pool->spa->spa_leaf_list);
	     leaf != NULL && count < SZ_DEVICES_MAX;
	     leaf = list_next(&pool->spa->spa_leaf_list, leaf)) {
		if (leaf->vdev_top != top)
			continue;
		leaf_translate(pool, leaf, segment, &physical, &devices[count]);
		ends[count++] = physical.count;
	}
	spa_config_exit(pool->spa, SCL_STATE, FTAG);
	for (size_t i = 0; i < count && result == 0; i++) {
		for (; at < ends[i] && result == 0; at++) {
			uint64_t start = VDEV_LABEL_START_SIZE + physical.at[at].rs_start;
			uint64_t size = physical.at[at].rs_end - physical.at[at].rs_start;

			result = device_trim(devices[i], start / SZ_SECTOR_BYTES,
					     size / SZ_SECTOR_BYTES);
			*trimmed_bytes += size;
		}
	}
	return result;
}

struct trimming {
	struct sz_pool *pool;
	sz_trim_progress_fn *progress;
	void *context;
	uint64_t trimmed_bytes;
	uint64_t total_bytes;
};

static int metaslab_trim(struct trimming *trimming, metaslab_t *metaslab)
{
	CLEANUP(segments_free) struct segments segments = { 0 };
	vdev_t *top = metaslab->ms_group->mg_vd;
	int result;

	metaslab_disable(metaslab);
	mutex_enter(&metaslab->ms_lock);
	result = -metaslab_load(metaslab);
	if (result == 0)
		zfs_range_tree_walk(metaslab->ms_allocatable, allocatable_add, &segments);
	mutex_exit(&metaslab->ms_lock);
	for (size_t i = 0; i < segments.count && result == 0; i++) {
		result = segment_trim(trimming->pool, top, &segments.at[i],
				      &trimming->trimmed_bytes);
		if (result == 0 && trimming->progress != NULL &&
		    !trimming->progress(trimming->context, trimming->trimmed_bytes,
					trimming->total_bytes))
			result = -EINTR;
	}
	/* A trim is done when it returns: nothing of it comes after what is written here next. */
	metaslab_enable(metaslab, B_FALSE, B_FALSE);
	return result;
}

int sz_pool_trim(struct sz_pool *pool, sz_trim_progress_fn *progress, void *context,
		 struct sz_error *error)
{
	struct trimming trimming = { .pool = pool, .progress = progress, .context = context };
	uint64_t vdevs = pool->spa->spa_root_vdev->vdev_children;
	metaslab_t *metaslab;
	int result;

	if (pool->read_only)
		return sz_fail(error, -EROFS, "a trim needs a writable pool");
	/* What was freed until now is allocatable some transaction groups later. */
	result = sz_pool_sync(pool, error);
	if (result != 0)
		return result;
	trimming.total_bytes = metaslab_class_get_space(spa_normal_class(pool->spa)) -
			       metaslab_class_get_alloc(spa_normal_class(pool->spa));
	for (uint64_t i = 0; i < vdevs && result == 0; i++)
		for (uint64_t j = 0;
		     result == 0 && (metaslab = metaslab_at(pool->spa, i, j)) != NULL; j++)
			result = metaslab_trim(&trimming, metaslab);
	if (result == 0 || result == -EINTR)
		return result;
	return sz_fail(error, result == -ENOSPC ? -ENOSPC : -EIO,
		       "free space could not be trimmed: %s", strerror(-result));
}
