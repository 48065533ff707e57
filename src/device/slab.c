/*
 * slab: secret memory for the keys of open objects. A block is one guarded, locked allocation for
 * many keys; blocks are never given back before the end, so the slab is as large as it ever was.
 */
#include "device/device_internal.h"

#define KEYS_PER_BLOCK 128U

struct key_block {
	struct key_block *next;
	struct sz_object_keys *keys; /* KEYS_PER_BLOCK, in secret memory */
	bool is_taken[KEYS_PER_BLOCK];
};

void sz_key_slab_init(struct key_slab *slab)
{
	(void)pthread_mutex_init(&slab->lock, NULL);
	slab->blocks = NULL;
}

void sz_key_slab_fini(struct key_slab *slab)
{
	struct key_block *block;

	while ((block = slab->blocks) != NULL) {
		slab->blocks = block->next;
		sz_secret_free(block->keys);
		free(block);
	}
	(void)pthread_mutex_destroy(&slab->lock);
}

static struct key_block *block_make(void)
{
	struct key_block *block = calloc(1, sizeof(*block));

	if (block == NULL)
		return NULL;
	block->keys = sz_secret_alloc(KEYS_PER_BLOCK * sizeof(*block->keys));
	if (block->keys == NULL) {
		free(block);
		return NULL;
	}
	return block;
}

struct sz_object_keys *sz_key_slab_take(struct key_slab *slab)
{
	MUTEX_SCOPE(&slab->lock);
	struct key_block *block;

	for (block = slab->blocks; block != NULL; block = block->next) {
		for (size_t i = 0; i < KEYS_PER_BLOCK; i++) {
			if (!block->is_taken[i]) {
				block->is_taken[i] = true;
				return &block->keys[i];
			}
		}
	}
	block = block_make();
	if (block == NULL)
		return NULL;
	block->next = slab->blocks;
	slab->blocks = block;
	block->is_taken[0] = true;
	return &block->keys[0];
}

void sz_key_slab_give(struct key_slab *slab, struct sz_object_keys *keys)
{
	MUTEX_SCOPE(&slab->lock);

	if (keys == NULL)
		return;
	sz_wipe(keys, sizeof(*keys));
	for (struct key_block *block = slab->blocks; block != NULL; block = block->next)
		if (keys >= block->keys && keys < block->keys + KEYS_PER_BLOCK)
			block->is_taken[keys - block->keys] = false;
}
