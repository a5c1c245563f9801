"""Which leases are held, and which advisory locks have our numbers? Found for `doctor`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.commands.terminal import printable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from db.advisory_locks import Holder
    from db.leases import HeldLease

MOST = 20  # leases that are named; each worker has one


async def read(connection: "AsyncConnection") -> list[tuple[bool, str]]:
    """Return for each lease and each lock what to say of it, and whether it is as it should be."""
    from db import advisory_locks, leases  # noqa: PLC0415

    held = await leases.read_all(connection)
    return [*_of_leases(held), *map(_of_holder, await advisory_locks.read_all(connection))]


def _of_leases(held: "list[HeldLease]") -> Iterator[tuple[bool, str]]:
    for one in held[:MOST]:
        state = "its owner did not give it back, and it is free: " if one.is_free else "held by "
        yield not one.is_free, printable(f"lease {one.name}: {state}{one}")
    if len(held) > MOST:
        yield True, f"and {len(held) - MOST} leases more"


def _of_holder(holder: "Holder") -> tuple[bool, str]:
    from db.advisory_locks import MIGRATION, WORDS  # noqa: PLC0415

    locks = f"{holder.locks} advisory locks" if holder.locks > 1 else f"{holder.locks or 'an'} advisory lock"
    has = f"{holder} {holder.has} {locks} with our number"
    if not holder.may_do_it:
        reason = f"for {WORDS[holder.number]}; its role has no right to our work, so nothing waits for it"
    elif holder.number == MIGRATION:
        reason = "for migrations and roles, which wait until it ends"
    else:
        reason = f"as the version before takes it for {WORDS[holder.number]}, which waits until it ends"
    return False, printable(f"{has} {reason}")
