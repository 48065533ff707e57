/*
 * access: objects by id or reference, from whichever file has them whole.
 *
 * What is missing, too short or not authentic is damage (-EBADMSG), and the next copy is tried. What
 * may pass (a disk's error, too many open files, no permission, a folder that is gone) is tried again,
 * then an error: it is never taken for damage.
 */
#include "device/device_internal.h"

#include <errno.h>

static bool is_transient(int error)
{
	return error != 0 && error != -EBADMSG && error != -ENOENT && error != -EUCLEAN &&
	       error != -EPROTONOSUPPORT;
}

void sz_cleanup_file(struct sz_file **file)
{
	sz_file_close(*file);
}

int sz_read_retried(struct sz_file *file, void *buffer, size_t length, uint64_t offset,
		    size_t *done_out)
{
	int result = 0;

	for (unsigned int i = 0; i < TRANSIENT_TRIES; i++) {
		result = sz_file_read(file, buffer, length, offset, done_out);
		if (result == 0)
			break;
		sz_sleep_ms(TRANSIENT_WAIT_MS);
	}
	return result;
}

static int location_open(struct sz_store *store, const struct location *location,
			 struct sz_file **file_out)
{
	int result = 0;

	for (unsigned int i = 0; i < TRANSIENT_TRIES; i++) {
		result = sz_backend_open(store->folders[location->folder].backend, location->part,
					 location->name, file_out);
		if (!is_transient(result))
			break;
		sz_sleep_ms(TRANSIENT_WAIT_MS);
	}
	return result;
}

/* One pass over what the catalog knows now. */
static int open_any(struct sz_store *store, const struct sz_id *id, object_check_fn *check,
		    void *context, struct sz_file **file_out, const char **text_out)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);
	int worst = -EBADMSG;

	*text_out = "missing";
	for (const struct location *at = locations; at != NULL; at = at->next) {
		CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
		uint64_t size;
		uint64_t inode;
		int result = location_open(store, at, &file);

		if (result == 0)
			result = sz_file_stat(file, &size, &inode);
		if (result == 0)
			result = check(context, file, size);
		if (result == 0) {
			*file_out = TAKE(file);
			return 0;
		}
		if (is_transient(result) || result == -EPROTONOSUPPORT)
			worst = result;
		else if (result != -ENOENT)
			*text_out = "does not authenticate";
	}
	return worst;
}

int sz_object_open_any(struct sz_store *store, const struct sz_id *id, object_check_fn *check,
		       void *context, struct sz_file **file_out, const char **text_out)
{
	int result = open_any(store, id, check, context, file_out, text_out);

	if (result == -EBADMSG && sz_catalog_identify(store, UINT64_MAX))
		result = open_any(store, id, check, context, file_out, text_out);
	if (result == -EBADMSG) /* renamed out of live/ since it was looked up */
		result = open_any(store, id, check, context, file_out, text_out);
	return result;
}

struct blob_wish {
	struct sz_store *store;
	const struct sz_id *id;
	const uint8_t *digest; /* NULL: any */
	struct sz_header *header;
	struct sz_bytes *payload;
	uint8_t found[SZ_DIGEST_BYTES]; /* which it was */
};

static int blob_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	struct blob_wish *wish = context;
	CLEANUP_FREE uint8_t *bytes = NULL;
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	uint8_t digest[SZ_DIGEST_BYTES];
	size_t done;
	int result;

	if (size_bytes < SZ_PAGE_BYTES || size_bytes > 2ULL * SZ_BLOB_MAX_BYTES)
		return -EBADMSG;
	bytes = malloc(size_bytes);
	if (bytes == NULL)
		return -ENOMEM;
	result = sz_read_retried(file, bytes, size_bytes, 0, &done);
	if (result != 0)
		return result;
	sz_header_digest(bytes, digest);
	if (wish->digest != NULL && !sz_equal(digest, wish->digest, sizeof(digest)))
		return -EBADMSG;
	result = sz_blob_decode(wish->store->keys, bytes, done, wish->header, &payload);
	if (result != 0)
		return result;
	if (memcmp(&wish->header->id, wish->id, sizeof(*wish->id)) != 0)
		return -EBADMSG;
	memcpy(wish->found, digest, sizeof(digest));
	*wish->payload = payload;
	payload = (struct sz_bytes){ 0 };
	return 0;
}

/* The same, of one of several: what it says is dropped. */
static int blob_copy_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	struct blob_wish *wish = context;
	int result = blob_check(context, file, size_bytes);

	if (wish->payload->data != NULL)
		sz_wipe(wish->payload->data, wish->payload->length);
	sz_bytes_free(wish->payload);
	return result;
}

/* A root that stands in live/ alone was never finished: if it is not whole, that is no damage. */
static bool is_relied_on(const struct blob_wish *wish)
{
	CLEANUP(sz_locations_free)
	struct location *locations = sz_catalog_find(wish->store, wish->id);

	for (const struct location *at = locations; at != NULL; at = at->next)
		if (at->part == SZ_SEALED)
			return true;
	return wish->digest != NULL;
}

static int blob_read(struct blob_wish *wish)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	const char *text;
	int result = sz_object_open_any(wish->store, wish->id, blob_check, wish, &file, &text);

	if (result == -EBADMSG && is_relied_on(wish))
		sz_damage_note(wish->store, NO_DEVICE, wish->id, 0, text);
	return result;
}

int sz_blob_read(struct sz_store *store, const struct sz_ref *ref, struct sz_header *header_out,
		 struct sz_bytes *payload_out)
{
	struct blob_wish wish = { store, &ref->id, ref->digest, header_out, payload_out, { 0 } };

	return blob_read(&wish);
}

int sz_blob_look(struct sz_store *store, const struct sz_ref *ref, struct sz_header *header_out,
		 struct sz_bytes *payload_out)
{
	struct blob_wish wish = { store, &ref->id, ref->digest, header_out, payload_out, { 0 } };
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	const char *text;

	return sz_object_open_any(store, &ref->id, blob_check, &wish, &file, &text);
}

/* Files of an object that pass check; what may pass is an error. */
static int copies_count(struct sz_store *store, const struct sz_id *id, object_check_fn *check,
			void *context, uint32_t *whole_out)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);
	int result = 0;

	*whole_out = 0;
	for (const struct location *at = locations; at != NULL && !is_transient(result);
	     at = at->next) {
		CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
		uint64_t size;
		uint64_t inode;

		if (at->part != SZ_SEALED)
			continue;
		result = location_open(store, at, &file);
		if (result == 0)
			result = sz_file_stat(file, &size, &inode);
		if (result == 0)
			result = check(context, file, size);
		if (result == 0)
			(*whole_out)++;
	}
	return is_transient(result) ? result : 0;
}

int sz_blob_copies(struct sz_store *store, const struct sz_ref *ref, uint32_t *whole_out)
{
	CLEANUP_FREE struct sz_header *header = malloc(sizeof(*header));
	CLEANUP_BYTES struct sz_bytes payload = { 0 };
	struct blob_wish wish = { store, &ref->id, ref->digest, header, &payload, { 0 } };

	return header == NULL ? -ENOMEM
			      : copies_count(store, &ref->id, blob_copy_check, &wish, whole_out);
}

static int key_check(void *context, struct sz_file *file, uint64_t size_bytes)
{
	const struct sz_store *store = context;
	uint8_t page[SZ_KEY_OBJECT_BYTES];
	size_t done;
	int result = sz_read_retried(file, page, sizeof(page), 0, &done);

	if (result != 0)
		return result;
	return size_bytes == sizeof(page) && done == sizeof(page) &&
			       memcmp(page, store->key->page, sizeof(page)) == 0
		       ? 0
		       : -EBADMSG;
}

int sz_key_copies(struct sz_store *store, const struct sz_id *id, uint32_t *whole_out)
{
	return copies_count(store, id, key_check, store, whole_out);
}

int sz_key_copy_clean(struct sz_store *store, const struct sz_id *id, bool *removed_out)
{
	CLEANUP(sz_locations_free) struct location *locations = sz_catalog_find(store, id);

	*removed_out = false;
	for (const struct location *at = locations; at != NULL; at = at->next) {
		CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
		uint64_t size;
		uint64_t inode;
		int result = location_open(store, at, &file);

		if (result == 0)
			result = sz_file_stat(file, &size, &inode);
		if (result == 0)
			result = key_check(store, file, size);
		if (is_transient(result))
			return result;
		if (result == -EBADMSG)
			result = sz_backend_remove(store->folders[at->folder].backend, at->part,
						   at->name);
		else if (result == 0)
			continue;
		if (result != 0 && result != -ENOENT)
			return result;
		sz_catalog_drop(store, id, at->folder, at->part);
		*removed_out = true;
		break;
	}
	return 0;
}

int sz_blob_read_id(struct sz_store *store, const struct sz_id *id, struct sz_header *header_out,
		    struct sz_bytes *payload_out, uint8_t digest_out[SZ_DIGEST_BYTES])
{
	struct blob_wish wish = { store, id, NULL, header_out, payload_out, { 0 } };
	int result = blob_read(&wish);

	if (result == 0)
		memcpy(digest_out, wish.found, sizeof(wish.found));
	return result;
}
