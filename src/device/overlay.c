/*
 * overlay: a red-black tree of extents, by their first sector.
 *
 * Invariants
 * 1. Extents do not overlap, and none is empty.
 * 2. data_sectors and extent_count are the sums over the tree.
 * 3. An insertion allocates all that it needs before it changes anything.
 */
#include "device/overlay.h"

#include <errno.h>

static int extent_compare(const struct sz_extent *a, const struct sz_extent *b)
{
	return a->sector < b->sector ? -1 : a->sector > b->sector;
}

/* RB_GENERATE_STATIC of libbsd uses a macro that libbsd does not define outside its overlay mode. */
RB_GENERATE_INTERNAL(sz_extent_tree, sz_extent, node, extent_compare,
		     static __attribute__((unused)))

static uint64_t extent_end(const struct sz_extent *extent)
{
	return extent->sector + extent->count;
}

static void extent_free(struct sz_extent *extent)
{
	if (extent == NULL)
		return;
	free(extent->nonce_tags);
	free(extent);
}

/* A copy of count sectors of an extent, from its skip-th on. NULL: no memory. */
static struct sz_extent *extent_slice(const struct sz_extent *from, uint64_t skip, uint64_t count)
{
	struct sz_extent *slice = calloc(1, sizeof(*slice));

	if (slice == NULL)
		return NULL;
	slice->sector = from->sector + skip;
	slice->count = count;
	slice->state = from->state;
	if (from->state != SZ_OVERLAY_DATA)
		return slice;
	slice->source = from->source;
	slice->place = from->place + skip;
	slice->nonce_tags = malloc(count * SZ_NONCE_TAG_BYTES);
	if (slice->nonce_tags == NULL) {
		free(slice);
		return NULL;
	}
	memcpy(slice->nonce_tags, from->nonce_tags + skip * SZ_NONCE_TAG_BYTES,
	       count * SZ_NONCE_TAG_BYTES);
	return slice;
}

static void tree_add(struct sz_overlay *overlay, struct sz_extent *extent)
{
	if (extent == NULL)
		return;
	(void)RB_INSERT(sz_extent_tree, &overlay->tree, extent);
	overlay->extent_count++;
	if (extent->state == SZ_OVERLAY_DATA)
		overlay->data_sectors += extent->count;
}

static void tree_remove(struct sz_overlay *overlay, struct sz_extent *extent)
{
	(void)RB_REMOVE(sz_extent_tree, &overlay->tree, extent);
	overlay->extent_count--;
	if (extent->state == SZ_OVERLAY_DATA)
		overlay->data_sectors -= extent->count;
	extent_free(extent);
}

/* The extent with the largest first sector that is not above sector. */
static struct sz_extent *extent_floor(struct sz_overlay *overlay, uint64_t sector)
{
	struct sz_extent *at = RB_ROOT(&overlay->tree);
	struct sz_extent *found = NULL;

	while (at != NULL) {
		if (at->sector <= sector) {
			found = at;
			at = RB_RIGHT(at, node);
		} else {
			at = RB_LEFT(at, node);
		}
	}
	return found;
}

static struct sz_extent *extent_find(struct sz_overlay *overlay, uint64_t sector)
{
	struct sz_extent *extent = extent_floor(overlay, sector);

	if (extent == NULL)
		return RB_MIN(sz_extent_tree, &overlay->tree);
	return extent_end(extent) > sector ? extent : RB_NEXT(sz_extent_tree, , extent);
}

void sz_overlay_init(struct sz_overlay *overlay)
{
	*overlay = (struct sz_overlay){ .tree = RB_INITIALIZER(&overlay->tree) };
}

void sz_overlay_fini(struct sz_overlay *overlay)
{
	struct sz_extent *extent;

	while ((extent = RB_ROOT(&overlay->tree)) != NULL)
		tree_remove(overlay, extent);
}

int sz_overlay_insert(struct sz_overlay *overlay, const struct sz_extent *extent)
{
	uint64_t end = extent_end(extent);
	struct sz_extent *first = extent_find(overlay, extent->sector);
	struct sz_extent *last = extent_floor(overlay, end - 1);
	struct sz_extent *head = NULL; /* what is left of the first one that overlaps */
	struct sz_extent *tail = NULL; /* and of the last */
	struct sz_extent *added = extent_slice(extent, 0, extent->count);
	bool has_head = first != NULL && first->sector < extent->sector;
	bool has_tail = last != NULL && extent_end(last) > end;

	if (has_head)
		head = extent_slice(first, 0, extent->sector - first->sector);
	if (has_tail)
		tail = extent_slice(last, end - last->sector, extent_end(last) - end);
	if (added == NULL || (has_head && head == NULL) || (has_tail && tail == NULL)) {
		extent_free(added);
		extent_free(head);
		extent_free(tail);
		return -ENOMEM;
	}
	while (first != NULL && first->sector < end) {
		struct sz_extent *next = RB_NEXT(sz_extent_tree, , first);

		tree_remove(overlay, first);
		first = next;
	}
	tree_add(overlay, head);
	tree_add(overlay, added);
	tree_add(overlay, tail);
	return 0;
}

void sz_overlay_remove_source(struct sz_overlay *overlay, uint64_t sector, uint64_t count,
			      uint32_t source)
{
	struct sz_extent *extent = extent_find(overlay, sector);

	while (extent != NULL && extent->sector < sector + count) {
		struct sz_extent *next = RB_NEXT(sz_extent_tree, , extent);

		if (extent->state == SZ_OVERLAY_DATA && extent->source == source)
			tree_remove(overlay, extent);
		extent = next;
	}
}

const struct sz_extent *sz_overlay_find(struct sz_overlay *overlay, uint64_t sector)
{
	return extent_find(overlay, sector);
}

const struct sz_extent *sz_overlay_next(const struct sz_extent *extent)
{
	/* The macro's argument is not const; the tree is not changed. */
	union {
		const struct sz_extent *in;
		struct sz_extent *out;
	} cast = { .in = extent };

	return RB_NEXT(sz_extent_tree, , cast.out);
}
