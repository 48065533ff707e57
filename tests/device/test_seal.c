/*
 * A seal, and those who write meanwhile: no step of it that touches a disk holds a writer up. And the logs
 * that it makes for the next epoch: until something is written to them they are nothing.
 */
#include "objects.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 20 /* of a seal for a writer that should not wait for it */

static const struct shape shape = { .devices = 3, .sectors = 4096, .band_sectors = 256 };

/* One thread seals; before each operation of it on a disk the other one writes, and is waited for. */
struct duet {
	struct harness *harness;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t turn;
	bool is_writers; /* turn */
	bool is_over;
	bool is_stuck;
	unsigned int steps;
	int rc;
};

static _Thread_local bool is_sealer;

static void turn_set(struct duet *duet, bool is_writers)
{
	duet->is_writers = is_writers;
	(void)pthread_cond_broadcast(&duet->turn);
}

static void before_each_step(void *context)
{
	struct duet *duet = context;
	struct timespec end;

	if (!is_sealer)
		return;
	(void)clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE_S;
	(void)pthread_mutex_lock(&duet->lock);
	duet->steps++;
	if (!duet->is_stuck)
		turn_set(duet, true);
	while (duet->is_writers && !duet->is_stuck)
		duet->is_stuck =
			pthread_cond_timedwait(&duet->turn, &duet->lock, &end) == ETIMEDOUT;
	(void)pthread_mutex_unlock(&duet->lock);
}

static void *seal(void *context)
{
	struct duet *duet = context;
	struct sz_error error = { 0 };

	is_sealer = true;
	duet->rc = sz_store_seal(duet->harness->store, &error);
	(void)pthread_mutex_lock(&duet->lock);
	duet->is_over = true;
	turn_set(duet, true);
	(void)pthread_mutex_unlock(&duet->lock);
	return NULL;
}

/* Of everything that must not wait: the log, a new band, the hot area, TRIM, reading. */
static void write_some(struct harness *harness, unsigned int step)
{
	uint32_t device = step % shape.devices;

	OK(harness_write(harness, device, 300 + step % 500, 3));
	OK(harness_write(harness, device, 1024 + step * 16 % 2560, 16));
	OK(harness_write(harness, device, step % 100, 2));
	OK(harness_trim(harness, device, 200 + step % 700, 2));
	OK(sz_device_read(sz_store_device(harness->store, device), 0, 300, harness->buffer));
}

static void test_writers_wait_for_no_disk(void **state)
{
	struct harness harness;
	struct duet duet = { .harness = &harness };
	pthread_t sealer;

	(void)state;
	harness_init(&harness, &shape, chance_seed("duet"));
	harness_open_clean(&harness);
	for (uint32_t i = 0; i < shape.devices; i++) {
		OK(harness_write(&harness, i, 256, 512)); /* two bands */
		OK(harness_write(&harness, i, 800, 40));  /* one that stays open */
		OK(harness_write(&harness, i, 1200, 9));
		OK(harness_write(&harness, i, 3, 3));
	}
	(void)pthread_mutex_init(&duet.lock, NULL);
	(void)pthread_cond_init(&duet.turn, NULL);
	(void)pthread_mutex_lock(&duet.lock);
	harness.plan = (struct sz_fault_plan){ .mask = UINT32_MAX,
					       .fail_at = 1,
					       .fail_from = true,
					       .at = before_each_step,
					       .at_context = &duet };
	OK(pthread_create(&sealer, NULL, seal, &duet));
	for (unsigned int step = 0; !duet.is_over; step++) {
		while (!duet.is_writers)
			(void)pthread_cond_wait(&duet.turn, &duet.lock);
		(void)pthread_mutex_unlock(&duet.lock);
		write_some(&harness, step);
		(void)pthread_mutex_lock(&duet.lock);
		if (!duet.is_over)
			turn_set(&duet, false);
	}
	(void)pthread_mutex_unlock(&duet.lock);
	OK(pthread_join(sealer, NULL));
	harness.plan = (struct sz_fault_plan){ 0 };
	OK(duet.rc);
	assert_false(duet.is_stuck);
	printf("# %u steps\n", duet.steps);
	assert_true(duet.steps > 100);
	harness_check(&harness);
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
	(void)pthread_cond_destroy(&duet.turn);
	(void)pthread_mutex_destroy(&duet.lock);
}

/*
 * A thread that is held in the first operation of some kinds that it does on a disk, until another one, which
 * seals, waits for it or is done.
 */
struct hold {
	struct harness *harness;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t change;
	unsigned int seals;      /* to be made */
	const uint8_t *content;  /* of band 1 of device 0, to be written before; NULL: nothing */
	unsigned int least;      /* operations of the sealing thread before the held one goes on */
	unsigned int operations; /* of the sealing thread */
	bool is_held;
	bool was_held;
	bool is_over;
	bool was_over; /* when the held one went on */
	int rc;
};

static void pause_ms(long ms)
{
	const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&time, NULL);
}

static void hold_here(void *context)
{
	struct hold *hold = context;
	unsigned int before;

	(void)pthread_mutex_lock(&hold->lock);
	if (is_sealer)
		hold->operations++;
	if (!is_sealer && !hold->was_held) {
		hold->was_held = true;
		hold->is_held = true;
		(void)pthread_cond_broadcast(&hold->change);
		do { /* until it does nothing any more */
			before = hold->operations;
			(void)pthread_mutex_unlock(&hold->lock);
			pause_ms(300);
			(void)pthread_mutex_lock(&hold->lock);
		} while (!hold->is_over &&
			 (hold->operations < hold->least || hold->operations != before));
		hold->was_over = hold->is_over;
	}
	(void)pthread_mutex_unlock(&hold->lock);
}

static void *seal_when_held(void *context)
{
	struct hold *hold = context;
	struct sz_error error = { 0 };

	is_sealer = true;
	(void)pthread_mutex_lock(&hold->lock);
	while (!hold->is_held)
		(void)pthread_cond_wait(&hold->change, &hold->lock);
	(void)pthread_mutex_unlock(&hold->lock);
	if (hold->content != NULL)
		hold->rc = sz_device_write(sz_store_device(hold->harness->store, 0),
					   shape.band_sectors, shape.band_sectors, hold->content);
	for (unsigned int i = 0; i < hold->seals && hold->rc == 0; i++)
		hold->rc = sz_store_compact(hold->harness->store, &error);
	(void)pthread_mutex_lock(&hold->lock);
	hold->is_over = true;
	(void)pthread_mutex_unlock(&hold->lock);
	return NULL;
}

static void hold_begin(struct hold *hold, struct harness *harness, unsigned int mask,
		       pthread_t *sealer)
{
	hold->harness = harness;
	(void)pthread_mutex_init(&hold->lock, NULL);
	(void)pthread_cond_init(&hold->change, NULL);
	harness->plan = (struct sz_fault_plan){
		.mask = mask, .fail_at = 1, .fail_from = true, .at = hold_here, .at_context = hold
	};
	OK(pthread_create(sealer, NULL, seal_when_held, hold));
}

static void hold_end(struct hold *hold, pthread_t sealer)
{
	OK(pthread_join(sealer, NULL));
	hold->harness->plan = (struct sz_fault_plan){ 0 };
	OK(hold->rc);
	assert_true(hold->was_held);
	(void)pthread_cond_destroy(&hold->change);
	(void)pthread_mutex_destroy(&hold->lock);
}

/* The epoch ends while slots of an open band are being written: the seal waits, the write goes to the log. */
static void test_a_write_that_is_under_way(void **state)
{
	struct hold hold = { .seals = 1,
			     .least = 4 * shape.devices }; /* the next logs, then the gate */
	struct harness harness;
	pthread_t sealer;

	(void)state;
	harness_init(&harness, &shape, chance_seed("under way"));
	harness_open_clean(&harness);
	OK(harness_write(&harness, 0, 256, 64));
	OK(harness_write(&harness, 1, 700, 5));
	hold_begin(&hold, &harness, SZ_OP_CREATE | SZ_OP_WRITE | SZ_OP_SYNC | SZ_OP_SYNC_FOLDER,
		   &sealer);
	OK(harness_write(&harness, 0, 320, 60));
	hold_end(&hold, sealer);
	assert_false(hold.was_over); /* it has waited */
	harness_check(&harness);
	harness_check_names(&harness);
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	harness_check(&harness);
	harness_check_names(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/*
 * What a reader has found is there until he has read it: he is about to open a band, which is written anew
 * as a whole, sealed, compacted away, and superseded often enough to be removed.
 */
static void test_a_reader_that_is_under_way(void **state)
{
	CLEANUP_FREE uint8_t *content = malloc((size_t)shape.band_sectors * SZ_SECTOR_BYTES);
	struct hold hold = { .seals = 4, .least = 1, .content = content };
	struct harness harness;
	pthread_t sealer;

	(void)state;
	assert_non_null(content);
	harness_init(&harness, &shape, chance_seed("reader"));
	harness_open_clean(&harness);
	OK(harness_write(&harness, 0, shape.band_sectors, shape.band_sectors));
	OK(sz_device_read(sz_store_device(harness.store, 0), shape.band_sectors, shape.band_sectors,
			  content));
	OK(harness_close(&harness));
	harness_open_clean(&harness); /* no object is open */
	hold_begin(&hold, &harness, UINT32_MAX, &sealer);
	OK(sz_device_read(sz_store_device(harness.store, 0), shape.band_sectors, 1,
			  harness.buffer));
	assert_memory_equal(harness.buffer, content, SZ_SECTOR_BYTES);
	hold_end(&hold, sealer);
	assert_false(hold.was_over);
	harness_check(&harness);
	assert_int_equal(harness_damage(&harness, true), 0);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

/* Of the epochs: the spare is always there. */
static size_t count_live(struct harness *harness)
{
	struct objects objects;
	size_t count = 0;

	objects_list(harness, &objects);
	for (size_t i = 0; i < objects.count; i++)
		count += objects.list[i].part == SZ_LIVE && objects.list[i].kind != SZ_KIND_SPARE;
	objects_free(&objects);
	return count;
}

static uint64_t generation(struct harness *harness, bool recovered)
{
	struct sz_store_info info;

	sz_store_info(harness->store, &info);
	assert_int_equal(info.recovered, recovered);
	return info.generation;
}

/* The logs of an epoch in which nothing was written: nothing is recovered from them. */
static void test_prepared_logs_say_nothing(void **state)
{
	struct harness harness;
	uint64_t sealed;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	OK(harness_write(&harness, 1, 300, 5));
	OK(harness_seal(&harness));
	OK(harness_flush_all(&harness)); /* there is nothing to flush */
	sealed = generation(&harness, false);
	assert_int_equal(count_live(&harness), shape.devices);
	for (unsigned int crash = SZ_CRASH_CLEAN; crash <= SZ_CRASH_TORN; crash++) {
		harness_abandon(&harness);
		harness_cut(&harness, (enum sz_crash)crash, 3);
		harness_open_clean(&harness);
		assert_int_equal(generation(&harness, false), sealed);
		assert_int_equal(count_live(&harness), 0);
		harness_check(&harness);
		OK(harness_write(&harness, 2, 310, 5));
		OK(harness_seal(&harness));
		sealed = generation(&harness, false);
	}
	OK(harness_close(&harness));
	assert_int_equal(count_live(&harness), 0); /* and a closed store has none */
	harness_fini(&harness);
}

/* Those that an opening left, and that could not be removed, do not hide the next one's. */
static void test_prepared_logs_hide_no_others(void **state)
{
	struct harness harness;

	(void)state;
	harness_init(&harness, &shape, 1);
	harness_open_clean(&harness);
	OK(harness_write(&harness, 1, 300, 5));
	OK(harness_seal(&harness));
	for (unsigned int i = 0; i < 3; i++) {
		harness_abandon(&harness);
		harness.plan = (struct sz_fault_plan){
			.mask = SZ_OP_REMOVE, .fail_at = 1, .fail_from = true, .error = -EIO
		};
		harness_open_clean(&harness);
		assert_int_equal(generation(&harness, false), 2);
		assert_true(count_live(&harness) >= shape.devices);
		harness.plan = (struct sz_fault_plan){ 0 };
		if (i == 2)
			OK(harness_write(&harness, 0, 900, 50));
	}
	OK(harness_write(&harness, 1, 302, 5));
	OK(harness_flush_all(&harness));
	harness_abandon(&harness);
	harness_cut(&harness, SZ_CRASH_DROP, 0);
	harness_open_clean(&harness);
	assert_int_equal(generation(&harness, true), 3);
	harness_check(&harness);
	OK(harness_close(&harness));
	harness_fini(&harness);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writers_wait_for_no_disk),
		cmocka_unit_test(test_a_write_that_is_under_way),
		cmocka_unit_test(test_a_reader_that_is_under_way),
		cmocka_unit_test(test_prepared_logs_say_nothing),
		cmocka_unit_test(test_prepared_logs_hide_no_others),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
