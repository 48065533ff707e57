/*
 * fs: opening, closing and formatting datasets.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <stdio.h>

static char fs_tag[] = "fs";

void format_in(objset_t *os, uint32_t uid, uint32_t gid, dmu_tx_t *tx)
{
	static const struct {
		const char *name;
		uint64_t value;
	} settings[] = {
		{ "normalization", 0 },
		{ "utf8only", 0 },
		{ "casesensitivity", 0 },
		{ ZPL_VERSION_STR, ZPL_VERSION },
	};
	const struct sz_fs_new root = { .mode = S_IFDIR | 0755, .uid = uid, .gid = gid };
	const struct znode_new znode = { .new = &root };
	sa_attr_type_t *attr;
	uint64_t object;

	VERIFY0(zap_create_claim(os, MASTER_NODE_OBJ, DMU_OT_MASTER_NODE, DMU_OT_NONE, 0, tx));
	for (size_t i = 0; i < ARRAY_LENGTH(settings); i++)
		VERIFY0(zap_update(os, MASTER_NODE_OBJ, settings[i].name, 8, 1, &settings[i].value,
				   tx));
	object = zap_create(os, DMU_OT_SA_MASTER_NODE, DMU_OT_NONE, 0, tx);
	VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_SA_ATTRS, 8, 1, &object, tx));
	VERIFY0(sa_setup(os, object, zfs_attr_table, ZPL_END, &attr));
	object = zap_create(os, DMU_OT_UNLINKED_SET, DMU_OT_NONE, 0, tx);
	VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_UNLINKED_SET, 8, 1, &object, tx));
	object = znode_create(os, attr, &znode, tx);
	VERIFY0(zap_add(os, MASTER_NODE_OBJ, ZFS_ROOT_OBJ, 8, 1, &object, tx));
}

static int format(objset_t *os, uint32_t uid, uint32_t gid)
{
	dmu_tx_t *tx = dmu_tx_create(os);
	int result;

	/* dmu_tx_hold_sa_create needs attributes that are set up: hold what they will take. */
	for (int i = 0; i < 4; i++)
		dmu_tx_hold_zap(tx, DMU_NEW_OBJECT, B_TRUE, NULL);
	dmu_tx_hold_bonus(tx, DMU_NEW_OBJECT);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	format_in(os, uid, gid, tx);
	dmu_tx_commit(tx);
	txg_wait_synced(dmu_objset_pool(os), 0);
	return 0;
}

int sz_fs_format(struct sz_pool *pool, const char *dataset, uint32_t uid, uint32_t gid,
		 struct sz_error *error)
{
	char name[SZ_DATASET_NAME_BYTES];
	objset_t *os;
	uint64_t root;
	int result = sz_dataset_name(dataset, NULL, name);

	(void)pool;
	if (result != 0)
		return sz_fail(error, result, "the dataset's name is too long");
	result = dmu_objset_own(name, DMU_OST_ZFS, B_FALSE, B_FALSE, fs_tag, &os);
	if (result != 0)
		return sz_fail(error, sz_zfs_error(result), "cannot open the dataset %s", name);
	if (zap_lookup(os, MASTER_NODE_OBJ, ZFS_ROOT_OBJ, 8, 1, &root) == 0)
		result = sz_fail(error, -EEXIST, "%s is a file system already", name);
	else
		result = format(os, uid, gid);
	sz_objset_disown(os, fs_tag);
	if (result != 0 && result != -EEXIST)
		return sz_fail(error, result, "cannot make a file system of %s", name);
	return result;
}

static int master_read(struct sz_fs *fs, struct sz_error *error)
{
	uint64_t version;
	uint64_t sa_object = 0;
	int result = zap_lookup(fs->os, MASTER_NODE_OBJ, ZPL_VERSION_STR, 8, 1, &version);

	if (result == 0)
		result = zap_lookup(fs->os, MASTER_NODE_OBJ, ZFS_ROOT_OBJ, 8, 1, &fs->root);
	if (result == 0)
		result = zap_lookup(fs->os, MASTER_NODE_OBJ, ZFS_UNLINKED_SET, 8, 1,
				    &fs->unlinked_set);
	if (result == ENOENT)
		return sz_fail(error, -ENODATA, "%s holds no file system", fs->name);
	if (result != 0)
		return sz_fail(error, sz_zfs_error(result), "cannot read the master node of %s",
			       fs->name);
	if (version != ZPL_VERSION)
		return sz_fail(error, -EPROTONOSUPPORT, "%s has file system version %llu, not %llu",
			       fs->name, (unsigned long long)version,
			       (unsigned long long)ZPL_VERSION);
	result = zap_lookup(fs->os, MASTER_NODE_OBJ, ZFS_SA_ATTRS, 8, 1, &sa_object);
	if (result == 0)
		result = sa_setup(fs->os, sa_object, zfs_attr_table, ZPL_END, &fs->attr);
	if (result != 0)
		return sz_fail(error, sz_zfs_error(result), "cannot read the attributes of %s",
			       fs->name);
	return 0;
}

static int properties_read(struct sz_fs *fs, struct sz_error *error)
{
	uint64_t read_only = 0;
	int result = dsl_prop_get_integer(fs->name, zfs_prop_to_name(ZFS_PROP_XATTR),
					  &fs->xattr_kind, NULL);

	if (result == 0)
		result = dsl_prop_get_integer(fs->name, zfs_prop_to_name(ZFS_PROP_ATIME),
					      &fs->atime, NULL);
	if (result == 0)
		result = dsl_prop_get_integer(fs->name, zfs_prop_to_name(ZFS_PROP_RELATIME),
					      &fs->relatime, NULL);
	if (result == 0)
		result = dsl_prop_get_integer(fs->name, zfs_prop_to_name(ZFS_PROP_READONLY),
					      &read_only, NULL);
	if (result != 0)
		return sz_fail(error, sz_zfs_error(result), "cannot read the properties of %s",
			       fs->name);
	if (read_only != 0 && !fs->read_only)
		return sz_fail(error, -EROFS,
			       "%s has readonly=on: it can be read only, until readonly=off is set "
			       "where that was set",
			       fs->name);
	result = quotas_load(fs);
	return result == 0 ? 0 : sz_fail(error, result, "cannot read the quotas of %s", fs->name);
}

static int fs_own(struct sz_pool *pool, const char *dataset, const char *snapshot, bool read_only,
		  struct sz_fs **fs_out, struct sz_error *error)
{
	CLEANUP_FREE struct sz_fs *fs = calloc(1, sizeof(*fs));
	int result;

	if (fs == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	fs->pool = pool;
	fs->read_only = read_only || sz_pool_is_read_only(pool);
	result = sz_dataset_name(dataset, snapshot, fs->name);
	if (result != 0)
		return sz_fail(error, result, "the dataset's name is too long");
	result = dmu_objset_own(fs->name, DMU_OST_ZFS, fs->read_only, B_FALSE, fs_tag, &fs->os);
	if (result == EINVAL)
		return sz_fail(error, -EINVAL,
			       "%s is no dataset of files ('szpool volumes' lists volumes)",
			       fs->name);
	if (result != 0)
		return sz_fail(error, result == EBUSY ? -EBUSY : sz_zfs_error(result),
			       result == EBUSY ? "%s is open already"
					       : "cannot open the dataset %s",
			       fs->name);
	(void)pthread_mutex_init(&fs->snapshots_lock, NULL);
	LIST_INIT(&fs->snapshots);
	*fs_out = TAKE(fs);
	return 0;
}

static int fs_open(struct sz_pool *pool, const char *dataset, const char *snapshot, bool read_only,
		   struct sz_fs **fs_out, struct sz_error *error)
{
	struct sz_fs *fs = NULL;
	int result = fs_own(pool, dataset, snapshot, read_only, &fs, error);

	if (result != 0 || fs == NULL)
		return result;
	result = master_read(fs, error);
	if (result == 0)
		result = properties_read(fs, error);
	if (result == 0)
		result = sz_checksums_check(fs->os, fs->name, error);
	if (result != 0) {
		sz_objset_disown(fs->os, fs_tag);
		(void)pthread_mutex_destroy(&fs->snapshots_lock);
		free(fs);
		return result;
	}
	result = inode_table_init(fs);
	if (result == 0 && !fs->read_only)
		result = unlinked_drain(fs);
	if (result != 0)
		result = sz_fail(error, result, "cannot finish the deletions of %s", fs->name);
	else
		result = log_open(fs, error);
	if (result == 0 && !fs->read_only) {
		result = freer_start(fs);
		if (result != 0)
			(void)sz_fail(error, result, "cannot start a thread");
	}
	if (result != 0) {
		sz_fs_close(fs);
		return result;
	}
	*fs_out = fs;
	return 0;
}

int sz_fs_open(struct sz_pool *pool, const char *dataset, bool read_only, struct sz_fs **fs_out,
	       struct sz_error *error)
{
	return fs_open(pool, dataset, NULL, read_only, fs_out, error);
}

int sz_fs_open_snapshot(struct sz_pool *pool, const char *dataset, const char *snapshot,
			struct sz_fs **fs_out, struct sz_error *error)
{
	return fs_open(pool, dataset, snapshot, true, fs_out, error);
}

void sz_fs_close(struct sz_fs *fs)
{
	assert(LIST_EMPTY(&fs->snapshots));
	freer_stop(fs);
	inode_release_all(fs);
	log_close(fs);
	inode_table_fini(fs);
	sz_objset_disown(fs->os, fs_tag);
	(void)pthread_mutex_destroy(&fs->snapshots_lock);
	free(fs);
}

uint64_t sz_fs_root(const struct sz_fs *fs)
{
	return fs->root;
}

int new_data_admit(struct sz_fs *fs, uint64_t bytes)
{
	return fs->read_only ? 0 : sz_pool_admit(fs->pool, bytes);
}

int sz_fs_statfs(struct sz_fs *fs, struct statvfs *statvfs_out)
{
	uint64_t referenced;
	uint64_t available;
	uint64_t objects_used;
	uint64_t objects_available;

	dmu_objset_space(fs->os, &referenced, &available, &objects_used, &objects_available);
	available = MIN(available, sz_pool_room(fs->pool));
	*statvfs_out = (struct statvfs){
		.f_bsize = fs->os->os_recordsize,
		.f_frsize = SPA_MINBLOCKSIZE,
		.f_blocks = (referenced + available) / SPA_MINBLOCKSIZE,
		.f_bfree = available / SPA_MINBLOCKSIZE,
		.f_bavail = available / SPA_MINBLOCKSIZE,
		.f_files = objects_used + MIN(objects_available, available / DNODE_MIN_SIZE),
		.f_ffree = MIN(objects_available, available / DNODE_MIN_SIZE),
		.f_favail = MIN(objects_available, available / DNODE_MIN_SIZE),
		.f_namemax = NAME_LIMIT,
	};
	return 0;
}
