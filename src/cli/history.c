/* history: what status and info say of it: how long a copy may take, what it costs, what is foreign. */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define SECOND_NS 1000000000ULL

bool history_find(struct session *session, struct sz_history_info *history_out)
{
	*history_out = (struct sz_history_info){ 0 };
	if (sz_store_is_volatile(session->store)) /* an old generation: nothing comes of it */
		return false;
	sz_store_history_info(session->store, history_out);
	return true;
}

static void line(const char *label, int width, const char *text)
{
	(void)fprintf(console_out(), "%*s: %s\n", width, label, text);
}

void history_print(struct invocation *invocation, const struct sz_history_info *history, int width)
{
	const char *store = invocation->operands[0];
	char span[SPAN_TEXT_BYTES];
	char bytes[SIZE_TEXT_BYTES];
	char budget[SIZE_TEXT_BYTES];

	if (history->generations > 0) {
		span_text(history->copy_ns / SECOND_NS, span);
		(void)fprintf(console_out(), "%*s: may take %s, and is whole at its end\n", width,
			      "copy", span);
		size_text(history->history_bytes, bytes);
		size_text(history->budget_bytes, budget);
		(void)fprintf(console_out(), "%*s: %s of at most %s, in %" PRIu64 " generation%s\n",
			      width, "history", bytes, budget, history->generations,
			      history->generations == 1 ? "" : "s");
	}
	if (history->problem[0] != '\0')
		line("problem", width, history->problem);
	if (history->problem[0] != '\0')
		(void)fprintf(console_out(),
			      "%*s  until then nothing is removed; bring the files back from "
			      "another copy, or\n%*s  see 'szpool discard --dry-run %s'\n",
			      width, "", width, "", store);
	if (history->foreign_objects > 0 && history->is_undecided) {
		size_text(history->foreign_bytes, bytes);
		(void)fprintf(console_out(),
			      "%*s: %" PRIu64 " objects of generations beside this one, %s; see "
			      "'szpool generations %s'\n",
			      width, "beside", history->foreign_objects, bytes, store);
	} else if (history->foreign_objects > 0) {
		size_text(history->foreign_bytes, bytes);
		(void)fprintf(console_out(),
			      "%*s: %" PRIu64 " objects of other histories, %s; 'szpool discard "
			      "%s' removes them\n",
			      width, "foreign", history->foreign_objects, bytes, store);
	}
}

json_t *history_json(const struct sz_history_info *history)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s}", "generations",
			 (json_int_t)history->generations, "complete",
			 (json_int_t)history->complete, "history_bytes",
			 (json_int_t)history->history_bytes, "budget_bytes",
			 (json_int_t)history->budget_bytes, "copy_s",
			 (json_int_t)(history->copy_ns / SECOND_NS), "foreign_objects",
			 (json_int_t)history->foreign_objects, "foreign_bytes",
			 (json_int_t)history->foreign_bytes, "is_undecided", history->is_undecided,
			 "problem", history->problem);
}
