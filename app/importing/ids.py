"""Which ticket does the id in a cell mean, and what did Excel make of it?

An id is text, and Excel takes it for a number. Such a number has 15 digits; an id of ServiceDesk Plus in the cloud has
18. Excel shows it as 1.55E+17, and writes zeros for what it lost: three tickets would become one.
"""

import re
from collections.abc import Callable

from app.importing.table import ERROR, MOMENT, NUMBER, SAFE_DIGITS, Cell

CURE = (
    "set the column to text before the ids come into it, or import the file as ServiceDesk Plus gave it, "
    "not saved again by Excel"
)
EXPONENT = f"Excel made the id a number such as 1.55E+17, and its other digits are lost: {CURE}"
TOO_LONG = f"the id is a number of more than {SAFE_DIGITS} digits, of which Excel keeps {SAFE_DIGITS}: {CURE}"
ZEROED = f"the digits of the id past the {SAFE_DIGITS}th are zeros, as Excel leaves them: {CURE}"
ERROR_VALUE = f"Excel made an error such as #NAME? of the {{}}: {CURE.replace('ids come', 'texts come')}"
GROUPED = f"the id is a number in groups of three digits, as Excel writes thousands: {CURE}"
DATE = f"Excel made a date of the id: {CURE}"
FRACTION = "the id is a number with a fraction"
MENDED = "ids had blanks, quotes or .0 around them, and were taken without"
ONE_ZEROED = "ids end in zeros past the 15th digit, as Excel leaves them: compare them with ServiceDesk Plus"

_EXPONENT = re.compile(r"[+-]?\d(?:[.,]\d+)?[eE]\+\d+|[+-]?\d[.,]\d+[eE]\d+")
_ERROR = re.compile(r"#(?:[A-ZÄÖÜ]+[!?]|DIV/0!|N/A|NV|#+)")
_ZEROED = re.compile(rf"\d{{{SAFE_DIGITS}}}0{{3,}}")
_FORMULA = re.compile(r'="([^"]*)"')
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:([.,'\u2019 \u00a0\u202f])\d{3})(?:\1\d{3})*")
_WHOLE = re.compile(r"(\d+)[.,]0{1,2}")  # three zeros would be thousands


class BadIdError(Exception):
    """The cell holds no ticket's id; the message says what happened to it."""


class ZeroedIds:
    """What all ids of a file say of those that end in zeros past the 15th digit.

    Excel was at work where half of the long ids are so, or where two lines share one; a single one may be chance.
    """

    def __init__(self) -> None:
        self._long = self._count = 0
        self._is_shared = False
        self._seen: set[int] = set()  # a million of them take 70 MB

    def see(self, text: str) -> None:
        """Take an id into account."""
        if len(text) <= SAFE_DIGITS or not text.isdecimal():
            return
        self._long += 1
        if _ZEROED.fullmatch(text):
            self._count += 1
            self._is_shared = self._is_shared or int(text) in self._seen
            if not self._is_shared:
                self._seen.add(int(text))

    @property
    def are_bad(self) -> bool:
        """Whether Excel was at work."""
        return self._count > 1 and (self._is_shared or self._count * 2 >= self._long)


def is_error(text: str) -> bool:
    """Return whether a text is what Excel shows for an error, such as #NAME?."""
    return _ERROR.fullmatch(text.strip()) is not None


def damage(text: str) -> str | None:
    """Return what Excel did to an id; None where nothing can be seen."""
    if _EXPONENT.fullmatch(text):
        return EXPONENT
    return ERROR_VALUE.format("id") if is_error(text) else None


def read(cell: Cell, zeroed: ZeroedIds, remark: Callable[[str], None]) -> str:
    """Return the id in a cell, "" where it is empty; `remark` is called with what was made of it. Raises BadIdError."""
    found = plain(cell)
    if found != cell.text and cell.kind not in (NUMBER, MOMENT):
        remark(MENDED)
    if _ZEROED.fullmatch(found):
        if zeroed.are_bad:
            raise BadIdError(ZEROED)
        remark(ONE_ZEROED)
    return found


def plain(cell: Cell) -> str:
    """Return the id in a cell without what stands around it. Raises BadIdError."""
    if cell.kind == ERROR:
        raise BadIdError(ERROR_VALUE.format("id"))
    if cell.kind == MOMENT:
        raise BadIdError(DATE)
    if cell.kind == NUMBER:
        return _of_number(cell.text)
    text = cell.text.strip().strip("\u200b\ufeff")
    if formula := _FORMULA.fullmatch(text):
        text = formula[1].strip()
    text = text.removeprefix("'").strip()
    if (reason := damage(text)) is not None:
        raise BadIdError(reason)
    if _GROUPED.fullmatch(text):
        raise BadIdError(GROUPED)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _of_number(text: str) -> str:
    value = float(text)
    if abs(value) >= 10**SAFE_DIGITS:
        raise BadIdError(TOO_LONG)
    if not value.is_integer():
        raise BadIdError(FRACTION)
    return str(int(value))
