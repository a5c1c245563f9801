"""How does `dev --samples` show what the tickets are for? It sends some, and asks a question."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.commands import proxies, send, similar, terminal
from app.dev import samples
from app.dev.signer import Signer
from app.search import PATH, read_token
from db import engine as database
from db import read_tokens

ASKER = "dev"  # the name of the read token
ANSWERED_WITHIN = 30.0  # seconds, in which it is asked again; a tenant of many tickets finds new ones a little later
QUESTION = {**samples.QUESTION, "limit": 2}


class FirstQuestionError(Exception):
    """The samples cannot be sent, or the question is not answered; the message says why."""


class Answer(msgspec.Struct):
    """What is shown of an answer, or of a refusal."""

    tickets: list[similar.Ticket] = []
    detail: str = ""


async def make_token(engine: AsyncEngine, tenant_id: str) -> str:
    """Return a new read token of the tenant; the one that an earlier start made is revoked."""
    token = read_token.make()
    async with database.connection(engine) as connection:
        await read_tokens.revoke(connection, tenant_id, ASKER)
        await read_tokens.add(connection, tenant_id, ASKER, read_token.hashed(token.encode()))
    return token


async def show(address: str, signer: Signer, token: str, wait_for: Callable[[str], Awaitable[object]]) -> None:
    """Send the sample tickets, and print a question and what it finds. Raises FirstQuestionError.

    `wait_for` waits until a ticket is stored, by its id, and raises if it is not.
    """
    sent = await _send(address, signer)
    for ticket_id in sent:
        await wait_for(ticket_id)
    terminal.echo("", f"samples        {len(sent)} more tickets sent as webhooks, and stored")
    answer = await _ask(address, token)
    terminal.echo("", f"question       POST {address}{PATH}, with a read token of {signer.tenant_id}:", "")
    terminal.echo(*(f"  {name:13} {text}" for name, text in samples.QUESTION.items()))
    terminal.echo("", f"answered       200, with {len(answer.tickets)} tickets, the most similar first:", "")
    for number, ticket in enumerate(answer.tickets, 1):
        terminal.echo(*similar.ticket_lines(number, ticket))


async def _send(address: str, signer: Signer) -> list[str]:
    """Send each ticket as a webhook, one after the other, and return their ids."""
    payloads = samples.payloads(signer.tenant_id)
    for payload in payloads:
        try:
            await asyncio.to_thread(signer.post, address, payload)
        except send.SendError as error:
            raise FirstQuestionError(f"sample {payload['ticket_id']} was not accepted: {error}") from None
    return [payload["ticket_id"] for payload in payloads]


async def _ask(address: str, token: str) -> Answer:
    """Ask the question as a program does, and again until something is found."""
    deadline = time.monotonic() + ANSWERED_WITHIN
    async with httpx.AsyncClient(base_url=address, timeout=5, **proxies.options(address, directly=True)) as client:
        while True:
            response = await client.post(PATH, json=QUESTION, headers={"Authorization": f"Bearer {token}"})
            answer = msgspec.json.decode(response.content, type=Answer)
            is_late = time.monotonic() > deadline
            if response.is_success and (answer.tickets or is_late):
                return answer
            if is_late:
                raise FirstQuestionError(f"the question was answered {response.status_code}: {answer.detail}")
            await asyncio.sleep(0.5)
