/*
 * presence: whether what is there suffices to open the pool, and what is missing, in words. It is
 * asked before ZFS sees the devices: ZFS's own answer is one error number.
 */
#include "engine/label.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char *state_text(enum sz_label_state state)
{
	switch (state) {
	case SZ_LABEL_NO_FOLDER:
		return "its folder is missing";
	case SZ_LABEL_DEVICE_FAILED:
		return "it failed";
	case SZ_LABEL_UNREADABLE:
		return "it cannot be read now";
	case SZ_LABEL_LOST:
	case SZ_LABEL_NONE:
		return "its labels are lost";
	case SZ_LABEL_IMPOSSIBLE:
		return "its labels make no sense";
	case SZ_LABEL_FOREIGN:
		return "it is of another pool";
	case SZ_LABEL_COPY:
		return "it is a copy of another device";
	case SZ_LABEL_STRAY:
		return "it was replaced";
	case SZ_LABEL_PRESENT:
	default:
		return "it is there";
	}
}

void sz_labels_text(const struct sz_labels *labels, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < labels->device_count; i++) {
		char one[80];

		if (labels->state[i] == SZ_LABEL_PRESENT)
			continue;
		(void)snprintf(one, sizeof(one), "%sdevice %" PRIu32 " (%s)", used > 0 ? ", " : "",
			       i, state_text(labels->state[i]));
		if (used + strlen(one) >= size)
			return;
		memcpy(text + used, one, strlen(one) + 1);
		used += strlen(one);
	}
}

static const char *vdev_type(nvlist_t *vdev)
{
	const char *type = "";

	(void)nvlist_lookup_string(vdev, ZPOOL_CONFIG_TYPE, &type);
	return type;
}

/* Whether a vdev that keeps the same on all its leaves has one of them: a leaf, a mirror, a replacement. */
static bool any_is_present(const struct sz_labels *labels, nvlist_t *vdev)
{
	nvlist_t *leaves[SZ_LEAVES_MAX];
	uint32_t count = sz_config_leaves(vdev, leaves);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t guid = 0;

		(void)nvlist_lookup_uint64(leaves[i], ZPOOL_CONFIG_GUID, &guid);
		for (uint32_t p = 0; p < labels->present_count; p++)
			if (labels->present_guids[p] == guid)
				return true;
	}
	return false;
}

/* How many children a top-level vdev has, has present, and needs. */
struct count {
	uint32_t children;
	uint32_t present;
	uint32_t needed;
};

static struct count top_count(const struct sz_labels *labels, nvlist_t *top)
{
	struct count count = { .children = 1, .needed = 1 };
	nvlist_t **children;
	uint_t child_count;
	uint64_t parity = 0;

	if (strcmp(vdev_type(top), VDEV_TYPE_RAIDZ) != 0 ||
	    nvlist_lookup_uint64(top, ZPOOL_CONFIG_NPARITY, &parity) != 0 ||
	    nvlist_lookup_nvlist_array(top, ZPOOL_CONFIG_CHILDREN, &children, &child_count) != 0) {
		count.present = any_is_present(labels, top) ? 1 : 0;
		return count;
	}
	count.children = child_count;
	count.needed = child_count - (uint32_t)MIN(parity, child_count);
	for (uint_t i = 0; i < child_count; i++)
		count.present += any_is_present(labels, children[i]) ? 1 : 0;
	return count;
}

static bool has_no_leaves(nvlist_t *top)
{
	return strcmp(vdev_type(top), VDEV_TYPE_HOLE) == 0 ||
	       strcmp(vdev_type(top), VDEV_TYPE_INDIRECT) == 0;
}

/* Any other kind of leaf would have libzpool open a path of the machine. */
static int kinds_check(nvlist_t *tree, struct sz_error *error)
{
	nvlist_t *leaves[SZ_LEAVES_MAX];
	uint32_t count = sz_config_leaves(tree, leaves);

	for (uint32_t i = 0; i < count; i++) {
		const char *type = vdev_type(leaves[i]);

		if (!has_no_leaves(leaves[i]) && strcmp(type, VDEV_TYPE_MISSING) != 0 &&
		    strcmp(type, VDEV_TYPE_DISK) != 0)
			return sz_fail(error, -EUCLEAN,
				       "the pool has a leaf of type '%s', which is refused", type);
	}
	return 0;
}

int sz_labels_suffice(const struct sz_labels *labels, struct sz_error *error)
{
	nvlist_t *tree = fnvlist_lookup_nvlist(labels->config, ZPOOL_CONFIG_VDEV_TREE);
	nvlist_t **tops = NULL;
	uint_t count = 0;
	char missing[320];
	int result = kinds_check(tree, error);

	if (result != 0)
		return result;
	sz_labels_text(labels, missing, sizeof(missing));
	(void)nvlist_lookup_nvlist_array(tree, ZPOOL_CONFIG_CHILDREN, &tops, &count);
	for (uint_t i = 0; i < count; i++) {
		struct count there = top_count(labels, tops[i]);

		if (has_no_leaves(tops[i]) || there.present >= there.needed)
			continue;
		return sz_fail(error, -ENXIO,
			       "too many devices are missing: %s; of %u devices %u are there, and "
			       "%u are needed: copy their folders from a host, or say with "
			       "--device-dir where they are",
			       missing, there.children, there.present, there.needed);
	}
	return 0;
}
