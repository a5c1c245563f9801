"""Whole walk of reconciling: a ticket without a webhook, or with a lost one, is in ticket_history too."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.system import Database, Server, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

TICKETS = 90
SECONDS = 9.0  # during which technicians resolve tickets
AWAY = (3.0, 6.0)  # ServiceDesk Plus is away from and until, in seconds
KILLED = (2.0, 5.0)  # when the worker is killed, in seconds
SENT = {"dropped": 0, "once": 1, "twice": 2}


@pytest.fixture
def sdp() -> Iterator[FakeSdp]:
    with running_sdp("on_premises") as one:
        yield one


@pytest.fixture
def acme(sdp: FakeSdp, database: Database, secrets_key: str, environment: dict[str, str], tmp_path: Path) -> Tenant:
    """A tenant with a ServiceDesk Plus that ticket-inbox may ask."""
    tenant = database.add_tenant(secrets_key)
    credentials = tmp_path / "credentials"
    credentials.write_text(json.dumps(sdp.given))
    arguments = ["--edition", "on_premises", "--url", sdp.url, "--credentials-file", str(credentials)]
    done = run(["tenant", "sdp", "set", tenant.id, *arguments], environment)
    assert done.returncode == 0, done.stderr
    return tenant


class Technicians(threading.Thread):
    """Resolve random tickets, some twice, and send no webhook for a third of them, one for a third, two for a third."""

    def __init__(self, sdp: FakeSdp, server: Server, acme: Tenant, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._sdp, self._server, self._acme, self._rng = sdp, server, acme, rng
        self.sent: list[str] = []
        self.statuses: set[int] = set()

    def run(self) -> None:
        ids = [self._sdp.add(f"Ticket {number}") for number in range(TICKETS)]
        work = ids + self._rng.sample(ids, TICKETS // 3)
        for number, ticket_id in enumerate(work):
            self._sdp.resolve(ticket_id, resolution=f"Mended by turn {number}.")
            self._send(ticket_id)
            time.sleep(SECONDS / len(work))

    def _send(self, ticket_id: str) -> None:
        how = self._rng.choice(list(SENT))
        self.sent.append(how)
        body = json.dumps({"tenant_id": self._acme.id, "request": self._sdp.ticket(ticket_id)}).encode()
        for _ in range(SENT[how]):
            self.statuses.add(self._server.post(body, self._acme.headers(body)).status_code)


def test_a_third_of_the_webhooks_lost_a_third_doubled_servicedesk_away_and_the_worker_killed_twice(
    database: Database,
    start_server: Callable[..., Server],
    start_worker: Callable[..., Worker],
    sdp: FakeSdp,
    acme: Tenant,
) -> None:
    """At the end ticket_history agrees with ServiceDesk Plus: each ticket once, with its newest values."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  (pytest shows it if the test fails)
    worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
    technicians = Technicians(sdp, start_server(), acme, random.Random(seed))
    began = time.monotonic()
    technicians.start()
    for moment in sorted([*KILLED, *AWAY, *range(1, int(SECONDS))]):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        if moment == AWAY[0]:
            sdp.fail("hang_up", times=10**6)
        elif moment == AWAY[1]:
            sdp.heal()
        elif moment in KILLED:
            worker.process.kill()
            worker.process.wait()
            worker = start_worker(SDP_REQUESTS_PER_MINUTE="6000")
        database.defer("reconcile")  # a worker does this every five minutes by itself
    technicians.join(60)
    assert technicians.statuses == {202}
    assert set(technicians.sent) == set(SENT)
    wanted = {ticket_id: expected(sdp.ticket(ticket_id)) for ticket_id in sdp.ids()}
    deadline = time.monotonic() + 90
    while (found := stored(database)) != wanted and time.monotonic() < deadline:
        database.defer("reconcile")
        time.sleep(1)
    assert found == wanted
    assert database.value("SELECT count(*) FROM ticket_history") == TICKETS
    sources = {row["source"] for row in database.query("SELECT DISTINCT source FROM ticket_history")}
    assert sources == {"webhook_resolved", "api_fallback"}
    database.wait_for("SELECT count(*) FROM inbox WHERE status <> 'promoted'", 0, within=30)


def expected(ticket: dict[str, object]) -> tuple[str, int]:
    """Return the values that must be stored for a ticket: its resolution, and when it was resolved."""
    resolution, moment = ticket["resolution"], ticket["resolved_time"]
    assert isinstance(resolution, dict)
    assert isinstance(moment, dict)
    return resolution["content"].removeprefix("<div>").removesuffix("</div>"), int(moment["value"])


def stored(database: Database) -> dict[str, tuple[str, int]]:
    rows = database.query("SELECT ticket_id, resolution, resolved_date FROM ticket_history")
    return {row["ticket_id"]: (row["resolution"], round(row["resolved_date"].timestamp() * 1000)) for row in rows}
