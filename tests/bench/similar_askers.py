"""How is a question asked? As the server's function, as a reader through SQL, with a token over HTTP."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import psycopg

from tests.bench import similar_rig
from tests.bench.workbench import Rig
from tests.support.system import Server

Ask = Callable[[str], int]  # asks for five tickets, and returns how many were found
Way = Callable[[], contextlib.AbstractContextManager[Ask]]  # opens one connection to ask on

PATH = "/tickets/similar"
PREFIX = "bench"


def by_function(rig: Rig, tenant_id: str) -> Way:
    """Ask as the owner by the server's function, on one connection."""

    @contextlib.contextmanager
    def way() -> Iterator[Ask]:
        with psycopg.connect(rig.database.url, autocommit=True) as connection:
            yield lambda text: len(similar_rig.ask(connection, tenant_id, text, 5))

    return way


def by_reader(rig: Rig, tenant_id: str, name: str = "reading") -> Way:
    """Make a role that reads this tenant's tickets, and ask as that role."""
    role = f"{PREFIX}_{name}_{tenant_id.replace('-', '_')}"
    rig.database.query(f"CREATE ROLE {role} LOGIN IN ROLE {PREFIX}_reader")
    command(rig, "roles", "reader", tenant_id, role, "--prefix", PREFIX)
    parts = urlsplit(rig.database.url)
    url = urlunsplit(parts._replace(netloc=f"{quote(role)}@{parts.netloc.rpartition('@')[2]}"))

    @contextlib.contextmanager
    def way() -> Iterator[Ask]:
        with psycopg.connect(url, autocommit=True) as connection:
            asked = "SELECT * FROM similar_tickets(description => %s, max_results => 5)"
            yield lambda text: len(connection.execute(asked, [text]).fetchall())

    return way


def by_token(rig: Rig, server: Server, tenant_id: str) -> Way:
    """Make a token of this tenant, and ask with it over HTTP."""
    printed = command(rig, "tenant", "token", "add", tenant_id, "--name", "bench")
    [token] = re.findall(r"tibx_read_[\w-]{43}", printed)

    @contextlib.contextmanager
    def way() -> Iterator[Ask]:
        with httpx.Client(base_url=server.url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:

            def ask(text: str) -> int:
                answer = client.post(PATH, json={"description": text})
                answer.raise_for_status()
                return len(answer.json()["tickets"])

            yield ask

    return way


def command(rig: Rig, *arguments: str) -> str:
    """Run `ticket-inbox ARGUMENTS` as the owner of the database, and return what it prints."""
    environment: dict[str, Any] = rig.environment({})
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout
