/*
 * manifest: a device's index pages to memory, and back to disk at a seal. What is unchanged is referred
 * to again, not written again.
 *
 * A copy of each stands on three devices. Where all copies of a part are lost, what it says is not
 * known: a lost manifest makes the device MISSING, a lost shard makes its bands POISON, a lost sector list
 * is made anew from the delta, or poisons all that nothing newer covers.
 */
#include "device/device_internal.h"

#include <assert.h>
#include <errno.h>

void sz_delta_free(struct sz_manifest_delta **delta)
{
	if (*delta == NULL)
		return;
	free((*delta)->runs);
	free(*delta);
	*delta = NULL;
}

static bool ref_is_none(const struct sz_ref *ref)
{
	static const struct sz_id none;

	return memcmp(&ref->id, &none, sizeof(none)) == 0;
}

static int shard_load(struct sz_device *device, const struct sz_manifest_shard *from)
{
	struct sz_store *store = device->store;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	struct row *row;
	int result;

	if (header == NULL)
		return -ENOMEM;
	if (from->number >= device->shard_count)
		return -EUCLEAN;
	result = sz_row_make(device, from->number * SZ_SHARD_BANDS, &row);
	if (result != 0)
		return result;
	device->shards[from->number]->ref = from->shard;
	result = sz_blob_read(store, &from->shard, header, &payload);
	if (result == -EBADMSG) {
		device->shards[from->number]->is_lost = true;
		return 0;
	}
	if (result == 0)
		result = sz_shard_decode(payload.data, payload.length, &shard);
	if (result != 0)
		return result;
	if (shard.number != from->number)
		return -EUCLEAN;
	for (uint32_t i = 0; i < shard.band_count; i++) {
		const struct sz_shard_band *band = &shard.bands[i];

		if (sz_band_base(device, band->band) >= device->sectors)
			return -EUCLEAN;
		row = &device->shards[from->number]->rows[band->band % SZ_SHARD_BANDS];
		row->ref = band->ref;
		row->folded_to = band->folded_to;
		row->live_sectors = band->live_sectors;
		row->data_slots = band->data_slots;
	}
	return 0;
}

static int run_add(struct sz_bytes *runs, uint64_t sector, uint64_t count)
{
	struct sz_run run = { sector, count };
	struct sz_run *last =
		runs->length == 0
			? NULL
			: (struct sz_run *)(void *)(runs->data + runs->length - sizeof(run));

	if (last != NULL && last->sector + last->count == sector) {
		last->count += count;
		return 0;
	}
	return sz_bytes_append(runs, &run, sizeof(run));
}

static void runs_take(struct sz_bytes *runs, struct sz_manifest_delta *delta)
{
	free(delta->runs);
	delta->run_count = (uint32_t)(runs->length / sizeof(struct sz_run));
	delta->runs = (struct sz_run *)(void *)TAKE(runs->data);
	*runs = (struct sz_bytes){ 0 };
}

/* The list is lost: the delta itself knows its sectors, unless it is lost too. */
static int list_rebuild(struct sz_device *device, struct sz_manifest_delta *delta)
{
	CLEANUP_BYTES struct sz_bytes runs = { 0 };
	uint8_t nonce_tags[SZ_LEAF_ENTRIES * SZ_NONCE_TAG_BYTES];
	struct object *object;
	uint64_t sector = 0;
	int result = sz_object_get(device->store, device, &delta->delta, &object);

	if (result == -EBADMSG) {
		result = run_add(&runs, 0, device->sectors);
		if (result == 0)
			runs_take(&runs, delta);
		return result;
	}
	while (sector < device->sectors && result == 0) {
		struct object_run run = { .nonce_tags = nonce_tags };

		result = sz_object_find(object, sector, SZ_LEAF_ENTRIES, &run);
		if (result == 0 && run.state != SZ_SECTOR_ABSENT)
			result = run_add(&runs, sector, run.count);
		sector += run.count;
	}
	sz_object_put(device->store, &object);
	if (result == 0)
		runs_take(&runs, delta);
	return result;
}

static int list_load(struct sz_device *device, struct sz_manifest_delta *delta)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result;

	if (delta->list_is_inline)
		return 0;
	if (header == NULL)
		return -ENOMEM;
	result = sz_blob_read(device->store, &delta->list, header, &payload);
	if (result == 0)
		return sz_list_decode(payload.data, payload.length, &delta->runs,
				      &delta->run_count);
	return result == -EBADMSG ? list_rebuild(device, delta) : result;
}

static int delta_load(struct sz_device *device, struct sz_manifest_delta *from)
{
	CLEANUP(sz_delta_free) struct sz_manifest_delta *delta = calloc(1, sizeof(*delta));
	int result;

	if (delta == NULL)
		return -ENOMEM;
	*delta = *from;
	from->runs = NULL; /* taken over */
	from->run_count = 0;
	result = list_load(device, delta);
	if (result == 0)
		device->deltas[device->delta_count++] = TAKE(delta);
	return result;
}

static int hot_load(struct sz_device *device)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result;

	if (header == NULL)
		return -ENOMEM;
	if (ref_is_none(&device->hot_ref) || device->folder == NO_DEVICE)
		return 0;
	result = sz_blob_read(device->store, &device->hot_ref, header, &payload);
	if (result == 0)
		result = sz_hot_decode(payload.data, payload.length, &device->hot);
	if (payload.data != NULL)
		sz_wipe(payload.data, payload.length);
	if (result == -EBADMSG) {
		memset(device->hot.poison, 0xff, sizeof(device->hot.poison));
		return 0;
	}
	return result;
}

int sz_manifest_load(struct sz_device *device)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	int result;

	if (header == NULL)
		return -ENOMEM;
	result = sz_blob_read(device->store, &device->manifest_ref, header, &payload);
	if (result == 0)
		result = sz_manifest_decode(payload.data, payload.length, &manifest);
	if (result != 0)
		return result;
	if (memcmp(manifest.device_id, device->id, sizeof(device->id)) != 0)
		return -EUCLEAN;
	device->hot_ref = manifest.hot;
	device->deltas =
		calloc((size_t)manifest.delta_count + 1, sizeof(struct sz_manifest_delta *));
	if (device->deltas == NULL)
		return -ENOMEM;
	result = hot_load(device);
	for (uint32_t i = 0; i < manifest.shard_count && result == 0; i++)
		result = shard_load(device, &manifest.shards[i]);
	for (uint32_t i = 0; i < manifest.delta_count && result == 0; i++)
		result = delta_load(device, &manifest.deltas[i]);
	return result;
}

static const struct row *new_row_of(const struct device_seal *seal, uint32_t band)
{
	for (size_t i = 0; i < seal->row_count; i++)
		if (seal->rows[i].band == band)
			return &seal->rows[i].row;
	return NULL;
}

/* The bands of a shard as they are in the epoch that is being sealed. True: some are new. */
static bool shard_collect(struct sz_device *device, struct device_seal *seal,
			  struct sz_shard *shard)
{
	uint64_t epoch = device->sealing->number;
	bool is_changed = false;
	READ_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < SZ_SHARD_BANDS; i++) {
		uint32_t band = shard->number * SZ_SHARD_BANDS + i;
		const struct row *row = &device->shards[shard->number]->rows[i];
		const struct row *new_row = new_row_of(seal, band);

		if (new_row != NULL)
			row = new_row;
		if (row->epoch > epoch)
			continue;
		is_changed = is_changed || row->epoch == epoch;
		if (ref_is_none(&row->ref))
			continue;
		seal->object_count++;
		seal->stored_bytes += (1 + (uint64_t)row->data_slots +
				       DIV_ROUND_UP(row->data_slots, SZ_LEAF_ENTRIES)) *
					      SZ_PAGE_BYTES +
				      SZ_TRAILER_BYTES;
		shard->bands[shard->band_count++] = (struct sz_shard_band){
			.band = band,
			.ref = row->ref,
			.folded_to = row->folded_to,
			.live_sectors = row->live_sectors,
			.data_slots = row->data_slots,
		};
	}
	return is_changed;
}

/* Writes a shard if it is changed; seal->shards says then where. */
static int shard_write(struct batch *batch, struct sz_device *device, uint32_t number,
		       struct device_seal *seal)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	struct sz_shard_band bands[SZ_SHARD_BANDS];
	struct sz_shard shard = { .number = number, .bands = bands };
	int result;

	{
		READ_SCOPE(&device->map_lock);

		if (device->shards[number] == NULL)
			return 0;
		seal->shards[number] = device->shards[number]->ref;
		if (device->shards[number]->is_lost)
			return 0;
	}
	if (!shard_collect(device, seal, &shard) && !device->index_is_due)
		return 0;
	result = sz_shard_encode(&shard, &payload);
	if (result == 0)
		result = sz_blob_write(batch, device, SZ_KIND_INDEX, device->sealing->number,
				       &payload, INDEX_COPIES, &seal->shards[number]);
	return result;
}

int sz_list_write(struct batch *batch, const struct sz_device *device, uint64_t generation,
		  struct sz_manifest_delta *delta)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result = sz_list_encode(delta->runs, delta->run_count, &payload);

	delta->list_is_inline = payload.length <= SZ_LIST_INLINE;
	if (result == 0 && !delta->list_is_inline)
		result = sz_blob_write(batch, device, SZ_KIND_INDEX, generation, &payload,
				       INDEX_COPIES, &delta->list);
	return result;
}

int sz_manifest_write(struct batch *batch, struct sz_device *device, struct device_seal *seal)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_FREE struct sz_manifest_shard *shards =
		calloc((size_t)device->shard_count + 1, sizeof(*shards));
	CLEANUP_FREE struct sz_manifest_delta *deltas =
		calloc((size_t)device->delta_count + 2, sizeof(*deltas));
	struct sz_manifest manifest = {
		.generation = device->sealing->number,
		.sectors = device->sectors,
		.band_sectors = device->store->band_sectors,
		.device_count = device->store->device_count,
		.parity = (uint8_t)device->store->parity,
		.hot = seal->hot,
		.shards = shards,
		.deltas = deltas,
	};
	int result = 0;

	if (shards == NULL || deltas == NULL)
		return -ENOMEM;
	memcpy(manifest.device_id, device->id, sizeof(manifest.device_id));
	for (uint32_t i = 0; i < device->shard_count && result == 0; i++) {
		result = shard_write(batch, device, i, seal);
		if (!ref_is_none(&seal->shards[i]))
			shards[manifest.shard_count++] =
				(struct sz_manifest_shard){ i, seal->shards[i] };
	}
	if (seal->delta != NULL && result == 0) {
		result = sz_list_write(batch, device, manifest.generation, seal->delta);
		deltas[manifest.delta_count++] = *seal->delta;
	}
	if (seal->merged != NULL && result == 0) {
		result = sz_list_write(batch, device, manifest.generation, seal->merged);
		deltas[manifest.delta_count++] = *seal->merged;
	}
	for (uint32_t i = seal->merged_count; i < device->delta_count; i++)
		deltas[manifest.delta_count++] = *device->deltas[i];
	for (uint32_t i = 0; i < manifest.delta_count; i++) {
		seal->object_count++;
		seal->stored_bytes += deltas[i].stored_bytes;
	}
	if (result == 0)
		result = sz_manifest_encode(&manifest, &payload);
	if (result == 0)
		result = sz_blob_write(batch, device, SZ_KIND_INDEX, device->sealing->number,
				       &payload, INDEX_COPIES, &seal->manifest);
	return result;
}
