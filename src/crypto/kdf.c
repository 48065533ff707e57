/*
 * kdf: Argon2id (version 1.3, one lane), the only slow function, and its presets.
 *
 * A key object does not say which preset it was made with (it says nothing at all): opening tries
 * them in the order of sz_kdf_presets, the cheapest first: a store that was made for a small machine has to
 * open there, and what the cheaper ones add to the dearer is a quarter and less. The list only grows. The test preset exists only where
 * SZ_TEST_KDF is defined, in a second build of this library that only test programs link.
 */
#include "crypto/crypto.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

#define KIB 1024ULL
#define MIB (1024 * KIB)

static const struct {
	uint64_t memory_bytes;
	uint64_t passes;
} presets[SZ_KDF_COUNT] = {
	[SZ_KDF_MODERATE] = { 256 * MIB, 3 },
	[SZ_KDF_INTERACTIVE] = { 64 * MIB, 3 },
	[SZ_KDF_SENSITIVE] = { 1024 * MIB, 4 },
#ifdef SZ_TEST_KDF
	[SZ_KDF_TEST] = { 64 * KIB, 1 },
#endif
};

#ifdef SZ_TEST_KDF
/* By this a test tells that no product binary was linked with the test build. */
__attribute__((used)) static const char marker[] = "szpool: the test preset is compiled in";
#endif

static const enum sz_kdf order[] = {
#ifdef SZ_TEST_KDF
	SZ_KDF_TEST,
#endif
	SZ_KDF_INTERACTIVE,
	SZ_KDF_MODERATE,
	SZ_KDF_SENSITIVE,
};
static_assert(ARRAY_LENGTH(order) == SZ_KDF_COUNT, "each preset is tried");
static_assert(SZ_KDF_SALT_BYTES >= crypto_pwhash_argon2id_SALTBYTES, "salt of Argon2");

const enum sz_kdf *sz_kdf_presets(size_t *count_out)
{
	*count_out = ARRAY_LENGTH(order);
	return order;
}

/*
 * What the kernel could hand out now, swap included; UINT64_MAX if it does not say. Asked first,
 * because with overcommitted memory the process would not be refused, but killed.
 */
static uint64_t available_bytes(void)
{
	uint64_t total_kib = 0;
	unsigned int found = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	if (file == NULL)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), file) != NULL) {
		char *end;
		uint64_t kib;

		if (strncmp(line, "MemAvailable:", 13) != 0 && strncmp(line, "SwapFree:", 9) != 0)
			continue;
		kib = strtoull(strchr(line, ':') + 1, &end, 10);
		if (kib <= UINT64_MAX / KIB / 2) {
			total_kib += kib;
			found++;
		}
	}
	(void)fclose(file);
	return found == 2 ? total_kib * KIB : UINT64_MAX;
}

int sz_kdf_derive(enum sz_kdf kdf, const char *passphrase, size_t length,
		  const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES])
{
	assert((size_t)kdf < SZ_KDF_COUNT);
	if (length < 1 || length > SZ_PASSPHRASE_MAX_BYTES)
		return -EINVAL;
	if (presets[kdf].memory_bytes > available_bytes())
		return -ENOMEM;
	if (crypto_pwhash_argon2id(out, SZ_KEY_BYTES, passphrase, length, salt, presets[kdf].passes,
				   (size_t)presets[kdf].memory_bytes,
				   crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0) {
		sz_wipe(out, SZ_KEY_BYTES);
		return -ENOMEM; /* its other reasons are ruled out by the table */
	}
	return 0;
}
