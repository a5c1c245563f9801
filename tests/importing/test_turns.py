"""One import of a file runs at a time, and each shows that it goes on."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.commands import progress, reconcile
from app.event.rules import Rules
from app.importing import append as appending
from app.importing import ticket_file
from app.importing.ticket_file import Line
from app.sdp.summary import Summary
from db import engine as engines
from db import leases
from db.inbox import Delivery
from tests.importing.test_import import lines_of, waiting
from tests.support.commands_in_process import run_here
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

OTHER = "process 4711 on elsewhere"


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


@contextlib.contextmanager
def importing(file: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "app", "import", "--tenant", "acme", "--file", str(file)]
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_import_of_a_file_waits_for_the_first(
    database: Database, acme: Tenant, environment: dict[str, str], tmp_path: Path
) -> None:
    """The first pauses after one of two batches, because too many rows wait to be promoted."""
    file = tmp_path / "f.jsonl"
    file.write_bytes(lines_of(acme, 1000))
    database.query(waiting(appending.AHEAD - 1))
    with importing(file, environment) as first:
        database.wait_for("SELECT count(*) FROM inbox", 500, within=20)
        with importing(file, environment) as second:
            assert second.stderr is not None
            said = second.stderr.readline()
            assert f"another import of this file is under way, by process {first.pid} on " in said
            assert said.endswith(": waiting for its end\n")
            database.query("DELETE FROM procrastinate_jobs")
            assert first.communicate(timeout=30)[0] == "1,000 lines read: 1,000 appended, 0 skipped\n"
            printed, _ = second.communicate(timeout=30)
    assert printed == "1,000 lines read: 1,000 there before, 0 appended, 0 skipped\n"
    assert database.value("SELECT count(*) FROM inbox") == 1000
    assert database.value("SELECT count(*) FROM leases") == 0


def test_without_waiting_it_stops_and_another_file_is_imported_meanwhile(
    database: Database, acme: Tenant, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "f.jsonl").write_bytes(lines_of(acme, 1))
    with (tmp_path / "f.jsonl").open("rb") as file:
        name = appending.imported_file("acme", ticket_file.fingerprint(file)).lease
    database.query("INSERT INTO leases (name, owner, expires_at) VALUES (%s, %s, now() + interval '1 h')", name, OTHER)
    done = run_here(["import", "--tenant", "acme", "--file", "f.jsonl", "--no-wait"], environment, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"Error: another import of this file is under way, by {OTHER}, since ")
    assert done.stderr.endswith("wait for its end, and run this again\n")
    (tmp_path / "g.jsonl").write_bytes(lines_of(acme, 2))
    done = run_here(["import", "--tenant", "acme", "--file", "g.jsonl", "--no-wait"], environment, tmp_path)
    assert done.stdout == "2 lines read: 2 appended, 0 skipped\n"


def test_an_import_that_was_taken_over_appends_nothing_more(database: Database, acme: Tenant) -> None:
    """It was frozen for longer than its lease lasts, and another import of the file has begun."""
    where, tally = appending.imported_file(acme.id, "0"), appending.Tally()
    lines = [Line(number, number, acme.body()) for number in range(1, 1001)]

    def given() -> Iterator[list[Delivery]]:
        for batch in appending.batches(lines, where, tally, Rules(), lambda *_: None):
            yield batch
            database.query("UPDATE leases SET owner = %s", OTHER)

    async def append() -> None:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            async with (
                engines.connection(engine) as connection,
                appending.turn(database.url, connection, where, None) as lease,
            ):
                await appending.append(connection, given(), tally, None, lease, is_known=False)
        finally:
            await engine.dispose()

    with pytest.raises(leases.LostError):
        asyncio.run(append())
    assert tally.appended == database.value("SELECT count(*) FROM inbox") == 500
    assert database.value("SELECT owner FROM leases") == OTHER, "it deletes no lease of another"


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the pipe that it reads is silent."""
    monkeypatch.setattr(progress, "EVERY", 0.05)
    pipe = tmp_path / "f.jsonl"
    os.mkfifo(pipe)

    def write_late() -> None:
        with pipe.open("wb") as end:
            end.write(b"bad\n")
            end.flush()
            time.sleep(1)

    writer = threading.Thread(target=write_late)
    writer.start()
    done = run_here(["import", "--tenant", "acme", "--file", str(pipe), "--dry-run"], environment)
    writer.join()
    assert done.stderr.count("1 lines read: 0 good, 1 skipped\n") >= 2


def test_a_run_that_asks_servicedesk_plus_says_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    said, deadline = "", time.monotonic() + 10
    with reconcile.progress() as on_progress:
        on_progress(summary := Summary(listed=1_000, total=2_500))
        summary.appended = 7
        while "1,000 of 2,500 tickets listed, 7 appended to the inbox\n" not in said:
            assert time.monotonic() < deadline
            said += capsys.readouterr().err
            time.sleep(0.05)
