/* See scripted.h. */
#include "scripted.h"

#include <errno.h>
#include <sys/mman.h>

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

void scripted_exchange(struct sz_store *store, uint32_t a, uint32_t b)
{
	uint8_t *data = store->devices[a].data;

	store->devices[a].data = store->devices[b].data;
	store->devices[b].data = data;
}

void scripted_copy(struct sz_store *store, uint32_t from, uint32_t to)
{
	memcpy(store->devices[to].data, store->devices[from].data,
	       (size_t)SCRIPTED_SECTORS * SZ_SECTOR_BYTES);
}

void scripted_clear(struct sz_store *store, uint32_t device)
{
	memset(store->devices[device].data, 0, (size_t)SCRIPTED_SECTORS * SZ_SECTOR_BYTES);
	memset(store->devices[device].damaged, 0, SCRIPTED_SECTORS);
}

static bool is_zero(const uint8_t *sector)
{
	return sector[0] == 0 && memcmp(sector, sector + 1, SZ_SECTOR_BYTES - 1) == 0;
}

void scripted_damage(struct sz_store *store, uint32_t device, uint32_t one_in)
{
	struct sz_device *to = &store->devices[device];
	uint32_t used = 0;

	for (uint32_t i = LABELS_SECTORS; i < SCRIPTED_SECTORS - LABELS_SECTORS; i++)
		if (!is_zero(to->data + (size_t)i * SZ_SECTOR_BYTES) && ++used % one_in == 0)
			to->damaged[i] = 1;
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

int sz_device_read(struct sz_device *device, uint64_t sector, uint32_t count, void *buffer)
{
	int result = fault(&device->read_error);

	if (sector > SCRIPTED_SECTORS || count > SCRIPTED_SECTORS - sector)
		return -EINVAL;
	if (result != 0)
		return result;
	memcpy(buffer, device->data + sector * SZ_SECTOR_BYTES, (size_t)count * SZ_SECTOR_BYTES);
	for (uint32_t i = 0; i < count; i++) {
		if (device->damaged[sector + i] == 0)
			continue;
		memset((uint8_t *)buffer + (size_t)i * SZ_SECTOR_BYTES, 0x5a ^ (int)i,
		       SZ_SECTOR_BYTES);
		(void)__atomic_add_fetch(&device->damaged_reads, 1, __ATOMIC_SEQ_CST);
		result = -EBADMSG;
	}
	return result;
}

int sz_device_write(struct sz_device *device, uint64_t sector, uint32_t count, const void *buffer)
{
	int result = fault(&device->write_error);

	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	if (sector > SCRIPTED_SECTORS || count > SCRIPTED_SECTORS - sector)
		return -EINVAL;
	if (result != 0)
		return result;
	memcpy(device->data + sector * SZ_SECTOR_BYTES, buffer, (size_t)count * SZ_SECTOR_BYTES);
	memset(device->damaged + sector, 0, count);
	return 0;
}

int sz_device_trim(struct sz_device *device, uint64_t sector, uint64_t count)
{
	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	if (sector > SCRIPTED_SECTORS || count > SCRIPTED_SECTORS - sector)
		return -EINVAL;
	memset(device->data + sector * SZ_SECTOR_BYTES, 0, count * SZ_SECTOR_BYTES);
	memset(device->damaged + sector, 0, count);
	return 0;
}

int sz_device_flush(struct sz_device *device)
{
	(void)__atomic_add_fetch(&device->writes, 1, __ATOMIC_SEQ_CST);
	return fault(&device->flush_error);
}
