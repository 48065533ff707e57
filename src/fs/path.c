/*
 * path: from an object to its path, and the paths of what is damaged. A file knows the folder in which
 * it was linked last; of several names there the one that ZFS finds first counts.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* The name of an object in its folder, and the folder. */
static int name_find(struct sz_fs *fs, uint64_t object, char name[NAME_LIMIT + 1],
		     uint64_t *parent_out)
{
	struct inode *inode;
	int result = inode_get(fs, object, &inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&inode->lock);
	*parent_out = inode_u64(fs, inode, ZPL_PARENT);
	result = inode->unlinked ? -ENOENT : 0;
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	if (result != 0)
		return result;
	return sz_zfs_error(zap_value_search(fs->os, *parent_out, object, ZFS_DIRENT_OBJ(-1ULL),
					     name, NAME_LIMIT + 1));
}

int sz_fs_path(struct sz_fs *fs, uint64_t number, char *path, size_t size)
{
	size_t start = size;

	if (size < 2)
		return -ENAMETOOLONG;
	path[--start] = '\0';
	while (number != fs->root) {
		char name[NAME_LIMIT + 1];
		uint64_t parent = 0;
		size_t length;
		int result = name_find(fs, number, name, &parent);

		if (result != 0)
			return result;
		length = strlen(name);
		/* A loop, which only damage could make, ends here too. */
		if (length + 1 > start)
			return -ENAMETOOLONG;
		start -= length;
		memcpy(path + start, name, length);
		path[--start] = '/';
		number = parent;
	}
	if (start == size - 1)
		path[--start] = '/';
	memmove(path, path + start, size - start);
	return 0;
}

struct damaged {
	struct sz_fs *fs;
	sz_fs_damaged_fn *function;
	void *context;
};

static int damaged_name(void *context, uint64_t dataset, uint64_t object)
{
	const struct damaged *damaged = context;
	char path[PATH_MAX];

	if (dataset == DMU_META_OBJSET)
		(void)snprintf(path, sizeof(path), "<metadata>:<0x%" PRIx64 ">", object);
	else if (dataset != dmu_objset_id(damaged->fs->os))
		(void)snprintf(path, sizeof(path), "<0x%" PRIx64 ">:<0x%" PRIx64 ">", dataset,
			       object);
	else if (sz_fs_path(damaged->fs, object, path, sizeof(path)) != 0)
		(void)snprintf(path, sizeof(path), "<0x%" PRIx64 ">", object);
	return damaged->function(damaged->context, path);
}

int sz_fs_damaged_each(struct sz_fs *fs, sz_fs_damaged_fn *function, void *context)
{
	struct damaged damaged = { .fs = fs, .function = function, .context = context };

	return sz_pool_data_error_each(fs->pool, damaged_name, &damaged);
}
