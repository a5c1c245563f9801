"""Which queues may a worker fetch from now? Each kind of job has places of its own, so that none waits behind another.

A job that waits, such as a reconciliation of a ServiceDesk Plus that hangs, would else hold a place of promotion's.
"""

from collections.abc import Iterable

from db.queue import INDEX, PROMOTE, PRUNE, RECONCILE, REPROCESS, SWEEP

# Beside those that promote. Where there are two, a job that an operator deferred, which may last for hours, does not
# keep the next one from beginning, such as the reconciliation that is due every five minutes.
OTHERS = {RECONCILE: 2, REPROCESS: 2, SWEEP: 1, PRUNE: 1, INDEX: 1}


class Slots:
    """Which jobs a worker has in hand, of each queue; and how many it may have."""

    def __init__(self, promoting: int) -> None:
        self._most = {PROMOTE: promoting, **OTHERS}
        self._taken: dict[int | None, str] = {}  # the queue of each job in hand, by its id
        self.total = sum(self._most.values())
        self.changes = 0  # how often a place became free or a job was announced; a fetch that found none looks again

    def open_queues(self, queues: Iterable[str] | None) -> Iterable[str] | None:
        """Return those queues that have a place; None as long as each has one.

        A worker that was given `queues`, as by `procrastinate worker --one-shot --queues=promote`, has all places for
        these: it would take a queue that is full for one that is empty, and end.
        """
        full = [name for name in self._most if self._is_full(name)]
        return [name for name in self._most if name not in full] if full and queues is None else queues

    def take(self, job_id: int | None, queue: str) -> None:
        """Note that a job of a queue was fetched."""
        self._taken[job_id] = queue

    def give_back(self, job_id: int | None) -> bool:
        """Note that a job has ended; return True if jobs may have waited for its place."""
        has_waited = self._is_full(self._taken.get(job_id, ""))
        self._taken.pop(job_id, None)
        self.changes += has_waited
        return has_waited

    def clear(self) -> None:
        """Forget all jobs: the worker begins anew."""
        self._taken.clear()

    def _is_full(self, queue: str) -> bool:
        return list(self._taken.values()).count(queue) >= self._most.get(queue, self.total + 1)
