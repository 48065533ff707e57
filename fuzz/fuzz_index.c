/* Leaf and fence pages. The first 20 bytes give the object's range and slots. */
#include "fuzz.h"

#define PARAMETERS 20U

static void leaf(const uint8_t *payload, const struct sz_header *header)
{
	struct sz_index_entry entries[SZ_LEAF_ENTRIES];
	uint8_t again[SZ_PAGE_PAYLOAD];
	uint64_t next = header->base_sector;
	uint32_t count;

	if (sz_leaf_decode(payload, header, entries, &count) != 0)
		return;
	FUZZ_CHECK(count >= 1 && count <= SZ_LEAF_ENTRIES);
	for (uint32_t i = 0; i < count; i++) {
		FUZZ_CHECK(entries[i].sector >= next);
		if (entries[i].state == SZ_SECTOR_DATA)
			FUZZ_CHECK(entries[i].slot_or_count < header->data_slots);
		next = entries[i].sector +
		       (entries[i].state == SZ_SECTOR_DATA ? 1 : entries[i].slot_or_count);
		FUZZ_CHECK(next <= header->base_sector + header->sector_count);
	}
	sz_leaf_encode(entries, count, again);
	FUZZ_CHECK(memcmp(again, payload, sizeof(again)) == 0);
}

static void fence(const uint8_t *payload)
{
	uint64_t firsts[SZ_FENCE_KEYS];
	uint8_t again[SZ_PAGE_PAYLOAD];
	uint32_t count;

	if (sz_fence_decode(payload, firsts, &count) != 0)
		return;
	FUZZ_CHECK(count >= 1 && count <= SZ_FENCE_KEYS);
	sz_fence_encode(firsts, count, again);
	FUZZ_CHECK(memcmp(again, payload, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sz_header header = { 0 };
	uint8_t payload[SZ_PAGE_PAYLOAD];

	if (size < PARAMETERS)
		return 0;
	/* as a header that passed: base + count is at most 2^56 */
	header.base_sector = sz_get_le64(data) & (SECTORS_MAX - 1);
	header.sector_count = sz_get_le64(data + 8) % (SECTORS_MAX - header.base_sector + 1);
	header.data_slots = sz_get_le32(data + 16);
	fuzz_fill(payload, sizeof(payload), data + PARAMETERS, size - PARAMETERS);
	leaf(payload, &header);
	fence(payload);
	return 0;
}
