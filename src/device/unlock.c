/*
 * unlock: from a passphrase to the keys. The key object is found by its length, in any folder and under
 * any name; each version is a file of its own.
 */
#include "device/device_internal.h"

#include <errno.h>

struct candidate {
	uint8_t digest[SZ_DIGEST_BYTES];
	uint32_t copies;
	uint8_t page[SZ_KEY_OBJECT_BYTES];
};

struct candidates {
	struct sz_backend *backend;
	struct candidate *at; /* room for KEY_OBJECTS_MAX */
	size_t count;
	int failure; /* of a file that may have been one */
};

static int candidate_add(void *context, const char *name, uint64_t size_bytes)
{
	struct candidates *candidates = context;
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	struct candidate *candidate = &candidates->at[candidates->count];
	size_t done = 0;
	int result;

	if (size_bytes != SZ_KEY_OBJECT_BYTES || candidates->count == KEY_OBJECTS_MAX)
		return 0;
	result = sz_backend_open(candidates->backend, SZ_SEALED, name, &file);
	if (result == 0)
		result = sz_read_retried(file, candidate->page, sizeof(candidate->page), 0, &done);
	if (result != 0) {
		candidates->failure = result;
		return 0;
	}
	if (done < sizeof(candidate->page))
		return 0;
	sz_digest(candidate->page, sizeof(candidate->page), candidate->digest);
	for (size_t i = 0; i < candidates->count; i++) {
		if (memcmp(candidates->at[i].digest, candidate->digest,
			   sizeof(candidate->digest)) == 0) {
			candidates->at[i].copies++;
			return 0;
		}
	}
	candidate->copies = 1;
	candidates->count++;
	return 0;
}

static void cleanup_key_object(struct sz_key_object **object)
{
	sz_secret_free(*object);
}

/* Real key objects stand in every folder: they come before files that only have the length. */
static int most_copies_first(const void *a, const void *b)
{
	const struct candidate *left = a;
	const struct candidate *right = b;

	return left->copies > right->copies ? -1 : left->copies < right->copies;
}

static int candidates_find(struct sz_store *store, struct candidates *candidates)
{
	int result = 0;

	for (uint32_t i = 0; i < store->folder_count; i++) {
		candidates->backend = store->folders[i].backend;
		result = sz_backend_list(candidates->backend, SZ_SEALED, candidate_add, candidates);
		if (result != 0)
			candidates->failure = result;
	}
	if (candidates->count > 1)
		qsort(candidates->at, candidates->count, sizeof(*candidates->at),
		      most_copies_first);
	return candidates->count == 0 ? candidates->failure : 0;
}

int sz_store_unlock(struct sz_store *store, const struct sz_passphrase *passphrase,
		    struct sz_error *error)
{
	const struct sz_unlock unlock = {
		.type = SZ_SLOT_PASSPHRASE,
		.passphrase = passphrase->bytes,
		.passphrase_length = passphrase->length,
	};
	/* One more: the place where the next is read to. */
	CLEANUP_FREE struct candidate *room = calloc(KEY_OBJECTS_MAX + 1, sizeof(*room));
	CLEANUP(cleanup_key_object) struct sz_key_object *object = sz_secret_alloc(sizeof(*object));
	struct candidates candidates = { .at = room };
	bool no_memory = false;
	bool is_newer = false;
	int result;

	if (room == NULL || object == NULL)
		return sz_fail(error, -ENOMEM, "no memory for the keys");
	result = candidates_find(store, &candidates);
	if (result != 0)
		return sz_fail(error, result, "looking for the key object: %s", strerror(-result));
	if (candidates.count == 0)
		return sz_fail(error, -ENODATA,
			       "this is not a store: no key object is in it or in its folders");
	for (size_t i = 0; i < candidates.count; i++) {
		result = sz_key_object_open(candidates.at[i].page, &unlock, object);
		no_memory = no_memory || result == -ENOMEM;
		is_newer = is_newer || result == -EPROTONOSUPPORT;
		if (result == 0 &&
		    (store->key->version == 0 || object->version > store->key->version))
			*store->key = *object;
	}
	if (store->key->version != 0)
		return 0;
	if (no_memory)
		return sz_fail(error, -ENOMEM,
			       "there is not enough memory to check the passphrase (up to 1 GiB)");
	if (is_newer)
		return sz_fail(error, -EPROTONOSUPPORT,
			       "the store was written by a newer szpool: open it with that");
	return sz_fail(error, -EKEYREJECTED,
		       "wrong passphrase (or all copies of the key object are damaged)");
}

int sz_store_check_passphrase(struct sz_store *store, const struct sz_passphrase *passphrase,
			      struct sz_error *error)
{
	const struct sz_unlock unlock = {
		.type = SZ_SLOT_PASSPHRASE,
		.passphrase = passphrase->bytes,
		.passphrase_length = passphrase->length,
	};
	CLEANUP(cleanup_key_object) struct sz_key_object *object = sz_secret_alloc(sizeof(*object));
	uint8_t page[SZ_KEY_OBJECT_BYTES];

	if (object == NULL)
		return sz_fail(error, -ENOMEM, "no memory for the keys");
	{
		MUTEX_SCOPE(&store->seal_lock);

		memcpy(page, store->key->page, sizeof(page));
	}
	if (sz_key_object_open(page, &unlock, object) == 0)
		return 0;
	return sz_fail(error, -EKEYREJECTED, "wrong passphrase");
}

static void key_id(const struct sz_store *store, struct sz_id *id_out)
{
	sz_id_make(SZ_KIND_KEY, SZ_STORE_WIDE, store->key->version, sz_get_le64(store->key->digest),
		   id_out);
}

int sz_key_object_write(struct sz_store *store, struct sz_backend *backend)
{
	CLEANUP(sz_cleanup_file) struct sz_file *file = NULL;
	char name[SZ_OBJECT_NAME_BYTES];
	struct sz_id id;
	int result;

	key_id(store, &id);
	sz_name_encode(store->keys, &id, name);
	result = sz_backend_create(backend, SZ_LIVE, name, &file);
	if (result == -EEXIST) {
		result = sz_backend_remove(backend, SZ_LIVE, name);
		if (result == 0)
			result = sz_backend_create(backend, SZ_LIVE, name, &file);
	}
	if (result == 0)
		result = sz_file_write(file, store->key->page, SZ_KEY_OBJECT_BYTES, 0);
	if (result == 0)
		result = sz_file_sync(file);
	if (result == 0)
		result = sz_backend_rename(backend, name, name);
	if (result == -EEXIST) /* the same bytes are there already */
		result = sz_backend_remove(backend, SZ_LIVE, name);
	return result != 0 ? result : sz_backend_sync_folder(backend, SZ_SEALED);
}

struct collecting {
	struct sz_store *store;
	struct sz_backend *backend;
};

static int collect_file(void *context, const char *name, uint64_t size_bytes)
{
	const struct collecting *collecting = context;
	struct sz_id id;
	enum sz_kind kind;
	uint32_t device;
	uint64_t version;

	if (size_bytes == SZ_KEY_OBJECT_BYTES &&
	    sz_name_decode(collecting->store->keys, name, &id) == 0 &&
	    sz_id_parse(&id, &kind, &device, &version) == 0 && kind == SZ_KIND_KEY &&
	    version < collecting->store->key->version)
		(void)!sz_backend_remove(collecting->backend, SZ_SEALED, name);
	return 0;
}

void sz_key_objects_collect(struct sz_store *store)
{
	for (uint32_t i = 0; i < store->folder_count; i++) {
		struct collecting collecting = { store, store->folders[i].backend };

		if (sz_backend_list(collecting.backend, SZ_SEALED, collect_file, &collecting) == 0)
			(void)!sz_backend_sync_folder(collecting.backend, SZ_SEALED);
	}
}
