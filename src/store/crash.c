/*
 * Cuts the power of a memory backend: makes an exact copy, and lets chance decide about each change
 * in it that was not durable. What may come of that is listed at the top of memory.c.
 *
 * Chance is drawn for inodes in the order of their creation and for changes in the order of their
 * making, never in the order of a hash table: names are random in real stores, and the same history
 * has to give the same cut.
 */
#include "store/memory_internal.h"

#include <assert.h>
#include <errno.h>

#define UNIT_BYTES 512 /* what a disk writes in one piece */

static int inodes_copy(struct memory *to, struct memory *from)
{
	for (struct inode *inode = from->inodes; inode != NULL; inode = inode->next) {
		struct inode *copy = sz_inode_make(to, inode->number);
		int rc;

		if (copy == NULL)
			return -ENOMEM;
		inode->copy = copy;
		rc = sz_content_share(&copy->now, &inode->now, inode->now.size_bytes, 0);
		if (rc == 0)
			rc = sz_content_share(&copy->durable, &inode->durable,
					      inode->durable.size_bytes, 0);
		to->used_blocks += copy->now.used_count;
		for (const struct pending_write *write = inode->writes; write != NULL && rc == 0;
		     write = write->next)
			rc = sz_inode_write_append(copy, write->data, write->length, write->offset);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static struct inode *copy_of(struct inode *inode)
{
	return inode == NULL ? NULL : inode->copy;
}

static int names_copy(struct memory *to, const struct memory *from)
{
	for (size_t i = 0; i < from->bucket_count; i++) {
		for (const struct name *name = from->buckets[i]; name != NULL; name = name->next) {
			struct name *copy = sz_name_get(to, name->part, name->text);

			if (copy == NULL)
				return -ENOMEM;
			sz_inode_slot_set(to, &copy->now, copy_of(name->now));
			sz_inode_slot_set(to, &copy->durable, copy_of(name->durable));
		}
	}
	return 0;
}

/* In the order of the parts: the halves of a rename that are additions come first. */
static int changes_copy(struct memory *to, struct memory *from)
{
	for (unsigned int part = 0; part < PART_COUNT; part++) {
		for (struct change *change = from->changes[part].first; change != NULL;
		     change = change->next) {
			struct name *name =
				sz_name_find(to, change->name->part, change->name->text);

			assert(name != NULL);
			change->copy = malloc(sizeof(*change->copy));
			if (change->copy == NULL)
				return -ENOMEM;
			(void)sz_change_append(to, change->copy, name, copy_of(change->inode));
			if (part == SZ_LIVE && change->other != NULL) {
				change->copy->other = change->other->copy;
				change->copy->other->other = change->copy;
			}
		}
	}
	return 0;
}

static int memory_copy(struct memory *from, struct memory **copy_out)
{
	CLEANUP(cleanup_memory) struct memory *copy = sz_memory_make(from->label);
	int rc;

	if (copy == NULL)
		return -ENOMEM;
	copy->total_bytes = from->total_bytes;
	copy->overwrites = from->overwrites;
	rc = inodes_copy(copy, from);
	if (rc == 0)
		rc = names_copy(copy, from);
	if (rc == 0)
		rc = changes_copy(copy, from);
	if (rc != 0)
		return rc;
	*copy_out = TAKE(copy);
	return 0;
}

/* SplitMix64 (Steele, Lea, Flood, 2014), and how often a change survives. */
struct chance {
	uint64_t state;
	uint32_t eighths;
};

static uint64_t chance_next(struct chance *chance)
{
	uint64_t z = chance->state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

static bool chance_keeps(struct chance *chance)
{
	return chance_next(chance) % 8 < chance->eighths;
}

/* Writes a choice of a write's units: a beginning, or any. */
static int write_tear(struct sz_content *to, const struct pending_write *write,
		      struct chance *chance)
{
	uint64_t first_unit = write->offset / UNIT_BYTES;
	uint64_t end = write->offset + write->length;
	uint64_t unit_count = DIV_ROUND_UP(end, UNIT_BYTES) - first_unit;
	bool is_beginning = chance_next(chance) % 2 == 0;
	uint64_t kept_count = chance_next(chance) % unit_count;
	bool overwrote;
	int rc = 0;

	if (chance_next(chance) % 4 == 0)
		rc = sz_content_extend(to, end);
	for (uint64_t unit = 0; unit < unit_count && rc == 0; unit++) {
		uint64_t start = (first_unit + unit) * UNIT_BYTES;
		uint64_t stop = start + UNIT_BYTES < end ? start + UNIT_BYTES : end;

		if (start < write->offset)
			start = write->offset;
		if (is_beginning ? unit < kept_count : chance_next(chance) % 2 == 0)
			rc = sz_content_write(to, write->data + (start - write->offset),
					      (size_t)(stop - start), start, &overwrote);
	}
	return rc;
}

static int inode_settle(struct memory *memory, struct inode *inode, enum sz_crash crash,
			struct chance *chance)
{
	struct sz_content *durable = &inode->durable;
	bool overwrote;
	int rc = 0;

	for (const struct pending_write *write = inode->writes;
	     write != NULL && rc == 0 && crash != SZ_CRASH_DROP; write = write->next) {
		if (crash == SZ_CRASH_TORN && chance_next(chance) % 4 == 0)
			rc = write_tear(durable, write, chance);
		else if (chance_keeps(chance))
			rc = sz_content_write(durable, write->data, write->length, write->offset,
					      &overwrote);
	}
	sz_inode_writes_free(inode);
	memory->used_blocks -= inode->now.used_count;
	sz_content_free(&inode->now);
	if (rc == 0)
		rc = sz_content_share(&inode->now, durable, durable->size_bytes, 0);
	memory->used_blocks += inode->now.used_count;
	return rc;
}

static void names_settle(struct memory *memory, enum sz_crash crash, struct chance *chance)
{
	for (unsigned int part = 0; part < PART_COUNT; part++) {
		for (struct change *change = memory->changes[part].first; change != NULL;
		     change = change->next) {
			change->is_kept = crash != SZ_CRASH_DROP && chance_keeps(chance);
			if (part == SZ_LIVE && change->other != NULL && !change->other->is_kept)
				change->is_kept = false;
			if (change->is_kept)
				sz_inode_slot_set(memory, &change->name->durable, change->inode);
		}
	}
	for (size_t i = 0; i < memory->bucket_count; i++) {
		for (struct name *name = memory->buckets[i]; name != NULL; name = name->next)
			sz_inode_slot_set(memory, &name->now, name->durable);
	}
	for (unsigned int part = 0; part < PART_COUNT; part++) {
		while (memory->changes[part].first != NULL)
			sz_change_drop_first(memory, (enum sz_part)part);
	}
}

/* Inodes that only open files of the crashed process referred to. */
static void inodes_purge(struct memory *memory)
{
	struct inode *next;

	for (struct inode *inode = memory->inodes; inode != NULL; inode = next) {
		next = inode->next;
		if (inode->references == 0)
			sz_inode_free(memory, inode);
	}
}

int sz_memory_crash(struct sz_backend *backend, enum sz_crash crash, uint64_t seed,
		    struct sz_backend **backend_out)
{
	static const uint32_t eighths[] = { 1, 2, 4, 4, 6, 7 };
	struct memory *memory = sz_memory_of(backend);
	CLEANUP(cleanup_memory) struct memory *copy = NULL;
	struct chance chance = { .state = seed };
	int rc;

	*backend_out = NULL;
	chance.eighths = eighths[chance_next(&chance) % ARRAY_LENGTH(eighths)];
	{
		LOCKED(memory);
		rc = memory_copy(memory, &copy);
	}
	if (rc == 0 && crash != SZ_CRASH_CLEAN) {
		for (struct inode *inode = copy->inodes; inode != NULL && rc == 0;
		     inode = inode->next)
			rc = inode_settle(copy, inode, crash, &chance);
		names_settle(copy, crash, &chance);
	}
	if (rc != 0)
		return rc;
	inodes_purge(copy);
	*backend_out = &TAKE(copy)->backend;
	return 0;
}
