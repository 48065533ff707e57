/*
 * How libzpool lays out the two kinds of ABD in user space. The development package does not have
 * this header; abd.h includes it.
 */
#ifndef SZ_COMPAT_SYS_ABD_OS_H
#define SZ_COMPAT_SYS_ABD_OS_H

#include <sys/uio.h>

struct abd_scatter {
	uint_t abd_offset;
	uint_t abd_iovcnt;
	struct iovec abd_iov[1];
};

struct abd_linear {
	void *abd_buf;
};

#endif
