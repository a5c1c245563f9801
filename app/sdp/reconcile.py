"""Which resolved tickets does ServiceDesk Plus know of that ticket_history lacks? They are appended to the inbox.

The cursor is a time by ServiceDesk Plus' own clock. It moves only past tickets that we have, have appended, or found
deleted; and past those that could not be fetched while others could: they are stored, and fetched by later runs.
"""

import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import account as accounts
from app.sdp import epoch
from app.sdp.errors import SdpError, TenantGoneError
from app.sdp.plan import Begin, Plan
from app.sdp.summary import Summary
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
    hold: Hold | None = None,
) -> Summary:
    """Append a tenant's resolved tickets that ticket_history lacks or has older, from where the last run ended.

    With `since`, from then on, and the cursor stays where it is. Begins with no other ticket after `seconds`, and ends
    GRACE seconds later. `is_dry` appends nothing. Pass `hold`, which takes a lease, where a process renews its leases
    itself. The summary has the error of ServiceDesk Plus that ended the run, or which ticket is odd.
    Raises NotReconciledError, or a database error.
    """
    plan = Plan(since=since, seconds=seconds, is_dry=is_dry, moves_cursor=since is None and not is_dry)
    return await _run(settings, tenant_id, plan, on_progress, hold)


async def import_since(
    settings: Settings, tenant_id: str, since: datetime, *, on_progress: OnProgress = ignore_progress
) -> Summary:
    """Append a tenant's resolved tickets that were last updated since then, and that ticket_history lacks or has older.

    Goes on where it was interrupted, unless `since` is earlier than where it began. The summary has the error of
    ServiceDesk Plus that ended the run. Raises NotReconciledError, or a database error.
    """
    return await _run(settings, tenant_id, Plan(source=inbox.BULK, since=since), on_progress, None)


async def check(connection: AsyncConnection, settings: Settings, tenant_id: str) -> None:
    """Ask a tenant's ServiceDesk Plus for one ticket. Raises NotReconciledError, SdpError or a database error."""
    account = _account(await _config(connection, tenant_id), settings)
    from app.sdp.client import Client  # noqa: PLC0415

    async with Client(account, settings.sdp_requests_per_minute) as client:
        await client.check()


async def _run(settings: Settings, tenant_id: str, plan: Plan, on_progress: OnProgress, hold: Hold | None) -> Summary:
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
                _client(_account(config, settings), settings) as client,
            ):
                begin = await _begin(connection, config, plan)
                run = TenantRun(connection, client, Rules.of(settings), config, plan, begin, lease)
                save = functools.partial(_save, connection, config, plan, run, lease)
                return await _complete(run, on_progress, save)
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
        return Begin(position=plan.since or found.get(plan.source, since))
    cursor = await sdp.begin(connection, config.tenant_id, plan.source, since, epoch.latest_ever())
    return Begin(**{name: getattr(cursor, name) for name in Begin.__struct_fields__})


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
