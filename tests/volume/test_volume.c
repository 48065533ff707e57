/*
 * Volumes against a model of them: an array. What was flushed is there after the process was killed; where nothing is
 * stored; snapshots; a pool that is full; what zdb says of them. On devices in memory, which the processes share.
 */
#include "engine/pools.h"

#include "volume/volume_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define MIB   ((uint64_t)1 << 20)
#define BYTES (24 * MIB) /* of the volume that is compared with the model */

extern unsigned int zfs_txg_timeout;

static struct shared {
	uint8_t model[BYTES];
	uint8_t flushed[BYTES]; /* the model as it was flushed last */
	atomic_bool is_ready;
	atomic_uint written; /* by durable writes, from 0 on */
	unsigned int seed;
	uint32_t block;
	const char *sync;
} * shared;

static struct sz_pool *pool;
static struct sz_volume *volume;
static uint8_t buffer[4 * MIB];
static uint64_t random_state;

static uint32_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 24) % limit);
}

static void pool_new(void)
{
	const struct sz_property property = { "sync", shared->sync };
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_create(devices, SZ_RAID_Z2, &property, shared->sync == NULL ? 0 : 1, &pool,
			       &error),
		&error);
	NEED_OK(sz_fs_format(pool, NULL, 0, 0, &error), &error);
}

static void pool_again(bool read_only)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_import(devices, read_only, &pool, &error), &error);
}

static void pool_end(void)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_pool_export(pool, &error), &error);
}

static void sync_pool(void)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_pool_sync(pool, &error), &error);
}

static void volume_new(const char *name, uint64_t size, uint32_t block, bool is_sparse)
{
	const struct sz_volume_new new = { .size_bytes = size,
					   .block_bytes = block,
					   .is_sparse = is_sparse };
	struct sz_error error = { 0 };

	NEED_OK(sz_volume_create(pool, name, &new, &error), &error);
}

static void volume_open(const char *name)
{
	struct sz_error error = { 0 };

	NEED_OK(sz_volume_open(pool, name, &volume, &error), &error);
}

static void compare(const uint8_t *model)
{
	for (uint64_t at = 0; at < BYTES; at += sizeof(buffer)) {
		NEED(sz_volume_read(volume, buffer, sizeof(buffer), at) == 0);
		for (uint64_t i = 0; i < sizeof(buffer); i++)
			if (buffer[i] != model[at + i]) {
				(void)fprintf(stderr, "differs at %lu\n", at + i);
				NEED(false);
			}
	}
}

/* One random operation, on the model too. */
static void operate(void)
{
	uint64_t length = 1 + random_below(random_below(8) == 0 ? 3 * MIB : 60000);
	uint64_t offset = random_below(BYTES - length + 1);
	bool is_durable = random_below(6) == 0;
	uint64_t start;
	uint64_t end;

	if (random_below(3) == 0) { /* whole blocks */
		offset -= offset % shared->block;
		length = MAX(length - length % shared->block, shared->block);
		length = MIN(length, BYTES - offset);
	}
	switch (random_below(8)) {
	case 0:
		NEED(sz_volume_zero(volume, offset, length, is_durable) == 0);
		memset(shared->model + offset, 0, length);
		break;
	case 1:
		NEED(sz_volume_trim(volume, offset, length, is_durable) == 0);
		start = (offset + shared->block - 1) / shared->block * shared->block;
		end = (offset + length) / shared->block * shared->block;
		if (start < end)
			memset(shared->model + start, 0, end - start);
		break;
	case 2:
		NEED(sz_volume_read(volume, buffer, length, offset) == 0);
		NEED(memcmp(buffer, shared->model + offset, length) == 0);
		return;
	case 3:
		NEED(sz_volume_flush(volume) == 0);
		is_durable = true;
		break;
	default:
		random_fill(buffer, length, random_state);
		NEED(sz_volume_write(volume, buffer, length, offset, is_durable) == 0);
		memcpy(shared->model + offset, buffer, length);
		break;
	}
	/* What was done before is in the log in front of it. */
	if (is_durable)
		memcpy(shared->flushed, shared->model, BYTES);
}

/* Holes are zeros, the extents are all of it, and at least so much is known to be a hole. */
static void extents_check(uint64_t holes_least)
{
	uint64_t holes = 0;
	uint64_t length;

	for (uint64_t at = 0; at < BYTES; at += length) {
		bool is_hole;

		NEED(sz_volume_extent(volume, at, BYTES - at, &length, &is_hole) == 0);
		NEED(length > 0 && length <= BYTES - at);
		if (!is_hole)
			continue;
		for (uint64_t i = at; i < at + length; i++)
			NEED(shared->model[i] == 0);
		holes += length;
	}
	NEED(holes >= holes_least);
}

static void seed_print(void)
{
	const char *seed = getenv("SZ_SEED");

	shared->seed = seed != NULL ? (unsigned int)atoi(seed) : (unsigned int)time(NULL);
	(void)fprintf(stderr, "SZ_SEED=%u\n", shared->seed);
}

static void model_write(void)
{
	random_state = 0x9e3779b97f4a7c15U * (shared->seed + 1);
	pool_new();
	volume_new("disk", BYTES, shared->block, true);
	volume_open("disk");
	NEED(sz_volume_size(volume) == BYTES && sz_volume_block(volume) == shared->block);
	extents_check(BYTES);
	for (unsigned int i = 0; i < 150; i++)
		operate();
	compare(shared->model);
	/* A hole of whole blocks, a block at the end, and nothing outside. */
	NEED(sz_volume_trim(volume, 8 * MIB, 4 * MIB, false) == 0);
	memset(shared->model + 8 * MIB, 0, 4 * MIB);
	memset(buffer, 7, shared->block);
	NEED(sz_volume_write(volume, buffer, shared->block, BYTES - shared->block, false) == 0);
	memset(shared->model + BYTES - shared->block, 7, shared->block);
	NEED(sz_volume_write(volume, buffer, 2, BYTES - 1, false) == -EINVAL);
	NEED(sz_volume_read(volume, buffer, 1, BYTES) == -EINVAL);
	NEED(sz_volume_zero(volume, UINT64_MAX, 2, false) == -EINVAL);
	NEED(sz_volume_trim(volume, 1, BYTES, false) == -EINVAL);
	NEED(sz_volume_read(volume, buffer, 0, BYTES) == 0);
	extents_check(4 * MIB);
	compare(shared->model);
	sz_volume_close(volume);
	pool_end();
}

static void model_compare(void)
{
	pool_again(false);
	volume_open("disk");
	extents_check(4 * MIB);
	compare(shared->model);
	sz_volume_close(volume);
	pool_end();
}

static void devices_clear(void)
{
	memset(shared, 0, sizeof(*shared));
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		scripted_clear(&devices->devices[i]);
}

static void test_model(void **state)
{
	static const uint32_t blocks[] = { 16384, 4096, 131072 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(blocks); i++) {
		devices_clear();
		seed_print();
		shared->block = blocks[i];
		step(model_write);
		step(model_compare);
	}
	zdb_check("-bcc szpool", "No.leaks");
}

/* From here on nothing is on disk but by the log. */
static void log_start(void)
{
	static const uint8_t byte;

	volume_open("disk");
	NEED(sz_volume_write(volume, &byte, 1, 0, true) ==
	     0); /* makes the log, and waits for that */
	sz_sleep_ms(200);
	zfs_txg_timeout = 1000;
	sync_pool();
}

static void flush_and_die(void)
{
	random_state = 0x9e3779b97f4a7c15U * (shared->seed + 1);
	pool_new();
	volume_new("disk", BYTES, shared->block, true);
	log_start();
	for (unsigned int i = 0; i < 40; i++)
		operate();
	if (shared->sync == NULL)
		NEED(sz_volume_flush(volume) == 0);
	memcpy(shared->flushed, shared->model, BYTES);
}

static void is_as_flushed(void)
{
	pool_again(false);
	volume_open("disk");
	compare(shared->flushed);
	sz_volume_close(volume);
	pool_end();
}

static void is_refused_read_only(void)
{
	struct sz_error error = { 0 };

	pool_again(true);
	NEED(sz_volume_open(pool, "disk", &volume, &error) == -EBUSY);
	NEED(strstr(error.text, "intent log") != NULL);
	pool_end();
}

static void opens_read_only(void)
{
	pool_again(true);
	volume_open("disk");
	NEED(sz_volume_is_read_only(volume));
	NEED(sz_volume_write(volume, buffer, 1, 0, false) == -EROFS);
	NEED(sz_volume_zero(volume, 0, 1, false) == -EROFS);
	NEED(sz_volume_trim(volume, 0, 1, false) == -EROFS);
	NEED(sz_volume_flush(volume) == 0);
	compare(shared->flushed);
	sz_volume_close(volume);
	pool_end();
}

static void test_flush(void **state)
{
	static const struct {
		uint32_t block;
		const char *sync;
	} cases[] = { { 16384, NULL }, { 131072, NULL }, { 16384, "always" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		devices_clear();
		seed_print();
		shared->block = cases[i].block;
		shared->sync = cases[i].sync;
		step(flush_and_die);
		zdb_check("-ivvv szpool", "TX_WRITE TX_TRUNCATE");
		step(is_refused_read_only);
		step(is_as_flushed);
		step(opens_read_only);
		zdb_check("-bcc szpool", "No.leaks");
	}
}

/* As an unflushed write is lost, the log is what the cases above are about. */
static void disabled_and_die(void)
{
	pool_new();
	volume_new("disk", BYTES, 0, true);
	volume_open("disk");
	sz_sleep_ms(200);
	zfs_txg_timeout = 1000;
	sync_pool();
	memset(buffer, 1, MIB);
	NEED(sz_volume_write(volume, buffer, MIB, 0, true) == 0);
	NEED(sz_volume_flush(volume) == 0);
}

static void test_disabled(void **state)
{
	(void)state;
	devices_clear();
	shared->sync = "disabled";
	step(disabled_and_die);
	step(is_as_flushed);
}

#define WRITE_BYTES 20000U

static uint64_t place_of(unsigned int number)
{
	return (uint64_t)(number % 1000) * (WRITE_BYTES + 123) % (BYTES - WRITE_BYTES);
}

/* Durable writes, each noted once it is done, and others around them. */
static void write_until_killed(void)
{
	pool_again(false);
	volume_open("disk");
	for (unsigned int i = shared->written; i < 900; i++) {
		random_fill(buffer, WRITE_BYTES, i);
		NEED(sz_volume_write(volume, buffer, WRITE_BYTES, place_of(i), i % 2 == 0) == 0);
		if (i % 2 == 1)
			NEED(sz_volume_flush(volume) == 0);
		shared->written = i + 1;
		if (i % 40 == 39)
			sync_pool();
		shared->is_ready = true;
	}
	(void)pause();
}

static void written_check(void)
{
	static uint8_t want[WRITE_BYTES];

	pool_again(false);
	volume_open("disk");
	for (unsigned int i = 0; i < shared->written; i++) {
		random_fill(want, WRITE_BYTES, i);
		NEED(sz_volume_read(volume, buffer, WRITE_BYTES, place_of(i)) == 0);
		NEED(memcmp(buffer, want, WRITE_BYTES) == 0);
	}
	sz_volume_close(volume);
	pool_end();
}

static void disk_make(void)
{
	pool_new();
	volume_new("disk", BYTES, 0, false);
	pool_end();
}

static void test_kills(void **state)
{
	(void)state;
	devices_clear();
	seed_print();
	step(disk_make);
	for (unsigned int i = 0; i < 4; i++) {
		pid_t child;
		int status;

		shared->is_ready = false;
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			(void)alarm(STEP_SECONDS);
			write_until_killed();
		}
		while (!shared->is_ready) {
			assert_int_equal(waitpid(child, &status, WNOHANG), 0);
			sz_sleep_ms(1);
		}
		sz_sleep_ms((shared->seed + i) % 60);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	assert_true(shared->written > 0);
	step(written_check);
	zdb_check("-bcc szpool", "No.leaks");
}

/* Records as a kernel's ZFS leaves them. */
static void assign(itx_t *itx)
{
	dmu_tx_t *tx = dmu_tx_create(volume->os);

	NEED(dmu_tx_assign(tx, DMU_TX_WAIT) == 0);
	zil_itx_assign(volume->log, itx, tx);
	dmu_tx_commit(tx);
}

static void put_write(uint64_t object, uint64_t offset, const char *data)
{
	size_t length = strlen(data);
	itx_t *itx = zil_itx_create(TX_WRITE, sizeof(lr_write_t) + length);
	lr_write_t *record = (lr_write_t *)&itx->itx_lr;

	record->lr_foid = object;
	record->lr_offset = offset;
	record->lr_length = length;
	record->lr_blkoff = 0;
	BP_ZERO(&record->lr_blkptr);
	memcpy(record->lr_data, data, length);
	itx->itx_wr_state = WR_COPIED;
	assign(itx);
}

static void put_truncate(uint64_t offset, uint64_t length)
{
	itx_t *itx = zil_itx_create(TX_TRUNCATE, sizeof(lr_truncate_t));
	lr_truncate_t *record = (lr_truncate_t *)&itx->itx_lr;

	record->lr_foid = DATA_OBJECT;
	record->lr_offset = offset;
	record->lr_length = length;
	assign(itx);
}

static void records_and_die(void)
{
	pool_new();
	volume_new("disk", BYTES, 0, true);
	log_start();
	put_write(DATA_OBJECT, 5 * MIB - 3, "kernel");
	put_write(DATA_OBJECT, 7 * MIB, "gone again");
	put_truncate(7 * MIB + 4, 100000);
	put_write(DATA_OBJECT, 7 * MIB + 5, "x");
	NEED(sz_volume_flush(volume) == 0);
}

static void records_are_replayed(void)
{
	pool_again(false);
	volume_open("disk");
	NEED(sz_volume_read(volume, buffer, 8, 5 * MIB - 4) == 0);
	NEED(memcmp(buffer, "\0kernel", 8) == 0);
	NEED(sz_volume_read(volume, buffer, 10, 7 * MIB) == 0);
	NEED(memcmp(buffer, "gone\0x\0\0\0", 10) == 0);
	sz_volume_close(volume);
	pool_end();
}

/* Behind one that could be replayed: that one is not either. */
static void refused_and_die(void)
{
	pool_new();
	volume_new("disk", BYTES, 0, true);
	log_start();
	put_write(DATA_OBJECT, 0, "before");
	put_write(77, 0, "of nothing");
	NEED(sz_volume_flush(volume) == 0);
}

static void is_refused(void)
{
	struct sz_error error = { 0 };

	pool_again(false);
	for (unsigned int i = 0; i < 2; i++) {
		NEED(sz_volume_open(pool, "disk", &volume, &error) == -EOPNOTSUPP);
		NEED(strstr(error.text, "intent log") != NULL);
	}
	pool_end();
}

static void test_records(void **state)
{
	(void)state;
	devices_clear();
	step(records_and_die);
	step(records_are_replayed);
	devices_clear();
	step(refused_and_die);
	step(is_refused);
	step(is_refused);
}

static void snapshots_use(void)
{
	struct sz_error error = { 0 };
	struct sz_volume *snapshot;
	struct sz_volume *again;

	pool_new();
	volume_new("disk", BYTES, 0, true);
	volume_open("disk");
	memset(buffer, 'a', MIB);
	NEED(sz_volume_write(volume, buffer, MIB, 100, false) == 0);
	NEED_OK(sz_pool_snapshot(pool, "disk", "then", &error), &error);
	memset(buffer, 'b', MIB);
	NEED(sz_volume_write(volume, buffer, MIB, 100, false) == 0);
	NEED_OK(sz_volume_open(pool, "disk@then", &snapshot, &error), &error);
	NEED_OK(sz_volume_open(pool, "disk@then", &again, &error), &error);
	NEED(again == snapshot && sz_volume_is_read_only(snapshot));
	sz_volume_close(again);
	NEED(sz_volume_write(snapshot, buffer, 1, 0, false) == -EROFS);
	NEED(sz_volume_read(snapshot, buffer, 2, MIB + 98) == 0 && memcmp(buffer, "aa", 2) == 0);
	NEED(sz_volume_read(volume, buffer, 2, MIB + 98) == 0 && memcmp(buffer, "bb", 2) == 0);
	NEED(sz_volume_open(pool, "disk@other", &again, &error) == -ENOENT);
	NEED(sz_volume_destroy(pool, "disk", &error) == -ENOTEMPTY);
	NEED(sz_pool_snapshot_destroy(pool, "disk", "then", &error) == -EBUSY);
	sz_volume_close(snapshot);
	NEED(sz_pool_rollback(pool, "disk", "then", false, &error) == -EBUSY);
	sz_volume_close(volume);
	/* One that would go is in use: none goes. */
	NEED_OK(sz_pool_snapshot(pool, "disk", "later", &error), &error);
	NEED_OK(sz_pool_snapshot(pool, "disk", "last", &error), &error);
	NEED_OK(sz_volume_open(pool, "disk@later", &snapshot, &error), &error);
	NEED(sz_pool_rollback(pool, "disk", "then", true, &error) == -EBUSY);
	sz_volume_close(snapshot);
	NEED_OK(sz_pool_snapshot_destroy(pool, "disk", "last", &error), &error);
	NEED_OK(sz_pool_snapshot_destroy(pool, "disk", "later", &error), &error);
	NEED_OK(sz_pool_rollback(pool, "disk", "then", false, &error), &error);
	volume_open("disk");
	NEED(sz_volume_read(volume, buffer, 2, MIB + 98) == 0 && memcmp(buffer, "aa", 2) == 0);
	NEED_OK(sz_pool_snapshot_destroy(pool, "disk", "then", &error), &error);
	NEED(sz_volume_destroy(pool, "disk", &error) == -EBUSY);
	sz_volume_close(volume);
	NEED_OK(sz_volume_destroy(pool, "disk", &error), &error);
	NEED(sz_volume_destroy(pool, "disk", &error) == -ENOENT);
	pool_end();
}

static uint64_t property_of(const char *full, zfs_prop_t property)
{
	uint64_t value = 0;

	NEED(dsl_prop_get_integer(full, zfs_prop_to_name(property), &value, NULL) == 0);
	return value;
}

static bool is_hole(uint64_t offset)
{
	uint64_t length;
	bool result;

	NEED(sz_volume_extent(volume, offset, 4096, &length, &result) == 0);
	return result;
}

static void properties_use(void)
{
	static const struct sz_property good[] = { { "compression", "off" },
						   { "checksum", "sha256" },
						   { "copies", "2" },
						   { "sync", "always" } };
	static const struct sz_property bad[] = {
		{ "checksum", "off" },    { "compression", "x" }, { "copies", "9" },
		{ "recordsize", "128K" }, { "no such", "on" },    { "comment", "text" },
	};
	struct sz_volume_new new = { .size_bytes = 4 * MIB,
				     .is_sparse = true,
				     .properties = good,
				     .property_count = ARRAY_LENGTH(good) };
	struct sz_error error = { 0 };
	struct sz_volume_info info;

	pool_new();
	NEED_OK(sz_volume_create(pool, "disk", &new, &error), &error);
	NEED(property_of("szpool/disk", ZFS_PROP_COMPRESSION) == ZIO_COMPRESS_OFF);
	NEED(property_of("szpool/disk", ZFS_PROP_CHECKSUM) == ZIO_CHECKSUM_SHA256);
	NEED(property_of("szpool/disk", ZFS_PROP_COPIES) == 2);
	NEED(property_of("szpool/disk", ZFS_PROP_SYNC) == ZFS_SYNC_ALWAYS);
	new.property_count = 1;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		error = (struct sz_error){ 0 };
		new.properties = &bad[i];
		NEED(sz_volume_create(pool, "other", &new, &error) == -EINVAL);
		NEED(strstr(error.text, bad[i].name) != NULL);
		NEED(sz_volume_find(pool, "other", &info, &error) == -ENOENT);
	}
	/* What is reserved is for the copies, too. */
	new.properties = &good[2];
	new.is_sparse = false;
	error = (struct sz_error){ 0 };
	NEED_OK(sz_volume_create(pool, "twice", &new, &error), &error);
	NEED_OK(sz_volume_find(pool, "twice", &info, &error), &error);
	NEED(info.reserved_bytes >= 2 * new.size_bytes);

	/* Room is kept by zeros that are stored, where nothing is reserved. */
	volume_open("disk");
	NEED(sz_volume_stores_zeros(volume));
	memset(buffer, 'a', 3 * MIB);
	NEED(sz_volume_write(volume, buffer, 3 * MIB, 0, false) == 0);
	NEED(sz_volume_zero_keep(volume, 100, 3 * MIB - 200, true) == 0);
	NEED(sz_volume_zero_keep(volume, 3 * MIB, MIB + 1, true) == -EINVAL);
	NEED(!is_hole(0) && !is_hole(MIB) && !is_hole(3 * MIB - 4096) && is_hole(3 * MIB));
	NEED(sz_volume_read(volume, buffer, 3 * MIB, 0) == 0);
	for (uint64_t i = 0; i < 3 * MIB; i++)
		NEED(buffer[i] == (i < 100 || i >= 3 * MIB - 100 ? 'a' : 0));
	NEED(sz_volume_zero(volume, 0, 3 * MIB, true) == 0);
	NEED(is_hole(0) && is_hole(MIB));
	sz_volume_close(volume);
	volume_open("twice");
	NEED(!sz_volume_stores_zeros(volume));
	NEED(sz_volume_zero_keep(volume, 0, MIB, true) == 0 && is_hole(0));
	sz_volume_close(volume);
	pool_end();
}

static void test_properties(void **state)
{
	(void)state;
	devices_clear();
	step(properties_use);
}

static void test_snapshots(void **state)
{
	(void)state;
	devices_clear();
	step(snapshots_use);
}

static atomic_bool is_over;

/* Opens and closes the volume all the time. */
static void *disk_open_work(void *context)
{
	struct sz_error error = { 0 };
	struct sz_volume *opened;
	unsigned int *count = context;

	while (!atomic_load(&is_over)) {
		int result = sz_volume_open(pool, "disk", &opened, &error);

		NEED(result == 0 || result == -EBUSY);
		if (result == 0) {
			(*count)++;
			sz_sleep_ms(*count % 3);
			sz_volume_close(opened);
		}
		sz_sleep_ms(*count % 5);
	}
	return NULL;
}

static int snapshot_count(void *context, const struct sz_snapshot *snapshot)
{
	(void)snapshot;
	(*(unsigned int *)context)++;
	return 0;
}

/* A rollback that is refused has destroyed nothing, whenever it is that somebody opens the volume. */
static void rollbacks_race(void)
{
	struct sz_error error = { 0 };
	unsigned int opens = 0;
	unsigned int refusals = 0;
	unsigned int successes = 0;
	pthread_t thread;

	pool_new();
	volume_new("disk", MIB, 0, true);
	NEED_OK(sz_pool_snapshot(pool, "disk", "then", &error), &error);
	NEED(pthread_create(&thread, NULL, disk_open_work, &opens) == 0);
	for (unsigned int i = 0; i < 400 && (refusals < 20 || successes < 20); i++) {
		unsigned int count = 0;
		int result;

		result = sz_pool_snapshot(pool, "disk", "later", &error);
		NEED(result == 0 || result == -EEXIST);
		result = sz_pool_snapshot(pool, "disk", "last", &error);
		NEED(result == 0 || result == -EEXIST);
		result = sz_pool_rollback(pool, "disk", "then", true, &error);
		NEED(result == 0 || result == -EBUSY);
		refusals += result == 0 ? 0 : 1;
		successes += result == 0 ? 1 : 0;
		NEED(sz_pool_snapshot_each(pool, "disk", snapshot_count, &count) == 0);
		NEED(count == (result == 0 ? 1U : 3U));
	}
	atomic_store(&is_over, true);
	NEED(pthread_join(thread, NULL) == 0);
	(void)fprintf(stderr, "%u opens, %u refusals, %u rollbacks\n", opens, refusals, successes);
	NEED(opens > 0 && refusals > 0 && successes > 0);
	NEED_OK(sz_pool_snapshot_destroy(pool, "disk", "then", &error), &error);
	pool_end();
}

static void test_rollback_race(void **state)
{
	(void)state;
	devices_clear();
	step(rollbacks_race);
}

#define THREADS     4U
#define PIECE_BYTES 3000U /* pieces of several threads lie in one block */

/* Writes and frees its own pieces, and flushes. */
static void *pieces_work(void *context)
{
	unsigned int self = (unsigned int)(uintptr_t)context;
	uint64_t state = 88172645463325252U + self + shared->seed;
	uint8_t piece[PIECE_BYTES];
	uint8_t read[PIECE_BYTES];

	for (unsigned int i = 0; i < 400; i++) {
		uint64_t at;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		at = ((state >> 20) % 200 * THREADS + self) * PIECE_BYTES;
		if (i % 5 == 0) {
			memset(piece, 0, sizeof(piece));
			NEED(sz_volume_zero(volume, at, PIECE_BYTES, i % 3 == 0) == 0);
		} else {
			random_fill(piece, sizeof(piece), state);
			NEED(sz_volume_write(volume, piece, PIECE_BYTES, at, i % 7 == 0) == 0);
		}
		memcpy(shared->model + at, piece, PIECE_BYTES);
		NEED(sz_volume_read(volume, read, PIECE_BYTES, at) == 0);
		NEED(memcmp(read, piece, PIECE_BYTES) == 0);
		if (i % 40 == self)
			NEED(sz_volume_flush(volume) == 0);
	}
	NEED(sz_volume_flush(volume) == 0);
	return NULL;
}

static void pieces_and_die(void)
{
	pthread_t threads[THREADS];

	pool_new();
	volume_new("disk", BYTES, shared->block, true);
	log_start();
	for (unsigned int i = 0; i < THREADS; i++)
		NEED(pthread_create(&threads[i], NULL, pieces_work, (void *)(uintptr_t)i) == 0);
	for (unsigned int i = 0; i < THREADS; i++)
		NEED(pthread_join(threads[i], NULL) == 0);
	memcpy(shared->flushed, shared->model, BYTES);
	compare(shared->model);
}

static void test_threads(void **state)
{
	static const uint32_t blocks[] = { 16384, 131072 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(blocks); i++) {
		devices_clear();
		seed_print();
		shared->block = blocks[i];
		step(pieces_and_die);
		step(is_as_flushed);
	}
	zdb_check("-bcc szpool", "No.leaks");
}

static int names_join(void *context, const struct sz_volume_info *info)
{
	(void)strcat(strcat(context, info->name), " "); /* NOLINT: it is long enough */
	return 0;
}

static void creation_try(const char *name, uint64_t size, uint32_t block, int code)
{
	const struct sz_volume_new new = { .size_bytes = size, .block_bytes = block };
	struct sz_error error = { 0 };
	char names[256] = "";
	int result = sz_volume_create(pool, name, &new, &error);

	if (result != code)
		(void)fprintf(stderr, "%s %lu %u: %d, %s\n", name, size, block, result, error.text);
	NEED(result == code && (code == 0 || error.text[0] != '\0'));
	NEED(sz_volume_each(pool, names_join, names) == 0);
	if (code != 0 && code != -EEXIST)
		NEED(strstr(names, name) == NULL || name[0] == '\0');
}

static void creations_use(void)
{
	struct sz_error error = { 0 };
	struct sz_volume_info info;
	char names[256] = "";
	struct sz_fs *fs;
	uint64_t number;
	bool is_child;

	pool_new();
	creation_try("", MIB, 0, -EINVAL);
	creation_try("a b", MIB, 0, 0);
	creation_try("a@b", MIB, 0, -EINVAL);
	creation_try("a/", MIB, 0, -EINVAL);
	creation_try("a*b", MIB, 0, -EINVAL);
	creation_try("above/vol", MIB, 0, -ENOENT);
	creation_try("a b/vol", MIB, 0, -EINVAL);
	creation_try("zero", 0, 0, -EINVAL);
	creation_try("odd", MIB + 4096, 0, -EINVAL);
	creation_try("huge", UINT64_MAX - 16383, 0, -EINVAL);
	creation_try("small", MIB, 512, -EINVAL);
	creation_try("large", 64 * MIB, 32 << 20, -EINVAL);
	creation_try("odder", 96 * MIB, 3 << 20, -EINVAL);
	creation_try("a b", MIB, 0, -EEXIST);
	creation_try("too much", 10000 * MIB, 0, -ENOSPC);
	NEED_OK(sz_fs_open(pool, NULL, false, &fs, &error), &error);
	NEED_OK(sz_fs_dataset_create(fs, "files", 0, 0, &error), &error);
	creation_try("files", MIB, 0, -EEXIST);
	creation_try("files/vol", 64 * MIB, 8192, 0);
	creation_try("files/large", 16 * MIB, 16 << 20, 0);
	NEED(sz_fs_dataset_create(fs, "a b/files", 0, 0, &error) == -EINVAL);
	NEED(sz_fs_dataset_create(fs, "a b", 0, 0, &error) == -EEXIST);
	/* Volumes have no place among the files. */
	NEED(sz_fs_is_child(fs, "a b", &is_child) == 0 && !is_child);
	NEED(sz_fs_children_place(fs) == 0);
	NEED(sz_fs_lookup(fs, sz_fs_root(fs), "a b", &number) == -ENOENT);
	NEED(sz_fs_lookup(fs, sz_fs_root(fs), "files", &number) == 0);
	sz_fs_close(fs);
	NEED(sz_volume_each(pool, names_join, names) == 0);
	NEED(strcmp(names, "a b files/large files/vol ") == 0);
	NEED(sz_volume_find(pool, "files", &info, &error) == -EINVAL);
	NEED(sz_volume_open(pool, "files", &volume, &error) == -EINVAL);
	NEED(sz_volume_destroy(pool, "files", &error) == -EINVAL);
	NEED(sz_volume_open(pool, "", &volume, &error) == -ENOENT);
	NEED_OK(sz_volume_find(pool, "files/vol", &info, &error), &error);
	/* 8 KiB take 24 KiB on six devices, 128 KiB take 192; and 3 MiB + 2 MiB for what refers to 8192 blocks. */
	NEED(info.reserved_bytes == 128 * MIB + (7 + 8 + 1) * 2 * 131072);
	NEED(info.size_bytes == 64 * MIB && info.block_bytes == 8192);
	NEED(info.used_bytes >= info.reserved_bytes && info.referenced_bytes < MIB);
	volume_new("sparse", 1 << 30, 0, true);
	NEED_OK(sz_volume_find(pool, "sparse", &info, &error), &error);
	NEED(info.reserved_bytes == 0 && info.used_bytes < MIB);
	pool_end();
}

static void creations_read_only(void)
{
	pool_again(true);
	creation_try("another", MIB, 0, -EROFS);
	pool_end();
}

static void test_creation(void **state)
{
	(void)state;
	devices_clear();
	step(creations_use);
	step(creations_read_only);
	zdb_check("-dddd szpool", "refreservation.=.138412032");
	zdb_check("-dddd szpool/files/vol",
		  "zvol.object zvol.prop size.=.67108864 \"8K.*zvol.object\"");
	zdb_check("-bcc szpool", "No.leaks");
}

static void fill(uint64_t *filled_out)
{
	int result = 0;

	for (*filled_out = 0; result == 0; *filled_out += 4 * MIB) {
		random_fill(buffer, sizeof(buffer), *filled_out);
		result = sz_volume_write(volume, buffer, sizeof(buffer), *filled_out, false);
		if (result != 0)
			break;
	}
	NEED(result == -ENOSPC);
}

static void filled_check(uint64_t filled)
{
	static uint8_t want[4 * MIB];

	for (uint64_t at = 0; at < filled; at += sizeof(want)) {
		random_fill(want, sizeof(want), at);
		NEED(sz_volume_read(volume, buffer, sizeof(want), at) == 0);
		NEED(memcmp(buffer, want, sizeof(want)) == 0);
	}
}

static void pool_is_full(void)
{
	uint64_t filled;
	int result = -ENOSPC;

	pool_new();
	volume_new("other", 600 * MIB, 0, false);
	volume_new("disk", 4096 * MIB, 0, true);
	volume_open("disk");
	fill(&filled);
	NEED(filled > 64 * MIB && filled < 300 * MIB);
	NEED(sz_volume_flush(volume) == 0);
	filled_check(filled);
	NEED(sz_volume_trim(volume, 0, 64 * MIB, true) == 0);
	memset(buffer, 3, MIB);
	/* What is freed can be used some transaction groups later. */
	for (unsigned int i = 0; i < 20 && result != 0; i++) {
		sync_pool();
		result = sz_volume_write(volume, buffer, MIB, 0, false);
	}
	NEED(result == 0);
	sz_volume_close(volume);
	pool_end();
}

/* A volume for which room is reserved can be written wholly, whatever else takes the rest. */
static void reserved_is_there(void)
{
	uint64_t filled;

	pool_new();
	volume_new("other", 600 * MIB, 0, false);
	volume_new("reserved", 64 * MIB, 0, false);
	volume_new("disk", 4096 * MIB, 0, true);
	volume_open("disk");
	fill(&filled);
	sz_volume_close(volume);
	volume_open("reserved");
	for (uint64_t at = 0; at < 64 * MIB; at += sizeof(buffer)) {
		random_fill(buffer, sizeof(buffer), at);
		NEED(sz_volume_write(volume, buffer, sizeof(buffer), at, true) == 0);
	}
	filled_check(64 * MIB);
	sz_volume_close(volume);
	pool_end();
}

/* The disks under the pool have no room for more. */
static void disk_is_full(void)
{
	pool_new();
	volume_new("disk", 64 * MIB, 0, true);
	volume_open("disk");
	devices->room = 0;
	NEED(sz_volume_write(volume, buffer, MIB, 0, false) == -ENOSPC);
	NEED(sz_volume_trim(volume, 0, MIB, true) == 0);
	devices->room = UINT64_MAX;
	NEED(sz_volume_write(volume, buffer, MIB, 0, true) == 0);
	sz_volume_close(volume);
	pool_end();
}

static void test_full(void **state)
{
	(void)state;
	devices_clear();
	step(pool_is_full);
	devices_clear();
	step(reserved_is_there);
	devices_clear();
	step(disk_is_full);
}

#define ENDED 42

static void suspended(void *context, const struct sz_error *error)
{
	(void)context;
	_exit(error->code == -EIO ? ENDED : 1);
}

static void flush_on_failing_devices(void)
{
	(void)alarm(10);
	sz_pool_on_suspend(suspended, NULL);
	pool_new();
	volume_new("disk", BYTES, 0, true);
	volume_open("disk");
	memset(buffer, 5, MIB);
	NEED(sz_volume_write(volume, buffer, MIB, 0, true) == 0);
	scripted_fail_writes(devices, -EIO);
	for (;;) /* until the watcher ends it */
		(void)!sz_volume_write(volume, buffer, MIB, 2 * MIB, true);
}

static void kept_is_there(void)
{
	scripted_fail_writes(devices, 0);
	pool_again(false);
	volume_open("disk");
	NEED(sz_volume_read(volume, buffer, MIB, 0) == 0);
	for (uint64_t i = 0; i < MIB; i++)
		NEED(buffer[i] == 5);
	sz_volume_close(volume);
	pool_end();
}

static void test_suspended(void **state)
{
	int status = -1;
	pid_t child;

	(void)state;
	devices_clear();
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		flush_on_failing_devices();
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == ENDED);
	step(kept_is_there);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_model),     CASE(test_threads),       CASE(test_flush),
		CASE(test_disabled),  CASE(test_kills),         CASE(test_records),
		CASE(test_snapshots), CASE(test_rollback_race), CASE(test_properties),
		CASE(test_creation),  CASE(test_full),          CASE(test_suspended),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
