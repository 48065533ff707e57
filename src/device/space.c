/*
 * space: what the disks under a store have free. Of that a reserve is left for what has to be written: seals, and
 * what removes.
 */
#include "device/device_internal.h"

#define MIB           (1ULL << 20)
#define RESERVE_SHARE 50U /* 2 % of a disk … */
#define RESERVE_MIN   (32 * MIB)
#define RESERVE_MAX   (256 * MIB) /* … between these */

static uint64_t reserve_of(uint64_t disk_bytes)
{
	uint64_t share = disk_bytes / RESERVE_SHARE;

	if (share > RESERVE_MAX)
		return RESERVE_MAX;
	return share < RESERVE_MIN ? RESERVE_MIN : share;
}

uint64_t sz_device_room(const struct sz_device *device)
{
	struct sz_backend *backend = device->store->folders[device->folder].backend;
	uint64_t free_bytes;
	uint64_t total_bytes;
	uint64_t reserve;

	if (sz_backend_space(backend, &free_bytes, &total_bytes) != 0)
		return UINT64_MAX;
	reserve = reserve_of(total_bytes);
	return free_bytes > reserve ? free_bytes - reserve : 0;
}
