"""ticket-inbox tenant sdp …: where is a tenant's ServiceDesk Plus, and how far have runs come through its tickets?"""

from collections.abc import Iterator
from datetime import UTC
from typing import TYPE_CHECKING, BinaryIO

import click

from app import settings as environment
from app.commands import terminal
from app.commands.options import tenant_argument
from app.commands.tenant import require_known
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.sdp.account import Account
    from app.settings import Settings
    from db.sdp import Config, Cursor

VARIABLE = "TICKET_INBOX_SDP_CREDENTIALS"
EDITIONS = ("cloud", "on_premises")  # those of db/sdp.py, which --help has no time to import


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
@click.option("--check/--no-check", default=True, show_default=True, help="Ask for tickets before it is stored.")
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
    from db import sdp_access as access  # noqa: PLC0415
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
        account = _at_its_address(account, settings)
    encrypted = Secrets(settings.secrets_key).encrypt(accounts.kept(account))

    async def put(connection: "AsyncConnection", _settings: "Settings") -> bool:
        await access.forget(connection, tenant_id)
        return await configs.put(connection, tenant_id, edition, account.base_url, encrypted)

    require_known(tenant_id, on_database.run(put))
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


def _given(file: BinaryIO | None, text: str | None) -> bytes:
    """Return the credentials, from a file or the environment. Raises a usage error if there are none."""
    given = file.read() if file else (text or "").encode(errors="replace")
    if not given.strip():
        raise click.UsageError(f"give the credentials: by --credentials-file, or as {VARIABLE} in the environment")
    return given


def _at_its_address(account: "Account", settings: "Settings") -> "Account":
    """Return the account at the address that answers, and print which does not. Raises ClickException if none does."""
    import asyncio  # noqa: PLC0415

    from app.sdp import address  # noqa: PLC0415
    from app.sdp.errors import SdpError  # noqa: PLC0415

    try:
        found = asyncio.run(address.find(account, settings.sdp_requests_per_minute))
    except SdpError as error:
        words = str(error) if str(error).endswith("?") else f"{error}."
        raise click.ClickException(f"{words} Nothing was changed; --no-check stores it unchecked") from None
    for silent in found.silent:
        terminal.echo(f"Its API is not at {silent}, but at {found.account.base_url}.")
    return found.account


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
