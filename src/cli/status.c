/* status: the pool's state in zpool-status terms, and the damage that the store has met; as text or JSON. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define NAME_WIDTH  24
#define STATE_WIDTH 9
#define TEXT_WIDTH  76U /* lines of status and action are folded here */

/* What status and scrub tell, gathered before anything is printed. */
struct report {
	const char *attached; /* where the devices are, "": nowhere */
	char *nbd;            /* where network block devices are served; NULL: nowhere */
	unsigned int nbd_clients;
	bool has_pool;
	struct sz_pool_status pool; /* without one: the devices */
	struct sz_opening opening;
	bool has_history;
	struct sz_history_info history;
	uint64_t seal_interval_s;
	char seal_problem[SEALER_TEXT_BYTES];
	struct sz_damage *damages;
	size_t damage_count;
	size_t damage_capacity;
	char **errors; /* paths, or objects that have none */
	size_t error_count;
	size_t error_capacity;
};

static int damage_add(void *context, const struct sz_damage *damage)
{
	struct report *report = context;
	struct sz_damage *grown = array_room(report->damages, report->damage_count,
					     &report->damage_capacity, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	report->damages = grown;
	report->damages[report->damage_count++] = *damage;
	return 0;
}

static int error_add(void *context, const char *text)
{
	struct report *report = context;
	char **grown = array_room(report->errors, report->error_count, &report->error_capacity,
				  sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	report->errors = grown;
	report->errors[report->error_count] = strdup(text);
	return report->errors[report->error_count++] == NULL ? -ENOMEM : 0;
}

static int object_add(void *context, uint64_t dataset, uint64_t object)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "<0x%" PRIx64 ">:<0x%" PRIx64 ">", dataset, object);
	return error_add(context, text);
}

/* By path, or, if the file system itself does not open, by number. */
static int errors_find(struct session *session, struct report *report)
{
	struct sz_error ignored = { 0 };
	struct sz_fs *fs;
	int result;

	if (sz_fs_open(session->pool, NULL, true, &fs, &ignored) != 0)
		return sz_pool_data_error_each(session->pool, object_add, report);
	result = sz_fs_damaged_each(fs, error_add, report);
	sz_fs_close(fs);
	return result;
}

/* The devices, as a pool's status has its leaves. */
static int devices_report(struct session *session, struct sz_pool_status *status)
{
	uint32_t count = sz_store_device_count(session->store);
	bool is_whole = true;

	status->vdevs = calloc(count, sizeof(*status->vdevs));
	if (status->vdevs == NULL)
		return -ENOMEM;
	status->vdev_count = count;
	for (uint32_t i = 0; i < count; i++) {
		const struct sz_device *device = sz_store_device(session->store, i);
		enum sz_device_state state = sz_device_state(device);
		struct sz_vdev_status *vdev = &status->vdevs[i];

		vdev->is_leaf = true;
		vdev->device = i;
		vdev->size_bytes = sz_device_sectors(device) * SZ_SECTOR_BYTES;
		(void)snprintf(vdev->name, sizeof(vdev->name), "device %u", i);
		(void)snprintf(vdev->state, sizeof(vdev->state), "%s",
			       state == SZ_DEVICE_ONLINE    ? "ONLINE"
			       : state == SZ_DEVICE_MISSING ? "MISSING"
							    : "FAILED");
		if (state == SZ_DEVICE_FAILED)
			(void)snprintf(
				vdev->note, sizeof(vdev->note),
				"its disk has failed; nothing works until it is attached anew");
		is_whole = is_whole && state == SZ_DEVICE_ONLINE;
	}
	(void)snprintf(status->state, sizeof(status->state), "%s",
		       is_whole ? "ONLINE" : "DEGRADED");
	return 0;
}

static int report_make(struct session *session, struct report *report, struct sz_error *error)
{
	int result = session->pool != NULL ? sz_pool_status(session->pool, &report->pool, error)
					   : devices_report(session, &report->pool);

	report->has_pool = session->pool != NULL;
	report->attached = report->has_pool ? "" : serve_folder();
	report->nbd = nbd_uri(&report->nbd_clients);

	sz_store_opening(session->store, &report->opening);
	report->has_history = history_find(session, &report->history);
	sealer_tell(session->sealer, &report->seal_interval_s, report->seal_problem);
	if (result != 0)
		return result;
	result = sz_store_damage_each(session->store, damage_add, report);
	if (result == 0 && report->pool.data_errors > 0)
		result = errors_find(session, report);
	return result == 0 ? 0 : sz_fail(error, result, "the list of errors is not to be had");
}

static void report_free(struct report *report)
{
	sz_pool_status_free(&report->pool);
	free(report->nbd);
	free(report->damages);
	while (report->error_count > 0)
		free(report->errors[--report->error_count]);
	free(report->errors);
}

/* "label: text", folded at spaces; further lines are indented, as zpool status does it. */
static void folded_print(const char *label, const char *text)
{
	(void)fprintf(console_out(), "%s: ", label);
	for (;;) {
		size_t length = strlen(text);

		if (length > TEXT_WIDTH) {
			length = TEXT_WIDTH;
			while (length > 0 && text[length] != ' ')
				length--;
		}
		if (length == 0) /* a word that is longer than a line */
			length = strlen(text);
		(void)fprintf(console_out(), "%.*s\n", (int)length, text);
		text += length;
		text += strspn(text, " ");
		if (*text == '\0')
			return;
		(void)fputc('\t', console_out());
	}
}

static const char *scan_kind(const struct sz_scan_status *scan)
{
	return scan->kind == SZ_SCAN_SCRUB      ? "scrub"
	       : scan->kind == SZ_SCAN_RESILVER ? "resilver"
						: "none";
}

static void scan_print(const struct sz_scan_status *scan)
{
	char repaired[SIZE_TEXT_BYTES];
	char issued[SIZE_TEXT_BYTES];
	char total[SIZE_TEXT_BYTES];
	char when[TIME_TEXT_BYTES];
	uint64_t seconds = scan->end_wall_s - scan->start_wall_s;

	size_text(scan->repaired_bytes, repaired);
	size_text(scan->issued_bytes, issued);
	size_text(scan->total_bytes, total);
	if (scan->kind == SZ_SCAN_NONE) {
		line_out("  scan: none requested");
	} else if (scan->state == SZ_SCAN_RUNNING) {
		time_text(scan->start_wall_s, when);
		(void)fprintf(console_out(),
			      "  scan: %s in progress since %s\n\t%s issued of %s, %s repaired\n",
			      scan_kind(scan), when, issued, total, repaired);
	} else if (scan->state == SZ_SCAN_CANCELED) {
		time_text(scan->end_wall_s, when);
		(void)fprintf(console_out(), "  scan: %s canceled on %s\n", scan_kind(scan), when);
	} else {
		time_text(scan->end_wall_s, when);
		(void)fprintf(console_out(),
			      "  scan: %s %s in %02" PRIu64 ":%02u:%02u with %" PRIu64
			      " errors on %s\n",
			      scan->kind == SZ_SCAN_SCRUB ? "scrub repaired" : "resilvered",
			      repaired, seconds / 3600, (unsigned int)(seconds / 60 % 60),
			      (unsigned int)(seconds % 60), scan->errors, when);
	}
}

static void damage_print(const struct sz_damage *damage)
{
	(void)fputc('\t', console_out());
	if (damage->device != SZ_DAMAGE_NO_DEVICE)
		(void)fprintf(console_out(), "device %u: ", damage->device);
	(void)fprintf(console_out(), "%s: %s", damage->object, damage->text);
	if (damage->sectors > 0)
		(void)fprintf(console_out(), " (sectors: %" PRIu64 ")", damage->sectors);
	(void)fputc('\n', console_out());
}

static void text_print(struct invocation *invocation, const struct report *report)
{
	const struct sz_pool_status *pool = &report->pool;

	if (report->has_pool)
		(void)fprintf(console_out(), "  pool: %s\n state: ", SZ_POOL_NAME);
	else if (report->attached[0] != '\0')
		(void)fprintf(console_out(),
			      "  pool: not open; the devices are attached at %s\n state: ",
			      report->attached);
	else if (report->nbd != NULL)
		(void)fprintf(console_out(), "  pool: not open\n state: ");
	else
		(void)fprintf(
			console_out(),
			"  pool: none; 'szpool attach %s FOLDER' shows the devices as files\n state: ",
			invocation->operands[0]);
	state_print(pool->state, 0);
	(void)fputc('\n', console_out());
	if (pool->status_text[0] != '\0') {
		folded_print("status", pool->status_text);
		folded_print("action", pool->action_text);
	}
	if (report->opening.is_notable)
		folded_print("opened", report->opening.chosen);
	if (report->opening.is_notable && report->opening.aside[0] != '\0')
		folded_print(" aside", report->opening.aside);
	if (report->has_pool)
		scan_print(&pool->scan);
	if (report->nbd != NULL)
		(void)fprintf(console_out(), "   nbd: %s (clients: %u)\n", report->nbd,
			      report->nbd_clients);
	if (report->seal_problem[0] != '\0')
		(void)fprintf(console_out(), "  seal: failed, and is tried again\n\t%s\n",
			      report->seal_problem);
	if (report->has_history)
		history_print(invocation, &report->history, 6);
	(void)fprintf(console_out(), "config:\n\n\t%-*s %-*s %5s %5s %5s\n", NAME_WIDTH, "NAME",
		      STATE_WIDTH, "STATE", "READ", "WRITE", "CKSUM");
	for (size_t i = 0; i < pool->vdev_count; i++) {
		const struct sz_vdev_status *vdev = &pool->vdevs[i];
		int indent = (int)(2 * vdev->depth);

		(void)fprintf(console_out(), "\t%*s%-*s ", indent, "", NAME_WIDTH - indent,
			      vdev->name);
		state_print(vdev->state, STATE_WIDTH);
		(void)fprintf(console_out(), " %5" PRIu64 " %5" PRIu64 " %5" PRIu64 "%s%s\n",
			      vdev->read_errors, vdev->write_errors, vdev->checksum_errors,
			      vdev->note[0] != '\0' ? "  " : "", vdev->note);
	}
	if (report->damage_count > 0)
		line_out("\ndamage in the store:\n");
	for (size_t i = 0; i < report->damage_count; i++)
		damage_print(&report->damages[i]);
	if (!report->has_pool)
		return;
	if (pool->data_errors == 0)
		line_out("\nerrors: No known data errors");
	else
		line_out("\nerrors: Permanent errors have been detected in these files:\n");
	for (size_t i = 0; i < report->error_count; i++) {
		(void)fputc('\t', console_out());
		name_print(report->errors[i]);
		(void)fputc('\n', console_out());
	}
}

static json_t *scan_json(const struct sz_scan_status *scan)
{
	static const char *const states[] = { "idle", "running", "finished", "canceled" };

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "kind",
			 scan_kind(scan), "state", states[scan->state], "start_wall_s",
			 (json_int_t)scan->start_wall_s, "end_wall_s", (json_int_t)scan->end_wall_s,
			 "examined_bytes", (json_int_t)scan->examined_bytes, "issued_bytes",
			 (json_int_t)scan->issued_bytes, "total_bytes",
			 (json_int_t)scan->total_bytes, "repaired_bytes",
			 (json_int_t)scan->repaired_bytes, "errors", (json_int_t)scan->errors,
			 "resilver_needed", scan->resilver_needed);
}

static json_t *vdev_json(const struct sz_vdev_status *vdev)
{
	json_t *value = json_pack(
		"{s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "name", vdev->name, "depth",
		(int)vdev->depth, "state", vdev->state, "note", vdev->note, "read_errors",
		(json_int_t)vdev->read_errors, "write_errors", (json_int_t)vdev->write_errors,
		"checksum_errors", (json_int_t)vdev->checksum_errors, "size_bytes",
		(json_int_t)vdev->size_bytes, "allocated_bytes", (json_int_t)vdev->allocated_bytes);

	if (value != NULL && vdev->is_leaf)
		(void)json_object_set_new(value, "device", json_integer(vdev->device));
	return value;
}

static json_t *damage_json(const struct sz_damage *damage)
{
	return json_pack("{s:o, s:s, s:s, s:I}", "device",
			 damage->device == SZ_DAMAGE_NO_DEVICE ? json_null()
							       : json_integer(damage->device),
			 "object", damage->object, "text", damage->text, "sectors",
			 (json_int_t)damage->sectors);
}

static json_t *report_json(const struct report *report)
{
	const struct sz_pool_status *pool = &report->pool;
	json_t *vdevs = json_array();
	json_t *damages = json_array();
	json_t *errors = json_array();

	for (size_t i = 0; i < pool->vdev_count; i++)
		(void)json_array_append_new(vdevs, vdev_json(&pool->vdevs[i]));
	for (size_t i = 0; i < report->damage_count; i++)
		(void)json_array_append_new(damages, damage_json(&report->damages[i]));
	for (size_t i = 0; i < report->error_count; i++)
		(void)json_array_append_new(errors, json_name(report->errors[i]));
	return json_pack(
		"{s:s?, s:s?, s:s?, s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:o, s:{s:s, s:s, s:b}, s:{s:I, s:s}, s:o}",
		"pool", report->has_pool ? SZ_POOL_NAME : NULL, "attached",
		report->attached[0] != '\0' ? report->attached : NULL, "nbd", report->nbd, "state",
		pool->state, "status", pool->status_text, "action", pool->action_text, "scan",
		report->has_pool ? scan_json(&pool->scan) : json_null(), "config", vdevs,
		"data_errors", (json_int_t)pool->data_errors, "errors", errors, "damage", damages,
		"opening", "chosen", report->opening.chosen, "aside", report->opening.aside,
		"is_notable", report->opening.is_notable, "sealing", "interval_s",
		(json_int_t)report->seal_interval_s, "problem", report->seal_problem, "history",
		report->has_history ? history_json(&report->history) : json_null());
}

int status_print(struct invocation *invocation, struct session *session, bool *is_intact_out,
		 bool *is_healthy_out)
{
	struct report report = { 0 };
	int result = report_make(session, &report, &invocation->error);

	if (result == 0 && option_is_given(invocation, OPTION_JSON))
		result = json_print(report_json(&report), &invocation->error);
	else if (result == 0)
		text_print(invocation, &report);
	*is_intact_out =
		report.pool.data_errors == 0 && (strcmp(report.pool.state, "ONLINE") == 0 ||
						 strcmp(report.pool.state, "DEGRADED") == 0);
	*is_healthy_out = *is_intact_out && report.pool.status_text[0] == '\0' &&
			  strcmp(report.pool.state, "ONLINE") == 0 && report.damage_count == 0 &&
			  report.seal_problem[0] == '\0' && report.history.problem[0] == '\0';
	report_free(&report);
	return result;
}
