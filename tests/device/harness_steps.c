/* The harness: random operations, and what must hold of a store's files. See harness.h. */
#include "harness.h"

#include <inttypes.h>

/* Random operations */

/* A range: somewhere, or at the hot ends, where ZFS writes its labels. */
static void choose_range(struct harness *harness, uint32_t most, bool is_hot, uint32_t *sector,
			 uint32_t *count)
{
	uint32_t sectors = harness->shape.sectors;

	if (is_hot) {
		*sector = (uint32_t)chance_below(&harness->chance, HOT_END_SECTORS);
		if (chance_below(&harness->chance, 2) == 0)
			*sector = sectors - 1 - *sector;
	} else {
		*sector = (uint32_t)chance_below(&harness->chance, sectors);
		if (chance_below(&harness->chance, 4) == 0)
			*sector -= *sector % harness->shape.band_sectors;
	}
	if (most > sectors - *sector)
		most = sectors - *sector;
	*count = 1 + (uint32_t)chance_below(&harness->chance, most);
}

static int read_and_compare(struct harness *harness, uint32_t device)
{
	CLEANUP_FREE uint32_t *newest = calloc(harness->shape.sectors, sizeof(uint32_t));
	uint32_t sector;
	uint32_t count;
	int rc;

	assert_non_null(newest);
	choose_range(harness, BUFFER_SECTORS, chance_below(&harness->chance, 4) == 0, &sector,
		     &count);
	rc = harness_read(harness, device, sector, count);
	if (rc != 0)
		return rc;
	model_newest(&harness->model, device, newest);
	/* Of what was not read the comparison must not complain. */
	memcpy(harness->observed[device], newest, harness->shape.sectors * sizeof(uint32_t));
	for (uint32_t i = 0; i < count; i++)
		harness->observed[device][sector + i] =
			model_recognise(&harness->model, device, sector + i,
					harness->buffer + (size_t)i * SZ_SECTOR_BYTES);
	assert_true(model_agrees(&harness->model, device, harness->observed[device], true));
	return 0;
}

int harness_step(struct harness *harness)
{
	uint32_t device = (uint32_t)chance_below(&harness->chance, harness->shape.devices);
	uint64_t kind = chance_below(&harness->chance, 100);
	uint32_t sector;
	uint32_t count;

	if (kind < 18) { /* large enough for an open band */
		choose_range(harness, 2 * harness->shape.band_sectors, false, &sector, &count);
		if (count > BUFFER_SECTORS)
			count = BUFFER_SECTORS;
		return harness_write(harness, device, sector, count);
	}
	if (kind < 48) {
		choose_range(harness, 15, false, &sector, &count);
		return harness_write(harness, device, sector, count);
	}
	if (kind < 60) {
		choose_range(harness, 64, true, &sector, &count);
		return harness_write(harness, device, sector, count);
	}
	if (kind < 70) {
		choose_range(harness, 300, chance_below(&harness->chance, 6) == 0, &sector, &count);
		return harness_trim(harness, device, sector, count);
	}
	if (kind < 82)
		return read_and_compare(harness, device);
	if (kind < 94)
		return harness_flush(harness, device);
	if (kind < 97)
		return harness_flush_all(harness);
	return harness_seal(harness);
}

/* Damage */

static int count_damage(void *context, const struct sz_damage *damage)
{
	size_t *count = context;

	(void)damage;
	(*count)++;
	return 0;
}

static int print_damage(void *context, const struct sz_damage *damage)
{
	printf("# damage: device %" PRIu32 ", %s: %s, %" PRIu64 " sectors\n", damage->device,
	       damage->object, damage->text, damage->sectors);
	return count_damage(context, damage);
}

size_t harness_damage(struct harness *harness, bool loud)
{
	size_t count = 0;

	OK(sz_store_damage_each(harness->store, loud ? print_damage : count_damage, &count));
	return count;
}

/* Files */

struct sealed_name {
	char text[64];
	uint64_t print; /* of the content */
	uint64_t size_bytes;
};

struct visit {
	struct harness *harness;
	struct sz_backend *disk;
	struct live_files files;
};

#define PIECE_BYTES 65536U /* of a file, read at once */

/* Tells contents apart that differ by chance, fast: all files are read after every power cut. */
static uint64_t fingerprint_add(uint64_t print, const uint8_t *content, size_t length)
{
	uint64_t word;

	for (size_t i = 0; i + sizeof(word) <= length; i += sizeof(word)) {
		memcpy(&word, content + i, sizeof(word));
		print = (print ^ word) * 0x9e3779b97f4a7c15U;
		print ^= print >> 32;
	}
	return print;
}

static uint64_t fingerprint_file(struct sz_backend *disk, const char *name, uint64_t *size_out)
{
	static _Thread_local uint8_t piece[PIECE_BYTES];
	struct sz_file *file;
	uint64_t inode;
	uint64_t print;

	OK(sz_backend_open(disk, SZ_SEALED, name, &file));
	OK(sz_file_stat(file, size_out, &inode));
	print = *size_out;
	for (uint64_t at = 0; at < *size_out; at += sizeof(piece)) {
		uint64_t left = *size_out - at;
		size_t length = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		size_t done;

		OK(sz_file_read(file, piece, length, at, &done));
		assert_int_equal(done, length);
		print = fingerprint_add(print, piece, length);
	}
	sz_file_close(file);
	return print;
}

/* Where a name is in the table, or belongs: names are of random characters. */
static struct sealed_name *find_name(const struct harness *harness, const char *text)
{
	size_t mask = harness->name_capacity - 1;
	uint64_t at = 0;

	for (const char *character = text; *character != '\0'; character++)
		at = at * 31 + (uint8_t)*character;
	while (harness->names[at & mask].text[0] != '\0' &&
	       strcmp(harness->names[at & mask].text, text) != 0)
		at++;
	return &harness->names[at & mask];
}

static void names_grow(struct harness *harness)
{
	struct harness grown = { .name_capacity = harness->name_capacity == 0
							  ? 256
							  : 2 * harness->name_capacity };

	grown.names = calloc(grown.name_capacity, sizeof(*grown.names));
	assert_non_null(grown.names);
	for (size_t i = 0; i < harness->name_capacity; i++)
		if (harness->names[i].text[0] != '\0')
			*find_name(&grown, harness->names[i].text) = harness->names[i];
	free(harness->names);
	harness->names = grown.names;
	harness->name_capacity = grown.name_capacity;
}

static int note_name(void *context, const char *text, uint64_t size_bytes)
{
	struct visit *visit = context;
	struct harness *harness = visit->harness;
	struct sealed_name *name;

	(void)size_bytes;
	if (2 * harness->name_count >= harness->name_capacity)
		names_grow(harness);
	name = find_name(harness, text);
	if (name->text[0] != '\0')
		return 0;
	assert_true(strlen(text) < sizeof(name->text));
	memcpy(name->text, text, strlen(text));
	name->print = fingerprint_file(visit->disk, text, &name->size_bytes);
	harness->name_count++;
	return 0;
}

static int check_name(void *context, const char *text, uint64_t size_bytes)
{
	struct visit *visit = context;
	struct harness *harness = visit->harness;
	size_t before = harness->name_count;
	const struct sealed_name *known;
	uint64_t print;

	OK(note_name(context, text, size_bytes));
	if (harness->name_count != before)
		return 0;
	known = find_name(harness, text);
	print = fingerprint_file(visit->disk, text, &size_bytes);
	if (known->print != print || known->size_bytes != size_bytes)
		fail_msg("%s, %s: two contents, of %" PRIu64 " and %" PRIu64 " bytes",
			 visit->disk->label, text, known->size_bytes, size_bytes);
	return 0;
}

static void each_sealed(struct harness *harness, sz_list_fn *function)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		struct visit visit = { .harness = harness, .disk = harness->disks[i] };

		if (visit.disk != NULL)
			OK(sz_backend_list(visit.disk, SZ_SEALED, function, &visit));
	}
}

void harness_note_names(struct harness *harness)
{
	each_sealed(harness, note_name);
}

void harness_copy_names(const struct harness *harness, struct harness *to)
{
	size_t bytes = harness->name_capacity * sizeof(*harness->names);

	free(to->names);
	to->names = malloc(bytes + 1);
	assert_non_null(to->names);
	if (bytes > 0)
		memcpy(to->names, harness->names, bytes);
	to->name_count = harness->name_count;
	to->name_capacity = harness->name_capacity;
}

void harness_check_names(struct harness *harness)
{
	each_sealed(harness, check_name);
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		if (harness->disks[i] != NULL)
			assert_int_equal(sz_memory_overwrites(harness->disks[i]), 0);
	}
}

static int visit_file(struct visit *visit, enum sz_part part, const char *text)
{
	struct live_files *files = &visit->files;
	struct sz_file *file;
	struct live_file one;

	OK(sz_backend_open(visit->disk, part, text, &file));
	OK(sz_file_stat(file, &one.size_bytes, &one.inode));
	sz_file_close(file);
	files->files = realloc(files->files, (files->count + 1) * sizeof(*files->files));
	assert_non_null(files->files);
	files->files[files->count++] = one;
	return 0;
}

static int visit_live_file(void *context, const char *text, uint64_t size_bytes)
{
	(void)size_bytes;
	return visit_file(context, SZ_LIVE, text);
}

static int visit_sealed_file(void *context, const char *text, uint64_t size_bytes)
{
	(void)size_bytes;
	return visit_file(context, SZ_SEALED, text);
}

static void list_files(struct visit *visit, bool with_sealed)
{
	for (uint32_t i = 0; i < visit->harness->shape.devices; i++) {
		visit->disk = visit->harness->disks[i];
		if (visit->disk == NULL)
			continue;
		OK(sz_backend_list(visit->disk, SZ_LIVE, visit_live_file, visit));
		if (with_sealed)
			OK(sz_backend_list(visit->disk, SZ_SEALED, visit_sealed_file, visit));
	}
}

struct live_files harness_files(struct harness *harness)
{
	struct visit visit = { .harness = harness };

	list_files(&visit, false);
	return visit.files;
}

void harness_check_not_grown(struct harness *harness, struct live_files *before)
{
	struct visit visit = { .harness = harness };

	list_files(&visit, true);
	for (size_t i = 0; i < visit.files.count; i++) {
		for (size_t j = 0; j < before->count; j++) {
			if (visit.files.files[i].inode == before->files[j].inode)
				assert_int_equal(visit.files.files[i].size_bytes,
						 before->files[j].size_bytes);
		}
	}
	free(visit.files.files);
	free(before->files);
	*before = (struct live_files){ 0 };
}
