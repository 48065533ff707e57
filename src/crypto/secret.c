/*
 * secret: the process's part in keeping secrets. Memory that is guarded, locked, left out of core
 * dumps and wiped; a process that cannot be dumped; comparisons in constant time.
 *
 * Locking is best effort, by the system's limit (RLIMIT_MEMLOCK): where it fails, secrets may reach
 * the swap, which is said once. Everything else holds regardless.
 */
#include "crypto/crypto.h"
#include "crypto_internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

/* libsodium puts an allocation's end at a guard page: its length decides how it is aligned. */
#define SECRET_ALIGNMENT 16U

static atomic_flag lock_warned = ATOMIC_FLAG_INIT;

void sz_crypto_abort(const char *why)
{
	(void)fprintf(stderr, "szpool: fatal: %s\n", why);
	abort();
}

int sz_crypto_init(struct sz_error *error)
{
	int status;

	if (sodium_init() < 0)
		return sz_fail(error, -EIO, "libsodium cannot be initialised");
	status = sz_sectors_init();
	if (status == 0)
		status = sz_block_init();
	if (status != 0)
		return sz_fail(error, status, "libcrypto lacks AES-256-GCM or AES-256-ECB");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return sz_fail(error, -errno, "core dumps cannot be switched off");
	return 0;
}

bool sz_crypto_has_aes_instructions(void)
{
#if defined(__aarch64__)
	return (getauxval(AT_HWCAP) & (1UL << 3)) != 0; /* HWCAP_AES */
#else
	return sodium_runtime_has_aesni() != 0;
#endif
}

void *sz_secret_alloc(size_t length)
{
	void *secret;

	length = ROUND_UP(length, SECRET_ALIGNMENT);
	secret = sodium_malloc(length);
	if (secret == NULL)
		return NULL;
	/* sodium_malloc locks too, but does not say whether it could. */
	if (sodium_mlock(secret, length) != 0 && !atomic_flag_test_and_set(&lock_warned))
		sz_warn("secrets cannot be locked in memory and may be swapped out; "
			"raise the limit (ulimit -l) or encrypt the swap");
	sodium_memzero(secret, length);
	return secret;
}

void sz_secret_free(void *secret)
{
	sodium_free(secret);
}

void sz_wipe(void *buffer, size_t length)
{
	sodium_memzero(buffer, length);
}

bool sz_equal(const void *a, const void *b, size_t length)
{
	return sodium_memcmp(a, b, length) == 0;
}
