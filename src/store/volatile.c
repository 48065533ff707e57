/*
 * The volatile backend: another backend, as it is, and changes to it that live in memory alone. What is made,
 * renamed or removed is so for whoever uses this backend, and forgotten when it is closed: a store at
 * an old generation, or on media that cannot be written, can be used by those who must write.
 *
 * 1. Of the inner backend only listings and reads are ever asked.
 * 2. A name is what the first of these says: a move out of live/, the memory, the inner backend but for
 *    the names that are hidden (removed or moved).
 *
 * Files that are made here are a memory backend's. There are few changes to what was there before (the live
 * files of one epoch), so lists will do.
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>

struct hidden {
	struct hidden *next;
	enum sz_part part;
	char name[];
};

/* A live file of the inner backend that is a sealed one here. */
struct moved {
	struct moved *next;
	char *from;
	char *to;
};

struct volatile_backend {
	struct sz_backend backend;
	struct sz_backend *inner;
	struct sz_backend *memory;
	pthread_mutex_t
		lock; /* guards all below, and that a name does not change between look and act */
	struct hidden *hidden;
	struct moved *moved;
};

/* A file of the inner backend: nothing in it changes, so there is nothing to be synced. */
struct inner_file {
	struct sz_file file;
	struct sz_file *inner;
};

static struct volatile_backend *of(struct sz_backend *backend)
{
	return (struct volatile_backend *)(void *)backend;
}

static struct inner_file *file_of(struct sz_file *file)
{
	return (struct inner_file *)(void *)file;
}

static struct volatile_backend *lock(struct volatile_backend *self)
{
	(void)pthread_mutex_lock(&self->lock);
	return self;
}

static void unlock(struct volatile_backend **self)
{
	(void)pthread_mutex_unlock(&(*self)->lock);
}

#define LOCKED(self)                                                                               \
	CLEANUP(unlock) struct volatile_backend *locked_ __attribute__((unused)) = lock(self)

/* All of these: under the lock. */

static bool is_hidden(const struct volatile_backend *self, enum sz_part part, const char *name)
{
	for (const struct hidden *at = self->hidden; at != NULL; at = at->next)
		if (at->part == part && strcmp(at->name, name) == 0)
			return true;
	return false;
}

static int hide(struct volatile_backend *self, enum sz_part part, const char *name)
{
	size_t length = strlen(name) + 1;
	struct hidden *hidden = malloc(sizeof(*hidden) + length);

	if (hidden == NULL)
		return -ENOMEM;
	*hidden = (struct hidden){ .next = self->hidden, .part = part };
	memcpy(hidden->name, name, length);
	self->hidden = hidden;
	return 0;
}

/* Where the list leads to the move to this name; at the end: NULL. */
static struct moved **moved_find(struct volatile_backend *self, enum sz_part part, const char *name)
{
	struct moved **at = &self->moved;

	while (*at != NULL && (part != SZ_SEALED || strcmp((*at)->to, name) != 0))
		at = &(*at)->next;
	return at;
}

static void moved_free(struct moved **moved)
{
	if (*moved == NULL)
		return;
	free((*moved)->from);
	free((*moved)->to);
	free(*moved);
	*moved = NULL;
}

/* 0: the inner backend has it, and it is to be seen. */
static int inner_look(const struct volatile_backend *self, enum sz_part part, const char *name)
{
	struct sz_file *file;
	int rc = is_hidden(self, part, name) ? -ENOENT
					     : sz_backend_open(self->inner, part, name, &file);

	if (rc == 0)
		sz_file_close(file);
	return rc;
}

/* Files */

static int inner_open(struct volatile_backend *self, enum sz_part part, const char *name,
		      struct sz_file **file_out)
{
	CLEANUP_FREE struct inner_file *file = calloc(1, sizeof(*file));
	int rc;

	if (file == NULL)
		return -ENOMEM;
	file->file.ops = self->backend.ops;
	rc = sz_backend_open(self->inner, part, name, &file->inner);
	if (rc == 0)
		*file_out = &TAKE(file)->file;
	return rc;
}

static int volatile_open(struct sz_backend *backend, enum sz_part part, const char *name,
			 struct sz_file **file_out)
{
	struct volatile_backend *self = of(backend);
	LOCKED(self);
	const struct moved *moved = *moved_find(self, part, name);
	int rc;

	if (moved != NULL)
		return inner_open(self, SZ_LIVE, moved->from, file_out);
	rc = sz_backend_open(self->memory, part, name, file_out);
	if (rc != -ENOENT || is_hidden(self, part, name))
		return rc;
	return inner_open(self, part, name, file_out);
}

static int volatile_file_read(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
			      size_t *done_out)
{
	return sz_file_read(file_of(file)->inner, buffer, length, offset, done_out);
}

static int volatile_file_write(struct sz_file *file, const void *buffer, size_t length,
			       uint64_t offset)
{
	(void)file;
	(void)buffer;
	(void)length;
	(void)offset;
	return -EBADF; /* it was opened for reading: all that can be done to such a file */
}

static int volatile_file_sync(struct sz_file *file)
{
	(void)file;
	return 0;
}

static int volatile_file_stat(struct sz_file *file, uint64_t *size_out, uint64_t *inode_out)
{
	return sz_file_stat(file_of(file)->inner, size_out, inode_out);
}

static int volatile_file_hold(struct sz_file *file)
{
	return sz_file_hold(file_of(file)->inner);
}

static int volatile_file_is_held(struct sz_file *file, bool *is_held_out)
{
	return sz_file_is_held(file_of(file)->inner, is_held_out);
}

static void volatile_file_close(struct sz_file *file)
{
	sz_file_close(file_of(file)->inner);
	free(file);
}

/* Names */

static int volatile_create(struct sz_backend *backend, enum sz_part part, const char *name,
			   struct sz_file **file_out)
{
	struct volatile_backend *self = of(backend);
	LOCKED(self);
	int rc = *moved_find(self, part, name) != NULL ? 0 : inner_look(self, part, name);

	if (rc == 0)
		return -EEXIST;
	return rc == -ENOENT ? sz_backend_create(self->memory, part, name, file_out) : rc;
}

static int volatile_rename(struct sz_backend *backend, const char *live_name,
			   const char *sealed_name)
{
	struct volatile_backend *self = of(backend);
	LOCKED(self);
	CLEANUP(moved_free) struct moved *moved = NULL;
	int rc = *moved_find(self, SZ_SEALED, sealed_name) != NULL
			 ? 0
			 : inner_look(self, SZ_SEALED, sealed_name);

	if (rc != -ENOENT)
		return rc == 0 ? -EEXIST : rc;
	rc = sz_backend_rename(self->memory, live_name, sealed_name);
	if (rc == -ENOENT)
		rc = inner_look(self, SZ_LIVE, live_name);
	else
		return rc;
	if (rc != 0)
		return rc;
	moved = calloc(1, sizeof(*moved));
	if (moved == NULL)
		return -ENOMEM;
	moved->from = strdup(live_name);
	moved->to = strdup(sealed_name);
	if (moved->from == NULL || moved->to == NULL || hide(self, SZ_LIVE, live_name) != 0)
		return -ENOMEM;
	moved->next = self->moved;
	self->moved = TAKE(moved);
	return 0;
}

static int volatile_remove(struct sz_backend *backend, enum sz_part part, const char *name)
{
	struct volatile_backend *self = of(backend);
	LOCKED(self);
	struct moved **moved = moved_find(self, part, name);
	int rc;

	if (*moved != NULL) {
		struct moved *gone = *moved;

		*moved = gone->next;
		moved_free(&gone);
		return 0;
	}
	rc = sz_backend_remove(self->memory, part, name);
	if (rc != -ENOENT)
		return rc;
	rc = inner_look(self, part, name);
	return rc != 0 ? rc : hide(self, part, name);
}

struct listing {
	struct volatile_backend *self;
	enum sz_part part;
	sz_list_fn *each;
	void *context;
};

static int list_visible(void *context, const char *name, uint64_t size_bytes)
{
	const struct listing *listing = context;
	bool hidden;

	{
		LOCKED(listing->self);

		hidden = is_hidden(listing->self, listing->part, name);
	}
	return hidden ? 0 : listing->each(listing->context, name, size_bytes);
}

/* The name that comes after so many moves, for a caller that may remove it. NULL: there are no more. */
static char *moved_at(struct volatile_backend *self, size_t index)
{
	LOCKED(self);
	const struct moved *at = self->moved;

	while (at != NULL && index-- > 0)
		at = at->next;
	return at == NULL ? NULL : strdup(at->to);
}

static int list_moved(struct sz_backend *backend, sz_list_fn *each, void *context)
{
	int rc = 0;

	for (size_t i = 0; rc == 0; i++) {
		CLEANUP_FREE char *name = moved_at(of(backend), i);
		struct sz_file *file;
		uint64_t size;
		uint64_t inode;

		if (name == NULL)
			return 0;
		rc = volatile_open(backend, SZ_SEALED, name, &file);
		if (rc != 0)
			return rc == -ENOENT ? 0 : rc;
		rc = sz_file_stat(file, &size, &inode);
		sz_file_close(file);
		if (rc == 0)
			rc = each(context, name, size);
	}
	return rc;
}

static int volatile_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each,
			 void *context)
{
	struct volatile_backend *self = of(backend);
	struct listing listing = { self, part, each, context };
	int rc = sz_backend_list(self->inner, part, list_visible, &listing);

	if (rc == 0)
		rc = sz_backend_list(self->memory, part, each, context);
	if (rc == 0 && part == SZ_SEALED)
		rc = list_moved(backend, each, context);
	return rc;
}

static int volatile_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	return sz_backend_sync_folder(of(backend)->memory, part);
}

static int volatile_space(struct sz_backend *backend, struct sz_space *space_out)
{
	return sz_backend_space(of(backend)->memory, space_out);
}

static int volatile_lock(struct sz_backend *backend, bool is_exclusive)
{
	return sz_backend_lock(of(backend)->inner, is_exclusive);
}

static void volatile_close(struct sz_backend *backend)
{
	struct volatile_backend *self = of(backend);
	struct hidden *hidden;
	struct moved *moved;

	while ((hidden = self->hidden) != NULL) {
		self->hidden = hidden->next;
		free(hidden);
	}
	while ((moved = self->moved) != NULL) {
		self->moved = moved->next;
		moved_free(&moved);
	}
	sz_backend_close(self->memory);
	sz_backend_close(self->inner);
	(void)pthread_mutex_destroy(&self->lock);
	free(self);
}

static const struct sz_backend_ops volatile_ops = {
	.list = volatile_list,
	.create = volatile_create,
	.open = volatile_open,
	.rename = volatile_rename,
	.remove = volatile_remove,
	.sync_folder = volatile_sync_folder,
	.space = volatile_space,
	.lock = volatile_lock,
	.close = volatile_close,
	.file_read = volatile_file_read,
	.file_write = volatile_file_write,
	.file_sync = volatile_file_sync,
	.file_stat = volatile_file_stat,
	.file_hold = volatile_file_hold,
	.file_is_held = volatile_file_is_held,
	.file_close = volatile_file_close,
};

int sz_volatile_open(struct sz_backend *inner, uint64_t limit_bytes,
		     struct sz_backend **backend_out)
{
	CLEANUP_FREE struct volatile_backend *self = calloc(1, sizeof(*self));
	int rc = self == NULL ? -ENOMEM : sz_memory_open(inner->label, &self->memory);

	*backend_out = NULL;
	if (rc != 0)
		return rc;
	sz_memory_limit(self->memory, limit_bytes);
	self->backend.ops = &volatile_ops;
	self->backend.label = inner->label;
	self->inner = inner;
	(void)pthread_mutex_init(&self->lock, NULL);
	*backend_out = &TAKE(self)->backend;
	return 0;
}
