/*
 * Many threads at once: each writes, reads, trims and flushes a range of its own on a device that
 * others use too, while one thread seals in a loop. Each reads back what it wrote; after a power cut
 * in the middle, what it had flushed is there, and nothing that it did not write.
 */
#include "harness.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#define WORKERS 6U
#define RANGE   400U /* sectors of a worker: 1 to 3 bands, shared at their ends with others */
#define ROUNDS  250U

static const struct shape shape = { .devices = 2, .sectors = 1280, .band_sectors = 256 };

/* What one sector may hold: a worker's own affair, so without locks. */
struct cell {
	uint32_t settled; /* version */
	uint32_t newest;
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
	const char *failure; /* NULL: none. A thread must not jump out of a test. */
};

static void begin_change(struct worker *worker, uint32_t at, uint32_t count, uint32_t version)
{
	for (uint32_t i = at; i < at + count; i++)
		worker->cells[i].newest = version;
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
	if (sz_device_read(sz_store_device(worker->harness->store, worker->device),
			   worker->first + at, count, worker->buffer) != 0)
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
	for (uint32_t i = 0; i < RANGE; i++)
		worker->cells[i].settled = worker->cells[i].newest;
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

static void check_worker(struct worker *worker, bool is_reopened, bool is_after_cut)
{
	struct harness *harness = worker->harness;
	uint32_t wrong = 0;

	OK(sz_device_read(sz_store_device(harness->store, worker->device), worker->first, RANGE,
			  harness->buffer));
	for (uint32_t i = 0; i < RANGE; i++) {
		struct cell *cell = &worker->cells[i];
		uint32_t version =
			model_recognise(&harness->model, worker->device, worker->first + i,
					harness->buffer + (size_t)i * SZ_SECTOR_BYTES);
		/* After a cut: what was flushed, or what was written since, or trimmed. */
		bool is_right =
			version == cell->newest ||
			(is_after_cut && (version == cell->settled || version == 0 ||
					  (version > cell->settled && version != MODEL_GARBAGE)));

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

static void test_threads(void **state)
{
	struct worker *workers = calloc(WORKERS, sizeof(*workers));
	struct harness harness;
	uint64_t seed = chance_seed("threads");

	(void)state;
	assert_non_null(workers);
	harness_init(&harness, &shape, seed);
	harness.model.next_version = MODEL_ANY; /* the workers count, not the model */
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .harness = &harness,
					      .device = i % 2,
					      .first = 20 + i / 2 * RANGE,
					      .chance = seed + i,
					      .buffer = malloc((size_t)RANGE * SZ_SECTOR_BYTES) };
		assert_non_null(workers[i].buffer);
	}
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
	for (uint32_t i = 0; i < WORKERS; i++)
		free(workers[i].buffer);
	free(workers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
