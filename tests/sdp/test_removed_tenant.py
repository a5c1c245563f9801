"""A run or an import under way appends nothing for a tenant that is disabled, removed, or added anew meanwhile."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from app import settings as environments
from app.event.rules import Rules
from app.importing import append as appending
from app.importing import ticket_file
from app.importing.append import Tally
from app.sdp import reconcile as runs
from db import engine as engines
from db import tenant_removal
from db.leases import LostError
from db.tenants import Secrets
from tests.support.fake_sdp import Asked, FakeSdp, running_sdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.removing import left, remove
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the ten seconds: nothing may come back even so."""
    monkeypatch.setattr(tenant_removal, "IN_FORCE_WITHIN", 0.0)


@pytest.fixture(scope="module")
def sdp() -> Iterator[FakeSdp]:
    with running_sdp(list_lacks=VENDORS_LIST) as running:
        running.add_resolved(5)
        yield running


def configure(database: Database, sdp: FakeSdp, secrets_key: str) -> None:
    """Add the tenant acme, whose ServiceDesk Plus is `sdp`."""
    tenant = database.add_tenant(secrets_key, "acme")
    encrypted = Secrets(secrets_key).encrypt(json.dumps(sdp.given))
    database.query(
        "INSERT INTO sdp_configs (tenant_id, edition, base_url, credentials) VALUES (%s, 'on_premises', %s, %s)",
        tenant.id, sdp.url, encrypted,
    )  # fmt: skip


def in_mid_run(sdp: FakeSdp, act: Callable[[], object]) -> None:
    """Call `act` before the second ticket is answered, in a thread of its own."""
    fetched: list[str] = []

    def before(asked: Asked) -> None:
        fetched.extend([asked.ticket_id] if asked.ticket_id else [])
        if asked.ticket_id and len(fetched) == 2:
            with ThreadPoolExecutor() as pool:
                pool.submit(act).result()

    sdp.before_answer = before


@pytest.mark.parametrize("source", ["reconcile", "import"])
@pytest.mark.parametrize("case", ["disabled", "removed", "added anew", "forgotten"])
def test_a_run_ends_and_appends_nothing_more(
    database: Database, sdp: FakeSdp, environment: dict[str, str], secrets_key: str, case: str, source: str
) -> None:
    configure(database, sdp, secrets_key)
    acts: dict[str, list[Callable[[], object]]] = {
        "disabled": [lambda: database.query("UPDATE tenant_configs SET enabled = false")],
        "removed": [lambda: remove(database, "acme")],
        "added anew": [lambda: remove(database, "acme"), lambda: configure(database, sdp, secrets_key)],
        "forgotten": [lambda: database.query("DELETE FROM sdp_configs")],
    }
    in_mid_run(sdp, lambda: [act() for act in acts[case]])
    settings = environments.load({**environment, "SDP_REQUESTS_PER_MINUTE": "6000"})
    if case == "disabled" and source == "import":  # its tenant may be
        assert run(source, settings).appended == 5
        return
    with pytest.raises(runs.NotReconciledError, match="tenant 'acme' is disabled or being removed"):
        run(source, settings)
    before = {"disabled": 1, "removed": 0, "added anew": 0, "forgotten": 1}[case]
    assert database.value("SELECT count(*) FROM inbox") == before
    assert case != "removed" or left(database, "acme") == {}


def run(source: str, settings: Any) -> Any:  # noqa: ANN401
    return asyncio.run(
        runs.reconcile(settings, "acme", since=LONG_AGO)
        if source == "reconcile"
        else runs.import_since(settings, "acme", LONG_AGO)
    )


def test_a_run_that_appends_nothing_ends_as_well(
    database: Database, sdp: FakeSdp, environment: dict[str, str], secrets_key: str
) -> None:
    """Its credentials are gone, and a tenant that left is asked no longer: it looks after each page."""
    configure(database, sdp, secrets_key)
    sdp.before_answer = lambda asked: remove(database, "acme") if asked.list_info else None
    settings = environments.load({**environment, "SDP_REQUESTS_PER_MINUTE": "6000"})
    with pytest.raises(runs.NotReconciledError, match="is disabled or being removed"):
        asyncio.run(runs.reconcile(settings, "acme", since=LONG_AGO, is_dry=True))
    assert left(database, "acme") == {}


@pytest.mark.parametrize("is_added_anew", [False, True])
def test_an_import_of_a_file_ends_and_appends_nothing_more(
    database: Database, secrets_key: str, *, is_added_anew: bool
) -> None:
    acme = database.add_tenant(secrets_key, "acme")
    tally = Tally()

    def replace() -> None:
        remove(database, "acme")
        if is_added_anew:
            database.add_tenant(secrets_key, "acme")

    def batches() -> Iterator[list[Any]]:
        for number in range(3):
            yield from batch_of(acme, number, tally)
            if number == 0:
                with ThreadPoolExecutor() as pool:
                    pool.submit(replace).result()

    async def append() -> None:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        file = appending.imported_file(acme.id, None)
        try:
            async with (
                engines.connection(engine) as connection,
                appending.turn(database.url, connection, file, None) as lease,
            ):
                await appending.append(connection, batches(), tally, None, lease, is_known=False)
        finally:
            await engine.dispose()

    with pytest.raises(LostError if is_added_anew else appending.UnknownTenantError):
        asyncio.run(append())
    assert (tally.appended, set(left(database, "acme")) - {"tenant_configs"}) == (1, set())


def batch_of(tenant: Tenant, number: int, tally: Tally) -> Iterator[list[Any]]:
    where = appending.imported_file(tenant.id, f"{number:016}")
    return appending.batches([ticket_file.Line(1, 1, tenant.body())], where, tally, Rules(), lambda _line, _error: None)
