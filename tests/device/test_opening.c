/*
 * Opening: which generation is taken, of what there is; when it is written to, and what is said. One case for each
 * row of the table in src/device/choose.c, and for what may come of it later.
 *
 * A store here holds one value a generation, in all devices: 20 sectors that are rewritten each time (deltas), and
 * a new piece of 64 sectors (bands).
 */
#include "damage.h"

#include "device/device_internal.h"

#include <inttypes.h>
#include <unistd.h>

#define DEVICES    6U
#define ALL        ((1U << DEVICES) - 1)
#define AT         300U /* the sectors that are rewritten */
#define AT_COUNT   20U
#define PIECES     1100U /* where the pieces begin */
#define PIECE      64U
#define PATH_BYTES 256

static const struct shape shape = { .devices = DEVICES, .sectors = 4096, .band_sectors = 256 };

/* The wall clock, as far from the truth as a test wants it to be. */
static int64_t wall_shift_ns;
uint64_t __real_sz_wall_ns(void);
uint64_t __wrap_sz_wall_ns(void);
uint64_t __wrap_sz_wall_ns(void)
{
	return __real_sz_wall_ns() + (uint64_t)wall_shift_ns;
}

/* A folder for what was seen, empty at first. */
struct user {
	char folder[PATH_BYTES];
};

static void user_init(struct user *user)
{
	const char *parent = getenv("TMPDIR");

	(void)snprintf(user->folder, sizeof(user->folder), "%s/szpool-opening.XXXXXX",
		       parent == NULL ? "/tmp" : parent);
	assert_non_null(mkdtemp(user->folder));
}

struct forgetting {
	struct sz_backend *backend;
	size_t count;
};

static int forget_one(void *context, const char *name, uint64_t size_bytes)
{
	struct forgetting *forgetting = context;

	(void)size_bytes;
	forgetting->count++;
	return sz_backend_remove(forgetting->backend, SZ_SEALED, name);
}

/* Erases what was seen. Returns how many notes there were. */
static size_t user_forget(const struct user *user)
{
	struct forgetting forgetting = { 0 };

	OK(sz_folder_open(user->folder, false, &forgetting.backend));
	OK(sz_backend_list(forgetting.backend, SZ_SEALED, forget_one, &forgetting));
	sz_backend_close(forgetting.backend);
	return forgetting.count;
}

static void user_fini(struct user *user)
{
	(void)user_forget(user);
	(void)rmdir(user->folder);
}

/* The disks' files. */

struct copying {
	struct sz_backend *from;
	struct sz_backend *to;
	enum sz_part part;
};

static int copy_one(void *context, const char *name, uint64_t size_bytes)
{
	const struct copying *copying = context;
	CLEANUP_FREE uint8_t *bytes = malloc(size_bytes + 1);
	struct sz_file *from;
	struct sz_file *to;
	size_t length;

	assert_non_null(bytes);
	if (sz_backend_create(copying->to, copying->part, name, &to) != 0)
		return 0; /* it is there: a name has one content */
	OK(sz_backend_open(copying->from, copying->part, name, &from));
	OK(sz_file_read(from, bytes, size_bytes, 0, &length));
	OK(sz_file_write(to, bytes, length, 0));
	OK(sz_file_sync(to));
	sz_file_close(from);
	sz_file_close(to);
	return 0;
}

static void copy_disk(struct sz_backend *from, struct sz_backend *to)
{
	for (enum sz_part part = SZ_SEALED; part <= SZ_LIVE; part++) {
		struct copying copying = { from, to, part };

		OK(sz_backend_list(from, part, copy_one, &copying));
		OK(sz_backend_sync_folder(to, part));
	}
}

/* Adds the files of some disks (a bit for each) to those of another. */
static void merge(const struct harness *from, struct harness *to, unsigned int disks)
{
	for (uint32_t i = 0; i < DEVICES; i++)
		if ((disks >> i & 1) != 0)
			copy_disk(from->disks[i], to->disks[i]);
}

/* Puts copies of some disks in the place of others. */
static void replace(const struct harness *from, struct harness *to, unsigned int disks)
{
	for (uint32_t i = 0; i < DEVICES; i++) {
		if ((disks >> i & 1) == 0)
			continue;
		sz_backend_close(to->disks[i]);
		OK(sz_memory_open("copied", &to->disks[i]));
		copy_disk(from->disks[i], to->disks[i]);
	}
}

static uint64_t newest_of(struct harness *harness, enum sz_kind kind)
{
	struct objects objects;
	uint64_t newest = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == kind && objects.list[i].generation > newest)
			newest = objects.list[i].generation;
	objects_free(&objects);
	return newest;
}

/* Removes the objects of a kind and generation from some disks; generation 0: of all. */
static size_t lose(struct harness *harness, enum sz_kind kind, uint64_t generation,
		   unsigned int disks)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++) {
		const struct object *object = &objects.list[i];

		if (object->kind != kind || (disks >> object->disk & 1) == 0 ||
		    (generation != 0 && object->generation != generation))
			continue;
		object_remove(harness, object);
		count++;
	}
	objects_free(&objects);
	return count;
}

/* What a store holds. */

static void put_value(struct harness *harness, uint8_t value)
{
	memset(harness->buffer, value, (size_t)PIECE * SZ_SECTOR_BYTES);
	for (uint32_t i = 0; i < DEVICES; i++) {
		struct sz_device *device = sz_store_device(harness->store, i);

		if (sz_device_state(device) != SZ_DEVICE_ONLINE)
			continue;
		OK(sz_device_write(device, AT, AT_COUNT, harness->buffer));
		OK(sz_device_write(device, PIECES + value * PIECE, PIECE, harness->buffer));
	}
}

static void flush_all(struct harness *harness)
{
	for (uint32_t i = 0; i < DEVICES; i++)
		if (sz_device_state(sz_store_device(harness->store, i)) == SZ_DEVICE_ONLINE)
			OK(sz_device_flush(sz_store_device(harness->store, i)));
}

/* -1: it cannot be read; -2: it is not one value. */
static int value_at(struct harness *harness, uint32_t device, uint32_t sector, uint32_t count)
{
	const uint8_t *bytes = harness->buffer;

	if (sz_device_read(sz_store_device(harness->store, device), sector, count,
			   harness->buffer) != 0)
		return -1;
	for (size_t i = 1; i < (size_t)count * SZ_SECTOR_BYTES; i++)
		if (bytes[i] != bytes[0])
			return -2;
	return bytes[0];
}

/* All devices but some hold the value, and the piece that came with it. */
static void check_value_but(struct harness *harness, uint8_t value, unsigned int but)
{
	for (uint32_t i = 0; i < DEVICES; i++) {
		if ((but >> i & 1) != 0)
			continue;
		assert_int_equal(value_at(harness, i, AT, AT_COUNT), value);
		assert_int_equal(value_at(harness, i, PIECES + value * PIECE, PIECE), value);
	}
}

static void check_value(struct harness *harness, uint8_t value)
{
	check_value_but(harness, value, 0);
}

/* Opening. */

static struct sz_store_info info_of(struct harness *harness)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	return info;
}

static struct sz_opening opening_of(struct harness *harness)
{
	struct sz_opening opening;

	sz_store_opening(harness->store, &opening);
	return opening;
}

static void open_as(struct harness *harness, const struct sz_store_open *options)
{
	int rc = harness_try_open_as(harness, options);

	if (rc != 0)
		fail_msg("the store does not open: %d, %s", rc, harness->error.text);
}

/* Opens, writes a value, and closes: one more generation. */
static void generation_add(struct harness *harness, const struct sz_store_open *options,
			   uint8_t value)
{
	open_as(harness, options);
	put_value(harness, value);
	OK(sz_store_close(TAKE(harness->store), &harness->error));
}

/* With a code for the text, if the caller wants it. */
static uint64_t reads(struct harness *harness, const struct sz_store_open *options, uint8_t value,
		      bool is_notable, const char *words)
{
	struct sz_store_open reading = *options;
	struct sz_opening opening;
	uint64_t generation;

	reading.read_only = true;
	harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
	open_as(harness, &reading);
	generation = info_of(harness).generation;
	opening = opening_of(harness);
	check_value(harness, value);
	if (opening.is_notable != is_notable ||
	    (words != NULL && strstr(opening.chosen, words) == NULL &&
	     strstr(opening.aside, words) == NULL))
		fail_msg("it says: %s; set aside: %s", opening.chosen, opening.aside);
	OK(sz_store_close(TAKE(harness->store), &harness->error));
	assert_int_equal(harness->plan.count, 0);
	harness->plan = (struct sz_fault_plan){ 0 };
	return generation;
}

/* Not opened for writing, and not a byte is written. */
static void refuses(struct harness *harness, const struct sz_store_open *options, int code,
		    const char *words)
{
	int rc;

	harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
	rc = harness_try_open_as(harness, options);
	if (rc != code || (words != NULL && strstr(harness->error.text, words) == NULL))
		fail_msg("opens with %d, want %d: %s", rc, code, harness->error.text);
	assert_int_equal(harness->plan.count, 0);
	harness->plan = (struct sz_fault_plan){ 0 };
}

static void writes(struct harness *harness, const struct sz_store_open *options, uint8_t value)
{
	open_as(harness, options);
	check_value(harness, value);
	OK(sz_store_close(TAKE(harness->store), &harness->error));
}

/* The code of the newest generation of these disks, whatever opening would say. */
static void code_of_newest(struct harness *harness, char code[40])
{
	const struct sz_store_open reading = { .read_only = true };
	struct sz_store_info info;

	open_as(harness, &reading);
	info = info_of(harness);
	memcpy(code, info.code, sizeof(info.code));
	OK(sz_store_close(TAKE(harness->store), &harness->error));
}

static const struct sz_store_open plain;
static const struct sz_store_open copy = { .is_copy = true };

/* Two generations after the first, with the values 1 and 2; a copy of the disks after each. */
struct line {
	struct harness at[3];
};

static void line_init(struct line *line)
{
	harness_init(&line->at[0], &shape, 11);
	generation_add(&line->at[0], &plain, 1);
	harness_fork_now(&line->at[0], &line->at[1]);
	generation_add(&line->at[1], &plain, 2);
	harness_fork_now(&line->at[1], &line->at[2]);
	generation_add(&line->at[2], &plain, 3);
}

static void line_fini(struct line *line)
{
	for (size_t i = 0; i < ARRAY_LENGTH(line->at); i++)
		harness_fini(&line->at[i]);
}

static void test_clean(void **state)
{
	struct line line;

	(void)state;
	line_init(&line);
	(void)reads(&line.at[2], &plain, 3, false, "the newest");
	writes(&line.at[2], &plain, 3);
	(void)reads(&line.at[2], &copy, 3, false, "all of it is here");
	writes(&line.at[2], &copy, 3);
	line_fini(&line);
}

/* After a crash all that was flushed is there, whether or not anybody remembers the store. */
static void test_crashed_and_forgotten(void **state)
{
	struct user user;

	(void)state;
	user_init(&user);
	for (unsigned int is_forgotten = 0; is_forgotten < 2; is_forgotten++) {
		const struct sz_store_open options = { .state_folder = user.folder };
		struct line line;

		line_init(&line);
		open_as(&line.at[2], &options);
		put_value(&line.at[2], 4);
		flush_all(&line.at[2]);
		sz_store_abandon(TAKE(line.at[2].store));
		if (is_forgotten != 0)
			assert_true(user_forget(&user) > 0);
		writes(&line.at[2], &options, 4);
		line_fini(&line);
	}
	user_fini(&user);
}

static void test_rolled_back(void **state)
{
	struct user user;
	struct line line;
	char code[40];
	struct sz_store_open options = { .state_folder = user.folder };
	struct sz_store_open choosing = options;

	(void)state;
	user_init(&user);
	line_init(&line);
	open_as(&line.at[2], &options);
	sz_store_abandon(TAKE(line.at[2].store)); /* seen: generation 4 */
	code_of_newest(&line.at[1], code);
	(void)reads(&line.at[1], &options, 2, true, "does not descend");
	refuses(&line.at[1], &options, -ESTALE, "seen here last");
	choosing.choose = code;
	writes(&line.at[1], &choosing, 2);
	writes(&line.at[1], &options, 2); /* it is what was seen last now */
	generation_add(&line.at[1], &options, 7);
	refuses(&line.at[2], &options, -ESTALE, NULL);
	(void)user_forget(&user);
	writes(&line.at[2], &options, 3);
	user_fini(&user);
	line_fini(&line);
}

/* Generations of one opening: the text can say that it is older. */
static void test_rolled_back_within_an_opening(void **state)
{
	struct user user;
	struct harness harness;
	struct harness before;
	struct sz_store_open options = { .state_folder = user.folder };

	(void)state;
	user_init(&user);
	harness_init(&harness, &shape, 12);
	open_as(&harness, &options);
	put_value(&harness, 1);
	OK(sz_store_seal(harness.store, &harness.error));
	harness_fork_now(&harness, &before);
	put_value(&harness, 2);
	OK(sz_store_close(TAKE(harness.store), &harness.error));
	(void)reads(&before, &options, 1, true, "is older than");
	refuses(&before, &options, -ESTALE, "is older than");
	writes(&harness, &options, 2);
	harness_fini(&before);
	harness_fini(&harness);
	user_fini(&user);
}

/* A copy was written to; its disks take the place of ours. */
static void test_forked(void **state)
{
	struct user user;
	struct line line;
	struct harness other;
	struct sz_store_open options = { .state_folder = user.folder };

	(void)state;
	user_init(&user);
	line_init(&line);
	harness_fork_now(&line.at[1], &other);
	generation_add(&other, &plain, 9);
	writes(&line.at[2], &options, 3);
	(void)reads(&other, &options, 9, true, "does not descend");
	refuses(&other, &options, -ESTALE, "'--choose CODE'");
	/* One that was written on where we left off is no fork. */
	generation_add(&line.at[2], &plain, 5);
	writes(&line.at[2], &options, 5);
	harness_fini(&other);
	line_fini(&line);
	user_fini(&user);
}

/* Two copies, both written to, merged into one folder. */
static void test_merged(void **state)
{
	struct user user;
	struct line line;
	struct harness other;
	char ours[40];
	char theirs[40];
	struct sz_store_open options = { .state_folder = user.folder };
	struct sz_store_open asking = options;
	struct sz_store_open choosing = options;

	(void)state;
	user_init(&user);
	line_init(&line);
	harness_fork_now(&line.at[1], &other);
	generation_add(&other, &plain, 9);
	code_of_newest(&other, theirs);
	code_of_newest(&line.at[2], ours);
	merge(&other, &line.at[2], ALL);
	refuses(&line.at[2], &plain, -ESTALE, "one of 2 histories");
	refuses(&line.at[2], &copy, -ESTALE, "one of 2 histories");
	asking.generation = theirs;
	(void)reads(&line.at[2], &asking, 9, false, "as told");
	asking.generation = ours;
	(void)reads(&line.at[2], &asking, 3, false, "as told");
	/* Ours is chosen; the other stays as it is, whatever comes. */
	choosing.choose = ours;
	writes(&line.at[2], &choosing, 3);
	for (uint8_t value = 4; value < 9; value++)
		generation_add(&line.at[2], &options, value);
	open_as(&line.at[2], &options);
	OK(sz_store_compact(line.at[2].store, &line.at[2].error));
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	(void)reads(&line.at[2], &options, 8, false, theirs);
	asking.generation = theirs;
	(void)reads(&line.at[2], &asking, 9, false, "as told");
	/* Whoever has not chosen is asked; whoever has may change his mind. */
	refuses(&line.at[2], &plain, -ESTALE, "one of 2 histories");
	choosing.choose = theirs;
	generation_add(&line.at[2], &choosing, 10);
	writes(&line.at[2], &options, 10);
	harness_fini(&other);
	line_fini(&line);
	user_fini(&user);
}

/* An old generation is gone on from: what came after it is set aside. */
static void test_back_to_an_old_one(void **state)
{
	struct user user;
	struct line line;
	char old[40];
	char newest[40];
	struct sz_store_open options = { .state_folder = user.folder };
	struct sz_store_open choosing = options;
	struct sz_store_open asking = { .generation = newest };

	(void)state;
	user_init(&user);
	line_init(&line);
	merge(&line.at[1], &line.at[2], ALL);
	code_of_newest(&line.at[1], old);
	code_of_newest(&line.at[2], newest);
	choosing.choose = old;
	writes(&line.at[2], &choosing, 2);
	writes(&line.at[2], &options, 2); /* although nothing was written meanwhile */
	generation_add(&line.at[2], &options, 7);
	writes(&line.at[2], &options, 7);
	(void)reads(&line.at[2], &asking, 3, false, "as told");
	(void)reads(&line.at[2], &options, 7, false, newest);
	line_fini(&line);
	user_fini(&user);
}

/*
 * A copy whose upload was cut. line.at[2] has the generations 3 and 4 (the values 2 and 3). Lost: deltas of
 * generation 4 on so many devices, and of generation 3.
 */
static void half_copied(struct line *line, unsigned int newer, unsigned int older)
{
	line_init(line);
	merge(&line->at[1], &line->at[2], ALL);
	assert_int_equal(newest_of(&line->at[2], SZ_KIND_ROOT), 4);
	/* Generations before these, whose objects may be collected already, are no part of it. */
	for (uint64_t generation = 1; generation < 3; generation++)
		(void)lose(&line->at[2], SZ_KIND_ROOT, generation, ALL);
	if (newer != 0)
		assert_true(lose(&line->at[2], SZ_KIND_DELTA, 4, newer) > 0);
	if (older != 0)
		assert_true(lose(&line->at[2], SZ_KIND_DELTA, 3, older) > 0);
}

static void test_half_copied_newer_lost(void **state)
{
	struct line line;

	(void)state;
	half_copied(&line, 7, 0);
	(void)reads(&line.at[2], &copy, 2, true, "is not all here");
	writes(&line.at[2], &copy, 2);
	/* And goes on so: what is left of the newer one is no choice. */
	generation_add(&line.at[2], &copy, 8);
	writes(&line.at[2], &copy, 8);
	line_fini(&line);
}

static void test_half_copied_newer_recoverable(void **state)
{
	struct line line;
	char code[40];
	struct sz_store_open choosing = { .is_copy = true, .choose = code };

	(void)state;
	half_copied(&line, 3, 0);
	(void)reads(&line.at[2], &copy, 2, true, "can be repaired");
	refuses(&line.at[2], &copy, -ESTALE, "can be repaired by '--choose 4-");
	code_of_newest(&line.at[2], code); /* as ours, it is the newest */
	open_as(&line.at[2], &choosing);
	assert_int_equal(value_at(&line.at[2], 0, AT, AT_COUNT), -1);
	check_value_but(&line.at[2], 3, 3);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

static void test_half_copied_nothing_whole(void **state)
{
	struct line line;

	(void)state;
	half_copied(&line, 1, 2);
	open_as(&line.at[2], &copy);
	assert_true(opening_of(&line.at[2]).is_notable);
	assert_int_equal(info_of(&line.at[2]).generation, 4);
	check_value_but(&line.at[2], 3, 3);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
	half_copied(&line, 15, 3);
	open_as(&line.at[2], &copy);
	assert_int_equal(info_of(&line.at[2]).generation, 3);
	check_value_but(&line.at[2], 2, 3);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

static void test_half_copied_beyond_repair(void **state)
{
	const struct sz_store_open asking = { .generation = "4" };
	struct line line;

	(void)state;
	half_copied(&line, 7, 7);
	refuses(&line.at[2], &copy, -EBADMSG, "too much is missing");
	open_as(&line.at[2], &asking);
	check_value_but(&line.at[2], 3, 7);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	/* Ours is healed, not given up. */
	open_as(&line.at[2], &plain);
	assert_int_equal(info_of(&line.at[2]).generation, 4);
	check_value_but(&line.at[2], 3, 7);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

/* The generation from before there was data is whole, always: it is no choice beside one with data. */
static void test_half_copied_beside_an_empty_one(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 11);
	generation_add(&harness, &plain, 1);
	assert_int_equal(newest_of(&harness, SZ_KIND_ROOT), 2);
	assert_true(lose(&harness, SZ_KIND_BAND, 2, 3) > 0);
	open_as(&harness, &copy);
	assert_int_equal(info_of(&harness).generation, 2);
	check_value_but(&harness, 1, 3);
	OK(sz_store_close(TAKE(harness.store), &harness.error));
	harness_fini(&harness);
	harness_init(&harness, &shape, 11);
	generation_add(&harness, &plain, 1);
	assert_true(lose(&harness, SZ_KIND_BAND, 2, 7) > 0);
	refuses(&harness, &copy, -EBADMSG, "too much is missing");
	assert_true(lose(&harness, SZ_KIND_ROOT, 1, ALL) > 0); /* it was there */
	harness_fini(&harness);
}

/* Folders of different generations: one root for the whole store, objects from wherever they are. */
static void test_mixed_generations(void **state)
{
	struct line line;

	(void)state;
	line_init(&line);
	replace(&line.at[1], &line.at[2], 3);
	(void)reads(&line.at[2], &copy, 2, true, "can be repaired");
	refuses(&line.at[2], &copy, -ESTALE, NULL);
	/* As ours: the newest, where the older folders lack what came since. */
	open_as(&line.at[2], &plain);
	assert_int_equal(info_of(&line.at[2]).generation, 4);
	check_value_but(&line.at[2], 3, 3);
	assert_int_equal(value_at(&line.at[2], 0, AT, AT_COUNT), -1);
	assert_int_equal(value_at(&line.at[2], 0, PIECES + 2 * PIECE, PIECE), 2);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

/* Some folders are older, but what they lack stands in others: any folder may have any object. */
static void test_objects_in_other_folders(void **state)
{
	struct line line;

	(void)state;
	line_init(&line);
	for (uint32_t i = 0; i < 2; i++)
		copy_disk(line.at[2].disks[i], line.at[2].disks[4 + i]);
	replace(&line.at[1], &line.at[2], 3);
	(void)reads(&line.at[2], &copy, 3, false, "all of it is here");
	writes(&line.at[2], &copy, 3);
	line_fini(&line);
}

/*
 * A copy that took live/ while a seal was under way, and the root later: what the generation refers to is in
 * live/ alone. It is not taken for what an epoch has left behind.
 */
static void test_objects_in_live_alone(void **state)
{
	struct line line;
	struct objects objects;
	unsigned int moved = 0;

	(void)state;
	line_init(&line);
	objects_list(&line.at[2], &objects);
	for (size_t i = 0; i < objects.count; i++) {
		CLEANUP_BYTES struct sz_bytes content = { 0 };
		const struct object *object = &objects.list[i];

		if ((object->kind != SZ_KIND_BAND && object->kind != SZ_KIND_DELTA &&
		     object->kind != SZ_KIND_HOT) ||
		    object->part != SZ_SEALED)
			continue;
		object_read(&line.at[2], object, &content);
		object_put(&line.at[2], object->disk, SZ_LIVE, object->name, &content);
		object_remove(&line.at[2], object);
		moved++;
	}
	objects_free(&objects);
	assert_true(moved > 2 * DEVICES);
	writes(&line.at[2], &copy, 3);
	writes(&line.at[2], &plain, 3);
	generation_add(&line.at[2], &plain, 4);
	open_as(&line.at[2], &plain);
	check_value(&line.at[2], 4);
	assert_int_equal(value_at(&line.at[2], 0, PIECES + PIECE, PIECE), 1);
	assert_int_equal(harness_damage(&line.at[2], true), 0);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

static void test_roots_in_two_folders(void **state)
{
	struct line line;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		line_init(&line);
		assert_int_equal(lose(&line.at[2], SZ_KIND_ROOT, 4, ALL & ~0x12U), 4);
		writes(&line.at[2], i == 0 ? &plain : &copy, 3);
		/* They are everywhere again. */
		assert_int_equal(lose(&line.at[2], SZ_KIND_ROOT, 4, ALL), DEVICES);
		line_fini(&line);
	}
}

/* Of ours a newer root is there, but cannot be read: not forgotten in silence. */
static void test_newest_root_damaged(void **state)
{
	struct line line;
	struct objects objects;
	char code[40];
	struct sz_store_open choosing = { .choose = code };

	(void)state;
	line_init(&line);
	merge(&line.at[1], &line.at[2], ALL);
	code_of_newest(&line.at[1], code);
	objects_list(&line.at[2], &objects);
	for (size_t i = 0; i < objects.count; i++)
		if (objects.list[i].kind == SZ_KIND_ROOT && objects.list[i].generation == 4)
			damage_object(&line.at[2], &objects.list[i], FORM_FLIPPED_HEADER, NULL);
	objects_free(&objects);
	(void)reads(&line.at[2], &plain, 2, true, "cannot be read");
	refuses(&line.at[2], &plain, -ESTALE, "cannot be read");
	writes(&line.at[2], &choosing, 2);
	line_fini(&line);
}

/* A folder was away while generations came and went. */
static void test_a_folder_returns(void **state)
{
	struct line line;
	struct sz_backend *away;

	(void)state;
	line_init(&line);
	away = TAKE(line.at[2].disks[2]);
	generation_add(&line.at[2], &plain, 4);
	generation_add(&line.at[2], &plain, 5);
	line.at[2].disks[2] = away;
	open_as(&line.at[2], &plain);
	assert_false(opening_of(&line.at[2]).is_notable);
	check_value_but(&line.at[2], 5, 4);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

/* What the disks are when a store is cut, in the middle of what it does. */
struct cut {
	struct harness *from;
	struct harness *to;
};

static void cut_now(void *context)
{
	const struct cut *cut = context;

	harness_fork_now(cut->from, cut->to);
}

/* Seals, and says how many files are made. */
static uint64_t seal_counted(struct harness *harness, const struct sz_fault_plan *plan)
{
	uint64_t count;

	harness->plan = *plan;
	OK(sz_store_seal(harness->store, &harness->error));
	count = harness->plan.count;
	harness->plan = (struct sz_fault_plan){ 0 };
	sz_store_abandon(TAKE(harness->store));
	return count;
}

/* The machine died when the folder that is away now was the only one that had the newest root. */
static void test_a_folder_returns_with_a_root_of_its_own(void **state)
{
	struct line line;
	struct harness counting;
	struct harness after;
	struct cut cut = { &line.at[2], &after };
	struct sz_fault_plan plan = { .mask = SZ_OP_CREATE, .at = cut_now, .at_context = &cut };
	struct sz_backend *away;

	(void)state;
	line_init(&line);
	harness_fork_now(&line.at[2], &counting);
	open_as(&counting, &plain);
	put_value(&counting, 4);
	/* The last files that a seal makes are the copies of the root. */
	plan.fail_at = seal_counted(&counting, &(struct sz_fault_plan){ .mask = SZ_OP_CREATE }) -
		       DEVICES + 2;
	open_as(&line.at[2], &plain);
	put_value(&line.at[2], 4);
	(void)seal_counted(&line.at[2], &plan);
	assert_int_equal(newest_of(&after, SZ_KIND_ROOT), 5);
	away = TAKE(after.disks[0]);
	OK(sz_memory_open("empty", &after.disks[0]));
	assert_int_equal(newest_of(&after, SZ_KIND_ROOT), 4);
	open_as(&after, &plain);
	check_value_but(&after, 4, 1); /* from the live files */
	put_value(&after, 5);
	OK(sz_store_close(TAKE(after.store), &after.error));
	sz_backend_close(after.disks[0]);
	after.disks[0] = away;
	refuses(&after, &plain, -ESTALE, "one of 2 histories");
	harness_fini(&after);
	harness_fini(&counting);
	line_fini(&line);
}

/* All disks but one fail while the root is written; then that one is lost. The live files say it all again. */
static void test_a_root_in_one_folder_alone(void **state)
{
	struct line line;
	struct harness counting;
	struct sz_fault_plan plan = { .mask = SZ_OP_CREATE, .fail_from = true, .error = -EIO };

	(void)state;
	line_init(&line);
	harness_fork_now(&line.at[2], &counting);
	open_as(&counting, &plain);
	put_value(&counting, 4);
	plan.fail_at = seal_counted(&counting, &(struct sz_fault_plan){ .mask = SZ_OP_CREATE }) -
		       DEVICES + 2;
	open_as(&line.at[2], &plain);
	put_value(&line.at[2], 4);
	(void)seal_counted(&line.at[2], &plan);
	assert_int_equal(newest_of(&line.at[2], SZ_KIND_ROOT), 5);
	sz_backend_close(line.at[2].disks[0]);
	OK(sz_memory_open("empty", &line.at[2].disks[0]));
	assert_int_equal(newest_of(&line.at[2], SZ_KIND_ROOT), 4);
	open_as(&line.at[2], &plain);
	check_value_but(&line.at[2], 4, 1);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	harness_fini(&counting);
	line_fini(&line);
}

static void test_clocks(void **state)
{
	static const int64_t years[] = { 10, -10, 0, -40, 10 };
	struct line line;
	uint64_t before = 0;

	(void)state;
	line_init(&line);
	for (size_t i = 0; i < ARRAY_LENGTH(years); i++) {
		wall_shift_ns = years[i] * 365 * 86400 * 1000000000;
		generation_add(&line.at[2], i % 2 == 0 ? &plain : &copy, (uint8_t)(10 + i));
		open_as(&line.at[2], &plain);
		check_value(&line.at[2], (uint8_t)(10 + i));
		assert_false(opening_of(&line.at[2]).is_notable);
		assert_true(line.at[2].store->root.store_time_ns > before);
		before = line.at[2].store->root.store_time_ns;
		OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	}
	wall_shift_ns = 0;
	line_fini(&line);
}

/* The machine was cloned while the store was open: both go on under one lineage. */
static void test_cloned_machine(void **state)
{
	struct user user;
	struct line line;
	struct harness clone;
	char ours[40];
	struct sz_store_open options = { .state_folder = user.folder };
	struct sz_store_open choosing = { .state_folder = user.folder, .choose = ours };

	(void)state;
	user_init(&user);
	line_init(&line);
	harness_fork_now(&line.at[2], &clone);
	open_as(&line.at[2], &options);
	open_as(&clone, &plain);
	memcpy(clone.store->lineage, line.at[2].store->lineage, sizeof(clone.store->lineage));
	memcpy(clone.store->open_id, line.at[2].store->open_id, sizeof(clone.store->open_id));
	put_value(&line.at[2], 4);
	put_value(&clone, 14);
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	OK(sz_store_close(TAKE(clone.store), &clone.error));
	refuses(&clone, &options, -ESTALE, "does not descend");
	code_of_newest(&line.at[2], ours);
	merge(&clone, &line.at[2], ALL);
	refuses(&line.at[2], &options, -ESTALE, "one of 2 histories");
	writes(&line.at[2], &choosing, 4);
	generation_add(&line.at[2], &options, 5);
	writes(&line.at[2], &options, 5);
	harness_fini(&clone);
	line_fini(&line);
	user_fini(&user);
}

/* An old generation on media that cannot be written: used, written to, and forgotten. */
static void test_an_old_generation_in_memory(void **state)
{
	struct line line;
	char code[40];
	const char *const names[] = { "3", code, "3-" };
	struct sz_store_open asking = { .read_only = true };

	(void)state;
	line_init(&line);
	merge(&line.at[1], &line.at[2], ALL);
	code_of_newest(&line.at[1], code);
	code[9] = '\0'; /* the beginning of it is enough */
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		struct harness *harness = &line.at[2];

		asking.generation = names[i];
		if (i == 2) { /* a hyphen alone says no more than the number */
			refuses(harness, &asking, -ENOENT, "no generation");
			continue;
		}
		harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES | SZ_OP_REMOVE };
		open_as(harness, &asking);
		check_value(harness, 2);
		assert_int_equal(info_of(harness).generation, 3);
		assert_true(sz_store_is_volatile(harness->store));
		assert_false(sz_store_is_read_only(harness->store));
		put_value(harness, 20);
		flush_all(harness);
		check_value(harness, 20);
		OK(sz_store_seal(harness->store, &harness->error)); /* in memory, too */
		put_value(harness, 21);
		check_value(harness, 21);
		OK(sz_store_close(TAKE(harness->store), &harness->error));
		assert_int_equal(harness->plan.count, 0);
		harness->plan = (struct sz_fault_plan){ 0 };
	}
	writes(&line.at[2], &plain, 3);
	line_fini(&line);
}

/* The newest generation as it was sealed: what is live is left alone. */
static void test_a_generation_without_its_live_files(void **state)
{
	const struct sz_store_open asking = { .generation = "4" };
	struct line line;

	(void)state;
	line_init(&line);
	open_as(&line.at[2], &plain);
	put_value(&line.at[2], 4);
	flush_all(&line.at[2]);
	sz_store_abandon(TAKE(line.at[2].store));
	(void)reads(&line.at[2], &asking, 3, false, NULL);
	writes(&line.at[2], &plain, 4);
	line_fini(&line);
}

static void test_no_such_generation(void **state)
{
	static const char *const names[] = { "5", "", "x", "4-", "4-0", "44", "-" };
	struct line line;

	(void)state;
	line_init(&line);
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		const struct sz_store_open asking = { .generation = names[i] };
		const struct sz_store_open choosing = { .choose = names[i] };
		char code[40];

		code_of_newest(&line.at[2], code);
		if (strcmp(names[i], "4-0") == 0 && code[2] == '0')
			continue; /* one in 32 */
		refuses(&line.at[2], &asking, -ENOENT, "no generation");
		refuses(&line.at[2], &choosing, -ENOENT, "no generation");
	}
	line_fini(&line);
}

/* What a note of another user, or a damaged one, says counts for nothing. */
static int damage_note(void *context, const char *name, uint64_t size_bytes)
{
	const struct user *user = context;
	char path[2 * PATH_BYTES];

	(void)snprintf(path, sizeof(path), "%s/%.200s", user->folder, name);
	assert_int_equal(strlen(name), 32);
	return truncate(path, (off_t)size_bytes - 1);
}

static void test_a_damaged_note(void **state)
{
	struct user user;
	struct line line;
	struct sz_backend *backend;
	struct sz_store_open options = { .state_folder = user.folder };
	struct sz_store_open nowhere = { .state_folder = "/proc/nowhere" };

	(void)state;
	user_init(&user);
	line_init(&line);
	writes(&line.at[2], &options, 3);
	refuses(&line.at[1], &options, -ESTALE, NULL);
	OK(sz_folder_open(user.folder, false, &backend));
	OK(sz_backend_list(backend, SZ_SEALED, damage_note, &user));
	sz_backend_close(backend);
	writes(&line.at[1], &options, 2);
	writes(&line.at[1], &nowhere, 2);
	line_fini(&line);
	user_fini(&user);
}

static const struct sz_store_open recovering = { .recover = true };

/* Roots are lost, all of them. */
static void lose_roots(struct harness *harness)
{
	assert_true(lose(harness, SZ_KIND_ROOT, 0, ALL) > 0);
	refuses(harness, &plain, -EBADMSG, "szpool recover");
	refuses(harness, &copy, -EBADMSG, "szpool recover");
}

static bool is_recovered(struct harness *harness)
{
	struct sz_check check;
	bool recovered;

	OK(sz_store_generations(harness->store, &check, &harness->error));
	assert_true(check.count > 0 && check.generations[0].is_chosen);
	recovered = check.generations[0].is_recovered;
	sz_check_free(&check);
	return recovered;
}

static void test_recovered_without_a_root(void **state)
{
	struct line line;

	(void)state;
	line_init(&line);
	refuses(&line.at[2], &recovering, -EINVAL, "roots are left");
	lose_roots(&line.at[2]);
	assert_int_equal(reads(&line.at[2], &recovering, 3, true, "without a root"), 4);
	writes(&line.at[2], &recovering, 3);
	/* From then on it is a store as any, that says what happened to it. */
	refuses(&line.at[2], &recovering, -EINVAL, "roots are left");
	(void)reads(&line.at[2], &plain, 3, false, NULL);
	generation_add(&line.at[2], &copy, 5);
	open_as(&line.at[2], &plain);
	check_value(&line.at[2], 5);
	assert_true(is_recovered(&line.at[2]));
	OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
	line_fini(&line);
}

/* What was flushed is there, although the root that it stood on is not. */
static void test_recovered_with_live_files(void **state)
{
	struct line line;
	struct harness before;

	(void)state;
	line_init(&line);
	harness_fork_now(&line.at[2], &before);
	open_as(&line.at[2], &plain);
	put_value(&line.at[2], 4);
	flush_all(&line.at[2]);
	sz_store_abandon(TAKE(line.at[2].store));
	lose_roots(&line.at[2]);
	(void)reads(&line.at[2], &recovering, 4, true, NULL);
	writes(&line.at[2], &recovering, 4);
	writes(&line.at[2], &plain, 4);
	/* The root that was lost comes back: it leads to what was made of it. */
	merge(&before, &line.at[2], ALL);
	writes(&line.at[2], &plain, 4);
	harness_fini(&before);
	line_fini(&line);
}

/* The machine died while a generation was sealed, and then the roots were lost, too. */
static void test_recovered_from_an_unfinished_seal(void **state)
{
	struct line line;
	struct harness counting;
	uint64_t changes;

	(void)state;
	line_init(&line);
	harness_fork_now(&line.at[2], &counting);
	open_as(&counting, &plain);
	put_value(&counting, 4);
	flush_all(&counting);
	changes = seal_counted(&counting, &(struct sz_fault_plan){ .mask = SZ_OP_CHANGES });
	harness_fini(&counting);
	for (uint64_t k = 1; k <= changes; k += 7) {
		struct harness harness;
		struct harness after;
		struct cut cut = { &harness, &after };
		struct sz_fault_plan plan = {
			.mask = SZ_OP_CHANGES, .fail_at = k, .at = cut_now, .at_context = &cut
		};

		harness_fork_now(&line.at[2], &harness);
		open_as(&harness, &plain);
		put_value(&harness, 4);
		flush_all(&harness);
		(void)seal_counted(&harness, &plan);
		lose_roots(&after);
		writes(&after, &recovering, 4);
		writes(&after, &plain, 4);
		harness_fini(&after);
		harness_fini(&harness);
	}
	line_fini(&line);
}

static void test_recovered_from_what_is_left(void **state)
{
	struct line line;

	(void)state;
	for (unsigned int lost = 1; lost < 8; lost = lost << 1 | 1) {
		line_init(&line);
		lose_roots(&line.at[2]);
		for (uint32_t i = 0; i < DEVICES; i++) {
			if ((lost >> i & 1) == 0)
				continue;
			sz_backend_close(line.at[2].disks[i]);
			OK(sz_memory_open("empty", &line.at[2].disks[i]));
		}
		if (lost == 7) {
			refuses(&line.at[2], &recovering, -EBADMSG, "too much");
		} else {
			open_as(&line.at[2], &recovering);
			check_value_but(&line.at[2], 3, lost);
			OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
			open_as(&line.at[2], &plain);
			check_value_but(&line.at[2], 3, lost);
			OK(sz_store_close(TAKE(line.at[2].store), &line.at[2].error));
		}
		line_fini(&line);
	}
}

/* Nothing of the newest generation but its roots would do: an older one is put together. */
static void test_recovered_an_older_one(void **state)
{
	struct line line;

	(void)state;
	half_copied(&line, 7, 0);
	lose_roots(&line.at[2]);
	assert_int_equal(reads(&line.at[2], &recovering, 2, true, "generation 3"), 3);
	writes(&line.at[2], &recovering, 2);
	writes(&line.at[2], &plain, 2);
	line_fini(&line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_crashed_and_forgotten),
		cmocka_unit_test(test_rolled_back),
		cmocka_unit_test(test_rolled_back_within_an_opening),
		cmocka_unit_test(test_forked),
		cmocka_unit_test(test_merged),
		cmocka_unit_test(test_back_to_an_old_one),
		cmocka_unit_test(test_half_copied_newer_lost),
		cmocka_unit_test(test_half_copied_newer_recoverable),
		cmocka_unit_test(test_half_copied_nothing_whole),
		cmocka_unit_test(test_half_copied_beyond_repair),
		cmocka_unit_test(test_half_copied_beside_an_empty_one),
		cmocka_unit_test(test_mixed_generations),
		cmocka_unit_test(test_objects_in_other_folders),
		cmocka_unit_test(test_objects_in_live_alone),
		cmocka_unit_test(test_roots_in_two_folders),
		cmocka_unit_test(test_newest_root_damaged),
		cmocka_unit_test(test_a_folder_returns),
		cmocka_unit_test(test_a_folder_returns_with_a_root_of_its_own),
		cmocka_unit_test(test_a_root_in_one_folder_alone),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_cloned_machine),
		cmocka_unit_test(test_an_old_generation_in_memory),
		cmocka_unit_test(test_a_generation_without_its_live_files),
		cmocka_unit_test(test_no_such_generation),
		cmocka_unit_test(test_a_damaged_note),
		cmocka_unit_test(test_recovered_without_a_root),
		cmocka_unit_test(test_recovered_with_live_files),
		cmocka_unit_test(test_recovered_from_an_unfinished_seal),
		cmocka_unit_test(test_recovered_from_what_is_left),
		cmocka_unit_test(test_recovered_an_older_one),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
