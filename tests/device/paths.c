/* Stores in real folders: see paths.h. */
#include "paths.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void place_init(struct place *place, const struct shape *shape, uint64_t seed)
{
	const char *parent = getenv("TMPDIR");
	const struct sz_store_create options = { .device_count = shape->devices,
						 .device_sectors = shape->sectors,
						 .band_sectors = shape->band_sectors,
						 .parity = shape->devices > 1,
						 .kdf = SZ_KDF_TEST,
						 .path = place->path };

	*place = (struct place){ 0 };
	(void)snprintf(place->top, sizeof(place->top), "%s/szpool-device.XXXXXX",
		       parent == NULL ? "/tmp" : parent);
	assert_non_null(mkdtemp(place->top));
	(void)snprintf(place->path, sizeof(place->path), "%.200s/store", place->top);
	harness_init_bare(&place->harness, shape, seed);
	if (sz_store_create(&options, &test_passphrase, &place->harness.error) != 0)
		fail_msg("no store: %s", place->harness.error.text);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
	(void)status;
	(void)type;
	(void)at;
	return remove(path);
}

void remove_tree(const char *path)
{
	OK(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS));
}

void place_fini(struct place *place)
{
	harness_fini(&place->harness);
	remove_tree(place->top);
}

int place_try_open(struct place *place, const char *path, bool read_only)
{
	const struct sz_store_open options = { .path = path, .read_only = read_only };

	assert_null(place->harness.store);
	place->harness.error = (struct sz_error){ 0 };
	return sz_store_open(&options, &test_passphrase, &place->harness.store,
			     &place->harness.error);
}

void place_open(struct place *place)
{
	int rc = place_try_open(place, place->path, false);

	if (rc != 0)
		fail_msg("the store does not open: %d, %s", rc, place->harness.error.text);
	assert_int_equal(harness_damage(&place->harness, true), 0);
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && strcmp(entry->d_name, SZ_LIVE_FOLDER) != 0;
}

size_t device_folders(const char *path, char folders[][PATH_BYTES], size_t most)
{
	struct dirent **entries = NULL;
	int entry_count = scandir(path, &entries, is_visible, alphasort);
	size_t count = 0;

	assert_true(entry_count >= 0);
	for (int i = 0; i < entry_count; i++) {
		struct stat status;
		char child[2 * PATH_BYTES];

		(void)snprintf(child, sizeof(child), "%s/%s", path, entries[i]->d_name);
		OK(stat(child, &status));
		if (S_ISDIR(status.st_mode)) {
			assert_true(count < most && strlen(child) < PATH_BYTES);
			memcpy(folders[count++], child, strlen(child) + 1);
		}
		free(entries[i]);
	}
	free(entries);
	return count;
}

void copy_tree(const char *from, const char *to)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		(void)!freopen("/dev/null", "w", stderr); /* files that vanish */
		(void)execlp("cp", "cp", "-r", from, to, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
}
