/*
 * Clients that break the rules, dawdle, or send what chance made: whatever they do, the server stays, others are
 * served, and nothing beyond the export is touched.
 */
#include "harness.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ROUNDS 300

static void test_options_are_answered_right_or_wrong(void **state)
{
	static const uint8_t disk[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 1, 0, 3 };
	static const uint8_t none[] = { 0, 0, 0, 4, 'n', 'o', 'n', 'e', 0, 0 };
	static const uint8_t shut[] = { 0, 0, 0, 4, 's', 'h', 'u', 't', 0, 0 };
	static const uint8_t nul[] = { 0, 0, 0, 4, 'd', 'i', 0, 'k', 0, 0 };
	static const uint8_t contexts[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 0, 0, 0 };
	static const uint8_t lying[] = { 0xff, 0xff, 0xff, 0xff, 'd', 'i', 's', 'k', 0, 0 };
	static const uint8_t many[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0xff, 0xff, 0, 3 };
	CLEANUP_FREE uint8_t *large = calloc(1, 1 << 20);
	struct server server;
	int fd;

	(void)state;
	server_start(&server);
	fd = client_connect(&server);
	greet(fd, 3);
	assert_int_equal(option_ask(fd, NBD_OPT_LIST, NULL, 0), NBD_REP_ACK);
	assert_int_equal(option_ask(fd, NBD_OPT_LIST, disk, 4), NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_STARTTLS, NULL, 0), NBD_REP_ERR_POLICY);
	assert_int_equal(option_ask(fd, NBD_OPT_INFO, disk, sizeof(disk)), NBD_REP_ACK);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, none, sizeof(none)), NBD_REP_ERR_UNKNOWN);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, shut, sizeof(shut)), NBD_REP_ERR_POLICY);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, nul, sizeof(nul)), NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, lying, sizeof(lying)), NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, many, sizeof(many)), NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, NULL, 0), NBD_REP_ERR_INVALID);
	for (uint32_t length = 1; length < sizeof(disk); length++)
		assert_int_equal(option_ask(fd, NBD_OPT_GO, disk, length), NBD_REP_ERR_INVALID);
	/* Block status needs structured replies. */
	assert_int_equal(option_ask(fd, NBD_OPT_SET_META_CONTEXT, contexts, sizeof(contexts)),
			 NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_STRUCTURED_REPLY, disk, 1), NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
	assert_int_equal(option_ask(fd, NBD_OPT_LIST_META_CONTEXT, contexts, sizeof(contexts)),
			 NBD_REP_ACK);
	assert_int_equal(option_ask(fd, NBD_OPT_SET_META_CONTEXT, lying, sizeof(lying)),
			 NBD_REP_ERR_INVALID);
	assert_int_equal(option_ask(fd, 4711, disk, sizeof(disk)), NBD_REP_ERR_UNSUP);
	assert_int_equal(option_ask(fd, NBD_OPT_GO, large, 1 << 20), NBD_REP_ERR_TOO_BIG);
	assert_int_equal(option_ask(fd, NBD_OPT_ABORT, NULL, 0), NBD_REP_ACK);
	assert_true(is_cut_off(fd));
	(void)close(fd);

	/* Flags that nobody offered; EXPORT_NAME of what is not there, and of what is. */
	fd = client_connect(&server);
	greet(fd, 7);
	assert_true(is_cut_off(fd));
	(void)close(fd);
	fd = client_connect(&server);
	greet(fd, 3);
	option_send(fd, NBD_OPT_EXPORT_NAME, "none", 4);
	assert_true(is_cut_off(fd));
	(void)close(fd);
	fd = client_connect(&server);
	greet(fd, 1);
	option_send(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
	assert_true(all_receive(fd, large, SZ_NBD_EXPORT_BYTES));
	assert_true(get_be(large, 8) == DISK_BYTES);
	assert_int_equal(ask(fd, 0, NBD_CMD_CACHE, 0, 4096), 0);
	(void)close(fd);
	server_stop(&server);
}

/* What a good client sends from its first byte on; returns its length. */
static size_t session_make(uint8_t *bytes, uint64_t *seed)
{
	static const uint8_t begin[] =
		"\0\0\0\3IHAVEOPT\0\0\0\10\0\0\0\0"
		"IHAVEOPT\0\0\0\12\0\0\0\37\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation"
		"IHAVEOPT\0\0\0\7\0\0\0\14\0\0\0\4disk\0\1\0\3";
	size_t length = sizeof(begin) - 1;

	memcpy(bytes, begin, length);
	for (unsigned int i = 0; i < 20; i++) {
		uint16_t type = (uint16_t)(random_next(seed) % 8);
		uint32_t size = 1 + (uint32_t)(random_next(seed) % 3000);

		put_be(bytes + length, 0x25609513, 4);
		put_be(bytes + length + 4, 0, 2);
		put_be(bytes + length + 6, type == NBD_CMD_DISC ? NBD_CMD_READ : type, 2);
		put_be(bytes + length + 8, i, 8);
		put_be(bytes + length + 16, random_next(seed) % DISK_BYTES, 8);
		put_be(bytes + length + 24, size, 4);
		length += 28;
		if (type == NBD_CMD_WRITE) {
			memset(bytes + length, (int)i, size);
			length += size;
		}
	}
	return length;
}

/* Reads what comes while it sends, as the server waits for that; then goes, in one of several ways. */
static void hostile_talk(int fd, const uint8_t *bytes, size_t length, uint64_t *seed)
{
	uint8_t ignored[65536];
	size_t at = 0;

	while (at < length) {
		size_t some = 1 + random_next(seed) % 5000;
		ssize_t done;

		if (some > length - at)
			some = length - at;
		done = send(fd, bytes + at, some, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && errno != EAGAIN)
			return; /* it was thrown out */
		at += done > 0 ? (size_t)done : 0;
		done = recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT);
		if (done == 0)
			return;
	}
	if (random_next(seed) % 2 == 0) {
		(void)shutdown(fd, SHUT_WR);
		while (recv(fd, ignored, sizeof(ignored), 0) > 0)
			;
	}
}

static void test_what_chance_sends(void **state)
{
	CLEANUP_FREE uint8_t *bytes = malloc(1 << 20);
	struct server server;
	uint64_t seed = random_seed();

	(void)state;
	server_start(&server);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		int fd = client_connect(&server);
		size_t length = session_make(bytes, &seed);

		if (round % 4 ==
		    0) { /* nothing but chance, behind a good beginning of any length */
			for (size_t i = random_next(&seed) % 200; i < length; i++)
				bytes[i] = (uint8_t)random_next(&seed);
		} else {
			for (uint64_t i = random_next(&seed) % 8; i > 0; i--)
				bytes[random_next(&seed) % (i % 2 == 0 ? 150 : length)] ^=
					(uint8_t)(1U << random_next(&seed) % 8);
			if (round % 4 == 1)
				length = random_next(&seed) % length;
		}
		hostile_talk(fd, bytes, length, &seed);
		(void)close(fd);
		if (round % 50 == 0)
			check_alive(&server);
	}
	check_alive(&server);
	disk_check_guards(&server.disk);
	server_stop(&server);
}

static void test_who_says_nothing_keeps_nobody_out(void **state)
{
	struct server server;
	int silent[3 * HANDSHAKES_MAX];
	uint64_t begin_ns = sz_clock_ns();

	(void)state;
	server_start(&server);
	for (size_t i = 0; i < ARRAY_LENGTH(silent); i++) {
		silent[i] = client_connect(&server);
		check_alive(&server);
	}
	assert_true(is_cut_off(silent[0])); /* for those that came after it, and not for its time */
	assert_true(sz_clock_ns() - begin_ns < HANDSHAKE_MS / 2 * 1000000ULL);
	for (size_t i = 0; i < ARRAY_LENGTH(silent); i++)
		(void)close(silent[i]);
	server_stop(&server);
}

static void test_too_many_clients_are_refused_and_come_in_later(void **state)
{
	struct server server;
	int fds[CLIENTS_MAX];
	int one_more;

	(void)state;
	server_start(&server);
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		fds[i] = client_ready(&server, false);
		assert_int_equal(ask(fds[i], 0, NBD_CMD_CACHE, 0, 1), 0);
	}
	assert_int_equal(sz_nbd_client_count(server.nbd), CLIENTS_MAX);
	one_more = client_connect(&server);
	assert_true(is_cut_off(one_more));
	(void)close(one_more);
	assert_int_equal(ask(fds[0], 0, NBD_CMD_CACHE, 0, 1), 0);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		(void)close(fds[i]);
	for (unsigned int i = 0; sz_nbd_client_count(server.nbd) > 0 && i < 1000; i++)
		sz_sleep_ms(10);
	sz_sleep_ms(100); /* they are joined */
	check_alive(&server);
	server_stop(&server);
}

/* It asks, and takes no answer: others are served, what it holds is bounded, and the server ends all the same. */
static void test_who_takes_no_answers_hurts_himself_alone(void **state)
{
	struct server server;
	uint64_t begin_ns;
	int fds[24]; /* whose workers would have half as much again as they may */

	static_assert(ARRAY_LENGTH(fds) * WORKERS_MAX * PIECE_BYTES > BUFFERS_BYTES,
		      "a bound is met");
	(void)state;
	server_start(&server);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++) {
		fds[i] = client_ready(&server, i % 2 == 0);
		for (uint64_t j = 0; j < 16; j++)
			request_send(fds[i], 0, NBD_CMD_READ, j, 0, 32U << 20);
	}
	for (unsigned int i = 0;
	     i < 1000 && atomic_load(&server.nbd->buffer_bytes) < BUFFERS_BYTES - PIECE_BYTES; i++)
		sz_sleep_ms(10);
	sz_sleep_ms(300);
	assert_true(atomic_load(&server.nbd->buffer_bytes) > BUFFERS_BYTES - PIECE_BYTES);
	assert_true(atomic_load(&server.nbd->buffer_bytes) <=
		    BUFFERS_BYTES + ARRAY_LENGTH(fds) * WORKERS_MAX * PIECE_LEAST);
	check_alive(&server);
	begin_ns = sz_clock_ns();
	server_stop(&server);
	assert_true(sz_clock_ns() - begin_ns < (STOP_GRACE_S + 10) * 1000000000ULL);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		(void)close(fds[i]);
}

/* Each client has a write under way: it is done, and answered. */
static void test_a_stop_finishes_what_was_begun(void **state)
{
	struct server server;
	uint8_t data[4096] = { 7 };
	int fds[4];

	(void)state;
	server_start(&server);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		fds[i] = client_ready(&server, true);
	atomic_store(&server.disk.delay_ms, 1000);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++) {
		request_send(fds[i], 0, NBD_CMD_WRITE, i, i * 4096, sizeof(data));
		all_send(fds[i], data, sizeof(data));
	}
	while (atomic_load(&server.disk.begun) < ARRAY_LENGTH(fds))
		sz_sleep_ms(1);
	sz_nbd_stop(server.nbd);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++) {
		assert_int_equal(answer_receive(fds[i], i), NBD_SUCCESS);
		assert_true(is_cut_off(fds[i]));
		(void)close(fds[i]);
		assert_int_equal(server.disk.bytes[i * 4096], 7);
	}
	assert_int_equal(atomic_load(&server.disk.opened), atomic_load(&server.disk.closed));
	disk_free(&server.disk);
}

/* What has come, and is not begun when it ends, is refused in the protocol's word for that; and not done. */
static void test_what_a_stop_finds_waiting_is_told_so(void **state)
{
	struct server server;
	uint8_t data[512] = { 7 };
	bool seen[WORKERS_MAX + 2] = { false };
	int fd;

	(void)state;
	server_start(&server);
	fd = client_ready(&server, false);
	atomic_store(&server.disk.delay_ms, 1000);
	for (size_t i = 0; i < WORKERS_MAX; i++) {
		request_send(fd, 0, NBD_CMD_WRITE, i, i * (uint64_t)BLOCK, sizeof(data));
		all_send(fd, data, sizeof(data));
	}
	while (atomic_load(&server.disk.begun) < WORKERS_MAX)
		sz_sleep_ms(1);
	request_send(fd, 0, NBD_CMD_WRITE, WORKERS_MAX, WORKERS_MAX * (uint64_t)BLOCK,
		     sizeof(data));
	all_send(fd, data, sizeof(data));
	request_send(fd, 0, NBD_CMD_READ, WORKERS_MAX + 1, 0, sizeof(data));
	sz_nbd_stop(server.nbd);
	for (size_t i = 0; i < ARRAY_LENGTH(seen); i++) {
		uint8_t answer[16];
		uint64_t cookie;

		assert_true(all_receive(fd, answer, sizeof(answer)));
		assert_int_equal(get_be(answer, 4), 0x67446698);
		cookie = get_be(answer + 8, 8);
		assert_true(cookie < ARRAY_LENGTH(seen));
		cookie %= ARRAY_LENGTH(seen); /* as the compiler wants it */
		assert_false(seen[cookie]);
		seen[cookie] = true;
		assert_int_equal(get_be(answer + 4, 4),
				 cookie < WORKERS_MAX ? NBD_SUCCESS : NBD_ESHUTDOWN);
	}
	assert_true(is_cut_off(fd));
	(void)close(fd);
	assert_int_equal(atomic_load(&server.disk.begun), WORKERS_MAX);
	disk_free(&server.disk);
}

/* Who is in time stays, however long he says nothing then. */
static void test_a_handshake_has_its_time(void **state)
{
	struct server server;
	uint8_t greeting[18];
	uint64_t begin_ns;
	int late;
	int in_time;

	(void)state;
	server_start(&server);
	atomic_store(&server.nbd->handshake_ms, 1500);
	begin_ns = sz_clock_ns();
	late = client_connect(&server);
	in_time = client_ready(&server, true);
	assert_true(all_receive(late, greeting, sizeof(greeting)));
	assert_false(all_receive(late, greeting, 1));
	assert_true(sz_clock_ns() - begin_ns >= 1500 * 1000000ULL);
	assert_true(sz_clock_ns() - begin_ns < HANDSHAKE_MS / 2 * 1000000ULL);
	assert_int_equal(ask(in_time, 0, NBD_CMD_CACHE, 0, 1), 0);
	(void)close(late);
	(void)close(in_time);
	server_stop(&server);
}

/* What a connection took for its requests is given back when none come, and had again when they do. */
static void test_who_is_idle_keeps_no_room(void **state)
{
	static uint8_t data[3 << 20];
	struct server server;
	int fds[4];

	(void)state;
	server_start(&server);
	atomic_store(&server.nbd->idle_ms, 200);
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		fds[i] = client_ready(&server, i % 2 == 0);
	for (unsigned int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_LENGTH(fds); i++) {
			const uint8_t fill = (uint8_t)(16 * (size_t)round + i + 1);

			memset(data, fill, sizeof(data));
			assert_int_equal(ask_write(fds[i], 0, 100, data, sizeof(data)), 0);
			memset(data, 0, sizeof(data));
			assert_int_equal(ask_read(fds[i], i % 2 == 0, 0, 100, data, sizeof(data)),
					 0);
			assert_int_equal(data[0], fill);
			assert_int_equal(data[sizeof(data) - 1], fill);
		}
		assert_true(round > 0 || atomic_load(&server.nbd->buffer_bytes) >= PIECE_BYTES);
		for (unsigned int i = 0; i < 1000 && atomic_load(&server.nbd->buffer_bytes) > 0;
		     i++)
			sz_sleep_ms(10);
		assert_int_equal(atomic_load(&server.nbd->buffer_bytes), 0);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		(void)close(fds[i]);
	server_stop(&server);
}

static void test_a_place_that_is_taken_is_left_alone(void **state)
{
	struct server server;
	struct sz_nbd_source source;
	struct sz_nbd_server *second = NULL;
	struct sz_error error = { 0 };
	struct sz_nbd_options options = { .socket = server.path };
	char dead[80];

	(void)state;
	server_start(&server);
	source = disk_source(&server.disk);
	assert_int_equal(sz_nbd_start(&source, &options, &second, &error), -EADDRINUSE);
	check_alive(&server);
	options = (struct sz_nbd_options){ .host = "0.0.0.0", .port = "0" };
	assert_int_equal(sz_nbd_start(&source, &options, &second, &error), -EPERM);
	options.host = "127.0.0.1";
	assert_int_equal(sz_nbd_start(&source, &options, &second, &error), 0);
	sz_nbd_stop(second);
	/* What a dead process left is taken over. */
	(void)snprintf(dead, sizeof(dead), "%s-dead", server.path);
	{
		struct sz_nbd_address address;

		options = (struct sz_nbd_options){ .socket = dead };
		assert_int_equal(sz_nbd_address_open(&options, false, &address, &error), 0);
		(void)close(address.fds[0]);
		address.count = 0;
		sz_nbd_address_free(&address);
	}
	assert_int_equal(sz_nbd_start(&source, &options, &second, &error), 0);
	sz_nbd_stop(second);
	server_stop(&server);
}

#define STARTERS 6U

struct starter {
	const char *path;
	pthread_barrier_t *barrier;
	int result;
	struct sz_nbd_address address;
};

static void *starter_run(void *argument)
{
	struct starter *starter = argument;
	const struct sz_nbd_options options = { .socket = starter->path };
	struct sz_error error = { 0 };

	(void)pthread_barrier_wait(starter->barrier);
	starter->result = sz_nbd_address_open(&options, false, &starter->address, &error);
	return NULL;
}

static bool is_listened_at(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool result;

	(void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	result = connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0;
	(void)close(fd);
	return result;
}

/* Several find a socket that is left: one listens there then, and the others leave it alone. */
static void test_one_of_several_starters_gets_the_place(void **state)
{
	struct starter starters[STARTERS];
	pthread_t threads[STARTERS];
	pthread_barrier_t barrier;
	char path[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/szpool-nbd-test-%d-place", (int)getpid());
	(void)pthread_barrier_init(&barrier, NULL, STARTERS);
	for (unsigned int round = 0; round < 200; round++) {
		struct sz_nbd_address *winner = NULL;

		for (unsigned int i = 0; i < STARTERS; i++) {
			starters[i] = (struct starter){ .path = path, .barrier = &barrier };
			assert_int_equal(
				pthread_create(&threads[i], NULL, starter_run, &starters[i]), 0);
		}
		for (unsigned int i = 0; i < STARTERS; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		for (unsigned int i = 0; i < STARTERS; i++) {
			if (starters[i].result == 0) {
				assert_null(winner);
				winner = &starters[i].address;
			} else {
				assert_int_equal(starters[i].result, -EADDRINUSE);
			}
		}
		assert_non_null(winner);
		assert_true(is_listened_at(path));
		/* As if it was killed: its socket is left. */
		(void)close(winner->fds[0]);
		winner->count = 0;
		sz_nbd_address_free(winner);
		assert_false(is_listened_at(path));
	}
	(void)unlink(path);
	(void)pthread_barrier_destroy(&barrier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_are_answered_right_or_wrong),
		cmocka_unit_test(test_what_chance_sends),
		cmocka_unit_test(test_who_says_nothing_keeps_nobody_out),
		cmocka_unit_test(test_too_many_clients_are_refused_and_come_in_later),
		cmocka_unit_test(test_who_takes_no_answers_hurts_himself_alone),
		cmocka_unit_test(test_a_stop_finishes_what_was_begun),
		cmocka_unit_test(test_what_a_stop_finds_waiting_is_told_so),
		cmocka_unit_test(test_a_handshake_has_its_time),
		cmocka_unit_test(test_who_is_idle_keeps_no_room),
		cmocka_unit_test(test_a_place_that_is_taken_is_left_alone),
		cmocka_unit_test(test_one_of_several_starters_gets_the_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
