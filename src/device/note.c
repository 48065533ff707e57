/*
 * note: small encrypted records in the store's own folder: where the devices' folders are, what is kept. A
 * changed note is a new file, whose id counts up; then the old one goes. The newest that can be read counts.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <stdio.h>

struct note {
	const struct sz_keys *keys;
	enum sz_kind kind;
	uint64_t below; /* looked for is the newest below this number */
	uint64_t number;
	char name[SZ_OBJECT_NAME_BYTES]; /* "": none */
};

static int note_consider(void *context, const char *name, uint64_t size_bytes)
{
	struct note *note = context;
	struct sz_id id;
	enum sz_kind kind;
	uint32_t device;
	uint64_t number;

	(void)size_bytes;
	if (sz_name_decode(note->keys, name, &id) != 0 ||
	    sz_id_parse(&id, &kind, &device, &number) != 0 || kind != note->kind ||
	    device != SZ_STORE_WIDE || number >= note->below ||
	    (note->name[0] != '\0' && number <= note->number))
		return 0;
	note->number = number;
	(void)snprintf(note->name, sizeof(note->name), "%s", name);
	return 0;
}

/* -ENOENT: there is none below note->below. */
static int note_find(struct sz_backend *home, struct note *note)
{
	int result;

	note->name[0] = '\0';
	result = sz_backend_list(home, SZ_SEALED, note_consider, note);
	if (result != 0)
		return result;
	return note->name[0] == '\0' ? -ENOENT : 0;
}

static int file_read(struct sz_backend *home, const char *name, const struct sz_keys *keys,
		     const char *purpose, struct sz_bytes *payload_out)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	CLEANUP_FREE uint8_t *bytes = malloc(SZ_NOTE_MAX_BYTES + SZ_NOTE_OVERHEAD);
	size_t length;
	int result;

	if (bytes == NULL)
		return -ENOMEM;
	result = sz_backend_open(home, SZ_SEALED, name, &file);
	if (result == 0)
		result = sz_read_retried(file, bytes, SZ_NOTE_MAX_BYTES + SZ_NOTE_OVERHEAD, 0,
					 &length);
	return result != 0 ? result
			   : sz_note_decode(keys->state, purpose, bytes, length, payload_out);
}

int sz_note_read(const struct sz_keys *keys, struct sz_backend *home, enum sz_kind kind,
		 const char *purpose, struct sz_bytes *payload_out)
{
	struct note note = { .keys = keys, .kind = kind, .below = UINT64_MAX };
	int damage = 0;

	for (;;) {
		int result = note_find(home, &note);

		if (result == -ENOENT)
			return damage != 0 ? damage : result;
		if (result == 0)
			result = file_read(home, note.name, keys, purpose, payload_out);
		if (result != -EBADMSG && result != -ENOENT)
			return result;
		damage = -EBADMSG;
		note.below = note.number;
	}
}

static int file_write(struct sz_backend *home, const char *name, const struct sz_bytes *note)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	int result = sz_backend_create(home, SZ_SEALED, name, &file);

	if (result == 0)
		result = sz_file_write(file, note->data, note->length, 0);
	if (result == 0)
		result = sz_file_sync(file);
	return result != 0 ? result : sz_backend_sync_folder(home, SZ_SEALED);
}

int sz_note_write(const struct sz_keys *keys, struct sz_backend *home, enum sz_kind kind,
		  const char *purpose, const struct sz_bytes *payload)
{
	CLEANUP_BYTES struct sz_bytes encoded = { 0 };
	struct note old = { .keys = keys, .kind = kind, .below = UINT64_MAX };
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_id id;
	uint64_t random;
	int result = note_find(home, &old);

	if (result == 0 || result == -ENOENT)
		result = sz_note_encode(keys->state, purpose, payload->data, payload->length,
					&encoded);
	if (result != 0)
		return result;
	sz_random(&random, sizeof(random));
	sz_id_make(kind, SZ_STORE_WIDE, old.name[0] == '\0' ? 1 : old.number + 1, random, &id);
	sz_name_encode(keys, &id, name);
	result = file_write(home, name, &encoded);
	if (result != 0) {
		(void)!sz_backend_remove(home, SZ_SEALED, name);
		return result;
	}
	while (note_find(home, &old) == 0) { /* also those that were damaged */
		old.below = old.number;
		if (strcmp(old.name, name) != 0)
			(void)!sz_backend_remove(home, SZ_SEALED, old.name);
	}
	return 0;
}
