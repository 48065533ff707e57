/*
 * vdev_file: ZFS's file vdevs over our devices, for programs of ZFS's own: preloaded into ztest, and into
 * the zdb that it runs, this takes the place of libzpool's vdev_file.c.
 *
 * Beside a vdev file FILE stands a store FILE.store with one device. What ZFS writes goes to the device,
 * through the same code as in szpool. The file itself keeps what programs do with it behind ZFS's back:
 *
 *   its length     is the vdev's size: ztest makes, grows and replaces vdevs by it
 *   its labels     written to the file as well: a search for pools reads them there
 *   a mark         in the sector behind the first two labels: the file is the one that the store was made
 *                  for. ztest makes a new vdev by truncating the file, which removes the mark.
 *   anything else  is a fault that ztest has injected: the sector is damaged until it is written anew
 *
 * A process that is killed leaves its stores as they are; the next to open the file for writing recovers
 * them. zdb opens them read-only. Stores are sealed, and compacted, while they are written to.
 */
#include "engine/leaf_io.h"

#include <sys/vdev_file.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFINED        __attribute__((visibility("default")))
#define DEVICE_SECTORS (1ULL << 22) /* 16 GiB: no vdev of ztest grows so far */
#define BAND_SECTORS   256U         /* small, for many of them: vdevs are of 256 MiB */
#define LABEL_BYTES    (256ULL << 10)
#define LABELS_BYTES   (2 * LABEL_BYTES) /* at each end of a vdev */
#define MARK_OFFSET    LABELS_BYTES
#define MARK           0x5a
#define FILLER         0xa5
#define ASHIFT         12U
#define IO_THREADS     16
#define SEAL_PAUSE_MS  50U
#define COMPACT_EACH   4U /* one seal in so many compacts */
#define FOLDERS_OPEN   16

/* The store of a vdev file that is open. The same file may be open as several vdevs, as spares are. */
struct vdev_store {
	struct vdev_store *next; /* in stores; under stores_lock */
	unsigned int references; /* under stores_lock */
	char *path;              /* of the vdev file */
	int fd;                  /* of the vdev file */
	struct sz_store *store;
	struct sz_device *device;
	_Atomic uint64_t size_bytes;
	_Atomic uint64_t full_since_ns;
};

/* What vdev_tsd points to. First comes what ztest expects there: it closes that file to make a fault. */
struct open_vdev {
	vdev_file_t file;
	struct vdev_store *store;
};

/* Held while stores are opened, sealed and closed: only the opening of vdevs waits for it. */
static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vdev_store *stores;

static taskq_t *io_queue;
static pthread_t sealer;
static _Atomic bool sealer_stops;

/* Whose zio this thread is at. */
static _Thread_local struct vdev_store *current;

static const struct sz_passphrase passphrase = { .bytes = "ztest", .length = 5 };

static void die(const char *what, const char *path, const char *why) __attribute__((noreturn));
static void die(const char *what, const char *path, const char *why)
{
	(void)fprintf(stderr, "vdev_file: %s: %s: %s\n", path, what, why);
	abort();
}

/* For the script that runs ztest: so many stores were recovered, sealed, … */
static void event(const char *text)
{
	const char *path = getenv("SZ_ZTEST_EVENTS");
	CLEANUP_FD int fd = -1;

	if (path == NULL)
		return;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("noting an event", path, strerror(errno));
}

static bool is_all(const uint8_t *bytes, size_t length, uint8_t value)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

/* What the file has there by itself. */
static bool is_label(const struct vdev_store *store, uint64_t offset)
{
	uint64_t end = atomic_load(&store->size_bytes) / LABEL_BYTES * LABEL_BYTES;

	return offset < LABELS_BYTES || offset >= end - LABELS_BYTES;
}

static bool may_be_faulty(const struct vdev_store *store, uint64_t offset)
{
	return !is_label(store, offset) && offset != MARK_OFFSET;
}

static bool is_faulty(const struct vdev_store *store, uint64_t offset)
{
	uint8_t bytes[SZ_SECTOR_BYTES] = { 0 };

	return may_be_faulty(store, offset) &&
	       pread(store->fd, bytes, sizeof(bytes), (off_t)offset) > 0 &&
	       !is_all(bytes, sizeof(bytes), 0);
}

/* The first sector from offset on, below end, that the file has data in; end: there is none. */
static uint64_t next_data(const struct vdev_store *store, uint64_t offset, uint64_t end)
{
	off_t found = offset < end ? lseek(store->fd, (off_t)offset, SEEK_DATA) : -1;

	if (found < 0 || (uint64_t)found >= end)
		return end;
	return (uint64_t)found / SZ_SECTOR_BYTES * SZ_SECTOR_BYTES;
}

static void faults_clear(const struct vdev_store *store, uint64_t offset, uint64_t end)
{
	while ((offset = next_data(store, offset, end)) < end) {
		if (may_be_faulty(store, offset) &&
		    fallocate(store->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			      SZ_SECTOR_BYTES) != 0)
			die("punching a hole", store->path, strerror(errno));
		offset += SZ_SECTOR_BYTES;
	}
}

/* What was written to labels, into the file. */
static void labels_mirror(const struct vdev_store *store, const zio_t *zio)
{
	uint8_t bytes[SZ_SECTOR_BYTES];

	for (uint64_t done = 0; done < zio->io_size; done += sizeof(bytes)) {
		if (!is_label(store, zio->io_offset + done))
			continue;
		abd_copy_to_buf_off(bytes, zio->io_abd, done, sizeof(bytes));
		if (pwrite(store->fd, bytes, sizeof(bytes), (off_t)(zio->io_offset + done)) < 0)
			die("writing a label", store->path, strerror(errno));
	}
}

/*
 * The linker has leaf_io.c call this in place of the device's own function: a fault in the file is as good
 * as a sector that does not authenticate.
 */
int __real_sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer);
int __wrap_sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer);
int __wrap_sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	int result = __real_sz_device_read(device, sector, count, buffer);
	uint64_t start = sector * SZ_SECTOR_BYTES;
	uint64_t end = start + (uint64_t)count * SZ_SECTOR_BYTES;

	for (uint64_t at = start; (at = next_data(current, at, end)) < end; at += SZ_SECTOR_BYTES) {
		if (!is_faulty(current, at))
			continue;
		memset((uint8_t *)buffer + (at - start), FILLER, SZ_SECTOR_BYTES);
		if (result == 0)
			result = -EBADMSG;
		event("fault\n");
	}
	return result;
}

static int io_carry_out(zio_t *zio, const struct open_vdev *vdev)
{
	struct sz_bounce bounce = { 0 };
	int result;

	if (vdev->file.vf_file->f_fd < 0)
		return -EBADF; /* ztest has closed it */
	current = vdev->store;
	result = sz_leaf_io(zio, current->device, &current->full_since_ns, &bounce);
	sz_bounce_fini(&bounce);
	if (result == 0 && (zio->io_type == ZIO_TYPE_WRITE || zio->io_type == ZIO_TYPE_TRIM))
		faults_clear(current, zio->io_offset, zio->io_offset + zio->io_size);
	if (result == 0 && zio->io_type == ZIO_TYPE_WRITE)
		labels_mirror(current, zio);
	return result;
}

static void io_run(void *argument)
{
	zio_t *zio = argument;

	sz_zio_finish(zio, io_carry_out(zio, zio->io_vd->vdev_tsd));
}

static void vdev_io_start(zio_t *zio)
{
	if (zio->io_type == ZIO_TYPE_FLUSH && !vdev_readable(zio->io_vd))
		sz_zio_finish(zio, -ENXIO);
	else if (zio->io_type == ZIO_TYPE_FLUSH && zfs_nocacheflush)
		sz_zio_finish(zio, 0);
	else
		VERIFY3U(taskq_dispatch(io_queue, io_run, zio, TQ_SLEEP), !=, TASKQID_INVALID);
}

static void vdev_io_done(zio_t *zio)
{
	(void)zio;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
	(void)status;
	(void)type;
	(void)position;
	return remove(path);
}

/* A fault may be injected into the mark, too. */
static bool has_mark(const struct vdev_store *store)
{
	uint8_t mark[SZ_SECTOR_BYTES] = { 0 };

	return pread(store->fd, mark, sizeof(mark), MARK_OFFSET) > 0 &&
	       !is_all(mark, sizeof(mark), 0);
}

/* A new store for a file that has no mark, in the place of the one of an earlier file of that name. */
static void store_create(const struct vdev_store *store, const char *folder)
{
	const struct sz_store_create create = { .device_count = 1,
						.device_sectors = DEVICE_SECTORS,
						.band_sectors = BAND_SECTORS,
						.kdf = SZ_KDF_TEST,
						.path = folder };
	struct sz_error error = { 0 };
	uint8_t mark[SZ_SECTOR_BYTES];

	if (nftw(folder, remove_one, FOLDERS_OPEN, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		die("removing", folder, strerror(errno));
	if (sz_store_create(&create, &passphrase, &error) != 0)
		die("creating", folder, error.text);
	memset(mark, MARK, sizeof(mark));
	if (pwrite(store->fd, mark, sizeof(mark), MARK_OFFSET) < 0)
		die("marking", store->path, strerror(errno));
	event("created\n");
}

static int store_open(struct vdev_store *store, bool read_only)
{
	CLEANUP_FREE char *folder = NULL;
	struct sz_store_open options = { .read_only = read_only };
	struct sz_store_info info;
	struct sz_error error = { 0 };

	store->fd = open(store->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (store->fd < 0)
		return errno;
	if (asprintf(&folder, "%s.store", store->path) < 0)
		die("opening", store->path, "no memory");
	if (!has_mark(store)) {
		if (read_only)
			return ENOENT; /* made, and never opened by those who made it */
		store_create(store, folder);
	}
	options.path = folder;
	if (sz_store_open(&options, &passphrase, &store->store, &error) != 0)
		die("opening", folder, error.text);
	store->device = sz_store_device(store->store, 0);
	sz_store_info(store->store, &info);
	event(info.recovered ? "recovered\n" : "opened\n");
	return 0;
}

static struct vdev_store *store_make(const char *path)
{
	struct vdev_store *store = calloc(1, sizeof(*store));

	if (store == NULL || (store->path = strdup(path)) == NULL)
		die("opening", path, "no memory");
	store->fd = -1;
	return store;
}

static void store_free(struct vdev_store *store)
{
	if (store->fd >= 0)
		(void)close(store->fd);
	free(store->path);
	free(store);
}

/* Under stores_lock. Errors are ZFS's: positive. */
static int store_find(const char *path, struct vdev_store **store_out)
{
	struct vdev_store *store = stores;
	int result;

	while (store != NULL && strcmp(store->path, path) != 0)
		store = store->next;
	*store_out = store;
	if (store != NULL && !has_mark(store))
		die("opening", path, "it was truncated while it was open");
	if (store != NULL)
		return 0;
	store = store_make(path);
	result = store_open(store, (spa_mode_global & SPA_MODE_WRITE) == 0);
	if (result != 0) {
		store_free(store);
		return result;
	}
	store->next = stores;
	*store_out = stores = store;
	return 0;
}

static int store_get(const char *path, struct vdev_store **store_out)
{
	int result;

	(void)pthread_mutex_lock(&stores_lock);
	result = store_find(path, store_out);
	if (result == 0)
		(*store_out)->references++;
	(void)pthread_mutex_unlock(&stores_lock);
	return result;
}

static void store_put(struct vdev_store *store)
{
	struct sz_error error = { 0 };
	struct vdev_store **at = &stores;

	(void)pthread_mutex_lock(&stores_lock);
	if (--store->references == 0) {
		while (*at != store)
			at = &(*at)->next;
		*at = store->next;
		if (sz_store_close(store->store, &error) != 0)
			die("closing", store->path, error.text);
		store_free(store);
	}
	(void)pthread_mutex_unlock(&stores_lock);
}

/* Any one of those that are open; NULL: none is. Under stores_lock. */
static struct vdev_store *store_choose(uint32_t random)
{
	struct vdev_store *store = stores;
	uint32_t count = 0;

	for (; store != NULL; store = store->next)
		count++;
	if (count == 0)
		return NULL;
	store = stores;
	for (uint32_t i = random % count; i > 0; i--)
		store = store->next;
	return store;
}

/* Under stores_lock. */
static void seal_one(void)
{
	uint32_t random[2];
	struct vdev_store *store;
	struct sz_error error = { 0 };
	bool compacts;
	int result;

	sz_random(random, sizeof(random));
	store = store_choose(random[0]);
	if (store == NULL || sz_store_is_read_only(store->store))
		return;
	compacts = random[1] % COMPACT_EACH == 0;
	result = compacts ? sz_store_compact(store->store, &error)
			  : sz_store_seal(store->store, &error);
	if (result != 0)
		die("sealing", store->path, error.text);
	event(compacts ? "compacted\n" : "sealed\n");
}

static void *sealer_run(void *unused)
{
	(void)unused;
	while (!atomic_load(&sealer_stops)) {
		sz_sleep_ms(SEAL_PAUSE_MS);
		(void)pthread_mutex_lock(&stores_lock);
		seal_one();
		(void)pthread_mutex_unlock(&stores_lock);
	}
	return NULL;
}

static int vdev_make(vdev_t *vd)
{
	struct open_vdev *vdev = calloc(1, sizeof(*vdev));
	int result;

	VERIFY(vdev != NULL);
	vd->vdev_tsd = vdev;
	result = zfs_file_open(vd->vdev_path, O_RDONLY, 0, &vdev->file.vf_file);
	return result == 0 ? store_get(vd->vdev_path, &vdev->store) : result;
}

/* As ZFS's own: a vdev that is reopened stays open, and its size is looked at again. */
static int vdev_open_file(vdev_t *vd, uint64_t *size, uint64_t *max_size, uint64_t *logical_ashift,
			  uint64_t *physical_ashift)
{
	const struct open_vdev *vdev;
	struct stat status;
	int result;

	vd->vdev_nonrot = B_TRUE;
	vd->vdev_has_trim = B_TRUE;
	vd->vdev_has_securetrim = B_TRUE;
	if (vd->vdev_path == NULL || vd->vdev_path[0] != '/') {
		vd->vdev_stat.vs_aux = VDEV_AUX_BAD_LABEL;
		return EINVAL;
	}
	result = vd->vdev_tsd == NULL ? vdev_make(vd) : 0;
	vdev = vd->vdev_tsd;
	if (result == 0 && fstat(vdev->file.vf_file->f_fd, &status) != 0)
		result = errno;
	if (result != 0) {
		vd->vdev_stat.vs_aux = VDEV_AUX_OPEN_FAILED;
		return result;
	}
	VERIFY3U((uint64_t)status.st_size, <=, DEVICE_SECTORS * SZ_SECTOR_BYTES);
	atomic_store(&vdev->store->size_bytes, (uint64_t)status.st_size);
	*size = *max_size = (uint64_t)status.st_size;
	*logical_ashift = ASHIFT;
	*physical_ashift = ASHIFT;
	return 0;
}

static void vdev_close_file(vdev_t *vd)
{
	struct open_vdev *vdev = vd->vdev_tsd;

	if (vd->vdev_reopening || vdev == NULL)
		return;
	if (vdev->file.vf_file != NULL)
		zfs_file_close(vdev->file.vf_file);
	if (vdev->store != NULL)
		store_put(vdev->store);
	free(vdev);
	vd->vdev_delayed_close = B_FALSE;
	vd->vdev_tsd = NULL;
}

/* libzpool calls these two when it starts and ends, which ztest has it do several times. */
DEFINED void vdev_file_init(void)
{
	io_queue = taskq_create("z_vdev_file", IO_THREADS, minclsyspri, IO_THREADS, INT_MAX, 0);
	VERIFY(io_queue != NULL);
	atomic_store(&sealer_stops, false);
	VERIFY0(pthread_create(&sealer, NULL, sealer_run, NULL));
}

DEFINED void vdev_file_fini(void)
{
	atomic_store(&sealer_stops, true);
	VERIFY0(pthread_join(sealer, NULL));
	taskq_destroy(io_queue);
}

DEFINED vdev_ops_t vdev_file_ops = {
	.vdev_op_open = vdev_open_file,
	.vdev_op_close = vdev_close_file,
	.vdev_op_asize = vdev_default_asize,
	.vdev_op_min_asize = vdev_default_min_asize,
	.vdev_op_io_start = vdev_io_start,
	.vdev_op_io_done = vdev_io_done,
	.vdev_op_xlate = vdev_default_xlate,
	.vdev_op_type = VDEV_TYPE_FILE,
	.vdev_op_leaf = B_TRUE,
};
