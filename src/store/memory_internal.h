/*
 * What a memory backend is made of: shared by memory.c, which works on it as a disk does, and
 * crash.c, which cuts its power. What is kept, and why, is at the top of memory.c.
 */
#ifndef SZ_STORE_MEMORY_INTERNAL_H
#define SZ_STORE_MEMORY_INTERNAL_H

#include "store/content.h"
#include "store/store.h"

#include <pthread.h>

#define PART_COUNT 2

/* A write since the last sync. */
struct pending_write {
	struct pending_write *next;
	uint64_t offset;
	size_t length;
	uint8_t data[];
};

struct inode {
	struct inode *next; /* all of the backend's, oldest first */
	struct inode *previous;
	unsigned int references; /* by names, changes and open files */
	uint64_t number;
	struct sz_content now;
	struct sz_content durable;
	struct pending_write *writes; /* oldest first */
	struct pending_write **writes_end;
	struct inode *copy; /* during a crash only */
	unsigned int holders;
};

/* A name of a part, now or durably taken, or changed in between. */
struct name {
	struct name *next; /* in its bucket */
	uint32_t hash;
	enum sz_part part;
	unsigned int changes; /* that refer to it */
	struct inode *now;
	struct inode *durable;
	char text[];
};

/* A change of a name since the last sync. */
struct change {
	struct change *next;
	struct name *name;
	struct inode *inode;  /* it has from then on; NULL: none */
	struct change *other; /* of a rename, while both are pending: the other half */
	struct change *copy;  /* during a crash only */
	bool is_kept;         /* during a crash only */
};

struct changes {
	struct change *first;
	struct change **end;
};

struct memory {
	struct sz_backend backend;
	char *label;
	pthread_mutex_t lock; /* guards all below, and all that it leads to */
	struct inode *inodes;
	struct inode *last_inode;
	struct name **buckets;
	size_t bucket_count; /* a power of two */
	size_t name_count;
	struct changes changes[PART_COUNT]; /* oldest first */
	uint64_t used_blocks;               /* of all contents as they are now */
	bool counts_late;                   /* what is removed is told as free when it is settled */
	uint64_t late_blocks;
	uint64_t total_bytes;
	uint64_t overwrites;
	size_t open_files;
};

struct memory_file {
	struct sz_file file;
	struct memory *memory;
	struct inode *inode;
	bool is_writable;
	bool is_holder;
};

static inline struct memory *memory_lock(struct memory *memory)
{
	(void)pthread_mutex_lock(&memory->lock);
	return memory;
}

static inline void memory_unlock(struct memory **memory)
{
	(void)pthread_mutex_unlock(&(*memory)->lock);
}

#define LOCKED(of)                                                                                 \
	CLEANUP(memory_unlock) struct memory *locked_ __attribute__((unused)) = memory_lock(of)

struct memory *sz_memory_of(struct sz_backend *backend);
struct memory *sz_memory_make(const char *label); /* NULL: no memory */
void sz_memory_free(struct memory *memory);
static inline void cleanup_memory(struct memory **memory)
{
	if (*memory != NULL)
		sz_memory_free(*memory);
}

/* All below: memory->lock is held, or nobody else knows the backend yet. */

/* A new inode has no reference; NULL: no memory. */
struct inode *sz_inode_make(struct memory *memory, uint64_t number);
void sz_inode_free(struct memory *memory, struct inode *inode);
/* Makes *slot refer to inode (NULL: nothing) instead of what it does; frees what nothing refers to. */
void sz_inode_slot_set(struct memory *memory, struct inode **slot, struct inode *inode);
int sz_inode_write_append(struct inode *inode, const void *data, size_t length,
			  uint64_t offset) MUST_CHECK;
void sz_inode_writes_free(struct inode *inode);

struct name *sz_name_find(const struct memory *memory, enum sz_part part, const char *text);
/* Finds or makes; NULL: no memory. */
struct name *sz_name_get(struct memory *memory, enum sz_part part, const char *text);

/* Takes over change, which is not initialised yet. */
struct change *sz_change_append(struct memory *memory, struct change *change, struct name *name,
				struct inode *inode);
/* Forgets the oldest change of a part, and its name if nothing is left of it. */
void sz_change_drop_first(struct memory *memory, enum sz_part part);

#endif
