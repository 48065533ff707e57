/*
 * base: what every layer uses: errors with text, scoped cleanup, little-endian bytes, full
 * reads and writes, a growing byte buffer. Depends on nothing but libc.
 */
#ifndef SZ_BASE_BASE_H
#define SZ_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define MUST_CHECK         __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a)  __attribute__((format(printf, f, a)))
#define CLEANUP(function)  __attribute__((cleanup(function)))
#define ARRAY_LENGTH(x)    (sizeof(x) / sizeof((x)[0]))
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#define ROUND_UP(n, d)     (DIV_ROUND_UP(n, d) * (d))

/* Moves a pointer out of its scope: the value is returned, the variable becomes NULL. */
#define TAKE(pointer)                                                                              \
	({                                                                                         \
		__typeof__(pointer) taken_ = (pointer);                                            \
		(pointer) = NULL;                                                                  \
		taken_;                                                                            \
	})

/*
 * Errors. A function returns 0 or -errno (the meanings that szpool gives to some of them are in
 * docs/DESIGN.md, "Errors"). Where the nouns are known it also leaves a text for people.
 */
struct sz_error {
	int code;       /* -errno of the first failure, 0: none */
	char text[480]; /* one line, no newline; "" if none */
};

/*
 * Sets *error (which may be NULL) and returns code. A text that is already there stays behind the
 * new one, as its cause: "new: old".
 */
int sz_fail(struct sz_error *error, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Warnings for people, on stderr, one line each: "szpool: warning: …". Silent after _quiet(true). */
void sz_warn(const char *format, ...) PRINTF_LIKE(1, 2);
void sz_warn_quiet(bool quiet);

/* Scoped cleanup. */
static inline void sz_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}
void sz_cleanup_fd(int *fd); /* closes *fd if it is >= 0; errno stays */
#define CLEANUP_FREE CLEANUP(sz_cleanup_free)
#define CLEANUP_FD   CLEANUP(sz_cleanup_fd)
/* Moves a descriptor out of its scope, as TAKE does it with a pointer. */
static inline int sz_fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Little-endian accessors: what is on disk is bytes. */
static inline void sz_put_le16(uint8_t *to, uint16_t value)
{
	to[0] = (uint8_t)value;
	to[1] = (uint8_t)(value >> 8);
}
static inline void sz_put_le32(uint8_t *to, uint32_t value)
{
	for (unsigned int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}
static inline void sz_put_le64(uint8_t *to, uint64_t value)
{
	for (unsigned int i = 0; i < 8; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}
static inline uint16_t sz_get_le16(const uint8_t *from)
{
	return (uint16_t)(from[0] | (uint16_t)from[1] << 8);
}
static inline uint32_t sz_get_le32(const uint8_t *from)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < 4; i++)
		value |= (uint32_t)from[i] << (8 * i);
	return value;
}
static inline uint64_t sz_get_le64(const uint8_t *from)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < 8; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

/*
 * Full reads and writes: EINTR and short transfers are retried.
 * _pread: 0 and *done_out = bytes read (less than length at the end of the file), or -errno.
 */
int sz_pread(int fd, void *buffer, size_t length, uint64_t offset, size_t *done_out) MUST_CHECK;
int sz_pwrite(int fd, const void *buffer, size_t length, uint64_t offset) MUST_CHECK;
int sz_write(int fd, const void *buffer, size_t length) MUST_CHECK;
int sz_read(int fd, void *buffer, size_t length, size_t *done_out) MUST_CHECK;

/* A byte buffer that grows. Zero-initialised: empty. -ENOMEM on failure, content unchanged. */
struct sz_bytes {
	uint8_t *data;
	size_t length;
	size_t capacity;
};
int sz_bytes_append(struct sz_bytes *bytes, const void *data, size_t length) MUST_CHECK;
int sz_bytes_append_le(struct sz_bytes *bytes, uint64_t value, size_t width) MUST_CHECK;
int sz_bytes_append_varint(struct sz_bytes *bytes, uint64_t value) MUST_CHECK; /* LEB128 */
void sz_bytes_free(struct sz_bytes *bytes); /* contents are not wiped */
#define CLEANUP_BYTES CLEANUP(sz_bytes_free)

/* A reader over bytes: every get checks the bounds; after the first failure it stays failed. */
struct sz_cursor {
	const uint8_t *data;
	size_t length;
	size_t offset;
	bool failed;
};
uint64_t sz_cursor_le(struct sz_cursor *cursor, size_t width); /* 0 once failed */
uint64_t sz_cursor_varint(struct sz_cursor *cursor);
const uint8_t *sz_cursor_take(struct sz_cursor *cursor, size_t length); /* NULL once failed */

/* Nanoseconds: monotonic; the same, but running while the machine sleeps; the time of day. */
uint64_t sz_clock_ns(void);
uint64_t sz_boot_ns(void);
uint64_t sz_wall_ns(void);
void sz_sleep_ms(unsigned int ms); /* a signal may end it earlier */

/* Lower-case hex of length bytes; text has 2 * length + 1 bytes. Decoding: -EINVAL if not hex. */
void sz_hex_encode(const uint8_t *data, size_t length, char *text);
int sz_hex_decode(const char *text, uint8_t *data, size_t length) MUST_CHECK;

#endif
