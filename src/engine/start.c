/*
 * start: brings libzpool up in this process, within the bound on memory.
 *
 * The bound is shared out: the ARC gets a half, and dirty data, which the ARC holds too, a quarter of
 * all: the more, the fewer transaction groups, each of which flushes every device. The rest is what
 * buffers in flight, the allocator, ZFS's own structures (about 80 MiB with a pool) and the device's
 * caches take. Measured: 456 MiB resident at the default bound, storing 2 GiB of random data.
 */
#include "engine/engine_internal.h"

#include <errno.h>
#include <sys/random.h>

#define MEMORY_DEFAULT (512ULL << 20)
#define MEMORY_MIN     (128ULL << 20)

#define RANDOM_BYTES   256U

/*
 * ZFS's buffers come from malloc, and page faults are dear: huge pages, nothing given back to the
 * kernel early, few arenas, and no separate arena for big allocations, whose pages would not be reused.
 */
extern const char *malloc_conf;
__attribute__((visibility("default"))) const char *malloc_conf =
	"thp:always,metadata_thp:always,dirty_decay_ms:10000,muzzy_decay_ms:0,retain:true,narenas:2,"
	"percpu_arena:disabled,oversize_threshold:0";

/*
 * Takes the place of libzpool's function, by its name as vdev_disk_ops does: ZFS's buffers are then each in one
 * piece, not in pages. The leaf reads and writes in them without a copy, and what the ARC holds is what readers get.
 */
__attribute__((visibility("default"))) boolean_t abd_size_alloc_linear(size_t size_bytes)
{
	(void)size_bytes;
	return B_TRUE;
}

/*
 * Likewise: libzpool's reads /dev/urandom for each of the numbers by which ZFS chooses among its lists, a system call for
 * each buffer that the ARC drops; libc's and libbsd's arc4random make one, too. The same source, in larger pieces, a thread each.
 */
__attribute__((visibility("default"))) int random_get_pseudo_bytes(uint8_t *ptr, size_t len)
{
	static __thread uint8_t ready[RANDOM_BYTES];
	static __thread size_t left;

	while (len > 0) {
		size_t some;

		if (left == 0) {
			ssize_t got = getrandom(ready, sizeof(ready), 0);

			/* So few bytes come whole, and without a wait. */
			VERIFY(got == sizeof(ready));
			left = sizeof(ready);
		}
		some = len < left ? len : left;
		memcpy(ptr, ready + sizeof(ready) - left, some);
		left -= some;
		ptr += some;
		len -= some;
	}
	return 0;
}

/* In no header; zdb declares it like this. */
extern boolean_t spa_mode_readable_spacemaps;

/* Writes in flight on a leaf: the fewer, the more of them ZFS joins into one. Less than 2 it does not allow. */
#define ASYNC_WRITES 2U

int sz_engine_start(uint64_t memory_bytes, struct sz_error *error)
{
	static bool is_started;
	int result;

	if (is_started)
		return 0;
	if (memory_bytes == 0)
		memory_bytes = MEMORY_DEFAULT;
	if (memory_bytes < MEMORY_MIN)
		return sz_fail(error, -EINVAL,
			       "--memory %llu MiB is less than the smallest, %llu MiB",
			       (unsigned long long)memory_bytes >> 20, MEMORY_MIN >> 20);
	zfs_arc_min = 32ULL << 20;
	zfs_arc_max = memory_bytes / 2;
	zfs_dirty_data_max = memory_bytes / 4;
	/* Without it, an export removes the host's cache file. */
	spa_config_path = strdup("/nonexistent/zpool.cache");
	if (spa_config_path == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	/* Also when a pool is imported read-only: or a resilver that is due would be hidden. */
	spa_mode_readable_spacemaps = B_TRUE;
	zfs_vdev_async_write_max_active = ASYNC_WRITES;
	kernel_init(SPA_MODE_READ | SPA_MODE_WRITE);
	zfs_flags = 0; /* debug checks of every block */
	zfs_dirty_data_max = memory_bytes / 4;
	sz_accounting_register();
	result = sz_leaf_start();
	if (result != 0)
		return sz_fail(error, result, "cannot start worker threads");
	is_started = true;
	return 0;
}
