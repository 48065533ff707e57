/*
 * space: what the disks under a store still have, who may use it, and how it is won back.
 *
 *   of a disk's free space                              may be used by
 *   what is beyond the rest                             new data
 *   what the next seal writes, as the logs stand        seals
 *   the reserve: 2 %, 64 to 256 MiB                     deletes, seals, collecting, what ZFS has accepted already
 *
 * Who meets a full disk has history removed, the oldest first, and tries again. Where there is none that may go, it gets the
 * spare (spare.c). A write then has what is logged sealed, if that gives space back. For new data, which may be
 * refused, no spare goes, but what is dead in part is written anew with half of the reserve, a step at a time.
 */
#include "device/device_internal.h"

#include <errno.h>

struct disk {
	uint64_t id;
	uint64_t free_bytes;
	uint64_t needed_bytes; /* that are to stay free for other things than new data */
	uint32_t devices;
};
struct disks {
	struct disk at[SZ_DEVICES_MAX];
	uint32_t count;
	uint32_t devices;
};

static uint64_t reserve_of(const struct sz_space *space)
{
	uint64_t share = space->total_bytes / RESERVE_SHARE;

	if (share > RESERVE_MAX)
		return RESERVE_MAX;
	return share < RESERVE_MIN ? RESERVE_MIN : share;
}

uint64_t sz_device_room(const struct sz_device *device, bool with_half_the_reserve)
{
	struct sz_space space;
	uint64_t reserve;

	if (sz_backend_space(device->store->folders[device->folder].backend, &space) != 0)
		return UINT64_MAX;
	reserve = reserve_of(&space) / (with_half_the_reserve ? 2 : 1);
	return space.free_bytes > reserve ? space.free_bytes - reserve : 0;
}

/* What a seal of an epoch writes beside its finished bands, at most, in pages. */
static uint64_t epoch_pages(const struct sz_device *device, const struct epoch *epoch)
{
	uint64_t pages = epoch->log.next_page;

	for (uint32_t i = 0; i < epoch->source_count; i++) {
		const struct source *source = epoch->sources[i];

		if (source == NULL)
			continue;
		if (source->state == BAND_OPEN) /* padding, and its pages */
			pages += sz_band_slots(source->next_slot, device->store->band_sectors) -
				 source->next_slot + source->next_slot / SZ_LEAF_ENTRIES + 2;
		else if (source->state == BAND_CLOSED || source->state == BAND_BROKEN)
			pages += source->next_slot;
	}
	return pages;
}

static uint64_t seal_bytes(struct sz_device *device)
{
	MUTEX_SCOPE(&device->log_lock);
	uint64_t pages = epoch_pages(device, device->live);

	if (device->sealing != NULL)
		pages += epoch_pages(device, device->sealing);
	return (pages + pages / 8 + SEAL_PAGES) * SECTOR;
}

static void disks_look(struct sz_store *store, struct disks *disks)
{
	*disks = (struct disks){ 0 };
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		uint32_t folder = device->folder;
		struct sz_space space;
		uint32_t j = 0;

		if (folder == NO_DEVICE ||
		    sz_backend_space(store->folders[folder].backend, &space) != 0)
			continue;
		while (j < disks->count && disks->at[j].id != space.disk)
			j++;
		if (j == disks->count)
			disks->at[disks->count++] =
				(struct disk){ .id = space.disk,
					       .free_bytes = space.free_bytes,
					       .needed_bytes = reserve_of(&space) };
		disks->at[j].needed_bytes += seal_bytes(device);
		disks->at[j].devices++;
		disks->devices++;
	}
}

static void space_look(struct sz_store *store)
{
	struct disks disks;
	uint64_t room = UINT64_MAX; /* of a device */

	disks_look(store, &disks);
	for (uint32_t i = 0; i < disks.count; i++) {
		const struct disk *disk = &disks.at[i];
		uint64_t left = disk->free_bytes > disk->needed_bytes
					? disk->free_bytes - disk->needed_bytes
					: 0;

		if (left / disk->devices < room)
			room = left / disk->devices;
	}
	atomic_store(&store->room_bytes, disks.count == 0 ? UINT64_MAX : room * disks.devices);
	atomic_store(&store->room_looked_ns, sz_clock_ns());
}

uint64_t sz_store_room(struct sz_store *store)
{
	uint64_t old_ns = sz_clock_ns() - atomic_load(&store->room_looked_ns);

	if (store->is_volatile)
		return UINT64_MAX;
	if (old_ns > (atomic_load(&store->room_bytes) == 0 ? SHORT_LOOK_NS : LOOK_NS))
		space_look(store);
	return atomic_load(&store->room_bytes);
}

bool sz_store_is_short(struct sz_store *store)
{
	return sz_store_room(store) < SHORT_BYTES;
}

/* Others meet the full disk at the same time: they need not see to it as well. */
static int room_was_made(struct sz_store *store, int result)
{
	if (result == 0)
		store->room_made_ns = sz_clock_ns();
	return result;
}

int sz_room_make(struct sz_store *store, uint64_t wanted_bytes)
{
	if (!writes_folders(store))
		return -ENOSPC;
	return room_was_made(store, sz_collect_space(store, wanted_bytes > ROOM_STEP ? wanted_bytes
										     : ROOM_STEP));
}

int sz_room_make_for_seal(struct sz_store *store)
{
	if (sz_room_make(store, 0) == 0)
		return 0;
	if (room_was_made(store, sz_spare_give(store, SPARE_WRITES)) == 0)
		return 0; /* that may be enough */
	return room_was_made(store, sz_spare_give(store, SPARE_SEALS));
}

/*
 * Is there so much in the live logs that sealing them gives space back? ZFS writes the same sectors again with every
 * transaction group; a seal keeps one of each.
 */
static bool logs_are_long(struct sz_store *store)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < store->device_count; i++) {
		MUTEX_SCOPE(&store->devices[i].log_lock);

		pages += store->devices[i].live->log.next_page;
	}
	return pages > (uint64_t)SEAL_PAGES * store->device_count;
}

/* For a write: what is there for it before it has to fail. */
static int room_make_for_write(struct sz_store *store)
{
	if (sz_room_make(store, 0) == 0)
		return 0;
	if (!writes_folders(store))
		return -ENOSPC;
	if (room_was_made(store, sz_spare_give(store, SPARE_WRITES)) == 0)
		return 0;
	if (!logs_are_long(store))
		return -ENOSPC;
	return room_was_made(store, sz_seal_run_locked(store, SEAL_CHANGES, NULL));
}

/* Room for a few bands of the smallest size, on some disk. */
static bool can_free(const struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++)
		if (store->devices[i].folder != NO_DEVICE &&
		    sz_device_room(&store->devices[i], true) >= store->band_sectors / 2 * SECTOR)
			return true;
	return false;
}

/*
 * Bands and deltas of which something is dead are written anew; the old ones are history then. -ENOSPC: there are none,
 * and will be none before the next seal; or no room for it.
 */
static int dead_free(struct sz_store *store)
{
	int result;

	if (!writes_folders(store) || store->freed_to == store->root.generation || !can_free(store))
		return -ENOSPC;
	result = sz_seal_run_locked(store, SEAL_FREE, NULL);
	if (result == 0 && store->has_freed)
		return 0;
	(void)!sz_room_make(store, 0); /* what was before that seal needs no space any more */
	store->freed_to = store->root.generation;
	return -ENOSPC;
}

static uint64_t room_now(struct sz_store *store)
{
	space_look(store);
	return atomic_load(&store->room_bytes);
}

static void folders_settle(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++)
		if (store->devices[i].folder != NO_DEVICE)
			sz_backend_settle(store->folders[store->devices[i].folder].backend);
}

int sz_store_make_room(struct sz_store *store, uint64_t wanted_bytes)
{
	MUTEX_SCOPE(&store->seal_lock);

	for (;;) {
		uint64_t room = room_now(store);

		if (room < wanted_bytes) {
			folders_settle(store);
			room = room_now(store);
		}
		if (room >= wanted_bytes)
			return 0;
		if (sz_room_make(store, wanted_bytes - room) != 0 && dead_free(store) != 0)
			return -ENOSPC;
	}
}

int sz_device_make_room(struct sz_device *device, uint64_t since_ns)
{
	struct sz_store *store = device->store;
	MUTEX_SCOPE(&store->seal_lock);

	return store->room_made_ns > since_ns ? 0 : room_make_for_write(store);
}

int sz_seal_freeing(struct sz_store *store, enum seal_mode mode, struct sz_error *error)
{
	MUTEX_SCOPE(&store->seal_lock);
	uint64_t before = store->root.generation;
	int result = sz_seal_run_locked(store, mode, error);

	/* What was freed is known to be dead now, and not before: so it goes with one more. */
	if (result == 0 && store->root.generation != before && sz_store_is_short(store))
		(void)!sz_seal_run_locked(store, SEAL_ALWAYS, NULL);
	return result;
}

int sz_store_give_back(struct sz_store *store, struct sz_error *error)
{
	return sz_seal_freeing(store, SEAL_CHANGES, error);
}
