/* Included by dmu_objset.h; nothing of it is needed here. */
#ifndef SZ_COMPAT_SYS_ZFS_IOCTL_H
#define SZ_COMPAT_SYS_ZFS_IOCTL_H
#endif
