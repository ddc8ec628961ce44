"""A mail server that was written by others: prints its port, then one line of JSON per mail it takes."""

import asyncio
import json
import socket

from aiosmtpd.smtp import SMTP


class Printer:
    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": envelope.content.decode("utf-8"),
        }
        print(json.dumps(mail), flush=True)
        return "250 2.0.0 queued"


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Printer(), hostname="relay.test"), sock=listener)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
