"""ticket-inbox trace and ticket-inbox reprocess find a ticket by the number that people know it by, like by its id."""

import json

import pytest

from tests.support.commands_in_process import run_here
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

# Two tenants know a ticket as 4711, and a third has one with that id. Two deliveries of the first name none.
DELIVERIES = (
    ("acme", "155000000000000001", None, "old"),
    ("acme", "155000000000000001", "4711", "named"),
    ("acme", "155000000000000001", None, "late"),
    ("acme", "155000000000000002", "4712", "another"),
    ("globex", "155000000000000001", "4711", "theirs"),
    ("globex", "155000000000000001", None, "their-next"),
    ("initech", "4711", None, "by-id"),
    ("initech", "4712", "4711", "by-display-id"),
    ("pruned", "155000000000000009", None, "unnamed"),
    ("broken", None, "4711", "without-id"),
)
DELIVERY = """
INSERT INTO inbox (tenant_id, ticket_id, display_id, correlation_id, payload, signature, status)
VALUES (%s, %s, %s, %s, 'text', 's', 'failed')
"""
TICKET = """
INSERT INTO ticket_history (tenant_id, ticket_id, display_id, description, resolution, resolved_date, priority, inbox_id)
VALUES (%s, %s, %s, 'd', 'r', '2026-01-01', 'p', 3)
"""


@pytest.fixture(scope="module")
def env(module_database: Database, module_environment: dict[str, str], secrets_key: str) -> dict[str, str]:
    with module_database.on_one_connection():
        for tenant_id in dict.fromkeys(row[0] for row in DELIVERIES):
            module_database.add_tenant(secrets_key, tenant_id)
        for row in DELIVERIES:
            module_database.query(DELIVERY, *row)
        module_database.query(TICKET, "pruned", "155000000000000009", "4711")  # named by a delivery that is pruned
        module_database.query(TICKET, "acme", "155000000000000001", "4711")
    return {name: value for name, value in module_environment.items() if name != "SECRETS_KEY"}


def found(env: dict[str, str], *arguments: str) -> list[str]:
    """Return the correlation ids of the deliveries that `trace` finds, in its order."""
    done = run_here(["trace", *arguments, "--json"], env)
    assert (done.returncode, done.stderr) == (0, "")
    return [one["correlation_id"] for one in json.loads(done.stdout)["deliveries"]]


def test_trace_shows_all_matches_by_tenant_and_each_tickets_whole_life(env: dict[str, str]) -> None:
    acmes = ["old", "named", "late"]
    assert found(env, "4711") == [*acmes, "without-id", "theirs", "their-next", "by-id", "by-display-id", "unnamed"]
    assert found(env, "4711", "--tenant", "acme") == acmes
    assert found(env, "4711", "--tenant", "initech") == ["by-id", "by-display-id"]
    assert found(env, "4711", "--tenant", "pruned") == ["unnamed"]
    assert found(env, "4712", "--tenant", "acme") == ["another"]
    assert found(env, "155000000000000001") == [*acmes, "theirs", "their-next"]
    done = run_here(["trace", "4710"], env)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: no delivery has the ticket id, display id or correlation id '4710'\n",
    )


def test_trace_says_which_number_a_ticket_is_known_by(env: dict[str, str]) -> None:
    shown = run_here(["trace", "4711"], env).stdout.splitlines()
    heads = [line for line in shown if not line.startswith(" ")]
    assert heads == [
        "acme, ticket 155000000000000001, display id 4711",
        "broken, a ticket without a readable id, display id 4711",
        "globex, ticket 155000000000000001, display id 4711",
        "initech, ticket 4711",
        "initech, ticket 4712, display id 4711",
        "pruned, ticket 155000000000000009, display id 4711",
    ]
    deliveries = json.loads(run_here(["trace", "4711", "--tenant", "acme", "--json"], env).stdout)["deliveries"]
    assert [one["display_id"] for one in deliveries] == ["4711"] * 3
    assert [one["stands"] for one in deliveries] == [False, False, True]


def test_reprocess_finds_a_ticket_with_all_its_deliveries(env: dict[str, str]) -> None:
    for tenant_id, ticket, counted, note in [
        ("acme", "4711", 3, "4711 is the display id of ticket 155000000000000001.\n"),
        ("acme", "155000000000000001", 3, ""),
        ("acme", "4713", 0, ""),
        (
            "globex",
            "4711",
            2,
            "4711 is the display id of ticket 155000000000000001.\n",
        ),  # it has no row in ticket_history
        ("initech", "4711", 2, "4711 is also the display id of ticket 4712.\n"),
        ("pruned", "4711", 1, "4711 is the display id of ticket 155000000000000009.\n"),
        ("broken", "4711", 1, ""),
    ]:
        done = run_here(["reprocess", "--tenant", tenant_id, "--ticket", ticket, "--dry-run"], env)
        rows = "1 inbox row matches: 1 failed" if counted == 1 else f"{counted} inbox rows match"
        rows += f": {counted} failed" if counted > 1 else ""
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{note}{rows}\nNothing was changed.\n", ""), (
            tenant_id
        )
    done = run_here(["reprocess", "--ticket", "4711"], env)
    assert (done.returncode, "--ticket needs --tenant" in done.stderr) == (2, True)
