/*
 * replay: what the records of a file system's intent log mean (engine/replay.c runs them).
 */
#include "fs/fs_internal.h"

#include <errno.h>

#define UID_LIMIT UINT32_MAX /* beyond: an identity of Windows (FUID) */

const struct log_flag log_flags[] = {
	{ 0x00002, ZFS_ARCHIVE },        { 0x00004, ZFS_SYSTEM },      { 0x00008, ZFS_READONLY },
	{ 0x00010, ZFS_HIDDEN },         { 0x00020, ZFS_NOUNLINK },    { 0x00040, ZFS_IMMUTABLE },
	{ 0x00080, ZFS_APPENDONLY },     { 0x00100, ZFS_NODUMP },      { 0x00200, ZFS_OPAQUE },
	{ 0x00400, ZFS_AV_QUARANTINED }, { 0x00800, ZFS_AV_MODIFIED }, { 0x02000, ZFS_REPARSE },
	{ 0x08000, ZFS_OFFLINE },        { 0x10000, ZFS_SPARSE },      { 0x20000, ZFS_PROJINHERIT },
};
const size_t log_flag_count = ARRAY_LENGTH(log_flags);

/* The texts at the end of a record; false: they do not end within it. */
static bool texts_find(const lr_t *record, const char *text, const char *texts[2],
		       unsigned int count)
{
	const char *end = (const char *)record + record->lrc_reclen;

	for (unsigned int i = 0; i < count; i++) {
		size_t room = text < end ? (size_t)(end - text) : 0;
		size_t length = strnlen(text, room);

		if (length == room)
			return false;
		texts[i] = text;
		text += length + 1;
	}
	return true;
}

static struct znode_claim claim_of(const _lr_create_t *record)
{
	return (struct znode_claim){
		.object = LR_FOID_GET_OBJ(record->lr_foid),
		.slots = LR_FOID_GET_SLOTS(record->lr_foid),
		.generation = record->lr_gen,
		.time = { record->lr_crtime[0], record->lr_crtime[1] },
	};
}

static struct sz_fs_new new_of(const _lr_create_t *record)
{
	return (struct sz_fs_new){
		.mode = (uint32_t)record->lr_mode,
		.uid = (uint32_t)record->lr_uid,
		.gid = (uint32_t)record->lr_gid,
		.rdev = rdev_decode(record->lr_rdev),
	};
}

static int replay_create(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_create_t *record = (const lr_create_t *)lr;
	const struct znode_claim claim = claim_of(&record->lr_create);
	const struct sz_fs_new new = new_of(&record->lr_create);
	bool is_symlink = lr->lrc_txtype == TX_SYMLINK;
	const char *texts[2] = { NULL, NULL };
	uint64_t object;

	(void)inode;
	(void)data;
	if (lr->lrc_reclen < sizeof(*record) || record->lr_create.lr_uid > UID_LIMIT ||
	    record->lr_create.lr_gid > UID_LIMIT ||
	    !texts_find(lr, (const char *)record->lr_data, texts, is_symlink ? 2 : 1))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	return entry_create(fs, record->lr_create.lr_doid, texts[0], &new, texts[1], &claim,
			    &object);
}

static int replay_make_xattr_folder(struct sz_fs *fs, struct inode *unused, const lr_t *lr,
				    const void *data)
{
	const lr_create_t *record = (const lr_create_t *)lr;
	const struct znode_claim claim = claim_of(&record->lr_create);
	const struct sz_fs_new new = new_of(&record->lr_create);
	struct inode *inode;
	int result;

	(void)unused;
	(void)data;
	if (lr->lrc_reclen < sizeof(*record))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	result = inode_get(fs, record->lr_create.lr_doid, &inode);
	if (result != 0)
		return result;
	(void)pthread_rwlock_wrlock(&inode->lock);
	result = xattr_folder_replay(fs, inode, &new, &claim);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return result;
}

static int replay_remove(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_remove_t *record = (const lr_remove_t *)lr;
	const char *texts[2];

	(void)inode;
	(void)data;
	if (lr->lrc_reclen < sizeof(*record) ||
	    !texts_find(lr, (const char *)record->lr_data, texts, 1))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	return entry_remove(fs, record->lr_doid, texts[0], lr->lrc_txtype == TX_RMDIR);
}

static int replay_link(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_link_t *record = (const lr_link_t *)lr;
	const char *texts[2];

	(void)inode;
	(void)data;
	if (lr->lrc_reclen < sizeof(*record) ||
	    !texts_find(lr, (const char *)record->lr_data, texts, 1))
		return -EOPNOTSUPP;
	return fs == NULL ? 0 : sz_fs_link(fs, record->lr_link_obj, record->lr_doid, texts[0]);
}

static int replay_rename(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_rename_whiteout_t *record = (const lr_rename_whiteout_t *)lr;
	bool is_whiteout = lr->lrc_txtype == TX_RENAME_WHITEOUT;
	size_t fixed = is_whiteout ? sizeof(*record) : sizeof(lr_rename_t);
	unsigned int flags = lr->lrc_txtype == TX_RENAME_EXCHANGE ? RENAME_EXCHANGE : 0;
	struct znode_claim claim = { 0 };
	const char *texts[2];

	(void)inode;
	(void)data;
	if (lr->lrc_reclen < fixed || !texts_find(lr, (const char *)lr + fixed, texts, 2))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	if (is_whiteout) {
		flags = RENAME_WHITEOUT;
		claim = (struct znode_claim){
			.object = LR_FOID_GET_OBJ(record->lr_wfoid),
			.slots = LR_FOID_GET_SLOTS(record->lr_wfoid),
			.generation = record->lr_wgen,
			.time = { record->lr_wcrtime[0], record->lr_wcrtime[1] },
		};
	}
	return entry_rename(fs, record->lr_rename.lr_sdoid, texts[0], record->lr_rename.lr_tdoid,
			    texts[1], flags, is_whiteout ? &claim : NULL);
}

/*
 * A block that stands elsewhere is written whole: a record that follows may only say that the file is
 * longer (TX_WRITE2).
 */
static int replay_write(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_write_t *record = (const lr_write_t *)lr;
	uint64_t offset = record->lr_offset;
	uint64_t length = record->lr_length;
	uint64_t end = offset + length;
	bool is_block = lr->lrc_reclen == sizeof(*record);

	if (lr->lrc_reclen < sizeof(*record) || end > INT64_MAX || end < offset ||
	    (!is_block && lr->lrc_reclen - sizeof(*record) < length))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	if (is_block && length < BP_GET_LSIZE(&record->lr_blkptr)) {
		length = BP_GET_LSIZE(&record->lr_blkptr);
		offset -= offset % length;
	}
	return S_ISREG(inode->mode) ? content_write(fs, inode, data, length, offset, end) : -EINVAL;
}

/* Its block was written by a record before. */
static int replay_write_size(struct sz_fs *fs, struct inode *inode, const lr_t *lr,
			     const void *data)
{
	const lr_write_t *record = (const lr_write_t *)lr;
	uint64_t end = record->lr_offset + record->lr_length;

	(void)data;
	if (lr->lrc_reclen < sizeof(*record) || end > INT64_MAX)
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	return S_ISREG(inode->mode) ? content_write(fs, inode, NULL, 0, 0, end) : -EINVAL;
}

static int replay_truncate(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_truncate_t *record = (const lr_truncate_t *)lr;

	(void)data;
	if (lr->lrc_reclen < sizeof(*record))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	return content_free(fs, inode, record->lr_offset, record->lr_length);
}

/* The attributes in flags behind a TX_SETATTR. */
static int flags_get(const lr_setattr_t *record, struct flags_change *flags_out)
{
	const lr_attr_t *attributes = (const void *)record->lr_data;
	const uint32_t *bitmap = &attributes->lr_attr_bitmap;
	const lr_attr_end_t *end;
	uint32_t known = LOG_FLAG_PROJECT;

	*flags_out = (struct flags_change){ 0 };
	if (record->lr_common.lrc_reclen < sizeof(*record) + ZIL_XVAT_SIZE(LOG_FLAG_WORDS) ||
	    attributes->lr_attr_masksize != LOG_FLAG_WORDS)
		return -EOPNOTSUPP;
	end = (const void *)(bitmap + LOG_FLAG_WORDS);
	for (size_t i = 0; i < log_flag_count; i++) {
		known |= log_flags[i].log;
		if ((bitmap[0] & log_flags[i].log) == 0)
			continue;
		flags_out->mask |= log_flags[i].flag;
		if ((end->lr_attr_attrs & log_flags[i].log) != 0)
			flags_out->value |= log_flags[i].flag;
	}
	if ((bitmap[0] & LOG_FLAG_PROJECT) != 0) {
		flags_out->sets_project = true;
		memcpy(&flags_out->project, end->lr_attr_scanstamp, sizeof(flags_out->project));
	}
	return (bitmap[0] & ~known) != 0 || bitmap[1] != 0 || bitmap[2] != 0 ? -EOPNOTSUPP : 0;
}

static unsigned int fields_of(uint64_t mask)
{
	return ((mask & LOG_MASK_MODE) != 0 ? SZ_SET_MODE : 0) |
	       ((mask & LOG_MASK_UID) != 0 ? SZ_SET_UID : 0) |
	       ((mask & LOG_MASK_GID) != 0 ? SZ_SET_GID : 0) |
	       ((mask & LOG_MASK_SIZE) != 0 ? SZ_SET_SIZE : 0) |
	       ((mask & LOG_MASK_ATIME) != 0 ? SZ_SET_ATIME : 0) |
	       ((mask & LOG_MASK_MTIME) != 0 ? SZ_SET_MTIME : 0);
}

static int setattr_apply(struct sz_fs *fs, struct inode *inode, unsigned int fields,
			 const struct stat *values, const struct flags_change *flags)
{
	int result = 0;

	if ((fields & SZ_SET_SIZE) != 0)
		result = S_ISREG(inode->mode) ? file_truncate(fs, inode, (uint64_t)values->st_size)
					      : -EINVAL;
	return result != 0 ? result : attributes_set(fs, inode, fields, values, flags);
}

static int replay_setattr(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_setattr_t *record = (const lr_setattr_t *)lr;
	struct flags_change flags;
	struct stat values;
	bool has_flags;
	int result;

	(void)data;
	if (lr->lrc_reclen < sizeof(*record) ||
	    ((record->lr_mask & LOG_MASK_UID) != 0 && record->lr_uid > UID_LIMIT) ||
	    ((record->lr_mask & LOG_MASK_GID) != 0 && record->lr_gid > UID_LIMIT))
		return -EOPNOTSUPP;
	has_flags = (record->lr_mask & LOG_MASK_XVATTR) != 0;
	result = has_flags ? flags_get(record, &flags) : 0;
	if (result != 0 || fs == NULL)
		return result;
	values = (struct stat){
		.st_mode = (mode_t)record->lr_mode,
		.st_uid = (uid_t)record->lr_uid,
		.st_gid = (gid_t)record->lr_gid,
		.st_size = (off_t)record->lr_size,
		.st_atim = { (time_t)record->lr_atime[0], (long)record->lr_atime[1] },
		.st_mtim = { (time_t)record->lr_mtime[0], (long)record->lr_mtime[1] },
	};
	return setattr_apply(fs, inode, fields_of(record->lr_mask), &values,
			     has_flags ? &flags : NULL);
}

static int replay_setxattr(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_setsaxattr_t *record = (const lr_setsaxattr_t *)lr;
	const char *texts[2];
	const char *value;

	(void)data;
	if (lr->lrc_reclen < sizeof(*record) ||
	    !texts_find(lr, (const char *)record->lr_data, texts, 1))
		return -EOPNOTSUPP;
	value = texts[0] + strlen(texts[0]) + 1;
	if (record->lr_size > (uint64_t)((const char *)lr + lr->lrc_reclen - value))
		return -EOPNOTSUPP;
	if (fs == NULL)
		return 0;
	return xattr_replay(fs, inode, texts[0], record->lr_size == 0 ? NULL : value,
			    record->lr_size);
}

static int replay_clone(struct sz_fs *fs, struct inode *inode, const lr_t *lr, const void *data)
{
	const lr_clone_range_t *record = (const lr_clone_range_t *)lr;

	(void)data;
	if (lr->lrc_reclen < sizeof(*record) ||
	    (lr->lrc_reclen - sizeof(*record)) / sizeof(record->lr_bps[0]) < record->lr_nbps)
		return -EOPNOTSUPP;
	return fs == NULL ? 0 : clone_replay(fs, inode, record);
}

/*
 * Replays a record; fs NULL: only looks whether it can be. inode: of a record about an inode's content
 * or attributes, under its content lock. data: of a write.
 */
typedef int replay_fn(struct sz_fs *fs, struct inode *inode, const lr_t *record, const void *data);

/* Without a function: ACLs of NFSv4, or attributes in flags of what is being made; Linux writes none. */
static replay_fn *const replay_functions[TX_MAX_TYPE] = {
	[TX_CREATE] = replay_create,
	[TX_MKDIR] = replay_create,
	[TX_MKXATTR] = replay_make_xattr_folder,
	[TX_SYMLINK] = replay_create,
	[TX_REMOVE] = replay_remove,
	[TX_RMDIR] = replay_remove,
	[TX_LINK] = replay_link,
	[TX_RENAME] = replay_rename,
	[TX_RENAME_EXCHANGE] = replay_rename,
	[TX_RENAME_WHITEOUT] = replay_rename,
	[TX_WRITE] = replay_write,
	[TX_WRITE2] = replay_write_size,
	[TX_TRUNCATE] = replay_truncate,
	[TX_SETATTR] = replay_setattr,
	[TX_SETSAXATTR] = replay_setxattr,
	[TX_CLONE_RANGE] = replay_clone,
};

static bool is_known(const lr_t *record)
{
	return replay_functions[record->lrc_txtype] != NULL &&
	       replay_functions[record->lrc_txtype](NULL, NULL, record, NULL) == 0;
}

/* What is logged of an inode's content may stand behind the record that removes the inode. */
static bool is_of_nothing(void *context, const lr_t *record)
{
	const lr_ooo_t *of = (const lr_ooo_t *)record;
	const struct sz_fs *fs = context;
	int error;

	if (!TX_OOO(record->lrc_txtype))
		return false;
	error = dmu_object_info(fs->os, LR_FOID_GET_OBJ(of->lr_foid), NULL);
	return error == ENOENT || error == EEXIST;
}

static int apply(void *context, const lr_t *record, const void *data)
{
	replay_fn *function = replay_functions[record->lrc_txtype];
	const lr_ooo_t *of = (const lr_ooo_t *)record;
	struct sz_fs *fs = context;
	struct inode *inode;
	int result;

	VERIFY(function != NULL); /* is_known */
	if (!TX_OOO(record->lrc_txtype))
		return function(fs, NULL, record, data);
	result = inode_get(fs, LR_FOID_GET_OBJ(of->lr_foid), &inode);
	if (result != 0)
		return result;
	content_lock(fs, inode);
	result = function(fs, inode, record, data);
	(void)pthread_rwlock_unlock(&inode->lock);
	inode_put(fs, inode);
	return result;
}

int replay_run(struct sz_fs *fs, struct sz_error *error)
{
	const struct sz_replay replay = {
		.os = fs->os,
		.name = fs->name,
		.is_known = is_known,
		.apply = apply,
		.is_of_nothing = is_of_nothing,
		.context = fs,
	};

	return sz_replay_run(&replay, error);
}
