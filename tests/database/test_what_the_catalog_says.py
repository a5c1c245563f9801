"""Nothing in Postgres' catalog that a reader can read names another tenant, and only its own policy asks for its own."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

import psycopg
import pytest
from psycopg import sql

from db import roles, schema
from tests.support.installation import Installation, installation
from tests.support.revisions import downgrade, upgrade

BEFORE = "0007"  # the revision before migration 0008
ODD = "o'dd \\ \" tenant"
OTHER, THIRD = "globex-and-sons", "initech-limited"
TENANTS = "SELECT DISTINCT tenant_id FROM ticket_history"
POLICY = "SELECT permissive, roles::text[], cmd, qual, with_check FROM pg_policies WHERE tablename = 'ticket_history' AND policyname = %s"


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Installation]:
    """Readers of the version before and of this one, each for a tenant of its own; their names say of none."""
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        for tenant_id in ("acme", OTHER, THIRD, ODD):
            made.add_tenant(tenant_id)
            made.add_ticket(tenant_id)
        for role, tenant_id in (("reader_1", "acme"), ("reader_2", OTHER), ("reader_3", ODD)):
            made.add_old_reader(role, tenant_id)
        schema.upgrade(made.owner.url)
        made.make()
        made.add_login("reader_4", "reader")
        made.let_read(THIRD, "reader_4")
        yield made


READABLE = """
SELECT CAST(CAST(pg_class.oid AS regclass) AS text) AS relation, array_agg(CAST(attname AS text) ORDER BY attnum) AS columns
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace IN (CAST('pg_catalog' AS regnamespace), CAST('information_schema' AS regnamespace))
  AND relkind IN ('r', 'v') AND attnum > 0 AND has_column_privilege(pg_class.oid, attnum, 'SELECT')
GROUP BY 1 ORDER BY 1
"""


def naming(reader: str, names: Sequence[str], only: Collection[str] = ()) -> set[str]:
    """Return the relations in which a reader finds one of the names: as text, or as bytes of a parsed expression."""
    wanted = [*names, *(" ".join(map(str, name.encode())) for name in names)]
    query = sql.SQL("""
        SELECT count(*) FROM (SELECT concat_ws(' ', {}) AS text FROM {}) AS whole
        WHERE EXISTS (SELECT FROM unnest(CAST(%s AS text[])) AS wanted WHERE strpos(text, wanted) > 0)""")
    found = set()
    with psycopg.connect(reader, autocommit=True) as connection:
        for relation, columns in connection.execute(READABLE).fetchall():
            texts = sql.SQL(", ").join(sql.SQL("CAST({} AS text)").format(sql.Identifier(one)) for one in columns)
            # Some views call a function that the reader may not.
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                if not only or relation in only:
                    [[count]] = connection.execute(query.format(texts, sql.SQL(relation)), [wanted]).fetchall()
                    found |= {relation} if count else set()
    return found


def test_no_catalog_names_another_tenant(place: Installation) -> None:
    """The search would find a policy of the version before, and a role that is named after its tenant."""
    reader = place.by("reader_1").url
    assert naming(reader, [OTHER, THIRD]) == set()
    place.owner.query(f"CREATE POLICY old ON ticket_history TO {place.name}_reader_2 USING (tenant_id = '{OTHER}')")
    place.owner.query(f'CREATE ROLE "{place.name}_{OTHER}"')
    try:
        telling = {"pg_policies", "pg_policy", "pg_roles"}
        assert naming(reader, [OTHER], only=telling) == telling
    finally:
        place.owner.query("DROP POLICY old ON ticket_history")
        place.owner.query(f'DROP ROLE "{place.name}_{OTHER}"')


FUNCTIONS = """
SELECT CAST(pg_proc.oid AS regprocedure)::text AS name, prosecdef AND proowner = relowner AS is_owners, proconfig,
       ARRAY(SELECT grantee::regrole::text FROM aclexplode(proacl)) AS may, pg_get_functiondef(pg_proc.oid) AS body
FROM pg_proc, pg_class
WHERE pg_class.oid = CAST('tenant_readers' AS regclass) AND proname LIKE 'reader\\_tenant\\_%%'
ORDER BY pg_proc.oid
"""


def test_the_function_of_a_policy_is_its_readers_alone(place: Installation) -> None:
    """It runs as the owner with a fixed search_path, takes no argument, and names neither tenant nor role."""
    found = place.owner.query(FUNCTIONS)
    may = [set(one["may"]) for one in found]
    assert may == [{f"{place.name}_owner", f"{place.name}_reader_{number}"} for number in (1, 2, 3, 4)]
    for one in found:
        assert (one["is_owners"], one["proconfig"]) == (True, ["search_path=pg_catalog, pg_temp"])
        assert one["name"].endswith("()")
        assert not any(name in one["body"] for name in ("acme", OTHER, THIRD, place.name))
    mine, others, *_ = (one["name"] for one in found)
    reader = place.by("reader_1")
    assert reader.value(f"SELECT {mine}") == "acme"
    for forbidden in (f"SELECT {others}", "SELECT FROM tenant_readers"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.query(forbidden)


def test_readers_of_the_version_before_go_on_reading_there_and_back(place: Installation, postgres_url: str) -> None:
    """Also one whose tenant's name needs quotes; a policy of another shape stays as it is."""
    for role, tenant_id in (("reader_1", "acme"), ("reader_2", OTHER), ("reader_3", ODD), ("reader_4", THIRD)):
        assert place.by(role).query(TENANTS) == [{"tenant_id": tenant_id}]
    with installation(postgres_url) as made:
        upgrade(made.owner.url, BEFORE)
        for tenant_id in (ODD, OTHER):
            made.add_ticket(tenant_id)
        made.add_old_reader("reader_1", ODD)
        made.add_old_reader("reader_2", OTHER)
        made.owner.query(
            f"CREATE POLICY odd ON ticket_history AS RESTRICTIVE FOR ALL TO {made.name}_reader, pg_monitor "
            "USING (tenant_id <> 'nobody') WITH CHECK (priority = '1')"
        )
        names = ("odd", f"{made.name}_reader_1")
        before = [made.owner.query(POLICY, name) for name in names]
        made.owner.query("ANALYZE ticket_history")
        schema.upgrade(made.owner.url)
        made.make()
        assert made.by("reader_1").query(TENANTS) == [{"tenant_id": ODD}]
        assert [made.owner.query(POLICY, name) == policy for name, policy in zip(names, before, strict=True)] == [
            True,
            False,
        ]
        made.owner.query("DELETE FROM tenant_readers WHERE tenant_id = %s", OTHER)
        downgrade(made.owner.url, BEFORE)
        assert [made.owner.query(POLICY, name) for name in names] == before
        assert made.by("reader_1").query(TENANTS) == [{"tenant_id": ODD}]
        assert made.by("reader_2").query(TENANTS) == []
        assert made.owner.value("SELECT count(*) FROM pg_policy WHERE polrelid = 'procrastinate_jobs'::regclass") == 0
        assert made.owner.value("SELECT relrowsecurity FROM pg_class WHERE relname = 'procrastinate_jobs'") is False
        made.add_login("app_login", "app")
        made.by("app_login").defer("promote", inbox_ids=[1])
        schema.upgrade(made.owner.url)
        assert made.by("reader_1").query(TENANTS) == [{"tenant_id": ODD}]


def test_a_reader_whose_tenant_is_removed_reads_no_new_tenant_of_that_name(place: Installation) -> None:
    """Whatever removes a tenant deletes its rows of tenant_readers, and needs to know no policy."""
    place.add_login("late", "reader")
    place.let_read(THIRD, "late")
    assert place.by("late").query(TENANTS) == [{"tenant_id": THIRD}]
    place.owner.query("DELETE FROM tenant_readers WHERE role_name = %s", f"{place.name}_late")
    assert place.by("late").query(TENANTS) == []
    place.let_read("acme", "late")
    assert place.by("late").query(TENANTS) == [{"tenant_id": "acme"}]
    roles.stop_reading(place.owner.url, f"{place.name}_late")
    place.owner.query(f"DROP ROLE {place.name}_late")


def test_a_reader_is_dropped_once_it_reads_no_tenant(place: Installation) -> None:
    """Until then Postgres refuses, so that no new role of its name reads the tenant."""
    name = f"{place.name}_leaves"
    place.add_login("leaves", "reader")
    place.let_read("acme", "leaves")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        place.owner.query(f"DROP ROLE {name}")
    done = place.run("roles", "revoke", name)
    assert (done.returncode, done.stdout) == (0, f"{name} reads no tenant's tickets.\n"), done.stderr
    assert place.by("leaves").query(TENANTS) == []
    assert place.owner.value("SELECT count(*) FROM tenant_readers WHERE role_name = %s", name) == 0
    place.owner.query(f"DROP ROLE {name}")
    for role in (name, f"{place.name}_worker"):
        with pytest.raises(roles.RolesError, match="is no role that `ticket-inbox roles reader` lets read"):
            roles.stop_reading(place.owner.url, role)
