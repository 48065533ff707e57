/*
 * overlay: what the live epoch supersedes, in memory: a map from sectors to where their newest
 * content is. Private to device; it knows nothing of files.
 */
#ifndef SZ_DEVICE_OVERLAY_H
#define SZ_DEVICE_OVERLAY_H

#include <bsd/sys/tree.h>

#include "base/base.h"
#include "crypto/crypto.h"

enum sz_overlay_state {
	SZ_OVERLAY_DATA,
	SZ_OVERLAY_TOMBSTONE, /* reads as zeros */
	SZ_OVERLAY_POISON,    /* damaged: known not to be known */
};

/* Consecutive sectors whose content is at consecutive places of one source. */
struct sz_extent {
	uint64_t sector; /* the first */
	uint64_t count;  /* sectors */
	enum sz_overlay_state state;
	uint32_t source;     /* DATA: which file; the caller's numbering */
	uint64_t place;      /* DATA: where the first sector is in it; the next is at place + 1 */
	uint8_t *nonce_tags; /* DATA: count × SZ_NONCE_TAG_BYTES, the extent's own; else NULL */
	RB_ENTRY(sz_extent) node;
};
RB_HEAD(sz_extent_tree, sz_extent);

/* The caller locks. */
struct sz_overlay {
	struct sz_extent_tree tree;
	uint64_t data_sectors; /* in extents of state DATA: what bounds the memory */
	uint64_t extent_count;
};

void sz_overlay_init(struct sz_overlay *overlay);
void sz_overlay_fini(struct sz_overlay *overlay);

/*
 * Puts an extent in place of whatever stood at its sectors; what overlaps is cut. The nonces and
 * tags are copied. -ENOMEM: nothing has changed.
 */
int sz_overlay_insert(struct sz_overlay *overlay, const struct sz_extent *extent) MUST_CHECK;

/* Removes the DATA extents of a source that begin in a range. */
void sz_overlay_remove_source(struct sz_overlay *overlay, uint64_t sector, uint64_t count,
			      uint32_t source);

/* The first extent that ends behind sector: it covers it, or begins later. NULL: there is none. */
const struct sz_extent *sz_overlay_find(struct sz_overlay *overlay, uint64_t sector);
/* The one after it, in the order of sectors. */
const struct sz_extent *sz_overlay_next(const struct sz_extent *extent);

#endif
