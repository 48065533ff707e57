/* A manifest's payload. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };

	if (sz_manifest_decode(data, size, &manifest) != 0)
		return 0;
	FUZZ_CHECK(sz_manifest_encode(&manifest, &again) == 0);
	FUZZ_CHECK(again.length == size && memcmp(again.data, data, size) == 0);
	return 0;
}
