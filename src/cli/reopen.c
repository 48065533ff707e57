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

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define VARIABLE     "SZPOOL_REOPEN" /* DEVICE:PIPE:CODE, from one program to the next */
#define GRACE_MS     200U /* for threads to refuse what they have just taken from the kernel */
#define PAUSE_MIN_MS 500U /* between attempts; doubles. Each costs a derivation of the key. */
#define PAUSE_MAX_MS 8000U

static char **arguments; /* the next program's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_allowed; /* under lock */
/* Of the mount that is refused, from the program before; only that. */
static int old_device = -1;
static int old_code;

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
static int hand_on(int device, int code)
{
	char text[64];
	int ends[2];
	int result = pipe(ends) == 0 ? passphrase_hand_on(ends[1]) : -errno;

	if (result != 0)
		return result;
	(void)close(ends[1]);
	(void)snprintf(text, sizeof(text), "%d:%d:%d", device, ends[0], code);
	return setenv(VARIABLE, text, 1) == 0 ? 0 : -errno;
}

void reopen_exec(int code)
{
	bool is_planned;
	int device;

	(void)pthread_mutex_lock(&lock);
	is_planned = is_allowed && arguments != NULL;
	device = is_planned && old_device >= 0 ? dup(old_device) : -1;
	(void)pthread_mutex_unlock(&lock);
	if (!is_planned)
		return;
	if (device < 0)
		device = serve_device();
	sz_sleep_ms(GRACE_MS);
	if (device >= 0 && hand_on(device, code) == 0)
		(void)execv("/proc/self/exe", arguments);
}

/* The next number of the text, and what is behind it. */
static int number_take(const char **text)
{
	char *end;
	long number = strtol(*text, &end, 10);

	*text = *end == ':' ? end + 1 : end;
	return (int)number;
}

bool reopen_begins(struct invocation *invocation, int *result_out)
{
	const char *text = getenv(VARIABLE);
	int from;

	*result_out = 0;
	if (text == NULL)
		return false;
	old_device = number_take(&text);
	from = number_take(&text);
	old_code = number_take(&text);
	(void)unsetenv(VARIABLE);
	(void)fcntl(old_device, F_SETFD, FD_CLOEXEC);
	*result_out = passphrase_keep(invocation, from);
	(void)close(from);
	return true;
}

/* False: it was interrupted. */
static bool pause_ms(unsigned int milliseconds)
{
	struct pollfd wake = { .fd = console_own()->wake_fd, .events = POLLIN };

	(void)poll(&wake, 1, (int)milliseconds);
	return interrupt_signal() == 0;
}

/* Is it of any use to try? Trying costs a derivation of the key. */
static bool store_may_open(const struct invocation *invocation, bool read_only)
{
	return access(invocation->operands[0], read_only ? R_OK : W_OK) == 0 &&
	       (read_only || !disk_is_full(invocation));
}

/* From a thread: the main one is to end. */
static void unmounted(void *context)
{
	interrupt_set(context, SIGTERM);
}

int reopen_wait(struct invocation *invocation, const char *folder, bool read_only,
		struct session *session_out)
{
	struct sz_refusal *refusal;
	unsigned int wait_ms = PAUSE_MIN_MS;
	int result =
		sz_refusal_start(old_device, folder, old_code, unmounted, console_own(), &refusal);

	if (result != 0)
		return sz_fail(&invocation->error, result, "%s: cannot be mounted anew", folder);
	reopen_allow(true);
	do {
		if (!pause_ms(wait_ms)) {
			result = sz_fail(&invocation->error, -EINTR,
					 "%s: the pool was suspended, and was not opened again",
					 invocation->operands[0]);
			break;
		}
		wait_ms = 2 * wait_ms < PAUSE_MAX_MS ? 2 * wait_ms : PAUSE_MAX_MS;
		invocation->error = (struct sz_error){ 0 };
		result = -EAGAIN;
		if (store_may_open(invocation, read_only))
			result = session_open(invocation, read_only, SESSION_FS, session_out);
	} while (result != 0);
	(void)pthread_mutex_lock(&lock);
	is_allowed = false;
	old_device = -1;
	(void)pthread_mutex_unlock(&lock);
	sz_refusal_end(refusal);
	if (result == 0)
		(void)fprintf(console_err(), "szpool: %s: is open again, and mounted anew\n",
			      invocation->operands[0]);
	return result;
}
