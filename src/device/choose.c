/*
 * choose: which generation an opening takes, and whether it may write on from there. One root for the whole store:
 * devices are never mixed; a folder of another generation contributes the objects that the chosen root names.
 *
 *   what is there                                        opened                 written to
 *   one is asked for (--generation)                      that                   in memory alone
 *   one is chosen to go on from (--choose)               that                   yes; what does not lead to it is set aside
 *   ours, one line of heads                              the newest             yes: damage is healed
 *   ours, and a newer root cannot be read                the newest that can    no
 *   a copy, all of the newest is here                    it                     yes
 *   a copy, all of an older one; newer: recoverable      the older              no
 *   a copy, all of an older one; newer: not recoverable  the older              yes
 *   a copy, and the older one is of an empty store       as if it were not here
 *   a copy, none is complete                             the newest recoverable yes
 *   a copy, none is recoverable                          none                   -
 *   several heads                                        the one seen last, or the newest, by the rows above; not written to
 *   what was seen here last does not lead to it          by the rows above      no
 *
 * "Not written to" holds until one is chosen. Heads that were set aside so, and heads that cannot be opened
 * beside one that can, count no more. Ours is the folder whose lock record was made in it (lock.c); the
 * user's note of what was seen (seen.c) decides no more than whether to ask.
 */
#include "device/device_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct choosing {
	struct sz_store *store;
	struct choice *choice;
	struct survey survey;
	const struct generation **heads; /* that count */
	size_t head_count;
	bool is_own;
};

void sz_choice_say(char text[SZ_OPENING_TEXT_BYTES], const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	if (length > 0 && length + 2 < SZ_OPENING_TEXT_BYTES) {
		memcpy(text + length, "; ", 3);
		length += 2;
	}
	va_start(arguments, format);
	(void)vsnprintf(text + length, SZ_OPENING_TEXT_BYTES - length, format, arguments);
	va_end(arguments);
}

struct code {
	char text[40];
};

static struct code code_of(const struct generation *generation)
{
	struct code code = { "" };

	sz_root_code(generation->root.generation, generation->digest, code.text);
	return code;
}

static struct code code_of_last(const struct seen *seen)
{
	struct code code = { "" };

	sz_root_code(seen->last.generation, seen->last.digest, code.text);
	return code;
}

static bool leads_to(const struct history *history, const struct generation *x,
		     const struct generation *y)
{
	struct sz_ancestor identity;

	sz_generation_identity(x, &identity);
	return sz_history_is_ancestor(history, &identity, y);
}

static bool descends_from_last(const struct sz_store *store, const struct generation *generation)
{
	return !store->seen.is_known ||
	       sz_history_is_ancestor(&store->history, &store->seen.last, generation);
}

/* Does a text mean this generation: its number, its code, or the beginning of that? */
static bool is_meant(const struct generation *generation, const char *text)
{
	struct code code = code_of(generation);
	size_t number = strcspn(code.text, "-");
	size_t i = 0;

	for (; text[i] != '\0'; i++)
		if (toupper((unsigned char)text[i]) != code.text[i])
			return false;
	return i == number || i > number + 1;
}

static int find(const struct sz_store *store, const char *text,
		const struct generation **generation_out, struct sz_error *error)
{
	const struct history *history = &store->history;
	const struct generation *found = NULL;

	for (size_t i = 0; i < history->count; i++) {
		if (!is_meant(history->at[i], text))
			continue;
		if (found != NULL)
			return sz_fail(error, -ENOENT, "'%s' may be %s or %s: name its code", text,
				       code_of(found).text, code_of(history->at[i]).text);
		found = history->at[i];
	}
	if (found == NULL)
		return sz_fail(error, -ENOENT,
			       "there is no generation '%s'; 'szpool generations' lists those that "
			       "are there",
			       text);
	*generation_out = found;
	return 0;
}

static int survey(struct choosing *choosing, const struct generation *generation,
		  enum sz_wholeness *wholeness_out, char text[SZ_MISSING_TEXT_BYTES])
{
	return sz_generation_survey(choosing->store, &choosing->survey, generation, wholeness_out,
				    text);
}

/* The heads that count: not those that were set aside, unless no other is left. */
static int heads_find(struct choosing *choosing)
{
	const struct history *history = &choosing->store->history;
	const struct seen *seen = &choosing->store->seen;

	choosing->heads = calloc(history->count + 1, sizeof(struct generation *));
	if (choosing->heads == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < history->count; i++)
		if (history->at[i]->is_head && !sz_seen_is_aside(seen, history->at[i]))
			choosing->heads[choosing->head_count++] = history->at[i];
	if (choosing->head_count == 0 && seen->is_known) {
		/* One that is no head was chosen, and nothing has been written since. */
		choosing->heads[0] = sz_history_find(history, seen->last.digest);
		choosing->head_count = choosing->heads[0] != NULL;
	}
	for (size_t i = 0; i < history->count && choosing->head_count == 0; i++)
		if (history->at[i]->is_head)
			choosing->heads[choosing->head_count++] = history->at[i];
	return 0;
}

/* A head that cannot be opened is no choice, beside one that can. */
static int heads_sift(struct choosing *choosing)
{
	size_t kept = 0;

	if (choosing->head_count < 2)
		return 0;
	for (size_t i = 0; i < choosing->head_count; i++) {
		const struct generation *head = choosing->heads[i];
		char text[SZ_MISSING_TEXT_BYTES];
		enum sz_wholeness wholeness;
		int result = survey(choosing, head, &wholeness, text);

		if (result != 0)
			return result;
		if (wholeness != SZ_INCOMPLETE) {
			choosing->heads[i] = choosing->heads[kept];
			choosing->heads[kept++] = head;
		}
	}
	if (kept > 0)
		choosing->head_count = kept;
	return 0;
}

static const struct generation *head_pick(const struct choosing *choosing)
{
	for (size_t i = 0; i < choosing->head_count; i++)
		if (choosing->store->seen.is_known &&
		    descends_from_last(choosing->store, choosing->heads[i]))
			return choosing->heads[i];
	return choosing->heads[0];
}

/* Ours: the newest, whatever is missing. */
static void own_choose(struct choosing *choosing, const struct generation *head)
{
	const struct history *history = &choosing->store->history;
	struct choice *choice = choosing->choice;

	choice->generation = head;
	sz_choice_say(choice->text, "generation %s: the newest", code_of(head).text);
	for (size_t i = 0; i < history->lost_count; i++) {
		if (history->lost[i].generation <= head->root.generation)
			continue;
		choice->is_writable = false;
		choice->is_notable = true;
		sz_choice_say(choice->aside,
			      "a root of generation %llu, newer, is here and cannot be read",
			      (unsigned long long)history->lost[i].generation);
	}
}

/* What is newer than the chosen one, in a copy, and is not whole. */
static void newer_say(struct choice *choice, const struct generation *newer,
		      enum sz_wholeness wholeness, const char *missing)
{
	struct code code = code_of(newer);

	choice->is_notable = true;
	if (wholeness == SZ_RECOVERABLE)
		sz_choice_say(
			choice->aside,
			"generation %s, newer, can be repaired by '--choose %s' (missing are %s)",
			code.text, code.text, missing);
	else
		sz_choice_say(choice->aside,
			      "generation %s, newer, is not all here: missing are %s", code.text,
			      missing);
}

/* A copy: the newest that is complete, else the newest that is recoverable. */
static int copy_choose(struct choosing *choosing, const struct generation *head)
{
	const struct history *history = &choosing->store->history;
	struct choice *choice = choosing->choice;
	const struct generation *recoverable = NULL;
	char recoverable_text[SZ_MISSING_TEXT_BYTES];
	char text[SZ_MISSING_TEXT_BYTES];

	for (size_t i = 0; i < history->count && choice->generation == NULL; i++) {
		const struct generation *generation = history->at[i];
		enum sz_wholeness wholeness;
		int result;

		if (!leads_to(history, generation, head) ||
		    (generation != head && sz_generation_is_first(generation)))
			continue;
		result = survey(choosing, generation, &wholeness, text);
		if (result != 0)
			return result;
		if (wholeness == SZ_COMPLETE) {
			choice->generation = generation;
		} else if (wholeness == SZ_RECOVERABLE && recoverable == NULL) {
			recoverable = generation;
			memcpy(recoverable_text, text, sizeof(recoverable_text));
		} else if (generation == head) {
			newer_say(choice, head, wholeness, text);
		}
	}
	if (choice->generation == head) {
		sz_choice_say(choice->text, "generation %s: the newest, all of it is here",
			      code_of(head).text);
	} else if (choice->generation != NULL) {
		choice->is_notable = true;
		sz_choice_say(choice->text, "generation %s: the newest of which all is here",
			      code_of(choice->generation).text);
		if (recoverable != NULL) {
			choice->is_writable = false;
			newer_say(choice, recoverable, SZ_RECOVERABLE, recoverable_text);
		}
	} else if (recoverable != NULL) {
		choice->generation = recoverable;
		choice->is_notable = true;
		sz_choice_say(choice->text,
			      "generation %s: the newest that can be repaired; missing are %s",
			      code_of(recoverable).text, recoverable_text);
	}
	return 0;
}

/* What does not lead to the chosen one, and is not led to by it. */
static void others_say(const struct choosing *choosing)
{
	const struct history *history = &choosing->store->history;
	struct choice *choice = choosing->choice;

	for (size_t i = 0; i < history->count; i++) {
		const struct generation *head = history->at[i];

		if (!head->is_head || leads_to(history, head, choice->generation) ||
		    leads_to(history, choice->generation, head))
			continue;
		sz_choice_say(choice->aside, "generation %s, of another history",
			      code_of(head).text);
	}
}

/* Does it lead to what was seen last? Without that one's root it is told by the lineage of one opening. */
static bool is_before_last(const struct sz_store *store, const struct generation *generation)
{
	const struct sz_ancestor *last = &store->seen.last;
	const struct generation *seen = sz_history_find(&store->history, last->digest);

	if (seen != NULL)
		return leads_to(&store->history, generation, seen);
	return memcmp(generation->root.lineage, last->lineage, sizeof(last->lineage)) == 0 &&
	       generation->root.generation < last->generation;
}

/* Several histories, or not the one that was seen: not without consent. */
static void consent_check(const struct choosing *choosing)
{
	const struct sz_store *store = choosing->store;
	struct choice *choice = choosing->choice;

	choice->histories = choosing->head_count;
	if (choosing->head_count > 1) {
		choice->is_writable = false;
		choice->is_notable = true;
		sz_choice_say(choice->text, "one of %zu histories", choosing->head_count);
	}
	if (!descends_from_last(store, choice->generation)) {
		bool is_older = is_before_last(store, choice->generation);

		choice->is_writable = false;
		choice->is_notable = true;
		sz_choice_say(choice->text,
			      is_older ? "it is older than %s, which was seen here last"
				       : "it does not descend from %s, which was seen here last",
			      code_of_last(&store->seen).text);
	}
}

static int rules_apply(struct choosing *choosing, struct sz_error *error)
{
	struct choice *choice = choosing->choice;
	const struct generation *head;
	int result = heads_find(choosing);

	if (result == 0)
		result = heads_sift(choosing);
	if (result != 0)
		return sz_fail(error, result, "looking for the newest generation: %s",
			       strerror(-result));
	head = head_pick(choosing);
	choice->is_writable = true;
	if (choosing->is_own)
		own_choose(choosing, head);
	else
		result = copy_choose(choosing, head);
	if (result != 0)
		return sz_fail(error, result, "looking for a whole generation: %s",
			       strerror(-result));
	if (choice->generation == NULL)
		return sz_fail(error, -EBADMSG,
			       "too much is missing of every generation (%s); "
			       "'--generation %s' reads what is there",
			       choice->aside, code_of(head).text);
	consent_check(choosing);
	others_say(choosing);
	return 0;
}

/* The user's word: what is not on the way to this one, and is not set aside yet, is from now on. */
static void set_others_aside(struct sz_store *store)
{
	const struct history *history = &store->history;
	const struct generation *now = sz_history_find(history, store->root_digest);

	for (size_t i = 0; i < history->count; i++)
		if (history->at[i]->is_head && history->at[i] != now)
			sz_seen_set_aside(&store->seen, history->at[i]);
}

static int told_choose(struct choosing *choosing, const char *text, struct sz_error *error)
{
	struct choice *choice = choosing->choice;
	int result = find(choosing->store, text, &choice->generation, error);

	if (result != 0)
		return result;
	choice->is_writable = true;
	sz_choice_say(choice->text, "generation %s: as told", code_of(choice->generation).text);
	others_say(choosing);
	return 0;
}

static void choosing_fini(struct choosing *choosing)
{
	sz_survey_free(&choosing->survey);
	free(choosing->heads);
}

/* A root that cannot be read now, and could be the newest: nothing can be said without it. */
static int lost_check(const struct history *history, struct sz_error *error)
{
	uint64_t newest = history->count == 0 ? 0 : history->at[0]->root.generation;

	for (size_t i = 0; i < history->lost_count; i++) {
		const struct lost_root *lost = &history->lost[i];

		if (lost->error == -EPROTONOSUPPORT)
			return sz_fail(
				error, lost->error,
				"the store was written by a newer szpool: open it with that");
		if (lost->error != -EBADMSG && lost->generation > newest)
			return sz_fail(error, lost->error, "the root of generation %llu: %s",
				       (unsigned long long)lost->generation,
				       strerror(-lost->error));
	}
	return 0;
}

static int nothing_left(const struct history *history, struct sz_error *error)
{
	return sz_fail(error, -EBADMSG,
		       "%s: copy one device's folder anew from a host; without any, 'szpool "
		       "recover' rebuilds one from what is left",
		       history->lost_count == 0 ? "no root is left" : "no root is whole");
}

int sz_choose(struct sz_store *store, const struct sz_store_open *options, struct sz_error *error)
{
	CLEANUP(choosing_fini)
	struct choosing choosing = { .store = store, .choice = &store->choice };
	int result = sz_history_load(store);

	if (result != 0)
		return sz_fail(error, result, "no memory");
	result = lost_check(&store->history, error);
	store->choice = (struct choice){ 0 };
	if (result == 0 && options->recover)
		return sz_recover(store, error);
	if (result == 0 && store->history.count == 0)
		result = nothing_left(&store->history, error);
	if (result != 0)
		return result;
	choosing.is_own = !options->is_copy && (store->path == NULL || store->is_own);
	sz_seen_load(store);
	store->choice.is_asked = options->generation != NULL;
	store->choice.is_told = !store->choice.is_asked && options->choose != NULL;
	if (store->choice.is_asked)
		return told_choose(&choosing, options->generation, error);
	return store->choice.is_told ? told_choose(&choosing, options->choose, error)
				     : rules_apply(&choosing, error);
}

int sz_choice_check(const struct sz_store *store, struct sz_error *error)
{
	const struct choice *choice = &store->choice;

	if (choice->is_writable)
		return 0;
	if (choice->is_rebuilt)
		return sz_fail(error, -EBADMSG, "%s: that is too much to go on from", choice->text);
	return sz_fail(
		error, -ESTALE,
		"%s%s%s. '--choose CODE' goes on from one, and sets the rest aside; '--generation CODE' reads one",
		choice->text, choice->aside[0] != '\0' ? ". Set aside: " : "", choice->aside);
}

int sz_choice_take(struct sz_store *store)
{
	const struct generation *generation = store->choice.generation;

	store->root_id = generation->id;
	memcpy(store->root_digest, generation->digest, sizeof(store->root_digest));
	return sz_root_copy(&generation->root, &store->root);
}

void sz_choice_note(struct sz_store *store)
{
	const struct choice *choice = &store->choice;

	if (choice->is_told && writes_folders(store))
		set_others_aside(store);
	if (choice->is_told ? writes_folders(store) : choice->is_writable)
		sz_seen_update(store);
	store->choice.generation = NULL;
}
