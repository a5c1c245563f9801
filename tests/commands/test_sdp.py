"""ticket-inbox tenant sdp … and ticket-inbox reconcile: their output, and that it never shows credentials."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from app.commands import sdp as sdp_commands
from tests.support.commands_in_process import Environment, invoke, tenant_command
from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.fake_sdp_ways import VENDORS_LIST
from tests.support.system import Database, Worker

pytestmark = pytest.mark.one_postgres

HUSH = "hush"  # part of every secret of the fake


@pytest.fixture(params=["on_premises"])
def sdp(request: pytest.FixtureRequest) -> Iterator[FakeSdp]:
    with running_sdp(request.param, list_lacks=VENDORS_LIST) as running:
        yield running


@pytest.fixture
def environment(environment: Environment, sdp: FakeSdp) -> Environment:
    """The environment with the credentials, and a tenant `acme` in the database."""
    tenant_command(environment, "add", "acme")
    return {**environment, sdp_commands.VARIABLE: json.dumps(sdp.given), "SDP_REQUESTS_PER_MINUTE": "6000"}


def set_up(environment: Environment, sdp: FakeSdp, *more: str) -> str:
    return tenant_command(environment, "sdp", "set", "acme", "--edition", sdp.edition, "--url", sdp.url, *more)


@pytest.mark.parametrize("sdp", ["on_premises", "cloud"], indirect=True)
def test_set_asks_keeps_and_shows_no_secret(
    environment: Environment, sdp: FakeSdp, database: Database, tmp_path: Path
) -> None:
    printed = [set_up(environment, sdp)]
    assert printed[0] == f"Tenant acme has its ServiceDesk Plus at {sdp.url}, which answered."
    assert len(sdp.lists()) == 2, "one is of a time to come: is the criterion heeded?"
    [row] = database.query("SELECT * FROM sdp_configs")
    kept = json.loads(Fernet(environment["SECRETS_KEY"]).decrypt(row["credentials"]))
    assert kept == sdp.given
    sdp.add_resolved(2)
    printed.append(invoke(environment, "reconcile", "--tenant", "acme").output)
    printed.append(tenant_command(environment, "sdp", "show", "acme"))
    assert [line.split()[0] for line in printed[-1].splitlines()] == [
        "edition",
        "url",
        "credentials",
        "since",
        "api_fallback",
    ]
    assert sdp.url in printed[-1]
    (tmp_path / "credentials").write_text(json.dumps(sdp.given))
    printed.append(
        set_up({**environment, sdp_commands.VARIABLE: ""}, sdp, "--credentials-file", f"{tmp_path}/credentials")
    )
    assert database.value("SELECT count(*) FROM sdp_cursors") == 1, "the cursor stays"
    printed.append(tenant_command(environment, "sdp", "clear", "acme"))
    assert database.query("SELECT * FROM sdp_configs") == database.query("SELECT * FROM sdp_cursors") == []
    assert HUSH not in "".join([*printed, str(row)])


def test_wrong_arguments_of_set(environment: Environment, sdp: FakeSdp, database: Database, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text('{"tokens": "hush"}')
    right = ("--edition", "on_premises", "--url", sdp.url)
    for code, words, env, arguments in (
        (2, "Missing option '--edition'", environment, ("acme", "--url", sdp.url)),
        (2, "'msp' is not one of", environment, ("acme", "--edition", "msp", "--url", sdp.url)),
        (2, "is not like https://sdpondemand", environment, ("acme", "--edition", "cloud", "--url", f"{sdp.url}/sdp")),
        (2, "the address must be like", environment, ("acme", "--edition", "on_premises", "--url", "sdp.example.com")),
        (2, "the address must be like", environment, ("acme", "--edition", "on_premises", "--url", "https://10.0.0.300")),
        (2, "the address must be like", environment, ("acme", "--edition", "on_premises", "--url", "https://xn--.com")),
        (1, "cannot be used", {**environment, "SSL_CERT_FILE": "/nowhere", sdp_commands.VARIABLE: '{"token": "h"}'}, ("acme", *right)),
        (2, 'must be JSON like {"token"', {**environment, sdp_commands.VARIABLE: '{"token": "hush\\n"}'}, ("acme", *right)),
        (2, "give the credentials", {**environment, sdp_commands.VARIABLE: ""}, ("acme", *right)),
        (2, 'must be JSON like {"token"', environment, ("acme", *right, "--credentials-file", f"{tmp_path}/credentials")),
        (2, 'must be JSON like {"token"', {**environment, sdp_commands.VARIABLE: "hush"}, ("acme", *right)),
        (1, "there is no tenant 'nobody'", environment, ("nobody", *right)),
        (1, "does not let us in", {**environment, sdp_commands.VARIABLE: '{"token": "hush"}'}, ("acme", *right)),
        (1, "cannot be reached", environment, ("acme", "--edition", "on_premises", "--url", "http://127.0.0.1:1")),
        (1, "is its address right?", environment, ("acme", "--edition", "on_premises", "--url", f"{sdp.url}/sdp")),
    ):  # fmt: skip
        done = invoke(env, "tenant", "sdp", "set", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), (words, done.output)
        assert words in done.stderr, done.stderr
        assert HUSH not in done.stderr
        assert "Traceback" not in done.stderr
    assert database.query("SELECT * FROM sdp_configs") == []


def test_with_no_check_it_asks_no_server(environment: Environment, sdp: FakeSdp, database: Database) -> None:
    said = tenant_command(environment, "sdp", "set", "acme", "--edition", "on_premises", "--url", "http://127.0.0.1:1", "--no-check")  # fmt: skip
    assert said == "Tenant acme has its ServiceDesk Plus at http://127.0.0.1:1."
    assert sdp.asked == []
    assert database.value("SELECT base_url FROM sdp_configs") == "http://127.0.0.1:1"


def test_without_https_it_warns(environment: Environment, sdp: FakeSdp) -> None:
    done = invoke(environment, "tenant", "sdp", "set", "acme", "--edition", sdp.edition, "--url", sdp.url)
    assert "Warning: without https" in done.stderr


def test_show_and_clear_of_nothing(environment: Environment) -> None:
    for command in ("show", "clear"):
        done = invoke(environment, "tenant", "sdp", command, "acme")
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert "no ServiceDesk Plus is known of tenant 'acme'" in done.stderr


def test_a_tenants_credentials_are_deleted_when_the_tenant_is(
    environment: Environment, sdp: FakeSdp, database: Database
) -> None:
    set_up(environment, sdp)
    invoke(environment, "reconcile", "--tenant", "acme")
    database.query("DELETE FROM tenant_configs")
    assert database.query("SELECT * FROM sdp_configs") == database.query("SELECT * FROM sdp_cursors") == []


def test_reconcile_prints_its_result(environment: Environment, sdp: FakeSdp) -> None:
    set_up(environment, sdp)
    sdp.add_resolved(3)
    dry = invoke(environment, "reconcile", "--tenant", "acme", "--dry-run")
    assert "       3  would be appended to the inbox" in dry.stdout.splitlines()
    done = invoke(environment, "reconcile", "--tenant", "acme")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "       3  resolved tickets seen",
        "       0  were there already",
        "       3  appended to the inbox",
        "       0  appended as rejected: they break a rule, see `ticket-inbox status`",
        "       0  deleted, or opened again, meanwhile",
        "       0  could not be fetched",
    ]
    sdp.add_resolved(at=sdp.now() - 3 * 86_400_000)
    again = invoke(environment, "reconcile", "--tenant", "acme", "--since", "4d")
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["4", "3", "1", "0", "0", "0"]


def test_an_import_from_the_api_goes_on_where_it_ended(
    environment: Environment, sdp: FakeSdp, database: Database
) -> None:
    set_up(environment, sdp)
    day = 86_400_000
    ids = sdp.add_resolved(4, at=sdp.now() - 700 * day, apart=day)
    sdp.go_away_at(ids[2])
    done = invoke({**environment, "SDP_REQUESTS_PER_MINUTE": "6000"}, "import", "--tenant", "acme", "--since", "2y")
    assert done.exit_code == 1
    assert done.stderr.endswith("Run it again: it goes on from there\n")
    sdp.heal()
    done = invoke(environment, "import", "--tenant", "acme", "--since", "2y")
    assert (done.exit_code, [line.split()[0] for line in done.stdout.splitlines()]) == (
        0,
        ["3", "1", "2", "0", "0", "0"],
    )
    assert [row["ticket_id"] for row in database.query("SELECT ticket_id FROM inbox ORDER BY id")] == ids
    for arguments in (["--since", "2y", "--dry-run"], ["--since", "101y"], []):
        assert invoke(environment, "import", "--tenant", "acme", *arguments).exit_code == 2


def test_reconcile_says_in_one_line_why_not(environment: Environment, sdp: FakeSdp, database: Database) -> None:
    set_up(environment, sdp)
    [_, ticket_id] = sdp.add_resolved(2)
    sdp.fail("error", times=100, on=ticket_id, code=4001, message="hush-authtoken-of-a-technician is\nwrong")
    other_key = {**environment, "SECRETS_KEY": Fernet.generate_key().decode()}
    for words, env, arguments in (
        (f"ticket {ticket_id} cannot be fetched: ServiceDesk Plus says no: it answered 200 with 4001, '…", environment, ()),
        ("no key in SECRETS_KEY reads the credentials", other_key, ()),
        ("Postgres cannot be reached", {**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/x"}, ()),
        ("no ServiceDesk Plus is known of tenant 'nobody'", environment, ("--tenant", "nobody")),
        ("is no duration", environment, ("--since", "soon")),
    ):  # fmt: skip
        done = invoke(env, "reconcile", "--tenant", "acme", *arguments)
        assert done.exit_code == (2 if "duration" in words else 1)
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.output
        assert HUSH not in done.output
    database.query("DROP TABLE sdp_access, sdp_cursors, sdp_configs")
    done = invoke(environment, "reconcile", "--tenant", "acme")
    assert "Run `ticket-inbox migrate`" in done.stderr


def test_trace_shows_a_fetched_ticket(environment: Environment, sdp: FakeSdp, start_worker: Callable[..., Worker], database: Database) -> None:  # fmt: skip
    set_up(environment, sdp)
    [ticket_id] = sdp.add_resolved()
    invoke(environment, "reconcile", "--tenant", "acme")
    start_worker()
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=20)
    printed = invoke(environment, "trace", ticket_id).stdout
    assert "fetched from the API, promoted" in printed
    assert database.value("SELECT correlation_id FROM inbox") in printed


def test_the_doctor_asks_too(environment: Environment, sdp: FakeSdp) -> None:
    def line() -> str:
        """Return the line about the API, the last one before the count of faults."""
        lines = invoke(environment, "doctor", "--tenant", "acme", "--url", "http://127.0.0.1:1").stdout.splitlines()
        return lines[-1]

    assert line().startswith("note  ServiceDesk Plus is not asked")
    set_up(environment, sdp)
    assert line().startswith("note  ServiceDesk Plus can be asked, and has not been yet")
    [ticket_id] = sdp.add_resolved()
    sdp.fail("error", times=1, on=ticket_id)
    invoke(environment, "reconcile", "--tenant", "acme")
    assert line().startswith(f"note  ServiceDesk Plus can be asked, but the last run ended early: ticket {ticket_id}")
    invoke(environment, "reconcile", "--tenant", "acme")
    assert line().startswith("ok    ServiceDesk Plus can be asked; by its clock (UTC) nothing is missing up to 20")
    sdp.credentials = {"token": "another"}
    assert line().startswith("wrong the API of ServiceDesk Plus: ServiceDesk Plus does not let us in")


def test_reencrypt_covers_the_credentials(environment: Environment, sdp: FakeSdp, database: Database) -> None:
    set_up(environment, sdp)
    tenant_command(environment, "add", "lost")
    database.query("INSERT INTO sdp_configs SELECT 'lost', edition, base_url, 'gAAAA' FROM sdp_configs")
    new = Fernet.generate_key().decode()
    done = invoke({**environment, "SECRETS_KEY": f"{new},{environment['SECRETS_KEY']}"}, "tenant", "reencrypt")
    assert done.stdout.splitlines() == ["3 secrets encrypted with the first key."]
    assert "reads the ServiceDesk Plus credentials of 'lost'" in done.stderr
    text = database.value("SELECT credentials FROM sdp_configs WHERE tenant_id = 'acme'")
    assert json.loads(Fernet(new).decrypt(text)) == sdp.given


def test_no_list_of_processes_shows_the_credentials(environment: Environment, sdp: FakeSdp) -> None:
    """They come from the environment or a file, and the help names no option for them."""
    assert "--credentials " not in invoke(environment, "tenant", "sdp", "set", "--help").stdout
    seen: list[str] = []
    sdp.before_answer = lambda _asked: seen.append(Path(f"/proc/{process.pid}/cmdline").read_text())
    command = ["tenant", "sdp", "set", "acme", "--edition", sdp.edition, "--url", sdp.url, "--credentials-file", "-"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *command],
        env={**environment, sdp_commands.VARIABLE: ""}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    printed, _ = process.communicate(json.dumps(sdp.given).encode(), timeout=60)
    assert process.returncode == 0
    assert b"which answered" in printed
    assert seen
    assert HUSH not in "".join(seen)


def test_progress_is_shown_on_a_terminal_alone(environment: Environment, sdp: FakeSdp) -> None:
    set_up(environment, sdp)
    sdp.add_resolved(3)
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "app", "reconcile", "--tenant", "acme"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=terminal, check=True, timeout=60)
    os.close(terminal)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert "Tickets" in shown
    assert "100%" in shown
    assert b"Tickets" not in done.stdout
    assert invoke(environment, "reconcile", "--tenant", "acme").stderr == ""
