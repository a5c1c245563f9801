"""Signatures that fail are counted by known tenant, in bounded memory, and `doctor` and a metric show them."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from app.webhook import PATH, signature
from app.webhook.keyring import Keyring
from app.webhook.signature_counts import SignatureCounts
from db import engine as engines
from db import failures, signature_counts
from db.tenants import Secrets
from otel import metrics
from tests.support.commands_in_process import run_here
from tests.support.scraped_metrics import values
from tests.support.system import JSON, Database, Server, Tenant

pytestmark = pytest.mark.one_postgres

COUNTS = (
    "SELECT tenant_id, sum(absent + malformed + untimely + wrong) AS failed FROM signature_counts GROUP BY 1 ORDER BY 1"
)
Environment = dict[str, str]


class Process:
    """What a server process has to count with."""

    def __init__(self, database: Database, secrets_key: str) -> None:
        self.engine = engines.create_engine(database.url, "test", 1, 5.0)
        self.nowhere = engines.create_engine("postgresql://127.0.0.1:9/none", "test", 1, 5.0)
        self.keyring = Keyring(self.engine, Secrets(secrets_key))
        self.counts = SignatureCounts(self.keyring)


@contextlib.asynccontextmanager
async def process(database: Database, secrets_key: str) -> AsyncIterator[Process]:
    made = Process(database, secrets_key)
    await made.keyring.refresh()
    yield made
    await made.engine.dispose()
    await made.nowhere.dispose()


def counted(database: Database) -> dict[str | None, int]:
    return {row["tenant_id"]: int(row["failed"]) for row in database.query(COUNTS)}


def failures_in_metric() -> dict[str, float]:
    found = values(metrics.exposition("")[0].decode())
    return {
        dict(labels)["tenant_id"]: value
        for (name, labels), value in found.items()
        if name == "ticket_inbox_signature_failures_total"
    }


def test_processes_add_to_one_row_a_tenant_and_unknown_names_are_one_whatever_is_sent(
    database: Database, secrets_key: str
) -> None:
    """Ten thousand unknown names are one row and one label; the name of no tenant is nobody's."""
    acme, globex = (database.add_tenant(secrets_key) for _ in range(2))
    before = failures_in_metric().get("", 0)

    async def act() -> None:
        for _ in range(2):
            async with process(database, secrets_key) as one:
                for name in (acme.id, acme.id, *(f"unknown-{number}" for number in range(10_000)), ""):
                    one.counts.failed(name, "wrong")
                one.counts.verified(globex.id, by_previous=True)
                await one.counts.write(one.engine)
                await one.counts.write(one.engine)

    asyncio.run(act())
    assert counted(database) == {acme.id: 4, globex.id: 0, None: 20_000}
    seen = "SELECT last_failed_at IS NULL AS never_failed, last_verified_at = last_previous_at AS by_previous FROM signature_counts"
    assert database.query(f"{seen} WHERE tenant_id = %s", globex.id) == [{"never_failed": True, "by_previous": True}]
    shown = failures_in_metric()
    assert (shown[acme.id], shown[globex.id], shown[""] - before) == (4, 0, 20_000)
    assert not any(name.startswith("unknown") for name in shown)


def test_a_database_that_is_away_loses_no_count_and_a_tenant_that_left_takes_its_own_along(
    database: Database, secrets_key: str
) -> None:
    acme, globex, initech = (database.add_tenant(secrets_key) for _ in range(3))

    async def act() -> None:
        async with process(database, secrets_key) as one:
            for _ in range(2):
                for tenant in (acme, globex, initech):
                    one.counts.failed(tenant.id, "absent")
                with pytest.raises(failures.DatabaseError):
                    await one.counts.write(one.nowhere)
            database.query("DELETE FROM tenant_configs WHERE tenant_id = %s", globex.id)  # the keyring knows it still
            await one.counts.write(one.engine)
            one.counts.failed(initech.id, "absent")
            database.query("DELETE FROM tenant_configs WHERE tenant_id = %s", initech.id)
            await one.keyring.refresh()
            await one.counts.write(one.engine)

    asyncio.run(act())
    assert counted(database) == {acme.id: 2}


def test_a_locked_row_delays_the_next_try_and_nothing_else(database: Database, secrets_key: str) -> None:
    """As while a tenant is being removed: the connection is given back within the limit, and the counts are kept."""
    acme = database.add_tenant(secrets_key)

    async def act() -> None:
        async with process(database, secrets_key) as one:
            one.counts.failed(acme.id, "wrong")
            with database.on_one_connection() as connection:
                with connection.transaction():
                    connection.execute("LOCK TABLE signature_counts")
                    with pytest.raises(failures.DatabaseError, match="lock timeout"):
                        await one.counts.write(one.engine)
                await one.counts.write(one.engine)

    asyncio.run(act())
    assert counted(database) == {acme.id: 1}


def test_old_counts_are_pruned_and_when_one_last_verified_stays(database: Database, secrets_key: str) -> None:
    acme, globex = (database.add_tenant(secrets_key) for _ in range(2))
    for tenant_id, days, verified in (
        (acme.id, 9, True), (acme.id, 8, True), (acme.id, 8.5, False), (globex.id, 8, False), (globex.id, 6, False), (None, 8, False),
    ):  # fmt: skip
        database.query(
            "INSERT INTO signature_counts (tenant_id, hour, last_verified_at) "
            "SELECT %s, hour, CASE WHEN %s THEN hour END "
            "FROM date_trunc('hour', now() - %s * interval '1 day', 'UTC') AS hour",
            tenant_id, verified, days,
        )  # fmt: skip

    async def act() -> None:
        engine = engines.create_engine(database.url, "test", 1, 5.0)
        async with engines.connection(engine) as connection:
            await signature_counts.prune(connection)
        await engine.dispose()

    asyncio.run(act())
    left = database.query(
        "SELECT tenant_id, round(extract(epoch FROM now() - hour) / 86400) AS days FROM signature_counts ORDER BY 2"
    )
    assert [(row["tenant_id"], int(row["days"])) for row in left] == [(globex.id, 6), (acme.id, 8)]


IMPOSSIBLE = {
    "wrong": ["9223372036854775807", "1000000000000001", "-1"],
    "hour": ["'infinity'", "'-infinity'", "date_trunc('hour', now(), 'UTC') + interval '1 s'"],
    "last_failed_at": ["'infinity'", "'-infinity'", "now() + interval '1 h'"],
    "last_previous_at": ["'294276-01-01'"],
}


def test_the_table_takes_no_count_and_no_time_that_no_server_writes(database: Database) -> None:
    """The server's role may write to it, and one row would end `doctor` and every server's next write, by an overflow."""
    for column, impossible in IMPOSSIBLE.items():
        for value in impossible:
            row = {"hour": "date_trunc('hour', now(), 'UTC')", column: value}
            with pytest.raises(psycopg.errors.CheckViolation):
                database.query(f"INSERT INTO signature_counts ({', '.join(row)}) VALUES ({', '.join(row.values())})")


def test_whatever_the_table_takes_doctor_reads_it_and_processes_add_to_it(
    database: Database, secrets_key: str, environment: dict[str, str]
) -> None:
    """Of a role that may add counts, and writes others than it counted, also for hours to come."""
    acme, globex = (database.add_tenant(secrets_key) for _ in range(2))
    most = signature_counts.MOST
    for hours in (0, -1, -2, 1, 100, 10**6):
        database.query(
            "INSERT INTO signature_counts (tenant_id, hour, wrong, last_failed_at, last_verified_at, last_previous_at) "
            "SELECT %s, hour, %s, latest, latest, '4000-01-01 BC' "
            "FROM date_trunc('hour', now() + %s * interval '1 h', 'UTC') AS hour, "
            "     CAST(hour + interval '59 min 59.999 s' AS timestamptz) AS latest",
            globex.id, most, hours,
        )  # fmt: skip

    async def act() -> None:
        async with process(database, secrets_key) as one:
            for tenant in (acme, globex):
                one.counts.failed(tenant.id, "wrong")
            await one.counts.write(one.engine)
            async with engines.connection(one.engine) as connection:
                await signature_counts.prune(connection)

    asyncio.run(act())
    assert counted(database)[acme.id] == 1
    assert database.value("SELECT count(*) FROM signature_counts WHERE hour > now() + interval '1 day'") == 0
    done = run_here(["doctor", "--tenant", acme.id], environment)
    assert "wrong 1 signature failed within a day" in done.stdout
    assert re.search(rf"note  tenant {globex.id!r}: [34]0{{15}}1? signatures failed within a day", done.stdout)


def test_a_server_counts_every_kind_answers_them_alike_and_doctor_says_what_to_do(
    database: Database, environment: Environment, secrets_key: str, start_server: Callable[..., Server]
) -> None:
    """The last counts are written when the server ends."""
    acme, globex = (database.add_tenant(secrets_key, name) for name in ("acme", "globex"))
    server = start_server()
    assert "signature of it has been counted yet" in doctor(environment, server)
    body = acme.body()
    wrong = Tenant("acme", "another secret")
    headers = [{}, {signature.HEADER: "x"}, wrong.headers(body), wrong.headers(body)]
    answers = [server.client.post(PATH, content=body, headers=JSON | one) for one in headers]
    answers += [server.send(Tenant(name, "another secret")) for name in ("globex", "nobody")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text.replace(answer.headers["X-Correlation-ID"], "") for answer in answers}) == 1
    assert server.send(globex).status_code == 202
    assert server.stop() == 0
    assert counted(database) == {"acme": 4, "globex": 1, None: 1}
    printed = doctor(environment, server)
    assert (
        "wrong 4 signatures failed within a day (1 without the header X-ServiceDesk-Signature, "
        "1 with one that is neither hexadecimal nor base64 of a digest, 2 made with another secret, or over other bytes, the last"
    ) in printed
    assert "none ever verified. The tenant was added or changed" in printed
    assert "note  tenant 'globex': 1 signature failed within a day" in printed
    assert "note  1 signature failed within a day" in printed
    assert "named a tenant that is unknown or disabled" in printed
    assert "note  1 signature failed within a day (1 made with another secret, or over other bytes, the last" in doctor(
        environment, server, "globex"
    )


def doctor(environment: Environment, server: Server, tenant_id: str = "acme") -> str:
    done = run_here(["doctor", "--tenant", tenant_id, "--url", server.url], environment)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_counts_that_cannot_be_written_are_reported_once_and_so_is_that_they_can(
    database: Database, secrets_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As between `migrate` and `roles make`, or before `migrate`."""
    acme = database.add_tenant(secrets_key)
    caplog.set_level("INFO")
    database.query("ALTER TABLE signature_counts RENAME TO elsewhere")

    async def act() -> None:
        async with process(database, secrets_key) as one:
            for is_there in (False, False, True, True):
                if is_there:
                    database.query("ALTER TABLE IF EXISTS elsewhere RENAME TO signature_counts")
                one.counts.failed(acme.id, "wrong")
                async with one.counts.kept_written(one.engine):
                    await asyncio.sleep(0.2)

    asyncio.run(act())
    records = [one for one in caplog.records if one.getMessage().startswith("signatures_")]
    assert [one.getMessage() for one in records] == ["signatures_not_written", "signatures_written"]
    assert "migrate" in vars(records[0])["fields"]["error"]
