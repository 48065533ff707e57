/*
 * direct: large writes past the host's page cache. What is written is ciphertext that nobody reads soon: a copy
 * of it in the cache costs more than the encryption, pushes out what others need, and is all still to be written when a
 * FLUSH comes. Used where it can be had and the disk answers fast; everywhere else the kernel is left to
 * gather writes: a disk with heads would seek for each piece.
 */
#ifndef SZ_STORE_DIRECT_H
#define SZ_STORE_DIRECT_H

#include "base/base.h"

#include <stdatomic.h>

/* Of a folder; zeroed at first. */
struct sz_direct_folder {
	atomic_int slow; /* see sz_direct_write */
	atomic_bool is_off;
};

/* Of an open file. */
struct sz_direct_file {
	atomic_int fd; /* of the same file, with O_DIRECT; or one of direct.c's marks */
};

void sz_direct_init(struct sz_direct_file *direct, bool is_writable);
void sz_direct_fini(struct sz_direct_file *direct);

/*
 * Writes as sz_pwrite does, directly if the three are multiples of a sector and the length is worth it. fd is open
 * for writing. Returns once the host's disk has the data: not durable yet, and an error of the disk is returned here.
 */
int sz_direct_write(struct sz_direct_folder *folder, struct sz_direct_file *direct, int fd,
		    const void *buffer, size_t length, uint64_t offset) MUST_CHECK;

#endif
