/*
 * collect: removes what no generation needs any more. The newest generation and the one before it stay
 * whole, so that a copy that began before a seal can be finished.
 *
 * Nothing is removed while a root of another history is in the folders, or a root cannot be read: what
 * they refer to is not known. Roots go first.
 */
#include "device/device_internal.h"

#include <errno.h>

void sz_ids_free(struct ids *ids)
{
	free(ids->at);
	*ids = (struct ids){ 0 };
}

static int id_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct sz_id));
}

static void ids_sort(struct ids *ids)
{
	if (ids->count > 0)
		qsort(ids->at, ids->count, sizeof(*ids->at), id_compare);
}

static bool ids_have(const struct ids *sorted, const struct sz_id *id)
{
	return sorted->count > 0 &&
	       bsearch(id, sorted->at, sorted->count, sizeof(*sorted->at), id_compare) != NULL;
}

/* Adds an id that is not all zeros. */
static int id_add(struct ids *ids, const struct sz_id *id)
{
	static const struct sz_id none;
	struct sz_id *grown;

	if (memcmp(id, &none, sizeof(none)) == 0)
		return 0;
	if ((ids->count & (ids->count - 1)) == 0) { /* full: capacities are powers of two */
		grown = realloc(ids->at, (ids->count == 0 ? 1 : 2 * ids->count) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		ids->at = grown;
	}
	ids->at[ids->count++] = *id;
	return 0;
}

void sz_object_remove(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next) {
		int result =
			sz_backend_remove(store->folders[at->folder].backend, at->part, at->name);

		if (result == 0 || result == -ENOENT)
			sz_catalog_drop(store, id, at->folder, at->part);
	}
}

static int device_ids(struct sz_device *device, struct ids *ids)
{
	int result = id_add(ids, &device->manifest_ref.id);
	READ_SCOPE(&device->map_lock);

	if (result == 0)
		result = id_add(ids, &device->hot_ref.id);
	for (uint32_t i = 0; i < device->shard_count && result == 0; i++) {
		const struct shard *shard = device->shards[i];

		if (shard == NULL)
			continue;
		result = id_add(ids, &shard->ref.id);
		for (uint32_t j = 0; j < SZ_SHARD_BANDS && result == 0; j++)
			result = id_add(ids, &shard->rows[j].ref.id);
	}
	for (uint32_t i = 0; i < device->delta_count && result == 0; i++) {
		result = id_add(ids, &device->deltas[i]->delta.id);
		if (result == 0 && !device->deltas[i]->list_is_inline)
			result = id_add(ids, &device->deltas[i]->list.id);
	}
	return result;
}

int sz_generation_ids(struct sz_store *store, struct ids *ids)
{
	int result = store->root.generation == 0 ? 0 : id_add(ids, &store->root_id);

	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		result = device_ids(&store->devices[i], ids);
	ids_sort(ids);
	return result;
}

static bool is_root(const struct sz_id *id)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	return sz_id_parse(id, &kind, &device, &generation) == 0 && kind == SZ_KIND_ROOT;
}

static void folders_sync(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++)
		if (store->devices[i].folder != NO_DEVICE)
			(void)!sz_backend_sync_folder(
				store->folders[store->devices[i].folder].backend, SZ_SEALED);
}

void sz_collect(struct sz_store *store, struct ids *before)
{
	CLEANUP(sz_ids_free) struct ids now = { 0 };

	if (store->has_foreign || !store->is_root_everywhere || sz_generation_ids(store, &now) != 0)
		return;
	for (size_t i = 0; i < store->superseded.count; i++) {
		if (!is_root(&store->superseded.at[i]))
			continue;
		sz_object_remove(store, &store->superseded.at[i]);
		sz_history_drop(&store->history, &store->superseded.at[i]);
	}
	folders_sync(store);
	for (size_t i = 0; i < store->superseded.count; i++)
		if (!ids_have(&now, &store->superseded.at[i]))
			sz_object_remove(store, &store->superseded.at[i]);
	sz_ids_free(&store->superseded);
	for (size_t i = 0; i < before->count; i++)
		if (!ids_have(&now, &before->at[i]) &&
		    id_add(&store->superseded, &before->at[i]) != 0)
			return; /* they stay: the next opening finds them */
}

static int shard_ids(struct sz_store *store, const struct sz_ref *ref, struct ids *ids)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	int result = id_add(ids, &ref->id);

	if (header == NULL)
		return -ENOMEM;
	if (sz_blob_read(store, ref, header, &payload) != 0 ||
	    sz_shard_decode(payload.data, payload.length, &shard) != 0)
		return result;
	for (uint32_t i = 0; i < shard.band_count && result == 0; i++)
		result = id_add(ids, &shard.bands[i].ref.id);
	return result;
}

/* What a manifest of an earlier generation refers to. What cannot be read is not removed. */
static int manifest_ids(struct sz_store *store, const struct sz_ref *ref, const struct ids *now,
			struct ids *ids)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, &ref->id);
	int result;

	if (header == NULL)
		return -ENOMEM;
	if (locations == NULL || sz_blob_read(store, ref, header, &payload) != 0 ||
	    sz_manifest_decode(payload.data, payload.length, &manifest) != 0)
		return 0;
	result = id_add(ids, &ref->id);
	if (result == 0)
		result = id_add(ids, &manifest.hot.id);
	for (uint32_t i = 0; i < manifest.shard_count && result == 0; i++)
		if (!ids_have(now, &manifest.shards[i].shard.id))
			result = shard_ids(store, &manifest.shards[i].shard, ids);
	for (uint32_t i = 0; i < manifest.delta_count && result == 0; i++) {
		result = id_add(ids, &manifest.deltas[i].delta.id);
		if (result == 0 && !manifest.deltas[i].list_is_inline)
			result = id_add(ids, &manifest.deltas[i].list.id);
	}
	return result;
}

static int root_ids(struct sz_store *store, const struct generation *generation,
		    const struct ids *now, struct ids *superseded)
{
	CLEANUP(sz_ids_free) struct ids ids = { 0 };
	const struct generation *newest = sz_history_find(&store->history, store->root_digest);
	struct sz_ancestor identity;
	int result;

	sz_generation_identity(generation, &identity);
	if (!sz_history_is_ancestor(&store->history, &identity, newest)) {
		store->has_foreign = true;
		return 0;
	}
	result = id_add(superseded, &generation->id);
	for (uint32_t i = 0; i < generation->root.device_count && result == 0; i++)
		if (!ids_have(now, &generation->root.devices[i].manifest.id))
			result = manifest_ids(store, &generation->root.devices[i].manifest, now,
					      &ids);
	for (size_t i = 0; i < ids.count && result == 0; i++)
		if (!ids_have(now, &ids.at[i]))
			result = id_add(superseded, &ids.at[i]);
	return result;
}

int sz_collect_ancestors(struct sz_store *store)
{
	CLEANUP(sz_ids_free) struct ids now = { 0 };
	int result = sz_generation_ids(store, &now);

	store->has_foreign = store->history.lost_count > 0;
	for (size_t i = 0; i < store->history.count && result == 0; i++)
		if (memcmp(&store->history.at[i]->id, &store->root_id, sizeof(store->root_id)) != 0)
			result = root_ids(store, store->history.at[i], &now, &store->superseded);
	return result;
}

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

/* May another history still need what is in live/? */
static bool has_foreign_logs(struct sz_store *store)
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

		if (sz_id_parse(&logs[i], &kind, &device, &generation) != 0 ||
		    sz_object_open_any(store, &logs[i], log_check, &log, &file, &text) != 0)
			return true;
		if (!log.is_empty && (generation > store->root.generation || log.is_foreign))
			return true;
	}
	return false;
}

/* Ids of all that is in live/. */
static int live_ids(struct sz_store *store, struct sz_bytes *found)
{
	const struct catalog *catalog = &store->catalog;
	MUTEX_SCOPE(&store->catalog.lock);

	for (size_t i = 0; i < catalog->bucket_count; i++)
		for (const struct catalog_entry *entry = catalog->buckets[i]; entry != NULL;
		     entry = entry->next)
			for (const struct location *at = entry->locations; at != NULL;
			     at = at->next)
				if (at->part == SZ_LIVE &&
				    sz_bytes_append(found, &entry->id, sizeof(entry->id)) != 0)
					return -ENOMEM;
	return 0;
}

/* All that any generation refers to. -EBADMSG: that is not known. */
static int all_refs(struct sz_store *store, struct id_set *refs)
{
	int result = 0;

	for (size_t i = 0; i < store->history.count && result == 0; i++)
		result = sz_generation_refs(store, store->history.at[i], NULL, refs);
	return result;
}

static bool is_sealed_somewhere(const struct location *locations)
{
	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->part == SZ_SEALED)
			return true;
	return false;
}

/*
 * One file of live/: what a generation refers to, and is nowhere else, is moved to where it belongs (a copier
 * may have come by before it was, and taken the root later). The rest goes.
 */
static void live_settle(struct sz_store *store, const struct id_set *refs, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);
	bool is_needed = sz_id_set_has(refs, id) && !is_sealed_somewhere(locations);
	char name[SZ_OBJECT_NAME_BYTES];

	sz_name_encode(store->keys, id, name);
	for (const struct location *at = locations; at != NULL; at = at->next) {
		struct sz_backend *backend = store->folders[at->folder].backend;

		if (at->part != SZ_LIVE)
			continue;
		if (!is_needed) {
			if (sz_backend_remove(backend, SZ_LIVE, at->name) == 0)
				sz_catalog_drop(store, id, at->folder, SZ_LIVE);
		} else if (sz_backend_rename(backend, at->name, name) == 0) {
			sz_catalog_drop(store, id, at->folder, SZ_LIVE);
			(void)!sz_catalog_add(store, id, at->folder, SZ_SEALED, at->size_bytes);
			(void)!sz_backend_sync_folder(backend, SZ_SEALED);
		}
	}
}

void sz_collect_live(struct sz_store *store)
{
	CLEANUP_BYTES struct sz_bytes found = { 0 };
	CLEANUP(sz_id_set_free) struct id_set refs = { 0 };

	if (store->has_foreign || has_foreign_logs(store) || live_ids(store, &found) != 0 ||
	    found.length == 0 || all_refs(store, &refs) != 0)
		return;
	for (size_t i = 0; i < found.length / sizeof(struct sz_id); i++)
		live_settle(store, &refs, (const struct sz_id *)(const void *)found.data + i);
}
