"""Polls or fetches with exchangelib, over and over, until it is stopped: whoever measures it looks from outside.

Arguments: `poll` or `fetch`, and the simulator's ready line.
"""

import json
import sys

import requests.adapters
from exchangelib import IMPERSONATION, UTC, Account, Configuration, Credentials
from exchangelib.protocol import BaseProtocol

WHAT, READY = sys.argv[1], json.loads(sys.argv[2])


class Adapter(requests.adapters.HTTPAdapter):
    """Trusts the simulator's authority and nobody else."""

    def cert_verify(self, conn, url, verify, cert):
        super().cert_verify(conn=conn, url=url, verify=READY["ca_file"], cert=cert)

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        return super().get_connection_with_tls_context(request, READY["ca_file"], proxies, cert)


def main():
    BaseProtocol.HTTP_ADAPTER_CLS = Adapter
    with open(READY["addresses_file"], encoding="utf-8") as file:
        address = file.readline().strip()
    configuration = Configuration(
        service_endpoint=READY["ews_url"],
        credentials=Credentials(READY["user"], READY["password"]),
        auth_type="basic",
    )
    account = Account(
        address, config=configuration, access_type=IMPERSONATION, autodiscover=False, default_timezone=UTC
    )
    inbox = account.inbox
    only = ["datetime_received", "size"]
    ids = [(item.id, item.changekey) for kind, item in inbox.sync_items(only_fields=only) if kind == "create"]
    while WHAT == "poll":
        changes = list(inbox.sync_items(only_fields=only))
        assert not changes, changes
    batches = [ids[start : start + 10] for start in range(0, len(ids), 10)]
    while WHAT == "fetch":
        for batch in batches:
            for item in account.fetch(batch, only_fields=["mime_content", "size", "datetime_received"]):
                assert item.mime_content


if __name__ == "__main__":
    main()
