/*
 * slots: the file systems in a mount. Datasets below the one that is mounted are in their place in its root folder, or below;
 * .zfs/snapshot/NAME in the root folder of each is a snapshot of it, read-only. As with the property snapdir=hidden
 * .zfs is found by who asks for it, and listed nowhere.
 *
 * Nodes, as the kernel names inodes: 48 bits are the number of an object of ZFS; above them stands in which file
 * system: 0 what is mounted, then others, by their place in mount.slots; NODE_CONTROL_SLOT: the two folders that
 * are nowhere on disk, with the slot of their dataset and which one it is below.
 * A snapshot is open while it is used: each time that the kernel has learnt one of its inodes, and each request. A
 * dataset stays open.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>

#define DROP_LIMIT_MS  2000 /* for the kernel to say that it has forgotten */
#define DROP_LOOK_MS   20

#define CONTROL_SHIFT  8
#define HASH_FACTOR    31U
#define CONTROL_FOLDER 1U /* .zfs */
#define CONTROL_LIST   2U /* .zfs/snapshot */

static uint32_t slot_of(fuse_ino_t node)
{
	return (uint32_t)(node >> NODE_SLOT_SHIFT);
}

static fuse_ino_t control_node(uint32_t slot, unsigned int which)
{
	return (fuse_ino_t)NODE_CONTROL_SLOT << NODE_SLOT_SHIFT |
	       (fuse_ino_t)slot << CONTROL_SHIFT | which;
}

static unsigned int control_which(fuse_ino_t node)
{
	return node & ((1U << CONTROL_SHIFT) - 1);
}

bool node_is_control(fuse_ino_t node)
{
	return slot_of(node) == NODE_CONTROL_SLOT;
}

fuse_ino_t node_make(const struct request *request, uint64_t number)
{
	if (request->slot == 0 && number == sz_fs_root(request->fs))
		return FUSE_ROOT_ID;
	return (fuse_ino_t)request->slot << NODE_SLOT_SHIFT | number;
}

void slot_use(struct sz_mount *mount, uint32_t slot)
{
	if (slot == 0)
		return;
	(void)pthread_mutex_lock(&mount->slots_lock);
	mount->slots[slot - 1].uses++;
	(void)pthread_mutex_unlock(&mount->slots_lock);
}

/* Under slots_lock. */
static void slot_close(struct slot *slot)
{
	if (slot->is_snapshot)
		sz_fs_snapshot_close(TAKE(slot->fs));
	else
		sz_fs_dataset_close(TAKE(slot->fs));
	free(TAKE(slot->name));
}

void slot_leave(struct sz_mount *mount, uint32_t slot, uint64_t uses)
{
	struct slot *at;

	if (slot == 0)
		return;
	(void)pthread_mutex_lock(&mount->slots_lock);
	at = &mount->slots[slot - 1];
	at->uses -= uses;
	if (at->uses == 0)
		slot_close(at);
	(void)pthread_mutex_unlock(&mount->slots_lock);
}

int request_resolve(struct request *request, fuse_ino_t node)
{
	struct sz_mount *mount = request->mount;
	bool is_control = node_is_control(node);
	uint32_t slot = is_control ? (uint32_t)node >> CONTROL_SHIFT : slot_of(node);
	struct slot *at;

	request->slot = slot;
	request->number = node & (((uint64_t)1 << NODE_SLOT_SHIFT) - 1);
	request->fs = mount->fs;
	if (slot > SLOTS_MAX)
		return -ESTALE;
	if (slot != 0) {
		(void)pthread_mutex_lock(&mount->slots_lock);
		at = &mount->slots[slot - 1];
		request->fs = at->fs;
		request->is_in_snapshot = at->is_snapshot;
		if (at->fs != NULL)
			at->uses++;
		(void)pthread_mutex_unlock(&mount->slots_lock);
	}
	if (request->fs == NULL)
		return -ESTALE;
	if (node == FUSE_ROOT_ID || is_control)
		request->number = sz_fs_root(request->fs);
	return 0;
}

bool request_is_at_top(const struct request *request)
{
	return !request->is_in_snapshot && request->number == sz_fs_root(request->fs);
}

void node_forget(struct sz_mount *mount, fuse_ino_t node, uint64_t count)
{
	struct request request = { .mount = mount };

	if (node == FUSE_ROOT_ID || node_is_control(node) || request_resolve(&request, node) != 0)
		return;
	sz_fs_release(request.fs, request.number, count);
	slot_leave(mount, request.slot, request.slot == 0 ? 0 : count + 1);
}

/* Snapshots first: they are of datasets. */
void slots_close(struct sz_mount *mount)
{
	for (unsigned int pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < SLOTS_MAX; i++)
			if (mount->slots[i].fs != NULL &&
			    mount->slots[i].is_snapshot == (pass == 0))
				slot_close(&mount->slots[i]);
}

static int slot_open(const struct request *request, const char *name, struct slot *slot)
{
	struct sz_error ignored = { 0 };
	int result;

	slot->name = strdup(name);
	if (slot->name == NULL)
		return -ENOMEM;
	slot->of = request->slot;
	slot->uses = slot->is_snapshot ? 0 : 1; /* until it is unmounted */
	if (slot->is_snapshot)
		result = sz_fs_snapshot_open(request->fs, name, &slot->fs, &ignored);
	else
		result = sz_fs_child_open(request->fs, name, &slot->fs, &ignored);
	if (result == 0 && !slot->is_snapshot)
		(void)!sz_fs_children_place(slot->fs);
	if (result != 0)
		free(TAKE(slot->name));
	return result;
}

/*
 * The snapshot or dataset of what the request is in, which is opened if it is not. Under slots_lock: by one at a time.
 * A dataset is in the same place at the next mount, as far as can be: its files have the same numbers.
 */
static int slot_find(const struct request *request, const char *name, bool is_snapshot,
		     struct slot **slot_out)
{
	struct slot *slots = request->mount->slots;
	uint32_t half = SLOTS_MAX / 2;
	uint32_t place = request->slot;
	struct slot *found = NULL;

	for (const char *at = name; *at != '\0'; at++)
		place = place * HASH_FACTOR + (unsigned char)*at;
	for (uint32_t i = 0; i < half; i++) {
		struct slot *at = &slots[(place + i) % half + (is_snapshot ? half : 0)];

		if (at->fs == NULL && found == NULL)
			found = at;
		if (at->fs == NULL || at->of != request->slot || strcmp(at->name, name) != 0)
			continue;
		*slot_out = at;
		return 0;
	}
	if (found == NULL)
		return -ENFILE;
	found->is_snapshot = is_snapshot;
	*slot_out = found;
	return slot_open(request, name, found);
}

/* The request uses it from then on, and not what it was in. */
static int slot_enter(struct request *request, const char *name, bool is_snapshot)
{
	struct sz_mount *mount = request->mount;
	uint32_t left = request->slot;
	struct slot *slot;
	int result;

	(void)pthread_mutex_lock(&mount->slots_lock);
	result = slot_find(request, name, is_snapshot, &slot);
	if (result == 0) {
		slot->uses++;
		request->slot = (uint32_t)(slot - mount->slots) + 1;
		request->fs = slot->fs;
		request->is_in_snapshot = is_snapshot;
		request->number = sz_fs_root(slot->fs);
	}
	(void)pthread_mutex_unlock(&mount->slots_lock);
	if (result == 0)
		slot_leave(mount, left, 1);
	return result;
}

int child_enter(struct request *request, const char *name)
{
	return slot_enter(request, name, false);
}

/* SLOTS_MAX + 1: the kernel knows nothing of it. */
static uint32_t slot_by_fs(struct sz_mount *mount, const struct sz_fs *fs)
{
	uint32_t slot = SLOTS_MAX + 1;

	if (fs == mount->fs)
		return 0;
	(void)pthread_mutex_lock(&mount->slots_lock);
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		if (mount->slots[i].fs == fs)
			slot = i + 1;
	(void)pthread_mutex_unlock(&mount->slots_lock);
	return slot;
}

bool node_find(struct sz_mount *mount, const struct sz_fs *fs, uint64_t number,
	       fuse_ino_t *node_out)
{
	uint32_t slot = slot_by_fs(mount, fs);

	*node_out = slot == 0 && number == sz_fs_root(fs)
			    ? FUSE_ROOT_ID
			    : (fuse_ino_t)slot << NODE_SLOT_SHIFT | number;
	return slot <= SLOTS_MAX;
}

void sz_mount_snapshot_drop(struct sz_mount *mount, const struct sz_fs *fs, const char *name)
{
	uint32_t of = slot_by_fs(mount, fs);
	bool is_open = of <= SLOTS_MAX;

	if (is_open)
		(void)fuse_lowlevel_notify_inval_entry(
			mount->session, control_node(of, CONTROL_LIST), name, strlen(name));
	for (unsigned int waited_ms = 0; is_open && waited_ms < DROP_LIMIT_MS;
	     waited_ms += DROP_LOOK_MS) {
		is_open = false;
		(void)pthread_mutex_lock(&mount->slots_lock);
		for (uint32_t i = 0; i < SLOTS_MAX; i++) {
			const struct slot *at = &mount->slots[i];

			is_open = is_open || (at->fs != NULL && at->is_snapshot && at->of == of &&
					      strcmp(at->name, name) == 0);
		}
		(void)pthread_mutex_unlock(&mount->slots_lock);
		if (is_open)
			sz_sleep_ms(DROP_LOOK_MS);
	}
}

static int control_stat(const struct request *request, fuse_ino_t node, struct stat *stat_out)
{
	int result = sz_fs_getattr(request->fs, sz_fs_root(request->fs), stat_out);

	stat_out->st_ino = node;
	stat_out->st_mode = S_IFDIR | 0555;
	stat_out->st_nlink = 2;
	stat_out->st_size = 0;
	stat_out->st_blocks = 0;
	return result;
}

void control_getattr(struct request *request, fuse_ino_t node)
{
	struct stat stat = { 0 };

	answer_stat(request, control_stat(request, node, &stat), &stat);
}

void control_lookup(struct request *request, fuse_ino_t parent, const char *name)
{
	fuse_ino_t node = control_node(request->slot, CONTROL_FOLDER);
	struct fuse_entry_param entry = { 0 };
	int result;

	if (node_is_control(parent) && control_which(parent) == CONTROL_LIST) {
		answer_entry(request, slot_enter(request, name, true), request->number);
		return;
	}
	if (node_is_control(parent))
		node = strcmp(name, "snapshot") == 0 ? control_node(request->slot, CONTROL_LIST)
						     : 0;
	result = node == 0 ? -ENOENT : control_stat(request, node, &entry.attr);
	entry.ino = node;
	answer_node(request, result, &entry);
}

/* Into what is left of the answer; 1: it is full. */
struct control_listing {
	char *data;
	size_t size;
	size_t length;
	uint64_t from; /* cookies above it */
	bool plus;
	fuse_ino_t node; /* .zfs/snapshot */
};

static int control_entry_add(struct control_listing *listing, const char *name, fuse_ino_t node,
			     uint64_t cookie)
{
	/* Without a node the kernel looks it up when it is asked for: no snapshot is opened to be listed. */
	const struct fuse_entry_param param = {
		.attr = { .st_ino = node, .st_mode = S_IFDIR },
	};
	char *to = listing->data + listing->length;
	size_t room = listing->size - listing->length;
	size_t added;

	if (cookie <= listing->from)
		return 0;
	added = listing->plus ? fuse_add_direntry_plus(NULL, to, room, name, &param, (off_t)cookie)
			      : fuse_add_direntry(NULL, to, room, name, &param.attr, (off_t)cookie);
	if (added > room)
		return 1;
	listing->length += added;
	return 0;
}

#define COOKIES_OF_DOTS 2U /* a snapshot's is its transaction group, behind these */

static int snapshot_list(void *context, const struct sz_snapshot *snapshot)
{
	struct control_listing *listing = context;

	return control_entry_add(listing, snapshot->name, listing->node,
				 COOKIES_OF_DOTS + snapshot->txg);
}

void control_list(struct request *request, fuse_ino_t node, char *data, size_t size, off_t offset,
		  bool plus)
{
	struct control_listing listing = { .data = data,
					   .size = size,
					   .from = (uint64_t)offset,
					   .plus = plus,
					   .node = control_node(request->slot, CONTROL_LIST) };
	int result = control_entry_add(&listing, ".", node, 1);

	if (result == 0)
		result = control_entry_add(&listing, "..", FUSE_ROOT_ID, COOKIES_OF_DOTS);
	if (result == 0 && control_which(node) == CONTROL_FOLDER)
		result = control_entry_add(&listing, "snapshot", listing.node, COOKIES_OF_DOTS + 1);
	else if (result == 0)
		result = sz_fs_snapshot_each(request->fs, snapshot_list, &listing);
	(void)answer_bytes(request, result < 0 ? result : 0, data, listing.length);
}
