/*
 * rm: files and empty folders; with --recursive folders with what is in them. On a terminal it asks
 * before it removes a folder that is not empty.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct removal {
	struct invocation *invocation;
	struct sz_fs *fs;
};

static int fail(struct removal *removal, const char *path, int result)
{
	return sz_fail(&removal->invocation->error, result, "%s: %s", path, strerror(-result));
}

/* One name, no folder or an empty one. */
static int unlink_one(struct removal *removal, uint64_t parent, const char *name, const char *path)
{
	int result;

	if (option_is_given(removal->invocation, OPTION_DRY_RUN)) {
		(void)fputs("would remove ", console_out());
		name_print(path);
		(void)fputc('\n', console_out());
		return 0;
	}
	result = sz_fs_unlink(removal->fs, parent, name);
	if (result == -EISDIR)
		result = sz_fs_rmdir(removal->fs, parent, name);
	if (result == 0)
		name_changed(removal->fs, parent, name);
	return result == 0 ? 0 : fail(removal, path, result);
}

static int remove_tree(struct removal *removal, uint64_t parent, uint64_t folder, const char *name,
		       const char *path)
{
	struct walk *walk;
	const struct walk_step *step;
	int result = walk_open(removal->fs, parent, folder, S_IFDIR, path, &walk);

	if (result != 0)
		return fail(removal, path, result);
	while ((result = walk_next(walk, &step)) == 0 && step != NULL) {
		result = interrupt_check(&removal->invocation->error);
		if (result == 0 && step->event != WALK_ENTER)
			result = unlink_one(removal, step->parent,
					    step->is_root ? name : step->name, step->path);
		if (result != 0)
			break;
	}
	walk_close(walk);
	return result == 0 ? 0 : sz_fail(&removal->invocation->error, result, "%s", path);
}

static bool is_agreed(const struct removal *removal, const char *path)
{
	if (option_is_given(removal->invocation, OPTION_YES) ||
	    option_is_given(removal->invocation, OPTION_DRY_RUN) || isatty(console_in()) != 1 ||
	    isatty(console_err_fd()) != 1)
		return true;
	(void)fprintf(console_err(), "szpool: remove %s and all that is in it? [y/N] ", path);
	return console_agrees();
}

static int remove_one(struct removal *removal, const char *path)
{
	struct sz_error *error = &removal->invocation->error;
	struct entries entries = { 0 };
	struct stat stat;
	char name[NAME_BYTES];
	uint64_t parent;
	uint64_t inode = 0;
	bool is_place;
	bool is_full;
	int result = path_parent(removal->fs, path, &parent, name, error);

	if (result == 0) {
		result = sz_fs_lookup(removal->fs, parent, name, &inode);
		if (result == 0)
			result = place_find(removal->fs, parent, name, &is_place);
		if (result == 0 && is_place)
			result = -EBUSY;
		if (result != 0)
			(void)fail(removal, path, result);
	}
	if (result == -ENOENT && option_is_given(removal->invocation, OPTION_FORCE)) {
		*error = (struct sz_error){ 0 };
		return 0;
	}
	if (result == 0) {
		result = sz_fs_getattr(removal->fs, inode, &stat);
		if (result == 0 && !S_ISDIR(stat.st_mode) && path[strlen(path) - 1] == '/')
			result = -ENOTDIR;
		if (result == 0 && S_ISDIR(stat.st_mode))
			result = entries_read(removal->fs, inode, &entries);
		if (result != 0)
			(void)fail(removal, path, result);
	}
	if (result != 0)
		return result;
	is_full = entries.count > 0;
	entries_free(&entries);
	if (!is_full)
		return unlink_one(removal, parent, name, path);
	if (!option_is_given(removal->invocation, OPTION_RECURSIVE))
		return sz_fail(
			error, -ENOTEMPTY,
			"%s: Directory not empty; 'szpool rm -r' removes it with all that is "
			"in it",
			path);
	if (!is_agreed(removal, path))
		return 0;
	return remove_tree(removal, parent, inode, name, path);
}

int cmd_rm(struct invocation *invocation)
{
	struct session session;
	struct removal removal = { .invocation = invocation };
	bool read_only = option_is_given(invocation, OPTION_DRY_RUN);
	int result = session_open(invocation, read_only, SESSION_FS, &session);

	if (result != 0)
		return result;
	removal.fs = session.fs;
	for (int i = 1; result == 0 && i < invocation->count; i++)
		result = remove_one(&removal, invocation->operands[i]);
	return session_close(invocation, &session, result);
}
