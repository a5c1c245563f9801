"""A rolling upgrade and the way back: this version works on a newer schema, and says what is wrong with an older one."""

import asyncio
import contextlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from db import schema
from tests import ROOT
from tests.support.next_version import REVISION, ROOMS, next_version
from tests.support.system import Database, Process, Server, Tenant, Worker, run

pytestmark = pytest.mark.one_postgres

NEWER = f"the schema is at {REVISION}, newer than this version's {schema.head()}"
ACTIONS = "SELECT count(*) FROM inbox WHERE status = 'promoted' AND action = 'inserted'"


def test_this_version_works_on_the_next_ones_schema(
    database: Database, environment: dict[str, str], secrets_key: str, tmp_path: Path,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """The next version migrates while this one's server and worker run; then others of this version start."""
    tenant = database.add_tenant(secrets_key)
    before, worker = start_server(), start_worker()
    walk(database, before, tenant, 1)
    done = run(["migrate"], environment, cwd=next_version(tmp_path))
    assert (done.stdout, done.stderr) == (f"The schema is at {REVISION}.\n", "")
    walk(database, before, tenant, 2)
    after = start_server()
    assert worker.stop() == 0
    started = start_worker()
    walk(database, after, tenant, 3)
    for server in (before, after):
        ready = server.client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "detail": f"T{NEWER[1:]}."})
    assert not [line for process in (worker, started) for line in process.lines("schema_behind")]
    done = run(["doctor", "--tenant", tenant.id, "--url", after.url], environment)
    assert f"ok    Postgres answers, and works: {NEWER}" in done.stdout
    assert run(["status"], environment).returncode == 0


def test_migrate_of_an_older_version_has_nothing_to_do(database: Database, environment: dict[str, str]) -> None:
    """It is a success: on the way back, the older version's start often begins with it."""
    database.query("UPDATE alembic_version SET version_num = %s", REVISION)
    done = run(["migrate"], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"T{NEWER[1:]}: nothing to do.\n", "")
    done = run(["roles", "make"], environment)
    assert (done.returncode, done.stderr) == (1, f"Error: {NEWER}: let the newer version do this\n")


def test_a_schema_that_is_behind_is_not_ready_and_the_worker_says_that_a_migration_is_due(
    database: Database, start_server: Callable[..., Server], start_worker: Callable[..., Worker]
) -> None:
    """The worker works nevertheless: what it needs may be there. A server gives up after START_PATIENCE_SECONDS."""
    database.query("UPDATE alembic_version SET version_num = '0005'")
    behind = f"the schema is at 0005, behind this version's {schema.head()}: run `ticket-inbox migrate`"
    server, worker = start_server(START_PATIENCE_SECONDS="5"), start_worker(START_PATIENCE_SECONDS="5")
    ready = server.client.get("/health/ready")
    assert (ready.status_code, ready.json()["detail"]) == (503, f"T{behind[1:]}.")
    worker.wait_for_line("schema_behind", error=behind)
    worker.wait_for_line("worker_started")
    assert server.process.wait(30) == 1
    lines = [(line["event"], line["error"]) for line in server.lines() if "error" in line]
    why = f"never ready in 5 s since the start (START_PATIENCE_SECONDS): {behind}"
    assert lines == [("server_waits", behind), ("start_given_up", why)]
    database.deliver({"tenant_id": "acme", "ticket_id": "1"})
    database.wait_for("SELECT status FROM inbox", "failed", within=10)
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    ("statement", "ready", "migrate"),
    [
        (
            "DELETE FROM alembic_version",
            "The schema is at nothing",
            "the tables are there, but alembic_version does not say at which revision",
        ),
        (
            "INSERT INTO alembic_version VALUES ('0005')",
            "several rows (0005, 0016)",
            "several rows (0005, 0016), and a schema is at one revision: delete the others",
        ),
        (
            "DROP TABLE inbox CASCADE; UPDATE alembic_version SET version_num = 'ae1027a6acf'",
            "The schema is at nothing",
            "alembic_version is another program's (it says ae1027a6acf): give ticket-inbox a database of its own",
        ),
    ],
    ids=["no row", "two rows", "another program's"],
)
def test_an_alembic_version_that_is_not_as_we_leave_it(
    database: Database, environment: dict[str, str], start_server: Callable[..., Server],
    statement: str, ready: str, migrate: str,
) -> None:  # fmt: skip
    for one in statement.split("; "):
        database.query(one)
    answer = start_server().client.get("/health/ready")
    assert (answer.status_code, ready in answer.json()["detail"]) == (503, True), answer.json()
    done = run(["migrate"], environment)
    assert (done.returncode, done.stderr.count("\n"), migrate in done.stderr) == (1, 1, True), done.stderr


def test_the_version_before_the_last_migration_works_on_this_schema(
    database: Database, environment: dict[str, str], secrets_key: str, tmp_path: Path
) -> None:
    """The older code is the repository's; a checkout without its history (a shallow one) has only the test above it."""
    root = checkout_before(schema.head(), tmp_path)
    tenant = database.add_tenant(secrets_key)
    with older("serve", root, environment) as served:
        served.wait_for_line("listening", within=30)  # Python has not compiled this code before
        server = Server(served.process, served.log)
        with contextlib.closing(server.client), older("worker", root, environment):
            walk(database, server, tenant, 1)


def test_a_worker_whose_role_may_not_read_the_revision_starts(database: Database) -> None:
    """`roles make` of an older version did not let it."""
    role = f"role_{database.value('SELECT current_database()')}"
    database.query(f"CREATE ROLE {role} LOGIN")
    database.query("UPDATE alembic_version SET version_num = '0005'")
    try:
        assert asyncio.run(trouble_at(psycopg.conninfo.make_conninfo(database.url, user=role))) is None
        assert "0005" in str(asyncio.run(trouble_at(database.url)))
    finally:
        database.query(f"DROP ROLE {role}")


async def trouble_at(conninfo: str) -> str | None:
    async with await psycopg.AsyncConnection.connect(conninfo) as session:
        return await schema.trouble_in(session)


def walk(database: Database, server: Server, tenant: Tenant, count: int) -> None:
    """Send a webhook, and wait until `count` are promoted."""
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    database.wait_for(ACTIONS, count, within=30)


def checkout_before(revision: str, directory: Path) -> Path:
    """Write the code as it was before the commit that added a migration, or skip the test."""
    commits = git("log", "--diff-filter=A", "--format=%H", "--", f"migrations/versions/{revision}_*.py").stdout.split()
    archive = git("archive", f"{commits[-1].decode()}^", *ROOMS) if commits else None
    if archive is None or archive.returncode:
        pytest.skip(f"no version before migration {revision}: the checkout is not a git repository with its history")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(directory / "before", filter="data")
    return directory / "before"


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


class Older(Process):
    """A process of an older version, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(process, log)
        self.log = log


@contextlib.contextmanager
def older(command: str, root: Path, environment: dict[str, str]) -> Iterator[Older]:
    """Run a command of the version at `root`; it ends with the block."""
    log = root.parent / f"{command}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "app", command], cwd=root, env=environment, stderr=stderr)
    try:
        yield Older(process, log)
    finally:
        process.kill()
        process.wait()
