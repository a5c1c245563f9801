"""Which arguments may an operator give a job, and what does a wrong one raise?"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

import msgspec

Read = TypeVar("Read", bound="Arguments")


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a task; `takes` lists them in the error that a wrong one raises.

    `outcome` is what an earlier try of the job wrote; an operator never gives it.
    """

    takes: ClassVar[str]
    outcome: str | None = None


class WrongArgumentsError(Exception):
    """A job cannot do what its arguments say; the message is one line for the operator who deferred it."""


def read(kind: type[Read], given: Mapping[str, object]) -> Read:
    """Return a job's arguments as `kind`. Raises WrongArgumentsError, which names the one that is wrong."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message = str(error).replace("Object contains unknown field", "there is no argument").replace("$.", "")
        raise WrongArgumentsError(f"{message}; it takes {kind.takes}") from None


def moment(name: str, text: str | None) -> datetime | None:
    """Return an ISO 8601 date or time in UTC; UTC is assumed where it has no offset. Raises WrongArgumentsError."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongArgumentsError(
            f"{name} is {text!r}, which is no date or time like 2026-01-31 or 2026-01-31T10:30:00Z"
        ) from None
