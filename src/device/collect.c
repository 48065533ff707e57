/*
 * collect: removes generations that are kept no more (retain.c says which), and the objects that only they
 * refer to.
 *
 * 1. Nothing is removed unless all that may be referred to is known: every root can be read, and every index page
 *    of every generation that stays. One that goes may lack some (a folder was brought back as it was long ago,
 *    with parts of generations that went since): what only those pages knew of is an orphan then.
 * 2. What goes is what the generations that go refer to, less what any other generation refers to, of whatever
 *    history, less what memory refers to: the live epoch's bands are in no generation yet.
 * 3. Roots go first, from all folders, durably: who finds a root finds all that it refers to.
 * 4. A generation whose root somebody holds stays. Who takes hold of it in the moment in which it goes has its
 *    objects spared for as long as we run.
 * 5. A process that has lost the store's lock removes nothing.
 *
 * Nobody here still reads what goes: the map names it no more since a seal, which has waited for its readers.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <stdio.h>

void sz_retention_free(struct retention *retention)
{
	free(retention->line);
	free(retention->retained);
	*retention = (struct retention){ 0 };
}

static int blocked(struct sz_store *store, int error, const char *what, uint64_t generation)
{
	(void)snprintf(store->collector.problem, sizeof(store->collector.problem),
		       "%s of generation %llu cannot be read (%s): what it refers to is not known",
		       what, (unsigned long long)generation, strerror(-error));
	return error;
}

/* Which generations are ours: not those of other histories. */
static int line_make(struct sz_store *store, struct retention *retention)
{
	const struct history *history = &store->history;
	const struct generation *newest = sz_history_find(history, store->root_digest);

	retention->line = calloc(history->count + 1, sizeof(struct generation *));
	retention->retained = calloc(history->count + 1, sizeof(*retention->retained));
	if (retention->line == NULL || retention->retained == NULL)
		return -ENOMEM;
	for (size_t i = history->count; i > 0; i--) {
		struct generation *generation = history->at[i - 1];
		struct sz_ancestor identity;

		sz_generation_identity(generation, &identity);
		generation->is_ours = sz_history_is_ancestor(history, &identity, newest);
		if (generation->is_ours)
			retention->line[retention->count++] = generation;
	}
	return 0;
}

/* is_loaded: it is known which generations are complete; else they are taken for it. */
static void retention_choose(struct sz_store *store, const struct sz_keep_policy *policy,
			     bool is_loaded, struct retention *retention)
{
	/* One that is read is shown as a writer would have it, who completes the root first. */
	size_t held = store->is_root_everywhere || !writes_folders(store) ? 1 : 2;

	for (size_t i = 0; i < retention->count; i++) {
		const struct generation *generation = retention->line[i];

		retention->retained[i] = (struct sz_retained){
			.store_time_ns = generation->root.store_time_ns,
			.wall_time_ns = generation->root.wall_time_ns,
			/* A copy that has only the one from before there was data has nothing. */
			.is_complete = (!is_loaded || generation->is_complete) &&
				       !sz_generation_is_first(generation),
			/* The live epoch stands on the newest; where its root is not yet, on the one before. */
			.is_held = i + held >= retention->count,
		};
	}
	sz_retain_choose(retention->retained, retention->count, policy, sz_time_now(store));
	for (uint32_t i = 0; i < store->device_count; i++)
		retention->store_bytes += store->devices[i].stored_bytes;
	retention->budget_bytes = sz_keep_budget(policy, retention->store_bytes);
}

static int refs_load(struct sz_store *store, bool with_foreign)
{
	const struct history *history = &store->history;

	if (with_foreign && history->lost_count > 0)
		return blocked(store, history->lost[0].error, "the root",
			       history->lost[0].generation);
	for (size_t i = 0; i < history->count; i++) {
		struct generation *generation = history->at[i];
		int result =
			generation->is_ours || with_foreign ? sz_refs_load(store, generation) : 0;

		if (result != 0 && !(generation->is_ours && result == -EBADMSG))
			return blocked(store, result, "an index page", generation->root.generation);
	}
	return 0;
}

int sz_gather(void *context, const struct sz_id *id)
{
	struct gathering *gathering = context;

	if (sz_id_is_none(id) || sz_id_set_has(gathering->set, id))
		return 0;
	gathering->count++;
	if (gathering->with_bytes)
		gathering->bytes += sz_catalog_bytes(gathering->store, id);
	return sz_id_set_add(gathering->set, id);
}

static int gather_generation(struct gathering *gathering, const struct generation *generation)
{
	return sz_refs_walk(&gathering->store->collector.refs, generation, sz_gather, gathering);
}

static int gather_foreign(struct gathering *gathering)
{
	const struct history *history = &gathering->store->history;
	int result = 0;

	for (size_t i = 0; i < history->count && result == 0; i++)
		if (!history->at[i]->is_ours)
			result = gather_generation(gathering, history->at[i]);
	return result;
}

/* What is kept beside the newest generation, told by the newest one that refers to it. */
static int ends_count(struct sz_store *store, struct retention *retention)
{
	CLEANUP(sz_id_set_free) struct id_set set = { 0 };
	struct gathering gathering = { .store = store, .set = &set };
	int result;

	sz_refs_walk_begin(&store->collector.refs);
	result = gather_foreign(&gathering);
	for (size_t i = retention->count; i > 0 && result == 0; i--) {
		struct sz_retained *retained = &retention->retained[i - 1];

		if (retained->reasons == 0)
			continue;
		gathering.bytes = 0;
		result = gather_generation(&gathering, retention->line[i - 1]);
		retained->ends_bytes = gathering.bytes;
		gathering.with_bytes = true;
	}
	for (size_t i = retention->count; i > 0 && result == 0; i--) {
		struct sz_retained *retained = &retention->retained[i - 1];

		if (retained->reasons != 0)
			continue;
		gathering.bytes = 0;
		result = gather_generation(&gathering, retention->line[i - 1]);
		retained->ends_bytes = gathering.bytes;
		retention->due_bytes += gathering.bytes;
	}
	return result;
}

/* Those that may go, but show others that stay to be ancestors of the newest, stay too. */
void sz_retention_link(struct sz_store *store, struct retention *retention)
{
	for (size_t i = 0; i < retention->count; i++)
		retention->line[i]->is_leaving = retention->retained[i].reasons == 0;
	sz_history_bind(&store->history, sz_history_find(&store->history, store->root_digest));
	for (size_t i = 0; i < retention->count; i++) {
		if (retention->retained[i].reasons == 0 && !retention->line[i]->is_leaving)
			retention->retained[i].reasons = SZ_RETAIN_LINK;
		retention->line[i]->is_leaving = false;
	}
}

int sz_retention_check(struct sz_store *store, const struct retention *retention)
{
	for (size_t i = 0; i < retention->count; i++)
		if (retention->retained[i].reasons != 0 && !retention->line[i]->is_known)
			return blocked(store, -EBADMSG, "an index page",
				       retention->line[i]->root.generation);
	return 0;
}

int sz_retention_make(struct sz_store *store, const struct sz_keep_policy *policy,
		      bool with_foreign, struct retention *retention_out)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	int result = line_make(store, &retention);

	store->collector.problem[0] = '\0';
	if (result == 0)
		result = refs_load(store, with_foreign);
	if (result != 0)
		return result;
	retention_choose(store, policy, true, &retention);
	result = ends_count(store, &retention);
	if (result != 0)
		return result;
	retention.due_bytes += sz_retain_fit(retention.retained, retention.count, UINT64_MAX);
	retention.history_bytes =
		sz_retain_fit(retention.retained, retention.count, retention.budget_bytes);
	retention.due_bytes -= retention.history_bytes;
	sz_retention_link(store, &retention);
	*retention_out = retention;
	retention = (struct retention){ 0 };
	return 0;
}

/* What memory refers to: the newest generation, and bands that the live epoch has finished. */
static int gather_device(struct gathering *gathering, struct sz_device *device)
{
	int result = sz_gather(gathering, &device->manifest_ref.id);
	READ_SCOPE(&device->map_lock);

	if (result == 0)
		result = sz_gather(gathering, &device->hot_ref.id);
	for (uint32_t i = 0; i < device->shard_count && result == 0; i++) {
		const struct shard *shard = device->shards[i];

		if (shard == NULL)
			continue;
		result = sz_gather(gathering, &shard->ref.id);
		for (uint32_t j = 0; j < SZ_SHARD_BANDS && result == 0; j++)
			result = sz_gather(gathering, &shard->rows[j].ref.id);
	}
	for (uint32_t i = 0; i < device->delta_count && result == 0; i++) {
		result = sz_gather(gathering, &device->deltas[i]->delta.id);
		if (result == 0 && !device->deltas[i]->list_is_inline)
			result = sz_gather(gathering, &device->deltas[i]->list.id);
	}
	return result;
}

int sz_gather_kept(struct sz_store *store, const struct retention *retention, bool with_foreign,
		   struct id_set *set)
{
	struct gathering gathering = { .store = store, .set = set };
	int result = 0;

	sz_refs_walk_begin(&store->collector.refs);
	if (with_foreign)
		result = gather_foreign(&gathering);
	for (size_t i = 0; i < retention->count && result == 0; i++)
		if (retention->retained[i].reasons != 0)
			result = gather_generation(&gathering, retention->line[i]);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		result = gather_device(&gathering, &store->devices[i]);
	for (size_t i = 0; i < store->collector.spared.capacity && result == 0; i++)
		result = sz_gather(&gathering, &store->collector.spared.slots[i]);
	return result;
}

void sz_part_remove(struct sz_store *store, const struct sz_id *id, enum sz_part part)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next) {
		int result;

		if (at->part != part)
			continue;
		result = sz_backend_remove(store->folders[at->folder].backend, part, at->name);
		if (result == 0)
			sz_catalog_drop(store, id, at->folder, part);
	}
}

void sz_object_remove(struct sz_store *store, const struct sz_id *id)
{
	sz_part_remove(store, id, SZ_LIVE);
	sz_part_remove(store, id, SZ_SEALED);
	sz_object_forget(store, id);
}

/* A root's files, open: what is removed can still be asked who holds it. */
struct root_files {
	struct sz_file **at;
	size_t count;
};

static void root_files_close(struct root_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		sz_file_close(files->at[i]);
	free(files->at);
}

static int root_files_open(struct sz_store *store, const struct location *locations,
			   struct root_files *files)
{
	size_t count = 0;

	for (const struct location *at = locations; at != NULL; at = at->next)
		count++;
	files->at = calloc(count + 1, sizeof(struct sz_file *));
	if (files->at == NULL)
		return -ENOMEM;
	for (const struct location *at = locations; at != NULL; at = at->next) {
		int result = sz_backend_open(store->folders[at->folder].backend, at->part, at->name,
					     &files->at[files->count]);

		if (result == 0)
			files->count++;
		else if (result != -ENOENT)
			return result;
	}
	return 0;
}

/* Where it cannot be told, somebody does. */
static bool is_held(const struct root_files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		bool is_held = true;

		if (sz_file_is_held(files->at[i], &is_held) != 0 || is_held)
			return true;
	}
	return false;
}

static bool generation_is_held(struct sz_store *store, const struct generation *generation)
{
	CLEANUP(sz_locations_free)
	struct location *locations = sz_catalog_find(store, &generation->id);
	CLEANUP(root_files_close) struct root_files files = { 0 };

	return root_files_open(store, locations, &files) != 0 || is_held(&files);
}

bool sz_generation_remove(struct sz_store *store, struct generation *generation)
{
	CLEANUP(sz_locations_free)
	struct location *locations = sz_catalog_find(store, &generation->id);
	CLEANUP(root_files_close) struct root_files files = { 0 };

	if (root_files_open(store, locations, &files) != 0 || is_held(&files))
		return false;
	sz_object_remove(store, &generation->id);
	if (sz_catalog_has(store, &generation->id, 0))
		return false;
	if (is_held(&files)) {
		struct gathering spared = { .store = store, .set = &store->collector.spared };

		sz_refs_walk_begin(&store->collector.refs);
		if (gather_generation(&spared, generation) != 0)
			return false;
	}
	return true;
}

int sz_roots_sync(struct sz_store *store)
{
	int result = 0;

	/* In live/ too: a root that was renamed by a process that died may stand there still, on the disk. */
	for (uint32_t i = 0; i < store->folder_count && result == 0; i++) {
		result = sz_backend_sync_folder(store->folders[i].backend, SZ_LIVE);
		if (result == 0)
			result = sz_backend_sync_folder(store->folders[i].backend, SZ_SEALED);
	}
	store->collector.is_broken = result != 0;
	return result;
}

struct removing {
	struct sz_store *store;
	const struct id_set *kept;
};

static int object_remove(void *context, const struct sz_id *id)
{
	const struct removing *removing = context;

	if (!sz_id_set_has(removing->kept, id))
		sz_object_remove(removing->store, id);
	return 0;
}

static size_t due_count(const struct retention *retention)
{
	size_t due = 0;

	for (size_t i = 0; i < retention->count; i++)
		due += retention->retained[i].reasons == 0 ? 1 : 0;
	return due;
}

/* Carries it out. with_orphans: nothing is being built that no generation refers to yet. */
static int retention_apply(struct sz_store *store, struct retention *retention, bool with_orphans)
{
	CLEANUP(sz_id_set_free) struct id_set kept = { 0 };
	struct removing removing = { store, &kept };
	int result = store->collector.is_broken ? -EIO : sz_lock_verify(store);

	if (result != 0 ||
	    ((store->collector.has_looked || !with_orphans) && due_count(retention) == 0))
		return result;
	/* What stays and lacks pages leaves all the others where they are: that is found out before a root goes. */
	for (size_t i = 0; i < retention->count; i++)
		if (retention->retained[i].reasons == 0 && !retention->line[i]->is_known &&
		    generation_is_held(store, retention->line[i]))
			retention->retained[i].reasons = SZ_RETAIN_HELD;
	result = sz_retention_check(store, retention);
	if (result != 0)
		return result;
	for (size_t i = 0; i < retention->count; i++) {
		struct generation *generation = retention->line[i];

		if (retention->retained[i].reasons != 0)
			continue;
		if (!sz_generation_remove(store, generation))
			retention->retained[i].reasons = SZ_RETAIN_HELD;
		else if (!generation->is_known)
			store->collector.has_looked = false;
	}
	result = sz_roots_sync(store);
	if (result == 0)
		result = sz_retention_check(store, retention);
	if (result == 0)
		result = sz_gather_kept(store, retention, true, &kept);
	/* The walk goes on: what hangs on pages that stay stays. */
	for (size_t i = 0; i < retention->count && result == 0; i++)
		if (retention->retained[i].reasons == 0)
			result = sz_refs_walk(&store->collector.refs, retention->line[i],
					      object_remove, &removing);
	if (result == 0 && with_orphans && !store->collector.has_looked) {
		result = sz_orphans_collect(store, &kept);
		store->collector.has_looked = result == 0;
	}
	if (result != 0)
		store->collector.has_looked = false; /* what was left has no root */
	for (size_t i = 0; i < retention->count; i++) {
		struct sz_id id = retention->line[i]->id;

		if (retention->retained[i].reasons != 0)
			continue;
		sz_refs_release(store, retention->line[i]);
		sz_history_drop(&store->history, &id);
	}
	return result;
}

/* Without reading an index page: may there be enough to remove? */
static bool is_worth_it(struct sz_store *store)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };

	if (store->collector.refs.page_count > 0 || store->recovered)
		return true;
	if (line_make(store, &retention) != 0)
		return false;
	retention_choose(store, &store->keep, false, &retention);
	sz_retention_link(store, &retention);
	return due_count(&retention) >= DUE_MIN ||
	       sz_catalog_total(store) > retention.store_bytes + retention.budget_bytes;
}

int sz_collect(struct sz_store *store, enum collect_mode mode)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	int result;

	if (!store->is_root_everywhere || store->lacks_key)
		sz_root_complete(store);
	if (mode == COLLECT_SEALED && (!store->is_root_everywhere || !is_worth_it(store)))
		return 0;
	result = sz_retention_make(store, &store->keep, true, &retention);
	if (result != 0)
		return result;
	for (size_t i = 0; i < retention.count && mode == COLLECT_HISTORY; i++)
		retention.retained[i].reasons &= SZ_RETAIN_ALWAYS;
	sz_retention_link(store, &retention);
	return retention_apply(store, &retention, true);
}

int sz_collect_fail(const struct sz_store *store, int result, struct sz_error *error)
{
	if (store->collector.problem[0] != '\0')
		return sz_fail(error, result, "%s", store->collector.problem);
	return sz_fail(error, result, "collecting: %s", strerror(-result));
}

int sz_collect_space(struct sz_store *store, uint64_t wanted_bytes)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	uint64_t left;
	int result = sz_retention_make(store, &store->keep, true, &retention);

	if (result != 0)
		return -ENOSPC;
	wanted_bytes -= retention.due_bytes < wanted_bytes ? retention.due_bytes : wanted_bytes;
	left = retention.history_bytes > wanted_bytes ? retention.history_bytes - wanted_bytes : 0;
	(void)sz_retain_fit(retention.retained, retention.count, left);
	sz_retention_link(store, &retention);
	if (due_count(&retention) == 0)
		return -ENOSPC;
	result = retention_apply(store, &retention, false);
	if (result == 0)
		result = sz_roots_sync(store); /* some hosts give space back only then */
	/* Those that could not be removed are held. */
	return result == 0 && due_count(&retention) > 0 ? 0 : -ENOSPC;
}
