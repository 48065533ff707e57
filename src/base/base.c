#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static bool warnings_are_quiet;

int sz_fail(struct sz_error *error, int code, const char *format, ...)
{
	char cause[sizeof(error->text)];
	size_t used;
	va_list arguments;

	if (error == NULL)
		return code;
	memcpy(cause, error->text, sizeof(cause));
	va_start(arguments, format);
	(void)vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	if (cause[0] != '\0') {
		used = strlen(error->text);
		(void)snprintf(error->text + used, sizeof(error->text) - used, ": %s", cause);
	}
	error->code = code;
	return code;
}

void sz_warn_quiet(bool quiet)
{
	warnings_are_quiet = quiet;
}

void sz_warn(const char *format, ...)
{
	char text[sizeof(((struct sz_error *)NULL)->text)];
	va_list arguments;

	if (warnings_are_quiet)
		return;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	(void)fprintf(stderr, "szpool: warning: %s\n", text);
}

void sz_cleanup_fd(int *fd) /* NOLINT(readability-non-const-parameter): as the attribute wants it */
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

int sz_pread(int fd, void *buffer, size_t length, uint64_t offset, size_t *done_out)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, (char *)buffer + done, length - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*done_out = done;
	return 0;
}

int sz_pwrite(int fd, const void *buffer, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pwrite(fd, (const char *)buffer + done, length - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int sz_write(int fd, const void *buffer, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = write(fd, (const char *)buffer + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int sz_read(int fd, void *buffer, size_t length, size_t *done_out)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = read(fd, (char *)buffer + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*done_out = done;
	return 0;
}

int sz_bytes_append(struct sz_bytes *bytes, const void *data, size_t length)
{
	if (length > SIZE_MAX / 4 - bytes->length)
		return -ENOMEM;
	if (bytes->length + length > bytes->capacity) {
		size_t capacity = bytes->capacity == 0 ? 256 : bytes->capacity;
		uint8_t *grown;

		while (capacity < bytes->length + length)
			capacity *= 2;
		grown = realloc(bytes->data, capacity);
		if (grown == NULL)
			return -ENOMEM;
		bytes->data = grown;
		bytes->capacity = capacity;
	}
	if (length > 0)
		memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
	return 0;
}

int sz_bytes_append_le(struct sz_bytes *bytes, uint64_t value, size_t width)
{
	uint8_t encoded[8];

	sz_put_le64(encoded, value);
	return sz_bytes_append(bytes, encoded, width);
}

int sz_bytes_append_varint(struct sz_bytes *bytes, uint64_t value)
{
	uint8_t encoded[10];
	size_t length = 0;

	do {
		uint8_t low = value & 0x7f;

		value >>= 7;
		encoded[length++] = (uint8_t)(low | (value != 0 ? 0x80 : 0));
	} while (value != 0);
	return sz_bytes_append(bytes, encoded, length);
}

void sz_bytes_free(struct sz_bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct sz_bytes){ 0 };
}

const uint8_t *sz_cursor_take(struct sz_cursor *cursor, size_t length)
{
	const uint8_t *at;

	if (cursor->failed || length > cursor->length - cursor->offset) {
		cursor->failed = true;
		return NULL;
	}
	at = cursor->data + cursor->offset;
	cursor->offset += length;
	return at;
}

uint64_t sz_cursor_le(struct sz_cursor *cursor, size_t width)
{
	const uint8_t *at = sz_cursor_take(cursor, width);
	uint64_t value = 0;

	for (size_t i = 0; at != NULL && i < width; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

uint64_t sz_cursor_varint(struct sz_cursor *cursor)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		const uint8_t *at = sz_cursor_take(cursor, 1);

		if (at == NULL)
			return 0;
		if (shift == 63 && *at > 1)
			break;
		value |= (uint64_t)(*at & 0x7f) << shift;
		if ((*at & 0x80) == 0)
			return value;
	}
	cursor->failed = true;
	return 0;
}

static uint64_t clock_read(clockid_t id)
{
	struct timespec now;

	(void)clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t sz_clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t sz_boot_ns(void)
{
	return clock_read(CLOCK_BOOTTIME);
}

uint64_t sz_wall_ns(void)
{
	return clock_read(CLOCK_REALTIME);
}

void sz_sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&time, NULL);
}

void sz_hex_encode(const uint8_t *data, size_t length, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	text[2 * length] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int sz_hex_decode(const char *text, uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		int high = hex_digit(text[2 * i]);
		int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return -EINVAL;
		data[i] = (uint8_t)(high << 4 | low);
	}
	return text[2 * length] == '\0' ? 0 : -EINVAL;
}
