/* The crypto library of the product: the presets that people's stores are made with, nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/crypto.h"

#ifdef SZ_TEST_KDF
#error "this test is about the library without the test preset"
#endif

static int set_up(void **state)
{
	(void)state;
	return sz_crypto_init(NULL);
}

static void test_the_list_of_presets(void **state)
{
	size_t count;
	const enum sz_kdf *presets = sz_kdf_presets(&count);

	(void)state;
	/* The default and the one for small machines in either order: it depends on the memory. */
	assert_int_equal(count, 3);
	assert_int_equal(presets[0] + presets[1], SZ_KDF_INTERACTIVE + SZ_KDF_MODERATE);
	assert_int_not_equal(presets[0], presets[1]);
	assert_int_equal(presets[2], SZ_KDF_SENSITIVE);
}

/* Expected values: the reference implementation, by python3-argon2's hash_secret_raw */
static void test_presets_are_what_they_are_called(void **state)
{
	static const uint8_t salt[SZ_KDF_SALT_BYTES] = "0123456789abcdef";
	static const struct {
		enum sz_kdf kdf;
		const char *expected;
	} cases[] = {
		{ SZ_KDF_INTERACTIVE,
		  "daf16780dcb73e862146297fa17b81b86b480f33c0b67daef0f2c7c809c5797b" },
		{ SZ_KDF_MODERATE,
		  "149b080444a3833d0a19644d0220a1c3937d0d0b3c5c75b9be122996334c44b3" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		uint8_t out[SZ_KEY_BYTES];
		char text[2 * SZ_KEY_BYTES + 1];

		assert_int_equal(sz_kdf_derive(cases[i].kdf, "password", 8, salt, out), 0);
		sz_hex_encode(out, sizeof(out), text);
		assert_string_equal(text, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_list_of_presets),
		cmocka_unit_test(test_presets_are_what_they_are_called),
	};

	return cmocka_run_group_tests_name("kdf_product", tests, set_up, NULL);
}
