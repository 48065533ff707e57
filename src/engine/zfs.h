/*
 * zfs.h: the one door to OpenZFS's headers, for engine and fs. They are as libzpool was built with:
 * ZFS_DEBUG changes the layout of structures, so it must be set (meson.build does). Headers that the
 * development package leaves out are in compat/.
 */
#ifndef SZ_ENGINE_ZFS_H
#define SZ_ENGINE_ZFS_H

#ifndef ZFS_DEBUG
#error "OpenZFS's headers need ZFS_DEBUG: the library was built with it"
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <sys/zfs_context.h>

#include <sys/abd.h>
#include <sys/arc.h>
#include <sys/arc_impl.h>
#include <sys/dbuf.h>
#include <sys/dmu.h>
#include <sys/dmu_objset.h>
#include <sys/dmu_tx.h>
#include <sys/dnode.h>
#include <sys/dsl_dataset.h>
#include <sys/dsl_destroy.h>
#include <sys/dsl_dir.h>
#include <sys/dsl_pool.h>
#include <sys/dsl_prop.h>
#include <sys/dsl_scan.h>
#include <sys/sa.h>
#include <sys/sa_impl.h>
#include <sys/spa.h>
#include <sys/spa_impl.h>
#include <sys/txg.h>
#include <sys/vdev.h>
#include <sys/vdev_impl.h>
#include <sys/zap.h>
#include <sys/zfs_acl.h>
#include <sys/zfs_znode.h>
/* zfs_sa.h needs zfs_acl.h. */
#include <sys/metaslab.h>
#include <sys/metaslab_impl.h>
#include <sys/zfeature.h>
#include <sys/zfs_sa.h>
#include <sys/zil.h>
#include <sys/zil_impl.h>
#include <sys/zio.h>
#include <zfs_prop.h>
#pragma GCC diagnostic pop

#endif
