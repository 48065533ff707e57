/*
 * id_set: a set of object ids, a hash table with open addressing. Ids are never taken out of it.
 */
#include "device/device_internal.h"

#include <errno.h>

#define SLOTS_AT_FIRST 1024U

static size_t id_hash(const struct sz_id *id)
{
	/* The last eight bytes are random. */
	return (size_t)(sz_get_le64(id->bytes) ^ sz_get_le64(id->bytes + 8));
}

/* The slot of an id, or the free one where it would be. */
static struct sz_id *slot_find(const struct id_set *set, const struct sz_id *id)
{
	size_t at = id_hash(id) & (set->capacity - 1);

	while (!sz_id_is_none(&set->slots[at]) && memcmp(&set->slots[at], id, sizeof(*id)) != 0)
		at = (at + 1) & (set->capacity - 1);
	return &set->slots[at];
}

static int set_grow(struct id_set *set)
{
	struct id_set grown = { .capacity = set->capacity == 0 ? SLOTS_AT_FIRST : 2 * set->capacity,
				.count = set->count };

	grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
	if (grown.slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++)
		if (!sz_id_is_none(&set->slots[i]))
			*slot_find(&grown, &set->slots[i]) = set->slots[i];
	free(set->slots);
	*set = grown;
	return 0;
}

int sz_id_set_add(struct id_set *set, const struct sz_id *id)
{
	struct sz_id *slot;

	if (4 * (set->count + 1) > 3 * set->capacity && set_grow(set) != 0)
		return -ENOMEM;
	slot = slot_find(set, id);
	if (sz_id_is_none(slot)) {
		*slot = *id;
		set->count++;
	}
	return 0;
}

bool sz_id_set_has(const struct id_set *set, const struct sz_id *id)
{
	return set->count > 0 && !sz_id_is_none(slot_find(set, id));
}

void sz_id_set_free(struct id_set *set)
{
	free(set->slots);
	*set = (struct id_set){ 0 };
}
