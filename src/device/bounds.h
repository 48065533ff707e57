/*
 * bounds: the device's, each with its reason. Private to device; a part of device_internal.h. What they bound is in
 * docs/DESIGN.md, section 4. Sizes that belong to the format are in format/format.h, those of a buffer beside it.
 */
#ifndef SZ_DEVICE_BOUNDS_H
#define SZ_DEVICE_BOUNDS_H

#include "format/format.h"

#define SZ_SECOND_NS        1000000000ULL
#define SZ_MINUTE_NS        (60 * SZ_SECOND_NS)
#define SZ_HOUR_NS          (60 * SZ_MINUTE_NS)
#define SZ_DAY_NS           (24 * SZ_HOUR_NS)

/* Stores: shapes that create makes. */
#define BAND_SECTORS_MIN    256U   /* 1 MiB: below, a file's header and pages weigh */
#define BAND_SECTORS_MAX    16384U /* 64 MiB: above, a small change is a large upload */
#define DEVICE_SECTORS_MIN  1024U  /* ZFS's labels at both ends, and something between */
/* By the size of all devices together: many small files on a small store, few large ones on a large one. */
#define SMALL_STORE_BYTES   (256ULL << 30)
#define LARGE_STORE_BYTES   (2048ULL << 30)
#define BAND_SECTORS_SMALL  2048U  /* 8 MiB: 32,768 files at most */
#define BAND_SECTORS_MEDIUM 8192U  /* 32 MiB: 65,536 */
#define BAND_SECTORS_LARGE  16384U /* 64 MiB */

/* The hot area. */
#define HOT_EDGE            128U /* sectors of it at each end of a device: ZFS's labels */
#define HOT_SECTORS         256U /* of both */

/* Epochs, and writes. */
#define BAND_PIECE          16U /* a write of fewer sectors (64 KiB) goes to the log */
#define OPEN_BANDS_MAX      32U /* of a device; ZFS fills a few metaslabs at a time */
#define FULL_SHARE          8U  /* a band that lacks less takes no more space when it is finished */
#define FINISHED_MAX        4U  /* of these, by a flush: writers of the device wait for it */
#define LIVE_SHARE          16U /* a band less than 1/16 live is no band */
#define LOG_CHUNK                                                                                  \
	128U /* sectors that one entry of the log may take: their tags fit into a record */
#define IO_SECTORS        256U         /* sectors in one call of the host, 1 MiB */
#define EPOCH_SECTORS_MAX (1ULL << 20) /* in an overlay (4 GiB): then the epoch is sealed */
#define SOURCES_MAX       (1U << 20)   /* live files of an epoch */
#define VOLATILE_BYTES_MAX                                                                         \
	(256ULL << 20) /* of a device: what ZFS writes by being opened, and its intent log */

/* Files. */
#define OBJECTS_MAX                                                                                \
	256U /* open sealed objects, each a descriptor: below the usual limit of 1,024 */
#define FOLDERS_MAX     256U /* folders that are looked at */
#define KEY_OBJECTS_MAX 16U  /* key objects that are tried: each costs seconds */
#define INDEX_COPIES    3U /* of an index page: its device and the next two, as RAID-Z2 loses two */
#define ROOT_FILE_MAX   (5ULL * SZ_PAGE_BYTES) /* 64 devices and SZ_ANCESTRY_MAX ancestors */
#define DAMAGES_MAX     4096U                  /* that are listed: a person reads no more */
#define LOST_MAX        (1U << 20) /* runs, 32 MiB: of what is beyond it is not known that it was lost */
#define VERIFY_SECTORS  16384U /* 64 MiB: after so much a seal that waits for its readers goes on */
#define LOCK_TRIES                                                                                 \
	16U /* of taking the lock, while its file is replaced by others again and again */

/* Hosts that fail for a moment. */
#define TRANSIENT_TRIES      3U /* of a read that failed in a way that may pass */
#define TRANSIENT_WAIT_MS    20U
#define NO_SPACE_TRIES       25U /* of a flush on a full disk: space may come back; 5 s */
#define NO_SPACE_WAIT_MS     200U

/* History: the ladder's rungs; below the first a copy is as good as instant. */
#define SZ_LADDER_AGE_MIN_NS (15 * SZ_MINUTE_NS)
#define SZ_LADDER_AGE_MAX_NS (14 * SZ_DAY_NS)
/* All of the last two hours are kept … */
#define SZ_LADDER_RECENT_NS  (2 * SZ_HOUR_NS)
/* … unless they come faster than one a minute: of any three within two minutes, the middle one goes. */
#define SZ_LADDER_DENSE_NS   (2 * SZ_MINUTE_NS)
/* How long a copy may take that the ladder promises to be whole: half of what it reaches. */
#define SZ_COPY_MAX_NS       (7 * SZ_DAY_NS)
/* By how much the store's clock advances while it is closed, at most: the ladder's lower rungs stay. */
#define CLOSED_MAX_NS        SZ_DAY_NS
#define BUDGET_PERCENT       25U    /* without a wish: rewriting costs a quarter at most */
#define BUDGET_PERCENT_MAX   10000U /* a hundred times the store */
/*
 * Small stores may always take so much: a seal writes half a megabyte of index pages and labels whatever
 * changed, so that a quarter of a store of a few would be no history at all.
 */
#define BUDGET_BYTES_MIN     (256ULL << 20)
#define PERIODS_MAX                                                                                \
	10000U /* a generation a day for 27 years: what is kept is held in memory, too */
/*
 * So many have to be due before a seal removes them, for that takes reading the index pages of all
 * generations, once an opening: a short command does not pay for it each time.
 */
#define DUE_MIN        8U

/* Compaction: deltas of a level that are merged; levels grow by LEVEL_FACTOR, the lowest ends at LEVEL_SECTORS. */
#define FAN_IN         12U
#define LEVEL_FACTOR   16U
#define LEVEL_SECTORS  1024U
#define LEVELS         4U
#define DELTAS_MAX     48U /* of a device: FAN_IN of each level */
#define DEAD_BANDS_MIN 2U  /* so much dead space is let be: 16 MiB, by default */
#define STEP_SHARE     16U /* a step of a major compaction: this part of what a device stores … */
#define STEP_PACE      4U  /* … or so many times what the seal writes, if that is more */
#define SHORT_BANDS    16UL /* room for so many on a disk is little */
#define FREE_SHARE     8U   /* a band of which this part is superseded frees a short disk */
#define SKIPPED_MAX    16U  /* bands that cannot be read now: if there are more, a disk fails */
#define ROOM_SHARE     4U   /* of the room on a disk: for bands, and for a merge */

/* Disks that are full. */
#define RESERVE_SHARE  50U /* 2 % of a disk; at least what opening, a delete, a seal write, thrice */
#define RESERVE_MIN    (64ULL << 20)
#define RESERVE_MAX    (256ULL << 20)
#define SHORT_BYTES    (32ULL << 20) /* of room: new data comes by megabytes, and may be refused */
#define ROOM_STEP      (16ULL << 20) /* of history that goes: each takes a walk over the index */
#define LOOK_NS        (20ULL * 1000 * 1000) /* age of figures: at 1 GB/s, less than the reserve */
#define SHORT_LOOK_NS  (1ULL * 1000 * 1000)  /* once there is no room */
#define SEAL_PAGES     128U                  /* of a device: hot image, index pages, root */
#define SPARE_BYTES                                                                                \
	(2ULL << 20)    /* of a part: removing a small file logs 1 MiB to each of six devices */
#define SPARE_SHARE 16U /* of a device; tests have some of 4 MiB */

#endif
