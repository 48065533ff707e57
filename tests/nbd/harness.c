#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define GUARD 0xa5

void disk_make(struct disk *disk)
{
	uint8_t *whole = malloc(DISK_BYTES + 2 * GUARD_BYTES);

	*disk = (struct disk){ 0 };
	assert_non_null(whole);
	memset(whole, GUARD, GUARD_BYTES);
	memset(whole + GUARD_BYTES, 0, DISK_BYTES);
	memset(whole + GUARD_BYTES + DISK_BYTES, GUARD, GUARD_BYTES);
	disk->bytes = whole + GUARD_BYTES;
	disk->holes = calloc(DISK_BYTES / BLOCK, sizeof(*disk->holes));
	assert_non_null(disk->holes);
	memset(disk->holes, true, DISK_BYTES / BLOCK);
	(void)pthread_mutex_init(&disk->lock, NULL);
}

void disk_check_guards(const struct disk *disk)
{
	for (size_t i = 0; i < GUARD_BYTES; i++) {
		assert_int_equal(disk->bytes[-1 - (ptrdiff_t)i], GUARD);
		assert_int_equal(disk->bytes[DISK_BYTES + i], GUARD);
	}
}

void disk_free(struct disk *disk)
{
	(void)pthread_mutex_destroy(&disk->lock);
	free(disk->bytes - GUARD_BYTES);
	free(disk->holes);
}

/* What the door promises of each call. */
static int range_check(struct disk *disk, uint64_t offset, uint64_t length)
{
	if (length == 0 || offset > DISK_BYTES || length > DISK_BYTES - offset)
		abort();
	return disk->result;
}

static void holes_set(struct disk *disk, uint64_t offset, uint64_t length, bool is_hole)
{
	for (uint64_t at = offset / BLOCK; at <= (offset + length - 1) / BLOCK; at++)
		if (!is_hole || (at * BLOCK >= offset && (at + 1) * BLOCK <= offset + length))
			disk->holes[at] = is_hole;
}

static int disk_read(void *context, uint64_t offset, uint32_t length, void *buffer)
{
	struct disk *disk = context;
	int result;

	(void)pthread_mutex_lock(&disk->lock);
	result = range_check(disk, offset, length);
	memcpy(buffer, disk->bytes + offset, length);
	(void)pthread_mutex_unlock(&disk->lock);
	return result;
}

static int disk_write(void *context, uint64_t offset, uint32_t length, const void *buffer,
		      bool is_durable)
{
	struct disk *disk = context;
	int result;

	(void)atomic_fetch_add(&disk->begun, 1);
	sz_sleep_ms(atomic_load(&disk->delay_ms));
	(void)pthread_mutex_lock(&disk->lock);
	result = range_check(disk, offset, length);
	if (result == 0) {
		memcpy(disk->bytes + offset, buffer, length);
		holes_set(disk, offset, length, false);
	}
	(void)pthread_mutex_unlock(&disk->lock);
	(void)atomic_fetch_add(&disk->durable, is_durable ? 1 : 0);
	return result;
}

static int disk_zero(void *context, uint64_t offset, uint64_t length, unsigned int flags)
{
	struct disk *disk = context;
	int result;

	if ((flags & SZ_NBD_ZERO_FAST) != 0)
		return -EOPNOTSUPP;
	(void)pthread_mutex_lock(&disk->lock);
	result = range_check(disk, offset, length);
	if (result == 0) {
		memset(disk->bytes + offset, 0, length);
		holes_set(disk, offset, length, (flags & SZ_NBD_ZERO_KEEP) == 0);
	}
	(void)pthread_mutex_unlock(&disk->lock);
	(void)atomic_fetch_add(&disk->durable, (flags & SZ_NBD_ZERO_DURABLE) != 0 ? 1 : 0);
	return result;
}

static int disk_trim(void *context, uint64_t offset, uint64_t length, bool is_durable)
{
	return disk_zero(context, offset, length, is_durable ? SZ_NBD_ZERO_DURABLE : 0);
}

static int disk_flush(void *context)
{
	struct disk *disk = context;

	(void)atomic_fetch_add(&disk->flushes, 1);
	return disk->result;
}

static int disk_extent(void *context, uint64_t offset, uint64_t length, uint64_t *length_out,
		       bool *is_hole_out)
{
	struct disk *disk = context;
	int result = range_check(disk, offset, length);

	(void)pthread_mutex_lock(&disk->lock);
	*is_hole_out = disk->holes[offset / BLOCK];
	(void)pthread_mutex_unlock(&disk->lock);
	*length_out = BLOCK - offset % BLOCK;
	if (*length_out > length)
		*length_out = length;
	return result;
}

static void disk_close(void *context)
{
	struct disk *disk = context;

	(void)atomic_fetch_add(&disk->closed, 1);
}

static const struct sz_nbd_operations operations = {
	.read = disk_read,
	.write = disk_write,
	.trim = disk_trim,
	.write_zeroes = disk_zero,
	.flush = disk_flush,
	.extent = disk_extent,
	.close = disk_close,
};

static int disk_list(void *context, sz_nbd_listed_fn *each, void *to)
{
	(void)context;
	return each(to, "disk", "in memory");
}

static int disk_open(void *context, const char *name, bool read_only,
		     struct sz_nbd_export *export_out)
{
	struct disk *disk = context;

	if (strcmp(name, "shut") == 0)
		return -EACCES;
	if (name[0] != '\0' && strcmp(name, "disk") != 0)
		return -ENOENT;
	(void)atomic_fetch_add(&disk->opened, 1);
	*export_out = (struct sz_nbd_export){ .operations = &operations,
					      .context = disk,
					      .size_bytes = DISK_BYTES,
					      .block_bytes = BLOCK,
					      .is_read_only = read_only || disk->is_read_only,
					      .description = "in memory" };
	return 0;
}

struct sz_nbd_source disk_source(struct disk *disk)
{
	return (struct sz_nbd_source){ .list = disk_list, .open = disk_open, .context = disk };
}

void server_start(struct server *server)
{
	static atomic_uint number;
	struct sz_error error = { 0 };
	struct sz_nbd_options options = { .socket = server->path };
	struct sz_nbd_source source;

	disk_make(&server->disk);
	source = disk_source(&server->disk);
	(void)snprintf(server->path, sizeof(server->path), "/tmp/szpool-nbd-test-%d-%u",
		       (int)getpid(), atomic_fetch_add(&number, 1));
	if (sz_nbd_start(&source, &options, &server->nbd, &error) != 0)
		fail_msg("%s", error.text);
}

void server_stop(struct server *server)
{
	sz_nbd_stop(server->nbd);
	assert_int_equal(access(server->path, F_OK), -1);
	assert_int_equal(atomic_load(&server->disk.opened), atomic_load(&server->disk.closed));
	disk_check_guards(&server->disk);
	disk_free(&server->disk);
}

int client_connect(struct server *server)
{
	const struct timeval wait = { .tv_sec = WAIT_S };
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(ends[i] >= 0);
	(void)setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	(void)setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	(void)!sz_nbd_adopt(server->nbd, ends[1]);
	return ends[0];
}

/* Who is cut off sees it when he reads. */
void all_send(int fd, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	while (length > 0) {
		ssize_t done = send(fd, at, length, MSG_NOSIGNAL);

		if (done < 0 && (errno == EPIPE || errno == ECONNRESET))
			return;
		assert_true(done > 0);
		at += done;
		length -= (size_t)done;
	}
}

bool all_receive(int fd, void *bytes, size_t length)
{
	uint8_t *at = bytes;

	while (length > 0) {
		ssize_t done = recv(fd, at, length, 0);

		if (done == 0 || (done < 0 && errno == ECONNRESET))
			return false;
		assert_true(done > 0);
		at += done;
		length -= (size_t)done;
	}
	return true;
}

bool is_cut_off(int fd)
{
	uint8_t bytes[4096];

	while (all_receive(fd, bytes, 1))
		;
	return true;
}

void put_be(uint8_t *to, uint64_t value, size_t width)
{
	for (size_t i = width; i-- > 0; value >>= 8)
		to[i] = (uint8_t)value;
}

uint64_t get_be(const uint8_t *from, size_t width)
{
	uint64_t value = 0;

	for (size_t i = 0; i < width; i++)
		value = value << 8 | from[i];
	return value;
}

void greet(int fd, uint32_t flags)
{
	uint8_t bytes[18];
	uint8_t answer[4];

	assert_true(all_receive(fd, bytes, sizeof(bytes)));
	assert_memory_equal(bytes, "NBDMAGICIHAVEOPT\0\3", 18);
	put_be(answer, flags, 4);
	all_send(fd, answer, 4);
}

void option_send(int fd, uint32_t option, const void *data, uint32_t length)
{
	uint8_t head[16] = "IHAVEOPT";

	put_be(head + 8, option, 4);
	put_be(head + 12, length, 4);
	all_send(fd, head, sizeof(head));
	if (data != NULL)
		all_send(fd, data, length);
}

uint32_t reply_receive(int fd, uint32_t option, void *data, size_t room, uint32_t *length_out)
{
	uint8_t head[20];
	uint8_t rest[SZ_NBD_OPTION_DATA_MAX];

	assert_true(all_receive(fd, head, sizeof(head)));
	assert_true(get_be(head, 8) == 0x0003e889045565a9ULL);
	assert_int_equal(get_be(head + 8, 4), option);
	*length_out = (uint32_t)get_be(head + 16, 4);
	assert_true(*length_out <= sizeof(rest));
	assert_true(all_receive(fd, rest, *length_out));
	memcpy(data, rest, *length_out < room ? *length_out : room);
	return (uint32_t)get_be(head + 12, 4);
}

uint32_t option_ask(int fd, uint32_t option, const void *data, uint32_t length)
{
	uint8_t ignored[1];
	uint32_t ignored_length;
	uint32_t type;

	option_send(fd, option, data, length);
	do
		type = reply_receive(fd, option, ignored, 0, &ignored_length);
	while (type > NBD_REP_ACK && type < NBD_REP_ERROR);
	return type;
}

int client_ready(struct server *server, bool is_structured)
{
	static const uint8_t go[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 0 };
	static const uint8_t contexts[] = { 0,   0,   0,   4,   'd', 'i', 's', 'k', 0,   0,   0,
					    1,   0,   0,   0,   15,  'b', 'a', 's', 'e', ':', 'a',
					    'l', 'l', 'o', 'c', 'a', 't', 'i', 'o', 'n' };
	int fd = client_connect(server);

	greet(fd, 3);
	if (is_structured) {
		assert_int_equal(option_ask(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0), NBD_REP_ACK);
		assert_int_equal(
			option_ask(fd, NBD_OPT_SET_META_CONTEXT, contexts, sizeof(contexts)),
			NBD_REP_ACK);
	}
	assert_int_equal(option_ask(fd, NBD_OPT_GO, go, sizeof(go)), NBD_REP_ACK);
	return fd;
}

void request_send(int fd, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t offset,
		  uint32_t length)
{
	uint8_t head[28];

	put_be(head, 0x25609513, 4);
	put_be(head + 4, flags, 2);
	put_be(head + 6, type, 2);
	put_be(head + 8, cookie, 8);
	put_be(head + 16, offset, 8);
	put_be(head + 24, length, 4);
	all_send(fd, head, sizeof(head));
}

uint32_t answer_receive(int fd, uint64_t cookie)
{
	uint8_t head[26];

	assert_true(all_receive(fd, head, 16));
	assert_true(get_be(head + 8, 8) == cookie);
	if (get_be(head, 4) == 0x67446698)
		return (uint32_t)get_be(head + 4, 4);
	assert_int_equal(get_be(head, 4), 0x668e33ef);
	assert_int_equal(get_be(head + 4, 2), NBD_REPLY_FLAG_DONE);
	assert_int_equal(get_be(head + 6, 2), NBD_REPLY_TYPE_ERROR);
	assert_true(all_receive(fd, head + 16, 10));
	assert_int_equal(get_be(head + 16, 4), 6);
	return (uint32_t)get_be(head + 20, 4);
}

static uint64_t cookie_next(void)
{
	static atomic_uint_fast64_t cookie;

	return atomic_fetch_add(&cookie, 0x0123456789abcdefULL);
}

uint32_t ask(int fd, uint16_t flags, uint16_t type, uint64_t offset, uint32_t length)
{
	uint64_t cookie = cookie_next();

	request_send(fd, flags, type, cookie, offset, length);
	return answer_receive(fd, cookie);
}

uint32_t ask_write(int fd, uint16_t flags, uint64_t offset, const void *data, uint32_t length)
{
	uint64_t cookie = cookie_next();

	request_send(fd, flags, NBD_CMD_WRITE, cookie, offset, length);
	all_send(fd, data, length);
	return answer_receive(fd, cookie);
}

/* A chunk, or the error that stands in its place; *is_last_out: the read is over. */
static uint32_t chunk_receive(int fd, uint64_t cookie, uint64_t offset, uint8_t *data,
			      uint32_t length, uint32_t *done_out, bool *is_last_out)
{
	uint8_t head[20];
	uint8_t more[8];
	uint32_t size;
	uint64_t at;

	assert_true(all_receive(fd, head, sizeof(head)));
	assert_int_equal(get_be(head, 4), 0x668e33ef);
	assert_true(get_be(head + 8, 8) == cookie);
	*is_last_out = (get_be(head + 4, 2) & NBD_REPLY_FLAG_DONE) != 0;
	*done_out = 0;
	size = (uint32_t)get_be(head + 16, 4);
	if (get_be(head + 6, 2) == NBD_REPLY_TYPE_ERROR) {
		assert_true(*is_last_out && size == 6);
		assert_true(all_receive(fd, more, 6));
		return (uint32_t)get_be(more, 4);
	}
	assert_int_equal(get_be(head + 6, 2), NBD_REPLY_TYPE_OFFSET_DATA);
	assert_true(size > 8 && all_receive(fd, more, 8));
	at = get_be(more, 8);
	assert_true(at >= offset && size - 8 <= length && at - offset <= length - (size - 8));
	assert_true(all_receive(fd, data + (at - offset), size - 8));
	*done_out = size - 8;
	return NBD_SUCCESS;
}

uint32_t ask_read(int fd, bool is_structured, uint16_t flags, uint64_t offset, void *data,
		  uint32_t length)
{
	uint64_t cookie = cookie_next();
	uint32_t total = 0;
	bool is_last = false;

	request_send(fd, flags, NBD_CMD_READ, cookie, offset, length);
	if (!is_structured) {
		uint32_t error = answer_receive(fd, cookie);

		if (error == NBD_SUCCESS)
			assert_true(all_receive(fd, data, length));
		return error;
	}
	while (!is_last) {
		uint32_t done;
		uint32_t error = chunk_receive(fd, cookie, offset, data, length, &done, &is_last);

		if (error != NBD_SUCCESS)
			return error;
		total += done;
		assert_true((flags & NBD_CMD_FLAG_DF) == 0 || is_last);
	}
	assert_int_equal(total, length);
	return NBD_SUCCESS;
}

void check_alive(struct server *server)
{
	int fd = client_ready(server, true);
	uint8_t bytes[100];

	assert_int_equal(ask_read(fd, true, 0, 12345, bytes, sizeof(bytes)), NBD_SUCCESS);
	(void)close(fd);
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 11;
}

uint64_t random_seed(void)
{
	const char *given = getenv("RANDOM_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : sz_wall_ns();

	print_message("# seed %llu\n", (unsigned long long)seed);
	return seed == 0 ? 1 : seed;
}
