"""`python -m tests.faults.steady URL TENANT SECRET RATE`: send webhooks at a steady rate, whatever the answers."""

import argparse
import asyncio
import contextlib
import time
from urllib.parse import urlsplit

import uvloop

from tests.bench.load import Sender

CONNECTIONS = 40
PATIENCE = 10.0  # seconds to wait for an answer


async def send(sender: Sender, given: argparse.Namespace, due: float) -> None:
    """Send a webhook on its own connection when it is due, and further ones at intervals on the same."""
    step = CONNECTIONS / given.rate
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection(given.host, given.port)
            with contextlib.closing(writer):
                while True:
                    await asyncio.sleep(due - time.monotonic())
                    due = max(due + step, time.monotonic())
                    async with asyncio.timeout(PATIENCE):
                        writer.write(sender.next()[1])
                        head = (await reader.readuntil(b"\r\n\r\n")).lower()
                        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        due = max(due, time.monotonic() + 0.05)


async def run(given: argparse.Namespace) -> None:
    sender, began = Sender(given), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(send(sender, given, began + number / given.rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("tenant")
    parser.add_argument("secret")
    parser.add_argument("rate", type=float)
    given = parser.parse_args()
    where = urlsplit(given.url)
    given.host, given.port, given.path = where.hostname, where.port, "/webhook/servicedesk/resolved-ticket"
    uvloop.run(run(given))


if __name__ == "__main__":
    main()
