/*
 * What a host sees of a store is indistinguishable from chance, however little chance there is in what
 * is stored: a few contents, the same in all sectors, written again and again. Every file that a store
 * ever had is kept and looked at, the live ones too, alone and all together.
 *
 * Each figure is one of thousands, so the bounds are far out: a fair one is DEVIATIONS standard deviations
 * off once in 10^11, or a run of equal bytes of RUN_BYTES long once in 10^13 of the bytes here.
 */
#include "objects.h"
#include "paths.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>

#define ROUNDS       100U
#define WRITES       4U
#define DEVIATIONS   7.0
#define RUN_BYTES    10U
#define BLOCK_BYTES  16U
#define VALUES       256U
#define NAME_DIGITS  32U
#define HEAD_BYTES   SZ_PAGE_BYTES
#define LARGE_WRITES 24U /* one write in so many is of a whole band */

static const struct shape shape = { .devices = 3, .sectors = 2048, .band_sectors = 256 };

/* A file, as it was last seen. */
struct seen {
	char name[64];
	bool is_open_band; /* its header page is not written yet: a hole */
	struct sz_bytes content;
};
struct pile {
	struct seen *files;
	size_t count;
	uint64_t bytes;
};

static void pile_free(struct pile *pile)
{
	for (size_t i = 0; i < pile->count; i++)
		sz_bytes_free(&pile->files[i].content);
	free(pile->files);
}

static struct seen *pile_find(struct pile *pile, const char *name)
{
	for (size_t i = 0; i < pile->count; i++)
		if (strcmp(pile->files[i].name, name) == 0)
			return &pile->files[i];
	pile->files = realloc(pile->files, (pile->count + 1) * sizeof(*pile->files));
	assert_non_null(pile->files);
	pile->files[pile->count] = (struct seen){ 0 };
	memcpy(pile->files[pile->count].name, name, strlen(name) + 1);
	return &pile->files[pile->count++];
}

static bool is_zeros(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/*
 * Adds what is on the disks now. Files of one name are one file: the same one in several folders, or a
 * live one that has grown since, which is prefix of what it became but for the header page.
 */
static void pile_add(struct pile *pile, struct harness *harness)
{
	CLEANUP(objects_free) struct objects objects = { 0 };

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];
		struct seen *seen = pile_find(pile, object->name);
		struct sz_bytes content = { 0 };
		size_t known = seen->content.length;

		object_read(harness, object, &content);
		assert_true(content.length >= known);
		if (known > HEAD_BYTES)
			assert_memory_equal(content.data + HEAD_BYTES,
					    seen->content.data + HEAD_BYTES, known - HEAD_BYTES);
		pile->bytes += content.length - known;
		sz_bytes_free(&seen->content);
		seen->content = content;
		seen->is_open_band = object->part == SZ_LIVE && content.length >= HEAD_BYTES &&
				     object->kind == SZ_KIND_BAND &&
				     is_zeros(content.data, HEAD_BYTES);
	}
}

/* What there is to look at in a file. */
static const uint8_t *visible(const struct seen *seen, size_t *length_out)
{
	size_t hidden = seen->is_open_band ? HEAD_BYTES : 0;

	*length_out = seen->content.length - hidden;
	return seen->content.data + hidden;
}

/* Filling a store */

/* A few contents; and one that does not compress, for hot images of many pages. */
static void fill(struct harness *harness, uint32_t count, uint64_t kind)
{
	static const char text[] = "All work and no play makes Jack a dull boy. ";
	uint8_t *buffer = harness->buffer;
	size_t bytes = (size_t)count * SZ_SECTOR_BYTES;

	if (kind == 0)
		memset(buffer, 0, bytes);
	else if (kind == 1)
		memset(buffer, 0xff, bytes);
	else if (kind == 2)
		sz_random_padding(buffer, bytes);
	else
		for (size_t i = 0; i < bytes; i++)
			buffer[i] = (uint8_t)text[i % SZ_SECTOR_BYTES % (sizeof(text) - 1)];
}

static void write_some(struct harness *harness)
{
	struct sz_device *device = sz_store_device(
		harness->store, (uint32_t)chance_below(&harness->chance, shape.devices));
	bool is_large = chance_below(&harness->chance, LARGE_WRITES) == 0;
	uint32_t count =
		is_large ? shape.band_sectors : 1 + (uint32_t)chance_below(&harness->chance, 15);
	uint64_t sector = chance_below(&harness->chance, shape.sectors - count + 1);

	if (is_large) /* where a band may be */
		sector -= sector % shape.band_sectors;
	if (chance_below(&harness->chance, 10) == 0) {
		OK(sz_device_trim(device, sector, count));
		return;
	}
	fill(harness, count, chance_below(&harness->chance, 4));
	OK(sz_device_write(device, sector, count, harness->buffer));
}

static void reopen(struct harness *harness)
{
	if (chance_below(&harness->chance, 2) == 0)
		OK(harness_close(harness));
	else
		harness_abandon(harness);
	harness_open_clean(harness);
}

/* All that a store of this kind ever had on its disks. */
static void pile_make(struct pile *pile)
{
	struct harness harness;

	harness_init(&harness, &shape, chance_seed("secrecy"));
	harness_open_clean(&harness);
	for (uint64_t round = 0; round < ROUNDS * test_scale(); round++) {
		for (unsigned int i = 0; i < WRITES; i++)
			write_some(&harness);
		OK(harness_flush_all(&harness)); /* a log has holes before */
		pile_add(pile, &harness);
		if (round % 8 == 7)
			reopen(&harness);
		else
			OK(round % 15 == 14 ? harness_compact(&harness) : harness_seal(&harness));
		pile_add(pile, &harness);
	}
	for (unsigned int i = 0; i < WRITES; i++)
		write_some(&harness);
	OK(harness_flush_all(&harness));
	pile_add(pile, &harness);
	harness_fini(&harness);
	printf("# %zu files, %" PRIu64 " MiB\n", pile->count, pile->bytes >> 20);
}

/* Figures: standard deviations off what is expected of chance */

/* Of a chi-square figure (Wilson and Hilferty, 1931). */
static double chi_square_deviation(const uint64_t *counts, size_t values)
{
	double degrees = (double)(values - 1);
	double total = 0;
	double sum = 0;

	for (size_t i = 0; i < values; i++)
		total += (double)counts[i];
	for (size_t i = 0; i < values; i++) {
		double expected = total / (double)values;
		double off = (double)counts[i] - expected;

		sum += off * off / expected;
	}
	return (cbrt(sum / degrees) - (1 - 2 / (9 * degrees))) / sqrt(2 / (9 * degrees));
}

/* Bits in a byte, 8 at most. */
static double entropy(const uint64_t *counts)
{
	double total = 0;
	double bits = 0;

	for (size_t i = 0; i < VALUES; i++)
		total += (double)counts[i];
	for (size_t i = 0; i < VALUES; i++)
		if (counts[i] > 0)
			bits -= (double)counts[i] / total * log2((double)counts[i] / total);
	return bits;
}

/* Of the correlation of each byte with the next. */
static double correlation_deviation(const uint8_t *bytes, size_t length)
{
	const double middle = (VALUES - 1) / 2.0;
	const double variance = (VALUES * VALUES - 1) / 12.0;
	double sum = 0;

	for (size_t i = 0; i + 1 < length; i++)
		sum += (bytes[i] - middle) * (bytes[i + 1] - middle);
	return sum / variance / sqrt((double)(length - 1));
}

static void count_bytes(uint64_t *counts, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		counts[bytes[i]]++;
}

static size_t longest_run(const uint8_t *bytes, size_t length)
{
	size_t longest = 0;
	size_t run = 0;

	for (size_t i = 0; i < length; i++) {
		run = i > 0 && bytes[i] == bytes[i - 1] ? run + 1 : 1;
		if (run > longest)
			longest = run;
	}
	return longest;
}

static void expect(double deviation, const char *what, const char *name)
{
	if (fabs(deviation) > DEVIATIONS)
		fail_msg("%s: %s is %.1f standard deviations off", name, what, deviation);
}

static void check_alone(const struct seen *seen)
{
	uint64_t counts[VALUES] = { 0 };
	size_t length;
	const uint8_t *bytes = visible(seen, &length);
	size_t run;

	if (length == 0)
		return;
	count_bytes(counts, bytes, length);
	expect(chi_square_deviation(counts, VALUES), "the count of bytes", seen->name);
	expect(correlation_deviation(bytes, length), "the correlation", seen->name);
	run = longest_run(bytes, length);
	if (run >= RUN_BYTES)
		fail_msg("%s: %zu equal bytes in a row", seen->name, run);
}

static void check_together(const struct pile *pile)
{
	uint64_t counts[VALUES] = { 0 };

	for (size_t i = 0; i < pile->count; i++) {
		size_t length;
		const uint8_t *bytes = visible(&pile->files[i], &length);

		count_bytes(counts, bytes, length);
	}
	printf("# %.8f bits in a byte\n", entropy(counts));
	expect(chi_square_deviation(counts, VALUES), "the count of bytes", "all files");
	assert_true(entropy(counts) > 7.9999);
}

/* At the same place of all files, from the beginning or the end. */
static void check_place(const struct pile *pile, size_t place, bool from_end)
{
	uint64_t counts[VALUES] = { 0 };
	char name[32];

	for (size_t i = 0; i < pile->count; i++) {
		size_t length;
		const uint8_t *bytes = visible(&pile->files[i], &length);

		if (place < length)
			counts[bytes[from_end ? length - 1 - place : place]]++;
	}
	(void)snprintf(name, sizeof(name), "place %zu from the %s", place,
		       from_end ? "end" : "beginning");
	expect(chi_square_deviation(counts, VALUES), "the count of bytes", name);
}

struct block {
	uint64_t words[2];
};

static int compare_blocks(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct block));
}

static void print_places(const struct pile *pile, const struct block *block)
{
	for (size_t i = 0; i < pile->count; i++) {
		size_t length;
		const uint8_t *bytes = visible(&pile->files[i], &length);

		for (size_t at = 0; at + BLOCK_BYTES <= length; at += BLOCK_BYTES)
			if (memcmp(bytes + at, block, sizeof(*block)) == 0)
				printf("# %s, at %zu of %zu\n", pile->files[i].name, at, length);
	}
}

/* No block of 16 bytes is there twice. */
static void check_blocks(const struct pile *pile)
{
	CLEANUP_FREE struct block *blocks = malloc(pile->bytes);
	size_t count = 0;

	assert_non_null(blocks);
	for (size_t i = 0; i < pile->count; i++) {
		size_t length;
		const uint8_t *bytes = visible(&pile->files[i], &length);

		memcpy(blocks + count, bytes, length / BLOCK_BYTES * BLOCK_BYTES);
		count += length / BLOCK_BYTES;
	}
	qsort(blocks, count, sizeof(*blocks), compare_blocks);
	for (size_t i = 1; i < count; i++) {
		if (compare_blocks(&blocks[i - 1], &blocks[i]) != 0)
			continue;
		print_places(pile, &blocks[i]);
		fail_msg("a block of %u bytes is there twice", BLOCK_BYTES);
	}
}

static void check_names(const struct pile *pile)
{
	for (size_t place = 0; place < NAME_DIGITS; place++) {
		uint64_t counts[16] = { 0 };

		for (size_t i = 0; i < pile->count; i++) {
			const char *name = pile->files[i].name;

			assert_int_equal(strlen(name), NAME_DIGITS);
			assert_true(isdigit(name[place]) ||
				    (name[place] >= 'a' && name[place] <= 'f'));
			counts[isdigit(name[place]) ? name[place] - '0' : name[place] - 'a' + 10]++;
		}
		expect(chi_square_deviation(counts, ARRAY_LENGTH(counts)), "the count of digits",
		       "the names");
	}
}

static int make_group(void **state)
{
	static struct pile pile;

	*state = &pile;
	if (set_up_crypto(NULL) != 0)
		return -1;
	pile_make(&pile);
	return 0;
}

static int free_group(void **state)
{
	pile_free(*state);
	return 0;
}

static void test_every_file_alone(void **state)
{
	const struct pile *pile = *state;

	for (size_t i = 0; i < pile->count; i++)
		check_alone(&pile->files[i]);
}

static void test_all_files_together(void **state)
{
	check_together(*state);
}

/* No field is the same, or nearly, in all files. */
static void test_every_place_of_all_files(void **state)
{
	for (size_t place = 0; place < HEAD_BYTES; place++)
		check_place(*state, place, false);
	for (size_t place = 0; place < HEAD_BYTES; place++)
		check_place(*state, place, true);
}

static void test_no_block_twice(void **state)
{
	check_blocks(*state);
}

static void test_names_of_files(void **state)
{
	check_names(*state);
}

/* The names of folders say as little. */
static void test_names_of_folders(void **state)
{
	char folders[16][PATH_BYTES];
	struct place place;

	(void)state;
	place_init(&place, &shape, 1);
	assert_int_equal(device_folders(place.path, folders, 16), shape.devices);
	for (uint32_t i = 0; i < shape.devices; i++) {
		const char *name = strrchr(folders[i], '/') + 1;

		assert_int_equal(strlen(name), NAME_DIGITS / 2);
		assert_int_equal(strspn(name, "0123456789abcdef"), NAME_DIGITS / 2);
	}
	place_fini(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_file_alone),
		cmocka_unit_test(test_all_files_together),
		cmocka_unit_test(test_every_place_of_all_files),
		cmocka_unit_test(test_no_block_twice),
		cmocka_unit_test(test_names_of_files),
		cmocka_unit_test(test_names_of_folders),
	};

	return cmocka_run_group_tests(tests, make_group, free_group);
}
