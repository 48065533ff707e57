/*
 * server: lets clients in, each with a thread of its own, and has them all go in the end. Its own thread accepts, joins
 * the threads of those that are gone, and ends handshakes that take too long.
 */
#include "nbd/nbd_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LOOK_MS      1000      /* between looks at handshakes, while there are any */
#define NO_FD_MS     100U      /* until more is tried, where there are no descriptors left */
#define SOCKET_BYTES (2 << 20) /* what a socket may hold, if the system lets it */
#define KEEP_IDLE_S  60        /* TCP: a peer that is gone without a word is noticed */
#define KEEP_TRIES   4
#define NS_PER_MS    1000000ULL

static void wake(const struct sz_nbd_server *server)
{
	const uint64_t one = 1;

	(void)!write(server->wake_fd, &one, sizeof(one));
}

void sz_nbd_phase_set(struct sz_nbd_connection *connection, enum sz_nbd_phase phase)
{
	struct sz_nbd_server *server = connection->server;

	(void)pthread_mutex_lock(&server->lock);
	connection->phase = phase;
	if (phase == SZ_NBD_TRANSMISSION && atomic_load(&server->is_stopping))
		(void)shutdown(connection->channel.fd, SHUT_RD);
	if (phase == SZ_NBD_OVER) {
		server->connection_count--;
		(void)pthread_cond_broadcast(&server->changed);
		wake(server); /* it is freed once this is unlocked, not before */
	}
	(void)pthread_mutex_unlock(&server->lock);
}

static void connection_free(struct sz_nbd_connection *connection)
{
	(void)pthread_mutex_destroy(&connection->read_lock);
	(void)pthread_mutex_destroy(&connection->write_lock);
	(void)close(connection->channel.fd);
	free(connection);
}

/* Under lock. The first that is over goes off the list; NULL: none is. */
static struct sz_nbd_connection *over_take(struct sz_nbd_server *server)
{
	for (struct sz_nbd_connection **at = &server->connections; *at != NULL; at = &(*at)->next) {
		struct sz_nbd_connection *connection = *at;

		if (connection->phase == SZ_NBD_OVER) {
			*at = connection->next;
			return connection;
		}
	}
	return NULL;
}

/* Joins and frees those that are over. */
static void over_reap(struct sz_nbd_server *server)
{
	struct sz_nbd_connection *connection;

	do {
		(void)pthread_mutex_lock(&server->lock);
		connection = over_take(server);
		(void)pthread_mutex_unlock(&server->lock);
		if (connection != NULL) {
			(void)pthread_join(connection->thread, NULL);
			connection_free(connection);
		}
	} while (connection != NULL);
}

/* Under lock. *oldest_out: who has been in the handshake for longest. */
static unsigned int handshake_count(const struct sz_nbd_server *server,
				    struct sz_nbd_connection **oldest_out)
{
	unsigned int count = 0;

	for (struct sz_nbd_connection *at = server->connections; at != NULL; at = at->next)
		if (at->phase == SZ_NBD_HANDSHAKE && count++ == 0)
			*oldest_out = at;
	return count;
}

/* Those that have had their time. Returns whether there are others. */
static bool handshakes_end(struct sz_nbd_server *server)
{
	uint64_t limit_ns = atomic_load(&server->handshake_ms) * NS_PER_MS;
	uint64_t now_ns;
	bool others = false;

	(void)pthread_mutex_lock(&server->lock);
	now_ns = sz_clock_ns(); /* not before: who is there came earlier */
	for (struct sz_nbd_connection *at = server->connections; at != NULL; at = at->next) {
		if (at->phase != SZ_NBD_HANDSHAKE)
			continue;
		if (now_ns - at->begin_ns > limit_ns)
			(void)shutdown(at->channel.fd, SHUT_RDWR);
		others = true;
	}
	(void)pthread_mutex_unlock(&server->lock);
	return others;
}

static void socket_tune(const struct sz_nbd_server *server, int fd)
{
	const unsigned int idle_ms = atomic_load(&server->idle_ms);
	const struct timeval idle = { .tv_sec = idle_ms / 1000,
				      .tv_usec = (suseconds_t)(idle_ms % 1000) * 1000 };
	const int on = 1;
	const int bytes = SOCKET_BYTES;
	const int idle_s = KEEP_IDLE_S;
	const int tries = KEEP_TRIES;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
	/* These fail for a Unix socket, which has no need of them. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

/* Under lock. Is there a place for one more? Who dawdles gives up his. */
static int place_find(struct sz_nbd_server *server)
{
	struct sz_nbd_connection *oldest = NULL;

	if (atomic_load(&server->is_stopping))
		return -ESHUTDOWN;
	if (handshake_count(server, &oldest) >= HANDSHAKES_MAX)
		(void)shutdown(oldest->channel.fd, SHUT_RDWR);
	return server->connection_count >= CLIENTS_MAX ? -EAGAIN : 0;
}

static int connection_add(struct sz_nbd_server *server, struct sz_nbd_connection *connection)
{
	struct sz_nbd_connection **at = &server->connections;
	int result;

	(void)pthread_mutex_lock(&server->lock);
	result = place_find(server);
	if (result == 0)
		result = -pthread_create(&connection->thread, NULL, sz_nbd_connection_run,
					 connection);
	if (result == 0) {
		while (*at != NULL)
			at = &(*at)->next;
		*at = connection;
		server->connection_count++;
	}
	(void)pthread_mutex_unlock(&server->lock);
	return result;
}

int sz_nbd_adopt(struct sz_nbd_server *server, int fd)
{
	struct sz_nbd_connection *connection = calloc(1, sizeof(*connection));
	int result;

	if (connection == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	socket_tune(server, fd);
	connection->server = server;
	connection->begin_ns = sz_clock_ns();
	connection->channel.fd = fd;
	(void)pthread_mutex_init(&connection->read_lock, NULL);
	(void)pthread_mutex_init(&connection->write_lock, NULL);
	result = connection_add(server, connection);
	if (result == 0)
		wake(server); /* it has handshakes to look at */
	else
		connection_free(connection);
	return result;
}

static void accept_one(struct sz_nbd_server *server, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		(void)!sz_nbd_adopt(server, fd);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		sz_sleep_ms(NO_FD_MS);
}

static void *serve(void *argument)
{
	struct sz_nbd_server *server = argument;
	unsigned int count = server->address.count;
	struct pollfd fds[LISTENERS_MAX + 1] = { 0 };

	(void)pthread_setname_np(pthread_self(), "nbd server");
	for (unsigned int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = server->address.fds[i], .events = POLLIN };
	fds[count] = (struct pollfd){ .fd = server->wake_fd, .events = POLLIN };
	while (!atomic_load(&server->is_stopping)) {
		uint64_t ignored;
		int timeout_ms = handshakes_end(server) ? LOOK_MS : -1;

		if (poll(fds, count + 1, timeout_ms) < 0)
			continue;
		if ((fds[count].revents & POLLIN) != 0)
			(void)!read(server->wake_fd, &ignored, sizeof(ignored));
		over_reap(server);
		for (unsigned int i = 0; i < count; i++)
			if ((fds[i].revents & POLLIN) != 0 && !atomic_load(&server->is_stopping))
				accept_one(server, server->address.fds[i]);
	}
	return NULL;
}

static void server_free(struct sz_nbd_server *server)
{
	sz_nbd_address_free(&server->address);
	sz_nbd_tls_close(server->tls);
	sz_cleanup_fd(&server->wake_fd);
	(void)pthread_mutex_destroy(&server->lock);
	(void)pthread_cond_destroy(&server->changed);
	free(server);
}

static void locks_init(struct sz_nbd_server *server)
{
	pthread_condattr_t attributes;

	(void)pthread_mutex_init(&server->lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&server->changed, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

int sz_nbd_start(const struct sz_nbd_source *source, const struct sz_nbd_options *options,
		 struct sz_nbd_server **server_out, struct sz_error *error)
{
	struct sz_nbd_server *server = calloc(1, sizeof(*server));
	int result;

	if (server == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	server->source = *source;
	server->read_only = options->read_only;
	atomic_store(&server->handshake_ms, HANDSHAKE_MS);
	atomic_store(&server->idle_ms, IDLE_MS);
	locks_init(server);
	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	result = server->wake_fd < 0 ? sz_fail(error, -errno, "%s", strerror(errno))
				     : sz_nbd_tls_open(options, &server->tls, error);
	if (result == 0)
		result = sz_nbd_address_open(options, server->tls != NULL, &server->address, error);
	if (result == 0) {
		result = -pthread_create(&server->thread, NULL, serve, server);
		if (result != 0) {
			sz_nbd_address_close(&server->address);
			(void)sz_fail(error, result, "no thread can be started: %s",
				      strerror(-result));
		}
	}
	if (result != 0) {
		server_free(server);
		return result;
	}
	*server_out = server;
	return 0;
}

/* Under lock. Those in the handshake have nothing that is to be finished. */
static void connections_shut(struct sz_nbd_server *server, bool wholly)
{
	for (struct sz_nbd_connection *at = server->connections; at != NULL; at = at->next)
		if (at->phase != SZ_NBD_OVER)
			(void)shutdown(at->channel.fd, wholly || at->phase == SZ_NBD_HANDSHAKE
							       ? SHUT_RDWR
							       : SHUT_RD);
}

static bool all_are_over(const struct sz_nbd_server *server)
{
	const struct sz_nbd_connection *at = server->connections;

	while (at != NULL && at->phase == SZ_NBD_OVER)
		at = at->next;
	return at == NULL;
}

/* Waits until what was begun is answered; then, for who does not take his answers, no longer. */
static void connections_end(struct sz_nbd_server *server)
{
	struct timespec until;
	int result = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_GRACE_S;
	(void)pthread_mutex_lock(&server->lock);
	connections_shut(server, false);
	while (!all_are_over(server) && result == 0)
		result = pthread_cond_timedwait(&server->changed, &server->lock, &until);
	connections_shut(server, true);
	while (!all_are_over(server))
		(void)pthread_cond_wait(&server->changed, &server->lock);
	(void)pthread_mutex_unlock(&server->lock);
}

void sz_nbd_stop(struct sz_nbd_server *server)
{
	if (server == NULL)
		return;
	(void)pthread_mutex_lock(&server->lock); /* no one is being let in */
	atomic_store(&server->is_stopping, true);
	(void)pthread_mutex_unlock(&server->lock);
	wake(server);
	(void)pthread_join(server->thread, NULL);
	sz_nbd_address_close(&server->address);
	connections_end(server);
	over_reap(server);
	server_free(server);
}

unsigned int sz_nbd_client_count(struct sz_nbd_server *server)
{
	unsigned int count = 0;

	(void)pthread_mutex_lock(&server->lock);
	for (struct sz_nbd_connection *at = server->connections; at != NULL; at = at->next)
		count += at->phase == SZ_NBD_TRANSMISSION ? 1 : 0;
	(void)pthread_mutex_unlock(&server->lock);
	return count;
}
