/*
 * bench-open: how long it takes to open a pool of 1 TiB (virtual), without the key derivation.
 *
 * The derivation is made to be slow and is the same for every store; it is timed apart, in the same
 * process, and taken off. Each round is a process of its own: libzpool starts once in a process.
 */
#include "bench.h"
#include "crypto/crypto.h"
#include "engine/engine.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICES     6
#define DATA_SHARES 4 /* of the six; the other two are parity */
#define ROUNDS_MAX  25
#define TIB_BYTES   ((uint64_t)1 << 40)

static const struct sz_passphrase passphrase = { "benchmark", 9 };

/* What a child measures, in seconds, handed to the parent through a pipe. */
struct times {
	double derive;
	double start;
	double open;
	double import;
	double close;
	double peak_mib;
};

static void check(const char *what, int rc, const struct sz_error *error)
{
	if (rc != 0)
		bench_die("%s: %s: %s", what, strerror(-rc), error->text);
}

static double lap(uint64_t *at_ns)
{
	double seconds = bench_seconds_since(*at_ns);

	*at_ns = sz_clock_ns();
	return seconds;
}

/* What opening a store of the default preset derives: it tries those before it, too. */
static double derive_once(void)
{
	uint8_t salt[SZ_KDF_SALT_BYTES] = { 0 };
	uint8_t key[SZ_KEY_BYTES];
	uint64_t start_ns = sz_clock_ns();
	size_t count;
	const enum sz_kdf *presets = sz_kdf_presets(&count);

	for (size_t i = 0; i < count; i++) {
		int rc = sz_kdf_derive(presets[i], passphrase.bytes, passphrase.length, salt, key);

		if (rc != 0)
			bench_die("key derivation: %s", strerror(-rc));
		if (presets[i] == SZ_KDF_MODERATE)
			break;
	}
	return bench_seconds_since(start_ns);
}

static void crypto_start(void)
{
	struct sz_error error = { 0 };

	check("crypto", sz_crypto_init(&error), &error);
}

static struct times create(const char *path)
{
	const struct sz_store_create how = {
		.device_count = DEVICES,
		.device_sectors = TIB_BYTES / DATA_SHARES / SZ_SECTOR_BYTES,
		.parity = DEVICES - DATA_SHARES,
		.kdf = SZ_KDF_MODERATE,
		.path = path,
	};
	const struct sz_store_open open_how = { .path = path };
	struct sz_error error = { 0 };
	struct times times = { 0 };
	struct sz_store *store;
	struct sz_pool *pool;

	crypto_start();
	check("store", sz_store_create(&how, &passphrase, &error), &error);
	check("store", sz_store_open(&open_how, &passphrase, &store, &error), &error);
	check("engine", sz_engine_start(0, &error), &error);
	check("pool", sz_pool_create(store, SZ_RAID_Z2, NULL, 0, &pool, &error), &error);
	check("pool", sz_pool_export(pool, &error), &error);
	check("store", sz_store_close(store, &error), &error);
	return times;
}

static struct times open_once(const char *path)
{
	const struct sz_store_open how = { .path = path };
	struct sz_error error = { 0 };
	struct times times;
	struct sz_store *store;
	struct sz_pool *pool;
	uint64_t at_ns;

	crypto_start();
	times.derive = derive_once();
	at_ns = sz_clock_ns();
	check("store", sz_store_open(&how, &passphrase, &store, &error), &error);
	times.open = lap(&at_ns);
	check("engine", sz_engine_start(0, &error), &error);
	times.start = lap(&at_ns);
	check("pool", sz_pool_import(store, false, &pool, &error), &error);
	times.import = lap(&at_ns);
	check("pool", sz_pool_export(pool, &error), &error);
	check("store", sz_store_close(store, &error), &error);
	times.close = lap(&at_ns);
	times.peak_mib = bench_own_peak_mib();
	return times;
}

/* Runs a function in a child, before any thread was started here. */
static struct times in_child(struct times (*function)(const char *), const char *path)
{
	struct times times = { 0 };
	size_t done = 0;
	int status = 0;
	int pipe_fds[2];
	pid_t pid;

	if (pipe(pipe_fds) != 0 || (pid = fork()) < 0)
		bench_die("fork: %s", strerror(errno));
	if (pid == 0) {
		times = function(path);
		_exit(sz_write(pipe_fds[1], &times, sizeof(times)) == 0 ? 0 : 1);
	}
	(void)close(pipe_fds[1]);
	if (sz_read(pipe_fds[0], &times, sizeof(times), &done) != 0 || done != sizeof(times) ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		bench_die("a child process failed");
	(void)close(pipe_fds[0]);
	return times;
}

static const char usage_text[] =
	"Usage: bench-open [--folder DIR] [--rounds N] [--json]\n"
	"  --folder DIR  on the disk to measure; default: the current folder\n"
	"  --rounds N    figures are medians of so many rounds, each with nothing cached; default 5\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "folder", required_argument, NULL, 'f' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	double derive[ROUNDS_MAX];
	double start[ROUNDS_MAX];
	double open[ROUNDS_MAX];
	double import[ROUNDS_MAX];
	double net[ROUNDS_MAX];
	double closing[ROUNDS_MAX];
	CLEANUP_FREE char *path = NULL;
	const char *parent = ".";
	uint64_t rounds = 5;
	double peak_mib = 0;
	const char *folder;
	int choice;

	while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (choice) {
		case 'f':
			parent = optarg;
			break;
		case 'r':
			rounds = bench_parse_count("--rounds", optarg);
			break;
		case 'j':
			bench_output_json(true);
			break;
		default:
			(void)fputs(usage_text, choice == 'h' ? stdout : stderr);
			return choice == 'h' ? 0 : 2;
		}
	}
	if (rounds > ROUNDS_MAX)
		bench_die("--rounds takes at most %d", ROUNDS_MAX);
	folder = bench_make_folder(parent);
	path = bench_path(folder, "store");
	(void)in_child(create, path);
	for (uint64_t round = 0; round < rounds; round++) {
		const char *dropped = bench_drop_caches(folder);
		struct times times = in_child(open_once, path);

		if (round == 0)
			bench_note("%s", dropped);
		derive[round] = times.derive;
		start[round] = times.start;
		open[round] = times.open;
		import[round] = times.import;
		closing[round] = times.close;
		net[round] = times.start + times.open + times.import - times.derive;
		if (times.peak_mib > peak_mib)
			peak_mib = times.peak_mib;
	}
	bench_result("key_derivation_s", bench_median(derive, rounds),
		     "Argon2id: the presets that are tried, up to the default");
	bench_result("store_open_s", bench_median(open, rounds),
		     "the store, key derivation included");
	bench_result("engine_start_s", bench_median(start, rounds), "libzpool");
	bench_result("import_s", bench_median(import, rounds), "the pool");
	bench_result("open_without_derivation_s", bench_median(net, rounds),
		     "all three less the derivation; aim: below 1");
	bench_result("close_s", bench_median(closing, rounds), "export, seal, close");
	bench_result("peak_rss_mib", peak_mib, "largest resident set");
	bench_finish();
	return 0;
}
