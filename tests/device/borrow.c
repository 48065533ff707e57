/* The borrowing backend: see borrow.h. Its files are the inner one's. */
#include "borrow.h"

#include <assert.h>
#include <string.h>

struct borrowed {
	struct sz_backend backend;
	struct sz_backend *inner;
	int *alive;
	const char *hidden;
};

static struct sz_backend *inner_of(struct sz_backend *backend)
{
	return ((struct borrowed *)(void *)backend)->inner;
}

struct listing {
	sz_list_fn *each;
	void *context;
	const char *hidden;
};

static int listed(void *context, const char *name, uint64_t size_bytes)
{
	const struct listing *listing = context;

	if (listing->hidden != NULL && strcmp(name, listing->hidden) == 0)
		return 0;
	return listing->each(listing->context, name, size_bytes);
}

static int borrowed_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each,
			 void *context)
{
	const struct borrowed *self = (struct borrowed *)(void *)backend;
	struct listing listing = { each, context, self->hidden };

	return sz_backend_list(self->inner, part, listed, &listing);
}

static int borrowed_create(struct sz_backend *backend, enum sz_part part, const char *name,
			   struct sz_file **file_out)
{
	return sz_backend_create(inner_of(backend), part, name, file_out);
}

static int borrowed_open(struct sz_backend *backend, enum sz_part part, const char *name,
			 struct sz_file **file_out)
{
	return sz_backend_open(inner_of(backend), part, name, file_out);
}

static int borrowed_rename(struct sz_backend *backend, const char *live_name,
			   const char *sealed_name)
{
	return sz_backend_rename(inner_of(backend), live_name, sealed_name);
}

static int borrowed_remove(struct sz_backend *backend, enum sz_part part, const char *name)
{
	return sz_backend_remove(inner_of(backend), part, name);
}

static int borrowed_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	return sz_backend_sync_folder(inner_of(backend), part);
}

static int borrowed_space(struct sz_backend *backend, struct sz_space *space_out)
{
	return sz_backend_space(inner_of(backend), space_out);
}

static void borrowed_settle(struct sz_backend *backend)
{
	sz_backend_settle(inner_of(backend));
}

static int borrowed_lock(struct sz_backend *backend, bool is_exclusive)
{
	return sz_backend_lock(inner_of(backend), is_exclusive);
}

static void borrowed_close(struct sz_backend *backend)
{
	struct borrowed *self = (struct borrowed *)(void *)backend;

	assert(*self->alive > 0);
	(*self->alive)--;
	free(self);
}

static const struct sz_backend_ops borrowed_ops = {
	.list = borrowed_list,
	.create = borrowed_create,
	.open = borrowed_open,
	.rename = borrowed_rename,
	.remove = borrowed_remove,
	.sync_folder = borrowed_sync_folder,
	.space = borrowed_space,
	.settle = borrowed_settle,
	.lock = borrowed_lock,
	.close = borrowed_close,
};

struct sz_backend *borrow(struct sz_backend *inner, int *alive, const char *hidden)
{
	struct borrowed *self = calloc(1, sizeof(*self));

	if (self == NULL)
		abort();
	self->backend.ops = &borrowed_ops;
	self->backend.label = inner->label;
	self->inner = inner;
	self->alive = alive;
	self->hidden = hidden;
	(*alive)++;
	return &self->backend;
}
