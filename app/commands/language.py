"""ticket-inbox tenant language: by which text search configuration are a tenant's tickets found?"""

from typing import TYPE_CHECKING

import click

from app import hints
from app.commands import terminal
from app.commands.options import tenant_argument
from app.commands.tenant import require_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from db.search_language import Configuration, Language

TIMEOUT = 60.0  # seconds; a change waits for the batch of words that a worker writes just then


@click.command()
@tenant_argument
@click.argument("configuration", metavar="[CONFIGURATION]", required=False)
def language(tenant_id: str, configuration: str | None) -> None:
    """Find a tenant's tickets in its language, such as german.

    CONFIGURATION is any text search configuration of Postgres; without it the present one is printed, which is english
    at first. A worker makes the words of all the tenant's tickets anew; until it has, the old ones answer.
    docs/similar.md says what a language changes.
    """
    from app.commands import on_database  # noqa: PLC0415

    async def act(engine: "AsyncEngine") -> "tuple[Language, int] | None":
        return await (_read(engine, tenant_id) if configuration is None else _change(engine, tenant_id, configuration))

    found = on_database.run_long(act, TIMEOUT)
    require_known(tenant_id, found is not None)
    if found is not None:
        _print(tenant_id, *found, is_change=configuration is not None)


async def _read(engine: "AsyncEngine", tenant_id: str) -> "tuple[Language, int] | None":
    """Return a tenant's language, and how many workers are alive; None if there is no such tenant."""
    from db import engine as database  # noqa: PLC0415
    from db import search_language, tenants  # noqa: PLC0415

    async with database.connection(engine) as connection:
        if not await tenants.is_known(connection, tenant_id):
            return None
        return await search_language.read(connection, tenant_id), await search_language.count_workers(connection)


async def _change(engine: "AsyncEngine", tenant_id: str, given: str) -> "tuple[Language, int] | None":
    """Give a tenant another language, and return as `_read`; None also if it is being removed."""
    from db import engine as database  # noqa: PLC0415
    from db import search_language  # noqa: PLC0415

    async with database.connection(engine) as connection:
        chosen = _chosen(given, await search_language.read_configurations(connection))
        await search_language.require_usable(connection, chosen.quoted)
    async with database.transaction(engine) as connection:
        if not await search_language.choose(connection, tenant_id, chosen.quoted):
            return None
    return await _read(engine, tenant_id)


def _chosen(given: str, found: "Sequence[Configuration]") -> "Configuration":
    """Return the configuration of that name. Raises ClickException if there is none, or more than one."""
    for wanted in (given, given.lower()):
        named = [one for one in found if wanted in (one.name, one.quoted, f"{one.schema}.{one.name}")]
        if len(named) == 1 or (named and named[0].schema == "pg_catalog"):
            return named[0]
        if named:
            raise click.ClickException(f"several have this name: give one of {', '.join(one.shown for one in named)}")
    names = ", ".join(one.shown for one in found)
    raise click.ClickException(f"this Postgres has no text search configuration {given!r}, only {names}")


def _print(tenant_id: str, found: "Language", workers: int, *, is_change: bool) -> None:
    """Print the configuration that answers, and on standard error what is to come."""
    tenant, present, coming = terminal.shell_word(tenant_id), _shown(found.present), _shown(found.coming)
    if not is_change:
        terminal.echo(present or coming)
    elif not coming:
        terminal.echo(f"The tickets of tenant {tenant} are found by {present}.")
    if found.is_gone:
        words = f"Warning: Postgres has no text search configuration {present or coming} any more: choose another one"
        terminal.echo(words, err=True)
    if not coming:
        return
    of = f" of about {found.tickets:,}" if found.present else ""
    until = f"until then {present} answers" if present else "until then only a tenant with few tickets gets answers"
    terminal.echo(
        f"A worker makes the words for {coming}: {found.done:,}{of} tickets so far; {until}.", err=not is_change
    )
    if is_change:
        terminal.echo(hints.as_typed(f"`ticket-inbox tenant language {tenant}` shows how far it is."))
    if not workers:
        terminal.echo(hints.as_typed("Warning: no worker is alive: start `ticket-inbox worker`"), err=True)


def _shown(quoted: str | None) -> str:
    return (quoted or "").removeprefix("pg_catalog.")
