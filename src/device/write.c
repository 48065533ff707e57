/*
 * write: where a write goes, TRIM, flush, and the hot area.
 *
 * Encrypted without a lock; then, under log_lock, it gets its sequence number, its entry in the log and
 * its place in the overlay, so that the three agree on the order. Small pieces are written to the
 * log under that lock too; large ones to reserved slots of a band before it. If the epoch has ended
 * meanwhile, the piece is encrypted once more, for the log of the next one.
 *
 * Of a hot sector only what changes it is written.
 *
 * A full disk fails the write, and nothing else. Any other error of a write is sticky.
 */
#include "device/device_internal.h"

#include <errno.h>

/* What a failure of the host means for the device. */
static int write_failed(struct sz_device *device, int error)
{
	if (is_full(error) || error == -ENOMEM)
		return error == -EDQUOT ? -ENOSPC : error;
	return sz_device_fail(device, error);
}

/* Under log_lock: what was just logged becomes what is read. */
static int map_put(struct sz_device *device, const struct sz_extent *extent,
		   const uint8_t *plaintext)
{
	struct epoch *epoch = device->live;
	struct hot *hot;
	WRITE_SCOPE(&device->map_lock);

	if (!sz_sector_is_hot(device, extent->sector))
		return sz_overlay_insert(&epoch->overlay, extent);
	hot = sz_hot_layer(epoch);
	if (hot == NULL)
		return -ENOMEM;
	if (extent->state == SZ_OVERLAY_DATA)
		sz_hot_write(hot, sz_hot_index(device, extent->sector), (uint32_t)extent->count,
			     plaintext);
	else
		sz_hot_trim(hot, sz_hot_index(device, extent->sector), (uint32_t)extent->count);
	return 0;
}

/* Under log_lock. */
static uint64_t sequence_take(struct sz_device *device)
{
	device->live->is_dirty = true;
	return atomic_fetch_add(&device->store->sequence, 1);
}

/* Logged, but not in the overlay: only reopening can tell again what is where. */
static int map_failed(struct sz_device *device, int result)
{
	return result == 0 ? 0 : sz_device_fail(device, result);
}

/* The log that writes go to now, held; NULL: there is none, the device failed before it got one. */
static struct source *log_hold(struct sz_device *device)
{
	READ_SCOPE(&device->map_lock);
	struct source *log = device->live->log.source;

	return log == NULL ? NULL : sz_source_hold(log);
}

/* *done_out is false if the epoch has ended since log was found. */
static int log_put(struct sz_device *device, struct source *log, struct sz_extent *extent,
		   const uint8_t *plaintext, const uint8_t *ciphertext, bool *done_out)
{
	MUTEX_SCOPE(&device->log_lock);
	struct epoch *epoch = device->live;
	int result;

	*done_out = epoch->log.source == log;
	if (!*done_out)
		return 0;
	extent->source = log->number;
	result = sz_log_append_sectors(epoch, sequence_take(device), extent->sector,
				       (uint32_t)extent->count, ciphertext, extent->nonce_tags,
				       &extent->place);
	if (result != 0)
		return write_failed(device, result);
	return map_failed(device, map_put(device, extent, plaintext));
}

static int write_to_log(struct sz_device *device, uint64_t sector, uint32_t count,
			const uint8_t *plaintext, uint8_t *ciphertext)
{
	uint8_t nonce_tags[LOG_CHUNK * SZ_NONCE_TAG_BYTES];
	struct sz_extent extent = {
		.sector = sector,
		.count = count,
		.state = SZ_OVERLAY_DATA,
		.nonce_tags = nonce_tags,
	};
	bool is_done = false;
	int result = 0;

	while (!is_done && result == 0) {
		CLEANUP(sz_source_drop) struct source *log = log_hold(device);

		if (log == NULL)
			return -EIO;
		result = sz_sectors_seal(log->keys->sector, sector, count, plaintext, ciphertext,
					 nonce_tags);
		if (result == 0)
			result = log_put(device, log, &extent, plaintext, ciphertext, &is_done);
	}
	return result;
}

/* Under log_lock: entries for an extent that is in a band's slots now. */
static int band_put(struct sz_device *device, const struct sz_extent *extent)
{
	for (uint32_t done = 0; done < extent->count;) {
		uint32_t left = (uint32_t)extent->count - done;
		struct sz_log_entry entry = {
			.type = SZ_LOG_BAND_SECTORS,
			.sequence = sequence_take(device),
			.sector = extent->sector + done,
			.count = left < LOG_CHUNK ? left : LOG_CHUNK,
			.place = (uint32_t)extent->place - 1 + done,
			.nonce_tags = extent->nonce_tags + (size_t)done * SZ_NONCE_TAG_BYTES,
		};
		int result = sz_log_append(device->live, &entry);

		if (result != 0)
			return write_failed(device, result);
		done += (uint32_t)entry.count;
	}
	return map_failed(device, map_put(device, extent, NULL));
}

/* *done_out is false if the epoch ended before: the slots stay unused. */
static int write_to_band(struct sz_device *device, const struct slots *slots, uint64_t sector,
			 uint32_t count, const uint8_t *plaintext, uint8_t *ciphertext,
			 bool *done_out)
{
	struct source *band = slots->band;
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	const struct sz_extent extent = {
		.sector = sector,
		.count = count,
		.state = SZ_OVERLAY_DATA,
		.source = band->number,
		.place = 1 + (uint64_t)slots->first,
		.nonce_tags = nonce_tags,
	};
	int result = sz_sectors_seal(band->keys->sector, sector, count, plaintext, ciphertext,
				     nonce_tags);
	int released;

	if (result == 0)
		result = sz_file_write(band->file, ciphertext, (size_t)count * SZ_SECTOR_BYTES,
				       (1 + (uint64_t)slots->first) * SECTOR);
	MUTEX_SCOPE(&device->log_lock);
	*done_out = slots->epoch == device->live;
	if (result != 0) { /* slots are written in part: not for a sealed file */
		if (band->state == BAND_OPEN)
			band->state = BAND_BROKEN;
		result = write_failed(device, result);
	} else if (*done_out) {
		result = band_put(device, &extent);
	}
	released = sz_band_release(device, slots);
	if (released != 0 && !is_full(released) && released != -ENOMEM)
		return write_failed(device, released);
	return result; /* a band that could not be finished for lack of space is copied later */
}

static int reserve(struct sz_device *device, uint64_t sector, uint32_t count, struct slots *slots)
{
	MUTEX_SCOPE(&device->log_lock);

	if (device->live->log.source == NULL)
		return -EIO;
	return sz_band_reserve(device, sector, count, slots);
}

/* At most IO_SECTORS, in one band, hot or not as a whole. */
static int write_piece(struct sz_device *device, uint64_t sector, uint32_t count,
		       const uint8_t *plaintext, uint8_t *ciphertext)
{
	struct slots slots = { 0 };
	bool is_done = false;
	int result = 0;

	if (count >= BAND_PIECE && !sz_sector_is_hot(device, sector))
		result = reserve(device, sector, count, &slots);
	if (result != 0)
		return write_failed(device, result);
	if (slots.band != NULL)
		result = write_to_band(device, &slots, sector, count, plaintext, ciphertext,
				       &is_done);
	if (is_done || result != 0)
		return result;
	for (uint32_t done = 0; done < count && result == 0;) {
		uint32_t some = count - done < LOG_CHUNK ? count - done : LOG_CHUNK;

		result = write_to_log(device, sector + done, some, plaintext + done * SECTOR,
				      ciphertext);
		done += some;
	}
	return result;
}

static uint32_t piece_length(const struct sz_device *device, uint64_t sector, uint32_t count)
{
	uint32_t most = count < IO_SECTORS ? count : IO_SECTORS;
	uint32_t band = sz_band_of(device, sector);
	uint64_t band_left = sz_band_base(device, band) + sz_band_length(device, band) - sector;

	most = sz_hot_split(device, sector, most);
	return band_left < most ? (uint32_t)band_left : most;
}

static int change_check(struct sz_device *device, uint64_t sector, uint64_t count)
{
	if (sector > device->sectors || count > device->sectors - sector)
		return -EINVAL;
	if (device->store->read_only)
		return -EROFS;
	return sz_device_check(device);
}

static int begin(struct sz_store *store)
{
	int result = atomic_load(&store->has_begun) ? 0 : sz_epoch_begin(store);

	return result == -EDQUOT ? -ENOSPC : result;
}

/* An overlay that has grown large is sealed by whoever meets it first. */
static void seal_if_large(struct sz_device *device)
{
	bool is_large;

	{
		READ_SCOPE(&device->map_lock);

		is_large = device->live->overlay.data_sectors > EPOCH_SECTORS_MAX ||
			   device->live->overlay.extent_count > EPOCH_SECTORS_MAX;
	}
	if (is_large)
		(void)!sz_seal_run(device->store, SEAL_CHANGES, NULL);
}

static int write_pieces(struct sz_device *device, uint64_t sector, uint32_t count,
			const uint8_t *plaintext)
{
	CLEANUP_FREE uint8_t *ciphertext = NULL;
	int result = begin(device->store);

	if (result == 0) {
		/* Aligned: bands are written past the page cache. */
		ciphertext = aligned_alloc(SECTOR, (count < IO_SECTORS ? count : IO_SECTORS) *
							   (size_t)SZ_SECTOR_BYTES);
		result = ciphertext == NULL ? -ENOMEM : 0;
	}
	while (count > 0 && result == 0) {
		uint32_t some = piece_length(device, sector, count);
		bool is_same = false;

		/* Of a label that ZFS writes anew little is new. */
		if (sz_sector_is_hot(device, sector))
			some = sz_hot_alike(device, sector, some, plaintext, &is_same);
		if (!is_same)
			result = write_piece(device, sector, some, plaintext, ciphertext);
		sector += some;
		count -= some;
		plaintext += some * SECTOR;
	}
	return result;
}

int sz_device_write(struct sz_device *device, uint64_t sector, uint32_t count, const void *buffer)
{
	int result = change_check(device, sector, count);

	if (result == 0 && count > 0)
		result = write_pieces(device, sector, count, buffer);
	if (result == 0)
		seal_if_large(device);
	return result;
}

static int trim_piece(struct sz_device *device, uint64_t sector, uint64_t count)
{
	struct sz_extent extent = { .sector = sector,
				    .count = count,
				    .state = SZ_OVERLAY_TOMBSTONE };
	struct sz_log_entry entry = { .type = SZ_LOG_TRIM, .sector = sector, .count = count };
	MUTEX_SCOPE(&device->log_lock);
	int result;

	if (device->live->log.source == NULL)
		return -EIO;
	entry.sequence = sequence_take(device);
	result = sz_log_append(device->live, &entry);
	if (result != 0)
		return write_failed(device, result);
	return map_failed(device, map_put(device, &extent, NULL));
}

int sz_device_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	int result = change_check(device, sector, count);

	if (result == 0 && count > 0)
		result = begin(device->store);
	while (count > 0 && result == 0) {
		uint32_t some = sz_hot_split(device, sector, count);

		result = trim_piece(device, sector, some);
		sector += some;
		count -= some;
	}
	if (result == 0)
		seal_if_large(device);
	return result;
}

static int flush(struct sz_device *device)
{
	struct epoch *sealing;
	struct epoch *live;
	int result = sz_device_check(device);
	MUTEX_SCOPE(&device->flush_lock);

	if (device->store->read_only || result != 0)
		return result;
	{
		READ_SCOPE(&device->map_lock);

		sealing = device->sealing; /* it is not freed without flush_lock */
		live = device->live;
	}
	/* What was acknowledged in this epoch stands on all of the one before. */
	if (sealing != NULL)
		result = sz_epoch_commit(device, sealing);
	return result != 0 ? result : sz_epoch_commit(device, live);
}

int sz_device_flush(struct sz_device *device)
{
	unsigned int waits = 0;

	for (;;) {
		uint64_t since_ns = sz_clock_ns();
		int result = flush(device);

		if (result != -ENOSPC)
			return result;
		if (sz_device_make_room(device, since_ns) == 0)
			continue;
		/* ZFS ignores it: what was not flushed must not be taken for flushed. */
		if (waits++ == NO_SPACE_TRIES)
			return sz_device_fail(device, result);
		sz_sleep_ms(NO_SPACE_WAIT_MS);
	}
}
