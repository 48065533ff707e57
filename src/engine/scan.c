/*
 * scan: scrub, resilver, rebuilding lost leaves, clearing.
 *
 * A leaf that came back shows as ONLINE although its resilver has not begun; redundancy is complete
 * only when no leaf's DTL misses a transaction group. Everything here asks that, not the leaf's state.
 * (vdev_resilver_needed says no as long as the pool is imported read-only.)
 */
#include "engine/engine_internal.h"

#include <errno.h>

#define POLL_MS       200U
#define IDLE_POLL_MS  50U
#define IDLE_POLLS    200U /* 10 s: a resilver that is due starts within two transaction groups */
#define DETACH_POLLS  60U  /* 3 s: ZFS takes a leaf that was replaced out in the background */
/* Nothing to do, so often in a row: requests that ZFS works off in the background come in between. */
#define SETTLED_POLLS 3U

/* Whether a leaf that is there lacks what was written while it was not. */
static bool leaf_is_stale(vdev_t *leaf)
{
	return leaf->vdev_state >= VDEV_STATE_DEGRADED && !vdev_dtl_empty(leaf, DTL_MISSING);
}

bool sz_pool_leaf_is_stale(struct sz_pool *pool, uint64_t guid)
{
	bool stale = false;

	spa_config_enter(pool->spa, SCL_STATE, FTAG, RW_READER);
	for (vdev_t *leaf = list_head(&pool->spa->spa_leaf_list); leaf != NULL;
	     leaf = list_next(&pool->spa->spa_leaf_list, leaf))
		if ((guid == 0 || leaf->vdev_guid == guid) && leaf_is_stale(leaf))
			stale = true;
	spa_config_exit(pool->spa, SCL_STATE, FTAG);
	return stale;
}

static enum sz_scan_state scan_state(uint64_t state)
{
	switch (state) {
	case DSS_SCANNING:
		return SZ_SCAN_RUNNING;
	case DSS_FINISHED:
		return SZ_SCAN_FINISHED;
	case DSS_CANCELED:
		return SZ_SCAN_CANCELED;
	default:
		return SZ_SCAN_IDLE;
	}
}

void sz_pool_scan_status(struct sz_pool *pool, struct sz_scan_status *status_out)
{
	pool_scan_stat_t stat;

	*status_out = (struct sz_scan_status){ .resilver_needed = sz_pool_leaf_is_stale(pool, 0) };
	if (spa_scan_get_stats(pool->spa, &stat) != 0 || stat.pss_func == POOL_SCAN_NONE)
		return;
	status_out->kind = stat.pss_func == POOL_SCAN_SCRUB ? SZ_SCAN_SCRUB : SZ_SCAN_RESILVER;
	status_out->state = scan_state(stat.pss_state);
	status_out->start_wall_s = stat.pss_start_time;
	status_out->end_wall_s = stat.pss_end_time;
	status_out->examined_bytes = stat.pss_examined;
	status_out->issued_bytes = stat.pss_issued;
	status_out->total_bytes = stat.pss_to_examine - stat.pss_skipped;
	status_out->repaired_bytes = stat.pss_processed;
	status_out->errors = stat.pss_errors;
	status_out->is_of_this_opening =
		stat.pss_state == DSS_SCANNING || stat.pss_end_time >= stat.pss_pass_start;
}

int sz_pool_scrub_start(struct sz_pool *pool, struct sz_error *error)
{
	int result;

	if (pool->read_only)
		return sz_fail(error, -EROFS, "a scrub needs a writable pool");
	if (sz_store_is_volatile(pool->store)) {
		if (sz_pool_leaf_is_stale(pool, 0)) /* it would begin with the resilver */
			return sz_fail(error, -EROFS,
				       "a resilver needs a store that is written to");
		zfs_scan_suspend_progress = 0;
	}
	result = spa_scan(pool->spa, POOL_SCAN_SCRUB);
	if (result == EBUSY)
		return sz_fail(error, -EBUSY, "a scrub or resilver is running already");
	if (result != 0)
		return sz_fail(error, -result, "the scrub does not start");
	return 0;
}

int sz_pool_scrub_stop(struct sz_pool *pool, struct sz_error *error)
{
	int result = spa_scan_stop(pool->spa);

	if (result == ENOENT)
		return sz_fail(error, -ENOENT, "no scrub is running");
	if (result != 0)
		return sz_fail(error, -result, "the scrub does not stop");
	return 0;
}

/* A resilver that is due and does not start, or ended with errors and so is still due. */
static int resilver_fail(const struct sz_scan_status *status, struct sz_error *error)
{
	if (status->kind == SZ_SCAN_RESILVER && status->errors > 0)
		return sz_fail(
			error, -EBADMSG,
			"the resilver ended with %llu errors: data is damaged beyond repair; "
			"'szpool status' lists it",
			(unsigned long long)status->errors);
	return sz_fail(error, -EIO, "a resilver is due and does not start");
}

static bool is_replacing(spa_t *spa)
{
	bool found = false;

	spa_config_enter(spa, SCL_CONFIG, FTAG, RW_READER);
	for (uint64_t t = 0; t < spa->spa_root_vdev->vdev_children; t++) {
		const vdev_t *top = spa->spa_root_vdev->vdev_child[t];

		for (uint64_t i = 0; i < top->vdev_children; i++)
			if (top->vdev_child[i]->vdev_ops == &vdev_replacing_ops)
				found = true;
	}
	spa_config_exit(spa, SCL_CONFIG, FTAG);
	return found;
}

int sz_pool_scan_wait(struct sz_pool *pool, sz_scan_progress_fn *progress, void *context,
		      struct sz_error *error)
{
	unsigned int idle_polls = 0;
	unsigned int settled_polls = 0;

	if (pool->read_only)
		return sz_fail(error, -EROFS, "a scrub or resilver needs a writable pool");
	while (settled_polls < SETTLED_POLLS) {
		struct sz_scan_status status;
		bool is_running;

		if (spa_suspended(pool->spa))
			return sz_pool_suspended(pool->store, error);
		sz_pool_scan_status(pool, &status);
		if (progress != NULL && !progress(context, &status))
			return -EINTR;
		is_running = status.state == SZ_SCAN_RUNNING;
		idle_polls = is_running ? 0 : idle_polls + 1;
		if (!is_running && status.resilver_needed && idle_polls > IDLE_POLLS)
			return resilver_fail(&status, error);
		/* A replacement that lost its new leaf stays: it is not waited for without end. */
		if (is_running || status.resilver_needed ||
		    (idle_polls < DETACH_POLLS && is_replacing(pool->spa)))
			settled_polls = 0;
		else
			settled_polls++;
		/* A resilver that is due starts, and a replaced leaf goes, with a transaction group. */
		if (!is_running)
			txg_wait_synced(spa_get_dsl(pool->spa), 0);
		sz_sleep_ms(is_running ? POLL_MS : IDLE_POLL_MS);
	}
	return 0;
}

void sz_pool_clear(struct sz_pool *pool)
{
	spa_vdev_state_enter(pool->spa, SCL_NONE);
	vdev_clear(pool->spa, NULL);
	(void)spa_vdev_state_exit(pool->spa, NULL, 0);
	(void)zio_resume(pool->spa);
}

/* The device of a leaf that ZFS cannot open although its device is ONLINE. */
static bool leaf_is_lost(struct sz_pool *pool, const vdev_t *leaf, uint32_t *index_out)
{
	return leaf->vdev_ops->vdev_op_leaf && leaf->vdev_state < VDEV_STATE_FAULTED &&
	       sz_leaf_parse(leaf->vdev_path, index_out) == 0 &&
	       *index_out < sz_store_device_count(pool->store) &&
	       sz_device_state(sz_store_device(pool->store, *index_out)) == SZ_DEVICE_ONLINE;
}

/*
 * The leaf to replace of a child of a top-level vdev: itself, or the newest one of a replacement that
 * has lost all its leaves. NULL: it has what it needs.
 */
static vdev_t *leaf_to_replace(struct sz_pool *pool, vdev_t *child, uint32_t *index_out)
{
	vdev_t *newest = NULL;

	if (child->vdev_ops->vdev_op_leaf)
		return leaf_is_lost(pool, child, index_out) ? child : NULL;
	if (child->vdev_ops != &vdev_replacing_ops)
		return NULL;
	for (uint64_t i = 0; i < child->vdev_children; i++) {
		if (!leaf_is_lost(pool, child->vdev_child[i], index_out))
			return NULL;
		newest = child->vdev_child[i];
	}
	return newest;
}

/* The guid of the next leaf to replace, 0 if there is none. */
static uint64_t lost_leaf_find(struct sz_pool *pool, uint32_t *index_out)
{
	spa_t *spa = pool->spa;
	uint64_t guid = 0;

	spa_config_enter(spa, SCL_CONFIG, FTAG, RW_READER);
	for (uint64_t t = 0; guid == 0 && t < spa->spa_root_vdev->vdev_children; t++) {
		vdev_t *top = spa->spa_root_vdev->vdev_child[t];
		uint64_t count = top->vdev_ops->vdev_op_leaf ? 1 : top->vdev_children;

		for (uint64_t i = 0; guid == 0 && i < count; i++) {
			vdev_t *child = top->vdev_ops->vdev_op_leaf ? top : top->vdev_child[i];
			const vdev_t *leaf = leaf_to_replace(pool, child, index_out);

			if (leaf != NULL)
				guid = leaf->vdev_guid;
		}
	}
	spa_config_exit(spa, SCL_CONFIG, FTAG);
	return guid;
}

int sz_pool_rebuild(struct sz_pool *pool, uint32_t *rebuilt_count_out, struct sz_error *error)
{
	uint64_t guid;
	uint32_t index = 0;

	*rebuilt_count_out = 0;
	/* A leaf whose device came back may open again, and then needs no replacing. */
	sz_pool_clear(pool);
	while ((guid = lost_leaf_find(pool, &index)) != 0) {
		nvlist_t *root;
		int result;

		if (*rebuilt_count_out >= sz_store_device_count(pool->store))
			return sz_fail(error, -EIO, "device %u cannot be rebuilt", index);
		root = sz_pool_leaf_root(index);
		result = spa_vdev_attach(pool->spa, guid, root, 1, 0);
		nvlist_free(root);
		if (result != 0)
			return sz_fail(error, result == EBUSY ? -EBUSY : -EIO,
				       "device %u cannot be rebuilt: %s", index, strerror(result));
		(*rebuilt_count_out)++;
	}
	return 0;
}
