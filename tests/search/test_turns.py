"""Turns decides which question asks, waits or is refused, by what the appends say; each turn comes back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.search import turns as module
from app.search.turns import CALM, LATE, SLOW, TOO_LATE, WAITING, NoTurnError, Turns, WebhooksWaitError

pytestmark = pytest.mark.one_postgres


class Load:
    """What the appends say, as a test sets it."""

    def __init__(self) -> None:
        self.are_busy = self.is_crowded = False
        self.waited = 0.0

    def longest_wait(self) -> float:
        return self.waited


class Asking:
    """Questions that hold their turn until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.go = turns, asyncio.Event()
        self.asking = self.most = 0

    async def ask(self, tenant_id: str = "acme") -> str:
        try:
            async with self.turns.turn(tenant_id):
                self.asking += 1
                self.most = max(self.most, self.asking)
                await self.go.wait()
                self.asking -= 1
        except (NoTurnError, WebhooksWaitError) as error:
            return type(error).__name__
        return "answered"

    async def start(self, count: int, tenant_id: str = "acme") -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(self.ask(tenant_id)) for _ in range(count)]
        await asyncio.sleep(0.02)
        return tasks


def run(act: Callable[[Load, Asking], Awaitable[None]], size: int = 2) -> None:
    async def main() -> None:
        load = Load()
        await act(load, Asking(Turns(size, load)))

    asyncio.run(main())


def test_as_many_ask_as_there_are_connections_and_four_times_as_many_wait() -> None:
    async def act(_load: Load, asking: Asking) -> None:
        tasks = await asking.start(2 + 2 * WAITING + 3)
        assert (asking.asking, [task.result() for task in tasks if task.done()]) == (2, ["NoTurnError"] * 3)
        asking.go.set()
        assert [await task for task in tasks].count("answered") == 2 + 2 * WAITING
        assert asking.most == 2

    run(act)


def test_a_tenant_that_asks_without_pause_keeps_no_other_out() -> None:
    async def act(_load: Load, asking: Asking) -> None:
        many = await asking.start(2 + 2 * WAITING, "acme")
        few = await asking.start(2, "globex")
        assert [task.done() for task in few] == [False, False]
        assert [task.result() for task in many if task.done()] == ["NoTurnError"] * 2
        assert await asking.ask("acme") == "NoTurnError"  # globex gives no place up
        many[0].cancel()
        many[1].cancel()
        await asyncio.sleep(0.02)
        asking.go.set()
        first, _ = await asyncio.wait([*few, *many[2:]], return_when=asyncio.FIRST_COMPLETED)
        assert few[0] in first
        assert [await task for task in few] == ["answered"] * 2

    run(act)


def test_one_asks_at_a_time_while_the_appends_are_busy() -> None:
    async def act(load: Load, asking: Asking) -> None:
        load.are_busy = True
        tasks = await asking.start(3)
        assert asking.asking == 1
        load.are_busy = False
        await asyncio.sleep(0.03)
        assert asking.asking == 2
        asking.go.set()
        assert [await task for task in tasks] == ["answered"] * 3

    run(act)


def test_after_a_question_the_webhooks_have_as_much_time_where_they_are_slow() -> None:
    async def act(load: Load, asking: Asking) -> None:
        first, second = await asking.start(2)
        await asyncio.sleep(0.1)
        load.are_busy, load.waited = True, SLOW * 1.5
        asking.go.set()
        assert await first == "answered"
        asking.go.clear()
        assert await second == "answered"
        began = asyncio.get_running_loop().time()
        third = (await asking.start(1))[0]
        assert asking.asking == 0
        asking.go.set()
        assert await third == "answered"
        assert asyncio.get_running_loop().time() - began > 0.1

    run(act)


def test_none_begins_while_a_webhook_waits_and_all_are_refused_where_that_goes_on() -> None:
    async def act(load: Load, asking: Asking) -> None:
        load.waited = LATE * 1.5
        short = await asking.start(2)
        load.waited = 0.0
        await asyncio.sleep(0.03)
        assert asking.asking == 2  # one slow commit refuses none
        asking.go.set()
        assert [await task for task in short] == ["answered"] * 2
        load.waited = LATE * 1.5  # one webhook after the other
        assert [await task for task in await asking.start(3)] == ["WebhooksWaitError"] * 3
        load.waited = 0.0
        assert await asking.ask() == "WebhooksWaitError"  # they catch up first
        await asyncio.sleep(CALM + 0.05)
        assert await asking.ask() == "answered"

    run(act)


@pytest.mark.parametrize(("crowded", "waited"), [(True, 0.0), (False, TOO_LATE * 1.01)])
def test_it_is_refused_at_once_where_webhooks_are_refused_or_wait_for_long(crowded: bool, waited: float) -> None:  # noqa: FBT001
    async def act(load: Load, asking: Asking) -> None:
        load.is_crowded, load.waited = crowded, waited
        assert [task.result() for task in await asking.start(2)] == ["WebhooksWaitError"] * 2

    run(act)


def test_who_waits_for_too_long_or_hangs_up_leaves_no_turn_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)

    async def act(_load: Load, asking: Asking) -> None:
        first, late, gone = await asking.start(3)
        gone.cancel()
        assert await late == "NoTurnError"
        first.cancel()
        await asyncio.wait({first, gone})
        asking.go.set()
        for _ in range(50):  # a turn that comes at the very moment in which its question gives up is given on
            tasks = await asking.start(0) or [asyncio.create_task(asking.ask()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.wait(tasks)
        assert await asking.ask() == "answered"

    run(act, size=1)
