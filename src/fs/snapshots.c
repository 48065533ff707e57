/*
 * snapshots: those of a file system that somebody reads. ZFS lets a snapshot be open once, so all who read it
 * share it, and the last one closes it.
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* The name of the dataset below the pool's root; NULL: it is that. */
static const char *dataset_of(const struct sz_fs *fs)
{
	const char *rest = fs->name + strlen(SZ_POOL_NAME);

	return rest[0] == '/' ? rest + 1 : NULL;
}

/* Under snapshots_lock. */
static struct sz_fs *snapshot_find(struct sz_fs *fs, const char *name)
{
	struct sz_fs *snapshot;

	LIST_FOREACH(snapshot, &fs->snapshots, in_snapshots)
		if (strcmp(strchr(snapshot->name, '@') + 1, name) == 0)
			return snapshot;
	return NULL;
}

int sz_fs_snapshot_open(struct sz_fs *fs, const char *name, struct sz_fs **snapshot_out,
			struct sz_error *error)
{
	struct sz_fs *snapshot;
	int result = 0;

	(void)pthread_mutex_lock(&fs->snapshots_lock); /* opened by one at a time */
	snapshot = snapshot_find(fs, name);
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
