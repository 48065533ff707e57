/*
 * nbd: a server of the network block device protocol, in the process that owns what it serves. What that is comes
 * from a source: volumes, snapshots of them, raw devices; this folder knows of none of these. It speaks fixed newstyle
 * with structured replies, block status, FUA, trim, write zeroes, over a Unix socket, or TCP with TLS.
 */
#ifndef SZ_NBD_NBD_H
#define SZ_NBD_NBD_H

#include "base/base.h"

/* Of an export's name, with the final NUL: a dataset's, '@' and a snapshot's. The empty name is the default export's. */
#define SZ_NBD_NAME_BYTES    256U
/* Of data in one read or write. */
#define SZ_NBD_REQUEST_BYTES (32U << 20)

/* What is wanted of a range of zeros. */
enum sz_nbd_zero {
	SZ_NBD_ZERO_DURABLE = 1 << 0, /* as of a write */
	SZ_NBD_ZERO_KEEP =
		1 << 1, /* room stays allocated, where there is such a thing; else ignored */
	SZ_NBD_ZERO_FAST =
		1
		<< 2, /* -EOPNOTSUPP at once, and nothing changed, if it is no faster than writing */
};

/*
 * An export that a client has open. Bytes; the server passes only ranges that lie within size_bytes, with a length that
 * is not 0, at any offset and of any length: alignment is the export's affair. Calls block, and come from several threads
 * at once, also for the same bytes; several clients may have the same export open, each with an opening of its own.
 *
 * All return 0 or -errno. Clients are told of ENOSPC (EDQUOT, EFBIG), EPERM (EROFS, EACCES), ENOMEM, EINVAL and
 * EOPNOTSUPP as such; of all else as EIO. Damage is an error: a client never gets bytes that are not what was
 * written. After an error of a write it is not known which of its bytes are written.
 *
 * Durable: what completed before the call, by any opening of the same export, is on disk when it returns 0.
 */
struct sz_nbd_operations {
	/* At most SZ_NBD_REQUEST_BYTES. After an error the buffer's content is undefined; it is not sent. */
	int (*read)(void *context, uint64_t offset, uint32_t length, void *buffer);
	/* As trim and write_zeroes not called if the export is read-only. is_durable: this write is on disk when it returns 0. */
	int (*write)(void *context, uint64_t offset, uint32_t length, const void *buffer,
		     bool is_durable);
	/* Not needed any more; reads as zeros or as before. Up to the whole export in one call. */
	int (*trim)(void *context, uint64_t offset, uint64_t length, bool is_durable);
	/* Reads as zeros. flags: of enum sz_nbd_zero. Up to the whole export in one call. */
	int (*write_zeroes)(void *context, uint64_t offset, uint64_t length, unsigned int flags);
	/* All that completed before, by any opening of the export, is durable. */
	int (*flush)(void *context);
	/*
	 * What is at the offset: a hole (nothing is stored there, it reads as zeros), or data. *length_out: for how far
	 * that goes, 1 … length; it may be less than it could be.
	 */
	int (*extent)(void *context, uint64_t offset, uint64_t length, uint64_t *length_out,
		      bool *is_hole_out);
	/* The opening ends; no call is under way, and none comes. Once for each open that returned 0. */
	void (*close)(void *context);
};

struct sz_nbd_export {
	const struct sz_nbd_operations *operations;
	void *context;
	uint64_t size_bytes; /* stays as it is for as long as this is open */
	uint32_t
		block_bytes; /* what is best read and written at once: a power of two, 512 … 1 MiB */
	bool is_read_only;
	const char *description; /* as the list has it, for as long as this is open; NULL: none */
};

/*
 * Where exports come from. Called by several threads at once; exports may come and go while the server runs.
 * It has to stay until the server has stopped.
 */
typedef int sz_nbd_listed_fn(void *to, const char *name, const char *description);
struct sz_nbd_source {
	/* One call of each for each export; its error ends the list, and is returned. description: "" if there is none. */
	int (*list)(void *context, sz_nbd_listed_fn *each, void *to);
	/*
	 * Opens an export by its name ("": the one that is there, or -ENOENT if that is not clear). read_only: the
	 * client, or who started the server, wants no more. The server closes what is opened. -ENOENT: there is none of
	 * that name; other errors are told to the client without a reason.
	 */
	int (*open)(void *context, const char *name, bool read_only,
		    struct sz_nbd_export *export_out);
	void *context;
};

/* How it is reached, and by whom. */
struct sz_nbd_options {
	/* A path, mode 0600; what lies there and is no socket that a dead process left is -EADDRINUSE. */
	const char *socket;
	const char *host; /* with socket NULL: a name or address … */
	const char *port; /* … and a number or service; "0": any */
	bool read_only;   /* every export is */
	/* TLS, one or none: has to be on unless it is a Unix socket, or host an address of this machine (loopback). */
	const char *tls_certificates; /* a folder: ca-cert.pem, server-cert.pem, server-key.pem */
	const char *tls_psk;          /* a file of 'psktool': USER:HEXKEY, a line each */
	bool tls_verify_peer; /* with certificates: a client has to show one that ca-cert.pem has signed */
};

/*
 * Serves from then on, in threads of its own. The source and what it opens are used until _stop has returned.
 * -EADDRINUSE, -EACCES, …; -EPERM: it would not be encrypted; the text says what to do.
 */
struct sz_nbd_server;
int sz_nbd_start(const struct sz_nbd_source *source, const struct sz_nbd_options *options,
		 struct sz_nbd_server **server_out, struct sz_error *error) MUST_CHECK;
/*
 * Nobody comes in any more; clients get errors for what they ask from now on, what is under way is finished and answered,
 * then they are cut off. Blocks; NULL is allowed.
 */
void sz_nbd_stop(struct sz_nbd_server *server);
/* What a client calls it: the URI of an export (name "": of the server), the caller's; NULL: no memory. */
char *sz_nbd_uri(const struct sz_nbd_server *server, const char *name);
/* Clients that are connected. */
unsigned int sz_nbd_client_count(struct sz_nbd_server *server);
/* Serves a connected socket as one that was accepted; takes it over, also if it fails. */
int sz_nbd_adopt(struct sz_nbd_server *server, int fd) MUST_CHECK;

#endif
