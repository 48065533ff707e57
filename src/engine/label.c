/*
 * label: the import configuration of a pool, from the labels on the store's devices. (libzpool's own
 * search reads files; ours are not readable as such.)
 *
 * Of each leaf the newest label counts, of each top-level vdev the newest leaf's. A device whose
 * labels are gone is a missing leaf: it keeps the path that its index gives.
 */
#include "engine/label.h"

#include <errno.h>

#define LABEL_BYTES  (256U << 10)
#define LABEL_COUNT  4U
#define NVLIST_START (16U << 10)
#define NVLIST_BYTES (112U << 10)
#define NVLIST_TAIL  40U /* the embedded checksum; the sectors below are authenticated */
#define TOP_MAX      SZ_DEVICES_MAX

static uint64_t label_sector(uint64_t device_sectors, uint32_t label)
{
	uint64_t label_sectors = LABEL_BYTES / SZ_SECTOR_BYTES;
	uint64_t sectors = device_sectors / label_sectors * label_sectors;

	return label < LABEL_COUNT / 2 ? label * label_sectors
				       : sectors - (LABEL_COUNT - label) * label_sectors;
}

static uint64_t label_txg(nvlist_t *label)
{
	uint64_t txg = 0;
	uint64_t state = POOL_STATE_DESTROYED;

	if (nvlist_lookup_uint64(label, ZPOOL_CONFIG_POOL_STATE, &state) != 0 ||
	    state > POOL_STATE_EXPORTED ||
	    nvlist_lookup_uint64(label, ZPOOL_CONFIG_POOL_TXG, &txg) != 0)
		return 0;
	return txg;
}

/* The newest label of a device, NULL if there is none. */
static nvlist_t *label_read(struct sz_device *device, char *buffer)
{
	nvlist_t *best = NULL;

	if (sz_device_state(device) != SZ_DEVICE_ONLINE)
		return NULL;
	for (uint32_t i = 0; i < LABEL_COUNT; i++) {
		uint64_t sector =
			label_sector(sz_device_sectors(device), i) + NVLIST_START / SZ_SECTOR_BYTES;
		nvlist_t *label = NULL;
		int result = sz_device_read(device, sector, NVLIST_BYTES / SZ_SECTOR_BYTES, buffer);

		if (result != 0 ||
		    nvlist_unpack(buffer, NVLIST_BYTES - NVLIST_TAIL, &label, 0) != 0)
			continue;
		if (label_txg(label) == 0 ||
		    (best != NULL && label_txg(label) <= label_txg(best))) {
			nvlist_free(label);
			continue;
		}
		nvlist_free(best);
		best = label;
	}
	return best;
}

/* Sets the path of each leaf below top whose guid is in guids. */
static void paths_set(nvlist_t *top, const uint64_t *guids, uint32_t count)
{
	nvlist_t **children;
	uint_t child_count;
	nvlist_t *stack[4 * TOP_MAX];
	uint32_t depth = 0;

	stack[depth++] = top;
	while (depth > 0) {
		nvlist_t *vdev = stack[--depth];
		uint64_t guid = 0;

		if (nvlist_lookup_nvlist_array(vdev, ZPOOL_CONFIG_CHILDREN, &children,
					       &child_count) == 0) {
			for (uint_t i = 0; i < child_count && depth < ARRAY_LENGTH(stack); i++)
				stack[depth++] = children[i];
			continue;
		}
		(void)nvlist_lookup_uint64(vdev, ZPOOL_CONFIG_GUID, &guid);
		for (uint32_t i = 0; i < count; i++) {
			char path[32];

			if (guids[i] != guid || guid == 0)
				continue;
			sz_leaf_path(i, path);
			fnvlist_add_string(vdev, ZPOOL_CONFIG_PATH, path);
		}
	}
}

static nvlist_t *placeholder(uint64_t id)
{
	nvlist_t *vdev = fnvlist_alloc();

	fnvlist_add_string(vdev, ZPOOL_CONFIG_TYPE, VDEV_TYPE_MISSING);
	fnvlist_add_uint64(vdev, ZPOOL_CONFIG_ID, id);
	fnvlist_add_uint64(vdev, ZPOOL_CONFIG_GUID, 0);
	return vdev;
}

/* The top-level vdevs by id, each from its newest label. */
struct tops {
	nvlist_t *label[TOP_MAX];
	uint64_t count;
};

static void tops_add(struct tops *tops, nvlist_t *label)
{
	nvlist_t *tree;
	uint64_t id = 0;

	if (nvlist_lookup_nvlist(label, ZPOOL_CONFIG_VDEV_TREE, &tree) != 0 ||
	    nvlist_lookup_uint64(tree, ZPOOL_CONFIG_ID, &id) != 0 || id >= TOP_MAX)
		return;
	if (tops->label[id] == NULL || label_txg(label) > label_txg(tops->label[id]))
		tops->label[id] = label;
	if (id >= tops->count)
		tops->count = id + 1;
}

static nvlist_t *config_make(const struct tops *tops, nvlist_t *newest, const uint64_t *guids,
			     uint32_t device_count)
{
	static const char *const copied[] = { ZPOOL_CONFIG_VERSION, ZPOOL_CONFIG_POOL_STATE,
					      ZPOOL_CONFIG_POOL_GUID };
	nvlist_t *config = fnvlist_alloc();
	nvlist_t *root = fnvlist_alloc();
	nvlist_t *children[TOP_MAX];
	uint64_t guid = 0;
	uint64_t value;

	for (size_t i = 0; i < ARRAY_LENGTH(copied); i++)
		if (nvlist_lookup_uint64(newest, copied[i], &value) == 0)
			fnvlist_add_uint64(config, copied[i], value);
	fnvlist_add_string(config, ZPOOL_CONFIG_POOL_NAME, SZ_POOL_NAME);
	(void)nvlist_lookup_uint64(newest, ZPOOL_CONFIG_POOL_GUID, &guid);
	for (uint64_t i = 0; i < tops->count; i++) {
		if (tops->label[i] == NULL) {
			children[i] = placeholder(i);
			continue;
		}
		children[i] =
			fnvlist_dup(fnvlist_lookup_nvlist(tops->label[i], ZPOOL_CONFIG_VDEV_TREE));
		paths_set(children[i], guids, device_count);
	}
	fnvlist_add_string(root, ZPOOL_CONFIG_TYPE, VDEV_TYPE_ROOT);
	fnvlist_add_uint64(root, ZPOOL_CONFIG_ID, 0);
	fnvlist_add_uint64(root, ZPOOL_CONFIG_GUID, guid);
	fnvlist_add_nvlist_array(root, ZPOOL_CONFIG_CHILDREN, (const nvlist_t *const *)children,
				 (uint_t)tops->count);
	fnvlist_add_nvlist(config, ZPOOL_CONFIG_VDEV_TREE, root);
	for (uint64_t i = 0; i < tops->count; i++)
		nvlist_free(children[i]);
	nvlist_free(root);
	return config;
}

int sz_label_config(struct sz_store *store, nvlist_t **config_out, uint32_t *found_out)
{
	uint32_t device_count = sz_store_device_count(store);
	nvlist_t *labels[SZ_DEVICES_MAX] = { NULL };
	uint64_t guids[SZ_DEVICES_MAX] = { 0 };
	struct tops tops = { 0 };
	nvlist_t *newest = NULL;
	CLEANUP_FREE char *buffer = malloc(NVLIST_BYTES);

	if (buffer == NULL)
		return -ENOMEM;
	*found_out = 0;
	for (uint32_t i = 0; i < device_count; i++) {
		labels[i] = label_read(sz_store_device(store, i), buffer);
		if (labels[i] == NULL)
			continue;
		(*found_out)++;
		(void)nvlist_lookup_uint64(labels[i], ZPOOL_CONFIG_GUID, &guids[i]);
		tops_add(&tops, labels[i]);
		if (newest == NULL || label_txg(labels[i]) > label_txg(newest))
			newest = labels[i];
	}
	if (newest != NULL)
		*config_out = config_make(&tops, newest, guids, device_count);
	for (uint32_t i = 0; i < device_count; i++)
		nvlist_free(labels[i]);
	return newest == NULL ? -ENODATA : 0;
}
