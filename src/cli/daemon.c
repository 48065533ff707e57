/*
 * daemon: a command that goes on in the background. The process splits before it has threads; the part that
 * stays in front waits until the other is ready, so that it can ask for a passphrase and say what is
 * wrong, and then ends with its exit code.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The part in front: the other's exit code. */
static _Noreturn void front_wait(pid_t child, int ready)
{
	uint8_t code = EXIT_ERROR;
	size_t done = 0;
	int status = 0;

	/* Signals come to both; the other one decides what comes of them. */
	if (sz_read(ready, &code, 1, &done) == 0 && done == 1)
		_exit(code);
	if (waitpid(child, &status, 0) == child)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL + WTERMSIG(status));
	_exit(EXIT_ERROR);
}

int daemon_split(struct daemon *daemon, struct sz_error *error)
{
	int ends[2];
	pid_t child;
	int result;

	daemon->ready = -1;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return sz_fail(error, -errno, "cannot go into the background: %s", strerror(errno));
	interrupt_stop();
	child = fork();
	if (child > 0) {
		(void)close(ends[1]);
		front_wait(child, ends[0]);
	}
	(void)close(ends[0]);
	daemon->ready = ends[1];
	result = interrupt_start(error);
	return child == 0 ? result
			  : sz_fail(error, -EAGAIN, "cannot go into the background: no process");
}

int daemon_ready(struct daemon *daemon, struct sz_error *error)
{
	CLEANUP_FD int nothing = -1;
	const uint8_t code = EXIT_OK;

	if (daemon->ready < 0)
		return 0;
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (nothing < 0 || chdir("/") != 0)
		return sz_fail(error, -errno, "cannot go into the background: %s", strerror(errno));
	(void)setsid();
	(void)fflush(console_out());
	(void)fflush(console_err());
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		(void)dup2(nothing, fd);
	(void)!sz_write(daemon->ready, &code, 1);
	(void)close(daemon->ready);
	daemon->ready = -1;
	return 0;
}
