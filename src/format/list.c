/*
 * list: sector lists [F24], and what all payloads share: references and counts.
 *
 * A list is the count of its runs, then for each the gap to the end of the one before and its
 * length, as LEB128: a run costs two bytes where writes are dense, ten where they are far apart.
 */
#include "format_internal.h"

#include <errno.h>

int sz_ref_put(struct sz_bytes *bytes, const struct sz_ref *ref)
{
	int result = sz_bytes_append(bytes, ref->id.bytes, SZ_ID_BYTES);

	return result != 0 ? result : sz_bytes_append(bytes, ref->digest, SZ_DIGEST_BYTES);
}

void sz_cursor_copy(struct sz_cursor *cursor, void *to, size_t length)
{
	const uint8_t *from = sz_cursor_take(cursor, length);

	if (from != NULL)
		memcpy(to, from, length);
	else
		memset(to, 0, length);
}

void sz_ref_get(struct sz_cursor *cursor, struct sz_ref *ref_out)
{
	sz_cursor_copy(cursor, ref_out->id.bytes, SZ_ID_BYTES);
	sz_cursor_copy(cursor, ref_out->digest, SZ_DIGEST_BYTES);
}

uint32_t sz_cursor_count(struct sz_cursor *cursor, uint64_t count, size_t element_bytes)
{
	if (cursor->failed || count > (cursor->length - cursor->offset) / element_bytes ||
	    count > UINT32_MAX) {
		cursor->failed = true;
		return 0;
	}
	return (uint32_t)count;
}

int sz_runs_put(struct sz_bytes *bytes, const struct sz_run *runs, uint32_t count)
{
	uint64_t end = 0;
	int result = sz_bytes_append_varint(bytes, count);

	for (uint32_t i = 0; i < count && result == 0; i++) {
		if (runs[i].sector < end || runs[i].count == 0 || runs[i].sector >= SECTORS_MAX ||
		    runs[i].count > SECTORS_MAX - runs[i].sector)
			return -EINVAL;
		result = sz_bytes_append_varint(bytes, runs[i].sector - end);
		if (result == 0)
			result = sz_bytes_append_varint(bytes, runs[i].count);
		end = runs[i].sector + runs[i].count;
	}
	return result;
}

/* A varint in its shortest form [F4]: longer ones end in a zero byte. */
static uint64_t varint_get(struct sz_cursor *cursor)
{
	size_t start = cursor->offset;
	uint64_t value = sz_cursor_varint(cursor);

	if (!cursor->failed && cursor->offset - start > 1 && cursor->data[cursor->offset - 1] == 0)
		cursor->failed = true;
	return value;
}

int sz_runs_get(struct sz_cursor *cursor, struct sz_run **runs_out, uint32_t *count_out)
{
	uint32_t count = sz_cursor_count(cursor, varint_get(cursor), 2);
	CLEANUP_FREE struct sz_run *runs = NULL;
	uint64_t end = 0;

	if (cursor->failed)
		return -EUCLEAN;
	if (count > 0) {
		runs = calloc(count, sizeof(*runs));
		if (runs == NULL)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t gap = varint_get(cursor);
		uint64_t length = varint_get(cursor);

		if (cursor->failed || gap >= SECTORS_MAX - end || length == 0 ||
		    length > SECTORS_MAX - end - gap)
			return -EUCLEAN;
		runs[i] = (struct sz_run){ .sector = end + gap, .count = length };
		end += gap + length;
	}
	*runs_out = TAKE(runs);
	*count_out = count;
	return 0;
}

int sz_list_encode(const struct sz_run *runs, uint32_t count, struct sz_bytes *payload_out)
{
	int result = sz_bytes_append_le(payload_out, SZ_INDEX_LIST, 4);

	return result != 0 ? result : sz_runs_put(payload_out, runs, count);
}

int sz_list_decode(const uint8_t *payload, size_t length, struct sz_run **runs_out,
		   uint32_t *count_out)
{
	struct sz_cursor cursor = { .data = payload, .length = length };
	CLEANUP_FREE struct sz_run *runs = NULL;
	int result;

	if (sz_cursor_le(&cursor, 4) != SZ_INDEX_LIST)
		return -EUCLEAN;
	result = sz_runs_get(&cursor, &runs, count_out);
	if (result != 0)
		return result;
	if (cursor.offset != cursor.length)
		return -EUCLEAN;
	*runs_out = TAKE(runs);
	return 0;
}
