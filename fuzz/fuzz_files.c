/*
 * What a host can put before the program as it is: names, and files that nobody sealed. The first byte
 * says what is edited: with 0 to 3, a sealed blob, note, key object or name at places that the input
 * gives (3 bytes: where, 1 byte: what); else the input is the file.
 */
#include "fuzz.h"

#include <errno.h>

static struct sz_keys keys;
static struct sz_bytes blob;
static struct sz_bytes note;
static uint8_t *key_page;
static const uint8_t recovery[32] = { 7 };
static const struct sz_unlock by_recovery = { .type = SZ_SLOT_RECOVERY, .recovery = recovery };

static void set_up(void)
{
	CLEANUP_FREE uint8_t *payload = calloc(1, 20000);
	struct sz_header identity = { .kind = SZ_KIND_INDEX, .version = 1, .key_epoch = 1 };
	struct sz_key_object *object;
	uint8_t digest[SZ_DIGEST_BYTES];

	if (key_page != NULL)
		return;
	FUZZ_CHECK(sz_crypto_init(NULL) == 0);
	object = sz_secret_alloc(sizeof(*object));
	key_page = malloc(SZ_KEY_OBJECT_BYTES);
	FUZZ_CHECK(object != NULL && key_page != NULL && payload != NULL);
	FUZZ_CHECK(sz_key_object_create(&by_recovery, SZ_KDF_TEST, "", object) == 0);
	memcpy(key_page, object->page, SZ_KEY_OBJECT_BYTES);
	keys = object->keys;
	sz_secret_free(object);
	memcpy(identity.store_id, keys.store_id, sizeof(identity.store_id));
	sz_id_make(SZ_KIND_INDEX, 1, 1, 1, &identity.id);
	FUZZ_CHECK(sz_blob_encode(&keys, &identity, payload, 20000, &blob, digest) == 0);
	FUZZ_CHECK(sz_note_encode(keys.state, "szpool1 lock", payload, 100, &note) == 0);
}

/* A copy of original with the edits of the input done; whether it differs. */
static bool edit(const uint8_t *original, size_t length, const uint8_t *data, size_t size,
		 uint8_t *copy)
{
	memcpy(copy, original, length);
	for (; size >= 4; data += 4, size -= 4) {
		size_t at =
			((size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % length;

		copy[at] ^= data[3];
	}
	return memcmp(copy, original, length) != 0;
}

static void open_blob(const uint8_t *file, size_t length)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	struct sz_header header;
	int result = sz_blob_decode(&keys, file, length, &header, &payload);

	FUZZ_CHECK(result == 0 || payload.data == NULL);
	if (result == 0) /* whatever was edited, it was padding */
		FUZZ_CHECK(payload.length == 20000 && sz_is_zeros(payload.data, payload.length));
}

static void open_note(const uint8_t *file, size_t length, bool is_edited)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };

	FUZZ_CHECK((sz_note_decode(keys.state, "szpool1 lock", file, length, &payload) == 0) ==
		   !is_edited);
}

static void open_key(const uint8_t *page, bool is_edited)
{
	struct sz_key_object *object = sz_secret_alloc(sizeof(*object));
	int result;

	FUZZ_CHECK(object != NULL);
	result = sz_key_object_open(page, &by_recovery, object);
	/* behind the directory there is nothing that is looked at */
	if (!is_edited || memcmp(page, key_page, 8224) == 0)
		FUZZ_CHECK(result == 0);
	else
		FUZZ_CHECK(result == -EKEYREJECTED || result == -EBADMSG);
	sz_secret_free(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t copy[1 << 16];
	char text[80];
	struct sz_id id;
	bool is_edited;

	set_up();
	if (size == 0)
		return 0;
	switch (data[0]) {
	case 0:
		FUZZ_CHECK(blob.length <= sizeof(copy));
		(void)edit(blob.data, blob.length, data + 1, size - 1, copy);
		open_blob(copy, blob.length);
		break;
	case 1:
		is_edited = edit(note.data, note.length, data + 1, size - 1, copy);
		open_note(copy, note.length, is_edited);
		break;
	case 2:
		is_edited = edit(key_page, SZ_KEY_OBJECT_BYTES, data + 1, size - 1, copy);
		open_key(copy, is_edited);
		break;
	case 3:
		fuzz_fill((uint8_t *)text, sizeof(text) - 1, data + 1, size - 1);
		text[sizeof(text) - 1] = '\0';
		if (sz_name_decode(&keys, text, &id) == 0) {
			char again[SZ_OBJECT_NAME_BYTES];

			sz_name_encode(&keys, &id, again);
			FUZZ_CHECK(strcmp(text, again) == 0);
		}
		break;
	default:
		open_blob(data + 1, size - 1);
		open_note(data + 1, size - 1, true);
		break;
	}
	return 0;
}
