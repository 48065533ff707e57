/*
 * leaf_io: what a leaf driver does with a zio, whatever device it is for.
 */
#ifndef SZ_ENGINE_LEAF_IO_H
#define SZ_ENGINE_LEAF_IO_H

#include "device/device.h"
#include "engine/zfs.h"

/*
 * ZFS's buffers come in pieces of a page; a device takes one piece. abd_borrow_buf would take a new
 * buffer for each zio, and compare its whole content on return, as libzpool's assertions are on.
 */
struct sz_bounce {
	void *data;
	size_t size_bytes;
};
void sz_bounce_fini(struct sz_bounce *);

/*
 * Reads, writes, trims or flushes; blocks. full_since_ns: since when the device has been full, 0: it is
 * not; shared by all threads that use the device. Returns 0 or -errno for sz_zio_finish.
 */
int sz_leaf_io(zio_t *, struct sz_device *, _Atomic uint64_t *full_since_ns,
	       struct sz_bounce *) MUST_CHECK;
/* A read that waits for no disk: 0, or -EAGAIN: sz_leaf_io has to do it, and nothing has happened. */
int sz_leaf_read_cached(zio_t *, struct sz_device *) MUST_CHECK;
/* What the pool has accepted and not written yet, as bytes on its devices, beside redundancy. */
uint64_t sz_unwritten_bytes(spa_t *);
/* Completes the zio by zio_interrupt. */
void sz_zio_finish(zio_t *, int result);

#endif
