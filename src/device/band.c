/*
 * band: bulk data goes straight into the file that it will stay in. A position that no object, delta
 * or overlay says anything about may open a band; its slots are filled in the order of arrival.
 *
 *   state     takes sectors   what it holds is found by   ends as
 *   OPEN      yes             overlay                     FINISHED or CLOSED
 *   CLOSED    no              overlay                     copied by the seal: too little of it is live
 *   BROKEN    no              overlay                     copied by the seal: its tail could not be written
 *   FINISHED  no              its row                     renamed out of live/
 *
 * 1. Slots are reserved under log_lock and written without it: writers of one band do not wait.
 * 2. A band is finished when it takes no more and no reserved slot is still being written.
 * 3. An open band's sectors had no entry in any delta when they came; so deltas go before the
 *    band's object, and its folded_to is 0.
 */
#include "device/device_internal.h"

#include <errno.h>

static struct source *band_find(const struct epoch *epoch, uint32_t band)
{
	for (uint32_t i = 0; i < epoch->source_count; i++) {
		struct source *source = epoch->sources[i];

		if (source != NULL && source->state != SOURCE_LOG && source->band == band)
			return source;
	}
	return NULL;
}

void sz_band_to_row(struct sz_device *device, struct epoch *epoch, struct source *band,
		    const struct row *row)
{
	uint64_t base = sz_band_base(device, band->band);
	uint32_t length = sz_band_length(device, band->band);
	struct row *slot = NULL;

	/* The shard was made before anything was written: this cannot fail. */
	if (sz_row_make(device, band->band, &slot) != 0)
		abort();
	sz_overlay_remove_source(&epoch->overlay, base, length, band->number);
	*slot = *row;
	band->state = BAND_FINISHED;
}

/* The entries of a live band that are not superseded. Under log_lock or map_lock. */
static int band_entries(const struct sz_device *device, struct epoch *epoch,
			const struct source *band, struct entries *entries)
{
	uint64_t base = sz_band_base(device, band->band);
	uint64_t end = base + sz_band_length(device, band->band);
	int result = 0;

	for (const struct sz_extent *extent = sz_overlay_find(&epoch->overlay, base);
	     extent != NULL && extent->sector < end && result == 0;
	     extent = sz_overlay_next(extent)) {
		if (extent->state != SZ_OVERLAY_DATA || extent->source != band->number)
			continue;
		for (uint64_t i = 0; i < extent->count && result == 0; i++) {
			struct sz_index_entry entry = {
				.sector = extent->sector + i,
				.state = SZ_SECTOR_DATA,
				.slot_or_count = (uint32_t)(extent->place + i - 1),
			};

			memcpy(entry.nonce_tag, extent->nonce_tags + i * SZ_NONCE_TAG_BYTES,
			       SZ_NONCE_TAG_BYTES);
			result = sz_entries_add(entries, &entry);
		}
	}
	return result;
}

static void band_header(const struct sz_device *device, const struct source *band,
			uint64_t generation, struct sz_header *header)
{
	sz_header_init(device->store, device, SZ_KIND_BAND, generation, header);
	header->id = band->id;
	memcpy(header->salt, band->salt, sizeof(band->salt));
	header->base_sector = sz_band_base(device, band->band);
	header->sector_count = sz_band_length(device, band->band);
}

/* Writes what comes behind the slots. No id in *row_out: too little of it is live to be a band. */
static int band_write(struct sz_device *device, struct epoch *epoch, const struct source *band,
		      struct row *row_out)
{
	CLEANUP(sz_entries_free) struct entries entries = { 0 };
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	int result = header == NULL ? -ENOMEM : band_entries(device, epoch, band, &entries);

	*row_out = (struct row){ .epoch = epoch->number };
	if (result != 0 || entries.count * LIVE_SHARE < sz_band_length(device, band->band))
		return result;
	band_header(device, band, epoch->number, header);
	header->data_slots = sz_band_slots(band->next_slot, device->store->band_sectors);
	result = sz_object_finish(band->file, device->store->keys, band->keys, header, &entries,
				  band->next_slot, row_out->ref.digest);
	row_out->ref.id = band->id;
	row_out->live_sectors = (uint32_t)entries.count;
	row_out->data_slots = header->data_slots;
	return result;
}

/* Under log_lock: the object that was written is what is read. */
static int band_publish(struct sz_device *device, struct epoch *epoch, struct source *band,
			const struct row *row)
{
	struct row *unused;
	WRITE_SCOPE(&device->map_lock);
	int result = sz_row_make(device, band->band, &unused);

	if (result != 0)
		return result;
	band->is_dirty = true;
	memcpy(band->digest, row->ref.digest, sizeof(band->digest));
	sz_band_to_row(device, epoch, band, row);
	return 0;
}

/* In a live epoch, under log_lock: makes an object of a band, if it is live enough; else it is CLOSED. */
static int band_finish(struct sz_device *device, struct epoch *epoch, struct source *band)
{
	struct sz_log_entry entry = { .type = SZ_LOG_BAND_FINISHED, .sector = band->band };
	struct row row;
	int result;

	band->state = BAND_CLOSED;
	result = band_write(device, epoch, band, &row);
	if (result == 0 && sz_id_is_none(&row.ref.id))
		return 0;
	memcpy(entry.digest, row.ref.digest, sizeof(entry.digest));
	if (result == 0)
		result = sz_log_append(epoch, &entry);
	if (result == 0)
		result = band_publish(device, epoch, band, &row);
	if (result != 0)
		band->state = BAND_BROKEN;
	return result;
}

/*
 * Under flush_lock, which is enough for a log that has ended: says that a band is an object, unless the last commit record,
 * behind which nothing comes, was begun. Recovery copies what it is not told of.
 */
static void finished_note(struct sz_device *device, const struct source *band,
			  const struct row *row)
{
	struct epoch *epoch = device->sealing;
	struct sz_log_entry entry = { .type = SZ_LOG_BAND_FINISHED, .sector = band->band };
	int result;

	if (epoch->log.source == NULL || epoch->is_complete || epoch->has_unsynced_commit)
		return;
	memcpy(entry.digest, row->ref.digest, sizeof(entry.digest));
	result = sz_log_append(epoch, &entry);
	if (result != 0 && !is_full(result) && result != -ENOMEM)
		(void)sz_device_fail(device, result);
}

/* What was written of a band, with this result, becomes what is read; false: it stays to be copied. */
static bool band_settle(struct sz_device *device, struct source *band, const struct row *row,
			int result)
{
	MUTEX_SCOPE(&device->log_lock);

	band->state = BAND_CLOSED;
	if (result == 0 && sz_id_is_none(&row->ref.id))
		return false;
	if (result == 0)
		result = band_publish(device, device->sealing, band, row);
	if (result != 0) /* what is wrong shows when it is copied */
		band->state = BAND_BROKEN;
	return result == 0;
}

/* band_finish when the epoch has ended: without log_lock, for writers go on. If its log takes no more, the root will tell. */
static void band_seal(struct sz_device *device, struct source *band)
{
	struct row row;
	int result = band_write(device, device->sealing, band, &row);
	MUTEX_SCOPE(&device->flush_lock);

	if (band_settle(device, band, &row, result))
		finished_note(device, band, &row);
}

/* The first band from *number on that still takes sectors, when nobody writes to it any more. */
static struct source *band_next_open(struct sz_device *device, uint32_t *number)
{
	struct epoch *epoch = device->sealing;
	MUTEX_SCOPE(&device->log_lock);

	for (; *number < epoch->source_count; (*number)++) {
		struct source *source = epoch->sources[*number];

		while (source != NULL && source->in_flight > 0)
			(void)pthread_cond_wait(&device->band_idle, &device->log_lock);
		if (source != NULL && source->state == BAND_OPEN)
			return source;
	}
	return NULL;
}

void sz_bands_seal(struct sz_device *device)
{
	struct source *band;

	for (uint32_t i = 0; (band = band_next_open(device, &i)) != NULL; i++)
		band_seal(device, band);
}

/*
 * Is there room for what comes behind the slots, and for what a seal writes besides? A band whose end cannot be written has
 * to be copied as a whole; one that stays open is finished when there is room again.
 */
static bool end_fits(const struct sz_device *device, const struct source *band)
{
	const struct sz_store *store = device->store;
	uint64_t slots = sz_band_slots(band->next_slot, store->band_sectors);
	uint64_t pages = slots - band->next_slot + slots / SZ_LEAF_ENTRIES + 3 +
			 (uint64_t)SEAL_PAGES * store->device_count;
	struct sz_space space;

	return sz_backend_space(store->folders[device->folder].backend, &space) != 0 ||
	       space.free_bytes >= pages * SECTOR;
}

/* Nearly full, and nothing has come since the last flush: what is written in order fills it. */
static bool is_left(const struct sz_device *device, const struct epoch *epoch,
		    const struct source *band)
{
	uint32_t full = sz_band_length(device, band->band);

	return band->next_slot >= full - full / FULL_SHARE && band->used_at < epoch->committed;
}

int sz_bands_finish(struct sz_device *device, struct epoch *epoch)
{
	uint32_t left = FINISHED_MAX;
	int result = 0;

	for (uint32_t i = 0; i < epoch->source_count && left > 0 && result == 0; i++) {
		struct source *band = epoch->sources[i];

		if (band != NULL && band->state == BAND_OPEN && band->in_flight == 0 &&
		    is_left(device, epoch, band) && end_fits(device, band)) {
			result = band_finish(device, epoch, band);
			left--;
		}
	}
	/* For lack of space: that one is copied by the seal, and the others may still be finished then. */
	return is_full(result) || result == -ENOMEM ? 0 : result;
}

/* Makes room for one more open band: the least used one that nobody writes to. */
static int band_evict(struct sz_device *device, struct epoch *epoch)
{
	struct source *least = NULL;
	uint32_t open = 0;

	for (uint32_t i = 0; i < epoch->source_count; i++) {
		struct source *source = epoch->sources[i];

		if (source == NULL || source->state != BAND_OPEN)
			continue;
		open++;
		if (source->in_flight == 0 && (least == NULL || source->used_at < least->used_at))
			least = source;
	}
	if (open < OPEN_BANDS_MAX)
		return 0;
	return least == NULL ? -EAGAIN : band_finish(device, epoch, least);
}

static int band_create(struct sz_device *device, uint32_t number, struct source **band_out)
{
	struct sz_store *store = device->store;
	struct epoch *epoch = device->live;
	struct sz_backend *backend = store->folders[device->folder].backend;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP(sz_source_drop) struct source *band = NULL;
	struct sz_log_entry entry = { .type = SZ_LOG_BAND_OPEN, .sector = number };
	char name[SZ_OBJECT_NAME_BYTES];
	int result;

	if (header == NULL)
		return -ENOMEM;
	sz_header_init(store, device, SZ_KIND_BAND, epoch->number, header);
	band = sz_source_make(store, &header->id, BAND_OPEN);
	if (band == NULL)
		return -ENOMEM;
	band->band = number;
	band->folder = device->folder;
	memcpy(band->salt, header->salt, sizeof(band->salt));
	band_header(device, band, epoch->number, header);
	sz_object_keys_derive(store->keys, header, band->keys);
	entry.id = band->id;
	memcpy(entry.salt, band->salt, sizeof(entry.salt));
	sz_name_encode(store->keys, &band->id, name);
	result = sz_backend_create(backend, SZ_LIVE, name, &band->file);
	if (result != 0)
		return result;
	result = sz_catalog_add(store, &band->id, device->folder, SZ_LIVE, 0);
	if (result == 0)
		result = sz_log_append(epoch, &entry);
	if (result == 0) {
		WRITE_SCOPE(&device->map_lock);

		result = sz_epoch_add_source(epoch, band);
	}
	if (result != 0) {
		sz_catalog_drop(store, &band->id, device->folder, SZ_LIVE);
		(void)!sz_backend_remove(backend, SZ_LIVE, name);
		return result;
	}
	epoch->has_new_names = true;
	*band_out = TAKE(band);
	return 0;
}

int sz_band_reserve(struct sz_device *device, uint64_t sector, uint32_t count,
		    struct slots *slots_out)
{
	struct epoch *epoch = device->live;
	uint32_t number = sz_band_of(device, sector);
	struct source *band = band_find(epoch, number);
	int result;

	*slots_out = (struct slots){ .epoch = epoch };
	if (band != NULL && band->state != BAND_OPEN)
		return 0;
	/* A band of the epoch that is being sealed is an object soon: there are never two of a number. */
	if (device->sealing != NULL && band_find(device->sealing, number) != NULL)
		return 0;
	if (band == NULL &&
	    (sz_row_find(device, number) != NULL || sz_shard_is_lost(device, number)))
		return 0;
	if (sz_map_has_entries(device, sector, count))
		return 0;
	if (band == NULL) {
		result = band_evict(device, epoch);
		if (result == 0)
			result = band_create(device, number, &band);
		if (is_full(result))
			return result;
		if (result != 0 || band == NULL)
			return 0; /* the log will say if it is worse than that */
	}
	if (count > device->store->band_sectors - band->next_slot) {
		if (band->in_flight == 0)
			return band_finish(device, epoch, band);
		return 0;
	}
	slots_out->band = band;
	slots_out->first = band->next_slot;
	band->next_slot += count;
	band->in_flight++;
	band->used_at = atomic_load(&device->store->sequence);
	return 0;
}

int sz_band_release(struct sz_device *device, const struct slots *slots)
{
	struct source *band = slots->band;

	band->is_dirty = true;
	band->in_flight--;
	if (slots->epoch != device->live) {
		if (band->in_flight == 0)
			(void)pthread_cond_broadcast(&device->band_idle);
		return 0;
	}
	if (band->in_flight > 0 || band->state != BAND_OPEN ||
	    band->next_slot < sz_band_length(device, band->band))
		return 0;
	return band_finish(device, slots->epoch, band);
}

/* Pages authenticate one by one; together they are those that the header counts. */
static int pages_verify(const struct sz_header *header, const struct sz_object_keys *keys,
			struct sz_file *file)
{
	CLEANUP_BYTES struct sz_bytes tags = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];

	for (uint32_t i = 0; i < header->page_count; i++) {
		uint8_t page[SZ_PAGE_BYTES];
		uint8_t payload[SZ_PAGE_PAYLOAD];
		size_t done;
		int result = sz_read_retried(file, page, sizeof(page),
					     (1 + (uint64_t)header->data_slots + i) * SZ_PAGE_BYTES,
					     &done);

		if (result != 0)
			return result;
		if (done < sizeof(page) ||
		    (i < header->leaf_count && sz_page_open(keys, i, page, payload) != 0))
			return -EBADMSG;
		result = sz_bytes_append(&tags, page + SZ_PAGE_BYTES - SZ_X_TAG_BYTES,
					 SZ_X_TAG_BYTES);
		if (result != 0)
			return result;
	}
	sz_digest(tags.data, tags.length, digest);
	return sz_equal(digest, header->pages_digest, sizeof(digest)) ? 0 : -EBADMSG;
}

int sz_band_verify(const struct sz_device *device, struct sz_file *file, struct row *row)
{
	struct sz_store *store = device->store;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	struct sz_object_keys *keys;
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t trailer[SZ_TRAILER_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	if (result != 0)
		return result;
	if (header == NULL)
		return -ENOMEM;
	if (done < sizeof(page))
		return -EBADMSG;
	sz_header_digest(page, digest);
	if (!sz_equal(digest, row->ref.digest, sizeof(digest)) ||
	    sz_header_decode(store->keys, page, header) != 0)
		return -EBADMSG;
	result = sz_read_retried(file, trailer, sizeof(trailer),
				 header->file_bytes - SZ_TRAILER_BYTES, &done);
	if (result != 0)
		return result;
	keys = sz_key_slab_take(&store->slab);
	if (keys == NULL)
		return -ENOMEM;
	sz_object_keys_derive(store->keys, header, keys);
	result = done < sizeof(trailer) ? -EBADMSG : sz_trailer_open(keys, page, trailer);
	if (result == 0)
		result = pages_verify(header, keys, file);
	sz_key_slab_give(&store->slab, keys);
	row->live_sectors = (uint32_t)header->entry_count;
	row->data_slots = header->data_slots;
	row->folded_to = header->folded_to;
	return result;
}
