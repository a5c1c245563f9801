"""ticket-inbox tenant remove: how does a tenant leave, with all that is stored of it?"""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from app import hints
from app.commands import terminal
from app.commands.options import tenant_argument
from app.settings import uses

if TYPE_CHECKING:
    from collections import Counter

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.settings import Settings
    from db.tenant_rows import Stored

USED = uses.DATABASE | {"log_format"}
STATEMENT = 120.0  # seconds that one may take: counting reads the whole inbox, and a row may be locked by a job
SHOWN = {"tickets": "ticket", "deliveries": "delivery", "readers": "reader", "jobs": "job"}  # what one of them is


@click.command()
@tenant_argument
@click.option("--yes", is_flag=True, help="Do not ask for the id.")
def remove(tenant_id: str, *, yes: bool) -> None:
    """Delete a tenant and all that is stored of it, for ever: tickets, deliveries, secrets, readers' rights.

    Says how much that is, and asks for the id, typed. First the tenant is disabled; its rows go in batches, while
    servers and workers go on. If it is interrupted, run it again. Until it is done the id can't be added or enabled.
    """
    from app.commands import on_database  # noqa: PLC0415
    from db import tenant_removal  # noqa: PLC0415

    with _errors_in_one_line():
        found = on_database.run(
            lambda connection, _settings: tenant_removal.look(connection, tenant_id), STATEMENT, USED
        )
        if found.is_nothing:
            raise click.ClickException(
                f"there is no tenant {tenant_id!r}, and nothing is left of one: see `ticket-inbox tenant list`"
            )
        terminal.echo(_stored(tenant_id, found))
        if not yes:
            _ask(tenant_id)
    with _interruptions(), _errors_in_one_line():
        done = _remove(tenant_id, found)
    terminal.echo(f"Tenant {terminal.shell_word(tenant_id)} is removed: {_counts(done)}.")
    if found.readers:
        names = ", ".join(found.readers)
        terminal.echo(f"These roles read its tickets, and read none now; DROP ROLE what is of no more use: {names}")


def _remove(tenant_id: str, found: "Stored") -> "Counter[str]":
    from app.commands import on_database  # noqa: PLC0415
    from db import tenant_removal  # noqa: PLC0415

    async def act(connection: "AsyncConnection", settings: "Settings") -> "Counter[str]":
        with Progress("Rows", found.tickets + found.deliveries) as progress:
            done = await tenant_removal.remove(connection, tenant_id, progress)
        _log(settings, tenant_id, done)
        return done

    return on_database.run(act, STATEMENT, USED)


class Progress(terminal.Progress):
    """Shows how far a removal has come, and names commands as they can be typed."""

    def print_line(self, words: str) -> None:
        """Print a line in the bar's place; the next `show` draws the bar again below it."""
        super().print_line(hints.as_typed(words))


def _stored(tenant_id: str, found: "Stored") -> str:
    """Return in words what will be deleted."""
    name = terminal.shell_word(tenant_id)
    state = "" if found.has_config else " is not in the list any more, and this is left of it"
    if found.being_removed:
        state = " is being removed already, and this is left of it"
    counted = {"tickets": found.tickets, "deliveries": found.deliveries, "readers": len(found.readers)}
    more = "; and its ServiceDesk Plus account" if found.has_account else ""
    return f"Tenant {name}{state}: {_counts(counted)}{more}. All of it will be deleted, for ever."


def _counts(counted: "dict[str, int] | Counter[str]") -> str:
    shown = {name: counted.get(name, 0) for name in SHOWN if counted.get(name) or name in ("tickets", "deliveries")}
    return ", ".join(f"{count:,} {SHOWN[name] if count == 1 else name}" for name, count in shown.items())


def _ask(tenant_id: str) -> None:
    """Ask for the id, typed. Raises ClickException if it is not that, and Interrupted at Ctrl-C."""
    try:
        typed = click.prompt(
            "Type the tenant's id, as it is shown above, to go on", default="", show_default=False, err=True
        )
    except click.Abort as abort:
        terminal.echo("", err=True)  # the prompt's line has no end
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise terminal.Interrupted("nothing was changed") from None
        typed = ""
    if typed not in (tenant_id, terminal.shell_word(tenant_id)):
        raise click.ClickException("nothing was changed: what was typed is not the tenant's id (--yes does not ask)")


def _log(settings: "Settings", tenant_id: str, done: "Counter[str]") -> None:
    """Log what was deleted where standard error is collected; on a terminal the words that follow say it."""
    import logging  # noqa: PLC0415

    from otel import logs  # noqa: PLC0415

    if not sys.stderr.isatty():
        fields = {"tenant_id": tenant_id, **{name: done[name] for name in SHOWN}}
        line = logging.makeLogRecord({"levelname": "INFO", "msg": "tenant_removed", "fields": fields})
        form = logs.JsonLines() if settings.log_format == "json" else logs.Console()
        terminal.echo(form.format(line), err=True)


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Convert what a removal raises to a one-line ClickException."""
    from db.tenant_removal import RemovalError  # noqa: PLC0415

    try:
        yield
    except RemovalError as error:
        raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def _interruptions() -> Iterator[None]:
    """Say how to go on where a removal that has begun ends early. Raises ClickException, and Interrupted at Ctrl-C."""
    how = "run the same command again: it goes on from there"
    try:
        yield
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}; {how}") from None
    except KeyboardInterrupt:
        raise terminal.Interrupted(f"interrupted; {how}") from None
