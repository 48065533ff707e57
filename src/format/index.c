/*
 * index: leaf pages, which say what each sector of a band or delta is, and fence pages above them
 * [F18] [F19].
 *
 * A leaf holds up to 101 entries in ascending order, a fence the first sectors of up to 506 leaves,
 * the header those of up to 479 fences: a sector is found with two pages.
 */
#include "format_internal.h"

#include <assert.h>
#include <errno.h>

#define HEAD_BYTES   8U
#define ENTRY_BYTES  40U
#define TYPE_LEAF    1U
#define TYPE_FENCE   2U
#define SECTOR_MASK  (SECTORS_MAX - 1)
#define STATE_SHIFT  56U
#define AT_SLOT      8U
#define AT_NONCE_TAG 12U

_Static_assert(HEAD_BYTES + SZ_LEAF_ENTRIES * ENTRY_BYTES <= SZ_PAGE_PAYLOAD, "leaf layout");
_Static_assert(HEAD_BYTES + SZ_FENCE_KEYS * 8 <= SZ_PAGE_PAYLOAD, "fence layout");

static void head_encode(uint8_t payload[SZ_PAGE_PAYLOAD], unsigned int type, uint32_t count)
{
	memset(payload, 0, SZ_PAGE_PAYLOAD);
	sz_put_le16(payload, (uint16_t)type);
	sz_put_le16(payload + 2, (uint16_t)count);
}

/* The count, or 0 if the page is not of this type, or not zeros behind its entries. */
static uint32_t head_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], unsigned int type,
			    uint32_t most, size_t entry_bytes)
{
	uint32_t count = sz_get_le16(payload + 2);
	size_t end = HEAD_BYTES + count * entry_bytes;

	if (sz_get_le16(payload) != type || sz_get_le32(payload + 4) != 0 || count > most)
		return 0;
	return sz_is_zeros(payload + end, SZ_PAGE_PAYLOAD - end) ? count : 0;
}

void sz_leaf_encode(const struct sz_index_entry *entries, uint32_t count,
		    uint8_t payload[SZ_PAGE_PAYLOAD])
{
	assert(count >= 1 && count <= SZ_LEAF_ENTRIES);
	head_encode(payload, TYPE_LEAF, count);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *at = payload + HEAD_BYTES + (size_t)i * ENTRY_BYTES;

		sz_put_le64(at, entries[i].sector | (uint64_t)entries[i].state << STATE_SHIFT);
		sz_put_le32(at + AT_SLOT, entries[i].slot_or_count);
		if (entries[i].state == SZ_SECTOR_DATA)
			memcpy(at + AT_NONCE_TAG, entries[i].nonce_tag, SZ_NONCE_TAG_BYTES);
	}
}

/* Length in sectors of what the entry says, 0 if it cannot be. */
static uint64_t entry_span(const struct sz_index_entry *entry, const struct sz_header *header)
{
	switch (entry->state) {
	case SZ_SECTOR_DATA:
		return entry->slot_or_count < header->data_slots ? 1 : 0;
	case SZ_SECTOR_TOMBSTONE:
	case SZ_SECTOR_POISON:
		return sz_is_zeros(entry->nonce_tag, SZ_NONCE_TAG_BYTES) ? entry->slot_or_count : 0;
	default:
		return 0; /* what is absent has no entry */
	}
}

int sz_leaf_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], const struct sz_header *header,
		   struct sz_index_entry *entries, uint32_t *count_out)
{
	uint32_t count = head_decode(payload, TYPE_LEAF, SZ_LEAF_ENTRIES, ENTRY_BYTES);
	uint64_t next = header->base_sector;
	uint64_t end = header->base_sector + header->sector_count;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *at = payload + HEAD_BYTES + (size_t)i * ENTRY_BYTES;
		struct sz_index_entry *entry = &entries[i];
		uint64_t head = sz_get_le64(at);
		uint64_t span;

		entry->sector = head & SECTOR_MASK;
		entry->state = (uint8_t)(head >> STATE_SHIFT);
		entry->slot_or_count = sz_get_le32(at + AT_SLOT);
		memcpy(entry->nonce_tag, at + AT_NONCE_TAG, SZ_NONCE_TAG_BYTES);
		span = entry_span(entry, header);
		if (span == 0 || entry->sector < next || entry->sector >= end ||
		    span > end - entry->sector)
			return -EUCLEAN;
		next = entry->sector + span;
	}
	*count_out = count;
	return count == 0 ? -EUCLEAN : 0;
}

void sz_fence_encode(const uint64_t *first_sectors, uint32_t count,
		     uint8_t payload[SZ_PAGE_PAYLOAD])
{
	assert(count >= 1 && count <= SZ_FENCE_KEYS);
	head_encode(payload, TYPE_FENCE, count);
	for (uint32_t i = 0; i < count; i++)
		sz_put_le64(payload + HEAD_BYTES + (size_t)i * 8, first_sectors[i]);
}

int sz_fence_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], uint64_t *first_sectors,
		    uint32_t *count_out)
{
	uint32_t count = head_decode(payload, TYPE_FENCE, SZ_FENCE_KEYS, 8);

	for (uint32_t i = 0; i < count; i++) {
		first_sectors[i] = sz_get_le64(payload + HEAD_BYTES + (size_t)i * 8);
		if (first_sectors[i] >= SECTORS_MAX ||
		    (i > 0 && first_sectors[i] <= first_sectors[i - 1]))
			return -EUCLEAN;
	}
	*count_out = count;
	return count == 0 ? -EUCLEAN : 0;
}
