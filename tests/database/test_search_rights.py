"""Similar tickets are a reader's own tenant's alone; nobody else learns anything by search's functions and tables."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from db import search_state
from tests.support import tickets_found
from tests.support.installation import Installation, installation
from tests.support.stranger import stranger
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

ASK = "SELECT ticket_id, score, matched FROM similar_tickets(description => 'printer lawsuit')"
ANSWER = "SELECT similar_answer('acme', NULL, 'printer', 5, NULL, NULL, NULL, NULL)"
OURS = r"proname ~ '^(search|similar)_' AND pronamespace = CAST('public' AS regnamespace)"
ALLOWED = {
    "app": {"similar_answer"},
    "worker": {"search_index_batch"},
    "reader": {"similar_tickets"},
    "operator": set[str](),
}


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Installation]:
    """Two tenants, a reader of each, and logins of the other kinds."""
    with installation(postgres_url) as made:
        database = made.owner
        made.run("migrate", by="owner").check_returncode()
        made.make()
        for tenant_id, texts in (("acme", ["printer jam", "printer away"]), ("globex", ["lawsuit", "printer lawsuit"])):
            tickets_found.add_tenant(database, tenant_id)
            tickets_found.add(database, tenant_id, *(Ticket(f"{tenant_id} {text}", text) for text in texts))
            made.add_login(f"of_{tenant_id}", "reader")
            made.let_read(tenant_id, f"of_{tenant_id}")
        tickets_found.index(database)
        for kind in ("app", "worker", "reader", "operator"):
            made.add_login(f"a_{kind}", kind)
        yield made


def test_a_reader_finds_its_own_tenants_tickets_alone(place: Installation) -> None:
    assert {row["ticket_id"] for row in place.by("of_acme").query(ASK)} == {"acme printer jam", "acme printer away"}
    assert {row["ticket_id"] for row in place.by("of_globex").query(ASK)} == {
        "globex lawsuit",
        "globex printer lawsuit",
    }
    assert all(row["matched"] == ["printer"] for row in place.by("of_acme").query(ASK))


def test_what_other_tenants_say_changes_no_score(place: Installation) -> None:
    """Nor what is estimated and explained of the question."""
    reader = place.by("of_acme")
    tickets_found.add_tenant(place.owner, "initech")
    before = reader.query(ASK), reader.query(f"EXPLAIN (COSTS) {ASK}")
    tickets_found.add(place.owner, "initech", *(Ticket(uuid.uuid4().hex, "printer jam lawsuit") for _ in range(30)))
    assert (reader.query(ASK), reader.query(f"EXPLAIN (COSTS) {ASK}")) == before
    tickets_found.index(place.owner)
    assert (reader.query(ASK), reader.query(f"EXPLAIN (COSTS) {ASK}")) == before


def test_the_tenant_is_that_of_the_role_that_is_set(place: Installation) -> None:
    """Behind a pooler the session's user is the pooler's; and a role keeps its tenant under another name."""
    owner = place.owner
    owner.query(f"GRANT {place.name}_of_acme, {place.name}_of_globex TO {place.name}_a_reader")
    pooled = place.by("a_reader")
    with pooled.on_one_connection():
        for tenant_id in ("acme", "globex"):
            pooled.query(f"SET ROLE {place.name}_of_{tenant_id}")
            assert {row["ticket_id"].split()[0] for row in pooled.query(ASK) if " " in row["ticket_id"]} == {tenant_id}
        owner.query(f"ALTER ROLE {place.name}_of_globex RENAME TO {place.name}_renamed")
        pooled.query(f"SET ROLE {place.name}_renamed")
        assert pooled.query(ASK)
        owner.query(f"ALTER ROLE {place.name}_renamed RENAME TO {place.name}_of_globex")
        pooled.query("RESET ROLE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this role reads no tenant's tickets"):
            pooled.query(ASK)


def test_a_reader_that_was_taken_its_tenant_gets_an_error(place: Installation) -> None:
    place.add_login("former", "reader")
    place.let_read("acme", "former")
    assert place.by("former").query(ASK)
    place.run("roles", "revoke", f"{place.name}_former").check_returncode()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this role reads no tenant's tickets"):
        place.by("former").query(ASK)


def test_an_older_snapshot_shows_no_tenant_that_was_taken_from_the_reader(place: Installation) -> None:
    """Row-level security is as strict: it knows of a change of policies at once."""
    place.add_login("moved", "reader")
    place.let_read("globex", "moved")
    with psycopg.connect(place.by("moved").url) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute(
            "SELECT FROM pg_policy JOIN pg_depend ON true JOIN pg_proc ON true JOIN pg_roles ON true LIMIT 0"
        )
        session.execute("PREPARE other AS SELECT FROM tenant_readers")  # so that nothing else is locked anew
        place.let_read("acme", "moved")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this role reads no tenant's tickets"):
            session.execute(ASK)
    assert {row["ticket_id"] for row in place.by("moved").query(ASK)} == {"acme printer jam", "acme printer away"}


@pytest.mark.parametrize("kind", ["app", "worker", "reader", "operator"])
def test_each_kind_of_role_may_run_one_function_at_most_and_read_no_word(place: Installation, kind: str) -> None:
    login = place.by(f"a_{kind}")
    may = login.query(f"SELECT proname FROM pg_proc WHERE {OURS} AND has_function_privilege(oid, 'EXECUTE')")
    assert {row["proname"] for row in may} == ALLOWED[kind]
    for table in ("search_words", "search_postings", "search_tickets"):
        assert not login.value("SELECT has_any_column_privilege(%s, 'SELECT, INSERT, UPDATE')", table)
        assert not login.value("SELECT has_table_privilege(%s, 'DELETE, TRUNCATE, TRIGGER')", table)
    if kind != "app":
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.query(ANSWER)


def test_the_servers_role_gets_answers_and_the_workers_brings_tickets_in(place: Installation) -> None:
    assert place.by("a_app").value(f"SELECT json_array_length((answer).tickets) FROM ({ANSWER}) AS asked (answer)") == 2
    assert place.by("a_worker").value("SELECT search_index_batch(10)") == 0


@pytest.mark.parametrize("most", [0, -1, None, 10_001])
def test_the_worker_makes_no_index_ready_that_is_empty(place: Installation, most: int | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="most must be from 1 to 10000"):
        place.by("a_worker").query("SELECT search_index_batch(%s)", most)


def test_a_login_that_may_connect_and_nothing_else_may_run_nothing(place: Installation) -> None:
    with stranger(Database(place.url)) as session:
        [names] = session.execute(
            f"SELECT array_agg(proname) FROM pg_proc WHERE {OURS} AND has_function_privilege(oid, 'EXECUTE')"
        ).fetchall()
        assert names == (None,)
        for statement in (ASK, ANSWER, "SELECT search_index_batch(1)", "SELECT word FROM search_words"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)


def test_functions_that_run_as_the_owner_look_nowhere_else(place: Installation) -> None:
    """Each names the schemas that it looks into, the temporary one last."""
    rows = place.owner.query(f"SELECT proname, proconfig FROM pg_proc WHERE {OURS} AND prosecdef")
    assert {"similar_answer", "similar_tickets", "search_index_batch"} < {row["proname"] for row in rows}
    assert all("search_path=pg_catalog, public, pg_temp" in row["proconfig"] for row in rows)


def test_a_role_that_lacks_its_right_is_named(place: Installation) -> None:
    """As each does after an upgrade, until `roles make` was run anew."""
    owner = place.owner
    assert lacking(owner) == []
    owner.query(f"REVOKE EXECUTE ON FUNCTION similar_tickets FROM {place.name}_reader")
    owner.query(f"REVOKE EXECUTE ON FUNCTION similar_answer FROM {place.name}_app")
    owner.query(f"REVOKE EXECUTE ON FUNCTION search_index_batch FROM {place.name}_worker")
    names = {f"{place.name}_{role}" for role in ("app", "a_app", "worker", "a_worker", "of_acme", "of_globex")}
    assert names <= set(lacking(owner))
    found = place.run("doctor", "--tenant", "acme")
    assert "run `ticket-inbox roles make`" in found.stdout
    place.make()
    assert lacking(owner) == []


def lacking(database: Database) -> list[str]:
    return [row["role"] for row in database.query(search_state.LACKING.sql)]
