"""Where does OTLP send a signal, and how? OTEL_EXPORTER_OTLP_* say it; a signal's own variable wins, empty is unset."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from opentelemetry.util.re import parse_env_headers

from otel import redaction, variables

TIMEOUT_SECONDS = "10"
SHORTEST_SECRET = 6  # characters: a shorter value of a header is a word, which an error may well contain
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
        return redaction.one_line(text, self._secrets(), MESSAGE_CHARS)

    def _secrets(self) -> set[str]:
        words = {word for value in self.headers.values() for word in (value, *value.split())}
        user = urlsplit(self.url).netloc.rpartition("@")[0] if "//" in self.url else ""
        return {word for word in {*words, user, user.partition(":")[2]} if len(word) >= SHORTEST_SECRET}


def target(signal: str, environ: Mapping[str, str]) -> Target:
    """Return where `signal` (TRACES, METRICS, LOGS) goes, by an environment that `otel/variables.py` has settled."""

    def value(option: str, default: str = "") -> str:
        return variables.source(signal, option, environ)[1] or default

    protocol = variables.protocol(signal, environ)
    return Target(
        protocol,
        _url(signal, protocol, environ),
        dict(parse_env_headers(value("HEADERS"), liberal=True)),
        float(value("TIMEOUT", TIMEOUT_SECONDS)),
        value("COMPRESSION", "none").lower(),
        value("CERTIFICATE"),
        value("CLIENT_CERTIFICATE"),
        value("CLIENT_KEY"),
        value("INSECURE").lower() == "true",
    )


def _url(signal: str, protocol: str, environ: Mapping[str, str]) -> str:
    """Return a signal's own address as it is; the one for all signals gets a path for HTTP."""
    name, url = variables.source(signal, "ENDPOINT", environ)
    is_whole = protocol == variables.GRPC or name != f"{variables.OTLP}ENDPOINT"
    return url if is_whole else f"{url.removesuffix('/')}/v1/{signal.lower()}"


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment; one that cannot be read is `?`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
