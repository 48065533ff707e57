/* files: the operations on the content of files. */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>

/*
 * A file needs no opening: its inode is held while the kernel knows it. -ENOSYS has the kernel ask no more; it
 * does the same for closing. Truncating at an open is a setattr then.
 */
void op_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *file)
{
	struct request request;

	(void)inode;
	(void)file;
	if (request_begin(&request, req))
		answer(&request, -ENOSYS);
}

void op_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
	     struct fuse_file_info *file)
{
	CLEANUP_FREE void *data = malloc(size);
	struct request request;
	size_t done = 0;
	int result = -ENOMEM;

	(void)file;
	if (!request_begin(&request, req))
		return;
	if (data != NULL)
		result = sz_fs_read(request.fs, inode, data, size, (uint64_t)offset, &done);
	(void)answer_bytes(&request, result, data, done);
}

void op_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *file)
{
	struct request request;

	(void)file;
	if (request_begin(&request, req))
		answer_written(&request,
			       sz_fs_write(request.fs, inode, data, size, (uint64_t)offset), size);
}

/* Of folders too. */
void op_fsync(fuse_req_t req, fuse_ino_t inode, int data_only, struct fuse_file_info *file)
{
	struct request request;

	(void)file;
	(void)data_only;
	if (request_begin(&request, req))
		answer(&request, sz_fs_fsync(request.fs, number_of(request.fs, inode)));
}

/* Nothing is set aside: blocks are never written in place, so it would help no later write. */
static int file_extend(struct sz_fs *fs, uint64_t number, uint64_t end)
{
	struct stat stat;
	int result = sz_fs_getattr(fs, number, &stat);

	if (result != 0 || (uint64_t)stat.st_size >= end)
		return result;
	stat.st_size = (off_t)end;
	return sz_fs_setattr(fs, number, SZ_SET_SIZE, &stat);
}

void op_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
		  struct fuse_file_info *file)
{
	struct request request;
	int result = 0;

	(void)file;
	if (!request_begin(&request, req))
		return;
	if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
		result = -EOPNOTSUPP;
	if (result == 0 && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
		result = sz_fs_punch(request.fs, inode, (uint64_t)offset, (uint64_t)length);
	if (result == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0)
		result = file_extend(request.fs, inode, (uint64_t)offset + (uint64_t)length);
	answer(&request, result);
}
