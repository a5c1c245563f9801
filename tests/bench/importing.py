"""`python -m tests.bench.importing`: how many rows a second does an import append, and does it slow webhooks down?

It is compared with programs that a user would write: COPY, and an INSERT with executemany, of the same lines into the
same table, without validation or jobs. A minute or two; `--rows` and `--rounds` make it shorter.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import psycopg

from tests.bench import workbench
from tests.bench.workbench import Rig
from tests.support.system import Server

RATE = 17  # webhooks a second: a thousand a minute
INTO = "inbox (source, tenant_id, ticket_id, correlation_id, traceparent, payload, signature)"
Row = tuple[str, str, str, str, str, bytes, str]


def main() -> None:
    """Print the medians of all rounds, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="lines of the file (default: 50,000)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with workbench.rig() as rig, tempfile.TemporaryDirectory() as directory:
        file = write(rig, Path(directory) / "tickets.jsonl", given.rows)
        print(workbench.machine(rig.database), f"{given.rows:,} lines of {workbench.BODY} bytes", sep=", ")
        found = rounds(rig, file, given.rows, given.rounds)
        import_ = statistics.median(found["import"])
        for name, rates in found.items():
            each = ", ".join(f"{rate:,.0f}" for rate in sorted(rates))
            print(f"{name}: {each} rows/s; import is {import_ / statistics.median(rates):.2f} of it")
        beside(rig, file, given.rows)


def write(rig: Rig, file: Path, rows: int) -> Path:
    """Write `rows` tickets of the tenant as JSON lines."""
    with file.open("wb") as lines:
        lines.writelines(workbench.body_of(rig.tenant) + b"\n" for _ in range(rows))
    return file


def rounds(rig: Rig, file: Path, rows: int, count: int) -> dict[str, list[float]]:
    """Return the rows a second of each, interleaved, from a command's start to its end; no worker runs meanwhile."""
    ways = {"import": lambda rig, file: command(rig, file, "--no-wait"), "COPY": copy, "executemany": executemany}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            workbench.empty(rig.database)
            began = time.perf_counter()
            way(rig, file)
            found[name].append(rows / (time.perf_counter() - began))
            assert rig.database.value("SELECT count(*) FROM inbox") == rows
    workbench.empty(rig.database)
    return found


def command(rig: Rig, file: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    """Run `ticket-inbox import`."""
    arguments = ["import", "--tenant", rig.tenant.id, "--file", str(file), *more]
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], env=rig.environment({}), check=True, stdout=subprocess.DEVNULL
    )


def copy(rig: Rig, file: Path) -> None:
    """Append all lines by COPY in one transaction."""
    with (
        psycopg.connect(rig.database.url) as connection,
        connection.cursor().copy(f"COPY {INTO} FROM STDIN") as copying,
        file.open("rb") as lines,
    ):
        for line in lines:
            copying.write_row(row(line))


def executemany(rig: Rig, file: Path) -> None:
    """Append the lines by INSERT, five hundred a commit."""
    with psycopg.connect(rig.database.url) as connection, connection.cursor() as cursor, file.open("rb") as lines:
        while rows := [row(line) for _, line in zip(range(500), lines, strict=False)]:
            cursor.executemany(f"INSERT INTO {INTO} VALUES (%s, %s, %s, %s, %s, %s, %s)", rows)
            connection.commit()


def row(line: bytes) -> Row:
    """Return the row that the import would append for a line."""
    ticket = msgspec.json.decode(line)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    return ("bulk_import", ticket["tenant_id"], ticket["ticket_id"], ticket["ticket_id"], traceparent, line.strip(), "")


def beside(rig: Rig, file: Path, rows: int) -> None:
    """Print how long new webhooks take, alone and while an import uses the same Postgres and worker."""
    with rig.server() as server, rig.worker():
        asyncio.run(workbench.steadily(server, rig.tenant, RATE, 3))
        for name, more in (("alone", None), ("beside an import", []), ("beside one that does not wait", ["--no-wait"])):
            workbench.empty(rig.database)
            accepted, seconds = traffic(rig, server, file, more)
            rig.database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=600)
            stored = rig.database.query(
                "SELECT extract(epoch FROM promoted_at - received_at)::float8 AS seconds FROM inbox "
                "WHERE source = 'webhook_resolved'")  # fmt: skip
            lag = workbench.percentiles([row["seconds"] for row in stored])
            pace = f"; {rows / seconds:,.0f} rows/s into the inbox" if more is not None else ""
            print(
                f"webhooks {name}: accepted {workbench.percentiles(accepted)}, stored {lag}, {len(stored)} webhooks{pace}"
            )


def traffic(rig: Rig, server: Server, file: Path, more: list[str] | None) -> tuple[list[float], float]:
    """Send webhooks while an import runs, or for some seconds; return the seconds to each 202, and the import's."""
    accepted: list[float] = []
    ends = threading.Event()

    def send() -> None:
        while not ends.is_set():
            accepted.extend(asyncio.run(workbench.steadily(server, rig.tenant, RATE, 1)))

    sending = threading.Thread(target=send)
    sending.start()
    began = time.perf_counter()
    if more is None:
        time.sleep(10)
    else:
        command(rig, file, *more)
    took = time.perf_counter() - began
    ends.set()
    sending.join()
    return accepted, took


if __name__ == "__main__":
    main()
