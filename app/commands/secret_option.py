"""Where does a command get a secret from? A file, or the environment, keeps it out of the list of processes."""

from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., Any])


def options(what: str, variable: str | None = None) -> Callable[[Command], Command]:
    """Return a decorator that adds --secret, which `variable` in the environment may give too, and --secret-file."""

    def decorate(command: Command) -> Command:
        in_file = "The same in a file, so that no list of processes shows it; `-` reads standard input."
        command = click.option("--secret-file", type=click.File("rb"), help=in_file)(command)
        return click.option("--secret", envvar=variable, show_envvar=bool(variable), help=what)(command)

    return decorate


def given(secret: str | None, file: BinaryIO | None) -> str | None:
    """Return the secret, or None if there is none. Raises a usage error for two of them, and for one that is no text.

    The line break that ends a file, or a variable that was read from one, is not part of it.
    """
    by_hand = click.get_current_context().get_parameter_source("secret") == ParameterSource.COMMANDLINE
    if file and by_hand:
        raise click.UsageError("give --secret or --secret-file, not both")
    try:
        text = file.read().decode() if file else secret and secret.encode().decode()
        return text if text is None or by_hand else text.removesuffix("\n").removesuffix("\r")
    except UnicodeError:
        raise click.UsageError("a secret must be text in UTF-8") from None
