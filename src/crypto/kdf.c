/*
 * kdf: Argon2id (version 1.3, one lane), the only slow function, and its presets.
 *
 * A key object does not say which preset it was made with (it says nothing at all): opening tries all of them. Where there
 * is memory for it many times over the default goes first; elsewhere the cheapest, so that a store that was made for a
 * small machine opens there without swapping, and what the cheaper ones add to the dearer is a quarter and less. Who
 * knows the preset can have it tried first; the others follow. The list only grows. The test preset exists only where
 * SZ_TEST_KDF is defined, in a second build of this library that only test programs link.
 *
 * libargon2 takes its memory from us: in huge pages. Argon2 reads at random; in pages of 4 KiB nearly each of its reads
 * misses the TLB, which under a hypervisor took two thirds of its time (1.25 s, and 0.39 with huge pages, of the same
 * code). libsodium's Argon2 maps its memory itself, and in a kernel that gives huge pages only where they are asked for
 * (transparent_hugepage=madvise) gets none.
 */
#include "crypto/crypto.h"

#include <argon2.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KIB               1024ULL
#define MIB               (1024 * KIB)

#define ARGON2_SALT_BYTES 16

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

#ifdef SZ_TEST_KDF
#define TEST_FIRST SZ_KDF_TEST,
#else
#define TEST_FIRST
#endif
static const enum sz_kdf cheapest_first[] = { TEST_FIRST SZ_KDF_INTERACTIVE, SZ_KDF_MODERATE,
					      SZ_KDF_SENSITIVE };
static const enum sz_kdf default_first[] = { TEST_FIRST SZ_KDF_MODERATE, SZ_KDF_INTERACTIVE,
					     SZ_KDF_SENSITIVE };
static const enum sz_kdf dearest_first[] = { TEST_FIRST SZ_KDF_SENSITIVE, SZ_KDF_MODERATE,
					     SZ_KDF_INTERACTIVE };
static const enum sz_kdf *wished; /* one of these; NULL: by the memory */
static_assert(ARRAY_LENGTH(cheapest_first) == SZ_KDF_COUNT, "each preset is tried");
static_assert(ARRAY_LENGTH(default_first) == SZ_KDF_COUNT, "each preset is tried");
static_assert(ARRAY_LENGTH(dearest_first) == SZ_KDF_COUNT, "each preset is tried");
#define AMPLE_BYTES (1024 * MIB) /* available: the default goes first */
static_assert(SZ_KDF_SALT_BYTES >= ARGON2_SALT_BYTES, "salt of Argon2");

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

const enum sz_kdf *sz_kdf_presets(size_t *count_out)
{
	*count_out = SZ_KDF_COUNT;
	if (wished != NULL)
		return wished;
	return available_bytes() >= AMPLE_BYTES ? default_first : cheapest_first;
}

void sz_kdf_try_first(enum sz_kdf kdf)
{
	if (kdf == SZ_KDF_SENSITIVE)
		wished = dearest_first;
	else
		wished = kdf == SZ_KDF_MODERATE ? default_first : cheapest_first;
}

/* Of libargon2: 0, or a number that is an error. */
static int memory_map(uint8_t **memory_out, size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return ARGON2_MEMORY_ALLOCATION_ERROR;
	(void)madvise(memory, bytes, MADV_HUGEPAGE); /* without them it is slower, no more */
	(void)madvise(memory, bytes, MADV_DONTDUMP);
	*memory_out = memory;
	return ARGON2_OK;
}

static void memory_unmap(uint8_t *memory, size_t bytes)
{
	(void)munmap(memory, bytes);
}

int sz_kdf_derive(enum sz_kdf kdf, const char *passphrase, size_t length,
		  const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES])
{
	uint8_t salt_used[ARGON2_SALT_BYTES];
	argon2_context context;
	uint8_t *read_only;

	assert((size_t)kdf < SZ_KDF_COUNT);
	if (length < 1 || length > SZ_PASSPHRASE_MAX_BYTES)
		return -EINVAL;
	if (presets[kdf].memory_bytes > available_bytes())
		return -ENOMEM;
	memcpy(salt_used, salt, sizeof(salt_used));
	/* libargon2's pointer is to what it may wipe, if a flag says so: none does. */
	memcpy(&read_only, &passphrase, sizeof(read_only));
	context = (argon2_context){
		.out = out,
		.outlen = SZ_KEY_BYTES,
		.pwd = read_only,
		.pwdlen = (uint32_t)length,
		.salt = salt_used,
		.saltlen = sizeof(salt_used),
		.t_cost = (uint32_t)presets[kdf].passes,
		.m_cost = (uint32_t)(presets[kdf].memory_bytes / KIB),
		.lanes = 1,
		.threads = 1,
		.version = ARGON2_VERSION_13,
		.allocate_cbk = memory_map,
		.free_cbk = memory_unmap,
		.flags = ARGON2_DEFAULT_FLAGS,
	};
	if (argon2id_ctx(&context) != ARGON2_OK) {
		sz_wipe(out, SZ_KEY_BYTES);
		return -ENOMEM; /* its other reasons are ruled out by the table */
	}
	return 0;
}
