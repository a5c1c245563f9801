"""A tenant whose name would be refused today goes on in every command, and no terminal is moved by it."""

import subprocess
from pathlib import Path

import pytest

from db import roles, tenant_removal
from tests.support.commands_in_process import Environment, invoke
from tests.support.removing import left
from tests.support.system import Database, Tenant

pytestmark = pytest.mark.one_postgres

ODD = ["acme ", "\u0430cme", "o'dd \\ \" 100%", "a\x1b[2J\nb", "\u202eemca"]
SDP = ("--edition", "cloud", "--url", "https://sdpondemand.manageengine.com/app/itdesk", "--no-check", "--credentials")
ACCOUNT = '{"client_id": "1", "client_secret": "2", "refresh_token": "3"}'


def test_every_command_takes_a_name_that_exists(
    environment: Environment, database: Database, secrets_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_removal, "IN_FORCE_WITHIN", 0.0)
    with database.on_one_connection():
        for tenant_id in ODD:
            database.add_tenant(secrets_key, tenant_id)
        shown = invoke(environment, "tenant", "list").stdout
        head, *lines = shown.splitlines()
        assert {words(line)[0] for line in lines} == set(ODD), "each is shown as a shell reads it"
        assert shown.isascii()
        assert {line.index(" yes  ") for line in lines} == {head.index(" ENABLED")}
        for tenant_id in ODD:
            use_and_remove(tenant_id, environment, database, tmp_path)


def words(line: str) -> list[str]:
    """Return a line's words as bash reads them."""
    read = ["bash", "-c", f"printf '%s\\0' {line}"]
    printed = subprocess.run(read, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    return printed.stdout.decode().split("\0")


def use_and_remove(tenant_id: str, environment: Environment, database: Database, directory: Path) -> None:
    file = directory / "f.jsonl"
    file.write_bytes(Tenant(tenant_id, "").body(ticket_id="155") + b"\n")
    for arguments in (
        ["tenant", "disable", "--", tenant_id],
        ["tenant", "enable", "--", tenant_id],
        ["tenant", "rotate", "--", tenant_id],
        ["tenant", "sdp", "set", *SDP, ACCOUNT, "--", tenant_id],
        ["tenant", "sdp", "show", "--", tenant_id],
        ["tenant", "sdp", "clear", "--", tenant_id],
        ["import", f"--tenant={tenant_id}", "--file", str(file)],
        ["trace", "155", f"--tenant={tenant_id}"],
        ["tenant", "remove", "--yes", "--", tenant_id],
    ):
        done = invoke(environment, *arguments)
        assert done.exit_code == 0, (arguments, done.stderr)
        shown = [line for line in done.output.splitlines() if not line.startswith("{")]  # but for the log's line
        assert all(line.isprintable() for line in shown), (arguments, shown)
    assert left(database, tenant_id) == {}
    # What names no tenant any more is said to be none, not to be no name.
    assert "no ServiceDesk Plus is known" in invoke(environment, "reconcile", f"--tenant={tenant_id}").stderr
    with pytest.raises(roles.RolesError, match="there is no tenant"):
        roles.let_read(database.url, "ticket_inbox", tenant_id, "nobody")
