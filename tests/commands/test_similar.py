"""`ticket-inbox similar`: what a person sees of an answer, what scripts get, and one line for what cannot be asked."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result

from db import schema
from tests import ROOT
from tests.support.commands_in_process import Environment, invoke, run_here
from tests.support.installation import Installation, installation
from tests.support.pages import blocks
from tests.support.questions import add_ticket
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

HOSTILE = "\x1b[2J\r\n1  155000\u202e"
DAYS = {"infinity": "infinity", "0044-03-15 BC": "0044-03-15 BC", "20000-01-01": "20000-01-01"}
MANY = """
INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority)
SELECT 'new', number, 'VPN', 'r', now(), 'High' FROM generate_series(1, 501) AS number
"""
SPOOLER = {
    "description": "Print spooler stops on SRV-PRINT-02\n\nThe event log has 0x80070005, access denied.\n"
    + "It recurs. " * 40,
    "resolution": "1. Stopped the service.\n2. Granted SYSTEM full control of the spool folder.\n" + "3. Waited. " * 90,
}


@pytest.fixture(scope="module")
def env(module_database: Database, secrets_key: str, module_environment: Environment) -> Environment:
    """A tenant with tickets of printing, a VPN and odd days, one without any, and one with many and no words yet."""
    with module_database.on_one_connection():
        for tenant_id in ("acme", "empty", "new"):
            module_database.add_tenant(secrets_key, tenant_id)
        add_ticket(module_database, "acme", "155000", **SPOOLER)
        module_database.query("UPDATE ticket_history SET display_id = '4711'")
        add_ticket(module_database, "acme", HOSTILE, description=f"Printer jams {HOSTILE}", tags=[HOSTILE], priority="")
        add_ticket(module_database, "acme", "155002")
        for day in DAYS:
            add_ticket(module_database, "acme", day, description=f"caesar{day}", resolved_date=day)
        module_database.query("DELETE FROM search_indexes WHERE tenant_id = 'new'")
        module_database.query(MANY)
    return module_environment


def test_it_prints_the_best_first_in_80_columns(env: Environment) -> None:
    done = invoke(env, "similar", "--tenant", "acme", "spooler stops, 80070005 on srv-print-02")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "1  155000, display id 4711"
    assert re.fullmatch(r"   score 0\.\d\d, resolved 2026-01-31, High, vpn, network", lines[1])
    assert re.fullmatch(r"   matched     [\w, -]+", lines[2])
    assert {"80070005", "spooler"} <= set(re.findall(r"\w+", lines[2]))
    assert lines[3] == "   subject     Print spooler stops on SRV-PRINT-02"
    assert lines[4] == "   description The event log has 0x80070005, access denied. It recurs. It"
    assert re.fullmatch(r" {15}recurs\. .* …", lines[5])
    assert lines[6].startswith("   resolution  1. Stopped the service. 2. Granted SYSTEM")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("moment", DAYS)
def test_a_day_that_python_has_not_is_shown(env: Environment, moment: str) -> None:
    """Another program, or SQL by hand, may have written it."""
    done = invoke(env, "similar", "--tenant", "acme", f"caesar{moment}", "--limit", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f", resolved {DAYS[moment]}, High" in done.stdout


def test_what_others_wrote_reaches_no_terminal_raw(env: Environment) -> None:
    done = invoke(env, "similar", "--tenant", "acme", "jams", "--limit", "1")
    assert done.exit_code == 0, done.stderr
    assert all(one.isprintable() or one == "\n" for one in done.stdout)
    assert done.stdout.splitlines()[0] == r"1  \x1b[2J\r\n1  155000\u202e"


def test_a_files_first_line_is_the_subject(env: Environment, tmp_path: Path) -> None:
    """Also from standard input, with a mark of UTF-8 before it, and of Windows' lines."""
    file = tmp_path / "new.txt"
    file.write_bytes("\ufeffVPN drops\r\n\r\nsince Monday, on a laptop".encode())
    by_file = run_here(["similar", "--tenant", "acme", "--file", str(file), "--json"], env)
    by_text = run_here(["similar", "--tenant", "acme", "--json", "VPN drops", "since Monday, on a laptop"], env)
    answers = [json.loads(done.stdout) for done in (by_file, by_text)]
    assert answers[0]["tickets"] == answers[1]["tickets"] != []
    assert answers[0]["tickets"][0]["ticket_id"] == "155002"


def test_json_is_ascii_and_one_line(env: Environment) -> None:
    done = invoke(env, "similar", "--tenant", "acme", "--json", "--limit", "50", "printer spooler")
    assert (done.exit_code, done.stdout.isascii(), done.stdout.count("\n")) == (0, True, 1)
    answer = json.loads(done.stdout)
    assert list(answer) == ["tickets", "correlation_id"]
    assert {one["ticket_id"] for one in answer["tickets"]} >= {HOSTILE}


def test_nothing_similar_is_no_failure(env: Environment) -> None:
    for tenant_id, text, words in (
        ("acme", "xylophone", "No resolved ticket of tenant acme has any of these words.\n"),
        ("empty", "VPN", "No resolved ticket of tenant empty has any of these words.\n"),
        ("acme", "the of & | ! :*", "These are no words to search by: only such as “the” and “is”, or signs.\n"),
    ):
        done = invoke(env, "similar", "--tenant", tenant_id, text)
        assert (done.exit_code, done.stdout, done.stderr) == (0, words, "")
        done = invoke(env, "similar", "--tenant", tenant_id, "--json", text)
        assert json.loads(done.stdout)["tickets"] == []


@pytest.mark.parametrize(
    ("arguments", "given", "code", "words"),
    [
        ((" \n",), b"", 2, "the new ticket has no text: give the words to search for"),
        (("--file", "-"), b" \n", 2, "the new ticket has no text: give the words to search for"),
        (("-",), b"\xff\xfe", 2, "the new ticket must be text in UTF-8, and its byte 1 is none"),
        (("-",), b"a\0b", 2, "the new ticket cannot be asked for: subject must not hold U+0000"),
        (("x" * 1000, "y" * 9999), b"", 2, "cannot be asked for: description must be a string of at most 10,000"),
        (("VPN", "--tenant", "nobody"), b"", 1, "there is no tenant 'nobody': see `ticket-inbox tenant list`"),
        (
            ("VPN", "--tenant", "new"),
            b"",
            1,
            "the words of the tickets of tenant 'new' are not there yet: a worker makes them",
        ),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    env: Environment, arguments: tuple[str, ...], given: bytes, code: int, words: str
) -> None:
    done = invoke(env, "similar", "--tenant", "acme", *arguments, given=given)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.output
    assert words in done.stderr


def test_wrong_use_exits_2(env: Environment, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for arguments in ([], ["VPN", "--file", str(tmp_path / "x")], ["VPN", "--limit", "51"], ["--file", "no such"]):
        assert invoke(env, "similar", "--tenant", "acme", *arguments).exit_code == 2, arguments
    assert invoke(env, "similar", "VPN").exit_code == 2


def test_each_role_asks_in_its_own_way(postgres_url: str) -> None:
    """The server's role by the command, a reader as docs/similar.md says, an operator not at all."""
    with installation(postgres_url) as made:
        schema.upgrade(made.owner.url)
        made.make()
        made.add_tenant("acme")
        for kind in ("app", "operator", "reader"):
            made.add_login(f"{kind}_login", kind)
        made.let_read("acme", "reader_login")
        add_ticket(made.owner, "acme", "4101", description="Cannot print\n\nSRV-PRINT-02: 0x80070005")
        done = ask_as(made, "app_login")
        assert (done.exit_code, done.stdout[:7]) == (0, "1  4101"), done.stderr
        for role in ("operator_login", "reader_login"):
            done = ask_as(made, role)
            assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
            assert "this role may not ask for a tenant's similar tickets: let DATABASE_URL name" in done.stderr
        [statement] = blocks((ROOT / "docs/similar.md").read_text(), "pgsql")
        [ticket] = made.by("reader_login").query(statement)
        assert ticket["ticket_id"] == "4101"
        assert {"print", "80070005"} <= set(ticket["matched"])


def ask_as(made: Installation, role: str) -> Result:
    return invoke({"TICKET_INBOX_DATABASE_URL": made.by(role).url}, "similar", "--tenant", "acme", "print")
