"""Which tickets did no webhook bring? Every five minutes a worker asks each tenant's ServiceDesk Plus."""

import asyncio
import functools
import logging
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from app.sdp import reconcile as runs
from app.sdp.summary import Summary
from db import engine as database
from db import failures, queue, sdp
from jobs import app, arguments, engine, jobs_in_hand, settings
from jobs.retry import Backoff, NotYetError
from otel import logs, metrics

# Of one tenant's run, which ends 30 seconds later at the latest: four of its five minutes. The next goes on from there.
SECONDS = 210.0
AT_ONCE = 8  # tenants; a run mostly waits for answers
NO_KEY = (
    "SECRETS_KEY is not set in this worker's environment: no tenant's ServiceDesk Plus can be asked, because the "
    "credentials are encrypted with it; everything else goes on"
)
_logger = logging.getLogger("ticket_inbox.sdp")


class Arguments(arguments.Arguments, frozen=True, kw_only=True):
    """What `reconcile` takes."""

    takes = "tenant_id, and since (ISO 8601)"
    tenant_id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    since: str | None = None


@app.periodic(cron="*/5 * * * *")
@app.task(
    name=queue.RECONCILE,
    queue=queue.RECONCILE,
    queueing_lock=queue.RECONCILE,
    priority=queue.OVER_SHARE_PRIORITY,  # after webhooks, before the rows of an import
    retry=Backoff(),
)
async def reconcile(timestamp: int = 0, **given: object) -> None:
    """Append to the inbox the tickets that ServiceDesk Plus has and we lack, of every enabled tenant or `tenant_id`.

    With `since`, from then on and however long it takes, after a run that is under way. Where a tenant's ServiceDesk
    Plus cannot be asked, one line is logged. A `timestamp` (when it was due) is given to the periodic job, and to none
    that an operator deferred: without SECRETS_KEY the first logs so once in a process, the second fails.
    """
    wanted = arguments.read(Arguments, given)
    since = arguments.moment("since", wanted.since)
    async with database.connection(engine()) as connection:
        configs = await sdp.read_enabled(connection)
    tenant_ids = [one.tenant_id for one in configs if wanted.tenant_id in (None, one.tenant_id)]
    if wanted.tenant_id and not tenant_ids:
        raise arguments.WrongArgumentsError(f"no ServiceDesk Plus is known of an enabled tenant {wanted.tenant_id!r}")
    if tenant_ids and not settings.secrets_key:
        if not timestamp:
            raise arguments.WrongArgumentsError(NO_KEY)
        _log_missing_key()
        return
    room = asyncio.Semaphore(AT_ONCE)
    done = await asyncio.gather(*(_run(tenant_id, since, room) for tenant_id in tenant_ids))
    if since and not all(done):  # what an operator asked for is not what the run under way does
        raise NotYetError


@functools.cache
def _log_missing_key() -> None:
    """Log it once in a process, not every five minutes."""
    logs.log(_logger, logging.ERROR, "reconcile_failed", error=NO_KEY)


async def _run(tenant_id: str, since: datetime | None, room: asyncio.Semaphore) -> bool:
    """Run for a tenant once there is room, and log and count the outcome; return False if another run is under way."""
    async with room:
        metrics.reconciled(tenant_id, Summary().counts(), is_complete=False)
        try:
            summary = await runs.reconcile(
                settings,
                tenant_id,
                since=since,
                seconds=None if since else SECONDS,
                on_pause=functools.partial(_log_pause, tenant_id) if since else None,
                hold=jobs_in_hand.held,
            )
        except runs.BusyError as error:
            logs.log(_logger, logging.INFO, "reconcile_skipped", tenant_id=tenant_id, error=str(error))
            return False
        except runs.NotReconciledError as error:
            _failed(tenant_id, str(error))
        except failures.DatabaseError as error:
            _failed(tenant_id, failures.reason(error))
        except Exception as error:  # noqa: BLE001  (whatever it is, the other tenants go on)
            _failed(tenant_id, error)
        else:
            _ended(tenant_id, summary)
        return True


def _log_pause(tenant_id: str, reason: str, until: datetime) -> None:
    error = f"{reason}: waiting until {until.astimezone(UTC):%H:%M:%S} UTC"
    logs.log(_logger, logging.INFO, "reconcile_paused", tenant_id=tenant_id, error=error)


def _ended(tenant_id: str, summary: Summary) -> None:
    metrics.reconciled(tenant_id, summary.counts(), is_complete=summary.is_complete)
    if summary.error:
        _failed(tenant_id, summary.error, **summary.counts())
    else:
        fields = {
            **summary.counts(),
            "archived": summary.archived,
            "listed": summary.listed,
            "passed_over": summary.passed or None,
            "is_complete": summary.is_complete,
        }
        for remark in summary.remarks:
            logs.log(_logger, logging.WARNING, "reconcile_incomplete", tenant_id=tenant_id, error=remark)
        logs.log(_logger, logging.INFO, "reconciled", tenant_id=tenant_id, **fields)


def _failed(tenant_id: str, error: str | Exception, **counts: int) -> None:
    logs.log(_logger, logging.WARNING, "reconcile_failed", tenant_id=tenant_id, error=error, **counts)
