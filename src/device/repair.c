/*
 * repair: what a verification found hurt is written anew, object by object, each in the place of the old one: what can be
 * read of it, and what is known of the rest. The next root refers to it; the damaged objects go with the generations
 * that still do.
 *
 * What cannot be read stays POISON, unless the layer above has seen to it that it needs nothing of it (a scrub that
 * came after the verification, and ended without an error): then it becomes zeros. Only what the verification could not
 * read either: what was hurt since the scrub may have read whole.
 *
 * 1. A new object is durable before the map names it, and the map names it before a root does. It stands where the
 *    old one stood: a band's folded_to and a delta's generation stay what they are.
 * 2. What a sector of a delta hides stays hidden: what is given up in it becomes a tombstone.
 * 3. In an object that a seal has made since is given up what was lost in any object of its device. (It may have
 *    been carried there.)
 * 4. Cut at any moment, the old objects are there, and what was written for a repair that did not end is collected.
 */
#include "device/device_internal.h"

#include <errno.h>

struct repairing {
	struct sz_store *store;
	const struct sz_verification *found;
	struct sz_device *device;
	bool gives_up; /* nobody needs what the verification could not read */
	/* of the object that is being written */
	struct sz_id from; /* what its sectors are known as lost under */
	bool is_delta;
	bool is_left;    /* something is lost that is not given up */
	uint64_t left;   /* objects of which that is so */
	uint32_t unread; /* objects that could not be written anew … */
	int failure;     /* … and why */
	struct builder builder;
};

static bool is_hurt(const struct repairing *repairing, const struct sz_id *id)
{
	return sz_id_set_has(&repairing->found->hurt, id);
}

/* Was it made since the verification began? A seal may have carried damage into it. */
static bool is_new(const struct repairing *repairing, const struct sz_id *id)
{
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	return sz_id_parse(id, &kind, &device, &generation) == 0 &&
	       generation >= repairing->found->epoch;
}

/* Does a new object have POISON in some sectors? */
static int poison_find(const struct repairing *repairing, const struct sz_ref *ref, uint64_t sector,
		       uint64_t count, bool *found)
{
	struct sz_store *store = repairing->store;
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	struct object *object;
	int result = sz_object_get(store, repairing->device, ref, &object);

	if (result == -EBADMSG)
		*found = true;
	while (count > 0 && result == 0) {
		struct object_run run = { .nonce_tags = nonce_tags };

		result = sz_object_find(object, sector,
					count < IO_SECTORS ? (uint32_t)count : IO_SECTORS, &run);
		*found = *found || run.state == SZ_SECTOR_POISON;
		sector += run.count;
		count -= run.count;
	}
	sz_object_put(store, &object);
	return result == -EBADMSG ? 0 : result;
}

/* Sectors that cannot be read. */
static int lost_add(struct repairing *repairing, uint64_t sector, uint64_t count)
{
	struct builder *builder = &repairing->builder;
	int result = 0;

	while (count > 0 && result == 0) {
		uint64_t some = count;

		if (!repairing->gives_up ||
		    !sz_lost_has(&repairing->found->lost, &repairing->from, sector, &some)) {
			result = sz_builder_add_run(builder, sector, some, SZ_SECTOR_POISON);
			repairing->is_left = repairing->gives_up;
		} else if (repairing->is_delta) {
			result = sz_builder_add_run(builder, sector, some, SZ_SECTOR_TOMBSTONE);
		}
		sector += some;
		count -= some;
	}
	return result;
}

static void object_begin(struct repairing *repairing, const struct sz_id *id, bool is_delta)
{
	repairing->is_delta = is_delta;
	repairing->is_left = false;
	repairing->from = *id;
	if (!is_hurt(repairing, id))
		sz_lost_device(repairing->device->index, &repairing->from);
}

/* An object that could not be read, or written, is left as it is: others can be. */
static int object_ended(struct repairing *repairing, int result)
{
	repairing->left += result != 0 || repairing->is_left ? 1 : 0;
	if (result == 0 || result == -ENOMEM || is_full(result) || ++repairing->unread > UNREAD_MAX)
		return result;
	repairing->failure = result;
	return 0;
}

static int data_copy(struct repairing *repairing, struct object *object,
		     const struct object_run *run)
{
	static const uint8_t none[IO_SECTORS / 8];
	uint8_t damaged[IO_SECTORS / 8] = { 0 };
	int result = sz_sectors_read(sz_object_file(object), sz_object_keys(object)->sector,
				     run->place, run->sector, run->count, run->nonce_tags,
				     repairing->builder.plaintext, damaged);

	if (result == -EBADMSG)
		result = 0;
	for (uint32_t i = 0; i < run->count && result == 0;) {
		bool is_lost = bit_is_set(damaged, i);
		uint32_t some = 1;

		while (i + some < run->count && bit_is_set(damaged, i + some) == is_lost)
			some++;
		result = is_lost ? lost_add(repairing, run->sector + i, some)
				 : sz_builder_add_partly(&repairing->builder, run->sector + i, some,
							 repairing->builder.plaintext + i * SECTOR,
							 none);
		i += some;
	}
	return result;
}

/* What an object (NULL: it is lost) says of some sectors, to the new one. */
static int range_copy(struct repairing *repairing, struct object *object, uint64_t sector,
		      uint64_t count)
{
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	int result = 0;

	if (object == NULL)
		return lost_add(repairing, sector, count);
	while (count > 0 && result == 0) {
		struct object_run run = { .nonce_tags = nonce_tags };

		result = sz_object_find(object, sector,
					count < IO_SECTORS ? (uint32_t)count : IO_SECTORS, &run);
		if (result != 0)
			break;
		if (run.state == SZ_SECTOR_DATA)
			result = data_copy(repairing, object, &run);
		else if (run.state == SZ_SECTOR_TOMBSTONE)
			result = sz_builder_add_run(&repairing->builder, run.sector, run.count,
						    SZ_SECTOR_TOMBSTONE);
		else if (run.state == SZ_SECTOR_POISON || repairing->is_delta)
			result = lost_add(repairing, run.sector, run.count);
		sector += run.count;
		count -= run.count;
	}
	return result;
}

/* NULL: it is lost. */
static int object_get(const struct repairing *repairing, const struct sz_ref *ref,
		      struct object **object_out)
{
	int result;

	sz_object_forget(repairing->store, &ref->id);
	result = sz_object_get(repairing->store, repairing->device, ref, object_out);
	if (result != -EBADMSG)
		return result;
	*object_out = NULL;
	return 0;
}

static int band_build(struct repairing *repairing, struct object *object, uint32_t band)
{
	static const uint8_t zeros[SZ_SECTOR_BYTES];
	uint64_t base = sz_band_base(repairing->device, band);
	uint32_t length = sz_band_length(repairing->device, band);
	int result = range_copy(repairing, object, base, length);

	/* A band says something, or it would be none, and hide no delta that it has folded: of a sector that it is zeros. */
	if (result == 0 && repairing->builder.entries.count == 0)
		result = sz_builder_add_partly(&repairing->builder, base, 1, zeros,
					       (const uint8_t[]){ 0 });
	return result;
}

static int band_write(struct repairing *repairing, struct batch *batch, uint32_t band,
		      const struct row *from, struct row *row_out)
{
	struct builder *builder = &repairing->builder;
	struct object *object;
	int result = object_get(repairing, &from->ref, &object);

	if (result != 0)
		return result;
	result = sz_builder_init(builder, batch, repairing->device, SZ_KIND_BAND,
				 repairing->store->epoch, band);
	builder->header.folded_to = from->folded_to;
	if (result == 0)
		result = band_build(repairing, object, band);
	*row_out = (struct row){ .folded_to = from->folded_to, .epoch = repairing->store->epoch };
	if (result == 0)
		result = sz_builder_end(builder, &row_out->ref);
	row_out->live_sectors = (uint32_t)builder->entries.count;
	row_out->data_slots = builder->header.data_slots;
	sz_builder_fini(builder);
	sz_object_put(repairing->store, &object);
	return result;
}

static int band_repair(struct repairing *repairing, uint32_t band, const struct row *from)
{
	struct sz_device *device = repairing->device;
	struct batch batch = { .store = repairing->store };
	struct row row;
	int result;

	object_begin(repairing, &from->ref.id, false);
	result = band_write(repairing, &batch, band, from, &row);

	if (result == 0)
		result = sz_batch_commit(&batch);
	if (result == 0) {
		MUTEX_SCOPE(&device->log_lock);
		WRITE_SCOPE(&device->map_lock);

		*sz_row_find(device, band) = row;
	}
	sz_batch_abandon(&batch);
	return result;
}

static int bands_repair(struct repairing *repairing)
{
	struct sz_device *device = repairing->device;
	int result = 0;

	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS && result == 0; i++) {
		struct row row = { 0 };
		bool is_due;

		{
			READ_SCOPE(&device->map_lock);
			const struct row *from = sz_row_find(device, i);

			if (from != NULL)
				row = *from;
		}
		if (sz_id_is_none(&row.ref.id))
			continue;
		is_due = is_hurt(repairing, &row.ref.id);
		if (!is_due && is_new(repairing, &row.ref.id))
			result = poison_find(repairing, &row.ref, sz_band_base(device, i),
					     sz_band_length(device, i), &is_due);
		if (result == 0 && is_due)
			result = band_repair(repairing, i, &row);
		if (result != 0 || is_due)
			result = object_ended(repairing, result);
	}
	return result;
}

static int delta_write(struct repairing *repairing, struct batch *batch,
		       const struct sz_manifest_delta *from, struct sz_manifest_delta *delta)
{
	struct builder *builder = &repairing->builder;
	struct object *object;
	int result = object_get(repairing, &from->delta, &object);

	if (result != 0)
		return result;
	result = sz_builder_init(builder, batch, repairing->device, SZ_KIND_DELTA,
				 repairing->store->epoch, 0);
	for (uint32_t i = 0; i < from->run_count && result == 0; i++)
		result = range_copy(repairing, object, from->runs[i].sector, from->runs[i].count);
	if (result == 0)
		result = sz_builder_end_delta(builder, from->generation, delta);
	sz_builder_fini(builder);
	sz_object_put(repairing->store, &object);
	return result;
}

static int delta_repair(struct repairing *repairing, uint32_t number)
{
	struct sz_device *device = repairing->device;
	struct batch batch = { .store = repairing->store };
	/* Deltas change under seal_lock alone. */
	const struct sz_manifest_delta *from = device->deltas[number];
	CLEANUP(sz_delta_free) struct sz_manifest_delta *delta = calloc(1, sizeof(*delta));
	int result;

	object_begin(repairing, &from->delta.id, true);
	result = delta == NULL ? -ENOMEM : delta_write(repairing, &batch, from, delta);
	if (result == 0)
		result = sz_list_write(&batch, device, repairing->store->epoch, delta);
	if (result == 0)
		result = sz_batch_commit(&batch);
	if (result == 0) {
		MUTEX_SCOPE(&device->log_lock);
		WRITE_SCOPE(&device->map_lock);

		sz_delta_free(&device->deltas[number]);
		device->deltas[number] = TAKE(delta);
	}
	sz_batch_abandon(&batch);
	return result;
}

static int deltas_repair(struct repairing *repairing)
{
	const struct sz_device *device = repairing->device;
	int result = 0;

	for (uint32_t i = 0; i < device->delta_count && result == 0; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		bool is_due = is_hurt(repairing, &delta->delta.id) ||
			      (!delta->list_is_inline && is_hurt(repairing, &delta->list.id));

		for (uint32_t j = 0; j < delta->run_count && !is_due && result == 0 &&
				     is_new(repairing, &delta->delta.id);
		     j++)
			result = poison_find(repairing, &delta->delta, delta->runs[j].sector,
					     delta->runs[j].count, &is_due);
		if (result == 0 && is_due)
			result = delta_repair(repairing, i);
		if (result != 0 || is_due)
			result = object_ended(repairing, result);
	}
	return result;
}

/* What lost sectors of the hot area hold nobody needs: zeros. */
static void hot_give_up(struct sz_device *device)
{
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < HOT_SECTORS; i++)
		if (bit_is_set(device->hot.poison, i))
			sz_hot_trim(&device->hot, i, 1);
}

/* A shard of which nothing is known any more: what its bands held is given up. */
static void shards_give_up(struct sz_device *device)
{
	MUTEX_SCOPE(&device->log_lock);
	WRITE_SCOPE(&device->map_lock);

	for (uint32_t i = 0; i < device->shard_count; i++)
		if (device->shards[i] != NULL)
			device->shards[i]->is_lost = false;
}

static int device_repair(struct repairing *repairing)
{
	struct sz_device *device = repairing->device;
	int result = bands_repair(repairing);

	if (result == 0)
		result = deltas_repair(repairing);
	if (result == 0 && repairing->gives_up) {
		hot_give_up(device);
		shards_give_up(device);
	}
	/* Pages are small: all of them, whichever is hurt. */
	device->index_is_due = result == 0;
	return result;
}

/*
 * Each folder that has none gets the key object, and each file that is not as it is in memory is replaced: one after
 * the other, for one that is hurt may still open the store when no other does.
 */
static int keys_repair(struct sz_store *store, const struct sz_verification *found)
{
	bool removed = true;
	uint32_t whole = 1;
	struct sz_id id;
	int result = 0;

	sz_id_make(SZ_KIND_KEY, SZ_STORE_WIDE, store->key->version, sz_get_le64(store->key->digest),
		   &id);
	if (!sz_id_set_has(&found->hurt, &id))
		return 0;
	for (uint32_t i = 0; result == 0 && removed; i++) {
		sz_root_complete(store);
		result = sz_key_copies(store, &id, &whole);
		if (result == 0 && whole == 0 && i > 0)
			return -EIO; /* it cannot be written: the others stay */
		if (result == 0)
			result = sz_key_copy_clean(store, &id, &removed);
	}
	return result;
}

static int devices_repair(struct repairing *repairing)
{
	struct sz_store *store = repairing->store;
	MUTEX_SCOPE(&store->seal_lock);
	int result = 0;

	if (store->is_sealing) /* a seal that failed: it knows the old objects */
		return -EAGAIN;
	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		repairing->device = &store->devices[i];
		if (sz_device_check(repairing->device) == 0)
			result = device_repair(repairing);
	}
	if (result == 0)
		result = keys_repair(store, repairing->found);
	if (result != 0 || repairing->failure != 0)
		store->collector.has_looked = false; /* what was written in vain lies about */
	return result;
}

int sz_store_repair(struct sz_store *store, const struct sz_verification *verification,
		    bool gives_up, uint64_t *left_out, struct sz_error *error)
{
	struct repairing repairing = { .store = store,
				       .found = verification,
				       .gives_up = gives_up };
	int result;

	if (!writes_folders(store))
		return sz_fail(error, -EROFS, "the store is open for reading only");
	result = devices_repair(&repairing);
	if (result == -EAGAIN) {
		result = sz_seal_run(store, SEAL_CHANGES, error);
		if (result != 0)
			return result;
		result = devices_repair(&repairing);
	}
	*left_out = repairing.left;
	if (result != 0)
		return sz_fail(error, result, "repairing: %s", strerror(-result));
	result = sz_seal_run(store, SEAL_ALWAYS, error);
	if (result == 0 && repairing.failure != 0)
		return sz_fail(error, repairing.failure,
			       "repairing: of %u objects that stay as they are: %s",
			       repairing.unread, strerror(-repairing.failure));
	return result;
}
