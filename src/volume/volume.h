/*
 * volume: block devices in a pool, in the kernel's format of ZFS volumes (zvols): a size that is fixed, blocks of one
 * size, an intent log for what is flushed. Beside fs; who shows them to others is above (nbd, cli).
 *
 * A volume's name is a dataset's, below the pool's root dataset; its parent is a file system. That of a snapshot of it is
 * VOLUME@SNAPSHOT; snapshots are made, listed, destroyed and gone back to as those of any dataset (engine/engine.h).
 *
 * Any thread may call any function. Offsets and lengths are bytes, of any alignment; whole blocks are the fastest. Errors:
 * -errno; -ENOSPC, -EDQUOT, -EROFS, -EIO; -EINVAL: outside the volume; -EBADMSG: a block is damaged beyond what
 * redundancy repairs. After an error of a write it is not known which of its bytes are written.
 */
#ifndef SZ_VOLUME_VOLUME_H
#define SZ_VOLUME_VOLUME_H

#include "base/base.h"
#include "engine/engine.h"

#define SZ_VOLUME_NAME_BYTES  256U   /* with the final NUL */
#define SZ_VOLUME_BLOCK_BYTES 16384U /* if nothing else is asked for: ZFS's */
/* Less than a sector of the devices is only waste; more than that ZFS has not. */
#define SZ_VOLUME_BLOCK_MIN   4096U
#define SZ_VOLUME_BLOCK_MAX   (16U << 20)
#define SZ_VOLUME_SIZE_MAX                                                                         \
	(1ULL << 60) /* so that what it takes on the devices can be reckoned in 64 bits */

struct sz_volume_new {
	uint64_t size_bytes;  /* a multiple of block_bytes */
	uint32_t block_bytes; /* a power of two */
	bool is_sparse;       /* no room is reserved: writing may fail with -ENOSPC */
	const struct sz_property *properties; /* else as those of what is above it */
	size_t property_count;
};
/*
 * Makes a volume of zeros; on disk when it returns. Unless it is sparse, the pool's room for all of it is reserved, as
 * 'zfs create -V' reckons it. -EINVAL: the name, the sizes, a property, or a volume is above it · -EEXIST · -ENOENT: nothing is above
 * it · -ENOSPC: there is less room than is to be reserved · -EROFS
 */
int sz_volume_create(struct sz_pool *, const char *name, const struct sz_volume_new *,
		     struct sz_error *error) MUST_CHECK;
/* -EBUSY: it is open · -ENOTEMPTY: it has snapshots · -ENOENT · -EINVAL: it is no volume · -EROFS */
int sz_volume_destroy(struct sz_pool *, const char *name, struct sz_error *error) MUST_CHECK;

struct sz_volume_info {
	char name[SZ_VOLUME_NAME_BYTES];
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint64_t used_bytes;       /* with its snapshots, and what is reserved for it */
	uint64_t referenced_bytes; /* its own data */
	uint64_t reserved_bytes;   /* 0: it is sparse */
};
/* -ENOENT · -EINVAL: it is no volume */
int sz_volume_find(struct sz_pool *, const char *name, struct sz_volume_info *info_out,
		   struct sz_error *error) MUST_CHECK;
/* All volumes, by their names. A value other than 0 ends it and is returned. */
typedef int sz_volume_fn(void *context, const struct sz_volume_info *);
int sz_volume_each(struct sz_pool *, sz_volume_fn *, void *context) MUST_CHECK;

/*
 * Opens a volume, or a snapshot of one, which is read-only; so is a volume in a pool that is, or with the property
 * readonly=on. Any number may have the same one open; each closes it, before the pool is exported. The first one replays
 * its intent log: -EBUSY: it cannot, as it may not write · -EOPNOTSUPP, -EBADMSG: as sz_fs_open. -ENOENT · -EINVAL: it
 * is no volume
 */
struct sz_volume;
int sz_volume_open(struct sz_pool *, const char *name, struct sz_volume **volume_out,
		   struct sz_error *error) MUST_CHECK;
void sz_volume_close(struct sz_volume *);

/* As they are for as long as it is open. */
uint64_t sz_volume_size(const struct sz_volume *);
uint32_t sz_volume_block(const struct sz_volume *);
bool sz_volume_is_read_only(const struct sz_volume *);

int sz_volume_read(struct sz_volume *, void *buffer, size_t length, uint64_t offset) MUST_CHECK;
/* is_durable: it is on disk when this returns 0; with sync=always of the dataset it is so always. Likewise below. */
int sz_volume_write(struct sz_volume *, const void *buffer, size_t length, uint64_t offset,
		    bool is_durable) MUST_CHECK;
/* What is in the range is not needed: the whole blocks in it are freed, and are zeros then. */
int sz_volume_trim(struct sz_volume *, uint64_t offset, uint64_t length,
		   bool is_durable) MUST_CHECK;
/*
 * As zero, but what is written there later is not to fail for lack of room: if it is not reserved, the zeros are stored.
 * That is no promise where compression makes holes of zeros.
 */
int sz_volume_zero_keep(struct sz_volume *, uint64_t offset, uint64_t length,
			bool is_durable) MUST_CHECK;
bool sz_volume_stores_zeros(const struct sz_volume *); /* that does, and takes as long as writing */
/* The range is zeros then; its whole blocks are freed. */
int sz_volume_zero(struct sz_volume *, uint64_t offset, uint64_t length,
		   bool is_durable) MUST_CHECK;
/* Returns when all that was done before is on disk, by the intent log; with sync=disabled at once. */
int sz_volume_flush(struct sz_volume *) MUST_CHECK;
/*
 * What is at the offset: a hole, where nothing is stored and zeros are read, or data; and for how far, 1 … length
 * (not 0). Waits for what was written to be on disk.
 */
int sz_volume_extent(struct sz_volume *, uint64_t offset, uint64_t length, uint64_t *length_out,
		     bool *is_hole_out) MUST_CHECK;

#endif
