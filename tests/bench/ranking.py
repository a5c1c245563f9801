"""How good is a ranking? Measures of the first documents that a way of searching returns."""

import math
from collections.abc import Collection, Mapping, Sequence

DEPTH = 10


def ndcg(found: Sequence[int], right: Mapping[int, float], depth: int = DEPTH) -> float:
    """Return the gain of the first `depth` found, discounted by their places, as a share of the best possible.

    `right` maps each relevant document to its gain. A document at place n counts its gain divided by log2(n + 1).
    """
    best = _discounted(sorted(right.values(), reverse=True)[:depth])
    return _discounted([right.get(one, 0.0) for one in found[:depth]]) / best


def recall(found: Sequence[int], right: Collection[int], depth: int = DEPTH) -> float:
    """Return which share of the relevant documents, at most `depth` of them, is among the first `depth` found."""
    return len(set(found[:depth]) & set(right)) / min(depth, len(right))


def overlap(found: Sequence[float], best: Sequence[float]) -> float:
    """Return which share of the best was found, where `found` and `best` hold the exact scores of documents.

    A document whose score equals the last of the best is as good as it. Scores of single precision are compared.
    """
    good = sum(score >= min(best) * (1 - 1e-5) for score in found)
    return min(1.0, good / len(best)) if best else 1.0


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))
