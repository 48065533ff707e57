/* runs: see runs.h. */
#include "device/runs.h"

#include <errno.h>

#define CAPACITY_FIRST 256U

void sz_runs_free(struct sz_runs *runs)
{
	free(runs->at);
	*runs = (struct sz_runs){ 0 };
}

int sz_runs_add(struct sz_runs *runs, uint64_t sector, uint64_t count)
{
	struct sz_run *last = runs->count == 0 ? NULL : &runs->at[runs->count - 1];

	if (last != NULL && last->sector + last->count == sector) {
		last->count += count;
		return 0;
	}
	if (runs->at == NULL || runs->count == runs->capacity) {
		size_t capacity = runs->capacity == 0 ? CAPACITY_FIRST : 2 * runs->capacity;
		struct sz_run *grown = realloc(runs->at, capacity * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		runs->at = grown;
		runs->capacity = capacity;
	}
	runs->at[runs->count++] = (struct sz_run){ sector, count };
	return 0;
}

int sz_runs_join(struct sz_runs *runs, const struct sz_runs *more)
{
	CLEANUP(sz_runs_free) struct sz_runs old = *runs;
	size_t i = 0;
	size_t j = 0;
	int result = 0;

	*runs = (struct sz_runs){ 0 };
	while ((i < old.count || j < more->count) && result == 0) {
		const struct sz_run *next =
			j == more->count || (i < old.count && old.at[i].sector < more->at[j].sector)
				? &old.at[i++]
				: &more->at[j++];
		struct sz_run *last = runs->count == 0 ? NULL : &runs->at[runs->count - 1];
		uint64_t end = next->sector + next->count;

		if (last == NULL || next->sector > last->sector + last->count)
			result = sz_runs_add(runs, next->sector, next->count);
		else if (end > last->sector + last->count)
			last->count = end - last->sector;
	}
	return result;
}

uint64_t sz_runs_size(const struct sz_runs *runs)
{
	uint64_t sectors = 0;

	for (size_t i = 0; i < runs->count; i++)
		sectors += runs->at[i].count;
	return sectors;
}

uint64_t sz_runs_covered(const struct sz_runs *runs, uint64_t sector, uint64_t length)
{
	const struct sz_run *run = sz_runs_find(runs->at, (uint32_t)runs->count, sector);
	uint64_t sum = 0;

	for (; run != NULL && run < runs->at + runs->count && run->sector < sector + length;
	     run++) {
		uint64_t from = run->sector > sector ? run->sector : sector;
		uint64_t to = run->sector + run->count;

		sum += (to < sector + length ? to : sector + length) - from;
	}
	return sum;
}

const struct sz_run *sz_runs_find(const struct sz_run *runs, uint32_t count, uint64_t sector)
{
	uint32_t low = 0;
	uint32_t high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (runs[middle].sector + runs[middle].count > sector)
			high = middle;
		else
			low = middle + 1;
	}
	return low < count ? &runs[low] : NULL;
}
