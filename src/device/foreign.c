/*
 * foreign: what lies in our folders and belongs to no generation of ours.
 *
 *   roots of other histories, and all that they refer to   foreign
 *   roots that no copy can be read of                      foreign: what they refer to is not known
 *   generations of ours that an index page is lost of      foreign, if they are kept
 *   objects that no root refers to
 *     made on the way to our newest generation             ours: left by a crash, removed
 *     made by an opening that was recovered just now       ours as well
 *     anything else                                        foreign
 *   files whose names say nothing to us                    not looked at
 *
 * What is foreign may be another writer's copy that somebody merged into this folder, perhaps in part, perhaps
 * still going on. It is kept, and listed; a person may have it removed.
 */
#include "device/device_internal.h"

#include <errno.h>

static const enum sz_kind object_kinds[] = { SZ_KIND_BAND, SZ_KIND_DELTA, SZ_KIND_INDEX,
					     SZ_KIND_HOT };

static bool is_sealed(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->part == SZ_SEALED)
			return true;
	return false;
}

struct made {
	const struct sz_store *store;
	uint8_t lineage[16];
};

/* Who made it, as its header says. */
static int made_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	struct made *made = context;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	uint8_t page[SZ_PAGE_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	(void)size_bytes;
	if (header == NULL)
		return -ENOMEM;
	if (result != 0)
		return result;
	if (done < sizeof(page) || sz_header_decode(made->store->keys, page, header) != 0)
		return -EBADMSG;
	memcpy(made->lineage, header->lineage, sizeof(made->lineage));
	return 0;
}

/* Was an object that nothing refers to made by us, here? */
static bool is_ours(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	struct made made = { .store = store };
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;
	const char *text;

	if (sz_id_parse(id, &kind, &device, &generation) != 0 ||
	    sz_object_open_any(store, id, made_check, &made, &file, &text) != 0)
		return false;
	if (store->collector.has_recovered &&
	    memcmp(made.lineage, store->collector.recovered, sizeof(made.lineage)) == 0)
		return true;
	return sz_history_has_made(&store->history, made.lineage, generation,
				   sz_history_find(&store->history, store->root_digest));
}

typedef int object_fn(struct sz_store *store, void *context, const struct sz_id *id);

/* Calls each for all sealed objects that are not in kept. */
static int unkept_each(struct sz_store *store, const struct id_set *kept, object_fn *each,
		       void *context)
{
	for (size_t i = 0; i < ARRAY_LENGTH(object_kinds); i++) {
		CLEANUP_FREE struct sz_id *ids = NULL;
		size_t count = 0;
		int result = sz_catalog_ids(store, object_kinds[i], &ids, &count);

		for (size_t j = 0; j < count && result == 0; j++)
			if (!sz_id_set_has(kept, &ids[j]) && is_sealed(store, &ids[j]))
				result = each(store, context, &ids[j]);
		if (result != 0)
			return result;
	}
	return 0;
}

static int orphan_remove(struct sz_store *store, void *context, const struct sz_id *id)
{
	(void)context;
	if (is_ours(store, id))
		sz_object_remove(store, id);
	return 0;
}

int sz_orphans_collect(struct sz_store *store, const struct id_set *kept)
{
	return unkept_each(store, kept, orphan_remove, NULL);
}

/* Live files. */

struct log_lineage {
	struct sz_store *store;
	bool is_foreign;
	bool is_empty; /* it was only made */
};

static int log_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	struct log_lineage *log = context;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	uint8_t page[SZ_PAGE_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	if (header == NULL)
		return -ENOMEM;
	if (result != 0)
		return result;
	log->is_empty = size_bytes <= sizeof(page);
	if (done == sizeof(page) && sz_header_decode(log->store->keys, page, header) == 0)
		log->is_foreign = !sz_history_has_lineage(
			&log->store->history, header->lineage,
			sz_history_find(&log->store->history, log->store->root_digest));
	return 0;
}

/* What the epochs in memory are written to, or were by the opening that is recovered. */
static int in_use_gather(struct sz_store *store, struct id_set *set)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		struct epoch *const epochs[] = { device->live, device->sealing, device->next };
		MUTEX_SCOPE(&device->log_lock);

		for (size_t j = 0; j < ARRAY_LENGTH(epochs); j++)
			for (uint32_t k = 0; epochs[j] != NULL && k < epochs[j]->source_count; k++)
				if (epochs[j]->sources[k] != NULL &&
				    sz_id_set_add(set, &epochs[j]->sources[k]->id) != 0)
					return -ENOMEM;
	}
	return 0;
}

/* May another history still need what is in live/? */
static bool has_foreign_logs(struct sz_store *store, const struct id_set *in_use)
{
	CLEANUP_FREE struct sz_id *logs = NULL;
	size_t count = 0;

	if (sz_catalog_ids(store, SZ_KIND_LOG, &logs, &count) != 0)
		return true;
	for (size_t i = 0; i < count; i++) {
		CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
		struct log_lineage log = { .store = store };
		enum sz_kind kind;
		uint32_t device;
		uint64_t generation;
		const char *text;

		if (sz_id_set_has(in_use, &logs[i]))
			continue;
		if (sz_id_parse(&logs[i], &kind, &device, &generation) != 0 ||
		    sz_object_open_any(store, &logs[i], log_check, &log, &file, &text) != 0)
			return true;
		if (!log.is_empty && (generation > store->root.generation || log.is_foreign))
			return true;
	}
	return false;
}

/*
 * One file of live/: what a generation refers to, and is nowhere else, is moved to where it belongs (a copier
 * may have come by before it was, and taken the root later). The rest goes.
 */
static void live_settle(struct sz_store *store, const struct id_set *refs, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);
	bool is_needed = sz_id_set_has(refs, id) && !is_sealed(store, id);
	char name[SZ_OBJECT_NAME_BYTES];

	if (!is_needed) {
		sz_part_remove(store, id, SZ_LIVE);
		return;
	}
	sz_name_encode(store->keys, id, name);
	for (const struct location *at = locations; at != NULL; at = at->next) {
		struct sz_backend *backend = store->folders[at->folder].backend;

		if (at->part != SZ_LIVE || sz_backend_rename(backend, at->name, name) != 0)
			continue;
		sz_catalog_drop(store, id, at->folder, SZ_LIVE);
		(void)!sz_catalog_add(store, id, at->folder, SZ_SEALED, at->size_bytes);
		(void)!sz_backend_sync_folder(backend, SZ_SEALED);
	}
}

static int refs_gather(struct sz_store *store, struct id_set *refs)
{
	const struct history *history = &store->history;
	int result = 0;

	for (size_t i = 0; i < history->count && result == 0; i++)
		result = sz_refs_gather(store, history->at[i], refs);
	return result;
}

/* What stays in live/ for some error is there for the next opening. */
static void live_collect(struct sz_store *store, const struct id_set *in_use)
{
	CLEANUP(sz_id_set_free) struct id_set refs = { 0 };
	CLEANUP_BYTES struct sz_bytes found = { 0 };
	const struct sz_id *ids;
	size_t count;
	bool is_ready = false;

	if (sz_catalog_live(store, &found) != 0)
		return;
	ids = (const struct sz_id *)(const void *)found.data;
	count = found.length / sizeof(*ids);
	for (size_t i = 0; i < count; i++) {
		if (sz_id_set_has(in_use, &ids[i]))
			continue;
		/* The newest root may have been renamed by a process that died, and is not on the disk yet. */
		if (!is_ready && (refs_gather(store, &refs) != 0 || sz_roots_sync(store) != 0))
			return;
		is_ready = true;
		live_settle(store, &refs, &ids[i]);
	}
}

static bool has_foreign_roots(const struct sz_store *store)
{
	const struct history *history = &store->history;
	const struct generation *newest = sz_history_find(history, store->root_digest);

	for (size_t i = 0; i < history->count; i++) {
		struct sz_ancestor identity;

		sz_generation_identity(history->at[i], &identity);
		if (!sz_history_is_ancestor(history, &identity, newest))
			return true;
	}
	return history->lost_count > 0;
}

/* May another history need what is in our folders? */
static bool is_alone(struct sz_store *store, const struct id_set *in_use)
{
	return !has_foreign_roots(store) && !has_foreign_logs(store, in_use);
}

void sz_collect_live(struct sz_store *store)
{
	CLEANUP(sz_id_set_free) struct id_set in_use = { 0 };

	if (sz_root_is_safe(store) && in_use_gather(store, &in_use) == 0 &&
	    is_alone(store, &in_use))
		live_collect(store, &in_use);
}

void sz_collect_recovered(struct sz_store *store)
{
	CLEANUP(sz_id_set_free) struct id_set kept = { 0 };

	if (!store->collector.has_all_logs || !sz_root_is_safe(store) ||
	    in_use_gather(store, &kept) != 0 || !is_alone(store, &kept) ||
	    sz_lock_verify(store) != 0)
		return;
	live_collect(store, &kept);
	if (refs_gather(store, &kept) == 0)
		(void)!sz_orphans_collect(store, &kept);
	(void)!sz_roots_sync(store); /* some hosts give space back only then */
}

/* Foreign things, for people. */

static int rest_count(struct sz_store *store, void *context, const struct sz_id *id)
{
	struct sz_foreign *rest = context;

	if (is_ours(store, id))
		return 0;
	rest->objects++;
	rest->bytes += sz_catalog_bytes(store, id);
	return 0;
}

/* What a foreign generation adds to what was seen. One whose index cannot be read: as far as it can. */
static int foreign_count(struct sz_store *store, struct generation *generation, struct id_set *seen,
			 struct sz_foreign *foreign)
{
	struct gathering gathering = { .store = store, .set = seen, .with_bytes = true };
	int result = sz_refs_load(store, generation);

	if (result == 0 || result == -EBADMSG)
		result = sz_refs_walk(&store->collector.refs, generation, sz_gather, &gathering);
	*foreign = (struct sz_foreign){ .is_ours = generation->is_ours,
					.generation = generation->root.generation,
					.sealed_wall_ns = generation->root.wall_time_ns,
					.objects = gathering.count,
					.bytes = gathering.bytes };
	sz_root_code(generation->root.generation, generation->digest, foreign->code);
	return result;
}

static bool is_kept(const struct retention *retention, const struct generation *generation)
{
	for (size_t i = 0; i < retention->count; i++)
		if (retention->line[i] == generation)
			return retention->retained[i].reasons != 0;
	return false;
}

static int foreign_each(struct sz_store *store, const struct retention *retention,
			sz_foreign_fn *each, void *context)
{
	CLEANUP(sz_id_set_free) struct id_set seen = { 0 };
	const struct history *history = &store->history;
	struct sz_foreign foreign = { 0 };
	int result = sz_gather_kept(store, retention, false, &seen);

	for (size_t i = 0; i < history->count && result == 0; i++) {
		if (is_kept(retention, history->at[i]))
			continue;
		result = foreign_count(store, history->at[i], &seen, &foreign);
		if (result == 0)
			result = each(context, &foreign);
	}
	for (size_t i = 0; i < history->lost_count && result == 0; i++) {
		foreign = (struct sz_foreign){ .generation = history->lost[i].generation,
					       .objects = 1,
					       .bytes = sz_catalog_bytes(store,
									 &history->lost[i].id) };
		result = each(context, &foreign);
	}
	foreign = (struct sz_foreign){ 0 };
	if (result == 0)
		result = unkept_each(store, &seen, rest_count, &foreign);
	return result == 0 && foreign.objects > 0 ? each(context, &foreign) : result;
}

/*
 * All of ours are kept, whatever the policy, but those of which an index page is lost: they would hold up for long that
 * anything is removed. leave_due: but not those that the policy lets go, by themselves.
 */
static int retention_all(struct sz_store *store, bool leave_due, struct retention *retention,
			 struct sz_error *error)
{
	int result = sz_retention_make(store, &store->keep, false, retention);

	for (size_t i = 0; i < retention->count; i++) {
		unsigned int *reasons = &retention->retained[i].reasons;
		bool is_due = *reasons == 0;

		if (retention->line[i]->is_known || (*reasons & SZ_RETAIN_HELD) != 0 ||
		    (is_due && leave_due))
			*reasons |= SZ_RETAIN_HELD;
		else
			*reasons = 0;
	}
	if (result == 0)
		sz_retention_link(store, retention);
	return result == 0 ? 0 : sz_collect_fail(store, result, error);
}

int sz_store_foreign_each(struct sz_store *store, sz_foreign_fn *each, void *context,
			  struct sz_error *error)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	int result = retention_all(store, true, &retention, error);

	return result != 0 ? result : foreign_each(store, &retention, each, context);
}

static int any_remove(struct sz_store *store, void *context, const struct sz_id *id)
{
	(void)context;
	sz_object_remove(store, id);
	sz_damage_drop(store, id);
	return 0;
}

/* Roots: of other histories, those that nobody can read, and of ours what is not kept. */
static int foreign_roots_remove(struct sz_store *store, const struct retention *retention,
				struct sz_error *error)
{
	struct history *history = &store->history;

	for (size_t i = 0; i < history->lost_count; i++)
		if (history->lost[i].error != -EBADMSG)
			return sz_fail(error, history->lost[i].error,
				       "the root of generation %llu: %s",
				       (unsigned long long)history->lost[i].generation,
				       strerror(-history->lost[i].error));
	for (size_t i = 0; i < history->count;) {
		struct generation *generation = history->at[i];
		struct sz_id id = generation->id;

		if (is_kept(retention, generation)) {
			i++;
			continue;
		}
		if (!sz_generation_remove(store, generation))
			return sz_fail(error, -EBUSY,
				       "generation %llu cannot be removed: it is being read",
				       (unsigned long long)generation->root.generation);
		sz_refs_release(store, generation);
		sz_history_drop(history, &id);
		sz_damage_drop(store, &id);
	}
	for (size_t i = 0; i < history->lost_count; i++)
		(void)!any_remove(store, NULL, &history->lost[i].id);
	history->lost_count = 0;
	return sz_roots_sync(store) == 0 ? 0 : sz_fail(error, -EIO, "a folder could not be synced");
}

/* What is lost of ours may be whole in a folder that is not here. */
static int lost_check(const struct sz_store *store, const struct retention *retention,
		      struct sz_error *error)
{
	uint32_t away = 0;

	while (away < store->device_count && store->devices[away].folder != NO_DEVICE)
		away++;
	for (size_t i = 0; i < retention->count && away < store->device_count; i++)
		if (retention->retained[i].reasons == 0)
			return sz_fail(
				error, -ENXIO,
				"generation %llu lacks a part of its index, which may be in "
				"the folder of device %u: that is not here; bring it back, or "
				"have it rebuilt (szpool scrub), first",
				(unsigned long long)retention->line[i]->root.generation, away);
	return 0;
}

int sz_store_discard(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(sz_retention_free) struct retention retention = { 0 };
	CLEANUP(sz_id_set_free) struct id_set kept = { 0 };
	CLEANUP(sz_id_set_free) struct id_set in_use = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	int result = 0;

	if (!writes_folders(store))
		return sz_fail(error, -EROFS, "the store is open for reading only");
	result = sz_lock_verify(store);
	if (result != 0)
		return sz_fail(error, result, "another process has taken the store over");
	result = retention_all(store, false, &retention, error);
	if (result == 0 && sz_retention_check(store, &retention) != 0)
		result = sz_collect_fail(store, -EBADMSG, error);
	if (result == 0)
		result = lost_check(store, &retention, error);
	if (result == 0)
		result = foreign_roots_remove(store, &retention, error);
	if (result != 0)
		return result;
	result = sz_gather_kept(store, &retention, false, &kept);
	if (result == 0)
		result = unkept_each(store, &kept, any_remove, NULL);
	if (result != 0)
		return sz_fail(error, result, "%s", strerror(-result));
	if (in_use_gather(store, &in_use) == 0)
		live_collect(store, &in_use);
	return 0;
}
