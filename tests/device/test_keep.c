/*
 * keep: what is to be kept is noted in the store's folder, and no damage to the note does harm.
 */
#include "paths.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct shape shape = { .devices = 3, .sectors = 1088, .band_sectors = 256 };
static const struct sz_keep_policy usual = { .budget_percent = 25 };
static const struct sz_keep_policy wish = {
	.last = 3, .daily = 14, .monthly = 12, .budget_bytes = 1 << 30
};

static void policy_check(struct place *place, const struct sz_keep_policy *expected)
{
	struct sz_keep_policy policy;

	sz_store_keep_policy(place->harness.store, &policy);
	assert_memory_equal(&policy, expected, sizeof(policy));
}

static void policy_check_reopened(struct place *place, const struct sz_keep_policy *expected)
{
	OK(harness_close(&place->harness));
	place_open(place);
	policy_check(place, expected);
}

/* Does `damage` to each file of the store's own folder that is as long as a note; returns how many. */
static unsigned int notes_damage(const struct place *place, void (*damage)(const char *path))
{
	DIR *dir = opendir(place->path);
	const struct dirent *entry;
	unsigned int count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[PATH_BYTES + 256];
		struct stat status;

		(void)snprintf(path, sizeof(path), "%s/%s", place->path, entry->d_name);
		OK(lstat(path, &status));
		if (!S_ISREG(status.st_mode) || status.st_size != 32 + 40)
			continue;
		damage(path);
		count++;
	}
	OK(closedir(dir));
	return count;
}

static void leave(const char *path)
{
	(void)path;
}

static void flip(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, 40), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 40), 1);
	OK(close(fd));
}

static void erase(const char *path)
{
	OK(unlink(path));
}

static void test_it_is_remembered(void **state)
{
	struct sz_keep_policy other = wish;
	struct place place;

	(void)state;
	place_init(&place, &shape, 1);
	place_open(&place);
	policy_check(&place, &usual);
	OK(sz_store_set_keep_policy(place.harness.store, &wish, &place.harness.error));
	policy_check(&place, &wish);
	policy_check_reopened(&place, &wish);
	other.last = 4;
	OK(sz_store_set_keep_policy(place.harness.store, &other, &place.harness.error));
	policy_check_reopened(&place, &other);
	assert_int_equal(notes_damage(&place, leave), 1);
	other.last = 20000;
	assert_int_equal(
		sz_store_set_keep_policy(place.harness.store, &other, &place.harness.error),
		-EINVAL);
	other.last = 4;
	policy_check(&place, &other);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

static void test_a_damaged_note(void **state)
{
	struct place place;

	(void)state;
	place_init(&place, &shape, 2);
	place_open(&place);
	OK(sz_store_set_keep_policy(place.harness.store, &wish, &place.harness.error));
	assert_int_equal(notes_damage(&place, flip), 1);
	policy_check_reopened(&place, &usual);
	/* A new one takes its place. */
	OK(sz_store_set_keep_policy(place.harness.store, &wish, &place.harness.error));
	assert_int_equal(notes_damage(&place, leave), 1);
	policy_check_reopened(&place, &wish);
	assert_int_equal(notes_damage(&place, flip), 1);
	assert_int_equal(notes_damage(&place, erase), 1);
	policy_check_reopened(&place, &usual);
	OK(harness_close(&place.harness));
	place_fini(&place);
}

static void test_readers_write_nothing(void **state)
{
	struct place place;

	(void)state;
	place_init(&place, &shape, 3);
	OK(place_try_open(&place, place.path, true));
	assert_int_equal(sz_store_set_keep_policy(place.harness.store, &wish, &place.harness.error),
			 -EROFS);
	OK(harness_close(&place.harness));
	assert_int_equal(notes_damage(&place, leave), 0);
	place_fini(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_remembered),
		cmocka_unit_test(test_a_damaged_note),
		cmocka_unit_test(test_readers_write_nothing),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
