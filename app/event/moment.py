"""How does ServiceDesk Plus write a time? Milliseconds since 1970, in several ways: one reader for webhook and API."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Moment(msgspec.Struct, frozen=True):
    """A time: milliseconds since 1970, as a string or a number; where there is none, an empty string, null or zero.

    What is displayed has no zone and the user's format, and is never read.
    """

    value: (
        Annotated[str, Meta(pattern=r"^\s*[0-9]{0,15}\s*$")]
        | Annotated[int, Meta(ge=0)]
        | Annotated[float, Meta(ge=0)]
        | None
    )


def milliseconds(*moments: Moment | None) -> int | None:
    """Return the milliseconds since 1970 of the first of `moments` that says a time; None if none does."""
    return next((found for found in map(_milliseconds, moments) if found is not None), None)


def _milliseconds(moment: Moment | None) -> int | None:
    value = moment.value if moment else None
    if isinstance(value, str):
        value = value.strip() or None
    return int(value) or None if value is not None else None
