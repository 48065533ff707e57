/*
 * xattr: extended attributes, where the kernel's ZFS keeps them. Small ones are a packed nvlist among
 * the inode's own attributes (ZPL_DXATTR, the property xattr=sa): reading them costs nothing. Each
 * one that does not fit there, or all with xattr=dir, is a file in a hidden folder of the inode
 * (ZPL_XATTR), with the attribute's name; both are flagged ZFS_XATTR.
 *
 * Invariants
 * 1. An attribute stands in one of the two places.
 * 2. A change is one transaction: at any time the attribute has its old value or its new one.
 * 3. The hidden folder and its files are nobody's but the inode's: its lock stands for theirs. They have
 *    its owner, and are freed with it.
 * 4. A POSIX ACL and the mode say the same, and change together; one that says no more than the mode is
 *    not stored.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <sys/xattr.h>

#define XATTR_VALUE_MAX 65536U /* XATTR_SIZE_MAX of Linux */
/* What the kernel's ZFS keeps among the inode's own attributes (DXATTR_MAX_*). */
#define LIST_VALUE_MAX  32768U /* a value */
#define LIST_FULL       65536U /* all of them, packed: from then on none is added */
#define NAMES_OF_ONE    2U     /* names under which an attribute may stand */

/* All attributes of an inode. */
struct xattrs {
	nvlist_t *list;       /* those among its own; an empty one if there are none */
	struct inode *folder; /* NULL: it has none */
};

int xattr_folder_get(struct sz_fs *fs, struct inode *inode, struct inode **folder_out)
{
	uint64_t object = inode_u64(fs, inode, ZPL_XATTR);

	*folder_out = NULL;
	return object == 0 ? 0 : inode_get(fs, object, folder_out);
}

static int list_load(struct sz_fs *fs, struct inode *inode, nvlist_t **list_out)
{
	int size = 0;
	int result = sa_size(inode->sa, fs->attr[ZPL_DXATTR], &size);
	CLEANUP_FREE char *packed = NULL;

	if (result == ENOENT || (result == 0 && size == 0)) {
		*list_out = fnvlist_alloc();
		return 0;
	}
	if (result != 0)
		return sz_zfs_error(result);
	packed = malloc((size_t)size);
	if (packed == NULL)
		return -ENOMEM;
	result = sa_lookup(inode->sa, fs->attr[ZPL_DXATTR], packed, (uint32_t)size);
	if (result == 0)
		result = nvlist_unpack(packed, (size_t)size, list_out, KM_SLEEP);
	return sz_zfs_error(result);
}

static void xattrs_close(struct sz_fs *fs, struct xattrs *xattrs)
{
	nvlist_free(xattrs->list);
	inode_put(fs, xattrs->folder);
}

/* Under the inode's lock. */
static int xattrs_open(struct sz_fs *fs, struct inode *inode, struct xattrs *xattrs_out)
{
	int result;

	*xattrs_out = (struct xattrs){ 0 };
	result = list_load(fs, inode, &xattrs_out->list);
	if (result == 0)
		result = xattr_folder_get(fs, inode, &xattrs_out->folder);
	if (result != 0)
		xattrs_close(fs, xattrs_out);
	return result;
}

/* Does a stored name say what kind of attribute it is? Those of FreeBSD are hidden from Linux. */
static bool name_has_prefix(const char *name)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security.", "system.",
						"freebsd:" };

	for (size_t i = 0; i < ARRAY_LENGTH(prefixes); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* An attribute of a user's stands with its prefix, or without, if another system's ZFS wrote it. */
static void names_of(const char *name, const char *names[NAMES_OF_ONE])
{
	names[0] = name;
	names[1] = NULL;
	if (strncmp(name, "user.", 5) == 0 && !name_has_prefix(name + 5) && name[5] != '\0')
		names[1] = name + 5;
}

/* The file of an attribute; NULL: there is none. */
static int file_find(struct sz_fs *fs, const struct xattrs *xattrs, const char *name,
		     struct inode **file_out)
{
	uint64_t object = 0;
	int result = -ENOENT;

	*file_out = NULL;
	if (xattrs->folder != NULL)
		result = entry_find(fs, xattrs->folder, name, &object);
	if (result == -ENOENT)
		return 0;
	return result == 0 ? inode_get(fs, object, file_out) : result;
}

static int file_read(struct sz_fs *fs, struct inode *file, void *value, size_t size,
		     size_t *size_out)
{
	uint64_t length = inode_u64(fs, file, ZPL_SIZE);

	*size_out = length;
	if (size == 0)
		return 0;
	if (size < length)
		return -ERANGE;
	return length == 0 ? 0 : sz_zfs_error(dmu_read_by_dnode(file->dnode, 0, length, value, 0));
}

static int value_get(struct sz_fs *fs, const struct xattrs *xattrs, const char *name, void *value,
		     size_t size, size_t *size_out)
{
	struct inode *file;
	uchar_t *data;
	uint_t length;
	int result;

	if (nvlist_lookup_byte_array(xattrs->list, name, &data, &length) == 0) {
		*size_out = length;
		if (size != 0 && size < length)
			return -ERANGE;
		if (size != 0)
			memcpy(value, data, length);
		return 0;
	}
	result = file_find(fs, xattrs, name, &file);
	if (result == 0)
		result = file == NULL ? -ENODATA : file_read(fs, file, value, size, size_out);
	inode_put(fs, file);
	return result;
}

int xattr_read(struct sz_fs *fs, struct inode *inode, const char *name, void **value_out,
	       size_t *size_out)
{
	CLEANUP_FREE void *value = NULL;
	struct xattrs xattrs;
	int result = xattrs_open(fs, inode, &xattrs);

	*value_out = NULL;
	if (result != 0)
		return result;
	result = value_get(fs, &xattrs, name, NULL, 0, size_out);
	if (result == 0) {
		value = malloc(*size_out + 1);
		result = value == NULL ? -ENOMEM
				       : value_get(fs, &xattrs, name, value, *size_out, size_out);
	}
	xattrs_close(fs, &xattrs);
	if (result == 0)
		*value_out = TAKE(value);
	return result;
}

int sz_fs_getxattr(struct sz_fs *fs, uint64_t number, const char *name, void *value, size_t size,
		   size_t *size_out)
{
	const char *names[NAMES_OF_ONE];
	struct xattrs xattrs;
	struct inode *inode;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	names_of(name, names);
	(void)pthread_rwlock_rdlock(&inode->lock);
	result = xattrs_open(fs, inode, &xattrs);
	if (result == 0) {
		result = value_get(fs, &xattrs, names[0], value, size, size_out);
		if (result == -ENODATA && names[1] != NULL)
			result = value_get(fs, &xattrs, names[1], value, size, size_out);
		xattrs_close(fs, &xattrs);
	}
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return result;
}

/* Names for the caller, one behind the other. */
struct names {
	char *to;
	size_t size; /* 0: only the length is asked for */
	size_t used;
};

static int names_add(struct names *names, const char *stored)
{
	const char *prefix = name_has_prefix(stored) ? "" : "user.";
	size_t length = strlen(prefix) + strlen(stored) + 1;

	if (strncmp(stored, "freebsd:", 8) == 0)
		return 0;
	if (names->size != 0) {
		if (names->size - names->used < length)
			return -ERANGE;
		(void)stpcpy(stpcpy(names->to + names->used, prefix), stored); /* NOLINT: checked */
	}
	names->used += length;
	return 0;
}

static int names_add_folder(struct sz_fs *fs, struct inode *folder, struct names *names)
{
	zap_attribute_t *entry = zap_attribute_alloc();
	zap_cursor_t cursor;
	int result = 0;
	int found;

	zap_cursor_init(&cursor, fs->os, folder->object);
	while (result == 0 && (found = zap_cursor_retrieve(&cursor, entry)) != ENOENT) {
		result = found == 0 ? names_add(names, entry->za_name) : sz_zfs_error(found);
		zap_cursor_advance(&cursor);
	}
	zap_cursor_fini(&cursor);
	zap_attribute_free(entry);
	return result;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): names are written through all.to */
int sz_fs_listxattr(struct sz_fs *fs, uint64_t number, char *names, size_t size, size_t *size_out)
{
	struct names all = { .to = names, .size = size };
	struct xattrs xattrs;
	struct inode *inode;
	nvpair_t *pair = NULL;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_rdlock(&inode->lock);
	result = xattrs_open(fs, inode, &xattrs);
	if (result == 0) {
		while (result == 0 && (pair = nvlist_next_nvpair(xattrs.list, pair)) != NULL)
			result = names_add(&all, nvpair_name(pair));
		if (result == 0 && xattrs.folder != NULL)
			result = names_add_folder(fs, xattrs.folder, &all);
		xattrs_close(fs, &xattrs);
	}
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	*size_out = all.used;
	return result;
}

/* A change of one attribute: what is to be done in its transaction. */
struct change {
	struct inode *inode;
	struct xattrs xattrs;
	const char *names[NAMES_OF_ONE];
	struct inode *files[NAMES_OF_ONE]; /* which it has, and which go */
	const void *value;                 /* NULL: it is removed */
	size_t size;
	bool sets_mode; /* an ACL does */
	uint32_t mode;
	bool list_changes;
	bool makes_file;
	bool drops_other; /* its other name is in the list */
	char *packed;     /* the list, if it changes */
	size_t packed_size;
};

/* Opens what there is. *exists_out: under one name or the other. */
static int change_find(struct sz_fs *fs, struct change *change, bool *exists_out)
{
	int result = xattrs_open(fs, change->inode, &change->xattrs);

	*exists_out = false;
	for (unsigned int i = 0; result == 0 && i < NAMES_OF_ONE; i++) {
		if (change->names[i] == NULL)
			continue;
		result = file_find(fs, &change->xattrs, change->names[i], &change->files[i]);
		*exists_out = *exists_out || change->files[i] != NULL ||
			      nvlist_exists(change->xattrs.list, change->names[i]);
	}
	return result;
}

/* Adds the attribute to the list if it has room for it, by the kernel's limits. */
static bool list_add(struct sz_fs *fs, struct change *change)
{
	nvlist_t *list = change->xattrs.list;

	if (fs->xattr_kind != ZFS_XATTR_SA || change->size > LIST_VALUE_MAX ||
	    fnvlist_size(list) > LIST_FULL)
		return false;
	fnvlist_add_byte_array(list, change->names[0], change->value, (uint_t)change->size);
	if (fnvlist_size(list) <= SA_ATTR_MAX_LEN)
		return true;
	fnvlist_remove(list, change->names[0]);
	return false;
}

static void change_plan(struct sz_fs *fs, struct change *change)
{
	for (unsigned int i = 0; i < NAMES_OF_ONE; i++) {
		if (change->names[i] == NULL ||
		    nvlist_remove_all(change->xattrs.list, change->names[i]) != 0)
			continue;
		change->list_changes = true;
		change->drops_other = change->drops_other || i > 0;
	}
	if (change->value != NULL && list_add(fs, change))
		change->list_changes = true;
	else if (change->value != NULL)
		change->makes_file = true;
	if (change->list_changes)
		change->packed = fnvlist_pack(change->xattrs.list, &change->packed_size);
}

static void change_holds(struct sz_fs *fs, const struct change *change, dmu_tx_t *tx)
{
	struct inode *folder = change->xattrs.folder;

	dmu_tx_hold_sa(tx, change->inode->sa, B_TRUE);
	if (change->list_changes)
		dmu_tx_hold_sa_create(tx, (int)change->packed_size);
	if (folder != NULL)
		dmu_tx_hold_sa(tx, folder->sa, B_FALSE);
	for (unsigned int i = 0; folder != NULL && i < NAMES_OF_ONE; i++) {
		if (change->files[i] == NULL)
			continue;
		dmu_tx_hold_zap_by_dnode(tx, folder->dnode, B_FALSE, change->names[i]);
		dmu_tx_hold_sa(tx, change->files[i]->sa, B_FALSE);
		dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
	}
	if (!change->makes_file) {
		if (change->value == NULL)
			dmu_tx_mark_netfree(tx);
		return;
	}
	if (folder == NULL)
		inode_new_holds(fs, tx, S_IFDIR, 0);
	else
		dmu_tx_hold_zap_by_dnode(tx, folder->dnode, B_TRUE, change->names[0]);
	inode_new_holds(fs, tx, S_IFREG, 0);
	if (change->size > 0)
		dmu_tx_hold_write(tx, DMU_NEW_OBJECT, 0, (int)change->size);
}

/* A new part of the inode's attributes, with its owner: the folder, or a file in it. */
static struct inode *part_make(struct sz_fs *fs, struct inode *inode, uint64_t parent,
			       uint32_t mode, dmu_tx_t *tx)
{
	const struct sz_fs_new new = { .mode = mode,
				       .uid = (uint32_t)inode_u64(fs, inode, ZPL_UID),
				       .gid = (uint32_t)inode_u64(fs, inode, ZPL_GID) };
	const struct znode_new znode = { .new = &new, .parent = parent, .flags = ZFS_XATTR };
	struct inode *part;

	/* It is there now: only memory can lack, and without that ZFS aborts anyway. */
	VERIFY0(inode_new(fs, &znode, tx, &part));
	return part;
}

static void file_make(struct sz_fs *fs, struct change *change, dmu_tx_t *tx)
{
	struct inode *inode = change->inode;
	struct inode *folder = change->xattrs.folder;
	struct inode *file;
	uint64_t size = change->size;
	uint64_t value;

	if (folder == NULL) {
		folder = part_make(fs, inode, inode->object, S_IFDIR | S_ISVTX | 0777, tx);
		change->xattrs.folder = folder;
		VERIFY0(sa_update(inode->sa, fs->attr[ZPL_XATTR], &folder->object, 8, tx));
	}
	file = part_make(fs, inode, folder->object, S_IFREG | 0644, tx);
	if (size > 0) {
		VERIFY0(dmu_object_set_blocksize(fs->os, file->object,
						 MIN(size, fs->os->os_recordsize), 0, tx));
		dmu_write_by_dnode(file->dnode, 0, size, change->value, tx);
		VERIFY0(sa_update(file->sa, fs->attr[ZPL_SIZE], &size, 8, tx));
	}
	value = entry_value(file);
	VERIFY0(zap_add(fs->os, folder->object, change->names[0], 8, 1, &value, tx));
	folder_update(fs, folder, 1, 0, tx);
	inode_put(fs, file);
}

/* What goes beyond the inode's own attributes, or one name, has no record. */
static void change_log(struct sz_fs *fs, const struct change *change, dmu_tx_t *tx)
{
	struct stat values = { .st_mode = change->mode };

	if (change->makes_file || change->files[0] != NULL || change->files[1] != NULL ||
	    change->drops_other || !log_can_setxattr(fs, change->value, change->size)) {
		log_barrier(fs, tx);
		return;
	}
	if (change->sets_mode)
		log_setattr(fs, tx, change->inode, SZ_SET_MODE, &values, NULL);
	if (change->list_changes)
		log_setxattr(fs, tx, change->inode, change->names[0], change->value,
			     change->value == NULL ? 0 : change->size);
}

static void change_apply(struct sz_fs *fs, struct change *change, dmu_tx_t *tx)
{
	struct inode *folder = change->xattrs.folder;
	sa_bulk_attr_t bulk[2 + MODE_CHANGE_BULK];
	struct mode_change mode;
	uint64_t ctime[2];
	int count = 0;

	for (unsigned int i = 0; folder != NULL && i < NAMES_OF_ONE; i++) {
		if (change->files[i] == NULL)
			continue;
		VERIFY0(zap_remove(fs->os, folder->object, change->names[i], tx));
		name_drop(fs, change->files[i], tx);
		folder_update(fs, folder, -1, 0, tx);
	}
	if (change->makes_file)
		file_make(fs, change, tx);
	if (change->sets_mode)
		mode_change_add(fs, change->inode, change->mode, &mode, bulk, &count);
	now_encode(ctime);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, ctime, 16);
	if (change->list_changes)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_DXATTR], NULL, change->packed,
				 (uint16_t)change->packed_size);
	VERIFY0(sa_bulk_update(change->inode->sa, bulk, count, tx));
	change_log(fs, change, tx);
}

static int change_commit(struct sz_fs *fs, struct change *change)
{
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	change_holds(fs, change, tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	change_apply(fs, change, tx);
	dmu_tx_commit(tx);
	return 0;
}

/* Under the inode's lock. */
static int change_run(struct sz_fs *fs, struct change *change, int flags)
{
	bool exists;
	int result = change_find(fs, change, &exists);

	if (result == 0 && !exists && (flags & XATTR_REPLACE) != 0)
		result = -ENODATA;
	if (result == 0 && exists && (flags & XATTR_CREATE) != 0)
		result = -EEXIST;
	if (result == 0 && (exists || change->value != NULL || change->sets_mode)) {
		change_plan(fs, change);
		result = change_commit(fs, change);
	}
	/* The files that went are freed. */
	for (unsigned int i = 0; i < NAMES_OF_ONE; i++)
		inode_put(fs, change->files[i]);
	xattrs_close(fs, &change->xattrs);
	fnvlist_pack_free(change->packed, change->packed_size);
	return result;
}

/* value NULL: removes the attribute. */
static int xattr_change(struct sz_fs *fs, uint64_t number, const char *name, const void *value,
			size_t size, int flags)
{
	struct change change = { .value = value, .size = size };
	int result = fs->read_only ? -EROFS : inode_get(fs, number, &change.inode);

	if (result != 0)
		return result;
	names_of(name, change.names);
	(void)pthread_rwlock_wrlock(&change.inode->lock);
	result = flags_allow(fs, change.inode, FLAGS_FIXED);
	if (result == 0)
		result = change_run(fs, &change, flags);
	(void)pthread_rwlock_unlock(&change.inode->lock);
	inode_put(fs, change.inode);
	return log_finish(fs, 0, result);
}

int xattr_replay(struct sz_fs *fs, struct inode *inode, const char *name, const void *value,
		 size_t size)
{
	struct change change = { .inode = inode, .names = { name }, .value = value, .size = size };

	return change_run(fs, &change, 0);
}

/* What an ACL becomes: an attribute, a mode, or both; without one, there is no attribute any more. */
static int acl_change_make(struct change *change, const char *name, const void *acl, size_t size)
{
	bool is_default = strcmp(name, POSIX_ACL_DEFAULT) == 0;
	bool is_extended = true;
	uint64_t special;
	int result = posix_acl_check(acl, size);

	if (result == 0 && S_ISLNK(change->inode->mode))
		result = -EOPNOTSUPP;
	change->names[0] = name;
	if (result != 0 || posix_acl_is_empty(size))
		return result;
	if (is_default && !S_ISDIR(change->inode->mode))
		return -EACCES;
	if (!is_default) {
		special = change->mode & 07000U;
		change->mode = (uint32_t)special | posix_acl_mode(acl, size, &is_extended);
		change->sets_mode = true;
	}
	if (is_extended) {
		change->value = acl;
		change->size = size;
	}
	return 0;
}

static int posix_acl_set(struct sz_fs *fs, uint64_t number, const char *name, const void *acl,
			 size_t size)
{
	struct change change = { 0 };
	int result = fs->read_only ? -EROFS : inode_get(fs, number, &change.inode);

	if (result != 0)
		return result;
	(void)pthread_rwlock_wrlock(&change.inode->lock);
	change.mode = (uint32_t)inode_u64(fs, change.inode, ZPL_MODE);
	result = flags_allow(fs, change.inode, FLAGS_FIXED);
	if (result == 0)
		result = acl_change_make(&change, name, acl, size);
	if (result == 0)
		result = change_run(fs, &change, 0);
	(void)pthread_rwlock_unlock(&change.inode->lock);
	inode_put(fs, change.inode);
	return log_finish(fs, 0, result);
}

int xattr_acl_chmod(struct sz_fs *fs, struct inode *inode, uint32_t mode, bool *done_out)
{
	struct change change = {
		.inode = inode, .names = { POSIX_ACL_ACCESS }, .sets_mode = true, .mode = mode
	};
	CLEANUP_FREE void *acl = NULL;
	int result = xattr_read(fs, inode, POSIX_ACL_ACCESS, &acl, &change.size);

	*done_out = false;
	if (result == -ENODATA)
		return 0;
	if (result == 0)
		result = posix_acl_check(acl, change.size);
	/* What is no ACL that we know follows no mode. */
	if (result == -EINVAL || result == -EOPNOTSUPP || posix_acl_is_empty(change.size))
		return 0;
	if (result != 0)
		return result;
	posix_acl_chmod(acl, change.size, mode);
	change.value = acl;
	*done_out = true;
	return change_run(fs, &change, 0);
}

static bool is_acl(const char *name)
{
	return strcmp(name, POSIX_ACL_ACCESS) == 0 || strcmp(name, POSIX_ACL_DEFAULT) == 0;
}

int sz_fs_setxattr(struct sz_fs *fs, uint64_t number, const char *name, const void *value,
		   size_t size, int flags)
{
	int result;

	if (name[0] == '\0' || strlen(name) > NAME_LIMIT)
		return -ERANGE;
	if (size > XATTR_VALUE_MAX)
		return -E2BIG;
	if (fs->xattr_kind == ZFS_XATTR_OFF && strncmp(name, "user.", 5) == 0)
		return -EOPNOTSUPP;
	result = new_data_admit(fs, size);
	if (result != 0)
		return result;
	if (is_acl(name))
		return posix_acl_set(fs, number, name, value, size);
	return xattr_change(fs, number, name, size == 0 ? "" : value, size, flags);
}

int sz_fs_removexattr(struct sz_fs *fs, uint64_t number, const char *name)
{
	/* To remove an ACL that is not there is no error. */
	return xattr_change(fs, number, name, NULL, 0, is_acl(name) ? 0 : XATTR_REPLACE);
}

int xattr_folder_replay(struct sz_fs *fs, struct inode *inode, const struct sz_fs_new *new,
			const struct znode_claim *claim)
{
	const struct znode_new znode = {
		.new = new, .parent = inode->object, .flags = ZFS_XATTR, .claim = claim
	};
	struct inode *folder;
	dmu_tx_t *tx;
	int result = sz_zfs_error(dnode_try_claim(fs->os, claim->object, (int)claim->slots));

	if (result == 0 && (!S_ISDIR(new->mode) || inode_u64(fs, inode, ZPL_XATTR) != 0))
		result = -EINVAL;
	if (result != 0)
		return result;
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_sa(tx, inode->sa, B_TRUE);
	inode_new_holds(fs, tx, S_IFDIR, 0);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	VERIFY0(inode_new(fs, &znode, tx, &folder));
	VERIFY0(sa_update(inode->sa, fs->attr[ZPL_XATTR], &folder->object, 8, tx));
	(void)zil_replaying(fs->log, tx);
	dmu_tx_commit(tx);
	inode_put(fs, folder);
	return 0;
}

/* Calls the function for each file in the folder; it may remove that one. */
typedef int part_fn(struct sz_fs *fs, struct inode *folder, const char *name, struct inode *file,
		    const void *context);
static int parts_each(struct sz_fs *fs, struct inode *folder, part_fn *function,
		      const void *context)
{
	zap_attribute_t *entry = zap_attribute_alloc();
	zap_cursor_t cursor;
	int result = 0;
	int found;

	zap_cursor_init(&cursor, fs->os, folder->object);
	while (result == 0 && (found = zap_cursor_retrieve(&cursor, entry)) != ENOENT) {
		struct inode *file = NULL;

		result = sz_zfs_error(found);
		if (result == 0)
			result = inode_get(fs, ZFS_DIRENT_OBJ(entry->za_first_integer), &file);
		if (result == 0)
			result = function(fs, folder, entry->za_name, file, context);
		inode_put(fs, file);
		zap_cursor_advance(&cursor);
	}
	zap_cursor_fini(&cursor);
	zap_attribute_free(entry);
	return result;
}

static int part_remove(struct sz_fs *fs, struct inode *folder, const char *name, struct inode *file,
		       const void *context)
{
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	(void)context;
	dmu_tx_hold_zap_by_dnode(tx, folder->dnode, B_FALSE, name);
	dmu_tx_hold_sa(tx, folder->sa, B_FALSE);
	dmu_tx_hold_sa(tx, file->sa, B_FALSE);
	dmu_tx_hold_zap(tx, fs->unlinked_set, B_TRUE, NULL);
	dmu_tx_mark_netfree(tx);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	VERIFY0(zap_remove(fs->os, folder->object, name, tx));
	name_drop(fs, file, tx);
	folder_update(fs, folder, -1, 0, tx);
	dmu_tx_commit(tx);
	return 0;
}

int xattr_folder_empty(struct sz_fs *fs, struct inode *folder)
{
	return parts_each(fs, folder, part_remove, NULL);
}

struct owner {
	unsigned int fields; /* SZ_SET_UID, SZ_SET_GID */
	uint64_t uid;
	uint64_t gid;
};

static int part_chown(struct sz_fs *fs, struct inode *folder, const char *name, struct inode *part,
		      const void *context)
{
	struct owner owner = *(const struct owner *)context;
	sa_bulk_attr_t bulk[3];
	uint64_t ctime[2];
	int count = 0;
	dmu_tx_t *tx = dmu_tx_create(fs->os);
	int result;

	(void)folder;
	(void)name;
	dmu_tx_hold_sa(tx, part->sa, B_FALSE);
	result = sz_tx_begin(tx);
	if (result != 0)
		return result;
	if ((owner.fields & SZ_SET_UID) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_UID], NULL, &owner.uid, 8);
	if ((owner.fields & SZ_SET_GID) != 0)
		SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_GID], NULL, &owner.gid, 8);
	now_encode(ctime);
	SA_ADD_BULK_ATTR(bulk, count, fs->attr[ZPL_CTIME], NULL, ctime, 16);
	VERIFY0(sa_bulk_update(part->sa, bulk, count, tx));
	dmu_tx_commit(tx);
	return 0;
}

int xattr_folder_chown(struct sz_fs *fs, struct inode *folder, unsigned int fields,
		       const struct stat *values)
{
	const struct owner owner = { .fields = fields,
				     .uid = values->st_uid,
				     .gid = values->st_gid };
	int result = part_chown(fs, NULL, NULL, folder, &owner);

	return result == 0 ? parts_each(fs, folder, part_chown, &owner) : result;
}
