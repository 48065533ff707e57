/* Secrets: memory that is locked, not dumped and wiped; a process that leaves no core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state)
{
	(void)state;
	return sz_crypto_init(NULL);
}

static void test_secret_memory_is_zeroed_and_aligned(void **state)
{
	static const size_t lengths[] = { 1, 31, 32, 33, 4096, 20001 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		uint8_t *secret = sz_secret_alloc(lengths[i]);

		assert_non_null(secret);
		assert_int_equal((uintptr_t)secret % 16, 0);
		for (size_t k = 0; k < lengths[i]; k++)
			assert_int_equal(secret[k], 0);
		memset(secret, 0xff, lengths[i]);
		sz_secret_free(secret);
	}
	sz_secret_free(NULL);
}

/* The kernel's flags of the mapping that holds address, as in proc(5), VmFlags; "" if not found. */
static void mapping_flags(const void *address, char *flags, size_t size)
{
	char line[512];
	bool inside = false;
	FILE *file = fopen("/proc/self/smaps", "re");

	flags[0] = '\0';
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		char *rest;
		uintptr_t start = strtoull(line, &rest, 16);

		if (*rest == '-' && rest != line) {
			uintptr_t end = strtoull(rest + 1, NULL, 16);

			inside = (uintptr_t)address >= start && (uintptr_t)address < end;
		} else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			(void)snprintf(flags, size, "%s", line + 8);
			break;
		}
	}
	(void)fclose(file);
}

static void test_secret_memory_is_not_dumped_and_is_locked(void **state)
{
	char flags[512];
	uint8_t *secret = sz_secret_alloc(100);

	(void)state;
	assert_non_null(secret);
	mapping_flags(secret, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd")); /* do not dump */
	assert_non_null(
		strstr(flags, " lo")); /* locked; the default limit is far above this test */
	sz_secret_free(secret);
}

static void test_a_lock_that_fails_is_said_once(void **state)
{
	int ends[2];
	pid_t child;
	int status;
	size_t done;
	size_t warnings = 0;
	char text[2048] = "";

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		static const struct rlimit none = { 0, 0 };

		(void)dup2(ends[1], STDERR_FILENO);
		/* root may lock whatever the limit says, unless it gives that up */
		if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 ||
		    (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0))
			_exit(3);
		for (int i = 0; i < 3; i++)
			if (sz_secret_alloc(64) == NULL)
				_exit(4);
		_exit(0);
	}
	(void)close(ends[1]);
	assert_int_equal(sz_read(ends[0], text, sizeof(text) - 1, &done), 0);
	(void)close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	for (const char *at = text; (at = strstr(at, "cannot be locked")) != NULL; at++)
		warnings++;
	assert_int_equal(warnings, 1);
}

static void test_wipe_and_compare(void **state)
{
	uint8_t a[33];
	uint8_t b[33];

	(void)state;
	memset(a, 7, sizeof(a));
	memset(b, 7, sizeof(b));
	assert_true(sz_equal(a, b, sizeof(a)));
	b[32] ^= 1;
	assert_false(sz_equal(a, b, sizeof(a)));
	assert_true(sz_equal(a, b, 32));
	sz_wipe(a, 32);
	for (int i = 0; i < 32; i++)
		assert_int_equal(a[i], 0);
	assert_int_equal(a[32], 7);
}

/* Aborts in folder with a secret in memory; unless hardened, as any other program would. */
static void abort_with_secret(const char *folder, bool is_hardened)
{
	static const struct rlimit any = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit most;
	uint8_t *secret =
		malloc(64); /* on the heap: the case that only the process's flag covers */

	if (secret == NULL || chdir(folder) != 0)
		_exit(3);
	if (setrlimit(RLIMIT_CORE, &any) != 0 && getrlimit(RLIMIT_CORE, &most) == 0) {
		most.rlim_cur = most.rlim_max;
		(void)setrlimit(RLIMIT_CORE, &most);
	}
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (is_hardened && sz_crypto_init(NULL) != 0)
		_exit(4);
	memset(secret, 0x5a, 64);
	abort();
}

static bool leaves_core(bool is_hardened)
{
	char folder[] = "/tmp/szpool-core-XXXXXX";
	pid_t child;
	int status;
	bool found = false;
	DIR *listing;

	assert_non_null(mkdtemp(folder));
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		abort_with_secret(folder, is_hardened);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	listing = opendir(folder);
	assert_non_null(listing);
	for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
		if (entry->d_name[0] == '.')
			continue;
		found = true;
		(void)unlinkat(dirfd(listing), entry->d_name, 0);
	}
	(void)closedir(listing);
	(void)rmdir(folder);
	return found || WCOREDUMP(status);
}

static void test_an_abort_leaves_no_core(void **state)
{
	(void)state;
	assert_int_equal(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
	assert_false(leaves_core(true));
	if (!leaves_core(false))
		print_message("# this machine dumps no cores at all: only the flag was checked\n");
}

static void test_hardening_holds_in_a_child(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && sz_crypto_init(NULL) == 0 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_secret_memory_is_zeroed_and_aligned),
		cmocka_unit_test(test_secret_memory_is_not_dumped_and_is_locked),
		cmocka_unit_test(test_a_lock_that_fails_is_said_once),
		cmocka_unit_test(test_wipe_and_compare),
		cmocka_unit_test(test_an_abort_leaves_no_core),
		cmocka_unit_test(test_hardening_holds_in_a_child),
	};

	return cmocka_run_group_tests_name("secret", tests, set_up, NULL);
}
