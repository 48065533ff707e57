/*
 * bytes: a device as a disk: any offset and length. What covers a sector wholly is written as it is, several at a time; of a
 * sector that is changed in part the rest is read, and nothing else is written meanwhile: nobody loses bytes that another
 * has written.
 */
#include "device/device_internal.h"

#include <errno.h>

#define RUN_SECTORS 256U /* of a sealed object, looked at at once: their tags are on the stack */

static bool is_within(const struct sz_device *device, uint64_t offset, uint64_t length)
{
	uint64_t size = device->sectors * SECTOR;

	return offset <= size && length <= size - offset;
}

/* How much of a range is in the sector that it begins in. */
static uint32_t in_first(uint64_t offset, uint64_t length)
{
	uint64_t rest = SECTOR - offset % SECTOR;

	return (uint32_t)(rest < length ? rest : length);
}

static int part_read(struct sz_device *device, uint64_t offset, uint32_t length, uint8_t *to)
{
	uint8_t sector[SZ_SECTOR_BYTES];
	int result = sz_device_read(device, offset / SECTOR, 1, sector);

	if (result == 0)
		memcpy(to, sector + offset % SECTOR, length);
	sz_wipe(sector, sizeof(sector));
	return result;
}

int sz_device_read_bytes(struct sz_device *device, uint64_t offset, uint32_t length, void *buffer)
{
	uint8_t *to = buffer;
	int result = is_within(device, offset, length) ? 0 : -EINVAL;

	while (result == 0 && length > 0) {
		uint32_t some = length / SECTOR * SECTOR;

		if (offset % SECTOR == 0 && some > 0) {
			result = sz_device_read(device, offset / SECTOR, some / SECTOR, to);
		} else {
			some = in_first(offset, length);
			result = part_read(device, offset, some, to);
		}
		offset += some;
		length -= some;
		to += some;
	}
	return result;
}

/* Whole sectors are written, or without data trimmed: as long as room can be made for it. */
static int sectors_change(struct sz_device *device, uint64_t sector, uint64_t count,
			  const void *data)
{
	for (;;) {
		uint64_t since_ns = sz_clock_ns();
		int result = data == NULL ? sz_device_trim(device, sector, count)
					  : sz_device_write(device, sector, (uint32_t)count, data);

		if (result != -ENOSPC || sz_device_make_room(device, since_ns) != 0)
			return result;
	}
}

/* Whole sectors of new data. What is left on a disk for seals is not for it (space.c). */
static int sectors_write(struct sz_device *device, uint64_t sector, uint32_t count,
			 const void *data)
{
	struct sz_store *store = device->store;
	uint64_t bytes = count * SECTOR;
	/* With what others write now, which the room does not know of yet. */
	uint64_t wanted = atomic_fetch_add(&store->incoming_bytes, bytes) + bytes;
	int result = sz_store_room(store) >= wanted ? 0 : sz_store_make_room(store, wanted);

	if (result == 0)
		result = sectors_change(device, sector, count, data);
	atomic_fetch_sub(&store->incoming_bytes, bytes);
	return result;
}

/* Alone. */
static int part_write(struct sz_device *device, uint64_t offset, uint32_t length,
		      const uint8_t *from)
{
	uint8_t sector[SZ_SECTOR_BYTES];
	int result = sz_device_read(device, offset / SECTOR, 1, sector);

	if (result == 0) {
		memcpy(sector + offset % SECTOR, from, length);
		result = sectors_write(device, offset / SECTOR, 1, sector);
	}
	sz_wipe(sector, sizeof(sector));
	return result;
}

static int range_write(struct sz_device *device, uint64_t offset, uint64_t length,
		       const uint8_t *from)
{
	int result = 0;

	while (result == 0 && length > 0) {
		uint32_t some = (uint32_t)(length / SECTOR * SECTOR);

		if (offset % SECTOR == 0 && some > 0) {
			READ_SCOPE(&device->parts_lock);

			result = sectors_write(device, offset / SECTOR, (uint32_t)(some / SECTOR),
					       from);
		} else {
			WRITE_SCOPE(&device->parts_lock);

			some = in_first(offset, length);
			result = part_write(device, offset, some, from);
		}
		offset += some;
		length -= some;
		from += some;
	}
	return result;
}

static int sectors_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	READ_SCOPE(&device->parts_lock);

	return count == 0 ? 0 : sectors_change(device, sector, count, NULL);
}

int sz_device_write_bytes(struct sz_device *device, uint64_t offset, uint32_t length,
			  const void *buffer)
{
	return is_within(device, offset, length) ? range_write(device, offset, length, buffer)
						 : -EINVAL;
}

/* Whole sectors are trimmed, which needs no room, and then the rest is written. */
int sz_device_zero_bytes(struct sz_device *device, uint64_t offset, uint64_t length)
{
	static const uint8_t zeros[SZ_SECTOR_BYTES];
	uint64_t end = offset + length;
	uint64_t from = ROUND_UP(offset, SECTOR);
	uint64_t to = end / SECTOR * SECTOR;
	int result;

	if (!is_within(device, offset, length))
		return -EINVAL;
	if (from > to) /* within a sector */
		return range_write(device, offset, length, zeros);
	result = sectors_trim(device, from / SECTOR, (to - from) / SECTOR);
	if (result == 0)
		result = range_write(device, offset, from - offset, zeros);
	return result != 0 ? result : range_write(device, to, end - to, zeros);
}

/* Of a sealed object: are the sectors holes? What cannot be known is data; reading tells. Narrows *count. */
static bool object_has_hole(struct sz_device *device, const struct piece *piece, uint32_t *count)
{
	uint8_t nonce_tags[RUN_SECTORS * SZ_NONCE_TAG_BYTES];
	struct object_run run = { .nonce_tags = nonce_tags };
	struct object *object;
	uint32_t longest = *count < RUN_SECTORS ? *count : RUN_SECTORS;
	int result = sz_object_get(device->store, device, &piece->ref, &object);

	if (result != 0)
		return false;
	result = sz_object_find(object, piece->sector, longest, &run);
	sz_object_put(device->store, &object);
	if (result != 0)
		return false;
	*count = run.count;
	return run.state == SZ_SECTOR_TOMBSTONE ||
	       (run.state == SZ_SECTOR_ABSENT && piece->kind == PIECE_BAND);
}

/* Sectors from sector on that are alike, at most count. */
static bool has_hole(struct sz_device *device, uint64_t sector, uint32_t *count)
{
	struct piece piece;

	{
		READ_SCOPE(&device->map_lock);

		sz_map_find(device, sector, *count, &piece);
	}
	*count = piece.count;
	if (piece.kind == PIECE_SOURCE)
		sz_source_drop(&piece.source);
	if (piece.kind == PIECE_BAND || piece.kind == PIECE_DELTA)
		return object_has_hole(device, &piece, count);
	return piece.kind == PIECE_ZEROS;
}

int sz_device_extent(struct sz_device *device, uint64_t offset, uint64_t length,
		     uint64_t *length_out, bool *is_hole_out)
{
	uint64_t first = offset / SECTOR;
	uint64_t sectors;
	uint32_t count;
	int result = sz_device_check(device);
	READER_SCOPE(&device->store->readers);

	if (result != 0)
		return result;
	if (length == 0 || !is_within(device, offset, length))
		return -EINVAL;
	sectors = DIV_ROUND_UP(offset + length, SECTOR) - first;
	count = sectors < UINT32_MAX ? (uint32_t)sectors : UINT32_MAX;
	*is_hole_out = has_hole(device, first, &count);
	*length_out = (first + count) * SECTOR - offset;
	if (*length_out > length)
		*length_out = length;
	return 0;
}
