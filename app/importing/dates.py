"""When was a ticket of a report resolved? A report's dates have the form and the zone of somebody's settings.

A form is guessed only where all dates of the file have one reading: 05-07-2023 is in July or in May.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.event import flat
from app.importing.table import MOMENT, Cell

LONGEST = 60  # characters
MOST_SHAPES = 1000  # of texts, that are remembered
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_NUMERIC = ["%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d", "%d{0}%m{0}%y", "%m{0}%d{0}%y", "%y{0}%m{0}%d"]
_NAMED = [
    f"{day}{month}{year}"
    for month in ("%b", "%B")
    for day, year in (("%d ", " %Y"), ("%d-", "-%Y"), ("%d/", "/%Y"), ("%d. ", " %Y"), ("%d-", "-%y"), ("%d ", ", %Y"))
] + ["%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"]
_CLOCKS = ["%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p"]
FORMATS = [
    day + clock
    for day in [*(form.format(sign) for form in _NUMERIC for sign in "-/."), *_NAMED]
    for clock in [*map("".join, itertools.product((" ", ", ", "T"), _CLOCKS)), ""]
]
_PATTERNS = {
    "%d": r"0{1,2}", "%m": r"0{1,2}", "%H": r"0{1,2}", "%I": r"0{1,2}", "%M": r"0{1,2}", "%S": r"0{1,2}",
    "%Y": "0000", "%y": "00", "%f": r"0{1,6}", "%b": "aaa", "%B": "a{3,9}", "%p": "aa",
}  # fmt: skip
_SEPT = re.compile(r"\bSept\b", re.IGNORECASE)
_PLAIN = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")


def plain(text: str) -> str:
    """Return the text of a date with one blank wherever it has white space of any kind, and Sep for Sept.

    Java from its release 20 on writes U+202F before AM and PM (https://bugs.openjdk.org/browse/JDK-8304925), and from
    16 on Sept in British English (https://bugs.openjdk.org/browse/JDK-8256837); strptime knows Sep and September alone.
    """
    text = text if _PLAIN.fullmatch(text) else " ".join(text.split())
    return _SEPT.sub("Sep", text)


class Dates:
    """Reads dates by `formats`, one after the other; those without a zone are of `zone`."""

    def __init__(self, formats: Sequence[str], zone: ZoneInfo | None) -> None:
        self._formats, self._zone = formats, zone

    def read(self, cell: Cell) -> datetime:
        """Return the instant in UTC. Raises ValueError where no format fits, OverflowError past the years 1 to 9999."""
        if has_zone(cell):
            return flat.utc(cell.text.strip().upper())
        found = datetime.fromisoformat(cell.text) if cell.kind == MOMENT else self._parsed(plain(cell.text))
        if found.tzinfo is None:
            found = found.replace(tzinfo=self._zone or UTC)  # without --time-zone no file comes this far
        return found.astimezone(UTC)

    def _parsed(self, text: str) -> datetime:
        for form in self._formats:
            if (found := _strptime(text, form)) is not None:
                return found
        raise ValueError(text)


def has_zone(cell: Cell) -> bool:
    """Return whether a cell says when in RFC 3339's form, with its offset."""
    return _RFC_3339.fullmatch(cell.text.strip()) is not None


def is_format(form: str) -> bool:
    """Return whether strptime reads a day, a month and a year by `form`."""
    day = datetime(2024, 12, 31, 11, 45, tzinfo=UTC)
    try:
        return datetime.strptime(day.strftime(form), form).date() == day.date()  # noqa: DTZ007  (only its day is read)
    except ValueError:
        return False


def _strptime(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007  (the zone is the file's)
    except ValueError:
        return None


def _day(text: str, form: str) -> str:
    """Return in words which day a date is by `form`, which reads it."""
    day = datetime.strptime(text, form)  # noqa: DTZ007  (only its day is read)
    return f"{day.day} {day:%B %Y}"


class Guess:
    """Which formats read every date of a file that any format reads, and do they agree?"""

    def __init__(self) -> None:
        self._alive: dict[str, int] | None = None  # each format with a digest of what it read so far
        self._first = ""
        self._disputed: dict[tuple[str, str], str] = {}
        self._by_shape: dict[str, list[str]] = {}

    def see(self, text: str) -> None:
        """Take a date into account; a text that no format reads says nothing."""
        readings = {form: found for form in self._formats_for(text) if (found := _strptime(text, form)) is not None}
        if not readings or self._alive == {}:
            return
        before = self._alive if self._alive is not None else dict.fromkeys(readings, 0)
        self._alive = {form: hash((seen, readings[form])) for form, seen in before.items() if form in readings}
        self._first = self._first or text
        if not self._alive:
            self._disputed = {("", ""): text}
        for one, other in itertools.combinations(self._alive, 2):
            if readings[one] != readings[other]:
                self._disputed.setdefault((one, other), text)

    @property
    def formats(self) -> list[str]:
        """The format that all dates have; none where there are no dates, or more than one reading."""
        return [] if not self._alive or len(set(self._alive.values())) > 1 else [next(iter(self._alive))]

    @property
    def question(self) -> str | None:
        """What has to be asked for, in words with two examples; None where all dates agree."""
        if self._alive is None or self.formats:
            return None
        if not self._alive:
            forms = [self._reading(text) for text in (self._first, self._disputed["", ""])]
            return (
                f"the dates have more than one form, such as {self._first} and {self._disputed['', '']}: "
                f"give --date-format for each, such as '{forms[0]}' and '{forms[1]}'"
            )
        one, other = next(pair for pair in self._disputed if set(pair) <= self._alive.keys())
        text = self._disputed[one, other]
        days = [f"{_day(text, form)} by '{form}'" for form in (one, other)]
        return f"{text} is {days[0]} or {days[1]}: give the one that is right as --date-format"

    def _reading(self, text: str) -> str:
        """Return the first format that reads a text."""
        return next(form for form in self._formats_for(text) if _strptime(text, form) is not None)

    def _formats_for(self, text: str) -> list[str]:
        """Return the formats whose shape the text has: digits, letters and signs where they belong."""
        if len(text) > LONGEST:
            return []
        shape = re.sub(r"[A-Za-z]", "a", re.sub(r"\d", "0", text))
        if shape not in self._by_shape and len(self._by_shape) < MOST_SHAPES:
            self._by_shape[shape] = [form for form, pattern in _shapes() if pattern.fullmatch(shape)]
        return self._by_shape.get(shape, [])


def _shapes() -> Iterator[tuple[str, re.Pattern[str]]]:
    for form in FORMATS:
        parts: Iterable[str] = re.split(r"(%\w)", form)
        yield form, re.compile("".join(_PATTERNS.get(part) or re.escape(part) for part in parts))
