/*
 * verify: everything that the newest generation is made of is read and authenticated, whoever needs it or not: objects
 * whose sectors are superseded, or of no use to the layer above, index pages of which another copy is whole.
 * What is hurt is noted as damage, and told to repair.c, with what is lost in it. What cannot be read now (a disk's error)
 * is named, too, and left to the next verification.
 *
 * Index pages, hot images, roots and key objects are looked at under seal_lock: they are small. Bands and deltas are
 * read a piece at a time, as a reader does, who is in the way of nobody; a piece that a seal has replaced meanwhile is left out.
 */
#include "device/device_internal.h"

#include <errno.h>

static const char copies_text[] = "a copy is missing, or does not authenticate";

/* A band or delta that is to be read. */
struct stored {
	uint32_t device;
	uint32_t band; /* NO_BAND: a delta */
	struct sz_ref ref;
	uint64_t bytes;
};
#define NO_BAND UINT32_MAX

struct verifying {
	struct sz_store *store;
	struct sz_bytes list; /* of struct stored */
	uint64_t done_bytes;
	uint64_t total_bytes;
	struct sz_verification *found;
	uint8_t *buffer; /* IO_SECTORS */
};

static void verifying_fini(struct verifying *verifying)
{
	sz_bytes_free(&verifying->list);
	sz_verification_free(verifying->found);
	if (verifying->buffer != NULL)
		sz_wipe(verifying->buffer, IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	free(verifying->buffer);
}

static int hurt_add(struct verifying *verifying, const struct sz_id *id)
{
	struct id_set *hurt = &verifying->found->hurt;

	return sz_id_set_has(hurt, id) ? 0 : sz_id_set_add(hurt, id);
}

static int hurt_note(struct verifying *verifying, uint32_t device, const struct sz_id *id,
		     uint64_t sectors, const char *text)
{
	sz_damage_note(verifying->store, device, id, sectors, text);
	return hurt_add(verifying, id);
}

/* An object that could not be read: the rest may be. */
static int unread_note(struct verifying *verifying, uint32_t device, const struct sz_id *id,
		       int error)
{
	if (error == -ENOMEM || ++verifying->found->unread > UNREAD_MAX)
		return error;
	sz_damage_note(verifying->store, device, id, 0, "cannot be read now");
	return 0;
}

/* Small objects, by the number of their copies. */

/* Devices that can hold one of the copies that stand in a device's folder and the next ones. */
static uint32_t copies_due(const struct sz_store *store, uint32_t device, uint32_t copies)
{
	uint32_t due = 0;

	for (uint32_t i = 0; i < copies && i < store->device_count; i++)
		if (sz_device_check(&store->devices[(device + i) % store->device_count]) == 0)
			due++;
	return due;
}

static int blob_verify(struct verifying *verifying, uint32_t device, const struct sz_ref *ref,
		       uint32_t copies)
{
	uint32_t whole;
	int result = 0;

	if (sz_id_is_none(&ref->id))
		return 0;
	result = sz_blob_copies(verifying->store, ref, &whole);
	if (result != 0)
		return unread_note(verifying, device, &ref->id, result);
	if (whole < copies_due(verifying->store, device, copies))
		result = hurt_note(verifying, device, &ref->id, 0, copies_text);
	return result;
}

static int index_verify(struct verifying *verifying, struct sz_device *device)
{
	int result = blob_verify(verifying, device->index, &device->manifest_ref, INDEX_COPIES);

	if (result == 0)
		result = blob_verify(verifying, device->index, &device->hot_ref, 1);
	for (uint32_t i = 0; i < HOT_SECTORS && result == 0; i++)
		if (bit_is_set(device->hot.poison, i))
			result = hurt_note(verifying, device->index, &device->hot_ref.id, 1, NULL);
	for (uint32_t i = 0; i < device->shard_count && result == 0; i++)
		if (device->shards[i] != NULL)
			result = blob_verify(verifying, device->index, &device->shards[i]->ref,
					     INDEX_COPIES);
	for (uint32_t i = 0; i < device->delta_count && result == 0; i++)
		if (!device->deltas[i]->list_is_inline)
			result = blob_verify(verifying, device->index, &device->deltas[i]->list,
					     INDEX_COPIES);
	return result;
}

static int keys_verify(struct verifying *verifying)
{
	struct sz_store *store = verifying->store;
	struct sz_id id;
	uint32_t whole;
	int result;

	sz_id_make(SZ_KIND_KEY, SZ_STORE_WIDE, store->key->version, sz_get_le64(store->key->digest),
		   &id);
	result = sz_key_copies(store, &id, &whole);
	if (result != 0)
		return unread_note(verifying, NO_DEVICE, &id, result);
	if (whole < copies_due(store, 0, store->device_count))
		result = hurt_note(verifying, NO_DEVICE, &id, 0, copies_text);
	return result;
}

static int stored_add(struct verifying *verifying, uint32_t device, uint32_t band,
		      const struct sz_ref *ref, uint64_t bytes)
{
	struct stored stored = { device, band, *ref, bytes };

	verifying->total_bytes += bytes;
	return sz_bytes_append(&verifying->list, &stored, sizeof(stored));
}

static int stored_list(struct verifying *verifying, struct sz_device *device)
{
	READ_SCOPE(&device->map_lock);
	int result = 0;

	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS && result == 0; i++) {
		const struct row *row = sz_row_find(device, i);

		if (row != NULL)
			result = stored_add(verifying, device->index, i, &row->ref,
					    sz_band_file_bytes(row->data_slots));
	}
	for (uint32_t i = 0; i < device->delta_count && result == 0; i++)
		result = stored_add(verifying, device->index, NO_BAND, &device->deltas[i]->delta,
				    device->deltas[i]->stored_bytes);
	return result;
}

/* Looks at what is small, and lists the rest. */
static int index_verify_all(struct verifying *verifying)
{
	struct sz_store *store = verifying->store;
	MUTEX_SCOPE(&store->seal_lock);
	struct sz_ref root = { .id = store->root_id };
	int result;

	verifying->found->epoch = store->epoch;
	memcpy(root.digest, store->root_digest, sizeof(root.digest));
	(void)sz_catalog_identify(store, UINT64_MAX);
	result = blob_verify(verifying, 0, &root, store->device_count);
	if (result == 0)
		result = keys_verify(verifying);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];

		if (device->folder == NO_DEVICE)
			continue;
		result = index_verify(verifying, device);
		if (result == 0)
			result = stored_list(verifying, device);
	}
	return result;
}

/* Bands and deltas */

/* The sectors from at on that the object has to know: none (0) when it was replaced, or there are no more. */
static uint64_t run_next(struct sz_device *device, const struct stored *stored, uint64_t *at)
{
	READ_SCOPE(&device->map_lock);

	if (stored->band != NO_BAND) {
		const struct row *row = sz_row_find(device, stored->band);
		uint64_t base = sz_band_base(device, stored->band);
		uint64_t end = base + sz_band_length(device, stored->band);

		if (row == NULL || memcmp(&row->ref, &stored->ref, sizeof(row->ref)) != 0)
			return 0;
		*at = *at < base ? base : *at;
		return *at < end ? end - *at : 0;
	}
	for (uint32_t i = 0; i < device->delta_count; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		const struct sz_run *run;

		if (memcmp(&delta->delta, &stored->ref, sizeof(stored->ref)) != 0)
			continue;
		run = sz_runs_find(delta->runs, delta->run_count, *at);
		if (run == NULL)
			return 0;
		*at = *at < run->sector ? run->sector : *at;
		return run->sector + run->count - *at;
	}
	return 0;
}

static int lost_add(struct verifying *verifying, const struct stored *stored, uint64_t sector,
		    uint64_t count)
{
	return sz_lost_add(&verifying->found->lost, &stored->ref.id, sector, count);
}

/* An object of which nothing can be read. */
static int whole_lose(struct verifying *verifying, const struct stored *stored)
{
	struct sz_device *device = &verifying->store->devices[stored->device];
	uint64_t at = 0;
	uint64_t some;
	int result = hurt_add(verifying, &stored->ref.id);

	while (result == 0 && (some = run_next(device, stored, &at)) > 0) {
		result = lost_add(verifying, stored, at, some);
		at += some;
	}
	return result;
}

static int run_verify(struct verifying *verifying, const struct stored *stored,
		      struct object *object, uint64_t sector, uint32_t count, uint32_t *done_out)
{
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	struct object_run run = { .nonce_tags = nonce_tags };
	uint8_t damaged[IO_SECTORS / 8] = { 0 };
	uint64_t lost = 0;
	int result = sz_object_find(object, sector, count, &run);

	*done_out = run.count;
	if (result != 0)
		return result;
	/* What a delta lists and has no entry for is lost, too. */
	if (run.state == SZ_SECTOR_POISON ||
	    (run.state == SZ_SECTOR_ABSENT && stored->band == NO_BAND)) {
		lost = run.count;
		result = lost_add(verifying, stored, sector, run.count);
	}
	if (run.state == SZ_SECTOR_DATA) {
		result = sz_sectors_read(sz_object_file(object), sz_object_keys(object)->sector,
					 run.place, sector, run.count, nonce_tags,
					 verifying->buffer, damaged);
		if (result != 0 && result != -EBADMSG)
			return result;
		result = 0;
		for (uint32_t i = 0; i < run.count && result == 0; i++) {
			if (!bit_is_set(damaged, i))
				continue;
			lost++;
			result = lost_add(verifying, stored, sector + i, 1);
		}
	}
	return lost == 0 || result != 0 ? result
					: hurt_note(verifying, stored->device, &stored->ref.id,
						    lost, "does not authenticate");
}

/* From at on, as far as a piece goes. *is_done_out: there is no more of it. */
static int piece_verify(struct verifying *verifying, const struct stored *stored, uint64_t *at,
			bool *is_done_out)
{
	struct sz_store *store = verifying->store;
	struct sz_device *device = &store->devices[stored->device];
	struct object *object;
	uint64_t some = 0;
	uint32_t sum = 0;
	int result;
	READER_SCOPE(&store->readers);

	*is_done_out = run_next(device, stored, at) == 0;
	if (*is_done_out)
		return 0;
	result = sz_object_get(store, device, &stored->ref, &object);
	if (result == -EBADMSG) {
		*is_done_out = true;
		return whole_lose(verifying, stored);
	}
	if (result != 0)
		return result;
	result = sz_object_check_end(object);
	if (result == -EBADMSG)
		result = hurt_note(verifying, stored->device, &stored->ref.id, 0,
				   "its end does not authenticate");
	while (result == 0 && sum < VERIFY_SECTORS && (some = run_next(device, stored, at)) > 0) {
		uint32_t done;

		result = run_verify(verifying, stored, object, *at,
				    some < IO_SECTORS ? (uint32_t)some : IO_SECTORS, &done);
		*at += done;
		sum += done;
	}
	*is_done_out = some == 0;
	sz_object_put(store, &object);
	return result;
}

static int stored_verify(struct verifying *verifying, const struct stored *stored)
{
	bool is_done = false;
	uint64_t at = 0;
	int result = 0;

	/* What memory knows of it may not be so on the disk any more. */
	sz_object_forget(verifying->store, &stored->ref.id);
	while (result == 0 && !is_done)
		result = piece_verify(verifying, stored, &at, &is_done);
	verifying->done_bytes += stored->bytes;
	return result == 0 ? 0 : unread_note(verifying, stored->device, &stored->ref.id, result);
}

void sz_verification_free(struct sz_verification *verification)
{
	if (verification == NULL)
		return;
	sz_id_set_free(&verification->hurt);
	sz_bytes_free(&verification->lost);
	free(verification);
}

uint64_t sz_verification_hurt(const struct sz_verification *verification)
{
	return verification->hurt.count;
}

uint64_t sz_verification_unread(const struct sz_verification *verification)
{
	return verification->unread;
}

int sz_store_verify(struct sz_store *store, sz_verify_fn *progress, void *context,
		    struct sz_verification **verification_out, struct sz_error *error)
{
	CLEANUP(verifying_fini) struct verifying verifying = { .store = store };
	const struct stored *list;
	int result;

	*verification_out = NULL;
	verifying.buffer = malloc(IO_SECTORS * (size_t)SZ_SECTOR_BYTES);
	verifying.found = calloc(1, sizeof(*verifying.found));
	result = verifying.buffer == NULL || verifying.found == NULL ? -ENOMEM
								     : index_verify_all(&verifying);
	list = (const struct stored *)(void *)verifying.list.data;
	for (size_t i = 0; i < verifying.list.length / sizeof(*list) && result == 0; i++) {
		if (progress != NULL &&
		    !progress(context, verifying.done_bytes, verifying.total_bytes))
			return -EINTR;
		result = stored_verify(&verifying, &list[i]);
	}
	if (result == 0)
		result = sz_lost_sort(&verifying.found->lost);
	if (result != 0)
		return sz_fail(error, result, "verifying: %s", strerror(-result));
	*verification_out = TAKE(verifying.found);
	return 0;
}
