/* put: files and trees into the pool. */
#include "cli/cli.h"

#include <errno.h>

static const char *last_name(char *path)
{
	size_t length = strlen(path);
	const char *slash;

	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	slash = strrchr(path, '/');
	return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* Where a source goes: into path if that is a folder, else to it. */
static int put_one(struct sz_fs *fs, char *source, const char *path, bool several,
		   struct sz_error *error)
{
	struct sz_error ignored = { 0 };
	struct stat stat;
	char name[NAME_BYTES];
	uint64_t folder;
	int result = path_find(fs, path, &folder, &ignored);

	if (result == 0)
		result = sz_fs_getattr(fs, folder, &stat);
	if (result == 0 && S_ISDIR(stat.st_mode))
		return tree_put(fs, source, folder, last_name(source), error);
	if (several)
		return sz_fail(error, -ENOTDIR, "%s is not a folder in the pool", path);
	result = path_parent(fs, path, &folder, name, error);
	return result != 0 ? result : tree_put(fs, source, folder, name, error);
}

int cmd_put(struct invocation *invocation)
{
	struct session session;
	int last = invocation->count - 1;
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < last; i++)
		result = put_one(session.fs, invocation->operands[i], invocation->operands[last],
				 invocation->count > 3, &invocation->error);
	return session_close(invocation, &session, result);
}
