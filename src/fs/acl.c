/*
 * acl: the NFSv4 ACL that stands for a mode, as the kernel's ZFS writes it: an owner entry that
 * allows early what a later deny would take, denials, then owner@, group@, everyone@.
 * (Rules: OpenZFS module/zcommon/zfs_comutil and os/linux/zfs/zfs_acl, acl_trivial_access_masks.)
 */
#include "fs/fs_internal.h"

#define OWNING_GROUP (ACE_GROUP | ACE_IDENTIFIER_GROUP)

#define EVERYBODY    (ACE_READ_ACL | ACE_READ_ATTRIBUTES | ACE_READ_NAMED_ATTRS | ACE_SYNCHRONIZE)
#define OWNER                                                                                      \
	(EVERYBODY | ACE_WRITE_ATTRIBUTES | ACE_WRITE_OWNER | ACE_WRITE_ACL | ACE_WRITE_NAMED_ATTRS)

static void entry_add(struct acl_trivial *acl, uint32_t mask, uint16_t type, uint16_t who)
{
	acl->entries[acl->count++] =
		(zfs_ace_hdr_t){ .z_type = type, .z_flags = who, .z_access_mask = mask };
}

void acl_trivial_make(uint32_t mode, struct acl_trivial *acl_out)
{
	const uint32_t masks[3] = {
		ACE_READ_DATA,
		ACE_WRITE_DATA | ACE_APPEND_DATA | (S_ISDIR(mode) ? ACE_DELETE_CHILD : 0),
		ACE_EXECUTE,
	};
	uint32_t allow0 = 0;
	uint32_t deny1 = 0;
	uint32_t deny2 = 0;
	uint32_t owner = OWNER;
	uint32_t group = EVERYBODY;
	uint32_t everyone = EVERYBODY;

	for (unsigned int i = 0; i < 3; i++) {
		bool u = (mode & (0400U >> i)) != 0;
		bool g = (mode & (0040U >> i)) != 0;
		bool o = (mode & (0004U >> i)) != 0;

		owner |= u ? masks[i] : 0;
		group |= g ? masks[i] : 0;
		everyone |= o ? masks[i] : 0;
		deny1 |= !u && (g || o) ? masks[i] : 0;
		deny2 |= !g && o ? masks[i] : 0;
		allow0 |= u && !g && o ? masks[i] : 0;
	}
	*acl_out = (struct acl_trivial){ 0 };
	if (allow0 != 0)
		entry_add(acl_out, allow0, ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_OWNER);
	if (deny1 != 0)
		entry_add(acl_out, deny1, ACE_ACCESS_DENIED_ACE_TYPE, ACE_OWNER);
	if (deny2 != 0)
		entry_add(acl_out, deny2, ACE_ACCESS_DENIED_ACE_TYPE, OWNING_GROUP);
	entry_add(acl_out, owner, ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_OWNER);
	entry_add(acl_out, group, ACE_ACCESS_ALLOWED_ACE_TYPE, OWNING_GROUP);
	entry_add(acl_out, everyone, ACE_ACCESS_ALLOWED_ACE_TYPE, ACE_EVERYONE);
	acl_out->size_bytes = acl_out->count * sizeof(acl_out->entries[0]);
}

uint64_t acl_flags(uint32_t mode)
{
	return ZFS_ACL_TRIVIAL | ((mode & 0111) == 0111 ? ZFS_NO_EXECS_DENIED : 0);
}

void mode_change_add(struct sz_fs *fs, struct inode *inode, uint32_t mode,
		     struct mode_change *change, sa_bulk_attr_t *bulk, int *count)
{
	uint64_t flags = inode_u64(fs, inode, ZPL_FLAGS) & ~(uint64_t)ZFS_NO_EXECS_DENIED;
	int at = *count;

	change->mode = (mode & 07777U) | inode->mode;
	change->flags = flags | acl_flags((uint32_t)change->mode);
	acl_trivial_make((uint32_t)change->mode, &change->acl);
	SA_ADD_BULK_ATTR(bulk, at, fs->attr[ZPL_MODE], NULL, &change->mode, 8);
	SA_ADD_BULK_ATTR(bulk, at, fs->attr[ZPL_FLAGS], NULL, &change->flags, 8);
	SA_ADD_BULK_ATTR(bulk, at, fs->attr[ZPL_DACL_COUNT], NULL, &change->acl.count, 8);
	SA_ADD_BULK_ATTR(bulk, at, fs->attr[ZPL_DACL_ACES], NULL, change->acl.entries,
			 (uint16_t)change->acl.size_bytes);
	*count = at;
}
