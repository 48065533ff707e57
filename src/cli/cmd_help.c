/*
 * help: made from the tables alone. --json writes the tables themselves, by which the manual pages
 * and completions are checked.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

static bool has_option(const struct command *command, unsigned int id)
{
	return (command->options >> id & 1) != 0;
}

static void option_print(const struct option_spec *spec)
{
	char left[40];

	(void)snprintf(left, sizeof(left), "%s%c%s--%s%s%s", spec->letter != 0 ? "-" : "  ",
		       spec->letter != 0 ? spec->letter : ' ', spec->letter != 0 ? ", " : " ",
		       spec->name, spec->argument != NULL ? " " : "",
		       spec->argument != NULL ? spec->argument : "");
	(void)fprintf(console_out(), "  %-34s %s\n", left, spec->summary);
}

static void command_print(const struct command *command)
{
	(void)fprintf(console_out(), "szpool %s: %s\n\nUsage: szpool %s [OPTION...] %s\n\n",
		      command->name, command->summary, command->name, command->operands);
	for (unsigned int i = 0; i < OPTION_COUNT; i++)
		if (has_option(command, i))
			option_print(option_spec((enum option_id)i));
	(void)fprintf(console_out(), "\nManual: man szpool-%s, man szpool\n", command->name);
}

static void overview_print(void)
{
	const struct command *command;
	const struct exit_meaning *meaning;
	int width = 0;

	for (size_t i = 0; (command = command_at(i)) != NULL; i++) {
		int length = (int)(strlen(command->name) + 1 + strlen(command->operands));

		width = length > width ? length : width;
	}
	line_out("szpool: a ZFS pool in a folder\n\n"
		 "Usage: szpool COMMAND [OPTION...] OPERAND...\n");
	for (size_t i = 0; (command = command_at(i)) != NULL; i++)
		(void)fprintf(console_out(), "  %s %-*s  %s\n", command->name,
			      width - (int)strlen(command->name) - 1, command->operands,
			      command->summary);
	line_out(
		"\nSTORE is the folder that create made, or a copy of it. PATH begins with '/', the "
		"pool's\nroot folder. 'szpool help COMMAND' lists a command's options.\n\n"
		"The passphrase comes from --passphrase-file, --passphrase-command, the file that\n"
		"SZPOOL_PASSPHRASE_FILE names, or is asked for at the terminal.\n\n"
		"Exit codes:");
	for (size_t i = 0; (meaning = exit_meaning_at(i)) != NULL; i++)
		(void)fprintf(console_out(), "  %3d  %s\n", meaning->code, meaning->meaning);
}

static json_t *command_json(const struct command *command)
{
	json_t *options = json_array();

	for (unsigned int i = 0; i < OPTION_COUNT; i++) {
		const struct option_spec *spec = option_spec((enum option_id)i);
		char letter[2] = { spec->letter, '\0' };

		if (has_option(command, i))
			(void)json_array_append_new(
				options, json_pack("{s:s, s:s, s:s?, s:s}", "name", spec->name,
						   "letter", letter, "argument", spec->argument,
						   "summary", spec->summary));
	}
	return json_pack("{s:s, s:s, s:s, s:o}", "name", command->name, "operands",
			 command->operands, "summary", command->summary, "options", options);
}

static json_t *tables_json(void)
{
	const struct command *command;
	const struct exit_meaning *meaning;
	json_t *commands = json_array();
	json_t *meanings = json_array();

	for (size_t i = 0; (command = command_at(i)) != NULL; i++)
		(void)json_array_append_new(commands, command_json(command));
	for (size_t i = 0; (meaning = exit_meaning_at(i)) != NULL; i++)
		(void)json_array_append_new(meanings, json_pack("{s:i, s:s}", "code", meaning->code,
								"meaning", meaning->meaning));
	return json_pack("{s:o, s:o}", "commands", commands, "exit_codes", meanings);
}

int cmd_help(struct invocation *invocation)
{
	const struct command *command;

	if (option_is_given(invocation, OPTION_JSON))
		return json_print(tables_json(), &invocation->error);
	if (invocation->count == 0) {
		overview_print();
		return 0;
	}
	command = command_find(invocation->operands[0]);
	if (command == NULL)
		return usage_fail(invocation, "there is no command '%s'", invocation->operands[0]);
	command_print(command);
	return 0;
}
