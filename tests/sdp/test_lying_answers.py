"""Whatever ServiceDesk Plus, or a proxy before it, sends: little is read of it, for a limited time, and no token shown."""

import asyncio
import base64
import gzip
import html
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from urllib.parse import quote

import msgspec
import pytest

from app.sdp import account as accounts
from app.sdp.client import Client, Patience
from app.sdp.errors import SdpError, TransientError
from tests.support.fake_sdp import CLOUD, FakeSdp, running_sdp

pytestmark = pytest.mark.one_postgres

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EMPTY = b'{"requests": [], "list_info": {"has_more_rows": false}, "response_status": [{"status_code": 2000}]}'
TOKEN = r"""ab\cd"ef'gh%2F/ij&kl<mn>{op}+qrstuvwxyz"""  # noqa: S105
HASTE = Patience(tries=1, answer=2.0)


@pytest.fixture(scope="module")
def module_sdp() -> Iterator[FakeSdp]:
    with running_sdp() as running:
        yield running


@pytest.fixture
def sdp(module_sdp: FakeSdp) -> FakeSdp:
    module_sdp.clear()
    module_sdp.credentials = {"token": TOKEN}
    return module_sdp


def ask(sdp: FakeSdp, patience: Patience = HASTE) -> None:
    asyncio.run(go(sdp, patience))


async def go(sdp: FakeSdp, patience: Patience = HASTE, times: int = 1) -> list[int]:
    account = accounts.read(sdp.edition, sdp.url, msgspec.json.encode(sdp.given))
    async with Client(account, 6000, patience) as client:
        return [(await client.page(0)).total for _ in range(times)]


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "identity, GZIP", "zstd", "x"])
def test_a_compressed_answer_is_refused(sdp: FakeSdp, encoding: str) -> None:
    body = gzip.compress(EMPTY)
    sdp.fail("raw", parts=[HEAD, f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body])
    with pytest.raises(SdpError, match=f"answered in the encoding '{encoding}', and was asked for none"):
        ask(sdp)
    [asked] = sdp.asked
    assert asked.headers["accept-encoding"] == "identity"


def test_no_answer_takes_much_memory(sdp: FakeSdp) -> None:
    """A process of its own is asked for its peak: 64 MB more than before, whatever came."""
    many = b'{"response_status": [' + b"{}," * 6_000_000 + b'{}], "requests": [' + b"1," * 6_000_000 + b"1]}"
    twice = gzip.compress(gzip.compress(bytes(100_000_000), 1), 1)
    endless = [HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + bytes(1_048_576) + b"\r\n"] * 40]
    for parts in (
        [HEAD, b"Content-Length: %d\r\n\r\n" % len(many), many],
        [HEAD, b"Content-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n" % len(twice), twice],
        endless,
        endless,  # asked for less
    ):
        sdp.fail("raw", parts=parts)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, sdp.url, json.dumps(sdp.given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown, *kinds = done.stdout.split()
    assert kinds == ["SdpError", "SdpError", "TooLongError"]
    assert int(grown) < 110 * 1024, "of 32 MB that are read, a copy is made"


PEAK = textwrap.dedent(
    """
    import asyncio, resource, sys
    from app.sdp import account as accounts
    from app.sdp.client import Client, Patience

    async def ask():
        async with Client(accounts.read("on_premises", sys.argv[1], sys.argv[2].encode()), 6000, Patience(tries=1)) as client:
            try:
                await client.page(0)
            except Exception as error:
                return type(error).__name__

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak()
    kinds = [asyncio.run(ask()) for _ in range(3)]
    print(peak() - before, *kinds)
    """
)


def test_what_follows_an_answer_is_not_the_next_answer(sdp: FakeSdp) -> None:
    other = EMPTY.replace(b"false", b'false, "total_count": 666')
    first = [HEAD + b"Content-Length: %d\r\n\r\n" % len(one) + one for one in (EMPTY, other)]
    sdp.fail("raw", parts=[b"".join(first)], stays_open=True)
    sdp.add()
    assert asyncio.run(go(sdp, times=2)) == [0, 0]
    assert len(sdp.asked) == 2


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 9999999999\r\n\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"Transfer-Encoding: gzip, chunked\r\n\r\n"],
)  # fmt: skip
def test_a_wrong_length_is_half_an_answer(sdp: FakeSdp, framing: bytes) -> None:
    sdp.fail("raw", parts=[HEAD, framing, EMPTY])
    with pytest.raises(TransientError, match="cannot be reached, or hung up"):
        ask(sdp)


def echoes(token: str) -> dict[str, str]:
    """Return the ways in which an answer may repeat a token."""
    return {
        "plain": token,
        "repr": repr(token),
        "json": json.dumps(token),
        "json twice": json.dumps(json.dumps(token)),
        "percent": quote(token, safe=""),
        "percent, lower": quote(token, safe="").lower(),
        "percent twice": quote(quote(token, safe=""), safe=""),
        "html": html.escape(token),
        "unicode": "".join(f"\\u{ord(one):04x}" for one in token),
        "behind much": "x" * 190 + token,
        "cut at its end": token[:12],
        "cut at its beginning": token[20:],
        "in lines": "\n".join(token[start : start + 5] for start in range(0, len(token), 5)),
    }


@pytest.mark.parametrize("how", echoes(""))
def test_no_error_shows_a_part_of_a_token(sdp: FakeSdp, how: str) -> None:
    sdp.fail("error", times=2, code=4001, message=f"No rights for {echoes(TOKEN)[how]}, sorry")
    with pytest.raises(SdpError) as raised:
        ask(sdp)
    said = str(raised.value)
    assert "'No rights for" in said
    assert not [TOKEN[start : start + 6] for start in range(len(TOKEN) - 6) if TOKEN[start : start + 6] in said], said


def test_nor_what_zoho_repeats() -> None:
    with running_sdp("cloud") as cloud:
        secret = CLOUD["refresh_token"]
        cloud.fail("wrong", on="/oauth", body={"error": "x" * 90 + secret})
        with pytest.raises(SdpError, match="gives no token") as raised:
            ask(cloud)
        assert "1000.hush" not in str(raised.value)
        cloud.fail("redirect", on="/oauth", to=f"https://{base64.b16encode(b'x').decode()}/{secret}")
        with pytest.raises(SdpError, match="points to") as raised:
            ask(cloud)
        assert "1000.hush" not in str(raised.value)


def test_a_run_waits_for_no_answer_after_its_time(sdp: FakeSdp) -> None:
    sdp.fail("trickle")

    async def late() -> None:
        account = accounts.read(sdp.edition, sdp.url, msgspec.json.encode(sdp.given))
        async with Client(account, 6000, Patience(answer=60.0)) as client:
            client.ends_at = asyncio.get_running_loop().time() + 0.3
            await client.page(0)

    with pytest.raises(SdpError, match="gave no answer before the run's time was up"):
        asyncio.run(late())
