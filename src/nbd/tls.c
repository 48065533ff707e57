/*
 * tls: sessions with clients, by certificates or by keys that both know (PSK). The only door to GnuTLS: libnbd, qemu
 * and nbdkit use it too, and with it the files that they read: a folder of certificates, psktool's keys.
 *
 * TLS 1.2 and 1.3; with keys alone, only what has forward secrecy.
 */
#include "nbd/nbd_internal.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIORITIES     "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PSK_PRIORITIES PRIORITIES ":+ECDHE-PSK:+DHE-PSK"

struct sz_nbd_tls {
	gnutls_certificate_credentials_t certificates; /* one of these two */
	gnutls_psk_server_credentials_t keys;
	bool verifies_peer;
};

struct sz_nbd_session {
	gnutls_session_t gnutls;
};

static int tls_fail(struct sz_error *error, const char *path, int code)
{
	return sz_fail(error, -EINVAL, "%s: %s", path, gnutls_strerror(code));
}

/* FOLDER/NAME, the caller's; it has to be readable, or with is_optional absent (NULL). */
static int file_find(const char *folder, const char *name, bool is_optional, char **path_out,
		     struct sz_error *error)
{
	CLEANUP_FREE char *path = NULL;

	*path_out = NULL;
	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		path = NULL;
		return sz_fail(error, -ENOMEM, "no memory");
	}
	if (access(path, R_OK) != 0) {
		if (is_optional && errno == ENOENT)
			return 0;
		return sz_fail(error, -errno,
			       "%s: %s; --tls-certificates names a folder with server-cert.pem, "
			       "server-key.pem and ca-cert.pem, as certtool makes them",
			       path, strerror(errno));
	}
	*path_out = TAKE(path);
	return 0;
}

static int certificates_load(struct sz_nbd_tls *tls, const char *folder, struct sz_error *error)
{
	CLEANUP_FREE char *certificate = NULL;
	CLEANUP_FREE char *key = NULL;
	CLEANUP_FREE char *authority = NULL;
	CLEANUP_FREE char *revoked = NULL;
	int result = file_find(folder, "server-cert.pem", false, &certificate, error);
	int code;

	if (result == 0)
		result = file_find(folder, "server-key.pem", false, &key, error);
	if (result == 0)
		result = file_find(folder, "ca-cert.pem", !tls->verifies_peer, &authority, error);
	if (result == 0)
		result = file_find(folder, "ca-crl.pem", true, &revoked, error);
	if (result != 0)
		return result;
	code = gnutls_certificate_set_x509_key_file(tls->certificates, certificate, key,
						    GNUTLS_X509_FMT_PEM);
	if (code < 0)
		return tls_fail(error, certificate, code);
	if (authority != NULL) {
		code = gnutls_certificate_set_x509_trust_file(tls->certificates, authority,
							      GNUTLS_X509_FMT_PEM);
		if (code <= 0)
			return tls_fail(error, authority,
					code == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : code);
	}
	if (revoked != NULL) {
		code = gnutls_certificate_set_x509_crl_file(tls->certificates, revoked,
							    GNUTLS_X509_FMT_PEM);
		if (code <= 0) /* so many were in it */
			return tls_fail(error, revoked,
					code == 0 ? GNUTLS_E_NO_CERTIFICATE_FOUND : code);
	}
	(void)gnutls_certificate_set_known_dh_params(tls->certificates, GNUTLS_SEC_PARAM_MEDIUM);
	return 0;
}

static int keys_load(struct sz_nbd_tls *tls, const char *path, struct sz_error *error)
{
	int code;

	if (access(path, R_OK) != 0)
		return sz_fail(error, -errno, "%s: %s; 'psktool -u USER -p FILE' makes such a file",
			       path, strerror(errno));
	code = gnutls_psk_set_server_credentials_file(tls->keys, path);
	if (code < 0)
		return tls_fail(error, path, code);
	(void)gnutls_psk_set_server_known_dh_params(tls->keys, GNUTLS_SEC_PARAM_MEDIUM);
	return 0;
}

int sz_nbd_tls_open(const struct sz_nbd_options *options, struct sz_nbd_tls **tls_out,
		    struct sz_error *error)
{
	struct sz_nbd_tls *tls;
	int code;
	int result;

	*tls_out = NULL;
	if (options->tls_certificates == NULL && options->tls_psk == NULL)
		return 0;
	tls = calloc(1, sizeof(*tls));
	if (tls == NULL)
		return sz_fail(error, -ENOMEM, "no memory");
	tls->verifies_peer = options->tls_verify_peer;
	code = gnutls_global_init();
	if (code >= 0 && options->tls_psk != NULL)
		code = gnutls_psk_allocate_server_credentials(&tls->keys);
	else if (code >= 0)
		code = gnutls_certificate_allocate_credentials(&tls->certificates);
	if (code < 0)
		result = tls_fail(error, "TLS", code);
	else if (options->tls_psk != NULL)
		result = keys_load(tls, options->tls_psk, error);
	else
		result = certificates_load(tls, options->tls_certificates, error);
	if (result != 0) {
		sz_nbd_tls_close(tls);
		return result;
	}
	*tls_out = tls;
	return 0;
}

void sz_nbd_tls_close(struct sz_nbd_tls *tls)
{
	if (tls == NULL)
		return;
	if (tls->keys != NULL)
		gnutls_psk_free_server_credentials(tls->keys);
	if (tls->certificates != NULL)
		gnutls_certificate_free_credentials(tls->certificates);
	free(tls);
}

/* A certificate that says what it is for has to be a client's: the authority may have signed those of servers too. */
static unsigned char client_oid[] = GNUTLS_KP_TLS_WWW_CLIENT;
static gnutls_typed_vdata_st client_purpose = {
	.type = GNUTLS_DT_KEY_PURPOSE_OID,
	.data = client_oid,
};

static int session_prepare(struct sz_nbd_tls *tls, int fd, struct sz_nbd_session *session)
{
	int code = gnutls_priority_set_direct(
		session->gnutls, tls->keys != NULL ? PSK_PRIORITIES : PRIORITIES, NULL);

	if (code >= 0 && tls->keys != NULL)
		code = gnutls_credentials_set(session->gnutls, GNUTLS_CRD_PSK, tls->keys);
	else if (code >= 0)
		code = gnutls_credentials_set(session->gnutls, GNUTLS_CRD_CERTIFICATE,
					      tls->certificates);
	if (code >= 0 && tls->certificates != NULL && tls->verifies_peer) {
		gnutls_certificate_server_set_request(session->gnutls, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert2(session->gnutls, &client_purpose, 1, 0);
	}
	gnutls_transport_set_int(session->gnutls, fd);
	return code < 0 ? -EPROTO : 0;
}

/* No timeout of its own: the server ends handshakes that take too long. */
static int handshake(struct sz_nbd_session *session)
{
	int code;

	gnutls_handshake_set_timeout(session->gnutls, GNUTLS_INDEFINITE_TIMEOUT);
	do
		code = gnutls_handshake(session->gnutls);
	while (code < 0 && gnutls_error_is_fatal(code) == 0);
	return code < 0 ? -EPROTO : 0;
}

int sz_nbd_session_start(struct sz_nbd_tls *tls, int fd, struct sz_nbd_session **session_out)
{
	struct sz_nbd_session *session = calloc(1, sizeof(*session));
	int result;

	if (session == NULL)
		return -ENOMEM;
	if (gnutls_init(&session->gnutls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL) < 0) {
		free(session);
		return -ENOMEM;
	}
	result = session_prepare(tls, fd, session);
	if (result == 0)
		result = handshake(session);
	if (result != 0) {
		gnutls_deinit(session->gnutls);
		free(session);
		return result;
	}
	*session_out = session;
	return 0;
}

ssize_t sz_nbd_session_read(struct sz_nbd_session *session, void *to, size_t length)
{
	ssize_t done;

	/* GNUTLS_E_REHANDSHAKE ends the connection: what is loaded does not change in it. */
	do
		done = gnutls_record_recv(session->gnutls, to, length);
	while (done == GNUTLS_E_INTERRUPTED);
	return done == GNUTLS_E_AGAIN ? -EAGAIN : done < 0 ? -ECONNRESET : done;
}

int sz_nbd_session_write(struct sz_nbd_session *session, const void *from, size_t length)
{
	const uint8_t *at = from;

	while (length > 0) {
		ssize_t done;

		do
			done = gnutls_record_send(session->gnutls, at, length);
		while (done == GNUTLS_E_INTERRUPTED || done == GNUTLS_E_AGAIN);
		if (done < 0)
			return -EPIPE;
		at += done;
		length -= (size_t)done;
	}
	return 0;
}

void sz_nbd_session_end(struct sz_nbd_session *session)
{
	const struct timeval wait = { .tv_sec = GOODBYE_S };

	if (session == NULL)
		return;
	/* Who takes nothing does not keep it. */
	(void)setsockopt(gnutls_transport_get_int(session->gnutls), SOL_SOCKET, SO_SNDTIMEO, &wait,
			 sizeof(wait));
	(void)gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
	gnutls_deinit(session->gnutls);
	free(session);
}
