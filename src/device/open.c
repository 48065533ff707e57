/*
 * open: from folders and a passphrase to a store. Keys, lock, names, roots; then what choose.c decides; the devices'
 * manifests; then what live files add to it.
 *
 * 1. Content alone decides what is opened.
 * 2. Until it is decided that the store may be written to, nothing is: a refusal leaves it as it was.
 * 3. What was live is sealed before anybody writes.
 *
 * An opening of a generation that is asked for is written to in memory alone: its folders are behind volatile
 * backends, and it begins where the generation ended, without any live files. So is one whose reader has to write
 * (in_memory), but with what live files add.
 */
#include "device/device_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

static void machine_id(struct sz_store *store)
{
	uint8_t digest[SZ_KEY_BYTES];
	char text[64] = "";
	size_t length = 0;
	FILE *file = fopen("/etc/machine-id", "re");

	if (file != NULL) {
		length = fread(text, 1, sizeof(text), file);
		(void)fclose(file);
	}
	sz_hash(store->keys->state, "szpool1 machine", NULL, text, length, digest);
	memcpy(store->machine, digest, sizeof(store->machine));
}

/* Open files are many: bands that are being filled, objects that are being read. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* The devices as the root has them. */
static int devices_from_root(struct sz_store *store, struct sz_error *error)
{
	const struct sz_root *root = &store->root;
	int result = sz_devices_make(store, root->device_count);

	store->band_sectors = root->band_sectors;
	store->parity = root->parity;
	store->epoch = root->generation + 1;
	atomic_store(&store->sequence, root->next_sequence);
	sz_time_start(store);
	for (uint32_t i = 0; i < store->device_count && result == 0; i++) {
		struct sz_device *device = &store->devices[i];
		const struct sz_root_device *from = &root->devices[i];

		if (from->sectors < HOT_SECTORS)
			return sz_fail(error, -EUCLEAN, "device %u: impossible size", i);
		memcpy(device->id, from->device_id, sizeof(device->id));
		device->sectors = from->sectors;
		device->manifest_ref = from->manifest;
		device->stale_since = from->state == 1 ? from->stale_since : 0;
		device->stored_bytes = from->stored_bytes;
		device->object_count = from->object_count;
		result = sz_device_init_maps(device);
	}
	return result == 0 ? 0 : sz_fail(error, result, "no memory");
}

static int manifests_load(struct sz_store *store, struct sz_error *error)
{
	for (uint32_t i = 0; i < store->device_count; i++) {
		struct sz_device *device = &store->devices[i];
		bool is_missing = device->folder == NO_DEVICE;
		int result = sz_manifest_load(device);

		if (result == 0)
			continue;
		if (result != -EBADMSG)
			return sz_fail(error, result, "device %u: its index: %s", i,
				       strerror(-result));
		/* Without an index a folder is as good as none. */
		device->folder = NO_DEVICE;
		sz_device_reset_maps(device);
		result = sz_device_init_maps(device);
		if (result != 0)
			return sz_fail(error, result, "no memory");
		if (!is_missing)
			sz_warn("device %u: its index cannot be read: going on without it", i);
	}
	return 0;
}

/* A passphrase that was changed opens the key object of before no more, if the new one is here. */
static int key_check(struct sz_store *store, struct sz_error *error)
{
	CLEANUP(sz_locations_free) struct location *newer = NULL;
	struct sz_id id;

	if (store->key->version >= store->root.key_version)
		return 0;
	sz_id_make(SZ_KIND_KEY, SZ_STORE_WIDE, store->root.key_version,
		   sz_get_le64(store->root.key_digest), &id);
	newer = sz_catalog_find(store, &id);
	if (newer == NULL)
		return 0;
	return sz_fail(error, -EKEYREJECTED, "wrong passphrase: it was changed since");
}

#define MISSING_TEXT_BYTES (SZ_DEVICES_MAX * sizeof(" and 255"))

/* "0, 1 and 2": those that have no folder, or one without an index. */
static uint32_t missing_list(const struct sz_store *store, char text[MISSING_TEXT_BYTES])
{
	uint8_t missing[SZ_DEVICES_MAX];
	uint32_t count = 0;
	char *end = text;

	for (uint32_t i = 0; i < store->device_count; i++)
		if (store->devices[i].folder == NO_DEVICE)
			missing[count++] = (uint8_t)i;
	*end = '\0';
	for (uint32_t i = 0; i < count; i++)
		end += snprintf(end, sizeof(" and 255"), "%s%u",
				i == 0          ? ""
				: i + 1 < count ? ", "
						: " and ",
				missing[i]);
	return count;
}

/* No pool can be opened with fewer devices than redundancy needs: nothing is to be written then. */
static int devices_suffice(const struct sz_store *store, int code, struct sz_error *error)
{
	char missing[MISSING_TEXT_BYTES];
	uint32_t count = missing_list(store, missing);

	if (count <= store->parity)
		return 0;
	*error = (struct sz_error){ 0 };
	return sz_fail(
		error, code,
		"too many devices are missing: device%s %s; of %u devices %u are there, and %u are needed: copy their folders from a host, or say with --device-dir where they are",
		count == 1 ? "" : "s", missing, store->device_count, store->device_count - count,
		store->device_count - store->parity);
}

/* Nothing can be chosen: maybe because of whole devices that are missing. */
static int devices_lost(struct sz_store *store, int code, struct sz_error *error)
{
	struct sz_error ignored = { 0 };

	if (sz_root_copy(&store->history.at[0]->root, &store->root) != 0 ||
	    devices_from_root(store, &ignored) != 0)
		return code;
	sz_folders_assign(store);
	sz_folders_tell(store);
	(void)!devices_suffice(store, code, error);
	return code;
}

/* All but what was chosen: nothing is written. */
static int open_choose(struct sz_store *store, const struct sz_store_open *options,
		       const struct sz_passphrase *passphrase, struct sz_error *error)
{
	int result = sz_store_unlock(store, passphrase, error);

	/* Who reads an old generation holds that alone: the store may be written to meanwhile. */
	if (result == 0 && options->generation == NULL)
		result = sz_lock_take(store, error);
	if (result == 0 && store->path != NULL)
		result = sz_folders_find_places(store, error);
	if (result == 0 && store->path != NULL && options->generation == NULL)
		result = sz_folders_lock(store, error);
	if (result != 0)
		return result;
	machine_id(store);
	sz_keep_load(store);
	result = sz_catalog_load(store);
	if (result != 0)
		return sz_fail(error, result, "listing the folders: %s", strerror(-result));
	result = sz_choose(store, options, error);
	if (result == -EBADMSG && store->history.count > 0 && !options->recover)
		result = devices_lost(store, result, error);
	return result;
}

/* What the chosen root names. */
static int devices_load(struct sz_store *store, struct sz_error *error)
{
	int result = devices_from_root(store, error);

	if (result != 0)
		return result;
	sz_folders_assign(store);
	sz_folders_tell(store);
	result = manifests_load(store, error);
	if (result == 0 && writes_folders(store))
		result = devices_suffice(store, -ENXIO, error);
	return result;
}

/* What live files add is sealed, where anything may be written. */
static int live_recover(struct sz_store *store, struct sz_error *error)
{
	bool found = false;
	int result = store->choice.is_asked ? 0 : sz_replay(store, &found, error);

	if (result != 0 || !writes_folders(store))
		return result;
	sz_root_complete(store);
	sz_collect_recovered(store);
	if (found)
		result = sz_seal_run(store, SEAL_CHANGES, error);
	else if (store->choice.is_rebuilt)
		result = sz_seal_run(store, SEAL_ALWAYS, error);
	if (result == 0) {
		sz_collect_live(store);
		sz_key_objects_collect(store);
		sz_spare_make(store);
	}
	return result;
}

/* Everything after the folders are known. */
static int open_found(struct sz_store *store, const struct sz_store_open *options,
		      const struct sz_passphrase *passphrase, struct sz_error *error)
{
	int result;

	assert(store != NULL); /* it was made */
	result = open_choose(store, options, passphrase, error);
	if (result == 0 && sz_choice_take(store) != 0)
		result = sz_fail(error, -ENOMEM, "no memory");
	if (result == 0)
		result = key_check(store, error);
	if (result == 0 && writes_folders(store))
		result = sz_choice_check(store, error);
	if (result == 0 && store->choice.is_asked)
		result = sz_root_hold(store, error);
	if (result == 0)
		result = devices_load(store, error);
	if (result == 0 && writes_folders(store))
		result = sz_folders_remember(store, error);
	if (result == 0)
		result = sz_lock_announce(store, error);
	if (result == 0)
		result = live_recover(store, error);
	if (result == 0 && !store->choice.is_asked)
		sz_choice_note(store);
	return result;
}

static int passphrase_check(const struct sz_passphrase *passphrase, struct sz_error *error)
{
	if (passphrase != NULL && passphrase->length >= 1 &&
	    passphrase->length <= SZ_PASSPHRASE_MAX_BYTES)
		return 0;
	return sz_fail(error, -EINVAL, "a passphrase has 1 to %d bytes", SZ_PASSPHRASE_MAX_BYTES);
}

static int store_make(const struct sz_store_open *options, const struct sz_passphrase *passphrase,
		      struct sz_store **store_out, struct sz_error *error)
{
	struct sz_store *store;
	int result = passphrase_check(passphrase, error);

	*store_out = NULL;
	if (result != 0)
		return result;
	raise_file_limit();
	store = sz_store_make();
	if (store == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	store->is_volatile = options->generation != NULL || options->in_memory;
	store->read_only = options->read_only && !store->is_volatile;
	if (options->path != NULL)
		store->path = strdup(options->path);
	if (options->state_folder != NULL)
		store->state_folder = strdup(options->state_folder);
	if ((options->path != NULL && store->path == NULL) ||
	    (options->state_folder != NULL && store->state_folder == NULL)) {
		sz_store_free(store);
		return sz_fail(error, -ENOMEM, "no memory");
	}
	*store_out = store;
	return 0;
}

/* A store in folders, ready to be unlocked. */
static int store_in_folders(const struct sz_store_open *options,
			    const struct sz_passphrase *passphrase, struct sz_store **store_out,
			    struct sz_error *error)
{
	int result = store_make(options, passphrase, store_out, error);

	if (result == 0)
		result = sz_folders_find(*store_out, options, error);
	return result;
}

/* *store is freed and NULL if the opening failed. */
static int opened(struct sz_store **store, int result)
{
	if (result != 0)
		sz_store_free(TAKE(*store));
	return result;
}

int sz_store_open(const struct sz_store_open *options, const struct sz_passphrase *passphrase,
		  struct sz_store **store_out, struct sz_error *error)
{
	int result = store_in_folders(options, passphrase, store_out, error);

	if (result == 0)
		result = open_found(*store_out, options, passphrase, error);
	if (result != 0)
		(void)sz_fail(error, result, "%s", options->path);
	return opened(store_out, result);
}

int sz_store_open_on(struct sz_backend *const *backends, size_t count,
		     const struct sz_store_open *options, const struct sz_passphrase *passphrase,
		     struct sz_store **store_out, struct sz_error *error)
{
	static const struct sz_store_open plain;
	int result;

	if (options == NULL)
		options = &plain;
	result = store_make(options, passphrase, store_out, error);
	for (size_t i = 0; i < count; i++) {
		if (*store_out == NULL || sz_folder_add(*store_out, backends[i]) != 0) {
			sz_backend_close(backends[i]);
			if (result == 0)
				result = sz_fail(error, -EMFILE, "too many folders");
		}
	}
	if (result == 0)
		result = open_found(*store_out, options, passphrase, error);
	return opened(store_out, result);
}

static void generation_tell(const struct sz_store *store, const struct generation *chosen,
			    const struct generation *from, struct sz_generation *to)
{
	struct sz_ancestor identity;

	sz_generation_identity(from, &identity);
	to->generation = from->root.generation;
	sz_root_code(from->root.generation, from->digest, to->code);
	to->wall_time_ns = from->root.wall_time_ns;
	to->changed_bytes = from->root.changed_sectors * SECTOR;
	for (uint32_t i = 0; i < from->root.device_count; i++) {
		to->stored_bytes += from->root.devices[i].stored_bytes;
		to->object_count += from->root.devices[i].object_count;
	}
	to->is_head = from->is_head;
	to->is_recovered = (from->root.flags & SZ_ROOT_RECOVERED) != 0;
	to->is_chosen = from == chosen;
	to->is_ancestor =
		chosen != NULL && sz_history_is_ancestor(&store->history, &identity, chosen);
}

/* chosen: NULL if none can be opened. */
static int check_fill(struct sz_store *store, const struct generation *chosen,
		      struct sz_check *check)
{
	CLEANUP(sz_survey_free) struct survey survey = { 0 };
	const struct history *history = &store->history;

	check->generations = calloc(history->count + 1, sizeof(*check->generations));
	if (check->generations == NULL)
		return -ENOMEM;
	check->count = history->count;
	check->lost_roots = history->lost_count;
	check->histories = store->choice.histories;
	memcpy(check->chosen_text, store->choice.text, sizeof(check->chosen_text));
	memcpy(check->aside_text, store->choice.aside, sizeof(check->aside_text));
	for (size_t i = 0; i < history->count; i++) {
		struct sz_generation *to = &check->generations[i];
		int result;

		generation_tell(store, chosen, history->at[i], to);
		result = sz_generation_survey(store, &survey, history->at[i], &to->wholeness,
					      to->missing);
		if (result != 0)
			return result;
	}
	return 0;
}

void sz_check_free(struct sz_check *check)
{
	free(check->generations);
	*check = (struct sz_check){ 0 };
}

int sz_store_generations(struct sz_store *store, struct sz_check *check_out, struct sz_error *error)
{
	CLEANUP(sz_check_free) struct sz_check check = { 0 };
	MUTEX_SCOPE(&store->seal_lock);
	int result =
		check_fill(store, sz_history_find(&store->history, store->root_digest), &check);

	if (result != 0)
		return sz_fail(error, result, "looking at what is there: %s", strerror(-result));
	*check_out = check;
	check = (struct sz_check){ 0 };
	return 0;
}

int sz_store_check(const struct sz_store_open *options, const struct sz_passphrase *passphrase,
		   struct sz_check *check_out, struct sz_error *error)
{
	struct sz_store_open reading = *options;
	CLEANUP(sz_check_free) struct sz_check check = { 0 };
	struct sz_store *store;
	int result;

	reading.read_only = true;
	reading.generation = NULL;
	reading.choose = NULL;
	reading.recover = false;
	result = store_in_folders(&reading, passphrase, &store, error);
	assert(result != 0 || store != NULL);
	if (result == 0)
		result = open_choose(store, &reading, passphrase, error);
	if (result == -EBADMSG && store != NULL && store->history.count > 0) {
		/* Opening would be refused: that is what is asked for. */
		check.read_code = result;
		check.write_code = result;
		(void)snprintf(check.refusal, sizeof(check.refusal), "%s", error->text);
		*error = (struct sz_error){ 0 };
		result = 0;
	} else if (result == 0) {
		struct sz_error refusal = { 0 };

		check.write_code = sz_choice_check(store, &refusal);
		(void)snprintf(check.refusal, sizeof(check.refusal), "%s", refusal.text);
	}
	if (result == 0) {
		result = check_fill(store, store->choice.generation, &check);
		if (result != 0)
			(void)sz_fail(error, result, "looking at what is there: %s",
				      strerror(-result));
	}
	sz_store_free(store);
	if (result != 0)
		return sz_fail(error, result, "%s", options->path);
	*check_out = check;
	check = (struct sz_check){ 0 };
	return 0;
}
