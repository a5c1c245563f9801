"""Tenants and their secrets: the commands, rotation with a grace period, and encryption at rest."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.system import Database, Server, Tenant, run

pytestmark = pytest.mark.one_postgres


def test_add_prints_the_secret_once_and_keeps_it_encrypted(environment: Environment, database: Database) -> None:
    secret = tenant_command(environment, "add", "acme")
    assert len(secret) >= 32
    [row] = database.query("SELECT * FROM tenant_configs")
    assert row["enabled"]
    assert secret not in str(row)
    fernet = Fernet(environment["SECRETS_KEY"])
    assert fernet.decrypt(row["secret"]).decode() == secret
    assert secret not in tenant_command(environment, "list")


def test_what_a_command_cannot_do_it_says_in_one_line(environment: Environment) -> None:
    tenant_command(environment, "add", "acme")
    for code, words, arguments in (
        (1, "there is a tenant 'acme' already", ["add", "acme"]),
        (1, "there is no tenant 'nobody'", ["rotate", "nobody"]),
        (1, "there is no tenant 'nobody'", ["disable", "nobody"]),
        (1, "there is no tenant 'nobody'", ["enable", "nobody"]),
        (2, "has 1 to 100 of the characters A-Z a-z 0-9 . _ -; this one has 101", ["add", "x" * 101]),
        (2, "has 1 to 100 of the characters A-Z a-z 0-9 . _ -; this one has 0", ["add", ""]),
        (2, "has 1 to 100 characters, in UTF-8", ["disable", "x" * 101]),
        (2, "has 1 to 100 characters, in UTF-8", ["disable", "\udcff"]),
        (2, "an empty secret", ["add", "globex", "--secret", ""]),
        (2, "is no duration", ["rotate", "acme", "--grace", "soon"]),
        (2, "is no duration", ["rotate", "acme", "--grace", "366d"]),
        (2, "Missing argument 'ID'", ["add"]),
        (2, "No such command", ["delete", "acme"]),
    ):
        done = invoke(environment, "tenant", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_secret_in_a_file_is_not_shown(environment: Environment, tmp_path: Path) -> None:
    """Standard output, which scripts take as the secret, stays empty then; any other is there alone."""
    own = "one of my own, which is long"
    (tmp_path / "secret").write_text(f"{own}\n")
    for command in ("add", "rotate"):
        done = invoke(environment, "tenant", command, "acme", "--secret-file", str(tmp_path / "secret"))
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (0, "", 1)
        assert own not in done.stderr
    assert tenant_command(environment, "rotate", "acme", "--secret", own) == own
    assert len(tenant_command(environment, "rotate", "acme")) >= 32


@pytest.mark.parametrize(
    ("tenant_id", "shown"),
    [
        ("acme ", "'acme ' has ' ' (U+0020)"),
        ("a b", "'a b' has ' ' (U+0020)"),
        ("\u0430cme", r"'\u0430cme' has '\u0430' (U+0430)"),  # Cyrillic, looks like acme
        ("a\x1b[2Jb", r"'a\x1b[2Jb' has '\x1b' (U+001B)"),
        ("acme\n", r"'acme\n' has '\n' (U+000A)"),
        ("acme\u200b", r"'acme\u200b' has '\u200b' (U+200B)"),
        ("\u202eemca", r"'\u202eemca' has '\u202e' (U+202E)"),
        ("acm\u00e9", r"'acm\xe9' has '\xe9' (U+00E9)"),
        ("a/b", "'a/b' has '/' (U+002F)"),
        ("\udcff", r"'\udcff' has '\udcff' (U+DCFF)"),
    ],
)
def test_a_name_that_looks_like_another_is_refused(environment: Environment, tenant_id: str, shown: str) -> None:
    """The database is not even asked; the line shows which character it is."""
    done = invoke({**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "tenant", "add", tenant_id)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith(f"1 to 100 of the characters A-Z a-z 0-9 . _ -; {shown}")


def test_every_other_name_is_added(environment: Environment) -> None:
    for tenant_id in ("A.b_c-9", ".", "x" * 100):
        assert tenant_command(environment, "add", tenant_id)
    assert tenant_command(environment, "add", "--", "-")


def test_without_a_database_or_a_schema_it_says_what_to_do(environment: Environment, empty_database: Database) -> None:
    for url, words in (
        (empty_database.url, "Run `ticket-inbox migrate`"),
        ("postgresql://127.0.0.1:1/x", "Postgres cannot be reached"),
    ):
        done = invoke({**environment, "DATABASE_URL": url}, "tenant", "list")
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert words in done.stderr


def test_list_shows_every_tenant(environment: Environment) -> None:
    for tenant_id in ("globex", "acme"):
        tenant_command(environment, "add", tenant_id)
    tenant_command(environment, "disable", "acme")
    tenant_command(environment, "rotate", "globex", "--grace", "1h")
    head, acme, globex = tenant_command(environment, "list").splitlines()
    assert head.split()[0] == "TENANT"
    assert re.fullmatch(r"acme    no       (\S{20}  ){2}-", acme)
    assert re.fullmatch(r"globex  yes      (\S{20}  ){2}\S{20}", globex)


def test_list_as_json(environment: Environment, database: Database) -> None:
    """One array, as `status --json` is one value, with a tenant whose config an earlier version deleted."""
    for tenant_id in ("globex", "acme"):
        tenant_command(environment, "add", tenant_id)
    tenant_command(environment, "disable", "acme")
    tenant_command(environment, "rotate", "globex", "--grace", "1h")
    database.query("INSERT INTO tenant_removals (tenant_id) VALUES ('acme'), ('hooli')")
    acme, globex, hooli = json.loads(tenant_command(environment, "list", "--json"))
    none = {"created_at": None, "updated_at": None, "previous_secret_ends_at": None}
    assert hooli == {"tenant_id": "hooli", "enabled": False, **none, "being_removed": True}
    assert (acme["enabled"], acme["being_removed"], acme["previous_secret_ends_at"]) == (False, True, None)
    assert (globex["tenant_id"], globex["enabled"], globex["being_removed"]) == ("globex", True, False)
    for name in ("created_at", "updated_at", "previous_secret_ends_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", globex[name])
    shown = tenant_command(environment, "list").splitlines()
    assert [line.endswith("(being removed)") for line in shown] == [False, True, False, True]
    database.query("DELETE FROM tenant_configs")
    database.query("DELETE FROM tenant_removals")
    assert json.loads(tenant_command(environment, "list", "--json")) == []


def test_every_change_is_in_force_within_ten_seconds(
    environment: Environment, start_server: Callable[..., Server]
) -> None:
    """Add, rotate with and without grace, disable and enable, while the server keeps running."""
    server = start_server()
    first = Tenant("acme", tenant_command(environment, "add", "acme"))
    server.wait_until_known(first)
    second = Tenant("acme", tenant_command(environment, "rotate", "acme"))
    server.wait_until_known(second)
    assert server.send(first).status_code == 202, "within its grace"
    third = Tenant("acme", tenant_command(environment, "rotate", "acme", "--grace", "4s"))
    server.wait_until_known(third)
    server.wait_until_known(first, known=False)
    server.wait_until_known(second, known=False, within=14)  # 4 s of grace, then 10 s for the change
    fourth = Tenant("acme", tenant_command(environment, "rotate", "acme", "--grace", "0s"))
    server.wait_until_known(fourth)
    assert server.send(third).status_code == 401, "its grace ended at once"
    tenant_command(environment, "disable", "acme")
    server.wait_until_known(fourth, known=False)
    tenant_command(environment, "enable", "acme")
    server.wait_until_known(fourth)


def test_keys_can_be_rotated(environment: Environment, start_server: Callable[..., Server]) -> None:
    """The first key encrypts and each key decrypts, so no tenant is refused while the new key is rolled out."""
    old = Tenant("old", tenant_command(environment, "add", "old"))
    new_key = Fernet.generate_key().decode()
    both = {**environment, "SECRETS_KEY": f"{new_key}, {environment['SECRETS_KEY']}"}
    new = Tenant("new", tenant_command(both, "add", "new"))
    server = start_server(SECRETS_KEY=both["SECRETS_KEY"])
    assert [server.send(tenant).status_code for tenant in (old, new)] == [202, 202]


def test_a_secret_of_another_key_is_503_and_harms_no_other_tenant(
    environment: Environment, start_server: Callable[..., Server]
) -> None:
    """The server cannot read the secret: the sender must send again, not change its secret."""
    lost = Tenant("lost", tenant_command(environment, "add", "lost"))
    other = {**environment, "SECRETS_KEY": Fernet.generate_key().decode()}
    fine = Tenant("fine", tenant_command(other, "add", "fine"))
    server = start_server(SECRETS_KEY=other["SECRETS_KEY"])
    assert [server.send(tenant).status_code for tenant in (lost, fine)] == [503, 202]
    [line] = server.lines("tenant_unreadable")
    assert line["tenant_id"] == "lost"


def test_a_new_server_knows_its_tenants_before_its_first_answer(
    database: Database, secrets_key: str, start_server: Callable[..., Server]
) -> None:
    tenant = database.add_tenant(secrets_key)
    assert start_server().send(tenant).status_code == 202


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["tenant", "rotate", "x"],
        ["tenant", "add", "x"],
        ["reconcile", "--tenant", "x"],
    ],
)
def test_without_a_key_a_command_stops_and_says_how_to_make_one(
    environment: Environment, command: list[str], tmp_path: Path
) -> None:
    """Where `dev` has run, as the README has it, the line names its key instead."""
    done = run(command, {**environment, "SECRETS_KEY": "", "DEV_DIR": str(tmp_path / "dev")})
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("ticket-inbox: SECRETS_KEY is not set")
    made = run_python(re.findall(r'python -c "(.*)"', line)[0])
    assert invoke({**environment, "SECRETS_KEY": made}, "tenant", "list").exit_code == 0


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
