"""What is in this package? The HTTP process, which takes webhooks in, and the ticket-inbox command."""

import sys

# While Python looks for what `ticket-inbox` or `python -m app` shall run, this file is the first of it. From here on
# Ctrl-C ends the process by the signal, without a traceback; app/stopping.py has more to say a few milliseconds later.
try:
    if sys.argv[:1] == ["-m"] or "".join(sys.argv[:1]).endswith("ticket-inbox"):
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
except KeyboardInterrupt:
    sys.exit(130)


def __getattr__(name: str) -> object:
    """Let the litestar command find `create_app` here; it is imported only when it is asked for.

    The command looks at the package first, and otherwise fails on some of its modules
    (https://github.com/litestar-org/litestar/pull/4943).
    """
    if name == "create_app":
        from app.main import create_app  # noqa: PLC0415

        return create_app
    raise AttributeError(name)
