/* See scripted.h. */
#include "scripted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define LABELS_SECTORS 1280U /* at either end: the labels and the boot area, and some more */

static void *shared_map(size_t length)
{
	void *memory =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

struct sz_store *scripted_make(void)
{
	struct sz_store *store = shared_map(sizeof(*store));

	store->count = SCRIPTED_DEVICES;
	store->room = UINT64_MAX;
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++) {
		store->devices[i].index = i;
		store->devices[i].data = shared_map((size_t)SCRIPTED_SECTORS * SZ_SECTOR_BYTES);
	}
	return store;
}

void scripted_free(struct sz_store *store)
{
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		(void)munmap(store->devices[i].data, (size_t)SCRIPTED_SECTORS * SZ_SECTOR_BYTES);
	(void)munmap(store, sizeof(*store));
}

uint64_t scripted_writes(const struct sz_store *store)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		sum += __atomic_load_n(&store->devices[i].writes, __ATOMIC_SEQ_CST);
	return sum;
}

static uint8_t *content_of(const struct sz_device *device, uint64_t sector)
{
	return device->data + sector * SZ_SECTOR_BYTES;
}

void scripted_copy(struct sz_device *to, const struct sz_device *from)
{
	memcpy(to->sectors, from->sectors, SCRIPTED_SECTORS);
	for (uint32_t i = 0; i < SCRIPTED_SECTORS; i++)
		if (from->sectors[i] != SCRIPTED_ABSENT)
			memcpy(content_of(to, i), content_of(from, i), SZ_SECTOR_BYTES);
}

void scripted_exchange(struct sz_device *a, struct sz_device *b)
{
	uint8_t *data = a->data;

	a->data = b->data;
	b->data = data;
	for (uint32_t i = 0; i < SCRIPTED_SECTORS; i++) {
		uint8_t sector = a->sectors[i];

		a->sectors[i] = b->sectors[i];
		b->sectors[i] = sector;
	}
}

void scripted_clear(struct sz_device *device)
{
	memset(device->sectors, SCRIPTED_ABSENT, SCRIPTED_SECTORS);
}

static void device_write_out(const struct sz_device *device, const char *folder)
{
	char path[256];
	CLEANUP_FD int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/%u", folder, device->index);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)SCRIPTED_SECTORS * SZ_SECTOR_BYTES) != 0)
		abort();
	for (uint64_t at = 0; at < SCRIPTED_SECTORS; at++)
		if (device->sectors[at] == SCRIPTED_WRITTEN &&
		    sz_pwrite(fd, device->data + at * SZ_SECTOR_BYTES, SZ_SECTOR_BYTES,
			      at * SZ_SECTOR_BYTES) != 0)
			abort();
}

void scripted_write_out(const struct sz_store *store, const char *folder)
{
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		device_write_out(&store->devices[i], folder);
}

void scripted_fail_writes(struct sz_store *store, int error)
{
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		__atomic_store_n(&store->devices[i].write_error, error, __ATOMIC_SEQ_CST);
}

void scripted_fail_reads(struct sz_store *store, int error)
{
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		__atomic_store_n(&store->devices[i].read_error, error, __ATOMIC_SEQ_CST);
}

uint32_t scripted_damage(struct sz_device *device, uint32_t one_in)
{
	uint32_t used = 0;
	uint32_t damaged = 0;

	for (uint32_t i = LABELS_SECTORS; i < SCRIPTED_SECTORS - LABELS_SECTORS; i++) {
		if (device->sectors[i] != SCRIPTED_WRITTEN || ++used % one_in != 0)
			continue;
		device->sectors[i] = SCRIPTED_DAMAGED;
		damaged++;
	}
	return damaged;
}

static bool is_piece(const uint8_t *sector, const uint8_t *content, size_t length)
{
	for (size_t at = 0; at + SZ_SECTOR_BYTES <= length; at += SZ_SECTOR_BYTES)
		if (memcmp(sector, content + at, 8) == 0 &&
		    memcmp(sector, content + at, SZ_SECTOR_BYTES) == 0)
			return true;
	return false;
}

uint32_t scripted_damage_content(struct sz_store *store, const uint8_t *content, size_t length)
{
	uint32_t damaged = 0;

	for (uint32_t d = 0; d < SCRIPTED_DEVICES; d++) {
		struct sz_device *device = &store->devices[d];

		for (uint32_t i = 0; i < SCRIPTED_SECTORS; i++) {
			if (device->sectors[i] != SCRIPTED_WRITTEN ||
			    !is_piece(content_of(device, i), content, length))
				continue;
			device->sectors[i] = SCRIPTED_DAMAGED;
			damaged++;
		}
	}
	return damaged;
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

bool sz_store_is_volatile(const struct sz_store *store)
{
	(void)store;
	return false;
}

enum sz_device_state sz_device_state(const struct sz_device *device)
{
	return device->state;
}

uint64_t sz_device_sectors(const struct sz_device *device)
{
	(void)device;
	return SCRIPTED_SECTORS;
}

const char *sz_device_folder(const struct sz_device *device)
{
	(void)device;
	return "in memory";
}

uint64_t sz_device_damaged_sectors(const struct sz_device *device)
{
	return device->damaged_reads;
}

static int fault(const int *error)
{
	return __atomic_load_n(error, __ATOMIC_SEQ_CST);
}

static bool is_outside(uint64_t sector, uint64_t count)
{
	return sector > SCRIPTED_SECTORS || count > SCRIPTED_SECTORS - sector;
}

int sz_device_read_cached(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	if (__atomic_fetch_add(&device->cached_tries, 1, __ATOMIC_SEQ_CST) % 2 != 0 ||
	    is_outside(sector, count))
		return -EAGAIN;
	for (uint64_t i = sector; i < sector + count; i++)
		if (device->sectors[i] == SCRIPTED_DAMAGED)
			return -EAGAIN;
	return sz_device_read(device, sector, count, buffer) == 0 ? 0 : -EAGAIN;
}

int sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	uint8_t *to = buffer;
	int result = fault(&device->read_error);

	if (is_outside(sector, count))
		return -EINVAL;
	if (result != 0)
		return result;
	for (uint64_t i = sector; i < sector + count; i++, to += SZ_SECTOR_BYTES) {
		if (device->sectors[i] == SCRIPTED_WRITTEN) {
			memcpy(to, content_of(device, i), SZ_SECTOR_BYTES);
		} else if (device->sectors[i] == SCRIPTED_ABSENT) {
			memset(to, 0, SZ_SECTOR_BYTES);
		} else {
			for (uint32_t b = 0; b < SZ_SECTOR_BYTES; b++)
				to[b] = (uint8_t)(b * 167 + i * 59 + device->index * 31 + 7);
			(void)__atomic_add_fetch(&device->damaged_reads, 1, __ATOMIC_SEQ_CST);
			result = -EBADMSG;
		}
	}
	return result;
}

int sz_device_write(struct sz_device *device, uint64_t sector, uint32_t count, const void *buffer)
{
	int result = fault(&device->write_error);

	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	if (is_outside(sector, count))
		return -EINVAL;
	if (result != 0)
		return result;
	memcpy(content_of(device, sector), buffer, (size_t)count * SZ_SECTOR_BYTES);
	memset(device->sectors + sector, SCRIPTED_WRITTEN, count);
	return 0;
}

int sz_device_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	if (is_outside(sector, count))
		return -EINVAL;
	memset(device->sectors + sector, SCRIPTED_ABSENT, count);
	return 0;
}

uint64_t sz_store_room(struct sz_store *store)
{
	return __atomic_load_n(&store->room, __ATOMIC_SEQ_CST);
}

bool sz_store_is_short(struct sz_store *store)
{
	return sz_store_room(store) == 0;
}

int sz_store_make_room(struct sz_store *store, uint64_t wanted_bytes)
{
	(void)store;
	(void)wanted_bytes;
	return -ENOSPC;
}

int sz_store_give_back(struct sz_store *store, struct sz_error *error)
{
	(void)store;
	(void)error;
	return 0;
}

int sz_device_make_room(struct sz_device *device, uint64_t since_ns)
{
	(void)device;
	(void)since_ns;
	return -ENOSPC;
}

int sz_device_flush(struct sz_device *device)
{
	int result = fault(&device->flush_error);

	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	if (result != 0) {
		__atomic_store_n(&device->write_error, result, __ATOMIC_SEQ_CST);
		__atomic_store_n(&device->read_error, result, __ATOMIC_SEQ_CST);
	}
	return result;
}
