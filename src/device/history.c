/*
 * history: the generations whose roots are in the folders, of whatever history, and how they descend from each
 * other. It reads roots alone; what a root refers to is survey.c's affair.
 *
 * 1. A generation is its root's digest. Its number is for people, and unique within one history only.
 * 2. X is an ancestor of Y if it is Y, an earlier generation of Y's lineage, or covered by Y's list of ancestors:
 *    not later than the last generation of its lineage that the list names. Where the list of Y ends
 *    (it has SZ_ANCESTRY_MAX lineages at most), that of its oldest ancestor that is here goes on.
 * 3. A lineage is one writable opening, unless a machine was cloned while the store was open: then its
 *    generations contradict each other somewhere (two of a number, a parent that is another, sequence
 *    numbers that go back). From there on only the chain of parents counts, as far as it is here:
 *    what cannot be shown to be an ancestor is none, and so is kept.
 *
 * A root of which no copy is whole is remembered: nothing can be said of what it refers to.
 */
#include "device/device_internal.h"

#include <errno.h>

static uint64_t id_generation(const struct sz_id *id)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	return sz_id_parse(id, &kind, &device, &generation) == 0 ? generation : 0;
}

static bool is_of_lineage(const struct generation *generation, const uint8_t lineage[16])
{
	return memcmp(generation->root.lineage, lineage, sizeof(generation->root.lineage)) == 0;
}

void sz_generation_free(struct generation **generation)
{
	if (*generation == NULL)
		return;
	sz_root_free(&(*generation)->root);
	free((*generation)->pages);
	free(*generation);
	*generation = NULL;
}

struct generation *sz_generation_make(const struct sz_root *root)
{
	CLEANUP(sz_generation_free) struct generation *copy = calloc(1, sizeof(*copy));

	if (copy == NULL || sz_root_copy(root, &copy->root) != 0)
		return NULL;
	return TAKE(copy);
}

void sz_history_free(struct history *history)
{
	for (size_t i = 0; i < history->count; i++)
		sz_generation_free(&history->at[i]);
	free(history->at);
	free(history->lost);
	*history = (struct history){ 0 };
}

const struct generation *sz_history_find(const struct history *history,
					 const uint8_t digest[SZ_DIGEST_BYTES])
{
	for (size_t i = 0; i < history->count; i++)
		if (!history->at[i]->is_leaving &&
		    memcmp(history->at[i]->digest, digest, SZ_DIGEST_BYTES) == 0)
			return history->at[i];
	return NULL;
}

/* The one of the same lineage that comes before it by number, if any is here. */
static struct generation *earlier_find(const struct history *history, size_t at)
{
	for (size_t i = at + 1; i < history->count; i++)
		if (is_of_lineage(history->at[i], history->at[at]->root.lineage))
			return history->at[i];
	return NULL;
}

/* Can both be of one history, as far as the two of them say? */
static bool contradicts(const struct generation *earlier, const struct generation *later)
{
	if (earlier->root.generation == later->root.generation ||
	    earlier->root.next_sequence > later->root.next_sequence ||
	    earlier->root.store_time_ns > later->root.store_time_ns)
		return true;
	return earlier->root.generation + 1 == later->root.generation &&
	       memcmp(earlier->digest, later->root.parent, SZ_DIGEST_BYTES) != 0;
}

static uint64_t split_of_lineage(const struct history *history, const uint8_t lineage[16])
{
	for (size_t i = 0; i < history->count; i++)
		if (is_of_lineage(history->at[i], lineage))
			return history->at[i]->split_from;
	return UINT64_MAX;
}

static void split_note(const struct history *history, const uint8_t lineage[16], uint64_t from)
{
	for (size_t i = 0; i < history->count; i++)
		if (is_of_lineage(history->at[i], lineage) && from < history->at[i]->split_from)
			history->at[i]->split_from = from;
}

static int newest_first(const void *a, const void *b)
{
	const struct generation *left = *(struct generation *const *)a;
	const struct generation *right = *(struct generation *const *)b;

	if (left->root.generation != right->root.generation)
		return left->root.generation > right->root.generation ? -1 : 1;
	return memcmp(left->digest, right->digest, SZ_DIGEST_BYTES);
}

/* After every change: order, parents, where lineages split, heads. */
static void history_link(struct history *history)
{
	if (history->count > 1)
		qsort(history->at, history->count, sizeof(struct generation *), newest_first);
	for (size_t i = 0; i < history->count; i++) {
		struct generation *generation = history->at[i];

		generation->parent = sz_history_find(history, generation->root.parent);
		if (generation->parent != NULL &&
		    generation->parent->root.generation >= generation->root.generation)
			generation->parent = NULL; /* impossible: no chain may run in circles */
		generation->split_from = UINT64_MAX;
	}
	for (size_t i = 0; i < history->count; i++) {
		const struct generation *earlier = earlier_find(history, i);

		if (earlier != NULL && contradicts(earlier, history->at[i]))
			split_note(history, earlier->root.lineage, earlier->root.generation);
	}
	for (size_t i = 0; i < history->count; i++) {
		struct generation *generation = history->at[i];
		struct sz_ancestor identity;

		sz_generation_identity(generation, &identity);
		generation->is_head = true;
		for (size_t j = 0; j < i && generation->is_head; j++)
			generation->is_head =
				!sz_history_is_ancestor(history, &identity, history->at[j]);
	}
}

int sz_history_room(struct history *history)
{
	struct generation **grown =
		realloc(history->at, (history->count + 1) * sizeof(struct generation *));

	if (grown == NULL)
		return -ENOMEM;
	history->at = grown;
	return 0;
}

void sz_history_add(struct history *history, struct generation *generation)
{
	history->at[history->count++] = generation;
	history_link(history);
}

void sz_history_drop(struct history *history, const struct sz_id *id)
{
	size_t kept = 0;

	for (size_t i = 0; i < history->count; i++) {
		if (memcmp(&history->at[i]->id, id, sizeof(*id)) == 0)
			sz_generation_free(&history->at[i]);
		else
			history->at[kept++] = history->at[i];
	}
	history->count = kept;
	history_link(history);
}

/* One that stands in live/ alone was never finished: nothing refers to it, and it refers to nothing. */
static bool is_sealed(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->part == SZ_SEALED)
			return true;
	return false;
}

static int lost_add(struct sz_store *store, const struct sz_id *id, int error)
{
	struct history *history = &store->history;
	struct lost_root *grown;

	if (error == -EBADMSG && !is_sealed(store, id))
		return 0;
	grown = realloc(history->lost, (history->lost_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	history->lost = grown;
	history->lost[history->lost_count++] =
		(struct lost_root){ .id = *id, .generation = id_generation(id), .error = error };
	return 0;
}

static int generation_load(struct sz_store *store, const struct sz_id *id)
{
	CLEANUP(sz_generation_free) struct generation *generation = calloc(1, sizeof(*generation));
	int result;

	if (generation == NULL)
		return -ENOMEM;
	result = sz_root_read(store, id, &generation->root, generation->digest);
	if (result == -ENOMEM)
		return result;
	if (result != 0)
		return lost_add(store, id, result);
	generation->id = *id;
	result = sz_history_room(&store->history);
	if (result == 0)
		store->history.at[store->history.count++] = TAKE(generation);
	return result;
}

int sz_history_load(struct sz_store *store)
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	size_t count = 0;
	int result;

	sz_history_free(&store->history);
	(void)sz_catalog_identify(store, ROOT_FILE_MAX); /* roots come back under any name */
	result = sz_catalog_ids(store, SZ_KIND_ROOT, &ids, &count);
	for (size_t i = 0; i < count && result == 0; i++)
		result = generation_load(store, &ids[i]);
	if (result == 0)
		history_link(&store->history);
	return result;
}

void sz_generation_identity(const struct generation *generation, struct sz_ancestor *identity_out)
{
	memcpy(identity_out->lineage, generation->root.lineage, sizeof(identity_out->lineage));
	identity_out->generation = generation->root.generation;
	memcpy(identity_out->digest, generation->digest, sizeof(identity_out->digest));
}

/*
 * Is x, of the same lineage as end, on the way to it? chain: the generation that end stands for, if it
 * is here.
 */
static bool is_before(const struct history *history, const struct sz_ancestor *x,
		      const struct sz_ancestor *end, const struct generation *chain)
{
	if (x->generation > end->generation)
		return false;
	if (x->generation == end->generation)
		return memcmp(x->digest, end->digest, sizeof(x->digest)) == 0;
	while (chain != NULL && !chain->is_leaving && chain->root.generation > x->generation)
		chain = chain->parent;
	if (chain != NULL && !chain->is_leaving && chain->root.generation == x->generation)
		return memcmp(x->digest, chain->digest, sizeof(x->digest)) == 0;
	return x->generation < split_of_lineage(history, x->lineage);
}

/* The oldest ancestor that y lists and that is here: its own list goes on where that of y ends. */
static const struct generation *oldest_listed(const struct history *history,
					      const struct generation *y)
{
	for (uint32_t i = y->root.ancestor_count; i > 0; i--) {
		const struct generation *here =
			sz_history_find(history, y->root.ancestors[i - 1].digest);

		if (here != NULL && here->root.generation < y->root.generation)
			return here;
	}
	return NULL;
}

bool sz_history_is_ancestor(const struct history *history, const struct sz_ancestor *x,
			    const struct generation *y)
{
	for (; y != NULL; y = oldest_listed(history, y)) {
		if (is_of_lineage(y, x->lineage)) {
			struct sz_ancestor end;

			sz_generation_identity(y, &end);
			return is_before(history, x, &end, y);
		}
		for (uint32_t i = 0; i < y->root.ancestor_count; i++) {
			const struct sz_ancestor *end = &y->root.ancestors[i];

			if (memcmp(end->lineage, x->lineage, sizeof(x->lineage)) == 0)
				return is_before(history, x, end,
						 sz_history_find(history, end->digest));
		}
	}
	return false;
}

bool sz_history_has_made(const struct history *history, const uint8_t lineage[16],
			 uint64_t generation, const struct generation *y)
{
	if (generation >= split_of_lineage(history, lineage))
		return false;
	for (; y != NULL; y = oldest_listed(history, y)) {
		if (is_of_lineage(y, lineage))
			return generation <= y->root.generation;
		for (uint32_t i = 0; i < y->root.ancestor_count; i++)
			if (memcmp(y->root.ancestors[i].lineage, lineage, 16) == 0)
				return generation <= y->root.ancestors[i].generation;
	}
	return false;
}

bool sz_history_has_lineage(const struct history *history, const uint8_t lineage[16],
			    const struct generation *y)
{
	struct sz_ancestor first = { .generation = 0 };

	/* No generation has the number 0: where the lineage counts at all, it comes before all others. */
	memcpy(first.lineage, lineage, sizeof(first.lineage));
	return sz_history_is_ancestor(history, &first, y);
}

static bool descends(const struct history *history, const struct generation *y,
		     const struct generation *x)
{
	struct sz_ancestor identity;

	sz_generation_identity(x, &identity);
	return sz_history_is_ancestor(history, &identity, y);
}

void sz_history_bind(struct history *history, const struct generation *newest)
{
	for (size_t i = history->count; i > 0; i--) {
		const struct generation *kept = history->at[i - 1];

		/* The first above it that is leaving, and would show it to be an ancestor, stays. */
		for (size_t j = i - 1; j > 0 && !kept->is_leaving; j--) {
			struct generation *link = history->at[j - 1];

			if (descends(history, newest, kept))
				break;
			if (!link->is_leaving)
				continue;
			link->is_leaving = false;
			link->is_leaving =
				!descends(history, link, kept) || !descends(history, newest, link);
		}
	}
}
