/*
 * interrupt: SIGINT, SIGTERM and SIGHUP are blocked in every thread but one, which waits for them.
 * So no code of ours or of ZFS ever runs in a signal handler, no system call of theirs is cut short,
 * and the pool is closed in good order. Who waits for input waits for a signal too (interrupt_read).
 */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define END_SIGNAL SIGUSR1 /* ends the thread; from interrupt_stop alone */

static pthread_t thread;
static bool thread_runs;

void interrupt_set(struct console *console, int number)
{
	atomic_store(&console->signal_number, number);
	(void)!eventfd_write(console->wake_fd, 1);
}

static void *signal_wait(void *argument)
{
	static const char message[] =
		"\nszpool: interrupted: ending in good order (once more: at once)\n";
	sigset_t *signals = argument;
	bool is_second = false;
	int number;

	while (sigwait(signals, &number) == 0 && number != END_SIGNAL) {
		if (is_second)
			_exit(EXIT_SIGNAL + number);
		is_second = true;
		interrupt_set(console_own(), number);
		(void)!write(STDERR_FILENO, message, sizeof(message) - 1);
	}
	return NULL;
}

int interrupt_start(struct sz_error *error)
{
	static sigset_t signals; /* the thread's argument */
	struct sigaction hangup;
	int result;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, END_SIGNAL);
	/* nohup has it ignored, and means it. */
	if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
		(void)sigaddset(&signals, SIGHUP);
	(void)signal(SIGPIPE, SIG_IGN);
	console_own()->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (console_own()->wake_fd < 0)
		return sz_fail(error, -errno, "cannot watch for signals: %s", strerror(errno));
	result = pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (result == 0)
		result = pthread_create(&thread, NULL, signal_wait, &signals);
	if (result != 0)
		return sz_fail(error, -result, "cannot watch for signals: %s", strerror(result));
	thread_runs = true;
	(void)pthread_setname_np(thread, "signals");
	return 0;
}

void interrupt_stop(void)
{
	if (!thread_runs)
		return;
	(void)pthread_kill(thread, END_SIGNAL);
	(void)pthread_join(thread, NULL);
	(void)close(console_own()->wake_fd);
	thread_runs = false;
}

int interrupt_signal(void)
{
	return interrupt_of(console_current());
}

int interrupt_of(const struct console *console)
{
	return atomic_load(&console->signal_number);
}

int interrupt_check(struct sz_error *error)
{
	if (interrupt_signal() == 0)
		return 0;
	return sz_fail(error, -EINTR, "%s",
		       interrupt_signal() == SIGINT ? "interrupted" : "terminated");
}

int interrupt_tell(struct sz_error *error, const char *what_now)
{
	const char *how = interrupt_signal() == SIGINT ? "interrupted" : "terminated";

	*error = (struct sz_error){ 0 };
	return sz_fail(error, -EINTR, "%s: %s", how, what_now);
}

int interrupt_read(int fd, void *buffer, size_t length, size_t *done_out)
{
	char *to = buffer;

	*done_out = 0;
	while (*done_out < length) {
		struct pollfd fds[2] = { { .fd = fd, .events = POLLIN },
					 { .fd = console_current()->wake_fd, .events = POLLIN } };
		ssize_t done;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (interrupt_signal() != 0)
			return -EINTR;
		if (fds[0].revents == 0)
			continue;
		done = read(fd, to + *done_out, length - *done_out);
		if (done < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (done == 0)
			return 0;
		if (done > 0)
			*done_out += (size_t)done;
	}
	return 0;
}
