"""What can a person paste once `dev` runs? Commands as they stand, in a shell."""

import shlex
from collections.abc import Mapping

import msgspec

from app import hints, search
from app.commands import send, terminal
from app.dev import samples
from app.dev.signer import Signer
from app.webhook import PATH


def print_all(address: str, signer: Signer, token: str, made: Mapping[str, str]) -> None:
    """Print how to send the next webhook, with a read `token` how to ask, and what other commands need."""
    _print_send(address, signer)
    if token:
        _print_ask(address, token)
    _print_exports(made)
    if token:
        subject = shlex.quote(samples.QUESTION["subject"])
        terminal.echo(f"  {hints.command()} similar --tenant {signer.tenant_id} {subject}")


def _print_send(address: str, signer: Signer) -> None:
    body = msgspec.json.encode({**send.sample(signer.tenant_id), "subject": "The next one"}).decode()
    headers = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in signer.headers(body.encode()).items())
    terminal.echo("", "Send the next one, either way:", "")
    terminal.echo(f"  curl -i {address}{PATH} \\")
    terminal.echo(f"    -H 'Content-Type: application/json' {headers} \\")
    terminal.echo(f"    --data-binary {shlex.quote(body)}", "")
    options = f"--url {address} --tenant {signer.tenant_id} --secret={signer.secret}{' --timestamp' * signer.timed}"
    terminal.echo(f"  {hints.command()} send {options}")


def _print_ask(address: str, token: str) -> None:
    body = msgspec.json.encode(samples.QUESTION).decode()
    terminal.echo("", "Ask for similar tickets:", "")
    terminal.echo(f"  curl -s {address}{search.PATH} \\")
    terminal.echo(f"    -H 'Content-Type: application/json' -H 'Authorization: Bearer {token}' \\")
    terminal.echo(f"    --data-binary {shlex.quote(body)}")


def _print_exports(made: Mapping[str, str]) -> None:
    """Print what another terminal needs for the other commands: what `dev` made, as the rest is the user's own."""
    if made:
        terminal.echo("", "In another terminal, for all other commands:", "")
    for name, value in made.items():
        terminal.echo(f"  export {name}={shlex.quote(value)}")
    if made:
        terminal.echo(f"  {hints.command()} status")
