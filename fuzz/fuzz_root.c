/* A root's payload. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };

	if (sz_root_decode(data, size, &root) != 0)
		return 0;
	FUZZ_CHECK(sz_root_encode(&root, &again) == 0);
	FUZZ_CHECK(again.length == size && memcmp(again.data, data, size) == 0);
	return 0;
}
