/*
 * device: sparse, encrypted, versioned virtual disks. A *store* is a set of devices in folders; time
 * in it is cut into generations, which sealing ends for all devices at once. This header is all that
 * the layers above see; the rules are in docs/DESIGN.md, the bytes in docs/FORMAT.md.
 *
 * A sector is 4,096 bytes. Offsets and counts are in sectors.
 */
#ifndef SZ_DEVICE_DEVICE_H
#define SZ_DEVICE_DEVICE_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "store/store.h"

#define SZ_DEVICES_MAX 64

struct sz_store;
struct sz_device;

/* Where a passphrase comes from is the caller's affair; here it is bytes (1 to 1,024). */
struct sz_passphrase {
	const char *bytes; /* in secret memory, the caller's */
	size_t length;
};

struct sz_store_create {
	uint32_t device_count;   /* 1 … SZ_DEVICES_MAX */
	uint64_t device_sectors; /* virtual size of each device; a multiple of 64 */
	uint32_t band_sectors;   /* a power of two, 256 (1 MiB) … 16,384 (64 MiB); 0: by size */
	uint32_t parity;         /* devices that may be lost: 0 … 3; a hint, recorded in roots */
	enum sz_kdf kdf;
	const char *path; /* the store's folder; made if missing, must be empty */
	const char *const
		*folders; /* device_count paths, or NULL: subfolders of path with random names */
};

/* Makes an empty store (generation 1). Nothing is left behind if it fails. */
int sz_store_create(const struct sz_store_create *, const struct sz_passphrase *,
		    struct sz_error *error) MUST_CHECK;

struct sz_store_open {
	const char *path;
	const char *const *folders; /* further device folders, or NULL */
	size_t folder_count;
	bool read_only; /* nothing is written; a live epoch is replayed in memory */
	/*
	 * NULL, or a generation: its number, its code, or the beginning of the code. It is opened as it was
	 * sealed, and written to in memory alone: closing forgets that.
	 */
	const char *generation;
	/*
	 * What is there, a live epoch too, is written to in memory alone: closing forgets that. For who has to
	 * write in order to read (a file system that replays its log).
	 */
	bool in_memory;
	/* NULL, or one to go on from, although it is not the newest or the only one: the user's word. */
	const char *choose;
	bool recover; /* no root is left: the best generation is put together without one */
	const char *state_folder; /* where is noted what was seen of stores; NULL: nowhere */
	bool is_copy;             /* taken for a copy, whatever speaks against it */
};

/*
 * Unlocks, chooses a generation (docs/DESIGN.md, "Opening"), recovers the live epoch of a crash (seals it),
 * takes the lock. -ESTALE: it is not written to without a choice of the user's (several histories, a
 * store that was rolled back): the text says which there are, and nothing was written.
 * Errors: -ENOENT no such folder · -ENODATA not a store · -EKEYREJECTED wrong passphrase ·
 * -EPROTONOSUPPORT newer format · -EBUSY open elsewhere (text names the holder) · -EUCLEAN · -ENOMEM ·
 * -EACCES, -EROFS, -ENOSPC, -EIO.
 */
int sz_store_open(const struct sz_store_open *, const struct sz_passphrase *,
		  struct sz_store **store_out, struct sz_error *error) MUST_CHECK;

/*
 * The same over backends that the caller made (tests): the store owns them, one per device, in any
 * order; for creation, in the order of the devices. No lock is taken. A creation that fails leaves what
 * it wrote. Options for opening may be NULL, and have no path; the store is no copy unless they say so.
 */
int sz_store_create_on(const struct sz_store_create *, struct sz_backend *const *backends,
		       const struct sz_passphrase *, struct sz_error *error) MUST_CHECK;
int sz_store_open_on(struct sz_backend *const *backends, size_t count,
		     const struct sz_store_open *options, const struct sz_passphrase *,
		     struct sz_store **store_out, struct sz_error *error) MUST_CHECK;

/* What generations there are, and what opening would do: nothing is opened, nothing is written. */
enum sz_wholeness {
	SZ_COMPLETE,    /* all that it refers to is there, by name and length */
	SZ_RECOVERABLE, /* nowhere are more devices hurt than redundancy covers */
	SZ_INCOMPLETE,
};
#define SZ_MISSING_TEXT_BYTES 160U
#define SZ_OPENING_TEXT_BYTES 400U
struct sz_generation {
	uint64_t generation;
	char code[40];
	uint64_t wall_time_ns;
	uint64_t changed_bytes; /* sectors that it wrote anew */
	uint64_t stored_bytes;  /* of bands and deltas; object_count: their number */
	uint64_t object_count;
	bool is_chosen;
	bool is_ancestor; /* the chosen one, or one that leads to it */
	bool is_head;
	bool is_recovered; /* it, or one before it, was made by a recovery without any root */
	enum sz_wholeness wholeness;
	char missing[SZ_MISSING_TEXT_BYTES]; /* "" if nothing is */
};
struct sz_check {
	struct sz_generation *generations; /* newest first */
	size_t count;
	size_t lost_roots; /* that are there and cannot be read */
	size_t histories;  /* heads that could be gone on from: more than one need a choice */
	int read_code;     /* what opening for reading would return */
	int write_code;    /* and for writing */
	char refusal[480]; /* why, and what to do; "" if write_code is 0 */
	char chosen_text[SZ_OPENING_TEXT_BYTES]; /* what is chosen, and why */
	char aside_text[SZ_OPENING_TEXT_BYTES];  /* what is set aside */
};
int sz_store_check(const struct sz_store_open *, const struct sz_passphrase *,
		   struct sz_check *check_out, struct sz_error *error) MUST_CHECK;
void sz_check_free(struct sz_check *);
/* The same of a store that is open: the generations alone. */
int sz_store_generations(struct sz_store *, struct sz_check *check_out,
			 struct sz_error *error) MUST_CHECK;

/*
 * Ends the generation: everything written before the call is in it, of what is written meanwhile some. Nothing
 * written since the last one: no new generation, 0. Writers run on, but for a moment that waits for no disk.
 */
int sz_store_seal(struct sz_store *, struct sz_error *error) MUST_CHECK;

/*
 * Seals, and writes anew whatever is superseded in part: what is dead then goes with the generations
 * that still refer to it. A seal does as much by itself where it is worth it.
 */
int sz_store_compact(struct sz_store *, struct sz_error *error) MUST_CHECK;

/* Seals (unless read-only, or a device has failed) and frees everything, also when it returns an error. */
int sz_store_close(struct sz_store *, struct sz_error *error) MUST_CHECK;
/* Frees everything without writing a byte: what a crash leaves. */
void sz_store_abandon(struct sz_store *);

/* Is it the one that opens the store? -EKEYREJECTED: no. */
int sz_store_check_passphrase(struct sz_store *, const struct sz_passphrase *,
			      struct sz_error *error) MUST_CHECK;

/* Re-encrypts nothing: the key object gets a new slot in place of the old one; seals. */
int sz_store_change_passphrase(struct sz_store *, const struct sz_passphrase *new_passphrase,
			       enum sz_kdf, struct sz_error *error) MUST_CHECK;

/*
 * Gives a MISSING device a new, empty folder (NULL: a subfolder of the store's) and seals: it is
 * ONLINE then, with every sector absent. The layer above rebuilds its content. -EINVAL: not missing.
 */
int sz_store_replace_device(struct sz_store *, uint32_t index, const char *folder,
			    struct sz_error *error) MUST_CHECK;

enum sz_device_state {
	SZ_DEVICE_ONLINE,
	SZ_DEVICE_MISSING, /* no folder, or nothing in it that is this device's */
	SZ_DEVICE_FAILED, /* a write or sync failed: all later I/O fails until the store is reopened */
};

struct sz_store_info {
	uint8_t store_id[16];
	uint32_t device_count;
	uint32_t parity;
	uint32_t band_sectors;
	uint32_t format_version;
	uint64_t generation;     /* the newest sealed one */
	char code[40];           /* its root code, for people */
	uint64_t sealed_wall_ns; /* when it was sealed, by the wall clock then */
	uint64_t
		sealed_store_ns; /* the same by the store's own clock, which began with the store */
	uint64_t virtual_bytes;  /* sum of the devices */
	uint64_t stored_bytes;   /* sum of the files' lengths, live ones too, without the spare */
	uint64_t object_count;
	uint64_t delta_count;     /* the most of one device */
	uint64_t data_bytes;      /* in bands and deltas … */
	uint64_t dead_bytes;      /* … and of these what nobody will read again */
	uint64_t compacted_bytes; /* that compaction has written since the opening */
	uint64_t host_free_bytes; /* smallest over the folders' file systems */
	uint64_t seal_pause_ns;   /* for how long the last seal held writers up */
	bool recovered;           /* this opening replayed a live epoch */
	char recovery_text[200];  /* what it found, one line; "" if !recovered */
};
void sz_store_info(struct sz_store *, struct sz_store_info *info_out);

/*
 * Space (docs/DESIGN.md). sz_store_room: what may still be written to all devices together before a disk has less than
 * its reserve and what the next seal needs. 0: new data is to be refused; what frees space goes on.
 */
uint64_t sz_store_room(struct sz_store *);
bool sz_store_is_short(struct sz_store *); /* there is little of it */
/* After a trim, where there is little room: what was trimmed is given back to the disk, but for what history refers to. */
int sz_store_give_back(struct sz_store *, struct sz_error *error) MUST_CHECK;
/* For new data: lets history go until there is so much room. -ENOSPC: nothing more may go. */
int sz_store_make_room(struct sz_store *, uint64_t wanted_bytes) MUST_CHECK;

/* What is kept of the history besides the ladder that is always kept (docs/DESIGN.md). */
struct sz_keep_policy {
	uint32_t last;   /* so many of the newest complete generations */
	uint32_t hourly; /* the newest one of each of so many hours (days, …) that have one */
	uint32_t daily;
	uint32_t weekly;
	uint32_t monthly;
	uint32_t budget_percent; /* of the store: so much may only history take … */
	uint64_t budget_bytes;   /* … or so many bytes, if it is not 0 (the other is 0 then) */
};
void sz_store_keep_policy(struct sz_store *, struct sz_keep_policy *policy_out);
/* Noted in the store's folder, for this opening and all that come. -EINVAL: impossible numbers. */
int sz_store_set_keep_policy(struct sz_store *, const struct sz_keep_policy *,
			     struct sz_error *error) MUST_CHECK;

/* Which generation was opened, and why; the texts are the store's. */
struct sz_opening {
	bool is_notable;    /* there is something that the user should know */
	const char *chosen; /* what was chosen, and why */
	const char *aside;  /* what was set aside; "" if nothing */
};
void sz_store_opening(const struct sz_store *, struct sz_opening *opening_out);

/*
 * Removes the generations that are not kept by now, and what only they refer to. all: whatever is kept of the history, but
 * for what is being read. A seal does as much by itself where it is worth it. -EBADMSG: nothing may be removed,
 * for something cannot be read.
 */
int sz_store_collect(struct sz_store *, bool all, struct sz_error *error) MUST_CHECK;

/* Why a generation is kept. */
enum sz_retain_reason {
	SZ_RETAIN_NEWEST = 1 << 0, /* the newest of all, and the newest complete one */
	SZ_RETAIN_HELD = 1 << 1,
	SZ_RETAIN_RUNG = 1 << 2, /* of the ladder */
	SZ_RETAIN_LAST = 1 << 3,
	SZ_RETAIN_HOURLY = 1 << 4,
	SZ_RETAIN_DAILY = 1 << 5,
	SZ_RETAIN_WEEKLY = 1 << 6,
	SZ_RETAIN_MONTHLY = 1 << 7,
	SZ_RETAIN_LINK =
		1 << 8, /* an older one could not be told to be of this history without it */
};
/* One of our generations that are here; oldest first. */
struct sz_kept {
	uint64_t generation;
	char code[40];
	uint64_t sealed_wall_ns;
	uint64_t age_ns;      /* by the store's own clock */
	bool is_complete;     /* but for devices whose folder is not here */
	unsigned int reasons; /* SZ_RETAIN_…; 0: a collection would remove it */
	uint64_t
		ends_bytes; /* what no newer one refers to, and none at all that stays if it goes */
};
typedef int sz_kept_fn(void *context, const struct sz_kept *);
/* What would be kept by a policy (NULL: the store's). */
int sz_store_kept_each(struct sz_store *store, const struct sz_keep_policy *policy,
		       sz_kept_fn *each, void *context, struct sz_error *error) MUST_CHECK;

/*
 * What is in the store's folders that belongs to other histories: kept until it is discarded. So are generations of
 * ours of which an index page is lost, in all copies, while the policy keeps them.
 */
struct sz_foreign {
	bool is_ours;
	uint64_t generation; /* its root's; 0: objects without a root */
	char code[40];       /* "": the root cannot be read */
	uint64_t sealed_wall_ns;
	uint64_t objects; /* that nothing before it in the listing refers to */
	uint64_t bytes;
};
typedef int sz_foreign_fn(void *context, const struct sz_foreign *);
int sz_store_foreign_each(struct sz_store *store, sz_foreign_fn *each, void *context,
			  struct sz_error *error) MUST_CHECK;
/* Removes it for good. -EBUSY: some of it is being read. -ENXIO: a folder that is not here may have what is lost. */
int sz_store_discard(struct sz_store *, struct sz_error *error) MUST_CHECK;

struct sz_history_info {
	uint64_t generations; /* of our own that are here */
	uint64_t complete;
	uint64_t history_bytes; /* only generations before the newest refer to it */
	uint64_t budget_bytes;  /* what it may take */
	uint64_t
		copy_ns; /* how long a copy may take that begins now, to end with a complete generation */
	bool is_undecided; /* a newer generation, or another history, waits for a choice: it counts as foreign */
	uint64_t foreign_objects;
	uint64_t foreign_bytes;
	char problem[200]; /* why nothing is removed; "" if it is */
};
void sz_store_history_info(struct sz_store *, struct sz_history_info *info_out);

/* Damage found so far in this opening, one entry for each object or region. */
#define SZ_DAMAGE_NO_DEVICE UINT32_MAX
struct sz_damage {
	uint32_t device;  /* SZ_DAMAGE_NO_DEVICE: of what belongs to all, as roots */
	char object[96];  /* "band 12", "delta of generation 3", "root", … and its file name */
	char text[120];   /* "missing", "does not authenticate", "ends too early", … */
	uint64_t sectors; /* that it hit, as far as known */
};
typedef int sz_damage_fn(void *context, const struct sz_damage *);
int sz_store_damage_each(struct sz_store *, sz_damage_fn *, void *context);

/* What was found, and repaired, is told no more. */
void sz_store_damage_forget(struct sz_store *);

/*
 * Reads and authenticates everything that the newest generation is made of, also what nobody reads: superseded sectors,
 * second copies. What is hurt, or cannot be read now, is noted as damage. False from progress ends it: -EINTR. Other
 * errors: too much cannot be read now. *verification_out: what was found, the caller's; NULL after an error.
 */
struct sz_verification;
typedef bool sz_verify_fn(void *context, uint64_t done_bytes, uint64_t total_bytes);
int sz_store_verify(struct sz_store *, sz_verify_fn *progress, void *context,
		    struct sz_verification **verification_out, struct sz_error *error) MUST_CHECK;
uint64_t sz_verification_hurt(const struct sz_verification *);   /* objects */
uint64_t sz_verification_unread(const struct sz_verification *); /* … that cannot be read now */
void sz_verification_free(struct sz_verification *);             /* NULL is allowed */
/*
 * Writes anew what the verification found hurt, and seals. What cannot be read of it stays known as lost; with gives_up
 * what could not be read by the verification either is zeros from now on: for a layer above that has written again, since
 * then, all that it needs. *left_out: so many objects have something lost that came after the verification.
 * An error: what could be written anew was, but for -ENOSPC.
 */
int sz_store_repair(struct sz_store *, const struct sz_verification *, bool gives_up,
		    uint64_t *left_out, struct sz_error *error) MUST_CHECK;

struct sz_device *sz_store_device(struct sz_store *, uint32_t index); /* owned by the store */
uint32_t sz_store_device_count(const struct sz_store *);
bool sz_store_is_read_only(const struct sz_store *);
bool sz_store_is_volatile(const struct sz_store *); /* what is written is forgotten */

enum sz_device_state sz_device_state(const struct sz_device *);
uint64_t sz_device_sectors(const struct sz_device *);
const char *sz_device_folder(
	const struct sz_device *); /* its folder's path, for messages; "" if missing */
/* Sectors handed out as filler since the opening. */
uint64_t sz_device_damaged_sectors(const struct sz_device *);

/*
 * I/O. Any number of threads at once; block. The range must lie within the device (-EINVAL).
 * Reading: absent sectors are zeros. -EBADMSG: some sectors are damaged or lost; each of these holds
 * filler (keyed pseudo-random bytes), all others are right: an upper layer with redundancy may go on.
 * Any other error: the buffer's content is undefined but never unauthenticated.
 */
int sz_device_read(struct sz_device *, uint64_t sector, uint32_t count, void *buffer) MUST_CHECK;
/* The same if no disk has to be waited for, and all is well; else -EAGAIN: only _read can tell. For few sectors. */
int sz_device_read_cached(struct sz_device *, uint64_t sector, uint32_t count,
			  void *buffer) MUST_CHECK;
int sz_device_write(struct sz_device *, uint64_t sector, uint32_t count,
		    const void *buffer) MUST_CHECK;
int sz_device_trim(struct sz_device *, uint64_t sector, uint64_t count) MUST_CHECK;
/*
 * After -ENOSPC of a write or TRIM that began at since_ns (sz_clock_ns): lets history go, then the store's spare, then seals
 * what is logged. 0: it is worth trying again.
 */
int sz_device_make_room(struct sz_device *, uint64_t since_ns) MUST_CHECK;
/* When it returns 0, all that completed before the call is durable. A failure is sticky. */
int sz_device_flush(struct sz_device *) MUST_CHECK;

/*
 * The same by bytes, for who uses a device as a disk: any offset and length within it (else -EINVAL), any number of threads.
 * Room is made for what is written; -ENOSPC: there is none. Of a sector that is changed in part the rest stays what it
 * is, whatever others write into it by these functions; if it is damaged, that is -EBADMSG, and it stays so. After an error
 * some of the range may be changed. _read: -EBADMSG, and the content is undefined. _zero: whole sectors are trimmed.
 */
int sz_device_read_bytes(struct sz_device *, uint64_t offset, uint32_t length,
			 void *buffer) MUST_CHECK;
int sz_device_write_bytes(struct sz_device *, uint64_t offset, uint32_t length,
			  const void *buffer) MUST_CHECK;
int sz_device_zero_bytes(struct sz_device *, uint64_t offset, uint64_t length) MUST_CHECK;
/*
 * What is at offset: a hole, that was never written or is trimmed, or data (what is not known is data). *length_out: for
 * how far, 1 … length; it may go on behind it.
 */
int sz_device_extent(struct sz_device *, uint64_t offset, uint64_t length, uint64_t *length_out,
		     bool *is_hole_out) MUST_CHECK;

#endif
