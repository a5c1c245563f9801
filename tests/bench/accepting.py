"""How many webhooks a second does each design accept, without a worker that promotes them?"""

import contextlib
import statistics
from collections.abc import Iterator
from typing import Any

from tests.bench import designs, plots, table, workbench
from tests.bench.designs import Redis
from tests.bench.table import Row
from tests.bench.workbench import Rig

PEERS = {"insert": "FastAPI + Pydantic + SQLAlchemy INSERT", "celery": "FastAPI + Pydantic + Celery + Redis"}


def beside_others(rig: Rig, redis: Redis | None, rounds: int, seconds: float) -> Iterator[Row]:
    """Compare how many webhooks one server process of each design accepts at full load."""
    with contextlib.ExitStack() as stack:
        known = {"no-op": stack.enter_context(designs.noop()), "ours": stack.enter_context(designs.ours(rig))}
        known["insert"] = stack.enter_context(designs.peer(rig, "fastapi_insert"))
        if redis:
            known["celery"] = stack.enter_context(designs.peer(rig, "fastapi_celery", REDIS_URL=redis.url))
        found = table.in_turn(known, rounds, lambda one: workbench.load_port(one.port, rig.tenant, seconds))
    rates = {name: [run["per_second"] for run in runs] for name, runs in found.items()}
    words, ratio = table.compared(rates, "ours", "no-op")
    yield Row("accepted/s beside a no-op Litestar handler", words, f"{ratio:.2f}", "0.85 / 0.60")
    for name, title in PEERS.items():
        if name in rates:
            words, ratio = table.compared(rates, "ours", name)
            yield Row(f"accepted/s beside {title}", words, f"{ratio:.1f} x", "7 x / 5 x")
        else:
            yield Row(f"accepted/s beside {title}", "not measured: no redis-server here")
    yield Row(
        "accepted at full load, median / p99",
        f"{median(found['ours'], 'p50_ms')} / {median(found['ours'], 'p99_ms')} ms",
    )
    busy = max(run["busy"] for runs in found.values() for run in runs)
    yield Row("load generator's share of a core at most", f"{busy:.2f}")
    plots.designs({PEERS.get(name, name): runs for name, runs in found.items()})


def by_processes(rig: Rig, rounds: int, seconds: float) -> Iterator[Row]:
    """Compare two server processes on one port with one."""
    with rig.server() as one, rig.server(processes=2) as two:
        runs = table.in_turn(
            {"one": one, "two": two}, rounds, lambda server: workbench.load(server, rig.tenant, seconds)
        )
    words, ratio = table.compared(
        {name: [run["per_second"] for run in taken] for name, taken in runs.items()}, "two", "one"
    )
    yield Row("accepted/s by two server processes beside one", words, f"{ratio:.2f}")


def median(runs: list[dict[str, Any]], name: str) -> str:
    return f"{statistics.median(run[name] for run in runs):.0f}"
