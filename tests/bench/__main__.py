"""`uv run --group bench python -m tests.bench`: what is it worth, beside what a user would pick instead?

Every ratio is the median over rounds of one run each, one after the other. `--write` puts the table into
docs/performance.md. Under ten minutes.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from tests.bench import designs, parts
from tests.bench.parts import ROOT, Rig

if TYPE_CHECKING:
    from tests.parts import Server, Worker

PEERS = {"insert": "FastAPI + Pydantic + SQLAlchemy INSERT", "celery": "FastAPI + Pydantic + Celery + Redis"}
One = TypeVar("One")
Found = TypeVar("Found")
Row = tuple[str, str, str]  # what, figures, ratio


def main() -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    rows: list[Row] = []
    with parts.rig() as rig, designs.redis() as redis_url:
        designs.make_tables(rig)
        for row in itertools.chain(
            accepted(rig, redis_url, given.rounds, given.seconds),
            stored(rig, redis_url, given.rounds, given.seconds),
            steady(rig),
            promotion(rig),
        ):
            rows.append(row)
            print("  ".join(row), flush=True)
    if given.write:
        write(rows)


def accepted(rig: Rig, redis_url: str | None, rounds: int, seconds: float) -> Iterator[Row]:
    """Compare what each design accepts a second, without anybody promoting it."""
    with contextlib.ExitStack() as stack:
        ports = {"no-op": stack.enter_context(designs.noop()), "ours": stack.enter_context(designs.ours(rig))}
        ports["insert"] = stack.enter_context(designs.peer(rig, "fastapi_insert"))
        if redis_url:
            ports["celery"] = stack.enter_context(designs.peer(rig, "fastapi_celery", REDIS_URL=redis_url))
        found = in_turn(ports, rounds, lambda port: parts.load_port(port, rig.tenant, seconds))
    rates = {name: [run["per_second"] for run in runs] for name, runs in found.items()}
    yield ("accepted/s beside a no-op Litestar handler", figures(rates, "ours", "no-op"), ratio(rates, "ours", "no-op"))
    for name, title in PEERS.items():
        if name in rates:
            yield (f"accepted/s beside {title}", figures(rates, "ours", name), ratio(rates, "ours", name) + " x")
        else:
            yield (f"accepted/s beside {title}", "not measured: no redis-server here", "")
    latency = statistics.median(run["p99_ms"] for run in found["ours"])
    busy = max(run["busy"] for runs in found.values() for run in runs)
    yield ("accepted, p99 at full load", f"{latency:.0f} ms", "")
    yield ("load generator's share of a core at most", f"{busy:.2f}", "")


def stored(rig: Rig, redis_url: str | None, rounds: int, seconds: float) -> Iterator[Row]:
    """Compare what is received and stored a second at full load, until nothing waits."""
    measures: dict[str, Callable[[], float]] = {
        "no-op": lambda: noop_rate(rig, seconds),
        "ours": lambda: store(rig, seconds),
    }
    if redis_url:
        measures["celery"] = lambda: store_by_celery(rig, redis_url, seconds)
    rates = in_turn(measures, rounds, lambda measure: measure())
    yield (
        "received and stored/s beside the no-op handler",
        figures(rates, "ours", "no-op"),
        ratio(rates, "ours", "no-op"),
    )
    if redis_url:
        title = f"received and stored/s beside {PEERS['celery']} that upserts"
        yield (title, figures(rates, "ours", "celery"), ratio(rates, "ours", "celery") + " x")
    lag = rig.database.query(
        "SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM promoted_at - received_at)) AS at FROM inbox"
    )[0]["at"]
    yield ("receipt to stored at that load, median / p99", f"{lag[0] * 1000:.0f} / {lag[1] * 1000:.0f} ms", "")
    yield ("CPU a stored webhook: server + worker", cpu(rig, seconds), "")


def steady(rig: Rig) -> Iterator[Row]:
    """Measure the latencies at a thousand webhooks a minute, open loop."""
    empty(rig)
    with rig.server() as server, rig.worker():
        asyncio.run(parts.steadily(server, rig.tenant, 17, 3))
        after = rig.database.value("SELECT max(id) FROM inbox")
        taken = asyncio.run(parts.steadily(server, rig.tenant, 17, 30))
        rig.database.wait_for("SELECT count(*) FROM inbox WHERE status = 'pending'", 0, within=10)
    yield ("17 webhooks/s: accepted after", parts.percentiles(taken), "")
    lags = rig.database.query("SELECT extract(epoch FROM promoted_at - received_at)::float8 AS lag FROM inbox WHERE id > %s", after)  # fmt: skip
    yield ("17 webhooks/s: receipt to stored", parts.percentiles([row["lag"] for row in lags]), "")


def promotion(rig: Rig) -> Iterator[Row]:
    """Measure one worker on a backlog, the full-text index on."""
    empty(rig)
    with rig.server() as server:
        parts.load(server, rig.tenant, 6)
    rows = rig.database.value("SELECT count(*) FROM inbox")
    with rig.worker():
        began = time.perf_counter()
        rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=120)
    yield ("promotion alone, one worker", f"{rows / (time.perf_counter() - began):,.0f} rows/s", "")


def noop_rate(rig: Rig, seconds: float) -> float:
    with designs.noop() as port:
        return float(parts.load_port(port, rig.tenant, seconds)["per_second"])


def store(rig: Rig, seconds: float) -> float:
    empty(rig)
    with rig.server() as server, rig.worker():
        parts.load(server, rig.tenant, 1)
        return parts.received_and_stored(rig, server, seconds)


def store_by_celery(rig: Rig, redis_url: str, seconds: float) -> float:
    """Count what Celery has stored when the load ends: draining its queue would take minutes."""
    rig.database.query("TRUNCATE peer_ticket")
    with designs.celery_workers(rig, redis_url), designs.peer(rig, "fastapi_celery", REDIS_URL=redis_url) as port:
        began = time.perf_counter()
        parts.load_port(port, rig.tenant, seconds)
        count: int = rig.database.value("SELECT count(*) FROM peer_ticket")
        return count / (time.perf_counter() - began)


def cpu(rig: Rig, seconds: float) -> str:
    """Tell the processor time of our two processes for one webhook."""
    empty(rig)
    with rig.server() as server, rig.worker() as worker:
        parts.load(server, rig.tenant, 1)
        both: list[Server | Worker] = [server, worker]
        before = [process.cpu_seconds() for process in both]
        known = rig.database.value("SELECT count(*) FROM inbox")
        parts.received_and_stored(rig, server, seconds)
        count = rig.database.value("SELECT count(*) FROM inbox") - known
        spent = [process.cpu_seconds() - was for process, was in zip(both, before, strict=True)]
    return f"{spent[0] / count * 1e6:.0f} + {spent[1] / count * 1e6:.0f} µs"


def empty(rig: Rig) -> None:
    rig.database.query("TRUNCATE inbox, ticket_history, procrastinate_jobs CASCADE")


def in_turn(given: Mapping[str, One], rounds: int, measure: Callable[[One], Found]) -> dict[str, list[Found]]:
    """Measure each of `given` once a round."""
    found: dict[str, list[Found]] = {name: [] for name in given}
    for _ in range(rounds):
        for name, one in given.items():
            found[name].append(measure(one))
    return found


def figures(rates: Mapping[str, list[float]], one: str, other: str) -> str:
    return f"{statistics.median(rates[one]):,.0f} beside {statistics.median(rates[other]):,.0f}"


def ratio(rates: Mapping[str, list[float]], one: str, other: str) -> str:
    ratios = [mine / theirs for mine, theirs in zip(rates[one], rates[other], strict=True)]
    return f"{statistics.median(ratios):.2f}"


def write(rows: list[Row]) -> None:
    """Put the table between the marks in docs/performance.md."""
    page = ROOT / "docs/performance.md"
    before, rest = page.read_text().split("<!-- figures -->\n")[0], page.read_text().split("<!-- end -->")[1]
    table = "\n".join(
        ["| what | figures | ratio |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
    )
    page.write_text(f"{before}<!-- figures -->\n{table}\n\n{parts.machine()}.\n<!-- end -->{rest}")


if __name__ == "__main__":
    main()
