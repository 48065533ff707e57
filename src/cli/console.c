/*
 * console: where a command reads and writes, and what interrupts it: its thread's. In the process that
 * serves a store each command has that of its caller.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static struct console own = { .in = STDIN_FILENO, .terminal = -1, .wake_fd = -1 };
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
	if (isatty(console_in()) != 1 || isatty(fileno(console_err())) != 1)
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
