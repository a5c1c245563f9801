"""What is in this package? The HTTP process, which takes webhooks in, and the ticket-inbox command."""

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Let the litestar command find `create_app` here; it is imported only when it is asked for.

    The command looks at the package first, and otherwise fails on some of its modules
    (https://github.com/litestar-org/litestar/pull/4943).
    """
    if name == "create_app":
        from app.main import create_app  # noqa: PLC0415

        return create_app
    raise AttributeError(name)
