/*
 * address: where the server listens: a Unix socket that only its user may connect to, or TCP. What is not encrypted does not
 * leave the machine.
 */
#include "nbd/nbd_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG      64
#define SOCKET_MODE  0600
#define LOCK_TRIES   500U /* to begin to listen takes no time … */
#define LOCK_WAIT_MS 10U  /* … so who waits for more than these gives up */

static int path_fail(struct sz_error *error, const char *path)
{
	int code = errno;

	return sz_fail(error, -code, "%s: %s", path, strerror(code));
}

/* Does a process listen there? *process_out: which, or 0 if that is not told. */
static bool is_alive(const struct sockaddr_un *name, pid_t *process_out)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);

	*process_out = 0;
	if (fd < 0)
		return true;
	if (connect(fd, (const struct sockaddr *)name, sizeof(*name)) != 0)
		return errno != ECONNREFUSED && errno != ENOENT;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
		*process_out = peer.pid;
	return true;
}

static int taken_fail(const char *path, bool is_socket, pid_t process, struct sz_error *error)
{
	if (!is_socket)
		return sz_fail(error, -EADDRINUSE,
			       "%s: is there already, and is no socket; choose another path with "
			       "--socket",
			       path);
	if (process == 0)
		return sz_fail(error, -EADDRINUSE,
			       "%s: another process listens there; choose another path with "
			       "--socket",
			       path);
	return sz_fail(error, -EADDRINUSE,
		       "%s: process %d listens there; end it, or choose another path with --socket",
		       path, (int)process);
}

/* What a dead process left goes. */
static int place_clear(const struct sockaddr_un *name, struct sz_error *error)
{
	struct stat status;
	pid_t process = 0;

	if (lstat(name->sun_path, &status) != 0)
		return errno == ENOENT ? 0 : path_fail(error, name->sun_path);
	if (!S_ISSOCK(status.st_mode) || is_alive(name, &process))
		return taken_fail(name->sun_path, S_ISSOCK(status.st_mode), process, error);
	return unlink(name->sun_path) == 0 || errno == ENOENT ? 0
							      : path_fail(error, name->sun_path);
}

/*
 * One at a time clears the place and listens there: a socket that does not listen yet looks like one that is left. The
 * lock is of the folder: a file beside the socket would be one more that a dead process leaves.
 */
static int place_lock(const char *path, int *lock_out, struct sz_error *error)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_FD int fd = -1;
	const char *folder;

	if (copy == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	folder = dirname(copy);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return path_fail(error, folder);
	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			*lock_out = sz_fd_take(&fd);
			return 0;
		}
		sz_sleep_ms(LOCK_WAIT_MS);
	}
	return sz_fail(error, -EBUSY,
		       "%s: another process has locked this folder for long; end it, or choose "
		       "another one with --socket",
		       folder);
}

/* Under the place's lock. */
static int place_take(int fd, const struct sockaddr_un *name, struct sz_nbd_address *address,
		      struct sz_error *error)
{
	struct stat status;
	int result = place_clear(name, error);

	if (result != 0)
		return result;
	/* The file is made with the socket's mode: it is nobody else's at any time. */
	if (fchmod(fd, SOCKET_MODE) != 0 ||
	    bind(fd, (const struct sockaddr *)name, sizeof(*name)) != 0)
		return path_fail(error, name->sun_path);
	if (listen(fd, BACKLOG) != 0 || lstat(name->sun_path, &status) != 0) {
		result = path_fail(error, name->sun_path);
		(void)unlink(name->sun_path);
		return result;
	}
	address->socket_device = status.st_dev;
	address->socket_inode = status.st_ino;
	return 0;
}

static int unix_bind(int fd, const char *path, struct sz_nbd_address *address,
		     struct sz_error *error)
{
	CLEANUP_FD int lock = -1;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int result;

	if (strlen(path) >= sizeof(name.sun_path))
		return sz_fail(error, -ENAMETOOLONG, "%s: a socket's path has at most %zu bytes",
			       path, sizeof(name.sun_path) - 1);
	memcpy(name.sun_path, path, strlen(path) + 1);
	address->socket = strdup(path);
	if (address->socket == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	result = place_lock(path, &lock, error);
	return result != 0 ? result : place_take(fd, &name, address, error);
}

static int unix_open(const char *path, struct sz_nbd_address *address, struct sz_error *error)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int result = fd < 0 ? path_fail(error, path) : unix_bind(fd, path, address, error);

	if (result != 0)
		return result;
	address->fds[address->count++] = sz_fd_take(&fd);
	return 0;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, address, sizeof(in6));
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
	return false;
}

static int tcp_listen(const struct addrinfo *info, int *fd_out)
{
	CLEANUP_FD int fd =
		socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
	const int on = 1;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
		return -errno;
	*fd_out = sz_fd_take(&fd);
	return 0;
}

static int port_find(int fd, char port[8])
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);
	uint16_t number = 0;

	if (getsockname(fd, (struct sockaddr *)&name, &length) != 0)
		return -errno;
	/* Where it is for both families. */
	_Static_assert(offsetof(struct sockaddr_in, sin_port) ==
			       offsetof(struct sockaddr_in6, sin6_port),
		       "ports");
	memcpy(&number, (const uint8_t *)&name + offsetof(struct sockaddr_in, sin_port),
	       sizeof(number));
	(void)snprintf(port, 8, "%u", ntohs(number));
	return 0;
}

/* All addresses that the host has; with any port, the first. */
static int infos_listen(const struct addrinfo *infos, bool is_any_port,
			struct sz_nbd_address *address)
{
	int result = -EADDRNOTAVAIL;

	for (const struct addrinfo *info = infos;
	     info != NULL && address->count < (is_any_port ? 1U : LISTENERS_MAX);
	     info = info->ai_next) {
		int listened = tcp_listen(info, &address->fds[address->count]);

		/* A name may stand for an address that this machine has not: IPv6 is off. */
		if (listened == -EADDRNOTAVAIL || listened == -EAFNOSUPPORT)
			continue;
		if (listened != 0)
			return listened;
		address->count++;
		result = 0;
	}
	return result != 0 ? result : port_find(address->fds[0], address->port);
}

static int tcp_open(const struct sz_nbd_options *options, bool is_encrypted,
		    struct sz_nbd_address *address, struct sz_error *error)
{
	const struct addrinfo wanted = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
	struct addrinfo *infos;
	bool stays = true;
	int result = getaddrinfo(options->host, options->port, &wanted, &infos);

	if (result != 0)
		return sz_fail(error, -EADDRNOTAVAIL, "%s:%s: %s", options->host, options->port,
			       gai_strerror(result));
	for (const struct addrinfo *info = infos; info != NULL; info = info->ai_next)
		stays = stays && is_loopback(info->ai_addr);
	if (!stays && !is_encrypted) {
		freeaddrinfo(infos);
		return sz_fail(error, -EPERM,
			       "%s: without TLS what is served would go over the network for all "
			       "to read: give --tls-certificates or --tls-psk, or listen at "
			       "localhost",
			       options->host);
	}
	address->host = strdup(options->host);
	result = address->host == NULL
			 ? -ENOMEM
			 : infos_listen(infos, strcmp(options->port, "0") == 0, address);
	freeaddrinfo(infos);
	return result == 0 ? 0
			   : sz_fail(error, result, "%s:%s: %s", options->host, options->port,
				     strerror(-result));
}

int sz_nbd_address_open(const struct sz_nbd_options *options, bool is_encrypted,
			struct sz_nbd_address *address_out, struct sz_error *error)
{
	int result;

	*address_out = (struct sz_nbd_address){ 0 };
	result = options->socket != NULL ? unix_open(options->socket, address_out, error)
					 : tcp_open(options, is_encrypted, address_out, error);
	if (result != 0) {
		sz_nbd_address_close(address_out);
		sz_nbd_address_free(address_out);
	}
	return result;
}

void sz_nbd_address_close(struct sz_nbd_address *address)
{
	struct stat status;

	if (address->socket != NULL && lstat(address->socket, &status) == 0 &&
	    status.st_dev == address->socket_device && status.st_ino == address->socket_inode)
		(void)unlink(address->socket);
	while (address->count > 0)
		(void)close(address->fds[--address->count]);
}

void sz_nbd_address_free(struct sz_nbd_address *address)
{
	free(address->socket);
	free(address->host);
	*address = (struct sz_nbd_address){ 0 };
}

/* What is in a URI as it is; all else becomes %XX. */
static void uri_append(struct sz_bytes *uri, const char *text, const char *also, int *result)
{
	for (; *text != '\0' && *result == 0; text++) {
		unsigned char byte = (unsigned char)*text;
		char escaped[4];

		(void)snprintf(escaped, sizeof(escaped), "%%%02X", byte);
		*result =
			isalnum(byte) || strchr("-._~/", byte) != NULL || strchr(also, byte) != NULL
				? sz_bytes_append(uri, &byte, 1)
				: sz_bytes_append(uri, escaped, 3);
	}
}

char *sz_nbd_uri(const struct sz_nbd_server *server, const char *name)
{
	const struct sz_nbd_address *address = &server->address;
	CLEANUP_BYTES struct sz_bytes uri = { 0 };
	CLEANUP_FREE char *begin = NULL;
	bool is_v6 = address->host != NULL && strchr(address->host, ':') != NULL;
	int result = 0;

	if (asprintf(&begin, "nbd%s%s://%s%s%s%s%s/", server->tls != NULL ? "s" : "",
		     address->socket != NULL ? "+unix" : "", is_v6 ? "[" : "",
		     address->host != NULL ? address->host : "", is_v6 ? "]" : "",
		     address->host != NULL ? ":" : "", address->port) < 0) {
		begin = NULL;
		return NULL;
	}
	result = sz_bytes_append(&uri, begin, strlen(begin));
	uri_append(&uri, name, "@:", &result);
	if (result == 0 && address->socket != NULL)
		result = sz_bytes_append(&uri, "?socket=", 8);
	if (result == 0 && address->socket != NULL)
		uri_append(&uri, address->socket, "", &result);
	if (result == 0)
		result = sz_bytes_append(&uri, "", 1);
	return result != 0 ? NULL : (char *)TAKE(uri.data);
}
