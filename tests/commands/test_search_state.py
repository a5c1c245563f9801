"""How far search is: `status` and `doctor` say so, in words and as JSON; and a removed tenant's words are gone."""

import json

import pytest

from db import tenant_removal
from tests.support import removing, tickets_found
from tests.support.commands_in_process import run_here
from tests.support.installation import installation
from tests.support.system import Database
from tests.support.tickets_found import Ticket

pytestmark = pytest.mark.one_postgres

Environment = dict[str, str]
LATE = "UPDATE search_due SET noted_at = now() - interval '7 minutes'"


def status(environment: Environment) -> str:
    return " ".join(run_here(["status"], environment).stdout.split())


def doctor(environment: Environment) -> str:
    return run_here(["doctor", "--tenant", "acme", "--url", "http://127.0.0.1:9"], environment).stdout


def test_what_search_does_not_find_yet_is_shown(database: Database, environment: Environment, secrets_key: str) -> None:
    database.add_tenant(secrets_key, "acme")
    tickets_found.add(database, "acme", Ticket("1", "printer"), Ticket("2", "vpn"))
    assert "SEARCH does not find 2 written tickets yet, the oldest for" in status(environment)
    assert "SEARCH is being built for 1 tenants (acme), and answers 503 for those" in status(environment)
    assert "note  search is being built for this tenant by a worker" in doctor(environment)
    tickets_found.index(database)
    assert "SEARCH finds all tickets" in status(environment)
    assert "ok    search finds the tenant's tickets\n" in doctor(environment)
    tickets_found.add(database, "acme", Ticket("3", "toner"))
    assert "ok    search finds the tenant's tickets; 1 of all tenants wait, the oldest for" in doctor(environment)
    database.query(LATE)
    assert "wrong search does not find tickets that were written 7 min ago: see what the workers log" in doctor(
        environment
    )
    found = json.loads(run_here(["status", "--json"], environment).stdout)["search"]
    assert found.pop("oldest_due_seconds") > 400
    assert found == {"due": 1, "building": []}


def test_a_role_that_may_not_read_it_yet_is_told_so(postgres_url: str) -> None:
    """Between `migrate` and `roles make`; everything else is shown."""
    with installation(postgres_url) as place:
        place.run("migrate").check_returncode()
        place.make()
        place.add_login("login", "operator")
        place.owner.query(f"REVOKE SELECT (id, tickets, noted_at) ON search_due FROM {place.name}_operator")
        done = place.run("status", by="login")
        assert done.returncode == 0
        assert "SEARCH      unknown: this role may not read it until" in done.stdout
        assert "INBOX" in done.stdout


def test_a_removed_tenants_words_are_gone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches, also those of an index that is being filled; another tenant's stay."""
    monkeypatch.setattr(tenant_removal, "WINDOW", 20)
    for tenant_id in ("globex", "acme"):
        tickets_found.add_tenant(database, tenant_id)
        tickets_found.add(database, tenant_id, *(Ticket(str(number), f"printer SRV-{number}") for number in range(70)))
        tickets_found.index(database)
    before = sizes(database)
    database.query("INSERT INTO search_indexes (tenant_id, configuration) VALUES ('acme', 'simple')")
    database.value("SELECT search_index_batch(30)")
    database.query("UPDATE tenant_configs SET enabled = false, updated_at = now() - interval '1 hour'")
    removing.remove(database, "acme")
    assert {table: 2 * count for table, count in sizes(database).items()} == before
    assert database.value("SELECT count(*) FROM search_due WHERE tenant_id = 'acme'") == 0
    assert tickets_found.ask(database, "globex", "SRV-7").ids[0] == "7"


def sizes(database: Database) -> dict[str, int]:
    tables = ("search_indexes", "search_words", "search_postings", "search_tickets")
    return {table: database.value(f"SELECT count(*) FROM {table}") for table in tables}
