"""What is the server made of? Engine, routes, lifespan, a shutdown that drains."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from app import health
from app import settings as environment
from app.event.rules import Rules
from app.server import deadlines
from app.settings import Settings
from app.webhook import endpoint, inbox_watch, openapi, problems
from app.webhook.fair_share import Shares
from app.webhook.group_commit import SharedCommit
from app.webhook.keyring import Keyring
from app.webhook.tenant_rate import TenantRate
from db import engine as database
from db import schema, tenants
from otel import export, logs

OTHERS = [health.live, health.ready, health.metrics]


def create_app(settings: Settings | None = None) -> Litestar:
    """Make the server's application, by default from the environment's settings.

    It starts without Postgres and answers 503 until Postgres is there.
    """
    settings = settings or environment.load_or_exit(secrets_key=True)
    logs.configure(settings.log_level, settings.log_format)
    try:
        export.check()
    except export.WrongTelemetryError as wrong:
        raise SystemExit(f"ticket-inbox: {wrong}") from None
    return Litestar(
        [
            endpoint.resolved_ticket,
            Router("/", route_handlers=[*OTHERS, openapi.schema], middleware=[health.correlated]),
        ],
        lifespan=[lambda app: _lifespan(app, settings)],
        exception_handlers={
            problems.Refusal: problems.on_refusal,
            HTTPException: problems.on_http_exception,
            Exception: problems.on_unforeseen,
        },
        state=State({"document": openapi.document(OTHERS), "settings": settings}),
        openapi_config=None,
        logging_config=None,
    )


def _spare_the_collector() -> None:
    """Keep the garbage collector from going through all that was made at start, which took 50 ms every second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@contextlib.asynccontextmanager
async def _lifespan(app: Litestar, settings: Settings) -> AsyncIterator[None]:
    stop_exporting = export.configure("ticket-inbox-server")
    engine = database.create_engine(
        settings.database_url,
        "ticket-inbox server",
        settings.server_connections,
        settings.append_timeout_seconds,
    )
    keyring = Keyring(engine, tenants.Secrets(settings.secrets_key))
    shares = Shares()
    commits = SharedCommit(
        engine,
        shares,
        rows=settings.append_queue,
        size=settings.append_queue_bytes,
        timeout=settings.append_timeout_seconds,
    )
    inlet = endpoint.Inlet(settings, keyring, commits, TenantRate(settings.tenant_rate), Rules.of(settings))
    app.state.update(inlet=inlet, engine=engine, schema_head=schema.head())
    try:
        async with keyring.kept_fresh(), inbox_watch.kept_fresh(engine, shares.heed), deadlines.kept(settings):
            _spare_the_collector()
            yield
        await commits.drained()  # those whose senders were answered 503 or hung up
    finally:
        await engine.dispose()
        await asyncio.to_thread(stop_exporting)
