"""Promotion: the newer event wins, the first one sets the columns that are only inserted, and bad rows are failed."""

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from app.event.characters import tidy
from db import engine as engines
from db import failures
from db.inbox import Outcome
from jobs.promote import promote_batch
from tests.support.system import Database, Tenant

ACME = Tenant("acme", "secret")
EARLY, LATE, LATEST = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"


def deliver(database: Database, **members: Any) -> int:  # noqa: ANN401
    """Write a pending inbox row as the server would, and return its id."""
    payload = ACME.payload(**{"ticket_id": "1", **members})
    return deliver_bytes(database, json.dumps(payload).encode(), payload["tenant_id"])


def deliver_bytes(database: Database, payload: bytes, tenant_id: str = "acme") -> int:
    row = (tenant_id, payload)
    return int(
        database.value(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature) VALUES (%s, 'c', %s, 's') RETURNING id",
            *row,
        )
    )


def promote(database: Database, *batches: Sequence[int]) -> list[list[Outcome]]:
    """Promote all `batches` at once, each on its own connections, as different workers would."""

    async def together() -> list[list[Outcome]]:
        engine = engines.create_engine(database.url, "test", len(batches), 30.0)
        try:
            return await asyncio.gather(*(promote_batch(engine, batch) for batch in batches))
        finally:
            await engine.dispose()

    return asyncio.run(together())


def actions(database: Database) -> list[str | None]:
    return [row["action"] for row in database.query("SELECT action FROM inbox ORDER BY id")]


def ticket(database: Database, ticket_id: str = "1") -> dict[str, Any]:
    [row] = database.query("SELECT * FROM ticket_history WHERE ticket_id = %s", ticket_id)
    return row


def test_a_new_ticket_is_inserted_whole(database: Database) -> None:
    inbox_id = deliver(database, tags=["a", "b"])
    promote(database, [inbox_id])
    row = ticket(database)
    assert (row["tenant_id"], row["source"], row["inbox_id"], row["tags"]) == (
        "acme",
        "webhook_resolved",
        inbox_id,
        ["a", "b"],
    )
    assert row["created_at"] == row["updated_at"] == row["ingested_at"]
    [delivery] = database.query("SELECT * FROM inbox")
    assert (delivery["status"], delivery["action"], delivery["attempts"], delivery["error"]) == (
        "promoted",
        "inserted",
        1,
        None,
    )


def test_a_newer_event_updates_only_what_may_change(database: Database) -> None:
    promote(database, [deliver(database, resolved_date=EARLY)])
    before = ticket(database)
    changed = {"subject": "S", "description": "D", "priority": "P", "tags": ["T"], "resolution": "R"}
    newer = deliver(database, resolved_date=LATE, **changed)
    promote(database, [newer])
    after = ticket(database)
    assert (after["resolution"], after["resolved_date"].isoformat(), after["inbox_id"]) == (
        "R",
        "2026-01-02T00:00:00+00:00",
        newer,
    )
    assert after["updated_at"] > before["updated_at"]
    assert after["ingested_at"] > before["ingested_at"]
    kept = ("id", "created_at", "description", "priority", "tags")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert actions(database) == ["inserted", "updated"]


@pytest.mark.parametrize("moment", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"])
def test_the_first_and_the_last_moment_are_no_infinity(database: Database, moment: str) -> None:
    """To asyncpg they mean infinity: psycopg could not read such a row, and it could not be newer or older."""
    promote(database, [deliver(database, resolved_date=f"{moment}Z")])
    stored = database.value("SELECT (resolved_date AT TIME ZONE 'UTC')::text FROM ticket_history")
    assert stored == moment
    assert promote(database, [deliver(database, resolved_date=f"{moment}Z")])[0][0].action == "updated"


def test_an_older_event_that_comes_late_is_stale(database: Database) -> None:
    promote(database, [deliver(database, resolved_date=LATE, resolution="new")])
    before = ticket(database)
    promote(database, [deliver(database, resolved_date=EARLY, resolution="old")])
    assert ticket(database) == before
    assert actions(database) == ["inserted", "stale"]


def test_on_a_tie_the_later_delivery_wins_whichever_is_promoted_first(database: Database) -> None:
    first, second = deliver(database, resolution="first"), deliver(database, resolution="second")
    promote(database, [second])
    promote(database, [first])
    assert (ticket(database)["resolution"], ticket(database)["inbox_id"]) == ("second", second)
    assert actions(database) == ["stale", "inserted"]


@pytest.mark.parametrize("blank", ["", " \n\xa0\u200b\ufeff"], ids=repr)
def test_on_a_tie_text_beats_none_whichever_is_promoted_or_sent_first(database: Database, blank: str) -> None:
    """The resolution comes after the status, by a call of its own; and the first event may be sent again after it."""
    ids = [deliver(database, resolution=one, resolved_date=EARLY) for one in (blank, "mended", blank)]
    for batches in ([[one] for one in reversed(ids)], [ids[:2], ids[2:]], [ids], [[one] for one in ids]):
        database.query("DELETE FROM ticket_history")
        database.query("UPDATE inbox SET status = 'pending', action = NULL")
        for batch in batches:
            promote(database, batch)
        assert (ticket(database)["resolution"], ticket(database)["inbox_id"]) == ("mended", ids[1])
    assert actions(database) == ["inserted", "updated", "stale"]
    promote(database, [deliver(database, resolution="mended better", resolved_date=EARLY)])
    assert ticket(database)["resolution"] == "mended better", "of two with text the later delivery wins"
    promote(database, [deliver(database, resolution=blank, resolved_date=LATE)])
    assert ticket(database)["resolution"] == tidy(blank), "the later date wins, with or without text"


@pytest.mark.parametrize("source", ["bulk_import", "api_fallback"])
@pytest.mark.parametrize(
    ("known", "action"), [(EARLY, "updated"), (LATE, "updated"), (LATEST, "stale")], ids=["older", "tie", "newer"]
)
def test_a_ticket_that_came_from_elsewhere(database: Database, source: str, known: str, action: str) -> None:
    """Its row has no inbox id, which counts as the lowest, so only its date can make it win."""
    database.query(
        "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, source) "
        "VALUES ('acme', '1', 'theirs', 'theirs', %s, 'theirs', %s)",
        known,
        source,
    )
    promote(database, [deliver(database, resolved_date=LATE, resolution="ours")])
    row = ticket(database)
    won = action == "updated"
    assert (row["resolution"], row["source"]) == (("ours", "webhook_resolved") if won else ("theirs", source))
    assert (row["description"], row["priority"]) == ("theirs", "theirs")
    assert actions(database) == [action]


@pytest.mark.parametrize("dates", list(itertools.permutations([EARLY, LATE, LATEST])))
def test_several_events_of_a_new_ticket_in_one_batch(database: Database, dates: Sequence[str]) -> None:
    """As if promoted one by one in order of id: the first sets the columns only inserted, the newest the rest."""
    ids = [
        deliver(database, resolved_date=date, resolution=date, subject=f"subject {place}")
        for place, date in enumerate(dates)
    ]
    promote(database, random.sample(ids, 3))
    row = ticket(database)
    assert row["resolution"] == LATEST
    assert row["inbox_id"] == ids[dates.index(LATEST)]
    assert row["description"].startswith("subject 0\n")
    best, expected = "", []
    for date in dates:
        expected.append("stale" if date < best else "updated" if best else "inserted")
        best = max(best, date)
    assert actions(database) == expected


def test_several_events_of_a_known_ticket_in_one_batch(database: Database) -> None:
    promote(database, [deliver(database, resolved_date=LATE)])
    ids = [deliver(database, resolved_date=date, resolution=date) for date in (EARLY, LATE, LATEST, EARLY)]
    promote(database, ids)
    assert actions(database) == ["inserted", "stale", "updated", "updated", "stale"]
    assert ticket(database)["resolution"] == LATEST


def test_promoting_again_does_nothing(database: Database) -> None:
    inbox_id = deliver(database)
    promote(database, [inbox_id])
    before = ticket(database), database.query("SELECT * FROM inbox")
    assert promote(database, [inbox_id, 10**12]) == [[]]
    assert (ticket(database), database.query("SELECT * FROM inbox")) == before


def test_the_delivery_that_stands_repairs_a_damaged_row(database: Database) -> None:
    """Even if the damaged row looks newer, or a newer event comes in the same batch."""
    first = deliver(database, resolved_date=EARLY, resolution="right")
    promote(database, [first])
    damage = "UPDATE ticket_history SET resolution = 'damaged', resolved_date = '2999-01-01'"
    again = "UPDATE inbox SET status = 'pending', action = NULL WHERE id = %s"
    database.query(damage)
    database.query(again, first)
    promote(database, [first])
    assert (ticket(database)["resolution"], ticket(database)["resolved_date"].year) == ("right", 2026)
    database.query(damage)
    database.query(again, first)
    second = deliver(database, resolved_date=LATE, resolution="newer")
    promote(database, [first, second])
    assert (ticket(database)["resolution"], ticket(database)["inbox_id"]) == ("newer", second)
    assert actions(database) == ["updated", "updated"]


def test_rows_that_cannot_be_promoted_are_failed_and_their_neighbours_go_on(database: Database) -> None:
    # 900 KB of different words: their full-text index entry would be over 1 MB.
    words = " ".join(f"w{number:x}" for number in range(140_000))
    good = [deliver(database, ticket_id=f"good {number}") for number in range(20)]
    poison = {
        deliver(database, ticket_id="poison", description=words): "string is too long for tsvector",
        deliver_bytes(database, b"\xff no json"): "the payload is not a JSON object in UTF-8",
        deliver_bytes(database, b'{"tenant_id": "acme"}'): "ticket_id is missing",
        deliver(database, ticket_id="nul", subject="\0"): "subject must not hold U+0000",
    }
    good += [deliver(database, ticket_id=f"more {number}") for number in range(20)]
    ids = [*good, *poison]
    promote(database, random.sample(ids, len(ids)))
    failed = {row["id"]: row for row in database.query("SELECT * FROM inbox WHERE status = 'failed'")}
    assert set(failed) == set(poison)
    for inbox_id, why in poison.items():
        assert why in failed[inbox_id]["error"]
        assert (failed[inbox_id]["attempts"], failed[inbox_id]["promoted_at"]) == (1, None)
    assert database.value("SELECT count(*) FROM inbox WHERE status = 'promoted'") == 40
    assert database.value("SELECT count(*) FROM ticket_history") == 40


def test_the_longest_descriptions_we_accept_fit_the_index(database: Database) -> None:
    """The upper bound of MAX_DESCRIPTION_CHARS fits, with the words that take the most room."""
    rng = random.Random(1)
    letters = [chr(0x10400 + number) for number in range(40)]  # four bytes each

    def word() -> str:
        return "".join(rng.choices(letters, k=4))

    compounds = " ".join(f"{word()}-{word()}" for _ in range(5_000))  # Postgres indexes each whole and in parts
    addresses = " ".join(f"h{number:x}.de/{number:x}" for number in range(6_000))
    short = " ".join(a + b for a, b in itertools.product(letters, repeat=2)) * 10
    ids = [
        deliver(database, ticket_id=text[:5], subject=text[-1000:], description=text[:50_000])
        for text in (compounds, addresses, short)
    ]
    [outcomes] = promote(database, ids)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    sizes = database.query("SELECT pg_column_size(to_tsvector('english', description)) AS bytes FROM ticket_history")
    assert max(row["bytes"] for row in sizes) < 1024 * 1024


def test_tenants_are_apart(database: Database) -> None:
    ids = [deliver(database, tenant_id=tenant_id, resolution=tenant_id) for tenant_id in ("acme", "globex")]
    promote(database, ids)
    rows = database.query("SELECT tenant_id, ticket_id, resolution FROM ticket_history ORDER BY tenant_id")
    assert [tuple(row.values()) for row in rows] == [("acme", "1", "acme"), ("globex", "1", "globex")]


def test_two_at_once_on_the_same_tickets_end_as_one_would(database: Database) -> None:
    """The batches overlap, in different orders: no deadlock, no row promoted twice, the newest event stands."""
    rng = random.Random(20261123)
    for _ in range(5):
        with database.on_one_connection():
            ids = [
                deliver(
                    database,
                    ticket_id=str(rng.randrange(15)),
                    resolved_date=f"2026-01-01T00:00:{rng.randrange(4):02}Z",  # many are equal
                    resolution=rng.choice(["mended", "", " \t", "\u2003\ufeff"]),
                )
                for _ in range(120)
            ]
        promote(database, *(rng.sample(ids, 80) for _ in range(4)))
        promote(database, ids)
    assert {row["status"] for row in database.query("SELECT status FROM inbox")} == {"promoted"}
    assert {row["attempts"] for row in database.query("SELECT attempts FROM inbox")} == {1}
    expected = database.query(
        """
        SELECT DISTINCT ON (ticket_id) ticket_id, id AS inbox_id, resolved_date FROM (
          SELECT id, payload->>'ticket_id' AS ticket_id, (payload->>'resolved_date')::timestamptz AS resolved_date,
                 payload->>'resolution' = 'mended' AS has_text
          FROM (SELECT id, convert_from(payload, 'UTF8')::jsonb AS payload FROM inbox) AS delivery) AS event
        ORDER BY ticket_id, resolved_date DESC, has_text DESC, id DESC
        """
    )
    assert (
        database.query("SELECT ticket_id, inbox_id, resolved_date FROM ticket_history ORDER BY ticket_id") == expected
    )
    assert database.value("SELECT count(*) FROM inbox WHERE action = 'inserted'") == len(expected)


def test_a_fault_of_postgres_fails_no_row(database: Database) -> None:
    """Another session holds the table; the statement times out, and the row stays pending as it was."""
    import psycopg  # noqa: PLC0415

    inbox_id = deliver(database)

    async def impatient() -> None:
        engine = engines.create_engine(database.url, "test", 1, 0.3)
        try:
            await promote_batch(engine, [inbox_id])
        finally:
            await engine.dispose()

    with psycopg.connect(database.url) as holder:
        holder.execute("LOCK ticket_history IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(failures.DatabaseError):
            asyncio.run(impatient())
    [row] = database.query("SELECT status, attempts, error FROM inbox")
    assert tuple(row.values()) == ("pending", 0, None)
    promote(database, [inbox_id])
    assert ticket(database)["inbox_id"] == inbox_id
