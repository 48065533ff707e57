/* The harness: opening, closing and cutting stores. See harness.h. */
#include "harness.h"

#include "borrow.h"

#include <inttypes.h>

const struct sz_passphrase test_passphrase = { .bytes = "correct horse", .length = 13 };
const struct sz_passphrase wrong_passphrase = { .bytes = "incorrect horse", .length = 15 };

int set_up_crypto(void **state)
{
	(void)state;
	sz_warn_quiet(true);
	return sz_crypto_init(NULL);
}

/*
 * The linker puts this in the place of the passphrase hash: all presets are as cheap as the tests' own,
 * so that a wrong passphrase, too, is refused at once.
 */
int __real_sz_kdf_derive(enum sz_kdf preset, const char *passphrase, size_t length,
			 const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES]);
int __wrap_sz_kdf_derive(enum sz_kdf preset, const char *passphrase, size_t length,
			 const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES]);
int __wrap_sz_kdf_derive(enum sz_kdf preset, const char *passphrase, size_t length,
			 const uint8_t salt[SZ_KDF_SALT_BYTES], uint8_t out[SZ_KEY_BYTES])
{
	(void)preset;
	return __real_sz_kdf_derive(SZ_KDF_TEST, passphrase, length, salt, out);
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		abort();
	return memory;
}

static void init_memory(struct harness *harness)
{
	harness->buffer = allocate(BUFFER_SECTORS, SZ_SECTOR_BYTES);
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		harness->observed[i] = allocate(harness->shape.sectors, sizeof(uint32_t));
}

void harness_init_bare(struct harness *harness, const struct shape *shape, uint64_t seed)
{
	*harness = (struct harness){ .shape = *shape, .chance = seed };
	model_init(&harness->model, seed, shape->devices, shape->sectors);
	init_memory(harness);
}

void harness_init_empty(struct harness *harness, const struct shape *shape, uint64_t seed)
{
	harness_init_bare(harness, shape, seed);
	for (uint32_t i = 0; i < shape->devices; i++) {
		char label[16];

		(void)snprintf(label, sizeof(label), "disk %" PRIu32, i);
		OK(sz_memory_open(label, &harness->disks[i]));
	}
}

void harness_init(struct harness *harness, const struct shape *shape, uint64_t seed)
{
	harness_init_empty(harness, shape, seed);
	OK(harness_create(harness));
}

void harness_fini(struct harness *harness)
{
	if (harness->store != NULL)
		harness_abandon(harness);
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		sz_backend_close(harness->disks[i]);
		free(harness->observed[i]);
	}
	model_fini(&harness->model);
	free(harness->names);
	free(harness->buffer);
	*harness = (struct harness){ 0 };
}

size_t harness_wrap(struct harness *harness, struct sz_backend **backends)
{
	size_t count = 0;

	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		if (harness->disks[i] == NULL)
			continue;
		OK(sz_fault_open(borrow(harness->disks[i], &harness->wrappers, harness->hidden),
				 &harness->plan, &backends[count]));
		count++;
	}
	return count;
}

static void done(struct harness *harness)
{
	if (harness->after != NULL)
		harness->after(harness);
}

int harness_create(struct harness *harness)
{
	const struct sz_store_create options = {
		.device_count = harness->shape.devices,
		.device_sectors = harness->shape.sectors,
		.band_sectors = harness->shape.band_sectors,
		/* One device may lose its log, and the others keep theirs. */
		.parity = harness->shape.devices > 3 ? 2 : harness->shape.devices > 1,
		.kdf = SZ_KDF_TEST,
	};
	struct sz_backend *backends[MODEL_DEVICES_MAX];
	int rc;

	(void)harness_wrap(harness, backends);
	harness->error = (struct sz_error){ 0 };
	rc = sz_store_create_on(&options, backends, &test_passphrase, &harness->error);
	assert_int_equal(harness->wrappers, 0);
	done(harness);
	return rc;
}

int harness_try_open_as(struct harness *harness, const struct sz_store_open *options)
{
	struct sz_backend *backends[MODEL_DEVICES_MAX];
	size_t count = harness_wrap(harness, backends);
	int rc;

	assert_null(harness->store);
	harness->error = (struct sz_error){ 0 };
	rc = sz_store_open_on(backends, count, options, &test_passphrase, &harness->store,
			      &harness->error);
	if (rc != 0) {
		assert_null(harness->store);
		assert_int_equal(harness->wrappers, 0);
	}
	done(harness);
	return rc;
}

int harness_try_open(struct harness *harness, bool read_only)
{
	const struct sz_store_open options = { .read_only = read_only };

	return harness_try_open_as(harness, &options);
}

void harness_open(struct harness *harness)
{
	int rc = harness_try_open(harness, false);

	if (rc != 0)
		fail_msg("the store does not open: %d, %s", rc, harness->error.text);
}

void harness_open_clean(struct harness *harness)
{
	harness_open(harness);
	assert_int_equal(harness_damage(harness, true), 0);
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		assert_int_equal(sz_device_state(sz_store_device(harness->store, i)),
				 SZ_DEVICE_ONLINE);
}

static void settle_all(struct harness *harness, size_t length)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		model_settle(&harness->model, i, length);
}

int harness_close(struct harness *harness)
{
	bool is_read_only = sz_store_is_read_only(harness->store);
	int rc;

	harness->error = (struct sz_error){ 0 };
	rc = sz_store_close(TAKE(harness->store), &harness->error);
	assert_int_equal(harness->wrappers, 0);
	done(harness);
	if (rc == 0 && !is_read_only)
		settle_all(harness, harness->model.length);
	return rc;
}

void harness_abandon(struct harness *harness)
{
	sz_store_abandon(TAKE(harness->store));
	assert_int_equal(harness->wrappers, 0);
}

/* Power cuts */

void harness_cut(struct harness *harness, enum sz_crash crash, uint64_t seed)
{
	assert_null(harness->store);
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		struct sz_backend *after;

		if (harness->disks[i] == NULL)
			continue;
		OK(sz_memory_crash(harness->disks[i], crash, seed + i, &after));
		sz_backend_close(harness->disks[i]);
		harness->disks[i] = after;
	}
}

static void model_copy(const struct model *from, struct model *to)
{
	*to = *from;
	to->capacity = from->length;
	to->history = NULL;
	if (from->length > 0) {
		to->history = allocate(from->length, sizeof(*to->history));
		memcpy(to->history, from->history, from->length * sizeof(*to->history));
	}
	for (uint32_t i = 0; i < from->device_count; i++) {
		to->content[i] = allocate(from->sectors, sizeof(uint32_t));
		memcpy(to->content[i], from->content[i], from->sectors * sizeof(uint32_t));
		to->is_loose[i] = allocate(from->sectors, sizeof(bool));
		memcpy(to->is_loose[i], from->is_loose[i], from->sectors * sizeof(bool));
	}
}

void harness_fork(const struct harness *harness, struct sz_backend *const *disks,
		  struct harness *out)
{
	*out = (struct harness){ .shape = harness->shape, .chance = harness->chance };
	model_copy(&harness->model, &out->model);
	init_memory(out);
	memcpy(out->disks, disks, sizeof(out->disks));
	harness_copy_names(harness, out);
}

void harness_fork_now(const struct harness *harness, struct harness *out)
{
	struct sz_backend *disks[MODEL_DEVICES_MAX] = { 0 };

	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		if (harness->disks[i] != NULL)
			OK(sz_memory_crash(harness->disks[i], SZ_CRASH_CLEAN, 0, &disks[i]));
	}
	harness_fork(harness, disks, out);
}

/* Operations */

int harness_write(struct harness *harness, uint32_t device, uint64_t sector, uint32_t count)
{
	size_t change = model_write(&harness->model, device, sector, count);
	uint32_t version = harness->model.history[change].version;
	int rc;

	assert_true(count <= BUFFER_SECTORS);
	for (uint32_t i = 0; i < count; i++)
		model_fill(&harness->model, device, sector + i, version,
			   harness->buffer + (size_t)i * SZ_SECTOR_BYTES);
	rc = sz_device_write(sz_store_device(harness->store, device), sector, count,
			     harness->buffer);
	done(harness);
	harness->model.history[change].has_failed = rc != 0;
	return rc;
}

int harness_trim(struct harness *harness, uint32_t device, uint64_t sector, uint64_t count)
{
	size_t change = model_trim(&harness->model, device, sector, count);
	int rc = sz_device_trim(sz_store_device(harness->store, device), sector, count);

	done(harness);
	harness->model.history[change].has_failed = rc != 0;
	return rc;
}

int harness_flush(struct harness *harness, uint32_t device)
{
	size_t length = harness->model.length;
	int rc = sz_device_flush(sz_store_device(harness->store, device));

	done(harness);
	if (rc == 0)
		model_settle(&harness->model, device, length);
	return rc;
}

int harness_flush_all(struct harness *harness)
{
	int rc = 0;

	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		int one = harness_flush(harness, i);

		rc = rc != 0 ? rc : one;
	}
	return rc;
}

typedef int seal_fn(struct sz_store *, struct sz_error *);

static int seal_by(struct harness *harness, seal_fn *function)
{
	size_t length = harness->model.length;
	int rc;

	harness->error = (struct sz_error){ 0 };
	rc = function(harness->store, &harness->error);
	done(harness);
	if (rc == 0)
		settle_all(harness, length);
	return rc;
}

int harness_seal(struct harness *harness)
{
	return seal_by(harness, sz_store_seal);
}

int harness_compact(struct harness *harness)
{
	return seal_by(harness, sz_store_compact);
}

static int make_all_room(struct sz_store *store, struct sz_error *error)
{
	struct sz_store_info before;
	struct sz_store_info after;
	int rc;

	(void)error;
	sz_store_info(store, &before);
	rc = sz_store_make_room(store, UINT64_MAX - 1);
	sz_store_info(store, &after);
	/* Then there was a seal. */
	return rc == -ENOSPC && after.generation > before.generation ? 0 : rc;
}

int harness_free(struct harness *harness)
{
	int rc = seal_by(harness, make_all_room);

	return rc == -ENOSPC ? 0 : rc;
}

/* Reading */

int harness_read(struct harness *harness, uint32_t device, uint32_t sector, uint32_t count)
{
	struct sz_device *handle = sz_store_device(harness->store, device);
	int rc = -EAGAIN;

	if (harness->reads++ % 2 == 0)
		rc = sz_device_read_cached(handle, sector, count, harness->buffer);
	if (rc == 0)
		harness->cached_reads++;
	else
		assert_int_equal(rc, -EAGAIN);
	return rc == 0 ? 0 : sz_device_read(handle, sector, count, harness->buffer);
}

static int observe_one(struct harness *harness, uint32_t device, uint32_t sector)
{
	int rc = harness_read(harness, device, sector, 1);

	harness->observed[device][sector] =
		rc == -EBADMSG ? MODEL_DAMAGED
			       : model_recognise(&harness->model, device, sector, harness->buffer);
	return rc == -EBADMSG ? 0 : rc;
}

static int observe_run(struct harness *harness, uint32_t device, uint32_t sector, uint32_t count)
{
	int rc = harness_read(harness, device, sector, count);

	for (uint32_t i = 0; i < count && rc == 0; i++)
		harness->observed[device][sector + i] =
			model_recognise(&harness->model, device, sector + i,
					harness->buffer + (size_t)i * SZ_SECTOR_BYTES);
	if (rc != -EBADMSG)
		return rc;
	rc = 0;
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = observe_one(harness, device, sector + i);
	return rc;
}

int harness_observe(struct harness *harness, uint32_t device)
{
	uint32_t sectors = harness->shape.sectors;
	int rc = 0;

	for (uint32_t at = 0; at < sectors && rc == 0; at += BUFFER_SECTORS)
		rc = observe_run(harness, device, at,
				 sectors - at < BUFFER_SECTORS ? sectors - at : BUFFER_SECTORS);
	return rc;
}

void harness_check(struct harness *harness)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		OK(harness_observe(harness, i));
		assert_true(model_agrees(&harness->model, i, harness->observed[i], true));
	}
}

void harness_check_prefix(struct harness *harness)
{
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		OK(harness_observe(harness, i));
		assert_true(model_agrees(&harness->model, i, harness->observed[i], false));
	}
}

void harness_check_recovered(struct harness *harness)
{
	harness_check_prefix(harness);
	for (uint32_t i = 0; i < harness->shape.devices; i++)
		model_collapse(&harness->model, i, harness->observed[i]);
}
