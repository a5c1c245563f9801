"""`python -m tests.bench.similar_speed`: how fast are similar tickets found among a million, and are they the best?

uv run --with-requirements tests/bench/similar_sets.txt python -m tests.bench.similar_speed --tickets 1000000

Makes the tickets of one large tenant and of fifty small ones, has their words indexed, and asks: one question after
the other, long ones, five at once, of a small tenant, as the server's function, as a reader, over HTTP. The first
tenth of the large tenant is asked before the rest is there. Without bm25s the overlap with exact BM25 is left out.
"""

import argparse
import contextlib
import importlib.util
import itertools
import re
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench import ranking, similar_askers, similar_rig, similar_timing, workbench
from tests.bench.similar_askers import Ask, Way
from tests.bench.table import Row
from tests.bench.topics import Texts
from tests.bench.workbench import Rig

LARGE, SMALL = "large", "small-0"
ONLY_LARGE = "zentralverwaltungsnetz"  # half of the large tenant's tickets have this word, and nobody else's
LENGTHS = range(10, 61)
LENGTHS_APART = {"10 to 60": LENGTHS, "10": [10], "60": [60]}
WARM_UP = 20
AT_ONCE = 5
LONGEST = 10_000  # characters of a description


class Sizes(NamedTuple):
    """How many tickets the large tenant has, how many small tenants there are, and how many questions are asked."""

    tickets: int
    small: int
    questions: int


def main() -> None:
    """Print each figure as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=100_000, help="of the large tenant (default: 100,000)")
    parser.add_argument("--small", type=int, default=50, help="tenants of 1,000 tickets (default: 50)")
    parser.add_argument("--questions", type=int, default=300, help="of each kind (default: 300)")
    parser.add_argument(
        "--rounds", type=int, default=2000, help="of the comparison of two absent words (default: 2,000)"
    )
    given = parser.parse_args()
    sizes = Sizes(given.tickets, given.small, given.questions)
    began = time.monotonic()
    with workbench.rig() as rig:
        print(
            workbench.machine(rig.database), f"{sizes.tickets:,} tickets and {sizes.small} tenants of 1,000", sep=", "
        )
        for row in itertools.chain(
            measured(rig, Texts(), sizes), similar_timing.rows(rig, SMALL, ONLY_LARGE, given.rounds)
        ):
            print(f"{time.monotonic() - began:4.0f} s  ", "  ".join(row), flush=True)


def measured(rig: Rig, texts: Texts, sizes: Sizes) -> Iterator[Row]:
    """Fill the database in two steps, and yield every figure."""
    similar_askers.command(rig, "roles", "make", "--prefix", similar_askers.PREFIX)
    questions = texts.questions(sizes.questions, LENGTHS)
    rig.add_tenant(LARGE)
    for number in range(sizes.small):
        rig.add_tenant(f"small-{number}")
        similar_rig.store(rig.database, f"small-{number}", texts.tickets(1_000, stream=number + 1))
    large, small = (similar_askers.by_function(rig, tenant_id) for tenant_id in (LARGE, SMALL))
    first = sizes.tickets // 10
    yield from filled(rig, texts, 0, first)
    before = statistics.median(times(large, questions))
    yield asked(rig, f"one after the other, {first:,} tickets", large, questions)
    yield from filled(rig, texts, first, sizes.tickets)
    growth = statistics.median(times(large, questions)) / before
    what = f"one after the other, {sizes.tickets:,} tickets"
    yield asked(rig, what, large, questions, f"{growth:.2f} of a tenth's", "p95 60 / 100 ms, 2")
    long = [text[:LONGEST] for text in texts.questions(sizes.questions // 6, [2_000])]
    words = statistics.fmean(len(text.split()) for text in long)
    yield asked(rig, f"questions of {LONGEST:,} characters, {words:,.0f} words", large, long, "", "p95 150 ms")
    yield at_once(large, questions)
    yield asked(rig, "a tenant of 1,000", small, questions, "", "p95 15 ms")
    for name, tenant_id in (("as a reader, through SQL", LARGE), ("… of a tenant of 1,000", SMALL)):
        yield asked(rig, name, similar_askers.by_reader(rig, tenant_id), questions)
    yield from over_http(rig, questions)
    yield from disk(rig, sizes)
    yield from overlap(rig, texts, sizes)


def filled(rig: Rig, texts: Texts, first: int, count: int) -> Iterator[Row]:
    """Add tickets of the large tenant from the `first` on, wait for their words, and clean up as autovacuum would."""
    index = rig.database.value("SELECT pg_get_indexdef('ticket_history_description_idx'::regclass)")
    rig.database.query("DROP INDEX ticket_history_description_idx")  # to make it again takes a third of the time
    began = time.perf_counter()
    similar_rig.store(rig.database, LARGE, texts.tickets(count, first=first, only_here=ONLY_LARGE), first)
    stored = time.perf_counter()
    similar_rig.index(rig.database)
    indexed = time.perf_counter()
    rig.database.query(index)
    rig.database.query("VACUUM ANALYZE")
    yield Row(
        f"{count - first:,} tickets",
        f"stored in {stored - began:.0f} s, their words in {indexed - stored:.0f} s ({(indexed - stored) / (count - first) * 1e6:.0f} µs each)",
    )


def asked(rig: Rig, what: str, way: Way, questions: Sequence[str], ratio: str = "", wanted: str = "") -> Row:
    """Ask one question after the other, and return the row of how long that took, with Postgres' processor time."""
    with way() as ask:
        warm_up(ask, questions)
        before = workbench.cpu_seconds(rig.postgres)
        taken = [seconds(ask, text) for text in questions]
        spent = (workbench.cpu_seconds(rig.postgres) - before) / len(questions) * 1000
    return Row(what, f"{shown(taken)}; Postgres' processor {spent:.1f} ms each", ratio, wanted)


def times(way: Way, questions: Sequence[str]) -> list[float]:
    """Return the seconds that each question took, on one connection that has asked before."""
    with way() as ask:
        warm_up(ask, questions)
        return [seconds(ask, text) for text in questions]


def warm_up(ask: Ask, questions: Sequence[str]) -> None:
    """Ask some of the questions, so that Postgres has planned the statements and read what they need."""
    for text in questions[:WARM_UP]:
        ask(text)


def seconds(ask: Ask, text: str) -> float:
    """Return the seconds that an answer took."""
    began = time.perf_counter()
    ask(text)
    return time.perf_counter() - began


def at_once(way: Way, questions: Sequence[str], what: str = "five at once") -> Row:
    """Ask on five connections at once, each the same questions in another order."""
    taken: list[float] = []

    def ask(start: int) -> None:
        taken.extend(times(way, [*questions[start:], *questions[:start]]))

    threads = [threading.Thread(target=ask, args=(number * len(questions) // AT_ONCE,)) for number in range(AT_ONCE)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = AT_ONCE * (len(questions) + min(WARM_UP, len(questions)))
    rate = count / (time.perf_counter() - began)
    return Row(what, f"{shown(taken)}; {rate:.0f} answers/s", "", "p95 250 ms, 25/s")


def over_http(rig: Rig, questions: Sequence[str]) -> Iterator[Row]:
    """Ask with a token, of both kinds of tenants; nothing where this version has no such endpoint."""
    if importlib.util.find_spec("app.search") is None:
        yield Row("over HTTP", "this version has no POST /tickets/similar")
        return
    with rig.server() as server:
        large, small = (similar_askers.by_token(rig, server, tenant_id) for tenant_id in (LARGE, SMALL))
        time.sleep(10)  # a new token is in force within that
        yield asked(rig, "over HTTP", large, questions)
        yield at_once(large, questions, "over HTTP, five at once")
        yield asked(rig, "over HTTP, a tenant of 1,000", small, questions)


def disk(rig: Rig, sizes: Sizes) -> Iterator[Row]:
    """Yield the bytes a ticket, of the tickets, of the full-text index and of all tables of search."""
    count = sizes.tickets + sizes.small * 1_000
    search = rig.database.value(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'search\\_%%'"
    )
    text = rig.database.value("SELECT pg_relation_size('ticket_history_description_idx')")
    all_ = rig.database.value("SELECT pg_total_relation_size('ticket_history')")
    figures = f"words {search / count:,.0f}, ticket_history {(all_ - text) / count:,.0f}, its full-text index {text / count:,.0f}"
    yield Row("bytes a ticket", figures)


def overlap(rig: Rig, texts: Texts, sizes: Sizes) -> Iterator[Row]:
    """Yield how many of the best five by exact BM25 over all rows are among our five."""
    if importlib.util.find_spec("bm25s") is None:
        yield Row("overlap with exact BM25", "left out: bm25s is missing, see the head of this file")
        return
    from tests.bench.peers.bm25s_words import Bm25s  # noqa: PLC0415  (its packages are in no group)

    exact = Bm25s(texts.tickets(sizes.tickets, only_here=ONLY_LARGE), "english")
    count = min(100, sizes.questions)
    kinds = {f"{name} words": texts.questions(count, each, seed=8) for name, each in LENGTHS_APART.items()}
    # bm25s splits a code at its signs, and we find it whole too: the words alone show what is lost by looking up few.
    kinds["10 to 60 words, without codes"] = [re.sub(r"\S*\d\S*", "", text) for text in kinds["10 to 60 words"]]
    with contextlib.closing(similar_rig.connect(rig.database)) as connection:
        for name, questions in kinds.items():
            shares = []
            for text in questions:
                scores, found = exact.scores(text), similar_rig.ask(connection, LARGE, text, 5)
                best = sorted(scores[exact.best(text, 5)], reverse=True)
                shares.append(ranking.overlap([scores[number] for number, _ in found], best))
            yield Row(f"overlap of the best five with exact BM25, {name}", f"{statistics.fmean(shares):.3f}", "", "0.9")


def shown(taken: Sequence[float]) -> str:
    """Return p50, p95 and the longest of times in seconds, in milliseconds."""
    cuts = statistics.quantiles(taken, n=20, method="inclusive")
    return f"p50 {cuts[9] * 1000:.1f}, p95 {cuts[18] * 1000:.1f}, longest {max(taken) * 1000:.1f} ms"


if __name__ == "__main__":
    main()
