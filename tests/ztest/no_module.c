/*
 * no_module: preloaded into ztest, which asks the kernel's ZFS whether it has a pool open before it imports
 * the pool, and gives up where there is no such module. Nobody else has it open.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef int open_fn(const char *path, int flags, ...);

__attribute__((visibility("default"))) int open64(const char *path, int flags, ...)
{
	open_fn *next = NULL;
	void *symbol = dlsym(RTLD_NEXT, "open64");
	unsigned int mode;
	va_list arguments;

	if (symbol == NULL)
		abort();
	memcpy(&next, &symbol, sizeof(next));
	va_start(arguments, flags);
	mode = va_arg(arguments, unsigned int);
	va_end(arguments);
	return next(strcmp(path, "/dev/zfs") == 0 ? "/dev/null" : path, flags, mode);
}
