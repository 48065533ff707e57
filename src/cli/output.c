/* output: sizes, times, names and states for people; JSON for programs. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void size_text(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
	static const char units[] = "BKMGTPE";
	unsigned int unit = 0;
	double value = (double)bytes;
	unsigned int hundredths;

	for (; value >= 1024 && unit < sizeof(units) - 2; unit++)
		value /= 1024;
	hundredths = (unsigned int)(value * 100 + 0.5);
	if (unit == 0)
		(void)snprintf(text, SIZE_TEXT_BYTES, "%uB", (unsigned int)bytes);
	else if (value < 10)
		(void)snprintf(text, SIZE_TEXT_BYTES, "%u.%02u%c", hundredths / 100,
			       hundredths % 100, units[unit]);
	else if (value < 100)
		(void)snprintf(text, SIZE_TEXT_BYTES, "%u.%u%c", hundredths / 100,
			       hundredths / 10 % 10, units[unit]);
	else
		(void)snprintf(text, SIZE_TEXT_BYTES, "%u%c", hundredths / 100, units[unit]);
}

void time_text(uint64_t wall_s, char text[TIME_TEXT_BYTES])
{
	time_t seconds = (time_t)wall_s;
	struct tm parts;

	if (localtime_r(&seconds, &parts) == NULL ||
	    strftime(text, TIME_TEXT_BYTES, "%Y-%m-%d %H:%M:%S", &parts) == 0)
		(void)snprintf(text, TIME_TEXT_BYTES, "?");
}

void span_text(uint64_t seconds, char text[SPAN_TEXT_BYTES])
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = { { "days", 86400 }, { "hours", 3600 }, { "minutes", 60 }, { "seconds", 1 } };
	size_t i = 0;

	while (i + 1 < ARRAY_LENGTH(units) && seconds < 2 * units[i].seconds)
		i++;
	(void)snprintf(text, SPAN_TEXT_BYTES, "%" PRIu64 " %s", seconds / units[i].seconds,
		       units[i].name);
}

void *array_room(void *array, size_t count, size_t *capacity, size_t size)
{
	size_t wished = *capacity == 0 ? 16 : 2 * *capacity;
	void *grown;

	if (count < *capacity)
		return array;
	grown = reallocarray(array, wished, size);
	if (grown != NULL)
		*capacity = wished;
	return grown;
}

void state_print(const char *state, int width)
{
	const char *no_color = getenv("NO_COLOR");
	const char *color = "31"; /* red */

	if (strcmp(state, "ONLINE") == 0)
		color = "32"; /* green */
	else if (strcmp(state, "DEGRADED") == 0)
		color = "33"; /* yellow */
	if (isatty(console_out_fd()) == 1 && (no_color == NULL || no_color[0] == '\0'))
		(void)fprintf(console_out(), "\033[%sm%-*s\033[0m", color, width, state);
	else
		(void)fprintf(console_out(), "%-*s", width, state);
}

void line_out(const char *text)
{
	(void)fputs(text, console_out());
	(void)fputc('\n', console_out());
}

void text_make_printable(char *text)
{
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

void file_tell(struct progress *progress, const char *path, const char *text)
{
	CLEANUP_FREE char *shown = strdup(path);

	progress_clear(progress);
	if (shown != NULL)
		text_make_printable(shown);
	(void)fprintf(console_err(), "szpool: %s: %s\n", shown != NULL ? shown : "?", text);
}

void name_print(const char *name)
{
	CLEANUP_FREE char *copy = strdup(name);

	if (copy != NULL && isatty(console_out_fd()) == 1)
		text_make_printable(copy);
	(void)fputs(copy != NULL ? copy : name, console_out());
}

int json_print(json_t *value, struct sz_error *error)
{
	int result = 0;

	if (value == NULL)
		return sz_fail(error, -ENOMEM, "no memory for the JSON");
	if (json_dumpf(value, console_out(), JSON_INDENT(2)) != 0 ||
	    fputc('\n', console_out()) == EOF)
		result = sz_fail(error, errno == EPIPE ? -EPIPE : -EIO,
				 "standard output: the JSON cannot be written");
	json_decref(value);
	return result;
}

json_t *json_name(const char *name)
{
	json_t *text = json_string(name);
	CLEANUP_FREE char *hex = NULL;

	if (text != NULL)
		return text;
	hex = malloc(2 * strlen(name) + 1);
	if (hex == NULL)
		return NULL;
	sz_hex_encode((const uint8_t *)name, strlen(name), hex);
	return json_pack("{s:s}", "hex", hex);
}
