"""What may be deferred by hand?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

import msgspec

Read = TypeVar("Read", bound="Arguments")


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task takes, and `takes` says so to who got it wrong.

    `outcome` is what an earlier try of the job had to say, and is never given by hand.
    """

    takes: ClassVar[str]
    outcome: str | None = None


class WrongArgumentsError(Exception):
    """A job cannot do what its arguments say; the message is one line for who deferred it."""


def read(kind: type[Read], given: Mapping[str, object]) -> Read:
    """Read a job's arguments. Raises WrongArgumentsError, which names the one that is wrong."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message = str(error).replace("Object contains unknown field", "there is no argument").replace("$.", "")
        raise WrongArgumentsError(f"{message}; it takes {kind.takes}") from None


def moment(name: str, text: str | None) -> datetime | None:
    """Read an ISO 8601 date or time, which is in UTC unless it says otherwise. Raises WrongArgumentsError."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongArgumentsError(
            f"{name} is {text!r}, which is no date or time like 2026-01-31 or 2026-01-31T10:30:00Z"
        ) from None
