"""Finds the way to a simulated Exchange by Autodiscover, and is told there of what happens: with exchangelib, a client that
we did not write.

The only argument is the simulator's ready line. Names are resolved by a DNS server of this process, at which exchangelib's
resolver is pointed; connections to port 443 or 80 of these names go to the simulator's ports. Certificates are checked for
the names that were asked for.
"""

import pathlib
import socketserver
import tempfile
import threading
import urllib.parse

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import requests
import urllib3.util.connection
from exchangelib import (
    DELEGATE,
    IMPERSONATION,
    UTC,
    Account,
    Configuration,
    Credentials,
    FaultTolerance,
)
from exchangelib.autodiscover import cache
from exchangelib.autodiscover.cache import autodiscover_cache
from exchangelib.autodiscover.discovery import Autodiscovery
from exchangelib.autodiscover.protocol import AutodiscoverProtocol
from exchangelib.errors import (
    AutoDiscoverCircularRedirect,
    AutoDiscoverFailed,
    ErrorAccessDenied,
    ErrorNonExistentMailbox,
    ErrorSubscriptionNotFound,
    UnauthorizedError,
)
from exchangelib.properties import CreatedEvent, NewMailEvent, StatusEvent
from exchangelib.protocol import BaseProtocol
from exchangelib.services import GetUserSettings

from exchangelib_story import READY, Adapter, deliver, refused, stats

DOMAIN = READY["domain"]
ONE, TWO = f"mailbox00001@{DOMAIN}", f"mailbox00002@{DOMAIN}"
SECURE = urllib.parse.urlsplit(READY["autodiscover_url"])
PLAIN = urllib.parse.urlsplit(READY["autodiscover_http_url"])
# Where names lie, and where an SRV record leads.
PLACES = {}
SERVICES = {}


class Names(socketserver.BaseRequestHandler):
    """Answers for the names that have a place, and for addresses, which exchangelib looks up like names."""

    def handle(self):
        data, socket = self.request
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text().rstrip(".").lower()
        answer = dns.message.make_response(query)
        known = name[0].isdigit() or any(host == name for host, _ in PLACES)
        if question.rdtype == dns.rdatatype.A and known:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "127.0.0.1"))
        elif question.rdtype == dns.rdatatype.SRV and name in SERVICES:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "SRV", SERVICES[name]))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        socket.sendto(answer.to_wire(), self.client_address)


def resolve_here():
    server = socketserver.UDPServer(("127.0.0.1", 0), Names)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Autodiscovery.DNS_RESOLVER_KWARGS = {"configure": False}
    Autodiscovery.DNS_RESOLVER_ATTRS = {"port": server.server_address[1], "nameservers": ["127.0.0.1"], "timeout": 5}
    connect = urllib3.util.connection.create_connection

    def create_connection(address, *given, **arguments):
        if not address[0][0].isdigit() and address not in PLACES:
            raise OSError(f"{address} is nowhere")
        return connect(PLACES.get(address, address), *given, **arguments)

    urllib3.util.connection.create_connection = create_connection


def control(path, **body):
    answer = requests.post(READY["control_url"] + path, json=body, timeout=30)
    assert answer.status_code == 200, answer.text


def no_faults():
    assert requests.delete(READY["control_url"] + "/fault", timeout=30).status_code == 200


def lie(*secure, plain=(), services=None):
    """Says which names there are: with TLS, without, and by SRV."""
    PLACES.clear()
    PLACES.update({(name, 443): (SECURE.hostname, SECURE.port) for name in secure})
    PLACES.update({(name, 80): (PLAIN.hostname, PLAIN.port) for name in plain})
    SERVICES.clear()
    SERVICES.update(services or {})
    autodiscover_cache.clear()


def discovered(address, user=READY["user"], access=IMPERSONATION, password=READY["password"]):
    return Account(address, credentials=Credentials(user, password), autodiscover=True, access_type=access, default_timezone=UTC)


def asked():
    requests_of = stats()["requests"]
    return {name: requests_of.get(name, 0) for name in ("autodiscover.svc", "autodiscover.http")}


def finds(svc=1, http=0):
    """The account is found with so many requests, and its mailbox can be read."""
    before = asked()
    me = discovered(ONE)
    assert me.protocol.service_endpoint == READY["ews_url"], me.protocol.service_endpoint
    assert me.primary_smtp_address == ONE
    after = asked()
    made = {name: after[name] - before[name] for name in after}
    assert made == {"autodiscover.svc": svc, "autodiscover.http": http}, made
    assert me.inbox.all().count() == 0
    return me


def the_way_is_found():
    secure, srv = f"autodiscover.{DOMAIN}", f"_autodiscover._tcp.{DOMAIN}"
    lie(DOMAIN)
    finds()
    lie(secure)
    finds()
    lie(plain=[secure])
    finds(http=1)
    lie(f"mail.{DOMAIN}", services={srv: f"0 0 443 mail.{DOMAIN}."})
    finds()
    lie()
    refused(AutoDiscoverFailed, lambda: discovered(ONE))
    # The second time the way is known, until it leads nowhere.
    lie(DOMAIN, secure)
    finds()
    finds()
    del PLACES[(DOMAIN, 443)]
    autodiscover_cache.close()
    finds()


def the_certificate_is_checked():
    """A server whose certificate is for other names is not asked."""
    lie(f"autodiscover.{DOMAIN}.evil.test", f"{DOMAIN}.evil.test")
    before = stats()["requests"]
    refused(AutoDiscoverFailed, lambda: discovered(f"somebody@{DOMAIN}.evil.test"))
    assert stats()["requests"] == before


def wrong_turns():
    lie(DOMAIN, f"autodiscover.{DOMAIN}")
    path = SECURE.path

    def turn(**rule):
        no_faults()
        autodiscover_cache.clear()
        control("/fault", **rule)

    turn(kind="redirect_address", mailbox=ONE, target=TWO)
    assert discovered(ONE).primary_smtp_address == TWO
    control("/fault", kind="redirect_address", mailbox=TWO, target=ONE)
    refused(AutoDiscoverCircularRedirect, lambda: discovered(ONE))
    turn(kind="redirect_url", target=f"https://autodiscover.{DOMAIN}{path}", host=DOMAIN)
    finds(svc=2)
    control("/fault", kind="redirect_url", target=f"https://{DOMAIN}{path}", host=f"autodiscover.{DOMAIN}")
    autodiscover_cache.clear()
    refused(AutoDiscoverFailed, lambda: discovered(ONE))
    for target in (f"http://{DOMAIN}{path}", f"https://autodiscover.elsewhere.test{path}"):
        turn(kind="redirect_url", target=target)
        refused(AutoDiscoverFailed, lambda: discovered(ONE))
    turn(kind="http_redirect", host=DOMAIN, target=f"https://autodiscover.{DOMAIN}{path}")
    assert discovered(ONE).primary_smtp_address == ONE
    turn(kind="http_404")
    refused(AutoDiscoverFailed, lambda: discovered(ONE))
    turn(kind="server_busy")
    refused(AutoDiscoverFailed, lambda: discovered(ONE))
    for code, error in (
        ("InvalidUser", ErrorNonExistentMailbox),
        ("ServerBusy", AutoDiscoverFailed),
        ("NotFederated", AutoDiscoverFailed),
        ("InvalidRequest", AutoDiscoverFailed),
    ):
        turn(kind="autodiscover_error", code=code)
        refused(error, lambda: discovered(ONE))
    no_faults()
    autodiscover_cache.clear()
    refused(ErrorNonExistentMailbox, lambda: discovered(f"nobody@{DOMAIN}"))
    refused(UnauthorizedError, lambda: discovered(ONE, password="wrong"))


def many_at_once():
    lie(DOMAIN)
    credentials = Credentials(READY["user"], READY["password"])
    configuration = Configuration(service_endpoint=f"https://{DOMAIN}{SECURE.path}", credentials=credentials)
    protocol = AutodiscoverProtocol(config=configuration)
    before = asked()["autodiscover.svc"]
    users = [ONE, f"alias00002@{DOMAIN}", f"nobody@{DOMAIN}"]
    one, two, nobody = GetUserSettings(protocol=protocol).call(
        users=users, settings=["external_ews_url", "auto_discover_smtp_address", "external_oab_url"]
    )
    assert asked()["autodiscover.svc"] == before + 1
    for found, address in ((one, ONE), (two, TWO)):
        assert (found.ews_url, found.autodiscover_smtp_address) == (READY["ews_url"], address), found
        assert "external_oab_url" in found.user_settings_errors, found
    assert (nobody.error_code, nobody.user_settings) == ("InvalidUser", None), nobody


def account(address, user, access):
    credentials = Credentials(user, READY["password"])
    configuration = Configuration(
        service_endpoint=READY["ews_url"], credentials=credentials, auth_type="basic", retry_policy=FaultTolerance(30)
    )
    return Account(address, config=configuration, access_type=access, autodiscover=False, default_timezone=UTC)


def news(notifications):
    """Kinds of events and the items to which they happened, without signs of life and folders."""
    events = [event for notification in notifications for event in notification.events]
    return [(type(event), event.item_id.id) for event in events if not isinstance(event, StatusEvent) and event.item_id]


def streamed(me, subject):
    with me.inbox.streaming_subscription() as subscription:
        assert deliver(to=[me.primary_smtp_address], subject=subject) == 1
        told = news(me.inbox.get_streaming_events(subscription, connection_timeout=1))
        [item] = me.inbox.filter(subject=subject)
        assert told == [(NewMailEvent, item.id), (CreatedEvent, item.id)], told
        # While the connection stands, what happens is told at once.
        stream = me.inbox.get_streaming_events(subscription, connection_timeout=1)
        later = threading.Timer(0.1, lambda: deliver(to=[me.primary_smtp_address], subject=f"{subject} again"))
        later.start()
        [first, *_] = news([next(notification for notification in stream if news([notification]))])
        assert first[0] is NewMailEvent, first
        stream.close()
    refused(ErrorSubscriptionNotFound, lambda: list(me.inbox.get_streaming_events(subscription, connection_timeout=1)))


def fetched(me, subject):
    with me.inbox.pull_subscription() as (subscription, watermark):
        [nothing] = me.inbox.get_events(subscription, watermark)
        assert [type(event) for event in nothing.events] == [StatusEvent], nothing
        assert deliver(to=[me.primary_smtp_address], subject=subject) == 1
        [notification] = me.inbox.get_events(subscription, watermark)
        kinds = [kind for kind, _ in news([notification])]
        assert kinds == [NewMailEvent, CreatedEvent], notification
        [nothing] = me.inbox.get_events(subscription, notification.events[-1].watermark)
        assert [type(event) for event in nothing.events] == [StatusEvent], nothing


def what_happens_is_told():
    control("/settings", minute_ms=1500, status_ms=200)
    for me in (account(ONE, READY["user"], IMPERSONATION), account(TWO, TWO, DELEGATE)):
        streamed(me, "Streamed")
        fetched(me, "Fetched")
    both = [account(address, READY["user"], IMPERSONATION) for address in (ONE, TWO)]
    subscriptions = [me.inbox.subscribe_to_streaming() for me in both]
    for me in both:
        assert deliver(to=[me.primary_smtp_address], subject="Both") == 1
    told = list(both[0].inbox.get_streaming_events(subscriptions, connection_timeout=1))
    of = {notification.subscription_id for notification in told if news([notification])}
    assert of == set(subscriptions), told
    assert stats()["wrong_affinity"] == 0, stats()


def permissions():
    """A mailbox is opened by another account: once it may."""
    refused(ErrorAccessDenied, lambda: account(TWO, ONE, DELEGATE).inbox)
    control("/permissions", mailbox=TWO, to=ONE, permissions=["full_access"])
    before = account(TWO, TWO, DELEGATE).inbox.all().count()
    other = account(TWO, ONE, DELEGATE)
    assert other.inbox.all().count() == before > 0
    item = other.inbox.all().order_by("datetime_received")[0]
    item.is_read = True
    item.save(update_fields=["is_read"])
    assert account(TWO, TWO, DELEGATE).inbox.filter(is_read=True).count() == 1
    assert stats()["wrong_anchor_mailbox"] == 0, stats()


def main():
    BaseProtocol.HTTP_ADAPTER_CLS = Adapter
    with tempfile.TemporaryDirectory() as folder:
        cache.AUTODISCOVER_PERSISTENT_STORAGE = pathlib.Path(folder, "cache")
        resolve_here()
        the_way_is_found()
        the_certificate_is_checked()
        wrong_turns()
        many_at_once()
        autodiscover_cache.clear()
    what_happens_is_told()
    permissions()
    print("ok", flush=True)


if __name__ == "__main__":
    main()
