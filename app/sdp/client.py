"""How is a ServiceDesk Plus asked? With retries, at a limited rate, and without our secrets in any error."""

import asyncio
import functools
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
import tenacity
from aiolimiter import AsyncLimiter

from app.sdp import address, answers, epoch, identity, listed, order
from app.sdp.access import Access
from app.sdp.account import API, Account
from app.sdp.answers import Answer
from app.sdp.errors import (
    AwayError,
    DeniedError,
    LateError,
    NowhereError,
    RefusedError,
    SdpError,
    TooLongError,
    TransientError,
)
from app.sdp.listed import CREATED, REQUESTS, ROWS, UPDATED, Page
from app.sdp.transport import Transport
from otel import redaction

LONG_BYTES = 256 * 1024  # of an answer; a longer one is read in a thread, as a worker's heartbeat would wait for it
# All that a delivery is made of: where a list brings it, no ticket has to be fetched.
FIELDS = [
    "id", "display_id", "subject", "description", "status", "priority", "resolution", "resolved_time", "completed_time",
    "tags", "created_time", "last_updated_time",
]  # fmt: skip
FEW_FIELDS = ["id", "status", "created_time", "last_updated_time"]
FEW_PAGES = 10  # that are asked for with few fields, after one with all of them could not be had
# What may be the fault of one ticket's text in a list, or of a field that the portal's lists do not know.
OF_FIELDS = (RefusedError, TransientError, TooLongError)
OF_ALL = (AwayError, DeniedError, NowhereError)


class Patience(msgspec.Struct, frozen=True):
    """How often, and for how many seconds, a request is retried."""

    tries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 30.0  # a longer Retry-After is left to the next run
    altogether: float = 60.0  # after which no other try begins
    answer: float = 20.0  # for one answer, however it drips


class Client:
    """Asks a ServiceDesk Plus at most `per_minute` times a minute, at even intervals, and what `access` knows of it.

    Raises SdpError if the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self,
        account: Account,
        per_minute: int,
        patience: Patience = Patience(),  # noqa: B008
        *,
        access: Access | None = None,
    ) -> None:
        self._account, self._patience, self._access = account, patience, access
        self._few_pages = 0  # that are still asked for with few fields
        self._identity = identity.of(account.credentials)
        self.interval = 60 / per_minute  # seconds that a request may have to wait for its turn
        self._limiter = AsyncLimiter(1, self.interval)
        self._clock = epoch.Clock()
        self.ends_at = float("inf")  # by the monotonic clock: no answer is waited for after it
        self._http = Transport(patience.answer, self._say)

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
        await self._http.close()

    async def page(
        self,
        begin: int,
        start_index: int = 1,
        *,
        count: bool = False,
        rows: int = ROWS,
        where: str = REQUESTS,
        by: str = UPDATED,
    ) -> Page:
        """Return a page of the tickets whose time `by` is `begin` (milliseconds since 1970) or later, oldest first.

        `start_index` is its first row, from 1. With `count` ServiceDesk Plus counts them all. Raises SdpError.
        """
        # The vendor's own example has this condition. Times are whole milliseconds, so one less includes that time.
        later = {"field": by, "condition": "greater than", "value": str(max(begin - 1, 0))}
        asked = {
            "row_count": rows,
            "start_index": start_index,
            "sort_field": by,
            "sort_order": "asc",
            "search_criteria": [later],
            "get_total_count": count,
        }
        self._few_pages = max(self._few_pages - 1, 0)
        if not self._few_pages:
            try:
                return await self._list(where, asked | {"fields_required": FIELDS})
            except OF_FIELDS as error:
                if isinstance(error, OF_ALL):
                    raise
                self._few_pages = FEW_PAGES
                tries = 1 if isinstance(error, TransientError) else None
                return await self._list(where, asked | {"fields_required": FEW_FIELDS}, tries)
        return await self._list(where, asked | {"fields_required": FEW_FIELDS})

    async def ticket(self, ticket_id: str, where: str = REQUESTS) -> msgspec.Raw:
        """Return a ticket as it is now. Raises GoneError if there is none, SdpError if it cannot be fetched."""
        body = await self._get(f"/{where}/{quote(ticket_id, safe='')}")
        return answers.read(answers.Whole, body).ticket

    async def reach(self) -> None:
        """Ask for one ticket. Raises SdpError."""
        await self.page(0, rows=1)

    async def check(self) -> None:
        """Ask for one ticket, and for those of a time to come, of which there are none. Raises SdpError."""
        await self.reach()
        later = self.latest
        order.checked(await self.page(later, rows=1), later)

    async def check_created(self) -> None:
        """Ask for the tickets that were created at a time to come, of which there are none. Raises SdpError."""
        later = self.latest
        order.checked(await self.page(later, rows=1, by=CREATED), later, CREATED)

    async def newest(self) -> Page:
        """Return the hundred tickets that were updated last, the latest first. Raises SdpError."""
        order = {"sort_field": UPDATED, "sort_order": "desc"}
        return await self._list(REQUESTS, {"row_count": ROWS, **order, "fields_required": FEW_FIELDS})

    async def named(self, criterion: dict[str, Any], where: str = REQUESTS) -> Sequence[tuple[str | None, str]]:
        """Return display id and id of the tickets that fulfil a criterion, at most ROWS. Raises SdpError."""
        asked = {"row_count": ROWS, "search_criteria": [criterion], "fields_required": ["id", "display_id"]}
        body = await self._get(f"/{where}", {"input_data": msgspec.json.encode({"list_info": asked}).decode()})
        return listed.read_named(body, ROWS)

    async def _list(self, where: str, asked: dict[str, Any], tries: int | None = None) -> Page:
        given, began = {"input_data": msgspec.json.encode({"list_info": asked}).decode()}, time.time_ns()
        body = await self._get(f"/{where}", given, tries)
        read = functools.partial(listed.read_page, body, asked["row_count"], began, asked["sort_field"])
        return await asyncio.to_thread(read) if len(body) > LONG_BYTES else read()

    async def _get(self, path: str, parameters: dict[str, str] | None = None, tries: int | None = None) -> bytes:
        """Return the body of a successful answer, after retries, and after a pause if this run may wait for its end.

        Raises SdpError, or a database error.
        """
        if self._access is None:
            return await self._answer(path, parameters, tries)
        while True:
            await self._access.before(self._identity)
            try:
                body = await self._answer(path, parameters, tries)
            except TransientError as error:
                await self._access.after(self._identity)
                if error.retry_after <= self._patience.longest_wait:
                    raise
                await (self._access.wait if isinstance(error, DeniedError) else self._access.pause)(error)
            except SdpError:
                await self._access.after(self._identity)
                raise
            else:
                await self._access.after(self._identity)
                return body

    async def _answer(self, path: str, parameters: dict[str, str] | None, tries: int | None) -> bytes:
        """Return the body of a successful answer, after retries. Raises SdpError."""
        patience = self._patience
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._is_worth_another),
            wait=self._wait,
            stop=tenacity.stop_after_attempt(tries or patience.tries) | tenacity.stop_before_delay(patience.altogether),
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
        if answers.is_unknown(answer) and self._identity.refused():
            answer = await self._ask(path, parameters)
            if answers.is_unknown(answer):
                self._identity.refused()
        if not answers.is_unknown(answer):
            self._identity.accepted()
        try:
            if len(answer.body) > LONG_BYTES:
                return await asyncio.to_thread(answers.judge, answer, self._say)
            return answers.judge(answer, self._say)
        except NowhereError as error:
            raise NowhereError(f"{error}: {address.where_else(self._account)}") from None

    async def _ask(self, path: str, parameters: dict[str, str] | None) -> Answer:
        headers = await self._identity.headers(self._post)
        async with self._limiter:
            url = self._account.base_url + API + path
            answer = await self._http.send("GET", url, params=parameters, headers=headers)
        self._clock.read(answer.headers)
        return answer

    async def _post(self, url: str, form: dict[str, str]) -> Answer:
        return await self._http.send("POST", url, data=form)

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
