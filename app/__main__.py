"""What does `ticket-inbox` do first, and last? It prepares for signals, and ends on errors without a traceback."""

import sys
from collections.abc import Callable

from app import own_path, standard_streams, stopping


def main() -> None:
    """Run the command that the arguments name."""
    command = "".join(sys.argv[1:2])
    stopping.from_the_start(command)
    standard_streams.fill_gaps()
    standard_streams.watch_output()
    if command not in ("serve", "worker"):
        standard_streams.watch_errors()
    own_path.leave_working_directory()
    from app.cli import main as run  # noqa: PLC0415  (takes time, in which a signal may come)

    sys.exit(_code_of(run))


def _code_of(run: Callable[..., object]) -> int:
    """Run the command, print in one line why it ended early, and return its exit code."""
    import click  # noqa: PLC0415

    from app import hints  # noqa: PLC0415
    from app.commands import terminal  # noqa: PLC0415

    try:
        stopping.let_commands_handle_ctrl_c()
        code = run(prog_name=hints.command(), standalone_mode=False)
    except click.ClickException as error:
        words = hints.as_typed(error.format_message())
        error.format_message = lambda: words  # type: ignore[method-assign]
        error.show()
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            return terminal.Interrupted.exit_code
        terminal.echo("Aborted!", err=True)
        return 1
    except standard_streams.OutputError as error:
        if not error.reader_is_gone:  # such as `head`, which has what it wanted
            terminal.echo(f"Error: standard output takes nothing ({error}): give it room, or another place", err=True)
        return 1
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        terminal.echo(hints.as_typed(end.code), err=True)
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
