/*
 * random: random bytes, straight from the kernel.
 *
 * 1. Nothing is buffered between calls: a cloned virtual machine, or a forked child, never repeats
 *    bytes that it was given (a user-space generator would, until it is reseeded).
 * 2. No caller goes on without entropy: failure aborts.
 *
 * Padding is not random but looks it: one stream under a key that is forgotten.
 */
#include "crypto/crypto.h"
#include "crypto_internal.h"

#include <errno.h>
#include <sodium.h>
#include <sys/random.h>

void sz_random(void *buffer, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = getrandom((uint8_t *)buffer + done, length - done, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			sz_crypto_abort("the kernel gives no random bytes");
		done += (size_t)n;
	}
}

void sz_random_padding(void *buffer, size_t length)
{
	static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
	uint8_t key[crypto_stream_chacha20_KEYBYTES];

	sz_random(key, sizeof(key));
	(void)crypto_stream_chacha20(buffer, length, nonce, key);
	sz_wipe(key, sizeof(key));
}

void sz_keyed_filler(const uint8_t key[SZ_KEY_BYTES], uint64_t a, uint64_t b, void *buffer,
		     size_t length)
{
	uint8_t nonce[crypto_stream_xchacha20_NONCEBYTES] = { 0 };

	sz_put_le64(nonce, a);
	sz_put_le64(nonce + 8, b);
	(void)crypto_stream_xchacha20(buffer, length, nonce, key);
}
