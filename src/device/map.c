/*
 * map: what is where on a device. A sector is what the first of these says [F32]: the live overlay, the
 * overlay of the epoch that is being sealed, the deltas (newest first) that are not folded into its
 * band, the band, zeros. The hot area is in memory.
 */
#include "device/device_internal.h"

#include <assert.h>
#include <errno.h>

uint32_t sz_band_of(const struct sz_device *device, uint64_t sector)
{
	return (uint32_t)(sector / device->store->band_sectors);
}

uint64_t sz_band_base(const struct sz_device *device, uint32_t band)
{
	return (uint64_t)band * device->store->band_sectors;
}

uint32_t sz_band_length(const struct sz_device *device, uint32_t band)
{
	uint64_t left = device->sectors - sz_band_base(device, band);

	return left < device->store->band_sectors ? (uint32_t)left : device->store->band_sectors;
}

bool sz_sector_is_hot(const struct sz_device *device, uint64_t sector)
{
	return sector < HOT_EDGE || sector >= device->sectors - HOT_EDGE;
}

uint32_t sz_hot_index(const struct sz_device *device, uint64_t sector)
{
	return (uint32_t)(sector < HOT_EDGE ? sector : sector - (device->sectors - HOT_SECTORS));
}

uint32_t sz_hot_split(const struct sz_device *device, uint64_t sector, uint64_t count)
{
	uint64_t edge = device->sectors;

	if (sector < HOT_EDGE)
		edge = HOT_EDGE;
	else if (sector < device->sectors - HOT_EDGE)
		edge = device->sectors - HOT_EDGE;
	if (count > edge - sector)
		count = edge - sector;
	return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

static struct shard *shard_of(const struct sz_device *device, uint32_t band)
{
	uint32_t number = band / SZ_SHARD_BANDS;

	return number < device->shard_count ? device->shards[number] : NULL;
}

struct row *sz_row_find(const struct sz_device *device, uint32_t band)
{
	static const struct sz_id none;
	struct shard *shard = shard_of(device, band);
	struct row *row = shard == NULL ? NULL : &shard->rows[band % SZ_SHARD_BANDS];

	return row != NULL && memcmp(&row->ref.id, &none, sizeof(none)) != 0 ? row : NULL;
}

bool sz_shard_is_lost(const struct sz_device *device, uint32_t band)
{
	const struct shard *shard = shard_of(device, band);

	return shard != NULL && shard->is_lost;
}

int sz_row_make(struct sz_device *device, uint32_t band, struct row **row_out)
{
	struct shard **shard = &device->shards[band / SZ_SHARD_BANDS];

	assert(band / SZ_SHARD_BANDS < device->shard_count);
	if (*shard == NULL)
		*shard = calloc(1, sizeof(**shard));
	if (*shard == NULL)
		return -ENOMEM;
	*row_out = &(*shard)->rows[band % SZ_SHARD_BANDS];
	return 0;
}

static bool overlay_has(struct sz_overlay *overlay, uint64_t sector, uint64_t count)
{
	const struct sz_extent *extent = sz_overlay_find(overlay, sector);

	return extent != NULL && extent->sector < sector + count;
}

bool sz_map_has_entries(const struct sz_device *device, uint64_t sector, uint64_t count)
{
	if (overlay_has(&device->live->overlay, sector, count) ||
	    (device->sealing != NULL && overlay_has(&device->sealing->overlay, sector, count)))
		return true;
	for (uint32_t i = 0; i < device->delta_count; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		const struct sz_run *run = sz_runs_find(delta->runs, delta->run_count, sector);

		if (run != NULL && run->sector < sector + count)
			return true;
	}
	return false;
}

/* Narrows *count to before next, which lies behind sector. */
static void narrow(uint64_t sector, uint32_t *count, uint64_t next)
{
	if (next - sector < *count)
		*count = (uint32_t)(next - sector);
}

/* True: the overlay says what the sectors are; false: it says nothing of *count sectors. */
static bool overlay_find(struct epoch *epoch, uint64_t sector, uint32_t *count, struct piece *piece)
{
	const struct sz_extent *extent = sz_overlay_find(&epoch->overlay, sector);
	uint64_t skip;

	if (extent == NULL)
		return false;
	if (extent->sector > sector) {
		narrow(sector, count, extent->sector);
		return false;
	}
	narrow(sector, count, extent->sector + extent->count);
	piece->kind = extent->state == SZ_OVERLAY_TOMBSTONE ? PIECE_ZEROS : PIECE_POISON;
	if (extent->state == SZ_OVERLAY_DATA && epoch->sources[extent->source]->file != NULL) {
		skip = sector - extent->sector;
		piece->kind = PIECE_SOURCE;
		piece->source = sz_source_hold(epoch->sources[extent->source]);
		piece->place = extent->place + skip;
		piece->nonce_tags = extent->nonce_tags + skip * SZ_NONCE_TAG_BYTES;
	}
	return true;
}

bool sz_deltas_find(const struct sz_device *device, uint32_t first, uint32_t end,
		    uint64_t folded_to, uint64_t sector, uint32_t *count, struct piece *piece)
{
	for (uint32_t i = first; i < end; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		const struct sz_run *run;

		if (delta->generation <= folded_to)
			break;
		run = sz_runs_find(delta->runs, delta->run_count, sector);
		if (run == NULL)
			continue;
		if (run->sector > sector) {
			narrow(sector, count, run->sector);
			continue;
		}
		narrow(sector, count, run->sector + run->count);
		piece->kind = PIECE_DELTA;
		piece->ref = delta->delta;
		return true;
	}
	return false;
}

void sz_map_find(const struct sz_device *device, uint64_t sector, uint32_t count,
		 struct piece *piece_out)
{
	uint32_t band = sz_band_of(device, sector);
	const struct row *row;

	count = sz_hot_split(device, sector, count);
	*piece_out = (struct piece){ .sector = sector, .kind = PIECE_ZEROS };
	if (sz_sector_is_hot(device, sector)) {
		piece_out->kind = PIECE_HOT;
		piece_out->count = count;
		return;
	}
	narrow(sector, &count, sz_band_base(device, band) + sz_band_length(device, band));
	row = sz_row_find(device, band);
	if (!overlay_find(device->live, sector, &count, piece_out) &&
	    !(device->sealing != NULL &&
	      overlay_find(device->sealing, sector, &count, piece_out)) &&
	    !sz_deltas_find(device, 0, device->delta_count, row == NULL ? 0 : row->folded_to,
			    sector, &count, piece_out)) {
		if (row != NULL) {
			piece_out->kind = PIECE_BAND;
			piece_out->ref = row->ref;
		} else if (sz_shard_is_lost(device, band)) {
			piece_out->kind = PIECE_POISON;
		}
	}
	piece_out->count = count;
}
