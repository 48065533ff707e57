/* status: the pool's health; nothing is written. */
#include "cli/cli.h"

#include <errno.h>

int cmd_status(struct invocation *invocation)
{
	struct session session;
	bool is_intact = false;
	bool is_healthy = false;
	int result = session_open(invocation, true, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = status_print(invocation, &session, &is_intact, &is_healthy);
	result = session_close(invocation, &session, result);
	if (result == 0 && !is_intact)
		return sz_fail(&invocation->error, -EBADMSG, "%s: data is damaged beyond repair",
			       invocation->operands[0]);
	if (result == 0 && !is_healthy && option_is_given(invocation, OPTION_CHECK))
		return sz_fail(&invocation->error, -EBADMSG, "%s: not all is well",
			       invocation->operands[0]);
	return result;
}
