/*
 * quota: limits of users, groups and projects, in space and in objects, as `zfs set userquota@…` leaves
 * them: tables of the dataset, by number in hexadecimal. ZFS counts what each of them uses when a
 * transaction group is synced, so a limit can be passed by what a few groups hold. (The kernel's rules.)
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define KEY_BYTES 32U

/* By the quota for space: where its use is counted, and the quota for objects. */
static const struct {
	zfs_userquota_prop_t space;
	zfs_userquota_prop_t objects;
	uint64_t used;
} kinds[] = {
	{ ZFS_PROP_USERQUOTA, ZFS_PROP_USEROBJQUOTA, DMU_USERUSED_OBJECT },
	{ ZFS_PROP_GROUPQUOTA, ZFS_PROP_GROUPOBJQUOTA, DMU_GROUPUSED_OBJECT },
	{ ZFS_PROP_PROJECTQUOTA, ZFS_PROP_PROJECTOBJQUOTA, DMU_PROJECTUSED_OBJECT },
};

int quotas_load(struct sz_fs *fs)
{
	for (int i = 0; i < ZFS_NUM_USERQUOTA_PROPS; i++) {
		int result = zap_lookup(fs->os, MASTER_NODE_OBJ, zfs_userquota_prop_prefixes[i], 8,
					1, &fs->quotas[i]);

		if (result == ENOENT)
			fs->quotas[i] = 0;
		else if (result != 0)
			return sz_zfs_error(result);
	}
	return 0;
}

/* One limit; prefix: of the key under which it is counted. */
static bool limit_is_reached(struct sz_fs *fs, uint64_t limits, uint64_t used, const char *prefix,
			     uint64_t id)
{
	char key[KEY_BYTES];
	uint64_t limit;
	uint64_t count;

	if (limits == 0)
		return false;
	(void)snprintf(key, sizeof(key), "%" PRIx64, id);
	if (zap_lookup(fs->os, limits, key, 8, 1, &limit) != 0)
		return false;
	(void)snprintf(key, sizeof(key), "%s%" PRIx64, prefix, id);
	return zap_lookup(fs->os, used, key, 8, 1, &count) == 0 && count >= limit;
}

static bool kind_is_over(struct sz_fs *fs, size_t kind, uint64_t id, bool adds_object)
{
	if (limit_is_reached(fs, fs->quotas[kinds[kind].space], kinds[kind].used, "", id))
		return true;
	return adds_object && limit_is_reached(fs, fs->quotas[kinds[kind].objects],
					       kinds[kind].used, DMU_OBJACCT_PREFIX, id);
}

bool quota_is_over(struct sz_fs *fs, zfs_userquota_prop_t kind, uint64_t id)
{
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
		if (kinds[i].space == kind && !fs->log->zl_replay)
			return kind_is_over(fs, i, id, true);
	return false;
}

static int ids_allow(struct sz_fs *fs, const uint64_t ids[3], bool adds_object)
{
	if (fs->log->zl_replay)
		return 0;
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
		/* Nobody's project is 0. */
		if ((kinds[i].space != ZFS_PROP_PROJECTQUOTA || ids[i] != 0) &&
		    kind_is_over(fs, i, ids[i], adds_object))
			return -EDQUOT;
	return 0;
}

int quota_allow_write(struct sz_fs *fs, struct inode *inode)
{
	const uint64_t ids[3] = { inode_u64(fs, inode, ZPL_UID), inode_u64(fs, inode, ZPL_GID),
				  inode_u64(fs, inode, ZPL_PROJID) };

	return ids_allow(fs, ids, false);
}

int quota_allow_new(struct sz_fs *fs, const struct znode_new *znode)
{
	const uint64_t ids[3] = { znode->new->uid, znode->new->gid, znode->project };

	return ids_allow(fs, ids, true);
}
