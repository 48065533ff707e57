/*
 * sealer: while a process keeps a pool or a store open, a thread of its own ends the generation every so often. So
 * what is copied meanwhile lacks no more than that.
 *
 * Nothing written: no new generation. A seal that fails is tried again, at the latest after RETRY_S; it is
 * told on standard error, once for each cause, and by status for as long as it lasts.
 */
#include "cli/cli.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define RETRY_S 60U

struct sealer {
	const char *store; /* as it was opened */
	struct session session;
	uint64_t interval_s;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t stopped;
	/* Under lock: */
	bool is_stopping;
	char problem[SEALER_TEXT_BYTES]; /* "": the last seal went well */
};

static void problem_set(struct sealer *sealer, const char *text)
{
	(void)pthread_mutex_lock(&sealer->lock);
	if (text[0] != '\0' && strcmp(sealer->problem, text) != 0)
		(void)fprintf(console_err(), "szpool: %s: %s; it is tried again\n", sealer->store,
			      text);
	(void)snprintf(sealer->problem, sizeof(sealer->problem), "%s", text);
	(void)pthread_mutex_unlock(&sealer->lock);
}

static int seal(struct sealer *sealer)
{
	struct sz_error error = { 0 };
	int result = sealer->session.pool == NULL ? 0 : sz_pool_sync(sealer->session.pool, &error);

	if (result == 0)
		result = sz_store_seal(sealer->session.store, &error);
	problem_set(sealer, result == 0 ? "" : text_after_store(error.text, sealer->store));
	return result;
}

/* False: it was stopped. */
static bool wait_s(struct sealer *sealer, uint64_t seconds)
{
	struct timespec until;
	bool goes_on;
	int result = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	(void)pthread_mutex_lock(&sealer->lock);
	while (!sealer->is_stopping && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&sealer->stopped, &sealer->lock, &until);
	goes_on = !sealer->is_stopping;
	(void)pthread_mutex_unlock(&sealer->lock);
	return goes_on;
}

static void *sealer_run(void *argument)
{
	struct sealer *sealer = argument;
	uint64_t next_s = sealer->interval_s;

	(void)pthread_setname_np(pthread_self(), "sealer");
	while (wait_s(sealer, next_s)) {
		next_s = sealer->interval_s;
		if (seal(sealer) != 0 && next_s > RETRY_S)
			next_s = RETRY_S;
	}
	return NULL;
}

static void sealer_free(struct sealer *sealer)
{
	(void)pthread_mutex_destroy(&sealer->lock);
	(void)pthread_cond_destroy(&sealer->stopped);
	free(sealer);
}

int sealer_start(struct invocation *invocation, struct session *session)
{
	uint64_t interval_s = invocation->options.seal_interval_s;
	pthread_condattr_t monotonic;
	struct sealer *sealer;
	int result;

	if (interval_s == 0 || sz_store_is_read_only(session->store) ||
	    sz_store_is_volatile(session->store))
		return 0;
	sealer = calloc(1, sizeof(*sealer));
	if (sealer == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory");
	*sealer = (struct sealer){ .store = invocation->operands[0],
				   .session = *session,
				   .interval_s = interval_s };
	(void)pthread_mutex_init(&sealer->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&sealer->stopped, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	result = pthread_create(&sealer->thread, NULL, sealer_run, sealer);
	if (result != 0) {
		sealer_free(sealer);
		return sz_fail(&invocation->error, -result, "cannot start a thread");
	}
	session->sealer = sealer;
	return 0;
}

void sealer_stop(struct session *session)
{
	struct sealer *sealer = TAKE(session->sealer);

	if (sealer == NULL)
		return;
	(void)pthread_mutex_lock(&sealer->lock);
	sealer->is_stopping = true;
	(void)pthread_cond_signal(&sealer->stopped);
	(void)pthread_mutex_unlock(&sealer->lock);
	(void)pthread_join(sealer->thread, NULL);
	sealer_free(sealer);
}

void sealer_tell(struct sealer *sealer, uint64_t *interval_s_out, char problem[SEALER_TEXT_BYTES])
{
	*interval_s_out = 0;
	problem[0] = '\0';
	if (sealer == NULL)
		return;
	*interval_s_out = sealer->interval_s;
	(void)pthread_mutex_lock(&sealer->lock);
	memcpy(problem, sealer->problem, SEALER_TEXT_BYTES);
	(void)pthread_mutex_unlock(&sealer->lock);
}
