/* Runs one fuzz target over the files of folders, once each: the corpus as a regression test (TAP). */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_BYTES_MAX (1U << 20) /* longer ones do not belong into a corpus */

static int run_file(int folder, const char *name)
{
	CLEANUP_FD int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE uint8_t *data = NULL;
	struct stat status;
	size_t done;

	if (fd < 0 || fstat(fd, &status) != 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return 0;
	if (status.st_size > (off_t)INPUT_BYTES_MAX)
		return -EFBIG;
	data = malloc((size_t)status.st_size + 1);
	if (data == NULL || sz_pread(fd, data, (size_t)status.st_size, 0, &done) != 0)
		return -EIO;
	(void)LLVMFuzzerTestOneInput(data, done);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned int count = 0;

	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);

		if (folder == NULL) {
			printf("Bail out! %s cannot be opened\n", argv[i]);
			return 1;
		}
		for (struct dirent *entry = readdir(folder); entry != NULL;
		     entry = readdir(folder)) {
			if (entry->d_name[0] == '.')
				continue;
			count++;
			printf("%s %u - %s\n",
			       run_file(dirfd(folder), entry->d_name) == 0 ? "ok" : "not ok", count,
			       entry->d_name);
			(void)fflush(stdout);
		}
		(void)closedir(folder);
	}
	printf("1..%u\n", count);
	return count > 0 ? 0 : 1;
}
