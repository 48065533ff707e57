/*
 * flags: ioctl, for what lsattr and chattr ask: the flags of an inode and its project, in either of the two forms
 * that Linux has for them. Linux since 5.13 checks who may change what; older ones pass it on unchecked, so
 * it is checked here too: the owner, and immutable and append-only for root alone.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <stddef.h>

static const struct {
	uint32_t flag;
	uint32_t xflag;
} flag_pairs[] = {
	{ SZ_FLAG_IMMUTABLE, FS_XFLAG_IMMUTABLE },
	{ SZ_FLAG_APPEND, FS_XFLAG_APPEND },
	{ SZ_FLAG_NODUMP, FS_XFLAG_NODUMP },
	{ SZ_FLAG_PROJECT_INHERIT, FS_XFLAG_PROJINHERIT },
};

static void flags_get(struct request *request, unsigned int command)
{
	struct fsxattr both = { 0 };
	uint32_t flags;
	int result = sz_fs_getflags(request->fs, request->number, &flags, &both.fsx_projid);

	for (size_t i = 0; i < ARRAY_LENGTH(flag_pairs); i++)
		if ((flags & flag_pairs[i].flag) != 0)
			both.fsx_xflags |= flag_pairs[i].xflag;
	if (command == FS_IOC_FSGETXATTR)
		answer_ioctl(request, result, &both, sizeof(both));
	else
		answer_ioctl(request, result, &flags, sizeof(flags));
}

/* -EOPNOTSUPP: something that ZFS has not. */
static int wish_decode(unsigned int command, const void *in, size_t in_bytes,
		       struct flags_new *wish_out)
{
	struct fsxattr both;

	*wish_out = (struct flags_new){ 0 };
	if (in_bytes < (command == FS_IOC_SETFLAGS ? sizeof(wish_out->flags) : sizeof(both)))
		return -EINVAL;
	if (command == FS_IOC_SETFLAGS) {
		memcpy(&wish_out->flags, in, sizeof(wish_out->flags));
		return 0;
	}
	memcpy(&both, in, sizeof(both));
	wish_out->project = both.fsx_projid;
	for (size_t i = 0; i < ARRAY_LENGTH(flag_pairs); i++) {
		if ((both.fsx_xflags & flag_pairs[i].xflag) != 0)
			wish_out->flags |= flag_pairs[i].flag;
		both.fsx_xflags &= ~flag_pairs[i].xflag;
	}
	return both.fsx_xflags != 0 || both.fsx_extsize != 0 || both.fsx_cowextsize != 0
		       ? -EOPNOTSUPP
		       : 0;
}

static void set_serve(struct request *request, const struct errand *errand)
{
	const uint32_t by_root = SZ_FLAG_IMMUTABLE | SZ_FLAG_APPEND;
	uint64_t number = request->number;
	uint32_t project = 0;
	uint32_t flags = 0;
	struct stat stat;
	int result = sz_fs_getattr(request->fs, number, &stat);

	if (result == 0)
		result = sz_fs_getflags(request->fs, number, &flags, &project);
	if (result == 0 && request->caller.uid != 0 &&
	    (request->caller.uid != stat.st_uid || ((flags ^ errand->new.flags) & by_root) != 0))
		result = -EPERM;
	if (errand->command == FS_IOC_FSSETXATTR)
		project = errand->new.project;
	if (result == 0)
		result = sz_fs_setflags(request->fs, number, errand->new.flags, project);
	answer_ioctl(request, result, NULL, 0);
}

void op_ioctl(fuse_req_t req, fuse_ino_t inode, unsigned int command, void *argument,
	      struct fuse_file_info *file, unsigned int flags, const void *in, size_t in_bytes,
	      size_t out_bytes)
{
	struct errand set = { .req = req, .inode = inode, .serve = set_serve, .command = command };
	struct request request;
	int result;

	(void)argument;
	(void)file;
	(void)flags;
	switch (command) {
	case FS_IOC_GETFLAGS:
	case FS_IOC_FSGETXATTR:
		if (!request_begin(&request, req, inode))
			break;
		if (out_bytes <
		    (command == FS_IOC_GETFLAGS ? sizeof(uint32_t) : sizeof(struct fsxattr)))
			answer(&request, -EINVAL);
		else
			flags_get(&request, command);
		break;
	case FS_IOC_SETFLAGS:
	case FS_IOC_FSSETXATTR:
		result = wish_decode(command, in, in_bytes, &set.new);
		if (result == 0)
			errand_add(fuse_req_userdata(req), &set);
		else
			(void)fuse_reply_err(req, -result);
		break;
	default:
		(void)fuse_reply_err(req, ENOTTY);
		break;
	}
}
