/* path: paths in the pool, and the listing of folders. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>

char *path_join(const char *folder, const char *name)
{
	char *joined;
	size_t length = strlen(folder);

	while (length > 0 && folder[length - 1] == '/')
		length--;
	return asprintf(&joined, "%.*s/%s", (int)length, folder, name) < 0 ? NULL : joined;
}

const char *last_name(char *path)
{
	size_t length = strlen(path);
	const char *slash;

	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	slash = strrchr(path, '/');
	return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* The next name of a path, without slashes; false at the end. */
static bool path_next(const char **path, char name[NAME_BYTES], bool *too_long_out)
{
	size_t length;

	*path += strspn(*path, "/");
	length = strcspn(*path, "/");
	*too_long_out = length >= NAME_BYTES;
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

static int name_is_too_long(const char *path, struct sz_error *error)
{
	return sz_fail(error, -ENAMETOOLONG, "%s: a name can have at most %u bytes", path,
		       NAME_BYTES - 1);
}

/* With a slash at the end it has to be a folder. */
static int end_check(struct sz_fs *fs, const char *path, uint64_t inode, struct sz_error *error)
{
	struct stat stat;
	int result = 0;

	if (path[strlen(path) - 1] != '/')
		return 0;
	result = sz_fs_getattr(fs, inode, &stat);
	if (result == 0 && !S_ISDIR(stat.st_mode))
		result = -ENOTDIR;
	return result == 0 ? 0 : sz_fail(error, result, "%s: %s", path, strerror(-result));
}

int place_find(struct sz_fs *fs, uint64_t parent, const char *name, bool *is_place_out)
{
	*is_place_out = false;
	return parent == sz_fs_root(fs) ? sz_fs_is_child(fs, name, is_place_out) : 0;
}

void place_text(const char *dataset, const char *name, char text[PLACE_TEXT_BYTES])
{
	(void)snprintf(text, PLACE_TEXT_BYTES, "left out: a dataset of its own; --dataset %s%s%s",
		       dataset != NULL ? dataset : "", dataset != NULL ? "/" : "", name);
}

int path_find(struct sz_fs *fs, const char *path, uint64_t *inode_out, struct sz_error *error)
{
	const char *rest = path;
	uint64_t inode = sz_fs_root(fs);
	char name[NAME_BYTES];
	bool too_long;
	int result = path_check(path, error);

	if (result != 0)
		return result;
	while (path_next(&rest, name, &too_long)) {
		bool is_child = false;

		/* Nothing is to be put under what is seen there in a mount. */
		result = place_find(fs, inode, name, &is_child);
		if (is_child)
			return sz_fail(error, -EXDEV,
				       "%s: '%s' is a dataset of its own; name it with --dataset",
				       path, name);
		if (result == 0)
			result = sz_fs_lookup(fs, inode, name, &inode);
		if (result == -ENOENT)
			return sz_fail(error, result,
				       "%s: No such file or folder in the pool ('%s' is missing)",
				       path, name);
		if (result != 0)
			return sz_fail(error, result, "%s: %s (at '%s')", path, strerror(-result),
				       name);
	}
	if (too_long)
		return name_is_too_long(path, error);
	result = end_check(fs, path, inode, error);
	if (result == 0)
		*inode_out = inode;
	return result;
}

int path_parent(struct sz_fs *fs, const char *path, uint64_t *parent_out, char name[NAME_BYTES],
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
		return sz_fail(error, -EBUSY, "%s: this is the pool's root folder", path);
	if (end - start >= NAME_BYTES)
		return name_is_too_long(path, error);
	memcpy(name, path + start, end - start);
	name[end - start] = '\0';
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return sz_fail(error, -EINVAL, "%s: cannot end in '%s'; name the folder", path,
			       name);
	parent = strndup(path, start);
	if (parent == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	return path_find(fs, parent, parent_out, error);
}

static int entry_add(void *context, const char *name, uint64_t inode, uint32_t mode_type,
		     uint64_t next_cookie)
{
	struct entries *entries = context;

	(void)next_cookie;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (entries->count == entries->capacity) {
		size_t capacity = entries->capacity == 0 ? 64 : 2 * entries->capacity;
		struct entry *grown = realloc(entries->data, capacity * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		entries->data = grown;
		entries->capacity = capacity;
	}
	entries->data[entries->count] =
		(struct entry){ .name = strdup(name), .inode = inode, .mode_type = mode_type };
	return entries->data[entries->count++].name == NULL ? -ENOMEM : 0;
}

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

int entries_read(struct sz_fs *fs, uint64_t folder, struct entries *entries_out)
{
	int result;

	*entries_out = (struct entries){ 0 };
	result = sz_fs_readdir(fs, folder, 0, entry_add, entries_out);
	if (result != 0)
		entries_free(entries_out);
	else if (entries_out->count > 1)
		qsort(entries_out->data, entries_out->count, sizeof(*entries_out->data),
		      entry_compare);
	return result;
}

void entries_free(struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		free(entries->data[i].name);
	free(entries->data);
	*entries = (struct entries){ 0 };
}
