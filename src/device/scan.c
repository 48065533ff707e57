/*
 * scan: reads the log of an earlier opening, record by record, and finds out up to where it can be
 * relied on.
 *
 * All entries of a log up to a commit record are there if the record is, unless the machine died
 * while that commit was being synced: then the record may have reached the disk before what it covers.
 * Only the last commit can be such a one, so the sectors between the last two are authenticated here.
 * In a copy, which may have been taken while files grew, all are.
 */
#include "device/replay.h"

#include <errno.h>

int sz_scan_next(struct live_log *log, struct mark *at, uint8_t payload[SZ_PAGE_PAYLOAD],
		 uint32_t *entries_out, uint64_t *frame_out)
{
	uint8_t page[SZ_PAGE_BYTES];
	uint32_t sectors;
	size_t done;
	int result =
		sz_read_retried(log->source->file, page, sizeof(page), at->page * SECTOR, &done);

	if (result != 0)
		return result;
	if (done < sizeof(page) || sz_record_open(log->source->keys->page, at->record, at->previous,
						  page, payload, at->previous) != 0)
		return -ENOENT;
	result = sz_record_head_decode(payload, entries_out, &sectors);
	if (result != 0)
		return result;
	*frame_out = at->page + 1;
	at->record++;
	at->page += 1 + (uint64_t)sectors;
	return 0;
}

struct source *sz_scan_band(const struct live_log *log, uint32_t band)
{
	for (uint32_t i = log->band_count; i > 0; i--)
		if (log->bands[i - 1]->band == band)
			return log->bands[i - 1];
	return NULL;
}

static int band_any(void *context, struct sz_file *file, uint64_t size_bytes)
{
	(void)context;
	(void)file;
	(void)size_bytes;
	return 0;
}

/* Where the band's file is: sealing has to rename it, if it is to stay. */
static void band_place(struct sz_store *store, const struct sz_device *device, struct source *band)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, &band->id);
	char name[SZ_OBJECT_NAME_BYTES];

	sz_name_encode(store->keys, &band->id, name);
	for (const struct location *at = locations; at != NULL; at = at->next) {
		if (at->folder != device->folder || strcmp(at->name, name) != 0)
			continue;
		band->folder = at->folder;
		/* Both names may be there, if the machine died while it was renamed. */
		band->is_named = band->is_named || at->part == SZ_SEALED;
		band->is_dirty = true;
	}
}

/* BAND_OPEN: the band's file may be missing; its sectors are not known then. */
static int band_open(struct sz_device *device, struct live_log *log,
		     const struct sz_log_entry *entry)
{
	struct sz_store *store = device->store;
	struct sz_header header = log->header;
	CLEANUP(sz_source_drop)
	struct source *band = sz_source_make(store, &entry->id, BAND_BROKEN);
	struct source **grown;
	const char *text;
	int result;

	if (band == NULL)
		return -ENOMEM;
	if (entry->sector > UINT32_MAX ||
	    sz_band_base(device, (uint32_t)entry->sector) >= device->sectors)
		return -EUCLEAN;
	band->band = (uint32_t)entry->sector;
	band->folder = NO_DEVICE;
	header.id = entry->id;
	header.kind = SZ_KIND_BAND;
	memcpy(header.salt, entry->salt, sizeof(header.salt));
	header.base_sector = sz_band_base(device, band->band);
	header.sector_count = sz_band_length(device, band->band);
	sz_object_keys_derive(store->keys, &header, band->keys);
	result = sz_object_open_any(store, &entry->id, band_any, NULL, &band->file, &text);
	if (result != 0 && result != -EBADMSG)
		return result;
	if (result == 0)
		band_place(store, device, band);
	grown = realloc(log->bands, (log->band_count + 1) * sizeof(struct source *));
	if (grown == NULL)
		return -ENOMEM;
	log->bands = grown;
	log->bands[log->band_count++] = TAKE(band);
	return 0;
}

static int commit_add(struct live_log *log, const struct mark *after,
		      const struct sz_log_entry *entry)
{
	struct mark *grown = realloc(log->commits, (log->commit_count + 1) * sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	log->commits = grown;
	grown += log->commit_count++;
	*grown = *after;
	grown->sequence = entry->sequence;
	grown->is_last = entry->is_last;
	return 0;
}

/* One record: its bands are opened, its commits noted. -EUCLEAN: it says what cannot be. */
static int record_note(struct sz_device *device, struct live_log *log, const struct mark *after,
		       const uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t entries)
{
	size_t offset = SZ_RECORD_HEAD_BYTES;
	int result = 0;

	for (uint32_t i = 0; i < entries && result == 0; i++) {
		struct sz_log_entry entry;
		struct source *band;

		result = sz_log_entry_decode(payload, &offset, &entry);
		if (result != 0)
			return result;
		if (entry.type == SZ_LOG_BAND_OPEN) {
			result = band_open(device, log, &entry);
			continue;
		}
		if (entry.type == SZ_LOG_COMMIT) {
			result = commit_add(log, after, &entry);
			continue;
		}
		if (entry.type == SZ_LOG_BAND_FINISHED) {
			band = sz_scan_band(log, (uint32_t)entry.sector);
			if (band == NULL)
				return -EUCLEAN;
			memcpy(band->digest, entry.digest, sizeof(band->digest));
			continue;
		}
		if (entry.count > device->sectors || entry.sector > device->sectors - entry.count)
			return -EUCLEAN;
		if (entry.sequence >= log->next_sequence)
			log->next_sequence = entry.sequence + 1;
		if (entry.type == SZ_LOG_BAND_SECTORS) {
			band = sz_scan_band(log, sz_band_of(device, entry.sector));
			if (band == NULL ||
			    sz_band_of(device, entry.sector + entry.count - 1) != band->band)
				return -EUCLEAN;
		}
	}
	return result;
}

/* Are the sectors of an entry there, and authentic? 1: yes, 0: no. */
static int entry_is_whole(struct sz_device *device, struct live_log *log, uint64_t frame,
			  const struct sz_log_entry *entry)
{
	CLEANUP_FREE uint8_t *buffer = malloc(entry->count * SECTOR);
	uint8_t damaged[SZ_RECORD_SECTORS_MAX / 8 + 1] = { 0 };
	const struct source *source = log->source;
	uint64_t page = frame + entry->place;
	int result;

	if (buffer == NULL)
		return -ENOMEM;
	if (entry->type == SZ_LOG_BAND_SECTORS) {
		source = sz_scan_band(log, sz_band_of(device, entry->sector));
		page = 1 + (uint64_t)entry->place;
	}
	if (source->file == NULL)
		return 0;
	result = sz_sectors_read(source->file, source->keys->sector, page, entry->sector,
				 (uint32_t)entry->count, entry->nonce_tags, buffer, damaged);
	sz_wipe(buffer, entry->count * SECTOR);
	return result == -EBADMSG ? 0 : result == 0 ? 1 : result;
}

static int record_is_whole(struct sz_device *device, struct live_log *log, uint64_t frame,
			   const uint8_t payload[SZ_PAGE_PAYLOAD], uint32_t entries)
{
	size_t offset = SZ_RECORD_HEAD_BYTES;
	int result = 1;

	for (uint32_t i = 0; i < entries && result == 1; i++) {
		struct sz_log_entry entry;

		if (sz_log_entry_decode(payload, &offset, &entry) != 0)
			return -EUCLEAN;
		if (entry.type == SZ_LOG_SECTORS || entry.type == SZ_LOG_BAND_SECTORS)
			result = entry_is_whole(device, log, frame, &entry);
	}
	return result;
}

/* Is all there between two marks? 1: yes, 0: no. */
static int span_is_whole(struct sz_device *device, struct live_log *log, struct mark from,
			 const struct mark *to)
{
	int result = 1;

	while (from.record < to->record && result == 1) {
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint32_t entries;
		uint64_t frame;
		int status = sz_scan_next(log, &from, payload, &entries, &frame);

		result = status != 0 ? status
				     : record_is_whole(device, log, frame, payload, entries);
	}
	return result == -ENOENT ? 0 : result;
}

int sz_scan(struct sz_device *device, struct live_log *log)
{
	struct mark at = log->first;
	int result = 0;

	while (result == 0) {
		uint8_t payload[SZ_PAGE_PAYLOAD];
		uint32_t entries;
		uint64_t frame;

		result = sz_scan_next(log, &at, payload, &entries, &frame);
		if (result == 0)
			result = record_note(device, log, &at, payload, entries);
	}
	return result == -ENOENT ? 0 : result;
}

int sz_scan_verify(struct sz_device *device, struct live_log *log, bool all)
{
	uint32_t from = all || log->commit_count == 0 ? 0 : log->commit_count - 1;
	int whole = 1;

	log->kept = from == 0 ? log->first : log->commits[from - 1];
	for (uint32_t i = from; i < log->commit_count; i++) {
		whole = span_is_whole(device, log, log->kept, &log->commits[i]);
		if (whole != 1)
			break;
		log->kept = log->commits[i];
	}
	return whole < 0 ? whole : 0;
}

void sz_live_log_free(struct live_log *log)
{
	for (uint32_t i = 0; i < log->band_count; i++)
		sz_source_drop(&log->bands[i]);
	free(log->bands);
	free(log->commits);
	sz_source_drop(&log->source);
	*log = (struct live_log){ 0 };
}
