/*
 * open: ZFS lets a dataset be open once, so all who have a volume open share it, and the last one closes it.
 */
#include "volume/volume_internal.h"

#include <errno.h>

static char open_tag[] = "volume";

/* Opening and closing is done by one at a time: both wait for the disk under this lock, which no I/O on a volume takes. */
static pthread_mutex_t opened_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(opened_list, sz_volume) opened = LIST_HEAD_INITIALIZER(opened);

static struct sz_volume *opened_find(const char *full)
{
	struct sz_volume *volume;

	LIST_FOREACH(volume, &opened, in_opened)
		if (strcmp(volume->name, full) == 0)
			return volume;
	return NULL;
}

/* Of a dataset that is owned. */
static int parts_open(struct sz_volume *volume, bool read_only, struct sz_error *error)
{
	int result = volume_sizes(volume->os, &volume->size_bytes, &volume->block_bytes);

	if (result == 0)
		result =
			sz_zfs_error(dnode_hold(volume->os, DATA_OBJECT, open_tag, &volume->dnode));
	if (result != 0)
		return sz_fail(error, result, "cannot read what the volume %s is", volume->name);
	result = sz_checksums_check(volume->os, volume->name, error);
	if (result == 0)
		result = volume_log_open(volume, read_only, error);
	if (result != 0)
		dnode_rele(volume->dnode, open_tag);
	return result;
}

static int open_new(struct sz_pool *pool, const char *name, const char *full,
		    struct sz_volume **volume_out, struct sz_error *error)
{
	CLEANUP_FREE struct sz_volume *volume = calloc(1, sizeof(*volume));
	bool read_only = sz_pool_is_read_only(pool) || strchr(full, '@') != NULL;
	uint64_t property = 0;
	int result;

	if (volume == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	volume->pool = pool;
	(void)strlcpy(volume->name, full, sizeof(volume->name));
	result = dsl_prop_get_integer(full, zfs_prop_to_name(ZFS_PROP_READONLY), &property, NULL);
	read_only = read_only || property != 0;
	if (result == 0)
		result = dmu_objset_own(full, DMU_OST_ZVOL, read_only, B_FALSE, open_tag,
					&volume->os);
	if (result != 0)
		return volume_fail(error, result, name);
	zfs_rangelock_init(&volume->ranges, NULL, NULL);
	result = parts_open(volume, read_only, error);
	if (result != 0) {
		zfs_rangelock_fini(&volume->ranges);
		sz_objset_disown(volume->os, open_tag);
		return result;
	}
	*volume_out = TAKE(volume);
	return 0;
}

int sz_volume_open(struct sz_pool *pool, const char *name, struct sz_volume **volume_out,
		   struct sz_error *error)
{
	char full[SZ_DATASET_NAME_BYTES];
	struct sz_volume *volume;
	int result = volume_name(name, full, error);

	if (result != 0)
		return result;
	(void)pthread_mutex_lock(&opened_lock);
	volume = opened_find(full);
	if (volume == NULL) {
		result = open_new(pool, name, full, &volume, error);
		if (result == 0)
			LIST_INSERT_HEAD(&opened, volume, in_opened);
	}
	if (result == 0) {
		volume->users++;
		*volume_out = volume;
	}
	(void)pthread_mutex_unlock(&opened_lock);
	return result;
}

void sz_volume_close(struct sz_volume *volume)
{
	(void)pthread_mutex_lock(&opened_lock);
	if (--volume->users == 0) {
		LIST_REMOVE(volume, in_opened);
		volume_log_close(volume);
		dnode_rele(volume->dnode, open_tag);
		zfs_rangelock_fini(&volume->ranges);
		sz_objset_disown(volume->os, open_tag);
		free(volume);
	}
	(void)pthread_mutex_unlock(&opened_lock);
}

uint64_t sz_volume_size(const struct sz_volume *volume)
{
	return volume->size_bytes;
}

uint32_t sz_volume_block(const struct sz_volume *volume)
{
	return volume->block_bytes;
}

bool sz_volume_is_read_only(const struct sz_volume *volume)
{
	return volume->log == NULL;
}
