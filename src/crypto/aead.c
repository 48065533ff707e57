/* aead: H, the digest, and X (XChaCha20-Poly1305-IETF), by libsodium. */
#include "crypto/crypto.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

static_assert(SZ_X_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce of X");
static_assert(SZ_X_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag of X");
static_assert(SZ_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key of X");

void sz_hash(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t salt[16],
	     const void *message, size_t length, uint8_t out[SZ_KEY_BYTES])
{
	uint8_t padded[crypto_generichash_blake2b_PERSONALBYTES] = { 0 };

	assert(strlen(personal) <= sizeof(padded));
	for (size_t i = 0; personal[i] != '\0'; i++)
		padded[i] = (uint8_t)personal[i];
	(void)crypto_generichash_blake2b_salt_personal(out, SZ_KEY_BYTES, message, length, key,
						       SZ_KEY_BYTES, salt, padded);
}

void sz_digest(const void *message, size_t length, uint8_t out[SZ_DIGEST_BYTES])
{
	(void)crypto_generichash_blake2b(out, SZ_DIGEST_BYTES, message, length, NULL, 0);
}

void sz_x_seal(const uint8_t key[SZ_KEY_BYTES], const uint8_t nonce[SZ_X_NONCE_BYTES],
	       const void *associated, size_t associated_length, const void *plaintext,
	       size_t length, void *ciphertext, uint8_t tag[SZ_X_TAG_BYTES])
{
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
		ciphertext, tag, NULL, plaintext, length, associated, associated_length, NULL,
		nonce, key);
}

int sz_x_open(const uint8_t key[SZ_KEY_BYTES], const uint8_t nonce[SZ_X_NONCE_BYTES],
	      const void *associated, size_t associated_length, const void *ciphertext,
	      size_t length, const uint8_t tag[SZ_X_TAG_BYTES], void *plaintext)
{
	if (crypto_aead_xchacha20poly1305_ietf_decrypt_detached(plaintext, NULL, ciphertext, length,
								tag, associated, associated_length,
								nonce, key) == 0)
		return 0;
	if (length > 0)
		sz_wipe(plaintext, length);
	return -EBADMSG;
}
