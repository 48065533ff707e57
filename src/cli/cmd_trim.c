/*
 * trim, compact: space goes back to the disk. A trim has the devices forget what the pool does not use; a
 * compaction then writes anew what is superseded in part. The old files go with the generations that refer to
 * them.
 */
#include "cli/cli.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

struct trim {
	struct progress progress;
	uint64_t bytes;
};

static bool trim_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
	struct trim *trim = context;

	trim->bytes = done_bytes;
	progress_at(&trim->progress, done_bytes, total_bytes);
	return interrupt_signal() == 0;
}

static int trim(struct invocation *invocation, struct session *session, uint64_t *bytes_out)
{
	struct trim trim = { 0 };
	int result;

	progress_start(&trim.progress, invocation, "trim");
	result = sz_pool_trim(session->pool, trim_progress, &trim, &invocation->error);
	progress_clear(&trim.progress);
	*bytes_out = trim.bytes;
	if (result == -EINTR)
		return interrupt_tell(&invocation->error,
				      "what was trimmed stays so, the rest is as it was");
	return result != 0 ? store_fail(invocation, result) : 0;
}

int cmd_trim(struct invocation *invocation)
{
	char trimmed[SIZE_TEXT_BYTES];
	struct session session;
	uint64_t bytes = 0;
	int result = session_open(invocation, false, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = trim(invocation, &session, &bytes);
	result = session_close(invocation, &session, result);
	if (result != 0)
		return result;
	if (option_is_given(invocation, OPTION_JSON))
		return json_print(json_pack("{s:I}", "trimmed_bytes", (json_int_t)bytes),
				  &invocation->error);
	size_text(bytes, trimmed);
	(void)fprintf(console_out(), "trimmed: %s of free space\n", trimmed);
	return 0;
}

static int compact(struct invocation *invocation, struct session *session)
{
	struct sz_error *error = &invocation->error;
	struct progress progress;
	int result = 0;

	progress_start(&progress, invocation, "compact");
	progress_phase(&progress, "compacting ...");
	/* What the trim changed is in the transaction groups after it. */
	if (session->pool != NULL)
		result = sz_pool_sync(session->pool, error);
	if (result == 0)
		result = sz_store_seal(session->store, error);
	if (result == 0)
		result = interrupt_check(error);
	if (result == 0)
		result = sz_store_compact(session->store, error);
	/* Where something is in the way of that, the history shown below says so. */
	if (result == 0)
		(void)!sz_store_collect(session->store, false, NULL);
	progress_clear(&progress);
	return result != 0 ? store_fail(invocation, result) : 0;
}

static int compact_print(struct invocation *invocation, uint64_t before_bytes, uint64_t after_bytes,
			 uint64_t trimmed_bytes, const struct sz_history_info *history)
{
	char before[SIZE_TEXT_BYTES];
	char after[SIZE_TEXT_BYTES];
	char back[SIZE_TEXT_BYTES];
	char kept[SIZE_TEXT_BYTES];
	uint64_t back_bytes = before_bytes > after_bytes ? before_bytes - after_bytes : 0;

	if (option_is_given(invocation, OPTION_JSON))
		return json_print(
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:s}", "trimmed_bytes",
				  (json_int_t)trimmed_bytes, "stored_before_bytes",
				  (json_int_t)before_bytes, "stored_bytes", (json_int_t)after_bytes,
				  "returned_bytes", (json_int_t)back_bytes, "history_bytes",
				  (json_int_t)history->history_bytes, "problem", history->problem),
			&invocation->error);
	size_text(before_bytes, before);
	size_text(after_bytes, after);
	size_text(back_bytes, back);
	size_text(history->history_bytes, kept);
	(void)fprintf(console_out(), "  stored: %s, before %s: %s came back\n", after, before,
		      back);
	(void)fprintf(console_out(), " history: %s of that; 'szpool keep %s' shows it\n", kept,
		      invocation->operands[0]);
	if (history->problem[0] != '\0')
		(void)fprintf(console_out(), "  nothing is removed: %s\n", history->problem);
	return 0;
}

int cmd_compact(struct invocation *invocation)
{
	struct session session;
	struct sz_store_info before;
	struct sz_store_info after;
	struct sz_history_info history = { 0 };
	uint64_t trimmed_bytes = 0;
	int result = session_open(invocation, false, SESSION_POOL_IF_ANY, &session);

	if (result != 0)
		return result;
	sz_store_info(session.store, &before);
	if (session.pool != NULL)
		result = trim(invocation, &session, &trimmed_bytes);
	if (result == 0)
		result = compact(invocation, &session);
	sz_store_info(session.store, &after);
	if (result == 0)
		sz_store_history_info(session.store, &history);
	result = session_close(invocation, &session, result);
	return result != 0 ? result
			   : compact_print(invocation, before.stored_bytes, after.stored_bytes,
					   trimmed_bytes, &history);
}
