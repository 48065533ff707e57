/*
 * keep: what a user wishes to be kept besides the ladder, and how much history may take. It stands in a note in the
 * store's own folder, so it goes where the store goes. If the note is lost, the ladder holds all the same.
 */
#include "device/device_internal.h"
#include "device/retain.h"

#include <errno.h>

#define POLICY_BYTES 32U

static const char purpose[] = "szpool1 keep";

static bool policy_is_possible(const struct sz_keep_policy *policy)
{
	return policy->last <= PERIODS_MAX && policy->hourly <= PERIODS_MAX &&
	       policy->daily <= PERIODS_MAX && policy->weekly <= PERIODS_MAX &&
	       policy->monthly <= PERIODS_MAX && policy->budget_percent <= BUDGET_PERCENT_MAX &&
	       (policy->budget_bytes == 0 || policy->budget_percent == 0);
}

static int policy_encode(const struct sz_keep_policy *policy, struct sz_bytes *payload)
{
	const uint32_t numbers[] = { policy->last,   policy->hourly,  policy->daily,
				     policy->weekly, policy->monthly, policy->budget_percent };
	int result = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(numbers) && result == 0; i++)
		result = sz_bytes_append_le(payload, numbers[i], 4);
	return result != 0 ? result : sz_bytes_append_le(payload, policy->budget_bytes, 8);
}

/* -EUCLEAN: a later version's, perhaps. */
static int policy_decode(const struct sz_bytes *payload, struct sz_keep_policy *policy_out)
{
	struct sz_cursor cursor = { .data = payload->data, .length = payload->length };
	struct sz_keep_policy policy;

	policy.last = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.hourly = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.daily = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.weekly = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.monthly = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.budget_percent = (uint32_t)sz_cursor_le(&cursor, 4);
	policy.budget_bytes = sz_cursor_le(&cursor, 8);
	if (payload->length != POLICY_BYTES || !policy_is_possible(&policy))
		return -EUCLEAN;
	*policy_out = policy;
	return 0;
}

void sz_keep_load(struct sz_store *store)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result;

	store->keep = (struct sz_keep_policy){ .budget_percent = BUDGET_PERCENT };
	if (store->path == NULL)
		return;
	result = sz_note_read(store->keys, store->folders[0].backend, SZ_KIND_KEEP, purpose,
			      &payload);
	if (result == 0)
		result = policy_decode(&payload, &store->keep);
	if (result != 0 && result != -ENOENT)
		sz_warn("%s: the note of what is to be kept cannot be read (%s): see szpool keep",
			store->path, strerror(-result));
}

void sz_store_keep_policy(struct sz_store *store, struct sz_keep_policy *policy_out)
{
	MUTEX_SCOPE(&store->seal_lock);

	*policy_out = store->keep;
}

int sz_store_set_keep_policy(struct sz_store *store, const struct sz_keep_policy *policy,
			     struct sz_error *error)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	int result;

	if (!policy_is_possible(policy))
		return sz_fail(error, -EINVAL,
			       "at most %u are kept of a kind, and %u %% of the store", PERIODS_MAX,
			       BUDGET_PERCENT_MAX);
	if (!writes_folders(store))
		return sz_fail(error, -EROFS, "the store is open for reading only");
	result = store->path == NULL ? 0 : policy_encode(policy, &payload);
	if (result == 0 && store->path != NULL)
		result = sz_note_write(store->keys, store->folders[0].backend, SZ_KIND_KEEP,
				       purpose, &payload);
	if (result != 0)
		return sz_fail(error, result, "%s: noting what is to be kept: %s", store->path,
			       strerror(-result));
	store->keep = *policy;
	return 0;
}

uint64_t sz_keep_budget(const struct sz_keep_policy *policy, uint64_t store_bytes)
{
	uint64_t share = store_bytes / 100 * policy->budget_percent;

	if (policy->budget_bytes != 0)
		return policy->budget_bytes;
	return share > BUDGET_BYTES_MIN || policy->budget_percent == 0 ? share : BUDGET_BYTES_MIN;
}

int sz_store_collect(struct sz_store *store, bool all, struct sz_error *error)
{
	MUTEX_SCOPE(&store->seal_lock);
	int result;

	if (!writes_folders(store))
		return sz_fail(error, -EROFS, "the store is open for reading only");
	result = sz_collect(store, all ? COLLECT_HISTORY : COLLECT_DUE);
	return result == 0 ? 0 : sz_collect_fail(store, result, error);
}

int sz_store_kept_each(struct sz_store *store, const struct sz_keep_policy *policy,
		       sz_kept_fn *each, void *context, struct sz_error *error)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	uint64_t now_ns = sz_time_now(store);
	int result =
		sz_retention_make(store, policy == NULL ? &store->keep : policy, true, &retention);

	if (result != 0)
		return sz_collect_fail(store, result, error);
	for (size_t i = 0; i < retention.count && result == 0; i++) {
		const struct generation *generation = retention.line[i];
		const struct sz_retained *retained = &retention.retained[i];
		struct sz_kept kept = {
			.generation = generation->root.generation,
			.sealed_wall_ns = generation->root.wall_time_ns,
			.age_ns = now_ns - generation->root.store_time_ns,
			.is_complete = generation->is_complete,
			.reasons = retained->reasons,
			.ends_bytes = retained->ends_bytes,
		};

		sz_root_code(kept.generation, generation->digest, kept.code);
		result = each(context, &kept);
	}
	return result;
}

static int foreign_sum(void *context, const struct sz_foreign *foreign)
{
	struct sz_history_info *info = context;

	info->foreign_objects += foreign->objects;
	info->foreign_bytes += foreign->bytes;
	return 0;
}

static void retention_info(struct sz_store *store, struct sz_history_info *info)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	/* Where another history stands in the way, ours can still be told. */
	int result = sz_retention_make(store, &store->keep, true, &retention);

	if (result == 0)
		(void)!sz_retention_check(store, &retention); /* the problem says it */
	memcpy(info->problem, store->collector.problem, sizeof(info->problem));
	if (result != 0 && sz_retention_make(store, &store->keep, false, &retention) != 0)
		return;
	info->generations = retention.count;
	for (size_t i = 0; i < retention.count; i++)
		info->complete += retention.line[i]->is_complete ? 1 : 0;
	info->history_bytes = retention.history_bytes + retention.due_bytes;
	info->budget_bytes = retention.budget_bytes;
	info->copy_ns = sz_retain_copy_ns(retention.retained, retention.count,
					  retention.budget_bytes, sz_time_now(store));
}

void sz_store_history_info(struct sz_store *store, struct sz_history_info *info_out)
{
	*info_out = (struct sz_history_info){ .is_undecided = !store->choice.is_writable };
	retention_info(store, info_out);
	(void)!sz_store_foreign_each(store, foreign_sum, info_out, NULL);
}
