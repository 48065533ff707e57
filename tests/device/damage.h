/*
 * What can become of a file at a careless or hostile host, and a store whose every sector is in a
 * known kind of object, so that a test can say exactly what a damaged file may cost.
 */
#ifndef SZ_TESTS_DEVICE_DAMAGE_H
#define SZ_TESTS_DEVICE_DAMAGE_H

#include "objects.h"

enum form {
	/* of these nothing may be lost */
	FORM_RENAMED,    /* another name, as a synchroniser gives to a conflict */
	FORM_HEX_NAME,   /* another name of the right shape */
	FORM_MOVED,      /* in the next device's folder */
	FORM_DUPLICATED, /* twice, the second time under another name */
	FORM_HARMLESS,   /* the number of these */
	/* of these the object is gone */
	FORM_DELETED = FORM_HARMLESS,
	FORM_EMPTY,      /* truncated to nothing */
	FORM_CUT_HEADER, /* truncated in the header page */
	FORM_FLIPPED_SALT,
	FORM_FLIPPED_HEADER, /* a bit in its ciphertext */
	FORM_FLIPPED_TAG,
	FORM_RANDOM,    /* as long, but random */
	FORM_EXCHANGED, /* the content of another object of the same kind */
	FORM_FATAL,     /* until here */
	/* of these a part is gone, or nothing */
	FORM_CUT_HALF = FORM_FATAL,
	FORM_CUT_LAST, /* the last byte is missing */
	FORM_CUT_TRAILER,
	FORM_FLIPPED_SECTOR, /* a bit of the first page behind the header */
	FORM_FLIPPED_MIDDLE,
	FORM_FLIPPED_PAGE, /* in the last page */
	FORM_FLIPPED_TRAILER,
	FORM_GROWN, /* more bytes behind its end */
	FORM_COUNT,
};
const char *form_name(enum form);

/* Does it to one file; durably. Other is what FORM_EXCHANGED takes. */
void damage_object(struct harness *, const struct object *, enum form, const struct object *other);

/*
 * A closed store of `devices` devices with 1,280 sectors each, bands of 256, in three generations
 * after the first:
 *   band 1, sectors 256 to 511:    written once
 *   band 2, sectors 512 to 767:    written, then 520 to 529 again and 540 to 549 trimmed (a delta)
 *   band 3, sectors 768 to 1,023:  written, then 800 to 804 again (the next delta)
 *   hot area:                      sectors 0 to 9, and the last five
 * Nothing else holds data.
 */
#define SPREAD_SECTORS 1280U
void spread_init(struct harness *, uint32_t devices, uint64_t seed);

/*
 * What of its device a lost object may cost (of a hot image: the newest): a flag for each sector. Returns how many of them it
 * must cost: all, but of the hot area those that were written (a lost image does not say which).
 */
uint32_t spread_cost(struct harness *, const struct objects *, const struct object *,
		     bool cost[SPREAD_SECTORS]);

/*
 * Reads all of a device. Each sector must be what was written last or, where `cost` allows it
 * (NULL: nowhere), damaged, which is filler, the same each time. Returns how many are damaged.
 */
uint32_t damage_check(struct harness *, uint32_t device, const bool *cost);

#endif
