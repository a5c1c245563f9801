"""ticket-inbox tenant sdp …, ticket-inbox reconcile: which resolved tickets does ServiceDesk Plus itself have?"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

import click

from app import hints
from app import settings as environment
from app.commands import terminal
from app.commands.options import CENTURY, Duration, checked_tenant_id, tenant_argument
from app.commands.progress import Ticker
from app.commands.tenant import require_known
from app.settings import uses

if TYPE_CHECKING:
    from app.sdp.account import Account
    from app.sdp.summary import Summary
    from app.settings import Settings
    from db.sdp import Config, Cursor

VARIABLE = "TICKET_INBOX_SDP_CREDENTIALS"
EDITIONS = ("cloud", "on_premises")  # those of db/sdp.py, which --help has no time to import
WORDS = {
    "seen": "resolved tickets seen",
    "already_there": "were there already",
    "appended": "appended to the inbox",
    "rejected": "appended as rejected: they break a rule, see `ticket-inbox status`",
    "gone": "deleted, or opened again, meanwhile",
    "failed": "could not be fetched",
}


@click.group()
def sdp() -> None:
    """Where a tenant's ServiceDesk Plus is, so that it can be asked for tickets that no webhook brought."""


@sdp.command(name="set")
@tenant_argument
@click.option("--edition", type=click.Choice(EDITIONS), required=True, help="Which ServiceDesk Plus it is.")
@click.option(
    "--url",
    required=True,
    help="https://sdp.example.com:8080 on premises, https://sdpondemand.manageengine.com/app/PORTAL in the Cloud.",
)
@click.option(
    "--credentials-file",
    type=click.File("rb"),
    help=f"JSON, `-` for standard input; or {VARIABLE} in the environment holds it. On premises {{token}}, in the "
    "Cloud {client_id, client_secret, refresh_token}, and accounts_url where it is not https://accounts.zoho.com.",
)
@click.option("--credentials", envvar=VARIABLE, hidden=True)
@click.option("--check/--no-check", default=True, show_default=True, help="Ask for one ticket before it is stored.")
def set_(
    *,
    tenant_id: str,
    edition: str,
    url: str,
    credentials_file: BinaryIO | None,
    credentials: str | None,
    check: bool,
) -> None:
    """Set where a tenant's ServiceDesk Plus is, and the credentials to ask it with. They are stored encrypted."""
    from app.commands import on_database  # noqa: PLC0415
    from app.sdp import account as accounts  # noqa: PLC0415
    from db import sdp as configs  # noqa: PLC0415
    from db.tenants import Secrets  # noqa: PLC0415

    used = uses.DATABASE | uses.KEY | (uses.SDP_CLIENT if check else frozenset())
    settings = environment.load_or_exit(used)
    try:
        account = accounts.read(edition, url, _given(credentials_file, credentials))
    except accounts.WrongAccountError as wrong:
        raise click.UsageError(str(wrong)) from None
    if account.base_url.startswith("http:"):
        terminal.echo(
            "Warning: without https, the network in between can read the credentials and the tickets.", err=True
        )
    if check:
        _check(account, settings)
    encrypted = Secrets(settings.secrets_key).encrypt(accounts.kept(account))
    require_known(
        tenant_id,
        on_database.run(
            lambda connection, _settings: configs.put(connection, tenant_id, edition, account.base_url, encrypted)
        ),
    )
    answered = ", which answered" if check else ""
    terminal.echo(f"Tenant {terminal.shell_word(tenant_id)} has its ServiceDesk Plus at {account.base_url}{answered}.")


@sdp.command()
@tenant_argument
def show(tenant_id: str) -> None:
    """Show where a tenant's ServiceDesk Plus is, how far each run has come, and what is wrong with which ticket.

    Times are UTC.
    """
    from app.commands import on_database  # noqa: PLC0415
    from db import sdp as configs  # noqa: PLC0415

    config = on_database.run(lambda connection, _settings: configs.read(connection, tenant_id))
    if config is None:
        raise _unknown(tenant_id)
    cursors = on_database.run(lambda connection, _settings: configs.cursors(connection, tenant_id))
    terminal.echo(*_config_lines(config), *(line for cursor in cursors for line in _cursor_lines(cursor)))


@sdp.command()
@tenant_argument
def clear(tenant_id: str) -> None:
    """Forget where a tenant's ServiceDesk Plus is, its credentials, and how far each run has come."""
    from app.commands import on_database  # noqa: PLC0415
    from db import sdp as configs  # noqa: PLC0415

    if not on_database.run(lambda connection, _settings: configs.clear(connection, tenant_id)):
        raise _unknown(tenant_id)
    terminal.echo(f"The ServiceDesk Plus of tenant {terminal.shell_word(tenant_id)} is forgotten.")


@click.command()
@click.option(
    "--tenant", "tenant_id", metavar="ID", required=True, callback=checked_tenant_id, help="The tenant to reconcile."
)
@click.option(
    "--since",
    type=Duration(days=CENTURY),
    help="How far back to look by the time of the last update, such as 2d; the cursor stays where it is. "
    "Without it, go on where the last run ended.",
)
@click.option("--dry-run", is_flag=True, help="Only ask: append nothing, and leave the cursor where it is.")
def reconcile(tenant_id: str, since: timedelta | None, *, dry_run: bool) -> None:
    """Append the resolved tickets that ServiceDesk Plus has and ticket_history lacks or has older.

    Workers do so every five minutes. Exits 1 when it stops early.
    """
    settings = environment.load_or_exit(uses.RECONCILE)
    import asyncio  # noqa: PLC0415  (slows down --help, as everything here)

    from app.sdp import reconcile as runs  # noqa: PLC0415

    begin = datetime.now(UTC) - since if since is not None else None
    with _errors_in_one_line(), progress() as on_progress:
        summary = asyncio.run(runs.reconcile(settings, tenant_id, since=begin, is_dry=dry_run, on_progress=on_progress))
    print_summary(summary, is_dry=dry_run)


def import_since(tenant_id: str, since: timedelta) -> None:
    """Append the tickets updated in ServiceDesk Plus within the time `since`, and print how many had which outcome."""
    settings = environment.load_or_exit(uses.RECONCILE)
    import asyncio  # noqa: PLC0415

    from app.sdp import reconcile as runs  # noqa: PLC0415

    with _errors_in_one_line(), progress() as on_progress:
        begin = datetime.now(UTC) - since
        summary = asyncio.run(runs.import_since(settings, tenant_id, begin, on_progress=on_progress))
    print_summary(summary)


def print_summary(summary: "Summary", *, is_dry: bool = False) -> None:
    """Print how many tickets of a run had which outcome. Raises ClickException if the run stopped early."""
    for name, count in summary.counts().items():
        words = WORDS[name].replace("appended", "would be appended") if is_dry else WORDS[name]
        terminal.echo(f"{count:>8}  {hints.as_typed(words)}")
    if summary.error:
        raise click.ClickException(f"{summary.error}. Run it again: it goes on from there")


@contextlib.contextmanager
def progress() -> Iterator[Callable[["Summary"], None]]:
    """Show on standard error how far a run has come: by a bar on a terminal, else by a line every ten seconds.

    Yields the callback that takes its summaries.
    """
    shown: list[Summary] = []  # the last one, to which the run adds
    is_drawn = sys.stderr.isatty()
    ticker = contextlib.nullcontext() if is_drawn else Ticker(lambda: _so_far(shown))
    with ticker, click.progressbar(length=0, label="Tickets", file=sys.stderr, hidden=not is_drawn) as bar:

        def on_progress(summary: "Summary") -> None:
            shown[:] = [summary]
            bar.length = max(summary.total, summary.listed)
            bar.update(summary.listed - bar.pos)

        yield on_progress


def _so_far(shown: "Sequence[Summary]") -> str:
    if not shown:
        return "waiting for ServiceDesk Plus"
    listed = f"{shown[0].listed:,}" + (f" of {shown[0].total:,}" if shown[0].total else "")
    return f"{listed} tickets listed, {shown[0].appended:,} appended to the inbox"


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Convert known errors to a one-line ClickException."""
    from app.commands.on_database import errors_in_one_line  # noqa: PLC0415
    from app.sdp.reconcile import NotReconciledError  # noqa: PLC0415

    with errors_in_one_line():
        try:
            yield
        except NotReconciledError as error:
            raise click.ClickException(str(error)) from None


def _given(file: BinaryIO | None, text: str | None) -> bytes:
    """Return the credentials, from a file or the environment. Raises a usage error if there are none."""
    given = file.read() if file else (text or "").encode(errors="replace")
    if not given.strip():
        raise click.UsageError(f"give the credentials: by --credentials-file, or as {VARIABLE} in the environment")
    return given


def _check(account: "Account", settings: "Settings") -> None:
    import asyncio  # noqa: PLC0415

    from app.sdp.client import Client  # noqa: PLC0415
    from app.sdp.errors import SdpError  # noqa: PLC0415

    async def ask() -> None:
        async with Client(account, settings.sdp_requests_per_minute) as client:
            await client.check()

    try:
        asyncio.run(ask())
    except SdpError as error:
        raise click.ClickException(f"{error}. Nothing was changed; --no-check stores it unchecked") from None


def _unknown(tenant_id: str) -> click.ClickException:
    return click.ClickException(f"no ServiceDesk Plus is known of tenant {tenant_id!r}: `ticket-inbox tenant sdp set`")


def _config_lines(config: "Config") -> Iterator[str]:
    yield from (f"edition      {config.edition}", f"url          {config.base_url}", "credentials  kept, never shown")
    yield f"since        {config.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _cursor_lines(cursor: "Cursor") -> Iterator[str]:
    reached, ran = (f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for moment in (cursor.position, cursor.updated_at))
    yield f"{cursor.source:13}has come to {reached}, last ran {ran}" + (f": {cursor.error}" if cursor.error else "")
    for ticket_id in {**dict.fromkeys(cursor.failing), **cursor.reasons}:
        yield f"{'':13}ticket {ticket_id}: {cursor.reasons.get(ticket_id, 'cannot be fetched')}"
