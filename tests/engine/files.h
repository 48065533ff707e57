/* Files with known content in a pool, for the steps of a test. */
#ifndef SZ_TESTS_ENGINE_FILES_H
#define SZ_TESTS_ENGINE_FILES_H

#include "support/step.h"

#include "fs/fs.h"

struct opened {
	struct sz_pool *pool;
	struct sz_fs *fs;
};

#define FILES      8U
#define FILE_BYTES ((size_t)2 << 20)

void file_write(struct opened *opened, unsigned int number);
/* 0, or what reading returned; content that differs fails the step. */
int file_check(struct opened *opened, unsigned int number);
void files_write(struct opened *opened); /* 0 … FILES - 1 */
void files_check(struct opened *opened);
/* Scrubs and waits; the errors that it found go to *status_out. */
void scrub(struct opened *opened, struct sz_scan_status *status_out);
/* Closes the file system and exports the pool. */
void pool_close(struct opened *opened);

#endif
