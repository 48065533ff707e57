/*
 * keep: which generations are kept, why, and what would come back without them; what a user wishes for beside the
 * ladder. --drop-history removes all of it that nobody reads.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define SECOND_NS 1000000000ULL
/* In the order in which they are told. The ladder's rungs are not named by age: that changes. */
static const struct {
	enum sz_retain_reason reason;
	const char *name;
} reasons[] = {
	{ SZ_RETAIN_NEWEST, "newest" },
	{ SZ_RETAIN_HELD, "in use" },
	{ SZ_RETAIN_RUNG, "ladder" },
	{ SZ_RETAIN_LAST, "last" },
	{ SZ_RETAIN_HOURLY, "hourly" },
	{ SZ_RETAIN_DAILY, "daily" },
	{ SZ_RETAIN_WEEKLY, "weekly" },
	{ SZ_RETAIN_MONTHLY, "monthly" },
	{ SZ_RETAIN_LINK, "a link to older ones" },
};

struct listing {
	struct sz_kept *kept; /* oldest first */
	size_t count;
	size_t capacity;
	uint64_t going; /* how many go, and what comes back */
	uint64_t going_bytes;
	bool drops; /* all that may go goes */
};

static bool goes(const struct listing *listing, const struct sz_kept *kept)
{
	const unsigned int always = SZ_RETAIN_NEWEST | SZ_RETAIN_HELD;

	return listing->drops ? (kept->reasons & always) == 0 : kept->reasons == 0;
}

static int kept_add(void *context, const struct sz_kept *kept)
{
	struct listing *listing = context;
	struct sz_kept *grown =
		array_room(listing->kept, listing->count, &listing->capacity, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	listing->kept = grown;
	listing->kept[listing->count++] = *kept;
	if (goes(listing, kept)) {
		listing->going++;
		listing->going_bytes += kept->ends_bytes;
	}
	return 0;
}

static void listing_free(struct listing *listing)
{
	free(listing->kept);
}

/* What the command line changes of the policy; the rest of it stays. False: nothing. */
static bool policy_change(const struct invocation *invocation, struct sz_keep_policy *policy)
{
	const struct sz_keep_policy *wish = &invocation->options.keep;
	const struct {
		enum option_id id;
		uint32_t wish;
		uint32_t *to;
	} numbers[] = {
		{ OPTION_LAST, wish->last, &policy->last },
		{ OPTION_HOURLY, wish->hourly, &policy->hourly },
		{ OPTION_DAILY, wish->daily, &policy->daily },
		{ OPTION_WEEKLY, wish->weekly, &policy->weekly },
		{ OPTION_MONTHLY, wish->monthly, &policy->monthly },
		{ OPTION_BUDGET, wish->budget_percent, &policy->budget_percent },
	};
	bool is_changed = false;

	for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++) {
		if (!option_is_given(invocation, numbers[i].id))
			continue;
		*numbers[i].to = numbers[i].wish;
		is_changed = true;
	}
	if (option_is_given(invocation, OPTION_BUDGET))
		policy->budget_bytes = wish->budget_bytes;
	return is_changed;
}

static json_t *policy_json(const struct sz_keep_policy *policy)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:I}", "last", (int)policy->last, "hourly",
			 (int)policy->hourly, "daily", (int)policy->daily, "weekly",
			 (int)policy->weekly, "monthly", (int)policy->monthly, "budget_percent",
			 (int)policy->budget_percent, "budget_bytes",
			 (json_int_t)policy->budget_bytes);
}

static json_t *kept_json(const struct listing *listing, const struct sz_kept *kept)
{
	json_t *names = json_array();

	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++)
		if ((kept->reasons & reasons[i].reason) != 0)
			(void)json_array_append_new(names, json_string(reasons[i].name));
	return json_pack("{s:I, s:s, s:I, s:I, s:b, s:o, s:b, s:I}", "generation",
			 (json_int_t)kept->generation, "code", kept->code, "sealed_wall_ns",
			 (json_int_t)kept->sealed_wall_ns, "age_s",
			 (json_int_t)(kept->age_ns / SECOND_NS), "is_complete", kept->is_complete,
			 "kept_for", names, "goes", goes(listing, kept), "returns_bytes",
			 (json_int_t)kept->ends_bytes);
}

/* removed: what has gone already, else it is only told what would. */
static int json_show(struct invocation *invocation, const struct sz_keep_policy *policy,
		     const struct listing *listing, const struct sz_history_info *history,
		     bool removed)
{
	json_t *generations = json_array();

	for (size_t i = listing->count; i > 0; i--)
		(void)json_array_append_new(generations, kept_json(listing, &listing->kept[i - 1]));
	return json_print(json_pack("{s:o, s:o, s:o, s:b, s:I, s:I}", "policy", policy_json(policy),
				    "history", history_json(history), "generations", generations,
				    "removed", removed, "going", (json_int_t)listing->going,
				    "going_bytes", (json_int_t)listing->going_bytes),
			  &invocation->error);
}

static void policy_print(const struct sz_keep_policy *policy)
{
	const struct {
		uint32_t number;
		const char *name;
	} wishes[] = {
		{ policy->last, "last" },       { policy->hourly, "hourly" },
		{ policy->daily, "daily" },     { policy->weekly, "weekly" },
		{ policy->monthly, "monthly" },
	};
	char budget[SIZE_TEXT_BYTES];

	(void)fputs(" policy: the ladder", console_out());
	for (size_t i = 0; i < ARRAY_LENGTH(wishes); i++)
		if (wishes[i].number > 0)
			(void)fprintf(console_out(), ", %" PRIu32 " %s", wishes[i].number,
				      wishes[i].name);
	size_text(policy->budget_bytes, budget);
	if (policy->budget_bytes > 0)
		(void)fprintf(console_out(), "; budget %s\n", budget);
	else
		(void)fprintf(console_out(), "; budget %" PRIu32 "%% of the store\n",
			      policy->budget_percent);
}

static void kept_print(const struct listing *listing, const struct sz_kept *kept)
{
	const char *before = "";
	unsigned int told = kept->reasons;
	char age[SPAN_TEXT_BYTES];
	char bytes[SIZE_TEXT_BYTES];

	if ((told & SZ_RETAIN_NEWEST) != 0)
		told &= ~(unsigned int)SZ_RETAIN_HELD; /* the live epoch stands on it: of course */
	span_text(kept->age_ns / SECOND_NS, age);
	size_text(kept->ends_bytes, bytes);
	(void)fprintf(console_out(), "%-*s  %12s  %8s  ", CODE_WIDTH, kept->code, age, bytes);
	if (goes(listing, kept))
		told = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++) {
		if ((told & reasons[i].reason) == 0)
			continue;
		(void)fprintf(console_out(), "%s%s", before, reasons[i].name);
		before = ", ";
	}
	(void)fprintf(console_out(), "%s%s\n", told == 0 ? "goes" : "",
		      kept->is_complete ? "" : "; incomplete");
}

static void text_show(struct invocation *invocation, const struct sz_keep_policy *policy,
		      const struct listing *listing, const struct sz_history_info *history)
{
	policy_print(policy);
	history_print(invocation, history, 7);
	(void)fprintf(console_out(), "\n%-*s  %12s  %8s  %s\n", CODE_WIDTH, "CODE", "AGE",
		      "RETURNS", "KEPT FOR");
	for (size_t i = listing->count; i > 0; i--)
		kept_print(listing, &listing->kept[i - 1]);
}

static void going_print(const struct listing *listing, const char *verb)
{
	char bytes[SIZE_TEXT_BYTES];

	size_text(listing->going_bytes, bytes);
	(void)fprintf(console_out(), "\n%s: %" PRIu64 " generation%s, %s\n", verb, listing->going,
		      listing->going == 1 ? "" : "s", bytes);
}

/* Removes what the listing says that it goes; what is read meanwhile stays. */
static int history_drop(struct invocation *invocation, struct session *session,
			struct listing *listing)
{
	struct sz_store_info before;
	struct sz_store_info after;
	struct sz_history_info history;
	char question[96];
	char bytes[SIZE_TEXT_BYTES];
	int result;

	if (listing->going == 0)
		return 0;
	size_text(listing->going_bytes, bytes);
	(void)snprintf(question, sizeof(question),
		       "remove %" PRIu64 " generation%s for good, about %s?", listing->going,
		       listing->going == 1 ? "" : "s", bytes);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	sz_store_info(session->store, &before);
	result = sz_store_collect(session->store, true, &invocation->error);
	if (result != 0)
		return store_fail(invocation, result);
	sz_store_info(session->store, &after);
	sz_store_history_info(session->store, &history);
	listing->going = listing->count - history.generations;
	listing->going_bytes = before.stored_bytes > after.stored_bytes
				       ? before.stored_bytes - after.stored_bytes
				       : 0;
	return 0;
}

static int keep(struct invocation *invocation, struct session *session, bool writes)
{
	bool drops = option_is_given(invocation, OPTION_DROP_HISTORY);
	bool is_json = option_is_given(invocation, OPTION_JSON);
	CLEANUP(listing_free) struct listing listing = { .drops = drops };
	struct sz_history_info history;
	struct sz_keep_policy policy;
	bool is_changed;
	int result = 0;

	sz_store_keep_policy(session->store, &policy);
	is_changed = policy_change(invocation, &policy);
	if (is_changed && writes)
		result = sz_store_set_keep_policy(session->store, &policy, &invocation->error);
	if (result == 0)
		result = sz_store_kept_each(session->store, &policy, kept_add, &listing,
					    &invocation->error);
	if (result != 0)
		return store_fail(invocation, result);
	(void)history_find(session, &history);
	if (!is_json)
		text_show(invocation, &policy, &listing, &history);
	if (drops && writes)
		result = history_drop(invocation, session, &listing);
	if (result != 0)
		return result;
	if (is_json)
		return json_show(invocation, &policy, &listing, &history, drops && writes);
	if (drops)
		going_print(&listing, writes ? "removed" : "would be removed");
	else if (listing.going > 0)
		going_print(&listing, writes || !is_changed ? "due, and removed by a later seal"
							    : "would be removed by a later seal");
	return 0;
}

int cmd_keep(struct invocation *invocation)
{
	bool drops = option_is_given(invocation, OPTION_DROP_HISTORY);
	struct sz_keep_policy unused = { 0 };
	bool changes = policy_change(invocation, &unused);
	bool writes = !option_is_given(invocation, OPTION_DRY_RUN) && (drops || changes);
	struct session session;
	int result;

	if (drops && changes)
		return usage_fail(invocation,
				  "--drop-history removes what any policy keeps: give it alone");
	result = session_open(invocation, !writes, SESSION_STORE, &session);
	if (result != 0)
		return result;
	result = keep(invocation, &session, writes);
	return session_close(invocation, &session, result);
}
