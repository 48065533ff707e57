/* The server's answers, right and wrong requests, against an export in memory and a model of it. */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE (32U << 20)

static void fill(uint8_t *data, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(random_next(&seed) >> 3);
}

static void test_what_is_written_is_read(void **state)
{
	struct server server;
	CLEANUP_FREE uint8_t *data = malloc(LARGE);
	CLEANUP_FREE uint8_t *back = malloc(LARGE);
	int fd;

	(void)state;
	server_start(&server);
	for (int is_structured = 0; is_structured < 2; is_structured++) {
		static const struct {
			uint64_t offset;
			uint32_t length;
		} ranges[] = { { 0, 1 },
			       { 4095, 2 },
			       { 512, 65536 },
			       { 1, PIECE_BYTES },
			       { 77, PIECE_BYTES + 1 },
			       { DISK_BYTES - LARGE, LARGE },
			       { DISK_BYTES - 1, 1 } };

		fd = client_ready(&server, is_structured != 0);
		for (size_t i = 0; i < ARRAY_LENGTH(ranges); i++) {
			uint32_t length = ranges[i].length;
			uint16_t flags = is_structured != 0 && i % 2 == 0 ? NBD_CMD_FLAG_DF : 0;

			fill(data, length, i + 1);
			assert_int_equal(ask_write(fd, 0, ranges[i].offset, data, length), 0);
			memset(back, 0, length);
			assert_int_equal(ask_read(fd, is_structured != 0, flags, ranges[i].offset,
						  back, length),
					 0);
			assert_memory_equal(data, back, length);
		}
		(void)close(fd);
	}
	assert_int_equal(atomic_load(&server.disk.durable), 0);
	server_stop(&server);
}

static void test_what_cannot_be_is_an_error_and_no_more(void **state)
{
	static const struct {
		uint16_t type;
		uint16_t flags;
		uint64_t offset;
		uint32_t length;
		uint32_t error;
	} cases[] = {
		{ NBD_CMD_READ, 0, DISK_BYTES, 1, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK_BYTES - 1, 2, NBD_EINVAL },
		{ NBD_CMD_READ, 0, UINT64_MAX, 1, NBD_EINVAL },
		{ NBD_CMD_READ, 0, UINT64_MAX - 10, 4096, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, LARGE + 1, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, UINT32_MAX, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_READ, NBD_CMD_FLAG_REQ_ONE, 0, 1, NBD_EINVAL },
		{ NBD_CMD_READ, 0x8000, 0, 1, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, DISK_BYTES, 1, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 1, UINT32_MAX, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, 0, DISK_BYTES, 1, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 0, UINT64_MAX, UINT32_MAX, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_DF, 0, 1, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 1, NBD_ENOTSUP },
		{ NBD_CMD_CACHE, 0, DISK_BYTES, 1, NBD_EINVAL },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_NO_HOLE, 0, 1, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, 0, 4096, NBD_SUCCESS },
		{ NBD_CMD_BLOCK_STATUS, 0, DISK_BYTES, 1, NBD_EINVAL },
		{ NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 0, 1, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 1, 0, NBD_EINVAL },
		{ NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0, NBD_SUCCESS },
		{ 8, 0, 0, 0, NBD_EINVAL },
		{ 0xffff, 0xffff, UINT64_MAX, UINT32_MAX, NBD_EINVAL },
	};
	struct server server;
	CLEANUP_FREE uint8_t *data = calloc(1, LARGE + 1);
	int fd;

	(void)state;
	server_start(&server);
	fd = client_ready(&server, true);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(
			ask(fd, cases[i].flags, cases[i].type, cases[i].offset, cases[i].length),
			cases[i].error);
	}
	assert_int_equal(ask_write(fd, 0, DISK_BYTES - 1, data, 2), NBD_ENOSPC);
	assert_int_equal(ask_write(fd, 0, UINT64_MAX, data, 4096), NBD_ENOSPC);
	assert_int_equal(ask_write(fd, 0, 0, data, LARGE + 1), NBD_EINVAL);
	assert_int_equal(ask_write(fd, NBD_CMD_FLAG_DF, 0, data, 4096), NBD_EINVAL);
	assert_int_equal(ask_write(fd, 0, 0, data, 0), NBD_EINVAL);
	assert_int_equal(ask_write(fd, 0, 0, data, LARGE), NBD_SUCCESS);
	(void)close(fd);
	/* Without structured replies there is no block status, and nothing to fragment. */
	fd = client_ready(&server, false);
	assert_int_equal(ask(fd, 0, NBD_CMD_BLOCK_STATUS, 0, 4096), NBD_EINVAL);
	assert_int_equal(ask_read(fd, false, NBD_CMD_FLAG_DF, 0, data, 4096), NBD_EINVAL);
	(void)close(fd);
	server_stop(&server);
}

static void test_errors_are_told_in_the_protocols_words(void **state)
{
	static const struct {
		int result;
		uint32_t error;
	} cases[] = { { -ENOSPC, NBD_ENOSPC }, { -EDQUOT, NBD_ENOSPC }, { -EIO, NBD_EIO },
		      { -EBADMSG, NBD_EIO },   { -EROFS, NBD_EPERM },   { -ENOMEM, NBD_ENOMEM },
		      { -ENODEV, NBD_EIO },    { 0, NBD_SUCCESS } };
	struct server server;
	CLEANUP_FREE uint8_t *data = calloc(1, LARGE);
	int fds[2];

	(void)state;
	server_start(&server);
	fds[0] = client_ready(&server, false);
	fds[1] = client_ready(&server, true);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		server.disk.result = cases[i].result;
		for (int is_structured = 0; is_structured < 2; is_structured++) {
			int fd = fds[is_structured];

			assert_int_equal(ask_write(fd, 0, 5, data, 5000), cases[i].error);
			assert_int_equal(ask_write(fd, 0, 5, data, LARGE), cases[i].error);
			assert_int_equal(ask_read(fd, is_structured != 0, 0, 5, data, 5000),
					 cases[i].error);
			assert_int_equal(ask_read(fd, is_structured != 0, 0, 5, data, LARGE),
					 cases[i].error);
			assert_int_equal(ask(fd, 0, NBD_CMD_TRIM, 0, 4096), cases[i].error);
			assert_int_equal(ask(fd, 0, NBD_CMD_FLUSH, 0, 0), cases[i].error);
		}
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	server_stop(&server);
}

static void test_durable_is_what_has_to_be(void **state)
{
	struct server server;
	CLEANUP_FREE uint8_t *data = calloc(1, LARGE);
	int fd;

	(void)state;
	server_start(&server);
	fd = client_ready(&server, true);
	assert_int_equal(ask_write(fd, 0, 0, data, 4096), 0);
	assert_int_equal(atomic_load(&server.disk.durable), 0);
	assert_int_equal(ask_write(fd, NBD_CMD_FLAG_FUA, 0, data, 4096), 0);
	assert_int_equal(ask(fd, NBD_CMD_FLAG_FUA, NBD_CMD_TRIM, 0, 4096), 0);
	assert_int_equal(ask(fd, NBD_CMD_FLAG_FUA, NBD_CMD_WRITE_ZEROES, 0, 4096), 0);
	assert_int_equal(atomic_load(&server.disk.durable), 3);
	assert_int_equal(atomic_load(&server.disk.flushes), 0);
	/* In pieces: the last makes all of them durable. */
	assert_int_equal(ask_write(fd, NBD_CMD_FLAG_FUA, 0, data, LARGE), 0);
	assert_int_equal(atomic_load(&server.disk.durable), 3);
	assert_int_equal(atomic_load(&server.disk.flushes), 1);
	assert_int_equal(ask(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
	assert_int_equal(atomic_load(&server.disk.flushes), 2);
	(void)close(fd);
	server_stop(&server);
}

static void test_nothing_is_written_to_what_is_for_reading(void **state)
{
	struct server server;
	uint8_t data[4096] = { 0 };
	int fd;

	(void)state;
	server_start(&server);
	server.disk.is_read_only = true;
	fd = client_ready(&server, true);
	assert_int_equal(ask_write(fd, 0, 0, data, sizeof(data)), NBD_EPERM);
	assert_int_equal(ask(fd, 0, NBD_CMD_TRIM, 0, 4096), NBD_EPERM);
	assert_int_equal(ask(fd, 0, NBD_CMD_WRITE_ZEROES, 0, 4096), NBD_EPERM);
	assert_int_equal(ask(fd, 0, NBD_CMD_FLUSH, 0, 0), NBD_SUCCESS);
	assert_int_equal(ask_read(fd, true, 0, 0, data, sizeof(data)), NBD_SUCCESS);
	(void)close(fd);
	server_stop(&server);
}

/* Descriptors of a block status: how many; what they cover. */
static uint32_t status_receive(int fd, uint64_t cookie, uint32_t *covered_out, uint32_t *first_out)
{
	CLEANUP_FREE uint8_t *data = malloc(1 << 20);
	uint8_t head[20];
	uint32_t size;

	assert_true(all_receive(fd, head, sizeof(head)));
	assert_int_equal(get_be(head, 4), 0x668e33ef);
	assert_int_equal(get_be(head + 4, 2), NBD_REPLY_FLAG_DONE);
	assert_int_equal(get_be(head + 6, 2), NBD_REPLY_TYPE_BLOCK_STATUS);
	assert_true(get_be(head + 8, 8) == cookie);
	size = (uint32_t)get_be(head + 16, 4);
	assert_true(size >= 12 && size % 8 == 4 && size <= 1 << 20);
	assert_true(all_receive(fd, data, size));
	assert_int_equal(get_be(data, 4), SZ_NBD_CONTEXT_ID);
	*covered_out = 0;
	for (uint32_t at = 4; at < size; at += 8) {
		uint32_t flags = (uint32_t)get_be(data + at + 4, 4);

		assert_true(get_be(data + at, 4) > 0);
		assert_true(flags == 0 || flags == (NBD_STATE_HOLE | NBD_STATE_ZERO));
		if (at > 4) /* neighbours differ */
			assert_true(flags != get_be(data + at - 4, 4));
		*covered_out += (uint32_t)get_be(data + at, 4);
	}
	*first_out = (uint32_t)get_be(data + 4, 4);
	return (size - 4) / 8;
}

static void test_holes_are_told(void **state)
{
	struct server server;
	uint8_t data[BLOCK] = { 1 };
	uint32_t covered;
	uint32_t first;
	int fd;

	(void)state;
	server_start(&server);
	fd = client_ready(&server, true);
	assert_int_equal(ask_write(fd, 0, 10 * BLOCK, data, BLOCK), 0);
	request_send(fd, 0, NBD_CMD_BLOCK_STATUS, 1, 0, 20 * BLOCK);
	assert_int_equal(status_receive(fd, 1, &covered, &first), 3);
	assert_int_equal(covered, 20 * BLOCK);
	assert_int_equal(first, 10 * BLOCK);
	request_send(fd, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 2, 100, 20 * BLOCK);
	assert_int_equal(status_receive(fd, 2, &covered, &first), 1);
	assert_int_equal(covered, 10 * BLOCK - 100);
	/* Every second block: more than are told at once. */
	for (uint64_t i = 0; i < DISK_BYTES / BLOCK; i += 2)
		server.disk.holes[i] = false;
	request_send(fd, 0, NBD_CMD_BLOCK_STATUS, 3, 0, (uint32_t)DISK_BYTES);
	assert_int_equal(status_receive(fd, 3, &covered, &first), DESCRIPTORS_MAX);
	assert_int_equal(covered, DESCRIPTORS_MAX * BLOCK);
	(void)close(fd);
	server_stop(&server);
}

/* One of several clients that each have a part of the disk, and a model of it. */
struct part {
	pthread_t thread;
	struct server *server;
	uint64_t seed;
	uint64_t from;
	bool is_structured;
};
#define PART_BYTES (4U << 20)
#define STEPS      300

static void part_step(struct part *part, const int *fds, uint8_t *model, uint8_t *data)
{
	uint32_t limit = random_next(&part->seed) % 8 == 0 ? PART_BYTES : 20000;
	uint32_t length = 1 + (uint32_t)(random_next(&part->seed) % limit);
	uint32_t offset = (uint32_t)(random_next(&part->seed) % (PART_BYTES - length + 1));
	int fd = fds[random_next(&part->seed) % 2]; /* what one has done the other sees */

	switch (random_next(&part->seed) % 4) {
	case 0:
		fill(data, length, random_next(&part->seed) | 1);
		assert_int_equal(ask_write(fd, random_next(&part->seed) % 2, part->from + offset,
					   data, length),
				 0);
		memcpy(model + offset, data, length);
		break;
	case 1:
		assert_int_equal(ask(fd, 0, NBD_CMD_WRITE_ZEROES, part->from + offset, length), 0);
		memset(model + offset, 0, length);
		break;
	default:
		assert_int_equal(
			ask_read(fd, part->is_structured, 0, part->from + offset, data, length), 0);
		assert_memory_equal(data, model + offset, length);
	}
}

static void *part_run(void *argument)
{
	struct part *part = argument;
	CLEANUP_FREE uint8_t *model = calloc(1, PART_BYTES);
	CLEANUP_FREE uint8_t *data = malloc(PART_BYTES);
	int fds[2] = { client_ready(part->server, part->is_structured),
		       client_ready(part->server, part->is_structured) };

	for (unsigned int i = 0; i < STEPS; i++)
		part_step(part, fds, model, data);
	(void)close(fds[0]);
	(void)close(fds[1]);
	return NULL;
}

static void test_several_clients_see_what_a_model_says(void **state)
{
	struct server server;
	struct part parts[4];
	uint64_t seed = random_seed();

	(void)state;
	server_start(&server);
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++) {
		parts[i] = (struct part){ .server = &server,
					  .seed = seed + i,
					  .from = i * PART_BYTES,
					  .is_structured = i % 2 == 0 };
		assert_int_equal(pthread_create(&parts[i].thread, NULL, part_run, &parts[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(parts); i++)
		(void)pthread_join(parts[i].thread, NULL);
	server_stop(&server);
}

/* Requests that are sent without waiting for answers: each gets one, in any order. */
static void test_many_requests_at_once_are_all_answered(void **state)
{
	enum {
		REQUESTS = 500
	};
	struct server server;
	bool seen[REQUESTS] = { 0 };
	int fd;

	(void)state;
	server_start(&server);
	fd = client_ready(&server, false);
	for (uint64_t i = 0; i < REQUESTS; i++)
		request_send(fd, 0, i % 3 == 0 ? NBD_CMD_TRIM : NBD_CMD_CACHE, i, i * 4096, 4096);
	for (unsigned int i = 0; i < REQUESTS; i++) {
		uint8_t head[16];
		uint64_t cookie;

		assert_true(all_receive(fd, head, sizeof(head)));
		assert_int_equal(get_be(head + 4, 4), 0);
		cookie = get_be(head + 8, 8);
		assert_true(cookie < REQUESTS && !seen[cookie]);
		seen[cookie] = true;
	}
	/* What was asked for before a goodbye is answered, too. */
	for (uint64_t i = 0; i < 20; i++)
		request_send(fd, 0, NBD_CMD_CACHE, i, 0, 4096);
	request_send(fd, 0, NBD_CMD_DISC, 99, 0, 0);
	for (unsigned int i = 0; i < 20; i++)
		assert_true(all_receive(fd, (uint8_t[16]){ 0 }, 16));
	assert_true(is_cut_off(fd));
	(void)close(fd);
	server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_what_cannot_be_is_an_error_and_no_more),
		cmocka_unit_test(test_errors_are_told_in_the_protocols_words),
		cmocka_unit_test(test_durable_is_what_has_to_be),
		cmocka_unit_test(test_nothing_is_written_to_what_is_for_reading),
		cmocka_unit_test(test_holes_are_told),
		cmocka_unit_test(test_several_clients_see_what_a_model_says),
		cmocka_unit_test(test_many_requests_at_once_are_all_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
