"""`ticket-inbox tenant language`: the present one, another one, and what is found until its words are made."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.questions import add_ticket
from tests.support.system import Database, running_worker

pytestmark = pytest.mark.one_postgres

LEFT = "SELECT count(*) FROM search_indexes WHERE tenant_id IS NULL OR NOT is_ready"


@pytest.fixture
def tenant_id(module_database: Database, secrets_key: str) -> Iterator[str]:
    """A tenant with a ticket in German."""
    tenant = module_database.add_tenant(secrets_key)
    with module_database.on_one_connection():
        add_ticket(module_database, tenant.id, "1", description="Vertretungsplan\n\nDie Häuser sind nicht erreichbar.")
        yield tenant.id
        make_words(module_database)


def make_words(database: Database) -> None:
    """Do what a worker does, to the end."""
    while database.value("SELECT search_index_batch(1000)"):
        pass
    assert database.value(LEFT) == 0


def found(env: Environment, tenant_id: str, text: str) -> bool:
    done = invoke(env, "similar", "--tenant", tenant_id, "--json", text)
    assert done.exit_code == 0, done.stderr
    return bool(json.loads(done.stdout)["tickets"])


def test_the_old_words_answer_until_the_new_ones_are_made(
    module_database: Database, module_environment: Environment, tenant_id: str
) -> None:
    env = module_environment
    assert tenant_command(env, "language", tenant_id) == "english"
    assert not found(env, tenant_id, "Haus")
    done = invoke(env, "tenant", "language", tenant_id, "German")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "A worker makes the words for german: 0 of about 1 tickets so far; until then english answers.",
            f"`ticket-inbox tenant language {tenant_id}` shows how far it is.",
        ],
    )
    assert done.stderr == "Warning: no worker is alive: start `ticket-inbox worker`\n"
    assert found(env, tenant_id, "Häuser")
    assert not found(env, tenant_id, "Haus")
    done = invoke(env, "tenant", "language", tenant_id)
    assert done.stdout == "english\n"
    assert done.stderr.startswith(
        "A worker makes the words for german: 0 of about 1 tickets so far; until then english"
    )
    make_words(module_database)
    done = invoke(env, "tenant", "language", tenant_id)
    assert (done.stdout, done.stderr) == ("german\n", "")
    assert found(env, tenant_id, "Haus")
    assert found(env, tenant_id, "Vertretung")


def test_a_worker_makes_the_words(
    module_database: Database, module_environment: Environment, tenant_id: str, tmp_path: Path
) -> None:
    with running_worker(module_environment, tmp_path / "log") as worker:
        worker.wait_for_line("worker_started")
        done = invoke(module_environment, "tenant", "language", tenant_id, "german")
        assert (done.exit_code, done.stderr) == (0, "")
        module_database.defer("index")
        indexes = "SELECT string_agg(configuration, ' ') FROM search_indexes WHERE tenant_id = %s AND is_ready"
        deadline = time.monotonic() + 15
        while module_database.value(indexes, tenant_id) != "pg_catalog.german":
            assert time.monotonic() < deadline, worker.text()
            time.sleep(0.05)
        worker.stop()  # so that no other test finds its heartbeat
    assert found(module_environment, tenant_id, "Haus")


def test_a_change_of_mind_gives_up_what_was_begun(
    module_database: Database, module_environment: Environment, tenant_id: str
) -> None:
    for chosen in ("german", "german", "french", "pg_catalog.simple"):
        tenant_command(module_environment, "language", tenant_id, chosen)
    indexes = "SELECT string_agg(configuration, ' ' ORDER BY configuration) FROM search_indexes WHERE tenant_id = %s"
    assert module_database.value(indexes, tenant_id) == "pg_catalog.english pg_catalog.simple"
    words = tenant_command(module_environment, "language", tenant_id, "english")
    assert words == f"The tickets of tenant {tenant_id} are found by english."
    make_words(module_database)
    assert tenant_command(module_environment, "language", tenant_id) == "english"


def test_a_tenant_whose_first_words_are_not_made_yet(
    module_database: Database, module_environment: Environment, secrets_key: str
) -> None:
    tenant = module_database.add_tenant(secrets_key)
    done = invoke(module_environment, "tenant", "language", tenant.id)
    assert done.stdout == "english\n"
    assert "0 tickets so far; until then only a tenant with few tickets gets answers" in done.stderr
    done = invoke(module_environment, "tenant", "language", tenant.id, "thai")
    assert done.exit_code == 1
    tenant_command(module_environment, "language", tenant.id, "simple")
    make_words(module_database)
    done = invoke(module_environment, "tenant", "language", tenant.id)
    assert (done.stdout, done.stderr) == ("simple\n", "")


def test_what_cannot_be_is_one_line(module_database: Database, module_environment: Environment, tenant_id: str) -> None:
    for given, words in (
        (("nobody",), "there is no tenant 'nobody': see `ticket-inbox tenant list`"),
        (("nobody", "german"), "there is no tenant 'nobody': see `ticket-inbox tenant list`"),
        ((tenant_id, "klingon"), "this Postgres has no text search configuration 'klingon', only arabic, armenian, "),
        ((tenant_id, "x\x1b[2J'; --"), r"this Postgres has no text search configuration "),
        ((tenant_id, ""), "this Postgres has no text search configuration '', only "),
    ):
        done = invoke(module_environment, "tenant", "language", *given)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
        assert words in done.stderr
    assert module_database.value("SELECT count(*) FROM search_indexes WHERE NOT is_ready") == 0


def test_a_configuration_of_ones_own(
    module_database: Database, module_environment: Environment, tenant_id: str
) -> None:
    """Named with its schema where several have its name; when it is dropped, that is said."""
    query = module_database.query
    for schema in ("one", "Two"):
        query(f'CREATE SCHEMA "{schema}"')
        query(f'CREATE TEXT SEARCH CONFIGURATION "{schema}".ours (COPY = pg_catalog.german)')
    done = invoke(module_environment, "tenant", "language", tenant_id, "ours")
    assert done.stderr == "Error: several have this name: give one of Two.ours, one.ours\n"
    tenant_command(module_environment, "language", tenant_id, "Two.ours")
    make_words(module_database)
    assert tenant_command(module_environment, "language", tenant_id) == '"Two".ours'
    assert found(module_environment, tenant_id, "Haus")
    query('DROP SCHEMA "Two" CASCADE')
    done = invoke(module_environment, "tenant", "language", tenant_id)
    assert done.stdout == '"Two".ours\n'
    assert done.stderr.startswith('Warning: Postgres has no text search configuration "Two".ours any more')
    assert not found(module_environment, tenant_id, "Häuser")  # words are taken as they stand
    tenant_command(module_environment, "language", tenant_id, "one.ours")
    make_words(module_database)
    assert found(module_environment, tenant_id, "Haus")


def test_a_configuration_that_cannot_make_words_is_refused(
    module_database: Database, module_environment: Environment, tenant_id: str
) -> None:
    """One whose dictionary raises errors would stop the worker for all tenants."""
    module_database.query("CREATE SCHEMA broken")
    module_database.query("CREATE TEXT SEARCH CONFIGURATION broken.broken (COPY = pg_catalog.german)")
    with psycopg.connect(module_database.url, autocommit=True) as admin:
        admin.execute("UPDATE pg_ts_config_map SET mapdict = 1 WHERE mapcfg = CAST('broken.broken' AS regconfig)")
        done = invoke(module_environment, "tenant", "language", tenant_id, "broken")
        admin.execute("DROP SCHEMA broken CASCADE")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
    assert "cache lookup failed" in done.stderr, done.stderr
    assert module_database.value("SELECT count(*) FROM search_indexes WHERE NOT is_ready") == 0
