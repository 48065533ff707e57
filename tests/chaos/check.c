/*
 * Opens a store, or a copy of one, with the passphrase alone, and compares all that is in it with what
 * the journal says was stored.
 *
 *   chaos-check [OPTION]… [--scrub | --heal] STORE JOURNAL
 *   chaos-check --list STORE
 *
 * The content must be exactly what it was at one moment: that of the generation that was opened or, if
 * live files were recovered, one after it. What is not to be written to without a choice is opened as it was
 * sealed, in memory.
 *   --generation CODE   that one is opened, in memory
 *   --choose CODE       it is gone on from
 *   --since   the journal's length when copying began: nothing older than the newest generation of then
 *   --slack   … by more than so many seconds
 *   --until   the journal's length when it ended: nothing newer
 *   --scrub   everything is whole: no damage is met, and a scrub has nothing to repair
 *   --verify  … and nothing is, in files that nobody reads
 *   --heal    there is damage, which is named on standard output; a scrub repairs it
 *   --others N  names complete generations after the N-th that could be opened, too: "another CODE"
 *   --lossy   the store was closed, and too much of it is missing since: what can be read is right
 *   --list    a line for each generation: how much of it is there, its code
 * Exit status: 0, 1 (what is there is wrong), 2 (the store, or its pool, does not open).
 */
#include "opened.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define STATUS_UNOPENED 2
#define DAMAGE_SHOWN    5000

struct check {
	struct sz_store_open options;
	struct history history;
	uint64_t since;
	uint64_t until;
	uint64_t slack_ns;
	bool scrubs;
	bool verifies;
	bool heals;
	bool is_lossy;
	struct sz_verification *verification; /* by the last one */
	uint64_t others;                      /* 0: none are named */
	struct opened opened;
	struct sz_store_info info;
	struct span found[HANDS_MAX];
};

/* Which generation the content may be of at least: all that had ended before this moment is in it. */
static uint64_t least_by_generation(const struct check *check)
{
	const struct history *history = &check->history;
	/* A recovery makes a generation, or two if a seal was under way. */
	uint64_t generation = check->info.generation - (check->info.recovered ? 2 : 0);
	uint64_t least = 0;

	for (size_t i = 0; i < history->point_count; i++)
		if (history->points[i].generation != 0 &&
		    history->points[i].generation <= generation)
			least = history->points[i].begun;
	return least;
}

/* And at most: nothing that began after this moment is in it. */
static uint64_t most_by_generation(const struct check *check)
{
	const struct history *history = &check->history;

	for (size_t i = 0; i < history->point_count && !check->info.recovered; i++)
		if (history->points[i].generation >= check->info.generation)
			return history->points[i].ended;
	return UINT64_MAX;
}

/* The same by when the copy was begun. */
static uint64_t least_by_time(const struct check *check)
{
	const struct history *history = &check->history;
	const struct point *newest = history_newest(history, check->since);

	for (size_t i = 0; i < history->point_count && newest != NULL; i++)
		if (history->points[i].generation != 0 &&
		    history->points[i].wall_ns + check->slack_ns >= newest->wall_ns)
			return history->points[i].begun;
	return 0;
}

/* Far too much is missing: what can be read must be right, and what cannot must say so. */
static bool rest_check(struct check *check)
{
	bool is_good = true;

	folders_find(&check->opened, check->history.hands);
	for (uint32_t i = 0; i < check->history.hands; i++) {
		bool unreadable[NAMES] = { false };
		struct folder seen;

		is_good = folder_read(&check->opened, check->history.seed, i, &seen, unreadable) &&
			  history_is_latest(&check->history, i, &seen, unreadable) && is_good;
	}
	return is_good;
}

static bool content_check(struct check *check)
{
	uint64_t from = least_by_generation(check);
	uint64_t by_time = least_by_time(check);
	uint64_t to = most_by_generation(check);
	bool is_good = true;

	if (by_time > from)
		from = by_time;
	if (check->until < to)
		to = check->until;
	folders_find(&check->opened, check->history.hands);
	for (uint32_t i = 0; i < check->history.hands; i++) {
		struct span span = history_span(&check->history, i, from, to);
		struct folder seen;

		is_good = folder_read(&check->opened, check->history.seed, i, &seen, NULL) &&
			  history_find(&check->history, i, &seen, &span, &check->found[i]) &&
			  is_good;
	}
	return is_good && history_is_instant(&check->history, check->found);
}

static int damage_print(void *context, const struct sz_damage *damage)
{
	uint64_t *count = context;

	if ((*count)++ < DAMAGE_SHOWN)
		(void)printf("damage: device %" PRIu32 ": %s: %s (sectors: %" PRIu64 ")\n",
			     damage->device, damage->object, damage->text, damage->sectors);
	return 0;
}

static uint64_t damage_count(struct check *check)
{
	uint64_t count = 0;

	(void)sz_store_damage_each(check->opened.store, damage_print, &count);
	return count;
}

static uint64_t vdev_errors(struct check *check)
{
	struct sz_pool_status status;
	struct sz_error error = { 0 };
	uint64_t count = 0;

	if (sz_pool_status(check->opened.pool, &status, &error) != 0)
		die("status: %s", error.text);
	for (size_t i = 0; i < status.vdev_count; i++)
		count += status.vdevs[i].read_errors + status.vdevs[i].write_errors +
			 status.vdevs[i].checksum_errors;
	count += status.data_errors;
	sz_pool_status_free(&status);
	return count;
}

/* Objects that the last verification found damaged. */
static uint64_t hurt_count(const struct check *check)
{
	return check->verification == NULL ? 0 : sz_verification_hurt(check->verification);
}

/* As szpool scrub does it. */
static void scrub(struct check *check, struct sz_scan_status *scan)
{
	struct sz_error error = { 0 };
	struct sz_pool *pool = check->opened.pool;
	uint32_t rebuilt;

	sz_verification_free(TAKE(check->verification));
	if (sz_pool_rebuild(pool, &rebuilt, &error) != 0 ||
	    sz_pool_scan_wait(pool, NULL, NULL, &error) != 0 ||
	    (check->verifies &&
	     sz_store_verify(check->opened.store, NULL, NULL, &check->verification, &error) != 0) ||
	    sz_pool_scrub_start(pool, &error) != 0 ||
	    sz_pool_scan_wait(pool, NULL, NULL, &error) != 0)
		die("scrub: %s", error.text);
	sz_pool_scan_status(pool, scan);
	if (scan->kind != SZ_SCAN_SCRUB || scan->state != SZ_SCAN_FINISHED || scan->errors != 0)
		die("scrub: %" PRIu64 " errors", scan->errors);
}

/* Nothing is wrong, and a scrub finds nothing. */
static bool is_whole(struct check *check)
{
	struct sz_scan_status scan;
	uint64_t damages;
	uint64_t errors;

	scrub(check, &scan);
	damages = damage_count(check);
	errors = vdev_errors(check);
	if (scan.repaired_bytes == 0 && damages == 0 && errors == 0 && hurt_count(check) == 0)
		return true;
	(void)fprintf(stderr,
		      "not whole: %" PRIu64 " bytes repaired, %" PRIu64 " damaged objects, %" PRIu64
		      " errors\n",
		      scan.repaired_bytes, damages, errors);
	return false;
}

static void devices_replace(struct check *check)
{
	struct sz_error error = { 0 };

	for (uint32_t i = 0; i < sz_store_device_count(check->opened.store); i++)
		if (sz_device_state(sz_store_device(check->opened.store, i)) == SZ_DEVICE_MISSING &&
		    sz_store_replace_device(check->opened.store, i, NULL, &error) != 0)
			die("device %" PRIu32 " is not replaced: %s", i, error.text);
}

static void found_print(const struct check *check)
{
	(void)printf("generation %" PRIu64 "%s%s, changes", check->info.generation,
		     check->info.recovered ? ", recovered" : "",
		     check->options.generation != NULL ? ", in memory" : "");
	for (uint32_t i = 0; i < check->history.hands; i++)
		(void)printf(" %" PRIu64, check->found[i].most);
	(void)printf("\n");
}

/* Those that were made here, by a recovery, are of no interest. */
static void others_print(struct check *check)
{
	CLEANUP(sz_check_free) struct sz_check found = { 0 };
	struct sz_error error = { 0 };

	if (sz_store_generations(check->opened.store, &found, &error) != 0)
		die("%s", error.text);
	for (size_t i = 0; i < found.count; i++) {
		const struct sz_generation *generation = &found.generations[i];

		if (generation->wholeness == SZ_COMPLETE &&
		    generation->generation > check->others &&
		    generation->generation + (check->info.recovered ? 2 : 0) <
			    check->info.generation)
			(void)printf("another %s\n", generation->code);
	}
}

static void generations_find(const struct sz_store_open *options, struct sz_check *found)
{
	char text[PASSPHRASE_BYTES];
	const struct sz_passphrase passphrase = passphrase_read(text);
	struct sz_error error = { 0 };

	if (sz_store_check(options, &passphrase, found, &error) != 0)
		die("%s", error.text);
}

static int list(const struct sz_store_open *options)
{
	static const char *const wholeness[] = { "complete", "recoverable", "incomplete" };
	struct sz_check found;

	generations_find(options, &found);
	for (size_t i = 0; i < found.count; i++)
		(void)printf("%s %s%s\n", wholeness[found.generations[i].wholeness],
			     found.generations[i].code,
			     found.generations[i].is_chosen ? " chosen" : "");
	sz_check_free(&found);
	return 0;
}

/*
 * What may not be gone on from without a choice is looked at: what opening would choose, written to in memory
 * alone. To be healed, the newest that can be.
 */
static int open_as_asked(struct check *check, struct sz_error *error)
{
	CLEANUP(sz_check_free) struct sz_check found = { 0 };
	int result = store_open(&check->options, &check->opened.store, error);
	const char *chosen = NULL;

	if (result != -ESTALE || check->options.generation != NULL)
		return result;
	(void)printf("%s\n", error->text);
	generations_find(&check->options, &found);
	for (size_t i = 0; i < found.count && chosen == NULL; i++)
		if (check->heals ? found.generations[i].wholeness != SZ_INCOMPLETE
				 : found.generations[i].is_chosen)
			chosen = found.generations[i].code;
	*(check->heals ? &check->options.choose : &check->options.generation) = chosen;
	*error = (struct sz_error){ 0 };
	return store_open(&check->options, &check->opened.store, error);
}

static int check_run(struct check *check)
{
	struct sz_error error = { 0 };
	bool is_good;

	if (open_as_asked(check, &error) != 0) {
		(void)fprintf(stderr, "%s does not open: %s\n", check->options.path, error.text);
		return STATUS_UNOPENED;
	}
	sz_store_info(check->opened.store, &check->info);
	if (check->info.recovered)
		(void)printf("recovered: %s\n", check->info.recovery_text);
	if (check->heals)
		devices_replace(check);
	if (pool_open(&check->opened, sz_store_is_read_only(check->opened.store), &error) != 0) {
		(void)fprintf(stderr, "the pool does not open: %s\n", error.text);
		return STATUS_UNOPENED;
	}
	is_good = check->is_lossy ? rest_check(check) : content_check(check);
	if (is_good && !check->is_lossy)
		found_print(check);
	if (is_good && check->others > 0)
		others_print(check);
	if (is_good && check->scrubs)
		is_good = is_whole(check);
	if (is_good && check->heals) {
		struct sz_scan_status scan;
		uint64_t left;

		scrub(check, &scan);
		(void)damage_count(check);
		if (hurt_count(check) > 0 &&
		    (sz_store_repair(check->opened.store, check->verification, true, &left,
				     &error) != 0 ||
		     left > 0))
			die("repair: %s", error.text);
		is_good = content_check(check);
	}
	sz_verification_free(check->verification);
	opened_close(&check->opened);
	return is_good ? 0 : 1;
}

int main(int count, char **arguments)
{
	static const struct option long_options[] = {
		{ "since", required_argument, NULL, 'a' },
		{ "until", required_argument, NULL, 'b' },
		{ "slack", required_argument, NULL, 'c' },
		{ "scrub", no_argument, NULL, 'd' },
		{ "heal", no_argument, NULL, 'e' },
		{ "generation", required_argument, NULL, 'f' },
		{ "choose", required_argument, NULL, 'g' },
		{ "list", no_argument, NULL, 'h' },
		{ "lossy", no_argument, NULL, 'i' },
		{ "others", required_argument, NULL, 'j' },
		{ "verify", no_argument, NULL, 'k' },
		{ 0 },
	};
	struct check check = { .until = UINT64_MAX };
	bool is_list = false;
	int option;
	int status;

	while ((option = getopt_long(count, arguments, "", long_options, NULL)) != -1) {
		switch (option) {
		case 'a':
			check.since = strtoull(optarg, NULL, 10);
			break;
		case 'b':
			check.until = strtoull(optarg, NULL, 10);
			break;
		case 'c':
			check.slack_ns = strtoull(optarg, NULL, 10) * 1000000000;
			break;
		case 'd':
			check.scrubs = true;
			break;
		case 'e':
			check.heals = true;
			check.verifies = true;
			break;
		case 'f':
			check.options.generation = optarg;
			break;
		case 'g':
			check.options.choose = optarg;
			break;
		case 'h':
			is_list = true;
			break;
		case 'i':
			check.is_lossy = true;
			break;
		case 'k':
			check.verifies = true;
			break;
		case 'j':
			check.others = strtoull(optarg, NULL, 10);
			break;
		default:
			return 1;
		}
	}
	if (optind + (is_list ? 1 : 2) != count)
		die("usage: chaos-check [OPTION]… STORE JOURNAL");
	check.options.path = arguments[optind];
	if (is_list)
		return list(&check.options);
	if (history_load(arguments[optind + 1], &check.history) != 0)
		die("%s is no journal", arguments[optind + 1]);
	status = check_run(&check);
	history_free(&check.history);
	return status;
}
