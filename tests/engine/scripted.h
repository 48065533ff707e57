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

enum scripted_sector {
	SCRIPTED_ABSENT, /* zeros */
	SCRIPTED_WRITTEN,
	SCRIPTED_DAMAGED, /* filler, until it is written */
};

struct sz_device {
	uint32_t index;
	enum sz_device_state state;
	/* 0 or an -errno that all calls of the kind return; atomic. A flush that fails sets all of them. */
	int read_error;
	int write_error;
	int flush_error;
	uint64_t writes; /* write, trim and flush calls so far; atomic */
	uint64_t damaged_reads;
	uint64_t cached_tries; /* of reading what waits for no disk: every other one can; atomic */
	uint8_t sectors[SCRIPTED_SECTORS]; /* enum scripted_sector */
	uint8_t *data;
};

struct sz_store {
	bool read_only;
	uint32_t count;
	uint64_t room; /* what sz_store_room says; atomic */
	struct sz_device devices[SCRIPTED_DEVICES];
};

/* All devices ONLINE and empty. */
struct sz_store *scripted_make(void);
void scripted_free(struct sz_store *);
uint64_t scripted_writes(const struct sz_store *); /* of all devices */
void scripted_copy(struct sz_device *to, const struct sz_device *from);
void scripted_exchange(struct sz_device *a, struct sz_device *b);
void scripted_clear(struct sz_device *);
/* Makes FOLDER/N of each device, a file with holes, for ZFS's own tools. */
void scripted_write_out(const struct sz_store *, const char *folder);
/* All calls of a kind on all devices fail with it; 0: work again. */
void scripted_fail_writes(struct sz_store *, int error);
void scripted_fail_reads(struct sz_store *, int error);
/* Damages one in so many sectors that hold data, outside the labels; returns how many. */
uint32_t scripted_damage(struct sz_device *, uint32_t one_in);
/* Damages every sector of all devices that holds a piece of the content; returns how many. */
uint32_t scripted_damage_content(struct sz_store *, const uint8_t *content, size_t length);

#endif
