/*
 * page: the pages behind an object's slots [F15], its trailer [F16], and how counts are padded [F17].
 *
 * A page verifies alone: it is bound to its object by the key and to its place by its number. The
 * trailer says that a file is complete, and is bound to its header page.
 */
#include "format_internal.h"

void sz_page_seal_with(const struct sz_object_keys *keys, uint32_t number,
		       const uint8_t nonce[SZ_X_NONCE_BYTES],
		       const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES])
{
	uint8_t associated[4];

	sz_put_le32(associated, number);
	memcpy(page, nonce, SZ_X_NONCE_BYTES);
	sz_x_seal(keys->page, page, associated, sizeof(associated), payload, SZ_PAGE_PAYLOAD,
		  page + PAGE_CIPHERTEXT_AT, page + PAGE_TAG_AT);
}

void sz_page_seal(const struct sz_object_keys *keys, uint32_t number,
		  const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES])
{
	uint8_t nonce[SZ_X_NONCE_BYTES];

	sz_random(nonce, sizeof(nonce));
	sz_page_seal_with(keys, number, nonce, payload, page);
}

int sz_page_open(const struct sz_object_keys *keys, uint32_t number,
		 const uint8_t page[SZ_PAGE_BYTES], uint8_t payload[SZ_PAGE_PAYLOAD])
{
	uint8_t associated[4];

	sz_put_le32(associated, number);
	return sz_x_open(keys->page, page, associated, sizeof(associated),
			 page + PAGE_CIPHERTEXT_AT, SZ_PAGE_PAYLOAD, page + PAGE_TAG_AT, payload);
}

void sz_trailer_seal_with(const struct sz_object_keys *keys,
			  const uint8_t header_page[SZ_PAGE_BYTES],
			  const uint8_t nonce[SZ_X_NONCE_BYTES], uint8_t trailer[SZ_TRAILER_BYTES])
{
	uint8_t empty[1] = { 0 };

	memcpy(trailer, nonce, SZ_X_NONCE_BYTES);
	sz_x_seal(keys->page, trailer, header_page + PAGE_TAG_AT, SZ_X_TAG_BYTES, empty, 0, empty,
		  trailer + SZ_X_NONCE_BYTES);
}

void sz_trailer_seal(const struct sz_object_keys *keys, const uint8_t header_page[SZ_PAGE_BYTES],
		     uint8_t trailer[SZ_TRAILER_BYTES])
{
	uint8_t nonce[SZ_X_NONCE_BYTES];

	sz_random(nonce, sizeof(nonce));
	sz_trailer_seal_with(keys, header_page, nonce, trailer);
}

int sz_trailer_open(const struct sz_object_keys *keys, const uint8_t header_page[SZ_PAGE_BYTES],
		    const uint8_t trailer[SZ_TRAILER_BYTES])
{
	uint8_t empty[1] = { 0 };

	return sz_x_open(keys->page, trailer, header_page + PAGE_TAG_AT, SZ_X_TAG_BYTES, empty, 0,
			 trailer + SZ_X_NONCE_BYTES, empty);
}

uint64_t sz_pad_count(uint64_t n)
{
	uint64_t step = 1;

	while (step <= n / 16)
		step *= 2;
	return ROUND_UP(n, step);
}
