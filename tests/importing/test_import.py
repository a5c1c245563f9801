"""ticket-inbox import --file: both formats, bad lines, interruptions, and the tickets that stand in the end."""

import asyncio
import csv
import fcntl
import io
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.event.rules import Rules
from app.importing import append as appending
from app.importing import ticket_file
from app.importing.append import Tally
from app.importing.ticket_file import Line
from db import engine as engines
from db import queue
from tests import ROOT
from tests.support.commands_in_process import run_here
from tests.support.system import Database, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

PAGE = (ROOT / "docs/bulk-import.md").read_text()
ROWS = "SELECT * FROM inbox ORDER BY id"
ACME = Tenant("acme", "secret")
WHOLE = ["1", "VPN drops", "every hour", "fixed", "2026-01-31T09:30:00Z", "High", ""]  # a row
HEADER = ["ticket_id", "subject", "description", "resolution", "resolved_date", "priority", "tags"]


@pytest.fixture
def acme(database: Database, secrets_key: str) -> Tenant:
    return database.add_tenant(secrets_key, "acme")


@pytest.fixture
def import_(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Import `content` for acme from a file of that name, in this process; some tests below start one of their own."""

    def imported(content: bytes, *more: str, name: str = "f.jsonl", **changes: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_bytes(content)
        return run_here(["import", "--tenant", "acme", "--file", name, *more], {**environment, **changes}, tmp_path)

    return imported


def lines_of(tenant: Tenant, count: int, **members: object) -> bytes:
    return b"".join(tenant.body(ticket_id=str(number), **members) + b"\n" for number in range(1, count + 1))


def csv_of(*rows: list[str], delimiter: str = ",", header: list[str] = HEADER) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    return text.getvalue()


def read(content: bytes, form: str, limit: int = 1024 * 1024) -> tuple[list[bytes], list[str]]:
    """Return the payloads of a file of acme's, and the errors for its bad lines."""
    lines = ticket_file.Lines(io.BufferedReader(io.BytesIO(content)), limit)
    reported: list[str] = []
    given = appending.batches(
        ticket_file.payloads(lines, form, "acme", limit), appending.imported_file("acme", None), Tally(), Rules(10_000),
        lambda line, error: reported.append(f"{line.number} to {line.last}: {error}"),
    )  # fmt: skip
    return [delivery.payload for batch in given for delivery in batch], reported


def history(database: Database, ticket_id: str) -> dict[str, Any]:
    [row] = database.query("SELECT * FROM ticket_history WHERE ticket_id = %s", ticket_id)
    return row


def wait_until_promoted(database: Database) -> None:
    database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=20)


def test_json_lines_are_kept_byte_for_byte_and_stored(
    database: Database,
    acme: Tenant,
    import_: Callable[..., Any],
    start_worker: Callable[..., Worker],
    environment: dict[str, str],
) -> None:
    """With a byte order mark, CRLF, blank lines, and no line end at the end; the tenant has sent no webhook."""
    first, second = acme.body(ticket_id="1"), acme.body(ticket_id="2", subject="Zürich “naïve”")
    database.query("UPDATE tenant_configs SET enabled = false")
    done = import_(b"\xef\xbb\xbf" + first + b"\r\n\r\n  " + second)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 lines read: 2 appended, 0 skipped\n"
    one, other = database.query(ROWS)
    assert (one["payload"], other["payload"]) == (first, second)
    assert (one["source"], one["signature"], one["tenant_id"], one["ticket_id"]) == ("bulk_import", "", "acme", "1")
    prefix, _, line = other["correlation_id"].rpartition("-")
    assert (one["correlation_id"], line) == (f"{prefix}-0000000001", "0000000003")
    assert database.query("SELECT priority FROM procrastinate_jobs") == [{"priority": queue.BULK_PRIORITY}]
    assert queue.BULK_PRIORITY < queue.OVER_SHARE_PRIORITY

    start_worker()
    wait_until_promoted(database)
    assert history(database, "2")["source"] == "bulk_import"
    reported = run(["trace", "1"], environment).stdout
    assert "  imported, promoted (inserted) in " in reported
    assert "verified" not in reported


def test_the_files_that_the_page_shows_are_imported(
    database: Database, acme: Tenant, import_: Callable[..., Any], start_worker: Callable[..., Worker]
) -> None:
    assert acme.id == "acme"
    start_worker()
    for name in ticket_file.FORMATS:
        [block] = re.findall(rf"^```{name}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        done = import_(block.encode(), name=f"f.{name}")
        assert (done.returncode, done.stdout) == (0, "2 lines read: 2 appended, 0 skipped\n")
    wait_until_promoted(database)
    found = database.query("SELECT description, resolved_date, tags FROM ticket_history ORDER BY ticket_id")
    assert [row["tags"] for row in found] == [["vpn"], [], ["access", "badge"], ["storage"]]
    assert found[1]["description"] == "Printer\n\nBlank pages."
    assert found[2]["description"].endswith('says "no".\nIt said "yes" yesterday.')
    assert len({row["resolved_date"] for row in found}) == 1


def test_a_line_without_a_tenant_gets_the_one_that_was_named(
    database: Database, acme: Tenant, import_: Callable[..., Any]
) -> None:
    own = b'{ "ticket_id":"1" , ' + acme.body(tenant_id=..., ticket_id=...)[1:]
    nested = b'{"more":{"tenant_id":"other"},' + acme.body(tenant_id=...)[1:]
    assert import_(own + b"\n" + nested).returncode == 0
    payloads = [row["payload"] for row in database.query(ROWS)]
    assert payloads == [b'{"tenant_id":"acme",' + line[1:].lstrip() for line in (own, nested)]


BAD_LINES = {
    b'{"tenant_id": "other"}': "tenant_id must be 'acme', not 'other'",
    b'{"tenant_id": null}': "tenant_id must be a string of 1 to 100 characters",
    b'{"tenant_id": 7, "ticket_id": "1"}': "tenant_id must be a string of 1 to 100 characters",
    b"{}": "ticket_id is missing",
    b'{"ticket_id": " "}': "ticket_id must be a string of 1 to 100 characters, not only white space",
    b"[]": "it is not an object",
    b'{"a": "\xe4"}': "it is not UTF-8",
    b'{"ticket_id": "1"': "it is not JSON",
    b'{"a":' + b"[" * 100_000: "it is nested too deeply",
}


def test_bad_lines_are_reported_with_their_numbers_and_skipped(
    database: Database, acme: Tenant, import_: Callable[..., Any]
) -> None:
    content = acme.body() + b"\n\n" + b"\n".join(BAD_LINES) + b"\n" + acme.body() + b"\n"
    done = import_(content)
    *reported, last = done.stderr.splitlines()
    assert last.startswith("Error: bad lines were skipped")
    assert len(reported) == len(BAD_LINES)
    for number, (line, words) in enumerate(zip(reported, BAD_LINES.values(), strict=True), 3):
        assert line.startswith(f"line {number}: {words}"), line
    assert done.stdout == f"{len(BAD_LINES) + 2} lines read: 2 appended, {len(BAD_LINES)} skipped\n"
    assert done.returncode == 1
    assert database.value("SELECT count(*) FROM inbox") == 2
    dry = import_(content, "--dry-run", DATABASE_URL="postgresql://127.0.0.1:1/x", SECRETS_KEY="")
    assert (dry.returncode, dry.stderr) == (1, done.stderr)
    assert dry.stdout == done.stdout.replace("appended", "good")


def test_max_errors_stops_with_what_was_good_before(
    database: Database, acme: Tenant, import_: Callable[..., Any]
) -> None:
    content = acme.body() + b"\nx\n" + acme.body() + b"\nx\n" + acme.body()
    done = import_(content, "--max-errors", "1")
    assert (done.returncode, done.stdout) == (1, "4 lines read: 2 appended, 2 skipped\n")
    assert done.stderr.endswith("Error: stopped: more than 1 lines are bad (--max-errors)\n")
    assert database.value("SELECT count(*) FROM inbox") == 2
    assert import_(content, "--max-errors", "2").stdout.startswith("5 lines read: 2 there before, 1 appended")


@pytest.mark.parametrize("form", ticket_file.FORMATS)
def test_a_line_that_is_too_long_is_passed_over(form: str) -> None:
    """The lines after it are read; a line of exactly the limit is not too long."""
    good = ACME.body()
    rows = [good[:-1] + b" " * (1024 - len(good)) + b"}", b"x" * 5000, b"x" * 1025, good]
    if form == "csv":
        rows = csv_of(WHOLE, ["x" * 5000], ["x" * 1500], WHOLE).encode().splitlines()
    payloads, reported = read(b"\n".join(rows), form, 1024)
    first = 2 if form == "jsonl" else 3
    assert len(payloads) == 2
    assert reported == [f"{n} to {n}: it is longer than 1,024 bytes (MAX_BODY_BYTES)" for n in (first, first + 1)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_as_a_program_or_excel_writes_it(delimiter: str, mark: bytes) -> None:
    """Columns may come in any order, one is not ours, tags may be missing: each row becomes a JSON object."""
    whole = ["1", "VPN; “drops”, often", 'It says "no".\r\nAgain.', "fixed\t", "2026-01-31 09:30:00Z", "High", "a; b ;"]
    header = ["Note", *(name.title() for name in reversed(HEADER))]
    rows = [["x", *reversed(whole)], ["", "", *reversed(["2", *whole[1:6]])], [""] * 8]
    rows += [["", '["x;y", "z"]', *reversed(["3", *whole[1:6]])]]
    payloads, reported = read(mark + csv_of(*rows, delimiter=delimiter, header=header).encode(), "csv")
    found = [json.loads(payload) for payload in payloads]
    assert reported == []
    assert [one.pop("tags") for one in found] == [["a", "b"], [], ["x;y", "z"]]
    assert found == [{"tenant_id": "acme", **dict(zip(HEADER, [one, *whole[1:6]], strict=False))} for one in "123"]


def test_bad_rows_of_csv_are_reported_with_their_lines() -> None:
    rows = [
        ('1,"two\nlines"', "2 to 3: it has 2 values for 8 columns"),
        (",".join([*WHOLE[:4], "31.01.2026", "High", "", "acme"]), "4 to 4: resolved_date must be a date and time"),
        (",".join([*WHOLE, "other"]), "5 to 5: tenant_id must be 'acme', not 'other'"),
        (
            ",".join([*WHOLE[:6], "[1]", ""]),
            "6 to 6: tags must be texts with ; between them, or a JSON array of strings",
        ),
        (",".join([*WHOLE[:6], "\udce4", ""]), "7 to 7: it is not UTF-8 (in Excel, save as “CSV UTF-8”)"),
        ('"a"b', "8 to 8: it is no row of CSV: ',' expected after '\"'"),
        (",".join([*WHOLE, "acme"]), None),
        ('"never closed', "10 to 10: it is no row of CSV: unexpected end of data"),
    ]
    header = ",".join([*HEADER, "tenant_id"])
    content = "\n".join([header, *(row for row, _ in rows)]).encode(errors="surrogateescape")
    payloads, reported = read(content, "csv")
    expected = [words for _, words in rows if words]
    assert len(payloads) == 1
    assert len(reported) == len(expected)
    assert all(line.startswith(words) for line, words in zip(reported, expected, strict=True)), reported


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the first line must name the columns, in UTF-8: ticket_id, "),
        ("ticket_id\n".encode("utf-16"), "the first line must name the columns, in UTF-8: "),
        (b"ticket_id,subject\n", "description, resolution, resolved_date, priority is missing"),
        (",".join([*HEADER, "tags"]).encode(), "the first line names a column twice: tags"),
    ],
)
def test_csv_needs_a_header(content: bytes, words: str) -> None:
    with pytest.raises(ticket_file.FileError, match=re.escape(words)):
        read(content, "csv")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tenant", "acme"], 2, "give --file"),
        (["--tenant", "acme", "--file", "f.txt"], 2, "give --format"),
        (["--tenant", "acme", "--file", "gone.jsonl"], 2, "No such file or directory"),
        (["--tenant", "acme", "--file", "f.csv"], 1, "Error: the first line must name the columns"),
        (
            ["--tenant", "nobody", "--file", "f.csv"],
            1,
            "Error: there is no such tenant: see `ticket-inbox tenant list`",
        ),
    ],
)
def test_an_import_that_cannot_begin_says_why_in_one_line(
    arguments: list[str], code: int, words: str, acme: Tenant, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("f.txt", "f.csv"):
        (tmp_path / name).write_bytes(acme.body())
    done = run_here(["import", *arguments], environment, tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr.splitlines()[-1]
    assert code == 2 or done.stderr.count("\n") == 1


def test_without_postgres_it_says_so_in_one_line(import_: Callable[..., Any]) -> None:
    done = import_(b"{}\n", DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: Postgres cannot be reached: ")
    assert done.stderr.endswith("0 lines were appended: run the same command again, and it appends what is not there\n")


def test_a_pipe_can_be_imported(database: Database, acme: Tenant, environment: dict[str, str]) -> None:
    arguments = ["import", "--tenant", "acme", "--file", "-", "--format", "jsonl"]
    done = run(arguments, environment, given=acme.body().decode() + "\n")
    assert (done.returncode, done.stdout) == (0, "1 lines read: 1 appended, 0 skipped\n")
    assert run(["import", "--tenant", "acme", "--file", "-"], environment, given="").returncode == 2
    assert database.value("SELECT correlation_id FROM inbox").startswith("import-")


def test_importing_twice_does_no_harm(
    database: Database, acme: Tenant, import_: Callable[..., Any], start_worker: Callable[..., Worker]
) -> None:
    """The same bytes are the same file under any name; changed bytes are another file."""
    start_worker()
    content = lines_of(acme, 3)
    import_(content)
    wait_until_promoted(database)
    before = history(database, "2")
    done = import_(content, name="other.jsonl")
    assert done.stderr == "the inbox has lines of this file: they are passed over (unless --again)\n"
    assert done.stdout == "3 lines read: 3 there before, 0 appended, 0 skipped\n"
    assert import_(content, "--again").stdout == "3 lines read: 3 appended, 0 skipped\n"
    assert import_(b"\n" + content).stdout == "3 lines read: 3 appended, 0 skipped\n"
    wait_until_promoted(database)
    assert database.value("SELECT count(*) FROM inbox") == 9
    after = history(database, "2")
    moved = {"inbox_id", "ingested_at", "updated_at"}
    assert {name for name, value in after.items() if value != before[name]} == moved


def test_a_line_that_a_setting_made_bad_is_appended_when_it_is_good(
    database: Database, acme: Tenant, import_: Callable[..., Any]
) -> None:
    content = acme.body(description="long" * 10) + b"\n" + acme.body(description="short") + b"\n"
    assert import_(content, MAX_DESCRIPTION_CHARS="39").stdout == "2 lines read: 1 appended, 1 skipped\n"
    assert import_(content).stdout == "2 lines read: 1 there before, 1 appended, 0 skipped\n"
    lines = database.query("SELECT right(correlation_id, 2) AS line FROM inbox ORDER BY id")
    assert [row["line"] for row in lines] == ["02", "01"]


def test_another_tenant_may_have_the_same_file(
    database: Database, acme: Tenant, import_: Callable[..., Any], secrets_key: str
) -> None:
    content = acme.body(tenant_id=...) + b"\n"
    database.add_tenant(secrets_key, "globex")
    import_(content)
    assert import_(content, "--tenant", "globex").stdout == "1 lines read: 1 appended, 0 skipped\n"


def test_what_stands_is_newer_or_as_old(
    database: Database, acme: Tenant, import_: Callable[..., Any], start_worker: Callable[..., Worker]
) -> None:
    """A webhook came on the 15th; the file has tickets of a day before, of the same second, and of a day after."""
    start_worker()
    database.deliver(*[acme.payload(ticket_id=number, resolved_date="2026-01-15T00:00:00Z") for number in "123"])
    wait_until_promoted(database)
    dates = {"1": "2026-01-14T23:59:59Z", "2": "2026-01-15T01:00:00+01:00", "3": "2026-01-16T00:00:00Z"}
    content = [acme.body(ticket_id=one, resolved_date=date, resolution="file") for one, date in dates.items()]
    import_(b"\n".join(content))
    wait_until_promoted(database)
    actions = database.query("SELECT action FROM inbox WHERE source = 'bulk_import' ORDER BY id")
    assert [row["action"] for row in actions] == ["stale", "updated", "updated"]
    assert [history(database, one)["source"] for one in dates] == ["webhook_resolved", "bulk_import", "bulk_import"]
    assert [history(database, one)["resolution"] == "file" for one in dates] == [False, True, True]


def test_ctrl_c_ends_an_import_that_waits_for_a_silent_pipe(acme: Tenant, environment: dict[str, str]) -> None:
    arguments = [sys.executable, "-m", "app", "import", "--tenant", acme.id, "--file", "-", "--format", "jsonl"]
    silent, end = os.pipe()
    with subprocess.Popen(arguments, env=environment, stdin=silent, stderr=subprocess.PIPE, text=True) as process:
        try:
            os.write(end, b"\n")
            wait_until_taken(silent)
            process.send_signal(signal.SIGINT)  # by now it waits for the next line
            _, reported = process.communicate(timeout=10)
        finally:
            process.kill()
            os.close(silent)
            os.close(end)
    assert process.returncode == 130
    assert "interrupted; 0 lines were appended" in reported
    assert "Traceback" not in reported


def wait_until_taken(pipe: int) -> None:
    """Wait until the process that reads from a pipe has emptied it."""
    deadline = time.monotonic() + 20
    while fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("way", ["killed in a statement", "interrupted", "session ended"])
def test_what_was_interrupted_goes_on_and_no_line_is_there_twice(
    way: str, database: Database, acme: Tenant, environment: dict[str, str], tmp_path: Path
) -> None:
    """The import pauses after two of four batches, because too many rows wait to be promoted."""
    file = tmp_path / "f.jsonl"
    file.write_bytes(lines_of(acme, 1000) + b"bad\n" + lines_of(acme, 2000)[len(lines_of(acme, 1000)) :])
    database.query(waiting(appending.AHEAD - 2))
    arguments = [sys.executable, "-m", "app", "import", "--tenant", "acme", "--file", str(file)]
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        database.wait_for("SELECT count(*) FROM inbox", 1000, within=20)
        INTERRUPTIONS[way](database, process)
        _, reported = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    *_, last = reported.splitlines() or [""]
    assert (process.returncode == -signal.SIGKILL) == (way == "killed in a statement")
    if way != "killed in a statement":
        assert process.returncode == (130 if way == "interrupted" else 1)
        assert last.endswith("1,000 lines were appended: run the same command again, and it appends what is not there")
        assert "Traceback" not in reported
    database.wait_for(SESSIONS, 0, within=10)
    there = database.value("SELECT count(*) FROM inbox")
    database.query("DELETE FROM procrastinate_jobs")
    database.query("UPDATE leases SET expires_at = expires_at - interval '6 s'")  # as if they had passed

    done = run(arguments[3:], environment)
    assert done.stdout == f"2,001 lines read: {there:,} there before, {2000 - there:,} appended, 1 skipped\n"
    assert (done.returncode, "line 1001: it is not JSON" in done.stderr) == (1, True)
    assert database.value("SELECT count(DISTINCT ticket_id)::text || count(*) FROM inbox") == "20002000"


def waiting(jobs: int) -> str:
    """Return a statement that defers this number of an import's jobs."""
    job = f"ROW('promote', 'promote', {queue.BULK_PRIORITY}, NULL, NULL, '{{}}'::jsonb, NULL)::procrastinate_job_to_defer_v1"
    return f"SELECT procrastinate_defer_jobs_v1(array_fill({job}, ARRAY[{jobs}]))"


SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ticket-inbox command' AND datname = current_database()"


def kill_in_a_statement(database: Database, process: subprocess.Popen[str]) -> None:
    """Kill it while the third batch waits for a lock: it cannot know whether Postgres commits that batch."""
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE inbox IN SHARE MODE")
        database.query("DELETE FROM procrastinate_jobs WHERE args = '{}'")
        database.wait_for(f"{SESSIONS} AND wait_event_type = 'Lock'", 1, within=20)
        process.kill()
        process.wait()


INTERRUPTIONS: dict[str, Callable[[Database, subprocess.Popen[str]], object]] = {
    "killed in a statement": kill_in_a_statement,
    "interrupted": lambda _database, process: process.send_signal(signal.SIGINT),
    "session ended": lambda database, _process: database.query(
        SESSIONS.replace("count(*)", "pg_terminate_backend(pid)")
    ),
}


def test_a_bar_on_a_terminal_leaves_the_bad_lines_readable(
    acme: Tenant, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "f.jsonl").write_bytes(lines_of(acme, 600) + b"bad\n")
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "app", "import", "--tenant", "acme", "--file", "f.jsonl", "--dry-run"]
    process = subprocess.Popen(
        arguments, env={**environment, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path
    )
    os.close(theirs)
    reported = b"".join(chunks(ours)).decode()
    assert process.communicate(timeout=20)[0] == b"601 lines read: 600 good, 1 skipped\n"
    assert re.search(r"import .*100%", reported)
    assert "\r\x1b[Kline 601: it is not JSON" in reported


def chunks(descriptor: int) -> Iterator[bytes]:
    """Yield the output on a terminal until no process holds its other end."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            break
        if not chunk:
            break
        yield chunk
    os.close(descriptor)


def test_it_says_that_promotion_does_not_catch_up(
    database: Database, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The import goes on once there is room."""
    monkeypatch.setattr(appending, "STUCK", 0)
    database.query(waiting(appending.AHEAD))
    where, tally, reported = appending.imported_file(acme.id, None), Tally(), []
    given = appending.batches([Line(1, 1, acme.body())], where, tally, Rules(), lambda *_: None)

    def on_stuck(rows: int) -> None:
        reported.append((rows, tally.appended))
        database.query("DELETE FROM procrastinate_jobs WHERE id = (SELECT min(id) FROM procrastinate_jobs)")

    async def append() -> None:
        engine = engines.create_engine(database.url, "test", 1, 30.0)
        try:
            async with (
                engines.connection(engine) as connection,
                appending.turn(database.url, connection, where, None) as lease,
            ):
                await appending.append(connection, given, tally, on_stuck, lease, is_known=False)
        finally:
            await engine.dispose()

    asyncio.run(append())
    assert reported == [(appending.AHEAD * queue.JOB_ROWS, 0)]
    assert tally.appended == database.value("SELECT count(*) FROM inbox") == 1


def test_no_more_than_a_batch_is_in_memory() -> None:
    """The file never ends; a batch is bounded by its rows and by its bytes."""
    for resolution, rows in (("short", queue.JOB_ROWS), ("x" * 1024 * 1024, queue.JOB_BYTES // (1024 * 1024))):
        payload = ACME.body(resolution=resolution)
        lines = (Line(number, number, payload) for number in itertools.count(1))
        given = appending.batches(lines, appending.imported_file("acme", "0"), Tally(), Rules(), lambda *_: None)
        assert [len(next(given)) for _ in range(3)] == [rows] * 3
