/*
 * retain: which generations are kept. Pure: no I/O, no clock, no memory of its own.
 *
 * The *ladder* keeps, for every age x from SZ_LADDER_AGE_MIN_NS to SZ_LADDER_AGE_MAX_NS (bounds.h), a complete generation whose age
 * is between x and 2x, if there ever was one. So a copy that takes that long holds a complete generation
 * that is at most about x older than its beginning. What a user wishes for, and who is reading, comes on top.
 *
 * Ages are by the store's own clock, which no wall clock moves. Days and months are by the wall clock, as
 * people mean them, but counted in the order of the generations: one that a wrong clock put into another
 * year counts once, and not for ever.
 */
#ifndef SZ_DEVICE_RETAIN_H
#define SZ_DEVICE_RETAIN_H

#include "device/bounds.h"
#include "device/device.h"

/* These are kept whatever it costs. */
#define SZ_RETAIN_ALWAYS (SZ_RETAIN_NEWEST | SZ_RETAIN_HELD)

struct sz_retained {
	uint64_t store_time_ns; /* ascends */
	uint64_t wall_time_ns;
	bool is_complete;     /* and has data */
	bool is_held;         /* the live epoch stands on it, or somebody reads it */
	uint64_t ends_bytes;  /* of the objects that no newer kept generation refers to */
	unsigned int reasons; /* out: 0: it may go */
};

/*
 * Chooses among generations, oldest first. What may go now is never missed later: of what one call lets go
 * nothing is needed for a rung of any later instant.
 */
void sz_retain_choose(struct sz_retained *generations, size_t count,
		      const struct sz_keep_policy *policy, uint64_t now_ns);

/*
 * Takes the reasons of the oldest away until what only history refers to is at most budget_bytes.
 * Returns what it is then. ends_bytes must be those among the kept ones.
 */
uint64_t sz_retain_fit(struct sz_retained *generations, size_t count, uint64_t budget_bytes);

/*
 * How long a copy may take that begins now and still end with a complete generation, if the store goes on to
 * change as it did since the oldest kept generation.
 */
uint64_t sz_retain_copy_ns(const struct sz_retained *generations, size_t count,
			   uint64_t budget_bytes, uint64_t now_ns);

#endif
