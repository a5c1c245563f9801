"""An administrator gives the address that a browser shows; `tenant sdp set` finds where the API answers, and says so."""

from collections.abc import Iterator

import msgspec
import pytest
from click.testing import Result

from app.sdp import account as accounts
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.fake_sdp import CLOUD, ON_PREMISES, PORTAL, FakeSdp, running_sdp
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

HOST = "https://sdpondemand.manageengine.com"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "/",
        "/api/v3",
        "/api/v3/requests",
        "/ui/requests",
        "/ui/requests?mode=list#x",
        "/ui/requests/155000000000000000/details",
        "/HomePage.do",
        "/WOListView.do?x=1",
    ],
)
def test_what_a_browser_shows_is_an_address(given: str) -> None:
    for edition, base, credentials in (
        ("cloud", f"{HOST}/app/itdesk", CLOUD),
        ("cloud", HOST, CLOUD),
        ("on_premises", "https://sdp.example.com:8080", ON_PREMISES),
        ("on_premises", "https://example.com/sdp", ON_PREMISES),
        ("on_premises", "https://example.com/app/itdesk", ON_PREMISES),
    ):
        found = accounts.read(edition, base + given, msgspec.json.encode(credentials))
        assert found.base_url == base


@pytest.fixture
def cloud() -> Iterator[FakeSdp]:
    with running_sdp("cloud") as running:
        yield running


@pytest.fixture
def environment(module_environment: Environment, cloud: FakeSdp, module_database: Database) -> Environment:
    module_database.query("DELETE FROM tenant_configs")
    tenant_command(module_environment, "add", "acme")
    credentials = msgspec.json.encode(cloud.given).decode()
    return {**module_environment, "TICKET_INBOX_SDP_CREDENTIALS": credentials, "SDP_REQUESTS_PER_MINUTE": "6000"}


def set_up(environment: Environment, url: str) -> Result:
    return invoke(environment, "tenant", "sdp", "set", "acme", "--edition", "cloud", "--url", url)


def test_both_forms_are_tried(environment: Environment, cloud: FakeSdp, module_database: Database) -> None:
    """The one that answers is stored, and printed."""
    given = f"{cloud.origin}{PORTAL}/ui/requests?mode=list"
    done = set_up(environment, given)
    assert done.stdout == f"Tenant acme has its ServiceDesk Plus at {cloud.url}, which answered.\n"
    cloud.ways.also_at_host, cloud.ways.answers_bare_404_at = True, PORTAL
    done = set_up(environment, given)
    assert done.stdout.splitlines() == [
        f"Its API is not at {cloud.url}, but at {cloud.origin}.",
        f"Tenant acme has its ServiceDesk Plus at {cloud.origin}, which answered.",
    ]
    assert module_database.value("SELECT base_url FROM sdp_configs") == cloud.origin
    done = set_up(environment, cloud.origin)
    assert done.stdout.splitlines() == [f"Tenant acme has its ServiceDesk Plus at {cloud.origin}, which answered."]


def test_a_bare_404_names_the_other(environment: Environment, cloud: FakeSdp) -> None:
    cloud.ways.answers_bare_404_at = PORTAL
    done = set_up(environment, cloud.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"answered 404: is the API at {cloud.origin} instead of {cloud.url}? Nothing was changed" in done.stderr
    done = set_up(environment, cloud.origin)
    assert f"answered 404: is it {cloud.origin}/app/PORTAL, with the portal's name" in done.stderr
    cloud.ways.answers_bare_404_at = None
    assert set_up(environment, cloud.url).exit_code == 0
    cloud.ways.answers_bare_404_at = PORTAL
    done = invoke(environment, "reconcile", "--tenant", "acme")
    assert f"is the API at {cloud.origin} instead of {cloud.url}?" in done.stderr, "in a run too"
