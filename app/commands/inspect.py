"""ticket-inbox status, ticket-inbox trace: what does an operator look at first? Lines of at most 80 columns."""

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click
import msgspec

from app import hints
from app import settings as environment
from app.commands import terminal
from app.commands.options import as_json
from app.commands.terminal import printable
from app.settings import uses

if TYPE_CHECKING:
    from app.commands.trace_links import TraceLink, TraceLinks
    from db.blocking import BlockingSession
    from db.inspection import Delivery, Status
    from db.search_state import SearchState
    from db.statement import Session

BACKLOG = 60.0  # seconds that the oldest pending row may wait
TIMEOUT = 60.0  # seconds; counting a large inbox takes a while
WIDTH = 80
NAMED = 3  # tenants whose search is being built
MOST = 200  # deliveries that `trace` shows unless it is asked for more
# How a delivery came, by its source; only a webhook is signed.
CAME = {"webhook_resolved": "received, verified", "api_fallback": "fetched from the API", "bulk_import": "imported"}


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every 2 seconds, until Ctrl-C; exits 0.")
@as_json
def status(*, watch: bool, as_json: bool) -> None:
    """Show what waits, what went wrong, how many workers are alive and which session holds up others.

    Exits 1 when the oldest pending row has waited for more than a minute.
    """
    from app.commands import on_database  # noqa: PLC0415
    from db import inspection  # noqa: PLC0415

    def lines(found: "Status") -> list[str]:
        return [terminal.as_json(found)] if as_json else [*_status_lines(found), *(late(found) if watch else ())]

    def late(found: "Status") -> Iterator[str]:
        return map(hints.as_typed, _backlog(found))

    if watch:
        from app.commands import watching  # noqa: PLC0415  (brings SQLAlchemy, which takes longest to import)

        watching.watch(inspection.read_status, lines, is_json=as_json)
        return
    found = on_database.read(inspection.read_status, TIMEOUT)
    terminal.echo(*lines(found))
    for trouble in _backlog(found):
        raise click.ClickException(trouble)


@click.command()
@click.argument("wanted", metavar="TICKET_OR_CORRELATION_ID")
@click.option("--tenant", "tenant_id", metavar="ID", help="Only this tenant's deliveries.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 10**9),
    default=MOST,
    show_default=True,
    help="Show the newest N deliveries, and say how many more there are.",
)
@click.option(
    "--check/--no-check",
    default=None,
    help="Ask Jaeger for each trace, and link only to one that it has: the default where JAEGER_URL is set.",
)
@as_json
def trace(wanted: str, tenant_id: str | None, limit: int, *, check: bool | None, as_json: bool) -> None:
    """Show the life of a ticket, delivery by delivery; times are UTC.

    A ticket is found by its id, and by its display id: the number that people know it by, which tickets of several
    tenants may have. The id of a trace (32 hexadecimal digits), or a whole traceparent, does too, and takes longer in a
    large inbox. With JAEGER_URL set, link to each delivery's trace, or say why there is none.
    """
    from app.commands import on_database, trace_links  # noqa: PLC0415
    from app.commands.jaeger import Jaeger  # noqa: PLC0415

    url = environment.load_or_exit(uses.DATABASE | {"jaeger_url"}).jaeger_url
    if check and not url:
        raise click.UsageError("--check asks Jaeger: set JAEGER_URL to the address of its pages")
    found, total = on_database.read(lambda session: _read(session, wanted, tenant_id, limit), TIMEOUT)
    if not found:
        of = f" of tenant {tenant_id!r}" if tenant_id is not None else ""
        raise click.ClickException(f"no delivery{of} has the ticket id, display id or correlation id {wanted!r}")
    asks = bool(url) if check is None else check
    links = trace_links.TraceLinks(Jaeger(url) if url else None, found, check=asks)
    left_out = total - len(found)
    if as_json:
        terminal.echo(_trace_json(found, links, left_out))
    else:
        terminal.echo(*_trace_lines(found, links), *_left_out_lines(left_out, total))
    if links.failure and check:
        raise click.ClickException(f"Jaeger could not be asked: {links.failure}")
    if links.failure:
        terminal.echo(f"Warning: Jaeger could not be asked: {links.failure}", err=True)


async def _read(session: "Session", wanted: str, tenant_id: str | None, limit: int) -> "tuple[list[Delivery], int]":
    """Return the newest deliveries that were asked for, at most `limit`, and how many there are."""
    from db import inspection, trace_search  # noqa: PLC0415

    with terminal.Progress("looking through the inbox for a trace's id, %", 100) as progress:
        found = await trace_search.find(session, wanted, tenant_id, limit, progress.show)
    return await inspection.read_deliveries(session, found.newest), found.total


def _status_lines(found: "Status") -> Iterator[str]:
    waiting = f"  the oldest for {duration(found.oldest_pending_seconds)}" if found.oldest_pending_seconds else ""
    yield f"{'INBOX':12}{'ROWS':>12}"
    yield f"{'pending':12}{found.pending:>12}{waiting}"
    for name in ("promoted", "failed", "rejected"):
        yield f"{name:12}{getattr(found, name):>12}"
    yield ""
    yield f"{'WORKERS':12}{found.workers_alive:>12}  alive"
    for task, counts in sorted(found.jobs.items()):
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        yield from _wrapped(f"{'JOBS':12}{task}: {states}", 12)
    for words in _search(found.search):
        yield from _wrapped(f"{'SEARCH':12}{words}", 12)
    for session in found.blocking:
        yield from _wrapped(f"{'HELD UP':12}{_held_up(session)}", 12)
    for trouble in found.trouble:
        yield ""
        yield f"{trouble.tenant_id}: {trouble.rows} {trouble.status}, most of them because"
        yield from _wrapped(f"  {trouble.commonest_reason or 'of no known reason'}", 2)


def _search(state: "SearchState | None") -> Iterator[str]:
    """Yield what search does not find yet; where this role may not read that, what to do."""
    if state is None:
        yield "unknown: this role may not read it until `ticket-inbox roles make` was run"
    elif not state.due and not state.building:
        yield "finds all tickets"
    if state and state.due:
        lag = duration(state.oldest_due_seconds)
        yield f"does not find {state.due:,} written tickets yet, the oldest for {lag}"
    if state and (count := len(state.building)):
        names = f"{', '.join(state.building[:NAMED])}{', …' if count > NAMED else ''}"
        yield f"is being built for {count:,} tenants ({names}), and answers 503 for those that have many tickets"


def _backlog(found: "Status") -> Iterator[str]:
    """Yield a line if the oldest pending row has waited for too long: what to do."""
    if (waited := found.oldest_pending_seconds or 0) > BACKLOG:
        cure = "see what the workers log" if found.workers_alive else "no worker is alive: start `ticket-inbox worker`"
        yield f"the oldest pending row has waited for {duration(waited)}; {cure}"


def _held_up(session: "BlockingSession") -> str:
    """Say which session others wait for, and for how long; an administrator ends it by `pg_terminate_backend`."""
    waiting = "1 session waits" if session.waiting == 1 else f"{session.waiting} sessions wait"
    program = session.application_name or "a program without a name"
    since = f" for {duration(session.seconds)}" if session.seconds is not None else ""
    state = f"{session.state or 'in a state that only its own role may see'}{since}"
    return f"{waiting} for pid {session.pid}: {program}, role {session.role or 'unknown'}, {state}"


def _trace_json(found: "list[Delivery]", links: "TraceLinks", left_out: int) -> str:
    def members(delivery: "Delivery") -> dict[str, object]:
        link = links.of(delivery)
        found_here = {"trace_found": link.found, "trace_url": link.url, "trace_reason": link.words}
        return {**msgspec.structs.asdict(delivery), **found_here}

    return terminal.as_json({"deliveries": [members(delivery) for delivery in found], "left_out": left_out})


def _trace_lines(found: "list[Delivery]", links: "TraceLinks") -> Iterator[str]:
    for (tenant_id, ticket_id), group in groupby(found, key=lambda one: (one.tenant_id, one.ticket_id)):
        deliveries = list(group)
        name = "a ticket without a readable id" if ticket_id is None else f"ticket {ticket_id}"
        yield from _wrapped(f"{tenant_id}, {name}{_known_as(ticket_id, deliveries)}", 2)
        for delivery in deliveries:
            yield from _delivery_lines(delivery)
            yield from _link_lines(links.of(delivery))


def _known_as(ticket_id: str | None, deliveries: "list[Delivery]") -> str:
    """Return in words the number that people know the ticket by, where it is another than its id."""
    known = dict.fromkeys(one.display_id for one in deliveries if one.display_id not in (None, ticket_id))
    return f", display id {' and '.join(map(str, known))}" if known else ""


def _delivery_lines(delivery: "Delivery") -> Iterator[str]:
    came = CAME.get(delivery.source, delivery.source)
    head = f"  {delivery.inbox_id:<5} {_utc(delivery.received_at)}  {came}, {_fate(delivery)}"
    yield from _wrapped(head, 8)
    if delivery.attempts:
        stands = "; its values stand in ticket_history" if delivery.stands else ""
        yield f"{'':8}attempts {delivery.attempts}, last in job {delivery.job_id or 'unknown'}{stands}"
    if delivery.stands_until:
        until = f"its resolved_date, {_utc(delivery.stands_until)}, was more than a day ahead when it was received"
        yield from _wrapped(f"{'':8}{until}: no later delivery wins until then", 8)
    yield f"{'':8}correlation id {delivery.correlation_id}"
    spans = "" if delivery.is_sampled or not delivery.trace_id else " (not traced)"
    yield f"{'':8}trace id       {delivery.trace_id or 'none'}{spans}"


def _link_lines(link: "TraceLink") -> Iterator[str]:
    """Yield a link, which may be longer than 80 columns and must not be cut, or why there is none."""
    if link.words:
        yield from _wrapped(f"{'':8}{link.words}", 8)
    if link.search:
        yield f"{'':8}{link.search}"
    if link.url:
        yield f"{'':8}{link.url}{' (not checked)' if link.found == 'unknown' else ''}"


def _fate(delivery: "Delivery") -> str:
    if delivery.status == "promoted" and delivery.promoted_at:
        took = (delivery.promoted_at - delivery.received_at).total_seconds()
        return f"promoted ({delivery.action}) in {duration(took)}"
    if delivery.status == "pending":
        return f"pending for {duration((datetime.now(UTC) - delivery.received_at).total_seconds())}"
    return f"{delivery.status}: {delivery.error or 'no reason is known'}"


def _left_out_lines(left_out: int, total: int) -> Iterator[str]:
    if left_out:
        yield from _wrapped(f"{left_out:,} older deliveries are left out: `--limit {total}` shows them too", 2)


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(printable(hints.as_typed(line)), WIDTH, subsequent_indent=" " * indent)


def duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
