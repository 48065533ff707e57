/* A record's plaintext: its head and entries; and the log's head, from the same bytes. */
#include "fuzz.h"

static void head(const uint8_t *data, size_t size)
{
	uint8_t body[SZ_HEADER_BODY_BYTES];
	uint8_t again[SZ_HEADER_BODY_BYTES];
	struct sz_log_head decoded;

	fuzz_fill(body, sizeof(body), data, size);
	if (sz_log_head_decode(body, &decoded) != 0)
		return;
	sz_log_head_encode(&decoded, again);
	FUZZ_CHECK(memcmp(again, body, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t payload[SZ_PAGE_PAYLOAD];
	uint8_t again[SZ_PAGE_PAYLOAD] = { 0 };
	size_t offset = SZ_RECORD_HEAD_BYTES;
	uint32_t entries;
	uint32_t sectors;

	head(data, size);
	fuzz_fill(payload, sizeof(payload), data, size);
	if (sz_record_head_decode(payload, &entries, &sectors) != 0)
		return 0;
	for (uint32_t i = 0; i < entries; i++) {
		struct sz_log_entry entry;
		size_t start = offset;
		size_t end = offset;

		if (sz_log_entry_decode(payload, &offset, &entry) != 0)
			return 0;
		FUZZ_CHECK(offset > start && offset <= SZ_PAGE_PAYLOAD);
		FUZZ_CHECK(offset - start == sz_log_entry_bytes(&entry));
		if (entry.type == SZ_LOG_SECTORS)
			FUZZ_CHECK(entry.place + entry.count <= sectors);
		FUZZ_CHECK(sz_log_entry_encode(&entry, again, &end) == 0);
		FUZZ_CHECK(end == offset &&
			   memcmp(again + start, payload + start, end - start) == 0);
	}
	return 0;
}
