"""On which terms is a file imported: for which tenant, within which limits, with which options?"""

from collections.abc import Callable, Mapping, Sequence
from zoneinfo import ZoneInfo

import msgspec

from app.event.rules import Rules


class Wanted(msgspec.Struct, frozen=True):
    """What the options say of a report: members by column, formats of dates, and the zone of those without one."""

    mapped: Mapping[str, str] = {}
    date_formats: Sequence[str] = ()
    zone: ZoneInfo | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is any such option."""
        return bool(self.mapped or self.date_formats or self.zone)


class Terms(msgspec.Struct, frozen=True):
    """A file's tenant and options, and the limits of a ticket; a line may have `limit` bytes.

    `remark` is called with each thing that has to be said of a good line; they are counted.
    """

    tenant_id: str
    limit: int
    rules: Rules
    wanted: Wanted
    remark: Callable[[str], None]
