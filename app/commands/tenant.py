"""ticket-inbox tenant …: which tenants may send, and with which secret?"""

import secrets as random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import click

from app.commands import secret_option, terminal
from app.commands.options import Duration, new_tenant_argument, tenant_argument
from app.commands.tenant_remove import remove
from app.settings import uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.tenant_list import TenantRow
    from db.tenants import Secrets

Given = TypeVar("Given")
SHORT = 16  # characters


class Secret(NamedTuple):
    """A tenant's secret, and whether it is kept in a file of the operator's, so that nobody need see it."""

    text: str
    is_in_file: bool


def _chosen(secret: str | None, file: BinaryIO | None) -> Secret:
    """Return the given secret, or a random one. Raises a usage error for an empty one; warns of a short one."""
    value = secret_option.given(secret, file)
    if value is None:
        return Secret(random.token_urlsafe(32), is_in_file=False)
    if not value.strip():
        raise click.UsageError("an empty secret would let anybody sign; leave --secret out to have one made")
    if len(value) < SHORT:
        terminal.echo(f"Warning: a secret of fewer than {SHORT} characters can be guessed.", err=True)
    return Secret(value, is_in_file=secret is None)


a_secret = secret_option.options("The secret; without it a random one is made.")


@click.group()
def tenant() -> None:
    """Tenants and their secrets. A change is in force in every running server within 10 seconds."""


tenant.add_command(remove)


@tenant.command()
@new_tenant_argument
@a_secret
def add(tenant_id: str, secret: str | None, secret_file: BinaryIO | None) -> None:
    """Add a tenant, and print its secret unless a file has it, this once (it alone goes to standard output).

    The id has 1 to 100 of the characters A-Z a-z 0-9 . _ -
    """
    from db import tenant_rows, tenants  # noqa: PLC0415

    chosen = _chosen(secret, secret_file)

    async def act(connection: "AsyncConnection", keys: "Secrets") -> bool:
        if readers := await tenant_rows.readers_left(connection, tenant_id):
            raise click.ClickException(
                f"an earlier tenant {tenant_id!r} left readers, who would read this one's tickets too "
                f"({', '.join(readers)}): run `ticket-inbox tenant remove {tenant_id}` first"
            )
        return await tenants.add(connection, tenant_id, keys.encrypt(chosen.text))

    if not _run_with_keys(act):
        refuse_while_removed(tenant_id)
        raise click.ClickException(
            f"there is a tenant {tenant_id!r} already: `ticket-inbox tenant rotate` gives it a new secret"
        )
    _print_secret(f"Tenant {tenant_id} is added", chosen)


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
    """Give a tenant a new secret, and print it unless a file has it, this once (it alone goes to standard output)."""
    from db import tenants  # noqa: PLC0415

    chosen = _chosen(secret, secret_file)
    require_known(
        tenant_id,
        _run_with_keys(
            lambda connection, keys: tenants.rotate(connection, tenant_id, keys.encrypt(chosen.text), grace)
        ),
    )
    _print_secret(f"Tenant {terminal.shell_word(tenant_id)} has a new secret", chosen)


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
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for scripts.")
def list_(*, as_json: bool) -> None:
    r"""List the tenants; times are UTC.

    An id of other characters than A-Z a-z 0-9 . _ - is shown as it can be typed in a shell, such as 'a b' or, in bash
    and zsh, $'\u0430cme'; put -- before one that begins with -.
    """
    from app.commands import on_database  # noqa: PLC0415
    from db import tenant_list  # noqa: PLC0415

    rows = on_database.read(tenant_list.read_all)
    terminal.echo(*([terminal.as_json(rows)] if as_json else _lines(rows)))


def _lines(rows: "Sequence[TenantRow]") -> Iterator[str]:
    ids = [terminal.shell_word(row.tenant_id) for row in rows]
    width = max(map(len, ["TENANT", *ids]))
    yield f"{'TENANT':{width}}  ENABLED  {'ADDED':20}  {'CHANGED':20}  OLD SECRET UNTIL"
    for tenant_id, row in zip(ids, rows, strict=True):
        enabled = "yes" if row.enabled else "no"
        times = f"{row.created_at or '-':20}  {row.updated_at or '-':20}"
        ends_at = "(being removed)" if row.being_removed else row.previous_secret_ends_at or "-"
        yield f"{tenant_id:{width}}  {enabled:7}  {times}  {ends_at}"


def _set_enabled(tenant_id: str, *, enabled: bool) -> None:
    from app.commands import on_database  # noqa: PLC0415
    from db import tenants  # noqa: PLC0415

    require_known(
        tenant_id,
        on_database.run(lambda connection, _settings: tenants.set_enabled(connection, tenant_id, enabled=enabled)),
    )
    terminal.echo(f"Tenant {terminal.shell_word(tenant_id)} is {'enabled' if enabled else 'disabled'}.")


def require_known(tenant_id: str, found: bool) -> None:  # noqa: FBT001
    """Raise ClickException if there is no such tenant, or if it is being removed and so was not `found`."""
    if not found:
        refuse_while_removed(tenant_id)
        raise click.ClickException(f"there is no tenant {tenant_id!r}: see `ticket-inbox tenant list`")


def refuse_while_removed(tenant_id: str) -> None:
    """Raise ClickException if the tenant is being removed."""
    from app.commands import on_database  # noqa: PLC0415
    from db import being_removed  # noqa: PLC0415

    if on_database.run(lambda connection, _settings: being_removed.has(connection, tenant_id)):
        how = f"run `ticket-inbox tenant remove {terminal.shell_word(tenant_id)}`, and wait for its end"
        raise click.ClickException(f"tenant {tenant_id!r} is being removed, and that is not done: {how}")


def _print_secret(words: str, secret: Secret) -> None:
    """Print `words`, and the secret alone to standard output, unless a file has it."""
    terminal.echo(f"{words}." if secret.is_in_file else f"{words}. Its secret, which is not shown again:", err=True)
    if not secret.is_in_file:
        terminal.echo(secret.text)


def _run_with_keys(act: Callable[["AsyncConnection", "Secrets"], Awaitable[Given]]) -> Given:
    """Run `act` on a connection of its own, with the keys that encrypt secrets."""
    from app.commands import on_database  # noqa: PLC0415
    from db import tenants  # noqa: PLC0415

    return on_database.run(
        lambda connection, settings: act(connection, tenants.Secrets(settings.secrets_key)),
        used=uses.DATABASE | uses.KEY,
    )
