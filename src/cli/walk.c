/*
 * walk: a tree in the pool, entry by entry, as fts(3) walks one on disk: a folder is entered, its
 * entries come, it is left. A folder is read when it is entered, so it may be changed meanwhile.
 */
#include "cli/cli.h"

#include <errno.h>

/* A folder that is entered and not left yet. */
struct level {
	struct entries entries;
	size_t next;
	uint64_t inode;
	size_t path_length; /* of its path, in walk.path */
};

struct walk {
	struct sz_fs *fs;
	struct level *levels;
	size_t count;
	size_t capacity;
	uint64_t parent; /* of the tree's root */
	uint64_t root;
	uint32_t root_type;
	bool has_begun;
	bool is_entering; /* the step before entered a folder: it is still to be read */
	struct walk_step step;
	char *path; /* of the present entry */
	size_t path_capacity;
};

/* path becomes its first prefix_length bytes, a slash and the name. */
static int path_set(struct walk *walk, size_t prefix_length, const char *name)
{
	size_t needed = prefix_length + 1 + strlen(name) + 1;

	if (needed > walk->path_capacity) {
		char *grown = realloc(walk->path, 2 * needed);

		if (grown == NULL)
			return -ENOMEM;
		walk->path = grown;
		walk->path_capacity = 2 * needed;
	}
	if (prefix_length > 0 && walk->path[prefix_length - 1] == '/')
		prefix_length--;
	walk->path[prefix_length] = '/';
	memcpy(walk->path + prefix_length + 1, name, strlen(name) + 1);
	return 0;
}

int walk_open(struct sz_fs *fs, uint64_t parent, uint64_t root, uint32_t root_type,
	      const char *path, struct walk **walk_out)
{
	struct walk *walk = calloc(1, sizeof(*walk));

	if (walk == NULL)
		return -ENOMEM;
	*walk = (struct walk){ .fs = fs,
			       .parent = parent,
			       .root = root,
			       .root_type = root_type,
			       .path = strdup(path),
			       .path_capacity = strlen(path) + 1 };
	if (walk->path == NULL) {
		free(walk);
		return -ENOMEM;
	}
	*walk_out = walk;
	return 0;
}

static void level_pop(struct walk *walk)
{
	entries_free(&walk->levels[--walk->count].entries);
}

void walk_close(struct walk *walk)
{
	while (walk->count > 0)
		level_pop(walk);
	free(walk->levels);
	free(walk->path);
	free(walk);
}

static int level_push(struct walk *walk, uint64_t folder)
{
	struct level level = { .inode = folder, .path_length = strlen(walk->path) };
	int result;

	if (walk->count == walk->capacity) {
		size_t capacity = walk->capacity == 0 ? 16 : 2 * walk->capacity;
		struct level *grown = realloc(walk->levels, capacity * sizeof(*grown));

		if (grown == NULL)
			return -ENOMEM;
		walk->levels = grown;
		walk->capacity = capacity;
	}
	result = entries_read(walk->fs, folder, &level.entries);
	if (result == 0)
		walk->levels[walk->count++] = level;
	return result;
}

void walk_skip(struct walk *walk)
{
	walk->is_entering = false;
}

static const struct walk_step *step_set(struct walk *walk, enum walk_event event, uint64_t parent,
					uint64_t inode, const char *name)
{
	walk->step = (struct walk_step){
		.event = event,
		.parent = parent,
		.inode = inode,
		.name = name,
		.path = walk->path,
		.is_root = walk->count == 0,
	};
	walk->is_entering = event == WALK_ENTER;
	return &walk->step;
}

static enum walk_event entry_event(uint32_t mode_type)
{
	return S_ISDIR(mode_type) ? WALK_ENTER : WALK_ENTRY;
}

/* Out of the folder whose entries are all done. */
static const struct walk_step *step_leave(struct walk *walk)
{
	struct level *level = &walk->levels[walk->count - 1];
	const struct level *above = walk->count > 1 ? level - 1 : NULL;
	uint64_t inode = level->inode;

	walk->path[level->path_length] = '\0';
	level_pop(walk);
	return step_set(walk, WALK_LEAVE, above != NULL ? above->inode : walk->parent, inode,
			above != NULL ? above->entries.data[above->next - 1].name : NULL);
}

int walk_next(struct walk *walk, const struct walk_step **step_out)
{
	struct level *level;

	*step_out = NULL;
	if (walk->is_entering) {
		uint64_t folder = walk->step.inode;
		int result;

		walk->is_entering = false;
		result = level_push(walk, folder);
		if (result != 0)
			return result;
	}
	if (!walk->has_begun) {
		walk->has_begun = true;
		*step_out = step_set(walk, entry_event(walk->root_type), walk->parent, walk->root,
				     NULL);
		return 0;
	}
	if (walk->count == 0)
		return 0;
	level = &walk->levels[walk->count - 1];
	if (level->next < level->entries.count) {
		const struct entry *entry = &level->entries.data[level->next++];
		int result = path_set(walk, level->path_length, entry->name);

		if (result == 0)
			*step_out = step_set(walk, entry_event(entry->mode_type), level->inode,
					     entry->inode, entry->name);
		return result;
	}
	*step_out = step_leave(walk);
	return 0;
}
