/*
 * refs: what generations refer to, in memory. Generations share most of their index pages: each is read once, when
 * the first generation that has it is loaded, and forgotten with the last.
 *
 *   generation → manifests (one a device) → shards → bands
 *                          → hot image, deltas, sector lists
 *
 * What a page refers to that cannot be read is not known: while its generation is kept, nothing may be removed.
 */
#include "device/device_internal.h"

#include <errno.h>

#define BUCKETS_AT_FIRST 256U

struct index_page {
	struct index_page *next; /* in its bucket */
	struct sz_id id;
	uint32_t references; /* by generations, and by pages */
	uint64_t walk;       /* the last one that came by */
	bool is_complete; /* all that it refers to is there, by name and length, if its folder is */
	struct sz_id *objects;
	uint32_t object_count;
	struct index_page **shards; /* of a manifest */
	uint32_t shard_count;
};

static size_t bucket_of(const struct refs *refs, const struct sz_id *id)
{
	return (size_t)sz_get_le64(id->bytes + 8) & (refs->bucket_count - 1);
}

static int buckets_grow(struct refs *refs)
{
	struct refs grown = { .bucket_count = refs->bucket_count == 0 ? BUCKETS_AT_FIRST
								      : 2 * refs->bucket_count };

	grown.buckets = calloc(grown.bucket_count, sizeof(struct index_page *));
	if (grown.buckets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < refs->bucket_count; i++) {
		struct index_page *page;

		while ((page = refs->buckets[i]) != NULL) {
			size_t at = bucket_of(&grown, &page->id);

			refs->buckets[i] = page->next;
			page->next = grown.buckets[at];
			grown.buckets[at] = page;
		}
	}
	free(refs->buckets);
	refs->buckets = grown.buckets;
	refs->bucket_count = grown.bucket_count;
	return 0;
}

static void page_free(struct index_page *page)
{
	free(page->objects);
	free(page->shards);
	free(page);
}

void sz_refs_fini(struct refs *refs)
{
	for (size_t i = 0; i < refs->bucket_count; i++) {
		struct index_page *page;

		while ((page = refs->buckets[i]) != NULL) {
			refs->buckets[i] = page->next;
			page_free(page);
		}
	}
	free(refs->buckets);
	*refs = (struct refs){ 0 };
}

static struct index_page *page_find(const struct refs *refs, const struct sz_id *id)
{
	struct index_page *page =
		refs->bucket_count == 0 ? NULL : refs->buckets[bucket_of(refs, id)];

	while (page != NULL && memcmp(&page->id, id, sizeof(*id)) != 0)
		page = page->next;
	return page;
}

static void page_drop(struct refs *refs, struct index_page *page)
{
	struct index_page **at;

	if (--page->references > 0)
		return;
	at = &refs->buckets[bucket_of(refs, &page->id)];
	while (*at != page)
		at = &(*at)->next;
	*at = page->next;
	refs->page_count--;
	page_free(page);
}

/* A manifest's, and with the last one its shards. */
static void page_release(struct refs *refs, struct index_page *page)
{
	if (page == NULL)
		return;
	if (page->references == 1)
		for (uint32_t i = 0; i < page->shard_count; i++)
			if (page->shards[i] != NULL)
				page_drop(refs, page->shards[i]);
	page_drop(refs, page);
}

/* One of a device whose folder is not here is taken to be in that: it may come back. bytes 0: any length will do. */
static bool is_there(struct sz_store *store, const struct sz_id *id, uint64_t bytes)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	return sz_catalog_has(store, id, bytes) ||
	       (sz_id_parse(id, &kind, &device, &generation) == 0 && device < store->device_count &&
		store->devices[device].folder == NO_DEVICE);
}

static void object_add(struct sz_store *store, struct index_page *page, const struct sz_id *id,
		       uint64_t bytes)
{
	if (sz_id_is_none(id))
		return;
	page->objects[page->object_count++] = *id;
	page->is_complete = page->is_complete && is_there(store, id, bytes);
}

static int shard_load(struct sz_store *store, const struct sz_ref *ref, struct index_page *page)
{
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	int result = sz_shard_read(store, ref, &shard);

	if (result != 0)
		return result;
	page->objects = calloc((size_t)shard.band_count + 1, sizeof(*page->objects));
	if (page->objects == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < shard.band_count; i++)
		object_add(store, page, &shard.bands[i].ref.id,
			   sz_band_file_bytes(shard.bands[i].data_slots));
	return 0;
}

typedef int load_fn(struct sz_store *store, const struct sz_ref *ref, struct index_page *page);

/* The page, held once more; read if it is not known. */
static int page_get(struct sz_store *store, const struct sz_ref *ref, load_fn *load,
		    struct index_page **page_out)
{
	struct refs *refs = &store->collector.refs;
	struct index_page *page = page_find(refs, &ref->id);
	int result;

	if (page != NULL) {
		page->references++;
		*page_out = page;
		return 0;
	}
	if (refs->page_count >= refs->bucket_count && buckets_grow(refs) != 0)
		return -ENOMEM;
	page = calloc(1, sizeof(*page));
	if (page == NULL)
		return -ENOMEM;
	page->id = ref->id;
	page->references = 1;
	page->is_complete = true;
	result = load(store, ref, page);
	if (result != 0) {
		for (uint32_t i = 0; i < page->shard_count; i++)
			page_release(refs, page->shards[i]);
		page_free(page);
		return result;
	}
	page->next = refs->buckets[bucket_of(refs, &page->id)];
	refs->buckets[bucket_of(refs, &page->id)] = page;
	refs->page_count++;
	*page_out = page;
	return 0;
}

static int manifest_load(struct sz_store *store, const struct sz_ref *ref, struct index_page *page)
{
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	int result = sz_manifest_read(store, ref, &manifest);

	if (result != 0)
		return result;
	page->objects = calloc(1 + 2 * (size_t)manifest.delta_count, sizeof(*page->objects));
	page->shards = calloc((size_t)manifest.shard_count + 1, sizeof(struct index_page *));
	if (page->objects == NULL || page->shards == NULL)
		return -ENOMEM;
	object_add(store, page, &manifest.hot.id, 0);
	for (uint32_t i = 0; i < manifest.delta_count; i++) {
		const struct sz_manifest_delta *delta = &manifest.deltas[i];

		object_add(store, page, &delta->delta.id, delta->stored_bytes);
		if (!delta->list_is_inline)
			object_add(store, page, &delta->list.id, 0);
	}
	for (uint32_t i = 0; i < manifest.shard_count && result == 0; i++) {
		result = page_get(store, &manifest.shards[i].shard, shard_load,
				  &page->shards[page->shard_count]);
		if (result != 0)
			break;
		page->is_complete =
			page->is_complete && page->shards[page->shard_count]->is_complete;
		page->shard_count++; /* whether it is complete or not: what is left of it is referred to */
	}
	return result;
}

int sz_refs_load(struct sz_store *store, struct generation *generation)
{
	const struct sz_root *root = &generation->root;
	bool is_complete = true;
	bool is_known = true;

	if (generation->pages != NULL && generation->is_known)
		return 0;
	if (generation->pages == NULL)
		generation->pages =
			calloc((size_t)root->device_count + 1, sizeof(struct index_page *));
	if (generation->pages == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < root->device_count; i++) {
		const struct sz_root_device *device = &root->devices[i];
		int result;

		is_complete = is_complete && device->state == 0;
		if (sz_id_is_none(&device->manifest.id))
			continue;
		/* What could not be read before may have been brought back. */
		result = generation->pages[i] != NULL
				 ? 0
				 : page_get(store, &device->manifest, manifest_load,
					    &generation->pages[i]);
		if (result != 0 && result != -EBADMSG) {
			sz_refs_release(store, generation);
			return result;
		}
		is_known = is_known && result == 0;
		is_complete = is_complete && is_known && generation->pages[i]->is_complete;
	}
	generation->is_known = is_known;
	generation->is_complete = is_complete;
	return is_known ? 0 : -EBADMSG;
}

void sz_refs_release(struct sz_store *store, struct generation *generation)
{
	for (uint32_t i = 0; generation->pages != NULL && i < generation->root.device_count; i++)
		page_release(&store->collector.refs, generation->pages[i]);
	free(generation->pages);
	generation->pages = NULL;
}

static int page_visit(struct index_page *page, refs_fn *each, void *context)
{
	int result = each(context, &page->id);

	for (uint32_t i = 0; i < page->object_count && result == 0; i++)
		result = each(context, &page->objects[i]);
	return result;
}

/* A page that was visited on this walk is not visited again. */
static bool is_due(const struct refs *refs, struct index_page *page)
{
	if (page == NULL || page->walk == refs->walk)
		return false;
	page->walk = refs->walk;
	return true;
}

/* A manifest, and its shards. */
static int page_walk(const struct refs *refs, struct index_page *page, refs_fn *each, void *context)
{
	int result = 0;

	if (!is_due(refs, page))
		return 0;
	result = page_visit(page, each, context);
	for (uint32_t i = 0; i < page->shard_count && result == 0; i++)
		if (is_due(refs, page->shards[i]))
			result = page_visit(page->shards[i], each, context);
	return result;
}

static int set_add(void *context, const struct sz_id *id)
{
	return sz_id_is_none(id) ? 0 : sz_id_set_add(context, id);
}

int sz_refs_gather(struct sz_store *store, struct generation *generation, struct id_set *set)
{
	int result = sz_refs_load(store, generation);

	sz_refs_walk_begin(&store->collector.refs);
	return result != 0 ? result
			   : sz_refs_walk(&store->collector.refs, generation, set_add, set);
}

void sz_refs_walk_begin(struct refs *refs)
{
	refs->walk++;
}

int sz_refs_walk(const struct refs *refs, const struct generation *generation, refs_fn *each,
		 void *context)
{
	int result = each(context, &generation->id);

	if (generation->pages == NULL)
		return result;
	for (uint32_t i = 0; i < generation->root.device_count && result == 0; i++)
		result = page_walk(refs, generation->pages[i], each, context);
	return result;
}
