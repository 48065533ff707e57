/*
 * log: the live log's head, its chained records, and the entries in them [F26] [F27] [F28].
 *
 * Each record authenticates its number and the tag of the one before: what opens in order is what
 * was written, in that order; a log can be cut, but not edited, reordered or spliced.
 */
#include "format_internal.h"

#include <errno.h>

/* Offsets in a log header's body. */
enum {
	HEAD_EPOCH = 0,
	HEAD_BASE = 8,
	HEAD_BASE_GENERATION = 40,
	HEAD_FIRST_SEQUENCE = 48,
	HEAD_INODE = 56,
	HEAD_MACHINE = 64,
	HEAD_OPEN_ID = 80,
	HEAD_END = 96,
};

_Static_assert(SZ_RECORD_HEAD_BYTES + SZ_LOG_RUN_BYTES +
			       SZ_RECORD_SECTORS_MAX * SZ_NONCE_TAG_BYTES <=
		       SZ_PAGE_PAYLOAD,
	       "one run of sectors fills a record");

/* Lengths of entries; a SECTORS or BAND_SECTORS has 28 more for each sector. */
#define TRIM_BYTES          32U
#define BAND_OPEN_BYTES     64U
#define BAND_FINISHED_BYTES 48U
#define COMMIT_BYTES        24U

void sz_log_head_encode(const struct sz_log_head *head, uint8_t body[SZ_HEADER_BODY_BYTES])
{
	memset(body, 0, SZ_HEADER_BODY_BYTES);
	sz_put_le64(body + HEAD_EPOCH, head->epoch);
	memcpy(body + HEAD_BASE, head->base, sizeof(head->base));
	sz_put_le64(body + HEAD_BASE_GENERATION, head->base_generation);
	sz_put_le64(body + HEAD_FIRST_SEQUENCE, head->first_sequence);
	sz_put_le64(body + HEAD_INODE, head->inode);
	memcpy(body + HEAD_MACHINE, head->machine, sizeof(head->machine));
	memcpy(body + HEAD_OPEN_ID, head->open_id, sizeof(head->open_id));
}

int sz_log_head_decode(const uint8_t body[SZ_HEADER_BODY_BYTES], struct sz_log_head *head_out)
{
	head_out->epoch = sz_get_le64(body + HEAD_EPOCH);
	memcpy(head_out->base, body + HEAD_BASE, sizeof(head_out->base));
	head_out->base_generation = sz_get_le64(body + HEAD_BASE_GENERATION);
	head_out->first_sequence = sz_get_le64(body + HEAD_FIRST_SEQUENCE);
	head_out->inode = sz_get_le64(body + HEAD_INODE);
	memcpy(head_out->machine, body + HEAD_MACHINE, sizeof(head_out->machine));
	memcpy(head_out->open_id, body + HEAD_OPEN_ID, sizeof(head_out->open_id));
	return sz_is_zeros(body + HEAD_END, SZ_HEADER_BODY_BYTES - HEAD_END) ? 0 : -EUCLEAN;
}

static void record_associated(uint64_t number, const uint8_t previous[SZ_X_TAG_BYTES],
			      uint8_t associated[8 + SZ_X_TAG_BYTES])
{
	sz_put_le64(associated, number);
	memcpy(associated + 8, previous, SZ_X_TAG_BYTES);
}

void sz_record_seal_with(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
			 const uint8_t previous[SZ_X_TAG_BYTES],
			 const uint8_t nonce[SZ_X_NONCE_BYTES],
			 const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES])
{
	uint8_t associated[8 + SZ_X_TAG_BYTES];

	record_associated(number, previous, associated);
	memcpy(page, nonce, SZ_X_NONCE_BYTES);
	sz_x_seal(key, page, associated, sizeof(associated), payload, SZ_PAGE_PAYLOAD,
		  page + PAGE_CIPHERTEXT_AT, page + PAGE_TAG_AT);
}

void sz_record_seal(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
		    const uint8_t previous[SZ_X_TAG_BYTES], const uint8_t payload[SZ_PAGE_PAYLOAD],
		    uint8_t page[SZ_PAGE_BYTES], uint8_t tag_out[SZ_X_TAG_BYTES])
{
	uint8_t nonce[SZ_X_NONCE_BYTES];

	sz_random(nonce, sizeof(nonce));
	sz_record_seal_with(key, number, previous, nonce, payload, page);
	memcpy(tag_out, page + PAGE_TAG_AT, SZ_X_TAG_BYTES);
}

int sz_record_open(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
		   const uint8_t previous[SZ_X_TAG_BYTES], const uint8_t page[SZ_PAGE_BYTES],
		   uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t tag_out[SZ_X_TAG_BYTES])
{
	uint8_t associated[8 + SZ_X_TAG_BYTES];
	int result;

	record_associated(number, previous, associated);
	result = sz_x_open(key, page, associated, sizeof(associated), page + PAGE_CIPHERTEXT_AT,
			   SZ_PAGE_PAYLOAD, page + PAGE_TAG_AT, payload);
	if (result == 0)
		memcpy(tag_out, page + PAGE_TAG_AT, SZ_X_TAG_BYTES);
	return result;
}

void sz_record_head_encode(uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t entry_count,
			   uint32_t sector_pages)
{
	memset(payload, 0, SZ_RECORD_HEAD_BYTES);
	sz_put_le32(payload, entry_count);
	sz_put_le32(payload + 4, sector_pages);
}

int sz_record_head_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t *entry_count_out,
			  uint32_t *sector_pages_out)
{
	*entry_count_out = sz_get_le32(payload);
	*sector_pages_out = sz_get_le32(payload + 4);
	if (!sz_is_zeros(payload + 8, SZ_RECORD_HEAD_BYTES - 8) ||
	    *entry_count_out > (SZ_PAGE_PAYLOAD - SZ_RECORD_HEAD_BYTES) / COMMIT_BYTES ||
	    *sector_pages_out > SZ_RECORD_SECTORS_MAX)
		return -EUCLEAN;
	return 0;
}

size_t sz_log_entry_bytes(const struct sz_log_entry *entry)
{
	switch (entry->type) {
	case SZ_LOG_SECTORS:
	case SZ_LOG_BAND_SECTORS:
		return SZ_LOG_RUN_BYTES + (size_t)entry->count * SZ_NONCE_TAG_BYTES;
	case SZ_LOG_TRIM:
		return TRIM_BYTES;
	case SZ_LOG_BAND_OPEN:
		return BAND_OPEN_BYTES;
	case SZ_LOG_BAND_FINISHED:
		return BAND_FINISHED_BYTES;
	case SZ_LOG_COMMIT:
		return COMMIT_BYTES;
	}
	return SIZE_MAX; /* never fits */
}

int sz_log_entry_encode(const struct sz_log_entry *entry, uint8_t payload[SZ_PAGE_PAYLOAD],
			size_t *offset)
{
	bool is_run = entry->type == SZ_LOG_SECTORS || entry->type == SZ_LOG_BAND_SECTORS;
	uint8_t *at = payload + *offset;
	size_t length;

	if (is_run && entry->count > SZ_RECORD_SECTORS_MAX)
		return -ENOSPC;
	length = sz_log_entry_bytes(entry);
	if (length > SZ_PAGE_PAYLOAD - *offset)
		return -ENOSPC;
	memset(at, 0, length);
	sz_put_le32(at, entry->type);
	switch (entry->type) {
	case SZ_LOG_SECTORS:
	case SZ_LOG_BAND_SECTORS:
		sz_put_le32(at + 4, (uint32_t)entry->count);
		sz_put_le64(at + 8, entry->sequence);
		sz_put_le64(at + 16, entry->sector);
		sz_put_le32(at + 24, entry->place);
		memcpy(at + SZ_LOG_RUN_BYTES, entry->nonce_tags,
		       (size_t)entry->count * SZ_NONCE_TAG_BYTES);
		break;
	case SZ_LOG_TRIM:
		sz_put_le64(at + 8, entry->sequence);
		sz_put_le64(at + 16, entry->sector);
		sz_put_le64(at + 24, entry->count);
		break;
	case SZ_LOG_BAND_OPEN:
		sz_put_le64(at + 8, entry->sector);
		memcpy(at + 16, entry->id.bytes, SZ_ID_BYTES);
		memcpy(at + 32, entry->salt, SZ_SALT_BYTES);
		break;
	case SZ_LOG_BAND_FINISHED:
		sz_put_le64(at + 8, entry->sector);
		memcpy(at + 16, entry->digest, SZ_DIGEST_BYTES);
		break;
	case SZ_LOG_COMMIT:
		sz_put_le32(at + 4, entry->is_last ? 1 : 0);
		sz_put_le64(at + 8, entry->sequence);
		sz_put_le64(at + 16, entry->epoch);
		break;
	}
	*offset += length;
	return 0;
}

/* A run of sectors lies where sectors can be. */
static bool run_is_possible(const struct sz_log_entry *entry)
{
	return entry->count > 0 && entry->sector < SECTORS_MAX &&
	       entry->count <= SECTORS_MAX - entry->sector;
}

static int run_decode(const uint8_t *payload, size_t offset, struct sz_log_entry *entry)
{
	const uint8_t *at = payload + offset;
	size_t room = SZ_PAGE_PAYLOAD - offset;
	uint32_t sector_pages = sz_get_le32(payload + 4);

	if (room < SZ_LOG_RUN_BYTES)
		return -EUCLEAN;
	entry->count = sz_get_le32(at + 4);
	entry->sequence = sz_get_le64(at + 8);
	entry->sector = sz_get_le64(at + 16);
	entry->place = sz_get_le32(at + 24);
	entry->nonce_tags = at + SZ_LOG_RUN_BYTES;
	if (!run_is_possible(entry) ||
	    entry->count > (room - SZ_LOG_RUN_BYTES) / SZ_NONCE_TAG_BYTES)
		return -EUCLEAN;
	if (entry->type == SZ_LOG_SECTORS &&
	    (entry->place > sector_pages || entry->count > sector_pages - entry->place))
		return -EUCLEAN;
	return 0;
}

int sz_log_entry_decode(const uint8_t payload[SZ_PAGE_PAYLOAD], size_t *offset,
			struct sz_log_entry *entry_out)
{
	struct sz_log_entry entry = { 0 };
	const uint8_t *at = payload + *offset;
	uint32_t type;
	int result = 0;

	if (*offset < SZ_RECORD_HEAD_BYTES || *offset > SZ_PAGE_PAYLOAD - COMMIT_BYTES)
		return -EUCLEAN;
	type = sz_get_le32(at);
	if (type < SZ_LOG_SECTORS || type > SZ_LOG_COMMIT)
		return -EUCLEAN;
	entry.type = (enum sz_log_type)type;
	if (entry.type == SZ_LOG_SECTORS || entry.type == SZ_LOG_BAND_SECTORS)
		result = run_decode(payload, *offset, &entry);
	else if (sz_get_le32(at + 4) > (entry.type == SZ_LOG_COMMIT ? 1 : 0))
		result = -EUCLEAN;
	if (result != 0 || sz_log_entry_bytes(&entry) > SZ_PAGE_PAYLOAD - *offset)
		return -EUCLEAN;
	switch (entry.type) {
	case SZ_LOG_SECTORS:
	case SZ_LOG_BAND_SECTORS:
		break;
	case SZ_LOG_TRIM:
		entry.sequence = sz_get_le64(at + 8);
		entry.sector = sz_get_le64(at + 16);
		entry.count = sz_get_le64(at + 24);
		if (!run_is_possible(&entry))
			return -EUCLEAN;
		break;
	case SZ_LOG_BAND_OPEN:
		entry.sector = sz_get_le64(at + 8);
		memcpy(entry.id.bytes, at + 16, SZ_ID_BYTES);
		memcpy(entry.salt, at + 32, SZ_SALT_BYTES);
		break;
	case SZ_LOG_BAND_FINISHED:
		entry.sector = sz_get_le64(at + 8);
		memcpy(entry.digest, at + 16, SZ_DIGEST_BYTES);
		break;
	case SZ_LOG_COMMIT:
		entry.is_last = sz_get_le32(at + 4) == 1;
		entry.sequence = sz_get_le64(at + 8);
		entry.epoch = sz_get_le64(at + 16);
		break;
	}
	*offset += sz_log_entry_bytes(&entry);
	*entry_out = entry;
	return 0;
}
