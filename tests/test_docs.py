"""The docs are true: what they name exists, and what they show runs."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from opentelemetry import environment_variables as api_variables
from opentelemetry.sdk import environment_variables as sdk_variables

from app import cli
from app.cli import main
from app.commands import sdp
from app.settings import Settings
from db import libpq
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.pages import blocks
from tests.support.system import Database, Server, Tenant, run

pytestmark = pytest.mark.one_postgres

GUIDE = ROOT / "docs/webhooks/resolved-ticket-webhook-setup.md"
README = (ROOT / "README.md").read_text()
SENDERS = "".join(path.read_text() for path in ROOT.glob("docs/webhooks/senders/send_resolved.*"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(text: str) -> set[tuple[str, ...]]:
    """Return the words that follow `ticket-inbox` wherever a page writes it as code."""
    code = re.findall(r"`([^`\n]+)`", text) + [line for block in blocks(text, "sh") for line in block.splitlines()]
    return {tuple(found.split()) for line in code for found in re.findall(r"ticket-inbox ([a-z]+(?: [a-z]+)?)", line)}


@each_page
def test_what_a_page_links_to_or_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    named = re.findall(r"`((?:app|db|jobs|otel|migrations|tests|docs)/[\w./-]+)`", text)
    for path in [page.parent / link for link in links] + [ROOT / name for name in named]:
        assert path.exists(), path


@each_page
def test_commands_that_a_page_names_exist(page: Path) -> None:
    for words in commands(page.read_text()):
        group: click.Command = main
        for word in words:
            if isinstance(group, click.Group):
                assert word in group.commands, words
                group = group.commands[word]


@each_page
def test_settings_that_a_page_names_exist(page: Path) -> None:
    ours = {name.upper() for name in Settings.__struct_fields__} | {
        *("PYTEST_ADDOPTS", "JAEGER_BIN", "OTELCOL_BIN"),  # of tests
        cli.VARIABLE,
        sdp.VARIABLE,
    }
    theirs = {
        "SSL_CERT_FILE",
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *(one.variable for one in libpq.PARAMETERS),
        *vars(sdk_variables),
        *vars(api_variables),
    }
    known = ours | theirs | set(re.findall(r"TICKET_INBOX_[A-Z_]+", SENDERS))
    for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b[^`*]*`", page.read_text()):
        assert name in known or name.removeprefix("TICKET_INBOX_") in ours, name


def test_the_commands_are_found_at_all() -> None:
    assert {("dev",), ("send",), ("tenant", "add"), ("serve",)} <= commands(README)


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) < 150
    screen = "\n".join(lines[:30])
    assert "pip install uv && uv run ticket-inbox dev" in screen
    assert "pip install uv && uv run pytest" in screen


@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_readmes_signing_examples_are_accepted(
    language: str, server: Server, tenant: Tenant, tmp_path: Path
) -> None:
    """Only the address in each example and the tenant in the README's payload are replaced."""
    [example] = [block for block in blocks(README, language) if "hmac" in block]
    [payload] = blocks(README, "json")
    (tmp_path / "ticket.json").write_text(payload.replace('"acme"', f'"{tenant.id}"'))
    example = example.replace("http://127.0.0.1:8000", server.url)
    program = ["sh", "-c", example] if language == "sh" else [sys.executable, "-c", example]
    env = clean_environment(SECRET=tenant.secret)
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert "202" in done.stdout.splitlines()[0], done


@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_readmes_signing_examples_say_that_there_is_no_secret(language: str, tmp_path: Path) -> None:
    """In one line; nothing is sent."""
    [example] = [block for block in blocks(README, language) if "hmac" in block]
    (tmp_path / "ticket.json").write_text("{}")
    program = ["sh", "-c", example] if language == "sh" else [sys.executable, "-c", example]
    for env in (clean_environment(), clean_environment(SECRET="")):
        done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (done.returncode or 1, "", 1), done
        assert "SECRET" in done.stderr
        assert "tenant add` printed" in done.stderr or "tenant add printed" in done.stderr


def test_the_guides_curl_example_is_accepted(server: Server, tenant: Tenant) -> None:
    """Only the address, the tenant and its secret are replaced."""
    [example] = blocks(GUIDE.read_text(), "sh")
    for given, ours in {
        "http://127.0.0.1:8000": server.url,
        "the-secret": tenant.secret,
        '"acme"': f'"{tenant.id}"',
    }.items():
        assert given in example
        example = example.replace(given, ours)
    done = subprocess.run(["sh", "-c", example], capture_output=True, text=True, timeout=30, check=False)
    assert "202" in done.stdout.splitlines()[0], done


def test_the_readmes_send_line_is_accepted(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "ticket.json").write_text(blocks(README, "json")[0])
    arguments = ["--url", server.url, "--tenant", tenant.id, "--secret", tenant.secret, "--file", "ticket.json"]
    assert "`ticket-inbox send --tenant acme" in README
    done = run(["send", *arguments], clean_environment(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readmes_answers_are_those_of_the_contract() -> None:
    guide = GUIDE.read_text()
    answers = set(server_answers())
    assert {int(status) for status in re.findall(r"^\| \*\*(\d{3})\*\*", README, re.MULTILINE)} == answers
    assert {int(status) for status in re.findall(r"^\| (\d{3}) ", guide, re.MULTILINE)} == answers - {500}


def server_answers() -> list[int]:
    from app.webhook import openapi  # noqa: PLC0415  (the docs' other tests need no Litestar)

    return [202, *openapi.REFUSALS]


def test_the_threat_model_names_tests_that_exist() -> None:
    """Each row names at least one test, and each test that it names exists."""
    page = (ROOT / "docs/security.md").read_text()
    table = page.partition("## Replays")[0]
    rows = re.findall(r"^\|(?:[^|\n]*\|){3}([^|\n]*)\|$", table, re.MULTILINE)[2:]
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert len(rows) > 15
    for row in rows:
        names = re.findall(r"`(\w+)`", row)
        assert names, row
        for name in names:
            assert f"def {name}(" in code, name


def test_the_places_that_a_new_kind_of_webhook_touches_are_listed() -> None:
    """docs/walk.md lists eight places, which all exist, and has a line for each room of app."""
    walk = (ROOT / "docs/walk.md").read_text()
    places = re.findall(r"^\| `([\w./]+)` \|", walk.partition("## To add a kind of webhook")[2], re.MULTILINE)
    assert len(places) == 8
    assert all((ROOT / place).exists() for place in places)
    rooms = {path.parent.name for path in (ROOT / "app").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `app/(\w+)/` \|", walk, re.MULTILINE)) == rooms


def test_the_walk_names_every_module() -> None:
    walk = (ROOT / "docs/walk.md").read_text()
    for room in ("app", "jobs", "otel"):
        for path in (ROOT / room).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            assert name in walk or path.name in ("__init__.py", "__main__.py"), name


def test_the_sql_in_operations_runs(server: Server, module_database: Database) -> None:
    """On a migrated database; the test does not check what it shows, which depends on the day."""
    assert server.client.get("/health/live").is_success
    statements = "".join(blocks((ROOT / "docs/operations.md").read_text(), "sql"))
    for statement in statements.strip().split(";\n"):
        module_database.query(statement.rstrip(";").replace("%", "%%"))


def test_the_log_lines_in_operations_are_those_that_are_written() -> None:
    code = "".join(path.read_text() for room in ("app", "jobs", "otel") for path in (ROOT / room).rglob("*.py"))
    page = (ROOT / "docs/operations.md").read_text()
    for row in re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| (?:server|worker|both)", page, re.MULTILINE):
        for name in re.findall(r"`([a-z_]+)`", row):
            assert f'"{name}"' in code, name


def test_decisions_are_numbered_and_short() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    assert all(len(path.read_text().splitlines()) < 40 for path in decisions)
