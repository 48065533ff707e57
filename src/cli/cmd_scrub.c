/*
 * scrub: everything that is stored is read, checked and repaired. Devices without a folder get a new
 * one first, and are rebuilt. An interrupted scrub goes on with the next one, from where it was.
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

static int scrub(struct invocation *invocation, struct session *session)
{
	struct sz_error *error = &invocation->error;
	struct sz_scan_status scan;
	char resilvered[SIZE_TEXT_BYTES];
	uint32_t rebuilt = 0;
	bool is_intact;
	bool is_healthy;
	int result = devices_replace(invocation, session->store);

	if (result == 0)
		result = sz_pool_rebuild(session->pool, &rebuilt, error);
	if (result == 0 && rebuilt > 0)
		result = scan_wait(invocation, session);
	sz_pool_scan_status(session->pool, &scan);
	size_text(scan.repaired_bytes, resilvered);
	/* One that was interrupted runs on since the opening: a second one is not needed. */
	if (result == 0 && (scan.kind != SZ_SCAN_SCRUB || scan.state != SZ_SCAN_RUNNING)) {
		result = scan_wait(invocation, session);
		if (result == 0)
			result = sz_pool_scrub_start(session->pool, error);
	}
	if (result == 0)
		result = scan_wait(invocation, session);
	if (result != 0)
		return result;
	if (rebuilt > 0 && !option_is_given(invocation, OPTION_JSON))
		(void)fprintf(console_out(), "rebuilt devices: %u, resilvered %s\n", rebuilt,
			      resilvered);
	result = status_print(invocation, session, &is_intact, &is_healthy);
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
