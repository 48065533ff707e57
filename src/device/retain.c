/*
 * retain: which generations are kept (see retain.h).
 *
 * Why a choice of today leaves the rungs of tomorrow: a generation goes when its older neighbour o is at most
 * twice as old as its younger neighbour y. Both grow older by the same amount, so that stays true, also when
 * o or y goes later: then their neighbours are that close. So a generation that is between x and 2x old at
 * any time has an o of at most twice y's age around it, and one of the two is between x and 2x old as well.
 *
 * Generations that are not complete are no rungs, nor is the one from before there was any data: complete ones are
 * chosen as if the others were not there. The others are thinned by the same rule with all that is kept as neighbours.
 */
#include "device/retain.h"

#include <time.h>

#define DAYS_TO_MONDAY 3U /* 1970 began on a Thursday */

static uint64_t age_of(const struct sz_retained *generation, uint64_t now_ns)
{
	return now_ns > generation->store_time_ns ? now_ns - generation->store_time_ns : 0;
}

/* May it go, between its neighbours? older NULL: it is the oldest. */
static bool is_spare(const struct sz_retained *older, const struct sz_retained *generation,
		     const struct sz_retained *younger, uint64_t now_ns)
{
	uint64_t younger_ns = age_of(younger, now_ns);

	if (older == NULL)
		return younger_ns >= SZ_LADDER_AGE_MAX_NS;
	if (age_of(older, now_ns) - younger_ns < SZ_LADDER_DENSE_NS)
		return true;
	return age_of(generation, now_ns) > SZ_LADDER_RECENT_NS &&
	       age_of(older, now_ns) <= 2 * younger_ns;
}

/* Complete ones are thinned among themselves, the others among all that is kept. */
static bool takes_part(const struct sz_retained *generation, bool complete)
{
	return complete ? generation->is_complete
			: !generation->is_complete || generation->reasons != 0;
}

static const struct sz_retained *younger_of(const struct sz_retained *at,
					    const struct sz_retained *end, bool complete)
{
	for (at++; at < end; at++)
		if (takes_part(at, complete))
			return at;
	return NULL;
}

static void ladder(struct sz_retained *generations, size_t count, bool complete, uint64_t now_ns)
{
	const struct sz_retained *end = generations + count;
	const struct sz_retained *older = NULL;

	for (struct sz_retained *at = generations; at < end; at++) {
		const struct sz_retained *younger = younger_of(at, end, complete);

		if (at->is_complete == complete) {
			if (younger == NULL)
				at->reasons |= SZ_RETAIN_NEWEST;
			else if (!is_spare(older, at, younger, now_ns))
				at->reasons |= SZ_RETAIN_RUNG;
		}
		if (at->reasons != 0 && takes_part(at, complete))
			older = at;
	}
}

static uint64_t hour_of(uint64_t wall_ns)
{
	return wall_ns / SZ_HOUR_NS;
}

static uint64_t day_of(uint64_t wall_ns)
{
	return wall_ns / SZ_DAY_NS;
}

static uint64_t week_of(uint64_t wall_ns)
{
	return (day_of(wall_ns) + DAYS_TO_MONDAY) / 7;
}

static uint64_t month_of(uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / SZ_SECOND_NS);
	struct tm date = { 0 };

	(void)gmtime_r(&seconds, &date);
	return (uint64_t)date.tm_year * 12 + (uint64_t)date.tm_mon;
}

/* The newest complete one of each of the last `wished` periods that have one. */
static void periods(struct sz_retained *generations, size_t count, uint32_t wished,
		    uint64_t (*period_of)(uint64_t wall_ns), enum sz_retain_reason reason)
{
	uint64_t last = 0;
	uint32_t found = 0;

	for (size_t i = count; i > 0 && found < wished; i--) {
		struct sz_retained *at = &generations[i - 1];
		uint64_t period = period_of(at->wall_time_ns);

		if (!at->is_complete || (found > 0 && period == last))
			continue;
		at->reasons |= reason;
		last = period;
		found++;
	}
}

static void newest(struct sz_retained *generations, size_t count, uint32_t wished)
{
	for (size_t i = count; i > 0 && wished > 0; i--) {
		if (!generations[i - 1].is_complete)
			continue;
		generations[i - 1].reasons |= SZ_RETAIN_LAST;
		wished--;
	}
}

void sz_retain_choose(struct sz_retained *generations, size_t count,
		      const struct sz_keep_policy *policy, uint64_t now_ns)
{
	for (size_t i = 0; i < count; i++)
		generations[i].reasons = generations[i].is_held ? SZ_RETAIN_HELD : 0;
	newest(generations, count, policy->last);
	periods(generations, count, policy->hourly, hour_of, SZ_RETAIN_HOURLY);
	periods(generations, count, policy->daily, day_of, SZ_RETAIN_DAILY);
	periods(generations, count, policy->weekly, week_of, SZ_RETAIN_WEEKLY);
	periods(generations, count, policy->monthly, month_of, SZ_RETAIN_MONTHLY);
	ladder(generations, count, true, now_ns);
	ladder(generations, count, false, now_ns);
}

/* What only kept generations before the last one refer to. */
static uint64_t history_bytes(const struct sz_retained *generations, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i + 1 < count; i++)
		if (generations[i].reasons != 0)
			sum += generations[i].ends_bytes;
	return sum;
}

uint64_t sz_retain_fit(struct sz_retained *generations, size_t count, uint64_t budget_bytes)
{
	uint64_t history = history_bytes(generations, count);

	for (size_t i = 0; i + 1 < count && history > budget_bytes; i++) {
		struct sz_retained *at = &generations[i];

		if (at->reasons == 0 || (at->reasons & SZ_RETAIN_ALWAYS) != 0)
			continue;
		at->reasons = 0;
		history -= at->ends_bytes;
	}
	return history;
}

uint64_t sz_retain_copy_ns(const struct sz_retained *generations, size_t count,
			   uint64_t budget_bytes, uint64_t now_ns)
{
	uint64_t history = history_bytes(generations, count);
	uint64_t oldest_ns = 0;
	double reach;

	for (size_t i = count; i > 0; i--)
		if (generations[i - 1].reasons != 0 && generations[i - 1].is_complete)
			oldest_ns = age_of(&generations[i - 1], now_ns);
	if (history == 0)
		return SZ_COPY_MAX_NS;
	reach = (double)oldest_ns * ((double)budget_bytes / (double)history);
	return reach < (double)SZ_COPY_MAX_NS ? (uint64_t)reach : SZ_COPY_MAX_NS;
}
