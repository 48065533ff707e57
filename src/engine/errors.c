/*
 * errors: the pool's log of blocks that are damaged beyond repair, as files and objects. (libzpool's
 * spa_get_errlog does its work in the kernel alone.)
 *
 * The log is two objects in the pool's own object set (of the last scrub, and of the time since) and
 * two lists in memory of what has not been written yet. With the feature head_errlog an object
 * maps datasets to objects of their own, whose names are "object:level:block:birth" in hex; without
 * it, its names are "dataset:object:level:block". Entries stay until a scrub; those of blocks that were
 * freed or rewritten since are passed over here.
 */
#include "engine/engine_internal.h"

#include <errno.h>

struct entry {
	uint64_t dataset;
	uint64_t object;
};

struct entries {
	struct entry *list;
	size_t count;
	size_t room;
};

static int entries_add(struct entries *entries, uint64_t dataset, uint64_t object)
{
	if (entries->count == entries->room) {
		size_t room = entries->room == 0 ? 64 : 2 * entries->room;
		struct entry *list = realloc(entries->list, room * sizeof(*list));

		if (list == NULL)
			return -ENOMEM;
		entries->list = list;
		entries->room = room;
	}
	entries->list[entries->count++] = (struct entry){ .dataset = dataset, .object = object };
	return 0;
}

/* Whether the block that was damaged is gone from the dataset, and no snapshot can have it. */
static bool block_is_gone(spa_t *spa, uint64_t dataset, const zbookmark_err_phys_t *block)
{
	dsl_dataset_t *ds;
	objset_t *os;
	dnode_t *dnode;
	blkptr_t pointer = { 0 };
	bool gone = false;
	int result;

	if (block->zb_birth == 0 || dataset == DMU_META_OBJSET)
		return false;
	result = dsl_dataset_hold_obj(spa_get_dsl(spa), dataset, FTAG, &ds);
	if (result != 0)
		return result == ENOENT;
	if (dmu_objset_from_ds(ds, &os) == 0 &&
	    block->zb_birth > dsl_dataset_phys(ds)->ds_prev_snap_txg) {
		result = dnode_hold(os, block->zb_object, FTAG, &dnode);
		gone = result == ENOENT || result == EEXIST;
		if (result == 0) {
			rw_enter(&dnode->dn_struct_rwlock, RW_READER);
			result = dbuf_dnode_findbp(dnode, (uint64_t)block->zb_level,
						   block->zb_blkid, &pointer, NULL, NULL);
			rw_exit(&dnode->dn_struct_rwlock);
			dnode_rele(dnode, FTAG);
			gone = result == ENOENT ||
			       (result == 0 && BP_GET_LOGICAL_BIRTH(&pointer) != block->zb_birth);
		}
	}
	dsl_dataset_rele(ds, FTAG);
	return gone;
}

/* Hexadecimal numbers between colons, as many as wanted and no more. */
static bool numbers_parse(const char *name, uint64_t *numbers, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char *end;

		numbers[i] = strtoull(name, &end, 16);
		if (end == name || *end != (i + 1 < count ? ':' : '\0'))
			return false;
		name = end + 1;
	}
	return true;
}

/* One name of a log; dataset NULL: it is in the name. */
static int name_add(spa_t *spa, struct entries *entries, const uint64_t *dataset, const char *name)
{
	uint64_t numbers[4];
	zbookmark_err_phys_t block;

	if (!numbers_parse(name, numbers, 4))
		return 0;
	if (dataset == NULL)
		return entries_add(entries, numbers[0], numbers[1]);
	block = (zbookmark_err_phys_t){ .zb_object = numbers[0],
					.zb_level = (int64_t)numbers[1],
					.zb_blkid = numbers[2],
					.zb_birth = numbers[3] };
	return block_is_gone(spa, *dataset, &block) ? 0
						    : entries_add(entries, *dataset, numbers[0]);
}

static int names_add(spa_t *spa, struct entries *entries, const uint64_t *dataset, uint64_t log)
{
	zap_cursor_t cursor;
	zap_attribute_t *attribute = zap_attribute_alloc();
	int result = 0;

	for (zap_cursor_init(&cursor, spa->spa_meta_objset, log);
	     result == 0 && zap_cursor_retrieve(&cursor, attribute) == 0;
	     zap_cursor_advance(&cursor))
		result = name_add(spa, entries, dataset, attribute->za_name);
	zap_cursor_fini(&cursor);
	zap_attribute_free(attribute);
	return result;
}

static int log_add(spa_t *spa, struct entries *entries, uint64_t log)
{
	zap_cursor_t cursor;
	zap_attribute_t *attribute;
	int result = 0;

	if (log == 0)
		return 0;
	if (!spa_feature_is_enabled(spa, SPA_FEATURE_HEAD_ERRLOG))
		return names_add(spa, entries, NULL, log);
	attribute = zap_attribute_alloc();
	for (zap_cursor_init(&cursor, spa->spa_meta_objset, log);
	     result == 0 && zap_cursor_retrieve(&cursor, attribute) == 0;
	     zap_cursor_advance(&cursor)) {
		uint64_t dataset = 0;

		if (numbers_parse(attribute->za_name, &dataset, 1))
			result = names_add(spa, entries, &dataset, attribute->za_first_integer);
	}
	zap_cursor_fini(&cursor);
	zap_attribute_free(attribute);
	return result;
}

static int list_add(struct entries *entries, avl_tree_t *list)
{
	int result = 0;

	for (spa_error_entry_t *error = avl_first(list); result == 0 && error != NULL;
	     error = AVL_NEXT(list, error))
		result = entries_add(entries, error->se_bookmark.zb_objset,
				     error->se_bookmark.zb_object);
	return result;
}

/* The locks in ZFS's order; the lists' entries are new, so they are not looked up. */
static int entries_collect(spa_t *spa, struct entries *entries)
{
	int result;

	dsl_pool_config_enter(spa_get_dsl(spa), FTAG);
	mutex_enter(&spa->spa_errlog_lock);
	result = log_add(spa, entries, spa->spa_errlog_scrub);
	if (result == 0 && !spa->spa_scrub_finished)
		result = log_add(spa, entries, spa->spa_errlog_last);
	mutex_enter(&spa->spa_errlist_lock);
	if (result == 0)
		result = list_add(entries, &spa->spa_errlist_scrub);
	if (result == 0)
		result = list_add(entries, &spa->spa_errlist_last);
	mutex_exit(&spa->spa_errlist_lock);
	mutex_exit(&spa->spa_errlog_lock);
	dsl_pool_config_exit(spa_get_dsl(spa), FTAG);
	return result;
}

static int entry_compare(const void *left, const void *right)
{
	const struct entry *a = left;
	const struct entry *b = right;

	if (a->dataset != b->dataset)
		return a->dataset < b->dataset ? -1 : 1;
	return a->object < b->object ? -1 : a->object > b->object;
}

int sz_pool_data_error_each(struct sz_pool *pool, sz_data_error_fn *function, void *context)
{
	struct entries entries = { 0 };
	int result = entries_collect(pool->spa, &entries);

	if (entries.count > 1)
		qsort(entries.list, entries.count, sizeof(*entries.list), entry_compare);
	for (size_t i = 0; result == 0 && i < entries.count; i++)
		if (i == 0 || entry_compare(&entries.list[i - 1], &entries.list[i]) != 0)
			result = function(context, entries.list[i].dataset, entries.list[i].object);
	free(entries.list);
	return result;
}
