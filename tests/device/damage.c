/* Damaged files: see damage.h. */
#include "damage.h"

#include <inttypes.h>

const char *form_name(enum form form)
{
	static const char *const names[FORM_COUNT] = {
		[FORM_RENAMED] = "renamed",
		[FORM_HEX_NAME] = "renamed in hex",
		[FORM_MOVED] = "moved",
		[FORM_DUPLICATED] = "duplicated",
		[FORM_DELETED] = "deleted",
		[FORM_EMPTY] = "emptied",
		[FORM_CUT_HEADER] = "cut in the header",
		[FORM_FLIPPED_SALT] = "flipped in the salt",
		[FORM_FLIPPED_HEADER] = "flipped in the header",
		[FORM_FLIPPED_TAG] = "flipped in the header's tag",
		[FORM_RANDOM] = "random",
		[FORM_EXCHANGED] = "exchanged",
		[FORM_CUT_HALF] = "cut in half",
		[FORM_CUT_LAST] = "without its last byte",
		[FORM_CUT_TRAILER] = "without its trailer",
		[FORM_FLIPPED_SECTOR] = "flipped in the page behind the header",
		[FORM_FLIPPED_MIDDLE] = "flipped in the middle",
		[FORM_FLIPPED_PAGE] = "flipped in the last page",
		[FORM_FLIPPED_TRAILER] = "flipped in the trailer",
		[FORM_GROWN] = "with more behind its end",
	};

	return names[form];
}

static void flip(struct sz_bytes *content, size_t at)
{
	if (content->length > 0)
		content->data[at < content->length ? at : content->length - 1] ^= 0x10;
}

static void cut_to(struct sz_bytes *content, size_t length)
{
	if (content->length > length)
		content->length = length;
}

static void put_again(struct harness *harness, const struct object *object,
		      const struct sz_bytes *content, enum form form)
{
	uint32_t disk = object->disk;
	char name[100];

	if (form == FORM_RENAMED)
		(void)snprintf(name, sizeof(name), "%s (conflicted copy)", object->name);
	else
		(void)snprintf(name, sizeof(name), "%s", object->name);
	if (form == FORM_HEX_NAME || form == FORM_DUPLICATED) {
		uint8_t random[16];

		sz_random(random, sizeof(random));
		sz_hex_encode(random, sizeof(random), name);
	}
	if (form == FORM_MOVED)
		disk = (disk + 1) % harness->shape.devices;
	object_put(harness, disk, object->part, name, content);
}

/* The forms that leave another content under the name. */
static void change(struct sz_bytes *content, enum form form)
{
	static const uint8_t more[100];
	size_t length = content->length;

	if (form == FORM_EMPTY)
		cut_to(content, 0);
	else if (form == FORM_CUT_HEADER)
		cut_to(content, 1000);
	else if (form == FORM_CUT_HALF)
		cut_to(content, length / 2);
	else if (form == FORM_CUT_LAST)
		cut_to(content, length - 1);
	else if (form == FORM_CUT_TRAILER)
		cut_to(content, length - SZ_TRAILER_BYTES);
	else if (form == FORM_RANDOM)
		sz_random(content->data, length);
	else if (form == FORM_FLIPPED_SALT)
		flip(content, 3);
	else if (form == FORM_FLIPPED_HEADER)
		flip(content, 2000);
	else if (form == FORM_FLIPPED_TAG)
		flip(content, 4090);
	else if (form == FORM_FLIPPED_SECTOR)
		flip(content, 4096 + 100);
	else if (form == FORM_FLIPPED_MIDDLE)
		flip(content, length / 2);
	else if (form == FORM_FLIPPED_PAGE)
		flip(content, length - SZ_TRAILER_BYTES - 2000);
	else if (form == FORM_FLIPPED_TRAILER)
		flip(content, length - 8);
	else if (form == FORM_GROWN)
		OK(sz_bytes_append(content, more, sizeof(more)));
}

void damage_object(struct harness *harness, const struct object *object, enum form form,
		   const struct object *other)
{
	CLEANUP_BYTES struct sz_bytes content = { 0 };

	if (form == FORM_EXCHANGED)
		object_read(harness, other, &content);
	else
		object_read(harness, object, &content);
	if (form != FORM_DUPLICATED)
		object_remove(harness, object);
	if (form < FORM_HARMLESS) {
		put_again(harness, object, &content, form);
		return;
	}
	if (form == FORM_DELETED)
		return;
	change(&content, form);
	object_put(harness, object->disk, object->part, object->name, &content);
}

/* The store */

void spread_init(struct harness *harness, uint32_t devices, uint64_t seed)
{
	const struct shape shape = { .devices = devices,
				     .sectors = SPREAD_SECTORS,
				     .band_sectors = 256 };

	harness_init(harness, &shape, seed);
	harness_open_clean(harness);
	for (uint32_t i = 0; i < devices; i++)
		OK(harness_write(harness, i, 256, 256));
	for (uint32_t i = 0; i < devices; i++) {
		OK(harness_write(harness, i, 512, 256));
		OK(harness_write(harness, i, 768, 256));
	}
	OK(harness_seal(harness));
	for (uint32_t i = 0; i < devices; i++) {
		OK(harness_write(harness, i, 520, 10));
		OK(harness_trim(harness, i, 540, 10));
	}
	OK(harness_seal(harness));
	for (uint32_t i = 0; i < devices; i++) {
		OK(harness_write(harness, i, 800, 5));
		OK(harness_write(harness, i, 0, 10));
		OK(harness_write(harness, i, SPREAD_SECTORS - 5, 5));
	}
	OK(harness_close(harness));
}

static void mark(bool *cost, uint32_t sector, uint32_t count, bool value)
{
	for (uint32_t i = 0; i < count; i++)
		cost[sector + i] = value;
}

uint32_t spread_cost(struct harness *harness, const struct objects *objects,
		     const struct object *object, bool cost[SPREAD_SECTORS])
{
	uint32_t count = 0;

	memset(cost, 0, SPREAD_SECTORS * sizeof(*cost));
	if (object->kind == SZ_KIND_BAND) {
		mark(cost, (uint32_t)object_base_sector(harness, objects, object), 256, true);
		mark(cost, 520, 10, false);
		mark(cost, 540, 10, false);
		mark(cost, 800, 5, false);
	} else if (object->kind == SZ_KIND_DELTA && object->generation == 3) {
		mark(cost, 520, 10, true);
		mark(cost, 540, 10, true);
	} else if (object->kind == SZ_KIND_DELTA) {
		mark(cost, 800, 5, true);
	} else if (object->kind == SZ_KIND_HOT && object->generation == 4) {
		mark(cost, 0, HOT_END_SECTORS, true);
		mark(cost, SPREAD_SECTORS - HOT_END_SECTORS, HOT_END_SECTORS, true);
		return 15;
	}
	for (uint32_t i = 0; i < SPREAD_SECTORS; i++)
		count += cost[i];
	return count;
}

/* Comparison */

static void check_filler(struct harness *harness, uint32_t device, uint32_t sector)
{
	static const uint8_t zeros[SZ_SECTOR_BYTES];
	struct sz_device *handle = sz_store_device(harness->store, device);
	uint8_t again[SZ_SECTOR_BYTES];

	assert_int_equal(sz_device_read(handle, sector, 1, harness->buffer), -EBADMSG);
	assert_int_equal(sz_device_read(handle, sector, 1, again), -EBADMSG);
	assert_memory_equal(again, harness->buffer, sizeof(again));
	assert_memory_not_equal(again, zeros, sizeof(again));
	assert_int_equal(model_recognise(&harness->model, device, sector, again), MODEL_GARBAGE);
}

/* Damage beside good sectors in one call: those are right. */
static void check_mixed_read(struct harness *harness, uint32_t device, uint32_t sector)
{
	uint32_t first = sector < 8 ? 0 : sector - 8;
	uint32_t count = first + 16 > harness->shape.sectors ? harness->shape.sectors - first : 16;
	int rc = sz_device_read(sz_store_device(harness->store, device), first, count,
				harness->buffer);

	assert_int_equal(rc, -EBADMSG);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t observed = harness->observed[device][first + i];
		uint32_t now = model_recognise(&harness->model, device, first + i,
					       harness->buffer + (size_t)i * SZ_SECTOR_BYTES);

		assert_int_equal(now, observed == MODEL_DAMAGED ? MODEL_GARBAGE : observed);
	}
}

uint32_t damage_check(struct harness *harness, uint32_t device, const bool *cost)
{
	uint32_t sectors = harness->shape.sectors;
	CLEANUP_FREE uint32_t *newest = calloc(sectors, sizeof(*newest));
	uint32_t damaged = 0;

	assert_non_null(newest);
	model_newest(&harness->model, device, newest);
	OK(harness_observe(harness, device));
	for (uint32_t i = 0; i < sectors; i++) {
		if (harness->observed[device][i] != MODEL_DAMAGED || cost == NULL || !cost[i])
			continue;
		if (damaged % 50 == 0) {
			check_filler(harness, device, i);
			check_mixed_read(harness, device, i);
		}
		damaged++;
		newest[i] = MODEL_DAMAGED;
	}
	if (memcmp(newest, harness->observed[device], sectors * sizeof(*newest)) != 0) {
		for (uint32_t i = 0; i < sectors; i++) {
			uint32_t observed = harness->observed[device][i];

			if (observed != newest[i])
				printf("# device %" PRIu32 ", sector %" PRIu32 ": %" PRIu32
				       ", want %" PRIu32 "\n",
				       device, i, observed, newest[i]);
		}
		fail_msg("device %" PRIu32 ": more is lost than was damaged, or it is wrong",
			 device);
	}
	return damaged;
}
