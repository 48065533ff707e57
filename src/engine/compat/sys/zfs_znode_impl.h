/* Included by zfs_znode.h; the kernel's in-memory znode, of which nothing is needed here. */
#ifndef SZ_COMPAT_SYS_ZFS_ZNODE_IMPL_H
#define SZ_COMPAT_SYS_ZFS_ZNODE_IMPL_H
#endif
