"""`python -m tests.bench.searching`: do webhooks keep their speed while others search?

Rounds of webhooks alone, and beside programs that each ask the next question when the last was answered; then webhooks
at half of their full rate, open loop, beside ten questions a second. On tickets of one tenant, 20,000 by default.
"""

import argparse
import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx

from app.search import PATH
from tests.bench import table, tickets, workbench
from tests.bench.workbench import Rig
from tests.support.questions import add_token
from tests.support.system import Database, Server

ADD = """
INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority)
SELECT 'acme', 'made-' || n, description, 'Solved.', now(), 'High'
FROM unnest(CAST(%s AS text[])) WITH ORDINALITY AS made (description, n)
"""


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--askers", type=int, default=8, help="programs that ask at once at full load")
    given = parser.parse_args()
    with workbench.rig() as rig:
        print(workbench.machine(rig.database))
        add_tickets(rig.database, given.tickets)
        token = add_token(rig.database, rig.tenant.id)
        with rig.server() as server, rig.worker():
            time.sleep(1.5)  # until the server knows the token
            alone = workbench.load(server, rig.tenant, given.seconds)["per_second"]
            print(f"webhooks alone: {alone:,.0f}/s", flush=True)
            full_load(rig, server, token, given)
            half_load(rig, server, token, alone / 2, given.seconds)


def add_tickets(database: Database, count: int) -> None:
    """Write tickets, and index their words."""
    database.query(ADD, [f"{tickets.description(60)}\n\n{tickets.description(400)}" for _ in range(count)])
    while database.value("SELECT search_index_batch(5000)"):
        pass


def full_load(rig: Rig, server: Server, token: str, given: argparse.Namespace) -> None:
    """Print how many webhooks a second were taken beside searches, and alone."""

    def measure(askers: int) -> tuple[float, Counter[int], list[float]]:
        rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=120)
        with asking(server, token, askers) as (answers, taken):
            found = workbench.load(server, rig.tenant, given.seconds)
        return found["per_second"], answers, taken

    found = table.in_turn({"alone": 0, "beside": given.askers}, given.rounds, measure)
    rates = {name: [one[0] for one in runs] for name, runs in found.items()}
    words, ratio = table.compared(rates, "beside", "alone")
    answers: Counter[int] = sum((one[1] for one in found["beside"]), Counter())
    print(f"at full load: {words}, ratio {ratio:.2f}; questions answered {dict(answers)}", flush=True)


def half_load(rig: Rig, server: Server, token: str, rate: float, seconds: float) -> None:
    """Print what webhooks and questions took at half of the full rate, with ten questions a second."""
    rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=120)
    with asking(server, token, 1, pause=0.1) as (answers, taken):
        found: dict[str, Any] = workbench.load(server, rig.tenant, seconds, rate)
    shown = {name: value for name, value in found.items() if name not in ("answers", "by_answer")}
    print(f"at {rate:,.0f} webhooks/s: {shown}")
    print(f"questions: {dict(answers)}, {workbench.percentiles(taken)}")


@contextlib.contextmanager
def asking(server: Server, token: str, askers: int, pause: float = 0) -> Iterator[tuple[Counter[int], list[float]]]:
    """Ask from `askers` connections in a thread of its own until the block ends; yield the statuses and the times."""
    answers, taken, ended = Counter[int](), list[float](), threading.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        while not ended.is_set():
            began = time.perf_counter()
            question = {"subject": tickets.description(60), "description": tickets.description(250)}
            answer = await client.post(PATH, json=question, headers={"Authorization": f"Bearer {token}"})
            answers[answer.status_code] += 1
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(max(0, pause - (time.perf_counter() - began)))

    async def run() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client, asyncio.TaskGroup() as group:
            for _ in range(askers):
                group.create_task(ask(client))

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    try:
        yield answers, taken
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
