"""Where is Postgres, and how does a session with it begin? One set of parameters for both drivers.

It comes from DATABASE_URL, then from the `PG*` variables, then from the files in the user's home, then from defaults.
The drivers get every value from here: each of them reads other variables and other files by itself.
"""

import getpass
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

from db import libpq
from db.libpq import ParameterError

SOCKETS = ("/var/run/postgresql", "/run/postgresql", "/tmp")  # noqa: S108  (where systems and builds of Postgres put them)
HOME_FILES = {
    "sslrootcert": ".postgresql/root.crt",
    "sslcrl": ".postgresql/root.crl",
    "sslcert": ".postgresql/postgresql.crt",
    "sslkey": ".postgresql/postgresql.key",
}
# Where Linux systems, BSD and macOS keep the certificates they trust: one file with all of them.
TRUST_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
DEFAULTS = {
    # A host that drops packets must not hold a request for the kernel's two minutes.
    "connect_timeout": "5",
    # A session ends within 15 seconds when its host silently disappears.
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "5",
    "tcp_user_timeout": "15000",
    "sslmode": "prefer",
    "sslnegotiation": "postgres",
    "sslsni": "1",
    "sslcertmode": "allow",
    "ssl_min_protocol_version": "TLSv1.2",
    "channel_binding": "prefer",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
}
VERIFIES = ("verify-ca", "verify-full")
WEAK = ("disable", "allow", "prefer")


def of_url(url: str) -> dict[str, str]:
    """Return what `url` itself says, as libpq reads it: the query wins, and `ssl=true` means sslmode=require."""
    address, _, query = url.partition("://")[2].partition("?")
    place, _, dbname = address.partition("/")
    login, at, hosts = place.rpartition("@")
    user, _, password = login.partition(":") if at else ("", "", "")
    pairs = [_host_and_port(one) for one in hosts.split(",")]
    found = {"user": user, "password": password, "dbname": dbname, "host": ",".join(host for host, _ in pairs)}
    found["port"] = ",".join(port for _, port in pairs)
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        found |= {"sslmode": "require"} if pair == "ssl=true" else {name: value}
    return {name: unquote(value) for name, value in found.items() if value.strip(",")}


def with_variables(url: str, environ: Mapping[str, str]) -> str:
    """Return `url` with what the `PG*` variables add to it. Raises ParameterError for what may not be given."""
    given = of_url(url)
    for name, value in given.items():
        libpq.check(name, value)
    added = {}
    for one in libpq.PARAMETERS:
        value = environ.get(one.variable, "")
        if value and one.variable not in libpq.IGNORED and one.name not in given:
            libpq.check(one.name, value, one.variable)
            added[one.name] = value
    merged = f"{url}{'&' if '?' in url else '?'}{urlencode(added, quote_via=quote)}" if added else url
    refuse_contradictions(of_url(merged))
    complete(merged)
    return merged


def with_defaults(url: str, environ: Mapping[str, str]) -> str:
    """Return what stands for DATABASE_URL where it is not set: the `PG*` variables, then our own default `url`."""
    given = of_url(url)
    kept = {name: value for name, value in given.items() if not environ.get(libpq.KNOWN[name].variable)}
    if kept == given:
        return with_variables(url, environ)
    return with_variables("postgresql://?" + urlencode(kept, quote_via=quote), environ)


def ignored(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the `PG*` variables that are set and have no effect, each with the line that says so."""
    return {name: f"{name} is ignored: {why}" for name, why in libpq.IGNORED.items() if environ.get(name)}


def refuse_contradictions(given: dict[str, str]) -> None:
    """Refuse what libpq and its server would refuse at each connection. Raises ParameterError."""
    mode = given.get("sslmode", "verify-full" if given.get("sslrootcert") == "system" else "prefer")
    if given.get("sslrootcert") == "system" and mode != "verify-full":
        raise ParameterError(
            "DATABASE_URL", "has sslrootcert=system with another sslmode", "a URL with sslmode=verify-full"
        )
    if given.get("sslnegotiation") == "direct" and mode in WEAK:
        rule = "a URL with sslmode=require, verify-ca or verify-full"
        raise ParameterError("DATABASE_URL", "has sslnegotiation=direct without TLS for sure", rule)
    if given.get("sslsni") == "0" and mode == "verify-full":
        raise ParameterError("DATABASE_URL", "has sslsni=0 with sslmode=verify-full", "a URL without sslsni=0")
    if "hostaddr" in given and "host" not in given and mode == "verify-full":
        raise ParameterError("DATABASE_URL", "has hostaddr without the host's name", "a URL with both, for verify-full")
    for several in ("hostaddr", "port"):
        count, hosts = (len(given.get(name, "").split(",")) for name in (several, "host"))
        if several in given and count != hosts and ((several == "hostaddr" and "host" in given) or count > 1):
            raise ParameterError(
                "DATABASE_URL", f"has another number of hosts than {several}s", "a URL with one for each host"
            )
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"):
        if name in given and not (name == "sslrootcert" and given[name] == "system"):
            refuse_unreadable(given[name], name)


def refuse_unreadable(path: str, name: str) -> None:
    """Refuse a file of certificates that this process cannot read. Raises ParameterError, which names it."""
    try:
        any(Path(path).iterdir()) if name == "sslcrldir" else Path(path).open("rb").close()
    except OSError as error:
        raise ParameterError(
            "DATABASE_URL",
            f"names {name}={path}, which cannot be read ({error.strerror})",
            "a URL that names one that can",
        ) from None


def complete(url: str) -> dict[str, str]:
    """Return all parameters of a session: those of `url`, then the user's files and the defaults.

    Raises ParameterError where the system has no name for the user, or no trust store.
    """
    given = of_url(url)
    found = DEFAULTS | {name: path for name, path in _files_at_home().items() if os.access(path, os.R_OK)} | given
    if given.get("sslrootcert") == "system":
        found |= {"sslrootcert": trust_store(), "sslmode": "verify-full"}
    found = {"user": given.get("user") or _system_user(), "port": "5432"} | found
    found.setdefault("dbname", found["user"])
    if any("," in found.get(name, "") for name in ("host", "hostaddr")) and "target_session_attrs" not in given:
        found["target_session_attrs"] = "read-write"  # one of them may be a standby, and every process writes
    if "host" not in found and "hostaddr" not in found:
        found["host"] = _default_host(found["port"])
    return found


def trust_store() -> str:
    """Return the file with the certificates that this system trusts. Raises ParameterError if there is none."""
    for path in (ssl.get_default_verify_paths().cafile, *TRUST_STORES):
        if path and os.access(path, os.R_OK):
            return path
    raise ParameterError(
        "DATABASE_URL", "has sslrootcert=system, and this system has no trust store",
        "the path of a file, or the package ca-certificates has to be installed",
    )  # fmt: skip


def home() -> Path | None:
    """Return the user's home as libpq finds it; None if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = text.partition(":")
    return host, port


def _files_at_home() -> dict[str, str]:
    directory = home()
    return {name: str(directory / path) for name, path in HOME_FILES.items()} if directory else {}


def _system_user() -> str:
    try:
        import pwd  # noqa: PLC0415  (Windows has none)

        return pwd.getpwuid(os.geteuid()).pw_name
    except ImportError:
        return getpass.getuser()
    except KeyError:
        trouble = "names no user, and this system has no name for the one that we run as"
        raise ParameterError("DATABASE_URL", trouble, "a URL with a user") from None


def _default_host(port: str) -> str:
    """Return the directory of a local Postgres' socket; without one, localhost."""
    return next((one for one in SOCKETS if Path(one, f".s.PGSQL.{port}").exists()), "localhost")
