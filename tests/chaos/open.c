/* See open.h. */
#include "open.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
	_exit(1);
}

static size_t passphrase_read(char *text, size_t size)
{
	const char *path = getenv("SZPOOL_PASSPHRASE_FILE");
	FILE *file = path == NULL ? NULL : fopen(path, "re");

	if (file == NULL || fgets(text, (int)size, file) == NULL)
		die("SZPOOL_PASSPHRASE_FILE must name a file with the passphrase");
	(void)fclose(file);
	text[strcspn(text, "\n")] = '\0';
	return strlen(text);
}

int store_open(const struct sz_store_open *options, struct sz_store **store_out,
	       struct sz_error *error)
{
	char text[200];
	const struct sz_passphrase passphrase = { text, passphrase_read(text, sizeof(text)) };

	if (sz_crypto_init(error) != 0)
		die("%s", error->text);
	return sz_store_open(options, &passphrase, store_out, error);
}
