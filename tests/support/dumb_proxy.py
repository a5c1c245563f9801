"""A network that swallows: connections from before the fault stay open and go on taking bytes, which arrive nowhere."""

import asyncio
import contextlib

from tests.faults.proxy import CHUNK, Proxy


class DumbProxy(Proxy):
    """A proxy whose connections a test can make dumb; connections made later work."""

    _era = 0
    refuses_new = False  # new connections are dumb too

    def swallow(self) -> None:
        """Pass on nothing more of the connections that are open."""
        self._era += 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        era = -1 if self.refuses_new else self._era
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if era == self._era:
                    writer.write(data)
                    await writer.drain()
        if era == self._era:
            writer.close()  # else the other end does not learn that this one was closed
