/*
 * leaf: the vdev driver under ZFS. Its one idea: libzpool's table of vdev types refers to the
 * global symbol vdev_disk_ops, so the definition in this program takes the place of the library's.
 *
 * Invariants
 * 1. A zio is completed exactly once, by zio_interrupt, from a worker or (without I/O) at once; or by
 *    zio_execute in the thread that issued it, see is_brief.
 * 2. A leaf never opens anything but a device of the store that was set, and no I/O is under way
 *    on it once it is not set any more.
 */
#include "engine/engine_internal.h"
#include "engine/leaf_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define WORKERS                                                                                    \
	8U /* 8 gave 1.4 times what 4 gave: the host's disk likes several requests at once */
#define QUEUE       16384U /* zios; ZFS keeps at most about 1,000 a leaf in flight */

#define BRIEF_BYTES (32U << 10)

#define LEAF_ASHIFT 12U

static const char path_prefix[] = "/szpool/";

/* The queue of zios, and the store that they go to. All under queue_lock. */
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_cond_t queue_drained = PTHREAD_COND_INITIALIZER;
static zio_t *queue[QUEUE];
static unsigned int queue_head;
static unsigned int queue_length;
static bool queue_stopping;
static struct sz_store *leaf_store;
static unsigned int busy; /* threads that use a device */
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static struct sz_leaf_failure last_failure;
static uint64_t last_end_ns; /* when one was done with a device */

/* Since when each device is full; 0: it is not. */
static _Atomic uint64_t full_since_ns[SZ_DEVICES_MAX];

static pthread_t workers[WORKERS];
static unsigned int worker_count;

void sz_leaf_set_store(struct sz_store *store)
{
	(void)pthread_mutex_lock(&queue_lock);
	leaf_store = store;
	while (store == NULL && busy > 0)
		(void)pthread_cond_wait(&idle, &queue_lock);
	if (store != NULL) {
		last_failure = (struct sz_leaf_failure){ 0 };
		last_end_ns = sz_clock_ns();
		for (uint32_t i = 0; i < SZ_DEVICES_MAX; i++)
			atomic_store(&full_since_ns[i], 0);
	}
	(void)pthread_mutex_unlock(&queue_lock);
}

struct sz_leaf_failure sz_leaf_last_failure(void)
{
	struct sz_leaf_failure failure;

	(void)pthread_mutex_lock(&queue_lock);
	failure = last_failure;
	(void)pthread_mutex_unlock(&queue_lock);
	return failure;
}

void sz_leaf_forget_failure(void)
{
	(void)pthread_mutex_lock(&queue_lock);
	last_failure = (struct sz_leaf_failure){ 0 };
	(void)pthread_mutex_unlock(&queue_lock);
}

uint64_t sz_leaf_idle_ns(void)
{
	uint64_t idle_ns = 0;

	(void)pthread_mutex_lock(&queue_lock);
	if (busy == 0 && queue_length == 0)
		idle_ns = sz_clock_ns() - last_end_ns;
	(void)pthread_mutex_unlock(&queue_lock);
	return idle_ns;
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

/* Under queue_lock. */
static void device_leave(void)
{
	last_end_ns = sz_clock_ns();
	if (--busy == 0)
		(void)pthread_cond_broadcast(&idle);
}

/* Serves a zio if its store is still there. Under queue_lock, which it lets go meanwhile. */
static int zio_serve(zio_t *zio, struct sz_bounce *bounce)
{
	struct sz_device *device = leaf_store == NULL ? NULL : zio->io_vd->vdev_tsd;
	uint32_t index = 0;
	int result;

	if (device == NULL || sz_leaf_parse(zio->io_vd->vdev_path, &index) != 0)
		return -ENXIO;
	busy++;
	(void)pthread_mutex_unlock(&queue_lock);
	result = sz_leaf_io(zio, device, &full_since_ns[index], bounce);
	(void)pthread_mutex_lock(&queue_lock);
	if (result != 0 && (zio->io_type == ZIO_TYPE_WRITE || zio->io_type == ZIO_TYPE_FLUSH))
		last_failure = (struct sz_leaf_failure){ .code = result, .device = index };
	device_leave();
	return result;
}

static void *worker_run(void *unused)
{
	struct sz_bounce bounce = { 0 };

	(void)unused;
	(void)pthread_setname_np(pthread_self(), "sz-leaf");
	(void)pthread_mutex_lock(&queue_lock);
	for (;;) {
		zio_t *zio;
		int result;

		while (queue_length == 0 && !queue_stopping)
			(void)pthread_cond_wait(&queue_filled, &queue_lock);
		if (queue_length == 0)
			break;
		zio = queue[queue_head];
		queue_head = (queue_head + 1) % QUEUE;
		if (queue_length-- == QUEUE)
			(void)pthread_cond_broadcast(&queue_drained);
		result = zio_serve(zio, &bounce);
		(void)pthread_mutex_unlock(&queue_lock);
		sz_zio_finish(zio, result);
		(void)pthread_mutex_lock(&queue_lock);
	}
	(void)pthread_mutex_unlock(&queue_lock);
	sz_bounce_fini(&bounce);
	return NULL;
}

/*
 * Whether it is worth looking if the zio can be done here and now: waking a worker, and then the thread that completes
 * the zio, takes longer than to decrypt a few sectors that the host has in memory. Somebody waits for such a read; ZFS
 * holds no lock that its completion takes, as arc_read completes in this thread too, when the data is in the ARC or
 * in the block pointer. Larger ones are better decrypted by several workers at once, and of no others is this known.
 */
static bool is_brief(const zio_t *zio)
{
	return zio->io_type == ZIO_TYPE_READ && zio->io_priority == ZIO_PRIORITY_SYNC_READ &&
	       zio->io_size <= BRIEF_BYTES && zio->io_child_type == ZIO_CHILD_VDEV &&
	       zio->io_logical != NULL;
}

/*
 * False: nothing has happened. The end of one zio issues others that waited for their turn, or that its data leads to: those
 * go to the workers, or each would be another level of the stack.
 */
static bool read_here(zio_t *zio)
{
	static __thread bool is_inside;
	struct sz_device *device;
	int result = -EAGAIN;

	if (is_inside)
		return false;

	(void)pthread_mutex_lock(&queue_lock);
	device = leaf_store == NULL ? NULL : zio->io_vd->vdev_tsd;
	if (device != NULL) {
		busy++;
		(void)pthread_mutex_unlock(&queue_lock);
		result = sz_leaf_read_cached(zio, device);
		(void)pthread_mutex_lock(&queue_lock);
		device_leave();
	}
	(void)pthread_mutex_unlock(&queue_lock);
	if (result != 0)
		return false;
	is_inside = true;
	zio_execute(zio);
	is_inside = false;
	return true;
}

static void leaf_io_start(zio_t *zio)
{
	if (is_brief(zio) && read_here(zio))
		return;
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
	struct sz_device *device = NULL;
	uint32_t index;

	/*
	 * As a disk with heads: then ZFS joins neighbours up to 1 MiB (for others 128 KiB). Pieces of 64 KiB
	 * go to bands; what is less goes to the log, and is written once more by the seal.
	 */
	vd->vdev_nonrot = B_FALSE;
	vd->vdev_has_trim = B_TRUE;
	vd->vdev_has_securetrim = B_TRUE;
	if (sz_leaf_parse(vd->vdev_path, &index) == 0) {
		(void)pthread_mutex_lock(&queue_lock);
		if (leaf_store != NULL && index < sz_store_device_count(leaf_store))
			device = sz_store_device(leaf_store, index);
		(void)pthread_mutex_unlock(&queue_lock);
	}
	if (device == NULL) {
		vd->vdev_stat.vs_aux = VDEV_AUX_BAD_LABEL;
		return EINVAL;
	}
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
