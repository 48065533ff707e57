/*
 * protocol: what is sent and received, as bytes: pure encoding and decoding, no I/O. Total: any bytes give a result
 * or an error. Numbers on the wire are big-endian. Source: doc/proto.md of the NBD project, whose names the
 * constants have.
 */
#ifndef SZ_NBD_PROTOCOL_H
#define SZ_NBD_PROTOCOL_H

#include "nbd/nbd.h"

#define SZ_NBD_GREETING_BYTES    18U
#define SZ_NBD_OPTION_BYTES      16U
#define SZ_NBD_OPTION_DATA_MAX   16384U /* longer data of an option is skipped, and refused */
#define SZ_NBD_REPLY_BYTES       20U    /* of an option's reply, without its data */
#define SZ_NBD_EXPORT_BYTES      134U   /* the answer to EXPORT_NAME */
#define SZ_NBD_EXPORT_BARE_BYTES 10U    /* … without its zeros */
#define SZ_NBD_INFO_BYTES        14U    /* the longest of the fixed ones */
#define SZ_NBD_REQUEST_HEAD      28U
#define SZ_NBD_CHUNK_HEAD_MAX    28U /* with an offset, or an error */
#define SZ_NBD_CONTEXT_ID        1U  /* of base:allocation, the only one */
#define SZ_NBD_DESCRIPTOR_BYTES  8U

enum sz_nbd_handshake_flag {
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum sz_nbd_transmission_flag {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum sz_nbd_option_type {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ERROR        (1U << 31)
#define NBD_REP_ACK          1U
#define NBD_REP_SERVER       2U
#define NBD_REP_INFO         3U
#define NBD_REP_META_CONTEXT 4U
#define NBD_REP_ERR_UNSUP    (NBD_REP_ERROR + 1)
#define NBD_REP_ERR_POLICY   (NBD_REP_ERROR + 2)
#define NBD_REP_ERR_INVALID  (NBD_REP_ERROR + 3)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_ERROR + 5)
#define NBD_REP_ERR_UNKNOWN  (NBD_REP_ERROR + 6)
#define NBD_REP_ERR_SHUTDOWN (NBD_REP_ERROR + 7)
#define NBD_REP_ERR_TOO_BIG  (NBD_REP_ERROR + 9)

enum sz_nbd_info_type {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

enum sz_nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum sz_nbd_command_flag {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

#define NBD_REPLY_FLAG_DONE 1U

enum sz_nbd_chunk_type {
	NBD_REPLY_TYPE_OFFSET_DATA = 1,
	NBD_REPLY_TYPE_BLOCK_STATUS = 5,
	NBD_REPLY_TYPE_ERROR = 0x8001,
};

enum sz_nbd_errno {
	NBD_SUCCESS = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#define NBD_STATE_HOLE 1U
#define NBD_STATE_ZERO 2U

/* Handshake. */
void sz_nbd_greeting_encode(uint8_t bytes[SZ_NBD_GREETING_BYTES]);
/* False: flags that were not offered. */
bool sz_nbd_client_flags_decode(const uint8_t bytes[4], bool *is_fixed_out, bool *no_zeroes_out);

struct sz_nbd_option {
	uint32_t type;
	uint32_t length; /* of its data */
};
/* False: it is none. */
bool sz_nbd_option_decode(const uint8_t bytes[SZ_NBD_OPTION_BYTES],
			  struct sz_nbd_option *option_out);
void sz_nbd_reply_encode(uint32_t option, uint32_t type, uint32_t length,
			 uint8_t bytes[SZ_NBD_REPLY_BYTES]);

/* A name that no export has, because it is too long, is "\1". -EINVAL: has a NUL in it. */
int sz_nbd_name_decode(const uint8_t *data, size_t length,
		       char name_out[SZ_NBD_NAME_BYTES]) MUST_CHECK;

struct sz_nbd_info_request {
	char name[SZ_NBD_NAME_BYTES];
	bool wants_description;
	bool wants_block_size;
};
/* The data of INFO and GO. -EINVAL: it is not that. */
int sz_nbd_info_request_decode(const uint8_t *data, size_t length,
			       struct sz_nbd_info_request *request_out) MUST_CHECK;

struct sz_nbd_context_request {
	char name[SZ_NBD_NAME_BYTES];
	bool selects; /* base:allocation is named */
	bool lists;   /* … or asked for by a wildcard, or by no query at all */
};
/* The data of LIST_META_CONTEXT and SET_META_CONTEXT. -EINVAL: it is not that. */
int sz_nbd_context_request_decode(const uint8_t *data, size_t length,
				  struct sz_nbd_context_request *request_out) MUST_CHECK;
extern const char sz_nbd_context_name[]; /* base:allocation */

uint16_t sz_nbd_transmission_flags(const struct sz_nbd_export *export, bool is_structured);
/* Return the bytes that they take. */
size_t sz_nbd_export_encode(uint64_t size_bytes, uint16_t flags, bool no_zeroes,
			    uint8_t bytes[SZ_NBD_EXPORT_BYTES]);
size_t sz_nbd_info_export_encode(uint64_t size_bytes, uint16_t flags,
				 uint8_t bytes[SZ_NBD_INFO_BYTES]);
size_t sz_nbd_info_block_encode(uint32_t preferred_bytes, uint8_t bytes[SZ_NBD_INFO_BYTES]);

/* Transmission. */
struct sz_nbd_request {
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
};
/* False: it is none; what follows cannot be told. */
bool sz_nbd_request_decode(const uint8_t bytes[SZ_NBD_REQUEST_HEAD],
			   struct sz_nbd_request *request_out);
/* May it be done? has_context: block status was agreed on. Type DISC: always. */
enum sz_nbd_errno sz_nbd_request_check(const struct sz_nbd_request *request,
				       const struct sz_nbd_export *export, bool is_structured,
				       bool has_context) MUST_CHECK;
/* What a client is told of 0 or -errno; -EOPNOTSUPP as such only where that was asked for. */
enum sz_nbd_errno sz_nbd_errno_of(int result, bool may_be_unsupported) MUST_CHECK;

/* Return the bytes that they take; payload and data follow. */
size_t sz_nbd_simple_encode(uint64_t cookie, enum sz_nbd_errno error,
			    uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX]);
size_t sz_nbd_chunk_encode(uint64_t cookie, enum sz_nbd_chunk_type type, bool is_last,
			   uint32_t payload_bytes, uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX]);
/* Its head, and the offset; length bytes of data follow. */
size_t sz_nbd_chunk_data_encode(uint64_t cookie, uint64_t offset, uint32_t length, bool is_last,
				uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX]);
size_t sz_nbd_chunk_error_encode(uint64_t cookie, enum sz_nbd_errno error,
				 uint8_t bytes[SZ_NBD_CHUNK_HEAD_MAX]);
void sz_nbd_descriptor_encode(uint32_t length, bool is_hole,
			      uint8_t bytes[SZ_NBD_DESCRIPTOR_BYTES]);
void sz_nbd_context_id_encode(uint8_t bytes[4]);

#endif
