"""`python -m tests.bench.trace_picture`: draw docs/trace.svg from the spans of a real webhook that came in a batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape

from tests import ROOT
from tests.bench import workbench
from tests.support.otlp_receiver import Span, receiving_http

WIDTH, LEFT, ROW = 900, 330, 34  # pixels
COLORS = {"ticket-inbox-server": "#2f6fb0", "ticket-inbox-worker": "#3a8f5c"}
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
    '<rect width="100%" height="100%" fill="#fff"/>'
)


def main() -> None:
    """Send thirty webhooks at once, and draw one that shared its statement and its job with others."""
    with receiving_http() as receiver, workbench.rig() as rig:
        telemetry = receiver.environment
        with rig.server(1, **telemetry) as server, rig.worker(**telemetry), ThreadPoolExecutor(30) as pool:
            for _ in range(2):  # the first round opens the connections
                answers = list(pool.map(lambda _: server.send(rig.tenant), range(30)))
                receiver.wait_for_spans(3, correlation_id=answers[-1].json()["correlation_id"])
            correlation_id = answers[15].json()["correlation_id"]
            trace = receiver.wait_for_spans(3, correlation_id=correlation_id)
            linked = {link for span in trace for link in span.links}
            receiver.wait_until(lambda: linked <= {span.id for span in receiver.spans()})
            spans = [*trace, *(span for span in receiver.spans() if span.id in linked)]
    (ROOT / "docs/trace.svg").write_text(
        drawn(sorted(spans, key=lambda span: (span.start, -span.end)), trace[0].trace_id)
    )


def drawn(spans: Sequence[Span], trace_id: str) -> str:
    """Return the picture: a bar for each span, and pale bars for linked spans of other traces."""
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    scale = (WIDTH - LEFT - 110) / (end - begin)
    drawing = [HEAD.format(width=WIDTH, height=ROW * len(spans) + 60)]
    drawing.append(f'<text x="16" y="26" font-weight="bold">trace {trace_id}</text>')
    for row, span in enumerate(spans):
        y, own = 44 + row * ROW, span.trace_id == trace_id
        x, width = LEFT + (span.start - begin) * scale, max(2.0, (span.end - span.start) * scale)
        name = span.name if own else f"↳ {span.name} ({shared(span)})"
        drawing += [
            f'<text x="{16 if own else 34}" y="{y + 17}" fill="{"#111" if own else "#666"}">{escape(name)}</text>',
            (
                f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="18" rx="2" fill="{COLORS[span.service]}"'
                f' opacity="{1 if own else 0.4}"/>'
            ),
            f'<text x="{x + width + 6:.1f}" y="{y + 17}" fill="#444">{(span.end - span.start) / 1e6:.1f} ms</text>',
        ]
    return "\n".join([*drawing, "</svg>\n"])


def shared(span: Span) -> str:
    """Return as text how many webhooks shared a linked span."""
    return f"shared by {span.attributes.get('db.operation.batch.size') or span.attributes['messaging.batch.message_count']}"


if __name__ == "__main__":
    main()
