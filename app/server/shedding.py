"""How is a webhook refused that finds no room? Before it costs anything: no task, no routing, no signature.

At three times what the server takes, two of three are refused, and what that costs is taken from the third.
"""

import asyncio

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from app import event
from app.server.connection import Connection
from app.server.refusal_log import Crowd
from app.webhook import problems, request_record
from app.webhook.admission import Room
from app.webhook.group_commit import FULL
from app.webhook.problems import Refusal
from otel import metrics

REFUSAL = Refusal(503, FULL)
OUTCOME = problems.KINDS[REFUSAL.status][0]
_URL = event.PATH.encode()
_crowd = Crowd()  # of this process


class SheddingProtocol(Connection):
    """A connection that holds a webhook back while it is crowded, until its body tells whose it is."""

    _held: bytearray | None = None  # body of the request that is held back
    _room: Room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look up once for each connection what is asked for every request; the server has it since its start."""
        self._room = self.app.state.inlet.commits.room
        super().connection_made(transport)  # type: ignore[arg-type]

    def on_headers_complete(self) -> None:
        """Let a request in, or hold it back."""
        if self._room.is_crowded and self._can_be_held():
            self._held = bytearray()
        else:
            self._let_in()

    def on_body(self, body: bytes) -> None:
        """Add to what is held back; a long body is not held, for its memory is not counted here."""
        if self._held is None:
            super().on_body(body)
            return
        self._held += body
        if len(self._held) > HIGH_WATER_LIMIT:
            self._let_in()

    def on_message_complete(self) -> None:
        """Refuse what was held back where there is no room for the tenant that it names, else let it in."""
        if self._held is not None:
            try:
                tenant_id = event.tenant_of(bytes(self._held))
            except (event.MalformedError, event.RejectedError):
                tenant_id = None  # the handler says what is wrong with it
            if tenant_id is not None and not self._room.has_place(tenant_id, len(self._held)):
                self._held = None
                self._refuse(tenant_id)
                return
            self._let_in()
        super().on_message_complete()

    def _can_be_held(self) -> bool:
        """Only a webhook, and none that waits for word from us or for the answer to the one before it.

        Nor one in chunks: fields may follow its body, and are no headers of its.
        """
        answered = self.cycle is None or self.cycle.response_complete
        is_webhook = self.url == _URL and self.parser.get_method() == b"POST"
        if not (answered and is_webhook) or self.expect_100_continue:
            return False
        return all(name != b"transfer-encoding" for name, _ in self.headers)

    def _let_in(self) -> None:
        held, self._held = self._held, None
        self._room.expect()
        super().on_headers_complete()
        if held:
            super().on_body(bytes(held))

    def _refuse(self, tenant_id: str) -> None:
        """Answer as the handler would, and leave the same to be seen, as long as there is not too much of it."""
        stays = self.parser.should_keep_alive()
        if _crowd.is_told(tenant_id):
            current = request_record.of_webhook(self.headers)
            current.tenant_id, current.kind, current.error = tenant_id[:100], OUTCOME, FULL
            self.transport.write(problems.whole(REFUSAL, current.correlation_id, stays=stays))
            request_record.leave(current, REFUSAL.status)
        else:
            given = dict(reversed(self.headers)).get(request_record.HEADER_BYTES)
            self.transport.write(problems.whole(REFUSAL, request_record.correlation_id_of(given), stays=stays))
            metrics.webhook_answered(event.PATH, REFUSAL.status, OUTCOME, 0, "", None)
        self.forget()
        if stays:
            self.on_response_complete()
        else:
            self.transport.close()
