/* attributes: getattr and setattr. */
#include "fs/fs_internal.h"

#include <errno.h>
#include <sys/sysmacros.h>

#define ATIME_OLD_S 86400

static void stat_time(struct timespec *to, const uint64_t from[2])
{
	to->tv_sec = (time_t)from[0];
	to->tv_nsec = (long)from[1];
}

int sz_fs_getattr(struct sz_fs *fs, uint64_t number, struct stat *stat_out)
{
	struct inode *inode;
	uint64_t mode = 0;
	uint64_t size = 0;
	uint64_t links = 0;
	uint64_t uid = 0;
	uint64_t gid = 0;
	uint64_t times[3][2] = { { 0 } };
	uint32_t block;
	u_longlong_t blocks;
	sa_bulk_attr_t bulk[8];
	int count = 0;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MODE], NULL, &mode, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_SIZE], NULL, &size, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_LINKS], NULL, &links, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_UID], NULL, &uid, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_GID], NULL, &gid, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_ATIME], NULL, times[0], 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, times[1], 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, times[2], 16);
	(void)pthread_rwlock_rdlock(&inode->lock);
	result = sz_zfs_error(sa_bulk_lookup(inode->sa, bulk, count));
	*stat_out = (struct stat){
		.st_ino = number,
		.st_mode = (mode_t)mode,
		.st_nlink = links,
		.st_uid = (uid_t)uid,
		.st_gid = (gid_t)gid,
		.st_size = (off_t)size,
		.st_rdev = rdev_decode(inode_u64(fs, inode, ZPL_RDEV)),
	};
	sa_object_size(inode->sa, &block, &blocks);
	(void)pthread_rwlock_unlock(&inode->lock);
	stat_out->st_blksize = (blksize_t)block;
	stat_out->st_blocks = (blkcnt_t)blocks;
	stat_time(&stat_out->st_atim, times[0]);
	stat_time(&stat_out->st_mtim, times[1]);
	stat_time(&stat_out->st_ctim, times[2]);
	inode_put(fs, inode);
	return result;
}

int attributes_set(struct sz_fs *fs, struct inode *inode, unsigned int fields,
		   const struct stat *values, const struct flags_change *flags)
{
	uint64_t uid = values->st_uid;
	uint64_t gid = values->st_gid;
	uint64_t atime[2] = { (uint64_t)values->st_atim.tv_sec, (uint64_t)values->st_atim.tv_nsec };
	uint64_t mtime[2] = { (uint64_t)values->st_mtim.tv_sec, (uint64_t)values->st_mtim.tv_nsec };
	uint64_t ctime[2] = { (uint64_t)values->st_ctim.tv_sec, (uint64_t)values->st_ctim.tv_nsec };
	struct inode *xattrs =
		NULL; /* the folder of its extended attributes, which has its owner */
	struct mode_change mode;
	uint64_t pflags = 0;
	uint64_t project = flags == NULL ? 0 : flags->project;
	sa_bulk_attr_t bulk[7 + MODE_CHANGE_BULK];
	int count = 0;
	dmu_tx_t *tx;
	int result = 0;

	/* Where it stands counts for ZFS's accounting: one that has none cannot just get one. */
	if (flags != NULL && flags->sets_project &&
	    (inode_u64(fs, inode, ZPL_FLAGS) & ZFS_PROJID) == 0)
		return -EOPNOTSUPP;
	if ((fields & (SZ_SET_UID | SZ_SET_GID)) != 0)
		result = xattr_folder_get(fs, inode, &xattrs);
	if (result != 0)
		return result;
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_sa(tx, inode->sa, B_TRUE);
	result = sz_tx_begin(tx);
	if (result != 0) {
		inode_put(fs, xattrs);
		return result;
	}
	if ((fields & SZ_SET_MODE) != 0)
		mode_change_add(fs, inode, values->st_mode, &mode, bulk, &count);
	if ((fields & SZ_SET_UID) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_UID], NULL, &uid, 8);
	if ((fields & SZ_SET_GID) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_GID], NULL, &gid, 8);
	if ((fields & SZ_SET_ATIME) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_ATIME], NULL, atime, 16);
	if ((fields & SZ_SET_MTIME) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, mtime, 16);
	if ((fields & SZ_SET_CTIME) == 0)
		now_encode(ctime);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, ctime, 16);
	if (flags != NULL) {
		pflags = (fields & SZ_SET_MODE) != 0 ? mode.flags : inode_u64(fs, inode, ZPL_FLAGS);
		pflags = (pflags & ~flags->mask) | flags->value;
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_FLAGS], NULL, &pflags, 8);
	}
	if (flags != NULL && flags->sets_project)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_PROJID], NULL, &project, 8);
	result = sz_zfs_error(sa_bulk_update(inode->sa, bulk, count, tx));
	log_setattr(fs, tx, inode, fields, values, flags);
	dmu_tx_commit(tx);
	if (xattrs != NULL && result == 0)
		result = xattr_folder_chown(fs, xattrs, fields, values);
	inode_put(fs, xattrs);
	return result;
}

int sz_fs_created(struct sz_fs *fs, uint64_t number, struct timespec *created_out)
{
	uint64_t created[2] = { 0 };
	struct inode *inode;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	result = sz_zfs_error(sa_lookup(inode->sa, fs->attr[ZPL_CRTIME], created, sizeof(created)));
	inode_put(fs, inode);
	stat_time(created_out, created);
	return result;
}

/* By relatime: if it was read the first time since it changed, or for a day. */
static bool atime_is_due(struct sz_fs *fs, struct inode *inode, const uint64_t now[2])
{
	uint64_t times[3][2] = { { 0 } };
	sa_bulk_attr_t bulk[3];
	int count = 0;
	int result;

	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_ATIME], NULL, times[0], 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, times[1], 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, times[2], 16);
	(void)pthread_rwlock_rdlock(&inode->lock);
	result = sa_bulk_lookup(inode->sa, bulk, count);
	(void)pthread_rwlock_unlock(&inode->lock);
	if (result != 0)
		return false;
	if (fs->relatime == 0)
		return times[0][0] != now[0];
	return times[0][0] <= times[1][0] || times[0][0] <= times[2][0] ||
	       (int64_t)(now[0] - times[0][0]) >= ATIME_OLD_S;
}

void atime_touch(struct sz_fs *fs, struct inode *inode)
{
	uint64_t now[2];
	dmu_tx_t *tx;

	if (fs->atime == 0 || fs->read_only)
		return;
	now_encode(now);
	if (!atime_is_due(fs, inode, now))
		return;
	(void)pthread_rwlock_wrlock(&inode->lock);
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	dmu_tx_mark_netfree(tx);
	if (sz_tx_begin(tx) == 0) {
		(void)sa_update(inode->sa, fs->attr[ZPL_ATIME], now, sizeof(now), tx);
		dmu_tx_commit(tx);
	}
	(void)pthread_rwlock_unlock(&inode->lock);
}

/* A change of size is a change of content. */
static int size_set(struct sz_fs *fs, struct inode *inode, unsigned int *fields,
		    struct stat *values)
{
	int result;

	if (!S_ISREG(inode->mode) || values->st_size < 0)
		return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
	result = file_truncate(fs, inode, (uint64_t)values->st_size);
	if (result == 0 && (*fields & SZ_SET_MTIME) == 0) {
		(void)clock_gettime(CLOCK_REALTIME, &values->st_mtim);
		*fields |= SZ_SET_MTIME;
	}
	return result;
}

/* A new owner takes it over with all that it holds. */
static int owner_allow(struct sz_fs *fs, struct inode *inode, unsigned int fields,
		       const struct stat *values)
{
	if ((fields & SZ_SET_UID) != 0 && values->st_uid != inode_u64(fs, inode, ZPL_UID) &&
	    quota_is_over(fs, ZFS_PROP_USERQUOTA, values->st_uid))
		return -EDQUOT;
	if ((fields & SZ_SET_GID) != 0 && values->st_gid != inode_u64(fs, inode, ZPL_GID) &&
	    quota_is_over(fs, ZFS_PROP_GROUPQUOTA, values->st_gid))
		return -EDQUOT;
	return 0;
}

int sz_fs_setattr(struct sz_fs *fs, uint64_t number, unsigned int fields, const struct stat *values)
{
	struct stat wanted = *values;
	struct inode *inode;
	/* So a cache writes back when something was appended; nobody can tell that from times that are set. */
	bool is_appended = fields == (SZ_SET_MTIME | SZ_SET_CTIME);
	bool has_acl = false;
	int result = fs->read_only ? -EROFS : inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	content_lock(fs, inode);
	result = flags_allow(fs, inode, is_appended ? ZFS_IMMUTABLE : FLAGS_FIXED);
	if (result == 0)
		result = owner_allow(fs, inode, fields, &wanted);
	if (result == 0 && (fields & SZ_SET_SIZE) != 0)
		result = size_set(fs, inode, &fields, &wanted);
	if (result == 0 && (fields & SZ_SET_MODE) != 0)
		result = xattr_acl_chmod(fs, inode, wanted.st_mode, &has_acl);
	if (has_acl)
		fields &= ~(unsigned int)SZ_SET_MODE;
	if (result == 0 && fields != 0)
		result = attributes_set(fs, inode, fields, &wanted, NULL);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return log_finish(fs, 0, result);
}
