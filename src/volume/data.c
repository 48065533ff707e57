/*
 * data: what is in a volume: read, write, trim, zero, flush, and where nothing is stored.
 *
 * A range is locked while it is read or written, as in the kernel: reading sees a write that goes on at the same time
 * wholly, or not at all. A long write is cut into transactions.
 */
#include "volume/volume_internal.h"

#include <errno.h>

/* A transaction's data: enough that its own cost does not count, and a small part of what may be dirty. */
#define PIECE_BYTES (1U << 20)

static bool is_within(const struct sz_volume *volume, uint64_t offset, uint64_t length)
{
	return offset <= volume->size_bytes && length <= volume->size_bytes - offset;
}

/* Whether something is to be done; *result_out if not. */
static bool change_begins(const struct sz_volume *volume, uint64_t offset, uint64_t length,
			  int *result_out)
{
	*result_out = 0;
	if (volume->log == NULL)
		*result_out = -EROFS;
	else if (!is_within(volume, offset, length))
		*result_out = -EINVAL;
	return *result_out == 0 && length > 0;
}

static bool is_committed(const struct sz_volume *volume, bool is_durable)
{
	return is_durable || volume->os->os_sync == ZFS_SYNC_ALWAYS;
}

int sz_volume_read(struct sz_volume *volume, void *buffer, size_t length, uint64_t offset)
{
	zfs_locked_range_t *range;
	int result;

	if (!is_within(volume, offset, length))
		return -EINVAL;
	if (length == 0)
		return 0;
	range = zfs_rangelock_enter(&volume->ranges, offset, length, RL_READER);
	result = sz_zfs_error(
		dmu_read_by_dnode(volume->dnode, offset, length, buffer, DMU_READ_PREFETCH));
	zfs_rangelock_exit(range);
	return result;
}

/* Its room counts as used already, so writing there uses no more; unless it takes more than that by now. */
static bool is_reserved(const struct sz_volume *volume)
{
	dsl_dataset_t *ds = dmu_objset_ds(volume->os);

	return ds->ds_reserved >= volume->size_bytes &&
	       dsl_dataset_phys(ds)->ds_unique_bytes < ds->ds_reserved;
}

int volume_data_write(struct sz_volume *volume, const void *buffer, uint64_t length,
		      uint64_t offset, bool is_durable)
{
	dmu_tx_t *tx = dmu_tx_create(volume->os);
	int result;

	dmu_tx_hold_write_by_dnode(tx, volume->dnode, offset, (int)length);
	/*
	 * ZFS reckons a transaction at its worst, many times what it takes, and asks for that beyond the reservation,
	 * which a pool that others have filled to the brim has not.
	 */
	if (is_reserved(volume))
		dmu_tx_mark_netfree(tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	dmu_write_by_dnode(volume->dnode, offset, length, buffer, tx);
	volume_log_write(volume, tx, offset, length, is_durable);
	dmu_tx_commit(tx);
	return 0;
}

static int pieces_write(struct sz_volume *volume, const void *buffer, uint64_t length,
			uint64_t offset, bool is_durable)
{
	uint64_t most = MAX(PIECE_BYTES, volume->block_bytes);
	const char *from = buffer;
	int result = 0;

	while (result == 0 && length > 0) {
		uint64_t piece = MIN(length, most - offset % most);

		result = volume_data_write(volume, from, piece, offset, is_durable);
		from += piece;
		offset += piece;
		length -= piece;
	}
	return result;
}

int sz_volume_write(struct sz_volume *volume, const void *buffer, size_t length, uint64_t offset,
		    bool is_durable)
{
	zfs_locked_range_t *range;
	int result;

	if (!change_begins(volume, offset, length, &result))
		return result;
	is_durable = is_committed(volume, is_durable);
	result = sz_pool_admit(volume->pool, length);
	if (result != 0)
		return result;
	range = zfs_rangelock_enter(&volume->ranges, offset, length, RL_WRITER);
	result = pieces_write(volume, buffer, length, offset, is_durable);
	zfs_rangelock_exit(range);
	if (result == 0 && is_durable)
		volume_log_commit(volume);
	return result;
}

/* Of a block that is not wholly in the range the part is overwritten. */
int volume_data_zero(struct sz_volume *volume, uint64_t offset, uint64_t length)
{
	dmu_tx_t *tx;
	int result = sz_zfs_error(dmu_free_long_range(volume->os, DATA_OBJECT, offset, length));

	if (result != 0)
		return result;
	tx = dmu_tx_create(volume->os);
	dmu_tx_mark_netfree(tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	volume_log_zero(volume, tx, offset, length);
	dmu_tx_commit(tx);
	return 0;
}

int sz_volume_zero(struct sz_volume *volume, uint64_t offset, uint64_t length, bool is_durable)
{
	zfs_locked_range_t *range;
	int result;

	if (!change_begins(volume, offset, length, &result))
		return result;
	/* Blocks that are zeroed in part are written anew. */
	if (offset % volume->block_bytes != 0 || (offset + length) % volume->block_bytes != 0)
		result = sz_pool_admit(volume->pool, 2 * (uint64_t)volume->block_bytes);
	if (result != 0)
		return result;
	range = zfs_rangelock_enter(&volume->ranges, offset, length, RL_WRITER);
	result = volume_data_zero(volume, offset, length);
	zfs_rangelock_exit(range);
	if (result == 0 && is_committed(volume, is_durable))
		volume_log_commit(volume);
	return result;
}

bool sz_volume_stores_zeros(const struct sz_volume *volume)
{
	return !is_reserved(volume) && volume->os->os_compress == ZIO_COMPRESS_OFF;
}

int sz_volume_zero_keep(struct sz_volume *volume, uint64_t offset, uint64_t length, bool is_durable)
{
	CLEANUP_FREE uint8_t *zeros = NULL;
	int result;

	if (!sz_volume_stores_zeros(volume) || !is_within(volume, offset, length))
		return sz_volume_zero(volume, offset, length, is_durable);
	zeros = calloc(1, PIECE_BYTES);
	result = zeros == NULL ? -ENOMEM : 0;
	while (result == 0 && length > 0) {
		uint64_t piece = MIN(length, PIECE_BYTES - offset % PIECE_BYTES);

		/* The last one's commit is of all. */
		result = sz_volume_write(volume, zeros, piece, offset,
					 is_durable && piece == length);
		offset += piece;
		length -= piece;
	}
	return result;
}

int sz_volume_trim(struct sz_volume *volume, uint64_t offset, uint64_t length, bool is_durable)
{
	uint64_t block = volume->block_bytes;
	uint64_t start;
	uint64_t end;
	int result;

	if (!change_begins(volume, offset, length, &result))
		return result;
	start = (offset + block - 1) / block * block;
	end = (offset + length) / block * block;
	if (start < end)
		return sz_volume_zero(volume, start, end - start, is_durable);
	return is_durable ? sz_volume_flush(volume) : 0;
}

int sz_volume_flush(struct sz_volume *volume)
{
	if (volume->log != NULL)
		volume_log_commit(volume);
	return 0;
}

int sz_volume_extent(struct sz_volume *volume, uint64_t offset, uint64_t length,
		     uint64_t *length_out, bool *is_hole_out)
{
	uint64_t data = offset;
	uint64_t end = offset + length;
	uint64_t hole;
	int error;

	if (length == 0 || !is_within(volume, offset, length))
		return -EINVAL;
	*is_hole_out = false;
	*length_out = length;
	error = dmu_offset_next(volume->os, DATA_OBJECT, B_FALSE, &data);
	if (error == EBUSY) /* it is being written all the time: all of it counts as data */
		return 0;
	if (error != 0 && error != ESRCH)
		return sz_zfs_error(error);
	if (error == ESRCH || data > offset) {
		*is_hole_out = true;
		*length_out = error == ESRCH ? length : MIN(length, data - offset);
		return 0;
	}
	hole = offset;
	error = dmu_offset_next(volume->os, DATA_OBJECT, B_TRUE, &hole);
	if (error != 0 && error != EBUSY && error != ESRCH)
		return sz_zfs_error(error);
	if (error == ESRCH) /* behind what is stored */
		hole = (volume->dnode->dn_maxblkid + 1) * volume->block_bytes;
	if (error != EBUSY && hole > offset && hole < end)
		*length_out = hole - offset;
	return 0;
}
