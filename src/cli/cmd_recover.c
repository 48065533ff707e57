/*
 * recover: a store of which no root is left. What can be put together of it is opened for reading, and shown;
 * with --yes it is written down.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>

int cmd_recover(struct invocation *invocation)
{
	bool writes = option_is_given(invocation, OPTION_YES);
	struct session session;
	bool is_intact = false;
	bool is_healthy = false;
	int result;

	invocation->options.recover = true;
	result = session_open(invocation, !writes, SESSION_POOL_IF_ANY, &session);
	if (result != 0)
		return result;
	result = status_print(invocation, &session, &is_intact, &is_healthy);
	result = session_close(invocation, &session, result);
	if (result == 0 && !writes && !option_is_given(invocation, OPTION_QUIET))
		(void)fprintf(
			console_err(),
			"szpool: nothing was written; 'szpool recover --yes %s' makes a new root "
			"of this\n",
			invocation->operands[0]);
	if (result == 0 && !is_intact)
		return sz_fail(&invocation->error, -EBADMSG, "%s: data is damaged beyond repair",
			       invocation->operands[0]);
	return result;
}
