/*
 * block: N, one AES-256 block, for names alone: a permutation of ids, so no two ids share a name
 * and listing a folder needs no file opened. Equal ids have equal names; ids hold 64 random bits.
 */
#include "crypto/crypto.h"
#include "crypto_internal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>

static EVP_CIPHER *ecb; /* set by sz_block_init, constant after it */

int sz_block_init(void)
{
	if (ecb == NULL)
		ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	return ecb == NULL ? -ENOMEM : 0;
}

static void crypt_block(const uint8_t key[SZ_KEY_BYTES], const uint8_t in[16], uint8_t out[16],
			int encrypt)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int length = 0;

	assert(ecb != NULL);
	if (context == NULL || EVP_CipherInit_ex2(context, ecb, key, NULL, encrypt, NULL) != 1 ||
	    EVP_CIPHER_CTX_set_padding(context, 0) != 1 ||
	    EVP_CipherUpdate(context, out, &length, in, 16) != 1 || length != 16)
		sz_crypto_abort("AES failed: no memory?");
	EVP_CIPHER_CTX_free(context); /* wipes the key */
}

void sz_block_encrypt(const uint8_t key[SZ_KEY_BYTES], const uint8_t in[16], uint8_t out[16])
{
	crypt_block(key, in, out, 1);
}

void sz_block_decrypt(const uint8_t key[SZ_KEY_BYTES], const uint8_t in[16], uint8_t out[16])
{
	crypt_block(key, in, out, 0);
}
