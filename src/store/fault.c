/*
 * The fault backend: passes everything on, counts it, and at a chosen count fails it or calls a
 * test. Several backends share one plan, so that "the k-th operation of the store" has a meaning.
 *
 * 1. An operation that fails does nothing, but for a torn write, which does a beginning.
 * 2. Operations are counted before they are done, one count for all threads.
 *
 * It does not count what a disk cannot fail by itself: closing, and asking for sizes or space.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>

#define UNIT_BYTES 512 /* what a disk writes in one piece */

struct fault {
	struct sz_backend backend;
	struct sz_backend *inner;
	struct sz_fault_plan *plan;
};

struct fault_file {
	struct sz_file file;
	struct sz_file *inner;
	struct sz_fault_plan *plan;
};

static struct fault *fault_of(struct sz_backend *backend)
{
	return (struct fault *)(void *)backend;
}

static struct fault_file *file_of(struct sz_file *file)
{
	return (struct fault_file *)(void *)file;
}

/* Counts an operation. 0: do it; -errno: it fails. */
static int admit(struct sz_fault_plan *plan, enum sz_operation operation)
{
	uint64_t count;

	if ((plan->mask & operation) == 0)
		return 0;
	count = __atomic_add_fetch(&plan->count, 1, __ATOMIC_SEQ_CST);
	if (plan->fail_at == 0 || count < plan->fail_at)
		return 0;
	if (count > plan->fail_at && !plan->fail_from)
		return 0;
	if (plan->fail_last != 0 && count > plan->fail_last)
		return 0;
	if (plan->at != NULL) {
		plan->at(plan->at_context);
		return 0;
	}
	assert(plan->error < 0);
	return plan->error;
}

static int fault_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each,
		      void *context)
{
	struct fault *fault = fault_of(backend);
	int rc = admit(fault->plan, SZ_OP_LIST);

	return rc != 0 ? rc : sz_backend_list(fault->inner, part, each, context);
}

typedef int open_fn(struct sz_backend *, enum sz_part, const char *, struct sz_file **);

static int open_by(open_fn *function, enum sz_operation operation, struct sz_backend *backend,
		   enum sz_part part, const char *name, struct sz_file **file_out)
{
	struct fault *fault = fault_of(backend);
	CLEANUP_FREE struct fault_file *file = calloc(1, sizeof(*file));
	int rc;

	if (file == NULL)
		return -ENOMEM;
	file->file.ops = backend->ops;
	file->plan = fault->plan;
	rc = admit(fault->plan, operation);
	if (rc == 0)
		rc = function(fault->inner, part, name, &file->inner);
	if (rc == 0)
		*file_out = &TAKE(file)->file;
	return rc;
}

static int fault_create(struct sz_backend *backend, enum sz_part part, const char *name,
			struct sz_file **file_out)
{
	return open_by(sz_backend_create, SZ_OP_CREATE, backend, part, name, file_out);
}

static int fault_open(struct sz_backend *backend, enum sz_part part, const char *name,
		      struct sz_file **file_out)
{
	return open_by(sz_backend_open, SZ_OP_OPEN, backend, part, name, file_out);
}

static int fault_rename(struct sz_backend *backend, const char *live_name, const char *sealed_name)
{
	struct fault *fault = fault_of(backend);
	int rc = admit(fault->plan, SZ_OP_RENAME);

	return rc != 0 ? rc : sz_backend_rename(fault->inner, live_name, sealed_name);
}

static int fault_remove(struct sz_backend *backend, enum sz_part part, const char *name)
{
	struct fault *fault = fault_of(backend);
	int rc = admit(fault->plan, SZ_OP_REMOVE);

	return rc != 0 ? rc : sz_backend_remove(fault->inner, part, name);
}

static int fault_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	struct fault *fault = fault_of(backend);
	int rc = admit(fault->plan, SZ_OP_SYNC_FOLDER);

	return rc != 0 ? rc : sz_backend_sync_folder(fault->inner, part);
}

static int fault_space(struct sz_backend *backend, struct sz_space *space_out)
{
	return sz_backend_space(fault_of(backend)->inner, space_out);
}

static void fault_settle(struct sz_backend *backend)
{
	sz_backend_settle(fault_of(backend)->inner);
}

static int fault_lock(struct sz_backend *backend, bool is_exclusive)
{
	return sz_backend_lock(fault_of(backend)->inner, is_exclusive);
}

static void fault_close(struct sz_backend *backend)
{
	sz_backend_close(fault_of(backend)->inner);
	free(backend);
}

static int fault_file_read(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
			   size_t *done_out)
{
	struct fault_file *self = file_of(file);
	int rc = admit(self->plan, SZ_OP_READ);

	return rc != 0 ? rc : sz_file_read(self->inner, buffer, length, offset, done_out);
}

/* Where reads are counted all of them have to be: those of _file_read. */
static int fault_file_read_cached(struct sz_file *file, void *buffer, size_t length,
				  uint64_t offset)
{
	const struct fault_file *self = file_of(file);

	return (self->plan->mask & SZ_OP_READ) != 0
		       ? -EAGAIN
		       : sz_file_read_cached(self->inner, buffer, length, offset);
}

/* Writes some units of a write that fails, but never all of it. How many differs from case to case. */
static void write_beginning(struct fault_file *self, const void *buffer, size_t length,
			    uint64_t offset)
{
	size_t unit_count = DIV_ROUND_UP(length, UNIT_BYTES);
	size_t kept = (size_t)((self->plan->fail_at * 0x9e3779b97f4a7c15U) >> 32) % unit_count;
	int rc = sz_file_write(self->inner, buffer, kept * UNIT_BYTES, offset);

	(void)rc; /* the caller hears of a failure anyway */
}

static int fault_file_write(struct sz_file *file, const void *buffer, size_t length,
			    uint64_t offset)
{
	struct fault_file *self = file_of(file);
	int rc = admit(self->plan, SZ_OP_WRITE);

	if (rc == 0)
		return sz_file_write(self->inner, buffer, length, offset);
	if (self->plan->tear && length > 0)
		write_beginning(self, buffer, length, offset);
	return rc;
}

static void fault_file_sync_begin(struct sz_file *file)
{
	sz_file_sync_begin(file_of(file)->inner);
}

static int fault_file_sync(struct sz_file *file)
{
	struct fault_file *self = file_of(file);
	int rc = admit(self->plan, SZ_OP_SYNC);

	return rc != 0 ? rc : sz_file_sync(self->inner);
}

static int fault_file_stat(struct sz_file *file, uint64_t *size_out, uint64_t *inode_out)
{
	return sz_file_stat(file_of(file)->inner, size_out, inode_out);
}

static int fault_file_hold(struct sz_file *file)
{
	return sz_file_hold(file_of(file)->inner);
}

static int fault_file_is_held(struct sz_file *file, bool *is_held_out)
{
	return sz_file_is_held(file_of(file)->inner, is_held_out);
}

static void fault_file_close(struct sz_file *file)
{
	sz_file_close(file_of(file)->inner);
	free(file);
}

static const struct sz_backend_ops fault_ops = {
	.list = fault_list,
	.create = fault_create,
	.open = fault_open,
	.rename = fault_rename,
	.remove = fault_remove,
	.sync_folder = fault_sync_folder,
	.space = fault_space,
	.settle = fault_settle,
	.lock = fault_lock,
	.close = fault_close,
	.file_read = fault_file_read,
	.file_read_cached = fault_file_read_cached,
	.file_write = fault_file_write,
	.file_sync_begin = fault_file_sync_begin,
	.file_sync = fault_file_sync,
	.file_stat = fault_file_stat,
	.file_hold = fault_file_hold,
	.file_is_held = fault_file_is_held,
	.file_close = fault_file_close,
};

int sz_fault_open(struct sz_backend *inner, struct sz_fault_plan *plan,
		  struct sz_backend **backend_out)
{
	struct fault *fault = calloc(1, sizeof(*fault));

	*backend_out = NULL;
	if (fault == NULL)
		return -ENOMEM;
	fault->backend.ops = &fault_ops;
	fault->backend.label = inner->label;
	fault->inner = inner;
	fault->plan = plan;
	*backend_out = &fault->backend;
	return 0;
}
