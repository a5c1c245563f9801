"""What may be deferred by hand?"""

from collections.abc import Mapping
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
