"""ticket-inbox settings: which value has each setting, and where does it come from?"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from app import database_url
from app.commands import terminal
from app.commands.options import as_json

if TYPE_CHECKING:
    from app.settings.described import Described


@click.command(name="settings")
@as_json
def show(*, as_json: bool) -> None:
    """Show each setting, its value, and the variable that it comes from; secrets and passwords are hidden.

    Asks no database. Names each wrong value in a line of its own, and exits 1 then.
    """
    from app.settings import described  # noqa: PLC0415

    found = described.describe()
    database_url.take_away_ignored(os.environ)
    for line in database_url.ignored():
        terminal.echo(f"Warning: {line}", err=True)
    terminal.echo(*([terminal.as_json({"settings": found})] if as_json else _lines(found)))
    if wrong := [f"Error: {one.error}" for one in found if one.error]:
        terminal.echo(*wrong, err=True)
        raise SystemExit(1)


def _lines(found: "Sequence[Described]") -> Iterator[str]:
    width, from_width = (
        max(map(len, column)) for column in zip(*((one.name, one.source) for one in found), strict=True)
    )
    yield f"{'SETTING':{width}}  {'FROM':{from_width}}  VALUE"
    for one in found:
        yield f"{one.name:{width}}  {one.source:{from_width}}  {_value(one)}"


def _value(one: "Described") -> str:
    if one.error:
        return "(wrong)"
    if one.is_hidden:
        return "(hidden)"
    return "(none)" if one.value is None else str(one.value)
