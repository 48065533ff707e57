/*
 * inode: the table of open inodes, and the making of new ones.
 *
 * Invariants
 * 1. At most one struct inode an object; it holds the object's dnode and its one SA handle.
 * 2. An inode without references stays in the idle list, up to INODE_IDLE_MAX. So those that are held
 *    from outside cost an entry in the held table, not an open object.
 * 3. When an unlinked inode has no reference and is not held any more, its object is freed.
 */
#include "fs/fs_internal.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <time.h>

static char inode_tag[] = "inode";

void now_encode(uint64_t time[2])
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	time[0] = (uint64_t)now.tv_sec;
	time[1] = (uint64_t)now.tv_nsec;
}

int inode_table_init(struct sz_fs *fs)
{
	for (uint32_t i = 0; i < INODE_BUCKETS; i++)
		LIST_INIT(&fs->buckets[i]);
	TAILQ_INIT(&fs->idle);
	(void)pthread_mutex_init(&fs->table_lock, NULL);
	(void)pthread_mutex_init(&fs->rename_lock, NULL);
	(void)pthread_mutex_init(&fs->writeout_lock, NULL);
	(void)pthread_cond_init(&fs->writeout_done, NULL);
	SLIST_INIT(&fs->written);
	return 0;
}

static struct inode_bucket *bucket_of(struct sz_fs *fs, uint64_t object)
{
	return &fs->buckets[object % INODE_BUCKETS];
}

static void inode_destroy(struct inode *inode)
{
	sa_handle_destroy(inode->sa);
	dnode_rele(inode->dnode, inode_tag);
	(void)pthread_rwlock_destroy(&inode->lock);
	free(inode);
}

/* Under table_lock. */
static void table_remove(struct inode *inode)
{
	LIST_REMOVE(inode, in_bucket);
}

void inode_table_fini(struct sz_fs *fs)
{
	struct inode *inode;

	while ((inode = TAILQ_FIRST(&fs->idle)) != NULL) {
		TAILQ_REMOVE(&fs->idle, inode, in_idle);
		table_remove(inode);
		inode_destroy(inode);
	}
	held_fini(&fs->held);
	(void)pthread_mutex_destroy(&fs->table_lock);
	(void)pthread_mutex_destroy(&fs->rename_lock);
	(void)pthread_mutex_destroy(&fs->writeout_lock);
	(void)pthread_cond_destroy(&fs->writeout_done);
}

uint64_t inode_u64(struct sz_fs *fs, struct inode *inode, zpl_attr_t attribute)
{
	uint64_t value = 0;

	(void)sa_lookup(inode->sa, fs->attr[attribute], &value, sizeof(value));
	return value;
}

/* Opens the object. Under table_lock, so that nobody else does. */
static int inode_open(struct sz_fs *fs, uint64_t object, struct inode **inode_out)
{
	const struct held *held = held_find(&fs->held, object);
	struct inode *inode = calloc(1, sizeof(*inode));
	dmu_object_info_t info;
	uint64_t mode;
	int result;

	if (inode == NULL)
		return -ENOMEM;
	result = dnode_hold(fs->os, object, inode_tag, &inode->dnode);
	if (result != 0) {
		free(inode);
		return result == EEXIST || result == EINVAL ? -ENOENT : sz_zfs_error(result);
	}
	dmu_object_info_from_dnode(inode->dnode, &info);
	if (info.doi_bonus_type != DMU_OT_SA)
		result = ENOENT;
	if (result == 0)
		result = sa_handle_get(fs->os, object, NULL, SA_HDL_PRIVATE, &inode->sa);
	if (result != 0) {
		dnode_rele(inode->dnode, inode_tag);
		free(inode);
		return sz_zfs_error(result);
	}
	inode->object = object;
	(void)pthread_rwlock_init(&inode->lock, NULL);
	result = sa_lookup(inode->sa, fs->attr[ZPL_MODE], &mode, sizeof(mode));
	if (result != 0) {
		inode_destroy(inode);
		return sz_zfs_error(result);
	}
	inode->mode = (uint32_t)mode & S_IFMT;
	inode->unlinked = inode_u64(fs, inode, ZPL_LINKS) == 0;
	inode->is_unnamed = inode->unlinked && held != NULL && held->is_unnamed;
	*inode_out = inode;
	return 0;
}

/* Under table_lock. */
static struct inode *table_find(struct sz_fs *fs, uint64_t object)
{
	struct inode *inode;

	LIST_FOREACH(inode, bucket_of(fs, object), in_bucket)
		if (inode->object == object)
			return inode;
	return NULL;
}

/* -ENOENT: it is being freed. Under table_lock. */
static int reference_take(struct sz_fs *fs, struct inode *inode)
{
	if (inode->is_going)
		return -ENOENT;
	if (inode->references++ == 0) {
		TAILQ_REMOVE(&fs->idle, inode, in_idle);
		fs->idle_count--;
	}
	return 0;
}

int inode_get(struct sz_fs *fs, uint64_t object, struct inode **inode_out)
{
	struct inode *inode;
	dnode_t *dnode = NULL;
	int result = 0;

	*inode_out = NULL;
	if (object == 0)
		return -ENOENT;
	(void)pthread_mutex_lock(&fs->table_lock);
	inode = table_find(fs, object);
	if (inode == NULL) {
		/* Its block may have to be read: not under the lock. Held, it is in memory from then on. */
		(void)pthread_mutex_unlock(&fs->table_lock);
		if (dnode_hold(fs->os, object, inode_tag, &dnode) != 0)
			dnode = NULL;
		(void)pthread_mutex_lock(&fs->table_lock);
		inode = table_find(fs, object);
	}
	if (inode != NULL) {
		result = reference_take(fs, inode);
	} else {
		result = inode_open(fs, object, &inode);
		if (result == 0) {
			LIST_INSERT_HEAD(bucket_of(fs, object), inode, in_bucket);
			inode->references = 1;
		}
	}
	(void)pthread_mutex_unlock(&fs->table_lock);
	if (dnode != NULL)
		dnode_rele(dnode, inode_tag);
	if (result == 0)
		*inode_out = inode;
	return result;
}

/* The last reference went. True: the object is to be freed, and the inode with it. Under table_lock. */
static bool inode_retire(struct sz_fs *fs, struct inode *inode)
{
	struct held *held = inode->unlinked ? held_find(&fs->held, inode->object) : NULL;

	if (inode->unlinked && held == NULL) {
		/* Who still has its number is not to find it, nor to open it a second time while it is freed. */
		inode->is_going = true;
		return true;
	}
	if (held != NULL) {
		held->unlinked = true;
		held->is_unnamed = inode->is_unnamed;
	}
	TAILQ_INSERT_TAIL(&fs->idle, inode, in_idle);
	if (++fs->idle_count > INODE_IDLE_MAX) {
		struct inode *evicted = TAILQ_FIRST(&fs->idle);

		TAILQ_REMOVE(&fs->idle, evicted, in_idle);
		fs->idle_count--;
		table_remove(evicted);
		inode_destroy(evicted);
	}
	return false;
}

void inode_put(struct sz_fs *fs, struct inode *inode)
{
	bool is_over;

	if (inode == NULL)
		return;
	(void)pthread_mutex_lock(&fs->table_lock);
	is_over = --inode->references == 0 && inode_retire(fs, inode);
	(void)pthread_mutex_unlock(&fs->table_lock);
	if (is_over) {
		if (!fs->read_only)
			unlinked_free(fs, inode);
		(void)pthread_mutex_lock(&fs->table_lock);
		table_remove(inode);
		(void)pthread_mutex_unlock(&fs->table_lock);
		inode_destroy(inode);
	}
}

int sz_fs_hold(struct sz_fs *fs, uint64_t number)
{
	struct inode *inode;
	struct held *held;
	int result = inode_get(fs, number, &inode);

	if (result != 0)
		return result;
	(void)pthread_mutex_lock(&fs->table_lock);
	held = held_add(&fs->held, number);
	if (held != NULL)
		held->count++;
	(void)pthread_mutex_unlock(&fs->table_lock);
	inode_put(fs, inode);
	return held == NULL ? -ENOMEM : 0;
}

void sz_fs_release(struct sz_fs *fs, uint64_t number, uint64_t count)
{
	struct inode *inode;
	struct held *held;
	bool is_over = false;

	(void)pthread_mutex_lock(&fs->table_lock);
	held = held_find(&fs->held, number);
	if (held != NULL && held->count > count) {
		held->count -= count;
	} else if (held != NULL) {
		is_over = held->unlinked;
		held_remove(&fs->held, held);
	}
	(void)pthread_mutex_unlock(&fs->table_lock);
	if (is_over && inode_get(fs, number, &inode) == 0)
		inode_put_later(fs, inode);
}

void inode_release_all(struct sz_fs *fs)
{
	struct held_table held = fs->held;
	struct inode *inode;

	fs->held = (struct held_table){ 0 };
	for (size_t i = 0; i < held.slots; i++)
		if (held.entries[i].unlinked && inode_get(fs, held.entries[i].object, &inode) == 0)
			inode_put(fs, inode);
	held_fini(&held);
}

void inode_new_holds(struct sz_fs *fs, dmu_tx_t *tx, uint32_t mode, size_t extra)
{
	(void)fs;
	dmu_tx_hold_sa_create(tx, (int)(512 + extra));
	if (S_ISDIR(mode))
		dmu_tx_hold_zap(tx, DMU_NEW_OBJECT, B_TRUE, NULL);
}

/* On disk stands the kernel's own dev_t: 12 bits of major number, 20 of minor. */
static uint64_t rdev_encode(uint64_t rdev)
{
	return (uint64_t)major(rdev) << 20 | minor(rdev);
}

uint64_t rdev_decode(uint64_t stored)
{
	return makedev((unsigned int)(stored >> 20), (unsigned int)(stored & 0xfffff));
}

/* claim: NULL, or the number that it is to have, which dnode_try_claim has found to be free. */
static uint64_t object_make(objset_t *os, bool is_folder, int dnode_size,
			    const struct znode_claim *claim, dmu_tx_t *tx)
{
	int bonus = DN_BONUS_SIZE(dnode_size);

	if (claim == NULL)
		return is_folder ? zap_create_norm_dnsize(os, 0, DMU_OT_DIRECTORY_CONTENTS,
							  DMU_OT_SA, bonus, dnode_size, tx)
				 : dmu_object_alloc_dnsize(os, DMU_OT_PLAIN_FILE_CONTENTS, 0,
							   DMU_OT_SA, bonus, dnode_size, tx);
	if (is_folder)
		VERIFY0(zap_create_claim_norm_dnsize(os, claim->object, 0,
						     DMU_OT_DIRECTORY_CONTENTS, DMU_OT_SA, bonus,
						     dnode_size, tx));
	else
		VERIFY0(dmu_object_claim_dnsize(os, claim->object, DMU_OT_PLAIN_FILE_CONTENTS, 0,
						DMU_OT_SA, bonus, dnode_size, tx));
	return claim->object;
}

/* The order of the attributes is that of the kernel's zfs_mknode: it makes the same SA layout. */
uint64_t znode_create(objset_t *os, const sa_attr_type_t *attr, const struct znode_new *znode,
		      dmu_tx_t *tx)
{
	const struct sz_fs_new *new = znode->new;
	const char *target = znode->target;
	uint64_t parent = znode->parent;
	const struct znode_claim *claim = znode->claim;
	int dnode_size =
		claim != NULL ? (int)(claim->slots << DNODE_SHIFT) : (int)dmu_objset_dnodesize(os);
	uint64_t mode = new->mode;
	uint64_t size = S_ISDIR(new->mode) ? 2 : target != NULL ? strlen(target) : 0;
	uint64_t links = S_ISDIR(new->mode) ? 2 : 1;
	uint64_t generation = claim != NULL ? claim->generation : dmu_tx_get_txg(tx);
	uint64_t uid = new->uid;
	uint64_t gid = new->gid;
	uint64_t rdev = rdev_encode(new->rdev);
	uint64_t flags = ZFS_ARCHIVE | ZFS_AV_MODIFIED | acl_flags(new->mode) | znode->flags;
	uint64_t project = znode->project;
	uint64_t now[2];
	struct acl_trivial acl;
	sa_bulk_attr_t bulk[ZPL_END];
	sa_handle_t *sa;
	uint64_t object;
	int count = 0;

	object = object_make(os, S_ISDIR(new->mode), dnode_size == 0 ? DNODE_MIN_SIZE : dnode_size,
			     claim, tx);
	VERIFY0(sa_handle_get(os, object, NULL, SA_HDL_PRIVATE, &sa));
	if (parent == 0)
		parent = object;
	if ((S_ISREG(new->mode) || S_ISDIR(new->mode)) && dmu_objset_projectquota_enabled(os))
		flags |= ZFS_PROJID;
	if (S_ISDIR(new->mode))
		flags |= ZFS_ACL_AUTO_INHERIT;
	now_encode(now);
	if (claim != NULL)
		memcpy(now, claim->time, sizeof(now));
	acl_trivial_make(new->mode, &acl);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_MODE], NULL, &mode, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_SIZE], NULL, &size, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_GEN], NULL, &generation, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_UID], NULL, &uid, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_GID], NULL, &gid, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_PARENT], NULL, &parent, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_FLAGS], NULL, &flags, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_ATIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_MTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_CTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_CRTIME], NULL, now, 16);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_LINKS], NULL, &links, 8);
	if ((flags & ZFS_PROJID) != 0)
		SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_PROJID], NULL, &project, 8);
	if (S_ISBLK(new->mode) || S_ISCHR(new->mode))
		SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_RDEV], NULL, &rdev, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_DACL_COUNT], NULL, &acl.count, 8);
	SA_ADD_BULK_ATTR(bulk, count, attr[ZPL_DACL_ACES], NULL, acl.entries,
			 (uint16_t)acl.size_bytes);
	VERIFY0(sa_replace_all_by_template(sa, bulk, count, tx));
	if (target != NULL) {
		CLEANUP_FREE char *copy = strdup(target); /* sa_update takes no const */

		VERIFY(copy != NULL);
		VERIFY0(sa_update(sa, attr[ZPL_SYMLINK], copy, (uint32_t)size, tx));
	}
	if (znode->xattrs != NULL)
		VERIFY0(sa_update(sa, attr[ZPL_DXATTR], znode->xattrs, (uint32_t)znode->xattrs_size,
				  tx));
	sa_handle_destroy(sa);
	return object;
}

int inode_new(struct sz_fs *fs, const struct znode_new *znode, dmu_tx_t *tx,
	      struct inode **inode_out)
{
	return inode_get(fs, znode_create(fs->os, fs->attr, znode, tx), inode_out);
}
