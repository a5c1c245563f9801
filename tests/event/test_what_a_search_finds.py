"""What does Postgres' search find in the texts that promotion stores? docs/texts.md says it, in a table."""

import asyncio
import json
import re

import pytest

from app.event import flat
from db import engine as engines
from jobs import promote
from tests import ROOT
from tests.event import test_native
from tests.support.system import Database

PAGE = (ROOT / "docs/texts.md").read_text()
FINDS = "SELECT to_tsvector(%s::regconfig, %s) @@ plainto_tsquery(%s::regconfig, %s) AS found"


def test_the_page_says_what_is_found(module_database: Database) -> None:
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (yes|\*\*no\*\*) \|", PAGE, re.MULTILINE)
    assert len(rows) > 15
    with module_database.on_one_connection():
        for stored, typed, says in rows:
            found = module_database.value(FINDS, "english", stored, "english", typed)
            assert found == (says == "yes"), (stored, typed)
        assert module_database.value(FINDS, "german", "Passwörter", "german", "Passwort")
        assert module_database.value(
            "SELECT to_tsvector('english', 'Vertretungsplan') @@ to_tsquery('english', 'vertretung:*') AS found"
        )


@pytest.mark.one_postgres
def test_words_are_found_as_they_are_typed_however_they_came(module_database: Database) -> None:
    """A soft hyphen, a letter of two characters, an address and a table's cell hide no word."""
    text = "Pass\u00adwort\u00a0bitte zuru\u0308cksetzen, sagt Helpdesk <it@example.com>"
    html = f"<div>{text}<table><tr><td><p>Host</p></td><td><p>SRV-PRINT-02</p></td></tr></table></div>"
    native = json.loads(test_native.body(description=html, resolution={"content": html}))
    payloads = [
        {**flat.EXAMPLE, "ticket_id": "flat", "description": text, "resolution": text},
        {**flat.EXAMPLE, "ticket_id": "flat HTML", "description": html, "resolution": html},
        {**native, "ticket_id": "native"},
    ]
    ids = module_database.deliver(*payloads)
    asyncio.run(promoted(module_database, ids))
    for word in ("Passwort", "bitte", "zurücksetzen", "it@example.com"):
        for column in ("description", "resolution"):
            found = f"SELECT count(*) FROM ticket_history WHERE to_tsvector('english', {column}) @@ plainto_tsquery('english', %s)"
            assert module_database.value(found, word) == 3, (word, column)
    assert (
        module_database.value("SELECT count(*) FROM ticket_history WHERE resolution LIKE %s", "%\nHost SRV-PRINT-02")
        == 2
    )


async def promoted(database: Database, ids: list[int]) -> None:
    engine = engines.create_engine(database.url, "test", 2, 30.0)
    try:
        await promote.promote_batch(engine, ids)
    finally:
        await engine.dispose()
