/*
 * log: the append-only, authenticated chain of what an epoch writes. A frame is a record page, and
 * behind it the sectors that it describes. The record's page is left free when the frame begins and
 * written when it is full or flushed, so that small writes share one.
 *
 * 1. What an overlay says of the log has been written to the file before.
 * 2. Pages of a write that failed are left unclaimed: no byte is written twice.
 * 3. A record that could not be written keeps its bytes and its place until it can: the chain has no gap.
 * 4. A commit record's sequence number covers all entries of its device below it: they got their
 *    numbers under log_lock, and so stand before it.
 */
#include "device/device_internal.h"

#include <errno.h>

static int pending_write(struct log_writer *log)
{
	int result;

	if (!log->has_pending)
		return 0;
	result = sz_file_write(log->source->file, log->pending, SZ_PAGE_BYTES,
			       log->pending_page * SECTOR);
	if (result == 0)
		log->has_pending = false;
	return result;
}

static int frame_close(struct log_writer *log)
{
	int result = pending_write(log);

	if (result != 0 || log->frame_bytes == 0)
		return result;
	sz_record_head_encode(log->payload, log->frame_entries, log->frame_sectors);
	sz_record_seal(log->source->keys->page, log->record, log->previous, log->payload,
		       log->pending, log->previous);
	log->record++;
	log->pending_page = log->frame_page;
	log->has_pending = true;
	log->frame_bytes = 0;
	return pending_write(log);
}

/* A frame with room for an entry and its sectors. */
static int frame_prepare(struct log_writer *log, size_t entry_bytes, uint32_t sectors)
{
	int result = 0;

	if (log->frame_bytes != 0 && (log->frame_bytes + entry_bytes > SZ_PAGE_PAYLOAD ||
				      log->frame_sectors + sectors > SZ_RECORD_SECTORS_MAX))
		result = frame_close(log);
	if (result == 0)
		result = pending_write(log);
	if (result != 0 || log->frame_bytes != 0)
		return result;
	memset(log->payload, 0, sizeof(log->payload));
	log->frame_page = log->next_page++;
	log->frame_bytes = SZ_RECORD_HEAD_BYTES;
	log->frame_entries = 0;
	log->frame_sectors = 0;
	return 0;
}

int sz_log_append(struct epoch *epoch, const struct sz_log_entry *entry)
{
	struct log_writer *log = &epoch->log;
	int result = frame_prepare(log, sz_log_entry_bytes(entry), 0);

	if (result == 0)
		result = sz_log_entry_encode(entry, log->payload, &log->frame_bytes);
	if (result == 0)
		log->frame_entries++;
	return result;
}

int sz_log_append_sectors(struct epoch *epoch, uint64_t sequence, uint64_t sector, uint32_t count,
			  const uint8_t *ciphertext, const uint8_t *nonce_tags, uint64_t *page_out)
{
	struct log_writer *log = &epoch->log;
	struct sz_log_entry entry = {
		.type = SZ_LOG_SECTORS,
		.sequence = sequence,
		.sector = sector,
		.count = count,
		.nonce_tags = nonce_tags,
	};
	int result = frame_prepare(log, sz_log_entry_bytes(&entry), count);

	if (result != 0)
		return result;
	*page_out = log->next_page;
	log->next_page += count;
	entry.place = log->frame_sectors;
	log->frame_sectors += count;
	result = sz_file_write(log->source->file, ciphertext, (size_t)count * SZ_SECTOR_BYTES,
			       *page_out * SECTOR);
	if (result == 0)
		result = sz_log_entry_encode(&entry, log->payload, &log->frame_bytes);
	if (result == 0)
		log->frame_entries++;
	return result;
}

/* Under log_lock; when the epoch has ended flush_lock is enough, nobody else writes to its log. */
static int commit_record(struct sz_device *device, struct epoch *epoch,
			 const struct sz_log_entry *commit)
{
	int result;

	/* Until all logs of the live epoch are there they are their maker's alone. */
	if (!commit->is_last && !atomic_load(&device->store->has_begun))
		return -EALREADY;
	if (epoch->log.source == NULL)
		return -EALREADY;
	result = pending_write(&epoch->log);
	if (result != 0)
		return result;
	if (commit->is_last ? epoch->is_complete : commit->sequence == epoch->committed)
		return -EALREADY;
	if (!commit->is_last)
		result = sz_bands_finish(device, epoch);
	if (result == 0)
		result = sz_log_append(epoch, commit);
	return result != 0 ? result : frame_close(&epoch->log);
}

static int commit_append(struct sz_device *device, struct epoch *epoch,
			 struct sz_log_entry *commit_out)
{
	*commit_out = (struct sz_log_entry){ .type = SZ_LOG_COMMIT, .epoch = epoch->number };
	{
		MUTEX_SCOPE(&device->log_lock);

		commit_out->is_last = epoch->end != 0;
		commit_out->sequence =
			commit_out->is_last ? epoch->end : atomic_load(&device->store->sequence);
		if (!commit_out->is_last)
			return commit_record(device, epoch, commit_out);
	}
	return commit_record(device, epoch, commit_out);
}

/* What has to be synced for a commit record that was written: held sources. */
static int dirty_take(struct sz_device *device, struct epoch *epoch, struct sz_bytes *dirty,
		      bool *names_out)
{
	MUTEX_SCOPE(&device->log_lock);
	int result = 0;

	for (uint32_t i = 0; i < epoch->source_count && result == 0; i++) {
		struct source *source = epoch->sources[i];

		if (source == NULL || source->state == SOURCE_LOG || !source->is_dirty)
			continue;
		result = sz_bytes_append(dirty, &source, sizeof(struct source *));
		if (result == 0) {
			(void)sz_source_hold(source);
			source->is_dirty = false;
		}
	}
	*names_out = epoch->has_new_names;
	epoch->has_new_names = false;
	return result;
}

struct source *sz_epoch_finished(struct sz_device *device, struct epoch *epoch, bool is_dirty,
				 uint32_t *number)
{
	MUTEX_SCOPE(&device->log_lock);

	for (; *number < epoch->source_count; (*number)++) {
		struct source *source = epoch->sources[*number];

		if (source != NULL && source->state == BAND_FINISHED &&
		    source->is_dirty == is_dirty)
			return sz_source_hold(source);
	}
	return NULL;
}

void sz_epoch_let_go(struct sz_device *device, struct epoch *epoch, const struct source *source)
{
	MUTEX_SCOPE(&device->log_lock);

	sz_catalog_sealed(device->store, &source->id, source->folder, source->file);
	sz_source_drop(&epoch->sources[source->number]);
}

/*
 * Finished bands that are on disk leave live/: from now on a copier may take them for good. What fails
 * the seal tries again, and tells.
 */
static void finished_rename(struct sz_device *device, struct epoch *epoch)
{
	struct sz_store *store = device->store;

	for (uint32_t i = 0;; i++) {
		CLEANUP(sz_source_drop)
		struct source *source = sz_epoch_finished(device, epoch, false, &i);
		char name[SZ_OBJECT_NAME_BYTES];

		if (source == NULL)
			break;
		sz_name_encode(store->keys, &source->id, name);
		if (sz_backend_rename(store->folders[source->folder].backend, name, name) == 0)
			sz_epoch_let_go(device, epoch, source);
	}
}

static int commit_sync(struct sz_device *device, struct epoch *epoch, struct sz_bytes *dirty,
		       bool has_new_names)
{
	struct source **sources = (struct source **)(void *)dirty->data;
	size_t count = dirty->length / sizeof(struct source *);
	int result = 0;

	for (size_t i = 0; i < count; i++)
		sz_file_sync_begin(sources[i]->file);
	if (count > 0)
		sz_file_sync_begin(epoch->log.source->file);
	for (size_t i = 0; i < count; i++) {
		if (result == 0)
			result = sz_file_sync(sources[i]->file);
		sz_source_drop(&sources[i]);
	}
	if (result == 0 && has_new_names)
		result = sz_backend_sync_folder(device->store->folders[device->folder].backend,
						SZ_LIVE);
	if (result == 0)
		result = sz_file_sync(epoch->log.source->file);
	return result;
}

/* All that the epoch has written until now. */
static int epoch_sync(struct sz_device *device, struct epoch *epoch)
{
	CLEANUP_BYTES struct sz_bytes dirty = { 0 };
	struct source **sources;
	bool has_new_names = false;
	int result = dirty_take(device, epoch, &dirty, &has_new_names);

	if (result == 0)
		return commit_sync(device, epoch, &dirty, has_new_names);
	sources = (struct source **)(void *)dirty.data;
	for (size_t i = 0; i < dirty.length / sizeof(struct source *); i++)
		sz_source_drop(&sources[i]);
	return result;
}

int sz_epoch_commit(struct sz_device *device, struct epoch *epoch)
{
	struct sz_log_entry commit = { 0 };
	int result = sz_device_check(device);

	if (result != 0)
		return result;
	/* Only one record may be on disk before what it covers (scan.c): that of before is settled first. */
	if (epoch->has_unsynced_commit) {
		result = epoch_sync(device, epoch);
		if (result != 0)
			return sz_device_fail(device, result);
		epoch->has_unsynced_commit = false;
	}
	result = commit_append(device, epoch, &commit);
	if (result == -EALREADY)
		return 0;
	if (is_full(result)) { /* the record keeps its bytes and its place, and may be written at any time */
		epoch->has_unsynced_commit = true;
		return -ENOSPC;
	}
	if (result == 0)
		result = epoch_sync(device, epoch);
	if (result != 0) /* ZFS ignores it: what was not flushed must not be taken for flushed */
		return sz_device_fail(device, result);
	epoch->committed = commit.sequence;
	epoch->is_complete = commit.is_last;
	finished_rename(device, epoch);
	return 0;
}
