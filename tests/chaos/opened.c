/* See opened.h. */
#include "opened.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define MEMORY_BYTES (192ULL << 20) /* several pools may be open on a small machine */

static void suspended(void *context, const struct sz_error *error)
{
	(void)context;
	die("the pool is suspended: %s", error->text);
}

int pool_open(struct opened *opened, bool read_only, struct sz_error *error)
{
	int result = sz_engine_start(MEMORY_BYTES, error);

	sz_pool_on_suspend(suspended, NULL);
	if (result == 0)
		result = sz_pool_import(opened->store, read_only, &opened->pool, error);
	if (result != 0)
		return result;
	return sz_fs_open(opened->pool, NULL, read_only, &opened->fs, error);
}

void opened_close(struct opened *opened)
{
	struct sz_error error = { 0 };

	sz_fs_close(opened->fs);
	if (sz_pool_export(opened->pool, &error) != 0 || sz_store_close(opened->store, &error) != 0)
		die("closing: %s", error.text);
	*opened = (struct opened){ 0 };
}

static void folder_name(uint32_t hand, char text[NAME_BYTES])
{
	(void)snprintf(text, NAME_BYTES, "hand%u", hand % HANDS_MAX);
}

void folders_make(struct opened *opened, uint32_t hands)
{
	const struct sz_fs_new new = { .mode = S_IFDIR | 0755 };
	struct sz_error error = { 0 };
	char text[NAME_BYTES];

	for (uint32_t i = 0; i < hands; i++) {
		folder_name(i, text);
		if (sz_fs_mkdir(opened->fs, sz_fs_root(opened->fs), text, &new,
				&opened->folders[i]) != 0)
			die("%s cannot be made", text);
	}
	if (sz_pool_sync(opened->pool, &error) != 0 || sz_store_seal(opened->store, &error) != 0)
		die("%s", error.text);
}

void folders_find(struct opened *opened, uint32_t hands)
{
	char text[NAME_BYTES];

	for (uint32_t i = 0; i < hands; i++) {
		int result;

		folder_name(i, text);
		result =
			sz_fs_lookup(opened->fs, sz_fs_root(opened->fs), text, &opened->folders[i]);
		if (result == -ENOENT)
			opened->folders[i] = NO_FOLDER;
		else if (result != 0)
			die("%s is not found: %s", text, strerror(-result));
	}
}

void name_of(uint32_t name, char text[NAME_BYTES])
{
	(void)snprintf(text, NAME_BYTES, "f%02u", name % 100);
}

/* One file while it is read. */
struct reading {
	struct opened *opened;
	uint64_t seed;
	uint32_t hand;
	uint32_t name;
	uint64_t inode;
	struct file *file;
	uint8_t *cell;
	uint8_t *wanted;
	bool *unreadable; /* NULL: that is a fault */
};

static bool complain(const struct reading *reading, uint32_t cell, const char *what, int code)
{
	if (reading->unreadable != NULL && (code == -EBADMSG || code == -EIO)) {
		reading->unreadable[reading->name] = true;
		return true;
	}
	(void)fprintf(stderr, "hand %" PRIu32 ", file %" PRIu32 ", cell %" PRIu32 ": %s%s%s\n",
		      reading->hand, reading->name, cell, what, code == 0 ? "" : ": ",
		      code == 0 ? "" : strerror(-code));
	return false;
}

static bool cell_read(struct reading *reading, uint32_t number)
{
	struct file *file = reading->file;
	size_t length = number + 1 == file->cells ? file->last_bytes : CELL_BYTES;
	uint64_t id;
	size_t done;
	int result = sz_fs_read(reading->opened->fs, reading->inode, reading->cell, length,
				number * CELL_BYTES, &done);

	if (result != 0 || done != length)
		return complain(reading, number, "cannot be read", result);
	cell_head(reading->cell, &id, &file->stamps[number]);
	if (number == 0)
		file->id = id;
	if (id != file->id)
		return complain(reading, number, "is of another file", 0);
	cell_fill(reading->seed, reading->hand, id, number, file->stamps[number], reading->wanted);
	return memcmp(reading->cell, reading->wanted, length) == 0 ||
	       complain(reading, number, "was never written", 0);
}

static bool file_read(struct reading *reading)
{
	struct stat status;
	uint64_t size;
	int result = sz_fs_getattr(reading->opened->fs, reading->inode, &status);

	if (result != 0)
		return complain(reading, 0, "has no attributes", result);
	size = (uint64_t)status.st_size;
	if (size < CELL_HEAD_BYTES || size > CELLS_MAX * CELL_BYTES)
		return complain(reading, 0, "never had this size", 0);
	reading->file->cells = (uint32_t)DIV_ROUND_UP(size, CELL_BYTES);
	reading->file->last_bytes = (uint32_t)(size - (reading->file->cells - 1) * CELL_BYTES);
	for (uint32_t i = 0; i < reading->file->cells; i++) {
		if (!cell_read(reading, i))
			return false;
		if (reading->unreadable != NULL && reading->unreadable[reading->name])
			break;
	}
	return true;
}

static int entry_count(void *context, const char *name, uint64_t number, uint32_t mode_type,
		       uint64_t next_cookie)
{
	uint32_t *count = context;

	(void)number;
	(void)mode_type;
	(void)next_cookie;
	*count += name[0] != '.';
	return 0;
}

bool folder_read(struct opened *opened, uint64_t seed, uint32_t hand, struct folder *seen_out,
		 bool unreadable[NAMES])
{
	CLEANUP_FREE uint8_t *buffer = malloc(2 * CELL_BYTES);
	struct reading reading = {
		.opened = opened, .seed = seed, .hand = hand, .unreadable = unreadable
	};
	uint32_t entries = 0;
	uint32_t files = 0;
	bool is_good = true;

	*seen_out = (struct folder){ 0 };
	if (opened->folders[hand] == NO_FOLDER)
		return true;
	if (buffer == NULL)
		die("no memory");
	reading.cell = buffer;
	reading.wanted = buffer + CELL_BYTES;
	for (uint32_t i = 0; i < NAMES; i++) {
		char text[NAME_BYTES];
		int result;

		name_of(i, text);
		reading.name = i;
		reading.file = &seen_out->files[i];
		result = sz_fs_lookup(opened->fs, opened->folders[hand], text, &reading.inode);
		if (result == -ENOENT)
			continue;
		files++;
		if (result != 0)
			is_good = complain(&reading, 0, "is not found", result);
		else
			is_good = file_read(&reading) && is_good;
	}
	if (sz_fs_readdir(opened->fs, opened->folders[hand], 0, entry_count, &entries) != 0 ||
	    (entries != files && unreadable == NULL)) {
		(void)fprintf(stderr,
			      "hand %" PRIu32 ": %" PRIu32 " entries for %" PRIu32 " files\n", hand,
			      entries, files);
		is_good = false;
	}
	return is_good;
}
