/*
 * replay: doing what a dataset's intent log says, after a crash: ours, or a kernel's. What a record means is known
 * by the layer whose dataset it is.
 *
 * Invariants
 * 1. Records are looked at before the first is replayed: what is unknown, or cannot be replayed here,
 *    is refused with nothing done.
 * 2. A record is one transaction, which also notes in the log's header that it is done. (The kernel's
 *    way.) So a crash while replaying goes on behind it; where it takes more, it is the last one.
 * 3. The log is emptied only when all of it is done. ZFS's own zil_replay drops the rest on an error.
 */
#include "engine/pool_zfs.h"

#include <errno.h>

struct replaying {
	const struct sz_replay *replay;
	zilog_t *log;
	struct sz_error *error;
	uint64_t first_txg; /* what older groups did is in the data */
	uint64_t due;       /* records that are not */
	int result;         /* of the record that ended it */
};

static int block_visit(zilog_t *log, const blkptr_t *block, void *context, uint64_t txg)
{
	(void)log;
	(void)block;
	(void)context;
	(void)txg;
	return 0;
}

static bool record_is_due(const struct replaying *replaying, const lr_t *record)
{
	return record->lrc_seq > replaying->log->zl_header->zh_replay_seq &&
	       record->lrc_txg >= replaying->first_txg;
}

static int record_check(zilog_t *log, const lr_t *record, void *context, uint64_t txg)
{
	struct replaying *replaying = context;
	uint64_t type = record->lrc_txtype;

	(void)log;
	(void)txg;
	if (!record_is_due(replaying, record))
		return 0;
	if (type >= TX_MAX_TYPE || !replaying->replay->is_known(record)) {
		replaying->result = sz_fail(
			replaying->error, -EOPNOTSUPP,
			"%s has an intent log with an operation (type %llu%s) that cannot be "
			"replayed here; open and close the pool with the ZFS that wrote it",
			replaying->replay->name, (unsigned long long)(type & ~TX_CI),
			(type & TX_CI) != 0 ? ", of a file system without case" : "");
		return ECANCELED;
	}
	return 0;
}

/* A write whose data stands elsewhere; *data_out is the caller's. */
static int block_read(objset_t *os, const lr_write_t *record, void **data_out)
{
	const blkptr_t *bp = &record->lr_blkptr;
	uint64_t block = BP_GET_LSIZE(bp);
	uint64_t size = MAX(block, record->lr_length);
	zbookmark_phys_t bookmark;
	abd_t *abd;
	int error;

	*data_out = calloc(1, size);
	if (*data_out == NULL)
		return -ENOMEM;
	if (BP_IS_HOLE(bp) || block == 0)
		return 0;
	SET_BOOKMARK(&bookmark, dmu_objset_id(os), record->lr_foid, ZB_ZIL_LEVEL,
		     record->lr_offset / block);
	abd = abd_get_from_buf(*data_out, block);
	error = zio_wait(zio_read(NULL, dmu_objset_spa(os), bp, abd, block, NULL, NULL,
				  ZIO_PRIORITY_SYNC_READ, ZIO_FLAG_CANFAIL, &bookmark));
	abd_free(abd);
	return sz_zfs_error(error);
}

static int record_apply(const struct sz_replay *replay, const lr_t *record)
{
	bool is_block = record->lrc_txtype == TX_WRITE && record->lrc_reclen == sizeof(lr_write_t);
	CLEANUP_FREE void *block = NULL;
	const void *data = ((const lr_write_t *)record)->lr_data;
	int result = 0;

	if (is_block) {
		result = block_read(replay->os, (const lr_write_t *)record, &block);
		data = block;
	}
	if (result == 0)
		result = replay->apply(replay->context, record, data);
	if (result == 0)
		return 0;
	/* An object that was freed can be made again only when that is synced. */
	txg_wait_synced(dmu_objset_pool(replay->os), 0);
	return is_block && block == NULL ? result : replay->apply(replay->context, record, data);
}

static int record_replay(zilog_t *log, const lr_t *record, void *context, uint64_t txg)
{
	struct replaying *replaying = context;
	const struct sz_replay *replay = replaying->replay;
	int result;

	(void)txg;
	if (!record_is_due(replaying, record) ||
	    (replay->is_of_nothing != NULL && replay->is_of_nothing(replay->context, record)))
		return 0;
	log->zl_replaying_seq = record->lrc_seq;
	result = record_apply(replay, record);
	if (result == 0)
		return 0;
	replaying->result =
		sz_fail(replaying->error, result,
			"%s: operation %llu (type %llu) of the intent log cannot be replayed: %s",
			replay->name, (unsigned long long)record->lrc_seq,
			(unsigned long long)record->lrc_txtype, strerror(-result));
	return ECANCELED;
}

/* Has all of the log been read that the import has found there? */
static bool is_whole(const zilog_t *log)
{
	return (log->zl_header->zh_flags & ZIL_CLAIM_LR_SEQ_VALID) == 0 ||
	       log->zl_parse_lr_seq >= log->zl_header->zh_claim_lr_seq;
}

static int records_check(struct replaying *replaying)
{
	zilog_t *log = replaying->log;

	(void)zil_parse(log, block_visit, record_check, replaying, replaying->first_txg, B_TRUE);
	if (replaying->result != 0)
		return replaying->result;
	if (!is_whole(log))
		return sz_fail(replaying->error, -EBADMSG,
			       "%s has an intent log that is damaged: what was written last cannot "
			       "be restored",
			       replaying->replay->name);
	return 0;
}

int sz_replay_run(const struct sz_replay *replay, struct sz_error *error)
{
	zilog_t *log = dmu_objset_zil(replay->os);
	const zil_header_t *header = log->zl_header;
	struct replaying replaying = {
		.replay = replay, .log = log, .error = error, .first_txg = header->zh_claim_txg
	};
	int result;

	if ((header->zh_flags & ZIL_REPLAY_NEEDED) == 0) {
		(void)zil_destroy(log, B_TRUE);
		return 0;
	}
	if (BP_SHOULD_BYTESWAP(&header->zh_log))
		return sz_fail(error, -EOPNOTSUPP,
			       "%s has an intent log of a computer of the other byte order",
			       replay->name);
	result = records_check(&replaying);
	if (result != 0)
		return result;
	/* What is being removed is gone then: its numbers are free. */
	txg_wait_synced(log->zl_dmu_pool, 0);
	log->zl_replay = B_TRUE;
	(void)zil_parse(log, block_visit, record_replay, &replaying, replaying.first_txg, B_TRUE);
	if (replaying.result == 0 && is_whole(log)) {
		(void)zil_destroy(log, B_FALSE);
		txg_wait_synced(log->zl_dmu_pool, log->zl_destroy_txg);
	} else {
		txg_wait_synced(log->zl_dmu_pool, 0);
	}
	log->zl_replay = B_FALSE;
	return replaying.result;
}

static int record_count(zilog_t *log, const lr_t *record, void *context, uint64_t txg)
{
	struct replaying *replaying = context;

	(void)log;
	(void)txg;
	if (record_is_due(replaying, record))
		replaying->due++;
	return 0;
}

bool sz_replay_is_due(objset_t *os)
{
	zilog_t *log = dmu_objset_zil(os);
	struct replaying replaying = { .log = log, .first_txg = log->zl_header->zh_claim_txg };

	/* Of a pool that is imported read-only the log is not claimed. */
	if (replaying.first_txg == 0)
		replaying.first_txg = spa_last_synced_txg(dmu_objset_spa(os)) + 1;
	(void)zil_parse(log, block_visit, record_count, &replaying, replaying.first_txg, B_TRUE);
	return replaying.due > 0;
}
