"""Where does OTLP send a signal, and how? OTEL_EXPORTER_OTLP_* say it; a signal's own variable wins, empty is unset."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from opentelemetry.util.re import parse_env_headers

from otel import variables

DEFAULT = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
TIMEOUT_SECONDS = "10"
FILES = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
COMPRESSIONS = ("none", "gzip", "deflate")
SHORTEST_SECRET = 6  # characters: a shorter value of a header is a word, which an error may well contain
USER = re.compile(r"//\S+@")  # and a password, of a proxy's URL that a library shows whole
MESSAGE_CHARS = 200  # of a receiver's words that we repeat


class Target(msgspec.Struct, frozen=True):
    """One signal's receiver. Paths are of PEM files, or empty; `timeout` is in seconds."""

    protocol: str
    url: str
    headers: dict[str, str]
    timeout: float
    compression: str  # none, gzip or deflate
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""
    is_insecure: bool = False  # for gRPC, where the address has no scheme

    @property
    def address(self) -> str:
        """The address without user, password, query and fragment."""
        return without_credentials(self.url)

    def one_line(self, text: str) -> str:
        """Return what a library or the receiver wrote as one short, printable line without this target's secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "…")
        text = USER.sub("//…@", text)
        line = " ".join(text[: 10 * MESSAGE_CHARS].split())
        return "".join(one if one.isprintable() else "?" for one in line)[:MESSAGE_CHARS]

    def _secrets(self) -> set[str]:
        words = {word for value in self.headers.values() for word in (value, *value.split())}
        user = urlsplit(self.url).netloc.rpartition("@")[0] if "//" in self.url else ""
        return {word for word in {*words, user, user.partition(":")[2]} if len(word) >= SHORTEST_SECRET}


def target(signal: str, environ: Mapping[str, str]) -> Target:
    """Return where `signal` (TRACES, METRICS or LOGS) goes. Raises ValueError if a setting is wrong."""

    def value(name: str) -> str:
        own = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}", "").strip()
        return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()

    if (compression := value("COMPRESSION").lower() or "none") not in COMPRESSIONS:
        raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION must be one of {', '.join(COMPRESSIONS)}")
    protocol = variables.protocol(signal, environ)
    certificate, client_certificate, client_key = (_readable(name, value(name)) for name in FILES)
    return Target(
        protocol,
        _url(signal, protocol, environ),
        dict(parse_env_headers(value("HEADERS"), liberal=True)),
        float(value("TIMEOUT") or TIMEOUT_SECONDS),
        compression,
        certificate,
        client_certificate,
        client_key,
        value("INSECURE").lower() == "true",
    )


def _readable(name: str, path: str) -> str:
    try:
        if path:
            Path(path).open("rb").close()
    except OSError as error:
        raise ValueError(f"OTEL_EXPORTER_OTLP_{name} must name a file that can be read: {error.strerror}") from None
    return path


def _url(signal: str, protocol: str, environ: Mapping[str, str]) -> str:
    """Return a signal's own address as it is; the one for all signals gets a path for HTTP."""
    if own := environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip():
        return own
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or DEFAULT[protocol]
    return base if protocol == "grpc" else f"{base.removesuffix('/')}/v1/{signal.lower()}"


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment; one that cannot be read is `?`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
