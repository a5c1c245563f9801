"""Commands that an operator types often import only what they use: importing is nearly all of their time."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

RUN = """
import json, sys
from app.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
HEAVY = {
    "alembic", "cryptography", "email", "grpc", "httpx", "litestar", "opentelemetry", "procrastinate", "prometheus_client",
    "psycopg", "requests", "sqlalchemy", "uvicorn",
}  # fmt: skip


def imported(env: dict[str, str], arguments: Sequence[str], code: int) -> set[str]:
    """Run a command, and return the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "code"), [(("status",), 0), (("trace", "4711"), 0), (("tenant", "list"), 0), (("status", "away"), 1)]
)
def test_a_command_that_reads_imports_one_driver_and_no_framework(
    database: Database, environment: dict[str, str], secrets_key: str, arguments: tuple[str, ...], code: int
) -> None:
    """Also where Postgres is away: the error is worded without them too."""
    tenant = database.add_tenant(secrets_key)
    database.deliver(tenant.payload(ticket_id="4711"))
    env = {**environment, "DATABASE_URL": "postgresql://127.0.0.1:9/none"} if "away" in arguments else environment
    found = imported(env, [one for one in arguments if one != "away"], code)
    assert not found & HEAVY
    assert "asyncpg" in found
