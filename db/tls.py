"""How does asyncpg encrypt a session, and whom does it trust? As libpq does, from the same parameters.

asyncpg has its own reading of `sslmode`, but then also reads variables and files in the user's home. A context made
here leaves nothing to it.
"""

import os
import ssl
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from db.parameters import VERIFIES, WEAK

FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")
VERSIONS = ("ssl_min_protocol_version", "ssl_max_protocol_version")
NAMES = (*FILES, *VERSIONS, "sslmode", "sslpassword", "sslcertmode", "sslsni")


class CertificateError(OSError):
    """A certificate, a key or a list of revoked ones cannot be used; the message names the file."""


class NamedContext(ssl.SSLContext):
    """A context that knows the host's name: asyncpg names the address that it connects to, which may be `hostaddr`."""

    host: str | None = None  # None sends no name

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **how: Any) -> ssl.SSLObject:  # noqa: ANN401
        """Begin TLS with the host's own name."""
        how["server_hostname"] = self.host
        return super().wrap_bio(incoming, outgoing, *args[:1], **how)


def attempts(parameters: Mapping[str, str], host: str) -> list[ssl.SSLContext | bool]:
    """Return what to try in turn: a context, or False for a session without TLS.

    Raises CertificateError where a file cannot be used.
    """
    mode = parameters["sslmode"]
    if host.startswith("/") or mode == "disable":
        return [False]
    context = _context(host, *_key(parameters))
    if mode == "allow":
        return [False, context]
    return [context, False] if mode == "prefer" else [context]


def is_worth_another(error: BaseException) -> bool:
    """Return True if a session without TLS may be accepted where one with TLS was refused, or the other way round."""
    if getattr(error, "sqlstate", "") == "28000":  # pg_hba.conf may let in the one and not the other
        return True
    return isinstance(error, ssl.SSLError) or type(error) in (ConnectionError, ConnectionResetError)


def _key(parameters: Mapping[str, str]) -> list[tuple[str, str, object]]:
    """Return what a context depends on: a certificate that was renewed is read again."""
    given = [(name, parameters[name]) for name in NAMES if parameters.get(name)]
    return [(name, value, _changed(value) if name in FILES else None) for name, value in given]


def _changed(path: str) -> object:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=32)
def _context(host: str, *key: tuple[str, str, object]) -> ssl.SSLContext:
    given = {name: value for name, value, _ in key}
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = given["sslmode"] == "verify-full"
    context.host = host if given["sslsni"] == "1" else None
    context.set_alpn_protocols(["postgresql"])
    context.minimum_version = _version(given["ssl_min_protocol_version"])
    if "ssl_max_protocol_version" in given:
        context.maximum_version = _version(given["ssl_max_protocol_version"])
    _trust(context, given)
    _revoke(context, given)
    _identify(context, given)
    return context


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]


def _trust(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    """Trust the certificates of `sslrootcert`; where it exists, sslmode=require verifies too, as in libpq."""
    path, mode = given.get("sslrootcert"), given["sslmode"]
    if path and mode not in WEAK:
        _load(lambda: context.load_verify_locations(cafile=path), "sslrootcert", path)
        context.verify_mode = ssl.CERT_REQUIRED
    elif mode in VERIFIES:
        raise CertificateError(f"sslmode={mode} needs sslrootcert, or a file ~/.postgresql/root.crt that can be read")
    else:
        context.verify_mode = ssl.CERT_NONE


def _revoke(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    for name, argument in (("sslcrl", "cafile"), ("sslcrldir", "capath")):
        if path := given.get(name):
            _load(lambda argument=argument, path=path: context.load_verify_locations(**{argument: path}), name, path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _identify(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    """Show our own certificate to a Postgres that asks for one."""
    path, key = given.get("sslcert"), given.get("sslkey")
    if not path or given["sslcertmode"] == "disable":
        return
    if not key:
        raise CertificateError(f"there is a certificate {path}, but no key: set sslkey")
    _refuse_open_key(key)
    password = given.get("sslpassword", "")
    _load(lambda: context.load_cert_chain(path, key, password=lambda: password), "sslcert", path)


def _refuse_open_key(path: str) -> None:
    """Refuse a key that other users may read, as libpq does; root's own key may be read by its group."""
    try:
        found = Path(path).stat()
    except OSError:
        return  # what reads it names it
    if os.name != "posix":
        return
    closed = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO if found.st_uid == 0 else stat.S_IRWXG | stat.S_IRWXO
    if stat.S_IMODE(found.st_mode) & closed:
        raise CertificateError(f"the key {path} may be read by other users: `chmod 600 {path}`")


def _load(load: Any, name: str, path: str) -> None:  # noqa: ANN401
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or getattr(error, "reason", None) or error
        raise CertificateError(f"{name}={path} cannot be used ({reason})") from error
