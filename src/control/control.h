/*
 * control: hands a command line to the process that has a store open, over a Unix socket, with the
 * caller's standard descriptors, its folder and its terminal: so nothing that is copied goes through the
 * socket, and the command runs there as it would have here.
 *
 * Sockets are in $XDG_RUNTIME_DIR/szpool (else /run/user/UID/szpool, else /tmp/szpool-UID), a folder that
 * nobody else may enter; the other end has to be the same user. A socket's name stands for the store's
 * folder, by file system and inode: it says nothing of the store.
 *
 * A call, client to server: a request (magic, length, arguments; descriptors with its first byte), then a byte
 * for each signal that is to interrupt the command; the end of the connection interrupts it too. Server to
 * client: the exit code, once.
 */
#ifndef SZ_CONTROL_CONTROL_H
#define SZ_CONTROL_CONTROL_H

#include "base/base.h"

enum sz_control_fd {
	SZ_CONTROL_IN,
	SZ_CONTROL_OUT,
	SZ_CONTROL_ERR,
	SZ_CONTROL_FOLDER,   /* the caller's working folder */
	SZ_CONTROL_TERMINAL, /* /dev/tty; -1: it has none */
	SZ_CONTROL_FDS,
};

/* Arguments, with the program's name: more than the kernel lets a program have. */
#define SZ_CONTROL_ARGUMENTS_MAX (4U << 20)

struct sz_control_request {
	int argc;
	char **argv; /* NULL at the end; with what it points to in one block, freed by _free */
	int fds[SZ_CONTROL_FDS];
};
void sz_control_request_free(struct sz_control_request *request); /* closes what fds has */

/*
 * The server's end. store: the store's folder; the caller has it open for writing, so a socket that is
 * there already is a dead process's.
 */
int sz_control_listen(const char *store, int *listener_out, struct sz_error *error) MUST_CHECK;
/* The path of another socket of the store's, beside that one: with a suffix. The caller's. */
int sz_control_path(const char *store, const char *suffix, char **path_out,
		    struct sz_error *error) MUST_CHECK;
/* The socket's name goes. */
void sz_control_unlisten(const char *store, int listener);
/* Blocks. -EACCES: another user called; -ECONNABORTED: nobody any more: both are no reason to end. */
int sz_control_accept(int listener, int *connection_out) MUST_CHECK;
/* Blocks until the request is there, at most some seconds. -EPROTO: it is none. */
int sz_control_receive(int connection, struct sz_control_request *request_out) MUST_CHECK;
/* Blocks: the next signal's number; 0: the caller is gone. */
int sz_control_signal(int connection);
int sz_control_reply(int connection, int exit_code) MUST_CHECK;

/*
 * The client's end. -ENOENT: nobody serves the store. _call: fds are passed on, and stay the caller's.
 * The connection is the caller's to close.
 */
int sz_control_connect(const char *store, int *connection_out) MUST_CHECK;
int sz_control_call(int connection, int argc, char *const *argv,
		    const int fds[SZ_CONTROL_FDS]) MUST_CHECK;
/* Blocks until the command has ended. -ECONNRESET: the server has. */
int sz_control_wait(int connection, int *exit_code_out) MUST_CHECK;
int sz_control_interrupt(int connection, int signal_number) MUST_CHECK;

#endif
