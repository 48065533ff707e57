/* crypto: the primitives in every buffer shape, and that what fails to open leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/crypto.h"

#include <errno.h>
#include <pthread.h>

#define RUN_MAX 300U /* more than sectors.c draws nonces for at a time */

static const uint8_t key[SZ_KEY_BYTES] = { 1, 2, 3 };

static bool is_filled_with(const uint8_t *bytes, size_t length, uint8_t value)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static int set_up(void **state)
{
	(void)state;
	return sz_crypto_init(NULL);
}

static void test_random_bytes_differ(void **state)
{
	uint8_t a[100000];
	uint8_t b[sizeof(a)];
	unsigned int seen[256] = { 0 };

	(void)state;
	sz_random(a, sizeof(a));
	sz_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	sz_random_padding(a, sizeof(a));
	sz_random_padding(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	for (size_t i = 0; i < sizeof(a); i++)
		seen[a[i]]++;
	/* 390 of each are expected, with a deviation of 20: 8 of them is never seen */
	for (size_t i = 0; i < 256; i++)
		assert_in_range(seen[i], 230, 550);
}

static void test_filler_depends_on_all_it_is_given(void **state)
{
	static const uint8_t other_key[SZ_KEY_BYTES] = { 9 };
	uint8_t filler[5][4096];

	(void)state;
	sz_keyed_filler(key, 1, 2, filler[0], 4096);
	sz_keyed_filler(key, 1, 3, filler[1], 4096);
	sz_keyed_filler(key, 2, 2, filler[2], 4096);
	sz_keyed_filler(other_key, 1, 2, filler[3], 4096);
	for (int i = 1; i < 4; i++)
		assert_memory_not_equal(filler[0], filler[i], 4096);
	sz_keyed_filler(key, 1, 2, filler[4], 4096);
	assert_memory_equal(filler[0], filler[4], 4096);
}

/* RFC 7693, appendix A: BLAKE2b-512 of "abc" has no 256-bit sibling there; this one is b2sum's. */
static void test_digest_is_blake2b_256(void **state)
{
	uint8_t digest[SZ_DIGEST_BYTES];
	char text[2 * SZ_DIGEST_BYTES + 1];

	(void)state;
	sz_digest("abc", 3, digest);
	sz_hex_encode(digest, sizeof(digest), text);
	assert_string_equal(text,
			    "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void test_hash_depends_on_all_it_is_given(void **state)
{
	static const uint8_t other_key[SZ_KEY_BYTES] = { 9 };
	static const uint8_t salt[16] = { 5 };
	static const uint8_t zeros[16];
	uint8_t out[6][SZ_KEY_BYTES];

	(void)state;
	sz_hash(key, "szpool1 a", NULL, "message", 7, out[0]);
	sz_hash(other_key, "szpool1 a", NULL, "message", 7, out[1]);
	sz_hash(key, "szpool1 b", NULL, "message", 7, out[2]);
	sz_hash(key, "szpool1 a", salt, "message", 7, out[3]);
	sz_hash(key, "szpool1 a", NULL, "massage", 7, out[4]);
	for (int i = 1; i < 5; i++)
		assert_memory_not_equal(out[0], out[i], SZ_KEY_BYTES);
	sz_hash(key, "szpool1 a", zeros, "message", 7, out[5]);
	assert_memory_equal(out[0], out[5], SZ_KEY_BYTES);
}

static void test_x_opens_what_it_sealed_at_any_length(void **state)
{
	static const size_t lengths[] = { 0, 1, 15, 16, 17, 64, 4024, 4056, 10000 };
	static const uint8_t nonce[SZ_X_NONCE_BYTES] = { 7 };
	uint8_t plaintext[10000];
	uint8_t sealed[10000];
	uint8_t opened[10000];
	uint8_t tag[SZ_X_TAG_BYTES];

	(void)state;
	sz_random(plaintext, sizeof(plaintext));
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		size_t length = lengths[i];

		sz_x_seal(key, nonce, "ad", 2, plaintext, length, sealed, tag);
		assert_int_equal(sz_x_open(key, nonce, "ad", 2, sealed, length, tag, opened), 0);
		assert_memory_equal(opened, plaintext, length);
		/* in place */
		assert_int_equal(sz_x_open(key, nonce, "ad", 2, sealed, length, tag, sealed), 0);
		assert_memory_equal(sealed, plaintext, length);
		sz_x_seal(key, nonce, "ad", 2, sealed, length, sealed, tag);
		assert_int_equal(sz_x_open(key, nonce, "ad", 2, sealed, length, tag, opened), 0);
	}
}

static void test_x_wipes_what_it_cannot_open(void **state)
{
	uint8_t nonce[SZ_X_NONCE_BYTES] = { 7 };
	uint8_t sealed[100];
	uint8_t opened[100];
	uint8_t tag[SZ_X_TAG_BYTES];

	(void)state;
	memset(sealed, 0x5a, sizeof(sealed));
	sz_x_seal(key, nonce, "ad", 2, sealed, sizeof(sealed), sealed, tag);

	memset(opened, 0xee, sizeof(opened));
	assert_int_equal(sz_x_open(key, nonce, "aD", 2, sealed, sizeof(sealed), tag, opened),
			 -EBADMSG);
	assert_true(is_filled_with(opened, sizeof(opened), 0));

	memset(opened, 0xee, sizeof(opened));
	nonce[23] ^= 1;
	assert_int_equal(sz_x_open(key, nonce, "ad", 2, sealed, sizeof(sealed), tag, opened),
			 -EBADMSG);
	assert_true(is_filled_with(opened, sizeof(opened), 0));
	nonce[23] ^= 1;

	sealed[99] ^= 0x80;
	assert_int_equal(sz_x_open(key, nonce, "ad", 2, sealed, sizeof(sealed), tag, sealed),
			 -EBADMSG);
	assert_true(is_filled_with(sealed, sizeof(sealed), 0));
}

static void check_sectors(uint32_t count, size_t misalignment, bool seal_in_place,
			  bool open_in_place)
{
	size_t length = (size_t)count * SZ_SECTOR_BYTES;
	CLEANUP_FREE uint8_t *a = malloc(length + misalignment + 1);
	CLEANUP_FREE uint8_t *b = malloc(length + misalignment + 1);
	CLEANUP_FREE uint8_t *original = malloc(length + 1);
	uint8_t nonce_tags[RUN_MAX * SZ_NONCE_TAG_BYTES + 1];
	uint8_t damaged[RUN_MAX / 8 + 1] = { 0 };
	uint8_t *plaintext;
	uint8_t *sealed;
	uint8_t *opened;

	assert_true(a != NULL && b != NULL && original != NULL);
	plaintext = a + misalignment;
	sealed = seal_in_place ? plaintext : b + misalignment;
	opened = open_in_place ? sealed : seal_in_place ? b + misalignment : plaintext;
	sz_random_padding(original, length);
	memcpy(plaintext, original, length);
	nonce_tags[(size_t)count * SZ_NONCE_TAG_BYTES] = 0x77;
	plaintext[length] = 0x77;
	b[misalignment + length] = 0x77;
	assert_int_equal(sz_sectors_seal(key, 1000, count, plaintext, sealed, nonce_tags), 0);
	if (count > 0)
		assert_memory_not_equal(sealed, original, length);
	if (!open_in_place)
		memset(opened, 0, length);
	assert_int_equal(sz_sectors_open(key, 1000, count, sealed, nonce_tags, opened, damaged), 0);
	assert_memory_equal(opened, original, length);
	assert_true(is_filled_with(damaged, sizeof(damaged), 0));
	assert_int_equal(nonce_tags[(size_t)count * SZ_NONCE_TAG_BYTES], 0x77);
	assert_int_equal(plaintext[length], 0x77);
	assert_int_equal(b[misalignment + length], 0x77);
}

static void test_sectors_in_every_buffer_shape(void **state)
{
	static const uint32_t counts[] = { 0, 1, 2, 7, 8, 9, 255, 256, 257, RUN_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(counts); i++)
		for (size_t misalignment = 0; misalignment < 18; misalignment += 1 + i)
			for (int shape = 0; shape < 4; shape++)
				check_sectors(counts[i], misalignment, shape & 1, shape & 2);
}

static void test_sectors_wipe_and_report_exactly_what_is_damaged(void **state)
{
	enum {
		COUNT = 20
	};
	CLEANUP_FREE uint8_t *sealed = malloc((size_t)COUNT * SZ_SECTOR_BYTES);
	CLEANUP_FREE uint8_t *opened = malloc((size_t)COUNT * SZ_SECTOR_BYTES);
	uint8_t nonce_tags[COUNT * SZ_NONCE_TAG_BYTES];

	(void)state;
	assert_true(sealed != NULL && opened != NULL);
	for (int in_place = 0; in_place < 2; in_place++) {
		uint8_t *target = in_place != 0 ? sealed : opened;
		uint8_t damaged[3] = { 0 };

		memset(sealed, 0x5a, (size_t)COUNT * SZ_SECTOR_BYTES);
		assert_int_equal(sz_sectors_seal(key, 5, COUNT, sealed, sealed, nonce_tags), 0);
		sealed[0] ^= 1;                                /* sector 0: its first byte */
		sealed[7 * SZ_SECTOR_BYTES + 4095] ^= 0x80;    /* 7: its last */
		nonce_tags[8 * SZ_NONCE_TAG_BYTES] ^= 1;       /* 8: its nonce */
		nonce_tags[19 * SZ_NONCE_TAG_BYTES + 27] ^= 1; /* 19: its tag's last byte */
		assert_int_equal(
			sz_sectors_open(key, 5, COUNT, sealed, nonce_tags, target, damaged),
			-EBADMSG);
		assert_int_equal(damaged[0], 0x81);
		assert_int_equal(damaged[1], 0x01);
		assert_int_equal(damaged[2], 0x08);
		for (uint32_t i = 0; i < COUNT; i++) {
			bool is_damaged = i == 0 || i == 7 || i == 8 || i == 19;

			assert_true(is_filled_with(target + (size_t)i * SZ_SECTOR_BYTES,
						   SZ_SECTOR_BYTES, is_damaged ? 0 : 0x5a));
		}
	}
}

static void test_a_sector_opens_at_its_own_position_only(void **state)
{
	static const uint64_t positions[] = { 0, 1, UINT64_C(1) << 40 };
	uint8_t sealed[SZ_SECTOR_BYTES];
	uint8_t opened[SZ_SECTOR_BYTES];
	uint8_t nonce_tag[SZ_NONCE_TAG_BYTES];
	uint8_t damaged = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(positions); i++) {
		memset(sealed, 0x5a, sizeof(sealed));
		assert_int_equal(sz_sectors_seal(key, positions[i], 1, sealed, sealed, nonce_tag),
				 0);
		for (size_t k = 0; k < ARRAY_LENGTH(positions); k++)
			assert_int_equal(sz_sectors_open(key, positions[k], 1, sealed, nonce_tag,
							 opened, &damaged),
					 k == i ? 0 : -EBADMSG);
	}
}

static void test_nonces_do_not_repeat(void **state)
{
	CLEANUP_FREE uint8_t *sealed = malloc((size_t)RUN_MAX * SZ_SECTOR_BYTES);
	uint8_t nonce_tags[RUN_MAX * SZ_NONCE_TAG_BYTES];

	(void)state;
	assert_non_null(sealed);
	memset(sealed, 0, (size_t)RUN_MAX * SZ_SECTOR_BYTES);
	assert_int_equal(sz_sectors_seal(key, 0, RUN_MAX, sealed, sealed, nonce_tags), 0);
	for (size_t i = 0; i < RUN_MAX; i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(nonce_tags + i * SZ_NONCE_TAG_BYTES,
						nonce_tags + k * SZ_NONCE_TAG_BYTES,
						SZ_G_NONCE_BYTES);
}

static void *seal_and_open(void *argument)
{
	uint8_t own_key[SZ_KEY_BYTES] = { 0 };
	uint8_t buffer[4 * SZ_SECTOR_BYTES];
	uint8_t nonce_tags[4 * SZ_NONCE_TAG_BYTES];
	uint8_t damaged = 0;
	uint8_t value = *(const uint8_t *)argument;

	own_key[0] = value;
	for (int i = 0; i < 200; i++) {
		memset(buffer, value, sizeof(buffer));
		if (sz_sectors_seal(own_key, value, 4, buffer, buffer, nonce_tags) != 0 ||
		    sz_sectors_open(own_key, value, 4, buffer, nonce_tags, buffer, &damaged) != 0 ||
		    !is_filled_with(buffer, sizeof(buffer), value))
			return argument;
	}
	return NULL;
}

static void test_threads_do_not_share_keys(void **state)
{
	pthread_t threads[4];
	uint8_t values[4] = { 1, 2, 3, 4 };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_and_open, &values[i]), 0);
	for (int i = 0; i < 4; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
}

/* FIPS 197, appendix C.3. */
static void test_block_is_aes_256(void **state)
{
	static const char expected[] = "8ea2b7ca516745bfeafc49904b496089";
	uint8_t block_key[SZ_KEY_BYTES];
	uint8_t block[16];
	uint8_t out[16];
	char text[33];

	(void)state;
	for (uint8_t i = 0; i < 32; i++)
		block_key[i] = i;
	for (uint8_t i = 0; i < 16; i++)
		block[i] = (uint8_t)(i * 0x11);
	sz_block_encrypt(block_key, block, out);
	sz_hex_encode(out, 16, text);
	assert_string_equal(text, expected);
	sz_block_decrypt(block_key, out, out);
	assert_memory_equal(out, block, 16);
}

static void test_kdf_checks_lengths_and_depends_on_all(void **state)
{
	static const char passphrase[SZ_PASSPHRASE_MAX_BYTES + 1] = "correct horse";
	static const uint8_t salt[SZ_KDF_SALT_BYTES] = { 1 };
	static const uint8_t other_salt[SZ_KDF_SALT_BYTES] = { 2 };
	uint8_t out[5][SZ_KEY_BYTES];

	(void)state;
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 0, salt, out[0]), -EINVAL);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 1025, salt, out[0]), -EINVAL);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 1024, salt, out[0]), 0);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 13, salt, out[1]), 0);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 13, other_salt, out[2]), 0);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 12, salt, out[3]), 0);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(out[i], out[k], SZ_KEY_BYTES);
	assert_int_equal(sz_kdf_derive(SZ_KDF_TEST, passphrase, 13, salt, out[4]), 0);
	assert_memory_equal(out[1], out[4], SZ_KEY_BYTES);
}

static void test_the_test_preset_is_tried_first_here(void **state)
{
	size_t count;
	const enum sz_kdf *presets = sz_kdf_presets(&count);

	(void)state;
	assert_int_equal(count, SZ_KDF_COUNT);
	assert_int_equal(presets[0], SZ_KDF_TEST);
}

/* Whichever is to be first, none is left out. */
static void test_presets_in_another_order(void **state)
{
	static const enum sz_kdf firsts[] = { SZ_KDF_INTERACTIVE, SZ_KDF_MODERATE,
					      SZ_KDF_SENSITIVE };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(firsts); i++) {
		unsigned int tried = 0;
		const enum sz_kdf *presets;
		size_t count;

		sz_kdf_try_first(firsts[i]);
		presets = sz_kdf_presets(&count);
		assert_int_equal(count, SZ_KDF_COUNT);
		assert_int_equal(presets[0], SZ_KDF_TEST);
		assert_int_equal(presets[1], firsts[i]);
		for (size_t k = 0; k < count; k++)
			tried |= 1U << presets[k];
		assert_int_equal(tried, (1U << SZ_KDF_COUNT) - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_bytes_differ),
		cmocka_unit_test(test_filler_depends_on_all_it_is_given),
		cmocka_unit_test(test_digest_is_blake2b_256),
		cmocka_unit_test(test_hash_depends_on_all_it_is_given),
		cmocka_unit_test(test_x_opens_what_it_sealed_at_any_length),
		cmocka_unit_test(test_x_wipes_what_it_cannot_open),
		cmocka_unit_test(test_sectors_in_every_buffer_shape),
		cmocka_unit_test(test_sectors_wipe_and_report_exactly_what_is_damaged),
		cmocka_unit_test(test_a_sector_opens_at_its_own_position_only),
		cmocka_unit_test(test_nonces_do_not_repeat),
		cmocka_unit_test(test_threads_do_not_share_keys),
		cmocka_unit_test(test_block_is_aes_256),
		cmocka_unit_test(test_kdf_checks_lengths_and_depends_on_all),
		cmocka_unit_test(test_the_test_preset_is_tried_first_here),
		cmocka_unit_test(test_presets_in_another_order), /* last: it stays */
	};

	return cmocka_run_group_tests_name("crypto", tests, set_up, NULL);
}
