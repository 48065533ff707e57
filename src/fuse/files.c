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

	(void)file;
	if (request_begin_any(&request, req, inode))
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
	if (!request_begin(&request, req, inode))
		return;
	if (data != NULL)
		result =
			sz_fs_read(request.fs, request.number, data, size, (uint64_t)offset, &done);
	(void)answer_bytes(&request, result, data, done);
}

void op_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *file)
{
	const struct errand untrue = { .inode = inode, .offset = offset };
	struct sz_mount *mount = fuse_req_userdata(req);
	struct request request;
	int result;

	if (!request_begin(&request, req, inode))
		return;
	if (file->writepage)
		result = sz_fs_write_back(request.fs, request.number, data, size, (uint64_t)offset);
	else
		result = sz_fs_write(request.fs, request.number, data, size, (uint64_t)offset);
	answer_written(&request, result, size);
	/* What the kernel has in its cache is not what is in the file. */
	if (file->writepage && result == -EPERM)
		errand_add(mount, &untrue);
}

/* Of folders too. */
void op_fsync(fuse_req_t req, fuse_ino_t inode, int data_only, struct fuse_file_info *file)
{
	struct request request;

	(void)file;
	(void)data_only;
	if (request_begin(&request, req, inode))
		answer(&request, sz_fs_fsync(request.fs, request.number));
}

void op_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
		  struct fuse_file_info *file)
{
	const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
	uint64_t from = (uint64_t)offset;
	uint64_t bytes = (uint64_t)length;
	struct request request;
	int result;

	(void)file;
	if (!request_begin(&request, req, inode))
		return;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		result = sz_fs_allocate(request.fs, request.number, from, bytes, keeps_size);
		break;
	case FALLOC_FL_PUNCH_HOLE:
		result = sz_fs_punch(request.fs, request.number, from, bytes);
		break;
	case FALLOC_FL_ZERO_RANGE:
		result = sz_fs_zero(request.fs, request.number, from, bytes, keeps_size);
		break;
	default:
		result = -EOPNOTSUPP;
		break;
	}
	answer(&request, result);
}

/* The kernel has written out what it holds of both. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
			struct fuse_file_info *from_file, fuse_ino_t to, off_t to_offset,
			struct fuse_file_info *to_file, size_t length, int flags)
{
	struct request request;
	uint64_t copied = 0;
	uint64_t target;
	int result;

	(void)from_file;
	(void)to_file;
	if (!request_begin(&request, req, from))
		return;
	result = flags != 0 ? -EINVAL : request_other(&request, to, &target);
	if (result == 0)
		result = sz_fs_copy_range(request.fs, request.number, (uint64_t)from_offset, target,
					  (uint64_t)to_offset, length, &copied);
	answer_written(&request, result, copied);
}
