/*
 * reopen: what a mount does when its pool is suspended.
 *
 * What ZFS has accepted, and the devices have failed to keep, is lost, and ZFS does not know what that was: a pool that
 * was suspended must not be resumed. Nor can it be closed, and the threads that wait in it wait for ever. So the
 * program takes its own place: exec, with the descriptor of the mount and the passphrase in a pipe. What is open in the
 * mount stays broken, so that nobody who writes there takes for written what is lost; who opens it anew goes on.
 *
 *   served → suspended, refused → exec → refused, the store is tried → open → the old mount goes → mounted anew → served
 */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define VARIABLE     "SZPOOL_REOPEN" /* DEVICE:NUMBER:PIPE:CODE:PAUSE, from one program to the next */
#define GRACE_MS     200U /* for threads to refuse what they have just taken from the kernel */
#define PAUSE_MIN_MS 500U /* between attempts; doubles. Each costs a derivation of the key. */
#define PAUSE_MAX_MS 8000U
#define STEADY_NS    (60 * UINT64_C(1000000000)) /* served so long: pauses are short again */

static char **arguments; /* the next program's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_allowed;                           /* under lock */
static unsigned int next_pause_ms = PAUSE_MIN_MS; /* under lock; from the program before */
static uint64_t opened_ns;                        /* under lock; 0: it is not open again */
/* Of the mount that is refused, from the program before; only that. */
static int old_device = -1; /* under lock */
static dev_t old_number;
static int old_code; /* a positive errno */
static struct sz_refusal *refusal;

/* "--name", or "--name=value". */
static int argument_add(const char *name, const char *value)
{
	static size_t capacity;
	static size_t count;
	char **grown = array_room(arguments, count + 1, &capacity, sizeof(*arguments));
	char *text;

	if (grown == NULL)
		return -ENOMEM;
	arguments = grown;
	if (value == NULL)
		text = strdup(name);
	else if (asprintf(&text, "%s=%s", name, value) < 0)
		text = NULL;
	arguments[count] = text;
	if (text == NULL)
		return -ENOMEM;
	arguments[++count] = NULL;
	return 0;
}

static int folders_add(const struct options *options)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < options->device_dir_count; i++) {
		CLEANUP_FREE char *path = realpath(options->device_dirs[i], NULL);

		result =
			argument_add("--device-dir", path != NULL ? path : options->device_dirs[i]);
	}
	return result;
}

/* Not --choose: what it has chosen is the newest by then. Nor where the passphrase comes from. */
static int options_add(const struct invocation *invocation)
{
	const struct options *options = &invocation->options;
	char memory[32];
	char interval[32];
	const struct {
		bool is_given;
		const char *name;
		const char *value;
	} given[] = {
		{ option_is_given(invocation, OPTION_QUIET), "--quiet", NULL },
		{ option_is_given(invocation, OPTION_READ_ONLY), "--read-only", NULL },
		{ option_is_given(invocation, OPTION_ALLOW_OTHER), "--allow-other", NULL },
		{ options->dataset != NULL, "--dataset", options->dataset },
		{ options->generation != NULL, "--generation", options->generation },
		{ options->memory_bytes != 0, "--memory", memory },
		{ true, "--seal-interval", options->seal_interval_s != 0 ? interval : "off" },
		{ options->mount_flags.length != 0, "--options",
		  (const char *)options->mount_flags.data },
	};
	int result = 0;

	(void)snprintf(memory, sizeof(memory), "%" PRIu64, options->memory_bytes);
	(void)snprintf(interval, sizeof(interval), "%" PRIu64 "s", options->seal_interval_s);
	for (size_t i = 0; result == 0 && i < ARRAY_LENGTH(given); i++)
		if (given[i].is_given)
			result = argument_add(given[i].name, given[i].value);
	return result;
}

int reopen_plan(struct invocation *invocation, const char *folder)
{
	int result = argument_add("szpool", NULL);

	if (result == 0)
		result = argument_add("mount", NULL);
	if (result == 0)
		result = argument_add("--foreground", NULL);
	if (result == 0)
		result = options_add(invocation);
	if (result == 0)
		result = folders_add(&invocation->options);
	if (result == 0)
		result = argument_add("--", NULL);
	if (result == 0)
		result = argument_add(invocation->operands[0], NULL);
	if (result == 0)
		result = argument_add(folder, NULL);
	return result == 0 ? 0 : sz_fail(&invocation->error, result, "no memory");
}

void reopen_allow(bool allowed)
{
	(void)pthread_mutex_lock(&lock);
	is_allowed = allowed;
	(void)pthread_mutex_unlock(&lock);
}

/* The passphrase goes through a pipe, which has room for it, into the next program's secret memory. */
static int hand_on(int device, dev_t number, int code, unsigned int pause_ms)
{
	char text[96];
	int ends[2];
	int result = pipe(ends) == 0 ? passphrase_hand_on(ends[1]) : -errno;

	if (result != 0)
		return result;
	(void)close(ends[1]);
	(void)snprintf(text, sizeof(text), "%d:%ju:%d:%d:%u", device, (uintmax_t)number, ends[0],
		       -code, pause_ms);
	return setenv(VARIABLE, text, 1) == 0 ? 0 : -errno;
}

void reopen_exec(int code)
{
	bool is_planned;
	unsigned int pause_ms;
	dev_t number;
	int device;

	(void)pthread_mutex_lock(&lock);
	is_planned = is_allowed && arguments != NULL;
	device = is_planned && old_device >= 0 ? dup(old_device) : -1;
	number = old_number;
	pause_ms = opened_ns != 0 && sz_clock_ns() - opened_ns > STEADY_NS ? PAUSE_MIN_MS
									   : next_pause_ms;
	(void)pthread_mutex_unlock(&lock);
	if (!is_planned)
		return;
	if (device < 0)
		device = serve_device(&number);
	sz_sleep_ms(GRACE_MS);
	/* Told to end, the next program would not know of it. */
	if (device >= 0 && interrupt_of(console_own()) == 0 &&
	    hand_on(device, number, code, pause_ms) == 0)
		(void)execv("/proc/self/exe", arguments);
}

/* The next number of the text; false: there is none, or not one within the limits. */
static bool number_take(const char **text, uint64_t least, uint64_t most, uint64_t *number_out)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	*number_out = strtoull(*text, &end, 10);
	if (errno != 0 || *number_out < least || *number_out > most ||
	    (*end != ':' && *end != '\0'))
		return false;
	*text = *end == ':' ? end + 1 : end;
	return true;
}

static bool variable_parse(const char *text, int *from_out)
{
	uint64_t device;
	uint64_t number;
	uint64_t from;
	uint64_t code;
	uint64_t pause_ms;

	if (!number_take(&text, STDERR_FILENO + 1, INT_MAX, &device) ||
	    !number_take(&text, 0, UINT64_MAX, &number) ||
	    !number_take(&text, STDERR_FILENO + 1, INT_MAX, &from) ||
	    !number_take(&text, 1, INT_MAX, &code) ||
	    !number_take(&text, PAUSE_MIN_MS, PAUSE_MAX_MS, &pause_ms) || *text != '\0' ||
	    (code != EIO && code != ENOSPC))
		return false;
	*from_out = (int)from;
	old_device = (int)device;
	old_number = (dev_t)number;
	old_code = (int)code;
	next_pause_ms = (unsigned int)pause_ms;
	return fcntl(old_device, F_SETFD, FD_CLOEXEC) == 0 &&
	       fcntl(*from_out, F_SETFD, FD_CLOEXEC) == 0;
}

bool reopen_begins(struct invocation *invocation, int *result_out)
{
	const char *text = getenv(VARIABLE);
	int from;

	*result_out = 0;
	if (text == NULL)
		return false;
	if (!variable_parse(text, &from)) {
		*result_out = sz_fail(&invocation->error, -EINVAL,
				      VARIABLE ": is no business of its caller");
		return true;
	}
	(void)unsetenv(VARIABLE);
	*result_out = passphrase_keep(invocation, from);
	(void)close(from);
	return true;
}

/* False: it was interrupted. */
static bool pause_take(void)
{
	struct pollfd wake = { .fd = console_own()->wake_fd, .events = POLLIN };
	unsigned int pause_ms;

	(void)pthread_mutex_lock(&lock);
	pause_ms = next_pause_ms;
	next_pause_ms = 2 * pause_ms < PAUSE_MAX_MS ? 2 * pause_ms : PAUSE_MAX_MS;
	(void)pthread_mutex_unlock(&lock);
	(void)poll(&wake, 1, (int)pause_ms);
	return interrupt_signal() == 0;
}

/* Is it of any use to try? Trying costs a derivation of the key. */
static bool store_may_open(const struct invocation *invocation, bool read_only)
{
	return access(invocation->operands[0], read_only ? R_OK : W_OK) == 0 &&
	       (read_only || !disk_is_full(invocation));
}

/* Not -ENODATA: a disk that is not mounted yet leaves an empty folder. */
static bool may_pass(int result)
{
	return result != -EKEYREJECTED && result != -EPROTONOSUPPORT && result != -EUCLEAN &&
	       result != -ESTALE;
}

/* From a thread: the main one is to end. */
static void unmounted(void *context)
{
	interrupt_set(context, SIGTERM);
}

static int session_try(struct invocation *invocation, bool read_only, struct session *session_out)
{
	struct sz_error told = { 0 };
	int result;

	do {
		if (!pause_take())
			return -EINTR;
		invocation->error = (struct sz_error){ 0 };
		result = -EAGAIN;
		if (store_may_open(invocation, read_only))
			result = session_open(invocation, read_only, SESSION_FS, session_out);
		if (result == 0 || !may_pass(result))
			return result;
		if (invocation->error.text[0] != '\0' &&
		    strcmp(invocation->error.text, told.text) != 0) {
			told = invocation->error;
			(void)fprintf(console_err(), "szpool: %s; it is tried again\n", told.text);
		}
	} while (true);
}

int reopen_refusal_end(const char *folder, struct sz_error *error)
{
	struct sz_refusal *ended = TAKE(refusal);

	if (ended == NULL)
		return 0;
	(void)pthread_mutex_lock(&lock);
	is_allowed = false;
	old_device = -1;
	(void)pthread_mutex_unlock(&lock);
	if (sz_refusal_end(ended) == 0)
		return 0;
	return sz_fail(error, -ECANCELED,
		       "%s: was unmounted, or something else is mounted there; the store is not "
		       "mounted anew",
		       folder);
}

int reopen_wait(struct invocation *invocation, const char *folder, bool read_only,
		struct session *session_out)
{
	struct sz_error ignored = { 0 };
	int result = sz_refusal_start(old_device, old_number, folder, -old_code, unmounted,
				      console_own(), &refusal);

	if (result != 0)
		return sz_fail(&invocation->error, result, "%s: cannot be mounted anew", folder);
	reopen_allow(true);
	result = session_try(invocation, read_only, session_out);
	if (interrupt_signal() != 0) {
		if (result == 0)
			(void)!session_close(invocation, session_out, -EINTR);
		invocation->error = (struct sz_error){ 0 };
		result = sz_fail(&invocation->error, -EINTR,
				 "%s: the pool was suspended, and was not opened again",
				 invocation->operands[0]);
	}
	if (result != 0) {
		(void)!reopen_refusal_end(folder, &ignored);
		return result;
	}
	(void)pthread_mutex_lock(&lock);
	opened_ns = sz_clock_ns();
	(void)pthread_mutex_unlock(&lock);
	return 0;
}
