"""A TCP port before Postgres' Unix socket that speaks TLS, as a managed Postgres' proxy does.

The embedded Postgres is built without TLS.
"""

import asyncio
import contextlib
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SSL_REQUEST = struct.pack("!ll", 8, 80877103)


class TlsPort:
    """Answers what a client asks for: TLS with `certificate`, or none where that is None."""

    def __init__(self, socket: Path, certificate: Path | None, authority: Path | None = None) -> None:
        self._socket = socket
        self._context = _context(certificate, authority, self._named) if certificate else None
        self._loop = asyncio.new_event_loop()
        self._writers: list[asyncio.StreamWriter] = []
        self.names: list[str | None] = []  # the names that clients asked for
        self.clients: list[Any] = []  # the certificates that they showed
        self.plain = 0  # sessions without TLS

    @contextlib.contextmanager
    def running(self, *, direct: bool = False) -> Iterator[int]:
        """Listen until the block ends; yield the port. With `direct`, TLS begins with the first byte."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        connected, tls = (self._pass_on, self._context) if direct else (self._connected, None)
        begun = asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        server = asyncio.run_coroutine_threadsafe(begun, self._loop).result(10)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            if first == SSL_REQUEST and self._context:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                return await self._pass_on(reader, writer)
            if first == SSL_REQUEST:
                writer.write(b"N")
                first = await reader.readexactly(8)
            self.plain += 1
            return await self._pass_on(reader, writer, first)
        writer.close()
        return None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"") -> None:
        if writer.get_extra_info("ssl_object"):
            self.clients.append(writer.get_extra_info("peercert"))
        there, back = await asyncio.open_unix_connection(str(self._socket))
        self._writers += [writer, back]
        back.write(first)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    def _named(self, _connection: object, name: str | None, _context: object) -> None:
        self.names.append(name)

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.02)  # for the loop to close them


def _context(certificate: Path, authority: Path | None, on_name: Any) -> ssl.SSLContext:  # noqa: ANN401
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.set_alpn_protocols(["postgresql"])
    context.sni_callback = on_name
    if authority:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()
