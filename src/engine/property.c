/*
 * property: from name=value, as people write them, to what ZFS takes. Names, spellings and types are
 * ZFS's own tables; this file adds the defaults and refuses what would lose data here.
 */
#include "engine/engine_internal.h"

#include <ctype.h>
#include <errno.h>

/* The defaults (docs/DESIGN.md, section 3). */
static const struct sz_property defaults[] = {
	{ "recordsize", "1M" }, { "compression", "on" }, { "checksum", "fletcher4" },
	{ "atime", "off" },     { "xattr", "sa" },       { "acltype", "posix" },
	{ "autotrim", "on" },   { "cachefile", "none" },
};

/* "128K" and the like. */
static bool parse_number(const char *text, uint64_t *value_out)
{
	static const char units[] = "BKMGTPE";
	char *end;
	const char *unit;
	uint64_t value;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0)
		return false;
	if (*end != '\0') {
		unsigned int shift;

		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL || (end[1] != '\0' && strcasecmp(end + 1, "B") != 0 &&
				     strcasecmp(end + 1, "iB") != 0))
			return false;
		shift = 10 * (unsigned int)(unit - units);
		if (shift > 0 && value >> (64 - shift) != 0)
			return false;
		value <<= shift;
	}
	*value_out = value;
	return true;
}

static int add_pool(nvlist_t *list, zpool_prop_t property, const struct sz_property *given,
		    struct sz_error *error)
{
	uint64_t number = 0;

	if (zpool_prop_readonly(property))
		return sz_fail(error, -EINVAL, "the pool property '%s' cannot be set", given->name);
	switch (zpool_prop_get_type(property)) {
	case PROP_TYPE_STRING:
		fnvlist_add_string(list, zpool_prop_to_name(property), given->value);
		return 0;
	case PROP_TYPE_INDEX:
		if (zpool_prop_string_to_index(property, given->value, &number) != 0)
			return sz_fail(error, -EINVAL, "'%s' is no value of the pool property '%s'",
				       given->value, given->name);
		break;
	case PROP_TYPE_NUMBER:
	default:
		if (!parse_number(given->value, &number))
			return sz_fail(error, -EINVAL, "'%s' is no number (property '%s')",
				       given->value, given->name);
		break;
	}
	fnvlist_add_uint64(list, zpool_prop_to_name(property), number);
	return 0;
}

static int add_dataset(nvlist_t *list, zfs_prop_t property, const struct sz_property *given,
		       struct sz_error *error)
{
	uint64_t number = 0;

	if (property == ZFS_PROP_ENCRYPTION || property == ZFS_PROP_KEYFORMAT ||
	    property == ZFS_PROP_KEYLOCATION)
		return sz_fail(error, -EINVAL, "'%s': the store is encrypted already", given->name);
	if (zfs_prop_readonly(property) ||
	    !zfs_prop_valid_for_type(property, ZFS_TYPE_FILESYSTEM, B_FALSE))
		return sz_fail(error, -EINVAL, "the property '%s' cannot be set", given->name);
	switch (zfs_prop_get_type(property)) {
	case PROP_TYPE_STRING:
		fnvlist_add_string(list, zfs_prop_to_name(property), given->value);
		return 0;
	case PROP_TYPE_INDEX:
		if (zfs_prop_string_to_index(property, given->value, &number) != 0)
			return sz_fail(error, -EINVAL,
				       "'%s' is no value of the property '%s' (see zfsprops(7))",
				       given->value, given->name);
		break;
	case PROP_TYPE_NUMBER:
	default:
		if (strcmp(given->value, "none") != 0 && !parse_number(given->value, &number))
			return sz_fail(error, -EINVAL, "'%s' is no number (property '%s')",
				       given->value, given->name);
		break;
	}
	if (property == ZFS_PROP_CHECKSUM &&
	    (number == ZIO_CHECKSUM_OFF || number == ZIO_CHECKSUM_NOPARITY))
		return sz_fail(error, -EINVAL,
			       "checksum=%s is refused: damage is found and healed by checksums",
			       given->value);
	if (property == ZFS_PROP_RECORDSIZE &&
	    (number < SPA_MINBLOCKSIZE || number > SPA_MAXBLOCKSIZE || !ISP2(number)))
		return sz_fail(error, -EINVAL, "recordsize has to be a power of two, 512 to 16M");
	fnvlist_add_uint64(list, zfs_prop_to_name(property), number);
	return 0;
}

static int add(nvlist_t *pool, nvlist_t *dataset, const struct sz_property *given,
	       struct sz_error *error)
{
	zpool_prop_t pool_property = zpool_name_to_prop(given->name);
	zfs_prop_t dataset_property;

	if (pool_property != ZPOOL_PROP_INVAL)
		return add_pool(pool, pool_property, given, error);
	dataset_property = zfs_name_to_prop(given->name);
	if (dataset_property != ZPROP_INVAL)
		return add_dataset(dataset, dataset_property, given, error);
	return sz_fail(error, -EINVAL, "there is no property '%s' (see zpoolprops(7), zfsprops(7))",
		       given->name);
}

int sz_properties_make(const struct sz_property *properties, size_t count, nvlist_t **pool_out,
		       nvlist_t **dataset_out, struct sz_error *error)
{
	nvlist_t *pool = fnvlist_alloc();
	nvlist_t *dataset = fnvlist_alloc();
	int result = 0;

	for (size_t i = 0; result == 0 && i < ARRAY_LENGTH(defaults); i++)
		result = add(pool, dataset, &defaults[i], error);
	for (size_t i = 0; result == 0 && i < count; i++)
		result = add(pool, dataset, &properties[i], error);
	if (result != 0) {
		fnvlist_free(pool);
		fnvlist_free(dataset);
		return result;
	}
	*pool_out = pool;
	*dataset_out = dataset;
	return 0;
}
