/*
 * store: what an open store is made of, its closing, and what it says of itself.
 */
#include "device/device_internal.h"

#include <assert.h>
#include <errno.h>

struct sz_store *sz_store_make(void)
{
	struct sz_store *store = calloc(1, sizeof(*store));

	if (store == NULL || sz_crypto_init(NULL) != 0) {
		free(store);
		return NULL;
	}
	sz_key_slab_init(&store->slab);
	sz_cache_init(&store->cache);
	(void)pthread_mutex_init(&store->seal_lock, NULL);
	(void)pthread_mutex_init(&store->begin_lock, NULL);
	(void)pthread_mutex_init(&store->damage_lock, NULL);
	sz_readers_init(&store->readers);
	store->lock_fd = -1;
	store->key = sz_secret_alloc(sizeof(*store->key));
	if (store->key == NULL || sz_catalog_init(&store->catalog) != 0) {
		sz_store_free(store);
		return NULL;
	}
	store->keys = &store->key->keys;
	sz_random(store->open_id, sizeof(store->open_id));
	sz_random(store->lineage, sizeof(store->lineage));
	return store;
}

int sz_devices_make(struct sz_store *store, uint32_t count)
{
	pthread_rwlockattr_t writers_first;

	store->devices = calloc(count, sizeof(*store->devices));
	if (store->devices == NULL)
		return -ENOMEM;
	store->device_count = count;
	/* Else a writer would wait for as long as there are readers. No thread takes it twice. */
	(void)pthread_rwlockattr_init(&writers_first);
	(void)pthread_rwlockattr_setkind_np(&writers_first,
					    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (uint32_t i = 0; i < count; i++) {
		struct sz_device *device = &store->devices[i];

		device->store = store;
		device->index = i;
		device->folder = NO_DEVICE;
		(void)pthread_mutex_init(&device->flush_lock, NULL);
		(void)pthread_mutex_init(&device->log_lock, NULL);
		(void)pthread_cond_init(&device->band_idle, NULL);
		(void)pthread_rwlock_init(&device->map_lock, &writers_first);
		(void)pthread_rwlock_init(&device->parts_lock, &writers_first);
	}
	(void)pthread_rwlockattr_destroy(&writers_first);
	return 0;
}

int sz_device_init_maps(struct sz_device *device)
{
	uint64_t bands = DIV_ROUND_UP(device->sectors, (uint64_t)device->store->band_sectors);

	device->shard_count = (uint32_t)DIV_ROUND_UP(bands, SZ_SHARD_BANDS);
	device->shards = calloc(device->shard_count, sizeof(struct shard *));
	device->live = sz_epoch_make(device->store->epoch);
	if (device->shards == NULL || device->live == NULL)
		return -ENOMEM;
	return sz_hot_init(&device->hot);
}

void sz_device_reset_maps(struct sz_device *device)
{
	for (uint32_t i = 0; device->shards != NULL && i < device->shard_count; i++)
		free(device->shards[i]);
	free(device->shards);
	device->shards = NULL;
	device->shard_count = 0;
	for (uint32_t i = 0; i < device->delta_count; i++)
		sz_delta_free(&device->deltas[i]);
	free(device->deltas);
	device->deltas = NULL;
	device->delta_count = 0;
	sz_hot_fini(&device->hot);
	device->hot_ref = (struct sz_ref){ 0 };
	sz_epoch_free(&device->live);
	sz_epoch_free(&device->sealing);
	sz_epoch_free(&device->next);
}

void sz_store_free(struct sz_store *store)
{
	if (store == NULL)
		return;
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];

		sz_device_reset_maps(device);
		(void)pthread_mutex_destroy(&device->flush_lock);
		(void)pthread_mutex_destroy(&device->log_lock);
		(void)pthread_cond_destroy(&device->band_idle);
		(void)pthread_rwlock_destroy(&device->map_lock);
		(void)pthread_rwlock_destroy(&device->parts_lock);
	}
	free(store->devices);
	sz_cache_fini(store);
	sz_catalog_fini(&store->catalog);
	for (uint32_t i = 0; i < store->held_count; i++)
		sz_file_close(store->held[i]);
	for (uint32_t i = 0; i < store->folder_count; i++)
		sz_backend_close(store->folders[i].backend);
	sz_lock_release(store);
	sz_root_free(&store->root);
	sz_history_free(&store->history);
	sz_refs_fini(&store->collector.refs);
	sz_id_set_free(&store->collector.spared);
	for (size_t i = 0; i < store->absent_count; i++)
		free(store->absent[i]);
	free(store->absent);
	free(store->damages);
	free(store->path);
	free(store->state_folder);
	sz_key_slab_fini(&store->slab);
	if (store->key != NULL)
		sz_secret_free(store->key);
	(void)pthread_mutex_destroy(&store->seal_lock);
	(void)pthread_mutex_destroy(&store->begin_lock);
	(void)pthread_mutex_destroy(&store->damage_lock);
	sz_readers_fini(&store->readers);
	free(store);
}

int sz_store_close(struct sz_store *store, struct sz_error *error)
{
	int result = writes_folders(store) ? sz_seal_freeing(store, SEAL_LAST, error) : 0;

	if (result == 0 && writes_folders(store))
		sz_epoch_discard(store);
	sz_store_free(store);
	return result;
}

void sz_store_abandon(struct sz_store *store)
{
	sz_store_free(store);
}

struct sizes {
	const struct sz_store *store;
	uint64_t bytes;
	uint64_t files;
};

static int size_add(void *context, const char *name, uint64_t size_bytes)
{
	struct sizes *sizes = context;
	enum sz_kind kind;
	uint32_t device;
	uint64_t part;
	struct sz_id id;

	if (sz_name_decode(sizes->store->keys, name, &id) == 0 &&
	    sz_id_parse(&id, &kind, &device, &part) == 0 && kind == SZ_KIND_SPARE)
		return 0;
	sizes->bytes += size_bytes;
	sizes->files++;
	return 0;
}

void sz_store_info(struct sz_store *store, struct sz_store_info *info_out)
{
	struct sizes sizes = { .store = store };
	MUTEX_SCOPE(&store->seal_lock);

	*info_out = (struct sz_store_info){
		.device_count = store->device_count,
		.parity = store->parity,
		.band_sectors = store->band_sectors,
		.format_version = store->root.format_version,
		.generation = store->root.generation,
		.sealed_wall_ns = store->root.wall_time_ns,
		.sealed_store_ns = store->root.store_time_ns,
		.host_free_bytes = UINT64_MAX,
		.compacted_bytes = store->compacted_bytes,
		.seal_pause_ns = store->pause_ns,
		.recovered = store->recovered,
	};
	memcpy(info_out->store_id, store->keys->store_id, sizeof(info_out->store_id));
	sz_root_code(store->root.generation, store->root_digest, info_out->code);
	memcpy(info_out->recovery_text, store->recovery_text, sizeof(info_out->recovery_text));
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		struct sz_backend *backend;
		struct sz_space space;
		uint64_t stored;
		uint64_t dead;

		sz_dead_sectors(device, &stored, &dead);
		info_out->data_bytes += stored * SECTOR;
		info_out->dead_bytes += dead * SECTOR;
		if (device->delta_count > info_out->delta_count)
			info_out->delta_count = device->delta_count;
		info_out->virtual_bytes += device->sectors * SECTOR;
		if (device->folder == NO_DEVICE)
			continue;
		backend = store->folders[device->folder].backend;
		(void)!sz_backend_list(backend, SZ_SEALED, size_add, &sizes);
		(void)!sz_backend_list(backend, SZ_LIVE, size_add, &sizes);
		if (sz_backend_space(backend, &space) == 0 &&
		    space.free_bytes < info_out->host_free_bytes)
			info_out->host_free_bytes = space.free_bytes;
	}
	if (info_out->host_free_bytes == UINT64_MAX)
		info_out->host_free_bytes = 0;
	info_out->stored_bytes = sizes.bytes;
	info_out->object_count = sizes.files;
}

void sz_store_opening(const struct sz_store *store, struct sz_opening *opening_out)
{
	*opening_out = (struct sz_opening){
		.is_notable = store->choice.is_notable,
		.chosen = store->choice.text,
		.aside = store->choice.aside,
	};
}

struct sz_device *sz_store_device(struct sz_store *store, uint32_t index)
{
	assert(index < store->device_count);
	return &store->devices[index];
}

uint32_t sz_store_device_count(const struct sz_store *store)
{
	return store->device_count;
}

bool sz_store_is_read_only(const struct sz_store *store)
{
	return store->read_only;
}

bool sz_store_is_volatile(const struct sz_store *store)
{
	return store->is_volatile;
}

enum sz_device_state sz_device_state(const struct sz_device *device)
{
	if (device->folder == NO_DEVICE)
		return SZ_DEVICE_MISSING;
	return atomic_load(&device->failure) != 0 ? SZ_DEVICE_FAILED : SZ_DEVICE_ONLINE;
}

uint64_t sz_device_sectors(const struct sz_device *device)
{
	return device->sectors;
}

const char *sz_device_folder(const struct sz_device *device)
{
	return device->folder == NO_DEVICE ? ""
					   : device->store->folders[device->folder].backend->label;
}

uint64_t sz_device_damaged_sectors(const struct sz_device *device)
{
	return atomic_load(&device->damaged_sectors);
}
