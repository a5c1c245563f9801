"""docs/similar.md is true: what it shows runs, and what it says is found, or is not found, is so."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests import ROOT
from tests.support.commands_in_process import Environment, invoke
from tests.support.pages import blocks
from tests.support.questions import BY_HAND, TICKET, add_ticket, ask
from tests.support.system import Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

PAGE = (ROOT / "docs/similar.md").read_text()
FOUND, NOT_FOUND = re.findall(r"^\| asked \|.*\n.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)


def rows(table: str) -> list[tuple[str, str]]:
    """Return what is asked and what is in the ticket, of each row of a table."""
    found = re.findall(r"^\| `(.*?)` \| `(.*?)` \|", table, re.MULTILINE)
    assert len(found) == table.count("\n")
    return found


@pytest.fixture(scope="module")
def printing(asked: Server, module_database: Database, acme: Tenant) -> Server:
    """The server, once the page's question has an answer."""
    add_ticket(module_database, acme.id, "4101", description="Cannot print\n\nSRV-PRINT-02: 0x80070005, access denied")
    return asked


@pytest.mark.parametrize("language", ["sh", "python"])
def test_its_examples_answer(printing: Server, token: str, language: str) -> None:
    """Only the address is replaced."""
    example = next(block for block in blocks(PAGE, language) if "/tickets/similar" in block)
    example = example.replace("http://127.0.0.1:8000", printing.url)
    program = ["sh", "-c", example] if language == "sh" else [sys.executable, "-c", example]
    env = {**os.environ, "TOKEN": token, "no_proxy": "*"}
    done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "80070005" in done.stdout
    assert "4101" in done.stdout


def test_the_python_example_says_that_there_is_no_token_and_hides_no_failure(printing: Server) -> None:
    [example] = blocks(PAGE, "python")
    example = example.replace("http://127.0.0.1:8000", printing.url)
    for token, words in (
        ("", "TOKEN must be what `ticket-inbox tenant token add` printed\n"),
        ("wrong", "HTTP Error 401"),
    ):
        env = {**os.environ, "TOKEN": token, "no_proxy": "*"}
        done = subprocess.run(
            [sys.executable, "-c", example], env=env, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr


def test_the_command_prints_what_http_answers(
    printing: Server, token: str, module_environment: Environment, acme: Tenant
) -> None:
    """But for the correlation id."""
    question = {"subject": "Cannot print", "description": "SRV-PRINT-02, 80070005 größer", "limit": 2}
    by_http = ask(printing, token, **question).json()
    text = f"{question['subject']}\n{question['description']}"
    done = invoke(module_environment, "similar", "--tenant", acme.id, "--limit", "2", "--json", text)
    by_command = json.loads(done.stdout)
    assert list(by_command) == list(by_http)
    assert by_command["tickets"] == by_http["tickets"] != []


def not_found(database: Database, tenant_id: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those pairs of words that are asked and a ticket's text where the tenant's ticket is not found."""
    found = "SELECT tickets FROM similar_answer(%s, %s, NULL, 50, NULL, NULL, NULL, NULL)"
    with database.on_one_connection() as connection:
        for number, (_, text) in enumerate(pairs):
            ticket = {**TICKET, "tenant_id": tenant_id, "ticket_id": str(number), "description": text}
            connection.execute(BY_HAND, ticket)
        while database.value("SELECT search_index_batch(1000)"):
            pass
        answers = [{one["ticket_id"] for one in database.value(found, tenant_id, asked)} for asked, _ in pairs]
    return [pair for number, pair in enumerate(pairs) if str(number) not in answers[number]]


def test_what_it_says_is_found_is_found_and_nothing_else(module_database: Database, secrets_key: str) -> None:
    tenant = module_database.add_tenant(secrets_key)
    found, other = rows(FOUND), rows(NOT_FOUND)
    assert not_found(module_database, tenant.id, [*found, *other]) == other


def test_what_a_full_text_query_finds_or_not_is_found(module_database: Database, secrets_key: str) -> None:
    """Each row of docs/texts.md, as that page says."""
    page = (ROOT / "docs/texts.md").read_text()
    pairs = [
        (asked, text)
        for text, asked in re.findall(r"^\| `(.*?)` \| `(.*?)` \| (?:yes|\*\*no\*\*) \|", page, re.MULTILINE)
    ]
    assert len(pairs) > 15
    tenant = module_database.add_tenant(secrets_key)
    other = not_found(module_database, tenant.id, pairs)
    assert other == [("zurucksetzen", "Passwort zurücksetzen"), ("Passwort", "Passwörter")]
