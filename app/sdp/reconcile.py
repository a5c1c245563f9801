"""Which resolved tickets does ServiceDesk Plus know of that ticket_history lacks? They are appended to the inbox.

The cursor is a time by ServiceDesk Plus' own clock. It moves only past tickets that we have, have appended, or found
deleted; and past those that could not be fetched while others could: they are stored, and fetched by later runs.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules, statuses_of
from app.sdp import account as accounts
from app.sdp import by_display_id, epoch, unedited
from app.sdp.access import Access, OnPause
from app.sdp.errors import SdpError, TenantGoneError
from app.sdp.plan import Begin, Plan
from app.sdp.summary import NONE_SHOWN, Summary
from app.sdp.tenant_run import TenantRun
from app.settings import Settings
from db import allowed, inbox, lease_keeper, leases, sdp, tenants
from db import engine as database
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


class Reports(msgspec.Struct, frozen=True):
    """What a run calls: after each page, and where it waits for the end of a pause; without the latter it ends."""

    on_progress: OnProgress
    on_pause: OnPause | None


class NotReconciledError(Exception):
    """A run cannot begin, or go on; the message says why and what to do."""


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
    on_pause: OnPause | None = None,
    hold: Hold | None = None,
) -> Summary:
    """Append a tenant's resolved tickets that ticket_history lacks or has older, from where the last run ended.

    With `since`, from then on, and the cursor stays where it is. Begins with no other ticket after `seconds`, and ends
    GRACE seconds later. `is_dry` appends nothing. If ServiceDesk Plus asks for a pause, the run ends; with `on_pause`,
    which is given why and until when, it waits. With `since`, archived tickets are read too. Pass `hold`, which takes a
    lease, where a process renews its leases itself. The summary has the error of ServiceDesk Plus that ended the
    run, or which ticket is odd. Raises NotReconciledError, or a database error.
    """
    plan = Plan(
        since=since,
        seconds=seconds,
        is_dry=is_dry,
        moves_cursor=since is None and not is_dry,
        reads_archive=since is not None,
    )
    return await _run(settings, tenant_id, plan, Reports(on_progress, on_pause), hold)


async def import_since(
    settings: Settings,
    tenant_id: str,
    since: datetime,
    *,
    on_progress: OnProgress = ignore_progress,
    on_pause: OnPause | None = None,
) -> Summary:
    """Append a tenant's resolved tickets that were last updated since then, and that ticket_history lacks or has older.

    Archived ones too. With `on_pause` it waits where ServiceDesk Plus asks for a pause.

    Goes on where it was interrupted, unless `since` is earlier than where it began. The summary has the error of
    ServiceDesk Plus that ended the run. Raises NotReconciledError, or a database error.
    """
    plan = Plan(source=inbox.BULK, since=since, reads_archive=True)
    return await _run(settings, tenant_id, plan, Reports(on_progress, on_pause), None)


async def check(connection: AsyncConnection, settings: Settings, tenant_id: str) -> Summary:
    """Ask a tenant's ServiceDesk Plus for tickets, and whether its lists are those that are asked for.

    Returns the hundred tickets that were updated last as a run would count them, of which it would pass over some; its
    remarks say which tickets no run could list.
    Raises PausedError while it may not be asked, NotReconciledError, another SdpError or a database error.
    """
    config = await _config(connection, tenant_id)
    async with _client(connection, config, settings) as client:
        await client.check()
        newest = await client.newest()
        trouble = await unedited.trouble(client)
    if newest.has_more_rows and not newest.count:
        trouble.append(NONE_SHOWN)
    summary, resolved = Summary(listed=len(newest.rows), remarks=trouble), statuses_of(settings)
    for row in newest.rows:
        if row.status and row.status.is_named and not row.status.is_one_of(resolved):
            summary.pass_over(row.status)
    return summary


async def find_named(
    connection: AsyncConnection,
    settings: Settings,
    tenant_id: str,
    display_ids: Sequence[str],
    found: dict[str, list[str]],
    on_pause: OnPause | None = None,
) -> None:
    """Add to `found`, by display id, the ids of a tenant's tickets that its ServiceDesk Plus knows by `display_ids`.

    Asks for a hundred at a time. Where several tickets have the same one, all of their ids. With `on_pause` it waits
    where ServiceDesk Plus asks for a pause. Raises NotReconciledError, SdpError or a database error; what was found
    before is in `found`.
    """
    config = await _config(connection, tenant_id)
    async with _client(connection, config, settings, on_pause) as client:
        await by_display_id.find(client, display_ids, found)


async def _run(settings: Settings, tenant_id: str, plan: Plan, reports: Reports, hold: Hold | None) -> Summary:
    """Run on a connection of its own, under a lease; a run that lost the lease appends nothing."""
    engine = database.create_engine(settings.database_url, "ticket-inbox reconcile", 1, STATEMENT_TIMEOUT)
    hold = hold or functools.partial(lease_keeper.held, settings.database_url)
    old = Lock(RUN, f"{plan.source} {tenant_id}")
    try:
        async with database.connection(engine) as connection:
            config = await _config(connection, tenant_id)
            await _require_tenant(connection, config, plan)
            async with (
                hold(connection, f"{LEASES[plan.source]}:{tenant_id}", old) as lease,
                _client(connection, config, settings, reports.on_pause) as client,
            ):
                begin = await _begin(connection, config, plan)
                run = TenantRun(connection, client, Rules.of(settings), config, plan, begin, lease)
                save = functools.partial(_save, connection, config, plan, run, lease)
                return await _complete(run, reports.on_progress, save)
    except HeldError as held:
        raise BusyError(f"another run for tenant {tenant_id!r} is under way, by {held}: wait for its end") from None
    except LostError as lost:
        raise NotReconciledError(f"the run for tenant {tenant_id!r} ended early: {lost}") from None
    except TenantGoneError:
        raise NotReconciledError(
            f"tenant {tenant_id!r} is disabled or being removed, or its ServiceDesk Plus was forgotten meanwhile: "
            "nothing more is appended for it"
        ) from None
    finally:
        await engine.dispose()


async def _complete(run: TenantRun, on_progress: OnProgress, save: Callable[[], Awaitable[None]]) -> Summary:
    """Go through the tickets, and save the progress after each page and at the end."""
    on_progress(run.summary)  # to which the run adds
    try:
        async for summary in run.pages():
            on_progress(summary)
            await save()
    except SdpError as error:
        run.summary.error = str(error)
    run.summary.error = run.summary.error or run.unsettled.error
    await save()
    return run.summary


async def _require_tenant(connection: AsyncConnection, config: sdp.Config, plan: Plan) -> None:
    """Raise TenantGoneError unless the run may still append; each append asks again, in its own statement."""
    still = allowed.configured(config.created_at)
    if not await allowed.is_allowed(connection, still, config.tenant_id, is_bulk=plan.source == inbox.BULK):
        raise TenantGoneError


async def _save(connection: AsyncConnection, config: sdp.Config, plan: Plan, run: TenantRun, lease: Lease) -> None:
    """Write how far the run has come. Raises TenantGoneError, or LostError: another run may have written it."""
    await _require_tenant(connection, config, plan)
    if plan.moves_cursor:
        await leases.confirm(connection, lease)
        await sdp.move(connection, run.tenant_id, plan.source, run.progress())


async def _begin(connection: AsyncConnection, config: sdp.Config, plan: Plan) -> Begin:
    since = plan.since or config.created_at - BEFORE
    if not plan.moves_cursor:
        found = {cursor.source: cursor.position for cursor in await sdp.cursors(connection, config.tenant_id)}
        return Begin(position=plan.since or found.get(plan.source, since), since=since)
    cursor = await sdp.begin(connection, config.tenant_id, plan.source, since, epoch.latest_ever())
    return Begin(**{name: getattr(cursor, name) for name in Begin.__struct_fields__})


async def _config(connection: AsyncConnection, tenant_id: str) -> sdp.Config:
    if config := await sdp.read(connection, tenant_id):
        return config
    raise NotReconciledError(
        f"no ServiceDesk Plus is known of tenant {tenant_id!r}: `ticket-inbox tenant sdp set` says where it is"
    )


def _client(
    connection: AsyncConnection, config: sdp.Config, settings: Settings, on_pause: OnPause | None = None
) -> "Client":
    account = _account(config, settings)
    from app.sdp.client import Client  # noqa: PLC0415  (brings httpx, for which every worker's start would wait)

    access = Access(connection, config.tenant_id, tenants.Secrets(settings.secrets_key), on_pause)
    try:
        return Client(account, settings.sdp_requests_per_minute, access=access)
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
