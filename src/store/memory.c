/*
 * The memory backend: a disk for tests that can lose its power.
 *
 * The one idea: everything is kept twice, as a reader sees it ("now") and as the disk has it
 * ("durable"), with the changes in between in their order. A sync moves changes to the durable side;
 * a crash copies the backend and lets chance decide about each change that is left.
 *
 * What a crash may leave, chosen to be what Linux file systems promise and no more:
 * 1. A file is an inode. Its content is as durable as its own last file_sync, whatever its names are.
 * 2. A write that was not synced is there, or not, or (TORN) some of its 512-byte units are, in any
 *    order with other writes; the length covers what is there. TORN: the length may come alone.
 * 3. A creation or a removal that was not synced is there or not, in any order with others: each
 *    subset is possible. Applied changes to one name keep their order.
 * 4. A rename is two changes: the new name, and the removal of the old one. Both names may be seen,
 *    or either; never none, as file systems move a name in one transaction. So the removal needs
 *    the new name: syncing the removal's folder makes the new name durable too.
 * 5. The folder live/ itself is no object and always there.
 *
 * One lock guards everything: a crash has to see one instant of all files.
 */
#include "store/memory_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#define DEFAULT_BYTES ((uint64_t)1 << 40)

static const struct sz_backend_ops memory_ops;

struct memory *sz_memory_of(struct sz_backend *backend)
{
	assert(backend->ops == &memory_ops);
	return (struct memory *)(void *)backend;
}

static struct memory_file *file_of(struct sz_file *file)
{
	return (struct memory_file *)(void *)file;
}

/* Inodes */

void sz_inode_writes_free(struct inode *inode)
{
	while (inode->writes != NULL) {
		struct pending_write *write = inode->writes;

		inode->writes = write->next;
		free(write);
	}
	inode->writes_end = &inode->writes;
}

int sz_inode_write_append(struct inode *inode, const void *data, size_t length, uint64_t offset)
{
	struct pending_write *write = malloc(sizeof(*write) + length);

	if (write == NULL)
		return -ENOMEM;
	write->next = NULL;
	write->offset = offset;
	write->length = length;
	memcpy(write->data, data, length);
	*inode->writes_end = write;
	inode->writes_end = &write->next;
	return 0;
}

struct inode *sz_inode_make(struct memory *memory, uint64_t number)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (inode == NULL)
		return NULL;
	inode->number = number;
	inode->writes_end = &inode->writes;
	inode->previous = memory->last_inode;
	if (memory->last_inode != NULL)
		memory->last_inode->next = inode;
	else
		memory->inodes = inode;
	memory->last_inode = inode;
	return inode;
}

void sz_inode_free(struct memory *memory, struct inode *inode)
{
	if (inode->previous != NULL)
		inode->previous->next = inode->next;
	else
		memory->inodes = inode->next;
	if (inode->next != NULL)
		inode->next->previous = inode->previous;
	else
		memory->last_inode = inode->previous;
	memory->used_blocks -= inode->now.used_count;
	if (memory->counts_late)
		memory->late_blocks += inode->now.used_count;
	sz_inode_writes_free(inode);
	sz_content_free(&inode->now);
	sz_content_free(&inode->durable);
	free(inode);
}

static void inode_put(struct memory *memory, struct inode *inode)
{
	if (inode != NULL && --inode->references == 0)
		sz_inode_free(memory, inode);
}

void sz_inode_slot_set(struct memory *memory, struct inode **slot, struct inode *inode)
{
	struct inode *old = *slot;

	if (inode != NULL)
		inode->references++;
	*slot = inode;
	inode_put(memory, old);
}

/* Names */

static uint32_t name_hash(enum sz_part part, const char *text)
{
	uint32_t hash = 2166136261U + (uint32_t)part; /* FNV-1a */

	for (const char *c = text; *c != '\0'; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619U;
	return hash;
}

struct name *sz_name_find(const struct memory *memory, enum sz_part part, const char *text)
{
	uint32_t hash = name_hash(part, text);
	struct name *name = memory->buckets[hash & (memory->bucket_count - 1)];

	while (name != NULL &&
	       (name->hash != hash || name->part != part || strcmp(name->text, text) != 0))
		name = name->next;
	return name;
}

static int buckets_grow(struct memory *memory)
{
	size_t count = memory->bucket_count == 0 ? 64 : memory->bucket_count * 2;
	struct name **buckets = calloc(count, sizeof(struct name *));

	if (buckets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < memory->bucket_count; i++) {
		while (memory->buckets[i] != NULL) {
			struct name *name = memory->buckets[i];

			memory->buckets[i] = name->next;
			name->next = buckets[name->hash & (count - 1)];
			buckets[name->hash & (count - 1)] = name;
		}
	}
	free(memory->buckets);
	memory->buckets = buckets;
	memory->bucket_count = count;
	return 0;
}

struct name *sz_name_get(struct memory *memory, enum sz_part part, const char *text)
{
	struct name *name = sz_name_find(memory, part, text);
	size_t length = strlen(text);
	struct name **bucket;

	if (name != NULL)
		return name;
	if (memory->name_count >= memory->bucket_count && buckets_grow(memory) != 0)
		return NULL;
	name = calloc(1, sizeof(*name) + length + 1);
	if (name == NULL)
		return NULL;
	name->hash = name_hash(part, text);
	name->part = part;
	memcpy(name->text, text, length);
	bucket = &memory->buckets[name->hash & (memory->bucket_count - 1)];
	name->next = *bucket;
	*bucket = name;
	memory->name_count++;
	return name;
}

static void name_drop_if_unused(struct memory *memory, struct name *name)
{
	struct name **at = &memory->buckets[name->hash & (memory->bucket_count - 1)];

	if (name->now != NULL || name->durable != NULL || name->changes != 0)
		return;
	while (*at != name)
		at = &(*at)->next;
	*at = name->next;
	memory->name_count--;
	free(name);
}

/* Changes of names */

struct change *sz_change_append(struct memory *memory, struct change *change, struct name *name,
				struct inode *inode)
{
	struct changes *changes = &memory->changes[name->part];

	*change = (struct change){ .name = name };
	name->changes++;
	sz_inode_slot_set(memory, &change->inode, inode);
	*changes->end = change;
	changes->end = &change->next;
	return change;
}

void sz_change_drop_first(struct memory *memory, enum sz_part part)
{
	struct changes *changes = &memory->changes[part];
	struct change *change = changes->first;

	changes->first = change->next;
	if (changes->first == NULL)
		changes->end = &changes->first;
	if (change->other != NULL)
		change->other->other = NULL;
	change->name->changes--;
	name_drop_if_unused(memory, change->name);
	sz_inode_slot_set(memory, &change->inode, NULL);
	free(change);
}

/* Makes a part's changes durable, up to and including last (NULL: all). */
static void changes_commit(struct memory *memory, enum sz_part part, const struct change *last)
{
	bool is_last = false;

	while (memory->changes[part].first != NULL && !is_last) {
		struct change *change = memory->changes[part].first;

		is_last = change == last;
		sz_inode_slot_set(memory, &change->name->durable, change->inode);
		sz_change_drop_first(memory, part);
	}
}

/* Backends */

void sz_memory_free(struct memory *memory)
{
	for (unsigned int part = 0; part < PART_COUNT; part++) {
		while (memory->changes[part].first != NULL)
			sz_change_drop_first(memory, (enum sz_part)part);
	}
	for (size_t i = 0; i < memory->bucket_count; i++) {
		while (memory->buckets[i] != NULL) {
			struct name *name = memory->buckets[i];

			memory->buckets[i] = name->next;
			free(name);
		}
	}
	while (memory->inodes != NULL)
		sz_inode_free(memory, memory->inodes);
	(void)pthread_mutex_destroy(&memory->lock);
	free(memory->buckets);
	free(memory->label);
	free(memory);
}

struct memory *sz_memory_make(const char *label)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	if (memory == NULL)
		return NULL;
	(void)pthread_mutex_init(&memory->lock, NULL);
	for (unsigned int part = 0; part < PART_COUNT; part++)
		memory->changes[part].end = &memory->changes[part].first;
	memory->total_bytes = DEFAULT_BYTES;
	memory->label = strdup(label);
	if (memory->label == NULL || buckets_grow(memory) != 0) {
		sz_memory_free(memory);
		return NULL;
	}
	memory->backend.ops = &memory_ops;
	memory->backend.label = memory->label;
	return memory;
}

static void memory_close(struct sz_backend *backend)
{
	struct memory *memory = sz_memory_of(backend);

	assert(memory->open_files == 0);
	sz_memory_free(memory);
}

static int snapshot_names(struct memory *memory, enum sz_part part, struct sz_bytes *names)
{
	LOCKED(memory);
	int rc = 0;

	for (size_t i = 0; i < memory->bucket_count; i++) {
		for (struct name *name = memory->buckets[i]; name != NULL && rc == 0;
		     name = name->next) {
			if (name->part != part || name->now == NULL)
				continue;
			rc = sz_bytes_append_le(names, name->now->now.size_bytes, 8);
			if (rc == 0)
				rc = sz_bytes_append(names, name->text, strlen(name->text) + 1);
		}
	}
	return rc;
}

static int memory_list(struct sz_backend *backend, enum sz_part part, sz_list_fn *each,
		       void *context)
{
	CLEANUP_BYTES struct sz_bytes names = { 0 };
	struct sz_cursor cursor;
	int rc = snapshot_names(sz_memory_of(backend), part, &names);

	cursor = (struct sz_cursor){ .data = names.data, .length = names.length };
	while (rc == 0 && cursor.offset < cursor.length) {
		uint64_t size_bytes = sz_cursor_le(&cursor, 8);
		const char *name = (const char *)cursor.data + cursor.offset;

		(void)sz_cursor_take(&cursor, strlen(name) + 1);
		rc = each(context, name, size_bytes);
	}
	return rc;
}

static struct memory_file *file_make(struct memory *memory, bool is_writable)
{
	struct memory_file *file = calloc(1, sizeof(*file));

	if (file == NULL)
		return NULL;
	file->file.ops = &memory_ops;
	file->memory = memory;
	file->is_writable = is_writable;
	return file;
}

static struct sz_file *file_attach(struct memory_file *file, struct inode *inode)
{
	sz_inode_slot_set(file->memory, &file->inode, inode);
	file->memory->open_files++;
	return &file->file;
}

static int memory_create(struct sz_backend *backend, enum sz_part part, const char *text,
			 struct sz_file **file_out)
{
	static atomic_uint_fast64_t next_number = 1; /* of all backends: a copy is another file */
	struct memory *memory = sz_memory_of(backend);
	CLEANUP_FREE struct memory_file *file = file_make(memory, true);
	CLEANUP_FREE struct change *change = malloc(sizeof(*change));
	LOCKED(memory);
	struct inode *inode;
	struct name *name;

	if (file == NULL || change == NULL)
		return -ENOMEM;
	name = sz_name_get(memory, part, text);
	if (name == NULL)
		return -ENOMEM;
	if (name->now != NULL)
		return -EEXIST;
	inode = sz_inode_make(memory, atomic_fetch_add(&next_number, 1));
	if (inode == NULL) {
		name_drop_if_unused(memory, name);
		return -ENOMEM;
	}
	sz_inode_slot_set(memory, &name->now, inode);
	(void)sz_change_append(memory, TAKE(change), name, inode);
	*file_out = file_attach(TAKE(file), inode);
	return 0;
}

static int memory_open(struct sz_backend *backend, enum sz_part part, const char *text,
		       struct sz_file **file_out)
{
	struct memory *memory = sz_memory_of(backend);
	CLEANUP_FREE struct memory_file *file = file_make(memory, false);
	LOCKED(memory);
	const struct name *name = sz_name_find(memory, part, text);

	if (file == NULL)
		return -ENOMEM;
	if (name == NULL || name->now == NULL)
		return -ENOENT;
	*file_out = file_attach(TAKE(file), name->now);
	return 0;
}

static int memory_rename(struct sz_backend *backend, const char *live_text, const char *sealed_text)
{
	struct memory *memory = sz_memory_of(backend);
	CLEANUP_FREE struct change *addition = malloc(sizeof(*addition));
	CLEANUP_FREE struct change *removal = malloc(sizeof(*removal));
	LOCKED(memory);
	struct name *live = sz_name_find(memory, SZ_LIVE, live_text);
	struct name *sealed;
	struct change *added;

	if (addition == NULL || removal == NULL)
		return -ENOMEM;
	if (live == NULL || live->now == NULL)
		return -ENOENT;
	sealed = sz_name_get(memory, SZ_SEALED, sealed_text);
	if (sealed == NULL)
		return -ENOMEM;
	if (sealed->now != NULL)
		return -EEXIST;
	sz_inode_slot_set(memory, &sealed->now, live->now);
	sz_inode_slot_set(memory, &live->now, NULL);
	added = sz_change_append(memory, TAKE(addition), sealed, sealed->now);
	added->other = sz_change_append(memory, TAKE(removal), live, NULL);
	added->other->other = added;
	return 0;
}

static int memory_remove(struct sz_backend *backend, enum sz_part part, const char *text)
{
	struct memory *memory = sz_memory_of(backend);
	CLEANUP_FREE struct change *removal = malloc(sizeof(*removal));
	LOCKED(memory);
	struct name *name = sz_name_find(memory, part, text);

	if (removal == NULL)
		return -ENOMEM;
	if (name == NULL || name->now == NULL)
		return -ENOENT;
	(void)sz_change_append(memory, TAKE(removal), name, NULL);
	sz_inode_slot_set(memory, &name->now, NULL);
	return 0;
}

static int memory_sync_folder(struct sz_backend *backend, enum sz_part part)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);

	if (part == SZ_LIVE) {
		for (const struct change *change = memory->changes[SZ_LIVE].first; change != NULL;
		     change = change->next) {
			if (change->other != NULL)
				changes_commit(memory, SZ_SEALED, change->other);
		}
	}
	changes_commit(memory, part, NULL);
	return 0;
}

static int memory_space(struct sz_backend *backend, struct sz_space *space_out)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);
	uint64_t used_bytes = (memory->used_blocks + memory->late_blocks) * SZ_BLOCK_BYTES;

	*space_out = (struct sz_space){
		.free_bytes =
			used_bytes < memory->total_bytes ? memory->total_bytes - used_bytes : 0,
		.total_bytes = memory->total_bytes,
		.disk = (uintptr_t)memory,
	};
	return 0;
}

static void memory_settle(struct sz_backend *backend)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);

	memory->late_blocks = 0;
}

static int memory_file_read(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
			    size_t *done_out)
{
	const struct memory_file *self = file_of(file);
	LOCKED(self->memory);

	*done_out = sz_content_read(&self->inode->now, buffer, length, offset);
	return 0;
}

static int memory_file_read_cached(struct sz_file *file, void *buffer, size_t length,
				   uint64_t offset)
{
	size_t done;
	int result = memory_file_read(file, buffer, length, offset, &done);

	return result == 0 && done == length ? 0 : -EAGAIN;
}

static int memory_file_write(struct sz_file *file, const void *buffer, size_t length,
			     uint64_t offset)
{
	const struct memory_file *self = file_of(file);
	struct memory *memory = self->memory;
	struct inode *inode = self->inode;
	LOCKED(memory);
	struct pending_write **last = inode->writes_end;
	bool overwrote;
	size_t holes;
	size_t used;
	int rc;

	if (!self->is_writable)
		return -EBADF;
	if (length == 0)
		return 0;
	holes = sz_content_holes(&inode->now, length, offset);
	if (holes > 0 && (memory->used_blocks + holes) * SZ_BLOCK_BYTES > memory->total_bytes)
		return -ENOSPC;
	rc = sz_inode_write_append(inode, buffer, length, offset);
	if (rc != 0)
		return rc;
	used = inode->now.used_count;
	rc = sz_content_write(&inode->now, buffer, length, offset, &overwrote);
	memory->used_blocks += inode->now.used_count - used;
	if (rc != 0) {
		free(*last);
		*last = NULL;
		inode->writes_end = last;
		return rc;
	}
	memory->overwrites += overwrote;
	return 0;
}

static int memory_file_sync(struct sz_file *file)
{
	const struct memory_file *self = file_of(file);
	struct inode *inode = self->inode;
	LOCKED(self->memory);

	for (const struct pending_write *write = inode->writes; write != NULL;
	     write = write->next) {
		int rc = sz_content_share(&inode->durable, &inode->now, write->length,
					  write->offset);

		if (rc != 0)
			return rc;
	}
	sz_inode_writes_free(inode);
	return 0;
}

static int memory_file_stat(struct sz_file *file, uint64_t *size_out, uint64_t *inode_out)
{
	const struct memory_file *self = file_of(file);
	LOCKED(self->memory);

	*size_out = self->inode->now.size_bytes;
	*inode_out = self->inode->number;
	return 0;
}

static int memory_file_hold(struct sz_file *file)
{
	struct memory_file *self = file_of(file);
	LOCKED(self->memory);

	self->inode->holders += self->is_holder ? 0 : 1;
	self->is_holder = true;
	return 0;
}

static int memory_file_is_held(struct sz_file *file, bool *is_held_out)
{
	const struct memory_file *self = file_of(file);
	LOCKED(self->memory);

	*is_held_out = self->inode->holders > (self->is_holder ? 1 : 0);
	return 0;
}

static void memory_file_close(struct sz_file *file)
{
	struct memory_file *self = file_of(file);

	{
		LOCKED(self->memory);
		self->inode->holders -= self->is_holder ? 1 : 0;
		self->memory->open_files--;
		sz_inode_slot_set(self->memory, &self->inode, NULL);
	}
	free(self);
}

static const struct sz_backend_ops memory_ops = {
	.list = memory_list,
	.create = memory_create,
	.open = memory_open,
	.rename = memory_rename,
	.remove = memory_remove,
	.sync_folder = memory_sync_folder,
	.space = memory_space,
	.settle = memory_settle,
	.close = memory_close,
	.file_read = memory_file_read,
	.file_read_cached = memory_file_read_cached,
	.file_write = memory_file_write,
	.file_sync = memory_file_sync,
	.file_stat = memory_file_stat,
	.file_hold = memory_file_hold,
	.file_is_held = memory_file_is_held,
	.file_close = memory_file_close,
};

int sz_memory_open(const char *label, struct sz_backend **backend_out)
{
	struct memory *memory = sz_memory_make(label);

	*backend_out = memory == NULL ? NULL : &memory->backend;
	return memory == NULL ? -ENOMEM : 0;
}

void sz_memory_limit(struct sz_backend *backend, uint64_t total_bytes)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);

	memory->total_bytes = total_bytes;
}

void sz_memory_count_late(struct sz_backend *backend)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);

	memory->counts_late = true;
}

uint64_t sz_memory_overwrites(struct sz_backend *backend)
{
	struct memory *memory = sz_memory_of(backend);
	LOCKED(memory);

	return memory->overwrites;
}
