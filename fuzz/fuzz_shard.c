/* A shard's payload. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };

	if (sz_shard_decode(data, size, &shard) != 0)
		return 0;
	FUZZ_CHECK(shard.band_count <= SZ_SHARD_BANDS);
	FUZZ_CHECK(sz_shard_encode(&shard, &again) == 0);
	FUZZ_CHECK(again.length == size && memcmp(again.data, data, size) == 0);
	return 0;
}
