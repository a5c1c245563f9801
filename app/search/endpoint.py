"""How is a question for similar tickets answered? `answer_of` reads top to bottom like the contract."""

import time

from litestar import asgi
from litestar.types import HTTPScope, Receive, Send

from app import correlation, event
from app.search import PATH, asking, question_record, read_token, refusal
from app.search import question as questions
from app.search.dependencies import Dependencies
from app.search.question_record import QuestionRecord
from app.search.refusal import SearchRefusal
from app.webhook import endpoint as webhook
from app.webhook import problems, request_record
from app.webhook.endpoint import Request
from app.webhook.problems import Refusal
from db.similar_answer import Question


@asgi(PATH, copy_scope=False)
async def answer(scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Answer one question."""
    if scope["method"] == "OPTIONS":
        await webhook.describe(scope, send)
        return
    headers = request_record.first_of_each(scope["headers"])
    record = question_record.begin(headers)
    dependencies: Dependencies = scope["litestar_app"].state.search
    try:
        tickets = await answer_of(Request(scope, receive, headers), dependencies, record)
    except Refusal as refused:
        await refuse(refused, record, send)
    except Exception as error:  # noqa: BLE001  (whatever it is: the log has it, and the answer never)
        await refuse(problems.unforeseen(error), record, send)
    else:
        await confirm(tickets, record, send)


async def answer_of(request: Request, dependencies: Dependencies, record: QuestionRecord) -> str:
    """Return the tickets that a question finds, in JSON, and note in `record` what becomes known. Raises Refusal."""
    webhook.require_post(request.scope["method"])
    record.tenant_id = tenant_id = admit(request, dependencies)
    require_json(request.header(b"content-type"))
    body = await webhook.read_body(request, dependencies.settings.max_body_bytes)
    question = read_question(body)
    if seconds := dependencies.rate.spend(tenant_id, time.monotonic()):
        raise SearchRefusal(429, "This tenant asks more than it may (TENANT_RATE); ask again.", retry_after=seconds)
    return await asking.ask(dependencies.engine, dependencies.turns, tenant_id, question, record)


def admit(request: Request, dependencies: Dependencies) -> str:
    """Return the tenant whose tickets the request's token shows; refuse all others alike."""
    if not dependencies.tokens.are_fresh:
        raise SearchRefusal(503, "The read tokens cannot be read now; ask again.")
    tenant_id = dependencies.tokens.tenant_of(read_token.carried(request.header(b"authorization")))
    if tenant_id is None:
        raise refusal.not_admitted()
    return tenant_id


def require_json(content_type: bytes) -> None:
    """Refuse what does not call itself JSON in UTF-8."""
    if not webhook.is_json(content_type):
        detail = f"{webhook.why_not_json(content_type)} Set the header Content-Type to application/json."
        raise SearchRefusal(415, detail)


def read_question(body: bytes) -> Question:
    """Return the question that a body holds. An unknown member's name may be text of a ticket, so no log has it."""
    try:
        return questions.parse(body)
    except event.MalformedError as malformed:
        raise SearchRefusal(400, f"The body must be a JSON object in UTF-8, but {malformed}.") from None
    except questions.BrokenQuestionError as broken:
        detail = "The question breaks its schema: `errors` names each member and the rule that it breaks."
        raise SearchRefusal(422, detail, errors=broken.broken, cause=str(broken)) from None


async def confirm(tickets: str, record: QuestionRecord, send: Send) -> None:
    """Answer a question by its tickets, which are JSON already."""
    body = f'{{"tickets":{tickets},"correlation_id":"{record.origin.correlation_id}"}}'.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (correlation.HEADER_BYTES, record.origin.correlation_id.encode()),
    ]
    await respond(question_record.OK, headers, body, record, send)


async def refuse(refused: Refusal, record: QuestionRecord, send: Send) -> None:
    """Answer a question that is refused, and record why."""
    record.kind, record.error = refused.kind, refused.cause
    answered = problems.answer(refused, record.origin.correlation_id)
    await respond(answered.status, answered.raw_headers, answered.body, record, send)


async def respond(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, record: QuestionRecord, send: Send
) -> None:
    """Send the answer, and end the record."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    question_record.end(record, status)
