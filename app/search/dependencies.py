"""What does the search need while the server runs? It is made and kept fresh here, with connections of its own."""

import contextlib
from collections.abc import AsyncIterator

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.search.known_tokens import KnownTokens
from app.search.refusal import LIMIT
from app.search.token_uses import TokenUses
from app.search.turns import Appends, Turns
from app.settings import Settings
from app.webhook.tenant_rate import TenantRate
from db import engine as database

PATIENCE = 0.5  # seconds past LIMIT that the server waits for Postgres to say that it cut the statement


class Dependencies(msgspec.Struct, frozen=True):
    """What the search works with."""

    settings: Settings
    engine: AsyncEngine
    tokens: KnownTokens
    rate: TenantRate
    turns: Turns


@contextlib.asynccontextmanager
async def running(settings: Settings, engine: AsyncEngine, appends: Appends) -> AsyncIterator[Dependencies | None]:
    """Make what the search works with, and keep it fresh until the block ends; None where the search is turned off.

    `engine` is the webhooks' pool, on which the tokens are read: that takes a millisecond a second, and no question
    may hold it up. `appends` says whether webhooks wait.
    """
    if not settings.search_pool_size:
        yield None
        return
    uses = TokenUses()
    tokens = KnownTokens(engine, uses)
    own = database.create_engine(
        settings.database_url, "ticket-inbox search", settings.search_pool_size, LIMIT, patience=PATIENCE
    )
    turns = Turns(settings.search_pool_size, appends)
    try:
        async with tokens.kept_fresh(), uses.kept_written(engine):
            yield Dependencies(settings, own, tokens, TenantRate(settings.tenant_rate), turns)
    finally:
        await own.dispose()
