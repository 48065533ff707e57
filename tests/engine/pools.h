/* Pools on scripted devices: making, opening, filling and checking them, for the steps of a test. */
#ifndef SZ_TESTS_ENGINE_POOLS_H
#define SZ_TESTS_ENGINE_POOLS_H

#include "support/step.h"

#include "fs/fs.h"

#include "scripted.h"

struct opened {
	struct sz_pool *pool;
	struct sz_fs *fs;
};

extern struct sz_store *devices; /* of the running test: setup makes it, teardown frees it */
int devices_setup(void **state);
int devices_teardown(void **state);

/* Starts the engine; makes a pool with an empty file system. */
void pool_make(struct opened *opened, enum sz_raid raid);
/* Starts the engine and imports. */
int pool_import(struct opened *opened, bool read_only, struct sz_error *error);
void pool_open(struct opened *opened, bool read_only);
void pool_close(struct opened *opened);

/* A step: a new RAID-Z2 pool with the files 0 … FILES - 1 in it. */
#define FILES      8U
#define FILE_BYTES ((size_t)2 << 20)
void make_filled(void);
void file_write(struct opened *opened, unsigned int number);
/* 0, or what reading returned; content that differs fails the step. */
int file_check(struct opened *opened, unsigned int number);
void files_check(struct opened *opened); /* all of them */
/* Scrubs and waits; the errors that it found go to *status_out. */
void scrub(struct opened *opened, struct sz_scan_status *status_out);

#endif
