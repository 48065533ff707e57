/*
 * Copy-on-write bytes. A block with one reference belongs to the content that refers to it and may
 * be changed in place; a block with more is never changed. References are counted atomically,
 * because contents of different backends, used by different threads, share blocks.
 */
#include "store/content.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#define UNIT_BYTES (SZ_BLOCK_BYTES / 64)

/* The largest file: 1 TiB, so that a wild offset does not ask for gigabytes of pointers. */
#define BLOCKS_MAX ((size_t)1 << 28)

struct sz_block {
	atomic_uint references;
	uint64_t written; /* bit n: unit n, of UNIT_BYTES, was written */
	uint8_t bytes[SZ_BLOCK_BYTES];
};

/* The part of a range that lies in one block. */
struct piece {
	size_t index;
	size_t start;
	size_t length;
};

static struct piece piece_at(uint64_t offset, size_t length)
{
	struct piece piece = {
		.index = (size_t)(offset / SZ_BLOCK_BYTES),
		.start = (size_t)(offset % SZ_BLOCK_BYTES),
	};

	piece.length = SZ_BLOCK_BYTES - piece.start;
	if (piece.length > length)
		piece.length = length;
	return piece;
}

static void block_put(struct sz_block *block)
{
	if (block != NULL && atomic_fetch_sub(&block->references, 1) == 1)
		free(block);
}

static struct sz_block *block_get(struct sz_block *block)
{
	if (block != NULL)
		(void)atomic_fetch_add(&block->references, 1);
	return block;
}

/* Bits of the units from first up to, not including, end. */
static uint64_t unit_bits(size_t first, size_t end)
{
	uint64_t below_end = end >= 64 ? UINT64_MAX : ((uint64_t)1 << end) - 1;

	return first >= 64 ? 0 : below_end & ~(((uint64_t)1 << first) - 1);
}

void sz_content_free(struct sz_content *content)
{
	for (size_t i = 0; i < content->block_count; i++)
		block_put(content->blocks[i]);
	free(content->blocks);
	*content = (struct sz_content){ 0 };
}

size_t sz_content_read(const struct sz_content *content, void *buffer, size_t length,
		       uint64_t offset)
{
	uint8_t *to = buffer;
	size_t done = 0;

	if (offset >= content->size_bytes)
		return 0;
	if (length > content->size_bytes - offset)
		length = (size_t)(content->size_bytes - offset);
	while (done < length) {
		struct piece piece = piece_at(offset + done, length - done);
		const struct sz_block *block = content->blocks[piece.index];

		if (block == NULL)
			memset(to + done, 0, piece.length);
		else
			memcpy(to + done, block->bytes + piece.start, piece.length);
		done += piece.length;
	}
	return done;
}

size_t sz_content_holes(const struct sz_content *content, size_t length, uint64_t offset)
{
	size_t holes = 0;

	for (size_t done = 0; done < length;) {
		struct piece piece = piece_at(offset + done, length - done);

		if (piece.index >= content->block_count || content->blocks[piece.index] == NULL)
			holes++;
		done += piece.length;
	}
	return holes;
}

/* Room for the pointers of size_bytes; the length stays. */
static int reserve(struct sz_content *content, uint64_t size_bytes)
{
	uint64_t needed = DIV_ROUND_UP(size_bytes, SZ_BLOCK_BYTES);
	size_t count = content->block_count;
	struct sz_block **grown;

	if (needed <= count)
		return 0;
	if (needed > BLOCKS_MAX)
		return -EFBIG;
	if (count == 0)
		count = 1;
	while (count < needed)
		count *= 2;
	grown = realloc(content->blocks, count * sizeof(struct sz_block *));
	if (grown == NULL)
		return -ENOMEM;
	for (size_t i = content->block_count; i < count; i++)
		grown[i] = NULL;
	content->blocks = grown;
	content->block_count = count;
	return 0;
}

/* Makes a block this content's own, with the same bytes. */
static int own_block(struct sz_content *content, size_t index)
{
	struct sz_block *old = content->blocks[index];
	struct sz_block *own;

	if (old != NULL && atomic_load(&old->references) == 1)
		return 0;
	own = malloc(sizeof(*own));
	if (own == NULL)
		return -ENOMEM;
	if (old == NULL) {
		memset(own->bytes, 0, sizeof(own->bytes));
		own->written = 0;
		content->used_count++;
	} else {
		memcpy(own->bytes, old->bytes, sizeof(own->bytes));
		own->written = old->written;
	}
	atomic_init(&own->references, 1);
	content->blocks[index] = own;
	block_put(old);
	return 0;
}

/* Copies into a block of this content's own; whether a byte in it had been written before. */
static bool block_write(struct sz_block *block, struct piece piece, const uint8_t *from)
{
	size_t end = piece.start + piece.length;
	uint64_t touched = unit_bits(piece.start / UNIT_BYTES, DIV_ROUND_UP(end, UNIT_BYTES));
	bool overwrote = (block->written & touched) != 0;

	if (DIV_ROUND_UP(piece.start, UNIT_BYTES) < end / UNIT_BYTES)
		block->written |=
			unit_bits(DIV_ROUND_UP(piece.start, UNIT_BYTES), end / UNIT_BYTES);
	memcpy(block->bytes + piece.start, from, piece.length);
	return overwrote;
}

int sz_content_write(struct sz_content *content, const void *data, size_t length, uint64_t offset,
		     bool *overwrote_out)
{
	const uint8_t *from = data;
	int rc;

	*overwrote_out = false;
	if (length == 0)
		return 0;
	rc = reserve(content, offset + length);
	for (size_t done = 0; rc == 0 && done < length;) {
		struct piece piece = piece_at(offset + done, length - done);

		rc = own_block(content, piece.index);
		done += piece.length;
	}
	if (rc != 0)
		return rc;
	for (size_t done = 0; done < length;) {
		struct piece piece = piece_at(offset + done, length - done);

		if (block_write(content->blocks[piece.index], piece, from + done))
			*overwrote_out = true;
		done += piece.length;
	}
	if (content->size_bytes < offset + length)
		content->size_bytes = offset + length;
	return 0;
}

int sz_content_extend(struct sz_content *content, uint64_t size_bytes)
{
	int rc = reserve(content, size_bytes);

	if (rc == 0 && content->size_bytes < size_bytes)
		content->size_bytes = size_bytes;
	return rc;
}

int sz_content_share(struct sz_content *to, const struct sz_content *from, uint64_t length,
		     uint64_t offset)
{
	int rc = reserve(to, from->size_bytes);

	assert(offset <= from->size_bytes && length <= from->size_bytes - offset);
	if (rc != 0)
		return rc;
	for (uint64_t done = 0; done < length;) {
		size_t index = (size_t)((offset + done) / SZ_BLOCK_BYTES);
		struct sz_block *old = to->blocks[index];

		to->blocks[index] = block_get(from->blocks[index]);
		to->used_count += (size_t)(to->blocks[index] != NULL) - (size_t)(old != NULL);
		block_put(old);
		done += SZ_BLOCK_BYTES - (offset + done) % SZ_BLOCK_BYTES;
	}
	to->size_bytes = from->size_bytes;
	return 0;
}
