/*
 * root: what a generation is [F21]. Its digest is the generation's identity, the root code that
 * identity for people [F25].
 */
#include "format_internal.h"

#include <errno.h>
#include <stdio.h>

#define DEVICE_BYTES      (16 + 8 + 1 + 8 + 8 + 8 + SZ_ID_BYTES + SZ_DIGEST_BYTES)
#define ANCESTOR_BYTES    (16 + 8 + SZ_DIGEST_BYTES)
#define BAND_SECTORS_MIN  256U   /* 1 MiB: below, objects outnumber what a host likes in a folder */
#define BAND_SECTORS_MAX  16384U /* 64 MiB: above, a band's index needs fences */
#define PARITY_MAX        3U
#define FLAGS_KNOWN       SZ_ROOT_RECOVERED
#define STATES            2U
#define FEATURES_KNOWN    0ULL
#define CODE_DIGEST_BYTES 10U

bool sz_sizes_are_possible(uint64_t sectors, uint32_t band_sectors, uint32_t device_count,
			   uint8_t parity)
{
	return sectors > 0 && sectors <= SECTORS_MAX && band_sectors >= BAND_SECTORS_MIN &&
	       band_sectors <= BAND_SECTORS_MAX && (band_sectors & (band_sectors - 1)) == 0 &&
	       device_count >= 1 && device_count <= SZ_FORMAT_DEVICES_MAX && parity <= PARITY_MAX;
}

static int device_put(struct sz_bytes *bytes, const struct sz_root_device *device)
{
	int result = sz_bytes_append(bytes, device->device_id, sizeof(device->device_id));

	if (result == 0)
		result = sz_bytes_append_le(bytes, device->sectors, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, device->state, 1);
	if (result == 0)
		result = sz_bytes_append_le(bytes, device->stale_since, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, device->stored_bytes, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, device->object_count, 8);
	return result != 0 ? result : sz_ref_put(bytes, &device->manifest);
}

static int ancestor_put(struct sz_bytes *bytes, const struct sz_ancestor *ancestor)
{
	int result = sz_bytes_append(bytes, ancestor->lineage, sizeof(ancestor->lineage));

	if (result == 0)
		result = sz_bytes_append_le(bytes, ancestor->generation, 8);
	return result != 0 ? result : sz_bytes_append(bytes, ancestor->digest, SZ_DIGEST_BYTES);
}

/* The part of fixed length. */
static int head_put(struct sz_bytes *bytes, const struct sz_root *root)
{
	int result = sz_bytes_append_le(bytes, root->format_version, 4);

	if (result == 0)
		result = sz_bytes_append_le(bytes, root->incompatible_features, 8);
	if (result == 0)
		result = sz_bytes_append(bytes, root->store_id, sizeof(root->store_id));
	if (result == 0)
		result = sz_bytes_append(bytes, root->lineage, sizeof(root->lineage));
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->generation, 8);
	if (result == 0)
		result = sz_bytes_append(bytes, root->parent, sizeof(root->parent));
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->store_time_ns, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->wall_time_ns, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->next_sequence, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->changed_sectors, 8);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->band_sectors, 4);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->parity, 1);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->flags, 1);
	if (result == 0)
		result = sz_bytes_append_le(bytes, root->key_version, 8);
	return result != 0 ? result
			   : sz_bytes_append(bytes, root->key_digest, sizeof(root->key_digest));
}

int sz_root_encode(const struct sz_root *root, struct sz_bytes *payload_out)
{
	int result;

	if (root->device_count < 1 || root->device_count > SZ_FORMAT_DEVICES_MAX ||
	    root->ancestor_count > SZ_ANCESTRY_MAX)
		return -EINVAL;
	result = head_put(payload_out, root);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, root->device_count, 4);
	for (uint32_t i = 0; i < root->device_count && result == 0; i++)
		result = device_put(payload_out, &root->devices[i]);
	if (result == 0)
		result = sz_bytes_append_le(payload_out, root->ancestor_count, 4);
	for (uint32_t i = 0; i < root->ancestor_count && result == 0; i++)
		result = ancestor_put(payload_out, &root->ancestors[i]);
	return result;
}

void sz_root_free(struct sz_root *root)
{
	free(root->devices);
	free(root->ancestors);
	*root = (struct sz_root){ 0 };
}

static int devices_get(struct sz_cursor *cursor, struct sz_root *root)
{
	uint32_t count = sz_cursor_count(cursor, sz_cursor_le(cursor, 4), DEVICE_BYTES);

	if (count < 1 || count > SZ_FORMAT_DEVICES_MAX)
		return -EUCLEAN;
	root->devices = calloc(count, sizeof(*root->devices));
	if (root->devices == NULL)
		return -ENOMEM;
	root->device_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct sz_root_device *device = &root->devices[i];

		sz_cursor_copy(cursor, device->device_id, sizeof(device->device_id));
		device->sectors = sz_cursor_le(cursor, 8);
		device->state = (uint8_t)sz_cursor_le(cursor, 1);
		device->stale_since = sz_cursor_le(cursor, 8);
		device->stored_bytes = sz_cursor_le(cursor, 8);
		device->object_count = sz_cursor_le(cursor, 8);
		sz_ref_get(cursor, &device->manifest);
		if (device->state >= STATES ||
		    !sz_sizes_are_possible(device->sectors, root->band_sectors, count,
					   root->parity))
			return -EUCLEAN;
	}
	return 0;
}

static int ancestors_get(struct sz_cursor *cursor, struct sz_root *root)
{
	uint32_t count = sz_cursor_count(cursor, sz_cursor_le(cursor, 4), ANCESTOR_BYTES);

	if (count > SZ_ANCESTRY_MAX)
		return -EUCLEAN;
	if (count == 0)
		return 0;
	root->ancestors = calloc(count, sizeof(*root->ancestors));
	if (root->ancestors == NULL)
		return -ENOMEM;
	root->ancestor_count = count;
	for (uint32_t i = 0; i < count; i++) {
		sz_cursor_copy(cursor, root->ancestors[i].lineage,
			       sizeof(root->ancestors[i].lineage));
		root->ancestors[i].generation = sz_cursor_le(cursor, 8);
		sz_cursor_copy(cursor, root->ancestors[i].digest, SZ_DIGEST_BYTES);
	}
	return 0;
}

static void head_get(struct sz_cursor *cursor, struct sz_root *root)
{
	sz_cursor_copy(cursor, root->store_id, sizeof(root->store_id));
	sz_cursor_copy(cursor, root->lineage, sizeof(root->lineage));
	root->generation = sz_cursor_le(cursor, 8);
	sz_cursor_copy(cursor, root->parent, sizeof(root->parent));
	root->store_time_ns = sz_cursor_le(cursor, 8);
	root->wall_time_ns = sz_cursor_le(cursor, 8);
	root->next_sequence = sz_cursor_le(cursor, 8);
	root->changed_sectors = sz_cursor_le(cursor, 8);
	root->band_sectors = (uint32_t)sz_cursor_le(cursor, 4);
	root->parity = (uint8_t)sz_cursor_le(cursor, 1);
	root->flags = (uint8_t)sz_cursor_le(cursor, 1);
	root->key_version = sz_cursor_le(cursor, 8);
	sz_cursor_copy(cursor, root->key_digest, sizeof(root->key_digest));
}

int sz_root_decode(const uint8_t *payload, size_t length, struct sz_root *root_out)
{
	struct sz_cursor cursor = { .data = payload, .length = length };
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	int result;

	root.format_version = (uint32_t)sz_cursor_le(&cursor, 4);
	root.incompatible_features = sz_cursor_le(&cursor, 8);
	if (cursor.failed || root.format_version == 0)
		return -EUCLEAN;
	if (root.format_version > SZ_FORMAT_VERSION ||
	    (root.incompatible_features & ~FEATURES_KNOWN) != 0)
		return -EPROTONOSUPPORT;
	head_get(&cursor, &root);
	if ((root.flags & ~FLAGS_KNOWN) != 0)
		return -EUCLEAN;
	result = devices_get(&cursor, &root);
	if (result == 0)
		result = ancestors_get(&cursor, &root);
	if (result != 0)
		return result;
	if (cursor.failed || cursor.offset != cursor.length)
		return -EUCLEAN;
	*root_out = root;
	root = (struct sz_root){ 0 };
	return 0;
}

void sz_root_code(uint64_t generation, const uint8_t digest[SZ_DIGEST_BYTES], char code[40])
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* Crockford's base32 */
	char text[CODE_DIGEST_BYTES * 8 / 5 + 1] = { 0 };

	for (unsigned int i = 0; i < sizeof(text) - 1; i++) {
		unsigned int bit = i * 5; /* the first byte's highest bit comes first */
		unsigned int pair = (unsigned int)digest[bit / 8] << 8 | digest[bit / 8 + 1];

		text[i] = digits[pair >> (11 - bit % 8) & 31];
	}
	(void)snprintf(code, 40, "%llu-%s", (unsigned long long)generation, text);
}
