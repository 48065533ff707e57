/*
 * link: further names for an inode, and the first name of one that was made without, which takes it
 * out of the delete queue.
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* Folder, inode, and the entry that has the name already or NULL, locked. */
static int link_lock(struct sz_fs *fs, const char *name, struct inode *all[3],
		     struct locked *locked)
{
	for (;;) {
		uint64_t object = 0;
		uint64_t again = 0;
		int result;

		(void)pthread_rwlock_rdlock(&all[0]->lock);
		result = entry_find(fs, all[0], name, &object);
		(void)pthread_rwlock_unlock(&all[0]->lock);
		if (result == 0)
			result = inode_get(fs, object, &all[2]);
		if (result != 0 && result != -ENOENT)
			return result;
		lock_all(locked, all, 3);
		result = entry_find(fs, all[0], name, &again);
		if ((result == -ENOENT && all[2] == NULL) ||
		    (result == 0 && all[2] != NULL && again == object))
			return 0;
		unlock_all(locked);
		inode_put(fs, all[2]);
		all[2] = NULL;
		if (result != 0 && result != -ENOENT)
			return result;
	}
}

static int link_check(struct inode *const all[3], bool replace)
{
	/* A removed file must not come back, also while somebody holds it. */
	if (all[0]->unlinked || (all[1]->unlinked && !all[1]->is_unnamed))
		return -ENOENT;
	if (S_ISDIR(all[1]->mode))
		return -EPERM;
	if (all[2] != NULL && !replace)
		return -EEXIST;
	return all[2] != NULL && S_ISDIR(all[2]->mode) ? -EISDIR : 0;
}

static int link_apply(struct sz_fs *fs, struct inode *const all[3], const char *name)
{
	/* What had no name was not logged, and there is no record for replacing a name. */
	bool is_logged = !all[1]->unlinked && all[2] == NULL;
	uint64_t value = entry_value(all[1]);
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	dmu_tx_hold_zap(tx, all[0]->object, B_TRUE, name);
	dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
	for (unsigned int i = 0; i < 3; i++)
		if (all[i] != NULL)
			dmu_tx_hold_sa(tx, all[i]->sa, B_FALSE);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	VERIFY0(zap_update(fs->os, all[0]->object, name, 8, 1, &value, tx));
	links_update(fs, all[1], inode_u64(fs, all[1], ZPL_LINKS) + 1, all[0]->object, tx);
	if (all[1]->unlinked) {
		VERIFY0(zap_remove_int(fs->os, fs->unlinked_set, all[1]->object, tx));
		all[1]->unlinked = false;
		all[1]->is_unnamed = false;
	}
	if (all[2] != NULL)
		name_drop(fs, all[2], tx);
	folder_update(fs, all[0], all[2] == NULL ? 1 : 0, 0, tx);
	if (is_logged)
		log_link(fs, tx, all[0], name, all[1]);
	else
		log_barrier(fs, tx);
	dmu_tx_commit(tx);
	return 0;
}

static int link_to(struct sz_fs *fs, uint64_t number, uint64_t parent, const char *name,
		   bool replace)
{
	struct inode *all[3] = { NULL, NULL, NULL };
	struct locked locked = { .count = 0 };
	int result = fs->read_only ? -EROFS : name_check(name);

	if (result == 0)
		result = is_dot(name) ? (replace ? -EISDIR : -EEXIST)
				      : folder_get(fs, parent, &all[0]);
	if (result == 0)
		result = inode_get(fs, number, &all[1]);
	if (result == 0)
		result = link_lock(fs, name, all, &locked);
	if (result == 0)
		result = link_check(all, replace);
	if (result == 0)
		result = flags_allow(fs, all[0], all[2] == NULL ? ZFS_IMMUTABLE : FLAGS_FIXED);
	for (unsigned int i = 1; result == 0 && i < 3; i++)
		result = flags_allow(fs, all[i], FLAGS_FIXED);
	/* The name is the inode's already: nothing is to be done. */
	if (result == 0 && all[1] != all[2])
		result = link_apply(fs, all, name);
	unlock_all(&locked);
	for (unsigned int i = 3; i > 0; i--)
		inode_put(fs, all[i - 1]);
	return log_finish(fs, 0, result);
}

int sz_fs_link(struct sz_fs *fs, uint64_t number, uint64_t parent, const char *name)
{
	return link_to(fs, number, parent, name, false);
}

int sz_fs_link_over(struct sz_fs *fs, uint64_t number, uint64_t parent, const char *name)
{
	return link_to(fs, number, parent, name, true);
}
