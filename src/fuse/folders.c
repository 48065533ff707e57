/*
 * folders: listing. Entries are read first, under the folder's lock, and the inodes that they name
 * afterwards: one lock is not taken under another here.
 */
#include "fuse/fuse_internal.h"

#include <errno.h>

#define NAME_BYTES 256U

struct entry {
	uint64_t number;
	uint64_t next_cookie;
	uint32_t mode_type;
	bool is_held; /* for the kernel */
	char name[NAME_BYTES];
};
/* Of an entry in an answer: its head, and a name of one byte, padded. */
#define PLAIN_BYTES_MIN 32U
#define PLUS_BYTES_MIN  160U
/* A request's worth of them. */
struct listing {
	struct entry *entries;
	size_t count;
	size_t most;
};

/* ZFS's cookie for the end is all ones, which is no offset. */
#define COOKIE_END INT64_MAX

static int entry_add(void *context, const char *name, uint64_t number, uint32_t mode_type,
		     uint64_t next_cookie)
{
	struct listing *listing = context;
	struct entry *entry = &listing->entries[listing->count];

	if (listing->count == listing->most)
		return 1;
	*entry = (struct entry){ .number = number,
				 .mode_type = mode_type,
				 .next_cookie =
					 next_cookie < COOKIE_END ? next_cookie : COOKIE_END };
	(void)strncpy(entry->name, name, NAME_BYTES - 1);
	listing->count++;
	return 0;
}

/* A dataset's place, or perhaps one: what it is, the kernel is told when it asks. */
static bool is_place(const struct request *request, const struct entry *entry)
{
	bool is_child = false;

	return entry->mode_type == S_IFDIR && request_is_at_top(request) &&
	       (sz_fs_is_child(request->fs, entry->name, &is_child) != 0 || is_child);
}

/* Returns the entry's length; more than size: it was not added. */
static size_t entry_put(const struct request *request, struct entry *entry, bool plus, char *to,
			size_t size)
{
	/* Of these the kernel has inodes, or asks for them: without a number there it takes none. */
	bool is_apart = strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0 ||
			is_place(request, entry);
	off_t next = (off_t)entry->next_cookie;
	struct fuse_entry_param param = {
		.attr = { .st_ino = entry->number | (ino_t)request->slot << NODE_SLOT_SHIFT,
			  .st_mode = entry->mode_type },
	};

	if (!plus)
		return fuse_add_direntry(NULL, to, size, entry->name, &param.attr, next);
	if (fuse_add_direntry_plus(NULL, NULL, 0, entry->name, NULL, 0) > size)
		return size + 1;
	if (!is_apart) {
		if (entry_make(request, entry->number, &param) != 0)
			return 0; /* it has been removed meanwhile */
		entry->is_held = true;
	}
	return fuse_add_direntry_plus(NULL, to, size, entry->name, &param, next);
}

/* Fills the answer from cookie on. *length_out 0: there is no more. */
static int listing_fill(const struct request *request, uint64_t cookie, bool plus,
			struct listing *listing, char *data, size_t size, size_t *length_out)
{
	*length_out = 0;
	do {
		int result;

		listing->count = 0;
		result = cookie >= COOKIE_END ? 0
					      : sz_fs_readdir(request->fs, request->number, cookie,
							      entry_add, listing);
		if (result < 0)
			return result;
		for (size_t i = 0; i < listing->count; i++) {
			struct entry *entry = &listing->entries[i];
			size_t added = entry_put(request, entry, plus, data + *length_out,
						 size - *length_out);

			if (added > size - *length_out)
				return 0;
			*length_out += added;
			cookie = entry->next_cookie;
		}
	} while (*length_out == 0 && listing->count > 0);
	return 0;
}

static void list(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, bool plus)
{
	size_t most = size / (plus ? PLUS_BYTES_MIN : PLAIN_BYTES_MIN);
	CLEANUP_FREE struct entry *entries = calloc(most, sizeof(*entries));
	CLEANUP_FREE char *data = malloc(size);
	struct listing listing = { .entries = entries, .most = most };
	struct request request;
	size_t length = 0;
	int result = -ENOMEM;

	if (!request_begin_any(&request, req, inode))
		return;
	if (node_is_control(inode) && data != NULL) {
		control_list(&request, inode, data, size, offset, plus);
		return;
	}
	if (data != NULL && entries != NULL)
		result = listing_fill(&request, (uint64_t)offset, plus, &listing, data, size,
				      &length);
	if (!answer_bytes(&request, result, data, length))
		for (size_t i = 0; i < listing.count; i++)
			if (entries[i].is_held)
				node_forget(request.mount, node_make(&request, entries[i].number),
					    1);
}

void op_readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
		struct fuse_file_info *file)
{
	(void)file;
	list(req, inode, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
		    struct fuse_file_info *file)
{
	(void)file;
	list(req, inode, size, offset, true);
}
