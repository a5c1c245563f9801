"""ticket-inbox tenant …: who may send, and with which secret."""

import re
import secrets as random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from app import given_secret

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.tenants import Secrets

Given = TypeVar("Given")
SHORT = 16  # characters
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_GRACE = timedelta(days=365)


class Duration(click.ParamType[timedelta]):
    """A number and its unit, such as 90s, 15m, 24h or 7d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Give the duration. Fails for what is none, or longer than a year."""
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value), re.ASCII)
        duration = timedelta(seconds=int(found[1]) * UNITS[found[2]]) if found else None
        if duration is None or duration > LONGEST_GRACE:
            rule = "give a number and s, m, h or d, such as 24h"
            self.fail(f"{value!r} is no duration of at most 365d: {rule}", param, ctx)
        return duration


def _tenant_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not (1 <= len(value) <= 100 and value.isprintable() and value.strip()):  # noqa: PLR2004
        raise click.BadParameter("a tenant's id has 1 to 100 printable characters, not only spaces")
    return value


def _chosen(secret: str | None, file: BinaryIO | None) -> str:
    """Give the secret that was given, or a random one. Raises a usage error for an empty one; warns of a short one."""
    value = given_secret.given(secret, file)
    if value is None:
        return random.token_urlsafe(32)
    if not value.strip():
        raise click.UsageError("an empty secret would let anybody sign; leave --secret out to have one made")
    if len(value) < SHORT:
        click.echo(f"Warning: a secret of fewer than {SHORT} characters can be guessed.", err=True)
    return value


an_id = click.argument("tenant_id", metavar="ID", callback=_tenant_id)
a_secret = given_secret.options("The secret; without it a random one is made.")


@click.group()
def tenant() -> None:
    """Tenants and their secrets. A change is in force in every running server within 10 seconds."""


@tenant.command()
@an_id
@a_secret
def add(tenant_id: str, secret: str | None, secret_file: BinaryIO | None) -> None:
    """Add a tenant and print its secret, this once (the secret alone goes to standard output)."""
    from db import tenants  # noqa: PLC0415

    secret = _chosen(secret, secret_file)
    if not _run(lambda connection, keys: tenants.add(connection, tenant_id, keys.encrypt(secret))):
        raise click.ClickException(
            f"there is a tenant {tenant_id!r} already: `ticket-inbox tenant rotate` gives it a new secret"
        )
    _tell_secret(f"Tenant {tenant_id} is added. Its secret, which is not shown again:", secret)


@tenant.command()
@an_id
@a_secret
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the secret before it still verifies; 0s ends it at once.",
)
def rotate(tenant_id: str, secret: str | None, secret_file: BinaryIO | None, grace: timedelta) -> None:
    """Give a tenant a new secret and print it, this once (the secret alone goes to standard output)."""
    from db import tenants  # noqa: PLC0415

    secret = _chosen(secret, secret_file)
    _known(tenant_id, _run(lambda connection, keys: tenants.rotate(connection, tenant_id, keys.encrypt(secret), grace)))
    _tell_secret(f"Tenant {tenant_id} has a new secret, which is not shown again:", secret)


@tenant.command()
def reencrypt() -> None:
    """Encrypt every secret with the first key of SECRETS_KEY, so that the others can be dropped.

    First restart every server with both keys: one that lacks the first cannot read what is encrypted with it.
    Harmless while servers run, and when it is run again.
    """
    from db import tenants  # noqa: PLC0415

    done = _run(tenants.reencrypt)
    click.echo(f"{done.count} {'secret' if done.count == 1 else 'secrets'} encrypted with the first key.")
    if done.unreadable:
        raise click.ClickException(
            f"no key in SECRETS_KEY reads the secret of {', '.join(map(repr, done.unreadable))}: "
            "add the key that does, or rotate the secret with --grace 0s"
        )


@tenant.command()
@an_id
def disable(tenant_id: str) -> None:
    """Refuse a tenant's webhooks with 401; what came in before is still promoted."""
    _set_enabled(tenant_id, enabled=False)


@tenant.command()
@an_id
def enable(tenant_id: str) -> None:
    """Take a tenant's webhooks in again."""
    _set_enabled(tenant_id, enabled=True)


@tenant.command(name="list")
def list_() -> None:
    """List the tenants; times are UTC."""
    from db import tenants  # noqa: PLC0415

    rows = _run(lambda connection, _keys: tenants.read_all(connection))
    width = max([len("TENANT"), *(len(row.tenant_id) for row in rows)])
    click.echo(f"{'TENANT':{width}}  ENABLED  {'ADDED':20}  {'CHANGED':20}  OLD SECRET UNTIL")
    for row in rows:
        enabled = "yes" if row.enabled else "no"
        ends_at = row.previous_secret_ends_at or "-"
        click.echo(f"{row.tenant_id:{width}}  {enabled:7}  {row.created_at}  {row.updated_at}  {ends_at}")


def _set_enabled(tenant_id: str, *, enabled: bool) -> None:
    from db import tenants  # noqa: PLC0415

    _known(tenant_id, _run(lambda connection, _keys: tenants.set_enabled(connection, tenant_id, enabled=enabled)))
    click.echo(f"Tenant {tenant_id} is {'enabled' if enabled else 'disabled'}.")


def _known(tenant_id: str, found: bool) -> None:  # noqa: FBT001
    if not found:
        raise click.ClickException(f"there is no tenant {tenant_id!r}: see `ticket-inbox tenant list`")


def _tell_secret(words: str, secret: str) -> None:
    click.echo(words, err=True)
    click.echo(secret)


def _run(act: Callable[["AsyncConnection", "Secrets"], Awaitable[Given]]) -> Given:
    """Run `act` on a connection of its own, with the keys that encrypt secrets."""
    from app import on_database  # noqa: PLC0415
    from db import tenants  # noqa: PLC0415

    return on_database.run(lambda connection, settings: act(connection, tenants.Secrets(settings.secrets_key)))
