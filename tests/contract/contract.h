/* What the store's tests share: short forms that fail the test when a step fails. */
#ifndef SZ_TESTS_CONTRACT_H
#define SZ_TESTS_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store.h"

#include <errno.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), 0)

/* Makes a file with this text at offset 0, open. */
static inline struct sz_file *file_with(struct sz_backend *backend, enum sz_part part,
					const char *name, const char *text)
{
	struct sz_file *file = NULL;

	OK(sz_backend_create(backend, part, name, &file));
	OK(sz_file_write(file, text, strlen(text), 0));
	return file;
}

/* The same, closed; nothing is synced. */
static inline void put(struct sz_backend *backend, enum sz_part part, const char *name,
		       const char *text)
{
	sz_file_close(file_with(backend, part, name, text));
}

static inline void put_durably(struct sz_backend *backend, enum sz_part part, const char *name,
			       const char *text)
{
	struct sz_file *file = file_with(backend, part, name, text);

	OK(sz_file_sync(file));
	sz_file_close(file);
	OK(sz_backend_sync_folder(backend, part));
}

/* The whole file, in a buffer of the caller's that is larger. -1: there is none. */
static inline ssize_t get(struct sz_backend *backend, enum sz_part part, const char *name,
			  void *buffer, size_t size)
{
	struct sz_file *file = NULL;
	uint64_t length;
	uint64_t inode;
	size_t done;
	int rc = sz_backend_open(backend, part, name, &file);

	if (rc == -ENOENT)
		return -1;
	OK(rc);
	OK(sz_file_stat(file, &length, &inode));
	assert_true(length < size);
	OK(sz_file_read(file, buffer, size, 0, &done));
	assert_int_equal(done, length);
	sz_file_close(file);
	return (ssize_t)done;
}

static inline bool exists(struct sz_backend *backend, enum sz_part part, const char *name)
{
	char buffer[1 << 16];

	return get(backend, part, name, buffer, sizeof(buffer)) >= 0;
}

static inline bool holds(struct sz_backend *backend, enum sz_part part, const char *name,
			 const char *text)
{
	char buffer[1 << 16];
	ssize_t length = get(backend, part, name, buffer, sizeof(buffer));

	return length == (ssize_t)strlen(text) && memcmp(buffer, text, (size_t)length) == 0;
}

struct listed {
	size_t count;
	uint64_t bytes;
	char names[4096]; /* " name name …", as far as there is room */
};

static inline int list_one(void *context, const char *name, uint64_t size_bytes)
{
	struct listed *listed = context;
	size_t used = strlen(listed->names);

	listed->count++;
	listed->bytes += size_bytes;
	(void)snprintf(listed->names + used, sizeof(listed->names) - used, " %s", name);
	return 0;
}

static inline struct listed list(struct sz_backend *backend, enum sz_part part)
{
	struct listed listed = { 0 };

	OK(sz_backend_list(backend, part, list_one, &listed));
	return listed;
}

#endif
