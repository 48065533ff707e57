/*
 * blob: objects that are one payload: index pages, hot images, roots [F20]. The payload begins in
 * the header's body and goes on in pages. Small ones are a header page and a trailer.
 *
 * What a payload says is looked at only after all of it has been authenticated. Padding pages are
 * never opened; their tags count in the digest of the pages.
 */
#include "format_internal.h"

#include <errno.h>

uint64_t sz_blob_pages(uint64_t payload_bytes)
{
	if (payload_bytes <= SZ_HEADER_BODY_BYTES)
		return 0;
	return sz_pad_count(DIV_ROUND_UP(payload_bytes - SZ_HEADER_BODY_BYTES, SZ_PAGE_PAYLOAD));
}

/* Appends the pages to file_out; their tags' digest goes to header. */
static int pages_encode(const struct sz_object_keys *keys, const uint8_t *rest, size_t length,
			struct sz_header *header, struct sz_bytes *file_out)
{
	CLEANUP_BYTES struct sz_bytes tags = { 0 };
	int result = 0;

	for (uint32_t i = 0; i < header->page_count && result == 0; i++) {
		uint8_t payload[SZ_PAGE_PAYLOAD] = { 0 };
		uint8_t page[SZ_PAGE_BYTES];
		size_t some = length < sizeof(payload) ? length : sizeof(payload);

		if (some > 0) {
			memcpy(payload, rest, some);
			rest += some;
			length -= some;
			sz_page_seal(keys, i, payload, page);
		} else {
			sz_random_padding(page, sizeof(page));
		}
		result = sz_bytes_append(&tags, page + PAGE_TAG_AT, SZ_X_TAG_BYTES);
		if (result == 0)
			result = sz_bytes_append(file_out, page, sizeof(page));
	}
	sz_digest(tags.data, tags.length, header->pages_digest);
	return result;
}

int sz_blob_encode(const struct sz_keys *keys, const struct sz_header *identity,
		   const uint8_t *payload, size_t length, struct sz_bytes *file_out,
		   uint8_t digest_out[SZ_DIGEST_BYTES])
{
	CLEANUP(sz_object_keys_wipe) struct sz_object_keys object_keys = { 0 };
	static const uint8_t no_page[SZ_PAGE_BYTES];
	struct sz_header header = *identity;
	uint8_t trailer[SZ_TRAILER_BYTES];
	size_t in_body = length < SZ_HEADER_BODY_BYTES ? length : SZ_HEADER_BODY_BYTES;
	size_t start = file_out->length;
	int result;

	if (length > SZ_BLOB_MAX_BYTES)
		return -EFBIG;
	header.data_slots = 0;
	header.page_count = (uint32_t)sz_blob_pages(length);
	header.file_bytes = (1 + (uint64_t)header.page_count) * SZ_PAGE_BYTES + SZ_TRAILER_BYTES;
	header.payload_bytes = (uint32_t)length;
	memset(header.body, 0, sizeof(header.body));
	if (in_body > 0)
		memcpy(header.body, payload, in_body);
	sz_object_keys_derive(keys, &header, &object_keys);
	result = sz_bytes_append(file_out, no_page, sizeof(no_page)); /* the header's place */
	if (result == 0)
		result = pages_encode(&object_keys, length > in_body ? payload + in_body : NULL,
				      length - in_body, &header, file_out);
	if (result == 0) {
		sz_header_encode(keys, &header, file_out->data + start);
		sz_header_digest(file_out->data + start, digest_out);
		sz_trailer_seal(&object_keys, file_out->data + start, trailer);
		result = sz_bytes_append(file_out, trailer, sizeof(trailer));
	}
	if (result != 0)
		file_out->length = start;
	return result;
}

static int pages_decode(const struct sz_object_keys *keys, const uint8_t *pages,
			const struct sz_header *header, struct sz_bytes *payload)
{
	CLEANUP_BYTES struct sz_bytes tags = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	size_t left = header->payload_bytes - payload->length;
	int result = 0;

	for (uint32_t i = 0; i < header->page_count && result == 0; i++)
		result = sz_bytes_append(&tags, pages + (size_t)i * SZ_PAGE_BYTES + PAGE_TAG_AT,
					 SZ_X_TAG_BYTES);
	sz_digest(tags.data, tags.length, digest);
	if (result == 0 && !sz_equal(digest, header->pages_digest, sizeof(digest)))
		return -EBADMSG;
	for (uint32_t i = 0; left > 0 && result == 0; i++) {
		uint8_t page_payload[SZ_PAGE_PAYLOAD];
		size_t some = left < sizeof(page_payload) ? left : sizeof(page_payload);

		result = sz_page_open(keys, i, pages + (size_t)i * SZ_PAGE_BYTES, page_payload);
		if (result == 0)
			result = sz_bytes_append(payload, page_payload, some);
		left -= some;
	}
	return result;
}

int sz_blob_decode(const struct sz_keys *keys, const uint8_t *file, size_t file_length,
		   struct sz_header *header_out, struct sz_bytes *payload_out)
{
	CLEANUP(sz_object_keys_wipe) struct sz_object_keys object_keys = { 0 };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	size_t in_body;
	int result;

	if (file_length < SZ_PAGE_BYTES + SZ_TRAILER_BYTES)
		return -EBADMSG;
	result = sz_header_decode(keys, file, header_out);
	if (result != 0)
		return result;
	if (header_out->kind != SZ_KIND_INDEX && header_out->kind != SZ_KIND_HOT &&
	    header_out->kind != SZ_KIND_ROOT)
		return -EUCLEAN;
	if (header_out->file_bytes != file_length)
		return -EBADMSG;
	sz_object_keys_derive(keys, header_out, &object_keys);
	result = sz_trailer_open(&object_keys, file, file + file_length - SZ_TRAILER_BYTES);
	if (result != 0)
		return result;
	in_body = header_out->payload_bytes < SZ_HEADER_BODY_BYTES ? header_out->payload_bytes
								   : SZ_HEADER_BODY_BYTES;
	result = sz_bytes_append(&payload, header_out->body, in_body);
	if (result == 0)
		result = pages_decode(&object_keys, file + SZ_PAGE_BYTES, header_out, &payload);
	if (result != 0)
		return result;
	*payload_out = payload;
	payload = (struct sz_bytes){ 0 };
	return 0;
}
