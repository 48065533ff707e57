/* The files of a store on its disks, told by kind as somebody can who has the passphrase. */
#ifndef SZ_TESTS_DEVICE_OBJECTS_H
#define SZ_TESTS_DEVICE_OBJECTS_H

#include "format/format.h"
#include "harness.h"

struct object {
	uint32_t disk;
	enum sz_part part;
	char name[64];
	uint64_t size_bytes;
	enum sz_kind kind; /* 0: not one of ours, by its name */
	uint32_t device;
	uint64_t generation;
};
struct objects {
	struct object *list;
	size_t count;
	struct sz_key_object *key; /* of the store */
};

/* Lists what is on the disks now. The store may be open or closed. */
void objects_list(struct harness *, struct objects *objects_out);
void objects_free(struct objects *objects);

void object_read(struct harness *, const struct object *, struct sz_bytes *content_out);
/* Makes a file of this content, durably; in place of one that has the name. */
void object_put(struct harness *, uint32_t disk, enum sz_part part, const char *name,
		const struct sz_bytes *content);
void object_remove(struct harness *, const struct object *);
/* The first sector of a band, from its header. */
uint64_t object_base_sector(struct harness *, const struct objects *, const struct object *);

#endif
