/*
 * bench-device: the device by itself, no ZFS above it, beside a plain file on the same disk.
 *
 * One device, in a store of its own. The plain file's figures are taken in the same run, right before
 * the device's: machines change from hour to hour. What is read is checked: each sector
 * carries its number and the round in which it was written.
 */
#include "device/device.h"
#include "bench.h"
#include "crypto/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define PIECE_SECTORS 256U /* 1 MiB: the record size of the pool above */
#define PIECE_BYTES   ((size_t)PIECE_SECTORS * SZ_SECTOR_BYTES)
#define THREADS_MAX   64
#define SAMPLES_MAX   100000
#define PLAIN_PASSES  3 /* of dd: the fastest counts */

struct options {
	const char *folder;
	uint64_t size_mib;
	uint64_t seconds; /* of random writes */
	uint64_t threads;
};

static const struct sz_passphrase passphrase = { "benchmark", 9 };

static void sector_stamp(uint8_t *at, uint64_t sector, uint64_t round)
{
	sz_put_le64(at, sector);
	sz_put_le64(at + 8, round);
}

static void sector_check(const uint8_t *at, uint64_t sector, uint64_t round)
{
	if (sz_get_le64(at) != sector || sz_get_le64(at + 8) != round)
		bench_die("sector %llu does not hold what was written", (unsigned long long)sector);
}

/* A pass over the whole device by several threads, each taking the next piece that nobody has. */
struct pass {
	struct sz_device *device;
	uint64_t piece_count;
	uint64_t round;
	bool is_write;
	atomic_uint_fast64_t next_piece;
	atomic_int failure;
};

static int piece_move(struct pass *pass, uint64_t piece, uint8_t *buffer)
{
	uint64_t sector = piece * PIECE_SECTORS;
	int rc;

	if (pass->is_write) {
		for (uint32_t i = 0; i < PIECE_SECTORS; i++)
			sector_stamp(buffer + (size_t)i * SZ_SECTOR_BYTES, sector + i, pass->round);
		return sz_device_write(pass->device, sector, PIECE_SECTORS, buffer);
	}
	rc = sz_device_read(pass->device, sector, PIECE_SECTORS, buffer);
	for (uint32_t i = 0; rc == 0 && i < PIECE_SECTORS; i++)
		sector_check(buffer + (size_t)i * SZ_SECTOR_BYTES, sector + i, pass->round);
	return rc;
}

static void *pass_work(void *context)
{
	struct pass *pass = context;
	struct bench_random random = { .state = 1 };
	CLEANUP_FREE uint8_t *buffer = aligned_alloc(SZ_SECTOR_BYTES, PIECE_BYTES);

	if (buffer == NULL) {
		atomic_store(&pass->failure, -ENOMEM);
		return NULL;
	}
	bench_random_fill(&random, buffer, PIECE_BYTES);
	while (atomic_load(&pass->failure) == 0) {
		uint64_t piece = atomic_fetch_add(&pass->next_piece, 1);
		int rc;

		if (piece >= pass->piece_count)
			break;
		rc = piece_move(pass, piece, buffer);
		if (rc != 0)
			atomic_store(&pass->failure, rc);
	}
	return NULL;
}

static void pass_run(const struct options *options, struct sz_device *device, bool is_write,
		     uint64_t round)
{
	struct pass pass = {
		.device = device,
		.piece_count = options->size_mib * BENCH_MIB / PIECE_BYTES,
		.round = round,
		.is_write = is_write,
	};
	pthread_t threads[THREADS_MAX];

	for (uint64_t i = 0; i < options->threads; i++) {
		if (pthread_create(&threads[i], NULL, pass_work, &pass) != 0)
			bench_die("cannot start a thread");
	}
	for (uint64_t i = 0; i < options->threads; i++)
		(void)pthread_join(threads[i], NULL);
	if (atomic_load(&pass.failure) != 0)
		bench_die("%s: %s", is_write ? "write" : "read",
			  strerror(-atomic_load(&pass.failure)));
}

static double write_pass(const struct options *options, struct sz_device *device, uint64_t round)
{
	uint64_t start_ns = sz_clock_ns();
	int rc;

	pass_run(options, device, true, round);
	rc = sz_device_flush(device);
	if (rc != 0)
		bench_die("flush: %s", strerror(-rc));
	return bench_mib_per_second(options->size_mib * BENCH_MIB, bench_seconds_since(start_ns));
}

static double read_pass(const struct options *options, struct sz_device *device, uint64_t round)
{
	uint64_t start_ns = sz_clock_ns();

	pass_run(options, device, false, round);
	return bench_mib_per_second(options->size_mib * BENCH_MIB, bench_seconds_since(start_ns));
}

/* Random 4 KiB writes, each made durable before the next: what a database, or the ZIL, does. */
typedef int write_fn(void *context, uint64_t sector, const uint8_t *data);

struct random_writes {
	double per_second;
	double median_ms;
	double worst_percent_ms; /* 99 of 100 are faster */
};

static int write_to_device(void *context, uint64_t sector, const uint8_t *data)
{
	int rc = sz_device_write(context, sector, 1, data);

	return rc != 0 ? rc : sz_device_flush(context);
}

static int write_to_file(void *context, uint64_t sector, const uint8_t *data)
{
	int fd = *(const int *)context;
	int rc = sz_pwrite(fd, data, SZ_SECTOR_BYTES, sector * SZ_SECTOR_BYTES);

	return rc != 0 ? rc : fdatasync(fd) != 0 ? -errno : 0;
}

static struct random_writes random_writes(const struct options *options, write_fn *function,
					  void *context, uint64_t round)
{
	CLEANUP_FREE double *samples = calloc(SAMPLES_MAX, sizeof(*samples));
	struct bench_random random = { .state = round };
	uint8_t data[SZ_SECTOR_BYTES];
	uint64_t start_ns = sz_clock_ns();
	struct random_writes result;
	double seconds = 0;
	size_t count = 0;

	if (samples == NULL)
		bench_die("no memory");
	bench_random_fill(&random, data, sizeof(data));
	while (count < SAMPLES_MAX && seconds < (double)options->seconds) {
		uint64_t sector = bench_random_next(&random) %
				  (options->size_mib * BENCH_MIB / SZ_SECTOR_BYTES);
		uint64_t write_ns = sz_clock_ns();
		int rc;

		/* It keeps the round of the pass before: reading checks that. */
		sector_stamp(data, sector, round);
		rc = function(context, sector, data);
		if (rc != 0)
			bench_die("random write: %s", strerror(-rc));
		samples[count++] = bench_seconds_since(write_ns) * 1e3;
		seconds = bench_seconds_since(start_ns);
	}
	result.per_second = (double)count / seconds;
	result.median_ms = bench_median(samples, count);
	result.worst_percent_ms = samples[count * 99 / 100];
	return result;
}

static void bench_plain(const struct options *options, const char *folder)
{
	const uint64_t bytes = options->size_mib * BENCH_MIB;
	CLEANUP_FREE char *source = bench_path(folder, "source");
	CLEANUP_FREE char *plain = bench_path(folder, "plain");
	CLEANUP_FREE char *from_source = NULL;
	CLEANUP_FREE char *to_plain = NULL;
	CLEANUP_FREE char *from_plain = NULL;
	struct bench_best write = { 0 };
	struct bench_best read = { 0 };
	struct random_writes writes;
	struct bench_usage usage;
	int fd;

	if (asprintf(&from_source, "if=%s", source) < 0 ||
	    asprintf(&to_plain, "of=%s", plain) < 0 || asprintf(&from_plain, "if=%s", plain) < 0)
		bench_die("no memory");
	bench_note("a plain file beside it, %llu MiB", (unsigned long long)options->size_mib);
	bench_make_file(source, bytes, 1);
	sync();
	for (unsigned int i = 0; i < PLAIN_PASSES; i++) {
		(void)unlink(plain);
		sync();
		usage = bench_run((const char *const[]){ "dd", from_source, to_plain, "bs=1M",
							 "conv=fsync", "status=none", NULL });
		bench_best_add(&write, usage.seconds);
	}
	bench_result("dd_write_mib_s", bench_mib_per_second(bytes, write.seconds),
		     "dd bs=1M conv=fsync of a cached file of random bytes: fastest of three");
	bench_result("dd_write_spread", bench_best_spread(&write), "slowest / fastest");
	bench_remove_tree(source);
	for (unsigned int i = 0; i < PLAIN_PASSES; i++) {
		const char *dropped = bench_drop_caches(folder);

		if (i == 0)
			bench_note("%s", dropped);
		usage = bench_run((const char *const[]){ "dd", from_plain, "of=/dev/null", "bs=1M",
							 "status=none", NULL });
		bench_best_add(&read, usage.seconds);
	}
	bench_result("dd_read_cold_mib_s", bench_mib_per_second(bytes, read.seconds),
		     "dd bs=1M to /dev/null, nothing cached: fastest of three");
	bench_result("dd_read_spread", bench_best_spread(&read), "slowest / fastest");
	fd = open(plain, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		bench_die("%s: %s", plain, strerror(errno));
	writes = random_writes(options, write_to_file, &fd, 1);
	(void)close(fd);
	bench_result("plain_random_4k_per_s", writes.per_second,
		     "4 KiB in place at random offsets of the plain file, each with fdatasync");
	bench_result("plain_random_4k_median_ms", writes.median_ms, "");
	bench_result("plain_random_4k_p99_ms", writes.worst_percent_ms, "");
	bench_remove_tree(plain);
}

static struct sz_store *store_open(const char *path)
{
	const struct sz_store_open how = { .path = path };
	struct sz_store *store = NULL;
	struct sz_error error = { 0 };
	int rc = sz_store_open(&how, &passphrase, &store, &error);

	if (rc != 0)
		bench_die("opening the store: %s: %s", strerror(-rc), error.text);
	return store;
}

static void bench_seal(struct sz_store *store, const char *name, const char *explanation)
{
	uint64_t start_ns = sz_clock_ns();
	struct sz_error error = { 0 };
	int rc = sz_store_seal(store, &error);

	if (rc != 0)
		bench_die("seal: %s: %s", strerror(-rc), error.text);
	bench_result(name, bench_seconds_since(start_ns), explanation);
}

static void store_close(struct sz_store *store)
{
	struct sz_error error = { 0 };
	int rc = sz_store_close(store, &error);

	if (rc != 0)
		bench_die("closing the store: %s: %s", strerror(-rc), error.text);
}

static void bench_device(const struct options *options, const char *folder)
{
	CLEANUP_FREE char *path = bench_path(folder, "store");
	const struct sz_store_create how = {
		.device_count = 1,
		.device_sectors = options->size_mib * BENCH_MIB / SZ_SECTOR_BYTES,
		.kdf = SZ_KDF_INTERACTIVE,
		.path = path,
	};
	struct sz_error error = { 0 };
	struct random_writes writes;
	struct sz_device *device;
	struct sz_store *store;
	int rc = sz_store_create(&how, &passphrase, &error);

	if (rc != 0)
		bench_die("creating a store: %s: %s", strerror(-rc), error.text);
	bench_note("a device of %llu MiB, %llu threads", (unsigned long long)options->size_mib,
		   (unsigned long long)options->threads);
	store = store_open(path);
	device = sz_store_device(store, 0);
	bench_result("write_mib_s", write_pass(options, device, 1),
		     "first write of every sector, 1 MiB at a time, with a flush at the end");
	bench_seal(store, "write_seal_s", "seal after it: bands finished, everything durable");
	bench_note("%s", bench_drop_caches(folder));
	bench_result("read_cold_mib_s", read_pass(options, device, 1),
		     "every sector read and authenticated, nothing cached");
	bench_result("read_hot_mib_s", read_pass(options, device, 1), "the same again");
	bench_result("rewrite_mib_s", write_pass(options, device, 2),
		     "every sector once more: through the log");
	bench_seal(store, "rewrite_seal_s", "seal after it: the log becomes a delta");
	writes = random_writes(options, write_to_device, device, 2);
	bench_result("random_4k_per_s", writes.per_second, "4 KiB at random, each with a flush");
	bench_result("random_4k_median_ms", writes.median_ms, "");
	bench_result("random_4k_p99_ms", writes.worst_percent_ms, "");
	store_close(store);
	store = store_open(path);
	device = sz_store_device(store, 0);
	bench_note("%s", bench_drop_caches(folder));
	bench_result("reread_cold_mib_s", read_pass(options, device, 2),
		     "the same read after all this, reopened: from deltas");
	store_close(store);
	bench_result("peak_rss_mib", bench_own_peak_mib(), "largest resident set of this program");
}

static const char usage_text[] =
	"Usage: bench-device [--folder DIR] [--size-mib N] [--threads N] [--seconds N] [--json]\n"
	"  --folder DIR   on the disk to measure; default: the current folder\n"
	"  --size-mib N   size of the device and of the plain file; default 1024\n"
	"  --threads N    that read and write; default: one for each core\n"
	"  --seconds N    of random writes; default 5\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "folder", required_argument, NULL, 'f' },
		{ "size-mib", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' },
		{ "seconds", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = {
		.folder = ".",
		.size_mib = 1024,
		.seconds = 5,
		.threads = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN),
	};
	struct sz_error error = { 0 };
	const char *folder;
	int choice;

	while ((choice = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (choice) {
		case 'f':
			options.folder = optarg;
			break;
		case 's':
			options.size_mib = bench_parse_count("--size-mib", optarg);
			break;
		case 't':
			options.threads = bench_parse_count("--threads", optarg);
			break;
		case 'd':
			options.seconds = bench_parse_count("--seconds", optarg);
			break;
		case 'j':
			bench_output_json(true);
			break;
		default:
			(void)fputs(usage_text, choice == 'h' ? stdout : stderr);
			return choice == 'h' ? 0 : 2;
		}
	}
	if (options.threads > THREADS_MAX)
		options.threads = THREADS_MAX;
	if (sz_crypto_init(&error) != 0)
		bench_die("%s", error.text);
	folder = bench_make_folder(options.folder);
	bench_plain(&options, folder);
	bench_device(&options, folder);
	bench_finish();
	return 0;
}
