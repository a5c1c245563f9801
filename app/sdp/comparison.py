"""Is a ticket of ServiceDesk Plus news, or does ticket_history have it so already, or newer?"""

import msgspec

from app.event import ResolvedTicket
from app.event.html_text import text_of_flat
from app.sdp import epoch
from db.ticket_history import Stored, has_text

SECOND = 1_000  # milliseconds


class Known(msgspec.Struct, frozen=True):
    """What is known at first glance of a ticket that ticket_history has: when it was resolved (ms), and whether how."""

    resolved: int
    has_text: bool


def is_later(found: int | None, stored: int | None) -> bool:
    """Return True if `found` (milliseconds) is later than `stored`, or if nothing is stored.

    If `stored` is in whole seconds, only seconds are compared: a webhook may have cut the fraction of the same time.
    """
    if stored is None or found is None:
        return stored is None
    return found // _unit(stored) > stored // _unit(stored)


def is_news(ticket: ResolvedTicket, stored: Stored | None, *, by_letters: bool = False) -> bool:
    """Return True if promoting `ticket` would change its resolution or its date, by the order of promotion.

    Other members are never updated. Two texts that differ in white space alone are the same; with `by_letters`, those
    that have the same letters and digits: an earlier version may have made the stored one of the same HTML.
    """
    if stored is None:
        return True
    found, known = epoch.milliseconds(ticket.resolved_date), epoch.milliseconds(stored.resolved_date)
    if found // _unit(known) != known // _unit(known):
        return is_later(found, known)
    is_emptier = has_text(stored.resolution) and not has_text(ticket.resolution)
    parts = _letters if by_letters else str.split
    return not is_emptier and parts(ticket.resolution) != parts(stored.resolution)


def _letters(text: str) -> list[str]:
    return [letter for letter in text_of_flat(text) if letter.isalnum()]


def _unit(stored: int) -> int:
    return SECOND if stored % SECOND == 0 else 1
