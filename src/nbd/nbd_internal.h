/*
 * What the files of nbd share: the channel to a client, TLS, a connection, and the server.
 *
 *   server.c        who may come in, and when all have to go     address.c       sockets, and their URIs
 *   connection.c    a client, from its coming to its going       channel.c       bytes from and to it
 *   handshake.c     what it gets                                 tls.c           the only door to GnuTLS
 *   transmission.c  its requests                                 protocol.c      bytes, pure
 *
 * Locks, in this order: a connection's read_lock, its write_lock, the server's lock. Under the first two is I/O with one
 * client, so they are each connection's own; under the server's is none.
 */
#ifndef SZ_NBD_NBD_INTERNAL_H
#define SZ_NBD_NBD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "nbd/protocol.h"

/* Limits. */
#define CLIENTS_MAX       64U /* a client may have several connections: each counts */
#define HANDSHAKES_MAX    16U /* of these, in the handshake; the oldest goes when one more comes */
#define HANDSHAKE_MS      20000U
#define IDLE_MS           10000U     /* then a connection's buffers are given back */
#define GOODBYE_S         5U         /* of TLS, to a client that takes nothing */
#define WORKERS_MAX       8U         /* requests of one connection at a time */
#define PIECE_BYTES       (2U << 20) /* longer requests are served piece by piece */
#define PIECE_LEAST       (64U << 10)
#define BUFFERS_BYTES     (256U << 20) /* of all connections; beyond it, a worker gets PIECE_LEAST */
#define DESCRIPTORS_MAX   4096U        /* in one block status */
#define STOP_GRACE_S      5U           /* for clients that do not take their answers */
#define LISTENERS_MAX     4U
#define CHANNEL_IN_BYTES  (32U << 10)
#define CHANNEL_OUT_BYTES 16384U /* a record of TLS */

/* TLS. Credentials: shared by all sessions. */
struct sz_nbd_tls;
struct sz_nbd_session;
int sz_nbd_tls_open(const struct sz_nbd_options *options, struct sz_nbd_tls **tls_out,
		    struct sz_error *error) MUST_CHECK; /* NULL: none was asked for */
void sz_nbd_tls_close(struct sz_nbd_tls *tls);
/* Blocks for the handshake. -EPROTO: it came to nothing. */
int sz_nbd_session_start(struct sz_nbd_tls *tls, int fd,
			 struct sz_nbd_session **session_out) MUST_CHECK;
/* One thread may read and another write. 0: the end; -EAGAIN: the socket's time for that is over. */
ssize_t sz_nbd_session_read(struct sz_nbd_session *session, void *to, size_t length);
int sz_nbd_session_write(struct sz_nbd_session *session, const void *from,
			 size_t length) MUST_CHECK;
void sz_nbd_session_end(struct sz_nbd_session *session); /* NULL is allowed; says goodbye */

/* Bytes to and from a client; they block until all are through. One thread may read and another write. */
struct sz_nbd_channel {
	int fd;
	struct sz_nbd_session *session; /* NULL: no TLS */
	size_t from;                    /* in: what has come, and was not asked for yet */
	size_t to;
	uint8_t in[CHANNEL_IN_BYTES];
	uint8_t out[CHANNEL_OUT_BYTES]; /* with TLS */
};
/* -ECONNRESET: the client is gone. */
int sz_nbd_channel_read(struct sz_nbd_channel *channel, void *to, size_t length) MUST_CHECK;
/* Until there is something to read, but not for longer than the socket waits: -EAGAIN. */
int sz_nbd_channel_await(struct sz_nbd_channel *channel) MUST_CHECK;
int sz_nbd_channel_skip(struct sz_nbd_channel *channel, uint64_t length) MUST_CHECK;
/* A head, and what follows it (length 0: nothing); both are only read. */
int sz_nbd_channel_write(struct sz_nbd_channel *channel, void *head, size_t head_length, void *data,
			 size_t length) MUST_CHECK;
/* From now on with TLS. -EPROTO: the client has sent something before. */
int sz_nbd_channel_secure(struct sz_nbd_channel *channel, struct sz_nbd_tls *tls) MUST_CHECK;

enum sz_nbd_phase {
	SZ_NBD_HANDSHAKE,
	SZ_NBD_TRANSMISSION,
	SZ_NBD_OVER, /* its thread is to be joined */
};

/*
 * A thread that serves a connection's requests. Its buffer is parked while it waits: the one that reads the next request
 * may free it then.
 */
struct sz_nbd_worker {
	struct sz_nbd_connection *connection;
	pthread_t thread;
	uint8_t *buffer;
	size_t capacity; /* of the buffer, parked or not */
	_Atomic(uint8_t *) parked;
};

struct sz_nbd_connection {
	struct sz_nbd_server *server;
	pthread_t thread;
	/* Guarded by the server's lock. */
	struct sz_nbd_connection *next;
	enum sz_nbd_phase phase;
	uint64_t begin_ns;
	/* The connection's thread sets these in the handshake; later they stay. */
	bool is_fixed;
	bool no_zeroes;
	bool is_structured;
	bool has_context; /* block status was agreed on, for context_name */
	char context_name[SZ_NBD_NAME_BYTES];
	struct sz_nbd_export export; /* operations NULL: none is open */

	pthread_mutex_t read_lock;  /* who reads the channel; is_ended, and the workers' number */
	pthread_mutex_t write_lock; /* who writes to it: a whole message */
	bool is_ended;              /* nothing is read any more */
	unsigned int worker_count;
	struct sz_nbd_worker workers[WORKERS_MAX]; /* 0 is the connection's own thread */
	atomic_uint waiting;                       /* workers that would take the next request */
	struct sz_nbd_channel channel;
};
/* The connection's thread: serves, until the client or the server ends it. */
void *sz_nbd_connection_run(void *argument);
/* 0: an export is open, and requests come. */
int sz_nbd_handshake(struct sz_nbd_connection *connection) MUST_CHECK;
/* Until the client, the server or an error ends it, and all that was begun is answered. */
void sz_nbd_transmission(struct sz_nbd_connection *connection);

struct sz_nbd_address {
	char *socket;
	char *host;
	char port[8];
	dev_t socket_device; /* what socket is, to remove no other one */
	ino_t socket_inode;
	int fds[LISTENERS_MAX];
	unsigned int count;
};
/* is_encrypted: else only what others cannot listen to is allowed. */
int sz_nbd_address_open(const struct sz_nbd_options *options, bool is_encrypted,
			struct sz_nbd_address *address_out, struct sz_error *error) MUST_CHECK;
void sz_nbd_address_close(struct sz_nbd_address *address); /* nobody comes in any more */
void sz_nbd_address_free(struct sz_nbd_address *address);

struct sz_nbd_server {
	struct sz_nbd_source source;
	bool read_only;
	struct sz_nbd_tls *tls; /* NULL: off */
	struct sz_nbd_address address;
	pthread_t thread;
	int wake_fd;
	atomic_bool is_stopping;
	atomic_size_t buffer_bytes; /* that workers have */
	atomic_uint handshake_ms;   /* HANDSHAKE_MS and IDLE_MS; tests are shorter */
	atomic_uint idle_ms;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct sz_nbd_connection *connections; /* guarded by lock; oldest first */
	unsigned int connection_count;         /* guarded by lock; without those that are over */
};
/* By the connection's thread. */
void sz_nbd_phase_set(struct sz_nbd_connection *connection, enum sz_nbd_phase phase);

#endif
