/*
 * seal: ends a generation.
 *
 *   gate       the epoch ends, the next begins: nothing waits longer than for this
 *   commit     the old logs are durable, so that what the new ones acknowledge has its ground
 *   build      bands, delta, hot image, changed index pages; synced, renamed out of live/
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
	*seal = (struct device_seal){ 0 };
}

int sz_seal_snapshot_hot(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];

		if (device->sealing == NULL || !device->sealing->hot_changed)
			continue;
		device->sealing->hot = sz_hot_snapshot(&device->hot);
		if (device->sealing->hot == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* Bands that still take sectors become objects, or are closed: what is wrong then shows in the copying. */
static void bands_finish(struct sz_device *device)
{
	struct epoch *epoch = device->sealing;
	MUTEX_SCOPE(&device->log_lock);

	for (uint32_t i = 0; i < epoch->source_count; i++)
		if (epoch->sources[i] != NULL && epoch->sources[i]->state == BAND_OPEN)
			(void)!sz_band_finish(device, epoch, epoch->sources[i]);
}

/* Sectors of a live file to a new object; what does not authenticate stays known as lost. */
static int extent_copy(struct sz_device *device, struct builder *builder, struct source *source,
		       uint64_t place, uint64_t sector, uint64_t count, const uint8_t *nonce_tags)
{
	CLEANUP_FREE uint8_t *plaintext = malloc(IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	int result = plaintext == NULL ? -ENOMEM : 0;

	if (source->file == NULL) {
		sz_damage_note(device->store, device->index, &source->id, count, "missing");
		return sz_builder_add_run(builder, sector, count, SZ_SECTOR_POISON);
	}
	while (count > 0 && result == 0) {
		uint8_t damaged[IO_SECTORS / 8] = { 0 };
		uint32_t some = count < IO_SECTORS ? (uint32_t)count : IO_SECTORS;

		result = sz_sectors_read(source->file, source->keys->sector, place, sector, some,
					 nonce_tags, plaintext, damaged);
		if (result == 0)
			result = sz_builder_add(builder, sector, some, plaintext);
		for (uint32_t i = 0; result == -EBADMSG && i < some;) {
			bool is_lost = (damaged[i / 8] >> (i % 8) & 1) != 0;
			uint32_t run = 1;

			while (i + run < some &&
			       ((damaged[(i + run) / 8] >> ((i + run) % 8) & 1) != 0) == is_lost)
				run++;
			if (is_lost)
				sz_damage_note(device->store, device->index, &source->id, run,
					       "does not authenticate");
			result = is_lost ? sz_builder_add_run(builder, sector + i, run,
							      SZ_SECTOR_POISON)
					 : sz_builder_add(builder, sector + i, run,
							  plaintext + i * SECTOR);
			i += run;
			if (result == 0)
				result = i < some ? -EBADMSG : 0;
		}
		sector += some;
		place += some;
		count -= some;
		nonce_tags += (size_t)some * SZ_NONCE_TAG_BYTES;
	}
	if (plaintext != NULL)
		sz_wipe(plaintext, IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	return result;
}

static uint64_t band_live(struct sz_device *device, const struct source *band)
{
	struct sz_overlay *overlay = &device->sealing->overlay;
	uint64_t base = sz_band_base(device, band->band);
	uint64_t end = base + sz_band_length(device, band->band);
	uint64_t live = 0;

	for (const struct sz_extent *extent = sz_overlay_find(overlay, base);
	     extent != NULL && extent->sector < end; extent = sz_overlay_next(extent))
		if (extent->state == SZ_OVERLAY_DATA && extent->source == band->number)
			live += extent->count;
	return live;
}

/* A live band that cannot be finished in place, to a new one. */
static int band_copy(struct batch *batch, struct sz_device *device, struct source *band,
		     struct device_seal *seal)
{
	struct epoch *epoch = device->sealing;
	CLEANUP(sz_builder_fini) struct builder builder = { 0 };
	uint64_t base = sz_band_base(device, band->band);
	uint64_t end = base + sz_band_length(device, band->band);
	struct new_row *grown;
	struct row *unused;
	int result =
		sz_builder_init(&builder, batch, device, SZ_KIND_BAND, epoch->number, band->band);

	for (const struct sz_extent *extent = sz_overlay_find(&epoch->overlay, base);
	     extent != NULL && extent->sector < end && result == 0;
	     extent = sz_overlay_next(extent))
		if (extent->state == SZ_OVERLAY_DATA && extent->source == band->number)
			result = extent_copy(device, &builder, band, extent->place, extent->sector,
					     extent->count, extent->nonce_tags);
	if (result != 0)
		return result;
	grown = realloc(seal->rows, (seal->row_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	seal->rows = grown;
	grown += seal->row_count;
	*grown = (struct new_row){ .source = band, .row = { .epoch = epoch->number } };
	result = sz_builder_end(&builder, &grown->row.ref);
	grown->row.live_sectors = (uint32_t)builder.entries.count;
	grown->row.data_slots = builder.header.data_slots;
	if (result == 0) {
		MUTEX_SCOPE(&device->log_lock);
		WRITE_SCOPE(&device->map_lock);

		result = sz_row_make(device, band->band, &unused);
	}
	if (result == 0)
		seal->row_count++;
	return result;
}

static int bands_copy(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	const struct epoch *epoch = device->sealing;
	int result = 0;

	for (uint32_t i = 0; i < epoch->source_count && result == 0; i++) {
		struct source *source = epoch->sources[i];

		if (source == NULL ||
		    (source->state != BAND_CLOSED && source->state != BAND_BROKEN))
			continue;
		if (band_live(device, source) * LIVE_SHARE >= sz_band_length(device, source->band))
			result = band_copy(batch, device, source, seal);
	}
	return result;
}

static bool is_copied(const struct device_seal *seal, const struct source *source)
{
	for (size_t i = 0; i < seal->row_count; i++)
		if (seal->rows[i].source == source)
			return true;
	return false;
}

/* Is there anything below that a tombstone would hide? */
static bool has_below(const struct sz_device *device, const struct device_seal *seal, uint32_t band,
		      uint64_t sector, uint64_t count)
{
	const struct row *row = sz_row_find(device, band);

	if ((row != NULL && row->epoch <= device->sealing->number) ||
	    sz_shard_is_lost(device, band))
		return true;
	for (size_t i = 0; i < seal->row_count; i++)
		if (seal->rows[i].source->band == band)
			return true;
	for (uint32_t i = 0; i < device->delta_count; i++) {
		const struct sz_manifest_delta *delta = &device->deltas[i]->info;
		const struct sz_run *run = sz_runs_find(delta->runs, delta->run_count, sector);

		if (run != NULL && run->sector < sector + count)
			return true;
	}
	return false;
}

static int tombstone_add(struct sz_device *device, struct builder *builder,
			 const struct device_seal *seal, uint64_t sector, uint64_t count)
{
	int result = 0;

	while (count > 0 && result == 0) {
		uint32_t band = sz_band_of(device, sector);
		uint64_t some = sz_band_base(device, band) + sz_band_length(device, band) - sector;
		bool is_needed;

		if (some > count)
			some = count;
		{
			READ_SCOPE(&device->map_lock);

			is_needed = has_below(device, seal, band, sector, some);
		}
		if (is_needed)
			result = sz_builder_add_run(builder, sector, some, SZ_SECTOR_TOMBSTONE);
		sector += some;
		count -= some;
	}
	return result;
}

/* What the delta's entries cover, for the manifest. */
static int runs_make(const struct entries *entries, struct sz_manifest_delta *delta)
{
	struct sz_run *runs = calloc(entries->count, sizeof(*runs));

	if (runs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < entries->count; i++) {
		const struct sz_index_entry *entry = &entries->at[i];
		uint64_t count = entry->state == SZ_SECTOR_DATA ? 1 : entry->slot_or_count;
		struct sz_run *last = delta->run_count == 0 ? NULL : &runs[delta->run_count - 1];

		delta->sector_count += count;
		if (last != NULL && last->sector + last->count == entry->sector)
			last->count += count;
		else
			runs[delta->run_count++] = (struct sz_run){ entry->sector, count };
	}
	delta->runs = runs;
	return 0;
}

static int delta_build(struct sz_device *device, struct builder *builder,
		       const struct device_seal *seal)
{
	struct epoch *epoch = device->sealing;
	int result = 0;

	/* Nobody else changes the overlay of an epoch that has ended. */
	for (const struct sz_extent *extent = sz_overlay_find(&epoch->overlay, 0);
	     extent != NULL && result == 0; extent = sz_overlay_next(extent)) {
		if (extent->state == SZ_OVERLAY_DATA) {
			struct source *source = epoch->sources[extent->source];

			if (!is_copied(seal, source))
				result = extent_copy(device, builder, source, extent->place,
						     extent->sector, extent->count,
						     extent->nonce_tags);
		} else if (extent->state == SZ_OVERLAY_TOMBSTONE) {
			result =
				tombstone_add(device, builder, seal, extent->sector, extent->count);
		} else {
			result = sz_builder_add_run(builder, extent->sector, extent->count,
						    SZ_SECTOR_POISON);
		}
	}
	return result;
}

static int delta_write(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	struct epoch *epoch = device->sealing;
	CLEANUP(sz_builder_fini) struct builder builder = { 0 };
	CLEANUP(sz_delta_free) struct delta *delta = NULL;
	int result;

	if (sz_overlay_find(&epoch->overlay, 0) == NULL)
		return 0;
	delta = calloc(1, sizeof(*delta));
	if (delta == NULL)
		return -ENOMEM;
	result = sz_builder_init(&builder, batch, device, SZ_KIND_DELTA, epoch->number, 0);
	if (result == 0)
		result = delta_build(device, &builder, seal);
	if (result != 0)
		return result;
	if (builder.entries.count == 0) { /* tombstones of nothing */
		sz_batch_drop_first(batch);
		return 0;
	}
	result = sz_builder_end(&builder, &delta->info.delta);
	if (result == 0)
		result = runs_make(&builder.entries, &delta->info);
	delta->info.generation = epoch->number;
	delta->info.stored_bytes = builder.header.file_bytes;
	if (result == 0)
		seal->delta = TAKE(delta);
	return result;
}

static int hot_write(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result;

	seal->hot = device->hot_ref;
	if (device->sealing->hot == NULL)
		return 0;
	result = sz_hot_encode(device->sealing->hot, &payload);
	if (result == 0)
		result = sz_blob_write(batch, device, SZ_KIND_HOT, device->sealing->number,
				       &payload, 1, &seal->hot);
	return result;
}

static bool has_new_rows(struct sz_device *device)
{
	READ_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < device->shard_count; i++)
		for (uint32_t j = 0; device->shards[i] != NULL && j < SZ_SHARD_BANDS; j++)
			if (device->shards[i]->rows[j].epoch == device->sealing->number)
				return true;
	return false;
}

static int device_build(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	static const struct sz_id none;
	int result;

	seal->manifest = device->manifest_ref;
	seal->shards = calloc((size_t)device->shard_count + 1, sizeof(*seal->shards));
	if (seal->shards == NULL)
		return -ENOMEM;
	bands_finish(device);
	result = bands_copy(batch, device, seal);
	if (result == 0)
		result = delta_write(batch, device, seal);
	if (result == 0)
		result = hot_write(batch, device, seal);
	seal->is_changed = seal->delta != NULL || seal->row_count > 0 ||
			   device->sealing->hot != NULL || has_new_rows(device) ||
			   memcmp(&device->manifest_ref.id, &none, sizeof(none)) == 0;
	if (result == 0 && seal->is_changed)
		result = sz_manifest_write(batch, device, seal);
	return result;
}

/* Syncs finished bands without a lock: writers go on meanwhile. */
static int finished_sync(struct sz_device *device)
{
	struct epoch *epoch = device->sealing;
	int result = 0;

	for (uint32_t i = 0; i < epoch->source_count && result == 0; i++) {
		CLEANUP(sz_source_drop) struct source *source = NULL;

		{
			MUTEX_SCOPE(&device->log_lock);

			if (epoch->sources[i] != NULL && epoch->sources[i]->is_dirty &&
			    epoch->sources[i]->state == BAND_FINISHED)
				source = sz_source_hold(epoch->sources[i]);
		}
		if (source == NULL)
			continue;
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
	struct epoch *epoch = device->sealing;
	struct sz_backend *backend = store->folders[device->folder].backend;
	int result = finished_sync(device);

	for (uint32_t i = 0; i < epoch->source_count && result == 0; i++) {
		MUTEX_SCOPE(&device->log_lock);
		struct source *source = epoch->sources[i];
		char name[SZ_OBJECT_NAME_BYTES];

		if (source == NULL || source->state != BAND_FINISHED)
			continue;
		sz_name_encode(store->keys, &source->id, name);
		result = source->is_named ? sz_backend_remove(backend, SZ_LIVE, name)
					  : sz_backend_rename(backend, name, name);
		if (result == -ENOENT && source->is_named)
			result = 0;
		if (result != 0)
			return result;
		sz_catalog_sealed(store, &source->id, source->folder);
		sz_source_drop(&epoch->sources[i]);
	}
	return result != 0 ? result : sz_backend_sync_folder(backend, SZ_SEALED);
}

/* What a generation says of a device: bands and deltas, counted from the rows. */
static void usage_count(struct sz_device *device, struct sz_root_device *to)
{
	READ_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < device->shard_count; i++) {
		for (uint32_t j = 0; device->shards[i] != NULL && j < SZ_SHARD_BANDS; j++) {
			const struct row *row = &device->shards[i]->rows[j];

			if (row->data_slots == 0 || row->epoch > device->sealing->number)
				continue;
			to->object_count++;
			to->stored_bytes += (1 + (uint64_t)row->data_slots +
					     DIV_ROUND_UP(row->data_slots, SZ_LEAF_ENTRIES)) *
						    SZ_PAGE_BYTES +
					    SZ_TRAILER_BYTES;
		}
	}
	for (uint32_t i = 0; i < device->delta_count; i++) {
		to->object_count++;
		to->stored_bytes += device->deltas[i]->info.stored_bytes;
	}
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
		usage_count(device, to);
		if (seals[i].delta != NULL) {
			to->object_count++;
			to->stored_bytes += seals[i].delta->info.stored_bytes;
			root.changed_sectors += seals[i].delta->info.sector_count;
		}
	}
	return sz_root_write(store, &root);
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
		sz_band_to_row(device, *ended_out, seal->rows[i].source, &seal->rows[i].row);
		seal->rows[i].source->state =
			BAND_CLOSED; /* its file goes: the row is of the copy */
	}
	for (uint32_t i = 0; i < device->shard_count; i++)
		if (device->shards[i] != NULL)
			device->shards[i]->ref = seal->shards[i];
	if (seal->delta != NULL) {
		memmove(device->deltas + 1, device->deltas,
			device->delta_count * sizeof(struct delta *));
		device->deltas[0] = TAKE(seal->delta);
		device->delta_count++;
	}
	device->hot_ref = seal->hot;
	device->manifest_ref = seal->manifest;
}

/* Room for one more delta. */
static int deltas_grow(struct sz_device *device)
{
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);
	struct delta **grown =
		realloc(device->deltas, (device->delta_count + 1) * sizeof(struct delta *));

	if (grown == NULL)
		return -ENOMEM;
	device->deltas = grown;
	return 0;
}

/* The live files of an epoch that is sealed now. */
static void live_remove(struct sz_store *store, struct epoch *epoch)
{
	for (uint32_t i = 0; epoch != NULL && i < epoch->source_count; i++)
		if (epoch->sources[i] != NULL && epoch->sources[i]->state != BAND_FINISHED)
			sz_object_remove(store, &epoch->sources[i]->id);
}

static int seal_build(struct sz_store *store, struct batch *batch, struct device_seal *seals)
{
	int result = 0;

	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];

		if (device->folder == NO_DEVICE)
			continue;
		{
			MUTEX_SCOPE(&device->flush_lock);

			result = sz_epoch_commit(device, device->sealing);
		}
		if (result == 0)
			result = device_build(batch, device, &seals[i]);
		if (result == 0)
			result = deltas_grow(device);
	}
	if (result == 0)
		result = sz_batch_commit(batch);
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

static int seal_finish(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(sz_ids_free) struct ids before = { 0 };
	struct batch batch = { .store = store };
	struct device_seal seals[SZ_DEVICES_MAX] = { 0 };
	struct epoch *ended[SZ_DEVICES_MAX] = { NULL };
	int result = sz_index_ids(store, &before);

	if (result == 0)
		result = seal_build(store, &batch, seals);
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
		for (uint32_t i = 0; i < store->device_count; i++) {
			live_remove(store, ended[i]);
			sz_epoch_free(&ended[i]);
		}
		sz_collect(store, &before);
	}
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

static void epochs_free(struct epoch **epochs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		sz_epoch_free(&epochs[i]);
}

/* The gate: from here on writes are the next epoch's. */
static int epoch_end(struct sz_store *store)
{
	struct epoch *next[SZ_DEVICES_MAX] = { NULL };
	uint64_t end;

	for (uint32_t i = 0; i < store->device_count; i++) {
		next[i] = sz_epoch_make(store->epoch + 1);
		if (next[i] == NULL) {
			epochs_free(next, store->device_count);
			return -ENOMEM;
		}
	}
	WRITE_SCOPE(&store->gate);
	end = atomic_load(&store->sequence);
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];

		if (!device->live->hot_changed)
			continue;
		free(device->live->hot); /* of an attempt that failed */
		device->live->hot = sz_hot_snapshot(&device->hot);
		if (device->live->hot == NULL) {
			epochs_free(next, store->device_count);
			return -ENOMEM;
		}
	}
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		MUTEX_SCOPE(&device->log_lock);
		WRITE_SCOPE(&device->map_lock);

		device->sealing = device->live;
		device->sealing->end = end;
		device->live = next[i];
	}
	store->sealing_number = store->epoch;
	store->epoch++;
	store->is_sealing = true;
	atomic_store(&store->has_begun, false);
	return 0;
}

int sz_seal_run(struct sz_store *store, bool force, struct sz_error *error)
{
	MUTEX_SCOPE(&store->seal_lock);
	int result = devices_check(store, error);

	if (result == 0 && store->read_only)
		return sz_fail(error, -EROFS, "the store is open for reading only");
	if (result == 0 && store->is_sealing)
		result = seal_finish(store, error);
	if (result != 0 || !(force || atomic_load(&store->has_begun)))
		return result;
	result = epoch_end(store);
	if (result != 0)
		return sz_fail(error, result, "no memory");
	return seal_finish(store, error);
}

int sz_store_seal(struct sz_store *store, struct sz_error *error)
{
	return sz_seal_run(store, false, error);
}
