"""How is the schema brought to another revision than the newest, and what does a revision do? What `alembic` can do.

An installed package has no configuration file that `alembic` would find.
"""

import io

import sqlalchemy as sa

from db import late_indexes, migration, schema

BASE, HEAD = "base", "head"
# What a script cannot do is wait in tries: it fails, and is run again.
LIMIT = "SET lock_timeout = '2s';\n\n"


def history() -> list[tuple[str, str]]:
    """Return every revision that this version knows, the oldest first, and what each does in a line."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(schema.alembic_config()).walk_revisions()
    return [(one.revision, (one.doc or "").partition("\n")[0]) for one in reversed(list(scripts))]


def current(url: str) -> str | None:
    """Return the revision of the database at `url`; None if it was never migrated. Raises as `schema.upgrade`."""
    return migration.run(url, schema.found_in)


def goes_down(found: str | None, to: str) -> bool:
    """Return whether `to` is before the revision `found`. Raises MigrationError where one of them is not known here."""
    return _place(found or BASE) > _place(to)


def move(url: str, to: str, *, down: bool) -> str | None:
    """Migrate to the revision `to`, and return where the schema is now. `down` allows for a loss of data.

    Prints on standard error for whom it waits. Raises MigrationError, database errors.
    """

    def act(connection: sa.Connection) -> str | None:
        if goes_down(schema.found_in(connection), to):
            if not down:
                raise migration.MigrationError("it went on meanwhile: begin again")
            schema.run_alembic("downgrade", schema.alembic_config(connection), to)
        else:
            schema.run_alembic("upgrade", schema.alembic_config(connection), to)
        return None if to == BASE else schema.REVISIONS[_place(to) - 1]

    found = migration.run(url, act)
    if found == schema.head():
        late_indexes.make_missing(url)
    return found


def stamp(url: str, revision: str) -> None:
    """Write down that the schema is at `revision`, and change nothing else. Raises MigrationError, database errors."""
    _place(revision)
    migration.run(
        url, lambda connection: schema.run_alembic("stamp", schema.alembic_config(connection), revision, purge=True)
    )


def script(begin: str, to: str) -> str:
    """Return the SQL that leads from the revision `begin` to `to`, for a person to run. Raises MigrationError."""
    output = io.StringIO()
    name = "downgrade" if goes_down(begin, to) else "upgrade"
    schema.run_alembic(name, schema.alembic_config(output=output), f"{begin}:{to}", sql=True)
    return LIMIT + output.getvalue()


def _place(revision: str) -> int:
    """Return a revision's place among those that this version knows. Raises MigrationError."""
    known = [BASE, *schema.REVISIONS]
    revision = known[-1] if revision == HEAD else revision
    if revision not in known:
        raise migration.MigrationError(f"this version has no revision {revision!r}, but {', '.join(known)}")
    return known.index(revision)
