/*
 * cli: the program. This header is what its files share; nothing includes it from outside.
 *
 * One command is one invocation: options and operands in, a result (0 or -errno) and an error text
 * out. main.c has the table of the commands and of the exit codes, options.c that of the options.
 */
#ifndef SZ_CLI_CLI_H
#define SZ_CLI_CLI_H

#include <bsd/sys/tree.h>
#include <stdatomic.h>
#include <stdio.h>

#include "fs/fs.h"
#include "fuse/fuse.h"
#include "nbd/nbd.h"
#include "volume/volume.h"

/* Published in szpool(1); their meanings stand in main.c. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_ERROR = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_A_STORE = 3,
	EXIT_PASSPHRASE = 4,
	EXIT_BUSY = 5,
	EXIT_DAMAGED = 6,
	EXIT_NO_SPACE = 7,
	EXIT_CHOICE = 8,
	EXIT_SIGNAL = 128, /* and the signal's number */
};

/* Indices into the option table; a command's options are a set of bits 1 << OPTION_… */
enum option_id {
	OPTION_HELP,
	OPTION_QUIET,
	OPTION_JSON,
	OPTION_MEMORY,
	OPTION_DEVICE_DIR,
	OPTION_PASSPHRASE_FILE,
	OPTION_PASSPHRASE_COMMAND,
	OPTION_NEW_PASSPHRASE_FILE,
	OPTION_NEW_PASSPHRASE_COMMAND,
	OPTION_GENERATE_PASSPHRASE,
	OPTION_KDF,
	OPTION_DEVICES,
	OPTION_RAID,
	OPTION_SIZE,
	OPTION_BAND_SIZE,
	OPTION_PROPERTY,
	OPTION_RAW,
	OPTION_LONG,
	OPTION_RECURSIVE,
	OPTION_FORCE,
	OPTION_DRY_RUN,
	OPTION_YES,
	OPTION_PARENTS,
	OPTION_STOP,
	OPTION_CHECK,
	OPTION_FOREGROUND,
	OPTION_GENERATION,
	OPTION_SNAPSHOT,
	OPTION_DATASET,
	OPTION_DESTROY_NEWER,
	OPTION_CHOOSE,
	OPTION_SEAL_INTERVAL,
	OPTION_READ_ONLY,
	OPTION_ALLOW_OTHER,
	OPTION_MOUNT_OPTIONS,
	OPTION_LAST,
	OPTION_HOURLY,
	OPTION_DAILY,
	OPTION_WEEKLY,
	OPTION_MONTHLY,
	OPTION_BUDGET,
	OPTION_DROP_HISTORY,
	OPTION_SOCKET,
	OPTION_LISTEN,
	OPTION_TLS_CERTIFICATES,
	OPTION_TLS_PSK,
	OPTION_TLS_VERIFY_PEER,
	OPTION_LIST,
	OPTION_VOLUME_SIZE,
	OPTION_BLOCK_SIZE,
	OPTION_SPARSE,
	OPTION_COUNT,
};

struct options {
	uint64_t given; /* bits 1 << OPTION_… */
	uint64_t memory_bytes;
	uint64_t size_bytes;
	uint64_t band_bytes;
	uint64_t volume_bytes;
	uint64_t block_bytes;       /* of a volume */
	uint64_t seal_interval_s;   /* 0: never */
	struct sz_keep_policy keep; /* what is not given is 0 */
	uint32_t devices;
	enum sz_raid raid;
	enum sz_kdf kdf;
	bool recover; /* by the command, not by an option */
	const char *generation;
	const char *snapshot;
	const char *dataset; /* NULL: the root dataset */
	const char *choose;
	const char *socket;
	const char *listen; /* HOST:PORT */
	const char *tls_certificates;
	const char *tls_psk;
	const char *passphrase_file;
	const char *passphrase_command;
	const char *new_passphrase_file;
	const char *new_passphrase_command;
	const char *device_dirs[SZ_DEVICES_MAX + 1]; /* up to the first NULL */
	size_t device_dir_count;
	struct sz_bytes mount_flags; /* text: those of -o that are the kernel's, "noatime,noexec" */
	struct sz_property *properties; /* the texts are argv's */
	size_t property_count;
};

struct invocation {
	struct options options;
	char **operands; /* after the command's name; modifiable */
	int count;
	bool is_usage_error;
	int exit_code; /* where the result is 0: that of another process, which has told the error */
	bool store_is_open; /* errors that mean something else before and after are told apart by it */
	struct sz_error error;
};

struct command {
	const char *name;
	const char *operands; /* for the usage line */
	const char *summary;
	int least; /* operands */
	int most;  /* -1: any number */
	uint64_t options;
	int (*run)(struct invocation *);
	bool is_served; /* operand 0 is a store: if a process has it open, the command runs there */
};
const struct command *command_at(size_t index); /* NULL at the end */
const struct command *command_find(const char *name);

/* A whole command line; messages go to the console. Returns the exit code. */
int command_line_run(int argc, char **argv);

struct exit_meaning {
	int code;
	const char *meaning;
	const char *hint; /* what to try next; NULL: the error says it */
};
const struct exit_meaning *exit_meaning_at(size_t index); /* NULL at the end */

struct option_spec {
	const char *name;
	char letter;          /* 0: none */
	const char *argument; /* NULL: none */
	const char *summary;
};
const struct option_spec *option_spec(enum option_id id);
/*
 * Splits argv[1 …] into options and operands (operands are moved to the front of argv, from index
 * 1; their number goes to count_out). "--" ends options; "-" is an operand.
 */
int options_parse(struct invocation *, int argc, char **argv, int *count_out) MUST_CHECK;
void options_free(struct options *options);
/* A preset's name; false: it is none. */
bool kdf_parse(const char *text, enum sz_kdf *kdf_out);
static inline bool option_is_given(const struct invocation *invocation, enum option_id id)
{
	return (invocation->options.given >> id & 1) != 0;
}

/* A mistake in the command line: exit code 2. Returns -EINVAL. */
int usage_fail(struct invocation *, const char *format, ...) PRINTF_LIKE(2, 3);

/* The commands. */
int cmd_attach(struct invocation *);
int cmd_cat(struct invocation *);
int cmd_check_copy(struct invocation *);
int cmd_compact(struct invocation *);
int cmd_create(struct invocation *);
int cmd_create_dataset(struct invocation *);
int cmd_create_volume(struct invocation *);
int cmd_destroy_snapshot(struct invocation *);
int cmd_destroy_volume(struct invocation *);
int cmd_discard(struct invocation *);
int cmd_df(struct invocation *);
int cmd_generations(struct invocation *);
int cmd_get(struct invocation *);
int cmd_help(struct invocation *);
int cmd_info(struct invocation *);
int cmd_keep(struct invocation *);
int cmd_ls(struct invocation *);
int cmd_mkdir(struct invocation *);
int cmd_mount(struct invocation *);
int cmd_nbd(struct invocation *);
int cmd_passphrase(struct invocation *);
int cmd_put(struct invocation *);
int cmd_recover(struct invocation *);
int cmd_rm(struct invocation *);
int cmd_rollback(struct invocation *);
int cmd_scrub(struct invocation *);
int cmd_seal(struct invocation *);
int cmd_serve(struct invocation *);
int cmd_snapshot(struct invocation *);
int cmd_snapshots(struct invocation *);
int cmd_status(struct invocation *);
int cmd_trim(struct invocation *);
int cmd_umount(struct invocation *);
int cmd_version(struct invocation *);
int cmd_volumes(struct invocation *);

/* An open store, its pool and its file system. */
enum session_parts {
	SESSION_STORE,
	SESSION_POOL_IF_ANY, /* none: the store has devices alone, or they are attached */
	SESSION_POOL,
	SESSION_FS,
	SESSION_FS_IF_ANY, /* as SESSION_POOL_IF_ANY */
};
struct session {
	struct sz_store *store;
	struct sz_pool *pool;  /* NULL if only the store was asked for, or there is none */
	struct sz_fs *fs;      /* NULL if only the pool was asked for */
	struct sz_fs *head;    /* not NULL: fs is a snapshot of it (--snapshot) */
	struct sealer *sealer; /* NULL: none runs */
	bool is_shared;        /* that of the process, for a command that runs for another */
	bool is_read_only;     /* as the command asked for it */
};
/* The text without the store's path before it. */
const char *text_after_store(const char *text, const char *store);
/* Puts the store's path before the error's text, once. Returns result. */
int store_fail(struct invocation *, int result);
/* Opens the store that operand 0 names, with its passphrase, and the parts above it. */
int session_open(struct invocation *, bool read_only, enum session_parts,
		 struct session *session_out) MUST_CHECK;
/*
 * For sz_pool_on_suspend; the context is the invocation. From then on all work in the pool blocks, its closing too. What was
 * synced is on disk, and an opening needs no repair, so the process just ends; or, if it serves a mount, begins anew.
 */
void pool_is_suspended(void *context, const struct sz_error *error);
/* The disk under the store, or under one of its devices, has no room for anything. */
bool disk_is_full(const struct invocation *);
#define DISK_TEXT_BYTES 320U
/* "; the file system of … has 3.00M free, …": behind a message that it is full. "": not known. */
void disk_space_text(const struct invocation *, char text[DISK_TEXT_BYTES]);
/* What opening the store that operand 0 names would do, and the generations in it; nothing is opened. */
int session_check(struct invocation *, bool is_copy, struct sz_check *check_out) MUST_CHECK;
/*
 * Closes what is open. result is what the command has come to; it is returned if it is not 0, else
 * what the closing comes to.
 */
int session_close(struct invocation *, struct session *session, int result) MUST_CHECK;

/*
 * While the file system has to be closed: from then on nobody else has it, until the session is closed. -EBUSY: somebody
 * has. result: what was come to meanwhile; an error of the opening is told if it is 0.
 */
int session_fs_close(struct invocation *, struct session *session) MUST_CHECK;
int session_fs_open(struct invocation *, struct session *session, int result) MUST_CHECK;

/*
 * What commands that run for others get from then on (NULL: nothing any more); the caller keeps it open
 * until serve_until_interrupted has returned. store: as it was opened.
 */
void session_share(struct session *session, const char *store);
struct session *session_shared(void); /* that one */

/* cmd_create_dataset.c: a dataset; where the pool is mounted, the kernel is told. */
int dataset_make(struct invocation *, struct session *session, const char *name) MUST_CHECK;

/* exports.c: what of an open store is served as network block devices, for as long as it is open. */
void exports_of(struct session *session, struct sz_nbd_source *source_out);
/* cmd_nbd.c: the server, if one runs, ends. */
void nbd_stop(void);
/* Where it is, the caller's; NULL: none runs. */
char *nbd_uri(unsigned int *clients_out);

/*
 * sealer.c: while a session may write, ends the generation every --seal-interval. session: whose store and
 * pool are open; they stay so until the sealer has stopped, which waits for a seal that is under way.
 */
int sealer_start(struct invocation *, struct session *session) MUST_CHECK;
void sealer_stop(struct session *session);
#define SEALER_TEXT_BYTES 480U
/* interval 0: it does not run. problem: why the last seal failed, "" if it did not. */
void sealer_tell(struct sealer *sealer, uint64_t *interval_s_out, char problem[SEALER_TEXT_BYTES]);

/* Passphrases: in secret memory, freed by passphrase_free. */
struct passphrase_source {
	const char *file;
	const char *command;
	const char *prompt;
	bool twice; /* a new one: asked for twice, and warned of if it is weak */
};
int passphrase_read(struct invocation *, const struct passphrase_source *,
		    struct sz_passphrase *passphrase_out) MUST_CHECK;
/* The one of the store that is opened, by the options and the environment. */
int passphrase_of_store(struct invocation *, struct sz_passphrase *passphrase_out) MUST_CHECK;
/*
 * The store's is read once and kept: from the first asking on, or (from: not -1) from a descriptor. _hand_on writes it to
 * a pipe, from which another program keeps it.
 */
int passphrase_keep(struct invocation *, int from) MUST_CHECK;
void passphrase_keep_end(void);
/* The store's has been changed. */
void passphrase_keep_new(const struct sz_passphrase *passphrase);
int passphrase_hand_on(int to) MUST_CHECK;
/* Seven random words, written to standard output too. */
int passphrase_generate(struct invocation *, struct sz_passphrase *passphrase_out) MUST_CHECK;
void passphrase_free(struct sz_passphrase *passphrase);

#define WORD_COUNT 2048U /* 11 bits a word */
extern const char *const words[WORD_COUNT];

/*
 * Where a command reads and writes, and what interrupts it. Nothing of the commands uses stdin, stdout and
 * stderr themselves: what runs for another process has that one's.
 */
struct console {
	FILE *out; /* NULL: the process's own */
	FILE *err;
	int out_fd;
	int err_fd;
	int in;
	int terminal;             /* -1: none, or to be opened */
	atomic_int signal_number; /* 0: none came */
	int wake_fd;              /* readable once a signal came; never read */
	bool waits_for_end;       /* the reply comes when the process ends */
	bool is_quiet;
};
struct console *console_own(void);     /* the process's */
struct console *console_current(void); /* this thread's; its own if none was given it */
void console_use(struct console *console);
FILE *console_out(void);
FILE *console_err(void);
int console_in(void);
int console_out_fd(void);
int console_err_fd(void);
/* To console_out, past what is buffered there. */
int console_write(const void *data, size_t length) MUST_CHECK;
/* For a console that is another's: out and err, of out_fd and err_fd, which stay open for as long. */
int console_streams_open(struct console *console) MUST_CHECK;
void console_streams_close(struct console *console);
int console_terminal(void); /* the caller's to close; -1: there is none */
bool console_agrees(void);  /* a line that begins with y */
/*
 * Before something is removed for good: 0 with --yes, or if the terminal is asked and agrees. -ECANCELED: nothing may
 * be removed.
 */
int consent_ask(struct invocation *, const char *question) MUST_CHECK;
void line_out(const char *text); /* to console_out, with a newline */

/*
 * Interrupts. SIGINT, SIGTERM and SIGHUP are taken by a thread of their own: the first is
 * remembered, and the command ends in good order as soon as it looks; a second ends the process at
 * once, which loses nothing that was flushed.
 */
int interrupt_start(struct sz_error *error) MUST_CHECK; /* before any other thread is made */
void interrupt_stop(void);
void interrupt_set(struct console *console, int number);
int interrupt_of(const struct console *console);
int interrupt_signal(void); /* its number; 0: none came */
/* -EINTR with a text once a signal came. */
int interrupt_check(struct sz_error *error) MUST_CHECK;
/* The error's text becomes what a command that was interrupted leaves. Returns -EINTR. */
int interrupt_tell(struct sz_error *error, const char *what_now);
/* As sz_read, but a signal ends it: -EINTR. */
int interrupt_read(int fd, void *buffer, size_t length, size_t *done_out) MUST_CHECK;

/* A warning on the console, unless it is quiet. */
void warn(const char *format, ...) PRINTF_LIKE(1, 2);

/* serve.c: commands of other processes, until this one is interrupted. */
void serve_until_interrupted(int listener);
/* Ends the process that serves, as a signal from outside would; the command's answer comes when it has. */
int serve_stop(struct invocation *) MUST_CHECK;
/* After that, with a session that is shared; listener: -1 if there is none. Returns the first error. */
int serve_close(struct invocation *, struct session *session, int listener, int result) MUST_CHECK;
/* Tells who asked for the end what came of it. */
void serve_end(int result, const struct sz_error *error);
/* What 'szpool umount' ends, and the process with it; NULL: nothing. */
void serve_mount(struct sz_mount *mount);
/* For commands: where it is. "": nothing is mounted. */
const char *serve_folder(void);
/* What is under way in what is mounted gets the error, and so does all that comes: the process is about to end. */
void serve_refuse(int code);
/* sz_mount_device of what is mounted; -1: nothing is. */
int serve_device(dev_t *number_out);
/* For commands: where the pool is mounted, the kernel is told. */
void name_changed(const struct sz_fs *fs, uint64_t parent, const char *name);
void inode_changed(const struct sz_fs *fs, uint64_t inode);
bool is_mounted_here(void);
void mount_sync(void); /* what the kernel holds is written */
void mount_snapshot_drop(
	const struct sz_fs *fs,
	const char *name); /* the kernel does not know it any more, if nobody uses it */
/* *is_over_out: it was that mount, so this process ends; else it was one that was left behind. */
int serve_unmount(const char *folder, bool *is_over_out, struct sz_error *error) MUST_CHECK;
/*
 * Has the process that serves the store run the command line. -ENOENT: there is none · -ECONNRESET: it ended
 * meanwhile.
 */
int served_call(const char *store, int argc, char *const *argv, int *exit_code_out) MUST_CHECK;

/*
 * reopen.c: a mount whose pool is suspended. The program takes its own place (exec), which is all that can be done about
 * what is stuck; it answers the mount's requests with errors, opens the store again as soon as that can be done, and mounts
 * it anew.
 */
/* What the program before has left: true, if there was one. Before anything else. */
bool reopen_begins(struct invocation *, int *result_out);
/* How the program is to be called again; the paths are absolute. Before the working folder is left. */
int reopen_plan(struct invocation *, const char *folder) MUST_CHECK;
/* From then on (not) by _exec. Without a plan nothing happens. */
void reopen_allow(bool is_allowed);
/* Does not return, if it can be done. code: for the requests until then, -EIO or -ENOSPC. */
void reopen_exec(int code);
/*
 * Refuses, and tries, until the session is open; it refuses still then. -EINTR: it was unmounted, or a signal came; others:
 * it will never open.
 */
int reopen_wait(struct invocation *, const char *folder, bool read_only,
		struct session *session_out) MUST_CHECK;
/* Takes the old mount off the folder, if there is one. -ECANCELED: it is not there any more, or something is over it. */
int reopen_refusal_end(const char *folder, struct sz_error *error) MUST_CHECK;

/* Into the background: _split before anything else, _ready when what can go wrong has not. */
struct daemon {
	int ready; /* -1: in the foreground */
};
int daemon_split(struct daemon *daemon, struct sz_error *error) MUST_CHECK;
int daemon_ready(struct daemon *daemon, struct sz_error *error) MUST_CHECK;

/* Paths in the pool. */
#define NAME_BYTES 256U /* of a name, with the final NUL */
/* Is the name in that folder a dataset's place? What is in it is another file system's. */
int place_find(struct sz_fs *fs, uint64_t parent, const char *name, bool *is_place_out) MUST_CHECK;
/* Why it is left out. dataset: the one that the place is in; NULL: the root dataset */
#define PLACE_TEXT_BYTES 320U
void place_text(const char *dataset, const char *name, char text[PLACE_TEXT_BYTES]);
/* Follows an absolute path. */
int path_find(struct sz_fs *fs, const char *path, uint64_t *inode_out,
	      struct sz_error *error) MUST_CHECK;
/* The folder of the last name of a path, and that name. */
int path_parent(struct sz_fs *fs, const char *path, uint64_t *parent_out, char name[NAME_BYTES],
		struct sz_error *error) MUST_CHECK;
/* "folder/name", or with a folder "/": "/name"; the caller's, NULL: no memory. */
char *path_join(const char *folder, const char *name);

/* The entries of a folder, sorted by name, without "." and "..". */
struct entry {
	char *name;
	uint64_t inode;
	uint32_t mode_type;
};
struct entries {
	struct entry *data;
	size_t count;
	size_t capacity;
};
int entries_read(struct sz_fs *fs, uint64_t folder, struct entries *entries_out) MUST_CHECK;
void entries_free(struct entries *entries);

/* Walks a tree in the pool. */
enum walk_event {
	WALK_ENTRY, /* no folder */
	WALK_ENTER, /* a folder, before its entries */
	WALK_LEAVE, /* a folder, after them */
};
struct walk_step {
	enum walk_event event;
	uint64_t parent;
	uint64_t inode;
	const char *name; /* NULL: the root's */
	const char *path; /* the root's, and the names below it */
	bool is_root;     /* of the tree that is walked */
};
struct walk;
/* path: what the root is to be called; it may be a path outside of the pool. */
int walk_open(struct sz_fs *fs, uint64_t parent, uint64_t root, uint32_t root_type,
	      const char *path, struct walk **walk_out) MUST_CHECK;
/* *step_out: valid until the next call; NULL at the end. After an error it may be called on. */
int walk_next(struct walk *walk, const struct walk_step **step_out) MUST_CHECK;
void walk_skip(struct walk *walk); /* the folder that was just entered is neither read nor left */
void walk_close(struct walk *walk);

/* Where the first name of each inode with several names went. */
struct link {
	dev_t device;
	ino_t inode;
	uint64_t to;
	char *path; /* NULL: to says it */
	RB_ENTRY(link) node;
};
RB_HEAD(link_tree, link);
struct link *links_find(struct link_tree *links, dev_t device, ino_t inode);
int links_add(struct link_tree *links, dev_t device, ino_t inode, uint64_t to,
	      const char *path) MUST_CHECK;
void links_free(struct link_tree *links);

#define PIECE_BYTES     (4U << 20) /* of content, copied at a time: some records */

/* Output for people. */
#define SIZE_TEXT_BYTES 16U
void size_text(uint64_t bytes, char text[SIZE_TEXT_BYTES]); /* "1.50G" */
#define TIME_TEXT_BYTES 32U
void time_text(uint64_t wall_s, char text[TIME_TEXT_BYTES]); /* local, "2026-11-23 08:00:00" */
#define CODE_WIDTH      26 /* of a generation: nine digits, and its digest's */
#define SPAN_TEXT_BYTES 32U
void span_text(uint64_t seconds, char text[SPAN_TEXT_BYTES]); /* "3 days", rounded down */
/* A state (ONLINE, DEGRADED, …) padded to width, in colour on a terminal unless NO_COLOR is set. */
void state_print(const char *state, int width);
/* A name for the terminal: control characters become '?'; piped, it stays as it is. */
void name_print(const char *name);
/* The same in place, for messages. */
void text_make_printable(char *text);
/* A line on standard error about one of many files, while progress may be shown. */
struct progress;
void file_tell(struct progress *progress, const char *path, const char *text);

/* Copies what operands 1 to the last but one name. file_out: one file's content to the console. */
int file_out(struct sz_fs *fs, uint64_t inode, struct sz_error *error) MUST_CHECK;
/* The last name of a path whose slashes at the end are cut off. */
const char *last_name(char *path);

/* Output for programs. A json_t, freed by it, goes to standard output with a newline. */
struct json_t;
int json_print(struct json_t *value, struct sz_error *error) MUST_CHECK;
/* A name: a string, or {"hex": …} if it is not UTF-8. */
struct json_t *json_name(const char *name);

/* history.c: what is kept of it, as status, info and keep show it. False: nothing comes of this store. */
bool history_find(struct session *session, struct sz_history_info *history_out);
void history_print(struct invocation *, const struct sz_history_info *history, int label_width);
struct json_t *history_json(const struct sz_history_info *history);

/* Room for one more element of size bytes. NULL: no memory, and the array is as it was. */
void *array_room(void *array, size_t count, size_t *capacity, size_t size);

/* The pool's state, as status and scrub show it. *is_intact_out: no data is lost. */
int status_print(struct invocation *, struct session *session, bool *is_intact_out,
		 bool *is_healthy_out) MUST_CHECK;

/*
 * Progress of long work: on a terminal one line that is redrawn. Piped, nothing; but of work that may take hours
 * (progress_at) a line every ten seconds, so that a log shows that it goes on.
 */
struct progress {
	const char *verb;
	uint64_t start_ns;
	uint64_t shown_ns;
	uint64_t line_ns;
	uint64_t total_bytes; /* 0: not known */
	uint64_t done_bytes;
	uint64_t files;
	bool is_quiet;
	bool is_shown; /* standard error is a terminal, and not --quiet */
	bool is_drawn;
};
void progress_start(struct progress *progress, const struct invocation *, const char *verb);
void progress_add(struct progress *progress, uint64_t bytes);
void progress_phase(struct progress *progress, const char *what); /* that cannot be measured */
void progress_at(struct progress *progress, uint64_t done_bytes, uint64_t total_bytes);
void progress_clear(struct progress *progress);

#endif
