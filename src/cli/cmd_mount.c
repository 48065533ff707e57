/*
 * mount: the pool as a folder; attach: the devices as files, with no pool open. The process serves the mount, and
 * other commands on the store too (serve.c). Ends when it is unmounted, by 'szpool umount' (or 'szpool detach', which is the
 * same), fusermount3 -u or umount, or by a signal.
 */
#include "cli/cli.h"

#include "control/control.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* From a thread of the mount: the main one is to end. */
static void unmounted(void *context)
{
	interrupt_set(context, SIGTERM);
}

/* By it 'szpool umount' finds who serves the store; nobody does for the mount of an old generation. */
static char *source_name(const struct invocation *invocation)
{
	const char *generation = invocation->options.generation;
	char *name = NULL;

	if (generation == NULL)
		return strdup(invocation->operands[0]);
	return asprintf(&name, "%s@%s", invocation->operands[0], generation) < 0 ? NULL : name;
}

static bool is_read_only(const struct invocation *invocation)
{
	return option_is_given(invocation, OPTION_READ_ONLY) ||
	       option_is_given(invocation, OPTION_GENERATION);
}

static int mount_open(struct invocation *invocation, const struct session *session,
		      const char *folder, struct sz_mount **mount_out)
{
	const struct options *options = &invocation->options;
	CLEANUP_FREE char *source = source_name(invocation);
	const struct sz_mount_options mount = {
		.source = source,
		.flags = (const char *)options->mount_flags.data,
		.read_only = is_read_only(invocation),
		.allow_other = option_is_given(invocation, OPTION_ALLOW_OTHER),
	};

	int result = source == NULL ? sz_fail(&invocation->error, -ENOMEM, "no memory")
				    : reopen_refusal_end(folder, &invocation->error);

	if (result != 0)
		return result;
	if (session->fs == NULL)
		return sz_mount_open_devices(session->store, folder, &mount, unmounted,
					     console_own(), mount_out, &invocation->error);
	return sz_mount_open(session->fs, folder, &mount, unmounted, console_own(), mount_out,
			     &invocation->error);
}

static int mounted_serve(struct invocation *invocation, struct session *session, const char *folder,
			 bool is_again, struct daemon *daemon)
{
	const char *store = invocation->operands[0];
	struct sz_error *error = &invocation->error;
	struct sz_mount *mount = NULL;
	bool is_served =
		!option_is_given(invocation, OPTION_GENERATION); /* else others are, beside it */
	int listener = -1;
	int result = 0;

	session_share(session, store);
	if (is_served)
		result = sz_control_listen(store, &listener, error);
	if (result == 0)
		result = mount_open(invocation, session, folder, &mount);
	serve_mount(mount);
	if (result == 0)
		result = daemon_ready(daemon, error);
	if (result == 0 && is_again)
		(void)fprintf(console_err(), "szpool: %s: is open again, and mounted anew\n",
			      store);
	reopen_allow(result == 0);
	if (result == 0)
		serve_until_interrupted(listener);
	reopen_allow(false);
	if (is_served)
		sz_control_unlisten(store, listener);
	session_share(NULL, NULL);
	serve_mount(NULL);
	if (mount != NULL)
		sz_mount_close(mount);
	return result;
}

static int serve(struct invocation *invocation, enum session_parts parts, const char *folder,
		 bool is_again, struct daemon *daemon)
{
	bool read_only = is_read_only(invocation);
	struct sz_error ignored = { 0 };
	struct session session;
	int result = is_again ? reopen_wait(invocation, folder, read_only, &session)
			      : session_open(invocation, read_only, parts, &session);

	if (result != 0)
		return result;
	result = mounted_serve(invocation, &session, folder, is_again, daemon);
	result = session_close(invocation, &session, result);
	(void)!reopen_refusal_end(folder, &ignored); /* it came to nothing */
	serve_end(result, &invocation->error);
	return result;
}

/* Makes the paths absolute: the working folder is another one later. */
static int paths_find(struct invocation *invocation, char **store_out, char **folder_out)
{
	int result = sz_mount_check(invocation->operands[1], &invocation->error);

	if (result != 0)
		return result;
	*folder_out = realpath(invocation->operands[1], NULL);
	if (*folder_out == NULL)
		return sz_fail(&invocation->error, -errno, "%s: %s", invocation->operands[1],
			       strerror(errno));
	*store_out = realpath(invocation->operands[0], NULL);
	if (*store_out != NULL)
		invocation->operands[0] = *store_out;
	return 0;
}

int cmd_mount(struct invocation *invocation)
{
	CLEANUP_FREE char *store = NULL;
	CLEANUP_FREE char *folder = NULL;
	struct daemon daemon = { .ready = -1 };
	int result;
	bool is_again = reopen_begins(invocation, &result);

	if (is_again)
		folder = strdup(invocation->operands[1]);
	else
		result = paths_find(invocation, &store, &folder);
	if (result == 0 && !is_again)
		result = passphrase_keep(invocation, -1);
	if (result == 0)
		result = folder == NULL ? -ENOMEM : reopen_plan(invocation, folder);
	if (result == 0 && !option_is_given(invocation, OPTION_FOREGROUND))
		result = daemon_split(&daemon, &invocation->error);
	if (result == 0)
		result = serve(invocation, SESSION_FS, folder, is_again, &daemon);
	passphrase_keep_end();
	return result;
}

/* A device that has failed stays so, as a disk would; who attaches anew goes on. */
int cmd_attach(struct invocation *invocation)
{
	CLEANUP_FREE char *store = NULL;
	CLEANUP_FREE char *folder = NULL;
	struct daemon daemon = { .ready = -1 };
	int result = paths_find(invocation, &store, &folder);

	if (result == 0 && !option_is_given(invocation, OPTION_FOREGROUND))
		result = daemon_split(&daemon, &invocation->error);
	return result != 0 ? result : serve(invocation, SESSION_STORE, folder, false, &daemon);
}
