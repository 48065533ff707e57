/*
 * manifest: the index pages of a device: its manifest and shards [F22] [F23].
 *
 * A manifest names everything that a device holds in a generation: shards (which band is which
 * object), deltas with what they cover, the hot image. What has not changed is named again, not
 * written again.
 */
#include "format_internal.h"

#include <errno.h>

#define REF_BYTES         (SZ_ID_BYTES + SZ_DIGEST_BYTES)
#define SHARD_ENTRY_BYTES (4 + REF_BYTES)
#define DELTA_BYTES_MIN   (8 + REF_BYTES + 8 + 8 + 1 + 1)
#define BAND_BYTES        (4 + REF_BYTES + 8 + 4 + 4)

static int delta_put(struct sz_bytes *bytes, const struct sz_manifest_delta *delta)
{
	int result = sz_bytes_append_le(bytes, delta->generation, 8);

	if (result == 0)
		result = sz_ref_put(bytes, &delta->delta);
	if (result == 0)
		result = sz_bytes_append_le(bytes, delta->sector_count, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, delta->stored_bytes, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, delta->list_is_inline, 1);
	if (result != 0)
		return result;
	return delta->list_is_inline ? sz_runs_put(bytes, delta->runs, delta->run_count)
				     : sz_ref_put(bytes, &delta->list);
}

int sz_manifest_encode(const struct sz_manifest *manifest, struct sz_bytes *payload_out)
{
	int result = sz_bytes_append_le(payload_out, SZ_INDEX_MANIFEST, 4);

	if (result == 0)
		result = sz_bytes_append(payload_out, manifest->device_id,
					 sizeof(manifest->device_id));
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->generation, 8);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->sectors, 8);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->band_sectors, 4);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->device_count, 4);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->parity, 1);
	if (result == 0)
		result = sz_ref_put(payload_out, &manifest->hot);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->shard_count, 4);
	for (uint32_t i = 0; i < manifest->shard_count && result == 0; i++) {
		result = sz_bytes_append_le(payload_out, manifest->shards[i].number, 4);
		if (result == 0)
			result = sz_ref_put(payload_out, &manifest->shards[i].shard);
	}
	if (result == 0)
		result = sz_bytes_append_le(payload_out, manifest->delta_count, 4);
	for (uint32_t i = 0; i < manifest->delta_count && result == 0; i++)
		result = delta_put(payload_out, &manifest->deltas[i]);
	return result;
}

void sz_manifest_free(struct sz_manifest *manifest)
{
	for (uint32_t i = 0; manifest->deltas != NULL && i < manifest->delta_count; i++)
		free(manifest->deltas[i].runs);
	free(manifest->deltas);
	free(manifest->shards);
	*manifest = (struct sz_manifest){ 0 };
}

static int shards_get(struct sz_cursor *cursor, struct sz_manifest *manifest)
{
	uint32_t count = sz_cursor_count(cursor, sz_cursor_le(cursor, 4), SHARD_ENTRY_BYTES);

	if (count == 0)
		return 0;
	manifest->shards = calloc(count, sizeof(*manifest->shards));
	if (manifest->shards == NULL)
		return -ENOMEM;
	manifest->shard_count = count;
	for (uint32_t i = 0; i < count; i++) {
		manifest->shards[i].number = (uint32_t)sz_cursor_le(cursor, 4);
		sz_ref_get(cursor, &manifest->shards[i].shard);
		if (i > 0 && manifest->shards[i].number <= manifest->shards[i - 1].number)
			return -EUCLEAN;
	}
	return 0;
}

static int delta_get(struct sz_cursor *cursor, struct sz_manifest_delta *delta)
{
	uint64_t list_is_inline;

	delta->generation = sz_cursor_le(cursor, 8);
	sz_ref_get(cursor, &delta->delta);
	delta->sector_count = sz_cursor_le(cursor, 8);
	delta->stored_bytes = sz_cursor_le(cursor, 8);
	list_is_inline = sz_cursor_le(cursor, 1);
	if (list_is_inline > 1)
		return -EUCLEAN;
	delta->list_is_inline = list_is_inline == 1;
	if (delta->list_is_inline)
		return sz_runs_get(cursor, &delta->runs, &delta->run_count);
	sz_ref_get(cursor, &delta->list);
	return 0;
}

static int deltas_get(struct sz_cursor *cursor, struct sz_manifest *manifest)
{
	uint32_t count = sz_cursor_count(cursor, sz_cursor_le(cursor, 4), DELTA_BYTES_MIN);

	if (count == 0)
		return 0;
	manifest->deltas = calloc(count, sizeof(*manifest->deltas));
	if (manifest->deltas == NULL)
		return -ENOMEM;
	manifest->delta_count = count;
	for (uint32_t i = 0; i < count; i++) {
		int result = delta_get(cursor, &manifest->deltas[i]);

		if (result != 0)
			return result;
		if (i > 0 && manifest->deltas[i].generation >= manifest->deltas[i - 1].generation)
			return -EUCLEAN;
	}
	return 0;
}

int sz_manifest_decode(const uint8_t *payload, size_t length, struct sz_manifest *manifest_out)
{
	struct sz_cursor cursor = { .data = payload, .length = length };
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	int result;

	if (sz_cursor_le(&cursor, 4) != SZ_INDEX_MANIFEST)
		return -EUCLEAN;
	sz_cursor_copy(&cursor, manifest.device_id, sizeof(manifest.device_id));
	manifest.generation = sz_cursor_le(&cursor, 8);
	manifest.sectors = sz_cursor_le(&cursor, 8);
	manifest.band_sectors = (uint32_t)sz_cursor_le(&cursor, 4);
	manifest.device_count = (uint32_t)sz_cursor_le(&cursor, 4);
	manifest.parity = (uint8_t)sz_cursor_le(&cursor, 1);
	if (!sz_sizes_are_possible(manifest.sectors, manifest.band_sectors, manifest.device_count,
				   manifest.parity))
		return -EUCLEAN;
	sz_ref_get(&cursor, &manifest.hot);
	result = shards_get(&cursor, &manifest);
	if (result == 0)
		result = deltas_get(&cursor, &manifest);
	if (result != 0)
		return result;
	if (cursor.failed || cursor.offset != cursor.length)
		return -EUCLEAN;
	*manifest_out = manifest;
	manifest = (struct sz_manifest){ 0 };
	return 0;
}

int sz_shard_encode(const struct sz_shard *shard, struct sz_bytes *payload_out)
{
	int result = sz_bytes_append_le(payload_out, SZ_INDEX_SHARD, 4);

	if (result == 0)
		result = sz_bytes_append_le(payload_out, shard->number, 4);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, shard->band_count, 4);
	for (uint32_t i = 0; i < shard->band_count && result == 0; i++) {
		const struct sz_shard_band *band = &shard->bands[i];

		result = sz_bytes_append_le(payload_out, band->band, 4);
		if (result == 0)
			result = sz_ref_put(payload_out, &band->ref);
		if (result == 0)
			result = sz_bytes_append_le(payload_out, band->folded_to, 8);
		if (result == 0)
			result = sz_bytes_append_le(payload_out, band->live_sectors, 4);
		if (result == 0)
			result = sz_bytes_append_le(payload_out, band->data_slots, 4);
	}
	return result;
}

void sz_shard_free(struct sz_shard *shard)
{
	free(shard->bands);
	*shard = (struct sz_shard){ 0 };
}

static int bands_get(struct sz_cursor *cursor, struct sz_shard *shard)
{
	uint32_t count = sz_cursor_count(cursor, sz_cursor_le(cursor, 4), BAND_BYTES);

	if (count > SZ_SHARD_BANDS)
		return -EUCLEAN;
	if (count == 0)
		return 0;
	shard->bands = calloc(count, sizeof(*shard->bands));
	if (shard->bands == NULL)
		return -ENOMEM;
	shard->band_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct sz_shard_band *band = &shard->bands[i];

		band->band = (uint32_t)sz_cursor_le(cursor, 4);
		sz_ref_get(cursor, &band->ref);
		band->folded_to = sz_cursor_le(cursor, 8);
		band->live_sectors = (uint32_t)sz_cursor_le(cursor, 4);
		band->data_slots = (uint32_t)sz_cursor_le(cursor, 4);
		if (band->band / SZ_SHARD_BANDS != shard->number ||
		    (i > 0 && band->band <= shard->bands[i - 1].band))
			return -EUCLEAN;
	}
	return 0;
}

int sz_shard_decode(const uint8_t *payload, size_t length, struct sz_shard *shard_out)
{
	struct sz_cursor cursor = { .data = payload, .length = length };
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	int result;

	if (sz_cursor_le(&cursor, 4) != SZ_INDEX_SHARD)
		return -EUCLEAN;
	shard.number = (uint32_t)sz_cursor_le(&cursor, 4);
	result = bands_get(&cursor, &shard);
	if (result != 0)
		return result;
	if (cursor.failed || cursor.offset != cursor.length)
		return -EUCLEAN;
	shard_out->number = shard.number;
	shard_out->band_count = shard.band_count;
	shard_out->bands = TAKE(shard.bands);
	return 0;
}
