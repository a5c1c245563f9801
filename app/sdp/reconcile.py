"""Which resolved tickets does ServiceDesk Plus know of that ticket_history lacks? They are appended to the inbox.

The cursor is a time by ServiceDesk Plus' own clock. It moves only past tickets that are there, were appended, or are
gone, or are kept to be asked for again, since they could not be had while others could.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.event.rules import Rules
from app.sdp import account as accounts
from app.sdp.client import Client
from app.sdp.errors import SdpError
from app.sdp.summary import Summary
from app.sdp.tenant_run import Plan, Run
from app.settings import Settings
from db import engine as database
from db import inbox, sdp, tenants

# A ticket may become visible a while after the time that it bears: its transaction took long, or another node's clock
# is behind. Ten minutes are read again each time; what is there already costs a row of a list.
OVERLAP = timedelta(minutes=10)
BEFORE = timedelta(days=1)  # the first run begins this long before the config: whoever sets it has just lost something
STATEMENT_TIMEOUT = 30.0  # seconds

# What the runs of this process have dealt with, by tenant, address and source: tickets, and when they had been updated.
# It spares questions alone: in another process they are asked again, and nothing is appended twice.
_known: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)

Heed = Callable[[Summary], None]  # is told how far it has come, after each page


def nobody(_summary: Summary) -> None:
    """Take no heed."""


class NotReconciledError(Exception):
    """A run cannot even begin; the message says why and what to do."""


class BusyError(NotReconciledError):
    """Another run of this tenant's is under way."""


async def reconcile(
    settings: Settings,
    tenant_id: str,
    *,
    since: datetime | None = None,
    seconds: float | None = None,
    is_dry: bool = False,
    heed: Heed = nobody,
) -> Summary:
    """Append a tenant's resolved tickets that ticket_history lacks or has older, from where the last run ended.

    With `since` from there on, and the cursor is left where it is. Ends after about `seconds`. `is_dry` only asks.
    What ServiceDesk Plus has against it is in the summary. Raises NotReconciledError, or a database error.
    """
    moves_cursor = since is None and not is_dry
    plan = Plan(since=since, seconds=seconds, is_dry=is_dry, moves_cursor=moves_cursor)
    return await _run(settings, tenant_id, plan, heed)


async def import_since(settings: Settings, tenant_id: str, since: datetime, *, heed: Heed = nobody) -> Summary:
    """Append a tenant's resolved tickets that were last updated since then, and that ticket_history lacks or has older.

    Goes on where it was interrupted, unless it is to begin earlier than it did. What ServiceDesk Plus has against it
    is in the summary. Raises NotReconciledError, or a database error.
    """
    return await _run(settings, tenant_id, Plan(source=inbox.BULK, since=since), heed)


async def check(connection: AsyncConnection, settings: Settings, tenant_id: str) -> None:
    """Ask a tenant's ServiceDesk Plus for one ticket. Raises NotReconciledError, SdpError or a database error."""
    account = _account(await _config(connection, tenant_id), settings)
    async with Client(account, settings.sdp_requests_per_minute) as client:
        await client.check()


async def _run(settings: Settings, tenant_id: str, plan: Plan, heed: Heed) -> Summary:
    """Run on one connection of its own: the lock is the session's, so who has lost it cannot write either."""
    engine = database.create_engine(settings.database_url, "ticket-inbox reconcile", 1, STATEMENT_TIMEOUT)
    try:
        async with database.connection(engine) as connection:
            config = await _config(connection, tenant_id)
            if not await sdp.try_lock(connection, tenant_id, plan.source):
                raise BusyError(f"another run for tenant {tenant_id!r} is under way: wait for its end")
            async with _client(_account(config, settings), settings) as client:
                return await _go(Run(connection, client, Rules.of(settings), tenant_id, plan), config, plan, heed)
    finally:
        await engine.dispose()


async def _go(run: Run, config: sdp.Config, plan: Plan, heed: Heed) -> Summary:
    """Go through the tickets, page by page, and keep how far that was."""
    begin = await _begin(run, config, plan)
    try:
        async for _ in run.pages(milliseconds(begin - OVERLAP), milliseconds(begin)):
            heed(run.summary)
            if plan.moves_cursor:
                await sdp.move(run.connection, config.tenant_id, plan.source, run.position, run.failing, None)
    except SdpError as error:
        run.summary.error = str(error)
    if run.failing and not run.summary.error:
        run.summary.error = f"tickets that could not be had yet: {len(run.failing)}; next is {run.failing[0]}"
    if plan.moves_cursor:
        await sdp.move(run.connection, config.tenant_id, plan.source, run.position, run.failing, run.summary.error)
    return run.summary


def _looked_at(config: sdp.Config, plan: Plan, begin: int) -> dict[str, int]:
    """Give what earlier runs of this process have dealt with, without what is before `begin` and never met again.

    A ticket that was edited after it was resolved looks as if it were new for as long as it is met.
    """
    known = _known[config.tenant_id, config.base_url, plan.source]
    for ticket_id in [ticket_id for ticket_id, updated in known.items() if updated < begin]:
        del known[ticket_id]
    return known


async def _config(connection: AsyncConnection, tenant_id: str) -> sdp.Config:
    if config := await sdp.read(connection, tenant_id):
        return config
    raise NotReconciledError(
        f"no ServiceDesk Plus is known of tenant {tenant_id!r}: `ticket-inbox tenant sdp set` tells where it is"
    )


def _client(account: accounts.Account, settings: Settings) -> Client:
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


async def _begin(run: Run, config: sdp.Config, plan: Plan) -> datetime:
    """Give the time to begin at, and the run what earlier ones have left."""
    since = plan.since or config.created_at - BEFORE
    if not plan.moves_cursor:
        found = {cursor.source: cursor.position for cursor in await sdp.cursors(run.connection, config.tenant_id)}
        return plan.since or found.get(plan.source, since)
    cursor = await sdp.begin(run.connection, config.tenant_id, plan.source, since)
    run.failing = list(cursor.failing)
    run.looked_at = _looked_at(config, plan, milliseconds(cursor.position - OVERLAP))
    return cursor.position


def milliseconds(moment: datetime) -> int:
    """Give a time as ServiceDesk Plus does, 0 for all before 1970."""
    return max(int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)), 0)
