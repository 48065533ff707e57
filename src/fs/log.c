/*
 * log: the intent log (ZIL), in the kernel's records: what an fsync writes of operations whose
 * transaction group is not synced yet.
 *
 * Each operation puts a record into memory, in its transaction. Those about names go into one list;
 * those about one inode's content and attributes into a list of its own, which only a commit of that
 * inode writes. A commit writes them in order; the sync of their transaction group drops them.
 *
 * Invariants
 * 1. A record is assigned before its transaction is committed, under the locks of its inodes: what builds
 *    on it stands behind it.
 * 2. What has no record is a barrier: no later record is written before it is on disk itself.
 * 3. A block that is being written for the log does not change: who changes content waits (content_lock).
 * 4. A writeout holds its inode; it is put by the thread that commits, after that. Putting may free the
 *    inode, which needs a transaction, which must not be waited for while the log is being written.
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* A write from here on goes to its place at once, and the log refers to it (zfs_immediate_write_sz). */
#define IMMEDIATE_BYTES 32768U
#define BARRIER_BYTES   8U /* a record of a write has a length */

/* A piece of content on its way into the log. */
struct writeout {
	zgd_t zgd; /* first: its callback gets it alone */
	struct sz_fs *fs;
	struct inode *inode;
	SLIST_ENTRY(writeout) in_list;
};

void content_wait(struct sz_fs *fs, struct inode *inode)
{
	(void)pthread_mutex_lock(&fs->writeout_lock);
	while (inode->writeouts > 0)
		(void)pthread_cond_wait(&fs->writeout_done, &fs->writeout_lock);
	(void)pthread_mutex_unlock(&fs->writeout_lock);
}

void content_lock(struct sz_fs *fs, struct inode *inode)
{
	(void)pthread_rwlock_wrlock(&inode->lock);
	content_wait(fs, inode);
}

/* Called by any thread of ZFS. */
static void writeout_end(zgd_t *zgd, int error)
{
	struct writeout *writeout = (struct writeout *)zgd;
	struct sz_fs *fs = writeout->fs;

	(void)error; /* the log block that refers to it fails */
	if (zgd->zgd_db != NULL)
		dmu_buf_rele(zgd->zgd_db, zgd);
	(void)pthread_mutex_lock(&fs->writeout_lock);
	writeout->inode->writeouts--;
	SLIST_INSERT_HEAD(&fs->written, writeout, in_list);
	(void)pthread_cond_broadcast(&fs->writeout_done);
	(void)pthread_mutex_unlock(&fs->writeout_lock);
}

static void written_put(struct sz_fs *fs)
{
	struct writeout_list written;

	(void)pthread_mutex_lock(&fs->writeout_lock);
	written = fs->written;
	SLIST_INIT(&fs->written);
	(void)pthread_mutex_unlock(&fs->writeout_lock);
	while (!SLIST_EMPTY(&written)) {
		struct writeout *writeout = SLIST_FIRST(&written);

		SLIST_REMOVE_HEAD(&written, in_list);
		inode_put(fs, writeout->inode);
		free(writeout);
	}
}

/* Writes the block to its place. 0: writeout_end is called when it is there. */
static int block_write(struct writeout *writeout, lr_write_t *record, zio_t *zio)
{
	struct inode *inode = writeout->inode;
	uint64_t size = file_block_size(inode);
	uint64_t start = ISP2(size) ? P2ALIGN_TYPED(record->lr_offset, size, uint64_t) : 0;
	zgd_t *zgd = &writeout->zgd;
	int error = dmu_buf_hold_noread(writeout->fs->os, inode->object, start, zgd, &zgd->zgd_db);

	if (error != 0)
		return error;
	zgd->zgd_bp = &record->lr_blkptr;
	error = dmu_sync(zio, record->lr_common.lrc_txg, writeout_end, zgd);
	if (error == EALREADY) {
		/* An earlier record has the block; of this write the file's size is left. */
		record->lr_common.lrc_txtype = TX_WRITE2;
		BP_ZERO(&record->lr_blkptr);
	}
	return error;
}

/* Under the inode's lock. */
static int content_get(struct writeout *writeout, uint64_t generation, lr_write_t *record,
		       char *buffer, zio_t *zio)
{
	struct sz_fs *fs = writeout->fs;
	struct inode *inode = writeout->inode;

	/* What is gone needs no record: another inode may have the number by now. */
	if (inode->unlinked || inode_u64(fs, inode, ZPL_GEN) != generation ||
	    record->lr_offset >= inode_u64(fs, inode, ZPL_SIZE))
		return ENOENT;
	if (buffer != NULL)
		return dmu_read_by_dnode(inode->dnode, record->lr_offset, record->lr_length, buffer,
					 DMU_READ_NO_PREFETCH);
	return block_write(writeout, record, zio);
}

/*
 * Gets what a record of a write writes: into the buffer, or, without one, by writing the block. ENOENT:
 * the record is left out · EIO: ZFS waits for the transaction group instead.
 */
static int log_get_data(void *context, uint64_t generation, lr_write_t *record, char *buffer,
			struct lwb *lwb, zio_t *zio)
{
	struct sz_fs *fs = context;
	struct writeout *writeout;
	int result;

	if (record->lr_foid == 0) {
		txg_wait_synced(dmu_objset_pool(fs->os), record->lr_common.lrc_txg);
		return ENOENT;
	}
	writeout = calloc(1, sizeof(*writeout));
	if (writeout == NULL)
		return EIO;
	*writeout = (struct writeout){ .zgd.zgd_lwb = lwb, .fs = fs };
	result = inode_get(fs, record->lr_foid, &writeout->inode);
	if (result != 0) {
		free(writeout);
		return result == -ENOENT ? ENOENT : EIO;
	}
	(void)pthread_rwlock_rdlock(&writeout->inode->lock);
	(void)pthread_mutex_lock(&fs->writeout_lock);
	writeout->inode->writeouts++;
	(void)pthread_mutex_unlock(&fs->writeout_lock);
	result = content_get(writeout, generation, record, buffer, zio);
	(void)pthread_rwlock_unlock(&writeout->inode->lock);
	if (result != 0 || buffer != NULL)
		writeout_end(&writeout->zgd, result);
	return result == EALREADY ? 0 : result;
}

int log_open(struct sz_fs *fs, struct sz_error *error)
{
	int result;

	if (!fs->read_only) {
		fs->log = zil_open(fs->os, log_get_data, NULL);
		result = replay_run(fs, error);
		if (result != 0) {
			/* Closing it would commit to it, which would overwrite what is in it. */
			fs->log->zl_get_data = NULL;
			fs->log = NULL;
		}
		return result;
	}
	if (sz_replay_is_due(fs->os))
		return sz_fail(error, -EBUSY,
			       "%s has an intent log: what was written last is not in it yet; "
			       "open it for writing once",
			       fs->name);
	return 0;
}

void log_close(struct sz_fs *fs)
{
	if (fs->log == NULL)
		return;
	zil_close(fs->log);
	written_put(fs);
	fs->log = NULL;
}

void log_commit(struct sz_fs *fs, uint64_t object)
{
	if (fs->os->os_sync == ZFS_SYNC_DISABLED)
		return;
	zil_commit(fs->log, object);
	written_put(fs);
}

int log_finish(struct sz_fs *fs, uint64_t object, int result)
{
	if (result == 0 && fs->os->os_sync == ZFS_SYNC_ALWAYS)
		log_commit(fs, object);
	return result;
}

/*
 * What is replayed is not logged: it is noted in the log's header, in the same transaction. Nor is what
 * the dataset does not want to have logged (sync=disabled).
 */
static bool is_logged(struct sz_fs *fs, dmu_tx_t *tx)
{
	return !zil_replaying(fs->log, tx);
}

/* Copies a string with its NUL, and returns what is behind it. */
static uint8_t *text_put(uint8_t *to, const char *text)
{
	size_t size = strlen(text) + 1;

	memcpy(to, text, size);
	return to + size;
}

/* The number of an object that is to be made again, with the size of its dnode. */
static uint64_t foid_of(struct inode *inode)
{
	uint64_t foid = inode->object;

	LR_FOID_SET_SLOTS(foid, (uint64_t)inode->dnode->dn_num_slots);
	return foid;
}

static void times_of(struct sz_fs *fs, struct inode *inode, uint64_t crtime[2])
{
	(void)sa_lookup(inode->sa, fs->attr[ZPL_CRTIME], crtime, 2 * sizeof(uint64_t));
}

void log_create(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
		struct inode *inode, const char *target)
{
	uint64_t type = target != NULL ? TX_SYMLINK : S_ISDIR(inode->mode) ? TX_MKDIR : TX_CREATE;
	size_t size =
		sizeof(lr_create_t) + strlen(name) + 1 + (target == NULL ? 0 : strlen(target) + 1);
	lr_create_t *record;
	uint8_t *end;
	itx_t *itx;

	if (!is_logged(fs, tx))
		return;
	itx = zil_itx_create(type, size);
	record = (lr_create_t *)&itx->itx_lr;
	record->lr_create.lr_doid = folder->object;
	record->lr_create.lr_foid = foid_of(inode);
	record->lr_create.lr_mode = inode_u64(fs, inode, ZPL_MODE);
	record->lr_create.lr_uid = inode_u64(fs, inode, ZPL_UID);
	record->lr_create.lr_gid = inode_u64(fs, inode, ZPL_GID);
	record->lr_create.lr_gen = inode_u64(fs, inode, ZPL_GEN);
	record->lr_create.lr_rdev = inode_u64(fs, inode, ZPL_RDEV);
	times_of(fs, inode, record->lr_create.lr_crtime);
	end = text_put(record->lr_data, name);
	if (target != NULL)
		(void)text_put(end, target);
	zil_itx_assign(fs->log, itx, tx);
}

void log_remove(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
		struct inode *inode)
{
	bool is_folder = S_ISDIR(inode->mode);
	lr_remove_t *record;
	itx_t *itx;

	if (!is_logged(fs, tx))
		return;
	itx = zil_itx_create(is_folder ? TX_RMDIR : TX_REMOVE, sizeof(*record) + strlen(name) + 1);
	record = (lr_remove_t *)&itx->itx_lr;
	record->lr_doid = folder->object;
	(void)text_put(record->lr_data, name);
	itx->itx_oid = is_folder ? 0 : inode->object;
	/* Its number may soon be another's. */
	if (inode->unlinked && !is_folder)
		zil_remove_async(fs->log, inode->object);
	zil_itx_assign(fs->log, itx, tx);
}

void log_link(struct sz_fs *fs, dmu_tx_t *tx, struct inode *folder, const char *name,
	      struct inode *inode)
{
	lr_link_t *record;
	itx_t *itx;

	if (!is_logged(fs, tx))
		return;
	itx = zil_itx_create(TX_LINK, sizeof(*record) + strlen(name) + 1);
	record = (lr_link_t *)&itx->itx_lr;
	record->lr_doid = folder->object;
	record->lr_link_obj = inode->object;
	(void)text_put(record->lr_data, name);
	zil_itx_assign(fs->log, itx, tx);
}

static void whiteout_put(struct sz_fs *fs, struct inode *whiteout, lr_rename_whiteout_t *record)
{
	record->lr_wfoid = foid_of(whiteout);
	record->lr_wmode = inode_u64(fs, whiteout, ZPL_MODE);
	record->lr_wuid = inode_u64(fs, whiteout, ZPL_UID);
	record->lr_wgid = inode_u64(fs, whiteout, ZPL_GID);
	record->lr_wgen = inode_u64(fs, whiteout, ZPL_GEN);
	record->lr_wrdev = inode_u64(fs, whiteout, ZPL_RDEV);
	times_of(fs, whiteout, record->lr_wcrtime);
}

void log_rename(struct sz_fs *fs, dmu_tx_t *tx, struct inode *const folders[2],
		const char *const names[2], struct inode *inode, unsigned int flags,
		struct inode *whiteout)
{
	size_t fixed = whiteout == NULL ? sizeof(lr_rename_t) : sizeof(lr_rename_whiteout_t);
	uint64_t type = TX_RENAME;
	lr_rename_t *record;
	uint8_t *text;
	itx_t *itx;

	if (!is_logged(fs, tx))
		return;
	if (whiteout != NULL)
		type = TX_RENAME_WHITEOUT;
	else if ((flags & RENAME_EXCHANGE) != 0)
		type = TX_RENAME_EXCHANGE;
	itx = zil_itx_create(type, fixed + strlen(names[0]) + strlen(names[1]) + 2);
	record = (lr_rename_t *)&itx->itx_lr;
	record->lr_rename.lr_sdoid = folders[0]->object;
	record->lr_rename.lr_tdoid = folders[1]->object;
	if (whiteout != NULL)
		whiteout_put(fs, whiteout, (lr_rename_whiteout_t *)record);
	text = (uint8_t *)record + fixed;
	(void)text_put(text_put(text, names[0]), names[1]);
	itx->itx_oid = inode->object;
	zil_itx_assign(fs->log, itx, tx);
}

static itx_wr_state_t write_state(struct sz_fs *fs, uint64_t length)
{
	if (fs->log->zl_logbias == ZFS_LOGBIAS_THROUGHPUT)
		return WR_INDIRECT;
	if (!spa_has_slogs(fs->log->zl_spa) && length >= IMMEDIATE_BYTES)
		return WR_INDIRECT;
	/* Is it committed at once, its data is copied now, if it fits into one block of the log. */
	return fs->os->os_sync == ZFS_SYNC_ALWAYS && length <= zil_max_copied_data(fs->log)
		       ? WR_COPIED
		       : WR_NEED_COPY;
}

/* One record. */
static void piece_log(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
		      uint64_t length, itx_wr_state_t state)
{
	itx_t *itx = sz_log_write(inode->dnode, offset, length, state);

	itx->itx_private = fs;
	itx->itx_gen = inode_u64(fs, inode, ZPL_GEN);
	itx->itx_sync = B_FALSE;
	zil_itx_assign(fs->log, itx, tx);
}

void log_write(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
	       uint64_t length)
{
	itx_wr_state_t state = write_state(fs, length);
	uint64_t block = file_block_size(inode);

	if (!is_logged(fs, tx) || inode->unlinked)
		return;
	if (state != WR_INDIRECT)
		dsl_pool_wrlog_count(fs->log->zl_dmu_pool, (int64_t)length, tx->tx_txg);
	while (length > 0) {
		uint64_t piece =
			state == WR_INDIRECT ? MIN(length, block - offset % block) : length;

		piece_log(fs, tx, inode, offset, piece, state);
		offset += piece;
		length -= piece;
	}
}

void log_truncate(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
		  uint64_t length)
{
	lr_truncate_t *record;
	itx_t *itx;

	if (!is_logged(fs, tx) || inode->unlinked)
		return;
	itx = zil_itx_create(TX_TRUNCATE, sizeof(*record));
	record = (lr_truncate_t *)&itx->itx_lr;
	record->lr_foid = inode->object;
	record->lr_offset = offset;
	record->lr_length = length;
	itx->itx_sync = B_FALSE;
	zil_itx_assign(fs->log, itx, tx);
}

void log_clone(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, uint64_t offset,
	       uint64_t length, uint64_t block, const blkptr_t *blocks, size_t count)
{
	size_t most = zil_max_log_data(fs->log, sizeof(lr_clone_range_t)) / sizeof(*blocks);

	if (!is_logged(fs, tx) || inode->unlinked)
		return;
	while (count > 0) {
		size_t piece = MIN(count, most);
		uint64_t bytes = MIN(length, piece * block);
		itx_t *itx = zil_itx_create(TX_CLONE_RANGE,
					    sizeof(lr_clone_range_t) + piece * sizeof(*blocks));
		lr_clone_range_t *record = (lr_clone_range_t *)&itx->itx_lr;

		record->lr_foid = inode->object;
		record->lr_offset = offset;
		record->lr_length = bytes;
		record->lr_blksz = block;
		record->lr_nbps = piece;
		memcpy(record->lr_bps, blocks, piece * sizeof(*blocks));
		itx->itx_sync = B_FALSE;
		zil_itx_assign(fs->log, itx, tx);
		blocks += piece;
		count -= piece;
		offset += bytes;
		length -= bytes;
	}
}

static uint64_t mask_of(unsigned int fields)
{
	static const struct {
		unsigned int field;
		uint64_t mask;
	} masks[] = {
		{ SZ_SET_MODE, LOG_MASK_MODE },   { SZ_SET_UID, LOG_MASK_UID },
		{ SZ_SET_GID, LOG_MASK_GID },     { SZ_SET_SIZE, LOG_MASK_SIZE },
		{ SZ_SET_ATIME, LOG_MASK_ATIME }, { SZ_SET_MTIME, LOG_MASK_MTIME },
	};
	uint64_t mask = LOG_MASK_CTIME;

	for (size_t i = 0; i < ARRAY_LENGTH(masks); i++)
		if ((fields & masks[i].field) != 0)
			mask |= masks[i].mask;
	return mask;
}

static void flags_put(lr_attr_t *record, const struct flags_change *flags)
{
	uint32_t *bitmap = &record->lr_attr_bitmap;
	lr_attr_end_t *end = (void *)(bitmap + LOG_FLAG_WORDS);

	record->lr_attr_masksize = LOG_FLAG_WORDS;
	for (size_t i = 0; i < log_flag_count; i++) {
		if ((flags->mask & log_flags[i].flag) == 0)
			continue;
		bitmap[0] |= log_flags[i].log;
		if ((flags->value & log_flags[i].flag) != 0)
			end->lr_attr_attrs |= log_flags[i].log;
	}
	if (flags->sets_project) {
		bitmap[0] |= LOG_FLAG_PROJECT;
		memcpy(end->lr_attr_scanstamp, &flags->project, sizeof(flags->project));
	}
}

void log_setattr(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, unsigned int fields,
		 const struct stat *values, const struct flags_change *flags)
{
	size_t size = sizeof(lr_setattr_t) + (flags == NULL ? 0 : ZIL_XVAT_SIZE(LOG_FLAG_WORDS));
	lr_setattr_t *record;
	itx_t *itx;

	if (!is_logged(fs, tx) || inode->unlinked)
		return;
	itx = zil_itx_create(TX_SETATTR, size);
	record = (lr_setattr_t *)&itx->itx_lr;
	memset((char *)record + sizeof(record->lr_common), 0, size - sizeof(record->lr_common));
	record->lr_foid = inode->object;
	record->lr_mask = mask_of(fields);
	record->lr_mode = values->st_mode;
	record->lr_uid = values->st_uid;
	record->lr_gid = values->st_gid;
	record->lr_size = (uint64_t)values->st_size;
	record->lr_atime[0] = (uint64_t)values->st_atim.tv_sec;
	record->lr_atime[1] = (uint64_t)values->st_atim.tv_nsec;
	record->lr_mtime[0] = (uint64_t)values->st_mtim.tv_sec;
	record->lr_mtime[1] = (uint64_t)values->st_mtim.tv_nsec;
	if (flags != NULL) {
		record->lr_mask |= LOG_MASK_XVATTR;
		flags_put((void *)record->lr_data, flags);
	}
	itx->itx_sync = B_FALSE;
	zil_itx_assign(fs->log, itx, tx);
}

bool log_can_setxattr(const struct sz_fs *fs, const void *value, size_t size)
{
	/* A length of 0 says that it goes. */
	return (value == NULL || size > 0) &&
	       spa_feature_is_enabled(dmu_objset_spa(fs->os), SPA_FEATURE_ZILSAXATTR);
}

void log_setxattr(struct sz_fs *fs, dmu_tx_t *tx, struct inode *inode, const char *name,
		  const void *value, size_t size)
{
	lr_setsaxattr_t *record;
	uint8_t *end;
	itx_t *itx;

	if (!is_logged(fs, tx) || inode->unlinked)
		return;
	itx = zil_itx_create(TX_SETSAXATTR, sizeof(*record) + strlen(name) + 1 + size);
	record = (lr_setsaxattr_t *)&itx->itx_lr;
	record->lr_foid = inode->object;
	record->lr_size = size;
	end = text_put(record->lr_data, name);
	if (size > 0)
		memcpy(end, value, size);
	itx->itx_sync = B_FALSE;
	zil_itx_assign(fs->log, itx, tx);
}

/* A write to no object: what it would write is asked for when it is its turn. */
void log_barrier(struct sz_fs *fs, dmu_tx_t *tx)
{
	lr_write_t *record;
	itx_t *itx;

	if (!is_logged(fs, tx))
		return;
	itx = zil_itx_create(TX_WRITE, sizeof(*record));
	record = (lr_write_t *)&itx->itx_lr;
	record->lr_foid = 0;
	record->lr_offset = 0;
	record->lr_length = BARRIER_BYTES;
	record->lr_blkoff = 0;
	BP_ZERO(&record->lr_blkptr);
	itx->itx_wr_state = WR_NEED_COPY;
	itx->itx_private = fs;
	itx->itx_gen = 0;
	zil_itx_assign(fs->log, itx, tx);
}
