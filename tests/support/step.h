/*
 * step: ZFS's state is per process, and it does not fork: a test that opens pools runs each of its
 * steps in a child. In a child cmocka's asserts would not reach the parent, so a failed NEED exits
 * with its line.
 */
#ifndef SZ_TESTS_SUPPORT_STEP_H
#define SZ_TESTS_SUPPORT_STEP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP_SECONDS 60U

#define NEED(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* The same for a call that returns 0 or -errno and leaves a text. */
#define NEED_OK(call, error)                                                                       \
	do {                                                                                       \
		if ((call) != 0) {                                                                 \
			(void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call,        \
				      (error)->text);                                              \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static inline void step(void (*function)(void))
{
	int status = -1;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		(void)alarm(STEP_SECONDS);
		function();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		fail_msg("a step ended with signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Bytes that do not compress; the same for the same seed. */
static inline void random_fill(void *buffer, size_t length, uint64_t seed)
{
	uint8_t *to = buffer;
	uint64_t x = 88172645463325252U ^ (seed * 0x9e3779b97f4a7c15U);

	for (size_t i = 0; i < length; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		to[i] = (uint8_t)x;
	}
}

#endif
