"""When is the value of an OTEL_* variable right? A rule says it in words and as a function."""

import re
import ssl
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

LARGEST = 2**31 - 1  # milliseconds are 24 days; a queue's length and a thread's wait can hold it
LONGEST = 600  # seconds
LAST_PORT = 65_535
ADDRESS = re.compile(
    r"(?:(?P<scheme>https?)://(?:(?P<user>[^\s/?#@]+)@)?)?"
    r"(?:\[(?P<ipv6>[^\s\[\]]+)\]|[\w.~-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s?#@]*)?(?P<query>\?[^\s#]*)?"
)
HEADER = re.compile(r"(?P<name>[!#-'*+\-.0-9A-Z^-z|~]+)[ \t]*=(?P<value>[ !#-+\--:<-\[\]-~\t]*)")
GRPC_HEADER = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)", re.IGNORECASE)  # gRPC refuses any other name at each export
ATTRIBUTE = re.compile(r"[^\s=\"',]+[ \t]*=(?P<value>.*)", re.DOTALL)
BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class Rule(NamedTuple):
    """What a value must be, as the words after "it must be", and the function that returns True if it is."""

    words: str
    holds: Callable[[str], bool]


def one_of(*known: str) -> Rule:
    """Return the rule of one of these words, in any case."""
    return Rule(f"one of {', '.join(known)}", lambda text: text.lower() in known)


def number_from(least: int) -> Rule:
    """Return the rule of a whole number from `least` on."""
    words = "a whole number above 0" if least else "a whole number from 0"
    return Rule(f"{words}, at most {LARGEST}", lambda text: _is_whole(text) and least <= int(text) <= LARGEST)


def entries(text: str) -> list[str]:
    """Return what stands between the commas of a list; empty entries are ignored."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_ratio(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _is_timeout(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text)) and 0 < float(text) <= LONGEST


def _is_address(text: str, *, bare: bool = True, user: bool = True, query: bool = True) -> bool:
    """Return True if it is a URL of HTTP; or host:port, if `bare`. May it have a user and a password, and a query?"""
    found = ADDRESS.fullmatch(text)
    if not found or not _has_real_host(found["ipv6"], found["port"]):
        return False
    if not found["scheme"]:
        return bare and not found["path"] and not found["query"]
    return (user or not found["user"]) and (query or not found["query"])


def _has_real_host(ipv6: str | None, port: str | None) -> bool:
    try:
        IPv6Address((ipv6 or "::1").replace("%25", "%"))
    except AddressValueError:
        return False
    return 1 <= int(port or 1) <= LAST_PORT


def _are_headers(text: str) -> bool:
    return all((found := HEADER.fullmatch(entry)) and _is_header_value(found["value"]) for entry in entries(text))


def _is_header_value(text: str) -> bool:
    value = unquote_to_bytes(text)
    return value.isascii() and value.decode("ascii").isprintable()


def _are_grpc_headers(text: str) -> bool:
    names = (HEADER.fullmatch(entry) for entry in entries(text))
    return all(found and GRPC_HEADER.fullmatch(found["name"]) for found in names)


def _are_attributes(text: str) -> bool:
    return all((found := ATTRIBUTE.fullmatch(entry)) and _is_attribute(found["value"]) for entry in entries(text))


def _is_attribute(text: str) -> bool:
    try:
        return not BROKEN_ESCAPE.search(text) and unquote_to_bytes(text.encode()).decode().isprintable()
    except UnicodeError:
        return False


def _is_name(text: str) -> bool:
    return text.isprintable() and not text.startswith(('"', "'"))


def _are_detectors(text: str) -> bool:
    from importlib.metadata import entry_points  # noqa: PLC0415  (takes longer than this whole module)

    return set(entries(text)) <= {"*", *entry_points(group="opentelemetry_resource_detector").names}


def _holds_certificates(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return False
    return True


def _holds_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (ValueError for U+0000 comes from either)
            return b"PRIVATE KEY-----" in file.read(1_000_000)
    except (OSError, ValueError):
        return False


def belong_together(certificate: str, key: str | None) -> bool:
    """Return True if the private key in the file `key`, or in that of the certificate, is the certificate's own."""
    try:
        # OpenSSL would ask for a key's passphrase on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError):
        return False
    return True


NUMBER = number_from(1)
MILLISECONDS = NUMBER._replace(words=f"milliseconds: {NUMBER.words}")
RATIO = Rule("a number from 0 to 1", _is_ratio)
SECONDS = Rule(f"a number of seconds above 0, at most {LONGEST}: seconds, not milliseconds", _is_timeout)
SWITCH = one_of("true", "false")
ADDRESS_OF_ANY = Rule("a URL like http://localhost:4318, or host:port with grpc", _is_address)
HTTP_ADDRESS = Rule(
    "a URL like http://localhost:4318, to which /v1/traces and the like are appended",
    lambda text: _is_address(text, bare=False, query=False),
)
HTTP_SIGNAL_ADDRESS = Rule("a URL like http://localhost:4318/v1/traces", lambda text: _is_address(text, bare=False))
GRPC_ADDRESS = Rule(
    "a URL like http://localhost:4317, or host:port for TLS, without a user and a password",
    lambda text: _is_address(text, user=False, query=False),
)
HEADERS = Rule("name=value, or several of these with commas between them", _are_headers)
GRPC_HEADERS = Rule(
    "name=value, or several of these, with names of letters, digits and _ . - that gRPC does not use itself",
    _are_grpc_headers,
)
ATTRIBUTES = Rule(
    "name=value, or several of these with commas between them, with %2C for a comma and %25 for %", _are_attributes
)
NAME = Rule("a name without quotes and line breaks", _is_name)
DETECTORS = Rule("names of installed resource detectors with commas between them", _are_detectors)
CERTIFICATES = Rule("a file that can be read and holds certificates in PEM", _holds_certificates)
KEY = Rule("a file that can be read and holds a private key in PEM", _holds_key)
