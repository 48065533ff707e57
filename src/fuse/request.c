/* request: the beginning of requests, and their answers. */
#include "fuse/fuse_internal.h"

#include <errno.h>
#include <time.h>

/*
 * Nobody changes the file system but the kernel, and who tells it. Attributes are asked for again after a
 * while all the same: a file that another command has taken a name of has one link less.
 */
#define NAME_VALID_S       3600.0
#define ATTRIBUTES_VALID_S 60.0
/*
 * Blocks of a file that was changed are counted when its transaction group is synced: for so long after a
 * change its attributes are asked for again soon.
 */
#define SETTLED_S          30
#define UNSETTLED_VALID_S  1.0

/* What programs write and read at a time. ZFS says the size of a file's blocks: 512 at first. */
#define IO_BYTES           (128U << 10)

bool request_begin_any(struct request *request, fuse_req_t req, fuse_ino_t node)
{
	struct sz_mount *mount = fuse_req_userdata(req);
	int result;

	*request = (struct request){
		.req = req, .caller = *fuse_req_ctx(req), .mount = mount, .fs = mount->fs
	};
	result = request_resolve(request, node);
	if (result != 0) {
		(void)fuse_reply_err(req, -result);
		return false;
	}
	return request_admit(request);
}

bool request_admit(struct request *request)
{
	struct sz_mount *mount = request->mount;
	int refusal;

	(void)pthread_mutex_lock(&mount->lock);
	while (mount->refusal == 0 && mount->served == SERVED_MAX)
		(void)pthread_cond_wait(&mount->served_less, &mount->lock);
	refusal = mount->refusal;
	if (refusal == 0) {
		mount->served++;
		LIST_INSERT_HEAD(&mount->requests, request, in_list);
	}
	(void)pthread_mutex_unlock(&mount->lock);
	if (refusal != 0) {
		(void)fuse_reply_err(request->req, -refusal);
		slot_leave(mount, request->slot, 1);
	}
	return refusal == 0;
}

bool request_begin(struct request *request, fuse_req_t req, fuse_ino_t node)
{
	if (!node_is_control(node))
		return request_begin_any(request, req, node);
	(void)fuse_reply_err(req, EROFS);
	return false;
}

int request_other(const struct request *request, fuse_ino_t node, uint64_t *number_out)
{
	struct request other = { .mount = request->mount };
	int result = node_is_control(node) ? -EROFS : request_resolve(&other, node);

	if (result != 0)
		return result;
	*number_out = other.number;
	result = other.slot == request->slot ? 0 : -EXDEV;
	slot_leave(request->mount, other.slot, 1); /* the request has it in use */
	return result;
}

/* NULL: it was answered meanwhile. */
static fuse_req_t request_end(struct request *request)
{
	struct sz_mount *mount = request->mount;
	fuse_req_t req;

	(void)pthread_mutex_lock(&mount->lock);
	req = TAKE(request->req);
	if (req != NULL)
		LIST_REMOVE(request, in_list);
	mount->served--;
	mount->answered++;
	(void)pthread_cond_signal(&mount->served_less);
	(void)pthread_mutex_unlock(&mount->lock);
	slot_leave(mount, request->slot, 1);
	return req;
}

void sz_mount_refuse(struct sz_mount *mount, int code)
{
	struct request *request;

	(void)pthread_mutex_lock(&mount->lock);
	mount->refusal = code;
	while ((request = LIST_FIRST(&mount->requests)) != NULL) {
		fuse_req_t req = TAKE(request->req);

		LIST_REMOVE(request, in_list);
		(void)fuse_reply_err(req,
				     -code); /* into the kernel's memory: it waits for nothing */
	}
	(void)pthread_cond_broadcast(&mount->served_less);
	(void)pthread_mutex_unlock(&mount->lock);
}

/* What the caller of a system call gets: there damage is an I/O error. */
static int error_number(int result)
{
	return result == -EBADMSG ? EIO : -result;
}

static double valid_s(const struct stat *stat)
{
	return time(NULL) - stat->st_ctim.tv_sec < SETTLED_S ? UNSETTLED_VALID_S
							     : ATTRIBUTES_VALID_S;
}

static int attributes_get(const struct request *request, uint64_t number, struct stat *stat_out)
{
	int result = sz_fs_getattr(request->fs, number, stat_out);

	/* A file and what it is in a snapshot are not the same one. */
	stat_out->st_ino |= (ino_t)request->slot << NODE_SLOT_SHIFT;
	stat_out->st_blksize = IO_BYTES;
	return result;
}

int entry_make(const struct request *request, uint64_t number, struct fuse_entry_param *entry_out)
{
	int result = sz_fs_hold(request->fs, number);

	if (result != 0)
		return result;
	slot_use(request->mount, request->slot);
	*entry_out = (struct fuse_entry_param){ .ino = node_make(request, number),
						.entry_timeout = NAME_VALID_S };
	result = attributes_get(request, number, &entry_out->attr);
	if (result != 0) {
		node_forget(request->mount, entry_out->ino, 1);
		return result;
	}
	entry_out->attr_timeout = valid_s(&entry_out->attr);
	return 0;
}

void answer(struct request *request, int result)
{
	fuse_req_t req = request_end(request);

	if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

/* That there is none is remembered too. */
void answer_lookup(struct request *request, int result, uint64_t number)
{
	const struct fuse_entry_param none = { .entry_timeout = NAME_VALID_S };
	fuse_req_t req;

	if (result != -ENOENT) {
		answer_entry(request, result, number);
		return;
	}
	req = request_end(request);
	if (req != NULL)
		(void)fuse_reply_entry(req, &none);
}

void answer_create(struct request *request, int result, uint64_t number,
		   const struct fuse_file_info *file)
{
	struct fuse_entry_param entry;
	fuse_req_t req;

	if (result == 0)
		result = entry_make(request, number, &entry);
	if (result != 0) {
		answer(request, result);
		return;
	}
	req = request_end(request);
	if (req != NULL && file != NULL)
		result = fuse_reply_create(req, &entry, file);
	else if (req != NULL)
		result = fuse_reply_entry(req, &entry);
	/* The kernel does not know of it: the request was interrupted, or answered before. */
	if (req == NULL || result != 0)
		node_forget(request->mount, entry.ino, 1);
}

void answer_entry(struct request *request, int result, uint64_t number)
{
	answer_create(request, result, number, NULL);
}

void answer_stat(struct request *request, int result, const struct stat *stat)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_attr(req, stat, valid_s(stat));
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

void answer_attributes(struct request *request, int result)
{
	struct stat stat = { 0 };

	if (result == 0)
		result = attributes_get(request, request->number, &stat);
	answer_stat(request, result, &stat);
}

void answer_node(struct request *request, int result, const struct fuse_entry_param *entry)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_entry(req, entry);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

bool answer_bytes(struct request *request, int result, const void *data, size_t length)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		return fuse_reply_buf(req, data, length) == 0;
	if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
	return false;
}

void answer_written(struct request *request, int result, size_t length)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_write(req, length);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

void answer_offset(struct request *request, int result, uint64_t offset)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_lseek(req, (off_t)offset);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

void answer_ioctl(struct request *request, int result, const void *data, size_t length)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_ioctl(req, 0, data, length);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

void answer_statfs(struct request *request, int result, const struct statvfs *statvfs)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0)
		(void)fuse_reply_statfs(req, statvfs);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}

void answer_xattr(struct request *request, int result, const void *data, size_t size, size_t length)
{
	fuse_req_t req = request_end(request);

	if (req != NULL && result == 0 && size == 0)
		(void)fuse_reply_xattr(req, length);
	else if (req != NULL && result == 0)
		(void)fuse_reply_buf(req, data, length);
	else if (req != NULL)
		(void)fuse_reply_err(req, error_number(result));
}
