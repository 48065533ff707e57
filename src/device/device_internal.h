/*
 * What the files of device share. The rules are in docs/DESIGN.md, section 4; the bytes in
 * docs/FORMAT.md.
 *
 * Locks, in the order in which they are taken:
 *   parts_lock  of a device: for writing while a sector is changed in part, for reading while whole ones are; by
 *               bytes.c alone
 *   seal_lock   one seal at a time
 *   begin_lock  the live epoch gets its logs
 *   flush_lock  of a device: one flush at a time
 *   log_lock    of a device: the order of its log; held while a log is written to, so that the order
 *               of the log and of the overlay are the same
 *   map_lock    of a device: what is where: overlays, rows, deltas, hot area
 *   the leaves  catalog, cache, an object, slab, readers, damage: hold no other lock of these
 *
 * The gate, which ends an epoch, is log_lock and map_lock of all devices at once, in the order of the
 * devices: a write is of the epoch in which it is logged. Nobody else holds those of two devices.
 *
 * What map_lock guards changes only while both log_lock and map_lock (for writing) are held, so each
 * of them alone is enough to read it. No I/O is done under map_lock.
 */
#ifndef SZ_DEVICE_DEVICE_INTERNAL_H
#define SZ_DEVICE_DEVICE_INTERNAL_H

#include "device/bounds.h"
#include "device/collect.h"
#include "device/device.h"
#include "device/overlay.h"
#include "device/runs.h"
#include "format/format.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define SECTOR    ((uint64_t)SZ_SECTOR_BYTES)
#define NO_DEVICE UINT32_MAX

/* The host has no space; it may come back. */
static inline bool is_full(int result)
{
	return result == -ENOSPC || result == -EDQUOT;
}

static inline bool bit_is_set(const uint8_t *bitmap, uint32_t bit)
{
	return (bitmap[bit / 8] >> (bit % 8) & 1) != 0;
}

static inline bool sz_id_is_none(const struct sz_id *id)
{
	static const struct sz_id none;

	return memcmp(id, &none, sizeof(none)) == 0;
}

/* Scoped locks. */
static inline pthread_mutex_t *scope_mutex_lock(pthread_mutex_t *mutex)
{
	(void)pthread_mutex_lock(mutex);
	return mutex;
}
static inline void scope_mutex_unlock(pthread_mutex_t **mutex)
{
	(void)pthread_mutex_unlock(*mutex);
}
static inline pthread_rwlock_t *scope_read_lock(pthread_rwlock_t *lock)
{
	(void)pthread_rwlock_rdlock(lock);
	return lock;
}
static inline pthread_rwlock_t *scope_write_lock(pthread_rwlock_t *lock)
{
	(void)pthread_rwlock_wrlock(lock);
	return lock;
}
static inline void scope_rwlock_unlock(pthread_rwlock_t **lock)
{
	(void)pthread_rwlock_unlock(*lock);
}
#define SCOPE_JOIN(a, b) a##b
#define SCOPE_NAME(a, b) SCOPE_JOIN(a, b)
#define MUTEX_SCOPE(mutex)                                                                         \
	CLEANUP(scope_mutex_unlock)                                                                \
	pthread_mutex_t *SCOPE_NAME(scope_, __LINE__) __attribute__((unused)) =                    \
		scope_mutex_lock(mutex)
#define READ_SCOPE(lock)                                                                           \
	CLEANUP(scope_rwlock_unlock)                                                               \
	pthread_rwlock_t *SCOPE_NAME(scope_, __LINE__) __attribute__((unused)) =                   \
		scope_read_lock(lock)
#define WRITE_SCOPE(lock)                                                                          \
	CLEANUP(scope_rwlock_unlock)                                                               \
	pthread_rwlock_t *SCOPE_NAME(scope_, __LINE__) __attribute__((unused)) =                   \
		scope_write_lock(lock)

/* Secret memory for many small keys: a guarded page for each would be dear. */
struct key_block;
struct key_slab {
	pthread_mutex_t lock;
	struct key_block *blocks;
};
void sz_key_slab_init(struct key_slab *slab);
void sz_key_slab_fini(struct key_slab *slab);                   /* wipes */
struct sz_object_keys *sz_key_slab_take(struct key_slab *slab); /* NULL: no memory */
void sz_key_slab_give(struct key_slab *slab,
		      struct sz_object_keys *keys); /* wipes; NULL is allowed */

/* A folder in which objects are: a device's, or one more that was found. */
struct folder {
	struct sz_backend *backend; /* owned */
	uint32_t device;            /* whose it is; NO_DEVICE: only looked in */
	bool is_given;              /* with the opening, and not found */
};

/* Where the objects are: what the folders list, and what this opening made since. */
struct location {
	struct location *next;
	uint32_t folder;
	enum sz_part part;
	uint64_t size_bytes;
	char name[]; /* not always the one that the id encodes to */
};
struct catalog_entry {
	struct catalog_entry *next; /* in its bucket */
	struct sz_id id;
	struct location *locations;
};
struct catalog {
	pthread_mutex_t lock; /* guards all below */
	struct catalog_entry **buckets;
	size_t bucket_count; /* a power of two */
	size_t entry_count;
	struct location *strangers; /* files whose names are not ours, not looked into yet */
};
int sz_catalog_init(struct catalog *catalog) MUST_CHECK;
void sz_catalog_fini(struct catalog *catalog);
/* Lists all folders. -ENODEV and the like of a single folder are left to those who read from it. */
int sz_catalog_load(struct sz_store *store) MUST_CHECK;
int sz_catalog_add(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		   enum sz_part part, uint64_t size_bytes) MUST_CHECK;
/* What was live in a folder is sealed from now on, as long as it is. */
void sz_catalog_sealed(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		       struct sz_file *file);
void sz_catalog_drop(struct sz_store *store, const struct sz_id *id, uint32_t folder,
		     enum sz_part part);
/* A copy of the id's locations, to be freed by _locations_free; NULL: none (or no memory). */
struct location *sz_catalog_find(struct sz_store *store, const struct sz_id *id);
void sz_locations_free(struct location **locations);
/* Looks into strangers (up to so many bytes long): those that are ours become known under their ids. */
bool sz_catalog_identify(struct sz_store *store, uint64_t longest_bytes);
/* Is there a file of this length (0: of any)? */
bool sz_catalog_has(struct sz_store *store, const struct sz_id *id, uint64_t size_bytes);
/* Lengths of an object's sealed files together; of all files. */
uint64_t sz_catalog_bytes(struct sz_store *store, const struct sz_id *id);
uint64_t sz_catalog_total(struct sz_store *store);
/* Appends the ids of which there are live files, but for those of the spare. */
int sz_catalog_live(struct sz_store *store, struct sz_bytes *ids) MUST_CHECK;
/* All ids of a kind, also those that are live; freed by the caller. */
int sz_catalog_ids(struct sz_store *store, enum sz_kind kind, struct sz_id **ids_out,
		   size_t *count_out) MUST_CHECK;

/*
 * Opens an object at a location. _any: the first of its locations that passes check, which gets the
 * file and returns 0, or -EBADMSG (this one is not it). -EBADMSG: none; text_out says why. Others:
 * errors that may pass.
 */
typedef int object_check_fn(void *context, struct sz_file *file, uint64_t size_bytes);
int sz_object_open_any(struct sz_store *store, const struct sz_id *id, object_check_fn *check,
		       void *context, struct sz_file **file_out, const char **text_out) MUST_CHECK;
/* Full reads, retried while the failure may pass. Short: *done_out < length. */
int sz_read_retried(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
		    size_t *done_out) MUST_CHECK;
void sz_cleanup_file(struct sz_file **file);
/* A blob by reference, from any folder that has it whole. -EBADMSG: none has. */
int sz_blob_read(struct sz_store *store, const struct sz_ref *ref, struct sz_header *header_out,
		 struct sz_bytes *payload_out) MUST_CHECK;
/* The same for a generation that is only looked at: that it cannot be read is not noted as damage. */
int sz_blob_look(struct sz_store *store, const struct sz_ref *ref, struct sz_header *header_out,
		 struct sz_bytes *payload_out) MUST_CHECK;
/* How many files have it whole. */
int sz_blob_copies(struct sz_store *store, const struct sz_ref *ref,
		   uint32_t *whole_out) MUST_CHECK;
/* The same for the key object: how many are as it is in memory. */
int sz_key_copies(struct sz_store *store, const struct sz_id *id, uint32_t *whole_out) MUST_CHECK;
/* Removes one that is not, if there is one. */
int sz_key_copy_clean(struct sz_store *store, const struct sz_id *id, bool *removed_out) MUST_CHECK;
/* The same by id alone (roots: nothing refers to the newest); digest_out: which it was. */
int sz_blob_read_id(struct sz_store *store, const struct sz_id *id, struct sz_header *header_out,
		    struct sz_bytes *payload_out, uint8_t digest_out[SZ_DIGEST_BYTES]) MUST_CHECK;

/* Those who read what the map names; see readers.c. */
struct readers {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t left;
	uint64_t inside[2]; /* by the turn in which they came */
	uint32_t turn;      /* 0 or 1 */
};
struct reader {
	struct readers *readers;
	uint32_t turn;
};
void sz_readers_init(struct readers *readers);
void sz_readers_fini(struct readers *readers);
struct reader sz_readers_enter(struct readers *readers);
void sz_readers_leave(struct reader *reader);
/* Until all have left who are inside now; under seal_lock. */
void sz_readers_wait(struct readers *readers);
#define READER_SCOPE(readers)                                                                      \
	CLEANUP(sz_readers_leave)                                                                  \
	struct reader SCOPE_NAME(scope_, __LINE__) __attribute__((unused)) =                       \
		sz_readers_enter(readers)

/* Sealed bands and deltas, open. */
struct object;
struct cache {
	pthread_mutex_t lock; /* guards all below, and the list's fields of objects */
	struct object *newest;
	struct object *oldest;
	uint32_t count;
};
void sz_cache_init(struct cache *cache);
void sz_cache_fini(struct sz_store *store);
/* -EBADMSG: missing or not authentic (noted as damage); other errors may pass. */
int sz_object_get(struct sz_store *store, const struct sz_device *device, const struct sz_ref *ref,
		  struct object **object_out) MUST_CHECK;
void sz_object_put(struct sz_store *store, struct object **object);
/* Its file was removed: a host gives space back only when nobody has it open. */
void sz_object_forget(struct sz_store *store, const struct sz_id *id);
/* What the object says of sectors from sector on: a run of one state, consecutive slots if DATA. */
struct object_run {
	uint64_t sector;
	uint32_t count;
	enum sz_sector_state state; /* ABSENT: no entry */
	uint64_t place;             /* DATA: page of the file that the first is in */
	uint8_t *nonce_tags; /* DATA: filled in; the caller's, room for the longest run asked for */
};
/* The same without waiting for a disk: -EAGAIN if it is not open, or not whole, or others are at it. */
int sz_object_get_cached(struct sz_store *store, const struct sz_ref *ref,
			 struct object **object_out) MUST_CHECK;
/* longest: at most so many sectors. A leaf that does not authenticate is POISON. */
int sz_object_find(struct object *object, uint64_t sector, uint32_t longest,
		   struct object_run *run_out) MUST_CHECK;
/* The same without waiting for a disk: -EAGAIN if the leaf has not been read yet, or others are at it. */
int sz_object_find_cached(struct object *object, uint64_t sector, uint32_t longest,
			  struct object_run *run_out) MUST_CHECK;
/* Is the file whole, to its end? -EBADMSG: it is not. */
int sz_object_check_end(struct object *object) MUST_CHECK;
struct sz_file *sz_object_file(struct object *object);
const struct sz_object_keys *sz_object_keys(const struct object *object);

/* A file of the live epoch: a log, or a band that is being filled. */
enum source_state {
	SOURCE_LOG,
	BAND_OPEN,     /* takes sectors */
	BAND_CLOSED,   /* takes no more; what is in it is found through the overlay */
	BAND_BROKEN,   /* the same, and its tail may be written in part: cannot be finished */
	BAND_FINISHED, /* an object, found through its row */
};
struct source {
	atomic_uint references;
	struct sz_store *store;
	struct sz_file *file; /* NULL: it is missing (recovery only) */
	struct sz_id id;
	struct sz_object_keys *keys; /* of a log, .page is K_log */
	uint32_t number;             /* in its epoch */
	uint32_t folder;
	/* bands; guarded by log_lock */
	enum source_state state;
	uint32_t band;
	uint32_t next_slot;
	uint32_t in_flight; /* writes into reserved slots */
	uint64_t used_at;   /* sequence number of the last use */
	bool is_dirty;      /* written to since its last sync */
	bool is_named;      /* renamed out of live/ */
	bool is_kept;       /* recovery: an entry that counts refers to it */
	uint8_t salt[SZ_SALT_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES]; /* FINISHED */
};
struct source *sz_source_make(struct sz_store *store, const struct sz_id *id,
			      enum source_state state);
struct source *sz_source_hold(struct source *source);
void sz_source_drop(struct source **source);

/* The log's end. Guarded by log_lock. */
struct log_writer {
	struct source *source; /* NULL: nothing was written in this epoch yet; the epoch owns it */
	uint64_t record;       /* number of the next record */
	uint8_t previous[SZ_X_TAG_BYTES];
	uint64_t next_page;  /* where the next page of the file goes */
	uint64_t frame_page; /* of the record of the frame that is being filled */
	uint32_t frame_sectors;
	uint32_t frame_entries;
	size_t frame_bytes; /* of the payload; 0: no frame is open */
	uint8_t payload[SZ_PAGE_PAYLOAD];
	/* A record that is sealed, and could not be written yet: always the same bytes. */
	bool has_pending;
	uint64_t pending_page;
	uint8_t pending[SZ_PAGE_BYTES];
};

/* Hot sectors in memory: a device's, as they are sealed, or those that an epoch has changed. */
struct hot {
	uint8_t *sectors;                 /* HOT_SECTORS of plaintext */
	uint8_t changed[HOT_SECTORS / 8]; /* of an epoch: others are as they were before it */
	uint8_t written[HOT_SECTORS / 8];
	uint8_t poison[HOT_SECTORS / 8];
};

/* One device's part of an epoch. */
struct epoch {
	uint64_t number;
	struct sz_overlay overlay; /* extents' places are pages of their source */
	struct source **sources;
	uint32_t source_count;
	uint32_t source_capacity;
	struct log_writer log;
	uint64_t committed; /* sequence number of the last commit record that is durable */
	uint64_t end; /* sequence number at which the epoch ended; 0: it is live, or will be */
	bool has_unsynced_commit; /* one for which there was no space, and that is written some time */
	bool is_complete;         /* its last commit record, after its end, is durable */
	bool is_dirty;            /* something was written or trimmed in it */
	bool has_new_names;       /* in live/, since it was last synced */
	struct hot *hot;          /* NULL: none is changed */
};
struct epoch *sz_epoch_make(uint64_t number);
void sz_epoch_free(struct epoch **epoch);
/* Takes over the reference. */
int sz_epoch_add_source(struct epoch *epoch, struct source *source) MUST_CHECK;

/* A band that has an object. */
struct row {
	struct sz_ref ref; /* id all zeros: none */
	uint64_t folded_to;
	uint64_t epoch; /* in which it was made: not in a seal of an earlier one */
	uint32_t live_sectors;
	uint32_t data_slots;
};
struct shard {
	struct sz_ref ref;
	bool is_lost; /* no copy could be read: what its bands hold is not known */
	struct row rows[SZ_SHARD_BANDS];
};

struct sz_device {
	struct sz_store *store;
	uint32_t index;
	uint8_t id[16];
	uint64_t sectors;
	atomic_uint folder; /* NO_DEVICE: missing */
	atomic_int failure; /* -errno; sticky */
	atomic_uint_fast64_t damaged_sectors;
	pthread_rwlock_t parts_lock;
	pthread_mutex_t flush_lock;
	pthread_mutex_t log_lock;
	pthread_rwlock_t map_lock;
	pthread_cond_t
		band_idle; /* with log_lock: the last write to a band of an ended epoch is over */
	/* guarded by map_lock and log_lock, see above */
	struct epoch *live;
	struct epoch *sealing; /* NULL: none */
	struct shard **shards;
	uint32_t shard_count;
	struct sz_manifest_delta *
		*deltas; /* newest first; their runs are here, whether inline or not */
	uint32_t delta_count;
	struct hot hot; /* as it is sealed */
	struct sz_ref hot_ref;
	/* guarded by seal_lock */
	struct epoch *next; /* the one after live, with its log; NULL: not made yet */
	struct sz_ref manifest_ref;
	bool index_is_due;    /* the next seal writes all its pages, and the hot image, anew */
	uint64_t stale_since; /* 0: current */
	uint64_t stored_bytes;
	uint64_t object_count;
};

/* A generation whose root is in the folders. */
struct generation {
	struct sz_id id; /* its root's */
	uint8_t digest[SZ_DIGEST_BYTES];
	struct sz_root root;
	const struct generation *parent; /* NULL: not here */
	uint64_t split_from; /* from this number on its lineage is that of several machines */
	bool is_leaving;     /* it is about to be collected: it links nothing any more */
	bool is_head;        /* no other generation descends from it */
	/* collect.c: */
	bool is_ours; /* the newest generation, or an ancestor of it */
	/* Its devices' manifests; NULL: not read yet; of those NULL: none, or not readable. */
	struct index_page **pages;
	bool is_known;    /* once pages are there: all of them could be read */
	bool is_complete; /* … and all that it refers to was there then, if its folder was */
};
struct lost_root { /* one that is there, and of which no copy can be read */
	struct sz_id id;
	uint64_t generation;
	int error; /* -EBADMSG: none is whole; -EPROTONOSUPPORT; others may pass */
};
struct history {
	struct generation **at; /* newest number first */
	size_t count;
	struct lost_root *lost;
	size_t lost_count;
};

/* What was seen of the store last, as the user's note says; see seen.c. */
#define SEEN_ASIDE_MAX   64U /* heads that are set aside: each was a decision of the user's */
#define SEEN_PAYLOAD_MAX (16U + 8U + SZ_DIGEST_BYTES + 4U + SEEN_ASIDE_MAX * SZ_DIGEST_BYTES)
struct seen {
	bool is_known;
	bool is_changed; /* aside, since it was noted */
	struct sz_ancestor last;
	uint32_t aside_count;
	uint8_t aside[SEEN_ASIDE_MAX][SZ_DIGEST_BYTES];
};

/* What opening decided; see choose.c. */
struct choice {
	const struct generation *generation; /* while the store is being opened */
	bool is_asked;                       /* for this generation, as it was sealed */
	bool is_rebuilt;                     /* without a root; see recover.c */
	bool is_told;                        /* the user said to go on from it */
	bool is_writable;                    /* without further consent */
	size_t histories;                    /* heads that could be gone on from */
	bool is_notable;                     /* there is something that the user should know */
	char text[SZ_OPENING_TEXT_BYTES];
	char aside[SZ_OPENING_TEXT_BYTES];
};

struct sz_store {
	bool read_only;
	bool is_volatile;           /* what is written stays in memory */
	bool is_own;                /* its lock record was made in this folder: it is no copy */
	char *path;                 /* NULL: made over the caller's backends */
	char *state_folder;         /* the user's, for seen.c; NULL: none */
	struct sz_key_object *key;  /* in secret memory */
	const struct sz_keys *keys; /* key->keys */
	struct key_slab slab;
	struct folder folders[FOLDERS_MAX];
	uint32_t folder_count;
	bool has_others_places; /* the PLACES note is of the store that this one is a copy of */
	char **absent;          /* where the PLACES note has folders, and nothing is */
	size_t absent_count;
	struct catalog catalog;
	struct cache cache;
	int lock_fd; /* -1: none */
	char *lock_path;

	uint32_t device_count;
	struct sz_device *devices;
	uint32_t band_sectors;
	uint32_t parity;
	uint8_t lineage[16]; /* of this opening */
	uint8_t open_id[16];
	uint8_t machine[16];

	pthread_mutex_t seal_lock;
	pthread_mutex_t begin_lock;
	struct readers readers;
	atomic_uint_fast64_t sequence; /* the next to be given */
	/* the store's own time when it was opened, and the machine's; see clock.c */
	uint64_t opened_time_ns;
	uint64_t opened_boot_ns;

	/* space.c: what there is room for, and when that was looked at */
	atomic_uint_fast64_t room_bytes;
	atomic_uint_fast64_t room_looked_ns;
	atomic_uint_fast64_t incoming_bytes; /* that bytes.c writes now */

	atomic_bool has_begun; /* the live epoch has its logs; changes under begin_lock */
	/* guarded by seal_lock; root also by begin_lock */
	uint64_t epoch;           /* the live one's number; changes under begin_lock, too */
	uint64_t pause_ns;        /* for how long the last seal held writers up */
	uint64_t room_made_ns;    /* when something was removed last, for lack of space */
	bool has_freed;           /* the last seal has compacted something to free a short disk */
	uint64_t freed_to;        /* the generation after which there was nothing for that */
	bool lacks_spare;         /* for which there was no room; or it was given up */
	uint64_t compacted_bytes; /* that compaction has written since the opening */
	bool is_sealing;
	uint64_t sealing_number;
	uint64_t sealed_sequence;
	struct sz_root root;
	struct sz_id root_id;
	uint8_t root_digest[SZ_DIGEST_BYTES];
	struct history history;
	struct sz_file *held[FOLDERS_MAX]; /* copies of the root, while it is held */
	uint32_t held_count;
	struct seen seen;
	struct choice choice;
	uint32_t root_copies;    /* that the last seal wrote */
	bool is_root_everywhere; /* all folders that are here have it */
	bool lacks_key; /* a folder that is here has no key object: it could not be written */
	struct sz_keep_policy keep;
	struct collector collector;

	bool recovered;
	char recovery_text[200];
	pthread_mutex_t damage_lock;
	struct sz_damage *damages; /* guarded by damage_lock */
	size_t damage_count;
};

/* Does anything of what is done reach the folders? */
static inline bool writes_folders(const struct sz_store *store)
{
	return !store->read_only && !store->is_volatile;
}

/* damage.c */
/* text NULL: what was said of it before stays. */
void sz_damage_note(struct sz_store *store, uint32_t device, const struct sz_id *id,
		    uint64_t sectors, const char *text);
/* Of an object that was removed on purpose. */
void sz_damage_drop(struct sz_store *store, const struct sz_id *id);
/* The code itself if reading may go on after it, and what the device answers from then on. */
int sz_device_fail(struct sz_device *device, int error);
int sz_device_check(const struct sz_device *device) MUST_CHECK;

/* folders.c, lock.c, unlock.c */
int sz_folders_find(struct sz_store *store, const struct sz_store_open *options,
		    struct sz_error *error) MUST_CHECK;
/* After unlocking: the folders that a PLACES note names. */
int sz_folders_find_places(struct sz_store *store, struct sz_error *error) MUST_CHECK;
int sz_folders_write_places(struct sz_store *store, struct sz_backend *home,
			    const char *const *paths, size_t count,
			    struct sz_error *error) MUST_CHECK;
/* The same for the folders that the devices have now. */
int sz_folders_update_places(struct sz_store *store, struct sz_error *error) MUST_CHECK;
/* note.c: the newest note of a kind that can be read; -EBADMSG: there is none, but a damaged one. */
int sz_note_read(const struct sz_keys *keys, struct sz_backend *home, enum sz_kind kind,
		 const char *purpose, struct sz_bytes *payload_out) MUST_CHECK;
/* Durable when it returns; the older ones are gone then. */
int sz_note_write(const struct sz_keys *keys, struct sz_backend *home, enum sz_kind kind,
		  const char *purpose, const struct sz_bytes *payload) MUST_CHECK;

/* keep.c: under seal_lock, once the store is open */
void sz_keep_load(struct sz_store *store);
/* What only history may take of a store whose newest generation takes so much. */
uint64_t sz_keep_budget(const struct sz_keep_policy *policy, uint64_t store_bytes);

int sz_folder_add(struct sz_store *store, struct sz_backend *backend) MUST_CHECK;
/* Says which folder is which device's. */
void sz_folders_assign(struct sz_store *store);
/* Once that is said: warns of folders that are not where they are to be, or are no device's. */
void sz_folders_tell(const struct sz_store *store);
/*
 * Of a store that is written to: the PLACES note says where the folders are now. Before the lock record says that it is no
 * copy: an error is only that a note of the original's places stays.
 */
int sz_folders_remember(struct sz_store *store, struct sz_error *error) MUST_CHECK;
/*
 * The folders but the store's own, which the lock record is for: another copy of that may name them, too. Before they
 * are listed, or what was listed may be old. -EBUSY.
 */
int sz_folders_lock(struct sz_store *store, struct sz_error *error) MUST_CHECK;
/* Takes the lock, for reading or writing; nothing of the store changes. */
int sz_lock_take(struct sz_store *store, struct sz_error *error) MUST_CHECK;
/* Says who holds it. */
int sz_lock_announce(struct sz_store *store, struct sz_error *error) MUST_CHECK;
int sz_lock_verify(const struct sz_store *store) MUST_CHECK;
/* Was the lock record made in this folder? That of a copy is not; also without the lock. */
bool sz_lock_is_own(const struct sz_store *store);
void sz_lock_release(struct sz_store *store);
int sz_store_unlock(struct sz_store *store, const struct sz_passphrase *passphrase,
		    struct sz_error *error) MUST_CHECK;
/* Writes the key object, as it is in memory, to a folder; names are synced by the caller. */
int sz_key_object_write(struct sz_store *store, struct sz_backend *backend) MUST_CHECK;
/* Removes key objects of earlier versions. */
void sz_key_objects_collect(struct sz_store *store);

/* build.c: new objects. They are in live/ until the batch is committed. */
struct pending {
	struct pending *next;
	struct sz_file *file;
	struct sz_id id;
	uint32_t folder;
};
struct batch {
	struct sz_store *store;
	struct pending *first;
};
/* The file belongs to the batch. */
int sz_batch_create(struct batch *batch, uint32_t folder, const struct sz_id *id,
		    struct sz_file **file_out) MUST_CHECK;
/* Syncs everything, renames it out of live/, syncs the folders. What fails stays for _abandon. */
int sz_batch_commit(struct batch *batch) MUST_CHECK;
void sz_batch_join(struct batch *batch, struct batch *other);        /* other is empty then */
void sz_batch_drop(struct batch *batch, const struct sz_file *file); /* removes one file */
void sz_batch_abandon(struct batch *batch); /* removes all that is not committed */
void sz_header_init(const struct sz_store *store, const struct sz_device *device, enum sz_kind kind,
		    uint64_t generation, struct sz_header *header_out);
/* Index pages, hot images: the same file in the device's folder and the next copies - 1. */
int sz_blob_write(struct batch *batch, const struct sz_device *device, enum sz_kind kind,
		  uint64_t generation, const struct sz_bytes *payload, uint32_t copies,
		  struct sz_ref *ref_out) MUST_CHECK;

struct entries { /* a growing array, sorted by sector */
	struct sz_index_entry *at;
	size_t count;
	size_t capacity;
};
int sz_entries_add(struct entries *entries, const struct sz_index_entry *entry) MUST_CHECK;
void sz_entries_free(struct entries *entries);
/*
 * Writes what comes behind the slots in use: random slots up to header->data_slots, pages,
 * trailer, and the header page. Fills in the header's counts. digest_out: of the object.
 */
int sz_object_finish(struct sz_file *file, const struct sz_keys *keys,
		     const struct sz_object_keys *object_keys, struct sz_header *header,
		     const struct entries *entries, uint32_t slots_used,
		     uint8_t digest_out[SZ_DIGEST_BYTES]) MUST_CHECK;
uint32_t sz_band_slots(uint32_t used, uint32_t band_sectors); /* [F17] */

/* A band or delta that is written from plaintext. */
struct builder {
	struct batch *batch;
	struct sz_file *file;
	struct sz_header header;
	struct sz_object_keys *keys;
	struct entries entries;
	uint32_t slots;
	uint32_t gathered;   /* slots, the last ones, that are not written yet */
	uint8_t *ciphertext; /* of these, at most IO_SECTORS */
	uint8_t *plaintext;  /* IO_SECTORS, for who reads what is added */
};
int sz_builder_init(struct builder *builder, struct batch *batch, const struct sz_device *device,
		    enum sz_kind kind, uint64_t generation, uint32_t band) MUST_CHECK;
int sz_builder_add_run(struct builder *builder, uint64_t sector, uint64_t count,
		       enum sz_sector_state state) MUST_CHECK;
/* At most IO_SECTORS of plaintext, ascending; those whose bits are set are POISON. */
int sz_builder_add_partly(struct builder *builder, uint64_t sector, uint32_t count,
			  const uint8_t *plaintext, const uint8_t *damaged) MUST_CHECK;
int sz_builder_end(struct builder *builder, struct sz_ref *ref_out) MUST_CHECK;
/* Also what the manifest says of it. */
int sz_builder_end_delta(struct builder *builder, uint64_t generation,
			 struct sz_manifest_delta *info) MUST_CHECK;
void sz_builder_fini(struct builder *builder);

/* epoch.c: an epoch of a device gets its log, durably but for what has_new_names says. */
int sz_log_begin(struct sz_device *device, struct epoch *epoch) MUST_CHECK;
int sz_epoch_begin(struct sz_store *store) MUST_CHECK; /* the live one's logs, if there are none */
/* Under seal_lock: all devices get the epoch after the live one; with_logs: and its logs. */
int sz_epoch_prepare(struct sz_store *store, bool with_logs) MUST_CHECK;
/* Removes logs into which nothing was written: nothing follows. */
void sz_epoch_discard(struct sz_store *store);

/* log.c: all under log_lock. */
/* Ciphertext of count (<= SZ_RECORD_SECTORS_MAX) sectors; *page_out: where the first one is. */
int sz_log_append_sectors(struct epoch *epoch, uint64_t sequence, uint64_t sector, uint32_t count,
			  const uint8_t *ciphertext, const uint8_t *nonce_tags,
			  uint64_t *page_out) MUST_CHECK;
int sz_log_append(struct epoch *epoch, const struct sz_log_entry *entry) MUST_CHECK;
/*
 * Under flush_lock, without log_lock: the first finished band from *number on that is still in live/, and
 * synced or not, held; *number: its number. NULL: there is none. _let_go: its file was renamed.
 */
struct source *sz_epoch_finished(struct sz_device *device, struct epoch *epoch, bool is_dirty,
				 uint32_t *number);
void sz_epoch_let_go(struct sz_device *device, struct epoch *epoch, const struct source *source);
/*
 * Without log_lock, under flush_lock: commit record, sync. -ENOSPC: there is none for the record, and nothing has
 * happened. Other errors are sticky, made so here.
 */
int sz_epoch_commit(struct sz_device *device, struct epoch *epoch) MUST_CHECK;

/* band.c */
struct slots { /* of a live band, in which a piece may be written */
	struct epoch *epoch;
	struct source *band; /* NULL: none, it goes to the log */
	uint32_t first;
};
/* Under log_lock. */
int sz_band_reserve(struct sz_device *device, uint64_t sector, uint32_t count,
		    struct slots *slots_out) MUST_CHECK;
/*
 * Under log_lock, before a commit record: finishes bands that are nearly full, and left. Else they would stay open to the
 * end of the epoch, for ZFS leaves gaps, and recovery would have to copy them.
 */
int sz_bands_finish(struct sz_device *device, struct epoch *epoch) MUST_CHECK;
/* Under log_lock: a reserved write has ended; finishes the band if it was the last one. */
int sz_band_release(struct sz_device *device, const struct slots *slots) MUST_CHECK;
/*
 * Waits for the last writes to open bands of the sealing epoch; makes objects of them or closes them. Before the last
 * commit record of its log, so that this tells of them.
 */
void sz_bands_seal(struct sz_device *device);
/* Is a finished band's file whole, and the object that row refers to? Fills in the rest of row. */
int sz_band_verify(const struct sz_device *device, struct sz_file *file,
		   struct row *row) MUST_CHECK;
/* Under log_lock and map_lock: found through a row from now on. */
void sz_band_to_row(struct sz_device *device, struct epoch *epoch, struct source *band,
		    const struct row *row);

/* map.c: what is where */
uint32_t sz_band_of(const struct sz_device *device, uint64_t sector);
uint64_t sz_band_base(const struct sz_device *device, uint32_t band);
uint32_t sz_band_length(const struct sz_device *device,
			uint32_t band); /* the last may be shorter */
bool sz_sector_is_hot(const struct sz_device *device, uint64_t sector);
/* Sectors from sector on that are, like it, hot or not, at most count. */
uint32_t sz_hot_split(const struct sz_device *device, uint64_t sector, uint64_t count);
uint32_t sz_hot_index(const struct sz_device *device, uint64_t sector);
struct row *sz_row_find(const struct sz_device *device, uint32_t band); /* NULL: no object */
bool sz_shard_is_lost(const struct sz_device *device, uint32_t band);
int sz_row_make(struct sz_device *device, uint32_t band, struct row **row_out) MUST_CHECK;
/* Is there anything about the sectors in overlays or deltas? */
bool sz_map_has_entries(const struct sz_device *device, uint64_t sector, uint64_t count);

enum piece_kind {
	PIECE_ZEROS,
	PIECE_POISON,
	PIECE_HOT,
	PIECE_SOURCE,
	PIECE_DELTA,
	PIECE_BAND,
};
struct piece {
	uint64_t sector;
	uint32_t count;
	enum piece_kind kind;
	struct source *source; /* SOURCE: held */
	uint64_t place;
	const uint8_t *nonce_tags; /* SOURCE: into the overlay */
	struct sz_ref ref;         /* DELTA, BAND */
};
/*
 * Under map_lock: of the deltas from first to before end, above folded_to, the first that says what sector
 * is. False: none says anything of *count sectors. *count is narrowed to what is alike.
 */
bool sz_deltas_find(const struct sz_device *device, uint32_t first, uint32_t end,
		    uint64_t folded_to, uint64_t sector, uint32_t *count, struct piece *piece);
/* Under map_lock: what the sectors from sector on are, as far as they are alike, at most count. */
void sz_map_find(const struct sz_device *device, uint64_t sector, uint32_t count,
		 struct piece *piece_out);

/* read.c */
/* Ciphertext at a page of a file to plaintext. Damaged sectors: their bits set, -EBADMSG. */
int sz_sectors_read(struct sz_file *file, const uint8_t key[SZ_KEY_BYTES], uint64_t page,
		    uint64_t sector, uint32_t count, const uint8_t *nonce_tags, uint8_t *buffer,
		    uint8_t *damaged) MUST_CHECK;

/* hot.c: sectors by their number in the hot area (sz_hot_index). */
int sz_hot_init(struct hot *hot) MUST_CHECK;
void sz_hot_fini(struct hot *hot); /* wipes */
int sz_hot_copy(const struct hot *from, struct hot *to) MUST_CHECK;
struct hot *sz_hot_layer(
	struct epoch *epoch); /* what it changes; made if need be; NULL: no memory */
void sz_hot_write(struct hot *hot, uint32_t first, uint32_t count, const uint8_t *data);
void sz_hot_trim(struct hot *hot, uint32_t first, uint32_t count);
void sz_hot_poison(struct hot *hot, uint32_t bit);
/* What layer has changed, to hot. */
void sz_hot_apply(struct hot *hot, const struct hot *layer);
/* The newest that says what a sector is. */
const struct hot *sz_hot_find(const struct sz_device *device, uint32_t bit);
/* How many of the hot sectors from sector on are alike: as they are already in data, or not. */
uint32_t sz_hot_alike(struct sz_device *device, uint64_t sector, uint32_t count,
		      const uint8_t *data, bool *is_same_out);
int sz_hot_encode(const struct hot *hot, struct sz_bytes *payload_out) MUST_CHECK;
int sz_hot_decode(const uint8_t *payload, size_t length, struct hot *hot) MUST_CHECK;

/* manifest.c */
int sz_manifest_load(struct sz_device *device) MUST_CHECK;
struct new_row { /* a band that the seal wrote anew, or gave up (no id) */
	uint32_t band;
	struct source *source; /* the live file that it was copied from; NULL: compaction */
	struct row row;
};
struct device_seal { /* what a seal makes of a device's epoch; becomes the device's when the root is written */
	struct new_row *rows;
	size_t row_count;
	struct sz_manifest_delta *delta;  /* NULL: none */
	uint32_t merged_count;            /* so many of the newest deltas are replaced … */
	struct sz_manifest_delta *merged; /* … by this; NULL: by nothing */
	struct sz_ref hot;
	struct sz_ref manifest;
	struct sz_ref *shards; /* shard_count */
	uint64_t stored_bytes; /* of bands and deltas */
	uint64_t object_count;
	uint64_t changed_sectors; /* that were written in the epoch; those of the hot area apart */
	bool is_changed;
};
int sz_manifest_write(struct batch *batch, struct sz_device *device,
		      struct device_seal *seal) MUST_CHECK;
/* The list of a delta that is new, if it is too long for the manifest. */
int sz_list_write(struct batch *batch, const struct sz_device *device, uint64_t generation,
		  struct sz_manifest_delta *delta) MUST_CHECK;
/* Writes changed shards, the delta's list and the manifest of the sealing epoch. */
void sz_delta_free(struct sz_manifest_delta **delta);

/* root.c */
/* -EBADMSG: no copy is whole; -EPROTONOSUPPORT: a newer format. */
int sz_root_read(struct sz_store *store, const struct sz_id *id, struct sz_root *root_out,
		 uint8_t digest_out[SZ_DIGEST_BYTES]) MUST_CHECK;
int sz_root_copy(const struct sz_root *from, struct sz_root *to_out) MUST_CHECK;
/* Writes the generation's root to all folders; after 0 it is the store's root. */
int sz_root_write(struct sz_store *store, struct sz_root *root) MUST_CHECK;
/* Whoever collects generations lets this one be. Its files stay open until the store is closed. */
int sz_root_hold(struct sz_store *store, struct sz_error *error) MUST_CHECK;
/* Would it take the loss of more folders than redundancy covers to lose the root? */
bool sz_root_is_safe(const struct sz_store *store) MUST_CHECK;
/* Completes missing copies of root and key object. */
void sz_root_complete(struct sz_store *store);
int sz_root_next(struct sz_store *store, uint64_t generation, struct sz_root *root_out) MUST_CHECK;

/* history.c: under seal_lock, once the store is open. */
/* Reads all roots that are in the folders; those that cannot be read are remembered as lost. */
int sz_history_load(struct sz_store *store) MUST_CHECK;
void sz_history_free(struct history *history);
/* A copy of a root; its id and digest are the caller's to set. NULL: no memory. */
struct generation *sz_generation_make(const struct sz_root *root);
void sz_generation_free(struct generation **generation);
int sz_history_room(struct history *history) MUST_CHECK; /* for one more: _add cannot fail then */
void sz_history_add(struct history *history, struct generation *generation); /* takes it over */
/* Its root was removed: pointers to it are no more. */
void sz_history_drop(struct history *history, const struct sz_id *id);
const struct generation *sz_history_find(const struct history *history,
					 const uint8_t digest[SZ_DIGEST_BYTES]);
void sz_generation_identity(const struct generation *generation, struct sz_ancestor *identity_out);
/* What a store is when it is made, until its first seal: no data was in it yet. A later one may be empty, too. */
static inline bool sz_generation_is_first(const struct generation *generation)
{
	return generation->root.generation == 1;
}
/* Is x an ancestor of y, or y itself? False also where it cannot be told. x need not be here. */
bool sz_history_is_ancestor(const struct history *history, const struct sz_ancestor *x,
			    const struct generation *y);
/*
 * Some are about to be collected (is_leaving): those stay without which one that stays could not be
 * shown any more to be an ancestor of newest.
 */
void sz_history_bind(struct history *history, const struct generation *newest);
/* Was what a lineage made for a generation made on the way to y? False also where it cannot be told. */
bool sz_history_has_made(const struct history *history, const uint8_t lineage[16],
			 uint64_t generation, const struct generation *y);
/* Is it the lineage of y, or of an ancestor? */
bool sz_history_has_lineage(const struct history *history, const uint8_t lineage[16],
			    const struct generation *y);

/* seen.c: under seal_lock, once the store is open */
void sz_seen_load(struct sz_store *store);
void sz_seen_update(struct sz_store *store); /* what was seen last is the store's root now */
bool sz_seen_is_aside(const struct seen *seen, const struct generation *generation);
void sz_seen_set_aside(struct seen *seen, const struct generation *generation);

/* choose.c: store->choice. -EBADMSG: no generation can be opened; -ENOENT: there is no such one. */
int sz_choose(struct sz_store *store, const struct sz_store_open *options,
	      struct sz_error *error) MUST_CHECK;
/* Adds to what is said: "what was there; what comes". */
void sz_choice_say(char text[SZ_OPENING_TEXT_BYTES], const char *format, ...) PRINTF_LIKE(2, 3);
/* -ESTALE: it is not written to without consent. */
int sz_choice_check(const struct sz_store *store, struct sz_error *error) MUST_CHECK;
int sz_choice_take(struct sz_store *store) MUST_CHECK; /* its root is the store's */
/* The store is open: what was chosen has been seen. */
void sz_choice_note(struct sz_store *store);

/* recover.c: store->choice is a generation without a root. -EINVAL: there are roots. */
int sz_recover(struct sz_store *store, struct sz_error *error) MUST_CHECK;

/* survey.c: what generations refer to, and whether it is there */
int sz_manifest_read(struct sz_store *store, const struct sz_ref *ref,
		     struct sz_manifest *manifest_out) MUST_CHECK;
int sz_shard_read(struct sz_store *store, const struct sz_ref *ref,
		  struct sz_shard *shard_out) MUST_CHECK;
uint64_t sz_band_file_bytes(uint32_t data_slots); /* length of a band's file */
struct survey_page;
struct survey { /* what index pages say, for many generations: all zeros at first */
	struct survey_page **pages; /* buckets */
	size_t bucket_count;
	size_t page_count;
};
void sz_survey_free(struct survey *survey);
/* text_out: what is missing, one line; "" if nothing is. Errors: those that may pass. */
int sz_generation_survey(struct sz_store *store, struct survey *survey,
			 const struct generation *generation, enum sz_wholeness *wholeness_out,
			 char text_out[SZ_MISSING_TEXT_BYTES]) MUST_CHECK;

/* clock.c: the store's own time. _start: once, when the newest root is known. _now: under seal_lock */
void sz_time_start(struct sz_store *store);
uint64_t sz_time_now(const struct sz_store *store);

/* replay.c */
/* Makes the live files of an earlier opening the sealing epoch. *found_out: there was something. */
int sz_replay(struct sz_store *store, bool *found_out, struct sz_error *error) MUST_CHECK;

/*
 * The digest of the root that logs of the generation's live epochs stand on, as they say it; zeros if there
 * are no such logs.
 */
int sz_replay_base(struct sz_store *store, uint64_t generation,
		   uint8_t digest_out[SZ_DIGEST_BYTES]) MUST_CHECK;

/* lost.c: sectors that a verification could not read, as runs of its own; freed as bytes are. */
/* Ascending, for one object after the other. */
int sz_lost_add(struct sz_bytes *runs, const struct sz_id *id, uint64_t sector,
		uint64_t count) MUST_CHECK;
int sz_lost_sort(struct sz_bytes *runs) MUST_CHECK; /* once all are there */
/* Was it lost, in the object? *count is narrowed to what is alike. */
bool sz_lost_has(const struct sz_bytes *runs, const struct sz_id *id, uint64_t sector,
		 uint64_t *count);
/* What stands for all objects of a device. */
void sz_lost_device(uint32_t device, struct sz_id *id_out);

/* verify.c: repair.c goes by it. */
#define UNREAD_MAX 64U /* objects that cannot be read now: if there are more, a disk fails */
struct sz_verification {
	uint64_t epoch; /* the live one when it began: what is of it, or later, was made since */
	struct id_set hurt;   /* objects */
	struct sz_bytes lost; /* in them; see lost.c */
	uint64_t unread;      /* objects of which it is not known */
};

/* seal.c */
enum seal_mode {
	SEAL_CHANGES, /* nothing written: no seal */
	SEAL_LAST,    /* the same; nothing will be written */
	SEAL_ALWAYS,
	SEAL_FREE,    /* always, and on short disks what is dead in part gives something back */
	SEAL_COMPACT, /* always, and all dead space goes */
};
int sz_seal_run(struct sz_store *store, enum seal_mode mode, struct sz_error *error) MUST_CHECK;
/* Under seal_lock. */
int sz_seal_run_locked(struct sz_store *store, enum seal_mode mode,
		       struct sz_error *error) MUST_CHECK;

/* spare.c: under seal_lock, once the store is open */
enum spare_part {
	SPARE_WRITES,
	SPARE_SEALS,
	SPARE_PARTS,
};
/* Gives up the parts up to last, of devices whose disks are short. -ENOSPC: there are none. */
int sz_spare_give(struct sz_store *store, enum spare_part last) MUST_CHECK;
void sz_spare_make(struct sz_store *store); /* what is missing, where there is room */

/* space.c */
/* What the disk of a device's folder has free beyond its reserve, or half of it; where that cannot be told, enough. */
uint64_t sz_device_room(const struct sz_device *device, bool with_half_the_reserve);
/* Under seal_lock: for lack of space history goes. -ENOSPC: there is none that may. _seal: then the spare does. */
int sz_room_make(struct sz_store *store, uint64_t wanted_bytes) MUST_CHECK;
int sz_room_make_for_seal(struct sz_store *store) MUST_CHECK;
/* Seals, and on a disk with little room once more, if anything was sealed. */
int sz_seal_freeing(struct sz_store *store, enum seal_mode mode, struct sz_error *error) MUST_CHECK;

/* compact.c: part of a seal */
enum compact_mode {
	COMPACT_NOTHING, /* there is no space for it */
	COMPACT_LEAST,   /* only if there are too many deltas */
	COMPACT_DUE,     /* what is due, where there is room for it */
	COMPACT_FREE,    /* what gives back most for what it takes; with half of the reserve */
	COMPACT_ALL,     /* whatever is dead goes, not only much: somebody asks for it */
};
int sz_compact(struct batch *batch, struct sz_device *device, enum compact_mode mode,
	       struct device_seal *seal) MUST_CHECK;
/* Under seal_lock: sectors that a device's bands and deltas store, and how many of these nobody will read again. */
void sz_dead_sectors(struct sz_device *device, uint64_t *stored_out, uint64_t *dead_out);

/* seal_device.c: finishes, copies and writes what the sealing epoch of a device needs. */
int sz_device_seal(struct batch *batch, struct sz_device *device, enum compact_mode mode,
		   struct device_seal *seal) MUST_CHECK;

/* store.c */
struct sz_store *sz_store_make(void);
void sz_store_free(struct sz_store *store);
int sz_devices_make(struct sz_store *store, uint32_t count) MUST_CHECK;
int sz_device_init_maps(struct sz_device *device) MUST_CHECK;
void sz_device_reset_maps(struct sz_device *device);

#endif
