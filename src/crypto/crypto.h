/*
 * crypto: the only door to libsodium and libcrypto. Random bytes, secret memory, the three
 * primitives that the format is built from, and the passphrase hash.
 *
 *   H  BLAKE2b-256, keyed, personalised       libsodium crypto_generichash_blake2b_salt_personal
 *   X  XChaCha20-Poly1305-IETF                all metadata; a random 24-byte nonce
 *   G  AES-256-GCM                            sectors only; a random 12-byte nonce
 *   N  one AES-256 block                      object ids to names and back
 *
 * What derives from what, and every byte, is in docs/FORMAT.md. All functions are thread-safe after
 * sz_crypto_init. On failure of an opening function the output buffer is wiped.
 */
#ifndef SZ_CRYPTO_CRYPTO_H
#define SZ_CRYPTO_CRYPTO_H

#include "base/base.h"

#define SZ_KEY_BYTES     32
#define SZ_DIGEST_BYTES  32
#define SZ_X_NONCE_BYTES 24
#define SZ_X_TAG_BYTES   16
#define SZ_G_NONCE_BYTES 12
#define SZ_G_TAG_BYTES   16
#define SZ_SECTOR_BYTES  4096U

/* Once, before anything else of this layer, and again in a child after fork. Makes the process non-dumpable. */
int sz_crypto_init(struct sz_error *error) MUST_CHECK;
bool sz_crypto_has_aes_instructions(void);

/* getrandom(2), one call, nothing buffered between calls. Aborts if the kernel has no entropy source. */
void sz_random(void *buffer, size_t length);
/* Bytes that look random, fast, for padding: a ChaCha20 stream under a fresh random key. */
void sz_random_padding(void *buffer, size_t length);
/* Deterministic bytes from a key and two numbers: what a damaged sector reads as (filler). */
void sz_keyed_filler(const uint8_t key[SZ_KEY_BYTES], uint64_t a, uint64_t b, void *buffer,
		     size_t length);

/* Memory for secrets, zeros at first: guarded, locked (a lock that fails is warned of, once), not dumped, wiped when freed. */
void *sz_secret_alloc(size_t length); /* NULL: ENOMEM */
void sz_secret_free(void *secret);
void sz_wipe(void *buffer, size_t length);
bool sz_equal(const void *a, const void *b, size_t length); /* constant time */

/* H(key, personal, salt, message). personal: at most 16 characters, zero-padded. salt may be NULL: zeros. */
void sz_hash(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t salt[16],
	     const void *message, size_t length, uint8_t out[SZ_KEY_BYTES]);
/* BLAKE2b-256 without a key. */
void sz_digest(const void *message, size_t length, uint8_t out[SZ_DIGEST_BYTES]);

/* X. ciphertext has length bytes, tag is apart. plaintext may equal ciphertext. */
void sz_x_seal(const uint8_t key[SZ_KEY_BYTES], const uint8_t nonce[SZ_X_NONCE_BYTES],
	       const void *associated, size_t associated_length, const void *plaintext,
	       size_t length, void *ciphertext, uint8_t tag[SZ_X_TAG_BYTES]);
/* -EBADMSG if it is not authentic. */
int sz_x_open(const uint8_t key[SZ_KEY_BYTES], const uint8_t nonce[SZ_X_NONCE_BYTES],
	      const void *associated, size_t associated_length, const void *ciphertext,
	      size_t length, const uint8_t tag[SZ_X_TAG_BYTES], void *plaintext) MUST_CHECK;

/*
 * G over a run of sectors: sector i of the run is sealed with nonce_tags[i] (nonce ‖ tag, 28 bytes)
 * and associated data u64 (sector + i). Sealing fills in nonces (fresh, one getrandom) and tags.
 * Opening works in place or not; each sector that is not authentic is wiped and its bit set in
 * damaged (bit i of byte i / 8; the caller zeroes it), -EBADMSG if any was.
 */
#define SZ_NONCE_TAG_BYTES (SZ_G_NONCE_BYTES + SZ_G_TAG_BYTES)
int sz_sectors_seal(const uint8_t key[SZ_KEY_BYTES], uint64_t sector, uint32_t count,
		    const void *plaintext, void *ciphertext, uint8_t *nonce_tags) MUST_CHECK;
int sz_sectors_open(const uint8_t key[SZ_KEY_BYTES], uint64_t sector, uint32_t count,
		    const void *ciphertext, const uint8_t *nonce_tags, void *plaintext,
		    uint8_t *damaged) MUST_CHECK;

/* N: one AES-256 block. */
void sz_block_encrypt(const uint8_t key[SZ_KEY_BYTES], const uint8_t in[16], uint8_t out[16]);
void sz_block_decrypt(const uint8_t key[SZ_KEY_BYTES], const uint8_t in[16], uint8_t out[16]);

/*
 * Argon2id13. The list of presets only grows.
 * -ENOMEM: the memory was not to be had (not a wrong passphrase).
 */
enum sz_kdf {
	SZ_KDF_MODERATE,    /* 256 MiB, t = 3: the default */
	SZ_KDF_INTERACTIVE, /* 64 MiB, t = 3: small machines */
	SZ_KDF_SENSITIVE,   /* 1 GiB, t = 4 */
#ifdef SZ_TEST_KDF
	SZ_KDF_TEST, /* 64 KiB, t = 1: only in test programs, never in the product */
#endif
	SZ_KDF_COUNT,
};
#define SZ_KDF_SALT_BYTES       32   /* Argon2 takes the first 16; the commitments take all */
#define SZ_PASSPHRASE_MAX_BYTES 1024 /* more is a mistake: a file given in place of a passphrase */
/* All presets, in the order in which opening tries them on this machine now; constant arrays. */
const enum sz_kdf *sz_kdf_presets(size_t *count_out);
/* Which comes first in this process, whatever its memory: it saves time to know. Before other threads start. */
void sz_kdf_try_first(enum sz_kdf);
/* -EINVAL: the length is not 1 … 1,024. */
int sz_kdf_derive(enum sz_kdf, const char *passphrase, size_t length,
		  const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES]) MUST_CHECK;

#endif
