"""Which tickets of a tenant are similar to a question? The function `similar_answer`, which finds and ranks them."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from db import failures

FUNCTION = "similar_answer"
NOT_BUILT = "55000"  # object_not_in_prerequisite_state: while a tenant's words are not indexed
SUMMARY = f"SELECT {FUNCTION}"  # the statement's name in spans and metrics

ANSWER = sa.text(
    f"""
    SELECT lexemes, candidates, json_array_length(tickets) AS results, CAST(tickets AS text) AS tickets
    FROM {FUNCTION}(
      for_tenant => CAST(:tenant_id AS text), subject => CAST(:subject AS text),
      description => CAST(:description AS text), max_results => CAST(:max_results AS integer),
      exclude_ticket_id => CAST(:exclude_ticket_id AS text), resolved_after => CAST(:resolved_after AS timestamptz),
      priority => CAST(:priority AS text[]), tags => CAST(:tags AS text[]))
    """  # noqa: S608  (composed of constants)
)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A new ticket, of which one of subject and description has text, and which tickets may answer it."""

    subject: str | None = None
    description: str | None = None
    max_results: int = 5
    exclude_ticket_id: str | None = None
    resolved_after: datetime | None = None
    priority: Sequence[str] | None = None
    tags: Sequence[str] | None = None


class Found(msgspec.Struct, frozen=True):
    """What a question found: the array of the best tickets, in JSON, and how many they are.

    `lexemes` are the question's words, `candidates` the tickets that were ranked.
    """

    lexemes: int
    candidates: int
    results: int
    tickets: str


async def find(connection: AsyncConnection, tenant_id: str, question: Question) -> Found:
    """Return the tenant's tickets that are most similar to a question.

    Raises a database error: of SQLSTATE 55000 while the tenant's tickets are not indexed yet.
    """
    asked = {"tenant_id": tenant_id, **msgspec.structs.asdict(question)}
    return Found(*(await connection.execute(ANSWER, asked)).one())


def is_not_built(error: BaseException) -> bool:
    """Return True if `error` says that the tenant's tickets are not indexed yet."""
    return failures.sqlstate(error) == NOT_BUILT and not failures.is_read_only(error)
