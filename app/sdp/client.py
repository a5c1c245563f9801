"""How is a ServiceDesk Plus asked? With retries, at a limited rate, and without our secrets in any error."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
import tenacity
from aiolimiter import AsyncLimiter

from app.sdp import answers, epoch, identity, listed
from app.sdp.account import API, Account
from app.sdp.answers import Answer
from app.sdp.errors import GoneError, LateError, SdpError, TransientError
from app.sdp.listed import ROWS, Page
from otel import redaction

MOST_BYTES = 32 * 1024 * 1024  # of an answer, whatever it declares; its reading takes twice that memory
LONG_BYTES = 256 * 1024  # of an answer; a longer one is read in a thread, as a worker's heartbeat would wait for it
# Compressed, 5 KB became 6 GB, and no time limit ended that: a library decompresses what it has in one go. On a
# connection that is used again, what follows an answer of too short a length would be read as the answer to the next.
HEADERS = {"Accept-Encoding": "identity", "Connection": "close"}
FIELDS = ["id", "status", "last_updated_time"]


class Patience(msgspec.Struct, frozen=True):
    """How often, and for how many seconds, a request is retried."""

    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0  # a longer Retry-After is left to the next run
    altogether: float = 60.0  # after which no other try begins
    answer: float = 20.0  # for one answer, however it drips


class Client:
    """Asks a ServiceDesk Plus at most `per_minute` times a minute, at even intervals.

    Raises SdpError if the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, account: Account, per_minute: int, patience: Patience = Patience()) -> None:  # noqa: B008
        self._account, self._patience = account, patience
        self._identity = identity.of(account.credentials)
        self.interval = 60 / per_minute  # seconds that a request may have to wait for its turn
        self._limiter = AsyncLimiter(1, self.interval)
        self._clock = epoch.Clock()
        self.ends_at = float("inf")  # by the monotonic clock: no answer is waited for after it
        # No redirect is followed: our key would go with it.
        try:
            self._http = httpx.AsyncClient(
                timeout=patience.answer, follow_redirects=False, headers=HEADERS, event_hooks={"response": [self._look]}
            )
        except (ImportError, ValueError, OSError) as error:
            words = redaction.one_line(str(error))
            raise SdpError(f"HTTPS_PROXY, SSL_CERT_FILE or their like cannot be used: {words}") from None

    @property
    def base_url(self) -> str:
        """The address of the ServiceDesk Plus."""
        return self._account.base_url

    @property
    def latest(self) -> int:
        """The latest time that it can have written, in milliseconds; what is later lies in the future of any clock."""
        return self._clock.latest()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def page(self, updated_from: int, start_index: int = 1, *, count: bool = False, rows: int = ROWS) -> Page:
        """Return a page of the tickets last updated at `updated_from` (milliseconds since 1970) or later, oldest first.

        `start_index` is its first row, from 1. With `count` ServiceDesk Plus counts them all. Raises SdpError.
        """
        # The vendor's own example has this condition. Times are whole milliseconds, so one less includes that time.
        later = {"field": "last_updated_time", "condition": "greater than", "value": str(max(updated_from - 1, 0))}
        asked = {
            "row_count": rows,
            "start_index": start_index,
            "sort_field": "last_updated_time",
            "sort_order": "asc",
            "search_criteria": [later],
            "fields_required": FIELDS,
            "get_total_count": count,
        }
        given = {"input_data": msgspec.json.encode({"list_info": asked}).decode()}
        return listed.read_page(await self._get("/requests", given), rows)

    async def ticket(self, ticket_id: str) -> msgspec.Raw:
        """Return a ticket as it is now. Raises GoneError if there is none, SdpError if it cannot be fetched."""
        body = await self._get(f"/requests/{quote(ticket_id, safe='')}")
        return answers.read(answers.Whole, body).request

    async def check(self) -> None:
        """Ask for one ticket. Raises SdpError."""
        try:
            await self.page(0, rows=1)
        except GoneError as error:
            raise SdpError(f"{error}: is its address right?") from None

    async def _get(self, path: str, parameters: dict[str, str] | None = None) -> bytes:
        """Return the body of a successful answer, after retries. Raises SdpError."""
        patience = self._patience
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._is_worth_another),
            wait=self._wait,
            stop=tenacity.stop_after_attempt(patience.tries) | tenacity.stop_before_delay(patience.altogether),
            reraise=True,
        )
        left = None if self.ends_at == float("inf") else self.ends_at - time.monotonic()
        try:
            async with asyncio.timeout(left):
                return await retrying(self._try, path, parameters)
        except TimeoutError:
            raise LateError(f"{httpx.URL(self.base_url).host} gave no answer before the run's time was up") from None

    async def _try(self, path: str, parameters: dict[str, str] | None) -> bytes:
        answer = await self._ask(path, parameters)
        if answers.is_unknown(answer) and self._identity.forget():
            answer = await self._ask(path, parameters)
        if len(answer.body) > LONG_BYTES:
            return await asyncio.to_thread(answers.judge, answer, self._say)
        return answers.judge(answer, self._say)

    async def _ask(self, path: str, parameters: dict[str, str] | None) -> Answer:
        headers = await self._identity.headers(self._post)
        async with self._limiter:
            answer = await self._send("GET", self._account.base_url + API + path, params=parameters, headers=headers)
        self._clock.read(answer.headers)
        return answer

    async def _post(self, url: str, form: dict[str, str]) -> Answer:
        return await self._send("POST", url, data=form)

    async def _send(self, method: str, url: str, **given: Any) -> Answer:  # noqa: ANN401  (httpx' own arguments)
        """Return the answer. Raises TransientError if none comes, or only a part of one; else SdpError."""
        host = httpx.URL(url).host
        try:
            # httpx' time-out is for each piece: an answer that trickles would never end.
            async with asyncio.timeout(self._patience.answer), self._http.stream(method, url, **given) as response:
                body = await _body(response)
        except (TimeoutError, httpx.TimeoutException):
            raise TransientError(f"{host} gives no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            words = self._say(str(error)) or type(error).__name__
            raise TransientError(f"{host} cannot be reached, or hung up: {words}") from None
        return Answer(response.status_code, response.headers, body)

    async def _look(self, response: httpx.Response) -> None:
        """Raise SdpError if an answer is compressed, or leads elsewhere: httpx would read the address, however odd."""
        host = response.request.url.host
        answers.refuse_redirect(host, response.status_code, response.headers, self._say)
        found = response.headers.get("content-encoding", "")
        if {one.strip().lower() for one in found.split(",")} - {"", "identity"}:
            raise SdpError(
                f"{host} answered in the encoding '{self._say(found)}', and was asked for none: let it, or the proxy "
                "before it, heed `Accept-Encoding: identity`"
            )

    def _is_worth_another(self, error: BaseException) -> bool:
        return isinstance(error, TransientError) and error.retry_after <= self._patience.longest_wait

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Return how many seconds to wait: random, longer each time, and at least the Retry-After."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientError) else 0.0
        patience = self._patience
        chosen = tenacity.wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait)
        return max(chosen(state), asked)

    def _say(self, text: str) -> str:
        """Return what others wrote as a short line without our secrets."""
        return redaction.one_line(text, self._identity.secrets)


async def _body(response: httpx.Response) -> bytes:
    """Return an answer's body as it came. Raises SdpError if it is longer than MOST_BYTES, whatever it declared."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MOST_BYTES:
            raise SdpError(f"ServiceDesk Plus answered with more than {MOST_BYTES} bytes")
    return bytes(body)
