/*
 * directory: names: lookup, removing, renaming, listing. (Making is in create.c, linking in link.c.)
 *
 * Invariants
 * 1. A folder's entries change only under its inode's write lock, in the same transaction as the link
 *    counts, sizes and times that go with them.
 * 2. Several inodes are locked in ascending order of their object numbers. Where a name has to be
 *    looked up first, it is looked up again under the locks.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <stdio.h>

void lock_all(struct locked *locked, struct inode *const *inodes, unsigned int count)
{
	locked->count = 0;
	for (unsigned int i = 0; i < count; i++) {
		unsigned int at = 0;

		if (inodes[i] == NULL)
			continue;
		while (at < locked->count && locked->inodes[at]->object < inodes[i]->object)
			at++;
		if (at < locked->count && locked->inodes[at] == inodes[i])
			continue;
		for (unsigned int j = locked->count; j > at; j--)
			locked->inodes[j] = locked->inodes[j - 1];
		locked->inodes[at] = inodes[i];
		locked->count++;
	}
	for (unsigned int i = 0; i < locked->count; i++)
		(void)pthread_rwlock_wrlock(&locked->inodes[i]->lock);
}

void unlock_all(struct locked *locked)
{
	while (locked->count > 0)
		(void)pthread_rwlock_unlock(&locked->inodes[--locked->count]->lock);
}

int name_check(const char *name)
{
	if (strlen(name) > NAME_LIMIT)
		return -ENAMETOOLONG;
	return name[0] == '\0' || strchr(name, '/') != NULL ? -EINVAL : 0;
}

bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int entry_find(struct sz_fs *fs, struct inode *folder, const char *name, uint64_t *object_out)
{
	uint64_t value;
	int result = zap_lookup(fs->os, folder->object, name, 8, 1, &value);

	if (result != 0)
		return sz_zfs_error(result);
	*object_out = ZFS_DIRENT_OBJ(value);
	return 0;
}

uint64_t entry_value(const struct inode *inode)
{
	return inode->object | (uint64_t)(inode->mode >> 12) << 60;
}

int folder_get(struct sz_fs *fs, uint64_t number, struct inode **folder_out)
{
	int result = inode_get(fs, number, folder_out);

	if (result == 0 && !S_ISDIR((*folder_out)->mode)) {
		inode_put(fs, *folder_out);
		*folder_out = NULL;
		result = -ENOTDIR;
	}
	return result;
}

int sz_fs_lookup(struct sz_fs *fs, uint64_t parent, const char *name, uint64_t *inode_out)
{
	struct inode *folder;
	int result = name_check(name);

	if (result == 0)
		result = folder_get(fs, parent, &folder);
	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&folder->lock);
	if (strcmp(name, ".") == 0)
		*inode_out = parent;
	else if (strcmp(name, "..") == 0)
		*inode_out = inode_u64(fs, folder, ZPL_PARENT);
	else
		result = entry_find(fs, folder, name, inode_out);
	(void)pthread_rwlock_unlock(&folder->lock);
	inode_put(fs, folder);
	return result;
}

void folder_update(struct sz_fs *fs, struct inode *folder, int64_t entries, int64_t folders,
		   dmu_tx_t *tx)
{
	uint64_t size = inode_u64(fs, folder, ZPL_SIZE) + (uint64_t)entries;
	uint64_t links = inode_u64(fs, folder, ZPL_LINKS) + (uint64_t)folders;
	uint64_t flags = inode_u64(fs, folder, ZPL_FLAGS) | ZFS_ARCHIVE | ZFS_AV_MODIFIED;
	uint64_t now[2];
	sa_bulk_attr_t bulk[5];
	int count = 0;

	now_encode(now);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_SIZE], NULL, &size, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_LINKS], NULL, &links, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_MTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_FLAGS], NULL, &flags, 8);
	VERIFY0(sa_bulk_update(folder->sa, bulk, count, tx));
}

void links_update(struct sz_fs *fs, struct inode *inode, uint64_t links, uint64_t parent,
		  dmu_tx_t *tx)
{
	uint64_t now[2];
	sa_bulk_attr_t bulk[3];
	int count = 0;

	now_encode(now);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_LINKS], NULL, &links, 8);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, now, 16);
	if (parent != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_PARENT], NULL, &parent, 8);
	VERIFY0(sa_bulk_update(inode->sa, bulk, count, tx));
}

void name_drop(struct sz_fs *fs, struct inode *inode, dmu_tx_t *tx)
{
	uint64_t links = inode_u64(fs, inode, ZPL_LINKS);
	uint64_t last = S_ISDIR(inode->mode) ? 2 : 1;

	links = links <= last ? 0 : links - 1;
	links_update(fs, inode, links, 0, tx);
	if (links == 0) {
		inode->unlinked = true;
		VERIFY0(zap_add_int(fs->os, fs->unlinked_set, inode->object, tx));
	}
}

int sz_fs_readlink(struct sz_fs *fs, uint64_t number, char *target, size_t size)
{
	struct inode *inode;
	int length = 0;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&inode->lock);
	if (!S_ISLNK(inode->mode))
		result = -EINVAL;
	else
		result = sz_zfs_error(sa_size(inode->sa, fs->attr[ZPL_SYMLINK], &length));
	if (result == 0 && (size_t)length >= size)
		result = -ENAMETOOLONG;
	if (result == 0)
		result = sz_zfs_error(
			sa_lookup(inode->sa, fs->attr[ZPL_SYMLINK], target, (uint32_t)length));
	if (result == 0)
		target[length] = '\0';
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return result;
}

/* The folder and the entry, locked, the entry looked up under the locks. */
static int entry_lock(struct sz_fs *fs, uint64_t parent, const char *name, struct inode *pair[2],
		      struct locked *locked)
{
	uint64_t object = 0;
	int result = folder_get(fs, parent, &pair[0]);

	for (;;) {
		uint64_t again = 0;

		if (result == 0) {
			(void)pthread_rwlock_rdlock(&pair[0]->lock);
			result = entry_find(fs, pair[0], name, &object);
			(void)pthread_rwlock_unlock(&pair[0]->lock);
		}
		if (result == 0)
			result = inode_get(fs, object, &pair[1]);
		if (result != 0)
			return result;
		lock_all(locked, pair, 2);
		if (entry_find(fs, pair[0], name, &again) == 0 && again == object)
			return 0;
		unlock_all(locked);
		inode_put(fs, pair[1]);
		pair[1] = NULL;
	}
}

int entry_remove(struct sz_fs *fs, uint64_t parent, const char *name, bool folder)
{
	struct inode *pair[2] = { NULL, NULL };
	struct locked locked = { .count = 0 };
	int result = fs->read_only ? -EROFS : name_check(name);

	if (result == 0 && is_dot(name))
		result = folder ? (name[1] == '.' ? -ENOTEMPTY : -EINVAL) : -EISDIR;
	if (result == 0)
		result = entry_lock(fs, parent, name, pair, &locked);
	if (result == 0 && folder != S_ISDIR(pair[1]->mode))
		result = folder ? -ENOTDIR : -EISDIR;
	if (result == 0 && folder && inode_u64(fs, pair[1], ZPL_SIZE) > 2)
		result = -ENOTEMPTY;
	if (result == 0)
		result = flags_allow(fs, pair[0], FLAGS_FIXED);
	if (result == 0)
		result = flags_allow(fs, pair[1], FLAGS_FIXED);
	if (result == 0) {
		dmu_tx_t *tx = dmu_tx_create(fs->os);

		dmu_tx_hold_zap(tx, parent, B_FALSE, name);
		dmu_tx_hold_sa(tx, pair[0]->sa, B_FALSE);
		dmu_tx_hold_sa(tx, pair[1]->sa, B_FALSE);
		dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
		dmu_tx_mark_netfree(tx);
		result = sz_tx_begin(tx);
		if (result == 0) {
			VERIFY0(zap_remove(fs->os, parent, name, tx));
			name_drop(fs, pair[1], tx);
			folder_update(fs, pair[0], -1, folder ? -1 : 0, tx);
			log_remove(fs, tx, pair[0], name, pair[1]);
			dmu_tx_commit(tx);
		}
	}
	unlock_all(&locked);
	inode_put(fs, pair[1]);
	inode_put(fs, pair[0]);
	return log_finish(fs, 0, result);
}

/* A folder that stands for a dataset stays. */
static int place_check(struct sz_fs *fs, uint64_t parent, const char *name)
{
	bool is_child = false;
	int result = parent == fs->root ? sz_fs_is_child(fs, name, &is_child) : 0;

	return is_child ? -EBUSY : result;
}

int sz_fs_unlink(struct sz_fs *fs, uint64_t parent, const char *name)
{
	return entry_remove(fs, parent, name, false);
}

int sz_fs_rmdir(struct sz_fs *fs, uint64_t parent, const char *name)
{
	int result = place_check(fs, parent, name);

	return result != 0 ? result : entry_remove(fs, parent, name, true);
}

/* Is folder at or below inode? Under rename_lock, which keeps the tree's folders where they are. */
static int is_below(struct sz_fs *fs, uint64_t folder, uint64_t inode, bool *below_out)
{
	*below_out = false;
	while (folder != fs->root) {
		struct inode *at;
		int result;

		if (folder == inode) {
			*below_out = true;
			return 0;
		}
		result = inode_get(fs, folder, &at);
		if (result != 0)
			return result;
		folder = inode_u64(fs, at, ZPL_PARENT);
		inode_put(fs, at);
	}
	*below_out = folder == inode;
	return 0;
}

/* A device 0:0 takes the old name: overlayfs means by it that the name is gone below. */
static struct inode *whiteout_make(struct sz_fs *fs, struct inode *folder, const char *name,
				   const struct znode_claim *claim, dmu_tx_t *tx)
{
	const struct sz_fs_new new = { .mode = S_IFCHR,
				       .uid = (uint32_t)inode_u64(fs, folder, ZPL_UID),
				       .gid = (uint32_t)inode_u64(fs, folder, ZPL_GID) };
	const struct znode_new znode = { .new = &new, .parent = folder->object, .claim = claim };
	struct inode *whiteout;
	uint64_t value;

	VERIFY0(inode_new(fs, &znode, tx, &whiteout));
	value = entry_value(whiteout);
	VERIFY0(zap_add(fs->os, folder->object, name, 8, 1, &value, tx));
	return whiteout;
}

/* all: old folder, new folder, the entry, the entry that it replaces or NULL. In tx. */
static void rename_apply(struct sz_fs *fs, struct inode *const all[4], const char *name,
			 const char *new_name, bool exchange, bool keeps_name, dmu_tx_t *tx)
{
	struct inode *entry = all[2];
	struct inode *other = all[3];
	uint64_t value = entry_value(entry);
	uint64_t other_value = other == NULL ? 0 : entry_value(other);
	int64_t is_folder = S_ISDIR(entry->mode) ? 1 : 0;
	int64_t other_is_folder = other != NULL && S_ISDIR(other->mode) ? 1 : 0;

	if (exchange) {
		VERIFY(other != NULL);
		VERIFY0(zap_update(fs->os, all[0]->object, name, 8, 1, &other_value, tx));
		VERIFY0(zap_update(fs->os, all[1]->object, new_name, 8, 1, &value, tx));
		links_update(fs, other, inode_u64(fs, other, ZPL_LINKS), all[0]->object, tx);
		folder_update(fs, all[0], 0, other_is_folder - is_folder, tx);
		folder_update(fs, all[1], 0, is_folder - other_is_folder, tx);
	} else {
		VERIFY0(zap_remove(fs->os, all[0]->object, name, tx));
		if (other != NULL)
			name_drop(fs, other, tx);
		VERIFY0(zap_update(fs->os, all[1]->object, new_name, 8, 1, &value, tx));
		folder_update(fs, all[0], keeps_name ? 0 : -1, -is_folder, tx);
		folder_update(fs, all[1], other != NULL ? 0 : 1, is_folder - other_is_folder, tx);
	}
	links_update(fs, entry, inode_u64(fs, entry, ZPL_LINKS), all[1]->object, tx);
}

static int rename_check(struct sz_fs *fs, struct inode *const all[4], unsigned int flags)
{
	struct inode *entry = all[2];
	struct inode *other = all[3];
	bool below = false;
	int result = 0;

	if ((flags & RENAME_EXCHANGE) != 0 && other == NULL)
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE) != 0 && other != NULL)
		return -EEXIST;
	if (S_ISDIR(entry->mode))
		result = is_below(fs, all[1]->object, entry->object, &below);
	if (result == 0 && below)
		return -EINVAL;
	if (result == 0 && other != NULL && S_ISDIR(other->mode))
		result = is_below(fs, all[0]->object, other->object, &below);
	if (result == 0 && below)
		return (flags & RENAME_EXCHANGE) != 0 ? -EINVAL : -ENOTEMPTY;
	if (result != 0 || other == NULL || (flags & RENAME_EXCHANGE) != 0)
		return result;
	if (S_ISDIR(other->mode) && !S_ISDIR(entry->mode))
		return -EISDIR;
	if (!S_ISDIR(other->mode) && S_ISDIR(entry->mode))
		return -ENOTDIR;
	return S_ISDIR(other->mode) && inode_u64(fs, other, ZPL_SIZE) > 2 ? -ENOTEMPTY : 0;
}

/* Looks both names up and takes references. all[3] stays NULL if the new name is free. */
static int rename_find(struct sz_fs *fs, struct inode *all[4], const char *name,
		       const char *new_name)
{
	uint64_t object = 0;
	int result = entry_find(fs, all[0], name, &object);

	if (result == 0)
		result = inode_get(fs, object, &all[2]);
	if (result != 0)
		return result;
	result = entry_find(fs, all[1], new_name, &object);
	if (result == 0)
		return inode_get(fs, object, &all[3]);
	return result == -ENOENT ? 0 : result;
}

/* Under the locks of all. */
static int rename_commit(struct sz_fs *fs, struct inode *const all[4], const char *name,
			 const char *new_name, unsigned int flags, const struct znode_claim *claim)
{
	const char *const names[2] = { name, new_name };
	bool is_whiteout = (flags & RENAME_WHITEOUT) != 0;
	struct inode *whiteout = NULL;
	dmu_tx_t *tx;
	int result = 0;

	if (claim != NULL)
		result = sz_zfs_error(dnode_try_claim(fs->os, claim->object, (int)claim->slots));
	if (result != 0)
		return result;
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_zap(tx, all[0]->object, B_TRUE, name);
	dmu_tx_hold_zap(tx, all[1]->object, B_TRUE, new_name);
	dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
	for (unsigned int i = 0; i < 4; i++)
		if (all[i] != NULL)
			dmu_tx_hold_sa(tx, all[i]->sa, B_FALSE);
	if (is_whiteout)
		inode_new_holds(fs, tx, S_IFCHR, 0);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	rename_apply(fs, all, name, new_name, (flags & RENAME_EXCHANGE) != 0, is_whiteout, tx);
	if (is_whiteout)
		whiteout = whiteout_make(fs, all[0], name, claim, tx);
	log_rename(fs, tx, all, names, all[2], flags, whiteout);
	dmu_tx_commit(tx);
	inode_put(fs, whiteout);
	return 0;
}

static bool rename_flags_are_known(unsigned int flags)
{
	unsigned int known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;

	if ((flags & ~known) != 0)
		return false;
	return (flags & RENAME_EXCHANGE) == 0 || flags == RENAME_EXCHANGE;
}

int entry_rename(struct sz_fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned int flags, const struct znode_claim *claim)
{
	struct inode *all[4] = { NULL };
	struct locked locked = { .count = 0 };
	uint64_t object = 0;
	uint64_t other = 0;
	int result = fs->read_only ? -EROFS : name_check(name);

	if (result == 0)
		result = name_check(new_name);
	if (result == 0 && (is_dot(name) || is_dot(new_name)))
		result = -EBUSY;
	if (result == 0 && !rename_flags_are_known(flags))
		result = -EINVAL;
	if (result != 0)
		return result;
	(void)pthread_mutex_lock(&fs->rename_lock);
	result = folder_get(fs, parent, &all[0]);
	if (result == 0)
		result = folder_get(fs, new_parent, &all[1]);
	for (bool stable = false; result == 0 && !stable;) {
		result = rename_find(fs, all, name, new_name);
		if (result != 0)
			break;
		lock_all(&locked, all, 4);
		stable = entry_find(fs, all[0], name, &object) == 0 && object == all[2]->object;
		result = entry_find(fs, all[1], new_name, &other);
		stable = stable && (all[3] == NULL ? result == -ENOENT
						   : result == 0 && other == all[3]->object);
		result = 0;
		if (!stable) {
			unlock_all(&locked);
			inode_put(fs, all[2]);
			inode_put(fs, all[3]);
			all[2] = all[3] = NULL;
		}
	}
	if (result == 0 && all[1]->unlinked)
		result = -ENOENT;
	if (result == 0)
		result = rename_check(fs, all, flags);
	for (unsigned int i = 0; result == 0 && i < 4; i++)
		result = flags_allow(fs, all[i],
				     i == 1 && all[3] == NULL ? ZFS_IMMUTABLE : FLAGS_FIXED);
	/* Two names of one file: nothing is to be done. */
	if (result == 0 && all[2] != all[3])
		result = rename_commit(fs, all, name, new_name, flags, claim);
	unlock_all(&locked);
	for (unsigned int i = 4; i > 0; i--)
		inode_put(fs, all[i - 1]);
	(void)pthread_mutex_unlock(&fs->rename_lock);
	return log_finish(fs, 0, result);
}

int sz_fs_rename(struct sz_fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		 const char *new_name, unsigned int flags)
{
	int result = place_check(fs, parent, name);

	if (result == 0)
		result = place_check(fs, new_parent, new_name);
	return result != 0 ? result
			   : entry_rename(fs, parent, name, new_parent, new_name, flags, NULL);
}

/* Cookies: 0 is ".", 1 is "..", 2 the first entry; from then on ZFS's serialized cursor. */
int sz_fs_readdir(struct sz_fs *fs, uint64_t number, uint64_t cookie, sz_fs_entry_fn *function,
		  void *context)
{
	struct inode *folder;
	zap_cursor_t cursor;
	zap_attribute_t *entry;
	int result = folder_get(fs, number, &folder);

	if (result != 0)
		return result;
	entry = zap_attribute_alloc();
	(void)pthread_rwlock_rdlock(&folder->lock);
	if (cookie == 0)
		result = function(context, ".", number, S_IFDIR, ++cookie);
	if (result == 0 && cookie == 1)
		result = function(context, "..", inode_u64(fs, folder, ZPL_PARENT), S_IFDIR,
				  ++cookie);
	if (result == 0) {
		if (cookie == 2)
			zap_cursor_init(&cursor, fs->os, number);
		else
			zap_cursor_init_serialized(&cursor, fs->os, number, cookie);
		for (;;) {
			int found = zap_cursor_retrieve(&cursor, entry);

			if (found != 0) {
				result = found == ENOENT ? 0 : sz_zfs_error(found);
				break;
			}
			zap_cursor_advance(&cursor);
			result = function(context, entry->za_name,
					  ZFS_DIRENT_OBJ(entry->za_first_integer),
					  (uint32_t)(entry->za_first_integer >> 60) << 12,
					  zap_cursor_serialize(&cursor));
			if (result != 0)
				break;
		}
		zap_cursor_fini(&cursor);
	}
	(void)pthread_rwlock_unlock(&folder->lock);
	zap_attribute_free(entry);
	atime_touch(fs, folder);
	inode_put(fs, folder);
	return result;
}
