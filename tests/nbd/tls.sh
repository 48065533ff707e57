#!/usr/bin/env bash
# 'szpool nbd' with TLS: certificates, and keys that both know; right ones and wrong ones. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"
for program in certtool psktool; do
	command -v $program >/dev/null || {
		echo "1..0 # SKIP $program is not here: see tools/install-deps"
		exit 0
	}
done

# An authority, a server's certificate and a client's, in FOLDER.
certificates_make() { # FOLDER
	mkdir "$1"
	printf 'cn = test\nca\ncert_signing_key\nexpiration_days = 2\n' >ca.info
	printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nencryption_key\nsigning_key\nexpiration_days = 2\n' >server.info
	printf 'cn = client\ntls_www_client\nencryption_key\nsigning_key\nexpiration_days = 2\n' >client.info
	certtool --generate-privkey --key-type ecdsa --outfile "$1/ca-key.pem"
	certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template ca.info --outfile "$1/ca-cert.pem"
	for name in server client; do
		certtool --generate-privkey --key-type ecdsa --outfile "$1/$name-key.pem"
		certtool --generate-certificate --load-privkey "$1/$name-key.pem" --load-ca-certificate "$1/ca-cert.pem" \
			--load-ca-privkey "$1/ca-key.pem" --template $name.info --outfile "$1/$name-cert.pem"
	done
} 2>/dev/null
end_here() {
	run nbd --stop store && wait "$server"
	server=
}
with_tls() { # TLS: a parameter of the URI
	echo "$uri?$1"
}
certificates_make pki
certificates_make other
mkdir bare && cp pki/ca-cert.pem bare/ # a client without a certificate of its own
psktool -u alice -p keys >/dev/null 2>&1
psktool -u alice -p wrong >/dev/null 2>&1
psktool -u mallory -p strange >/dev/null 2>&1
ok "create" raw_create 64M
fails "no certificates" 1 "server-cert.pem" run nbd --listen 127.0.0.1:0 --tls-certificates bare store
fails "no keys" 1 "psktool" run nbd --listen 127.0.0.1:0 --tls-psk missing store
fails "what is no certificate" 1 "server-cert.pem" bash -c "
	cp -r pki broken && echo nonsense >broken/server-cert.pem && '$szpool' nbd --listen 127.0.0.1:0 --tls-certificates broken store"

ok "with certificates, beyond this machine" serve_here --listen 0.0.0.0:0 --tls-certificates pki
then_ok "its URI says so" grep -q '^nbds://0.0.0.0:[0-9]*/0$' uris
uri=${uri/0.0.0.0/127.0.0.1}
ok "a client that trusts the authority" limited nbdinfo "$(with_tls "tls-certificates=$work/pki")"
then_ok "has TLS" grep -q "protocol: newstyle-fixed with TLS" out
ok "it needs none of its own" limited nbdinfo "$(with_tls "tls-certificates=$work/bare")"
refused "one that trusts another" "gnutls_" nbdinfo "$(with_tls "tls-certificates=$work/other")"
refused "one without TLS" "Operation not supported for export" nbdinfo "${uri/nbds:/nbd:}"
head -c 30000000 /dev/urandom >content
ok "nbdcopy there" limited nbdcopy --flush content "$(with_tls "tls-certificates=$work/pki")"
ok "and back" limited nbdcopy "$(with_tls "tls-certificates=$work/pki")" back
then_ok "it is the same" cmp -n 30000000 content back
port=${uri##*:}
port=${port%%/*}
ok "qemu-img" limited qemu-img info --object "tls-creds-x509,id=t,endpoint=client,dir=$work/pki" \
	--image-opts "driver=nbd,host=127.0.0.1,port=$port,export=0,tls-creds=t"
ok "stopped" end_here

ok "clients have to show certificates" serve_here --listen 127.0.0.1:0 --tls-certificates pki --tls-verify-peer
ok "one with the authority's" limited nbdinfo "$(with_tls "tls-certificates=$work/pki")"
reading_with() { # FOLDER: of certificates; prints what nbdsh has to do
	echo "h.set_uri_allow_local_file(True)"
	echo "h.connect_uri('$(with_tls "tls-certificates=$work/$1")')"
	echo "h.pread(1, 0)"
}
ok "and it reads" limited nbdsh -c "$(reading_with pki)"
refused "one without" "gnutls_" nbdsh -c "$(reading_with bare)"
cp other/client-cert.pem other/client-key.pem bare/
refused "one with another's" "gnutls_" nbdsh -c "$(reading_with bare)"
cp pki/server-cert.pem bare/client-cert.pem
cp pki/server-key.pem bare/client-key.pem
refused "one with a server's" "gnutls_" nbdsh -c "$(reading_with bare)"
ok "the right one comes in still" limited nbdinfo "$(with_tls "tls-certificates=$work/pki")"
ok "stopped" end_here
cp -r pki revoking
printf 'crl_next_update = 2\ncrl_number = 1\n' >crl.info
certtool --generate-crl --load-ca-privkey pki/ca-key.pem --load-ca-certificate pki/ca-cert.pem --template crl.info \
	--load-certificate pki/client-cert.pem --outfile revoking/ca-crl.pem 2>/dev/null
ok "some are revoked" serve_here --listen 127.0.0.1:0 --tls-certificates revoking --tls-verify-peer
refused "the one that is" "gnutls_" nbdsh -c "$(reading_with pki)"
rm bare/client-*.pem
for what in --generate-privkey "--generate-certificate --load-privkey bare/client-key.pem"; do
	name=client-key.pem
	[ "$what" = --generate-privkey ] || name=client-cert.pem
	# shellcheck disable=SC2086 # words
	certtool $what --load-ca-certificate pki/ca-cert.pem --load-ca-privkey pki/ca-key.pem --template client.info \
		--outfile bare/$name 2>/dev/null
done
ok "another comes in" limited nbdsh -c "$(reading_with bare)"
ok "stopped" end_here

ok "with keys" serve_here --listen 127.0.0.1:0 --tls-psk keys
with_key() { echo "${uri/:\/\//:\/\/$1@}?tls-psk-file=$work/$2"; }
ok "a client that has one" limited nbdinfo "$(with_key alice keys)"
refused "one that has another" "gnutls_" nbdinfo "$(with_key alice wrong)"
refused "one that nobody knows" "gnutls_" nbdinfo "$(with_key mallory strange)"
refused "one without TLS" "Operation not supported for export" nbdinfo "${uri/nbds:/nbd:}"
cat strange >>keys
ok "a key that came later" limited nbdinfo "$(with_key mallory strange)"
ok "large requests, several at a time" limited nbdcopy --request-size=33554432 --flush content "$(with_key alice keys)"
# A client asks for TLS, and sends something with that which is to count after it.
cat >early.py <<'END'
import socket, struct, sys
def option(number): return b"IHAVEOPT" + struct.pack(">II", number, 0)
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
def take(length):
    data = b""
    while len(data) < length:
        some = sock.recv(length - len(data))
        if not some: return data
        data += some
    return data
take(18)
sock.sendall(struct.pack(">I", 3) + option(5) + (option(8) if sys.argv[2] == "early" else b""))
assert struct.unpack(">QIII", take(20))[2] == 1
sock.settimeout(2)
try:
    print("ended" if sock.recv(1) == b"" else "answered")
except ConnectionResetError:
    print("ended")
except TimeoutError:
    print("waits")
END
port=${uri##*:}
port=${port%%/*}
prints "for TLS it waits" waits limited python3 early.py "$port" not
prints "what comes before TLS ends it" ended limited python3 early.py "$port" early
ok "stopped" end_here
ok "a Unix socket may have it, too" serve_here --tls-psk keys
then_ok "its URI says so" grep -q '^nbds+unix:///0' uris
ok "a client with a key" limited nbdinfo "${uri/:\/\//:\/\/alice@}&tls-psk-file=$work/keys"
refused "and then it is required" "Operation not supported for export" nbdinfo "${uri/nbds+/nbd+}"
ok "stopped" end_here
done_testing
