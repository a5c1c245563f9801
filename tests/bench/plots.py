"""Draw the figures as SVG in docs/performance/, by matplotlib."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests import ROOT

FOLDER = ROOT / "docs/performance"
OURS, OTHERS = "#2f6fb0", "#9aa5b1"
_drawn: dict[str, Figure] = {}
# Text stays text, and the same figures make the same file.
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "ticket-inbox", "axes.spines.top": False, "axes.spines.right": False}
)


def designs(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw accepted/s of each design, and its latency."""
    figure = Figure((10, 2.6))
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(found)[::-1]
    colors = [OURS if name == "ours" else OTHERS for name in names]
    rates = [statistics.median(run["per_second"] for run in found[name]) for name in names]
    left.bar_label(left.barh(names, rates, color=colors), fmt="{:,.0f}", padding=3)
    left.set(xlabel="accepted webhooks/s", xlim=(0, max(rates) * 1.15))
    p99 = [statistics.median(run["p99_ms"] for run in found[name]) for name in names]
    right.bar_label(right.barh(names, p99, color=colors), fmt="{:,.0f}", padding=3)
    right.set(xlabel="latency at full load, p99 in ms (64 connections)", xlim=(0, max(p99) * 1.15))
    _drawn["designs"] = figure


def lag(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw how long webhooks took from receipt to stored, by the second in which they arrived."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        seconds[row["second"]].append(row["lag"] * 1000)
    figure = Figure((10, 2.6))
    axes = figure.subplots()
    at = sorted(second for second, lags in seconds.items() if len(lags) > 1)
    axes.plot(
        at,
        [statistics.quantiles(seconds[second], n=100, method="inclusive")[98] for second in at],
        color=OTHERS,
        label="p99",
    )
    axes.plot(at, [statistics.median(seconds[second]) for second in at], color=OURS, label="median")
    axes.set(xlabel="seconds at full load", ylabel="receipt to stored, ms", ylim=(0, None))
    axes.legend(frameon=False)
    _drawn["lag"] = figure


def growth(ratios: Mapping[int, float]) -> None:
    """Draw accepted/s beside full tables, as a ratio to empty ones."""
    figure = Figure((5, 2.6))
    axes = figure.subplots()
    axes.plot([rows / 1e6 for rows in ratios], list(ratios.values()), color=OURS, marker="o")
    axes.set(xlabel="million inbox rows already there", ylabel="accepted/s, ratio", ylim=(0, 1.2))
    _drawn["growth"] = figure


def batches(costs: Mapping[int, tuple[float, float]]) -> None:
    """Draw the cost of a row by the size of its batch."""
    figure = Figure((5, 2.6))
    axes = figure.subplots()
    for index, (name, color) in enumerate((("promote", OURS), ("append", OTHERS))):
        axes.plot(list(costs), [cost[1 - index] for cost in costs.values()], color=color, marker="o", label=name)
    axes.set(xlabel="rows in a batch", ylabel="µs a row", xscale="log", yscale="log")
    axes.set_xticks([1, 10, 100, 500], ["1", "10", "100", "500"])
    axes.legend(frameon=False)
    _drawn["batches"] = figure


def write() -> None:
    """Write the plots to their files."""
    FOLDER.mkdir(exist_ok=True)
    for name, figure in _drawn.items():
        figure.savefig(FOLDER / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
