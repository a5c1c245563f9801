"""Faults that nothing reports: no connection closes, no process ends, no statement fails until somebody asks."""

import contextlib
import random
import signal
import time
from collections.abc import Iterator

import psycopg

from tests.faults.world import World
from tests.support.read_only import read_only


@contextlib.contextmanager
def sessions_read_only(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Leave every session read-only, as after a failover behind a proxy: new ones may write once the block has ended."""
    with read_only(world.database):
        yield


@contextlib.contextmanager
def swallowed(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Make every open connection to Postgres dumb for ever; new ones are dumb until the block ends."""
    with world.proxy.swallow():
        yield


@contextlib.contextmanager
def frozen_in_transaction(world: World, rng: random.Random, _seconds: float) -> Iterator[None]:
    """Freeze a worker while a statement of its waits for a lock, which its transaction then holds."""
    worker = rng.choice(world.workers)
    with psycopg.connect(world.postgres.url()) as own:
        own.execute("LOCK procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(1.2)  # longer than the worker sleeps between two looks for jobs
        worker.signal(signal.SIGSTOP)
        own.rollback()
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


@contextlib.contextmanager
def logs_unread(world: World, _rng: random.Random, _seconds: float) -> Iterator[None]:
    """Read no byte of what the processes log."""
    for part in world.parts:
        part.log_is_read.clear()
    try:
        yield
    finally:
        for part in world.parts:
            part.log_is_read.set()


UNNOTICED = {
    "sessions are left read-only": sessions_read_only,
    "the network swallows": swallowed,
    "a worker is frozen in a transaction": frozen_in_transaction,
    "nobody reads the logs": logs_unread,
}
