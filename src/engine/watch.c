/*
 * watch: notices that the pool is suspended. ZFS suspends a pool that lost too many leaves or that no
 * leaf takes writes for; from then on every write, sync and export blocks, with no way to give up. So
 * the one who opened the pool is told from a thread of its own, and in general ends the process:
 * nothing that was flushed is lost by that (docs/DESIGN.md).
 *
 * While the pool is created, imported or exported its spa_t comes and goes at any moment and is not looked at: then a
 * pool counts as suspended when a leaf has failed and no leaf has had anything to do for BLIND_LIMIT_NS.
 */
#include "engine/engine_internal.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define POLL_NS        (100ULL * 1000 * 1000)
#define BLIND_LIMIT_NS (5ULL * 1000 * 1000 * 1000)

struct sz_watch {
	struct sz_pool *pool;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under lock: */
	bool stopping;
	bool told;     /* of this suspension */
	bool is_blind; /* pool->spa is not to be looked at */
	/* As they were at the start: */
	sz_pool_suspended_fn *function;
	void *context;
};

static sz_pool_suspended_fn *suspended_function;
static void *suspended_context;

int sz_pool_suspended(struct sz_store *store, struct sz_error *error)
{
	struct sz_leaf_failure failure = sz_leaf_last_failure();
	const char *folder = "";

	if (failure.code != 0 && failure.device < sz_store_device_count(store))
		folder = sz_device_folder(sz_store_device(store, failure.device));
	if (failure.code == -ENOSPC)
		return sz_fail(error, -ENOSPC,
			       "the pool is suspended: no space is left for device %u (%s); make "
			       "room and repeat: what was synced before is safe",
			       failure.device, folder);
	if (failure.code != 0)
		return sz_fail(error, -EIO,
			       "the pool is suspended: device %u (%s) fails: %s; what was synced "
			       "before is safe",
			       failure.device, folder, strerror(-failure.code));
	return sz_fail(error, -EIO,
		       "the pool is suspended: too many devices fail; what was synced before is "
		       "safe");
}

/* Under lock. */
static bool is_suspended(const struct sz_watch *watch)
{
	if (!watch->is_blind)
		return spa_suspended(watch->pool->spa);
	return sz_leaf_last_failure().code != 0 && sz_leaf_idle_ns() > BLIND_LIMIT_NS;
}

static void *watch_run(void *argument)
{
	struct sz_watch *watch = argument;

	(void)pthread_setname_np(pthread_self(), "sz-watch");
	(void)pthread_mutex_lock(&watch->lock);
	while (!watch->stopping) {
		uint64_t wake_ns = sz_clock_ns() + POLL_NS;
		const struct timespec wake = { .tv_sec = (time_t)(wake_ns / 1000000000),
					       .tv_nsec = (long)(wake_ns % 1000000000) };
		bool suspended = is_suspended(watch);

		if (suspended && !watch->told && watch->function != NULL) {
			sz_pool_suspended_fn *function = watch->function;
			struct sz_error error = { 0 };

			watch->told = true;
			(void)pthread_mutex_unlock(&watch->lock);
			(void)sz_pool_suspended(watch->pool->store, &error);
			function(watch->context, &error);
			(void)pthread_mutex_lock(&watch->lock);
		}
		if (!suspended)
			watch->told = false;
		if (!watch->stopping)
			(void)pthread_cond_timedwait(&watch->changed, &watch->lock, &wake);
	}
	(void)pthread_mutex_unlock(&watch->lock);
	return NULL;
}

int sz_watch_start(struct sz_pool *pool)
{
	struct sz_watch *watch = calloc(1, sizeof(*watch));
	pthread_condattr_t monotonic;
	int result;

	if (watch == NULL)
		return -ENOMEM;
	watch->pool = pool;
	watch->is_blind = true;
	watch->function = suspended_function;
	watch->context = suspended_context;
	(void)pthread_mutex_init(&watch->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&watch->changed, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	result = pthread_create(&watch->thread, NULL, watch_run, watch);
	if (result != 0) {
		free(watch);
		return -result;
	}
	pool->watch = watch;
	return 0;
}

void sz_watch_blind(struct sz_pool *pool, bool is_blind)
{
	(void)pthread_mutex_lock(&pool->watch->lock);
	pool->watch->is_blind = is_blind;
	(void)pthread_mutex_unlock(&pool->watch->lock);
}

void sz_watch_stop(struct sz_pool *pool)
{
	struct sz_watch *watch = TAKE(pool->watch);

	(void)pthread_mutex_lock(&watch->lock);
	watch->stopping = true;
	(void)pthread_cond_signal(&watch->changed);
	(void)pthread_mutex_unlock(&watch->lock);
	(void)pthread_join(watch->thread, NULL);
	(void)pthread_mutex_destroy(&watch->lock);
	(void)pthread_cond_destroy(&watch->changed);
	free(watch);
}

void sz_pool_on_suspend(sz_pool_suspended_fn *function, void *context)
{
	suspended_function = function;
	suspended_context = context;
}
