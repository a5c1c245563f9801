"""Which arguments may an operator give a job, and what does a wrong one raise?"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import msgspec

Read = TypeVar("Read", bound="Arguments")
UNREADABLE = {"\0": None}  # in place of arguments that are no object; Postgres keeps no JSON with such a name
KEEP = "keep"  # the argument of a job that stays when it has succeeded
RULE = 'give a JSON object, such as {"status": "failed"}'


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a task; `takes` lists them in the error that a wrong one raises.

    `outcome` is what an earlier try of the job wrote; an operator never gives it.
    """

    takes: ClassVar[str]
    outcome: str | None = None


class NoArguments(Arguments, frozen=True, kw_only=True):
    """Those of a task that takes none."""

    takes = "no argument"


class WrongArgumentsError(Exception):
    """A job cannot do what its arguments say; the message is one line for the operator who deferred it."""


def load(text: bytes | str) -> Any:  # noqa: ANN401  (whatever JSON says)
    """Return the JSON `text` of a job's column; never raises, because that would end the worker that fetches the job.

    Postgres keeps numbers and depths of JSON that Python refuses.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_object(given: object) -> bool:
    """Return whether a job's arguments are a JSON object; Procrastinate believes so of any."""
    return isinstance(given, dict)


def refuse_unreadable(given: Mapping[str, object]) -> None:
    """Raise WrongArgumentsError for arguments that no task can be called with."""
    if given == UNREADABLE:
        raise WrongArgumentsError(f"the arguments are no JSON object that can be read: {RULE}")
    if "self" in given:
        raise WrongArgumentsError("there is no argument `self`")  # Procrastinate has one, and could not call the task


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
