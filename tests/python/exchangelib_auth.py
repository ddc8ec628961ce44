"""Signs in at a simulated Exchange 2013 with clients that we did not write: NTLM, Negotiate and tokens.

The only argument is the simulator's ready line. exchangelib speaks NTLM by requests_ntlm and pyspnego, with a MIC, a key
that is exchanged, and channel bindings; SPNEGO is spoken by pyspnego over a bare connection.
"""

import base64
import hashlib
import http.client
import json
import ssl
import time
import urllib.parse
import uuid

import requests
import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from exchangelib import (
    DELEGATE,
    IMPERSONATION,
    NTLM,
    OAUTH2,
    UTC,
    Account,
    Build,
    Configuration,
    Credentials,
    FaultTolerance,
    OAuth2AuthorizationCodeCredentials,
)
from exchangelib.errors import ErrorImpersonateUserDenied, UnauthorizedError
from exchangelib.protocol import BaseProtocol
from spnego.channel_bindings import GssChannelBindings

from exchangelib_story import READY, Adapter, deliver, refused, stats

EWS = urllib.parse.urlsplit(READY["ews_url"])
ENVELOPE = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" '
    'xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Body><m:GetFolder><m:FolderShape>'
    '<t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds>'
    "</m:GetFolder></s:Body></s:Envelope>"
)


def settings(**change):
    answer = requests.post(READY["control_url"] + "/settings", json=change, timeout=30)
    assert answer.status_code == 200, answer.text


def account(address, credentials, access, auth_type, **options):
    configuration = Configuration(
        service_endpoint=READY["ews_url"], credentials=credentials, auth_type=auth_type, **options
    )
    return Account(address, config=configuration, access_type=access, autodiscover=False, default_timezone=UTC)


def reads(me, subjects):
    assert me.version.build >= Build(15, 0, 847) and me.version.build < Build(15, 1), me.version
    assert me.version.api_version == "Exchange2013_SP1", me.version
    assert sorted(item.subject for item in me.inbox.all()) == subjects


def ntlm(one, two):
    password = READY["password"]
    windows = f"{READY['nt_domain']}\\{READY['user'].split('@')[0]}"
    for protection in ("allow", "require"):
        settings(extended_protection=protection)
        before = stats()["handshakes"]
        # Without a type, exchangelib asks the server what it offers.
        for user, auth_type in ((READY["user"], NTLM), (windows, NTLM), (READY["user"], None)):
            me = account(one, Credentials(user, password), IMPERSONATION, auth_type)
            reads(me, ["One"])
            me.protocol.close()
        assert stats()["handshakes"] >= before + 3, stats()
        own = account(two, Credentials(two, password), DELEGATE, NTLM)
        reads(own, ["Two"])
        stranger = account(one, Credentials(two, password), IMPERSONATION, NTLM)
        refused(ErrorImpersonateUserDenied, lambda: stranger.inbox)
        wrong = account(two, Credentials(two, "wrong"), DELEGATE, NTLM)
        refused(UnauthorizedError, lambda: wrong.inbox)
    settings(extended_protection="allow")


class Talk:
    """A connection to the EWS endpoint, and a handshake on it."""

    def __init__(self, password, data=None, protocol="negotiate"):
        context = ssl.create_default_context(cafile=READY["ca_file"])
        self.line = http.client.HTTPSConnection(EWS.hostname, EWS.port, context=context, timeout=30)
        self.line.connect()
        certificate = hashlib.sha256(self.line.sock.getpeercert(binary_form=True)).digest()
        bindings = GssChannelBindings(application_data=data or b"tls-server-end-point:" + certificate)
        self.client = spnego.client(
            READY["user"],
            password,
            hostname=EWS.hostname,
            service="HTTP",
            channel_bindings=bindings,
            protocol=protocol,
            options=spnego.NegotiateOptions.use_negotiate,
        )

    def ask(self, token=None):
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        if token:
            headers["Authorization"] = "Negotiate " + base64.b64encode(token).decode()
        self.line.request("POST", EWS.path, body=ENVELOPE, headers=headers)
        answer = self.line.getresponse()
        body = answer.read()
        assert answer.status == 200 or body == b"", body
        challenges = answer.headers.get_all("WWW-Authenticate") or []
        blobs = [challenge.split(" ")[1] for challenge in challenges if challenge.startswith("Negotiate ")]
        return answer.status, base64.b64decode(blobs[0]) if blobs else None

    def sign_in(self):
        token = self.client.step()
        while token:
            status, token = self.ask(token)
            if token is None:
                return status
            # Of the last token, pyspnego checks the signature over the list of mechanisms.
            token = self.client.step(token)
        assert self.client.complete
        return status


def negotiate():
    password = READY["password"]
    talk = Talk(password)
    assert talk.sign_in() == 200
    assert [talk.ask()[0] for _ in range(3)] == [200, 200, 200], "the connection is known"
    assert Talk(password).ask() == (401, None)
    settings(extended_protection="require")
    assert Talk(password).sign_in() == 200
    assert Talk(password, b"tls-server-end-point:other").sign_in() == 401
    settings(extended_protection="allow")
    assert Talk("wrong").sign_in() == 401
    # The bare messages of NTLM pass under the name of Negotiate too.
    assert Talk(password, protocol="ntlm").sign_in() == 200


def part(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def token(version):
    """A token for a signed assertion, as Entra's documentation says it."""
    oauth = READY["oauth"]
    with open(oauth["certificate_file"], "rb") as file:
        pem = file.read()
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(pem, None)
    metadata = requests.get(
        f"{oauth['authority']}/{oauth['tenant']}{version}/.well-known/openid-configuration",
        verify=READY["ca_file"],
        timeout=30,
    ).json()
    now = int(time.time())
    claims = {
        "aud": metadata["token_endpoint"],
        "iss": oauth["client"],
        "sub": oauth["client"],
        "jti": str(uuid.uuid4()),
        "nbf": now,
        "exp": now + 600,
    }
    header = {"alg": "PS256", "typ": "JWT", "x5t#S256": part(certificate.fingerprint(hashes.SHA256()))}
    signed = part(json.dumps(header).encode()) + "." + part(json.dumps(claims).encode())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    form = {
        "grant_type": "client_credentials",
        "client_id": oauth["client"],
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed + "." + part(key.sign(signed.encode(), pss, hashes.SHA256())),
    }
    form |= {"scope": oauth["resource"] + "/.default"} if version else {"resource": oauth["resource"]}
    answer = requests.post(metadata["token_endpoint"], data=form, verify=READY["ca_file"], timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def oauth(one):
    for version in ("", "/v2.0"):
        credentials = OAuth2AuthorizationCodeCredentials(access_token=token(version))
        reads(account(one, credentials, IMPERSONATION, OAUTH2), ["One"])
    settings(token_seconds=0)
    expired = OAuth2AuthorizationCodeCredentials(access_token=token("") | {"expires_in": "3600"})
    refused(UnauthorizedError, lambda: account(one, expired, IMPERSONATION, OAUTH2).inbox)
    settings(token_seconds=3599)
    assert stats()["refused_sign_ins"]["token_expired"] >= 1, stats()


def throttled(one):
    """exchangelib waits and tries again when too much is under way."""
    credentials = Credentials(one, READY["password"])
    me = account(one, credentials, DELEGATE, NTLM, retry_policy=FaultTolerance(max_wait=30))
    reads(me, ["One"])
    busy = {"kind": "concurrency", "limit": 0, "hint_ms": 10, "count": 2}
    assert requests.post(READY["control_url"] + "/fault", json=busy, timeout=30).status_code == 200
    reads(me, ["One"])
    assert stats()["faults"]["concurrency"] == 2


def main():
    BaseProtocol.HTTP_ADAPTER_CLS = Adapter
    with open(READY["addresses_file"], encoding="utf-8") as file:
        one, two = file.read().split()
    for address, subject in ((one, "One"), (two, "Two")):
        assert deliver(to=[address], subject=subject) == 1
    ntlm(one, two)
    negotiate()
    oauth(one)
    throttled(one)
    print("ok", flush=True)


if __name__ == "__main__":
    main()
