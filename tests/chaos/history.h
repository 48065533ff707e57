/*
 * What a store must hold, at every moment of its life.
 *
 * A few *hands* (threads) each change files in a folder of their own; every change is one transaction
 * of the pool. A journal outside the store says when each change began and ended, and when each sync
 * and each seal did. So what any generation, recovery or copy may hold is known exactly: of each hand
 * the first so many changes, no fewer than had ended when the seal began, no more than had begun when
 * it ended.
 *
 * Every cell of a file says of which change it is, so that what is read cannot be mistaken. Folders
 * are compared by their *print*, which is kept for each number of changes.
 */
#ifndef SZ_TESTS_CHAOS_HISTORY_H
#define SZ_TESTS_CHAOS_HISTORY_H

#include "base/base.h"

#define HANDS_MAX  4U
#define NAMES      40U       /* of files, of each hand */
#define CELL_BYTES 131072ULL /* the unit of writing: always within one record of the pool */
#define CELLS_MAX  24U

struct file {
	uint64_t id; /* the stamp of the change that put it; 0: there is none */
	uint32_t cells;
	uint32_t last_bytes; /* of the last cell */
	uint64_t stamps[CELLS_MAX];
};

struct folder {
	struct file files[NAMES];
	uint64_t print;
};

enum change_kind {
	CHANGE_PUT,    /* a new file in place of what was there; other: cells */
	CHANGE_PATCH,  /* one cell of a file; other: which */
	CHANGE_RENAME, /* over what is there; other: the new name */
	CHANGE_REMOVE,
};

/* Times are lengths of the journal: what is said before has happened before. */
struct change {
	enum change_kind kind;
	uint32_t name;
	uint32_t other;
	uint32_t last_bytes;
	uint64_t stamp; /* never given twice */
	uint64_t begun;
	uint64_t ended; /* UINT64_MAX: never */
};

/* A sync, or a seal, of everything that had ended when it began. */
struct point {
	uint64_t begun;
	uint64_t ended;
	uint64_t generation; /* 0: a sync */
	uint64_t wall_ns;
};

struct history {
	uint64_t seed;
	uint32_t hands;
	uint64_t next_stamp;
	struct change *changes[HANDS_MAX];
	uint64_t counts[HANDS_MAX];
	struct point *points;
	size_t point_count;
	uint64_t length; /* of the journal */
};

/* What a hand has done: the first so many of its changes. */
struct span {
	uint64_t least;
	uint64_t most;
};

uint64_t chance(uint64_t *state);
uint64_t chance_below(uint64_t *state, uint64_t limit);

/* The content of a cell; to has CELL_BYTES. */
void cell_fill(uint64_t seed, uint32_t hand, uint64_t id, uint32_t cell, uint64_t stamp,
	       uint8_t *to);
/* Of which file and change it is, as its first bytes say. */
#define CELL_HEAD_BYTES 16U
void cell_head(const uint8_t *cell, uint64_t *id_out, uint64_t *stamp_out);

uint64_t file_bytes(const struct file *file);
void folder_apply(struct folder *folder, const struct change *change);
uint64_t folder_print(const struct folder *folder);

/*
 * The journal. _create begins one; _open continues what is there. _say: one line, at once (any thread).
 */
int journal_create(const char *path, uint64_t seed, uint32_t hands, int *fd_out) MUST_CHECK;
int journal_open(const char *path, int *fd_out) MUST_CHECK;
void journal_begin(int fd, uint32_t hand, const struct change *change);
void journal_end(int fd, uint32_t hand);
void journal_point_begin(int fd);
void journal_synced(int fd);
void journal_sealed(int fd, uint64_t generation, uint64_t wall_ns);
/* After a crash: of the hand's changes the first so many are there, the others will never be. */
void journal_resume(int fd, uint32_t hand, uint64_t count);

int history_load(const char *path, struct history *history_out) MUST_CHECK;
void history_free(struct history *history);

/* The newest seal that had ended at a time; NULL: none. */
const struct point *history_newest(const struct history *history, uint64_t at);
/* What a hand may have done in what holds at least all of one time, and at most all of another. */
struct span history_span(const struct history *history, uint32_t hand, uint64_t from, uint64_t to);
/* Those of the span after which the hand's folder has the print. False: none; says why not. */
bool history_find(const struct history *history, uint32_t hand, const struct folder *seen,
		  const struct span *span, struct span *found_out);
/* Is all that could be read as after the hand's last change? Says how much could not. */
bool history_is_latest(const struct history *history, uint32_t hand, const struct folder *seen,
		       const bool unreadable[NAMES]);
/* Could all hands have been there at once? */
bool history_is_instant(const struct history *history, const struct span *found);

#endif
