/*
 * key_object: 16,384 bytes that hold the master key M, openable with any of up to eight secrets
 * [F10] [F11].
 *
 *   salt 32 · 8 slots of 512 · directory 4,096 · random
 *
 * 1. Nothing in it tells used slots from free ones, or what it is.
 * 2. A slot is decrypted only after its commitment has matched: a forged slot that decrypts under two
 *    keys cannot be used to try many passphrases at once. All eight are compared, in constant time.
 * 3. The slots are the directory's associated data: slots that were swapped, replaced or taken from
 *    another version do not pass, and whoever changes a slot must have M.
 * 4. The salt stays for ever (slots that are not open cannot be derived anew); all else is fresh in each
 *    version.
 */
#include "format_internal.h"

#include <errno.h>

#define SALT_BYTES           32U
#define SLOT_BYTES           512U
#define SLOTS_AT             SALT_BYTES
#define DIRECTORY_AT         (SLOTS_AT + SZ_SLOTS * SLOT_BYTES)
#define DIRECTORY_BYTES      4096U
#define TAIL_AT              (DIRECTORY_AT + DIRECTORY_BYTES)
#define KEY_FILE_BYTES       64U
#define DIRECTORY_INFO_AT    48U
#define DIRECTORY_INFO_BYTES 80U
#define LABEL_BYTES          sizeof(((struct sz_slot_info *)NULL)->label)

/* Offsets in a slot. */
enum {
	SLOT_SALT = 0,
	SLOT_COMMITMENT = 32,
	SLOT_NONCE = 64,
	SLOT_CIPHERTEXT = 88,
	SLOT_TAG = 496,
};

/* Offsets in a slot's payload. */
enum {
	AT_VERSION = 0,
	AT_TYPE = 4,
	AT_INDEX = 8,
	AT_EPOCH = 12,
	AT_REVISION = 16,
	AT_STORE_ID = 24,
	AT_MASTER = 40,
	AT_OLD_EPOCH = 72,
	AT_ZEROS_1 = 76,
	AT_OLD_MASTER = 80,
	AT_ZEROS_2 = 112,
};

/* Offsets in the directory's payload, and in a slot's part of it. */
enum {
	DIRECTORY_VERSION = 0,
	DIRECTORY_ZEROS = 4,
	DIRECTORY_REVISION = 8,
	DIRECTORY_PARENT = 16,
	INFO_TYPE = 0,
	INFO_ZEROS = 4,
	INFO_TIME = 8,
	INFO_LABEL = 16,
};

/* What is on the way from a passphrase to M; in secret memory. */
struct work {
	uint8_t base[SZ_KEY_BYTES];   /* from the passphrase, key file or recovery key */
	uint8_t unlock[SZ_KEY_BYTES]; /* U */
	uint8_t slot_key[SZ_KEY_BYTES];
	uint8_t payload[SZ_PAGE_PAYLOAD]; /* of a slot or the directory */
	uint8_t page[SZ_KEY_OBJECT_BYTES];
};

static void cleanup_work(struct work **work)
{
	sz_secret_free(*work);
}

static bool takes_passphrase(const struct sz_unlock *unlock)
{
	return unlock->type == SZ_SLOT_PASSPHRASE || unlock->type == SZ_SLOT_PASSPHRASE_KEY_FILE;
}

/* [F10] U, from all that the type asks for. */
static int unlock_derive(const struct sz_unlock *unlock, enum sz_kdf kdf, const uint8_t *salt,
			 struct work *work)
{
	uint8_t message[4 + KEY_FILE_BYTES];
	size_t length = 4;
	int result = 0;

	sz_put_le32(message, unlock->type);
	switch (unlock->type) {
	case SZ_SLOT_PASSPHRASE_KEY_FILE:
		memcpy(message + 4, unlock->key_file, KEY_FILE_BYTES);
		length = sizeof(message);
		result = sz_kdf_derive(kdf, unlock->passphrase, unlock->passphrase_length, salt,
				       work->base);
		break;
	case SZ_SLOT_PASSPHRASE:
		result = sz_kdf_derive(kdf, unlock->passphrase, unlock->passphrase_length, salt,
				       work->base);
		break;
	case SZ_SLOT_KEY_FILE:
		sz_digest(unlock->key_file, KEY_FILE_BYTES, work->base);
		break;
	case SZ_SLOT_RECOVERY:
		memcpy(work->base, unlock->recovery, SZ_KEY_BYTES);
		break;
	case SZ_SLOT_NONE:
		result = -EINVAL;
		break;
	}
	if (result == 0)
		sz_hash(work->base, "szpool1 unlock", NULL, message, length, work->unlock);
	sz_wipe(message, sizeof(message));
	return result;
}

static void commitment_derive(const struct work *work, const uint8_t *object_salt,
			      const uint8_t *slot_salt, uint8_t commitment[SZ_KEY_BYTES])
{
	uint8_t salts[2 * SALT_BYTES];

	memcpy(salts, object_salt, SALT_BYTES);
	memcpy(salts + SALT_BYTES, slot_salt, SALT_BYTES);
	sz_hash(work->unlock, "szpool1 commit", NULL, salts, sizeof(salts), commitment);
}

static void slot_key_derive(struct work *work, const uint8_t *object_salt, const uint8_t *slot_salt)
{
	uint8_t salts[2 * SALT_BYTES];

	memcpy(salts, object_salt, SALT_BYTES);
	memcpy(salts + SALT_BYTES, slot_salt, SALT_BYTES);
	sz_hash(work->unlock, "szpool1 slot", NULL, salts, sizeof(salts), work->slot_key);
}

/* The slot that U opens, or SZ_SLOTS. Takes the same time wherever it is. */
static uint32_t slot_find(const struct work *work, const uint8_t *page)
{
	uint32_t found = SZ_SLOTS;

	for (uint32_t i = SZ_SLOTS; i-- > 0;) {
		const uint8_t *slot = page + SLOTS_AT + (size_t)i * SLOT_BYTES;
		uint8_t commitment[SZ_KEY_BYTES];

		commitment_derive(work, page, slot + SLOT_SALT, commitment);
		if (sz_equal(commitment, slot + SLOT_COMMITMENT, sizeof(commitment)))
			found = i;
	}
	return found;
}

static void slot_seal(struct work *work, uint32_t index, enum sz_slot_type type,
		      const struct sz_key_object *object)
{
	uint8_t *slot = work->page + SLOTS_AT + (size_t)index * SLOT_BYTES;
	uint8_t *payload = work->payload;

	sz_random(slot + SLOT_SALT, SALT_BYTES);
	commitment_derive(work, work->page, slot + SLOT_SALT, slot + SLOT_COMMITMENT);
	slot_key_derive(work, work->page, slot + SLOT_SALT);
	memset(payload, 0, SZ_SLOT_PAYLOAD_BYTES);
	sz_put_le32(payload + AT_VERSION, SZ_FORMAT_VERSION);
	sz_put_le32(payload + AT_TYPE, type);
	sz_put_le32(payload + AT_INDEX, index);
	sz_put_le32(payload + AT_EPOCH, object->keys.epoch);
	sz_put_le64(payload + AT_REVISION, object->version + 1);
	memcpy(payload + AT_STORE_ID, object->keys.store_id, sizeof(object->keys.store_id));
	memcpy(payload + AT_MASTER, object->keys.master, SZ_KEY_BYTES);
	sz_put_le32(payload + AT_OLD_EPOCH, object->old_epoch);
	memcpy(payload + AT_OLD_MASTER, object->old_master, SZ_KEY_BYTES);
	sz_random(slot + SLOT_NONCE, SZ_X_NONCE_BYTES);
	sz_x_seal(work->slot_key, slot + SLOT_NONCE, slot, SLOT_NONCE, payload,
		  SZ_SLOT_PAYLOAD_BYTES, slot + SLOT_CIPHERTEXT, slot + SLOT_TAG);
}

int sz_slot_unpack(const uint8_t payload[SZ_SLOT_PAYLOAD_BYTES], uint32_t index,
		   enum sz_slot_type type, struct sz_key_object *object, uint64_t *revision_out)
{
	if (sz_get_le32(payload + AT_VERSION) > SZ_FORMAT_VERSION)
		return -EPROTONOSUPPORT;
	if (sz_get_le32(payload + AT_VERSION) == 0 || sz_get_le32(payload + AT_TYPE) != type ||
	    sz_get_le32(payload + AT_INDEX) != index ||
	    (sz_get_le32(payload + AT_OLD_EPOCH) == 0 &&
	     !sz_is_zeros(payload + AT_OLD_MASTER, SZ_KEY_BYTES)) ||
	    !sz_is_zeros(payload + AT_ZEROS_1, AT_OLD_MASTER - AT_ZEROS_1) ||
	    !sz_is_zeros(payload + AT_ZEROS_2, SZ_SLOT_PAYLOAD_BYTES - AT_ZEROS_2))
		return -EUCLEAN;
	object->keys.epoch = sz_get_le32(payload + AT_EPOCH);
	*revision_out = sz_get_le64(payload + AT_REVISION);
	memcpy(object->keys.store_id, payload + AT_STORE_ID, sizeof(object->keys.store_id));
	memcpy(object->keys.master, payload + AT_MASTER, SZ_KEY_BYTES);
	object->old_epoch = sz_get_le32(payload + AT_OLD_EPOCH);
	memcpy(object->old_master, payload + AT_OLD_MASTER, SZ_KEY_BYTES);
	return 0;
}

/* Opens a slot whose commitment matched: M and what belongs to it, into object. */
static int slot_open(struct work *work, const uint8_t *page, uint32_t index, enum sz_slot_type type,
		     struct sz_key_object *object, uint64_t *revision_out)
{
	const uint8_t *slot = page + SLOTS_AT + (size_t)index * SLOT_BYTES;
	int result;

	slot_key_derive(work, page, slot + SLOT_SALT);
	result = sz_x_open(work->slot_key, slot + SLOT_NONCE, slot, SLOT_NONCE,
			   slot + SLOT_CIPHERTEXT, SZ_SLOT_PAYLOAD_BYTES, slot + SLOT_TAG,
			   work->payload);
	if (result != 0)
		return result;
	return sz_slot_unpack(work->payload, index, type, object, revision_out);
}

static void directory_seal(struct work *work, const struct sz_key_object *object)
{
	uint8_t *directory = work->page + DIRECTORY_AT;
	uint8_t *payload = work->payload;

	memset(payload, 0, SZ_PAGE_PAYLOAD);
	sz_put_le32(payload + DIRECTORY_VERSION, SZ_FORMAT_VERSION);
	sz_put_le64(payload + DIRECTORY_REVISION, object->version);
	memcpy(payload + DIRECTORY_PARENT, object->parent, sizeof(object->parent));
	for (uint32_t i = 0; i < SZ_SLOTS; i++) {
		uint8_t *info = payload + DIRECTORY_INFO_AT + (size_t)i * DIRECTORY_INFO_BYTES;

		sz_put_le32(info + INFO_TYPE, object->slots[i].type);
		sz_put_le64(info + INFO_TIME, object->slots[i].wall_time_ns);
		memcpy(info + INFO_LABEL, object->slots[i].label, LABEL_BYTES);
	}
	sz_random(directory, SZ_X_NONCE_BYTES);
	sz_x_seal(object->keys.slotdir, directory, work->page, DIRECTORY_AT, payload,
		  SZ_PAGE_PAYLOAD, directory + PAGE_CIPHERTEXT_AT, directory + PAGE_TAG_AT);
}

static int info_decode(const uint8_t *info, struct sz_slot_info *slot)
{
	uint32_t type = sz_get_le32(info + INFO_TYPE);
	size_t length = strnlen((const char *)info + INFO_LABEL, LABEL_BYTES);

	if (type > SZ_SLOT_RECOVERY || sz_get_le32(info + INFO_ZEROS) != 0 ||
	    length == LABEL_BYTES || !sz_is_zeros(info + INFO_LABEL + length, LABEL_BYTES - length))
		return -EUCLEAN;
	slot->type = (enum sz_slot_type)type;
	slot->wall_time_ns = sz_get_le64(info + INFO_TIME);
	memcpy(slot->label, info + INFO_LABEL, LABEL_BYTES);
	return 0;
}

int sz_directory_unpack(const uint8_t payload[SZ_PAGE_PAYLOAD], struct sz_key_object *object)
{
	size_t end = DIRECTORY_INFO_AT + (size_t)SZ_SLOTS * DIRECTORY_INFO_BYTES;
	int result = 0;

	if (sz_get_le32(payload + DIRECTORY_VERSION) > SZ_FORMAT_VERSION)
		return -EPROTONOSUPPORT;
	if (sz_get_le32(payload + DIRECTORY_VERSION) == 0 ||
	    sz_get_le32(payload + DIRECTORY_ZEROS) != 0 ||
	    !sz_is_zeros(payload + end, SZ_PAGE_PAYLOAD - end))
		return -EUCLEAN;
	object->version = sz_get_le64(payload + DIRECTORY_REVISION);
	memcpy(object->parent, payload + DIRECTORY_PARENT, sizeof(object->parent));
	for (uint32_t i = 0; i < SZ_SLOTS && result == 0; i++)
		result = info_decode(payload + DIRECTORY_INFO_AT + (size_t)i * DIRECTORY_INFO_BYTES,
				     &object->slots[i]);
	return result;
}

static int directory_open(struct work *work, const uint8_t *page, struct sz_key_object *object)
{
	const uint8_t *directory = page + DIRECTORY_AT;
	int result = sz_x_open(object->keys.slotdir, directory, page, DIRECTORY_AT,
			       directory + PAGE_CIPHERTEXT_AT, SZ_PAGE_PAYLOAD,
			       directory + PAGE_TAG_AT, work->payload);

	return result != 0 ? result : sz_directory_unpack(work->payload, object);
}

/* Everything behind a slot that was found. */
static int object_open(struct work *work, const uint8_t *page, uint32_t index,
		       enum sz_slot_type type, struct sz_key_object *object)
{
	uint64_t slot_revision;
	int result = slot_open(work, page, index, type, object, &slot_revision);

	if (result != 0)
		return result;
	sz_keys_derive(&object->keys);
	result = directory_open(work, page, object);
	if (result != 0)
		return result;
	if (slot_revision > object->version || object->slots[index].type != type)
		return -EUCLEAN;
	object->opened_slot = index;
	memcpy(object->page, page, SZ_KEY_OBJECT_BYTES);
	sz_digest(page, SZ_KEY_OBJECT_BYTES, object->digest);
	return 0;
}

int sz_key_object_open(const uint8_t page[SZ_KEY_OBJECT_BYTES], const struct sz_unlock *unlock,
		       struct sz_key_object *object_out)
{
	CLEANUP(cleanup_work) struct work *work = sz_secret_alloc(sizeof(*work));
	bool too_large = false; /* a preset did not fit into memory */
	size_t count;
	const enum sz_kdf *presets = sz_kdf_presets(&count);

	if (work == NULL)
		return -ENOMEM;
	if (!takes_passphrase(unlock))
		count = 1; /* no preset matters */
	for (size_t i = 0; i < count; i++) {
		uint32_t index;
		int result = unlock_derive(unlock, presets[i], page, work);

		if (result == -ENOMEM) {
			too_large = true;
			continue;
		}
		if (result != 0)
			return result;
		index = slot_find(work, page);
		if (index == SZ_SLOTS)
			continue;
		*object_out = (struct sz_key_object){ 0 };
		result = object_open(work, page, index, unlock->type, object_out);
		if (result != 0)
			sz_wipe(object_out, sizeof(*object_out));
		return result;
	}
	return too_large ? -ENOMEM : -EKEYREJECTED;
}

/* Makes object the next version, with the slots that stand in work->page. */
static void object_commit(struct work *work, struct sz_key_object *object)
{
	if (object->version > 0)
		memcpy(object->parent, object->digest, sizeof(object->parent));
	object->version++;
	directory_seal(work, object);
	sz_random(work->page + TAIL_AT, SZ_KEY_OBJECT_BYTES - TAIL_AT);
	memcpy(object->page, work->page, SZ_KEY_OBJECT_BYTES);
	sz_digest(object->page, SZ_KEY_OBJECT_BYTES, object->digest);
}

int sz_key_object_set_slot(struct sz_key_object *object, uint32_t index,
			   const struct sz_unlock *unlock, enum sz_kdf kdf, const char *label)
{
	CLEANUP(cleanup_work) struct work *work = sz_secret_alloc(sizeof(*work));
	struct sz_slot_info *info;
	int result;

	if (work == NULL)
		return -ENOMEM;
	if (index >= SZ_SLOTS || strlen(label) >= LABEL_BYTES)
		return -EINVAL;
	memcpy(work->page, object->page, SZ_KEY_OBJECT_BYTES);
	result = unlock_derive(unlock, kdf, work->page, work);
	if (result != 0)
		return result;
	slot_seal(work, index, unlock->type, object);
	info = &object->slots[index];
	*info = (struct sz_slot_info){ .type = unlock->type, .wall_time_ns = sz_wall_ns() };
	for (size_t i = 0; label[i] != '\0'; i++)
		info->label[i] = label[i];
	object_commit(work, object);
	return 0;
}

int sz_key_object_remove_slot(struct sz_key_object *object, uint32_t index)
{
	CLEANUP(cleanup_work) struct work *work = NULL;
	uint32_t used = 0;

	if (index >= SZ_SLOTS)
		return -EINVAL;
	for (uint32_t i = 0; i < SZ_SLOTS; i++)
		used += object->slots[i].type != SZ_SLOT_NONE ? 1 : 0;
	if (object->slots[index].type == SZ_SLOT_NONE)
		return -ENOENT;
	if (used == 1)
		return -EINVAL;
	work = sz_secret_alloc(sizeof(*work));
	if (work == NULL)
		return -ENOMEM;
	memcpy(work->page, object->page, SZ_KEY_OBJECT_BYTES);
	sz_random(work->page + SLOTS_AT + (size_t)index * SLOT_BYTES, SLOT_BYTES);
	object->slots[index] = (struct sz_slot_info){ 0 };
	object_commit(work, object);
	return 0;
}

int sz_key_object_create(const struct sz_unlock *unlock, enum sz_kdf kdf, const char *label,
			 struct sz_key_object *object_out)
{
	int result;

	*object_out = (struct sz_key_object){ .keys.epoch = 1 };
	sz_random(object_out->keys.master, SZ_KEY_BYTES);
	sz_random(object_out->keys.store_id, sizeof(object_out->keys.store_id));
	sz_keys_derive(&object_out->keys);
	/* the salt and eight slots that nothing opens; the first is then set */
	sz_random(object_out->page, DIRECTORY_AT);
	result = sz_key_object_set_slot(object_out, 0, unlock, kdf, label);
	if (result != 0)
		sz_wipe(object_out, sizeof(*object_out));
	return result;
}
