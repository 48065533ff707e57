/* Files of a store: see objects.h. */
#include "objects.h"

struct listing {
	struct harness *harness;
	struct objects *objects;
	uint32_t disk;
	enum sz_part part;
};

static int list_one(void *context, const char *name, uint64_t size_bytes)
{
	struct listing *listing = context;
	struct objects *objects = listing->objects;
	struct object *object;

	objects->list = realloc(objects->list, (objects->count + 1) * sizeof(*objects->list));
	assert_non_null(objects->list);
	object = &objects->list[objects->count++];
	*object = (struct object){ .disk = listing->disk,
				   .part = listing->part,
				   .size_bytes = size_bytes };
	assert_true(strlen(name) < sizeof(object->name));
	memcpy(object->name, name, strlen(name) + 1);
	return 0;
}

/* The newest of the key objects that the tests' passphrase opens. */
static void find_key(struct harness *harness, struct objects *objects)
{
	const struct sz_unlock unlock = { .type = SZ_SLOT_PASSPHRASE,
					  .passphrase = test_passphrase.bytes,
					  .passphrase_length = test_passphrase.length };

	objects->key = calloc(1, sizeof(*objects->key));
	assert_non_null(objects->key);
	for (size_t i = 0; i < objects->count; i++) {
		CLEANUP_BYTES struct sz_bytes page = { 0 };

		if (objects->list[i].size_bytes != SZ_KEY_OBJECT_BYTES)
			continue;
		object_read(harness, &objects->list[i], &page);
		if (sz_key_object_open(page.data, &unlock, objects->key) == 0)
			return;
	}
	fail_msg("no key object");
}

void objects_list(struct harness *harness, struct objects *objects_out)
{
	*objects_out = (struct objects){ 0 };
	for (uint32_t i = 0; i < harness->shape.devices; i++) {
		struct listing listing = {
			.harness = harness, .objects = objects_out, .disk = i, .part = SZ_SEALED
		};

		if (harness->disks[i] == NULL)
			continue;
		OK(sz_backend_list(harness->disks[i], SZ_SEALED, list_one, &listing));
		listing.part = SZ_LIVE;
		OK(sz_backend_list(harness->disks[i], SZ_LIVE, list_one, &listing));
	}
	find_key(harness, objects_out);
	for (size_t i = 0; i < objects_out->count; i++) {
		struct object *object = &objects_out->list[i];
		struct sz_id id;

		if (sz_name_decode(&objects_out->key->keys, object->name, &id) == 0)
			OK(sz_id_parse(&id, &object->kind, &object->device, &object->generation));
	}
}

void objects_free(struct objects *objects)
{
	free(objects->list);
	free(objects->key);
	*objects = (struct objects){ 0 };
}

void object_read(struct harness *harness, const struct object *object, struct sz_bytes *content_out)
{
	CLEANUP_FREE uint8_t *content = malloc(object->size_bytes + 1);
	struct sz_file *file;
	size_t length;

	assert_non_null(content);
	OK(sz_backend_open(harness->disks[object->disk], object->part, object->name, &file));
	OK(sz_file_read(file, content, object->size_bytes, 0, &length));
	sz_file_close(file);
	assert_int_equal(length, object->size_bytes);
	OK(sz_bytes_append(content_out, content, length));
}

void object_put(struct harness *harness, uint32_t disk, enum sz_part part, const char *name,
		const struct sz_bytes *content)
{
	struct sz_backend *backend = harness->disks[disk];
	struct sz_file *file;
	int rc = sz_backend_remove(backend, part, name);

	assert_true(rc == 0 || rc == -ENOENT);
	OK(sz_backend_create(backend, part, name, &file));
	if (content->length > 0)
		OK(sz_file_write(file, content->data, content->length, 0));
	OK(sz_file_sync(file));
	sz_file_close(file);
	OK(sz_backend_sync_folder(backend, part));
}

void object_remove(struct harness *harness, const struct object *object)
{
	OK(sz_backend_remove(harness->disks[object->disk], object->part, object->name));
	OK(sz_backend_sync_folder(harness->disks[object->disk], object->part));
}

uint64_t object_base_sector(struct harness *harness, const struct objects *objects,
			    const struct object *object)
{
	CLEANUP_BYTES struct sz_bytes content = { 0 };
	struct sz_header header;

	object_read(harness, object, &content);
	assert_true(content.length >= SZ_PAGE_BYTES);
	OK(sz_header_decode(&objects->key->keys, content.data, &header));
	return header.base_sector;
}
