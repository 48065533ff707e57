/*
 * snapshot: ZFS's snapshots of a dataset: taking, listing, destroying them, and going back to one.
 * Each is one synced change of the pool, that is there wholly or not at all.
 */
#include "engine/engine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <zfs_namecheck.h>

#define SNAPSHOTS_STEP 64U /* by so many the list grows */

static char snapshot_tag[] = "snapshot";

int sz_dataset_name(const char *dataset, const char *snapshot, char name[SZ_DATASET_NAME_BYTES])
{
	size_t length = strlen(SZ_POOL_NAME) + (dataset == NULL ? 0 : 1 + strlen(dataset)) +
			(snapshot == NULL ? 0 : 1 + strlen(snapshot));
	char *end;

	if (length >= SZ_DATASET_NAME_BYTES)
		return -ENAMETOOLONG;
	end = stpcpy(name, SZ_POOL_NAME); /* NOLINT: checked, and so are the others */
	if (dataset != NULL)
		end = stpcpy(stpcpy(end, "/"), dataset); /* NOLINT */
	if (snapshot != NULL)
		(void)stpcpy(stpcpy(end, "@"), snapshot); /* NOLINT */
	return 0;
}

/* The full name; every character of the snapshot's is one that ZFS allows. */
static int name_make(const char *dataset, const char *snapshot, char name[SZ_DATASET_NAME_BYTES],
		     struct sz_error *error)
{
	namecheck_err_t why;
	char what;

	if (zfs_component_namecheck(snapshot, &why, &what) != 0 ||
	    sz_dataset_name(dataset, snapshot, name) != 0)
		return sz_fail(error, -EINVAL,
			       "'%s' cannot be a snapshot's name: letters, digits, space, and "
			       "-_.: are allowed, %u characters with the dataset's name",
			       snapshot, SZ_DATASET_NAME_BYTES - 1);
	return 0;
}

/* For what changes the pool: the names of the snapshot and of its dataset. */
static int change_begin(struct sz_pool *pool, const char *dataset, const char *snapshot,
			char name[SZ_DATASET_NAME_BYTES], char parent[SZ_DATASET_NAME_BYTES],
			struct sz_error *error)
{
	int result = name_make(dataset, snapshot, name, error);

	if (result == 0 && pool->read_only)
		result = sz_fail(error, -EROFS, "the pool is open for reading only");
	return result == 0 ? sz_dataset_name(dataset, NULL, parent) : result;
}

static int snapshot_fail(struct sz_error *error, int zfs_error, const char *verb, const char *name)
{
	const char *why = strerror(zfs_error);

	if (zfs_error == ENOENT || zfs_error == ESRCH)
		why = "there is none of that name";
	else if (zfs_error == EBUSY)
		why = "it is in use";
	return sz_fail(error, zfs_error == ESRCH ? -ENOENT : -zfs_error, "cannot %s %s: %s", verb,
		       name, why);
}

int sz_pool_snapshot(struct sz_pool *pool, const char *dataset, const char *snapshot,
		     struct sz_error *error)
{
	char name[SZ_DATASET_NAME_BYTES];
	char parent[SZ_DATASET_NAME_BYTES];
	int result = change_begin(pool, dataset, snapshot, name, parent, error);

	if (result != 0)
		return result;
	result = dmu_objset_snapshot_one(parent, snapshot);
	if (result == EEXIST)
		return sz_fail(error, -EEXIST, "there is a snapshot %s already", name);
	return result == 0 ? 0 : snapshot_fail(error, result, "take the snapshot", name);
}

int sz_pool_snapshot_destroy(struct sz_pool *pool, const char *dataset, const char *snapshot,
			     struct sz_error *error)
{
	char name[SZ_DATASET_NAME_BYTES];
	char parent[SZ_DATASET_NAME_BYTES];
	objset_t *os;
	int result = change_begin(pool, dataset, snapshot, name, parent, error);

	if (result != 0)
		return result;
	/* ZFS takes one that is not there for one that is destroyed. */
	result = dmu_objset_hold(name, snapshot_tag, &os);
	if (result == 0) {
		dmu_objset_rele(os, snapshot_tag);
		result = dsl_destroy_snapshot(name, B_FALSE);
	}
	return result == 0 ? 0 : snapshot_fail(error, result, "destroy the snapshot", name);
}

/* The snapshots of a dataset. */
struct snapshots {
	struct sz_snapshot *all;
	size_t count;
	size_t room;
};

static int list_add(struct snapshots *list, dsl_pool_t *dsl, const char *name, uint64_t object)
{
	struct sz_snapshot *snapshot;
	dsl_dataset_t *ds;
	int result;

	if (list->count == list->room) {
		size_t room = list->room + SNAPSHOTS_STEP;
		void *grown = realloc(list->all, room * sizeof(*list->all));

		if (grown == NULL)
			return -ENOMEM;
		list->all = grown;
		list->room = room;
	}
	result = dsl_dataset_hold_obj(dsl, object, snapshot_tag, &ds);
	if (result != 0)
		return -result;
	snapshot = &list->all[list->count++];
	(void)snprintf(snapshot->name, sizeof(snapshot->name), "%s", name);
	snapshot->created_wall_s = dsl_dataset_phys(ds)->ds_creation_time;
	snapshot->txg = dsl_dataset_phys(ds)->ds_creation_txg;
	snapshot->used_bytes = dsl_dataset_phys(ds)->ds_unique_bytes;
	snapshot->referenced_bytes = dsl_dataset_phys(ds)->ds_referenced_bytes;
	dsl_dataset_rele(ds, snapshot_tag);
	return 0;
}

static int by_txg(const void *a, const void *b)
{
	const struct sz_snapshot *one = a;
	const struct sz_snapshot *other = b;

	return (one->txg > other->txg) - (one->txg < other->txg);
}

/* A held object set keeps the pool's configuration as it is. */
static int list_load(const char *parent, struct snapshots *list)
{
	char name[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t object = 0;
	uint64_t cursor = 0;
	boolean_t conflict;
	objset_t *os;
	int result = dmu_objset_hold(parent, snapshot_tag, &os);

	if (result != 0)
		return -result;
	while (result == 0) {
		result = -dmu_snapshot_list_next(os, sizeof(name), name, &object, &cursor,
						 &conflict);
		if (result == 0)
			result = list_add(list, dmu_objset_pool(os), name, object);
	}
	dmu_objset_rele(os, snapshot_tag);
	if (list->count > 0)
		qsort(list->all, list->count, sizeof(*list->all), by_txg);
	return result == -ENOENT ? 0 : result;
}

int sz_pool_snapshot_each(struct sz_pool *pool, const char *dataset, sz_snapshot_fn *function,
			  void *context)
{
	char parent[SZ_DATASET_NAME_BYTES];
	struct snapshots list = { 0 };
	int result = sz_dataset_name(dataset, NULL, parent);

	(void)pool;
	if (result == 0)
		result = list_load(parent, &list);
	for (size_t i = 0; result == 0 && i < list.count; i++)
		result = function(context, &list.all[i]);
	free(list.all);
	return result;
}

/* The newer ones go all in one transaction, or none does: not if one of them is open, or has clones. */
static int newer_destroy(const char *dataset, const struct snapshots *list, size_t at,
			 struct sz_error *error)
{
	char name[SZ_DATASET_NAME_BYTES];
	nvlist_t *names;
	nvlist_t *refused;
	int result = 0;

	if (at + 1 == list->count)
		return 0;
	names = fnvlist_alloc();
	refused = fnvlist_alloc();
	for (size_t i = at + 1; result == 0 && i < list->count; i++) {
		result = sz_dataset_name(dataset, list->all[i].name, name);
		if (result == 0)
			fnvlist_add_boolean(names, name);
	}
	if (result == 0) {
		result = dsl_destroy_snapshots_nvl(names, B_FALSE, refused);
		if (result != 0) {
			const nvpair_t *first = nvlist_next_nvpair(refused, NULL);

			result = snapshot_fail(error, result, "destroy the snapshot",
					       first == NULL ? name : nvpair_name(first));
		}
	}
	nvlist_free(names);
	nvlist_free(refused);
	return result;
}

/*
 * The dataset is owned meanwhile: nobody opens it once something is destroyed, and the rollback would be refused.
 * Without its object set, which is another one after that.
 */
static int rollback_to(const char *dataset, const char *parent, const struct snapshots *list,
		       size_t at, struct sz_error *error)
{
	char name[SZ_DATASET_NAME_BYTES];
	dsl_pool_t *dsl;
	dsl_dataset_t *ds;
	nvlist_t *unused;
	int result = sz_dataset_name(dataset, list->all[at].name, name);

	if (result != 0)
		return result;
	result = dsl_pool_hold(parent, snapshot_tag, &dsl);
	if (result == 0) {
		result = dsl_dataset_own(dsl, parent, DS_HOLD_FLAG_NONE, snapshot_tag, &ds);
		dsl_pool_rele(dsl, snapshot_tag);
	}
	if (result != 0)
		return snapshot_fail(error, result, "roll back", parent);
	result = newer_destroy(dataset, list, at, error);
	if (result == 0) {
		unused = fnvlist_alloc();
		result = dsl_dataset_rollback(parent, name, snapshot_tag, unused);
		nvlist_free(unused);
		if (result != 0)
			result = snapshot_fail(error, result, "roll back to", name);
	}
	dsl_dataset_disown(ds, DS_HOLD_FLAG_NONE, snapshot_tag);
	return result;
}

int sz_pool_rollback(struct sz_pool *pool, const char *dataset, const char *snapshot,
		     bool destroy_newer, struct sz_error *error)
{
	char parent[SZ_DATASET_NAME_BYTES];
	char name[SZ_DATASET_NAME_BYTES];
	struct snapshots list = { 0 };
	size_t at = 0;
	int result = change_begin(pool, dataset, snapshot, name, parent, error);

	if (result != 0)
		return result;
	result = list_load(parent, &list);
	while (at < list.count && strcmp(list.all[at].name, snapshot) != 0)
		at++;
	if (result != 0)
		result = snapshot_fail(error, -result, "list the snapshots of", parent);
	else if (at == list.count)
		result = snapshot_fail(error, ENOENT, "roll back to", name);
	else if (at + 1 < list.count && !destroy_newer)
		result = sz_fail(error, -EEXIST,
				 "there are %zu snapshots that are newer than %s, which would be "
				 "destroyed",
				 list.count - at - 1, name);
	else
		result = rollback_to(dataset, parent, &list, at, error);
	free(list.all);
	return result;
}
