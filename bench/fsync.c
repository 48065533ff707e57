/*
 * bench-fsync: how long a small write takes until it is on disk: by the intent log (sz_fs_fsync), by a
 * transaction group (sz_pool_sync), and by an fdatasync of a plain file on the same disk. One after the
 * other in each round, so that all meet the same disk.
 */
#include "bench.h"
#include "crypto/crypto.h"
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#define DEVICES     6
#define PARITY      2
#define SECTORS     65536
#define ROUNDS_MAX  2000U
#define WRITE_BYTES 4096U

static const struct sz_passphrase passphrase = { "benchmark", 9 };

struct files {
	struct sz_store *store;
	struct sz_pool *pool;
	struct sz_fs *fs;
	uint64_t file;
	int plain;
};

static void check(const char *what, int rc, const struct sz_error *error)
{
	if (rc != 0)
		bench_die("%s: %s: %s", what, strerror(-rc), error->text);
}

static void files_open(const char *folder, struct files *files)
{
	CLEANUP_FREE char *path = bench_path(folder, "store");
	CLEANUP_FREE char *plain = bench_path(folder, "plain");
	const struct sz_store_create how = {
		.device_count = DEVICES,
		.device_sectors = SECTORS,
		.parity = PARITY,
		.kdf = SZ_KDF_MODERATE,
		.path = path,
	};
	const struct sz_store_open open_how = { .path = path };
	const struct sz_fs_new new = { .mode = S_IFREG | 0600 };
	struct sz_error error = { 0 };

	check("crypto", sz_crypto_init(&error), &error);
	check("store", sz_store_create(&how, &passphrase, &error), &error);
	check("store", sz_store_open(&open_how, &passphrase, &files->store, &error), &error);
	check("engine", sz_engine_start(0, &error), &error);
	check("pool", sz_pool_create(files->store, SZ_RAID_Z2, NULL, 0, &files->pool, &error),
	      &error);
	check("file system", sz_fs_format(files->pool, NULL, 0, 0, &error), &error);
	check("file system", sz_fs_open(files->pool, NULL, false, &files->fs, &error), &error);
	check("file", sz_fs_create(files->fs, sz_fs_root(files->fs), "file", &new, &files->file),
	      &error);
	files->plain = open(plain, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (files->plain < 0)
		bench_die("%s: %s", plain, strerror(errno));
}

static void files_close(struct files *files)
{
	struct sz_error error = { 0 };

	(void)close(files->plain);
	sz_fs_close(files->fs);
	check("pool", sz_pool_export(files->pool, &error), &error);
	check("store", sz_store_close(files->store, &error), &error);
}

static double write_and(struct files *files, const void *data, uint64_t round, bool by_log)
{
	struct sz_error error = { 0 };
	uint64_t start_ns = sz_clock_ns();

	check("write", sz_fs_write(files->fs, files->file, data, WRITE_BYTES, round * WRITE_BYTES),
	      &error);
	if (by_log)
		check("fsync", sz_fs_fsync(files->fs, files->file), &error);
	else
		check("sync", sz_pool_sync(files->pool, &error), &error);
	return bench_seconds_since(start_ns);
}

static double write_plain(struct files *files, const void *data, uint64_t round)
{
	uint64_t start_ns = sz_clock_ns();

	if (sz_pwrite(files->plain, data, WRITE_BYTES, round * WRITE_BYTES) != 0 ||
	    fdatasync(files->plain) != 0)
		bench_die("plain file: %s", strerror(errno));
	return bench_seconds_since(start_ns);
}

static const char usage_text[] =
	"Usage: bench-fsync [--folder DIR] [--rounds N] [--json]\n"
	"  --folder DIR  on the disk to measure; default: the current folder\n"
	"  --rounds N    so many writes of each kind; default 100\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "folder", required_argument, NULL, 'f' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static double seconds[3][ROUNDS_MAX];
	static uint8_t data[WRITE_BYTES];
	struct files files;
	const char *parent = ".";
	uint64_t rounds = 100;
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
		bench_die("--rounds takes at most %u", ROUNDS_MAX);
	files_open(bench_make_folder(parent), &files);
	/* The first makes the log. */
	(void)write_and(&files, data, 0, true);
	for (uint64_t round = 0; round < rounds; round++) {
		seconds[0][round] = write_and(&files, data, round, true);
		seconds[1][round] = write_and(&files, data, round, false);
		seconds[2][round] = write_plain(&files, data, round);
	}
	files_close(&files);
	bench_result("fsync_ms", 1000 * bench_median(seconds[0], rounds),
		     "4 KiB written and synced by the intent log");
	bench_result("fsync_p90_ms", 1000 * seconds[0][rounds * 9 / 10], "of ten, the slowest");
	bench_result("txg_ms", 1000 * bench_median(seconds[1], rounds),
		     "the same by a transaction group");
	bench_result("txg_p90_ms", 1000 * seconds[1][rounds * 9 / 10], "of ten, the slowest");
	bench_result("plain_ms", 1000 * bench_median(seconds[2], rounds),
		     "the same into a plain file, by fdatasync");
	bench_finish();
	return 0;
}
