/*
 * flags: attributes that are flags (chattr), and the project. They stand in ZPL_FLAGS and ZPL_PROJID, as
 * the kernel's ZFS keeps them. There the VFS sees to it that nobody changes what is immutable; here it
 * knows nothing of these flags, so each operation asks (flags_allow).
 */
#include "fs/fs_internal.h"

#include <errno.h>

static const struct {
	uint32_t linux_flag;
	uint64_t flag;
} flags_known[] = {
	{ SZ_FLAG_IMMUTABLE, ZFS_IMMUTABLE },
	{ SZ_FLAG_APPEND, ZFS_APPENDONLY },
	{ SZ_FLAG_NODUMP, ZFS_NODUMP },
	{ SZ_FLAG_PROJECT_INHERIT, ZFS_PROJINHERIT },
};

int flags_allow(struct sz_fs *fs, struct inode *inode, uint64_t forbidden)
{
	/* What is replayed was allowed when it was done. */
	if (inode == NULL || fs->log->zl_replay)
		return 0;
	return (inode_u64(fs, inode, ZPL_FLAGS) & forbidden) != 0 ? -EPERM : 0;
}

int sz_fs_getflags(struct sz_fs *fs, uint64_t number, uint32_t *flags_out, uint32_t *project_out)
{
	struct inode *inode;
	uint64_t flags;
	int result = inode_get(fs, number, &inode);

	*flags_out = 0;
	*project_out = 0;
	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&inode->lock);
	flags = inode_u64(fs, inode, ZPL_FLAGS);
	if ((flags & ZFS_PROJID) != 0)
		*project_out = (uint32_t)inode_u64(fs, inode, ZPL_PROJID);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	for (size_t i = 0; i < ARRAY_LENGTH(flags_known); i++)
		if ((flags & flags_known[i].flag) != 0)
			*flags_out |= flags_known[i].linux_flag;
	return 0;
}

/* Only what changes; the log has no more either. */
static int change_make(struct sz_fs *fs, struct inode *inode, uint32_t flags, uint32_t project,
		       struct flags_change *change)
{
	uint64_t now = inode_u64(fs, inode, ZPL_FLAGS);
	bool may_have_project = S_ISREG(inode->mode) || S_ISDIR(inode->mode);

	for (size_t i = 0; i < ARRAY_LENGTH(flags_known); i++) {
		bool is_set = (flags & flags_known[i].linux_flag) != 0;

		flags &= ~flags_known[i].linux_flag;
		if (is_set == ((now & flags_known[i].flag) != 0))
			continue;
		change->mask |= flags_known[i].flag;
		change->value |= is_set ? flags_known[i].flag : 0;
	}
	change->project = project;
	change->sets_project =
		project != ((now & ZFS_PROJID) == 0 ? 0 : inode_u64(fs, inode, ZPL_PROJID));
	if (flags != 0)
		return -EOPNOTSUPP;
	if (!may_have_project && (change->sets_project || (change->mask & ZFS_PROJINHERIT) != 0))
		return -EOPNOTSUPP;
	return change->sets_project && quota_is_over(fs, ZFS_PROP_PROJECTQUOTA, project) ? -EDQUOT
											 : 0;
}

int sz_fs_setflags(struct sz_fs *fs, uint64_t number, uint32_t flags, uint32_t project)
{
	const struct stat unused = { 0 };
	struct flags_change change = { 0 };
	struct inode *inode;
	int result = fs->read_only ? -EROFS : inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_wrlock(&inode->lock);
	result = change_make(fs, inode, flags, project, &change);
	/* Only the flag itself makes what is immutable changeable. */
	if (result == 0 && change.sets_project && (change.mask & ZFS_IMMUTABLE) == 0)
		result = flags_allow(fs, inode, ZFS_IMMUTABLE);
	if (result == 0 && (change.mask != 0 || change.sets_project))
		result = attributes_set(fs, inode, 0, &unused, &change);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return log_finish(fs, number, result);
}
