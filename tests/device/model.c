/* The model: see model.h. */
#include "model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define SECTOR_WORDS 512U

uint64_t chance(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

uint64_t chance_below(uint64_t *state, uint64_t limit)
{
	return chance(state) % limit;
}

uint64_t test_scale(void)
{
	const char *given = getenv("SZ_TEST_SCALE");
	uint64_t scale = given == NULL ? 1 : strtoull(given, NULL, 10);

	return scale == 0 ? 1 : scale;
}

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

uint64_t test_thinning(void)
{
	return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ? 4 : 1;
}

uint64_t chance_seed(const char *what)
{
	const char *given = getenv("SZ_SEED");
	uint64_t seed = given == NULL ? sz_wall_ns() >> 10 : strtoull(given, NULL, 0);

	printf("# seed %s: SZ_SEED=%" PRIu64 "\n", what, seed);
	(void)fflush(stdout);
	return seed;
}

void model_init(struct model *model, uint64_t seed, uint32_t device_count, uint32_t sectors)
{
	assert(device_count <= MODEL_DEVICES_MAX);
	*model = (struct model){
		.seed = seed,
		.device_count = device_count,
		.sectors = sectors,
		.next_version = 1,
	};
	for (uint32_t i = 0; i < device_count; i++) {
		model->content[i] = calloc(sectors, sizeof(uint32_t));
		model->is_loose[i] = calloc(sectors, sizeof(bool));
		if (model->content[i] == NULL || model->is_loose[i] == NULL)
			abort();
	}
}

void model_fini(struct model *model)
{
	for (uint32_t i = 0; i < model->device_count; i++) {
		free(model->content[i]);
		free(model->is_loose[i]);
	}
	free(model->history);
	*model = (struct model){ 0 };
}

static size_t append(struct model *model, struct model_change change)
{
	if (model->length == model->capacity) {
		model->capacity = model->capacity == 0 ? 256 : model->capacity * 2;
		model->history = realloc(model->history, model->capacity * sizeof(*model->history));
		if (model->history == NULL)
			abort();
	}
	assert((uint64_t)change.sector + change.count <= model->sectors);
	model->history[model->length] = change;
	return model->length++;
}

size_t model_write(struct model *model, uint32_t device, uint64_t sector, uint32_t count)
{
	return append(model, (struct model_change){ .device = device,
						    .sector = (uint32_t)sector,
						    .count = count,
						    .version = model->next_version++ });
}

size_t model_trim(struct model *model, uint32_t device, uint64_t sector, uint64_t count)
{
	return append(model, (struct model_change){ .device = device,
						    .sector = (uint32_t)sector,
						    .count = (uint32_t)count });
}

static void apply(const struct model_change *change, uint32_t *versions, bool *is_loose)
{
	for (uint32_t i = change->sector; i < change->sector + change->count; i++) {
		is_loose[i] = change->has_failed;
		if (!change->has_failed)
			versions[i] = change->version;
	}
}

void model_settle(struct model *model, uint32_t device, size_t length)
{
	for (size_t i = model->settled[device]; i < length; i++) {
		if (model->history[i].device == device)
			apply(&model->history[i], model->content[device], model->is_loose[device]);
	}
	if (length > model->settled[device])
		model->settled[device] = length;
}

void model_collapse(struct model *model, uint32_t device, const uint32_t *observed)
{
	memcpy(model->content[device], observed, model->sectors * sizeof(*observed));
	memset(model->is_loose[device], 0, model->sectors * sizeof(bool));
	model->settled[device] = model->length;
}

/* Content */

static uint64_t pattern_state(const struct model *model, uint32_t device, uint64_t sector,
			      uint32_t version)
{
	return (model->seed * 0x2545f4914f6cdd1dU) ^ ((uint64_t)device << 58) ^ (sector << 32) ^
	       version;
}

void model_fill(const struct model *model, uint32_t device, uint64_t sector, uint32_t version,
		void *buffer)
{
	uint64_t state = pattern_state(model, device, sector, version);
	uint64_t words[SECTOR_WORDS];

	if (version == 0) {
		memset(buffer, 0, sizeof(words));
		return;
	}
	words[0] = version;
	for (size_t i = 1; i < SECTOR_WORDS; i++)
		words[i] = chance(&state);
	memcpy(buffer, words, sizeof(words));
}

uint32_t model_recognise(const struct model *model, uint32_t device, uint64_t sector,
			 const void *buffer)
{
	uint8_t expected[SECTOR_WORDS * 8];
	uint64_t claimed;

	memcpy(&claimed, buffer, sizeof(claimed));
	if (claimed >= model->next_version)
		return MODEL_GARBAGE;
	model_fill(model, device, sector, (uint32_t)claimed, expected);
	return memcmp(buffer, expected, sizeof(expected)) == 0 ? (uint32_t)claimed : MODEL_GARBAGE;
}

/* Comparison */

/* A state of one device, and in how many sectors it differs from what was observed. */
struct replay {
	const uint32_t *observed;
	uint32_t sectors;
	uint32_t *versions;
	bool *is_loose;
	uint32_t differing;
};

static bool differs(const struct replay *replay, uint32_t sector)
{
	uint32_t observed = replay->observed[sector];

	if (observed == MODEL_GARBAGE || observed == MODEL_DAMAGED)
		return true;
	if (observed == MODEL_ANY)
		return false;
	return observed != replay->versions[sector] && !replay->is_loose[sector];
}

static void replay_begin(struct replay *replay, const struct model *model, uint32_t device,
			 const uint32_t *observed, bool from_nothing)
{
	*replay = (struct replay){ .observed = observed, .sectors = model->sectors };
	replay->versions = calloc(model->sectors, sizeof(uint32_t));
	replay->is_loose = calloc(model->sectors, sizeof(bool));
	if (replay->versions == NULL || replay->is_loose == NULL)
		abort();
	if (!from_nothing) {
		memcpy(replay->versions, model->content[device], model->sectors * sizeof(uint32_t));
		memcpy(replay->is_loose, model->is_loose[device], model->sectors * sizeof(bool));
	}
	for (uint32_t i = 0; i < model->sectors; i++)
		replay->differing += differs(replay, i);
}

static void replay_apply(struct replay *replay, const struct model_change *change)
{
	for (uint32_t i = change->sector; i < change->sector + change->count; i++)
		replay->differing -= differs(replay, i);
	apply(change, replay->versions, replay->is_loose);
	for (uint32_t i = change->sector; i < change->sector + change->count; i++)
		replay->differing += differs(replay, i);
}

static void replay_end(struct replay *replay)
{
	free(replay->versions);
	free(replay->is_loose);
}

static const char *version_text(uint32_t version, char text[16])
{
	if (version == MODEL_GARBAGE)
		return "garbage";
	if (version == MODEL_DAMAGED)
		return "damaged";
	(void)snprintf(text, 16, "%" PRIu32, version);
	return text;
}

/* Runs of sectors that differ from the state, at most a dozen. */
static void print_differences(const struct replay *replay, uint32_t device)
{
	unsigned int printed = 0;
	char have[16];
	char want[16];

	for (uint32_t i = 0; i < replay->sectors && printed < 12; i++) {
		uint32_t first = i;

		if (!differs(replay, i))
			continue;
		while (i + 1 < replay->sectors && differs(replay, i + 1) &&
		       replay->observed[i + 1] == replay->observed[first] &&
		       replay->versions[i + 1] == replay->versions[first])
			i++;
		printf("#   device %" PRIu32 ", sectors %" PRIu32 " to %" PRIu32
		       ": version %s, want %s\n",
		       device, first, i, version_text(replay->observed[first], have),
		       version_text(replay->versions[first], want));
		printed++;
	}
}

/* The state of the device after the changes before `length`, beside what was observed. */
static void print_at(const struct model *model, uint32_t device, const uint32_t *observed,
		     size_t length)
{
	struct replay replay;

	replay_begin(&replay, model, device, observed, false);
	for (size_t i = model->settled[device]; i < length; i++) {
		if (model->history[i].device == device)
			replay_apply(&replay, &model->history[i]);
	}
	printf("#   nearest: after change %zu (settled: %zu, all: %zu), %" PRIu32
	       " sectors differ\n",
	       length, model->settled[device], model->length, replay.differing);
	print_differences(&replay, device);
	for (size_t i = model->settled[device]; i < model->length && i < length + 8; i++) {
		const struct model_change *change = &model->history[i];

		if (change->device == device)
			printf("#   change %zu: version %" PRIu32 ", sectors %" PRIu32
			       " to %" PRIu32 "%s\n",
			       i, change->version, change->sector,
			       change->sector + change->count - 1,
			       change->has_failed ? ", failed" : "");
	}
	replay_end(&replay);
}

bool model_agrees(const struct model *model, uint32_t device, const uint32_t *observed,
		  bool is_exact)
{
	struct replay replay;
	uint32_t least = UINT32_MAX;
	size_t nearest = model->settled[device];
	bool agrees = false;

	replay_begin(&replay, model, device, observed, false);
	for (size_t i = model->settled[device];; i++) {
		bool is_last = i == model->length;

		if (!is_exact || is_last) {
			agrees = agrees || replay.differing == 0;
			if (replay.differing < least) {
				least = replay.differing;
				nearest = i;
			}
		}
		if (agrees || is_last)
			break;
		if (model->history[i].device == device)
			replay_apply(&replay, &model->history[i]);
	}
	replay_end(&replay);
	if (!agrees) {
		printf("# device %" PRIu32 " does not hold %s\n", device,
		       is_exact ? "what was written"
				: "what was flushed and the first of what followed");
		print_at(model, device, observed, nearest);
	}
	return agrees;
}

void model_newest(const struct model *model, uint32_t device, uint32_t *versions)
{
	CLEANUP_FREE bool *is_loose = calloc(model->sectors, sizeof(bool));

	if (is_loose == NULL)
		abort();
	memcpy(versions, model->content[device], model->sectors * sizeof(uint32_t));
	for (size_t i = model->settled[device]; i < model->length; i++) {
		if (model->history[i].device == device)
			apply(&model->history[i], versions, is_loose);
	}
}

/* Of a change that comes next, the first sectors are there already: how many differ for that. */
static uint32_t begun(const struct replay *replay, const struct model_change *change)
{
	uint32_t count = 0;

	for (uint32_t i = change->sector;
	     i < change->sector + change->count && replay->observed[i] == change->version; i++)
		count += differs(replay, i);
	return count;
}

bool model_is_instant(const struct model *model, uint32_t *const *observed, size_t least,
		      bool is_loud)
{
	struct replay replays[MODEL_DEVICES_MAX];
	uint32_t fewest = UINT32_MAX;
	size_t nearest = 0;

	for (uint32_t i = 0; i < model->device_count; i++)
		replay_begin(&replays[i], model, i, observed[i], true);
	for (size_t i = 0; i <= model->length; i++) {
		uint32_t differing = 0;

		for (uint32_t j = 0; j < model->device_count; j++)
			differing += replays[j].differing;
		if (i < model->length)
			differing -= begun(&replays[model->history[i].device], &model->history[i]);
		if (i >= least && differing < fewest) {
			fewest = differing;
			nearest = i;
		}
		if (i < model->length)
			replay_apply(&replays[model->history[i].device], &model->history[i]);
	}
	for (uint32_t i = 0; i < model->device_count; i++)
		replay_end(&replays[i]);
	if (fewest != 0 && is_loud)
		printf("# no instant from change %zu on; nearest: after change %zu, %" PRIu32
		       " sectors differ\n",
		       least, nearest, fewest);
	return fewest == 0;
}
