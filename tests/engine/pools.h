/* Pools on scripted devices: making and opening them, for the steps of a test. */
#ifndef SZ_TESTS_ENGINE_POOLS_H
#define SZ_TESTS_ENGINE_POOLS_H

#include "files.h"
#include "scripted.h"

extern struct sz_store *devices; /* of the running test: setup makes it, teardown frees it */
int devices_setup(void **state);
int devices_teardown(void **state);

/* Starts the engine; makes a pool with an empty file system. */
void pool_make(struct opened *opened, enum sz_raid raid);
/* Starts the engine and imports. */
int pool_import(struct opened *opened, bool read_only, struct sz_error *error);
void pool_open(struct opened *opened, bool read_only);

/*
 * Not in a step, with no pool open: zdb, which shares no code with us, says each of the words (expressions of grep) of the
 * devices. arguments: behind the options that find the pool.
 */
void zdb_check(const char *arguments, const char *words);

/* A step: a new RAID-Z2 pool with the files 0 … FILES - 1 in it. */
void make_filled(void);

#endif
