/* create-dataset: another file system in the pool, in its parent's root folder. */
#include "cli/cli.h"

#include <unistd.h>

/* In a mount the kernel may know that there was nothing of that name. */
static void place_tell(struct sz_fs *head, const char *dataset)
{
	const char *slash = strrchr(dataset, '/');
	CLEANUP_FREE char *parent =
		slash == NULL ? NULL : strndup(dataset, (size_t)(slash - dataset));
	struct sz_error ignored = { 0 };
	struct sz_fs *fs;

	if (sz_fs_dataset_open(head, parent, &fs, &ignored) != 0)
		return;
	name_changed(fs, sz_fs_root(fs), slash == NULL ? dataset : slash + 1);
	sz_fs_dataset_close(fs);
}

int dataset_make(struct invocation *invocation, struct session *session, const char *name)
{
	int result =
		sz_fs_dataset_create(session->fs, name, geteuid(), getegid(), &invocation->error);

	if (result == 0)
		place_tell(session->fs, name);
	return result;
}

int cmd_create_dataset(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	result = dataset_make(invocation, &session, invocation->operands[1]);
	if (result != 0)
		(void)store_fail(invocation, result);
	return session_close(invocation, &session, result);
}
