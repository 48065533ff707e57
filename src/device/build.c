/*
 * build: new sealed objects. They are written in live/ under the names that they will have; a batch
 * syncs all of them, renames them and syncs the folders, so that a seal waits for the disk a few
 * times and not once for each file.
 */
#include "device/device_internal.h"

#include <errno.h>

#define PAGES_AT_ONCE 64U

int sz_batch_create(struct batch *batch, uint32_t folder, const struct sz_id *id,
		    struct sz_file **file_out)
{
	struct sz_store *store = batch->store;
	struct sz_backend *backend = store->folders[folder].backend;
	struct pending *pending = calloc(1, sizeof(*pending));
	char name[SZ_OBJECT_NAME_BYTES];
	int result;

	if (pending == NULL)
		return -ENOMEM;
	sz_name_encode(store->keys, id, name);
	result = sz_backend_create(backend, SZ_LIVE, name, &pending->file);
	if (result == 0) {
		result = sz_catalog_add(store, id, folder, SZ_LIVE, 0);
		if (result != 0) {
			sz_file_close(pending->file);
			(void)!sz_backend_remove(backend, SZ_LIVE, name);
		}
	}
	if (result != 0) {
		free(pending);
		return result;
	}
	pending->id = *id;
	pending->folder = folder;
	pending->next = batch->first;
	batch->first = pending;
	*file_out = pending->file;
	return 0;
}

static int pending_rename(struct sz_store *store, struct pending *pending)
{
	char name[SZ_OBJECT_NAME_BYTES];
	int result;

	sz_name_encode(store->keys, &pending->id, name);
	result = sz_backend_rename(store->folders[pending->folder].backend, name, name);
	if (result == 0)
		sz_catalog_sealed(store, &pending->id, pending->folder, pending->file);
	return result;
}

int sz_batch_commit(struct batch *batch)
{
	bool is_used[FOLDERS_MAX] = { false };
	struct sz_store *store = batch->store;
	int result = 0;

	for (struct pending *at = batch->first; at != NULL; at = at->next)
		sz_file_sync_begin(at->file);
	for (struct pending *at = batch->first; at != NULL && result == 0; at = at->next)
		result = sz_file_sync(at->file);
	while (batch->first != NULL && result == 0) {
		struct pending *done = batch->first;

		result = pending_rename(store, done);
		if (result != 0)
			break;
		is_used[done->folder] = true;
		batch->first = done->next;
		sz_file_close(done->file);
		free(done);
	}
	for (uint32_t i = 0; i < store->folder_count && result == 0; i++)
		if (is_used[i])
			result = sz_backend_sync_folder(store->folders[i].backend, SZ_SEALED);
	return result;
}

void sz_batch_drop(struct batch *batch, const struct sz_file *file)
{
	struct pending **at = &batch->first;
	struct pending *pending;
	char name[SZ_OBJECT_NAME_BYTES];

	while ((*at)->file != file)
		at = &(*at)->next;
	pending = *at;
	*at = pending->next;
	sz_name_encode(batch->store->keys, &pending->id, name);
	sz_file_close(pending->file);
	(void)!sz_backend_remove(batch->store->folders[pending->folder].backend, SZ_LIVE, name);
	sz_catalog_drop(batch->store, &pending->id, pending->folder, SZ_LIVE);
	free(pending);
}

void sz_batch_join(struct batch *batch, struct batch *other)
{
	struct pending **end = &batch->first;

	while (*end != NULL)
		end = &(*end)->next;
	*end = TAKE(other->first);
}

void sz_batch_abandon(struct batch *batch)
{
	while (batch->first != NULL)
		sz_batch_drop(batch, batch->first->file);
}

void sz_header_init(const struct sz_store *store, const struct sz_device *device, enum sz_kind kind,
		    uint64_t generation, struct sz_header *header_out)
{
	uint64_t random;

	memset(header_out, 0, sizeof(*header_out));
	sz_random(&random, sizeof(random));
	sz_random(header_out->salt, sizeof(header_out->salt));
	sz_id_make(kind, device == NULL ? SZ_STORE_WIDE : device->index, generation, random,
		   &header_out->id);
	memcpy(header_out->store_id, store->keys->store_id, sizeof(header_out->store_id));
	if (device != NULL)
		memcpy(header_out->device_id, device->id, sizeof(header_out->device_id));
	header_out->kind = (uint16_t)kind;
	header_out->version = SZ_FORMAT_VERSION;
	header_out->key_epoch = store->keys->epoch;
	memcpy(header_out->lineage, store->lineage, sizeof(header_out->lineage));
}

int sz_blob_write(struct batch *batch, const struct sz_device *device, enum sz_kind kind,
		  uint64_t generation, const struct sz_bytes *payload, uint32_t copies,
		  struct sz_ref *ref_out)
{
	struct sz_store *store = batch->store;
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes file = { 0 };
	int result;

	if (header == NULL)
		return -ENOMEM;
	sz_header_init(store, device, kind, generation, header);
	ref_out->id = header->id;
	result = sz_blob_encode(store->keys, header, payload->data, payload->length, &file,
				ref_out->digest);
	if (copies > store->device_count)
		copies = store->device_count;
	for (uint32_t i = 0; i < copies && result == 0; i++) {
		const struct sz_device *at =
			&store->devices[(device->index + i) % store->device_count];
		struct sz_file *out;

		if (sz_device_check(at) != 0)
			continue;
		result = sz_batch_create(batch, at->folder, &header->id, &out);
		if (result == 0)
			result = sz_file_write(out, file.data, file.length, 0);
	}
	return result;
}

int sz_entries_add(struct entries *entries, const struct sz_index_entry *entry)
{
	if (entries->count == entries->capacity) {
		size_t capacity = entries->capacity == 0 ? 256 : 2 * entries->capacity;
		struct sz_index_entry *grown =
			realloc(entries->at, capacity * sizeof(struct sz_index_entry));

		if (grown == NULL)
			return -ENOMEM;
		entries->at = grown;
		entries->capacity = capacity;
	}
	entries->at[entries->count++] = *entry;
	return 0;
}

void sz_entries_free(struct entries *entries)
{
	free(entries->at);
	*entries = (struct entries){ 0 };
}

uint32_t sz_band_slots(uint32_t used, uint32_t band_sectors)
{
	return ROUND_UP(used, band_sectors / 8);
}

/* The payload of page number i; false: it is padding. */
static bool page_payload(const struct sz_header *header, const struct entries *entries,
			 uint32_t fences, uint32_t i, uint8_t payload[SZ_PAGE_PAYLOAD])
{
	if (i < header->leaf_count) {
		size_t first = (size_t)i * SZ_LEAF_ENTRIES;
		size_t left = entries->count - first;

		sz_leaf_encode(entries->at + first,
			       left < SZ_LEAF_ENTRIES ? (uint32_t)left : SZ_LEAF_ENTRIES, payload);
		return true;
	}
	if (i < header->leaf_count + fences) {
		uint32_t first = (i - header->leaf_count) * SZ_FENCE_KEYS;
		uint32_t left = header->leaf_count - first;
		uint32_t count = left < SZ_FENCE_KEYS ? left : SZ_FENCE_KEYS;
		uint64_t keys[SZ_FENCE_KEYS];

		for (uint32_t j = 0; j < count; j++)
			keys[j] = entries->at[(size_t)(first + j) * SZ_LEAF_ENTRIES].sector;
		sz_fence_encode(keys, count, payload);
		return true;
	}
	return false;
}

static int pages_write(struct sz_file *file, const struct sz_object_keys *object_keys,
		       struct sz_header *header, const struct entries *entries, uint32_t fences)
{
	CLEANUP_BYTES struct sz_bytes tags = { 0 };
	CLEANUP_FREE uint8_t *pages = malloc((size_t)PAGES_AT_ONCE * SZ_PAGE_BYTES);
	uint64_t offset = (1 + (uint64_t)header->data_slots) * SZ_PAGE_BYTES;
	int result = pages == NULL ? -ENOMEM : 0;

	for (uint32_t i = 0; i < header->page_count && result == 0;) {
		uint32_t some = 0;

		for (; some < PAGES_AT_ONCE && i < header->page_count; some++, i++) {
			uint8_t payload[SZ_PAGE_PAYLOAD];
			uint8_t *page = pages + (size_t)some * SZ_PAGE_BYTES;

			if (page_payload(header, entries, fences, i, payload))
				sz_page_seal(object_keys, i, payload, page);
			else
				sz_random_padding(page, SZ_PAGE_BYTES);
			if (sz_bytes_append(&tags, page + SZ_PAGE_BYTES - SZ_X_TAG_BYTES,
					    SZ_X_TAG_BYTES) != 0)
				return -ENOMEM;
		}
		result = sz_file_write(file, pages, (size_t)some * SZ_PAGE_BYTES, offset);
		offset += (uint64_t)some * SZ_PAGE_BYTES;
	}
	if (result == 0)
		sz_digest(tags.data, tags.length, header->pages_digest);
	return result;
}

static int padding_write(struct sz_file *file, uint32_t first_slot, uint32_t end_slot)
{
	CLEANUP_FREE uint8_t *padding = NULL;
	size_t length = (size_t)(end_slot - first_slot) * SZ_SECTOR_BYTES;

	if (length == 0)
		return 0;
	padding = malloc(length);
	if (padding == NULL)
		return -ENOMEM;
	sz_random_padding(padding, length);
	return sz_file_write(file, padding, length, (1 + (uint64_t)first_slot) * SECTOR);
}

int sz_object_finish(struct sz_file *file, const struct sz_keys *keys,
		     const struct sz_object_keys *object_keys, struct sz_header *header,
		     const struct entries *entries, uint32_t slots_used,
		     uint8_t digest_out[SZ_DIGEST_BYTES])
{
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t trailer[SZ_TRAILER_BYTES];
	uint32_t leaves = (uint32_t)DIV_ROUND_UP(entries->count, SZ_LEAF_ENTRIES);
	uint32_t fences = leaves <= SZ_TOP_KEYS ? 0 : DIV_ROUND_UP(leaves, SZ_FENCE_KEYS);
	uint32_t step = fences == 0 ? 1 : SZ_FENCE_KEYS; /* leaves that a top key stands for */
	int result;

	if (fences > SZ_TOP_KEYS)
		return -EFBIG;
	header->entry_count = entries->count;
	header->leaf_count = leaves;
	header->top_count = fences == 0 ? leaves : fences;
	for (uint32_t i = 0; i < header->top_count; i++)
		sz_put_le64(header->body + (size_t)i * 8,
			    entries->at[(size_t)i * step * SZ_LEAF_ENTRIES].sector);
	header->page_count = header->kind == SZ_KIND_BAND
				     ? DIV_ROUND_UP(header->data_slots, SZ_LEAF_ENTRIES)
				     : (uint32_t)sz_pad_count((uint64_t)leaves + fences);
	header->file_bytes =
		(1 + (uint64_t)header->data_slots + header->page_count) * SZ_PAGE_BYTES +
		SZ_TRAILER_BYTES;
	result = padding_write(file, slots_used, header->data_slots);
	if (result == 0)
		result = pages_write(file, object_keys, header, entries, fences);
	if (result != 0)
		return result;
	sz_header_encode(keys, header, page);
	sz_header_digest(page, digest_out);
	sz_trailer_seal(object_keys, page, trailer);
	result = sz_file_write(file, trailer, sizeof(trailer),
			       header->file_bytes - SZ_TRAILER_BYTES);
	return result != 0 ? result : sz_file_write(file, page, sizeof(page), 0);
}

int sz_builder_init(struct builder *builder, struct batch *batch, const struct sz_device *device,
		    enum sz_kind kind, uint64_t generation, uint32_t band)
{
	struct sz_store *store = batch->store;

	*builder = (struct builder){ .batch = batch };
	sz_header_init(store, device, kind, generation, &builder->header);
	builder->header.sector_count = device->sectors;
	if (kind == SZ_KIND_BAND) {
		builder->header.base_sector = sz_band_base(device, band);
		builder->header.sector_count = sz_band_length(device, band);
	}
	builder->keys = sz_key_slab_take(&store->slab);
	builder->plaintext = malloc(IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	builder->ciphertext = malloc(IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	if (builder->keys == NULL || builder->plaintext == NULL || builder->ciphertext == NULL)
		return -ENOMEM;
	sz_object_keys_derive(store->keys, &builder->header, builder->keys);
	return sz_batch_create(batch, device->folder, &builder->header.id, &builder->file);
}

/* What comes is often a sector at a time: it is gathered. */
static int gathered_write(struct builder *builder)
{
	uint32_t count = builder->gathered;

	builder->gathered = 0;
	return count == 0 ? 0
			  : sz_file_write(builder->file, builder->ciphertext,
					  count * (size_t)SZ_SECTOR_BYTES,
					  (1 + (uint64_t)builder->slots - count) * SECTOR);
}

static int builder_add(struct builder *builder, uint64_t sector, uint32_t count,
		       const uint8_t *plaintext)
{
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	int result = 0;

	if (builder->slots > SZ_OBJECT_SLOTS_MAX - count)
		return -EFBIG;
	if (builder->gathered + count > IO_SECTORS)
		result = gathered_write(builder);
	if (result == 0)
		result = sz_sectors_seal(builder->keys->sector, sector, count, plaintext,
					 builder->ciphertext + builder->gathered * SECTOR,
					 nonce_tags);
	for (uint32_t i = 0; i < count && result == 0; i++) {
		struct sz_index_entry entry = {
			.sector = sector + i,
			.state = SZ_SECTOR_DATA,
			.slot_or_count = builder->slots + i,
		};

		memcpy(entry.nonce_tag, nonce_tags + (size_t)i * SZ_NONCE_TAG_BYTES,
		       SZ_NONCE_TAG_BYTES);
		result = sz_entries_add(&builder->entries, &entry);
	}
	builder->slots += count;
	builder->gathered += count;
	return result;
}

int sz_builder_add_run(struct builder *builder, uint64_t sector, uint64_t count,
		       enum sz_sector_state state)
{
	int result = 0;

	while (count > 0 && result == 0) {
		uint32_t some = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
		struct sz_index_entry entry = { .sector = sector,
						.state = (uint8_t)state,
						.slot_or_count = some };

		result = sz_entries_add(&builder->entries, &entry);
		sector += some;
		count -= some;
	}
	return result;
}

int sz_builder_add_partly(struct builder *builder, uint64_t sector, uint32_t count,
			  const uint8_t *plaintext, const uint8_t *damaged)
{
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0;) {
		bool is_lost = bit_is_set(damaged, i);
		uint32_t run = 1;

		while (i + run < count && bit_is_set(damaged, i + run) == is_lost)
			run++;
		result = is_lost ? sz_builder_add_run(builder, sector + i, run, SZ_SECTOR_POISON)
				 : builder_add(builder, sector + i, run, plaintext + i * SECTOR);
		i += run;
	}
	return result;
}

int sz_builder_end(struct builder *builder, struct sz_ref *ref_out)
{
	struct sz_header *header = &builder->header;
	int result = gathered_write(builder);

	if (result != 0)
		return result;
	header->data_slots =
		header->kind == SZ_KIND_BAND
			? sz_band_slots(builder->slots, builder->batch->store->band_sectors)
			: (uint32_t)sz_pad_count(builder->slots);
	ref_out->id = header->id;
	return sz_object_finish(builder->file, builder->batch->store->keys, builder->keys, header,
				&builder->entries, builder->slots, ref_out->digest);
}

/* What the entries cover. */
static int runs_make(const struct entries *entries, struct sz_manifest_delta *delta)
{
	struct sz_run *runs = calloc(entries->count, sizeof(*runs));

	if (runs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < entries->count; i++) {
		const struct sz_index_entry *entry = &entries->at[i];
		uint64_t count = entry->state == SZ_SECTOR_DATA ? 1 : entry->slot_or_count;
		struct sz_run *last = delta->run_count == 0 ? NULL : &runs[delta->run_count - 1];

		delta->sector_count += count;
		if (last != NULL && last->sector + last->count == entry->sector)
			last->count += count;
		else
			runs[delta->run_count++] = (struct sz_run){ entry->sector, count };
	}
	delta->runs = runs;
	return 0;
}

int sz_builder_end_delta(struct builder *builder, uint64_t generation,
			 struct sz_manifest_delta *info)
{
	int result = sz_builder_end(builder, &info->delta);

	info->generation = generation;
	info->stored_bytes = builder->header.file_bytes;
	return result != 0 ? result : runs_make(&builder->entries, info);
}

void sz_builder_fini(struct builder *builder)
{
	if (builder->batch == NULL)
		return;
	sz_entries_free(&builder->entries);
	sz_key_slab_give(&builder->batch->store->slab, builder->keys);
	if (builder->plaintext != NULL)
		sz_wipe(builder->plaintext, IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	free(builder->plaintext);
	free(builder->ciphertext);
	*builder = (struct builder){ 0 };
}
