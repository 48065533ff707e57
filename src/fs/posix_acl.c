/*
 * posix_acl: POSIX ACLs, which stand as extended attributes, as the kernel's ZFS keeps them: what one
 * means for the mode, what a change of mode does to it, what a new inode gets from its folder's
 * default ACL. Pure: no inode, no transaction. (The rules are those of acl(5) and of Linux.)
 *
 * Encoded: a version, then eight bytes an entry: tag, permissions, number of the user or group;
 * little-endian. Entries stand in the order of the tags.
 */
#include "fs/fs_internal.h"

#include <errno.h>

#define ACL_VERSION      2U
#define ACL_HEADER_BYTES 4U
#define ACL_ENTRY_BYTES  8U

/* In the order in which entries stand. */
enum {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

static size_t acl_count(size_t size)
{
	return (size - ACL_HEADER_BYTES) / ACL_ENTRY_BYTES;
}

static uint8_t *acl_entry(uint8_t *acl, size_t index)
{
	return acl + ACL_HEADER_BYTES + index * ACL_ENTRY_BYTES;
}

static uint16_t entry_tag(const uint8_t *entry)
{
	return sz_get_le16(entry);
}

static uint16_t entry_mode(const uint8_t *entry)
{
	return sz_get_le16(entry + 2);
}

static void entry_set_mode(uint8_t *entry, uint32_t mode)
{
	sz_put_le16(entry + 2, (uint16_t)(mode & 7U));
}

/* Each of the three classes once, in order; a mask if, and only if, there may be others. */
int posix_acl_check(const void *acl, size_t size)
{
	const uint8_t *entry = (const uint8_t *)acl + ACL_HEADER_BYTES;
	unsigned int seen = 0;
	unsigned int last = 0;

	if (size < ACL_HEADER_BYTES || (size - ACL_HEADER_BYTES) % ACL_ENTRY_BYTES != 0)
		return -EINVAL;
	if (sz_get_le32(acl) != ACL_VERSION)
		return -EOPNOTSUPP;
	if (size > POSIX_ACL_BYTES_MAX)
		return -E2BIG;
	if (size == ACL_HEADER_BYTES)
		return 0;
	for (size_t i = 0; i < acl_count(size); i++, entry += ACL_ENTRY_BYTES) {
		unsigned int tag = entry_tag(entry);
		bool may_repeat = tag == ACL_USER || tag == ACL_GROUP;

		if (tag == 0 || tag > ACL_OTHER || (tag & (tag - 1)) != 0 || entry_mode(entry) > 7)
			return -EINVAL;
		if (tag < last || (tag == last && !may_repeat))
			return -EINVAL;
		seen |= tag;
		last = tag;
	}
	if ((seen & (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER)) !=
	    (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER))
		return -EINVAL;
	return (seen & (ACL_USER | ACL_GROUP)) != 0 && (seen & ACL_MASK) == 0 ? -EINVAL : 0;
}

bool posix_acl_is_empty(size_t size)
{
	return size <= ACL_HEADER_BYTES;
}

/* The entry that the mode's group bits stand for: the mask, or without one the group. */
static uint8_t *group_class(uint8_t *acl, size_t size)
{
	uint8_t *group = acl_entry(acl, 0); /* there always is one */

	for (size_t i = 0; i < acl_count(size); i++) {
		uint8_t *entry = acl_entry(acl, i);

		if (entry_tag(entry) == ACL_MASK)
			return entry;
		if (entry_tag(entry) == ACL_GROUP_OBJ)
			group = entry;
	}
	return group;
}

uint32_t posix_acl_mode(const void *acl, size_t size, bool *is_extended_out)
{
	const uint8_t *entry = (const uint8_t *)acl + ACL_HEADER_BYTES;
	uint32_t mode = 0;
	uint32_t mask = 0;
	bool has_mask = false;

	*is_extended_out = acl_count(size) > 3;
	for (size_t i = 0; i < acl_count(size); i++, entry += ACL_ENTRY_BYTES) {
		switch (entry_tag(entry)) {
		case ACL_USER_OBJ:
			mode |= (uint32_t)entry_mode(entry) << 6;
			break;
		case ACL_GROUP_OBJ:
			mode |= (uint32_t)entry_mode(entry) << 3;
			break;
		case ACL_MASK:
			has_mask = true;
			mask = (uint32_t)entry_mode(entry) << 3;
			break;
		case ACL_OTHER:
			mode |= entry_mode(entry);
			break;
		default:
			break;
		}
	}
	return has_mask ? (mode & ~070U) | mask : mode;
}

void posix_acl_chmod(void *acl, size_t size, uint32_t mode)
{
	entry_set_mode(group_class(acl, size), mode >> 3);
	for (size_t i = 0; i < acl_count(size); i++) {
		uint8_t *entry = acl_entry(acl, i);

		if (entry_tag(entry) == ACL_USER_OBJ)
			entry_set_mode(entry, mode >> 6);
		else if (entry_tag(entry) == ACL_OTHER)
			entry_set_mode(entry, mode);
	}
}

/* Both are masked by each other: the creator asks for no more than he wants, the folder for no more. */
static uint32_t class_create(uint8_t *entry, uint32_t mode, unsigned int shift)
{
	uint32_t allowed = entry_mode(entry) & (mode >> shift);

	entry_set_mode(entry, allowed);
	return (mode & ~(7U << shift)) | allowed << shift;
}

uint32_t posix_acl_create(void *acl, size_t size, uint32_t mode)
{
	mode = class_create(group_class(acl, size), mode, 3);
	for (size_t i = 0; i < acl_count(size); i++) {
		uint8_t *entry = acl_entry(acl, i);

		if (entry_tag(entry) == ACL_USER_OBJ)
			mode = class_create(entry, mode, 6);
		else if (entry_tag(entry) == ACL_OTHER)
			mode = class_create(entry, mode, 0);
	}
	return mode;
}
