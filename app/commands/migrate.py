"""ticket-inbox migrate: how does the schema come to what this version needs, or to where an operator wants it?"""

import click

from app import settings as environment
from app.commands import terminal
from app.settings import uses


@click.command()
@click.option("--to", metavar="REVISION", help="Migrate to this revision, up or down; `base` removes everything.")
@click.option("--yes", is_flag=True, help="Do not ask before a way down, which removes what came later, with its data.")
@click.option("--show", is_flag=True, help="Only print the revision that the schema is at, and every other.")
@click.option("--sql", is_flag=True, help="Only print the SQL, from --from to --to; asks no database.")
@click.option("--from", "begin", metavar="REVISION", default="base", help="Where --sql begins; an empty database.")
@click.option("--stamp", metavar="REVISION", help="Only write down that the schema is at this revision.")
@click.option(
    "--replace-procrastinate",
    is_flag=True,
    help="First drop a schema that `procrastinate schema --apply` made, if no job waits in it.",
)
def migrate(  # noqa: PLR0913  (one for each option)
    *, to: str | None, yes: bool, show: bool, sql: bool, begin: str, stamp: str | None, replace_procrastinate: bool
) -> None:
    """Bring the database's schema to what this version needs; the same as `alembic upgrade head`.

    Beside running servers and workers: a lock that is not free is waited for in tries of two seconds, so that webhooks
    go on, and for ten minutes at most. A newer version's schema stays as it is, and this version works with it.
    """
    chosen = [show, sql, stamp is not None, replace_procrastinate, to is not None and not sql]
    if sum(chosen) > 1:
        raise click.UsageError(
            "--show, --sql, --stamp, --to and --replace-procrastinate exclude each other (but --sql --to)"
        )
    if begin != "base" and not sql:
        raise click.UsageError("--from is for --sql")
    from app.commands.on_database import errors_in_one_line  # noqa: PLC0415

    if sql:
        _print_script(begin, to or "head")
        return
    url = environment.load_or_exit(uses.DATABASE).database_url
    with errors_in_one_line():
        if show:
            _show(url)
        elif stamp is not None:
            _stamp(url, stamp)
        elif to is not None:
            _move(url, to, yes=yes)
        else:
            _upgrade(url, replaces_procrastinate=replace_procrastinate)


def _upgrade(url: str, *, replaces_procrastinate: bool) -> None:
    from db import schema  # noqa: PLC0415

    found = schema.upgrade(url, replaces_procrastinate=replaces_procrastinate)
    # Success, because the way back to an older version, whose start often begins with this command, must be open.
    newer = schema.newer(found)
    terminal.echo(f"T{newer[1:]}: nothing to do." if newer else f"The schema is at {found}.")


def _print_script(begin: str, to: str) -> None:
    from db import migration, revisions  # noqa: PLC0415

    try:
        terminal.echo_script(revisions.script(begin, to))
    except migration.MigrationError as error:
        raise click.ClickException(str(error)) from None


def _show(url: str) -> None:
    from db import revisions, schema  # noqa: PLC0415

    found = revisions.current(url)
    for revision, title in revisions.history():
        terminal.echo(f"{'*' if revision == found else ' '} {revision}  {title}")
    newer = found and schema.newer(found)
    terminal.echo(f"T{newer[1:]}." if newer else f"The schema is at {found or 'nothing'}.")


def _stamp(url: str, revision: str) -> None:
    from db import revisions  # noqa: PLC0415

    revisions.stamp(url, revision)
    terminal.echo(f"alembic_version says {revision} now. Nothing else was changed.")


def _move(url: str, to: str, *, yes: bool) -> None:
    from db import revisions  # noqa: PLC0415

    found = revisions.current(url)
    down = revisions.goes_down(found, to)
    if down and not yes:
        click.confirm(
            f"This goes back from {found} to {to}, and removes what came later, with its data. Go on?", abort=True
        )
    terminal.echo(f"The schema is at {revisions.move(url, to, down=down) or 'nothing'}.")
