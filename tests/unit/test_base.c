/* base: bytes, cursors, varints, hex, errors, reads at the end of a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void test_varints_round_trip(void **state)
{
	static const uint64_t values[] = { 0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX };
	CLEANUP_BYTES struct sz_bytes bytes = { 0 };
	struct sz_cursor cursor;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++)
		assert_int_equal(sz_bytes_append_varint(&bytes, values[i]), 0);
	cursor = (struct sz_cursor){ .data = bytes.data, .length = bytes.length };
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++)
		assert_true(sz_cursor_varint(&cursor) == values[i]);
	assert_false(cursor.failed);
	assert_int_equal(sz_cursor_varint(&cursor), 0);
	assert_true(cursor.failed);
}

static void test_varint_that_is_too_long_fails(void **state)
{
	static const uint8_t ten[10] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02
	};
	struct sz_cursor cursor = { .data = ten, .length = sizeof(ten) };

	(void)state;
	assert_int_equal(sz_cursor_varint(&cursor), 0);
	assert_true(cursor.failed);
}

static void test_cursor_stays_failed(void **state)
{
	static const uint8_t data[4] = { 1, 2, 3, 4 };
	struct sz_cursor cursor = { .data = data, .length = sizeof(data) };

	(void)state;
	assert_int_equal(sz_cursor_le(&cursor, 2), 0x0201);
	assert_int_equal(sz_cursor_le(&cursor, 4), 0);
	assert_true(cursor.failed);
	assert_null(sz_cursor_take(&cursor, 1));
}

static void test_little_endian(void **state)
{
	uint8_t bytes[8];

	(void)state;
	sz_put_le64(bytes, 0x0102030405060708);
	assert_int_equal(bytes[0], 8);
	assert_true(sz_get_le64(bytes) == 0x0102030405060708);
	assert_int_equal(sz_get_le32(bytes), 0x05060708);
	assert_int_equal(sz_get_le16(bytes), 0x0708);
}

static void test_hex(void **state)
{
	static const uint8_t data[3] = { 0x00, 0xab, 0xff };
	uint8_t decoded[3];
	char text[7];

	(void)state;
	sz_hex_encode(data, sizeof(data), text);
	assert_string_equal(text, "00abff");
	assert_int_equal(sz_hex_decode(text, decoded, sizeof(decoded)), 0);
	assert_memory_equal(decoded, data, sizeof(data));
	assert_int_equal(sz_hex_decode("00abf", decoded, sizeof(decoded)), -EINVAL);
	assert_int_equal(sz_hex_decode("00abff0", decoded, sizeof(decoded)), -EINVAL);
	assert_int_equal(sz_hex_decode("00ABFF", decoded, sizeof(decoded)), -EINVAL);
}

static void test_errors_keep_their_cause(void **state)
{
	struct sz_error error = { 0 };

	(void)state;
	assert_int_equal(sz_fail(&error, -ENOENT, "band %d", 7), -ENOENT);
	assert_int_equal(sz_fail(&error, -EBADMSG, "device 3"), -EBADMSG);
	assert_string_equal(error.text, "device 3: band 7");
	assert_int_equal(error.code, -EBADMSG);
	assert_int_equal(sz_fail(NULL, -EIO, "nobody listens"), -EIO);
}

static void test_read_at_the_end_of_a_file_is_short(void **state)
{
	FILE *file = tmpfile();
	char buffer[8];
	size_t done;

	(void)state;
	assert_non_null(file);
	assert_int_equal(sz_pwrite(fileno(file), "abcde", 5, 3), 0);
	assert_int_equal(sz_pread(fileno(file), buffer, sizeof(buffer), 4, &done), 0);
	assert_int_equal(done, 4);
	assert_memory_equal(buffer, "bcde", 4);
	assert_int_equal(sz_pread(fileno(file), buffer, sizeof(buffer), 99, &done), 0);
	assert_int_equal(done, 0);
	assert_int_equal(sz_pread(-1, buffer, 1, 0, &done), -EBADF);
	(void)fclose(file);
}

static void test_bytes_grow_and_keep_what_they_hold(void **state)
{
	CLEANUP_BYTES struct sz_bytes bytes = { 0 };
	uint8_t piece[777];

	(void)state;
	for (unsigned int i = 0; i < 100; i++) {
		memset(piece, (int)i, sizeof(piece));
		assert_int_equal(sz_bytes_append(&bytes, piece, sizeof(piece)), 0);
	}
	assert_int_equal(bytes.length, 100 * sizeof(piece));
	assert_true(bytes.capacity >= bytes.length);
	for (size_t i = 0; i < bytes.length; i++)
		assert_int_equal(bytes.data[i], i / sizeof(piece));
	assert_int_equal(sz_bytes_append(&bytes, NULL, 0), 0);
	assert_int_equal(sz_bytes_append(&bytes, piece, SIZE_MAX / 2), -ENOMEM);
	assert_int_equal(bytes.length, 100 * sizeof(piece));
	sz_bytes_free(&bytes);
	assert_null(bytes.data);
	assert_int_equal(bytes.length, 0);
}

static void test_widths_are_kept(void **state)
{
	CLEANUP_BYTES struct sz_bytes bytes = { 0 };
	struct sz_cursor cursor;

	(void)state;
	for (size_t width = 1; width <= 8; width++)
		assert_int_equal(sz_bytes_append_le(&bytes, 0x8877665544332211, width), 0);
	assert_int_equal(bytes.length, 36);
	cursor = (struct sz_cursor){ .data = bytes.data, .length = bytes.length };
	for (unsigned int width = 1; width <= 8; width++) {
		uint64_t mask = UINT64_MAX >> (64 - 8 * width);

		assert_true(sz_cursor_le(&cursor, width) == (0x8877665544332211 & mask));
	}
	assert_false(cursor.failed);
	assert_int_equal(cursor.offset, cursor.length);
}

static void test_a_cursor_takes_up_to_the_last_byte(void **state)
{
	static const uint8_t data[4] = { 1, 2, 3, 4 };
	struct sz_cursor cursor = { .data = data, .length = sizeof(data) };

	(void)state;
	assert_ptr_equal(sz_cursor_take(&cursor, 3), data);
	assert_ptr_equal(sz_cursor_take(&cursor, 1), data + 3);
	assert_ptr_equal(sz_cursor_take(&cursor, 0), data + 4);
	assert_false(cursor.failed);
	assert_null(sz_cursor_take(&cursor, SIZE_MAX));
	assert_true(cursor.failed);
	assert_null(sz_cursor_take(&cursor, 0));
}

static void test_a_varint_that_is_cut_fails(void **state)
{
	static const uint8_t cut[2] = { 0xff, 0x80 };
	struct sz_cursor cursor = { .data = cut, .length = sizeof(cut) };

	(void)state;
	assert_int_equal(sz_cursor_varint(&cursor), 0);
	assert_true(cursor.failed);
}

static void test_a_long_error_is_cut_and_its_cause_too(void **state)
{
	struct sz_error error = { 0 };
	char text[600];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(sz_fail(&error, -EIO, "%s", text), -EIO);
	assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
	assert_int_equal(sz_fail(&error, -EPERM, "short"), -EPERM);
	assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
	assert_memory_equal(error.text, "short: aaa", 10);
}

static void test_pipes_are_read_and_written_in_full(void **state)
{
	char buffer[16];
	size_t done;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(sz_write(fds[1], "abc", 3), 0);
	assert_int_equal(sz_write(fds[1], "de", 2), 0);
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(sz_read(fds[0], buffer, sizeof(buffer), &done), 0);
	assert_int_equal(done, 5);
	assert_memory_equal(buffer, "abcde", 5);
	assert_int_equal(sz_write(fds[0], "x", 1), -EBADF);
	assert_int_equal(close(fds[0]), 0);
}

static void test_a_descriptor_is_closed_at_the_end_of_its_scope(void **state)
{
	int number;

	(void)state;
	{
		CLEANUP_FD int fd = dup(STDERR_FILENO);

		number = fd;
		assert_true(fcntl(number, F_GETFD) >= 0);
		errno = ENOTTY;
	}
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fcntl(number, F_GETFD), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_varints_round_trip),
		cmocka_unit_test(test_varint_that_is_too_long_fails),
		cmocka_unit_test(test_cursor_stays_failed),
		cmocka_unit_test(test_little_endian),
		cmocka_unit_test(test_hex),
		cmocka_unit_test(test_errors_keep_their_cause),
		cmocka_unit_test(test_read_at_the_end_of_a_file_is_short),
		cmocka_unit_test(test_bytes_grow_and_keep_what_they_hold),
		cmocka_unit_test(test_widths_are_kept),
		cmocka_unit_test(test_a_cursor_takes_up_to_the_last_byte),
		cmocka_unit_test(test_a_varint_that_is_cut_fails),
		cmocka_unit_test(test_a_long_error_is_cut_and_its_cause_too),
		cmocka_unit_test(test_pipes_are_read_and_written_in_full),
		cmocka_unit_test(test_a_descriptor_is_closed_at_the_end_of_its_scope),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
