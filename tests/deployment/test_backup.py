"""A backup by the commands of docs/backup.md has every ticket; what came after it, reconciliation brings back."""

import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
import pytest

from db import roles
from tests import ROOT
from tests.conftest import clean_environment
from tests.support.fake_sdp import FakeSdp, running_sdp
from tests.support.system import Database, Tenant, run

PAGE = (ROOT / "docs/backup.md").read_text()
BLOCKS = re.findall(r"^ *```(sh|pgsql)\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
STORED = "SELECT ticket_id, resolution, resolved_date FROM ticket_history ORDER BY ticket_id"
HOUR = 3_600_000  # milliseconds
DAY = 24 * HOUR


class Place(msgspec.Struct, frozen=True):
    """A migrated database with our roles, whose names begin with `name`, and the binaries of its Postgres."""

    name: str
    server_url: str
    database: Database
    binaries: Path
    directory: Path

    @property
    def restored(self) -> Database:
        return Database(self.of_role("", f"{self.name}_restored"))

    def of_role(self, role: str, database: str | None = None) -> str:
        """Return the URL for a role, or for the administrator where it is ''."""
        parts = urlsplit(self.database.url)
        netloc = f"{role}@{parts.netloc.rpartition('@')[2]}" if role else parts.netloc
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}" if database else parts.path))

    def line(self, program: str) -> str:
        """Return the line of the page that begins with `program`."""
        [found] = [line.strip() for _, block in BLOCKS for line in block.splitlines() if line.strip().startswith(program)]  # fmt: skip
        return str(found)

    def follow(self, line: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a line of the page, with this place's names and addresses."""
        for name, url in {
            "$BACKUP_URL": self.of_role(f"{self.name}_backup"),
            "$ADMIN_URL": self.server_url,
            "$RESTORED_URL": self.restored.url,
        }.items():
            line = line.replace(name, url)
        words = shlex.split(re.sub(r"\bticket_inbox_(owner|restored)", rf"{self.name}_\1", line))
        if words[0] == "ticket-inbox":
            words = [*words, *(["--prefix", self.name] if words[1] == "roles" else [])]
            return run(words[1:], {**env, "DATABASE_URL": self.restored.url})
        program = [str(self.binaries / words[0]), *words[1:]]
        return subprocess.run(program, cwd=self.directory, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def names(postgres_url: str) -> Iterator[str]:
    """How the names of a test's roles begin; they are dropped after its databases."""
    name = f"backup_{uuid.uuid4().hex[:8]}"
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}_restored" WITH (FORCE)')
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"{name}%"]).fetchall()
        for (role,) in found:
            admin.execute(f'DROP ROLE "{role}"')


@pytest.fixture
def place(names: str, postgres_url: str, database: Database, binaries: Path, tmp_path: Path) -> Place:
    made = Place(names, postgres_url, database, binaries, tmp_path)
    roles.make(database.url, names)
    database.query(f"CREATE ROLE {names}_owner LOGIN SUPERUSER")
    for role in ("backup", "blind"):
        database.query(f"CREATE ROLE {names}_{role} LOGIN IN ROLE pg_read_all_data")
    database.query(f"DROP ROLE {names}_backup")
    [line] = [block.strip() for language, block in BLOCKS if language == "pgsql" and "CREATE ROLE" in block]
    database.query(line.replace("ticket_inbox", names))
    return made


@pytest.fixture
def sdp() -> Iterator[FakeSdp]:
    with running_sdp("on_premises") as one:
        yield one


@pytest.fixture
def acme(place: Place, sdp: FakeSdp, secrets_key: str, environment: dict[str, str]) -> Tenant:
    """A tenant whose ServiceDesk Plus may be asked."""
    tenant = place.database.add_tenant(secrets_key, "acme")
    credentials = place.directory / "credentials"
    credentials.write_text(json.dumps(sdp.given))
    given = ["--edition", "on_premises", "--url", sdp.url, "--credentials-file", str(credentials)]
    assert run(["tenant", "sdp", "set", tenant.id, *given], environment).returncode == 0
    return tenant


def work_once(database: Database, secrets_key: str) -> None:
    """Run the jobs that wait, with Procrastinate's own worker, to the end."""
    subprocess.run(
        [Path(sys.executable).parent / "procrastinate", "--app=jobs.app", "worker", "--one-shot", "--queues=promote"],
        cwd=ROOT, env=clean_environment(DATABASE_URL=database.url, SECRETS_KEY=secrets_key),
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip


def webhook(database: Database, sdp: FakeSdp, acme: Tenant, ticket_id: str) -> None:
    """Append a ticket of ServiceDesk Plus as its webhook does."""
    ticket = sdp.ticket(ticket_id)
    moment = datetime.fromtimestamp(int(ticket["resolved_time"]["value"]) / 1000, UTC)
    text = ticket["resolution"]["content"].removeprefix("<div>").removesuffix("</div>")
    database.deliver(acme.payload(ticket_id=ticket_id, resolution=text, resolved_date=moment.isoformat()))


def test_a_restore_of_yesterdays_dump_and_what_came_since(
    place: Place, sdp: FakeSdp, acme: Tenant, secrets_key: str, environment: dict[str, str]
) -> None:
    """Every ticket is back with its newest resolution: those of the dump, those pending in it, and those after it."""
    database, restored = place.database, place.restored
    environment = {**environment, "SDP_REQUESTS_PER_MINUTE": "6000"}
    before = [*sdp.add_resolved(6, at=sdp.now() - DAY), *sdp.add_resolved(3, at=sdp.now() - 12 * HOUR)]
    webhook(database, sdp, acme, before[0])
    work_once(database, secrets_key)
    reconciled = run(["reconcile", "--tenant", acme.id], environment)
    assert "8  appended" in reconciled.stdout, reconciled
    work_once(database, secrets_key)
    [pending] = sdp.add_resolved(1, at=sdp.now() - 11 * HOUR)
    webhook(database, sdp, acme, pending)  # no worker promotes it before the dump
    reader = f"{place.name}_reader_1"
    database.query(f"CREATE ROLE {reader} LOGIN IN ROLE {place.name}_reader")
    roles.let_read(database.url, place.name, acme.id, reader)
    dumped = place.follow(place.line("pg_dump"), environment)
    assert dumped.returncode == 0, dumped

    since = [*sdp.add_resolved(4, at=sdp.now() - 10 * HOUR), *sdp.add_resolved(4)]
    sdp.resolve(before[2], resolution="Mended once more.")
    for ticket_id in (since[0], since[5], before[2]):
        webhook(database, sdp, acme, ticket_id)
    assert run(["reconcile", "--tenant", acme.id], environment).returncode == 0
    work_once(database, secrets_key)
    wanted = database.query(STORED)
    assert len(wanted) == 18

    for program in ("createdb", "pg_restore", "ticket-inbox migrate", "ticket-inbox roles make"):
        done = place.follow(place.line(program), environment)
        assert done.returncode == 0, done
    assert len(restored.query(STORED)) == 9
    assert Database(place.of_role(reader, f"{place.name}_restored")).query(STORED) == restored.query(STORED)
    restored.query("ANALYZE")
    assert restored.value("SELECT count(*) FROM pg_stats WHERE tablename LIKE 'ticket\\_history%%'") == 0
    work_once(restored, secrets_key)
    assert len(restored.query(STORED)) == 10
    done = place.follow(place.line("ticket-inbox reconcile"), environment)
    assert done.returncode == 0, done
    assert re.search(r"^ +9  appended", done.stdout, re.MULTILINE), done.stdout
    work_once(restored, secrets_key)
    assert restored.query(STORED) == wanted
    again = place.follow(place.line("ticket-inbox reconcile"), environment)
    assert re.search(r"^ +0  appended", again.stdout, re.MULTILINE), again.stdout


def test_a_role_that_reads_all_data_dumps_no_ticket_and_doctor_notes_it(
    place: Place, acme: Tenant, environment: dict[str, str]
) -> None:
    place.database.query(
        "INSERT INTO ticket_history (tenant_id, ticket_id, description, resolution, resolved_date, priority) "
        "VALUES ('acme', '1', 'd', 'r', now(), 'p')"
    )
    place.database.query(f"CREATE ROLE {place.name}_member LOGIN IN ROLE {place.name}_reader")
    roles.let_read(place.database.url, place.name, acme.id, f"{place.name}_member")
    place.database.query(f"CREATE ROLE {place.name}_granted LOGIN")
    place.database.query(f"GRANT SELECT (resolution) ON ticket_history TO {place.name}_granted")
    place.database.query(f"CREATE ROLE {place.name}_group IN ROLE pg_read_all_data")
    blind = place.of_role(f"{place.name}_blind")
    assert Database(blind).value("SELECT count(*) FROM ticket_history") == 0
    assert Database(place.of_role(f"{place.name}_backup")).value("SELECT count(*) FROM ticket_history") == 1
    line = place.line("pg_dump")
    failed = place.follow(line.replace("$BACKUP_URL", blind), environment)
    assert (failed.returncode, "row-level security" in failed.stderr) == (1, True), failed
    printed = run(["doctor", "--tenant", acme.id, "--url", "http://127.0.0.1:9"], environment).stdout
    noted = set(re.findall(rf"^note +role {place.name}_(\w+) .*\b0 rows", printed, re.MULTILINE))
    assert noted == {"blind", "granted"}, printed
