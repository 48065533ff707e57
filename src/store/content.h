/*
 * Bytes of a memory backend's file, in blocks that several contents share until one writes.
 * Copying a content costs a pointer a block: that is what makes a power cut cheap to try.
 */
#ifndef SZ_STORE_CONTENT_H
#define SZ_STORE_CONTENT_H

#include "base/base.h"

#define SZ_BLOCK_BYTES 4096 /* a sector: most writes replace whole blocks */

struct sz_block;

/* Zero-initialised: empty. A content is its owner's; the blocks may be shared between threads. */
struct sz_content {
	struct sz_block **blocks; /* NULL: a hole */
	size_t block_count;
	size_t used_count; /* blocks that are not holes */
	uint64_t size_bytes;
};

void sz_content_free(struct sz_content *content);

/* Returns how many bytes there were; holes read as zeros. */
size_t sz_content_read(const struct sz_content *content, void *buffer, size_t length,
		       uint64_t offset);

/* Holes that a write would fill. */
size_t sz_content_holes(const struct sz_content *content, size_t length, uint64_t offset);

/*
 * *overwrote_out: a byte in it had been written before, as far as seen: each 64 bytes that a single
 * write covered are known as written. -ENOMEM, -EFBIG: nothing has changed.
 */
int sz_content_write(struct sz_content *content, const void *data, size_t length, uint64_t offset,
		     bool *overwrote_out) MUST_CHECK;

/* Makes the length at least size_bytes, by a hole. */
int sz_content_extend(struct sz_content *content, uint64_t size_bytes) MUST_CHECK;

/* Makes the blocks of a range, and the length, what they are in from. -ENOMEM: nothing has changed. */
int sz_content_share(struct sz_content *to, const struct sz_content *from, uint64_t length,
		     uint64_t offset) MUST_CHECK;

#endif
