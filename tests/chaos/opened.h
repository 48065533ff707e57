/* A store that is open with its pool and file system, and what is in it. */
#ifndef SZ_TESTS_CHAOS_OPENED_H
#define SZ_TESTS_CHAOS_OPENED_H

#include "fs/fs.h"
#include "history.h"
#include "open.h"

struct opened {
	struct sz_store *store;
	struct sz_pool *pool;
	struct sz_fs *fs;
	uint64_t folders[HANDS_MAX]; /* inodes */
};

int pool_open(struct opened *opened, bool read_only, struct sz_error *error) MUST_CHECK;

/* These tell what went wrong, and end the program. */
void opened_close(struct opened *opened);

/* Makes the hands' folders, or finds them: one that is not there is as one without files, before any change. */
#define NO_FOLDER 0 /* is no inode */
void folders_make(struct opened *opened, uint32_t hands);
void folders_find(struct opened *opened, uint32_t hands);

/* Where a file of a hand is; the name has 8 bytes. */
#define NAME_BYTES 8
void name_of(uint32_t name, char text[NAME_BYTES]);

/*
 * Reads and checks all files of a hand. False: something is there that never was; says what. unreadable: NULL, or
 * a flag for each file: one that is damaged beyond repair is no fault, but flagged.
 */
bool folder_read(struct opened *opened, uint64_t seed, uint32_t hand, struct folder *seen_out,
		 bool unreadable[NAMES]);

#endif
