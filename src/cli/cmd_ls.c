/* ls: folders, sorted by name; one name a line, or with --long as ls -l does. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#define TARGET_BYTES 4096U /* PATH_MAX: of a symlink's target */

struct listing {
	struct invocation *invocation;
	struct sz_fs *fs;
	json_t *json;   /* an array, with --json */
	char **folders; /* still to be listed, the next one last */
	size_t folder_count;
	size_t folder_capacity;
	bool headers; /* each folder's path before its entries */
	bool is_first;
};

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "folder";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "socket";
	}
}

/* "drwxr-xr-x" */
static void mode_text(mode_t mode, char text[11])
{
	static const char types[] = "?pc?d?b?-?l?s???"; /* by S_IFIFO >> 12, … */
	static const char letters[] = "rwxrwxrwx";

	text[0] = types[(mode & S_IFMT) >> 12];
	for (unsigned int i = 0; i < 9; i++) {
		text[1 + i] = '-';
		if ((mode & (0400U >> i)) != 0)
			text[1 + i] = letters[i];
	}
	if ((mode & S_ISUID) != 0)
		text[3] = (mode & S_IXUSR) != 0 ? 's' : 'S';
	if ((mode & S_ISGID) != 0)
		text[6] = (mode & S_IXGRP) != 0 ? 's' : 'S';
	if ((mode & S_ISVTX) != 0)
		text[9] = (mode & S_IXOTH) != 0 ? 't' : 'T';
	text[10] = '\0';
}

static void long_print(const struct stat *stat, const char *name, const char *target)
{
	char mode[11];
	char time[TIME_TEXT_BYTES];

	mode_text(stat->st_mode, mode);
	time_text((uint64_t)stat->st_mtim.tv_sec, time);
	(void)fprintf(console_out(), "%s %3ju %6u %6u ", mode, (uintmax_t)stat->st_nlink,
		      stat->st_uid, stat->st_gid);
	if (S_ISCHR(stat->st_mode) || S_ISBLK(stat->st_mode))
		(void)fprintf(console_out(), "%5u, %5u", major(stat->st_rdev),
			      minor(stat->st_rdev));
	else
		(void)fprintf(console_out(), "%12jd", (intmax_t)stat->st_size);
	(void)fprintf(console_out(), " %s ", time);
	name_print(name);
	if (S_ISLNK(stat->st_mode)) {
		(void)fputs(" -> ", console_out());
		name_print(target);
	}
	(void)fputc('\n', console_out());
}

static int json_add(struct listing *listing, const struct stat *stat, const char *path,
		    const char *target)
{
	json_t *entry = json_pack(
		"{s:o, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "path", json_name(path), "type",
		type_name(stat->st_mode), "mode", (int)(stat->st_mode & 07777U), "links",
		(json_int_t)stat->st_nlink, "uid", (json_int_t)stat->st_uid, "gid",
		(json_int_t)stat->st_gid, "size_bytes", (json_int_t)stat->st_size, "mtime_s",
		(json_int_t)stat->st_mtim.tv_sec, "mtime_ns", (json_int_t)stat->st_mtim.tv_nsec);

	if (entry != NULL && S_ISLNK(stat->st_mode))
		(void)json_object_set_new(entry, "target", json_name(target));
	return json_array_append_new(listing->json, entry) != 0 ? -ENOMEM : 0;
}

/* shown: what people see of the path: the last name, or for an operand all of it. */
static int entry_print(struct listing *listing, uint64_t inode, const char *path, const char *shown)
{
	bool details = listing->json != NULL || option_is_given(listing->invocation, OPTION_LONG);
	char target[TARGET_BYTES] = "";
	struct stat stat;
	int result = 0;

	if (details)
		result = sz_fs_getattr(listing->fs, inode, &stat);
	if (result == 0 && details && S_ISLNK(stat.st_mode))
		result = sz_fs_readlink(listing->fs, inode, target, sizeof(target));
	if (result == 0 && listing->json != NULL)
		result = json_add(listing, &stat, path, target);
	else if (result == 0 && details)
		long_print(&stat, shown, target);
	else if (result == 0) {
		name_print(shown);
		(void)fputc('\n', console_out());
	}
	if (result != 0)
		return sz_fail(&listing->invocation->error, result, "%s: %s", path,
			       strerror(-result));
	return ferror(console_out()) != 0 ? -EPIPE : 0;
}

static int folder_push(struct listing *listing, char *path)
{
	if (path == NULL)
		return -ENOMEM;
	if (listing->folder_count == listing->folder_capacity) {
		size_t capacity = listing->folder_capacity == 0 ? 16 : 2 * listing->folder_capacity;
		char **grown = realloc(listing->folders, capacity * sizeof(*grown));

		if (grown == NULL) {
			free(path);
			return -ENOMEM;
		}
		listing->folders = grown;
		listing->folder_capacity = capacity;
	}
	listing->folders[listing->folder_count++] = path;
	return 0;
}

/* A folder that is still to be listed, if it is none of another file system. */
static int subfolder_push(struct listing *listing, const char *path, uint64_t folder,
			  const char *name)
{
	char text[PLACE_TEXT_BYTES];
	bool is_place;
	int result = place_find(listing->fs, folder, name, &is_place);

	if (result != 0)
		return sz_fail(&listing->invocation->error, result, "%s: %s", name,
			       strerror(-result));
	if (!is_place)
		return folder_push(listing, path_join(path, name));
	place_text(listing->invocation->options.dataset, name, text);
	(void)fprintf(console_err(), "szpool: %s: %s\n", name, text);
	return 0;
}

static int folder_list(struct listing *listing, const char *path)
{
	struct entries entries;
	uint64_t folder;
	int result = path_find(listing->fs, path, &folder, &listing->invocation->error);

	if (result != 0)
		return result;
	result = entries_read(listing->fs, folder, &entries);
	if (result != 0)
		return sz_fail(&listing->invocation->error, result, "%s: %s", path,
			       strerror(-result));
	if (listing->headers && listing->json == NULL) {
		(void)fputs(listing->is_first ? "" : "\n", console_out());
		name_print(path);
		line_out(":");
	}
	listing->is_first = false;
	for (size_t i = 0; result == 0 && i < entries.count; i++) {
		CLEANUP_FREE char *child = path_join(path, entries.data[i].name);

		result = child == NULL ? -ENOMEM
				       : entry_print(listing, entries.data[i].inode, child,
						     entries.data[i].name);
	}
	/* In reverse: the last one pushed is listed next. */
	for (size_t i = entries.count; result == 0 && i > 0; i--)
		if (option_is_given(listing->invocation, OPTION_RECURSIVE) &&
		    S_ISDIR(entries.data[i - 1].mode_type))
			result = subfolder_push(listing, path, folder, entries.data[i - 1].name);
	entries_free(&entries);
	return result;
}

static int operand_list(struct listing *listing, const char *path)
{
	struct stat stat;
	uint64_t inode;
	int result = path_find(listing->fs, path, &inode, &listing->invocation->error);

	if (result != 0)
		return result;
	result = sz_fs_getattr(listing->fs, inode, &stat);
	if (result != 0)
		return sz_fail(&listing->invocation->error, result, "%s: %s", path,
			       strerror(-result));
	if (!S_ISDIR(stat.st_mode))
		return entry_print(listing, inode, path, path);
	result = folder_push(listing, strdup(path));
	while (result == 0 && listing->folder_count > 0) {
		CLEANUP_FREE char *folder = listing->folders[--listing->folder_count];

		result = interrupt_check(&listing->invocation->error);
		if (result == 0)
			result = folder_list(listing, folder);
	}
	return result;
}

int cmd_ls(struct invocation *invocation)
{
	struct session session;
	struct listing listing = {
		.invocation = invocation,
		.headers = invocation->count > 2 || option_is_given(invocation, OPTION_RECURSIVE),
		.is_first = true,
	};
	int result = session_open(invocation, true, SESSION_FS, &session);

	if (result != 0)
		return result;
	listing.fs = session.fs;
	if (option_is_given(invocation, OPTION_JSON))
		listing.json = json_array();
	if (invocation->count == 1)
		result = operand_list(&listing, "/");
	for (int i = 1; result == 0 && i < invocation->count; i++)
		result = operand_list(&listing, invocation->operands[i]);
	while (listing.folder_count > 0)
		free(listing.folders[--listing.folder_count]);
	free(listing.folders);
	if (result == 0 && listing.json != NULL)
		result = json_print(listing.json, &invocation->error);
	else if (listing.json != NULL)
		json_decref(listing.json);
	return session_close(invocation, &session, result);
}
