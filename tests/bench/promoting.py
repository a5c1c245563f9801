"""How fast is promotion alone, and what does a row cost by the size of its batch?"""

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Iterator

from sqlalchemy.ext.asyncio import AsyncEngine

from db import engine as engines
from db import inbox
from db.inbox import Delivery
from tests.bench import plots, workbench
from tests.bench.table import Row
from tests.bench.workbench import Rig

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
ROWS = 1500  # of each size at most
BATCHES = 60  # of each size at most


def alone(rig: Rig) -> Iterator[Row]:
    """Measure one worker on a backlog, the full-text index on."""
    workbench.empty(rig.database)
    with rig.server() as server:
        workbench.load(server, rig.tenant, 8)
    rows = rig.database.value("SELECT count(*) FROM inbox")
    with rig.worker():
        began = time.perf_counter()
        rig.database.wait_for("SELECT EXISTS (SELECT FROM inbox WHERE status = 'pending')", wanted=False, within=120)
    yield Row("promotion alone, one worker", f"{rows / (time.perf_counter() - began):,.0f} rows/s", "", "8,000 / 5,000")


def by_batch(rig: Rig) -> Iterator[Row]:
    """Measure append and promotion, each in one commit, by the size of the batch."""
    workbench.empty(rig.database)
    costs = asyncio.run(_costs(rig))
    plots.batches(costs)
    for size in (1, 50, 500):
        append, promote = costs[size]
        yield Row(f"in batches of {size}: append, promote", f"{append:.0f}, {promote:.0f} µs a row")


async def _costs(rig: Rig) -> dict[int, tuple[float, float]]:
    engine = engines.create_engine(rig.database.url, "bench", 2, 30)
    try:
        return {size: await _cost(engine, rig, size) for size in SIZES}
    finally:
        await engine.dispose()


async def _cost(engine: AsyncEngine, rig: Rig, size: int) -> tuple[float, float]:
    """Return the median µs for one row to be appended, and to be promoted."""
    from jobs import promote  # noqa: PLC0415  (importing it reads the environment)

    append, promotion = [], []
    for _ in range(min(BATCHES, max(5, ROWS // size))):
        deliveries = [delivery(rig) for _ in range(size)]
        began = time.perf_counter()
        async with engines.connection(engine) as connection:
            ids = [one or 0 for one in await inbox.append(connection, deliveries)]
        appended = time.perf_counter()
        await promote.promote_batch(engine, ids)
        append.append(appended - began)
        promotion.append(time.perf_counter() - appended)
    return statistics.median(append) / size * 1e6, statistics.median(promotion) / size * 1e6


def delivery(rig: Rig) -> Delivery:
    """Return a delivery of a new ticket of the rig's tenant."""
    body = workbench.body_of(rig.tenant)
    return Delivery(
        tenant_id=rig.tenant.id, ticket_id=json.loads(body)["ticket_id"], correlation_id=str(uuid.uuid4()),
        traceparent=f"00-{'a' * 32}-{'b' * 16}-00", payload=body, signature="0" * 64,
    )  # fmt: skip
