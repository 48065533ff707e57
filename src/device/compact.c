/*
 * compact: keeps the number of deltas and the dead space bounded. Part of a seal: what it writes is
 * first referred to by that seal's root, and what it replaces goes when no kept generation refers to it.
 *
 * Minor: twelve of the newest deltas that are about as large become one. So sizes grow by a factor
 * from level to level, a device has few dozens, and a sector is written once a level.
 *
 * Major, when too much is dead: bands of which two fifths are superseded are written anew, with what superseded
 * them (their folded_to says so), in steps: one a seal, of no more than a sixteenth of what the device stores, or
 * of four times what the seal itself writes: so steps keep pace. What a step has done the next root refers to, and the bands say it, so nothing else has to be remembered: a
 * crash costs the step that was under way. Once no more than a step is left to fold, that is done, and all
 * deltas become one. A band of which little is left is given up then: its sectors go to the delta.
 *
 * 1. Inputs are sealed; the overlays stand above whatever comes of them.
 * 2. What does not authenticate stays POISON in what is written. A band that is missing is not folded.
 * 3. A merged delta has the generation of its newest input: it stands where they stood. Of a band that has
 *    folded an input, nothing of that input is taken, or counted as live.
 * 4. One that nobody asked for takes no more than half of what its disk has free beyond the reserve: the seal, and
 *    other devices on that disk, may need the rest. A seal that recovers, or is taken up again, compacts only when
 *    there are DELTAS_MAX deltas.
 * 5. All steps fold the same deltas, and these are merged at the end alone: else what is newest of them, folded
 *    and dropped, would leave something older where a shard, and with it its folded_to, is lost.
 * 6. To free a short disk (COMPACT_FREE) more bands are folded: those that take least first, as many as some of the
 *    reserve has room for, and with all deltas, also those that came since steps began (which are then merged at the end
 *    as well). Once there are none, deltas become one if that halves them. Each is a step: the caller lets what it replaced
 *    go before the next (space.c). Nothing is folded twice, so that ends.
 */
#include "device/device_internal.h"

#include <errno.h>

/* A band's object, as it is sealed; false: there is none. */
static bool row_find(struct sz_device *device, uint32_t band, struct row *row_out)
{
	uint64_t sealed =
		device->sealing != NULL ? device->sealing->number : device->store->root.generation;
	const struct row *row;
	READ_SCOPE(&device->map_lock);

	row = sz_row_find(device, band);
	if (row == NULL || row->epoch > sealed)
		return false;
	*row_out = *row;
	return true;
}

/* What a delta says that no band has folded. Long, so without map_lock: only seals change deltas. */
static int delta_runs(struct sz_device *device, const struct sz_manifest_delta *delta,
		      struct sz_runs *runs)
{
	int result = 0;

	for (uint32_t i = 0; i < delta->run_count; i++) {
		uint64_t at = delta->runs[i].sector;
		uint64_t end = at + delta->runs[i].count;

		while (at < end && result == 0) {
			uint32_t band = sz_band_of(device, at);
			uint64_t next = sz_band_base(device, band) + sz_band_length(device, band);
			struct row row;

			if (next > end)
				next = end;
			if (!row_find(device, band, &row) || row.folded_to < delta->generation)
				result = sz_runs_add(runs, at, next - at);
			at = next;
		}
	}
	return result;
}

static int delta_join(struct sz_device *device, const struct sz_manifest_delta *delta,
		      struct sz_runs *runs)
{
	CLEANUP(sz_runs_free) struct sz_runs more = { 0 };
	int result = delta_runs(device, delta, &more);

	return result != 0 ? result : sz_runs_join(runs, &more);
}

/* All that some deltas say. */
static int runs_union(struct sz_device *device, uint32_t first, uint32_t behind,
		      struct sz_runs *runs)
{
	int result = 0;

	for (uint32_t i = first; i < behind && result == 0; i++)
		result = delta_join(device, device->deltas[i], runs);
	return result;
}

struct compaction {
	struct sz_device *device;
	struct batch *batch;
	struct device_seal *seal;
	bool is_major;
	bool all;
	bool is_freeing;
	uint32_t first;      /* inputs are the deltas from first … */
	uint32_t end;        /* … to before end */
	uint64_t room_bytes; /* that the bands that are folded, and a merge, may take each */
	uint32_t skipped;    /* bands that could not be read now */
	uint64_t left;       /* sectors of bands that may still be folded in this seal */
	struct builder builder;
};

/*
 * All that the deltas say, what data they store, and of how much of it somebody may still read. A delta's runs do not tell its data
 * from its tombstones: what no newer delta covers is taken to have as much of both as all of it.
 */
static int deltas_count(struct sz_device *device, struct sz_runs *runs, uint64_t *stored_out,
			uint64_t *live_out)
{
	int result = 0;

	*stored_out = 0;
	*live_out = 0;
	for (uint32_t i = 0; i < device->delta_count && result == 0; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		uint64_t before = sz_runs_size(runs);
		uint64_t slots = delta->stored_bytes / SZ_SECTOR_BYTES;
		uint64_t data = slots < delta->sector_count ? slots : delta->sector_count;

		result = delta_join(device, delta, runs);
		*stored_out += data;
		if (delta->sector_count > 0)
			*live_out += (sz_runs_size(runs) - before) * data / delta->sector_count;
	}
	return result;
}

static uint32_t level_of(const struct sz_manifest_delta *delta)
{
	uint64_t limit = LEVEL_SECTORS;
	uint32_t level = 0;

	while (level < LEVELS - 1 && delta->stored_bytes / SZ_SECTOR_BYTES >= limit) {
		limit *= LEVEL_FACTOR;
		level++;
	}
	return level;
}

/*
 * How many of the newest deltas, of most, are to be merged; 0: none. Those that are no larger than a level are
 * merged when FAN_IN of them are behind all that a lower level takes: so a large one is not
 * written anew for the sake of small ones, and no level keeps more than FAN_IN - 1.
 */
static uint32_t minor_count(const struct sz_device *device, uint32_t most)
{
	uint32_t below = 0;
	uint32_t best = 0;

	for (uint32_t level = 0; level < LEVELS; level++) {
		uint32_t count = below;

		while (count < most && level_of(device->deltas[count]) <= level)
			count++;
		if (count - below >= FAN_IN)
			best = count;
		below = count;
	}
	return best;
}

/* Deltas among the inputs, or the band, that say what a sector is; as sz_map_find does. */
static void input_find(const struct compaction *compaction, bool with_band, uint64_t sector,
		       uint32_t count, struct piece *piece)
{
	struct sz_device *device = compaction->device;
	uint32_t band = sz_band_of(device, sector);
	uint64_t band_end = sz_band_base(device, band) + sz_band_length(device, band);
	const struct row *row;
	READ_SCOPE(&device->map_lock);

	if (count > band_end - sector)
		count = (uint32_t)(band_end - sector);
	*piece = (struct piece){ .sector = sector, .kind = PIECE_ZEROS };
	row = sz_row_find(device, band);
	if (!sz_deltas_find(device, compaction->first, compaction->end,
			    row == NULL ? 0 : row->folded_to, sector, &count, piece) &&
	    with_band && row != NULL) {
		piece->kind = PIECE_BAND;
		piece->ref = row->ref;
	}
	piece->count = count;
}

static int data_copy(struct builder *builder, struct object *object, const struct object_run *run)
{
	uint8_t damaged[IO_SECTORS / 8] = { 0 };
	int result = sz_sectors_read(sz_object_file(object), sz_object_keys(object)->sector,
				     run->place, run->sector, run->count, run->nonce_tags,
				     builder->plaintext, damaged);

	if (result != 0 && result != -EBADMSG)
		return result;
	return sz_builder_add_partly(builder, run->sector, run->count, builder->plaintext, damaged);
}

/* Is there anything that a tombstone of a minor merge would still hide? */
static bool has_below(const struct compaction *compaction, uint64_t sector, uint32_t count)
{
	struct sz_device *device = compaction->device;
	READ_SCOPE(&device->map_lock);

	if (sz_row_find(device, sz_band_of(device, sector)) != NULL ||
	    sz_shard_is_lost(device, sz_band_of(device, sector)))
		return true;
	for (uint32_t i = compaction->end; i < device->delta_count; i++) {
		const struct sz_manifest_delta *delta = device->deltas[i];
		const struct sz_run *run = sz_runs_find(delta->runs, delta->run_count, sector);

		if (run != NULL && run->sector < sector + count)
			return true;
	}
	return false;
}

/* A piece of an object to a builder; tombstones only where they hide something. */
static int object_copy(const struct compaction *compaction, struct builder *builder,
		       const struct piece *piece, bool keep_tombstones)
{
	struct sz_device *device = compaction->device;
	uint8_t nonce_tags[IO_SECTORS * SZ_NONCE_TAG_BYTES];
	struct object *object;
	uint32_t done = 0;
	int result = sz_object_get(device->store, device, &piece->ref, &object);

	if (result == -EBADMSG)
		return sz_builder_add_run(builder, piece->sector, piece->count, SZ_SECTOR_POISON);
	while (done < piece->count && result == 0) {
		struct object_run run = { .nonce_tags = nonce_tags };
		uint32_t most = piece->count - done < IO_SECTORS ? piece->count - done : IO_SECTORS;

		result = sz_object_find(object, piece->sector + done, most, &run);
		if (result != 0)
			break;
		if (run.state == SZ_SECTOR_ABSENT && piece->kind == PIECE_DELTA)
			run.state = SZ_SECTOR_POISON;
		if (run.state == SZ_SECTOR_DATA)
			result = data_copy(builder, object, &run);
		else if (run.state == SZ_SECTOR_POISON)
			result = sz_builder_add_run(builder, run.sector, run.count,
						    SZ_SECTOR_POISON);
		else if (run.state == SZ_SECTOR_TOMBSTONE && keep_tombstones &&
			 has_below(compaction, run.sector, run.count))
			result = sz_builder_add_run(builder, run.sector, run.count,
						    SZ_SECTOR_TOMBSTONE);
		done += run.count;
	}
	sz_object_put(device->store, &object);
	return result;
}

/* Sectors from .. to, of the inputs (and the band), to a builder. */
static int range_copy(const struct compaction *compaction, struct builder *builder, bool with_band,
		      uint64_t from, uint64_t to)
{
	int result = 0;

	while (from < to && result == 0) {
		uint32_t most = to - from < UINT32_MAX ? (uint32_t)(to - from) : UINT32_MAX;
		struct piece piece;

		input_find(compaction, with_band, from, most, &piece);
		if (piece.kind == PIECE_DELTA || piece.kind == PIECE_BAND)
			result = object_copy(compaction, builder, &piece, !with_band);
		from += piece.count;
	}
	return result;
}

/* How many sectors from .. to, of the inputs (and the band), are not zeros: no data is read for it. */
static int live_count(const struct compaction *compaction, bool with_band, uint64_t from,
		      uint64_t to, uint64_t *live_out)
{
	struct sz_device *device = compaction->device;
	uint8_t nonce_tags[SZ_LEAF_ENTRIES * SZ_NONCE_TAG_BYTES];
	int result = 0;

	*live_out = 0;
	while (from < to && result == 0) {
		uint32_t most = to - from < UINT32_MAX ? (uint32_t)(to - from) : UINT32_MAX;
		struct piece piece;
		struct object *object;
		uint32_t done = 0;

		input_find(compaction, with_band, from, most, &piece);
		from += piece.count;
		if (piece.kind != PIECE_DELTA && piece.kind != PIECE_BAND)
			continue;
		result = sz_object_get(device->store, device, &piece.ref, &object);
		if (result == -EBADMSG && piece.kind == PIECE_BAND)
			return result; /* a missing band is never folded */
		if (result == -EBADMSG) {
			*live_out += piece.count;
			result = 0;
			continue;
		}
		while (done < piece.count && result == 0) {
			struct object_run run = { .nonce_tags = nonce_tags };
			uint32_t some = piece.count - done < SZ_LEAF_ENTRIES ? piece.count - done
									     : SZ_LEAF_ENTRIES;

			result = sz_object_find(object, piece.sector + done, some, &run);
			if (run.state == SZ_SECTOR_DATA || run.state == SZ_SECTOR_POISON)
				*live_out += run.count;
			done += run.count;
		}
		sz_object_put(device->store, &object);
	}
	return result;
}

static int band_live_count(const struct compaction *compaction, uint32_t band, uint64_t *live_out)
{
	const struct sz_device *device = compaction->device;
	uint64_t base = sz_band_base(device, band);

	return live_count(compaction, true, base, base + sz_band_length(device, band), live_out);
}

static int row_add(struct device_seal *seal, const struct new_row *row)
{
	struct new_row *grown = realloc(seal->rows, (seal->row_count + 1) * sizeof(struct new_row));

	if (grown == NULL)
		return -ENOMEM;
	seal->rows = grown;
	seal->rows[seal->row_count++] = *row;
	return 0;
}

/* A band that cannot be read now holds up nothing, but for somebody who waits for it. */
static bool is_skipped(struct compaction *compaction, int result)
{
	return result == -EIO && !compaction->all && compaction->skipped++ < SKIPPED_MAX;
}

/*
 * Writes a band anew, or gives it up; a step of a merge to come leaves that to the merge, unless it is to free space.
 * -EBADMSG: it cannot be read, or not now, and stays as it is.
 */
static int band_fold(struct compaction *compaction, uint32_t band)
{
	struct sz_device *device = compaction->device;
	CLEANUP(sz_builder_fini) struct builder builder = { 0 };
	struct new_row row = { .band = band, .row = { .epoch = device->sealing->number } };
	uint64_t base = sz_band_base(device, band);
	uint32_t length = sz_band_length(device, band);
	uint64_t live;
	int result = band_live_count(compaction, band, &live);

	if (result != 0)
		return is_skipped(compaction, result) ? -EBADMSG : result;
	if (live == 0 && compaction->is_freeing)
		return row_add(compaction->seal, &row);
	if (live * LIVE_SHARE < length && !compaction->is_freeing) {
		if (compaction->builder.batch == NULL)
			return 0;
		result = range_copy(compaction, &compaction->builder, true, base, base + length);
		return result != 0 ? result : row_add(compaction->seal, &row);
	}
	result = sz_builder_init(&builder, compaction->batch, device, SZ_KIND_BAND,
				 device->sealing->number, band);
	builder.header.folded_to = device->deltas[compaction->first]->generation;
	if (result == 0)
		result = range_copy(compaction, &builder, true, base, base + length);
	if (builder.file != NULL && is_skipped(compaction, result)) {
		sz_batch_drop(compaction->batch, builder.file);
		return -EBADMSG;
	}
	if (result == 0)
		result = sz_builder_end(&builder, &row.row.ref);
	row.row.folded_to = builder.header.folded_to;
	row.row.live_sectors = (uint32_t)builder.entries.count;
	row.row.data_slots = builder.header.data_slots;
	compaction->left -= compaction->left < length ? compaction->left : length;
	return result != 0 ? result : row_add(compaction->seal, &row);
}

/*
 * Is so much of a band superseded that it is worth writing anew? Two fifths, so that no more than that
 * is dead when all bands are just below it.
 */
static bool is_worth_folding(const struct compaction *compaction, const struct sz_runs *runs,
			     uint32_t band)
{
	struct sz_device *device = compaction->device;
	struct row row;
	uint64_t hidden;

	/* One of the epoch that is being sealed is no input: its file is only now on its way out of live/. */
	if (!row_find(device, band, &row) || row.epoch == device->sealing->number)
		return false;
	hidden = sz_runs_covered(runs, sz_band_base(device, band), sz_band_length(device, band));
	return compaction->all ? LIVE_SHARE * hidden >= row.live_sectors
			       : 5 * hidden >= 2 * (uint64_t)row.live_sectors;
}

/* One run, in the order of sectors; bands that are folded are done whole when they are met first. */
static int run_compact(struct compaction *compaction, const struct sz_runs *runs,
		       const struct sz_run *run, uint64_t *done)
{
	struct sz_device *device = compaction->device;
	uint64_t at = run->sector > *done ? run->sector : *done;
	uint64_t end = run->sector + run->count;
	int result = 0;

	while (at < end && result == 0) {
		uint32_t band = sz_band_of(device, at);
		uint64_t base = sz_band_base(device, band);
		uint64_t next = base + sz_band_length(device, band);

		if (compaction->is_major && compaction->left > 0 &&
		    is_worth_folding(compaction, runs, band)) {
			result = band_fold(compaction, band);
			if (result == 0)
				*done = next;
			if (result != -EBADMSG) {
				at = next;
				continue;
			}
		}
		result = range_copy(compaction, &compaction->builder, false, at,
				    next < end ? next : end);
		at = next;
	}
	return result;
}

static int compact_run(struct compaction *compaction, const struct sz_runs *runs)
{
	struct sz_device *device = compaction->device;
	struct device_seal *seal = compaction->seal;
	CLEANUP(sz_delta_free) struct sz_manifest_delta *merged = calloc(1, sizeof(*merged));
	uint64_t done = 0;
	int result = merged == NULL
			     ? -ENOMEM
			     : sz_builder_init(&compaction->builder, compaction->batch, device,
					       SZ_KIND_DELTA, device->sealing->number, 0);

	for (size_t i = 0; i < runs->count && result == 0; i++)
		result = run_compact(compaction, runs, &runs->at[i], &done);
	if (result != 0)
		return result;
	seal->merged_count = compaction->end;
	if (compaction->builder.entries.count == 0) {
		sz_batch_drop(compaction->batch, compaction->builder.file);
		return 0;
	}
	result = sz_builder_end_delta(&compaction->builder, device->deltas[0]->generation, merged);
	if (result == 0)
		seal->merged = TAKE(merged);
	return result;
}

/* Sectors of the bands that are worth folding. */
static uint64_t fold_size(const struct compaction *compaction, const struct sz_runs *runs)
{
	const struct sz_device *device = compaction->device;
	uint64_t size = 0;

	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS; i++)
		if (is_worth_folding(compaction, runs, i))
			size += sz_band_length(device, i);
	return size;
}

/* A step of a major compaction: bands are folded, deltas stay as they are. */
static int step_run(struct compaction *compaction, const struct sz_runs *runs)
{
	const struct sz_device *device = compaction->device;
	int result = 0;

	for (uint32_t i = 0; compaction->left > 0 && i < device->shard_count * SZ_SHARD_BANDS;
	     i++) {
		if (!is_worth_folding(compaction, runs, i))
			continue;
		result = band_fold(compaction, i);
		if (result != 0 && result != -EBADMSG)
			return result;
	}
	return 0;
}

static uint64_t deltas_bytes(const struct sz_device *device, uint32_t deltas)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < deltas; i++)
		bytes += device->deltas[i]->stored_bytes;
	return bytes;
}

/* What an object of so many sectors takes at most, and says of so many what they are: with pages and padding. */
static uint64_t object_bytes(uint64_t sectors, uint64_t entries)
{
	sectors += entries / SZ_LEAF_ENTRIES + 8;
	return (sectors + sectors / 8) * SECTOR;
}

/* The newest deltas, up to end, become one. */
static int merge_run(struct compaction *compaction, uint32_t end)
{
	CLEANUP(sz_runs_free) struct sz_runs runs = { 0 };
	uint64_t bytes = deltas_bytes(compaction->device, end);
	int result = runs_union(compaction->device, 0, end, &runs);

	compaction->first = 0;
	compaction->end = end;
	if (result == 0 && bytes > compaction->room_bytes)
		bytes = object_bytes(sz_runs_size(&runs), sz_runs_size(&runs));
	if (result == 0 && bytes > compaction->room_bytes)
		return -ENOSPC;
	return result != 0 ? result : compact_run(compaction, &runs);
}

/*
 * The first of the deltas that steps fold. If there are several that bands have folded, that has begun; else it would
 * be with all of them.
 */
static uint32_t step_first(struct sz_device *device, bool *has_begun_out)
{
	uint64_t folded_to = 0;
	uint32_t first = 0;

	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS; i++) {
		struct row row;

		if (row_find(device, i, &row) && row.folded_to > folded_to)
			folded_to = row.folded_to;
	}
	while (first < device->delta_count && device->deltas[first]->generation > folded_to)
		first++;
	*has_begun_out = device->delta_count - first > 1;
	return *has_begun_out ? first : 0;
}

/* Bands are folded, deltas stay as they are. *is_left_out: what is left is more than a step. */
static int step_try(struct compaction *compaction, uint32_t first, bool *is_left_out)
{
	CLEANUP(sz_runs_free) struct sz_runs runs = { 0 };
	size_t row_count = compaction->seal->row_count;
	int result = runs_union(compaction->device, first, compaction->device->delta_count, &runs);

	compaction->first = first;
	compaction->end = compaction->device->delta_count;
	*is_left_out = false;
	if (result != 0 || fold_size(compaction, &runs) <= compaction->left)
		return result;
	if (compaction->room_bytes < compaction->device->store->band_sectors * SECTOR)
		return -ENOSPC;
	result = step_run(compaction, &runs);
	/* If none could be folded, the merge has to do with them as they are. */
	*is_left_out = compaction->seal->row_count > row_count;
	return result;
}

/* Sectors of bands that a seal may fold. */
static uint64_t step_size(const struct compaction *compaction, uint64_t stored)
{
	const struct sz_manifest_delta *written = compaction->seal->delta;
	uint64_t pace = written == NULL ? 0 : STEP_PACE * written->sector_count;

	if (compaction->all)
		return UINT64_MAX / SECTOR;
	return pace > stored / STEP_SHARE ? pace : stored / STEP_SHARE + 1;
}

static int compaction_run(struct compaction *compaction)
{
	struct sz_device *device = compaction->device;
	bool is_full = device->delta_count >= DELTAS_MAX;
	bool has_begun;
	bool is_left = false;
	uint32_t first = step_first(device, &has_begun);
	uint32_t minor = minor_count(device, has_begun ? first : device->delta_count);
	uint64_t stored;
	uint64_t dead;
	int result = 0;

	sz_dead_sectors(device, &stored, &dead);
	compaction->room_bytes =
		compaction->all ? UINT64_MAX : sz_device_room(device, false) / ROOM_SHARE;
	compaction->left = step_size(compaction, stored);
	if (compaction->left > compaction->room_bytes / SECTOR)
		compaction->left = compaction->room_bytes / SECTOR;
	compaction->is_major = has_begun || is_full || (compaction->all && dead > 0) ||
			       (dead > (uint64_t)DEAD_BANDS_MIN * device->store->band_sectors &&
				dead * 10 > stored * 4);
	if (minor > 0 && (!compaction->is_major || (has_begun && !is_full && !compaction->all))) {
		compaction->is_major = false;
		return merge_run(compaction, minor);
	}
	if (!compaction->is_major)
		return 0;
	if (!is_full && !compaction->all)
		result = step_try(compaction, first, &is_left);
	return result != 0 || is_left ? result : merge_run(compaction, device->delta_count);
}

/* Do deltas say all of a band? Then nobody will read it again. */
static bool band_is_hidden(struct sz_device *device, uint32_t band, const struct row *row)
{
	uint64_t at = sz_band_base(device, band);
	uint64_t end = at + sz_band_length(device, band);

	while (at < end) {
		uint32_t count = (uint32_t)(end - at);
		struct piece piece;

		if (!sz_deltas_find(device, 0, device->delta_count, row->folded_to, at, &count,
				    &piece))
			return false;
		at += count;
	}
	return true;
}

/* What a disk without room gets back, and nothing is written for: bands that are hidden as a whole. */
static int hidden_drop(struct compaction *compaction)
{
	struct sz_device *device = compaction->device;
	int result = 0;

	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS && result == 0; i++) {
		struct new_row gone = { .band = i, .row = { .epoch = device->sealing->number } };
		struct row row;

		if (row_find(device, i, &row) && row.epoch < device->sealing->number &&
		    band_is_hidden(device, i, &row))
			result = row_add(compaction->seal, &gone);
	}
	return result;
}

struct candidate {
	uint32_t band;
	uint32_t slots; /* that it takes, written anew */
};

static int candidate_compare(const void *a, const void *b)
{
	const struct candidate *left = a;
	const struct candidate *right = b;

	return left->slots < right->slots ? -1 : left->slots > right->slots;
}

/* May an eighth of a band, or more, come back? Then it is one; *candidate says what it takes. */
static int candidate_look(struct compaction *compaction, const struct sz_runs *runs, uint32_t band,
			  struct candidate *candidate, bool *is_one_out)
{
	struct sz_device *device = compaction->device;
	struct row row;
	uint64_t hidden;
	uint64_t live;
	int result;

	*is_one_out = false;
	if (!row_find(device, band, &row) || row.epoch == device->sealing->number ||
	    band_is_hidden(device, band, &row))
		return 0;
	hidden = sz_runs_covered(runs, sz_band_base(device, band), sz_band_length(device, band));
	if (FREE_SHARE * hidden < row.live_sectors)
		return 0;
	result = band_live_count(compaction, band, &live);
	if (result != 0)
		return result == -EBADMSG || is_skipped(compaction, result) ? 0 : result;
	*candidate = (struct candidate){ band, sz_band_slots((uint32_t)live,
							     device->store->band_sectors) };
	*is_one_out = true;
	return 0;
}

/* Those that take least first, as many as there is room for. */
static int candidates_fold(struct compaction *compaction, const struct sz_runs *runs)
{
	const struct sz_device *device = compaction->device;
	uint32_t bands = device->shard_count * SZ_SHARD_BANDS;
	CLEANUP_FREE struct candidate *candidates = calloc((size_t)bands + 1, sizeof(*candidates));
	size_t count = 0;
	int result = candidates == NULL ? -ENOMEM : 0;

	for (uint32_t i = 0; i < bands && result == 0; i++) {
		bool is_one;

		result = candidate_look(compaction, runs, i, &candidates[count], &is_one);
		count += result == 0 && is_one ? 1 : 0;
	}
	if (count > 1)
		qsort(candidates, count, sizeof(*candidates), candidate_compare);
	for (size_t i = 0; i < count && result == 0; i++) {
		if (candidates[i].slots > compaction->left)
			break;
		compaction->left -= candidates[i].slots;
		result = band_fold(compaction, candidates[i].band);
		if (result == -EBADMSG)
			result = 0;
	}
	return result;
}

/* All deltas become one, if that gives back half of what they take, and has room. */
static int freeing_merge(struct compaction *compaction, const struct sz_runs *runs)
{
	struct sz_device *device = compaction->device;
	uint64_t live = 0;
	uint64_t bytes;
	int result = 0;

	for (size_t i = 0; i < runs->count && result == 0; i++) {
		uint64_t some;

		result = live_count(compaction, false, runs->at[i].sector,
				    runs->at[i].sector + runs->at[i].count, &some);
		live += some;
	}
	bytes = object_bytes(live, sz_runs_size(runs));
	if (result != 0 || bytes > compaction->room_bytes ||
	    2 * bytes > deltas_bytes(device, device->delta_count))
		return result;
	return compact_run(compaction, runs);
}

static int freeing_run(struct compaction *compaction)
{
	struct sz_device *device = compaction->device;
	CLEANUP(sz_runs_free) struct sz_runs runs = { 0 };
	size_t row_count = compaction->seal->row_count;
	int result = runs_union(device, 0, device->delta_count, &runs);

	compaction->first = 0;
	compaction->end = device->delta_count;
	compaction->room_bytes = sz_device_room(device, true) / ROOM_SHARE;
	compaction->left = compaction->room_bytes / SECTOR;
	if (result == 0)
		result = candidates_fold(compaction, &runs);
	/* What a band has folded is known to be dead in deltas once it is sealed. */
	return result != 0 || compaction->seal->row_count > row_count
		       ? result
		       : freeing_merge(compaction, &runs);
}

int sz_compact(struct batch *batch, struct sz_device *device, enum compact_mode mode,
	       struct device_seal *seal)
{
	struct compaction compaction = {
		.device = device,
		.batch = batch,
		.seal = seal,
		.all = mode == COMPACT_ALL,
		.is_freeing = mode == COMPACT_FREE,
	};
	size_t row_count = seal->row_count;
	int result = 0;

	if (device->delta_count == 0 || mode == COMPACT_NOTHING ||
	    (mode == COMPACT_LEAST && device->delta_count < DELTAS_MAX))
		return 0;
	/* A band is dropped or folded: what it was folded to would be lost. */
	if (!compaction.all &&
	    sz_device_room(device, false) < SHORT_BANDS * device->store->band_sectors * SECTOR)
		result = hidden_drop(&compaction);
	if (result == 0 && seal->row_count == row_count)
		result = compaction.is_freeing ? freeing_run(&compaction)
					       : compaction_run(&compaction);
	sz_builder_fini(&compaction.builder);
	return result;
}

/* As the index knows them. */
void sz_dead_sectors(struct sz_device *device, uint64_t *stored_out, uint64_t *dead_out)
{
	CLEANUP(sz_runs_free) struct sz_runs runs = { 0 };
	uint64_t live;

	*dead_out = 0;
	if (deltas_count(device, &runs, stored_out, &live) != 0) {
		*stored_out = 0;
		return;
	}
	*dead_out = *stored_out > live ? *stored_out - live : 0;
	for (uint32_t i = 0; i < device->shard_count * SZ_SHARD_BANDS; i++) {
		struct row row;
		uint64_t hidden;

		if (!row_find(device, i, &row))
			continue;
		hidden = sz_runs_covered(&runs, sz_band_base(device, i), sz_band_length(device, i));
		*stored_out += row.data_slots;
		*dead_out += hidden < row.live_sectors ? hidden : row.live_sectors;
	}
}
