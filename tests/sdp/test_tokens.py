"""Zoho is asked for one token an hour, whatever the number of runs, portals and refusals; and why it gives none is said."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.sdp import client as clients
from app.sdp import reconcile as runs
from app.sdp import tokens
from app.sdp.account import Cloud
from app.sdp.answers import Answer
from app.sdp.client import Patience
from app.sdp.errors import AccessError, DeniedError
from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.fake_sdp_ways import DENIED, VENDORS_LIST
from tests.support.reconciled import Place, settled
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeSdp]:
    with running_sdp("cloud", list_lacks=VENDORS_LIST) as running:
        yield running


@pytest.fixture(scope="module")
def places(
    module_database: Database, cloud: FakeSdp, module_environment: dict[str, str], secrets_key: str
) -> list[Place]:
    """Two tenants with one refresh token."""
    return [settled(module_database, cloud, module_environment, secrets_key) for _ in range(2)]


@pytest.fixture
def place(places: list[Place]) -> Place:
    places[0].clear()
    places[0].sdp.tokens.clear()
    return places[0]


def test_runs_share_a_token(place: Place, places: list[Place]) -> None:
    """Each run here has an event loop of its own, and so knows only what the database knows."""
    [ticket_id] = place.sdp.add_resolved()
    for one in (*places, *places):
        one.run()
    assert place.sdp.tokens_asked() == 1
    assert place.appended() == [ticket_id] * 2
    [kept, *_] = place.database.query("SELECT token, token_key FROM sdp_access WHERE token IS NOT NULL")
    assert "hush" not in json.dumps(kept)


def test_runs_at_once_share_it_too(place: Place, places: list[Place]) -> None:
    async def both() -> None:
        await asyncio.gather(*(runs.reconcile(one.settings, one.tenant.id) for one in places))

    asyncio.run(both())
    assert place.sdp.tokens_asked() == 1


def test_a_token_that_ended_is_replaced(place: Place) -> None:
    """Once, whether its hour is over or ServiceDesk Plus refuses it earlier."""
    place.run()
    place.sdp.expire_tokens()
    assert place.counts() == {}
    assert place.sdp.tokens_asked() == 2
    place.database.query("UPDATE sdp_access SET token_ends_at = now()")
    assert place.counts() == {}
    assert place.sdp.tokens_asked() == 3
    place.sdp.expire_tokens()
    assert place.counts() == {}
    assert place.sdp.tokens_asked() == 4


def test_a_token_that_no_key_reads_is_replaced(place: Place) -> None:
    place.run()
    place.database.query("UPDATE sdp_access SET token = 'gAAAA'")
    assert place.counts() == {}
    assert place.sdp.tokens_asked() == 2


def test_a_fresh_token_that_is_refused_is_replaced_by_no_other(place: Place) -> None:
    """Nor in the next runs, until the token has some age."""
    place.sdp.fail("401", times=1000)
    for _ in range(3):
        assert "does not let us in" in (place.run().error or "")
    assert place.sdp.tokens_asked() == 1
    place.database.query("UPDATE sdp_access SET token_made_at = now() - interval '11 min'")
    place.run()
    assert place.sdp.tokens_asked() == 2


def test_tickets_that_are_refused_cost_no_token_each(place: Place) -> None:
    """Lists are answered, single tickets are not: a right is missing, and another token does not bring it."""
    ids = place.sdp.add_resolved(10)
    place.sdp.fail("401", times=1000, on="/requests/")
    for _ in range(3):
        assert place.run().failed == len(ids)
    assert place.sdp.tokens_asked() == 2


def test_why_no_token_is_given_is_told(place: Place, places: list[Place]) -> None:
    """It passes: the run ends without another try, and the next one asks again."""
    place.sdp.fail("denied", times=1, on="/oauth")
    summary = place.run()
    assert "gives no token now: it answered 400, 'Access Denied You have made too many requests" in (
        summary.error or ""
    )
    assert "let us in" not in (summary.error or "")
    assert (place.sdp.tokens_asked(), summary.is_complete) == (1, False)
    assert place.counts() == {}

    async def both() -> list[str | None]:
        done = await asyncio.gather(*(runs.reconcile(one.settings, one.tenant.id) for one in places))
        return [one.error for one in done]

    place.clear()
    place.sdp.fail("denied", times=9, on="/oauth")
    assert all("Access Denied" in (error or "") for error in asyncio.run(both()))
    assert place.sdp.tokens_asked() == 1, "a portal that shares it does not ask either"


def test_an_import_waits_for_a_token(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sdp.tokens.PAUSE", 0.5)
    monkeypatch.setattr("app.sdp.tokens.EARLY", 0.5)
    monkeypatch.setattr(clients.Client.__init__, "__defaults__", (Patience(first_wait=0.001, longest_wait=0.2),))
    place.sdp.add_resolved()
    place.sdp.fail("denied", on="/oauth")
    pauses: list[str] = []
    summary = place.import_since(
        datetime.now(UTC) - timedelta(days=2), on_pause=lambda reason, _until: pauses.append(reason)
    )
    assert (summary.appended, summary.error, len(pauses)) == (1, None, 1)


def granted(status: int, body: object) -> tokens.Token:
    async def post(_url: str, _form: dict[str, str]) -> Answer:
        return Answer(status, httpx.Headers(), json.dumps(body).encode())

    async def go() -> tokens.Token:
        given = Cloud("id", "hush-secret-of-it", "hush-refresh-token")
        return await tokens.fetch(given, tokens.Shared(), post, [given.client_secret, given.refresh_token])

    return asyncio.run(go())


def test_what_zoho_answers() -> None:
    with pytest.raises(DeniedError, match="Access Denied"):
        granted(400, DENIED)
    with pytest.raises(AccessError, match=r"answered 400, 'invalid_code No such code'"):
        granted(400, {"error": "invalid_code", "error_description": "No such code"})
    with pytest.raises(AccessError) as raised:
        granted(200, {"error": "no hush-refresh-token"})
    assert "hush" not in str(raised.value)
    for lasts, seconds in (
        ({"expires_in": 3600}, 3540),
        ({"expires_in": "3600"}, 3540),
        ({"expires_in": 3_600_000, "expires_in_sec": 3600}, 3540),  # an older form, in milliseconds
        ({"expires_in": 3_600_000}, 3540),
        ({"expires_in": None}, 3540),
        ({"expires_in": 30}, 15),
    ):
        token = granted(200, {"access_token": "1000.x", **lasts})
        assert token.ends - token.made == pytest.approx(seconds), lasts
