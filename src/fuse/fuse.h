/*
 * fuse: a file system of fs, or the devices of a store, as a folder of this machine: libfuse's low-level API on the one
 * side, fs or device on the other. One mount a process.
 *
 * The kernel's caches: entries and attributes are valid for long, for nobody else changes the file system but
 * who says so (sz_mount_changed). What is dirty in them is the kernel's until it is written here:
 * by fsync, by the last close, by unmounting, or after a while.
 */
#ifndef SZ_FUSE_FUSE_H
#define SZ_FUSE_FUSE_H

#include "base/base.h"
#include "device/device.h"
#include "fs/fs.h"

struct sz_mount;

struct sz_mount_options {
	const char *source; /* what the table of mounts names it by: the store */
	const char *flags;  /* further ones for the kernel, "noatime,noexec"; NULL: none */
	bool read_only;
	bool allow_other; /* other users, by the modes of the files */
};

/*
 * Can a file system be mounted there? -ENOENT, -ENOTDIR, -ENOTEMPTY, -EACCES; -ENOTCONN: what a process that is
 * gone left mounted; -EOPNOTSUPP: no FUSE here; the text says what to do.
 */
int sz_mount_check(const char *folder, struct sz_error *error) MUST_CHECK;

/*
 * Mounts, and serves from then on. ended: called once, by another thread, when it is not mounted any
 * more, whoever unmounted it; it must not call anything here. folder: absolute.
 */
typedef void sz_mount_ended_fn(void *context);
int sz_mount_open(struct sz_fs *fs, const char *folder, const struct sz_mount_options *options,
		  sz_mount_ended_fn *ended, void *context, struct sz_mount **mount_out,
		  struct sz_error *error) MUST_CHECK;
/*
 * The same of the store's devices, as files 0, 1, …, as large as they are; who has it mounted may do with their content
 * what he likes, so nothing else has a pool open on them. Of a device that is missing there is none.
 */
int sz_mount_open_devices(struct sz_store *store, const char *folder,
			  const struct sz_mount_options *options, sz_mount_ended_fn *ended,
			  void *context, struct sz_mount **mount_out,
			  struct sz_error *error) MUST_CHECK;
/*
 * Something else than the mount has changed a name, or an inode: the kernel forgets what it knows of it. From
 * a thread that no request waits for.
 */
void sz_mount_entry_changed(struct sz_mount *mount, const struct sz_fs *fs, uint64_t parent,
			    const char *name);
void sz_mount_inode_changed(struct sz_mount *mount, const struct sz_fs *fs, uint64_t number);
/* What the kernel holds of files is written. */
void sz_mount_sync(struct sz_mount *mount);
/* The kernel forgets what it knows of a snapshot; closed, unless somebody uses it. From such a thread, too. */
void sz_mount_snapshot_drop(struct sz_mount *mount, const struct sz_fs *fs, const char *name);
/* Answers all requests with the error, those too that are being served: they may be stuck for ever. */
void sz_mount_refuse(struct sz_mount *mount, int code);
const char *sz_mount_folder(const struct sz_mount *mount);
/* Writes out what the kernel has, and unmounts. -EBUSY: something is in use there; it stays mounted. */
int sz_mount_unmount(struct sz_mount *mount, struct sz_error *error) MUST_CHECK;
/*
 * Unmounts, and frees. Is it in use, that is waited for, a while; then what is written so far goes out, and who uses it
 * gets errors. When it returns nothing of it uses fs.
 */
void sz_mount_close(struct sz_mount *mount);

/*
 * A descriptor of the mount that stays open when another program takes the place of this one (exec), and over which
 * that one refuses: from then on every request gets the error (-EIO, -ENOSPC). ended: as above. -1: there is none.
 * number: what tells the mount from others at the same folder.
 */
int sz_mount_device(const struct sz_mount *mount, dev_t *number_out);
struct sz_refusal;
/* Takes over device, also if it fails. */
int sz_refusal_start(int device, dev_t number, const char *folder, int code,
		     sz_mount_ended_fn *ended, void *context,
		     struct sz_refusal **refusal_out) MUST_CHECK;
/* Takes it off its folder; who uses it gets errors for ever. -ENOTCONN: it is not there, or not on top. */
int sz_refusal_end(struct sz_refusal *refusal) MUST_CHECK;

/* The store whose file system is mounted at the folder: the caller's. -EINVAL: none of szpool is. */
int sz_mount_find(const char *folder, char **source_out, struct sz_error *error) MUST_CHECK;
/* Unmounts what another process mounted; what one left behind that is gone, also while it is in use. */
int sz_mount_remove(const char *folder, struct sz_error *error) MUST_CHECK;

#endif
