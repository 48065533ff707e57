/* format: the key object: every way to open it, and every way in which it must not open. */
#include "format_test.h"

#define SLOTS_AT     32U
#define SLOT_BYTES   512U
#define DIRECTORY_AT 4128U
#define TAIL_AT      8224U

static const uint8_t key_file[64] = { 1, 2, 3 };
static const uint8_t other_key_file[64] = { 1, 2, 4 };
static const uint8_t recovery[32] = { 5, 6 };
static const uint8_t other_recovery[32] = { 5, 7 };

static const struct sz_unlock by_passphrase = { .type = SZ_SLOT_PASSPHRASE,
						.passphrase = "correct horse",
						.passphrase_length = 13 };
static const struct sz_unlock by_both = { .type = SZ_SLOT_PASSPHRASE_KEY_FILE,
					  .passphrase = "correct horse",
					  .passphrase_length = 13,
					  .key_file = key_file };
static const struct sz_unlock by_key_file = { .type = SZ_SLOT_KEY_FILE, .key_file = key_file };
static const struct sz_unlock by_recovery = { .type = SZ_SLOT_RECOVERY, .recovery = recovery };

/* An object in secret memory, as it must be. */
static void free_object(struct sz_key_object **object)
{
	sz_secret_free(*object);
}
#define SECRET_OBJECT(name)                                                                        \
	CLEANUP(free_object) struct sz_key_object *name = sz_secret_alloc(sizeof(*name));          \
	assert_non_null(name)

static void create(struct sz_key_object *object)
{
	assert_int_equal(sz_key_object_create(&by_passphrase, SZ_KDF_TEST, "first", object), 0);
	assert_int_equal(object->version, 1);
}

static void test_each_type_of_slot_opens(void **state)
{
	static const struct sz_unlock *const unlocks[] = { &by_passphrase, &by_both, &by_key_file,
							   &by_recovery };
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);

	(void)state;
	create(made);
	for (uint32_t i = 1; i < ARRAY_LENGTH(unlocks); i++)
		assert_int_equal(sz_key_object_set_slot(made, i, unlocks[i], SZ_KDF_TEST, "more"),
				 0);
	assert_int_equal(made->version, 4);
	for (uint32_t i = 0; i < ARRAY_LENGTH(unlocks); i++) {
		sz_wipe(opened, sizeof(*opened));
		assert_int_equal(sz_key_object_open(made->page, unlocks[i], opened), 0);
		assert_int_equal(opened->opened_slot, i);
		assert_memory_equal(&opened->keys, &made->keys, sizeof(made->keys));
		assert_int_equal(opened->version, 4);
		assert_memory_equal(opened->digest, made->digest, SZ_DIGEST_BYTES);
		assert_memory_equal(opened->parent, made->parent, SZ_DIGEST_BYTES);
		assert_memory_equal(opened->page, made->page, SZ_KEY_OBJECT_BYTES);
		for (uint32_t k = 0; k < SZ_SLOTS; k++)
			assert_int_equal(opened->slots[k].type, k < ARRAY_LENGTH(unlocks)
									? unlocks[k]->type
									: SZ_SLOT_NONE);
		assert_string_equal(opened->slots[0].label, "first");
		assert_string_equal(opened->slots[3].label, "more");
		assert_true(opened->slots[3].wall_time_ns > 0);
	}
}

static void test_what_is_wrong_does_not_open(void **state)
{
	struct sz_unlock wrong[] = { by_both, by_both, by_key_file, by_recovery, by_key_file };
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);

	(void)state;
	assert_int_equal(sz_key_object_create(&by_both, SZ_KDF_TEST, "", made), 0);
	assert_int_equal(sz_key_object_set_slot(made, 1, &by_recovery, SZ_KDF_TEST, ""), 0);
	memset(opened, 0x77, sizeof(*opened));
	wrong[0].passphrase = "correct horsf";
	wrong[1].key_file = other_key_file;
	wrong[2].key_file = key_file; /* right, but not alone */
	wrong[3].recovery = other_recovery;
	wrong[4].key_file = other_key_file;
	for (size_t i = 1; i < ARRAY_LENGTH(wrong); i++) {
		if (wrong[i].type == SZ_SLOT_PASSPHRASE_KEY_FILE)
			continue; /* below: each costs all presets */
		assert_int_equal(sz_key_object_open(made->page, &wrong[i], opened), -EKEYREJECTED);
	}
	/* all presets are tried; where one does not fit into memory, that is said instead */
	for (size_t i = 0; i < 2; i++) {
		int result = sz_key_object_open(made->page, &wrong[i], opened);

		assert_true(result == -EKEYREJECTED || result == -ENOMEM);
	}
	for (size_t i = 0; i < sizeof(*opened); i++)
		assert_int_equal(((const uint8_t *)opened)[i], 0x77); /* not even touched */
}

static void test_passphrases_of_impossible_lengths(void **state)
{
	static const char text[1025] = "x";
	struct sz_unlock unlock = { .type = SZ_SLOT_PASSPHRASE, .passphrase = text };
	struct sz_unlock none = { .type = SZ_SLOT_NONE };
	SECRET_OBJECT(made);

	(void)state;
	assert_int_equal(sz_key_object_create(&unlock, SZ_KDF_TEST, "", made), -EINVAL);
	unlock.passphrase_length = 1025;
	assert_int_equal(sz_key_object_create(&unlock, SZ_KDF_TEST, "", made), -EINVAL);
	assert_int_equal(sz_key_object_create(&none, SZ_KDF_TEST, "", made), -EINVAL);
	for (size_t i = 0; i < sizeof(*made); i++)
		assert_int_equal(((const uint8_t *)made)[i], 0); /* no key stays behind */
}

static void test_a_preset_that_is_not_named_is_found(void **state)
{
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);

	(void)state;
	assert_int_equal(sz_key_object_create(&by_passphrase, SZ_KDF_INTERACTIVE, "", made), 0);
	assert_int_equal(sz_key_object_open(made->page, &by_passphrase, opened), 0);
	assert_memory_equal(&opened->keys, &made->keys, sizeof(made->keys));
}

/* Flips a bit of each byte, one at a time; by the recovery key, which costs no Argon2. */
static void test_every_byte_that_matters_is_authenticated(void **state)
{
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);
	uint8_t page[SZ_KEY_OBJECT_BYTES];

	(void)state;
	assert_int_equal(sz_key_object_create(&by_recovery, SZ_KDF_TEST, "", made), 0);
	memcpy(page, made->page, sizeof(page));
	for (size_t at = 0; at < sizeof(page); at++) {
		int result;

		page[at] ^= (uint8_t)(1U << at % 8);
		result = sz_key_object_open(page, &by_recovery, opened);
		page[at] ^= (uint8_t)(1U << at % 8);
		if (at < SLOTS_AT + 64) /* salts and commitment: no slot matches */
			assert_int_equal(result, -EKEYREJECTED);
		else if (at < TAIL_AT) /* the slot, the other slots, the directory */
			assert_int_equal(result, -EBADMSG);
		else
			assert_int_equal(result, 0);
	}
}

static void test_slots_cannot_be_moved_or_taken_from_an_old_version(void **state)
{
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);
	uint8_t old[SZ_KEY_OBJECT_BYTES];
	uint8_t page[SZ_KEY_OBJECT_BYTES];
	uint8_t *slots = page + SLOTS_AT;

	(void)state;
	assert_int_equal(sz_key_object_create(&by_recovery, SZ_KDF_TEST, "", made), 0);
	memcpy(old, made->page, sizeof(old));
	memcpy(page, made->page, sizeof(page));
	/* moved: its index does not fit */
	memcpy(slots + (size_t)3 * SLOT_BYTES, slots, SLOT_BYTES);
	memset(slots, 0x55, SLOT_BYTES);
	assert_int_equal(sz_key_object_open(page, &by_recovery, opened), -EUCLEAN);
	/* copied: the directory does not fit */
	memcpy(page, made->page, sizeof(page));
	memcpy(slots + (size_t)3 * SLOT_BYTES, slots, SLOT_BYTES);
	assert_int_equal(sz_key_object_open(page, &by_recovery, opened), -EBADMSG);
	/* removed, then put back from the old version */
	assert_int_equal(sz_key_object_set_slot(made, 1, &by_key_file, SZ_KDF_TEST, ""), 0);
	assert_int_equal(sz_key_object_remove_slot(made, 0), 0);
	assert_int_equal(sz_key_object_open(made->page, &by_recovery, opened), -EKEYREJECTED);
	assert_int_equal(sz_key_object_open(made->page, &by_key_file, opened), 0);
	assert_int_equal(opened->opened_slot, 1);
	memcpy(page, made->page, sizeof(page));
	memcpy(slots, old + SLOTS_AT, SLOT_BYTES);
	assert_int_equal(sz_key_object_open(page, &by_recovery, opened), -EBADMSG);
	/* the old version still opens: revoking needs a rekey */
	assert_int_equal(sz_key_object_open(old, &by_recovery, opened), 0);
	assert_int_equal(opened->version, 1);
	assert_memory_equal(opened->keys.master, made->keys.master, SZ_KEY_BYTES);
}

static void test_versions_name_their_parents(void **state)
{
	SECRET_OBJECT(made);
	uint8_t first[SZ_KEY_OBJECT_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES];
	uint8_t zeros[SZ_DIGEST_BYTES] = { 0 };

	(void)state;
	create(made);
	assert_memory_equal(made->parent, zeros, sizeof(zeros));
	memcpy(first, made->page, sizeof(first));
	memcpy(digest, made->digest, sizeof(digest));
	assert_int_equal(sz_key_object_set_slot(made, 7, &by_key_file, SZ_KDF_TEST, ""), 0);
	assert_int_equal(made->version, 2);
	assert_memory_equal(made->parent, digest, sizeof(digest));
	assert_memory_equal(made->page, first, 32); /* the salt stays */
	assert_memory_equal(made->page + SLOTS_AT, first + SLOTS_AT, SLOT_BYTES);
	assert_memory_not_equal(made->page + DIRECTORY_AT, first + DIRECTORY_AT, 4096);
	assert_memory_not_equal(made->page + TAIL_AT, first + TAIL_AT, 4096);
}

static void test_changes_that_are_refused(void **state)
{
	static const char long_label[] =
		"0123456789012345678901234567890123456789012345678901234567890123";
	SECRET_OBJECT(made);
	SECRET_OBJECT(before);

	(void)state;
	create(made);
	memcpy(before, made, sizeof(*before));
	assert_int_equal(sz_key_object_set_slot(made, 8, &by_key_file, SZ_KDF_TEST, ""), -EINVAL);
	assert_int_equal(sz_key_object_set_slot(made, 1, &by_key_file, SZ_KDF_TEST, long_label),
			 -EINVAL);
	assert_int_equal(sz_key_object_remove_slot(made, 8), -EINVAL);
	assert_int_equal(sz_key_object_remove_slot(made, 1), -ENOENT);
	assert_int_equal(sz_key_object_remove_slot(made, 0), -EINVAL); /* the last one */
	assert_memory_equal(made, before, sizeof(*made));
	assert_int_equal(sz_key_object_set_slot(made, 1, &by_key_file, SZ_KDF_TEST, long_label + 1),
			 0);
	assert_string_equal(made->slots[1].label, long_label + 1);
}

/* A changed passphrase: the new one opens, the old one does not. */
static void test_a_slot_is_replaced(void **state)
{
	static const uint8_t new_recovery[32] = { 9 };
	static const struct sz_unlock by_new = { .type = SZ_SLOT_RECOVERY,
						 .recovery = new_recovery };
	SECRET_OBJECT(made);
	SECRET_OBJECT(opened);

	(void)state;
	assert_int_equal(sz_key_object_create(&by_recovery, SZ_KDF_TEST, "", made), 0);
	assert_int_equal(sz_key_object_open(made->page, &by_recovery, opened), 0);
	assert_int_equal(
		sz_key_object_set_slot(opened, opened->opened_slot, &by_new, SZ_KDF_TEST, ""), 0);
	assert_int_equal(sz_key_object_open(opened->page, &by_recovery, made), -EKEYREJECTED);
	assert_int_equal(sz_key_object_open(opened->page, &by_new, made), 0);
	assert_int_equal(made->version, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_type_of_slot_opens),
		cmocka_unit_test(test_what_is_wrong_does_not_open),
		cmocka_unit_test(test_passphrases_of_impossible_lengths),
		cmocka_unit_test(test_a_preset_that_is_not_named_is_found),
		cmocka_unit_test(test_every_byte_that_matters_is_authenticated),
		cmocka_unit_test(test_slots_cannot_be_moved_or_taken_from_an_old_version),
		cmocka_unit_test(test_versions_name_their_parents),
		cmocka_unit_test(test_changes_that_are_refused),
		cmocka_unit_test(test_a_slot_is_replaced),
	};

	return cmocka_run_group_tests_name("format_key_object", tests, set_up_crypto, NULL);
}
