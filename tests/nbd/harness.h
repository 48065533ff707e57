/*
 * harness: an NBD server over an export in memory, and clients that speak the protocol byte by byte, right or wrong.
 * Clients end the test if the server keeps them waiting for WAIT_S.
 */
#ifndef SZ_TESTS_NBD_HARNESS_H
#define SZ_TESTS_NBD_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nbd/nbd_internal.h"

#define DISK_BYTES  (68ULL << 20)
#define GUARD_BYTES 4096U
#define BLOCK       4096U
#define WAIT_S      20

/* An export: bytes with a guard at both ends, which of its blocks are holes, and what was asked of it. */
struct disk {
	uint8_t *bytes; /* behind the first guard */
	bool *holes;    /* of each block; reading is not told by it */
	pthread_mutex_t lock;
	int result; /* of what comes: 0, or -errno */
	bool is_read_only;
	atomic_uint durable; /* writes that had to be */
	atomic_uint flushes;
	atomic_uint opened;
	atomic_uint closed;
	atomic_uint delay_ms; /* of each write … */
	atomic_uint begun;    /* … that was begun */
};
void disk_make(struct disk *disk);
void disk_check_guards(const struct disk *disk);
void disk_free(struct disk *disk);
/* "disk", or "". */
struct sz_nbd_source disk_source(struct disk *disk);

struct server {
	struct disk disk;
	struct sz_nbd_server *nbd;
	char path[64];
};
void server_start(struct server *server);
void server_stop(struct server *server); /* and all that was opened is closed */

/* Connected, and nothing said yet. */
int client_connect(struct server *server);
void all_send(int fd, const void *bytes, size_t length);
bool all_receive(int fd, void *bytes, size_t length); /* false: it was cut off */
bool is_cut_off(int fd);                              /* after whatever comes yet */
void put_be(uint8_t *to, uint64_t value, size_t width);
uint64_t get_be(const uint8_t *from, size_t width);

void greet(int fd, uint32_t flags);
void option_send(int fd, uint32_t option, const void *data, uint32_t length);
/* The type of the reply; its data, up to room bytes. */
uint32_t reply_receive(int fd, uint32_t option, void *data, size_t room, uint32_t *length_out);
uint32_t option_ask(int fd, uint32_t option, const void *data, uint32_t length); /* last reply */
/* With structured replies, block status and the export, or without the first two. */
int client_ready(struct server *server, bool is_structured);

void request_send(int fd, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t offset,
		  uint32_t length);
/* The error of an answer without data, simple or structured. */
uint32_t answer_receive(int fd, uint64_t cookie);
uint32_t ask(int fd, uint16_t flags, uint16_t type, uint64_t offset, uint32_t length);
uint32_t ask_write(int fd, uint16_t flags, uint64_t offset, const void *data, uint32_t length);
/* A read's data, in one chunk or several; structured or not. */
uint32_t ask_read(int fd, bool is_structured, uint16_t flags, uint64_t offset, void *data,
		  uint32_t length);
/* Reads something, to see that all is well. */
void check_alive(struct server *server);

/* A generator that repeats itself: its seed is printed. */
uint64_t random_next(uint64_t *state);
uint64_t random_seed(void);

#endif
