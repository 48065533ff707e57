/* df: the pool's space, after redundancy. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

static int print(struct invocation *invocation, const struct sz_pool_space *space)
{
	char size[SIZE_TEXT_BYTES];
	char used[SIZE_TEXT_BYTES];
	char available[SIZE_TEXT_BYTES];

	if (option_is_given(invocation, OPTION_JSON))
		return json_print(json_pack("{s:I, s:I, s:I, s:I, s:I}", "size_bytes",
					    (json_int_t)space->size_bytes, "used_bytes",
					    (json_int_t)space->used_bytes, "available_bytes",
					    (json_int_t)space->available_bytes, "raw_size_bytes",
					    (json_int_t)space->raw_size_bytes,
					    "raw_allocated_bytes",
					    (json_int_t)space->raw_allocated_bytes),
				  &invocation->error);
	size_text(space->size_bytes, size);
	size_text(space->used_bytes, used);
	size_text(space->available_bytes, available);
	(void)fprintf(console_out(), "%8s %8s %8s %5s\n%8s %8s %8s %4u%%\n", "SIZE", "USED",
		      "AVAIL", "USE%", size, used, available,
		      space->size_bytes == 0 ? 0
					     : (unsigned int)(100.0 * (double)space->used_bytes /
							      (double)space->size_bytes));
	return 0;
}

int cmd_df(struct invocation *invocation)
{
	struct session session;
	struct sz_pool_space space;
	int result = session_open(invocation, true, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = sz_pool_space(session.pool, &space);
	if (result != 0)
		(void)sz_fail(&invocation->error, result, "the pool's space is not to be had");
	else
		result = print(invocation, &space);
	return session_close(invocation, &session, result);
}
