/*
 * runs: sets of sectors, as runs of them: sorted, apart, none empty. Pure: no I/O, no lock.
 */
#ifndef SZ_DEVICE_RUNS_H
#define SZ_DEVICE_RUNS_H

#include "base/base.h"
#include "format/format.h"

struct sz_runs { /* zeroed: the empty set */
	struct sz_run *at;
	size_t count;
	size_t capacity;
};

/* At the end: sector is not below the last run's end. -ENOMEM */
int sz_runs_add(struct sz_runs *, uint64_t sector, uint64_t count) MUST_CHECK;
/* *runs becomes what either covers. -ENOMEM: it is some of that. */
int sz_runs_join(struct sz_runs *runs, const struct sz_runs *more) MUST_CHECK;
uint64_t sz_runs_size(const struct sz_runs *); /* sectors */
/* How many of length sectors from sector are in it. */
uint64_t sz_runs_covered(const struct sz_runs *, uint64_t sector, uint64_t length);
void sz_runs_free(struct sz_runs *);

/* The first run that ends behind sector; NULL: none. */
const struct sz_run *sz_runs_find(const struct sz_run *runs, uint32_t count, uint64_t sector);

#endif
