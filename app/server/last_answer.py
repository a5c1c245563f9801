"""What is answered to a request that reaches no route? A problem like any other, after which the connection ends."""

import logging

import httptools
import msgspec

from app import correlation
from app.server.buffered_transport import BufferedTransport
from app.server.request_head import Headers
from app.webhook import problems
from app.webhook.problems import Refusal
from otel import logs

_logger = logging.getLogger("ticket_inbox.server")


def of_unread(error: httptools.HttpParserError) -> Refusal:
    """Return the refusal of what the parser cannot read, or that a callback of ours raised."""
    if isinstance(error.__context__, Refusal):
        return error.__context__
    # An error of a callback of ours, of which the target is the only cause that we know.
    words = "its target is no path" if isinstance(error, httptools.HttpParserCallbackError) else error
    cause = f"{error}: {error.__context__!r:.200}"
    return Refusal(400, f"The request cannot be read: {words}.", cause=cause)


def send(transport: BufferedTransport, refusal: Refusal, headers: Headers, *, has_body: bool) -> None:
    """Log a refusal, send it (to a HEAD without its body), and close."""
    correlation_id = correlation.of_headers(headers)
    fields = {"correlation_id": correlation_id, "status": refusal.status, "error": refusal.cause}
    logs.log(_logger, logging.WARNING, "request_refused", **fields)
    answered = problems.answer(refusal, correlation_id)
    if not has_body:
        answered = msgspec.structs.replace(answered, body=b"")
    transport.write(problems.on_wire(answered, stays=False))
    transport.close()
