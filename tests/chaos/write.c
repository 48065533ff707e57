/*
 * Changes a pool as fast as it may, seals and compacts it meanwhile, and keeps a journal of all that:
 *
 *   chaos-write STORE JOURNAL [RATE-MIB [PAUSE-MS [SPEED [SEED]]]]
 *
 * until SIGTERM (seals, closes) or SIGKILL. If there is a journal already, the store's content is
 * compared with it first: all that was synced has to be there. RATE bounds what each hand writes in a
 * second, PAUSE the time between two seals. SPEED: the store's clock runs so many times as fast, so that
 * generations grow old and go while a copy is made.
 */
#include "opened.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define HANDS          3U
#define PUT_CELLS_MAX  12U
#define TRIM_CHANCE    12U
#define COMPACT_CHANCE 10U
#define SYNC_CHANCE    4U
#define HISTORY_BYTES  (100ULL << 30)

struct writer {
	struct opened opened;
	const char *journal_path;
	int journal;
	uint64_t seed;
	uint64_t rate_bytes;
	uint64_t pause_ms;
	_Atomic uint64_t next_stamp;
	_Atomic bool is_ending;
};

struct hand {
	struct writer *writer;
	uint32_t number;
	uint64_t chance;
	struct folder folder;
	uint8_t *cell;
	uint64_t written_bytes; /* since started_ns */
	uint64_t started_ns;
};

static void pause_ns(uint64_t ns)
{
	const struct timespec time = { .tv_sec = (time_t)(ns / 1000000000),
				       .tv_nsec = (long)(ns % 1000000000) };

	(void)nanosleep(&time, NULL);
}

static void must(int result, const char *what)
{
	if (result != 0)
		die("%s: %s", what, strerror(-result));
}

/* The linker puts this in the place of the clock by which generations age. */
static uint64_t speed = 1;
uint64_t __real_sz_boot_ns(void);
uint64_t __wrap_sz_boot_ns(void);
uint64_t __wrap_sz_boot_ns(void)
{
	return __real_sz_boot_ns() * speed;
}

/* Changes */

static void cell_write(struct hand *hand, uint64_t inode, const struct file *file, uint32_t cell)
{
	uint64_t length = cell + 1 == file->cells ? file->last_bytes : CELL_BYTES;

	cell_fill(hand->writer->seed, hand->number, file->id, cell, file->stamps[cell], hand->cell);
	must(sz_fs_write(hand->writer->opened.fs, inode, hand->cell, length, cell * CELL_BYTES),
	     "write");
	hand->written_bytes += length;
}

/* The file gets its name when all of it is there: a reader sees the old one, or the new one. */
static void put(struct hand *hand, uint64_t parent, const char *name, const struct file *file)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0644 };
	struct sz_fs *fs = hand->writer->opened.fs;
	uint64_t inode;

	must(sz_fs_create_unnamed(fs, parent, &new, NULL, &inode), "create");
	for (uint32_t i = 0; i < file->cells; i++)
		cell_write(hand, inode, file, i);
	must(sz_fs_link_over(fs, inode, parent, name), "link");
	sz_fs_release(fs, inode, 1);
}

static void change_do(struct hand *hand, const struct change *change)
{
	struct sz_fs *fs = hand->writer->opened.fs;
	uint64_t parent = hand->writer->opened.folders[hand->number];
	const struct file *file;
	char name[NAME_BYTES];
	char other[NAME_BYTES];
	uint64_t inode;

	name_of(change->name, name);
	name_of(change->other, other);
	folder_apply(&hand->folder, change);
	file = &hand->folder.files[change->name];
	switch (change->kind) {
	case CHANGE_PUT:
		put(hand, parent, name, file);
		break;
	case CHANGE_PATCH:
		must(sz_fs_lookup(fs, parent, name, &inode), "lookup");
		cell_write(hand, inode, file, change->other);
		break;
	case CHANGE_RENAME:
		must(sz_fs_rename(fs, parent, name, parent, other, 0), "rename");
		break;
	case CHANGE_REMOVE:
		must(sz_fs_unlink(fs, parent, name), "unlink");
		break;
	}
}

static struct change change_choose(struct hand *hand)
{
	struct change change = { .name = (uint32_t)chance_below(&hand->chance, NAMES),
				 .stamp = hand->writer->next_stamp++ };
	const struct file *file = &hand->folder.files[change.name];
	uint64_t kind = chance_below(&hand->chance, 100);

	if (file->id == 0 || kind < 20) {
		/* Many small files, some of a few megabytes. */
		uint64_t most = chance_below(&hand->chance, 4) == 0 ? PUT_CELLS_MAX : 1;

		change.kind = CHANGE_PUT;
		change.other = 1 + (uint32_t)chance_below(&hand->chance, most);
		change.last_bytes =
			CELL_HEAD_BYTES +
			(uint32_t)chance_below(&hand->chance, CELL_BYTES - CELL_HEAD_BYTES + 1);
	} else if (kind < 75) {
		change.kind = CHANGE_PATCH;
		change.other = (uint32_t)chance_below(&hand->chance, file->cells);
	} else if (kind < 88) {
		change.kind = CHANGE_REMOVE;
	} else {
		change.kind = CHANGE_RENAME;
		change.other =
			(change.name + 1 + (uint32_t)chance_below(&hand->chance, NAMES - 1)) %
			NAMES;
	}
	return change;
}

static void *hand_work(void *context)
{
	struct hand *hand = context;
	struct writer *writer = hand->writer;

	hand->started_ns = sz_clock_ns();
	while (!writer->is_ending) {
		struct change change = change_choose(hand);
		uint64_t due_ns;
		uint64_t now_ns;

		journal_begin(writer->journal, hand->number, &change);
		change_do(hand, &change);
		journal_end(writer->journal, hand->number);
		due_ns = hand->started_ns +
			 hand->written_bytes * 1000 / (writer->rate_bytes / 1000000 + 1);
		now_ns = sz_clock_ns();
		if (due_ns > now_ns)
			pause_ns(due_ns - now_ns);
	}
	return NULL;
}

/* Seals */

static void seal(struct writer *writer, bool with_compaction, uint64_t *generation)
{
	struct sz_error error = { 0 };
	struct sz_store_info info;

	journal_point_begin(writer->journal);
	must(sz_pool_sync(writer->opened.pool, &error), error.text);
	must(with_compaction ? sz_store_compact(writer->opened.store, &error)
			     : sz_store_seal(writer->opened.store, &error),
	     error.text);
	sz_store_info(writer->opened.store, &info);
	if (info.generation != *generation)
		journal_sealed(writer->journal, info.generation, info.sealed_wall_ns);
	*generation = info.generation;
}

static void sync_only(struct writer *writer)
{
	struct sz_error error = { 0 };

	journal_point_begin(writer->journal);
	must(sz_pool_sync(writer->opened.pool, &error), error.text);
	journal_synced(writer->journal);
}

static void *sealer_work(void *context)
{
	struct writer *writer = context;
	uint64_t state = writer->seed ^ sz_clock_ns();
	uint64_t generation = 0;

	while (!writer->is_ending) {
		struct sz_error error = { 0 };

		if (chance_below(&state, SYNC_CHANCE) == 0)
			sync_only(writer);
		else
			seal(writer, chance_below(&state, COMPACT_CHANCE) == 0, &generation);
		if (chance_below(&state, TRIM_CHANCE) == 0)
			must(sz_pool_trim(writer->opened.pool, NULL, NULL, &error), error.text);
		pause_ns(1000000 * chance_below(&state, writer->pause_ms + 1));
	}
	seal(writer, false, &generation);
	return NULL;
}

/* Beginnings */

/* What a crash left: all that was synced, and nothing that was not written. */
static void resume(struct writer *writer, struct hand *hands)
{
	struct history history;
	struct span found[HANDS_MAX];
	uint64_t synced = 0;

	must(history_load(writer->journal_path, &history), "the journal");
	writer->seed = history.seed;
	writer->next_stamp = history.next_stamp;
	folders_find(&writer->opened, HANDS);
	if (history.point_count > 0)
		synced = history.points[history.point_count - 1].begun;
	for (uint32_t i = 0; i < HANDS; i++) {
		struct span span = history_span(&history, i, synced, UINT64_MAX);

		if (writer->opened.folders[i] == NO_FOLDER ||
		    !folder_read(&writer->opened, history.seed, i, &hands[i].folder, NULL) ||
		    !history_find(&history, i, &hands[i].folder, &span, &found[i]))
			die("the store does not hold what it held before");
		hands[i].folder.print = folder_print(&hands[i].folder);
		journal_resume(writer->journal, i, found[i].least);
	}
	if (!history_is_instant(&history, found))
		die("the store is of no point in time");
	history_free(&history);
}

static void begin(struct writer *writer, const char *store, struct hand *hands)
{
	const struct sz_store_open options = { .path = store };
	const struct sz_keep_policy keep = { .budget_bytes = HISTORY_BYTES };
	struct sz_store_info created;
	struct sz_store_info info;
	struct sz_error error = { 0 };

	if (store_open(&options, &writer->opened.store, &error) != 0)
		die("the store does not open: %s", error.text);
	/* What copies need is kept by the ladder alone: so much is written that a budget would not last. */
	must(sz_store_set_keep_policy(writer->opened.store, &keep, &error), error.text);
	if (pool_open(&writer->opened, false, &error) != 0)
		die("the pool does not open: %s", error.text);
	if (journal_open(writer->journal_path, &writer->journal) == 0) {
		resume(writer, hands);
		return;
	}
	sz_store_info(writer->opened.store, &created);
	folders_make(&writer->opened, HANDS);
	sz_store_info(writer->opened.store, &info);
	must(journal_create(writer->journal_path, writer->seed, HANDS, &writer->journal),
	     writer->journal_path);
	/* A copy may go back to these. */
	journal_point_begin(writer->journal);
	journal_sealed(writer->journal, created.generation, created.sealed_wall_ns);
	journal_point_begin(writer->journal);
	journal_sealed(writer->journal, info.generation, info.sealed_wall_ns);
}

static uint64_t argument(int count, char **arguments, int at, uint64_t otherwise)
{
	return at < count ? strtoull(arguments[at], NULL, 10) : otherwise;
}

int main(int count, char **arguments)
{
	static struct writer writer = { .next_stamp = 1 };
	static struct hand hands[HANDS];
	pthread_t threads[HANDS + 1];
	sigset_t end;
	int signal_number;

	if (count < 3)
		die("usage: chaos-write STORE JOURNAL [RATE-MIB [PAUSE-MS [SPEED [SEED]]]]");
	writer.journal_path = arguments[2];
	writer.rate_bytes = argument(count, arguments, 3, 1000) << 20;
	writer.pause_ms = argument(count, arguments, 4, 0);
	speed = argument(count, arguments, 5, 1);
	writer.seed = argument(count, arguments, 6, sz_clock_ns());
	(void)sigemptyset(&end);
	(void)sigaddset(&end, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, &end, NULL);
	begin(&writer, arguments[1], hands);
	for (uint32_t i = 0; i < HANDS; i++) {
		hands[i].writer = &writer;
		hands[i].number = i;
		hands[i].chance = writer.seed + writer.next_stamp + i;
		hands[i].cell = malloc(CELL_BYTES);
		must(hands[i].cell == NULL ? -ENOMEM : 0, "cell");
		must(-pthread_create(&threads[i], NULL, hand_work, &hands[i]), "thread");
	}
	must(-pthread_create(&threads[HANDS], NULL, sealer_work, &writer), "thread");
	(void)sigwait(&end, &signal_number);
	writer.is_ending = true;
	for (uint32_t i = 0; i <= HANDS; i++)
		(void)pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < HANDS; i++)
		free(hands[i].cell);
	opened_close(&writer.opened);
	return 0;
}
