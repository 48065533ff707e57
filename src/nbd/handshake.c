/*
 * handshake: what a client and the server agree on, option by option: TLS first, where it is wanted; then structured
 * replies, block status, an export. The client's time for all of it is limited (server.c).
 */
#include "nbd/nbd_internal.h"

#include <errno.h>

/* What becomes of the handshake after an option. */
enum outcome {
	GOES_ON,
	IS_DONE, /* an export is open */
	HAS_ENDED,
};

struct haggling {
	struct sz_nbd_connection *connection;
	struct sz_nbd_option option;
	uint8_t data[SZ_NBD_OPTION_DATA_MAX]; /* the option's */
};

static enum outcome outcome_of(int result)
{
	return result == 0 ? GOES_ON : HAS_ENDED;
}

/* A reply to the option, with data that is made of two parts. */
static int parts_reply(struct haggling *haggling, uint32_t type, const void *first,
		       size_t first_length, const void *second, size_t second_length)
{
	uint8_t message[SZ_NBD_REPLY_BYTES + SZ_NBD_OPTION_DATA_MAX];
	size_t length = first_length + second_length;

	if (length > SZ_NBD_OPTION_DATA_MAX)
		return -EMSGSIZE;
	sz_nbd_reply_encode(haggling->option.type, type, (uint32_t)length, message);
	if (first_length > 0)
		memcpy(message + SZ_NBD_REPLY_BYTES, first, first_length);
	if (second_length > 0)
		memcpy(message + SZ_NBD_REPLY_BYTES + first_length, second, second_length);
	return sz_nbd_channel_write(&haggling->connection->channel, message,
				    SZ_NBD_REPLY_BYTES + length, NULL, 0);
}

static int reply(struct haggling *haggling, uint32_t type)
{
	return parts_reply(haggling, type, NULL, 0, NULL, 0);
}

static int text_reply(struct haggling *haggling, uint32_t type, const char *text)
{
	return parts_reply(haggling, type, text, strlen(text), NULL, 0);
}

static int export_open(struct haggling *haggling, const char *name, bool read_only,
		       struct sz_nbd_export *export_out)
{
	const struct sz_nbd_server *server = haggling->connection->server;
	int result;

	*export_out = (struct sz_nbd_export){ 0 };
	result = server->source.open(server->source.context, name, read_only || server->read_only,
				     export_out);
	if (result != 0)
		return result;
	export_out->is_read_only |= server->read_only;
	return 0;
}

static void export_close(struct sz_nbd_export *export)
{
	export->operations->close(export->context);
}

static int refusal_reply(struct haggling *haggling, int result)
{
	if (result == -ENOENT)
		return text_reply(haggling, NBD_REP_ERR_UNKNOWN, "there is no such export");
	return text_reply(haggling, NBD_REP_ERR_POLICY, "the export cannot be opened");
}

static int listed_reply(void *to, const char *name, const char *description)
{
	struct haggling *haggling = to;
	uint8_t entry[4 + SZ_NBD_NAME_BYTES];
	size_t length = strlen(name);

	if (length >= SZ_NBD_NAME_BYTES)
		return 0;
	entry[0] = entry[1] = entry[2] = 0;
	entry[3] = (uint8_t)length;
	memcpy(entry + 4, name, length);
	return parts_reply(haggling, NBD_REP_SERVER, entry, 4 + length, description,
			   strnlen(description, SZ_NBD_NAME_BYTES));
}

static enum outcome list(struct haggling *haggling)
{
	const struct sz_nbd_source *source = &haggling->connection->server->source;
	int result;

	if (haggling->option.length != 0)
		return outcome_of(text_reply(haggling, NBD_REP_ERR_INVALID, "LIST has no data"));
	result = source->list(source->context, listed_reply, haggling);
	if (result != 0)
		return HAS_ENDED;
	return outcome_of(reply(haggling, NBD_REP_ACK));
}

static enum outcome tls_start(struct haggling *haggling)
{
	struct sz_nbd_connection *connection = haggling->connection;
	struct sz_nbd_tls *tls = connection->server->tls;

	if (tls == NULL)
		return outcome_of(text_reply(haggling, NBD_REP_ERR_POLICY,
					     "the server was started without TLS"));
	if (haggling->option.length != 0 || connection->channel.session != NULL)
		return outcome_of(reply(haggling, NBD_REP_ERR_INVALID));
	if (reply(haggling, NBD_REP_ACK) != 0 ||
	    sz_nbd_channel_secure(&connection->channel, tls) != 0)
		return HAS_ENDED;
	/* What was agreed on before, anybody could have asked for. */
	connection->is_structured = false;
	connection->has_context = false;
	return GOES_ON;
}

static int info_reply(struct haggling *haggling, const struct sz_nbd_info_request *request,
		      const struct sz_nbd_export *export)
{
	const char *description = export->description;
	uint8_t bytes[SZ_NBD_INFO_BYTES];
	uint16_t flags = sz_nbd_transmission_flags(export, haggling->connection->is_structured);
	size_t length = sz_nbd_info_export_encode(export->size_bytes, flags, bytes);
	int result = parts_reply(haggling, NBD_REP_INFO, bytes, length, NULL, 0);

	if (result == 0 && request->wants_block_size) {
		length = sz_nbd_info_block_encode(export->block_bytes, bytes);
		result = parts_reply(haggling, NBD_REP_INFO, bytes, length, NULL, 0);
	}
	if (result == 0 && request->wants_description && description != NULL) {
		const uint8_t type[2] = { 0, NBD_INFO_DESCRIPTION };

		result = parts_reply(haggling, NBD_REP_INFO, type, sizeof(type), description,
				     strnlen(description, SZ_NBD_NAME_BYTES));
	}
	return result == 0 ? reply(haggling, NBD_REP_ACK) : result;
}

/* From now on requests come. The contexts count if they are the export's. */
static enum outcome export_take(struct haggling *haggling, const char *name,
				const struct sz_nbd_export *export)
{
	struct sz_nbd_connection *connection = haggling->connection;

	connection->export = *export;
	connection->has_context =
		connection->has_context && strcmp(name, connection->context_name) == 0;
	return IS_DONE;
}

/* INFO and GO. */
static enum outcome info(struct haggling *haggling, bool goes)
{
	struct sz_nbd_info_request request;
	struct sz_nbd_export export;
	int result;

	if (sz_nbd_info_request_decode(haggling->data, haggling->option.length, &request) != 0)
		return outcome_of(reply(haggling, NBD_REP_ERR_INVALID));
	result = export_open(haggling, request.name, false, &export);
	if (result != 0)
		return outcome_of(refusal_reply(haggling, result));
	result = info_reply(haggling, &request, &export);
	if (result == 0 && goes)
		return export_take(haggling, request.name, &export);
	export_close(&export);
	return outcome_of(result);
}

/* It has no way to tell an error. */
static enum outcome export_name(struct haggling *haggling)
{
	struct sz_nbd_connection *connection = haggling->connection;
	uint8_t bytes[SZ_NBD_EXPORT_BYTES];
	char name[SZ_NBD_NAME_BYTES];
	struct sz_nbd_export export;
	size_t length;

	if (sz_nbd_name_decode(haggling->data, haggling->option.length, name) != 0 ||
	    export_open(haggling, name, false, &export) != 0)
		return HAS_ENDED;
	length = sz_nbd_export_encode(export.size_bytes,
				      sz_nbd_transmission_flags(&export, connection->is_structured),
				      connection->no_zeroes, bytes);
	if (sz_nbd_channel_write(&connection->channel, bytes, length, NULL, 0) == 0)
		return export_take(haggling, name, &export);
	export_close(&export);
	return HAS_ENDED;
}

static enum outcome structured_set(struct haggling *haggling)
{
	if (haggling->option.length != 0)
		return outcome_of(reply(haggling, NBD_REP_ERR_INVALID));
	haggling->connection->is_structured = true;
	return outcome_of(reply(haggling, NBD_REP_ACK));
}

static enum outcome contexts(struct haggling *haggling, bool sets)
{
	struct sz_nbd_connection *connection = haggling->connection;
	uint8_t id[4] = { 0 };
	struct sz_nbd_context_request request;
	struct sz_nbd_export export;
	bool is_found;
	int result;

	if (sets)
		connection->has_context = false;
	if (!connection->is_structured ||
	    sz_nbd_context_request_decode(haggling->data, haggling->option.length, &request) != 0)
		return outcome_of(reply(haggling, NBD_REP_ERR_INVALID));
	result = export_open(haggling, request.name, true, &export);
	if (result != 0)
		return outcome_of(refusal_reply(haggling, result));
	export_close(&export);
	is_found = sets ? request.selects : request.lists;
	if (sets)
		sz_nbd_context_id_encode(id);
	if (is_found)
		result = parts_reply(haggling, NBD_REP_META_CONTEXT, id, sizeof(id),
				     sz_nbd_context_name, strlen(sz_nbd_context_name));
	if (sets && is_found) {
		connection->has_context = true;
		memcpy(connection->context_name, request.name, sizeof(request.name));
	}
	return outcome_of(result == 0 ? reply(haggling, NBD_REP_ACK) : result);
}

static enum outcome option_answer(struct haggling *haggling)
{
	switch (haggling->option.type) {
	case NBD_OPT_EXPORT_NAME:
		return export_name(haggling);
	case NBD_OPT_LIST:
		return list(haggling);
	case NBD_OPT_STARTTLS:
		return tls_start(haggling);
	case NBD_OPT_INFO:
		return info(haggling, false);
	case NBD_OPT_GO:
		return info(haggling, true);
	case NBD_OPT_STRUCTURED_REPLY:
		return structured_set(haggling);
	case NBD_OPT_LIST_META_CONTEXT:
		return contexts(haggling, false);
	case NBD_OPT_SET_META_CONTEXT:
		return contexts(haggling, true);
	default:
		return outcome_of(reply(haggling, NBD_REP_ERR_UNSUP));
	}
}

/* The next option, with its data; what is wrong with it whatever it is. */
static enum outcome option_serve(struct haggling *haggling)
{
	struct sz_nbd_connection *connection = haggling->connection;
	struct sz_nbd_channel *channel = &connection->channel;
	struct sz_nbd_option *option = &haggling->option;
	bool needs_tls = connection->server->tls != NULL && channel->session == NULL;
	uint8_t head[SZ_NBD_OPTION_BYTES];
	bool is_long;

	if (sz_nbd_channel_read(channel, head, sizeof(head)) != 0 ||
	    !sz_nbd_option_decode(head, option))
		return HAS_ENDED;
	is_long = option->length > sizeof(haggling->data);
	if ((is_long ? sz_nbd_channel_skip(channel, option->length)
		     : sz_nbd_channel_read(channel, haggling->data, option->length)) != 0)
		return HAS_ENDED;
	if (option->type == NBD_OPT_ABORT) {
		(void)!reply(haggling, NBD_REP_ACK);
		return HAS_ENDED;
	}
	if (option->type == NBD_OPT_EXPORT_NAME &&
	    (is_long || needs_tls || atomic_load(&connection->server->is_stopping)))
		return HAS_ENDED;
	if (option->type != NBD_OPT_EXPORT_NAME && !connection->is_fixed)
		return HAS_ENDED;
	if (atomic_load(&connection->server->is_stopping))
		return outcome_of(reply(haggling, NBD_REP_ERR_SHUTDOWN));
	if (needs_tls && option->type != NBD_OPT_STARTTLS)
		return outcome_of(
			text_reply(haggling, NBD_REP_ERR_TLS_REQD, "the server wants TLS"));
	if (is_long)
		return outcome_of(reply(haggling, NBD_REP_ERR_TOO_BIG));
	return option_answer(haggling);
}

int sz_nbd_handshake(struct sz_nbd_connection *connection)
{
	CLEANUP_FREE struct haggling *haggling = calloc(1, sizeof(*haggling));
	uint8_t greeting[SZ_NBD_GREETING_BYTES];
	uint8_t flags[4];
	enum outcome outcome = GOES_ON;

	if (haggling == NULL)
		return -ENOMEM;
	haggling->connection = connection;
	sz_nbd_greeting_encode(greeting);
	if (sz_nbd_channel_write(&connection->channel, greeting, sizeof(greeting), NULL, 0) != 0 ||
	    sz_nbd_channel_read(&connection->channel, flags, sizeof(flags)) != 0 ||
	    !sz_nbd_client_flags_decode(flags, &connection->is_fixed, &connection->no_zeroes))
		return -EPROTO;
	while (outcome == GOES_ON)
		outcome = option_serve(haggling);
	return outcome == IS_DONE ? 0 : -EPROTO;
}
