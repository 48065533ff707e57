/*
 * recover: no root is left, and one is made anew from manifests. A manifest says what its device holds, and all that
 * roots say of devices; what it cannot say is which manifests belong together. That is guessed like this:
 *
 * 1. A generation is what the manifests of one lineage and number stand for. Devices that have none of it
 *    were not changed by it, and have the newest before it.
 * 2. One whose live logs are there may never have been finished. Unless every device has a manifest of it, and
 *    nothing that it refers to is in live/ (so everything was synced), it is left to the logs.
 * 3. The newest that is complete, else the newest that redundancy can repair.
 *
 * Then it is opened as any other, live files too: they name the root that they stand on, and that name is taken for
 * the lost root's. Nothing is done unless it is asked for, nothing is written unless that is asked for, too; and
 * the roots that come of it say for ever that they were recovered.
 */
#include "device/device_internal.h"

#include <errno.h>

/* A manifest that can be read. */
struct found {
	struct sz_ref ref;
	uint32_t device;
	uint8_t lineage[16];
	struct sz_manifest manifest; /* without its shards and deltas */
};

struct recovery {
	struct sz_store *store;
	struct found *found; /* newest first, those of a lineage together */
	size_t count;
	struct survey survey;
};

static void recovery_fini(struct recovery *recovery)
{
	free(recovery->found);
	sz_survey_free(&recovery->survey);
}

static int newest_first(const void *a, const void *b)
{
	const struct found *left = a;
	const struct found *right = b;

	if (left->manifest.generation != right->manifest.generation)
		return left->manifest.generation > right->manifest.generation ? -1 : 1;
	return memcmp(left->lineage, right->lineage, sizeof(left->lineage));
}

/* -EUCLEAN: it is another index page. */
static int found_read(struct sz_store *store, const struct sz_id *id, struct found *found)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	enum sz_kind kind;
	uint64_t generation;
	int result = sz_id_parse(id, &kind, &found->device, &generation);

	if (header == NULL)
		return -ENOMEM;
	if (result == 0)
		result = sz_blob_read_id(store, id, header, &payload, found->ref.digest);
	if (result == 0)
		result = sz_manifest_decode(payload.data, payload.length, &manifest);
	if (result == 0 &&
	    (manifest.generation != generation || found->device >= manifest.device_count))
		result = -EUCLEAN;
	if (result != 0)
		return result;
	found->ref.id = *id;
	memcpy(found->lineage, header->lineage, sizeof(found->lineage));
	found->manifest = manifest;
	found->manifest.shards = NULL;
	found->manifest.deltas = NULL;
	return 0;
}

static int manifests_find(struct recovery *recovery)
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	size_t count = 0;
	int result;

	(void)sz_catalog_identify(recovery->store, UINT64_MAX);
	result = sz_catalog_ids(recovery->store, SZ_KIND_INDEX, &ids, &count);
	if (result == 0)
		recovery->found = calloc(count + 1, sizeof(*recovery->found));
	if (result != 0 || recovery->found == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		result = found_read(recovery->store, &ids[i], &recovery->found[recovery->count]);
		if (result == 0)
			recovery->count++;
		else if (result != -EBADMSG && result != -EUCLEAN)
			return result;
	}
	if (recovery->count > 1)
		qsort(recovery->found, recovery->count, sizeof(*recovery->found), newest_first);
	return 0;
}

/* The device's manifest in a generation: of it, else the newest before, of its lineage if there is one. */
static const struct found *manifest_of(const struct recovery *recovery, const struct found *first,
				       uint32_t device)
{
	const struct found *other = NULL;

	for (size_t i = 0; i < recovery->count; i++) {
		const struct found *found = &recovery->found[i];
		bool is_ours = memcmp(found->lineage, first->lineage, sizeof(found->lineage)) == 0;

		if (found->device != device ||
		    found->manifest.generation > first->manifest.generation)
			continue;
		if (is_ours)
			return found;
		if (other == NULL && found->manifest.generation < first->manifest.generation)
			other = found;
	}
	return other;
}

/* The root of a generation, as far as manifests say it. */
static int root_make(const struct recovery *recovery, const struct found *first,
		     struct sz_root *root)
{
	const struct sz_store *store = recovery->store;

	*root = (struct sz_root){
		.format_version = SZ_FORMAT_VERSION,
		.generation = first->manifest.generation,
		.store_time_ns = sz_wall_ns(),
		.wall_time_ns = sz_wall_ns(),
		.next_sequence = sz_wall_ns(), /* above all that were ever given */
		.band_sectors = first->manifest.band_sectors,
		.parity = first->manifest.parity,
		.flags = SZ_ROOT_RECOVERED,
		.key_version = store->key->version,
		.device_count = first->manifest.device_count,
		.devices = calloc(first->manifest.device_count, sizeof(*root->devices)),
	};
	if (root->devices == NULL)
		return -ENOMEM;
	memcpy(root->store_id, store->keys->store_id, sizeof(root->store_id));
	memcpy(root->lineage, first->lineage, sizeof(root->lineage));
	memcpy(root->key_digest, store->key->digest, sizeof(root->key_digest));
	for (uint32_t i = 0; i < root->device_count; i++) {
		const struct found *found = manifest_of(recovery, first, i);
		struct sz_root_device *device = &root->devices[i];

		device->sectors = found != NULL ? found->manifest.sectors : first->manifest.sectors;
		if (found == NULL) { /* a device of which nothing is left */
			device->state = 1;
			device->stale_since = root->generation;
			sz_random(device->device_id, sizeof(device->device_id));
			continue;
		}
		memcpy(device->device_id, found->manifest.device_id, sizeof(device->device_id));
		device->manifest = found->ref;
	}
	return 0;
}

static bool is_same(const struct found *a, const struct found *b)
{
	return newest_first(a, b) == 0;
}

/* Has each device that has any manifest one of this generation? */
static bool is_everywhere(const struct recovery *recovery, const struct found *first)
{
	bool has_any[SZ_DEVICES_MAX] = { false };
	bool has_this[SZ_DEVICES_MAX] = { false };

	for (size_t i = 0; i < recovery->count; i++) {
		const struct found *found = &recovery->found[i];

		has_any[found->device] = true;
		if (is_same(found, first))
			has_this[found->device] = true;
	}
	return memcmp(has_any, has_this, sizeof(has_any)) == 0;
}

static bool has_records(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->size_bytes > SZ_PAGE_BYTES)
			return true;
	return false;
}

/* Logs without a record were only made. */
static int has_logs(struct sz_store *store, uint64_t epoch, bool *has_out)
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	size_t count = 0;
	int result = sz_catalog_ids(store, SZ_KIND_LOG, &ids, &count);

	*has_out = false;
	for (size_t i = 0; i < count && !*has_out; i++) {
		enum sz_kind kind;
		uint32_t device;
		uint64_t generation;

		*has_out = sz_id_parse(&ids[i], &kind, &device, &generation) == 0 &&
			   generation == epoch && has_records(store, &ids[i]);
	}
	return result;
}

static bool is_sealed(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->part == SZ_SEALED)
			return true;
	return locations == NULL; /* missing, which is told elsewhere */
}

/* Is nothing that a generation refers to in live/ alone? */
static bool is_settled(struct sz_store *store, struct generation *generation)
{
	CLEANUP(sz_id_set_free) struct id_set refs = { 0 };
	int result = sz_refs_gather(store, generation, &refs);

	sz_refs_release(store, generation);
	if (result != 0)
		return false;
	for (size_t i = 0; i < refs.capacity; i++)
		if (!sz_id_is_none(&refs.slots[i]) && !is_sealed(store, &refs.slots[i]))
			return false;
	return true;
}

/* One generation; NULL in *generation_out: it is left to the logs. */
static int candidate_make(struct recovery *recovery, const struct found *first,
			  struct generation **generation_out, enum sz_wholeness *wholeness_out,
			  char missing[SZ_MISSING_TEXT_BYTES])
{
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	CLEANUP(sz_generation_free) struct generation *generation = NULL;
	bool is_unfinished;
	int result = has_logs(recovery->store, first->manifest.generation, &is_unfinished);

	*generation_out = NULL;
	if (result == 0)
		result = root_make(recovery, first, &root);
	if (result == 0)
		generation = sz_generation_make(&root);
	if (generation == NULL)
		return -ENOMEM;
	if (is_unfinished &&
	    (!is_everywhere(recovery, first) || !is_settled(recovery->store, generation)))
		return 0;
	result = sz_replay_base(recovery->store, root.generation, generation->digest);
	if (result == 0)
		result = sz_generation_survey(recovery->store, &recovery->survey, generation,
					      wholeness_out, missing);
	if (result == 0)
		*generation_out = TAKE(generation);
	return result;
}

/* The best so far gives way to a better one. */
static int best_find(struct recovery *recovery, struct generation **best_out,
		     enum sz_wholeness *wholeness_out, char missing_out[SZ_MISSING_TEXT_BYTES])
{
	for (size_t i = 0; i < recovery->count; i++) {
		CLEANUP(sz_generation_free) struct generation *generation = NULL;
		char missing[SZ_MISSING_TEXT_BYTES];
		enum sz_wholeness wholeness = SZ_INCOMPLETE;
		int result;

		if (i > 0 && is_same(&recovery->found[i], &recovery->found[i - 1]))
			continue;
		result = candidate_make(recovery, &recovery->found[i], &generation, &wholeness,
					missing);
		if (result != 0)
			return result;
		if (generation == NULL || (*best_out != NULL && wholeness >= *wholeness_out))
			continue;
		sz_generation_free(best_out);
		*best_out = TAKE(generation);
		*wholeness_out = wholeness;
		memcpy(missing_out, missing, sizeof(missing));
		if (wholeness == SZ_COMPLETE)
			break;
	}
	return 0;
}

int sz_recover(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(recovery_fini) struct recovery recovery = { .store = store };
	CLEANUP(sz_generation_free) struct generation *best = NULL;
	struct choice *choice = &store->choice;
	char missing[SZ_MISSING_TEXT_BYTES] = "";
	enum sz_wholeness wholeness = SZ_INCOMPLETE;
	int result;

	if (store->history.count > 0)
		return sz_fail(error, -EINVAL,
			       "%zu roots are left: there is nothing to recover; 'szpool "
			       "generations' lists them",
			       store->history.count);
	result = manifests_find(&recovery);
	if (result == 0)
		result = best_find(&recovery, &best, &wholeness, missing);
	if (result == 0)
		result = sz_history_room(&store->history);
	if (result != 0)
		return sz_fail(error, result, "looking for manifests: %s", strerror(-result));
	if (best == NULL)
		return sz_fail(error, -EBADMSG, "nothing to make a root of is left");
	choice->is_rebuilt = true;
	choice->is_notable = true;
	choice->is_writable = wholeness != SZ_INCOMPLETE;
	choice->generation = best;
	sz_choice_say(choice->text, "generation %llu, put together without a root",
		      (unsigned long long)best->root.generation);
	if (missing[0] != '\0')
		sz_choice_say(choice->text, "missing are %s", missing);
	sz_history_add(&store->history, TAKE(best));
	return 0;
}
