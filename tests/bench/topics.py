"""Which texts have a right answer and come by the million? Tickets of topics: each topic has words and codes of its own.

A ticket has some 65 words: stop words, general words (few of them in half of all tickets, most of them rare), words of
its topic, and often an error code of its topic, a machine and a number. The same seed and number give the same texts.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence

TOPICS = 2_000
WORDS_OF_TOPIC = 30
BLOCK = 1_000  # tickets made from one seed
STOP_WORDS = re.findall(
    r"\w+",
    "the of and to in a is that it was for on are as with they be at this have from or had by but not what all were "
    "we when can there an which do how if will up other about out then them so some would into has no could my than "
    "been who its now after",
)
ONSETS = (*"bcdfghjklmnprstvwz", "br", "ch", "dr", "fl", "gr", "pr", "st", "tr")
VOWELS = (*"aeiou", "ai", "ea", "io", "ou")
CODAS = (*"nrltmkx", "nd", "st", *("",) * 7)


class Texts:
    """A vocabulary and its topics, and the tickets and questions made of them."""

    def __init__(self, seed: int = 24, general: int = 20_000, special: int = 20_000) -> None:
        draw = random.Random(seed)
        words = _vocabulary(draw, general + special)
        self._seed = seed
        self._general = _Pool(draw, words[:general], _falling(general))
        self._stop = _Pool(draw, STOP_WORDS, None)
        self._topics = [draw.sample(words[general:], WORDS_OF_TOPIC) for _ in range(TOPICS)]
        self._topic_weights = _falling(WORDS_OF_TOPIC, 5)
        self._codes = [f"0x8007{draw.randrange(65_536):04x}" for _ in range(TOPICS)]

    def tickets(self, count: int, stream: int = 0, first: int = 0, only_here: str = "") -> Iterator[str]:
        """Yield the tickets of a tenant from the `first` to before `count`; `first` is a multiple of BLOCK.

        Half of them have the word `only_here`, if there is one.
        """
        for block in range(first // BLOCK, -(-count // BLOCK)):
            draw = random.Random(f"{self._seed} {stream} {block}")
            for _ in range(min(BLOCK, count - block * BLOCK)):
                own = f" {only_here}" if only_here and draw.random() < 0.5 else ""
                yield f"{self._text(draw, int(draw.random() * TOPICS), 60)}{own}"

    def questions(self, count: int, words: Sequence[int], seed: int = 7) -> list[str]:
        """Return new tickets of drawn topics, each with as many words as one of `words` says."""
        draw = random.Random(f"{self._seed} questions {seed}")
        return [self._text(draw, draw.randrange(TOPICS), draw.choice(words)) for _ in range(count)]

    def _text(self, draw: random.Random, topic: int, count: int) -> str:
        """Return a text of about `count` words, and codes: a subject of few words, a blank line, the rest."""
        stop, special = round(count * 0.45), max(2, round(count * 0.2))
        general = self._general.draw(draw, max(1, count - stop - special))
        telling = draw.choices(self._topics[topic], cum_weights=self._topic_weights, k=special)
        if draw.random() < 0.4:
            telling.append(self._codes[topic])
        if draw.random() < 0.5:
            telling.append(f"srv-{int(draw.random() * 5_000):04d}")
        if draw.random() < 0.3:
            telling.append(f"NB-{int(draw.random() * 100_000):05d}")
        subject = " ".join([*telling[:2], *general[:3]])
        return f"{subject}\n\n{' '.join([*telling[2:], *general[3:], *self._stop.draw(draw, stop)])}"


class _Pool:
    """Words drawn once, by their weights.

    A draw takes them from a place and in steps that are both by chance: ten times as fast as to draw each.
    """

    SIZE = 1 << 18

    def __init__(self, draw: random.Random, words: Sequence[str], cum_weights: Sequence[float] | None) -> None:
        self._drawn = draw.choices(words, cum_weights=cum_weights, k=self.SIZE)

    def draw(self, draw: random.Random, count: int) -> list[str]:
        """Return that many words."""
        step = 1 + int(draw.random() * (self.SIZE // count // 2))
        place = int(draw.random() * (self.SIZE - step * count))
        return self._drawn[place : place + step * count : step]


def _vocabulary(draw: random.Random, count: int) -> list[str]:
    """Return that many different made words of two or three syllables."""
    made: dict[str, None] = {}
    while len(made) < count:
        syllables = (
            draw.choice(ONSETS) + draw.choice(VOWELS) + draw.choice(CODAS) for _ in range(draw.choice((2, 2, 2, 2, 3)))
        )
        made["".join(syllables)] = None
    return list(made)


def _falling(count: int, skipped: int = 0) -> list[float]:
    """Return cumulated weights: the nth word is n times as rare as the first, were there `skipped` before it."""
    return list(itertools.accumulate(1 / place for place in range(skipped + 1, skipped + count + 1)))
