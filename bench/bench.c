/* See bench.h. */
#include "bench.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 20)
#define OPEN_MAX    32 /* folders that a tree walk holds open */

static char *made_folder; /* removed at the end, however it comes */
static pid_t made_by;
static bool output_is_json;
static bool has_result;

void bench_die(const char *format, ...)
{
	va_list arguments;

	(void)fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fprintf(stderr, "\n");
	exit(1);
}

void bench_output_json(bool json)
{
	output_is_json = json;
}

void bench_result(const char *name, double value, const char *explanation)
{
	if (output_is_json)
		(void)printf("%s\n  \"%s\": %.3f", has_result ? "," : "{", name, value);
	else
		(void)printf("%-36s %12.3f  %s\n", name, value, explanation);
	has_result = true;
	(void)fflush(stdout);
}

void bench_note(const char *format, ...)
{
	va_list arguments;

	(void)fprintf(stderr, "# ");
	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fprintf(stderr, "\n");
}

void bench_finish(void)
{
	if (output_is_json)
		(void)printf("%s\n}\n", has_result ? "" : "{");
	if (fflush(stdout) != 0)
		bench_die("standard output: %s", strerror(errno));
}

double bench_seconds_since(uint64_t start_ns)
{
	return (double)(sz_clock_ns() - start_ns) / 1e9;
}

double bench_mib_per_second(uint64_t bytes, double seconds)
{
	return (double)bytes / (double)BENCH_MIB / seconds;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare_doubles);
	return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

void bench_best_add(struct bench_best *best, double seconds)
{
	if (best->seconds <= 0 || seconds < best->seconds)
		best->seconds = seconds;
	if (seconds > best->slowest)
		best->slowest = seconds;
}

double bench_best_spread(const struct bench_best *best)
{
	return best->slowest / best->seconds;
}

uint64_t bench_random_next(struct bench_random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

void bench_random_fill(struct bench_random *random, void *buffer, size_t length)
{
	uint8_t *to = buffer;

	while (length > 0) {
		uint64_t value = bench_random_next(random);
		size_t part = length < sizeof(value) ? length : sizeof(value);

		memcpy(to, &value, part);
		to += part;
		length -= part;
	}
}

void bench_make_file(const char *path, uint64_t size_bytes, uint64_t seed)
{
	struct bench_random random = { .state = seed };
	CLEANUP_FREE void *piece = malloc(PIECE_BYTES);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t done = 0;

	if (piece == NULL || fd < 0)
		bench_die("%s: %s", path, strerror(errno));
	while (done < size_bytes) {
		uint64_t left = size_bytes - done;
		size_t part = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
		int rc;

		bench_random_fill(&random, piece, part);
		rc = sz_write(fd, piece, part);
		if (rc != 0)
			bench_die("%s: %s", path, strerror(-rc));
		done += part;
	}
}

static int forget_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
	CLEANUP_FD int fd = -1;

	(void)status;
	(void)position;
	if (type != FTW_F)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

const char *bench_drop_caches(const char *path)
{
	CLEANUP_FD int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync(); /* only clean pages are dropped */
	if (fd >= 0 && write(fd, "3\n", 2) == 2)
		return "the machine's page cache was dropped";
	if (nftw(path, forget_one, OPEN_MAX, FTW_PHYS) != 0)
		bench_die("%s: %s", path, strerror(errno));
	return "posix_fadvise dropped the files' pages; not root, so metadata stayed cached";
}

static void child(const char *const argv[])
{
	char *const *arguments;
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* execvp does not change them; its prototype is older than const. */
	memcpy(&arguments, &argv, sizeof(arguments));
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		_exit(127);
	(void)execvp(argv[0], arguments);
	(void)fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

struct bench_usage bench_run(const char *const argv[])
{
	uint64_t start_ns = sz_clock_ns();
	struct bench_usage usage = { 0 };
	struct rusage resources;
	pid_t pid = fork();
	int status;

	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (pid == 0)
		child(argv);
	while (wait4(pid, &status, 0, &resources) < 0) {
		if (errno != EINTR)
			bench_die("wait4: %s", strerror(errno));
	}
	usage.seconds = bench_seconds_since(start_ns);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_die("%s %s: ended with %s %d", argv[0], argv[1] != NULL ? argv[1] : "",
			  WIFSIGNALED(status) ? "signal" : "status",
			  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	usage.cpu_seconds = (double)(resources.ru_utime.tv_sec + resources.ru_stime.tv_sec) +
			    (double)(resources.ru_utime.tv_usec + resources.ru_stime.tv_usec) / 1e6;
	usage.peak_mib = (double)resources.ru_maxrss / 1024;
	return usage;
}

double bench_own_peak_mib(void)
{
	struct rusage resources;

	if (getrusage(RUSAGE_SELF, &resources) != 0)
		bench_die("getrusage: %s", strerror(errno));
	return (double)resources.ru_maxrss / 1024;
}

char *bench_path(const char *folder, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		bench_die("no memory");
	return path;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
	(void)status;
	(void)type;
	(void)position;
	return remove(path);
}

void bench_remove_tree(const char *path)
{
	if (nftw(path, remove_one, OPEN_MAX, FTW_DEPTH | FTW_PHYS) != 0)
		bench_die("%s: %s", path, strerror(errno));
}

static void remove_made_folder(void)
{
	if (getpid() == made_by && access(made_folder, F_OK) == 0)
		(void)nftw(made_folder, remove_one, OPEN_MAX, FTW_DEPTH | FTW_PHYS);
	free(made_folder);
}

const char *bench_make_folder(const char *parent)
{
	assert(made_folder == NULL);
	made_folder = bench_path(parent, "szpool-bench.XXXXXX");
	if (mkdtemp(made_folder) == NULL)
		bench_die("%s: %s", made_folder, strerror(errno));
	made_by = getpid();
	if (atexit(remove_made_folder) != 0)
		bench_die("atexit failed");
	return made_folder;
}

uint64_t bench_parse_count(const char *option, const char *text)
{
	char *end;
	uintmax_t value;

	errno = 0;
	value = strtoumax(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value == 0 || text[0] == '-')
		bench_die("%s takes a number, not '%s'", option, text);
	return (uint64_t)value;
}
