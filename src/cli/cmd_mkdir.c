/* mkdir: folders; with --parents the missing ones above them too. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static int make_one(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	const struct sz_fs_new new = { .mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid() };
	char name[NAME_BYTES];
	uint64_t parent;
	uint64_t inode;
	int result = path_parent(fs, path, &parent, name, error);

	if (result == -ENOENT)
		return sz_fail(error, result, "--parents makes the folders above it too");
	if (result != 0)
		return result;
	result = sz_fs_mkdir(fs, parent, name, &new, &inode);
	if (result == 0)
		name_changed(fs, parent, name);
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

/* Each prefix of the path that is not there is made; what is there has to be a folder. */
static int make_all(struct sz_fs *fs, const char *path, struct sz_error *error)
{
	size_t length = strlen(path);

	for (size_t end = 1; end <= length; end++) {
		CLEANUP_FREE char *prefix = NULL;
		struct sz_error ignored = { 0 };
		struct stat stat;
		uint64_t inode;
		int result;

		if ((path[end] != '/' && path[end] != '\0') || path[end - 1] == '/')
			continue;
		prefix = strndup(path, end);
		if (prefix == NULL)
			return sz_fail(error, -ENOMEM, "no memory");
		result = path_find(fs, prefix, &inode, &ignored);
		if (result == 0)
			result = sz_fs_getattr(fs, inode, &stat);
		if (result == 0 && !S_ISDIR(stat.st_mode))
			return sz_fail(error, -ENOTDIR, "%s: exists and is not a folder", prefix);
		if (result == -ENOENT)
			result = make_one(fs, prefix, error);
		else if (result != 0)
			return sz_fail(error, result, "%s", ignored.text);
		if (result != 0)
			return result;
	}
	return 0;
}

int cmd_mkdir(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, false, SESSION_FS, &session);

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < invocation->count; i++)
		result =
			option_is_given(invocation, OPTION_PARENTS)
				? make_all(session.fs, invocation->operands[i], &invocation->error)
				: make_one(session.fs, invocation->operands[i], &invocation->error);
	return session_close(invocation, &session, result);
}
