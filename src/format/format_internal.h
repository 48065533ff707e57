/*
 * format's own: what its files share, and the forms that take the nonce from the caller, which the
 * test vectors need. Nothing outside this folder and its tests includes it.
 */
#ifndef SZ_FORMAT_FORMAT_INTERNAL_H
#define SZ_FORMAT_FORMAT_INTERNAL_H

#include "format/format.h"

/* A header page: 32 salt · 24 nonce · 4,024 ciphertext · 16 tag [F12]. */
#define HEADER_NONCE_AT        32U
#define HEADER_CIPHERTEXT_AT   56U
#define HEADER_PLAINTEXT_BYTES 4024U
#define PAGE_TAG_AT            4080U /* of a header page and of any other */
#define PAGE_CIPHERTEXT_AT     24U
#define IDENTITY_BYTES         120U

/* Sector numbers stay below this: an index entry has 56 bits for one. */
#define SECTORS_MAX            (1ULL << 56)

void sz_identity_encode(const struct sz_header *header, uint8_t identity[IDENTITY_BYTES]);
void sz_header_encode_with(const struct sz_keys *keys, const struct sz_header *header,
			   const uint8_t nonce[SZ_X_NONCE_BYTES], uint8_t page[SZ_PAGE_BYTES]);
/* What sz_header_decode does behind the AEAD; for the fuzzer. */
int sz_header_unpack(const struct sz_keys *keys, const uint8_t salt[SZ_SALT_BYTES],
		     const uint8_t plaintext[HEADER_PLAINTEXT_BYTES],
		     struct sz_header *header_out) MUST_CHECK;
void sz_page_seal_with(const struct sz_object_keys *keys, uint32_t number,
		       const uint8_t nonce[SZ_X_NONCE_BYTES],
		       const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES]);
void sz_trailer_seal_with(const struct sz_object_keys *keys,
			  const uint8_t header_page[SZ_PAGE_BYTES],
			  const uint8_t nonce[SZ_X_NONCE_BYTES], uint8_t trailer[SZ_TRAILER_BYTES]);
void sz_record_seal_with(const uint8_t key[SZ_KEY_BYTES], uint64_t number,
			 const uint8_t previous[SZ_X_TAG_BYTES],
			 const uint8_t nonce[SZ_X_NONCE_BYTES],
			 const uint8_t payload[SZ_PAGE_PAYLOAD], uint8_t page[SZ_PAGE_BYTES]);

/* Pages that a blob's payload of this length takes behind its header page, padding included. */
uint64_t sz_blob_pages(uint64_t payload_bytes);

bool sz_is_zeros(const uint8_t *bytes, size_t length);

static inline void sz_object_keys_wipe(struct sz_object_keys *keys)
{
	sz_wipe(keys, sizeof(*keys));
}

/* Parts of payloads. Getting from a cursor that is too short fails the cursor. */
int sz_ref_put(struct sz_bytes *bytes, const struct sz_ref *ref) MUST_CHECK;
void sz_ref_get(struct sz_cursor *cursor, struct sz_ref *ref_out);
void sz_cursor_copy(struct sz_cursor *cursor, void *to, size_t length);
/* A count of elements of at least element_bytes each: fails the cursor if so many cannot follow. */
uint32_t sz_cursor_count(struct sz_cursor *cursor, uint64_t count, size_t element_bytes);

/* A sector list without its role: count, then each run. -EINVAL: not sorted, or they overlap. */
int sz_runs_put(struct sz_bytes *bytes, const struct sz_run *runs, uint32_t count) MUST_CHECK;
/* -EUCLEAN or -ENOMEM. *runs_out is the caller's to free; NULL if there are none. */
int sz_runs_get(struct sz_cursor *cursor, struct sz_run **runs_out, uint32_t *count_out) MUST_CHECK;

/* Of a device and its store, as roots and manifests have them. */
bool sz_sizes_are_possible(uint64_t sectors, uint32_t band_sectors, uint32_t device_count,
			   uint8_t parity);

/* The plaintexts of a key object's slot and directory, decoded; for the fuzzer. */
#define SZ_SLOT_PAYLOAD_BYTES 408U
int sz_slot_unpack(const uint8_t payload[SZ_SLOT_PAYLOAD_BYTES], uint32_t index,
		   enum sz_slot_type type, struct sz_key_object *object,
		   uint64_t *revision_out) MUST_CHECK;
int sz_directory_unpack(const uint8_t payload[SZ_PAGE_PAYLOAD],
			struct sz_key_object *object) MUST_CHECK;

#endif
