/* cat: files to standard output. */
#include "cli/cli.h"

#include <unistd.h>

int cmd_cat(struct invocation *invocation)
{
	struct session session;
	uint64_t inode;
	int result = session_open(invocation, true, SESSION_FS, &session);

	if (result != 0)
		return result;
	for (int i = 1; result == 0 && i < invocation->count; i++) {
		const char *path = invocation->operands[i];

		result = path_find(session.fs, path, &inode, &invocation->error);
		if (result != 0)
			break;
		result = file_out(session.fs, inode, &invocation->error);
		if (result != 0)
			(void)sz_fail(&invocation->error, result, "%s", path);
	}
	return session_close(invocation, &session, result);
}
