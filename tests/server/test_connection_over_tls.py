"""Over TLS a connection cannot be closed in one direction: what is owed then is dropped, and nothing stays open."""

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvicorn
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from app.server import ports, run, shedding
from app.server.connection import Connection
from app.settings import Settings
from app.webhook.admission import Admission

pytestmark = pytest.mark.one_postgres

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate that it signed itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(*form) + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return path


async def application(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer each request late, a POST before it reads the body."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.sleep(0.1)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")], "trailers": False}
    )
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


@contextlib.asynccontextmanager
async def serving(certificate: Path) -> AsyncIterator[int]:
    """Serve over TLS until the block ends, and yield the port."""
    settings = Settings(secrets_key="unused", shutdown_timeout_seconds=1)
    options = {**run.options(settings), "ssl_keyfile": certificate, "ssl_certfile": certificate}
    server = uvicorn.Server(uvicorn.Config(application, **options))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    with ports.listen("127.0.0.1", 0) as bound, shedding.within(settings, Admission(10, 10**6)):
        serve = asyncio.create_task(server.serve([bound]))
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            for one in Connection.open:  # such as a failure leaves
                one.transport.abort()
            await serve


async def exchange(port: int, sent: bytes, *, ends: bool) -> bytes:
    """Send, end our side if asked, and return all that comes until the server closes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(sent)
        await writer.drain()
        if ends:
            await asyncio.sleep(0.05)  # so that the request has arrived
            writer.close()
            return b""
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls(
    loop: Callable[[], asyncio.AbstractEventLoop], certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer before the whole request ends the connection; a peer that ends leaves nothing open and no warning."""

    async def go() -> list[bytes]:
        async with serving(certificate) as port:
            for sent in (GET, GET + GET, POST, GET[:9], b""):
                await exchange(port, sent, ends=True)
            answers = [await exchange(port, sent, ends=False) for sent in (POST, b"NONSENSE\r\n\r\n")]
            async with asyncio.timeout(10):
                while Connection.open:  # noqa: ASYNC110  (whichever way they end)
                    await asyncio.sleep(0.01)
            return answers

    with asyncio.Runner(loop_factory=loop) as runner, caplog.at_level(logging.WARNING):
        answers = runner.run(go())
    assert [one.split()[1] for one in answers] == [b"200", b"400"]
    assert not [
        one for one in caplog.records if one.levelno >= logging.WARNING and one.name in {"asyncio", "uvicorn.error"}
    ]
