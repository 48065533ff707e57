/* format: leaves, fences, roots, manifests, shards, lists, logs: round trips, and what is refused. */
#include "format_test.h"

static const struct sz_header range = { .base_sector = 1000,
					.sector_count = 5000,
					.data_slots = 80 };

static int leaf(const struct sz_index_entry *entries, uint32_t count)
{
	uint8_t payload[SZ_PAGE_PAYLOAD];
	struct sz_index_entry decoded[SZ_LEAF_ENTRIES];
	uint32_t decoded_count;
	int result;

	sz_leaf_encode(entries, count, payload);
	result = sz_leaf_decode(payload, &range, decoded, &decoded_count);
	if (result != 0)
		return result;
	assert_int_equal(decoded_count, count);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(decoded[i].sector == entries[i].sector);
		assert_int_equal(decoded[i].state, entries[i].state);
		assert_int_equal(decoded[i].slot_or_count, entries[i].slot_or_count);
		assert_memory_equal(decoded[i].nonce_tag, entries[i].nonce_tag, SZ_NONCE_TAG_BYTES);
	}
	return 0;
}

static void test_leaves(void **state)
{
	struct sz_index_entry full[SZ_LEAF_ENTRIES] = { 0 };
	struct sz_index_entry pair[2] = {
		{ .sector = 1000,
		  .state = SZ_SECTOR_DATA,
		  .slot_or_count = 79,
		  .nonce_tag = { 9 } },
		{ .sector = 1001, .state = SZ_SECTOR_TOMBSTONE, .slot_or_count = 4999 },
	};
	struct sz_index_entry changed[2];

	(void)state;
	for (uint32_t i = 0; i < SZ_LEAF_ENTRIES; i++)
		full[i] = (struct sz_index_entry){ .sector = 1000 + 2 * i,
						   .state = SZ_SECTOR_POISON,
						   .slot_or_count = 2 };
	assert_int_equal(leaf(full, SZ_LEAF_ENTRIES), 0);
	assert_int_equal(leaf(full, 1), 0);
	assert_int_equal(leaf(pair, 2), 0);

	memcpy(changed, pair, sizeof(pair));
	changed[0].sector = 999; /* below the range */
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	memcpy(changed, pair, sizeof(pair));
	changed[1].sector = 1000; /* they overlap */
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	memcpy(changed, pair, sizeof(pair));
	changed[1].slot_or_count = 5000; /* past the end */
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	changed[1].slot_or_count = 0;
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	memcpy(changed, pair, sizeof(pair));
	changed[0].slot_or_count = 80; /* no such slot */
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	memcpy(changed, pair, sizeof(pair));
	changed[0].state = SZ_SECTOR_ABSENT;
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
	changed[0].state = 4;
	assert_int_equal(leaf(changed, 2), -EUCLEAN);
}

static void test_fences(void **state)
{
	uint8_t payload[SZ_PAGE_PAYLOAD];
	uint64_t keys[SZ_FENCE_KEYS];
	uint64_t decoded[SZ_FENCE_KEYS];
	uint32_t count;
	struct sz_index_entry entries[SZ_LEAF_ENTRIES];

	(void)state;
	for (uint32_t i = 0; i < SZ_FENCE_KEYS; i++)
		keys[i] = (uint64_t)i * i + 5;
	for (uint32_t n = 1; n <= SZ_FENCE_KEYS; n += 101) {
		sz_fence_encode(keys, n, payload);
		assert_int_equal(sz_fence_decode(payload, decoded, &count), 0);
		assert_int_equal(count, n);
		assert_memory_equal(decoded, keys, n * sizeof(keys[0]));
	}
	assert_int_equal(sz_leaf_decode(payload, &range, entries, &count), -EUCLEAN);
	payload[SZ_PAGE_PAYLOAD - 1] = 1; /* the last key's highest byte: no sector is so large */
	keys[3] = keys[2];
	sz_fence_encode(keys, 10, payload);
	assert_int_equal(sz_fence_decode(payload, decoded, &count), -EUCLEAN);
	keys[3] = UINT64_C(1) << 56;
	sz_fence_encode(keys, 4, payload);
	assert_int_equal(sz_fence_decode(payload, decoded, &count), -EUCLEAN);
	keys[3] = 100;
	sz_fence_encode(keys, 4, payload);
	assert_int_equal(sz_fence_decode(payload, decoded, &count), 0);
	payload[2] = 3; /* one less is said than is there */
	assert_int_equal(sz_fence_decode(payload, decoded, &count), -EUCLEAN);
}

static struct sz_root make_root(struct sz_root_device *devices, struct sz_ancestor *ancestors)
{
	struct sz_root root = {
		.format_version = SZ_FORMAT_VERSION,
		.generation = 17,
		.store_time_ns = 1,
		.wall_time_ns = 2,
		.next_sequence = 3,
		.changed_sectors = 4,
		.band_sectors = 2048,
		.parity = 2,
		.flags = 1,
		.key_version = 5,
		.device_count = SZ_FORMAT_DEVICES_MAX,
		.devices = devices,
		.ancestor_count = SZ_ANCESTRY_MAX,
		.ancestors = ancestors,
	};

	sz_random(root.store_id, sizeof(root.store_id));
	sz_random(root.lineage, sizeof(root.lineage));
	sz_random(root.parent, sizeof(root.parent));
	sz_random(root.key_digest, sizeof(root.key_digest));
	for (uint32_t i = 0; i < root.device_count; i++) {
		sz_random(&devices[i], sizeof(devices[i]));
		devices[i].sectors = 64 + i;
		devices[i].state = i % 2;
	}
	for (uint32_t i = 0; i < root.ancestor_count; i++)
		sz_random(&ancestors[i], sizeof(ancestors[i]));
	return root;
}

static void test_a_root_comes_back(void **state)
{
	struct sz_root_device devices[SZ_FORMAT_DEVICES_MAX];
	struct sz_ancestor ancestors[SZ_ANCESTRY_MAX];
	struct sz_root root = make_root(devices, ancestors);
	CLEANUP(sz_root_free) struct sz_root decoded = { 0 };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };

	(void)state;
	assert_int_equal(sz_root_encode(&root, &payload), 0);
	assert_true(payload.length < 16384 - 4096);
	assert_int_equal(sz_root_decode(payload.data, payload.length, &decoded), 0);
	assert_true(decoded.generation == 17 && decoded.changed_sectors == 4);
	assert_true(decoded.band_sectors == 2048 && decoded.parity == 2 && decoded.flags == 1);
	for (uint32_t i = 0; i < root.device_count; i++) {
		assert_memory_equal(decoded.devices[i].device_id, devices[i].device_id, 16);
		assert_true(decoded.devices[i].sectors == devices[i].sectors);
		assert_true(decoded.devices[i].stale_since == devices[i].stale_since);
		assert_true(decoded.devices[i].stored_bytes == devices[i].stored_bytes);
		assert_true(decoded.devices[i].object_count == devices[i].object_count);
		assert_memory_equal(&decoded.devices[i].manifest, &devices[i].manifest, 48);
	}
	assert_int_equal(sz_root_encode(&decoded, &again), 0);
	assert_int_equal(again.length, payload.length);
	assert_memory_equal(again.data, payload.data, payload.length);
}

/* Decodes a root with one field changed. */
#define ROOT_WITH(change)                                                                          \
	({                                                                                         \
		struct sz_root_device devices_[SZ_FORMAT_DEVICES_MAX];                             \
		struct sz_ancestor ancestors_[SZ_ANCESTRY_MAX];                                    \
		struct sz_root r = make_root(devices_, ancestors_);                                \
		CLEANUP(sz_root_free) struct sz_root decoded_ = { 0 };                             \
		CLEANUP_BYTES struct sz_bytes payload_ = { 0 };                                    \
		change;                                                                            \
		assert_int_equal(sz_root_encode(&r, &payload_), 0);                                \
		sz_root_decode(payload_.data, payload_.length, &decoded_);                         \
	})

static void test_roots_that_cannot_be(void **state)
{
	struct sz_root_device devices[SZ_FORMAT_DEVICES_MAX];
	struct sz_ancestor ancestors[SZ_ANCESTRY_MAX];
	struct sz_root root = make_root(devices, ancestors);
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_root_free) struct sz_root decoded = { 0 };

	(void)state;
	assert_int_equal(ROOT_WITH((void)r), 0);
	assert_int_equal(ROOT_WITH(r.ancestor_count = 0), 0);
	assert_int_equal(ROOT_WITH(r.format_version = 2), -EPROTONOSUPPORT);
	assert_int_equal(ROOT_WITH(r.format_version = 0), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.incompatible_features = 1), -EPROTONOSUPPORT);
	assert_int_equal(ROOT_WITH(r.incompatible_features = UINT64_C(1) << 63), -EPROTONOSUPPORT);
	assert_int_equal(ROOT_WITH(r.band_sectors = 2049), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.band_sectors = 128), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.band_sectors = 32768), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.parity = 4), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.flags = 2), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.devices[63].state = 2), -EUCLEAN);
	assert_int_equal(ROOT_WITH(r.devices[0].sectors = 0), -EUCLEAN);
	root.device_count = 0;
	assert_int_equal(sz_root_encode(&root, &payload), -EINVAL);
	root.device_count = SZ_FORMAT_DEVICES_MAX + 1;
	assert_int_equal(sz_root_encode(&root, &payload), -EINVAL);
	root.device_count = 1;
	root.ancestor_count = SZ_ANCESTRY_MAX + 1;
	assert_int_equal(sz_root_encode(&root, &payload), -EINVAL);
	/* cut at any place, or with a byte too many */
	root.ancestor_count = 1;
	payload.length = 0;
	assert_int_equal(sz_root_encode(&root, &payload), 0);
	for (size_t length = 0; length < payload.length; length++)
		assert_int_equal(sz_root_decode(payload.data, length, &decoded), -EUCLEAN);
	assert_int_equal(sz_bytes_append_le(&payload, 0, 1), 0);
	assert_int_equal(sz_root_decode(payload.data, payload.length, &decoded), -EUCLEAN);
}

static void test_root_codes(void **state)
{
	uint8_t digest[SZ_DIGEST_BYTES] = { 0x00, 0x44, 0x32, 0x14, 0xc7, 0x42,
					    0x54, 0xb6, 0x35, 0xcf, 0xff };
	char code[40];

	(void)state;
	sz_root_code(17, digest, code); /* the digits 0 to 15, in order */
	assert_string_equal(code, "17-0123456789ABCDEF");
	memset(digest, 0xff, sizeof(digest));
	sz_root_code(UINT64_MAX, digest, code);
	assert_string_equal(code, "18446744073709551615-ZZZZZZZZZZZZZZZZ");
}

static void test_manifests_and_their_damage(void **state)
{
	static const struct sz_manifest impossible[] = {
		{ .sectors = 0, .band_sectors = 256, .device_count = 1 },
		{ .sectors = UINT64_MAX, .band_sectors = 256, .device_count = 1 },
		{ .sectors = 1, .band_sectors = 128, .device_count = 1 },
		{ .sectors = 1, .band_sectors = 300, .device_count = 1 },
		{ .sectors = 1, .band_sectors = 32768, .device_count = 1 },
		{ .sectors = 1, .band_sectors = 256, .device_count = 0 },
		{ .sectors = 1, .band_sectors = 256, .device_count = 65 },
		{ .sectors = 1, .band_sectors = 256, .device_count = 1, .parity = 4 },
	};
	struct sz_run runs[] = { { 0, 1 }, { 1, 1 }, { 500, 1000000 } };
	struct sz_manifest_shard shards[] = { { .number = 0 }, { .number = 7 } };
	struct sz_manifest_delta deltas[] = {
		{ .generation = 9,
		  .sector_count = 3,
		  .list_is_inline = true,
		  .runs = runs,
		  .run_count = 3 },
		{ .generation = 8, .stored_bytes = 77 },
		{ .generation = 2, .list_is_inline = true },
	};
	struct sz_manifest manifest = { .generation = 9,
					.sectors = 1ULL << 40,
					.band_sectors = 16384,
					.device_count = 64,
					.parity = 3,
					.shard_count = 2,
					.shards = shards,
					.delta_count = 3,
					.deltas = deltas };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest decoded = { 0 };

	(void)state;
	sz_random(manifest.device_id, sizeof(manifest.device_id));
	sz_random(&manifest.hot, sizeof(manifest.hot));
	sz_random(&shards[1].shard, sizeof(shards[1].shard));
	sz_random(&deltas[1].list, sizeof(deltas[1].list));
	assert_int_equal(sz_manifest_encode(&manifest, &payload), 0);
	for (size_t length = 0; length < payload.length; length++)
		assert_int_equal(sz_manifest_decode(payload.data, length, &decoded), -EUCLEAN);
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded), 0);
	assert_int_equal(decoded.delta_count, 3);
	assert_true(decoded.sectors == 1ULL << 40 && decoded.band_sectors == 16384);
	assert_true(decoded.device_count == 64 && decoded.parity == 3);
	assert_int_equal(decoded.deltas[0].run_count, 3);
	assert_true(decoded.deltas[0].runs[2].sector == 500);
	assert_true(decoded.deltas[0].runs[2].count == 1000000);
	assert_memory_equal(&decoded.deltas[1].list, &deltas[1].list, sizeof(deltas[1].list));
	assert_int_equal(decoded.deltas[2].run_count, 0);
	assert_int_equal(sz_manifest_encode(&decoded, &again), 0);
	assert_int_equal(again.length, payload.length);
	assert_memory_equal(again.data, payload.data, again.length);
	sz_manifest_free(&decoded);

	payload.length = 0;
	deltas[1].generation = 9; /* not newest first */
	assert_int_equal(sz_manifest_encode(&manifest, &payload), 0);
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded), -EUCLEAN);
	deltas[1].generation = 8;
	payload.length = 0;
	shards[0].number = 7; /* twice */
	assert_int_equal(sz_manifest_encode(&manifest, &payload), 0);
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded), -EUCLEAN);
	shards[0].number = 0;
	for (size_t i = 0; i < ARRAY_LENGTH(impossible); i++) {
		struct sz_manifest wrong = manifest;

		wrong.sectors = impossible[i].sectors;
		wrong.band_sectors = impossible[i].band_sectors;
		wrong.device_count = impossible[i].device_count;
		wrong.parity = impossible[i].parity;
		payload.length = 0;
		assert_int_equal(sz_manifest_encode(&wrong, &payload), 0);
		assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded),
				 -EUCLEAN);
	}
	payload.length = 0;
	runs[1].sector = 0; /* they overlap: the encoder's caller is wrong */
	assert_int_equal(sz_manifest_encode(&manifest, &payload), -EINVAL);
}

static void test_a_manifest_with_absurd_counts_allocates_nothing(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest decoded = { 0 };
	struct sz_manifest manifest = { .sectors = 1, .band_sectors = 256, .device_count = 1 };

	(void)state;
	assert_int_equal(sz_manifest_encode(&manifest, &payload), 0);
	sz_put_le32(payload.data + 93, UINT32_MAX); /* the count of shards */
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded), -EUCLEAN);
	sz_put_le32(payload.data + 93, 0);
	sz_put_le32(payload.data + 97, UINT32_MAX); /* of deltas */
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &decoded), -EUCLEAN);
}

static void test_shards(void **state)
{
	struct sz_shard_band bands[SZ_SHARD_BANDS] = { 0 };
	struct sz_shard shard = { .number = 3, .band_count = SZ_SHARD_BANDS, .bands = bands };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP(sz_shard_free) struct sz_shard decoded = { 0 };

	(void)state;
	for (uint32_t i = 0; i < SZ_SHARD_BANDS; i++) {
		bands[i].band = 3 * SZ_SHARD_BANDS + i;
		bands[i].folded_to = i;
		bands[i].live_sectors = i + 1;
		bands[i].data_slots = i + 2;
		sz_random(&bands[i].ref, sizeof(bands[i].ref));
	}
	assert_int_equal(sz_shard_encode(&shard, &payload), 0);
	for (size_t length = 0; length < payload.length; length += 3)
		assert_int_equal(sz_shard_decode(payload.data, length, &decoded), -EUCLEAN);
	assert_int_equal(sz_shard_decode(payload.data, payload.length, &decoded), 0);
	assert_int_equal(decoded.number, 3);
	assert_int_equal(decoded.band_count, SZ_SHARD_BANDS);
	for (uint32_t i = 0; i < SZ_SHARD_BANDS; i++) {
		assert_int_equal(decoded.bands[i].band, bands[i].band);
		assert_memory_equal(&decoded.bands[i].ref, &bands[i].ref, sizeof(bands[i].ref));
		assert_int_equal(decoded.bands[i].live_sectors, i + 1);
		assert_int_equal(decoded.bands[i].data_slots, i + 2);
	}
	sz_shard_free(&decoded);
	payload.length = 0;
	bands[5].band = bands[4].band;
	assert_int_equal(sz_shard_encode(&shard, &payload), 0);
	assert_int_equal(sz_shard_decode(payload.data, payload.length, &decoded), -EUCLEAN);
	payload.length = 0;
	shard.number = 4; /* not its bands */
	shard.band_count = 1;
	assert_int_equal(sz_shard_encode(&shard, &payload), 0);
	assert_int_equal(sz_shard_decode(payload.data, payload.length, &decoded), -EUCLEAN);
}

static void test_lists(void **state)
{
	static const struct sz_run runs[] = {
		{ 0, 1 }, { 1, 1 }, { 127, 128 }, { UINT64_C(1) << 40, UINT64_C(1) << 50 }
	};
	static const struct sz_run bad[] = { { 10, 5 }, { 14, 1 } };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_FREE struct sz_run *decoded = NULL;
	uint32_t count;

	(void)state;
	assert_int_equal(sz_list_encode(runs, 4, &payload), 0);
	for (size_t length = 0; length < payload.length; length++)
		assert_int_equal(sz_list_decode(payload.data, length, &decoded, &count), -EUCLEAN);
	assert_int_equal(sz_list_decode(payload.data, payload.length, &decoded, &count), 0);
	assert_int_equal(count, 4);
	assert_memory_equal(decoded, runs, sizeof(runs));
	payload.length = 0;
	assert_int_equal(sz_list_encode(bad, 2, &payload), -EINVAL);
	payload.length = 0;
	assert_int_equal(sz_list_encode(NULL, 0, &payload), 0);
	free(TAKE(decoded));
	assert_int_equal(sz_list_decode(payload.data, payload.length, &decoded, &count), 0);
	assert_int_equal(count, 0);
	assert_null(decoded);
	/* a run of no sector; a run past the last possible sector; a count that cannot be */
	{
		static const uint8_t empty_run[] = { 3, 0, 0, 0, 1, 0, 0 };
		static const uint8_t far[] = { 3,    0,    0,    0,    1,    2,    0xff,
					       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f };
		static const uint8_t many[] = { 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1 };

		assert_int_equal(sz_list_decode(empty_run, sizeof(empty_run), &decoded, &count),
				 -EUCLEAN);
		assert_int_equal(sz_list_decode(far, sizeof(far), &decoded, &count), -EUCLEAN);
		assert_int_equal(sz_list_decode(many, sizeof(many), &decoded, &count), -EUCLEAN);
	}
}

static void test_log_head(void **state)
{
	struct sz_log_head head;
	struct sz_log_head decoded;
	uint8_t body[SZ_HEADER_BODY_BYTES];

	(void)state;
	sz_random(&head, sizeof(head));
	sz_log_head_encode(&head, body);
	assert_int_equal(sz_log_head_decode(body, &decoded), 0);
	assert_memory_equal(&head, &decoded, sizeof(head));
	body[SZ_HEADER_BODY_BYTES - 1] = 1;
	assert_int_equal(sz_log_head_decode(body, &decoded), -EUCLEAN);
}

static void test_log_entries_fill_a_record_and_come_back(void **state)
{
	uint8_t payload[SZ_PAGE_PAYLOAD] = { 0 };
	uint8_t nonce_tags[SZ_RECORD_SECTORS_MAX * SZ_NONCE_TAG_BYTES];
	struct sz_log_entry entries[] = {
		{ .type = SZ_LOG_BAND_OPEN, .sector = 12, .id = { { 1 } }, .salt = { 2 } },
		{ .type = SZ_LOG_SECTORS,
		  .sequence = 5,
		  .sector = 77,
		  .count = 9,
		  .place = 1,
		  .nonce_tags = nonce_tags },
		{ .type = SZ_LOG_TRIM, .sequence = 6, .sector = 1, .count = UINT64_C(1) << 40 },
		{ .type = SZ_LOG_BAND_SECTORS,
		  .sequence = 7,
		  .sector = 9,
		  .count = 3,
		  .place = 99,
		  .nonce_tags = nonce_tags },
		{ .type = SZ_LOG_BAND_FINISHED, .sector = 12, .digest = { 3 } },
		{ .type = SZ_LOG_COMMIT, .sequence = 8, .epoch = 4 },
		{ .type = SZ_LOG_COMMIT, .sequence = 9, .epoch = 4, .is_last = true },
	};
	size_t offset = SZ_RECORD_HEAD_BYTES;
	size_t end;
	uint32_t count;
	uint32_t pages;

	(void)state;
	sz_random(nonce_tags, sizeof(nonce_tags));
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		size_t before = offset;

		assert_int_equal(sz_log_entry_encode(&entries[i], payload, &offset), 0);
		assert_int_equal(offset - before, sz_log_entry_bytes(&entries[i]));
	}
	sz_record_head_encode(payload, ARRAY_LENGTH(entries), 10);
	assert_int_equal(sz_record_head_decode(payload, &count, &pages), 0);
	assert_int_equal(count, ARRAY_LENGTH(entries));
	assert_int_equal(pages, 10);
	end = offset;
	offset = SZ_RECORD_HEAD_BYTES;
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		struct sz_log_entry entry;

		assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), 0);
		assert_int_equal(entry.type, entries[i].type);
		assert_true(entry.sequence == entries[i].sequence);
		assert_true(entry.sector == entries[i].sector);
		assert_true(entry.count == entries[i].count);
		assert_true(entry.epoch == entries[i].epoch);
		assert_int_equal(entry.is_last, entries[i].is_last);
		assert_int_equal(entry.place, entries[i].place);
		assert_memory_equal(&entry.id, &entries[i].id, sizeof(entry.id));
		assert_memory_equal(entry.salt, entries[i].salt, sizeof(entry.salt));
		assert_memory_equal(entry.digest, entries[i].digest, sizeof(entry.digest));
		if (entry.nonce_tags != NULL)
			assert_memory_equal(entry.nonce_tags, nonce_tags,
					    entry.count * SZ_NONCE_TAG_BYTES);
	}
	assert_int_equal(offset, end);
	/* 9 sectors from place 1 on need 10 pages */
	sz_record_head_encode(payload, ARRAY_LENGTH(entries), 9);
	offset = SZ_RECORD_HEAD_BYTES + sz_log_entry_bytes(&entries[0]);
	{
		struct sz_log_entry entry;

		assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), -EUCLEAN);
		offset = end; /* zeros are no entry */
		assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), -EUCLEAN);
		offset = SZ_PAGE_PAYLOAD;
		assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), -EUCLEAN);
		offset = end - sz_log_entry_bytes(&entries[6]);
		payload[offset + 4] = 2; /* neither the last nor not the last */
		assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), -EUCLEAN);
	}
}

static void test_a_record_takes_143_sectors_and_no_more(void **state)
{
	uint8_t payload[SZ_PAGE_PAYLOAD] = { 0 };
	uint8_t nonce_tags[(SZ_RECORD_SECTORS_MAX + 1) * SZ_NONCE_TAG_BYTES] = { 0 };
	struct sz_log_entry entry = { .type = SZ_LOG_SECTORS, .nonce_tags = nonce_tags };
	struct sz_log_entry decoded;
	size_t offset = SZ_RECORD_HEAD_BYTES;

	(void)state;
	entry.count = SZ_RECORD_SECTORS_MAX + 1;
	assert_int_equal(sz_log_entry_encode(&entry, payload, &offset), -ENOSPC);
	entry.count = UINT64_MAX;
	assert_int_equal(sz_log_entry_encode(&entry, payload, &offset), -ENOSPC);
	assert_int_equal(offset, SZ_RECORD_HEAD_BYTES);
	entry.count = SZ_RECORD_SECTORS_MAX;
	assert_int_equal(sz_log_entry_encode(&entry, payload, &offset), 0);
	sz_record_head_encode(payload, 1, SZ_RECORD_SECTORS_MAX);
	offset = SZ_RECORD_HEAD_BYTES;
	assert_int_equal(sz_log_entry_decode(payload, &offset, &decoded), 0);
	sz_put_le32(payload + SZ_RECORD_HEAD_BYTES + 4, SZ_RECORD_SECTORS_MAX + 1);
	offset = SZ_RECORD_HEAD_BYTES;
	assert_int_equal(sz_log_entry_decode(payload, &offset, &decoded), -EUCLEAN);
	entry = (struct sz_log_entry){ .type = SZ_LOG_COMMIT };
	offset = SZ_PAGE_PAYLOAD - 23;
	assert_int_equal(sz_log_entry_encode(&entry, payload, &offset), -ENOSPC);
	offset = SZ_PAGE_PAYLOAD - 24;
	assert_int_equal(sz_log_entry_encode(&entry, payload, &offset), 0);
}

static void test_records_are_a_chain(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = make_header(&keys, SZ_KIND_LOG);
	uint8_t key[SZ_KEY_BYTES];
	uint8_t payload[SZ_PAGE_PAYLOAD] = { 0 };
	uint8_t opened[SZ_PAGE_PAYLOAD];
	uint8_t pages[3][SZ_PAGE_BYTES];
	uint8_t tags[4][SZ_X_TAG_BYTES] = { { 1 } }; /* the first: of the header page */
	uint8_t tag[SZ_X_TAG_BYTES];

	(void)state;
	sz_log_key_derive(&keys, &header.id, key);
	for (unsigned int i = 0; i < 3; i++) {
		payload[0] = (uint8_t)i;
		sz_record_seal(key, i, tags[i], payload, pages[i], tags[i + 1]);
	}
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(sz_record_open(key, i, tags[i], pages[i], opened, tag), 0);
		assert_int_equal(opened[0], i);
		assert_memory_equal(tag, tags[i + 1], sizeof(tag));
	}
	assert_int_equal(sz_record_open(key, 1, tags[1], pages[2], opened, tag), -EBADMSG);
	assert_int_equal(sz_record_open(key, 2, tags[1], pages[2], opened, tag), -EBADMSG);
	assert_int_equal(sz_record_open(key, 1, tags[2], pages[2], opened, tag), -EBADMSG);
	header.id.bytes[15] ^= 1;
	sz_log_key_derive(&keys, &header.id, key);
	assert_int_equal(sz_record_open(key, 0, tags[0], pages[0], opened, tag), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_fences),
		cmocka_unit_test(test_a_root_comes_back),
		cmocka_unit_test(test_roots_that_cannot_be),
		cmocka_unit_test(test_root_codes),
		cmocka_unit_test(test_manifests_and_their_damage),
		cmocka_unit_test(test_a_manifest_with_absurd_counts_allocates_nothing),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_log_head),
		cmocka_unit_test(test_log_entries_fill_a_record_and_come_back),
		cmocka_unit_test(test_a_record_takes_143_sectors_and_no_more),
		cmocka_unit_test(test_records_are_a_chain),
	};

	return cmocka_run_group_tests_name("format_payloads", tests, set_up_crypto, NULL);
}
