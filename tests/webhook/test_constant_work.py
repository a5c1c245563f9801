"""Every 401 costs the same HMAC work, whatever tenant it names; `python -m tests.bench.timing` measures the time."""

import asyncio
import collections
import hmac
import itertools
import sys
from types import CodeType, FrameType
from typing import Any

import pytest

from app.event.rules import Rules
from app.settings import Settings
from app.webhook import endpoint, signature
from app.webhook.admission import Admission
from app.webhook.dependencies import Dependencies
from app.webhook.fair_share import FairShare
from app.webhook.group_commit import GroupCommit
from app.webhook.keyring import Keyring
from app.webhook.problems import Refusal
from app.webhook.signature_counts import SignatureCounts
from app.webhook.tenant_rate import TenantRate
from db import engine as engines
from db.tenants import Secrets
from tests.support.system import Database

pytestmark = pytest.mark.one_postgres

COUNTED: dict[CodeType, str] = {hmac.digest.__code__: "hmac"}
BODY = b'{"tenant_id": "x"}'
HEADERS = (b"", b"sha256=zz", b"0" * 64, b"sha256=" + b"0" * 64, b"\xff", b"A" * 43 + b"=")


def work(dependencies: Dependencies, tenant_id: str, headers: dict[bytes, bytes]) -> collections.Counter[str]:
    """Count the digests, the comparisons, and all calls that verifying a wrong signature costs."""
    done: collections.Counter[str] = collections.Counter()

    def count(frame: FrameType, event: str, called: Any) -> None:  # noqa: ANN401
        done["calls"] += event in {"call", "c_call"}
        if event == "call" and frame.f_code in COUNTED:
            done[COUNTED[frame.f_code]] += 1
        elif event == "c_call" and called is hmac.compare_digest:
            done["compare"] += 1

    request = endpoint.Request({"type": "http"}, asyncio.Queue().get, headers)  # type: ignore[typeddict-item]
    sys.setprofile(count)
    try:
        endpoint.verify(request, dependencies, tenant_id, BODY)
    except Refusal as refusal:
        assert refusal.status == 401  # noqa: PT017
    finally:
        sys.setprofile(None)
    return done


@pytest.mark.parametrize("tolerance", [0, 300])
def test_every_refusal_costs_two_digests_and_two_comparisons(
    database: Database, secrets_key: str, tolerance: int
) -> None:
    """Whether the tenant has one secret or two, is disabled or unknown, and whatever the headers hold."""
    one, two, disabled = (database.add_tenant(secrets_key) for _ in range(3))
    database.query(
        "UPDATE tenant_configs SET previous_secret = secret, previous_secret_ends_at = now() + '1 h' WHERE tenant_id = %s",
        two.id,
    )
    database.query("UPDATE tenant_configs SET enabled = false WHERE tenant_id = %s", disabled.id)
    dependencies = asyncio.run(made(database, secrets_key, tolerance))
    names = (one.id, two.id, disabled.id, "unknown")
    for tenant_id in names:  # each is counted; the first time of ten seconds makes its tally
        work(dependencies, tenant_id, {})
    for header, timestamp in itertools.product(HEADERS, (b"", b"1", b"soon")):
        given = {signature.HEADER_BYTES: header, signature.TIMESTAMP_HEADER_BYTES: timestamp}
        done = [work(dependencies, tenant_id, given) for tenant_id in names]
        assert all((each["hmac"], each["compare"]) == (2, 2) for each in done), given
        assert len({each["calls"] for each in done}) == 1, given


async def made(database: Database, secrets_key: str, tolerance: int) -> Dependencies:
    """Return the webhook's dependencies, with a keyring that has read the tenants."""
    engine = engines.create_engine(database.url, "test", 1, 30.0)
    keyring = Keyring(engine, Secrets(secrets_key))
    await keyring.refresh()
    await engine.dispose()
    admission = Admission(1, 1)
    commits = GroupCommit(engine, FairShare(), admission, 1.0)
    settings = Settings(signed_timestamp_seconds=tolerance)
    return Dependencies(settings, keyring, admission, commits, TenantRate(0), Rules(), SignatureCounts(keyring))
