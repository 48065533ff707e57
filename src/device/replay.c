/*
 * replay: the live files of an opening that ended without a seal become the epoch that is being sealed.
 * Recovery and sealing are one path from then on.
 *
 * Which logs count: those whose base is the newest root, or its parent (begun while the root's
 * generation was being sealed). At most two epochs of one opening.
 *
 * How far they count. In our own folder each device keeps what it acknowledged, as a disk does. In a copy
 * (a log's inode or machine is another), which may be torn, all devices are cut at the largest
 * sequence number that all of them cover: an exact point in time. So are they if more have lost their
 * logs than redundancy covers (a copy of hard links).
 */
#include "device/replay.h"

#include <errno.h>
#include <stdio.h>

#define EPOCHS 2U

struct replay {
	struct sz_store *store;
	uint8_t open_id[16];
	struct live_log *logs; /* [device * EPOCHS + epoch] */
	bool is_copy;
	bool has_log;        /* of any device */
	bool has_second;     /* of any device */
	bool is_cut;         /* all devices at one point in time */
	uint64_t cut;        /* entries below it are kept */
	uint64_t kept;       /* entries that were */
	uint32_t incomplete; /* devices without a log */
};

static struct live_log *log_of(const struct replay *replay, uint32_t device, uint32_t epoch)
{
	return &replay->logs[device * EPOCHS + epoch];
}

static void replay_fini(struct replay *replay)
{
	for (uint32_t i = 0; replay->logs != NULL && i < replay->store->device_count * EPOCHS; i++)
		sz_live_log_free(&replay->logs[i]);
	free(replay->logs);
}

struct log_wish {
	struct sz_store *store;
	const struct sz_id *id;
	struct live_log *log;
};

static int log_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	const struct log_wish *wish = context;
	struct live_log *log = wish->log;
	uint8_t page[SZ_PAGE_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	log->size_bytes = size_bytes;
	if (result != 0)
		return result;
	if (done < sizeof(page))
		return -EBADMSG;
	result = sz_header_decode(wish->store->keys, page, &log->header);
	if (result == 0)
		result = sz_log_head_decode(log->header.body, &log->head);
	if (result == 0 && memcmp(&log->header.id, wish->id, sizeof(*wish->id)) != 0)
		result = -EBADMSG;
	if (result != 0)
		return result;
	log->first = (struct mark){ .page = 1, .sequence = log->head.first_sequence };
	memcpy(log->first.previous, page + SZ_PAGE_BYTES - SZ_X_TAG_BYTES, SZ_X_TAG_BYTES);
	return sz_file_stat(file, &size_bytes, &log->inode);
}

/* The epoch of ours that a log is of: 0 or 1; -1: it is none of ours. */
static int epoch_of(const struct sz_store *store, const struct sz_log_head *head)
{
	uint64_t generation = store->root.generation;
	bool on_root = memcmp(head->base, store->root_digest, sizeof(head->base)) == 0;
	bool on_parent = memcmp(head->base, store->root.parent, sizeof(head->base)) == 0;

	if (head->epoch == generation + 1 && (on_root || on_parent))
		return 0;
	return head->epoch == generation + 2 && on_root ? 1 : -1;
}

static int log_load(struct sz_store *store, const struct sz_id *id, struct live_log *log)
{
	struct log_wish wish = { store, id, log };
	const char *text;
	int result;

	log->source = sz_source_make(store, id, SOURCE_LOG);
	if (log->source == NULL)
		return -ENOMEM;
	result = sz_object_open_any(store, id, log_check, &wish, &log->source->file, &text);
	if (result != 0)
		return result;
	sz_object_keys_derive(store->keys, &log->header, log->source->keys);
	sz_log_key_derive(store->keys, id, log->source->keys->page);
	return 0;
}

int sz_replay_base(struct sz_store *store, uint64_t generation, uint8_t digest_out[SZ_DIGEST_BYTES])
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	size_t count = 0;
	int result = sz_catalog_ids(store, SZ_KIND_LOG, &ids, &count);

	memset(digest_out, 0, SZ_DIGEST_BYTES);
	for (size_t i = 0; i < count && result == 0; i++) {
		CLEANUP(sz_live_log_free) struct live_log log = { 0 };

		result = log_load(store, &ids[i], &log);
		if (result == 0 && log.head.base_generation == generation) {
			memcpy(digest_out, log.head.base, SZ_DIGEST_BYTES);
			return 0;
		}
		if (result == -EBADMSG)
			result = 0;
	}
	return result;
}

/*
 * Takes a log up if it is of the opening that is looked for. The first one with a record says which that
 * is: what was only prepared, by this opening or by one before, says nothing.
 */
static int log_consider(struct replay *replay, const struct sz_id *id, bool has_records)
{
	struct sz_store *store = replay->store;
	CLEANUP(sz_live_log_free) struct live_log log = { 0 };
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;
	int epoch;
	int result = sz_id_parse(id, &kind, &device, &generation);

	if (result != 0 || device >= store->device_count ||
	    store->devices[device].folder == NO_DEVICE || generation <= store->root.generation)
		return 0;
	result = log_load(store, id, &log);
	if (result == -EBADMSG) {
		/* One that was cut while it was made has no more than a header page. */
		if (log.size_bytes > SZ_PAGE_BYTES)
			sz_damage_note(store, device, id, 0, "does not authenticate");
		return 0;
	}
	if (result != 0)
		return result;
	epoch = epoch_of(store, &log.head);
	if (epoch < 0 || memcmp(log.header.device_id, store->devices[device].id, 16) != 0)
		return 0;
	if ((log.size_bytes > SZ_PAGE_BYTES) != has_records)
		return 0;
	if (!replay->has_log)
		memcpy(replay->open_id, log.head.open_id, sizeof(replay->open_id));
	else if (memcmp(replay->open_id, log.head.open_id, sizeof(replay->open_id)) != 0)
		return 0;
	/* One that could not be removed when the epoch began anew is empty. */
	if (log_of(replay, device, (uint32_t)epoch)->size_bytes > log.size_bytes)
		return 0;
	replay->has_log = true;
	replay->has_second = replay->has_second || (epoch == 1 && has_records);
	replay->is_copy = replay->is_copy || log.inode != log.head.inode ||
			  memcmp(log.head.machine, store->machine, sizeof(store->machine)) != 0;
	sz_live_log_free(log_of(replay, device, (uint32_t)epoch));
	*log_of(replay, device, (uint32_t)epoch) = log;
	log = (struct live_log){ 0 };
	return 0;
}

static int logs_find(struct replay *replay)
{
	CLEANUP_FREE struct sz_id *ids = NULL;
	size_t count = 0;
	int result = sz_catalog_ids(replay->store, SZ_KIND_LOG, &ids, &count);

	for (size_t i = 0; i < count && result == 0; i++)
		result = log_consider(replay, &ids[i], true);
	for (size_t i = 0; i < count && result == 0 && replay->has_log; i++)
		result = log_consider(replay, &ids[i], false);
	return result;
}

static int logs_scan(struct replay *replay)
{
	int result = 0;

	for (uint32_t i = 0; i < replay->store->device_count; i++) {
		struct sz_device *device = &replay->store->devices[i];

		for (uint32_t epoch = 0; epoch < EPOCHS && result == 0; epoch++) {
			struct live_log *log = log_of(replay, i, epoch);

			if (log->source == NULL)
				continue;
			result = sz_scan(device, log);
			if (result == 0)
				result = sz_scan_verify(device, log, replay->is_copy);
		}
		if (device->folder != NO_DEVICE && log_of(replay, i, 0)->source == NULL &&
		    log_of(replay, i, 1)->source == NULL)
			replay->incomplete++;
	}
	return result;
}

/*
 * Is the first epoch of a device wholly there, so that the second may follow it? Every device had a log of
 * it: in our own folder one that is not there is lost, in a copy the copier came too late for it.
 */
static bool first_is_complete(const struct replay *replay, uint32_t device)
{
	const struct live_log *first = log_of(replay, device, 0);

	return first->source == NULL ? !replay->is_cut : first->kept.is_last;
}

/* All entries of the device below it are there. */
static uint64_t coverage(const struct replay *replay, uint32_t device)
{
	const struct live_log *first = log_of(replay, device, 0);
	const struct live_log *second = log_of(replay, device, 1);
	uint64_t sequence = first->source == NULL ? 0 : first->kept.sequence;

	/* A second log without a commit has nothing below its epoch's beginning. */
	if (second->source != NULL && first_is_complete(replay, device) &&
	    second->kept.sequence > sequence)
		sequence = second->kept.sequence;
	return sequence;
}

/* Devices that have lost their log of an epoch: one that was written to had logs on all. */
static uint32_t lost_logs(const struct replay *replay, uint32_t epoch)
{
	bool has_entries = false;
	uint32_t count = 0;

	for (uint32_t i = 0; i < replay->store->device_count; i++) {
		const struct live_log *log = log_of(replay, i, epoch);

		has_entries = has_entries || log->next_sequence > 0;
		count += replay->store->devices[i].folder != NO_DEVICE && log->source == NULL;
	}
	return has_entries ? count : 0;
}

static void cut_find(struct replay *replay)
{
	uint32_t parity = replay->store->parity;

	replay->cut = UINT64_MAX;
	replay->is_cut =
		replay->is_copy || lost_logs(replay, 0) > parity || lost_logs(replay, 1) > parity;
	if (!replay->is_cut)
		return;
	for (uint32_t i = 0; i < replay->store->device_count; i++)
		if (replay->store->devices[i].folder != NO_DEVICE &&
		    coverage(replay, i) < replay->cut)
			replay->cut = coverage(replay, i);
}

static int hot_apply(struct sz_device *device, const struct live_log *log, uint64_t frame,
		     const struct sz_log_entry *entry)
{
	CLEANUP_FREE uint8_t *buffer = NULL;
	uint8_t damaged[SZ_RECORD_SECTORS_MAX / 8 + 1] = { 0 };
	struct hot *hot = sz_hot_layer(device->sealing);
	uint32_t first = sz_hot_index(device, entry->sector);
	int result;

	if (hot == NULL)
		return -ENOMEM;
	if (entry->type == SZ_LOG_TRIM) {
		sz_hot_trim(hot, first, (uint32_t)entry->count);
		return 0;
	}
	buffer = malloc(entry->count * SECTOR);
	if (buffer == NULL)
		return -ENOMEM;
	result = sz_sectors_read(log->source->file, log->source->keys->sector, frame + entry->place,
				 entry->sector, (uint32_t)entry->count, entry->nonce_tags, buffer,
				 damaged);
	if (result != 0 && result != -EBADMSG)
		return result;
	for (uint32_t i = 0; i < entry->count; i++) {
		if (bit_is_set(damaged, i))
			sz_hot_poison(hot, first + i);
		else
			sz_hot_write(hot, first + i, 1, buffer + i * SECTOR);
	}
	return 0;
}

static int entry_apply(struct sz_device *device, struct live_log *log, uint64_t frame,
		       const struct sz_log_entry *entry)
{
	struct epoch *epoch = device->sealing;
	struct sz_extent extent = {
		.sector = entry->sector,
		.count = entry->count,
		.state = SZ_OVERLAY_DATA,
		.source = log->source->number,
		.place = frame + entry->place,
	};
	uint8_t nonce_tags[SZ_RECORD_SECTORS_MAX * SZ_NONCE_TAG_BYTES];

	if (sz_sector_is_hot(device, entry->sector))
		return hot_apply(device, log, frame, entry);
	if (entry->type == SZ_LOG_TRIM) {
		extent.state = SZ_OVERLAY_TOMBSTONE;
		return sz_overlay_insert(&epoch->overlay, &extent);
	}
	if (entry->type == SZ_LOG_BAND_SECTORS) {
		struct source *band = sz_scan_band(log, sz_band_of(device, entry->sector));

		band->is_kept = true;
		extent.source = band->number;
		extent.place = 1 + (uint64_t)entry->place;
	}
	memcpy(nonce_tags, entry->nonce_tags, entry->count * SZ_NONCE_TAG_BYTES);
	extent.nonce_tags = nonce_tags;
	return sz_overlay_insert(&epoch->overlay, &extent);
}

static int record_apply(struct replay *replay, struct sz_device *device, struct live_log *log,
			uint64_t frame, const uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t entries)
{
	size_t offset = SZ_RECORD_HEAD_BYTES;
	int result = 0;

	for (uint32_t i = 0; i < entries && result == 0; i++) {
		struct sz_log_entry entry;

		result = sz_log_entry_decode(payload, &offset, &entry);
		if (result != 0)
			return result;
		if (entry.type == SZ_LOG_BAND_FINISHED) {
			struct source *band = sz_scan_band(log, (uint32_t)entry.sector);

			band->state = BAND_FINISHED;
			band->is_kept = true;
		}
		if ((entry.type != SZ_LOG_SECTORS && entry.type != SZ_LOG_BAND_SECTORS &&
		     entry.type != SZ_LOG_TRIM) ||
		    entry.sequence >= replay->cut)
			continue;
		result = entry_apply(device, log, frame, &entry);
		replay->kept++;
	}
	return result;
}

static int log_apply(struct replay *replay, struct sz_device *device, struct live_log *log)
{
	struct mark at = log->first;
	int result = sz_epoch_add_source(device->sealing, sz_source_hold(log->source));

	for (uint32_t i = 0; i < log->band_count && result == 0; i++)
		result = sz_epoch_add_source(device->sealing, sz_source_hold(log->bands[i]));
	while (at.record < log->kept.record && result == 0) {
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint32_t entries;
		uint64_t frame;

		result = sz_scan_next(log, &at, payload, &entries, &frame);
		if (result == 0)
			result = record_apply(replay, device, log, frame, payload, entries);
	}
	return result;
}

/* A band that was finished, and is as it was then, is an object already. */
static int bands_adopt(const struct replay *replay, struct sz_device *device, struct live_log *log)
{
	for (uint32_t i = 0; i < log->band_count; i++) {
		struct source *band = log->bands[i];
		struct row row = { .epoch = device->sealing->number };
		struct row *unused;
		int result;

		if (band->state != BAND_FINISHED)
			continue;
		band->state = BAND_BROKEN; /* copied by the seal, unless all holds */
		/* Of entries that are cut away, some may have been older than the band's end. */
		if (band->file == NULL || band->folder == NO_DEVICE ||
		    log->kept.sequence > replay->cut || sz_shard_is_lost(device, band->band))
			continue;
		row.ref.id = band->id;
		memcpy(row.ref.digest, band->digest, sizeof(row.ref.digest));
		result = sz_band_verify(device, band->file, &row);
		if (result == -EBADMSG)
			continue;
		if (result == 0)
			result = sz_row_make(device, band->band, &unused);
		if (result != 0)
			return result;
		sz_band_to_row(device, device->sealing, band, &row);
	}
	return 0;
}

/*
 * Bands in which nothing counts go before the seal, which may need their space. That must not change what counts if
 * there is one more recovery: in our own folder a commit that did not count does not count then either; where all are
 * cut at one point, it might.
 */
static void bands_remove(const struct replay *replay, const struct live_log *log)
{
	if (replay->is_cut || !writes_folders(replay->store))
		return;
	for (uint32_t i = 0; i < log->band_count; i++) {
		struct source *band = log->bands[i];

		if (band->is_kept)
			continue;
		sz_part_remove(replay->store, &band->id, SZ_LIVE);
		sz_file_close(TAKE(band->file)); /* until then it takes its space */
	}
}

static int device_apply(struct replay *replay, struct sz_device *device)
{
	int result = 0;

	for (uint32_t epoch = 0; epoch < EPOCHS && result == 0; epoch++) {
		struct live_log *log = log_of(replay, device->index, epoch);

		if (log->source == NULL)
			continue;
		if (epoch == 1 && !first_is_complete(replay, device->index))
			log->kept = log->first;
		result = log_apply(replay, device, log);
		if (result == 0)
			result = bands_adopt(replay, device, log);
		if (result == 0)
			bands_remove(replay, log);
	}
	return result;
}

/* All devices get an epoch to be sealed, those without a log an empty one. */
static int epochs_make(struct replay *replay)
{
	struct sz_store *store = replay->store;
	uint64_t number = store->root.generation + (replay->has_second ? 2 : 1);
	uint64_t sequence = atomic_load(&store->sequence);

	for (uint32_t i = 0; i < store->device_count; i++) {
		for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
			const struct live_log *log = log_of(replay, i, epoch);

			if (log->next_sequence > sequence)
				sequence = log->next_sequence;
			if (log->kept.sequence > sequence)
				sequence = log->kept.sequence;
		}
	}
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];

		device->sealing = sz_epoch_make(number);
		if (device->sealing == NULL)
			return -ENOMEM;
		device->sealing->end = sequence;
		device->live->number = number + 1;
	}
	atomic_store(&store->sequence, sequence);
	store->is_sealing = true;
	store->sealing_number = number;
	store->epoch = number + 1;
	return 0;
}

static void replay_describe(const struct replay *replay)
{
	struct sz_store *store = replay->store;
	char incomplete[80] = "";

	if (replay->incomplete > 0)
		(void)snprintf(incomplete, sizeof(incomplete), ", %u device%s without a log",
			       replay->incomplete, replay->incomplete == 1 ? "" : "s");
	store->recovered = true;
	(void)snprintf(store->recovery_text, sizeof(store->recovery_text),
		       "%llu writes that came after generation %llu, %s%s",
		       (unsigned long long)replay->kept, (unsigned long long)store->root.generation,
		       replay->is_copy  ? "in a copy: up to a point that all devices have"
		       : replay->is_cut ? "up to a point that all devices have"
					: "all that was acknowledged",
		       incomplete);
}

/*
 * What an opening left that was ours, and has ended, may be removed (foreign.c). Not if a folder is away: it may
 * have a root that refers to it. Before it is sealed, only if no log is lost, which might come back.
 */
static void opening_remember(const struct replay *replay)
{
	struct collector *collector = &replay->store->collector;

	for (uint32_t i = 0; i < replay->store->device_count; i++)
		if (replay->is_copy || replay->store->devices[i].folder == NO_DEVICE)
			return;
	for (uint32_t i = 0; i < replay->store->device_count * EPOCHS; i++) {
		if (replay->logs[i].source == NULL)
			continue;
		memcpy(collector->recovered, replay->logs[i].header.lineage,
		       sizeof(collector->recovered));
		collector->has_recovered = true;
		collector->has_all_logs = lost_logs(replay, 0) == 0 && lost_logs(replay, 1) == 0;
	}
}

int sz_replay(struct sz_store *store, bool *found_out, struct sz_error *error)
{
	CLEANUP(replay_fini) struct replay replay = { .store = store };
	int result;

	*found_out = false;
	replay.logs = calloc((size_t)store->device_count * EPOCHS, sizeof(*replay.logs));
	if (replay.logs == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	result = logs_find(&replay);
	if (result == 0 && !replay.has_log)
		return 0;
	if (result == 0)
		result = logs_scan(&replay);
	if (result == 0) {
		cut_find(&replay);
		result = epochs_make(&replay);
	}
	for (uint32_t i = 0; i < store->device_count && result == 0; i++)
		if (store->devices[i].folder != NO_DEVICE)
			result = device_apply(&replay, &store->devices[i]);
	if (result != 0)
		return sz_fail(error, result, "reading the live files: %s", strerror(-result));
	replay_describe(&replay);
	opening_remember(&replay);
	*found_out = true;
	return 0;
}
