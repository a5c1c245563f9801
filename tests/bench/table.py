"""The results as a table of text, and in docs/performance.md."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tests import ROOT

One = TypeVar("One")
Found = TypeVar("Found")
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end -->"


class Row(NamedTuple):
    """One line of the table; `wanted` is what the result is compared with: aim and floor."""

    what: str
    figures: str
    ratio: str = ""
    wanted: str = ""


def in_turn(given: Mapping[str, One], rounds: int, measure: Callable[[One], Found]) -> dict[str, list[Found]]:
    """Measure each of `given` once a round."""
    found: dict[str, list[Found]] = {name: [] for name in given}
    for _ in range(rounds):
        for name, one in given.items():
            found[name].append(measure(one))
    return found


def compared(rates: Mapping[str, Sequence[float]], one: str, other: str) -> tuple[str, float]:
    """Return the medians of both as text, and the median of their ratios within each round."""
    ratios = [mine / theirs for mine, theirs in zip(rates[one], rates[other], strict=True)]
    words = f"{statistics.median(rates[one]):,.0f} beside {statistics.median(rates[other]):,.0f}"
    return words, statistics.median(ratios)


def write(rows: Sequence[Row], machine: str) -> None:
    """Write the table between its marks in docs/performance.md."""
    lines = ["| what | figures | ratio | aim / floor |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + "\n".join([*lines, "", f"{machine}.", ""]) + END + after)
