/*
 * overlay against a model: an array with one cell a sector. Random insertions of every shape; after
 * each, the whole overlay has to say what the array says. SZ_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/overlay.h"

#include <stdio.h>

#define SECTORS    512U
#define INSERTIONS 4000U
#define LONGEST    64U

struct cell {
	bool present;
	enum sz_overlay_state state;
	uint32_t source;
	uint64_t place;
	uint8_t mark; /* every byte of its nonce and tag */
};

static uint64_t seed;

static uint64_t random_below(uint64_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % limit;
}

static bool agrees(const struct cell *cell, const struct sz_extent *extent, uint64_t sector)
{
	uint64_t skip = sector - extent->sector;

	if (!cell->present || cell->state != extent->state)
		return false;
	if (cell->state != SZ_OVERLAY_DATA)
		return extent->nonce_tags == NULL;
	for (size_t i = 0; i < SZ_NONCE_TAG_BYTES; i++)
		if (extent->nonce_tags[skip * SZ_NONCE_TAG_BYTES + i] != cell->mark)
			return false;
	return cell->source == extent->source && cell->place == extent->place + skip;
}

static void compare(struct sz_overlay *overlay, const struct cell *model)
{
	const struct sz_extent *extent = sz_overlay_find(overlay, 0);
	uint64_t data = 0;
	uint64_t extents = 0;

	for (uint64_t sector = 0; sector < SECTORS; sector++) {
		if (extent != NULL && sector == extent->sector + extent->count)
			extent = sz_overlay_next(extent);
		assert_ptr_equal(extent, sz_overlay_find(overlay, sector));
		if (extent == NULL || sector < extent->sector) {
			assert_false(model[sector].present);
			continue;
		}
		extents += sector == extent->sector;
		assert_true(agrees(&model[sector], extent, sector));
		data += model[sector].state == SZ_OVERLAY_DATA;
	}
	assert_int_equal(overlay->data_sectors, data);
	assert_int_equal(overlay->extent_count, extents);
}

static void test_random_insertions(void **state)
{
	static struct cell model[SECTORS];
	static uint8_t nonce_tags[LONGEST * SZ_NONCE_TAG_BYTES];
	const char *given = getenv("SZ_SEED");
	struct sz_overlay overlay;

	(void)state;
	seed = given == NULL ? (sz_clock_ns() | 1) : strtoull(given, NULL, 0);
	print_message("SZ_SEED=%llu\n", (unsigned long long)seed);
	memset(model, 0, sizeof(model));
	sz_overlay_init(&overlay);
	for (unsigned int i = 0; i < INSERTIONS; i++) {
		uint64_t sector = random_below(SECTORS);
		uint64_t most = SECTORS - sector < LONGEST ? SECTORS - sector : LONGEST;
		struct sz_extent extent = {
			.sector = sector,
			.count = 1 + random_below(most),
			.state = (enum sz_overlay_state)random_below(3),
			.source = (uint32_t)random_below(5),
			.place = random_below(1000),
			.nonce_tags = nonce_tags,
		};

		for (uint64_t j = 0; j < extent.count; j++) {
			uint8_t mark = (uint8_t)random_below(256);

			memset(nonce_tags + j * SZ_NONCE_TAG_BYTES, mark, SZ_NONCE_TAG_BYTES);
			model[sector + j] = (struct cell){ .present = true,
							   .state = extent.state,
							   .source = extent.source,
							   .place = extent.place + j,
							   .mark = mark };
		}
		assert_int_equal(sz_overlay_insert(&overlay, &extent), 0);
		compare(&overlay, model);
	}
	sz_overlay_fini(&overlay);
	assert_int_equal(overlay.extent_count, 0);
	assert_int_equal(overlay.data_sectors, 0);
}

static void test_a_long_tombstone_is_one_extent(void **state)
{
	const struct sz_extent tombstone = { .sector = 1000,
					     .count = UINT64_C(1) << 40,
					     .state = SZ_OVERLAY_TOMBSTONE };
	struct sz_overlay overlay;

	(void)state;
	sz_overlay_init(&overlay);
	assert_null(sz_overlay_find(&overlay, 0));
	assert_int_equal(sz_overlay_insert(&overlay, &tombstone), 0);
	assert_int_equal(overlay.extent_count, 1);
	assert_int_equal(overlay.data_sectors, 0);
	assert_int_equal(sz_overlay_find(&overlay, 0)->sector, 1000);
	assert_non_null(sz_overlay_find(&overlay, 999 + (UINT64_C(1) << 40)));
	assert_null(sz_overlay_find(&overlay, 1000 + (UINT64_C(1) << 40)));
	sz_overlay_fini(&overlay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_insertions),
		cmocka_unit_test(test_a_long_tombstone_is_one_extent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
