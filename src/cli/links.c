/* links: where the first name of each inode with several names went, so that the others follow it. */
#include "cli/cli.h"

#include <errno.h>

static int link_compare(const struct link *a, const struct link *b)
{
	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	return a->inode < b->inode ? -1 : a->inode > b->inode;
}
RB_GENERATE_INTERNAL(link_tree, link, node, link_compare, static __attribute__((unused)))

struct link *links_find(struct link_tree *links, dev_t device, ino_t inode)
{
	struct link key = { .device = device, .inode = inode };

	return RB_FIND(link_tree, links, &key);
}

int links_add(struct link_tree *links, dev_t device, ino_t inode, uint64_t to, const char *path)
{
	struct link *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return -ENOMEM;
	*entry = (struct link){ .device = device,
				.inode = inode,
				.to = to,
				.path = path == NULL ? NULL : strdup(path) };
	if (path != NULL && entry->path == NULL) {
		free(entry);
		return -ENOMEM;
	}
	(void)RB_INSERT(link_tree, links, entry);
	return 0;
}

void links_free(struct link_tree *links)
{
	struct link *entry;

	while ((entry = RB_ROOT(links)) != NULL) {
		(void)RB_REMOVE(link_tree, links, entry);
		free(entry->path);
		free(entry);
	}
}
