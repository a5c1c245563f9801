"""Read tokens: the commands, what is kept of them, and how long a server judges by what it has read."""

import asyncio
import json
import re

import psycopg
import pytest

from app.search import known_tokens, read_token
from app.search.known_tokens import KnownTokens
from app.search.token_uses import TokenUses
from db import engine as engines
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.questions import add_token
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres


def test_add_prints_the_token_once_and_keeps_its_hash(
    environment: Environment, database: Database, secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    env = {**environment, "SECRETS_KEY": ""}  # nothing is encrypted
    done = invoke(env, "tenant", "token", "add", "acme", "--name", "drafts")
    token = done.stdout.strip()
    assert re.fullmatch(r"tibx_read_[A-Za-z0-9_-]{43}", token)
    assert (done.exit_code, token in done.stderr, len(done.stdout.splitlines())) == (0, False, 1)
    [row] = database.query("SELECT * FROM read_tokens")
    assert bytes(row["token_hash"]) == read_token.hashed(token.encode())
    assert token not in str(row)
    tokens = {tenant_command(env, "token", "add", "acme") for _ in range(3)}
    assert len(tokens | {token}) == 4
    listed = tenant_command(env, "token", "list", "acme")
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "drafts", "token-1", "token-2", "token-3"]
    assert not any(one in listed for one in tokens)


def test_list_shows_name_made_and_last_use_and_revoked_ones_if_asked(
    environment: Environment, database: Database, secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    tenant_command(environment, "token", "add", "acme")
    tenant_command(environment, "token", "revoke", "acme", "token-1")
    tenant_command(environment, "token", "add", "acme")
    tenant_command(environment, "token", "add", "acme", "--name", "token-1")  # a revoked one's name is free
    [second, again] = json.loads(tenant_command(environment, "token", "list", "acme", "--json"))
    assert [second["name"], again["name"]] == ["token-2", "token-1"]
    assert set(second) == {"name", "made_at", "last_used_at", "revoked_at"}
    assert (second["last_used_at"], second["revoked_at"]) == (None, None)
    [first, *_] = json.loads(tenant_command(environment, "token", "list", "acme", "--all", "--json"))
    assert first["revoked_at"] >= first["made_at"]
    assert "REVOKED" in tenant_command(environment, "token", "list", "acme", "--all").splitlines()[0]


def test_what_a_command_cannot_do_it_says_in_one_line(
    environment: Environment, database: Database, secrets_key: str
) -> None:
    database.add_tenant(secrets_key, "acme")
    tenant_command(environment, "token", "add", "acme", "--name", "drafts")
    database.add_tenant(secrets_key, "leaving")
    database.query("INSERT INTO tenant_removals (tenant_id) VALUES ('leaving')")
    for code, words, arguments in (
        (1, "has a token 'drafts' already", ["add", "acme", "--name", "drafts"]),
        (1, "there is no tenant 'nobody'", ["add", "nobody"]),
        (1, "there is no tenant 'nobody'", ["list", "nobody"]),
        (1, "there is no tenant 'nobody'", ["revoke", "nobody", "drafts"]),
        (1, "is being removed", ["add", "leaving"]),
        (1, "has no token 'other' in force", ["revoke", "acme", "other"]),
        (2, "a token's name has 1 to 100", ["add", "acme", "--name", "a b"]),
        (2, "a token's name has 1 to 100", ["add", "acme", "--name", ""]),
        (2, "a token's name has 1 to 100", ["add", "acme", "--name", "drafts\n"]),
        (2, "Missing argument 'NAME'", ["revoke", "acme"]),
    ):
        done = invoke(environment, "tenant", "token", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert words in done.stderr.splitlines()[-1]


def test_a_token_that_cannot_be_judged_is_503(
    database: Database, secrets_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it was revoked, where the tokens could not be read for a while."""
    database.add_tenant(secrets_key, "acme")
    token = add_token(database, "acme").encode()

    async def judge() -> tuple[str | None, bool, bool]:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        try:
            known = KnownTokens(engine, TokenUses())
            before = known.are_fresh
            await known.refresh()
            return known.tenant_of(token), before, known.are_fresh
        finally:
            await engine.dispose()

    assert asyncio.run(judge()) == ("acme", False, True)
    monkeypatch.setattr(known_tokens, "FRESH_SECONDS", 0)
    assert asyncio.run(judge()) == ("acme", False, False)


def test_a_use_is_written_once_and_one_whose_row_is_in_use_the_next_time(database: Database, secrets_key: str) -> None:
    database.add_tenant(secrets_key, "acme")
    for name in ("free", "held"):
        add_token(database, "acme", name)
    free, held = (row["id"] for row in database.query("SELECT id FROM read_tokens ORDER BY name"))

    async def note() -> None:
        engine, uses = engines.create_engine(database.url, "test", 1, 5.0), TokenUses()
        try:
            for token in (free, held):
                uses.note(token)
            await uses.write(engine)
            holding.rollback()
            assert written() == {"free"}
            await uses.write(engine)
            assert written() == {"free", "held"}
            database.query("UPDATE read_tokens SET last_used_at = NULL")
            async with uses.kept_written(engine):
                pass  # nothing is left to write
            assert written() == set()
            async with uses.kept_written(engine):
                uses.note(free)
            assert written() == {"free"}  # at the end
        finally:
            await engine.dispose()

    def written() -> set[str]:
        return {row["name"] for row in database.query("SELECT name FROM read_tokens WHERE last_used_at IS NOT NULL")}

    with psycopg.connect(database.url) as holding:
        holding.execute("SELECT FROM read_tokens WHERE id = %s FOR UPDATE", [held])
        asyncio.run(note())
