/*
 * leaf_io: one zio of ZFS on one device. Apart from the driver, which knows which device that is, so that
 * tests can put other drivers over it.
 *
 * Invariants
 * 1. A read never ends with ECKSUM, and damage ends with success and filler, which ZFS's own
 *    checksum finds; but with EIO for reads that ZFS does not check (REMOVAL, REBUILD).
 * 2. What a failed flush covered is in the leaf's DTL, so that a resilver writes it again: ZFS itself
 *    takes no notice of flushes that fail.
 */
#include "engine/leaf_io.h"

#include <errno.h>
#include <stdatomic.h>

/*
 * Writes to a full disk for which no room can be made are tried again for this long before ZFS is told: space
 * may come back. The time counts from the first of them, for the workers are few and the writes many.
 */
#define NO_SPACE_RETRY_NS (3ULL * 1000 * 1000 * 1000)
#define NO_SPACE_PAUSE_MS 100U

/* Bytes that are written for one that ZFS has accepted: metadata, small blocks. */
#define OVERHEAD          2U

static bool read_is_checked(const zio_t *zio)
{
	return zio->io_priority != ZIO_PRIORITY_REMOVAL && zio->io_priority != ZIO_PRIORITY_REBUILD;
}

/* A buffer that is at least as large; its content is undefined. libzpool too aborts without memory. */
static void *bounce_get(struct sz_bounce *bounce, size_t size_bytes)
{
	if (bounce->size_bytes < size_bytes) {
		free(bounce->data);
		bounce->data = aligned_alloc(SZ_SECTOR_BYTES, size_bytes);
		VERIFY(bounce->data != NULL);
		bounce->size_bytes = size_bytes;
	}
	return bounce->data;
}

static int leaf_read(zio_t *zio, struct sz_device *device, struct sz_bounce *bounce)
{
	uint32_t count = (uint32_t)(zio->io_size / SZ_SECTOR_BYTES);
	bool is_linear = abd_is_linear(zio->io_abd);
	void *buffer = is_linear ? abd_to_buf(zio->io_abd) : bounce_get(bounce, zio->io_size);
	int result = sz_device_read(device, zio->io_offset / SZ_SECTOR_BYTES, count, buffer);

	if (result == -EBADMSG && read_is_checked(zio))
		result = 0;
	else if (result == -EBADMSG)
		result = -EIO;
	if (result != 0)
		memset(buffer, 0, zio->io_size);
	if (!is_linear)
		abd_copy_from_buf(zio->io_abd, buffer, zio->io_size);
	return result;
}

int sz_leaf_read_cached(zio_t *zio, struct sz_device *device)
{
	if (!abd_is_linear(zio->io_abd))
		return -EAGAIN;
	return sz_device_read_cached(device, zio->io_offset / SZ_SECTOR_BYTES,
				     (uint32_t)(zio->io_size / SZ_SECTOR_BYTES),
				     abd_to_buf(zio->io_abd));
}

/* Whether the device has been full for so long that its writes fail. */
static bool full_too_long(_Atomic uint64_t *full_since_ns)
{
	uint64_t never = 0;
	uint64_t now_ns = sz_clock_ns();

	if (atomic_compare_exchange_strong(full_since_ns, &never, now_ns))
		return false;
	return now_ns - never > NO_SPACE_RETRY_NS;
}

uint64_t sz_unwritten_bytes(spa_t *spa)
{
	dsl_pool_t *pool = spa_get_dsl(spa);
	uint64_t bytes;

	if (pool == NULL)
		return 0;
	mutex_enter(&pool->dp_lock);
	bytes = pool->dp_dirty_total;
	mutex_exit(&pool->dp_lock);
	return bytes * OVERHEAD;
}

/* A write or TRIM, until there is space for it, or for too long there has been none. */
static int leaf_change(zio_t *zio, struct sz_device *device, const void *buffer,
		       _Atomic uint64_t *full_since_ns)
{
	uint64_t sector = zio->io_offset / SZ_SECTOR_BYTES;
	uint64_t count = zio->io_size / SZ_SECTOR_BYTES;
	int result;

	for (;;) {
		uint64_t since_ns = sz_clock_ns();

		result = zio->io_type == ZIO_TYPE_TRIM
				 ? sz_device_trim(device, sector, count)
				 : sz_device_write(device, sector, (uint32_t)count, buffer);
		if (result != -ENOSPC)
			break;
		if (sz_device_make_room(device, since_ns) == 0)
			continue;
		if (full_too_long(full_since_ns))
			break;
		sz_sleep_ms(NO_SPACE_PAUSE_MS);
	}
	if (result == 0 && atomic_load(full_since_ns) != 0)
		atomic_store(full_since_ns, 0);
	return result;
}

static int leaf_write(zio_t *zio, struct sz_device *device, _Atomic uint64_t *full_since_ns,
		      struct sz_bounce *bounce)
{
	void *buffer;

	if (abd_is_linear(zio->io_abd)) {
		buffer = abd_to_buf(zio->io_abd);
	} else {
		buffer = bounce_get(bounce, zio->io_size);
		abd_copy_to_buf(buffer, zio->io_abd, zio->io_size);
	}
	return leaf_change(zio, device, buffer, full_since_ns);
}

/*
 * What the leaf was given in the transaction group that is being written may be lost: the resilver
 * that follows when the leaf is back writes it again. Later writes fail, which makes the DTL durable.
 */
static void flush_failed(vdev_t *vd)
{
	spa_t *spa = vd->vdev_spa;
	uint64_t txg = spa_syncing_txg(spa);

	if (spa_writeable(spa) && txg != 0 && vd->vdev_top != NULL)
		vdev_dtl_dirty(vd, DTL_MISSING, txg, 1);
}

int sz_leaf_io(zio_t *zio, struct sz_device *device, _Atomic uint64_t *full_since_ns,
	       struct sz_bounce *bounce)
{
	int result;

	switch (zio->io_type) {
	case ZIO_TYPE_READ:
		return leaf_read(zio, device, bounce);
	case ZIO_TYPE_WRITE:
		return leaf_write(zio, device, full_since_ns, bounce);
	case ZIO_TYPE_TRIM:
		return leaf_change(zio, device, NULL, full_since_ns);
	case ZIO_TYPE_FLUSH:
		result = sz_device_flush(device);
		if (result != 0)
			flush_failed(zio->io_vd);
		return result;
	case ZIO_TYPE_NULL:
	case ZIO_TYPE_FREE:
	case ZIO_TYPE_CLAIM:
	case ZIO_TYPES:
	default:
		return -ENOTSUP;
	}
}

void sz_zio_finish(zio_t *zio, int result)
{
	/* EBADMSG and friends must not reach ZFS: some of its own codes share their numbers. */
	if (result != 0 && result != -ENXIO && result != -ENOSPC && result != -ENOTSUP)
		result = -EIO;
	zio->io_error = -result;
	zio_interrupt(zio);
}

void sz_bounce_fini(struct sz_bounce *bounce)
{
	free(bounce->data);
	*bounce = (struct sz_bounce){ 0 };
}
