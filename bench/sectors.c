/*
 * bench-sectors: which sectors of a store's devices differ from what they were when it looked last: read
 * through the device layer and compared by content, so it knows nothing of how szpool stores them. From these
 * follow what other ways to keep the same devices in files would have to upload; see upload.
 *
 * Sectors that became zeros (a TRIM) are not counted: nobody has to send those. "sectors" are without ZFS's labels,
 * the first and last 512 KiB of a device, which szpool compresses; the others have to send those too.
 */
#include "bench.h"
#include "crypto/crypto.h"
#include "device/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_SECTORS 256U
#define LABEL_SECTORS 128U  /* at each end of a device */
#define BAND_SECTORS  2048U /* 8 MiB */
#define BLOCK_SECTORS 8U    /* 32 KiB: rsync's blocks of a file of 1 GiB, the root of its length */
#define FILE_SECTORS  262144U /* 1 GiB */

/* Units of some size with a sector that changed. Sectors come in ascending order. */
struct touched {
	uint64_t size; /* in sectors */
	uint64_t last; /* the one that was counted last, and 1; 0: none on this device */
	uint64_t count;
};

static void touch(struct touched *touched, uint64_t sector)
{
	uint64_t unit = sector / touched->size + 1;

	touched->count += unit != touched->last ? 1 : 0;
	touched->last = unit;
}

/* 0 stands for zeros. Nobody makes sectors that collide. */
static uint64_t fingerprint(const uint8_t *sector)
{
	uint64_t sum = 0;
	uint64_t all = 0;

	for (size_t i = 0; i < SZ_SECTOR_BYTES; i += 8) {
		uint64_t word;

		memcpy(&word, sector + i, sizeof(word));
		all |= word;
		sum = (sum ^ word) * 0x9e3779b97f4a7c15;
		sum ^= sum >> 29;
	}
	if (all == 0)
		return 0;
	return sum == 0 ? 1 : sum;
}

enum unit {
	SECTOR,
	BLOCK,
	BAND,
	FLAT_FILE,
	UNITS
};

static void compare(struct sz_device *device, uint64_t *known, struct touched touched[UNITS],
		    uint8_t *buffer)
{
	uint64_t sectors = sz_device_sectors(device);

	for (int unit = 0; unit < UNITS; unit++)
		touched[unit].last = 0;
	for (uint64_t at = 0; at < sectors; at += PIECE_SECTORS) {
		uint32_t count =
			(uint32_t)(sectors - at < PIECE_SECTORS ? sectors - at : PIECE_SECTORS);
		int result = sz_device_read(device, at, count, buffer);

		if (result != 0)
			bench_die("reading a device: %s", strerror(-result));
		for (uint32_t i = 0; i < count; i++) {
			uint64_t now = fingerprint(buffer + (size_t)i * SZ_SECTOR_BYTES);
			bool is_label = at + i < LABEL_SECTORS || at + i >= sectors - LABEL_SECTORS;

			for (int unit = is_label ? BLOCK : SECTOR;
			     now != 0 && now != known[at + i] && unit < UNITS; unit++)
				touch(&touched[unit], at + i);
			known[at + i] = now;
		}
	}
}

static char *passphrase_read(char *line, size_t size)
{
	const char *path = getenv("SZPOOL_PASSPHRASE_FILE");
	FILE *file = path == NULL ? NULL : fopen(path, "r");

	if (file == NULL || fgets(line, (int)size, file) == NULL)
		bench_die("SZPOOL_PASSPHRASE_FILE has to name a file with the passphrase");
	(void)fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static void run(const char *store_path, const char *known_path)
{
	struct touched touched[UNITS] = { [SECTOR] = { .size = 1 },
					  [BLOCK] = { .size = BLOCK_SECTORS },
					  [BAND] = { .size = BAND_SECTORS },
					  [FLAT_FILE] = { .size = FILE_SECTORS } };
	const struct sz_store_open options = { .path = store_path, .read_only = true };
	CLEANUP_FREE uint8_t *buffer = malloc((size_t)PIECE_SECTORS * SZ_SECTOR_BYTES);
	char line[1024];
	struct sz_passphrase passphrase = { .bytes = passphrase_read(line, sizeof(line)) };
	struct sz_error error = { 0 };
	struct sz_store *store;
	FILE *file = fopen(known_path, "r+b");

	if (file == NULL && errno == ENOENT)
		file = fopen(known_path, "w+b");
	if (file == NULL || buffer == NULL)
		bench_die("%s: %s", known_path, strerror(errno));
	passphrase.length = strlen(line);
	if (sz_store_open(&options, &passphrase, &store, &error) != 0)
		bench_die("%s", error.text);
	for (uint32_t i = 0; i < sz_store_device_count(store); i++) {
		struct sz_device *device = sz_store_device(store, i);
		size_t sectors = sz_device_sectors(device);
		CLEANUP_FREE uint64_t *known = calloc(sectors, sizeof(*known));
		long at = (long)(i * sectors * sizeof(*known));

		if (known == NULL || fseek(file, at, SEEK_SET) != 0)
			bench_die("no memory");
		if (fread(known, sizeof(*known), sectors, file) != sectors && ferror(file) != 0)
			bench_die("%s: cannot be read", known_path);
		compare(device, known, touched, buffer);
		if (fseek(file, at, SEEK_SET) != 0 ||
		    fwrite(known, sizeof(*known), sectors, file) != sectors)
			bench_die("%s: cannot be written", known_path);
	}
	if (fclose(file) != 0 || sz_store_close(store, &error) != 0)
		bench_die("%s: cannot be written", known_path);
	(void)printf("{\"sectors\": %" PRIu64 ", \"blocks_32k\": %" PRIu64
		     ", \"bands_8m\": %" PRIu64 ", \"files_1g\": %" PRIu64 "}\n",
		     touched[SECTOR].count, touched[BLOCK].count, touched[BAND].count,
		     touched[FLAT_FILE].count);
}

int main(int argc, char **argv)
{
	struct sz_error error = { 0 };

	if (argc != 3) {
		(void)fputs("Usage: bench-sectors STORE FILE\n"
			    "  FILE keeps what the sectors were, from one run to the next\n",
			    stderr);
		return 2;
	}
	if (sz_crypto_init(&error) != 0)
		bench_die("%s", error.text);
	run(argv[1], argv[2]);
	return 0;
}
