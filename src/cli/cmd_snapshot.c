/* snapshot, snapshots, destroy-snapshot, rollback: ZFS's snapshots of the pool's root dataset. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define USED_WIDTH 8

int cmd_snapshot(struct invocation *invocation)
{
	struct session session;
	/* The file system too: what its intent log has is to be in it. */
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	mount_sync();
	result = sz_pool_snapshot(session.pool, NULL, invocation->operands[1], &invocation->error);
	if (result != 0)
		(void)store_fail(invocation, result);
	return session_close(invocation, &session, result);
}

struct listing {
	json_t *json; /* NULL: text */
	bool has_head;
};

static int snapshot_show(void *context, const struct sz_snapshot *snapshot)
{
	struct listing *listing = context;
	char created[TIME_TEXT_BYTES];
	char used[SIZE_TEXT_BYTES];
	char referenced[SIZE_TEXT_BYTES];

	if (listing->json != NULL)
		return json_array_append_new(
			       listing->json,
			       json_pack("{s:s, s:I, s:I, s:I}", "name", snapshot->name,
					 "created_wall_s", (json_int_t)snapshot->created_wall_s,
					 "used_bytes", (json_int_t)snapshot->used_bytes,
					 "referenced_bytes",
					 (json_int_t)snapshot->referenced_bytes)) == 0
			       ? 0
			       : -ENOMEM;
	if (!listing->has_head)
		(void)fprintf(console_out(), "%-*s  %*s %*s  %s\n",
			      (int)strlen("2026-11-23 08:00:00"), "CREATED", USED_WIDTH, "USED",
			      USED_WIDTH, "REFERS", "NAME");
	listing->has_head = true;
	time_text(snapshot->created_wall_s, created);
	size_text(snapshot->used_bytes, used);
	size_text(snapshot->referenced_bytes, referenced);
	(void)fprintf(console_out(), "%s  %*s %*s  %s\n", created, USED_WIDTH, used, USED_WIDTH,
		      referenced, snapshot->name);
	return 0;
}

int cmd_snapshots(struct invocation *invocation)
{
	struct listing listing = { 0 };
	struct session session;
	int result = session_open(invocation, true, SESSION_POOL, &session);

	if (result != 0)
		return result;
	if (option_is_given(invocation, OPTION_JSON))
		listing.json = json_array();
	result = sz_pool_snapshot_each(session.pool, NULL, snapshot_show, &listing);
	if (result != 0)
		(void)sz_fail(&invocation->error, result, "%s: cannot list the snapshots",
			      invocation->operands[0]);
	if (result == 0 && listing.json != NULL)
		result = json_print(TAKE(listing.json), &invocation->error);
	json_decref(listing.json);
	return session_close(invocation, &session, result);
}

/* What a snapshot is the last to hold, and what is newer. */
struct sought {
	const char *name;
	bool is_found;
	uint64_t used_bytes;
	unsigned int newer;
};

static int snapshot_seek(void *context, const struct sz_snapshot *snapshot)
{
	struct sought *sought = context;

	if (sought->is_found)
		sought->newer++;
	else if (strcmp(snapshot->name, sought->name) == 0) {
		sought->is_found = true;
		sought->used_bytes = snapshot->used_bytes;
	}
	return 0;
}

static int sought_find(struct invocation *invocation, const struct session *session,
		       struct sought *sought)
{
	int result;

	*sought = (struct sought){ .name = invocation->operands[1] };
	result = sz_pool_snapshot_each(session->pool, NULL, snapshot_seek, sought);
	if (result != 0)
		return sz_fail(&invocation->error, result, "%s: cannot list the snapshots",
			       invocation->operands[0]);
	if (!sought->is_found)
		return sz_fail(&invocation->error, -ENOENT,
			       "%s: there is no snapshot '%s'; 'szpool snapshots' lists them",
			       invocation->operands[0], sought->name);
	return 0;
}

static int destroy(struct invocation *invocation, const struct session *session)
{
	char question[SZ_SNAPSHOT_NAME_BYTES + 96];
	char bytes[SIZE_TEXT_BYTES];
	struct sought sought;
	int result = sought_find(invocation, session, &sought);

	if (result != 0)
		return result;
	size_text(sought.used_bytes, bytes);
	(void)snprintf(question, sizeof(question),
		       "destroy the snapshot %s for good, and %s that only it has?", sought.name,
		       bytes);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	mount_snapshot_drop(session->fs, sought.name);
	result = sz_pool_snapshot_destroy(session->pool, NULL, sought.name, &invocation->error);
	return result != 0 ? store_fail(invocation, result) : 0;
}

int cmd_destroy_snapshot(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, false, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = destroy(invocation, &session);
	return session_close(invocation, &session, result);
}

static int roll_back(struct invocation *invocation, struct session *session)
{
	const bool destroys = option_is_given(invocation, OPTION_DESTROY_NEWER);
	char question[SZ_SNAPSHOT_NAME_BYTES + 96];
	struct sought sought;
	int reopened;
	int result = sought_find(invocation, session, &sought);

	if (result != 0)
		return result;
	if (sought.newer > 0 && !destroys)
		return sz_fail(&invocation->error, -EEXIST,
			       "%s: there are %u snapshots newer than '%s'; --destroy-newer "
			       "destroys them",
			       invocation->operands[0], sought.newer, sought.name);
	(void)snprintf(question, sizeof(question),
		       "go back to %s, and lose what was written since, and %u newer snapshots?",
		       sought.name, sought.newer);
	result = consent_ask(invocation, question);
	if (result == 0)
		result = session_fs_close(invocation, session);
	if (result != 0)
		return result;
	result = sz_pool_rollback(session->pool, NULL, sought.name, destroys, &invocation->error);
	if (result != 0)
		(void)store_fail(invocation, result);
	reopened = session_fs_open(invocation, session, result);
	return result != 0 ? result : reopened;
}

int cmd_rollback(struct invocation *invocation)
{
	struct session session;
	/* The file system too: the intent log is not to be replayed onto something else. */
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	result = roll_back(invocation, &session);
	return session_close(invocation, &session, result);
}
