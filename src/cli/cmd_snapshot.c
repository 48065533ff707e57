/* snapshot, snapshots, destroy-snapshot, rollback: ZFS's snapshots of the pool's root dataset, and of volumes. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define USED_WIDTH 8

/* What is asked for: NAME of the root dataset, VOLUME@NAME of a volume. */
struct target {
	char *volume; /* NULL: it is the root dataset's */
	const char *snapshot;
};

/* The volume is there. */
static int target_find(struct invocation *invocation, const struct session *session,
		       struct target *target)
{
	const char *name = invocation->operands[1];
	const char *at = strchr(name, '@');
	struct sz_volume_info info;
	int result;

	*target = (struct target){ .snapshot = at == NULL ? name : at + 1 };
	if (at == NULL)
		return 0;
	target->volume = strndup(name, (size_t)(at - name));
	if (target->volume == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory");
	result = sz_volume_find(session->pool, target->volume, &info, &invocation->error);
	return result == 0 ? 0 : store_fail(invocation, result);
}

/* A change of what is asked for. */
typedef int change_fn(struct invocation *, struct session *, const struct target *);

static int with_target(struct invocation *invocation, enum session_parts parts, change_fn *change)
{
	struct target target = { 0 };
	struct session session;
	int result = session_open(invocation, false, parts, &session);

	if (result != 0)
		return result;
	result = target_find(invocation, &session, &target);
	if (result == 0)
		result = change(invocation, &session, &target);
	free(target.volume);
	return session_close(invocation, &session, result);
}

/* What its intent log has is in it then. */
static int volume_replay(struct invocation *invocation, const struct session *session,
			 const char *name)
{
	struct sz_volume *volume;
	int result = sz_volume_open(session->pool, name, &volume, &invocation->error);

	if (result != 0)
		return store_fail(invocation, result);
	sz_volume_close(volume);
	return 0;
}

static int take(struct invocation *invocation, struct session *session, const struct target *target)
{
	int result = 0;

	if (target->volume != NULL)
		result = volume_replay(invocation, session, target->volume);
	else
		mount_sync();
	if (result != 0)
		return result;
	result = sz_pool_snapshot(session->pool, target->volume, target->snapshot,
				  &invocation->error);
	return result == 0 ? 0 : store_fail(invocation, result);
}

int cmd_snapshot(struct invocation *invocation)
{
	/* The file system too: what its intent log has is to be in it. */
	return with_target(invocation, SESSION_FS, take);
}

struct listing {
	struct sz_pool *pool;
	const char *volume; /* whose they are; NULL: the root dataset's */
	json_t *json;       /* NULL: text */
	bool has_head;
};

static int snapshot_show(void *context, const struct sz_snapshot *snapshot)
{
	struct listing *listing = context;
	char name[SZ_VOLUME_NAME_BYTES + SZ_SNAPSHOT_NAME_BYTES];
	char created[TIME_TEXT_BYTES];
	char used[SIZE_TEXT_BYTES];
	char referenced[SIZE_TEXT_BYTES];

	(void)snprintf(name, sizeof(name), "%s%s%s", listing->volume == NULL ? "" : listing->volume,
		       listing->volume == NULL ? "" : "@", snapshot->name);
	if (listing->json != NULL)
		return json_array_append_new(
			       listing->json,
			       json_pack("{s:s, s:I, s:I, s:I}", "name", name, "created_wall_s",
					 (json_int_t)snapshot->created_wall_s, "used_bytes",
					 (json_int_t)snapshot->used_bytes, "referenced_bytes",
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
		      referenced, name);
	return 0;
}

static int volume_snapshots_show(void *context, const struct sz_volume_info *info)
{
	struct listing *listing = context;

	listing->volume = info->name;
	return sz_pool_snapshot_each(listing->pool, info->name, snapshot_show, listing);
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
	listing.pool = session.pool;
	result = sz_pool_snapshot_each(session.pool, NULL, snapshot_show, &listing);
	if (result == 0)
		result = sz_volume_each(session.pool, volume_snapshots_show, &listing);
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
		       const struct target *target, struct sought *sought)
{
	int result;

	*sought = (struct sought){ .name = target->snapshot };
	result = sz_pool_snapshot_each(session->pool, target->volume, snapshot_seek, sought);
	if (result != 0)
		return sz_fail(&invocation->error, result, "%s: cannot list the snapshots",
			       invocation->operands[0]);
	if (!sought->is_found)
		return sz_fail(&invocation->error, -ENOENT,
			       "%s: there is no snapshot '%s'; 'szpool snapshots' lists them",
			       invocation->operands[0], invocation->operands[1]);
	return 0;
}

static int destroy(struct invocation *invocation, struct session *session,
		   const struct target *target)
{
	char question[SZ_VOLUME_NAME_BYTES + SZ_SNAPSHOT_NAME_BYTES + 96];
	char bytes[SIZE_TEXT_BYTES];
	struct sought sought;
	int result = sought_find(invocation, session, target, &sought);

	if (result != 0)
		return result;
	size_text(sought.used_bytes, bytes);
	(void)snprintf(question, sizeof(question),
		       "destroy the snapshot %s for good, and %s that only it has?",
		       invocation->operands[1], bytes);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	if (target->volume == NULL)
		mount_snapshot_drop(session->fs, sought.name);
	result = sz_pool_snapshot_destroy(session->pool, target->volume, sought.name,
					  &invocation->error);
	return result != 0 ? store_fail(invocation, result) : 0;
}

int cmd_destroy_snapshot(struct invocation *invocation)
{
	return with_target(invocation, SESSION_POOL, destroy);
}

/* A volume is closed, if nobody uses it, and its intent log is empty once it was opened. */
static int volume_roll_back(struct invocation *invocation, const struct session *session,
			    const struct target *target, bool destroys)
{
	int result = volume_replay(invocation, session, target->volume);

	if (result != 0)
		return result;
	result = sz_pool_rollback(session->pool, target->volume, target->snapshot, destroys,
				  &invocation->error);
	return result == 0 ? 0 : store_fail(invocation, result);
}

static int files_roll_back(struct invocation *invocation, struct session *session,
			   const struct target *target, bool destroys)
{
	int reopened;
	int result = session_fs_close(invocation, session);

	if (result != 0)
		return result;
	result = sz_pool_rollback(session->pool, NULL, target->snapshot, destroys,
				  &invocation->error);
	if (result != 0)
		(void)store_fail(invocation, result);
	reopened = session_fs_open(invocation, session, result);
	return result != 0 ? result : reopened;
}

static int roll_back(struct invocation *invocation, struct session *session,
		     const struct target *target)
{
	const bool destroys = option_is_given(invocation, OPTION_DESTROY_NEWER);
	char question[SZ_VOLUME_NAME_BYTES + SZ_SNAPSHOT_NAME_BYTES + 96];
	struct sought sought;
	int result = sought_find(invocation, session, target, &sought);

	if (result != 0)
		return result;
	if (sought.newer > 0 && !destroys)
		return sz_fail(&invocation->error, -EEXIST,
			       "%s: there are %u snapshots newer than '%s'; --destroy-newer "
			       "destroys them",
			       invocation->operands[0], sought.newer, invocation->operands[1]);
	(void)snprintf(question, sizeof(question),
		       "go back to %s, and lose what was written since, and %u newer snapshots?",
		       invocation->operands[1], sought.newer);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	return target->volume != NULL ? volume_roll_back(invocation, session, target, destroys)
				      : files_roll_back(invocation, session, target, destroys);
}

int cmd_rollback(struct invocation *invocation)
{
	/* The file system too: the intent log is not to be replayed onto something else. */
	return with_target(invocation, SESSION_FS, roll_back);
}
