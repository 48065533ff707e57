/*
 * bench-seal: how long writers wait for a seal. Threads write at full speed to a store of six devices, as
 * ZFS does: large pieces that go on, small ones here and there, a flush now and then. First for a
 * while without seals, then with one every second: what a write call takes in both is set side by side,
 * because a disk that is busy makes calls wait as well.
 *
 * For each seal, the longest of the write calls that overlap it is the longest that a writer can have
 * waited for it.
 */
#include "bench.h"
#include "crypto/crypto.h"
#include "device/device.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define DEVICES       6U
#define LARGE_SECTORS 64U /* 256 KiB: what RAID-Z2 gives each of six devices of a record of 1 MiB */
#define SMALL_EVERY   8U  /* one write in so many is of one sector */
#define FLUSH_EVERY   512U
#define THREADS_MAX   16
#define SAMPLES_MAX   ((size_t)1 << 21) /* of a thread; 32 MiB */
#define SEALS_MAX     10000

struct options {
	const char *folder;
	uint64_t size_mib; /* of all devices */
	uint64_t seconds;  /* of each phase */
	uint64_t threads;
	uint64_t seal_ms;
};

static const struct sz_passphrase passphrase = { "benchmark", 9 };

struct span {
	uint64_t start_ns;
	uint64_t end_ns;
};

struct spans {
	struct span *at;
	size_t count;
};

struct seals {
	struct spans spans;
	double *pauses_ms; /* of each, as the store has measured it */
};

struct writer {
	struct load *load;
	uint64_t number;
	struct spans writes;
	uint64_t bytes;
};

struct load {
	struct sz_store *store;
	uint64_t device_sectors;
	atomic_uint_fast64_t
		next_piece; /* goes on from phase to phase: bands first, then rewrites */
	atomic_bool is_over;
	struct writer writers[THREADS_MAX];
};

static void span_add(struct spans *spans, size_t most, uint64_t start_ns)
{
	if (spans->count == most)
		bench_die("too many writes: take fewer --seconds");
	spans->at[spans->count++] = (struct span){ start_ns, sz_clock_ns() };
}

static void check(int rc, const char *what)
{
	if (rc != 0)
		bench_die("%s: %s", what, strerror(-rc));
}

static void write_one(struct writer *writer, struct bench_random *random, uint8_t *buffer)
{
	struct load *load = writer->load;
	uint64_t piece = atomic_fetch_add(&load->next_piece, 1);
	struct sz_device *device = sz_store_device(load->store, (uint32_t)(piece % DEVICES));
	uint64_t pieces = load->device_sectors / LARGE_SECTORS;
	bool is_small = bench_random_next(random) % SMALL_EVERY == 0;
	uint64_t sector = is_small ? bench_random_next(random) % load->device_sectors
				   : piece / DEVICES % pieces * LARGE_SECTORS;
	uint32_t count = is_small ? 1 : LARGE_SECTORS;
	uint64_t start_ns;

	bench_random_fill(random, buffer, 64);
	start_ns = sz_clock_ns();
	check(sz_device_write(device, sector, count, buffer), "write");
	span_add(&writer->writes, SAMPLES_MAX, start_ns);
	writer->bytes += (uint64_t)count * SZ_SECTOR_BYTES;
	if (piece % FLUSH_EVERY == 0)
		check(sz_device_flush(device), "flush");
}

static void *writer_run(void *context)
{
	struct writer *writer = context;
	struct bench_random random = { .state = writer->number };
	CLEANUP_FREE uint8_t *buffer = malloc((size_t)LARGE_SECTORS * SZ_SECTOR_BYTES);

	if (buffer == NULL)
		bench_die("no memory");
	bench_random_fill(&random, buffer, (size_t)LARGE_SECTORS * SZ_SECTOR_BYTES);
	while (!atomic_load(&writer->load->is_over))
		write_one(writer, &random, buffer);
	return NULL;
}

/* Seals on time, or one after the other if they take longer than that. */
static void seals_run(const struct options *options, struct load *load, struct seals *seals)
{
	uint64_t begin_ns = sz_clock_ns();

	while (bench_seconds_since(begin_ns) < (double)options->seconds) {
		uint64_t start_ns = sz_clock_ns();
		struct sz_error error = { 0 };
		struct sz_store_info info;
		uint64_t wait_ns = options->seal_ms * 1000000;
		uint64_t took_ns;

		if (seals != NULL) {
			if (sz_store_seal(load->store, &error) != 0)
				bench_die("seal: %s", error.text);
			span_add(&seals->spans, SEALS_MAX, start_ns);
			sz_store_info(load->store, &info);
			seals->pauses_ms[seals->spans.count - 1] = (double)info.seal_pause_ns / 1e6;
		}
		took_ns = sz_clock_ns() - start_ns;
		if (took_ns < wait_ns) {
			struct timespec pause = {
				.tv_sec = (time_t)((wait_ns - took_ns) / 1000000000),
				.tv_nsec = (long)((wait_ns - took_ns) % 1000000000),
			};

			(void)nanosleep(&pause, NULL);
		}
	}
}

static double span_ms(const struct span *span)
{
	return (double)(span->end_ns - span->start_ns) / 1e6;
}

static void percentiles(const char *name, const char *what, double *values, size_t count)
{
	char text[64];

	if (count == 0)
		return;
	(void)snprintf(text, sizeof(text), "%s_p50_ms", name);
	bench_result(text, bench_median(values, count), what);
	(void)snprintf(text, sizeof(text), "%s_p99_ms", name);
	bench_result(text, values[count * 99 / 100], "");
	(void)snprintf(text, sizeof(text), "%s_max_ms", name);
	bench_result(text, values[count - 1], "");
}

static void report_writes(const char *name, const struct options *options, const struct load *load)
{
	CLEANUP_FREE double *values = NULL;
	uint64_t bytes = 0;
	size_t count = 0;
	char text[64];

	for (uint64_t i = 0; i < options->threads; i++)
		count += load->writers[i].writes.count;
	values = calloc(count + 1, sizeof(*values));
	if (values == NULL)
		bench_die("no memory");
	count = 0;
	for (uint64_t i = 0; i < options->threads; i++) {
		const struct writer *writer = &load->writers[i];

		bytes += writer->bytes;
		for (size_t j = 0; j < writer->writes.count; j++)
			values[count++] = span_ms(&writer->writes.at[j]);
	}
	(void)snprintf(text, sizeof(text), "%s_mib_s", name);
	bench_result(text, bench_mib_per_second(bytes, (double)options->seconds),
		     "written by all threads");
	(void)snprintf(text, sizeof(text), "%s_write", name);
	percentiles(text, "a write call", values, count);
}

/* The longest write that overlaps a seal. */
static double longest_ms(const struct options *options, const struct load *load,
			 const struct span *seal)
{
	double longest = 0;

	for (uint64_t i = 0; i < options->threads; i++) {
		const struct spans *writes = &load->writers[i].writes;

		for (size_t j = 0; j < writes->count; j++) {
			const struct span *write = &writes->at[j];

			if (write->start_ns < seal->end_ns && write->end_ns > seal->start_ns &&
			    span_ms(write) > longest)
				longest = span_ms(write);
		}
	}
	return longest;
}

static void report_seals(const struct options *options, const struct load *load,
			 const struct seals *seals)
{
	size_t count = seals->spans.count;
	CLEANUP_FREE double *lengths = calloc(count + 1, sizeof(*lengths));
	CLEANUP_FREE double *waits = calloc(count + 1, sizeof(*waits));

	if (lengths == NULL || waits == NULL)
		bench_die("no memory");
	for (size_t i = 0; i < count; i++) {
		lengths[i] = span_ms(&seals->spans.at[i]);
		waits[i] = longest_ms(options, load, &seals->spans.at[i]);
	}
	bench_result("seals", (double)count, "");
	percentiles("seal", "a seal, while writers run on", lengths, count);
	percentiles("seal_pause", "its gate: from wanting the first lock to opening",
		    seals->pauses_ms, count);
	percentiles("longest_write_in_seal", "the longest write call that overlaps a seal", waits,
		    count);
}

static void phase_run(const struct options *options, struct load *load, const char *name,
		      struct seals *seals)
{
	pthread_t threads[THREADS_MAX];

	atomic_store(&load->is_over, false);
	for (uint64_t i = 0; i < options->threads; i++) {
		struct writer *writer = &load->writers[i];

		writer->load = load;
		writer->number = i;
		writer->bytes = 0;
		writer->writes.count = 0;
		if (pthread_create(&threads[i], NULL, writer_run, writer) != 0)
			bench_die("cannot start a thread");
	}
	seals_run(options, load, seals);
	atomic_store(&load->is_over, true);
	for (uint64_t i = 0; i < options->threads; i++)
		(void)pthread_join(threads[i], NULL);
	report_writes(name, options, load);
	if (seals != NULL)
		report_seals(options, load, seals);
}

static void seal(struct load *load)
{
	struct sz_error error = { 0 };

	if (sz_store_seal(load->store, &error) != 0)
		bench_die("seal: %s", error.text);
}

static void bench_seal(const struct options *options, const char *folder)
{
	CLEANUP_FREE char *path = bench_path(folder, "store");
	CLEANUP_FREE struct span *spans = calloc(SEALS_MAX, sizeof(*spans));
	CLEANUP_FREE double *pauses = calloc(SEALS_MAX, sizeof(*pauses));
	struct seals seals = { .spans = { .at = spans }, .pauses_ms = pauses };
	struct load load = { .device_sectors = options->size_mib * BENCH_MIB / SZ_SECTOR_BYTES /
					       DEVICES / LARGE_SECTORS * LARGE_SECTORS };
	const struct sz_store_create how = {
		.device_count = DEVICES,
		.device_sectors = load.device_sectors,
		.parity = 2,
		.kdf = SZ_KDF_INTERACTIVE,
		.path = path,
	};
	const struct sz_store_open open = { .path = path };
	struct sz_error error = { 0 };

	if (sz_store_create(&how, &passphrase, &error) != 0 ||
	    sz_store_open(&open, &passphrase, &load.store, &error) != 0)
		bench_die("a store: %s", error.text);
	for (uint64_t i = 0; i < options->threads; i++) {
		load.writers[i].writes.at = calloc(SAMPLES_MAX, sizeof(struct span));
		if (load.writers[i].writes.at == NULL || spans == NULL || pauses == NULL)
			bench_die("no memory");
	}
	bench_note("%u devices, %llu MiB together, %llu threads", DEVICES,
		   (unsigned long long)options->size_mib, (unsigned long long)options->threads);
	phase_run(options, &load, "without", NULL);
	seal(&load);
	phase_run(options, &load, "with", &seals);
	for (uint64_t i = 0; i < options->threads; i++)
		free(load.writers[i].writes.at);
	if (sz_store_close(load.store, &error) != 0)
		bench_die("closing the store: %s", error.text);
}

static const char usage_text[] =
	"Usage: bench-seal [--folder DIR] [--size-mib N] [--threads N] [--seconds N]\n"
	"                  [--seal-ms N] [--json]\n"
	"  --folder DIR   on the disk to measure; default: the current folder\n"
	"  --size-mib N   size of all six devices together; default 3072\n"
	"  --threads N    that write; default: one for each core\n"
	"  --seconds N    of each phase; default 20\n"
	"  --seal-ms N    from one seal to the next; default 1000\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "folder", required_argument, NULL, 'f' },
		{ "size-mib", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' },
		{ "seconds", required_argument, NULL, 'd' },
		{ "seal-ms", required_argument, NULL, 'e' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = {
		.folder = ".",
		.size_mib = 3072,
		.seconds = 20,
		.threads = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN),
		.seal_ms = 1000,
	};
	struct sz_error error = { 0 };
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
		case 'e':
			options.seal_ms = bench_parse_count("--seal-ms", optarg);
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
	bench_seal(&options, bench_make_folder(options.folder));
	bench_finish();
	return 0;
}
