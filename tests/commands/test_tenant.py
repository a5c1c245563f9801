"""Tenants and their secrets: the commands, rotation with a grace period, and encryption at rest."""

import re
import subprocess
import sys
from collections.abc import Callable

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
    assert tenant_command(environment, "add", "globex", "--secret", "one of my own, long") == "one of my own, long"


def test_what_a_command_cannot_do_it_says_in_one_line(environment: Environment) -> None:
    tenant_command(environment, "add", "acme")
    for code, words, arguments in (
        (1, "there is a tenant 'acme' already", ["add", "acme"]),
        (1, "there is no tenant 'nobody'", ["rotate", "nobody"]),
        (1, "there is no tenant 'nobody'", ["disable", "nobody"]),
        (1, "there is no tenant 'nobody'", ["enable", "nobody"]),
        (2, "1 to 100 printable characters", ["add", "x" * 101]),
        (2, "1 to 100 printable characters", ["add", ""]),
        (2, "1 to 100 printable characters", ["add", "a\nb"]),
        (2, "an empty secret", ["add", "globex", "--secret", ""]),
        (2, "is no duration", ["rotate", "acme", "--grace", "soon"]),
        (2, "is no duration", ["rotate", "acme", "--grace", "366d"]),
        (2, "Missing argument 'ID'", ["add"]),
        (2, "No such command", ["remove", "acme"]),
    ):
        done = invoke(environment, "tenant", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


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
def test_without_a_key_a_command_stops_and_says_how_to_make_one(environment: Environment, command: list[str]) -> None:
    done = run(command, {**environment, "SECRETS_KEY": ""})
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("ticket-inbox: SECRETS_KEY is not set")
    made = run_python(re.findall(r'python -c "(.*)"', line)[0])
    assert invoke({**environment, "SECRETS_KEY": made}, "tenant", "list").exit_code == 0


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
