/*
 * The door of the store: checks what every backend would have to check, and passes on.
 *
 * 1. A backend sees only names that are one path component: not empty, not "." or "..", without a
 *    slash, at most SZ_NAME_MAX_BYTES long. So no name leads out of its folder.
 * 2. No sealed object is ever called "live": that is the folder of the live files.
 * 3. A range that a backend sees ends within INT64_MAX, the largest file offset.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>

static int name_check(const char *name)
{
	size_t length = strnlen(name, SZ_NAME_MAX_BYTES + 1);

	if (length > SZ_NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	if (length == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return strchr(name, '/') == NULL ? 0 : -EINVAL;
}

/* A name that is about to be taken. */
static int new_name_check(enum sz_part part, const char *name)
{
	int rc = name_check(name);

	if (rc == 0 && part == SZ_SEALED && strcmp(name, SZ_LIVE_FOLDER) == 0)
		return -EINVAL;
	return rc;
}

static int range_check(size_t length, uint64_t offset)
{
	return length <= INT64_MAX && offset <= INT64_MAX - (uint64_t)length ? 0 : -EFBIG;
}

static bool part_is_valid(enum sz_part part)
{
	return part == SZ_SEALED || part == SZ_LIVE;
}

int sz_backend_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each, void *context)
{
	assert(part_is_valid(part) && each != NULL);
	return backend->ops->list(backend, part, each, context);
}

int sz_backend_create(struct sz_backend *backend, enum sz_part part, const char *name,
		      struct sz_file **file_out)
{
	int rc = new_name_check(part, name);

	assert(part_is_valid(part));
	*file_out = NULL;
	return rc != 0 ? rc : backend->ops->create(backend, part, name, file_out);
}

int sz_backend_open(struct sz_backend *backend, enum sz_part part, const char *name,
		    struct sz_file **file_out)
{
	int rc = name_check(name);

	assert(part_is_valid(part));
	*file_out = NULL;
	return rc != 0 ? rc : backend->ops->open(backend, part, name, file_out);
}

void sz_backend_settle(struct sz_backend *backend)
{
	if (backend->ops->settle != NULL)
		backend->ops->settle(backend);
}

int sz_backend_lock(struct sz_backend *backend, bool is_exclusive)
{
	return backend->ops->lock == NULL ? 0 : backend->ops->lock(backend, is_exclusive);
}

int sz_backend_rename(struct sz_backend *backend, const char *live_name, const char *sealed_name)
{
	int rc = name_check(live_name);

	if (rc == 0)
		rc = new_name_check(SZ_SEALED, sealed_name);
	return rc != 0 ? rc : backend->ops->rename(backend, live_name, sealed_name);
}

int sz_backend_remove(struct sz_backend *backend, enum sz_part part, const char *name)
{
	int rc = name_check(name);

	assert(part_is_valid(part));
	return rc != 0 ? rc : backend->ops->remove(backend, part, name);
}

int sz_backend_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	assert(part_is_valid(part));
	return backend->ops->sync_folder(backend, part);
}

int sz_backend_space(struct sz_backend *backend, struct sz_space *space_out)
{
	return backend->ops->space(backend, space_out);
}

void sz_backend_close(struct sz_backend *backend)
{
	if (backend != NULL)
		backend->ops->close(backend);
}

int sz_file_read(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
		 size_t *done_out)
{
	int rc = range_check(length, offset);

	*done_out = 0;
	return rc != 0 ? rc : file->ops->file_read(file, buffer, length, offset, done_out);
}

int sz_file_read_cached(struct sz_file *file, void *buffer, size_t length, uint64_t offset)
{
	if (file->ops->file_read_cached == NULL || range_check(length, offset) != 0)
		return -EAGAIN;
	return file->ops->file_read_cached(file, buffer, length, offset);
}

int sz_file_write(struct sz_file *file, const void *buffer, size_t length, uint64_t offset)
{
	int rc = range_check(length, offset);

	return rc != 0 ? rc : file->ops->file_write(file, buffer, length, offset);
}

void sz_file_sync_begin(struct sz_file *file)
{
	if (file->ops->file_sync_begin != NULL)
		file->ops->file_sync_begin(file);
}

int sz_file_sync(struct sz_file *file)
{
	return file->ops->file_sync(file);
}

int sz_file_stat(struct sz_file *file, uint64_t *size_bytes_out, uint64_t *inode_out)
{
	return file->ops->file_stat(file, size_bytes_out, inode_out);
}

int sz_file_hold(struct sz_file *file)
{
	return file->ops->file_hold(file);
}

int sz_file_is_held(struct sz_file *file, bool *is_held_out)
{
	return file->ops->file_is_held(file, is_held_out);
}

void sz_file_close(struct sz_file *file)
{
	if (file != NULL)
		file->ops->file_close(file);
}
