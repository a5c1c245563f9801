"""Each trouble that the search table of docs/tracing.md names, made to happen on one server and one worker."""

import contextlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import psycopg

from db.tenants import Secrets
from tests import ROOT
from tests.support.fake_sdp import FakeSdp
from tests.support.system import Database, Server, Worker, running_server, running_worker

PAGE = ROOT / "docs/tracing.md"
ROW = re.compile(r"^\| ([^|`]+) \| (server|worker) \| (?:`([^`]+)`)? ?\| (?:`([^`]+)`)? ?\| (?:`([^`]+)`)? ?\|$", re.MULTILINE)  # fmt: skip
# As the page has them.
TICKET, CORRELATION_ID = "155000", "a055f9bd-d1ca-42b8-aec8-096a399f8552"
INBOX_ID, JOB_ID = 42, 17
SERVER = {"APPEND_TIMEOUT_SECONDS": "2", "MAX_BODY_BYTES": "20000"}
WORKER = {"SDP_REQUESTS_PER_MINUTE": "6000"}
BLOCKED = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO {}%%' AND datname = current_database()"  # fmt: skip
WRITING, PROMOTING = BLOCKED.format("inbox"), BLOCKED.format("ticket_history")
DISK_FULL = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON inbox FOR EACH ROW WHEN (NEW.source = 'api_fallback' OR NEW.ticket_id = 'large')
EXECUTE FUNCTION refuse()"""
PENDING = "SELECT count(*) FROM inbox WHERE status = 'pending'"

# What each row of the page finds: the webhooks by what happened to them.
FINDS = {
    "one ticket": {"well"},
    "one answer, by its correlation id": {"well"},
    "one tenant": {"well", "signature"},
    "one inbox row": {"well"},
    "one job": set(),  # those of the job with that id: a worker decides which
    "anything red in a server": {"away", "disk full"},
    "anything red in a worker": {"broken", "unlucky", "rejected", "unfetched", "unstored"},
    "refused: wrong signature, or unknown tenant": {"signature"},
    "refused: no JSON": {"malformed"},
    "refused: too large": {"too large"},
    "refused: wrong content type": {"wrong type"},
    "refused: breaks the schema (kept as rejected)": {"rejected"},
    "answered 503": {"away", "disk full"},
    "a failed append": {"away", "disk full"},
    "a failed statement": {"away", "disk full"},
    "a failed statement, of one kind": {"disk full"},
    "a failed job, which comes again": {"unlucky"},
    "a failed try of one webhook": {"unlucky"},
    "a row that failed for good": {"broken"},
    "rejected again when reprocessed": {"rejected"},
    "reprocessed": {"well", "rejected"},
    "stale: a newer event stood": {"stale"},
    "a slow request": {"away", "slow"},
    "a slow statement": {"away", "slow"},
    "stored later than a minute": {"late"},
    "a ticket that reconciliation could not fetch": {"unfetched"},
    "a ticket that reconciliation could not append": {"unstored"},
}


class Search(msgspec.Struct, frozen=True):
    """One row of the page's table: what to choose and to type in Jaeger."""

    trouble: str
    service: str
    operation: str
    tags: str
    min_duration: str

    @property
    def wanted(self) -> dict[str, str]:
        """The tags as Jaeger reads them: logfmt."""
        return dict(pair.split("=", 1) for pair in self.tags.split())


def searches() -> list[Search]:
    """Return the rows of the table."""
    section = PAGE.read_text().partition(". Search\n")[2].partition("\n## ")[0]
    return [Search(one[0], f"ticket-inbox-{one[1]}", *one[2:]) for one in ROW.findall(section)]


class Troubles:
    """The webhooks that were sent, by what happened to each; `of` names one by its correlation id or its ticket."""

    def __init__(self, database: Database, secrets_key: str, sdp: FakeSdp) -> None:
        self._database = database
        self.acme, self.globex = (database.add_tenant(secrets_key, name) for name in ("acme", "globex"))
        self.of: dict[str, str] = {}
        self.finds = dict(FINDS)
        database.query(f"ALTER TABLE inbox ALTER id RESTART WITH {INBOX_ID}")
        database.query(f"ALTER SEQUENCE procrastinate_jobs_id_seq RESTART WITH {JOB_ID}")
        encrypted = Secrets(secrets_key).encrypt(json.dumps(sdp.given))
        asked = "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES (%s, %s, %s, %s)"
        database.query(asked, self.globex.id, sdp.edition, sdp.url, encrypted)
        unfetched, unstored = sdp.add_resolved(2)
        sdp.fail("wrong", times=1000, on=f"/requests/{unfetched}")
        database.query(DISK_FULL)
        self.of |= {unfetched: "unfetched", unstored: "unstored"}

    def happen(self, env: dict[str, str], directory: Path) -> None:
        """Make all of it happen; then server and worker have ended, and exported everything."""
        with running_server({**env, **SERVER}, directory / "server.log") as server:
            self._send_well(server)
            self._be_refused(server)
            self._wait_for_postgres(server)
            with running_worker({**env, **WORKER}, directory / "worker.log") as worker:
                self._work(server, worker)
                assert worker.stop() == 0
            assert server.stop() == 0

    def _send_well(self, server: Server) -> None:
        body = self.acme.body(ticket_id=TICKET)
        self._note("well", server.post(body, self.acme.headers(body, **{"X-Correlation-ID": CORRELATION_ID})), 202)
        self._send(server, "newer", 202, ticket_id="twice", resolved_date="2026-02-01T00:00:00Z")
        self._send(server, "broken", 202)
        self._send(server, "late", 202)
        for change, what in (("payload = 'x'", "broken"), ("received_at = now() - interval '2 minutes'", "late")):
            self._database.query(f"UPDATE inbox SET {change} WHERE correlation_id = %s", self._id_of(what))

    def _be_refused(self, server: Server) -> None:
        body = self.acme.body()
        self._note("signature", server.post(body, self.globex.headers(body)), 401)
        self._note("malformed", server.post(b"{", self.globex.headers(b"{")), 400)
        self._note("wrong type", server.post(body, {"Content-Type": "text/plain"}), 415)
        self._send(server, "too large", 413, resolution="x" * 20_000)
        self._send(server, "rejected", 422, priority=7)

    def _wait_for_postgres(self, server: Server) -> None:
        """Refuse one for want of disk, hold a lock until the server gives one up, and a lock that one outlasts."""
        self._send(server, "disk full", 503, ticket_id="large")
        with self._locked("inbox"):
            self._send(server, "away", 503)
            self._database.wait_for(f"SELECT count(*) {WRITING}", 0, within=10)
        with ThreadPoolExecutor(1) as pool, self._locked("inbox"):
            sent = pool.submit(self._send, server, "slow", 202)
            self._database.wait_for(f"SELECT count(*) {WRITING}", 1, within=10)
            self._database.query("SELECT pg_sleep(1.1)")
        sent.result()

    def _work(self, server: Server, worker: Worker) -> None:
        self._database.wait_for(PENDING, 0, within=20)
        # Until it ends, this job takes over what comes.
        self._database.wait_for(f"SELECT count(*) FROM procrastinate_jobs WHERE id = {JOB_ID}", 0, within=20)
        rows = self._database.query("SELECT correlation_id FROM inbox WHERE job_id = %s", JOB_ID)
        assert rows
        # Two jobs at once may promote the older one first.
        self._send(server, "stale", 202, ticket_id="twice", resolved_date="2026-01-01T00:00:00Z")
        self.finds["one job"] = {self.of[row["correlation_id"]] for row in rows}
        again = [self._inbox_id("well"), self._inbox_id("rejected")]
        self._database.defer("reprocess", inbox_ids=again)
        self._database.wait_for("SELECT count(*) FROM inbox WHERE status = 'rejected' AND attempts = 1", 1, within=20)
        worker.wait_for_line("reconcile_failed", within=20)  # it reads ticket_history
        with self._locked("ticket_history"):
            self._send(server, "unlucky", 202)
            self._database.wait_for(f"SELECT count(*) {PROMOTING}", 1, within=10)
            self._database.query(f"SELECT pg_terminate_backend(pid) {PROMOTING}")
            worker.wait_for_line("job_retried")
        self._database.wait_for(PENDING, 0, within=20)

    @contextlib.contextmanager
    def _locked(self, table: str) -> Iterator[None]:
        with psycopg.connect(self._database.url) as holder:
            holder.execute(f"LOCK {table} IN ACCESS EXCLUSIVE MODE".encode())
            yield

    def _send(self, server: Server, what: str, status: int, **members: object) -> None:
        self._note(what, server.send(self.globex, **members), status)

    def _note(self, what: str, answer: httpx.Response, status: int) -> None:
        assert answer.status_code == status, answer.text
        self.of[answer.json()["correlation_id"]] = what

    def _id_of(self, what: str) -> str:
        return next(one for one, happened in self.of.items() if happened == what)

    def _inbox_id(self, what: str) -> int:
        return int(self._database.value("SELECT id FROM inbox WHERE correlation_id = %s", self._id_of(what)))
