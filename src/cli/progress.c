/* progress: one line on the terminal: what, how much, how fast, how long yet. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define REDRAW_NS 200000000ULL
#define BAR_WIDTH 14U
#define SECOND_NS 1000000000ULL
#define LINE_NS   (10 * SECOND_NS) /* between two lines that are not for a terminal */

void progress_start(struct progress *progress, const struct invocation *invocation,
		    const char *verb)
{
	uint64_t now_ns = sz_clock_ns();
	bool is_quiet = option_is_given(invocation, OPTION_QUIET);

	*progress = (struct progress){
		.verb = verb,
		.start_ns = now_ns,
		.line_ns = now_ns,
		.is_quiet = is_quiet,
		.is_shown = isatty(console_err_fd()) == 1 && !is_quiet,
	};
}

/* "[####..........]  28%  " */
static void bar_draw(const struct progress *progress)
{
	double part = (double)progress->done_bytes / (double)progress->total_bytes;
	unsigned int percent = part >= 1 ? 100 : (unsigned int)(100 * part);

	(void)fputc('[', console_err());
	for (unsigned int i = 1; i <= BAR_WIDTH; i++)
		(void)fputc(i * 100 <= percent * BAR_WIDTH ? '#' : '.', console_err());
	(void)fprintf(console_err(), "] %3u%%  ", percent);
}

static void draw(struct progress *progress, uint64_t now_ns)
{
	double seconds = (double)(now_ns - progress->start_ns) / (double)SECOND_NS;
	double rate = seconds > 0 ? (double)progress->done_bytes / seconds : 0;
	char done[SIZE_TEXT_BYTES];
	char total[SIZE_TEXT_BYTES];
	char speed[SIZE_TEXT_BYTES];

	size_text(progress->done_bytes, done);
	size_text(progress->total_bytes, total);
	size_text((uint64_t)rate, speed);
	(void)fprintf(console_err(), "\r\033[K%s: ", progress->verb);
	if (progress->total_bytes > 0)
		bar_draw(progress);
	(void)fputs(done, console_err());
	if (progress->total_bytes > 0)
		(void)fprintf(console_err(), " of %s", total);
	if (progress->files > 0)
		(void)fprintf(console_err(), ", %" PRIu64 " files", progress->files);
	(void)fprintf(console_err(), ", %s/s", speed);
	if (progress->total_bytes > progress->done_bytes && rate > 0) {
		uint64_t left =
			(uint64_t)((double)(progress->total_bytes - progress->done_bytes) / rate);

		(void)fprintf(console_err(), ", %" PRIu64 ":%02u left", left / 60,
			      (unsigned int)(left % 60));
	}
	(void)fflush(console_err());
	progress->is_drawn = true;
	progress->shown_ns = now_ns;
}

void progress_add(struct progress *progress, uint64_t bytes)
{
	uint64_t now_ns;

	progress->done_bytes += bytes;
	if (!progress->is_shown)
		return;
	now_ns = sz_clock_ns();
	if (now_ns - progress->shown_ns >= REDRAW_NS)
		draw(progress, now_ns);
}

static void line_print(struct progress *progress)
{
	uint64_t now_ns = sz_clock_ns();
	char done[SIZE_TEXT_BYTES];
	char total[SIZE_TEXT_BYTES];

	if (progress->is_shown || progress->is_quiet || now_ns - progress->line_ns < LINE_NS)
		return;
	progress->line_ns = now_ns;
	size_text(progress->done_bytes, done);
	size_text(progress->total_bytes, total);
	(void)fprintf(console_err(), "szpool: %s: %s of %s\n", progress->verb, done, total);
}

void progress_at(struct progress *progress, uint64_t done_bytes, uint64_t total_bytes)
{
	progress->done_bytes = done_bytes;
	progress->total_bytes = total_bytes;
	progress_add(progress, 0);
	line_print(progress);
}

void progress_phase(struct progress *progress, const char *what)
{
	if (!progress->is_shown)
		return;
	(void)fprintf(console_err(), "\r\033[K%s", what);
	(void)fflush(console_err());
	progress->is_drawn = true;
}

void progress_clear(struct progress *progress)
{
	if (progress->is_drawn)
		(void)fputs("\r\033[K", console_err());
	progress->is_drawn = false;
}
