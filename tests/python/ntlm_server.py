"""An HTTPS server that authenticates by NTLM or Negotiate with pyspnego, an implementation that we did not write.

Arguments: scheme (ntlm, negotiate), binding (right, wrong: of another channel), certificate and key (PEM), and the file
that answers every authenticated request. NTLM_USER_FILE names the accounts. Says its port, then what it saw.
"""

import base64
import http.server
import ssl
import sys

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego._ntlm_raw.messages import Authenticate, AvFlags, AvId, NTClientChallengeV2
from spnego._spnego import NegTokenResp, unpack_token
from spnego.channel_bindings import GssChannelBindings

SCHEME, BINDING, CERTIFICATE, KEY, ANSWER = sys.argv[1:]
OPTIONS = {"ntlm": spnego.NegotiateOptions.use_ntlm, "negotiate": spnego.NegotiateOptions.use_negotiate}
NAMES = {"ntlm": "NTLM", "negotiate": "Negotiate"}


def bindings():
    """RFC 5929: the certificate, hashed as it is signed."""
    with open(CERTIFICATE, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    digest = certificate.fingerprint(certificate.signature_hash_algorithm)
    if BINDING == "wrong":
        digest = certificate.fingerprint(hashes.SHA512())
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest)


def say(text):
    print(text, flush=True)


def describe(context, token):
    """What stands in the last message of NTLM."""
    if not token.startswith(b"NTLMSSP\0"):
        response = unpack_token(token)
        assert isinstance(response, NegTokenResp) and response.mech_list_mic, "a MIC of the list is there"
        token = response.response_token
    message = Authenticate.unpack(token)
    pairs = NTClientChallengeV2.unpack(message.nt_challenge_response[16:]).av_pairs
    mic = bool(pairs.get(AvId.flags, 0) & AvFlags.mic) and any(message.mic)
    bound = any(pairs.get(AvId.channel_bindings, b""))
    say(f"authenticated {context.client_principal} for {pairs[AvId.target_name]}, MIC {mic}, binding {bound}")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # It stands in for IIS; by another name it would be taken for a proxy.
    server_version, sys_version = "Microsoft-IIS/10.0", ""
    # Nagle would keep the second packet of an answer back for 40 ms.
    disable_nagle_algorithm = True
    context = None
    known = False
    requests = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        last = None
        if not self.known:
            if scheme != NAMES[SCHEME]:
                return self.refuse(None)
            token = base64.b64decode(token)
            if self.context is None:
                assert not body, "the first leg carries no request"
                self.context = spnego.server(
                    hostname="127.0.0.1",
                    service="HTTP",
                    channel_bindings=bindings(),
                    protocol=SCHEME,
                    options=OPTIONS[SCHEME],
                )
            try:
                last = self.context.step(token)
            except Exception as refusal:
                say(f"refused: {refusal}")
                self.context = None
                return self.refuse(None)
            if not self.context.complete:
                return self.refuse(last)
            describe(self.context, token)
            self.known = True
        self.requests += 1
        say(f"request {self.requests}, without authorization: {not scheme}")
        with open(ANSWER, "rb") as file:
            self.answer(200, file.read(), last)

    def refuse(self, token):
        self.answer(401, b"", token)

    def answer(self, status, body, token):
        self.send_response(status)
        if status == 401 or token:
            challenge = f" {base64.b64encode(token).decode()}" if token else ""
            self.send_header("WWW-Authenticate", NAMES[SCHEME] + challenge)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
server.socket = tls.wrap_socket(server.socket, server_side=True)
say(server.server_address[1])
server.serve_forever()
