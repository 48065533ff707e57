/*
 * Fuzzing of decoders. What a host can change does not get past an AEAD, so the decoders behind it are
 * fed directly: they have to be total all the same.
 *
 *   CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
 *   ninja -C build-fuzz && build-fuzz/fuzz/fuzz_root -max_total_time=300 fuzz/corpus/root
 *
 * Each program checks more than that nothing breaks: what is accepted is encoded again, to the same
 * bytes. The corpora run as tests with every build (corpus_main.c). An input that once broke something
 * is added to its corpus under a name that says what it was.
 */
#ifndef SZ_FUZZ_FUZZ_H
#define SZ_FUZZ_FUZZ_H

#include "format/format.h"
#include "format/format_internal.h"

#include <stdio.h>

/* NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert, whatever NDEBUG says. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The input as a buffer of fixed length: cut, or zeros behind it. */
static inline void fuzz_fill(uint8_t *to, size_t length, const uint8_t *data, size_t size)
{
	memset(to, 0, length);
	if (size > 0)
		memcpy(to, data, size < length ? size : length);
}

#endif
