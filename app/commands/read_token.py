"""ticket-inbox tenant token …: who may ask for a tenant's similar tickets?"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app.commands import terminal
from app.commands.options import tenant_argument
from app.commands.tenant import refuse_while_removed, require_known

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.settings import Settings
    from db.read_tokens import TokenRow

LONGEST = 100  # characters of a token's name


def checked_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a new token. Raises a usage error for other characters than an id's."""
    if value is not None and not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}", value):
        raise click.BadParameter(f"a token's name has 1 to {LONGEST} of the characters A-Z a-z 0-9 . _ -")
    return value


@click.group()
def token() -> None:
    """Read tokens, by which programs ask for a tenant's similar tickets over HTTP.

    A change is in force in every running server within 10 seconds.
    """


@token.command()
@tenant_argument
@click.option("--name", callback=checked_name, help="By which it is revoked; without it token-1, token-2 and so on.")
def add(tenant_id: str, name: str | None) -> None:
    """Make a token that shows a tenant's tickets, and print it, this once (it alone goes to standard output)."""
    from app.commands import on_database  # noqa: PLC0415
    from app.search import read_token  # noqa: PLC0415
    from db import read_tokens, tenants  # noqa: PLC0415

    made = read_token.make()

    async def act(connection: "AsyncConnection", _settings: "Settings") -> tuple[bool, str | None]:
        chosen = name or await read_tokens.next_name(connection, tenant_id)
        added = await read_tokens.add(connection, tenant_id, chosen, read_token.hashed(made.encode()))
        return added or await tenants.is_known(connection, tenant_id), chosen if added else None

    is_known, added = on_database.run(act)
    require_known(tenant_id, is_known)
    if added is None:
        refuse_while_removed(tenant_id)
        raise click.ClickException(_why_not_added(tenant_id, name))
    word = terminal.shell_word(tenant_id)
    terminal.echo(f"Tenant {word} has a new token {added}, which is not shown again:", err=True)
    terminal.echo(made)


@token.command(name="list")
@tenant_argument
@click.option("--all", "with_revoked", is_flag=True, help="Revoked ones too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for scripts.")
def list_(tenant_id: str, *, with_revoked: bool, as_json: bool) -> None:
    """List a tenant's tokens by name, and when each was made and last used; times are UTC.

    A server notes a use within 10 seconds.
    """
    from app.commands import on_database  # noqa: PLC0415
    from db import read_tokens, tenants  # noqa: PLC0415

    async def act(connection: "AsyncConnection", _settings: "Settings") -> "tuple[bool, Sequence[TokenRow]]":
        found = await read_tokens.read_all(connection, tenant_id, with_revoked=with_revoked)
        return bool(found) or await tenants.is_known(connection, tenant_id), found

    is_known, found = on_database.run(act)
    require_known(tenant_id, is_known)
    terminal.echo(*([terminal.as_json(found)] if as_json else _lines(found, with_revoked=with_revoked)))


@token.command()
@tenant_argument
@click.argument("name", metavar="NAME")
def revoke(tenant_id: str, name: str) -> None:
    """Refuse a token from now on; its name is free again."""
    from app.commands import on_database  # noqa: PLC0415
    from db import read_tokens, tenants  # noqa: PLC0415

    async def act(connection: "AsyncConnection", _settings: "Settings") -> tuple[bool, bool]:
        revoked = await read_tokens.revoke(connection, tenant_id, name)
        return revoked or await tenants.is_known(connection, tenant_id), revoked

    is_known, revoked = on_database.run(act)
    require_known(tenant_id, is_known)
    if not revoked:
        raise click.ClickException(
            f"tenant {tenant_id!r} has no token {name!r} in force: see `ticket-inbox tenant token list`"
        )
    terminal.echo(f"Token {name} of tenant {terminal.shell_word(tenant_id)} is revoked.")


def _why_not_added(tenant_id: str, name: str | None) -> str:
    """Return why a known tenant has no new token."""
    if name is None:
        return "another token was made at the same moment: try again"
    return (
        f"tenant {tenant_id!r} has a token {name!r} already: give another --name, "
        "or revoke it by `ticket-inbox tenant token revoke`"
    )


def _lines(found: "Sequence[TokenRow]", *, with_revoked: bool) -> Iterator[str]:
    width = max(map(len, ["NAME", *(one.name for one in found)]))
    yield f"{'NAME':{width}}  {'MADE':20}  {'LAST USED':20}{'  REVOKED' if with_revoked else ''}".rstrip()
    for one in found:
        revoked = f"  {_utc(one.revoked_at)}" if with_revoked else ""
        yield f"{one.name:{width}}  {_utc(one.made_at):20}  {_utc(one.last_used_at):20}{revoked}".rstrip()


def _utc(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else "-"
