/*
 * volume: making, destroying and listing volumes.
 */
#include "volume/volume_internal.h"

#include <errno.h>
#include <stdio.h>

static char volume_tag[] = "volumes";

int volume_name(const char *name, char full[SZ_DATASET_NAME_BYTES], struct sz_error *error)
{
	int result = name[0] == '\0' ? -EINVAL : sz_dataset_name(name, NULL, full);

	return result == 0 ? 0 : sz_fail(error, -ENOENT, "there is no volume '%s'", name);
}

int volume_fail(struct sz_error *error, int zfs_error, const char *name)
{
	switch (zfs_error) {
	case ENOENT:
		return sz_fail(error, -ENOENT, "there is no volume '%s'", name);
	case EINVAL:
		return sz_fail(error, -EINVAL, "'%s' is no volume", name);
	case EBUSY:
		return sz_fail(error, -EBUSY, "the volume '%s' is in use", name);
	default:
		return sz_fail(error, sz_zfs_error(zfs_error),
			       "the volume '%s' cannot be opened: %s", name,
			       strerror(-sz_zfs_error(zfs_error)));
	}
}

int volume_sizes(objset_t *os, uint64_t *size_out, uint32_t *block_out)
{
	dmu_object_info_t data;
	int error = zap_lookup(os, ZAP_OBJECT, SIZE_ENTRY, 8, 1, size_out);

	if (error == 0)
		error = dmu_object_info(os, DATA_OBJECT, &data);
	if (error != 0)
		return sz_zfs_error(error);
	*block_out = data.doi_data_block_size;
	return *size_out > INT64_MAX || *block_out == 0 ? -EINVAL : 0;
}

/*
 * What 'zfs create -V' reserves for a volume: room for each block on those devices where it takes the most, relative
 * to the blocks of 128 KiB by which ZFS reckons room in a RAID-Z; and for the blocks that refer to them.
 */
static uint64_t reservation_of(spa_t *spa, uint64_t size, uint32_t block, uint64_t copies)
{
	uint64_t blocks = size / block;
	uint64_t metadata = 7; /* the dnodes', of each level */
	uint64_t data = 0;

	spa_config_enter(spa, SCL_VDEV, volume_tag, RW_READER);
	for (uint64_t i = 0; i < spa->spa_root_vdev->vdev_children; i++) {
		vdev_t *top = spa->spa_root_vdev->vdev_child[i];
		uint64_t usual;

		if (top->vdev_ops != &vdev_raidz_ops)
			continue;
		usual = vdev_psize_to_asize(top, SPA_OLD_MAXBLOCKSIZE) >> SPA_MINBLOCKSHIFT;
		data = MAX(data, blocks * vdev_psize_to_asize(top, block) / usual *
					 (SPA_OLD_MAXBLOCKSIZE >> SPA_MINBLOCKSHIFT));
	}
	spa_config_exit(spa, SCL_VDEV, volume_tag);
	if (data == 0)
		data = size;
	while (blocks > 1) {
		blocks = (blocks + DNODES_PER_LEVEL - 1) / DNODES_PER_LEVEL;
		metadata += blocks;
	}
	/* One copy more of each than of data. */
	return copies * data +
	       MIN(copies + 1, SPA_DVAS_PER_BP) * metadata * (1ULL << DN_MAX_INDBLKSHIFT);
}

static void volume_fill(objset_t *os, void *argument, cred_t *cr, dmu_tx_t *tx)
{
	const struct sz_volume_new *new = argument;

	(void)cr;
	VERIFY0(dmu_object_claim(os, DATA_OBJECT, DMU_OT_ZVOL, (int)new->block_bytes, DMU_OT_NONE,
				 0, tx));
	VERIFY0(zap_create_claim(os, ZAP_OBJECT, DMU_OT_ZVOL_PROP, DMU_OT_NONE, 0, tx));
	VERIFY0(zap_update(os, ZAP_OBJECT, SIZE_ENTRY, 8, 1, &new->size_bytes, tx));
}

static int new_check(struct sz_pool *pool, const char *name, const struct sz_volume_new *new,
		     char full[SZ_DATASET_NAME_BYTES], struct sz_error *error)
{
	int result = sz_dataset_name_check(name, "volume", full, error);

	if (result != 0)
		return result;
	if (new->block_bytes < SZ_VOLUME_BLOCK_MIN || new->block_bytes > SZ_VOLUME_BLOCK_MAX ||
	    !ISP2(new->block_bytes))
		return sz_fail(error, -EINVAL,
			       "a volume's blocks are a power of two, 4K to 16M, not %u bytes",
			       new->block_bytes);
	if (new->block_bytes > (uint32_t)spa_maxblocksize(sz_pool_spa(pool)))
		return sz_fail(error, -EINVAL, "this pool has blocks of up to %d bytes, not %u",
			       spa_maxblocksize(sz_pool_spa(pool)), new->block_bytes);
	if (new->size_bytes == 0 || new->size_bytes > SZ_VOLUME_SIZE_MAX ||
	    new->size_bytes % new->block_bytes != 0)
		return sz_fail(error, -EINVAL,
			       "a volume's size is a number of blocks of %u bytes, up to 1E, not "
			       "%llu bytes",
			       new->block_bytes, (unsigned long long)new->size_bytes);
	return sz_pool_is_read_only(pool)
		       ? sz_fail(error, -EROFS, "the pool is open for reading only")
		       : 0;
}

static int create_fail(struct sz_error *error, int zfs_error, const char *name)
{
	switch (zfs_error) {
	case EEXIST:
		return sz_fail(error, -EEXIST, "there is a dataset or volume '%s' already", name);
	case ENOENT:
		return sz_fail(error, -ENOENT,
			       "there is no dataset above '%s'; 'szpool create-dataset' makes one",
			       name);
	case ZFS_ERR_WRONG_PARENT:
		return sz_fail(error, -EINVAL,
			       "there is a volume above '%s', and volumes have nothing below them",
			       name);
	default:
		return sz_fail(error, sz_zfs_error(zfs_error), "cannot make the volume '%s': %s",
			       name, strerror(-sz_zfs_error(zfs_error)));
	}
}

static int room_reserve(struct sz_pool *pool, const char *name, const char *full,
			const struct sz_volume_new *new, struct sz_error *error)
{
	uint64_t copies = 1;
	uint64_t bytes;
	int result = dsl_prop_get_integer(full, zfs_prop_to_name(ZFS_PROP_COPIES), &copies, NULL);

	bytes = reservation_of(sz_pool_spa(pool), new->size_bytes, new->block_bytes, copies);
	if (result == 0)
		result = dsl_dataset_set_refreservation(full, ZPROP_SRC_LOCAL, bytes);
	if (result == 0)
		return 0;
	if (result != ENOSPC)
		return create_fail(error, result, name);
	return sz_fail(
		error, -ENOSPC,
		"the pool has no room for the volume '%s', which would take %llu MiB; a "
		"smaller one, or a sparse one (-s), for which nothing is reserved, can be made",
		name, (unsigned long long)(bytes >> 20));
}

/* The volume goes again if its properties cannot be set, or its room is not there, for which they count. */
static int created_finish(struct sz_pool *pool, const char *name, const char *full,
			  const struct sz_volume_new *new, nvlist_t *properties,
			  struct sz_error *error)
{
	int result = nvlist_empty(properties) ? 0 : sz_properties_set(full, properties, error);

	if (result == 0 && !new->is_sparse)
		result = room_reserve(pool, name, full, new, error);
	if (result != 0)
		(void)dsl_destroy_head(full);
	return result;
}

int sz_volume_create(struct sz_pool *pool, const char *name, const struct sz_volume_new *new,
		     struct sz_error *error)
{
	struct sz_volume_new filled = *new;
	char full[SZ_DATASET_NAME_BYTES];
	nvlist_t *properties = NULL;
	int result;

	if (filled.block_bytes == 0)
		filled.block_bytes = SZ_VOLUME_BLOCK_BYTES;
	result = new_check(pool, name, &filled, full, error);
	if (result == 0)
		result = sz_volume_properties_make(new->properties, new->property_count,
						   &properties, error);
	if (result != 0)
		return result;
	result = dmu_objset_create(full, DMU_OST_ZVOL, 0, NULL, volume_fill, &filled);
	result = result != 0 ? create_fail(error, result, name)
			     : created_finish(pool, name, full, &filled, properties, error);
	fnvlist_free(properties);
	return result;
}

/* -ENOENT · EINVAL: no volume; of ZFS, as volume_fail takes them. */
static int info_read(const char *full, struct sz_volume_info *info_out)
{
	const char *name = full + strlen(SZ_POOL_NAME) + 1;
	dsl_dataset_t *ds;
	objset_t *os;
	int result = dmu_objset_hold(full, volume_tag, &os);

	if (result != 0)
		return result;
	*info_out = (struct sz_volume_info){ 0 };
	if (dmu_objset_type(os) != DMU_OST_ZVOL) {
		result = EINVAL;
	} else {
		ds = dmu_objset_ds(os);
		result = -volume_sizes(os, &info_out->size_bytes, &info_out->block_bytes);
		info_out->used_bytes = dsl_dir_phys(ds->ds_dir)->dd_used_bytes;
		info_out->referenced_bytes = dsl_dataset_phys(ds)->ds_referenced_bytes;
		info_out->reserved_bytes = ds->ds_reserved;
		(void)snprintf(info_out->name, sizeof(info_out->name), "%s", name);
	}
	dmu_objset_rele(os, volume_tag);
	return result;
}

int sz_volume_find(struct sz_pool *pool, const char *name, struct sz_volume_info *info_out,
		   struct sz_error *error)
{
	char full[SZ_DATASET_NAME_BYTES];
	int result = volume_name(name, full, error);

	(void)pool;
	if (result != 0)
		return result;
	result = info_read(full, info_out);
	return result == 0 ? 0 : volume_fail(error, result, name);
}

static int snapshot_seen(void *context, const struct sz_snapshot *snapshot)
{
	unsigned int *count = context;

	(void)snapshot;
	(*count)++;
	return 0;
}

int sz_volume_destroy(struct sz_pool *pool, const char *name, struct sz_error *error)
{
	struct sz_volume_info info;
	char full[SZ_DATASET_NAME_BYTES];
	unsigned int snapshots = 0;
	int result = sz_volume_find(pool, name, &info, error);

	if (result == 0 && strchr(name, '@') != NULL)
		result = sz_fail(error, -EINVAL, "'%s' is a snapshot, and no volume", name);
	if (result == 0 && sz_pool_is_read_only(pool))
		result = sz_fail(error, -EROFS, "the pool is open for reading only");
	if (result == 0)
		result = volume_name(name, full, error);
	if (result != 0)
		return result;
	result = sz_pool_snapshot_each(pool, name, snapshot_seen, &snapshots);
	if (result == 0 && snapshots > 0)
		return sz_fail(
			error, -ENOTEMPTY,
			"the volume '%s' has %u snapshots; 'szpool destroy-snapshot' removes "
			"them, one by one",
			name, snapshots);
	if (result == 0)
		result = -dsl_destroy_head(full);
	return result == 0 ? 0 : volume_fail(error, -result, name);
}

struct names {
	char (*all)[SZ_DATASET_NAME_BYTES];
	size_t count;
	size_t room;
};

static int name_add(const char *full, void *context)
{
	struct names *names = context;

	if (names->count == names->room) {
		size_t room = names->room == 0 ? 16 : 2 * names->room;
		void *grown = reallocarray(names->all, room, sizeof(*names->all));

		if (grown == NULL)
			return ENOMEM;
		names->all = grown;
		names->room = room;
	}
	(void)strlcpy(names->all[names->count++], full, sizeof(*names->all));
	return 0;
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

int sz_volume_each(struct sz_pool *pool, sz_volume_fn *function, void *context)
{
	struct names names = { 0 };
	struct sz_volume_info info;
	int result = -dmu_objset_find(SZ_POOL_NAME, name_add, &names, DS_FIND_CHILDREN);

	(void)pool;
	if (result == 0 && names.count > 1)
		qsort(names.all, names.count, sizeof(*names.all), name_compare);
	for (size_t i = 0; result == 0 && i < names.count; i++) {
		int error = info_read(names.all[i], &info);

		if (error == 0)
			result = function(context, &info);
		else if (error != EINVAL && error != ENOENT) /* no volume, or gone meanwhile */
			result = sz_zfs_error(error);
	}
	free(names.all);
	return result;
}
