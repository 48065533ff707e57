/* A header page's plaintext: what passes has counts that fit each other and the length of the file. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sz_keys keys = { .store_id = { 1 }, .epoch = 1 };
	static const uint8_t salt[SZ_SALT_BYTES];
	uint8_t plaintext[HEADER_PLAINTEXT_BYTES];
	struct sz_header header;
	uint64_t pages;

	fuzz_fill(plaintext, sizeof(plaintext), data, size);
	/* what no mutation finds: the store's own id and epoch, and the version */
	memcpy(plaintext + 16, keys.store_id, sizeof(keys.store_id));
	sz_put_le16(plaintext + 50, 1);
	sz_put_le32(plaintext + 52, keys.epoch);
	if (sz_header_unpack(&keys, salt, plaintext, &header) != 0)
		return 0;
	pages = 1 + (uint64_t)header.data_slots + header.page_count;
	if (header.kind != SZ_KIND_LOG)
		FUZZ_CHECK(header.file_bytes == pages * SZ_PAGE_BYTES + SZ_TRAILER_BYTES);
	FUZZ_CHECK(header.base_sector + header.sector_count >= header.base_sector);
	FUZZ_CHECK(header.base_sector + header.sector_count <= SECTORS_MAX);
	FUZZ_CHECK(header.top_count <= SZ_TOP_KEYS);
	FUZZ_CHECK(header.leaf_count <= header.page_count);
	FUZZ_CHECK(header.payload_bytes <=
		   SZ_HEADER_BODY_BYTES + (uint64_t)header.page_count * SZ_PAGE_PAYLOAD);
	return 0;
}
