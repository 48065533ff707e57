/*
 * seal_device: what a seal makes of one device's epoch that has ended: bands, the delta, the hot image,
 * what is compacted, and the index that names them. Nothing of it is read before the root is written.
 */
#include "device/device_internal.h"

#include <errno.h>

/* Sectors of a live file to a new object; what does not authenticate stays known as lost. */
static int extent_copy(struct sz_device *device, struct builder *builder, struct source *source,
		       uint64_t place, uint64_t sector, uint64_t count, const uint8_t *nonce_tags)
{
	uint8_t *plaintext = builder->plaintext;
	int result = 0;

	if (source->file == NULL) {
		sz_damage_note(device->store, device->index, &source->id, count, "missing");
		return sz_builder_add_run(builder, sector, count, SZ_SECTOR_POISON);
	}
	while (count > 0 && result == 0) {
		uint8_t damaged[IO_SECTORS / 8] = { 0 };
		uint32_t some = count < IO_SECTORS ? (uint32_t)count : IO_SECTORS;

		result = sz_sectors_read(source->file, source->keys->sector, place, sector, some,
					 nonce_tags, plaintext, damaged);
		if (result == -EBADMSG) {
			sz_damage_note(device->store, device->index, &source->id, 1,
				       "does not authenticate");
			result = 0;
		}
		if (result == 0)
			result = sz_builder_add_partly(builder, sector, some, plaintext, damaged);
		sector += some;
		place += some;
		count -= some;
		nonce_tags += (size_t)some * SZ_NONCE_TAG_BYTES;
	}
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
	*grown = (struct new_row){ .band = band->band,
				   .source = band,
				   .row = { .epoch = epoch->number } };
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

/* The first band from *number on that could not be finished. */
static struct source *band_next_closed(struct sz_device *device, uint32_t *number)
{
	const struct epoch *epoch = device->sealing;
	MUTEX_SCOPE(&device->log_lock); /* a flush lets go of those that were finished */

	for (; *number < epoch->source_count; (*number)++) {
		struct source *source = epoch->sources[*number];

		if (source != NULL &&
		    (source->state == BAND_CLOSED || source->state == BAND_BROKEN))
			return source;
	}
	return NULL;
}

/* Where the shard is lost, of which nothing is written that would name a band, what is live goes to the delta. */
static int bands_copy(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	struct source *band;
	int result = 0;

	for (uint32_t i = 0; result == 0 && (band = band_next_closed(device, &i)) != NULL; i++)
		if (!sz_shard_is_lost(device, band->band) &&
		    band_live(device, band) * LIVE_SHARE >= sz_band_length(device, band->band))
			result = band_copy(batch, device, band, seal);
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
		if (seal->rows[i].band == band)
			return true;
	for (uint32_t i = 0; i < device->delta_count; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
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
	CLEANUP(sz_delta_free) struct sz_manifest_delta *delta = NULL;
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
		sz_batch_drop(batch, builder.file);
		return 0;
	}
	result = sz_builder_end_delta(&builder, epoch->number, delta);
	seal->changed_sectors += builder.slots;
	if (result == 0)
		seal->delta = TAKE(delta);
	return result;
}

static int hot_write(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_hot_fini) struct hot hot = { 0 };
	int result;

	seal->hot = device->hot_ref;
	if (device->sealing->hot == NULL && !device->index_is_due)
		return 0;
	result = sz_hot_copy(&device->hot, &hot);
	if (result != 0)
		return result;
	if (device->sealing->hot != NULL)
		sz_hot_apply(&hot, device->sealing->hot);
	result = sz_hot_encode(&hot, &payload);
	if (result == 0)
		result = sz_blob_write(batch, device, SZ_KIND_HOT, device->sealing->number,
				       &payload, 1, &seal->hot);
	if (payload.data != NULL)
		sz_wipe(payload.data, payload.length);
	return result;
}

/* Sectors of the bands that were finished in the epoch. */
static uint64_t finished_sectors(struct sz_device *device)
{
	uint64_t sum = 0;
	READ_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < device->shard_count; i++)
		for (uint32_t j = 0; device->shards[i] != NULL && j < SZ_SHARD_BANDS; j++)
			if (device->shards[i]->rows[j].epoch == device->sealing->number)
				sum += device->shards[i]->rows[j].live_sectors;
	return sum;
}

/*
 * A compaction that nobody asked for may fail, for lack of space or of an input that cannot be read now:
 * the seal matters more.
 */
static int compact(struct batch *batch, struct sz_device *device, enum compact_mode mode,
		   struct device_seal *seal)
{
	struct batch own = { .store = batch->store };
	size_t row_count = seal->row_count;
	int result = sz_compact(&own, device, mode, seal);

	if (result == 0) {
		for (size_t i = row_count; i < seal->row_count; i++)
			if (!sz_id_is_none(&seal->rows[i].row.ref.id))
				batch->store->compacted_bytes +=
					sz_band_file_bytes(seal->rows[i].row.data_slots);
		if (mode == COMPACT_FREE && (seal->row_count > row_count || seal->merged_count > 0))
			batch->store->has_freed = true;
		if (seal->merged != NULL)
			batch->store->compacted_bytes += seal->merged->stored_bytes;
		sz_batch_join(batch, &own);
		return 0;
	}
	seal->row_count = row_count;
	seal->merged_count = 0;
	sz_delta_free(&seal->merged);
	sz_batch_abandon(&own);
	return mode == COMPACT_ALL ? result : 0;
}

int sz_device_seal(struct batch *batch, struct sz_device *device, enum compact_mode mode,
		   struct device_seal *seal)
{
	bool has_new_rows;
	int result;

	seal->manifest = device->manifest_ref;
	seal->shards = calloc((size_t)device->shard_count + 1, sizeof(*seal->shards));
	if (seal->shards == NULL)
		return -ENOMEM;
	seal->changed_sectors = finished_sectors(device);
	has_new_rows = seal->changed_sectors > 0;
	result = bands_copy(batch, device, seal);
	for (size_t i = 0; i < seal->row_count; i++)
		seal->changed_sectors += seal->rows[i].row.live_sectors;
	if (result == 0)
		result = delta_write(batch, device, seal);
	if (result == 0)
		result = hot_write(batch, device, seal);
	if (result == 0)
		result = compact(batch, device, mode, seal);
	seal->is_changed = seal->delta != NULL || seal->row_count > 0 || seal->merged_count > 0 ||
			   device->sealing->hot != NULL || has_new_rows || device->index_is_due ||
			   sz_id_is_none(&device->manifest_ref.id);
	if (result == 0 && seal->is_changed)
		result = sz_manifest_write(batch, device, seal);
	return result;
}
