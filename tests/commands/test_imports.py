"""Processes import only what they use: importing is nearly all of the time that a command or a start takes."""

import json
import subprocess
import sys

import pytest

from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

COMMAND = "from app.cli import main; main(sys.argv[1:])"
SERVER = "import app.main, app.server.run, app.commands.on_database; app.main.create_app()"
WORKER = "import jobs.worker, jobs.health_port, otel.export; jobs.app.perform_import_paths()"
RUN = """
import json, sys
try:
    {}
finally:
    print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})), file=sys.stderr)
"""
HEAVY = {
    "alembic", "cryptography", "grpc", "httpx", "litestar", "opentelemetry", "procrastinate", "prometheus_client",
    "psycopg", "requests", "sqlalchemy", "uvicorn",
}  # fmt: skip


def imported(code: str, env: dict[str, str], *arguments: str, exit_code: int = 0) -> set[str]:
    """Run Python code in a process of its own, and return the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(code), *arguments],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert done.returncode == exit_code, done.stderr
    return set(json.loads(lines[-1]))


@pytest.mark.parametrize("arguments", [("status",), ("trace", "4711"), ("tenant", "list")], ids=" ".join)
def test_a_command_that_reads_imports_one_driver_and_no_framework(
    database: Database, environment: dict[str, str], secrets_key: str, arguments: tuple[str, ...]
) -> None:
    database.deliver(database.add_tenant(secrets_key).payload(ticket_id="4711"))
    found = imported(COMMAND, environment, *arguments)
    assert not found & HEAVY
    assert "asyncpg" in found


def test_a_postgres_that_is_away_is_worded_without_them_too(environment: dict[str, str]) -> None:
    env = {**environment, "DATABASE_URL": "postgresql://127.0.0.1:9/none"}
    assert not imported(COMMAND, env, "status", exit_code=1) & HEAVY


def test_a_server_imports_not_the_workers_driver_and_a_worker_no_client_before_it_asks(
    environment: dict[str, str],
) -> None:
    """Of what HTTP needs, a worker imports nothing until a tenant has a ServiceDesk Plus to be asked."""
    others = {"alembic", "grpc", "httpx", "requests", "rich", "tenacity"}
    assert not imported(SERVER, environment) & (others | {"psycopg", "procrastinate"})
    assert not imported(WORKER, environment) & (others | {"litestar", "uvicorn"})
