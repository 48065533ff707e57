/*
 * transmission: the requests of a client that has an export. A few workers take them in turn: who holds read_lock
 * reads the next one, with its data, lets another read, serves it, and answers under write_lock. There are as many
 * workers as requests are under way, up to a limit, and each has a buffer, that it keeps for as long as requests come.
 *
 * Longer requests than a buffer are served piece by piece. So what a client can make the server hold is bounded,
 * however long its requests are, and what it does not take holds up itself alone.
 */
#include "nbd/nbd_internal.h"

#include <errno.h>
#include <sys/socket.h>

#define BUFFER_ALIGNMENT 4096U
#define EXTENTS_MAX      65536U /* that are looked at for one block status */

static void buffer_free(struct sz_nbd_worker *worker)
{
	(void)atomic_fetch_sub(&worker->connection->server->buffer_bytes, worker->capacity);
	free(worker->buffer);
	worker->buffer = NULL;
	worker->capacity = 0;
}

/* For so much, or for pieces of it. -ENOMEM: for nothing. */
static int buffer_reserve(struct sz_nbd_worker *worker, size_t length)
{
	atomic_size_t *total = &worker->connection->server->buffer_bytes;
	size_t capacity = BUFFER_ALIGNMENT;

	if (worker->capacity >= length || worker->capacity == PIECE_BYTES)
		return 0;
	while (capacity < length && capacity < PIECE_BYTES)
		capacity *= 2;
	/* It is taken before it is had: others look at the total meanwhile. */
	if (atomic_fetch_add(total, capacity) + capacity > BUFFERS_BYTES &&
	    capacity > PIECE_LEAST) {
		(void)atomic_fetch_sub(total, capacity - PIECE_LEAST);
		capacity = PIECE_LEAST;
	}
	if (capacity <= worker->capacity) {
		(void)atomic_fetch_sub(total, capacity);
		return 0;
	}
	buffer_free(worker);
	worker->capacity = capacity;
	worker->buffer = aligned_alloc(BUFFER_ALIGNMENT, capacity);
	if (worker->buffer != NULL)
		return 0;
	buffer_free(worker);
	return -ENOMEM;
}

static void buffer_park(struct sz_nbd_worker *worker)
{
	atomic_store(&worker->parked, TAKE(worker->buffer));
}

/* Under read_lock: what it parked, if that is there still. */
static void buffer_unpark(struct sz_nbd_worker *worker)
{
	worker->buffer = atomic_exchange(&worker->parked, NULL);
	if (worker->buffer == NULL)
		worker->capacity = 0;
}

/* Under read_lock. No request has come for long: others may need what its workers have. */
static void buffers_give_back(struct sz_nbd_connection *connection)
{
	for (unsigned int i = 0; i < connection->worker_count; i++) {
		struct sz_nbd_worker *worker = &connection->workers[i];
		uint8_t *parked = atomic_exchange(&worker->parked, NULL);

		if (parked != NULL)
			(void)atomic_fetch_sub(&connection->server->buffer_bytes, worker->capacity);
		free(parked);
	}
}

/* The client does not take what is sent: it is gone for good. */
static void cut_off(struct sz_nbd_connection *connection)
{
	(void)shutdown(connection->channel.fd, SHUT_RDWR);
}

static void message_send(struct sz_nbd_connection *connection, void *head, size_t head_length,
			 void *data, size_t length)
{
	int result;

	(void)pthread_mutex_lock(&connection->write_lock);
	result = sz_nbd_channel_write(&connection->channel, head, head_length, data, length);
	(void)pthread_mutex_unlock(&connection->write_lock);
	if (result != 0)
		cut_off(connection);
}

/* An answer without data. */
static void answer(struct sz_nbd_connection *connection, const struct sz_nbd_request *request,
		   enum sz_nbd_errno error)
{
	uint8_t head[SZ_NBD_CHUNK_HEAD_MAX];
	size_t length = connection->is_structured && error != NBD_SUCCESS
				? sz_nbd_chunk_error_encode(request->cookie, error, head)
				: sz_nbd_simple_encode(request->cookie, error, head);

	message_send(connection, head, length, NULL, 0);
}

static void result_answer(struct sz_nbd_connection *connection,
			  const struct sz_nbd_request *request, int result)
{
	answer(connection, request,
	       sz_nbd_errno_of(result, (request->flags & NBD_CMD_FLAG_FAST_ZERO) != 0));
}

static uint32_t piece_length(const struct sz_nbd_worker *worker, uint32_t left)
{
	return left < worker->capacity ? left : (uint32_t)worker->capacity;
}

static int piece_read(struct sz_nbd_worker *worker, const struct sz_nbd_request *request,
		      uint32_t at, uint32_t length)
{
	const struct sz_nbd_export *export = &worker->connection->export;

	return export->operations->read(export->context, request->offset + at, length,
					worker->buffer);
}

/*
 * An answer that has to be in one piece, and is larger than the buffer: an error can be told before it begins only. So it is
 * read to be sure, and read again to be sent.
 */
static void whole_read_serve(struct sz_nbd_worker *worker, const struct sz_nbd_request *request)
{
	struct sz_nbd_connection *connection = worker->connection;
	uint8_t head[SZ_NBD_CHUNK_HEAD_MAX];
	size_t head_length = connection->is_structured
				     ? sz_nbd_chunk_data_encode(request->cookie, request->offset,
								request->length, true, head)
				     : sz_nbd_simple_encode(request->cookie, NBD_SUCCESS, head);
	uint32_t length;
	int result = 0;

	for (uint32_t at = 0; at < request->length && result == 0; at += length) {
		length = piece_length(worker, request->length - at);
		result = piece_read(worker, request, at, length);
	}
	if (result != 0) {
		result_answer(connection, request, result);
		return;
	}
	(void)pthread_mutex_lock(&connection->write_lock);
	for (uint32_t at = 0; at < request->length && result == 0; at += length) {
		length = piece_length(worker, request->length - at);
		result = piece_read(worker, request, at, length);
		if (result == 0)
			result = sz_nbd_channel_write(&connection->channel, head,
						      at == 0 ? head_length : 0, worker->buffer,
						      length);
	}
	if (result != 0) /* what it has of the answer is worth nothing */
		cut_off(connection);
	(void)pthread_mutex_unlock(&connection->write_lock);
}

static void read_serve(struct sz_nbd_worker *worker, const struct sz_nbd_request *request)
{
	struct sz_nbd_connection *connection = worker->connection;
	uint8_t head[SZ_NBD_CHUNK_HEAD_MAX];
	bool is_whole = !connection->is_structured || (request->flags & NBD_CMD_FLAG_DF) != 0;
	uint32_t length;
	int result = buffer_reserve(worker, request->length);

	if (result == 0 && is_whole && request->length > worker->capacity) {
		whole_read_serve(worker, request);
		return;
	}
	for (uint32_t at = 0; at < request->length && result == 0; at += length) {
		size_t head_length;

		length = piece_length(worker, request->length - at);
		result = piece_read(worker, request, at, length);
		if (result != 0)
			break;
		head_length = connection->is_structured
				      ? sz_nbd_chunk_data_encode(
						request->cookie, request->offset + at, length,
						at + length == request->length, head)
				      : sz_nbd_simple_encode(request->cookie, NBD_SUCCESS, head);
		message_send(connection, head, head_length, worker->buffer, length);
	}
	if (result != 0)
		result_answer(connection, request, result);
}

static int flush(const struct sz_nbd_export *export)
{
	return export->operations->flush(export->context);
}

/* Several calls of the same export, as one: the last makes all of them durable. */
static int write_piece(struct sz_nbd_worker *worker, const struct sz_nbd_request *request,
		       uint32_t at, uint32_t length)
{
	const struct sz_nbd_export *export = &worker->connection->export;
	bool is_durable = (request->flags & NBD_CMD_FLAG_FUA) != 0;
	bool is_only = length == request->length;
	int result = export->operations->write(export->context, request->offset + at, length,
					       worker->buffer, is_durable && is_only);

	if (result == 0 && is_durable && !is_only && at + length == request->length)
		result = flush(export);
	return result;
}

static void write_serve(struct sz_nbd_worker *worker, const struct sz_nbd_request *request)
{
	result_answer(worker->connection, request,
		      write_piece(worker, request, 0, request->length));
}

static int trim(const struct sz_nbd_export *export, const struct sz_nbd_request *request)
{
	return export->operations->trim(export->context, request->offset, request->length,
					(request->flags & NBD_CMD_FLAG_FUA) != 0);
}

static int zeroes_write(const struct sz_nbd_export *export, const struct sz_nbd_request *request)
{
	unsigned int flags = 0;

	if ((request->flags & NBD_CMD_FLAG_FUA) != 0)
		flags |= SZ_NBD_ZERO_DURABLE;
	if ((request->flags & NBD_CMD_FLAG_NO_HOLE) != 0)
		flags |= SZ_NBD_ZERO_KEEP;
	if ((request->flags & NBD_CMD_FLAG_FAST_ZERO) != 0)
		flags |= SZ_NBD_ZERO_FAST;
	return export->operations->write_zeroes(export->context, request->offset, request->length,
						flags);
}

static int extent_find(const struct sz_nbd_export *export, uint64_t offset, uint64_t length,
		       uint64_t *length_out, bool *is_hole_out)
{
	int result = export->operations->extent(export->context, offset, length, length_out,
						is_hole_out);

	return result == 0 && (*length_out == 0 || *length_out > length) ? -EIO : result;
}

/* Neighbours of a kind are one. *count_out: descriptors in the buffer, one at least; they may end early. */
static int extents_collect(struct sz_nbd_worker *worker, const struct sz_nbd_request *request,
			   uint32_t most, uint32_t *count_out)
{
	const struct sz_nbd_export *export = &worker->connection->export;
	uint32_t count = 0;
	uint32_t run = 0; /* of the last descriptor */
	bool run_is_hole = false;
	uint32_t at = 0;

	for (uint32_t seen = 0; seen < EXTENTS_MAX && at < request->length; seen++) {
		uint64_t length;
		bool is_hole;
		int result = extent_find(export, request->offset + at, request->length - at,
					 &length, &is_hole);

		if (result != 0 && at > 0)
			break; /* what is known so far */
		if (result != 0)
			return result;
		if (count == 0 || is_hole != run_is_hole) {
			if (count == most)
				break;
			count++;
			run = 0;
			run_is_hole = is_hole;
		}
		run += (uint32_t)length;
		at += (uint32_t)length;
		sz_nbd_descriptor_encode(run, is_hole,
					 worker->buffer +
						 (size_t)(count - 1) * SZ_NBD_DESCRIPTOR_BYTES);
	}
	*count_out = count;
	return 0;
}

static void status_serve(struct sz_nbd_worker *worker, const struct sz_nbd_request *request)
{
	struct sz_nbd_connection *connection = worker->connection;
	uint32_t most = (request->flags & NBD_CMD_FLAG_REQ_ONE) != 0 ? 1 : DESCRIPTORS_MAX;
	uint8_t head[SZ_NBD_CHUNK_HEAD_MAX];
	uint32_t count = 0;
	size_t head_length;
	size_t length;
	int result = buffer_reserve(worker, (size_t)most * SZ_NBD_DESCRIPTOR_BYTES);

	if (result == 0)
		result = extents_collect(worker, request, most, &count);
	if (result != 0) {
		result_answer(connection, request, result);
		return;
	}
	length = (size_t)count * SZ_NBD_DESCRIPTOR_BYTES;
	head_length = sz_nbd_chunk_encode(request->cookie, NBD_REPLY_TYPE_BLOCK_STATUS, true,
					  4 + (uint32_t)length, head);
	sz_nbd_context_id_encode(head + head_length);
	message_send(connection, head, head_length + 4, worker->buffer, length);
}

/* What has been checked; a write's data is in the buffer. */
static void request_serve(struct sz_nbd_worker *worker, const struct sz_nbd_request *request)
{
	struct sz_nbd_connection *connection = worker->connection;
	int result = 0;

	switch (request->type) {
	case NBD_CMD_READ:
		read_serve(worker, request);
		return;
	case NBD_CMD_WRITE:
		write_serve(worker, request);
		return;
	case NBD_CMD_BLOCK_STATUS:
		status_serve(worker, request);
		return;
	case NBD_CMD_FLUSH:
		result = flush(&connection->export);
		break;
	case NBD_CMD_TRIM:
		result = trim(&connection->export, request);
		break;
	case NBD_CMD_WRITE_ZEROES:
		result = zeroes_write(&connection->export, request);
		break;
	default: /* CACHE: nothing is done */
		break;
	}
	result_answer(connection, request, result);
}

/*
 * The data of a write. Longer than the buffer it is written as it comes, and *is_served_out: the request is answered, or
 * its error is. An error: nothing more can be read.
 */
static int data_take(struct sz_nbd_worker *worker, const struct sz_nbd_request *request,
		     enum sz_nbd_errno refusal, bool *is_served_out)
{
	struct sz_nbd_connection *connection = worker->connection;
	struct sz_nbd_channel *channel = &connection->channel;
	uint32_t length;
	int result = refusal != NBD_SUCCESS ? -EINVAL : buffer_reserve(worker, request->length);
	int received = 0;

	*is_served_out = result != 0 || request->length > worker->capacity;
	if (!*is_served_out)
		return sz_nbd_channel_read(channel, worker->buffer, request->length);
	if (result != 0) {
		received = sz_nbd_channel_skip(channel, request->length);
		if (refusal == NBD_SUCCESS)
			refusal = NBD_ENOMEM;
		if (received == 0)
			answer(connection, request, refusal);
		return received;
	}
	for (uint32_t at = 0; at < request->length && received == 0; at += length) {
		length = piece_length(worker, request->length - at);
		received = result != 0 ? sz_nbd_channel_skip(channel, length)
				       : sz_nbd_channel_read(channel, worker->buffer, length);
		if (result == 0 && received == 0)
			result = write_piece(worker, request, at, length);
	}
	if (received == 0)
		result_answer(connection, request, result);
	return received;
}

static enum sz_nbd_errno request_refusal(const struct sz_nbd_connection *connection,
					 const struct sz_nbd_request *request)
{
	if (atomic_load(&connection->server->is_stopping) && request->type != NBD_CMD_DISC)
		return NBD_ESHUTDOWN;
	return sz_nbd_request_check(request, &connection->export, connection->is_structured,
				    connection->has_context);
}

/* Under read_lock. False: there are no more. *is_served_out: nothing is left to be done. */
static bool request_take(struct sz_nbd_worker *worker, struct sz_nbd_request *request,
			 bool *is_served_out)
{
	struct sz_nbd_connection *connection = worker->connection;
	uint8_t head[SZ_NBD_REQUEST_HEAD];
	enum sz_nbd_errno refusal;

	*is_served_out = false;
	while (sz_nbd_channel_await(&connection->channel) == -EAGAIN)
		buffers_give_back(connection);
	buffer_unpark(worker);
	if (sz_nbd_channel_read(&connection->channel, head, sizeof(head)) != 0 ||
	    !sz_nbd_request_decode(head, request) || request->type == NBD_CMD_DISC)
		return false;
	refusal = request_refusal(connection, request);
	if (request->type == NBD_CMD_WRITE)
		return data_take(worker, request, refusal, is_served_out) == 0;
	if (refusal != NBD_SUCCESS) {
		answer(connection, request, refusal);
		*is_served_out = true;
	}
	return true;
}

static void *worker_run(void *argument);

/* Somebody is to read while this request is served. Under read_lock. */
static void next_worker_start(struct sz_nbd_connection *connection)
{
	struct sz_nbd_worker *next = &connection->workers[connection->worker_count];

	if (atomic_load(&connection->waiting) > 0 || connection->worker_count == WORKERS_MAX)
		return;
	next->connection = connection;
	if (pthread_create(&next->thread, NULL, worker_run, next) == 0)
		connection->worker_count++;
}

static bool work(struct sz_nbd_worker *worker)
{
	struct sz_nbd_connection *connection = worker->connection;
	struct sz_nbd_request request;
	bool is_served = true;
	bool is_ended;

	buffer_park(worker);
	(void)atomic_fetch_add(&connection->waiting, 1);
	(void)pthread_mutex_lock(&connection->read_lock);
	(void)atomic_fetch_sub(&connection->waiting, 1);
	if (!connection->is_ended)
		connection->is_ended = !request_take(worker, &request, &is_served);
	is_ended = connection->is_ended;
	if (!is_served && !is_ended)
		next_worker_start(connection);
	(void)pthread_mutex_unlock(&connection->read_lock);
	if (!is_served && !is_ended)
		request_serve(worker, &request);
	return !is_ended;
}

static void *worker_run(void *argument)
{
	struct sz_nbd_worker *worker = argument;

	(void)pthread_setname_np(pthread_self(), "nbd worker");
	while (work(worker))
		;
	if (worker->buffer == NULL)
		buffer_unpark(worker);
	buffer_free(worker);
	return NULL;
}

void sz_nbd_transmission(struct sz_nbd_connection *connection)
{
	connection->worker_count = 1;
	connection->workers[0].connection = connection;
	(void)worker_run(&connection->workers[0]);
	/* Nothing is read any more, so no more are started. */
	for (unsigned int i = 1; i < connection->worker_count; i++)
		(void)pthread_join(connection->workers[i].thread, NULL);
}
