"""What did one check of `ticket-inbox doctor` find? Something that is well, has to be mended, or is worth knowing."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: `wrong` has to be mended, a `note` is worth knowing."""

    kind: Literal["ok", "wrong", "note"]
    text: str


def ok(text: str) -> Finding:
    """Return a finding that something is as it must be."""
    return Finding("ok", text)


def wrong(text: str) -> Finding:
    """Return a finding that something has to be mended; `text` says how."""
    return Finding("wrong", text)


def note(text: str) -> Finding:
    """Return a finding that may be intended, but is worth knowing."""
    return Finding("note", text)
