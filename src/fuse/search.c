/*
 * search: SEEK_DATA and SEEK_HOLE. The kernel asks without having written out what it holds of the file, which
 * would be a hole then, and be left out of a copy. So it is told that the file has changed from there on,
 * on which it writes its dirty pages, and waits for that. Not in a thread that serves requests: enough
 * of these would leave none for the writes.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>

void op_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence,
	      struct fuse_file_info *file)
{
	struct sz_mount *mount = fuse_req_userdata(req);
	struct search *search = malloc(sizeof(*search));

	(void)file;
	if (search == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	*search = (struct search){ .req = req, .inode = inode, .offset = offset, .whence = whence };
	(void)pthread_mutex_lock(&mount->lock);
	STAILQ_INSERT_TAIL(&mount->searches, search, next);
	(void)pthread_cond_signal(&mount->searched);
	(void)pthread_mutex_unlock(&mount->lock);
}

static void serve(struct sz_mount *mount, const struct search *search)
{
	struct request request;
	uint64_t found = 0;
	int result;

	(void)fuse_lowlevel_notify_inval_inode(mount->session, search->inode, search->offset, 0);
	if (!request_begin(&request, search->req))
		return;
	result = sz_fs_seek(mount->fs, search->inode, search->whence, (uint64_t)search->offset,
			    &found);
	answer_offset(&request, result, found);
}

static void *searcher_run(void *argument)
{
	struct sz_mount *mount = argument;

	(void)pthread_setname_np(pthread_self(), "fuse-search");
	(void)pthread_mutex_lock(&mount->lock);
	for (;;) {
		struct search *search;

		while (STAILQ_EMPTY(&mount->searches) && !mount->is_ending)
			(void)pthread_cond_wait(&mount->searched, &mount->lock);
		if (STAILQ_EMPTY(&mount->searches))
			break;
		search = STAILQ_FIRST(&mount->searches);
		STAILQ_REMOVE_HEAD(&mount->searches, next);
		(void)pthread_mutex_unlock(&mount->lock);
		serve(mount, search);
		free(search);
		(void)pthread_mutex_lock(&mount->lock);
	}
	(void)pthread_mutex_unlock(&mount->lock);
	return NULL;
}

int searcher_start(struct sz_mount *mount)
{
	STAILQ_INIT(&mount->searches);
	return -pthread_create(&mount->searcher, NULL, searcher_run, mount);
}

void searcher_stop(struct sz_mount *mount)
{
	(void)pthread_mutex_lock(&mount->lock);
	mount->is_ending = true;
	(void)pthread_cond_signal(&mount->searched);
	(void)pthread_mutex_unlock(&mount->lock);
	(void)pthread_join(mount->searcher, NULL);
}
