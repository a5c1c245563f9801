"""Which faults may happen on a bad day? Each strikes when its block begins, and is over when the block ends."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg

from tests.faults.unnoticed import UNNOTICED
from tests.faults.world import CONNECTIONS, Part, World

Fault = Callable[[World, random.Random, float], AbstractContextManager[None]]  # the float is the duration in seconds


def ended(choose: Callable[[World, random.Random], list[Part]], number: signal.Signals) -> Fault:
    """End processes by a signal, and start them again. The fault is over when they have started."""

    @contextlib.contextmanager
    def fault(world: World, rng: random.Random, _seconds: float) -> Iterator[None]:
        victims = choose(world, rng)
        _end(victims, number)
        yield
        for part in victims:
            part.start()
        for part in victims:
            part.wait_until_live()

    return fault


def killed_again_and_again(world: World, rng: random.Random, seconds: float) -> AbstractContextManager[None]:
    """Kill a worker five times, each time as soon as it works again."""
    part = rng.choice(world.workers)

    @contextlib.contextmanager
    def fault() -> Iterator[None]:
        for _ in range(5):
            part.signal(signal.SIGKILL)
            part.wait()
            part.start()
            time.sleep(max(1.0, seconds / 5))
        yield

    return fault()


def frozen(choose: Callable[[World, random.Random], list[Part]]) -> Fault:
    """Freeze processes; when they go on, others may have taken them for dead."""

    @contextlib.contextmanager
    def fault(world: World, rng: random.Random, _seconds: float) -> Iterator[None]:
        victims = choose(world, rng)
        for part in victims:
            part.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for part in victims:
                part.signal(signal.SIGCONT)

    return fault


def postgres_restarted(how: signal.Signals) -> Fault:
    @contextlib.contextmanager
    def fault(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
        world.postgres.stop(how)
        yield
        if not world.postgres.runs:  # another fault may have started Postgres
            world.postgres.start()

    return fault


@contextlib.contextmanager
def postgres_frozen(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Freeze Postgres and all its processes: the kernel still accepts connections, and no process answers."""
    first = world.postgres.process_id
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    process_ids = [first, *map(int, children)]
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        for process_id in process_ids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGCONT)


@contextlib.contextmanager
def sessions_killed(world: World, rng: random.Random, seconds: float) -> Iterator[None]:
    """Kill our sessions at random, several times."""
    for _ in range(max(3, int(seconds))):
        with contextlib.suppress(psycopg.Error):
            world.database.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'ticket-inbox%%' AND random() < %s", rng.uniform(0.2, 0.9),
            )  # fmt: skip
        time.sleep(0.5)
    yield


@contextlib.contextmanager
def connections_taken(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Take every connection that Postgres has."""
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            with contextlib.suppress(psycopg.OperationalError):
                stack.enter_context(psycopg.connect(world.postgres.url()))
        with contextlib.suppress(psycopg.Error):
            world.database.query("SELECT 1")
        yield


def setting(name: str, value: str) -> Fault:
    """Run Postgres with another setting."""

    @contextlib.contextmanager
    def fault(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
        _alter_system(world, f"SET {name} = {value}")
        yield
        _alter_system(world, f"RESET {name}")

    return fault


def _alter_system(world: World, change: str) -> None:
    with psycopg.connect(
        world.postgres.url(), autocommit=True, options="-c default_transaction_read_only=off"
    ) as session:
        session.execute(f"ALTER SYSTEM {change}")
        session.execute("SELECT pg_reload_conf()")


def locked(table: str) -> Fault:
    """Lock a table in another session."""

    @contextlib.contextmanager
    def fault(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
        with psycopg.connect(world.postgres.url()) as connection:
            connection.execute("SET lock_timeout = '10s'")
            with contextlib.suppress(psycopg.errors.LockNotAvailable):
                connection.execute(f"LOCK {table} IN ACCESS EXCLUSIVE MODE")
            yield
            with contextlib.suppress(psycopg.OperationalError):  # Postgres was killed meanwhile
                connection.rollback()

    return fault


@contextlib.contextmanager
def disk_full(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Fill the disk that holds only the inbox (see `small_disk`)."""
    filler = world.directory / "disk" / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    yield
    filler.unlink()


@contextlib.contextmanager
def small_disk(world: World, megabytes: int = 256) -> Iterator[bool]:
    """Put the inbox on a disk of its own, if this process may mount one; yield whether it may."""
    disk = world.directory / "disk"
    disk.mkdir(exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], capture_output=True, check=False).returncode:  # fmt: skip
        yield False
        return
    try:
        space = disk / "space"
        space.mkdir()
        shutil.chown(space, "nobody")
        disk.chmod(0o755)
        world.database.query(f"CREATE TABLESPACE small LOCATION '{space}'")
        world.database.query("ALTER TABLE inbox SET TABLESPACE small")
        yield True
    finally:
        world.postgres.stop()
        subprocess.run(["umount", disk], check=True)


def network(how: str, *arguments: float) -> Fault:
    """Make the network slow, cut or half open, as `Proxy` can."""

    def fault(world: World, _rng: random.Random, _seconds: float) -> AbstractContextManager[None]:
        made: AbstractContextManager[None] = getattr(world.proxy, how)(*arguments)
        return made

    return fault


def clock_set(hours: int) -> Fault:
    """Restart one server and one worker with another time of day (needs `faketime`), and later with the right one."""

    @contextlib.contextmanager
    def fault(world: World, rng: random.Random, _seconds: float) -> Iterator[None]:
        victims = [rng.choice(world.servers), rng.choice(world.workers)]
        _begin_anew(victims, LD_PRELOAD=str(faketime()), FAKETIME=f"{hours:+}h", FAKETIME_DONT_FAKE_MONOTONIC="1")
        yield
        _begin_anew(victims)

    return fault


def faketime() -> Path | None:
    """Return the library of `faketime`, which shows a process another time; None if it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def _begin_anew(victims: list[Part], **changes: str) -> None:
    for part in victims:
        part.signal(
            signal.SIGKILL if part.is_frozen() else signal.SIGTERM
        )  # a process that another fault froze handles no signal
    for part in victims:
        part.wait()
        part.start(**changes)
    for part in victims:
        part.wait_until_live()


def _end(victims: list[Part], number: signal.Signals) -> None:
    """End processes by a signal; those that another fault has frozen end only by SIGKILL."""
    for part in victims:
        part.signal(signal.SIGKILL if part.is_frozen() else number)
    for part in victims:
        part.wait()


def a_server(world: World, rng: random.Random) -> list[Part]:
    return [rng.choice(world.servers)]


def a_worker(world: World, rng: random.Random) -> list[Part]:
    return [rng.choice(world.workers)]


def all_parts(world: World, _rng: random.Random) -> list[Part]:
    return world.parts


# These need a Postgres that answers when they begin and when they end: they begin before others, and end after them.
# The last one takes every connection, also those that the others need, so it comes last.
NEED_POSTGRES = (
    "Postgres is read-only",
    "sessions are left read-only",
    "a worker is frozen in a transaction",
    "commits are slow",
    "the inbox is locked",
    "ticket_history is locked",
    "sessions are killed",
    "no connection is left",
)


# Frozen processes of an ended Postgres still hold its shared memory, so no other can start on its data, nor should it.
END_POSTGRES = {"Postgres is restarted", "Postgres is stopped at once", "Postgres is killed"}


def can_meet(names: Sequence[str]) -> bool:
    """Return whether these faults can happen at once on one machine."""
    return "Postgres is frozen" not in names or END_POSTGRES.isdisjoint(names)


def turn(name: str) -> int:
    """Return the order in which faults that meet begin; they end in the reverse order."""
    return NEED_POSTGRES.index(name) if name in NEED_POSTGRES else len(NEED_POSTGRES)


FAULTS: dict[str, Fault] = {
    "a server is killed": ended(a_server, signal.SIGKILL),
    "a server is told to stop": ended(a_server, signal.SIGTERM),
    "a worker is killed": ended(a_worker, signal.SIGKILL),
    "a worker is told to stop": ended(a_worker, signal.SIGTERM),
    "all servers and workers are killed": ended(all_parts, signal.SIGKILL),
    "a worker is killed five times in a row": killed_again_and_again,
    "a server is frozen": frozen(a_server),
    "a worker is frozen": frozen(a_worker),
    "Postgres is restarted": postgres_restarted(signal.SIGINT),
    "Postgres is stopped at once": postgres_restarted(signal.SIGQUIT),
    "Postgres is killed": postgres_restarted(signal.SIGKILL),
    "Postgres is frozen": postgres_frozen,
    "sessions are killed": sessions_killed,
    "no connection is left": connections_taken,
    "Postgres is read-only": setting("default_transaction_read_only", "on"),
    "commits are slow": setting("commit_delay", "100000"),
    "the inbox is locked": locked("inbox"),
    "ticket_history is locked": locked("ticket_history"),
    "the network is cut": network("cut"),
    "the network is half open": network("half_open"),
    "the network is slow": network("slow", 0.1),
    "the disk is full": disk_full,
    "a clock is two hours ahead": clock_set(2),
    "a clock is two hours behind": clock_set(-2),
    **UNNOTICED,
}
