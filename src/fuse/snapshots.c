/*
 * snapshots: .zfs/snapshot/NAME in the root folder, read-only. As with the property snapdir=hidden .zfs is found
 * by who asks for it, and listed nowhere.
 *
 * Nodes, as the kernel names inodes: 48 bits are the number of an object of ZFS; above them stands in which file
 * system: 0 what is mounted, then snapshots, by their place in mount.snapshots; NODE_CONTROL_SLOT: the two
 * folders that are nowhere on disk.
 * A snapshot is open while it is used: each time that the kernel has learnt one of its inodes, and each request.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>

#define DROP_LIMIT_MS 2000 /* for the kernel to say that it has forgotten */
#define DROP_LOOK_MS  20

static uint32_t slot_of(fuse_ino_t node)
{
	return (uint32_t)(node >> NODE_SLOT_SHIFT);
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

/* Under snapshots_lock. */
static struct snapshot *snapshot_at(struct sz_mount *mount, uint32_t slot)
{
	if (slot > SNAPSHOTS_MAX || mount->snapshots[slot - 1].fs == NULL)
		return NULL;
	return &mount->snapshots[slot - 1];
}

void snapshot_use(struct sz_mount *mount, uint32_t slot)
{
	if (slot == 0)
		return;
	(void)pthread_mutex_lock(&mount->snapshots_lock);
	mount->snapshots[slot - 1].uses++;
	(void)pthread_mutex_unlock(&mount->snapshots_lock);
}

void snapshot_leave(struct sz_mount *mount, uint32_t slot, uint64_t uses)
{
	struct snapshot *snapshot;

	if (slot == 0)
		return;
	(void)pthread_mutex_lock(&mount->snapshots_lock);
	snapshot = &mount->snapshots[slot - 1];
	snapshot->uses -= uses;
	if (snapshot->uses == 0) {
		sz_fs_snapshot_close(TAKE(snapshot->fs));
		free(TAKE(snapshot->name));
	}
	(void)pthread_mutex_unlock(&mount->snapshots_lock);
}

int request_resolve(struct request *request, fuse_ino_t node)
{
	struct sz_mount *mount = request->mount;
	struct snapshot *snapshot;

	request->slot = slot_of(node);
	request->number = node & (((uint64_t)1 << NODE_SLOT_SHIFT) - 1);
	request->fs = mount->fs;
	if (node == FUSE_ROOT_ID)
		request->number = sz_fs_root(mount->fs);
	if (request->slot == 0)
		return 0;
	(void)pthread_mutex_lock(&mount->snapshots_lock);
	snapshot = snapshot_at(mount, request->slot);
	request->fs = snapshot == NULL ? NULL : snapshot->fs;
	if (snapshot != NULL)
		snapshot->uses++;
	(void)pthread_mutex_unlock(&mount->snapshots_lock);
	return request->fs == NULL ? -ESTALE : 0;
}

void node_forget(struct sz_mount *mount, fuse_ino_t node, uint64_t count)
{
	struct request request = { .mount = mount };

	if (node == FUSE_ROOT_ID || node_is_control(node) || request_resolve(&request, node) != 0)
		return;
	sz_fs_release(request.fs, request.number, count);
	snapshot_leave(mount, request.slot, request.slot == 0 ? 0 : count + 1);
}

void snapshots_close(struct sz_mount *mount)
{
	for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
		if (mount->snapshots[i].fs == NULL)
			continue;
		sz_fs_snapshot_close(TAKE(mount->snapshots[i].fs));
		free(TAKE(mount->snapshots[i].name));
	}
}

/* Opens it, if it is not. The request uses it from then on. Under snapshots_lock: by one at a time. */
static int snapshot_find(struct sz_mount *mount, const char *name, struct request *request)
{
	struct sz_error ignored = { 0 };
	struct snapshot *snapshot = NULL;
	int result = 0;

	for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
		struct snapshot *at = &mount->snapshots[i];

		if (at->fs != NULL ? strcmp(at->name, name) == 0 : snapshot == NULL)
			snapshot = at;
		if (at->fs != NULL && snapshot == at)
			break;
	}
	if (snapshot == NULL)
		return -ENFILE;
	if (snapshot->fs == NULL) {
		snapshot->name = strdup(name);
		result = snapshot->name == NULL
				 ? -ENOMEM
				 : sz_fs_snapshot_open(mount->fs, name, &snapshot->fs, &ignored);
		if (result != 0)
			free(TAKE(snapshot->name));
	}
	if (result != 0)
		return result;
	snapshot->uses++;
	request->slot = (uint32_t)(snapshot - mount->snapshots) + 1;
	request->fs = snapshot->fs;
	request->number = sz_fs_root(snapshot->fs);
	return 0;
}

void sz_mount_snapshot_drop(struct sz_mount *mount, const char *name)
{
	bool is_open = true;

	(void)fuse_lowlevel_notify_inval_entry(mount->session, NODE_SNAPSHOTS, name, strlen(name));
	for (unsigned int waited_ms = 0; is_open && waited_ms < DROP_LIMIT_MS;
	     waited_ms += DROP_LOOK_MS) {
		is_open = false;
		(void)pthread_mutex_lock(&mount->snapshots_lock);
		for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++)
			is_open = is_open || (mount->snapshots[i].fs != NULL &&
					      strcmp(mount->snapshots[i].name, name) == 0);
		(void)pthread_mutex_unlock(&mount->snapshots_lock);
		if (is_open)
			sz_sleep_ms(DROP_LOOK_MS);
	}
}

static int control_stat(const struct sz_mount *mount, fuse_ino_t node, struct stat *stat_out)
{
	int result = sz_fs_getattr(mount->fs, sz_fs_root(mount->fs), stat_out);

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

	answer_stat(request, control_stat(request->mount, node, &stat), &stat);
}

void control_lookup(struct request *request, fuse_ino_t parent, const char *name)
{
	struct sz_mount *mount = request->mount;
	fuse_ino_t node = NODE_CONTROL;
	struct fuse_entry_param entry = { 0 };
	int result;

	if (parent == NODE_SNAPSHOTS) {
		(void)pthread_mutex_lock(&mount->snapshots_lock);
		result = snapshot_find(mount, name, request);
		(void)pthread_mutex_unlock(&mount->snapshots_lock);
		answer_entry(request, result, request->number);
		return;
	}
	if (parent == NODE_CONTROL)
		node = strcmp(name, "snapshot") == 0 ? NODE_SNAPSHOTS : 0;
	result = node == 0 ? -ENOENT : control_stat(mount, node, &entry.attr);
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
	return control_entry_add(context, snapshot->name, NODE_SNAPSHOTS,
				 COOKIES_OF_DOTS + snapshot->txg);
}

void control_list(struct request *request, fuse_ino_t node, char *data, size_t size, off_t offset,
		  bool plus)
{
	struct control_listing listing = {
		.data = data, .size = size, .from = (uint64_t)offset, .plus = plus
	};
	int result = control_entry_add(&listing, ".", node, 1);

	if (result == 0)
		result = control_entry_add(&listing, "..", FUSE_ROOT_ID, COOKIES_OF_DOTS);
	if (result == 0 && node == NODE_CONTROL)
		result = control_entry_add(&listing, "snapshot", NODE_SNAPSHOTS,
					   COOKIES_OF_DOTS + 1);
	else if (result == 0)
		result = sz_fs_snapshot_each(request->mount->fs, snapshot_list, &listing);
	(void)answer_bytes(request, result < 0 ? result : 0, data, listing.length);
}
