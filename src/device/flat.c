/*
 * flat: the simplest device, a sparse plain file each. A stand-in with the interface of the real
 * one; it neither encrypts nor seals.
 */
#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct sz_device {
	int fd;
	uint64_t sectors;
	char path[600];
};

struct sz_store {
	uint32_t count;
	bool read_only;
	struct sz_device devices[SZ_DEVICES_MAX];
};

int sz_store_create(const struct sz_store_create *options, const struct sz_passphrase *passphrase,
		    struct sz_error *error)
{
	(void)passphrase;
	if (mkdir(options->path, 0700) != 0 && errno != EEXIST)
		return sz_fail(error, -errno, "%s", options->path);
	for (uint32_t i = 0; i < options->device_count; i++) {
		char path[600];
		int fd;

		(void)snprintf(path, sizeof(path), "%s/%u", options->path, i);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)(options->device_sectors * 4096)) != 0)
			return sz_fail(error, -errno, "%s", path);
		(void)close(fd);
	}
	return 0;
}

int sz_store_open(const struct sz_store_open *options, const struct sz_passphrase *passphrase,
		  struct sz_store **store_out, struct sz_error *error)
{
	struct sz_store *store = calloc(1, sizeof(*store));

	(void)passphrase;
	(void)error;
	store->read_only = options->read_only;
	store->count = 6;
	for (uint32_t i = 0; i < store->count; i++) {
		struct stat status;
		struct sz_device *device = &store->devices[i];

		(void)snprintf(device->path, sizeof(device->path), "%s/%u", options->path, i);
		device->fd = open(device->path, O_RDWR);
		if (device->fd >= 0 && fstat(device->fd, &status) == 0)
			device->sectors = (uint64_t)status.st_size / 4096;
	}
	*store_out = store;
	return 0;
}

int sz_store_seal(struct sz_store *store, struct sz_error *error)
{
	(void)store;
	(void)error;
	return 0;
}

int sz_store_close(struct sz_store *store, struct sz_error *error)
{
	(void)error;
	for (uint32_t i = 0; i < store->count; i++)
		if (store->devices[i].fd >= 0)
			(void)close(store->devices[i].fd);
	free(store);
	return 0;
}

void sz_store_info(struct sz_store *store, struct sz_store_info *info_out)
{
	*info_out = (struct sz_store_info){ .device_count = store->count };
}

int sz_store_damage_each(struct sz_store *store, sz_damage_fn *function, void *context)
{
	(void)store;
	(void)function;
	(void)context;
	return 0;
}

struct sz_device *sz_store_device(struct sz_store *store, uint32_t index)
{
	return &store->devices[index];
}

uint32_t sz_store_device_count(const struct sz_store *store)
{
	return store->count;
}

bool sz_store_is_read_only(const struct sz_store *store)
{
	return store->read_only;
}

enum sz_device_state sz_device_state(const struct sz_device *device)
{
	return device->fd < 0 ? SZ_DEVICE_MISSING : SZ_DEVICE_ONLINE;
}

uint64_t sz_device_sectors(const struct sz_device *device)
{
	return device->sectors;
}

const char *sz_device_folder(const struct sz_device *device)
{
	return device->path;
}

uint64_t sz_device_damaged_sectors(const struct sz_device *device)
{
	(void)device;
	return 0;
}

int sz_store_replace_device(struct sz_store *store, uint32_t index, const char *folder,
			    struct sz_error *error)
{
	struct sz_device *device = &store->devices[index];

	(void)folder;
	(void)error;
	device->fd = open(device->path, O_RDWR | O_CREAT, 0600);
	for (uint32_t i = 0; i < store->count; i++)
		if (store->devices[i].sectors > device->sectors)
			device->sectors = store->devices[i].sectors;
	return ftruncate(device->fd, (off_t)(device->sectors * 4096)) != 0 ? -errno : 0;
}

int sz_store_change_passphrase(struct sz_store *store, const struct sz_passphrase *new_passphrase,
			       enum sz_kdf kdf, struct sz_error *error)
{
	(void)store;
	(void)new_passphrase;
	(void)kdf;
	(void)error;
	return 0;
}

int sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	size_t done;

	return sz_pread(device->fd, buffer, (size_t)count * 4096, sector * 4096, &done);
}

int sz_device_write(struct sz_device *device, uint64_t sector, uint32_t count, const void *buffer)
{
	return sz_pwrite(device->fd, buffer, (size_t)count * 4096, sector * 4096);
}

int sz_device_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	return fallocate(device->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)sector * 4096, (off_t)count * 4096) != 0
		       ? -errno
		       : 0;
}

int sz_device_flush(struct sz_device *device)
{
	return fdatasync(device->fd) != 0 ? -errno : 0;
}
