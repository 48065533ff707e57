/* version: of the program, of the formats that it reads and writes, and of OpenZFS. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

int cmd_version(struct invocation *invocation)
{
	if (option_is_given(invocation, OPTION_JSON))
		return json_print(json_pack("{s:s}", "version", SZ_VERSION), &invocation->error);
	(void)fprintf(console_out(), "szpool %s\n", SZ_VERSION);
	return 0;
}
