/*
 * sectors: G, AES-256-GCM over runs of 4 KiB sectors, by libcrypto's EVP.
 *
 * A run has a context of its own: with the cipher fetched once, making, keying and cleansing one
 * costs 30 ns beside 1,100 ns for a sector, so that a cache of contexts would only be a place for
 * keys to stay in.
 *
 * 1. Each encryption has a fresh random nonce; those of a run come from one getrandom(2).
 * 2. No unauthenticated plaintext leaves this file: GCM writes before it checks the tag, so a sector
 *    that fails is wiped here.
 */
#include "crypto/crypto.h"
#include "crypto_internal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>

#define NONCES_PER_CALL 256U /* nonces that are on the stack at a time: 3 KiB, a run of 1 MiB */

static EVP_CIPHER *gcm; /* set by sz_sectors_init, constant after it */

static void cleanup_context(EVP_CIPHER_CTX **context)
{
	EVP_CIPHER_CTX_free(*context); /* wipes the key */
}

int sz_sectors_init(void)
{
	if (gcm == NULL)
		gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	return gcm == NULL ? -ENOMEM : 0;
}

static bool seal_one(EVP_CIPHER_CTX *context, uint64_t sector, const uint8_t *plaintext,
		     uint8_t *ciphertext, uint8_t *nonce_tag)
{
	uint8_t associated[8];
	int length;

	sz_put_le64(associated, sector);
	return EVP_EncryptInit_ex2(context, NULL, NULL, nonce_tag, NULL) == 1 &&
	       EVP_EncryptUpdate(context, NULL, &length, associated, sizeof(associated)) == 1 &&
	       EVP_EncryptUpdate(context, ciphertext, &length, plaintext, SZ_SECTOR_BYTES) == 1 &&
	       length == (int)SZ_SECTOR_BYTES &&
	       EVP_EncryptFinal_ex(context, ciphertext + SZ_SECTOR_BYTES, &length) == 1 &&
	       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, SZ_G_TAG_BYTES,
				   nonce_tag + SZ_G_NONCE_BYTES) == 1;
}

/* 0, -EBADMSG, or -EIO if libcrypto fails; plaintext may hold garbage unless 0. */
static int open_one(EVP_CIPHER_CTX *context, uint64_t sector, const uint8_t *ciphertext,
		    const uint8_t *nonce_tag, uint8_t *plaintext)
{
	uint8_t associated[8];
	uint8_t tag[SZ_G_TAG_BYTES];
	int length;

	sz_put_le64(associated, sector);
	memcpy(tag, nonce_tag + SZ_G_NONCE_BYTES, sizeof(tag));
	if (EVP_DecryptInit_ex2(context, NULL, NULL, nonce_tag, NULL) != 1 ||
	    EVP_DecryptUpdate(context, NULL, &length, associated, sizeof(associated)) != 1 ||
	    EVP_DecryptUpdate(context, plaintext, &length, ciphertext, SZ_SECTOR_BYTES) != 1 ||
	    length != (int)SZ_SECTOR_BYTES ||
	    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, SZ_G_TAG_BYTES, tag) != 1)
		return -EIO;
	if (EVP_DecryptFinal_ex(context, plaintext + SZ_SECTOR_BYTES, &length) != 1)
		return -EBADMSG;
	return 0;
}

static void fill_nonces(uint8_t *nonce_tags, uint32_t count)
{
	uint8_t nonces[NONCES_PER_CALL * SZ_G_NONCE_BYTES];

	for (uint32_t done = 0; done < count;) {
		uint32_t some = count - done < NONCES_PER_CALL ? count - done : NONCES_PER_CALL;

		sz_random(nonces, (size_t)some * SZ_G_NONCE_BYTES);
		for (uint32_t i = 0; i < some; i++)
			memcpy(nonce_tags + (size_t)(done + i) * SZ_NONCE_TAG_BYTES,
			       nonces + (size_t)i * SZ_G_NONCE_BYTES, SZ_G_NONCE_BYTES);
		done += some;
	}
}

static bool is_apart_or_equal(const uint8_t *a, const uint8_t *b, size_t length)
{
	return a == b || a + length <= b || b + length <= a;
}

int sz_sectors_seal(const uint8_t key[SZ_KEY_BYTES], uint64_t sector, uint32_t count,
		    const void *plaintext, void *ciphertext, uint8_t *nonce_tags)
{
	CLEANUP(cleanup_context) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	size_t length = (size_t)count * SZ_SECTOR_BYTES;

	assert(gcm != NULL && is_apart_or_equal(plaintext, ciphertext, length));
	if (context == NULL || EVP_EncryptInit_ex2(context, gcm, key, NULL, NULL) != 1)
		return -ENOMEM;
	fill_nonces(nonce_tags, count);
	for (uint32_t i = 0; i < count; i++) {
		size_t at = (size_t)i * SZ_SECTOR_BYTES;

		if (!seal_one(context, sector + i, (const uint8_t *)plaintext + at,
			      (uint8_t *)ciphertext + at,
			      nonce_tags + (size_t)i * SZ_NONCE_TAG_BYTES)) {
			sz_wipe(ciphertext, length);
			return -EIO;
		}
	}
	return 0;
}

int sz_sectors_open(const uint8_t key[SZ_KEY_BYTES], uint64_t sector, uint32_t count,
		    const void *ciphertext, const uint8_t *nonce_tags, void *plaintext,
		    uint8_t *damaged)
{
	CLEANUP(cleanup_context) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	size_t length = (size_t)count * SZ_SECTOR_BYTES;
	int result = 0;

	assert(gcm != NULL && is_apart_or_equal(plaintext, ciphertext, length));
	if (context == NULL || EVP_DecryptInit_ex2(context, gcm, key, NULL, NULL) != 1)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		size_t at = (size_t)i * SZ_SECTOR_BYTES;
		int status = open_one(context, sector + i, (const uint8_t *)ciphertext + at,
				      nonce_tags + (size_t)i * SZ_NONCE_TAG_BYTES,
				      (uint8_t *)plaintext + at);

		if (status == 0)
			continue;
		if (status != -EBADMSG) {
			sz_wipe(plaintext, length);
			return status;
		}
		sz_wipe((uint8_t *)plaintext + at, SZ_SECTOR_BYTES);
		damaged[i / 8] = (uint8_t)(damaged[i / 8] | 1U << (i % 8));
		result = -EBADMSG;
	}
	return result;
}
