"""Fixtures of these tests: a client in haste, a tenant whose ServiceDesk Plus is a fake one, and a sender's script.

Its lists lack what the vendor's page says, so that tickets are fetched, which most of these tests are about.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.sdp import client as clients
from app.sdp.client import Patience
from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.reconciled import Place, settled
from tests.support.sender_scripts import PROGRAMS, PWSH, Answerer, Sender, answering
from tests.support.system import Database, Server, Tenant


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a moment between two attempts, not seconds."""
    hasty = Patience(first_wait=0.001, longest_wait=2.0, answer=5.0)
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (hasty,))


@pytest.fixture(params=["on_premises"])
def sdp(request: pytest.FixtureRequest) -> Iterator[FakeSdp]:
    with running_sdp(request.param, list_lacks=VENDORS_LIST) as running:
        yield running


@pytest.fixture
def place(database: Database, sdp: FakeSdp, environment: dict[str, str], secrets_key: str) -> Place:
    return settled(database, sdp, environment, secrets_key)


@pytest.fixture(scope="module")
def module_sdp() -> Iterator[FakeSdp]:
    with running_sdp(list_lacks=VENDORS_LIST) as running:
        yield running


@pytest.fixture(scope="module")
def module_place(
    module_database: Database, module_sdp: FakeSdp, module_environment: dict[str, str], secrets_key: str
) -> Place:
    """A place that the tests of one module share; `clear` empties it."""
    return settled(module_database, module_sdp, module_environment, secrets_key)


@pytest.fixture(params=[name for name in PROGRAMS if PWSH or name.endswith(".py")])
def script(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def sender(script: str, tmp_path: Path, tenant: Tenant, server: Server) -> Sender:
    """A script that sends to the module's server."""
    return Sender(tmp_path / "scripts", script, tenant, server.url)


@pytest.fixture
def answerer() -> Iterator[Answerer]:
    with answering() as running:
        yield running


@pytest.fixture
def rude(script: str, tmp_path: Path, answerer: Answerer) -> Sender:
    """A script that sends to `answerer`."""
    return Sender(tmp_path / "scripts", script, Tenant("acme", "a-secret"), answerer.url)
