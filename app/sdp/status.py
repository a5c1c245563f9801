"""How did a request go, as ServiceDesk Plus itself says? It says so around each answer, in one of many shapes."""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

Read = TypeVar("Read")
Say = Callable[[str], str]  # makes what others wrote one short line without a secret

# What its codes mean: https://www.manageengine.com/products/service-desk/sdpop-v3-api/getting-started/common-error-code.html
SUCCESS = 2000
FAILED = 4000  # from here on it is an error, also where HTTP says 200
INTERNAL, TOO_MANY = 4004, 4015
FORBIDDEN, INVALID_KEY = 4002, 4022
NOT_FOUND = 4007
CODE_DIGITS = 6
STATUS_BYTES = 64 * 1024  # of the status around an answer; a longer one is not read, since each of its members costs
NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_EMPTY = msgspec.Raw(b"[]")
_THROTTLE = re.compile(rf"(?<![0-9.]){TOO_MANY}(?![0-9.])".encode())
_SHORT_BYTES = 4096  # of a refusal


class Message(msgspec.Struct, frozen=True):
    """One of the reasons that ServiceDesk Plus gives."""

    status_code: Any = None
    message: Any = None


class ResponseStatus(msgspec.Struct, frozen=True):
    """How a request went. A code may come as a text, and what is documented as an array as an object."""

    status_code: Any = None
    message: Any = None
    messages: msgspec.Raw = _EMPTY


class Envelope(msgspec.Struct, frozen=True):
    """The status in every answer: in an array if the answer is a list, else alone."""

    response_status: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY

    def statuses(self) -> list[ResponseStatus]:
        """Return it in any case as a list; empty where it cannot be read."""
        return list(_each(ResponseStatus, self.response_status))

    def is_success(self) -> bool:
        """Return True if ServiceDesk Plus itself says that all went well."""
        codes = [code_of(one.status_code) for one in self.statuses()]
        return SUCCESS in codes and max(codes) < FAILED


class Reason(msgspec.Struct, frozen=True):
    """ServiceDesk Plus' status code, its words if that is an error, and whether it was asked too often."""

    code: int = 0
    words: str = ""
    is_throttle: bool = False


def reason(envelope: Envelope | None, say: Say) -> Reason:
    """Return how a request went, from wherever the answer says so; `say` makes its words fit for a line."""
    statuses = envelope.statuses() if envelope else []
    messages = [one for status in statuses for one in _messages(status.messages)]
    messages += [Message(one.status_code, one.message) for one in statuses if one.message is not None]
    messages += _messages(envelope.messages) if envelope else []
    codes = [code_of(one) for one in (*(one.status_code for one in statuses), *(one.status_code for one in messages))]
    worst = max(codes, default=0)
    if worst < FAILED:
        return Reason(worst)
    if TOO_MANY in codes:
        messages.sort(key=lambda one: code_of(one.status_code) != TOO_MANY)
        return Reason(TOO_MANY, _words(TOO_MANY, messages, say), is_throttle=True)
    first = next((code for one in messages if (code := code_of(one.status_code)) >= FAILED), 0)
    code = first or max((code_of(one.status_code) for one in statuses), default=worst)
    return Reason(code, _words(code, messages, say))


def is_throttle(http_status: int, found: Reason, body: bytes) -> bool:
    """Return whether it was asked too often: the code may also stand where no other answer has its code."""
    is_refusal = http_status in (400, 429) and found.code in (0, FAILED) and len(body) <= _SHORT_BYTES
    return found.is_throttle or (is_refusal and _THROTTLE.search(body) is not None)


def lenient(kind: type[Read], body: bytes | msgspec.Raw) -> Read | None:
    """Return a part of an answer as `kind`; None if it does not have that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_READ:
        return None


def code_of(found: object) -> int:
    """Return a status code, which may come as a text; 0 for what is none."""
    if isinstance(found, str) and found.isascii() and found.strip().isdecimal():
        found = int(found.strip()[:CODE_DIGITS])
    return found if isinstance(found, int) and 0 <= found < 10**CODE_DIGITS else 0


def _words(code: int, messages: list[Message], say: Say) -> str:
    said = next((one.message for one in messages if isinstance(one.message, str) and one.message.strip()), None)
    return f" with {code}" + (f", '{say(said)}'" if said else "")


def _messages(found: msgspec.Raw) -> list[Message]:
    """Return the reasons of a member that is an object, a text, or an array of these."""
    texts = (Message(message=one) for one in _each(str, found))
    return [*_each(Message, found), *texts]


def _each(kind: type[Read], found: msgspec.Raw) -> Iterator[Read]:
    """Yield those of a member's elements that are of a kind; a member that is no array is its only element."""
    if len(found) > STATUS_BYTES:
        return
    one = lenient(kind, found)
    elements = [found] if one is not None else lenient(list[msgspec.Raw], found) or []
    for element in elements:
        read = lenient(kind, element)
        if read is not None:
            yield read
