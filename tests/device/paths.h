/* Stores in real folders, in a temporary one; with a harness whose disks they are. */
#ifndef SZ_TESTS_DEVICE_PATHS_H
#define SZ_TESTS_DEVICE_PATHS_H

#include "harness.h"

#define PATH_BYTES 256

struct place {
	char top[PATH_BYTES];  /* a fresh folder; everything is in it */
	char path[PATH_BYTES]; /* the store's, in it */
	struct harness harness;
};

/* A fresh folder, and a store in it, closed. */
void place_init(struct place *, const struct shape *, uint64_t seed);
void place_fini(struct place *); /* removes all */

int place_try_open(struct place *, const char *path, bool read_only);
void place_open(struct place *); /* opens place.path; nothing may be damaged */

/* The device folders of the store at path, in the order of their names. Returns how many. */
size_t device_folders(const char *path, char folders[][PATH_BYTES], size_t most);
void remove_tree(const char *path);
/* cp -r, while others may write. */
void copy_tree(const char *from, const char *to);

#endif
