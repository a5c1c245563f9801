"""`python -m app` is `ticket-inbox`."""

from app.cli import main

main(prog_name="ticket-inbox")
