/* operations: the table of them, and what is agreed on with the kernel. */
#include "fuse/fuse_internal.h"

#define BACKGROUND_MAX                                                                             \
	64U /* reads ahead and writes that are under way at a time; the default is 12 */

void connection_agree(struct fuse_conn_info *conn, unsigned int flags)
{
	conn->want |= conn->capable &
		      (flags | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
		       FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_EXPLICIT_INVAL_DATA);
	/*
	 * Not: that set-user-ID bits are taken from files that are written to is the kernel's to do; what is in
	 * its caches changes only if it is told; files are not opened, so they are not truncated then; splicing
	 * a request into a pipe and out of it costs more than it saves.
	 */
	conn->want &= ~(unsigned int)(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_AUTO_INVAL_DATA |
				      FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ |
				      FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_write = REQUEST_BYTES_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
}

static void op_init(void *context, struct fuse_conn_info *conn)
{
	const struct sz_mount *mount = context;
	unsigned int flags = FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			     FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR;

	/* Permissions are checked by the kernel, by ACLs too; fs inherits them, with the caller's umask. */
	flags |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
	if (!mount->read_only)
		flags |= FUSE_CAP_WRITEBACK_CACHE;
	connection_agree(conn, flags);
}

/*
 * Without flush, and with open that there is none: the kernel asks for neither. Without locks: it keeps
 * them itself. Without access: default_permissions.
 */
const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
	.ioctl = op_ioctl,
};
