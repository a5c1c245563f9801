"""How many signatures of each tenant failed lately, and when did one last verify? Table `signature_counts`.

A row holds a tenant's hour; the one without a tenant counts every name that is unknown or disabled.
"""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from db import metadata

LOCK_TIMEOUT = "1s"  # a tenant that is being removed, or another server, has the row for milliseconds
KEPT_DAYS = 7
MOST = 10**15  # of one kind in an hour: the table takes no more, and to a row that has as many nothing is added
KINDS = ("absent", "malformed", "untimely", "wrong")
TIMES = {"failed_at": "last_failed_at", "verified_at": "last_verified_at", "previous_at": "last_previous_at"}

signature_counts = sa.Table(
    "signature_counts",
    metadata,
    sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenant_configs.tenant_id", ondelete="CASCADE")),
    sa.Column("hour", TIMESTAMP(timezone=True), nullable=False),
    *[sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")) for name in KINDS],
    sa.Column("last_failed_at", TIMESTAMP(timezone=True)),
    sa.Column("last_verified_at", TIMESTAMP(timezone=True)),
    sa.Column("last_previous_at", TIMESTAMP(timezone=True)),
    sa.UniqueConstraint("tenant_id", "hour", postgresql_nulls_not_distinct=True),
)


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What a server process counted of one tenant since it last wrote; `tenant_id` is None for all unknown names.

    The ages are seconds since the last one that failed, that verified, and that verified by the secret before the
    newest; None where there was none.
    """

    tenant_id: str | None
    absent: int = 0
    malformed: int = 0
    untimely: int = 0
    wrong: int = 0
    failed_age: float | None = None
    verified_age: float | None = None
    previous_age: float | None = None


class Lately(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's signatures that failed within a day, by what was wrong, and when the last ones came.

    Times are seconds ago: `changed` is when the tenant was last changed, such as by a new secret. `grace` is for how
    many seconds the secret before the newest still verifies; None where it does not.
    """

    tenant_id: str | None
    absent: int
    malformed: int
    untimely: int
    wrong: int
    failed: float | None
    verified: float | None
    verified_by_previous: float | None
    changed: float | None
    grace: float | None

    @property
    def failures(self) -> int:
        """How many failed within a day."""
        return self.absent + self.malformed + self.untimely + self.wrong


# The database's clock dates them, so that servers need not agree on the time. Counts of a tenant that is removed
# meanwhile are dropped. All servers write in one order, so that none waits for another in a ring.
ADD = sa.text(
    f"""
    INSERT INTO signature_counts AS counts
      (tenant_id, hour, absent, malformed, untimely, wrong, last_failed_at, last_verified_at, last_previous_at)
    SELECT given.tenant_id, date_trunc('hour', now(), 'UTC'), absent, malformed, untimely, wrong,
           now() - make_interval(secs => failed_age), now() - make_interval(secs => verified_age),
           now() - make_interval(secs => previous_age)
    FROM unnest(CAST(:tenant_id AS text[]), CAST(:absent AS bigint[]), CAST(:malformed AS bigint[]),
                CAST(:untimely AS bigint[]), CAST(:wrong AS bigint[]), CAST(:failed_age AS double precision[]),
                CAST(:verified_age AS double precision[]), CAST(:previous_age AS double precision[]))
      AS given (tenant_id, absent, malformed, untimely, wrong, failed_age, verified_age, previous_age)
    WHERE given.tenant_id IS NULL OR given.tenant_id IN (SELECT tenant_id FROM tenant_configs)
    ORDER BY given.tenant_id
    ON CONFLICT (tenant_id, hour) DO UPDATE SET
      {", ".join(f"{kind} = least(counts.{kind} + excluded.{kind}, {MOST})" for kind in KINDS)},
      last_failed_at = greatest(counts.last_failed_at, excluded.last_failed_at),
      last_verified_at = greatest(counts.last_verified_at, excluded.last_verified_at),
      last_previous_at = greatest(counts.last_previous_at, excluded.last_previous_at)
    """  # noqa: S608  (composed of constants)
)

BOUND_LOCKS = sa.text("SELECT set_config('lock_timeout', :limit, true)")

# A role that may add counts may write any that are possible, of hours to come, too: these are left out, and so are
# times to come of this hour, since the database's clock dates each.
SUMS = [f"CAST(coalesce(sum({kind}) FILTER (WHERE is_recent), 0) AS bigint) AS {kind}" for kind in KINDS] + [
    f"max({column}) FILTER (WHERE {column} <= now()) AS {name}" for name, column in TIMES.items()
]
LATELY = sa.text(
    f"""
    WITH counted AS (
      SELECT tenant_id, {", ".join(SUMS)}
      FROM (SELECT *, hour > now() - interval '1 day' AS is_recent FROM signature_counts WHERE hour <= now()) AS hours
      GROUP BY tenant_id
    )
    SELECT tenant_id, absent, malformed, untimely, wrong,
           CAST(extract(epoch FROM now() - failed_at) AS double precision) AS failed,
           CAST(extract(epoch FROM now() - verified_at) AS double precision) AS verified,
           CAST(extract(epoch FROM now() - previous_at) AS double precision) AS verified_by_previous,
           CAST(extract(epoch FROM now() - updated_at) AS double precision) AS changed,
           CASE WHEN previous_secret_ends_at > now()
                THEN CAST(extract(epoch FROM previous_secret_ends_at - now()) AS double precision) END AS grace
    FROM counted LEFT JOIN tenant_configs USING (tenant_id)
    WHERE tenant_id = :tenant_id OR absent + malformed + untimely + wrong > 0
    ORDER BY failed, tenant_id
    """  # noqa: S608  (composed of constants)
)

# The row with the newest time of a tenant stays, however old it is, so that `doctor` can say when one last verified.
# An hour to come is nobody's.
PRUNE = sa.text(
    """
    DELETE FROM signature_counts AS old
    WHERE hour < now() - make_interval(days => :days)
      AND (last_verified_at IS NULL
           OR EXISTS (SELECT FROM signature_counts AS newer
                      WHERE newer.tenant_id = old.tenant_id AND newer.hour > old.hour AND newer.hour <= now()
                        AND newer.last_verified_at IS NOT NULL))
      OR hour > now() + interval '1 day'
    """
)


async def add(connection: AsyncConnection, counted: Sequence[Counted]) -> None:
    """Add what a process counted to the rows of this hour; `connection` is in a transaction.

    Raises a database error where a row is locked for over LOCK_TIMEOUT: then nothing is added.
    """
    names = Counted.__struct_fields__
    await connection.execute(BOUND_LOCKS, {"limit": LOCK_TIMEOUT})
    await connection.execute(ADD, {name: [getattr(one, name) for one in counted] for name in names})


async def read_lately(connection: AsyncConnection, tenant_id: str) -> list[Lately]:
    """Return the tenant, if a signature of it was ever counted, and every other one that had failures within a day.

    The one whose signature failed last is first; the unknown names are one of them, without a tenant.
    """
    return [Lately(**row) for row in (await connection.execute(LATELY, {"tenant_id": tenant_id})).mappings()]


async def prune(connection: AsyncConnection) -> None:
    """Delete what is older than KEPT_DAYS, except when a tenant's signature last verified."""
    await connection.execute(PRUNE, {"days": KEPT_DAYS})
