/*
 * message: what libzpool tells people. It calls the global symbol vcmn_err, so that the definition in this program
 * takes the place of the library's, which writes to standard error as it is.
 */
#include "engine/engine_internal.h"

#include <stdio.h>

/* What the program itself tells, with what to do (watch.c). */
static const char suspended[] = "has encountered an uncorrectable I/O failure";

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): as the library defines it */
__attribute__((visibility("default"))) void vcmn_err(int level, const char *format,
						     va_list arguments)
{
	char text[400];

	if (level == CE_PANIC)
		vpanic(format, arguments);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	if (level == CE_WARN && strstr(text, suspended) == NULL)
		sz_warn("ZFS: %s", text);
}
