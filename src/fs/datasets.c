/*
 * datasets: the file systems of a pool beside the one that was opened first, the head. ZFS lets each be open once, so all
 * who use one share it, and the last one closes it; likewise snapshots (snapshots.c).
 *
 * A dataset has its place in its parent's root folder, under its own name, as a kernel mounts it there; unless a
 * mountpoint of its own is set, or its canmount is off or noauto.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <stdio.h>
#include <zfs_namecheck.h>

static char datasets_tag[] = "datasets";

static bool is_snapshot(const struct sz_fs *fs)
{
	return strchr(fs->name, '@') != NULL;
}

static int has_place(const char *dataset, bool *has_place_out)
{
	char mountpoint[ZAP_MAXVALUELEN];
	char source[ZFS_MAX_DATASET_NAME_LEN];
	uint64_t canmount = ZFS_CANMOUNT_ON;
	int result =
		dsl_prop_get_integer(dataset, zfs_prop_to_name(ZFS_PROP_CANMOUNT), &canmount, NULL);

	if (result == 0)
		result = dsl_prop_get(dataset, zfs_prop_to_name(ZFS_PROP_MOUNTPOINT), 1,
				      sizeof(mountpoint), mountpoint, source);
	if (result != 0)
		return sz_zfs_error(result);
	*has_place_out = canmount == ZFS_CANMOUNT_ON && strcmp(source, dataset) != 0;
	return 0;
}

/* The full name of a dataset below another. */
static bool name_join(const struct sz_fs *fs, const char *name, char full[SZ_DATASET_NAME_BYTES])
{
	namecheck_err_t why;
	char what;

	if (is_snapshot(fs) || is_dot(name) || zfs_component_namecheck(name, &why, &what) != 0 ||
	    strlen(fs->name) + 1 + strlen(name) >= SZ_DATASET_NAME_BYTES)
		return false;
	(void)stpcpy(stpcpy(stpcpy(full, fs->name), "/"), name); /* NOLINT: checked */
	return true;
}

int sz_fs_is_child(struct sz_fs *fs, const char *name, bool *is_child_out)
{
	char full[SZ_DATASET_NAME_BYTES];
	bool is_fs;
	objset_t *os;
	int result;

	*is_child_out = false;
	if (!name_join(fs, name, full))
		return 0;
	result = dmu_objset_hold(full, datasets_tag, &os);
	if (result != 0)
		return result == ENOENT ? 0 : sz_zfs_error(result);
	is_fs = dmu_objset_type(os) == DMU_OST_ZFS;
	dmu_objset_rele(os, datasets_tag);
	return is_fs ? has_place(full, is_child_out) : 0;
}

/* from: the head, or another that is open beside it. */
static int shared_open(struct sz_fs *from, const char *full, struct sz_fs **fs_out,
		       struct sz_error *error)
{
	struct sz_fs *head = from->of != NULL ? from->of : from;
	const char *dataset =
		full[strlen(SZ_POOL_NAME)] == '/' ? full + strlen(SZ_POOL_NAME) + 1 : NULL;
	struct sz_fs *fs;
	int result = 0;

	if (strcmp(head->name, full) == 0) {
		*fs_out = head;
		return 0;
	}
	(void)pthread_mutex_lock(&head->snapshots_lock); /* opened by one at a time */
	fs = sz_fs_opened_find(head, full);
	if (fs == NULL) {
		result = sz_fs_open(head->pool, dataset, head->read_only, &fs, error);
		if (result == 0) {
			fs->of = head;
			LIST_INSERT_HEAD(&head->snapshots, fs, in_snapshots);
		}
	}
	if (result == 0) {
		fs->users++;
		*fs_out = fs;
	}
	(void)pthread_mutex_unlock(&head->snapshots_lock);
	return result;
}

int sz_fs_dataset_open(struct sz_fs *head, const char *dataset, struct sz_fs **fs_out,
		       struct sz_error *error)
{
	char full[SZ_DATASET_NAME_BYTES];
	int result = sz_dataset_name(dataset, NULL, full);

	return result != 0 ? sz_fail(error, result, "the dataset's name is too long")
			   : shared_open(head, full, fs_out, error);
}

int sz_fs_child_open(struct sz_fs *fs, const char *name, struct sz_fs **child_out,
		     struct sz_error *error)
{
	char full[SZ_DATASET_NAME_BYTES];

	if (!name_join(fs, name, full))
		return sz_fail(error, -ENOENT, "there is no dataset '%s'", name);
	return shared_open(fs, full, child_out, error);
}

void sz_fs_dataset_close(struct sz_fs *fs)
{
	if (fs->of != NULL)
		sz_fs_snapshot_close(fs);
}

/* The names of the datasets below, into an array that the caller frees. */
static int children_read(struct sz_fs *fs, char (**names_out)[SZ_DATASET_NAME_BYTES],
			 size_t *count_out)
{
	char(*names)[SZ_DATASET_NAME_BYTES] = NULL;
	char name[SZ_DATASET_NAME_BYTES];
	uint64_t cookie = 0;
	size_t count = 0;
	objset_t *os;
	int result = dmu_objset_hold(fs->name, datasets_tag, &os);

	if (result != 0)
		return sz_zfs_error(result);
	while (result == 0) {
		char(*grown)[SZ_DATASET_NAME_BYTES];

		result = dmu_dir_list_next(os, sizeof(name), name, NULL, &cookie);
		if (result != 0)
			break;
		grown = reallocarray(names, count + 1, sizeof(*names));
		if (grown == NULL) {
			result = ENOMEM;
			break;
		}
		names = grown;
		memcpy(names[count++], name, sizeof(name));
	}
	dmu_objset_rele(os, datasets_tag);
	if (result != ENOENT) {
		free(names);
		return sz_zfs_error(result);
	}
	*names_out = names;
	*count_out = count;
	return 0;
}

int sz_fs_children_place(struct sz_fs *fs)
{
	CLEANUP_FREE char(*names)[SZ_DATASET_NAME_BYTES] = NULL;
	struct stat root;
	size_t count = 0;
	int result = fs->read_only ? 0 : sz_fs_getattr(fs, fs->root, &root);

	if (fs->read_only || result != 0)
		return result;
	result = children_read(fs, &names, &count);
	for (size_t i = 0; result == 0 && i < count; i++) {
		const struct sz_fs_new new = { .mode = S_IFDIR | 0755,
					       .uid = root.st_uid,
					       .gid = root.st_gid };
		uint64_t number;
		bool is_child;

		result = sz_fs_is_child(fs, names[i], &is_child);
		if (result != 0 || !is_child)
			continue;
		result = sz_fs_lookup(fs, fs->root, names[i], &number);
		if (result == -ENOENT)
			result = sz_fs_mkdir(fs, fs->root, names[i], &new, &number);
	}
	return result;
}

struct owner {
	uint32_t uid;
	uint32_t gid;
};

static void dataset_fill(objset_t *os, void *argument, cred_t *cr, dmu_tx_t *tx)
{
	const struct owner *owner = argument;

	(void)cr;
	format_in(os, owner->uid, owner->gid, tx);
}

static int parent_open(struct sz_fs *head, const char *dataset, struct sz_fs **fs_out,
		       struct sz_error *error)
{
	const char *slash = strrchr(dataset, '/');
	CLEANUP_FREE char *parent =
		slash == NULL ? NULL : strndup(dataset, (size_t)(slash - dataset));

	return slash != NULL && parent == NULL ? sz_fail(error, -ENOMEM, "no memory")
					       : sz_fs_dataset_open(head, parent, fs_out, error);
}

static int entry_seen(void *context, const char *name, uint64_t number, uint32_t mode_type,
		      uint64_t next_cookie)
{
	bool *is_empty = context;

	(void)number;
	(void)mode_type;
	(void)next_cookie;
	*is_empty = *is_empty && is_dot(name);
	return *is_empty ? 0 : 1;
}

/* What is in that place could not be reached any more. -EEXIST */
static int place_check(struct sz_fs *fs, const char *name)
{
	bool is_empty = true;
	bool is_child = false;
	uint64_t number;
	struct stat stat;
	int result = sz_fs_lookup(fs, fs->root, name, &number);

	if (result == -ENOENT)
		return 0;
	if (result == 0)
		result = sz_fs_is_child(fs, name, &is_child);
	if (result == 0)
		result = sz_fs_getattr(fs, number, &stat);
	if (result != 0 || is_child)
		return result;
	if (!S_ISDIR(stat.st_mode))
		return -EEXIST;
	result = sz_fs_readdir(fs, number, 0, entry_seen, &is_empty);
	return result >= 0 && !is_empty ? -EEXIST : result;
}

/* The parent's not being there is told by who makes the dataset. */
static int dataset_check(struct sz_fs *head, const char *dataset, struct sz_error *error)
{
	const char *slash = strrchr(dataset, '/');
	const char *name = slash == NULL ? dataset : slash + 1;
	struct sz_error ignored = { 0 };
	struct sz_fs *fs = NULL;
	int result = parent_open(head, dataset, &fs, &ignored);

	if (result != 0 || fs == NULL)
		return 0;
	result = place_check(fs, name);
	sz_fs_dataset_close(fs);
	if (result == -EEXIST)
		return sz_fail(error, result,
			       "'%s' is there already, and is no empty folder: the dataset '%s' "
			       "would hide it; move it first",
			       name, dataset);
	return result == 0 ? 0
			   : sz_fail(error, result, "cannot look for '%s': %s", name,
				     strerror(-result));
}

/* The folder that stands for it. */
static int dataset_place(struct sz_fs *head, const char *dataset, struct sz_error *error)
{
	struct sz_fs *fs = NULL;
	int result = parent_open(head, dataset, &fs, error);

	if (result != 0 || fs == NULL)
		return result;
	result = sz_fs_children_place(fs);
	sz_fs_dataset_close(fs);
	return result == 0 ? 0
			   : sz_fail(error, result, "the dataset '%s' is there, but has no folder",
				     dataset);
}

int sz_fs_dataset_create(struct sz_fs *head, const char *dataset, uint32_t uid, uint32_t gid,
			 struct sz_error *error)
{
	struct owner owner = { .uid = uid, .gid = gid };
	char full[SZ_DATASET_NAME_BYTES];
	int result = sz_dataset_name_check(dataset, "dataset", full, error);

	if (result != 0)
		return result;
	if (head->read_only)
		return sz_fail(error, -EROFS, "the pool is open for reading only");
	result = dataset_check(head, dataset, error);
	if (result != 0)
		return result;
	result = dmu_objset_create(full, DMU_OST_ZFS, 0, NULL, dataset_fill, &owner);
	if (result == EEXIST)
		return sz_fail(error, -EEXIST, "there is a dataset '%s' already", dataset);
	if (result == ENOENT)
		return sz_fail(error, -ENOENT, "there is no dataset above '%s'", dataset);
	if (result == ZFS_ERR_WRONG_PARENT)
		return sz_fail(error, -EINVAL,
			       "there is a volume above '%s', which has no datasets", dataset);
	if (result != 0)
		return sz_fail(error, sz_zfs_error(result), "cannot make the dataset '%s'",
			       dataset);
	return dataset_place(head, dataset, error);
}
