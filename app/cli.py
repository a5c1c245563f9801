"""Which commands does ticket-inbox have? Each imports what it needs only when it runs, so that --help is instant."""

import os
import sys
import time
from typing import BinaryIO

import click

from app import database_url, hints, stopping
from app import settings as environment
from app.commands import secret_option, terminal
from app.commands.doctor import doctor
from app.commands.import_ import import_
from app.commands.inspect import status, trace
from app.commands.language import language
from app.commands.migrate import migrate
from app.commands.read_token import token
from app.commands.reconcile import reconcile
from app.commands.reprocess import reprocess
from app.commands.roles import roles
from app.commands.sdp import sdp
from app.commands.show_settings import show as show_settings
from app.commands.similar import similar
from app.commands.tenant import tenant
from app.settings import uses

VARIABLE = "TICKET_INBOX_SECRET"
LOGGING = ("serve", "worker")  # each logs the remarks on its settings itself
ON_PORTS = {"dev": uses.ADDRESS, "doctor": uses.ADDRESS, "settings": uses.WORKER | uses.ADDRESS}


@click.group(
    cls=terminal.Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"The pages named docs/… are in {hints.pages()}.",
)
@click.version_option(package_name="ticket-inbox")
@click.pass_context
def main(context: click.Context) -> None:
    """Takes in "this ticket is resolved" from ServiceDesk Plus and never loses it.

    Start with `ticket-inbox dev`: it needs nothing but this package. Every setting is an environment
    variable; docs/settings.md lists them.
    """
    if context.invoked_subcommand not in LOGGING:
        for remark in environment.remarks(ON_PORTS.get(context.invoked_subcommand or "", ())):
            terminal.echo(f"Warning: {remark}", err=True)


tenant.add_command(sdp)
tenant.add_command(token)
tenant.add_command(language)
for command in (tenant, import_, migrate, status, trace, similar, reprocess, doctor, roles, reconcile, show_settings):
    main.add_command(command)


@main.command()
@click.option("--once", is_flag=True, help="End after the sample's row is printed; 1 if it does not come.")
@click.option("--samples", is_flag=True, help="Send a dozen tickets more, and print a question and what it finds.")
def dev(*, once: bool, samples: bool) -> None:
    """Run everything on this machine, with nothing installed.

    An embedded Postgres (unless DATABASE_URL is set), the schema, a tenant `demo`, the server and a worker.
    Sends one signed sample webhook, prints the row it became and a line to paste for the next one.
    """
    _check_telemetry()
    from app.dev import run as development  # noqa: PLC0415

    try:
        development.run(environment.load_or_exit(uses.DEV, may_lack_key=True), once=once, samples=samples)
    except development.DevError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option(
    "--processes",
    "count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Serve from N processes on the same port, each with its own SERVER_CONNECTIONS and APPEND_QUEUE. "
    "One that dies is started again.",
)
def serve(*, count: int) -> None:
    """Take in webhooks until SIGTERM, then finish the answers in flight."""
    settings = environment.load_or_exit(uses.SERVE)
    _check_telemetry()
    _log_ignored(settings)
    environment.log_remarks(uses.SERVE)
    from app.commands.on_database import refuse_wrong_session  # noqa: PLC0415
    from app.server import ports, processes, run  # noqa: PLC0415

    refuse_wrong_session(settings)
    try:
        if count > 1:
            processes.serve(settings, count)
            return
        from app.main import create_app  # noqa: PLC0415  (takes two seconds, and a supervisor does not need it)

        run.serve(create_app(settings), settings)
    except (ports.ListenError, processes.NoDirectoryError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
def worker() -> None:
    """Promote inbox rows into ticket_history until SIGTERM, then finish the jobs in hand."""
    settings = environment.load_or_exit(uses.WORKER, may_lack_key=True)
    _check_telemetry()
    _log_ignored(settings)
    # This process becomes the worker, because this package never imports jobs. What signals come meanwhile, wait.
    stopping.hold_for_exec()
    os.execv(sys.executable, [sys.executable, "-m", "jobs"])  # noqa: S606


def _log_ignored(settings: environment.Settings) -> None:
    """Log which variables are ignored, before a process that inherits the others begins."""
    from otel import logs  # noqa: PLC0415

    logs.configure(settings.log_level, settings.log_format)
    database_url.log_ignored()


def _check_telemetry() -> None:
    from otel import variables  # noqa: PLC0415

    try:
        variables.check()
    except variables.WrongTelemetryError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where ticket-inbox listens.")
@click.option("--tenant", "tenant_id", required=True, help="The tenant to send as.")
@secret_option.options("The tenant's secret, which signs the body.", VARIABLE)
@click.option(
    "--timestamp", is_flag=True, help="Sign the time with the body, for a server with SIGNED_TIMESTAMP_SECONDS."
)
@click.option(
    "--file",
    type=click.File("rb"),
    help="The payload, a JSON object; `-` reads standard input. Without it a sample with a new ticket id is sent.",
)
def send(
    *,
    url: str,
    tenant_id: str,
    secret: str | None,
    secret_file: BinaryIO | None,
    timestamp: bool,
    file: BinaryIO | None,
) -> None:
    """Sign a payload and post it: the reference sender.

    A payload of another tenant, or of none, is sent as --tenant's; any other is sent byte for byte.
    Exits 0 on 202; else 1, with a line that says why.
    """
    from app.commands import send  # noqa: PLC0415

    key = secret_option.given(secret, secret_file)
    if not key:
        raise click.UsageError(f"give the secret: as {VARIABLE} in the environment, or by --secret-file, --secret")
    try:
        body = send.payload(tenant_id, file.read() if file else None)
        answer = send.post(url, key, body, int(time.time()) if timestamp else None)
    except send.WrongUrlError as error:
        raise click.UsageError(str(error)) from None
    except send.SendError as error:
        raise click.ClickException(str(error)) from None
    terminal.echo(f"202 accepted, correlation id {answer.correlation_id}")
