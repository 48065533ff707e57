/*
 * quirks: preloaded into ztest for what hinders it on plain files, too.
 *
 * 1. Before it imports a pool it asks the kernel's ZFS whether that has the pool open, and gives up where there
 *    is no such module. Nobody else has it open.
 * 2. It asks for TRIMs of as little as a byte a second. Such a one keeps metaslabs disabled for hours; an
 *    initialization that waits for one of them keeps the pool from being closed: ZFS stops these first.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEFINED             __attribute__((visibility("default")))
#define TRIM_RATE_MIN_BYTES (64ULL << 20) /* a second */

typedef int open_fn(const char *path, int flags, ...);

/* As in sys/vdev_trim.h, as far as it matters here. */
typedef int trim_fn(void *spa, void *guids, uint64_t command, uint64_t rate, int partial,
		    int secure, void *errors);
DEFINED trim_fn spa_vdev_trim;

/* What the function would be without this library. */
static void next_find(const char *name, void *function, size_t size)
{
	void *symbol = dlsym(RTLD_NEXT, name);

	if (symbol == NULL)
		abort();
	memcpy(function, &symbol, size);
}

DEFINED int open64(const char *path, int flags, ...)
{
	open_fn *next = NULL;
	unsigned int mode;
	va_list arguments;

	next_find("open64", &next, sizeof(next));
	va_start(arguments, flags);
	mode = va_arg(arguments, unsigned int);
	va_end(arguments);
	return next(strcmp(path, "/dev/zfs") == 0 ? "/dev/null" : path, flags, mode);
}

int spa_vdev_trim(void *spa, void *guids, uint64_t command, uint64_t rate, int partial, int secure,
		  void *errors)
{
	trim_fn *next = NULL;

	next_find("spa_vdev_trim", &next, sizeof(next));
	if (rate != 0 && rate < TRIM_RATE_MIN_BYTES)
		rate = TRIM_RATE_MIN_BYTES;
	return next(spa, guids, command, rate, partial, secure, errors);
}
