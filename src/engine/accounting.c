/*
 * accounting: tells ZFS which user, group and project the space of a file is. Every process that
 * writes to file systems has to, from before the pool is created or imported: ZFS's file system is
 * what does it elsewhere, and it is not part of libzpool.
 */
#include "engine/engine_internal.h"

#include <errno.h>

/*
 * ZFS asks for every changed dnode whose space it is. No bonus: the owners did not change. The
 * attributes that are needed stand at fixed places, first in every layout.
 */
static int accounting_info(dmu_object_type_t type, const void *bonus, zfs_file_info_t *info_out)
{
	const sa_hdr_phys_t *header = bonus;
	const char *data;
	uint64_t flags;

	if (type != DMU_OT_SA)
		return ENOENT;
	info_out->zfi_project = ZFS_DEFAULT_PROJID;
	if (bonus == NULL)
		return EEXIST;
	if (header->sa_magic != SA_MAGIC) { /* a new file, not filled in yet */
		info_out->zfi_user = 0;
		info_out->zfi_group = 0;
		info_out->zfi_generation = 0;
		return 0;
	}
	data = (const char *)bonus + SA_HDR_SIZE(header);
	memcpy(&info_out->zfi_user, data + SA_UID_OFFSET, 8);
	memcpy(&info_out->zfi_group, data + SA_GID_OFFSET, 8);
	memcpy(&info_out->zfi_generation, data + SA_GEN_OFFSET, 8);
	memcpy(&flags, data + SA_FLAGS_OFFSET, 8);
	if ((flags & ZFS_PROJID) != 0)
		memcpy(&info_out->zfi_project, data + SA_PROJID_OFFSET, 8);
	return 0;
}

void sz_accounting_register(void)
{
	dmu_objset_register_type(DMU_OST_ZFS, accounting_info);
}
