"""Which environment variables does ticket-inbox read, and what may they hold?

This is the only module that reads the environment, but for OpenTelemetry's own `OTEL_*` names. Each setting has two
names: `HOST` and the like are other programs' names as well, so `TICKET_INBOX_HOST` wins where both are set.

Doors: `described`, `uses`.
"""

import difflib
import logging
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from app import database_url
from app.settings import values
from app.settings.fields import Settings
from otel.escaped import printable

__all__ = [
    "KEY_FILE",
    "Settings",
    "WrongSettingError",
    "as_variables",
    "given",
    "load",
    "load_or_exit",
    "log_remarks",
    "names_database",
    "remarks",
]

PREFIX = "TICKET_INBOX_"
KEY_FILE = "secrets.key"  # in DEV_DIR
PORTS = ("port", "worker_metrics_port")
# The senders' own names, and those of secrets that a command takes: docs/webhooks/senders, app/commands.
NO_SETTINGS = {
    f"{PREFIX}{name}"
    for name in (
        "CA_FILE",
        "CODE_PAGE",
        "SDP_CREDENTIALS",
        "SECRET",
        "SECRET_FILE",
        "SIGNED_TIMESTAMP",
        "SPOOL",
        "STATUSES",
        "TENANT",
        "URL",
    )
}
# What Kubernetes and Docker's links set for a Service that is named ticket-inbox, or begins so.
# Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICES = re.compile(rf"{PREFIX}(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")
OF_A_SERVICE = (
    "is an address like tcp://10.0.0.1:80, which Kubernetes sets for a Service: it counts as unset; set it to a port, "
    "or `enableServiceLinks: false` in the pod"
)
WrongSettingError = database_url.WrongSettingError
_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_logger = logging.getLogger("ticket_inbox.settings")


def load(environ: Mapping[str, str] = os.environ, names: Collection[str] = tuple(_FIELDS)) -> Settings:
    """Return the settings in `environ` with these field `names`; the other fields are unset.

    Raises WrongSettingError, whose one line names the variable that is set wrong, and what would be right.
    """
    found: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        variable, text = next(given(name, environ), ("", ""))
        if name not in names or not variable:
            continue
        try:
            found[name] = values.read(field, text)
        except ValueError:
            raise WrongSettingError(variable, values.trouble(name, text), _rule(name)) from None
    if "database_url" in names:
        found["database_url"] = database_url.complete(found.get("database_url"), Settings().database_url, environ)
    settings = Settings(**found)
    for name in _FIELDS.keys() - names:
        getattr(Settings, name).__delete__(settings)  # frozen forbids `del settings.…`
    return settings


def load_or_exit(names: Collection[str], *, may_lack_key: bool = False) -> Settings:
    """Return the settings that this process uses (see `uses`), or end it with one line that says what is wrong.

    With the database among them, variables that libpq alone would read are removed from the environment. If SECRETS_KEY
    is among them it must be set, unless the process `may_lack_key`.
    """
    try:
        settings = load(names=names)
        if "database_url" in names:
            database_url.take_away_ignored(os.environ)
    except WrongSettingError as wrong:
        raise SystemExit(printable(f"ticket-inbox: {wrong}")) from None
    if "secrets_key" in names and not settings.secrets_key and not may_lack_key:
        raise SystemExit(printable(f"ticket-inbox: {_missing_key(os.environ)}"))
    return settings


def _missing_key(environ: Mapping[str, str]) -> str:
    """Return in one line where the key is; how to make one only where `dev` has made none, which a second would hide.

    A wrong DEV_DIR is `dev`'s to name.
    """
    directory = next((text for _, text in given("dev_dir", environ)), Settings().dev_dir)
    kept = os.path.join(directory, KEY_FILE)  # noqa: PTH118  (pathlib would slow down --help)
    if not os.path.isfile(kept):  # noqa: PTH113
        return str(WrongSettingError("SECRETS_KEY", "is not set", _rule("secrets_key")))
    return (
        f"SECRETS_KEY is not set: the key of `ticket-inbox dev` is in {kept}, so for its database "
        f'`export SECRETS_KEY="$(cat {shlex.quote(kept)})"`'
    )


def names_database(environ: Mapping[str, str] = os.environ) -> bool:
    """Return True if DATABASE_URL is set; if not, `dev` brings its own database."""
    return any(given("database_url", environ))


def as_variables(**settings: object) -> dict[str, str]:
    """Return settings as the environment variables that win, for a process that inherits this one's environment."""
    return {variables(name)[0]: str(value) for name, value in settings.items()}


def remarks(names: Collection[str] = (), environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for each variable that does not count: those of a Service among `names`, and misspelled ones."""
    return [*_of_services(names, environ), *_unknown(environ)]


def log_remarks(names: Collection[str]) -> None:
    """Log the remarks of a process that uses the settings `names`, once its log is configured."""
    from otel import logs  # noqa: PLC0415  (asyncio, which it imports, would slow down --help)

    for remark in remarks(names):
        logs.log(_logger, logging.WARNING, "setting_ignored", error=remark)


def variables(name: str) -> tuple[str, str]:
    """Return the two environment variables of a setting; the first wins."""
    return f"{PREFIX}{name.upper()}", name.upper()


def given(name: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that sets a setting, and its text, the one that counts first; nothing but blanks is unset."""
    for variable in variables(name):
        text = environ.get(variable, "")
        if values.bare(text) and not (name in PORTS and values.is_of_a_service(text)):
            yield variable, text


def _of_services(names: Collection[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each address of a Service that stands where a port is looked for, before one that counts."""
    for name in (name for name in PORTS if name in names):
        for variable in variables(name):
            text = environ.get(variable, "")
            if values.is_of_a_service(text):
                yield f"{variable} {OF_A_SERVICE}"
            elif values.bare(text):
                break


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    names = [name.upper() for name in _FIELDS]
    for variable in sorted(environ.keys() - {PREFIX + name for name in names} - NO_SETTINGS):
        text = environ[variable]
        is_ours = variable.startswith(PREFIX) and text and not _SERVICES.fullmatch(variable)
        if is_ours and not (variable.endswith("_PORT") and values.is_of_a_service(text)):
            near = difflib.get_close_matches(variable.removeprefix(PREFIX), names, 1, 0.7)
            cure = f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists them"
            yield f"{variable} is no setting: {cure}"


def _rule(name: str) -> str:
    return str(_FIELDS[name].type.__metadata__[0].extra["rule"])
