"""Which score has each ticket? BM25 over all of them, computed here from the words that Postgres makes of texts."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.support.system import Database
from tests.support.tickets_found import Ticket

K1, B, SHARE = 1.5, 0.75, 0.3
PARTS = """
SELECT piece, array_agg(word) AS words
FROM unnest(search_pieces(%s)) WITH ORDINALITY AS pieces (piece, place),
     LATERAL search_words_of('english', piece) AS made, unnest(words) AS word
GROUP BY place, piece
"""


class Exact:
    """BM25 over all tickets, by the words that Postgres makes of them."""

    def __init__(self, database: Database, given: Sequence[Ticket]) -> None:
        self._database = database
        self._words = {one.id: self._counted(one.text) for one in given if one.resolution.strip()}
        self._frequencies = Counter(word for words in self._words.values() for word in words)
        self._average = sum(map(length, self._words.values())) / len(self._words)

    def scores(self, text: str) -> Mapping[str, float]:
        asked, weights = self._counted(text), self._weights(text)
        itself = self._score(asked, weights, asked)
        scores = {number: self._score(asked, weights, words) / itself for number, words in self._words.items()}
        return {number: min(1.0, score) for number, score in scores.items() if score > 0}

    def _counted(self, text: str) -> Counter[str]:
        return Counter(word for piece in self._pieces(text) for word in piece)

    def _pieces(self, text: str) -> list[list[str]]:
        return [row["words"] for row in self._database.query(PARTS, text)]

    def _weights(self, text: str) -> Mapping[str, float]:
        """Return the weight of each word: of a code, what its parts lack to its own."""
        weights: dict[str, float] = {}
        for piece in sorted(self._pieces(text), key=len):
            for word in sorted(piece, key=len):
                parts = [weights[one] for one in set(piece) if one != word and one in word]
                weights[word] = max(0.0, self._weight(self._frequencies[word]) - sum(parts))
        return weights

    def _score(self, asked: Counter[str], weights: Mapping[str, float], words: Counter[str]) -> float:
        return sum(max(self._parts(word, n, weights[word], words), default=0.0) for word, n in asked.items())

    def _parts(self, word: str, n: int, weight: float, words: Counter[str]) -> Iterator[float]:
        for found, of in words.items():
            if found == word:
                yield n * weight * self._saturated(of, length(words))
            elif len(word) >= 4 and found.startswith(word):
                longer = sum(count for one, count in self._frequencies.items() if one.startswith(word) and one != word)
                yield SHARE * n * min(weight, self._weight(longer)) * self._saturated(of, length(words))

    def _weight(self, frequency: int) -> float:
        return math.log(1 + (max(len(self._words), frequency) - frequency + 0.5) / (frequency + 0.5))

    def _saturated(self, n: int, of: int) -> float:
        return n * (K1 + 1) / (n + K1 * (1 - B + B * of / self._average))


def length(words: Counter[str]) -> int:
    """Return how many words a text has; its codes count by their parts."""
    return sum(n for word, n in words.items() if not set(word) & set("._-"))
