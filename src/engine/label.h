#ifndef SZ_ENGINE_LABEL_H
#define SZ_ENGINE_LABEL_H

#include "engine/engine_internal.h"

#define SZ_LEAVES_MAX 256U /* in a configuration: one a device, and those that are being replaced */

/* What the labels of a device say about it. */
enum sz_label_state {
	SZ_LABEL_PRESENT,       /* a leaf of the pool */
	SZ_LABEL_NO_FOLDER,     /* the device is MISSING */
	SZ_LABEL_DEVICE_FAILED, /* the device is FAILED */
	SZ_LABEL_UNREADABLE,    /* an error that may be transient: nothing is known */
	SZ_LABEL_LOST, /* none of the four is there, and where they may have been is damaged */
	SZ_LABEL_NONE, /* none of the four is there, and nothing is damaged */
	SZ_LABEL_IMPOSSIBLE, /* authentic, but not what ZFS writes */
	SZ_LABEL_FOREIGN,    /* of another pool */
	SZ_LABEL_COPY,       /* of a leaf that another device has newer labels of */
	SZ_LABEL_STRAY,      /* of a leaf that the pool does not have any more */
};

struct sz_labels {
	enum sz_label_state state[SZ_DEVICES_MAX];
	uint32_t device_count;
	uint64_t present_guids[SZ_DEVICES_MAX]; /* of the leaves that are PRESENT, in no order */
	uint32_t present_count;
	nvlist_t *config; /* to import with; NULL if no device is PRESENT */
};

/* Reads the labels of all devices; reads only. -ENOMEM. */
int sz_labels_read(struct sz_store *, struct sz_labels *labels_out) MUST_CHECK;
void sz_labels_free(struct sz_labels *);

/* "", or for the devices that are not PRESENT "device 1 (its folder is missing), device 4 (…)". */
void sz_labels_text(const struct sz_labels *, char *text, size_t size);

/*
 * Whether enough leaves are present for every top-level vdev, and all are of a kind that this program
 * opens. -ENXIO: the text names what is missing · -EUCLEAN: a leaf of another kind.
 */
int sz_labels_suffice(const struct sz_labels *, struct sz_error *error) MUST_CHECK;

/* The leaves of a vdev (itself, if it is one), depth first; they belong to it. */
uint32_t sz_config_leaves(nvlist_t *vdev, nvlist_t *leaves[SZ_LEAVES_MAX]);

#endif
