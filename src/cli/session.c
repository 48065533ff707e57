/* session: opens store, pool and file system in order, and closes them in the other. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>

int session_open(const char *path, bool read_only, bool with_fs, struct session *session_out,
		 struct sz_error *error)
{
	const struct sz_store_open options = { .path = path, .read_only = read_only };
	struct session session = { 0 };
	struct sz_error ignored = { 0 };
	int result = sz_store_open(&options, NULL, &session.store, error);

	if (result != 0)
		return result;
	result = sz_engine_start(0, error);
	if (result == 0)
		result = sz_pool_import(session.store, read_only, &session.pool, error);
	if (result == 0 && with_fs)
		result = sz_fs_open(session.pool, NULL, read_only, &session.fs, error);
	if (result != 0) {
		if (session.pool != NULL)
			(void)!sz_pool_export(session.pool, &ignored);
		(void)!sz_store_close(session.store, &ignored);
		return sz_fail(error, result, "%s", path);
	}
	*session_out = session;
	return 0;
}

int session_close(struct session *session, struct sz_error *error)
{
	struct sz_error second = { 0 };
	int result;
	int closed;

	if (session->fs != NULL)
		sz_fs_close(session->fs);
	result = sz_pool_export(session->pool, error);
	closed = sz_store_close(session->store, result == 0 ? error : &second);
	return result != 0 ? result : closed;
}

/* The next name of a path, without slashes; false at the end. */
static bool path_next(const char **path, char name[256], bool *too_long_out)
{
	size_t length;

	*path += strspn(*path, "/");
	length = strcspn(*path, "/");
	*too_long_out = length > 255;
	if (length == 0 || *too_long_out)
		return false;
	memcpy(name, *path, length);
	name[length] = '\0';
	*path += length;
	return true;
}

static int path_check(const char *path, struct sz_error *error)
{
	if (path[0] == '/')
		return 0;
	return sz_fail(error, -EINVAL, "%s: a path in the pool has to begin with '/'", path);
}

int path_find(struct sz_fs *fs, const char *path, uint64_t *inode_out, struct sz_error *error)
{
	const char *rest = path;
	uint64_t inode = sz_fs_root(fs);
	char name[256];
	bool too_long;
	int result = path_check(path, error);

	if (result != 0)
		return result;
	while (path_next(&rest, name, &too_long)) {
		result = sz_fs_lookup(fs, inode, name, &inode);
		if (result != 0)
			return sz_fail(error, result, "%s: %s", path, strerror(-result));
	}
	if (too_long)
		return sz_fail(error, -ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	*inode_out = inode;
	return 0;
}

int path_parent(struct sz_fs *fs, const char *path, uint64_t *parent_out, char name[256],
		struct sz_error *error)
{
	size_t end = strlen(path);
	size_t start;
	CLEANUP_FREE char *parent = NULL;
	int result = path_check(path, error);

	if (result != 0)
		return result;
	while (end > 1 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	if (start == end)
		return sz_fail(error, -EINVAL, "%s: this is the root folder", path);
	if (end - start > 255)
		return sz_fail(error, -ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	memcpy(name, path + start, end - start);
	name[end - start] = '\0';
	parent = strndup(path, start);
	if (parent == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	return path_find(fs, parent, parent_out, error);
}
