/*
 * console: where a command reads and writes, and what interrupts it: its thread's. In the process that
 * serves a store each command has that of its caller.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * How long after an interrupt output waits that nobody takes: then the command fails, so that it ends, and the
 * process that runs it may.
 */
#define STUCK_LIMIT_MS 5000

static struct console own = { .in = STDIN_FILENO,
			      .terminal = -1,
			      .wake_fd = -1,
			      .out_fd = STDOUT_FILENO,
			      .err_fd = STDERR_FILENO };
static _Thread_local struct console *current;

struct console *console_own(void)
{
	return &own;
}

struct console *console_current(void)
{
	return current != NULL ? current : &own;
}

void console_use(struct console *console)
{
	current = console;
}

FILE *console_out(void)
{
	return console_current()->out != NULL ? console_current()->out : stdout;
}

FILE *console_err(void)
{
	return console_current()->err != NULL ? console_current()->err : stderr;
}

int console_in(void)
{
	return console_current()->in;
}

int console_out_fd(void)
{
	return console_current()->out_fd;
}

int console_err_fd(void)
{
	return console_current()->err_fd;
}

/* Until something can be written; once there was an interrupt, for a while. */
static int room_wait(const struct console *console, int fd)
{
	for (;;) {
		struct pollfd fds[2] = { { .fd = fd, .events = POLLOUT },
					 { .fd = console->wake_fd, .events = POLLIN } };
		bool is_interrupted = interrupt_of(console) != 0;
		int count = poll(fds, is_interrupted ? 1 : 2, is_interrupted ? STUCK_LIMIT_MS : -1);

		if (count < 0 && errno != EINTR)
			return -errno;
		if (count == 0)
			return -ETIMEDOUT;
		if (count > 0 && fds[0].revents != 0)
			return 0;
	}
}

/* Where there is room, there is for so much: a pipe's promise. */
static int write_watched(const struct console *console, int fd, const char *data, size_t length)
{
	struct stat stat_of;

	if (fstat(fd, &stat_of) == 0 && (S_ISREG(stat_of.st_mode) || S_ISBLK(stat_of.st_mode)))
		return sz_write(fd, data, length);
	while (length > 0) {
		size_t piece = length < PIPE_BUF ? length : PIPE_BUF;
		int result = room_wait(console, fd);

		if (result == 0)
			result = sz_write(fd, data, piece);
		if (result != 0)
			return result;
		data += piece;
		length -= piece;
	}
	return 0;
}

int console_write(const void *data, size_t length)
{
	const struct console *console = console_current();

	return console == &own ? sz_write(own.out_fd, data, length)
			       : write_watched(console, console->out_fd, data, length);
}

static ssize_t out_write(void *context, const char *data, size_t length)
{
	const struct console *console = context;
	int result = write_watched(console, console->out_fd, data, length);

	errno = -result;
	return result == 0 ? (ssize_t)length : 0;
}

static ssize_t err_write(void *context, const char *data, size_t length)
{
	const struct console *console = context;
	int result = write_watched(console, console->err_fd, data, length);

	errno = -result;
	return result == 0 ? (ssize_t)length : 0;
}

int console_streams_open(struct console *console)
{
	bool is_terminal = isatty(console->out_fd) == 1;

	console->out = fopencookie(console, "w", (cookie_io_functions_t){ .write = out_write });
	console->err = fopencookie(console, "w", (cookie_io_functions_t){ .write = err_write });
	if (console->out == NULL || console->err == NULL)
		return -ENOMEM;
	(void)setvbuf(console->out, NULL, is_terminal ? _IOLBF : _IOFBF, BUFSIZ);
	(void)setvbuf(console->err, NULL, _IONBF, 0);
	return 0;
}

void console_streams_close(struct console *console)
{
	if (console->out != NULL)
		(void)fclose(console->out);
	if (console->err != NULL)
		(void)fclose(console->err);
}

int console_terminal(void)
{
	if (console_current()->terminal >= 0)
		return fcntl(console_current()->terminal, F_DUPFD_CLOEXEC, 0);
	if (console_current() != &own)
		return -1;
	return open("/dev/tty", O_RDWR | O_CLOEXEC);
}

void warn(const char *format, ...)
{
	va_list arguments;

	if (console_current()->is_quiet)
		return;
	va_start(arguments, format);
	(void)fputs("szpool: warning: ", console_err());
	(void)vfprintf(console_err(), format, arguments);
	(void)fputc('\n', console_err());
	va_end(arguments);
}

bool console_agrees(void)
{
	bool is_yes = false;
	size_t done = 1;
	char next = '\0';

	for (size_t i = 0; next != '\n' && done == 1; i++) {
		if (interrupt_read(console_in(), &next, 1, &done) != 0)
			return false;
		if (i == 0 && done == 1)
			is_yes = next == 'y' || next == 'Y';
	}
	return is_yes;
}

int consent_ask(struct invocation *invocation, const char *question)
{
	if (option_is_given(invocation, OPTION_YES))
		return 0;
	if (isatty(console_in()) != 1 || isatty(console_err_fd()) != 1)
		return sz_fail(&invocation->error, -ECANCELED,
			       "%s: nothing was removed: without a terminal to ask at, that takes "
			       "--yes",
			       invocation->operands[0]);
	(void)fflush(console_out());
	(void)fprintf(console_err(), "szpool: %s [y/N] ", question);
	if (console_agrees())
		return 0;
	if (interrupt_signal() != 0)
		return interrupt_check(&invocation->error);
	return sz_fail(&invocation->error, -ECANCELED, "%s: nothing was removed",
		       invocation->operands[0]);
}
