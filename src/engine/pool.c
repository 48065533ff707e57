/*
 * pool: create, import, export, sync, space.
 *
 * Invariants
 * 1. One pool a process, named SZ_POOL_NAME whatever its labels say; sz_pool holds a reference of it
 *    from creation or import to export.
 * 2. A suspended pool is never exported: that would hang (docs/HACKING.md).
 */
#include "engine/label.h"

#include <errno.h>
#include <stdio.h>

/* EBUSY for a moment: references that ZFS drops in the background. Pauses double, 4 s in all. */
#define EXPORT_TRIES          12
#define EXPORT_FIRST_PAUSE_MS 1U

static char pool_tag[] = "szpool";

uint32_t sz_raid_parity(enum sz_raid raid, uint32_t devices)
{
	switch (raid) {
	case SZ_RAID_MIRROR:
		return devices - 1;
	case SZ_RAID_Z1:
		return 1;
	case SZ_RAID_Z2:
		return 2;
	case SZ_RAID_Z3:
		return 3;
	case SZ_RAID_STRIPE:
	default:
		return 0;
	}
}

uint32_t sz_raid_min_devices(enum sz_raid raid)
{
	switch (raid) {
	case SZ_RAID_MIRROR:
	case SZ_RAID_Z1:
		return 2;
	case SZ_RAID_Z2:
		return 3;
	case SZ_RAID_Z3:
		return 4;
	case SZ_RAID_STRIPE:
	default:
		return 1;
	}
}

bool sz_raid_parse(const char *name, enum sz_raid *raid_out)
{
	static const struct {
		const char *name;
		enum sz_raid raid;
	} names[] = {
		{ "stripe", SZ_RAID_STRIPE }, { "mirror", SZ_RAID_MIRROR },
		{ "raidz", SZ_RAID_Z1 },      { "raidz1", SZ_RAID_Z1 },
		{ "raidz2", SZ_RAID_Z2 },     { "raidz3", SZ_RAID_Z3 },
	};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		if (strcmp(names[i].name, name) == 0) {
			*raid_out = names[i].raid;
			return true;
		}
	}
	return false;
}

spa_t *sz_pool_spa(struct sz_pool *pool)
{
	return pool->spa;
}

bool sz_pool_is_read_only(const struct sz_pool *pool)
{
	return pool->read_only;
}

/* Text for an errno of ZFS, which is positive and has some codes of its own. */
static const char *zfs_text(int code)
{
	switch (code) {
	case ECKSUM:
		return "checksums do not match";
	case EOVERFLOW:
		return "a device is too small";
	case ENXIO:
		return "too many devices are missing or damaged";
	default:
		return strerror(code);
	}
}

static nvlist_t *leaf_make(uint32_t index)
{
	nvlist_t *leaf = fnvlist_alloc();
	char path[32];

	sz_leaf_path(index, path);
	fnvlist_add_string(leaf, ZPOOL_CONFIG_TYPE, VDEV_TYPE_DISK);
	fnvlist_add_string(leaf, ZPOOL_CONFIG_PATH, path);
	fnvlist_add_uint64(leaf, ZPOOL_CONFIG_IS_LOG, 0);
	fnvlist_add_uint64(leaf, ZPOOL_CONFIG_ASHIFT, 12);
	return leaf;
}

static nvlist_t *root_make(nvlist_t **tops, uint_t count)
{
	nvlist_t *root = fnvlist_alloc();

	fnvlist_add_string(root, ZPOOL_CONFIG_TYPE, VDEV_TYPE_ROOT);
	fnvlist_add_nvlist_array(root, ZPOOL_CONFIG_CHILDREN, (const nvlist_t *const *)tops, count);
	return root;
}

nvlist_t *sz_pool_leaf_root(uint32_t index)
{
	nvlist_t *leaf = leaf_make(index);
	nvlist_t *root = root_make(&leaf, 1);

	nvlist_free(leaf);
	return root;
}

static nvlist_t *tree_make(enum sz_raid raid, uint32_t devices)
{
	nvlist_t *leaves[SZ_DEVICES_MAX];
	nvlist_t *root;

	for (uint32_t i = 0; i < devices; i++)
		leaves[i] = leaf_make(i);
	if (raid == SZ_RAID_STRIPE || devices == 1) {
		root = root_make(leaves, devices);
	} else {
		nvlist_t *top = fnvlist_alloc();

		if (raid == SZ_RAID_MIRROR) {
			fnvlist_add_string(top, ZPOOL_CONFIG_TYPE, VDEV_TYPE_MIRROR);
		} else {
			fnvlist_add_string(top, ZPOOL_CONFIG_TYPE, VDEV_TYPE_RAIDZ);
			fnvlist_add_uint64(top, ZPOOL_CONFIG_NPARITY,
					   sz_raid_parity(raid, devices));
		}
		fnvlist_add_uint64(top, ZPOOL_CONFIG_IS_LOG, 0);
		fnvlist_add_nvlist_array(top, ZPOOL_CONFIG_CHILDREN,
					 (const nvlist_t *const *)leaves, devices);
		root = root_make(&top, 1);
		nvlist_free(top);
	}
	for (uint32_t i = 0; i < devices; i++)
		nvlist_free(leaves[i]);
	return root;
}

static int export_retried(void)
{
	for (unsigned int i = 0;; i++) {
		int result = spa_export(SZ_POOL_NAME, NULL, B_FALSE, B_FALSE);

		if (result != EBUSY || i == EXPORT_TRIES)
			return result;
		sz_sleep_ms(EXPORT_FIRST_PAUSE_MS << i);
	}
}

/* What is not open any more, or not yet. */
static void pool_free(struct sz_pool *pool)
{
	sz_watch_stop(pool);
	sz_leaf_set_store(NULL);
	(void)pthread_mutex_destroy(&pool->reclaim_lock);
	free(pool);
}

/* Gives ZFS the devices of the store. It is watched from here on: already an import may meet failing disks, and not return. */
static int pool_make(struct sz_store *store, bool read_only, struct sz_pool **pool_out,
		     struct sz_error *error)
{
	struct sz_pool *pool = calloc(1, sizeof(*pool));
	int result;

	if (pool == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	pool->store = store;
	pool->read_only = read_only;
	pool->reclaim_from = UINT64_MAX;
	sz_leaf_set_store(store); /* which forgets what failed before */
	result = sz_watch_start(pool);
	if (result != 0) {
		sz_leaf_set_store(NULL);
		free(pool);
		return sz_fail(error, result, "cannot start a thread");
	}
	(void)pthread_mutex_init(&pool->reclaim_lock, NULL);
	*pool_out = pool;
	return 0;
}

/* Of the pool that ZFS has open now. */
static int pool_hold(struct sz_pool *pool, struct sz_error *error)
{
	int result = spa_open(SZ_POOL_NAME, &pool->spa, pool_tag);

	if (result != 0)
		return sz_fail(error, -result, "the pool does not open: %s", zfs_text(result));
	sz_watch_blind(pool, false);
	return 0;
}

static void features_enable(nvlist_t *properties)
{
	for (unsigned int i = 0; i < SPA_FEATURES; i++) {
		char name[MAXNAMELEN];

		(void)snprintf(name, sizeof(name), "feature@%s", spa_feature_table[i].fi_uname);
		fnvlist_add_uint64(properties, name, 0);
	}
}

int sz_pool_create(struct sz_store *store, enum sz_raid raid, const struct sz_property *properties,
		   size_t property_count, struct sz_pool **pool_out, struct sz_error *error)
{
	uint32_t devices = sz_store_device_count(store);
	nvlist_t *pool_properties;
	nvlist_t *dataset_properties;
	struct sz_pool *pool = NULL;
	nvlist_t *tree;
	char name[] = SZ_POOL_NAME;
	int result;

	if (sz_store_is_read_only(store))
		return sz_fail(error, -EROFS, "the store is open read-only");
	if (devices < sz_raid_min_devices(raid))
		return sz_fail(error, -EINVAL, "this redundancy needs at least %u devices",
			       sz_raid_min_devices(raid));
	result = sz_properties_make(properties, property_count, &pool_properties,
				    &dataset_properties, error);
	if (result != 0)
		return result;
	features_enable(pool_properties);
	tree = tree_make(raid, devices);
	result = pool_make(store, false, &pool, error);
	if (result == 0) {
		result = spa_create(name, tree, pool_properties, NULL, NULL);
		if (result != 0)
			result = sz_fail(error, -result, "cannot create the pool: %s",
					 zfs_text(result));
	}
	nvlist_free(tree);
	nvlist_free(pool_properties);
	if (result == 0) {
		result = sz_properties_set(name, dataset_properties, error);
		if (result != 0)
			(void)spa_destroy(name);
	}
	nvlist_free(dataset_properties);
	if (result == 0)
		result = pool_hold(pool, error);
	if (result == 0)
		*pool_out = pool;
	else if (pool != NULL)
		pool_free(pool);
	return result;
}

/* A device that is whole has no label: then the others, which are lost, had none. */
static bool has_no_pool(const struct sz_labels *labels)
{
	bool found = false;

	for (uint32_t i = 0; i < labels->device_count; i++) {
		if (labels->state[i] != SZ_LABEL_NONE && labels->state[i] != SZ_LABEL_LOST &&
		    labels->state[i] != SZ_LABEL_NO_FOLDER)
			return false;
		found = found || labels->state[i] == SZ_LABEL_NONE;
	}
	return found;
}

static int labels_find(struct sz_store *store, struct sz_labels *labels, struct sz_error *error)
{
	char missing[320];
	int result = sz_labels_read(store, labels);

	if (result != 0)
		return sz_fail(error, result, "cannot read the devices' labels");
	if (labels->config != NULL)
		return sz_labels_suffice(labels, error);
	if (!has_no_pool(labels)) {
		sz_labels_text(labels, missing, sizeof(missing));
		return sz_fail(error, -ENXIO, "too many devices are missing: %s", missing);
	}
	return sz_fail(error, -ENODATA, "there is no pool on the store's devices");
}

/* A failed import says what could be the cause: a full disk, the devices that were not there. */
static int import_fail(const struct sz_labels *labels, int zfs_error, struct sz_error *error)
{
	struct sz_leaf_failure failure = sz_leaf_last_failure();
	char missing[320];

	if (failure.code == -ENOSPC)
		return sz_fail(error, -ENOSPC,
			       "the pool cannot be opened: no space is left for device %u",
			       failure.device);
	sz_labels_text(labels, missing, sizeof(missing));
	return sz_fail(error, zfs_error == ENOMEM ? -ENOMEM : -ENXIO,
		       "the pool cannot be opened: %s%s%s", zfs_text(zfs_error),
		       missing[0] != '\0' ? "; missing: " : "", missing);
}

/* What this program does not open: leaves that ZFS's own configuration has and no label told of. */
static int leaves_check(struct sz_pool *pool, struct sz_error *error)
{
	spa_t *spa = pool->spa;
	uint64_t others = 0;

	spa_config_enter(spa, SCL_CONFIG, FTAG, RW_READER);
	for (vdev_t *leaf = list_head(&spa->spa_leaf_list); leaf != NULL;
	     leaf = list_next(&spa->spa_leaf_list, leaf))
		if (leaf->vdev_ops != &vdev_disk_ops)
			others++;
	spa_config_exit(spa, SCL_CONFIG, FTAG);
	if (others == 0)
		return 0;
	return sz_fail(error, -EUCLEAN, "the pool has leaves that are not devices of the store");
}

static int labels_import(struct sz_store *store, const struct sz_labels *labels, bool read_only,
			 struct sz_pool **pool_out, struct sz_error *error)
{
	nvlist_t *properties;
	char name[] = SZ_POOL_NAME;
	struct sz_pool *pool = NULL;
	int result = pool_make(store, read_only, &pool, error);

	if (result != 0 || pool == NULL)
		return result;
	properties = fnvlist_alloc();
	fnvlist_add_string(properties, zpool_prop_to_name(ZPOOL_PROP_CACHEFILE), "none");
	if (read_only)
		fnvlist_add_uint64(properties, zpool_prop_to_name(ZPOOL_PROP_READONLY), 1);
	/* No resilver: what it wrote to a volatile store would fill the memory, and be forgotten. */
	zfs_scan_suspend_progress = sz_store_is_volatile(store) ? 1 : 0;
	result = spa_import(name, labels->config, properties, ZFS_IMPORT_ANY_HOST);
	nvlist_free(properties);
	if (result != 0)
		result = import_fail(labels, result, error);
	else
		result = pool_hold(pool, error);
	if (result != 0) {
		pool_free(pool);
		return result;
	}
	result = leaves_check(pool, error);
	if (result != 0) {
		(void)!sz_pool_export(pool, NULL);
		return result;
	}
	*pool_out = pool;
	return 0;
}

int sz_pool_import(struct sz_store *store, bool read_only, struct sz_pool **pool_out,
		   struct sz_error *error)
{
	struct sz_labels labels;
	int result;

	if (sz_store_is_read_only(store) && !read_only)
		return sz_fail(error, -EROFS, "the store is open read-only");
	result = labels_find(store, &labels, error);
	if (result == 0)
		result = labels_import(store, &labels, read_only, pool_out, error);
	sz_labels_free(&labels);
	return result;
}

bool sz_pool_is_suspended(struct sz_pool *pool)
{
	return spa_suspended(pool->spa);
}

int sz_pool_export(struct sz_pool *pool, struct sz_error *error)
{
	int result;

	if (spa_suspended(pool->spa)) {
		result = sz_pool_suspended(pool->store, error);
	} else {
		/* What is large is written while the watch sees exactly how the pool is. */
		if (!pool->read_only) {
			txg_wait_synced(spa_get_dsl(pool->spa), 0);
			sz_pool_give_back(pool);
		}
		/* A failure that the pool has outlived is no sign of a suspension from here on. */
		if (!spa_suspended(pool->spa))
			sz_leaf_forget_failure();
		sz_watch_blind(pool, true);
		spa_close(pool->spa, pool_tag);
		result = -export_retried();
		if (result != 0)
			(void)sz_fail(error, result, "cannot close the pool: %s",
				      zfs_text(-result));
	}
	pool_free(pool);
	return result;
}

int sz_pool_sync(struct sz_pool *pool, struct sz_error *error)
{
	if (pool->read_only)
		return 0;
	if (spa_suspended(pool->spa))
		return sz_pool_suspended(pool->store, error);
	txg_wait_synced(spa_get_dsl(pool->spa), 0);
	return 0;
}
