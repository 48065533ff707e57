/*
 * errand: what is done after the kernel has written out what it holds of an inode: it is told that the inode has
 * changed, on which it writes its dirty pages, and forgets all; that is waited for. Not in a thread that
 * serves requests: enough of these would leave none for the writes.
 *
 * - SEEK_DATA and SEEK_HOLE: the kernel asks without having written. Its pages would be holes, and be left out of a copy.
 * - New flags (chattr): what was written before is no change of a file that is immutable from then on.
 * - Pages that were not taken (op_write): there is nothing else to do.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>

static void errand_refuse(const struct errand *errand)
{
	if (errand->req != NULL)
		(void)fuse_reply_err(errand->req, EIO);
}

void errand_add(struct sz_mount *mount, const struct errand *errand)
{
	struct errand *added = malloc(sizeof(*added));
	bool is_taken = false;

	(void)pthread_mutex_lock(&mount->lock);
	if (added != NULL && !mount->errands_end) {
		*added = *errand;
		STAILQ_INSERT_TAIL(&mount->errands, added, next);
		(void)pthread_cond_signal(&mount->errand_added);
		is_taken = true;
	}
	(void)pthread_mutex_unlock(&mount->lock);
	if (!is_taken) {
		free(added);
		errand_refuse(errand);
	}
}

static void search_serve(struct request *request, const struct errand *errand)
{
	uint64_t found = 0;
	int result = sz_fs_seek(request->fs, request->number, errand->whence,
				(uint64_t)errand->offset, &found);

	answer_offset(request, result, found);
}

void op_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence,
	      struct fuse_file_info *file)
{
	const struct errand search = { .req = req,
				       .inode = inode,
				       .offset = offset,
				       .serve = search_serve,
				       .whence = whence };

	(void)file;
	errand_add(fuse_req_userdata(req), &search);
}

static void errand_run(struct sz_mount *mount, const struct errand *errand)
{
	struct request request;

	(void)fuse_lowlevel_notify_inval_inode(mount->session, errand->inode, errand->offset, 0);
	if (errand->req != NULL && request_begin(&request, errand->req, errand->inode))
		errand->serve(&request, errand);
}

static void *errands_run(void *argument)
{
	struct sz_mount *mount = argument;
	struct errand *errand;

	(void)pthread_setname_np(pthread_self(), "fuse-errand");
	(void)pthread_mutex_lock(&mount->lock);
	for (;;) {
		while (STAILQ_EMPTY(&mount->errands) && !mount->errands_end)
			(void)pthread_cond_wait(&mount->errand_added, &mount->lock);
		if (mount->errands_end)
			break;
		errand = STAILQ_FIRST(&mount->errands);
		STAILQ_REMOVE_HEAD(&mount->errands, next);
		(void)pthread_mutex_unlock(&mount->lock);
		errand_run(mount, errand);
		free(errand);
		(void)pthread_mutex_lock(&mount->lock);
	}
	while ((errand = STAILQ_FIRST(&mount->errands)) != NULL) {
		STAILQ_REMOVE_HEAD(&mount->errands, next);
		errand_refuse(errand);
		free(errand);
	}
	(void)pthread_mutex_unlock(&mount->lock);
	return NULL;
}

int errands_start(struct sz_mount *mount)
{
	STAILQ_INIT(&mount->errands);
	return -pthread_create(&mount->runner, NULL, errands_run, mount);
}

void errands_stop(struct sz_mount *mount)
{
	bool has_ended;

	(void)pthread_mutex_lock(&mount->lock);
	has_ended = mount->errands_end;
	mount->errands_end = true;
	(void)pthread_cond_signal(&mount->errand_added);
	(void)pthread_mutex_unlock(&mount->lock);
	if (!has_ended)
		(void)pthread_join(mount->runner, NULL);
}
