"""`python -m tests.bench.load`: send webhooks, from 64 connections that each wait for an answer, or at a fixed rate.

A process of its own that does as little as possible: it signs each new body, writes it, and reads the status.
With `--rate` it is an open loop: each webhook is due at a moment, whether or not the ones before it were answered, and
its latency counts from that moment, so that a stall shows. Prints one line of JSON: the count of each answer, the
seconds, and percentiles of the latency, of all and by answer. With `--accepted` it writes the ids of the tickets that
were answered 202 into a file, one a line.
"""

import argparse
import asyncio
import collections
import contextlib
import hmac
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from tests.bench import tickets

BODY_BYTES = 1400
TEXTS = 500  # different descriptions
PATIENCE = 30.0  # seconds to wait for the last answers of an open loop


class Sender:
    """State that all connections share: the next request, and the answers."""

    def __init__(self, given: argparse.Namespace) -> None:
        payload = {
            "tenant_id": given.tenant, "ticket_id": "#" * 16, "subject": "VPN drops every hour", "description": "",
            "resolution": "Rolled the gateway's firmware back to 9.1.4.", "resolved_date": "2026-01-31T09:30:00Z",
            "priority": "High", "tags": ["vpn", "network"],
        }  # fmt: skip
        missing = BODY_BYTES - len(json.dumps(payload))
        bodies = (json.dumps({**payload, "description": tickets.description(missing)}) for _ in range(TEXTS))
        self._bodies = itertools.cycle([body.encode().split(b"#" * 16) for body in bodies])
        self._secret = given.secret.encode()
        self._head = (
            f"POST {given.path} HTTP/1.1\r\nHost: {given.host}:{given.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {BODY_BYTES}\r\nX-ServiceDesk-Signature: "
        ).encode()
        self._run = os.urandom(4).hex()
        self._numbers = itertools.count()
        self.taken: dict[str, list[float]] = collections.defaultdict(list)
        self.answers: collections.Counter[str] = collections.Counter()
        self.accepted: list[bytes] = []

    def next(self) -> tuple[bytes, bytes]:
        """Return the next ticket's id, and the request that carries it."""
        before, after = next(self._bodies)
        ticket_id = b"%s%08d" % (self._run.encode(), next(self._numbers))
        body = b"%s%s%s" % (before, ticket_id, after)
        signed = hmac.digest(self._secret, body, "sha256").hex().encode()
        return ticket_id, b"%s%s\r\n\r\n%s" % (self._head, signed, body)

    def answered(self, ticket_id: bytes, status: str, seconds: float) -> None:
        self.taken[status].append(seconds)
        self.answers[status] += 1
        if status == "202":
            self.accepted.append(ticket_id)


class Connection(asyncio.Protocol):
    """A connection that sends a webhook, and calls `answered` when the answer has come."""

    def __init__(self, sender: Sender, answered: "Callable[[Connection], None]") -> None:
        self._sender, self._answered, self._received = sender, answered, b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, due: float) -> None:
        self._due = due
        self._ticket_id, request = self._sender.next()
        self._transport.write(request)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._sender.answered(self._ticket_id, head[9:12].decode(), time.perf_counter() - self._due)
        self._received = b""
        self._answered(self)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def _content_length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + 15
    return int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else len(head)])


async def closed_loop(sender: Sender, given: argparse.Namespace) -> None:
    """Send the next webhook from each connection when the last was answered."""
    ends = time.perf_counter() + given.seconds

    def again(connection: Connection) -> None:
        if (now := time.perf_counter()) > ends:
            connection.close()
        else:
            connection.send(now)

    made = await connected(sender, given, again)
    for connection in made:
        again(connection)
    await asyncio.gather(*(connection.lost for connection in made))


async def open_loop(sender: Sender, given: argparse.Namespace) -> None:
    """Send at a fixed rate, over any free connection; a webhook that finds none waits, and its latency shows that."""
    # Connections are used in turn, and each within three seconds: a server closes one that is idle for longer.
    given.connections = max(1, min(given.connections, int(given.rate * 3)))
    free: asyncio.Queue[Connection] = asyncio.Queue()
    waiting: collections.deque[float] = collections.deque()

    def freed(connection: Connection) -> None:
        if waiting:
            connection.send(waiting.popleft())
        else:
            free.put_nowait(connection)

    for connection in await connected(sender, given, freed):
        freed(connection)
    began, count = time.perf_counter(), int(given.rate * given.seconds)
    for number in range(count):
        due = began + number / given.rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if free.empty():
            waiting.append(due)
        else:
            free.get_nowait().send(due)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            for _ in range(given.connections):
                await free.get()
    sender.answers["none"] += count - sum(sender.answers.values())


async def connected(
    sender: Sender, given: argparse.Namespace, answered: Callable[[Connection], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(sender, answered), given.host, given.port)
        for _ in range(given.connections)
    ]
    return [connection for _, connection in made]


async def run(given: argparse.Namespace) -> dict[str, object]:
    """Send for the given seconds, and return the figures of the answers."""
    sender = Sender(given)
    began, cpu = time.perf_counter(), time.process_time()
    await (open_loop if given.rate else closed_loop)(sender, given)
    seconds = time.perf_counter() - began
    busy = (time.process_time() - cpu) / seconds
    if given.accepted:
        given.accepted.write_bytes(b"\n".join(sender.accepted))
    return {
        "answers": dict(+sender.answers), "seconds": seconds, "per_second": sum(sender.answers.values()) / seconds,
        **_percentiles(list(itertools.chain(*sender.taken.values()))), "busy": busy,
        "by_answer": {status: _percentiles(taken) for status, taken in sender.taken.items()},
    }  # fmt: skip


def _percentiles(taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else taken * 99
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "longest_ms": max(taken) * 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/webhook/servicedesk/resolved-ticket")
    parser.add_argument("--tenant", default="acme")
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0, help="webhooks a second, open loop; 0 for as many as go")
    parser.add_argument("--accepted", type=Path, help="file for the ids of what was answered 202")
    json.dump(uvloop.run(run(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
