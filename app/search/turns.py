"""When may a question ask Postgres, and which one is refused at once? Webhooks come first.

At most as many ask at once as the pool has connections, and four times as many wait. While the appends are busy, one
question asks at a time, and where they are slow, half of the time none: beside a full load of webhooks each statement
of a search takes processor time from them. While webhooks wait for long, none asks, and where that goes on, questions
are refused.

Tenants share this room: the next turn is that of the tenant that asks least just then, and where nobody else may wait,
the tenant with most waiting gives a place up. So a program that asks without pause keeps its own tenant waiting.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

WAITING = 4  # times as many questions may wait as may ask
LONGEST_WAIT = 2.0  # seconds that a question waits for its turn
LOOK_EVERY = 0.01  # seconds between two looks at the appends, while questions wait
SLOW = 0.01  # seconds that a webhook waits, as at full load; at half of it, half as long
LATE = 0.05  # seconds that a webhook waits for its commit, past which no question begins: app/webhook/admission.py
TOO_LATE = 0.25  # seconds; one slow commit is no overload, but webhooks that wait so long have no room for a search
CALM = 1.0  # seconds that questions are refused after that, so that the webhooks catch up


class Appends(Protocol):
    """What the webhooks' appends say of their load."""

    @property
    def are_busy(self) -> bool:
        """Whether as many statements are under way as there may be."""

    @property
    def is_crowded(self) -> bool:
        """Whether webhooks are refused for want of room."""

    def longest_wait(self) -> float:
        """Return for how many seconds the webhook has waited that waits longest; 0 if none waits."""


class WebhooksWaitError(Exception):
    """Webhooks wait for their commits: the question may be asked again later."""


class NoTurnError(Exception):
    """Too many questions wait, or this one has waited for too long."""


class Waiting(NamedTuple):
    """A question that waits for its turn."""

    tenant_id: str
    turn: asyncio.Future[None]


class Turns:
    """Gives each question its turn; of a tenant's, the first that came first."""

    def __init__(self, size: int, appends: Appends) -> None:
        self._size, self._appends = size, appends
        self._asking = Counter[str]()  # by tenant
        self._waiting: list[Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._late_since: float | None = None  # by the loop's clock, as the next; each look since found one LATE
        self._closed_until = self._rests_until = float("-inf")

    @contextlib.asynccontextmanager
    async def turn(self, tenant_id: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the block ends. Raises WebhooksWaitError or NoTurnError."""
        await self._begin(tenant_id)
        began = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._rest(began)
            self._end(tenant_id)

    async def _begin(self, tenant_id: str) -> None:
        if self._is_closed():
            raise WebhooksWaitError
        if not self._waiting and self._asking.total() < self._most():
            self._asking[tenant_id] += 1
        elif len(self._waiting) < self._size * WAITING or self._make_room(tenant_id):
            await self._wait(Waiting(tenant_id, asyncio.get_running_loop().create_future()))
        else:
            raise NoTurnError

    def _make_room(self, tenant_id: str) -> bool:
        """Refuse the last question of the tenant with most waiting, if this one's has fewer; return False if not."""
        waiting = Counter(one.tenant_id for one in self._waiting)
        [(most_waiting, count)] = waiting.most_common(1)
        if waiting[tenant_id] + 1 >= count:
            return False
        last = next(one for one in reversed(self._waiting) if one.tenant_id == most_waiting)
        self._waiting.remove(last)
        if not last.turn.done():
            last.turn.set_exception(NoTurnError())
        return True

    async def _wait(self, one: Waiting) -> None:
        self._waiting.append(one)
        self._look_later()
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await one.turn
        except TimeoutError:
            self._give_up(one)
            raise NoTurnError from None
        except asyncio.CancelledError:
            self._give_up(one)
            raise

    def _give_up(self, one: Waiting) -> None:
        if one in self._waiting:
            self._waiting.remove(one)
        elif not one.turn.cancelled() and one.turn.exception() is None:  # it came at this very moment
            self._end(one.tenant_id)

    def _rest(self, began: float) -> None:
        """Leave the webhooks as much time as a question took, where they need it."""
        now = asyncio.get_running_loop().time()
        if self._appends.are_busy and self._appends.longest_wait() > SLOW:
            self._rests_until = now + min(now - began, CALM)

    def _end(self, tenant_id: str) -> None:
        self._asking -= Counter([tenant_id])
        self._let_on()

    def _let_on(self) -> None:
        """Give their turns to those that wait, as many as there are."""
        while self._waiting and self._asking.total() < self._most():
            one = min(self._waiting, key=lambda one: self._asking[one.tenant_id])  # the first of those that ask least
            self._waiting.remove(one)
            if not one.turn.done():
                self._asking[one.tenant_id] += 1
                one.turn.set_result(None)

    def _most(self) -> int:
        """Return how many may ask at once now."""
        if self._appends.longest_wait() > LATE or asyncio.get_running_loop().time() < self._rests_until:
            return 0
        return 1 if self._appends.are_busy else self._size

    def _is_closed(self) -> bool:
        """Look at the appends, and return whether questions are refused now."""
        now, waited = asyncio.get_running_loop().time(), self._appends.longest_wait()
        self._late_since = (self._late_since or now) if waited > LATE else None
        late = now - self._late_since if self._late_since else 0.0
        if self._appends.is_crowded or max(waited, late) > TOO_LATE:
            self._closed_until = now + CALM
        return now < self._closed_until

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_again)

    def _look_again(self) -> None:
        """Give turns where the appends allow it by now, or refuse those that wait."""
        self._timer = None
        if self._is_closed():
            for one in self._waiting:
                if not one.turn.done():
                    one.turn.set_exception(WebhooksWaitError())
            self._waiting.clear()
        self._let_on()
        if self._waiting:
            self._look_later()
        else:
            self._late_since = None
