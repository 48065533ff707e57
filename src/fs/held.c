/*
 * held: inodes that somebody outside refers to by number, with how often: those that the kernel knows of,
 * in a mount. There can be many more than are open, so an entry is small: a hash table with linear
 * probing, at most two thirds full. Under fs.table_lock.
 */
#include "fs/fs_internal.h"

#define SLOTS_MIN 64U

static size_t slot_of(const struct held_table *table, uint64_t object)
{
	return (size_t)((object * 0x9e3779b97f4a7c15U) >> 32) & (table->slots - 1);
}

/* The object's slot, or the empty one where it would be. */
static struct held *slot_find(const struct held_table *table, uint64_t object)
{
	size_t at = slot_of(table, object);

	while (table->entries[at].object != 0 && table->entries[at].object != object)
		at = (at + 1) & (table->slots - 1);
	return &table->entries[at];
}

struct held *held_find(const struct held_table *table, uint64_t object)
{
	struct held *held = table->slots == 0 ? NULL : slot_find(table, object);

	return held == NULL || held->object == 0 ? NULL : held;
}

static bool table_resize(struct held_table *table, size_t slots)
{
	struct held_table resized = { .entries = calloc(slots, sizeof(*resized.entries)),
				      .slots = slots,
				      .count = table->count };

	if (resized.entries == NULL)
		return false;
	for (size_t i = 0; i < table->slots; i++)
		if (table->entries[i].object != 0)
			*slot_find(&resized, table->entries[i].object) = table->entries[i];
	free(table->entries);
	*table = resized;
	return true;
}

struct held *held_add(struct held_table *table, uint64_t object)
{
	struct held *held;

	if (3 * (table->count + 1) > 2 * table->slots &&
	    !table_resize(table, table->slots == 0 ? SLOTS_MIN : 2 * table->slots))
		return NULL;
	held = slot_find(table, object);
	if (held->object == 0) {
		*held = (struct held){ .object = object };
		table->count++;
	}
	return held;
}

/* The entries behind the gap are moved up, so that each is found from its own slot on. */
void held_remove(struct held_table *table, struct held *held)
{
	size_t gap = (size_t)(held - table->entries);

	for (size_t at = gap;;) {
		size_t home;

		at = (at + 1) & (table->slots - 1);
		if (table->entries[at].object == 0)
			break;
		home = slot_of(table, table->entries[at].object);
		/* It may move only if its home is not between the gap and itself. */
		if (((at - home) & (table->slots - 1)) < ((at - gap) & (table->slots - 1)))
			continue;
		table->entries[gap] = table->entries[at];
		gap = at;
	}
	table->entries[gap] = (struct held){ 0 };
	table->count--;
	if (table->slots > SLOTS_MIN && 8 * table->count < table->slots)
		(void)table_resize(table, table->slots / 2);
}

void held_fini(struct held_table *table)
{
	free(table->entries);
	*table = (struct held_table){ 0 };
}
