/*
 * passphrase: where it comes from. A file, a command's output, the file that SZPOOL_PASSPHRASE_FILE
 * names, or the terminal; never the command line, which every process can read. One final newline is
 * dropped; everything else counts. It stands in secret memory, and passes through no other.
 */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ROOM_BYTES      (SZ_PASSPHRASE_MAX_BYTES + 2U) /* a newline, and a byte that is too many */
#define GENERATED_WORDS 7U                             /* 77 bits */
#define WEAK_BITS       60.0 /* below, hardware of today can try them all in the end */

void passphrase_free(struct sz_passphrase *passphrase)
{
	void *secret;

	memcpy(&secret, &passphrase->bytes, sizeof(secret)); /* it is ours: not const */
	sz_secret_free(secret);
	*passphrase = (struct sz_passphrase){ 0 };
}

/* Takes over secret, of length bytes. from: for messages. */
static int take(struct invocation *invocation, const char *from, char *secret, size_t length,
		struct sz_passphrase *passphrase_out)
{
	int result = 0;

	if (length > 0 && secret[length - 1] == '\n')
		length--;
	if (length == 0)
		result = sz_fail(&invocation->error, -EINVAL, "the passphrase from %s is empty",
				 from);
	else if (length > SZ_PASSPHRASE_MAX_BYTES)
		result = sz_fail(&invocation->error, -EINVAL,
				 "the passphrase from %s is longer than %u bytes; is that the "
				 "right one?",
				 from, SZ_PASSPHRASE_MAX_BYTES);
	if (result != 0) {
		sz_secret_free(secret);
		return result;
	}
	*passphrase_out = (struct sz_passphrase){ .bytes = secret, .length = length };
	return 0;
}

/* Reads fd to its end, or to the end of a line if line is set. */
static int read_secret(struct invocation *invocation, const char *from, int fd, bool line,
		       struct sz_passphrase *passphrase_out)
{
	char *secret = sz_secret_alloc(ROOM_BYTES);
	size_t length = 0;
	size_t done = 1;
	int result = 0;

	if (secret == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory for the passphrase");
	while (result == 0 && done > 0 && length < ROOM_BYTES) {
		/* A byte at a time: a terminal gives no more than a line, but that may be more. */
		result = interrupt_read(fd, secret + length, 1, &done);
		length += done;
		if (line && done == 1 && secret[length - 1] == '\n')
			break;
	}
	if (result != 0)
		sz_secret_free(secret);
	if (result == -EINTR)
		return interrupt_tell(&invocation->error, "no passphrase, so nothing was done");
	if (result != 0)
		return sz_fail(&invocation->error, result, "cannot read the passphrase from %s: %s",
			       from, strerror(-result));
	return take(invocation, from, secret, length, passphrase_out);
}

static int read_file(struct invocation *invocation, const char *path,
		     struct sz_passphrase *passphrase_out)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return sz_fail(&invocation->error, -errno,
			       "cannot read the passphrase from the file %s: %s", path,
			       strerror(errno));
	return read_secret(invocation, path, fd, false, passphrase_out);
}

/* sh -c COMMAND with its output in a pipe. */
static int command_start(const char *command, int *fd_out, pid_t *child_out)
{
	char shell[] = "sh";
	char flag[] = "-c";
	CLEANUP_FREE char *copy = strdup(command);
	char *arguments[] = { shell, flag, copy, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigset_t pipe;
	int ends[2];
	int result;

	if (copy == NULL)
		return -ENOMEM;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	(void)sigemptyset(&none);
	(void)sigemptyset(&pipe);
	(void)sigaddset(&pipe, SIGPIPE); /* we ignore it, the command should not */
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawnattr_setsigdefault(&attributes, &pipe);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	result = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	if (result == 0)
		result = posix_spawn(child_out, "/bin/sh", &actions, &attributes, arguments,
				     environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attributes);
	(void)close(ends[1]);
	if (result != 0)
		(void)close(ends[0]);
	*fd_out = ends[0];
	return -result;
}

static int read_command(struct invocation *invocation, const char *command,
			struct sz_passphrase *passphrase_out)
{
	int fd = -1;
	int status = 0;
	pid_t child = -1;
	int result = command_start(command, &fd, &child);

	if (result != 0)
		return sz_fail(&invocation->error, result, "cannot run the passphrase command: %s",
			       strerror(-result));
	result = read_secret(invocation, "the passphrase command", fd, false, passphrase_out);
	(void)close(fd);
	if (waitpid(child, &status, 0) == child && status != 0) {
		if (result == 0)
			passphrase_free(passphrase_out);
		invocation->error.text[0] = '\0';
		return sz_fail(&invocation->error, -EIO,
			       "the passphrase command failed (%s %d): %s",
			       WIFEXITED(status) ? "exit code" : "signal",
			       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), command);
	}
	return result;
}

static int ask(struct invocation *invocation, int terminal, const char *prompt,
	       struct sz_passphrase *passphrase_out)
{
	struct termios before;
	struct termios silent;
	int result;

	if (tcgetattr(terminal, &before) != 0)
		return sz_fail(&invocation->error, -errno, "cannot ask at the terminal: %s",
			       strerror(errno));
	silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	silent.c_lflag |= ECHONL;
	/* Before the prompt: what is typed earlier is thrown away, what comes after it is the answer. */
	if (tcsetattr(terminal, TCSAFLUSH, &silent) != 0)
		return sz_fail(&invocation->error, -errno, "cannot switch the echo off: %s",
			       strerror(errno));
	result = sz_write(terminal, prompt, strlen(prompt));
	if (result == 0)
		result = read_secret(invocation, "the terminal", terminal, true, passphrase_out);
	(void)tcsetattr(terminal, TCSAFLUSH, &before);
	return result;
}

static int ask_twice(struct invocation *invocation, const struct passphrase_source *source,
		     struct sz_passphrase *passphrase_out)
{
	CLEANUP_FD int terminal = console_terminal();
	struct sz_passphrase again = { 0 };
	bool same;
	int result;

	if (terminal < 0)
		return usage_fail(invocation, "no passphrase: there is no terminal to ask at; use "
					      "--passphrase-file, --passphrase-command or "
					      "SZPOOL_PASSPHRASE_FILE");
	result = ask(invocation, terminal, source->prompt, passphrase_out);
	if (result != 0 || !source->twice)
		return result;
	result = ask(invocation, terminal, "The same again: ", &again);
	if (result != 0) {
		passphrase_free(passphrase_out);
		return result;
	}
	same = again.length == passphrase_out->length &&
	       sz_equal(again.bytes, passphrase_out->bytes, again.length);
	passphrase_free(&again);
	if (same)
		return 0;
	passphrase_free(passphrase_out);
	return sz_fail(&invocation->error, -EINVAL, "the two passphrases differ; try again");
}

/*
 * No more bits than these can be in it: its kinds of characters, times its length; a character that
 * repeats or continues the one before it (aaaa, 1234) counts for one bit. Words count for more than
 * they are worth: this finds only what is weak for certain.
 */
static bool is_weak(const struct sz_passphrase *passphrase)
{
	double alphabet = 0;
	double bits = 0;
	bool lower = false;
	bool upper = false;
	bool digit = false;
	bool other = false;

	for (size_t i = 0; i < passphrase->length; i++) {
		unsigned char c = (unsigned char)passphrase->bytes[i];

		lower = lower || islower(c);
		upper = upper || isupper(c);
		digit = digit || isdigit(c);
		other = other || !isalnum(c);
	}
	alphabet = (lower ? 26 : 0) + (upper ? 26 : 0) + (digit ? 10 : 0) + (other ? 33 : 0);
	for (size_t i = 0; i < passphrase->length; i++) {
		int step = i == 0 ? 2 : passphrase->bytes[i] - passphrase->bytes[i - 1];

		bits += step >= -1 && step <= 1 ? 1 : log2(alphabet);
	}
	return bits < WEAK_BITS;
}

int passphrase_read(struct invocation *invocation, const struct passphrase_source *source,
		    struct sz_passphrase *passphrase_out)
{
	int result;

	if (source->file != NULL && source->command != NULL)
		return usage_fail(invocation, "a passphrase comes from a file or from a command, "
					      "not from both");
	if (source->command != NULL)
		result = read_command(invocation, source->command, passphrase_out);
	else if (source->file != NULL)
		result = read_file(invocation, source->file, passphrase_out);
	else
		result = ask_twice(invocation, source, passphrase_out);
	if (result == 0 && source->twice && is_weak(passphrase_out))
		warn("this passphrase can be guessed by trying; --generate-passphrase makes one "
		     "that cannot");
	return result;
}

static int passphrase_copy(const struct sz_passphrase *passphrase, struct sz_error *error,
			   struct sz_passphrase *copy_out)
{
	char *secret = sz_secret_alloc(ROOM_BYTES);

	if (secret == NULL)
		return sz_fail(error, -ENOMEM, "no memory for the passphrase");
	memcpy(secret, passphrase->bytes, passphrase->length);
	*copy_out = (struct sz_passphrase){ .bytes = secret, .length = passphrase->length };
	return 0;
}

/* Of one store, for a process that opens it again; not for the commands of others that it runs. */
static bool is_to_keep;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sz_passphrase kept; /* its content under it, once commands run for others */

int passphrase_keep(struct invocation *invocation, int from)
{
	is_to_keep = true;
	return from < 0 ? 0 : read_secret(invocation, "the program before", from, false, &kept);
}

void passphrase_keep_end(void)
{
	is_to_keep = false;
	passphrase_free(&kept);
}

void passphrase_keep_new(const struct sz_passphrase *passphrase)
{
	void *secret;

	(void)pthread_mutex_lock(&kept_lock);
	if (kept.bytes != NULL) {
		memcpy(&secret, &kept.bytes, sizeof(secret)); /* it is ours: not const */
		memcpy(secret, passphrase->bytes, passphrase->length);
		kept.length = passphrase->length;
	}
	(void)pthread_mutex_unlock(&kept_lock);
}

int passphrase_hand_on(int to)
{
	int result;

	(void)pthread_mutex_lock(&kept_lock);
	result = sz_write(to, kept.bytes, kept.length);
	(void)pthread_mutex_unlock(&kept_lock);
	return result != 0 ? result : sz_write(to, "\n", 1);
}

int passphrase_of_store(struct invocation *invocation, struct sz_passphrase *passphrase_out)
{
	const struct options *options = &invocation->options;
	struct passphrase_source source = {
		.file = options->passphrase_file,
		.command = options->passphrase_command,
		.prompt = "Passphrase: ",
	};
	bool is_own = console_current() == console_own();
	int result;

	if (is_own && kept.bytes != NULL)
		return passphrase_copy(&kept, &invocation->error, passphrase_out);
	/* Who has a command run here has an environment of his own (main.c). */
	if (is_own && source.file == NULL && source.command == NULL)
		source.file = getenv("SZPOOL_PASSPHRASE_FILE");
	result = passphrase_read(invocation, &source, passphrase_out);
	if (result == 0 && is_own && is_to_keep)
		result = passphrase_copy(passphrase_out, &invocation->error, &kept);
	return result;
}

int passphrase_generate(struct invocation *invocation, struct sz_passphrase *passphrase_out)
{
	char *secret = sz_secret_alloc(ROOM_BYTES);
	uint16_t *numbers = sz_secret_alloc(GENERATED_WORDS * sizeof(*numbers));
	size_t length = 0;
	int result = 0;

	if (secret == NULL || numbers == NULL) {
		sz_secret_free(secret);
		sz_secret_free(numbers);
		return sz_fail(&invocation->error, -ENOMEM, "no memory for the passphrase");
	}
	sz_random(numbers, GENERATED_WORDS * sizeof(*numbers));
	for (unsigned int i = 0; i < GENERATED_WORDS; i++) {
		const char *word = words[numbers[i] % WORD_COUNT];

		if (i > 0)
			secret[length++] = '-';
		length = (size_t)(stpcpy(secret + length, word) - secret);
	}
	secret[length] = '\n';
	sz_secret_free(numbers);
	/* Not by stdio, whose buffer is not secret memory. */
	if (fflush(console_out()) != 0)
		result = -errno;
	if (result == 0)
		result = console_write(secret, length + 1);
	if (result != 0) {
		sz_secret_free(secret);
		return sz_fail(&invocation->error, result,
			       "cannot show the passphrase on standard output: %s",
			       strerror(-result));
	}
	*passphrase_out = (struct sz_passphrase){ .bytes = secret, .length = length };
	return 0;
}
