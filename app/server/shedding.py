"""How is a webhook refused that finds no room? Before it costs anything: no task, no routing, no signature.

At three times what the server takes, it refuses two of three, and what that costs is taken from the third.
"""

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from app import correlation, event
from app.server.ending import EndingConnection
from app.server.refusal_log import RefusalLog
from app.settings import Settings
from app.webhook import problems, request_record
from app.webhook.admission import Admission
from app.webhook.kinds import KINDS
from app.webhook.problems import Refusal
from otel import metrics

REFUSAL = Refusal(503, problems.FULL)
_PATHS = {kind.path.encode(): kind.path for kind in KINDS}
_refusal_log = RefusalLog()  # of this process


class SheddingProtocol(EndingConnection):
    """A connection that holds a webhook back while it is crowded, until its body names the tenant."""

    admission: ClassVar[Admission]  # handed in by within()

    _held: bytearray | None = None  # body of the request that is held back

    def let_in(self) -> None:
        """Hand a request to the application, or hold it back."""
        if self.admission.is_crowded and self._can_be_held():
            self._held = bytearray()
        else:
            self._release()

    def on_body(self, body: bytes) -> None:
        """Add to the body that is held back; a long one is let in, because its memory is not counted here."""
        if self._held is None:
            super().on_body(body)
            return
        self._held += body
        if len(self._held) > HIGH_WATER_LIMIT:
            self._release()

    def on_message_complete(self) -> None:
        """Refuse a request that is held back where there is no room for its tenant, else let it in."""
        if self._held is not None:
            tenant_id = _tenant_of(bytes(self._held))
            if tenant_id is not None and not self.admission.has_place(tenant_id, len(self._held)):
                self._held = None
                self._shed(tenant_id)
                return
            self._release()
        super().on_message_complete()

    def refuse(self, refusal: Refusal) -> None:
        """Have the application answer a request that is held back and will never be whole, and record it."""
        if self._held is not None:
            self._release()
        super().refuse(refusal)

    def expire(self) -> None:
        """Let a request in that is held back: its head is whole, so that it is answered 408."""
        if self._held is not None:
            self._release()
        super().expire()

    def _can_be_held(self) -> bool:
        """Return whether it is a webhook, and its sender waits neither for us nor for the answer before it.

        Nor one in chunks: fields may follow its body, and are not among its headers.
        """
        answered = self.cycle is None or self.cycle.response_complete
        is_webhook = self.url in _PATHS and self.parser.get_method() == b"POST"
        if not (answered and is_webhook) or self.expect_100_continue:
            return False
        return all(name != b"transfer-encoding" for name, _ in self.headers)

    def _release(self) -> None:
        held, self._held = self._held, None
        self.admission.expect()
        super().let_in()
        if held:
            super().on_body(bytes(held))

    def _shed(self, tenant_id: str) -> None:
        """Answer as the endpoint would, and log, trace and count it as long as there are not too many of them."""
        stays = self.parser.should_keep_alive() and not self.is_last
        path = _PATHS[self.url]
        if _refusal_log.count(tenant_id):
            record = request_record.begin(path, request_record.first_of_each(self.headers))
            record.tenant_id, record.kind, record.error = tenant_id[:100], REFUSAL.kind, REFUSAL.cause
            self._send(record.origin.correlation_id, stays=stays)
            request_record.end(record, REFUSAL.status)
        else:
            self._send(correlation.of_headers(self.headers), stays=stays)
            metrics.webhook_answered(path, REFUSAL.status, REFUSAL.kind, 0, "", None)
        self.forget()
        if stays:
            self.on_response_complete()
        else:
            self.transport.close()

    def _send(self, correlation_id: str, *, stays: bool) -> None:
        self.transport.write(problems.on_wire(problems.answer(REFUSAL, correlation_id), stays=stays))


@contextlib.contextmanager
def within(settings: Settings, admission: Admission) -> Iterator[None]:
    """Have this process's connections keep the limits of `settings` and of `admission` until the block ends.

    uvicorn makes the connections, so what they need is handed to their class.
    """
    SheddingProtocol.settings, SheddingProtocol.admission = settings, admission
    yield


def _tenant_of(body: bytes) -> str | None:
    """Return the tenant that a body names, None where it names none: the endpoint says what is wrong with it."""
    try:
        return event.tenant_of(body)
    except (event.MalformedError, event.RejectedError):
        return None
