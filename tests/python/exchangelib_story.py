"""Drives a simulated Exchange with exchangelib, a client that we did not write, and checks what it gets.

The only argument is the simulator's ready line. Each story is told twice: by the service account that impersonates a
mailbox, and by a mailbox that signs in itself.
"""

import datetime
import email
import json
import sys

import requests
import requests.adapters
from exchangelib import (
    DELEGATE,
    IMPERSONATION,
    UTC,
    Account,
    Build,
    Configuration,
    Credentials,
    FaultTolerance,
    FileAttachment,
    Folder,
    HTMLBody,
    Mailbox,
    Message,
    Version,
)
from exchangelib.errors import (
    ErrorFolderExists,
    ErrorImpersonateUserDenied,
    ErrorInvalidRecipients,
    ErrorInvalidSyncStateData,
    ErrorItemNotFound,
    ErrorNameResolutionNoResults,
    ErrorNonPrimarySmtpAddress,
    ErrorSchemaValidation,
    UnauthorizedError,
)
from exchangelib.extended_properties import ExtendedProperty
from exchangelib.protocol import BaseProtocol
from exchangelib.services import GetFolder

READY = json.loads(sys.argv[1])


class Adapter(requests.adapters.HTTPAdapter):
    """Trusts the simulator's authority and nobody else."""

    def cert_verify(self, conn, url, verify, cert):
        super().cert_verify(conn=conn, url=url, verify=READY["ca_file"], cert=cert)

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        return super().get_connection_with_tls_context(request, READY["ca_file"], proxies, cert)


class OperationId(ExtendedProperty):
    property_set_id = "6d61696c-7961-7264-8000-000000000001"
    property_name = "OperationId"
    property_type = "String"


class SearchKey(ExtendedProperty):
    property_tag = 0x300B
    property_type = "Binary"


class ArticleNumber(ExtendedProperty):
    property_tag = 0x0E23
    property_type = "Integer"


def account(address, user, access, **options):
    credentials = Credentials(user, READY["password"])
    configuration = Configuration(
        service_endpoint=READY["ews_url"], credentials=credentials, auth_type="basic", **options
    )
    return Account(address, config=configuration, access_type=access, autodiscover=False, default_timezone=UTC)


def refused(error, action):
    try:
        action()
    except error as refusal:
        return refusal
    raise AssertionError(f"{error.__name__} was expected")


def deliver(**message):
    answer = requests.post(READY["control_url"] + "/deliver", json=message, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["delivered"]


def stats():
    return requests.get(READY["control_url"] + "/stats", timeout=30).json()


def the_certificate_is_looked_at():
    refused(requests.exceptions.SSLError, lambda: requests.post(READY["ews_url"], timeout=30))


def folders(me):
    """The tree, by GetFolder and FindFolder; a hierarchy that is synchronized."""
    names = {folder.name for folder in me.msg_folder_root.walk()}
    wanted = {"Inbox", "Drafts", "Sent Items", "Outbox", "Deleted Items", "Junk Email", "Calendar", "Contacts", "Tasks"}
    assert wanted <= names, names
    assert (me.inbox.name, me.inbox.folder_class) == ("Inbox", "IPF.Note")
    assert me.inbox.parent.id == me.msg_folder_root.id
    first = list(me.msg_folder_root.sync_hierarchy())
    assert {kind for kind, _ in first} == {"create"} and wanted <= {folder.name for _, folder in first}
    state = me.msg_folder_root.folder_sync_state
    made = Folder(parent=me.inbox, name="Offers & more").save()
    assert made.id and made.changekey
    refused(ErrorFolderExists, lambda: Folder(parent=me.inbox, name="Offers & more").save())
    changes = list(me.msg_folder_root.sync_hierarchy(sync_state=state))
    assert [(kind, folder.name) for kind, folder in changes] == [("create", "Offers & more")], changes
    me.root.refresh()
    assert (me.inbox / "Offers & more").id == made.id
    return made


def synchronized(me, address):
    """Change after change by SyncFolderItems, in pages, and a state that is damaged."""
    assert list(me.inbox.sync_items()) == []
    text = "Grüße & <Küsse>"
    assert deliver(to=[address], subject=text, text=text, **{"from": "jane@outside.example"}) == 1
    [(kind, item)] = list(me.inbox.sync_items())
    assert (kind, item.subject, item.sender.email_address, item.is_read) == ("create", text, "jane@outside.example", False)
    now = datetime.datetime.now(tz=UTC)
    assert abs(now - item.datetime_received) < datetime.timedelta(minutes=10), item.datetime_received
    got = me.inbox.get(id=item.id, changekey=item.changekey)
    got.is_read = True
    got.save(update_fields=["is_read"])
    changes = list(me.inbox.sync_items())
    assert [(kind, change[1]) for kind, change in changes] == [("read_flag_change", True)], changes
    got.refresh()
    got.subject = "Changed"
    got.categories = ["Red", "Blue"]
    got.save()
    [(kind, changed)] = list(me.inbox.sync_items())
    assert (kind, changed.subject, changed.id) == ("update", "Changed", item.id)
    got.delete()
    [(kind, gone)] = list(me.inbox.sync_items())
    assert (kind, gone.id) == ("delete", item.id)
    assert list(me.inbox.sync_items()) == []
    assert deliver(to=[address], count=120, subject="Many") == 120
    subjects = [item.subject for kind, item in me.inbox.sync_items(max_changes_returned=50) if kind == "create"]
    assert sorted(subjects) == sorted(f"Many {number}" for number in range(1, 121))
    refused(ErrorInvalidSyncStateData, lambda: list(me.inbox.sync_items(sync_state="H4sIAAAA")))
    me.inbox.item_sync_state = None


def found(me):
    """FindItem: filters, order, pages, and GetItem behind it."""
    many = me.inbox.filter(subject__startswith="Many")
    assert many.count() == 120
    newest = many.order_by("-datetime_received")
    newest.page_size = 50
    assert len(list(newest)) == 120
    one = me.inbox.get(subject="Many 7")
    assert one.text_body.startswith("Hello") and one.has_attachments is False and one.size > 0
    assert not me.inbox.filter(subject="Many 7", is_read=True).exists()
    assert me.inbox.filter(datetime_received__gt=one.datetime_received - datetime.timedelta(hours=1)).count() == 120
    numbers = list(me.inbox.all().order_by("article_number").values_list("article_number", flat=True))
    assert len(numbers) == 120 and numbers == sorted(set(numbers)), numbers
    assert len(one.search_key) == 16
    me.inbox.filter(subject__startswith="Many").delete()
    assert me.inbox.all().count() == 0


def content(me, address):
    """MIME as it was delivered, and as it is made of properties."""
    lines = [
        "From: Jane Doe <jane@outside.example>",
        f"To: {address}",
        "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=",
        "Message-ID: <mime-1@outside.example>",
        "References: <mime-0@outside.example>",
        "Date: Mon, 01 Jun 2026 08:00:00 +0000",
        "",
        "Line 1",
        "Line 2",
        "",
    ]
    deliver(to=[address], mime="\n".join(lines))
    item = me.inbox.get(message_id="<mime-1@outside.example>")
    assert (item.subject, item.references) == ("Grüße", "<mime-0@outside.example>")
    assert (item.author.name, item.author.email_address) == ("Jane Doe", "jane@outside.example")
    assert item.mime_content == "\r\n".join(lines).encode()
    headers = {header.name: header.value for header in item.headers}
    assert headers["Message-ID"] == "<mime-1@outside.example>", headers
    deliver(to=[address], subject="Made", text="Größe")
    read = email.message_from_bytes(me.inbox.get(subject="Made").mime_content)
    assert read["Message-ID"] and read.get_payload(decode=True).decode() == "Größe"
    for item in me.inbox.all():
        item.delete()


def sent(me, you, folder):
    """A draft with an attachment is made, found, sent and gone; it arrives once, and a copy stays."""
    before = stats()["sends_executed"]
    draft = Message(
        account=me,
        folder=me.drafts,
        subject="An offer",
        body=HTMLBody("<p>Grüße</p>"),
        to_recipients=[Mailbox(name="You", email_address=you.primary_smtp_address)],
        bcc_recipients=[Mailbox(email_address="hidden@outside.example")],
        importance="High",
        operation_id=f"op-{me.primary_smtp_address}",
    )
    draft.save()
    assert draft.id and draft.changekey and draft.is_draft is not False
    draft.attach(FileAttachment(name="plan.txt", content=b"Hello", content_type="text/plain"))
    kept = me.drafts.get(operation_id=draft.operation_id)
    assert (kept.id, kept.changekey, kept.is_draft) == (draft.id, draft.changekey, True)
    assert [(file.name, file.content) for file in kept.attachments] == [("plan.txt", b"Hello")]
    assert [person.email_address for person in kept.bcc_recipients] == ["hidden@outside.example"]
    kept.send()
    assert me.drafts.all().count() == 0
    refused(ErrorItemNotFound, lambda: me.drafts.get(id=draft.id, changekey=draft.changekey).body)
    copy = me.sent.get(operation_id=draft.operation_id)
    assert (copy.subject, copy.is_draft, copy.is_read) == ("An offer", False, True)
    arrived = you.inbox.get(subject="An offer")
    assert arrived.sender.email_address == me.primary_smtp_address and arrived.message_id == copy.message_id
    assert not arrived.bcc_recipients and arrived.is_read is False and arrived.importance == "High"
    assert "Grüße" in arrived.body and arrived.attachments[0].content == b"Hello"

    at_once = Message(account=me, folder=me.sent, subject="At once", body="Hello", to_recipients=[you.primary_smtp_address])
    at_once.send_and_save()
    assert you.inbox.filter(subject="At once").count() == me.sent.filter(subject="At once").count() == 1
    nobody = Message(account=me, subject="To nobody", to_recipients=["nobody"])
    refused(ErrorInvalidRecipients, nobody.send)
    assert stats()["sends_executed"] == before + 2
    moved(you.inbox, arrived, you.inbox.get(subject="At once"), you)
    for item in me.sent.all():
        item.move(folder)
    assert folder.all().count() == 2 and me.sent.all().count() == 0


def moved(inbox, first, second, me):
    """Moves give new ids, and the key for searching stays; deletions go where they say."""
    old, key = first.id, first.search_key
    first.move(me.junk)
    assert first.id != old and me.junk.get(subject="An offer").search_key == key
    refused(ErrorItemNotFound, lambda: inbox.get(id=old, changekey=None).body)
    first.move_to_trash()
    assert me.trash.get(subject="An offer").search_key == key
    second.soft_delete()
    assert me.recoverable_items_deletions.filter(subject="At once").count() == 1
    assert inbox.all().count() == 0


def names(me):
    [(mailbox, _)] = me.protocol.resolve_names(["smtp:mailbox00002@exchange.test"], return_full_contact_data=True)
    assert mailbox.email_address == "mailbox00002@exchange.test", mailbox
    assert len(me.protocol.resolve_names(["mailbox"])) == 2
    [nobody] = me.protocol.resolve_names(["nobody"])
    assert isinstance(nobody, ErrorNameResolutionNoResults), nobody


def refusals(addresses):
    """What a client must not get away with."""
    one, two = addresses
    stranger = account(two, one, IMPERSONATION)
    refused(ErrorImpersonateUserDenied, lambda: stranger.inbox)
    alias = account("alias00001@exchange.test", READY["user"], IMPERSONATION)
    refused(ErrorNonPrimarySmtpAddress, lambda: alias.inbox)
    wrong = account(one, "nobody@exchange.test", DELEGATE)
    refused(UnauthorizedError, lambda: wrong.inbox)
    plain = account(one, one, DELEGATE)
    service = GetFolder(account=plain)
    get = service.get_payload

    def without_ids(*given, **arguments):
        payload = get(*given, **arguments)
        payload.remove(payload[-1])
        return payload

    service.get_payload = without_ids
    shape = {"folders": [plain.inbox], "additional_fields": [], "shape": "IdOnly"}
    violation = refused(ErrorSchemaValidation, lambda: list(service.call(**shape)))
    assert "FolderIds" in str(violation), violation


def main():
    BaseProtocol.HTTP_ADAPTER_CLS = Adapter
    Message.register("operation_id", OperationId)
    Message.register("search_key", SearchKey)
    Message.register("article_number", ArticleNumber)
    with open(READY["addresses_file"], encoding="utf-8") as file:
        one, two = file.read().split()
    the_certificate_is_looked_at()
    windows = f"{READY['nt_domain']}\\{READY['user'].split('@')[0]}"
    tolerant = {"retry_policy": FaultTolerance(max_wait=30)}
    impersonated = account(one, READY["user"], IMPERSONATION)
    own = account(two, two, DELEGATE, **tolerant)
    for me, you, address in ((impersonated, own, one), (own, impersonated, two)):
        assert me.version.build >= Build(15, 2) and me.version.api_version == "Exchange2016", me.version
        made = folders(me)
        synchronized(me, address)
        found(me)
        content(me, address)
        sent(me, you, made)
        names(me)
        print(f"{address}: ok", flush=True)
    # An old client, and the service account's other name.
    old = account(two, windows, IMPERSONATION, version=Version(build=Build(15, 0, 847), api_version="Exchange2013_SP1"))
    assert old.inbox.all().count() == 0
    refusals((one, two))
    busy = {"kind": "server_busy_hint", "mailbox": two, "count": 1, "hint_ms": 10}
    assert requests.post(READY["control_url"] + "/fault", json=busy, timeout=30).status_code == 200
    assert own.inbox.all().count() == 0
    assert stats()["faults"]["server_busy_hint"] == 1
    print("ok", flush=True)


if __name__ == "__main__":
    main()
