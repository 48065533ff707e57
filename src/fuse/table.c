/* table: what the kernel's table of mounts says of a folder, and unmounting it. */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <mntent.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRY_BYTES 8192U /* a line of the table: two paths, each byte of which may take four */

int sz_mount_find(const char *folder, char **source_out, struct sz_error *error)
{
	FILE *table = setmntent("/proc/self/mounts", "r");
	char line[ENTRY_BYTES];
	struct mntent entry;

	*source_out = NULL;
	if (table == NULL)
		return sz_fail(error, -errno, "/proc/self/mounts: %s", strerror(errno));
	/* The last one that is mounted there is on top. */
	while (getmntent_r(table, &entry, line, sizeof(line)) != NULL) {
		if (strcmp(entry.mnt_dir, folder) != 0)
			continue;
		free(TAKE(*source_out));
		if (strcmp(entry.mnt_type, "fuse." SZ_FUSE_TYPE) == 0)
			*source_out = strdup(entry.mnt_fsname);
	}
	(void)endmntent(table);
	if (*source_out == NULL)
		return sz_fail(error, -EINVAL, "%s: no store is mounted there", folder);
	return 0;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Of "\040" and its like, what they stand for. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text != '\0'; text++) {
		if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) &&
		    is_octal(text[3])) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

dev_t folder_device(const char *folder)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	CLEANUP_FREE char *line = NULL;
	size_t capacity = 0;
	dev_t device = 0;

	if (table == NULL)
		return 0;
	while (getline(&line, &capacity, table) > 0) {
		unsigned int major_number;
		unsigned int minor_number;
		int start = 0;
		int end = 0;

		/* NOLINTNEXTLINE(cert-err34-c): the kernel's numbers fit */
		if (sscanf(line, "%*s %*s %u:%u %*s %n%*s%n", &major_number, &minor_number, &start,
			   &end) != 2 ||
		    end == 0)
			continue;
		line[end] = '\0';
		unescape(line + start);
		if (strcmp(line + start, folder) == 0)
			device = makedev(major_number, minor_number);
	}
	(void)fclose(table);
	return device;
}

/* fusermount3 says on standard error what is wrong, if anything but that it is in use. */
static int helper_run(const char *folder, bool lazily, struct sz_error *error)
{
	char program[] = "fusermount3";
	char flags[] = "-uqz";
	char end[] = "--";
	CLEANUP_FREE char *copy = strdup(folder);
	char *const arguments[] = { program, flags, end, copy, NULL };
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t child;
	int status = 0;
	int result;

	if (copy == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	if (!lazily)
		flags[sizeof("-uq") - 1] = '\0';
	(void)sigemptyset(&none);
	(void)posix_spawnattr_init(&attributes);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	result = posix_spawnp(&child, arguments[0], NULL, &attributes, arguments, environ);
	(void)posix_spawnattr_destroy(&attributes);
	if (result != 0)
		return sz_fail(error, -result, "cannot run fusermount3: %s", strerror(result));
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return sz_fail(error, -EBUSY,
		       "%s: cannot be unmounted: it is in use; "
		       "'fuser -vm %s' and 'losetup -a' show by what",
		       folder, folder);
}

int folder_unmount(const char *folder, bool lazily, struct sz_error *error)
{
	if (umount2(folder, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno == EPERM)
		return helper_run(folder, lazily, error);
	if (errno == EBUSY)
		return sz_fail(error, -EBUSY,
			       "%s: is in use; 'fuser -vm %s' and 'losetup -a' show by what",
			       folder, folder);
	return sz_fail(error, -errno, "%s: cannot be unmounted: %s", folder, strerror(errno));
}

int sz_mount_remove(const char *folder, struct sz_error *error)
{
	struct stat stat_of;
	bool is_left = stat(folder, &stat_of) != 0 && errno == ENOTCONN;

	return folder_unmount(folder, is_left, error);
}
