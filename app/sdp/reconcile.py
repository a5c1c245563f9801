"""Which resolved tickets does ServiceDesk Plus know of that ticket_history lacks? They are appended to the inbox.

The cursor is a time by ServiceDesk Plus' own clock. It moves only past tickets that we have, have appended, or found
deleted; and past those that could not be fetched while others could: they are stored, and fetched by later runs.
"""

import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import account as accounts
from app.sdp import epoch
from app.sdp.errors import SdpError
from app.sdp.summary import Summary
from app.sdp.tenant_run import OVERLAP, Begin, Plan, TenantRun
from app.settings import Settings
from db import engine as database
from db import inbox, lease_keeper, leases, sdp, tenants
from db.advisory_locks import RUN, Lock
from db.leases import HeldError, Lease, LostError

if TYPE_CHECKING:
    from app.sdp.client import Client

BEFORE = timedelta(days=1)  # the first run begins this long before the config: webhooks may have been lost just then
STATEMENT_TIMEOUT = 30.0  # seconds

LEASES = {inbox.API: "reconcile", inbox.BULK: "import"}  # how the name of a run's lease begins

OnProgress = Callable[[Summary], None]  # called after each page
Hold = Callable[[AsyncConnection, str, Lock], AbstractAsyncContextManager[Lease]]  # takes a lease by its name


def ignore_progress(_summary: Summary) -> None:
    """Do nothing."""


class Memory:
    """The tickets that the runs of one process have dealt with, and when each of them had been updated.

    It only saves requests. A process without it fetches these tickets again, and appends nothing twice.
    """

    def __init__(self) -> None:
        self._looked_at: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)

    def since(self, cursor: datetime, config: sdp.Config, plan: Plan) -> dict[str, int]:
        """Return a tenant's tickets that were dealt with, in a dict that the run adds to; forget those of long before.

        Without it, a ticket that was edited after it was resolved looks new to every run that lists it. Forgets all of
        them if one is past the cursor: an older state of the database was restored, which may lack any of them.
        """
        looked_at = self._looked_at[config.tenant_id, config.base_url, plan.source]
        if any(updated > epoch.milliseconds(cursor) for updated in looked_at.values()):
            looked_at.clear()
        first = epoch.milliseconds(cursor - OVERLAP)
        for ticket_id in [ticket_id for ticket_id, updated in looked_at.items() if updated < first]:
            del looked_at[ticket_id]
        return looked_at


class NotReconciledError(Exception):
    """A run cannot even begin; the message says why and what to do."""


class BusyError(NotReconciledError):
    """Another run for this tenant is under way."""


async def reconcile(  # noqa: PLR0913  (the options of a run)
    settings: Settings,
    tenant_id: str,
    *,
    since: datetime | None = None,
    seconds: float | None = None,
    is_dry: bool = False,
    on_progress: OnProgress = ignore_progress,
    memory: Memory | None = None,
    hold: Hold | None = None,
) -> Summary:
    """Append a tenant's resolved tickets that ticket_history lacks or has older, from where the last run ended.

    With `since`, from then on, and the cursor stays where it is. Ends after about `seconds`. `is_dry` appends nothing.
    Pass the runs of one process the same `memory`, and `hold`, which takes a lease, where a process renews its leases
    itself. The summary has the error of ServiceDesk Plus that ended the run.
    Raises NotReconciledError, or a database error.
    """
    plan = Plan(since=since, seconds=seconds, is_dry=is_dry, moves_cursor=since is None and not is_dry)
    return await _run(settings, tenant_id, plan, on_progress, memory or Memory(), hold)


async def import_since(
    settings: Settings, tenant_id: str, since: datetime, *, on_progress: OnProgress = ignore_progress
) -> Summary:
    """Append a tenant's resolved tickets that were last updated since then, and that ticket_history lacks or has older.

    Goes on where it was interrupted, unless `since` is earlier than where it began. The summary has the error of
    ServiceDesk Plus that ended the run. Raises NotReconciledError, or a database error.
    """
    return await _run(settings, tenant_id, Plan(source=inbox.BULK, since=since), on_progress, Memory(), None)


async def check(connection: AsyncConnection, settings: Settings, tenant_id: str) -> None:
    """Ask a tenant's ServiceDesk Plus for one ticket. Raises NotReconciledError, SdpError or a database error."""
    account = _account(await _config(connection, tenant_id), settings)
    from app.sdp.client import Client  # noqa: PLC0415

    async with Client(account, settings.sdp_requests_per_minute) as client:
        await client.check()


async def _run(
    settings: Settings, tenant_id: str, plan: Plan, on_progress: OnProgress, memory: Memory, hold: Hold | None
) -> Summary:
    """Run on a connection of its own, under a lease; a run that lost the lease appends nothing."""
    engine = database.create_engine(settings.database_url, "ticket-inbox reconcile", 1, STATEMENT_TIMEOUT)
    hold = hold or functools.partial(lease_keeper.held, settings.database_url)
    old = Lock(RUN, f"{plan.source} {tenant_id}")
    try:
        async with database.connection(engine) as connection:
            config = await _config(connection, tenant_id)
            async with (
                hold(connection, f"{LEASES[plan.source]}:{tenant_id}", old) as lease,
                _client(_account(config, settings), settings) as client,
            ):
                begin = await _begin(connection, config, plan, memory)
                run = TenantRun(connection, client, Rules.of(settings), config, plan, lease)
                save = functools.partial(_save, connection, plan, run, lease)
                return await _complete(run, begin, on_progress, save)
    except HeldError as held:
        raise BusyError(f"another run for tenant {tenant_id!r} is under way, by {held}: wait for its end") from None
    except LostError as lost:
        raise NotReconciledError(f"the run for tenant {tenant_id!r} ended early: {lost}") from None
    finally:
        await engine.dispose()


async def _complete(
    run: TenantRun, begin: Begin, on_progress: OnProgress, save: Callable[[str | None], Awaitable[None]]
) -> Summary:
    """Go through the tickets, and save the cursor after each page and at the end."""
    on_progress(run.summary)  # to which the run adds
    try:
        async for summary in run.pages(begin):
            on_progress(summary)
            await save(None)
    except SdpError as error:
        run.summary.error = str(error)
    if run.failing and not run.summary.error:
        run.summary.error = f"tickets that could not be fetched yet: {len(run.failing)}; next is {run.failing[0]}"
    await save(run.summary.error)
    return run.summary


async def _save(connection: AsyncConnection, plan: Plan, run: TenantRun, lease: Lease, error: str | None) -> None:
    """Write how far the run has come. Raises LostError: another run may have written other failing tickets."""
    if plan.moves_cursor:
        await leases.confirm(connection, lease)
        await sdp.move(connection, run.tenant_id, plan.source, run.position, run.failing, error)


async def _begin(connection: AsyncConnection, config: sdp.Config, plan: Plan, memory: Memory) -> Begin:
    since = plan.since or config.created_at - BEFORE
    if not plan.moves_cursor:
        found = {cursor.source: cursor.position for cursor in await sdp.cursors(connection, config.tenant_id)}
        return Begin(plan.since or found.get(plan.source, since))
    cursor = await sdp.begin(connection, config.tenant_id, plan.source, since)
    return Begin(cursor.position, cursor.failing, memory.since(cursor.position, config, plan))


async def _config(connection: AsyncConnection, tenant_id: str) -> sdp.Config:
    if config := await sdp.read(connection, tenant_id):
        return config
    raise NotReconciledError(
        f"no ServiceDesk Plus is known of tenant {tenant_id!r}: `ticket-inbox tenant sdp set` says where it is"
    )


def _client(account: accounts.Account, settings: Settings) -> "Client":
    from app.sdp.client import Client  # noqa: PLC0415  (brings httpx, for which every worker's start would wait)

    try:
        return Client(account, settings.sdp_requests_per_minute)
    except SdpError as error:
        raise NotReconciledError(str(error)) from None


def _account(config: sdp.Config, settings: Settings) -> accounts.Account:
    try:
        return accounts.of_config(config, tenants.Secrets(settings.secrets_key))
    except tenants.UnreadableSecretError:
        raise NotReconciledError(
            f"no key in SECRETS_KEY reads the credentials of tenant {config.tenant_id!r}: "
            "add the key that does, or set them again by `ticket-inbox tenant sdp set`"
        ) from None
    except accounts.WrongAccountError as wrong:
        raise NotReconciledError(f"tenant {config.tenant_id!r}: {wrong}") from None
