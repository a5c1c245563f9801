"""How is a ServiceDesk Plus asked? With retries, at a limited rate, and without our secrets in any error."""

import asyncio
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
import tenacity
from aiolimiter import AsyncLimiter

from app.sdp import answers, identity
from app.sdp.account import API, Account
from app.sdp.answers import Answer, Page
from app.sdp.errors import GoneError, SdpError, TransientError

ROWS = 100  # of a page; ServiceDesk Plus returns no more
MOST_BYTES = 32 * 1024 * 1024  # of an answer
FIELDS = ["id", "status", "last_updated_time"]


class Patience(msgspec.Struct, frozen=True):
    """How often, and for how many seconds, a request is retried."""

    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0  # a longer Retry-After is left to the next run
    altogether: float = 60.0
    answer: float = 20.0  # for one answer


class Client:
    """Asks a ServiceDesk Plus at most `per_minute` times a minute, at even intervals.

    Raises SdpError if the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, account: Account, per_minute: int, patience: Patience = Patience()) -> None:  # noqa: B008
        self._account, self._patience = account, patience
        self._identity = identity.of(account.credentials)
        self._limiter = AsyncLimiter(1, 60 / per_minute)
        # No redirect is followed: our key would go with it.
        try:
            self._http = httpx.AsyncClient(timeout=patience.answer, follow_redirects=False)
        except (ImportError, ValueError, OSError) as error:
            raise SdpError(f"HTTPS_PROXY, SSL_CERT_FILE or their like cannot be used: {error}") from None

    @property
    def base_url(self) -> str:
        """The address of the ServiceDesk Plus."""
        return self._account.base_url

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
        return answers.read(Page, await self._get("/requests", given))

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
            stop=tenacity.stop_after_attempt(patience.tries) | tenacity.stop_after_delay(patience.altogether),
            reraise=True,
        )
        try:
            return await retrying(self._try, path, parameters)
        except SdpError as error:
            error.args = (self._clean(str(error)),)
            raise

    async def _try(self, path: str, parameters: dict[str, str] | None) -> bytes:
        answer = await self._ask(path, parameters)
        if answers.is_unknown(answer) and self._identity.forget():
            answer = await self._ask(path, parameters)
        return answers.judge(answer)

    async def _ask(self, path: str, parameters: dict[str, str] | None) -> Answer:
        headers = await self._identity.headers(self._post)
        async with self._limiter:
            return await self._send("GET", self._account.base_url + API + path, params=parameters, headers=headers)

    async def _post(self, url: str, form: dict[str, str]) -> Answer:
        return await self._send("POST", url, data=form)

    async def _send(self, method: str, url: str, **given: Any) -> Answer:  # noqa: ANN401  (httpx' own arguments)
        """Return the answer. Raises TransientError if none comes, or only a part of one."""
        try:
            # httpx' time-out is for each piece: an answer that trickles would never end.
            async with asyncio.timeout(self._patience.answer), self._http.stream(method, url, **given) as response:
                body = await _body(response)
        except (TimeoutError, httpx.TimeoutException):
            raise TransientError(f"{httpx.URL(url).host} gives no answer in time") from None
        except (httpx.HTTPError, OSError) as error:
            words = str(error) or type(error).__name__
            raise TransientError(f"{httpx.URL(url).host} cannot be reached, or hung up: {words:.200}") from None
        return Answer(response.status_code, response.headers, body)

    def _is_worth_another(self, error: BaseException) -> bool:
        return isinstance(error, TransientError) and error.retry_after <= self._patience.longest_wait

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Return how many seconds to wait: random, longer each time, and at least the Retry-After."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientError) else 0.0
        patience = self._patience
        chosen = tenacity.wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait)
        return max(chosen(state), asked)

    def _clean(self, text: str) -> str:
        """Return a text in one line, with our secrets replaced."""
        for secret in [*self._account.secrets, *self._identity.secrets]:
            text = text.replace(secret, "…")
        return " ".join(text.split())


async def _body(response: httpx.Response) -> bytes:
    """Return an answer's body. Raises SdpError if it is longer than MOST_BYTES."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise SdpError(f"ServiceDesk Plus answered with more than {MOST_BYTES} bytes")
    return b"".join(parts)
