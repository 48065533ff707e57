/*
 * What the files of fuse share.
 *
 * Requests. Each is served by the thread that took it from the kernel, and answered once, by who takes it
 * from its struct request first: that thread, or, when the pool is suspended and the thread may be stuck in
 * it, the one that refuses (sz_mount_refuse).
 *
 * Locks: mount.lock, over the requests; nothing else is locked under it, and no request is served under it.
 * mount.slots_lock by itself: snapshots and datasets are opened, and snapshots closed, under it.
 */
#ifndef SZ_FUSE_FUSE_INTERNAL_H
#define SZ_FUSE_FUSE_INTERNAL_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <sys/queue.h>

#include "fuse/fuse.h"

#define SZ_FUSE_TYPE      "szpool"   /* of the file system, behind "fuse." */
#define REQUEST_BYTES_MAX (1U << 20) /* of content in a request: FUSE's most, 256 pages */
/*
 * Requests that are served at a time; further ones wait. There are more threads, so that some are there to refuse
 * what comes while all that are served are stuck in a suspended pool.
 */
#define SERVED_MAX        12U
#define THREADS_MAX       20U

struct request {
	fuse_req_t req; /* NULL: it is answered (under mount.lock) */
	struct fuse_ctx caller;
	struct sz_mount *mount;
	uint32_t slot; /* which file system it is for; 0: the one that is mounted */
	bool is_in_snapshot;
	struct sz_fs *fs;
	uint64_t number;             /* of the inode in it */
	LIST_ENTRY(request) in_list; /* while req is not NULL */
};
LIST_HEAD(request_list, request);

/* What is done after the kernel has written out, and forgotten, what it holds of an inode (errand.c). */
struct errand {
	fuse_req_t req; /* NULL: nothing else is to be done */
	fuse_ino_t inode;
	off_t offset; /* from there on */
	void (*serve)(struct request *request, const struct errand *errand);
	int whence;           /* of a search */
	unsigned int command; /* of new flags */
	struct flags_new {
		uint32_t flags;
		uint32_t project;
	} new;
	STAILQ_ENTRY(errand) next;
};
STAILQ_HEAD(errand_queue, errand);

/* slots.c */
#define SLOTS_MAX         2048U /* file systems that are open at a time, beside the one that is mounted */
#define NODE_SLOT_SHIFT   48
#define NODE_CONTROL_SLOT 0xffffU
struct slot {
	struct sz_fs *fs; /* NULL: a free place */
	char *name;       /* of the dataset below, or the snapshot of, what is in this slot: */
	uint32_t of;
	bool is_snapshot;
	uint64_t uses;
};

struct sz_mount {
	struct sz_fs *fs; /* NULL: devices are shown */
	struct sz_device_files *devices;
	char *folder;
	dev_t number; /* of the file system that it is for the kernel */
	struct fuse_session *session;
	bool read_only;
	sz_mount_ended_fn *ended;
	void *context;
	pthread_t loop;
	pthread_t runner; /* of errands */
	pthread_mutex_t slots_lock;
	struct slot slots[SLOTS_MAX]; /* under it; the first one is slot 1 */
	pthread_mutex_t lock;
	pthread_cond_t served_less; /* a request is over, or all are refused */
	pthread_cond_t is_over;
	pthread_cond_t errand_added; /* or errands_end */
	/* Under lock: */
	struct request_list requests;
	unsigned int served;
	uint64_t answered; /* so far */
	struct errand_queue errands;
	bool errands_end; /* none is run any more */
	int refusal;      /* what requests are answered with; 0: they are served */
	bool has_ended;   /* the loop is over */
};

extern const struct fuse_lowlevel_ops operations;
/* What all mounts agree on with the kernel, and the flags. */
void connection_agree(struct fuse_conn_info *conn, unsigned int flags);

/* devices.c: NULL: no memory. Freed with the mount; the store is the caller's. */
extern const struct fuse_lowlevel_ops device_operations;
struct sz_device_files *device_files_make(struct sz_store *store,
					  const struct sz_mount_options *options);
void device_files_free(struct sz_device_files *files); /* NULL is allowed */

/*
 * request.c: false: it is answered already. What was begun is ended by one of the answers. The two folders that are
 * nowhere on disk are refused, by _begin_any not: then fs is what is mounted.
 */
bool request_begin(struct request *request, fuse_req_t req, fuse_ino_t node);
bool request_begin_any(struct request *request, fuse_req_t req, fuse_ino_t node);
/* The same where it is known what the request is for. */
bool request_admit(struct request *request);
/* Another inode of the request: -EXDEV, if it is in another file system. */
int request_other(const struct request *request, fuse_ino_t node, uint64_t *number_out) MUST_CHECK;
void answer(struct request *request, int result); /* 0 or -errno */
void answer_lookup(struct request *request, int result, uint64_t number);
/* With the inode's number and attributes; the kernel knows it from then on, and it is held. */
void answer_entry(struct request *request, int result, uint64_t number);
void answer_create(struct request *request, int result, uint64_t number,
		   const struct fuse_file_info *file);
void answer_attributes(struct request *request, int result);
void answer_stat(struct request *request, int result, const struct stat *stat);
void answer_node(struct request *request, int result, const struct fuse_entry_param *entry);
/* True: the kernel has it. */
bool answer_bytes(struct request *request, int result, const void *data, size_t length);
void answer_written(struct request *request, int result, size_t length);
void answer_offset(struct request *request, int result, uint64_t offset);
void answer_ioctl(struct request *request, int result, const void *data, size_t length);
void answer_statfs(struct request *request, int result, const struct statvfs *statvfs);
/* size 0: it was asked for the length alone. */
void answer_xattr(struct request *request, int result, const void *data, size_t size,
		  size_t length);
/* An entry for the kernel, held. */
int entry_make(const struct request *request, uint64_t number,
	       struct fuse_entry_param *entry_out) MUST_CHECK;

/* False: the kernel knows nothing of that file system. */
bool node_find(struct sz_mount *mount, const struct sz_fs *fs, uint64_t number,
	       fuse_ino_t *node_out);
bool node_is_control(fuse_ino_t node);
fuse_ino_t node_make(const struct request *request, uint64_t number);
void node_forget(struct sz_mount *mount, fuse_ino_t node, uint64_t count);
/* -ESTALE: it is no file system that is open. Else it is used. */
int request_resolve(struct request *request, fuse_ino_t node) MUST_CHECK;
/* The root folder of a dataset: .zfs and other datasets are in it. */
bool request_is_at_top(const struct request *request);
void slot_use(struct sz_mount *mount, uint32_t slot);
void slot_leave(struct sz_mount *mount, uint32_t slot, uint64_t uses);
void slots_close(struct sz_mount *mount);
/* The request goes on in the dataset below that has the name. */
int child_enter(struct request *request, const char *name) MUST_CHECK;
void control_getattr(struct request *request, fuse_ino_t node);
void control_lookup(struct request *request, fuse_ino_t parent, const char *name);
void control_list(struct request *request, fuse_ino_t node, char *data, size_t size, off_t offset,
		  bool plus);

/* The operations, by the names that libfuse has for them. */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t inode, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *file);
void op_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *values, int fields,
		struct fuse_file_info *file);
void op_readlink(fuse_req_t req, fuse_ino_t inode);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned int flags);
void op_link(fuse_req_t req, fuse_ino_t inode, fuse_ino_t parent, const char *name);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *file);
void op_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *file);
void op_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
	     struct fuse_file_info *file);
void op_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
	      struct fuse_file_info *file);
void op_fsync(fuse_req_t req, fuse_ino_t inode, int data_only, struct fuse_file_info *file);
void op_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
		  struct fuse_file_info *file);
void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
			struct fuse_file_info *from_file, fuse_ino_t to, off_t to_offset,
			struct fuse_file_info *to_file, size_t length, int flags);
void op_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence,
	      struct fuse_file_info *file);
void op_ioctl(fuse_req_t req, fuse_ino_t inode, unsigned int command, void *argument,
	      struct fuse_file_info *file, unsigned int flags, const void *in, size_t in_bytes,
	      size_t out_bytes);
void op_readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
		struct fuse_file_info *file);
void op_readdirplus(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
		    struct fuse_file_info *file);
void op_statfs(fuse_req_t req, fuse_ino_t inode);
void op_setxattr(fuse_req_t req, fuse_ino_t inode, const char *name, const char *value, size_t size,
		 int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t inode, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t inode, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t inode, const char *name);

/* errand.c */
int errands_start(struct sz_mount *mount) MUST_CHECK;
/* While requests are served: what is under way waits for some. Later ones are answered with an error. */
void errands_stop(struct sz_mount *mount);
void errand_add(struct sz_mount *mount, const struct errand *errand);

/* table.c: the device number of what is mounted at the folder, on top; 0: nothing is. */
dev_t folder_device(const char *folder);
/* With umount2, or where that is not allowed with fusermount3. -EBUSY */
int folder_unmount(const char *folder, bool lazily, struct sz_error *error) MUST_CHECK;

#endif
