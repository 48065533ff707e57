/* status: the pool's health; nothing is written. */
#include "cli/cli.h"

#include <errno.h>

int cmd_status(struct invocation *invocation)
{
	struct session session;
	bool is_intact = false;
	bool is_healthy = false;
	bool is_attached;
	int result = session_open(invocation, true, SESSION_POOL_IF_ANY, &session);

	if (result != 0)
		return result;
	is_attached = session.is_shared && session.pool == NULL;
	result = status_print(invocation, &session, &is_intact, &is_healthy);
	result = session_close(invocation, &session, result);
	if (result == 0 && !is_intact)
		return sz_fail(&invocation->error, -EBADMSG, "%s: data is damaged beyond repair",
			       invocation->operands[0]);
	if (result == 0 && is_attached && option_is_given(invocation, OPTION_CHECK))
		return sz_fail(&invocation->error, -EBUSY,
			       "%s: is attached, so it is not known what is on its devices",
			       invocation->operands[0]);
	if (result == 0 && !is_healthy && option_is_given(invocation, OPTION_CHECK))
		return sz_fail(&invocation->error, -EBADMSG, "%s: not all is well",
			       invocation->operands[0]);
	return result;
}
