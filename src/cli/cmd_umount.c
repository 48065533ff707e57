/*
 * umount: ends a mount, and waits until all is on disk. The process that serves the mount does it; it is
 * found by the store that the table of mounts names.
 */
#include "cli/cli.h"

#include <errno.h>

/* The pool is suspended: until its mount is there to be asked again, or is gone. */
#define LOST_MS 500U

/*
 * The path as the table of mounts has it. The folder itself is not asked: where the process that serves it
 * is gone, it has no answer.
 */
static int folder_resolve(const char *path, char **folder_out, struct sz_error *error)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_FREE char *parent = NULL;
	char *name;
	char *slash;

	*folder_out = realpath(path, NULL);
	if (*folder_out != NULL || copy == NULL)
		return copy == NULL ? sz_fail(error, -ENOMEM, "no memory") : 0;
	if (errno != ENOTCONN && errno != EIO && errno != ENOSPC)
		return sz_fail(error, -errno, "%s: %s", path, strerror(errno));
	while ((slash = strrchr(copy, '/')) != NULL && slash != copy && slash[1] == '\0')
		*slash = '\0';
	slash = strrchr(copy, '/');
	name = slash == NULL ? copy : slash + 1;
	if (slash != NULL)
		*slash = '\0';
	parent = realpath(slash == NULL ? "." : copy[0] == '\0' ? "/" : copy, NULL);
	if (parent == NULL)
		return sz_fail(error, -errno, "%s: %s", path, strerror(errno));
	*folder_out = path_join(parent, name);
	return *folder_out == NULL ? sz_fail(error, -ENOMEM, "no memory") : 0;
}

/* In the process that serves. */
static int unmount_here(struct invocation *invocation)
{
	bool is_over = false;
	int result = serve_unmount(invocation->operands[0], &is_over, &invocation->error);

	console_current()->waits_for_end = result == 0 && is_over;
	return result;
}

/* Who served it ended meanwhile; whether before or after it was unmounted is not known. */
static int lost_unmount(const char *folder, struct sz_error *error)
{
	struct sz_error ignored = { 0 };
	CLEANUP_FREE char *store = NULL;
	int result = 0;

	sz_sleep_ms(LOST_MS);
	if (sz_mount_find(folder, &store, &ignored) == 0)
		result = sz_mount_remove(folder, error);
	return result != 0 ? result
			   : sz_fail(error, -EIO,
				     "%s: is unmounted, but the pool was suspended, or its process "
				     "ended: what was not on disk by then is lost",
				     folder);
}

int cmd_umount(struct invocation *invocation)
{
	CLEANUP_FREE char *folder = NULL;
	CLEANUP_FREE char *store = NULL;
	char program[] = "szpool";
	char command[] = "umount";
	int code = EXIT_OK;
	int result;

	if (console_current() != console_own())
		return unmount_here(invocation);
	result = folder_resolve(invocation->operands[0], &folder, &invocation->error);
	if (result == 0)
		result = sz_mount_find(folder, &store, &invocation->error);
	if (result != 0)
		return result;
	{
		char *const argv[] = { program, command, folder, NULL };

		result = served_call(store, 3, argv, &code);
	}
	if (result == -ECONNRESET)
		return lost_unmount(folder, &invocation->error);
	if (result != 0)
		return sz_mount_remove(folder, &invocation->error);
	invocation->exit_code = code; /* the error was told there */
	return 0;
}
