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

struct sz_passphrase passphrase_read(char text[PASSPHRASE_BYTES])
{
	struct sz_error error = { 0 };
	const char *path = getenv("SZPOOL_PASSPHRASE_FILE");
	FILE *file = path == NULL ? NULL : fopen(path, "re");

	if (file == NULL || fgets(text, PASSPHRASE_BYTES, file) == NULL)
		die("SZPOOL_PASSPHRASE_FILE must name a file with the passphrase");
	(void)fclose(file);
	text[strcspn(text, "\n")] = '\0';
	if (sz_crypto_init(&error) != 0)
		die("%s", error.text);
	return (struct sz_passphrase){ text, strlen(text) };
}

int store_open(const struct sz_store_open *options, struct sz_store **store_out,
	       struct sz_error *error)
{
	char text[PASSPHRASE_BYTES];
	const struct sz_passphrase passphrase = passphrase_read(text);

	return sz_store_open(options, &passphrase, store_out, error);
}
