/* info: what the store is, and its sizes: virtual, stored on disk, used in the pool. */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static json_t *info_json(struct session *session, const struct sz_store_info *info,
			 const struct sz_pool_space *space)
{
	struct sz_history_info history;
	bool has_history = history_find(session, &history);
	json_t *devices = json_array();
	char id[2 * sizeof(info->store_id) + 1];

	sz_hex_encode(info->store_id, sizeof(info->store_id), id);
	for (uint32_t i = 0; i < info->device_count; i++) {
		const struct sz_device *device = sz_store_device(session->store, i);
		uint64_t size_bytes = sz_device_sectors(device) * SZ_SECTOR_BYTES;

		(void)json_array_append_new(devices,
					    json_pack("{s:i, s:o, s:I}", "device", (int)i, "folder",
						      json_name(sz_device_folder(device)),
						      "size_bytes", (json_int_t)size_bytes));
	}
	return json_pack(
		"{s:s, s:i, s:i, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:b, "
		"s:s, s:o, s:o}",
		"store_id", id, "format_version", (int)info->format_version, "parity",
		(int)info->parity, "band_bytes", (json_int_t)info->band_sectors * SZ_SECTOR_BYTES,
		"generation", (json_int_t)info->generation, "code", info->code, "sealed_wall_ns",
		(json_int_t)info->sealed_wall_ns, "virtual_bytes", (json_int_t)info->virtual_bytes,
		"stored_bytes", (json_int_t)info->stored_bytes, "objects",
		(json_int_t)info->object_count, "deltas", (json_int_t)info->delta_count,
		"data_bytes", (json_int_t)info->data_bytes, "dead_bytes",
		(json_int_t)info->dead_bytes, "compacted_bytes", (json_int_t)info->compacted_bytes,
		"host_free_bytes", (json_int_t)info->host_free_bytes, "used_bytes",
		session->pool != NULL ? json_integer((json_int_t)space->used_bytes) : json_null(),
		"recovered", info->recovered, "recovery", info->recovery_text, "devices", devices,
		"history", has_history ? history_json(&history) : json_null());
}

static void size_line(const char *what, uint64_t bytes, const char *note)
{
	char text[SIZE_TEXT_BYTES];

	size_text(bytes, text);
	(void)fprintf(console_out(), "%12s: %s%s\n", what, text, note);
}

static void info_text(struct invocation *invocation, struct session *session,
		      const struct sz_store_info *info, const struct sz_pool_space *space)
{
	char id[2 * sizeof(info->store_id) + 1];
	char sealed[TIME_TEXT_BYTES];
	struct sz_opening opening;
	struct sz_history_info history;

	sz_store_opening(session->store, &opening);
	sz_hex_encode(info->store_id, sizeof(info->store_id), id);
	time_text(info->sealed_wall_ns / 1000000000, sealed);
	(void)fprintf(console_out(), "%12s: %s\n", "store", id);
	(void)fprintf(console_out(), "%12s: %u\n", "format", info->format_version);
	(void)fprintf(console_out(), "%12s: %" PRIu64 ", sealed %s\n", "generation",
		      info->generation, sealed);
	(void)fprintf(console_out(), "%12s: %s\n", "code", info->code);
	(void)fprintf(console_out(), "%12s: %s\n", "opened", opening.chosen);
	if (opening.aside[0] != '\0')
		(void)fprintf(console_out(), "%12s: %s\n", "set aside", opening.aside);
	if (info->recovered)
		(void)fprintf(console_out(), "%12s: %s\n", "recovered", info->recovery_text);
	(void)fprintf(console_out(), "%12s: %u, of which %u may be lost\n", "devices",
		      info->device_count, info->parity);
	size_line("virtual", info->virtual_bytes, " (all devices)");
	(void)fprintf(console_out(), "%12s: %" PRIu64 "\n", "objects", info->object_count);
	(void)fprintf(console_out(), "%12s: %" PRIu64 " (the most of a device)\n", "deltas",
		      info->delta_count);
	size_line("stored", info->stored_bytes, " (on disk)");
	size_line("superseded", info->dead_bytes, " (compaction frees it)");
	if (session->pool != NULL)
		size_line("used", space->used_bytes, " (in the pool)");
	else
		(void)fprintf(console_out(), "%12s: %s%s\n", "pool",
			      serve_folder()[0] != '\0' ? "not open; the devices are attached at "
							: "none",
			      serve_folder());
	size_line("band", (uint64_t)info->band_sectors * SZ_SECTOR_BYTES, "");
	size_line("free on disk", info->host_free_bytes, "");
	if (history_find(session, &history))
		history_print(invocation, &history, 12);
	for (uint32_t i = 0; i < info->device_count; i++) {
		const char *folder = sz_device_folder(sz_store_device(session->store, i));

		(void)fprintf(console_out(), "%10s %u: ", "device", i);
		name_print(folder[0] != '\0' ? folder : "missing");
		(void)fputc('\n', console_out());
	}
}

int cmd_info(struct invocation *invocation)
{
	struct session session;
	struct sz_store_info info;
	struct sz_pool_space space = { 0 };
	int result = session_open(invocation, true, SESSION_POOL_IF_ANY, &session);

	if (result != 0)
		return result;
	if (session.pool != NULL)
		result = sz_pool_space(session.pool, &space);
	if (result != 0)
		(void)sz_fail(&invocation->error, result, "the pool's space is not to be had");
	sz_store_info(session.store, &info);
	if (result == 0 && option_is_given(invocation, OPTION_JSON))
		result = json_print(info_json(&session, &info, &space), &invocation->error);
	else if (result == 0)
		info_text(invocation, &session, &info, &space);
	return session_close(invocation, &session, result);
}
