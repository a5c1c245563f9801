"""The client of ServiceDesk Plus speaks to both editions, retries, follows no redirect, and shows no token."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec
import pytest

from app.sdp import account as accounts
from app.sdp import pages
from app.sdp.answers import Answer, judge
from app.sdp.client import Client, Patience
from app.sdp.errors import AccessError, GoneError, SdpError, TransientError, retry_after
from app.sdp.listed import Row
from tests.support.fake_sdp import CLOUD, ON_PREMISES, Asked, FakeSdp, running_sdp

pytestmark = pytest.mark.one_postgres

Given = TypeVar("Given")
HASTE = Patience(first_wait=0.001, longest_wait=2.0, answer=5.0)
HUSH = "hush"  # part of every secret of the fake


@pytest.fixture(params=["on_premises", "cloud"])
def sdp(request: pytest.FixtureRequest) -> Iterator[FakeSdp]:
    """A fake ServiceDesk Plus of each edition."""
    with running_sdp(request.param) as running:
        yield running


def account(sdp: FakeSdp, **changes: str) -> accounts.Account:
    return accounts.read(sdp.edition, sdp.url, msgspec.json.encode({**sdp.given, **changes}))


def ask(
    sdp: FakeSdp, question: Callable[[Client], Awaitable[Given]], patience: Patience = HASTE, per_minute: int = 6000
) -> Given:
    async def go() -> Given:
        async with Client(account(sdp), per_minute, patience) as client:
            return await question(client)

    return asyncio.run(go())


async def read_all(client: Client, begin: int = 0) -> list[Row]:
    return [row async for page in pages.updated_from(client, begin) for row in page.rows]


def test_tickets_are_listed_and_fetched(sdp: FakeSdp) -> None:
    [first, second] = sdp.add_resolved(2)
    assert [row.id for row in ask(sdp, read_all)] == [first, second]
    fetched = msgspec.json.decode(ask(sdp, lambda client: client.ticket(second)))
    assert fetched == sdp.ticket(second)
    assert [row.id for row in ask(sdp, lambda client: read_all(client, ask_time(sdp, second)))] == [second]


def ask_time(sdp: FakeSdp, ticket_id: str) -> int:
    return int(sdp.ticket(ticket_id)["last_updated_time"]["value"])


def test_a_ticket_that_is_gone(sdp: FakeSdp) -> None:
    with pytest.raises(GoneError, match="4007"):
        ask(sdp, lambda client: client.ticket("1"))
    assert len(sdp.fetched()) == 1, "it is not asked for again"


@pytest.mark.parametrize("fault", ["429", "500", "html", "502", "half", "hang_up"])
def test_a_passing_fault_is_retried(sdp: FakeSdp, fault: str) -> None:
    [ticket_id] = sdp.add_resolved()
    sdp.fail(fault, times=2)
    assert [row.id for row in ask(sdp, read_all)] == [ticket_id]
    sdp.fail(fault, times=2)
    assert b"VPN" in bytes(ask(sdp, lambda client: client.ticket(sdp.add())))


@pytest.mark.parametrize("fault", ["429", "500", "html", "502", "half", "hang_up"])
def test_retries_have_an_end(sdp: FakeSdp, fault: str) -> None:
    sdp.fail(fault, times=100)
    with pytest.raises(TransientError) as raised:
        ask(sdp, read_all)
    assert len(sdp.lists()) == HASTE.tries + (fault in ("500", "html", "502")), "the last asks for less"
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_an_answer_that_never_comes_has_an_end(sdp: FakeSdp, fault: str) -> None:
    sdp.fail(fault, times=2)
    with pytest.raises(TransientError, match="no answer in time"):
        ask(sdp, read_all, Patience(tries=1, answer=0.3))
    assert len(sdp.lists()) == 2, "the second asks for less"


def test_errors_come_with_200_too(sdp: FakeSdp) -> None:
    sdp.fail("error", times=2, code=4001, message="Id given does\nnot exist")
    with pytest.raises(SdpError, match="200 with 4001, 'Id given does"):
        ask(sdp, read_all)
    assert len(sdp.lists()) == 2, "the second asks for less"
    for code, kind in ((4002, AccessError), (4022, AccessError), (4007, GoneError)):
        sdp.heal()
        sdp.fail("error", times=9, code=code)
        with pytest.raises(kind):
            ask(sdp, read_all)
    sdp.heal()
    sdp.fail("error", times=2, code=4004)  # internal error
    assert ask(sdp, read_all) == []


def test_it_waits_as_long_as_it_is_asked_to(sdp: FakeSdp) -> None:
    """But not for an hour: the next run asks again."""
    sdp.fail("429", retry_after=1)
    waits: list[float] = []

    async def question(client: Client) -> list[Row]:
        loop = asyncio.get_running_loop()
        sdp.before_answer = lambda _asked: waits.append(loop.time())
        return await read_all(client)

    ask(sdp, question)
    [first, second] = waits[-2:]
    assert second - first > 0.99
    sdp.asked.clear()
    sdp.fail("429", retry_after=3600)
    with pytest.raises(TransientError, match="429"):
        ask(sdp, read_all)
    assert len(sdp.lists()) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-7"}, 0),
        ({"retry-after": "Fri, 06 Nov 2020 10:00:30 GMT"}, 0),  # a date would need the server's clock
        ({"retry-after": "Fri, 06 Nov 2020 10:00:30 GMT", "date": "Fri, 06 Nov 2020 10:00:00 GMT"}, 30),
        ({"retry-after": "Fri, 06 Nov 2020 09:00:00 GMT", "date": "Fri, 06 Nov 2020 10:00:00 GMT"}, 0),
    ],
)
def test_what_a_retry_after_asks_for(headers: dict[str, str], seconds: float) -> None:
    """A date counts by the clock of the server that wrote it, however wrong that clock is."""
    assert retry_after(headers) == seconds


def test_an_expired_token_is_replaced_once() -> None:
    with running_sdp("cloud") as sdp:
        [ticket_id] = sdp.add_resolved()

        async def question(client: Client) -> int:
            await client.reach()
            await client.reach()
            sdp.expire_tokens()
            await client.ticket(ticket_id)
            return sum(one.method == "POST" for one in sdp.asked)

        assert ask(sdp, question) == 2
        sdp.asked.clear()
        sdp.fail("401", times=9)
        with pytest.raises(AccessError, match="401"):
            ask(sdp, question)
        assert [one.method for one in sdp.asked] == ["POST", "GET"], "a fresh one is replaced by no other"


def test_a_token_is_replaced_before_it_ends() -> None:
    with running_sdp("cloud") as sdp:
        sdp.token_seconds = 2.0  # of which it is used for half, as that is less than a minute before its end

        async def question(client: Client) -> list[str]:
            await client.reach()
            await asyncio.sleep(1.05)
            await client.reach()
            return [one.method for one in sdp.asked]

        assert ask(sdp, question) == ["POST", "GET", "POST", "GET"]


def test_wrong_credentials(sdp: FakeSdp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")
    given = account(sdp)
    sdp.credentials = {name: f"{value}-other" for name, value in sdp.credentials.items()}

    async def go() -> None:
        async with Client(given, 6000, HASTE) as client:
            await client.check()

    with pytest.raises(AccessError) as raised:
        asyncio.run(go())
    assert len(sdp.asked) == 1, "the client does not retry"
    for text in (str(raised.value), repr(raised.value), repr(given), repr(given.credentials), caplog.text):
        assert HUSH not in text


def test_zoho_that_is_busy_is_asked_again() -> None:
    with running_sdp("cloud") as sdp:
        sdp.fail("502", times=2, on="/oauth")
        ask(sdp, lambda client: client.check())
        sdp.fail("html", times=1, on="/oauth")
        with pytest.raises(SdpError, match="in a shape that we do not know"):
            ask(sdp, lambda client: client.check())


def test_a_redirect_is_followed_nowhere(sdp: FakeSdp) -> None:
    with running_sdp(sdp.edition) as other:
        sdp.fail("redirect", to=f"{other.url}/api/v3/requests")
        with pytest.raises(SdpError, match=f"points to {other.origin.removeprefix('http://')}"):
            ask(sdp, lambda client: client.check())
        assert other.asked == []


@pytest.mark.parametrize(
    "body",
    [
        {"requests": "none", "list_info": {"has_more_rows": False}},
        {"requests": []},
        {"requests": [], "list_info": {"has_more_rows": "no"}},
        {"requests": [{"id": "7", "last_updated_time": None}], "list_info": {"has_more_rows": True}},
    ],
)
def test_json_of_another_shape_is_an_error(sdp: FakeSdp, body: dict[str, object]) -> None:
    """Nor does a run go on behind a page on which not one ticket has a place in the order."""
    sdp.fail("wrong", body=body)
    with pytest.raises(
        SdpError, match=r"in a shape that we do not know|in which no ticket can be read|no list of tickets"
    ):
        ask(sdp, read_all)


def test_an_answer_that_has_no_end(sdp: FakeSdp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sdp.transport.MOST_BYTES", 1000)
    ticket_id = sdp.add(description="x" * 2000)
    with pytest.raises(SdpError, match="more than 1000 bytes"):
        ask(sdp, lambda client: client.ticket(ticket_id))


def test_a_port_where_no_server_listens() -> None:
    with running_sdp() as sdp:
        pass
    with pytest.raises(TransientError, match=r"127\.0\.0\.1 cannot be reached"):
        ask(sdp, lambda client: client.check())


def test_it_never_asks_more_often_than_it_may(sdp: FakeSdp) -> None:
    """The requests are spread over the minute, without a burst at its beginning."""

    async def question(client: Client) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*(client.check() for _ in range(5)))

    ask(sdp, question, per_minute=1)
    assert len(sdp.lists()) == 1


def test_the_question_is_as_the_vendor_documents_it(sdp: FakeSdp) -> None:
    sdp.add_resolved()
    ask(sdp, lambda client: read_all(client, 1_488_451_440_000))
    [info] = sdp.lists()
    assert info["search_criteria"] == [
        {"field": "last_updated_time", "condition": "greater than", "value": "1488451439999"}
    ]
    assert (info["row_count"], info["start_index"], info["sort_order"]) == (100, 1, "asc")


@pytest.mark.parametrize("apart", [1000, 1, 0])
def test_all_pages_are_read_once(sdp: FakeSdp, apart: int) -> None:
    """However close together the tickets are: with 0, all have the same time, and come in any order."""
    ids = sdp.add_resolved(250, apart=apart)
    found = [row.id for row in ask(sdp, read_all)]
    assert sorted(found) == sorted(ids)
    if apart:
        assert found == ids
        assert all(info["start_index"] == 1 for info in sdp.lists())


@pytest.mark.parametrize("apart", [1000, 0])
def test_edits_meanwhile_make_it_miss_no_ticket(apart: int) -> None:
    """During each page, a ticket that was already read moves behind all others, and the rest move up."""
    with running_sdp() as sdp:
        ids = sdp.add_resolved(350, at=sdp.now() - 10_000_000, apart=apart)
        waiting = iter(ids)

        def edit(asked: Asked) -> None:
            if asked.list_info and len(sdp.lists()) < 6:
                sdp.edit(next(waiting))
                sdp.edit(ids[len(sdp.lists()) * 40])

        sdp.before_answer = edit
        assert {row.id for row in ask(sdp, read_all)} == set(ids)


def test_the_last_ticket_of_a_moment_moves_up_to_where_the_page_ended() -> None:
    """A hundred tickets of one time were read, and one of them is edited: the 101st is now the 100th."""
    with running_sdp() as sdp:
        ids = sdp.add_resolved(101, at=sdp.now() - 10_000_000, apart=0)

        def edit(asked: Asked) -> None:
            if (asked.list_info or {}).get("start_index") == 101:
                sdp.before_answer = lambda _asked: None
                sdp.edit(ids[50])

        sdp.before_answer = edit
        assert {row.id for row in ask(sdp, read_all)} == set(ids)


def test_a_list_out_of_order_is_an_error(sdp: FakeSdp) -> None:
    """A client that reads on by time would miss tickets without noticing."""
    rows = [{"id": str(time), "last_updated_time": {"value": str(time)}} for time in (2000, 1000)]
    sdp.fail("wrong", body={"requests": rows, "list_info": {"has_more_rows": True}})
    with pytest.raises(SdpError, match="not in order"):
        ask(sdp, read_all)


@pytest.mark.parametrize(
    ("edition", "url", "credentials"),
    [
        ("on_premises", "ftp://sdp", ON_PREMISES),
        ("on_premises", "https://", ON_PREMISES),
        ("on_premises", "https://me:hush@sdp", ON_PREMISES),
        ("on_premises", "https://sdp?x=1", ON_PREMISES),
        ("on_premises", "https://sdp:99999", ON_PREMISES),
        ("on_premises", "https://[sdp", ON_PREMISES),
        ("on_premises", "https://sdp", CLOUD),
        ("on_premises", "https://sdp", {"token": ""}),
        ("on_premises", "https://sdp", {"token": "hush\r\nHost: x"}),
        ("on_premises", "https://sdp", {"token": 1}),
        ("on_premises", "https://sdp", "hush"),
        ("cloud", "https://sdpondemand.manageengine.com/app/itdesk/more", CLOUD),
        ("cloud", "https://sdpondemand.manageengine.com/app/itdesk", ON_PREMISES),
        ("cloud", "https://sdpondemand.manageengine.com/app/itdesk", {**CLOUD, "accounts_url": "https://a/b"}),
        ("cloud", "https://sdpondemand.manageengine.com/app/itdesk", {**CLOUD, "accounts_url": "a"}),
    ],
)
def test_what_is_no_account(edition: str, url: str, credentials: object) -> None:
    with pytest.raises(accounts.WrongAccountError) as raised:
        accounts.read(edition, url, msgspec.json.encode(credentials))
    if "hush" not in url:
        assert HUSH not in str(raised.value)


def test_an_address_may_be_given_as_people_have_it() -> None:
    for url in ("https://sdp:8080", "https://sdp:8080/", "https://sdp:8080/api/v3", "https://sdp:8080/api/v3/"):
        found = accounts.read("on_premises", url, msgspec.json.encode(ON_PREMISES))
        assert found.base_url == "https://sdp:8080"
    found = accounts.read("cloud", "https://sdp/app/itdesk/api/v3/", msgspec.json.encode(CLOUD))
    assert (found.base_url, found.credentials) == ("https://sdp/app/itdesk", accounts.Cloud(**CLOUD))


def test_the_fake_refuses_undocumented_requests(sdp: FakeSdp) -> None:
    """Otherwise a client that asks wrongly would pass its tests."""

    async def wrong(client: Client) -> None:
        for info in (
            {"row_count": 101},
            {"page": 1},
            {"search_criteria": [{"field": "id", "condition": "gt?", "value": "1"}]},
        ):
            with contextlib.suppress(SdpError):
                await client._get("/requests", {"input_data": msgspec.json.encode({"list_info": info}).decode()})  # noqa: SLF001
                raise AssertionError(info)

    ask(sdp, wrong)


def test_a_gateways_404_is_no_ticket_that_was_deleted() -> None:
    """It used to count as one, and the cursor passed the tickets."""
    with pytest.raises(SdpError) as caught:
        judge(Answer(404, {}, b'{"message": "no Route matched with those values"}'))
    assert not isinstance(caught.value, GoneError)
