/* connection: a client, from its coming to its going, in a thread of its own. */
#include "nbd/nbd_internal.h"

#include <sys/socket.h>
#include <unistd.h>

void *sz_nbd_connection_run(void *argument)
{
	struct sz_nbd_connection *connection = argument;
	struct sz_nbd_export *export = &connection->export;

	(void)pthread_setname_np(pthread_self(), "nbd client");
	if (sz_nbd_handshake(connection) == 0) {
		sz_nbd_phase_set(connection, SZ_NBD_TRANSMISSION);
		sz_nbd_transmission(connection);
	}
	sz_nbd_session_end(connection->channel.session);
	(void)shutdown(connection->channel.fd, SHUT_RDWR);
	if (export->operations != NULL)
		export->operations->close(export->context);
	sz_nbd_phase_set(connection, SZ_NBD_OVER);
	return NULL;
}
