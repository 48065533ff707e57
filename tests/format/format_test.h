/* What the tests of format share: keys, and a header to begin with. */
#ifndef SZ_TESTS_FORMAT_FORMAT_TEST_H
#define SZ_TESTS_FORMAT_FORMAT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/format.h"

#include <errno.h>

static inline int set_up_crypto(void **state)
{
	(void)state;
	return sz_crypto_init(NULL);
}

static inline struct sz_keys make_keys(void)
{
	struct sz_keys keys = { .epoch = 1 };

	sz_random(keys.master, sizeof(keys.master));
	sz_random(keys.store_id, sizeof(keys.store_id));
	sz_keys_derive(&keys);
	return keys;
}

static inline struct sz_header make_header(const struct sz_keys *keys, enum sz_kind kind)
{
	struct sz_header header = {
		.kind = (uint16_t)kind,
		.version = SZ_FORMAT_VERSION,
		.key_epoch = keys->epoch,
	};

	sz_id_make(kind, kind == SZ_KIND_ROOT ? SZ_STORE_WIDE : 3, 17, 0x0123456789abcdef,
		   &header.id);
	sz_random(header.salt, sizeof(header.salt));
	memcpy(header.store_id, keys->store_id, sizeof(header.store_id));
	sz_random(header.device_id, sizeof(header.device_id));
	sz_random(header.lineage, sizeof(header.lineage));
	return header;
}

#endif
