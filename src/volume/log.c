/*
 * log: a volume's intent log (ZIL), in the kernel's records: what a flush writes of what is not in a synced
 * transaction group yet, and what is made of that after a crash.
 *
 * Invariants
 * 1. A record is assigned before its transaction is committed, under the lock of its range: what builds on it stands
 *    behind it. All records are in one list, so a commit writes all.
 * 2. A block that is being written for the log does not change: its range is locked for reading meanwhile.
 * 3. What frees a range is logged after it was freed: once the record's group is synced, so is that.
 */
#include "volume/volume_internal.h"

#include <errno.h>

/* A write of blocks larger than this goes to its place at once, and the log refers to it; as the kernel has it. */
#define IMMEDIATE_BYTES 32768U

/* A piece on its way into the log. Called by any thread of ZFS. */
static void writeout_end(zgd_t *zgd, int error)
{
	(void)error; /* the log block that refers to it fails */
	if (zgd->zgd_db != NULL)
		dmu_buf_rele(zgd->zgd_db, zgd);
	zfs_rangelock_exit(zgd->zgd_lr);
	free(zgd);
}

/* Writes a block to its place. 0: writeout_end is called when it is there. */
static int block_write(struct sz_volume *volume, zgd_t *zgd, lr_write_t *record, zio_t *zio)
{
	uint64_t block = volume->block_bytes;
	uint64_t start = record->lr_offset - record->lr_offset % block;
	int error;

	zgd->zgd_lr = zfs_rangelock_enter(&volume->ranges, start, block, RL_READER);
	error = dmu_buf_hold_noread_by_dnode(volume->dnode, start, zgd, &zgd->zgd_db);
	if (error != 0)
		return error;
	zgd->zgd_bp = &record->lr_blkptr;
	return dmu_sync(zio, record->lr_common.lrc_txg, writeout_end, zgd);
}

/*
 * Gets what a record of a write writes: into the buffer, or, without one, by writing the block. EALREADY: an earlier
 * record has the block · EIO: ZFS waits for the transaction group instead.
 */
static int log_get_data(void *context, uint64_t generation, lr_write_t *record, char *buffer,
			struct lwb *lwb, zio_t *zio)
{
	struct sz_volume *volume = context;
	zgd_t *zgd = calloc(1, sizeof(*zgd));
	int error;

	(void)generation;
	if (zgd == NULL)
		return EIO;
	zgd->zgd_lwb = lwb;
	if (buffer == NULL) {
		error = block_write(volume, zgd, record, zio);
		if (error == 0)
			return 0;
	} else {
		zgd->zgd_lr = zfs_rangelock_enter(&volume->ranges, record->lr_offset,
						  record->lr_length, RL_READER);
		error = dmu_read_by_dnode(volume->dnode, record->lr_offset, record->lr_length,
					  buffer, DMU_READ_NO_PREFETCH);
	}
	writeout_end(zgd, error);
	return error == 0 || error == EALREADY ? error : EIO;
}

static itx_wr_state_t write_state(const struct sz_volume *volume, uint64_t length, bool is_durable)
{
	if (volume->log->zl_logbias == ZFS_LOGBIAS_THROUGHPUT)
		return WR_INDIRECT;
	if (!spa_has_slogs(volume->log->zl_spa) && length >= volume->block_bytes &&
	    volume->block_bytes > IMMEDIATE_BYTES)
		return WR_INDIRECT;
	/* Is it committed at once, its data is copied now, if it fits into one block of the log. */
	return is_durable && length <= zil_max_copied_data(volume->log) ? WR_COPIED : WR_NEED_COPY;
}

void volume_log_write(struct sz_volume *volume, dmu_tx_t *tx, uint64_t offset, uint64_t length,
		      bool is_durable)
{
	itx_wr_state_t state = write_state(volume, length, is_durable);

	if (zil_replaying(volume->log, tx))
		return;
	if (state != WR_INDIRECT)
		dsl_pool_wrlog_count(volume->log->zl_dmu_pool, (int64_t)length, tx->tx_txg);
	while (length > 0) {
		uint64_t piece = length;
		itx_t *itx;

		if (state == WR_INDIRECT)
			piece = MIN(length, volume->block_bytes - offset % volume->block_bytes);
		itx = sz_log_write(volume->dnode, offset, piece, state);
		itx->itx_private = volume;
		zil_itx_assign(volume->log, itx, tx);
		offset += piece;
		length -= piece;
	}
}

void volume_log_zero(struct sz_volume *volume, dmu_tx_t *tx, uint64_t offset, uint64_t length)
{
	lr_truncate_t *record;
	itx_t *itx;

	if (zil_replaying(volume->log, tx))
		return;
	itx = zil_itx_create(TX_TRUNCATE, sizeof(*record));
	record = (lr_truncate_t *)&itx->itx_lr;
	record->lr_foid = DATA_OBJECT;
	record->lr_offset = offset;
	record->lr_length = length;
	zil_itx_assign(volume->log, itx, tx);
}

void volume_log_commit(struct sz_volume *volume)
{
	if (volume->os->os_sync != ZFS_SYNC_DISABLED)
		zil_commit(volume->log, DATA_OBJECT);
}

/*
 * Replaying. A record may reach behind the volume's end: a block that is, in a volume that a kernel has made smaller. It does no
 * harm there.
 */
static bool range_is_possible(uint64_t offset, uint64_t length)
{
	return length <= INT64_MAX && offset <= INT64_MAX - length;
}

static bool write_is_known(const lr_write_t *record)
{
	uint64_t size = record->lr_common.lrc_reclen;

	return size >= sizeof(*record) && record->lr_foid == DATA_OBJECT &&
	       range_is_possible(record->lr_offset, record->lr_length) &&
	       (size == sizeof(*record) || size - sizeof(*record) >= record->lr_length);
}

static bool clone_is_known(const lr_clone_range_t *record)
{
	uint64_t size = record->lr_common.lrc_reclen;

	return size >= sizeof(*record) && record->lr_foid == DATA_OBJECT &&
	       range_is_possible(record->lr_offset, record->lr_length) && record->lr_blksz != 0 &&
	       record->lr_offset % record->lr_blksz == 0 &&
	       (size - sizeof(*record)) / sizeof(record->lr_bps[0]) >= record->lr_nbps;
}

static bool is_known(const lr_t *record)
{
	const lr_truncate_t *zeros = (const lr_truncate_t *)record;

	switch (record->lrc_txtype) {
	case TX_WRITE:
		return write_is_known((const lr_write_t *)record);
	case TX_TRUNCATE:
		return record->lrc_reclen >= sizeof(*zeros) && zeros->lr_foid == DATA_OBJECT &&
		       range_is_possible(zeros->lr_offset, zeros->lr_length);
	case TX_CLONE_RANGE:
		return clone_is_known((const lr_clone_range_t *)record);
	default:
		return false;
	}
}

/* A block that stands elsewhere is written whole. In one transaction, which says that the record is done. */
static int replay_write(struct sz_volume *volume, const lr_write_t *record, const void *data)
{
	uint64_t offset = record->lr_offset;
	uint64_t length = record->lr_length;
	uint64_t block = BP_GET_LSIZE(&record->lr_blkptr);

	if (record->lr_common.lrc_reclen == sizeof(*record) && length < block) {
		offset -= offset % block;
		length = block;
	}
	return volume_data_write(volume, data, length, offset, false);
}

static int replay_clone(struct sz_volume *volume, const lr_clone_range_t *record)
{
	uint64_t block = volume->block_bytes;
	dmu_tx_t *tx;
	int result;

	if (record->lr_blksz != block || record->lr_length > INT_MAX ||
	    record->lr_nbps != (record->lr_length + block - 1) / block)
		return -EINVAL;
	tx = dmu_tx_create(volume->os);
	dmu_tx_hold_clone_by_dnode(tx, volume->dnode, record->lr_offset, (int)record->lr_length);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	result =
		sz_zfs_error(dmu_brt_clone(volume->os, DATA_OBJECT, record->lr_offset,
					   record->lr_length, tx, record->lr_bps, record->lr_nbps));
	if (result == 0)
		(void)zil_replaying(volume->log, tx);
	dmu_tx_commit(tx);
	return result;
}

static int apply(void *context, const lr_t *record, const void *data)
{
	const lr_truncate_t *zeros = (const lr_truncate_t *)record;

	switch (record->lrc_txtype) {
	case TX_WRITE:
		return replay_write(context, (const lr_write_t *)record, data);
	case TX_TRUNCATE:
		return volume_data_zero(context, zeros->lr_offset, zeros->lr_length);
	default:
		return replay_clone(context, (const lr_clone_range_t *)record);
	}
}

int volume_log_open(struct sz_volume *volume, bool read_only, struct sz_error *error)
{
	const struct sz_replay replay = {
		.os = volume->os,
		.name = volume->name,
		.is_known = is_known,
		.apply = apply,
		.context = volume,
	};
	int result;

	if (read_only) {
		if (sz_replay_is_due(volume->os))
			return sz_fail(error, -EBUSY,
				       "%s has an intent log: what was written last is not in it "
				       "yet; open it for writing once",
				       volume->name);
		return 0;
	}
	volume->log = zil_open(volume->os, log_get_data, NULL);
	result = sz_replay_run(&replay, error);
	if (result != 0) {
		/* Closing it would commit to it, which would overwrite what is in it. */
		volume->log->zl_get_data = NULL;
		volume->log = NULL;
	}
	return result;
}

void volume_log_close(struct sz_volume *volume)
{
	if (volume->log != NULL)
		zil_close(volume->log);
	volume->log = NULL;
}
