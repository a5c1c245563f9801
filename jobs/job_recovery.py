"""Which worker owns a job, and how is it requeued when that worker dies?

Procrastinate leaves a job `doing` when its worker could not write that it ended, or was killed. Running it again does
no harm (docs/decisions/0012), so a worker requeues it as soon as it notices.
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
    """Procrastinate's job manager, which also requeues jobs that no worker owns any more.

    A worker that starts requeues the jobs of its process's former worker. With every heartbeat a worker requeues the
    jobs whose end it could not write, and those of workers that died.
    """

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self._worker_id: int | None = None  # of this process's worker, or of its former one
        self._beat_at = 0.0  # by the monotonic clock
        self._unwritten: set[tuple[int | None, int]] = set()  # jobs whose end could not be written: id, attempts

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forget dead workers, and return their ids; Procrastinate calls this before it registers a new worker."""
        if self._worker_id is not None:
            # This process's former worker has ended, and may not have been able to unregister.
            await self.unregister_worker(self._worker_id)
        pruned = await super().prune_stalled_workers(seconds_since_heartbeat)
        await self.requeue_lost()
        return pruned

    async def register_worker(self) -> int:
        """Register a worker, write its first heartbeat before it owns a job, and return its id."""
        self._worker_id = await super().register_worker()
        await self.update_heartbeat(self._worker_id)
        return self._worker_id

    async def update_heartbeat(self, worker_id: int) -> None:
        """Write the worker's heartbeat, and requeue the jobs of workers that died."""
        await self.connector.execute_query_async(query=workers.BEAT, worker_id=worker_id)
        self._beat_at = time.monotonic()
        dead = await self.connector.execute_query_all_async(query=workers.FORGET_DEAD)
        if dead or self._unwritten:
            await self.requeue_lost()

    async def beat_on(self) -> None:
        """Write the heartbeats that Procrastinate does not: those of a worker that is stopping and still owns jobs.

        A worker also stops when one of its sessions dies at the wrong moment. Without heartbeats other workers would
        requeue its jobs.
        """
        while True:
            await asyncio.sleep(workers.HEARTBEAT)
            if self._worker_id is not None and time.monotonic() - self._beat_at > 2 * workers.HEARTBEAT:
                with contextlib.suppress(ConnectorException):
                    await self.update_heartbeat(self._worker_id)

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Wake up when notified, but trust no payload: any client that may connect to the database can send one.

        Procrastinate's own listener would end the worker over an unreadable payload, and abort any job named in one.
        """

        async def wake_up(channel: str, payload: str) -> None:
            asked = await self.list_jobs_to_abort_async() if "abort_job_requested" in payload else ()
            await on_notification(channel=channel, notification={"type": "job_inserted", "job_id": 0})
            for job_id in asked:
                await on_notification(channel=channel, notification={"type": "abort_job_requested", "job_id": job_id})

        await self.connector.listen_notify(on_notification=wake_up, channels=get_channel_for_queues(queues=queues))

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  (Procrastinate's)
        """Write that a job ended. Raises ConnectorException; then the job is requeued later."""
        with self._remembered(job):
            await super().finish_job(job, status, delete_job)

    async def retry_job(self, job: Job, *when: Any, **changes: Any) -> None:  # noqa: ANN401  (Procrastinate's)
        """Write that a job is to be retried. Raises ConnectorException; then the job is requeued later."""
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
        """Have a job retried, or aborted if an operator cancelled it meanwhile."""
        await self.connector.execute_query_async(
            query=statements.RETRY_UNLESS_CANCELLED,
            job_id=job_id,
            retry_at=retry_at,
            priority=priority,
            queue=queue,
            lock=lock,
        )

    async def requeue_lost(self, but: int | None = None) -> None:
        """Requeue every job that no worker owns any more, except `but`, the id of the job that calls this."""
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
            # A job that an old session still has locked is left to the next heartbeat.
            doing = await self.list_jobs_async(status="doing", worker_id=self._worker_id)
            self._unwritten -= set(unwritten) - {(job.id, job.attempts) for job in doing}

    @contextlib.contextmanager
    def _remembered(self, job: Job) -> Iterator[None]:
        """Remember a job whose end cannot be written: its worker may live on, and would own it for ever."""
        try:
            yield
        except ConnectorException:
            self._unwritten.add((job.id, job.attempts))
            raise
