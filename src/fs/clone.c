/*
 * clone: copying a range of a file, by block cloning where that can be done: both files then refer to
 * the same blocks (BRT). What is not a whole block, or is not on disk yet, is copied through memory.
 * (The conditions are those of the kernel's zfs_clone_range.)
 */
#include "fs/fs_internal.h"

#include <errno.h>

#define COPY_BYTES ((uint64_t)1 << 20) /* through memory, at once */
#define CALL_BYTES ((uint64_t)1 << 30) /* in a call: both files are locked meanwhile */

struct copy {
	struct sz_fs *fs;
	struct inode *from;
	struct inode *to;
	uint64_t from_offset;
	uint64_t to_offset;
	uint64_t length; /* what is left */
	blkptr_t *blocks;
	size_t blocks_max;
	char *buffer; /* NULL: not needed yet */
};

static uint64_t size_of(const struct copy *copy, struct inode *inode)
{
	return inode_u64(copy->fs, inode, ZPL_SIZE);
}

/* Can the target get, or has it, the blocks' size? */
static bool block_sizes_fit(const struct copy *copy, uint64_t block, uint64_t length)
{
	uint64_t target = file_block_size(copy->to);
	uint64_t size = size_of(copy, copy->to);
	uint64_t end = copy->to_offset + length;

	if (block < target || (block != target && size > target))
		return false;
	if (copy->to_offset != 0 && !ISP2(block))
		return false;
	/* A single small block would fix the target's block size for ever. */
	return length > block || block >= copy->fs->os->os_recordsize || size > block ||
	       end <= block;
}

/* How much of what is left, from where it is now, can be cloned in one transaction; 0: nothing. */
static uint64_t cloneable(const struct copy *copy, uint64_t block)
{
	uint64_t length = MIN(copy->length, block * copy->blocks_max);
	bool is_end = copy->from_offset + length == size_of(copy, copy->from) &&
		      copy->to_offset + length >= size_of(copy, copy->to);

	if (copy->blocks == NULL || copy->from_offset % block != 0 || copy->to_offset % block != 0)
		return 0;
	if (!is_end)
		length -= length % block;
	return length > 0 && block_sizes_fit(copy, block, length) ? length : 0;
}

static int clone_write(struct sz_fs *fs, struct inode *inode, uint64_t offset, uint64_t length,
		       uint64_t block, const blkptr_t *blocks, size_t count)
{
	uint64_t size = MAX(inode_u64(fs, inode, ZPL_SIZE), offset + length);
	uint64_t flags = inode_u64(fs, inode, ZPL_FLAGS) | ZFS_ARCHIVE | ZFS_AV_MODIFIED;
	bool grows = file_block_size(inode) < block;
	uint64_t now[2];
	sa_bulk_attr_t bulk[4];
	int bulk_count = 0;
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	if (grows)
		dmu_tx_hold_write(tx, inode->object, 0, (int)block);
	dmu_tx_hold_clone_by_dnode(tx, inode->dnode, offset, (int)MIN(length, INT_MAX));
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	if (grows)
		result = dmu_object_set_blocksize(fs->os, inode->object, block, 0, tx);
	if (result == 0)
		result = dmu_brt_clone(fs->os, inode->object, offset, length, tx, blocks, count);
	if (result == 0) {
		now_encode(now);
		SA_ADD_BULK_ATTR(bulk, bulk_count, fs->attr[ZPL_SIZE], NULL, &size, 8);
		SA_ADD_BULK_ATTR(bulk, bulk_count, fs->attr[ZPL_MTIME], NULL, now, 16);
		SA_ADD_BULK_ATTR(bulk, bulk_count, fs->attr[ZPL_CTIME], NULL, now, 16);
		SA_ADD_BULK_ATTR(bulk, bulk_count, fs->attr[ZPL_FLAGS], NULL, &flags, 8);
		result = sa_bulk_update(inode->sa, bulk, bulk_count, tx);
		log_clone(fs, tx, inode, offset, length, block, blocks, count);
	}
	dmu_tx_commit(tx);
	return result == ENOTSUP || result == EXDEV ? -EXDEV : sz_zfs_error(result);
}

int clone_replay(struct sz_fs *fs, struct inode *inode, const lr_clone_range_t *record)
{
	if (!S_ISREG(inode->mode) || record->lr_blksz == 0 ||
	    record->lr_offset % record->lr_blksz != 0)
		return -EINVAL;
	return clone_write(fs, inode, record->lr_offset, record->lr_length, record->lr_blksz,
			   record->lr_bps, record->lr_nbps);
}

/* *done_out 0: it has to be copied through memory. */
static int piece_clone(struct copy *copy, uint64_t *done_out)
{
	uint64_t block = file_block_size(copy->from);
	uint64_t length = cloneable(copy, block);
	size_t count = copy->blocks_max;
	int result;

	*done_out = 0;
	if (length == 0)
		return 0;
	result = dmu_read_l0_bps(copy->fs->os, copy->from->object, copy->from_offset, length,
				 copy->blocks, &count);
	/* EAGAIN: not on disk yet; the log could not refer to it. EINVAL: a block of another kind. */
	if (result == EAGAIN || result == EINVAL || result == ENXIO)
		return 0;
	if (result != 0)
		return sz_zfs_error(result);
	result = clone_write(copy->fs, copy->to, copy->to_offset, length, block, copy->blocks,
			     count);
	if (result == -EXDEV)
		return 0;
	*done_out = result == 0 ? length : 0;
	return result;
}

/* Up to the next block, if it may be that it can be cloned. */
static int piece_copy(struct copy *copy, uint64_t *done_out)
{
	uint64_t block = file_block_size(copy->from);
	uint64_t length = MIN(copy->length, COPY_BYTES);
	int result;

	if (copy->from_offset % block == copy->to_offset % block)
		length = MIN(length, block - copy->from_offset % block);
	/* content_write's transactions are within a record. */
	block = MAX(file_block_size(copy->to), copy->fs->os->os_recordsize);
	length = MIN(length, block - copy->to_offset % block);
	*done_out = length;
	if (copy->buffer == NULL)
		copy->buffer = malloc(COPY_BYTES);
	if (copy->buffer == NULL)
		return -ENOMEM;
	result = sz_zfs_error(dmu_read_by_dnode(copy->from->dnode, copy->from_offset, length,
						copy->buffer, DMU_READ_PREFETCH));
	return result != 0 ? result
			   : content_write(copy->fs, copy->to, copy->buffer, length,
					   copy->to_offset, copy->to_offset + length);
}

static int copy_check(struct copy *copy)
{
	struct sz_fs *fs = copy->fs;
	uint64_t size = size_of(copy, copy->from);
	int result;

	if (!S_ISREG(copy->from->mode) || !S_ISREG(copy->to->mode))
		return S_ISDIR(copy->from->mode) || S_ISDIR(copy->to->mode) ? -EISDIR : -EINVAL;
	result = flags_allow(fs, copy->to, ZFS_IMMUTABLE);
	if (result == 0 && copy->to_offset < size_of(copy, copy->to))
		result = flags_allow(fs, copy->to, ZFS_APPENDONLY);
	if (result != 0)
		return result;
	copy->length = copy->from_offset >= size ? 0 : MIN(copy->length, size - copy->from_offset);
	if (copy->to_offset > INT64_MAX || copy->length > INT64_MAX - copy->to_offset)
		return -EFBIG;
	if (copy->from == copy->to && copy->from_offset < copy->to_offset + copy->length &&
	    copy->to_offset < copy->from_offset + copy->length)
		return -EINVAL;
	return 0;
}

/* Under both locks. */
static int copy_run(struct copy *copy, uint64_t *copied_out)
{
	struct sz_fs *fs = copy->fs;
	int result = copy_check(copy);

	if (result == 0 &&
	    spa_feature_is_enabled(dmu_objset_spa(fs->os), SPA_FEATURE_BLOCK_CLONING))
		copy->blocks = calloc(copy->blocks_max, sizeof(*copy->blocks));
	while (result == 0 && copy->length > 0) {
		uint64_t done = 0;

		result = quota_allow_write(fs, copy->to);
		if (result == 0)
			result = piece_clone(copy, &done);
		if (result == 0 && done == 0)
			result = piece_copy(copy, &done);
		if (result != 0)
			break;
		copy->from_offset += done;
		copy->to_offset += done;
		copy->length -= done;
		*copied_out += done;
	}
	free(copy->blocks);
	free(copy->buffer);
	return result != 0 && *copied_out == 0 ? result : 0;
}

int sz_fs_copy_range(struct sz_fs *fs, uint64_t from, uint64_t from_offset, uint64_t to,
		     uint64_t to_offset, uint64_t length, uint64_t *copied_out)
{
	struct copy copy = { .fs = fs,
			     .from_offset = from_offset,
			     .to_offset = to_offset,
			     .length = MIN(length, CALL_BYTES) };
	struct locked locked = { .count = 0 };
	int result = fs->read_only ? -EROFS : inode_get(fs, from, &copy.from);

	*copied_out = 0;
	if (result != 0)
		return result;
	result = inode_get(fs, to, &copy.to);
	if (result == 0) {
		struct inode *const both[2] = { copy.from, copy.to };

		copy.blocks_max =
			zil_max_log_data(fs->log, sizeof(lr_clone_range_t)) / sizeof(*copy.blocks);
		lock_all(&locked, both, 2);
		content_wait(fs, copy.to);
		result = copy_run(&copy, copied_out);
		unlock_all(&locked);
	}
	inode_put(fs, copy.to);
	inode_put(fs, copy.from);
	return log_finish(fs, to, result);
}
