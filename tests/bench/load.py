"""`python -m tests.bench.load`: webhooks from 64 connections, each sending the next when the last was answered.

A process of its own that does as little as it can: it signs each body afresh, writes it, and looks at the status.
Prints one line of JSON: how many were answered what, the seconds, and percentiles of the latency.
"""

import argparse
import asyncio
import collections
import hmac
import itertools
import json
import os
import statistics
import sys
import time

import uvloop

BODY_BYTES = 1400


class Sender:
    """What all connections share: the next request, and what was answered."""

    def __init__(self, given: argparse.Namespace) -> None:
        payload = {
            "tenant_id": given.tenant, "ticket_id": "#" * 16, "subject": "VPN drops every hour", "description": "",
            "resolution": "Rolled the gateway's firmware back to 9.1.4.", "resolved_date": "2026-01-31T09:30:00Z",
            "priority": "High", "tags": ["vpn", "network"],
        }  # fmt: skip
        missing = BODY_BYTES - len(json.dumps(payload))
        payload["description"] = " ".join(os.urandom(3).hex() for _ in range(missing // 7)).ljust(missing, ".")
        self._before, self._after = json.dumps(payload).encode().split(b"#" * 16)
        self._secret = given.secret.encode()
        self._head = (
            f"POST {given.path} HTTP/1.1\r\nHost: {given.host}:{given.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {BODY_BYTES}\r\nX-ServiceDesk-Signature: "
        ).encode()
        self._run = os.urandom(4).hex()
        self._numbers = itertools.count()
        self.ends = time.perf_counter() + given.seconds
        self.taken: list[float] = []
        self.answers: collections.Counter[str] = collections.Counter()

    def next(self) -> bytes:
        body = b"%s%s%08d%s" % (self._before, self._run.encode(), next(self._numbers), self._after)
        return b"%s%s\r\n\r\n%s" % (self._head, hmac.digest(self._secret, body, "sha256").hex().encode(), body)


class Connection(asyncio.Protocol):
    """Sends, waits for the answer, sends the next."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._received = sender, b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._sender.taken.append(time.perf_counter() - self._sent)
        self._sender.answers[head[9:12].decode()] += 1
        self._received = b""
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._sent > self._sender.ends:
            self._transport.close()
        else:
            self._transport.write(self._sender.next())  # type: ignore[attr-defined]


def _content_length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + 15
    return int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else len(head)])


async def run(given: argparse.Namespace) -> dict[str, object]:
    """Send for as long as is asked, and tell what came back."""
    sender = Sender(given)
    loop = asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.process_time()
    made = [
        await loop.create_connection(lambda: Connection(sender), given.host, given.port)
        for _ in range(given.connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    seconds = time.perf_counter() - began
    cuts = statistics.quantiles(sender.taken, n=100)
    return {
        "answers": dict(sender.answers), "seconds": seconds, "per_second": sum(sender.answers.values()) / seconds,
        "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "busy": (time.process_time() - cpu) / seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/webhook/servicedesk/resolved-ticket")
    parser.add_argument("--tenant", default="acme")
    parser.add_argument("--secret", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    json.dump(uvloop.run(run(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
