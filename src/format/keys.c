/*
 * keys: what derives from what [F7] [F8] [F9].
 *
 *   M ─ K_name                 names
 *     ─ K_head                 header pages
 *     ─ K_object ─ K_obj       an object's sectors (G)
 *                   └ K_pages  its pages and trailer (X)
 *     ─ K_journal ─ K_log      a log's records
 *     ─ K_slotdir              the key object's directory
 *     ─ K_state                notes
 *     ─ K_filler               what damaged sectors read as; nothing on disk
 *
 * M and K_object encrypt nothing themselves.
 */
#include "format_internal.h"

static void use_key_derive(const struct sz_keys *keys, const char *personal,
			   uint8_t key[SZ_KEY_BYTES])
{
	uint8_t epoch[4];

	sz_put_le32(epoch, keys->epoch);
	sz_hash(keys->master, personal, keys->store_id, epoch, sizeof(epoch), key);
}

void sz_keys_derive(struct sz_keys *keys)
{
	use_key_derive(keys, "szpool1 name", keys->name);
	use_key_derive(keys, "szpool1 head", keys->head);
	use_key_derive(keys, "szpool1 journal", keys->journal);
	use_key_derive(keys, "szpool1 object", keys->object);
	use_key_derive(keys, "szpool1 slotdir", keys->slotdir);
	use_key_derive(keys, "szpool1 state", keys->state);
	use_key_derive(keys, "szpool1 filler", keys->filler);
}

void sz_identity_encode(const struct sz_header *header, uint8_t identity[IDENTITY_BYTES])
{
	memcpy(identity, header->id.bytes, SZ_ID_BYTES);
	memcpy(identity + 16, header->salt, SZ_SALT_BYTES);
	memcpy(identity + 48, header->store_id, 16);
	memcpy(identity + 64, header->device_id, 16);
	sz_put_le16(identity + 80, header->kind);
	sz_put_le16(identity + 82, header->version);
	sz_put_le32(identity + 84, header->key_epoch);
	sz_put_le64(identity + 88, header->base_sector);
	sz_put_le64(identity + 96, header->sector_count);
	memcpy(identity + 104, header->lineage, 16);
}

void sz_object_keys_derive(const struct sz_keys *keys, const struct sz_header *identity,
			   struct sz_object_keys *keys_out)
{
	uint8_t encoded[IDENTITY_BYTES];

	sz_identity_encode(identity, encoded);
	sz_hash(keys->object, "szpool1 object", NULL, encoded, sizeof(encoded), keys_out->sector);
	sz_hash(keys_out->sector, "szpool1 pages", NULL, NULL, 0, keys_out->page);
}

void sz_log_key_derive(const struct sz_keys *keys, const struct sz_id *log_id,
		       uint8_t key[SZ_KEY_BYTES])
{
	sz_hash(keys->journal, "szpool1 journal", NULL, log_id->bytes, SZ_ID_BYTES, key);
}
