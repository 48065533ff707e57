/*
 * id: object ids and the names of their files [F5] [F6].
 *
 * An id is kind (4 bits) · device (12) · generation (48) · random (64). Its name is the id encrypted as
 * one AES block, in hex: whoever has the key lists a folder and knows what is in it; nobody else can
 * tell two names apart.
 */
#include "format_internal.h"

#include <assert.h>
#include <errno.h>

#define GENERATION_BITS 48U

void sz_id_make(enum sz_kind kind, uint32_t device, uint64_t generation, uint64_t random,
		struct sz_id *id_out)
{
	assert(device < SZ_FORMAT_DEVICES_MAX || device == SZ_STORE_WIDE);
	assert(generation < 1ULL << GENERATION_BITS);
	sz_put_le16(id_out->bytes, (uint16_t)((unsigned int)kind << 12 | device));
	/* the two bytes above the generation's six are overwritten by the random part */
	sz_put_le64(id_out->bytes + 2, generation);
	sz_put_le64(id_out->bytes + 8, random);
}

int sz_id_parse(const struct sz_id *id, enum sz_kind *kind_out, uint32_t *device_out,
		uint64_t *generation_out)
{
	uint32_t head = sz_get_le16(id->bytes);
	uint32_t kind = head >> 12;
	uint32_t device = head & 0xfff;

	if (kind < SZ_KIND_BAND || kind > SZ_KIND_SPARE)
		return -EUCLEAN;
	if (device >= SZ_FORMAT_DEVICES_MAX && device != SZ_STORE_WIDE)
		return -EUCLEAN;
	*kind_out = (enum sz_kind)kind;
	*device_out = device;
	*generation_out = sz_get_le64(id->bytes + 2) & ((1ULL << GENERATION_BITS) - 1);
	return 0;
}

void sz_name_encode(const struct sz_keys *keys, const struct sz_id *id,
		    char name[SZ_OBJECT_NAME_BYTES])
{
	uint8_t encrypted[SZ_ID_BYTES];

	sz_block_encrypt(keys->name, id->bytes, encrypted);
	sz_hex_encode(encrypted, sizeof(encrypted), name);
}

int sz_name_decode(const struct sz_keys *keys, const char *name, struct sz_id *id_out)
{
	uint8_t encrypted[SZ_ID_BYTES];
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;
	int result = sz_hex_decode(name, encrypted, sizeof(encrypted));

	if (result != 0)
		return result;
	sz_block_decrypt(keys->name, encrypted, id_out->bytes);
	return sz_id_parse(id_out, &kind, &device, &generation);
}
