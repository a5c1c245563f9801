"""How is Postgres asked? In the question's turn, within LIMIT, by one statement, which has a span of its own."""

import asyncio
import time

from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncEngine

from app.search import question_record, refusal
from app.search.question_record import QuestionRecord
from app.search.turns import NoTurnError, Turns, WebhooksWaitError
from db import engine as database
from db import failure_in_span, failures, similar_answer
from db.similar_answer import Found, Question
from otel import metrics, tracing
from otel.tracing import Failure

PAUSE = 0.2  # seconds before a refusal for want of room: a program that asks again at once would take webhooks' time


async def ask(engine: AsyncEngine, turns: Turns, tenant_id: str, question: Question, record: QuestionRecord) -> str:
    """Return the tickets that a question finds, the array in JSON, and note in `record` how much that was.

    Raises Refusal.
    """
    try:
        async with turns.turn(tenant_id):
            found = await _find(engine, tenant_id, question, record)
    except WebhooksWaitError:
        await asyncio.sleep(PAUSE)
        raise refusal.SearchRefusal(503, "Webhooks wait for Postgres, and come first; ask again.") from None
    except NoTurnError:
        await asyncio.sleep(PAUSE)
        detail = "Too many questions are waiting for Postgres (SEARCH_POOL_SIZE); ask again."
        raise refusal.SearchRefusal(503, detail, retry_after=refusal.SOON) from None
    except failures.DatabaseError as error:
        if failures.is_fault_of_a_value(error):
            raise  # what Postgres refuses, app/search/question.py should have
        raise refusal.of_failure(error) from error
    return found.tickets


async def _find(engine: AsyncEngine, tenant_id: str, question: Question, record: QuestionRecord) -> Found:
    started = time.time_ns()
    try:
        async with database.connection(engine) as connection:
            found = await similar_answer.find(connection, tenant_id, question)
    except Exception as error:
        _end_statement(record, started, failure_in_span.of(error))
        raise
    record.lexemes, record.candidates, record.results = found.lexemes, found.candidates, found.results
    _end_statement(record, started, None)
    return found


def _end_statement(record: QuestionRecord, started: int, error: Failure | None) -> None:
    """Count the statement, and record its span below the request's."""
    summary = similar_answer.SUMMARY
    metrics.statement_ended(summary, "postgres" if error else "", (time.time_ns() - started) / 1e9)
    attributes = {
        "db.system.name": "postgresql",
        "db.operation.name": summary.split()[0],
        "db.stored_procedure.name": similar_answer.FUNCTION,
        "db.query.summary": summary,
        **tracing.identity(record.origin.correlation_id, record.tenant_id, None),
        **question_record.found_of(record),
    }
    position = tracing.position_below(record.origin.position.context)
    tracing.record(position, summary, SpanKind.CLIENT, started, attributes, error=error)
