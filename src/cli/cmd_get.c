/* get: files and trees out of the pool. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static const char *last_name(char *path)
{
	size_t length = strlen(path);
	const char *slash;

	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	slash = strrchr(path, '/');
	return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

static int get_one(struct sz_fs *fs, char *path, const char *target, struct sz_error *error)
{
	CLEANUP_FREE char *to = NULL;
	struct stat stat_to;
	uint64_t inode;
	int result = path_find(fs, path, &inode, error);

	if (result != 0)
		return result;
	if (strcmp(target, "-") == 0)
		return file_out(fs, inode, STDOUT_FILENO, error);
	if (stat(target, &stat_to) == 0 && S_ISDIR(stat_to.st_mode) && inode != sz_fs_root(fs)) {
		if (asprintf(&to, "%s/%s", target, last_name(path)) < 0)
			return sz_fail(error, -ENOMEM, "no memory");
	} else {
		to = strdup(target);
	}
	return to == NULL ? sz_fail(error, -ENOMEM, "no memory") : tree_get(fs, inode, to, error);
}

int cmd_get(struct invocation *invocation)
{
	struct session session;
	int last = invocation->count - 1;
	int result = session_open(invocation, true, SESSION_FS, &session);

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < last; i++)
		result = get_one(session.fs, invocation->operands[i], invocation->operands[last],
				 &invocation->error);
	return session_close(invocation, &session, result);
}
