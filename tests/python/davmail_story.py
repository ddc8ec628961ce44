"""Reads, files and sends mail by IMAP and SMTP through DavMail, which makes EWS of it.

The arguments are the simulator's ready line, DavMail's IMAP port and its SMTP port.
"""

import email
import email.policy
import imaplib
import json
import smtplib
import sys
import urllib.request
from email.message import EmailMessage

READY, IMAP, SMTP = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ONE, TWO = open(READY["addresses_file"]).read().split()
imaplib.Commands["MOVE"] = ("SELECTED",)


def control(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(READY["control_url"] + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


def enter(address):
    server = imaplib.IMAP4("127.0.0.1", IMAP)
    server.login(address, READY["password"])
    return server


def well(answer):
    word, data = answer
    assert word == "OK", answer
    return data


def select(server, folder):
    return int(well(server.select(folder))[0])


def uids(server, *criteria):
    found = well(server.uid("search", None, *criteria))
    return found[0].split() if found[0] else []


def message(server, uid):
    data = well(server.uid("fetch", uid, "(UID FLAGS RFC822.SIZE BODY.PEEK[])"))
    head, body = data[0]
    return head.decode(), email.message_from_bytes(body, policy=email.policy.default)


def subjects(address, folder):
    return [item["subject"] for item in control(f"/mailbox/{address}/{folder}")]


def reads(server):
    control("/deliver", {"to": [ONE], "subject": "Grüße", "text": "Ein Apfel"})
    assert select(server, "INBOX") == 1
    (uid,) = uids(server, "UNSEEN")
    head, found = message(server, uid)
    assert "\\Seen" not in head, head
    assert (found["Subject"], found.get_content().strip()) == ("Grüße", "Ein Apfel"), found
    well(server.uid("store", uid, "+FLAGS", "(\\Seen \\Flagged)"))
    head, _ = message(server, uid)
    assert "\\Seen" in head and "\\Flagged" in head, head
    assert not uids(server, "UNSEEN")
    return uid


def files(server, uid):
    well(server.create("Projects"))
    assert any(b'"Projects"' in line for line in well(server.list()))
    well(server._simple_command("UID", "MOVE", uid.decode(), "Projects"))
    assert select(server, "INBOX") == 0
    assert select(server, "Projects") == 1
    head, found = message(server, uids(server, "ALL")[0])
    assert found["Subject"] == "Grüße" and "\\Flagged" in head, head


def appends_and_deletes(server):
    own = letter("Appended")
    own.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="all.bin")
    text = own.as_bytes(policy=email.policy.SMTP)
    well(server.append("INBOX", "(\\Seen)", '"01-Feb-2026 10:11:12 +0000"', text))
    assert select(server, "INBOX") == 1
    (uid,) = uids(server, "SUBJECT", "Appended")
    data = well(server.uid("fetch", uid, "(INTERNALDATE)"))
    assert b'"01-Feb-2026 10:11:12 +0000"' in data[0], data
    _, found = message(server, uid)
    (attachment,) = found.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("all.bin", bytes(range(256)) * 40)
    well(server.uid("store", uid, "+FLAGS", "(\\Deleted)"))
    well(server.expunge())
    assert select(server, "INBOX") == 0


def letter(subject):
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = ONE, TWO, subject
    made["Message-ID"] = f"<{subject.lower()}@client.example>"
    made.set_content("Ein Brief\n")
    return made


def sends():
    with smtplib.SMTP("127.0.0.1", SMTP) as server:
        server.login(ONE, READY["password"])
        server.send_message(letter("Sent"), ONE, [TWO, "hidden@outside.example"])
    assert subjects(ONE, "sentitems") == ["Sent"]
    other = enter(TWO)
    assert select(other, "INBOX") == 1
    _, found = message(other, uids(other, "ALL")[0])
    assert (found["Message-ID"], found["Bcc"]) == ("<sent@client.example>", None), found
    other.logout()


def refuses():
    try:
        imaplib.IMAP4("127.0.0.1", IMAP).login(ONE, "wrong")
    except imaplib.IMAP4.error:
        return
    raise AssertionError("anybody may enter")


server = enter(ONE)
files(server, reads(server))
appends_and_deletes(server)
sends()
refuses()
server.logout()
print("ok")
