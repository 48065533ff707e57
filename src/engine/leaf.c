/*
 * leaf: the vdev driver under ZFS. Its one idea: libzpool's table of vdev types refers to the
 * global symbol vdev_disk_ops, so the definition in this program takes the place of the library's.
 *
 * Invariants
 * 1. A zio is completed exactly once, by zio_interrupt, from a worker or (without I/O) at once.
 * 2. A read never ends with ECKSUM, and damage ends with success and filler, which ZFS's own
 *    checksum finds; but with EIO for reads that ZFS does not check (REMOVAL, REBUILD).
 * 3. A leaf never opens anything but a device of the store that was set.
 */
#include "engine/engine_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define WORKERS                                                                                    \
	8U /* 8 gave 1.4 times what 4 gave: the host's disk likes several requests at once */
#define QUEUE             16384U /* zios; ZFS keeps at most about 1,000 a leaf in flight */

/* A write that meets a full disk is tried again for this long before ZFS is told: space may come back. */
#define NO_SPACE_RETRY_MS 3000U
#define NO_SPACE_PAUSE_MS 200U

#define LEAF_ASHIFT       12U

static const char path_prefix[] = "/szpool/";

static struct sz_store *leaf_store;

/* The queue of zios. All under queue_lock. */
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_cond_t queue_drained = PTHREAD_COND_INITIALIZER;
static zio_t *queue[QUEUE];
static unsigned int queue_head;
static unsigned int queue_length;
static bool queue_stopping;
static pthread_t workers[WORKERS];
static unsigned int worker_count;

void sz_leaf_set_store(struct sz_store *store)
{
	leaf_store = store;
}

void sz_leaf_path(uint32_t index, char path[32])
{
	(void)snprintf(path, 32, "%s%u", path_prefix, index);
}

int sz_leaf_parse(const char *path, uint32_t *index_out)
{
	char *end;
	unsigned long index;

	if (path == NULL || strncmp(path, path_prefix, sizeof(path_prefix) - 1) != 0)
		return -ENOENT;
	path += sizeof(path_prefix) - 1;
	if (*path < '0' || *path > '9')
		return -ENOENT;
	index = strtoul(path, &end, 10);
	if (*end != '\0' || index >= SZ_DEVICES_MAX)
		return -ENOENT;
	*index_out = (uint32_t)index;
	return 0;
}

static void pause_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&time, NULL);
}

static bool read_is_checked(const zio_t *zio)
{
	return zio->io_priority != ZIO_PRIORITY_REMOVAL && zio->io_priority != ZIO_PRIORITY_REBUILD;
}

static int leaf_read(zio_t *zio, struct sz_device *device)
{
	uint32_t count = (uint32_t)(zio->io_size / SZ_SECTOR_BYTES);
	void *buffer = abd_borrow_buf(zio->io_abd, zio->io_size);
	int result = sz_device_read(device, zio->io_offset / SZ_SECTOR_BYTES, count, buffer);

	if (result == -EBADMSG && read_is_checked(zio))
		result = 0;
	else if (result == -EBADMSG)
		result = -EIO;
	if (result != 0)
		memset(buffer, 0, zio->io_size);
	abd_return_buf_copy(zio->io_abd, buffer, zio->io_size);
	return result;
}

static int leaf_write(zio_t *zio, struct sz_device *device)
{
	uint32_t count = (uint32_t)(zio->io_size / SZ_SECTOR_BYTES);
	void *buffer = abd_borrow_buf_copy(zio->io_abd, zio->io_size);
	unsigned int waited_ms = 0;
	int result;

	for (;;) {
		result = sz_device_write(device, zio->io_offset / SZ_SECTOR_BYTES, count, buffer);
		if (result != -ENOSPC || waited_ms >= NO_SPACE_RETRY_MS)
			break;
		pause_ms(NO_SPACE_PAUSE_MS);
		waited_ms += NO_SPACE_PAUSE_MS;
	}
	abd_return_buf(zio->io_abd, buffer, zio->io_size);
	return result;
}

static void leaf_serve(zio_t *zio)
{
	struct sz_device *device = zio->io_vd->vdev_tsd;
	int result = 0;

	if (device == NULL) {
		result = -ENXIO;
	} else if (zio->io_type == ZIO_TYPE_FLUSH) {
		result = sz_device_flush(device);
	} else if (zio->io_type == ZIO_TYPE_TRIM) {
		result = sz_device_trim(device, zio->io_offset / SZ_SECTOR_BYTES,
					zio->io_size / SZ_SECTOR_BYTES);
	} else if (zio->io_type == ZIO_TYPE_READ) {
		result = leaf_read(zio, device);
	} else {
		result = leaf_write(zio, device);
	}
	/* EBADMSG and friends must not reach ZFS: some of its own codes share their numbers. */
	if (result != 0 && result != -ENXIO && result != -ENOSPC)
		result = -EIO;
	zio->io_error = -result;
	zio_interrupt(zio);
}

static void *worker_run(void *unused)
{
	(void)unused;
	(void)pthread_setname_np(pthread_self(), "sz-leaf");
	for (;;) {
		zio_t *zio;

		(void)pthread_mutex_lock(&queue_lock);
		while (queue_length == 0 && !queue_stopping)
			(void)pthread_cond_wait(&queue_filled, &queue_lock);
		if (queue_length == 0) {
			(void)pthread_mutex_unlock(&queue_lock);
			return NULL;
		}
		zio = queue[queue_head];
		queue_head = (queue_head + 1) % QUEUE;
		if (queue_length-- == QUEUE)
			(void)pthread_cond_broadcast(&queue_drained);
		(void)pthread_mutex_unlock(&queue_lock);
		leaf_serve(zio);
	}
}

static void leaf_io_start(zio_t *zio)
{
	if (zio->io_type == ZIO_TYPE_FLUSH && !vdev_readable(zio->io_vd)) {
		zio->io_error = ENXIO;
		zio_interrupt(zio);
		return;
	}
	(void)pthread_mutex_lock(&queue_lock);
	while (queue_length == QUEUE)
		(void)pthread_cond_wait(&queue_drained, &queue_lock);
	queue[(queue_head + queue_length++) % QUEUE] = zio;
	(void)pthread_cond_signal(&queue_filled);
	(void)pthread_mutex_unlock(&queue_lock);
}

static void leaf_io_done(zio_t *zio)
{
	(void)zio;
}

/* May be called twice for an import, and from several threads; also for a reopen of an open leaf. */
static int leaf_open(vdev_t *vd, uint64_t *size, uint64_t *max_size, uint64_t *logical_ashift,
		     uint64_t *physical_ashift)
{
	struct sz_device *device;
	uint32_t index;

	vd->vdev_nonrot = B_TRUE;
	vd->vdev_has_trim = B_TRUE;
	vd->vdev_has_securetrim = B_TRUE;
	if (leaf_store == NULL || sz_leaf_parse(vd->vdev_path, &index) != 0 ||
	    index >= sz_store_device_count(leaf_store)) {
		vd->vdev_stat.vs_aux = VDEV_AUX_BAD_LABEL;
		return EINVAL;
	}
	device = sz_store_device(leaf_store, index);
	if (sz_device_state(device) != SZ_DEVICE_ONLINE) {
		vd->vdev_stat.vs_aux = VDEV_AUX_OPEN_FAILED;
		return sz_device_state(device) == SZ_DEVICE_MISSING ? ENOENT : EIO;
	}
	vd->vdev_tsd = device;
	*size = sz_device_sectors(device) * SZ_SECTOR_BYTES;
	*max_size = *size;
	*logical_ashift = LEAF_ASHIFT;
	*physical_ashift = LEAF_ASHIFT;
	return 0;
}

static void leaf_close(vdev_t *vd)
{
	if (vd->vdev_reopening)
		return;
	vd->vdev_tsd = NULL;
	vd->vdev_delayed_close = B_FALSE;
}

__attribute__((visibility("default"))) vdev_ops_t vdev_disk_ops = {
	.vdev_op_open = leaf_open,
	.vdev_op_close = leaf_close,
	.vdev_op_asize = vdev_default_asize,
	.vdev_op_min_asize = vdev_default_min_asize,
	.vdev_op_io_start = leaf_io_start,
	.vdev_op_io_done = leaf_io_done,
	.vdev_op_xlate = vdev_default_xlate,
	.vdev_op_type = VDEV_TYPE_DISK,
	.vdev_op_leaf = B_TRUE,
};

int sz_leaf_start(void)
{
	queue_stopping = false;
	for (worker_count = 0; worker_count < WORKERS; worker_count++) {
		int result = pthread_create(&workers[worker_count], NULL, worker_run, NULL);

		if (result != 0) {
			sz_leaf_stop();
			return -result;
		}
	}
	return 0;
}

void sz_leaf_stop(void)
{
	(void)pthread_mutex_lock(&queue_lock);
	queue_stopping = true;
	(void)pthread_cond_broadcast(&queue_filled);
	(void)pthread_mutex_unlock(&queue_lock);
	while (worker_count > 0)
		(void)pthread_join(workers[--worker_count], NULL);
}
