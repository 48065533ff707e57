/*
 * bench-pool: the program as people use it, put and get, beside dd and cp on the same disk.
 *
 * Everything counts: the start of the process, the key derivation, opening, closing. open_s says how
 * much of each command that is. RAID-Z2 over 4 + 2 devices writes 1.5 bytes for each byte that is
 * put, so the ratios of writes are to dd's figure divided by 1.5: what the disk could do at best.
 * Each round measures dd and szpool one right after the other; the figures are medians of rounds.
 * What comes back is compared with what was put.
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
	uint64_t files;
	uint64_t rounds;
};

struct run {
	const struct options *options;
	const char *folder;
	char *store;
	char *large; /* the file, and the tree, that are put */
	char *tree;
	double peak_mib;
};

/* Values of the rounds, by figure. */
enum figure {
	DD_WRITE,
	DD_READ,
	PUT,
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

static void large_round(struct run *run, uint64_t round)
{
	CLEANUP_FREE char *plain = bench_path(run->folder, "plain");
	CLEANUP_FREE char *from_large = operand("if=", run->large);
	CLEANUP_FREE char *from_plain = operand("if=", plain);
	CLEANUP_FREE char *to_plain = operand("of=", plain);
	CLEANUP_FREE char *back = bench_path(run->folder, "back");
	CLEANUP_FREE char *back_file = bench_path(back, "large");

	warm(run->large);
	seconds_of[DD_WRITE][round] =
		PROGRAM("dd", from_large, to_plain, "bs=1M", "conv=fsync", "status=none");
	sync();
	seconds_of[PUT][round] = SZPOOL(run, "put", run->store, run->large, "/");
	cool(run);
	seconds_of[DD_READ][round] =
		PROGRAM("dd", from_plain, "of=/dev/null", "bs=1M", "status=none");
	cool(run);
	seconds_of[CAT][round] = SZPOOL(run, "cat", run->store, "/large");
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

static void report(const struct run *run, uint64_t tree_bytes)
{
	const uint64_t bytes = run->options->size_mib * BENCH_MIB;
	const double files = (double)run->options->files;
	double open_s = median(run, OPEN);
	double put_s = median(run, PUT);
	double cat_s = median(run, CAT);
	double dd_write_s = median(run, DD_WRITE);
	double dd_read_s = median(run, DD_READ);

	bench_result("open_s", open_s, "ls of a folder: start, key derivation, import, close");
	bench_result("dd_write_mib_s", bench_mib_per_second(bytes, dd_write_s),
		     "dd bs=1M conv=fsync of the file, cached");
	bench_result("put_mib_s", bench_mib_per_second(bytes, put_s),
		     "szpool put of the same file");
	bench_result("put_ratio", dd_write_s * RAID_COST / put_s,
		     "to dd's figure / 1.5; aim: 0.6 or more");
	bench_result("put_ratio_without_opening", dd_write_s * RAID_COST / (put_s - open_s),
		     "the same, open_s taken off");
	bench_result("dd_read_cold_mib_s", bench_mib_per_second(bytes, dd_read_s),
		     "dd bs=1M to /dev/null, nothing cached");
	bench_result("cat_cold_mib_s", bench_mib_per_second(bytes, cat_s),
		     "szpool cat to /dev/null, nothing cached");
	bench_result("cat_ratio", dd_read_s / cat_s, "to dd's figure; aim: 0.5 or more");
	bench_result("cat_ratio_without_opening", dd_read_s / (cat_s - open_s),
		     "the same, open_s taken off");
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
	"                  [--rounds N] [--json]\n"
	"  --folder DIR      on the disk to measure; default: the current folder; needs about\n"
	"                    six times --size-mib\n"
	"  --szpool PROGRAM  default: szpool, beside the folder of this program\n"
	"  --size-mib N      size of the large file; default 2048\n"
	"  --files N         number of small files; default 10000\n"
	"  --rounds N        figures are medians of so many rounds; default 3\n";

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
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	CLEANUP_FREE char *szpool = default_szpool();
	struct options options = {
		.folder = ".", .szpool = szpool, .size_mib = 2048, .files = 10000, .rounds = 3
	};
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
