/* format: ids, names, headers, pages, trailers, blobs and notes: what comes back, and what does not. */
#include "format_test.h"

static void test_ids_and_names(void **state)
{
	static const struct {
		enum sz_kind kind;
		uint32_t device;
		uint64_t generation;
		uint64_t random;
	} cases[] = {
		{ SZ_KIND_BAND, 0, 0, 0 },
		{ SZ_KIND_DELTA, 5, 1, UINT64_MAX },
		{ SZ_KIND_ROOT, SZ_STORE_WIDE, (UINT64_C(1) << 48) - 1, 1 },
		{ SZ_KIND_PLACES, SZ_FORMAT_DEVICES_MAX - 1, 77, 77 },
		{ SZ_KIND_KEEP, SZ_STORE_WIDE, 77, 77 },
	};
	struct sz_keys keys = make_keys();

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		char name[SZ_OBJECT_NAME_BYTES];
		struct sz_id id;
		struct sz_id decoded;
		enum sz_kind kind;
		uint32_t device;
		uint64_t generation;

		sz_id_make(cases[i].kind, cases[i].device, cases[i].generation, cases[i].random,
			   &id);
		assert_true(sz_get_le64(id.bytes + 8) == cases[i].random);
		sz_name_encode(&keys, &id, name);
		assert_int_equal(strlen(name), 32);
		assert_int_equal(sz_name_decode(&keys, name, &decoded), 0);
		assert_memory_equal(&id, &decoded, sizeof(id));
		assert_int_equal(sz_id_parse(&decoded, &kind, &device, &generation), 0);
		assert_int_equal(kind, cases[i].kind);
		assert_int_equal(device, cases[i].device);
		assert_true(generation == cases[i].generation);
	}
}

static void test_names_that_are_none(void **state)
{
	static const char *const names[] = { "", "0123", "0123456789abcdef0123456789abcdeF",
					     "0123456789abcdef0123456789abcdef0",
					     ".0123456789abcdef0123456789abcde" };
	struct sz_keys keys = make_keys();
	struct sz_id id;
	char name[SZ_OBJECT_NAME_BYTES];
	unsigned int taken = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		assert_int_equal(sz_name_decode(&keys, names[i], &id), -EINVAL);
	/* random names: 10 of 16 kinds, 65 of 4,096 devices: one of 101 passes */
	for (int i = 0; i < 10000; i++) {
		uint8_t random[16];

		sz_random(random, sizeof(random));
		sz_hex_encode(random, sizeof(random), name);
		if (sz_name_decode(&keys, name, &id) == 0)
			taken++;
		else
			assert_int_equal(sz_name_decode(&keys, name, &id), -EUCLEAN);
	}
	assert_in_range(taken, 20, 250);
}

static struct sz_header band_header(const struct sz_keys *keys)
{
	struct sz_header header = make_header(keys, SZ_KIND_BAND);

	header.base_sector = 4096;
	header.sector_count = 2048;
	header.data_slots = 256;
	header.page_count = 3;
	header.file_bytes = (1 + 256 + 3) * 4096 + 40;
	header.folded_to = 9;
	header.entry_count = 250;
	header.leaf_count = 3;
	header.top_count = 3;
	for (unsigned int i = 0; i < 3; i++)
		sz_put_le64(header.body + (size_t)8 * i, 4096 + 700 * i);
	sz_random(header.pages_digest, sizeof(header.pages_digest));
	return header;
}

static void test_a_header_comes_back(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = band_header(&keys);
	struct sz_header decoded;
	uint8_t page[SZ_PAGE_BYTES];

	(void)state;
	sz_header_encode(&keys, &header, page);
	memset(&decoded, 0, sizeof(decoded));
	assert_int_equal(sz_header_decode(&keys, page, &decoded), 0);
	assert_memory_equal(&header.id, &decoded.id, sizeof(header.id));
	assert_memory_equal(header.salt, decoded.salt, sizeof(header.salt));
	assert_memory_equal(header.device_id, decoded.device_id, 16);
	assert_memory_equal(header.lineage, decoded.lineage, 16);
	assert_memory_equal(header.pages_digest, decoded.pages_digest, SZ_DIGEST_BYTES);
	assert_memory_equal(header.body, decoded.body, SZ_HEADER_BODY_BYTES);
	assert_int_equal(decoded.kind, SZ_KIND_BAND);
	assert_true(decoded.base_sector == 4096 && decoded.sector_count == 2048);
	assert_true(decoded.data_slots == 256 && decoded.page_count == 3);
	assert_true(decoded.file_bytes == header.file_bytes && decoded.folded_to == 9);
	assert_true(decoded.entry_count == 250 && decoded.leaf_count == 3);
	assert_true(decoded.top_count == 3 && decoded.payload_bytes == 0);
}

/* Encodes a band's header with one thing changed; what decoding says of it. */
#define DECODE_WITH(change)                                                                        \
	({                                                                                         \
		struct sz_keys k_ = keys;                                                          \
		struct sz_header h = band_header(&keys);                                           \
		struct sz_header decoded_;                                                         \
		uint8_t page_[SZ_PAGE_BYTES];                                                      \
		change;                                                                            \
		sz_header_encode(&k_, &h, page_);                                                  \
		sz_header_decode(&keys, page_, &decoded_);                                         \
	})

static void test_headers_that_cannot_be(void **state)
{
	struct sz_keys keys = make_keys();

	(void)state;
	assert_int_equal(DECODE_WITH((void)h), 0);
	assert_int_equal(DECODE_WITH(h.version = 2), -EPROTONOSUPPORT);
	assert_int_equal(DECODE_WITH(h.version = 0), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.kind = SZ_KIND_DELTA), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.key_epoch = 2), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.store_id[0] ^= 1), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.file_bytes++), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.data_slots++), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.page_count--), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.payload_bytes = 1), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.leaf_count = 4), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.top_count = 2), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.entry_count = 304), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.entry_count = 2), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.base_sector = 4097), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.sector_count = 1400), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.sector_count = UINT64_MAX), -EUCLEAN);
	assert_int_equal(DECODE_WITH(h.base_sector = UINT64_MAX), -EUCLEAN);
	assert_int_equal(DECODE_WITH(sz_put_le64(h.body + 8, 4096)), -EUCLEAN);
	assert_int_equal(DECODE_WITH(sz_id_make(SZ_KIND_KEY, 0, 1, 1, &h.id); h.kind = SZ_KIND_KEY),
			 -EUCLEAN);
	assert_int_equal(DECODE_WITH(k_.head[0] ^= 1), -EBADMSG);
}

static void test_a_header_with_fences(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = make_header(&keys, SZ_KIND_DELTA);
	struct sz_header decoded;
	uint8_t page[SZ_PAGE_BYTES];

	(void)state;
	header.sector_count = UINT64_C(1) << 40;
	header.data_slots = 100000;
	header.leaf_count = 1000; /* above 479: two fences */
	header.entry_count = 101000;
	header.top_count = 2;
	header.page_count = 1002;
	header.file_bytes = (uint64_t)(1 + 100000 + 1002) * 4096 + 40;
	sz_put_le64(header.body + 8, 123456);
	sz_header_encode(&keys, &header, page);
	assert_int_equal(sz_header_decode(&keys, page, &decoded), 0);
	header.top_count = 1000;
	sz_header_encode(&keys, &header, page);
	assert_int_equal(sz_header_decode(&keys, page, &decoded), -EUCLEAN);
	header.top_count = 2;
	header.page_count = 1001; /* no room for the fences */
	header.file_bytes -= 4096;
	sz_header_encode(&keys, &header, page);
	assert_int_equal(sz_header_decode(&keys, page, &decoded), -EUCLEAN);
}

static void test_keys_depend_on_the_whole_identity(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header base = make_header(&keys, SZ_KIND_BAND);
	struct sz_header changed[10];
	struct sz_object_keys derived;
	struct sz_object_keys other;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(changed); i++)
		changed[i] = base;
	changed[0].id.bytes[15] ^= 1;
	changed[1].salt[0] ^= 1;
	changed[2].store_id[0] ^= 1;
	changed[3].device_id[0] ^= 1;
	changed[4].kind ^= 1;
	changed[5].version ^= 1;
	changed[6].key_epoch ^= 1;
	changed[7].base_sector ^= 1;
	changed[8].sector_count ^= 1;
	changed[9].lineage[15] ^= 1;
	sz_object_keys_derive(&keys, &base, &derived);
	assert_memory_not_equal(derived.sector, derived.page, SZ_KEY_BYTES);
	for (size_t i = 0; i < ARRAY_LENGTH(changed); i++) {
		sz_object_keys_derive(&keys, &changed[i], &other);
		assert_memory_not_equal(derived.sector, other.sector, SZ_KEY_BYTES);
		assert_memory_not_equal(derived.page, other.page, SZ_KEY_BYTES);
	}
	base.data_slots = 7; /* what is not identity does not matter: it is known only at the end */
	base.body[0] = 1;
	sz_object_keys_derive(&keys, &base, &other);
	assert_memory_equal(&derived, &other, sizeof(derived));
}

static void test_pages_and_trailers_are_bound(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = band_header(&keys);
	struct sz_object_keys object;
	struct sz_object_keys other;
	uint8_t payload[SZ_PAGE_PAYLOAD] = { 1, 2, 3 };
	uint8_t opened[SZ_PAGE_PAYLOAD];
	uint8_t page[SZ_PAGE_BYTES];
	uint8_t header_page[SZ_PAGE_BYTES];
	uint8_t trailer[SZ_TRAILER_BYTES];

	(void)state;
	sz_object_keys_derive(&keys, &header, &object);
	sz_page_seal(&object, 7, payload, page);
	assert_int_equal(sz_page_open(&object, 7, page, opened), 0);
	assert_memory_equal(opened, payload, sizeof(payload));
	assert_int_equal(sz_page_open(&object, 8, page, opened), -EBADMSG);
	header.id.bytes[8] ^= 1;
	sz_object_keys_derive(&keys, &header, &other);
	assert_int_equal(sz_page_open(&other, 7, page, opened), -EBADMSG);

	sz_header_encode(&keys, &header, header_page);
	sz_trailer_seal(&object, header_page, trailer);
	assert_int_equal(sz_trailer_open(&object, header_page, trailer), 0);
	assert_int_equal(sz_trailer_open(&other, header_page, trailer), -EBADMSG);
	for (size_t i = 0; i < sizeof(trailer); i++) {
		trailer[i] ^= 4;
		assert_int_equal(sz_trailer_open(&object, header_page, trailer), -EBADMSG);
		trailer[i] ^= 4;
	}
	sz_header_encode(&keys, &header, header_page); /* sealed anew: another tag */
	assert_int_equal(sz_trailer_open(&object, header_page, trailer), -EBADMSG);
}

static void test_padding_is_at_most_an_eighth(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 100000; n++) {
		uint64_t padded = sz_pad_count(n);

		assert_true(padded >= n && padded - n <= n / 8);
		assert_true(sz_pad_count(padded) == padded);
		assert_true(n < 16 ? padded == n : true);
	}
	assert_true(sz_pad_count(16) == 16 && sz_pad_count(17) == 18 && sz_pad_count(33) == 36);
}

static void check_blob(const struct sz_keys *keys, enum sz_kind kind, size_t length)
{
	struct sz_header header = make_header(keys, kind);
	CLEANUP_FREE uint8_t *payload = malloc(length + 1);
	CLEANUP_BYTES struct sz_bytes file = { 0 };
	CLEANUP_BYTES struct sz_bytes opened = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	uint8_t expected[SZ_DIGEST_BYTES];
	struct sz_header decoded;

	assert_non_null(payload);
	sz_random_padding(payload, length + 1);
	assert_int_equal(sz_blob_encode(keys, &header, payload, length, &file, digest), 0);
	assert_int_equal(file.length % 4096, 40);
	assert_int_not_equal(file.length, SZ_KEY_OBJECT_BYTES);
	sz_header_digest(file.data, expected);
	assert_memory_equal(digest, expected, sizeof(digest));
	assert_int_equal(sz_blob_decode(keys, file.data, file.length, &decoded, &opened), 0);
	assert_int_equal(opened.length, length);
	if (length > 0)
		assert_memory_equal(opened.data, payload, length);
	assert_int_equal(decoded.payload_bytes, length);
	/* cut, or longer */
	sz_bytes_free(&opened);
	assert_int_equal(sz_blob_decode(keys, file.data, file.length - 1, &decoded, &opened),
			 -EBADMSG);
	assert_int_equal(sz_bytes_append(&file, payload, 1), 0);
	assert_int_equal(sz_blob_decode(keys, file.data, file.length, &decoded, &opened), -EBADMSG);
	assert_int_equal(sz_blob_decode(keys, file.data, 4135, &decoded, &opened), -EBADMSG);
	assert_null(opened.data);
}

static void test_blobs_of_any_length(void **state)
{
	static const size_t lengths[] = { 0,    1,     3831,  3832,   3833,           7888,
					  7889, 40000, 80000, 300000, 8 * 1024 * 1024 };
	struct sz_keys keys = make_keys();

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++)
		check_blob(&keys, i % 2 == 0 ? SZ_KIND_INDEX : SZ_KIND_ROOT, lengths[i]);
}

static void test_a_blob_that_is_damaged_anywhere(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = make_header(&keys, SZ_KIND_HOT);
	CLEANUP_FREE uint8_t *payload = calloc(1, 70000);
	CLEANUP_BYTES struct sz_bytes file = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	uint64_t pages;
	unsigned int ignored = 0;

	(void)state;
	assert_non_null(payload);
	assert_int_equal(sz_blob_encode(&keys, &header, payload, 70000, &file, digest), 0);
	pages = (70000 - 3832 + 4055) / 4056; /* 17 are used, 18 are there */
	assert_int_equal(file.length, (1 + sz_pad_count(pages)) * 4096 + 40);
	for (size_t at = 0; at < file.length; at += 97) {
		CLEANUP_BYTES struct sz_bytes opened = { 0 };
		struct sz_header decoded;
		int result;

		file.data[at] ^= 0x10;
		result = sz_blob_decode(&keys, file.data, file.length, &decoded, &opened);
		file.data[at] ^= 0x10;
		if (result == 0) {
			ignored++; /* only in padding */
			assert_in_range(at, (1 + pages) * 4096, file.length - 41);
		} else {
			assert_int_equal(result, -EBADMSG);
		}
	}
	assert_in_range(ignored, 1, 43);
}

static void test_blob_is_no_band(void **state)
{
	struct sz_keys keys = make_keys();
	struct sz_header header = band_header(&keys);
	CLEANUP_BYTES struct sz_bytes opened = { 0 };
	CLEANUP_FREE uint8_t *file = calloc(1, header.file_bytes);
	struct sz_header decoded;

	(void)state;
	assert_non_null(file);
	sz_header_encode(&keys, &header, file);
	assert_int_equal(sz_blob_decode(&keys, file, header.file_bytes, &decoded, &opened),
			 -EUCLEAN);
}

static void test_notes(void **state)
{
	static const size_t lengths[] = { 0, 1, 1000, SZ_NOTE_MAX_BYTES };
	static uint8_t payload[SZ_NOTE_MAX_BYTES + 1];
	struct sz_keys keys = make_keys();

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		CLEANUP_BYTES struct sz_bytes note = { 0 };
		CLEANUP_BYTES struct sz_bytes opened = { 0 };

		assert_int_equal(
			sz_note_encode(keys.state, "szpool1 lock", payload, lengths[i], &note), 0);
		assert_int_equal(note.length, lengths[i] + SZ_NOTE_OVERHEAD);
		assert_int_equal(
			sz_note_decode(keys.state, "szpool1 lock", note.data, note.length, &opened),
			0);
		assert_int_equal(opened.length, lengths[i]);
		sz_bytes_free(&opened);
		assert_int_equal(sz_note_decode(keys.state, "szpool1 places", note.data,
						note.length, &opened),
				 -EBADMSG);
		assert_int_equal(sz_note_decode(keys.state, "szpool1 lock", note.data,
						note.length - 1, &opened),
				 -EBADMSG);
		assert_int_equal(sz_note_decode(keys.state, "szpool1 lock", note.data, 39, &opened),
				 -EBADMSG);
		note.data[note.length - 1] ^= 1;
		assert_int_equal(
			sz_note_decode(keys.state, "szpool1 lock", note.data, note.length, &opened),
			-EBADMSG);
		assert_null(opened.data);
	}
	{
		CLEANUP_BYTES struct sz_bytes note = { 0 };

		assert_int_equal(sz_note_encode(keys.state, "x", payload, sizeof(payload), &note),
				 -EFBIG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_and_names),
		cmocka_unit_test(test_names_that_are_none),
		cmocka_unit_test(test_a_header_comes_back),
		cmocka_unit_test(test_headers_that_cannot_be),
		cmocka_unit_test(test_a_header_with_fences),
		cmocka_unit_test(test_keys_depend_on_the_whole_identity),
		cmocka_unit_test(test_pages_and_trailers_are_bound),
		cmocka_unit_test(test_padding_is_at_most_an_eighth),
		cmocka_unit_test(test_blobs_of_any_length),
		cmocka_unit_test(test_a_blob_that_is_damaged_anywhere),
		cmocka_unit_test(test_blob_is_no_band),
		cmocka_unit_test(test_notes),
	};

	return cmocka_run_group_tests_name("format_objects", tests, set_up_crypto, NULL);
}
