/*
 * seen: what was seen of a store last, in the user's own folder, out of the reach of who keeps the store: the newest
 * generation, and the heads that the user has set aside by choosing another. A head that does not descend
 * from the one is older or another's: that is told, and not written to without consent.
 *
 * It is a help and no more. Nothing depends on the note: one that is lost, cannot be written or does not
 * authenticate is as if nothing had been seen. It is written after the root that it names, and so never says
 * more than the store has.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char purpose[] = "szpool1 state";

/* The note's path: its name tells nobody which store it is of. NULL: no memory. */
static char *note_path(const struct sz_store *store)
{
	uint8_t digest[SZ_DIGEST_BYTES];
	char name[SZ_OBJECT_NAME_BYTES];
	char *path;

	sz_hash(store->keys->state, "szpool1 seen", NULL, store->keys->store_id,
		sizeof(store->keys->store_id), digest);
	sz_hex_encode(digest, SZ_ID_BYTES, name);
	return asprintf(&path, "%s/%s", store->state_folder, name) < 0 ? NULL : path;
}

static bool seen_decode(const struct sz_bytes *payload, struct seen *seen)
{
	struct sz_cursor cursor = { .data = payload->data, .length = payload->length };
	const uint8_t *lineage = sz_cursor_take(&cursor, sizeof(seen->last.lineage));
	uint64_t generation = sz_cursor_le(&cursor, 8);
	const uint8_t *digest = sz_cursor_take(&cursor, SZ_DIGEST_BYTES);
	uint64_t count = sz_cursor_le(&cursor, 4);

	if (cursor.failed || lineage == NULL || digest == NULL || count > SEEN_ASIDE_MAX)
		return false;
	memcpy(seen->last.lineage, lineage, sizeof(seen->last.lineage));
	seen->last.generation = generation;
	memcpy(seen->last.digest, digest, SZ_DIGEST_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		digest = sz_cursor_take(&cursor, SZ_DIGEST_BYTES);
		if (digest == NULL)
			return false;
		memcpy(seen->aside[i], digest, SZ_DIGEST_BYTES);
	}
	seen->aside_count = (uint32_t)count;
	return !cursor.failed && cursor.offset == cursor.length;
}

void sz_seen_load(struct sz_store *store)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_FD int fd = -1;
	uint8_t note[SEEN_PAYLOAD_MAX + SZ_NOTE_OVERHEAD + 1];
	struct seen seen = { .is_known = true };
	size_t length;

	store->seen = (struct seen){ 0 };
	if (store->state_folder == NULL)
		return;
	path = note_path(store);
	if (path != NULL)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && sz_pread(fd, note, sizeof(note), 0, &length) == 0 &&
	    sz_note_decode(store->keys->state, purpose, note, length, &payload) == 0 &&
	    seen_decode(&payload, &seen))
		store->seen = seen;
}

static int seen_encode(const struct sz_store *store, struct sz_bytes *note)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	const struct seen *seen = &store->seen;
	int result = sz_bytes_append(&payload, seen->last.lineage, sizeof(seen->last.lineage));

	if (result == 0)
		result = sz_bytes_append_le(&payload, seen->last.generation, 8);
	if (result == 0)
		result = sz_bytes_append(&payload, seen->last.digest, SZ_DIGEST_BYTES);
	if (result == 0)
		result = sz_bytes_append_le(&payload, seen->aside_count, 4);
	for (uint32_t i = 0; i < seen->aside_count && result == 0; i++)
		result = sz_bytes_append(&payload, seen->aside[i], SZ_DIGEST_BYTES);
	return result != 0 ? result
			   : sz_note_encode(store->keys->state, purpose, payload.data,
					    payload.length, note);
}

/* The folder, and those above it that are missing: ~/.local/state need not be there. */
static void folder_make(const char *folder)
{
	CLEANUP_FREE char *path = strdup(folder);

	if (path == NULL)
		return;
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0700);
		*slash = '/';
	}
	(void)mkdir(path, 0700);
}

/* A new file in the place of the old one: what is seen there is always one of both. */
static void note_write(const struct sz_store *store, const struct sz_bytes *note)
{
	CLEANUP_FREE char *path = note_path(store);
	CLEANUP_FREE char *temporary = NULL;
	CLEANUP_FD int fd = -1;
	uint64_t random;

	sz_random(&random, sizeof(random));
	if (path == NULL ||
	    asprintf(&temporary, "%s.%016llx", path, (unsigned long long)random) < 0)
		return;
	folder_make(store->state_folder);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (sz_pwrite(fd, note->data, note->length, 0) != 0 || fsync(fd) != 0 ||
	    rename(temporary, path) != 0)
		(void)unlink(temporary);
}

void sz_seen_update(struct sz_store *store)
{
	CLEANUP_BYTES struct sz_bytes note = { 0 };
	struct sz_ancestor last = { .generation = store->root.generation };

	if (store->state_folder == NULL)
		return;
	memcpy(last.lineage, store->root.lineage, sizeof(last.lineage));
	memcpy(last.digest, store->root_digest, sizeof(last.digest));
	if (store->seen.is_known && !store->seen.is_changed &&
	    memcmp(last.digest, store->seen.last.digest, sizeof(last.digest)) == 0)
		return;
	store->seen.is_known = true;
	store->seen.is_changed = false;
	store->seen.last = last;
	if (seen_encode(store, &note) == 0)
		note_write(store, &note);
}

bool sz_seen_is_aside(const struct seen *seen, const struct generation *generation)
{
	for (uint32_t i = 0; i < seen->aside_count; i++)
		if (memcmp(seen->aside[i], generation->digest, SZ_DIGEST_BYTES) == 0)
			return true;
	return false;
}

void sz_seen_set_aside(struct seen *seen, const struct generation *generation)
{
	if (sz_seen_is_aside(seen, generation) || seen->aside_count == SEEN_ASIDE_MAX)
		return;
	memcpy(seen->aside[seen->aside_count++], generation->digest, SZ_DIGEST_BYTES);
	seen->is_changed = true;
}
