"""How does a bad day go? Faults strike one by one or two at once, with a pause after each; the checker ends it."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from tests.faults import checker, nemesis
from tests.faults.traffic import Senders, Sent
from tests.faults.unnoticed import UNNOTICED
from tests.faults.world import World, world


class Plan(msgspec.Struct, frozen=True):
    """The plan of a run: its seed, the seconds that a fault lasts, and the webhooks a second.

    `episodes` names the faults, those of one episode at once; without it they are drawn until `minutes` are over.
    With `unnoticed` these are the faults that nothing reports, with a kill after each, and a minute without any before
    the first and after the last.
    """

    seed: int
    episodes: Sequence[Sequence[str]] | None = None
    minutes: float = 0
    unnoticed: bool = False
    strike: float = 2.0
    rate: float = 150.0


class Account(msgspec.Struct):
    """The result of a run."""

    seed: int
    struck: Counter[str]
    answers: Counter[str]
    sent: int
    stored: int
    slowest_return: float  # seconds from the end of a fault to the next 202
    drained_after: float
    in_first_minute: int  # webhooks accepted
    in_last_minute: int
    broken: list[str]
    not_run: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the account as lines of text."""
        yield f"seed {self.seed}: {self.sent:,} requests, {self.stored:,} rows in the inbox, answers {dict(self.answers)}"
        for name, count in sorted(self.struck.items()):
            yield f"  {count:3} x {name}"
        yield from (f"  not run: {name}" for name in self.not_run)
        yield f"  accepted again after {self.slowest_return:.1f} s at most, all stored {self.drained_after:.1f} s after the end"
        yield f"  accepted in the first minute {self.in_first_minute:,}, in the last {self.in_last_minute:,}"
        yield from (f"  BROKEN: {promise}" for promise in self.broken)


def run(binaries: Path, plan: Plan, report: Callable[[str], None] = lambda _: None) -> Account:
    """Let faults strike while senders send, and return the account."""
    with world(binaries, supervised=plan.unnoticed) as made, nemesis.small_disk(made) as has_disk:
        available = [name for name in nemesis.FAULTS if is_possible(name, has_disk=has_disk)]
        urls = [server.url for server in made.servers]
        senders = Senders(urls, made.tenants, seed=plan.seed, count=16, rate=plan.rate)
        senders.start()
        time.sleep(3)
        ease = checker.Ease(made)
        struck, returned, broken = _days(made, senders, plan, available, report)
        senders.stop()
        ended = time.monotonic()
        broken += checker.wait_until_drained(made)
        drained = time.monotonic() - ended
        time.sleep(6)  # until slow leftovers are gone
        broken += [*checker.broken_promises(senders.sent, made.database), *ease.left_over()]
        stored = made.database.value("SELECT count(*) FROM inbox")
    not_run = [name for name in nemesis.FAULTS if name not in available]
    return Account(
        plan.seed, struck, answers(senders.sent), len(senders.sent), stored, returned, drained,
        *at_both_ends(senders.sent), broken, not_run,
    )  # fmt: skip


def _days(
    made: World, senders: Senders, plan: Plan, available: Sequence[str], report: Callable[[str], None]
) -> tuple[Counter[str], float, list[str]]:
    """Strike and wait, again and again; return the faults, the slowest return, and the returns that were too slow."""
    rng = random.Random(plan.seed)
    struck: Counter[str] = Counter()
    slowest, broken = 0.0, []
    for names in plan.episodes or drawn(rng, available, plan):
        possible = [name for name in names if name in available]
        report(" and ".join(possible))
        struck.update(possible)
        _strike(made, rng, possible, plan.strike)
        returned = _return(senders)
        slowest = max(slowest, returned)
        if returned > max([checker.ACCEPTS_WITHIN, *(checker.AFTER.get(name, 0.0) for name in possible)]):
            broken.append(f"accepted again {returned:.1f} s after: {' and '.join(possible)}")
        time.sleep(1)
    return struck, slowest, broken


def drawn(rng: random.Random, available: Sequence[str], plan: Plan) -> Iterator[list[str]]:
    """Draw faults until the time is up."""
    ends = time.monotonic() + plan.minutes * 60
    draw = _unnoticed if plan.unnoticed else _one_or_two
    if plan.unnoticed:
        time.sleep(60)
        ends -= 60
    while time.monotonic() < ends:
        yield from draw(rng, available)
    if plan.unnoticed:
        time.sleep(60)


def _one_or_two(rng: random.Random, available: Sequence[str]) -> Iterator[list[str]]:
    """Draw one fault, or two at once."""
    names = rng.sample(available, rng.choice((1, 1, 2)))
    if nemesis.can_meet(names):
        yield names


def _unnoticed(rng: random.Random, _available: Sequence[str]) -> Iterator[list[str]]:
    """Draw each of the faults that nothing reports, in another order each time, and a kill after each."""
    for name in rng.sample(list(UNNOTICED), len(UNNOTICED)):
        yield [name]
        yield [rng.choice(("a server is killed", "a worker is killed", "all servers and workers are killed"))]


def at_both_ends(sent: Sequence[Sent]) -> tuple[int, int]:
    """Return how many webhooks were accepted in the first minute and in the last."""
    accepted = [one.answered for one in sent if one.status == 202 and one.answered]
    first, last = min(accepted, default=0), max(accepted, default=0)
    return sum(one < first + 60 for one in accepted), sum(one > last - 60 for one in accepted)


def is_possible(name: str, *, has_disk: bool) -> bool:
    """Return whether this fault can happen on this machine."""
    if name == "the disk is full":
        return has_disk
    return not name.startswith("a clock") or nemesis.faketime() is not None


def answers(sent: Sequence[Sent]) -> Counter[str]:
    return Counter(str(one.status or "none") for one in sent)


def _strike(made: World, rng: random.Random, names: Sequence[str], seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        for name in sorted(names, key=nemesis.turn):
            stack.enter_context(nemesis.FAULTS[name](made, rng, seconds))
        time.sleep(seconds)


def _return(senders: Senders) -> float:
    """Wait until a webhook is accepted that was sent after the faults, and return the seconds that it took."""
    ended = time.monotonic()
    while time.monotonic() < ended + checker.STORED_WITHIN:
        for one in senders.sent[-500:]:
            if one.status == 202 and one.began > ended:
                return (one.answered or 0) - ended
        time.sleep(0.05)
    return checker.STORED_WITHIN
