/*
 * generations, check-copy: which generations there are, which of them are whole, and what opening would take.
 * Nothing is opened, nothing is written.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static const char *const states[] = {
	[SZ_COMPLETE] = "complete",
	[SZ_RECOVERABLE] = "can be repaired",
	[SZ_INCOMPLETE] = "incomplete",
};

static json_t *generation_json(const struct sz_generation *generation)
{
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:b, s:b, s:b, s:b}",
			 "generation", (json_int_t)generation->generation, "code", generation->code,
			 "wall_time_ns", (json_int_t)generation->wall_time_ns, "changed_bytes",
			 (json_int_t)generation->changed_bytes, "stored_bytes",
			 (json_int_t)generation->stored_bytes, "objects",
			 (json_int_t)generation->object_count, "state",
			 states[generation->wholeness], "missing", generation->missing, "is_chosen",
			 generation->is_chosen, "is_head", generation->is_head, "is_ancestor",
			 generation->is_ancestor, "is_recovered", generation->is_recovered);
}

static json_t *check_json(const struct sz_check *check)
{
	json_t *generations = json_array();

	for (size_t i = 0; i < check->count; i++)
		(void)json_array_append_new(generations, generation_json(&check->generations[i]));
	return json_pack("{s:s, s:s, s:b, s:b, s:s, s:I, s:I, s:o}", "chosen", check->chosen_text,
			 "aside", check->aside_text, "can_be_read", check->read_code == 0,
			 "can_be_written", check->write_code == 0, "refusal", check->refusal,
			 "histories", (json_int_t)check->histories, "lost_roots",
			 (json_int_t)check->lost_roots, "generations", generations);
}

static void generation_print(const struct sz_generation *generation)
{
	char time[TIME_TEXT_BYTES];
	char changed[SIZE_TEXT_BYTES];

	time_text(generation->wall_time_ns / 1000000000, time);
	size_text(generation->changed_bytes, changed);
	(void)fprintf(console_out(), "%-*s  %s  %8s %8" PRIu64 "  %s%s%s%s%s\n", CODE_WIDTH,
		      generation->code, time, changed, generation->object_count,
		      states[generation->wholeness],
		      generation->missing[0] != '\0' ? ": missing " : "", generation->missing,
		      generation->is_ancestor ? "" : ", not of the chosen history",
		      generation->is_recovered ? ", recovered" : "");
}

static void generations_print(const struct sz_check *check)
{
	(void)fprintf(console_out(), "%-*s  %-19s  %8s %8s  %s\n", CODE_WIDTH, "CODE", "TIME",
		      "CHANGED", "OBJECTS", "STATE");
	for (size_t i = 0; i < check->count; i++)
		generation_print(&check->generations[i]);
	if (check->lost_roots > 0)
		(void)fprintf(console_out(), "%zu more, whose roots cannot be read\n",
			      check->lost_roots);
}

int cmd_generations(struct invocation *invocation)
{
	CLEANUP(sz_check_free) struct sz_check check = { 0 };
	int result = session_check(invocation, false, &check);

	if (result != 0)
		return result;
	if (option_is_given(invocation, OPTION_JSON))
		return json_print(check_json(&check), &invocation->error);
	generations_print(&check);
	return 0;
}

static void check_print(const struct sz_check *check)
{
	size_t complete = 0;

	for (size_t i = 0; i < check->count; i++)
		complete += check->generations[i].wholeness == SZ_COMPLETE ? 1 : 0;
	(void)fprintf(console_out(), "generations: %zu, of which %zu are complete\n", check->count,
		      complete);
	if (check->read_code == 0)
		(void)fprintf(console_out(), "  opened is: %s\n", check->chosen_text);
	if (check->aside_text[0] != '\0')
		(void)fprintf(console_out(), "  set aside: %s\n", check->aside_text);
	(void)fprintf(console_out(), " written to: %s\n",
		      check->write_code == 0 ? "yes" : check->refusal);
}

/* Is the newest generation opened, and all of it there? */
static bool is_whole(const struct sz_check *check)
{
	for (size_t i = 0; i < check->count; i++)
		if (check->generations[i].is_chosen)
			return check->generations[i].is_head &&
			       check->generations[i].wholeness == SZ_COMPLETE;
	return false;
}

int cmd_check_copy(struct invocation *invocation)
{
	CLEANUP(sz_check_free) struct sz_check check = { 0 };
	int result = session_check(invocation, true, &check);

	if (result != 0)
		return result;
	if (option_is_given(invocation, OPTION_JSON))
		result = json_print(check_json(&check), &invocation->error);
	else
		check_print(&check);
	if (result == 0 && check.histories > 1)
		return sz_fail(&invocation->error, -ESTALE, "%s: there are %zu histories in it",
			       invocation->operands[0], check.histories);
	if (result == 0 && !is_whole(&check))
		return sz_fail(&invocation->error, -EBADMSG,
			       "%s: not all of the newest generation is there",
			       invocation->operands[0]);
	return result;
}
