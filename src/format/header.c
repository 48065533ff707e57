/*
 * header: an object's first page [F12] [F13].
 *
 * It says what the object is (the identity, from which its keys derive) and where things are in the
 * file. It is small, of fixed layout and authenticated as a whole before a field of it is looked at.
 * What passes here has lengths and counts that fit each other, so that readers need not ask again.
 */
#include "format_internal.h"

#include <errno.h>

/* Offsets in the plaintext. The salt of the identity stands in front of it, as associated data. */
enum {
	AT_ID = 0,
	AT_STORE_ID = 16,
	AT_DEVICE_ID = 32,
	AT_KIND = 48,
	AT_VERSION = 50,
	AT_KEY_EPOCH = 52,
	AT_BASE_SECTOR = 56,
	AT_SECTOR_COUNT = 64,
	AT_LINEAGE = 72,
	AT_DATA_SLOTS = 88,
	AT_PAGE_COUNT = 92,
	AT_FILE_BYTES = 96,
	AT_FOLDED_TO = 104,
	AT_ENTRY_COUNT = 112,
	AT_LEAF_COUNT = 120,
	AT_TOP_COUNT = 124,
	AT_PAYLOAD_BYTES = 128,
	AT_ZEROS_1 = 132,
	AT_PAGES_DIGEST = 136,
	AT_ZEROS_2 = 168,
	AT_BODY = 192,
};
_Static_assert(AT_BODY + SZ_HEADER_BODY_BYTES == HEADER_PLAINTEXT_BYTES, "header layout");

bool sz_is_zeros(const uint8_t *bytes, size_t length)
{
	uint8_t all = 0;

	for (size_t i = 0; i < length; i++)
		all |= bytes[i];
	return all == 0;
}

void sz_header_encode_with(const struct sz_keys *keys, const struct sz_header *header,
			   const uint8_t nonce[SZ_X_NONCE_BYTES], uint8_t page[SZ_PAGE_BYTES])
{
	uint8_t *plaintext = page + HEADER_CIPHERTEXT_AT; /* encrypted in place */

	memcpy(page, header->salt, SZ_SALT_BYTES);
	memcpy(page + HEADER_NONCE_AT, nonce, SZ_X_NONCE_BYTES);
	memset(plaintext, 0, AT_BODY);
	memcpy(plaintext + AT_ID, header->id.bytes, SZ_ID_BYTES);
	memcpy(plaintext + AT_STORE_ID, header->store_id, sizeof(header->store_id));
	memcpy(plaintext + AT_DEVICE_ID, header->device_id, sizeof(header->device_id));
	sz_put_le16(plaintext + AT_KIND, header->kind);
	sz_put_le16(plaintext + AT_VERSION, header->version);
	sz_put_le32(plaintext + AT_KEY_EPOCH, header->key_epoch);
	sz_put_le64(plaintext + AT_BASE_SECTOR, header->base_sector);
	sz_put_le64(plaintext + AT_SECTOR_COUNT, header->sector_count);
	memcpy(plaintext + AT_LINEAGE, header->lineage, sizeof(header->lineage));
	sz_put_le32(plaintext + AT_DATA_SLOTS, header->data_slots);
	sz_put_le32(plaintext + AT_PAGE_COUNT, header->page_count);
	sz_put_le64(plaintext + AT_FILE_BYTES, header->file_bytes);
	sz_put_le64(plaintext + AT_FOLDED_TO, header->folded_to);
	sz_put_le64(plaintext + AT_ENTRY_COUNT, header->entry_count);
	sz_put_le32(plaintext + AT_LEAF_COUNT, header->leaf_count);
	sz_put_le32(plaintext + AT_TOP_COUNT, header->top_count);
	sz_put_le32(plaintext + AT_PAYLOAD_BYTES, header->payload_bytes);
	memcpy(plaintext + AT_PAGES_DIGEST, header->pages_digest, SZ_DIGEST_BYTES);
	memcpy(plaintext + AT_BODY, header->body, SZ_HEADER_BODY_BYTES);
	sz_x_seal(keys->head, nonce, page, SZ_SALT_BYTES, plaintext, HEADER_PLAINTEXT_BYTES,
		  plaintext, page + PAGE_TAG_AT);
}

void sz_header_encode(const struct sz_keys *keys, const struct sz_header *header,
		      uint8_t page[SZ_PAGE_BYTES])
{
	uint8_t nonce[SZ_X_NONCE_BYTES];

	sz_random(nonce, sizeof(nonce));
	sz_header_encode_with(keys, header, nonce, page);
}

/* [F14] What an index's counts and top keys have to be. */
static bool index_is_possible(const struct sz_header *header)
{
	uint64_t fences = 0;
	uint64_t next = header->base_sector;

	if (header->leaf_count > SZ_TOP_KEYS)
		fences = DIV_ROUND_UP((uint64_t)header->leaf_count, SZ_FENCE_KEYS);
	if (header->data_slots > SZ_OBJECT_SLOTS_MAX || header->payload_bytes != 0 ||
	    header->top_count > SZ_TOP_KEYS ||
	    header->top_count != (fences != 0 ? fences : header->leaf_count) ||
	    header->leaf_count + fences > header->page_count ||
	    header->entry_count < header->leaf_count ||
	    header->entry_count > (uint64_t)header->leaf_count * SZ_LEAF_ENTRIES)
		return false;
	for (uint32_t i = 0; i < header->top_count; i++) {
		uint64_t key = sz_get_le64(header->body + (size_t)i * 8);

		if (key < next || key - header->base_sector >= header->sector_count)
			return false;
		next = key + 1;
	}
	return true;
}

/* [F13] Authentic, but is it possible? */
static bool header_is_possible(const struct sz_keys *keys, const struct sz_header *header)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;
	uint64_t pages = 1 + (uint64_t)header->data_slots + header->page_count;
	bool has_index_counts = header->entry_count != 0 || header->leaf_count != 0 ||
				header->top_count != 0 || header->data_slots != 0;

	if (sz_id_parse(&header->id, &kind, &device, &generation) != 0 || header->kind != kind ||
	    !sz_equal(header->store_id, keys->store_id, sizeof(header->store_id)) ||
	    header->key_epoch != keys->epoch || header->base_sector > SECTORS_MAX ||
	    header->sector_count > SECTORS_MAX - header->base_sector)
		return false;
	switch (kind) {
	case SZ_KIND_BAND:
	case SZ_KIND_DELTA:
		return header->file_bytes == pages * SZ_PAGE_BYTES + SZ_TRAILER_BYTES &&
		       index_is_possible(header);
	case SZ_KIND_INDEX:
	case SZ_KIND_HOT:
	case SZ_KIND_ROOT:
		return header->file_bytes == pages * SZ_PAGE_BYTES + SZ_TRAILER_BYTES &&
		       !has_index_counts && header->payload_bytes <= SZ_BLOB_MAX_BYTES &&
		       header->page_count == sz_blob_pages(header->payload_bytes);
	case SZ_KIND_LOG:
		return header->file_bytes == 0 && header->page_count == 0 && !has_index_counts &&
		       header->payload_bytes == 0;
	case SZ_KIND_LOCK:
	case SZ_KIND_KEY:
	case SZ_KIND_PLACES:
	case SZ_KIND_KEEP:
	case SZ_KIND_SPARE:
		return false; /* these have no header page */
	}
	return false;
}

int sz_header_unpack(const struct sz_keys *keys, const uint8_t salt[SZ_SALT_BYTES],
		     const uint8_t plaintext[HEADER_PLAINTEXT_BYTES], struct sz_header *header_out)
{
	memcpy(header_out->salt, salt, SZ_SALT_BYTES);
	memcpy(header_out->id.bytes, plaintext + AT_ID, SZ_ID_BYTES);
	memcpy(header_out->store_id, plaintext + AT_STORE_ID, sizeof(header_out->store_id));
	memcpy(header_out->device_id, plaintext + AT_DEVICE_ID, sizeof(header_out->device_id));
	header_out->kind = sz_get_le16(plaintext + AT_KIND);
	header_out->version = sz_get_le16(plaintext + AT_VERSION);
	header_out->key_epoch = sz_get_le32(plaintext + AT_KEY_EPOCH);
	header_out->base_sector = sz_get_le64(plaintext + AT_BASE_SECTOR);
	header_out->sector_count = sz_get_le64(plaintext + AT_SECTOR_COUNT);
	memcpy(header_out->lineage, plaintext + AT_LINEAGE, sizeof(header_out->lineage));
	header_out->data_slots = sz_get_le32(plaintext + AT_DATA_SLOTS);
	header_out->page_count = sz_get_le32(plaintext + AT_PAGE_COUNT);
	header_out->file_bytes = sz_get_le64(plaintext + AT_FILE_BYTES);
	header_out->folded_to = sz_get_le64(plaintext + AT_FOLDED_TO);
	header_out->entry_count = sz_get_le64(plaintext + AT_ENTRY_COUNT);
	header_out->leaf_count = sz_get_le32(plaintext + AT_LEAF_COUNT);
	header_out->top_count = sz_get_le32(plaintext + AT_TOP_COUNT);
	header_out->payload_bytes = sz_get_le32(plaintext + AT_PAYLOAD_BYTES);
	memcpy(header_out->pages_digest, plaintext + AT_PAGES_DIGEST, SZ_DIGEST_BYTES);
	memcpy(header_out->body, plaintext + AT_BODY, SZ_HEADER_BODY_BYTES);
	if (header_out->version > SZ_FORMAT_VERSION)
		return -EPROTONOSUPPORT;
	if (header_out->version == 0 ||
	    !sz_is_zeros(plaintext + AT_ZEROS_1, AT_PAGES_DIGEST - AT_ZEROS_1) ||
	    !sz_is_zeros(plaintext + AT_ZEROS_2, AT_BODY - AT_ZEROS_2) ||
	    !header_is_possible(keys, header_out))
		return -EUCLEAN;
	return 0;
}

int sz_header_decode(const struct sz_keys *keys, const uint8_t page[SZ_PAGE_BYTES],
		     struct sz_header *header_out)
{
	uint8_t plaintext[HEADER_PLAINTEXT_BYTES];
	int result = sz_x_open(keys->head, page + HEADER_NONCE_AT, page, SZ_SALT_BYTES,
			       page + HEADER_CIPHERTEXT_AT, sizeof(plaintext), page + PAGE_TAG_AT,
			       plaintext);

	return result != 0 ? result : sz_header_unpack(keys, page, plaintext, header_out);
}

void sz_header_digest(const uint8_t page[SZ_PAGE_BYTES], uint8_t digest[SZ_DIGEST_BYTES])
{
	sz_digest(page, SZ_PAGE_BYTES, digest);
}
