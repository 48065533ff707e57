/*
 * direct: see direct.h.
 *
 *   file's fd    means
 *   NOT_TRIED    no large write yet
 *   NONE         not open for writing; or the file system has no direct I/O, or there is no /proc to open it again by
 *   0 or more    open
 *
 * 1. A file may be written both ways, even at once: the kernel keeps them coherent, for no range is written twice.
 * 2. What cannot be done directly is done through the cache; only a host that fails fails the write.
 */
#include "store/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define NOT_TRIED  (-2)
#define NONE       (-1)

#define ALIGNMENT  4096U /* of a sector; no disk asks for more */
#define LENGTH_MIN (64U << 10)

/*
 * Eight writers, 128 KiB each, at 125 MB/s wait 8 ms for each write. A disk with heads that seeks for each
 * takes 60. One write that is slow is made up for by one that is not.
 */
#define SLOW_NS    (20ULL * 1000 * 1000)
#define SLOW_MANY  32

void sz_direct_init(struct sz_direct_file *direct, bool is_writable)
{
	atomic_init(&direct->fd, is_writable ? NOT_TRIED : NONE);
}

void sz_direct_fini(struct sz_direct_file *direct)
{
	int fd = atomic_load(&direct->fd);

	if (fd >= 0)
		(void)close(fd);
}

/* Also after the file was renamed or removed. */
static int reopen(int fd)
{
	char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
	int direct_fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	return direct_fd < 0 ? NONE : direct_fd;
}

static int direct_fd(struct sz_direct_file *direct, int fd)
{
	int current = atomic_load(&direct->fd);
	int opened;

	if (current != NOT_TRIED)
		return current;
	opened = reopen(fd);
	if (atomic_compare_exchange_strong(&direct->fd, &current, opened))
		return opened;
	if (opened >= 0) /* another thread was first */
		(void)close(opened);
	return current;
}

static void judge(struct sz_direct_folder *folder, uint64_t ns)
{
	if (ns > SLOW_NS) {
		if (atomic_fetch_add(&folder->slow, 1) + 1 >= SLOW_MANY)
			atomic_store(&folder->is_off, true);
	} else if (atomic_load(&folder->slow) > 0) {
		(void)atomic_fetch_sub(&folder->slow, 1); /* two at once make it -1: no harm */
	}
}

int sz_direct_write(struct sz_direct_folder *folder, struct sz_direct_file *direct, int fd,
		    const void *buffer, size_t length, uint64_t offset)
{
	bool is_aligned = length % ALIGNMENT == 0 && offset % ALIGNMENT == 0 &&
			  (uintptr_t)buffer % ALIGNMENT == 0;
	size_t done = 0;
	int to = NONE;

	if (is_aligned && length >= LENGTH_MIN && !atomic_load(&folder->is_off))
		to = direct_fd(direct, fd);
	if (to >= 0) {
		uint64_t since_ns = sz_clock_ns();
		ssize_t n = pwrite(to, buffer, length, (off_t)offset);

		if (n < 0 && errno == EINVAL)
			atomic_store(&folder->is_off, true);
		else if (n < 0 && errno != EINTR)
			return -errno;
		done = n < 0 ? 0 : (size_t)n;
		judge(folder, sz_clock_ns() - since_ns);
	}
	/* All of it, or what a write that was cut short has left. */
	return sz_pwrite(fd, (const char *)buffer + done, length - done, offset + done);
}
