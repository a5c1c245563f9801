"""What does `trace` print for a delivery's trace: a link to it, or why there is none?"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from app.commands.jaeger import Answer, Jaeger, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from db.inspection import Delivery

# The Collector decides 15 s after a trace's first span, and processes export every 5 s: what is younger may still come.
SETTLED = timedelta(seconds=30)
NO_SPANS = {"bulk_import": "not traced: what a file brings leaves no span"}
NOT_SAMPLED = (
    "not traced (traceparent ends in 00): the sender's traceparent said so, or OTEL_TRACES_SAMPLER, "
    "or what received it exports no span"
)
ABSENT = "no span of it in Jaeger: it was sampled out, never exported, or is older than Jaeger keeps"
PARTIAL = (
    "kept in part: what came later (a late, failed or repeated promotion) was kept, the rest was sampled out or lost. "
    "In Jaeger's search choose ticket-inbox-worker, and type into Tags:"
)
YOUNG = {
    "absent": "not in Jaeger yet: whether it is kept is decided within half a minute; ask again then",
    "partial": "in Jaeger in part so far: the rest is decided on within half a minute; ask again then",
}


class TraceLink(msgspec.Struct, frozen=True):
    """A delivery's link, or None, and lines for a person in its stead; `found` is None if Jaeger was not asked."""

    url: str | None = None
    found: Literal["whole", "partial", "absent", "unknown"] | None = None
    words: str | None = None
    search: str | None = None  # what to type into Jaeger


class TraceLinks:
    """The links of some deliveries, after Jaeger was asked if it should be; `failure` is why it could not be."""

    def __init__(self, jaeger: Jaeger | None, deliveries: "Sequence[Delivery]", *, check: bool) -> None:
        self._jaeger = jaeger
        wanted = [one for delivery in deliveries if (one := _wanted(delivery))]
        self._answers: Mapping[Wanted, Answer] | None = jaeger.ask(wanted) if jaeger and check else None
        reasons = [answer.reason for answer in (self._answers or {}).values() if answer.reason]
        self.failure = reasons[0] if reasons else None

    def of(self, delivery: "Delivery") -> TraceLink:
        """Return a link where there is a trace, or where Jaeger was not asked or did not answer; else the reason."""
        wanted = _wanted(delivery)
        if self._jaeger is None or not delivery.trace_id:
            return TraceLink()
        if wanted is None:
            return TraceLink(words=NO_SPANS.get(delivery.source, NOT_SAMPLED))
        found = self._answers[wanted].found if self._answers is not None else None
        if found in {None, "whole", "unknown"}:
            return TraceLink(self._jaeger.link(wanted.trace_id), found)
        if _is_young(delivery, found):
            return TraceLink(None, found, YOUNG[found])
        if found == "partial":
            return TraceLink(None, found, PARTIAL, f"correlation_id={delivery.correlation_id}")
        return TraceLink(None, found, ABSENT)


def _wanted(delivery: "Delivery") -> Wanted | None:
    if delivery.trace_id and delivery.span_id and delivery.is_sampled:
        return Wanted(delivery.trace_id, delivery.span_id, delivery.correlation_id)
    return None


def _is_young(delivery: "Delivery", found: str) -> bool:
    """Return True if more may come: of a trace in part the request's span, of one that is absent any span."""
    last = delivery.promoted_at if found == "absent" else None
    return datetime.now(UTC) - (last or delivery.received_at) < SETTLED
