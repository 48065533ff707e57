/*
 * cache: sealed bands and deltas that are open: descriptor, keys, header, and the leaf pages that
 * were used. The least recently used is closed when there are too many.
 *
 * An object that is missing or damaged stays in the cache as such: it is not looked for again with
 * every read. What may pass (an error of the disk) is not remembered.
 *
 * An object's lock guards its loading and its leaves; leaves are read under it, for readers of the same
 * object need the same leaves.
 */
#include "device/device_internal.h"

#include <errno.h>

struct leaf {
	uint32_t count;
	struct sz_index_entry entries[SZ_LEAF_ENTRIES];
};

struct object {
	struct object *newer; /* these four: under the cache's lock */
	struct object *older;
	uint32_t references;
	struct sz_ref ref;
	pthread_mutex_t lock; /* guards all below */
	bool is_loaded;
	int damage; /* 0 or -EBADMSG, once loaded */
	struct sz_file *file;
	struct sz_header *header;
	struct sz_object_keys *keys;
	struct leaf **leaves; /* leaf_count; NULL: not read yet */
	bool *is_leaf_damaged;
	uint64_t *keys_of_leaves; /* first sectors, leaf_count; from top keys and fences */
	bool *is_fence_damaged;   /* by leaf */
};

void sz_cache_init(struct cache *cache)
{
	*cache = (struct cache){ 0 };
	(void)pthread_mutex_init(&cache->lock, NULL);
}

static void object_free(struct sz_store *store, struct object *object)
{
	if (object->header != NULL && object->leaves != NULL)
		for (uint32_t i = 0; i < object->header->leaf_count; i++)
			free(object->leaves[i]);
	free(object->leaves);
	free(object->is_leaf_damaged);
	free(object->keys_of_leaves);
	free(object->is_fence_damaged);
	sz_file_close(object->file);
	sz_key_slab_give(&store->slab, object->keys);
	free(object->header);
	(void)pthread_mutex_destroy(&object->lock);
	free(object);
}

static void list_remove(struct cache *cache, struct object *object)
{
	*(object->newer != NULL ? &object->newer->older : &cache->newest) = object->older;
	*(object->older != NULL ? &object->older->newer : &cache->oldest) = object->newer;
	object->newer = NULL;
	object->older = NULL;
	cache->count--;
}

static void list_add(struct cache *cache, struct object *object)
{
	object->older = cache->newest;
	object->newer = NULL;
	*(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = object;
	cache->newest = object;
	cache->count++;
}

void sz_cache_fini(struct sz_store *store)
{
	struct object *object;

	while ((object = store->cache.newest) != NULL) {
		list_remove(&store->cache, object);
		object_free(store, object);
	}
	(void)pthread_mutex_destroy(&store->cache.lock);
}

/* The object's entry, held; made if there is none. */
static struct object *cache_hold(struct sz_store *store, const struct sz_ref *ref)
{
	struct cache *cache = &store->cache;
	struct object *object;
	MUTEX_SCOPE(&cache->lock);

	for (object = cache->newest; object != NULL; object = object->older)
		if (memcmp(&object->ref, ref, sizeof(*ref)) == 0)
			break;
	if (object != NULL) {
		list_remove(cache, object);
	} else {
		object = calloc(1, sizeof(*object));
		if (object == NULL)
			return NULL;
		object->ref = *ref;
		(void)pthread_mutex_init(&object->lock, NULL);
	}
	list_add(cache, object);
	object->references++;
	for (struct object *old = cache->oldest; old != NULL && cache->count > OBJECTS_MAX;) {
		struct object *newer = old->newer;

		if (old->references == 0) {
			list_remove(cache, old);
			object_free(store, old);
		}
		old = newer;
	}
	return object;
}

void sz_object_forget(struct sz_store *store, const struct sz_id *id)
{
	struct cache *cache = &store->cache;
	MUTEX_SCOPE(&cache->lock);

	for (struct object *object = cache->newest; object != NULL;) {
		struct object *older = object->older;

		if (object->references == 0 && memcmp(&object->ref.id, id, sizeof(*id)) == 0) {
			list_remove(cache, object);
			object_free(store, object);
		}
		object = older;
	}
}

void sz_object_put(struct sz_store *store, struct object **object)
{
	MUTEX_SCOPE(&store->cache.lock);

	if (*object != NULL)
		(*object)->references--;
	*object = NULL;
}

struct object_wish {
	struct sz_store *store;
	const struct sz_device *device;
	const struct sz_ref *ref;
	struct sz_header *header;
};

static int object_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	const struct object_wish *wish = context;
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	if (result != 0)
		return result;
	if (done < sizeof(page))
		return -EBADMSG;
	sz_header_digest(page, digest);
	if (!sz_equal(digest, wish->ref->digest, sizeof(digest)))
		return -EBADMSG;
	result = sz_header_decode(wish->store->keys, page, wish->header);
	if (result != 0)
		return result;
	if (memcmp(&wish->header->id, &wish->ref->id, sizeof(struct sz_id)) != 0 ||
	    memcmp(wish->header->device_id, wish->device->id, sizeof(wish->device->id)) != 0)
		return -EBADMSG;
	if (size_bytes < wish->header->file_bytes) /* what is left of it may be of use */
		sz_damage_note(wish->store, wish->device->index, &wish->ref->id, 0,
			       "ends too early");
	return 0;
}

/* First sectors of all leaves; those under a fence that is damaged stay unknown. */
static int leaf_keys_load(struct object *object)
{
	const struct sz_header *header = object->header;

	if (header->leaf_count <= SZ_TOP_KEYS) {
		for (uint32_t i = 0; i < header->leaf_count; i++)
			object->keys_of_leaves[i] = sz_get_le64(header->body + (size_t)i * 8);
		return 0;
	}
	for (uint32_t fence = 0; fence < header->top_count; fence++) {
		uint32_t first = fence * SZ_FENCE_KEYS;
		uint32_t most = header->leaf_count - first < SZ_FENCE_KEYS
					? header->leaf_count - first
					: SZ_FENCE_KEYS;
		uint32_t number = header->leaf_count + fence;
		uint64_t keys[SZ_FENCE_KEYS];
		uint8_t page[SZ_PAGE_BYTES];
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint32_t count = 0;
		size_t done;
		int result = sz_read_retried(
			object->file, page, sizeof(page),
			(1 + (uint64_t)header->data_slots + number) * SZ_PAGE_BYTES, &done);

		if (result != 0)
			return result;
		result = done < sizeof(page) ? -EBADMSG
					     : sz_page_open(object->keys, number, page, payload);
		if (result == 0)
			result = sz_fence_decode(payload, keys, &count);
		for (uint32_t i = 0; i < most; i++) {
			bool is_known = result == 0 && count == most;

			object->is_fence_damaged[first + i] = !is_known;
			/* Where the fence began is known from the header. */
			object->keys_of_leaves[first + i] =
				is_known ? keys[i] : sz_get_le64(header->body + (size_t)fence * 8);
		}
	}
	return 0;
}

/* 0 also if the object turns out to be damaged; other errors may pass. Under the object's lock. */
static int object_load(struct sz_store *store, const struct sz_device *device,
		       struct object *object)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	struct object_wish wish = { store, device, &object->ref, header };
	const char *text;
	size_t count;
	int result;

	if (header == NULL)
		return -ENOMEM;
	result = sz_object_open_any(store, &object->ref.id, object_check, &wish, &object->file,
				    &text);
	if (result == -EBADMSG) {
		sz_damage_note(store, device->index, &object->ref.id, 0, text);
		object->damage = -EBADMSG;
		object->is_loaded = true;
		return 0;
	}
	if (result != 0)
		return result;
	count = (size_t)header->leaf_count + 1;
	object->keys = sz_key_slab_take(&store->slab);
	object->leaves = calloc(count, sizeof(struct leaf *));
	object->is_leaf_damaged = calloc(count, sizeof(bool));
	object->is_fence_damaged = calloc(count, sizeof(bool));
	object->keys_of_leaves = calloc(count, sizeof(uint64_t));
	if (object->keys == NULL || object->leaves == NULL || object->is_leaf_damaged == NULL ||
	    object->is_fence_damaged == NULL || object->keys_of_leaves == NULL)
		return -ENOMEM;
	sz_object_keys_derive(store->keys, header, object->keys);
	object->header = TAKE(header);
	result = leaf_keys_load(object);
	object->is_loaded = result == 0;
	return result;
}

/* Back to what it was before it was loaded in part. */
static void object_unload(struct sz_store *store, struct object *object)
{
	free(object->leaves);
	free(object->is_leaf_damaged);
	free(object->is_fence_damaged);
	free(object->keys_of_leaves);
	free(object->header);
	sz_key_slab_give(&store->slab, object->keys);
	sz_file_close(object->file);
	object->leaves = NULL;
	object->is_leaf_damaged = NULL;
	object->is_fence_damaged = NULL;
	object->keys_of_leaves = NULL;
	object->header = NULL;
	object->keys = NULL;
	object->file = NULL;
}

int sz_object_get(struct sz_store *store, const struct sz_device *device, const struct sz_ref *ref,
		  struct object **object_out)
{
	struct object *object = cache_hold(store, ref);
	int result = 0;

	*object_out = NULL;
	if (object == NULL)
		return -ENOMEM;
	{
		MUTEX_SCOPE(&object->lock);

		if (!object->is_loaded) {
			result = object_load(store, device, object);
			if (result != 0)
				object_unload(store, object);
		}
		if (result == 0)
			result = object->damage;
	}
	if (result != 0)
		sz_object_put(store, &object);
	*object_out = object;
	return result;
}

int sz_object_get_cached(struct sz_store *store, const struct sz_ref *ref,
			 struct object **object_out)
{
	struct object *object = cache_hold(store, ref);
	bool is_whole = false;

	if (object != NULL && pthread_mutex_trylock(&object->lock) == 0) {
		is_whole = object->is_loaded && object->damage == 0;
		(void)pthread_mutex_unlock(&object->lock);
	}
	if (!is_whole)
		sz_object_put(store, &object);
	*object_out = object;
	return is_whole ? 0 : -EAGAIN;
}

int sz_object_check_end(struct object *object)
{
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t trailer[SZ_TRAILER_BYTES];
	size_t done;
	int result = sz_read_retried(object->file, page, sizeof(page), 0, &done);

	if (result == 0 && done < sizeof(page))
		result = -EBADMSG;
	if (result == 0)
		result = sz_read_retried(object->file, trailer, sizeof(trailer),
					 object->header->file_bytes - SZ_TRAILER_BYTES, &done);
	if (result == 0 && done < sizeof(trailer))
		result = -EBADMSG;
	return result != 0 ? result : sz_trailer_open(object->keys, page, trailer);
}

struct sz_file *sz_object_file(struct object *object)
{
	return object->file;
}

const struct sz_object_keys *sz_object_keys(const struct object *object)
{
	return object->keys;
}

/* The leaf that would hold sector: the last one that begins at or before it. -1: none does. */
static int64_t leaf_of(const struct object *object, uint64_t sector)
{
	int64_t low = 0;
	int64_t high = (int64_t)object->header->leaf_count - 1;

	while (low <= high) {
		int64_t middle = (low + high) / 2;

		if (object->keys_of_leaves[middle] <= sector)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return high;
}

/* *leaf_out: NULL if it is damaged. */
static int leaf_get(struct object *object, uint32_t number, const struct leaf **leaf_out)
{
	CLEANUP_FREE struct leaf *leaf = NULL;
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t payload[SZ_PAGE_PAYLOAD];
	size_t done;
	int result;

	*leaf_out = object->leaves[number];
	if (*leaf_out != NULL || object->is_leaf_damaged[number] ||
	    object->is_fence_damaged[number])
		return 0;
	leaf = malloc(sizeof(*leaf));
	if (leaf == NULL)
		return -ENOMEM;
	result = sz_read_retried(
		object->file, page, sizeof(page),
		(1 + (uint64_t)object->header->data_slots + number) * SZ_PAGE_BYTES, &done);
	if (result != 0)
		return result;
	if (done < sizeof(page) || sz_page_open(object->keys, number, page, payload) != 0 ||
	    sz_leaf_decode(payload, object->header, leaf->entries, &leaf->count) != 0) {
		object->is_leaf_damaged[number] = true;
		return 0;
	}
	object->leaves[number] = leaf;
	*leaf_out = TAKE(leaf);
	return 0;
}

static uint64_t entry_end(const struct sz_index_entry *entry)
{
	return entry->sector +
	       (entry->state == SZ_SECTOR_DATA ? 1 : (uint64_t)entry->slot_or_count);
}

/* DATA entries with consecutive sectors and slots, from the i-th of a leaf on. */
static void run_gather(const struct leaf *leaf, uint32_t i, uint32_t longest,
		       struct object_run *run)
{
	const struct sz_index_entry *first = &leaf->entries[i];
	uint32_t count = 0;

	while (count < longest && i + count < leaf->count) {
		const struct sz_index_entry *entry = &leaf->entries[i + count];

		if (entry->state != SZ_SECTOR_DATA || entry->sector != first->sector + count ||
		    entry->slot_or_count != first->slot_or_count + count)
			break;
		memcpy(run->nonce_tags + (size_t)count * SZ_NONCE_TAG_BYTES, entry->nonce_tag,
		       SZ_NONCE_TAG_BYTES);
		count++;
	}
	run->count = count;
	run->state = SZ_SECTOR_DATA;
	run->place = 1 + (uint64_t)first->slot_or_count;
}

/* Under the object's lock. is_cached: no leaf is read. */
static int run_find(struct object *object, uint64_t sector, uint32_t longest, bool is_cached,
		    struct object_run *run_out)
{
	int64_t number = leaf_of(object, sector);
	const struct leaf *leaf = NULL;
	uint64_t end = UINT64_MAX; /* of what is said here */
	uint32_t low = 0;
	uint32_t high;
	int result;

	run_out->sector = sector;
	run_out->state = SZ_SECTOR_ABSENT;
	if ((uint64_t)(number + 1) < object->header->leaf_count)
		end = object->keys_of_leaves[number + 1];
	if (number >= 0 && is_cached && object->leaves[number] == NULL)
		return -EAGAIN;
	if (number >= 0) {
		result = leaf_get(object, (uint32_t)number, &leaf);
		if (result != 0)
			return result;
		if (leaf == NULL)
			run_out->state = SZ_SECTOR_POISON;
	}
	high = leaf == NULL ? 0 : leaf->count;
	while (low < high) { /* the first entry that ends behind sector */
		uint32_t middle = (low + high) / 2;

		if (entry_end(&leaf->entries[middle]) > sector)
			high = middle;
		else
			low = middle + 1;
	}
	if (leaf != NULL && low < leaf->count) {
		const struct sz_index_entry *entry = &leaf->entries[low];

		if (entry->sector > sector) {
			end = entry->sector;
		} else if (entry->state == SZ_SECTOR_DATA) {
			run_gather(leaf, low, longest, run_out);
			return 0;
		} else {
			run_out->state = (enum sz_sector_state)entry->state;
			end = entry_end(entry);
		}
	}
	run_out->count = end - sector < longest ? (uint32_t)(end - sector) : longest;
	return 0;
}

int sz_object_find(struct object *object, uint64_t sector, uint32_t longest,
		   struct object_run *run_out)
{
	MUTEX_SCOPE(&object->lock);

	return run_find(object, sector, longest, false, run_out);
}

int sz_object_find_cached(struct object *object, uint64_t sector, uint32_t longest,
			  struct object_run *run_out)
{
	int result;

	if (pthread_mutex_trylock(&object->lock) != 0)
		return -EAGAIN;
	result = run_find(object, sector, longest, true, run_out);
	(void)pthread_mutex_unlock(&object->lock);
	return result;
}
