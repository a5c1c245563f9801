"""ticket-inbox settings: each setting, its value and where it comes from, and never a secret."""

import json

import pytest

from app.settings import Settings
from tests.conftest import clean_environment
from tests.support.commands_in_process import run_here

pytestmark = pytest.mark.one_postgres

KEY = "A" * 43 + "="


def shown(**environ: str) -> dict[str, tuple[object, str]]:
    """Return value and source of each setting, of which the table says the same as the JSON."""
    env = clean_environment(**environ)
    done = run_here(["settings", "--json"], env)
    found = json.loads(done.stdout)["settings"]
    table = run_here(["settings"], env).stdout
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in found] == [name.upper() for name in Settings.__struct_fields__]
    for one in found:
        value = "(hidden)" if one["is_hidden"] else "(none)" if one["value"] is None else one["value"]
        assert f"{one['from']} {value}" in " ".join(table.split())
    for secret in ("geheim", KEY):
        assert secret not in done.stdout + done.stderr + table
    return {one["name"]: (one["value"], one["from"]) for one in found}


def test_each_setting_has_its_value_and_its_source() -> None:
    found = shown(PORT="'9'", HOST="::1", TICKET_INBOX_HOST="[::]", RETENTION_DAYS=" ")
    assert found["PORT"] == (9, "PORT")
    assert found["HOST"] == ("::", "TICKET_INBOX_HOST")
    assert found["RETENTION_DAYS"] == (90, "default")
    assert found["TENANT_RATE"] == (0.0, "default")
    assert found["SECRETS_KEY"] == (None, "default")
    assert found["DATABASE_URL"] == ("postgresql://localhost:5432/ticket_inbox", "default")


def test_secrets_and_passwords_are_hidden() -> None:
    found = shown(
        TICKET_INBOX_SECRETS_KEY=KEY,
        DATABASE_URL="postgresql://me:geheim%40@db:1,db2/t?sslpassword=geheim&sslmode=require",
        JAEGER_URL="https://me:geheim@jaeger/x",
        PGSSLMODE="disable",
        PGCONNECT_TIMEOUT="3",
        PGPASSWORD="geheim",
    )
    assert found["SECRETS_KEY"] == (None, "TICKET_INBOX_SECRETS_KEY")
    url = "postgresql://me:***@db:1,db2/t?sslpassword=***&sslmode=require&connect_timeout=3"
    assert found["DATABASE_URL"] == (url, "DATABASE_URL and PGCONNECT_TIMEOUT")
    assert found["JAEGER_URL"] == ("https://***@jaeger/x", "JAEGER_URL")
    found = shown(PGPASSWORD="geheim", PGHOST="db")
    assert found["DATABASE_URL"][1] == "PGHOST and PGPASSWORD"
    assert str(found["DATABASE_URL"][0]).endswith("host=db&password=***")


def test_each_wrong_value_has_a_line_and_is_not_shown() -> None:
    env = clean_environment(
        PORT="geheim", TICKET_INBOX_LOG_LEVEL="geheim", DATABASE_URL="postgresql://me:ge/heim@db", TICKET_INBOX_PROT="1"
    )
    for arguments in ([], ["--json"]):
        done = run_here(["settings", *arguments], env)
        assert done.returncode == 1
        warning, *errors = done.stderr.splitlines()
        assert warning == "Warning: TICKET_INBOX_PROT is no setting: did you mean TICKET_INBOX_PORT?"
        assert [line.split(" is wrong: it must be ")[0] for line in errors] == [
            "Error: DATABASE_URL", "Error: PORT", "Error: TICKET_INBOX_LOG_LEVEL",
        ]  # fmt: skip
        assert "heim" not in done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["settings"]}
    assert (found["PORT"]["value"], found["PORT"]["from"]) == (None, "PORT")
    assert found["PORT"]["error"].startswith("PORT is wrong: it must be a whole number")
