/*
 * hot: the first and last sectors of a device, ZFS's labels, which every transaction group rewrites.
 * They are in memory, as they are sealed and, in a layer for each of the live epochs, as far as they were
 * changed since; a seal stores them as one compressed object [F29].
 */
#include "device/device_internal.h"

#include <errno.h>
#include <zlib.h>

#define BITMAP_BYTES  (HOT_SECTORS / 8)
#define LABEL_SECTORS 64U /* of each of ZFS's four labels, which are much alike */

/* The order in an image: what is at one place of the labels stands together, so that it packs well. */
static uint32_t image_bit(uint32_t i)
{
	uint32_t labels = HOT_SECTORS / LABEL_SECTORS;

	return i % labels * LABEL_SECTORS + i / labels;
}

int sz_hot_init(struct hot *hot)
{
	*hot = (struct hot){ .sectors = calloc(HOT_SECTORS, SZ_SECTOR_BYTES) };
	return hot->sectors == NULL ? -ENOMEM : 0;
}

/* A sector that is not written is zeros: the memory of those, most of a megabyte, need not be touched here. */
void sz_hot_fini(struct hot *hot)
{
	for (uint32_t bit = 0; hot->sectors != NULL && bit < HOT_SECTORS; bit++)
		if (bit_is_set(hot->written, bit))
			sz_wipe(hot->sectors + bit * SECTOR, SECTOR);
	free(hot->sectors);
	*hot = (struct hot){ 0 };
}

struct hot *sz_hot_layer(struct epoch *epoch)
{
	if (epoch->hot != NULL)
		return epoch->hot;
	epoch->hot = calloc(1, sizeof(*epoch->hot));
	if (epoch->hot != NULL && sz_hot_init(epoch->hot) != 0)
		free(TAKE(epoch->hot));
	return epoch->hot;
}

static void bit_set(uint8_t *bitmap, uint32_t bit, bool value)
{
	uint8_t mask = (uint8_t)(1U << (bit % 8));

	bitmap[bit / 8] = (uint8_t)(value ? bitmap[bit / 8] | mask : bitmap[bit / 8] & ~mask);
}

static void state_set(struct hot *hot, uint32_t bit, bool written, bool poison)
{
	bit_set(hot->changed, bit, true);
	bit_set(hot->written, bit, written);
	bit_set(hot->poison, bit, poison);
}

void sz_hot_write(struct hot *hot, uint32_t first, uint32_t count, const uint8_t *data)
{
	memcpy(hot->sectors + first * SECTOR, data, count * SECTOR);
	for (uint32_t bit = first; bit < first + count; bit++)
		state_set(hot, bit, true, false);
}

void sz_hot_trim(struct hot *hot, uint32_t first, uint32_t count)
{
	memset(hot->sectors + first * SECTOR, 0, count * SECTOR);
	for (uint32_t bit = first; bit < first + count; bit++)
		state_set(hot, bit, false, false);
}

void sz_hot_poison(struct hot *hot, uint32_t bit)
{
	memset(hot->sectors + bit * SECTOR, 0, SECTOR);
	state_set(hot, bit, false, true);
}

int sz_hot_copy(const struct hot *from, struct hot *to)
{
	int result = sz_hot_init(to);

	if (result != 0)
		return result;
	for (uint32_t bit = 0; bit < HOT_SECTORS; bit++)
		if (bit_is_set(from->written, bit))
			memcpy(to->sectors + bit * SECTOR, from->sectors + bit * SECTOR, SECTOR);
	memcpy(to->written, from->written, BITMAP_BYTES);
	memcpy(to->poison, from->poison, BITMAP_BYTES);
	return 0;
}

void sz_hot_apply(struct hot *hot, const struct hot *layer)
{
	for (uint32_t bit = 0; bit < HOT_SECTORS; bit++) {
		if (!bit_is_set(layer->changed, bit))
			continue;
		memcpy(hot->sectors + bit * SECTOR, layer->sectors + bit * SECTOR, SECTOR);
		state_set(hot, bit, bit_is_set(layer->written, bit),
			  bit_is_set(layer->poison, bit));
	}
}

const struct hot *sz_hot_find(const struct sz_device *device, uint32_t bit)
{
	const struct epoch *epochs[] = { device->live, device->sealing };

	for (size_t i = 0; i < ARRAY_LENGTH(epochs); i++)
		if (epochs[i] != NULL && epochs[i]->hot != NULL &&
		    bit_is_set(epochs[i]->hot->changed, bit))
			return epochs[i]->hot;
	return &device->hot;
}

uint32_t sz_hot_alike(struct sz_device *device, uint64_t sector, uint32_t count,
		      const uint8_t *data, bool *is_same_out)
{
	READ_SCOPE(&device->map_lock);
	uint32_t alike = 0;

	for (; alike < count; alike++) {
		uint32_t bit = sz_hot_index(device, sector + alike);
		const struct hot *hot = sz_hot_find(device, bit);
		bool is_same =
			bit_is_set(hot->written, bit) && !bit_is_set(hot->poison, bit) &&
			memcmp(hot->sectors + bit * SECTOR, data + alike * SECTOR, SECTOR) == 0;

		if (alike > 0 && is_same != *is_same_out)
			break;
		*is_same_out = is_same;
	}
	return alike;
}

int sz_hot_encode(const struct hot *hot, struct sz_bytes *payload_out)
{
	CLEANUP_BYTES struct sz_bytes plain = { 0 };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	uLongf length;
	int result = sz_bytes_append(&payload, hot->written, BITMAP_BYTES);

	if (result == 0)
		result = sz_bytes_append(&payload, hot->poison, BITMAP_BYTES);
	for (uint32_t i = 0; i < HOT_SECTORS && result == 0; i++)
		if (bit_is_set(hot->written, image_bit(i)))
			result = sz_bytes_append(&plain, hot->sectors + image_bit(i) * SECTOR,
						 SECTOR);
	length = compressBound(plain.length);
	if (result == 0) {
		CLEANUP_FREE uint8_t *packed = malloc(length);

		if (packed == NULL || compress2(packed, &length, plain.data, plain.length,
						Z_DEFAULT_COMPRESSION) != Z_OK)
			result = -ENOMEM;
		else
			result = sz_bytes_append(&payload, packed, length);
	}
	if (plain.data != NULL)
		sz_wipe(plain.data, plain.length);
	if (result != 0) {
		if (payload.data != NULL)
			sz_wipe(payload.data, payload.length);
		return result;
	}
	*payload_out = payload;
	payload = (struct sz_bytes){ 0 };
	return 0;
}

/* plain: room for what is written, plain_length. */
static int unpack(const uint8_t *payload, size_t length, uint8_t *plain, uLongf plain_length,
		  struct hot *hot)
{
	const uint8_t *poison = payload + BITMAP_BYTES;
	uLong packed_length;
	size_t used = 0;

	for (uint32_t i = 0; i < BITMAP_BYTES; i++)
		if ((payload[i] & poison[i]) != 0)
			return -EUCLEAN;
	packed_length = length - 2 * (size_t)BITMAP_BYTES;
	if (uncompress2(plain, &plain_length, payload + 2 * (size_t)BITMAP_BYTES, &packed_length) !=
	    Z_OK)
		return -EUCLEAN;
	for (uint32_t i = 0; i < HOT_SECTORS; i++) {
		uint32_t bit = image_bit(i);

		if (!bit_is_set(payload, bit)) {
			if (bit_is_set(hot->written, bit))
				memset(hot->sectors + bit * SECTOR, 0, SECTOR);
			continue;
		}
		if (used + SECTOR > plain_length)
			return -EUCLEAN;
		memcpy(hot->sectors + bit * SECTOR, plain + used, SECTOR);
		bit_set(hot->written, bit, true); /* is wiped, also if this fails */
		used += SECTOR;
	}
	memcpy(hot->written, payload, BITMAP_BYTES);
	memcpy(hot->poison, poison, BITMAP_BYTES);
	return used == plain_length ? 0 : -EUCLEAN;
}

int sz_hot_decode(const uint8_t *payload, size_t length, struct hot *hot)
{
	CLEANUP_FREE uint8_t *plain = NULL;
	size_t plain_length = 0;
	int result;

	if (length < 2 * (size_t)BITMAP_BYTES)
		return -EUCLEAN;
	for (uint32_t bit = 0; bit < HOT_SECTORS; bit++)
		plain_length += bit_is_set(payload, bit) ? SECTOR : 0;
	plain = malloc(plain_length + 1); /* never of nothing */
	if (plain == NULL)
		return -ENOMEM;
	result = unpack(payload, length, plain, plain_length, hot);
	sz_wipe(plain, plain_length);
	return result;
}
