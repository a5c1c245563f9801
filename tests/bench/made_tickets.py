"""Which tickets have a right answer, because they were made? Several people report each problem, in words of their own.

A problem is a product, a symptom and a code (an error, an update, a version, a path) on a machine. The tickets of a
problem differ in wording, noise and typing: typos, no blank after a full stop, lower case, a code without its prefix.
"""

import random
from typing import NamedTuple

from tests.bench.made_words import Words
from tests.bench.similar_sets import Collection, Question

TICKETS = (3, 12)  # of one problem, at least and at most
TYPOS = 0.03  # of the words


class Problem(NamedTuple):
    """What is wrong, and what people write of it."""

    product: tuple[str, ...]
    symptom: tuple[str, ...]
    code: tuple[str, str]  # as the system writes it, and the part that people type
    machine: tuple[str, str]


def collections(words: Words, problems: int = 200, seed: int = 24) -> list[Collection]:
    """Return the tickets of that many problems, with each kind of question: new tickets, short ones, parts of codes."""
    draw = random.Random(seed)
    known = [_problem(words, draw) for _ in range(problems)]
    tickets = [
        (number, ticket(one, words, draw)) for number, one in enumerate(known) for _ in range(draw.randint(*TICKETS))
    ]
    draw.shuffle(tickets)
    right = [{place: 1.0 for place, (of, _) in enumerate(tickets) if of == number} for number in range(problems)]
    kinds = {"new tickets": ticket, "short ones": short, "parts of codes": part}
    documents = [text for _, text in tickets]
    return [
        Collection(
            f"made, {words.language}: {name}", words.language, documents,
            [Question(make(one, words, draw), right[number]) for number, one in enumerate(known)],
        )
        for name, make in kinds.items()
    ]  # fmt: skip


def ticket(problem: Problem, words: Words, draw: random.Random) -> str:
    """Return a ticket of some 40 to 80 words: its subject, a blank line, its description."""
    product = draw.choice(problem.product)
    subject = f"{product} {draw.choice(problem.symptom)}"
    sentences = [
        f"{draw.choice(problem.product)} {draw.choice(problem.symptom)}.",
        draw.choice(words.codes).format(_written(problem.code, draw)),
        draw.choice(words.machines).format(_written(problem.machine, draw)),
        *draw.sample(words.asides, draw.randint(1, 4)),
    ]
    draw.shuffle(sentences)
    blank = "" if draw.random() < 0.1 else " "  # one in ten types no blank after a full stop
    body = f"{draw.choice(words.greetings)} {blank.join(one[0].upper() + one[1:] for one in sentences)}"
    return _typed(f"{subject}\n\n{body.strip()}", draw)


def short(problem: Problem, _words: Words, draw: random.Random) -> str:
    """Return a question of a few words: what does what, and one time in two where."""
    where = f" ({problem.machine[1]})" if draw.random() < 0.5 else f" {problem.code[0]}"
    return _typed(f"{draw.choice(problem.product)} {draw.choice(problem.symptom)}{where}", draw)


def part(problem: Problem, words: Words, draw: random.Random) -> str:
    """Return a question whose only telling words are the parts of codes that people type."""
    asides = " ".join(draw.sample(words.asides, 2))
    return f"{problem.code[1]} {problem.machine[1]}. {asides}"


def _problem(words: Words, draw: random.Random) -> Problem:
    return Problem(draw.choice(words.products), draw.choice(words.symptoms), _code(draw), _machine(draw))


def _code(draw: random.Random) -> tuple[str, str]:
    """Return a code as a system writes it, and the part that people type."""
    number, name = draw.randrange(10_000), draw.choice(("spoolsv", "lsass", "agentsvc", "mailhost", "sapgui", "ctxlog"))
    version = f"{draw.randint(1, 12)}.{draw.randrange(10)}.{draw.randrange(30)}"
    return draw.choice((
        (f"0x8007{number:04x}", f"8007{number:04x}"),
        (f"KB50{number:05d}", f"50{number:05d}"),
        (f"KB50{number:05d}/KB50{number + 7:05d}", f"KB50{number:05d}"),
        (f"ORA-{number:05d}", f"{number:05d}"),
        (f"CVE-20{number % 20 + 10}-{number + 10_000}", f"{number + 10_000}"),
        (f"v{version}", version),
        (f"C:\\Windows\\System32\\{name}{number}.exe", f"{name}{number}"),
        (f"/var/log/{name}/{name}{number}.log", f"{name}{number}.log"),
    ))  # fmt: skip


def _machine(draw: random.Random) -> tuple[str, str]:
    number, role = draw.randrange(1, 100), draw.choice(("print", "db", "mail", "app", "file", "web", "dc", "ts"))
    site = draw.choice(("ber", "ham", "muc", "cgn", "fra", "str", "lej"))
    return draw.choice((
        (f"SRV-{site.upper()}-{role.upper()}-{number:02d}", f"srv-{site}-{role}-{number:02d}"),
        (f"{role}{number:02d}.{site}.corp.example", f"{role}{number:02d}"),
        (f"{site}{role}{number:03d}", f"{site}{role}{number:03d}"),
    ))  # fmt: skip


def _written(forms: tuple[str, str], draw: random.Random) -> str:
    """Return a code as the system writes it, three times in four, or the part that people type."""
    return forms[0] if draw.random() < 0.75 else forms[1]


def _typed(text: str, draw: random.Random) -> str:
    """Return a text as it was typed: now and then a typo in a plain word, or all in lower case."""
    words = [_typo(word, draw) if draw.random() < TYPOS else word for word in text.split(" ")]
    typed = " ".join(words)
    return typed.lower() if draw.random() < 0.1 else typed


def _typo(word: str, draw: random.Random) -> str:
    """Return a word of letters with two of them swapped, one doubled or one left out; another word as it is."""
    if not word.isalpha() or len(word) < 5:
        return word
    place = draw.randrange(1, len(word) - 1)
    left, one, other, rest = word[:place], word[place], word[place + 1], word[place + 2 :]
    return left + draw.choice((other + one, one + one + other, other)) + rest
