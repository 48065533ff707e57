/*
 * cli: the program. This header is what its files share; nothing includes it from outside.
 */
#ifndef SZ_CLI_CLI_H
#define SZ_CLI_CLI_H

#include "fs/fs.h"

/* Exit codes, published in help. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_ERROR = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_A_STORE = 3,
	EXIT_DAMAGED = 4, /* too much is missing or damaged */
	EXIT_BUSY = 5,
	EXIT_NO_SPACE = 6,
};

/* An open store, its pool and its file system. */
struct session {
	struct sz_store *store;
	struct sz_pool *pool;
	struct sz_fs *fs; /* NULL if only the pool was asked for */
};
int session_open(const char *path, bool read_only, bool with_fs, struct session *session_out,
		 struct sz_error *error) MUST_CHECK;
int session_close(struct session *session, struct sz_error *error) MUST_CHECK;

/* Follows an absolute path in the pool. -EINVAL: it is not absolute. */
int path_find(struct sz_fs *fs, const char *path, uint64_t *inode_out,
	      struct sz_error *error) MUST_CHECK;
/* The folder of the last name of a path, and that name (in the caller's path). */
int path_parent(struct sz_fs *fs, const char *path, uint64_t *parent_out, char name[256],
		struct sz_error *error) MUST_CHECK;

/* Copies a file or tree into the pool's folder under a name, and out of it to a path. */
int tree_put(struct sz_fs *fs, const char *source, uint64_t folder, const char *name,
	     struct sz_error *error) MUST_CHECK;
int tree_get(struct sz_fs *fs, uint64_t inode, const char *target,
	     struct sz_error *error) MUST_CHECK;
/* Writes a file's content to a descriptor. */
int file_out(struct sz_fs *fs, uint64_t inode, int fd, struct sz_error *error) MUST_CHECK;

#endif
