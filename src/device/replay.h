/*
 * What scan.c and replay.c share: the logs of an earlier opening.
 */
#ifndef SZ_DEVICE_REPLAY_H
#define SZ_DEVICE_REPLAY_H

#include "device/device_internal.h"

/* A place between two records of a log. */
struct mark {
	uint64_t record; /* number of the next */
	uint64_t page;   /* where it is */
	uint8_t previous[SZ_X_TAG_BYTES];
	uint64_t sequence; /* all of the device's entries below it stand before the mark */
	bool is_last;      /* and the epoch ended there */
};

struct live_log {
	struct source *source; /* NULL: there is no such log */
	struct sz_header header;
	struct sz_log_head head;
	uint64_t size_bytes;
	uint64_t inode; /* as it is now; head.inode: as it was made */
	struct mark first;
	struct mark kept; /* up to where it can be relied on */
	struct mark *commits;
	uint32_t commit_count;
	struct source **bands;
	uint32_t band_count;
	uint64_t next_sequence; /* above all that its entries have */
};

/*
 * The next record, and at moves behind it; frame_out: the page of its first sector. -ENOENT: the chain
 * ends here.
 */
int sz_scan_next(struct live_log *log, struct mark *at, uint8_t payload[SZ_PAGE_PAYLOAD],
		 uint32_t *entries_out, uint64_t *frame_out) MUST_CHECK;
/* Reads the whole chain: commits, bands. -EUCLEAN: authentic, but impossible. */
int sz_scan(struct sz_device *device, struct live_log *log) MUST_CHECK;
/* Sets kept. all: authenticates everything, not only what the last commit covers. */
int sz_scan_verify(struct sz_device *device, struct live_log *log, bool all) MUST_CHECK;
struct source *sz_scan_band(const struct live_log *log, uint32_t band); /* NULL: not opened */
void sz_live_log_free(struct live_log *log);

#endif
