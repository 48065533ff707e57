/*
 * serve: keeps the pool open, so that other commands need neither the passphrase nor the time of an opening;
 * they are run here (serve.c). Ends by a signal, or by 'szpool serve --stop'.
 */
#include "cli/cli.h"

#include "control/control.h"

static int serve(struct invocation *invocation, struct daemon *daemon)
{
	const char *store = invocation->operands[0];
	struct sz_error *error = &invocation->error;
	struct session session;
	int listener = -1;
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	session_share(&session, store);
	result = sz_control_listen(store, &listener, error);
	if (result == 0)
		result = daemon_ready(daemon, error);
	if (result == 0)
		serve_until_interrupted(listener);
	return serve_close(invocation, &session, listener, result);
}

int cmd_serve(struct invocation *invocation)
{
	CLEANUP_FREE char *path = NULL;
	struct daemon daemon = { .ready = -1 };
	int result = 0;

	if (option_is_given(invocation, OPTION_STOP))
		return serve_stop(invocation);
	/* The working folder is another one later. */
	path = realpath(invocation->operands[0], NULL);
	if (path != NULL)
		invocation->operands[0] = path;
	if (!option_is_given(invocation, OPTION_FOREGROUND))
		result = daemon_split(&daemon, &invocation->error);
	return result != 0 ? result : serve(invocation, &daemon);
}
