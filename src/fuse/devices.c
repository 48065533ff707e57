/*
 * devices: the devices of a store as files, 0, 1, …, for whatever uses disks: a mount without a file system of
 * ours. A file is as large as its device, and stays so; a device that is missing has none.
 *
 * - The kernel caches what is read, and writes through: a write that is beyond the end, or that a full disk has no room
 *   for, fails at once. Shared maps work; what is dirty in them is written by fsync, the last close, or after a while.
 * - Damage is an I/O error, also of a write of a part of a damaged sector: the rest of it is not known.
 * - What was written is durable after fsync, or after a close.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SECTOR     ((uint64_t)SZ_SECTOR_BYTES)
#define FIRST_NODE (FUSE_ROOT_ID + 1)
#define VALID_S    60.0
#define NAME_BYTES 12U

struct device_file {
	struct sz_device *device;
	/* Of the file, for as long as it is shown: */
	_Atomic mode_t mode;
	_Atomic uid_t uid;
	_Atomic gid_t gid;
	_Atomic int64_t changed_s;
};

struct sz_device_files {
	mode_t folder_mode;
	int64_t begin_s;
	uint32_t count;
	struct device_file files[SZ_DEVICES_MAX];
};

static bool is_present(const struct device_file *file)
{
	return sz_device_state(file->device) != SZ_DEVICE_MISSING;
}

static uint64_t size_of(const struct device_file *file)
{
	return sz_device_sectors(file->device) * SECTOR;
}

static void name_make(uint32_t index, char name[NAME_BYTES])
{
	(void)snprintf(name, NAME_BYTES, "%u", index);
}

struct sz_device_files *device_files_make(struct sz_store *store,
					  const struct sz_mount_options *options)
{
	struct sz_device_files *files = calloc(1, sizeof(*files));

	if (files == NULL)
		return NULL;
	files->folder_mode = options->allow_other ? 0755 : 0700;
	files->begin_s = time(NULL);
	files->count = sz_store_device_count(store);
	for (uint32_t i = 0; i < files->count; i++) {
		struct device_file *file = &files->files[i];

		file->device = sz_store_device(store, i);
		atomic_init(&file->mode, options->read_only ? 0400 : 0600);
		atomic_init(&file->uid, geteuid());
		atomic_init(&file->gid, getegid());
		atomic_init(&file->changed_s, files->begin_s);
	}
	return files;
}

void device_files_free(struct sz_device_files *files)
{
	free(files);
}

static void attributes_make(const struct sz_device_files *files, fuse_ino_t node, struct stat *stat)
{
	const struct device_file *file;

	*stat = (struct stat){ .st_ino = node,
			       .st_mode = S_IFDIR | files->folder_mode,
			       .st_nlink = 2,
			       .st_uid = geteuid(),
			       .st_gid = getegid(),
			       .st_blksize = REQUEST_BYTES_MAX,
			       .st_mtim.tv_sec = files->begin_s,
			       .st_ctim.tv_sec = files->begin_s };
	if (node == FUSE_ROOT_ID)
		return;
	file = &files->files[node - FIRST_NODE];
	stat->st_mode = S_IFREG | atomic_load(&file->mode);
	stat->st_nlink = 1;
	stat->st_uid = atomic_load(&file->uid);
	stat->st_gid = atomic_load(&file->gid);
	stat->st_size = (off_t)size_of(file);
	stat->st_blocks = stat->st_size / 512;
	stat->st_mtim.tv_sec = atomic_load(&file->changed_s);
	stat->st_ctim = stat->st_mtim;
}

static bool begin(struct request *request, fuse_req_t req, fuse_ino_t node)
{
	struct sz_mount *mount = fuse_req_userdata(req);

	*request = (struct request){ .req = req, .mount = mount, .number = node };
	return request_admit(request);
}

/* A request for a file. The kernel knows no nodes but those that it was told of. */
static bool file_begin(struct request *request, fuse_req_t req, fuse_ino_t node,
		       struct device_file **file_out)
{
	struct sz_mount *mount = fuse_req_userdata(req);

	if (!begin(request, req, node))
		return false;
	if (node < FIRST_NODE || node >= FIRST_NODE + mount->devices->count) {
		answer(request, -EISDIR);
		return false;
	}
	*file_out = &mount->devices->files[node - FIRST_NODE];
	return true;
}

static void device_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request request;
	struct sz_device_files *files;
	struct fuse_entry_param entry = { .entry_timeout = VALID_S, .attr_timeout = VALID_S };

	if (!begin(&request, req, parent))
		return;
	files = request.mount->devices;
	for (uint32_t i = 0; i < files->count; i++) {
		char text[NAME_BYTES];

		name_make(i, text);
		if (strcmp(text, name) == 0 && is_present(&files->files[i]))
			entry.ino = FIRST_NODE + i;
	}
	if (entry.ino != 0)
		attributes_make(files, entry.ino, &entry.attr);
	answer_node(&request, 0, &entry); /* inode 0: there is none, and that is remembered */
}

static void device_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
	struct request request;
	struct stat stat;

	(void)info;
	if (!begin(&request, req, node))
		return;
	attributes_make(request.mount->devices, node, &stat);
	answer_stat(&request, 0, &stat);
}

/* Owner and mode are those of the file that is shown, as of a disk in /dev; its times are its own affair. */
static void device_setattr(fuse_req_t req, fuse_ino_t node, struct stat *values, int fields,
			   struct fuse_file_info *info)
{
	struct request request;
	struct device_file *file;
	struct stat stat;

	(void)info;
	if (node == FUSE_ROOT_ID) {
		if (begin(&request, req, node))
			answer(&request, -EPERM);
		return;
	}
	if (!file_begin(&request, req, node, &file))
		return;
	if ((fields & FUSE_SET_ATTR_SIZE) != 0 && (uint64_t)values->st_size != size_of(file)) {
		answer(&request, -EPERM);
		return;
	}
	if ((fields & FUSE_SET_ATTR_MODE) != 0)
		atomic_store(&file->mode, values->st_mode & 0777);
	if ((fields & FUSE_SET_ATTR_UID) != 0)
		atomic_store(&file->uid, values->st_uid);
	if ((fields & FUSE_SET_ATTR_GID) != 0)
		atomic_store(&file->gid, values->st_gid);
	attributes_make(request.mount->devices, node, &stat);
	answer_stat(&request, 0, &stat);
}

static void device_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
	struct request request;

	(void)info;
	if (begin(&request, req, node))
		answer(&request, -ENOSYS); /* no file needs it */
}

static void device_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
			struct fuse_file_info *info)
{
	CLEANUP_FREE uint8_t *data = NULL;
	uint64_t from = (uint64_t)offset;
	struct request request;
	struct device_file *file;
	int result;

	(void)info;
	if (!file_begin(&request, req, node, &file))
		return;
	if (from >= size_of(file))
		size = 0;
	else if (size > size_of(file) - from)
		size = size_of(file) - from;
	data = malloc(size > 0 ? size : 1);
	result = data == NULL ? -ENOMEM : 0;
	if (result == 0 && size > 0)
		result = sz_device_read_bytes(file->device, from, (uint32_t)size, data);
	(void)answer_bytes(&request, result, data, size);
}

/* As with a disk: what is beyond the end has no room, what lies before it is written. */
static void device_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size,
			 off_t offset, struct fuse_file_info *info)
{
	uint64_t from = (uint64_t)offset;
	struct request request;
	struct device_file *file;
	int result = -ENOSPC;

	(void)info;
	if (!file_begin(&request, req, node, &file))
		return;
	if (from < size_of(file)) {
		if (size > size_of(file) - from)
			size = size_of(file) - from;
		atomic_store(&file->changed_s, time(NULL));
		result = sz_device_write_bytes(file->device, from, (uint32_t)size, data);
	}
	answer_written(&request, result, size);
}

static void device_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			     struct fuse_file_info *info)
{
	uint64_t from = (uint64_t)offset;
	uint64_t end = from + (uint64_t)length;
	struct request request;
	struct device_file *file;
	int kind = mode & ~FALLOC_FL_KEEP_SIZE;
	int result = 0;

	(void)info;
	if (!file_begin(&request, req, node, &file))
		return;
	if (kind != FALLOC_FL_PUNCH_HOLE && kind != FALLOC_FL_ZERO_RANGE)
		result = -EOPNOTSUPP; /* room cannot be promised */
	else if (end > size_of(file) && (mode & FALLOC_FL_KEEP_SIZE) == 0)
		result = -ENOSPC;
	if (end > size_of(file))
		end = size_of(file);
	if (result == 0 && from < end) {
		atomic_store(&file->changed_s, time(NULL));
		result = sz_device_zero_bytes(file->device, from, end - from);
	}
	answer(&request, result);
}

static void sync_answer(fuse_req_t req, fuse_ino_t node)
{
	struct request request;
	struct device_file *file;

	if (file_begin(&request, req, node, &file))
		answer(&request, sz_device_flush(file->device));
}

static void device_fsync(fuse_req_t req, fuse_ino_t node, int data_only,
			 struct fuse_file_info *info)
{
	(void)data_only;
	(void)info;
	sync_answer(req, node);
}

/* A file is closed. With nothing to write that costs nothing. */
static void device_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
	(void)info;
	sync_answer(req, node);
}

static void device_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
			   struct fuse_file_info *info)
{
	CLEANUP_FREE char *data = malloc(size);
	struct request request;
	struct sz_device_files *files;
	size_t length = 0;

	(void)info;
	if (!begin(&request, req, node))
		return;
	files = request.mount->devices;
	/* Offsets: 0 "." · 1 ".." · from 2 on the devices. */
	for (uint64_t at = (uint64_t)offset; data != NULL && at < files->count + 2ULL; at++) {
		char name[NAME_BYTES] = ".";
		struct stat stat;
		size_t added;

		attributes_make(files, at < 2 ? FUSE_ROOT_ID : at - 2 + FIRST_NODE, &stat);
		if (at == 1)
			name[1] = '.';
		else if (at > 1)
			name_make((uint32_t)(at - 2), name);
		if (at > 1 && !is_present(&files->files[at - 2]))
			continue;
		added = fuse_add_direntry(NULL, data + length, size - length, name, &stat,
					  (off_t)at + 1);
		if (added > size - length)
			break;
		length += added;
	}
	(void)answer_bytes(&request, data == NULL ? -ENOMEM : 0, data, length);
}

static void device_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct request request;
	struct statvfs space = { .f_bsize = SZ_SECTOR_BYTES,
				 .f_frsize = SZ_SECTOR_BYTES,
				 .f_namemax = NAME_BYTES - 1 };

	if (!begin(&request, req, node))
		return;
	for (uint32_t i = 0; i < request.mount->devices->count; i++)
		space.f_blocks += sz_device_sectors(request.mount->devices->files[i].device);
	answer_statfs(&request, 0, &space);
}

/* The folder shows what there is: nothing is made in it, renamed, or removed. */
static void refuse(fuse_req_t req, fuse_ino_t node)
{
	struct request request;

	if (begin(&request, req, node))
		answer(&request, -EPERM);
}

static void refuse_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			 dev_t rdev)
{
	(void)name;
	(void)mode;
	(void)rdev;
	refuse(req, parent);
}

static void refuse_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)name;
	(void)mode;
	refuse(req, parent);
}

static void refuse_name(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)name;
	refuse(req, parent);
}

static void refuse_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)name;
	refuse(req, parent);
}

static void refuse_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			  fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
	(void)name;
	(void)new_parent;
	(void)new_name;
	(void)flags;
	refuse(req, parent);
}

static void refuse_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	(void)node;
	(void)name;
	refuse(req, parent);
}

static void device_init(void *context, struct fuse_conn_info *conn)
{
	(void)context;
	connection_agree(conn, 0);
}

/* Without forget: a node is there as long as its device. */
const struct fuse_lowlevel_ops device_operations = {
	.init = device_init,
	.lookup = device_lookup,
	.getattr = device_getattr,
	.setattr = device_setattr,
	.mknod = refuse_mknod,
	.mkdir = refuse_mkdir,
	.unlink = refuse_name,
	.rmdir = refuse_name,
	.symlink = refuse_symlink,
	.rename = refuse_rename,
	.link = refuse_link,
	.open = device_open,
	.read = device_read,
	.write = device_write,
	.flush = device_flush,
	.fsync = device_fsync,
	.readdir = device_readdir,
	.statfs = device_statfs,
	.fallocate = device_fallocate,
};
