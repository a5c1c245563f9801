"""Reconciling stores a ticket that no webhook brought, and never overwrites a newer ticket with an older one."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

import jobs.reconcile
from app import settings as environments
from app.dev.embedded_postgres import end_with_parent
from app.sdp import client as clients
from app.sdp import reconcile as runs
from app.sdp.client import Patience
from app.sdp.unsettled import MOST as MOST_FAILING
from db.failures import DatabaseError
from tests.support.fake_sdp import Asked, running_sdp
from tests.support.free_ports import free_port
from tests.support.otlp_receiver import receiving_http
from tests.support.reconciled import Place, StartWorker, settled
from tests.support.scraped_metrics import values
from tests.support.system import Database, Worker

pytestmark = pytest.mark.one_postgres

NEVER_SEEN = "hush"

both = pytest.mark.parametrize("sdp", ["on_premises", "cloud"], indirect=True)


@both
def test_a_ticket_that_no_webhook_brought_is_stored(place: Place, start_worker: StartWorker) -> None:
    """An open one is not; the row has the values that ServiceDesk Plus returned."""
    [ticket_id], _open = place.sdp.add_resolved(at=place.sdp.now() - 5_000), place.sdp.add()
    closed = place.sdp.add("Second")
    place.sdp.resolve(closed, status="closed", resolution="Done.")
    assert place.counts() == {"seen": 2, "appended": 2}
    [row, _] = place.database.query("SELECT * FROM inbox ORDER BY id")
    assert (row["source"], row["tenant_id"], row["ticket_id"]) == ("api_fallback", place.tenant.id, ticket_id)
    assert json.loads(row["payload"]) == {"tenant_id": place.tenant.id, "request": place.sdp.ticket(ticket_id)}
    place.promote(start_worker)
    stored = place.history(closed)
    assert (stored["resolution"], stored["source"], stored["priority"]) == ("Done.", "api_fallback", "High")
    place.sdp.asked.clear()
    assert place.counts() == {"seen": 2, "already_there": 2}
    assert place.sdp.fetched() == [], "a ticket in ticket_history is not fetched"


def test_what_waits_in_the_inbox_is_not_appended_again(place: Place) -> None:
    """Also if it was rejected: the inbox has its bytes, whatever its status."""
    [ticket_id] = place.sdp.add_resolved()
    assert place.counts() == {"seen": 1, "appended": 1}
    for status in ("pending", "failed", "rejected"):
        place.database.query("UPDATE inbox SET status = %s", status)
        assert place.counts() == {"seen": 1, "already_there": 1}
    place.sdp.edit(ticket_id, subject="Another")
    assert place.counts() == {"seen": 1, "appended": 1}


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (5_000, "already_there"),
        (1, "already_there"),
        (0, "already_there"),
        (-123, "already_there"),  # the same, in whole seconds
        (-1, "appended"),
        (-999, "appended"),
        (-1_123, "appended"),
    ],
)
def test_only_what_is_later_is_appended(place: Place, stored: int, found: str) -> None:
    """A webhook with whole seconds does not count as older."""
    ticket_id = place.sdp.add()
    resolved = place.sdp.resolve(ticket_id, place.sdp.now() // 1000 * 1000 + 123)
    place.store(ticket_id, resolved + stored)
    place.sdp.edit(ticket_id, resolved + 60_000, subject="Edited since")
    assert place.counts() == {"seen": 1, found: 1}
    assert place.sdp.fetched() == [ticket_id]


def test_what_was_not_edited_since_is_not_asked_for(place: Place) -> None:
    for fraction in (0, 123):
        ticket_id = place.sdp.add()
        place.store(ticket_id, place.sdp.resolve(ticket_id, 1_604_655_594_123) - fraction)
    assert place.counts(since=datetime(2020, 1, 1, tzinfo=UTC)) == {"seen": 2, "already_there": 2}
    assert place.sdp.fetched() == []


def test_a_webhook_that_comes_meanwhile_is_enough(place: Place) -> None:
    """After fetching a ticket, which may take a while, the run looks into ticket_history again."""
    [ticket_id] = place.sdp.add_resolved()
    resolved = int(place.sdp.ticket(ticket_id)["resolved_time"]["value"])
    place.sdp.before_answer = lambda asked: place.store(ticket_id, resolved) if asked.ticket_id else None
    assert place.counts() == {"seen": 1, "already_there": 1}


def test_newer_wins_by_webhook_or_api(place: Place, start_worker: StartWorker) -> None:
    """A newer webhook stands although the API's older ticket is promoted after it; and the other way round."""
    [first, second] = place.sdp.add_resolved(2, at=place.sdp.now() - 3_600_000)
    assert place.counts() == {"seen": 2, "appended": 2}
    newer = datetime.now(UTC).isoformat()
    older = "2020-01-01T00:00:00Z"
    place.database.deliver(
        place.tenant.payload(ticket_id=first, resolution="by webhook", resolved_date=newer),
        place.tenant.payload(ticket_id=second, resolution="by webhook", resolved_date=older),
    )
    place.database.query("UPDATE procrastinate_jobs SET priority = CASE priority WHEN 0 THEN 1 ELSE 0 END")
    place.promote(start_worker)
    assert [place.history(one)["resolution"] for one in (first, second)] == ["by webhook", "Rolled back."]
    assert [place.history(one)["source"] for one in (first, second)] == ["webhook_resolved", "api_fallback"]
    place.sdp.edit(first, subject="Edited since")
    assert place.counts() == {"seen": 2, "already_there": 2}


@both
def test_many_pages_while_tickets_are_edited(place: Place) -> None:
    ids = place.sdp.add_resolved(130, at=place.sdp.now() - 1_000_000)

    def edit(asked: Asked) -> None:
        if asked.list_info and len(place.sdp.lists()) < 4:
            place.sdp.edit(ids[len(place.sdp.lists()) * 10])

    place.sdp.before_answer = edit
    summary = place.run()
    assert (summary.error, summary.is_complete, summary.rejected) == (None, True, 0)
    assert set(place.appended()) == set(ids)
    assert place.database.value("SELECT count(*) FROM inbox WHERE status <> 'pending'") == 0


@pytest.mark.parametrize("hours", [-30, -5, 5, 48])
def test_its_clock_is_hours_off(place: Place, hours: int) -> None:
    """Runs go by its clock only; ours decides where the very first run begins, a day before the config."""
    place.database.query("UPDATE sdp_configs SET created_at = now() - interval '2 days'")
    place.sdp.skew = timedelta(hours=hours)
    [first] = place.sdp.add_resolved()
    assert place.counts() == {"seen": 1, "appended": 1}
    assert abs(place.position() - place.sdp.now()) < 60_000
    place.sdp.edit(first, place.sdp.now() - 3_600_000)
    [second] = place.sdp.add_resolved()
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.appended() == [first, second]


def test_the_first_run_begins_a_day_before_the_config(place: Place) -> None:
    day = 86_400_000
    [_old], [new] = (place.sdp.add_resolved(at=place.sdp.now() - age) for age in (day + 1_200_000, day - 1_200_000))
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.appended() == [new]
    assert place.counts(since=datetime.now(UTC) - timedelta(days=2)) == {"seen": 2, "appended": 1, "already_there": 1}


def test_away_for_a_while_it_resumes_where_it_was(place: Place) -> None:
    """Away for three runs: no ticket is lost or appended twice, and the error is kept."""
    [first] = place.sdp.add_resolved(at=place.sdp.now() - 7_200_000)
    place.counts()
    reached = place.position()
    place.sdp.fail("hang_up", times=10_000)
    [second] = place.sdp.add_resolved(at=place.sdp.now() - 3_600_000)
    for _ in range(3):
        summary = place.run()
        assert "hung up" in (summary.error or "")
        assert not summary.is_complete
        assert place.position() == reached
    assert "hung up" in place.database.value("SELECT error FROM sdp_cursors")
    [third] = place.sdp.add_resolved()
    place.sdp.heal()
    assert place.counts()["appended"] == 2
    assert place.appended() == [first, second, third]
    assert place.database.value("SELECT error FROM sdp_cursors") is None


@pytest.mark.parametrize("fault", ["500", "error", "half", "html", "hang_up", "wrong", "401"])
def test_a_ticket_that_cannot_be_fetched_is_asked_for_again_and_holds_up_no_other(place: Place, fault: str) -> None:
    """The cursor does not wait for it: each run asks for it again, until ServiceDesk Plus returns it."""
    ids = place.sdp.add_resolved(3, at=place.sdp.now() - 7_200_000)
    times = [int(place.sdp.ticket(one)["last_updated_time"]["value"]) for one in ids]
    place.sdp.fail(fault, times=10_000, on=f"requests/{ids[1]}")
    summary = place.run()
    assert (summary.seen, summary.appended, summary.failed) == (3, 2, 1)
    assert (summary.error or "").startswith(f"ticket {ids[1]} cannot be fetched: ")
    assert place.position() == times[2]
    [later] = place.sdp.add_resolved()
    again = place.run()
    assert (again.appended, again.failed) == (1, 1)
    assert place.appended() == [ids[0], ids[2], later]
    assert place.database.value("SELECT failing FROM sdp_cursors") == [ids[1]]
    place.sdp.heal()
    assert place.counts()["appended"] == 1
    assert place.appended() == [ids[0], ids[2], later, ids[1]]
    assert place.database.value("SELECT failing FROM sdp_cursors") == []
    assert place.database.value("SELECT error FROM sdp_cursors") is None


def test_a_ticket_that_cannot_be_fetched_as_nothing_can_ends_the_run_before_it(place: Place) -> None:
    ids = place.sdp.add_resolved(3)
    times = [int(place.sdp.ticket(one)["last_updated_time"]["value"]) for one in ids]
    place.sdp.go_away_at(ids[1])
    summary = place.run()
    assert (summary.seen, summary.appended, summary.failed) == (2, 1, 1)
    assert not summary.is_complete
    assert place.position() == times[0]
    place.sdp.heal()
    assert place.counts() == {"seen": 3, "already_there": 1, "appended": 2}
    assert place.appended() == ids


def test_more_failing_tickets_than_can_be_their_own_fault_keep_the_cursor(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (Patience(tries=1),))
    ids = place.sdp.add_resolved(MOST_FAILING + 5)
    place.sdp.fail("error", times=10_000, on="requests/")
    summary = place.run()
    assert summary.failed == MOST_FAILING + 1
    assert not summary.is_complete
    assert place.position() == int(place.sdp.ticket(ids[MOST_FAILING - 1])["last_updated_time"]["value"])
    place.sdp.heal()
    place.run()
    assert sorted(place.appended()) == sorted(ids)


def test_a_ticket_that_takes_all_the_time_of_a_run_holds_up_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run lists all three again, since they are of the last ten minutes."""
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (Patience(tries=1, answer=1.5),))
    ids = place.sdp.add_resolved(3)
    place.sdp.fail("hang", times=10_000, on=f"requests/{ids[0]}")
    assert place.run(seconds=1).appended == 0
    summary = place.run(seconds=1)
    assert summary.appended == 2
    assert ids[0] in (summary.error or "")
    assert place.appended() == ids[1:]
    place.sdp.heal()
    assert place.counts()["appended"] == 1


def test_tickets_that_cannot_be_fetched_take_turns(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = place.sdp.add_resolved(2)
    place.sdp.fail("error", times=10_000, on="requests/")
    assert place.run().failed == 2
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (Patience(tries=1, answer=1.5),))
    place.sdp.heal()
    place.sdp.fail("hang", times=10_000, on=f"requests/{ids[0]}")
    for _ in range(2):
        place.run(seconds=1)
    assert place.appended() == ids[1:]
    assert place.database.value("SELECT error FROM sdp_cursors")


def test_many_tickets_that_were_edited_after_they_were_resolved_do_not_take_all_the_time(place: Place) -> None:
    """Each looks new; no run used to get past the first ones, because each run fetched them again."""
    for ticket_id in place.sdp.add_resolved(20):
        place.store(ticket_id, int(place.sdp.ticket(ticket_id)["resolved_time"]["value"]))
        place.sdp.edit(ticket_id)
    assert place.counts() == {"seen": 20, "already_there": 20}
    asked = len(place.sdp.fetched())
    assert place.counts() == {"seen": 20, "already_there": 20}, "what was dealt with is stored, for every worker"
    [new] = place.sdp.add_resolved()
    assert place.counts() == {"seen": 21, "already_there": 20, "appended": 1}
    assert len(place.sdp.fetched()) == asked + 1
    assert place.appended() == [new]


def test_a_worker_that_lives_on_while_a_backup_is_restored_fetches_again_what_the_backup_lacks(place: Place) -> None:
    """Its memory of what it has dealt with belongs to the database as it was."""
    place.sdp.add_resolved(2)
    assert place.counts() == {"seen": 2, "appended": 2}
    [cursor] = place.database.query("SELECT position FROM sdp_cursors")
    place.sdp.add_resolved(3, at=place.sdp.now() + 60_000)
    assert place.counts() == {"seen": 5, "already_there": 2, "appended": 3}
    place.database.query("DELETE FROM inbox WHERE id > 2")
    place.database.query("UPDATE sdp_cursors SET position = %s", cursor["position"])
    assert place.counts()["appended"] == 3
    assert len(place.appended()) == 5


def test_a_ticket_that_was_deleted_or_opened_again_is_passed(place: Place) -> None:
    ids = place.sdp.add_resolved(3)

    def delete(asked: Asked) -> None:
        if asked.ticket_id == ids[0]:
            place.sdp.delete(ids[0])
            place.sdp.edit(ids[1], status={"id": "2", "name": "Open"})

    place.sdp.before_answer = delete
    assert place.counts() == {"seen": 3, "gone": 2, "appended": 1}
    assert place.appended() == [ids[2]]


def test_what_breaks_our_rules_is_kept_as_rejected(place: Place, start_worker: StartWorker) -> None:
    """It holds up no other ticket."""
    no_time, odd, good = place.sdp.add_resolved(3)
    place.sdp.edit(no_time, int(place.sdp.ticket(no_time)["last_updated_time"]["value"]), resolved_time=None)
    place.sdp.edit(odd, int(place.sdp.ticket(odd)["last_updated_time"]["value"]), resolved_time={"value": "soon"})
    assert place.counts() == {"seen": 3, "rejected": 2, "appended": 1}
    rows = place.database.query("SELECT ticket_id, status, error FROM inbox ORDER BY id")
    assert [(row["ticket_id"], row["status"]) for row in rows] == [
        (no_time, "rejected"), (odd, "rejected"), (good, "pending")
    ]  # fmt: skip
    assert "request.resolved_time" in rows[0]["error"]
    assert "request.resolved_time" in rows[1]["error"]
    assert place.counts() == {"seen": 3, "already_there": 3}
    worker = start_worker()
    place.database.defer("reprocess", status="rejected")
    worker.wait_for_line("ticket_rejected", 2, within=20)


def test_half_a_character_holds_up_nothing(place: Place, start_worker: StartWorker) -> None:
    """ServiceDesk Plus leaves half a surrogate pair when it cuts a subject; JSON in UTF-8 cannot hold it."""
    [ticket_id] = place.sdp.add_resolved()
    place.sdp.edit(ticket_id, subject="Printer \ud83d", tags=["größer"])
    assert place.counts() == {"seen": 1, "appended": 1}
    place.promote(start_worker)
    assert place.history(ticket_id)["description"].startswith("Printer ?")
    assert place.history(ticket_id)["tags"] == ["größer"]


def test_statuses_are_named_by_a_setting(place: Place) -> None:
    place.settings = environments.load({**place.environment, "SDP_REQUESTS_PER_MINUTE": "6000", "RESOLVED_STATUSES": "Gelöst"})  # fmt: skip
    one, _other = place.sdp.add(), place.sdp.add_resolved()
    place.sdp.resolve(one, status="gelöst")
    assert place.counts() == {"seen": 1, "appended": 1}
    assert place.appended() == [one]


def test_a_dry_run_changes_nothing(place: Place) -> None:
    place.sdp.add_resolved(2)
    assert place.counts(is_dry=True) == {"seen": 2, "appended": 2}
    assert place.appended() == []
    assert place.database.query("SELECT * FROM sdp_cursors") == []


def test_a_run_that_may_not_take_long_goes_on_the_next_time(place: Place) -> None:
    ids = place.sdp.add_resolved(5)
    summary = place.run(seconds=0.0)
    assert (summary.seen, summary.is_complete, summary.error) == (0, False, None)
    place.sdp.before_answer = lambda asked: time.sleep(2.1) if asked.ticket_id == ids[2] else None
    summary = place.run(seconds=2.0)
    assert 1 <= summary.appended <= 3
    assert (summary.is_complete, summary.error) == (False, None)
    assert place.position() == int(place.sdp.ticket(ids[summary.appended - 1])["last_updated_time"]["value"])
    place.sdp.before_answer = lambda _asked: None
    place.counts()
    assert place.appended() == ids


def test_two_runs_at_once_are_one(place: Place) -> None:
    """A second run for the same tenant raises BusyError."""
    ids = place.sdp.add_resolved(10)

    async def both_runs() -> list[Any]:
        both = [runs.reconcile(place.settings, place.tenant.id) for _ in range(2)]
        return await asyncio.gather(*both, return_exceptions=True)

    results = asyncio.run(both_runs())
    assert sorted(type(one).__name__ for one in results) == ["BusyError", "Summary"]
    assert place.appended() == ids
    assert place.counts() == {"seen": 10, "already_there": 10}, "the run has released its lock"


def test_killed_in_the_middle_it_goes_on(place: Place) -> None:
    """SIGKILL while it waits for a ticket: each ticket that it appended is there once, and its lock is free."""
    ids = place.sdp.add_resolved(20)
    started: list[subprocess.Popen[bytes]] = []

    def kill(asked: Asked) -> None:
        if asked.ticket_id == ids[10]:
            started[0].send_signal(signal.SIGKILL)

    place.sdp.before_answer = kill
    command = [sys.executable, "-m", "app", "reconcile", "--tenant", place.tenant.id]
    env = {**place.environment, "SDP_REQUESTS_PER_MINUTE": "6000"}
    started.append(subprocess.Popen(command, env=env, preexec_fn=end_with_parent(signal.SIGKILL)))
    assert started[0].wait(30) == -signal.SIGKILL
    assert place.appended() == ids[:10]
    place.database.wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid IN (SELECT unnest(sessions) FROM leases)", 0, within=10)  # fmt: skip
    place.database.query("UPDATE leases SET expires_at = expires_at - interval '6 s'")  # as if they had passed
    place.sdp.before_answer = lambda _asked: None
    assert place.counts() == {"seen": 20, "already_there": 10, "appended": 10}
    assert place.appended() == ids


def test_postgres_that_goes_away_loses_nothing(place: Place) -> None:
    """The cursor moves only past what is committed."""
    ids = place.sdp.add_resolved(4)

    def cut(asked: Asked) -> None:
        if asked.ticket_id == ids[2]:
            place.database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ticket-inbox reconcile'"
            )

    place.sdp.before_answer = cut
    with pytest.raises(DatabaseError):
        place.run()
    assert place.appended() == ids[:2]
    place.sdp.before_answer = lambda _asked: None
    place.counts()
    assert place.appended() == ids


def test_an_import_goes_on_where_it_was_interrupted(place: Place) -> None:
    """It has a cursor of its own, and a lower priority than webhooks."""
    day = 86_400_000
    ids = place.sdp.add_resolved(6, at=place.sdp.now() - 6 * 30 * day, apart=30 * day)
    since = datetime.now(UTC) - timedelta(days=365)
    place.sdp.go_away_at(ids[3])
    assert place.import_since(since).failed == 1
    assert place.appended() == ids[:3]
    place.sdp.heal()
    place.sdp.asked.clear()
    assert place.import_since(since + timedelta(seconds=5)).appended == 3
    assert place.sdp.fetched() == ids[3:], "what was dealt with is not fetched again"
    assert place.appended() == ids
    assert {row["source"] for row in place.database.query("SELECT source FROM inbox")} == {"bulk_import"}
    assert place.database.value("SELECT max(priority) FROM procrastinate_jobs WHERE task_name = 'promote'") == -2
    [older] = place.sdp.add_resolved(at=place.sdp.now() - 500 * day)
    assert place.import_since(since - timedelta(days=300)).appended == 1, "an earlier --since begins again"
    assert place.appended()[-1] == older


def test_an_unknown_tenant_or_one_without_a_config(place: Place) -> None:
    for tenant_id in ("nobody", place.database.add_tenant(place.settings.secrets_key).id):
        with pytest.raises(runs.NotReconciledError, match="no ServiceDesk Plus is known"):
            asyncio.run(runs.reconcile(place.settings, tenant_id))


def test_workers_reconcile_all_tenants_although_one_fails(
    place: Place, database: Database, secrets_key: str, start_worker: StartWorker
) -> None:
    """One is away, no key reads another's credentials: a line for each. A third one is disabled and has no line."""
    with running_sdp() as away, running_sdp("cloud") as other:
        down, second = (settled(database, one, place.environment, secrets_key) for one in (away, other))
        lost, disabled = (settled(database, other, place.environment, secrets_key) for _ in range(2))
    away.heal()
    database.query("UPDATE sdp_configs SET credentials = 'gAAAA' WHERE tenant_id = %s", lost.tenant.id)
    database.query("UPDATE tenant_configs SET enabled = false WHERE tenant_id = %s", disabled.tenant.id)
    [ticket_id] = place.sdp.add_resolved()
    database.query("DELETE FROM sdp_configs WHERE tenant_id = %s", second.tenant.id)
    worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    database.defer("reconcile")
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)
    assert place.history(ticket_id)["source"] == "api_fallback"
    [line, *_] = worker.wait_for_line("reconciled")
    assert (line["tenant_id"], line["appended"], line["is_complete"]) == (place.tenant.id, 1, True)
    failed: dict[str, str] = {}
    deadline = time.monotonic() + 60
    while set(failed) != {down.tenant.id, lost.tenant.id}:
        assert time.monotonic() < deadline, worker.text()
        time.sleep(0.05)
        failed = {line["tenant_id"]: line["error"] for line in worker.lines("reconcile_failed")}
    assert "cannot be reached" in failed[down.tenant.id]
    assert "no key in SECRETS_KEY reads the credentials" in failed[lost.tenant.id]
    assert "traceback" not in worker.text()


def test_a_worker_does_it_every_five_minutes_and_first_of_all(place: Place, start_worker: StartWorker) -> None:
    """A worker that was away at the last due time does it when it starts."""
    assert jobs.app.periodic_registry.periodic_tasks["reconcile", ""].cron == "*/5 * * * *"
    [ticket_id] = place.sdp.add_resolved()
    start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    place.database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)
    assert place.appended() == [ticket_id]


def test_the_job_takes_a_tenant_and_a_time(place: Place, start_worker: StartWorker) -> None:
    [old] = place.sdp.add_resolved(at=place.sdp.now() - 40 * 86_400_000)
    worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    since = (datetime.now(UTC) - timedelta(days=50)).isoformat()
    place.database.defer("reconcile", tenant_id=place.tenant.id, since=since)
    place.database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)
    assert place.appended() == [old]
    for arguments in ({"tenant_id": "nobody"}, {"since": "soon"}, {"until": "now"}):
        place.database.defer("reconcile", **arguments)
    errors = {line["error"] for line in worker.wait_for_line("job_refused", 3, within=20)}
    assert any("no ServiceDesk Plus is known of an enabled tenant 'nobody'" in error for error in errors)
    assert any("there is no argument `until`; it takes tenant_id, and since" in error for error in errors)


def test_what_an_operator_asked_for_follows_a_run_under_way(place: Place, start_worker: StartWorker) -> None:
    held = "INSERT INTO leases (name, owner, expires_at) VALUES (%s, 'another', now() + interval '1 hour')"
    place.database.query(held, f"reconcile:{place.tenant.id}")
    worker = start_worker()
    job_id = place.database.defer("reconcile", tenant_id=place.tenant.id, since="2026-01-01T00:00:00Z")
    place.database.wait_for(
        f"SELECT status::text FROM procrastinate_jobs WHERE id = {job_id} AND attempts > 0 AND scheduled_at > now()"
        " UNION ALL SELECT '' LIMIT 1", "todo", within=20,
    )  # fmt: skip
    assert worker.lines("reconcile_skipped")
    assert not worker.lines("job_retried")


def test_a_worker_without_the_key_says_so_once(place: Place, start_worker: StartWorker) -> None:  # noqa: ARG001
    place.sdp.add_resolved()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KEY], env={**place.environment, "SECRETS_KEY": ""}, capture_output=True, text=True, check=True
    )  # fmt: skip
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("reconcile_failed", "error")
    assert line["error"].startswith("SECRETS_KEY is not set")
    assert place.appended() == []


def test_without_the_key_a_job_that_an_operator_deferred_fails_once(place: Place, start_worker: StartWorker) -> None:
    worker = start_worker(SECRETS_KEY="")
    place.database.defer("reconcile", tenant_id=place.tenant.id)
    [line] = worker.wait_for_line("job_refused", within=30)
    assert line["error"].startswith("SECRETS_KEY is not set in this worker's environment: no tenant's ServiceDesk Plus")
    failed = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reconcile' AND status = 'failed'"
    place.database.wait_for(failed, 1, within=10)
    assert "Traceback" not in worker.text()


WITHOUT_KEY = """
import asyncio
from otel import logs
from jobs import reconcile
logs.configure("info", "json")

async def twice():
    for due in (300, 600):
        await reconcile.reconcile.func(due)

asyncio.run(twice())
"""


OUTCOMES = ("seen", "appended", "gone", "rejected", "failed")


def counted(port: str, tenant_id: str) -> list[float]:
    """Return the counts by outcome from a worker's /metrics, and assert that they have the time of the run."""
    found = values(httpx.get(f"http://127.0.0.1:{port}/metrics", verify=False).text)
    assert found["ticket_inbox_reconciled_timestamp_seconds", (("tenant_id", tenant_id),)] > 0
    name = "ticket_inbox_reconciled_tickets_total"
    return [found[name, (("outcome", outcome), ("tenant_id", tenant_id))] for outcome in OUTCOMES]


def logged(worker: Worker) -> list[float]:
    """Return the sums of its log lines: beside the run that a test asks for, a worker does one that it has missed."""
    return [sum(line[outcome] for line in worker.lines("reconciled")) for outcome in OUTCOMES]


@both
def test_a_reconciled_ticket_is_traced_and_counted_without_a_token(place: Place, start_worker: StartWorker) -> None:
    """One trace from the API to the row, its correlation id, and counts by outcome are visible; no token is."""
    [ticket_id] = place.sdp.add_resolved()
    gone = place.sdp.add_resolved()[0]
    place.sdp.before_answer = lambda asked: place.sdp.delete(gone) if asked.ticket_id == gone else None
    with receiving_http() as receiver:
        port = str(free_port())
        worker = start_worker(
            **receiver.environment, SDP_REQUESTS_PER_MINUTE="6000", LOG_LEVEL="debug", WORKER_METRICS_PORT=port
        )
        place.database.defer("reconcile")
        place.database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)
        [row] = place.database.query("SELECT * FROM inbox")
        trace_id = row["traceparent"].split("-")[1]
        spans = receiver.wait_for_spans(3, trace_id=trace_id)
        first, *_ = worker.wait_for_line("reconciled")
        receiver.wait_until(lambda: counted(port, place.tenant.id) == logged(worker))
        assert worker.stop() == 0
        assert NEVER_SEEN.encode() not in receiver.raw()
    fetched, appended, promoted = spans
    assert [span.name for span in spans] == ["GET /api/v3/requests/{id}", "append inbox", "promote inbox"]
    assert (fetched.kind, appended.kind) == ("CLIENT", "PRODUCER")
    assert appended.parent_id == promoted.parent_id == fetched.id
    for span in spans:
        assert span.attributes["correlation_id"] == row["correlation_id"]
        assert (span.attributes["tenant_id"], span.attributes["ticket_id"]) == (place.tenant.id, ticket_id)
    assert [first[outcome] for outcome in OUTCOMES] == [2, 1, 1, 0, 0]
    [line] = worker.lines("ticket_fetched")
    assert (line["trace_id"], line["correlation_id"], line["inbox_id"]) == (trace_id, row["correlation_id"], row["id"])
    failed = receiver.spans(ticket_id=gone)
    assert [span.name.split("/")[3] for span in failed] == ["requests", "archive_requests"]
    assert all("4007" in (span.error or "") for span in failed)
    assert NEVER_SEEN not in worker.text()
    for table in ("sdp_configs", "sdp_cursors", "inbox", "procrastinate_jobs"):
        assert NEVER_SEEN not in str(place.database.query(f"SELECT * FROM {table}"))
