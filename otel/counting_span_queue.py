"""What happens to spans that cannot be exported yet? They wait in a queue of bounded length.

When it is full, the oldest are dropped and counted.
"""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel import metrics


class CountingSpanQueue(BatchSpanProcessor):
    """The SDK's queue of spans, which counts what it drops."""

    def __init__(self, exporter: SpanExporter, size: int, batch: int) -> None:
        super().__init__(exporter, max_queue_size=size, max_export_batch_size=batch)
        self._size = size
        self._waiting = self._batch_processor._queue  # noqa: SLF001  (only the SDK's own metrics show its length)

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._waiting) >= self._size:
            metrics.DROPPED.labels("traces").inc()
        super().on_end(span)
