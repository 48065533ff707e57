/* The history: see history.h. */
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPLAINED_MAX 5U /* files that an explanation names */

/* SplitMix64 (Steele, Lea, Flood, 2014). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
	return x ^ (x >> 31);
}

uint64_t chance(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15U;
	return mix(*state);
}

uint64_t chance_below(uint64_t *state, uint64_t limit)
{
	return chance(state) % limit;
}

/* Content */

static uint64_t join(uint64_t print, uint64_t value)
{
	return mix(print ^ (value + 0x9e3779b97f4a7c15U));
}

void cell_fill(uint64_t seed, uint32_t hand, uint64_t id, uint32_t cell, uint64_t stamp,
	       uint8_t *to)
{
	uint64_t state = join(join(join(join(seed, hand), id), cell), stamp);

	sz_put_le64(to, id);
	sz_put_le64(to + 8, stamp);
	for (size_t i = CELL_HEAD_BYTES; i < CELL_BYTES; i += 8)
		sz_put_le64(to + i, chance(&state));
}

void cell_head(const uint8_t *cell, uint64_t *id_out, uint64_t *stamp_out)
{
	*id_out = sz_get_le64(cell);
	*stamp_out = sz_get_le64(cell + 8);
}

uint64_t file_bytes(const struct file *file)
{
	return (file->cells - 1) * CELL_BYTES + file->last_bytes;
}

static uint64_t file_print(uint32_t name, const struct file *file)
{
	uint64_t print = join(name, file->id);

	if (file->id == 0)
		return 0;
	print = join(print, file_bytes(file));
	for (uint32_t i = 0; i < file->cells; i++)
		print = join(print, file->stamps[i]);
	return print;
}

uint64_t folder_print(const struct folder *folder)
{
	uint64_t print = 0;

	for (uint32_t i = 0; i < NAMES; i++)
		print ^= file_print(i, &folder->files[i]);
	return print;
}

static void file_set(struct folder *folder, uint32_t name, const struct file *file)
{
	folder->print ^= file_print(name, &folder->files[name]) ^ file_print(name, file);
	folder->files[name] = *file;
}

void folder_apply(struct folder *folder, const struct change *change)
{
	static const struct file none;
	struct file file = folder->files[change->name];

	switch (change->kind) {
	case CHANGE_PUT:
		file = (struct file){ .id = change->stamp,
				      .cells = change->other,
				      .last_bytes = change->last_bytes };
		for (uint32_t i = 0; i < file.cells; i++)
			file.stamps[i] = change->stamp;
		file_set(folder, change->name, &file);
		break;
	case CHANGE_PATCH:
		file.stamps[change->other] = change->stamp;
		file_set(folder, change->name, &file);
		break;
	case CHANGE_RENAME:
		file_set(folder, change->name, &none);
		file_set(folder, change->other, &file);
		break;
	case CHANGE_REMOVE:
		file_set(folder, change->name, &none);
		break;
	}
}

/* The journal */

static void say(int fd, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(int fd, const char *format, ...)
{
	char line[160];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(line) ||
	    write(fd, line, (size_t)length) != length) {
		perror("the journal");
		_exit(4);
	}
}

int journal_create(const char *path, uint64_t seed, uint32_t hands, int *fd_out)
{
	*fd_out = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*fd_out < 0)
		return -errno;
	say(*fd_out, "history %" PRIu64 " %" PRIu32 "\n", seed, hands);
	return 0;
}

int journal_open(const char *path, int *fd_out)
{
	*fd_out = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	return *fd_out < 0 ? -errno : 0;
}

void journal_begin(int fd, uint32_t hand, const struct change *change)
{
	say(fd, "b %" PRIu32 " %" PRIu64 " %u %" PRIu32 " %" PRIu32 " %" PRIu32 "\n", hand,
	    change->stamp, (unsigned int)change->kind, change->name, change->other,
	    change->last_bytes);
}

void journal_end(int fd, uint32_t hand)
{
	say(fd, "e %" PRIu32 "\n", hand);
}

void journal_point_begin(int fd)
{
	say(fd, "p\n");
}

void journal_synced(int fd)
{
	say(fd, "y\n");
}

void journal_sealed(int fd, uint64_t generation, uint64_t wall_ns)
{
	say(fd, "s %" PRIu64 " %" PRIu64 "\n", generation, wall_ns);
}

void journal_resume(int fd, uint32_t hand, uint64_t count)
{
	say(fd, "r %" PRIu32 " %" PRIu64 "\n", hand, count);
}

/* An array that grows by doubling: its capacity is the next power of two. */
static int grow(void **array, size_t count, size_t size)
{
	void *grown;

	if ((count & (count - 1)) != 0)
		return 0;
	grown = realloc(*array, (count == 0 ? 1 : 2 * count) * size);
	if (grown == NULL)
		return -ENOMEM;
	*array = grown;
	return 0;
}

static int change_read(struct history *history, const char *line, uint64_t begun)
{
	struct change change = { .begun = begun, .ended = UINT64_MAX };
	unsigned int kind;
	uint32_t hand;
	int result;

	if (sscanf(line, "b %" SCNu32 " %" SCNu64 " %u %" SCNu32 " %" SCNu32 " %" SCNu32, &hand,
		   &change.stamp, &kind, &change.name, &change.other, &change.last_bytes) != 6 ||
	    hand >= history->hands || kind > CHANGE_REMOVE || change.name >= NAMES)
		return -EUCLEAN;
	change.kind = (enum change_kind)kind;
	if (change.other > (change.kind == CHANGE_RENAME ? NAMES - 1 : CELLS_MAX))
		return -EUCLEAN;
	if (change.stamp >= history->next_stamp)
		history->next_stamp = change.stamp + 1;
	result = grow((void **)&history->changes[hand], history->counts[hand], sizeof(change));
	if (result == 0)
		history->changes[hand][history->counts[hand]++] = change;
	return result;
}

static int end_read(struct history *history, const char *line, uint64_t at)
{
	uint32_t hand;

	if (sscanf(line, "e %" SCNu32, &hand) != 1 || hand >= history->hands ||
	    history->counts[hand] == 0)
		return -EUCLEAN;
	history->changes[hand][history->counts[hand] - 1].ended = at;
	return 0;
}

static int point_read(struct history *history, const char *line, uint64_t begun, uint64_t at)
{
	struct point point = { .begun = begun, .ended = at };
	int result;

	if (line[0] == 's' &&
	    sscanf(line, "s %" SCNu64 " %" SCNu64, &point.generation, &point.wall_ns) != 2)
		return -EUCLEAN;
	result = grow((void **)&history->points, history->point_count, sizeof(point));
	if (result == 0)
		history->points[history->point_count++] = point;
	return result;
}

static int resume_read(struct history *history, const char *line)
{
	uint32_t hand;
	uint64_t count;

	if (sscanf(line, "r %" SCNu32 " %" SCNu64, &hand, &count) != 2 || hand >= history->hands ||
	    count > history->counts[hand])
		return -EUCLEAN;
	history->counts[hand] = count;
	return 0;
}

/* at: the journal's length with the line; *begun: when the point began that is under way. */
static int line_read(struct history *history, const char *line, uint64_t at, uint64_t *begun)
{
	switch (line[0]) {
	case 'h':
		return sscanf(line, "history %" SCNu64 " %" SCNu32, &history->seed,
			      &history->hands) == 2 &&
				       history->hands <= HANDS_MAX
			       ? 0
			       : -EUCLEAN;
	case 'b':
		return change_read(history, line, at);
	case 'e':
		return end_read(history, line, at);
	case 'p':
		*begun = at;
		return 0;
	case 'y':
	case 's':
		return point_read(history, line, *begun, at);
	case 'r':
		return resume_read(history, line);
	default:
		return -EUCLEAN;
	}
}

static int lines_read(FILE *file, struct history *history)
{
	CLEANUP_FREE char *line = NULL;
	size_t capacity = 0;
	uint64_t begun = 0;
	ssize_t length;
	int result = 0;

	while (result == 0 && (length = getline(&line, &capacity, file)) > 0) {
		if (line[length - 1] != '\n') /* its writer was killed */
			break;
		history->length += (uint64_t)length;
		result = line_read(history, line, history->length, &begun);
	}
	return result;
}

int history_load(const char *path, struct history *history_out)
{
	FILE *file = fopen(path, "re");
	int result;

	*history_out = (struct history){ .next_stamp = 1 };
	if (file == NULL)
		return -errno;
	result = lines_read(file, history_out);
	(void)fclose(file);
	if (result != 0)
		history_free(history_out);
	return result;
}

void history_free(struct history *history)
{
	for (uint32_t i = 0; i < HANDS_MAX; i++)
		free(history->changes[i]);
	free(history->points);
	*history = (struct history){ 0 };
}

/* Questions */

const struct point *history_newest(const struct history *history, uint64_t at)
{
	const struct point *newest = NULL;

	for (size_t i = 0; i < history->point_count; i++)
		if (history->points[i].generation != 0 && history->points[i].ended <= at)
			newest = &history->points[i];
	return newest;
}

struct span history_span(const struct history *history, uint32_t hand, uint64_t from, uint64_t to)
{
	struct span span = { 0 };

	while (span.least < history->counts[hand] &&
	       history->changes[hand][span.least].ended <= from)
		span.least++;
	while (span.most < history->counts[hand] && history->changes[hand][span.most].begun <= to)
		span.most++;
	return span;
}

/* For whoever looks for the reason: after which changes each file was as it is. */
static void explain(const struct history *history, uint32_t hand, const struct folder *seen,
		    const struct span *span)
{
	struct span alike[NAMES];
	struct folder folder = { 0 };
	unsigned int shown = 0;

	for (uint32_t i = 0; i < NAMES; i++)
		alike[i] = (struct span){ .least = UINT64_MAX };
	for (uint64_t count = 0; count <= history->counts[hand]; count++) {
		if (count > 0)
			folder_apply(&folder, &history->changes[hand][count - 1]);
		for (uint32_t i = 0; i < NAMES; i++) {
			if (file_print(i, &folder.files[i]) != file_print(i, &seen->files[i]))
				continue;
			if (alike[i].least == UINT64_MAX)
				alike[i].least = count;
			alike[i].most = count;
		}
	}
	(void)fprintf(stderr,
		      "hand %" PRIu32 ": not as after any of %" PRIu64 " to %" PRIu64
		      " changes (of %" PRIu64 ")\n",
		      hand, span->least, span->most, history->counts[hand]);
	for (uint32_t i = 0; i < NAMES && shown < EXPLAINED_MAX; i++) {
		if (alike[i].least <= span->least && alike[i].most >= span->most)
			continue;
		shown++;
		if (alike[i].least == UINT64_MAX)
			(void)fprintf(stderr, "  file %" PRIu32 ": never like this\n", i);
		else
			(void)fprintf(stderr,
				      "  file %" PRIu32 ": as after changes %" PRIu64 " to %" PRIu64
				      "\n",
				      i, alike[i].least, alike[i].most);
	}
}

bool history_find(const struct history *history, uint32_t hand, const struct folder *seen,
		  const struct span *span, struct span *found_out)
{
	struct folder folder = { 0 };
	uint64_t print = folder_print(seen);
	bool is_found = false;

	for (uint64_t count = 0; count <= span->most; count++) {
		if (count > 0)
			folder_apply(&folder, &history->changes[hand][count - 1]);
		if (count < span->least || folder.print != print)
			continue;
		if (!is_found)
			found_out->least = count;
		found_out->most = count;
		is_found = true;
	}
	if (!is_found)
		explain(history, hand, seen, span);
	return is_found;
}

bool history_is_latest(const struct history *history, uint32_t hand, const struct folder *seen,
		       const bool unreadable[NAMES])
{
	struct folder folder = { 0 };
	uint32_t lost = 0;
	bool is_latest = true;

	for (uint64_t i = 0; i < history->counts[hand]; i++)
		folder_apply(&folder, &history->changes[hand][i]);
	for (uint32_t i = 0; i < NAMES; i++) {
		lost += unreadable[i];
		if (unreadable[i] ||
		    file_print(i, &folder.files[i]) == file_print(i, &seen->files[i]))
			continue;
		(void)fprintf(stderr, "hand %" PRIu32 ": file %" PRIu32 " is another\n", hand, i);
		is_latest = false;
	}
	(void)printf("hand %" PRIu32 ": %" PRIu32 " files are damaged\n", hand, lost);
	return is_latest;
}

bool history_is_instant(const struct history *history, const struct span *found)
{
	for (uint32_t i = 0; i < history->hands; i++) {
		uint64_t last = found[i].least;
		uint64_t begun = last == 0 ? 0 : history->changes[i][last - 1].begun;

		/* What had ended when the last change of one began must be there of the others. */
		for (uint32_t j = 0; j < history->hands; j++) {
			struct span other = history_span(history, j, begun, begun);

			if (found[j].most >= other.least)
				continue;
			(void)fprintf(stderr,
				      "hand %" PRIu32 " has change %" PRIu64 ", hand %" PRIu32
				      " lacks change %" PRIu64 ", which ended before\n",
				      i, last, j, other.least);
			return false;
		}
	}
	return true;
}
