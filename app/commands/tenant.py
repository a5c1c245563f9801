"""ticket-inbox tenant …: which tenants may send, and with which secret?"""

import secrets as random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from app.commands import secret_option, terminal
from app.commands.options import Duration, tenant_argument
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.tenants import Secrets

Given = TypeVar("Given")
SHORT = 16  # characters


def _chosen(secret: str | None, file: BinaryIO | None) -> str:
    """Return the given secret, or a random one. Raises a usage error for an empty one; warns of a short one."""
    value = secret_option.given(secret, file)
    if value is None:
        return random.token_urlsafe(32)
    if not value.strip():
        raise click.UsageError("an empty secret would let anybody sign; leave --secret out to have one made")
    if len(value) < SHORT:
        terminal.echo(f"Warning: a secret of fewer than {SHORT} characters can be guessed.", err=True)
    return value


a_secret = secret_option.options("The secret; without it a random one is made.")


@click.group()
def tenant() -> None:
    """Tenants and their secrets. A change is in force in every running server within 10 seconds."""


@tenant.command()
@tenant_argument
@a_secret
def add(tenant_id: str, secret: str | None, secret_file: BinaryIO | None) -> None:
    """Add a tenant and print its secret, this once (the secret alone goes to standard output)."""
    from db import tenants  # noqa: PLC0415

    secret = _chosen(secret, secret_file)
    if not _run_with_keys(lambda connection, keys: tenants.add(connection, tenant_id, keys.encrypt(secret))):
        raise click.ClickException(
            f"there is a tenant {tenant_id!r} already: `ticket-inbox tenant rotate` gives it a new secret"
        )
    _print_secret(f"Tenant {tenant_id} is added. Its secret, which is not shown again:", secret)


@tenant.command()
@tenant_argument
@a_secret
@click.option(
    "--grace",
    type=Duration(days=365),
    default="24h",
    show_default=True,
    help="How long the secret before it still verifies; 0s ends it at once.",
)
def rotate(tenant_id: str, secret: str | None, secret_file: BinaryIO | None, grace: timedelta) -> None:
    """Give a tenant a new secret and print it, this once (the secret alone goes to standard output)."""
    from db import tenants  # noqa: PLC0415

    secret = _chosen(secret, secret_file)
    require_known(
        tenant_id,
        _run_with_keys(lambda connection, keys: tenants.rotate(connection, tenant_id, keys.encrypt(secret), grace)),
    )
    _print_secret(f"Tenant {tenant_id} has a new secret, which is not shown again:", secret)


@tenant.command()
def reencrypt() -> None:
    """Encrypt every secret with the first key of SECRETS_KEY, so that the others can be dropped.

    First restart every server with both keys: one that lacks the first cannot read what is encrypted with it.
    Harmless while servers run, and when it is run again.
    """
    from db import sdp, tenants  # noqa: PLC0415

    done, of_sdp = _run_with_keys(tenants.reencrypt), _run_with_keys(sdp.reencrypt)
    count = done.count + of_sdp.count
    terminal.echo(f"{count} {'secret' if count == 1 else 'secrets'} encrypted with the first key.")
    for found, what, cure in (
        (done.unreadable, "the secret", "rotate the secret with --grace 0s"),
        (of_sdp.unreadable, "the ServiceDesk Plus credentials", "set them again by `ticket-inbox tenant sdp set`"),
    ):
        if found:
            ids = ", ".join(map(repr, found))
            raise click.ClickException(f"no key in SECRETS_KEY reads {what} of {ids}: add the key that does, or {cure}")


@tenant.command()
@tenant_argument
def disable(tenant_id: str) -> None:
    """Refuse a tenant's webhooks with 401; what came in before is still promoted."""
    _set_enabled(tenant_id, enabled=False)


@tenant.command()
@tenant_argument
def enable(tenant_id: str) -> None:
    """Accept a tenant's webhooks again."""
    _set_enabled(tenant_id, enabled=True)


@tenant.command(name="list")
def list_() -> None:
    """List the tenants; times are UTC."""
    from app.commands import on_database  # noqa: PLC0415
    from db import tenant_list  # noqa: PLC0415

    rows = on_database.read(tenant_list.read_all)
    width = max([len("TENANT"), *(len(row.tenant_id) for row in rows)])
    terminal.echo(f"{'TENANT':{width}}  ENABLED  {'ADDED':20}  {'CHANGED':20}  OLD SECRET UNTIL")
    for row in rows:
        enabled = "yes" if row.enabled else "no"
        ends_at = row.previous_secret_ends_at or "-"
        terminal.echo(f"{row.tenant_id:{width}}  {enabled:7}  {row.created_at}  {row.updated_at}  {ends_at}")


def _set_enabled(tenant_id: str, *, enabled: bool) -> None:
    from app.commands import on_database  # noqa: PLC0415
    from db import tenants  # noqa: PLC0415

    require_known(
        tenant_id,
        on_database.run(lambda connection, _settings: tenants.set_enabled(connection, tenant_id, enabled=enabled)),
    )
    terminal.echo(f"Tenant {tenant_id} is {'enabled' if enabled else 'disabled'}.")


def require_known(tenant_id: str, found: bool) -> None:  # noqa: FBT001
    """Raise ClickException if there is no such tenant."""
    if not found:
        raise click.ClickException(f"there is no tenant {tenant_id!r}: see `ticket-inbox tenant list`")


def _print_secret(words: str, secret: str) -> None:
    terminal.echo(words, err=True)
    terminal.echo(secret)


def _run_with_keys(act: Callable[["AsyncConnection", "Secrets"], Awaitable[Given]]) -> Given:
    """Run `act` on a connection of its own, with the keys that encrypt secrets."""
    from app.commands import on_database  # noqa: PLC0415
    from db import tenants  # noqa: PLC0415

    return on_database.run(
        lambda connection, settings: act(connection, tenants.Secrets(settings.secrets_key)),
        used=uses.DATABASE | uses.KEY,
    )
