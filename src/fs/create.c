/*
 * create: making inodes, with a name or without.
 *
 * An inode without a name has no links and is in the delete queue from its making on, as after the
 * kernel's O_TMPFILE: whatever happens, it is either linked (link.c) or freed.
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* What is to be made: what was asked for, and what its folder adds. */
struct creation {
	struct sz_fs_new new;
	struct znode_new znode;
};

static void creation_fini(struct creation *creation)
{
	fnvlist_pack_free(creation->znode.xattrs, creation->znode.xattrs_size);
}

/* The folder's default ACL masks the mode, and is handed on. */
static void acl_inherit(struct creation *creation, void *acl, size_t size)
{
	struct sz_fs_new *new = &creation->new;
	nvlist_t *xattrs = fnvlist_alloc();
	bool is_extended;

	if (S_ISDIR(new->mode))
		fnvlist_add_byte_array(xattrs, POSIX_ACL_DEFAULT, acl, (uint_t)size);
	new->mode = posix_acl_create(acl, size, new->mode);
	(void)posix_acl_mode(acl, size, &is_extended);
	if (is_extended)
		fnvlist_add_byte_array(xattrs, POSIX_ACL_ACCESS, acl, (uint_t)size);
	if (!nvlist_empty(xattrs))
		creation->znode.xattrs = fnvlist_pack(xattrs, &creation->znode.xattrs_size);
	nvlist_free(xattrs);
}

static int inherit(struct sz_fs *fs, struct inode *folder, struct creation *creation)
{
	struct sz_fs_new *new = &creation->new;
	CLEANUP_FREE void *acl = NULL;
	size_t size = 0;
	int result;

	if ((inode_u64(fs, folder, ZPL_MODE) & S_ISGID) != 0) {
		new->gid = (uint32_t)inode_u64(fs, folder, ZPL_GID);
		if (S_ISDIR(new->mode))
			new->mode |= S_ISGID;
	}
	if (S_ISLNK(new->mode))
		return 0;
	result = xattr_read(fs, folder, POSIX_ACL_DEFAULT, &acl, &size);
	if (result == -ENODATA || (result == 0 && posix_acl_is_empty(size))) {
		new->mode &= ~new->umask;
		return 0;
	}
	if (result == 0)
		result = posix_acl_check(acl, size);
	if (result == 0)
		acl_inherit(creation, acl, size);
	return result;
}

/* Under the folder's lock. The creation stays where it is until it is used, and is ended. */
static int creation_init(struct sz_fs *fs, struct inode *folder, const struct sz_fs_new *new,
			 const char *target, struct creation *creation)
{
	uint64_t flags = inode_u64(fs, folder, ZPL_FLAGS);

	*creation = (struct creation){ .new = *new };
	creation->znode = (struct znode_new){
		.new = &creation->new,
		.target = target,
		.parent = folder->object,
	};
	/* Files in a folder of extended attributes are such ones (of those, replaying makes some). */
	creation->znode.flags = flags & ZFS_XATTR;
	if ((flags & ZFS_PROJINHERIT) != 0 && (S_ISREG(new->mode) || S_ISDIR(new->mode))) {
		creation->znode.flags |= ZFS_PROJINHERIT;
		creation->znode.project = inode_u64(fs, folder, ZPL_PROJID);
	}
	return new->inherits ? inherit(fs, folder, creation) : 0;
}

/* The attributes that it got with it. */
static void xattrs_log(struct sz_fs *fs, const struct creation *creation, struct inode *inode,
		       dmu_tx_t *tx)
{
	nvlist_t *list;
	nvpair_t *pair = NULL;

	if (creation->znode.xattrs == NULL)
		return;
	if (!log_can_setxattr(fs, NULL, 0)) {
		log_barrier(fs, tx);
		return;
	}
	VERIFY0(nvlist_unpack(creation->znode.xattrs, creation->znode.xattrs_size, &list,
			      KM_SLEEP));
	while ((pair = nvlist_next_nvpair(list, pair)) != NULL) {
		uchar_t *value;
		uint_t size;

		VERIFY0(nvpair_value_byte_array(pair, &value, &size));
		log_setxattr(fs, tx, inode, nvpair_name(pair), value, size);
	}
	nvlist_free(list);
}

static void creation_holds(struct sz_fs *fs, const struct creation *creation, dmu_tx_t *tx)
{
	const char *target = creation->znode.target;

	inode_new_holds(fs, tx, creation->new.mode,
			creation->znode.xattrs_size + (target == NULL ? 0 : strlen(target)));
}

/* Under the folder's lock; the name is free. */
static int entry_make(struct sz_fs *fs, struct inode *folder, const char *name,
		      const struct creation *creation, uint64_t *inode_out)
{
	struct inode *inode = NULL;
	const struct znode_claim *claim = creation->znode.claim;
	uint64_t value;
	dmu_tx_t *tx;
	int result = 0;

	if (claim != NULL)
		result = sz_zfs_error(dnode_try_claim(fs->os, claim->object, (int)claim->slots));
	if (result != 0)
		return result;
	tx = dmu_tx_create(fs->os);
	creation_holds(fs, creation, tx);
	dmu_tx_hold_zap_by_dnode(tx, folder->dnode, B_TRUE, name);
	dmu_tx_hold_sa(tx, folder->sa, B_FALSE);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	result = inode_new(fs, &creation->znode, tx, &inode);
	if (result == 0) {
		value = entry_value(inode);
		VERIFY0(zap_add(fs->os, folder->object, name, 8, 1, &value, tx));
		folder_update(fs, folder, 1, S_ISDIR(inode->mode) ? 1 : 0, tx);
		log_create(fs, tx, folder, name, inode, creation->znode.target);
		xattrs_log(fs, creation, inode, tx);
		*inode_out = inode->object;
	}
	dmu_tx_commit(tx);
	inode_put(fs, inode);
	return result;
}

int entry_create(struct sz_fs *fs, uint64_t parent, const char *name, const struct sz_fs_new *new,
		 const char *target, const struct znode_claim *claim, uint64_t *inode_out)
{
	struct creation creation = { 0 };
	struct inode *folder;
	uint64_t existing;
	int result = fs->read_only ? -EROFS : name_check(name);

	if (result == 0)
		result = is_dot(name) ? -EEXIST : folder_get(fs, parent, &folder);
	if (result != 0)
		return result;
	(void)pthread_rwlock_wrlock(&folder->lock);
	result = folder->unlinked ? -ENOENT : entry_find(fs, folder, name, &existing);
	if (result == 0)
		result = -EEXIST;
	else if (result == -ENOENT && !folder->unlinked)
		result = creation_init(fs, folder, new, target, &creation);
	creation.znode.claim = claim;
	if (result == 0)
		result = flags_allow(fs, folder, ZFS_IMMUTABLE);
	if (result == 0)
		result = quota_allow_new(fs, &creation.znode);
	if (result == 0)
		result = entry_make(fs, folder, name, &creation, inode_out);
	(void)pthread_rwlock_unlock(&folder->lock);
	creation_fini(&creation);
	inode_put(fs, folder);
	return log_finish(fs, 0, result);
}

int sz_fs_create(struct sz_fs *fs, uint64_t parent, const char *name, const struct sz_fs_new *new,
		 uint64_t *inode_out)
{
	int result;

	if (S_ISDIR(new->mode) || S_ISLNK(new->mode) || (new->mode &S_IFMT) == 0)
		return -EINVAL;
	result = new_data_admit(fs, INODE_BYTES);
	return result != 0 ? result : entry_create(fs, parent, name, new, NULL, NULL, inode_out);
}

int sz_fs_mkdir(struct sz_fs *fs, uint64_t parent, const char *name, const struct sz_fs_new *new,
		uint64_t *inode_out)
{
	struct sz_fs_new folder = *new;
	int result = new_data_admit(fs, INODE_BYTES);

	folder.mode = (new->mode & 07777U) | S_IFDIR;
	return result != 0 ? result
			   : entry_create(fs, parent, name, &folder, NULL, NULL, inode_out);
}

int sz_fs_symlink(struct sz_fs *fs, uint64_t parent, const char *name, const char *target,
		  const struct sz_fs_new *new, uint64_t *inode_out)
{
	struct sz_fs_new link = *new;
	int result;

	if (strlen(target) >= MAXPATHLEN)
		return -ENAMETOOLONG;
	link.mode = 0777U | S_IFLNK;
	result = new_data_admit(fs, INODE_BYTES);
	return result != 0 ? result
			   : entry_create(fs, parent, name, &link, target, NULL, inode_out);
}

static int unnamed_make(struct sz_fs *fs, const struct creation *creation, uint64_t *inode_out)
{
	struct inode *inode = NULL;
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	creation_holds(fs, creation, tx);
	dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	result = inode_new(fs, &creation->znode, tx, &inode);
	if (result == 0) {
		name_drop(fs, inode, tx);
		inode->is_unnamed = true;
		*inode_out = inode->object;
	}
	dmu_tx_commit(tx);
	if (result == 0)
		result = sz_fs_hold(fs, inode->object);
	inode_put(fs, inode);
	return result;
}

int sz_fs_create_unnamed(struct sz_fs *fs, uint64_t parent, const struct sz_fs_new *new,
			 const char *target, uint64_t *inode_out)
{
	struct sz_fs_new unnamed = *new;
	struct creation creation = { 0 };
	struct inode *folder;
	int result = fs->read_only ? -EROFS : new_data_admit(fs, INODE_BYTES);

	if (result == 0)
		result = folder_get(fs, parent, &folder);
	if (result != 0)
		return result;
	if (target != NULL)
		unnamed.mode = 0777U | S_IFLNK;
	(void)pthread_rwlock_rdlock(&folder->lock);
	if (S_ISDIR(unnamed.mode) || (unnamed.mode & S_IFMT) == 0 ||
	    S_ISLNK(unnamed.mode) != (target != NULL))
		result = -EINVAL;
	else if (target != NULL && strlen(target) >= MAXPATHLEN)
		result = -ENAMETOOLONG;
	else
		result = creation_init(fs, folder, &unnamed, target, &creation);
	(void)pthread_rwlock_unlock(&folder->lock);
	if (result == 0)
		result = quota_allow_new(fs, &creation.znode);
	if (result == 0)
		result = unnamed_make(fs, &creation, inode_out);
	creation_fini(&creation);
	inode_put(fs, folder);
	return result;
}
