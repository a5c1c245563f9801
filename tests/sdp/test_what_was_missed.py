"""What the versions before this one missed comes back by one line, `reconcile --since 1y`, from a database of theirs."""

import asyncio
import json

import pytest

from db import engine as engines
from db import schema
from jobs.promote import promote_batch
from tests.support.commands_in_process import invoke
from tests.support.fake_sdp import FakeSdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place, settled
from tests.support.revisions import upgrade
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

LAST_VERSION = "0010"
DAY = 86_400_000


@pytest.fixture
def place(empty_database: Database, sdp: FakeSdp, environment: dict[str, str], secrets_key: str) -> Place:
    """A tenant in a database of the last version, whose runs have come to the present and say that all is well."""
    upgrade(empty_database.url, LAST_VERSION)
    made = settled(empty_database, sdp, {**environment, "DATABASE_URL": empty_database.url}, secrets_key)
    empty_database.query(
        "INSERT INTO sdp_cursors (tenant_id, source, since, position) VALUES (%s, 'api_fallback', now() - interval '1 year', now())",
        made.tenant.id,
    )
    return made


def left_empty(place: Place, resolved: int, edited: int, **members: object) -> str:
    """Add a ticket that the last version stored without its resolution, with `members` that say it."""
    ticket_id = place.sdp.add(at=resolved)
    place.sdp.resolve(ticket_id, resolved)
    place.sdp.edit(ticket_id, resolved, resolution=None)
    body = json.dumps({"tenant_id": place.tenant.id, "request": place.sdp.ticket(ticket_id)}).encode()
    row = place.database.query(
        "INSERT INTO inbox (tenant_id, ticket_id, correlation_id, payload, signature, status, action, promoted_at)"
        " VALUES (%s, %s, 'c', %s, 's', 'promoted', 'inserted', now()) RETURNING id",
        place.tenant.id, ticket_id, body,
    )  # fmt: skip
    place.store(ticket_id, resolved, resolution="", inbox_id=row[0]["id"])
    place.sdp.edit(ticket_id, edited, **members)
    return ticket_id


def test_one_line_brings_back_what_earlier_versions_missed(place: Place) -> None:
    sdp, now = place.sdp, place.sdp.now()
    sdp.ways.list_lacks = VENDORS_LIST  # that is how the last version asked
    spanish, walk_in, archived = sdp.add_resolved(3, now - 200 * DAY, DAY)
    sdp.edit(spanish, now - 200 * DAY, status={"name": "Cerrado", "internal_name": "Closed", "in_progress": False})
    sdp.edit(walk_in, last_updated_time=None)
    sdp.archive(archived)
    late = left_empty(place, now - 100 * DAY, now - 100 * DAY + 90_000, resolution={"content": "Rolled back."})
    closing = left_empty(
        place, now - 99 * DAY, now - 99 * DAY, closure_info={"closure_comments": "Told her to restart."}
    )
    numbers = sdp.add(at=now - 98 * DAY)
    sdp.resolve(numbers, now - 98 * DAY)
    at = {"value": now - 98 * DAY}
    sdp.edit(numbers, last_updated_time=at, resolved_time={"value": ""}, completed_time=at, tags={"name": "vpn"})
    [nameless] = sdp.add_resolved(1, now - 97 * DAY)
    sdp.edit(nameless, now - 97 * DAY, display_id="4711")
    place.store(nameless, now - 97 * DAY)
    schema.upgrade(place.database.url)
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id, "--since", "1y")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "       7  resolved tickets seen\n" in done.stdout
    assert "\n       3  that were there already got their display id\n" in done.stdout
    assert "\n       6  appended to the inbox\n" in done.stdout
    promote(place)
    stored = place.database.query("SELECT ticket_id, resolution FROM ticket_history")
    assert {row["ticket_id"]: row["resolution"] for row in stored} == {
        **dict.fromkeys([spanish, walk_in, archived, late, numbers, nameless], "Rolled back."),
        closing: "Told her to restart.",
    }
    assert place.history(nameless)["display_id"] == "4711"
    assert place.database.value("SELECT count(*) FROM ticket_history WHERE display_id IS NULL") == 0
    again = invoke(place.quick, "reconcile", "--tenant", place.tenant.id, "--since", "1y")
    assert "\n       7  were there already\n       0  appended to the inbox\n" in again.stdout


def promote(place: Place) -> None:
    """Promote all pending rows in this process."""

    async def all_of_them() -> None:
        engine = engines.create_engine(place.database.url, "test", 1, 30.0)
        ids = [row["id"] for row in place.database.query("SELECT id FROM inbox WHERE status = 'pending'")]
        try:
            await promote_batch(engine, ids)
        finally:
            await engine.dispose()

    asyncio.run(all_of_them())
