/*
 * discard: what lies in the store's folders and belongs to other histories: listed, and removed for good with the
 * user's consent. Nothing else ever removes it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

struct listing {
	struct sz_foreign *foreign;
	size_t count;
	size_t capacity;
	uint64_t objects;
	uint64_t bytes;
};

static int foreign_add(void *context, const struct sz_foreign *foreign)
{
	struct listing *listing = context;
	struct sz_foreign *grown =
		array_room(listing->foreign, listing->count, &listing->capacity, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	listing->foreign = grown;
	listing->foreign[listing->count++] = *foreign;
	listing->objects += foreign->objects;
	listing->bytes += foreign->bytes;
	return 0;
}

static void listing_free(struct listing *listing)
{
	free(listing->foreign);
}

static int json_show(struct invocation *invocation, const struct listing *listing, bool removed)
{
	json_t *foreign = json_array();

	for (size_t i = 0; i < listing->count; i++) {
		const struct sz_foreign *one = &listing->foreign[i];

		(void)json_array_append_new(
			foreign,
			json_pack("{s:I, s:s, s:b, s:I, s:I, s:I}", "generation",
				  (json_int_t)one->generation, "code", one->code, "is_ours",
				  one->is_ours, "sealed_wall_ns", (json_int_t)one->sealed_wall_ns,
				  "objects", (json_int_t)one->objects, "bytes",
				  (json_int_t)one->bytes));
	}
	return json_print(json_pack("{s:o, s:I, s:I, s:b}", "foreign", foreign, "objects",
				    (json_int_t)listing->objects, "bytes",
				    (json_int_t)listing->bytes, "removed", removed),
			  &invocation->error);
}

static void foreign_print(const struct sz_foreign *foreign)
{
	char name[64];
	char sealed[TIME_TEXT_BYTES] = "?";
	char bytes[SIZE_TEXT_BYTES];

	size_text(foreign->bytes, bytes);
	if (foreign->code[0] != '\0')
		time_text(foreign->sealed_wall_ns / 1000000000, sealed);
	if (foreign->generation == 0)
		(void)snprintf(name, sizeof(name), "of no generation");
	else if (foreign->code[0] == '\0')
		(void)snprintf(name, sizeof(name), "%" PRIu64 ", an unreadable root",
			       foreign->generation);
	else
		(void)snprintf(name, sizeof(name), "%s%s", foreign->code,
			       foreign->is_ours ? ", its index lost" : "");
	(void)fprintf(console_out(), "%-*s  %-19s  %8" PRIu64 "  %8s\n", CODE_WIDTH, name, sealed,
		      foreign->objects, bytes);
}

static void text_show(const struct listing *listing)
{
	if (listing->count == 0) {
		line_out("nothing here is of another history");
		return;
	}
	(void)fprintf(console_out(), "%-*s  %-19s  %8s  %8s\n", CODE_WIDTH, "CODE", "TIME",
		      "OBJECTS", "SIZE");
	for (size_t i = 0; i < listing->count; i++)
		foreign_print(&listing->foreign[i]);
}

static int discard(struct invocation *invocation, struct session *session,
		   const struct listing *listing)
{
	char question[96];
	char bytes[SIZE_TEXT_BYTES];
	int result;

	size_text(listing->bytes, bytes);
	(void)snprintf(question, sizeof(question), "remove %" PRIu64 " objects for good, %s?",
		       listing->objects, bytes);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	result = sz_store_discard(session->store, &invocation->error);
	return result != 0 ? store_fail(invocation, result) : 0;
}

int cmd_discard(struct invocation *invocation)
{
	bool is_dry = option_is_given(invocation, OPTION_DRY_RUN);
	bool is_json = option_is_given(invocation, OPTION_JSON);
	CLEANUP(listing_free) struct listing listing = { 0 };
	char bytes[SIZE_TEXT_BYTES];
	struct session session;
	bool removes;
	int result = session_open(invocation, is_dry, SESSION_STORE, &session);

	if (result != 0)
		return result;
	result = sz_store_foreign_each(session.store, foreign_add, &listing, &invocation->error);
	if (result != 0)
		(void)store_fail(invocation, result);
	removes = result == 0 && !is_dry && listing.objects > 0;
	if (result == 0 && !is_json)
		text_show(&listing);
	if (removes)
		result = discard(invocation, &session, &listing);
	result = session_close(invocation, &session, result);
	if (result != 0)
		return result;
	if (is_json)
		return json_show(invocation, &listing, removes);
	size_text(listing.bytes, bytes);
	if (listing.count > 0)
		(void)fprintf(console_out(), "\n%s: %" PRIu64 " objects, %s\n",
			      removes ? "removed" : "would be removed", listing.objects, bytes);
	return 0;
}
