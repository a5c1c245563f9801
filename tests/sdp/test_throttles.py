"""ServiceDesk Plus that was asked too often is left alone, by every run, until its time is up; and it says so."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from app.sdp import client as clients
from app.sdp.answers import Answer, judge
from app.sdp.client import Patience
from app.sdp.errors import LONGEST_PAUSE, PAUSE, RefusedError, TransientError, retry_after
from tests.support.commands_in_process import invoke
from tests.support.fake_sdp_ways import THROTTLES
from tests.support.reconciled import Place, StartWorker

pytestmark = pytest.mark.one_postgres

WORDS = "it is not asked before"


@pytest.mark.parametrize("shape", THROTTLES)
def test_every_shape_of_a_throttle_asks_for_a_pause(shape: str) -> None:
    body = json.dumps(THROTTLES[shape]).encode()
    for headers, seconds in (({}, PAUSE), ({"retry-after": "soon"}, PAUSE), ({"retry-after": "7"}, 7.0)):
        with pytest.raises(TransientError, match="400 with 4015") as raised:
            judge(Answer(400, headers, body))
        assert raised.value.retry_after == seconds
    assert "No" not in str(raised.value) or shape == "second message"


@pytest.mark.parametrize(
    "body",
    [
        b'{"response_status": {"code": "4015"}}',
        b'{"error_code": 4015}',
        b'{"response_status": "4015"}',
        b'{"response_status": [{"status_code": 4000, "messages": ["4015: API rate limit reached"]}]}',
        b"<p>Error 4015</p>",
    ],
)
def test_so_does_a_shape_that_nobody_has_seen(body: bytes) -> None:
    with pytest.raises(TransientError) as raised:
        judge(Answer(400, {}, body))
    assert raised.value.retry_after == PAUSE


@pytest.mark.parametrize(
    "body",
    [
        b'{"response_status": {"status_code": 4000, "messages": [{"status_code": 4001, "message": "No ticket 4015"}]}}',
        b'{"response_status": {"status_code": 4000, "messages": [{"message": "No ticket 14015"}]}}',
        b'{"error_code": 4001}' + b" " * 4096 + b"4015",
    ],
)
def test_a_ticket_of_that_number_does_not(body: bytes) -> None:
    with pytest.raises(RefusedError):
        judge(Answer(400, {}, body))


@pytest.mark.parametrize(
    "messages",
    [
        {"status_code": "4001", "message": "Not so"},
        [{"status_code": "4001", "message": "Not so"}],
        [{"status_code": 4001}, {"message": "Not so"}],
        [None, 7, {"status_code": 4001, "message": "Not so"}],
        "Not so",
        ["Not so"],
    ],
    ids=str,
)
@pytest.mark.parametrize("code", [4000, "4000", " 4000"])
def test_the_reason_is_told_in_whatever_shape_it_comes(messages: object, code: object) -> None:
    status = {"status_code": code, "status": "failed", "messages": messages}
    for around in (status, [status]):
        with pytest.raises(RefusedError, match=r"400 with 400[01], 'Not so'"):
            judge(Answer(400, {}, json.dumps({"response_status": around}).encode()))
    with pytest.raises(RefusedError, match="400 with 4001, 'Not so'"):
        judge(Answer(400, {}, b'{"response_status": {"status_code": "4001", "message": "Not so"}}'))


@pytest.mark.parametrize("shape", ["object", "in messages"])
def test_no_run_asks_before_the_time_is_up(module_place: Place, shape: str) -> None:
    """Not the next one, not one by hand, not an import, not doctor; then it is asked again."""
    place = module_place
    place.clear()
    ids = place.sdp.add_resolved(3)
    place.sdp.fail("throttle", shape=shape, on=f"requests/{ids[1]}")
    first = place.run()
    assert (first.appended, first.failed, first.is_complete, first.adds_up) == (1, 1, False, True)
    assert "answered 400 with 4015" in (first.error or "")
    assert WORDS in (first.error or "")
    left = "SELECT extract(epoch FROM paused_until - now())::int FROM sdp_access"
    assert 270 < place.database.value(left) <= 300
    assert place.database.value("SELECT failing FROM sdp_cursors") == [], "it is no ticket's fault"
    asked = len(place.sdp.asked)
    for summary in (place.run(), place.run(since=datetime.now(UTC) - timedelta(days=1))):
        assert "answered 400 with 4015" in (summary.error or "")
    done = invoke(place.quick, "reconcile", "--tenant", place.tenant.id)
    assert (done.exit_code, WORDS in done.stderr) == (1, True)
    doctor = invoke(place.quick, "doctor", "--tenant", place.tenant.id, "--url", "http://127.0.0.1:1").stdout
    assert "note  ServiceDesk Plus was not asked: " in doctor
    assert len(place.sdp.asked) == asked
    place.database.query("UPDATE sdp_access SET paused_until = now()")
    assert place.counts() == {"seen": 3, "already_there": 1, "appended": 2}


def test_another_tenants_run_does_not_wait(module_place: Place) -> None:
    place = module_place
    place.clear()
    place.sdp.fail("throttle")
    assert WORDS in (place.run().error or "")
    place.database.query("UPDATE sdp_access SET paused_until = NULL")
    assert place.counts() == {}


def test_a_time_that_it_names_is_heeded_across_runs(module_place: Place) -> None:
    """Also with 429; but not for days, which would be a gateway's mistake."""
    place = module_place
    place.clear()
    for kind, asked, seconds in (("429", 90, 90), ("throttle", 40, 40), ("429", 10**6, LONGEST_PAUSE)):
        place.database.query("DELETE FROM sdp_access")
        place.sdp.fail(kind, retry_after=str(asked))
        assert WORDS in (place.run().error or "")
        left = place.database.value("SELECT extract(epoch FROM paused_until - now())::float FROM sdp_access")
        assert seconds - 30 < left <= seconds
    place.database.query("DELETE FROM sdp_access")
    place.sdp.fail("throttle", retry_after="0")
    assert place.counts() == {}, "it is asked again at once"
    assert retry_after({"retry-after": "9" * 30}) == LONGEST_PAUSE


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sdp.answers.PAUSE", 0.5)
    monkeypatch.setattr("app.sdp.tokens.PAUSE", 0.5)
    monkeypatch.setattr("app.sdp.tokens.EARLY", 0.5)
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (Patience(first_wait=0.001, longest_wait=0.2),))


@pytest.mark.usefixtures("short_pauses")
def test_an_import_waits_and_goes_on(module_place: Place) -> None:
    """It prints a line for each pause, whichever run was asked for it, and fetches each ticket once."""
    place = module_place
    place.clear()
    ids = place.sdp.add_resolved(3)
    place.sdp.fail("throttle", on=f"requests/{ids[1]}")
    since = datetime.now(UTC) - timedelta(days=2)
    pauses: list[str] = []
    summary = place.import_since(since, on_pause=lambda reason, _until: pauses.append(reason))
    assert (summary.appended, summary.error, summary.is_complete, summary.adds_up) == (3, None, True, True)
    assert place.appended() == ids
    assert [one.endswith("400 with 4015") for one in pauses] == [True]
    place.clear()
    place.sdp.add_resolved()
    place.sdp.fail("throttle")
    done = invoke(place.quick, "import", "--tenant", place.tenant.id, "--since", "2d")
    assert done.exit_code == 0, done.output
    [line] = done.stderr.splitlines()
    assert "with 4015: waiting until " in line
    assert "       1  appended to the inbox" in done.stdout.splitlines()


def test_what_an_operator_asked_for_waits_too(place: Place, start_worker: StartWorker) -> None:
    pause = "INSERT INTO sdp_access (tenant_id, paused_until, pause_reason) VALUES (%s, now() + interval '1 hour', 'w')"
    place.database.query(pause, place.tenant.id)
    [ticket_id] = place.sdp.add_resolved()
    worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    place.database.defer("reconcile", tenant_id=place.tenant.id, since="2026-01-01T00:00:00Z")
    worker.wait_for_line("reconcile_paused", within=40)
    assert place.sdp.asked == []
    place.database.query("UPDATE sdp_access SET paused_until = now()")
    place.database.wait_for("SELECT count(*) FROM inbox", 1, within=30)
    assert place.appended() == [ticket_id]
