/* session: opens store, pool and file system in order, and closes them in the other. */
#include "cli/cli.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_FULL_BYTES (16ULL << 20) /* less is no space: what a device writes at a time */

/* What this process has open for others; set before and cleared after commands run for them. */
static struct session *shared;
static const char *shared_store;
/* Read by each command that has it, written while its file system is being exchanged. */
static pthread_rwlock_t shared_lock = PTHREAD_RWLOCK_INITIALIZER;

void session_share(struct session *session, const char *store)
{
	shared = session;
	shared_store = store;
}

struct session *session_shared(void)
{
	return shared;
}

const char *text_after_store(const char *text, const char *store)
{
	size_t length = strlen(store);

	while (strncmp(text, store, length) == 0 && strncmp(text + length, ": ", 2) == 0)
		text += length + 2;
	return text;
}

/* Behind what the error says: the next step. */
static void error_add(struct sz_error *error, const char *text)
{
	size_t length = strlen(error->text);

	(void)snprintf(error->text + length, sizeof(error->text) - length, "%s", text);
}

static void permission_tell(struct sz_error *error)
{
	error_add(error, ": run szpool as the user whose store it is, or as root");
}

/* Of the file systems that the command line names, the one that has the least free. NULL: not known. */
static const char *fullest_disk(const struct invocation *invocation, uint64_t *free_bytes_out)
{
	const struct options *options = &invocation->options;
	const char *fullest = NULL;

	for (size_t i = 0; i <= options->device_dir_count; i++) {
		const char *path = i == 0 ? invocation->operands[0] : options->device_dirs[i - 1];
		struct statvfs space;
		uint64_t free_bytes;

		if (statvfs(path, &space) != 0)
			continue;
		free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
		if (fullest != NULL && free_bytes >= *free_bytes_out)
			continue;
		fullest = path;
		*free_bytes_out = free_bytes;
	}
	return fullest;
}

bool disk_is_full(const struct invocation *invocation)
{
	uint64_t free_bytes = 0;

	return fullest_disk(invocation, &free_bytes) != NULL && free_bytes < DISK_FULL_BYTES;
}

void disk_space_text(const struct invocation *invocation, char text[DISK_TEXT_BYTES])
{
	char free_text[SIZE_TEXT_BYTES];
	uint64_t free_bytes = 0;
	const char *path = fullest_disk(invocation, &free_bytes);

	text[0] = '\0';
	if (path == NULL)
		return;
	size_text(free_bytes, free_text);
	/* device/space.c: 2 %, within these bounds */
	(void)snprintf(
		text, DISK_TEXT_BYTES,
		"; the file system of %.200s has %s free, of which 64M to 256M are kept from "
		"new data",
		path, free_text);
}

int store_fail(struct invocation *invocation, int result)
{
	const char *path = invocation->operands[0];
	char *text = invocation->error.text;
	const char *rest = text_after_store(text, path);
	char space[DISK_TEXT_BYTES];

	memmove(text, rest, strlen(rest) + 1);
	if (result == -EACCES && !invocation->store_is_open)
		permission_tell(&invocation->error);
	if (result == -ENOSPC) {
		disk_space_text(invocation, space);
		error_add(&invocation->error, space);
	}
	return sz_fail(&invocation->error, result, "%s", path);
}

/* What is wrong with the path is said before a passphrase is asked for. */
static int folder_check(const char *path, struct sz_error *error)
{
	struct stat stat_of;

	if (stat(path, &stat_of) != 0 && errno == ENOENT)
		return sz_fail(error, -ENOENT,
			       "%s: there is no such folder; 'szpool create %s' makes a pool in it",
			       path, path);
	if (stat(path, &stat_of) != 0) {
		int result = sz_fail(error, -errno, "%s: %s", path, strerror(errno));

		if (result == -EACCES)
			permission_tell(error);
		return result;
	}
	if (!S_ISDIR(stat_of.st_mode))
		return sz_fail(error, -ENODATA, "%s: is not a folder, so it is no store", path);
	return 0;
}

/* Where is noted what was seen of stores; NULL: nowhere. The caller frees it. */
static char *state_folder(void)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	char *folder = NULL;

	if (state != NULL && state[0] == '/')
		return asprintf(&folder, "%s/szpool", state) < 0 ? NULL : folder;
	if (home == NULL || home[0] != '/')
		return NULL;
	return asprintf(&folder, "%s/.local/state/szpool", home) < 0 ? NULL : folder;
}

/* What the command line says of the store, and its passphrase. */
static int store_find(struct invocation *invocation, struct sz_store_open *options,
		      struct sz_passphrase *passphrase)
{
	int result = folder_check(invocation->operands[0], &invocation->error);

	options->path = invocation->operands[0];
	options->folders = invocation->options.device_dirs;
	options->folder_count = invocation->options.device_dir_count;
	options->generation = invocation->options.generation;
	options->choose = invocation->options.choose;
	options->recover = invocation->options.recover;
	return result != 0 ? result : passphrase_of_store(invocation, passphrase);
}

/* What is out of the ordinary about the opening. */
static void opening_tell(const struct invocation *invocation, const struct sz_store *store)
{
	struct sz_opening opening;

	sz_store_opening(store, &opening);
	if (!opening.is_notable || option_is_given(invocation, OPTION_QUIET))
		return;
	(void)fprintf(console_err(), "szpool: %s: %s\n", invocation->operands[0], opening.chosen);
	if (opening.aside[0] != '\0')
		(void)fprintf(console_err(), "szpool: %s: set aside: %s\n", invocation->operands[0],
			      opening.aside);
}

/* For another process: what is open here. */
static int shared_open(struct invocation *invocation, bool read_only, enum session_parts parts,
		       struct session *session_out)
{
	const char *path = invocation->operands[0];
	struct stat wished;
	struct stat served;

	if (stat(path, &wished) != 0 || stat(shared_store, &served) != 0 ||
	    wished.st_dev != served.st_dev || wished.st_ino != served.st_ino)
		return sz_fail(&invocation->error, -EINVAL,
			       "%s: is not the store that this process has open", path);
	if (option_is_given(invocation, OPTION_CHOOSE))
		return sz_fail(&invocation->error, -EINVAL,
			       "%s: is open: a generation is chosen when it is opened, by 'szpool "
			       "serve --choose CODE'",
			       path);
	if (option_is_given(invocation, OPTION_SEAL_INTERVAL))
		return sz_fail(&invocation->error, -EINVAL,
			       "%s: is open: how often it is sealed is said when it is opened, by "
			       "'szpool serve --seal-interval TIME'",
			       path);
	if ((parts == SESSION_POOL || parts == SESSION_FS) && shared->pool == NULL &&
	    !is_mounted_here())
		return sz_fail(&invocation->error, -EBUSY,
			       "%s: there is no pool on its devices, which 'szpool nbd' serves; "
			       "'szpool nbd --stop %s' ends that",
			       path, path);
	if ((parts == SESSION_POOL || parts == SESSION_FS) && shared->pool == NULL)
		return sz_fail(&invocation->error, -EBUSY,
			       "%s: its devices are attached at %s, so its pool is not open here; "
			       "'szpool detach %s' ends that",
			       path, serve_folder(), serve_folder());
	if (!read_only && sz_store_is_read_only(shared->store))
		return sz_fail(&invocation->error, -EROFS, "%s: is open for reading only", path);
	if (shared->fs == NULL && shared->pool != NULL)
		return sz_fail(&invocation->error, -EIO,
			       "%s: its file system could not be opened again; end the process "
			       "that has it open",
			       path);
	*session_out = *shared;
	session_out->is_shared = true;
	session_out->is_read_only = read_only;
	invocation->store_is_open = true;
	return 0;
}

int session_check(struct invocation *invocation, bool is_copy, struct sz_check *check_out)
{
	CLEANUP_FREE char *state = state_folder();
	struct sz_store_open options = { .is_copy = is_copy, .state_folder = state };
	struct sz_passphrase passphrase = { 0 };
	struct session session = { 0 };
	int result;

	if (console_current() != console_own()) {
		result = shared_open(invocation, true, SESSION_STORE, &session);
		if (result == 0)
			result = sz_store_generations(session.store, check_out, &invocation->error);
		return result != 0 ? store_fail(invocation, result) : 0;
	}
	result = store_find(invocation, &options, &passphrase);

	if (result != 0)
		return result;
	result = sz_store_check(&options, &passphrase, check_out, &invocation->error);
	passphrase_free(&passphrase);
	return result != 0 ? store_fail(invocation, result) : 0;
}

void pool_is_suspended(void *context, const struct sz_error *error)
{
	const struct invocation *invocation = context;
	bool is_full = error->code == -ENOSPC || disk_is_full(invocation);
	char space[DISK_TEXT_BYTES] = "";

	serve_refuse(is_full ? -ENOSPC : -EIO);
	if (is_full)
		disk_space_text(invocation, space);
	(void)fprintf(console_err(), "\nszpool: %s: %s%s%s\n", invocation->operands[0],
		      is_full && error->code != -ENOSPC ? "no space is left on the disk: " : "",
		      error->text, space);
	reopen_exec(is_full ? -ENOSPC : -EIO);
	_exit(is_full ? EXIT_NO_SPACE : EXIT_ERROR);
}

/* It stays open; what the command did is on disk before it says that it is done. */
static int shared_close(struct invocation *invocation, const struct session *session, int result)
{
	int synced = 0;

	if (session->fs != NULL) /* but for one that was to be opened again, and was not */
		sz_fs_dataset_close(session->fs);
	if (!session->is_read_only && session->pool != NULL)
		synced = sz_pool_sync(session->pool, result == 0 ? &invocation->error : NULL);
	(void)pthread_rwlock_unlock(&shared_lock);
	return result != 0 || synced == 0 ? result : store_fail(invocation, synced);
}

/* There is no pool; or there is one of another ZFS, made of files. */
static bool is_raw(int import_result)
{
	return import_result == -ENODATA || import_result == -EUCLEAN;
}

/* A store that has devices alone. */
static int raw_open(struct invocation *invocation, enum session_parts parts, int import_result)
{
	invocation->error = (struct sz_error){ 0 };
	if (parts == SESSION_POOL_IF_ANY || parts == SESSION_FS_IF_ANY)
		return 0;
	invocation->store_is_open = true; /* it is a store */
	return sz_fail(&invocation->error, -ENODATA,
		       "%s on its devices; 'szpool attach %s FOLDER' shows them as files",
		       import_result == -ENODATA ? "there is no pool"
						 : "there is the pool of another ZFS",
		       invocation->operands[0]);
}

/* -EBUSY: it has an intent log, which may not be replayed. */
static int volume_probe(void *context, const struct sz_volume_info *info)
{
	const struct session *session = context;
	struct sz_error ignored = { 0 };
	struct sz_volume *volume;
	int result = sz_volume_open(session->pool, info->name, &volume, &ignored);

	if (result == 0)
		sz_volume_close(volume);
	return result == -EBUSY ? result : 0;
}

/* What session_open opens. *replays_out: the file system has to replay its intent log, and may not write. */
static int parts_open(struct invocation *invocation, const struct sz_store_open *options,
		      const struct sz_passphrase *passphrase, enum session_parts parts,
		      struct session *session, bool *replays_out)
{
	struct sz_error *error = &invocation->error;
	bool read_only = options->read_only;
	int result = sz_store_open(options, passphrase, &session->store, error);

	*replays_out = false;
	if (result == 0 && !options->in_memory) /* for the second time */
		opening_tell(invocation, session->store);
	/* A pool in memory is opened as any that was left behind: its intent log is replayed. */
	read_only = read_only && (result != 0 || !sz_store_is_volatile(session->store));
	if (result == 0 && parts != SESSION_STORE) {
		result = sz_engine_start(invocation->options.memory_bytes, error);
		sz_pool_on_suspend(pool_is_suspended, invocation);
		if (result == 0)
			result = sz_pool_import(session->store, read_only, &session->pool, error);
		if (is_raw(result))
			result = raw_open(invocation, parts, result);
	}
	if (result == 0 && (parts == SESSION_FS || parts == SESSION_FS_IF_ANY) &&
	    session->pool != NULL) {
		result = sz_fs_open(session->pool, invocation->options.dataset, read_only,
				    &session->fs, error);
		if (result == 0 && read_only && parts == SESSION_FS_IF_ANY)
			result = sz_volume_each(session->pool, volume_probe, session);
		*replays_out = result == -EBUSY && read_only;
	}
	if (result != 0)
		(void)!session_close(invocation, session, result);
	return result;
}

static int shared_get(struct invocation *invocation, bool read_only, enum session_parts parts,
		      struct session *session_out)
{
	int result;

	(void)pthread_rwlock_rdlock(&shared_lock);
	result = shared_open(invocation, read_only, parts, session_out);
	if (result == 0 && shared->fs != NULL)
		result = sz_fs_dataset_open(shared->fs, invocation->options.dataset,
					    &session_out->fs, &invocation->error);
	if (result != 0)
		(void)pthread_rwlock_unlock(&shared_lock);
	return result;
}

/* session_open, less what is read in it. */
static int session_of(struct invocation *invocation, bool read_only, enum session_parts parts,
		      struct session *session_out)
{
	CLEANUP_FREE char *state = state_folder();
	struct sz_store_open options = { .read_only = read_only, .state_folder = state };
	struct session session = { .is_read_only = read_only };
	struct sz_passphrase passphrase = { 0 };
	bool replays;
	int result;

	if (console_current() != console_own())
		return shared_get(invocation, read_only, parts, session_out);
	result = store_find(invocation, &options, &passphrase);
	if (result != 0)
		return result;
	result = parts_open(invocation, &options, &passphrase, parts, &session, &replays);
	if (replays) {
		/* A crash left operations in the log: for reading they are done in memory. */
		options.in_memory = true;
		invocation->error = (struct sz_error){ 0 };
		session.is_read_only = true;
		result = parts_open(invocation, &options, &passphrase, parts, &session, &replays);
	}
	passphrase_free(&passphrase);
	if (result != 0)
		return store_fail(invocation, result);
	invocation->store_is_open = true;
	result = sealer_start(invocation, &session);
	if (result != 0)
		return session_close(invocation, &session, result);
	*session_out = session;
	return 0;
}

/* What is asked for is a snapshot. */
static int snapshot_enter(struct invocation *invocation, struct session *session)
{
	struct sz_fs *snapshot;
	int result = sz_fs_snapshot_open(session->fs, invocation->options.snapshot, &snapshot,
					 &invocation->error);

	if (result != 0) {
		(void)store_fail(invocation, result);
		return session_close(invocation, session, result);
	}
	session->head = session->fs;
	session->fs = snapshot;
	return 0;
}

int session_open(struct invocation *invocation, bool read_only, enum session_parts parts,
		 struct session *session_out)
{
	int result = session_of(invocation, read_only, parts, session_out);

	return result == 0 && option_is_given(invocation, OPTION_SNAPSHOT)
		       ? snapshot_enter(invocation, session_out)
		       : result;
}

int session_fs_close(struct invocation *invocation, struct session *session)
{
	if (session->is_shared) {
		(void)pthread_rwlock_unlock(&shared_lock);
		if (is_mounted_here() || pthread_rwlock_trywrlock(&shared_lock) != 0) {
			(void)pthread_rwlock_rdlock(&shared_lock);
			return sz_fail(&invocation->error, -EBUSY, "%s: %s",
				       invocation->operands[0],
				       is_mounted_here()
					       ? "is mounted; 'szpool umount' first"
					       : "is being used by other commands; wait for them");
		}
		session->fs = TAKE(shared->fs);
	}
	sz_fs_close(TAKE(session->fs));
	return 0;
}

int session_fs_open(struct invocation *invocation, struct session *session, int result)
{
	struct sz_error ignored = { 0 };
	int opened = sz_fs_open(session->pool, NULL, false, &session->fs,
				result == 0 ? &invocation->error : &ignored);

	if (opened != 0)
		session->fs = NULL;
	if (session->is_shared)
		shared->fs = session->fs;
	return opened != 0 && result == 0 ? store_fail(invocation, opened) : opened;
}

int session_close(struct invocation *invocation, struct session *session, int result)
{
	struct sz_error ignored = { 0 };
	struct sz_error *error = result == 0 ? &invocation->error : &ignored;
	/* All that is not on disk yet is written: this may take a while. */
	bool is_told = session->store != NULL && !sz_store_is_read_only(session->store) &&
		       !sz_store_is_volatile(session->store) && isatty(console_err_fd()) == 1 &&
		       !option_is_given(invocation, OPTION_QUIET);
	int closed = 0;

	if (session->head != NULL) {
		sz_fs_snapshot_close(session->fs);
		session->fs = TAKE(session->head);
	}
	if (session->is_shared)
		return shared_close(invocation, session, result);
	sealer_stop(session);
	if (is_told)
		(void)fputs("\r\033[Kwriting everything out ...", console_err());

	if (session->fs != NULL)
		sz_fs_close(session->fs);
	if (session->pool != NULL) {
		closed = sz_pool_export(session->pool, error);
		if (result == 0 && closed != 0)
			result = store_fail(invocation, closed);
	}
	error = result == 0 ? &invocation->error : &ignored;
	if (session->store != NULL) {
		closed = sz_store_close(session->store, error);
		if (result == 0 && closed != 0)
			result = store_fail(invocation, closed);
	}
	if (is_told)
		(void)fputs("\r\033[K", console_err());
	*session = (struct session){ 0 };
	return result;
}
