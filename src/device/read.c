/*
 * read: under the map's lock it is found out what the sectors are; then, without a lock, they are read
 * and opened. What cannot be known is filled in, counted, and -EBADMSG.
 *
 * A piece of a live file holds its file, a sealed object is found by reference: both stay what they
 * are when a seal ends meanwhile.
 *
 * is_cached: no disk is waited for, and damage is left to who may wait: both are -EAGAIN.
 */
#include "device/device_internal.h"

#include <errno.h>

/* Sectors that are planned at once: their nonces and tags are on the stack. */
#define PLAN_SECTORS 256U
#define PLAN_PIECES  64U

struct plan {
	struct piece pieces[PLAN_PIECES];
	uint32_t piece_count;
	uint8_t nonce_tags[PLAN_SECTORS * SZ_NONCE_TAG_BYTES];
};

int sz_sectors_read(struct sz_file *file, const uint8_t key[SZ_KEY_BYTES], uint64_t page,
		    uint64_t sector, uint32_t count, const uint8_t *nonce_tags, uint8_t *buffer,
		    uint8_t *damaged)
{
	size_t done;
	uint32_t whole;
	int result = sz_read_retried(file, buffer, (size_t)count * SZ_SECTOR_BYTES, page * SECTOR,
				     &done);

	if (result != 0)
		return -EIO;
	whole = (uint32_t)(done / SZ_SECTOR_BYTES);
	if (whole > 0)
		result = sz_sectors_open(key, sector, whole, buffer, nonce_tags, buffer, damaged);
	for (uint32_t i = whole; i < count; i++) { /* the file ends before them */
		damaged[i / 8] = (uint8_t)(damaged[i / 8] | 1U << (i % 8));
		if (result == 0)
			result = -EBADMSG;
	}
	return result;
}

static void filler_put(struct sz_device *device, uint64_t sector, uint64_t count, uint8_t *buffer)
{
	for (uint64_t i = 0; i < count; i++)
		sz_keyed_filler(device->store->keys->filler, device->index, sector + i,
				buffer + i * SECTOR, SZ_SECTOR_BYTES);
	(void)atomic_fetch_add(&device->damaged_sectors, count);
}

/* Reads a run of ciphertext; what is damaged becomes filler, and -EBADMSG. */
static int data_read(struct sz_device *device, bool is_cached, const struct sz_id *id,
		     struct sz_file *file, const uint8_t *key, uint64_t page, uint64_t sector,
		     uint32_t count, const uint8_t *nonce_tags, uint8_t *buffer)
{
	uint8_t damaged[PLAN_SECTORS / 8] = { 0 };
	uint64_t lost = 0;
	int result;

	if (is_cached) {
		result = sz_file_read_cached(file, buffer, (size_t)count * SECTOR, page * SECTOR);
		if (result == 0)
			result = sz_sectors_open(key, sector, count, buffer, nonce_tags, buffer,
						 damaged);
		return result == 0 ? 0 : -EAGAIN;
	}
	result = sz_sectors_read(file, key, page, sector, count, nonce_tags, buffer, damaged);
	if (result != -EBADMSG)
		return result;
	for (uint32_t i = 0; i < count; i++) {
		if (bit_is_set(damaged, i)) {
			filler_put(device, sector + i, 1, buffer + i * SECTOR);
			lost++;
		}
	}
	sz_damage_note(device->store, device->index, id, lost, "does not authenticate");
	return -EBADMSG;
}

/* Part of a piece that is in a sealed object. */
static int object_read(struct sz_device *device, bool is_cached, const struct piece *piece,
		       uint8_t *buffer)
{
	struct sz_store *store = device->store;
	uint8_t nonce_tags[PLAN_SECTORS * SZ_NONCE_TAG_BYTES];
	struct object *object;
	uint32_t done = 0;
	int result = is_cached ? sz_object_get_cached(store, &piece->ref, &object)
			       : sz_object_get(store, device, &piece->ref, &object);
	int worst = result;

	if (result == -EBADMSG) {
		filler_put(device, piece->sector, piece->count, buffer);
		sz_damage_note(store, device->index, &piece->ref.id, piece->count, NULL);
		return result;
	}
	while (done < piece->count && result == 0) {
		struct object_run run = { .nonce_tags = nonce_tags };
		uint8_t *at = buffer + done * SECTOR;

		result = (is_cached ? sz_object_find_cached : sz_object_find)(
			object, piece->sector + done, piece->count - done, &run);
		if (result != 0)
			break;
		/* The manifest lists the sectors of a delta: one without an entry is not known. */
		if (run.state == SZ_SECTOR_ABSENT && piece->kind == PIECE_DELTA)
			run.state = SZ_SECTOR_POISON;
		if (run.state == SZ_SECTOR_DATA) {
			result = data_read(device, is_cached, &piece->ref.id,
					   sz_object_file(object), sz_object_keys(object)->sector,
					   run.place, run.sector, run.count, nonce_tags, at);
		} else if (run.state == SZ_SECTOR_POISON && is_cached) {
			result = -EAGAIN;
		} else if (run.state == SZ_SECTOR_POISON) {
			filler_put(device, run.sector, run.count, at);
			sz_damage_note(store, device->index, &piece->ref.id, run.count,
				       "does not authenticate");
			result = -EBADMSG;
		} else {
			memset(at, 0, run.count * SECTOR);
		}
		if (result == -EBADMSG) {
			worst = result;
			result = 0;
		}
		done += run.count;
	}
	sz_object_put(store, &object);
	return result != 0 ? result : worst;
}

/* Under map_lock; hot sectors are copied here, the rest later. */
static int hot_read(struct sz_device *device, const struct piece *piece, uint8_t *buffer)
{
	uint32_t first = sz_hot_index(device, piece->sector);
	int result = 0;

	for (uint32_t i = 0; i < piece->count; i++) {
		uint32_t bit = first + i;
		const struct hot *hot = sz_hot_find(device, bit);

		memcpy(buffer + i * SECTOR, hot->sectors + bit * SECTOR, SECTOR);
		if (bit_is_set(hot->poison, bit)) {
			filler_put(device, piece->sector + i, 1, buffer + i * SECTOR);
			result = -EBADMSG;
		}
	}
	return result;
}

/* Plans up to count sectors; returns how many. */
static uint32_t plan_make(struct sz_device *device, uint64_t sector, uint32_t count,
			  uint8_t *buffer, struct plan *plan, int *result)
{
	READ_SCOPE(&device->map_lock);
	uint32_t done = 0;

	plan->piece_count = 0;
	while (done < count && plan->piece_count < PLAN_PIECES) {
		struct piece *piece = &plan->pieces[plan->piece_count];

		sz_map_find(device, sector + done, count - done, piece);
		if (piece->kind == PIECE_HOT) {
			if (hot_read(device, piece, buffer + done * SECTOR) != 0)
				*result = -EBADMSG;
		} else {
			if (piece->kind == PIECE_SOURCE) {
				uint8_t *to = plan->nonce_tags + (size_t)done * SZ_NONCE_TAG_BYTES;

				memcpy(to, piece->nonce_tags,
				       (size_t)piece->count * SZ_NONCE_TAG_BYTES);
				piece->nonce_tags = to;
			}
			plan->piece_count++;
		}
		done += piece->count;
	}
	return done;
}

static int piece_read(struct sz_device *device, bool is_cached, const struct piece *piece,
		      uint8_t *buffer)
{
	switch (piece->kind) {
	case PIECE_ZEROS:
		memset(buffer, 0, piece->count * SECTOR);
		return 0;
	case PIECE_POISON:
		if (is_cached)
			return -EAGAIN;
		filler_put(device, piece->sector, piece->count, buffer);
		return -EBADMSG;
	case PIECE_SOURCE:
		return data_read(device, is_cached, &piece->source->id, piece->source->file,
				 piece->source->keys->sector, piece->place, piece->sector,
				 piece->count, piece->nonce_tags, buffer);
	case PIECE_DELTA:
	case PIECE_BAND:
		return object_read(device, is_cached, piece, buffer);
	case PIECE_HOT:
		break;
	}
	return 0;
}

int sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	int worst = 0;
	int result = sz_device_check(device);
	READER_SCOPE(&device->store->readers);

	if (sector > device->sectors || count > device->sectors - sector)
		return -EINVAL;
	while (count > 0 && result == 0) {
		struct plan plan;
		uint8_t *at = buffer;
		uint32_t some = count < PLAN_SECTORS ? count : PLAN_SECTORS;

		some = plan_make(device, sector, some, at, &plan, &worst);
		for (uint32_t i = 0; i < plan.piece_count; i++) {
			struct piece *piece = &plan.pieces[i];

			if (result == 0)
				result = piece_read(device, false, piece,
						    at + (piece->sector - sector) * SECTOR);
			if (result == -EBADMSG) {
				worst = result;
				result = 0;
			}
			sz_source_drop(&piece->source);
		}
		sector += some;
		count -= some;
		buffer = at + some * SECTOR;
	}
	return result != 0 ? result : worst;
}

int sz_device_read_cached(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	struct plan plan;
	int result = 0;
	READER_SCOPE(&device->store->readers);

	if (sz_device_check(device) != 0 || sector > device->sectors ||
	    count > device->sectors - sector || count > PLAN_SECTORS)
		return -EAGAIN;
	if (plan_make(device, sector, count, buffer, &plan, &result) < count)
		result = -EAGAIN;
	for (uint32_t i = 0; i < plan.piece_count; i++) {
		struct piece *piece = &plan.pieces[i];

		if (result == 0)
			result = piece_read(device, true, piece,
					    (uint8_t *)buffer + (piece->sector - sector) * SECTOR);
		sz_source_drop(&piece->source);
	}
	return result == 0 ? 0 : -EAGAIN;
}
