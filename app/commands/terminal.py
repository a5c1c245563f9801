"""How do commands print, so that nothing that others wrote reaches a terminal raw?

Ticket ids, reasons, names of roles and answers of servers may hold escape sequences. Every command prints by `echo`,
which escapes each line as a whole, so no caller can forget it; a test finds any other way to print.
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

from otel.escaped import printable

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

__all__ = ["Commands", "Interrupted", "Progress", "as_json", "echo", "echo_script", "printable", "redraw", "shell_word"]

# What terminals understand (ECMA-48): where the cursor goes, and what is cleared.
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
CLEAR = f"\r{CLEAR_LINE}"  # what a bar left on the line
REPORT_EVERY = 5.0  # seconds, where there is no terminal to draw a bar on


def echo(*lines: str, err: bool = False, over_bar: bool = False) -> None:
    """Print each of `lines` as one line, with what is not printable escaped, a line break in it too.

    With `over_bar` the first takes the place of a progress bar.
    """
    if lines:
        text = "\n".join(map(printable, lines))
        click.echo(f"{CLEAR if over_bar else ''}{text}", err=err)


def echo_script(text: str) -> None:
    """Print a script of our own as it is, with its tabs; nothing in it may be what others wrote."""
    click.echo(text, nl=False)


def redraw(*lines: str) -> None:
    """Print `lines` in place of all that the terminal shows; elsewhere below the last ones, after an empty line."""
    if _is_terminal(sys.stdout):
        drawn = "".join(f"{printable(line)}{CLEAR_LINE}\n" for line in lines)
        click.echo(f"{HOME}{drawn}{CLEAR_BELOW}", nl=False)
    else:
        echo(*lines, "")


def as_json(value: object) -> str:
    """Return `value` (structs, times and what JSON has) as JSON in ASCII, whatever characters its strings hold.

    Half of a surrogate pair, which other programs refuse in JSON, becomes a question mark.
    """
    import json  # noqa: PLC0415  (--help is instant)

    import msgspec  # noqa: PLC0415

    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode(errors="replace")
    return json.dumps(json.loads(text), separators=(",", ":"))


class Interrupted(click.ClickException):
    """Ctrl-C ended the command, and the message says what it leaves behind, and how to go on."""

    exit_code = 130  # as a shell writes it: 128, and the signal's number


def shell_word(text: str) -> str:
    r"""Return `text` as a person can see and paste it, in ASCII: quoted for a shell where that is needed.

    What is not printable, and what may look like another letter, is escaped as bash and zsh read it: $'\u0430cme'.
    """
    if text.isascii() and text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_in_bash, text)) + "'"


def _in_bash(one: str) -> str:
    if one.isascii() and one.isprintable():
        return f"\\{one}" if one in "\\'" else one
    code = ord(one)
    return f"\\x{code:02x}" if one.isascii() else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


class Commands(click.Group):
    """A group of commands whose errors are printed as `echo` prints: they repeat what others, or a shell, gave."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401  (click's)
        with _printable_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's)
        with _printable_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        raise  # each is lines of help, without others' text
    except click.ClickException as error:
        words = printable(error.format_message())
        error.format_message = lambda: words  # type: ignore[method-assign]
        raise


class Progress:
    """Shows on standard error how far a long command has come: by a bar on a terminal, else a line now and then."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._reported_at = label, total, time.monotonic()
        self._is_drawn = _is_terminal(sys.stderr) and total > 0
        self._bar: ProgressBar[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.__exit__(None, None, None)

    def show(self, done: int) -> None:
        """Show that `done` of all are done; the first call draws the bar."""
        if self._is_drawn:
            if self._bar is None:
                self._bar = click.progressbar(length=self._total, label=self._label, file=sys.stderr).__enter__()
            self._bar.update(min(done, self._total) - self._bar.pos)
        elif time.monotonic() - self._reported_at > REPORT_EVERY:
            self._reported_at = time.monotonic()
            echo(f"{self._label}: {done:,} of {self._total:,}", err=True)

    def print_line(self, words: str) -> None:
        """Print a line in the bar's place; the next `show` draws the bar again below it."""
        echo(words, err=True, over_bar=bool(self._bar))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # it is None where the process began with it closed
