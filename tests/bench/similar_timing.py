"""Does the time of an answer show which words another tenant's tickets have? A reader of a small tenant asks.

One question has a word that half of the large tenant's tickets have, one a word that nobody has, one the latter again:
that one's difference is the method's error. All are of one length, and asked in random order on one connection.
"""

import random
import statistics
import time
from collections.abc import Iterator

from tests.bench import similar_askers, timing
from tests.bench.table import Row
from tests.bench.workbench import Rig

WARM_UP = 100


def rows(rig: Rig, tenant_id: str, elsewhere: str, rounds: int) -> Iterator[Row]:
    """Yield for each kind the median in µs, and its difference to the median of a word that nobody has."""
    nobody = "".join(reversed(elsewhere))
    kinds = {
        "a word that nobody has": nobody,
        "the same again": nobody,
        "a word that only another tenant has": elsewhere,
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    with similar_askers.by_reader(rig, tenant_id, "watching")() as ask:
        for number in range(WARM_UP + rounds):
            for kind in random.sample(list(kinds), len(kinds)):
                began = time.perf_counter_ns()
                assert ask(kinds[kind]) == 0
                if number >= WARM_UP:
                    taken[kind].append((time.perf_counter_ns() - began) / 1000)
    reference = next(iter(taken.values()))
    for kind, each in taken.items():
        low, high = timing.interval(each, reference)
        differs = statistics.median(each) - statistics.median(reference)
        figures = f"{statistics.median(each):.0f} µs at the median, {differs:+.1f} ({low:+.1f} to {high:+.1f}) µs"
        yield Row(f"time of {kind}", figures, "", "50 µs")
