"""Which worker owns a job, and how is it requeued when that worker dies?

Procrastinate leaves a job `doing` when its worker could not write that it ended, or was killed. Running it again does
no harm (docs/decisions/0012), so a worker requeues it as soon as it notices.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import LiteralString

from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback, get_channel_for_queues
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures, leases, lost_answers, workers
from db.advisory_locks import Lock
from db.bounded_session import limit
from db.leases import Lease
from db.lost_answers import SessionsInUse
from jobs import arguments, ignored_locks
from jobs.arguments import KEEP
from jobs.notifications import Notifications
from jobs.slots import Slots
from jobs.vital_signs import VitalSigns
from otel import logs

# Seconds for each statement of a worker's start: forgetting a worker looks through every job, finished ones included.
START_LIMIT = 20.0
DEFER_AGAIN = 5.0  # seconds until a periodic job that Postgres refused is deferred again
FORGOTTEN = "other workers took this one for dead"
_logger = logging.getLogger("ticket_inbox.jobs")


class JobsInHand(JobManager):
    """Procrastinate's job manager, which also requeues jobs that no worker owns any more.

    A worker that starts requeues the jobs of its process's former worker. With every heartbeat a worker requeues the
    jobs whose end it could not write, and those of workers that died. It also renews the leases that its
    jobs took.
    """

    def __init__(self, connector: BaseConnector, signs: VitalSigns, in_use: SessionsInUse, slots: Slots) -> None:
        super().__init__(connector)
        self.signs, self._in_use, self._slots = signs, in_use, slots
        self._owners = leases.Owners()
        self._owner = leases.new_owner()
        self._is_shared = True  # the advisory lock that the version before looks for; this one does without
        self._looked_at = float("-inf")  # for sessions that are stuck, and notifications that pile up
        self._notifications = Notifications(connector)
        self._worker_id: int | None = None  # of this process's worker, or of its former one
        self._notify: NotificationCallback | None = None  # the worker's, once it listens
        self._unwritten: set[tuple[int | None, int]] = set()  # jobs whose end could not be written: id, attempts

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Forget dead workers, and return their ids; Procrastinate calls this before it registers a new worker."""
        with limit(START_LIMIT):
            if self._worker_id is not None:
                # This process's former worker has ended, and may not have been able to unregister.
                await self.unregister_worker(self._worker_id)
            pruned = await super().prune_stalled_workers(seconds_since_heartbeat)
            await self.requeue_lost()
        return pruned

    async def register_worker(self) -> int:
        """Register a worker, write its first heartbeat before it owns a job, and return its id."""
        self._slots.clear()
        self._worker_id = await super().register_worker()
        await self.update_heartbeat(self._worker_id)
        return self._worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        """Forget a worker that has ended, and its lease."""
        await super().unregister_worker(worker_id)
        await self.connector.execute_query_async(query=workers.RELEASE, worker_id=worker_id)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Write the worker's heartbeat, and requeue the jobs of workers that died.

        Raises ConnectorException, also if others took this worker for dead: it can fetch nothing any more.
        """
        beat = await self.connector.execute_query_one_async(
            query=workers.BEAT,
            worker_id=worker_id,
            owner=self._owner,
            has=list(self._owners.has),
            ended=(ended := list(self._owners.ended)),
        )
        self._owners.ended.difference_update(ended)
        if not beat["is_known"]:
            raise ConnectorException(FORGOTTEN)
        self.signs.beat()
        was, self._is_shared = self._is_shared, beat["is_shared"]
        if was and not self._is_shared:
            await ignored_locks.log_of_workers(self.connector)
        await self._end_lost()
        dead = await self.connector.execute_query_all_async(query=workers.FORGET_DEAD)
        if dead or self._unwritten:
            await self.requeue_lost()

    @contextlib.asynccontextmanager
    async def held(self, connection: AsyncConnection, name: str, old: Lock | None = None) -> AsyncIterator[Lease]:
        """Take a lease for the block, which the heartbeat renews, and log whose lock was ignored. Raises HeldError."""
        async with leases.held(connection, name, self._owners, old) as lease:
            for holder in lease.ignored:
                ignored_locks.log_ignored(holder)
            yield lease

    async def _end_lost(self) -> None:
        """End the sessions of jobs that wait for an answer which the network swallowed; those jobs are retried.

        And those, of any process of ours, that have been stuck between two messages of one statement.
        """
        lost: set[int] = set()
        if time.monotonic() - self._looked_at > lost_answers.STUCK_EVERY:
            self._looked_at = time.monotonic()
            await self.connector.execute_query_all_async(query=lost_answers.END_STUCK)
            await self._notifications.look()
        if pids := self._in_use.long_used():
            rows = await self.connector.execute_query_all_async(query=lost_answers.LOST, pids=pids)
            lost = {row["pid"] for row in rows}
        if pids := self._in_use.to_end(lost):
            await self.connector.execute_query_all_async(query=lost_answers.END, pids=pids)

    async def beat_on(self) -> None:
        """Write the heartbeats that Procrastinate does not: those of a worker that is stopping and still owns jobs.

        A worker also stops when one of its sessions dies at the wrong moment. Without heartbeats other workers would
        requeue its jobs.
        """
        while True:
            await asyncio.sleep(workers.HEARTBEAT)
            if self._worker_id is not None and self.signs.heartbeat_age() > 2 * workers.HEARTBEAT:
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
            self._slots.changes += 1
            await self._wake_up()
            for job_id in asked:
                await on_notification(channel=channel, notification={"type": "abort_job_requested", "job_id": job_id})

        self._notify = on_notification
        await self.connector.listen_notify(on_notification=wake_up, channels=get_channel_for_queues(queues=queues))

    async def _wake_up(self) -> None:
        """Have the worker fetch."""
        if self._notify:
            await self._notify(channel="", notification={"type": "job_inserted", "job_id": 0})

    async def defer_periodic_job(self, job: Job, periodic_id: str, defer_timestamp: int) -> int | None:
        """Defer a periodic job, as soon as Postgres takes it. Raises ConnectorException where the session is lost.

        Procrastinate would end the worker where Postgres refuses the job, as it does while its queue of notifications
        is full. The new worker would meet the same at once; and rows that wait are promoted without periodic jobs.
        """
        while True:
            try:
                return await super().defer_periodic_job(job, periodic_id, defer_timestamp)
            except ConnectorException as error:
                if failures.ends_session(error.__cause__ or error):
                    raise
                _logger.warning("a periodic job was refused", exc_info=error)  # OutageLog words it, once a minute
            await asyncio.sleep(DEFER_AGAIN)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Fetch a job of a queue that has a place, and note that a fetch came back.

        Its arguments are an object, whatever was deferred. Procrastinate forgets what wakes it up while it fetches
        (docs/decisions/0006), so this looks again then.
        """
        changes, job = -1, None
        while job is None and changes != self._slots.changes:
            changes = self._slots.changes
            job = await super().fetch_job(self._slots.open_queues(queues), worker_id)
            self.signs.fetched()
        if job is None:
            return None
        self._slots.take(job.id, job.queue)
        return job if arguments.is_object(job.task_kwargs) else job.evolve(task_kwargs=arguments.UNREADABLE)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  (Procrastinate's)
        """Write that a job ended; one that was asked to stays. Raises ConnectorException; then it is requeued later."""
        delete_job &= job.task_kwargs.get(KEEP) is not True
        await self._write_end(job, workers.FINISH_OWN, status=status.value, delete_job=delete_job)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Write that a job is to be retried, or aborted if an operator cancelled it meanwhile.

        Raises ConnectorException; then the job is requeued later.
        """
        changes = {"retry_at": retry_at or datetime.now(UTC), "priority": priority, "queue": queue, "lock": lock}
        await self._write_end(job, workers.RETRY_OWN, **changes)

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

    async def _write_end(self, job: Job, statement: LiteralString, **values: object) -> None:
        """Write the end of this try of a job, unless another worker has the job by now.

        A job whose end cannot be written is remembered: its worker may live on, and would own it for ever.
        """
        try:
            written = await self.connector.execute_query_all_async(
                query=statement, job_id=job.id, attempts=job.attempts, **values
            )
        except ConnectorException:
            self._unwritten.add((job.id, job.attempts))
            raise
        finally:
            if self._slots.give_back(job.id):
                await self._wake_up()
        if not written:
            logs.log(_logger, logging.WARNING, "job_lost", job_id=job.id, task=job.task_name)
