"""What is the server made of? Engine, routes, lifespan, a shutdown that drains."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.openapi.spec import Components

from app import correlation, database_url, health, probes
from app import settings as environment
from app.search import PATH as SEARCH
from app.search import dependencies as search
from app.search import endpoint as search_endpoint
from app.search import openapi as search_openapi
from app.server import deadlines, shedding
from app.settings import Settings, uses
from app.webhook import dependencies, endpoint, openapi, problems
from app.webhook.kinds import KINDS
from db import engine as database
from otel import export, logs, metrics, variables
from otel.escaped import printable

OUR_FAULTS = {status: problems.KINDS[status][0] for status in (500, 503)}
OTHERS = [health.live, health.ready, health.metrics]


def create_app(settings: Settings | None = None) -> Litestar:
    """Make the server's application, by default from the environment's settings.

    It starts without Postgres and answers 503 until Postgres is there.
    """
    settings = settings or environment.load_or_exit(uses.SERVER)
    logs.configure(settings.log_level, settings.log_format)
    database_url.log_ignored()
    try:
        variables.check()
    except variables.WrongTelemetryError as wrong:
        raise SystemExit(printable(f"ticket-inbox: {wrong}")) from None
    for kind in KINDS:
        metrics.begin_at_zero(kind.path, OUR_FAULTS)
    asks, described, components = _search(settings)
    read = map(probes.by_head_too, [*OTHERS, openapi.schema])
    others = Router("/", route_handlers=[*read, probes.root], middleware=[correlation.on_each_answer])
    return Litestar(
        [*map(endpoint.route, KINDS), *asks, others],
        lifespan=[lambda app: _lifespan(app, settings)],
        exception_handlers={
            problems.Refusal: problems.on_refusal,
            HTTPException: problems.on_http_exception,
            Exception: problems.on_unforeseen,
        },
        state=State({"document": openapi.document([*described, *OTHERS], components)}),
        openapi_config=None,
        logging_config=None,
    )


def _search(settings: Settings) -> tuple[list[ASGIRouteHandler], list[HTTPRouteHandler], Components | None]:
    """Return the search's route and what /schema says of it; nothing where it is turned off."""
    if not settings.search_pool_size:
        return [], [], None
    metrics.begin_at_zero(SEARCH, search_openapi.OUR_FAULTS, success=200)
    return [search_endpoint.answer], [search_openapi.documented], search_openapi.COMPONENTS


@contextlib.asynccontextmanager
async def _lifespan(app: Litestar, settings: Settings) -> AsyncIterator[None]:
    stop_exporting = export.configure("ticket-inbox-server")
    engine = database.create_engine(
        settings.database_url,
        "ticket-inbox server",
        settings.server_connections,
        settings.append_timeout_seconds,
    )
    try:
        looks = health.Looks(engine)
        async with (
            health.looking(looks),
            dependencies.running(settings, engine) as made,
            search.running(settings, engine, made.commits) as asked,
            deadlines.kept(settings),
        ):
            app.state.update(dependencies=made, engine=engine, looks=looks, search=asked)
            with shedding.within(settings, made.admission):
                _freeze_what_stays()
                yield
    finally:
        await engine.dispose()
        await asyncio.to_thread(stop_exporting)


def _freeze_what_stays() -> None:
    """Keep the garbage collector from visiting all that was made at start, which took 50 ms every second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
