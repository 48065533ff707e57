/*
 * scripted: devices in memory that do what a test says: damage, missing folders, errors, full disks.
 * It stands in for the device layer behind device/device.h, so that the engine meets each case at a
 * moment of the test's choice. The memory is shared between a test's steps.
 */
#ifndef SZ_TESTS_ENGINE_SCRIPTED_H
#define SZ_TESTS_ENGINE_SCRIPTED_H

#include "device/device.h"

#define SCRIPTED_DEVICES 6U
#define SCRIPTED_SECTORS 65536U /* 256 MiB each; memory is taken as it is written */

struct sz_device {
	uint32_t index;
	enum sz_device_state state;
	/* 0 or an -errno that all calls of the kind return; atomic */
	int read_error;
	int write_error;
	int flush_error;
	uint64_t writes; /* write, trim and flush calls so far; atomic */
	uint64_t damaged_reads;
	uint8_t damaged[SCRIPTED_SECTORS]; /* 1: filler, until it is written */
	uint8_t *data;
};

struct sz_store {
	bool read_only;
	uint32_t count;
	struct sz_device devices[SCRIPTED_DEVICES];
};

/* All devices ONLINE and empty. */
struct sz_store *scripted_make(void);
void scripted_free(struct sz_store *);
uint64_t scripted_writes(const struct sz_store *); /* of all devices */
/* Exchanges the content of two devices. */
void scripted_exchange(struct sz_store *, uint32_t a, uint32_t b);
void scripted_copy(struct sz_store *, uint32_t from, uint32_t to);
void scripted_clear(struct sz_store *, uint32_t device);
/* Damages one sector in every so many that hold data, outside the labels. */
void scripted_damage(struct sz_store *, uint32_t device, uint32_t one_in);

#endif
