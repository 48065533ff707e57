/*
 * property: from name=value, as people write them, to what ZFS takes. Names, spellings and types are
 * ZFS's own tables. What can be set is what szpool itself keeps to; all else is refused, for a property
 * that is stored and not honoured is a lie.
 */
#include "engine/engine_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#define COMMENT_MAX_BYTES 31U /* ZFS's */

/* The defaults (docs/DESIGN.md, section 3). */
static const struct sz_property defaults[] = {
	{ "recordsize", "512K" }, { "compression", "on" }, { "checksum", "fletcher4" },
	{ "atime", "off" },       { "xattr", "sa" },       { "autotrim", "on" },
};

/* What can be set, to any value that ZFS takes. */
static const struct {
	zfs_prop_t property;
	/* Not NULL: ZFS keeps to what this sets, and not to the property alone. */
	int (*set)(const char *dataset, zprop_source_t source, uint64_t value);
	bool is_volumes; /* volumes have it, too */
} dataset_properties[] = {
	{ ZFS_PROP_ATIME, NULL, false },
	{ ZFS_PROP_CHECKSUM, NULL, true },
	{ ZFS_PROP_COMPRESSION, NULL, true },
	{ ZFS_PROP_COPIES, NULL, true },
	{ ZFS_PROP_DEDUP, NULL, true },
	{ ZFS_PROP_DNODESIZE, NULL, false },
	{ ZFS_PROP_PREFETCH, NULL, true },
	{ ZFS_PROP_PRIMARYCACHE, NULL, true },
	{ ZFS_PROP_QUOTA, dsl_dir_set_quota, false },
	{ ZFS_PROP_RECORDSIZE, NULL, false },
	{ ZFS_PROP_REDUNDANT_METADATA, NULL, true },
	{ ZFS_PROP_REFQUOTA, dsl_dataset_set_refquota, false },
	{ ZFS_PROP_RELATIME, NULL, false },
	{ ZFS_PROP_SYNC, NULL, true },
	{ ZFS_PROP_XATTR, NULL, false },
};
static const zpool_prop_t pool_properties[] = { ZPOOL_PROP_AUTOTRIM, ZPOOL_PROP_COMMENT };

/* What is so in every pool: it may be asked for, and nothing else. */
static const struct {
	const char *name;
	const char *value;
	const char *why;
} fixed[] = {
	{ "acltype", "posix", "others are not supported" },
	{ "ashift", "12", "devices have sectors of 4 KiB" },
	{ "cachefile", "none", "the pool is found by its folder" },
	{ "casesensitivity", "sensitive", "others are not supported" },
	{ "encryption", "off", "the store is encrypted already" },
	{ "failmode", "wait", "others are not supported" },
	{ "normalization", "none", "others are not supported" },
	{ "readonly", "off", "nothing could be put into the pool" },
	{ "utf8only", "off", "others are not supported" },
	{ "version", "5", "others are not supported" },
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

static int bad_value(struct sz_error *error, const struct sz_property *given)
{
	return sz_fail(error, -EINVAL,
		       "'%s' is no value of the property '%s' (see zfsprops(7), zpoolprops(7))",
		       given->value, given->name);
}

static int bad_number(struct sz_error *error, const struct sz_property *given)
{
	return sz_fail(error, -EINVAL, "'%s' is no number (property '%s')", given->value,
		       given->name);
}

static int add_pool(nvlist_t *list, zpool_prop_t property, const struct sz_property *given,
		    struct sz_error *error)
{
	const char *name = zpool_prop_to_name(property);
	uint64_t number = 0;

	if (property == ZPOOL_PROP_COMMENT && strlen(given->value) > COMMENT_MAX_BYTES)
		return sz_fail(error, -EINVAL, "a comment has at most %u bytes", COMMENT_MAX_BYTES);
	if (zpool_prop_get_type(property) == PROP_TYPE_STRING) {
		fnvlist_add_string(list, name, given->value);
		return 0;
	}
	if (zpool_prop_string_to_index(property, given->value, &number) != 0)
		return bad_value(error, given);
	fnvlist_add_uint64(list, name, number);
	return 0;
}

static int add_dataset(nvlist_t *list, zfs_prop_t property, const struct sz_property *given,
		       struct sz_error *error)
{
	uint64_t number = 0;

	if (zfs_prop_get_type(property) == PROP_TYPE_INDEX) {
		if (zfs_prop_string_to_index(property, given->value, &number) != 0)
			return bad_value(error, given);
	} else if (strcmp(given->value, "none") != 0 && !parse_number(given->value, &number)) {
		return bad_number(error, given);
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

/* One that cannot be set: it is known to ZFS, or not. */
static int refuse(const struct sz_property *given, bool is_volume, struct sz_error *error)
{
	char possible[320] = "";
	const char *separator = "";

	if (zpool_name_to_prop(given->name) == ZPOOL_PROP_INVAL &&
	    zfs_name_to_prop(given->name) == ZPROP_INVAL)
		return sz_fail(error, -EINVAL,
			       "there is no property '%s' (see zpoolprops(7), zfsprops(7))",
			       given->name);
	for (size_t i = 0; !is_volume && i < ARRAY_LENGTH(pool_properties); i++) {
		(void)strlcat(possible, zpool_prop_to_name(pool_properties[i]), sizeof(possible));
		(void)strlcat(possible, ", ", sizeof(possible));
	}
	for (size_t i = 0; i < ARRAY_LENGTH(dataset_properties); i++) {
		if (is_volume && !dataset_properties[i].is_volumes)
			continue;
		(void)strlcat(possible, separator, sizeof(possible));
		(void)strlcat(possible, zfs_prop_to_name(dataset_properties[i].property),
			      sizeof(possible));
		separator = ", ";
	}
	return sz_fail(error, -EINVAL, "the property '%s' cannot be set%s; these can: %s",
		       given->name, is_volume ? " of a volume" : "", possible);
}

static int add(nvlist_t *pool, nvlist_t *dataset, const struct sz_property *given,
	       struct sz_error *error)
{
	for (size_t i = 0; i < ARRAY_LENGTH(fixed); i++) {
		if (strcmp(fixed[i].name, given->name) != 0)
			continue;
		if (strcmp(fixed[i].value, given->value) == 0)
			return 0;
		return sz_fail(error, -EINVAL, "'%s=%s' is not possible: it is always %s (%s)",
			       given->name, given->value, fixed[i].value, fixed[i].why);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(pool_properties); i++)
		if (zpool_name_to_prop(given->name) == pool_properties[i])
			return add_pool(pool, pool_properties[i], given, error);
	for (size_t i = 0; i < ARRAY_LENGTH(dataset_properties); i++)
		if (zfs_name_to_prop(given->name) == dataset_properties[i].property)
			return add_dataset(dataset, dataset_properties[i].property, given, error);
	return refuse(given, false, error);
}

static int add_volumes(nvlist_t *list, const struct sz_property *given, struct sz_error *error)
{
	for (size_t i = 0; i < ARRAY_LENGTH(dataset_properties); i++)
		if (dataset_properties[i].is_volumes &&
		    zfs_name_to_prop(given->name) == dataset_properties[i].property)
			return add_dataset(list, dataset_properties[i].property, given, error);
	return refuse(given, true, error);
}

int sz_volume_properties_make(const struct sz_property *properties, size_t count,
			      nvlist_t **list_out, struct sz_error *error)
{
	nvlist_t *list = fnvlist_alloc();
	int result = 0;

	for (size_t i = 0; result == 0 && i < count; i++)
		result = add_volumes(list, &properties[i], error);
	if (result != 0) {
		fnvlist_free(list);
		return result;
	}
	*list_out = list;
	return 0;
}

int sz_properties_make(const struct sz_property *properties, size_t count, nvlist_t **pool_out,
		       nvlist_t **dataset_out, struct sz_error *error)
{
	nvlist_t *pool = fnvlist_alloc();
	nvlist_t *dataset = fnvlist_alloc();
	uint64_t acltype;
	int result = 0;

	fnvlist_add_string(pool, zpool_prop_to_name(ZPOOL_PROP_CACHEFILE), "none");
	VERIFY0(zfs_prop_string_to_index(ZFS_PROP_ACLTYPE, "posix", &acltype));
	fnvlist_add_uint64(dataset, zfs_prop_to_name(ZFS_PROP_ACLTYPE), acltype);
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

int sz_properties_set(const char *dataset, nvlist_t *properties, struct sz_error *error)
{
	int result;

	for (size_t i = 0; i < ARRAY_LENGTH(dataset_properties); i++) {
		const char *name = zfs_prop_to_name(dataset_properties[i].property);
		uint64_t value;

		if (dataset_properties[i].set == NULL ||
		    nvlist_lookup_uint64(properties, name, &value) != 0)
			continue;
		result = dataset_properties[i].set(dataset, ZPROP_SRC_LOCAL, value);
		if (result == ENOSPC)
			return sz_fail(error, -EINVAL,
				       "%s=%llu is less than an empty file system takes", name,
				       (unsigned long long)value);
		if (result != 0)
			return sz_fail(error, -result, "cannot set the property %s: %s", name,
				       strerror(result));
		fnvlist_remove(properties, name);
	}
	result = dsl_props_set(dataset, ZPROP_SRC_LOCAL, properties);
	if (result != 0)
		return sz_fail(error, -result, "cannot set the properties: %s", strerror(result));
	return 0;
}
