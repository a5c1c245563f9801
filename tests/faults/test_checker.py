"""A short bad day breaks no promise; and the checker finds each forged fault."""

import time
from pathlib import Path

import pytest

from tests.faults import checker
from tests.faults.run import Plan, run
from tests.faults.traffic import Sent
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

ACME = Tenant("acme", "secret")
EPISODES = [
    ["a server is killed"],
    ["a worker is killed", "the network is slow"],
    ["Postgres is killed"],
    ["all servers and workers are killed"],
    ["sessions are killed"],
    ["the network is half open"],
    ["Postgres is frozen"],
    ["no connection is left"],
    ["Postgres is read-only", "a worker is frozen"],
    ["the inbox is locked"],
    ["ticket_history is locked", "a server is told to stop"],
    ["the network is cut"],
    ["the disk is full"],
    ["commits are slow"],
]


@pytest.mark.begins_early
def test_a_bad_day_breaks_no_promise(binaries: Path) -> None:
    """Most of the faults, for a second each, some two at once; `python -m tests.faults` runs a long day with all."""
    account = run(binaries, Plan(seed=20261125, episodes=EPISODES, strike=1.0, rate=100))
    lines = "\n".join(account.lines())
    assert not account.broken, lines
    assert account.stored > 500, lines
    assert account.answers["503"] + account.answers["none"] > 0, "the senders noticed the faults"


def sent(database: Database, status: int | None = 202, kind: str = "good", **members: object) -> Sent:
    """Deliver an event, and return the request that a sender would have noted."""
    database.deliver(ACME.payload(**members))
    row = database.query("SELECT * FROM inbox ORDER BY id DESC LIMIT 1")[0]
    return Sent(
        row["correlation_id"], row["tenant_id"], row["ticket_id"], bytes(row["payload"]), row["signature"], kind,
        time.monotonic(), status=status,
    )  # fmt: skip


STORE = (
    "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, inbox_id) "
    "SELECT tenant_id, ticket_id, '', payload->>'resolution', (payload->>'resolved_date')::timestamptz, '', id "
    "FROM (SELECT tenant_id, ticket_id, id, convert_from(payload, 'UTF8')::jsonb AS payload FROM inbox) AS event"
)


@pytest.mark.parametrize(
    ("forge", "wanted"),
    [
        (None, None),
        ("DELETE FROM inbox WHERE id = (SELECT max(id) FROM inbox)", "is lost"),
        ("UPDATE inbox SET payload = payload || ' '", "is not what was sent"),
        ("UPDATE inbox SET status = 'failed'", "is failed and not promoted"),
        (
            "UPDATE inbox SET correlation_id = 'unknown' WHERE id = (SELECT max(id) FROM inbox)",
            "unknown was never sent",
        ),
        ("DELETE FROM ticket_history WHERE id = (SELECT max(id) FROM ticket_history)", "is in the inbox alone"),
        ("UPDATE ticket_history SET resolution = 'older'", "has the values of"),
        ("UPDATE ticket_history SET tenant_id = 'another'", "is in ticket_history alone"),
    ],
)
def test_the_checker_finds_each_fault(database: Database, forge: str | None, wanted: str | None) -> None:
    accounts = [sent(database), sent(database)]
    database.query("UPDATE inbox SET status = 'promoted'")
    database.query(STORE)
    if forge:
        database.query(forge)
    found = list(checker.broken_promises(accounts, database))
    assert any(wanted in promise for promise in found) if wanted else found == []


def test_the_checker_knows_that_text_beats_none(database: Database) -> None:
    accounts = [sent(database, ticket_id="1", resolution=text) for text in ("mended", " ")]
    database.query("UPDATE inbox SET status = 'promoted'")
    database.query(STORE.replace("FROM inbox)", "FROM inbox ORDER BY id DESC LIMIT 1)"))
    [found] = checker.broken_promises(accounts, database)
    assert "has the values of" in found
    database.query("DELETE FROM ticket_history")
    database.query(STORE.replace("FROM inbox)", "FROM inbox ORDER BY id LIMIT 1)"))
    assert list(checker.broken_promises(accounts, database)) == []


def test_the_checker_finds_a_row_that_must_not_be_kept(database: Database) -> None:
    accounts = [sent(database, 401, "forged"), sent(database, None)]
    database.query("UPDATE inbox SET status = 'promoted'")
    database.query(STORE)
    [found] = checker.broken_promises(accounts, database)
    assert found == f"{accounts[0].correlation_id} (forged) was answered 401 and is kept"
