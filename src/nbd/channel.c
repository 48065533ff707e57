/* channel: bytes to and from a client, through a socket or TLS; what is read is read in large pieces. */
#include "nbd/nbd_internal.h"

#include <errno.h>
#include <sys/socket.h>

/* Some bytes, at least one. -EAGAIN: the socket's time for that is over. */
static int some_read(struct sz_nbd_channel *channel, void *to, size_t length, size_t *done_out)
{
	ssize_t done;

	do
		done = channel->session != NULL ? sz_nbd_session_read(channel->session, to, length)
						: recv(channel->fd, to, length, 0);
	while (done < 0 && channel->session == NULL && errno == EINTR);
	if (done == -EAGAIN || (done < 0 && channel->session == NULL && errno == EAGAIN))
		return -EAGAIN;
	if (done <= 0)
		return -ECONNRESET;
	*done_out = (size_t)done;
	return 0;
}

/* Likewise, however long it takes, into the channel's own room. */
static int in_fill(struct sz_nbd_channel *channel)
{
	int result;

	channel->from = 0;
	channel->to = 0;
	do
		result = some_read(channel, channel->in, sizeof(channel->in), &channel->to);
	while (result == -EAGAIN);
	return result;
}

int sz_nbd_channel_await(struct sz_nbd_channel *channel)
{
	if (channel->from < channel->to)
		return 0;
	channel->from = 0;
	channel->to = 0;
	return some_read(channel, channel->in, sizeof(channel->in), &channel->to);
}

int sz_nbd_channel_read(struct sz_nbd_channel *channel, void *to, size_t length)
{
	uint8_t *at = to;
	size_t done;
	int result = 0;

	while (result == 0 && length > 0) {
		if (channel->from < channel->to) {
			done = channel->to - channel->from;
			if (done > length)
				done = length;
			memcpy(at, channel->in + channel->from, done);
			channel->from += done;
		} else if (length >= sizeof(channel->in)) {
			result = some_read(channel, at, length, &done);
			if (result == -EAGAIN) {
				result = 0;
				continue;
			}
		} else {
			result = in_fill(channel);
			continue;
		}
		if (result == 0) {
			at += done;
			length -= done;
		}
	}
	return result;
}

int sz_nbd_channel_skip(struct sz_nbd_channel *channel, uint64_t length)
{
	int result = 0;

	while (result == 0 && length > 0) {
		size_t done = channel->to - channel->from;

		if (done > length)
			done = length;
		channel->from += done;
		length -= done;
		if (length > 0)
			result = in_fill(channel);
	}
	return result;
}

static int socket_write(int fd, struct iovec *parts, size_t count)
{
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = count };

	while (message.msg_iovlen > 0) {
		ssize_t done = sendmsg(fd, &message, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		while (message.msg_iovlen > 0 && (size_t)done >= message.msg_iov->iov_len) {
			done -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen > 0) {
			message.msg_iov->iov_base = (uint8_t *)message.msg_iov->iov_base + done;
			message.msg_iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

/* Each write is a record: a head and little data are made one. */
static int session_write(struct sz_nbd_channel *channel, const void *head, size_t head_length,
			 const void *data, size_t length)
{
	int result;

	if (length > 0 && head_length + length <= sizeof(channel->out)) {
		memcpy(channel->out, head, head_length);
		memcpy(channel->out + head_length, data, length);
		return sz_nbd_session_write(channel->session, channel->out, head_length + length);
	}
	result = head_length == 0 ? 0 : sz_nbd_session_write(channel->session, head, head_length);
	return result != 0 || length == 0 ? result
					  : sz_nbd_session_write(channel->session, data, length);
}

int sz_nbd_channel_write(struct sz_nbd_channel *channel, void *head, size_t head_length, void *data,
			 size_t length)
{
	struct iovec parts[2] = { { head, head_length }, { data, length } };

	if (channel->session != NULL)
		return session_write(channel, head, head_length, data, length);
	return socket_write(channel->fd, parts, length > 0 ? 2 : 1);
}

int sz_nbd_channel_secure(struct sz_nbd_channel *channel, struct sz_nbd_tls *tls)
{
	/* Somebody between us could have put it there, to be taken for what the client says under TLS. */
	if (channel->from != channel->to)
		return -EPROTO;
	return sz_nbd_session_start(tls, channel->fd, &channel->session);
}
