"""What must a session be, whatever the role, the database or the URL say? How it is set, and how it is checked.

A driver reads what Postgres sends, and our statements mean what they mean, only with these settings.
"""

from collections.abc import Sequence

NEEDED = {
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
}
# Single statements run in it too, and a serializable one fails when others do the same work. PgBouncer refuses a
# session that begins with this setting; so the server sets it afterwards, and only where the role has another.
ISOLATION = {"default_transaction_isolation": "read committed"}
SET_ISOLATION = "SET default_transaction_isolation = 'read committed'"
# How long a process that froze in mid-transaction, or whose network swallows what it sends, keeps its locks. Our
# transactions take milliseconds.
IDLE_LIMIT = {"idle_in_transaction_session_timeout": "30s"}
# psycopg reads intervals in one style alone. The worker's session that waits for notifications is idle for hours.
PSYCOPG_ONLY = {"IntervalStyle": "postgres", "idle_session_timeout": "0"}

# `transaction_timeout` came with Postgres 17, so no older one takes it at the start of a session. A commit that is not
# on disk yet is no 202; which of the other kinds of commit it is, the administrator decides. `places` are the
# schemas that have our tables; `seen` are those in which this session finds them.
CHECK = """
SELECT current_setting('server_encoding'), current_setting('client_encoding'),
       current_setting('DateStyle'), current_setting('standard_conforming_strings'),
       current_setting('default_transaction_isolation'),
       CAST(current_database() AS text), quote_ident(current_user), current_setting('search_path'),
       coalesce(quote_ident(current_schema()), ''),
       (SELECT coalesce(string_agg(DISTINCT quote_ident(nspname), ', '), '')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid IN (to_regclass('alembic_version'), to_regclass('tenant_configs'), to_regclass('inbox'),
                               to_regclass('ticket_history'), to_regclass('procrastinate_jobs'))) AS seen,
       (SELECT coalesce(string_agg(quote_ident(nspname), ', '), '')
        FROM pg_class AS one JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = 'inbox' AND EXISTS (SELECT FROM pg_class AS other WHERE other.relnamespace = one.relnamespace
                                            AND other.relname = 'procrastinate_jobs')) AS places,
       CASE WHEN current_setting('transaction_timeout', true) <> '0'
            THEN set_config('transaction_timeout', '0', false) END,
       CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


class WrongSessionError(Exception):
    """A session that Postgres granted, but that we cannot work on; the message is one line that says what to do."""


def options(given: str, statement_timeout: float) -> str:
    """Return libpq's `options` with what a session needs after what was `given`; the last one wins."""
    limits = IDLE_LIMIT | {"statement_timeout": str(int(statement_timeout * 1000))}
    settings = NEEDED | ISOLATION | PSYCOPG_ONLY | limits
    ours = [f"-c {name}={value}".replace("read committed", r"read\ committed") for name, value in settings.items()]
    return " ".join([given, *ours]).strip()


def server_settings(statement_timeout: float) -> dict[str, str]:
    """Return what asyncpg begins a session with; these settings win over `options`."""
    return NEEDED | IDLE_LIMIT | {"statement_timeout": str(int(statement_timeout * 1000))}


def has_other_isolation(row: Sequence[str]) -> bool:
    """Whether CHECK returned another isolation than the one that we need."""
    return row[4] != ISOLATION["default_transaction_isolation"]


def refuse_wrong(row: Sequence[str]) -> None:
    """Refuse a session in which CHECK returned `row`. Raises WrongSessionError."""
    server, client, dates, strings, isolation, database, user, path, first, seen, places, *_ = row
    if server != "UTF8":
        raise WrongSessionError(
            f"the database {database} has the encoding {server}, which cannot hold every ticket: make one by `CREATE "
            "DATABASE … TEMPLATE template0 ENCODING 'UTF8'`, and let DATABASE_URL name it"
        )
    found = {"client_encoding": client, "DateStyle": dates.partition(",")[0],
             "standard_conforming_strings": strings, "default_transaction_isolation": isolation}  # fmt: skip
    for name, value in found.items():
        if value != (NEEDED | ISOLATION)[name]:
            raise WrongSessionError(_changed(name, value, user))
    _refuse_wrong_schema(user, path, first, seen, places)


def _changed(name: str, value: str, user: str) -> str:
    return (
        f"the session has {name} {value!r} although we set it: a pooler between us and Postgres ignores that, so set "
        f"it by `ALTER ROLE {user} SET {name} = '{(NEEDED | ISOLATION)[name]}'`"
    )


def _refuse_wrong_schema(user: str, path: str, first: str, seen: str, places: str) -> None:
    if not seen and places:
        raise WrongSessionError(
            f"the tables are in the schema {places}, where {user} does not look: its search_path is {path!r}. "
            f"`ALTER ROLE {user} SET search_path = {places}`, and `GRANT USAGE ON SCHEMA {places} TO {user}`"
        )
    if ", " in seen:
        raise WrongSessionError(
            f"our tables are in several schemas ({seen}): let the search_path of {user} ({path}) begin with the one "
            f"that has them all ({places or 'move them into one'})"
        )
    if seen and seen != first:
        raise WrongSessionError(
            f"the tables are in the schema {seen}, but {user} would make new ones in {first or 'none'}, the first of "
            f"its search_path ({path}): `ALTER ROLE {user} SET search_path = {seen}`"
        )
