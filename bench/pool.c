/*
 * bench-pool: the program as people use it, put and get, beside dd and cp on the same disk.
 *
 * Everything counts: the start of the process, the key derivation, opening, closing. open_s says how
 * much of each command that is. RAID-Z2 over 4 + 2 devices writes 1.5 bytes for each byte that is
 * put, so the ratios of writes are to dd's figure divided by 1.5: what the disk could do at best.
 * Each round measures dd before and after szpool. Ratios are given twice, of the best passes of both
 * and of the medians of both: where they differ, the machine was not quiet, and an aim has to hold
 * for both. What comes back is compared with what was put.
 */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX       25
#define RAID_COST        1.5 /* (4 + 2) / 4 */
#define FILES_PER_FOLDER 100
#define SMALL_MAX_BYTES  16384 /* sizes are spread evenly up to it: 8 KiB on average */

struct options {
	const char *folder;
	const char *szpool;
	uint64_t size_mib;
	const char *seal_interval;
	uint64_t files;
	uint64_t rounds;
};

/* The seconds of each pass of dd. */
struct passes {
	double seconds[2 * ROUNDS_MAX];
	size_t count;
};

struct run {
	const struct options *options;
	const char *folder;
	char *store;
	char *large; /* the file, and the tree, that are put */
	char *tree;
	double peak_mib;
	struct passes dd_write;
	struct passes dd_read;
};

/* Values of the rounds, by figure. */
enum figure {
	PUT,
	PUT_SEALED,
	CAT,
	GET,
	COPY_LARGE,
	COPY_TREE,
	COPY_TREE_COLD,
	PUT_TREE,
	GET_TREE,
	OPEN,
	FIGURE_COUNT
};
static double seconds_of[FIGURE_COUNT][ROUNDS_MAX];

static double run_szpool(struct run *run, const char *const argv[])
{
	struct bench_usage usage = bench_run(argv);

	if (usage.peak_mib > run->peak_mib)
		run->peak_mib = usage.peak_mib;
	return usage.seconds;
}

#define SZPOOL(run, ...)                                                                           \
	run_szpool(run, (const char *const[]){ (run)->options->szpool, __VA_ARGS__, NULL })
#define PROGRAM(...) bench_run((const char *const[]){ __VA_ARGS__, NULL }).seconds

static void make_passphrase(const char *folder)
{
	CLEANUP_FREE char *path = bench_path(folder, "passphrase");
	FILE *file = fopen(path, "w");

	if (file == NULL || fputs("a passphrase for a benchmark\n", file) < 0 ||
	    fclose(file) != 0 || setenv("SZPOOL_PASSPHRASE_FILE", path, 1) != 0)
		bench_die("%s: %s", path, strerror(errno));
}

/* So that the records of what a user has seen are not the user's. */
static void make_state_folder(const char *folder)
{
	CLEANUP_FREE char *path = bench_path(folder, "state");

	if (mkdir(path, 0700) != 0 || setenv("XDG_STATE_HOME", path, 1) != 0)
		bench_die("%s: %s", path, strerror(errno));
}

static uint64_t make_tree(const char *tree, uint64_t files)
{
	struct bench_random random = { .state = 42 };
	uint64_t bytes = 0;
	char path[4096];

	if (mkdir(tree, 0755) != 0)
		bench_die("%s: %s", tree, strerror(errno));
	for (uint64_t i = 0; i < files; i++) {
		uint64_t size = 1 + bench_random_next(&random) % SMALL_MAX_BYTES;
		unsigned long long folder = i / FILES_PER_FOLDER;

		(void)snprintf(path, sizeof(path), "%s/%llu", tree, folder);
		if (i % FILES_PER_FOLDER == 0 && mkdir(path, 0755) != 0)
			bench_die("%s: %s", path, strerror(errno));
		(void)snprintf(path, sizeof(path), "%s/%llu/%llu", tree, folder,
			       (unsigned long long)i);
		bench_make_file(path, size, i);
		bytes += size;
	}
	return bytes;
}

static char *operand(const char *name, const char *path)
{
	char *text = NULL;

	if (asprintf(&text, "%s%s", name, path) < 0)
		bench_die("no memory");
	return text;
}

static void cool(const struct run *run)
{
	(void)bench_drop_caches(run->folder);
}

/* The file read once, so that it is in the page cache. */
static void warm(const char *path)
{
	CLEANUP_FREE char *from = operand("if=", path);

	(void)PROGRAM("dd", from, "of=/dev/null", "bs=1M", "status=none");
}

/* Leaves the copy. */
static void dd_write(struct run *run, const char *plain)
{
	CLEANUP_FREE char *from = operand("if=", run->large);
	CLEANUP_FREE char *to = operand("of=", plain);

	(void)unlink(plain);
	warm(run->large);
	sync();
	run->dd_write.seconds[run->dd_write.count++] =
		PROGRAM("dd", from, to, "bs=1M", "conv=fsync", "status=none");
}

static void dd_read_cold(struct run *run, const char *plain)
{
	CLEANUP_FREE char *from = operand("if=", plain);

	cool(run);
	run->dd_read.seconds[run->dd_read.count++] =
		PROGRAM("dd", from, "of=/dev/null", "bs=1M", "status=none");
}

static void large_round(struct run *run, uint64_t round)
{
	CLEANUP_FREE char *plain = bench_path(run->folder, "plain");
	CLEANUP_FREE char *back = bench_path(run->folder, "back");
	CLEANUP_FREE char *back_file = bench_path(back, "large");

	dd_write(run, plain);
	sync();
	/* Each is the first as often as the other: what is removed before has to be freed. */
	for (uint64_t turn = round; turn < round + 2; turn++) {
		if (turn % 2 == 0)
			seconds_of[PUT][round] = SZPOOL(run, "put", run->store, run->large, "/");
		else
			seconds_of[PUT_SEALED][round] =
				SZPOOL(run, "put", "--seal-interval", run->options->seal_interval,
				       run->store, run->large, "/sealed");
		sync();
	}
	(void)SZPOOL(run, "rm", run->store, "/sealed");
	dd_write(run, plain);
	dd_read_cold(run, plain);
	cool(run);
	seconds_of[CAT][round] = SZPOOL(run, "cat", run->store, "/large");
	dd_read_cold(run, plain);
	bench_remove_tree(plain);
	cool(run);
	seconds_of[COPY_LARGE][round] = PROGRAM("cp", run->large, plain);
	bench_remove_tree(plain);
	if (mkdir(back, 0700) != 0)
		bench_die("%s: %s", back, strerror(errno));
	cool(run);
	seconds_of[GET][round] = SZPOOL(run, "get", run->store, "/large", back);
	(void)PROGRAM("cmp", run->large, back_file);
	bench_remove_tree(back);
	(void)SZPOOL(run, "rm", run->store, "/large");
}

static void tree_round(struct run *run, uint64_t round)
{
	CLEANUP_FREE char *copy = bench_path(run->folder, "copy");
	CLEANUP_FREE char *back = bench_path(run->folder, "back");
	CLEANUP_FREE char *back_tree = bench_path(back, "tree");
	char into[32];

	(void)snprintf(into, sizeof(into), "/round%llu", (unsigned long long)round);
	(void)PROGRAM("cp", "-r", run->tree, copy); /* warms the tree */
	bench_remove_tree(copy);
	sync();
	seconds_of[COPY_TREE][round] =
		PROGRAM("sh", "-c", "cp -r \"$1\" \"$2\" && sync -f \"$2\"", "sh", run->tree, copy);
	bench_remove_tree(copy);
	(void)SZPOOL(run, "mkdir", run->store, into);
	sync();
	seconds_of[PUT_TREE][round] = SZPOOL(run, "put", run->store, run->tree, into);
	cool(run);
	seconds_of[COPY_TREE_COLD][round] = PROGRAM("cp", "-r", run->tree, copy);
	bench_remove_tree(copy);
	if (mkdir(back, 0700) != 0)
		bench_die("%s: %s", back, strerror(errno));
	(void)strncat(into, "/tree", sizeof(into) - strlen(into) - 1);
	cool(run);
	seconds_of[GET_TREE][round] = SZPOOL(run, "get", run->store, into, back);
	(void)PROGRAM("diff", "-r", run->tree, back_tree);
	bench_remove_tree(back);
}

static double median(const struct run *run, enum figure figure)
{
	return bench_median(seconds_of[figure], (size_t)run->options->rounds);
}

/* dd and one of szpool's commands over the same bytes; cost: what szpool moves for each of them. */
struct comparison {
	const char *dd_name;
	const char *own_name;
	const char *spread_name;
	const char *best_name;
	const char *median_name;
	const char *net_name;
	double cost;
	const char *dd_text;
	const char *own_text;
	const char *aim;
};

static void compare(struct run *run, const struct comparison *names, struct passes *dd,
		    enum figure figure)
{
	const uint64_t bytes = run->options->size_mib * BENCH_MIB;
	/* A median sorts: the best comes first, the worst last. */
	double dd_median = bench_median(dd->seconds, dd->count);
	double own_median = median(run, figure);
	double own_best = seconds_of[figure][0];

	bench_result(names->dd_name, bench_mib_per_second(bytes, dd_median), names->dd_text);
	bench_result(names->spread_name, dd->seconds[dd->count - 1] / dd->seconds[0],
		     "its slowest pass / its fastest");
	bench_result(names->own_name, bench_mib_per_second(bytes, own_median), names->own_text);
	bench_result(names->best_name, dd->seconds[0] * names->cost / own_best, names->aim);
	bench_result(names->median_name, dd_median * names->cost / own_median, names->aim);
	bench_result(names->net_name, dd_median * names->cost / (own_median - median(run, OPEN)),
		     "of the medians, open_s taken off");
}

static const struct comparison writing = {
	.dd_name = "dd_write_mib_s",
	.own_name = "put_mib_s",
	.spread_name = "dd_write_spread",
	.best_name = "put_ratio_best",
	.median_name = "put_ratio_median",
	.net_name = "put_ratio_without_opening",
	.cost = RAID_COST,
	.dd_text = "dd bs=1M conv=fsync of the file, cached",
	.own_text = "szpool put of the same file",
	.aim = "to dd's figure / 1.5; aim: 0.6 or more",
};
static const struct comparison reading = {
	.dd_name = "dd_read_cold_mib_s",
	.own_name = "cat_cold_mib_s",
	.spread_name = "dd_read_spread",
	.best_name = "cat_ratio_best",
	.median_name = "cat_ratio_median",
	.net_name = "cat_ratio_without_opening",
	.cost = 1,
	.dd_text = "dd bs=1M to /dev/null, nothing cached",
	.own_text = "szpool cat to /dev/null, nothing cached",
	.aim = "to dd's figure; aim: 0.5 or more",
};

static void report(struct run *run, uint64_t tree_bytes)
{
	const uint64_t bytes = run->options->size_mib * BENCH_MIB;
	const double files = (double)run->options->files;

	bench_result("open_s", median(run, OPEN),
		     "ls of a folder: start, key derivation, import, close");
	compare(run, &writing, &run->dd_write, PUT);
	bench_result("put_sealed_ratio", median(run, PUT) / median(run, PUT_SEALED),
		     "put's seconds / those of one that is sealed every --seal-interval; aim: 0.9");
	compare(run, &reading, &run->dd_read, CAT);
	bench_result("cp_cold_mib_s", bench_mib_per_second(bytes, median(run, COPY_LARGE)),
		     "cp of the file, nothing cached, not synced");
	bench_result("get_cold_mib_s", bench_mib_per_second(bytes, median(run, GET)),
		     "szpool get of it to the same disk, nothing cached");
	bench_result("tree_mib", (double)tree_bytes / (double)BENCH_MIB, "the tree of small files");
	bench_result("cp_tree_files_s", files / median(run, COPY_TREE), "cp -r, and a sync");
	bench_result("put_tree_files_s", files / median(run, PUT_TREE),
		     "szpool put of it; aim: 1,000 or more");
	bench_result("cp_tree_cold_files_s", files / median(run, COPY_TREE_COLD),
		     "cp -r, nothing cached, not synced");
	bench_result("get_tree_cold_files_s", files / median(run, GET_TREE),
		     "szpool get of it, nothing cached");
	bench_result("peak_rss_mib", run->peak_mib,
		     "largest resident set of any szpool process; aim: below 600");
}

static void bench_pool(struct run *run)
{
	const struct options *options = run->options;
	uint64_t tree_bytes;

	bench_note("making a file of %llu MiB and a tree of %llu files",
		   (unsigned long long)options->size_mib, (unsigned long long)options->files);
	bench_make_file(run->large, options->size_mib * BENCH_MIB, 7);
	tree_bytes = make_tree(run->tree, options->files);
	sync();
	bench_note("%s", bench_drop_caches(run->folder));
	(void)SZPOOL(run, "create", run->store);
	for (uint64_t round = 0; round < options->rounds; round++) {
		bench_note("round %llu of %llu", (unsigned long long)round + 1,
			   (unsigned long long)options->rounds);
		seconds_of[OPEN][round] = SZPOOL(run, "ls", run->store, "/");
		large_round(run, round);
		tree_round(run, round);
	}
	report(run, tree_bytes);
}

static const char usage_text[] =
	"Usage: bench-pool [--folder DIR] [--szpool PROGRAM] [--size-mib N] [--files N]\n"
	"                  [--rounds N] [--seal-interval TIME] [--json]\n"
	"  --folder DIR      on the disk to measure; default: the current folder; needs about\n"
	"                    eight times --size-mib\n"
	"  --szpool PROGRAM  default: szpool, beside the folder of this program\n"
	"  --size-mib N      size of the large file; default 2048\n"
	"  --files N         number of small files; default 10000\n"
	"  --rounds N        figures are medians of so many rounds; default 3\n"
	"  --seal-interval TIME   of put_sealed_ratio; default 2s\n";

/* build/bench/bench-pool → build/szpool */
static char *default_szpool(void)
{
	char own[4096];
	ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;

	if (length < 0)
		bench_die("/proc/self/exe: %s", strerror(errno));
	own[length] = '\0';
	for (int i = 0; i < 2; i++) {
		slash = strrchr(own, '/');
		if (slash != NULL)
			*slash = '\0';
	}
	return bench_path(own, "szpool");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "folder", required_argument, NULL, 'f' },
		{ "szpool", required_argument, NULL, 'z' },
		{ "size-mib", required_argument, NULL, 's' },
		{ "files", required_argument, NULL, 'n' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seal-interval", required_argument, NULL, 'i' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	CLEANUP_FREE char *szpool = default_szpool();
	struct options options = { .folder = ".",
				   .szpool = szpool,
				   .size_mib = 2048,
				   .files = 10000,
				   .rounds = 3,
				   .seal_interval = "2s" };
	struct run run = { .options = &options };
	int choice;

	while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (choice) {
		case 'f':
			options.folder = optarg;
			break;
		case 'z':
			options.szpool = optarg;
			break;
		case 's':
			options.size_mib = bench_parse_count("--size-mib", optarg);
			break;
		case 'n':
			options.files = bench_parse_count("--files", optarg);
			break;
		case 'r':
			options.rounds = bench_parse_count("--rounds", optarg);
			break;
		case 'i':
			options.seal_interval = optarg;
			break;
		case 'j':
			bench_output_json(true);
			break;
		default:
			(void)fputs(usage_text, choice == 'h' ? stdout : stderr);
			return choice == 'h' ? 0 : 2;
		}
	}
	if (options.rounds > ROUNDS_MAX)
		bench_die("--rounds takes at most %d", ROUNDS_MAX);
	if (access(options.szpool, X_OK) != 0)
		bench_die("%s: %s (build it, or name it by --szpool)", options.szpool,
			  strerror(errno));
	run.folder = bench_make_folder(options.folder);
	make_passphrase(run.folder);
	make_state_folder(run.folder);
	run.store = bench_path(run.folder, "store");
	run.large = bench_path(run.folder, "large");
	run.tree = bench_path(run.folder, "tree");
	bench_pool(&run);
	free(run.store);
	free(run.large);
	free(run.tree);
	bench_finish();
	return 0;
}
