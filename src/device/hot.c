/*
 * hot: the first and last sectors of a device, ZFS's labels, which every transaction group rewrites.
 * They are in memory as a whole; a seal stores them as one compressed object [F29].
 */
#include "device/device_internal.h"

#include <errno.h>
#include <zlib.h>

#define BITMAP_BYTES (HOT_SECTORS / 8)

int sz_hot_init(struct hot *hot)
{
	*hot = (struct hot){ .sectors = calloc(HOT_SECTORS, SZ_SECTOR_BYTES) };
	return hot->sectors == NULL ? -ENOMEM : 0;
}

uint8_t *sz_hot_snapshot(const struct hot *hot)
{
	uint8_t *image = malloc(HOT_IMAGE_BYTES);

	if (image == NULL)
		return NULL;
	memcpy(image, hot->written, BITMAP_BYTES);
	memcpy(image + BITMAP_BYTES, hot->poison, BITMAP_BYTES);
	memcpy(image + 2 * (size_t)BITMAP_BYTES, hot->sectors, HOT_SECTORS * SECTOR);
	return image;
}

int sz_hot_encode(const uint8_t *image, struct sz_bytes *payload_out)
{
	CLEANUP_BYTES struct sz_bytes plain = { 0 };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	uLongf length;
	int result = sz_bytes_append(&payload, image, 2 * (size_t)BITMAP_BYTES);

	for (uint32_t bit = 0; bit < HOT_SECTORS && result == 0; bit++)
		if (bit_is_set(image, bit))
			result = sz_bytes_append(
				&plain, image + 2 * (size_t)BITMAP_BYTES + bit * SECTOR, SECTOR);
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

/* plain: room for HOT_SECTORS. */
static int unpack(const uint8_t *payload, size_t length, uint8_t *plain, struct hot *hot)
{
	const uint8_t *poison = payload + BITMAP_BYTES;
	uLongf plain_length = HOT_SECTORS * SECTOR;
	uLong packed_length;
	size_t used = 0;

	if (length < 2 * (size_t)BITMAP_BYTES)
		return -EUCLEAN;
	for (uint32_t i = 0; i < BITMAP_BYTES; i++)
		if ((payload[i] & poison[i]) != 0)
			return -EUCLEAN;
	packed_length = length - 2 * (size_t)BITMAP_BYTES;
	if (uncompress2(plain, &plain_length, payload + 2 * (size_t)BITMAP_BYTES, &packed_length) !=
	    Z_OK)
		return -EUCLEAN;
	memset(hot->sectors, 0, HOT_SECTORS * SECTOR);
	for (uint32_t bit = 0; bit < HOT_SECTORS; bit++) {
		if (!bit_is_set(payload, bit))
			continue;
		if (used + SECTOR > plain_length)
			return -EUCLEAN;
		memcpy(hot->sectors + bit * SECTOR, plain + used, SECTOR);
		used += SECTOR;
	}
	memcpy(hot->written, payload, BITMAP_BYTES);
	memcpy(hot->poison, poison, BITMAP_BYTES);
	return used == plain_length ? 0 : -EUCLEAN;
}

int sz_hot_decode(const uint8_t *payload, size_t length, struct hot *hot)
{
	CLEANUP_FREE uint8_t *plain = malloc(HOT_SECTORS * SECTOR);
	int result;

	if (plain == NULL)
		return -ENOMEM;
	result = unpack(payload, length, plain, hot);
	sz_wipe(plain, HOT_SECTORS * SECTOR);
	return result;
}
