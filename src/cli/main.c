/*
 * main: the command table, the exit codes, and the way from a command line to both.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define BIT(id)    (1ULL << OPTION_##id)
#define EVERYWHERE (BIT(HELP) | BIT(QUIET))
#define SOURCE     (BIT(PASSPHRASE_FILE) | BIT(PASSPHRASE_COMMAND))
#define ON_STORE   (EVERYWHERE | SOURCE | BIT(DEVICE_DIR))
#define ON_POOL    (ON_STORE | BIT(MEMORY))
#define READING    (ON_POOL | BIT(GENERATION))
#define IN_FILES   (READING | BIT(DATASET) | BIT(SNAPSHOT))
#define WRITING    (ON_POOL | BIT(CHOOSE))
#define TO_FILES   (WRITING | BIT(DATASET))

static const struct command commands[] = {
	{ "create", "STORE", "make a pool in a folder", 1, 1,
	  ON_POOL | BIT(GENERATE_PASSPHRASE) | BIT(KDF) | BIT(DEVICES) | BIT(RAID) | BIT(SIZE) |
		  BIT(BAND_SIZE) | BIT(PROPERTY) | BIT(RAW),
	  cmd_create, false },
	{ "status", "STORE", "show the pool's health", 1, 1, READING | BIT(JSON) | BIT(CHECK),
	  cmd_status, true },
	{ "scrub", "STORE", "check and repair everything, rebuild lost devices", 1, 1,
	  WRITING | BIT(JSON) | BIT(STOP), cmd_scrub, true },
	{ "put", "STORE SOURCE... PATH", "copy files and trees into the pool", 3, -1,
	  TO_FILES | BIT(SEAL_INTERVAL), cmd_put, true },
	{ "get", "STORE PATH... TARGET", "copy files and trees out of the pool", 3, -1, IN_FILES,
	  cmd_get, true },
	{ "ls", "STORE [PATH...]", "list folders", 1, -1,
	  IN_FILES | BIT(JSON) | BIT(LONG) | BIT(RECURSIVE), cmd_ls, true },
	{ "cat", "STORE PATH...", "write files to standard output", 2, -1, IN_FILES, cmd_cat,
	  true },
	{ "rm", "STORE PATH...", "remove files and folders", 2, -1,
	  TO_FILES | BIT(RECURSIVE) | BIT(FORCE) | BIT(DRY_RUN) | BIT(YES), cmd_rm, true },
	{ "mkdir", "STORE PATH...", "make folders", 2, -1, TO_FILES | BIT(PARENTS), cmd_mkdir,
	  true },
	{ "df", "STORE", "show used and free space", 1, 1, READING | BIT(JSON), cmd_df, true },
	{ "create-dataset", "STORE NAME", "make a dataset: a file system of its own", 2, 2, WRITING,
	  cmd_create_dataset, true },
	{ "create-volume", "STORE NAME", "make a volume: a block device in the pool", 2, 2,
	  WRITING | BIT(VOLUME_SIZE) | BIT(BLOCK_SIZE) | BIT(SPARSE) | BIT(PARENTS) | BIT(PROPERTY),
	  cmd_create_volume, true },
	{ "volumes", "STORE", "list the volumes", 1, 1, READING | BIT(JSON), cmd_volumes, true },
	{ "destroy-volume", "STORE NAME", "destroy a volume", 2, 2, WRITING | BIT(YES),
	  cmd_destroy_volume, true },
	{ "snapshot", "STORE NAME", "take a snapshot of all files, or of a volume", 2, 2, WRITING,
	  cmd_snapshot, true },
	{ "snapshots", "STORE", "list the snapshots", 1, 1, READING | BIT(JSON), cmd_snapshots,
	  true },
	{ "destroy-snapshot", "STORE NAME", "destroy a snapshot", 2, 2, WRITING | BIT(YES),
	  cmd_destroy_snapshot, true },
	{ "rollback", "STORE NAME", "make all files, or a volume, what they are in a snapshot", 2,
	  2, WRITING | BIT(DESTROY_NEWER) | BIT(YES), cmd_rollback, true },
	{ "seal", "STORE", "end the generation, so that all files are final", 1, 1,
	  ON_STORE | BIT(CHOOSE) | BIT(JSON), cmd_seal, true },
	{ "trim", "STORE", "have the devices forget what the pool does not use", 1, 1,
	  WRITING | BIT(JSON), cmd_trim, true },
	{ "compact", "STORE", "trim, seal, and write anew what is superseded in part", 1, 1,
	  WRITING | BIT(JSON), cmd_compact, true },
	{ "generations", "STORE", "list the generations that are there", 1, 1, ON_STORE | BIT(JSON),
	  cmd_generations, true },
	{ "keep", "STORE", "show and set which generations are kept, remove history", 1, 1,
	  ON_STORE | BIT(CHOOSE) | BIT(JSON) | BIT(LAST) | BIT(HOURLY) | BIT(DAILY) | BIT(WEEKLY) |
		  BIT(MONTHLY) | BIT(BUDGET) | BIT(DROP_HISTORY) | BIT(DRY_RUN) | BIT(YES),
	  cmd_keep, true },
	{ "discard", "STORE", "list and remove what is of other histories", 1, 1,
	  ON_STORE | BIT(CHOOSE) | BIT(JSON) | BIT(DRY_RUN) | BIT(YES), cmd_discard, true },
	{ "check-copy", "FOLDER", "tell what opening a copy would do, without opening it", 1, 1,
	  ON_STORE | BIT(JSON), cmd_check_copy, false },
	{ "recover", "STORE", "put a store together of which no root is left", 1, 1,
	  ON_POOL | BIT(JSON) | BIT(YES), cmd_recover, false },
	{ "info", "STORE", "show the store: sizes, generation, devices", 1, 1, READING | BIT(JSON),
	  cmd_info, true },
	{ "passphrase", "STORE", "change the passphrase", 1, 1,
	  ON_STORE | BIT(CHOOSE) | BIT(NEW_PASSPHRASE_FILE) | BIT(NEW_PASSPHRASE_COMMAND) |
		  BIT(GENERATE_PASSPHRASE) | BIT(KDF),
	  cmd_passphrase, true },
	{ "serve", "STORE", "keep the pool open for other commands", 1, 1,
	  WRITING | BIT(FOREGROUND) | BIT(STOP) | BIT(SEAL_INTERVAL), cmd_serve, false },
	{ "mount", "STORE FOLDER", "show the pool as a folder", 2, 2,
	  READING | BIT(DATASET) | BIT(CHOOSE) | BIT(FOREGROUND) | BIT(READ_ONLY) |
		  BIT(ALLOW_OTHER) | BIT(MOUNT_OPTIONS) | BIT(SEAL_INTERVAL),
	  cmd_mount, false },
	{ "umount", "FOLDER", "write everything out and end a mount", 1, 1, EVERYWHERE, cmd_umount,
	  false },
	{ "attach", "STORE FOLDER", "show the devices as files, without the pool", 2, 2,
	  ON_STORE | BIT(GENERATION) | BIT(CHOOSE) | BIT(FOREGROUND) | BIT(READ_ONLY) |
		  BIT(ALLOW_OTHER) | BIT(MOUNT_OPTIONS) | BIT(SEAL_INTERVAL),
	  cmd_attach, false },
	{ "detach", "FOLDER", "write everything out and end an attachment", 1, 1, EVERYWHERE,
	  cmd_umount, false },
	{ "nbd", "STORE", "serve block devices to NBD clients", 1, 1,
	  READING | BIT(CHOOSE) | BIT(FOREGROUND) | BIT(READ_ONLY) | BIT(SEAL_INTERVAL) |
		  BIT(STOP) | BIT(LIST) | BIT(JSON) | BIT(SOCKET) | BIT(LISTEN) |
		  BIT(TLS_CERTIFICATES) | BIT(TLS_PSK) | BIT(TLS_VERIFY_PEER),
	  cmd_nbd, true },
	{ "version", "", "show the version", 0, 0, EVERYWHERE | BIT(JSON), cmd_version, false },
	{ "help", "[COMMAND]", "show how to use a command", 0, 1, EVERYWHERE | BIT(JSON), cmd_help,
	  false },
};

/* In the order of the codes. */
static const struct exit_meaning meanings[] = {
	{ EXIT_OK, "done", NULL },
	{ EXIT_ERROR, "an error that no other code stands for", NULL },
	{ EXIT_USAGE, "a mistake in the command line", NULL },
	{ EXIT_NOT_A_STORE, "not a store, or one of a newer format",
	  "name the folder that 'szpool create' made, or a copy of it; a newer format needs a newer "
	  "szpool" },
	{ EXIT_PASSPHRASE, "wrong passphrase",
	  "try again; see 'szpool help' for where a passphrase can come from" },
	{ EXIT_BUSY, "another process has the store open", "wait for it to end, or end it" },
	{ EXIT_DAMAGED, "too much is missing or damaged",
	  "bring the missing folders or files back from another copy; 'szpool status' tells what "
	  "is damaged" },
	{ EXIT_NO_SPACE, "no space left",
	  "see 'szpool df' and 'szpool info'; remove something, make room on the disk, or have a "
	  "quota raised" },
	{ EXIT_CHOICE, "not written to until you choose a generation to go on from",
	  "'szpool generations' lists them; '--choose CODE' goes on from one, and sets the others "
	  "aside; '--generation CODE' reads one" },
	{ EXIT_SIGNAL + 2, "interrupted (SIGINT); 129: SIGHUP, 141: standard output was closed",
	  NULL },
	{ EXIT_SIGNAL + 15, "terminated (SIGTERM)", NULL },
};

const struct command *command_at(size_t index)
{
	return index < ARRAY_LENGTH(commands) ? &commands[index] : NULL;
}

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

const struct exit_meaning *exit_meaning_at(size_t index)
{
	return index < ARRAY_LENGTH(meanings) ? &meanings[index] : NULL;
}

/* What a result means while the store is being opened: there these codes speak of the store. */
static int opening_exit_code(int result)
{
	switch (result) {
	case -ENODATA:
	case -EPROTONOSUPPORT:
		return EXIT_NOT_A_STORE;
	case -EBUSY:
		return EXIT_BUSY;
	case -ENXIO:
	case -ENODEV:
	case -EUCLEAN:
		return EXIT_DAMAGED;
	case -ESTALE:
		return EXIT_CHOICE;
	default:
		return EXIT_ERROR;
	}
}

static int exit_code(const struct invocation *invocation, int result)
{
	if (result == 0)
		return invocation->exit_code;
	if (invocation->is_usage_error)
		return EXIT_USAGE;
	switch (result) {
	case -EINTR:
		return EXIT_SIGNAL + interrupt_signal();
	case -EPIPE:
		return EXIT_SIGNAL + 13;
	case -EKEYREJECTED:
		return EXIT_PASSPHRASE;
	case -EBADMSG:
		return EXIT_DAMAGED;
	case -ENOSPC:
	case -EDQUOT:
		return EXIT_NO_SPACE;
	default:
		return invocation->store_is_open ? EXIT_ERROR : opening_exit_code(result);
	}
}

static void report(struct invocation *invocation, const char *command, int result, int code)
{
	char *text = invocation->error.text;

	if (code == EXIT_SIGNAL + 13) /* as a program that SIGPIPE ends: silent */
		return;
	text_make_printable(text);
	(void)fprintf(console_err(), "szpool: %s\n", text[0] != '\0' ? text : strerror(-result));
	if (code == EXIT_USAGE)
		(void)fprintf(console_err(), "szpool: see 'szpool help%s%s'\n",
			      command != NULL ? " " : "", command != NULL ? command : "");
	for (size_t i = 0; i < ARRAY_LENGTH(meanings); i++)
		if (meanings[i].code == code && meanings[i].hint != NULL)
			(void)fprintf(console_err(), "szpool: %s\n", meanings[i].hint);
}

static int options_check(struct invocation *invocation, const struct command *command)
{
	uint64_t foreign = invocation->options.given & ~command->options;

	for (unsigned int i = 0; i < OPTION_COUNT; i++)
		if ((foreign >> i & 1) != 0)
			return usage_fail(invocation, "'%s' has no option --%s", command->name,
					  option_spec((enum option_id)i)->name);
	if (invocation->count < command->least)
		return usage_fail(invocation, "'%s' needs more operands: szpool %s %s",
				  command->name, command->name, command->operands);
	if (command->most >= 0 && invocation->count > command->most)
		return usage_fail(invocation, "'%s' is one operand too many: szpool %s %s",
				  invocation->operands[command->most], command->name,
				  command->operands);
	return 0;
}

static int run(struct invocation *invocation, const struct command *command)
{
	int result = options_check(invocation, command);

	if (result != 0)
		return result;
	console_current()->is_quiet = option_is_given(invocation, OPTION_QUIET);
	if (console_current() == console_own())
		sz_warn_quiet(console_current()->is_quiet);
	result = command->run(invocation);
	if (fflush(console_out()) != 0 && result == 0)
		result =
			sz_fail(&invocation->error, -errno, "standard output: %s", strerror(errno));
	return result;
}

/* options_parse has been over argv; result: what it came to. */
static int parsed_run(struct invocation *invocation, char **argv, int count, int result)
{
	const struct command *command = NULL;
	int code;

	if (count > 0) {
		command = command_find(argv[1]);
		invocation->operands = argv + 2;
		invocation->count = count - 1;
	}
	if (result == 0 && option_is_given(invocation, OPTION_HELP)) {
		invocation->options.given = 1ULL << OPTION_HELP;
		invocation->operands = argv + 1;
		invocation->count = count > 0 ? 1 : 0;
		command = command_find("help");
	}
	if (result == 0 && count == 0 && command == NULL)
		result = usage_fail(invocation, "which command?");
	else if (result == 0 && command == NULL)
		result = usage_fail(invocation, "there is no command '%s'", argv[1]);
	if (result == 0 && command != NULL)
		result = run(invocation, command);
	code = exit_code(invocation, result);
	if (result != 0)
		report(invocation, command != NULL ? command->name : NULL, result, code);
	return code;
}

int command_line_run(int argc, char **argv)
{
	struct invocation invocation = { 0 };
	int count = 0;
	int result = options_parse(&invocation, argc, argv, &count);
	int code = parsed_run(&invocation, argv, count, result);

	options_free(&invocation.options);
	return code;
}

/* The store whose process, if there is one, is to run the command; NULL: it runs here. */
static const char *store_to_call(const struct invocation *invocation, char **argv, int count)
{
	const struct command *command = count > 1 ? command_find(argv[1]) : NULL;

	if (command == NULL ||
	    (!command->is_served &&
	     (command->run != cmd_serve || !option_is_given(invocation, OPTION_STOP))) ||
	    option_is_given(invocation, OPTION_HELP) ||
	    option_is_given(invocation, OPTION_GENERATION)) /* beside it */
		return NULL;
	return argv[2];
}

/*
 * Who changes the passphrase of a store that is open says the old one all the same: his own environment's file. given: of
 * argc, with room for one more.
 */
static int source_add(const struct invocation *invocation, const char *name, char **given, int argc,
		      char **source_out)
{
	const struct command *command = command_find(name);
	const char *file = getenv("SZPOOL_PASSPHRASE_FILE");

	if (file == NULL || command == NULL || command->run != cmd_passphrase ||
	    option_is_given(invocation, OPTION_PASSPHRASE_FILE) ||
	    option_is_given(invocation, OPTION_PASSPHRASE_COMMAND) ||
	    asprintf(source_out, "--passphrase-file=%s", file) < 0)
		return argc;
	memmove(given + 2, given + 1, (size_t)argc * sizeof(char *));
	given[1] = *source_out;
	return argc + 1;
}

/* A process that has the store open runs the command, or this one does. */
static int main_run(int argc, char **argv)
{
	struct invocation invocation = { 0 };
	CLEANUP_FREE char **given = calloc((size_t)argc + 2, sizeof(char *));
	CLEANUP_FREE char *source = NULL;
	const char *store;
	int given_count = argc;
	int count = 0;
	int code = EXIT_ERROR;
	int served;
	int result;

	if (given == NULL)
		return EXIT_ERROR;
	memcpy(given, argv, (size_t)argc * sizeof(char *)); /* parsing sorts it */
	result = options_parse(&invocation, argc, argv, &count);
	store = result == 0 ? store_to_call(&invocation, argv, count) : NULL;
	if (store != NULL)
		given_count = source_add(&invocation, argv[1], given, argc, &source);
	served = store == NULL ? -ENOENT : served_call(store, given_count, given, &code);
	if (served == -ECONNRESET)
		(void)fprintf(stderr,
			      "szpool: %s: the process that has the store open ended meanwhile\n",
			      store);
	else if (served != 0)
		code = parsed_run(&invocation, argv, count, result);
	options_free(&invocation.options);
	return code;
}

/* As mount.szpool it is what mount(8) calls for an entry in fstab: mount.szpool STORE FOLDER -o OPTIONS. */
static bool is_mount_helper(const char *program)
{
	const char *slash = strrchr(program, '/');

	return strcmp(slash == NULL ? program : slash + 1, "mount.szpool") == 0;
}

static int mount_helper_run(int argc, char **argv)
{
	CLEANUP_FREE char **arguments = calloc((size_t)argc + 2, sizeof(char *));
	char mount[] = "mount";

	if (arguments == NULL)
		return EXIT_ERROR;
	arguments[0] = argv[0];
	arguments[1] = mount;
	memcpy(arguments + 2, argv + 1, (size_t)(argc - 1) * sizeof(char *));
	return main_run(argc + 1, arguments);
}

/*
 * A standard descriptor that is closed would be the next file that is opened, a store's among them. It
 * becomes one whose use fails, as it should.
 */
static void descriptors_keep(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(EXIT_ERROR);
}

/* Who knows how a store was made can have it opened faster. */
static bool kdf_order(void)
{
	const char *text = getenv("SZPOOL_KDF");
	enum sz_kdf kdf;

	if (text == NULL || text[0] == '\0')
		return true;
	if (!kdf_parse(text, &kdf))
		return false;
	sz_kdf_try_first(kdf);
	return true;
}

int main(int argc, char **argv)
{
	struct sz_error error = { 0 };
	char version[] = "version";
	int code;

	descriptors_keep();
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = version;
	if (sz_crypto_init(&error) != 0 || interrupt_start(&error) != 0) {
		(void)fprintf(stderr, "szpool: %s\n", error.text);
		return EXIT_ERROR;
	}
	if (!kdf_order()) {
		(void)fprintf(stderr,
			      "szpool: SZPOOL_KDF has to be interactive, moderate or sensitive\n");
		return EXIT_USAGE;
	}
	code = argc > 0 && is_mount_helper(argv[0]) ? mount_helper_run(argc, argv)
						    : main_run(argc, argv);
	interrupt_stop();
	return code;
}
