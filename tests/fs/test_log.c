/*
 * The intent log: whatever was synced by sz_fs_fsync is there after the process was killed, and only
 * that it was replayed tells the difference. On devices in memory, which the processes share.
 *
 * The tree is written down before the kill and after the next opening (tree_write), and compared.
 */
#include "engine/pools.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#define MIB          ((uint64_t)1 << 20)
#define TEXT_BYTES   ((size_t)4 << 20)
#define CONTENT_MAX  (3 * MIB)
#define SYNCED_MAX   4096U /* files of the other thread */
#define SYNCED_BYTES 40000U

/* Of libzpool: seconds after which a transaction group is synced by itself. */
extern unsigned int zfs_txg_timeout;

struct shared {
	char text[TEXT_BYTES]; /* the tree as it was synced */
	atomic_bool is_ready;
	atomic_uint synced; /* files of the other thread that are synced, from 0 on */
	atomic_uint seed;
};
static struct shared *shared;

static struct opened opened;
static uint64_t root;
static uint8_t content[CONTENT_MAX];

struct text {
	char *to;
	size_t used;
};

static void __attribute__((format(printf, 2, 3)))
text_add(struct text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text->to + text->used, TEXT_BYTES - text->used, format, arguments);
	va_end(arguments);
	NEED(length >= 0 && (size_t)length < TEXT_BYTES - text->used);
	text->used += (size_t)length;
}

static uint64_t hash_of(const uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325U;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3U;
	return hash;
}

static void file_describe(struct text *text, uint64_t object, uint64_t size)
{
	static uint8_t buffer[MIB];
	size_t done = 0;

	for (uint64_t at = 0; at < size; at += done) {
		NEED(sz_fs_read(opened.fs, object, buffer, sizeof(buffer), at, &done) == 0);
		NEED(done > 0);
		text_add(text, " %016" PRIx64, hash_of(buffer, done));
	}
}

static void xattrs_describe(struct text *text, uint64_t object)
{
	static uint8_t value[65536];
	char names[4096];
	size_t size;

	NEED(sz_fs_listxattr(opened.fs, object, names, sizeof(names), &size) == 0);
	for (const char *name = names; name < names + size; name += strlen(name) + 1) {
		size_t length;

		NEED(sz_fs_getxattr(opened.fs, object, name, value, sizeof(value), &length) == 0);
		text_add(text, " %s=%zu:%016" PRIx64, name, length, hash_of(value, length));
	}
}

static void inode_describe(struct text *text, const char *name, uint64_t object)
{
	char target[5000];
	struct stat stat;

	NEED(sz_fs_getattr(opened.fs, object, &stat) == 0);
	text_add(text, "%s %lu %o %u:%u %ld links %lu rdev %lu", name, object, stat.st_mode,
		 stat.st_uid, stat.st_gid, stat.st_size, stat.st_nlink, stat.st_rdev);
	if (S_ISREG(stat.st_mode))
		file_describe(text, object, (uint64_t)stat.st_size);
	if (S_ISLNK(stat.st_mode)) {
		NEED(sz_fs_readlink(opened.fs, object, target, sizeof(target)) == 0);
		text_add(text, " -> %s", target);
	}
	/* Set by somebody, not by what was done. */
	if (stat.st_mtim.tv_sec < 1500000000)
		text_add(text, " mtime %ld.%09ld", stat.st_mtim.tv_sec, stat.st_mtim.tv_nsec);
	xattrs_describe(text, object);
	text_add(text, "\n");
}

#define ENTRIES_MAX 1000U
struct entries {
	struct entry {
		char name[64];
		uint64_t object;
	} all[ENTRIES_MAX];
	size_t count;
};

static int entries_compare(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int entry_note(void *context, const char *name, uint64_t number, uint32_t type,
		      uint64_t next_cookie)
{
	struct entries *entries = context;

	(void)type;
	(void)next_cookie;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "noise") == 0)
		return 0;
	NEED(entries->count < ENTRIES_MAX);
	entries->all[entries->count].object = number;
	(void)snprintf(entries->all[entries->count++].name, sizeof(entries->all[0].name), "%s",
		       name);
	return 0;
}

static void folder_describe(struct text *text, uint64_t folder, unsigned int depth)
{
	struct entries *entries = calloc(1, sizeof(*entries));

	NEED(entries != NULL && depth < 10);
	NEED(sz_fs_readdir(opened.fs, folder, 0, entry_note, entries) == 0);
	/* The order in a folder is by chance. */
	qsort(entries->all, entries->count, sizeof(entries->all[0]), entries_compare);
	for (size_t i = 0; i < entries->count; i++) {
		uint64_t object = entries->all[i].object;
		struct stat stat;

		inode_describe(text, entries->all[i].name, object);
		NEED(sz_fs_getattr(opened.fs, object, &stat) == 0);
		if (S_ISDIR(stat.st_mode)) {
			folder_describe(text, object, depth + 1);
			text_add(text, "..\n");
		}
	}
	free(entries);
}

static void tree_write(char *to)
{
	struct text text = { .to = to };

	inode_describe(&text, "/", root);
	folder_describe(&text, root, 0);
}

static void tree_compare(void)
{
	char *text = malloc(TEXT_BYTES);
	const char *got = text;
	const char *want = shared->text;

	NEED(text != NULL);
	tree_write(text);
	while (*got != '\0' && *got == *want) {
		got++;
		want++;
	}
	if (*got != *want) {
		while (got > text && got[-1] != '\n') {
			got--;
			want--;
		}
		(void)fprintf(stderr, "seed %u: got:  %.300s\nwant: %.300s\n", shared->seed, got,
			      want);
		_exit(1);
	}
	free(text);
}

static uint64_t make(uint64_t parent, const char *name, uint32_t mode)
{
	const struct sz_fs_new new = { .mode = mode, .uid = 1, .gid = 2, .rdev = makedev(8, 300) };
	uint64_t object;

	if ((mode & S_IFMT) == S_IFDIR)
		NEED(sz_fs_mkdir(opened.fs, parent, name, &new, &object) == 0);
	else
		NEED(sz_fs_create(opened.fs, parent, name, &new, &object) == 0);
	return object;
}

static uint64_t find(uint64_t parent, const char *name)
{
	uint64_t object;

	NEED(sz_fs_lookup(opened.fs, parent, name, &object) == 0);
	return object;
}

static void write_at(uint64_t object, size_t length, uint64_t offset)
{
	NEED(sz_fs_write(opened.fs, object, content + length % 1000, length, offset) == 0);
}

static void sync_all(void)
{
	NEED(sz_fs_fsync(opened.fs, 0) == 0);
}

/* Only what is done from here on is in the log, and nothing syncs it but the log. */
static void log_start(void)
{
	struct sz_error error = { 0 };

	/* The first record makes the log, and waits for that. */
	write_at(make(root, "first", S_IFREG | 0600), 2 * MIB, 0);
	sync_all();
	/* ZFS looks through a dataset that was just opened, and syncs what it noted about it. */
	sz_sleep_ms(200);
	zfs_txg_timeout = 1000;
	NEED_OK(sz_pool_sync(opened.pool, &error), &error);
}

static void open_new(void)
{
	pool_make(&opened, SZ_RAID_Z2);
	root = sz_fs_root(opened.fs);
	random_fill(content, sizeof(content), 3);
}

static void reopen(void)
{
	pool_open(&opened, false);
	root = sz_fs_root(opened.fs);
}

/* Replayed once; the second opening finds it done. */
static void is_as_synced(void)
{
	reopen();
	tree_compare();
	pool_close(&opened);
}

static void names_work(uint64_t folder)
{
	const struct sz_fs_new new = { .uid = 5, .gid = 6 };
	uint64_t sub = make(folder, "sub", S_IFDIR | 0711);
	uint64_t one = make(folder, "one", S_IFREG | 04755);
	uint64_t other;

	(void)make(folder, "device", S_IFCHR | 0600);
	(void)make(folder, "fifo", S_IFIFO | 0644);
	NEED(sz_fs_symlink(opened.fs, folder, "symlink", "some/where", &new, &other) == 0);
	NEED(sz_fs_link(opened.fs, one, sub, "two") == 0);
	(void)make(folder, "gone", S_IFREG | 0600);
	NEED(sz_fs_unlink(opened.fs, folder, "gone") == 0);
	(void)make(folder, "gone too", S_IFDIR | 0700);
	NEED(sz_fs_rmdir(opened.fs, folder, "gone too") == 0);
	(void)make(folder, "moved", S_IFREG | 0640);
	NEED(sz_fs_rename(opened.fs, folder, "moved", sub, "arrived", 0) == 0);
	(void)make(folder, "over", S_IFREG | 0641);
	(void)make(folder, "victim", S_IFREG | 0642);
	NEED(sz_fs_rename(opened.fs, folder, "over", folder, "victim", 0) == 0);
	(void)make(folder, "exchanged", S_IFREG | 0643);
	NEED(sz_fs_rename(opened.fs, folder, "exchanged", sub, "arrived", RENAME_EXCHANGE) == 0);
	(void)make(folder, "covered", S_IFREG | 0644);
	NEED(sz_fs_rename(opened.fs, folder, "covered", sub, "below", RENAME_WHITEOUT) == 0);
	other = find(folder, "covered");
	NEED(sz_fs_getattr(opened.fs, other, &(struct stat){ 0 }) == 0);
}

/* Writes that are copied, that go to their place, that make blocks grow, beyond holes. */
static void content_work(uint64_t folder)
{
	const struct stat shorter = { .st_size = 3000 };
	const struct stat longer = { .st_size = 500000 };
	uint64_t copied;
	uint64_t file = make(folder, "small", S_IFREG | 0600);

	for (uint64_t at = 0; at < 20000; at += 1000)
		write_at(file, 999, at);
	file = make(folder, "large", S_IFREG | 0600);
	write_at(file, 2 * MIB + 77, 0);
	write_at(file, 100000, 5 * MIB + 1);
	file = make(folder, "pieces", S_IFREG | 0600);
	for (uint64_t at = 0; at < 2 * MIB; at += 65536)
		write_at(file, 65536, at);
	file = make(folder, "cut", S_IFREG | 0600);
	write_at(file, MIB, 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &shorter) == 0);
	NEED(sz_fs_setattr(opened.fs, file, SZ_SET_SIZE, &longer) == 0);
	file = make(folder, "punched", S_IFREG | 0600);
	write_at(file, 3 * MIB - 1000, 0);
	NEED(sz_fs_punch(opened.fs, file, 5000, MIB) == 0);
	file = make(folder, "clone", S_IFREG | 0600);
	NEED(sz_fs_copy_range(opened.fs, find(root, "first"), 0, file, 0, 2 * MIB, &copied) == 0);
	NEED(copied == 2 * MIB);
	write_at(file, 100, MIB + 5);
	/* A file that is gone when its writes are asked for, and another that has its number. */
	file = make(folder, "written and gone", S_IFREG | 0600);
	write_at(file, 100000, 0);
	NEED(sz_fs_unlink(opened.fs, folder, "written and gone") == 0);
	file = make(folder, "again", S_IFREG | 0600);
	write_at(file, 10, 0);
}

static void attributes_work(uint64_t folder)
{
	static const uint8_t acl[] = { 2,   0,   0,   0,   1,   0,   7,  0,   255, 255, 255,
				       255, 2,   0,   5,   0,   7,   0,  0,   0,   4,   0,
				       5,   0,   255, 255, 255, 255, 16, 0,   5,   0,   255,
				       255, 255, 255, 32,  0,   0,   0,  255, 255, 255, 255 };
	const struct stat values = { .st_mode = 0751,
				     .st_uid = 77,
				     .st_gid = 88,
				     .st_atim = { 1111111111, 5 },
				     .st_mtim = { 1222222222, 6 } };
	const struct sz_fs_new inheriting = { .mode = S_IFREG | 0666, .inherits = true };
	uint64_t file = make(folder, "attributes", S_IFREG | 0600);
	uint64_t with_acl = make(folder, "acl", S_IFDIR | 0700);
	uint64_t child;

	NEED(sz_fs_setattr(opened.fs, file,
			   SZ_SET_MODE | SZ_SET_UID | SZ_SET_GID | SZ_SET_ATIME | SZ_SET_MTIME,
			   &values) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.a", "value", 5, 0) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.b", content, 20000, 0) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.c", "x", 1, 0) == 0);
	NEED(sz_fs_removexattr(opened.fs, file, "user.c") == 0);
	NEED(sz_fs_setxattr(opened.fs, with_acl, "system.posix_acl_access", acl, sizeof(acl), 0) ==
	     0);
	NEED(sz_fs_setxattr(opened.fs, with_acl, "system.posix_acl_default", acl, sizeof(acl), 0) ==
	     0);
	NEED(sz_fs_create(opened.fs, with_acl, "child", &inheriting, &child) == 0);
	NEED(sz_fs_setattr(opened.fs, with_acl, SZ_SET_MODE, &values) == 0);
}

/* What has no record: a commit waits for the transaction group, and what follows builds on it. */
static void barriers_work(uint64_t folder)
{
	const struct sz_fs_new new = { .mode = S_IFREG | 0620 };
	uint64_t file = make(folder, "barriers", S_IFREG | 0600);
	uint64_t unnamed;

	NEED(sz_fs_create_unnamed(opened.fs, folder, &new, NULL, &unnamed) == 0);
	write_at(unnamed, 70000, 0);
	NEED(sz_fs_link(opened.fs, unnamed, folder, "named") == 0);
	sz_fs_release(opened.fs, unnamed, 1);
	NEED(sz_fs_rename(opened.fs, folder, "named", folder, "renamed", 0) == 0);
	write_at(unnamed, 50, 10);
	NEED(sz_fs_link_over(opened.fs, file, folder, "renamed") == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.empty", "", 0, 0) == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.large", content, 60000, 0) == 0);
	NEED(sz_fs_removexattr(opened.fs, file, "user.empty") == 0);
	NEED(sz_fs_setxattr(opened.fs, file, "user.small", "s", 1, 0) == 0);
}

static void work_and_die(void)
{
	open_new();
	log_start();
	names_work(make(root, "names", S_IFDIR | 0755));
	content_work(make(root, "content", S_IFDIR | 0755));
	attributes_work(make(root, "attributes", S_IFDIR | 0755));
	sync_all();
	tree_write(shared->text);
	/* Not synced: none of it has to be there, and it must not stand in the way. */
	(void)make(root, "noise", S_IFREG | 0600);
}

static void barriers_and_die(void)
{
	open_new();
	log_start();
	barriers_work(make(root, "barriers", S_IFDIR | 0755));
	sync_all();
	tree_write(shared->text);
}

/* What is synced is one file; of another the name is there. */
static void one_and_die(void)
{
	uint64_t file;
	uint64_t other;

	open_new();
	log_start();
	file = make(root, "synced", S_IFREG | 0600);
	other = make(root, "other", S_IFREG | 0600);
	write_at(other, 100000, 0);
	write_at(file, 100000, 0);
	NEED(sz_fs_fsync(opened.fs, file) == 0);
}

static void one_is_there(void)
{
	static uint8_t read[100000];
	struct stat stat;
	size_t done;

	reopen();
	random_fill(content, sizeof(content), 3);
	NEED(sz_fs_read(opened.fs, find(root, "synced"), read, sizeof(read), 0, &done) == 0);
	NEED(done == sizeof(read) && memcmp(read, content, sizeof(read)) == 0);
	NEED(sz_fs_getattr(opened.fs, find(root, "other"), &stat) == 0 && stat.st_size == 0);
	pool_close(&opened);
}

static void is_refused_read_only(void)
{
	struct sz_error error = { 0 };

	NEED_OK(pool_import(&opened, true, &error), &error);
	NEED(sz_fs_open(opened.pool, NULL, true, &opened.fs, &error) == -EBUSY);
	NEED(strstr(error.text, "intent log") != NULL);
	NEED_OK(sz_pool_export(opened.pool, &error), &error);
}

static void opens_read_only(void)
{
	pool_open(&opened, true);
	root = sz_fs_root(opened.fs);
	tree_compare();
	pool_close(&opened);
}

static void test_every_operation(void **state)
{
	(void)state;
	step(work_and_die);
	zdb_check("-ivv szpool",
		  "TX_CREATE TX_MKDIR TX_SYMLINK TX_REMOVE TX_RMDIR TX_LINK TX_RENAME "
		  "TX_RENAME_EXCHANGE TX_RENAME_WHITEOUT TX_WRITE TX_TRUNCATE TX_SETATTR "
		  "TX_SETSAXATTR TX_CLONE_RANGE");
	step(is_refused_read_only);
	step(is_as_synced);
	step(opens_read_only);
	step(is_as_synced);
	zdb_check("-bcc szpool", "No.leaks");
}

static void test_barriers(void **state)
{
	(void)state;
	step(barriers_and_die);
	step(is_as_synced);
	zdb_check("-bcc szpool", "No.leaks");
}

static void test_one_file(void **state)
{
	(void)state;
	step(one_and_die);
	step(one_is_there);
}

/* Ends the process while the log is being replayed. */
static void *end_soon(void *context)
{
	sz_sleep_ms(*(const unsigned int *)context);
	(void)kill(getpid(), SIGKILL);
	return NULL;
}

static unsigned int delay_ms;

static void reopen_and_die(void)
{
	struct sz_error error = { 0 };
	pthread_t thread;

	NEED_OK(pool_import(&opened, false, &error), &error);
	zfs_txg_timeout = 1;
	NEED(pthread_create(&thread, NULL, end_soon, &delay_ms) == 0);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	(void)pthread_join(thread, NULL);
}

static void step_killed(void (*function)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		function();
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_killed_replays(void **state)
{
	(void)state;
	step(work_and_die);
	for (delay_ms = 0; delay_ms < 40; delay_ms += 15)
		step_killed(reopen_and_die);
	step(is_as_synced);
	zdb_check("-bcc szpool", "No.leaks");
}

/* Random work, the same for the same seed. */
static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % limit;
}

/* Any of them may fail, as the name is there or not. */
static void random_work(uint64_t folders[3])
{
	const struct sz_fs_new new = { .mode = S_IFREG | random_below(01000), .uid = 3 };
	struct stat values = { .st_size = random_below(200000), .st_mode = random_below(01000) };
	uint64_t folder = folders[random_below(3)];
	uint64_t other = folders[random_below(3)];
	char name[16];
	char to[16];
	uint64_t object = 0;

	(void)snprintf(name, sizeof(name), "f%u", random_below(12));
	(void)snprintf(to, sizeof(to), "f%u", random_below(12));
	if (sz_fs_lookup(opened.fs, folder, name, &object) != 0) {
		if (random_below(4) == 0)
			(void)!sz_fs_symlink(opened.fs, folder, name, "target", &new, &object);
		else
			(void)!sz_fs_create(opened.fs, folder, name, &new, &object);
		return;
	}
	switch (random_below(9)) {
	case 0:
		(void)!sz_fs_unlink(opened.fs, folder, name);
		break;
	case 1:
		(void)!sz_fs_rename(opened.fs, folder, name, other, to,
				    random_below(3) == 0 ? RENAME_EXCHANGE : 0);
		break;
	case 2:
		(void)!sz_fs_link(opened.fs, object, other, to);
		break;
	case 3:
		(void)!sz_fs_setattr(opened.fs, object, random_below(1 << 4), &values);
		break;
	case 4:
		(void)!sz_fs_setxattr(opened.fs, object, "user.x", content, random_below(3000), 0);
		break;
	case 5:
		(void)!sz_fs_punch(opened.fs, object, random_below(100000), random_below(50000));
		break;
	case 6:
		(void)!sz_fs_fsync(opened.fs, object);
		break;
	default:
		(void)!sz_fs_write(opened.fs, object, content + random_below(1000),
				   random_below(random_below(4) == 0 ? 1500000 : 20000),
				   random_below(100000));
		break;
	}
}

/* Another thread: files of its own, each synced, and noted as that. */
static void *noise(void *context)
{
	uint64_t folder = *(const uint64_t *)context;
	struct sz_error error = { 0 };

	for (unsigned int i = shared->synced; i < SYNCED_MAX; i++) {
		char name[16];
		uint64_t file;

		(void)snprintf(name, sizeof(name), "%u", i);
		if (sz_fs_lookup(opened.fs, folder, name, &file) != 0)
			file = make(folder, name, S_IFREG | 0644);
		NEED(sz_fs_write(opened.fs, file, content + i, i % SYNCED_BYTES + 1, 0) == 0);
		NEED(sz_fs_fsync(opened.fs, file) == 0);
		shared->synced = i + 1;
		if (i % 50 == 49)
			NEED_OK(sz_pool_sync(opened.pool, &error), &error);
	}
	return NULL;
}

static void noise_check(void)
{
	static uint8_t read[SYNCED_BYTES];
	uint64_t folder = find(root, "noise");

	for (unsigned int i = 0; i < shared->synced; i++) {
		size_t size = i % SYNCED_BYTES + 1;
		char name[16];
		size_t done;

		(void)snprintf(name, sizeof(name), "%u", i);
		NEED(sz_fs_read(opened.fs, find(folder, name), read, size, 0, &done) == 0);
		NEED(done == size && memcmp(read, content + i, size) == 0);
	}
}

static void random_start(void)
{
	open_new();
	(void)make(root, "a", S_IFDIR | 0755);
	(void)make(find(root, "a"), "b", S_IFDIR | 0755);
	(void)make(root, "noise", S_IFDIR | 0755);
	tree_write(shared->text);
	pool_close(&opened);
}

static void random_until_killed(void)
{
	uint64_t noise_folder;
	uint64_t folders[3];
	pthread_t thread;

	random_fill(content, sizeof(content), 3);
	reopen();
	tree_compare();
	noise_check();
	folders[0] = root;
	folders[1] = find(root, "a");
	folders[2] = find(folders[1], "b");
	noise_folder = find(root, "noise");
	random_state = 0x9e3779b97f4a7c15U * (shared->seed + 1);
	NEED(pthread_create(&thread, NULL, noise, &noise_folder) == 0);
	for (unsigned int i = 0; i < 40; i++)
		random_work(folders);
	sync_all();
	tree_write(shared->text);
	shared->is_ready = true;
	(void)pause();
}

static void round_run(unsigned int wait_ms)
{
	int status;
	pid_t child;

	shared->is_ready = false;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)alarm(STEP_SECONDS);
		random_until_killed();
	}
	while (!shared->is_ready) {
		assert_int_equal(waitpid(child, &status, WNOHANG), 0);
		sz_sleep_ms(1);
	}
	sz_sleep_ms(wait_ms);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void random_end(void)
{
	random_fill(content, sizeof(content), 3);
	reopen();
	tree_compare();
	noise_check();
	pool_close(&opened);
}

static void test_kills(void **state)
{
	const char *seed = getenv("SZ_SEED");
	const char *scale = getenv("SZ_TEST_SCALE");
	unsigned int rounds = 4 * (scale == NULL ? 1 : (unsigned int)atoi(scale));

	(void)state;
	shared->seed = seed != NULL ? (unsigned int)atoi(seed) : (unsigned int)time(NULL);
	shared->synced = 0;
	(void)fprintf(stderr, "SZ_SEED=%u\n", shared->seed);
	step(random_start);
	for (unsigned int i = 0; i < rounds; i++) {
		round_run(shared->seed % 40);
		shared->seed++;
	}
	step(random_end);
	zdb_check("-bcc szpool", "No.leaks");
}

static void make_with_sync(const char *value)
{
	const struct sz_property property = { "sync", value };
	struct sz_error error = { 0 };

	NEED_OK(sz_engine_start(0, &error), &error);
	NEED_OK(sz_pool_create(devices, SZ_RAID_Z2, &property, 1, &opened.pool, &error), &error);
	NEED_OK(sz_fs_format(opened.pool, NULL, 0, 0, &error), &error);
	NEED_OK(sz_fs_open(opened.pool, NULL, false, &opened.fs, &error), &error);
	root = sz_fs_root(opened.fs);
	random_fill(content, sizeof(content), 3);
	log_start();
}

static void always_and_die(void)
{
	make_with_sync("always");
	names_work(root);
	content_work(root);
	attributes_work(root);
	barriers_work(root);
	tree_write(shared->text);
}

static void disabled_and_die(void)
{
	make_with_sync("disabled");
	tree_write(shared->text);
	names_work(root);
	content_work(root);
	sync_all();
}

static void test_sync_property(void **state)
{
	(void)state;
	step(always_and_die);
	step(is_as_synced);
	for (uint32_t i = 0; i < SCRIPTED_DEVICES; i++)
		scripted_clear(&devices->devices[i]);
	step(disabled_and_die);
	step(is_as_synced);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, devices_setup, devices_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_every_operation), CASE(test_barriers), CASE(test_one_file),
		CASE(test_killed_replays),  CASE(test_kills),    CASE(test_sync_property),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
