/*
 * What the tests of the device share: a store on memory backends that outlive it, with a plan of
 * faults and a model of what it must hold.
 *
 *   store → fault (one plan for all) → borrowed (closing it keeps the disk) → memory
 *
 * The functions that fail a test print why first. Those that return a code leave it to the test.
 */
#ifndef SZ_TESTS_DEVICE_HARNESS_H
#define SZ_TESTS_DEVICE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/device.h"
#include "model.h"

#include <errno.h>
#include <stdio.h>

#define OK(call)        assert_int_equal((call), 0)
#define BUFFER_SECTORS  512U
#define HOT_END_SECTORS 128U /* at either end of a device */

struct shape {
	uint32_t devices;
	uint32_t sectors;
	uint32_t band_sectors;
};

struct sealed_name; /* a sealed file that was seen, and what was in it */

struct harness {
	struct shape shape;
	struct model model;
	struct sz_fault_plan plan;
	struct sz_backend *disks[MODEL_DEVICES_MAX]; /* memory backends; NULL: lost */
	const char *hidden; /* a file that no listing shows, from the next opening on; NULL: none */
	int wrappers;       /* backends of ours that the store has not closed yet */
	struct sz_store *store; /* NULL: closed */
	struct sz_error error;  /* of the last call that has one */
	uint64_t chance;
	uint8_t *buffer; /* BUFFER_SECTORS */
	uint64_t reads;
	uint64_t cached_reads; /* those of them that waited for no disk */
	uint32_t *observed[MODEL_DEVICES_MAX];
	struct sealed_name *names; /* a hash table */
	size_t name_count;
	size_t name_capacity;
	/* Called after each operation on the store, before the model learns of its success. */
	void (*after)(struct harness *);
	void *after_context;
};

extern const struct sz_passphrase test_passphrase;
extern const struct sz_passphrase wrong_passphrase;

int set_up_crypto(void **state); /* a group's */

/* A store that was just created, closed. */
void harness_init(struct harness *, const struct shape *, uint64_t seed);
/* The same without a store: empty disks. */
void harness_init_empty(struct harness *, const struct shape *, uint64_t seed);
/* The same without disks: the caller opens harness.store himself. */
void harness_init_bare(struct harness *, const struct shape *, uint64_t seed);
void harness_fini(struct harness *);

/* The disks as one more backend each, to be owned by a store. Returns how many: lost ones are left out. */
size_t harness_wrap(struct harness *, struct sz_backend **backends);
int harness_create(struct harness *);
int harness_try_open(struct harness *, bool read_only);
int harness_try_open_as(struct harness *, const struct sz_store_open *);
void harness_open(struct harness *);
/* As harness_open; fails the test if anything is damaged or a device is not online. */
void harness_open_clean(struct harness *);
int harness_close(struct harness *); /* settles the model, if it seals */
void harness_abandon(struct harness *);

/* Replaces the disks by what a power cut leaves of them. The store must be closed or abandoned. */
void harness_cut(struct harness *, enum sz_crash, uint64_t seed);
/* A harness of its own on these disks, which it owns, with a copy of the model and the names. */
void harness_fork(const struct harness *, struct sz_backend *const *disks, struct harness *out);
/* The same on copies of the disks as they are: what a test may damage. */
void harness_fork_now(const struct harness *, struct harness *out);

int harness_write(struct harness *, uint32_t device, uint64_t sector, uint32_t count);
int harness_trim(struct harness *, uint32_t device, uint64_t sector, uint64_t count);
int harness_flush(struct harness *, uint32_t device);
int harness_flush_all(struct harness *); /* the first error */
int harness_seal(struct harness *);
int harness_compact(struct harness *);
int harness_free(struct harness *); /* makes all the room that can be made on its disks */
/* One random operation, by harness.chance; reads are compared with the model. */
int harness_step(struct harness *);

/* Reads a device into harness.observed. 0 also if there is damage: those are MODEL_DAMAGED. */
/* Into harness->buffer, as sz_device_read; every other one by sz_device_read_cached, where that can. */
int harness_read(struct harness *, uint32_t device, uint32_t sector, uint32_t count);
int harness_observe(struct harness *, uint32_t device);
/* Reads all devices, and fails the test unless they hold all that was written. */
void harness_check(struct harness *);
/* The same after a crash: they hold what is settled, and a prefix of the rest. */
void harness_check_prefix(struct harness *);
/* And that is the truth from then on: what a writable opening has recovered. */
void harness_check_recovered(struct harness *);

/* Damage that the open store has seen, in entries; printed if `loud`. */
size_t harness_damage(struct harness *, bool loud);

/*
 * Fails the test if a sealed name has, or ever had in this harness, two contents; or if a byte was
 * written twice.
 */
void harness_check_names(struct harness *);
void harness_copy_names(const struct harness *, struct harness *to);
/* Notes sealed names that are new, and what is in them. */
void harness_note_names(struct harness *);

/* Which live files there are, by inode and length: a later opening must not make one longer. */
struct live_file {
	uint64_t inode;
	uint64_t size_bytes;
};
struct live_files {
	struct live_file *files;
	size_t count;
};
struct live_files harness_files(struct harness *);
void harness_check_not_grown(struct harness *, struct live_files *before); /* frees it */

#endif
