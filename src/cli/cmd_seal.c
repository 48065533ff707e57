/* seal: ends the generation. What a crash left of the last one is recovered first, by the opening. */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static int print(struct invocation *invocation, const struct sz_store_info *info)
{
	char sealed[TIME_TEXT_BYTES];

	if (option_is_given(invocation, OPTION_JSON))
		return json_print(json_pack("{s:I, s:s, s:I, s:b, s:s}", "generation",
					    (json_int_t)info->generation, "code", info->code,
					    "sealed_wall_ns", (json_int_t)info->sealed_wall_ns,
					    "recovered", info->recovered, "recovery",
					    info->recovery_text),
				  &invocation->error);
	time_text(info->sealed_wall_ns / 1000000000, sealed);
	if (info->recovered)
		(void)fprintf(console_out(), "recovered: %s\n", info->recovery_text);
	(void)fprintf(console_out(), "generation %" PRIu64 ", sealed %s, code %s\n",
		      info->generation, sealed, info->code);
	return 0;
}

int cmd_seal(struct invocation *invocation)
{
	struct session session;
	struct sz_store_info info;
	int result = session_open(invocation, false, SESSION_STORE, &session);

	if (result != 0)
		return result;
	/* Open for other commands too: what they wrote is in ZFS's memory yet, or in the kernel's. */
	if (session.is_shared && session.pool == NULL)
		mount_sync();
	if (session.pool != NULL)
		result = sz_pool_sync(session.pool, &invocation->error);
	if (result == 0)
		result = sz_store_seal(session.store, &invocation->error);
	sz_store_info(session.store, &info);
	result = session_close(invocation, &session, result);
	return result != 0 ? result : print(invocation, &info);
}
