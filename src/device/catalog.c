/*
 * catalog: which file has which object. Made from the folders' listings by decrypting names, and kept
 * true by whoever makes, renames or removes a file afterwards.
 *
 * A name that does not decrypt is a stranger's. Only when something is missing (or there may be
 * roots among them) are strangers looked into, by their header, each once: so a store of many files
 * opens without reading them, and yet files may come back under any name.
 */
#include "device/device_internal.h"

#include <errno.h>

#define BUCKETS_AT_FIRST  1024U
/*
 * Of random names of 32 hex digits one in a hundred decrypts to an id, of a random generation. One that
 * high is a stranger's, until its header says otherwise.
 */
#define GENERATION_LIKELY (1ULL << 32)

static size_t id_hash(const struct sz_id *id)
{
	/* The last eight bytes are random. */
	return (size_t)(sz_get_le64(id->bytes) ^ sz_get_le64(id->bytes + 8));
}

static struct catalog_entry *entry_find(const struct catalog *catalog, const struct sz_id *id)
{
	struct catalog_entry *entry = catalog->buckets[id_hash(id) & (catalog->bucket_count - 1)];

	while (entry != NULL && memcmp(&entry->id, id, sizeof(*id)) != 0)
		entry = entry->next;
	return entry;
}

static void buckets_grow(struct catalog *catalog)
{
	size_t count = catalog->bucket_count * 2;
	struct catalog_entry **buckets = calloc(count, sizeof(struct catalog_entry *));

	if (buckets == NULL)
		return; /* it only gets slower */
	for (size_t i = 0; i < catalog->bucket_count; i++) {
		struct catalog_entry *entry;

		while ((entry = catalog->buckets[i]) != NULL) {
			size_t at = id_hash(&entry->id) & (count - 1);

			catalog->buckets[i] = entry->next;
			entry->next = buckets[at];
			buckets[at] = entry;
		}
	}
	free(catalog->buckets);
	catalog->buckets = buckets;
	catalog->bucket_count = count;
}

static struct location *location_make(const char *name, uint32_t folder, enum sz_part part,
				      uint64_t size_bytes)
{
	size_t length = strlen(name) + 1;
	struct location *location = malloc(sizeof(*location) + length);

	if (location == NULL)
		return NULL;
	*location = (struct location){ .folder = folder, .part = part, .size_bytes = size_bytes };
	memcpy(location->name, name, length);
	return location;
}

/* Takes over location. */
static int entry_add(struct catalog *catalog, const struct sz_id *id, struct location *location)
{
	struct catalog_entry *entry = entry_find(catalog, id);

	if (entry == NULL) {
		size_t at;

		if (catalog->entry_count >= catalog->bucket_count)
			buckets_grow(catalog);
		entry = calloc(1, sizeof(*entry));
		if (entry == NULL) {
			free(location);
			return -ENOMEM;
		}
		entry->id = *id;
		at = id_hash(id) & (catalog->bucket_count - 1);
		entry->next = catalog->buckets[at];
		catalog->buckets[at] = entry;
		catalog->entry_count++;
	}
	location->next = entry->locations;
	entry->locations = location;
	return 0;
}

int sz_catalog_init(struct catalog *catalog)
{
	(void)pthread_mutex_init(&catalog->lock, NULL);
	catalog->bucket_count = BUCKETS_AT_FIRST;
	catalog->buckets = calloc(BUCKETS_AT_FIRST, sizeof(struct catalog_entry *));
	return catalog->buckets == NULL ? -ENOMEM : 0;
}

void sz_locations_free(struct location **locations)
{
	struct location *location;

	while ((location = *locations) != NULL) {
		*locations = location->next;
		free(location);
	}
}

void sz_catalog_fini(struct catalog *catalog)
{
	for (size_t i = 0; catalog->buckets != NULL && i < catalog->bucket_count; i++) {
		struct catalog_entry *entry;

		while ((entry = catalog->buckets[i]) != NULL) {
			catalog->buckets[i] = entry->next;
			sz_locations_free(&entry->locations);
			free(entry);
		}
	}
	free(catalog->buckets);
	catalog->buckets = NULL;
	sz_locations_free(&catalog->strangers);
	(void)pthread_mutex_destroy(&catalog->lock);
}

struct listing {
	struct sz_store *store;
	uint32_t folder;
	enum sz_part part;
};

static int list_file(void *context, const char *name, uint64_t size_bytes)
{
	const struct listing *listing = context;
	struct sz_store *store = listing->store;
	struct location *location = location_make(name, listing->folder, listing->part, size_bytes);
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;
	struct sz_id id;

	if (location == NULL)
		return -ENOMEM;
	if (sz_name_decode(store->keys, name, &id) == 0 &&
	    sz_id_parse(&id, &kind, &device, &generation) == 0 && generation < GENERATION_LIKELY)
		return entry_add(&store->catalog, &id, location);
	location->next = store->catalog.strangers;
	store->catalog.strangers = location;
	return 0;
}

int sz_catalog_load(struct sz_store *store)
{
	MUTEX_SCOPE(&store->catalog.lock);

	for (uint32_t i = 0; i < store->folder_count; i++) {
		for (enum sz_part part = SZ_SEALED; part <= SZ_LIVE; part++) {
			struct listing listing = { store, i, part };
			int result = sz_backend_list(store->folders[i].backend, part, list_file,
						     &listing);

			if (result != 0 && result != -ENODEV)
				return result;
		}
	}
	return 0;
}

int sz_catalog_add(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		   enum sz_part part, uint64_t size_bytes)
{
	char name[SZ_OBJECT_NAME_BYTES];
	struct location *location;
	MUTEX_SCOPE(&store->catalog.lock);

	sz_name_encode(store->keys, id, name);
	location = location_make(name, folder, part, size_bytes);
	return location == NULL ? -ENOMEM : entry_add(&store->catalog, id, location);
}

void sz_catalog_sealed(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		       struct sz_file *file)
{
	uint64_t size_bytes = 0;
	uint64_t inode;
	int result = sz_file_stat(file, &size_bytes, &inode);
	MUTEX_SCOPE(&store->catalog.lock);
	struct catalog_entry *entry = entry_find(&store->catalog, id);

	if (entry == NULL)
		return;
	for (struct location *at = entry->locations; at != NULL; at = at->next) {
		if (at->folder != folder)
			continue;
		at->part = SZ_SEALED;
		at->size_bytes = result == 0 ? size_bytes : 0;
	}
}

/* Forgets an id that has no file any more. */
static void entry_remove(struct catalog *catalog, const struct sz_id *id)
{
	struct catalog_entry **at = &catalog->buckets[id_hash(id) & (catalog->bucket_count - 1)];
	struct catalog_entry *entry;

	while (memcmp(&(*at)->id, id, sizeof(*id)) != 0)
		at = &(*at)->next;
	entry = *at;
	*at = entry->next;
	free(entry);
	catalog->entry_count--;
}

void sz_catalog_drop(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		     enum sz_part part)
{
	MUTEX_SCOPE(&store->catalog.lock);
	struct catalog_entry *entry = entry_find(&store->catalog, id);

	if (entry == NULL)
		return;
	for (struct location **at = &entry->locations; *at != NULL;) {
		struct location *location = *at;

		if (location->folder == folder && location->part == part) {
			*at = location->next;
			free(location);
		} else {
			at = &location->next;
		}
	}
	if (entry->locations == NULL)
		entry_remove(&store->catalog, id);
}

struct location *sz_catalog_find(struct sz_store *store, const struct sz_id *id)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog_entry *entry = entry_find(&store->catalog, id);
	struct location *copies = NULL;

	for (const struct location *at = entry == NULL ? NULL : entry->locations; at != NULL;
	     at = at->next) {
		struct location *copy =
			location_make(at->name, at->folder, at->part, at->size_bytes);

		if (copy == NULL)
			break;
		copy->next = copies;
		copies = copy;
	}
	return copies;
}

bool sz_catalog_has(struct sz_store *store, const struct sz_id *id, uint64_t size_bytes)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog_entry *entry = entry_find(&store->catalog, id);

	for (const struct location *at = entry == NULL ? NULL : entry->locations; at != NULL;
	     at = at->next)
		if (size_bytes == 0 || at->size_bytes == size_bytes)
			return true;
	return false;
}

static uint64_t sealed_bytes(const struct catalog_entry *entry)
{
	uint64_t sum = 0;

	for (const struct location *at = entry->locations; at != NULL; at = at->next)
		sum += at->part == SZ_SEALED ? at->size_bytes : 0;
	return sum;
}

uint64_t sz_catalog_bytes(struct sz_store *store, const struct sz_id *id)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog_entry *entry = entry_find(&store->catalog, id);

	return entry == NULL ? 0 : sealed_bytes(entry);
}

uint64_t sz_catalog_total(struct sz_store *store)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog *catalog = &store->catalog;
	uint64_t sum = 0;

	for (size_t i = 0; i < catalog->bucket_count; i++)
		for (const struct catalog_entry *entry = catalog->buckets[i]; entry != NULL;
		     entry = entry->next)
			sum += sealed_bytes(entry);
	return sum;
}

int sz_catalog_live(struct sz_store *store, struct sz_bytes *ids)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog *catalog = &store->catalog;

	for (size_t i = 0; i < catalog->bucket_count; i++) {
		for (const struct catalog_entry *entry = catalog->buckets[i]; entry != NULL;
		     entry = entry->next) {
			enum sz_kind kind;
			uint32_t device;
			uint64_t generation;

			if (sz_id_parse(&entry->id, &kind, &device, &generation) != 0 ||
			    kind == SZ_KIND_SPARE)
				continue;
			for (const struct location *at = entry->locations; at != NULL;
			     at = at->next)
				if (at->part == SZ_LIVE &&
				    sz_bytes_append(ids, &entry->id, sizeof(entry->id)) != 0)
					return -ENOMEM;
		}
	}
	return 0;
}

/* The id in a file's header, if it is one of ours. */
static bool stranger_identify(const struct sz_store *store, const struct location *location,
			      struct sz_id *id_out)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	uint8_t page[SZ_PAGE_BYTES];
	size_t done;

	if (header == NULL ||
	    sz_backend_open(store->folders[location->folder].backend, location->part,
			    location->name, &file) != 0 ||
	    sz_read_retried(file, page, sizeof(page), 0, &done) != 0 || done < sizeof(page) ||
	    sz_header_decode(store->keys, page, header) != 0)
		return false;
	*id_out = header->id;
	return true;
}

bool sz_catalog_identify(struct sz_store *store, uint64_t longest_bytes)
{
	MUTEX_SCOPE(&store->catalog.lock);
	bool found = false;

	for (struct location **at = &store->catalog.strangers; *at != NULL;) {
		struct location *location = *at;
		struct sz_id id;

		if (location->size_bytes > longest_bytes) {
			at = &location->next;
			continue;
		}
		*at = location->next;
		if (location->size_bytes > SZ_PAGE_BYTES &&
		    stranger_identify(store, location, &id) &&
		    entry_add(&store->catalog, &id, location) == 0)
			found = true;
		else
			free(location);
	}
	return found;
}

int sz_catalog_ids(struct sz_store *store, enum sz_kind kind, struct sz_id **ids_out,
		   size_t *count_out)
{
	MUTEX_SCOPE(&store->catalog.lock);
	const struct catalog *catalog = &store->catalog;
	CLEANUP_BYTES struct sz_bytes ids = { 0 };

	for (size_t i = 0; i < catalog->bucket_count; i++) {
		for (const struct catalog_entry *entry = catalog->buckets[i]; entry != NULL;
		     entry = entry->next) {
			enum sz_kind its_kind;
			uint32_t device;
			uint64_t generation;

			if (entry->locations == NULL ||
			    sz_id_parse(&entry->id, &its_kind, &device, &generation) != 0 ||
			    its_kind != kind)
				continue;
			if (sz_bytes_append(&ids, &entry->id, sizeof(entry->id)) != 0)
				return -ENOMEM;
		}
	}
	*count_out = ids.length / sizeof(struct sz_id);
	*ids_out = (struct sz_id *)(void *)TAKE(ids.data);
	return 0;
}
