/*
 * Copies taken while the store is written to: file after file, folder after folder, each as it is
 * when the copier comes by, with live/ or without. Every such copy opens, undamaged, and is an exact
 * point in time of all devices, no earlier than the last seal before the copy began.
 */
#include "../device/harness.h"

#include <pthread.h>

static const struct shape shape = { .devices = 3, .sectors = 1088, .band_sectors = 256 };

#define NAMES_MAX 512

struct copier {
	struct harness *from;
	struct sz_backend *disks[MODEL_DEVICES_MAX];
	bool with_live;
	uint64_t pace; /* one step in so many changes of the store */
	uint64_t chance;
	uint32_t folder;           /* 2 * disk + part: the one at hand */
	char names[NAMES_MAX][64]; /* of the files in it */
	size_t count;
	size_t at;
	_Atomic bool is_done;
	pthread_mutex_t
		lock; /* guards all above: a store may change its disks from several threads */
};

static int take_name(void *context, const char *name, uint64_t size_bytes)
{
	struct copier *copier = context;

	(void)size_bytes;
	assert_true(copier->count < NAMES_MAX && strlen(name) < sizeof(copier->names[0]));
	memcpy(copier->names[copier->count++], name, strlen(name) + 1);
	return 0;
}

static void list_folder(struct copier *copier)
{
	enum sz_part part = copier->folder % 2 == 0 ? SZ_SEALED : SZ_LIVE;

	copier->count = 0;
	copier->at = 0;
	if (part == SZ_SEALED || copier->with_live)
		OK(sz_backend_list(copier->from->disks[copier->folder / 2], part, take_name,
				   copier));
}

/* Copies a file as it is now; one that has gone meanwhile is left out, as rsync does. */
static void copy_file(struct copier *copier, const char *name)
{
	CLEANUP_FREE uint8_t *content = NULL;
	uint32_t disk = copier->folder / 2;
	enum sz_part part = copier->folder % 2 == 0 ? SZ_SEALED : SZ_LIVE;
	struct sz_file *file;
	uint64_t size_bytes;
	uint64_t inode;
	size_t length;
	int rc = sz_backend_open(copier->from->disks[disk], part, name, &file);

	if (rc == -ENOENT)
		return;
	OK(rc);
	OK(sz_file_stat(file, &size_bytes, &inode));
	content = malloc(size_bytes + 1);
	assert_non_null(content);
	OK(sz_file_read(file, content, size_bytes, 0, &length));
	sz_file_close(file);
	OK(sz_backend_create(copier->disks[disk], part, name, &file));
	if (length > 0)
		OK(sz_file_write(file, content, length, 0));
	OK(sz_file_sync(file));
	sz_file_close(file);
	OK(sz_backend_sync_folder(copier->disks[disk], part));
}

static void copy_some(struct copier *copier)
{
	if (copier->at < copier->count) {
		copy_file(copier, copier->names[copier->at++]);
		return;
	}
	copier->folder++;
	if (copier->folder == 2 * shape.devices)
		copier->is_done = true;
	else
		list_folder(copier);
}

/* The plan's hook, before each change of the store: now and then the copier does a step. */
static void copy_step(void *context)
{
	struct copier *copier = context;

	(void)pthread_mutex_lock(&copier->lock);
	if (!copier->is_done && chance_below(&copier->chance, copier->pace) == 0)
		copy_some(copier);
	(void)pthread_mutex_unlock(&copier->lock);
}

static void begin_copy(struct copier *copier, struct harness *harness, bool with_live,
		       uint64_t pace)
{
	*copier = (struct copier){
		.from = harness, .with_live = with_live, .pace = pace, .chance = harness->chance
	};
	(void)pthread_mutex_init(&copier->lock, NULL);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(sz_memory_open("copy", &copier->disks[i]));
	list_folder(copier);
	harness->plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
						.fail_at = 1,
						.fail_from = true,
						.at = copy_step,
						.at_context = copier };
}

static void step_without_seal(struct harness *harness)
{
	uint32_t device = (uint32_t)chance_below(&harness->chance, shape.devices);
	uint64_t kind = chance_below(&harness->chance, 10);
	uint64_t sector = chance_below(&harness->chance, shape.sectors - 120);

	if (kind < 2)
		OK(harness_write(harness, device, sector, 16 + (uint32_t)(sector % 100)));
	else if (kind < 6)
		OK(harness_write(harness, device, sector, 1 + (uint32_t)(sector % 9)));
	else if (kind < 7)
		OK(harness_trim(harness, device, sector, 5));
	else if (kind < 9)
		OK(harness_flush(harness, device));
	else
		OK(harness_flush_all(harness));
}

static void open_copy(struct copier *copier, size_t least)
{
	struct harness copy;

	harness_fork(copier->from, copier->disks, &copy);
	harness_open_clean(&copy);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_observe(&copy, i));
	assert_true(model_is_instant(&copy.model, copy.observed, least, true));
	for (uint32_t i = 0; i < shape.devices; i++)
		model_collapse(&copy.model, i, copy.observed[i]);
	OK(harness_write(&copy, 1, 300, 40));
	OK(harness_close(&copy));
	harness_open_clean(&copy);
	harness_check(&copy);
	OK(harness_close(&copy));
	harness_fini(&copy);
}

static void run(bool with_live)
{
	uint64_t seed = chance_seed(with_live ? "copy with live/" : "copy without live/");

	for (unsigned int run = 0; run < 40; run++) {
		struct copier *copier = malloc(sizeof(*copier));
		struct harness harness;
		size_t least;

		assert_non_null(copier);
		harness_init(&harness, &shape, seed + run);
		harness_open_clean(&harness);
		for (unsigned int i = 0; i < 30; i++)
			step_without_seal(&harness);
		if (run % 4 != 0)
			OK(harness_seal(&harness));
		least = run % 4 != 0 ? harness.model.length : 0;
		for (unsigned int i = 0; i < run; i++)
			step_without_seal(&harness);
		begin_copy(copier, &harness, with_live, 3);
		while (!copier->is_done)
			step_without_seal(&harness);
		harness.plan = (struct sz_fault_plan){ 0 };
		open_copy(copier, least);
		free(copier);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
}

/* Generations come and go while the copy is made: by a thread of their own, so that writes go on in each. */
struct sealer {
	struct harness *harness;
	pthread_t thread;
	_Atomic bool is_ending;
};

static void *sealer_work(void *context)
{
	struct sealer *sealer = context;
	struct sz_error error = { 0 };

	while (!sealer->is_ending) {
		int result = sz_store_seal(sealer->harness->store, &error);

		if (result == 0 && chance_below(&(uint64_t){ sz_clock_ns() }, 8) == 0)
			result = sz_store_compact(sealer->harness->store, &error);
		if (result != 0)
			abort();
	}
	return NULL;
}

/* The copy may lack objects, which is said; what it holds without damage is an instant. */
static bool check_if_whole(struct copier *copier)
{
	struct harness copy;
	bool is_whole = true;

	harness_fork(copier->from, copier->disks, &copy);
	harness_open(&copy);
	for (uint32_t i = 0; i < shape.devices && is_whole; i++)
		is_whole = harness_observe(&copy, i) == 0; /* -ENXIO: its index is not there */
	if (is_whole && harness_damage(&copy, false) == 0)
		assert_true(model_is_instant(&copy.model, copy.observed, 0, true));
	else
		is_whole = false;
	harness_abandon(&copy);
	harness_fini(&copy);
	return is_whole;
}

static void test_while_it_is_sealed(void **state)
{
	uint64_t seed = chance_seed("copy with seals");
	unsigned int whole = 0;

	(void)state;
	for (unsigned int run = 0; run < 60 * test_scale(); run++) {
		struct copier *copier = malloc(sizeof(*copier));
		struct harness harness;
		struct sealer sealer = { .harness = &harness };

		assert_non_null(copier);
		harness_init(&harness, &shape, seed + run);
		harness_open_clean(&harness);
		for (unsigned int i = 0; i < 30; i++)
			step_without_seal(&harness);
		begin_copy(copier, &harness, true, 1 + run % 20);
		OK(pthread_create(&sealer.thread, NULL, sealer_work, &sealer));
		while (!copier->is_done)
			step_without_seal(&harness);
		sealer.is_ending = true;
		OK(pthread_join(sealer.thread, NULL));
		harness.plan = (struct sz_fault_plan){ 0 };
		whole += check_if_whole(copier);
		free(copier);
		OK(harness_close(&harness));
		harness_fini(&harness);
	}
	printf("# %u of %u whole\n", whole, 60 * (unsigned int)test_scale());
	assert_true(whole > 0);
}

static void test_with_live(void **state)
{
	(void)state;
	run(true);
}

static void test_without_live(void **state)
{
	(void)state;
	run(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_while_it_is_sealed),
		cmocka_unit_test(test_with_live),
		cmocka_unit_test(test_without_live),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
