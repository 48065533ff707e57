/*
 * A model of a store's devices: what each sector may hold.
 *
 * Every write gets a version, and fills each of its sectors with a pattern of seed, device, sector
 * and version: a sector that is read back says which write it is of, and cannot be mistaken.
 * Version 0 is zeros: never written, or trimmed.
 *
 * The model keeps the whole history of writes and TRIMs, and for each device what is settled: durable
 * since a flush or seal was acknowledged. What a crash leaves must be, for each device, a *prefix* of
 * its history that holds at least all that is settled; what a torn copy gives must be a prefix of
 * the whole store's.
 */
#ifndef SZ_TESTS_DEVICE_MODEL_H
#define SZ_TESTS_DEVICE_MODEL_H

#include "base/base.h"

#define MODEL_DEVICES_MAX 6U
#define MODEL_GARBAGE     UINT32_MAX       /* no content that was ever written here */
#define MODEL_DAMAGED     (UINT32_MAX - 1) /* -EBADMSG */
#define MODEL_ANY         (UINT32_MAX - 2) /* a comparison does not ask what it is */

struct model_change {
	uint32_t device;
	uint32_t sector;
	uint32_t count;
	uint32_t version; /* 0: TRIM */
	bool has_failed;  /* each of its sectors may be old or new */
};

struct model {
	uint64_t seed;
	uint32_t device_count;
	uint32_t sectors; /* of each device */
	uint32_t next_version;
	struct model_change *history;
	size_t length;
	size_t capacity;
	size_t settled[MODEL_DEVICES_MAX]; /* changes of the device before this one are settled */
	uint32_t *content[MODEL_DEVICES_MAX]; /* settled versions, one a sector */
	bool *is_loose[MODEL_DEVICES_MAX];    /* sectors that a failed change touched last */
};

/* SplitMix64 (Steele, Lea, Flood, 2014): the tests' only source of chance. */
uint64_t chance(uint64_t *state);
uint64_t chance_below(uint64_t *state, uint64_t limit);

/* How much more than usual is tried: SZ_TEST_SCALE, or 1. */
uint64_t test_scale(void);
/* Of many cases that are alike, one in how many is tried: 1, or more under a sanitizer, where each takes long. */
uint64_t test_thinning(void);

/* The seed of this run: SZ_SEED, or fresh. Printed as a TAP comment. */
uint64_t chance_seed(const char *what);

void model_init(struct model *model, uint64_t seed, uint32_t device_count, uint32_t sectors);
void model_fini(struct model *model);

/* Notes a change before it is tried; returns its place in the history. */
size_t model_write(struct model *model, uint32_t device, uint64_t sector, uint32_t count);
size_t model_trim(struct model *model, uint32_t device, uint64_t sector, uint64_t count);
/* All changes of the device before `length` are durable. */
void model_settle(struct model *model, uint32_t device, size_t length);
/* The device holds these versions, durably: what an opening after a crash found. */
void model_collapse(struct model *model, uint32_t device, const uint32_t *observed);

/* The content of a sector at a version, and back. */
void model_fill(const struct model *model, uint32_t device, uint64_t sector, uint32_t version,
		void *buffer);
uint32_t model_recognise(const struct model *model, uint32_t device, uint64_t sector,
			 const void *buffer);

/* What the device must hold while it is open: all of the history. */
void model_newest(const struct model *model, uint32_t device, uint32_t *versions);

/*
 * Compare with what was observed, one version a sector. They print what is wrong and return false.
 * is_exact: the whole history is there; else a prefix that holds what is settled.
 */
bool model_agrees(const struct model *model, uint32_t device, const uint32_t *observed,
		  bool is_exact);
/*
 * One point in time of all devices, no earlier than `least`? It may be in the middle of a write: an epoch
 * ends between two pieces of one. Only for a history without a collapse.
 * Prints only if it is_loud.
 */
bool model_is_instant(const struct model *model, uint32_t *const *observed, size_t least,
		      bool is_loud);

#endif
