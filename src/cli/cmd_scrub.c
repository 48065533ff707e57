/*
 * scrub: everything that is stored is read, checked and repaired. Devices without a folder get a new
 * one first, and are rebuilt. An interrupted scrub goes on with the next one, from where it was.
 *
 * First the store's files are verified, whoever needs what is in them; then ZFS scrubs, and writes again what it needs;
 * then the files that were hurt are written anew. In this order it is known that nobody needs what is left unreadable.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct watch {
	struct invocation *invocation;
	struct progress progress;
	enum sz_scan kind;
};

static bool verify_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
	progress_at(context, done_bytes, total_bytes);
	return interrupt_signal() == 0;
}

static bool watch_progress(void *context, const struct sz_scan_status *scan)
{
	struct watch *watch = context;

	if (scan->kind != watch->kind) {
		progress_clear(&watch->progress);
		progress_start(&watch->progress, watch->invocation,
			       scan->kind == SZ_SCAN_SCRUB ? "scrub" : "resilver");
		watch->kind = scan->kind;
	}
	if (scan->state == SZ_SCAN_RUNNING)
		progress_at(&watch->progress, scan->issued_bytes, scan->total_bytes);
	return interrupt_signal() == 0;
}

static int scan_wait(struct invocation *invocation, struct session *session)
{
	struct watch watch = { .invocation = invocation };
	int result;

	progress_start(&watch.progress, invocation, "scrub");
	result = sz_pool_scan_wait(session->pool, watch_progress, &watch, &invocation->error);
	progress_clear(&watch.progress);
	if (result == -EINTR)
		return interrupt_tell(&invocation->error,
				      "the next 'szpool scrub' goes on from here, 'szpool scrub "
				      "--stop' gives it up");
	return result;
}

/* *found_out: NULL if too much cannot be read. */
static int files_verify(struct invocation *invocation, struct session *session,
			struct sz_verification **found_out)
{
	struct progress progress;
	int result;

	progress_start(&progress, invocation, "verify");
	result = sz_store_verify(session->store, verify_progress, &progress, found_out,
				 &invocation->error);
	progress_clear(&progress);
	if (result == 0 && sz_verification_unread(*found_out) > 0)
		warn("%s: files that cannot be read now, and were not verified: %" PRIu64,
		     invocation->operands[0], sz_verification_unread(*found_out));
	if (result == 0)
		return 0;
	if (result == -EINTR)
		return interrupt_tell(&invocation->error, "nothing was changed");
	/* A disk that fails, say. What ZFS scrubs it heals all the same. */
	warn("%s: not all files can be verified, so none is written anew: %s",
	     invocation->operands[0], invocation->error.text);
	invocation->error = (struct sz_error){ 0 };
	return 0;
}

/* A new, empty folder for each device that has none. */
static int devices_replace(struct invocation *invocation, struct sz_store *store)
{
	for (uint32_t i = 0; i < sz_store_device_count(store); i++) {
		int result;

		if (sz_device_state(sz_store_device(store, i)) != SZ_DEVICE_MISSING)
			continue;
		result = sz_store_replace_device(store, i, NULL, &invocation->error);
		if (result != 0)
			return sz_fail(&invocation->error, result,
				       "device %u cannot get a new folder", i);
	}
	return 0;
}

/* *is_new_out: it began after the verification. One that was interrupted runs on since the opening. */
static int scrub_run(struct invocation *invocation, struct session *session, bool *is_new_out)
{
	struct sz_scan_status scan;
	int result = 0;

	sz_pool_scan_status(session->pool, &scan);
	*is_new_out = scan.kind != SZ_SCAN_SCRUB || scan.state != SZ_SCAN_RUNNING;
	if (*is_new_out) {
		result = scan_wait(invocation, session);
		if (result == 0)
			result = sz_pool_scrub_start(session->pool, &invocation->error);
	}
	return result != 0 ? result : scan_wait(invocation, session);
}

/* What ZFS needs it has written again, if its scrub came after the verification and ended well. */
static int repair(struct invocation *invocation, struct session *session,
		  const struct sz_verification *found, bool is_scrubbed, bool *is_repaired_out)
{
	struct sz_scan_status scan;
	uint64_t hurt = found == NULL ? 0 : sz_verification_hurt(found);
	uint64_t left = 0;
	int result;

	*is_repaired_out = false;
	if (hurt == 0)
		return 0;
	sz_pool_scan_status(session->pool, &scan);
	is_scrubbed = is_scrubbed && scan.kind == SZ_SCAN_SCRUB && scan.state == SZ_SCAN_FINISHED &&
		      scan.errors == 0;
	result = sz_store_repair(session->store, found, is_scrubbed, &left, &invocation->error);
	*is_repaired_out =
		result == 0 && is_scrubbed && left == 0 && sz_verification_unread(found) == 0;
	if (left > 0)
		warn("%s: files that were damaged further while they were checked: %" PRIu64
		     "; scrub again",
		     invocation->operands[0], left);
	if (result == 0 && !option_is_given(invocation, OPTION_JSON))
		(void)fprintf(console_out(), "damaged objects written anew: %" PRIu64 "\n", hurt);
	return result;
}

static void found_free(struct sz_verification **found)
{
	sz_verification_free(*found);
}

static int scrub(struct invocation *invocation, struct session *session)
{
	CLEANUP(found_free) struct sz_verification *found = NULL;
	struct sz_error *error = &invocation->error;
	struct sz_scan_status scan;
	char resilvered[SIZE_TEXT_BYTES];
	uint32_t rebuilt = 0;
	bool is_scrubbed;
	bool is_repaired;
	bool is_intact;
	bool is_healthy;
	int result = devices_replace(invocation, session->store);

	if (result == 0)
		result = sz_pool_rebuild(session->pool, &rebuilt, error);
	if (result == 0 && rebuilt > 0)
		result = scan_wait(invocation, session);
	sz_pool_scan_status(session->pool, &scan);
	size_text(scan.repaired_bytes, resilvered);
	if (result == 0)
		result = files_verify(invocation, session, &found);
	if (result == 0)
		result = scrub_run(invocation, session, &is_scrubbed);
	if (result == 0)
		result = repair(invocation, session, found, is_scrubbed, &is_repaired);
	if (result != 0)
		return result;
	if (rebuilt > 0 && !option_is_given(invocation, OPTION_JSON))
		(void)fprintf(console_out(), "rebuilt devices: %u, resilvered %s\n", rebuilt,
			      resilvered);
	result = status_print(invocation, session, &is_intact, &is_healthy);
	if (is_repaired)
		sz_store_damage_forget(session->store);
	if (result == 0 && !is_intact)
		return sz_fail(error, -EBADMSG, "%s: data is damaged beyond repair",
			       invocation->operands[0]);
	return result;
}

static int stop(struct invocation *invocation, struct session *session)
{
	struct sz_scan_status scan;

	sz_pool_scan_status(session->pool, &scan);
	if (scan.kind != SZ_SCAN_SCRUB || scan.state != SZ_SCAN_RUNNING)
		return sz_fail(&invocation->error, -ENOENT, "%s: no scrub is under way",
			       invocation->operands[0]);
	return sz_pool_scrub_stop(session->pool, &invocation->error);
}

int cmd_scrub(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, false, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = option_is_given(invocation, OPTION_STOP) ? stop(invocation, &session)
							  : scrub(invocation, &session);
	return session_close(invocation, &session, result);
}
