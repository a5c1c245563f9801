"""Is this a Postgres URL that both drivers read alike, and what do the `PG*` variables add to it?

The drivers' errors repeat what they cannot read. Part of a password with an unescaped `@`, `/`, `?`, `#` or `%` is
taken for a host, a port or a parameter, and would be logged with the error. So "@" may stand in one place only.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping

_ESCAPED = r"%(?!00)[0-9A-Fa-f]{2}"
_USER = rf"(?:[^\s/?#\[\]@%:]|{_ESCAPED})*"
_PASSWORD = rf"(?:[^\s/?#\[\]@%]|{_ESCAPED})*"
_HOST = rf"(?:\[[^\s/?#\[\]@]+\]|(?:[^\s/?#\[\]@%:,]|{_ESCAPED})*)(?::[0-9]*)?"
_NAME = rf"(?:[^\s/?#@%]|{_ESCAPED})*"
_PAIR = rf"[a-z_]+=(?:[^\s#@&=%]|{_ESCAPED})*"
_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}(?::{_PASSWORD})?@)?{_HOST}(?:,{_HOST})*(?:/{_NAME})?(?:\?{_PAIR}(?:&{_PAIR})*)?"
)


def is_one(text: str) -> bool:
    """Return True if `text` is a URL as libpq writes it, with every ambiguous character percent-encoded."""
    return _URL.fullmatch(text) is not None


class WrongSettingError(ValueError):
    """{name} {trouble}: it must be {rule}."""

    def __init__(self, name: str, trouble: str, rule: str) -> None:
        super().__init__(f"{name} {trouble}: it must be {rule}")


def complete(url: str | None, default: str, environ: Mapping[str, str]) -> str:
    """Return the database's URL with what the `PG*` variables in `environ` add to it. Raises WrongSettingError.

    Where there is no `url`, the variables win over the `default`.
    """
    from db import libpq, parameters  # noqa: PLC0415  (db imports SQLAlchemy, and --help is instant)

    try:
        if url is None:
            return parameters.with_defaults(default, environ)
        return parameters.with_variables(url, environ)
    except libpq.ParameterError as wrong:
        raise WrongSettingError(wrong.source, wrong.trouble, wrong.rule) from None


_ignored: list[str] = []  # lines that are still to be logged or printed


def take_away_ignored(environ: MutableMapping[str, str]) -> None:
    """Remove the variables that libpq would read by itself, and the server's driver would not."""
    from db import parameters  # noqa: PLC0415

    for name, line in parameters.ignored(environ).items():
        del environ[name]
        _ignored.append(line)


def ignored() -> list[str]:
    """Return a line for each variable that was removed; a second call returns no line again."""
    lines = list(_ignored)
    _ignored.clear()
    return lines


def log_ignored() -> None:
    """Log a line for each variable that was removed."""
    from otel import logs  # noqa: PLC0415

    for line in ignored():
        logs.log(logging.getLogger("ticket_inbox.settings"), logging.WARNING, "setting_ignored", error=line)
