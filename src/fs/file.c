/*
 * file: the content of regular files: read, write, truncate, punch, seek, fsync.
 *
 * Blocks grow by the kernel's rules: a file of one block has a block as large as it needs, up to
 * recordsize; a second block fixes the size. A write is cut at block borders, one transaction each.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <unistd.h>

uint32_t file_block_size(struct inode *inode)
{
	uint32_t size;
	u_longlong_t blocks;

	dmu_object_size_from_db(sa_get_db(inode->sa), &size, &blocks);
	return size;
}

/* The block size that a file that ends at end is to get, 0 if it stays as it is. */
static uint64_t block_size_wanted(struct sz_fs *fs, struct inode *inode, uint64_t size,
				  uint64_t end)
{
	uint64_t now = file_block_size(inode);
	uint64_t most = fs->os->os_recordsize;

	if (end <= now || (size > now && now != 0) || (ISP2(now) && now >= most))
		return 0;
	if (now > most)
		return MIN(end, 1ULL << highbit64(now));
	return MIN(end, most);
}

static void block_grow(struct sz_fs *fs, struct inode *inode, uint64_t wanted, dmu_tx_t *tx)
{
	int result = dmu_object_set_blocksize(fs->os, inode->object, wanted, 0, tx);

	VERIFY(result == 0 || result == ENOTSUP);
}

int sz_fs_read(struct sz_fs *fs, uint64_t number, void *buffer, size_t length, uint64_t offset,
	       size_t *done_out)
{
	struct inode *inode;
	uint64_t size;
	int result = inode_get(fs, number, &inode);

	*done_out = 0;
	if (result != 0)
		return result;
	if (!S_ISREG(inode->mode)) {
		inode_put(fs, inode);
		return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
	}
	(void)pthread_rwlock_rdlock(&inode->lock);
	size = inode_u64(fs, inode, ZPL_SIZE);
	if (offset < size && length > 0) {
		length = MIN(length, size - offset);
		result = sz_zfs_error(
			dmu_read_by_dnode(inode->dnode, offset, length, buffer, DMU_READ_PREFETCH));
		if (result == 0)
			*done_out = length;
	}
	(void)pthread_rwlock_unlock(&inode->lock);
	if (result == 0)
		atime_touch(fs, inode);
	inode_put(fs, inode);
	return result;
}

int content_write(struct sz_fs *fs, struct inode *inode, const char *buffer, size_t length,
		  uint64_t offset, uint64_t end)
{
	uint64_t size = inode_u64(fs, inode, ZPL_SIZE);
	uint64_t flags = inode_u64(fs, inode, ZPL_FLAGS) | ZFS_ARCHIVE | ZFS_AV_MODIFIED;
	uint64_t wanted = block_size_wanted(fs, inode, size, offset + length);
	uint64_t now[2];
	sa_bulk_attr_t bulk[4];
	int count = 0;
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	if (wanted != 0)
		dmu_tx_hold_write(tx, inode->object, 0, (int)wanted);
	if (length > 0)
		dmu_tx_hold_write(tx, inode->object, offset, (int)length);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	if (wanted != 0)
		block_grow(fs, inode, wanted, tx);
	if (length > 0)
		dmu_write_by_dnode(inode->dnode, offset, length, buffer, tx);
	end = MAX(size, end);
	now_encode(now);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_SIZE], NULL, &end, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_FLAGS], NULL, &flags, 8);
	result = sz_zfs_error(sa_bulk_update(inode->sa, bulk, count, tx));
	log_write(fs, tx, inode, offset, length);
	dmu_tx_commit(tx);
	return result;
}

static int pieces_write(struct sz_fs *fs, struct inode *inode, const char *from, size_t length,
			uint64_t offset)
{
	int result = 0;

	while (result == 0 && length > 0) {
		uint64_t record = MAX(file_block_size(inode), fs->os->os_recordsize);
		size_t piece = (size_t)MIN(length, record - offset % record);

		result = quota_allow_write(fs, inode);
		if (result == 0)
			result = content_write(fs, inode, from, piece, offset, offset + piece);
		from += piece;
		offset += piece;
		length -= piece;
	}
	return result;
}

/*
 * What a cache of pages has of a file that can only be appended to: what is there stays. Pages are written back in
 * any order, so one that is behind the end leaves zeros where others are still to come: zeros are replaced.
 * -EPERM: something else was to be; the rest of what was given is in *merged_out all the same, the caller's.
 */
static int appended_merge(struct sz_fs *fs, struct inode *inode, const char *from, size_t length,
			  uint64_t offset, char **merged_out)
{
	size_t below = (size_t)MIN(length, inode_u64(fs, inode, ZPL_SIZE) - offset);
	CLEANUP_FREE char *merged = malloc(length);
	int refused = 0;
	int result;

	if (merged == NULL)
		return -ENOMEM;
	result = sz_zfs_error(
		dmu_read_by_dnode(inode->dnode, offset, below, merged, DMU_READ_PREFETCH));
	if (result != 0)
		return result;
	for (size_t i = 0; i < below; i++) {
		if (merged[i] == '\0')
			merged[i] = from[i];
		else if (merged[i] != from[i])
			refused = -EPERM;
	}
	memcpy(merged + below, from + below, length - below);
	*merged_out = TAKE(merged);
	return refused;
}

static int range_write(struct sz_fs *fs, uint64_t number, const char *from, size_t length,
		       uint64_t offset, bool is_cached)
{
	CLEANUP_FREE char *merged = NULL;
	struct inode *inode;
	int refused = 0;
	int result;

	if (fs->read_only)
		return -EROFS;
	if (offset > INT64_MAX || length > INT64_MAX - offset)
		return -EFBIG;
	result = new_data_admit(fs, length);
	if (result == 0)
		result = inode_get(fs, number, &inode);
	if (result != 0)
		return result;
	if (!S_ISREG(inode->mode)) {
		inode_put(fs, inode);
		return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
	}
	content_lock(fs, inode);
	result = flags_allow(fs, inode, ZFS_IMMUTABLE);
	if (result == 0 && offset < inode_u64(fs, inode, ZPL_SIZE))
		refused = flags_allow(fs, inode, ZFS_APPENDONLY);
	if (refused != 0 && is_cached)
		refused = appended_merge(fs, inode, from, length, offset, &merged);
	if (result == 0)
		result = refused;
	if (result == 0 || merged != NULL) {
		int written =
			pieces_write(fs, inode, merged != NULL ? merged : from, length, offset);

		result = written != 0 ? written : result;
	}
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return log_finish(fs, number, result);
}

int sz_fs_write(struct sz_fs *fs, uint64_t number, const void *buffer, size_t length,
		uint64_t offset)
{
	return range_write(fs, number, buffer, length, offset, false);
}

int sz_fs_write_back(struct sz_fs *fs, uint64_t number, const void *buffer, size_t length,
		     uint64_t offset)
{
	return range_write(fs, number, buffer, length, offset, true);
}

int file_truncate(struct sz_fs *fs, struct inode *inode, uint64_t end)
{
	uint64_t size = inode_u64(fs, inode, ZPL_SIZE);
	uint64_t wanted = end > size ? block_size_wanted(fs, inode, size, end) : 0;
	dmu_tx_t *tx;
	int result;

	if (end == size)
		return 0;
	if (end < size) {
		result = dmu_free_long_range(fs->os, inode->object, end, DMU_OBJECT_END);
		if (result != 0)
			return sz_zfs_error(result);
	}
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	if (wanted != 0)
		dmu_tx_hold_write(tx, inode->object, 0, (int)wanted);
	if (end < size)
		dmu_tx_mark_netfree(tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	if (wanted != 0)
		block_grow(fs, inode, wanted, tx);
	result = sz_zfs_error(sa_update(inode->sa, fs->attr[ZPL_SIZE], &end, 8, tx));
	dmu_tx_commit(tx);
	return result;
}

/* Its times, and the log. */
static int free_commit(struct sz_fs *fs, struct inode *inode, uint64_t offset, uint64_t length)
{
	uint64_t flags = inode_u64(fs, inode, ZPL_FLAGS) | ZFS_ARCHIVE | ZFS_AV_MODIFIED;
	uint64_t now[2];
	sa_bulk_attr_t bulk[3];
	int count = 0;
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	dmu_tx_mark_netfree(tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	now_encode(now);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_FLAGS], NULL, &flags, 8);
	result = sz_zfs_error(sa_bulk_update(inode->sa, bulk, count, tx));
	log_truncate(fs, tx, inode, offset, length);
	dmu_tx_commit(tx);
	return result;
}

int content_free(struct sz_fs *fs, struct inode *inode, uint64_t offset, uint64_t length)
{
	uint64_t size = inode_u64(fs, inode, ZPL_SIZE);
	uint64_t end = offset + length;
	int result = 0;

	if (!S_ISREG(inode->mode))
		return -EINVAL;
	if (end < offset || end > INT64_MAX)
		return -EFBIG;
	if (length > 0 && offset < size)
		result = sz_zfs_error(dmu_free_long_range(fs->os, inode->object, offset,
							  MIN(length, size - offset)));
	if (result == 0 && (length == 0 || end > size))
		result = file_truncate(fs, inode, end);
	return result != 0 ? result : free_commit(fs, inode, offset, length);
}

/* Frees a range, up to the file's end at most if its size is kept. */
static int range_free(struct sz_fs *fs, uint64_t number, uint64_t offset, uint64_t length,
		      bool keep_size)
{
	struct inode *inode;
	uint64_t size;
	int result = fs->read_only ? -EROFS : inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	content_lock(fs, inode);
	size = inode_u64(fs, inode, ZPL_SIZE);
	if (!S_ISREG(inode->mode))
		result = -EINVAL;
	else
		result = flags_allow(fs, inode, FLAGS_FIXED);
	if (keep_size)
		length = offset < size ? MIN(length, size - offset) : 0;
	if (result == 0 && length > 0)
		result = content_free(fs, inode, offset, length);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return log_finish(fs, number, result);
}

int sz_fs_punch(struct sz_fs *fs, uint64_t number, uint64_t offset, uint64_t length)
{
	return range_free(fs, number, offset, length, true);
}

int sz_fs_zero(struct sz_fs *fs, uint64_t number, uint64_t offset, uint64_t length, bool keep_size)
{
	return range_free(fs, number, offset, length, keep_size);
}

int sz_fs_allocate(struct sz_fs *fs, uint64_t number, uint64_t offset, uint64_t length,
		   bool keep_size)
{
	uint64_t end = offset + length;
	struct statvfs space;
	struct inode *inode;
	int result = fs->read_only ? -EROFS : sz_fs_statfs(fs, &space);

	if (result == 0 && (end < offset || end > INT64_MAX))
		result = -EFBIG;
	if (result == 0 && length / SPA_MINBLOCKSIZE > space.f_bavail / 110 * 100)
		result = -ENOSPC; /* what is written takes some space more */
	if (result == 0)
		result = inode_get(fs, number, &inode);
	if (result != 0)
		return result;
	content_lock(fs, inode);
	if (!S_ISREG(inode->mode))
		result = -EINVAL;
	else
		result = flags_allow(fs, inode, ZFS_IMMUTABLE);
	if (result == 0 && !keep_size && end > inode_u64(fs, inode, ZPL_SIZE))
		result = content_free(fs, inode, end, 0);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return log_finish(fs, number, result);
}

int sz_fs_seek(struct sz_fs *fs, uint64_t number, int whence, uint64_t offset, uint64_t *offset_out)
{
	struct inode *inode;
	uint64_t size;
	uint64_t at = offset;
	int found;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&inode->lock);
	size = inode_u64(fs, inode, ZPL_SIZE);
	if (!S_ISREG(inode->mode) || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		result = -EINVAL;
	} else if (offset >= size) {
		result = -ENXIO;
	} else {
		found = dmu_offset_next(fs->os, inode->object, whence == SEEK_HOLE, &at);
		if (found == EBUSY) /* dirty: all of it counts as data, the end as a hole */
			at = whence == SEEK_HOLE ? size : offset;
		else if (found == ESRCH)
			at = size;
		else if (found != 0)
			result = sz_zfs_error(found);
		at = MIN(MAX(at, offset), size);
		if (result == 0 && whence == SEEK_DATA && at == size)
			result = -ENXIO;
	}
	*offset_out = at;
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return result;
}

int sz_fs_fsync(struct sz_fs *fs, uint64_t number)
{
	if (!fs->read_only)
		log_commit(fs, number);
	return 0;
}
