"""A command reads the settings that it uses, and no wrong value of another stops it."""

import subprocess
import sys
from collections.abc import Callable, Collection

import pytest

from app.settings import Settings, uses
from tests.conftest import clean_environment
from tests.support import preloaded
from tests.support.commands_in_process import invoke
from tests.support.system import Database, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

KEY = "A" * 43 + "="
WRONG = {"host": "http://0.0.0.0", "dev_dir": "x\n", "resolved_statuses": " , "}
# An address that is no machine's, and a Postgres that is nowhere: with these a command that read its settings ends.
RIGHT = {
    "database_url": "postgresql://127.0.0.1:1/x",
    "secrets_key": KEY,
    "host": "192.0.2.1",
    "worker_metrics_port": "9464",
    "port": "8000",
}
DATABASE = {"database_url"}
WITH_KEY = DATABASE | {"secrets_key"}
EVENTS = {"max_description_chars", "resolved_statuses"}
SDP = WITH_KEY | {"sdp_requests_per_minute"}
IMPORT = ("import", "--tenant", "t", "--format", "jsonl", "--file", "/dev/null")
SET = ("tenant", "sdp", "set", "t", "--edition", "on_premises", "--url", "http://127.0.0.1:1", "--credentials", '{"token": "x"}')  # fmt: skip
COMMANDS = {
    ("migrate",): DATABASE,
    ("status",): DATABASE,
    ("trace", "t"): DATABASE | {"jaeger_url"},
    ("reprocess", "--id", "1"): DATABASE,
    ("similar", "--tenant", "t", "VPN"): DATABASE,
    ("tenant", "language", "t"): DATABASE,
    ("tenant", "language", "t", "german"): DATABASE,
    ("roles", "make"): DATABASE,
    ("roles", "reader", "t", "r"): DATABASE,
    ("roles", "revoke", "r"): DATABASE,
    ("tenant", "list"): DATABASE,
    ("tenant", "remove", "t", "--yes"): DATABASE | {"log_format"},
    ("tenant", "enable", "t"): DATABASE,
    ("tenant", "disable", "t"): DATABASE,
    ("tenant", "sdp", "show", "t"): DATABASE,
    ("tenant", "sdp", "clear", "t"): DATABASE,
    ("tenant", "add", "t"): WITH_KEY,
    ("tenant", "rotate", "t"): WITH_KEY,
    ("tenant", "reencrypt"): WITH_KEY,
    SET: SDP,
    (*SET, "--no-check"): WITH_KEY,
    ("reconcile", "--tenant", "t"): SDP | EVENTS,
    ("import", "--tenant", "t", "--since", "1d"): SDP | EVENTS,
    IMPORT: DATABASE | EVENTS | {"max_body_bytes"},
    (*IMPORT, "--dry-run"): EVENTS | {"max_body_bytes"},
    ("doctor", "--tenant", "t"): SDP | {"host", "port", "resolved_statuses"},
    ("doctor", "--tenant", "t", "--url", "http://127.0.0.1:1"): SDP | {"resolved_statuses"},
    ("send", "--tenant", "t", "--secret", "s", "--url", "http://127.0.0.1:1"): set(),
}
ALONE = "import jobs.promote, jobs.reprocess, jobs.housekeeping, jobs.reconcile"
PROCESSES = {
    ("-m", "app", "serve"): uses.SERVE,
    ("-m", "app", "serve", "--processes", "2"): uses.SERVE,
    ("-m", "app", "worker"): uses.WORKER | {"host"},
    ("-m", "jobs"): uses.WORKER | {"host"},
    ("-c", ALONE): uses.JOBS,
    ("-c", "from app.main import create_app; create_app()"): uses.SERVER,
    ("-m", "alembic", "current"): uses.DATABASE,
}


def names(used: Collection[str]) -> dict[str, str]:
    """Return an environment with right values of the settings in `used`, and wrong ones of all others."""
    others = {name: WRONG.get(name, "wrong") for name in Settings.__struct_fields__ if name not in used}
    right = {name: value for name, value in RIGHT.items() if name in used}
    return {name.upper(): value for name, value in (others | right).items()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_reads_what_it_uses(command: tuple[str, ...]) -> None:
    """No wrong value of an unused setting stops it; one of a used setting does, in one line that names it."""
    used = COMMANDS[command]
    done = invoke(clean_environment(**names(used)), *command)
    assert "is wrong" not in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    for name in used:
        variable = name.upper()
        done = invoke(clean_environment(**names(used) | {variable: WRONG.get(name, "wrong")}), *command)
        [line] = done.output.splitlines()
        assert done.exit_code == 1
        assert line.startswith(f"ticket-inbox: {variable} is wrong: it must be ")


@pytest.mark.parametrize("arguments", PROCESSES, ids=" ".join)
def test_a_process_reads_what_it_uses(arguments: tuple[str, ...]) -> None:
    used = PROCESSES[arguments]
    done = start(arguments, names(used))
    assert "is wrong" not in done.stderr
    assert "Traceback" not in done.stderr or arguments[1] == "alembic"
    last = max(used, key=[*Settings.__struct_fields__].index)
    done = start(arguments, names(used) | {last.upper(): "wrong"})
    assert done.returncode == 1
    assert done.stderr.startswith(f"ticket-inbox: {last.upper()} is wrong: it must be ")


def start(arguments: tuple[str, ...], given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env, command = clean_environment(**given), [sys.executable, *arguments]
    if arguments[0] == "-m":
        return preloaded.run(arguments[1:], env)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_each_setting_is_used() -> None:
    assert frozenset(Settings.__struct_fields__) - {"jaeger_url"} == uses.DEV


def test_a_setting_that_was_not_read_cannot_be_used() -> None:
    from app import settings  # noqa: PLC0415

    found = settings.load({"PORT": "wrong"}, uses.DATABASE)
    with pytest.raises(AttributeError, match="port"):
        _ = found.port
    assert found.database_url == Settings().database_url


@pytest.mark.parametrize("command", [("migrate",), ("tenant", "list"), ("status",), IMPORT], ids=lambda it: it[0])
def test_what_encrypts_nothing_needs_no_key(command: tuple[str, ...], environment: dict[str, str]) -> None:
    done = invoke({**environment, "SECRETS_KEY": ""}, *command)
    assert "SECRETS_KEY" not in done.output
    assert done.exit_code == (command == IMPORT)  # there is no such tenant


def test_a_worker_needs_no_key(
    environment: dict[str, str], database: Database, start_worker: Callable[..., Worker]
) -> None:
    acme = Tenant("acme", "secret")
    worker = start_worker(SECRETS_KEY="")
    worker.wait_for_line("worker_started", within=30)
    database.deliver(acme.payload(ticket_id="1"))
    assert environment["SECRETS_KEY"]
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=30)


def test_a_wrong_host_stops_no_worker_without_metrics(environment: dict[str, str]) -> None:
    """Its /metrics are the only thing for which a worker uses HOST; here another wrong setting ends it first."""
    code = (
        "import jobs; from app import settings; print(settings.load(names=['worker_metrics_port']).worker_metrics_port)"
    )
    done = start(("-c", code), {**environment, "HOST": "http://0.0.0.0"})
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert run(["worker"], {**environment, "HOST": "http://x", "WORKER_METRICS_PORT": "1"}).returncode == 1
