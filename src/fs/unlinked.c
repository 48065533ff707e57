/*
 * unlinked: the delete queue. A file whose last name went is in the dataset's unlinked set, in the
 * same transaction; it is freed when nobody uses it any more, or when the dataset is opened next.
 */
#include "fs/fs_internal.h"

#include <errno.h>

/* What is in it goes first: a file's blocks, the files in a folder of extended attributes. */
static int content_drop(struct sz_fs *fs, struct inode *inode)
{
	if (S_ISREG(inode->mode))
		return sz_zfs_error(dmu_free_long_range(fs->os, inode->object, 0, DMU_OBJECT_END));
	if (S_ISDIR(inode->mode) && (inode_u64(fs, inode, ZPL_FLAGS) & ZFS_XATTR) != 0)
		return xattr_folder_empty(fs, inode);
	return 0;
}

/*
 * Frees an unlinked object and takes it out of the set; the folder of its extended attributes takes its
 * place there. What fails here is done at the next opening.
 */
void unlinked_free(struct sz_fs *fs, struct inode *inode)
{
	struct inode *xattrs = NULL;
	dmu_tx_t *tx;

	if (content_drop(fs, inode) != 0 || xattr_folder_get(fs, inode, &xattrs) != 0)
		return;
	tx = dmu_tx_create(fs->os);
	dmu_tx_hold_free(tx, inode->object, 0, DMU_OBJECT_END);
	dmu_tx_hold_zap(tx, fs->unlinked_set, xattrs != NULL, NULL);
	dmu_tx_hold_sa(tx, inode->sa, B_FALSE);
	if (xattrs != NULL)
		dmu_tx_hold_sa(tx, xattrs->sa, B_FALSE);
	dmu_tx_mark_netfree(tx);
	if (sz_tx_begin(tx) == 0) {
		(void)zap_remove_int(fs->os, fs->unlinked_set, inode->object, tx);
		if (xattrs != NULL)
			name_drop(fs, xattrs, tx);
		VERIFY0(dmu_object_free(fs->os, inode->object, tx));
		dmu_tx_commit(tx);
	}
	inode_put(fs, xattrs);
}

static void *freer_run(void *argument)
{
	struct sz_fs *fs = argument;
	struct freer *freer = &fs->freer;

	(void)pthread_setname_np(pthread_self(), "freer");
	(void)pthread_mutex_lock(&freer->lock);
	for (;;) {
		struct inode *inode;

		while (freer->count == 0 && !freer->ends)
			(void)pthread_cond_wait(&freer->added, &freer->lock);
		if (freer->count == 0)
			break;
		inode = freer->inodes[--freer->count];
		(void)pthread_mutex_unlock(&freer->lock);
		inode_put(fs, inode);
		(void)pthread_mutex_lock(&freer->lock);
	}
	(void)pthread_mutex_unlock(&freer->lock);
	return NULL;
}

int freer_start(struct sz_fs *fs)
{
	int result;

	(void)pthread_mutex_init(&fs->freer.lock, NULL);
	(void)pthread_cond_init(&fs->freer.added, NULL);
	result = -pthread_create(&fs->freer.thread, NULL, freer_run, fs);
	fs->freer.runs = result == 0;
	return result;
}

void freer_stop(struct sz_fs *fs)
{
	if (!fs->freer.runs)
		return;
	(void)pthread_mutex_lock(&fs->freer.lock);
	fs->freer.ends = true;
	(void)pthread_cond_signal(&fs->freer.added);
	(void)pthread_mutex_unlock(&fs->freer.lock);
	(void)pthread_join(fs->freer.thread, NULL);
	(void)pthread_mutex_destroy(&fs->freer.lock);
	(void)pthread_cond_destroy(&fs->freer.added);
	fs->freer.runs = false;
}

void inode_put_later(struct sz_fs *fs, struct inode *inode)
{
	struct freer *freer = &fs->freer;
	bool is_taken = false;

	if (freer->runs && inode->unlinked && S_ISREG(inode->mode) &&
	    inode_u64(fs, inode, ZPL_SIZE) >= LARGE_BYTES) {
		(void)pthread_mutex_lock(&freer->lock);
		is_taken = freer->count < FREER_MAX;
		if (is_taken) {
			freer->inodes[freer->count++] = inode;
			(void)pthread_cond_signal(&freer->added);
		}
		(void)pthread_mutex_unlock(&freer->lock);
	}
	if (!is_taken)
		inode_put(fs, inode);
}

int unlinked_drain(struct sz_fs *fs)
{
	CLEANUP_FREE uint64_t *objects = NULL;
	zap_cursor_t cursor;
	zap_attribute_t *entry;
	uint64_t room = 0;
	uint64_t count = 0;
	int result = zap_count(fs->os, fs->unlinked_set, &room);

	if (result != 0)
		return sz_zfs_error(result);
	if (room == 0)
		return 0;
	objects = calloc(room, sizeof(*objects));
	entry = zap_attribute_alloc();
	if (objects == NULL || entry == NULL)
		return -ENOMEM;
	for (zap_cursor_init(&cursor, fs->os, fs->unlinked_set);
	     count < room && zap_cursor_retrieve(&cursor, entry) == 0; zap_cursor_advance(&cursor))
		objects[count++] = entry->za_first_integer;
	zap_cursor_fini(&cursor);
	zap_attribute_free(entry);
	for (uint64_t i = 0; i < count; i++) {
		struct inode *inode;

		if (inode_get(fs, objects[i], &inode) != 0)
			continue;
		inode->unlinked = true;
		inode_put(fs, inode);
	}
	return 0;
}
