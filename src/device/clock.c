/*
 * clock: the store's own time, by which generations grow old. It never goes back; while the store is open it
 * runs as the machine does, asleep or awake, whatever the wall clock says. How long the store was closed only
 * the wall clock can tell: it is believed as far as it does little harm if it is wrong.
 *
 * A clock that is slow keeps generations longer than need be; one that jumps ahead would throw the history away.
 */
#include "device/device_internal.h"
#include "device/retain.h"

void sz_time_start(struct sz_store *store)
{
	uint64_t wall_ns = sz_wall_ns();
	uint64_t closed_ns = 0;

	if (store->root.generation != 0 && wall_ns > store->root.wall_time_ns)
		closed_ns = wall_ns - store->root.wall_time_ns;
	if (closed_ns > CLOSED_MAX_NS)
		closed_ns = CLOSED_MAX_NS;
	store->opened_time_ns = store->root.store_time_ns + closed_ns;
	store->opened_boot_ns = sz_boot_ns();
}

uint64_t sz_time_now(const struct sz_store *store)
{
	uint64_t now_ns = store->opened_time_ns + (sz_boot_ns() - store->opened_boot_ns);

	/* No two generations are of one time. */
	return now_ns > store->root.store_time_ns ? now_ns : store->root.store_time_ns + 1;
}
