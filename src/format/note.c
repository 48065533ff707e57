/*
 * note: small sealed records that are no objects: the lock record, places, the state record [F30].
 * A note is nonce, ciphertext, tag, under a key of the store; what it is for is associated data, so
 * that none passes for another.
 */
#include "format_internal.h"

#include <assert.h>
#include <errno.h>

#define PERSONAL_BYTES 16U

static void personal_pad(const char *personal, uint8_t padded[PERSONAL_BYTES])
{
	assert(strlen(personal) <= PERSONAL_BYTES);
	memset(padded, 0, PERSONAL_BYTES);
	for (size_t i = 0; personal[i] != '\0'; i++)
		padded[i] = (uint8_t)personal[i];
}

int sz_note_encode(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t *payload,
		   size_t length, struct sz_bytes *out)
{
	uint8_t associated[PERSONAL_BYTES];
	uint8_t nonce[SZ_X_NONCE_BYTES];
	uint8_t tag[SZ_X_TAG_BYTES] = { 0 };
	size_t start = out->length;
	uint8_t *ciphertext;
	int result;

	if (length > SZ_NOTE_MAX_BYTES)
		return -EFBIG;
	personal_pad(personal, associated);
	sz_random(nonce, sizeof(nonce));
	result = sz_bytes_append(out, nonce, sizeof(nonce));
	if (result == 0)
		result = sz_bytes_append(out, payload, length);
	if (result == 0)
		result = sz_bytes_append(out, tag, sizeof(tag)); /* its place */
	if (result != 0) {
		out->length = start;
		return result;
	}
	ciphertext = out->data + start + sizeof(nonce);
	sz_x_seal(key, nonce, associated, sizeof(associated), ciphertext, length, ciphertext,
		  ciphertext + length);
	return 0;
}

int sz_note_decode(const uint8_t key[SZ_KEY_BYTES], const char *personal, const uint8_t *note,
		   size_t length, struct sz_bytes *payload_out)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	uint8_t associated[PERSONAL_BYTES];
	size_t payload_length;
	int result;

	if (length < SZ_NOTE_OVERHEAD || length > SZ_NOTE_OVERHEAD + SZ_NOTE_MAX_BYTES)
		return -EBADMSG;
	payload_length = length - SZ_NOTE_OVERHEAD;
	personal_pad(personal, associated);
	result = sz_bytes_append(&payload, note + SZ_X_NONCE_BYTES, length - SZ_X_NONCE_BYTES);
	if (result == 0)
		result = sz_x_open(key, note, associated, sizeof(associated), payload.data,
				   payload_length, payload.data + payload_length, payload.data);
	if (result != 0)
		return result;
	payload.length = payload_length;
	*payload_out = payload;
	payload = (struct sz_bytes){ 0 };
	return 0;
}
