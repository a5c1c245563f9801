"""ticket-inbox similar: how were tickets like this one resolved before? Lines of at most 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from app import correlation, hints
from app.commands import terminal
from app.commands.options import checked_tenant_id, is_text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.settings import Settings
    from db.similar_answer import Found, Question

TIMEOUT = 30.0  # seconds; an answer takes a tenth of one
WIDTH, INDENT = 80, 15  # columns
MOST_LINES = {"subject": 1, "description": 2, "resolution": 3}
LONGEST = 1000  # characters of a text that its first lines are made of; also of a subject, as over HTTP
STDIN = "-"


class WrongQuestion(click.ClickException):
    """No question can be made of what was given; the message says why."""

    exit_code = 2


class Ticket(msgspec.Struct, frozen=True):
    """What is shown of a ticket in the answer."""

    ticket_id: str
    display_id: str | None
    subject: str
    description: str
    resolution: str
    resolved_date: str  # Postgres holds moments that Python does not, such as infinity
    priority: str | None
    tags: Sequence[str] | None
    score: float
    matched: Sequence[str]


@click.command()
@click.argument("words", nargs=-1, metavar="[TEXT]")
@click.option("--tenant", "tenant_id", metavar="ID", required=True, callback=checked_tenant_id, help="Whose tickets.")
@click.option(
    "--file",
    type=click.File("rb"),
    help="A file that holds the new ticket, in UTF-8; `-` reads standard input. Its first line is the subject.",
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 50), default=5, show_default=True, help="Show at most N tickets."
)
@click.option("--json", "as_json", is_flag=True, help="What POST /tickets/similar answers, as one JSON object.")
def similar(*, words: Sequence[str], tenant_id: str, file: BinaryIO | None, limit: int, as_json: bool) -> None:
    """Find how tickets like a new one, TEXT, were resolved before; the best first.

    TEXT is found by its words, numbers and codes, as docs/similar.md says. That nothing is similar is no failure:
    it exits 0.
    """
    question = _question(_text(words, file), limit)
    found = _ask(tenant_id, question)
    if as_json:
        terminal.echo(_answer(found))
    else:
        terminal.echo(*_lines(tenant_id, found))


def _text(words: Sequence[str], file: BinaryIO | None) -> str:
    """Return what is asked. Raises a usage error unless it is given once, WrongQuestion if it is no text."""
    if (file is None) == (not words):
        raise click.UsageError("give the new ticket once: as TEXT, or by --file")
    if file is None and list(words) != [STDIN]:
        return " ".join(words)
    try:
        return str((file or click.open_file(STDIN, "rb")).read(), "utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongQuestion(f"the new ticket must be text in UTF-8, and its byte {error.start + 1} is none") from None


def _question(text: str, limit: int) -> "Question":
    """Return the question that is asked by a text. Raises WrongQuestion for one that HTTP would refuse."""
    from app.search import question  # noqa: PLC0415

    if not text.strip():
        raise WrongQuestion("the new ticket has no text: give the words to search for")
    if not is_text(text):
        raise WrongQuestion("the new ticket must be text in UTF-8")
    subject, _, description = text.strip().partition("\n")
    if len(subject) > LONGEST:
        subject, description = "", text
    try:
        return question.parse(msgspec.json.encode({"subject": subject, "description": description, "limit": limit}))
    except question.BrokenQuestionError as broken:
        raise WrongQuestion(f"the new ticket cannot be asked for: {broken}") from None


def _ask(tenant_id: str, question: "Question") -> "Found":
    """Return what a tenant's tickets answer. Raises ClickException."""
    from app.commands import on_database  # noqa: PLC0415
    from app.commands.tenant import require_known  # noqa: PLC0415
    from db import failures, similar_answer, tenants  # noqa: PLC0415

    async def act(connection: "AsyncConnection", _settings: "Settings") -> "Found | None":
        try:
            if not await tenants.is_known(connection, tenant_id):
                return None
            return await similar_answer.find(connection, tenant_id, question)
        except failures.DatabaseError as error:
            if words := _why(error, tenant_id):
                raise click.ClickException(hints.as_typed(words)) from None
            raise

    found = on_database.run(act, TIMEOUT)
    require_known(tenant_id, found is not None)
    return found  # type: ignore[return-value]


def _why(error: Exception, tenant_id: str) -> str | None:
    """Return what is wrong and what to do, where the search has words of its own for that."""
    from db import failure_kinds, failures, similar_answer  # noqa: PLC0415

    if similar_answer.is_not_built(error):
        words = f"the words of the tickets of tenant {tenant_id!r} are not there yet"
        return f"{words}: a worker makes them (`ticket-inbox worker`); ask again in a minute"
    if failures.kind(error) is failure_kinds.RIGHT:
        words = "this role may not ask for a tenant's similar tickets: let DATABASE_URL name the server's, or the owner"
        cure = "after an upgrade the owner runs `ticket-inbox roles make`. A reader asks in SQL: docs/similar.md"
        return f"{words}; {cure}"
    return None


def _answer(found: "Found") -> str:
    """Return in JSON what HTTP answers."""
    import json  # noqa: PLC0415

    return terminal.as_json({"tickets": json.loads(found.tickets), "correlation_id": correlation.new()})


def _lines(tenant_id: str, found: "Found") -> Iterator[str]:
    tickets = msgspec.json.decode(found.tickets, type=list[Ticket])
    if not tickets:
        tenant = terminal.shell_word(tenant_id)
        yield (
            f"No resolved ticket of tenant {tenant} has any of these words."
            if found.lexemes
            else "These are no words to search by: only such as “the” and “is”, or signs."
        )
    for number, ticket in enumerate(tickets, 1):
        yield from ticket_lines(number, ticket)


def ticket_lines(number: int, ticket: Ticket) -> Iterator[str]:
    """Yield what is shown of the ticket that is the `number`th best."""
    known_as = f", display id {ticket.display_id}" if ticket.display_id not in (None, ticket.ticket_id) else ""
    yield f"{number:<3}{ticket.ticket_id}{known_as}"
    about = f"score {ticket.score:.2f}, resolved {_day(ticket.resolved_date)}"
    yield f"   {', '.join(filter(None, [about, ticket.priority, *(ticket.tags or ())]))}"
    yield from _wrapped("matched", ", ".join(ticket.matched), 2)
    for name, most in MOST_LINES.items():
        yield from _wrapped(name, getattr(ticket, name), most)


def _day(moment: str) -> str:
    """Return the day of a moment, which Postgres wrote."""
    day, _, clock = moment.partition("T")
    return f"{day} BC" if clock.endswith("BC") else day


def _wrapped(name: str, text: str, most: int) -> list[str]:
    """Return the first lines of a text; none of one that is blank."""
    words = terminal.printable(" ".join(text[:LONGEST].split()))
    cut = textwrap.wrap(words, WIDTH - INDENT, max_lines=most, placeholder=" …")
    if cut and len(text) > LONGEST and not cut[-1].endswith("…"):
        cut[-1] += " …"
    return [f"   {name if not index else '':{INDENT - 3}}{line}" for index, line in enumerate(cut)]
