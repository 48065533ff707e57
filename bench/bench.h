/*
 * What the benchmarks share: results, data that does not compress, child processes and their memory,
 * a cold page cache. A step that fails ends the program: half a benchmark has no figures.
 */
#ifndef SZ_BENCH_BENCH_H
#define SZ_BENCH_BENCH_H

#include "base/base.h"

#define BENCH_MIB ((uint64_t)1 << 20)

/* Prints "NAME: TEXT" and ends the program. */
void bench_die(const char *format, ...) PRINTF_LIKE(1, 2) __attribute__((noreturn));

/*
 * Results: printed as they come, one a line, or together as one JSON object {"NAME": number, …} at
 * the end. A name says its unit: write_mib_s.
 */
void bench_output_json(bool json);
void bench_result(const char *name, double value, const char *explanation);
void bench_note(const char *format, ...) PRINTF_LIKE(1, 2); /* on stderr: what goes on */
void bench_finish(void);

double bench_seconds_since(uint64_t start_ns);
double bench_mib_per_second(uint64_t bytes, double seconds);
/* The one in the middle; sorts values, the smallest first. */
double bench_median(double *values, size_t count);

/*
 * The fastest of several passes of what szpool is compared with, and how far apart they were. The
 * fastest: what slows one pass of dd down (neighbours; memory that a virtual machine has to get back
 * from its host after the caches were dropped) would flatter szpool.
 */
struct bench_best {
	double seconds; /* 0: none yet */
	double slowest;
};
void bench_best_add(struct bench_best *best, double seconds);
double bench_best_spread(const struct bench_best *best); /* slowest / fastest, 1 or more */

/* A reproducible stream (SplitMix64): random to every compressor, and faster than a disk. */
struct bench_random {
	uint64_t state;
};
uint64_t bench_random_next(struct bench_random *random);
void bench_random_fill(struct bench_random *random, void *buffer, size_t length);

/* Writes a file of random bytes and syncs it. */
void bench_make_file(const char *path, uint64_t size_bytes, uint64_t seed);

/*
 * Writes everything out and drops what the page cache holds: of the whole machine if we may (root),
 * else of the files below path. Returns what it did, for people.
 */
const char *bench_drop_caches(const char *path);

/* Runs a program, waits for it, and dies if it fails. Its output goes to /dev/null. */
struct bench_usage {
	double seconds;
	double cpu_seconds;
	double peak_mib; /* largest resident set */
};
struct bench_usage bench_run(const char *const argv[]);
double bench_own_peak_mib(void);

/* The one folder of a run, new, in parent. It is removed when the program ends, unless by a signal. */
const char *bench_make_folder(const char *parent);
/* Removes a file, or a folder with all that is in it. */
void bench_remove_tree(const char *path);
/* "FOLDER/NAME", to be freed. */
char *bench_path(const char *folder, const char *name);

/* Parses a whole number of at least 1, or dies. */
uint64_t bench_parse_count(const char *option, const char *text);

#endif
