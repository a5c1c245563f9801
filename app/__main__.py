"""What does `ticket-inbox` do first, and `python -m app`? It prepares for signals: the rest takes time to import."""

import sys

from app import stopping


def main() -> None:
    """Run the command that the arguments name."""
    stopping.from_the_start(command="".join(sys.argv[1:2]))
    try:
        from app.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as a shell writes it: 128, and the signal's number
    run(prog_name="ticket-inbox")


if __name__ == "__main__":
    main()
