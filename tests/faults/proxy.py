"""A network between us and Postgres that can be slow, cut, half open, or swallow what it takes."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

CHUNK = 64 * 1024


class Link:
    """One connection through the proxy; once it is dumb, it takes bytes, passes nothing on, and never closes."""

    is_dumb = False


class Proxy:
    """A TCP port before Postgres' Unix socket, in a thread of its own; a test changes how it behaves while it runs."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()  # set while data is passed on
        self._open.set()
        self._refuses = False
        self._links: set[Link] = set()
        self._swallows = False  # also what new connections send
        self._ended = asyncio.Event()
        self.delay = 0.0  # seconds by which each piece is late

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """Listen until the block ends; yield the port."""
        self._thread.start()
        server = self._run(asyncio.start_server(self._connected, "127.0.0.1", 0))
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self._run(self._close(server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Close all open connections, and every new one."""
        self._refuses = True
        self._run(self._drop())
        try:
            yield
        finally:
            self._refuses = False

    @contextlib.contextmanager
    def half_open(self) -> Iterator[None]:
        """Accept everything and pass on nothing, as a firewall that lost its connections; drop them all at the end."""
        self._loop.call_soon_threadsafe(self._open.clear)
        try:
            yield
        finally:
            self._run(self._drop())
            self._loop.call_soon_threadsafe(self._open.set)

    @contextlib.contextmanager
    def swallow(self, *, new: bool = True) -> Iterator[None]:
        """Make the open connections dumb for ever, which keepalives do not see, and with `new` those of the block.

        Connections that are made after the block work; neither side ever learns that the old ones are dumb.
        """
        self._swallows = new
        for link in list(self._links):
            link.is_dumb = True
        try:
            yield
        finally:
            self._swallows = False

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Delay every piece by `seconds`."""
        self.delay = seconds
        try:
            yield
        finally:
            self.delay = 0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        link = Link()
        self._links.add(link)
        self._writers.add(writer)
        if self._swallows:
            link.is_dumb = True
            await self._pass(link, reader, writer)
        else:
            await self._join(link, reader, writer)
        self._links.discard(link)
        self._forget(writer)

    async def _join(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_unix_connection(str(self._socket))
            self._writers.add(back)
            to, fro = self._pass(link, reader, back), self._pass(link, there, writer)
            await asyncio.wait([asyncio.ensure_future(to), asyncio.ensure_future(fro)])
            self._forget(back)

    async def _pass(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                await self._open.wait()
                if not link.is_dumb:
                    writer.write(data)
                    await writer.drain()
        if link.is_dumb:
            await self._ended.wait()
        writer.close()

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()

    async def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        await self._drop()
        self._open.set()
        self._ended.set()
        if passing := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(passing, timeout=5)  # they end with their connections

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
