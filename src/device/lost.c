/*
 * lost: what a verification could not read: runs of sectors, each under the id of the object that it is lost in, and
 * under a name of its device besides, for objects into which a seal has carried it since.
 */
#include "device/device_internal.h"

#include <errno.h>

struct lost {
	struct sz_id id;
	uint64_t sector;
	uint64_t count;
};

void sz_lost_device(uint32_t device, struct sz_id *id_out)
{
	*id_out = (struct sz_id){ 0 }; /* no object has it */
	sz_put_le32(id_out->bytes, device);
}

static size_t lost_count(const struct sz_bytes *runs)
{
	return runs->length / sizeof(struct lost);
}

int sz_lost_add(struct sz_bytes *runs, const struct sz_id *id, uint64_t sector, uint64_t count)
{
	struct lost *all = (struct lost *)(void *)runs->data;
	struct lost lost = { *id, sector, count };
	size_t number = lost_count(runs);

	if (number > 0 && memcmp(&all[number - 1].id, id, sizeof(*id)) == 0 &&
	    all[number - 1].sector + all[number - 1].count == sector) {
		all[number - 1].count += count;
		return 0;
	}
	return number == LOST_MAX ? 0 : sz_bytes_append(runs, &lost, sizeof(lost));
}

static int lost_compare(const void *a, const void *b)
{
	const struct lost *left = a;
	const struct lost *right = b;
	int by_id = memcmp(&left->id, &right->id, sizeof(left->id));

	if (by_id != 0)
		return by_id;
	return left->sector < right->sector ? -1 : left->sector > right->sector;
}

/* The runs of all objects of a device under its name, too. */
static int lost_name_devices(struct sz_bytes *runs)
{
	size_t count = lost_count(runs);
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++) {
		struct lost lost = ((const struct lost *)(void *)runs->data)[i];
		enum sz_kind kind;
		uint32_t device;
		uint64_t generation;

		if (sz_id_parse(&lost.id, &kind, &device, &generation) != 0)
			continue;
		sz_lost_device(device, &lost.id);
		result = sz_bytes_append(runs, &lost, sizeof(lost));
	}
	return result;
}

int sz_lost_sort(struct sz_bytes *runs)
{
	struct lost *all;
	size_t kept = 0;
	int result = lost_name_devices(runs);
	size_t count = lost_count(runs);

	if (result != 0 || count == 0)
		return result;
	all = (struct lost *)(void *)runs->data;
	qsort(all, count, sizeof(*all), lost_compare);
	for (size_t i = 1; i < count; i++) {
		struct lost *last = &all[kept];
		uint64_t end = all[i].sector + all[i].count;

		if (memcmp(&all[i].id, &last->id, sizeof(last->id)) != 0 ||
		    all[i].sector > last->sector + last->count)
			all[++kept] = all[i];
		else if (end > last->sector + last->count)
			last->count = end - last->sector;
	}
	runs->length = (kept + 1) * sizeof(*all);
	return 0;
}

bool sz_lost_has(const struct sz_bytes *runs, const struct sz_id *id, uint64_t sector,
		 uint64_t *count)
{
	const struct lost *all = (const struct lost *)(const void *)runs->data;
	const struct lost wanted = { *id, sector, 0 };
	size_t low = 0;
	size_t high = lost_count(runs);

	/* The first that begins behind the sector, or is of a later id. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (lost_compare(&all[middle], &wanted) > 0)
			high = middle;
		else
			low = middle + 1;
	}
	if (low > 0 && memcmp(&all[low - 1].id, id, sizeof(*id)) == 0 &&
	    sector - all[low - 1].sector < all[low - 1].count) {
		uint64_t left = all[low - 1].sector + all[low - 1].count - sector;

		*count = *count < left ? *count : left;
		return true;
	}
	if (low < lost_count(runs) && memcmp(&all[low].id, id, sizeof(*id)) == 0 &&
	    all[low].sector - sector < *count)
		*count = all[low].sector - sector;
	return false;
}
