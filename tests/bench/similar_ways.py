"""In which ways are similar tickets searched for? Ours, and what a user would use instead: each returns ten numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from tests.bench import similar_rig
from tests.bench.ranking import DEPTH
from tests.bench.similar_sets import Collection, Question

Way = Callable[[Question], list[int]]

OURS, CEILING = "similar_answer", "bm25s"

# A query's words joined by OR: to_tsvector gives them stemmed, without stop words.
ANY = "(SELECT string_agg(quote_literal(word), ' | ')::tsquery FROM unnest(tsvector_to_array(to_tsvector({0}, %(text)s))) AS word)"
ALL = "plainto_tsquery({0}, %(text)s)"
STORED = """
CREATE TEMPORARY TABLE vectors AS
SELECT CAST(ticket_id AS int) AS number, to_tsvector({language}, description) AS vector
FROM ticket_history WHERE tenant_id = {tenant}
"""
RANKED = """
SELECT number FROM vectors, (SELECT {query} AS words) AS asked
WHERE number <> %(itself)s AND vector @@ words
ORDER BY {rank}(vector, words) DESC, number LIMIT {depth}
"""
POSTGRES_WAYS = {
    "ts_rank_cd, any word": (ANY, "ts_rank_cd"),
    "ts_rank, any word": (ANY, "ts_rank"),
    "ts_rank_cd, all words": (ALL, "ts_rank_cd"),
}


def all_of(connection: psycopg.Connection[Any], tenant_id: str, collection: Collection) -> Mapping[str, Way]:
    """Return every way by its name. The collection's documents are the tenant's tickets, and are indexed."""
    from tests.bench.peers.bm25s_words import Bm25s  # noqa: PLC0415  (its packages are in no group)

    exact = Bm25s(collection.documents, collection.language)

    def ceiling(question: Question) -> list[int]:
        found = exact.best(question.text, DEPTH + 1)
        return [number for number in found if number != question.itself][:DEPTH]

    def ours(question: Question) -> list[int]:
        found = similar_rig.ask(connection, tenant_id, question.text, DEPTH, question.itself)
        return [number for number, _ in found]

    connection.execute("DROP TABLE IF EXISTS vectors")
    connection.execute(sql.SQL(STORED).format(language=sql.Literal(collection.language), tenant=sql.Literal(tenant_id)))
    ways = {name: _by_postgres(connection, collection.language, *how) for name, how in POSTGRES_WAYS.items()}
    return {OURS: ours, CEILING: ceiling, **ways}


def _by_postgres(connection: psycopg.Connection[Any], language: str, query: str, rank: str) -> Way:
    """Return a way that ranks the stored vectors: to make each anew at every question would take a minute more."""
    statement = RANKED.format(query=query.format(f"'{language}'"), rank=rank, depth=DEPTH)

    def best(question: Question) -> list[int]:
        itself = -1 if question.itself is None else question.itself
        found = connection.execute(statement, {"text": question.text, "itself": itself})
        return [row["number"] for row in found]

    return best
