/*
 * What a store has in several copies, and what it does without: roots, key objects, index pages,
 * whole folders. While one copy is left nothing is lost; without any the store says so, and writes
 * nothing. Also what is no store at all, or a newer one.
 */
#include "damage.h"

#include <inttypes.h>

#define DEVICES 4U

static char current[120]; /* which case; "": none */

static int report(void **state)
{
	(void)state;
	if (current[0] != '\0')
		print_message("# %s\n", current);
	current[0] = '\0';
	return 0;
}

static bool is_wanted(const struct object *object, enum sz_kind kind)
{
	return kind == SZ_KIND_KEY ? object->size_bytes == SZ_KEY_OBJECT_BYTES
				   : object->kind == kind;
}

/* Opens, finds everything, writes, and finds everything again. */
static void expect_whole(struct harness *harness)
{
	harness_open(harness);
	harness_check(harness);
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		assert_int_equal(sz_device_damaged_sectors(sz_store_device(harness->store, i)), 0);
	OK(harness_write(harness, 1, 260, 3));
	OK(harness_write(harness, 2, 1100, 50));
	OK(harness_close(harness));
	harness_open(harness);
	harness_check(harness);
	OK(harness_close(harness));
}

/* Does not open, for one of these reasons, and nothing is written. */
static void expect_refused(struct harness *harness, int code, int other_code)
{
	for (unsigned int read_only = 0; read_only < 2; read_only++) {
		int rc;

		harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
		rc = harness_try_open(harness, read_only != 0);
		if (rc != code && rc != other_code)
			fail_msg("opens with %d, want %d or %d", rc, code, other_code);
		assert_int_equal(harness->error.code, rc);
		assert_true(harness->error.text[0] != '\0');
		assert_int_equal(harness->plan.count, 0);
		harness->plan = (struct sz_fault_plan){ 0 };
	}
}

/* In every form, to the copies of a kind on these disks (a bit for each); all of them. */
static void damage_copies(struct harness *harness, enum sz_kind kind, unsigned int disks,
			  enum form form)
{
	struct objects objects;
	unsigned int count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (!is_wanted(object, kind) || (disks >> object->disk & 1) == 0)
			continue;
		damage_object(harness, object, form, NULL);
		count++;
	}
	assert_true(count > 0);
	objects_free(&objects);
}

static void run(enum sz_kind kind, unsigned int disks)
{
	struct harness original;

	spread_init(&original, DEVICES, 3);
	for (unsigned int form = 0; form < FORM_COUNT; form++) {
		struct harness harness;

		if (form == FORM_EXCHANGED)
			continue;
		(void)snprintf(current, sizeof(current), "kind %d on disks %#x: %s", (int)kind,
			       disks, form_name((enum form)form));
		harness_fork_now(&original, &harness);
		damage_copies(&harness, kind, disks, (enum form)form);
		expect_whole(&harness);
		harness_fini(&harness);
		current[0] = '\0';
	}
	harness_fini(&original);
}

static void test_roots(void **state)
{
	(void)state;
	run(SZ_KIND_ROOT, 1);
	run(SZ_KIND_ROOT, 14);
}

static void test_key_objects(void **state)
{
	(void)state;
	run(SZ_KIND_KEY, 1);
	run(SZ_KIND_KEY, 13);
}

/* Of three consecutive devices one still has each page. */
static void test_index_pages(void **state)
{
	(void)state;
	run(SZ_KIND_INDEX, 1);
	run(SZ_KIND_INDEX, 6);
	run(SZ_KIND_INDEX, 9);
}

/* A copy that was missing is there again after an opening. */
static void test_copies_of_a_root_come_back(void **state)
{
	struct harness harness;

	(void)state;
	spread_init(&harness, DEVICES, 4);
	damage_copies(&harness, SZ_KIND_ROOT, 3, FORM_DELETED);
	harness_open(&harness);
	OK(harness_close(&harness));
	damage_copies(&harness, SZ_KIND_ROOT, 12, FORM_DELETED);
	expect_whole(&harness);
	harness_fini(&harness);
}

/*
 * The index pages of one device, wherever they are: that device alone is lost. What is left of it is
 * damaged, sector by sector, or the device is missing as a whole.
 */
static void check_without_pages(struct harness *harness, uint32_t lost)
{
	static bool any[SPREAD_SECTORS];
	struct sz_device *device = sz_store_device(harness->store, lost);

	memset(any, true, sizeof(any));
	for (uint32_t i = 0; i < DEVICES; i++) {
		if (i != lost)
			(void)damage_check(harness, i, NULL);
	}
	if (sz_device_state(device) == SZ_DEVICE_MISSING)
		assert_int_not_equal(sz_device_read(device, 300, 1, harness->buffer), 0);
	else /* all that is not zeros */
		assert_true(damage_check(harness, lost, any) >= 3 * 256 - 10 + 15);
}

static void test_all_index_pages_of_a_device(void **state)
{
	(void)state;
	for (uint32_t device = 0; device < DEVICES; device++) {
		struct harness harness;
		struct objects objects;

		(void)snprintf(current, sizeof(current), "device %" PRIu32, device);
		spread_init(&harness, DEVICES, 5);
		objects_list(&harness, &objects);
		for (size_t i = 0; i < objects.count; i++) {
			if (objects.list[i].kind == SZ_KIND_INDEX &&
			    objects.list[i].device == device)
				object_remove(&harness, &objects.list[i]);
		}
		objects_free(&objects);
		harness_open(&harness);
		check_without_pages(&harness, device);
		OK(harness_write(&harness, (device + 1) % DEVICES, 1100, 5));
		OK(harness_close(&harness));
		harness_open(&harness);
		check_without_pages(&harness, device);
		OK(harness_close(&harness));
		harness_fini(&harness);
		current[0] = '\0';
	}
}

/* Folders that are gone, or have nothing in them. */
static void lose(struct harness *harness, unsigned int lost, bool is_empty)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		if ((lost >> i & 1) == 0)
			continue;
		sz_backend_close(harness->disks[i]);
		harness->disks[i] = NULL;
		if (is_empty)
			OK(sz_memory_open("empty", &harness->disks[i]));
	}
}

static void check_others(struct harness *harness, unsigned int lost)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		struct sz_device *device = sz_store_device(harness->store, i);
		bool is_lost = (lost >> i & 1) != 0;

		assert_int_equal(sz_device_state(device),
				 is_lost ? SZ_DEVICE_MISSING : SZ_DEVICE_ONLINE);
		assert_int_equal(sz_device_sectors(device), harness->shape.sectors);
		if (!is_lost) {
			assert_int_equal(damage_check(harness, i, NULL), 0);
			continue;
		}
		assert_int_not_equal(sz_device_read(device, 0, 1, harness->buffer), 0);
		assert_int_not_equal(sz_device_write(device, 0, 1, harness->buffer), 0);
	}
}

static void test_lost_folders(void **state)
{
	static const unsigned int cases[] = { 1, 8, 3, 5, 9, 12 };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LENGTH(cases); i++) {
		unsigned int lost = cases[i / 2];
		bool is_empty = i % 2 != 0;
		struct harness harness;
		uint32_t left = (lost & 2) != 0 ? 2 : 1;

		(void)snprintf(current, sizeof(current), "disks %#x %s", lost,
			       is_empty ? "empty" : "gone");
		spread_init(&harness, DEVICES, 6);
		lose(&harness, lost, is_empty);
		OK(harness_try_open(&harness, true));
		check_others(&harness, lost);
		harness_abandon(&harness);
		harness_open(&harness);
		check_others(&harness, lost);
		OK(harness_write(&harness, left, 256, 20));
		OK(harness_flush(&harness, left));
		OK(harness_write(&harness, left, 1030, 100));
		OK(harness_close(&harness));
		harness_open(&harness);
		check_others(&harness, lost);
		OK(harness_close(&harness));
		harness_fini(&harness);
		current[0] = '\0';
	}
}

/* A live epoch, and a folder that is lost before it is recovered. */
static void test_a_lost_folder_and_a_live_epoch(void **state)
{
	(void)state;
	for (uint32_t lost = 0; lost < DEVICES; lost++) {
		struct harness harness;

		(void)snprintf(current, sizeof(current), "disk %" PRIu32, lost);
		spread_init(&harness, DEVICES, 7);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < DEVICES; i++) {
			OK(harness_write(&harness, i, 256, 20));
			OK(harness_write(&harness, i, 1030, 80));
		}
		OK(harness_flush_all(&harness));
		harness_abandon(&harness);
		lose(&harness, 1U << lost, true);
		harness_open(&harness);
		check_others(&harness, 1U << lost);
		OK(harness_close(&harness));
		harness_fini(&harness);
		current[0] = '\0';
	}
}

/* A folder that was away for some generations has what it had. */
static void test_a_folder_that_comes_back(void **state)
{
	struct harness harness;
	struct sz_backend *away;

	(void)state;
	spread_init(&harness, DEVICES, 8);
	away = TAKE(harness.disks[2]);
	for (unsigned int i = 0; i < 3; i++) {
		harness_open(&harness);
		check_others(&harness, 4);
		OK(harness_write(&harness, 1, 300 + i, 20));
		OK(harness_write(&harness, 3, 1030 + i, 60));
		OK(harness_close(&harness));
	}
	harness.disks[2] = away;
	expect_whole(&harness);
	harness_fini(&harness);
}

static void test_folders_in_any_order(void **state)
{
	struct harness harness;

	(void)state;
	spread_init(&harness, DEVICES, 9);
	for (unsigned int i = 0; i < 8; i++) {
		uint64_t other = chance_below(&harness.chance, DEVICES);
		struct sz_backend *swapped = harness.disks[i % DEVICES];

		harness.disks[i % DEVICES] = harness.disks[other];
		harness.disks[other] = swapped;
		harness_open_clean(&harness);
		harness_check(&harness);
		OK(harness_write(&harness, i % DEVICES, 270, 4));
		OK(harness_flush(&harness, i % DEVICES));
		harness_abandon(&harness);
	}
	expect_whole(&harness);
	harness_fini(&harness);
}

/* Refusals */

static void test_without_any_root(void **state)
{
	struct harness harness;

	(void)state;
	spread_init(&harness, DEVICES, 10);
	damage_copies(&harness, SZ_KIND_ROOT, 15, FORM_FLIPPED_HEADER);
	expect_refused(&harness, -ENODATA, -EBADMSG);
	harness_fini(&harness);
}

static void test_without_any_key_object(void **state)
{
	struct harness harness;

	(void)state;
	spread_init(&harness, DEVICES, 11);
	damage_copies(&harness, SZ_KIND_KEY, 15, FORM_DELETED);
	expect_refused(&harness, -ENODATA, -ENODATA);
	harness_fini(&harness);
}

static void test_with_random_key_objects_alone(void **state)
{
	struct harness harness;

	(void)state;
	spread_init(&harness, DEVICES, 12);
	damage_copies(&harness, SZ_KIND_KEY, 15, FORM_RANDOM);
	expect_refused(&harness, -EKEYREJECTED, -ENODATA);
	harness_fini(&harness);
}

static void test_what_is_no_store(void **state)
{
	const struct shape shape = { .devices = 2, .sectors = 1024, .band_sectors = 256 };
	struct sz_bytes text = { .data = (uint8_t *)(uintptr_t) "notes", .length = 5 };
	struct harness harness;

	(void)state;
	harness_init_empty(&harness, &shape, 1);
	expect_refused(&harness, -ENODATA, -ENODATA);
	object_put(&harness, 0, SZ_SEALED, "notes.txt", &text);
	object_put(&harness, 1, SZ_LIVE, "0123456789abcdef0123456789abcdef", &text);
	expect_refused(&harness, -ENODATA, -ENODATA);
	harness_fini(&harness);
}

/* Files that are not the store's: in the way of nothing, and left alone. */
static void test_files_of_others(void **state)
{
	struct harness harness;
	struct harness other;
	struct objects objects;
	CLEANUP_BYTES struct sz_bytes fake = { 0 };

	(void)state;
	spread_init(&harness, DEVICES, 13);
	spread_init(&other, DEVICES, 14);
	objects_list(&other, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		CLEANUP_BYTES struct sz_bytes content = { 0 };

		if (objects.list[i].size_bytes == SZ_KEY_OBJECT_BYTES)
			continue;
		object_read(&other, &objects.list[i], &content);
		object_put(&harness, objects.list[i].disk, objects.list[i].part,
			   objects.list[i].name, &content);
	}
	for (size_t i = 0; i < SZ_KEY_OBJECT_BYTES; i++)
		OK(sz_bytes_append_le(&fake, i * 7, 1));
	object_put(&harness, 0, SZ_SEALED, "00000000000000000000000000000000", &fake);
	object_put(&harness, 1, SZ_SEALED, ".file.AbC123", &fake);
	object_put(&harness, 2, SZ_LIVE, "~syncthing~0123456789.tmp", &fake);
	expect_whole(&harness);
	for (size_t i = 0; i < objects.count; i++) {
		struct object object = objects.list[i];
		CLEANUP_BYTES struct sz_bytes content = { 0 };

		if (object.size_bytes != SZ_KEY_OBJECT_BYTES)
			object_read(&harness, &object, &content);
	}
	objects_free(&objects);
	harness_fini(&other);
	harness_fini(&harness);
}

static void test_a_wrong_passphrase(void **state)
{
	struct sz_backend *backends[MODEL_DEVICES_MAX];
	struct sz_error error = { 0 };
	struct harness harness;
	size_t count;

	(void)state;
	spread_init(&harness, DEVICES, 15);
	count = harness_wrap(&harness, backends);
	harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
	assert_int_equal(
		sz_store_open_on(backends, count, NULL, &wrong_passphrase, &harness.store, &error),
		-EKEYREJECTED);
	assert_null(harness.store);
	assert_int_equal(harness.wrappers, 0);
	assert_int_equal(harness.plan.count, 0);
	assert_true(error.text[0] != '\0');
	harness.plan = (struct sz_fault_plan){ 0 };
	expect_whole(&harness);
	harness_fini(&harness);
}

/* Puts an authentic root of a later generation, as a newer program may write it, on these disks. */
static void put_root(struct harness *harness, uint32_t version, uint64_t features,
		     unsigned int disks)
{
	CLEANUP_BYTES struct sz_bytes file = { 0 };
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	CLEANUP_BYTES struct sz_bytes next = { 0 };
	CLEANUP_BYTES struct sz_bytes blob = { 0 };
	char name[SZ_OBJECT_NAME_BYTES];
	uint8_t digest[SZ_DIGEST_BYTES];
	struct sz_header header;
	const struct object *newest = NULL;
	struct objects objects;
	struct sz_root root;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind == SZ_KIND_ROOT &&
		    (newest == NULL || object->generation > newest->generation))
			newest = object;
	}
	assert_non_null(newest);
	object_read(harness, newest, &file);
	OK(sz_blob_decode(&objects.key->keys, file.data, file.length, &header, &payload));
	OK(sz_root_decode(payload.data, payload.length, &root));
	sz_header_digest(file.data, root.parent);
	root.format_version = version;
	root.incompatible_features = features;
	root.generation++;
	sz_id_make(SZ_KIND_ROOT, SZ_STORE_WIDE, root.generation, 0x1234567, &header.id);
	sz_random(header.salt, sizeof(header.salt));
	OK(sz_root_encode(&root, &next));
	OK(sz_blob_encode(&objects.key->keys, &header, next.data, next.length, &blob, digest));
	sz_name_encode(&objects.key->keys, &header.id, name);
	for (uint32_t i = 0; i < DEVICES; i++) {
		if ((disks >> i & 1) != 0)
			object_put(harness, i, SZ_SEALED, name, &blob);
	}
	sz_root_free(&root);
	objects_free(&objects);
}

static void test_a_newer_format(void **state)
{
	struct harness harness;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		spread_init(&harness, DEVICES, 16);
		put_root(&harness, i < 2 ? SZ_FORMAT_VERSION + 1 : SZ_FORMAT_VERSION,
			 i < 2 ? 0 : UINT64_C(1) << 40, i % 2 == 0 ? 15 : 4);
		expect_refused(&harness, -EPROTONOSUPPORT, -EPROTONOSUPPORT);
		harness_fini(&harness);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_roots, report),
		cmocka_unit_test_teardown(test_key_objects, report),
		cmocka_unit_test_teardown(test_index_pages, report),
		cmocka_unit_test(test_copies_of_a_root_come_back),
		cmocka_unit_test_teardown(test_all_index_pages_of_a_device, report),
		cmocka_unit_test_teardown(test_lost_folders, report),
		cmocka_unit_test_teardown(test_a_lost_folder_and_a_live_epoch, report),
		cmocka_unit_test(test_a_folder_that_comes_back),
		cmocka_unit_test(test_folders_in_any_order),
		cmocka_unit_test(test_without_any_root),
		cmocka_unit_test(test_without_any_key_object),
		cmocka_unit_test(test_with_random_key_objects_alone),
		cmocka_unit_test(test_what_is_no_store),
		cmocka_unit_test(test_files_of_others),
		cmocka_unit_test(test_a_wrong_passphrase),
		cmocka_unit_test(test_a_newer_format),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
