/*
 * serve: the process that has a store open runs the commands of others. Each has a connection and a thread
 * of its own, with its caller's console and working folder; what interrupts it there interrupts it here.
 */
#include "cli/cli.h"

#include "control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALLS_MAX 64U /* at a time; others wait for their turn */
#define TURN_MS   200 /* between looks at whether it has come */

/* A command that runs for another process. */
struct call {
	struct call *next; /* guarded by lock */
	int connection;
	struct console console;
	struct sz_control_request request;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct call *calls; /* these three guarded by lock */
static unsigned int call_count;
static int stopper = -1;     /* the connection of who waits for the end, … */
static int stopper_err = -1; /* … and its standard error */
/* Set before and cleared after commands run for others. */
static struct sz_mount *mounted;

void serve_mount(struct sz_mount *mount)
{
	(void)pthread_mutex_lock(&lock);
	mounted = mount;
	(void)pthread_mutex_unlock(&lock);
}

void serve_refuse(int code)
{
	(void)pthread_mutex_lock(&lock); /* it stays open meanwhile */
	if (mounted != NULL)
		sz_mount_refuse(mounted, code);
	(void)pthread_mutex_unlock(&lock);
}

int serve_device(dev_t *number_out)
{
	int device;

	(void)pthread_mutex_lock(&lock);
	device = mounted == NULL ? -1 : sz_mount_device(mounted, number_out);
	(void)pthread_mutex_unlock(&lock);
	return device;
}

void name_changed(const struct sz_fs *fs, uint64_t parent, const char *name)
{
	if (mounted != NULL)
		sz_mount_entry_changed(mounted, fs, parent, name);
}

void inode_changed(const struct sz_fs *fs, uint64_t inode)
{
	if (mounted != NULL)
		sz_mount_inode_changed(mounted, fs, inode);
}

const char *serve_folder(void)
{
	return mounted == NULL ? "" : sz_mount_folder(mounted);
}

bool is_mounted_here(void)
{
	return mounted != NULL;
}

void mount_sync(void)
{
	if (mounted != NULL)
		sz_mount_sync(mounted);
}

void mount_snapshot_drop(const struct sz_fs *fs, const char *name)
{
	if (mounted != NULL)
		sz_mount_snapshot_drop(mounted, fs, name);
}

int serve_unmount(const char *folder, bool *is_over_out, struct sz_error *error)
{
	int result;

	*is_over_out = mounted != NULL && strcmp(sz_mount_folder(mounted), folder) == 0;
	if (!*is_over_out)
		return sz_mount_remove(folder, error);
	result = sz_mount_unmount(mounted, error);
	if (result == 0)
		interrupt_set(console_own(), SIGTERM);
	return result;
}

/* What it wrote goes out, which may take a while if nobody reads it. */
static void call_free(struct call *call)
{
	console_streams_close(&call->console);
	sz_cleanup_fd(&call->console.wake_fd);
	sz_cleanup_fd(&call->connection);
	sz_control_request_free(&call->request);
	free(call);
}

static int console_make(struct call *call)
{
	struct console *console = &call->console;
	int *fds = call->request.fds;

	console->in = fds[SZ_CONTROL_IN];
	console->terminal = fds[SZ_CONTROL_TERMINAL];
	console->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	console->out_fd = fds[SZ_CONTROL_OUT];
	console->err_fd = fds[SZ_CONTROL_ERR];
	return console->wake_fd < 0 ? -ENOMEM : console_streams_open(console);
}

/* Signals that the caller got; that it is gone interrupts too. */
static void *signals_watch(void *argument)
{
	struct call *call = argument;
	int number;

	do {
		number = sz_control_signal(call->connection);
		if (interrupt_of(&call->console) == 0)
			interrupt_set(&call->console, number != 0 ? number : SIGHUP);
	} while (number != 0);
	return NULL;
}

/* Whoever asks first gets the exit code of the closing; others that of the asking. */
static bool stopper_set(const struct call *call)
{
	bool is_first;

	(void)pthread_mutex_lock(&lock);
	is_first = stopper < 0;
	if (is_first)
		stopper = fcntl(call->connection, F_DUPFD_CLOEXEC, 0);
	is_first = is_first && stopper >= 0;
	if (is_first)
		stopper_err = fcntl(call->console.err_fd, F_DUPFD_CLOEXEC, 0);
	(void)pthread_mutex_unlock(&lock);
	return is_first;
}

static void call_run(struct call *call)
{
	pthread_t watcher;
	int code;

	/* A working folder of this thread's own. */
	if (unshare(CLONE_FS) != 0 || fchdir(call->request.fds[SZ_CONTROL_FOLDER]) != 0 ||
	    pthread_create(&watcher, NULL, signals_watch, call) != 0) {
		(void)!sz_control_reply(call->connection, EXIT_ERROR);
		return;
	}
	console_use(&call->console);
	code = command_line_run(call->request.argc, call->request.argv);
	(void)fflush(call->console.out);
	console_use(NULL);
	if (!call->console.waits_for_end || !stopper_set(call))
		(void)!sz_control_reply(call->connection, code);
	(void)shutdown(call->connection, SHUT_RD); /* ends the watcher */
	(void)pthread_join(watcher, NULL);
}

/* Its connection is nobody else's from then on; it counts until it is freed. */
static void call_leave(struct call *call)
{
	(void)pthread_mutex_lock(&lock);
	for (struct call **at = &calls; *at != NULL; at = &(*at)->next) {
		if (*at == call) {
			*at = call->next;
			break;
		}
	}
	(void)pthread_mutex_unlock(&lock);
	call_free(call);
	(void)pthread_mutex_lock(&lock);
	call_count--;
	(void)pthread_cond_signal(&ended);
	(void)pthread_mutex_unlock(&lock);
}

static void *call_serve(void *argument)
{
	struct call *call = argument;

	(void)pthread_setname_np(pthread_self(), "call");
	if (sz_control_receive(call->connection, &call->request) == 0) {
		if (console_make(call) == 0)
			call_run(call);
		else
			(void)!sz_control_reply(call->connection, EXIT_ERROR);
	}
	call_leave(call);
	return NULL;
}

/* False: this process was interrupted before its turn came. Under lock. */
static bool turn_wait(void)
{
	while (call_count == CALLS_MAX && interrupt_signal() == 0) {
		(void)pthread_mutex_unlock(&lock);
		sz_sleep_ms(TURN_MS);
		(void)pthread_mutex_lock(&lock);
	}
	return call_count < CALLS_MAX;
}

static void call_start(int connection)
{
	struct call *call = calloc(1, sizeof(*call));
	pthread_attr_t detached;
	pthread_t thread;
	bool is_started = false;

	if (call == NULL) {
		(void)close(connection);
		return;
	}
	*call = (struct call){
		.connection = connection,
		.console = { .in = -1, .terminal = -1, .wake_fd = -1, .out_fd = -1, .err_fd = -1 },
		.request.fds = { -1, -1, -1, -1, -1 }
	};
	(void)pthread_mutex_lock(&lock);
	(void)pthread_attr_init(&detached);
	(void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (turn_wait())
		is_started = pthread_create(&thread, &detached, call_serve, call) == 0;
	(void)pthread_attr_destroy(&detached);
	if (is_started) {
		call->next = calls;
		calls = call;
		call_count++;
	}
	(void)pthread_mutex_unlock(&lock);
	if (!is_started)
		call_free(call);
}

/* Ends what still runs, as its own interrupt would, and waits for it. */
static void calls_end(void)
{
	(void)pthread_mutex_lock(&lock);
	for (struct call *call = calls; call != NULL; call = call->next)
		(void)shutdown(call->connection, SHUT_RD);
	while (call_count > 0)
		(void)pthread_cond_wait(&ended, &lock);
	(void)pthread_mutex_unlock(&lock);
}

void serve_until_interrupted(int listener)
{
	while (interrupt_signal() == 0) {
		struct pollfd fds[2] = { { .fd = listener, .events = POLLIN },
					 { .fd = console_own()->wake_fd, .events = POLLIN } };
		int connection;

		if (poll(fds, 2, -1) < 0 || (fds[0].revents & POLLIN) == 0)
			continue;
		if (sz_control_accept(listener, &connection) == 0)
			call_start(connection);
	}
	calls_end();
	nbd_stop();
}

void serve_end(int result, const struct sz_error *error)
{
	struct sz_error told = *error;

	text_make_printable(told.text);
	if (stopper_err >= 0 && result != 0)
		(void)dprintf(stopper_err, "szpool: %s\n", told.text);
	if (stopper >= 0)
		(void)!sz_control_reply(stopper, result == 0 ? EXIT_OK : EXIT_ERROR);
	sz_cleanup_fd(&stopper_err);
	sz_cleanup_fd(&stopper);
	stopper_err = -1;
	stopper = -1;
}

int serve_stop(struct invocation *invocation)
{
	if (console_current() == console_own())
		return sz_fail(&invocation->error, -ENOENT, "%s: no process serves it",
			       invocation->operands[0]);
	if (kill(getpid(), SIGTERM) != 0)
		return sz_fail(&invocation->error, -errno, "it cannot be stopped");
	console_current()->waits_for_end = true;
	return 0;
}

int serve_close(struct invocation *invocation, struct session *session, int listener, int result)
{
	sz_control_unlisten(invocation->operands[0], listener);
	session_share(NULL, NULL);
	result = session_close(invocation, session, result);
	serve_end(result, &invocation->error);
	return result;
}

/* What is typed at the terminal interrupts the command, not this process, which only waits for it. */
static void *interrupts_pass(void *argument)
{
	const int *connection = argument;
	struct pollfd wake = { .fd = console_own()->wake_fd, .events = POLLIN };

	while (poll(&wake, 1, -1) < 0)
		;
	(void)!sz_control_interrupt(*connection, interrupt_signal());
	return NULL;
}

int served_call(const char *store, int argc, char *const *argv, int *exit_code_out)
{
	CLEANUP_FD int connection = -1;
	CLEANUP_FD int folder = -1;
	CLEANUP_FD int terminal = -1;
	pthread_t passer;
	int result;

	if (sz_control_connect(store, &connection) != 0)
		return -ENOENT;
	folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	terminal = console_terminal();
	{
		const int fds[SZ_CONTROL_FDS] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO,
						  folder, terminal };

		result = folder < 0 ? -errno : sz_control_call(connection, argc, argv, fds);
	}
	if (result == 0) {
		bool passes = pthread_create(&passer, NULL, interrupts_pass, &connection) == 0;

		result = sz_control_wait(connection, exit_code_out);
		if (passes) {
			(void)pthread_cancel(passer); /* poll is where it waits */
			(void)pthread_join(passer, NULL);
		}
	}
	return result == 0 ? 0 : -ECONNRESET;
}
