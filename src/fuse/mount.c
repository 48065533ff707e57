/*
 * mount: mounting, the threads that serve, and unmounting.
 *
 * State of a mount · who changes it
 *   mounted    sz_mount_open
 *   unmounted  sz_mount_unmount, sz_mount_close, fusermount3 -u, umount: the loop sees it, and ends
 *   ended      the loop has ended; ended() was called
 */
#include "fuse/fuse_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define READ_AHEAD_KIB 4096U /* some records; FUSE's own are 128, and reads are slow then */
/* Where the mount is in use, by open files, a working folder or another namespace, it is given up after that. */
#define END_LIMIT_MS   10000U
#define END_RETRY_MS   500U
/* Nothing was asked for so long: what the kernel was told to write has been written. */
#define QUIET_MS       1000U
#define QUIET_LIMIT_MS 20000U  /* for programs that never stop */
#define WAKE_SIGNAL    SIGUSR2 /* ends the loop; from mount_end alone */

static const char how_to_get_fuse[] =
	"; 'apt install fuse3' (or your system's package of libfuse 3) brings it, on some systems "
	"also 'modprobe fuse'; without it 'szpool put', 'get', 'ls' and 'cat' work all the same";

static bool program_exists(const char *name)
{
	const char *path = getenv("PATH");
	CLEANUP_FREE char *folders = strdup(path != NULL ? path : "/usr/bin:/bin");
	char *rest = folders;
	const char *folder;

	while (rest != NULL && (folder = strsep(&rest, ":")) != NULL) {
		char file[PATH_MAX];

		if (snprintf(file, sizeof(file), "%s/%s", folder, name) < (int)sizeof(file) &&
		    access(file, X_OK) == 0)
			return true;
	}
	return false;
}

static int fuse_check(struct sz_error *error)
{
	CLEANUP_FD int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (device < 0 && geteuid() != 0 && (errno == EACCES || errno == EPERM))
		return sz_fail(
			error, -EACCES,
			"/dev/fuse: %s; an administrator can let you mount ('chmod 0666 /dev/fuse', "
			"as it usually is); 'szpool put' and 'szpool get' do without",
			strerror(errno));
	if (device < 0)
		return sz_fail(error, -EOPNOTSUPP, "/dev/fuse: %s%s", strerror(errno),
			       how_to_get_fuse);
	if (geteuid() != 0 && !program_exists("fusermount3"))
		return sz_fail(error, -EOPNOTSUPP, "there is no fusermount3%s", how_to_get_fuse);
	return 0;
}

static int folder_check(const char *folder, struct sz_error *error)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	bool is_empty = true;

	if (dir == NULL && errno == ENOTCONN)
		return sz_fail(
			error, -ENOTCONN,
			"%s: a process that is gone left a file system mounted there; 'szpool "
			"umount %s' removes it",
			folder, folder);
	if (dir == NULL && errno == ENOENT)
		return sz_fail(error, -ENOENT, "%s: there is no such folder; 'mkdir %s' makes it",
			       folder, folder);
	if (dir == NULL)
		return sz_fail(error, -errno, "%s: %s", folder, strerror(errno));
	while ((entry = readdir(dir)) != NULL)
		is_empty = is_empty &&
			   (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
	(void)closedir(dir);
	if (!is_empty)
		return sz_fail(error, -ENOTEMPTY,
			       "%s: is not empty: what is in it would not be seen; name an empty "
			       "folder",
			       folder);
	return 0;
}

int sz_mount_check(const char *folder, struct sz_error *error)
{
	int result = folder_check(folder, error);

	return result != 0 ? result : fuse_check(error);
}

/* ",name=value" of an option whose value may hold anything. */
static int option_add(struct sz_bytes *text, const char *name, const char *value)
{
	int result = sz_bytes_append(text, name, strlen(name));

	for (; result == 0 && *value != '\0'; value++) {
		if (*value == ',' || *value == '\\')
			result = sz_bytes_append(text, "\\", 1);
		if (result == 0)
			result = sz_bytes_append(text, value, 1);
	}
	return result;
}

static int options_make(const struct sz_mount_options *options, struct sz_bytes *text)
{
	int result = option_add(text,
				"subtype=" SZ_FUSE_TYPE ",nosuid,nodev,default_permissions,fsname=",
				options->source);

	if (result == 0 && options->read_only)
		result = option_add(text, ",ro", "");
	if (result == 0 && options->allow_other)
		result = option_add(text, ",allow_other", "");
	if (result == 0 && options->flags != NULL && options->flags[0] != '\0')
		result = sz_bytes_append(text, ",", 1);
	if (result == 0 && options->flags != NULL)
		result = sz_bytes_append(text, options->flags, strlen(options->flags));
	return result != 0 ? result : sz_bytes_append(text, "", 1);
}

static int session_make(struct sz_mount *mount, const struct sz_mount_options *options)
{
	CLEANUP_BYTES struct sz_bytes text = { 0 };
	struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
	int result = options_make(options, &text);

	if (result == 0 && (fuse_opt_add_arg(&arguments, "szpool") != 0 ||
			    fuse_opt_add_arg(&arguments, "-o") != 0 ||
			    fuse_opt_add_arg(&arguments, (const char *)text.data) != 0))
		result = -ENOMEM;
	if (result == 0)
		mount->session = fuse_session_new(
			&arguments, mount->fs != NULL ? &operations : &device_operations,
			sizeof(operations), mount);
	fuse_opt_free_args(&arguments);
	return result == 0 && mount->session == NULL ? -EINVAL : result;
}

static void woken(int number)
{
	(void)number;
}

static void *loop_run(void *argument)
{
	struct sz_mount *mount = argument;
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	(void)pthread_setname_np(pthread_self(), "fuse");
	if (config != NULL) {
		fuse_loop_cfg_set_clone_fd(config, 1);
		fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
		(void)fuse_session_loop_mt(mount->session, config);
		fuse_loop_cfg_destroy(config);
	}
	(void)pthread_mutex_lock(&mount->lock);
	mount->has_ended = true;
	(void)pthread_cond_broadcast(&mount->is_over);
	(void)pthread_mutex_unlock(&mount->lock);
	mount->ended(mount->context);
	return NULL;
}

/* Only root may; others read as slowly as FUSE does by default. */
static void read_ahead_raise(const struct sz_mount *mount)
{
	CLEANUP_FD int fd = -1;
	struct stat stat_of;
	char text[64];
	int length;

	if (stat(mount->folder, &stat_of) != 0)
		return;
	(void)snprintf(text, sizeof(text), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       major(stat_of.st_dev), minor(stat_of.st_dev));
	fd = open(text, O_WRONLY | O_CLOEXEC);
	length = snprintf(text, sizeof(text), "%u\n", READ_AHEAD_KIB);
	if (fd >= 0)
		(void)!sz_write(fd, text, (size_t)length);
}

static int serving_start(struct sz_mount *mount, struct sz_error *error)
{
	const struct sigaction wake = { .sa_handler = woken };
	int result = fuse_session_mount(mount->session, mount->folder);

	if (result != 0)
		return sz_fail(error, -EIO, "%s: cannot be mounted", mount->folder);
	mount->number = folder_device(mount->folder);
	(void)sigaction(WAKE_SIGNAL, &wake, NULL);
	result = errands_start(mount);
	if (result == 0) {
		result = -pthread_create(&mount->loop, NULL, loop_run, mount);
		if (result != 0)
			errands_stop(mount);
	}
	if (result != 0) {
		fuse_session_unmount(mount->session);
		return sz_fail(error, result, "cannot start a thread");
	}
	read_ahead_raise(mount);
	return 0;
}

static void mount_free(struct sz_mount *mount)
{
	if (mount->session != NULL)
		fuse_session_destroy(mount->session);
	slots_close(mount);
	device_files_free(mount->devices);
	(void)pthread_mutex_destroy(&mount->lock);
	(void)pthread_mutex_destroy(&mount->slots_lock);
	(void)pthread_cond_destroy(&mount->served_less);
	(void)pthread_cond_destroy(&mount->errand_added);
	(void)pthread_cond_destroy(&mount->is_over);
	free(mount->folder);
	free(mount);
}

/* Of a file system, or of devices, which it owns. */
static int mount_open(struct sz_fs *fs, struct sz_device_files *devices, const char *folder,
		      const struct sz_mount_options *options, sz_mount_ended_fn *ended,
		      void *context, struct sz_mount **mount_out, struct sz_error *error)
{
	struct sz_mount *mount = calloc(1, sizeof(*mount));
	pthread_condattr_t monotonic;
	int result;

	if (mount == NULL) {
		device_files_free(devices);
		return sz_fail(error, -ENOMEM, "no memory");
	}
	*mount = (struct sz_mount){ .fs = fs,
				    .devices = devices,
				    .read_only = options->read_only,
				    .folder = strdup(folder),
				    .ended = ended,
				    .context = context };
	(void)pthread_mutex_init(&mount->lock, NULL);
	(void)pthread_mutex_init(&mount->slots_lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&mount->served_less, NULL);
	(void)pthread_cond_init(&mount->errand_added, NULL);
	(void)pthread_cond_init(&mount->is_over, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	result = mount->folder == NULL ? -ENOMEM : session_make(mount, options);
	if (result != 0)
		(void)sz_fail(error, result, "%s: cannot be mounted", folder);
	else
		result = serving_start(mount, error);
	if (result != 0) {
		mount_free(mount);
		return result;
	}
	*mount_out = mount;
	return 0;
}

int sz_mount_open(struct sz_fs *fs, const char *folder, const struct sz_mount_options *options,
		  sz_mount_ended_fn *ended, void *context, struct sz_mount **mount_out,
		  struct sz_error *error)
{
	/* Without them a dataset is found, and listed nowhere. */
	(void)!sz_fs_children_place(fs);
	return mount_open(fs, NULL, folder, options, ended, context, mount_out, error);
}

int sz_mount_open_devices(struct sz_store *store, const char *folder,
			  const struct sz_mount_options *options, sz_mount_ended_fn *ended,
			  void *context, struct sz_mount **mount_out, struct sz_error *error)
{
	struct sz_device_files *devices = device_files_make(store, options);

	if (devices == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	return mount_open(NULL, devices, folder, options, ended, context, mount_out, error);
}

void sz_mount_entry_changed(struct sz_mount *mount, const struct sz_fs *fs, uint64_t parent,
			    const char *name)
{
	fuse_ino_t folder;

	if (!node_find(mount, fs, parent, &folder))
		return;
	(void)fuse_lowlevel_notify_inval_entry(mount->session, folder, name, strlen(name));
	(void)fuse_lowlevel_notify_inval_inode(mount->session, folder, -1, 0);
}

void sz_mount_inode_changed(struct sz_mount *mount, const struct sz_fs *fs, uint64_t number)
{
	fuse_ino_t inode;

	if (node_find(mount, fs, number, &inode))
		(void)fuse_lowlevel_notify_inval_inode(mount->session, inode, -1, 0);
}

const char *sz_mount_folder(const struct sz_mount *mount)
{
	return mount->folder;
}

int sz_mount_device(const struct sz_mount *mount, dev_t *number_out)
{
	*number_out = mount->number;
	return dup(fuse_session_fd(mount->session));
}

int sz_mount_unmount(struct sz_mount *mount, struct sz_error *error)
{
	return folder_unmount(mount->folder, false, error);
}

/* Has it ended, now or within that time? */
static bool end_wait(struct sz_mount *mount, unsigned int limit_ms)
{
	struct timespec until;
	int result = 0;
	bool has_ended;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += limit_ms / 1000;
	until.tv_nsec += (long)(limit_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_mutex_lock(&mount->lock);
	while (!mount->has_ended && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&mount->is_over, &mount->lock, &until);
	has_ended = mount->has_ended;
	(void)pthread_mutex_unlock(&mount->lock);
	return has_ended;
}

/* Not: it was unmounted, and something else may be mounted there, or under it. */
static bool is_in_table(const struct sz_mount *mount)
{
	return mount->number != 0 && folder_device(mount->folder) == mount->number;
}

/* A descriptor of it, or -1. */
static int folder_open(const struct sz_mount *mount)
{
	return is_in_table(mount) ? open(mount->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

void sz_mount_sync(struct sz_mount *mount)
{
	CLEANUP_FD int fd = folder_open(mount);

	if (fd >= 0)
		(void)syncfs(fd);
}

/* False: it is in use still. */
static bool end_try(struct sz_mount *mount)
{
	struct sz_error ignored = { 0 };

	for (unsigned int waited_ms = 0; waited_ms < END_LIMIT_MS; waited_ms += END_RETRY_MS) {
		if (is_in_table(mount) && folder_unmount(mount->folder, false, &ignored) != 0 &&
		    waited_ms == 0)
			sz_mount_sync(mount);
		if (end_wait(mount, END_RETRY_MS))
			return true;
	}
	return false;
}

/* What is dirty is written, until nothing is asked for any more. */
static void quiet_wait(struct sz_mount *mount, int fd)
{
	bool is_quiet = false;

	for (unsigned int waited_ms = 0; !is_quiet && waited_ms < QUIET_LIMIT_MS;
	     waited_ms += QUIET_MS) {
		uint64_t answered;

		if (fd >= 0)
			(void)syncfs(fd);
		(void)pthread_mutex_lock(&mount->lock);
		answered = mount->answered;
		(void)pthread_mutex_unlock(&mount->lock);
		if (end_wait(mount, QUIET_MS))
			return;
		(void)pthread_mutex_lock(&mount->lock);
		is_quiet = mount->served == 0 && mount->answered == answered;
		(void)pthread_mutex_unlock(&mount->lock);
	}
	if (!is_quiet && fd >= 0)
		(void)syncfs(fd);
}

/*
 * In use: nobody new comes in; what is dirty in the kernel is written, which goes on after syncfs has returned; then
 * who uses it gets errors. The errands end before the loop does: they wait for writes that it serves, and so may the
 * closing of the descriptor.
 */
static void end_force(struct sz_mount *mount)
{
	int fd = folder_open(mount);
	struct sz_error ignored = { 0 };

	if (fd >= 0)
		(void)!folder_unmount(mount->folder, true, &ignored);
	quiet_wait(mount, fd);
	sz_mount_refuse(mount, -EIO);
	errands_stop(mount);
	sz_cleanup_fd(&fd);
	fuse_session_exit(mount->session);
	(void)pthread_kill(mount->loop, WAKE_SIGNAL);
}

void sz_mount_close(struct sz_mount *mount)
{
	if (!end_try(mount))
		end_force(mount);
	(void)pthread_join(mount->loop, NULL);
	errands_stop(mount);
	mount_free(mount);
}
