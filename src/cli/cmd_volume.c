/* create-volume, destroy-volume, volumes: block devices in the pool, which 'szpool nbd' serves. */
#include "cli/cli.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define COLUMN 8

/* The datasets above it that are missing. */
static int parents_make(struct invocation *invocation, struct session *session, const char *name)
{
	CLEANUP_FREE char *parent = strdup(name);
	int result = 0;

	if (parent == NULL)
		return sz_fail(&invocation->error, -ENOMEM, "no memory");
	for (size_t i = 0; result == 0 && name[i] != '\0'; i++) {
		if (name[i] != '/')
			continue;
		parent[i] = '\0';
		result = dataset_make(invocation, session, parent);
		if (result ==
		    -EEXIST) { /* if it is not the one that is needed, the volume cannot be made */
			result = 0;
			invocation->error = (struct sz_error){ 0 };
		}
		parent[i] = '/';
	}
	return result;
}

static int create(struct invocation *invocation, struct session *session)
{
	const struct options *options = &invocation->options;
	const char *name = invocation->operands[1];
	struct sz_volume_new new = {
		.block_bytes = option_is_given(invocation, OPTION_BLOCK_SIZE)
				       ? (uint32_t)options->block_bytes
				       : SZ_VOLUME_BLOCK_BYTES,
		.is_sparse = option_is_given(invocation, OPTION_SPARSE),
		.properties = options->properties,
		.property_count = options->property_count,
	};
	int result;

	/* As 'zfs create -V' does. */
	new.size_bytes = ROUND_UP(options->volume_bytes, (uint64_t) new.block_bytes);
	result = sz_volume_create(session->pool, name, &new, &invocation->error);
	if (result == -ENOENT && option_is_given(invocation, OPTION_PARENTS)) {
		invocation->error = (struct sz_error){ 0 };
		result = parents_make(invocation, session, name);
		if (result == 0)
			result = sz_volume_create(session->pool, name, &new, &invocation->error);
	}
	return result == 0 ? 0 : store_fail(invocation, result);
}

int cmd_create_volume(struct invocation *invocation)
{
	struct session session;
	int result;

	if (!option_is_given(invocation, OPTION_VOLUME_SIZE))
		return usage_fail(invocation, "-V SIZE has to be given: the volume's size");
	result = session_open(invocation, false, SESSION_FS, &session);
	if (result != 0)
		return result;
	result = create(invocation, &session);
	return session_close(invocation, &session, result);
}

static int destroy(struct invocation *invocation, struct session *session)
{
	const char *name = invocation->operands[1];
	char question[SZ_VOLUME_NAME_BYTES + 96];
	char bytes[SIZE_TEXT_BYTES];
	struct sz_volume_info info;
	int result = sz_volume_find(session->pool, name, &info, &invocation->error);

	if (result != 0)
		return store_fail(invocation, result);
	size_text(info.referenced_bytes, bytes);
	(void)snprintf(question, sizeof(question),
		       "destroy the volume %s for good, with %s of data?", name, bytes);
	result = consent_ask(invocation, question);
	if (result != 0)
		return result;
	result = sz_volume_destroy(session->pool, name, &invocation->error);
	return result == 0 ? 0 : store_fail(invocation, result);
}

int cmd_destroy_volume(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, false, SESSION_POOL, &session);

	if (result != 0)
		return result;
	result = destroy(invocation, &session);
	return session_close(invocation, &session, result);
}

static void volume_print(const struct sz_volume_info *info)
{
	char size[SIZE_TEXT_BYTES];
	char used[SIZE_TEXT_BYTES];
	char data[SIZE_TEXT_BYTES];
	char block[SIZE_TEXT_BYTES];

	size_text(info->size_bytes, size);
	size_text(info->used_bytes, used);
	size_text(info->referenced_bytes, data);
	size_text(info->block_bytes, block);
	(void)fprintf(console_out(), "%*s %*s %*s %*s  ", COLUMN, size, COLUMN, used, COLUMN, data,
		      COLUMN, block);
	name_print(info->name);
	(void)fputc('\n', console_out());
}

struct listing {
	json_t *json; /* NULL: text */
	bool has_head;
};

static int volume_show(void *context, const struct sz_volume_info *info)
{
	struct listing *listing = context;

	if (listing->json != NULL)
		return json_array_append_new(
			       listing->json,
			       json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "name",
					 json_name(info->name), "size_bytes",
					 (json_int_t)info->size_bytes, "block_bytes",
					 (json_int_t)info->block_bytes, "used_bytes",
					 (json_int_t)info->used_bytes, "referenced_bytes",
					 (json_int_t)info->referenced_bytes, "reserved_bytes",
					 (json_int_t)info->reserved_bytes)) == 0
			       ? 0
			       : -ENOMEM;
	if (!listing->has_head)
		(void)fprintf(console_out(), "%*s %*s %*s %*s  %s\n", COLUMN, "SIZE", COLUMN,
			      "USED", COLUMN, "REFERS", COLUMN, "BLOCK", "NAME");
	listing->has_head = true;
	volume_print(info);
	return 0;
}

int cmd_volumes(struct invocation *invocation)
{
	struct listing listing = { 0 };
	struct session session;
	int result = session_open(invocation, true, SESSION_POOL, &session);

	if (result != 0)
		return result;
	if (option_is_given(invocation, OPTION_JSON))
		listing.json = json_array();
	result = sz_volume_each(session.pool, volume_show, &listing);
	if (result != 0)
		(void)sz_fail(&invocation->error, result, "%s: cannot list the volumes",
			      invocation->operands[0]);
	if (result == 0 && listing.json != NULL)
		result = json_print(TAKE(listing.json), &invocation->error);
	json_decref(listing.json);
	return session_close(invocation, &session, result);
}
