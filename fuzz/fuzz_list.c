/* A sector list's payload. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE struct sz_run *runs = NULL;
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	uint32_t count;

	if (sz_list_decode(data, size, &runs, &count) != 0)
		return 0;
	for (uint32_t i = 1; i < count; i++)
		FUZZ_CHECK(runs[i].sector >= runs[i - 1].sector + runs[i - 1].count);
	FUZZ_CHECK(sz_list_encode(runs, count, &again) == 0);
	FUZZ_CHECK(again.length == size && memcmp(again.data, data, size) == 0);
	return 0;
}
