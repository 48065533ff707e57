#include "control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MAGIC           0x31435A53U /* "SZC1" */
#define HEAD_BYTES      16U         /* magic, arguments, their bytes, which descriptors there are */
#define ARGUMENTS_MAX   1048576U
#define BACKLOG         64
#define REQUEST_SECONDS 10 /* for a request to arrive: it is sent at once */

static const char folder_name[] = "szpool";

void sz_control_request_free(struct sz_control_request *request)
{
	free(request->argv);
	for (unsigned int i = 0; i < SZ_CONTROL_FDS; i++)
		sz_cleanup_fd(&request->fds[i]);
	*request = (struct sz_control_request){ 0 };
	for (unsigned int i = 0; i < SZ_CONTROL_FDS; i++)
		request->fds[i] = -1;
}

/* Is it a folder of ours, that nobody else may enter? */
static bool is_private(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
	       (status.st_mode & 0077) == 0;
}

/* The folder of the sockets; the caller's. NULL: there is none, and none can be made. */
static char *socket_folder(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char user[64];
	CLEANUP_FREE char *path = NULL;

	(void)snprintf(user, sizeof(user), "/run/user/%u", (unsigned int)geteuid());
	if (runtime == NULL || runtime[0] != '/')
		runtime = user;
	if (is_private(runtime)) {
		if (asprintf(&path, "%s/%s", runtime, folder_name) < 0)
			path = NULL;
	} else if (asprintf(&path, "/tmp/%s-%u", folder_name, (unsigned int)geteuid()) < 0) {
		path = NULL;
	}
	if (path == NULL || (mkdir(path, 0700) != 0 && errno != EEXIST) || !is_private(path))
		return NULL;
	return TAKE(path);
}

static int address_of(const char *store, struct sockaddr_un *address_out)
{
	CLEANUP_FREE char *folder = NULL;
	struct stat status;
	int length;

	if (stat(store, &status) != 0)
		return -errno;
	folder = socket_folder();
	if (folder == NULL)
		return -ENOTDIR;
	*address_out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	length = snprintf(address_out->sun_path, sizeof(address_out->sun_path), "%s/%llx-%llx",
			  folder, (unsigned long long)status.st_dev,
			  (unsigned long long)status.st_ino);
	return length < (int)sizeof(address_out->sun_path) ? 0 : -ENAMETOOLONG;
}

static int address_fail(const char *store, int result, struct sz_error *error)
{
	return sz_fail(error, result,
		       "%s: no socket for other commands can be made: %s; set XDG_RUNTIME_DIR to a "
		       "folder of your own",
		       store, strerror(-result));
}

int sz_control_path(const char *store, const char *suffix, char **path_out, struct sz_error *error)
{
	struct sockaddr_un address;
	int result = address_of(store, &address);

	if (result != 0)
		return address_fail(store, result, error);
	if (asprintf(path_out, "%s%s", address.sun_path, suffix) < 0)
		return sz_fail(error, -ENOMEM, "no memory");
	return 0;
}

int sz_control_listen(const char *store, int *listener_out, struct sz_error *error)
{
	CLEANUP_FD int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int result = listener < 0 ? -errno : address_of(store, &address);

	if (result == 0 && unlink(address.sun_path) != 0 && errno != ENOENT)
		result = -errno;
	if (result == 0 && bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0)
		result = -errno;
	if (result == 0 && listen(listener, BACKLOG) != 0)
		result = -errno;
	if (result != 0)
		return address_fail(store, result, error);
	*listener_out = sz_fd_take(&listener);
	return 0;
}

void sz_control_unlisten(const char *store, int listener)
{
	struct sockaddr_un address;

	if (listener < 0)
		return;
	if (address_of(store, &address) == 0)
		(void)unlink(address.sun_path);
	(void)close(listener);
}

/* Is the other end the same user? */
static bool peer_is_us(int connection)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       peer.uid == geteuid();
}

int sz_control_accept(int listener, int *connection_out)
{
	CLEANUP_FD int connection = -1;

	do
		connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (connection < 0 && errno == EINTR);
	if (connection < 0)
		return -errno;
	if (!peer_is_us(connection))
		return -EACCES;
	*connection_out = sz_fd_take(&connection);
	return 0;
}

union control_message {
	char bytes[CMSG_SPACE(SZ_CONTROL_FDS * sizeof(int))];
	struct cmsghdr alignment;
};

/* Descriptors that came with a message: kept in the order of mask, or closed if they are not those. */
static int fds_take(struct msghdr *message, uint32_t mask, int fds[SZ_CONTROL_FDS])
{
	int found[SZ_CONTROL_FDS];
	size_t count = 0;
	size_t next = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
	     part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(found, CMSG_DATA(part), count * sizeof(int));
	}
	for (unsigned int i = 0; i < SZ_CONTROL_FDS && next < count; i++)
		if ((mask >> i & 1) != 0)
			fds[i] = found[next++];
	if (next == count && count == (size_t)__builtin_popcount(mask) &&
	    (message->msg_flags & MSG_CTRUNC) == 0)
		return 0;
	while (next < count)
		(void)close(found[next++]);
	return -EPROTO;
}

static int all_receive(int connection, uint8_t *to, size_t length)
{
	while (length > 0) {
		ssize_t done = recv(connection, to, length, 0);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done == 0 ? -ECONNRESET : -errno;
		to += done;
		length -= (size_t)done;
	}
	return 0;
}

static int all_send(int connection, const uint8_t *from, size_t length)
{
	while (length > 0) {
		ssize_t done = send(connection, from, length, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		from += done;
		length -= (size_t)done;
	}
	return 0;
}

/* The head of a request, and the descriptors. The head is so short that it comes as a whole. */
static int head_receive(int connection, uint8_t head[HEAD_BYTES], int fds[SZ_CONTROL_FDS])
{
	union control_message control;
	struct iovec part = { .iov_base = head, .iov_len = HEAD_BYTES };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	uint32_t mask;
	ssize_t done;

	do
		done = recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return -errno;
	mask = done == HEAD_BYTES ? sz_get_le32(head + 12) : 0;
	if (mask >= 1U << SZ_CONTROL_FDS)
		mask = 0;
	return fds_take(&message, mask, fds) != 0 || mask == 0 ? -EPROTO : 0;
}

/* The texts behind the pointers to them, in one block. */
static int arguments_split(struct sz_control_request *request, size_t bytes)
{
	char *text = (char *)(request->argv + request->argc + 1);
	char *end = text + bytes;

	if (end[-1] != '\0')
		return -EPROTO;
	for (int i = 0; i < request->argc; i++) {
		if (text == end)
			return -EPROTO;
		request->argv[i] = text;
		text += strlen(text) + 1;
	}
	request->argv[request->argc] = NULL;
	return text == end ? 0 : -EPROTO;
}

static int request_receive(int connection, struct sz_control_request *request)
{
	uint8_t head[HEAD_BYTES] = { 0 };
	int result = head_receive(connection, head, request->fds);
	uint32_t count = sz_get_le32(head + 4);
	uint32_t bytes = sz_get_le32(head + 8);

	if (result != 0)
		return result;
	if (sz_get_le32(head) != MAGIC || count == 0 || count > ARGUMENTS_MAX || bytes < count ||
	    bytes > SZ_CONTROL_ARGUMENTS_MAX)
		return -EPROTO;
	for (unsigned int i = 0; i < SZ_CONTROL_TERMINAL; i++)
		if (request->fds[i] < 0)
			return -EPROTO;
	request->argv = malloc(((size_t)count + 1) * sizeof(char *) + bytes);
	if (request->argv == NULL)
		return -ENOMEM;
	request->argc = (int)count;
	result = all_receive(connection, (uint8_t *)(request->argv + count + 1), bytes);
	return result != 0 ? result : arguments_split(request, bytes);
}

int sz_control_receive(int connection, struct sz_control_request *request_out)
{
	CLEANUP(sz_control_request_free) struct sz_control_request request = { 0 };
	struct timeval limit = { .tv_sec = REQUEST_SECONDS };
	int result = 0;

	for (unsigned int i = 0; i < SZ_CONTROL_FDS; i++)
		request.fds[i] = -1;
	if (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0)
		result = -errno;
	if (result == 0)
		result = request_receive(connection, &request);
	limit.tv_sec = 0; /* from here on the caller may be silent */
	if (result == 0 &&
	    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0)
		result = -errno;
	if (result != 0)
		return result;
	*request_out = request;
	request = (struct sz_control_request){ .fds = { -1, -1, -1, -1, -1 } };
	return 0;
}

int sz_control_signal(int connection)
{
	uint8_t number;

	return all_receive(connection, &number, 1) == 0 ? number : 0;
}

int sz_control_reply(int connection, int exit_code)
{
	uint8_t bytes[4];

	sz_put_le32(bytes, (uint32_t)exit_code);
	return all_send(connection, bytes, sizeof(bytes));
}

int sz_control_connect(const char *store, int *connection_out)
{
	CLEANUP_FD int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	if (connection < 0)
		return -errno;
	if (address_of(store, &address) != 0 ||
	    connect(connection, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    !peer_is_us(connection))
		return -ENOENT;
	*connection_out = sz_fd_take(&connection);
	return 0;
}

static int head_send(int connection, const uint8_t head[HEAD_BYTES], const int fds[SZ_CONTROL_FDS])
{
	union control_message control = { 0 };
	uint8_t bytes[HEAD_BYTES];
	struct iovec part = { .iov_base = bytes, .iov_len = HEAD_BYTES };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes };
	int present[SZ_CONTROL_FDS] = { 0 };
	size_t count = 0;
	ssize_t done;

	memcpy(bytes, head, sizeof(bytes));
	for (unsigned int i = 0; i < SZ_CONTROL_FDS; i++)
		if (fds[i] >= 0)
			present[count++] = fds[i];
	control.alignment.cmsg_level = SOL_SOCKET;
	control.alignment.cmsg_type = SCM_RIGHTS;
	control.alignment.cmsg_len = CMSG_LEN(count * sizeof(int));
	message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	memcpy(CMSG_DATA(&control.alignment), present, count * sizeof(int));
	do
		done = sendmsg(connection, &message, MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done == HEAD_BYTES ? 0 : -EPROTO;
}

int sz_control_call(int connection, int argc, char *const *argv, const int fds[SZ_CONTROL_FDS])
{
	CLEANUP_BYTES struct sz_bytes texts = { 0 };
	uint8_t head[HEAD_BYTES];
	uint32_t mask = 0;
	int result = 0;

	for (int i = 0; i < argc && result == 0; i++)
		result = sz_bytes_append(&texts, argv[i], strlen(argv[i]) + 1);
	if (result == 0 && texts.length > SZ_CONTROL_ARGUMENTS_MAX)
		result = -E2BIG;
	if (result != 0)
		return result;
	for (unsigned int i = 0; i < SZ_CONTROL_FDS; i++)
		mask |= fds[i] >= 0 ? 1U << i : 0;
	sz_put_le32(head, MAGIC);
	sz_put_le32(head + 4, (uint32_t)argc);
	sz_put_le32(head + 8, (uint32_t)texts.length);
	sz_put_le32(head + 12, mask);
	result = head_send(connection, head, fds);
	return result != 0 ? result : all_send(connection, texts.data, texts.length);
}

int sz_control_wait(int connection, int *exit_code_out)
{
	uint8_t bytes[4];
	int result = all_receive(connection, bytes, sizeof(bytes));

	if (result == 0)
		*exit_code_out = (int)sz_get_le32(bytes);
	return result;
}

int sz_control_interrupt(int connection, int signal_number)
{
	uint8_t number = (uint8_t)signal_number;

	return all_send(connection, &number, 1);
}
