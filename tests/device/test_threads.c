/*
 * Many threads at once: each writes, reads, trims and flushes a range of its own on a device that
 * others use too, while one thread seals in a loop. Each reads back what it wrote; after a power cut
 * in the middle, what it had flushed is there, and nothing that it did not write.
 */
#include "harness.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#define WORKERS 6U
#define RANGE   400U /* sectors of a worker: 1 to 3 bands, shared at their ends with others */
#define ROUNDS  250U

static const struct shape shape = { .devices = 2, .sectors = 1280, .band_sectors = 256 };

/* What one sector may hold. Changed by its worker alone, under a lock for who cuts the power. */
struct cell {
	uint32_t settled; /* version */
	uint32_t newest;
	bool was_trimmed; /* since it was settled */
};

struct worker {
	pthread_t thread;
	struct harness *harness;
	uint32_t device;
	uint32_t first;
	uint64_t chance;
	uint32_t version; /* each worker counts its own */
	struct cell cells[RANGE];
	uint8_t *buffer;
	pthread_mutex_t *lock; /* of all workers */
	const char *failure;   /* NULL: none. A thread must not jump out of a test. */
};

static void begin_change(struct worker *worker, uint32_t at, uint32_t count, uint32_t version)
{
	(void)pthread_mutex_lock(worker->lock);
	for (uint32_t i = at; i < at + count; i++) {
		worker->cells[i].newest = version;
		worker->cells[i].was_trimmed |= version == 0;
	}
	(void)pthread_mutex_unlock(worker->lock);
}

static bool write_some(struct worker *worker, uint32_t at, uint32_t count)
{
	uint32_t version = ++worker->version;
	const struct model *model = &worker->harness->model;

	for (uint32_t i = 0; i < count; i++)
		model_fill(model, worker->device, worker->first + at + i, version,
			   worker->buffer + (size_t)i * SZ_SECTOR_BYTES);
	begin_change(worker, at, count, version);
	return sz_device_write(sz_store_device(worker->harness->store, worker->device),
			       worker->first + at, count, worker->buffer) == 0;
}

static bool trim_some(struct worker *worker, uint32_t at, uint32_t count)
{
	begin_change(worker, at, count, 0);
	return sz_device_trim(sz_store_device(worker->harness->store, worker->device),
			      worker->first + at, count) == 0;
}

static bool read_some(struct worker *worker, uint32_t at, uint32_t count)
{
	struct sz_device *device = sz_store_device(worker->harness->store, worker->device);
	int result = -EAGAIN;

	if (chance_below(&worker->chance, 2) == 0)
		result = sz_device_read_cached(device, worker->first + at, count, worker->buffer);
	if (result == -EAGAIN)
		result = sz_device_read(device, worker->first + at, count, worker->buffer);
	if (result != 0)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t version = model_recognise(&worker->harness->model, worker->device,
						   worker->first + at + i,
						   worker->buffer + (size_t)i * SZ_SECTOR_BYTES);

		if (version != worker->cells[at + i].newest)
			return false;
	}
	return true;
}

static bool flush(struct worker *worker)
{
	if (sz_device_flush(sz_store_device(worker->harness->store, worker->device)) != 0)
		return false;
	(void)pthread_mutex_lock(worker->lock);
	for (uint32_t i = 0; i < RANGE; i++)
		worker->cells[i] = (struct cell){ .settled = worker->cells[i].newest,
						  .newest = worker->cells[i].newest };
	(void)pthread_mutex_unlock(worker->lock);
	return true;
}

static const char *work_once(struct worker *worker)
{
	uint64_t kind = chance_below(&worker->chance, 10);
	uint32_t at = (uint32_t)chance_below(&worker->chance, RANGE);
	uint32_t most = RANGE - at < 100 ? RANGE - at : 100;
	uint32_t count =
		1 + (uint32_t)chance_below(&worker->chance, kind < 3 ? most : (most + 9) / 10);

	if (kind < 5)
		return write_some(worker, at, count) ? NULL : "a write failed";
	if (kind < 6)
		return trim_some(worker, at, count) ? NULL : "a TRIM failed";
	if (kind < 9)
		return read_some(worker, at, count) ? NULL : "a read failed, or was wrong";
	return flush(worker) ? NULL : "a flush failed";
}

static void *work(void *context)
{
	struct worker *worker = context;

	for (unsigned int i = 0; i < ROUNDS && worker->failure == NULL; i++)
		worker->failure = work_once(worker);
	return NULL;
}

struct sealer {
	pthread_t thread;
	struct harness *harness;
	atomic_bool stop;
	unsigned int seals;
	int rc;
};

static void *seal(void *context)
{
	struct sealer *sealer = context;
	struct sz_error error = { 0 };
	struct sz_store_info info;

	while (!atomic_load(&sealer->stop) && sealer->rc == 0) {
		sealer->rc = sz_store_seal(sealer->harness->store, &error);
		sz_store_info(sealer->harness->store, &info);
		sealer->seals++;
	}
	return NULL;
}

/* After a cut: what was flushed, or what was written or trimmed since. */
static bool is_possible(const struct cell *cell, uint32_t version)
{
	if (version == cell->settled || version == cell->newest)
		return true;
	return version == 0 ? cell->was_trimmed : version > cell->settled && version < MODEL_ANY;
}

static void check_worker(struct worker *worker, bool is_reopened, bool is_after_cut)
{
	struct harness *harness = worker->harness;
	uint32_t wrong = 0;

	OK(sz_device_read(sz_store_device(harness->store, worker->device), worker->first, RANGE,
			  worker->buffer));
	for (uint32_t i = 0; i < RANGE; i++) {
		struct cell *cell = &worker->cells[i];
		uint32_t version =
			model_recognise(&harness->model, worker->device, worker->first + i,
					worker->buffer + (size_t)i * SZ_SECTOR_BYTES);
		bool is_right = is_after_cut ? is_possible(cell, version) : version == cell->newest;

		if (!is_right && wrong++ == 0)
			printf("# device %" PRIu32 ", sector %" PRIu32 ": version %" PRIu32
			       ", settled %" PRIu32 ", newest %" PRIu32 "\n",
			       worker->device, worker->first + i, version, cell->settled,
			       cell->newest);
		if (is_reopened)
			*cell = (struct cell){ .settled = version, .newest = version };
	}
	assert_int_equal(wrong, 0);
}

static void run_threads(struct harness *harness, struct worker *workers)
{
	struct sealer sealer = { .harness = harness };

	for (uint32_t i = 0; i < WORKERS; i++)
		OK(pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	OK(pthread_create(&sealer.thread, NULL, seal, &sealer));
	for (uint32_t i = 0; i < WORKERS; i++)
		OK(pthread_join(workers[i].thread, NULL));
	atomic_store(&sealer.stop, true);
	OK(pthread_join(sealer.thread, NULL));
	for (uint32_t i = 0; i < WORKERS; i++) {
		if (workers[i].failure != NULL)
			fail_msg("worker %" PRIu32 ": %s", i, workers[i].failure);
	}
	OK(sealer.rc);
	assert_true(sealer.seals > 0);
}

static struct worker *workers_make(struct harness *harness, pthread_mutex_t *lock)
{
	struct worker *workers = calloc(WORKERS, sizeof(*workers));

	assert_non_null(workers);
	harness->model.next_version = MODEL_ANY; /* the workers count, not the model */
	for (uint32_t i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .harness = harness,
					      .device = i % 2,
					      .first = 20 + i / 2 * RANGE,
					      .chance = chance(&harness->chance),
					      .buffer = malloc((size_t)RANGE * SZ_SECTOR_BYTES),
					      .lock = lock };
		assert_non_null(workers[i].buffer);
	}
	return workers;
}

static void workers_free(struct worker *workers)
{
	for (uint32_t i = 0; i < WORKERS; i++)
		free(workers[i].buffer);
	free(workers);
}

static void test_threads(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct harness harness;
	struct worker *workers;
	uint64_t seed = chance_seed("threads");

	(void)state;
	harness_init(&harness, &shape, seed);
	harness_open_clean(&harness);
	workers = workers_make(&harness, &lock);
	for (unsigned int round = 0; round < 6; round++) {
		run_threads(&harness, workers);
		for (uint32_t i = 0; i < WORKERS; i++)
			check_worker(&workers[i], false, false);
		assert_int_equal(harness_damage(&harness, true), 0);
		if (round % 2 == 0)
			OK(harness_close(&harness));
		else
			harness_abandon(&harness);
		harness_cut(&harness, round % 4 == 3 ? SZ_CRASH_TORN : SZ_CRASH_DROP, seed);
		harness_check_names(&harness);
		harness_open_clean(&harness);
		for (uint32_t i = 0; i < WORKERS; i++)
			check_worker(&workers[i], true, round % 2 != 0);
	}
	OK(harness_close(&harness));
	harness_fini(&harness);
	workers_free(workers);
}

/* What the disks and the workers were when the power was cut. */
struct moment {
	pthread_mutex_t lock; /* the workers', too: held while the disks are cut */
	struct harness *harness;
	struct worker *workers;
	uint64_t left; /* changes until then */
	struct sz_backend *disks[MODEL_DEVICES_MAX];
	struct cell cells[WORKERS][RANGE];
};

static void cut_when_it_is_time(void *context)
{
	struct moment *moment = context;

	(void)pthread_mutex_lock(&moment->lock);
	if (moment->left > 0 && --moment->left == 0) {
		for (uint32_t i = 0; i < WORKERS; i++)
			memcpy(moment->cells[i], moment->workers[i].cells,
			       sizeof(moment->cells[i]));
		for (uint32_t i = 0; i < shape.devices; i++)
			OK(sz_memory_crash(moment->harness->disks[i], SZ_CRASH_REORDER,
					   chance(&moment->harness->chance), &moment->disks[i]));
	}
	(void)pthread_mutex_unlock(&moment->lock);
}

/* The power goes while all are at work: what each had flushed by then is there. */
static void cut_once(uint64_t seed)
{
	struct moment *moment = calloc(1, sizeof(*moment));
	struct harness harness;
	struct harness after;

	assert_non_null(moment);
	(void)pthread_mutex_init(&moment->lock, NULL);
	harness_init(&harness, &shape, seed);
	harness_open_clean(&harness);
	moment->harness = &harness;
	moment->left = 50 + chance_below(&harness.chance, 1000);
	moment->workers = workers_make(&harness, &moment->lock);
	harness.plan = (struct sz_fault_plan){ .mask = SZ_OP_CHANGES,
					       .fail_at = 1,
					       .fail_from = true,
					       .at = cut_when_it_is_time,
					       .at_context = moment };
	run_threads(&harness, moment->workers);
	assert_int_equal(moment->left, 0);
	harness_fork(&harness, moment->disks, &after);
	harness_open_clean(&after);
	for (uint32_t i = 0; i < WORKERS; i++) {
		memcpy(moment->workers[i].cells, moment->cells[i], sizeof(moment->cells[i]));
		moment->workers[i].harness = &after;
		check_worker(&moment->workers[i], true, true);
	}
	harness_fini(&after);
	harness_fini(&harness);
	workers_free(moment->workers);
	(void)pthread_mutex_destroy(&moment->lock);
	free(moment);
}

static void test_power_cuts_among_threads(void **state)
{
	uint64_t seed = chance_seed("power cuts among threads");

	(void)state;
	for (uint64_t i = 0; i < 10 * test_scale(); i++)
		cut_once(seed + i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_power_cuts_among_threads),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
