"""ticket-inbox roles …: which role may do what in Postgres?"""

import contextlib
import re
from collections.abc import Iterator

import click

from app import hints
from app import settings as environment
from app.commands import terminal
from app.commands.tenant import refuse_while_removed
from app.settings import uses

MAY = {
    "app": "appends to the inbox, reads tenants: for `serve`",
    "worker": "promotes, sweeps, prunes: for `worker`",
    "reader": "reads ticket_history, of the tenant that `roles reader` says",
    "operator": "reads what `status`, `trace` and `doctor` show, reprocesses; sees no ticket's text",
}


def _prefix(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", value, re.ASCII):
        raise click.BadParameter("give at most 50 small letters, digits and underscores, a letter first")
    return value


a_prefix = click.option(
    "--prefix",
    default="ticket_inbox",
    show_default=True,
    callback=_prefix,
    help="How the roles' names begin. Roles belong to all of a Postgres' databases: give each installation its own.",
)


@click.group()
def roles() -> None:
    """Postgres roles: each process or person may do its work, a reader may see one tenant, and nothing else.

    Log in (DATABASE_URL) as the role that owns the tables, which is the one that migrates.
    """


@roles.command()
@a_prefix
def make(prefix: str) -> None:
    """Make the roles, or bring their rights to what this version needs; run it after each `migrate`.

    Any other right that these roles have on the tables is revoked.
    """
    settings = environment.load_or_exit(uses.DATABASE)
    with _errors_in_one_line():
        from db import roles as database_roles  # noqa: PLC0415

        made = database_roles.make(settings.database_url, prefix)
    width = max(map(len, made.names.values()))
    for kind, name in made.names.items():
        terminal.echo(f"{name:{width}}  {'made' if name in made.new else 'kept'}: {MAY[kind]}")
    for warning in made.warnings:
        terminal.echo(hints.as_typed(f"Warning: {warning}"), err=True)
    terminal.echo("", "These roles cannot log in. Next, make roles that can, with passwords of your own:", "")
    for kind in [kind for kind in ("app", "worker", "operator") if kind in made.names]:
        terminal.echo(f"  CREATE ROLE {made.names[kind]}_login LOGIN PASSWORD '…' IN ROLE {made.names[kind]};")
        if made.namespace:  # a role looks in `public` alone, and does not inherit where its group looks
            terminal.echo(f"  ALTER ROLE {made.names[kind]}_login SET search_path = {made.namespace};")


@roles.command()
@click.argument("tenant_id", metavar="TENANT")
@click.argument("role", metavar="ROLE")
@a_prefix
def reader(tenant_id: str, role: str, prefix: str) -> None:
    """Let the Postgres role ROLE read the tickets of TENANT, and of no other.

    If you run it again with another tenant, ROLE reads that one instead. Locks ticket_history for a moment.

    Every role that may connect sees the names of all roles: give ROLE one that does not say whose tickets it reads.
    """
    settings = environment.load_or_exit(uses.DATABASE)
    with _errors_in_one_line():
        from db import roles as database_roles  # noqa: PLC0415

        refuse_while_removed(tenant_id)
        database_roles.let_read(settings.database_url, prefix, tenant_id, role)
    terminal.echo(f"{role} reads the tickets of tenant {terminal.shell_word(tenant_id)}, and of no other.")


@roles.command("revoke")
@click.argument("role", metavar="ROLE")
def stop_reading(role: str) -> None:
    """Let ROLE, which `roles reader` named, read no tenant's tickets any more; then it can be dropped.

    Locks ticket_history for a moment.
    """
    settings = environment.load_or_exit(uses.DATABASE)
    with _errors_in_one_line():
        from db import roles as database_roles  # noqa: PLC0415

        database_roles.stop_reading(settings.database_url, role)
    terminal.echo(f"{role} reads no tenant's tickets.")


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Convert known errors to a one-line ClickException."""
    from app.commands.on_database import errors_in_one_line  # noqa: PLC0415
    from db.roles import RolesError  # noqa: PLC0415

    with errors_in_one_line():
        try:
            yield
        except RolesError as error:
            raise click.ClickException(str(error)) from None
