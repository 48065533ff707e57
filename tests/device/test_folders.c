/*
 * Stores in real folders: creating, opening, who may; device folders that are elsewhere, renamed,
 * lost and replaced.
 */
#include "paths.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct shape shape = { .devices = 3, .sectors = 1088, .band_sectors = 256 };

static void steps(struct harness *harness, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		OK(harness_step(harness));
}

static void test_operations(void **state)
{
	struct place place;

	(void)state;
	place_init(&place, &shape, chance_seed("folders"));
	for (unsigned int round = 0; round < 6; round++) {
		place_open(&place);
		harness_check(&place.harness);
		steps(&place.harness, 60);
		harness_check(&place.harness);
		if (round % 2 == 0) {
			OK(harness_close(&place.harness));
			continue;
		}
		harness_abandon(&place.harness);
		OK(place_try_open(&place, place.path, true));
		harness_check_prefix(&place.harness);
		OK(harness_close(&place.harness));
		place_open(&place);
		harness_check_recovered(&place.harness);
		OK(harness_close(&place.harness));
	}
	place_fini(&place);
}

static void test_information(void **state)
{
	char folders[8][PATH_BYTES];
	struct sz_store_info info;
	struct place place;

	(void)state;
	place_init(&place, &shape, 1);
	assert_int_equal(device_folders(place.path, folders, 8), shape.devices);
	place_open(&place);
	steps(&place.harness, 30);
	OK(harness_seal(&place.harness));
	sz_store_info(place.harness.store, &info);
	assert_int_equal(info.device_count, shape.devices);
	assert_int_equal(info.band_sectors, shape.band_sectors);
	assert_int_equal(info.virtual_bytes, (uint64_t)shape.devices * shape.sectors * 4096);
	assert_true(info.generation >= 2);
	assert_true(info.stored_bytes > 0 && info.object_count > shape.devices);
	assert_true(info.host_free_bytes > 0);
	assert_int_equal(strtoull(info.code, NULL, 10), info.generation);
	for (uint32_t i = 0; i < shape.devices; i++) {
		const char *folder = sz_device_folder(sz_store_device(place.harness.store, i));

		assert_int_equal(strncmp(folder, place.path, strlen(place.path)), 0);
	}
	OK(harness_close(&place.harness));
	place_fini(&place);
}

/* Opens the store in a child, says so with a byte, and waits to be killed. */
static pid_t hold(struct place *place)
{
	int ends[2];
	pid_t child;
	char byte = 0;

	OK(pipe(ends));
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct sz_error error = { 0 };

		if (sz_crypto_init(&error) != 0 || place_try_open(place, place->path, false) != 0 ||
		    sz_write(ends[1], "x", 1) != 0)
			_exit(1);
		for (;;)
			(void)pause();
	}
	(void)close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	(void)close(ends[0]);
	return child;
}

static void test_one_process_has_it_open(void **state)
{
	struct sz_store *second = NULL;
	struct sz_store_open options;
	struct place place;
	char pid[16];
	int status;
	pid_t child;

	(void)state;
	place_init(&place, &shape, 1);
	child = hold(&place);
	assert_int_equal(place_try_open(&place, place.path, false), -EBUSY);
	(void)snprintf(pid, sizeof(pid), "%d", (int)child);
	if (strstr(place.harness.error.text, pid) == NULL)
		fail_msg("the holder is not named: %s", place.harness.error.text);
	OK(kill(child, SIGKILL));
	assert_int_equal(waitpid(child, &status, 0), child);
	place_open(&place);
	/* Nor twice by one process. */
	options = (struct sz_store_open){ .path = place.path };
	assert_int_equal(sz_store_open(&options, &test_passphrase, &second, &place.harness.error),
			 -EBUSY);
	assert_null(second);
	steps(&place.harness, 20);
	OK(harness_close(&place.harness));
	place_open(&place);
	harness_check(&place.harness);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

/* A copied or damaged lock record blocks nobody. */
static void test_the_lock_record_is_only_a_record(void **state)
{
	char folders[8][PATH_BYTES];
	char copy[2 * PATH_BYTES];
	struct place place;
	pid_t child;
	int status;

	(void)state;
	place_init(&place, &shape, 1);
	place_open(&place);
	steps(&place.harness, 20);
	OK(harness_close(&place.harness));
	child = hold(&place);
	(void)snprintf(copy, sizeof(copy), "%s/copy", place.top);
	copy_tree(place.path, copy);
	OK(place_try_open(&place, copy, false));
	harness_check(&place.harness);
	OK(harness_close(&place.harness));
	OK(kill(child, SIGKILL));
	assert_int_equal(waitpid(child, &status, 0), child);
	/* All that is in the store's folder besides the devices' is lost. */
	assert_int_equal(device_folders(copy, folders, 8), shape.devices);
	{
		char other[3 * PATH_BYTES];

		(void)snprintf(other, sizeof(other), "%s/bare", place.top);
		OK(mkdir(other, 0700));
		for (uint32_t i = 0; i < shape.devices; i++) {
			(void)snprintf(other, sizeof(other), "%s/bare/%u", place.top, i);
			OK(rename(folders[i], other));
		}
		(void)snprintf(other, sizeof(other), "%s/bare", place.top);
		OK(place_try_open(&place, other, false));
		harness_check(&place.harness);
		OK(harness_close(&place.harness));
	}
	place_fini(&place);
}

static void test_refusals(void **state)
{
	const struct sz_store_create again = {
		.device_count = 1, .device_sectors = 1024, .band_sectors = 256, .kdf = SZ_KDF_TEST
	};
	struct sz_store_create create = again;
	struct sz_store_open open;
	struct place place;
	struct sz_error *error = &place.harness.error;
	char path[2 * PATH_BYTES];

	(void)state;
	place_init(&place, &shape, 1);
	(void)snprintf(path, sizeof(path), "%s/nothing", place.top);
	assert_int_equal(place_try_open(&place, path, false), -ENOENT);
	assert_non_null(strstr(error->text, "nothing"));
	OK(mkdir(path, 0700));
	assert_int_equal(place_try_open(&place, path, false), -ENODATA);
	open = (struct sz_store_open){ .path = place.path };
	assert_int_equal(sz_store_open(&open, &wrong_passphrase, &place.harness.store, error),
			 -EKEYREJECTED);
	create.path = place.path;
	assert_int_not_equal(sz_store_create(&create, &test_passphrase, error), 0);
	assert_true(error->text[0] != '\0');
	place_open(&place);
	harness_check(&place.harness);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

static void test_device_folders_elsewhere(void **state)
{
	char paths[3][PATH_BYTES];
	const char *folders[3] = { paths[0], paths[1], paths[2] };
	struct sz_store_create create = { .device_count = 3,
					  .device_sectors = shape.sectors,
					  .band_sectors = shape.band_sectors,
					  .kdf = SZ_KDF_TEST,
					  .folders = folders };
	char path[2 * PATH_BYTES];
	struct place place;

	(void)state;
	place_init(&place, &shape, 1);
	(void)snprintf(path, sizeof(path), "%s/spread", place.top);
	create.path = path;
	for (uint32_t i = 0; i < 3; i++)
		(void)snprintf(paths[i], PATH_BYTES, "%.200s/disk%u", place.top, i);
	OK(sz_store_create(&create, &test_passphrase, &place.harness.error));
	OK(place_try_open(&place, path, false));
	steps(&place.harness, 40);
	for (uint32_t i = 0; i < 3; i++)
		assert_string_equal(sz_device_folder(sz_store_device(place.harness.store, i)),
				    paths[i]);
	OK(harness_close(&place.harness));
	OK(place_try_open(&place, path, false));
	assert_int_equal(harness_damage(&place.harness, true), 0);
	harness_check(&place.harness);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

static void test_a_lost_device_is_replaced(void **state)
{
	char folders[8][PATH_BYTES];
	struct place place;
	struct sz_device *device = NULL;
	uint32_t lost = 0;

	(void)state;
	place_init(&place, &shape, chance_seed("replace"));
	place_open(&place);
	steps(&place.harness, 60);
	OK(harness_close(&place.harness));
	(void)device_folders(place.path, folders, 8);
	remove_tree(folders[1]);
	OK(place_try_open(&place, place.path, false));
	for (uint32_t i = 0; i < shape.devices; i++) {
		struct sz_device *one = sz_store_device(place.harness.store, i);

		if (sz_device_state(one) != SZ_DEVICE_MISSING) {
			assert_int_equal(sz_store_replace_device(place.harness.store, i, NULL,
								 &place.harness.error),
					 -EINVAL);
			continue;
		}
		assert_null(device);
		device = one;
		lost = i;
	}
	assert_non_null(device);
	assert_string_equal(sz_device_folder(device), "");
	OK(sz_store_replace_device(place.harness.store, lost, NULL, &place.harness.error));
	assert_int_equal(sz_device_state(device), SZ_DEVICE_ONLINE);
	assert_int_equal(device_folders(place.path, folders, 8), shape.devices);
	/* It is empty: the model has to hear of that. */
	(void)model_trim(&place.harness.model, lost, 0, shape.sectors);
	harness_check(&place.harness);
	OK(harness_write(&place.harness, lost, 100, 400));
	OK(harness_flush(&place.harness, lost));
	harness_abandon(&place.harness);
	place_open(&place);
	harness_check_recovered(&place.harness);
	steps(&place.harness, 60);
	OK(harness_close(&place.harness));
	place_open(&place);
	harness_check(&place.harness);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

/* Nothing that the store makes can be told from random bytes by its beginning, or by its name. */
static void test_names_are_hex_and_files_are_not_of_a_kind(void **state)
{
	char folders[8][PATH_BYTES];
	struct place place;
	size_t count;

	(void)state;
	place_init(&place, &shape, 1);
	place_open(&place);
	steps(&place.harness, 40);
	OK(harness_close(&place.harness));
	count = device_folders(place.path, folders, 8);
	assert_int_equal(count, shape.devices);
	for (size_t i = 0; i < count; i++) {
		const char *name = strrchr(folders[i], '/') + 1;

		assert_true(strlen(name) >= 8);
		assert_int_equal(strspn(name, "0123456789abcdef"), strlen(name));
	}
	place_fini(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_information),
		cmocka_unit_test(test_one_process_has_it_open),
		cmocka_unit_test(test_the_lock_record_is_only_a_record),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_device_folders_elsewhere),
		cmocka_unit_test(test_a_lost_device_is_replaced),
		cmocka_unit_test(test_names_are_hex_and_files_are_not_of_a_kind),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
