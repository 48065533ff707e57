/* crypto's own: what its files share. */
#ifndef SZ_CRYPTO_CRYPTO_INTERNAL_H
#define SZ_CRYPTO_CRYPTO_INTERNAL_H

/* For failures that no caller could go on from: says why on stderr, then aborts. */
_Noreturn void sz_crypto_abort(const char *why);

/* Prepare what sectors.c and block.c need of libcrypto; 0 or -ENOMEM. Safe to repeat. */
int sz_sectors_init(void);
int sz_block_init(void);

#endif
