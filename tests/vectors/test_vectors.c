/*
 * The program against vectors that it did not make (make_vectors.py): everything is decoded, and
 * encoded again where the result is determined; what was forged has to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/format.h"
#include "format/format_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *vectors;
static struct sz_keys keys;

/* ---- reading the vectors ---- */

static const char *folder(void)
{
	const char *path = getenv("SZ_VECTORS");

	return path != NULL ? path : "tests/vectors";
}

/* A value by its dotted path. */
static json_t *value(const char *path)
{
	json_t *at = vectors;

	while (*path != '\0') {
		char part[64];
		size_t length = strcspn(path, ".");

		assert_true(length < sizeof(part));
		memcpy(part, path, length);
		part[length] = '\0';
		at = json_is_array(at) ? json_array_get(at, strtoul(part, NULL, 10))
				       : json_object_get(at, part);
		if (at == NULL)
			fail_msg("no vector %s", path);
		path += length + (path[length] == '.' ? 1 : 0);
	}
	return at;
}

static uint64_t number(const char *path)
{
	assert_true(json_is_integer(value(path)));
	return (uint64_t)json_integer_value(value(path));
}

static const char *text(const char *path)
{
	assert_true(json_is_string(value(path)));
	return json_string_value(value(path));
}

/* The bytes of a value; exactly length of them. */
static void bytes(const char *path, void *out, size_t length)
{
	assert_int_equal(strlen(text(path)), 2 * length);
	assert_int_equal(sz_hex_decode(text(path), out, length), 0);
}

static uint8_t *bytes_of_any_length(const char *path, size_t *length_out)
{
	size_t length = strlen(text(path)) / 2;
	uint8_t *out = malloc(length + 1);

	assert_non_null(out);
	bytes(path, out, length);
	*length_out = length;
	return out;
}

static uint64_t number_at(json_t *array, size_t index)
{
	assert_true(json_is_integer(json_array_get(array, index)));
	return (uint64_t)json_integer_value(json_array_get(array, index));
}

static uint8_t *file(const char *name, size_t *length_out)
{
	char path[4096];
	struct stat status;
	uint8_t *out;
	CLEANUP_FD int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/%s.bin", folder(), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) != 0)
		fail_msg("%s cannot be read", path);
	out = malloc((size_t)status.st_size + 1);
	assert_non_null(out);
	assert_int_equal(sz_pread(fd, out, (size_t)status.st_size, 0, length_out), 0);
	assert_int_equal(*length_out, status.st_size);
	return out;
}

static int set_up(void **state)
{
	char path[4096];
	json_error_t error;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/vectors.json", folder());
	vectors = json_load_file(path, 0, &error);
	if (vectors == NULL || sz_crypto_init(NULL) != 0)
		return -1;
	bytes("keys.master", keys.master, sizeof(keys.master));
	bytes("keys.store_id", keys.store_id, sizeof(keys.store_id));
	keys.epoch = (uint32_t)number("keys.epoch");
	sz_keys_derive(&keys);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	json_decref(vectors);
	return 0;
}

static void check_bytes(const char *path, const void *actual, size_t length)
{
	size_t expected_length;
	CLEANUP_FREE uint8_t *expected = bytes_of_any_length(path, &expected_length);

	assert_int_equal(length, expected_length);
	assert_memory_equal(actual, expected, length);
}

/* What byte i of a test sector is. */
static void check_content(const uint8_t *content, uint64_t sector, uint64_t version)
{
	for (uint64_t i = 0; i < SZ_SECTOR_BYTES; i++)
		assert_int_equal(content[i], (sector * 7 + version * 31 + i + (i >> 8)) & 0xff);
}

/* ---- keys and names ---- */

static void test_keys(void **state)
{
	(void)state;
	check_bytes("keys.name", keys.name, 32);
	check_bytes("keys.head", keys.head, 32);
	check_bytes("keys.journal", keys.journal, 32);
	check_bytes("keys.object", keys.object, 32);
	check_bytes("keys.slotdir", keys.slotdir, 32);
	check_bytes("keys.state", keys.state, 32);
	check_bytes("keys.filler", keys.filler, 32);
}

static void test_names(void **state)
{
	size_t count = json_array_size(value("names"));

	(void)state;
	assert_int_equal(count, 3);
	for (size_t i = 0; i < count; i++) {
		json_t *one = json_array_get(value("names"), i);
		char name[SZ_OBJECT_NAME_BYTES];
		uint8_t random[8];
		struct sz_id expected;
		struct sz_id id;

		assert_int_equal(sz_hex_decode(json_string_value(json_object_get(one, "id")),
					       expected.bytes, 16),
				 0);
		assert_int_equal(
			sz_hex_decode(json_string_value(json_object_get(one, "random")), random, 8),
			0);
		sz_id_make((enum sz_kind)json_integer_value(json_object_get(one, "kind")),
			   (uint32_t)json_integer_value(json_object_get(one, "device")),
			   (uint64_t)json_integer_value(json_object_get(one, "generation")),
			   sz_get_le64(random), &id);
		assert_memory_equal(&id, &expected, sizeof(id));
		sz_name_encode(&keys, &id, name);
		assert_string_equal(name, json_string_value(json_object_get(one, "name")));
		assert_int_equal(sz_name_decode(&keys, name, &id), 0);
		assert_memory_equal(&id, &expected, sizeof(id));
	}
}

static void test_identity_to_keys(void **state)
{
	struct sz_header identity = { .version = 1, .key_epoch = 1 };
	struct sz_object_keys derived;
	uint8_t encoded[IDENTITY_BYTES];
	uint8_t log_key[SZ_KEY_BYTES];
	struct sz_id log_id;

	(void)state;
	bytes("identity.id", identity.id.bytes, 16);
	bytes("identity.salt", identity.salt, 32);
	memcpy(identity.store_id, keys.store_id, 16);
	bytes("identity.device_id", identity.device_id, 16);
	bytes("identity.lineage", identity.lineage, 16);
	identity.kind = (uint16_t)number("identity.kind");
	identity.base_sector = number("identity.base_sector");
	identity.sector_count = number("identity.sector_count");
	sz_identity_encode(&identity, encoded);
	check_bytes("identity.encoded", encoded, sizeof(encoded));
	sz_object_keys_derive(&keys, &identity, &derived);
	check_bytes("identity.k_obj", derived.sector, 32);
	check_bytes("identity.k_pages", derived.page, 32);

	bytes("log_key.id", log_id.bytes, 16);
	sz_log_key_derive(&keys, &log_id, log_key);
	check_bytes("log_key.key", log_key, 32);
}

static void test_sectors(void **state)
{
	static const char *const paths[][4] = {
		{ "sectors.0.sector", "sectors.0.nonce", "sectors.0.tag", "sectors.0.ciphertext" },
		{ "sectors.1.sector", "sectors.1.nonce", "sectors.1.tag", "sectors.1.ciphertext" },
	};
	uint8_t key[SZ_KEY_BYTES];

	(void)state;
	bytes("identity.k_obj", key, sizeof(key));
	for (size_t i = 0; i < 2; i++) {
		uint64_t sector = number(paths[i][0]);
		uint8_t nonce_tag[SZ_NONCE_TAG_BYTES];
		uint8_t ciphertext[SZ_SECTOR_BYTES];
		uint8_t opened[SZ_SECTOR_BYTES];
		uint8_t damaged = 0;

		assert_true(sector == (i == 0 ? 0 : UINT64_C(1) << 40));
		bytes(paths[i][1], nonce_tag, SZ_G_NONCE_BYTES);
		bytes(paths[i][2], nonce_tag + SZ_G_NONCE_BYTES, SZ_G_TAG_BYTES);
		bytes(paths[i][3], ciphertext, sizeof(ciphertext));
		assert_int_equal(
			sz_sectors_open(key, sector, 1, ciphertext, nonce_tag, opened, &damaged),
			0);
		check_content(opened, sector, 0);
		assert_int_equal(sz_sectors_open(key, sector + 1, 1, ciphertext, nonce_tag, opened,
						 &damaged),
				 -EBADMSG);
	}
}

/* ---- objects with sectors ---- */

struct object {
	struct sz_header header;
	struct sz_object_keys keys;
	uint8_t *file;
	size_t length;
	struct sz_index_entry *entries;
	uint32_t count;
};

static void object_free(struct object *object)
{
	free(object->file);
	free(object->entries);
}

/* Opens all that is not a sector: header, trailer, digest of the pages, leaves. */
static void object_open(const char *name, struct object *object)
{
	struct sz_header *header = &object->header;
	CLEANUP_BYTES struct sz_bytes tags = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	uint8_t *pages;

	object->file = file(name, &object->length);
	assert_int_equal(sz_header_decode(&keys, object->file, header), 0);
	assert_int_equal(header->file_bytes, object->length);
	sz_object_keys_derive(&keys, header, &object->keys);
	assert_int_equal(sz_trailer_open(&object->keys, object->file,
					 object->file + object->length - SZ_TRAILER_BYTES),
			 0);
	pages = object->file + (size_t)SZ_PAGE_BYTES * (1 + header->data_slots);
	for (uint32_t i = 0; i < header->page_count; i++)
		assert_int_equal(
			sz_bytes_append(&tags, pages + (size_t)SZ_PAGE_BYTES * (i + 1) - 16, 16),
			0);
	sz_digest(tags.data, tags.length, digest);
	assert_memory_equal(digest, header->pages_digest, sizeof(digest));
	object->entries =
		calloc((size_t)header->leaf_count * SZ_LEAF_ENTRIES + 1, sizeof(*object->entries));
	assert_non_null(object->entries);
	for (uint32_t i = 0; i < header->leaf_count; i++) {
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint8_t again[SZ_PAGE_PAYLOAD];
		uint8_t page[SZ_PAGE_BYTES];
		struct sz_index_entry *entries = object->entries + object->count;
		uint32_t count;

		assert_int_equal(
			sz_page_open(&object->keys, i, pages + (size_t)SZ_PAGE_BYTES * i, payload),
			0);
		assert_int_equal(sz_leaf_decode(payload, header, entries, &count), 0);
		assert_true(sz_get_le64(header->body + (size_t)8 * i) == entries[0].sector);
		sz_leaf_encode(entries, count, again);
		assert_memory_equal(payload, again, sizeof(payload));
		sz_page_seal_with(&object->keys, i, pages + (size_t)SZ_PAGE_BYTES * i, payload,
				  page);
		assert_memory_equal(page, pages + (size_t)SZ_PAGE_BYTES * i, sizeof(page));
		object->count += count;
	}
	assert_int_equal(object->count, header->entry_count);
}

static void check_sector(const struct object *object, const struct sz_index_entry *entry,
			 uint64_t version)
{
	uint8_t opened[SZ_SECTOR_BYTES];
	uint8_t damaged = 0;

	assert_int_equal(
		sz_sectors_open(object->keys.sector, entry->sector, 1,
				object->file + (size_t)SZ_PAGE_BYTES * (1 + entry->slot_or_count),
				entry->nonce_tag, opened, &damaged),
		0);
	check_content(opened, entry->sector, version);
}

static void test_a_band_with_data_absent_and_poison(void **state)
{
	CLEANUP(object_free) struct object band = { 0 };
	json_t *order = value("band.order");
	uint8_t digest[SZ_DIGEST_BYTES];
	uint8_t nonce[SZ_X_NONCE_BYTES];
	uint8_t page[SZ_PAGE_BYTES];
	char name[SZ_OBJECT_NAME_BYTES];
	uint32_t data = 0;
	uint32_t poison = 0;

	(void)state;
	object_open("band", &band);
	check_bytes("band.id", band.header.id.bytes, 16);
	assert_true(band.header.base_sector == number("band.base_sector"));
	assert_true(band.header.sector_count == number("band.sector_count"));
	assert_true(band.header.data_slots == number("band.data_slots"));
	assert_true(band.header.page_count == number("band.page_count"));
	assert_true(band.header.folded_to == number("band.folded_to"));
	assert_true(band.count == number("band.entries"));
	sz_header_digest(band.file, digest);
	check_bytes("band.digest", digest, sizeof(digest));
	sz_name_encode(&keys, &band.header.id, name);
	assert_string_equal(name, text("band.name"));
	for (uint32_t i = 0; i < band.count; i++) {
		const struct sz_index_entry *entry = &band.entries[i];

		if (entry->state == SZ_SECTOR_DATA) {
			assert_true(number_at(order, entry->slot_or_count) == entry->sector);
			check_sector(&band, entry, 0);
			data++;
		} else {
			json_t *run = json_array_get(value("band.poison"), poison++);

			assert_int_equal(entry->state, SZ_SECTOR_POISON);
			assert_true(entry->sector == number_at(run, 0));
			assert_true(entry->slot_or_count == number_at(run, 1));
		}
	}
	assert_int_equal(data, json_array_size(order));
	assert_int_equal(poison, 2);
	/* encoded again with the same nonces: the same bytes */
	bytes("band.header_nonce", nonce, sizeof(nonce));
	sz_header_encode_with(&keys, &band.header, nonce, page);
	assert_memory_equal(page, band.file, sizeof(page));
	{
		uint8_t trailer[SZ_TRAILER_BYTES];

		memcpy(nonce, band.file + band.length - SZ_TRAILER_BYTES, sizeof(nonce));
		sz_trailer_seal_with(&band.keys, page, nonce, trailer);
		assert_memory_equal(trailer, band.file + band.length - sizeof(trailer),
				    sizeof(trailer));
		check_bytes("band.trailer", trailer, sizeof(trailer));
	}
}

static void test_every_flipped_byte_of_a_header_fails(void **state)
{
	size_t length;
	CLEANUP_FREE uint8_t *band = file("band", &length);
	struct sz_header header;
	unsigned int failed = 0;

	(void)state;
	for (size_t at = 0; at < SZ_PAGE_BYTES; at++) {
		band[at] ^= (uint8_t)(1U << at % 8);
		failed += sz_header_decode(&keys, band, &header) == -EBADMSG ? 1 : 0;
		band[at] ^= (uint8_t)(1U << at % 8);
	}
	assert_int_equal(failed, 4096);
	assert_int_equal(sz_header_decode(&keys, band, &header), 0);
}

static void test_a_delta_of_two_leaves(void **state)
{
	CLEANUP(object_free) struct object delta = { 0 };
	json_t *runs = value("two_leaves.runs");
	json_t *content = value("two_leaves.content");
	size_t run = 0;
	size_t data = 0;

	(void)state;
	object_open("delta_two_leaves", &delta);
	assert_int_equal(delta.header.leaf_count, 2);
	for (uint32_t i = 0; i < delta.count; i++) {
		const struct sz_index_entry *entry = &delta.entries[i];

		if (entry->state == SZ_SECTOR_DATA) {
			json_t *one = json_array_get(content, data++);

			assert_true(entry->sector == number_at(one, 0));
			check_sector(&delta, entry, number_at(one, 1));
		} else {
			json_t *one = json_array_get(runs, run++);

			assert_true(entry->sector == number_at(one, 0));
			assert_true(entry->state == number_at(one, 1));
			assert_true(entry->slot_or_count == number_at(one, 2));
		}
	}
	assert_int_equal(run, json_array_size(runs));
	assert_int_equal(data, json_array_size(content));
}

static void test_a_fence(void **state)
{
	uint64_t firsts[SZ_FENCE_KEYS];
	uint8_t payload[SZ_PAGE_PAYLOAD];
	uint8_t digest[SZ_DIGEST_BYTES];

	(void)state;
	for (uint64_t i = 0; i < SZ_FENCE_KEYS; i++)
		firsts[i] = i * number("fence.step");
	sz_fence_encode(firsts, (uint32_t)number("fence.count"), payload);
	sz_digest(payload, sizeof(payload), digest);
	check_bytes("fence.payload_digest", digest, sizeof(digest));
}

/* ---- logs ---- */

/* What a log says of a sector: where its newest content is. */
struct seen {
	uint64_t sector;
	uint64_t length;
	const uint8_t *ciphertext; /* NULL: trimmed */
	uint8_t nonce_tag[SZ_NONCE_TAG_BYTES];
};

struct log {
	struct object object;
	struct sz_log_head head;
	uint8_t key[SZ_KEY_BYTES];
	uint32_t records; /* that opened, in order */
	uint32_t types[8];
	struct seen seen[16];
	size_t seen_count;
	uint64_t committed;
	bool is_complete;
};

static void log_see(struct log *log, const struct sz_log_entry *entry, const uint8_t *sectors)
{
	for (uint64_t i = 0; i < (entry->type == SZ_LOG_TRIM ? 1 : entry->count); i++) {
		struct seen *seen = &log->seen[log->seen_count++];

		assert_true(log->seen_count <= ARRAY_LENGTH(log->seen));
		*seen = (struct seen){ .sector = entry->sector + i, .length = 1 };
		if (entry->type == SZ_LOG_TRIM) {
			seen->length = entry->count;
			continue;
		}
		seen->ciphertext = sectors + (entry->place + i) * SZ_SECTOR_BYTES;
		memcpy(seen->nonce_tag, entry->nonce_tags + i * SZ_NONCE_TAG_BYTES,
		       SZ_NONCE_TAG_BYTES);
	}
}

/* Reads records at the given pages of the file until one does not open. */
static void log_read(const char *name, const size_t *pages, size_t page_count, struct log *log)
{
	uint8_t previous[SZ_X_TAG_BYTES];
	struct object *object = &log->object;

	object->file = file(name, &object->length);
	assert_int_equal(sz_header_decode(&keys, object->file, &object->header), 0);
	assert_int_equal(sz_log_head_decode(object->header.body, &log->head), 0);
	sz_object_keys_derive(&keys, &object->header, &object->keys);
	sz_log_key_derive(&keys, &object->header.id, log->key);
	memcpy(previous, object->file + SZ_PAGE_BYTES - 16, 16);
	for (size_t i = 0; i < page_count; i++) {
		const uint8_t *page = object->file + pages[i] * SZ_PAGE_BYTES;
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint8_t again[SZ_PAGE_PAYLOAD] = { 0 };
		uint8_t sealed[SZ_PAGE_BYTES];
		uint32_t entries;
		uint32_t sectors;
		size_t offset = SZ_RECORD_HEAD_BYTES;
		uint8_t tag[SZ_X_TAG_BYTES];

		assert_true((pages[i] + 1) * SZ_PAGE_BYTES <= object->length);
		if (sz_record_open(log->key, i, previous, page, payload, tag) != 0)
			return;
		sz_record_seal_with(log->key, i, previous, page, payload, sealed);
		assert_memory_equal(sealed, page, SZ_PAGE_BYTES);
		memcpy(previous, tag, sizeof(tag));
		assert_int_equal(sz_record_head_decode(payload, &entries, &sectors), 0);
		sz_record_head_encode(again, entries, sectors);
		for (uint32_t k = 0; k < entries; k++) {
			struct sz_log_entry entry;
			size_t at = offset;

			assert_int_equal(sz_log_entry_decode(payload, &offset, &entry), 0);
			assert_int_equal(sz_log_entry_encode(&entry, again, &at), 0);
			assert_int_equal(at, offset);
			log->types[entry.type]++;
			if (entry.type == SZ_LOG_SECTORS || entry.type == SZ_LOG_TRIM)
				log_see(log, &entry, page + SZ_PAGE_BYTES);
			if (entry.type == SZ_LOG_COMMIT) {
				log->committed = entry.sequence;
				log->is_complete = entry.is_last;
			}
		}
		assert_memory_equal(again, payload, sizeof(payload));
		log->records++;
	}
}

static void log_free(struct log *log)
{
	object_free(&log->object);
}

static void log_pages(const char *path, size_t pages[3])
{
	for (size_t i = 0; i < 3; i++)
		pages[i] = (size_t)number_at(value(path), i);
}

static void test_a_log_of_three_records(void **state)
{
	CLEANUP(log_free) struct log log = { 0 };
	size_t pages[3];
	uint8_t body[SZ_HEADER_BODY_BYTES];

	(void)state;
	log_pages("log.record_pages", pages);
	log_read("log", pages, 3, &log);
	assert_int_equal(log.records, 3);
	check_bytes("log.id", log.object.header.id.bytes, 16);
	check_bytes("log.key", log.key, 32);
	check_bytes("log.base", log.head.base, 32);
	check_bytes("log.machine", log.head.machine, 16);
	check_bytes("log.open_id", log.head.open_id, 16);
	assert_true(log.head.epoch == number("log.epoch"));
	assert_true(log.head.base_generation == number("log.base_generation"));
	assert_true(log.head.first_sequence == number("log.first_sequence"));
	assert_true(log.head.inode == number("log.inode"));
	sz_log_head_encode(&log.head, body);
	assert_memory_equal(body, log.object.header.body, sizeof(body));
	assert_int_equal(log.types[SZ_LOG_SECTORS], 3);
	assert_int_equal(log.types[SZ_LOG_BAND_SECTORS], 1);
	assert_int_equal(log.types[SZ_LOG_TRIM], 1);
	assert_int_equal(log.types[SZ_LOG_BAND_OPEN], 1);
	assert_int_equal(log.types[SZ_LOG_BAND_FINISHED], 1);
	assert_int_equal(log.types[SZ_LOG_COMMIT], 1);
	assert_true(log.committed == 1005);
	assert_true(log.is_complete);
}

/* The newest of what the log says of a sector; NULL: nothing. */
static const struct seen *log_find(const struct log *log, uint64_t sector)
{
	for (size_t i = log->seen_count; i-- > 0;)
		if (sector >= log->seen[i].sector &&
		    sector - log->seen[i].sector < log->seen[i].length)
			return &log->seen[i];
	return NULL;
}

/* The seal of that log: 101 was written twice, 4001 and the following were trimmed. */
static void test_a_delta_is_what_its_log_says(void **state)
{
	CLEANUP(log_free) struct log log = { 0 };
	CLEANUP(object_free) struct object delta = { 0 };
	json_t *content = value("delta.content");
	size_t pages[3];
	size_t data = 0;

	(void)state;
	log_pages("log.record_pages", pages);
	log_read("log", pages, 3, &log);
	object_open("delta", &delta);
	check_bytes("delta.id", delta.header.id.bytes, 16);
	assert_int_equal(delta.count, 5);
	for (uint32_t i = 0; i < delta.count; i++) {
		const struct sz_index_entry *entry = &delta.entries[i];
		const struct seen *seen = log_find(&log, entry->sector);
		uint8_t opened[SZ_SECTOR_BYTES];
		uint8_t damaged = 0;

		assert_non_null(seen);
		if (entry->state == SZ_SECTOR_TOMBSTONE) {
			assert_null(seen->ciphertext);
			assert_true(entry->sector == number("delta.tombstone.0"));
			assert_true(entry->slot_or_count == number("delta.tombstone.1"));
			continue;
		}
		check_sector(&delta, entry, number_at(json_array_get(content, data++), 1));
		assert_non_null(seen->ciphertext);
		assert_int_equal(sz_sectors_open(log.object.keys.sector, entry->sector, 1,
						 seen->ciphertext, seen->nonce_tag, opened,
						 &damaged),
				 0);
		check_content(opened, entry->sector,
			      number_at(json_array_get(content, data - 1), 1));
	}
	assert_int_equal(data, 4);
}

static void test_a_log_that_was_cut_swapped_or_spliced(void **state)
{
	static const struct {
		size_t order[3];
		uint32_t opened;
	} cases[] = {
		{ { 0, 1, 2 }, 3 }, { { 0, 2, 1 }, 1 }, { { 1, 0, 2 }, 0 },
		{ { 2, 1, 0 }, 0 }, { { 0, 0, 1 }, 1 }, { { 1, 1, 1 }, 0 },
	};
	size_t pages[3];
	size_t fork_pages[3];

	(void)state;
	log_pages("log.record_pages", pages);
	log_pages("log.fork_pages", fork_pages);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		CLEANUP(log_free) struct log log = { 0 };
		size_t order[3];

		for (size_t k = 0; k < 3; k++)
			order[k] = pages[cases[i].order[k]];
		log_read("log", order, 3, &log);
		assert_int_equal(log.records, cases[i].opened);
	}
	/* cut: what is left opens; there is no commit in it */
	{
		CLEANUP(log_free) struct log log = { 0 };

		log_read("log", pages, 2, &log);
		assert_int_equal(log.records, 2);
		assert_int_equal(log.types[SZ_LOG_COMMIT], 0);
	}
	/* the fork is whole by itself … */
	{
		CLEANUP(log_free) struct log fork = { 0 };

		log_read("log_fork", fork_pages, 3, &fork);
		assert_int_equal(fork.records, 3);
	}
	/* … and its third record is not taken behind the log's second */
	{
		CLEANUP(log_free) struct log log = { 0 };
		size_t length;
		CLEANUP_FREE uint8_t *fork = file("log_fork", &length);
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint8_t tag[SZ_X_TAG_BYTES];
		const uint8_t *previous;

		log_read("log", pages, 3, &log);
		previous = log.object.file + (pages[1] + 1) * SZ_PAGE_BYTES - 16;
		assert_int_equal(sz_record_open(log.key, 2, previous,
						log.object.file + pages[2] * SZ_PAGE_BYTES, payload,
						tag),
				 0);
		assert_int_equal(sz_record_open(log.key, 2, previous,
						fork + fork_pages[2] * SZ_PAGE_BYTES, payload, tag),
				 -EBADMSG);
	}
}

/* ---- blobs ---- */

/* Opens a blob; its payload has to be the bytes at path (if not NULL). */
static void blob_open(const char *name, const char *path, struct sz_header *header,
		      struct sz_bytes *payload)
{
	size_t length;
	CLEANUP_FREE uint8_t *blob = file(name, &length);

	assert_int_equal(sz_blob_decode(&keys, blob, length, header, payload), 0);
	if (path != NULL)
		check_bytes(path, payload->data, payload->length);
}

static void test_a_root_and_its_code(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	CLEANUP(sz_root_free) struct sz_root root = { 0 };
	size_t length;
	CLEANUP_FREE uint8_t *blob = file("root", &length);
	struct sz_header header;
	uint8_t digest[SZ_DIGEST_BYTES];
	char code[40];

	(void)state;
	blob_open("root", "root.payload", &header, &payload);
	assert_int_equal(header.kind, SZ_KIND_ROOT);
	assert_int_equal(sz_root_decode(payload.data, payload.length, &root), 0);
	assert_int_equal(sz_root_encode(&root, &again), 0);
	assert_int_equal(again.length, payload.length);
	assert_memory_equal(again.data, payload.data, payload.length);
	assert_true(root.generation == 18 && root.device_count == 6 && root.ancestor_count == 2);
	assert_true(root.store_time_ns == 123456789 && root.next_sequence == 1005);
	assert_true(root.changed_sectors == 70 && root.band_sectors == 256);
	assert_true(root.parity == 2 && root.flags == 1 && root.key_version == 4);
	assert_true(root.devices[5].state == 1 && root.devices[5].stale_since == 16);
	assert_true(root.devices[2].stored_bytes == 1002 && root.devices[2].object_count == 12);
	assert_true(root.ancestors[0].generation == 11 && root.ancestors[1].generation == 10);
	check_bytes("key_all_types.digest", root.key_digest, 32);
	check_bytes("log.base", root.parent, 32);
	sz_header_digest(blob, digest);
	check_bytes("root.digest", digest, sizeof(digest));
	sz_root_code(root.generation, digest, code);
	assert_string_equal(code, text("root.code"));
}

static void test_a_manifest(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	struct sz_header header;

	(void)state;
	blob_open("manifest", "manifest.payload", &header, &payload);
	assert_int_equal(sz_manifest_decode(payload.data, payload.length, &manifest), 0);
	assert_int_equal(sz_manifest_encode(&manifest, &again), 0);
	assert_int_equal(again.length, payload.length);
	assert_memory_equal(again.data, payload.data, payload.length);
	assert_true(manifest.generation == 18 && manifest.shard_count == 1);
	assert_true(manifest.band_sectors == 256 && manifest.device_count == 6);
	assert_true(manifest.parity == 2 && manifest.sectors > 0);
	assert_int_equal(manifest.delta_count, 2);
	check_bytes("delta.digest", manifest.deltas[0].delta.digest, 32);
	check_bytes("delta.id", manifest.deltas[0].delta.id.bytes, 16);
	assert_true(manifest.deltas[0].list_is_inline && manifest.deltas[0].run_count == 3);
	assert_true(manifest.deltas[0].sector_count == 68);
	assert_false(manifest.deltas[1].list_is_inline);
	assert_true(manifest.deltas[1].generation == 12);
}

static void test_a_shard(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	struct sz_header header;

	(void)state;
	blob_open("shard", "shard.payload", &header, &payload);
	assert_int_equal(sz_shard_decode(payload.data, payload.length, &shard), 0);
	assert_int_equal(sz_shard_encode(&shard, &again), 0);
	assert_int_equal(again.length, payload.length);
	assert_memory_equal(again.data, payload.data, payload.length);
	assert_int_equal(shard.band_count, 2);
	assert_int_equal(shard.bands[1].band, 127);
	assert_true(shard.bands[0].folded_to == 9);
	assert_int_equal(shard.bands[0].live_sectors, 28);
	check_bytes("band.digest", shard.bands[0].ref.digest, 32);
}

static void test_lists(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes long_payload = { 0 };
	CLEANUP_BYTES struct sz_bytes again = { 0 };
	CLEANUP_FREE struct sz_run *runs = NULL;
	CLEANUP_FREE struct sz_run *many = NULL;
	struct sz_header header;
	uint32_t count;

	(void)state;
	blob_open("list", "list.payload", &header, &payload);
	assert_int_equal(sz_list_decode(payload.data, payload.length, &runs, &count), 0);
	assert_int_equal(count, json_array_size(value("list.runs")));
	for (uint32_t i = 0; i < count; i++) {
		json_t *run = json_array_get(value("list.runs"), i);

		assert_true(runs[i].sector == number_at(run, 0));
		assert_true(runs[i].count == number_at(run, 1));
	}
	assert_int_equal(sz_list_encode(runs, count, &again), 0);
	check_bytes("list.payload", again.data, again.length);

	blob_open("long_list", NULL, &header, &long_payload);
	assert_true(header.page_count == number("long_list.pages"));
	assert_int_equal(sz_list_decode(long_payload.data, long_payload.length, &many, &count), 0);
	assert_true(count == number("long_list.count"));
	for (uint64_t i = 0; i < count; i++)
		assert_true(many[i].sector == i * 1000 && many[i].count == 1 + i % 5);
}

static void test_a_hot_image(void **state)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	struct sz_header header;

	(void)state;
	blob_open("hot", "hot.payload", &header, &payload);
	assert_int_equal(header.kind, SZ_KIND_HOT);
	assert_true(header.page_count > 0);
}

static void test_a_note(void **state)
{
	size_t length;
	CLEANUP_FREE uint8_t *note = bytes_of_any_length("note.note", &length);
	CLEANUP_BYTES struct sz_bytes payload = { 0 };

	(void)state;
	assert_int_equal(sz_note_decode(keys.state, text("note.purpose"), note, length, &payload),
			 0);
	check_bytes("note.plaintext", payload.data, payload.length);
}

/* ---- key objects ---- */

struct secrets {
	struct sz_unlock unlock;
	uint8_t passphrase[64];
	uint8_t key_file[64];
	uint8_t recovery[32];
};

static void secrets_read(enum sz_slot_type type, struct secrets *secrets)
{
	size_t length = strlen(text("unlock.passphrase")) / 2;

	assert_true(length <= sizeof(secrets->passphrase));
	bytes("unlock.passphrase", secrets->passphrase, length);
	bytes("unlock.key_file", secrets->key_file, sizeof(secrets->key_file));
	bytes("unlock.recovery", secrets->recovery, sizeof(secrets->recovery));
	secrets->unlock = (struct sz_unlock){
		.type = type,
		.passphrase = (const char *)secrets->passphrase,
		.passphrase_length = length,
		.key_file = secrets->key_file,
		.recovery = secrets->recovery,
	};
}

static void free_object(struct sz_key_object **object)
{
	sz_secret_free(*object);
}
#define SECRET_OBJECT(name)                                                                        \
	CLEANUP(free_object) struct sz_key_object *name = sz_secret_alloc(sizeof(*name));          \
	assert_non_null(name)

static int key_open(const char *name, enum sz_slot_type type, struct sz_key_object *object)
{
	size_t length;
	CLEANUP_FREE uint8_t *page = file(name, &length);
	struct secrets secrets;

	assert_int_equal(length, SZ_KEY_OBJECT_BYTES);
	secrets_read(type, &secrets);
	return sz_key_object_open(page, &secrets.unlock, object);
}

static void test_a_key_object_opens_by_each_type(void **state)
{
	static const uint32_t slots[] = { [SZ_SLOT_PASSPHRASE] = 0,
					  [SZ_SLOT_PASSPHRASE_KEY_FILE] = 2,
					  [SZ_SLOT_KEY_FILE] = 5,
					  [SZ_SLOT_RECOVERY] = 7 };
	SECRET_OBJECT(object);

	(void)state;
	for (uint32_t type = SZ_SLOT_PASSPHRASE; type <= SZ_SLOT_RECOVERY; type++) {
		char label[16];

		sz_wipe(object, sizeof(*object));
		assert_int_equal(key_open("key_all_types", (enum sz_slot_type)type, object), 0);
		assert_int_equal(object->opened_slot, slots[type]);
		assert_memory_equal(&object->keys, &keys, sizeof(keys));
		assert_true(object->version == 4 && object->old_epoch == 0);
		check_bytes("key_all_types.parent", object->parent, 32);
		check_bytes("key_all_types.digest", object->digest, 32);
		for (uint32_t i = 0; i < SZ_SLOTS; i++) {
			bool used = i == 0 || i == 2 || i == 5 || i == 7;

			assert_true((object->slots[i].type != SZ_SLOT_NONE) == used);
			(void)snprintf(label, sizeof(label), "slot %u", i);
			assert_string_equal(object->slots[i].label, used ? label : "");
			assert_true(object->slots[i].wall_time_ns ==
				    (used ? 1700000000000000000U + i : 0));
		}
	}
}

static void test_a_key_object_of_another_preset(void **state)
{
	SECRET_OBJECT(object);

	(void)state;
	assert_int_equal(key_open("key_interactive", SZ_SLOT_PASSPHRASE, object), 0);
	assert_memory_equal(object->keys.master, keys.master, SZ_KEY_BYTES);
}

static void test_forged_key_objects(void **state)
{
	SECRET_OBJECT(object);

	(void)state;
	assert_int_equal(key_open("key_wrong_index", SZ_SLOT_RECOVERY, object), -EUCLEAN);
	/* slots 5 and 7 changed places */
	assert_int_equal(key_open("key_swapped", SZ_SLOT_KEY_FILE, object), -EUCLEAN);
	assert_int_equal(key_open("key_swapped", SZ_SLOT_RECOVERY, object), -EUCLEAN);
	assert_int_equal(key_open("key_swapped", SZ_SLOT_PASSPHRASE, object), -EBADMSG);
	assert_int_equal(key_open("key_edited", SZ_SLOT_RECOVERY, object), -EBADMSG);
	for (size_t i = 0; i < sizeof(*object); i++)
		assert_int_equal(((const uint8_t *)object)[i], 0); /* no key stays behind */
}

/* The slot's ciphertext opens under the keys of both secrets; the slot opens with one. */
static void test_a_slot_for_two_keys(void **state)
{
	static const char *const paths[] = { "two_keys.k_slot_1", "two_keys.k_slot_2" };
	SECRET_OBJECT(object);
	size_t length;
	CLEANUP_FREE uint8_t *page = file("key_two_keys", &length);
	const uint8_t *slot = page + 32;
	uint8_t second[32];
	struct sz_unlock by_second = { .type = SZ_SLOT_RECOVERY, .recovery = second };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		uint8_t key[SZ_KEY_BYTES];
		uint8_t plaintext[SZ_SLOT_PAYLOAD_BYTES];

		bytes(paths[i], key, sizeof(key));
		assert_int_equal(sz_x_open(key, slot + 64, slot, 64, slot + 88,
					   SZ_SLOT_PAYLOAD_BYTES, slot + 496, plaintext),
				 0);
	}
	assert_int_equal(key_open("key_two_keys", SZ_SLOT_RECOVERY, object), 0);
	assert_true(object->keys.epoch == 2 && object->old_epoch == 1);
	sz_wipe(object, sizeof(*object));
	bytes("two_keys.second_recovery", second, sizeof(second));
	assert_int_equal(sz_key_object_open(page, &by_second, object), -EKEYREJECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_identity_to_keys),
		cmocka_unit_test(test_sectors),
		cmocka_unit_test(test_a_band_with_data_absent_and_poison),
		cmocka_unit_test(test_every_flipped_byte_of_a_header_fails),
		cmocka_unit_test(test_a_delta_of_two_leaves),
		cmocka_unit_test(test_a_fence),
		cmocka_unit_test(test_a_log_of_three_records),
		cmocka_unit_test(test_a_delta_is_what_its_log_says),
		cmocka_unit_test(test_a_log_that_was_cut_swapped_or_spliced),
		cmocka_unit_test(test_a_root_and_its_code),
		cmocka_unit_test(test_a_manifest),
		cmocka_unit_test(test_a_shard),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_a_hot_image),
		cmocka_unit_test(test_a_note),
		cmocka_unit_test(test_a_key_object_opens_by_each_type),
		cmocka_unit_test(test_a_key_object_of_another_preset),
		cmocka_unit_test(test_forged_key_objects),
		cmocka_unit_test(test_a_slot_for_two_keys),
	};

	return cmocka_run_group_tests_name("vectors", tests, set_up, tear_down);
}
