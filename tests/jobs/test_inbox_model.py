"""The same inbox ends in the same tickets, in any order, repeated, by several workers, interrupted anywhere."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import hypothesis
import psycopg
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.event.characters import tidy
from db import engine as engines
from db import failures
from db.selection import Selection
from db.ticket_history import has_text
from jobs import promote, reprocess
from jobs.reprocess import Progress
from tests.support.system import Database, Tenant, appended

TICKETS = st.sampled_from(["1", "2"])
DATES = st.sampled_from([f"2026-01-0{day}T00:00:00Z" for day in (1, 2)])
TEXTS = st.sampled_from(["text", "", "\xa0\u200b\n"])  # the last two say nothing
PICKS = st.lists(st.integers(0, 40), min_size=1, max_size=8)
ACME = Tenant("acme", "secret")
Order = tuple[str, bool, int]  # the date, whether the resolution has text, the inbox id


class Model:
    """Promotion in plain Python: the newest event wins, and the first one promoted sets the description."""

    def __init__(self) -> None:
        self.standing: dict[str, Order] = {}
        self.described: dict[str, set[str]] = {}

    def promote(self, ticket: str, date: str, text: str, inbox_id: int) -> None:
        self.standing[ticket] = max(self.standing.get(ticket, ("", False, 0)), (date, text == "text", inbox_id))

    def describe(self, ticket: str, first: set[str]) -> None:
        self.described.setdefault(ticket, first)


class Inbox(RuleBasedStateMachine):
    """Deliveries, promotions, crashes, reprocessing and imports, in any order."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.database.query("TRUNCATE inbox, ticket_history, procrastinate_jobs RESTART IDENTITY CASCADE")
        self.runner = asyncio.Runner()
        self.engine = engines.create_engine(self.database.url, "test", 4, 30.0)
        self.sends: dict[int, tuple[str, str, str]] = {}  # ticket, date and text of each good delivery, by inbox id
        self.model = Model()
        self.kill_in: int | None = None  # statements
        for name in ("before_cursor_execute", "commit"):
            sa.event.listen(self.engine.sync_engine, name, self._kill_session)

    def teardown(self) -> None:
        self.kill_in = None
        self._promote(list(self.sends))
        self._matches()
        self._run(self.engine.dispose())
        self.runner.close()

    @rule(ticket=TICKETS, date=DATES, text=TEXTS)
    def deliver(self, ticket: str, date: str, text: str) -> None:
        number = len(self.sends) + 1
        resolution = _resolution(text, number)
        payload = ACME.payload(ticket_id=ticket, resolved_date=date, subject=f"{number}", resolution=resolution)
        [inbox_id] = self.runner.run(appended(self.engine, payload))
        self.sends[inbox_id] = (ticket, date, text)

    @rule(ticket=TICKETS, date=DATES, texts=st.lists(TEXTS, min_size=2, max_size=2))
    def send_the_resolution_by_a_call_of_its_own(self, ticket: str, date: str, texts: list[str]) -> None:
        """Promote a delivery before the next one of the very same date comes."""
        self.deliver(ticket, date, texts[0])
        self._promote([max(self.sends)])
        self.deliver(ticket, date, texts[1])

    @rule(status=st.sampled_from(["pending", "rejected"]))
    def deliver_what_breaks_the_rules(self, status: str) -> None:
        body = json.dumps(ACME.payload(resolved_date="soon")).encode()
        self.database.query(
            "INSERT INTO inbox (tenant_id, correlation_id, payload, signature, status) VALUES ('acme', 'c', %s, 's', %s)",
            body,
            status,
        )

    @rule(ticket=TICKETS, date=DATES, text=TEXTS)
    def import_in_bulk(self, ticket: str, date: str, text: str) -> None:
        done = self.database.query(
            "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority, source) "
            "VALUES ('acme', %s, 'theirs', %s, %s, 'theirs', 'bulk_import') ON CONFLICT DO NOTHING RETURNING id",
            ticket,
            _resolution(text, 0),
            date,
        )
        if done:
            self.model.promote(ticket, date, text, 0)
            self.model.describe(ticket, {"theirs"})

    @precondition(lambda self: self.sends)
    @rule(picks=PICKS)
    def promote_a_batch(self, picks: list[int]) -> None:
        self._promote(self._ids(picks))

    @precondition(lambda self: self.sends)
    @rule(batches=st.lists(PICKS, min_size=2, max_size=4))
    def promote_batches_at_once(self, batches: list[list[int]]) -> None:
        together = [self._ids(picks) for picks in batches]
        pending = self._pending({inbox_id for ids in together for inbox_id in ids})

        async def all_of_them() -> None:
            await asyncio.gather(*(promote.promote_batch(self.engine, ids) for ids in together))

        self._run(all_of_them())
        for ticket in {self.sends[inbox_id][0] for inbox_id in pending}:
            self.model.describe(ticket, {str(self._number(one)) for one in pending if self.sends[one][0] == ticket})
        self._promoted(pending)

    @precondition(lambda self: self.sends)
    @rule(picks=PICKS, statements=st.integers(1, 9))
    def lose_the_session_in_a_batch(self, picks: list[int], statements: int) -> None:
        """Kill the session before one of its statements or its commit; a higher number kills nothing."""
        self.kill_in = statements
        try:
            self._promote(self._ids(picks))
        except failures.DatabaseError:
            assert self.kill_in == 0
        finally:
            self.kill_in = None

    @precondition(lambda self: self.sends)
    @rule(
        status=st.sampled_from(["pending", "promoted", "failed", "rejected", None]),
        picks=PICKS,
        rows=st.integers(1, 60),
    )
    def reprocess_some(self, status: str | None, picks: list[int], rows: int) -> None:
        ids = sorted(set(self._ids(picks)))[:rows]
        selection = Selection(status=status, inbox_ids=ids)
        chosen = {row["id"] for row in self.database.query("SELECT id FROM inbox WHERE id = ANY(%s) AND coalesce(status = %s, true)", ids, status)}  # fmt: skip
        pending = self._pending(chosen)
        self._run(reprocess.promote_chunk(self.engine, selection, Progress(0, max(ids))))
        self._describe(pending)
        self._promoted(sorted(chosen))

    def _ids(self, picks: list[int]) -> list[int]:
        known = list(self.sends)
        return [known[pick % len(known)] for pick in picks]

    def _pending(self, ids: set[int]) -> list[int]:
        found = self.database.query(
            "SELECT id FROM inbox WHERE id = ANY(%s) AND status = 'pending' ORDER BY id", list(ids)
        )
        return [row["id"] for row in found]

    def _promote(self, ids: list[int]) -> None:
        pending = self._pending(set(ids))
        self._run(promote.promote_batch(self.engine, ids))
        self._describe(pending)
        self._promoted(pending)

    def _describe(self, pending: list[int]) -> None:
        for inbox_id in pending:
            self.model.describe(self.sends[inbox_id][0], {str(self._number(inbox_id))})

    def _promoted(self, ids: list[int]) -> None:
        for inbox_id in ids:
            self.model.promote(*self.sends[inbox_id], inbox_id)
        self._matches()

    def _matches(self) -> None:
        rows = self.database.query(
            "SELECT *, to_char(resolved_date AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS date FROM ticket_history"
        )
        wanted = {ticket: (date, inbox_id) for ticket, (date, _, inbox_id) in self.model.standing.items()}
        assert {row["ticket_id"]: (row["date"], row["inbox_id"] or 0) for row in rows} == wanted
        for row in rows:
            inbox_id = row["inbox_id"]
            assert row["source"] == ("webhook_resolved" if inbox_id else "bulk_import")
            assert has_text(row["resolution"]) == self.model.standing[row["ticket_id"]][1]
            assert not inbox_id or row["resolution"] == tidy(
                _resolution(self.sends[inbox_id][2], self._number(inbox_id))
            )
            assert row["description"].split("\n")[0] in self.model.described[row["ticket_id"]]

    def _number(self, inbox_id: int) -> int:
        return list(self.sends).index(inbox_id) + 1

    def _run(self, what: Coroutine[Any, Any, object]) -> None:
        self.runner.run(what)

    def _kill_session(self, connection: sa.Connection, *_: object) -> None:
        if self.kill_in is None or self.kill_in == 0:
            return
        self.kill_in -= 1
        if self.kill_in == 0:
            process_id = connection.connection.driver_connection.get_server_pid()  # type: ignore[union-attr]
            with psycopg.connect(self.database.url, autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s, 5000)", [process_id])


def _resolution(text: str, number: int) -> str:
    """Return the resolution of the delivery `number`, 0 for an import: one that no other has, or none."""
    return str(number) if text == "text" else text


def test_the_inbox_converges(database: Database) -> None:
    """Run forty inboxes of some steps each; `--hypothesis-profile=nightly` runs thousands."""
    machine = type("InboxHere", (Inbox,), {"database": database})
    profile = hypothesis.settings()
    few = hypothesis.settings(max_examples=min(profile.max_examples, 40), stateful_step_count=15)
    with database.on_one_connection():
        run_state_machine_as_test(machine, settings=profile if profile.max_examples > 100 else few)
