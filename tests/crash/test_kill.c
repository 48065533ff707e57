/*
 * Real folders, real processes: a child writes, flushes and seals in a loop and says after each
 * operation that it is done; it is killed at any moment, and what it was told to be durable is
 * there. And `cp -r` of the store while the child writes gives a store.
 *
 * What the child does follows from a seed and a number, so that the parent's model can follow it.
 */
#include "../device/paths.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct shape shape = { .devices = 3, .sectors = 1088, .band_sectors = 256 };

/* Operation number `number`, on the store, or (is_dry) in the model alone. */
static int operation(struct harness *harness, uint64_t number, bool with_seals, bool is_dry)
{
	uint64_t state = harness->model.seed ^ (number << 20);
	uint32_t device = (uint32_t)chance_below(&state, shape.devices);
	uint64_t kind = chance_below(&state, 20);
	uint32_t count = 1 + (uint32_t)chance_below(&state, kind < 5 ? 200 : 12);
	uint64_t sector = chance_below(&state, shape.sectors - count);

	if (kind < 12) {
		if (!is_dry)
			return harness_write(harness, device, sector, count);
		(void)model_write(&harness->model, device, sector, count);
	} else if (kind < 14) {
		if (!is_dry)
			return harness_trim(harness, device, sector, count);
		(void)model_trim(&harness->model, device, sector, count);
	} else if (kind < 19 || !with_seals) {
		if (!is_dry)
			return harness_flush(harness, device);
		model_settle(&harness->model, device, harness->model.length);
	} else {
		if (!is_dry)
			return harness_seal(harness);
		for (uint32_t i = 0; i < shape.devices; i++)
			model_settle(&harness->model, i, harness->model.length);
	}
	return 0;
}

static bool is_change(const struct harness *harness, uint64_t number)
{
	uint64_t state = harness->model.seed ^ (number << 20);

	(void)chance_below(&state, shape.devices);
	return chance_below(&state, 20) < 14;
}

struct child {
	pid_t pid;
	int done; /* a byte for each operation that is done; the first: the store is open */
};

static void child_main(struct place *place, int done, uint64_t first, bool with_seals)
{
	struct harness *harness = &place->harness;

	if (sz_crypto_init(NULL) != 0 || place_try_open(place, place->path, false) != 0)
		_exit(2);
	if (sz_write(done, "o", 1) != 0)
		_exit(3);
	for (uint64_t number = first;; number++) {
		if (operation(harness, number, with_seals, false) != 0)
			_exit(4);
		if (sz_write(done, "x", 1) != 0)
			_exit(5);
	}
}

static struct child start(struct place *place, uint64_t first, bool with_seals)
{
	struct child child;
	int ends[2];
	char byte = 0;

	OK(pipe(ends));
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		(void)close(ends[0]);
		child_main(place, ends[1], first, with_seals);
	}
	(void)close(ends[1]);
	child.done = ends[0];
	assert_int_equal(read(child.done, &byte, 1), 1);
	return child;
}

/* Kills the child and returns how many operations it has done, for sure. */
static uint64_t stop(struct child *child)
{
	char bytes[4096];
	uint64_t count = 0;
	ssize_t length;
	int status;

	OK(kill(child->pid, SIGKILL));
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	assert_true(WIFSIGNALED(status)); /* else it had failed before */
	while ((length = read(child->done, bytes, sizeof(bytes))) > 0)
		count += (uint64_t)length;
	(void)close(child->done);
	return count;
}

/* The model follows the child; of the operation after the last one done it knows only the attempt. */
static void follow(struct harness *harness, uint64_t first, uint64_t count, bool with_seals)
{
	for (uint64_t number = first; number < first + count; number++)
		OK(operation(harness, number, with_seals, true));
	if (is_change(harness, first + count))
		OK(operation(harness, first + count, with_seals, true));
}

static void wait_ms(uint64_t ms)
{
	(void)poll(NULL, 0, (int)ms);
}

static void test_killed_at_any_moment(void **state)
{
	struct place place;
	uint64_t first = 1;
	uint64_t total = 0;

	(void)state;
	place_init(&place, &shape, chance_seed("kill"));
	for (unsigned int round = 0; round < 15; round++) {
		struct child child = start(&place, first, true);
		uint64_t count;

		wait_ms(chance_below(&place.harness.chance, 120));
		count = stop(&child);
		follow(&place.harness, first, count, true);
		first += count + 2;
		total += count;
		place_open(&place);
		harness_check_recovered(&place.harness);
		if (round % 2 == 0)
			OK(harness_close(&place.harness));
		else
			harness_abandon(&place.harness);
	}
	assert_true(total > 20);
	place_fini(&place);
}

static void remove_live(const char *path)
{
	char folders[8][PATH_BYTES];
	size_t count = device_folders(path, folders, 8);

	for (size_t i = 0; i < count; i++) {
		char live[2 * PATH_BYTES];

		(void)snprintf(live, sizeof(live), "%s/" SZ_LIVE_FOLDER, folders[i]);
		if (access(live, F_OK) == 0)
			remove_tree(live);
	}
}

static void open_copy(struct place *place, const char *path, size_t least)
{
	struct harness *harness = &place->harness;
	int rc = place_try_open(place, path, false);

	if (rc != 0)
		fail_msg("the copy does not open: %d, %s", rc, harness->error.text);
	assert_int_equal(harness_damage(harness, true), 0);
	for (uint32_t i = 0; i < shape.devices; i++)
		OK(harness_observe(harness, i));
	assert_true(model_is_instant(&harness->model, harness->observed, least, true));
	harness_abandon(harness);
}

static void test_copied_while_it_is_written(void **state)
{
	uint64_t seed = chance_seed("cp -r");

	(void)state;
	for (unsigned int round = 0; round < 6; round++) {
		struct place place;
		struct child child;
		char copy[2 * PATH_BYTES];
		size_t least;

		place_init(&place, &shape, seed + round);
		place_open(&place);
		for (uint64_t number = 1000; number < 1030; number++)
			OK(operation(&place.harness, number, true, false));
		OK(harness_close(&place.harness));
		least = place.harness.model.length;
		child = start(&place, 1, false);
		wait_ms(chance_below(&place.harness.chance, 100));
		(void)snprintf(copy, sizeof(copy), "%s/copy", place.top);
		copy_tree(place.path, copy);
		follow(&place.harness, 1, stop(&child), false);
		if (round % 2 == 0)
			remove_live(copy);
		open_copy(&place, copy, least);
		place_open(&place);
		harness_check_recovered(&place.harness);
		OK(harness_close(&place.harness));
		place_fini(&place);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_at_any_moment),
		cmocka_unit_test(test_copied_while_it_is_written),
	};

	return cmocka_run_group_tests(tests, set_up_crypto, NULL);
}
