"""/health/ready answers within 3 s whatever Postgres does, and again 200 when Postgres is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.health import Looks
from app.webhook.problems import Refusal
from db import engine as database
from db import schema
from tests.faults.proxy import Proxy
from tests.support.free_ports import free_port
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

ANSWERS_WITHIN = 3.0  # seconds
LONGEST = 30.0  # seconds: of APPEND_TIMEOUT_SECONDS, which limits the wait for a connection and for each statement


@pytest.fixture
def proxy(postgres_url: str) -> Proxy:
    host = Database(postgres_url).value("SELECT current_setting('unix_socket_directories')").partition(",")[0]
    port = Database(postgres_url).value("SELECT current_setting('port')")
    return Proxy(Path(host) / f".s.PGSQL.{port}")


@pytest.fixture
def through_proxy(proxy: Proxy, module_database: Database) -> Iterator[str]:
    name = module_database.value("SELECT current_database()")
    with proxy.running() as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}"


@contextlib.asynccontextmanager
async def looks_at(url: str, connections: int = 2) -> AsyncIterator[Looks]:
    engine = database.create_engine(url, "test", connections, LONGEST)
    looks = Looks(engine)
    try:
        yield looks
    finally:
        await looks.end()
        await engine.dispose()


async def why_not(looks: Looks) -> str:
    """Return why the server is not ready, as a probe is answered in time."""
    async with asyncio.timeout(ANSWERS_WITHIN):
        with pytest.raises(Refusal) as refused:
            await looks.revision()
    assert refused.value.status == 503
    return refused.value.detail


def test_a_network_that_swallows_everything(proxy: Proxy, through_proxy: str) -> None:
    """Several probes share one look; the next one after it finds Postgres again."""

    async def probe() -> None:
        async with looks_at(through_proxy) as looks:
            assert await looks.revision() == schema.head()
            with proxy.swallow():
                found = await asyncio.gather(*[why_not(looks) for _ in range(20)])
                assert {one.partition(":")[0] for one in found} == {"Postgres does not answer"}
            async with asyncio.timeout(15):
                while True:
                    with contextlib.suppress(Refusal):
                        assert await looks.revision() == schema.head()
                        return

    asyncio.run(probe())


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:{port}/x", "postgresql://nowhere.invalid/x"])
def test_a_postgres_that_is_nowhere(url: str) -> None:
    async def probe() -> str:
        async with looks_at(url.format(port=free_port())) as looks:
            return await why_not(looks)

    assert asyncio.run(probe()).startswith(("Postgres cannot be reached", "the host of DATABASE_URL has no address"))


def test_connections_that_are_all_in_use(module_database: Database) -> None:
    async def probe() -> tuple[str, str | None]:
        async with looks_at(module_database.url, connections=1) as looks:
            async with database.connection(looks.engine):
                why = await why_not(looks)
            return why, await looks.revision()

    why, revision = asyncio.run(probe())
    assert why.startswith("all connections of this process are in use")
    assert revision == schema.head()


def test_a_probe_that_comes_at_once_after_an_answer_disturbs_no_other(module_database: Database) -> None:
    """Those that waited for the look before are answered by that, although the next one is under way."""

    async def probe() -> list[str | None]:
        async with looks_at(module_database.url) as looks:

            async def again() -> str | None:
                await looks.revision()
                return await looks.revision()

            return await asyncio.gather(again(), *[looks.revision() for _ in range(3)])

    assert asyncio.run(probe()) == [schema.head()] * 4
