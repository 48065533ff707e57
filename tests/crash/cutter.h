/*
 * Cuts the power of a harness's disks before every change that a store makes on them, and opens
 * what is left. A cut is taken where the change is made, and tried when the store's function has
 * returned: the model knows by then what the function was to do, and not yet that it has done it.
 */
#ifndef SZ_TESTS_CRASH_CUTTER_H
#define SZ_TESTS_CRASH_CUTTER_H

#include "../device/harness.h"

#include <pthread.h>

struct cut {
	uint64_t operation; /* the change before which it was made: 1 is the first */
	enum sz_crash crash;
	uint64_t seed;
	struct sz_backend *disks[MODEL_DEVICES_MAX];
	struct harness *harness; /* a harness without a store, which only holds names */
};

struct cutter {
	struct harness *harness;
	uint64_t chance;
	unsigned int every; /* one cut in so many changes, by chance */
	bool cuts_recovery; /* some recoveries are cut, too */
	bool is_inner;      /* it cuts a recovery */
	uint64_t operation;
	pthread_mutex_t lock; /* guards cuts: a store may change its disks from several threads */
	struct cut *cuts;
	size_t count;
	uint64_t tried;
	void (*try_cut)(struct cutter *, struct harness *); /* instead of opening and checking it */
	void *context;
};

/* From here on; the cuts are tried after each of the harness's functions, or by cutter_try. */
void cutter_begin(struct cutter *, struct harness *, uint64_t seed, unsigned int every,
		  bool cuts_recovery);
void cutter_end(struct cutter *);
/* Opens what every cut left, checks it, and drops it. */
void cutter_try(struct cutter *);

/* A test's tear-down: which cut was being tried when it failed. */
int cutter_report(void **state);

#endif
