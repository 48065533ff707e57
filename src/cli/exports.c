/*
 * exports: what of a store is served as network block devices: where there is no pool, its devices "0", "1", …; of a pool,
 * its volumes, and their snapshots, "VOLUME@SNAPSHOT".
 */
#include "cli/cli.h"

#include <errno.h>

#define NAME_DIGITS 12U
#define BLOCK_MAX   (1U << 20) /* that an export may prefer */

/* What clients are told of them. */
static const char device_description[] = "a device";
static const char volume_description[] = "a volume";
static const char snapshot_description[] = "a snapshot of a volume";

static int device_read(void *context, uint64_t offset, uint32_t length, void *buffer)
{
	return sz_device_read_bytes(context, offset, length, buffer);
}

static int changed(struct sz_device *device, int result, bool is_durable)
{
	return result == 0 && is_durable ? sz_device_flush(device) : result;
}

static int device_write(void *context, uint64_t offset, uint32_t length, const void *buffer,
			bool is_durable)
{
	return changed(context, sz_device_write_bytes(context, offset, length, buffer), is_durable);
}

/* The whole sectors: what is not needed is not worth reading the rest of a sector. */
static int device_trim(void *context, uint64_t offset, uint64_t length, bool is_durable)
{
	uint64_t from = ROUND_UP(offset, (uint64_t)SZ_SECTOR_BYTES);
	uint64_t to = (offset + length) / SZ_SECTOR_BYTES * SZ_SECTOR_BYTES;
	int result = from < to ? sz_device_zero_bytes(context, from, to - from) : 0;

	return changed(context, result, is_durable);
}

/* Zeros are trimmed, so it is always fast; room cannot be promised. */
static int device_write_zeroes(void *context, uint64_t offset, uint64_t length, unsigned int flags)
{
	return changed(context, sz_device_zero_bytes(context, offset, length),
		       (flags & SZ_NBD_ZERO_DURABLE) != 0);
}

static int device_flush(void *context)
{
	return sz_device_flush(context);
}

static int device_extent(void *context, uint64_t offset, uint64_t length, uint64_t *length_out,
			 bool *is_hole_out)
{
	return sz_device_extent(context, offset, length, length_out, is_hole_out);
}

static void device_close(void *context)
{
	(void)context; /* it is the store's */
}

static const struct sz_nbd_operations device_operations = {
	.read = device_read,
	.write = device_write,
	.trim = device_trim,
	.write_zeroes = device_write_zeroes,
	.flush = device_flush,
	.extent = device_extent,
	.close = device_close,
};

static bool is_present(struct sz_store *store, uint32_t index)
{
	return sz_device_state(sz_store_device(store, index)) != SZ_DEVICE_MISSING;
}

static int devices_list(void *context, sz_nbd_listed_fn *each, void *to)
{
	const struct session *session = context;
	int result = 0;

	for (uint32_t i = 0; i < sz_store_device_count(session->store) && result == 0; i++) {
		char name[NAME_DIGITS];

		(void)snprintf(name, sizeof(name), "%u", i);
		if (is_present(session->store, i))
			result = each(to, name, device_description);
	}
	return result;
}

/* "" is the device of a store that has one. -ENOENT */
static int device_find(const struct session *session, const char *name, uint32_t *index_out)
{
	uint32_t count = sz_store_device_count(session->store);

	*index_out = 0;
	if (name[0] == '\0')
		return count == 1 && is_present(session->store, 0) ? 0 : -ENOENT;
	for (uint32_t i = 0; i < count; i++) {
		char text[NAME_DIGITS];

		(void)snprintf(text, sizeof(text), "%u", i);
		if (strcmp(text, name) == 0 && is_present(session->store, i)) {
			*index_out = i;
			return 0;
		}
	}
	return -ENOENT;
}

static int devices_open(void *context, const char *name, bool read_only,
			struct sz_nbd_export *export_out)
{
	const struct session *session = context;
	uint32_t index;
	int result = device_find(session, name, &index);

	if (result != 0)
		return result;
	*export_out = (struct sz_nbd_export){
		.operations = &device_operations,
		.context = sz_store_device(session->store, index),
		.size_bytes =
			sz_device_sectors(sz_store_device(session->store, index)) * SZ_SECTOR_BYTES,
		.block_bytes = SZ_SECTOR_BYTES,
		.is_read_only = read_only || sz_store_is_read_only(session->store),
		.description = device_description,
	};
	return 0;
}

static int volume_read(void *context, uint64_t offset, uint32_t length, void *buffer)
{
	return sz_volume_read(context, buffer, length, offset);
}

static int volume_write(void *context, uint64_t offset, uint32_t length, const void *buffer,
			bool is_durable)
{
	return sz_volume_write(context, buffer, length, offset, is_durable);
}

static int volume_trim(void *context, uint64_t offset, uint64_t length, bool is_durable)
{
	return sz_volume_trim(context, offset, length, is_durable);
}

/* Zeros are freed, which is fast; what room is reserved stays so. */
static int volume_write_zeroes(void *context, uint64_t offset, uint64_t length, unsigned int flags)
{
	const bool is_durable = (flags & SZ_NBD_ZERO_DURABLE) != 0;

	if ((flags & SZ_NBD_ZERO_KEEP) == 0)
		return sz_volume_zero(context, offset, length, is_durable);
	if ((flags & SZ_NBD_ZERO_FAST) != 0 && sz_volume_stores_zeros(context))
		return -EOPNOTSUPP;
	return sz_volume_zero_keep(context, offset, length, is_durable);
}

static int volume_flush(void *context)
{
	return sz_volume_flush(context);
}

static int volume_extent(void *context, uint64_t offset, uint64_t length, uint64_t *length_out,
			 bool *is_hole_out)
{
	return sz_volume_extent(context, offset, length, length_out, is_hole_out);
}

static void volume_close(void *context)
{
	sz_volume_close(context);
}

static const struct sz_nbd_operations volume_operations = {
	.read = volume_read,
	.write = volume_write,
	.trim = volume_trim,
	.write_zeroes = volume_write_zeroes,
	.flush = volume_flush,
	.extent = volume_extent,
	.close = volume_close,
};

/* The listing of a volume and its snapshots. */
struct volume_listing {
	struct sz_pool *pool;
	sz_nbd_listed_fn *each;
	void *to;
	const char *volume;
};

static int volume_snapshot_listed(void *context, const struct sz_snapshot *snapshot)
{
	const struct volume_listing *listing = context;
	char name[SZ_VOLUME_NAME_BYTES + SZ_SNAPSHOT_NAME_BYTES];

	(void)snprintf(name, sizeof(name), "%s@%s", listing->volume, snapshot->name);
	return listing->each(listing->to, name, snapshot_description);
}

static int volume_listed(void *context, const struct sz_volume_info *info)
{
	struct volume_listing *listing = context;
	int result = listing->each(listing->to, info->name, volume_description);

	listing->volume = info->name;
	if (result == 0)
		result = sz_pool_snapshot_each(listing->pool, info->name, volume_snapshot_listed,
					       listing);
	return result == -ENOENT ? 0 : result; /* it is gone by now */
}

static int volumes_list(void *context, sz_nbd_listed_fn *each, void *to)
{
	const struct session *session = context;
	struct volume_listing listing = { .pool = session->pool, .each = each, .to = to };

	return sz_volume_each(session->pool, volume_listed, &listing);
}

/* The volume's name, if there is only one. */
struct only {
	unsigned int count;
	char name[SZ_VOLUME_NAME_BYTES];
};

static int only_seen(void *context, const struct sz_volume_info *info)
{
	struct only *only = context;

	only->count++;
	(void)snprintf(only->name, sizeof(only->name), "%s", info->name);
	return 0;
}

static int volumes_open(void *context, const char *name, bool read_only,
			struct sz_nbd_export *export_out)
{
	const struct session *session = context;
	struct sz_error ignored = { 0 };
	struct only only = { 0 };
	struct sz_volume *volume;
	int result = 0;

	if (name[0] == '\0') {
		result = sz_volume_each(session->pool, only_seen, &only);
		if (result == 0 && only.count != 1)
			result = -ENOENT;
		name = only.name;
	}
	if (result == 0)
		result = sz_volume_open(session->pool, name, &volume, &ignored);
	if (result != 0)
		return result == -EINVAL ? -ENOENT : result; /* a dataset of files */
	*export_out = (struct sz_nbd_export){
		.operations = &volume_operations,
		.context = volume,
		.size_bytes = sz_volume_size(volume),
		.block_bytes =
			sz_volume_block(volume) < BLOCK_MAX ? sz_volume_block(volume) : BLOCK_MAX,
		.is_read_only = read_only || sz_volume_is_read_only(volume),
		.description =
			strchr(name, '@') == NULL ? volume_description : snapshot_description,
	};
	return 0;
}

void exports_of(struct session *session, struct sz_nbd_source *source_out)
{
	*source_out = (struct sz_nbd_source){ .list = devices_list,
					      .open = devices_open,
					      .context = session };
	if (session->pool != NULL) {
		source_out->list = volumes_list;
		source_out->open = volumes_open;
	}
}
