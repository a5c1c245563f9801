"""Which request of a connection is its last, when the server stops? The one that is on its way."""

from app import stopping
from app.server.connection import Connection, State

FIRST_SECONDS = 1.0  # that a connection without a request may stay open, for one that its peer has just sent


class EndingConnection(Connection):
    """A connection that its server may end, without a request lost that the peer has sent.

    As long as the server still listens, the answer says `Connection: close`: a proxy then leaves its idle connections,
    and none of its requests crosses with their end.
    """

    _is_shut = False  # the port is closed

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with the answer to the newest request."""
        return self._is_shut or stopping.has_begun()

    def let_in(self) -> None:
        super().let_in()
        if self.is_last:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Finish what has begun. A request that is not whole has half of the time for that, so that it is answered."""
        self._is_shut, self._stays_open = True, False
        is_new = self.state is State.IDLE and self.cycle is None
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or not (is_new or self.state is State.READING):
            super().shutdown()
        if self.state is not State.ANSWERING:
            half = self.settings.shutdown_timeout_seconds / 2
            self.read_by = min(self.read_by, self.loop.time() + (min(half, FIRST_SECONDS) if is_new else half))
