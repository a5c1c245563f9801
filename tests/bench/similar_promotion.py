"""`python -m tests.bench.similar_promotion [BEFORE]`: what does the index of words cost promotion?

First batches of 500 are promoted in one process, with and without the triggers of ticket_history in turn. Then, if
there is one, comes BEFORE, the folder of a checkout of a version without them, with its own .venv (`git worktree add
BEFORE COMMIT`, and `uv sync` there): both versions run in turn, each round on a new Postgres: one worker promotes a
backlog, and then server and worker are at full load for some seconds. Prints each round, and the medians of the ratios.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import inbox
from tests import ROOT
from tests.bench import promoting, workbench
from tests.bench.workbench import Rig

SIZE, BATCHES, WARM_UP = 500, 40, 2
DUE = "SELECT count(*) FROM search_due"
# Runs in a checkout, with its Python, and prints what `once` returns; a version before has neither module nor table.
PROGRAM = """
import importlib.util, json, pathlib, sys
file = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("similar_promotion", file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module.once(float(sys.argv[2]))))
"""


def main() -> None:
    """Print the rounds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of load, twice in each round (default: 8)")
    given = parser.parse_args()
    with workbench.rig("autovacuum=off") as rig:
        for line in asyncio.run(by_batch(rig)):
            print(line, flush=True)
    if given.before:
        for line in beside(given.before.resolve(), given.rounds, given.seconds):
            print(line, flush=True)


async def by_batch(rig: Rig) -> list[str]:
    """Promote batches with and without the triggers in turn; return what a row costs, in µs."""
    from jobs import promote  # noqa: PLC0415  (importing it reads the environment)

    engine = engines.create_engine(rig.database.url, "bench", 2, 30)
    found: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    for number in range(WARM_UP + BATCHES):
        for state, times in found.items():
            rig.database.query(f"ALTER TABLE ticket_history {state} TRIGGER USER")
            ids = await appended(engine, rig)
            began = time.perf_counter()
            await promote.promote_batch(engine, ids)
            if number >= WARM_UP:
                times.append((time.perf_counter() - began) / SIZE * 1e6)
    await engine.dispose()
    with_, without = (statistics.median(times) for times in found.values())
    return [f"batches of {SIZE}: {with_:.0f} µs a row, {without:.0f} without triggers: {without / with_:.2f} of before"]


async def appended(engine: AsyncEngine, rig: Rig) -> list[int]:
    """Append one batch, and return its inbox ids."""
    async with engines.connection(engine) as connection:
        batch = [promoting.delivery(rig) for _ in range(SIZE)]
        return [one or 0 for one in await inbox.append(connection, batch)]


def beside(before: Path, rounds: int, seconds: float) -> Iterator[str]:
    """Yield the rounds' figures in both versions, and the medians of their ratios."""
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        old, new = (run(directory, seconds) for directory in (before, ROOT))
        for name, rate in new.items():
            if name in old:
                ratios.setdefault(name, []).append(rate / old[name])
        yield f"before {old} after {new}"
    for name, each in ratios.items():
        yield f"{name}: {statistics.median(each):.2f} of before ({min(each):.2f} to {max(each):.2f})  0.95 / 0.85"


def run(directory: Path, seconds: float) -> dict[str, float]:
    """Measure once in a checkout, with its own Python."""
    python = directory / ".venv/bin/python"
    arguments = [str(python), "-c", PROGRAM, __file__, str(seconds)]
    done = subprocess.run(arguments, cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def once(seconds: float) -> dict[str, float]:
    """Return the rows/s of one worker on a backlog, and those received and stored; seconds until all words are there.

    Also the rows for each second of processor time, of ours and of Postgres: neighbours change that less.
    """
    with workbench.rig() as rig:
        found = alone(rig, seconds)
        workbench.empty(rig.database)
        with rig.server() as server, rig.worker() as worker:
            workbench.load(server, rig.tenant, 1)
            processes = (rig.postgres, server.process.pid, worker.process.pid)
            before, began = sum(map(workbench.cpu_seconds, processes)), time.perf_counter()
            rate = workbench.received_and_stored(rig, server, seconds)
            rows = rate * (time.perf_counter() - began)
            found["received and stored"] = rate
            found["… for each second of processor"] = rows / (sum(map(workbench.cpu_seconds, processes)) - before)
            if rig.database.value("SELECT to_regclass('search_due') IS NOT NULL"):
                found["seconds until the words are there"] = until_indexed(rig)
    return found


def alone(rig: Rig, seconds: float) -> dict[str, float]:
    """Return the rows/s of one worker that finds what a server received in that time, and per second of processor."""
    with rig.server() as server:
        workbench.load(server, rig.tenant, seconds)
    rows = int(rig.database.value("SELECT count(*) FROM inbox"))
    with rig.worker() as worker:
        processes = (rig.postgres, worker.process.pid)
        before, began = sum(map(workbench.cpu_seconds, processes)), time.perf_counter()
        rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=300)
        rate = rows / (time.perf_counter() - began)
        spent = sum(map(workbench.cpu_seconds, processes)) - before
    return {"promotion alone": rate, "… rows for each second of processor": rows / spent}


def until_indexed(rig: Rig) -> float:
    """Return the seconds from now until no ticket's words are due, beside the worker that makes them."""
    began = time.perf_counter()
    rig.database.wait_for(DUE, 0, within=300)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
