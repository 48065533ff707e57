/*
 * survey: is what a generation refers to there, by names and lengths alone? Data is not read; index pages are, each once
 * for all generations that share it.
 *
 * What is missing hurts sectors of its device: a band its own, a delta those that the manifest lists, an index page or a
 * hot image (ZFS's labels) all that depend on it. Nowhere may more devices be hurt than redundancy covers.
 *
 * ZFS puts the parts of a block at about the same sectors of all devices. So sectors that are hurt on more
 * devices than parity allows are what is lost, and sectors are what is compared.
 */
#include "device/device_internal.h"

#include <errno.h>
#include <stdio.h>

#define BUCKETS_AT_FIRST 256U

static size_t id_hash(const struct sz_id *id)
{
	return (size_t)(sz_get_le64(id->bytes) ^ sz_get_le64(id->bytes + 8));
}

static int page_read(struct sz_store *store, const struct sz_ref *ref, struct sz_bytes *payload_out)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));

	return header == NULL ? -ENOMEM : sz_blob_look(store, ref, header, payload_out);
}

int sz_manifest_read(struct sz_store *store, const struct sz_ref *ref,
		     struct sz_manifest *manifest_out)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result = page_read(store, ref, &payload);

	return result != 0 ? result
			   : sz_manifest_decode(payload.data, payload.length, manifest_out);
}

int sz_shard_read(struct sz_store *store, const struct sz_ref *ref, struct sz_shard *shard_out)
{
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	int result = page_read(store, ref, &payload);

	return result != 0 ? result : sz_shard_decode(payload.data, payload.length, shard_out);
}

/* What is missing. */

/* A shard that was looked at: which of its bands are missing. */
struct survey_page {
	struct survey_page *next; /* in its bucket */
	struct sz_id id;
	bool is_lost; /* the page itself */
	uint32_t band_count;
	uint8_t missing[SZ_SHARD_BANDS / 8];
};

void sz_survey_free(struct survey *survey)
{
	for (size_t i = 0; i < survey->bucket_count; i++) {
		struct survey_page *page;

		while ((page = survey->pages[i]) != NULL) {
			survey->pages[i] = page->next;
			free(page);
		}
	}
	free(survey->pages);
	*survey = (struct survey){ 0 };
}

static int survey_grow(struct survey *survey)
{
	size_t count = survey->bucket_count == 0 ? BUCKETS_AT_FIRST : 2 * survey->bucket_count;
	struct survey_page **pages = calloc(count, sizeof(struct survey_page *));

	if (pages == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < survey->bucket_count; i++) {
		struct survey_page *page;

		while ((page = survey->pages[i]) != NULL) {
			size_t at = id_hash(&page->id) & (count - 1);

			survey->pages[i] = page->next;
			page->next = pages[at];
			pages[at] = page;
		}
	}
	free(survey->pages);
	survey->pages = pages;
	survey->bucket_count = count;
	return 0;
}

uint64_t sz_band_file_bytes(uint32_t data_slots)
{
	return (1 + (uint64_t)data_slots + DIV_ROUND_UP(data_slots, SZ_LEAF_ENTRIES)) *
		       SZ_PAGE_BYTES +
	       SZ_TRAILER_BYTES;
}

static int shard_look(struct sz_store *store, const struct sz_ref *ref, struct survey_page *page)
{
	CLEANUP(sz_shard_free) struct sz_shard shard = { 0 };
	int result = sz_shard_read(store, ref, &shard);

	page->id = ref->id;
	page->is_lost = result == -EBADMSG;
	page->band_count = shard.band_count;
	for (uint32_t i = 0; i < shard.band_count && result == 0; i++) {
		const struct sz_shard_band *band = &shard.bands[i];
		uint32_t bit = band->band % SZ_SHARD_BANDS;

		if (!sz_catalog_has(store, &band->ref.id, sz_band_file_bytes(band->data_slots)))
			page->missing[bit / 8] |= (uint8_t)(1U << bit % 8);
	}
	return page->is_lost ? 0 : result;
}

static int shard_survey(struct sz_store *store, struct survey *survey, const struct sz_ref *ref,
			const struct survey_page **page_out)
{
	struct survey_page *page;
	int result;

	if (survey->page_count >= survey->bucket_count && survey_grow(survey) != 0)
		return -ENOMEM;
	page = survey->pages[id_hash(&ref->id) & (survey->bucket_count - 1)];
	while (page != NULL && memcmp(&page->id, &ref->id, sizeof(ref->id)) != 0)
		page = page->next;
	if (page == NULL) {
		struct survey_page **bucket =
			&survey->pages[id_hash(&ref->id) & (survey->bucket_count - 1)];

		page = calloc(1, sizeof(*page));
		if (page == NULL)
			return -ENOMEM;
		result = shard_look(store, ref, page);
		if (result != 0) {
			free(page);
			return result;
		}
		page->next = *bucket;
		*bucket = page;
		survey->page_count++;
	}
	*page_out = page;
	return 0;
}

/* Sectors of a device that are hurt: where they begin (+1) and end (-1). */
struct edge {
	uint64_t sector;
	uint32_t device;
	int step;
};

struct surveying {
	struct sz_store *store;
	struct survey *survey;
	const struct sz_root *root;
	uint32_t device; /* that is being looked at */
	struct sz_bytes edges;
	uint64_t missing_bands;
	uint64_t missing_deltas;
	uint64_t missing_pages;
	uint64_t missing_images;
	uint32_t hurt_devices;
	bool device_is_hurt;
};

static int hurt(struct surveying *surveying, uint64_t sector, uint64_t count)
{
	uint64_t size = surveying->root->devices[surveying->device].sectors;
	struct edge edge = { .sector = sector, .device = surveying->device, .step = 1 };
	int result;

	if (sector >= size)
		return 0;
	result = sz_bytes_append(&surveying->edges, &edge, sizeof(edge));
	edge.sector = count < size - sector ? sector + count : size;
	edge.step = -1;
	return result != 0 ? result : sz_bytes_append(&surveying->edges, &edge, sizeof(edge));
}

static int hurt_device(struct surveying *surveying)
{
	return hurt(surveying, 0, UINT64_MAX);
}

static int look_at_shard(struct surveying *surveying, const struct sz_manifest_shard *shard)
{
	uint64_t length = surveying->root->band_sectors;
	uint64_t base = (uint64_t)shard->number * SZ_SHARD_BANDS * length;
	const struct survey_page *page;
	int result = shard_survey(surveying->store, surveying->survey, &shard->shard, &page);

	if (result != 0)
		return result;
	if (page->is_lost) {
		surveying->missing_pages++;
		return hurt(surveying, base, SZ_SHARD_BANDS * length);
	}
	for (uint32_t i = 0; i < SZ_SHARD_BANDS && result == 0; i++) {
		if ((page->missing[i / 8] >> i % 8 & 1) == 0)
			continue;
		surveying->missing_bands++;
		result = hurt(surveying, base + i * length, length);
	}
	return result;
}

/* A delta that is missing hurts what is listed for it; if the list is lost too, all. */
static int look_at_delta(struct surveying *surveying, struct sz_manifest_delta *delta)
{
	struct sz_store *store = surveying->store;
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	bool is_there = sz_catalog_has(store, &delta->delta.id, delta->stored_bytes);
	bool is_listed = delta->list_is_inline || sz_catalog_has(store, &delta->list.id, 0);
	int result = 0;

	surveying->missing_deltas += is_there ? 0 : 1;
	surveying->missing_pages += is_listed ? 0 : 1;
	if (is_there)
		return 0;
	if (!delta->list_is_inline) {
		result = page_read(store, &delta->list, &payload);
		if (result == 0)
			result = sz_list_decode(payload.data, payload.length, &delta->runs,
						&delta->run_count);
		if (result == -EBADMSG)
			return hurt_device(surveying);
	}
	for (uint32_t i = 0; i < delta->run_count && result == 0; i++)
		result = hurt(surveying, delta->runs[i].sector, delta->runs[i].count);
	return result;
}

static int look_at_device(struct surveying *surveying)
{
	const struct sz_root_device *device = &surveying->root->devices[surveying->device];
	CLEANUP(sz_manifest_free) struct sz_manifest manifest = { 0 };
	int result;

	if (device->state != 0) /* it was missing when the generation was sealed */
		return hurt_device(surveying);
	result = sz_manifest_read(surveying->store, &device->manifest, &manifest);
	if (result == -EBADMSG) {
		surveying->missing_pages++;
		return hurt_device(surveying);
	}
	if (result == 0 && !sz_id_is_none(&manifest.hot.id) &&
	    !sz_catalog_has(surveying->store, &manifest.hot.id, 0)) {
		surveying->missing_images++; /* ZFS does not take a device without labels */
		result = hurt_device(surveying);
	}
	for (uint32_t i = 0; i < manifest.shard_count && result == 0; i++)
		result = look_at_shard(surveying, &manifest.shards[i]);
	for (uint32_t i = 0; i < manifest.delta_count && result == 0; i++)
		result = look_at_delta(surveying, &manifest.deltas[i]);
	return result;
}

static uint64_t missing(const struct surveying *surveying)
{
	return surveying->missing_bands + surveying->missing_deltas + surveying->missing_pages +
	       surveying->missing_images;
}

static int look_at_devices(struct surveying *surveying)
{
	int result = 0;

	for (uint32_t i = 0; i < surveying->root->device_count && result == 0; i++) {
		uint64_t before = missing(surveying);

		surveying->device = i;
		result = look_at_device(surveying);
		if (missing(surveying) > before)
			surveying->hurt_devices++;
	}
	return result;
}

/* Ends come before beginnings at the same sector. */
static int edge_compare(const void *a, const void *b)
{
	const struct edge *left = a;
	const struct edge *right = b;

	if (left->sector != right->sector)
		return left->sector < right->sector ? -1 : 1;
	return left->step - right->step;
}

/* How many devices are hurt at one sector, at most. */
static uint32_t most_hurt(struct surveying *surveying)
{
	struct edge *edges = (struct edge *)(void *)surveying->edges.data;
	size_t count = surveying->edges.length / sizeof(*edges);
	uint32_t open[SZ_DEVICES_MAX] = { 0 };
	uint32_t now = 0;
	uint32_t most = 0;

	if (count > 1)
		qsort(edges, count, sizeof(*edges), edge_compare);
	for (size_t i = 0; i < count; i++) {
		uint32_t *its = &open[edges[i].device];

		if (edges[i].step > 0)
			now += (*its)++ == 0 ? 1 : 0;
		else
			now -= --(*its) == 0 ? 1 : 0;
		most = now > most ? now : most;
	}
	return most;
}

static void count_say(char *text, size_t size, uint64_t count, const char *noun)
{
	size_t length = strlen(text);

	if (count > 0)
		(void)snprintf(text + length, size - length, "%s%llu %s%s", length == 0 ? "" : ", ",
			       (unsigned long long)count, noun, count == 1 ? "" : "s");
}

static void survey_say(const struct surveying *surveying, char text[SZ_MISSING_TEXT_BYTES])
{
	size_t length;

	count_say(text, SZ_MISSING_TEXT_BYTES, surveying->missing_bands, "band");
	count_say(text, SZ_MISSING_TEXT_BYTES, surveying->missing_deltas, "delta");
	count_say(text, SZ_MISSING_TEXT_BYTES, surveying->missing_images, "hot image");
	count_say(text, SZ_MISSING_TEXT_BYTES, surveying->missing_pages, "index page");
	length = strlen(text);
	if (length > 0)
		(void)snprintf(text + length, SZ_MISSING_TEXT_BYTES - length, " of %u device%s",
			       surveying->hurt_devices, surveying->hurt_devices == 1 ? "" : "s");
}

static int survey_once(struct sz_store *store, struct survey *survey,
		       const struct generation *generation, enum sz_wholeness *wholeness_out,
		       char text_out[SZ_MISSING_TEXT_BYTES])
{
	struct surveying surveying = { store, survey, &generation->root, .device = 0 };
	int result = look_at_devices(&surveying);

	text_out[0] = '\0';
	if (result == 0) {
		survey_say(&surveying, text_out);
		if (most_hurt(&surveying) > generation->root.parity)
			*wholeness_out = SZ_INCOMPLETE;
		else
			*wholeness_out = missing(&surveying) > 0 ? SZ_RECOVERABLE : SZ_COMPLETE;
	}
	sz_bytes_free(&surveying.edges);
	return result;
}

int sz_generation_survey(struct sz_store *store, struct survey *survey,
			 const struct generation *generation, enum sz_wholeness *wholeness_out,
			 char text_out[SZ_MISSING_TEXT_BYTES])
{
	int result = survey_once(store, survey, generation, wholeness_out, text_out);

	/* What is missing may be here under another name. */
	if (result == 0 && text_out[0] != '\0' && sz_catalog_identify(store, UINT64_MAX)) {
		sz_survey_free(survey);
		result = survey_once(store, survey, generation, wholeness_out, text_out);
	}
	return result;
}
