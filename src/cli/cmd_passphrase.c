/* passphrase: the store opens with a new one from then on. Its data is not encrypted anew. */
#include "cli/cli.h"

static int new_passphrase(struct invocation *invocation, struct sz_passphrase *passphrase_out)
{
	const struct options *options = &invocation->options;
	const struct passphrase_source source = {
		.file = options->new_passphrase_file,
		.command = options->new_passphrase_command,
		.prompt = "New passphrase: ",
		.twice = true,
	};

	if (option_is_given(invocation, OPTION_GENERATE_PASSPHRASE))
		return passphrase_generate(invocation, passphrase_out);
	return passphrase_read(invocation, &source, passphrase_out);
}

/* A store that is open already opens for nobody who does not know its passphrase. */
static int old_check(struct invocation *invocation, const struct session *session)
{
	struct sz_passphrase old = { 0 };
	int result;

	if (!session->is_shared)
		return 0;
	result = passphrase_of_store(invocation, &old);
	if (result == 0)
		result = sz_store_check_passphrase(session->store, &old, &invocation->error);
	passphrase_free(&old);
	return result;
}

int cmd_passphrase(struct invocation *invocation)
{
	const struct options *options = &invocation->options;
	struct session session = { 0 };
	struct sz_passphrase passphrase = { 0 };
	int result;

	if (option_is_given(invocation, OPTION_GENERATE_PASSPHRASE) &&
	    (options->new_passphrase_file != NULL || options->new_passphrase_command != NULL))
		return usage_fail(invocation,
				  "--generate-passphrase: a new passphrase is given already");
	result = session_open(invocation, false, SESSION_STORE, &session);
	if (result != 0)
		return result;
	result = old_check(invocation, &session);
	if (result == 0)
		result = new_passphrase(invocation, &passphrase);
	if (result == 0)
		result = sz_store_change_passphrase(session.store, &passphrase, options->kdf,
						    &invocation->error);
	if (result == 0)
		passphrase_keep_new(&passphrase);
	passphrase_free(&passphrase);
	result = session_close(invocation, &session, result);
	if (result == 0)
		warn("copies that were made before still open with the old passphrase");
	return result;
}
