"""ticket-inbox import: how are tickets imported that were resolved before the first webhook?"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from io import BufferedReader
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import click

from app import settings as environment
from app.commands import reconcile, terminal
from app.commands.import_preview import Preview
from app.commands.import_progress import Progress, counts_of
from app.commands.options import CENTURY, Duration
from app.commands.progress import Ticker
from app.commands.report_options import ColumnOf, DateFormat, Zone, wanted_of
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.event.rules import Rules
    from app.importing.append import ImportedFile, Tally
    from app.importing.sources import Source
    from app.importing.terms import Wanted
    from app.settings import Settings
    from db.inbox import Delivery

STATEMENT = 60.0  # seconds that one may take: Postgres may be busy, and no sender waits for an answer


@click.command(name="import")
@click.option("--tenant", "tenant_id", metavar="ID", required=True, help="The tenant that the tickets belong to.")
@click.option("--file", type=click.File("rb"), help="JSON lines, CSV or XLSX; `-` reads standard input.")
@click.option(
    "--since",
    type=Duration(days=CENTURY),
    help="Instead of a file: how far back to import from ServiceDesk Plus, by last update, such as 2y.",
)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv", "xlsx"]), help="Unless the file's name says it.")
@click.option(
    "--map",
    "columns",
    metavar="COLUMN=MEMBER",
    multiple=True,
    type=ColumnOf(),
    help="Of a report: what a column holds, unless its name says it. May be repeated.",
)
@click.option(
    "--date-format",
    "date_formats",
    metavar="FORMAT",
    multiple=True,
    type=DateFormat(),
    help="Of a report: how its dates are written, such as '%d-%m-%Y %H:%M'. May be repeated.",
)
@click.option(
    "--time-zone",
    "zone",
    metavar="ZONE",
    type=Zone(),
    help="Of a report: the zone of dates that have none, such as Europe/Berlin.",
)
@click.option(
    "--max-errors", metavar="N", type=click.IntRange(min=0), help="Stop when more than N lines are bad, not at the end."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only report bad lines, and a report's columns and first tickets; asks no database.",
)
@click.option("--again", is_flag=True, help="Append every line, also those of this file that the inbox has already.")
@click.option(
    "--no-wait", is_flag=True, help="Do not wait when promotion falls behind, nor for another import of this file."
)
def import_(  # noqa: PLR0913  (one for each option)
    *,
    tenant_id: str,
    file: BufferedReader | None,
    since: timedelta | None,
    form: str | None,
    columns: tuple[tuple[str, str], ...],
    date_formats: tuple[str, ...],
    zone: ZoneInfo | None,
    max_errors: int | None,
    dry_run: bool,
    again: bool,
    no_wait: bool,
) -> None:
    """Import tickets from a file, or from ServiceDesk Plus' API, through the inbox; webhooks go first.

    A bad line is reported and skipped, and makes the command exit 1. If it is interrupted, run the same command again:
    it appends what is not there. One import of a file runs at a time. docs/bulk-import.md shows the formats, and
    docs/import-a-report.md how ServiceDesk Plus' own report is imported.
    """
    if since is not None:
        if any((file, form, columns, date_formats, zone, max_errors is not None, dry_run, again, no_wait)):
            raise click.UsageError("--since takes no other option but --tenant")
        reconcile.import_since(tenant_id, since)
        return
    if file is None:
        raise click.UsageError("give --file, or --since")
    given = Given(tenant_id, file, _form_of(file, form), wanted_of(columns, date_formats, zone))
    if given.form == "jsonl" and given.wanted.is_any:
        raise click.UsageError("--map, --date-format and --time-zone are for reports in CSV or XLSX")
    _import(given, max_errors, Ways(dry_run=dry_run, again=again, waits=not no_wait))


class Given(NamedTuple):
    """The file that is given, its form, and what the options say of it."""

    tenant_id: str
    file: BufferedReader
    form: str
    wanted: "Wanted"


class Ways(NamedTuple):
    """In which way it is imported."""

    dry_run: bool
    again: bool
    waits: bool


def _form_of(file: BufferedReader, form: str | None) -> str:
    from app.importing import ticket_file  # noqa: PLC0415

    if not (form := form or ticket_file.format_of(file.name)):
        raise click.UsageError("the file's name does not end in .jsonl, .ndjson, .csv or .xlsx: give --format")
    return form


def _import(given: Given, max_errors: int | None, ways: Ways) -> None:
    from app.event.rules import Rules  # noqa: PLC0415
    from app.importing import append, sources, ticket_file  # noqa: PLC0415
    from app.importing.terms import Terms  # noqa: PLC0415

    used = uses.EVENTS | {"max_body_bytes"} | (frozenset() if ways.dry_run else uses.DATABASE)
    settings = environment.load_or_exit(used)
    tally, remarks = append.Tally(most_skipped=max_errors), Counter[str]()
    rules = Rules.of(settings)
    terms = Terms(given.tenant_id, settings.max_body_bytes, rules, given.wanted, lambda words: remarks.update([words]))
    with _errors_in_one_line(tally), contextlib.ExitStack() as stack:
        if not ways.dry_run:
            _require_tenant(given.tenant_id)
        where = append.imported_file(given.tenant_id, None if ways.dry_run else ticket_file.fingerprint(given.file))
        with Ticker(lambda: "the file is read once as a whole, before its first line is imported"):
            source = sources.open_(stack, given.file, given.form, terms)
        terminal.echo(*source.mapping, err=not ways.dry_run)
        with Progress(given.file, source, tally, "good" if ways.dry_run else "appended") as progress:
            batches = append.batches(source.lines(), where, tally, rules, progress.report_bad_line)
            if ways.dry_run:
                _preview(source, progress, batches, rules)
            else:
                _append(where, source, progress, batches, ways)
    terminal.echo(*(f"{count:,} {words}" for words, count in remarks.items()), err=True)
    _conclude(tally, dry_run=ways.dry_run)


def _require_tenant(tenant_id: str) -> None:
    """Raise UnknownTenantError before a long file is read for nothing."""
    from app.commands import on_database  # noqa: PLC0415
    from app.importing import append  # noqa: PLC0415

    on_database.run(lambda connection, _settings: append.require_tenant(connection, tenant_id), STATEMENT)


def _preview(source: "Source", progress: Progress, batches: "Iterator[list[Delivery]]", rules: "Rules") -> None:
    """Count the good lines, and print the first tickets of a report."""
    preview = Preview()
    progress.tally.appended = sum(len(batch) for batch in progress.shown(preview.seen(batches)))
    if source.mapping:
        terminal.echo(*preview.lines(rules))


def _append(
    where: "ImportedFile", source: "Source", progress: Progress, batches: "Iterator[list[Delivery]]", ways: Ways
) -> None:
    from app.commands import named_tickets, on_database  # noqa: PLC0415
    from app.importing import append  # noqa: PLC0415

    on_held, on_stuck = (progress.report_held, progress.report_stuck) if ways.waits else (None, None)

    async def act(connection: "AsyncConnection", settings: "Settings") -> None:
        ask = named_tickets.asker(connection, where.tenant_id, progress.print_line)
        await source.look_up(connection, ask)  # before the lease, which is not renewed while a file is read
        async with append.turn(settings.database_url, connection, where, on_held) as lease:
            is_known = await append.is_known(connection, where) and not ways.again
            if is_known:
                progress.print_line("the inbox has lines of this file: they are passed over (unless --again)")
            await append.append(connection, progress.shown(batches), progress.tally, on_stuck, lease, is_known=is_known)

    on_database.run(act, STATEMENT)


@contextlib.contextmanager
def _errors_in_one_line(tally: "Tally") -> Iterator[None]:
    """Convert what ends an import early to a one-line ClickException, which says how to go on."""
    from app.importing import append, ticket_file  # noqa: PLC0415
    from app.importing.survey import OptionNeededError  # noqa: PLC0415
    from db.leases import HeldError, LostError  # noqa: PLC0415

    how = "run the same command again, and it appends what is not there"
    try:
        yield
    except OptionNeededError as error:
        raise click.UsageError(str(error)) from None
    except ticket_file.FileError as error:
        appended = f"; {tally.appended:,} lines before were appended" if tally.appended else ""
        raise click.ClickException(f"{error}{appended}") from None
    except append.UnknownTenantError:
        raise click.ClickException("there is no such tenant: see `ticket-inbox tenant list`") from None
    except HeldError as held:
        raise click.ClickException(
            f"another import of this file is under way, by {held}: wait for its end, and run this again"
        ) from None
    except LostError as lost:
        raise click.ClickException(f"{lost}; {tally.appended:,} lines were appended: {how}") from None
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}; {tally.appended:,} lines were appended: {how}") from None
    except (KeyboardInterrupt, append.InterruptedImportError):
        raise terminal.Interrupted(f"interrupted; {tally.appended:,} lines were appended: {how}") from None


def _conclude(tally: "Tally", *, dry_run: bool) -> None:
    """Print the counts. Raises ClickException if a line was skipped."""
    terminal.echo(counts_of(tally, "good" if dry_run else "appended"))
    if tally.is_stopped:
        raise click.ClickException(f"stopped: more than {tally.most_skipped:,} lines are bad (--max-errors)")
    if tally.skipped:
        raise click.ClickException("bad lines were skipped: mend them, and import them again, or the whole file")
