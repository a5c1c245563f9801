"""Which value has each setting now, and where does it come from? Secrets are never part of the answer."""

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from app import settings
from app.settings.fields import Settings

HIDDEN = "***"
_PASSWORD = re.compile(r"(?<=://)([^:/?#@]*):[^/?#@]*@")
_IN_QUERY = re.compile(r"([?&](?:password|sslpassword)=)[^&]*")


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A setting by its short name; `source` is `default`, or the variables that its value comes from.

    `value` is None where there is none, where it is wrong (`error` says what it must be), and where it `is_hidden` as a
    whole; of an address the password alone is hidden.
    """

    name: str
    value: str | int | float | None
    source: str = msgspec.field(name="from")
    is_hidden: bool = False
    error: str | None = None


def describe(environ: Mapping[str, str] = os.environ) -> list[Described]:
    """Return every setting as a process with this environment would read it, in the order of docs/settings.md."""
    return [_describe(name, environ) for name in Settings.__struct_fields__]


def _describe(name: str, environ: Mapping[str, str]) -> Described:
    source = " and ".join(_sources(name, environ)) or "default"
    try:
        value = getattr(settings.load(environ, [name]), name)
    except settings.WrongSettingError as wrong:
        return Described(name=name.upper(), value=None, source=source, error=str(wrong))
    if name == "secrets_key":
        return Described(name=name.upper(), value=None, source=source, is_hidden=bool(value))
    return Described(name=name.upper(), value=_shown(name, value) if value != "" else None, source=source)


def _sources(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    variable, text = next(settings.given(name, environ), (None, ""))
    if variable:
        yield variable
    if name == "database_url":
        yield from _added(text, environ)


def _added(url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the `PG*` variables that say of the database what DATABASE_URL does not."""
    from db import libpq, parameters  # noqa: PLC0415  (db imports SQLAlchemy, and --help is instant)

    of_url = parameters.of_url(url)
    for one in libpq.PARAMETERS:
        if environ.get(one.variable) and one.variable not in libpq.IGNORED and one.name not in of_url:
            yield one.variable


def _shown(name: str, value: str | float) -> str | int | float:
    if name == "database_url":
        return _IN_QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}@", str(value)))
    if name == "jaeger_url":
        parts = urlsplit(str(value))
        login, at, host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login and HIDDEN}{at}{host}"))
    return value
