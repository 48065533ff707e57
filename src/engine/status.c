/*
 * status: the pool's state and its configuration tree, in zpool-status terms.
 */
#include "engine/engine_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define VDEVS_MAX 256U /* entries in the tree; a store has at most SZ_DEVICES_MAX leaves */

static const char *state_name(uint64_t state, uint64_t aux)
{
	switch (state) {
	case VDEV_STATE_CLOSED:
	case VDEV_STATE_OFFLINE:
		return "OFFLINE";
	case VDEV_STATE_REMOVED:
		return "REMOVED";
	case VDEV_STATE_CANT_OPEN:
		return aux == VDEV_AUX_CORRUPT_DATA || aux == VDEV_AUX_BAD_LOG ? "FAULTED"
									       : "UNAVAIL";
	case VDEV_STATE_FAULTED:
		return "FAULTED";
	case VDEV_STATE_DEGRADED:
		return "DEGRADED";
	case VDEV_STATE_HEALTHY:
		return "ONLINE";
	default:
		return "UNKNOWN";
	}
}

static const char *aux_note(uint64_t aux)
{
	switch (aux) {
	case VDEV_AUX_OPEN_FAILED:
		return "cannot open";
	case VDEV_AUX_CORRUPT_DATA:
		return "corrupted data";
	case VDEV_AUX_NO_REPLICAS:
		return "insufficient replicas";
	case VDEV_AUX_BAD_GUID_SUM:
	case VDEV_AUX_BAD_LABEL:
		return "its labels are lost";
	case VDEV_AUX_TOO_SMALL:
		return "too small";
	case VDEV_AUX_ERR_EXCEEDED:
		return "too many errors";
	case VDEV_AUX_IO_FAILURE:
		return "experienced I/O failures";
	default:
		return "";
	}
}

static void vdev_fill(struct sz_pool *pool, nvlist_t *config, uint32_t depth, bool is_resilvering,
		      struct sz_vdev_status *out)
{
	const char *type = "";
	const char *path = NULL;
	uint64_t *array;
	uint_t words;
	vdev_stat_t stat = { 0 };
	uint64_t id = 0;
	uint64_t parity = 0;
	uint64_t leaf_guid = 0;

	(void)nvlist_lookup_uint64(config, ZPOOL_CONFIG_GUID, &leaf_guid);
	(void)nvlist_lookup_string(config, ZPOOL_CONFIG_TYPE, &type);
	(void)nvlist_lookup_string(config, ZPOOL_CONFIG_PATH, &path);
	(void)nvlist_lookup_uint64(config, ZPOOL_CONFIG_ID, &id);
	if (nvlist_lookup_uint64_array(config, ZPOOL_CONFIG_VDEV_STATS, &array, &words) == 0)
		memcpy(&stat, array, MIN(sizeof(stat), words * sizeof(*array)));
	*out = (struct sz_vdev_status){
		.depth = depth,
		.read_errors = stat.vs_read_errors,
		.write_errors = stat.vs_write_errors,
		.checksum_errors = stat.vs_checksum_errors,
		.size_bytes = stat.vs_space,
		.allocated_bytes = stat.vs_alloc,
	};
	if (strcmp(type, VDEV_TYPE_ROOT) == 0) {
		(void)snprintf(out->name, sizeof(out->name), "%s", SZ_POOL_NAME);
	} else if (strcmp(type, VDEV_TYPE_RAIDZ) == 0) {
		(void)nvlist_lookup_uint64(config, ZPOOL_CONFIG_NPARITY, &parity);
		(void)snprintf(out->name, sizeof(out->name), "raidz%" PRIu64 "-%" PRIu64, parity,
			       id);
	} else if (sz_leaf_parse(path, &out->device) == 0) {
		out->is_leaf = true;
		(void)snprintf(out->name, sizeof(out->name), "device %u", out->device);
	} else {
		(void)snprintf(out->name, sizeof(out->name), "%s-%" PRIu64, type, id);
	}
	(void)snprintf(out->state, sizeof(out->state), "%s",
		       state_name(stat.vs_state, stat.vs_aux));
	if (stat.vs_state != VDEV_STATE_HEALTHY)
		(void)snprintf(out->note, sizeof(out->note), "%s", aux_note(stat.vs_aux));
	if (out->is_leaf && leaf_guid != 0 && sz_pool_leaf_is_stale(pool, leaf_guid))
		(void)snprintf(out->note, sizeof(out->note), "%s",
			       is_resilvering ? "resilvering" : "resilver due");
	if (out->is_leaf && out->device < sz_store_device_count(pool->store) &&
	    sz_device_state(sz_store_device(pool->store, out->device)) == SZ_DEVICE_MISSING)
		(void)snprintf(out->note, sizeof(out->note), "its folder is missing");
}

/* The tree depth first, without recursion: children are pushed in reverse. */
static int tree_walk(struct sz_pool *pool, nvlist_t *tree, struct sz_pool_status *status)
{
	struct {
		nvlist_t *config;
		uint32_t depth;
	} stack[VDEVS_MAX];
	uint32_t height = 0;
	bool is_resilvering = !pool->read_only && status->scan.kind == SZ_SCAN_RESILVER &&
			      status->scan.state == SZ_SCAN_RUNNING;

	status->vdevs = calloc(VDEVS_MAX, sizeof(*status->vdevs));
	if (status->vdevs == NULL)
		return -ENOMEM;
	stack[height].config = tree;
	stack[height++].depth = 0;
	while (height > 0 && status->vdev_count < VDEVS_MAX) {
		nvlist_t *config = stack[--height].config;
		uint32_t depth = stack[height].depth;
		nvlist_t **children;
		uint_t count;

		vdev_fill(pool, config, depth, is_resilvering,
			  &status->vdevs[status->vdev_count++]);
		if (nvlist_lookup_nvlist_array(config, ZPOOL_CONFIG_CHILDREN, &children, &count) !=
		    0)
			continue;
		while (count > 0 && height < VDEVS_MAX) {
			stack[height].config = children[--count];
			stack[height++].depth = depth + 1;
		}
	}
	return 0;
}

/* What is wrong, what it means, what to do: the first that applies, worst first. */
static void advise(struct sz_pool_status *status)
{
	const char *text = "";
	const char *action = "";
	uint64_t errors = 0;
	bool lost = false;

	for (size_t i = 0; i < status->vdev_count; i++) {
		const struct sz_vdev_status *vdev = &status->vdevs[i];

		errors += vdev->read_errors + vdev->write_errors + vdev->checksum_errors;
		lost = lost || (vdev->is_leaf && strcmp(vdev->state, "ONLINE") != 0);
	}
	if (status->data_errors > 0) {
		text = "Some data is damaged beyond what redundancy repairs. Other data is not "
		       "affected.";
		action =
			"Restore the files in question from another copy. Then run 'szpool scrub'.";
	} else if (status->scan.state == SZ_SCAN_RUNNING && status->scan.kind == SZ_SCAN_RESILVER) {
		text = "One or more devices are being resilvered. The pool works, with less "
		       "redundancy.";
		action = "Let 'szpool scrub' finish.";
	} else if (lost) {
		text = "One or more devices cannot be used. The pool works, with less redundancy.";
		action = "Bring the missing folders back, or rebuild them with 'szpool scrub'.";
	} else if (status->scan.resilver_needed) {
		text = "A resilver is due: one or more devices lack recent writes.";
		action = "Run 'szpool scrub', which waits for it.";
	} else if (errors > 0 && status->scan.kind == SZ_SCAN_SCRUB &&
		   status->scan.state == SZ_SCAN_FINISHED && status->scan.is_of_this_opening) {
		text = "Damage was found. All data has been read since, and is repaired.";
		action = "None needed.";
	} else if (errors > 0) {
		text = "Damage was found; the data that was read has been repaired.";
		action = "Run 'szpool scrub' to find and repair the rest.";
	}
	(void)snprintf(status->status_text, sizeof(status->status_text), "%s", text);
	(void)snprintf(status->action_text, sizeof(status->action_text), "%s", action);
}

static int error_count(void *context, uint64_t dataset, uint64_t object)
{
	(void)dataset;
	(void)object;
	(*(uint64_t *)context)++;
	return 0;
}

int sz_pool_status(struct sz_pool *pool, struct sz_pool_status *status_out, struct sz_error *error)
{
	nvlist_t *config = NULL;
	nvlist_t *tree;
	int result = spa_get_stats(SZ_POOL_NAME, &config, NULL, 0);

	*status_out = (struct sz_pool_status){ 0 };
	if (result != 0 || config == NULL)
		return sz_fail(error, result == 0 ? -EIO : -result,
			       "the pool's state is not to be had");
	sz_pool_scan_status(pool, &status_out->scan);
	result = sz_pool_data_error_each(pool, error_count, &status_out->data_errors);
	if (result != 0)
		status_out->data_errors = MAX(1, spa_approx_errlog_size(pool->spa));
	result = nvlist_lookup_nvlist(config, ZPOOL_CONFIG_VDEV_TREE, &tree);
	if (result == 0)
		result = -tree_walk(pool, tree, status_out);
	nvlist_free(config);
	if (result != 0)
		return sz_fail(error, -result, "the pool's state is not to be had");
	(void)snprintf(status_out->state, sizeof(status_out->state), "%s",
		       spa_suspended(pool->spa) ? "SUSPENDED" : status_out->vdevs[0].state);
	advise(status_out);
	return 0;
}

void sz_pool_status_free(struct sz_pool_status *status)
{
	free(status->vdevs);
	status->vdevs = NULL;
}
