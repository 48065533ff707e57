/* names: the operations on names and attributes. */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <limits.h>

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request request;
	uint64_t number = 0;
	bool is_child = false;
	int result = 0;

	if (!request_begin_any(&request, req, parent))
		return;
	if (node_is_control(parent) || (request_is_at_top(&request) && strcmp(name, ".zfs") == 0)) {
		control_lookup(&request, parent, name);
		return;
	}
	if (request_is_at_top(&request))
		result = sz_fs_is_child(request.fs, name, &is_child);
	if (is_child) {
		result = child_enter(&request, name);
		answer_entry(&request, result, request.number);
		return;
	}
	if (result == 0)
		result = sz_fs_lookup(request.fs, request.number, name, &number);
	answer_lookup(&request, result, number);
}

void op_forget(fuse_req_t req, fuse_ino_t inode, uint64_t count)
{
	node_forget(fuse_req_userdata(req), inode, count);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void op_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *file)
{
	struct request request;

	(void)file;
	if (!request_begin_any(&request, req, inode))
		return;
	if (node_is_control(inode))
		control_getattr(&request, inode);
	else
		answer_attributes(&request, 0);
}

void op_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *values, int fields,
		struct fuse_file_info *file)
{
	static const struct {
		int fuse;
		unsigned int fs;
	} pairs[] = {
		{ FUSE_SET_ATTR_MODE, SZ_SET_MODE },   { FUSE_SET_ATTR_UID, SZ_SET_UID },
		{ FUSE_SET_ATTR_GID, SZ_SET_GID },     { FUSE_SET_ATTR_SIZE, SZ_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, SZ_SET_ATIME }, { FUSE_SET_ATTR_MTIME, SZ_SET_MTIME },
		{ FUSE_SET_ATTR_CTIME, SZ_SET_CTIME },
	};
	struct request request;
	struct timespec now;
	unsigned int wanted = 0;
	int result = 0;

	(void)file;
	if (!request_begin(&request, req, inode))
		return;
	for (size_t i = 0; i < ARRAY_LENGTH(pairs); i++)
		if ((fields & pairs[i].fuse) != 0)
			wanted |= pairs[i].fs;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if ((fields & FUSE_SET_ATTR_ATIME_NOW) != 0)
		values->st_atim = now;
	if ((fields & FUSE_SET_ATTR_MTIME_NOW) != 0)
		values->st_mtim = now;
	if (wanted != 0)
		result = sz_fs_setattr(request.fs, request.number, wanted, values);
	answer_attributes(&request, result);
}

void op_readlink(fuse_req_t req, fuse_ino_t inode)
{
	struct request request;
	char target[PATH_MAX];
	int result;

	if (!request_begin(&request, req, inode))
		return;
	result = sz_fs_readlink(request.fs, request.number, target, sizeof(target));
	(void)answer_bytes(&request, result, target, result == 0 ? strlen(target) : 0);
}

static struct sz_fs_new new_of(const struct request *request, mode_t mode)
{
	return (struct sz_fs_new){
		.mode = mode,
		.uid = request->caller.uid,
		.gid = request->caller.gid,
		.umask = request->caller.umask,
		.inherits = true,
	};
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct request request;
	struct sz_fs_new new;
	uint64_t number = 0;
	int result;

	if (!request_begin(&request, req, parent))
		return;
	new = new_of(&request, mode);
	new.rdev = rdev;
	result = sz_fs_create(request.fs, request.number, name, &new, &number);
	answer_entry(&request, result, number);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct request request;
	struct sz_fs_new new;
	uint64_t number = 0;
	int result;

	if (!request_begin(&request, req, parent))
		return;
	new = new_of(&request, mode);
	result = sz_fs_mkdir(request.fs, request.number, name, &new, &number);
	answer_entry(&request, result, number);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct request request;
	struct sz_fs_new new;
	uint64_t number = 0;
	int result;

	if (!request_begin(&request, req, parent))
		return;
	new = new_of(&request, 0777);
	result = sz_fs_symlink(request.fs, request.number, name, target, &new, &number);
	answer_entry(&request, result, number);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request request;

	if (request_begin(&request, req, parent))
		answer(&request, sz_fs_unlink(request.fs, request.number, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request request;

	if (request_begin(&request, req, parent))
		answer(&request, sz_fs_rmdir(request.fs, request.number, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned int flags)
{
	struct request request;
	uint64_t to;
	int result;

	if (!request_begin(&request, req, parent))
		return;
	result = request_other(&request, new_parent, &to);
	if (result == 0)
		result = sz_fs_rename(request.fs, request.number, name, to, new_name, flags);
	answer(&request, result);
}

void op_link(fuse_req_t req, fuse_ino_t inode, fuse_ino_t parent, const char *name)
{
	struct request request;
	uint64_t to;
	int result;

	if (!request_begin(&request, req, inode))
		return;
	result = request_other(&request, parent, &to);
	if (result == 0)
		result = sz_fs_link(request.fs, request.number, to, name);
	answer_entry(&request, result, request.number);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *file)
{
	struct request request;
	struct sz_fs_new new;
	uint64_t number = 0;
	int result;

	if (!request_begin(&request, req, parent))
		return;
	new = new_of(&request, S_IFREG | (mode & ~(mode_t)S_IFMT));
	result = sz_fs_create(request.fs, request.number, name, &new, &number);
	file->keep_cache = 1;
	answer_create(&request, result, number, file);
}

void op_setxattr(fuse_req_t req, fuse_ino_t inode, const char *name, const char *value, size_t size,
		 int flags)
{
	struct request request;

	if (request_begin(&request, req, inode))
		answer(&request,
		       sz_fs_setxattr(request.fs, request.number, name, value, size, flags));
}

void op_removexattr(fuse_req_t req, fuse_ino_t inode, const char *name)
{
	struct request request;

	if (request_begin(&request, req, inode))
		answer(&request, sz_fs_removexattr(request.fs, request.number, name));
}

void op_getxattr(fuse_req_t req, fuse_ino_t inode, const char *name, size_t size)
{
	CLEANUP_FREE char *value = size == 0 ? NULL : malloc(size);
	struct request request;
	size_t length = 0;
	int result = -ENOMEM;

	if (!request_begin_any(&request, req, inode))
		return;
	if (node_is_control(inode)) {
		answer(&request, -EOPNOTSUPP);
		return;
	}
	if (size == 0 || value != NULL)
		result = sz_fs_getxattr(request.fs, request.number, name, value, size, &length);
	answer_xattr(&request, result, value, size, length);
}

void op_listxattr(fuse_req_t req, fuse_ino_t inode, size_t size)
{
	CLEANUP_FREE char *names = size == 0 ? NULL : malloc(size);
	struct request request;
	size_t length = 0;
	int result = -ENOMEM;

	if (!request_begin_any(&request, req, inode))
		return;
	if (node_is_control(inode)) {
		answer(&request, -EOPNOTSUPP);
		return;
	}
	if (size == 0 || names != NULL)
		result = sz_fs_listxattr(request.fs, request.number, names, size, &length);
	answer_xattr(&request, result, names, size, length);
}

void op_statfs(fuse_req_t req, fuse_ino_t inode)
{
	struct request request;
	struct statvfs statvfs;
	int result;

	if (!request_begin_any(&request, req, inode))
		return;
	result = sz_fs_statfs(request.fs, &statvfs);
	answer_statfs(&request, result, &statvfs);
}
