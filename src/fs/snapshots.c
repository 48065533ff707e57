/*
 * snapshots: those of a file system that somebody reads. ZFS lets a snapshot be open once, so all who read it
 * share it, and the last one closes it. Child datasets that are open beside a head are in the same list (datasets.c).
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* The name of the dataset below the pool's root; NULL: it is that. */
static const char *dataset_of(const struct sz_fs *fs)
{
	const char *rest = fs->name + strlen(SZ_POOL_NAME);

	return rest[0] == '/' ? rest + 1 : NULL;
}

struct sz_fs *sz_fs_opened_find(struct sz_fs *head, const char *full)
{
	struct sz_fs *opened;

	LIST_FOREACH(opened, &head->snapshots, in_snapshots)
		if (strcmp(opened->name, full) == 0)
			return opened;
	return NULL;
}

int sz_fs_snapshot_open(struct sz_fs *fs, const char *name, struct sz_fs **snapshot_out,
			struct sz_error *error)
{
	char full[SZ_DATASET_NAME_BYTES];
	struct sz_fs *snapshot;
	int result = sz_dataset_name(dataset_of(fs), name, full);

	if (result != 0)
		return sz_fail(error, -ENOENT, "there is no snapshot '%s'", name);
	(void)pthread_mutex_lock(&fs->snapshots_lock); /* opened by one at a time */
	snapshot = sz_fs_opened_find(fs, full);
	if (snapshot == NULL) {
		result = sz_fs_open_snapshot(fs->pool, dataset_of(fs), name, &snapshot, error);
		if (result == 0) {
			snapshot->of = fs;
			LIST_INSERT_HEAD(&fs->snapshots, snapshot, in_snapshots);
		}
	}
	if (result == 0)
		snapshot->users++;
	(void)pthread_mutex_unlock(&fs->snapshots_lock);
	if (result == -ENOENT || result == -EINVAL) {
		*error = (struct sz_error){ 0 };
		return sz_fail(error, -ENOENT, "there is no snapshot '%s'", name);
	}
	if (result == 0)
		*snapshot_out = snapshot;
	return result;
}

void sz_fs_snapshot_close(struct sz_fs *snapshot)
{
	struct sz_fs *fs = snapshot->of;

	(void)pthread_mutex_lock(&fs->snapshots_lock);
	if (--snapshot->users == 0) {
		LIST_REMOVE(snapshot, in_snapshots);
		sz_fs_close(snapshot);
	}
	(void)pthread_mutex_unlock(&fs->snapshots_lock);
}

int sz_fs_snapshot_each(struct sz_fs *fs, sz_snapshot_fn *function, void *context)
{
	return sz_pool_snapshot_each(fs->pool, dataset_of(fs), function, context);
}
