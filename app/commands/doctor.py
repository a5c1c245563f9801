"""ticket-inbox doctor: what is missing or wrong on a tenant's way from ServiceDesk Plus to ticket_history?"""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

import click

from app import hints
from app.commands import lock_findings, search_findings, signature_findings, terminal
from app.commands.finding import Finding, note, ok, wrong
from app.commands.inspect import BACKLOG, duration
from app.settings import Settings, uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.sdp.summary import Summary
    from db.inspection import Recent, Status
    from db.statement import Session
    from db.tenant_list import TenantRow

TIMEOUT = 30.0  # seconds
GUIDE = "docs/webhooks/resolved-ticket-webhook-setup.md"
RUNBOOK = "docs/operations.md"
BACKUP = "docs/backup.md"
NO_API = "ServiceDesk Plus is not asked for tickets that no webhook brought: see `ticket-inbox tenant sdp set`"
NO_KEY = "SECRETS_KEY is not set here"


@click.command()
@click.option("--tenant", "tenant_id", metavar="ID", required=True, help="The tenant to check.")
@click.option("--url", help="Where its webhooks must arrive. Without it: HOST and PORT, on this machine.")
def doctor(tenant_id: str, url: str | None) -> None:
    """Check all that a tenant's tickets need, from the webhook's address to ServiceDesk Plus' API.

    Changes nothing, and sends nothing that is stored. Exits 1 if something has to be mended. Without SECRETS_KEY it
    checks all that needs no secret.
    """
    from app.commands import on_database  # noqa: PLC0415

    async def look(connection: "AsyncConnection", settings: Settings) -> list[Finding]:
        return [found async for found in findings(connection, settings, tenant_id, url)]

    used = uses.DATABASE | uses.KEY | uses.SDP_CLIENT | uses.STATUSES | (frozenset() if url else uses.ADDRESS)
    found = on_database.run(look, TIMEOUT, used, may_lack_key=True)
    for one in found:
        terminal.echo(f"{one.kind:6}{hints.as_typed(one.text)}")
    if count := sum(one.kind == "wrong" for one in found):
        raise click.ClickException(f"{count} to mend: {GUIDE} and {RUNBOOK} say how")


async def findings(
    connection: "AsyncConnection", settings: Settings, tenant_id: str, url: str | None
) -> AsyncIterator[Finding]:
    """Yield the finding of one check after the other. Raises a database error if Postgres is away."""
    from app.server import ports  # noqa: PLC0415
    from db import engine as database  # noqa: PLC0415
    from db import failures, inspection, schema, signature_counts  # noqa: PLC0415

    found = await schema.current(connection)
    if trouble := schema.trouble(found):
        yield wrong(trouble)
        return
    newer = schema.newer(found)
    yield ok("Postgres answers, and " + (f"works: {newer}" if newer else f"its schema is at {found}"))
    try:
        await database.require_writes(connection)
    except failures.ReadOnlyError as error:
        yield wrong(failures.explain(error))
    session = database.driver(connection)
    yield await of_tenant(connection, settings, tenant_id)
    for one in [*await of_database(session, tenant_id), *await of_others(connection)]:
        yield one
    yield of_address(url or ports.url(settings.host, settings.port))
    for one in signature_findings.of(await signature_counts.read_lately(connection, tenant_id), tenant_id):
        yield one
    for one in of_webhooks(await inspection.read_recent(session, tenant_id), tenant_id):
        yield one
    if settings.secrets_key:
        for one in await of_api(connection, settings, tenant_id):
            yield one
    else:
        yield note(f"the API of ServiceDesk Plus was not asked: {NO_KEY}")
    for one in of_roles(await inspection.read_blind_roles(session)):
        yield one


async def of_database(session: "Session", tenant_id: str) -> list[Finding]:
    """Return what is found of workers, and of search, which finds the tickets that they stored."""
    from db import inspection, search_state  # noqa: PLC0415

    status, lacking = await inspection.read_status(session), await search_state.read_lacking_roles(session)
    return [*of_work(status), *search_findings.of(status.search, lacking, tenant_id)]


async def of_others(connection: "AsyncConnection") -> list[Finding]:
    """Return what is found of other sessions: what they hold, keep, or do not read."""
    from db import exposure, notifications  # noqa: PLC0415

    share = await notifications.share(connection)
    found = [wrong(notifications.piled_up(share))] if share >= notifications.PILED_UP else []
    found += [ok(text) if is_right else note(text) for is_right, text in await lock_findings.read(connection)]
    return found + [note(text) for text in await exposure.read_left(connection)]


def _why_not_enabled(row: "TenantRow | None", tenant_id: str) -> str | None:
    if row is None:
        return f"there is no tenant {tenant_id!r}: `ticket-inbox tenant add` adds it"
    if row.being_removed:
        word = terminal.shell_word(tenant_id)
        return f"tenant {tenant_id!r} is being removed: `ticket-inbox tenant remove {word}` finishes that"
    if not row.enabled:
        return f"tenant {tenant_id!r} is disabled: `ticket-inbox tenant enable` takes its webhooks in again"
    return None


async def of_tenant(connection: "AsyncConnection", settings: Settings, tenant_id: str) -> Finding:
    """Check that the tenant is known and enabled, and that our keys, if there are any, decrypt its secret."""
    from db import engine as database  # noqa: PLC0415
    from db import failures, tenant_list, tenants  # noqa: PLC0415

    known = {row.tenant_id: row for row in await tenant_list.read_all(database.driver(connection))}
    if trouble := _why_not_enabled(known.get(tenant_id), tenant_id):
        return wrong(trouble)
    if not settings.secrets_key:
        return note(f"the tenant is enabled; whether its secret can be read was not checked: {NO_KEY}")
    try:
        [found] = [one for one in await tenants.read_enabled(connection) if one.tenant_id == tenant_id]
        tenants.Secrets(settings.secrets_key).decrypt(found.secret)
    except tenants.UnreadableSecretError:
        return wrong("no key in SECRETS_KEY reads the tenant's secret: add the key that does, or rotate the secret")
    except failures.DatabaseError as error:
        _require_no_right(error)
        return note("the tenant is enabled; this role may not read its secret, so that was not checked")
    return ok("the tenant is enabled, and its secret can be read" + _grace(found.grace_seconds))


def of_work(status: "Status") -> Iterator[Finding]:
    """Check that a worker is alive, and that promotion keeps up."""
    if not status.workers_alive:
        yield wrong("no worker is alive, so nothing reaches ticket_history: start `ticket-inbox worker`")
    elif (waited := status.oldest_pending_seconds or 0) > BACKLOG:
        yield wrong(f"the oldest pending row has waited for {waited:.0f} s: see what the workers log")
    else:
        yield ok(f"workers alive: {status.workers_alive}; nothing has waited for over a minute")


def of_address(url: str) -> Finding:
    """Check that a ticket-inbox answers at the webhook's address. The request is not signed, so nothing is stored."""
    import httpx  # noqa: PLC0415

    from app.commands import proxies, send  # noqa: PLC0415
    from app.webhook import PATH  # noqa: PLC0415

    asked = url if url.rstrip("/").endswith(PATH) else url.rstrip("/") + PATH
    target = send.without_login(asked)
    try:
        with httpx.Client(timeout=10, **proxies.options(asked)) as client:
            answer = client.post(asked, json={"tenant_id": ""})
    except send.UNREACHABLE as error:
        return wrong(f"{target} cannot be reached from here ({error}): is `ticket-inbox serve` running there?")
    except (ImportError, OSError, ValueError) as error:
        return wrong(f"{proxies.WRONG}: {error}")
    if answer.status_code == httpx.codes.UNAUTHORIZED and "X-Correlation-ID" in answer.headers:
        return ok(f"{target} answers, and asks for a signature")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return wrong(f"{target} answers 503: {answer.text[:200]}")
    return wrong(f"{target} answers {answer.status_code}, as no ticket-inbox does: is the address right?")


def of_webhooks(recent: "Recent", tenant_id: str) -> Iterator[Finding]:
    """Check that the tenant's webhooks come, and that none of its rows is rejected or failed."""
    if recent.newest_webhook_seconds is None:
        yield wrong(f"no webhook of it is among the inbox's last rows: see {GUIDE}, and try `ticket-inbox send`")
    else:
        yield ok(f"recent webhooks: {recent.webhooks}, the newest {duration(recent.newest_webhook_seconds)} ago")
    for status, count, newest in (
        ("rejected", recent.rejected, recent.rejected_reason),
        ("failed", recent.failed, recent.failed_reason),
    ):
        if count:
            reason = f"; the newest says: {newest!r}" if newest else ""
            again = f"`ticket-inbox reprocess --status {status} --tenant {terminal.shell_word(tenant_id)}`"
            yield wrong(f"{count} rows are {status}{reason}. Mend the sender, or the setting, then {again}")


def of_roles(blind: Sequence[str]) -> Iterator[Finding]:
    """Note the roles that read an empty ticket_history without an error, as a backup's role must not."""
    for role in blind:
        yield note(
            f"role {role} may read ticket_history, but row-level security shows it 0 rows, without an error, and its "
            f"pg_dump fails: a backup needs BYPASSRLS, a reader `ticket-inbox roles reader`; see {BACKUP}"
        )


async def of_api(connection: "AsyncConnection", settings: Settings, tenant_id: str) -> list[Finding]:
    """Check that ServiceDesk Plus can be asked for what no webhook brought, and that the last run was complete.

    Note which tickets it says are done and are passed over by their status.
    """
    from app.sdp import reconcile  # noqa: PLC0415
    from app.sdp.errors import PausedError, SdpError  # noqa: PLC0415
    from db import failures, inbox, sdp  # noqa: PLC0415

    asked, missed, passed = "ServiceDesk Plus can be asked", list[str](), list[Finding]()
    try:
        if await sdp.read(connection, tenant_id) is None:
            return [note(NO_API)]
        newest = await reconcile.check(connection, settings, tenant_id)
        missed, passed = newest.remarks, of_statuses(newest)
    except PausedError as paused:
        return [note(f"ServiceDesk Plus was not asked: {paused}")]
    except (SdpError, reconcile.NotReconciledError) as error:
        return [wrong(f"the API of ServiceDesk Plus: {error}")]
    except failures.DatabaseError as error:
        _require_no_right(error)
        asked = "ServiceDesk Plus may be asked (not checked: this role may not read the credentials)"
    cursor = next((one for one in await sdp.cursors(connection, tenant_id) if one.source == inbox.API), None)
    if cursor is None:
        return [note(f"{asked}, and has not been yet: a worker does so every five minutes"), *passed]
    if cursor.error:
        return [note(f"{asked}, but the last run ended early: {cursor.error}"), *passed]
    reached = f"{cursor.position.astimezone(UTC):%Y-%m-%d %H:%M}"
    counted = f"of the statuses that count as resolved ({settings.resolved_statuses})"
    complete = f"{asked}; by its clock (UTC) nothing is missing up to {reached}, {counted}"
    return [note(f"{complete}, but {'; '.join(missed)}") if missed else ok(complete), *passed]


def of_statuses(newest: "Summary") -> list[Finding]:
    """Show the statuses of the tickets that were updated last, and note those that are done and are passed over."""
    if not newest.passed_over:
        return []
    shown = f"of the tickets that ServiceDesk Plus updated last, {newest.listed:,}: {newest.statuses()}"
    kind = ok if newest.passed_over < newest.listed else note
    return [kind(f"{shown}; those of other statuses are passed over"), *map(note, newest.passed_as_done())]


def _grace(seconds: float | None) -> str:
    return f"; the secret before it verifies for {duration(seconds)} more" if seconds else ""


def _require_no_right(error: Exception) -> None:
    """Raise `error` unless it says that this command's role, such as an operator's, may not read something."""
    from db import failure_kinds, failures  # noqa: PLC0415

    if failures.kind(error) is not failure_kinds.RIGHT:
        raise error
