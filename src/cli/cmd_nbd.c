/*
 * nbd: serves block devices over the network, by the process that has the store open, if there is one, else by one of its
 * own, in the background. That one ends by 'szpool nbd --stop', or by a signal; another goes on without the server.
 */
#include "cli/cli.h"

#include "control/control.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define PORT "10809" /* the protocol's, as IANA has it */

/*
 * The process's server. Under lock is no I/O: who starts or stops it sets is_changing, and who uses it counts as a user;
 * a change waits for the users of what is there, and the users' reading needs no lock.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_changing; /* these guarded by lock */
static unsigned int users;
static struct sz_nbd_server *server; /* these set while is_changing and without users */
static struct sz_nbd_source source;
static bool process_is_for_it; /* it ends with the server */

/* False: nothing is served. */
static bool use_begin(void)
{
	bool is_served;

	(void)pthread_mutex_lock(&lock);
	is_served = !is_changing && server != NULL;
	users += is_served ? 1 : 0;
	(void)pthread_mutex_unlock(&lock);
	return is_served;
}

static void use_end(void)
{
	(void)pthread_mutex_lock(&lock);
	users--;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

/* Under lock. */
static void change_await(void)
{
	while (is_changing)
		(void)pthread_cond_wait(&changed, &lock);
}

static void change_end(void)
{
	(void)pthread_mutex_lock(&lock);
	is_changing = false;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

static bool is_read_only(const struct invocation *invocation)
{
	return option_is_given(invocation, OPTION_READ_ONLY) ||
	       option_is_given(invocation, OPTION_GENERATION);
}

/* The working folder, as it is now, may be another one when the path is used. */
static int path_complete(const char *path, char **path_out, struct sz_error *error)
{
	CLEANUP_FREE char *folder = path[0] == '/' ? NULL : getcwd(NULL, 0);

	*path_out = path[0] == '/' ? strdup(path) : folder == NULL ? NULL : path_join(folder, path);
	return *path_out != NULL ? 0 : sz_fail(error, -errno, "%s: %s", path, strerror(errno));
}

/* "HOST:PORT", "HOST", "[::1]:PORT", "::1": cut apart in place. */
static int listen_parse(struct invocation *invocation, char *text, struct sz_nbd_options *options)
{
	char *end = text[0] == '[' ? strchr(text, ']') : NULL;
	char *colon = strrchr(end != NULL ? end : text, ':');

	if (end == NULL && colon != NULL && strchr(text, ':') != colon)
		colon = NULL; /* an address of version 6 alone */
	options->host = end != NULL ? text + 1 : text;
	options->port = colon != NULL ? colon + 1 : PORT;
	if (colon != NULL)
		*colon = '\0';
	if (end != NULL)
		*end = '\0';
	if (options->host[0] == '\0' || options->port[0] == '\0')
		return usage_fail(invocation,
				  "--listen: has to be HOST:PORT, like localhost:" PORT);
	return 0;
}

static int options_check(struct invocation *invocation)
{
	CLEANUP_FREE char *listen =
		invocation->options.listen == NULL ? NULL : strdup(invocation->options.listen);
	struct sz_nbd_options ignored;

	if (listen != NULL && listen_parse(invocation, listen, &ignored) != 0)
		return -EINVAL;
	if (option_is_given(invocation, OPTION_SOCKET) &&
	    option_is_given(invocation, OPTION_LISTEN))
		return usage_fail(invocation, "--socket and --listen: choose one");
	if (option_is_given(invocation, OPTION_TLS_CERTIFICATES) &&
	    option_is_given(invocation, OPTION_TLS_PSK))
		return usage_fail(invocation, "--tls-certificates and --tls-psk: choose one");
	if (option_is_given(invocation, OPTION_TLS_VERIFY_PEER) &&
	    !option_is_given(invocation, OPTION_TLS_CERTIFICATES))
		return usage_fail(invocation, "--tls-verify-peer needs --tls-certificates");
	if (option_is_given(invocation, OPTION_GENERATION) &&
	    !option_is_given(invocation, OPTION_FOREGROUND))
		return usage_fail(invocation,
				  "--generation needs --foreground: a signal ends the process");
	return 0;
}

/* Under lock. */
static int server_refuse(struct invocation *invocation, const struct session *session)
{
	CLEANUP_FREE char *uri = server == NULL ? NULL : sz_nbd_uri(server, "");

	if (server != NULL)
		return sz_fail(&invocation->error, -EBUSY,
			       "%s: is served already, at %s; 'szpool nbd --stop %s' ends that",
			       invocation->operands[0], uri == NULL ? "" : uri,
			       invocation->operands[0]);
	/* The kernel caches what is in the files. */
	if (session->pool == NULL && is_mounted_here())
		return sz_fail(&invocation->error, -EBUSY,
			       "%s: its devices are attached at %s; 'szpool detach %s' first",
			       invocation->operands[0], serve_folder(), serve_folder());
	return 0;
}

static int server_open(struct invocation *invocation, const struct sz_nbd_options *wanted)
{
	CLEANUP_FREE char *socket = NULL;
	CLEANUP_FREE char *listen = NULL;
	struct sz_nbd_options options = *wanted;
	struct sz_error *error = &invocation->error;
	int result = 0;

	if (invocation->options.listen != NULL) {
		listen = strdup(invocation->options.listen);
		result = listen == NULL ? sz_fail(error, -ENOMEM, "no memory")
					: listen_parse(invocation, listen, &options);
	} else if (options.socket == NULL) {
		result = sz_control_path(invocation->operands[0], ".nbd", &socket, error);
		options.socket = socket;
	}
	return result != 0 ? result : sz_nbd_start(&source, &options, &server, error);
}

/* What the process has open is served from now on. shared: it, for as long as the server runs. */
static int server_start(struct invocation *invocation, struct session *shared, bool is_for_it)
{
	const struct sz_nbd_options options = {
		.socket = invocation->options.socket,
		.read_only = is_read_only(invocation),
		.tls_certificates = invocation->options.tls_certificates,
		.tls_psk = invocation->options.tls_psk,
		.tls_verify_peer = option_is_given(invocation, OPTION_TLS_VERIFY_PEER),
	};
	int result;

	(void)pthread_mutex_lock(&lock);
	change_await();
	result = server_refuse(invocation, shared);
	is_changing = result == 0;
	(void)pthread_mutex_unlock(&lock);
	if (result != 0)
		return result;
	exports_of(shared, &source);
	process_is_for_it = is_for_it;
	result = server_open(invocation, &options);
	change_end();
	return result;
}

void nbd_stop(void)
{
	(void)pthread_mutex_lock(&lock);
	change_await();
	is_changing = true;
	while (users > 0)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
	sz_nbd_stop(TAKE(server));
	change_end();
}

char *nbd_uri(unsigned int *clients_out)
{
	char *uri = NULL;

	*clients_out = 0;
	if (use_begin()) {
		uri = sz_nbd_uri(server, "");
		*clients_out = sz_nbd_client_count(server);
		use_end();
	}
	return uri;
}

static int uri_add(void *to, const char *name, const char *description)
{
	CLEANUP_FREE char *uri = NULL;

	(void)description;
	if (strchr(name, '@') != NULL) /* of snapshots there may be thousands */
		return 0;
	uri = sz_nbd_uri(server, name);
	return uri != NULL && json_array_append_new(to, json_string(uri)) == 0 ? 0 : -ENOMEM;
}

/* What a client has to be told: an export a line; if there is none yet, where they will be. */
static int uris_print(struct invocation *invocation)
{
	json_t *uris = json_array();
	int result = 0;

	if (use_begin()) {
		result = source.list(source.context, uri_add, uris);
		if (result == 0 && json_array_size(uris) == 0)
			result = uri_add(uris, "", "");
		use_end();
	}
	for (size_t i = 0; result == 0 && i < json_array_size(uris); i++)
		line_out(json_string_value(json_array_get(uris, i)));
	json_decref(uris);
	(void)fflush(console_out()); /* the command goes on */
	return result == 0 ? 0
			   : sz_fail(&invocation->error, result, "%s: %s", invocation->operands[0],
				     strerror(-result));
}

static int export_add(void *to, const char *name, const char *description)
{
	CLEANUP_FREE char *uri = sz_nbd_uri(server, name);
	struct sz_nbd_export export;
	json_t *entry;

	if (uri == NULL)
		return -ENOMEM;
	if (source.open(source.context, name, true, &export) != 0)
		return 0; /* it is gone by now */
	entry = json_pack("{s:o, s:s, s:s, s:I, s:i}", "name", json_name(name), "description",
			  description, "uri", uri, "size_bytes", (json_int_t) export.size_bytes,
			  "block_bytes", (int)export.block_bytes);
	export.operations->close(export.context);
	return json_array_append_new(to, entry) == 0 ? 0 : -ENOMEM;
}

static void export_print(const json_t *entry)
{
	const char *name = json_string_value(json_object_get(entry, "name"));
	char size[SIZE_TEXT_BYTES];

	size_text((uint64_t)json_integer_value(json_object_get(entry, "size_bytes")), size);
	(void)fprintf(console_out(), "%8s  ", size);
	name_print(name == NULL ? "" : name);
	(void)fprintf(console_out(), "  %s\n", json_string_value(json_object_get(entry, "uri")));
}

static int list(struct invocation *invocation)
{
	json_t *exports = json_array();
	unsigned int clients = 0;
	CLEANUP_FREE char *uri = NULL;
	int result = -ENOENT;

	if (use_begin()) {
		uri = sz_nbd_uri(server, "");
		clients = sz_nbd_client_count(server);
		result = source.list(source.context, export_add, exports);
		use_end();
	}
	if (result == 0 && option_is_given(invocation, OPTION_JSON)) {
		return json_print(json_pack("{s:s?, s:i, s:o}", "uri", uri, "clients", (int)clients,
					    "exports", exports),
				  &invocation->error);
	}
	for (size_t i = 0; result == 0 && i < json_array_size(exports); i++)
		export_print(json_array_get(exports, i));
	json_decref(exports);
	if (result == -ENOENT)
		return sz_fail(&invocation->error, result,
			       "%s: is not served; 'szpool nbd %s' starts that",
			       invocation->operands[0], invocation->operands[0]);
	return result == 0 ? 0
			   : sz_fail(&invocation->error, result, "%s: %s", invocation->operands[0],
				     strerror(-result));
}

/* In the process that serves. */
static int stop(struct invocation *invocation)
{
	bool is_over;

	if (!use_begin())
		return sz_fail(&invocation->error, -ENOENT, "%s: no process serves it",
			       invocation->operands[0]);
	is_over = process_is_for_it;
	use_end();
	if (!is_over) {
		nbd_stop();
		return 0;
	}
	return serve_stop(invocation);
}

/* In a process that has it open for others, which goes on. */
static int serve_there(struct invocation *invocation)
{
	struct session session;
	int result = session_open(invocation, is_read_only(invocation), SESSION_STORE, &session);

	if (result != 0)
		return result;
	result = server_start(invocation, session_shared(), false);
	if (result == 0)
		result = uris_print(invocation);
	return session_close(invocation, &session, result);
}

static int serve(struct invocation *invocation, struct daemon *daemon)
{
	const char *store = invocation->operands[0];
	bool is_served =
		!option_is_given(invocation, OPTION_GENERATION); /* else others are, beside it */
	struct sz_error *error = &invocation->error;
	struct session session;
	int listener = -1;
	int result =
		session_open(invocation, is_read_only(invocation), SESSION_FS_IF_ANY, &session);

	if (result != 0)
		return result;
	session_share(&session, store);
	if (is_served)
		result = sz_control_listen(store, &listener, error);
	if (result == 0)
		result = server_start(invocation, &session, true);
	if (result == 0)
		result = uris_print(invocation);
	if (result == 0)
		result = daemon_ready(daemon, error);
	if (result == 0)
		serve_until_interrupted(listener);
	nbd_stop(); /* where it has not come that far */
	return serve_close(invocation, &session, listener, result);
}

/* What is wrong with the options is told before anything is asked for. The working folder is another one later. */
static int paths_complete(struct invocation *invocation, char **store_out, char **socket_out,
			  char **keys_out)
{
	struct options *options = &invocation->options;
	int result = 0;

	*store_out = realpath(invocation->operands[0], NULL);
	if (*store_out != NULL)
		invocation->operands[0] = *store_out;
	if (options->socket != NULL)
		result = path_complete(options->socket, socket_out, &invocation->error);
	if (result == 0 && options->tls_psk != NULL)
		result = path_complete(options->tls_psk, keys_out, &invocation->error);
	if (*socket_out != NULL)
		options->socket = *socket_out;
	if (*keys_out != NULL)
		options->tls_psk = *keys_out;
	return result;
}

int cmd_nbd(struct invocation *invocation)
{
	CLEANUP_FREE char *store = NULL;
	CLEANUP_FREE char *socket = NULL;
	CLEANUP_FREE char *keys = NULL;
	struct daemon daemon = { .ready = -1 };
	bool is_here = console_current() == console_own();
	int result = options_check(invocation);

	if (result == 0 && option_is_given(invocation, OPTION_STOP))
		return stop(invocation);
	if (result == 0 && option_is_given(invocation, OPTION_LIST))
		return list(invocation);
	if (result == 0)
		result = paths_complete(invocation, &store, &socket, &keys);
	if (result == 0 && !is_here)
		return serve_there(invocation);
	if (result == 0 && !option_is_given(invocation, OPTION_FOREGROUND))
		result = daemon_split(&daemon, &invocation->error);
	return result != 0 ? result : serve(invocation, &daemon);
}
