"""Passwords from a file: both drivers read it as libpq does, and anew for each session, because passwords rotate."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from app.dev.embedded_postgres import EmbeddedPostgres
from db import failures, passfile
from tests.faults.proxy import Proxy
from tests.faults.world import socket_of
from tests.support.system import Database, Server, Worker
from tests.support.two_drivers import DRIVERS, ask, ask_both

pytestmark = pytest.mark.one_postgres


@pytest.fixture
def asked(own_postgres: EmbeddedPostgres) -> Iterator[tuple[EmbeddedPostgres, int]]:
    """A Postgres that asks the role `rotating` for its password, and its port."""
    database = Database(own_postgres.url())
    database.query("CREATE ROLE rotating SUPERUSER LOGIN PASSWORD 'first'")
    rules = Path(database.value("SHOW hba_file"))
    rules.write_text("local all rotating scram-sha-256\n" + rules.read_text())
    database.query("SELECT pg_reload_conf()")
    with Proxy(socket_of(own_postgres)).running() as port:
        yield own_postgres, port


def write(path: Path, line: str) -> None:
    path.touch(mode=0o600)
    path.write_text(line)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("h:5432:d:u:secret", "secret"),
        ("*:*:*:*:secret", "secret"),
        (r"h:5432:d:u:a\:b\\c", r"a:b\c"),
        ("h:5432:d:u:a:b", "a:b"),
        ("# h:5432:d:u:x\nh:5432:d:u:second\nh:5432:d:u:third", "second"),
        (r"h:5432:d\:e:u:x", ""),
        ("h:5433:d:u:x", ""),
        ("nonsense", ""),
    ],
)
def test_lines_are_read_as_libpq_reads_them(tmp_path: Path, line: str, found: str) -> None:
    write(tmp_path / "pass", line)
    assert passfile.password(str(tmp_path / "pass"), "h", "5432", "d", "u") == found


def test_a_password_with_signs_of_the_files_own_logs_in(
    asked: tuple[EmbeddedPostgres, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver asyncpg keeps the backslashes."""
    postgres, port = asked
    Database(postgres.url()).query(r"ALTER ROLE rotating PASSWORD 'a:b\c'")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".pgpass", rf"127.0.0.1:{port}:*:rotating:a\:b\\c")
    assert ask_both(f"postgresql://rotating@127.0.0.1:{port}/postgres") == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_wrong_password_says_where_it_came_from(
    asked: tuple[EmbeddedPostgres, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url, file = f"postgresql://rotating@127.0.0.1:{asked[1]}/postgres", tmp_path / ".pgpass"

    def said(url: str = url) -> str:
        with pytest.raises(failures.DatabaseError) as wrong:
            ask(url, driver)
        return failures.explain(wrong.value)

    assert f"no line of {file} is for this host" in said()
    write(file, "*:*:*:rotating:outdated")
    assert f"the one in {file}, which is read for each new session" in said()
    file.chmod(0o644)
    assert f"`chmod 600 {file}`" in said()
    assert "the password is the one in DATABASE_URL or PGPASSWORD" in said(
        url.replace("rotating@", "rotating:hunter2@")
    )
    assert "hunter2" not in said(url.replace("rotating@", "rotating:hunter2@"))


def test_both_processes_come_back_after_the_password_changed(
    asked: tuple[EmbeddedPostgres, int], tmp_path: Path, secrets_key: str,
    start_server: Callable[..., Server], start_worker: Callable[..., Worker],
) -> None:  # fmt: skip
    """The file and the role get a new password, and every session is ended: nothing is started again by hand."""
    postgres, port = asked
    database, file = Database(postgres.url()), tmp_path / "pass"
    tenant = database.add_tenant(secrets_key)
    write(file, "*:*:*:rotating:first\n")
    url = f"postgresql://rotating@127.0.0.1:{port}/postgres?passfile={quote(str(file), safe='')}"
    server, worker = start_server(DATABASE_URL=url), start_worker(DATABASE_URL=url)
    worker.wait_for_line("worker_started", within=20)
    server.wait_until_known(tenant)
    assert server.send(tenant).status_code == 202
    database.wait_for("SELECT count(*) FROM ticket_history", 1, within=20)
    new = uuid.uuid4().hex
    database.query(f"ALTER ROLE rotating PASSWORD '{new}'")
    write(file, f"*:*:*:rotating:{new}\n")
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'")
    deadline = time.monotonic() + 30
    while server.send(tenant).status_code != 202:
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.2)
    database.wait_for("SELECT count(*) > 1 FROM ticket_history", wanted=True, within=30)
