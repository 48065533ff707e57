/*
 * seal: ends a generation.
 *
 *   prepare    the next epoch's logs are made, and durable: without a record they say nothing
 *   gate       the epoch ends, the next begins: nothing waits longer than for this, and it waits for no disk
 *   commit     open bands are finished, which the old logs tell, and these are durable to their end: what the new ones
 *              acknowledge has its ground
 *   build      delta, hot image, changed index pages; synced, renamed out of live/
 *   root       to each folder in turn: the first durable one commits
 *   publish    memory follows; the old live files go
 *
 * Cut before the root: the live files are there, and recovery makes the generation of them. What was
 * built then is garbage in live/, or sealed objects that nothing refers to. A seal that failed (a full
 * disk) is taken up again by the next one; the epoch stays readable meanwhile.
 */
#include "device/device_internal.h"

#include <errno.h>

static void device_seal_fini(struct device_seal *seal)
{
	free(seal->rows);
	free(seal->shards);
	sz_delta_free(&seal->delta);
	sz_delta_free(&seal->merged);
	*seal = (struct device_seal){ 0 };
}

/* Of all devices before the first is waited for. */
static void finished_sync_begin(struct sz_device *device)
{
	for (uint32_t i = 0;; i++) {
		CLEANUP(sz_source_drop)
		struct source *source = sz_epoch_finished(device, device->sealing, true, &i);

		if (source == NULL)
			break;
		sz_file_sync_begin(source->file);
	}
}

/* Syncs finished bands: writers go on meanwhile. */
static int finished_sync(struct sz_device *device)
{
	int result = 0;

	for (uint32_t i = 0; result == 0; i++) {
		CLEANUP(sz_source_drop)
		struct source *source = sz_epoch_finished(device, device->sealing, true, &i);

		if (source == NULL)
			break;
		result = sz_file_sync(source->file);
		if (result == 0) {
			MUTEX_SCOPE(&device->log_lock);

			source->is_dirty = false;
		}
	}
	return result == 0 ? 0 : sz_device_fail(device, result);
}

/* Finished bands leave live/; then the folder's names are durable. */
static int finished_settle(struct sz_device *device)
{
	struct sz_store *store = device->store;
	struct sz_backend *backend = store->folders[device->folder].backend;
	MUTEX_SCOPE(&device->flush_lock); /* a flush does the same */
	int result = finished_sync(device);

	for (uint32_t i = 0; result == 0; i++) {
		CLEANUP(sz_source_drop)
		struct source *source = sz_epoch_finished(device, device->sealing, false, &i);
		char name[SZ_OBJECT_NAME_BYTES];

		if (source == NULL)
			break;
		sz_name_encode(store->keys, &source->id, name);
		result = source->is_named ? sz_backend_remove(backend, SZ_LIVE, name)
					  : sz_backend_rename(backend, name, name);
		if (result == -ENOENT && source->is_named)
			result = 0;
		if (result == 0)
			sz_epoch_let_go(device, device->sealing, source);
	}
	return result != 0 ? result : sz_backend_sync_folder(backend, SZ_SEALED);
}

static int root_write(struct sz_store *store, const struct device_seal *seals)
{
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	int result = sz_root_next(store, store->sealing_number, &root);

	if (result != 0)
		return result;
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		struct sz_root_device *to = &root.devices[i];

		memcpy(to->device_id, device->id, sizeof(to->device_id));
		to->sectors = device->sectors;
		to->manifest = device->manifest_ref;
		if (device->folder == NO_DEVICE) {
			to->state = 1;
			to->stale_since = device->stale_since != 0 ? device->stale_since
								   : store->sealing_number;
		} else {
			to->manifest = seals[i].manifest;
		}
		to->stored_bytes =
			seals[i].is_changed ? seals[i].stored_bytes : device->stored_bytes;
		to->object_count =
			seals[i].is_changed ? seals[i].object_count : device->object_count;
		root.changed_sectors += seals[i].changed_sectors;
	}
	return sz_root_write(store, &root);
}

/* The newest deltas, which were merged, give way to what they were merged to. */
static void deltas_replace(struct sz_device *device, struct device_seal *seal)
{
	uint32_t kept = seal->merged == NULL ? 0 : 1;

	if (seal->merged_count == 0)
		return;
	for (uint32_t i = 0; i < seal->merged_count; i++)
		sz_delta_free(&device->deltas[i]);
	memmove(device->deltas + kept, device->deltas + seal->merged_count,
		(device->delta_count - seal->merged_count) * sizeof(struct sz_manifest_delta *));
	if (kept == 1)
		device->deltas[0] = TAKE(seal->merged);
	device->delta_count -= seal->merged_count - kept;
}

/* Makes what was written what is read. Cannot fail: deltas has been made large enough. */
static void device_publish(struct sz_device *device, struct device_seal *seal,
			   struct epoch **ended_out)
{
	MUTEX_SCOPE(&device->flush_lock);
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);

	*ended_out = TAKE(device->sealing);
	if (device->folder == NO_DEVICE) {
		if (device->stale_since == 0)
			device->stale_since = (*ended_out)->number;
		return;
	}
	if (!seal->is_changed)
		return;
	for (size_t i = 0; i < seal->row_count; i++) {
		const struct new_row *row = &seal->rows[i];

		if (row->source == NULL) {
			*sz_row_find(device, row->band) = row->row;
			continue;
		}
		sz_band_to_row(device, *ended_out, row->source, &row->row);
		row->source->state = BAND_CLOSED; /* its file goes: the row is of the copy */
	}
	for (uint32_t i = 0; i < device->shard_count; i++)
		if (device->shards[i] != NULL)
			device->shards[i]->ref = seal->shards[i];
	deltas_replace(device, seal);
	if (seal->delta != NULL) {
		memmove(device->deltas + 1, device->deltas,
			device->delta_count * sizeof(struct sz_manifest_delta *));
		device->deltas[0] = TAKE(seal->delta);
		device->delta_count++;
	}
	if ((*ended_out)->hot != NULL)
		sz_hot_apply(&device->hot, (*ended_out)->hot);
	device->hot_ref = seal->hot;
	device->manifest_ref = seal->manifest;
	device->index_is_due = false;
	device->stored_bytes = seal->stored_bytes;
	device->object_count = seal->object_count;
}

/* Room for one more delta. */
static int deltas_grow(struct sz_device *device)
{
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);
	struct sz_manifest_delta **grown = realloc(
		device->deltas, (device->delta_count + 1) * sizeof(struct sz_manifest_delta *));

	if (grown == NULL)
		return -ENOMEM;
	device->deltas = grown;
	return 0;
}

/* The live files of an epoch that is sealed now; if its root might be lost they go when the store is opened the next time. */
static void live_remove(struct sz_store *store, struct epoch *epoch)
{
	if (!sz_root_is_safe(store))
		return;
	for (uint32_t i = 0; epoch != NULL && i < epoch->source_count; i++)
		if (epoch->sources[i] != NULL && epoch->sources[i]->state != BAND_FINISHED)
			sz_object_remove(store, &epoch->sources[i]->id);
}

static int seal_build(struct sz_store *store, struct batch *batch, enum compact_mode mode,
		      struct device_seal *seals)
{
	int result = 0;

	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];

		if (device->folder == NO_DEVICE)
			continue;
		sz_bands_seal(device); /* before the log's last record, which tells of them */
		{
			MUTEX_SCOPE(&device->flush_lock);

			result = sz_epoch_commit(device, device->sealing);
		}
		if (result == 0)
			result = sz_device_seal(batch, device, mode, &seals[i]);
		if (result == 0)
			result = deltas_grow(device);
	}
	if (result == 0)
		result = sz_batch_commit(batch);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		if (store->devices[i].folder != NO_DEVICE)
			finished_sync_begin(&store->devices[i]);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		if (store->devices[i].folder != NO_DEVICE)
			result = finished_settle(&store->devices[i]);
	return result;
}

/* A device that failed has not what it was given: its epoch is never sealed as good. */
static int devices_check(const struct sz_store *store, struct sz_error *error)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		int failure = atomic_load(&store->devices[i].failure);

		if (failure != 0)
			return sz_fail(error, -EIO,
				       "device %u failed (%s): open the store again to recover", i,
				       strerror(-failure));
	}
	return 0;
}

static int seal_try(struct sz_store *store, enum compact_mode mode, struct sz_error *error)
{
	struct batch batch = { .store = store };
	struct device_seal seals[SZ_DEVICES_MAX] = { 0 };
	struct epoch *ended[SZ_DEVICES_MAX] = { NULL };
	int result;

	store->has_freed = false;
	result = seal_build(store, &batch, mode, seals);
	if (result == 0)
		result = devices_check(store, error);
	if (result == 0)
		result = sz_lock_verify(store);
	if (result == 0)
		result = root_write(store, seals);
	if (result == 0) {
		for (uint32_t i = 0; i < store->device_count; i++)
			device_publish(&store->devices[i], &seals[i], &ended[i]);
		store->is_sealing = false;
		sz_readers_wait(&store->readers);
		for (uint32_t i = 0; i < store->device_count; i++) {
			live_remove(store, ended[i]);
			sz_epoch_free(&ended[i]);
		}
		(void)!sz_collect(store, COLLECT_SEALED); /* status tells what is in the way */
	}
	if (result != 0)
		store->collector.has_looked = false; /* what was built lies about */
	sz_batch_abandon(&batch);
	for (uint32_t i = 0; i < store->device_count; i++)
		device_seal_fini(&seals[i]);
	if (result == -ESTALE)
		return sz_fail(error, result,
			       "%s: another process has taken the store over: this one stops",
			       store->path);
	return result == 0 ? 0
			   : sz_fail(error, result, "sealing generation %llu: %s",
				     (unsigned long long)store->sealing_number, strerror(-result));
}

/* What a compaction that nobody asked for has taken of a full disk, the seal may need. */
static int seal_finish(struct sz_store *store, enum compact_mode mode, struct sz_error *error)
{
	int result = seal_try(store, mode, error);

	if (!is_full(result) || mode == COMPACT_ALL)
		return result;
	if (error != NULL)
		*error = (struct sz_error){ 0 };
	return seal_try(store, COMPACT_NOTHING, error);
}

/* The gate: no write is being logged on any device, and nobody looks into a map. */
static void gate_close(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++)
		(void)pthread_mutex_lock(&store->devices[i].log_lock);
	for (uint32_t i = 0; i < store->device_count; i++)
		(void)pthread_rwlock_wrlock(&store->devices[i].map_lock);
}

static void gate_open(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		(void)pthread_rwlock_unlock(&store->devices[i].map_lock);
		(void)pthread_mutex_unlock(&store->devices[i].log_lock);
	}
}

/*
 * From here on writes are the next epoch's, which is prepared: this waits for no disk. False: the live
 * epoch has got its logs meanwhile, and the next one has none.
 */
static bool epoch_end(struct sz_store *store, bool has_logs, bool needs_logs)
{
	MUTEX_SCOPE(&store->begin_lock);
	uint64_t begin_ns;
	uint64_t end;

	if (needs_logs && !has_logs && atomic_load(&store->has_begun))
		return false;
	begin_ns = sz_clock_ns();
	gate_close(store);
	end = atomic_load(&store->sequence);
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];

		device->sealing = device->live;
		device->sealing->end = end;
		device->live = TAKE(device->next);
		device->live->committed = end;
	}
	gate_open(store);
	store->pause_ns = sz_clock_ns() - begin_ns;
	store->sealing_number = store->epoch;
	store->epoch++;
	store->is_sealing = true;
	atomic_store(&store->has_begun, has_logs);
	return true;
}

static bool is_dirty(struct sz_store *store)
{
	bool found = false;

	for (uint32_t i = 0; i < store->device_count && !found; i++) {
		MUTEX_SCOPE(&store->devices[i].log_lock);

		found = store->devices[i].live->is_dirty;
	}
	return found;
}

static int seal(struct sz_store *store, enum seal_mode mode, struct sz_error *error)
{
	bool needs_logs = mode != SEAL_LAST;
	bool with_logs;
	int result = devices_check(store, error);

	if (result == 0 && store->read_only)
		return sz_fail(error, -EROFS, "the store is open for reading only");
	if (result == 0 && store->is_sealing)
		result = seal_finish(store, COMPACT_LEAST, error);
	if (result != 0 || ((mode == SEAL_CHANGES || mode == SEAL_LAST) && !is_dirty(store)))
		return result;
	do {
		with_logs = needs_logs && atomic_load(&store->has_begun);
		result = sz_epoch_prepare(store, with_logs);
		if (result != 0)
			return sz_fail(error, result, "beginning an epoch: %s", strerror(-result));
	} while (!epoch_end(store, with_logs, needs_logs));
	return seal_finish(store,
			   mode == SEAL_COMPACT ? COMPACT_ALL
			   : mode == SEAL_FREE  ? COMPACT_FREE
						: COMPACT_DUE,
			   error);
}

int sz_seal_run_locked(struct sz_store *store, enum seal_mode mode, struct sz_error *error)
{
	uint64_t before = store->root.generation;
	int result = seal(store, mode, error);

	/* As long as there is something that may go. Compacting can wait. */
	while (is_full(result) && mode != SEAL_COMPACT && mode != SEAL_FREE &&
	       sz_room_make_for_seal(store) == 0) {
		if (error != NULL)
			*error = (struct sz_error){ 0 };
		result = seal(store, mode, error);
	}
	if (result == 0 && store->lacks_spare && store->root.generation != before)
		sz_spare_make(store);
	return result;
}

int sz_seal_run(struct sz_store *store, enum seal_mode mode, struct sz_error *error)
{
	MUTEX_SCOPE(&store->seal_lock);

	return sz_seal_run_locked(store, mode, error);
}

int sz_store_seal(struct sz_store *store, struct sz_error *error)
{
	return sz_seal_run(store, SEAL_CHANGES, error);
}

int sz_store_compact(struct sz_store *store, struct sz_error *error)
{
	/* What was written, and trimmed, until now has to be sealed before it can be compacted. */
	int result = sz_seal_run(store, SEAL_CHANGES, error);

	return result != 0 ? result : sz_seal_run(store, SEAL_COMPACT, error);
}
