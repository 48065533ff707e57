/* protocol: bytes of the NBD protocol. */
#include "nbd/protocol.h"

#include <errno.h>

#define GREETING_MAGIC 0x4e42444d41474943ULL /* "NBDMAGIC" */
#define OPTION_MAGIC   0x49484156454f5054ULL /* "IHAVEOPT" */
#define REPLY_MAGIC    0x0003e889045565a9ULL
#define REQUEST_MAGIC  0x25609513U
#define SIMPLE_MAGIC   0x67446698U
#define CHUNK_MAGIC    0x668e33efU
#define BLOCK_MIN      512U
#define NO_NAME        "\1"

const char sz_nbd_context_name[] = "base:allocation";
static const char base_namespace[] = "base:";

/* Moves *at behind it. */
static void put(uint8_t **at, uint64_t value, size_t width)
{
	for (size_t i = width; i-- > 0; value >>= 8)
		(*at)[i] = (uint8_t)value;
	*at += width;
}

static uint64_t get(const uint8_t *from, size_t width)
{
	uint64_t value = 0;

	for (size_t i = 0; i < width; i++)
		value = value << 8 | from[i];
	return value;
}

/* Of an option's data; 0 once failed. */
static uint32_t cursor_get(struct sz_cursor *cursor, size_t width)
{
	const uint8_t *bytes = sz_cursor_take(cursor, width);

	return bytes == NULL ? 0 : (uint32_t)get(bytes, width);
}

void sz_nbd_greeting_encode(uint8_t bytes[SZ_NBD_GREETING_BYTES])
{
	uint8_t *at = bytes;

	put(&at, GREETING_MAGIC, 8);
	put(&at, OPTION_MAGIC, 8);
	put(&at, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 2);
}

bool sz_nbd_client_flags_decode(const uint8_t bytes[4], bool *is_fixed_out, bool *no_zeroes_out)
{
	uint64_t flags = get(bytes, 4);

	*is_fixed_out = (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0;
	*no_zeroes_out = (flags & NBD_FLAG_NO_ZEROES) != 0;
	return (flags & ~(uint64_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) == 0;
}

bool sz_nbd_option_decode(const uint8_t bytes[SZ_NBD_OPTION_BYTES],
			  struct sz_nbd_option *option_out)
{
	option_out->type = (uint32_t)get(bytes + 8, 4);
	option_out->length = (uint32_t)get(bytes + 12, 4);
	return get(bytes, 8) == OPTION_MAGIC;
}

void sz_nbd_reply_encode(uint32_t option, uint32_t type, uint32_t length,
			 uint8_t bytes[SZ_NBD_REPLY_BYTES])
{
	uint8_t *at = bytes;

	put(&at, REPLY_MAGIC, 8);
	put(&at, option, 4);
	put(&at, type, 4);
	put(&at, length, 4);
}

int sz_nbd_name_decode(const uint8_t *data, size_t length, char name_out[SZ_NBD_NAME_BYTES])
{
	if (length > 0 && memchr(data, '\0', length) != NULL)
		return -EINVAL;
	if (length >= SZ_NBD_NAME_BYTES) {
		memcpy(name_out, NO_NAME, sizeof(NO_NAME));
		return 0;
	}
	if (length > 0)
		memcpy(name_out, data, length);
	name_out[length] = '\0';
	return 0;
}

/* Its length, and the name. */
static int cursor_name(struct sz_cursor *cursor, char name_out[SZ_NBD_NAME_BYTES])
{
	uint32_t length = cursor_get(cursor, 4);
	const uint8_t *name = sz_cursor_take(cursor, length);

	return name == NULL ? -EINVAL : sz_nbd_name_decode(name, length, name_out);
}

int sz_nbd_info_request_decode(const uint8_t *data, size_t length,
			       struct sz_nbd_info_request *request_out)
{
	struct sz_cursor cursor = { .data = data, .length = length };
	uint32_t count;
	int result;

	*request_out = (struct sz_nbd_info_request){ 0 };
	result = cursor_name(&cursor, request_out->name);
	if (result != 0)
		return result;
	count = cursor_get(&cursor, 2);
	for (uint32_t i = 0; i < count && !cursor.failed; i++) {
		uint32_t type = cursor_get(&cursor, 2);

		request_out->wants_description |= type == NBD_INFO_DESCRIPTION;
		request_out->wants_block_size |= type == NBD_INFO_BLOCK_SIZE;
	}
	return cursor.failed || cursor.offset != length ? -EINVAL : 0;
}

static bool is_text(const uint8_t *data, size_t length, const char *text)
{
	return length == strlen(text) && memcmp(data, text, length) == 0;
}

int sz_nbd_context_request_decode(const uint8_t *data, size_t length,
				  struct sz_nbd_context_request *request_out)
{
	struct sz_cursor cursor = { .data = data, .length = length };
	uint32_t count;
	int result;

	*request_out = (struct sz_nbd_context_request){ 0 };
	result = cursor_name(&cursor, request_out->name);
	if (result != 0)
		return result;
	count = cursor_get(&cursor, 4);
	request_out->lists = count == 0;
	for (uint32_t i = 0; i < count && !cursor.failed; i++) {
		uint32_t query_length = cursor_get(&cursor, 4);
		const uint8_t *query = sz_cursor_take(&cursor, query_length);

		if (query == NULL)
			break;
		if (is_text(query, query_length, sz_nbd_context_name))
			request_out->selects = true;
		if (is_text(query, query_length, base_namespace))
			request_out->lists = true;
	}
	request_out->lists |= request_out->selects;
	return cursor.failed || cursor.offset != length ? -EINVAL : 0;
}

uint16_t sz_nbd_transmission_flags(const struct sz_nbd_export *export, bool is_structured)
{
	unsigned int flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (is_structured)
		flags |= NBD_FLAG_SEND_DF;
	if (export->is_read_only)
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
	return (uint16_t)(flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
			  NBD_FLAG_SEND_FAST_ZERO);
}

size_t sz_nbd_export_encode(uint64_t size_bytes, uint16_t flags, bool no_zeroes,
			    uint8_t bytes[SZ_NBD_EXPORT_BYTES])
{
	uint8_t *at = bytes;

	memset(bytes, 0, SZ_NBD_EXPORT_BYTES);
	put(&at, size_bytes, 8);
	put(&at, flags, 2);
	return no_zeroes ? SZ_NBD_EXPORT_BARE_BYTES : SZ_NBD_EXPORT_BYTES;
}

size_t sz_nbd_info_export_encode(uint64_t size_bytes, uint16_t flags,
				 uint8_t bytes[SZ_NBD_INFO_BYTES])
{
	uint8_t *at = bytes;

	put(&at, NBD_INFO_EXPORT, 2);
	put(&at, size_bytes, 8);
	put(&at, flags, 2);
	return (size_t)(at - bytes);
}

size_t sz_nbd_info_block_encode(uint32_t preferred_bytes, uint8_t bytes[SZ_NBD_INFO_BYTES])
{
	uint8_t *at = bytes;

	put(&at, NBD_INFO_BLOCK_SIZE, 2);
	put(&at, 1, 4);
	put(&at, preferred_bytes < BLOCK_MIN ? BLOCK_MIN : preferred_bytes, 4);
	put(&at, SZ_NBD_REQUEST_BYTES, 4);
	return (size_t)(at - bytes);
}

bool sz_nbd_request_decode(const uint8_t bytes[SZ_NBD_REQUEST_HEAD],
			   struct sz_nbd_request *request_out)
{
	request_out->flags = (uint16_t)get(bytes + 4, 2);
	request_out->type = (uint16_t)get(bytes + 6, 2);
	request_out->cookie = get(bytes + 8, 8);
	request_out->offset = get(bytes + 16, 8);
	request_out->length = (uint32_t)get(bytes + 24, 4);
	return get(bytes, 4) == REQUEST_MAGIC;
}

/* For each command that is about a range; all may come with FUA. */
static const struct command_rules {
	uint16_t flags;
	bool is_write;
	bool has_data; /* so its length is bounded */
	enum sz_nbd_errno beyond;
} rules[] = {
	[NBD_CMD_READ] = { NBD_CMD_FLAG_DF, false, true, NBD_EINVAL },
	[NBD_CMD_WRITE] = { 0, true, true, NBD_ENOSPC },
	[NBD_CMD_TRIM] = { 0, true, false, NBD_EINVAL },
	[NBD_CMD_CACHE] = { 0, false, false, NBD_EINVAL },
	[NBD_CMD_WRITE_ZEROES] = { NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, false,
				   NBD_ENOSPC },
	[NBD_CMD_BLOCK_STATUS] = { NBD_CMD_FLAG_REQ_ONE, false, false, NBD_EINVAL },
};

enum sz_nbd_errno sz_nbd_request_check(const struct sz_nbd_request *request,
				       const struct sz_nbd_export *export, bool is_structured,
				       bool has_context)
{
	const struct command_rules *rule;
	unsigned int flags = request->flags & ~(unsigned int)NBD_CMD_FLAG_FUA;

	if (request->type == NBD_CMD_DISC)
		return NBD_SUCCESS;
	if (request->type == NBD_CMD_FLUSH)
		return flags == 0 && request->offset == 0 && request->length == 0 ? NBD_SUCCESS
										  : NBD_EINVAL;
	if (request->type >= ARRAY_LENGTH(rules))
		return NBD_EINVAL;
	rule = &rules[request->type];
	if ((flags & ~(unsigned int)rule->flags) != 0 ||
	    ((flags & NBD_CMD_FLAG_DF) != 0 && !is_structured))
		return NBD_EINVAL;
	if (rule->is_write && export->is_read_only)
		return NBD_EPERM;
	if (request->type == NBD_CMD_BLOCK_STATUS && !has_context)
		return NBD_EINVAL;
	if (request->length == 0 || (rule->has_data && request->length > SZ_NBD_REQUEST_BYTES))
		return NBD_EINVAL;
	if (request->offset > export->size_bytes ||
	    request->length > export->size_bytes - request->offset)
		return rule->beyond;
	return NBD_SUCCESS;
}

enum sz_nbd_errno sz_nbd_errno_of(int result, bool may_be_unsupported)
{
	switch (-result) {
	case 0:
		return NBD_SUCCESS;
	case EPERM:
	case EROFS:
	case EACCES:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOPNOTSUPP:
		return may_be_unsupported ? NBD_ENOTSUP : NBD_EINVAL;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

size_t sz_nbd_simple_encode(uint64_t cookie, enum sz_nbd_errno error,
			    uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX])
{
	uint8_t *at = bytes;

	put(&at, SIMPLE_MAGIC, 4);
	put(&at, error, 4);
	put(&at, cookie, 8);
	return (size_t)(at - bytes);
}

size_t sz_nbd_chunk_encode(uint64_t cookie, enum sz_nbd_chunk_type type, bool is_last,
			   uint32_t payload_bytes, uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX])
{
	uint8_t *at = bytes;

	put(&at, CHUNK_MAGIC, 4);
	put(&at, is_last ? NBD_REPLY_FLAG_DONE : 0, 2);
	put(&at, type, 2);
	put(&at, cookie, 8);
	put(&at, payload_bytes, 4);
	return (size_t)(at - bytes);
}

size_t sz_nbd_chunk_data_encode(uint64_t cookie, uint64_t offset, uint32_t length, bool is_last,
				uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX])
{
	uint8_t *at = bytes + sz_nbd_chunk_encode(cookie, NBD_REPLY_TYPE_OFFSET_DATA, is_last,
						  length + 8, bytes);

	put(&at, offset, 8);
	return (size_t)(at - bytes);
}

size_t sz_nbd_chunk_error_encode(uint64_t cookie, enum sz_nbd_errno error,
				 uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX])
{
	uint8_t *at = bytes + sz_nbd_chunk_encode(cookie, NBD_REPLY_TYPE_ERROR, true, 6, bytes);

	put(&at, error, 4);
	put(&at, 0, 2); /* no text */
	return (size_t)(at - bytes);
}

void sz_nbd_descriptor_encode(uint32_t length, bool is_hole, uint8_t bytes[SZ_NBD_DESCRIPTOR_BYTES])
{
	uint8_t *at = bytes;

	put(&at, length, 4);
	put(&at, is_hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0, 4);
}

void sz_nbd_context_id_encode(uint8_t bytes[4])
{
	uint8_t *at = bytes;

	put(&at, SZ_NBD_CONTEXT_ID, 4);
}
