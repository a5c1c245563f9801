"""Every parameter of libpq's: both drivers open the session alike, or both refuse it by the parameter's name."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from app import settings
from app.dev.embedded_postgres import EmbeddedPostgres
from app.settings import WrongSettingError
from db import libpq, sessions
from db.parameters import complete, of_url
from tests import ROOT
from tests.conftest import clean_environment
from tests.faults.proxy import Proxy
from tests.faults.world import socket_of
from tests.support.system import run
from tests.support.two_drivers import ask_both

pytestmark = pytest.mark.one_postgres


@pytest.fixture
def port(own_postgres: EmbeddedPostgres) -> Iterator[int]:
    with Proxy(socket_of(own_postgres)).running() as found:
        yield found


def test_the_table_has_every_parameter_of_the_installed_libpq() -> None:
    installed = {
        str(one.keyword, "ascii"): str(one.envvar or b"", "ascii") for one in psycopg.pq.Conninfo.get_defaults()
    }
    assert installed.items() <= {one.name: one.variable for one in libpq.PARAMETERS}.items()


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs/managed-postgres.md").read_text()
    rows = {cells[1].strip("` "): cells[2:4] for line in page.splitlines() if len(cells := line.split("|")) == 5}
    for one in libpq.PARAMETERS:
        becomes = f"{one.becomes}: {one.rule}" if one.is_refused else one.becomes
        assert [cell.strip() for cell in rows[one.name]] == [f"`{one.variable}`" if one.variable else "", becomes]
    ignored = {
        cells[1].strip("` "): cells[2].strip() for line in page.splitlines() if len(cells := line.split("|")) == 4
    }
    assert {name: why for name, why in ignored.items() if name.startswith("PG")} == libpq.IGNORED


def test_every_parameter_works_in_both_drivers_or_is_refused_by_name(port: int, tmp_path: Path) -> None:
    """Of each an example; those for TLS that need certificates are in test_tls.py."""
    (tmp_path / "pass").touch(mode=0o600)
    examples = {"host": "127.0.0.1", "hostaddr": "127.0.0.1", "port": str(port), "dbname": "postgres",
                "user": "postgres", "password": "x", "passfile": str(tmp_path / "pass")}  # fmt: skip
    needs_certificates = {"sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"}
    for one in libpq.PARAMETERS:
        value = quote(examples.get(one.name) or one.example, safe="")
        host = "" if one.name in ("host", "port") else f"postgres@127.0.0.1:{port}"
        url = f"postgresql://{host}/postgres?user=postgres&host=127.0.0.1&port={port}&{one.name}={value}"
        if one.is_refused:
            with pytest.raises(
                WrongSettingError, match=rf"^DATABASE_URL sets {one.name}, .*: it must be a URL without it"
            ):
                settings.load({"DATABASE_URL": url})
        elif one.name not in needs_certificates:
            assert ask_both(settings.load({"DATABASE_URL": url}).database_url) == 1, one.name


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("schema=public", "DATABASE_URL has the parameter schema, which libpq does not know: it must be a URL without it"),
        ("pgbouncer=true", "DATABASE_URL has the parameter pgbouncer, which libpq does not know: it must be"),
        ("connection_limit=1", "DATABASE_URL has the parameter connection_limit, which libpq does not know: it must be"),
        ("ssl=false", "DATABASE_URL has the parameter ssl, which libpq does not know: it must be"),
        ("sslmode=no-verify", "DATABASE_URL has a wrong sslmode: it must be one of disable, allow, prefer, require, "),
        ("channel_binding=require", "DATABASE_URL has a wrong channel_binding: it must be disable or prefer: asyncpg"),
        ("sslcertmode=require", "DATABASE_URL has a wrong sslcertmode: it must be disable or allow"),
        ("min_protocol_version=3.2", "DATABASE_URL has a wrong min_protocol_version: it must be 3.0"),
        ("gssencmode=require", "DATABASE_URL has a wrong gssencmode: it must be disable or prefer"),
        ("target_session_attrs=standby", "DATABASE_URL has a wrong target_session_attrs: it must be any, read-write or"),
        ("client_encoding=latin1", "DATABASE_URL has a wrong client_encoding: it must be UTF8"),
        ("keepalives_idle=soon", "DATABASE_URL has a wrong keepalives_idle: it must be a whole number"),
        ("sslrootcert=system&sslmode=require", "DATABASE_URL has sslrootcert=system with another sslmode: it must be"),
        ("sslrootcert=%2Fno%2Fca.pem", "DATABASE_URL names sslrootcert=/no/ca.pem, which cannot be read (No such file"),
        ("sslcert=%2Fno%2Fus.pem", "DATABASE_URL names sslcert=/no/us.pem, which cannot be read (No such file or"),
        ("sslcrldir=%2Fno", "DATABASE_URL names sslcrldir=/no, which cannot be read (No such file or directory): it must"),
        ("sslnegotiation=direct", "DATABASE_URL has sslnegotiation=direct without TLS for sure: it must be a URL with"),
        ("host=a,b&hostaddr=127.0.0.1", "DATABASE_URL has another number of hosts than hostaddrs: it must be a URL"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line(query: str, line: str) -> None:
    with pytest.raises(WrongSettingError) as wrong:
        settings.load({"DATABASE_URL": f"postgresql://u:hunter2@h/d?{query}"})
    assert str(wrong.value).startswith(line)
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    "command", [["serve"], ["worker"], ["migrate"], ["status"], ["tenant", "list"], ["roles", "make"]]
)
def test_every_command_refuses_it_before_it_begins(command: list[str], secrets_key: str) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d?require_auth=scram-sha-256"
    done = run(command, clean_environment(DATABASE_URL=url, SECRETS_KEY=secrets_key))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"ticket-inbox: DATABASE_URL sets require_auth, .*\n", done.stderr)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss@one:1,two/d%2Fb?host=%2Ftmp%2Fx&connect_timeout=3",
        "postgres://u@[::1]:99/x?user=v&user=w",
        "postgresql://%2Fvar%2Flib/db?password=a+b",
        "postgresql:///d?ssl=true",
        "postgresql://h",
        "postgresql://?options=-c%20x%3Dy%3Dz",
    ],
)
def test_a_url_is_read_as_libpq_reads_it(url: str) -> None:
    """The server's driver reads `+` as a blank, `ssl` as a setting of the server's, and the first of two values."""
    assert of_url(url) == {
        name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(url).items() if str(value).strip(",")
    }


def test_a_silent_host_is_noticed_alike_in_both_drivers(port: int) -> None:
    """By default after 15 s, or by what the URL says: the kernel's own two hours would hold a dead session."""
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    for query, wanted in {
        "": (1, 5, 2, 5, 15000),
        "?keepalives_idle=7&tcp_user_timeout=9000": (1, 7, 2, 5, 9000),
    }.items():
        assert asyncio.run(_asyncpg_options(url + query)) == wanted
        with sessions.open_sync(url + query, "test") as connection, socket.socket(fileno=connection.fileno()) as one:
            assert _options(one) == wanted
            one.detach()


async def _asyncpg_options(url: str) -> tuple[int, ...]:
    session = await sessions.Connector(url, "test", 5.0).connect()
    try:
        return _options(session._transport.get_extra_info("socket"))  # noqa: SLF001
    finally:
        await session.close()


def _options(one: Any) -> tuple[int, ...]:  # noqa: ANN401
    tcp = [getattr(socket, name) for name in sessions.KEEPALIVES.values()]
    return (
        one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(one.getsockopt(socket.IPPROTO_TCP, each) for each in tcp),
    )


def test_options_work_in_both_and_our_name_and_rules_win(port: int) -> None:
    given = quote("-c search_path=pg_catalog,public -c statement_timeout=7 -c DateStyle=SQL", safe="")
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres?options={given}&application_name=mine"
    shown = "SELECT concat_ws('|', current_setting('DateStyle'), current_setting('application_name'))"
    assert ask_both(url.replace("pg_catalog%2C", ""), shown) == "ISO, MDY|test"
    assert ask_both(url.replace("pg_catalog%2C", ""), "SHOW search_path") == "public"


def test_hosts_are_balanced_where_the_url_asks(port: int) -> None:
    """Of two names for one Postgres each driver takes both in the long run."""
    url = f"postgresql://postgres@127.0.0.1:{port},localhost:{port}/postgres?load_balance_hosts=random"
    connector = sessions.Connector(url, "test", 5.0)

    async def first() -> str:
        await (await connector.connect()).close()
        return connector._hosts[0][0]  # noqa: SLF001

    async def many() -> set[str]:
        return {await first() for _ in range(30)}

    assert asyncio.run(many()) == {"127.0.0.1", "localhost"}
    assert complete(url)["load_balance_hosts"] == "random"
