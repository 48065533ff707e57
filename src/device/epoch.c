/*
 * epoch: one device's part of an epoch, its live files, and the beginning of its logs.
 *
 *   epoch     is                                          its logs
 *   next      not begun: a seal is about to begin it      are being made; no record, so they say nothing
 *   live      what writes go to                           made with it, of an opening's first by its first write
 *   sealing   ended; becomes the next generation          end with their last commit record
 *
 * All devices' logs are durable before a write goes to one of them: so a device without a log, beside others
 * that have one, has lost it.
 */
#include "device/device_internal.h"

#include <errno.h>

struct source *sz_source_make(struct sz_store *store, const struct sz_id *id,
			      enum source_state state)
{
	struct source *source = calloc(1, sizeof(*source));

	if (source == NULL)
		return NULL;
	atomic_init(&source->references, 1);
	source->store = store;
	source->id = *id;
	source->state = state;
	source->keys = sz_key_slab_take(&store->slab);
	if (source->keys == NULL) {
		free(source);
		return NULL;
	}
	return source;
}

struct source *sz_source_hold(struct source *source)
{
	(void)atomic_fetch_add(&source->references, 1);
	return source;
}

void sz_source_drop(struct source **source)
{
	struct source *held = TAKE(*source);

	if (held == NULL || atomic_fetch_sub(&held->references, 1) != 1)
		return;
	sz_file_close(held->file);
	sz_key_slab_give(&held->store->slab, held->keys);
	free(held);
}

struct epoch *sz_epoch_make(uint64_t number)
{
	struct epoch *epoch = calloc(1, sizeof(*epoch));

	if (epoch == NULL)
		return NULL;
	epoch->number = number;
	sz_overlay_init(&epoch->overlay);
	return epoch;
}

void sz_epoch_free(struct epoch **epoch)
{
	struct epoch *freed = TAKE(*epoch);

	if (freed == NULL)
		return;
	sz_overlay_fini(&freed->overlay);
	for (uint32_t i = 0; i < freed->source_count; i++)
		sz_source_drop(&freed->sources[i]);
	free(freed->sources);
	if (freed->hot != NULL)
		sz_hot_fini(freed->hot);
	free(freed->hot);
	free(freed);
}

int sz_epoch_add_source(struct epoch *epoch, struct source *source)
{
	if (epoch->source_count == SOURCES_MAX)
		return -EMFILE;
	if (epoch->source_count == epoch->source_capacity) {
		uint32_t capacity = epoch->source_capacity == 0 ? 16 : 2 * epoch->source_capacity;
		struct source **grown = realloc(epoch->sources, capacity * sizeof(struct source *));

		if (grown == NULL)
			return -ENOMEM;
		epoch->sources = grown;
		epoch->source_capacity = capacity;
	}
	source->number = epoch->source_count;
	epoch->sources[epoch->source_count++] = source;
	return 0;
}

/* Creates a device's log with its header page, durable but for its name. */
static int log_create(struct sz_device *device, struct epoch *epoch, struct sz_header *header)
{
	struct sz_store *store = device->store;
	struct sz_backend *backend = store->folders[device->folder].backend;
	CLEANUP(sz_source_drop) struct source *source = NULL;
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_log_head head = {
		.epoch = epoch->number,
		.base_generation = store->root.generation,
		.first_sequence = atomic_load(&store->sequence),
	};
	uint8_t page[SZ_PAGE_BYTES];
	uint64_t size;
	int result;

	sz_header_init(store, device, SZ_KIND_LOG, epoch->number, header);
	header->sector_count = device->sectors;
	source = sz_source_make(store, &header->id, SOURCE_LOG);
	if (source == NULL)
		return -ENOMEM;
	source->folder = device->folder;
	sz_name_encode(store->keys, &header->id, name);
	result = sz_backend_create(backend, SZ_LIVE, name, &source->file);
	if (result != 0)
		return result;
	memcpy(head.base, store->root_digest, sizeof(head.base));
	memcpy(head.machine, store->machine, sizeof(head.machine));
	memcpy(head.open_id, store->open_id, sizeof(head.open_id));
	result = sz_file_stat(source->file, &size, &head.inode);
	if (result == 0) {
		sz_log_head_encode(&head, header->body);
		sz_header_encode(store->keys, header, page);
		result = sz_file_write(source->file, page, sizeof(page), 0);
	}
	if (result == 0)
		result = sz_file_sync(source->file);
	if (result == 0)
		result = sz_catalog_add(store, &header->id, device->folder, SZ_LIVE, 0);
	if (result != 0) {
		(void)!sz_backend_remove(backend, SZ_LIVE, name);
		return result;
	}
	sz_object_keys_derive(store->keys, header, source->keys);
	sz_log_key_derive(store->keys, &header->id, source->keys->page);
	epoch->committed = head.first_sequence;
	epoch->log = (struct log_writer){ .source = source, .next_page = 1 };
	memcpy(epoch->log.previous, page + SZ_PAGE_BYTES - SZ_X_TAG_BYTES, SZ_X_TAG_BYTES);
	result = sz_epoch_add_source(epoch, source);
	if (result != 0) {
		epoch->log.source = NULL;
		return result;
	}
	source = NULL;
	return 0;
}

int sz_log_begin(struct sz_device *device, struct epoch *epoch)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	int result = header == NULL ? -ENOMEM : log_create(device, epoch, header);

	if (result != 0)
		return result;
	result = sz_backend_sync_folder(device->store->folders[device->folder].backend, SZ_LIVE);
	/* The log stays: if its name is not durable, its first commit has to see to that. */
	epoch->has_new_names = result != 0;
	return result;
}

int sz_epoch_begin(struct sz_store *store)
{
	MUTEX_SCOPE(&store->begin_lock);
	int result = 0;

	if (atomic_load(&store->has_begun))
		return 0;
	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		if (sz_device_check(&store->devices[i]) == 0 &&
		    store->devices[i].live->log.source == NULL)
			result = sz_log_begin(&store->devices[i], store->devices[i].live);
	if (result == 0) /* else those that were begun stay: the next write begins the rest */
		atomic_store(&store->has_begun, true);
	return result;
}

int sz_epoch_prepare(struct sz_store *store, bool with_logs)
{
	int result = 0;

	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];

		if (device->next == NULL)
			device->next = sz_epoch_make(store->epoch + 1);
		if (device->next == NULL)
			result = -ENOMEM;
		else if (with_logs && sz_device_check(device) == 0 &&
			 device->next->log.source == NULL)
			result = sz_log_begin(device, device->next);
	}
	return result; /* those that were made stay: the next seal makes the rest */
}

static void log_discard(struct sz_store *store, const struct epoch *epoch)
{
	if (epoch != NULL && epoch->log.source != NULL && !epoch->is_dirty)
		sz_object_remove(store, &epoch->log.source->id);
}

void sz_epoch_discard(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		log_discard(store, store->devices[i].live);
		log_discard(store, store->devices[i].next);
	}
}
