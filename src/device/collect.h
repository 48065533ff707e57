/*
 * collect: what a store keeps of its history, and how the rest is removed. Private to device; a part of
 * device_internal.h. All of it is guarded by seal_lock.
 */
#ifndef SZ_DEVICE_COLLECT_H
#define SZ_DEVICE_COLLECT_H

#include "device/device.h"
#include "device/retain.h"
#include "format/format.h"
#include "store/store.h"

struct generation;

/* id_set.c: a set of ids; all zeros: empty */
struct id_set {
	struct sz_id *slots;
	size_t capacity; /* a power of two */
	size_t count;
};

int sz_id_set_add(struct id_set *set, const struct sz_id *id) MUST_CHECK; /* not the id of zeros */
bool sz_id_set_has(const struct id_set *set, const struct sz_id *id);
void sz_id_set_free(struct id_set *set);

/* refs.c: the index pages of all generations that were looked at, each once */
struct index_page;
struct refs {
	struct index_page **buckets;
	size_t bucket_count;
	size_t page_count;
	uint64_t walk; /* the last one's number */
};
/* Reads what is not known yet. -EBADMSG: an index page cannot be read, the others were; other errors may pass. */
int sz_refs_load(struct sz_store *store, struct generation *generation) MUST_CHECK;
void sz_refs_release(struct sz_store *store, struct generation *generation);
void sz_refs_fini(struct refs *refs);
/*
 * Calls each for the root and all that a generation refers to (if it is loaded), but for what hangs on index pages by which
 * this walk has come already. An id may come several times. A value other than 0 ends it.
 */
typedef int refs_fn(void *context, const struct sz_id *id);
void sz_refs_walk_begin(struct refs *refs);
int sz_refs_walk(const struct refs *refs, const struct generation *generation, refs_fn *each,
		 void *context) MUST_CHECK;
/* Loads it, and adds all that it refers to. */
int sz_refs_gather(struct sz_store *store, struct generation *generation,
		   struct id_set *set) MUST_CHECK;

/* collect.c */
struct collector { /* all zeros at first */
	struct refs refs;
	bool has_recovered;    /* the live files of an opening that was here, and ended … */
	uint8_t recovered[16]; /* … with this lineage … */
	bool has_all_logs;     /* … and none of its logs is lost */
	struct id_set spared;  /* a reader came while their root was being removed */
	bool has_looked;       /* for what no generation refers to */
	bool is_broken;        /* a folder could not be synced: nothing is removed any more */
	char problem[200];     /* why nothing is removed; "": it may be */
};

struct retention {
	struct generation **line; /* the newest generation and its ancestors, oldest first */
	struct sz_retained *retained;
	size_t count;
	uint64_t store_bytes; /* of the newest one's bands and deltas */
	uint64_t budget_bytes;
	uint64_t history_bytes; /* only older ones that are kept refer to it */
	uint64_t due_bytes;     /* only those that are not */
};
/*
 * What a policy keeps. Errors: it cannot be told; collector.problem says why. with_foreign: also what other
 * histories refer to is looked at.
 */
int sz_retention_make(struct sz_store *store, const struct sz_keep_policy *policy,
		      bool with_foreign, struct retention *retention_out) MUST_CHECK;
/* Is all known that those refer to which are kept? -EBADMSG: no, nothing may be removed; collector.problem says why. */
int sz_retention_check(struct sz_store *store, const struct retention *retention) MUST_CHECK;
/* To be called when reasons were changed: some stay for others' sake. */
void sz_retention_link(struct sz_store *store, struct retention *retention);
void sz_retention_free(struct retention *retention);

struct gathering { /* ids, and what those that are new take */
	struct sz_store *store;
	struct id_set *set;
	bool with_bytes;
	uint64_t bytes;
	uint64_t count;
};
int sz_gather(void *context, const struct sz_id *id) MUST_CHECK; /* a refs_fn */
/* What stays, and what memory refers to; with_foreign: and what other histories do. */
int sz_gather_kept(struct sz_store *store, const struct retention *retention, bool with_foreign,
		   struct id_set *set) MUST_CHECK;
/* Removes the root, unless somebody holds it. False: it is still there. */
bool sz_generation_remove(struct sz_store *store, struct generation *generation);
/* Makes that last: before, nothing that it referred to may be removed. */
int sz_roots_sync(struct sz_store *store) MUST_CHECK;

enum collect_mode {
	COLLECT_SEALED, /* after a seal: what is due, if there is enough of it */
	COLLECT_DUE,
	COLLECT_HISTORY, /* all but the newest, and what is held */
};
/*
 * Removes generations that are kept no more, and what only they refer to. An error: nothing was removed,
 * collector.problem says why.
 */
int sz_collect(struct sz_store *store, enum collect_mode mode) MUST_CHECK;
/* Says why, and returns result. */
int sz_collect_fail(const struct sz_store *store, int result, struct sz_error *error);
/*
 * For lack of space: the oldest go that may, until so much has come free. -ENOSPC: none may. Allowed while an epoch is
 * being sealed, too.
 */
int sz_collect_space(struct sz_store *store, uint64_t wanted_bytes) MUST_CHECK;
/* Removes an object's files from all folders; those in one part. */
void sz_object_remove(struct sz_store *store, const struct sz_id *id);
void sz_part_remove(struct sz_store *store, const struct sz_id *id, enum sz_part part);

/* foreign.c */
/* Removes what failed seals, crashes and broken-off collections of ours left. kept: all that is referred to. */
int sz_orphans_collect(struct sz_store *store, const struct id_set *kept) MUST_CHECK;
/* Once a writable store is open: what live files of earlier openings are left, unless another's may be among them. */
void sz_collect_live(struct sz_store *store);
/*
 * Before what an opening left is sealed: removes what it was building when it ended, of which the seal may need the space.
 * What its logs refer to stays.
 */
void sz_collect_recovered(struct sz_store *store);

#endif
