/*
 * History: which generation descends from which, by roots alone; and what of a generation is there. The first
 * part makes roots up, the second takes objects away from a store.
 */
#include "damage.h"

#include "device/device_internal.h"

#include <inttypes.h>

#define DEVICES 4U

/* A root of a made-up history. Lineages and digests are named by a letter and a number. */
static struct generation *made(struct history *history, char lineage, uint64_t number,
			       const struct generation *parent)
{
	struct sz_root root = { .generation = number };
	struct generation *generation;

	memset(root.lineage, lineage, sizeof(root.lineage));
	root.next_sequence = number * 100;
	root.store_time_ns = number * 1000;
	if (parent != NULL) {
		bool is_new = memcmp(parent->root.lineage, root.lineage, 16) != 0;
		uint32_t kept = parent->root.ancestor_count;

		memcpy(root.parent, parent->digest, sizeof(root.parent));
		if (is_new && kept == SZ_ANCESTRY_MAX)
			kept--;
		root.ancestor_count = kept + is_new;
		root.ancestors = calloc(root.ancestor_count + 1, sizeof(*root.ancestors));
		assert_non_null(root.ancestors);
		if (is_new)
			sz_generation_identity(parent, &root.ancestors[0]);
		memcpy(root.ancestors + is_new, parent->root.ancestors,
		       kept * sizeof(*root.ancestors));
	}
	generation = sz_generation_make(&root);
	assert_non_null(generation);
	sz_random(generation->digest, sizeof(generation->digest));
	sz_id_make(SZ_KIND_ROOT, SZ_STORE_WIDE, number, sz_get_le64(generation->digest),
		   &generation->id);
	sz_root_free(&root);
	OK(sz_history_room(history));
	sz_history_add(history, generation);
	return generation;
}

static bool descends(const struct history *history, const struct generation *y,
		     const struct generation *x)
{
	struct sz_ancestor identity;

	sz_generation_identity(x, &identity);
	return sz_history_is_ancestor(history, &identity, y);
}

/* Takes a root away, but leaves what it was to look at. */
static void collected(struct history *history, const struct generation *generation)
{
	struct sz_id id = generation->id;

	sz_history_drop(history, &id);
}

static size_t heads(const struct history *history)
{
	size_t count = 0;

	for (size_t i = 0; i < history->count; i++)
		count += history->at[i]->is_head;
	return count;
}

static void test_one_line(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *a1 = made(&history, 'a', 1, NULL);
	struct generation *a2 = made(&history, 'a', 2, a1);
	struct generation *b3 = made(&history, 'b', 3, a2);
	struct generation *b4 = made(&history, 'b', 4, b3);

	(void)state;
	assert_int_equal(heads(&history), 1);
	assert_true(b4->is_head);
	assert_true(descends(&history, b4, a1) && descends(&history, b4, a2));
	assert_true(descends(&history, b4, b3) && descends(&history, b4, b4));
	assert_false(descends(&history, a2, b3));
	assert_false(descends(&history, b3, b4));
	/* Without what lies between, the list and the numbers say it. */
	collected(&history, b3);
	collected(&history, a2);
	assert_true(descends(&history, b4, a1));
	assert_int_equal(heads(&history), 1);
}

/* Both copies of a store were opened and written to. */
static void test_a_fork(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *a1 = made(&history, 'a', 1, NULL);
	struct generation *a2 = made(&history, 'a', 2, a1);
	struct generation *a3 = made(&history, 'a', 3, a2);
	struct generation *b3 = made(&history, 'b', 3, a2);
	struct generation *b4 = made(&history, 'b', 4, b3);

	(void)state;
	assert_int_equal(heads(&history), 2);
	assert_true(a3->is_head && b4->is_head);
	assert_false(descends(&history, b4, a3)); /* later than what b's list names of a */
	assert_true(descends(&history, b4, a2));
	collected(&history, a2);
	collected(&history, b3);
	assert_int_equal(heads(&history), 2);
	assert_false(descends(&history, b4, a3));
	assert_true(descends(&history, b4, a1) && descends(&history, a3, a1));
}

/* A machine was cloned while the store was open: one lineage, two histories. */
static void test_a_clone(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *a1 = made(&history, 'a', 1, NULL);
	struct generation *a2 = made(&history, 'a', 2, a1);
	struct generation *a3 = made(&history, 'a', 3, a2);
	struct generation *other3 = made(&history, 'a', 3, a2);
	struct generation *a4 = made(&history, 'a', 4, a3);
	struct generation *a5 = made(&history, 'a', 5, a4);

	(void)state;
	assert_int_equal(heads(&history), 2);
	assert_true(a5->is_head && other3->is_head);
	assert_false(descends(&history, a5, other3));
	assert_true(descends(&history, a5, a3) && descends(&history, a5, a2));
	/* The chain breaks: what stands behind the split cannot be told, what is before it can. */
	collected(&history, a4);
	assert_false(descends(&history, a5, other3));
	assert_false(descends(&history, a5, a3));
	assert_true(descends(&history, a5, a1));
}

/* The same, but no number is there twice: what a machine wrote more than the other gives it away. */
static void test_a_clone_told_by_its_sequence(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *a1 = made(&history, 'a', 1, NULL);
	struct generation *a3 = made(&history, 'a', 3, a1);
	struct generation *other5 = made(&history, 'a', 5, a1);
	struct generation *a7 = made(&history, 'a', 7, a3);

	(void)state;
	assert_int_equal(heads(&history), 1); /* nothing tells */
	other5->root.next_sequence = 100000;
	collected(&history, made(&history, 'z', 1, NULL)); /* linked anew */
	assert_false(descends(&history, a7, other5));
	assert_true(descends(&history, a7, a3)); /* its parent: the chain is here */
	assert_int_equal(heads(&history), 2);
}

/* A parent that is another than the generation before. */
static void test_a_clone_told_by_its_parent(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *a1 = made(&history, 'a', 1, NULL);
	struct generation *a2 = made(&history, 'a', 2, a1);
	struct generation *other2 = made(&history, 'a', 2, a1);
	struct generation *other3 = made(&history, 'a', 3, other2);

	(void)state;
	collected(&history, other2);
	assert_false(descends(&history, other3, a2));
	assert_int_equal(heads(&history), 2);
	assert_true(descends(&history, other3, a1));
}

/* More lineages than a list holds: through the lists of ancestors that are here. */
static void test_more_lineages_than_listed(void **state)
{
	CLEANUP(sz_history_free) struct history history = { 0 };
	struct generation *all[3 * SZ_ANCESTRY_MAX];

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(all); i++) {
		all[i] = made(&history, 'a', i + 1, i == 0 ? NULL : all[i - 1]);
		memset(all[i]->root.lineage, 0, sizeof(all[i]->root.lineage));
		sz_put_le64(all[i]->root.lineage, i + 1);
		if (i > 0) { /* as it would have been, had the lineage been that */
			struct sz_root *root = &all[i]->root;
			const struct sz_root *before = &all[i - 1]->root;
			uint32_t kept = before->ancestor_count;

			kept = kept == SZ_ANCESTRY_MAX ? kept - 1 : kept;
			free(root->ancestors);
			root->ancestors = calloc(kept + 1U, sizeof(*root->ancestors));
			assert_non_null(root->ancestors);
			sz_generation_identity(all[i - 1], &root->ancestors[0]);
			if (kept > 0)
				memcpy(root->ancestors + 1, before->ancestors,
				       kept * sizeof(*root->ancestors));
			root->ancestor_count = kept + 1;
		}
	}
	collected(&history, made(&history, 'z', 1, NULL)); /* linked anew */
	assert_int_equal(heads(&history), 1);
	assert_true(descends(&history, all[ARRAY_LENGTH(all) - 1], all[0]));
	assert_false(descends(&history, all[0], all[ARRAY_LENGTH(all) - 1]));
	/* Nothing between: it cannot be told any more, and is kept. */
	while (history.count > 2)
		collected(&history, history.at[1]);
	assert_false(descends(&history, history.at[0], history.at[1]));
	assert_int_equal(heads(&history), 2);
}

static void test_a_set(void **state)
{
	CLEANUP(sz_id_set_free) struct id_set set = { 0 };
	struct sz_id ids[3000];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(ids); i++)
		sz_id_make(SZ_KIND_BAND, 1, i / 7, i * 4096, &ids[i]);
	for (size_t i = 0; i < 2000; i++)
		OK(sz_id_set_add(&set, &ids[i % 1500]));
	assert_int_equal(set.count, 1500);
	for (size_t i = 0; i < ARRAY_LENGTH(ids); i++)
		assert_int_equal(sz_id_set_has(&set, &ids[i]), i < 1500);
}

/* What is there. */

static enum sz_wholeness wholeness(struct harness *harness, size_t at,
				   char text[SZ_MISSING_TEXT_BYTES])
{
	CLEANUP(sz_survey_free) struct survey survey = { 0 };
	enum sz_wholeness found = SZ_INCOMPLETE;

	assert_true(at < harness->store->history.count);
	OK(sz_generation_survey(harness->store, &survey, harness->store->history.at[at], &found,
				text));
	return found;
}

/* Removes the objects of a kind that these devices (a bit for each) have; or cuts their last byte off. */
static void lose_objects(struct harness *harness, enum sz_kind kind, unsigned int devices,
			 enum form form)
{
	struct objects objects;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == kind && objects.list[i].device < DEVICES &&
		    (devices >> objects.list[i].device & 1) != 0)
			damage_object(harness, &objects.list[i], form, NULL);
	objects_free(&objects);
}

static void check_loss(enum sz_kind kind, unsigned int devices, enum form form,
		       enum sz_wholeness want, const char *text)
{
	char found[SZ_MISSING_TEXT_BYTES];
	struct harness harness;
	enum sz_wholeness got;

	spread_init(&harness, DEVICES, 21);
	lose_objects(&harness, kind, devices, form);
	OK(harness_try_open(&harness, true));
	got = wholeness(&harness, 0, found);
	if (got != want || (text != NULL && strcmp(found, text) != 0))
		fail_msg("kind %d of devices %#x %s: %d '%s'", (int)kind, devices, form_name(form),
			 (int)got, found);
	harness_abandon(&harness);
	harness_fini(&harness);
}

/* With a parity of 2. */
static void test_what_is_missing(void **state)
{
	(void)state;
	check_loss(SZ_KIND_BAND, 0, FORM_DELETED, SZ_COMPLETE, "");
	check_loss(SZ_KIND_BAND, 15, FORM_RENAMED, SZ_COMPLETE, "");
	check_loss(SZ_KIND_BAND, 15, FORM_MOVED, SZ_COMPLETE, "");
	check_loss(SZ_KIND_BAND, 1, FORM_DELETED, SZ_RECOVERABLE, "3 bands of 1 device");
	check_loss(SZ_KIND_BAND, 3, FORM_CUT_LAST, SZ_RECOVERABLE, "6 bands of 2 devices");
	check_loss(SZ_KIND_BAND, 7, FORM_DELETED, SZ_INCOMPLETE, "9 bands of 3 devices");
	check_loss(SZ_KIND_DELTA, 3, FORM_GROWN, SZ_RECOVERABLE, "4 deltas of 2 devices");
	check_loss(SZ_KIND_DELTA, 7, FORM_DELETED, SZ_INCOMPLETE, NULL);
	check_loss(SZ_KIND_HOT, 2, FORM_DELETED, SZ_RECOVERABLE, "1 hot image of 1 device");
	check_loss(SZ_KIND_HOT, 7, FORM_DELETED, SZ_INCOMPLETE, NULL);
	check_loss(SZ_KIND_INDEX, 8, FORM_RANDOM, SZ_RECOVERABLE, NULL);
	check_loss(SZ_KIND_INDEX, 14, FORM_DELETED, SZ_INCOMPLETE, NULL);
}

/* Bands of two devices and the deltas of a third, but not over the same sectors. */
static void test_hurt_apart(void **state)
{
	char text[SZ_MISSING_TEXT_BYTES];
	struct harness harness;
	struct objects objects;

	(void)state;
	for (unsigned int same = 0; same < 2; same++) {
		spread_init(&harness, DEVICES, 22);
		objects_list(&harness, &objects);
		for (size_t i = 0; i < objects.count; i++) {
			const struct object *object = &objects.list[i];

			/* The delta of generation 3 covers sectors 520 to 549. */
			if ((object->kind == SZ_KIND_BAND && object->device < 2 &&
			     object_base_sector(&harness, &objects, object) ==
				     (same != 0 ? 512 : 256)) ||
			    (object->kind == SZ_KIND_DELTA && object->device == 2 &&
			     object->generation == 3))
				object_remove(&harness, object);
		}
		objects_free(&objects);
		OK(harness_try_open(&harness, true));
		assert_int_equal(wholeness(&harness, 0, text),
				 same != 0 ? SZ_INCOMPLETE : SZ_RECOVERABLE);
		harness_abandon(&harness);
		harness_fini(&harness);
	}
}

static int add(void *context, const struct sz_id *id)
{
	return sz_id_set_add(context, id);
}

/* What the walk comes by, after other generations. */
static void walk(struct harness *harness, size_t at, struct id_set *set)
{
	struct refs *refs = &harness->store->collector.refs;

	OK(sz_refs_walk(refs, harness->store->history.at[at], add, set));
}

static void load(struct harness *harness)
{
	for (size_t i = 0; i < harness->store->history.count; i++)
		OK(sz_refs_load(harness->store, harness->store->history.at[i]));
}

/* All that is on the disks is referred to by a generation that is kept. */
static void test_references(void **state)
{
	CLEANUP(sz_id_set_free) struct id_set all = { 0 };
	CLEANUP(sz_id_set_free) struct id_set newest = { 0 };
	CLEANUP(sz_id_set_free) struct id_set rest = { 0 };
	struct harness harness;
	struct objects objects;
	const struct history *history;

	(void)state;
	spread_init(&harness, DEVICES, 23);
	OK(harness_try_open(&harness, true));
	history = &harness.store->history;
	assert_true(history->count >= 2);
	load(&harness);
	sz_refs_walk_begin(&harness.store->collector.refs);
	for (size_t i = 0; i < history->count; i++)
		walk(&harness, i, &all);
	objects_list(&harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		struct sz_id id;

		/* Only these two are referred to by nothing. */
		if (objects.list[i].kind == SZ_KIND_KEY || objects.list[i].kind == SZ_KIND_SPARE)
			continue;
		OK(sz_name_decode(&objects.key->keys, objects.list[i].name, &id));
		assert_true(sz_id_set_has(&all, &id));
	}
	objects_free(&objects);
	/* The older ones come by less than all, and by what the newest has not. */
	sz_refs_walk_begin(&harness.store->collector.refs);
	walk(&harness, 0, &newest);
	for (size_t i = 1; i < history->count; i++)
		walk(&harness, i, &rest);
	assert_true(newest.count < all.count && rest.count > 0 && rest.count < all.count);
	assert_true(newest.count + rest.count >= all.count);
	assert_false(sz_id_set_has(&rest, &history->at[0]->id));
	/* Forgotten, and read again. */
	for (size_t i = 0; i < history->count; i++)
		sz_refs_release(harness.store, history->at[i]);
	assert_int_equal(harness.store->collector.refs.page_count, 0);
	load(&harness);
	assert_true(harness.store->collector.refs.page_count > 0);
	for (size_t i = 0; i < history->count; i++)
		assert_true(history->at[i]->is_complete);
	harness_abandon(&harness);
	/* A page that cannot be read: it is not known. */
	lose_objects(&harness, SZ_KIND_INDEX, 4, FORM_FLIPPED_TAG);
	OK(harness_try_open(&harness, true));
	assert_int_equal(sz_refs_load(harness.store, harness.store->history.at[0]), -EBADMSG);
	assert_false(harness.store->history.at[0]->is_known);
	assert_false(harness.store->history.at[0]->is_complete);
	/* What could be read is known. */
	assert_non_null(harness.store->history.at[0]->pages);
	harness_abandon(&harness);
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_a_fork),
		cmocka_unit_test(test_a_clone),
		cmocka_unit_test(test_a_clone_told_by_its_sequence),
		cmocka_unit_test(test_a_clone_told_by_its_parent),
		cmocka_unit_test(test_more_lineages_than_listed),
		cmocka_unit_test(test_a_set),
		cmocka_unit_test(test_what_is_missing),
		cmocka_unit_test(test_hurt_apart),
		cmocka_unit_test(test_references),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
