/* options: the table of all options, and the splitting of a command line by it. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define MEMORY_MIN_BYTES    (128ULL << 20) /* as sz_engine_start has it */
#define BAND_MIN_BYTES      (1ULL << 20)
#define BAND_MAX_BYTES      (64ULL << 20)

#define MINUTE_S            60ULL
#define HOUR_S              (60 * MINUTE_S)
#define DAY_S               (24 * HOUR_S)
#define KEEP_MAX            10000U          /* of a kind, and of percents: as device has it */
#define SEAL_INTERVAL_S     (15 * MINUTE_S) /* the ladder's first rung: docs/DESIGN.md */
#define SEAL_INTERVAL_MAX_S (7 * DAY_S)     /* as long as the ladder lets a copy take */

static const struct option_spec specs[OPTION_COUNT] = {
	[OPTION_HELP] = { "help", 'h', NULL, "show this help" },
	[OPTION_QUIET] = { "quiet", 'q', NULL, "no progress, no warnings" },
	[OPTION_JSON] = { "json", 0, NULL, "write the result as JSON" },
	[OPTION_MEMORY] = { "memory", 0, "SIZE", "bound on memory, 128M or more (default: 512M)" },
	[OPTION_DEVICE_DIR] = { "device-dir", 0, "DIR", "a device's folder; repeat for each" },
	[OPTION_PASSPHRASE_FILE] = { "passphrase-file", 0, "FILE",
				     "read the passphrase from FILE" },
	[OPTION_PASSPHRASE_COMMAND] = { "passphrase-command", 0, "COMMAND",
					"take what COMMAND writes as the passphrase" },
	[OPTION_NEW_PASSPHRASE_FILE] = { "new-passphrase-file", 0, "FILE",
					 "read the new passphrase from FILE" },
	[OPTION_NEW_PASSPHRASE_COMMAND] = { "new-passphrase-command", 0, "COMMAND",
					    "take what COMMAND writes as the new one" },
	[OPTION_GENERATE_PASSPHRASE] = { "generate-passphrase", 0, NULL,
					 "make one of seven random words, and show it" },
	[OPTION_KDF] = { "kdf", 0, "PRESET",
			 "cost of a guess: interactive, moderate or sensitive" },
	[OPTION_DEVICES] = { "devices", 'n', "N", "number of devices (default: 6)" },
	[OPTION_RAID] = { "raid", 0, "KIND", "raidz2 (default), raidz1, raidz3, mirror, stripe" },
	[OPTION_SIZE] = { "size", 's', "SIZE", "what the pool can hold (default: by free space)" },
	[OPTION_BAND_SIZE] = { "band-size", 0, "SIZE", "size of an object, 1M to 64M" },
	[OPTION_PROPERTY] = { "property", 'o', "NAME=VALUE", "set a ZFS property; repeatable" },
	[OPTION_RAW] = { "raw", 0, NULL, "only devices, without a pool: see 'attach'" },
	[OPTION_LONG] = { "long", 'l', NULL, "show modes, owners, sizes and times" },
	[OPTION_RECURSIVE] = { "recursive", 'r', NULL, "folders with all that is in them" },
	[OPTION_FORCE] = { "force", 'f', NULL, "what is not there is no error" },
	[OPTION_DRY_RUN] = { "dry-run", 0, NULL, "only tell what would be done" },
	[OPTION_YES] = { "yes", 'y', NULL, "do not ask" },
	[OPTION_PARENTS] = { "parents", 'p', NULL, "make missing parents; existing ones are fine" },
	[OPTION_STOP] = { "stop", 0, NULL, "end what is under way" },
	[OPTION_FOREGROUND] = { "foreground", 0, NULL, "do not go into the background" },
	[OPTION_CHECK] = { "check", 0, NULL, "exit code 6 unless all is well" },
	[OPTION_GENERATION] = { "generation", 0, "N", "read this generation: its number or code" },
	[OPTION_SNAPSHOT] = { "snapshot", 0, "NAME", "read this snapshot" },
	[OPTION_DATASET] = { "dataset", 0, "NAME", "in this dataset; without it, in the root" },
	[OPTION_DESTROY_NEWER] = { "destroy-newer", 0, NULL, "newer snapshots are destroyed" },
	[OPTION_READ_ONLY] = { "read-only", 0, NULL, "nothing is written" },
	[OPTION_ALLOW_OTHER] = { "allow-other", 0, NULL, "other users may use it too" },
	[OPTION_MOUNT_OPTIONS] = { "options", 'o', "OPTIONS",
				   "as in fstab: ro, noexec, ..., and those above" },
	[OPTION_CHOOSE] = { "choose", 0, "CODE", "go on from this generation, set others aside" },
	[OPTION_SEAL_INTERVAL] = { "seal-interval", 0, "TIME",
				   "end the generation so often (default: 15m; off: never)" },
	[OPTION_LAST] = { "last", 0, "N", "keep the last N generations" },
	[OPTION_HOURLY] = { "hourly", 0, "N", "keep the last one of each of N hours" },
	[OPTION_DAILY] = { "daily", 0, "N", "keep the last one of each of N days" },
	[OPTION_WEEKLY] = { "weekly", 0, "N", "keep the last one of each of N weeks" },
	[OPTION_MONTHLY] = { "monthly", 0, "N", "keep the last one of each of N months" },
	[OPTION_BUDGET] = { "budget", 0, "LIMIT",
			    "what history may take: 25% of the store, or 10G" },
	[OPTION_DROP_HISTORY] = { "drop-history", 0, NULL,
				  "remove all history that is not being read" },
	[OPTION_SOCKET] = { "socket", 0, "PATH", "listen at this Unix socket" },
	[OPTION_LISTEN] = { "listen", 0, "HOST:PORT", "listen there, by TCP" },
	[OPTION_TLS_CERTIFICATES] = { "tls-certificates", 0, "DIR",
				      "TLS, with server-cert.pem and server-key.pem in DIR" },
	[OPTION_TLS_PSK] = { "tls-psk", 0, "FILE", "TLS, with the keys in FILE, as of psktool" },
	[OPTION_TLS_VERIFY_PEER] = { "tls-verify-peer", 0, NULL,
				     "clients show certificates, too: ca-cert.pem" },
	[OPTION_VOLUME_SIZE] = { "volsize", 'V', "SIZE", "how large the volume is" },
	[OPTION_BLOCK_SIZE] = { "volblocksize", 'b', "SIZE",
				"size of its blocks, 4K to 16M (default: 16K)" },
	[OPTION_SPARSE] = { "sparse", 's', NULL, "no room is reserved for it" },
	[OPTION_LIST] = { "list", 0, NULL, "show what is served" },
};

const struct option_spec *option_spec(enum option_id id)
{
	return &specs[id];
}

int usage_fail(struct invocation *invocation, const char *format, ...)
{
	va_list arguments;
	char text[256];

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	invocation->is_usage_error = true;
	return sz_fail(&invocation->error, -EINVAL, "%s", text);
}

/* "8G", "8GiB", "512m", "4096": false if it is no size. */
static bool size_parse(const char *text, uint64_t *bytes_out)
{
	static const char units[] = "KMGTP";
	char *end;
	uint64_t value;
	unsigned int shift = 0;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0)
		return false;
	if (*end != '\0') {
		const char *unit = strchr(units, toupper((unsigned char)*end));

		if (unit == NULL || (end[1] != '\0' && strcasecmp(end + 1, "iB") != 0))
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (shift > 0 && value >> (64 - shift) != 0)
		return false;
	*bytes_out = value << shift;
	return true;
}

static int size_option(struct invocation *invocation, const char *name, const char *text,
		       uint64_t *bytes_out)
{
	if (size_parse(text, bytes_out))
		return 0;
	return usage_fail(invocation, "--%s '%s': not a size; write it like 512M, 8G or 2T", name,
			  text);
}

static int band_option(struct invocation *invocation, const char *text)
{
	uint64_t *bytes = &invocation->options.band_bytes;
	int result = size_option(invocation, "band-size", text, bytes);

	if (result != 0)
		return result;
	if (*bytes < BAND_MIN_BYTES || *bytes > BAND_MAX_BYTES || (*bytes & (*bytes - 1)) != 0)
		return usage_fail(invocation, "--band-size %s: has to be a power of two, 1M to 64M",
				  text);
	return 0;
}

static int block_option(struct invocation *invocation, const char *text)
{
	uint64_t *bytes = &invocation->options.block_bytes;
	int result = size_option(invocation, "volblocksize", text, bytes);

	if (result == 0 && (*bytes < SZ_VOLUME_BLOCK_MIN || *bytes > SZ_VOLUME_BLOCK_MAX ||
			    (*bytes & (*bytes - 1)) != 0))
		return usage_fail(invocation,
				  "--volblocksize %s: has to be a power of two, 4K to 16M", text);
	return result;
}

static int volume_option(struct invocation *invocation, const char *text)
{
	uint64_t *bytes = &invocation->options.volume_bytes;
	int result = size_option(invocation, "volsize", text, bytes);

	if (result == 0 && (*bytes == 0 || *bytes > SZ_VOLUME_SIZE_MAX))
		return usage_fail(invocation, "--volsize %s: has to be more than 0, and 1E at most",
				  text);
	return result;
}

static int memory_option(struct invocation *invocation, const char *text)
{
	uint64_t *bytes = &invocation->options.memory_bytes;
	int result = size_option(invocation, "memory", text, bytes);

	if (result == 0 && *bytes < MEMORY_MIN_BYTES)
		return usage_fail(invocation, "--memory %s: has to be 128M or more", text);
	return result;
}

/* "30s", "15m", "2h", "1d", "off". */
static int interval_option(struct invocation *invocation, const char *text)
{
	static const struct {
		const char *unit;
		uint64_t seconds;
	} units[] = { { "s", 1 }, { "m", MINUTE_S }, { "h", HOUR_S }, { "d", DAY_S } };
	uint64_t *interval_s = &invocation->options.seal_interval_s;
	char *end;
	unsigned long value;

	*interval_s = 0;
	if (strcmp(text, "off") == 0 || strcmp(text, "0") == 0)
		return 0;
	value = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
	for (size_t i = 0; value > 0 && i < ARRAY_LENGTH(units); i++)
		if (strcmp(end, units[i].unit) == 0 &&
		    value <= SEAL_INTERVAL_MAX_S / units[i].seconds)
			*interval_s = value * units[i].seconds;
	if (*interval_s == 0)
		return usage_fail(invocation,
				  "--seal-interval '%s': has to be a time of at most 7d, like 30s, "
				  "15m or 2h, or off",
				  text);
	return 0;
}

static int number_option(struct invocation *invocation, enum option_id id, const char *text,
			 uint32_t least, uint32_t most, uint32_t *number_out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)text[0]) || *end != '\0' || value < least || value > most)
		return usage_fail(invocation, "--%s '%s': has to be a number, %u to %u",
				  specs[id].name, text, least, most);
	*number_out = (uint32_t)value;
	return 0;
}

/* "25%", or a size. */
static int budget_option(struct invocation *invocation, const char *text)
{
	struct sz_keep_policy *keep = &invocation->options.keep;
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	keep->budget_percent = 0;
	keep->budget_bytes = 0;
	if (isdigit((unsigned char)text[0]) && strcmp(end, "%") == 0 && value <= KEEP_MAX) {
		keep->budget_percent = (uint32_t)value;
		return 0;
	}
	if (size_parse(text, &keep->budget_bytes))
		return 0;
	return usage_fail(
		invocation,
		"--budget '%s': has to be a share of the store of at most %u%%, like 25%%, "
		"or a size like 10G",
		text, KEEP_MAX);
}

bool kdf_parse(const char *text, enum sz_kdf *kdf_out)
{
	static const struct {
		const char *name;
		enum sz_kdf kdf;
	} presets[] = {
		{ "interactive", SZ_KDF_INTERACTIVE },
		{ "moderate", SZ_KDF_MODERATE },
		{ "sensitive", SZ_KDF_SENSITIVE },
	};

	for (size_t i = 0; i < ARRAY_LENGTH(presets); i++) {
		if (strcmp(text, presets[i].name) == 0) {
			*kdf_out = presets[i].kdf;
			return true;
		}
	}
	return false;
}

static int kdf_option(struct invocation *invocation, const char *text)
{
	if (kdf_parse(text, &invocation->options.kdf))
		return 0;
	return usage_fail(invocation, "--kdf '%s': has to be interactive, moderate or sensitive",
			  text);
}

static int property_option(struct invocation *invocation, char *text)
{
	struct options *options = &invocation->options;
	char *equals = strchr(text, '=');
	struct sz_property *grown;

	if (equals == NULL || equals == text || equals[1] == '\0')
		return usage_fail(invocation,
				  "-o '%s': has to be NAME=VALUE, like compression=zstd", text);
	grown = realloc(options->properties, (options->property_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory");
	options->properties = grown;
	*equals = '\0';
	grown[options->property_count++] =
		(struct sz_property){ .name = text, .value = equals + 1 };
	return 0;
}

static int folder_option(struct invocation *invocation, const char *text)
{
	struct options *options = &invocation->options;

	if (options->device_dir_count == SZ_DEVICES_MAX)
		return usage_fail(invocation, "--device-dir: a store has at most %u devices",
				  SZ_DEVICES_MAX);
	options->device_dirs[options->device_dir_count++] = text;
	return 0;
}

static int option_take(struct invocation *invocation, enum option_id id, char *value)
{
	struct options *options = &invocation->options;

	options->given |= 1ULL << id;
	switch ((unsigned int)id) {
	case OPTION_MEMORY:
		return memory_option(invocation, value);
	case OPTION_SIZE:
		return size_option(invocation, "size", value, &options->size_bytes);
	case OPTION_VOLUME_SIZE:
		return volume_option(invocation, value);
	case OPTION_BLOCK_SIZE:
		return block_option(invocation, value);
	case OPTION_BAND_SIZE:
		return band_option(invocation, value);
	case OPTION_SEAL_INTERVAL:
		return interval_option(invocation, value);
	case OPTION_DEVICES:
		return number_option(invocation, id, value, 1, SZ_DEVICES_MAX, &options->devices);
	case OPTION_LAST:
		return number_option(invocation, id, value, 0, KEEP_MAX, &options->keep.last);
	case OPTION_HOURLY:
		return number_option(invocation, id, value, 0, KEEP_MAX, &options->keep.hourly);
	case OPTION_DAILY:
		return number_option(invocation, id, value, 0, KEEP_MAX, &options->keep.daily);
	case OPTION_WEEKLY:
		return number_option(invocation, id, value, 0, KEEP_MAX, &options->keep.weekly);
	case OPTION_MONTHLY:
		return number_option(invocation, id, value, 0, KEEP_MAX, &options->keep.monthly);
	case OPTION_BUDGET:
		return budget_option(invocation, value);
	case OPTION_KDF:
		return kdf_option(invocation, value);
	case OPTION_PROPERTY:
		return property_option(invocation, value);
	case OPTION_DEVICE_DIR:
		return folder_option(invocation, value);
	case OPTION_RAID:
		if (!sz_raid_parse(value, &options->raid))
			return usage_fail(
				invocation,
				"--raid '%s': has to be raidz2, raidz1, raidz3, mirror or stripe",
				value);
		return 0;
	case OPTION_GENERATION:
		options->generation = value;
		return 0;
	case OPTION_DATASET:
		options->dataset = value;
		return 0;
	case OPTION_SNAPSHOT:
		options->snapshot = value;
		return 0;
	case OPTION_CHOOSE:
		options->choose = value;
		return 0;
	case OPTION_SOCKET:
		options->socket = value;
		return 0;
	case OPTION_LISTEN:
		options->listen = value;
		return 0;
	case OPTION_TLS_CERTIFICATES:
		options->tls_certificates = value;
		return 0;
	case OPTION_TLS_PSK:
		options->tls_psk = value;
		return 0;
	case OPTION_PASSPHRASE_FILE:
		options->passphrase_file = value;
		return 0;
	case OPTION_PASSPHRASE_COMMAND:
		options->passphrase_command = value;
		return 0;
	case OPTION_NEW_PASSPHRASE_FILE:
		options->new_passphrase_file = value;
		return 0;
	case OPTION_NEW_PASSPHRASE_COMMAND:
		options->new_passphrase_command = value;
		return 0;
	default:
		return 0; /* a switch: given says it */
	}
}

/* OPTION_COUNT: there is none. */
static enum option_id option_by_name(const char *name, size_t length)
{
	for (unsigned int i = 0; i < OPTION_COUNT; i++)
		if (strlen(specs[i].name) == length && strncmp(specs[i].name, name, length) == 0)
			return (enum option_id)i;
	return OPTION_COUNT;
}

/* A letter may stand for several: those that the command has come first. */
static enum option_id option_by_letter(char letter, const struct command *command)
{
	enum option_id found = OPTION_COUNT;

	if (letter == 'R') /* ls -R, as everybody types it */
		return OPTION_RECURSIVE;
	for (unsigned int i = 0; i < OPTION_COUNT; i++) {
		bool is_known = command != NULL && (command->options >> i & 1) != 0;

		if (specs[i].letter == letter && (found == OPTION_COUNT || is_known))
			found = (enum option_id)i;
	}
	return found;
}

static bool is_one_of(const char *text, const char *const *list)
{
	while (*list != NULL && strcmp(*list, text) != 0)
		list++;
	return *list != NULL;
}

/* One of -o: a flag of the kernel's, one for who mounts, or an option by its long name. */
static int mount_option(struct invocation *invocation, const struct command *command, char *text)
{
	static const char *const kernel[] = { "exec",        "noexec",     "atime",    "noatime",
					      "diratime",    "nodiratime", "relatime", "norelatime",
					      "strictatime", "lazytime",   "sync",     "async",
					      "dirsync",     NULL };
	/* mount(8)'s own, and what is so anyhow. */
	static const char *const ignored[] = { "defaults", "auto",   "noauto", "user",
					       "nouser",   "users",  "owner",  "group",
					       "_netdev",  "nofail", "rw",     "dev",
					       "nodev",    "suid",   "nosuid", NULL };
	uint64_t known = (command != NULL ? command : command_find("mount"))->options &
			 ~(1ULL << OPTION_MOUNT_OPTIONS);
	struct sz_bytes *flags = &invocation->options.mount_flags;
	size_t length = strcspn(text, "=");
	char *value = text[length] == '=' ? text + length + 1 : NULL;
	enum option_id id = OPTION_COUNT;

	if (is_one_of(text, ignored) || strncmp(text, "x-", 2) == 0 ||
	    strncmp(text, "comment=", 8) == 0)
		return 0;
	if (is_one_of(text, kernel)) {
		if ((flags->length > 0 && sz_bytes_append(flags, ",", 1) != 0) ||
		    sz_bytes_append(flags, text, length + 1) != 0)
			return sz_fail(&invocation->error, -ENOMEM, "no memory");
		flags->length--; /* it stays a text */
		return 0;
	}
	if (strcmp(text, "ro") == 0)
		id = OPTION_READ_ONLY;
	else if (strcmp(text, "allow_other") == 0)
		id = OPTION_ALLOW_OTHER;
	else
		id = option_by_name(text, length);
	if (id == OPTION_COUNT || (known >> id & 1) == 0)
		return usage_fail(invocation, "-o: there is no '%.*s'", (int)length, text);
	if (specs[id].argument == NULL && value != NULL)
		return usage_fail(invocation, "-o %s takes no value", specs[id].name);
	if (specs[id].argument != NULL && value == NULL)
		return usage_fail(invocation, "-o %s needs a value", specs[id].name);
	return option_take(invocation, id, value);
}

static int mount_options(struct invocation *invocation, const struct command *command, char *text)
{
	int result = 0;
	char *rest = text;
	char *option;

	while (result == 0 && (option = strsep(&rest, ",")) != NULL)
		if (option[0] != '\0')
			result = mount_option(invocation, command, option);
	return result;
}

static int option_given(struct invocation *invocation, const struct command *command,
			enum option_id id, char *value)
{
	if (id != OPTION_MOUNT_OPTIONS)
		return option_take(invocation, id, value);
	invocation->options.given |= 1ULL << id;
	return mount_options(invocation, command, value);
}

/* "--name", "--name=value", "--name value": *at is moved onto the value if it is apart. */
static int long_option(struct invocation *invocation, int argc, char **argv,
		       const struct command *command, int *at)
{
	char *name = argv[*at] + 2;
	size_t length = strcspn(name, "=");
	char *value = name[length] == '=' ? name + length + 1 : NULL;
	enum option_id id = option_by_name(name, length);

	if (id == OPTION_COUNT)
		return usage_fail(invocation, "there is no option '--%.*s'", (int)length, name);
	if (specs[id].argument == NULL && value != NULL)
		return usage_fail(invocation, "--%s takes no value", specs[id].name);
	if (specs[id].argument != NULL && value == NULL) {
		if (*at + 1 >= argc)
			return usage_fail(invocation, "--%s needs a value: --%s %s", specs[id].name,
					  specs[id].name, specs[id].argument);
		value = argv[++*at];
	}
	return option_given(invocation, command, id, value);
}

/* "-l", "-lR", "-o value", "-ovalue". */
static int short_options(struct invocation *invocation, int argc, char **argv,
			 const struct command *command, int *at)
{
	int result = 0;

	for (char *letter = argv[*at] + 1; result == 0 && *letter != '\0'; letter++) {
		enum option_id id = option_by_letter(*letter, command);

		if (id == OPTION_COUNT)
			return usage_fail(invocation, "there is no option '-%c'", *letter);
		if (specs[id].argument == NULL) {
			result = option_given(invocation, command, id, NULL);
			continue;
		}
		if (letter[1] != '\0')
			return option_given(invocation, command, id, letter + 1);
		if (*at + 1 >= argc)
			return usage_fail(invocation, "-%c needs a value: -%c %s", *letter, *letter,
					  specs[id].argument);
		return option_given(invocation, command, id, argv[++*at]);
	}
	return result;
}

int options_parse(struct invocation *invocation, int argc, char **argv, int *count_out)
{
	const struct command *command = NULL;
	bool ended = false;
	int count = 0;
	int result = 0;

	invocation->options = (struct options){ .devices = 6,
						.raid = SZ_RAID_Z2,
						.seal_interval_s = SEAL_INTERVAL_S };
	for (int i = 1; result == 0 && i < argc; i++) {
		if (ended || argv[i][0] != '-' || argv[i][1] == '\0') {
			argv[1 + count++] = argv[i];
			if (count == 1)
				command = command_find(argv[1]);
		} else if (strcmp(argv[i], "--") == 0)
			ended = true;
		else if (argv[i][1] == '-')
			result = long_option(invocation, argc, argv, command, &i);
		else
			result = short_options(invocation, argc, argv, command, &i);
	}
	*count_out = count;
	return result;
}

void options_free(struct options *options)
{
	free(options->properties);
	sz_bytes_free(&options->mount_flags);
}
