/*
 * label: the import configuration of a pool, from the labels on the store's devices. (libzpool's own
 * search reads files; ours are not readable as such.)
 *
 * Of each device the newest label counts; of the pools that the labels name the one that most devices
 * have; of each top-level vdev the newest label of all. Each leaf gets the path of the device that
 * has its label, so that devices may stand in any order. A leaf whose label no device has gets the
 * path of a device without one, its old one if it can be: it is missing, and can be rebuilt there.
 */
#include "engine/label.h"

#include <errno.h>
#include <stdio.h>

#define LABEL_BYTES  (256U << 10)
#define LABEL_COUNT  4U
#define NVLIST_START (16U << 10)
#define NVLIST_BYTES (112U << 10)
#define NVLIST_TAIL  40U /* the embedded checksum; the sectors below are authenticated */
#define TOP_MAX      SZ_DEVICES_MAX
#define NO_DEVICE    UINT32_MAX

/* What is found on each device, while the configuration is made. */
struct findings {
	struct sz_labels *labels;
	nvlist_t *label[SZ_DEVICES_MAX]; /* the newest; NULL if there is none */
	uint64_t guid[SZ_DEVICES_MAX];   /* of the leaf */
};

static uint64_t label_sector(uint64_t device_sectors, uint32_t label)
{
	uint64_t label_sectors = LABEL_BYTES / SZ_SECTOR_BYTES;
	uint64_t sectors = device_sectors / label_sectors * label_sectors;

	return label < LABEL_COUNT / 2 ? label * label_sectors
				       : sectors - (LABEL_COUNT - label) * label_sectors;
}

static uint64_t number(nvlist_t *list, const char *name)
{
	uint64_t value = 0;

	(void)nvlist_lookup_uint64(list, name, &value);
	return value;
}

/* 0 for labels that stand for no leaf of a pool: of one that was destroyed, of a new or removed leaf. */
static uint64_t label_txg(nvlist_t *label)
{
	uint64_t state = POOL_STATE_DESTROYED;

	if (nvlist_lookup_uint64(label, ZPOOL_CONFIG_POOL_STATE, &state) != 0 ||
	    state > POOL_STATE_EXPORTED)
		return 0;
	return number(label, ZPOOL_CONFIG_POOL_TXG);
}

static nvlist_t *label_tree(nvlist_t *label)
{
	nvlist_t *tree = NULL;

	(void)nvlist_lookup_nvlist(label, ZPOOL_CONFIG_VDEV_TREE, &tree);
	return tree;
}

static bool label_is_possible(nvlist_t *label)
{
	nvlist_t *tree = label_tree(label);
	uint64_t id = TOP_MAX;

	return tree != NULL && number(label, ZPOOL_CONFIG_POOL_GUID) != 0 &&
	       number(label, ZPOOL_CONFIG_GUID) != 0 &&
	       nvlist_lookup_uint64(tree, ZPOOL_CONFIG_ID, &id) == 0 && id < TOP_MAX;
}

/* The newest label of a device that is ONLINE. */
static enum sz_label_state label_read(struct sz_device *device, char *buffer, nvlist_t **label_out)
{
	enum sz_label_state state = SZ_LABEL_NONE;
	nvlist_t *best = NULL;

	for (uint32_t i = 0; i < LABEL_COUNT; i++) {
		uint64_t sector =
			label_sector(sz_device_sectors(device), i) + NVLIST_START / SZ_SECTOR_BYTES;
		nvlist_t *label = NULL;
		int result = sz_device_read(device, sector, NVLIST_BYTES / SZ_SECTOR_BYTES, buffer);

		if (result == -EBADMSG && state == SZ_LABEL_NONE)
			state = SZ_LABEL_LOST;
		else if (result != 0 && result != -EBADMSG)
			state = SZ_LABEL_UNREADABLE;
		if (result != 0 ||
		    nvlist_unpack(buffer, NVLIST_BYTES - NVLIST_TAIL, &label, 0) != 0)
			continue;
		if (label_txg(label) == 0 || !label_is_possible(label)) {
			if (label_txg(label) != 0 && state != SZ_LABEL_UNREADABLE)
				state = SZ_LABEL_IMPOSSIBLE;
			nvlist_free(label);
		} else if (best != NULL && label_txg(label) <= label_txg(best)) {
			nvlist_free(label);
		} else {
			nvlist_free(best);
			best = label;
		}
	}
	*label_out = best;
	return best != NULL ? SZ_LABEL_PRESENT : state;
}

static enum sz_label_state device_read(struct sz_device *device, char *buffer, nvlist_t **label_out)
{
	switch (sz_device_state(device)) {
	case SZ_DEVICE_ONLINE:
		return label_read(device, buffer, label_out);
	case SZ_DEVICE_MISSING:
		return SZ_LABEL_NO_FOLDER;
	case SZ_DEVICE_FAILED:
	default:
		return SZ_LABEL_DEVICE_FAILED;
	}
}

static void label_discard(struct findings *found, uint32_t device, enum sz_label_state state)
{
	nvlist_free(found->label[device]);
	found->label[device] = NULL;
	found->guid[device] = 0;
	found->labels->state[device] = state;
}

/* How many devices have labels of the pool, and the newest transaction group of these. */
static uint32_t pool_devices(const struct findings *found, uint64_t pool_guid, uint64_t *txg_out)
{
	uint32_t count = 0;

	*txg_out = 0;
	for (uint32_t i = 0; i < found->labels->device_count; i++) {
		if (found->label[i] == NULL ||
		    number(found->label[i], ZPOOL_CONFIG_POOL_GUID) != pool_guid)
			continue;
		count++;
		*txg_out = MAX(*txg_out, label_txg(found->label[i]));
	}
	return count;
}

/* Discards the labels of all pools but the one that most devices have; the newer one of two. */
static void foreign_discard(struct findings *found)
{
	uint64_t best_guid = 0;
	uint64_t best_txg = 0;
	uint32_t best_count = 0;

	for (uint32_t i = 0; i < found->labels->device_count; i++) {
		uint64_t guid;
		uint64_t txg;
		uint32_t count;

		if (found->label[i] == NULL)
			continue;
		guid = number(found->label[i], ZPOOL_CONFIG_POOL_GUID);
		count = pool_devices(found, guid, &txg);
		if (count > best_count || (count == best_count && txg > best_txg)) {
			best_guid = guid;
			best_txg = txg;
			best_count = count;
		}
	}
	for (uint32_t i = 0; i < found->labels->device_count; i++)
		if (found->label[i] != NULL &&
		    number(found->label[i], ZPOOL_CONFIG_POOL_GUID) != best_guid)
			label_discard(found, i, SZ_LABEL_FOREIGN);
}

/* Of several devices with the labels of one leaf, the one with the newest stays. */
static void copies_discard(struct findings *found)
{
	for (uint32_t i = 0; i < found->labels->device_count; i++) {
		for (uint32_t j = i + 1; j < found->labels->device_count; j++) {
			if (found->label[i] == NULL || found->label[j] == NULL ||
			    found->guid[i] != found->guid[j])
				continue;
			if (label_txg(found->label[j]) > label_txg(found->label[i]))
				label_discard(found, i, SZ_LABEL_COPY);
			else
				label_discard(found, j, SZ_LABEL_COPY);
		}
	}
}

/* The newest label of each top-level vdev, by its id. */
struct tops {
	nvlist_t *label[TOP_MAX];
	uint64_t count;
};

static void tops_collect(const struct findings *found, struct tops *tops)
{
	for (uint32_t i = 0; i < found->labels->device_count; i++) {
		nvlist_t *label = found->label[i];
		uint64_t id;

		if (label == NULL)
			continue;
		id = number(label_tree(label), ZPOOL_CONFIG_ID);
		if (tops->label[id] == NULL || label_txg(label) > label_txg(tops->label[id]))
			tops->label[id] = label;
		tops->count = MAX(tops->count, id + 1);
	}
}

uint32_t sz_config_leaves(nvlist_t *vdev, nvlist_t *leaves[SZ_LEAVES_MAX])
{
	nvlist_t *stack[SZ_LEAVES_MAX];
	uint32_t depth = 0;
	uint32_t count = 0;

	stack[depth++] = vdev;
	while (depth > 0) {
		nvlist_t **children;
		uint_t child_count;
		nvlist_t *at = stack[--depth];

		if (nvlist_lookup_nvlist_array(at, ZPOOL_CONFIG_CHILDREN, &children,
					       &child_count) != 0) {
			if (count < SZ_LEAVES_MAX)
				leaves[count++] = at;
			continue;
		}
		while (child_count > 0 && depth < SZ_LEAVES_MAX)
			stack[depth++] = children[--child_count];
	}
	return count;
}

static uint32_t device_of_leaf(const struct findings *found, nvlist_t *leaf)
{
	uint64_t guid = number(leaf, ZPOOL_CONFIG_GUID);

	for (uint32_t i = 0; i < found->labels->device_count; i++)
		if (found->label[i] != NULL && found->guid[i] == guid)
			return i;
	return NO_DEVICE;
}

static void path_set(nvlist_t *leaf, uint32_t device, bool *is_taken)
{
	char path[32];

	sz_leaf_path(device, path);
	fnvlist_add_string(leaf, ZPOOL_CONFIG_PATH, path);
	is_taken[device] = true;
}

/* The device whose path the leaf has, if nobody needs it. */
static uint32_t device_of_path(const struct findings *found, nvlist_t *leaf, const bool *is_taken)
{
	const char *path = NULL;
	uint32_t device;

	(void)nvlist_lookup_string(leaf, ZPOOL_CONFIG_PATH, &path);
	if (sz_leaf_parse(path, &device) != 0 || device >= found->labels->device_count ||
	    is_taken[device])
		return NO_DEVICE;
	return device;
}

/* Gives every leaf its path: first those whose labels are there, then those that are lost. */
static void paths_set(const struct findings *found, nvlist_t *const *leaves, uint32_t count)
{
	bool is_taken[SZ_DEVICES_MAX] = { false };

	for (uint32_t i = 0; i < count; i++) {
		uint32_t device = device_of_leaf(found, leaves[i]);

		if (device != NO_DEVICE)
			path_set(leaves[i], device, is_taken);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t device = device_of_path(found, leaves[i], is_taken);

		if (device_of_leaf(found, leaves[i]) != NO_DEVICE)
			continue;
		for (uint32_t d = 0; device == NO_DEVICE && d < found->labels->device_count; d++)
			if (!is_taken[d])
				device = d;
		/* None is free: the old path stays, and the label that is found there is another's. */
		if (device != NO_DEVICE)
			path_set(leaves[i], device, is_taken);
	}
}

/* In the place of a top-level vdev that no label tells of: it was removed, or is missing. */
static nvlist_t *placeholder(nvlist_t *newest, uint64_t id)
{
	nvlist_t *vdev = fnvlist_alloc();
	const char *type = VDEV_TYPE_MISSING;
	uint64_t *holes;
	uint_t count;

	if (nvlist_lookup_uint64_array(newest, ZPOOL_CONFIG_HOLE_ARRAY, &holes, &count) == 0)
		for (uint_t i = 0; i < count; i++)
			if (holes[i] == id)
				type = VDEV_TYPE_HOLE;
	fnvlist_add_string(vdev, ZPOOL_CONFIG_TYPE, type);
	fnvlist_add_uint64(vdev, ZPOOL_CONFIG_ID, id);
	fnvlist_add_uint64(vdev, ZPOOL_CONFIG_GUID, 0);
	return vdev;
}

/* The root vdev, and in it every leaf with its path. */
static nvlist_t *root_make(const struct findings *found, const struct tops *tops, nvlist_t *newest)
{
	nvlist_t *root = fnvlist_alloc();
	nvlist_t *children[TOP_MAX];
	nvlist_t *leaves[SZ_LEAVES_MAX];

	fnvlist_add_string(root, ZPOOL_CONFIG_TYPE, VDEV_TYPE_ROOT);
	fnvlist_add_uint64(root, ZPOOL_CONFIG_ID, 0);
	fnvlist_add_uint64(root, ZPOOL_CONFIG_GUID, number(newest, ZPOOL_CONFIG_POOL_GUID));
	for (uint64_t i = 0; i < tops->count; i++)
		children[i] = tops->label[i] == NULL ? placeholder(newest, i)
						     : fnvlist_dup(label_tree(tops->label[i]));
	fnvlist_add_nvlist_array(root, ZPOOL_CONFIG_CHILDREN, (const nvlist_t *const *)children,
				 (uint_t)tops->count);
	for (uint64_t i = 0; i < tops->count; i++)
		nvlist_free(children[i]);
	paths_set(found, leaves, sz_config_leaves(root, leaves));
	return root;
}

static nvlist_t *config_make(const struct findings *found, nvlist_t *newest)
{
	static const char *const copied[] = { ZPOOL_CONFIG_VERSION, ZPOOL_CONFIG_POOL_STATE,
					      ZPOOL_CONFIG_POOL_GUID };
	struct tops tops = { 0 };
	nvlist_t *config = fnvlist_alloc();
	nvlist_t *root;

	tops_collect(found, &tops);
	tops.count = MAX(tops.count, MIN(number(newest, ZPOOL_CONFIG_VDEV_CHILDREN), TOP_MAX));
	for (size_t i = 0; i < ARRAY_LENGTH(copied); i++)
		fnvlist_add_uint64(config, copied[i], number(newest, copied[i]));
	fnvlist_add_string(config, ZPOOL_CONFIG_POOL_NAME, SZ_POOL_NAME);
	root = root_make(found, &tops, newest);
	fnvlist_add_nvlist(config, ZPOOL_CONFIG_VDEV_TREE, root);
	nvlist_free(root);
	return config;
}

/* Labels of leaves that the newest configuration does not have: they were replaced or removed. */
static void strays_discard(struct findings *found, nvlist_t *config)
{
	nvlist_t *leaves[SZ_LEAVES_MAX];
	uint32_t count =
		sz_config_leaves(fnvlist_lookup_nvlist(config, ZPOOL_CONFIG_VDEV_TREE), leaves);

	for (uint32_t i = 0; i < found->labels->device_count; i++) {
		bool is_leaf = false;

		for (uint32_t l = 0; l < count; l++)
			if (number(leaves[l], ZPOOL_CONFIG_GUID) == found->guid[i])
				is_leaf = true;
		if (found->label[i] != NULL && !is_leaf)
			label_discard(found, i, SZ_LABEL_STRAY);
	}
}

static void config_find(struct findings *found)
{
	struct sz_labels *labels = found->labels;
	nvlist_t *newest = NULL;

	foreign_discard(found);
	copies_discard(found);
	for (uint32_t i = 0; i < labels->device_count; i++)
		if (found->label[i] != NULL &&
		    (newest == NULL || label_txg(found->label[i]) > label_txg(newest)))
			newest = found->label[i];
	if (newest == NULL)
		return;
	labels->config = config_make(found, newest);
	strays_discard(found, labels->config);
	for (uint32_t i = 0; i < labels->device_count; i++)
		if (labels->state[i] == SZ_LABEL_PRESENT)
			labels->present_guids[labels->present_count++] = found->guid[i];
}

int sz_labels_read(struct sz_store *store, struct sz_labels *labels_out)
{
	struct findings found = { .labels = labels_out };
	CLEANUP_FREE char *buffer = malloc(NVLIST_BYTES);

	*labels_out = (struct sz_labels){ .device_count = sz_store_device_count(store) };
	if (buffer == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < labels_out->device_count; i++) {
		labels_out->state[i] =
			device_read(sz_store_device(store, i), buffer, &found.label[i]);
		if (found.label[i] != NULL)
			found.guid[i] = number(found.label[i], ZPOOL_CONFIG_GUID);
	}
	config_find(&found);
	for (uint32_t i = 0; i < labels_out->device_count; i++)
		nvlist_free(found.label[i]);
	return 0;
}

void sz_labels_free(struct sz_labels *labels)
{
	nvlist_free(labels->config);
	labels->config = NULL;
}
