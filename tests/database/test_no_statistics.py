"""A login without any right learns nothing of tenants from the planner, which prints its estimates before rights are checked."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from db import exposure, rights, schema
from tests.database.test_what_estimates_say import LEAKPROOF
from tests.support.installation import Installation, installation
from tests.support.revisions import downgrade, upgrade
from tests.support.stranger import Session, stranger
from tests.support.system import Database

BEFORE = "0011"  # the revision before migration 0012
ROWS = 200
# As many rows, as long, twice: what differs is of tenants. `w` is a word, `d` a day.
FIRST = {"w": "globex", "d": "2021-03-01"}
SECOND = {"w": "acmeco", "d": "2024-05-01"}
FILL = """
TRUNCATE tenant_configs, sdp_configs, sdp_cursors, inbox, leases, signature_counts, tenant_readers, tenant_removals,
         procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers RESTART IDENTITY CASCADE;
CREATE TEMPORARY TABLE given ON COMMIT DROP AS
  SELECT n, %(w)s || '-' || n / 40 AS w, CAST(%(d)s AS timestamptz) + n * interval '1 hour' AS d
  FROM generate_series(101, 100 + %(rows)s) AS n;
INSERT INTO tenant_configs (tenant_id, secret, previous_secret, previous_secret_ends_at, created_at, updated_at)
  SELECT w || n, w, w, d, d, d FROM given;
INSERT INTO sdp_configs SELECT w || n, 'cloud', w, w, d, d FROM given;
INSERT INTO sdp_cursors (tenant_id, source, since, position, updated_at, error, failing, begins_at, pass_position, reasons, looked_at)
  SELECT w || n, 'api_fallback', d, d, d, w, ARRAY[w], d, d, jsonb_build_object(w, w), jsonb_build_object(w, w) FROM given;
INSERT INTO inbox (tenant_id, ticket_id, correlation_id, traceparent, payload, signature, received_at, error, promoted_at)
  SELECT w, w, w, w, convert_to(w, 'UTF8'), w, d, w, d FROM given;
INSERT INTO leases SELECT w || n, w, d, d, ARRAY[ascii(w)] FROM given;
INSERT INTO signature_counts SELECT w || n, d, ascii(w), ascii(w), ascii(w), ascii(w), d, d, d FROM given;
INSERT INTO tenant_readers (role_name, tenant_id) SELECT w, w FROM given;
INSERT INTO tenant_removals SELECT w || n, d, d FROM given;
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
  SELECT 'none', 'none', w, w || n, jsonb_build_object('tenant_id', w) FROM given;
UPDATE procrastinate_events SET at = (SELECT d FROM given WHERE n = 100 + procrastinate_events.id);
"""
COLUMNS = """
SELECT relname AS table, quote_ident(attname) AS name, CAST(atttypid AS regtype)::text AS type
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relname = ANY(%s) AND relnamespace = CAST('public' AS regnamespace) AND attnum > 0 AND NOT attisdropped
"""
COLLECTED = """
SELECT relname || '.' || attname AS column FROM pg_statistic
JOIN pg_attribute ON attrelid = starelid AND attnum = staattnum JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = CAST('public' AS regnamespace) AND relname <> 'alembic_version'
"""
TARGETS = """
SELECT relname || '.' || attname AS column FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relname = ANY(%s) AND relnamespace = CAST('public' AS regnamespace) AND attnum > 0 AND NOT attisdropped
  AND coalesce(attstattarget, -1) <> 0
"""
POLICIES = "SELECT policyname, cmd, roles::text, qual, with_check, obj_description((SELECT oid FROM pg_policy WHERE polname = policyname)) FROM pg_policies WHERE tablename = 'procrastinate_jobs'"
KEPT = {f"{table}.{column}" for table, columns in exposure.KEPT.items() for column in columns}
Estimates = dict[str, list[str]]


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Installation]:
    """An installation of the version before, with policies on the jobs."""
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        made.owner.query("CREATE POLICY others ON procrastinate_jobs FOR SELECT USING (true)")
        made.owner.query("CREATE POLICY own ON procrastinate_jobs FOR INSERT WITH CHECK (lock IS NULL)")
        made.owner.query("COMMENT ON POLICY own ON procrastinate_jobs IS 'what it was made of'")
        made.owner.query("ALTER TABLE procrastinate_jobs ENABLE ROW LEVEL SECURITY")
        yield made


def fill(owner: Database, values: dict[str, str]) -> None:
    with psycopg.connect(owner.url) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(FILL, {**values, "rows": ROWS})
    owner.query("ANALYZE")


def questions(database: Database) -> list[str]:
    """Return for each column what is compared with values by each leakproof operator, and what is estimated without."""
    made = []
    for row in database.query(COLUMNS, list(rights.TABLES)):
        table, name, kind = row["table"], row["name"], row["type"]
        made += [f"{table} WHERE {name} IS NULL", f"{table} GROUP BY {name}"]
        for operator in database.query(LEAKPROOF, kind, kind):
            if operator["left"] == operator["right"] == kind:
                made += [
                    f"{table} WHERE {name} {operator['name']} '{value(kind, given)}'::{kind}"
                    for given in (FIRST, SECOND)
                ]
    return [f"SELECT FROM {one}" for one in made]


def value(kind: str, given: dict[str, str]) -> str:
    """Return a value of a type among those that `given` fills in."""
    word = f"{given['w']}-4"
    others = {"boolean": "true", "procrastinate_job_status": "todo", "procrastinate_job_event_type": "started"}
    if kind.startswith("timestamp"):
        return given["d"]
    return others.get(kind, word if kind in {"text", "bytea", "character varying"} else str(ord(word[0])))


def estimates(session: Session, asked: list[str]) -> Estimates:
    """Return the rows and widths that the planner expects, by a setting that every login may change."""
    said: list[str] = []
    session.add_notice_handler(lambda notice: said.append(notice.message_detail or ""))
    session.execute("SET client_min_messages = log; SET debug_print_plan = on; SET debug_pretty_print = off")
    found: Estimates = {}
    for one in asked:
        said.clear()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(one.encode())
        found[one] = re.findall(r"plan_(?:rows|width) \S+", "".join(said))
        assert found[one], one
    session.execute("RESET ALL")
    return found


def differing(place: Installation, asked: list[str]) -> set[str]:
    """Return the questions whose answers depend on what tenants are named, send and do."""
    with stranger(Database(place.url)) as session:
        fill(place.owner, FIRST)
        first = estimates(session, asked)
        fill(place.owner, SECOND)
        second = estimates(session, asked)
    return {one for one in asked if first[one] != second[one]}


def test_a_login_that_may_connect_and_nothing_else_learns_nothing(place: Installation) -> None:
    """It did on a database that was analyzed before the upgrade; the policies, which are in the way, stay as they were."""
    owner = place.owner
    downgrade(owner.url, BEFORE)
    asked = questions(owner)
    assert len(asked) > 300
    leaks = {
        r"SELECT FROM inbox WHERE payload >= 'acmeco-4'::bytea",
        "SELECT FROM inbox WHERE tenant_id = 'globex-4'::text",
        "SELECT FROM tenant_configs WHERE secret = 'globex-4'::text",
        "SELECT FROM procrastinate_jobs WHERE lock < 'globex-4'::text",
        "SELECT FROM leases WHERE expires_at > '2024-05-01'::timestamp with time zone",
    }
    assert differing(place, list(leaks)) == leaks
    policies = owner.query(POLICIES)
    schema.upgrade(owner.url)
    assert owner.query(POLICIES) == policies
    assert len(policies) == 2
    assert collected(place) <= KEPT
    assert differing(place, asked) == set()
    assert collected(place) <= KEPT
    assert not [one for one in place.make().warnings if "statistics" in one]


def collected(place: Installation) -> set[str]:
    """Return the columns of which there are statistics; only a superuser sees all of them."""
    return {row["column"] for row in Database(place.url).query(COLLECTED)}


def test_a_superuser_clears_them_too(place: Installation) -> None:
    """The owner of the tables may be one."""
    downgrade(place.owner.url, BEFORE)
    fill(place.owner, FIRST)
    assert {"inbox.payload", "tenant_configs.secret", "sdp_cursors.error"} <= collected(place)
    schema.upgrade(place.url)
    assert collected(place) <= KEPT


@pytest.mark.one_postgres
def test_each_column_of_ours_has_no_statistics_or_is_listed_with_a_reason(database: Database) -> None:
    """A new column needs `SET STATISTICS 0` from its own migration on, or a place in exposure.KEPT."""
    assert {row["column"] for row in database.query(TARGETS, list(rights.TABLES))} == KEPT
