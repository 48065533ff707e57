/*
 * Lists what the newest generation of a store is made of, as nobody can without the passphrase:
 *
 *   chaos-objects STORE      a line for each object: kind, device, name
 */
#include "open.h"

#include "device/device_internal.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const kind_names[] = {
	[SZ_KIND_BAND] = "band", [SZ_KIND_DELTA] = "delta", [SZ_KIND_INDEX] = "index",
	[SZ_KIND_HOT] = "hot",   [SZ_KIND_ROOT] = "root",
};

static int print(void *context, const struct sz_id *id)
{
	const struct sz_store *store = context;
	char name[SZ_OBJECT_NAME_BYTES];
	enum sz_kind kind;
	uint32_t device;
	uint64_t generation;

	if (sz_id_parse(id, &kind, &device, &generation) != 0 || kind >= ARRAY_LENGTH(kind_names))
		die("an impossible id");
	sz_name_encode(store->keys, id, name);
	(void)printf("%s %" PRIu32 " %s\n", kind_names[kind], device, name);
	return 0;
}

int main(int count, char **arguments)
{
	const struct sz_store_open options = { .path = count == 2 ? arguments[1] : "",
					       .read_only = true };
	struct generation *newest;
	struct sz_store *store;
	struct sz_error error = { 0 };

	if (store_open(&options, &store, &error) != 0)
		die("%s", error.text);
	newest = store->history.at[0];
	if (sz_refs_load(store, newest) != 0)
		die("an index page cannot be read");
	sz_refs_walk_begin(&store->collector.refs);
	if (sz_refs_walk(&store->collector.refs, newest, print, store) != 0)
		die("printing");
	return sz_store_close(store, &error) == 0 ? 0 : 1;
}
