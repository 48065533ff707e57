/*
 * format: pure encoding and decoding of every structure on disk. No I/O, no state, total: any bytes
 * may be given to a decoder. docs/FORMAT.md states each byte; its numbered rules are cited as [Fn].
 *
 * Decoding functions return 0, -EBADMSG (not authentic), -EUCLEAN (authentic, but impossible),
 * -EPROTONOSUPPORT (a newer version), -EKEYREJECTED (no slot opens), -ENOMEM.
 */
#ifndef SZ_FORMAT_FORMAT_H
#define SZ_FORMAT_FORMAT_H

#include "base/base.h"
#include "crypto/crypto.h"

#define SZ_FORMAT_VERSION     1
#define SZ_PAGE_BYTES         4096U
#define SZ_PAGE_PAYLOAD       4056U /* 24 nonce · 4,056 ciphertext · 16 tag */
#define SZ_ID_BYTES           16U
#define SZ_SALT_BYTES         32U
#define SZ_STORE_WIDE         0xfffU /* the "device" of what belongs to all: roots, key objects */
/* Devices of a store: its root stays below 16 KiB. */
#define SZ_FORMAT_DEVICES_MAX 64U
/* Sectors encrypted under one K_obj, at most: far below where random 96-bit nonces collide. */
#define SZ_OBJECT_SLOTS_MAX   (1U << 28)
/* Payload of a blob, at most: a list of ten million runs. It is read into memory as a whole. */
#define SZ_BLOB_MAX_BYTES     (64U << 20)

/* Ids and names. */
enum sz_kind {
	SZ_KIND_BAND = 1,
	SZ_KIND_DELTA = 2,
	SZ_KIND_INDEX = 3, /* index pages: manifests, shards, sector lists */
	SZ_KIND_HOT = 4,   /* hot image */
	SZ_KIND_ROOT = 5,
	SZ_KIND_LOG = 6,  /* live only */
	SZ_KIND_LOCK = 7, /* the store's lock record; random part 0 */
	SZ_KIND_KEY = 8,
	SZ_KIND_PLACES = 9, /* where the other device folders are, in the store's folder */
	SZ_KIND_KEEP = 10,  /* what is kept, in the store's folder */
	SZ_KIND_SPARE = 11, /* live only: holds nothing, and is given up when a disk is full */
};
struct sz_id {
	uint8_t bytes[SZ_ID_BYTES];
};
#define SZ_OBJECT_NAME_BYTES 33 /* 32 hex digits and a NUL */

void sz_id_make(enum sz_kind, uint32_t device, uint64_t generation, uint64_t random,
		struct sz_id *id_out);
/* -EUCLEAN: the kind is none of the above, or the device neither below the limit nor SZ_STORE_WIDE. */
int sz_id_parse(const struct sz_id *, enum sz_kind *kind_out, uint32_t *device_out,
		uint64_t *generation_out) MUST_CHECK;

/* Keys of one key epoch, derived from the master key; in secret memory. */
struct sz_keys {
	uint8_t master[SZ_KEY_BYTES];
	uint8_t store_id[16];
	uint32_t epoch;
	uint8_t name[SZ_KEY_BYTES];
	uint8_t head[SZ_KEY_BYTES];
	uint8_t journal[SZ_KEY_BYTES];
	uint8_t object[SZ_KEY_BYTES];
	uint8_t slotdir[SZ_KEY_BYTES];
	uint8_t state[SZ_KEY_BYTES];
	uint8_t filler[SZ_KEY_BYTES];
};
/* Fills in all K_use from master, store_id and epoch. */
void sz_keys_derive(struct sz_keys *keys);

void sz_name_encode(const struct sz_keys *, const struct sz_id *, char name[SZ_OBJECT_NAME_BYTES]);
/* -EINVAL: not 32 hex digits; -EUCLEAN: decrypts to no id. */
int sz_name_decode(const struct sz_keys *, const char *name, struct sz_id *id_out) MUST_CHECK;

/* The header page of an object, in memory. The identity comes first; K_obj derives from it. */
#define SZ_HEADER_BODY_BYTES 3832U
struct sz_header {
	/* identity */
	struct sz_id id;
	uint8_t salt[SZ_SALT_BYTES];
	uint8_t store_id[16];
	uint8_t device_id[16]; /* zeros if store-wide */
	uint16_t kind;
	uint16_t version;
	uint32_t key_epoch;
	uint64_t base_sector;
	uint64_t sector_count;
	uint8_t lineage[16];
	/* the rest */
	uint32_t data_slots;  /* sectors' slots, padding included, from file offset 4,096 on */
	uint32_t page_count;  /* pages behind the slots */
	uint64_t file_bytes;  /* length of the whole file */
	uint64_t folded_to;   /* bands: deltas up to this generation are in it */
	uint64_t entry_count; /* index entries */
	uint32_t leaf_count;  /* the first pages are leaves, then come fences, then padding */
	uint32_t top_count; /* first sectors in body: of the fences, or of the leaves if no fence */
	uint32_t payload_bytes;                /* blob objects: length of the payload */
	uint8_t pages_digest[SZ_DIGEST_BYTES]; /* BLAKE2b-256 of the pages' tags, in order */
	uint8_t body[SZ_HEADER_BODY_BYTES];    /* top keys (u64 each), or the payload's beginning */
};
/* K_obj and the key of its pages; in secret memory if it is kept. */
struct sz_object_keys {
	uint8_t sector[SZ_KEY_BYTES];
	uint8_t page[SZ_KEY_BYTES];
};
void sz_object_keys_derive(const struct sz_keys *, const struct sz_header *identity,
			   struct sz_object_keys *keys_out);
/* Seals the header under a fresh nonce. */
void sz_header_encode(const struct sz_keys *, const struct sz_header *,
		      uint8_t page[SZ_PAGE_BYTES]);
int sz_header_decode(const struct sz_keys *, const uint8_t page[SZ_PAGE_BYTES],
		     struct sz_header *header_out) MUST_CHECK;
/* The object's digest, by which others refer to it: BLAKE2b-256 of its header page. */
void sz_header_digest(const uint8_t page[SZ_PAGE_BYTES], uint8_t digest[SZ_DIGEST_BYTES]);

/* Pages: 4,056 bytes each under the page key, bound to their number. */
void sz_page_seal(const struct sz_object_keys *, uint32_t number,
		  const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES]);
int sz_page_open(const struct sz_object_keys *, uint32_t number, const uint8_t page[SZ_PAGE_BYTES],
		 uint8_t payload[SZ_PAGE_PAYLOAD]) MUST_CHECK;

/* Trailer: the file's last 40 bytes, bound to the header's tag. */
#define SZ_TRAILER_BYTES 40U
void sz_trailer_seal(const struct sz_object_keys *, const uint8_t header_page[SZ_PAGE_BYTES],
		     uint8_t trailer[SZ_TRAILER_BYTES]);
int sz_trailer_open(const struct sz_object_keys *, const uint8_t header_page[SZ_PAGE_BYTES],
		    const uint8_t trailer[SZ_TRAILER_BYTES]) MUST_CHECK;

/* n rounded up to its padding step: a step is the largest power of two <= n / 8 (at least 1). */
uint64_t sz_pad_count(uint64_t n);

/* Index entries of bands and deltas: leaf pages hold them sorted by sector, without overlaps. */
enum sz_sector_state {
	SZ_SECTOR_ABSENT = 0, /* never stored */
	SZ_SECTOR_DATA = 1,
	SZ_SECTOR_TOMBSTONE = 2, /* reads as zeros, hides what lies below */
	SZ_SECTOR_POISON = 3,    /* damaged before this object was written */
};
#define SZ_LEAF_ENTRIES 101U
#define SZ_FENCE_KEYS   506U
#define SZ_TOP_KEYS     (SZ_HEADER_BODY_BYTES / 8)
struct sz_index_entry {
	uint64_t sector;
	uint8_t state;
	uint32_t
		slot_or_count; /* DATA: its slot; TOMBSTONE, POISON: length of the run in sectors */
	uint8_t nonce_tag[SZ_NONCE_TAG_BYTES];
};
void sz_leaf_encode(const struct sz_index_entry *entries, uint32_t count,
		    uint8_t payload[SZ_PAGE_PAYLOAD]);
/* entries has room for SZ_LEAF_ENTRIES. Checks order, states, slots < data_slots, range. */
int sz_leaf_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], const struct sz_header *,
		   struct sz_index_entry *entries, uint32_t *count_out) MUST_CHECK;
void sz_fence_encode(const uint64_t *first_sectors, uint32_t count,
		     uint8_t payload[SZ_PAGE_PAYLOAD]);
/* first_sectors has room for SZ_FENCE_KEYS. */
int sz_fence_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], uint64_t *first_sectors,
		    uint32_t *count_out) MUST_CHECK;

/* Blob objects (index pages, hot images, roots): a payload, its beginning in the header's body. */
struct sz_ref { /* a reference to an object */
	struct sz_id id;
	uint8_t digest[SZ_DIGEST_BYTES];
};
/* Encodes the whole file (header, pages, trailer); header gives the identity. Appends to file_out. */
int sz_blob_encode(const struct sz_keys *, const struct sz_header *identity, const uint8_t *payload,
		   size_t length, struct sz_bytes *file_out,
		   uint8_t digest_out[SZ_DIGEST_BYTES]) MUST_CHECK;
int sz_blob_decode(const struct sz_keys *, const uint8_t *file, size_t file_length,
		   struct sz_header *header_out, struct sz_bytes *payload_out) MUST_CHECK;

/* A run of sectors. */
struct sz_run {
	uint64_t sector;
	uint64_t count;
};

/* Root: one a generation, the same bytes under the same name in every device's folder. */
#define SZ_ROOT_RECOVERED 1U  /* it, or one before it, was made without a root to go on from */
#define SZ_ANCESTRY_MAX   96U /* a root of 64 devices stays below 16 KiB */
struct sz_root_device {
	uint8_t device_id[16];
	uint64_t sectors;
	uint8_t state; /* 0 current, 1 stale since the generation in stale_since */
	uint64_t stale_since;
	uint64_t stored_bytes; /* of the objects that this generation refers to, on this device */
	uint64_t object_count;
	struct sz_ref manifest;
};
struct sz_ancestor {
	uint8_t lineage[16];
	uint64_t generation;
	uint8_t digest[SZ_DIGEST_BYTES];
};
struct sz_root {
	uint32_t format_version;
	uint64_t incompatible_features; /* unknown bits: refuse */
	uint8_t store_id[16];
	uint8_t lineage[16];
	uint64_t generation;
	uint8_t parent[SZ_DIGEST_BYTES]; /* zeros: none */
	uint64_t store_time_ns;
	uint64_t wall_time_ns;
	uint64_t next_sequence;   /* store-wide sequence numbers below this are used */
	uint64_t changed_sectors; /* written in this generation */
	uint32_t band_sectors;
	uint8_t parity;
	uint8_t flags; /* SZ_ROOT_… */
	uint64_t key_version;
	uint8_t key_digest[SZ_DIGEST_BYTES];
	uint32_t device_count;
	struct sz_root_device *devices;
	uint32_t
		ancestor_count; /* newest first: the last generation of each lineage before this one */
	struct sz_ancestor *ancestors;
};
int sz_root_encode(const struct sz_root *, struct sz_bytes *payload_out) MUST_CHECK;
int sz_root_decode(const uint8_t *payload, size_t length, struct sz_root *root_out) MUST_CHECK;
void sz_root_free(struct sz_root *);
/* "17-0123456789ABCDEF": the number and the digest's first 80 bits in Crockford base32. */
void sz_root_code(uint64_t generation, const uint8_t digest[SZ_DIGEST_BYTES], char code[40]);

/* Manifest: an index page, one a device and generation; it and its parts stand on three devices. */
enum sz_index_role {
	SZ_INDEX_MANIFEST = 1,
	SZ_INDEX_SHARD = 2,
	SZ_INDEX_LIST = 3,
};
#define SZ_SHARD_BANDS 128U  /* consecutive bands in a shard */
#define SZ_LIST_INLINE 1024U /* encoded sector lists up to this long stand in the manifest itself */
struct sz_manifest_delta {
	uint64_t generation;
	struct sz_ref delta;
	uint64_t sector_count; /* data, tombstones and poison together */
	uint64_t stored_bytes;
	bool list_is_inline;
	struct sz_ref list;  /* if not inline */
	struct sz_run *runs; /* if inline: sorted, apart */
	uint32_t run_count;
};
struct sz_manifest_shard {
	uint32_t number;
	struct sz_ref shard;
};
struct sz_manifest {
	uint8_t device_id[16];
	uint64_t generation;
	/* What roots say too, as it was then: a root can be made anew from manifests. */
	uint64_t sectors;
	uint32_t band_sectors;
	uint32_t device_count;
	uint8_t parity;
	struct sz_ref hot; /* id all zeros: none */
	uint32_t shard_count;
	struct sz_manifest_shard *shards; /* by number */
	uint32_t delta_count;
	struct sz_manifest_delta *deltas; /* newest first */
};
int sz_manifest_encode(const struct sz_manifest *, struct sz_bytes *payload_out) MUST_CHECK;
int sz_manifest_decode(const uint8_t *payload, size_t length,
		       struct sz_manifest *manifest_out) MUST_CHECK;
void sz_manifest_free(struct sz_manifest *);

struct sz_shard_band {
	uint32_t band; /* number on the device */
	struct sz_ref ref;
	uint64_t folded_to;
	uint32_t live_sectors;
	uint32_t data_slots;
};
struct sz_shard {
	uint32_t number;
	uint32_t band_count;
	struct sz_shard_band *bands; /* by number */
};
int sz_shard_encode(const struct sz_shard *, struct sz_bytes *payload_out) MUST_CHECK;
int sz_shard_decode(const uint8_t *payload, size_t length, struct sz_shard *shard_out) MUST_CHECK;
void sz_shard_free(struct sz_shard *);

/* Sector lists: sorted, apart. */
int sz_list_encode(const struct sz_run *runs, uint32_t count,
		   struct sz_bytes *payload_out) MUST_CHECK;
int sz_list_decode(const uint8_t *payload, size_t length, struct sz_run **runs_out,
		   uint32_t *count_out) MUST_CHECK;

/*
 * Log: a header page (kind LOG, with the body below), then frames: a record page and behind it the
 * sectors (ciphertext under the log's K_obj) that it describes. Records form an authenticated chain.
 */
struct sz_log_head {
	uint64_t epoch;                /* the generation that it will become */
	uint8_t base[SZ_DIGEST_BYTES]; /* digest of the newest root when it was begun */
	uint64_t
		base_generation; /* its number: epoch - 1, or epoch - 2 while that is being sealed */
	uint64_t first_sequence;
	uint64_t inode;      /* of this file, when it was made: a copy has another */
	uint8_t machine[16]; /* digest of /etc/machine-id under K_state */
	uint8_t open_id[16]; /* random, one for each writable opening */
};
void sz_log_head_encode(const struct sz_log_head *, uint8_t body[SZ_HEADER_BODY_BYTES]);
int sz_log_head_decode(const uint8_t body[SZ_HEADER_BODY_BYTES],
		       struct sz_log_head *head_out) MUST_CHECK;

void sz_log_key_derive(const struct sz_keys *, const struct sz_id *log_id,
		       uint8_t key[SZ_KEY_BYTES]);
/* previous: the tag of the record before; of the header page for the first. tag_out: for the next. */
void sz_record_seal(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
		    const uint8_t previous[SZ_X_TAG_BYTES], const uint8_t payload[SZ_PAGE_PAYLOAD],
		    uint8_t page[SZ_PAGE_BYTES], uint8_t tag_out[SZ_X_TAG_BYTES]);
int sz_record_open(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
		   const uint8_t previous[SZ_X_TAG_BYTES], const uint8_t page[SZ_PAGE_BYTES],
		   uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t tag_out[SZ_X_TAG_BYTES]) MUST_CHECK;

enum sz_log_type {
	SZ_LOG_SECTORS = 1,      /* sectors whose ciphertext is in this frame */
	SZ_LOG_BAND_SECTORS = 2, /* in the open band that covers them */
	SZ_LOG_TRIM = 3,
	SZ_LOG_BAND_OPEN = 4,
	SZ_LOG_BAND_FINISHED = 5,
	SZ_LOG_COMMIT = 6,
};
struct sz_log_entry {
	enum sz_log_type type;
	uint64_t sequence; /* SECTORS, BAND_SECTORS, TRIM; COMMIT: all below it are covered */
	uint64_t sector;   /* the first; BAND_OPEN, BAND_FINISHED: the band's number */
	uint64_t count;    /* sectors */
	uint32_t place;    /* SECTORS: page behind the record, from 0; BAND_SECTORS: slot */
	const uint8_t *nonce_tags;       /* SECTORS, BAND_SECTORS: count × 28 bytes */
	struct sz_id id;                 /* BAND_OPEN */
	uint8_t salt[SZ_SALT_BYTES];     /* BAND_OPEN */
	uint8_t digest[SZ_DIGEST_BYTES]; /* BAND_FINISHED */
	uint64_t epoch;                  /* COMMIT */
	bool is_last;                    /* COMMIT: the epoch has ended, the log with it */
};
#define SZ_RECORD_HEAD_BYTES  16U
#define SZ_RECORD_SECTORS_MAX 143U /* sectors whose nonces and tags fit into one record */
#define SZ_LOG_RUN_BYTES      28U /* head of a SECTORS or BAND_SECTORS entry; 28 more for each sector */
size_t sz_log_entry_bytes(const struct sz_log_entry *);
/* Writes at *offset (SZ_RECORD_HEAD_BYTES for the first) and advances it. -ENOSPC: does not fit. */
int sz_log_entry_encode(const struct sz_log_entry *, uint8_t payload[SZ_PAGE_PAYLOAD],
			size_t *offset) MUST_CHECK;
void sz_record_head_encode(uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t entry_count,
			   uint32_t sector_pages);
int sz_record_head_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t *entry_count_out,
			  uint32_t *sector_pages_out) MUST_CHECK;
/* nonce_tags points into payload. */
int sz_log_entry_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], size_t *offset,
			struct sz_log_entry *entry_out) MUST_CHECK;

/* Key object: 16,384 bytes, random-looking; no other object has this length. */
#define SZ_KEY_OBJECT_BYTES 16384U
#define SZ_SLOTS            8U
enum sz_slot_type {
	SZ_SLOT_NONE = 0,
	SZ_SLOT_PASSPHRASE = 1,
	SZ_SLOT_PASSPHRASE_KEY_FILE = 2,
	SZ_SLOT_KEY_FILE = 3,
	SZ_SLOT_RECOVERY = 4,
};
/* What a slot is opened with. */
struct sz_unlock {
	enum sz_slot_type type;
	const char *passphrase;
	size_t passphrase_length;
	const uint8_t *key_file; /* KEY_FILE and PASSPHRASE_KEY_FILE: its 64 bytes */
	const uint8_t *recovery; /* RECOVERY: 32 bytes */
};
struct sz_slot_info {
	enum sz_slot_type type; /* NONE: free */
	char label[64];
	uint64_t wall_time_ns;
};
struct sz_key_object { /* an opened one; in secret memory (it holds M) */
	struct sz_keys keys;
	uint8_t old_master[SZ_KEY_BYTES]; /* during a rekey; zeros: none */
	uint32_t old_epoch;
	uint64_t version; /* revision: grows with each change */
	uint8_t parent[SZ_DIGEST_BYTES];
	uint32_t opened_slot;
	struct sz_slot_info slots[SZ_SLOTS];
	uint8_t page[SZ_KEY_OBJECT_BYTES]; /* as on disk */
	uint8_t digest[SZ_DIGEST_BYTES];   /* BLAKE2b-256 of page */
};
/* A new key object with fresh M and S and one slot. */
int sz_key_object_create(const struct sz_unlock *, enum sz_kdf, const char *label,
			 struct sz_key_object *object_out) MUST_CHECK;
/* Tries the presets in order, all slots in constant time. -EKEYREJECTED, -ENOMEM (a preset did not fit). */
int sz_key_object_open(const uint8_t page[SZ_KEY_OBJECT_BYTES], const struct sz_unlock *,
		       struct sz_key_object *object_out) MUST_CHECK;
/*
 * Replaces slot index (or fills a free one) and makes object the next version. -EINVAL: no such
 * slot, a label of 64 bytes or more, a passphrase of an impossible length. Unchanged if it fails.
 */
int sz_key_object_set_slot(struct sz_key_object *object, uint32_t index, const struct sz_unlock *,
			   enum sz_kdf, const char *label) MUST_CHECK;
/* -ENOENT: it is free; -EINVAL: it is the last one. */
int sz_key_object_remove_slot(struct sz_key_object *object, uint32_t index) MUST_CHECK;

/* Small sealed records that are no objects: the lock record, places, the state file. */
#define SZ_NOTE_OVERHEAD  40U
#define SZ_NOTE_MAX_BYTES 65536U /* 64 devices' paths of 1,000 bytes */
int sz_note_encode(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t *payload,
		   size_t length, struct sz_bytes *out) MUST_CHECK;
int sz_note_decode(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t *note,
		   size_t length, struct sz_bytes *payload_out) MUST_CHECK;

#endif
