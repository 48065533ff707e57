/*
 * devices_out: writes a store's devices out as plain files with holes, for ZFS's own tools.
 *
 *   devices_out STORE FOLDER    makes FOLDER/N; the passphrase is in the file SZPOOL_PASSPHRASE_FILE
 */
#include "support/step.h"

#include "crypto/crypto.h"
#include "device/device.h"

#include <fcntl.h>

#define COPY_SECTORS 256U

static void device_write_out(struct sz_device *device, const char *path)
{
	static uint8_t buffer[COPY_SECTORS * SZ_SECTOR_BYTES];
	static const uint8_t zeros[sizeof(buffer)];
	uint64_t sectors = sz_device_sectors(device);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	NEED(fd >= 0 && ftruncate(fd, (off_t)sectors * SZ_SECTOR_BYTES) == 0);
	for (uint64_t at = 0; at < sectors; at += COPY_SECTORS) {
		uint32_t count =
			sectors - at < COPY_SECTORS ? (uint32_t)(sectors - at) : COPY_SECTORS;

		NEED(sz_device_read(device, at, count, buffer) == 0);
		if (memcmp(buffer, zeros, (size_t)count * SZ_SECTOR_BYTES) != 0)
			NEED(sz_pwrite(fd, buffer, (size_t)count * SZ_SECTOR_BYTES,
				       at * SZ_SECTOR_BYTES) == 0);
	}
}

int main(int argc, char **argv)
{
	const struct sz_store_open options = { .path = argc == 3 ? argv[1] : NULL,
					       .read_only = true };
	struct sz_error error = { 0 };
	struct sz_passphrase passphrase;
	struct sz_store *store;
	static char text[1024];
	FILE *file;

	NEED(argc == 3 && getenv("SZPOOL_PASSPHRASE_FILE") != NULL);
	file = fopen(getenv("SZPOOL_PASSPHRASE_FILE"), "r");
	NEED(file != NULL && fgets(text, sizeof(text), file) != NULL && fclose(file) == 0);
	passphrase = (struct sz_passphrase){ .bytes = text, .length = strcspn(text, "\n") };
	NEED_OK(sz_crypto_init(&error), &error);
	NEED_OK(sz_store_open(&options, &passphrase, &store, &error), &error);
	for (uint32_t i = 0; i < sz_store_device_count(store); i++) {
		char path[4096];

		(void)snprintf(path, sizeof(path), "%s/%u", argv[2], i);
		device_write_out(sz_store_device(store, i), path);
	}
	NEED(sz_store_close(store, &error) == 0);
	return 0;
}
