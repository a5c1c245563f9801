"""What does the webhook need while the server runs? It is made and kept fresh here, and drained at the end."""

import contextlib
from collections.abc import AsyncIterator

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.event.rules import Rules
from app.settings import Settings
from app.webhook import inbox_watch
from app.webhook.admission import Admission
from app.webhook.fair_share import FairShare
from app.webhook.group_commit import GroupCommit
from app.webhook.keyring import Keyring
from app.webhook.signature_counts import SignatureCounts
from app.webhook.tenant_rate import TenantRate
from db import tenants


class Dependencies(msgspec.Struct, frozen=True):
    """What the webhook works with."""

    settings: Settings
    keyring: Keyring
    admission: Admission
    commits: GroupCommit
    rate: TenantRate
    rules: Rules
    signatures: SignatureCounts


@contextlib.asynccontextmanager
async def running(settings: Settings, engine: AsyncEngine) -> AsyncIterator[Dependencies]:
    """Make what the webhook works with, keep it fresh until the block ends, then wait for what is being committed."""
    keyring = Keyring(engine, tenants.Secrets(settings.secrets_key))
    fair_share = FairShare()
    admission = Admission(settings.append_queue, settings.append_queue_bytes)
    commits = GroupCommit(engine, fair_share, admission, settings.append_timeout_seconds)
    rate = TenantRate(settings.tenant_rate)
    signatures = SignatureCounts(keyring)
    async with (
        keyring.kept_fresh(),
        inbox_watch.kept_fresh(engine, fair_share.on_gauges),
        signatures.kept_written(engine),
    ):
        yield Dependencies(settings, keyring, admission, commits, rate, Rules.of(settings), signatures)
    await commits.drained()  # those whose senders were answered 503 or hung up
