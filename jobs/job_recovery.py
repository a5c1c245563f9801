"""In whose hand is a job, and what becomes of it when that is gone?

Procrastinate leaves a job `doing` when its end could not be written down, or when its worker ended without a word.
Running it again does no harm (docs/decisions/0012), so it goes back to work as soon as somebody knows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback, get_channel_for_queues

from db import queue as statements
from db import workers
from otel import logs

_logger = logging.getLogger("ticket_inbox.jobs")


class JobsInHand(JobManager):
    """Procrastinate's own, which also puts back to work what nobody has in hand any more.

    A worker that starts does so with what the former one of its process left, and each does so with every heartbeat
    for the jobs whose end it could not write down, and for those of workers that died.
    """

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self._worker_id: int | None = None  # of this process's worker, or of its former one
        self._beat_at = 0.0  # by the monotonic clock
        self._unwritten: set[tuple[int | None, int]] = set()  # ids, and which try it was

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forget dead workers, and give their ids; Procrastinate does so before it registers a new one."""
        if self._worker_id is not None:
            # It ended, or there would be no new one, and may not have been able to say so.
            await self.unregister_worker(self._worker_id)
        pruned = await super().prune_stalled_workers(seconds_since_heartbeat)
        await self.requeue_lost()
        return pruned

    async def register_worker(self) -> int:
        """Register a worker, give its id, and let it be seen to live before it has a job in hand."""
        self._worker_id = await super().register_worker()
        await self.update_heartbeat(self._worker_id)
        return self._worker_id

    async def update_heartbeat(self, worker_id: int) -> None:
        """Tell that the worker lives, and see whether others died."""
        await self.connector.execute_query_async(query=workers.BEAT, worker_id=worker_id)
        self._beat_at = time.monotonic()
        dead = await self.connector.execute_query_all_async(query=workers.FORGET_DEAD)
        if dead or self._unwritten:
            await self.requeue_lost()

    async def beat_on(self) -> None:
        """Send the heartbeats that Procrastinate does not: of a worker that stops, and has jobs in hand still.

        It stops by itself where one of its sessions dies at the wrong moment; others took its jobs from it.
        """
        while True:
            await asyncio.sleep(workers.HEARTBEAT)
            if self._worker_id is not None and time.monotonic() - self._beat_at > 2 * workers.HEARTBEAT:
                with contextlib.suppress(ConnectorException):
                    await self.update_heartbeat(self._worker_id)

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Wake up when notified, and believe nothing that is said: whoever may connect to the database may say it.

        Procrastinate's own would end the worker over what it cannot read, and abort any job that it is told to.
        """

        async def hear(channel: str, payload: str) -> None:
            asked = await self.list_jobs_to_abort_async() if "abort_job_requested" in payload else ()
            await on_notification(channel=channel, notification={"type": "job_inserted", "job_id": 0})
            for job_id in asked:
                await on_notification(channel=channel, notification={"type": "abort_job_requested", "job_id": job_id})

        await self.connector.listen_notify(on_notification=hear, channels=get_channel_for_queues(queues=queues))

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  (Procrastinate's)
        """Write down that a job ended. Raises ConnectorException; then it is put back to work."""
        with self._remembered(job):
            await super().finish_job(job, status, delete_job)

    async def retry_job(self, job: Job, *when: Any, **changes: Any) -> None:  # noqa: ANN401  (Procrastinate's)
        """Write down that a job is to be tried again. Raises ConnectorException; then it is put back to work."""
        with self._remembered(job):
            await super().retry_job(job, *when, **changes)

    async def retry_job_by_id_async(
        self,
        job_id: int,
        retry_at: datetime,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Have a job tried again, or have it aborted where somebody cancelled it in the meantime."""
        await self.connector.execute_query_async(
            query=statements.RETRY_UNLESS_CANCELLED,
            job_id=job_id,
            retry_at=retry_at,
            priority=priority,
            queue=queue,
            lock=lock,
        )

    async def requeue_lost(self, but: int | None = None) -> None:
        """Put back to work every job that nobody has in hand any more, except the job `but`, which asks."""
        unwritten = list(self._unwritten)
        requeued = await self.connector.execute_query_all_async(
            query=workers.REQUEUE_LOST,
            but=but,
            unwritten=[job_id for job_id, _ in unwritten],
            attempts=[attempts for _, attempts in unwritten],
        )
        for row in requeued:
            logs.log(_logger, logging.WARNING, "job_requeued", job_id=row["id"], task=row["task_name"])
        if unwritten:
            # One that an old session still has locked is left to the next heartbeat.
            doing = await self.list_jobs_async(status="doing", worker_id=self._worker_id)
            self._unwritten -= set(unwritten) - {(job.id, job.attempts) for job in doing}

    @contextlib.contextmanager
    def _remembered(self, job: Job) -> Iterator[None]:
        """Remember a job whose end cannot be written down. Its worker may live on, and would have it for ever."""
        try:
            yield
        except ConnectorException:
            self._unwritten.add((job.id, job.attempts))
            raise
